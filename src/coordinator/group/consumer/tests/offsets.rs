use super::*;
use crate::protocol::messages::offset_commit_request::{
    OffsetCommitRequestPartition, OffsetCommitRequestTopic,
};
use crate::protocol::messages::offset_delete_request::{
    OffsetDeleteRequestPartition, OffsetDeleteRequestTopic,
};
use crate::protocol::messages::offset_fetch_request::OffsetFetchRequestGroup;
use crate::protocol::messages::{OffsetCommitRequest, OffsetDeleteRequest};

impl Broker {
    /// The errors of the partitions of `a`.
    fn commit(&mut self, version: i16, member: &str, epoch: i32, partitions: &[i32]) -> Vec<ErrorCode> {
        let partition = |index: &i32| {
            OffsetCommitRequestPartition::default().with_partition_index(*index).with_committed_offset(7)
        };
        let topic = OffsetCommitRequestTopic::default()
            .with_name(TopicName(text("a")))
            .with_partitions(partitions.iter().map(partition).collect());
        let request = OffsetCommitRequest::default()
            .with_group_id(GroupId(text(GROUP)))
            .with_member_id(text(member))
            .with_generation_id_or_member_epoch(epoch)
            .with_topics(vec![topic]);
        let ticket = self.send(version, Body::Commit(Box::new(request)));
        let Reply::Commit(response) = self.reply(ticket) else { panic!() };
        let errors = response.topics[0].partitions.iter().map(|partition| error_of(partition.error_code));
        errors.collect()
    }

    fn fetch(&mut self, member: Option<&str>, epoch: i32) -> ErrorCode {
        let group = OffsetFetchRequestGroup::default()
            .with_group_id(GroupId(text(GROUP)))
            .with_member_id(member.map(text))
            .with_member_epoch(epoch)
            .with_topics(None);
        let ticket = self.send(9, Body::FetchOffsets { group, require_stable: true });
        let Reply::FetchOffsets(response) = self.reply(ticket) else { panic!() };
        error_of(response.error_code)
    }

    fn delete_offset(&mut self) -> ErrorCode {
        let topic = OffsetDeleteRequestTopic::default()
            .with_name(TopicName(text("a")))
            .with_partitions(vec![OffsetDeleteRequestPartition::default()]);
        let request =
            OffsetDeleteRequest::default().with_group_id(GroupId(text(GROUP))).with_topics(vec![topic]);
        let ticket = self.send(0, Body::DeleteOffsets(request));
        let Reply::DeleteOffsets(response) = self.reply(ticket) else { panic!() };
        error_of(response.topics[0].partitions[0].error_code)
    }
}

/// `m` has 0 and 1 of `a` since epoch 2, `n` 2 and 3 since epoch 3; both are in epoch 3.
fn two_members() -> Broker {
    let mut broker = Broker::with_topics();
    broker.beat(join("m", &["a"]));
    broker.beat(join("n", &["a"]));
    broker.beat(heartbeat("m", 2));
    broker.beat(heartbeat("m", 2).with_topic_partitions(owned(&[(1, &[0, 1])])));
    broker.beat(heartbeat("n", 3));
    broker
}

#[test]
fn members_commit_in_epochs_in_which_they_had_the_partitions() {
    use ErrorCode::{None as Ok, StaleMemberEpoch, UnknownMemberId, UnknownTopicOrPartition};
    let mut broker = two_members();
    for (member, epoch, partitions, errors) in [
        ("m", 3, &[0, 1][..], &[Ok, Ok][..]),
        ("m", 3, &[2], &[Ok]),
        ("m", 4, &[0], &[StaleMemberEpoch]),
        ("m", 2, &[0, 1], &[Ok, Ok]),
        ("m", 1, &[0], &[StaleMemberEpoch]),
        // one that it has not: none is committed
        ("m", 2, &[0, 2], &[StaleMemberEpoch, StaleMemberEpoch]),
        ("m", 2, &[0, 9], &[Ok, UnknownTopicOrPartition]),
        ("n", 2, &[2], &[StaleMemberEpoch]),
        ("o", 3, &[0], &[UnknownMemberId]),
        ("", -1, &[0], &[UnknownMemberId]),
    ] {
        assert_eq!(broker.commit(9, member, epoch, partitions), errors, "{member} {epoch} {partitions:?}");
    }
    assert_eq!(broker.commit(8, "m", 3, &[0]), [ErrorCode::UnsupportedVersion]);
}

/// What a member has not given up yet it still commits.
#[test]
fn a_member_commits_what_it_gives_up() {
    let mut broker = two_members();
    broker.beat(join("o", &["a"]));
    broker.beat(join("p", &["a"]));
    broker.beat(heartbeat("m", 3));
    assert_eq!(broker.commit(9, "m", 2, &[0, 1]), [ErrorCode::None, ErrorCode::None]);
}

#[test]
fn a_group_without_members_takes_anybodys_offsets() {
    let mut broker = two_members();
    broker.beat(heartbeat("m", -1));
    broker.beat(heartbeat("n", -1));
    assert_eq!(broker.commit(9, "", -1, &[0]), [ErrorCode::None]);
    assert_eq!(broker.commit(9, "m", 3, &[0]), [ErrorCode::UnknownMemberId]);
}

#[test]
fn members_read_offsets_in_their_epoch() {
    let mut broker = two_members();
    assert_eq!(broker.fetch(None, -1), ErrorCode::None);
    assert_eq!(broker.fetch(Some("m"), 3), ErrorCode::None);
    for epoch in [2, 4, -1] {
        assert_eq!(broker.fetch(Some("m"), epoch), ErrorCode::StaleMemberEpoch);
    }
    assert_eq!(broker.fetch(Some("o"), 3), ErrorCode::UnknownMemberId);
    assert_eq!(broker.fetch(None, 3), ErrorCode::UnknownMemberId);
}

#[test]
fn offsets_of_topics_that_are_read_stay() {
    let mut broker = two_members();
    broker.commit(9, "m", 3, &[0]);
    assert_eq!(broker.delete_offset(), ErrorCode::GroupSubscribedToTopic);
    let week = 7 * 24 * 3_600_000;
    for _ in 0..(week / 30_000) {
        broker.checks_log = false;
        broker.pass(30_000);
        broker.beat(heartbeat("m", 3));
        broker.beat(heartbeat("n", 3));
    }
    assert_eq!(broker.coordinator.groups.values().next().unwrap().offsets.iter().count(), 1);
    broker.beat(heartbeat("n", -1));
    broker.beat(heartbeat("m", -1));
    let records = kinds(&broker.wait(600_000));
    assert_eq!(records, "Ote".replace('O', "o"), "the offset is old, the group empty");
    assert!(broker.coordinator.groups.is_empty());
}

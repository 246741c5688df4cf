//! What the state of a group means for its offsets, and what tools see of it.

use super::*;
use crate::protocol::messages::offset_commit_request::{
    OffsetCommitRequestPartition, OffsetCommitRequestTopic,
};
use crate::protocol::messages::offset_delete_request::{
    OffsetDeleteRequestPartition, OffsetDeleteRequestTopic,
};
use crate::protocol::messages::offset_fetch_request::OffsetFetchRequestGroup;
use crate::protocol::messages::{OffsetCommitRequest, OffsetDeleteRequest, TopicName};

const DAY_MS: u64 = 24 * 60 * 60 * 1_000;

fn commit_request(member: &str, generation: i32, topic: &str) -> OffsetCommitRequest {
    let partition = OffsetCommitRequestPartition::default().with_committed_offset(7);
    let topic = OffsetCommitRequestTopic::default()
        .with_name(TopicName(text(topic)))
        .with_partitions(vec![partition]);
    OffsetCommitRequest::default()
        .with_group_id(group())
        .with_member_id(text(member))
        .with_generation_id_or_member_epoch(generation)
        .with_topics(vec![topic])
}

impl Driver {
    fn commit(&mut self, request: OffsetCommitRequest) -> ErrorCode {
        match self.ask(8, Body::Commit(Box::new(request))) {
            Reply::Commit(response) => error_of(response.topics[0].partitions[0].error_code),
            other => panic!("{other:?}"),
        }
    }

    /// The topics of which the group has offsets.
    fn committed(&mut self) -> Vec<String> {
        let group = OffsetFetchRequestGroup::default().with_group_id(group()).with_topics(None);
        match self.ask(8, Body::FetchOffsets { group, require_stable: false }) {
            Reply::FetchOffsets(response) => {
                response.topics.iter().map(|topic| topic.name.to_string()).collect()
            }
            other => panic!("{other:?}"),
        }
    }

    /// The group's error, or the topic's.
    fn delete_offset(&mut self, topic: &str) -> ErrorCode {
        let partition = OffsetDeleteRequestPartition::default();
        let topic = OffsetDeleteRequestTopic::default()
            .with_name(TopicName(text(topic)))
            .with_partitions(vec![partition]);
        let request = OffsetDeleteRequest::default().with_group_id(group()).with_topics(vec![topic]);
        match self.ask(0, Body::DeleteOffsets(request)) {
            Reply::DeleteOffsets(response) if response.error_code != 0 => error_of(response.error_code),
            Reply::DeleteOffsets(response) => error_of(response.topics[0].partitions[0].error_code),
            other => panic!("{other:?}"),
        }
    }

    fn delete_group(&mut self) -> ErrorCode {
        match self.ask(2, Body::Delete(vec![group()])) {
            Reply::Delete(results) => error_of(results[0].error_code),
            other => panic!("{other:?}"),
        }
    }

    fn keep_alive(&mut self, formed: &Formed, ms: u64) {
        for _ in 0..ms / 9_000 {
            self.pass(9_000);
            for member in &formed.members {
                assert_eq!(self.heartbeat(member, formed.generation), ErrorCode::None);
            }
        }
    }
}

#[test]
fn members_commit_in_their_generation() {
    let mut driver = driver();
    let commit = |driver: &mut Driver, member: &str, generation| {
        driver.commit(commit_request(member, generation, "t"))
    };
    let (none, unknown) = (ErrorCode::None, ErrorCode::UnknownMemberId);
    assert_eq!(commit(&mut driver, "", -1), none, "anybody may, of a group that has no members");
    assert_eq!(commit(&mut driver, "x", -1), none);
    assert_eq!(commit(&mut driver, "x", 0), unknown);
    let formed = driver.form(2);
    let (member, generation) = (formed.members[1].as_str(), formed.generation);
    assert_eq!(commit(&mut driver, member, generation), none);
    assert_eq!(commit(&mut driver, member, generation - 1), ErrorCode::IllegalGeneration);
    assert_eq!(commit(&mut driver, member, -1), ErrorCode::IllegalGeneration);
    assert_eq!(commit(&mut driver, "", -1), unknown, "it has members now");
    assert_eq!(commit(&mut driver, "x", generation), unknown);
    let of_instance =
        commit_request(member, generation, "t").with_group_instance_id(Some(text("none of it")));
    assert_eq!(driver.commit(of_instance), unknown);
    // what was read before a rebalance is committed while members join, not later
    let ticket = driver.join(4, join_request(&formed.members[0]));
    assert_eq!(commit(&mut driver, member, generation), none);
    let other = driver.join(4, join_request(member));
    driver.joined(ticket);
    driver.joined(other);
    assert_eq!(commit(&mut driver, member, generation), ErrorCode::IllegalGeneration);
    assert_eq!(commit(&mut driver, member, generation + 1), ErrorCode::RebalanceInProgress);
}

#[test]
fn a_fenced_member_does_not_commit() {
    let mut driver = driver();
    let ticket = driver.join(5, static_join("", "i"));
    driver.pass(INITIAL_DELAY_MS);
    let formed = driver.finish(vec![ticket]);
    let ticket = driver.join(5, static_join("", "i"));
    driver.joined(ticket);
    let request = commit_request(&formed.members[0], 1, "t").with_group_instance_id(Some(text("i")));
    assert_eq!(driver.commit(request), ErrorCode::FencedInstanceId);
}

#[test]
fn a_commit_shows_that_a_member_is_alive() {
    let mut driver = driver();
    let formed = driver.form(1);
    for _ in 0..3 {
        driver.pass(SESSION_MS - 1);
        assert_eq!(driver.commit(commit_request(&formed.members[0], 1, "t")), ErrorCode::None);
    }
    assert_eq!(driver.state(), "Stable");
}

#[test]
fn offsets_of_topics_that_are_read_are_not_deleted() {
    let mut driver = driver();
    let formed = driver.form(1);
    for topic in ["t", "u"] {
        assert_eq!(driver.commit(commit_request(&formed.members[0], 1, topic)), ErrorCode::None);
    }
    assert_eq!(driver.delete_offset("t"), ErrorCode::GroupSubscribedToTopic);
    assert_eq!(driver.delete_offset("u"), ErrorCode::None);
    assert_eq!(driver.committed(), ["t"]);
    driver.leave_all(vec![identity(&formed.members[0], None)]);
    assert_eq!(driver.delete_offset("t"), ErrorCode::None);
    assert_eq!(driver.committed(), [""; 0]);

    // it is not known what they read: they may read anything
    let request = join_request("").with_protocols(protocols(&[("range", b"no subscription")]));
    let ticket = driver.join(3, request);
    driver.pass(INITIAL_DELAY_MS);
    driver.finish(vec![ticket]);
    assert_eq!(driver.delete_offset("u"), ErrorCode::GroupSubscribedToTopic);
}

#[test]
fn members_of_other_types_have_the_group_to_themselves() {
    let mut driver = driver();
    assert_eq!(driver.commit(commit_request("", -1, "t")), ErrorCode::None);
    let request = join_request("").with_protocol_type(text("connect"));
    let ticket = driver.join(3, request);
    driver.pass(INITIAL_DELAY_MS);
    let formed = driver.finish(vec![ticket]);
    assert_eq!(driver.delete_offset("t"), ErrorCode::NonEmptyGroup);
    driver.keep_alive(&formed, 8 * DAY_MS);
    assert_eq!(driver.committed(), ["t"], "offsets stay as long as there are members");
}

/// Seven days from when the group became empty; while it is stable, those of topics that nobody reads from their commit.
#[test]
fn offsets_are_forgotten() {
    let mut driver = driver();
    let formed = driver.form(1);
    for topic in ["t", "u"] {
        assert_eq!(driver.commit(commit_request(&formed.members[0], 1, topic)), ErrorCode::None);
    }
    driver.keep_alive(&formed, 6 * DAY_MS);
    assert_eq!(driver.committed(), ["t", "u"]);
    driver.keep_alive(&formed, 2 * DAY_MS);
    assert_eq!(driver.committed(), ["t"], "it does not read u");
    driver.leave_all(vec![identity(&formed.members[0], None)]);
    driver.pass(6 * DAY_MS);
    driver.restart();
    driver.pass(DAY_MS - 1);
    assert_eq!(driver.committed(), ["t"]);
    driver.pass(DAY_MS);
    assert_eq!((driver.committed(), driver.state()), (Vec::new(), "Dead".to_owned()));
}

/// Offsets of a group that never had members go from their commit on, and the group with them.
#[test]
fn a_group_of_offsets_only_is_forgotten() {
    let mut driver = driver();
    driver.commit(commit_request("", -1, "t"));
    driver.pass(4 * DAY_MS);
    driver.commit(commit_request("", -1, "u"));
    driver.pass(4 * DAY_MS);
    assert_eq!(driver.committed(), ["u"]);
    driver.pass(4 * DAY_MS);
    assert_eq!(driver.state(), "Dead");
}

/// Who has its id is about to join: the sweep for old groups leaves it the time.
#[test]
fn a_group_that_is_about_to_have_members_is_not_swept() {
    let mut driver = driver();
    let formed = driver.form(1);
    driver.leave_all(vec![identity(&formed.members[0], None)]);
    let session = join_request("").with_session_timeout_ms(1_800_000);
    let ticket = driver.join(4, session);
    let id = driver.joined(ticket).member_id;
    driver.pass(1_700_000);
    let ticket = driver.join(4, join_request(&id));
    driver.pass(INITIAL_DELAY_MS);
    driver.finish(vec![ticket]);
}

#[test]
fn only_a_group_without_members_is_deleted() {
    let mut driver = driver();
    assert_eq!(driver.delete_group(), ErrorCode::GroupIdNotFound);
    let formed = driver.form(1);
    driver.commit(commit_request(&formed.members[0], 1, "t"));
    assert_eq!(driver.delete_group(), ErrorCode::NonEmptyGroup);
    let waiting = driver.join(4, join_request(&formed.members[0]));
    assert_eq!(driver.delete_group(), ErrorCode::NonEmptyGroup);
    driver.reply(waiting);
    driver.leave_all(vec![identity(&formed.members[0], None)]);
    let id = driver.new_id();
    assert_eq!(driver.delete_group(), ErrorCode::None);
    assert_eq!((driver.state(), driver.committed()), ("Dead".to_owned(), Vec::new()));
    assert_eq!(driver.join_error(4, join_request(&id)), ErrorCode::UnknownMemberId);
    driver.restart();
    assert_eq!(driver.state(), "Dead");
    assert_eq!(driver.join_alone().generation_id, 1, "a new group");
}

#[test]
fn a_group_is_described() {
    let mut driver = driver();
    let ticket = driver.join(5, static_join("", "i"));
    let preparing = driver.describe();
    assert_eq!(
        (preparing.group_state.as_str(), preparing.protocol_type.as_str()),
        ("PreparingRebalance", "consumer")
    );
    assert_eq!((preparing.protocol_data.as_str(), preparing.error_code), ("", 0));
    let member = &preparing.members[0];
    assert_eq!(member.group_instance_id.as_deref(), Some("i"));
    assert_eq!((member.client_id.as_str(), member.client_host.as_str()), ("client", "/127.0.0.1"));
    assert_eq!((member.member_metadata.len(), member.member_assignment.len()), (0, 0));
    driver.pass(INITIAL_DELAY_MS);
    assert_eq!(driver.state(), "CompletingRebalance");
    assert_eq!(driver.describe().members[0].member_metadata.len(), 0);
    let formed = driver.finish(vec![ticket]);
    let stable = driver.describe();
    assert_eq!((stable.group_state.as_str(), stable.protocol_data.as_str()), ("Stable", "range"));
    let member = &stable.members[0];
    assert_eq!(member.member_id.as_str(), formed.members[0]);
    assert_eq!(member.member_metadata, subscription(&["t"]));
    assert_eq!(member.member_assignment, format!("of {}", formed.members[0]));
    driver.leave_all(vec![identity(&formed.members[0], None)]);
    let empty = driver.describe();
    assert_eq!((empty.group_state.as_str(), empty.protocol_type.as_str()), ("Empty", "consumer"));
    assert_eq!((empty.protocol_data.as_str(), empty.members.len()), ("", 0));
}

#[test]
fn groups_are_listed_by_state_and_type() {
    let mut driver = driver();
    let list = |driver: &mut Driver, states: &[&str], types: &[&str]| {
        let names = |names: &[&str]| names.iter().map(|name| (*name).to_owned()).collect();
        match driver.ask(5, Body::List { states: names(states), types: names(types) }) {
            Reply::List(groups) => groups,
            other => panic!("{other:?}"),
        }
    };
    assert_eq!(list(&mut driver, &[], &[]).len(), 0);
    driver.form(1);
    let groups = list(&mut driver, &[], &[]);
    assert_eq!((groups[0].group_id.as_str(), groups[0].protocol_type.as_str()), ("g", "consumer"));
    assert_eq!((groups[0].group_state.as_str(), groups[0].group_type.as_str()), ("Stable", "classic"));
    for (states, types, count) in
        [(&["stable"][..], &[][..], 1), (&["empty"], &[], 0), (&[], &["classic"], 1), (&[], &["consumer"], 0)]
    {
        assert_eq!(list(&mut driver, states, types).len(), count, "{states:?} {types:?}");
    }
}

/// A static member may read other topics when it starts anew; nobody else need know.
#[test]
fn topics_of_a_static_member_that_starts_anew_are_read() {
    let mut driver = driver();
    let ticket = driver.join(5, static_join("", "i"));
    driver.pass(INITIAL_DELAY_MS);
    driver.finish(vec![ticket]);
    let request = static_join("", "i").with_protocols(protocols(&[("range", &subscription(&["u"]))]));
    assert_eq!(driver.join_error(5, request), ErrorCode::None);
    assert_eq!(driver.delete_offset("u"), ErrorCode::GroupSubscribedToTopic);
    assert_eq!(driver.delete_offset("t"), ErrorCode::None);
}

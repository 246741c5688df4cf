//! What a group's offsets and the sweep do; the protocols have tests of their own.

use super::*;
use crate::coordinator::EffectsOf;
use crate::coordinator::record::OffsetValue;
use crate::metadata::{NewPartition, Record as MetadataRecord, TopicDefaults};
use crate::model::{ProducerEpoch, TopicId};
use crate::protocol::StrBytes;
use crate::protocol::messages::offset_commit_request::{
    OffsetCommitRequestPartition, OffsetCommitRequestTopic,
};
use crate::protocol::messages::offset_fetch_request::{OffsetFetchRequestGroup, OffsetFetchRequestTopics};
use crate::protocol::messages::{GroupId, OffsetCommitRequest, TopicName};

const DAY_MS: i64 = 24 * 60 * 60 * 1_000;

fn text(text: &str) -> StrBytes {
    StrBytes::from_string(text.to_owned())
}

/// A machine, its log, and the topics there are.
struct Rig {
    machine: GroupCoordinator,
    image: Image,
    log: Vec<Logged>,
    now: Now,
    tickets: u64,
}

#[derive(Clone, Debug)]
enum Logged {
    Record(Option<ProducerId>, Box<Record>),
    End(ProducerId, EndTxn),
}

impl Rig {
    fn new(topics: &[&str]) -> Rig {
        let mut image = Image::new("cluster", TopicDefaults::default());
        for (id, name) in (100..).zip(topics) {
            let topic = MetadataRecord::Topic { name: (*name).to_owned(), id: TopicId(id) };
            let partition = crate::model::PartitionId { topic: TopicId(id), index: 0 };
            let partition = MetadataRecord::Partition(NewPartition { partition, ..NewPartition::default() });
            image.replay_all(&[topic, partition]).unwrap();
        }
        let mut rig = Rig {
            machine: GroupCoordinator::new(Settings::default()),
            image,
            log: Vec::new(),
            now: Now { steady: 1_000, wall: 1_700_000_000_000 },
            tickets: 0,
        };
        rig.turn(|machine, context| machine.loaded(context));
        rig
    }

    fn turn(
        &mut self,
        act: impl FnOnce(&mut GroupCoordinator, &mut Context) -> EffectsOf<GroupCoordinator>,
    ) -> Vec<(Ticket, Reply)> {
        let mut context =
            Context { now: self.now, image: &self.image, random: &mut || 4, producer_id: &mut || None };
        let Effects { records, replies, in_transaction, .. } = act(&mut self.machine, &mut context);
        let producer = in_transaction.map(|(producer, _)| producer);
        self.log.extend(records.into_iter().map(|record| Logged::Record(producer, Box::new(record))));
        replies
    }

    fn ask(&mut self, version: i16, body: Body) -> Reply {
        self.tickets += 1;
        let ticket = Ticket(self.tickets);
        let client = Client { id: "client".to_owned(), host: "/127.0.0.1".to_owned() };
        let mut replies =
            self.turn(|machine, context| machine.handle(context, ticket, Request { version, client, body }));
        assert_eq!(replies.len(), 1, "{replies:?}");
        let (to, reply) = replies.remove(0);
        assert_eq!(to, ticket);
        reply
    }

    fn commit(&mut self, group: &str, topic: &str, offset: i64, retention_ms: i64) -> i16 {
        let request = commit(group, topic, offset).with_retention_time_ms(retention_ms);
        self.error_of(4, Body::Commit(Box::new(request)))
    }

    fn commit_in_transaction(&mut self, producer: i64, group: &str, topic: &str, offset: i64) {
        let commit = Box::new(commit(group, topic, offset));
        assert_eq!(self.error_of(3, in_transaction(producer, commit)), 0);
    }

    fn end(&mut self, producer: i64, end: EndTxn) {
        self.machine.end_transaction(ProducerId(producer), end);
        self.log.push(Logged::End(ProducerId(producer), end));
    }

    /// Of a commit of one partition.
    fn error_of(&mut self, version: i16, body: Body) -> i16 {
        match self.ask(version, body) {
            Reply::Commit(response) => response.topics[0].partitions[0].error_code,
            other => panic!("{other:?}"),
        }
    }

    /// What a consumer is told that wants stable offsets: the error, and the offset.
    fn stable(&mut self, group: &str, topic: &str) -> (i16, i64) {
        let topic = OffsetFetchRequestTopics::default()
            .with_name(TopicName(text(topic)))
            .with_partition_indexes(vec![0]);
        let group = OffsetFetchRequestGroup::default()
            .with_group_id(GroupId(text(group)))
            .with_topics(Some(vec![topic]));
        match self.ask(9, Body::FetchOffsets { group, require_stable: true }) {
            Reply::FetchOffsets(fetched) => {
                let partition = &fetched.topics[0].partitions[0];
                (partition.error_code, partition.committed_offset)
            }
            other => panic!("{other:?}"),
        }
    }

    /// Topic and offset of each partition.
    fn offsets(&mut self, group: &str) -> Vec<(String, i64)> {
        let group = OffsetFetchRequestGroup::default().with_group_id(GroupId(text(group))).with_topics(None);
        match self.ask(9, Body::FetchOffsets { group, require_stable: false }) {
            Reply::FetchOffsets(fetched) => (fetched.topics.iter())
                .map(|topic| (topic.name.to_string(), topic.partitions[0].committed_offset))
                .collect(),
            other => panic!("{other:?}"),
        }
    }

    fn groups(&mut self) -> Vec<String> {
        match self.ask(5, Body::List { states: Vec::new(), types: Vec::new() }) {
            Reply::List(groups) => groups.iter().map(|group| group.group_id.to_string()).collect(),
            other => panic!("{other:?}"),
        }
    }

    /// Time goes by, and what is due is done.
    fn wait(&mut self, ms: i64) {
        self.now.steady += u64::try_from(ms).unwrap();
        self.now.wall += ms;
        while self.machine.next_tick().is_some_and(|next| next <= self.now.steady) {
            assert!(self.turn(GroupCoordinator::tick).is_empty());
        }
    }

    /// The same out of the log.
    fn reload(&mut self) {
        let mut machine = GroupCoordinator::new(Settings::default());
        for logged in self.log.iter().cloned() {
            match logged {
                Logged::Record(None, record) => machine.replay(*record),
                Logged::Record(Some(producer), record) => machine.replay_in_transaction(producer, *record),
                Logged::End(producer, end) => machine.end_transaction(producer, end),
            }
        }
        self.machine = machine;
        self.turn(|machine, context| machine.loaded(context));
    }
}

fn commit(group: &str, topic: &str, offset: i64) -> OffsetCommitRequest {
    let partition = OffsetCommitRequestPartition::default().with_committed_offset(offset);
    let topic = OffsetCommitRequestTopic::default()
        .with_name(TopicName(text(topic)))
        .with_partitions(vec![partition]);
    OffsetCommitRequest::default()
        .with_group_id(GroupId(text(group)))
        .with_generation_id_or_member_epoch(-1)
        .with_topics(vec![topic])
}

fn plain<const N: usize>(records: [Record; N]) -> Vec<Logged> {
    records.into_iter().map(|record| Logged::Record(None, Box::new(record))).collect()
}

fn in_transaction(producer: i64, commit: Box<OffsetCommitRequest>) -> Body {
    let (producer_id, producer_epoch) = (ProducerId(producer), ProducerEpoch(0));
    let transactional_id = "t".to_owned();
    Body::CommitInTransaction { transactional_id, producer_id, producer_epoch, commit }
}

fn pairs(pairs: &[(&str, i64)]) -> Vec<(String, i64)> {
    pairs.iter().map(|(topic, offset)| ((*topic).to_owned(), *offset)).collect()
}

#[test]
fn offsets_are_forgotten_a_week_after_their_commit_or_when_the_client_said() {
    let mut rig = Rig::new(&["a", "b", "c"]);
    assert_eq!(rig.commit("g", "a", 1, -1), 0);
    rig.wait(3 * DAY_MS);
    assert_eq!(rig.commit("g", "b", 2, -1), 0);
    assert_eq!(rig.commit("g", "c", 3, DAY_MS), 0);
    assert_eq!(rig.offsets("g"), pairs(&[("a", 1), ("b", 2), ("c", 3)]));
    rig.wait(DAY_MS - 1);
    assert_eq!(rig.offsets("g").len(), 3);
    rig.wait(600_000);
    assert_eq!(rig.offsets("g"), pairs(&[("a", 1), ("b", 2)]));
    rig.reload();
    rig.wait(3 * DAY_MS);
    assert_eq!(rig.offsets("g"), pairs(&[("b", 2)]));
    rig.wait(3 * DAY_MS + 600_000);
    assert_eq!(rig.offsets("g"), []);
    assert_eq!(rig.groups(), Vec::<String>::new(), "a group of which nothing is left is gone");
    assert!(rig.machine.groups.is_empty());
    rig.reload();
    assert!(rig.machine.groups.is_empty(), "out of the log, too");
}

/// Many groups are swept a part at a time, each once in a round.
#[test]
fn a_sweep_goes_through_all_groups_in_parts() {
    let mut rig = Rig::new(&["a"]);
    let count = 3 * SWEPT_AT_ONCE + 5;
    for at in 0..count {
        assert_eq!(rig.commit(&format!("group-{at:05}"), "a", 1, 1_000), 0);
    }
    assert_eq!(rig.groups().len(), count);
    rig.now.steady += 600_000;
    rig.now.wall += 600_000;
    let mut sizes = Vec::new();
    while rig.machine.next_tick().is_some_and(|next| next <= rig.now.steady) {
        rig.turn(GroupCoordinator::tick);
        sizes.push(rig.machine.groups.len());
    }
    assert_eq!(sizes, [2 * SWEPT_AT_ONCE + 5, SWEPT_AT_ONCE + 5, 5, 0]);
    assert_eq!(rig.machine.next_tick(), Some(rig.now.steady + 600_000));
}

#[test]
fn offsets_of_topics_that_are_gone_go() {
    let mut rig = Rig::new(&["a", "b"]);
    for (group, topic) in [("g", "a"), ("g", "b"), ("h", "a")] {
        assert_eq!(rig.commit(group, topic, 7, -1), 0);
    }
    rig.turn(|machine, context| machine.topics_removed(context, &["a".to_owned()]));
    assert_eq!(rig.offsets("g"), pairs(&[("b", 7)]));
    assert_eq!(rig.groups(), ["g"]);
    // removed while nobody could write it down
    rig.image.replay(&MetadataRecord::RemoveTopic { id: TopicId(101) }).unwrap();
    rig.reload();
    assert!(rig.machine.groups.is_empty());
    let last = rig.log.last().unwrap();
    assert!(
        matches!(last, Logged::Record(None, record) if matches!(&**record, Record::Offset { topic, value: None, .. } if topic == "b")),
        "{last:?}"
    );
}

#[test]
fn every_reply_finds_its_way_whatever_is_asked_of_a_group_that_is_not_there() {
    let mut rig = Rig::new(&["a"]);
    let ids = || vec![GroupId(text("nobody"))];
    let Reply::Describe(groups) = rig.ask(5, Body::Describe(ids())) else { panic!("in kind") };
    assert_eq!((groups[0].error_code, groups[0].group_state.as_str()), (0, "Dead"));
    let Reply::Describe(groups) = rig.ask(6, Body::Describe(ids())) else { panic!("in kind") };
    assert_eq!(groups[0].error_code, ErrorCode::GroupIdNotFound.code());
    let Reply::DescribeConsumer(groups) = rig.ask(1, Body::DescribeConsumer(ids())) else {
        panic!("in kind")
    };
    assert_eq!(groups[0].error_code, ErrorCode::GroupIdNotFound.code());
    let Reply::Delete(results) = rig.ask(2, Body::Delete(ids())) else { panic!("in kind") };
    assert_eq!(results[0].error_code, ErrorCode::GroupIdNotFound.code());
    assert!(rig.log.is_empty() && rig.machine.groups.is_empty());
}

#[test]
fn a_log_that_repeats_itself_or_removes_what_is_not_there_is_replayed() {
    let offset = |value: Option<i64>| Record::Offset {
        group: "g".to_owned(),
        topic: "a".to_owned(),
        partition: 0,
        value: value.map(|offset| OffsetValue {
            offset,
            leader_epoch: -1,
            metadata: String::new(),
            commit_timestamp: 1,
            expire_timestamp: -1,
        }),
    };
    let mut rig = Rig::new(&["a"]);
    rig.log = plain([offset(None), offset(Some(1)), offset(Some(2)), offset(Some(2))]);
    rig.reload();
    assert_eq!(rig.offsets("g"), pairs(&[("a", 2)]));
    rig.log.extend(plain([
        offset(None),
        offset(None),
        Record::ClassicGroup { group: "g".to_owned(), value: None },
    ]));
    rig.reload();
    assert!(rig.machine.groups.is_empty());
}

/// A record's texts have lengths of 16 bits, a request's need not.
#[test]
fn what_no_record_can_hold_is_refused() {
    use crate::coordinator::record::TEXT_BYTES_MAX;
    use crate::protocol::messages::join_group_request::JoinGroupRequestProtocol;
    use crate::protocol::messages::{ConsumerGroupHeartbeatRequest, JoinGroupRequest};

    let mut rig = Rig::new(&["a"]);
    let (fits, long) = ("g".repeat(TEXT_BYTES_MAX), "g".repeat(TEXT_BYTES_MAX + 1));
    assert_eq!(rig.commit(&long, "a", 1, -1), ErrorCode::InvalidGroupId.code());
    assert_eq!(rig.commit(&fits, "a", 1, -1), 0);
    let mut join = |group: &str, instance: Option<&str>, kind: &str, protocol: &str| {
        let protocol = JoinGroupRequestProtocol::default().with_name(text(protocol));
        let request = JoinGroupRequest::default()
            .with_group_id(GroupId(text(group)))
            .with_session_timeout_ms(10_000)
            .with_group_instance_id(instance.map(text))
            .with_protocol_type(text(kind))
            .with_protocols(vec![protocol]);
        match rig.ask(9, Body::Join(Box::new(request))) {
            Reply::Join(response) => ErrorCode::from_code(response.error_code).unwrap(),
            other => panic!("{other:?}"),
        }
    };
    assert_eq!(join(&long, None, "consumer", "range"), ErrorCode::InvalidGroupId);
    assert_eq!(join("j", Some(&long), "consumer", "range"), ErrorCode::InvalidRequest);
    assert_eq!(join("j", None, &long, "range"), ErrorCode::InvalidRequest);
    assert_eq!(join("j", None, "consumer", &long), ErrorCode::InvalidRequest);
    assert_eq!(join("j", None, &fits, &fits), ErrorCode::MemberIdRequired);
    let request = ConsumerGroupHeartbeatRequest::default()
        .with_group_id(GroupId(text(&long)))
        .with_member_id(text("m"))
        .with_rebalance_timeout_ms(1_000)
        .with_topic_partitions(Some(Vec::new()))
        .with_subscribed_topic_names(Some(Vec::new()));
    let Reply::ConsumerHeartbeat(response) = rig.ask(1, Body::ConsumerHeartbeat(Box::new(request))) else {
        panic!("in kind")
    };
    assert_eq!(response.error_code, ErrorCode::InvalidRequest.code());
}

#[test]
fn offsets_of_a_transaction_count_when_it_commits() {
    for end in [EndTxn::Commit, EndTxn::Abort] {
        let mut rig = Rig::new(&["a", "b"]);
        assert_eq!(rig.commit("g", "a", 1, -1), 0);
        rig.commit_in_transaction(7, "g", "a", 2);
        rig.commit_in_transaction(7, "g", "b", 3);
        rig.commit_in_transaction(7, "h", "a", 4);
        let unstable = (ErrorCode::UnstableOffsetCommit.code(), -1);
        for _ in 0..2 {
            assert_eq!(rig.offsets("g"), pairs(&[("a", 1)]), "who does not ask for stable ones gets the old");
            assert_eq!((rig.stable("g", "a"), rig.stable("g", "b")), (unstable, unstable));
            assert_eq!(rig.stable("g", "c"), (0, -1));
            rig.reload();
        }
        rig.end(8, EndTxn::Commit);
        rig.end(7, end);
        for _ in 0..2 {
            match end {
                EndTxn::Commit => {
                    assert_eq!(rig.offsets("g"), pairs(&[("a", 2), ("b", 3)]));
                    assert_eq!(rig.stable("h", "a"), (0, 4));
                }
                EndTxn::Abort => {
                    assert_eq!(rig.offsets("g"), pairs(&[("a", 1)]));
                    assert_eq!(rig.groups(), ["g"], "nothing is left of h");
                }
            }
            assert_eq!(rig.stable("g", "c"), (0, -1));
            rig.reload();
        }
    }
}

#[test]
fn a_commit_behind_that_of_a_transaction_counts() {
    let mut rig = Rig::new(&["a"]);
    rig.commit_in_transaction(7, "g", "a", 2);
    assert_eq!(rig.commit("g", "a", 9, -1), 0);
    rig.reload();
    rig.end(7, EndTxn::Commit);
    assert_eq!(rig.stable("g", "a"), (0, 9));
    rig.reload();
    assert_eq!(rig.stable("g", "a"), (0, 9));
}

#[test]
fn an_open_transaction_keeps_a_group_and_its_offsets() {
    let mut rig = Rig::new(&["a", "b"]);
    assert_eq!(rig.commit("g", "a", 1, -1), 0);
    rig.commit_in_transaction(7, "g", "a", 2);
    rig.wait(30 * DAY_MS);
    assert_eq!(rig.offsets("g"), pairs(&[("a", 1)]));
    rig.end(7, EndTxn::Abort);
    rig.wait(DAY_MS);
    assert_eq!(rig.groups(), Vec::<String>::new());

    // what is removed meanwhile is not brought back
    rig.commit_in_transaction(7, "g", "a", 2);
    rig.commit_in_transaction(7, "g", "b", 3);
    rig.turn(|machine, context| machine.topics_removed(context, &["a".to_owned()]));
    rig.reload();
    rig.end(7, EndTxn::Commit);
    assert_eq!(rig.offsets("g"), pairs(&[("b", 3)]));
    rig.commit_in_transaction(7, "g", "b", 4);
    match rig.ask(2, Body::Delete(vec![GroupId(text("g"))])) {
        Reply::Delete(results) => assert_eq!(results[0].error_code, 0),
        other => panic!("{other:?}"),
    }
    rig.end(7, EndTxn::Commit);
    assert_eq!(rig.groups(), Vec::<String>::new());
    rig.reload();
    assert_eq!(rig.groups(), Vec::<String>::new());
}

#[test]
fn members_that_are_none_do_not_commit_in_a_transaction() {
    let mut rig = Rig::new(&["a"]);
    let member = |group, member: &str, generation| {
        let commit =
            commit(group, "a", 1).with_member_id(text(member)).with_generation_id_or_member_epoch(generation);
        in_transaction(7, Box::new(commit))
    };
    assert_eq!(rig.error_of(3, member("g", "m", 4)), ErrorCode::GroupIdNotFound.code());
    assert_eq!(rig.groups(), Vec::<String>::new());
    assert_eq!(rig.commit("g", "a", 1, -1), 0);
    assert_eq!(rig.error_of(3, member("g", "m", 4)), ErrorCode::UnknownMemberId.code());
    assert_eq!(rig.error_of(3, member("g", "", -1)), 0);
}

//! Offsets that are committed in a transaction.

use std::time::Instant;

use kafka_protocol::messages::offset_commit_request::{
    OffsetCommitRequestPartition, OffsetCommitRequestTopic,
};
use kafka_protocol::messages::offset_fetch_request::{
    OffsetFetchRequestGroup, OffsetFetchRequestTopic, OffsetFetchRequestTopics,
};
use kafka_protocol::messages::txn_offset_commit_request::{
    TxnOffsetCommitRequestPartition, TxnOffsetCommitRequestTopic,
};
use kafka_protocol::messages::{
    AddOffsetsToTxnRequest, FindCoordinatorRequest, GroupId, OffsetCommitRequest, OffsetFetchRequest,
    ProducerId, TopicName, TxnOffsetCommitRequest,
};

use super::{
    INVALID_PRODUCER_EPOCH, INVALID_TXN_STATE, NONE, PATIENCE, Producer, UNKNOWN_TOPIC_OR_PARTITION,
    describe, end, id, init, started, wait_for_state,
};
use crate::wire::{self, Wire, string};

const COORDINATOR_LOAD_IN_PROGRESS: i16 = 14;
const ILLEGAL_GENERATION: i16 = 22;
const INVALID_GROUP_ID: i16 = 24;
const UNSTABLE_OFFSET_COMMIT: i16 = 88;
const TRANSACTION_ABORTABLE: i16 = 120;

/// From here on a TxnOffsetCommit adds the group's partition.
const ADDS_FROM: i16 = 5;

fn commit_request(transactional: &str, who: Producer, group: &str, topic: &str) -> TxnOffsetCommitRequest {
    let partitions = [(0, 10), (1, 11)].map(|(partition, offset)| {
        TxnOffsetCommitRequestPartition::default()
            .with_partition_index(partition)
            .with_committed_offset(offset)
            .with_committed_metadata(Some(string("m")))
    });
    let topic = TxnOffsetCommitRequestTopic::default()
        .with_name(TopicName(string(topic)))
        .with_partitions(partitions.to_vec());
    TxnOffsetCommitRequest::default()
        .with_transactional_id(id(transactional))
        .with_group_id(GroupId(string(group)))
        .with_producer_id(ProducerId(who.0))
        .with_producer_epoch(who.1)
        .with_topics(vec![topic])
}

fn commit(wire: &mut Wire, request: &TxnOffsetCommitRequest, version: i16) -> Vec<i16> {
    let topics = wire.call(request, version).topics;
    topics.iter().flat_map(|topic| topic.partitions.iter().map(|partition| partition.error_code)).collect()
}

/// As clients of this version do before.
fn join(wire: &mut Wire, transactional: &str, who: Producer, group: &str, version: i16) {
    if version < ADDS_FROM {
        let request = AddOffsetsToTxnRequest::default()
            .with_transactional_id(id(transactional))
            .with_producer_id(ProducerId(who.0))
            .with_producer_epoch(who.1)
            .with_group_id(GroupId(string(group)));
        assert_eq!(wire.call(&request, version.min(4)).error_code, NONE, "v{version}");
    }
}

/// Error and offset of partitions 0 and 1.
fn offsets(wire: &mut Wire, group: &str, topic: &str, stable: bool) -> [(i16, i64); 2] {
    let name = TopicName(string(topic));
    let asked = OffsetFetchRequestTopics::default().with_name(name).with_partition_indexes(vec![0, 1]);
    let asked = OffsetFetchRequestGroup::default()
        .with_group_id(GroupId(string(group)))
        .with_member_epoch(-1)
        .with_topics(Some(vec![asked]));
    let request = OffsetFetchRequest::default().with_groups(vec![asked]).with_require_stable(stable);
    let begun = Instant::now();
    let group = loop {
        let group = wire.call(&request, 9).groups.remove(0);
        // after a start
        if group.error_code != COORDINATOR_LOAD_IN_PROGRESS {
            break group;
        }
        assert!(begun.elapsed() < PATIENCE, "it loads for ever");
    };
    assert_eq!(group.error_code, NONE);
    let partitions = &group.topics[0].partitions;
    [0, 1].map(|place| (partitions[place].error_code, partitions[place].committed_offset))
}

/// As clients do that need it: until no transaction may change it.
fn stable_offsets(wire: &mut Wire, group: &str, topic: &str) -> [i64; 2] {
    let begun = Instant::now();
    loop {
        let [first, second] = offsets(wire, group, topic, true);
        if first.0 == NONE && second.0 == NONE {
            return [first.1, second.1];
        }
        assert_eq!((first.0, second.0), (UNSTABLE_OFFSET_COMMIT, UNSTABLE_OFFSET_COMMIT));
        assert!(begun.elapsed() < PATIENCE, "it never ends");
    }
}

fn find_group(wire: &mut Wire) {
    let request = FindCoordinatorRequest::default().with_key_type(0);
    let found = wire.call(&request.with_coordinator_keys(vec![string("any")]), 6).coordinators.remove(0);
    assert_eq!(found.error_code, NONE, "{:?}", found.error_message);
}

#[test]
fn offsets_count_when_the_transaction_commits() {
    let (_broker, mut wire) = started(2);
    find_group(&mut wire);
    let topic = wire::unique("offsets");
    wire.create_topic(&topic, 2, &[]);
    for version in 0..=5 {
        let (name, group) = (wire::unique("id"), wire::unique("group"));
        let of_end = if version < ADDS_FROM { 4 } else { 5 };
        let mut who = init(&mut wire, &name, 4);
        for (committed, state, expect) in [
            (false, "CompleteAbort", [-1, -1]),
            (true, "CompleteCommit", [10, 11]),
            (false, "CompleteAbort", [10, 11]),
        ] {
            let before = offsets(&mut wire, &group, &topic, false);
            join(&mut wire, &name, who, &group, version);
            let request = commit_request(&name, who, &group, &topic);
            assert_eq!(commit(&mut wire, &request, version), [NONE, NONE], "v{version}");
            // pending
            assert_eq!(offsets(&mut wire, &group, &topic, false), before);
            assert_eq!(offsets(&mut wire, &group, &topic, true), [(UNSTABLE_OFFSET_COMMIT, -1); 2]);
            let described = describe(&mut wire, &name);
            assert_eq!(described.topics[0].topic.as_str(), "__consumer_offsets", "v{version}");
            who = end(&mut wire, &name, who, committed, of_end).unwrap();
            assert_eq!(stable_offsets(&mut wire, &group, &topic), expect, "v{version} {committed}");
            wait_for_state(&mut wire, &name, state);
        }
    }
}

/// Versions of OffsetFetch by which a client may ask for stable offsets, each in its format.
#[test]
fn unstable_offsets_are_told_in_every_version() {
    let (_broker, mut wire) = started(1);
    find_group(&mut wire);
    wire.create_topic("t", 2, &[]);
    let who = init(&mut wire, "id", 5);
    assert_eq!(commit(&mut wire, &commit_request("id", who, "g", "t"), 5), [NONE, NONE]);
    let name = TopicName(string("t"));
    let topic = OffsetFetchRequestTopic::default().with_name(name).with_partition_indexes(vec![0]);
    for version in 1..=7 {
        let request = OffsetFetchRequest::default()
            .with_group_id(GroupId(string("g")))
            .with_topics(Some(vec![topic.clone()]))
            .with_require_stable(version >= 7);
        let answer = wire.call(&request, version);
        let partition = &answer.topics[0].partitions[0];
        let expect = if version >= 7 { UNSTABLE_OFFSET_COMMIT } else { NONE };
        assert_eq!((partition.error_code, partition.committed_offset), (expect, -1), "v{version}");
    }
}

#[test]
fn who_may_not_commit_is_refused_and_nothing_is_pending() {
    let (_broker, mut wire) = started(2);
    find_group(&mut wire);
    let topic = wire::unique("refused");
    wire.create_topic(&topic, 2, &[]);
    for version in 0..=5 {
        let (name, group) = (wire::unique("id"), wire::unique("group"));
        let who = init(&mut wire, &name, 4);
        let request = commit_request(&name, who, &group, &topic);
        if version < ADDS_FROM {
            let expect = if version < 4 { INVALID_TXN_STATE } else { TRANSACTION_ABORTABLE };
            assert_eq!(commit(&mut wire, &request, version), [expect; 2], "v{version}: not added");
        }
        let unknown = commit_request(&name, who, &group, "no-such-topic");
        assert_eq!(commit(&mut wire, &unknown, version), [UNKNOWN_TOPIC_OR_PARTITION; 2], "v{version}");
        let nameless = commit_request(&name, who, "", &topic);
        assert_eq!(commit(&mut wire, &nameless, version), [INVALID_GROUP_ID; 2], "v{version}");
        assert_eq!(&*describe(&mut wire, &name).transaction_state, "Empty", "v{version}");

        join(&mut wire, &name, who, &group, version);
        if version >= 3 {
            let member = request.clone().with_generation_id(3).with_member_id(string("nobody"));
            assert_eq!(commit(&mut wire, &member, version), [ILLEGAL_GENERATION; 2], "v{version}");
        }
        assert_eq!(offsets(&mut wire, &group, &topic, true), [(NONE, -1); 2], "v{version}");
        assert_eq!(commit(&mut wire, &request, version), [NONE; 2], "v{version}");
        // another producer has taken the id: what is open is aborted, and who had it is told
        let next = init(&mut wire, &name, 4);
        assert_eq!(stable_offsets(&mut wire, &group, &topic), [-1, -1]);
        assert_eq!(commit(&mut wire, &request, version), [INVALID_PRODUCER_EPOCH; 2], "v{version}");
        // and the group goes on
        join(&mut wire, &name, next, &group, version);
        let request = commit_request(&name, next, &group, &topic);
        assert_eq!(commit(&mut wire, &request, version), [NONE; 2], "v{version}");
        end(&mut wire, &name, next, true, if version < ADDS_FROM { 4 } else { 5 }).unwrap();
        assert_eq!(stable_offsets(&mut wire, &group, &topic), [10, 11], "v{version}");
    }
}

/// A commit outside of it that lies behind those of a transaction stays.
#[test]
fn a_later_commit_overtakes_a_pending_one() {
    let (_broker, mut wire) = started(2);
    find_group(&mut wire);
    wire.create_topic("t", 2, &[]);
    let who = init(&mut wire, "id", 5);
    assert_eq!(commit(&mut wire, &commit_request("id", who, "g", "t"), 5), [NONE, NONE]);
    let partition = OffsetCommitRequestPartition::default()
        .with_partition_index(1)
        .with_committed_offset(99)
        .with_committed_metadata(Some(string("")));
    let topic = OffsetCommitRequestTopic::default()
        .with_name(TopicName(string("t")))
        .with_partitions(vec![partition]);
    let plain = OffsetCommitRequest::default()
        .with_group_id(GroupId(string("g")))
        .with_generation_id_or_member_epoch(-1)
        .with_retention_time_ms(-1)
        .with_topics(vec![topic]);
    assert_eq!(wire.call(&plain, 8).topics[0].partitions[0].error_code, NONE);
    end(&mut wire, "id", who, true, 5).unwrap();
    assert_eq!(stable_offsets(&mut wire, "g", "t"), [10, 99]);
}

#[test]
fn pending_offsets_and_their_end_survive_a_kill() {
    let (mut broker, mut wire) = started(2);
    find_group(&mut wire);
    let topic = wire::unique("killed");
    wire.create_topic(&topic, 2, &[]);
    for (version, of_end) in [(3, 4), (5, 5)] {
        let (name, group) = (wire::unique("id"), wire::unique("group"));
        let (open, other) = (wire::unique("open"), wire::unique("other"));
        let (who, pending) = (init(&mut wire, &name, 4), init(&mut wire, &open, 4));
        join(&mut wire, &name, who, &group, version);
        join(&mut wire, &open, pending, &other, version);
        assert_eq!(commit(&mut wire, &commit_request(&name, who, &group, &topic), version), [NONE; 2]);
        assert_eq!(commit(&mut wire, &commit_request(&open, pending, &other, &topic), version), [NONE; 2]);
        end(&mut wire, &name, who, true, of_end).unwrap();
        broker.kill();
        broker.restart();
        wire = Wire::connect(broker.bootstrap());
        let begun = Instant::now();
        while describe(&mut wire, &name).error_code != NONE || describe(&mut wire, &open).error_code != NONE {
            assert!(begun.elapsed() < PATIENCE, "the coordinator is never there");
        }
        wait_for_state(&mut wire, &name, "CompleteCommit");
        assert_eq!(stable_offsets(&mut wire, &group, &topic), [10, 11], "v{version}");
        assert_eq!(offsets(&mut wire, &other, &topic, true), [(UNSTABLE_OFFSET_COMMIT, -1); 2]);
        end(&mut wire, &open, pending, true, of_end).unwrap();
        assert_eq!(stable_offsets(&mut wire, &other, &topic), [10, 11], "v{version}");
    }
}

//! Committed offsets of groups without members: every version of OffsetCommit and OffsetFetch, what a kill leaves, what a topic's end
//! takes with it, and that the topic they are in is Kafka's.

use std::collections::BTreeMap;

use bytes::Bytes;
use kafka_protocol::messages::delete_groups_response::DeletableGroupResult;
use kafka_protocol::messages::find_coordinator_response::Coordinator;
use kafka_protocol::messages::offset_commit_request::{
    OffsetCommitRequestPartition, OffsetCommitRequestTopic,
};
use kafka_protocol::messages::offset_delete_request::{
    OffsetDeleteRequestPartition, OffsetDeleteRequestTopic,
};
use kafka_protocol::messages::offset_fetch_request::{
    OffsetFetchRequestGroup, OffsetFetchRequestTopic, OffsetFetchRequestTopics,
};
use kafka_protocol::messages::{
    DeleteGroupsRequest, FindCoordinatorRequest, GroupId, ListGroupsRequest, OffsetCommitRequest,
    OffsetDeleteRequest, OffsetFetchRequest, TopicName,
};

use crate::admin::Scrape;
use crate::harness::{Broker, Setup};
use crate::wire::{self, Wire, batch, string};

const NONE: i16 = 0;
const UNKNOWN_TOPIC_OR_PARTITION: i16 = 3;
const OFFSET_METADATA_TOO_LARGE: i16 = 12;
const ILLEGAL_GENERATION: i16 = 22;
const GROUP_ID_NOT_FOUND: i16 = 69;
const INVALID_REQUEST: i16 = 42;
const INVALID_TOPIC: i16 = 17;

fn name(topic: &str) -> TopicName {
    TopicName(string(topic))
}

fn group(id: &str) -> GroupId {
    GroupId(string(id))
}

fn commit_request(id: &str, topic: &str, offsets: &[(i32, i64)], metadata: &str) -> OffsetCommitRequest {
    let partitions = offsets.iter().map(|&(partition, offset)| {
        OffsetCommitRequestPartition::default()
            .with_partition_index(partition)
            .with_committed_offset(offset)
            .with_committed_leader_epoch(-1)
            .with_committed_metadata(Some(string(metadata)))
    });
    let topic =
        OffsetCommitRequestTopic::default().with_name(name(topic)).with_partitions(partitions.collect());
    OffsetCommitRequest::default()
        .with_group_id(group(id))
        .with_generation_id_or_member_epoch(-1)
        .with_retention_time_ms(-1)
        .with_topics(vec![topic])
}

/// The errors, by partition.
fn commit(wire: &mut Wire, request: &OffsetCommitRequest, version: i16) -> Vec<i16> {
    let topics = wire.call(request, version).topics;
    topics.iter().flat_map(|topic| topic.partitions.iter().map(|partition| partition.error_code)).collect()
}

/// All offsets of a group, by topic and partition.
fn offsets(wire: &mut Wire, id: &str) -> BTreeMap<(String, i32), i64> {
    let wanted =
        OffsetFetchRequestGroup::default().with_group_id(group(id)).with_member_epoch(-1).with_topics(None);
    let fetched = wire.call(&OffsetFetchRequest::default().with_groups(vec![wanted]), 9).groups.remove(0);
    assert_eq!(fetched.error_code, NONE);
    let of_topics = fetched.topics.into_iter().flat_map(|topic| {
        let name = topic.name.to_string();
        topic
            .partitions
            .into_iter()
            .map(move |partition| ((name.clone(), partition.partition_index), partition.committed_offset))
    });
    of_topics.collect()
}

fn coordinator(wire: &mut Wire, key_type: i8, key: &str, version: i16) -> Coordinator {
    let request = FindCoordinatorRequest::default().with_key_type(key_type);
    if version < 4 {
        let found = wire.call(&request.with_key(string(key)), version);
        return Coordinator::default()
            .with_error_code(found.error_code)
            .with_node_id(found.node_id)
            .with_host(found.host)
            .with_port(found.port);
    }
    wire.call(&request.with_coordinator_keys(vec![string(key)]), version).coordinators.remove(0)
}

fn started(shards: usize) -> (Broker, Wire) {
    let broker = Setup::new().shards(shards).set("offsets.topic.num.partitions", 8).start();
    let mut wire = Wire::connect(broker.bootstrap());
    assert_eq!(coordinator(&mut wire, 0, "any", 6).error_code, NONE);
    (broker, wire)
}

#[test]
fn the_first_question_for_a_coordinator_makes_the_topic() {
    let broker = Setup::new().shards(2).start();
    let mut wire = Wire::connect(broker.bootstrap());
    for version in 0..=6 {
        let found = coordinator(&mut wire, 0, "group", version);
        assert_eq!((found.error_code, found.node_id.0), (NONE, 1), "v{version}");
        assert_eq!(format!("{}:{}", found.host.as_str(), found.port), broker.bootstrap());
    }
    let topic = wire.metadata("__consumer_offsets").topics.remove(0);
    assert_eq!((topic.error_code, topic.is_internal, topic.partitions.len()), (NONE, true, 50));
    for (key_type, version) in [(2, 6), (2, 5), (9, 6)] {
        assert_eq!(coordinator(&mut wire, key_type, "key", version).error_code, INVALID_REQUEST);
    }
    // clients may not write to it
    let refused = wire.produce("__consumer_offsets", 0, -1, batch(&[Bytes::from_static(b"x")]));
    assert_eq!(refused.error_code, INVALID_TOPIC);
}

#[test]
fn what_is_committed_is_fetched_in_every_version() {
    let (_broker, mut wire) = started(2);
    let topic = wire::unique("committed");
    wire.create_topic(&topic, 3, &[]);
    for version in 2..=9 {
        let id = wire::unique("group");
        let request = commit_request(&id, &topic, &[(0, 10), (2, 30), (3, 40)], "märk");
        assert_eq!(
            commit(&mut wire, &request, version),
            [NONE, NONE, UNKNOWN_TOPIC_OR_PARTITION],
            "v{version}"
        );
        assert_eq!(
            offsets(&mut wire, &id),
            BTreeMap::from([((topic.clone(), 0), 10), ((topic.clone(), 2), 30)])
        );
        let long = commit_request(&id, &topic, &[(1, 1)], &"m".repeat(4_097));
        assert_eq!(commit(&mut wire, &long, version), [OFFSET_METADATA_TOO_LARGE]);
        let elsewhere = commit_request(&id, "no-such-topic", &[(0, 1)], "");
        assert_eq!(commit(&mut wire, &elsewhere, version), [UNKNOWN_TOPIC_OR_PARTITION]);
        let of_member = commit_request("nobody", &topic, &[(0, 1)], "").with_generation_id_or_member_epoch(3);
        let error = if version < 9 { ILLEGAL_GENERATION } else { GROUP_ID_NOT_FOUND };
        assert_eq!(commit(&mut wire, &of_member, version), [error]);
    }
    let id = wire::unique("fetched");
    assert_eq!(commit(&mut wire, &commit_request(&id, &topic, &[(1, 11)], "note"), 8), [NONE]);
    for version in 1..=9 {
        let found: Vec<(i32, i64, String, i16)> = if version < 8 {
            let wanted = OffsetFetchRequestTopic::default()
                .with_name(name(&topic))
                .with_partition_indexes(vec![0, 1, 7]);
            let request =
                OffsetFetchRequest::default().with_group_id(group(&id)).with_topics(Some(vec![wanted]));
            let partitions = wire.call(&request, version).topics.remove(0).partitions;
            let told = partitions.into_iter().map(|p| {
                (p.partition_index, p.committed_offset, p.metadata.unwrap().to_string(), p.error_code)
            });
            told.collect()
        } else {
            let wanted = OffsetFetchRequestTopics::default()
                .with_name(name(&topic))
                .with_partition_indexes(vec![0, 1, 7]);
            let of_group = |id: &str| {
                OffsetFetchRequestGroup::default()
                    .with_group_id(group(id))
                    .with_member_epoch(-1)
                    .with_topics(Some(vec![wanted.clone()]))
            };
            let request = OffsetFetchRequest::default().with_groups(vec![of_group(&id), of_group("nobody")]);
            let mut groups = wire.call(&request, version).groups;
            let of_nobody = groups.remove(1);
            assert_eq!(of_nobody.error_code, NONE);
            assert!(of_nobody.topics[0].partitions.iter().all(|partition| partition.committed_offset == -1));
            let partitions = groups.remove(0).topics.remove(0).partitions;
            let told = partitions.into_iter().map(|p| {
                (p.partition_index, p.committed_offset, p.metadata.unwrap().to_string(), p.error_code)
            });
            told.collect()
        };
        let none = |index| (index, -1, String::new(), NONE);
        assert_eq!(found, [none(0), (1, 11, "note".to_owned(), NONE), none(7)], "v{version}");
    }
}

/// Commits are answered when they are durable: kill -9 at any moment, one shard or three, loses none.
#[test]
fn what_was_answered_is_there_after_a_kill() {
    let (mut broker, mut wire) = started(3);
    let topic = wire::unique("kept");
    wire.create_topic(&topic, 4, &[]);
    let groups: Vec<String> = (0..20).map(|_| wire::unique("kept-group")).collect();
    let mut expected = BTreeMap::new();
    for round in 1..=3 {
        for (at, id) in groups.iter().enumerate() {
            let partition = i32::try_from(at % 4).unwrap();
            let request = commit_request(id, &topic, &[(partition, round)], "");
            assert_eq!(commit(&mut wire, &request, 8), [NONE]);
            expected.insert((id.clone(), partition), round);
        }
        broker.kill();
        broker.restart_on(usize::try_from(round).unwrap());
        wire = Wire::connect(broker.bootstrap());
        for ((id, partition), offset) in &expected {
            let found = loaded_offsets(&mut wire, id);
            assert_eq!(found, BTreeMap::from([((topic.clone(), *partition), *offset)]), "{id}");
        }
    }
    let listed = wire.call(&ListGroupsRequest::default(), 5).groups;
    let mut names: Vec<String> = listed.iter().map(|group| group.group_id.to_string()).collect();
    names.sort();
    let mut all = groups;
    all.sort();
    assert_eq!(names, all);
    assert!(listed.iter().all(|group| group.group_state.as_str() == "Empty"));
}

/// As [`offsets`], asking again while the coordinator loads.
fn loaded_offsets(wire: &mut Wire, id: &str) -> BTreeMap<(String, i32), i64> {
    const COORDINATOR_LOAD_IN_PROGRESS: i16 = 14;
    let wanted =
        OffsetFetchRequestGroup::default().with_group_id(group(id)).with_member_epoch(-1).with_topics(None);
    let request = OffsetFetchRequest::default().with_groups(vec![wanted]);
    while wire.call(&request, 9).groups[0].error_code == COORDINATOR_LOAD_IN_PROGRESS {}
    offsets(wire, id)
}

#[test]
fn offsets_go_with_their_topic_with_their_group_and_one_by_one() {
    let (mut broker, mut wire) = started(2);
    let (gone, kept) = (wire::unique("gone"), wire::unique("kept"));
    let ids: Vec<String> = (0..8).map(|_| wire::unique("group")).collect();
    for topic in [&gone, &kept] {
        wire.create_topic(topic, 2, &[]);
        for id in &ids {
            assert_eq!(commit(&mut wire, &commit_request(id, topic, &[(0, 5), (1, 6)], ""), 9), [NONE, NONE]);
        }
    }
    wire.delete_topic(&gone);
    wire.create_topic(&gone, 2, &[]);
    let left = BTreeMap::from([((kept.clone(), 0), 5), ((kept.clone(), 1), 6)]);
    for id in &ids {
        assert_eq!(offsets(&mut wire, id), left, "a new topic of the same name begins anew");
    }

    let partition = |index| OffsetDeleteRequestPartition::default().with_partition_index(index);
    let of = |topic: &str| {
        OffsetDeleteRequestTopic::default()
            .with_name(name(topic))
            .with_partitions(vec![partition(0), partition(9)])
    };
    let delete =
        |id: &str| OffsetDeleteRequest::default().with_group_id(group(id)).with_topics(vec![of(&kept)]);
    let answer = wire.call(&delete(&ids[0]), 0);
    assert_eq!(answer.error_code, NONE);
    let mut errors: Vec<(i32, i16)> = (answer.topics.iter())
        .flat_map(|topic| topic.partitions.iter().map(|p| (p.partition_index, p.error_code)))
        .collect();
    errors.sort_unstable();
    assert_eq!(errors, [(0, NONE), (9, UNKNOWN_TOPIC_OR_PARTITION)]);
    assert_eq!(wire.call(&delete("nobody"), 0).error_code, GROUP_ID_NOT_FOUND);

    for version in 0..=2 {
        let id = &ids[usize::try_from(version).unwrap() + 1];
        let request = DeleteGroupsRequest::default().with_groups_names(vec![group(id), group("nobody")]);
        let results = wire.call(&request, version).results;
        let error = |id: &str| {
            let of_group = |result: &&DeletableGroupResult| result.group_id.as_str() == id;
            results.iter().find(of_group).expect("each is answered").error_code
        };
        assert_eq!((error(id), error("nobody")), (NONE, GROUP_ID_NOT_FOUND), "v{version}");
    }
    broker.kill();
    broker.restart();
    let mut wire = Wire::connect(broker.bootstrap());
    assert_eq!(loaded_offsets(&mut wire, &ids[0]), BTreeMap::from([((kept.clone(), 1), 6)]));
    for id in &ids[1..4] {
        assert_eq!(loaded_offsets(&mut wire, id), BTreeMap::new());
    }
    for id in &ids[4..] {
        assert_eq!(loaded_offsets(&mut wire, id), left);
    }
}

#[test]
fn the_lag_of_every_group_is_told() {
    let (broker, mut wire) = started(3);
    let topic = wire::unique("lagging");
    wire.create_topic(&topic, 3, &[]);
    for (partition, count) in [(0, 7), (1, 2)] {
        for _ in 0..count {
            let value = batch(&[Bytes::from_static(b"x")]);
            assert_eq!(wire.produce(&topic, partition, -1, value).error_code, NONE);
        }
    }
    for (id, offsets) in [("behind", [(0, 3), (1, 2)]), ("ahead", [(0, 9), (2, 0)])] {
        assert_eq!(commit(&mut wire, &commit_request(id, &topic, &offsets, ""), 9), [NONE, NONE]);
    }
    let scrape = Scrape::page(&broker, "/metrics/groups");
    let lag = |group: &str, partition: &str| {
        scrape.sum("corelane_group_lag", &[("group", group), ("topic", &topic), ("partition", partition)])
    };
    assert_eq!((lag("behind", "0"), lag("behind", "1")), (4.0, 0.0));
    assert_eq!((lag("ahead", "0"), lag("ahead", "2")), (0.0, 0.0));
    assert_eq!(scrape.sum("corelane_group_lag_of_all_partitions", &[("group", "behind")]), 4.0);
    let group = [("group", "behind"), ("state", "Empty"), ("protocol", "classic")];
    assert_eq!(scrape.sum("corelane_group_members", &group), 0.0);
    let all = Scrape::of(&broker);
    assert_eq!(all.sum("corelane_groups", &[]), 2.0);
    assert_eq!(all.sum("corelane_group_committed_offsets_total", &[]), 4.0);
    assert_eq!(all.sum("corelane_group_coordinators", &[]), 8.0);
}

/// Groups may be loading still when a broker that has just started is asked to delete a topic.
#[test]
fn offsets_go_with_a_topic_that_is_deleted_while_groups_are_loaded() {
    let (mut broker, mut wire) = started(3);
    let ids: Vec<String> = (0..50).map(|_| wire::unique("group")).collect();
    for round in 0..5 {
        let topic = wire::unique("gone");
        wire.create_topic(&topic, 1, &[]);
        for id in &ids {
            while commit(&mut wire, &commit_request(id, &topic, &[(0, round)], ""), 9) != [NONE] {}
        }
        broker.kill();
        broker.restart();
        wire = Wire::connect(broker.bootstrap());
        wire.delete_topic(&topic);
        wire.create_topic(&topic, 1, &[]);
        for id in &ids {
            assert_eq!(loaded_offsets(&mut wire, id), BTreeMap::new(), "round {round}");
        }
    }
}

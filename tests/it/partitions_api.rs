//! The APIs about partitions (how many, where, who leads), each in every version: what is asked is answered, in that
//! version's own format, and errors are Kafka's.

use bytes::Bytes;
use kafka_protocol::messages::alter_partition_reassignments_request::{
    ReassignablePartition, ReassignableTopic,
};
use kafka_protocol::messages::create_partitions_request::{
    CreatePartitionsAssignment, CreatePartitionsTopic,
};
use kafka_protocol::messages::describe_topic_partitions_request::{Cursor, TopicRequest};
use kafka_protocol::messages::elect_leaders_request::TopicPartitions;
use kafka_protocol::messages::list_partition_reassignments_request::ListPartitionReassignmentsTopics;
use kafka_protocol::messages::{
    AlterPartitionReassignmentsRequest, BrokerId, CreatePartitionsRequest, DescribeTopicPartitionsRequest,
    ElectLeadersRequest, ListPartitionReassignmentsRequest, TopicName,
};

use crate::admin::Scrape;
use crate::harness::Setup;
use crate::wire::{self, Wire, batch, string};

const NONE: i16 = 0;
const UNKNOWN_TOPIC_OR_PARTITION: i16 = 3;
const INVALID_TOPIC: i16 = 17;
const INVALID_PARTITIONS: i16 = 37;
const INVALID_REPLICA_ASSIGNMENT: i16 = 39;
const INVALID_REQUEST: i16 = 42;
const ELECTION_NOT_NEEDED: i16 = 84;
const NO_REASSIGNMENT_IN_PROGRESS: i16 = 85;

fn name(topic: &str) -> TopicName {
    TopicName(string(topic))
}

fn brokers(ids: &[i32]) -> Vec<BrokerId> {
    ids.iter().map(|&id| BrokerId(id)).collect()
}

fn grown(topic: &str, count: i32, assignments: Option<&[&[i32]]>) -> CreatePartitionsTopic {
    let assigned = |ids: &&[i32]| CreatePartitionsAssignment::default().with_broker_ids(brokers(ids));
    CreatePartitionsTopic::default()
        .with_name(name(topic))
        .with_count(count)
        .with_assignments(assignments.map(|assignments| assignments.iter().map(assigned).collect()))
}

#[test]
fn create_partitions() {
    let broker = Setup::new().shards(2).start();
    let mut wire = Wire::connect(broker.bootstrap());
    for version in 0..=3 {
        let topic = wire::unique("grow");
        let (manual, twice) = (wire::unique("manual"), wire::unique("twice"));
        for topic in [&topic, &manual, &twice] {
            wire.create_topic(topic, 2, &[]);
        }
        let value = || batch(&[Bytes::from_static(b"before")]);
        assert_eq!(wire.produce(&topic, 1, -1, value()).error_code, NONE);
        let before = wire.metadata(&topic).topics.remove(0);
        let create = |wire: &mut Wire, topics: Vec<CreatePartitionsTopic>, validate_only: bool| {
            let request = CreatePartitionsRequest::default()
                .with_topics(topics)
                .with_timeout_ms(30_000)
                .with_validate_only(validate_only);
            let answer = wire.call(&request, version);
            let told = answer.results.into_iter().map(|told| {
                assert_eq!(told.error_message.is_some(), told.error_code != NONE, "v{version}: {told:?}");
                (told.name.to_string(), told.error_code)
            });
            told.collect::<Vec<_>>()
        };
        let one = |wire: &mut Wire, topic: CreatePartitionsTopic| create(wire, vec![topic], false)[0].1;
        let told = create(&mut wire, vec![grown(&topic, 5, None)], true);
        assert_eq!(told, [(topic.clone(), NONE)], "v{version}");
        assert_eq!(wire.metadata(&topic).topics[0].partitions.len(), 2, "v{version}: only tried");

        let told =
            create(&mut wire, vec![grown(&topic, 5, None), grown(&manual, 4, Some(&[&[1], &[1]]))], false);
        assert_eq!(told, [(topic.clone(), NONE), (manual.clone(), NONE)], "v{version}");
        let after = wire.metadata(&topic).topics.remove(0);
        assert_eq!((after.partitions.len(), after.topic_id), (5, before.topic_id), "v{version}");
        assert_eq!(after.partitions[..2], before.partitions, "v{version}: what was there is as it was");
        for (index, partition) in (0..).zip(&after.partitions) {
            assert_eq!((partition.partition_index, partition.error_code), (index, NONE));
            assert_eq!((partition.leader_id, partition.leader_epoch), (BrokerId(1), 0));
            // it can be written to as soon as it is told
            assert_eq!(wire.produce(&topic, index, -1, value()).error_code, NONE, "v{version}");
        }
        assert_eq!((wire.end_offset(&topic, 1), wire.end_offset(&topic, 4)), (2, 1), "v{version}");
        assert_eq!(wire.metadata(&manual).topics[0].partitions.len(), 4);

        for (asked, expected) in [
            (grown(&topic, 5, None), INVALID_PARTITIONS),
            (grown(&topic, 4, None), INVALID_PARTITIONS),
            (grown(&topic, 0, None), INVALID_PARTITIONS),
            (grown(&topic, -1, None), INVALID_PARTITIONS),
            (grown("nowhere", 5, None), UNKNOWN_TOPIC_OR_PARTITION),
            (grown(&topic, 7, Some(&[&[1]])), INVALID_REPLICA_ASSIGNMENT),
            (grown(&topic, 6, Some(&[])), INVALID_REPLICA_ASSIGNMENT),
            (grown(&topic, 6, Some(&[&[]])), INVALID_REPLICA_ASSIGNMENT),
            (grown(&topic, 6, Some(&[&[1, 1]])), INVALID_REPLICA_ASSIGNMENT),
            (grown(&topic, 6, Some(&[&[2]])), INVALID_REPLICA_ASSIGNMENT),
        ] {
            let shown = format!("v{version}: {asked:?}");
            assert_eq!(one(&mut wire, asked), expected, "{shown}");
        }
        let told = create(
            &mut wire,
            vec![grown(&twice, 3, None), grown("nowhere", 3, None), grown(&twice, 4, None)],
            false,
        );
        let expected = [(twice.clone(), INVALID_REQUEST), ("nowhere".to_owned(), UNKNOWN_TOPIC_OR_PARTITION)];
        assert_eq!(told, expected, "v{version}: named twice, told once");
        assert_eq!(wire.metadata(&twice).topics[0].partitions.len(), 2);
        assert_eq!(wire.metadata(&topic).topics[0].partitions.len(), 5);
    }
}

#[test]
fn new_partitions_are_there_after_a_kill() {
    let mut broker = Setup::new().shards(2).start();
    let mut wire = Wire::connect(broker.bootstrap());
    let topic = wire::unique("grow");
    wire.create_topic(&topic, 1, &[]);
    let request =
        CreatePartitionsRequest::default().with_topics(vec![grown(&topic, 3, None)]).with_timeout_ms(30_000);
    assert_eq!(wire.call(&request, 3).results[0].error_code, NONE);
    for partition in 0..3 {
        assert_eq!(wire.produce(&topic, partition, -1, batch(&[Bytes::from_static(b"x")])).error_code, NONE);
    }
    broker.kill();
    broker.restart();
    let mut wire = Wire::connect(broker.bootstrap());
    let told = wire.metadata(&topic).topics.remove(0);
    assert_eq!(told.partitions.len(), 3);
    for partition in 0..3 {
        assert_eq!(wire.end_offset(&topic, partition), 1);
        assert_eq!(told.partitions[partition as usize].leader_epoch, 1);
    }
}

/// What a page tells: topics with their error and partitions, and where the next page begins.
type Page = (Vec<(String, i16, Vec<i32>)>, Option<(String, i32)>);

fn page_request(topics: &[&str], limit: i32, cursor: Option<(&str, i32)>) -> DescribeTopicPartitionsRequest {
    let topics = topics.iter().map(|topic| TopicRequest::default().with_name(name(topic)));
    let cursor = cursor.map(|(topic, partition)| {
        Cursor::default().with_topic_name(name(topic)).with_partition_index(partition)
    });
    DescribeTopicPartitionsRequest::default()
        .with_topics(topics.collect())
        .with_response_partition_limit(limit)
        .with_cursor(cursor)
}

fn page(wire: &mut Wire, topics: &[&str], limit: i32, cursor: Option<(&str, i32)>) -> Page {
    let answer = wire.call(&page_request(topics, limit, cursor), 0);
    let told = answer.topics.into_iter().map(|topic| {
        let indexes = topic.partitions.iter().map(|partition| partition.partition_index);
        let indexes = indexes.collect();
        (topic.name.map(|name| name.to_string()).unwrap_or_default(), topic.error_code, indexes)
    });
    let told = told.collect();
    (told, answer.next_cursor.map(|cursor| (cursor.topic_name.to_string(), cursor.partition_index)))
}

#[test]
fn describe_topic_partitions() {
    let broker = Setup::new().start();
    let mut wire = Wire::connect(broker.bootstrap());
    for (topic, partitions) in [("b", 3), ("a", 2), ("d", 1)] {
        wire.create_topic(topic, partitions, &[]);
    }
    let known =
        |topic: &str, partitions: std::ops::Range<i32>| (topic.to_owned(), NONE, partitions.collect());
    let failed = |topic: &str, error: i16| (topic.to_owned(), error, Vec::new());
    let next = |topic: &str, partition: i32| Some((topic.to_owned(), partition));

    // everything there is, and everything about it
    let answer = wire.call(&page_request(&[], 2000, None), 0);
    let ids: Vec<_> = wire.metadata("a").topics.iter().map(|topic| topic.topic_id).collect();
    assert_eq!(answer.topics[0].topic_id, ids[0]);
    for topic in &answer.topics {
        // read, write, create, delete, alter, describe, describe and alter configs
        assert_eq!((topic.topic_authorized_operations, topic.is_internal), (0b1101_1111_1000, false));
        for partition in &topic.partitions {
            assert_eq!((partition.error_code, partition.leader_epoch), (NONE, 0));
            assert_eq!(partition.leader_id, BrokerId(1));
            assert_eq!((&partition.replica_nodes, &partition.isr_nodes), (&brokers(&[1]), &brokers(&[1])));
            assert_eq!(partition.eligible_leader_replicas, Some(Vec::new()));
            assert_eq!(partition.last_known_elr, Some(Vec::new()));
            assert!(partition.offline_replicas.is_empty());
        }
    }

    let all = vec![known("a", 0..2), known("b", 0..3), known("d", 0..1)];
    assert_eq!(page(&mut wire, &[], 2000, None), (all.clone(), None));
    assert_eq!(page(&mut wire, &[], 6, None), (all.clone(), None), "exactly all");
    assert_eq!(page(&mut wire, &["d", "a", "b", "a"], 2000, None), (all, None), "sorted, and told once");
    // page by page, whatever the size of a page
    for (limit, pages) in [(1, 6), (2, 3), (3, 2), (4, 2), (5, 2), (6, 1), (i32::MAX, 1)] {
        for topics in [&[][..], &["a", "b", "d"]] {
            let (mut told, mut cursor, mut count) = (Vec::new(), None::<(String, i32)>, 0);
            loop {
                let from = cursor.as_ref().map(|(topic, partition)| (topic.as_str(), *partition));
                let (topics, next) = page(&mut wire, topics, limit, from);
                told.extend(topics.into_iter().flat_map(|(topic, error, indexes)| {
                    assert_eq!(error, NONE);
                    indexes.into_iter().map(move |index| format!("{topic}{index}"))
                }));
                count += 1;
                cursor = next;
                if cursor.is_none() {
                    break;
                }
            }
            assert_eq!((told.join(" "), count), ("a0 a1 b0 b1 b2 d0".to_owned(), pages), "limit {limit}");
        }
    }
    assert_eq!(page(&mut wire, &[], 0, None), (vec![known("a", 0..1)], next("a", 1)), "one at least");
    assert_eq!(page(&mut wire, &[], -5, None), (vec![known("a", 0..1)], next("a", 1)));
    assert_eq!(page(&mut wire, &["a", "c"], 2, None), (vec![known("a", 0..2)], next("c", 0)));

    // a cursor to what does not exist (any more)
    let from_b = vec![known("b", 0..3), known("d", 0..1)];
    assert_eq!(page(&mut wire, &[], 2000, Some(("aa", 7))), (from_b.clone(), None));
    let behind = [&[known("a", 0..0)][..], &from_b].concat();
    assert_eq!(page(&mut wire, &[], 2000, Some(("a", i32::MAX))), (behind, None));
    assert_eq!(page(&mut wire, &[], 2000, Some(("z", 0))), (Vec::new(), None));
    assert_eq!(
        page(&mut wire, &["a", "c", "d"], 2000, Some(("c", 3))),
        (vec![failed("c", UNKNOWN_TOPIC_OR_PARTITION), known("d", 0..1)], None)
    );
    assert_eq!(
        page(&mut wire, &["x", "a b", "a"], 1, None),
        (vec![known("a", 0..1)], next("a", 1)),
        "errors stand where the names do"
    );
    assert_eq!(
        page(&mut wire, &["x", "a b", "a"], 3, None),
        (vec![known("a", 0..2), failed("a b", INVALID_TOPIC), failed("x", UNKNOWN_TOPIC_OR_PARTITION)], None)
    );
    // a cursor that is none of this list
    let refused = (vec![failed("b", INVALID_REQUEST), failed("a", INVALID_REQUEST)], None);
    assert_eq!(page(&mut wire, &["b", "a", "b"], 2000, Some(("d", 0))), refused);
    assert_eq!(page(&mut wire, &["b", "a", "b"], 2000, Some(("a", -1))), refused);
    assert_eq!(page(&mut wire, &[], 2000, Some(("a", -1))), (Vec::new(), None));
}

#[test]
fn a_page_has_two_thousand_partitions_at_most() {
    let broker = Setup::new().start();
    let mut wire = Wire::connect(broker.bootstrap());
    wire.create_topic("a", 1500, &[]);
    wire.create_topic("b", 600, &[]);
    let (topics, next) = page(&mut wire, &[], i32::MAX, None);
    let counts: Vec<usize> = topics.iter().map(|(_, _, indexes)| indexes.len()).collect();
    assert_eq!((counts, next), (vec![1500, 500], Some(("b".to_owned(), 500))));
    let (topics, next) = page(&mut wire, &[], i32::MAX, Some(("b", 500)));
    assert_eq!((topics[0].2.len(), topics[0].2[0], next), (100, 500, None));
}

#[test]
fn elect_leaders() {
    let broker = Setup::new().start();
    let mut wire = Wire::connect(broker.bootstrap());
    wire.create_topic("a", 2, &[]);
    wire.create_topic("b", 1, &[]);
    for version in 0..=2 {
        let mut elect = |kind: i8, topics: Option<&[(&str, &[i32])]>| {
            let topics = topics.map(|topics| {
                let of = |(topic, partitions): &(&str, &[i32])| {
                    TopicPartitions::default().with_topic(name(topic)).with_partitions(partitions.to_vec())
                };
                topics.iter().map(of).collect()
            });
            let mut request =
                ElectLeadersRequest::default().with_topic_partitions(topics).with_timeout_ms(30_000);
            if version >= 1 {
                request.election_type = kind;
            }
            let answer = wire.call(&request, version);
            let told = answer.replica_election_results.into_iter().map(|topic| {
                let of = topic.partition_result.iter();
                let codes: Vec<_> = of.map(|told| (told.partition_id, told.error_code)).collect();
                (topic.topic.to_string(), codes)
            });
            (answer.error_code, told.collect::<Vec<_>>())
        };
        let of = |topic: &str, codes: &[(i32, i16)]| (topic.to_owned(), codes.to_vec());
        for kind in [0, 1] {
            assert_eq!(
                elect(kind, Some(&[("b", &[0]), ("a", &[1, 7, 0]), ("nowhere", &[0])])),
                (
                    NONE,
                    vec![
                        of("b", &[(0, ELECTION_NOT_NEEDED)]),
                        of(
                            "a",
                            &[
                                (1, ELECTION_NOT_NEEDED),
                                (7, UNKNOWN_TOPIC_OR_PARTITION),
                                (0, ELECTION_NOT_NEEDED)
                            ]
                        ),
                        of("nowhere", &[(0, UNKNOWN_TOPIC_OR_PARTITION)]),
                    ]
                ),
                "v{version}"
            );
            assert_eq!(elect(kind, None), (NONE, vec![of("a", &[]), of("b", &[])]), "v{version}: all");
            assert_eq!(elect(kind, Some(&[])), (NONE, Vec::new()), "v{version}: none");
        }
        if version >= 1 {
            let told = elect(2, Some(&[("a", &[0, 1])]));
            let refused = of("a", &[(0, INVALID_REQUEST), (1, INVALID_REQUEST)]);
            assert_eq!(told, (INVALID_REQUEST, vec![refused]), "v{version}");
            assert_eq!(elect(-1, None), (INVALID_REQUEST, Vec::new()), "v{version}");
        }
    }
    assert_eq!(wire.metadata("a").topics[0].partitions[0].leader_epoch, 0, "nothing was elected");
}

#[test]
fn partition_reassignments() {
    let broker = Setup::new().start();
    let mut wire = Wire::connect(broker.bootstrap());
    wire.create_topic("a", 2, &[]);
    for version in 0..=1 {
        let mut alter = |topic: &str, partition: i32, replicas: Option<&[i32]>, may_change: bool| {
            let partition = ReassignablePartition::default()
                .with_partition_index(partition)
                .with_replicas(replicas.map(brokers));
            let topic =
                ReassignableTopic::default().with_name(name(topic)).with_partitions(vec![partition.clone()]);
            let mut request = AlterPartitionReassignmentsRequest::default()
                .with_topics(vec![topic.clone()])
                .with_timeout_ms(30_000);
            if version >= 1 {
                request.allow_replication_factor_change = may_change;
            }
            let answer = wire.call(&request, version);
            assert_eq!((answer.error_code, &answer.error_message), (NONE, &None), "v{version}");
            assert_eq!(answer.allow_replication_factor_change, may_change || version == 0);
            assert_eq!((answer.responses.len(), &answer.responses[0].name), (1, &topic.name));
            let [told] = &answer.responses[0].partitions[..] else { panic!("one partition: {answer:?}") };
            assert_eq!(told.partition_index, partition.partition_index);
            assert_eq!(told.error_message.is_some(), told.error_code != NONE, "v{version}: {told:?}");
            told.error_code
        };
        for (topic, partition, replicas, expected) in [
            ("a", 0, Some(&[1][..]), NONE),
            ("a", 1, None, NO_REASSIGNMENT_IN_PROGRESS),
            ("a", 2, None, UNKNOWN_TOPIC_OR_PARTITION),
            ("a", -1, Some(&[1]), UNKNOWN_TOPIC_OR_PARTITION),
            ("nowhere", 0, None, UNKNOWN_TOPIC_OR_PARTITION),
            ("a", 0, Some(&[]), INVALID_REPLICA_ASSIGNMENT),
            ("a", 0, Some(&[1, 1]), INVALID_REPLICA_ASSIGNMENT),
            ("a", 0, Some(&[2]), INVALID_REPLICA_ASSIGNMENT),
            ("a", 0, Some(&[1, 2]), INVALID_REPLICA_ASSIGNMENT),
            ("a", 0, Some(&[-1]), INVALID_REPLICA_ASSIGNMENT),
        ] {
            for may_change in [true, false] {
                let told = alter(topic, partition, replicas, may_change);
                assert_eq!(told, expected, "v{version}: {topic}-{partition} {replicas:?} {may_change}");
            }
        }
    }
    let list = |topics: Option<&[&str]>| {
        let topics = topics.map(|topics| {
            let of = |topic: &&str| {
                ListPartitionReassignmentsTopics::default()
                    .with_name(name(topic))
                    .with_partition_indexes(vec![0, 1, 9, -1])
            };
            topics.iter().map(of).collect()
        });
        ListPartitionReassignmentsRequest::default().with_topics(topics).with_timeout_ms(30_000)
    };
    for topics in [None, Some(&[][..]), Some(&["a", "nowhere"])] {
        let answer = wire.call(&list(topics), 0);
        assert_eq!(
            (answer.error_code, answer.error_message, answer.topics.len()),
            (NONE, None, 0),
            "{topics:?}"
        );
    }
    let told = wire.metadata("a").topics.remove(0);
    assert_eq!((&told.partitions[0].replica_nodes, told.partitions[0].leader_epoch), (&brokers(&[1]), 0));
}

/// New topics go where there is less to do, not only where there are fewer partitions.
#[test]
fn new_partitions_go_where_there_is_less_to_do() {
    let broker = Setup::new().shards(2).start();
    let mut wire = Wire::connect(broker.bootstrap());
    let on = |shard: &str| Scrape::of(&broker).sum("corelane_partitions", &[("shard", shard)]);
    let create = |wire: &mut Wire, count: usize| {
        (0..count).for_each(|_| wire.create_topic(&wire::unique("one"), 1, &[]));
    };
    let before = [on("0"), on("1")];
    create(&mut wire, 6);
    assert_eq!([on("0") - before[0], on("1") - before[1]], [3.0, 3.0], "none has done anything yet");
    // a topic of one partition does it all; where it is, is seen from what comes next
    let busy = wire::unique("busy");
    wire.create_topic(&busy, 1, &[]);
    let value = Bytes::from(vec![b'~'; 500_000]);
    (0..20).for_each(|_| {
        assert_eq!(wire.produce(&busy, 0, -1, batch(std::slice::from_ref(&value))).error_code, NONE)
    });
    let before = [on("0"), on("1")];
    create(&mut wire, 4);
    let mut came = [on("0") - before[0], on("1") - before[1]];
    came.sort_by(f64::total_cmp);
    assert_eq!(came, [0.0, 4.0], "each counts as a seventh of it");
    // a topic of several is spread all the same
    let before = [on("0"), on("1")];
    wire.create_topic(&wire::unique("four"), 4, &[]);
    assert_eq!([on("0") - before[0], on("1") - before[1]], [2.0, 2.0]);
}

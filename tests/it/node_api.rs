//! The APIs about this node itself, its log directories and its part in the quorum, each in every version.

use std::collections::HashMap;

use bytes::Bytes;
use kafka_protocol::messages::describe_log_dirs_request::DescribableLogDirTopic;
use kafka_protocol::messages::describe_quorum_request::{PartitionData, TopicData};
use kafka_protocol::messages::{BrokerId, DescribeLogDirsRequest, DescribeQuorumRequest, TopicName};

use crate::harness::Setup;
use crate::wire::{self, Wire, batch, string};

const NONE: i16 = 0;
const UNKNOWN_TOPIC_OR_PARTITION: i16 = 3;

fn name(topic: &str) -> TopicName {
    TopicName(string(topic))
}

/// Topic and partition, and the size of its log.
type Sizes = HashMap<(String, i32), i64>;

#[test]
fn describe_log_dirs() {
    let broker = Setup::new().shards(2).start();
    let mut wire = Wire::connect(broker.bootstrap());
    let (topic, other) = (wire::unique("sizes"), wire::unique("other"));
    wire.create_topic(&topic, 4, &[]);
    wire.create_topic(&other, 1, &[]);
    let one = batch(&[Bytes::from(vec![b'v'; 1000])]);
    let bytes = i64::try_from(one.len()).expect("a batch is small");
    // as many batches as the index says
    for partition in 0..4 {
        for _ in 0..partition {
            assert_eq!(wire.produce(&topic, partition, -1, one.clone()).error_code, NONE);
        }
    }
    for version in 1..=4 {
        let mut describe = |topics: Option<&[(&str, &[i32])]>| {
            let topics = topics.map(|topics| {
                let of = |(topic, partitions): &(&str, &[i32])| {
                    DescribableLogDirTopic::default()
                        .with_topic(name(topic))
                        .with_partitions(partitions.to_vec())
                };
                topics.iter().map(of).collect()
            });
            let answer = wire.call(&DescribeLogDirsRequest::default().with_topics(topics), version);
            assert_eq!(answer.error_code, NONE, "v{version}");
            let [directory] = &answer.results[..] else { panic!("one directory: {answer:?}") };
            assert_eq!(directory.error_code, NONE, "v{version}");
            assert_eq!(directory.log_dir.as_str(), broker.data().to_string_lossy(), "v{version}");
            let (total, usable) = (directory.total_bytes, directory.usable_bytes);
            assert!(if version >= 4 { 0 < usable && usable <= total } else { total == -1 && usable == -1 });
            let mut sizes = Sizes::new();
            for topic in &directory.topics {
                for log in &topic.partitions {
                    assert_eq!((log.offset_lag, log.is_future_key), (0, false), "v{version}");
                    let twice =
                        sizes.insert((topic.name.to_string(), log.partition_index), log.partition_size);
                    assert_eq!(twice, None, "v{version}: told once");
                }
            }
            sizes
        };
        let of_topic = |index: i32| ((topic.clone(), index), i64::from(index) * bytes);
        let all: Sizes = (0..4).map(of_topic).chain([((other.clone(), 0), 0)]).collect();
        assert_eq!(describe(None), all, "v{version}");
        assert_eq!(describe(Some(&[])), Sizes::new(), "v{version}: none");
        let some = [(topic.as_str(), &[3, 1, 9, 3][..]), ("nowhere", &[0])];
        assert_eq!(describe(Some(&some)), [1, 3].map(of_topic).into(), "v{version}");
    }
}

#[test]
fn describe_quorum() {
    let mut broker = Setup::new().shards(2).start();
    for epoch in 0..2 {
        // a connection of each shard
        for _ in 0..4 {
            let mut wire = Wire::connect(broker.bootstrap());
            for version in 0..=2 {
                let mut end = -1;
                for _ in 0..2 {
                    let answer = wire.call(&quorum_of(&[("__cluster_metadata", &[0])]), version);
                    assert_eq!((answer.error_code, answer.topics.len()), (NONE, 1), "v{version}");
                    let told = &answer.topics[0].partitions[0];
                    assert_eq!((told.error_code, told.partition_index), (NONE, 0), "v{version}");
                    assert_eq!((told.leader_id, told.leader_epoch), (BrokerId(1), epoch), "v{version}");
                    assert!(told.observers.is_empty());
                    let [voter] = &told.current_voters[..] else { panic!("one voter: {told:?}") };
                    assert_eq!((voter.replica_id, voter.log_end_offset), (BrokerId(1), told.high_watermark));
                    let now = wire::now_ms();
                    for time in [voter.last_fetch_timestamp, voter.last_caught_up_timestamp] {
                        assert!(if version >= 1 { (now - time).abs() < 600_000 } else { time == -1 });
                    }
                    assert_eq!(voter.replica_directory_id.is_nil(), version < 2, "v{version}");
                    let nodes: Vec<_> =
                        answer.nodes.iter().map(|node| (node.node_id, &node.listeners)).collect();
                    if version >= 2 {
                        let [(BrokerId(1), listeners)] = nodes[..] else { panic!("one node: {nodes:?}") };
                        let address = format!("{}:{}", &*listeners[0].host, listeners[0].port);
                        assert_eq!(
                            (listeners[0].name.as_str(), &*address),
                            ("PLAINTEXT", broker.bootstrap())
                        );
                    } else {
                        assert!(nodes.is_empty());
                    }
                    // every change of the cluster is a record
                    assert!(told.high_watermark > end, "v{version}");
                    end = told.high_watermark;
                    wire.create_topic(&wire::unique("more"), 1, &[]);
                }
                for odd in [
                    &[("__cluster_metadata", &[1][..])][..],
                    &[("__cluster_metadata", &[0, 0])],
                    &[("nowhere", &[0])],
                    &[("__cluster_metadata", &[0]), ("nowhere", &[0])],
                ] {
                    let answer = wire.call(&quorum_of(odd), version);
                    assert_eq!((answer.error_code, answer.nodes.len()), (NONE, 0), "v{version}");
                    let told = answer.topics.iter().flat_map(|topic| &topic.partitions);
                    let codes: Vec<i16> = told.map(|told| told.error_code).collect();
                    let asked = odd.iter().map(|(_, partitions)| partitions.len()).sum();
                    assert_eq!(codes, vec![UNKNOWN_TOPIC_OR_PARTITION; asked], "v{version}: {odd:?}");
                }
            }
        }
        broker.stop();
        broker.restart();
    }
}

fn quorum_of(topics: &[(&str, &[i32])]) -> DescribeQuorumRequest {
    let topics = topics.iter().map(|(topic, partitions)| {
        let partition = |&index: &i32| PartitionData::default().with_partition_index(index);
        TopicData::default()
            .with_topic_name(name(topic))
            .with_partitions(partitions.iter().map(partition).collect())
    });
    DescribeQuorumRequest::default().with_topics(topics.collect())
}

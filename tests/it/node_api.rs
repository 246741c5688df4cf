//! The APIs about this node itself, its log directories and its part in the quorum, each in every version.

use std::collections::HashMap;

use bytes::Bytes;
use kafka_protocol::messages::alter_replica_log_dirs_request::{AlterReplicaLogDir, AlterReplicaLogDirTopic};
use kafka_protocol::messages::describe_log_dirs_request::DescribableLogDirTopic;
use kafka_protocol::messages::describe_quorum_request::{PartitionData, TopicData};
use kafka_protocol::messages::update_features_request::FeatureUpdateKey;
use kafka_protocol::messages::{
    AlterReplicaLogDirsRequest, BrokerId, DescribeLogDirsRequest, DescribeQuorumRequest, TopicName,
    UpdateFeaturesRequest,
};

use crate::harness::Setup;
use crate::wire::{self, Wire, batch, string};

const NONE: i16 = 0;
const UNKNOWN_TOPIC_OR_PARTITION: i16 = 3;
const LOG_DIR_NOT_FOUND: i16 = 57;
const INVALID_UPDATE_VERSION: i16 = 95;

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
    for epoch in 1..3 {
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

#[test]
fn update_features() {
    let broker = Setup::new().start();
    let mut wire = Wire::connect(broker.bootstrap());
    const UPGRADE: i8 = 1;
    const SAFE: i8 = 2;
    const UNSAFE: i8 = 3;
    for version in 0..=2 {
        let mut update = |updates: &[(&str, i16, i8)], validate_only: bool| {
            let updates = updates.iter().map(|(feature, level, upgrade)| {
                let key =
                    FeatureUpdateKey::default().with_feature(string(feature)).with_max_version_level(*level);
                if version == 0 {
                    key.with_allow_downgrade(*upgrade != UPGRADE)
                } else {
                    key.with_upgrade_type(*upgrade)
                }
            });
            let mut request = UpdateFeaturesRequest::default().with_feature_updates(updates.collect());
            if version >= 1 {
                request = request.with_validate_only(validate_only);
            }
            let answer = wire.call(&request, version);
            assert_eq!(answer.error_message.is_some(), answer.error_code != NONE, "v{version}: {answer:?}");
            let results = answer.results.iter().map(|result| (result.feature.to_string(), result.error_code));
            (answer.error_code, results.collect::<Vec<_>>())
        };
        let told = |names: &[&str]| {
            // since version 2 nothing is told of each
            let names = if version <= 1 { names } else { &[] };
            names.iter().map(|name| ((*name).to_owned(), NONE)).collect::<Vec<_>>()
        };
        let both = ["metadata.version", "corelane.metadata.version"];
        for validate_only in [true, false] {
            for upgrade in [UPGRADE, SAFE] {
                let updates = [(both[0], 25, upgrade), (both[1], 1, upgrade)];
                assert_eq!(update(&updates, validate_only), (NONE, told(&both)), "v{version}");
            }
            for (feature, level, upgrade) in [
                ("metadata.version", 26, UPGRADE),
                ("metadata.version", 24, SAFE),
                ("metadata.version", 0, UNSAFE),
                ("metadata.version", -1, SAFE),
                ("corelane.metadata.version", 2, UPGRADE),
                ("group.version", 1, UPGRADE),
                ("transaction.version", 3, UPGRADE),
            ] {
                let updates = [(both[1], 1, UPGRADE), (feature, level, upgrade)];
                let refused = (INVALID_UPDATE_VERSION, Vec::new());
                assert_eq!(update(&updates, validate_only), refused, "v{version}: {feature} {level}");
            }
        }
        if version >= 1 {
            assert_eq!(update(&[(both[0], 25, 4)], false).0, INVALID_UPDATE_VERSION, "v{version}");
        }
        assert_eq!(update(&[], false), (NONE, Vec::new()), "v{version}");
    }
}

#[test]
fn alter_replica_log_dirs() {
    let second = crate::harness::TempDir::new();
    let broker = Setup::new().start();
    let mut wire = Wire::connect(broker.bootstrap());
    let topic = wire::unique("moved");
    wire.create_topic(&topic, 3, &[]);
    let (here, elsewhere) = (broker.data(), second.path().to_path_buf());
    for version in 1..=2 {
        let mut alter = |dirs: &[(&std::path::Path, &str, &[i32])]| {
            let dirs = dirs.iter().map(|(path, topic, partitions)| {
                let topic = AlterReplicaLogDirTopic::default()
                    .with_name(name(topic))
                    .with_partitions(partitions.to_vec());
                AlterReplicaLogDir::default()
                    .with_path(string(&path.to_string_lossy()))
                    .with_topics(vec![topic])
            });
            let request = AlterReplicaLogDirsRequest::default().with_dirs(dirs.collect());
            let mut told = Vec::new();
            for topic in wire.call(&request, version).results {
                for partition in topic.partitions {
                    told.push((
                        topic.topic_name.to_string(),
                        partition.partition_index,
                        partition.error_code,
                    ));
                }
            }
            told
        };
        let told = |of: &[(&str, i32, i16)]| {
            of.iter().map(|(topic, index, error)| ((*topic).to_owned(), *index, *error)).collect::<Vec<_>>()
        };
        assert_eq!(alter(&[]), [], "v{version}");
        let already = told(&[(&topic, 0, NONE), (&topic, 2, NONE), (&topic, 3, UNKNOWN_TOPIC_OR_PARTITION)]);
        assert_eq!(alter(&[(&here, &topic, &[0, 2, 3])]), already, "v{version}");
        assert_eq!(
            alter(&[(&elsewhere, &topic, &[1])]),
            told(&[(&topic, 1, LOG_DIR_NOT_FOUND)]),
            "v{version}: none of the broker's"
        );
        let unknown = told(&[("nowhere", 0, UNKNOWN_TOPIC_OR_PARTITION)]);
        assert_eq!(alter(&[(&here, "nowhere", &[0])]), unknown, "v{version}");
        let last = [(&*elsewhere, topic.as_str(), &[1][..]), (&*here, &topic, &[1])];
        assert_eq!(alter(&last), told(&[(&topic, 1, NONE)]), "v{version}: the last directory counts");
    }
}

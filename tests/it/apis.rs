//! Every API in every version: what is asked is answered, in that version's own format, and errors are Kafka's.
//!
//! A response is decoded by the client's half of `kafka-protocol`, which refuses left-over and missing bytes.

use bytes::Bytes;
use kafka_protocol::messages::create_topics_request::{
    CreatableReplicaAssignment, CreatableTopic, CreatableTopicConfig,
};
use kafka_protocol::messages::delete_topics_request::DeleteTopicState;
use kafka_protocol::messages::describe_configs_request::DescribeConfigsResource;
use kafka_protocol::messages::incremental_alter_configs_request::{AlterConfigsResource, AlterableConfig};
use kafka_protocol::messages::list_offsets_request::{ListOffsetsPartition, ListOffsetsTopic};
use kafka_protocol::messages::metadata_request::MetadataRequestTopic;
use kafka_protocol::messages::metadata_response::MetadataResponseTopic;
use kafka_protocol::messages::offset_for_leader_epoch_request::{
    OffsetForLeaderPartition, OffsetForLeaderTopic,
};
use kafka_protocol::messages::{
    ApiVersionsRequest, BrokerId, CreateTopicsRequest, DeleteTopicsRequest, DescribeClusterRequest,
    DescribeConfigsRequest, IncrementalAlterConfigsRequest, InitProducerIdRequest, ListOffsetsRequest,
    MetadataRequest, OffsetForLeaderEpochRequest, ProducerId, TopicName, TransactionalId,
};
use std::collections::HashSet;
use uuid::Uuid;

use crate::harness::{Broker, Setup};
use crate::wire::{self, Wire, batch, string};

const NONE: i16 = 0;
const OFFSET_OUT_OF_RANGE: i16 = 1;
const UNKNOWN_TOPIC_OR_PARTITION: i16 = 3;
const INVALID_TOPIC: i16 = 17;
const NOT_COORDINATOR: i16 = 16;
const UNSUPPORTED_VERSION: i16 = 35;
const TOPIC_ALREADY_EXISTS: i16 = 36;
const INVALID_PARTITIONS: i16 = 37;
const INVALID_REPLICATION_FACTOR: i16 = 38;
const INVALID_REPLICA_ASSIGNMENT: i16 = 39;
const INVALID_CONFIG: i16 = 40;
const INVALID_REQUEST: i16 = 42;
const FETCH_SESSION_ID_NOT_FOUND: i16 = 70;
const UNKNOWN_LEADER_EPOCH: i16 = 75;
const UNKNOWN_TOPIC_ID: i16 = 100;
const MISMATCHED_ENDPOINT_TYPE: i16 = 114;
const UNSUPPORTED_ENDPOINT_TYPE: i16 = 115;

/// "Nobody asked" in the place of authorized operations.
const NOT_ASKED: i32 = i32::MIN;

fn name(topic: &str) -> TopicName {
    TopicName(string(topic))
}

fn port(broker: &Broker) -> i32 {
    broker.bootstrap().rsplit(':').next().and_then(|port| port.parse().ok()).expect("host:port")
}

#[test]
fn api_versions() {
    let broker = Broker::start();
    let mut wire = Wire::connect(broker.bootstrap());
    for version in 0..=4 {
        let software = |name: &str| {
            let request = ApiVersionsRequest::default();
            if version < 3 {
                return request;
            }
            request.with_client_software_name(string(name)).with_client_software_version(string("1.0.0-rc1"))
        };
        let answer = wire.call(&software("a-client"), version);
        assert_eq!(answer.error_code, NONE, "v{version}");
        let keys: Vec<i16> = answer.api_keys.iter().map(|key| key.api_key).collect();
        assert_eq!(
            keys,
            [
                0, 1, 2, 3, 8, 9, 10, 11, 12, 13, 14, 15, 16, 18, 19, 20, 21, 22, 23, 24, 25, 26, 27, 28, 32,
                33, 34, 35, 37, 42, 43, 44, 45, 46, 47, 55, 57, 60, 61, 65, 66, 68, 69, 74, 75
            ]
        );
        let produce = &answer.api_keys[0];
        assert_eq!((produce.min_version, produce.max_version), (0, 13));
        for feature in &answer.supported_features {
            assert!(version >= 4 || feature.min_version > 0, "v{version} must not see {feature:?}");
        }
        if version >= 3 {
            let supported = answer.supported_features.iter();
            let supported: Vec<_> =
                supported.map(|known| (known.name.as_str(), known.min_version, known.max_version)).collect();
            // clients of version 3 take a least level of 0 for a mistake
            let expected = [
                ("corelane.metadata.version", 1, 1),
                ("metadata.version", 25, 25),
                ("transaction.version", 0, 2),
            ];
            assert_eq!(supported, expected[..if version >= 4 { 3 } else { 2 }], "v{version}");
            let finalized = answer.finalized_features.iter();
            let finalized: Vec<_> = finalized
                .map(|level| (level.name.as_str(), level.min_version_level, level.max_version_level))
                .collect();
            assert_eq!(finalized[..2], expected[..2], "v{version}: each has one level");
            assert_eq!(finalized[2..], [("transaction.version", 2, 2)], "v{version}");
            assert!(answer.finalized_features_epoch >= 0, "v{version}");
            for odd in ["", "-a", "a client", "\u{fc}"] {
                let answer = wire.call(&software(odd), version);
                assert_eq!((answer.error_code, answer.api_keys.len()), (INVALID_REQUEST, 0), "{odd:?}");
            }
        }
    }
}

fn metadata_of(topics: &[&str], version: i16, create: bool) -> MetadataRequest {
    let topics =
        topics.iter().map(|topic| MetadataRequestTopic::default().with_name(Some(name(topic)))).collect();
    let request = MetadataRequest::default().with_topics(Some(topics));
    // before version 4 the client has no say
    if version >= 4 { request.with_allow_auto_topic_creation(create) } else { request }
}

#[test]
fn metadata() {
    let broker = Broker::start();
    let mut wire = Wire::connect(broker.bootstrap());
    let topic = wire::unique("metadata");
    wire.create_topic(&topic, 3, &[]);
    let mut ids = HashSet::new();
    for version in 0..=13 {
        let check = |found: &MetadataResponseTopic| {
            assert_eq!((found.error_code, found.name.as_ref()), (NONE, Some(&name(&topic))), "v{version}");
            assert_eq!(found.partitions.len(), 3);
            for (index, partition) in (0..).zip(&found.partitions) {
                assert_eq!((partition.partition_index, partition.error_code), (index, NONE));
                assert_eq!(partition.leader_id, BrokerId(1));
                assert_eq!(partition.replica_nodes, [BrokerId(1)]);
                assert_eq!(partition.isr_nodes, [BrokerId(1)]);
                assert!(partition.offline_replicas.is_empty());
                assert_eq!(partition.leader_epoch, if version >= 7 { 0 } else { -1 });
            }
            assert!(!found.is_internal);
            assert_eq!(found.topic_id.is_nil(), version < 10, "v{version}");
            assert_eq!(found.topic_authorized_operations, NOT_ASKED);
            found.topic_id
        };
        let answer = wire.call(&metadata_of(&[&topic, &topic], version, false), version);
        assert_eq!(answer.topics.len(), 1, "v{version}: named twice, told once");
        let id = check(&answer.topics[0]);
        ids.extend((version >= 10).then_some(id));
        let brokers = &answer.brokers;
        assert_eq!((brokers.len(), brokers[0].node_id), (1, BrokerId(1)));
        assert_eq!((brokers[0].host.as_str(), brokers[0].port), ("127.0.0.1", port(&broker)));
        assert_eq!(answer.controller_id, BrokerId(if version >= 1 { 1 } else { -1 }));
        assert_eq!(answer.cluster_id.is_some_and(|id| id.len() == 22), version >= 2);
        assert_eq!(answer.cluster_authorized_operations, NOT_ASKED);

        let every = if version == 0 { Some(Vec::new()) } else { None };
        let answer = wire.call(&MetadataRequest::default().with_topics(every), version);
        assert_eq!(answer.topics.len(), 1, "v{version}: all");
        check(&answer.topics[0]);
        if version >= 1 {
            let answer = wire.call(&metadata_of(&[], version, true), version);
            assert_eq!((answer.topics.len(), answer.brokers.len()), (0, 1), "v{version}: none");
        }
        for bad in ["", ".", "..", "a/b", "\u{e9}", &"x".repeat(250), "with space"] {
            let answer = wire.call(&metadata_of(&[bad], version, true), version);
            assert_eq!(answer.topics[0].error_code, INVALID_TOPIC, "v{version}: {bad:?}");
        }
        if version >= 8 {
            let mut request =
                metadata_of(&[&topic], version, false).with_include_topic_authorized_operations(true);
            request.include_cluster_authorized_operations = version <= 10;
            let answer = wire.call(&request, version);
            // read, write, create, delete, alter, describe, describe and alter configs
            assert_eq!(answer.topics[0].topic_authorized_operations, 0b1101_1111_1000);
            let expected = if version <= 10 { 0b1_1111_1010_0000 } else { NOT_ASKED };
            assert_eq!(answer.cluster_authorized_operations, expected, "v{version}");
        }
        if version >= 12 {
            let by_id = |id| MetadataRequestTopic::default().with_name(None).with_topic_id(id);
            let unknown = Uuid::from_u128(0xfeed);
            let request = MetadataRequest::default().with_topics(Some(vec![by_id(unknown), by_id(id)]));
            let answer = wire.call(&request, version);
            let told = &answer.topics[0];
            assert_eq!(
                (told.error_code, told.name.as_ref(), told.topic_id),
                (UNKNOWN_TOPIC_ID, None, unknown)
            );
            check(&answer.topics[1]);
        }
    }
    assert_eq!(ids.len(), 1, "a topic keeps its id");
    assert!(!ids.contains(&Uuid::nil()));
}

#[test]
fn metadata_creates_topics_when_both_sides_allow_it() {
    let broker = Setup::new().set("num.partitions", 3).start();
    let mut wire = Wire::connect(broker.bootstrap());
    for version in 0..=13 {
        let topic = wire::unique("auto");
        if version >= 4 {
            let answer = wire.call(&metadata_of(&[&topic], version, false), version);
            assert_eq!(answer.topics[0].error_code, UNKNOWN_TOPIC_OR_PARTITION, "v{version}");
            assert!(answer.topics[0].topic_id.is_nil());
        }
        let mut answer = wire.call(&metadata_of(&[&topic], version, true), version);
        while answer.topics[0].error_code == UNKNOWN_TOPIC_OR_PARTITION {
            answer = wire.call(&metadata_of(&[&topic], version, true), version);
        }
        assert_eq!(answer.topics[0].error_code, NONE, "v{version}");
        assert_eq!(answer.topics[0].partitions.len(), 3);
        // it can be written to as soon as it is told
        assert_eq!(wire.produce(&topic, 2, -1, batch(&[Bytes::from_static(b"x")])).error_code, NONE);
    }
    let answer = wire.call(&metadata_of(&["__consumer_offsets"], 13, true), 13);
    assert_eq!(answer.topics[0].error_code, UNKNOWN_TOPIC_OR_PARTITION);
    assert!(answer.topics[0].is_internal);

    let broker = Setup::new().set("auto.create.topics.enable", false).start();
    let mut wire = Wire::connect(broker.bootstrap());
    let answer = wire.call(&metadata_of(&[&wire::unique("auto")], 13, true), 13);
    assert_eq!(answer.topics[0].error_code, UNKNOWN_TOPIC_OR_PARTITION);
    assert_eq!(wire.call(&MetadataRequest::default().with_topics(None), 13).topics.len(), 0);
}

#[test]
fn produce_and_fetch() {
    let broker = Broker::start();
    let mut wire = Wire::connect(broker.bootstrap());
    let topic = wire::unique("produce");
    wire.create_topic(&topic, 2, &[]);
    let id = wire.metadata(&topic).topics[0].topic_id;
    let one = batch(&[Bytes::from_static(b"value")]);
    let mut next = 0;
    for version in 3..=13 {
        let request = |topic: &str, id: Uuid, partition: i32, acks: i16| {
            let mut request = wire::produce_request(topic, partition, acks, one.clone());
            if version >= 13 {
                request.topic_data[0].name = TopicName::default();
                request.topic_data[0].topic_id = id;
            }
            request
        };
        let answer = wire.call(&request(&topic, id, 0, -1), version);
        let told = &answer.responses[0].partition_responses[0];
        assert_eq!(
            (told.error_code, told.base_offset, told.log_append_time_ms),
            (NONE, next, -1),
            "v{version}"
        );
        assert_eq!(told.log_start_offset, if version >= 5 { 0 } else { -1 });
        assert_eq!(answer.responses[0].topic_id, if version >= 13 { id } else { Uuid::nil() });
        next += 1;

        let answer = wire.call(&request("nowhere", Uuid::from_u128(7), 0, 1), version);
        let told = &answer.responses[0].partition_responses[0];
        let expected = if version >= 13 { UNKNOWN_TOPIC_ID } else { UNKNOWN_TOPIC_OR_PARTITION };
        assert_eq!((told.error_code, told.base_offset), (expected, -1), "v{version}");

        let mut broken = request(&topic, id, 0, -1);
        let mut bytes = one.to_vec();
        bytes[wire::header::RECORD_COUNT + 3] = 2;
        broken.topic_data[0].partition_data[0].records = Some(wire::seal(bytes));
        let answer = wire.call(&broken, version);
        let told = &answer.responses[0].partition_responses[0];
        assert_eq!((told.error_code, told.base_offset), (87, -1), "v{version}");
        assert_eq!(told.error_message.is_some(), version >= 8);
    }
    for version in 4..=18 {
        let request = |topic: &str, id: Uuid, partition: i32, offset: i64| {
            let mut request = wire::fetch_request(topic, partition, offset, 0);
            let asked = &mut request.topics[0];
            if version >= 13 {
                asked.topic = TopicName::default();
                asked.topic_id = id;
            }
            if version < 12 {
                asked.partitions[0].last_fetched_epoch = -1;
            }
            if version < 7 {
                request.session_epoch = -1;
            }
            if version >= 15 {
                request.replica_id = BrokerId(-1);
            }
            request
        };
        for isolation in [0, 1] {
            let answer = wire.call(&request(&topic, id, 0, 1).with_isolation_level(isolation), version);
            assert_eq!((answer.error_code, answer.session_id), (NONE, 0), "v{version}");
            let told = &answer.responses[0].partitions[0];
            assert_eq!((told.error_code, told.high_watermark), (NONE, next), "v{version}");
            assert_eq!(told.last_stable_offset, next);
            assert_eq!(told.log_start_offset, if version >= 5 { 0 } else { -1 });
            assert_eq!(told.aborted_transactions.is_some(), isolation == 1, "v{version}");
            assert_eq!(told.preferred_read_replica, BrokerId(-1));
            let records = told.records.as_ref().expect("records are there");
            assert_eq!(records.len(), one.len() * usize::try_from(next - 1).unwrap());
        }
        for offset in [-1, next + 1] {
            let answer = wire.call(&request(&topic, id, 0, offset), version);
            let told = &answer.responses[0].partitions[0];
            assert_eq!(told.error_code, OFFSET_OUT_OF_RANGE, "v{version}: {offset}");
        }
        let answer = wire.call(&request("nowhere", Uuid::from_u128(7), 0, 0), version);
        let expected = if version >= 13 { UNKNOWN_TOPIC_ID } else { UNKNOWN_TOPIC_OR_PARTITION };
        assert_eq!(answer.responses[0].partitions[0].error_code, expected, "v{version}");
        let answer = wire.call(&request(&topic, id, 2, 0), version);
        assert_eq!(answer.responses[0].partitions[0].error_code, UNKNOWN_TOPIC_OR_PARTITION, "v{version}");
        if version >= 7 {
            let incremental = request(&topic, id, 0, 0).with_session_id(77).with_session_epoch(1);
            let answer = wire.call(&incremental, version);
            assert_eq!((answer.error_code, answer.responses.len()), (FETCH_SESSION_ID_NOT_FOUND, 0));
            let opening = request(&topic, id, 0, 0).with_session_epoch(0);
            let answer = wire.call(&opening, version);
            assert_eq!((answer.error_code, answer.session_id, answer.responses.len()), (NONE, 0, 1));
        }
        if version >= 9 {
            for (epoch, expected) in [(0, NONE), (1, UNKNOWN_LEADER_EPOCH), (-1, NONE)] {
                let mut request = request(&topic, id, 0, 0);
                request.topics[0].partitions[0].current_leader_epoch = epoch;
                let answer = wire.call(&request, version);
                assert_eq!(answer.responses[0].partitions[0].error_code, expected, "v{version}: {epoch}");
            }
        }
    }
}

#[test]
fn list_offsets() {
    let broker = Broker::start();
    let mut wire = Wire::connect(broker.bootstrap());
    let topic = wire::unique("offsets");
    wire.create_topic(&topic, 1, &[]);
    let before = wire::now_ms();
    for _ in 0..3 {
        let batch = batch(&[Bytes::from_static(b"a"), Bytes::from_static(b"b")]);
        assert_eq!(wire.produce(&topic, 0, -1, batch).error_code, NONE);
    }
    for version in 1..=10 {
        let asked = |partition: i32, timestamp: i64| {
            ListOffsetsPartition::default()
                .with_partition_index(partition)
                .with_current_leader_epoch(-1)
                .with_timestamp(timestamp)
        };
        let mut list = |topic: &str, partitions: Vec<ListOffsetsPartition>| {
            let topics = vec![ListOffsetsTopic::default().with_name(name(topic)).with_partitions(partitions)];
            let request = ListOffsetsRequest::default().with_replica_id(BrokerId(-1)).with_topics(topics);
            wire.call(&request, version).topics.remove(0).partitions
        };
        let epoch = if version >= 4 { 0 } else { -1 };
        for (timestamp, since, offset) in [(-1, 1, 6), (-2, 1, 0), (-4, 8, 0), (-5, 9, -1)] {
            let answer = list(&topic, vec![asked(0, timestamp)]).remove(0);
            if version < since {
                let expected = (UNSUPPORTED_VERSION, -1);
                assert_eq!((answer.error_code, answer.offset), expected, "v{version}: {timestamp}");
            } else {
                assert_eq!((answer.error_code, answer.offset), (NONE, offset), "v{version}: {timestamp}");
                assert_eq!(answer.timestamp, -1);
                assert!(offset < 0 || answer.leader_epoch == epoch, "v{version}: {answer:?}");
            }
        }
        let answer = list(&topic, vec![asked(0, -3)]).remove(0);
        if version < 7 {
            assert_eq!(answer.error_code, UNSUPPORTED_VERSION);
        } else {
            assert_eq!(answer.error_code, NONE);
            assert!(answer.timestamp >= before && (0..6).contains(&answer.offset), "v{version}: {answer:?}");
        }
        let answer = list(&topic, vec![asked(0, before)]).remove(0);
        assert_eq!((answer.error_code, answer.offset), (NONE, 0), "v{version}");
        assert!(answer.timestamp >= before);
        let answer = list(&topic, vec![asked(0, before + 3_600_000)]).remove(0);
        assert_eq!((answer.error_code, answer.offset, answer.timestamp), (NONE, -1, -1), "v{version}");
        for unknown in [-6, -100, i64::MIN] {
            assert_eq!(
                list(&topic, vec![asked(0, unknown)])[0].error_code,
                UNSUPPORTED_VERSION,
                "v{version}"
            );
        }
        let answers = list(&topic, vec![asked(0, -1), asked(5, -1), asked(0, -2)]);
        let codes: Vec<i16> = answers.iter().map(|answer| answer.error_code).collect();
        assert_eq!(
            codes,
            [INVALID_REQUEST, UNKNOWN_TOPIC_OR_PARTITION, INVALID_REQUEST],
            "v{version}: twice"
        );
        assert_eq!(list("nowhere", vec![asked(0, -1)])[0].error_code, UNKNOWN_TOPIC_OR_PARTITION);
    }
}

#[test]
fn offset_for_leader_epoch() {
    let broker = Broker::start();
    let mut wire = Wire::connect(broker.bootstrap());
    let topic = wire::unique("epochs");
    wire.create_topic(&topic, 1, &[]);
    assert_eq!(wire.produce(&topic, 0, -1, batch(&[Bytes::from_static(b"a")])).error_code, NONE);
    for version in 2..=4 {
        let mut ask = |topic: &str, current: i32, epoch: i32| {
            let partition = OffsetForLeaderPartition::default()
                .with_partition(0)
                .with_current_leader_epoch(current)
                .with_leader_epoch(epoch);
            let topics = vec![
                OffsetForLeaderTopic::default().with_topic(name(topic)).with_partitions(vec![partition]),
            ];
            let mut request = OffsetForLeaderEpochRequest::default().with_topics(topics);
            if version >= 3 {
                request.replica_id = BrokerId(-1);
            }
            let answer = wire.call(&request, version).topics.remove(0).partitions.remove(0);
            (answer.error_code, answer.leader_epoch, answer.end_offset)
        };
        assert_eq!(ask(&topic, -1, 0), (NONE, 0, 1), "v{version}");
        assert_eq!(ask(&topic, 0, 0), (NONE, 0, 1));
        assert_eq!(ask(&topic, -1, 5), (NONE, -1, -1));
        assert_eq!(ask(&topic, 1, 0), (UNKNOWN_LEADER_EPOCH, -1, -1));
        assert_eq!(ask("nowhere", -1, 0), (UNKNOWN_TOPIC_OR_PARTITION, -1, -1));
    }
}

#[test]
fn init_producer_id() {
    let broker = Broker::start();
    let mut wires = [(); 4].map(|()| Wire::connect(broker.bootstrap()));
    let mut ids = HashSet::new();
    for version in 0..=5 {
        for wire in &mut wires {
            let answer = wire.call(&InitProducerIdRequest::default().with_transactional_id(None), version);
            assert_eq!((answer.error_code, answer.producer_epoch), (NONE, 0), "v{version}");
            assert!(answer.producer_id.0 >= 0 && ids.insert(answer.producer_id.0), "given twice");
        }
        let wire = &mut wires[0];
        let transactional =
            |id| InitProducerIdRequest::default().with_transactional_id(Some(TransactionalId(id)));
        let answer = wire.call(&transactional(string("")), version);
        assert_eq!((answer.error_code, answer.producer_id), (INVALID_REQUEST, ProducerId(-1)), "v{version}");
        let answer = wire.call(&transactional(string("t")), version);
        // its coordinator has to be found first
        assert_eq!((answer.error_code, answer.producer_id), (NOT_COORDINATOR, ProducerId(-1)), "v{version}");
        if version >= 3 {
            let request = InitProducerIdRequest::default().with_transactional_id(None);
            let answer = wire.call(&request.with_producer_id(ProducerId(5)), version);
            assert_eq!(answer.error_code, INVALID_REQUEST, "an id without an epoch");
        }
    }
}

fn creatable(topic: &str, partitions: i32, replication_factor: i16) -> CreatableTopic {
    CreatableTopic::default()
        .with_name(name(topic))
        .with_num_partitions(partitions)
        .with_replication_factor(replication_factor)
}

fn config(key: &str, value: &str) -> CreatableTopicConfig {
    CreatableTopicConfig::default().with_name(string(key)).with_value(Some(string(value)))
}

#[test]
fn create_and_delete_topics() {
    let broker = Setup::new().set("num.partitions", 2).start();
    let mut wire = Wire::connect(broker.bootstrap());
    let assigned = |index: i32, brokers: &[i32]| {
        CreatableReplicaAssignment::default()
            .with_partition_index(index)
            .with_broker_ids(brokers.iter().map(|&id| BrokerId(id)).collect())
    };
    for version in 2..=7 {
        let fresh = wire::unique("create");
        let mut create = |topics: Vec<CreatableTopic>, validate_only: bool| {
            let request = CreateTopicsRequest::default()
                .with_topics(topics)
                .with_timeout_ms(30_000)
                .with_validate_only(validate_only);
            wire.call(&request, version).topics
        };
        let told =
            create(vec![creatable(&fresh, 3, 1).with_configs(vec![config("retention.ms", "5000")])], true);
        assert_eq!(told[0].error_code, NONE, "v{version}: {:?}", told[0].error_message);
        assert_eq!(told[0].topic_id, Uuid::nil(), "nothing was created");
        let told =
            create(vec![creatable(&fresh, 3, 1).with_configs(vec![config("retention.ms", "5000")])], false);
        assert_eq!(told[0].error_code, NONE, "v{version}");
        if version >= 5 {
            assert_eq!((told[0].num_partitions, told[0].replication_factor), (3, 1));
            let configs = told[0].configs.as_ref().expect("configs are told");
            let retention =
                configs.iter().find(|config| config.name.as_str() == "retention.ms").expect("is told");
            assert_eq!((retention.value.as_deref(), retention.config_source), (Some("5000"), 1));
            assert!(configs.len() > 20);
        }
        assert_eq!(told[0].topic_id.is_nil(), version < 7);
        let id = told[0].topic_id;
        assert_eq!(create(vec![creatable(&fresh, 3, 1)], false)[0].error_code, TOPIC_ALREADY_EXISTS);

        let other = || wire::unique("other");
        let mut manual = creatable(&other(), -1, -1);
        manual.assignments = vec![assigned(0, &[1]), assigned(1, &[1])];
        let mut gap = creatable(&other(), -1, -1);
        gap.assignments = vec![assigned(0, &[1]), assigned(2, &[1])];
        let mut both = creatable(&other(), 2, -1);
        both.assignments = vec![assigned(0, &[1])];
        let twice = other();
        let (defaults, odd) = (other(), other());
        let asked = [
            (manual, NONE),
            (gap, INVALID_REPLICA_ASSIGNMENT),
            (both, INVALID_REQUEST),
            (creatable(&defaults, -1, -1), NONE),
            (creatable(&other(), 0, 1), INVALID_PARTITIONS),
            (creatable(&other(), 1, 0), INVALID_REPLICATION_FACTOR),
            (creatable(&other(), 1, -2), INVALID_REPLICATION_FACTOR),
            (creatable(&other(), 1, 2), INVALID_REPLICATION_FACTOR),
            (creatable("a b", 1, 1), INVALID_TOPIC),
            (creatable(&odd, 1, 1).with_configs(vec![config("no.such.config", "1")]), INVALID_CONFIG),
            (creatable(&other(), 1, 1).with_configs(vec![config("retention.ms", "soon")]), INVALID_CONFIG),
            (creatable(&twice, 1, 1), INVALID_REQUEST),
            (creatable(&twice, 2, 1), INVALID_REQUEST),
        ];
        let told = create(asked.iter().map(|(topic, _)| topic.clone()).collect(), false);
        for ((topic, expected), told) in asked.iter().zip(&told) {
            assert_eq!((&told.name, told.error_code), (&topic.name, *expected), "v{version}: {told:?}");
            assert_eq!(told.error_message.is_some(), *expected != NONE);
        }
        let long = "x".repeat(20_000);
        let told = create(vec![creatable(&long, 1, 1).with_configs(vec![config(&long, &long)])], false);
        assert_eq!(told[0].error_code, INVALID_TOPIC);

        if version <= 6 {
            let delete = |topics: Vec<DeleteTopicState>, names: Vec<TopicName>| {
                DeleteTopicsRequest::default()
                    .with_topics(topics)
                    .with_topic_names(names)
                    .with_timeout_ms(30_000)
            };
            let gone = wire::unique("nowhere");
            let by_name = |name: TopicName| DeleteTopicState::default().with_name(Some(name));
            let request = if version == 6 {
                delete(vec![by_name(name(&fresh)), by_name(name(&gone))], Vec::new())
            } else {
                delete(Vec::new(), vec![name(&fresh), name(&gone)])
            };
            let told = wire.call(&request, version.min(6)).responses;
            assert_eq!(told[0].error_code, NONE, "v{version}");
            assert_eq!(told[1].error_code, UNKNOWN_TOPIC_OR_PARTITION);
            assert_eq!(told[1].name, Some(name(&gone)));
        } else {
            let by_id = |id| DeleteTopicState::default().with_name(None).with_topic_id(id);
            let request = DeleteTopicsRequest::default().with_timeout_ms(30_000).with_topics(vec![
                by_id(id),
                by_id(Uuid::from_u128(5)),
                by_id(Uuid::nil()),
                DeleteTopicState::default().with_name(Some(name(&defaults))).with_topic_id(id),
            ]);
            let told = wire.call(&request, 6).responses;
            let codes: Vec<i16> = told.iter().map(|told| told.error_code).collect();
            assert_eq!(codes, [NONE, UNKNOWN_TOPIC_ID, INVALID_REQUEST, INVALID_REQUEST]);
            assert_eq!(told[0].name, Some(name(&fresh)));
        }
        assert_eq!(wire.metadata(&fresh).topics[0].error_code, UNKNOWN_TOPIC_OR_PARTITION);
        // the name is free again, and the new topic is another one
        wire.create_topic(&fresh, 1, &[]);
        let again = wire.metadata(&fresh).topics[0].topic_id;
        assert!(again != id && wire.end_offset(&fresh, 0) == 0);
    }
    let names = vec![name("x")];
    let told = wire.call(&DeleteTopicsRequest::default().with_topic_names(names), 1).responses;
    assert_eq!(told[0].error_code, UNKNOWN_TOPIC_OR_PARTITION);
}

#[test]
fn topics_are_not_deleted_when_that_is_disabled() {
    let broker = Setup::new().set("delete.topic.enable", false).start();
    let mut wire = Wire::connect(broker.bootstrap());
    let topic = wire::unique("kept");
    wire.create_topic(&topic, 1, &[]);
    for version in 1..=6 {
        let request = if version == 6 {
            let topics = vec![DeleteTopicState::default().with_name(Some(name(&topic)))];
            DeleteTopicsRequest::default().with_topics(topics)
        } else {
            DeleteTopicsRequest::default().with_topic_names(vec![name(&topic)])
        };
        let told = wire.call(&request, version).responses;
        assert_eq!(told[0].error_code, if version < 3 { INVALID_REQUEST } else { 73 }, "v{version}");
    }
    assert_eq!(wire.metadata(&topic).topics[0].error_code, NONE);
}

fn resource(kind: i8, of: &str, keys: Option<&[&str]>) -> DescribeConfigsResource {
    DescribeConfigsResource::default()
        .with_resource_type(kind)
        .with_resource_name(string(of))
        .with_configuration_keys(keys.map(|keys| keys.iter().map(|key| string(key)).collect()))
}

#[test]
fn describe_configs() {
    let broker = Setup::new().set("log.retention.ms", 18_000_000).start();
    let mut wire = Wire::connect(broker.bootstrap());
    let topic = wire::unique("configs");
    wire.create_topic(&topic, 1, &[("segment.bytes", "2000000")]);
    for version in 1..=4 {
        let mut describe = |resources: Vec<DescribeConfigsResource>, more: bool| {
            let request = DescribeConfigsRequest::default()
                .with_resources(resources)
                .with_include_synonyms(more)
                .with_include_documentation(more && version >= 3);
            wire.call(&request, version).results
        };
        let told =
            describe(vec![resource(2, &topic, None), resource(4, "1", None), resource(4, "", None)], true);
        let [of_topic, of_broker, of_brokers] = &told[..] else { panic!("{told:?}") };
        assert_eq!((of_topic.error_code, of_broker.error_code, of_brokers.error_code), (NONE, NONE, NONE));
        assert!(of_topic.configs.len() > 20 && of_broker.configs.len() > 20 && of_brokers.configs.is_empty());
        let find =
            |name: &str| of_topic.configs.iter().find(|config| config.name.as_str() == name).expect("told");
        let set = find("segment.bytes");
        assert_eq!((set.value.as_deref(), set.config_source), (Some("2000000"), 1), "v{version}");
        let inherited = find("retention.ms");
        assert_eq!(
            (inherited.value.as_deref(), inherited.config_source),
            (Some("18000000"), 4),
            "v{version}"
        );
        let names: Vec<&str> = inherited.synonyms.iter().map(|synonym| synonym.name.as_str()).collect();
        assert_eq!(names, ["log.retention.ms", "log.retention.hours"]);
        assert_eq!(inherited.config_type, if version >= 3 { 5 } else { 0 });
        assert_eq!(inherited.documentation.as_ref().is_some_and(|text| !text.is_empty()), version >= 3);

        let some = resource(2, &topic, Some(&["retention.ms", "no.such"]));
        let told = describe(vec![some], false);
        assert_eq!(told[0].configs.len(), 1);
        assert!(told[0].configs[0].synonyms.is_empty());
        let told = describe(vec![resource(2, &topic, Some(&[])); 1000], false);
        assert_eq!(told.len(), 1, "named often, told once");
        assert!(told[0].configs.len() > 20, "an empty list means all");
        let long = "9".repeat(32_000);
        let asked = [
            (2, "nowhere", UNKNOWN_TOPIC_OR_PARTITION),
            (2, "a b", INVALID_TOPIC),
            (4, "2", INVALID_REQUEST),
            (4, "x", INVALID_REQUEST),
            (4, &long, INVALID_REQUEST),
            (8, "1", NONE),
            (16, "metrics", NONE),
            (32, "group", NONE),
            (0, "", INVALID_REQUEST),
            (-1, "", INVALID_REQUEST),
        ];
        let resources = asked.iter().map(|(kind, of, _)| resource(*kind, of, None)).collect();
        for ((kind, of, expected), told) in asked.iter().zip(describe(resources, true)) {
            assert_eq!(told.error_code, *expected, "v{version}: {kind} {of:.9}");
            assert_eq!(told.error_message.is_some_and(|text| !text.is_empty()), *expected != NONE);
        }
    }
}

fn altered(kind: i8, of: &str, changes: &[(&str, i8, Option<&str>)]) -> AlterConfigsResource {
    let configs = changes.iter().map(|(key, operation, value)| {
        AlterableConfig::default()
            .with_name(string(key))
            .with_config_operation(*operation)
            .with_value(value.map(string))
    });
    AlterConfigsResource::default()
        .with_resource_type(kind)
        .with_resource_name(string(of))
        .with_configs(configs.collect())
}

#[test]
fn incremental_alter_configs() {
    let broker = Broker::start();
    let mut wire = Wire::connect(broker.bootstrap());
    for version in 0..=1 {
        let topic = wire::unique("alter");
        wire.create_topic(&topic, 1, &[]);
        let mut alter = |resources: Vec<AlterConfigsResource>, validate_only: bool| {
            let request = IncrementalAlterConfigsRequest::default()
                .with_resources(resources)
                .with_validate_only(validate_only);
            let told = wire.call(&request, version).responses;
            let request = DescribeConfigsRequest::default().with_resources(vec![resource(
                2,
                &topic,
                Some(&["retention.ms", "cleanup.policy"]),
            )]);
            let mut configs = wire.call(&request, 4).results.remove(0).configs;
            configs.sort_by(|a, b| a.name.as_str().cmp(b.name.as_str()));
            let values: Vec<String> =
                configs.into_iter().filter_map(|config| Some(config.value?.to_string())).collect();
            (told.into_iter().map(|told| told.error_code).collect::<Vec<i16>>(), values.join(" "))
        };
        let set = || altered(2, &topic, &[("retention.ms", 0, Some("7"))]);
        assert_eq!(alter(vec![set()], true), (vec![NONE], "delete 604800000".to_owned()), "v{version}");
        assert_eq!(alter(vec![set()], false), (vec![NONE], "delete 7".to_owned()));
        let append = altered(2, &topic, &[("cleanup.policy", 2, Some("compact")), ("retention.ms", 1, None)]);
        assert_eq!(alter(vec![append], false), (vec![NONE], "delete,compact 604800000".to_owned()));
        let subtract = altered(2, &topic, &[("cleanup.policy", 3, Some("delete"))]);
        assert_eq!(alter(vec![subtract], false), (vec![NONE], "compact 604800000".to_owned()));
        let refused = vec![
            altered(2, &topic, &[("retention.ms", 0, Some("never"))]),
            altered(2, "nowhere", &[("retention.ms", 0, Some("7"))]),
            altered(4, "1", &[("retention.ms", 0, Some("7"))]),
            altered(8, "2", &[("root", 0, Some("DEBUG"))]),
            altered(99, "", &[]),
            altered(2, "twice", &[]),
            altered(2, "twice", &[]),
        ];
        let expected = [INVALID_CONFIG, UNKNOWN_TOPIC_OR_PARTITION].into_iter().chain([INVALID_REQUEST; 5]);
        assert_eq!(alter(refused, false), (expected.collect(), "compact 604800000".to_owned()), "v{version}");
        for odd in
            [("retention.ms", 9, Some("7")), ("retention.ms", -1, Some("7")), ("retention.ms", 0, None)]
        {
            let (codes, _) = alter(vec![altered(2, &topic, &[odd])], false);
            assert_eq!(codes, [INVALID_REQUEST], "v{version}: {odd:?}");
        }
    }
}

#[test]
fn describe_cluster() {
    let broker = Setup::new().set("broker.rack", "r1").start();
    let mut wire = Wire::connect(broker.bootstrap());
    let cluster_id = wire.metadata("x").cluster_id.expect("a cluster has an id");
    for version in 0..=2 {
        let request = DescribeClusterRequest::default().with_include_cluster_authorized_operations(true);
        let answer = wire.call(&request, version);
        assert_eq!((answer.error_code, answer.controller_id), (NONE, BrokerId(1)), "v{version}");
        assert_eq!(answer.cluster_id, cluster_id);
        assert_eq!(answer.cluster_authorized_operations, 0b1_1111_1010_0000);
        let [node] = &answer.brokers[..] else { panic!("one broker: {answer:?}") };
        assert_eq!(
            (node.broker_id, node.host.as_str(), node.port),
            (BrokerId(1), "127.0.0.1", port(&broker))
        );
        assert_eq!((node.rack.as_deref(), node.is_fenced), (Some("r1"), false));
        if version >= 1 {
            for (kind, expected) in [(2, MISMATCHED_ENDPOINT_TYPE), (3, UNSUPPORTED_ENDPOINT_TYPE)] {
                let answer = wire.call(&DescribeClusterRequest::default().with_endpoint_type(kind), version);
                assert_eq!((answer.error_code, answer.brokers.len()), (expected, 0), "v{version}");
            }
        }
    }
}

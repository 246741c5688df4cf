//! The APIs about partitions (how many, where, who leads), each in every version: what is asked is answered, in that
//! version's own format, and errors are Kafka's.

use bytes::Bytes;
use kafka_protocol::messages::create_partitions_request::{
    CreatePartitionsAssignment, CreatePartitionsTopic,
};
use kafka_protocol::messages::{BrokerId, CreatePartitionsRequest, TopicName};

use crate::harness::Setup;
use crate::wire::{self, Wire, batch, string};

const NONE: i16 = 0;
const UNKNOWN_TOPIC_OR_PARTITION: i16 = 3;
const INVALID_PARTITIONS: i16 = 37;
const INVALID_REPLICA_ASSIGNMENT: i16 = 39;
const INVALID_REQUEST: i16 = 42;

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

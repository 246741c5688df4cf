//! Ends of transactions and the producers that partitions know, over the wire, without a coordinator.

use bytes::Bytes;
use kafka_protocol::messages::describe_producers_request::TopicRequest;
use kafka_protocol::messages::describe_producers_response::{PartitionResponse, ProducerState};
use kafka_protocol::messages::write_txn_markers_request::{WritableTxnMarker, WritableTxnMarkerTopic};
use kafka_protocol::messages::{DescribeProducersRequest, TopicName, WriteTxnMarkersRequest};

use crate::harness::Setup;
use crate::wire::{Producer, Wire, batch, header, seal, string};

const NONE: i16 = 0;
const UNKNOWN_TOPIC_OR_PARTITION: i16 = 3;
const INVALID_PRODUCER_EPOCH: i16 = 47;
const TRANSACTION_COORDINATOR_FENCED: i16 = 52;
const TRANSACTIONAL_ID_AUTHORIZATION_FAILED: i16 = 53;

const PRODUCER: i64 = 4_711;

fn describe(wire: &mut Wire, topic: &str, partitions: &[i32]) -> Vec<PartitionResponse> {
    let asked = TopicRequest::default()
        .with_name(TopicName(string(topic)))
        .with_partition_indexes(partitions.to_vec());
    let request = DescribeProducersRequest::default().with_topics(vec![asked]);
    let mut topics = wire.call(&request, 0).topics;
    assert_eq!(topics.len(), 1);
    topics.remove(0).partitions
}

/// The errors, by partition.
fn abort(wire: &mut Wire, topic: &str, partitions: &[i32], epoch: i16, coordinator: i32) -> Vec<i16> {
    let asked = WritableTxnMarkerTopic::default()
        .with_name(TopicName(string(topic)))
        .with_partition_indexes(partitions.to_vec());
    let marker = WritableTxnMarker::default()
        .with_producer_id(PRODUCER.into())
        .with_producer_epoch(epoch)
        .with_transaction_result(false)
        .with_coordinator_epoch(coordinator)
        .with_topics(vec![asked]);
    let request = WriteTxnMarkersRequest::default().with_markers(vec![marker]);
    let marker = wire.call(&request, 1).markers.remove(0);
    assert_eq!(marker.producer_id.0, PRODUCER);
    marker.topics[0].partitions.iter().map(|partition| partition.error_code).collect()
}

fn produce(wire: &mut Wire, topic: &str, partition: i32, epoch: i16, sequence: i32) -> i16 {
    let producer = Producer { id: PRODUCER, epoch, sequence };
    let batch = producer.stamp(&batch(&[Bytes::from_static(b"one"), Bytes::from_static(b"two")]));
    wire.produce(topic, partition, -1, batch).error_code
}

#[test]
fn a_marker_fences_and_is_found_again() {
    let mut broker = Setup::new().shards(2).start();
    let mut wire = Wire::connect(broker.bootstrap());
    wire.create_topic("t", 4, &[]);
    assert_eq!(produce(&mut wire, "t", 1, 3, 0), NONE);
    let known = describe(&mut wire, "t", &[0, 1, 9]);
    assert_eq!(
        known.iter().map(|partition| partition.error_code).collect::<Vec<_>>(),
        [NONE, NONE, UNKNOWN_TOPIC_OR_PARTITION]
    );
    assert_eq!(known[0].active_producers, []);
    let state = &known[1].active_producers[0];
    assert!(state.last_timestamp > 0);
    let expect = ProducerState::default()
        .with_producer_id(PRODUCER.into())
        .with_producer_epoch(3)
        .with_last_sequence(1)
        .with_last_timestamp(state.last_timestamp)
        .with_coordinator_epoch(-1)
        .with_current_txn_start_offset(-1);
    assert_eq!(known[1].active_producers, [expect]);
    assert_eq!(describe(&mut wire, "nothing", &[0])[0].error_code, UNKNOWN_TOPIC_OR_PARTITION);

    // on both shards, and where nobody is
    let some = [0, 1, 2, 9];
    let expect = [NONE, NONE, NONE, UNKNOWN_TOPIC_OR_PARTITION];
    assert_eq!(abort(&mut wire, "t", &some, 4, 2), expect);
    assert_eq!(abort(&mut wire, "t", &some, 4, 2), expect, "once more");
    assert_eq!(abort(&mut wire, "t", &[1], 4, 1), [TRANSACTION_COORDINATOR_FENCED]);
    assert_eq!(abort(&mut wire, "t", &[1], 3, 2), [INVALID_PRODUCER_EPOCH]);
    assert_eq!(abort(&mut wire, "nothing", &[0], 4, 2), [UNKNOWN_TOPIC_OR_PARTITION]);
    assert_eq!([wire.end_offset("t", 0), wire.end_offset("t", 1), wire.end_offset("t", 3)], [1, 3, 0]);
    assert_eq!(produce(&mut wire, "t", 1, 3, 2), INVALID_PRODUCER_EPOCH);

    let before = describe(&mut wire, "t", &[0, 1, 2, 3]);
    assert_eq!(
        (before[1].active_producers[0].producer_epoch, before[1].active_producers[0].coordinator_epoch),
        (4, 2)
    );
    drop(wire);
    broker.kill();
    broker.restart();
    let mut wire = Wire::connect(broker.bootstrap());
    assert_eq!(describe(&mut wire, "t", &[0, 1, 2, 3]), before);
    assert_eq!(produce(&mut wire, "t", 1, 4, 0), NONE, "its next epoch begins");
}

#[test]
fn a_transactional_batch_in_a_request_without_transactional_id_is_refused() {
    let broker = Setup::new().shards(1).start();
    let mut wire = Wire::connect(broker.bootstrap());
    wire.create_topic("t", 1, &[]);
    let producer = Producer { id: PRODUCER, epoch: 0, sequence: 0 };
    let mut transactional = producer.stamp(&batch(&[Bytes::from_static(b"one")])).to_vec();
    transactional[header::ATTRIBUTES + 1] |= 0x10;
    let refused = wire.produce("t", 0, -1, seal(transactional));
    assert_eq!(refused.error_code, TRANSACTIONAL_ID_AUTHORIZATION_FAILED);
    assert_eq!(wire.end_offset("t", 0), 0);
}

//! compression.type of a topic: batches are stored in its codec, whatever their producer chose.

use crate::harness::Broker;
use crate::wire::{self, Wire, batch_with, header};
use bytes::Bytes;
use kafka_protocol::messages::produce_request::{PartitionProduceData, TopicProduceData};
use kafka_protocol::messages::{ProduceRequest, TopicName};
use kafka_protocol::records::Compression;

const CODECS: [(&str, Compression); 5] = [
    ("uncompressed", Compression::None),
    ("gzip", Compression::Gzip),
    ("snappy", Compression::Snappy),
    ("lz4", Compression::Lz4),
    ("zstd", Compression::Zstd),
];

/// The codecs of the batches that a partition holds.
fn stored(wire: &mut Wire, topic: &str) -> Vec<usize> {
    let end = wire.end_offset(topic, 0);
    let (mut codecs, mut next) = (Vec::new(), 0);
    while next < end {
        let bytes = wire.fetch(topic, 0, next, 5_000).records.expect("records");
        let field = |at: usize| i32::from_be_bytes(bytes[at..at + 4].try_into().expect("4 bytes"));
        let mut at = 0;
        while at < bytes.len() {
            codecs.push(usize::from(bytes[at + header::ATTRIBUTES + 1] & 7));
            let base = i64::from_be_bytes(bytes[at..at + 8].try_into().expect("8 bytes"));
            next = base + i64::from(field(at + header::LAST_OFFSET_DELTA)) + 1;
            at += 12 + usize::try_from(field(at + header::BATCH_LENGTH)).expect("a length");
        }
    }
    codecs
}

fn values(number: usize, count: usize) -> Vec<Bytes> {
    (0..count).map(|record| format!("{number}/{record}/{}", "ab ".repeat(50)).into()).collect()
}

#[test]
fn batches_are_stored_in_the_topic_s_codec() {
    let broker = Broker::start();
    let mut wire = Wire::connect(broker.bootstrap());
    for (wanted, (name, _)) in CODECS.into_iter().enumerate() {
        let topic = wire::unique(name);
        let levels = [("compression.lz4.level", "3"), ("compression.zstd.level", "7")];
        wire.create_topic(&topic, 1, &[&[("compression.type", name)], &levels[..]].concat());
        // sent without waiting for an answer: the order stays, whatever a batch takes
        let mut expect = Vec::new();
        let mut sent = Vec::new();
        for (number, (_, from)) in CODECS.into_iter().cycle().take(15).enumerate() {
            let values = values(number, if number % 2 == 0 { 3 } else { 2_000 });
            let batch = batch_with(&values, from);
            sent.push(wire.send(&wire::produce_request(&topic, 0, -1, batch), wire::PRODUCE));
            expect.extend(values);
        }
        let mut next = 0;
        for (number, id) in sent.into_iter().enumerate() {
            let mut answer = wire.receive::<ProduceRequest>(id, wire::PRODUCE);
            let answer = answer.responses.remove(0).partition_responses.remove(0);
            assert_eq!((answer.error_code, answer.base_offset), (0, next), "{name} {answer:?}");
            next += if number % 2 == 0 { 3 } else { 2_000 };
        }
        let found: Vec<Bytes> =
            wire.read_all(&topic, 0).into_iter().map(|record| record.value.expect("a value")).collect();
        assert_eq!(found, expect, "{name}");
        assert_eq!(stored(&mut wire, &topic), vec![wanted; 15], "{name}");
    }
}

#[test]
fn a_batch_that_grows_beyond_the_limit_is_refused_and_a_change_counts_at_once() {
    const MESSAGE_TOO_LARGE: i16 = 10;
    let broker = Broker::start();
    let mut wire = Wire::connect(broker.bootstrap());
    let topic = wire::unique("grown");
    wire.create_topic(&topic, 2, &[("compression.type", "uncompressed"), ("max.message.bytes", "100000")]);
    let large = batch_with(&values(0, 2_000), Compression::Zstd);
    assert!(large.len() < 50_000);
    let answer = wire.produce(&topic, 0, -1, large.clone());
    assert_eq!(answer.error_code, MESSAGE_TOO_LARGE, "{answer:?}");
    assert!(answer.error_message.is_some());
    // the other batches of the request are taken
    let part = |index, records| PartitionProduceData::default().with_index(index).with_records(Some(records));
    let data = vec![part(0, large.clone()), part(1, batch_with(&values(0, 100), Compression::Gzip))];
    let data =
        TopicProduceData::default().with_name(TopicName(wire::string(&topic))).with_partition_data(data);
    let request = ProduceRequest::default().with_acks(-1).with_timeout_ms(30_000).with_topic_data(vec![data]);
    let answers = wire.call(&request, wire::PRODUCE).responses.remove(0).partition_responses;
    assert_eq!([answers[0].error_code, answers[1].error_code], [MESSAGE_TOO_LARGE, 0]);
    for (name, expect) in [("zstd", 0), ("uncompressed", MESSAGE_TOO_LARGE), ("producer", 0)] {
        wire.alter_topic(&topic, &[("compression.type", Some(name))]);
        assert_eq!(wire.produce(&topic, 0, -1, large.clone()).error_code, expect, "{name}");
    }
    assert_eq!(stored(&mut wire, &topic), [4, 4]);
}

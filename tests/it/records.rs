//! What a broker does with record batches it must not store, and with bytes that are no request at all.

use crate::harness::{Broker, Setup};
use crate::wire::{self, Wire, batch, batch_with, header, seal};
use bytes::Bytes;
use kafka_protocol::messages::{
    ApiVersionsRequest, CreateTopicsRequest, DeleteRecordsRequest, DeleteTopicsRequest,
    DescribeConfigsRequest, FetchRequest, IncrementalAlterConfigsRequest, ListOffsetsRequest,
    MetadataRequest, OffsetForLeaderEpochRequest, ProduceRequest,
};
use kafka_protocol::protocol::Request;
use kafka_protocol::records::Compression;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

const INT32_MAX: [u8; 4] = i32::MAX.to_be_bytes();
/// 2^31 as the length of a compact array, which counts from 1.
const COMPACT_MAX: [u8; 5] = [0x80, 0x80, 0x80, 0x80, 0x08];

fn values(count: usize) -> Vec<Bytes> {
    (0..count).map(|index| Bytes::from(format!("value {index} {}", "x".repeat(index % 50)))).collect()
}

/// A good batch of three records with these bytes written at `at`.
fn altered(at: usize, bytes: &[u8]) -> Vec<u8> {
    let mut altered = batch(&values(3)).to_vec();
    altered[at..at + bytes.len()].copy_from_slice(bytes);
    altered
}

#[test]
fn a_batch_that_must_not_be_stored_gets_kafkas_error() {
    const CORRUPT_MESSAGE: i16 = 2;
    const MESSAGE_TOO_LARGE: i16 = 10;
    const INVALID_TIMESTAMP: i16 = 32;
    const INVALID_RECORD: i16 = 87;

    let mut broken_record = batch(&values(3)).to_vec();
    let last = broken_record.len() - 1;
    broken_record[last] ^= 0x40;
    let mut broken_compressed = batch_with(&values(300), Compression::Lz4).to_vec();
    let middle = broken_compressed.len() / 2;
    broken_compressed[middle] ^= 0x01;
    let mut twice = batch(&values(3)).to_vec();
    twice.extend_from_slice(&batch(&values(2)));
    let mut first_record_too_long = altered(61, &[0x7e]);
    first_record_too_long[61] = 0x7e;
    let cut = batch(&values(3));
    let oversized = batch(&[Bytes::from(vec![b'x'; 1_048_588 - 61 + 1])]);
    let future = wire::now_ms() + 2 * 3_600_000;
    let mut from_the_future = altered(header::BASE_TIMESTAMP, &future.to_be_bytes());
    from_the_future[header::MAX_TIMESTAMP..header::MAX_TIMESTAMP + 8].copy_from_slice(&future.to_be_bytes());

    let table: Vec<(&str, Bytes, i16)> = vec![
        ("a record changed after the checksum", broken_record.into(), CORRUPT_MESSAGE),
        ("a compressed record changed after the checksum", broken_compressed.into(), CORRUPT_MESSAGE),
        ("a wrong checksum", altered(header::CRC, &[1, 2, 3, 4]).into(), CORRUPT_MESSAGE),
        (
            "a count that is too high",
            seal(altered(header::RECORD_COUNT, &4i32.to_be_bytes())),
            INVALID_RECORD,
        ),
        ("a count that is too low", seal(altered(header::RECORD_COUNT, &2i32.to_be_bytes())), INVALID_RECORD),
        ("a count of zero", seal(altered(header::RECORD_COUNT, &0i32.to_be_bytes())), INVALID_RECORD),
        ("a negative count", seal(altered(header::RECORD_COUNT, &(-3i32).to_be_bytes())), INVALID_RECORD),
        ("a count of 2^31-1", seal(altered(header::RECORD_COUNT, &INT32_MAX)), INVALID_RECORD),
        (
            "a last delta that is too high",
            seal(altered(header::LAST_OFFSET_DELTA, &9i32.to_be_bytes())),
            INVALID_RECORD,
        ),
        (
            "a negative last delta",
            seal(altered(header::LAST_OFFSET_DELTA, &(-1i32).to_be_bytes())),
            INVALID_RECORD,
        ),
        ("magic 0", altered(header::MAGIC, &[0]).into(), INVALID_RECORD),
        ("magic 1", altered(header::MAGIC, &[1]).into(), INVALID_RECORD),
        ("magic 3", altered(header::MAGIC, &[3]).into(), CORRUPT_MESSAGE),
        ("magic -1", altered(header::MAGIC, &[0xff]).into(), CORRUPT_MESSAGE),
        ("an oversized batch", oversized, MESSAGE_TOO_LARGE),
        (
            "a base offset that is not zero",
            altered(header::BASE_OFFSET, &7i64.to_be_bytes()).into(),
            INVALID_RECORD,
        ),
        ("two batches", twice.into(), INVALID_RECORD),
        ("no bytes", Bytes::new(), INVALID_RECORD),
        ("a batch cut short", cut.slice(..cut.len() - 5), INVALID_RECORD),
        (
            "a batch longer than its bytes",
            altered(header::BATCH_LENGTH, &(1i32 << 19).to_be_bytes()).into(),
            INVALID_RECORD,
        ),
        (
            "a batch shorter than a header",
            altered(header::BATCH_LENGTH, &3i32.to_be_bytes()).into(),
            CORRUPT_MESSAGE,
        ),
        (
            "a negative batch length",
            altered(header::BATCH_LENGTH, &(-1i32).to_be_bytes()).into(),
            CORRUPT_MESSAGE,
        ),
        ("a control batch", seal(altered(header::ATTRIBUTES, &0x20i16.to_be_bytes())), INVALID_RECORD),
        ("a record longer than its batch", seal(first_record_too_long), INVALID_RECORD),
        ("records from two hours ahead", seal(from_the_future), INVALID_TIMESTAMP),
    ];

    let broker = Broker::start();
    let mut wire = Wire::connect(broker.bootstrap());
    let topic = wire::unique("bad-batches");
    wire.create_topic(&topic, 1, &[]);
    assert_eq!(wire.produce(&topic, 0, -1, batch(&values(1))).error_code, 0);
    let mut wrong = Vec::new();
    for (what, bytes, expected) in table {
        for acks in [-1, 1] {
            let answer = wire.produce(&topic, 0, acks, bytes.clone());
            if answer.error_code != expected || answer.base_offset != -1 {
                wrong.push(format!(
                    "{what}: error {} instead of {expected}, base offset {}, {:?}",
                    answer.error_code, answer.base_offset, answer.error_message
                ));
            }
        }
        let end = wire.end_offset(&topic, 0);
        assert_eq!(end, 1, "{what}: the log ends at {end}, so something was stored");
    }
    assert!(wrong.is_empty(), "\n{}", wrong.join("\n"));
    // The connection and the partition are as good as before.
    let answer = wire.produce(&topic, 0, -1, batch(&values(5)));
    assert_eq!((answer.error_code, answer.base_offset), (0, 1));
    let stored: Vec<_> = wire.read_all(&topic, 0).into_iter().map(|record| record.value).collect();
    let sent = values(1).into_iter().chain(values(5)).map(Some).collect::<Vec<_>>();
    assert_eq!(stored, sent);
}

#[test]
fn a_produce_request_that_names_nothing_we_have_gets_kafkas_error() {
    let broker = Broker::start();
    let mut wire = Wire::connect(broker.bootstrap());
    let topic = wire::unique("here");
    wire.create_topic(&topic, 2, &[]);
    let good = batch(&values(1));
    let unknown = wire::unique("not-here");
    for (what, topic, partition, acks, expected) in [
        ("an unknown topic", unknown.as_str(), 0, -1, 3),
        ("a partition past the last", topic.as_str(), 2, -1, 3),
        ("a negative partition", topic.as_str(), -1, -1, 3),
        ("acks of two", topic.as_str(), 0, 2, 21),
        ("acks of minus two", topic.as_str(), 0, -2, 21),
        ("what it should be", topic.as_str(), 1, -1, 0),
    ] {
        let answer = wire.produce(topic, partition, acks, good.clone());
        assert_eq!(answer.error_code, expected, "{what}: {answer:?}");
    }
    assert_eq!((wire.end_offset(&topic, 0), wire.end_offset(&topic, 1)), (0, 1));
}

#[test]
fn pipelined_produce_keeps_its_order() {
    let broker = Broker::start();
    let mut wire = Wire::connect(broker.bootstrap());
    let topic = wire::unique("pipeline");
    wire.create_topic(&topic, 3, &[]);
    // Round and round the partitions, so that requests alternate between shards.
    let mut waiting = Vec::new();
    for round in 0..300 {
        let acks = if round % 2 == 0 { -1 } else { 1 };
        let request = wire::produce_request(&topic, round % 3, acks, batch(&values(2)));
        waiting.push((wire.send(&request, wire::PRODUCE), round));
    }
    for (correlation_id, round) in waiting {
        let mut reply = wire.receive::<ProduceRequest>(correlation_id, wire::PRODUCE);
        let answer = reply.responses.remove(0).partition_responses.remove(0);
        let expected = (round % 3, 0, i64::from(round / 3) * 2);
        assert_eq!((answer.index, answer.error_code, answer.base_offset), expected, "round {round}");
    }
}

/// The head of a request: a request header of the version the body wants, with nothing of the body.
fn head<R: Request>(version: i16) -> Vec<u8> {
    wire::header_bytes::<R>(version, 1)
}

fn head_and<R: Request>(version: i16, body: &[&[u8]]) -> Vec<u8> {
    let mut bytes = head::<R>(version);
    bytes.extend(body.concat());
    wire::framed(&bytes)
}

/// Bytes that are no request. Behind each the sender closes its half, so a broker that waits for more learns that no
/// more will come.
fn hostile_bytes() -> Vec<(&'static str, Vec<u8>)> {
    let ours = |length: i32, body: &[u8]| [&length.to_be_bytes(), body].concat();
    // The same noise in every run.
    let mut noise = 0x9e37_79b9_7f4a_7c15_u64;
    let garbage = std::iter::repeat_with(|| {
        noise ^= noise << 13;
        noise ^= noise >> 7;
        noise ^= noise << 17;
        noise.to_be_bytes()[0]
    });
    let garbage: Vec<u8> = garbage.take(200).collect();
    vec![
        ("HTTP", b"GET / HTTP/1.1\r\nHost: broker\r\n\r\n".to_vec()),
        ("TLS", [&[0x16, 0x03, 0x01, 0x02, 0x00, 0x01][..], &garbage].concat()),
        ("garbage in a frame", wire::framed(&garbage)),
        ("ones in a frame", wire::framed(&[0xff; 64])),
        ("a length of 2 GiB", ours(i32::MAX, &[0; 64])),
        ("a length past socket.request.max.bytes", ours((100 << 20) + 1, &[0; 64])),
        ("a negative length", ours(-1, &[0; 64])),
        ("the most negative length", ours(i32::MIN, &[0; 64])),
        ("an empty frame", ours(0, &[])),
        ("half a length", vec![0, 0]),
        ("half a frame", ours(4096, &[0, 3, 0, 1, 0, 0])),
        ("half a header", ours(6, &[0, 3, 0, 1, 0, 0])),
        ("a client id longer than the frame", ours(12, &[0, 3, 0, 1, 0, 0, 0, 1, 0x7f, 0xff, b'a', b'b'])),
        ("a key nobody has", ours(10, &[0x7f, 0xff, 0, 0, 0, 0, 0, 1, 0xff, 0xff])),
        ("a negative key", ours(10, &[0xff, 0xff, 0, 0, 0, 0, 0, 1, 0xff, 0xff])),
        ("a version nobody has", ours(10, &[0, 3, 0x7f, 0xff, 0, 0, 0, 1, 0xff, 0xff])),
        ("a negative version", ours(10, &[0, 3, 0xff, 0xff, 0, 0, 0, 1, 0xff, 0xff])),
        ("Produce 2, which is gone", ours(18, &[0, 0, 0, 2, 0, 0, 0, 1, 0xff, 0xff, 0, 1, 0, 0, 0, 1, 0, 0])),
        ("Metadata of 2^31-1 topics", head_and::<MetadataRequest>(1, &[&INT32_MAX])),
        ("Metadata 12 of 2^31-1 topics", head_and::<MetadataRequest>(12, &[&COMPACT_MAX])),
        ("Metadata 12 with an endless varint", head_and::<MetadataRequest>(12, &[&[0xff; 12]])),
        (
            "Produce of 2^31-1 topics",
            head_and::<ProduceRequest>(3, &[&[0xff, 0xff, 0, 1, 0, 0, 0, 9], &INT32_MAX]),
        ),
        (
            "Produce 12 of 2^31-1 topics",
            head_and::<ProduceRequest>(12, &[&[0, 0, 1, 0, 0, 0, 9], &COMPACT_MAX]),
        ),
        (
            "Produce of 2^31-1 partitions",
            head_and::<ProduceRequest>(
                3,
                &[&[0xff, 0xff, 0, 1, 0, 0, 0, 9, 0, 0, 0, 1, 0, 1, b't'], &INT32_MAX],
            ),
        ),
        (
            "Produce of 2^31-1 bytes of records",
            head_and::<ProduceRequest>(
                3,
                &[
                    &[0xff, 0xff, 0, 1, 0, 0, 0, 9, 0, 0, 0, 1, 0, 1, b't', 0, 0, 0, 1, 0, 0, 0, 0],
                    &INT32_MAX,
                    &[0; 32],
                ],
            ),
        ),
        (
            "Fetch of 2^31-1 topics",
            head_and::<FetchRequest>(
                4,
                &[&[0xff; 4], &[0, 0, 0, 9], &[0, 0, 0, 1], &[0, 0, 16, 0], &[0], &INT32_MAX],
            ),
        ),
        (
            "Fetch 12 of 2^31-1 topics",
            head_and::<FetchRequest>(
                12,
                &[&[0xff; 4], &[0, 0, 0, 9, 0, 0, 0, 1, 0, 0, 16, 0, 0], &[0; 8], &COMPACT_MAX],
            ),
        ),
        ("ListOffsets of 2^31-1 topics", head_and::<ListOffsetsRequest>(1, &[&[0xff; 4], &INT32_MAX])),
        (
            "OffsetForLeaderEpoch of 2^31-1 topics",
            head_and::<OffsetForLeaderEpochRequest>(3, &[&[0xff; 4], &INT32_MAX]),
        ),
        ("CreateTopics of 2^31-1 topics", head_and::<CreateTopicsRequest>(2, &[&INT32_MAX])),
        ("CreateTopics 7 of 2^31-1 topics", head_and::<CreateTopicsRequest>(7, &[&COMPACT_MAX])),
        (
            "CreateTopics of 2^31-1 assignments",
            head_and::<CreateTopicsRequest>(2, &[&[0, 0, 0, 1, 0, 1, b't', 0, 0, 0, 1, 0, 1], &INT32_MAX]),
        ),
        ("DeleteTopics of 2^31-1 names", head_and::<DeleteTopicsRequest>(1, &[&INT32_MAX])),
        ("DeleteRecords of 2^31-1 topics", head_and::<DeleteRecordsRequest>(0, &[&INT32_MAX])),
        ("DeleteRecords 2 of 2^31-1 topics", head_and::<DeleteRecordsRequest>(2, &[&COMPACT_MAX])),
        ("DescribeConfigs of 2^31-1 resources", head_and::<DescribeConfigsRequest>(1, &[&INT32_MAX])),
        (
            "IncrementalAlterConfigs of 2^31-1 resources",
            head_and::<IncrementalAlterConfigsRequest>(0, &[&INT32_MAX]),
        ),
        (
            "2^31-1 tagged fields",
            head_and::<MetadataRequest>(12, &[&[1, 1, 0], &[0xff, 0xff, 0xff, 0xff, 0x07]]),
        ),
        (
            "a tagged field longer than the frame",
            head_and::<MetadataRequest>(12, &[&[1, 1, 0, 1, 0], &[0xff, 0xff, 0xff, 0xff, 0x07]]),
        ),
    ]
}

#[test]
fn hostile_bytes_cost_one_connection_and_no_memory() {
    let mut broker = Broker::start();
    let topic = wire::unique("bystander");
    Wire::connect(broker.bootstrap()).create_topic(&topic, 2, &[]);

    let done = AtomicBool::new(false);
    let rounds = AtomicU64::new(0);
    let bootstrap = broker.bootstrap().to_owned();
    std::thread::scope(|scope| {
        let _finished = Finished(&done);
        // Others do not notice: one connection, opened before, gets every answer until the end.
        let bystander = scope.spawn(|| {
            let mut wire = Wire::connect(&bootstrap);
            while !done.load(Ordering::Relaxed) {
                let round = i64::try_from(rounds.fetch_add(1, Ordering::Relaxed)).expect("few rounds");
                let answer = wire.produce(&topic, 0, -1, batch(&values(1)));
                assert_eq!((answer.error_code, answer.base_offset), (0, round));
                assert_eq!(wire.metadata(&topic).topics[0].error_code, 0);
            }
        });
        let hostile = hostile_bytes();
        let strike = || {
            for (what, bytes) in &hostile {
                let mut wire = Wire::connect(&bootstrap);
                wire.send_bytes(bytes);
                wire.finish_sending();
                wire.assert_closed(what);
            }
        };
        // The first rounds fill pools that stay; after them memory stands still.
        (0..3).for_each(|_| strike());
        let before = (!broker.is_external()).then(|| broker.resident_bytes());
        (0..20).for_each(|_| strike());
        if let Some(before) = before {
            let growth = broker.resident_bytes().saturating_sub(before);
            assert!(
                growth < 16 << 20,
                "{growth} bytes more after 20 rounds of {} hostile frames",
                hostile.len()
            );
        }
        done.store(true, Ordering::Relaxed);
        bystander.join().expect("the bystander is served throughout");
    });
    assert!(rounds.load(Ordering::Relaxed) > 1, "the bystander never got a turn");
    let end = Wire::connect(broker.bootstrap()).end_offset(&topic, 0);
    assert_eq!(end, i64::try_from(rounds.load(Ordering::Relaxed)).expect("few rounds"));
}

/// Ends the bystander when the test fails before it is told to stop.
struct Finished<'a>(&'a AtomicBool);

impl Drop for Finished<'_> {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Relaxed);
    }
}

#[test]
fn frames_that_never_arrive_hold_up_nobody() {
    let mut broker = Setup::new().start();
    let mut wire = Wire::connect(broker.bootstrap());
    let topic = wire::unique("stalled");
    wire.create_topic(&topic, 2, &[]);
    assert_eq!(wire.produce(&topic, 0, -1, batch(&values(1))).error_code, 0);
    let before = (!broker.is_external()).then(|| broker.resident_bytes());
    // A frame of 90 MiB is legal. Eight connections announce one, send its start and fall silent.
    let stalled: Vec<Wire> = (0..8)
        .map(|_| {
            let mut wire = Wire::connect(broker.bootstrap());
            wire.send_bytes(&(90i32 << 20).to_be_bytes());
            wire.send_bytes(&head::<ProduceRequest>(12));
            wire
        })
        .collect();
    for round in 1..50 {
        let answer = wire.produce(&topic, 0, -1, batch(&values(1)));
        assert_eq!((answer.error_code, answer.base_offset), (0, round));
        let answer = Wire::connect(broker.bootstrap()).produce(&topic, 1, 1, batch(&values(1)));
        assert_eq!((answer.error_code, answer.base_offset), (0, round - 1));
    }
    if let Some(before) = before {
        let growth = broker.resident_bytes().saturating_sub(before);
        assert!(growth < 64 << 20, "{growth} bytes more for eight frames that never arrived");
    }
    for mut wire in stalled {
        wire.finish_sending();
        wire.assert_closed("a frame given up");
    }
}

#[test]
fn a_version_of_api_versions_that_nobody_has_is_answered_in_version_0() {
    let broker = Broker::start();
    let mut wire = Wire::connect(broker.bootstrap());
    // The header is sound (version 2, no tagged fields); the body is not looked at: these bytes are no ApiVersions request of any version.
    wire.send_bytes(&wire::framed(&[0, 18, 0x7f, 0xff, 0, 0, 0, 77, 0xff, 0xff, 0, 0xde, 0xad, 0xbe, 0xef]));
    let answer = wire.receive::<ApiVersionsRequest>(77, 0);
    assert_eq!(answer.error_code, 35);
    let keys: Vec<i16> = answer.api_keys.iter().map(|key| key.api_key).collect();
    assert_eq!(keys, [18], "one entry, our own range");
    assert_eq!(answer.api_keys[0].min_version, 0);
    assert!(answer.api_keys[0].max_version >= 4);
    // The same connection goes on with a version from that range.
    let answer = wire.call(&ApiVersionsRequest::default(), 0);
    assert_eq!(answer.error_code, 0);
    assert!(
        answer.api_keys.iter().any(|key| key.api_key == 0 && key.min_version == 0),
        "Produce is advertised from 0"
    );
}

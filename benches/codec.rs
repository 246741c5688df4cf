//! Micro-benchmarks of the codec and the log's arithmetic: `cargo bench` runs all benchmarks in some minutes, `cargo bench -- crc` some.
#![allow(unsafe_code)]

mod harness;

use std::hint::black_box;

use bytes::{Bytes, BytesMut};
use corelane::log::offset_index::OffsetIndex;
use corelane::model::{ErrorCode, LeaderEpoch, NodeId, Offset, TopicId};
use corelane::protocol::api::Api;
use corelane::protocol::batch::{self, BatchHeader, Batches, HEADER_BYTES};
use corelane::protocol::codec;
use corelane::protocol::crc::{crc32c, crc32c_append};
use corelane::protocol::fetch_response::{self, FetchResponse, Partition, Topic};
use corelane::protocol::guard;
use corelane::protocol::header::{self, RequestHeader, ResponseHeader};
use corelane::protocol::messages::ProduceRequest;
use corelane::protocol::messages::produce_request::{PartitionProduceData, TopicProduceData};
use corelane::protocol::records::{self, Records};
use harness::Bench;
use kafka_protocol::protocol::{Encodable, StrBytes};
use kafka_protocol::records::{Compression, Record, RecordBatchEncoder, RecordEncodeOptions, TimestampType};

fn main() {
    let bench = Bench::begin();
    batch_checks(&bench);
    checksums(&bench);
    framing(&bench);
    index_seek(&bench);
    requests(&bench);
    fetch_responses(&bench);
    bench.end();
}

fn batch_checks(bench: &Bench) {
    let batch = record_batch(100, 100);
    bench.run("batch header", 0, 0, || BatchHeader::parse(black_box(&batch)));
    bench.run("batch check: header, CRC, 100 x 100 B", 100, batch.len(), || check_batch(black_box(&batch)));
    let large = record_batch(1000, 1000);
    bench.run("batch check: header, CRC, 1000 x 1 KB", 1000, large.len(), || check_batch(black_box(&large)));
    let log: Vec<u8> = std::iter::repeat_n(&batch[..], 100).flatten().copied().collect();
    bench.run("batches: 100 headers in a row", 0, 0, || {
        Batches::new(black_box(&log))
            .map(|batch| batch.map_or(0, |(header, _)| header.record_count))
            .sum::<i32>()
    });
}

/// What a produced batch goes through before it is stored.
fn check_batch(batch: &[u8]) -> bool {
    let header = BatchHeader::parse(batch).expect("a good batch");
    batch::crc_matches(batch) && records::walk(&header, &batch[HEADER_BYTES..]).is_ok()
}

fn checksums(bench: &Bench) {
    for (size, bytes) in [("100 B", 100), ("1 KiB", 1 << 10), ("16 KiB", 16 << 10), ("1 MiB", 1 << 20)] {
        let data = vec![0x5a; bytes];
        bench.run(&format!("crc32c {size}"), 0, bytes, || crc32c(black_box(&data)));
        bench.run(&format!("crc32c {size}, in pieces"), 0, bytes, || crc32c_append(0, black_box(&data)));
    }
}

fn framing(bench: &Bench) {
    for (name, count, value_bytes) in
        [("walk: 100 x 100 B", 100, 100), ("walk: 1000 x 10 B", 1000, 10), ("walk: 1000 x 1 KB", 1000, 1000)]
    {
        let batch = record_batch(count, value_bytes);
        let header = BatchHeader::parse(&batch).expect("a good batch");
        let data = &batch[HEADER_BYTES..];
        bench.run(name, count, data.len(), || records::walk(&header, black_box(data)));
    }
    let batch = record_batch(1000, 100);
    let header = BatchHeader::parse(&batch).expect("a good batch");
    let data = &batch[HEADER_BYTES..];
    bench.run("records: iterate 1000 x 100 B", 1000, data.len(), || {
        Records::new(&header, black_box(data)).map(|record| record.map_or(0, |r| r.timestamp_delta)).max()
    });
}

/// A full segment's offset index: one entry for each 4 KiB of 1 GiB.
fn index_seek(bench: &Bench) {
    const ENTRIES: i64 = 262_144;
    let mut index = OffsetIndex::new(Offset(0), 10 << 20);
    for entry in 1..=ENTRIES {
        index.append(Offset(entry * 40), (entry * 4096) as u32);
    }
    assert_eq!(index.len() as i64, ENTRIES);
    let mut target = 0;
    bench.run("index seek: 262,144 entries", 1, 0, || {
        // a stride that visits the whole index in no order the cache could learn
        target = (target + 7_368_787) % (ENTRIES * 40);
        index.lookup(Offset(black_box(target)))
    });
}

fn requests(bench: &Bench) {
    for (name, version, partitions) in [
        ("produce 9: header, 1 partition", 9, 1),
        ("produce 3: 1 partition", 3, 1),
        ("produce 13: 1 partition", 13, 1),
        ("produce 9: 100 partitions", 9, 100),
    ] {
        let request = produce(version, partitions);
        let bytes = request.body.len();
        bench.run(&format!("guard {name}"), partitions, bytes, || {
            guard::check(request.api, request.version, black_box(&request.body))
        });
        bench.run(&format!("guard + decode {name}"), partitions, bytes, || {
            codec::decode::<ProduceRequest>(black_box(&request))
        });
    }
    let frame = Bytes::from_static(b"\0\0\0\x09\0\0\0\x01\0\x07rdkafka\0");
    bench.run("request header", 0, frame.len(), || header::parse(black_box(&frame).clone()));
}

fn fetch_responses(bench: &Bench) {
    for (name, version, partitions, slices) in [
        ("fetch response 16: 1 partition, 1 slice", 16, 1, 1),
        ("fetch response 11: 1 partition, 1 slice", 11, 1, 1),
        ("fetch response 16: 1 partition, 16 slices", 16, 1, 16),
        ("fetch response 16: 100 partitions", 16, 100, 1),
    ] {
        let records: Vec<Bytes> = (0..slices).map(|_| record_batch(64, 1000)).collect();
        let bytes = records.iter().map(Bytes::len).sum::<usize>() * partitions;
        let partitions: Vec<Partition<'_>> = (0..partitions)
            .map(|index| Partition {
                index: index as i32,
                error: ErrorCode::None,
                high_watermark: Offset(1_000_000),
                last_stable_offset: Offset(1_000_000),
                log_start_offset: Offset(0),
                diverging: None,
                current_leader: Some((NodeId(1), LeaderEpoch(3))),
                aborted: None,
                preferred_read_replica: None,
                records: &records,
            })
            .collect();
        let topics = [Topic { name: "benchmark", id: TopicId(7), partitions: &partitions }];
        let response = FetchResponse {
            throttle_time_ms: 0,
            error: ErrorCode::None,
            session_id: 0,
            topics: &topics,
            node_endpoints: &[],
        };
        let header = ResponseHeader { api: Api::Fetch, version, correlation_id: 1 };
        bench.run(name, 64 * slices * partitions.len(), bytes, || {
            fetch_response::encode(header, black_box(&response))
        });
    }
}

/// One batch as a producer sends it: no keys, no headers.
fn record_batch(count: usize, value_bytes: usize) -> Bytes {
    let value = Bytes::from(vec![b'x'; value_bytes]);
    let records: Vec<Record> = (0..count)
        .map(|index| Record {
            transactional: false,
            control: false,
            delete_horizon: false,
            partition_leader_epoch: -1,
            producer_id: -1,
            producer_epoch: -1,
            timestamp_type: TimestampType::Creation,
            offset: index as i64,
            sequence: index as i32 - 1,
            timestamp: 1_700_000_000_000 + index as i64,
            key: None,
            value: Some(value.clone()),
            headers: Default::default(),
        })
        .collect();
    let mut batch = BytesMut::new();
    let options = RecordEncodeOptions { version: 2, compression: Compression::None };
    RecordBatchEncoder::encode(&mut batch, &records, &options).expect("a batch");
    batch.freeze()
}

fn produce(version: i16, partitions: usize) -> RequestHeader {
    let records = record_batch(10, 100);
    let partitions = (0..partitions)
        .map(|index| {
            PartitionProduceData::default().with_index(index as i32).with_records(Some(records.clone()))
        })
        .collect();
    let mut topic = TopicProduceData::default().with_partition_data(partitions);
    if version < 13 {
        topic = topic.with_name(StrBytes::from_static_str("benchmark").into());
    }
    let request =
        ProduceRequest::default().with_acks(-1).with_timeout_ms(30_000).with_topic_data(vec![topic]);
    let mut body = BytesMut::new();
    request.encode(&mut body, version).expect("a request");
    RequestHeader { api: Api::Produce, version, correlation_id: 1, client_id: None, body: body.freeze() }
}

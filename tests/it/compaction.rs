//! A compacted topic: the last value of each key, whatever happens to the broker meanwhile; and what it refuses.

use crate::admin::Scrape;
use crate::harness::{Broker, Setup, run_to_end};
use crate::wire::{self, Wire, header, keyed_batch};
use bytes::Bytes;
use kafka_protocol::records::{Compression, RecordBatchDecoder};
use std::collections::HashMap;
use std::path::Path;
use std::process::Command;
use std::time::Instant;

const CODECS: [Compression; 5] =
    [Compression::None, Compression::Gzip, Compression::Snappy, Compression::Lz4, Compression::Zstd];

/// What a consumer makes of a topic: the last value of each key, and how many records it was given.
fn consume(wire: &mut Wire, topic: &str) -> (HashMap<Bytes, Bytes>, usize) {
    let end = wire.end_offset(topic, 0);
    let (mut values, mut count, mut next) = (HashMap::new(), 0, 0);
    while next < end {
        let data = wire.fetch(topic, 0, next, 5_000);
        assert_eq!(data.error_code, 0, "{topic} cannot be read at {next}");
        let bytes = data.records.unwrap_or_default();
        let from = next;
        // batches may be empty: a consumer goes on by their headers
        let mut at = 0;
        while at < bytes.len() {
            let field = |from: usize| {
                i32::from_be_bytes(bytes[at + from..at + from + 4].try_into().expect("4 bytes"))
            };
            let base = i64::from_be_bytes(bytes[at..at + 8].try_into().expect("8 bytes"));
            let length = usize::try_from(field(header::BATCH_LENGTH)).expect("a length") + 12;
            next = base + i64::from(field(header::LAST_OFFSET_DELTA)) + 1;
            let mut batch = bytes.slice(at..at + length);
            at += length;
            if i32::from_be_bytes(
                batch[header::RECORD_COUNT..header::RECORD_COUNT + 4].try_into().expect("4 bytes"),
            ) == 0
            {
                continue;
            }
            for record in RecordBatchDecoder::decode_all(&mut batch)
                .expect("it decodes")
                .into_iter()
                .flat_map(|set| set.records)
            {
                assert!((base..next).contains(&record.offset));
                count += 1;
                let key = record.key.expect("a compacted topic's records have keys");
                match record.value {
                    Some(value) => values.insert(key, value),
                    None => values.remove(&key),
                };
            }
        }
        assert!(next > from, "{topic} ends at {end} and gives nothing at {from}");
    }
    (values, count)
}

struct Load {
    topic: String,
    keys: u64,
    expect: HashMap<Bytes, Bytes>,
    updates: u64,
}

impl Load {
    /// Batches of a hundred updates in every codec; one update in fifty deletes its key.
    fn produce(&mut self, wire: &mut Wire, batches: u64) {
        for number in 0..batches {
            let entries: Vec<_> = (0..100)
                .map(|_| {
                    self.updates += 1;
                    let key = format!("key {}", self.updates.wrapping_mul(0x9e37_79b9_7f4a_7c15) % self.keys);
                    let value = (!self.updates.is_multiple_of(50))
                        .then(|| format!("{} {}", self.updates, "~".repeat(self.updates as usize % 100)));
                    match &value {
                        Some(value) => self.expect.insert(key.clone().into(), value.clone().into()),
                        None => self.expect.remove(key.as_bytes()),
                    };
                    (Some(key), value)
                })
                .collect();
            let answer = wire.produce(
                &self.topic,
                0,
                -1,
                keyed_batch(&entries, CODECS[number as usize % CODECS.len()]),
            );
            assert_eq!(answer.error_code, 0, "{answer:?}");
        }
    }
}

/// Waits until the partition's segments but the last hold little more than the keys' last records: looks after each
/// cleaning that the broker tells of.
fn wait_until_compacted(broker: &mut Broker, wire: &mut Wire, topic: &str, records_max: usize) {
    const TOLD: &str = " compacted log=";
    loop {
        let told = broker.stderr().lines().filter(|line| line.contains(TOLD)).count();
        if consume(wire, topic).1 <= records_max {
            return;
        }
        broker.wait_logged(TOLD, told + 1);
    }
}

fn verify(data: &Path) {
    let mut command = Command::new(env!("CARGO_BIN_EXE_corelane"));
    command.arg("inspect").arg(data).arg("--verify");
    let ended = run_to_end(command);
    assert!(ended.status.success(), "{:?} {}", ended.stdout, ended.stderr);
}

fn setup() -> Setup {
    Setup::new().set("log.cleaner.backoff.ms", 100).set("log.segment.bytes", 1 << 20)
}

const COMPACT: [(&str, &str); 2] = [("cleanup.policy", "compact"), ("min.cleanable.dirty.ratio", "0.1")];

#[test]
fn a_compacted_topic_keeps_the_last_value_of_each_key() {
    let mut broker = setup().start();
    let mut wire = Wire::connect(broker.bootstrap());
    let topic = wire::unique("compacted");
    wire.create_topic(&topic, 1, &COMPACT);
    let mut load = Load { topic: topic.clone(), keys: 500, expect: HashMap::new(), updates: 0 };
    load.produce(&mut wire, 1_000);
    // three segments are closed; the fourth, which is appended to, is not compacted
    wait_until_compacted(&mut broker, &mut wire, &topic, 60_000);
    assert_eq!(consume(&mut wire, &topic).0, load.expect);
    // killed in whatever it is doing, again and again
    for _ in 0..2 {
        load.produce(&mut wire, 300);
        broker.kill();
        broker.restart();
        wire = Wire::connect(broker.bootstrap());
        assert_eq!(consume(&mut wire, &topic).0, load.expect);
    }
    wait_until_compacted(&mut broker, &mut wire, &topic, 60_000);
    broker.stop();
    verify(&broker.data());
    broker.restart_on(1);
    let mut wire = Wire::connect(broker.bootstrap());
    assert_eq!(consume(&mut wire, &topic).0, load.expect);
    // every place in it can be asked for, gaps included
    let end = wire.end_offset(&topic, 0);
    for from in (0..end).step_by(usize::try_from(end / 200).expect("it has an end")) {
        let data = wire.fetch(&topic, 0, from, 5_000);
        assert!(data.error_code == 0 && data.records.is_some_and(|bytes| !bytes.is_empty()), "at {from}");
    }
}

#[test]
fn a_record_without_a_key_is_refused() {
    const INVALID_RECORD: i16 = 87;
    let broker = setup().start();
    let mut wire = Wire::connect(broker.bootstrap());
    let topic = wire::unique("keys");
    wire.create_topic(&topic, 1, &COMPACT);
    let some = |key: bool| (key.then(|| "key".to_owned()), Some("value".to_owned()));
    for compression in CODECS {
        let answer = wire.produce(
            &topic,
            0,
            -1,
            keyed_batch(&[some(true), some(false), some(true), some(false)], compression),
        );
        assert_eq!(answer.error_code, INVALID_RECORD, "{compression:?}");
        assert!(answer.error_message.is_some_and(|text| text.contains("without a key")));
        let at_fault: Vec<i32> = answer.record_errors.iter().map(|error| error.batch_index).collect();
        assert_eq!(at_fault, [1, 3], "{compression:?}");
        // in a long batch, too, which is looked into elsewhere
        let mut many = vec![some(true); 20_000];
        many[19_999].0 = None;
        let answer = wire.produce(&topic, 0, -1, keyed_batch(&many, compression));
        assert_eq!((answer.error_code, answer.record_errors.len()), (INVALID_RECORD, 1), "{compression:?}");
        many[19_999].0 = Some(String::new());
        assert_eq!(wire.produce(&topic, 0, -1, keyed_batch(&many, compression)).error_code, 0);
    }
}

/// Ten million updates of a hundred thousand keys, with restarts and kills in the middle: some minutes.
/// `cargo test --release --test it compaction -- --ignored --nocapture`
#[test]
#[ignore = "takes minutes"]
fn ten_million_updates_end_with_the_last_values() {
    const KEYS: u64 = 100_000;
    /// What the description of log.cleaner.dedupe.buffer.size says of a key, and the smallest map, which a shard has here.
    const KEY_BYTES: f64 = 30.0;
    const MAP_BYTES: u64 = 4 << 20;
    let begun = Instant::now();
    let setup = Setup::new().set("log.cleaner.backoff.ms", 1_000).set("log.segment.bytes", 8 << 20);
    let setup = setup.set("log.cleaner.dedupe.buffer.size", 2 * MAP_BYTES);
    // the caches are full soon, so what grows is what compaction takes
    let caches = ["tail.cache", "read.ahead"].map(|cache| format!("corelane.shard.{cache}.bytes"));
    let mut broker = caches.iter().fold(setup, |setup, cache| setup.set(cache, 32 << 20)).start();
    let mut wire = Wire::connect(broker.bootstrap());
    let topic = wire::unique("large");
    wire.create_topic(&topic, 1, &COMPACT);
    let mut load = Load { topic: topic.clone(), keys: KEYS, expect: HashMap::new(), updates: 0 };
    let (mut largest, mut runs) = (0, 0.0);
    for round in 0..10 {
        load.produce(&mut wire, 10_000);
        let resident = broker.resident_bytes();
        largest = largest.max(resident);
        let scrape = Scrape::of(&broker);
        let [keys, limit] = ["corelane_cleaner_map_keys", "corelane_cleaner_map_limit_keys"]
            .map(|name| scrape.sum(name, &[]));
        assert!(
            keys <= limit && limit * KEY_BYTES <= 2.1 * MAP_BYTES as f64,
            "{keys} keys in a map of {limit}"
        );
        runs += scrape.sum("corelane_cleaner_runs_total", &[]);
        println!(
            "{:6.1} s: {} updates, {} MiB resident, {keys} keys in a map of {limit}",
            begun.elapsed().as_secs_f64(),
            load.updates,
            resident >> 20
        );
        match round % 3 {
            0 => broker.kill(),
            1 => broker.stop(),
            _ => continue,
        }
        broker.restart();
        wire = Wire::connect(broker.bootstrap());
    }
    // the segment that is appended to is not compacted, and of those of the last cleaning the last batches stay
    wait_until_compacted(&mut broker, &mut wire, &topic, 1_500_000);
    let (values, count) = consume(&mut wire, &topic);
    largest = largest.max(broker.resident_bytes());
    println!(
        "{:6.1} s: {count} records are left of {}, {runs} cleanings, {} MiB resident at most",
        begun.elapsed().as_secs_f64(),
        load.updates,
        largest >> 20
    );
    assert_eq!(values, load.expect);
    // two shards' caches and maps, the journals' pinned batches, and what the process takes besides
    assert!(largest < 256 << 20, "{largest} bytes resident");
    broker.stop();
    verify(&broker.data());
}

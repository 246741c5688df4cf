//! Records that go: by age and size, as the topic's configuration says at the moment, and by DeleteRecords; and where
//! the log begins then, for every request that tells it, before and after a restart.

use crate::admin::Scrape;
use crate::harness::{Broker, Setup};
use crate::wire::{self, Wire, batch, string};
use bytes::Bytes;
use kafka_protocol::messages::delete_records_request::{DeleteRecordsPartition, DeleteRecordsTopic};
use kafka_protocol::messages::list_offsets_request::{ListOffsetsPartition, ListOffsetsTopic};
use kafka_protocol::messages::{BrokerId, DeleteRecordsRequest, ListOffsetsRequest, TopicName};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

const NONE: i16 = 0;
const OFFSET_OUT_OF_RANGE: i16 = 1;
const UNKNOWN_TOPIC_OR_PARTITION: i16 = 3;
const POLICY_VIOLATION: i16 = 44;

const EARLIEST: i64 = -2;
/// Records of a batch of [`fill`], which is some 100 KB.
const RECORDS: i64 = 20;
const PATIENCE: Duration = Duration::from_secs(20);

/// Appends batches of 100 KB.
fn fill(wire: &mut Wire, topic: &str, partition: i32, batches: i64) {
    let values: Vec<Bytes> = (0..RECORDS).map(|_| Bytes::from(vec![b'x'; 5_000])).collect();
    for _ in 0..batches {
        assert_eq!(wire.produce(topic, partition, -1, batch(&values)).error_code, NONE);
    }
}

/// The offset ListOffsets tells of a time, or of an end.
fn offset_of(wire: &mut Wire, topic: &str, partition: i32, timestamp: i64) -> i64 {
    let partition = ListOffsetsPartition::default()
        .with_partition_index(partition)
        .with_current_leader_epoch(-1)
        .with_timestamp(timestamp);
    let topic =
        ListOffsetsTopic::default().with_name(TopicName(string(topic))).with_partitions(vec![partition]);
    let request = ListOffsetsRequest::default().with_replica_id(BrokerId(-1)).with_topics(vec![topic]);
    let answer = wire.call(&request, 7).topics.remove(0).partitions.remove(0);
    assert_eq!(answer.error_code, NONE);
    answer.offset
}

/// DeleteRecords of one topic: error code and low watermark of each partition.
fn delete(wire: &mut Wire, version: i16, topic: &str, partitions: &[(i32, i64)]) -> Vec<(i16, i64)> {
    let partitions = partitions.iter().map(|&(index, offset)| {
        DeleteRecordsPartition::default().with_partition_index(index).with_offset(offset)
    });
    let topic = DeleteRecordsTopic::default()
        .with_name(TopicName(string(topic)))
        .with_partitions(partitions.collect());
    let request = DeleteRecordsRequest::default().with_topics(vec![topic]).with_timeout_ms(30_000);
    let answers = wire.call(&request, version).topics.remove(0).partitions;
    answers.iter().map(|answer| (answer.error_code, answer.low_watermark)).collect()
}

fn configure(wire: &mut Wire, topic: &str, key: &str, value: &str) {
    wire.alter_topic(topic, &[(key, Some(value))]);
}

/// Asks until the answer is as it should be: the broker tells nobody when it deletes.
fn wait_until(what: &str, mut holds: impl FnMut() -> bool) {
    let begun = Instant::now();
    while !holds() {
        assert!(begun.elapsed() < PATIENCE, "not within {PATIENCE:?}: {what}");
        std::thread::sleep(Duration::from_millis(5));
    }
}

/// Base offsets of a partition's segments on disk.
fn segments(folder: &Path) -> Vec<i64> {
    let entries = std::fs::read_dir(folder).expect("a partition has a folder");
    let paths = entries.map(|entry| entry.expect("it can be listed").path());
    let mut bases: Vec<i64> = paths
        .filter(|path| path.extension().is_some_and(|extension| extension == "log"))
        .filter_map(|path| path.file_stem()?.to_str()?.parse().ok())
        .collect();
    bases.sort_unstable();
    bases
}

fn folder(broker: &Broker, topic: &str, partition: i32) -> PathBuf {
    broker.data().join(format!("{topic}-{partition}"))
}

/// Where the log begins, as fetches, appends and ListOffsets tell it.
fn starts_at(wire: &mut Wire, topic: &str, partition: i32, start: i64) {
    assert_eq!(offset_of(wire, topic, partition, EARLIEST), start);
    assert_eq!(offset_of(wire, topic, partition, 0), start, "by time");
    let data = wire.fetch(topic, partition, start, 0);
    assert_eq!((data.error_code, data.log_start_offset), (NONE, start));
    assert!(data.records.is_some_and(|records| !records.is_empty()));
    if start > 0 {
        let below = wire.fetch(topic, partition, start - 1, 0);
        assert_eq!((below.error_code, below.log_start_offset), (OFFSET_OUT_OF_RANGE, start));
    }
}

#[test]
fn what_is_too_much_or_too_old_goes_and_stays_gone() {
    const KEPT: i64 = 2 << 20;
    let mut broker = Setup::new().set("log.retention.check.interval.ms", 20).start();
    let mut wire = Wire::connect(broker.bootstrap());
    let topic = wire::unique("expiring");
    wire.create_topic(&topic, 2, &[("segment.bytes", "1048576")]);
    for partition in 0..2 {
        fill(&mut wire, &topic, partition, 55);
        starts_at(&mut wire, &topic, partition, 0);
        assert!(segments(&folder(&broker, &topic, partition)).len() > 5);
    }
    configure(&mut wire, &topic, "retention.bytes", &KEPT.to_string());
    let mut starts = Vec::new();
    for partition in 0..2 {
        let path = folder(&broker, &topic, partition);
        wait_until("segments go", || segments(&path).len() <= 3);
        let start = segments(&path)[0];
        let kept = (55 * RECORDS - start) * 5_000;
        assert!((KEPT..KEPT + (1 << 20) + 200_000).contains(&kept), "{kept} bytes are kept");
        starts_at(&mut wire, &topic, partition, start);
        starts.push(start);
        let appended = wire.produce(&topic, partition, -1, batch(&[Bytes::from_static(b"last")]));
        assert_eq!((appended.base_offset, appended.log_start_offset), (55 * RECORDS, start));
    }
    let scrape = Scrape::of(&broker);
    assert_eq!(scrape.sum("corelane_expired_records_total", &[]) as i64, starts.iter().sum::<i64>());
    assert!(scrape.sum("corelane_removed_segments_total", &[]) >= 4.0);
    assert!(scrape.sum("corelane_removed_bytes_total", &[]) > 4e6);
    for kill in [true, false] {
        if kill {
            broker.kill()
        } else {
            broker.stop()
        }
        broker.restart_on(if kill { 3 } else { 1 });
        wire = Wire::connect(broker.bootstrap());
        for (partition, &start) in (0..).zip(&starts) {
            starts_at(&mut wire, &topic, partition, start);
            assert_eq!(wire.end_offset(&topic, partition), 55 * RECORDS + 1);
        }
    }
    // the active segment goes, too
    configure(&mut wire, &topic, "retention.ms", "1");
    for (partition, end) in [(0, 55 * RECORDS + 1), (1, 55 * RECORDS + 1)] {
        let path = folder(&broker, &topic, partition);
        wait_until("all of it goes", || segments(&path) == [end]);
        assert_eq!(offset_of(&mut wire, &topic, partition, EARLIEST), end);
        let fetched = wire.fetch(&topic, partition, end - 1, 0);
        assert_eq!(fetched.error_code, OFFSET_OUT_OF_RANGE);
        let appended = wire.produce(&topic, partition, -1, batch(&[Bytes::from_static(b"first")]));
        assert_eq!((appended.error_code, appended.base_offset), (NONE, end));
    }
    broker.stop();
}

#[test]
fn delete_records() {
    let mut broker = Setup::new().start();
    let mut wire = Wire::connect(broker.bootstrap());
    let (topic, compacted) = (wire::unique("shortened"), wire::unique("compacted"));
    wire.create_topic(&topic, 4, &[("segment.bytes", "1048576")]);
    wire.create_topic(&compacted, 1, &[("cleanup.policy", "compact")]);
    for partition in 0..4 {
        fill(&mut wire, &topic, partition, 24);
    }
    let end = 24 * RECORDS;
    for version in 0..=2 {
        let step = i64::from(version) * 100;
        let asked = [(0, 5 + step), (1, 105 + step), (2, -1), (3, end + 1), (3, -2), (7, 1)];
        let told = delete(&mut wire, version, &topic, &asked);
        let out_of_range = (OFFSET_OUT_OF_RANGE, -1);
        let expected = [
            (NONE, 5 + step),
            (NONE, 105 + step),
            (NONE, end),
            out_of_range,
            out_of_range,
            (UNKNOWN_TOPIC_OR_PARTITION, -1),
        ];
        assert_eq!(told, expected, "v{version}");
        // never back
        assert_eq!(delete(&mut wire, version, &topic, &[(0, 3)]), [(NONE, 5 + step)]);
        assert_eq!(delete(&mut wire, version, &compacted, &[(0, 0)]), [(POLICY_VIOLATION, -1)]);
        let nowhere = delete(&mut wire, version, "nowhere", &[(0, 0)]);
        assert_eq!(nowhere, [(UNKNOWN_TOPIC_OR_PARTITION, -1)]);
    }
    // deletions of many clients at once
    let bootstrap = broker.bootstrap().to_owned();
    std::thread::scope(|scope| {
        for client in 0..8 {
            let (bootstrap, topic) = (&bootstrap, &topic);
            scope.spawn(move || {
                let mut wire = Wire::connect(bootstrap);
                for step in 0..5 {
                    let to = 206 + client + step * 8;
                    let told = delete(&mut wire, 2, topic, &[(0, to)]);
                    assert!(told[0].0 == NONE && told[0].1 >= to && told[0].1 < 246, "{to}: {told:?}");
                }
            });
        }
    });
    let check = |broker: &Broker| {
        let mut wire = Wire::connect(broker.bootstrap());
        starts_at(&mut wire, &topic, 0, 245);
        starts_at(&mut wire, &topic, 1, 305);
        assert_eq!(offset_of(&mut wire, &topic, 2, EARLIEST), end);
        starts_at(&mut wire, &topic, 3, 0);
        // whole segments below the start are gone
        for (partition, start) in [(0, 245), (1, 305)] {
            let path = folder(broker, &topic, partition);
            wait_until("segments below the start go", || {
                segments(&path).get(1).is_none_or(|&next| next > start)
            });
            assert!(segments(&path)[0] > 0);
        }
    };
    check(&broker);
    broker.kill();
    broker.restart();
    check(&broker);
    broker.stop();
    broker.restart_on(3);
    check(&broker);
    broker.stop();
}

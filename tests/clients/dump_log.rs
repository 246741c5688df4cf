//! Kafka's own kafka-dump-log reads the files of a broker that was stopped cleanly and finds nothing to complain of.

use crate::harness::{Broker, Setup};
use crate::install::{kafka_tool, script};
use crate::run::run;
use crate::wire::{self, Wire};
use bytes::{Bytes, BytesMut};
use kafka_protocol::records::{Compression, Record, RecordBatchEncoder, RecordEncodeOptions, TimestampType};
use std::path::{Path, PathBuf};

const CODECS: [&str; 5] = ["none", "gzip", "snappy", "lz4", "zstd"];
/// Written by a producer with an id: the scripts give one to every second codec of their lists.
const IDEMPOTENT: [&str; 3] = ["none", "snappy", "lz4"];
const PARTITIONS: i32 = 2;
const RECORDS: usize = 30_000;

/// What kafka-dump-log says when something is wrong with a file; it goes on and ends with exit code 0.
const COMPLAINTS: [&str; 7] = [
    "Mismatches in",
    "Found timestamp mismatch",
    "out of order timestamp",
    "are not found in the log",
    "invalid bytes at the end",
    "isvalid: false",
    "orrupt",
];

fn files(folder: &Path, extensions: &[&str]) -> Vec<PathBuf> {
    let mut files: Vec<PathBuf> = std::fs::read_dir(folder)
        .unwrap_or_else(|error| panic!("{}: {error}", folder.display()))
        .map(|entry| entry.expect("it can be listed").path())
        .filter(|path| path.extension().is_some_and(|found| extensions.iter().any(|wanted| found == *wanted)))
        .collect();
    files.sort();
    files
}

/// Whether offsets follow each other without gaps.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Offsets {
    Dense,
    /// The log was compacted.
    Gaps,
}

/// Runs kafka-dump-log over `files` and returns what it prints; panics at the first complaint.
fn dump(files: &[PathBuf], option: &str, offsets: Offsets) -> String {
    let list: Vec<String> = files.iter().map(|file| file.display().to_string()).collect();
    let mut command = kafka_tool("org.apache.kafka.tools.DumpLogSegments");
    command.arg(option).arg("--files").arg(list.join(","));
    let text = run(command).text();
    for complaint in COMPLAINTS {
        let line = text.lines().find(|line| line.contains(complaint));
        assert!(line.is_none(), "kafka-dump-log complains: {}", line.unwrap_or_default());
    }
    // It takes -1 for the offset before the first record of any segment, and says so of every one that does not begin
    // at 0, Kafka's own included.
    for line in text.lines() {
        if let Some((before, after)) = line.trim().split_once(" is followed by ") {
            if offsets == Offsets::Gaps {
                continue;
            }
            let base = files.iter().any(|file| file.ends_with(format!("{:0>20}.log", after)));
            assert!(before == "-1" && base, "kafka-dump-log finds a gap: {line}");
        }
    }
    text
}

/// The number behind `name: ` in a line of kafka-dump-log.
fn number(line: &str, name: &str) -> Option<i64> {
    line.split_once(&format!("{name}: "))?.1.split(' ').next()?.parse().ok()
}

#[test]
fn kafka_dump_log_reads_our_files() {
    // Small segments and dense indexes, so that there is something to look at.
    let mut broker =
        Setup::new().set("log.segment.bytes", 1 << 20).set("log.index.interval.bytes", 1024).start();
    let prefix = wire::unique("dump");
    let mut wire = Wire::connect(broker.bootstrap());
    for codec in CODECS {
        wire.create_topic(&format!("{prefix}-{codec}"), PARTITIONS, &[]);
    }
    write(&broker, &prefix, "confluent_roundtrip.py", "none,gzip,snappy,zstd");
    write(&broker, &prefix, "kafka_python_roundtrip.py", "lz4");
    broker.stop();
    // One JVM for all: it prints the files in the order given.
    let wanted = ["log", "index", "timeindex", "txnindex", "snapshot"];
    let folders = CODECS.map(|codec| {
        let of = |partition| files(&broker.data().join(format!("{prefix}-{codec}-{partition}")), &wanted);
        (0..PARTITIONS).flat_map(of).collect::<Vec<_>>()
    });
    let text = dump(&folders.concat(), "--deep-iteration", Offsets::Dense);
    for (codec, files) in CODECS.iter().zip(&folders) {
        check_topic(codec, files, &text);
    }
    // What Kafka itself checks when it starts.
    let is_index =
        |path: &PathBuf| path.extension().is_some_and(|found| found == "index" || found == "timeindex");
    let indexes: Vec<PathBuf> = folders.concat().into_iter().filter(is_index).collect();
    let text = dump(&indexes, "--index-sanity-check", Offsets::Dense);
    let passed = text.lines().filter(|line| line.ends_with("passed sanity check.")).count();
    assert_eq!(passed, indexes.len(), "{text}");
}

/// What the dump says of one file.
fn section<'a>(text: &'a str, file: &Path) -> &'a str {
    let start = format!("Dumping {}\n", file.display());
    let section =
        text.split_once(&start).unwrap_or_else(|| panic!("{} is not in the dump", file.display())).1;
    section.split_once("\nDumping ").map_or(section, |(section, _)| section)
}

fn write(broker: &Broker, prefix: &str, client: &str, codecs: &str) {
    let mut command = script(client);
    command.args(["write", "--bootstrap", broker.bootstrap(), "--prefix", prefix, "--codecs", codecs]);
    command.args(["--count", &RECORDS.to_string(), "--partitions", &PARTITIONS.to_string()]);
    command.args(["--base-ms", &wire::now_ms().to_string()]);
    run(command);
}

fn check_topic(codec: &str, files: &[PathBuf], dump: &str) {
    let text: Vec<&str> = files.iter().map(|file| section(dump, file)).collect();
    let text = text.join("\n");
    let batches: Vec<&str> = text.lines().filter(|line| line.starts_with("baseOffset: ")).collect();
    let mut next = 0;
    let mut partitions = 0;
    for batch in &batches {
        assert!(batch.contains("isvalid: true"), "{codec}: {batch}");
        let base = number(batch, "baseOffset").expect("a batch has a base offset");
        if base == 0 {
            partitions += 1;
        } else {
            assert_eq!(base, next, "{codec}: not dense at {batch}");
        }
        next = number(batch, "lastOffset").expect("a batch has a last offset") + 1;
    }
    assert_eq!(partitions, PARTITIONS, "{codec}: each partition starts at 0");
    let records = text.lines().filter(|line| line.starts_with("| offset: ")).count();
    assert_eq!(records, RECORDS, "{codec}: every record is shown");
    // Clients leave a batch as it is that would not become smaller: on a busy machine some have a record or two.
    let large: Vec<&&str> =
        batches.iter().filter(|batch| number(batch, "count").is_some_and(|count| count >= 100)).collect();
    let compressed = large.iter().filter(|batch| batch.contains(&format!("compresscodec: {codec} "))).count();
    assert!(!large.is_empty(), "{codec}: {} batches, all small", batches.len());
    assert_eq!(compressed, large.len(), "{codec}: some of the large batches are not compressed");
    for start in ["offset: ", "timestamp: "] {
        let entries = text.lines().filter(|line| line.starts_with(start)).count();
        assert!(entries > 1, "{codec}: {entries} entries like `{start}` in the indexes");
    }
    if IDEMPOTENT.contains(&codec) {
        assert!(
            text.lines().any(|line| line.starts_with("producerId: ")),
            "{codec}: no snapshot knows the producer"
        );
    }
    if codec == "none" {
        let segments =
            files.iter().filter(|file| file.extension().is_some_and(|extension| extension == "log")).count();
        assert!(segments >= 4, "{codec}: {segments} segments, the test writes too little");
    }
}

/// The end of a transaction that has nothing in the log, as a coordinator writes it: ABORT at even offsets, COMMIT at odd
/// ones.
fn marker(offset: i64, epoch: [u8; 4]) -> Vec<u8> {
    let record = Record {
        transactional: true,
        control: true,
        delete_horizon: false,
        partition_leader_epoch: 0,
        producer_id: 77,
        producer_epoch: 1,
        timestamp_type: TimestampType::Creation,
        offset,
        sequence: -1,
        timestamp: wire::now_ms(),
        key: Some(Bytes::copy_from_slice(&[0, 0, 0, u8::from(offset % 2 == 1)])),
        value: Some(Bytes::from_static(&[0; 6])),
        headers: Default::default(),
    };
    let mut bytes = BytesMut::new();
    let options = RecordEncodeOptions { version: 2, compression: Compression::None };
    RecordBatchEncoder::encode(&mut bytes, &[record], &options).expect("a batch encodes");
    let mut bytes = bytes.to_vec();
    bytes[12..16].copy_from_slice(&epoch);
    bytes
}

/// Puts markers behind the last batch of a stopped broker's partition.
fn append_markers(folder: &Path, end: i64, count: i64) {
    let last = files(folder, &["log"]).pop().expect("a segment");
    let mut bytes = std::fs::read(&last).expect("it can be read");
    let epoch = bytes[12..16].try_into().expect("four bytes");
    (end..end + count).for_each(|offset| bytes.extend_from_slice(&marker(offset, epoch)));
    std::fs::write(&last, bytes).expect("it can be written");
}

#[test]
fn kafka_dump_log_reads_compacted_files() {
    const UPDATES: usize = 20_000;
    const MARKERS: i64 = 5;
    let codecs =
        [Compression::None, Compression::Gzip, Compression::Snappy, Compression::Lz4, Compression::Zstd];
    let mut broker = Setup::new()
        .set("log.segment.bytes", 1 << 20)
        .set("log.index.interval.bytes", 1024)
        .set("log.cleaner.backoff.ms", 100)
        .start();
    let topic = wire::unique("compacted");
    let folder = broker.data().join(format!("{topic}-0"));
    let produce = |broker: &Broker| {
        let mut wire = Wire::connect(broker.bootstrap());
        for first in (0..UPDATES).step_by(50) {
            let update = |number: usize| {
                let value = (!number.is_multiple_of(40))
                    .then(|| format!("{number} {}", "~".repeat(number * 7 % 400)));
                (Some(format!("key {}", number * 7_919 % 700)), value)
            };
            let entries: Vec<_> = (first..first + 50).map(update).collect();
            let answer = wire.produce(&topic, 0, -1, wire::keyed_batch(&entries, codecs[first / 50 % 5]));
            assert_eq!(answer.error_code, 0, "{answer:?}");
        }
    };
    let policy = [("cleanup.policy", "compact"), ("min.cleanable.dirty.ratio", "0.01")];
    Wire::connect(broker.bootstrap()).create_topic(&topic, 1, &policy);
    produce(&broker);
    let end = Wire::connect(broker.bootstrap()).end_offset(&topic, 0);
    broker.stop();
    append_markers(&folder, end, MARKERS);
    broker.restart();
    assert_eq!(Wire::connect(broker.bootstrap()).end_offset(&topic, 0), end + MARKERS);
    produce(&broker);
    // compacted up to the segment that is appended to, the one with the markers included
    let closed = |broker: &Broker| {
        let offsets = std::fs::read_to_string(broker.data().join("cleaned-offsets.0")).unwrap_or_default();
        let more = std::fs::read_to_string(broker.data().join("cleaned-offsets.1")).unwrap_or_default();
        let last = files(&folder, &["log"]).pop().expect("a segment");
        let base: i64 = last.file_stem().and_then(|stem| stem.to_str()?.parse().ok()).expect("a base offset");
        base > end + MARKERS && (offsets + &more).lines().any(|line| line.ends_with(&format!(" {base}")))
    };
    // it tells of each cleaning when all of it is on disk
    let mut cleanings = 0;
    while !closed(&broker) {
        cleanings += 1;
        broker.wait_logged(" compacted log=", cleanings);
    }
    // and some in the segment that is appended to, which no cleaning has rewritten
    let end = Wire::connect(broker.bootstrap()).end_offset(&topic, 0);
    broker.stop();
    append_markers(&folder, end, MARKERS);
    broker.restart();
    assert_eq!(Wire::connect(broker.bootstrap()).end_offset(&topic, 0), end + MARKERS);
    broker.stop();
    let all = files(&folder, &["log", "index", "timeindex", "txnindex", "snapshot"]);
    let text = dump(&all, "--deep-iteration", Offsets::Gaps);
    let batches = text.lines().filter(|line| line.starts_with("baseOffset: ")).count();
    let records = text.lines().filter(|line| line.starts_with("| offset: ")).count();
    assert!(batches > 20 && records < UPDATES, "{records} records in {batches} batches are left");
    assert!(!text.lines().any(|line| line.contains("isvalid: false")));
    // markers stay until their time is over
    let ends = ["endTxnMarker: COMMIT", "endTxnMarker: ABORT"];
    let [commits, aborts] = ends.map(|end| text.lines().filter(|line| line.contains(end)).count());
    assert!(commits + aborts == 2 * MARKERS as usize && commits.abs_diff(aborts) <= 2, "{commits} {aborts}");
    assert!(
        text.lines().any(|line| line.contains("deleteHorizonMs: OptionalLong[")),
        "tombstones have a time"
    );
    let is_index =
        |path: &PathBuf| path.extension().is_some_and(|found| found == "index" || found == "timeindex");
    // of one that is empty, as a segment with little left has it, it only says so
    let has_entries = |path: &PathBuf| std::fs::metadata(path).is_ok_and(|metadata| metadata.len() > 0);
    let indexes: Vec<PathBuf> = all.into_iter().filter(is_index).filter(has_entries).collect();
    let text = dump(&indexes, "--index-sanity-check", Offsets::Gaps);
    let passed = text.lines().filter(|line| line.ends_with("passed sanity check.")).count();
    assert_eq!(passed, indexes.len(), "{text}");
}

//! Topic settings are changed while the topic is written to: each counts from the next batch on, or from the next
//! segment on, as its description says. (Retention's are in `retention`, compaction's in `compaction`, compression's in
//! `compression`.)

use crate::harness::{Broker, Setup};
use crate::wire::{self, Wire, batch, batch_with, header, seal};
use bytes::Bytes;
use kafka_protocol::records::Compression;
use std::os::unix::fs::MetadataExt;
use std::path::PathBuf;

const MESSAGE_TOO_LARGE: i16 = 10;
const INVALID_TIMESTAMP: i16 = 32;
const INVALID_RECORD: i16 = 87;

/// What is set, what is produced then, and what is answered.
type Step<'a> = (&'a [(&'a str, Option<&'a str>)], Bytes, i16);

fn value(bytes: usize) -> Vec<Bytes> {
    vec![Bytes::from(vec![b'v'; bytes])]
}

/// A batch of one record whose time is so far from now.
fn dated(ahead_ms: i64) -> Bytes {
    let mut bytes = batch(&value(10)).to_vec();
    let time = (wire::now_ms() + ahead_ms).to_be_bytes();
    for at in [header::BASE_TIMESTAMP, header::MAX_TIMESTAMP] {
        bytes[at..at + 8].copy_from_slice(&time);
    }
    seal(bytes)
}

fn files(broker: &Broker, topic: &str, ending: &str) -> Vec<PathBuf> {
    let entries = std::fs::read_dir(broker.data().join(format!("{topic}-0"))).expect("a folder");
    let mut paths: Vec<PathBuf> = entries.map(|entry| entry.expect("it can be listed").path()).collect();
    paths.retain(|path| path.extension().is_some_and(|extension| extension == ending));
    paths.sort();
    paths
}

#[test]
fn what_is_accepted_changes_with_the_next_batch() {
    let broker = Broker::start();
    let mut wire = Wire::connect(broker.bootstrap());
    let topic = wire::unique("accepted");
    wire.create_topic(&topic, 1, &[]);
    let hour = 3_600_000;
    let mut liar =
        batch_with(&[Bytes::from_static(b"one"), Bytes::from_static(b"two")], Compression::Gzip).to_vec();
    liar[header::LAST_OFFSET_DELTA + 3] = 2;
    liar[header::RECORD_COUNT + 3] = 3;
    let liar = seal(liar);
    let steps: [Step<'_>; 14] = [
        (&[], batch(&value(5_000)), 0),
        (&[("max.message.bytes", Some("5000"))], batch(&value(5_000)), MESSAGE_TOO_LARGE),
        (&[("max.message.bytes", Some("6000"))], batch(&value(5_000)), 0),
        (&[("max.message.bytes", None)], batch(&value(500_000)), 0),
        (&[], dated(2 * hour), INVALID_TIMESTAMP),
        (&[("message.timestamp.after.max.ms", Some("10800000"))], dated(2 * hour), 0),
        (&[], dated(-2 * hour), 0),
        (&[("message.timestamp.before.max.ms", Some("3600000"))], dated(-2 * hour), INVALID_TIMESTAMP),
        (&[("message.timestamp.type", Some("LogAppendTime"))], dated(-2 * hour), 0),
        (&[("cleanup.policy", Some("compact"))], batch(&value(10)), INVALID_RECORD),
        (&[("cleanup.policy", Some("delete"))], batch(&value(10)), 0),
        (&[("corelane.validation", Some("full"))], liar, INVALID_RECORD),
        // a topic of one replica has it in sync, whatever is asked for
        (&[("min.insync.replicas", Some("2"))], batch(&value(10)), 0),
        (&[("message.timestamp.type", None), ("message.timestamp.before.max.ms", None)], dated(-2 * hour), 0),
    ];
    for (number, (configs, batch, expect)) in steps.into_iter().enumerate() {
        if !configs.is_empty() {
            wire.alter_topic(&topic, configs);
        }
        let answer = wire.produce(&topic, 0, -1, batch);
        assert_eq!(answer.error_code, expect, "step {number}: {answer:?}");
        let is_stamped = answer.log_append_time_ms >= 0;
        assert_eq!(is_stamped, expect == 0 && (8..13).contains(&number), "step {number}: {answer:?}");
    }
}

#[test]
fn segments_and_indexes_follow_their_settings() {
    let mut broker = Setup::new().start();
    let mut wire = Wire::connect(broker.bootstrap());
    let topic = wire::unique("segments");
    wire.create_topic(&topic, 1, &[("index.interval.bytes", "1000000")]);
    let segments = |broker: &Broker| files(broker, &topic, "log").len();
    let produce = |wire: &mut Wire, batch: Bytes| {
        assert_eq!(wire.produce(&topic, 0, -1, batch).error_code, 0);
    };
    for _ in 0..3 {
        produce(&mut wire, batch(&value(600_000)));
    }
    assert_eq!(segments(&broker), 1);
    wire.alter_topic(&topic, &[("segment.bytes", Some("1048576"))]);
    produce(&mut wire, batch(&value(10)));
    assert_eq!(segments(&broker), 2, "the segment that was written to is too large now");
    // by the time of its records
    produce(&mut wire, dated(10_000));
    assert_eq!(segments(&broker), 2);
    wire.alter_topic(&topic, &[("segment.ms", Some("5000"))]);
    produce(&mut wire, dated(10_000));
    assert_eq!(segments(&broker), 3);
    // an entry for each batch but the first, and what is full counts from the next segment on
    wire.alter_topic(
        &topic,
        &[("segment.ms", None), ("index.interval.bytes", Some("0")), ("segment.index.bytes", Some("80"))],
    );
    for _ in 0..20 {
        produce(&mut wire, dated(10_000));
    }
    assert_eq!(segments(&broker), 3);
    wire.alter_topic(&topic, &[("segment.ms", Some("5000"))]);
    produce(&mut wire, dated(20_000));
    wire.alter_topic(&topic, &[("segment.ms", None)]);
    assert_eq!(segments(&broker), 4);
    for _ in 0..20 {
        produce(&mut wire, dated(20_000));
    }
    assert!(segments(&broker) > 4, "an index of 80 bytes has ten entries");
    broker.stop();
    let entries: Vec<u64> = files(&broker, &topic, "index")
        .iter()
        .map(|path| std::fs::metadata(path).expect("a file").len() / 8)
        .collect();
    assert_eq!(&entries[..3], [1, 0, 20], "{entries:?}");
    assert!(entries[3..].iter().all(|entries| *entries <= 10), "{entries:?}");
}

#[test]
fn a_segment_is_preallocated_where_the_topic_says_so() {
    // without the journal, so that every batch is written to its segment at once
    let mut broker = Setup::new().set("corelane.shard.journal.bytes", 0).start();
    let mut wire = Wire::connect(broker.bootstrap());
    let topic = wire::unique("preallocated");
    wire.create_topic(&topic, 1, &[("segment.bytes", "4194304")]);
    let used = |broker: &Broker, at: usize| {
        std::fs::metadata(&files(broker, &topic, "log")[at]).expect("a file").blocks() * 512
    };
    assert_eq!(used(&broker, 0), 0, "nothing for what is empty");
    assert_eq!(wire.produce(&topic, 0, -1, batch(&value(1_000))).error_code, 0);
    assert!(used(&broker, 0) <= 64 << 10, "{}", used(&broker, 0));
    wire.alter_topic(&topic, &[("preallocate", Some("true"))]);
    assert_eq!(wire.produce(&topic, 0, -1, batch(&value(100_000))).error_code, 0);
    assert!(used(&broker, 0) >= 4 << 20, "{}", used(&broker, 0));
    broker.stop();
    assert!(used(&broker, 0) <= 128 << 10, "what is left over goes back: {}", used(&broker, 0));
}

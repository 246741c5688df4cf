//! kcat writes 100,000 keyed lines over 8 partitions with every codec and reads back exactly those, in order: at once,
//! after a clean restart, after kill -9.

use crate::harness::{Broker, Setup};
use crate::install::kcat;
use crate::run::{run, run_with};
use crate::wire::{self, Wire};
use std::fmt::Write as _;

const PARTITIONS: usize = 8;
const RECORDS: usize = 100_000;
const CODECS: [&str; 5] = ["none", "gzip", "snappy", "lz4", "zstd"];

fn key(index: usize) -> String {
    format!("key-{index}")
}

fn value(index: usize) -> String {
    format!(
        "{index} {}",
        &"the quick brown fox jumps over the lazy dog ".repeat(4)[index % 44..][..index * 31 % 120]
    )
}

fn write(broker: &Broker, topic: &str, codec: &str, acks: &str) {
    let mut lines = String::new();
    for index in 0..RECORDS {
        writeln!(lines, "{}\t{}", key(index), value(index)).expect("a String takes all");
    }
    let mut command = kcat();
    command.args(["-P", "-b", broker.bootstrap(), "-t", topic, "-K", "\t", "-z", codec]);
    command.args(["-X", &format!("acks={acks}"), "-X", "linger.ms=5"]);
    // Its queue holds as many messages as its default allows: all of them.
    command.args(["-X", "queue.buffering.max.messages=1000000"]);
    run_with(command, lines.into_bytes());
}

/// Reads the topic to the end of every partition and compares: each record once, each partition dense and in order.
fn read(broker: &Broker, topic: &str) {
    let mut command = kcat();
    command.args(["-C", "-b", broker.bootstrap(), "-t", topic, "-o", "beginning", "-e", "-q"]);
    command.args(["-f", "%p\t%o\t%k\t%s\n", "-X", "fetch.wait.max.ms=50", "-X", "check.crcs=true"]);
    let output = run(command);
    let mut seen = vec![false; RECORDS];
    let mut next_offset = [0; PARTITIONS];
    let mut last_index = [None; PARTITIONS];
    for line in String::from_utf8(output.stdout).expect("we wrote text").lines() {
        let fields: Vec<&str> = line.splitn(4, '\t').collect();
        let [partition, offset, key, value] = fields.as_slice() else { panic!("{topic}: {line:?}") };
        let (Ok(partition), Ok(offset)) = (partition.parse::<usize>(), offset.parse::<usize>()) else {
            panic!("{topic}: {line:?}")
        };
        let index: usize = key.strip_prefix("key-").and_then(|index| index.parse().ok()).unwrap_or(RECORDS);
        assert!(index < RECORDS, "{topic}: nobody wrote {line:?}");
        assert_eq!(offset, next_offset[partition], "{topic}-{partition} is not dense");
        assert_eq!(*value, self::value(index), "{topic}-{partition} offset {offset}");
        assert!(!std::mem::replace(&mut seen[index], true), "{topic}: record {index} is there twice");
        assert!(last_index[partition] < Some(index), "{topic}-{partition}: record {index} out of order");
        last_index[partition] = Some(index);
        next_offset[partition] = offset + 1;
    }
    let missing = seen.iter().filter(|seen| !**seen).count();
    assert_eq!(missing, 0, "{topic}: {missing} records are missing");
    assert!(
        next_offset.iter().all(|end| *end > 0),
        "{topic}: the keys reach every partition: {next_offset:?}"
    );
}

#[test]
fn kcat_reads_what_the_broker_has_compressed() {
    let broker = Setup::new().shards(2).start();
    let prefix = wire::unique("anew");
    for (number, wanted) in CODECS.into_iter().enumerate() {
        let topic = format!("{prefix}-{wanted}");
        let kept = if wanted == "none" { "uncompressed" } else { wanted };
        let partitions = i32::try_from(PARTITIONS).expect("few partitions");
        Wire::connect(broker.bootstrap()).create_topic(&topic, partitions, &[("compression.type", kept)]);
        write(&broker, &topic, CODECS[(number + 2) % CODECS.len()], "all");
        read(&broker, &topic);
    }
}

#[test]
fn kcat_reads_exactly_what_it_wrote() {
    let mut broker = Setup::new().shards(2).start();
    let prefix = wire::unique("kcat");
    let topics = CODECS.map(|codec| format!("{prefix}-{codec}"));
    for (number, (topic, codec)) in topics.iter().zip(CODECS).enumerate() {
        let partitions = i32::try_from(PARTITIONS).expect("few partitions");
        Wire::connect(broker.bootstrap()).create_topic(topic, partitions, &[]);
        write(&broker, topic, codec, if number % 2 == 0 { "all" } else { "1" });
    }
    topics.iter().for_each(|topic| read(&broker, topic));
    if broker.is_external() {
        return;
    }
    broker.stop();
    broker.restart();
    topics.iter().for_each(|topic| read(&broker, topic));
    broker.kill();
    broker.restart();
    topics.iter().for_each(|topic| read(&broker, topic));
    broker.stop();
}

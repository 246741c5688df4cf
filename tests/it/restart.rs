//! A restart after a clean stop reads what it needs and scans no log, however many there are.

use std::time::Instant;

use bytes::Bytes;

use crate::harness::{Broker, Setup};
use crate::wire::{self, Wire, batch};

/// Says which logs were scanned.
const TELL: [&str; 2] = ["--log", "corelane::storage=debug,info"];
const SCANNED: &str = "the log was recovered";

/// A broker with batches in each of so many partitions, small ones and those of some segments.
fn filled(partitions: i32) -> (Broker, String) {
    let broker = Setup::new().set("log.segment.bytes", 1 << 20).start();
    let mut wire = Wire::connect(broker.bootstrap());
    let topic = wire::unique("restarted");
    wire.create_topic(&topic, partitions, &[]);
    let small = batch(&[Bytes::from_static(b"small")]);
    let large = batch(&[Bytes::from(vec![b'~'; 400_000])]);
    for round in 0..8 {
        for partition in 0..partitions {
            // every tenth partition has several segments
            let batch = if partition % 10 == 0 && round > 0 { &large } else { &small };
            wire.send(&wire::produce_request(&topic, partition, -1, batch.clone()), wire::PRODUCE);
            if partition % 100 == 99 || partition == partitions - 1 {
                let sent = partition % 100 + 1;
                (0..sent).for_each(|_| assert!(wire.receive_bytes().is_ok(), "it is stored"));
            }
        }
    }
    (broker, topic)
}

fn check(broker: &Broker, topic: &str, partitions: i32) {
    let mut wire = Wire::connect(broker.bootstrap());
    (0..partitions).for_each(|partition| assert_eq!(wire.end_offset(topic, partition), 8, "{partition}"));
}

#[test]
fn a_clean_restart_scans_no_log() {
    const PARTITIONS: i32 = 200;
    let (mut broker, topic) = filled(PARTITIONS);
    for shards in [2, 1, 3] {
        broker.stop();
        broker.restart_on_with(shards, &TELL);
        broker.wait_logged("opened the logs", 1);
        let log = broker.stderr();
        assert!(log.contains("after_clean_stop=true") && !log.contains(SCANNED), "{log}");
        assert!(log.contains("partitions=200 offline=0"), "{log}");
        check(&broker, &topic, PARTITIONS);
    }
    // the same words are there when logs are scanned
    broker.kill();
    broker.restart_on_with(2, &TELL);
    assert!(broker.stderr().contains(SCANNED));
    check(&broker, &topic, PARTITIONS);
}

/// Prints how long a thousand partitions take from the start of the process to the `ready` line:
/// `cargo test --release --test it restart -- --ignored --nocapture`
#[test]
#[ignore = "measures time"]
fn a_thousand_partitions() {
    const PARTITIONS: i32 = 1_000;
    let (mut broker, topic) = filled(PARTITIONS);
    for _ in 0..5 {
        broker.stop();
        let begun = Instant::now();
        broker.restart_with(&TELL);
        let ready = begun.elapsed();
        broker.wait_logged("opened the logs", 1);
        let log = broker.stderr();
        assert!(log.contains("after_clean_stop=true") && !log.contains(SCANNED), "{log}");
        let opened = log.lines().find(|line| line.contains("opened the logs")).expect("it says so");
        println!("ready {:.3} s after the start of the process; {opened}", ready.as_secs_f64());
        check(&broker, &topic, PARTITIONS);
    }
    broker.kill();
    let begun = Instant::now();
    broker.restart();
    println!("after a kill -9: {:.3} s", begun.elapsed().as_secs_f64());
    check(&broker, &topic, PARTITIONS);
}

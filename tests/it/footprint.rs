//! What many partitions with little or nothing in them take of disk and memory.

use crate::harness::{Broker, Setup};
use crate::wire::{self, Wire, batch};
use bytes::Bytes;
use kafka_protocol::messages::produce_request::{PartitionProduceData, TopicProduceData};
use kafka_protocol::messages::{ProduceRequest, TopicName};
use std::os::unix::fs::MetadataExt;

const PARTITIONS: i32 = 1_000;
/// What an empty partition may take of disk, its folder included, and of memory.
const EMPTY_DISK_BYTES: u64 = 16 << 10;
const MEMORY_BYTES: u64 = 20 << 10;
/// What is reserved ahead of a little data, and what one with data has beside its segment: folder, metadata, leader epochs,
/// and when it is closed two indexes and a snapshot, a block of 4 KiB each.
const STEP_BYTES: u64 = 64 << 10;
const DESCRIBED_BYTES: u64 = 6 * (4 << 10);

/// The most that a partition's folder takes, and the mean.
fn disk(broker: &Broker, topic: &str) -> (u64, u64) {
    let blocks =
        |path: &std::path::Path| std::fs::symlink_metadata(path).map_or(0, |found| found.blocks() * 512);
    let of = |partition: i32| {
        let folder = broker.data().join(format!("{topic}-{partition}"));
        let files = std::fs::read_dir(&folder).expect("a partition has a folder");
        blocks(&folder) + files.map(|entry| blocks(&entry.expect("it can be listed").path())).sum::<u64>()
    };
    let all: Vec<u64> = (0..PARTITIONS).map(of).collect();
    (all.iter().copied().max().unwrap_or(0), all.iter().sum::<u64>() / all.len() as u64)
}

/// A record of 100 bytes to each partition, in a few requests.
fn fill(wire: &mut Wire, topic: &str) {
    let partitions: Vec<i32> = (0..PARTITIONS).collect();
    for some in partitions.chunks(250) {
        let data = some.iter().map(|index| {
            let records = batch(&[Bytes::from(vec![b'x'; 100])]);
            PartitionProduceData::default().with_index(*index).with_records(Some(records))
        });
        let topic = TopicProduceData::default()
            .with_name(TopicName(wire::string(topic)))
            .with_partition_data(data.collect());
        let request =
            ProduceRequest::default().with_acks(-1).with_timeout_ms(30_000).with_topic_data(vec![topic]);
        let answers = wire.call(&request, wire::PRODUCE).responses.remove(0).partition_responses;
        assert!(answers.iter().all(|answer| answer.error_code == 0));
    }
}

#[test]
fn a_thousand_partitions_with_little_in_them_stay_small() {
    let mut broker = Setup::new().start();
    let mut wire = Wire::connect(broker.bootstrap());
    // what the first topic brings by itself is no partition's
    wire.create_topic(&wire::unique("first"), 2, &[]);
    let topic = wire::unique("small");
    let before = broker.resident_bytes();
    wire.create_topic(&topic, PARTITIONS, &[]);
    let memory = broker.resident_bytes().saturating_sub(before) / PARTITIONS as u64;
    let (most, mean) = disk(&broker, &topic);
    println!("empty: disk {most} bytes at most, {mean} in the mean; memory {memory} bytes");
    assert!(most <= EMPTY_DISK_BYTES, "an empty partition takes {most} bytes of disk");
    assert!(memory <= MEMORY_BYTES, "an empty partition takes {memory} bytes of memory");

    fill(&mut wire, &topic);
    let memory = broker.resident_bytes().saturating_sub(before) / PARTITIONS as u64;
    let (most, mean) = disk(&broker, &topic);
    println!("100 bytes each: disk {most} bytes at most, {mean} in the mean; memory {memory} bytes");
    assert!(most <= STEP_BYTES + DESCRIBED_BYTES, "a small partition takes {most} bytes of disk");
    // recovery and a clean stop leave no more
    broker.kill();
    broker.restart();
    let (most, mean) = disk(&broker, &topic);
    println!("recovered: disk {most} bytes at most, {mean} in the mean");
    assert!(most <= STEP_BYTES + DESCRIBED_BYTES, "a recovered partition takes {most} bytes of disk");
    broker.stop();
    let (most, mean) = disk(&broker, &topic);
    println!("closed: disk {most} bytes at most, {mean} in the mean");
    assert!(most <= (4 << 10) + DESCRIBED_BYTES, "a closed partition takes {most} bytes of disk");
}

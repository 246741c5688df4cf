//! A small file system filled to the brim and freed again: produce is refused and says why, fetch goes on, and writing
//! resumes by itself, whoever made the room.

use std::io::Write;
use std::path::Path;

use bytes::Bytes;

use crate::admin::Scrape;
use crate::harness::Broker;
use crate::retention::delete;
use crate::small_disk::SmallDisk;
use crate::wire::{self, Wire, batch};

const NONE: i16 = 0;
const KAFKA_STORAGE_ERROR: i16 = 56;
/// Each says what it refuses; the topics are on all of them.
const SHARDS: usize = 2;
const FULL: &str = "disk is full";
const ROOM: &str = "there is room again";

/// What fills the disk: topics by turns, the first one three times as fast.
struct Filling {
    topics: Vec<String>,
    /// Records of each.
    stored: Vec<i64>,
    batch: Bytes,
}

impl Filling {
    fn new(wire: &mut Wire, count: usize) -> Filling {
        let topics: Vec<String> =
            (0..count).map(|number| wire::unique(&format!("filling-{number}"))).collect();
        topics.iter().for_each(|topic| wire.create_topic(topic, 1, &[("segment.bytes", "4194304")]));
        let batch = batch(&[Bytes::from(vec![b'~'; 200_000])]);
        Filling { stored: vec![0; count], topics, batch }
    }

    /// Whether it was accepted.
    fn append(&mut self, wire: &mut Wire, index: usize) -> bool {
        let answer = wire.produce(&self.topics[index], 0, -1, self.batch.clone());
        match answer.error_code {
            NONE => {
                assert_eq!(answer.base_offset, self.stored[index]);
                self.stored[index] += 1;
                true
            }
            error => {
                assert_eq!((error, answer.base_offset), (KAFKA_STORAGE_ERROR, -1), "{answer:?}");
                false
            }
        }
    }

    /// Until all are refused and both shards have said so for the `times`th time: before they look at the disk again,
    /// they may take it for fuller than it is. Gives the last line.
    fn fill(&mut self, wire: &mut Wire, broker: &mut Broker, times: usize) -> String {
        let mut refused = vec![false; self.topics.len()];
        for turn in 0.. {
            let index = if turn % 4 < 3 { 0 } else { turn / 4 % self.topics.len() };
            refused[index] = !self.append(wire, index);
            if refused.iter().all(|refused| *refused) && count(broker, FULL) >= SHARDS * times {
                break;
            }
            assert!(turn < 1_000_000, "this disk is not small");
        }
        broker.wait_logged(FULL, SHARDS * times)
    }

    /// All that was acknowledged can be read, from `starts` on.
    fn check(&self, wire: &mut Wire, starts: &[i64]) {
        for ((topic, stored), start) in self.topics.iter().zip(&self.stored).zip(starts) {
            let mut next = *start;
            assert_eq!(wire.end_offset(topic, 0), *stored, "{topic}");
            while next < *stored {
                let data = wire.fetch(topic, 0, next, 5_000);
                let mut bytes = data.records.unwrap_or_default();
                assert!(
                    data.error_code == NONE && !bytes.is_empty(),
                    "{topic} at {next}: {}",
                    data.error_code
                );
                while !bytes.is_empty() {
                    let rest = bytes.split_off(self.batch.len());
                    let base = i64::from_be_bytes(bytes[..8].try_into().expect("eight bytes"));
                    assert!(base == next && bytes[16..] == self.batch[16..], "{topic} at {next}");
                    next += 1;
                    bytes = rest;
                }
            }
        }
    }
}

fn until_refusal(broker: &Broker) -> f64 {
    Scrape::of(broker).sum("corelane_log_dir_bytes_until_refusal", &[])
}

/// `mib` is the disk's size.
fn fill_and_free(mib: u64) {
    let disk = SmallDisk::new(mib);
    let reserve = (mib << 20) / 8;
    let journal: u64 = 4 << 20;
    let setup = disk.setup().shards(SHARDS).set("corelane.disk.reserve.bytes", reserve);
    let mut broker = setup.set("corelane.shard.journal.bytes", journal).start();
    let mut wire = Wire::connect(broker.bootstrap());
    let mut filling = Filling::new(&mut wire, 3);
    let line = filling.fill(&mut wire, &mut broker, 1);
    let words = line.split_once("largest_topics=").expect("it names the largest topics").1;
    let first = filling.topics.iter().map(|topic| words.find(topic.as_str()));
    let places: Vec<usize> =
        first.map(|place| place.unwrap_or_else(|| panic!("a topic is missing: {line}"))).collect();
    assert!(places[0] < places[1] && places[0] < places[2], "the largest is the first: {line}");
    filling.check(&mut wire, &[0, 0, 0]);
    // but for what still lies in the journals
    assert!(until_refusal(&broker) <= (SHARDS as u64 * journal) as f64 + 1e6);

    let (mut starts, mut times) = ([0, 0, 0], 1);
    if let Some(mount) = disk.shared() {
        // somebody else takes the reserve, too, down to the last block
        let filler = fill_with_a_file(&mount);
        assert!(!filling.append(&mut wire, 1));
        filling.check(&mut wire, &starts);
        std::fs::remove_file(filler).expect("it can be removed");
        // killed while it is full
        broker.kill();
        broker.restart();
        wire = Wire::connect(broker.bootstrap());
        filling.check(&mut wire, &starts);
        filling.fill(&mut wire, &mut broker, times);
    }

    // room by DeleteRecords: the first half of the largest goes
    starts[0] = filling.stored[0] / 2;
    assert_eq!(delete(&mut wire, 2, &filling.topics[0], &[(0, starts[0])]), [(NONE, starts[0])]);
    broker.wait_logged(ROOM, SHARDS * times);
    (0..3).for_each(|index| assert!(filling.append(&mut wire, index), "there is room for topic {index}"));
    times += 1;
    filling.fill(&mut wire, &mut broker, times);
    filling.check(&mut wire, &starts);

    // room by deleting a topic
    wire.delete_topic(&filling.topics.remove(0));
    filling.stored.remove(0);
    broker.wait_logged(ROOM, SHARDS * times);
    (0..2).for_each(|index| assert!(filling.append(&mut wire, index), "there is room for topic {index}"));
    filling.check(&mut wire, &starts[1..]);
    assert_eq!(Scrape::of(&broker).sum("corelane_log_dir_online", &[]), 1.0, "the disk was full, not broken");
    if disk.shared().is_some() {
        broker.stop();
        broker.restart();
        filling.check(&mut Wire::connect(broker.bootstrap()), &starts[1..]);
    }
    broker.stop();
}

fn count(broker: &Broker, words: &str) -> usize {
    broker.stderr().lines().filter(|line| line.contains(words)).count()
}

/// Writes a file until the file system has no room for another byte.
fn fill_with_a_file(mount: &Path) -> std::path::PathBuf {
    let path = mount.join("filler");
    let mut file = std::fs::File::create(&path).expect("a name fits");
    let block = vec![0; 1 << 20];
    let mut piece = block.len();
    while piece > 0 {
        match file.write(&block[..piece]) {
            Ok(written) if written > 0 => {}
            _ => piece /= 2,
        }
    }
    // the file system may find more room once it has placed what was written
    file.sync_all().expect("what was taken is written");
    path
}

#[test]
fn a_full_disk_refuses_produce_until_there_is_room() {
    fill_and_free(96);
}

/// `cargo test --release --test it full_disk -- --ignored --nocapture`, as root: 256 MiB on a loop device.
#[test]
#[ignore = "needs a loop device"]
fn a_loop_device_filled_to_the_brim() {
    assert!(SmallDisk::on_loop(16).map(|disk| disk.shared()).is_ok(), "it needs root");
    fill_and_free(256);
}

//! A log directory whose disk fails while it is written to: offline for writing, loudly and for good, and nothing that
//! was acknowledged is lost; the other log directories go on.

use std::path::{Path, PathBuf};

use bytes::Bytes;
use kafka_protocol::messages::DescribeLogDirsRequest;

use crate::admin::{Scrape, get};
use crate::harness::{Broker, Setup, TempDir};
use crate::small_disk::SmallDisk;
use crate::wire::{Wire, batch};

const NONE: i16 = 0;
const KAFKA_STORAGE_ERROR: i16 = 56;
const TOPIC: &str = "orders";
const OFFLINE: &str = "log directory is offline for writing";

/// A broker with two log directories and the partition in each.
struct Two {
    broker: Broker,
    /// The sound directory first.
    directories: [PathBuf; 2],
    partitions: [i32; 2],
    /// Records that were acknowledged, of each partition.
    stored: [usize; 2],
}

impl Two {
    /// A partition in the directory that will fail, one in the other.
    fn start(setup: Setup, sound: &Path, failing: &Path) -> Two {
        let directories = [sound.to_owned(), failing.to_owned()];
        let both = format!("{},{}", sound.display(), failing.display());
        // A small journal: writes fail in segments, in it and in what is drained from it.
        let setup = setup.shards(1).set("corelane.shard.journal.bytes", 4 << 20).set("log.dirs", both);
        let broker = setup.set("corelane.disk.reserve.bytes", 1 << 20).start();
        Wire::connect(broker.bootstrap()).create_topic(TOPIC, 2, &[("segment.bytes", "16777216")]);
        let partitions = [sound, failing].map(|directory| {
            let here = |partition: &i32| directory.join(format!("{TOPIC}-{partition}")).is_dir();
            (0..2).find(here).expect("partitions are spread over the directories")
        });
        Two { broker, directories, partitions, stored: [0; 2] }
    }

    /// The error of a batch for one of the directories.
    fn append(&mut self, wire: &mut Wire, directory: usize, bytes: usize) -> i16 {
        let answer = wire.produce(
            TOPIC,
            self.partitions[directory],
            -1,
            batch(&[value(self.stored[directory], bytes)]),
        );
        if answer.error_code == NONE {
            assert_eq!(answer.base_offset, self.stored[directory] as i64);
            self.stored[directory] += 1;
        }
        answer.error_code
    }

    /// All that was acknowledged is there and nothing else.
    fn check(&self, wire: &mut Wire) {
        for (partition, stored) in self.partitions.iter().zip(self.stored) {
            let records = wire.read_all(TOPIC, *partition);
            assert_eq!(records.len(), stored, "partition {partition}");
            for (number, record) in records.iter().enumerate() {
                let found = record.value.as_deref().expect("our records have values");
                assert_eq!(found, value(number, found.len()), "partition {partition} at {number}");
            }
        }
    }

    fn online(&self, directory: usize) -> f64 {
        let path = self.directories[directory].display().to_string();
        Scrape::of(&self.broker).sum("corelane_log_dir_online", &[("dir", &path)])
    }

    fn offline_lines(&self) -> usize {
        self.broker.stderr().lines().filter(|line| line.contains(OFFLINE)).count()
    }

    /// Bytes of the failing directory's files, journal included.
    fn files(&self) -> Vec<(PathBuf, u64)> {
        let folder = self.directories[1].join(format!("{TOPIC}-{}", self.partitions[1]));
        let mut files: Vec<(PathBuf, u64)> = std::fs::read_dir(folder)
            .expect("the partition has a folder")
            .map(|entry| entry.expect("it can be listed"))
            .map(|entry| (entry.path(), entry.metadata().expect("it is there").len()))
            .collect();
        files.sort();
        files
    }

    /// Appends until the disk fails, then looks at everything that must hold. `heal` mends the disk.
    fn fail_and_heal(mut self, large: usize, heal: impl FnOnce(&mut Broker)) {
        let mut wire = Wire::connect(self.broker.bootstrap());
        assert_eq!((self.online(0), self.online(1)), (1.0, 1.0));
        let mut error = NONE;
        for number in 0.. {
            assert!(number < 20_000, "this disk does not fail");
            // small ones go by the journal
            error = self.append(&mut wire, 1, if number % 3 == 0 { large } else { 300 });
            if error != NONE {
                break;
            }
            if number % 10 == 0 {
                assert_eq!(self.append(&mut wire, 0, 300), NONE, "the other directory is sound");
            }
        }
        assert_eq!(error, KAFKA_STORAGE_ERROR);
        assert!(self.stored[1] > 10, "{} batches before it failed", self.stored[1]);
        // loudly
        let line = self.broker.wait_logged(OFFLINE, 1);
        assert!(line.contains(&self.directories[1].display().to_string()), "{line}");
        assert!(line.contains("repair the disk, then restart the broker"), "{line}");
        assert_eq!((self.online(0), self.online(1)), (1.0, 0.0));
        let (status, reason) = get(self.broker.admin(), "/readyz");
        assert!(status == 503 && reason.contains(&self.directories[1].display().to_string()), "{reason}");
        // reads go on, the other directory goes on, and nothing is tried again here
        self.check(&mut wire);
        let files = self.files();
        for _ in 0..20 {
            assert_eq!(self.append(&mut wire, 1, 300), KAFKA_STORAGE_ERROR);
            assert_eq!(self.append(&mut wire, 0, 300), NONE);
        }
        self.check(&mut wire);
        assert_eq!((self.offline_lines(), self.files()), (1, files));
        // mended, it stays offline until the restart
        heal(&mut self.broker);
        assert_eq!(self.append(&mut wire, 1, 300), KAFKA_STORAGE_ERROR);
        assert_eq!(self.broker.stop_uncleanly().code(), Some(1));
        assert!(self.broker.stderr().contains("error: stopped, but not cleanly"), "{}", self.broker.stderr());
        self.broker.restart();
        wire = Wire::connect(self.broker.bootstrap());
        self.check(&mut wire);
        assert_eq!((self.online(0), self.online(1)), (1.0, 1.0));
        for directory in [0, 1] {
            assert_eq!(self.append(&mut wire, directory, large), NONE);
        }
        self.check(&mut wire);
        self.broker.stop();
    }
}

fn value(number: usize, bytes: usize) -> Bytes {
    let mut value = number.to_string().into_bytes();
    value.resize(bytes, b'~');
    value.into()
}

/// Writes fail here by a limit on file sizes, which the sound directory's files do not come near.
#[test]
fn one_failing_directory_leaves_the_others_alone() {
    let dir = TempDir::new();
    let mut two = Two::start(Setup::new(), &dir.path().join("sound"), &dir.path().join("failing"));
    two.broker.limit_file_size(6 << 20);
    two.fail_and_heal(512 << 10, |_| {});
}

/// The disk is that of every shard: when one cannot write to it, the others leave it alone, too.
#[test]
fn a_directory_that_failed_on_one_shard_is_offline_on_all() {
    const PARTITIONS: i32 = 8;
    let dir = TempDir::new();
    let path = |name| dir.path().join(name);
    let both = format!("{},{}", path("sound").display(), path("failing").display());
    let setup = Setup::new().shards(2).set("corelane.shard.journal.bytes", 4 << 20).set("log.dirs", both);
    let mut broker = setup.start();
    let mut wire = Wire::connect(broker.bootstrap());
    wire.create_topic(TOPIC, PARTITIONS, &[("segment.bytes", "16777216")]);
    broker.limit_file_size(6 << 20);
    let is_in_failing = |partition: &i32| path("failing").join(format!("{TOPIC}-{partition}")).is_dir();
    let (failing, sound): (Vec<i32>, Vec<i32>) = (0..PARTITIONS).partition(is_in_failing);
    assert!(failing.len() > 1 && sound.len() > 1, "{failing:?} {sound:?}");
    let mut produce =
        |partition, bytes| wire.produce(TOPIC, partition, -1, batch(&[value(0, bytes)])).error_code;
    let full = (0..20).find(|_| produce(failing[0], 512 << 10) != NONE);
    assert!(full.is_some(), "this disk does not fail");
    broker.wait_logged("another shard cannot write to the log directory", 1);
    for partition in failing {
        assert_eq!(produce(partition, 300), KAFKA_STORAGE_ERROR, "partition {partition}");
    }
    for &partition in &sound {
        assert_eq!(produce(partition, 300), NONE, "partition {partition}");
    }
    let told = wire.call(&DescribeLogDirsRequest::default().with_topics(None), 4).results;
    let told: Vec<_> = (told.iter())
        .map(|told| {
            let logs = told.topics.iter().map(|topic| topic.partitions.len()).sum::<usize>();
            (told.log_dir.to_string(), told.error_code, logs, told.total_bytes > 0)
        })
        .collect();
    let name = |name| path(name).display().to_string();
    let expected =
        [(name("failing"), KAFKA_STORAGE_ERROR, 0, false), (name("sound"), NONE, sound.len(), true)];
    assert_eq!(told, expected);
    assert_eq!(broker.stderr().lines().filter(|line| line.contains(OFFLINE)).count(), 1);
    assert_eq!(broker.stop_uncleanly().code(), Some(1));
}

/// A real device: a loop device over a file that cannot grow. As root:
/// `cargo test --release --test it failing_disk -- --ignored --nocapture`
#[test]
#[ignore = "needs a loop device"]
fn a_failing_device() {
    let disk = SmallDisk::failing(256, 140).expect("it needs root");
    let dir = TempDir::new();
    let mount = disk.shared().expect("it is mounted");
    let two = Two::start(Setup::new(), &dir.path().join("sound"), &mount.join("data"));
    two.fail_and_heal(512 << 10, |_| disk.heal(256));
}

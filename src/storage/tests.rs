//! Storage on the real reactor and a real disk: what one log does in its life. Crashes are `tests/sim`'s.

mod journal;
mod reading;
mod retention;
mod transactions;
mod truncation;

use std::cell::{Cell, RefCell};
use std::collections::BTreeMap;
use std::future::Future;
use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::pin::Pin;
use std::rc::Rc;
use std::time::Duration;

use super::testing::{Spec, batch, config, log_config, stored};
use super::*;
use crate::model::{ErrorCode, LeaderEpoch, TimestampMs, TopicId};
use crate::protocol::batch::{BatchHeader, HEADER_BYTES, rewrite_crc};
use crate::reactor::sync::Notify;
use crate::reactor::{self, Cores, Options};

const DIRECTORY: DirectoryId = DirectoryId(100);
const NOW: TimestampMs = TimestampMs(1_000_000);

/// Hears of durable ends and failures, and lets tests wait for them.
#[derive(Default)]
struct Ears {
    ends: RefCell<BTreeMap<PartitionId, Offset>>,
    failed: Cell<bool>,
    /// What the metadata says since the start.
    assigned: RefCell<BTreeMap<PartitionId, DirectoryId>>,
    heard: Notify,
}

impl Listener for Ears {
    fn assign(
        &self,
        partition: PartitionId,
        directory: DirectoryId,
    ) -> Pin<Box<dyn Future<Output = Assigned>>> {
        self.assigned.borrow_mut().insert(partition, directory);
        Box::pin(std::future::ready(Assigned::Yes))
    }

    fn durable(&self, partition: PartitionId, end: Offset) {
        let before = self.ends.borrow_mut().insert(partition, end);
        assert!(before.is_none_or(|before| before < end), "durable ends only grow");
        self.heard.notify();
    }

    fn high_watermark(&self, partition: PartitionId) -> Offset {
        self.ends.borrow().get(&partition).copied().unwrap_or(Offset(i64::MAX))
    }

    fn last_stable_offset(&self, partition: PartitionId) -> Offset {
        self.high_watermark(partition)
    }

    fn failed(&self, _: DirectoryId) {
        assert!(!self.failed.replace(true), "said once");
        self.heard.notify();
    }
}

impl Ears {
    async fn durable_at(&self, log: &Log, end: Offset) {
        while self.ends.borrow().get(&log.partition()).is_none_or(|durable| *durable < end) {
            self.heard.notified().await;
        }
        assert!(log.durable_end() >= end);
    }
}

/// A shard's storage over one folder.
struct Rig {
    root: PathBuf,
    ears: Rc<Ears>,
    storage: Rc<Storage>,
    replayed: Cell<bool>,
}

impl Rig {
    fn start(root: &Path, config: Config, clean: bool) -> Rig {
        let ears = Rc::new(Ears::default());
        let listener: Rc<dyn Listener> = ears.clone();
        let directory = LogDir::new(DIRECTORY, root.to_owned(), clean);
        let storage = Storage::start(config, vec![directory], listener);
        Rig { root: root.to_owned(), ears, storage, replayed: Cell::new(false) }
    }

    async fn open(&self, index: i32, config: LogConfig) -> Log {
        self.try_open(index, config, Create::IfMissing).await.expect("it opens")
    }

    async fn try_open(&self, index: i32, config: LogConfig, create: Create) -> Result<Log, Error> {
        if !self.replayed.replace(true) {
            self.storage.replay_journals().await.expect("the journals are replayed");
        }
        let partition = partition(index);
        self.storage
            .open(OpenLog { partition, topic_name: "t".into(), directory: DIRECTORY, config, create })
            .await
    }

    fn files(&self, index: i32) -> BTreeMap<String, u64> {
        std::fs::read_dir(self.root.join(format!("t-{index}")))
            .expect("the folder is there")
            .map(|entry| {
                let entry = entry.unwrap();
                (entry.file_name().into_string().unwrap(), entry.metadata().unwrap().len())
            })
            .collect()
    }
}

fn partition(index: i32) -> PartitionId {
    PartitionId { topic: TopicId(7), index }
}

/// Runs `body` on one real shard with a folder of its own; a folder that exists is kept.
fn on_a_shard<Fut: Future<Output = ()> + 'static>(
    name: &'static str,
    body: impl Fn(PathBuf) -> Fut + Clone + Send + 'static,
) {
    let root = folder(name);
    std::fs::create_dir_all(&root).unwrap();
    let options = Options {
        cores: Cores::Unpinned(1),
        spin: Duration::ZERO,
        mesh_depth: 8,
        probe_file: root.with_extension("probe"),
    };
    reactor::run(&options, move |_: reactor::ShardContext<()>| body(root.clone())).expect("a shard runs");
}

fn folder(name: &str) -> PathBuf {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("target/tmp");
    root.join(format!("storage-{name}-{}", std::process::id()))
}

/// What was appended to one log: what reads must give.
#[derive(Default)]
struct Expected {
    batches: Vec<(Offset, Vec<u8>)>,
    end: Offset,
}

impl Expected {
    fn append(&mut self, log: &Log, spec: &Spec, epoch: LeaderEpoch) {
        let (bytes, header) = batch(spec);
        let appended = log.append(bytes.clone(), &header, epoch, NOW).expect("it is appended");
        assert_eq!((appended.base_offset, appended.duplicate), (self.end, false));
        self.batches.push((appended.base_offset, stored(&bytes, appended.base_offset, epoch)));
        self.end = appended.end_offset;
    }

    /// The bytes of all batches from the one that holds `from`.
    fn bytes_from(&self, from: Offset) -> Vec<u8> {
        let first = self.batches.partition_point(|(base, _)| *base <= from) - 1;
        self.batches[first..].iter().flat_map(|(_, bytes)| bytes.clone()).collect()
    }
}

/// Reads from `from` to the end, as a consumer does.
async fn read_all(log: &Log, from: Offset, max_bytes: usize) -> Vec<u8> {
    let (mut bytes, mut next) = (Vec::new(), from);
    while next < log.durable_end() {
        let slices = log.read(next, log.durable_end(), max_bytes, true).await.expect("it is readable");
        assert!(slices.bytes > 0, "at least one batch");
        assert_eq!(slices.bytes, slices.parts.iter().map(Bytes::len).sum::<usize>());
        for part in &slices.parts {
            for batch in crate::protocol::batch::Batches::new(part) {
                next = batch.expect("whole batches").0.next_offset();
            }
            bytes.extend_from_slice(part);
        }
    }
    bytes
}

fn small_segments() -> LogConfig {
    LogConfig { segment_bytes: 20_000, index_interval_bytes: 1_000, ..log_config() }
}

/// And no journal: what lies there only is pinned in memory.
fn no_caches() -> Config {
    Config { journal_bytes: 0, tail_cache_bytes: 0, read_ahead_bytes: 0, ..config() }
}

#[test]
fn a_log_is_written_rolled_closed_and_found_again() {
    const NAME: &str = "life";
    let spec = |n: u64| Spec {
        records: 1 + (n % 5) as i32,
        value_bytes: 10 + (n * 37 % 900) as usize,
        seed: n,
        base_timestamp: 1_000 + n as i64 * 100,
        ..Spec::default()
    };
    let expect = move || {
        let mut expected = Expected::default();
        for n in 0..300 {
            let (bytes, header) = batch(&spec(n));
            expected.batches.push((expected.end, stored(&bytes, expected.end, LeaderEpoch(3))));
            expected.end = expected.end.plus(i64::from(header.last_offset_delta) + 1);
        }
        expected
    };
    on_a_shard(NAME, move |root| async move {
        let rig = Rig::start(&root, config(), false);
        let log = rig.open(0, small_segments()).await;
        let mut expected = Expected::default();
        for n in 0..300 {
            expected.append(&log, &spec(n), LeaderEpoch(3));
            if n % 7 == 0 {
                rig.ears.durable_at(&log, expected.end).await;
            }
        }
        rig.ears.durable_at(&log, expected.end).await;
        assert_eq!(read_all(&log, Offset(0), 4_000).await, expected.bytes_from(Offset(0)));
        rig.storage.stop().await.unwrap();
        let files = rig.files(0);
        let bytes: u64 = files.iter().filter(|(name, _)| name.ends_with(".log")).map(|(_, len)| len).sum();
        assert_eq!(bytes, log.size_bytes(), "nothing preallocated is left");
        assert!(files.keys().filter(|name| name.ends_with(".log")).count() > 5, "{files:?}");
        assert!(files.contains_key(&format!("{:020}.snapshot", expected.end.0)), "{files:?}");
        assert!(log.append(batch(&spec(0)).0, &batch(&spec(0)).1, LeaderEpoch(3), NOW) == Err(Error::Closed));
    });
    for clean in [true, false] {
        on_a_shard(NAME, move |root| async move {
            let expected = expect();
            let rig = Rig::start(&root, no_caches(), clean);
            let log = rig.try_open(0, small_segments(), Create::Never).await.expect("it is there");
            assert_eq!((log.start_offset(), log.end_offset()), (Offset(0), expected.end), "clean: {clean}");
            assert_eq!(log.durable_end(), expected.end);
            assert_eq!(log.last_epoch(), LeaderEpoch(3));
            for from in [0, 1, 77, 500] {
                for max_bytes in [1, 1_000, 100_000] {
                    let read = read_all(&log, Offset(from), max_bytes).await;
                    assert!(read == expected.bytes_from(Offset(from)), "from {from}, {max_bytes} at once");
                }
            }
            for n in [0_u64, 1, 150, 299] {
                let target = TimestampMs(spec(n).base_timestamp);
                let base = expected.batches[n as usize].0;
                let found = log.find_timestamp(target, expected.end).await.unwrap();
                assert_eq!(found, Some((target, base, LeaderEpoch(3))));
                let found = log.find_timestamp(target, base).await.unwrap();
                assert_eq!(found, None, "not below the limit");
            }
            let last = expected.batches[299].0.plus(4);
            let found = log.find_max_timestamp(expected.end).await.unwrap();
            assert_eq!(found, Some((TimestampMs(1_000 + 299 * 100 + 4), last, LeaderEpoch(3))));
            let found = log.find_max_timestamp(expected.batches[299].0).await.unwrap();
            assert_eq!(found.map(|(time, ..)| time), Some(TimestampMs(1_000 + 298 * 100 + 3)));
            rig.storage.stop().await.unwrap();
        });
    }
    std::fs::remove_dir_all(folder(NAME)).unwrap();
}

#[test]
fn what_was_durable_is_there_after_a_kill() {
    const NAME: &str = "kill";
    let spec = |n: u64| Spec { seed: n, producer: Some((5, 0, n as i32 * 3)), ..Spec::default() };
    on_a_shard(NAME, move |root| async move {
        let rig = Rig::start(&root, config(), false);
        let log = rig.open(0, small_segments()).await;
        let mut expected = Expected::default();
        for n in 0..200 {
            expected.append(&log, &spec(n), LeaderEpoch(0));
        }
        rig.ears.durable_at(&log, expected.end).await;
        // no stop, but nothing is under way when the shard goes
        log.state().idle().await;
        rig.storage.stop_background().await;
    });
    on_a_shard(NAME, move |root| async move {
        let rig = Rig::start(&root, config(), false);
        let log = rig.open(0, small_segments()).await;
        assert_eq!(log.end_offset(), Offset(600));
        let (bytes, header) = batch(&spec(199));
        let again = log.append(bytes, &header, LeaderEpoch(1), NOW).unwrap();
        assert_eq!((again.base_offset, again.end_offset, again.duplicate), (Offset(597), Offset(600), true));
        let (bytes, header) = batch(&spec(201));
        let gap = log.append(bytes, &header, LeaderEpoch(1), NOW);
        assert_eq!(gap, Err(Error::Refused(ErrorCode::OutOfOrderSequenceNumber)));
        let (bytes, header) = batch(&spec(200));
        assert_eq!(log.append(bytes, &header, LeaderEpoch(1), NOW).unwrap().base_offset, Offset(600));
        assert_eq!(log.end_offset_for(LeaderEpoch(0)), (LeaderEpoch(0), Offset(600)));
        rig.ears.durable_at(&log, Offset(603)).await;
        rig.storage.stop().await.unwrap();
    });
    std::fs::remove_dir_all(folder(NAME)).unwrap();
}

#[test]
fn reads_keep_to_limit_and_size() {
    const NAME: &str = "limits";
    for caches in [true, false] {
        on_a_shard(NAME, move |root| async move {
            let rig = Rig::start(&root, if caches { config() } else { no_caches() }, false);
            let log = rig.open(i32::from(caches), log_config()).await;
            let mut expected = Expected::default();
            for n in 0..10 {
                expected.append(&log, &Spec { records: 10, seed: n, ..Spec::default() }, LeaderEpoch(0));
            }
            assert_eq!(
                log.read_cached(Offset(0), Offset(100), 1 << 20, true).unwrap().bytes,
                0,
                "not durable"
            );
            rig.ears.durable_at(&log, Offset(100)).await;
            let size = expected.batches[0].1.len();
            let check = |from: i64, limit: i64, max_bytes: usize, at_least_one: bool, batches: usize| {
                let log = log.clone();
                async move {
                    let slices =
                        log.read(Offset(from), Offset(limit), max_bytes, at_least_one).await.unwrap();
                    assert_eq!(slices.bytes, batches * size, "{from} {limit} {max_bytes} {at_least_one}");
                }
            };
            check(0, 100, 1 << 20, true, 10).await;
            check(15, 100, 1 << 20, true, 9).await;
            check(0, 99, 1 << 20, true, 9).await;
            check(0, 9, 1 << 20, true, 0).await;
            check(0, 10, 1 << 20, false, 1).await;
            check(0, 100, size * 3, false, 3).await;
            check(0, 100, size * 3 - 1, false, 2).await;
            check(0, 100, 1, true, 1).await;
            check(0, 100, 1, false, 0).await;
            check(100, 100, 100, true, 0).await;
            check(0, 200, 1 << 20, true, 10).await;
            assert_eq!(log.read(Offset(101), Offset(200), 1, true).await.err(), Some(Error::OutOfRange));
            assert_eq!(log.read(Offset(-1), Offset(200), 1, true).await.err(), Some(Error::OutOfRange));
            assert_eq!(log.read_cached(Offset(0), Offset(100), 1, true).is_some(), caches);
            rig.storage.stop().await.unwrap();
        });
    }
    std::fs::remove_dir_all(folder(NAME)).unwrap();
}

#[test]
fn a_missing_folder_stays_missing_and_a_deleted_one_goes() {
    const NAME: &str = "folders";
    on_a_shard(NAME, move |root| async move {
        let rig = Rig::start(&root, config(), false);
        assert_eq!(rig.try_open(0, log_config(), Create::Never).await.err(), Some(Error::Offline));
        assert!(!root.join("t-0").exists());
        let log = rig.open(0, log_config()).await;
        let mut expected = Expected::default();
        expected.append(&log, &Spec::default(), LeaderEpoch(0));
        rig.ears.durable_at(&log, expected.end).await;
        let slices = log.read(Offset(0), expected.end, 100, true).await.unwrap();
        expected.append(&log, &Spec::default(), LeaderEpoch(0));
        rig.storage.delete(&log).await.unwrap();
        assert!(!root.join("t-0").exists());
        assert_eq!(slices.parts[0], expected.batches[0].1, "what was lent stays");
        let (bytes, header) = batch(&Spec::default());
        assert_eq!(log.append(bytes, &header, LeaderEpoch(0), NOW), Err(Error::Closed));
        let log = rig.open(0, log_config()).await;
        assert_eq!(log.end_offset(), Offset(0), "a new log under the old name");
        // another topic of the same name
        let partition = PartitionId { topic: TopicId(8), index: 0 };
        let what = |create| OpenLog {
            partition,
            topic_name: "t".into(),
            directory: DIRECTORY,
            config: log_config(),
            create,
        };
        assert_eq!(rig.storage.open(what(Create::Never)).await.err(), Some(Error::Offline));
        assert!(rig.storage.open(what(Create::IfMissing)).await.is_ok());
        rig.storage.stop().await.unwrap();
    });
    std::fs::remove_dir_all(folder(NAME)).unwrap();
}

#[test]
fn a_rotten_batch_is_refused_and_the_rest_is_readable() {
    const NAME: &str = "rot";
    on_a_shard(NAME, move |root| async move {
        let rig = Rig::start(&root, config(), false);
        let log = rig.open(0, log_config()).await;
        let mut expected = Expected::default();
        for n in 0..100 {
            expected.append(&log, &Spec { seed: n, value_bytes: 500, ..Spec::default() }, LeaderEpoch(0));
        }
        rig.ears.durable_at(&log, expected.end).await;
        rig.storage.stop().await.unwrap();
    });
    // in the records of batch 40 and in the length of batch 60
    let path = folder(NAME).join("t-0/00000000000000000000.log");
    let mut bytes = std::fs::read(&path).unwrap();
    let size = bytes.len() / 100;
    bytes[40 * size + 100] ^= 1;
    bytes[60 * size + 10] ^= 0x10;
    std::fs::write(&path, bytes).unwrap();
    on_a_shard(NAME, move |root| async move {
        let rig = Rig::start(&root, no_caches(), true);
        let log = rig.open(0, log_config()).await;
        assert_eq!(log.end_offset(), Offset(300));
        for n in 0..100 {
            for offset in n * 3..n * 3 + 3 {
                let read = log.read(Offset(offset), Offset(300), 1, true).await;
                match n {
                    40 | 60 => assert_eq!(read.err(), Some(Error::Corrupt), "{offset}"),
                    _ => assert_eq!(read.expect("it is good").bytes, size, "{offset}"),
                }
            }
        }
        rig.storage.stop().await.unwrap();
    });
    std::fs::remove_dir_all(folder(NAME)).unwrap();
}

#[test]
fn indexes_are_made_again_when_they_are_missing_short_or_wrong() {
    const NAME: &str = "indexes";
    let fill = |root: PathBuf| async move {
        let rig = Rig::start(&root, config(), false);
        let log = rig.open(0, small_segments()).await;
        let mut expected = Expected::default();
        for n in 0..200 {
            expected.append(&log, &Spec { seed: n, value_bytes: 500, ..Spec::default() }, LeaderEpoch(0));
        }
        rig.ears.durable_at(&log, expected.end).await;
        rig.storage.stop().await.unwrap();
    };
    on_a_shard(NAME, fill);
    let indexes: Vec<PathBuf> = std::fs::read_dir(folder(NAME).join("t-0"))
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .filter(|path| path.extension().is_some_and(|ending| ending == "index" || ending == "timeindex"))
        .collect();
    assert!(indexes.len() > 10);
    let indexes: Vec<(PathBuf, Vec<u8>)> =
        indexes.into_iter().map(|path| (path.clone(), std::fs::read(path).unwrap())).collect();
    for damage in 0..5 {
        for (path, bytes) in &indexes {
            match damage {
                0 => std::fs::remove_file(path).unwrap(),
                4 => std::fs::write(path, []).unwrap(),
                1 => std::fs::write(path, &bytes[..bytes.len() / 2]).unwrap(),
                2 => std::fs::write(path, vec![0x5a; bytes.len() + 5]).unwrap(),
                // plausible, but no batch begins there
                _ => std::fs::write(path, [0, 0, 0, 5, 0, 0, 16, 1]).unwrap(),
            }
        }
        on_a_shard(NAME, move |root| async move {
            let rig = Rig::start(&root, no_caches(), true);
            let log = rig.open(0, small_segments()).await;
            assert_eq!(log.end_offset(), Offset(600), "damage {damage}");
            for from in [0, 5, 100, 333, 599] {
                let slices = log.read(Offset(from), Offset(600), 1, true).await.unwrap();
                let header = crate::protocol::batch::BatchHeader::parse(&slices.parts[0]).unwrap();
                assert_eq!(header.base_offset, Offset(from / 3 * 3), "damage {damage}");
            }
            let found = log.find_timestamp(TimestampMs(1_002), Offset(600)).await.unwrap();
            assert_eq!(found.map(|(_, offset, _)| offset), Some(Offset(2)), "damage {damage}");
            rig.storage.stop().await.unwrap();
        });
    }
    std::fs::remove_dir_all(folder(NAME)).unwrap();
}

#[test]
fn little_data_keeps_little_disk() {
    use std::os::unix::fs::MetadataExt;
    const NAME: &str = "allocation";
    on_a_shard(NAME, move |root| async move {
        let rig = Rig::start(&root, config(), false);
        let log = rig.open(0, log_config()).await;
        let used = |name: &str| std::fs::metadata(root.join("t-0").join(name)).unwrap().blocks() * 512;
        let name = "00000000000000000000.log";
        assert_eq!(used(name), 0, "an empty partition reserves nothing");
        let mut expected = Expected::default();
        for n in 0..400 {
            expected.append(&log, &Spec { seed: n, value_bytes: 1_500, ..Spec::default() }, LeaderEpoch(0));
            rig.ears.durable_at(&log, expected.end).await;
            let data = log.size_bytes();
            let step = data.clamp(64 << 10, 16 << 20);
            assert!(used(name) <= data.next_multiple_of(64 << 10) + step.next_power_of_two(), "{data}");
        }
        rig.storage.stop().await.unwrap();
    });
    std::fs::remove_dir_all(folder(NAME)).unwrap();
}

#[test]
fn a_full_disk_refuses_before_an_offset_is_given() {
    const NAME: &str = "full";
    on_a_shard(NAME, move |root| async move {
        let rig = Rig::start(&root, Config { reserve_bytes: u64::MAX, ..config() }, false);
        let log = rig.open(0, log_config()).await;
        let (bytes, header) = batch(&Spec::default());
        assert_eq!(log.append(bytes, &header, LeaderEpoch(0), NOW), Err(Error::Full));
        assert_eq!(log.end_offset(), Offset(0));
        // what the reserve is kept for
        let log = rig.open(1, LogConfig { reserve: Reserve::Usable, ..log_config() }).await;
        let (bytes, header) = batch(&Spec::default());
        assert!(log.append(bytes, &header, LeaderEpoch(0), NOW).is_ok());
        rig.storage.stop().await.unwrap();
    });
    std::fs::remove_dir_all(folder(NAME)).unwrap();
}

#[test]
fn a_flush_is_awaited_where_the_topic_does_not_flush() {
    const NAME: &str = "written";
    on_a_shard(NAME, move |root| async move {
        let rig = Rig::start(&root, config(), false);
        let log = rig.open(0, LogConfig { durability: Durability::Written, ..small_segments() }).await;
        let mut expected = Expected::default();
        for n in 0..100 {
            expected.append(&log, &Spec { seed: n, value_bytes: 500, ..Spec::default() }, LeaderEpoch(0));
        }
        log.flush().await.unwrap();
        assert_eq!(log.durable_end(), expected.end);
        log.flush().await.unwrap();
        rig.storage.stop().await.unwrap();
        assert_eq!(log.flush().await, Err(Error::Closed));
    });
    std::fs::remove_dir_all(folder(NAME)).unwrap();
}

/// Where the batches of the kill tests lie: all of one size, segment by segment.
fn log_files(name: &str) -> Vec<PathBuf> {
    let mut files: Vec<PathBuf> = std::fs::read_dir(folder(name).join("t-0"))
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .filter(|path| path.extension().is_some_and(|ending| ending == "log"))
        .collect();
    files.sort();
    files
}

/// 200 batches of 3 records in several segments, all of them in their files, then the shard goes without a stop.
fn killed(name: &'static str) {
    on_a_shard(name, move |root| async move {
        let rig = Rig::start(&root, Config { journal_bytes: 0, ..config() }, false);
        let log = rig.open(0, small_segments()).await;
        let mut expected = Expected::default();
        for n in 0..200 {
            expected.append(&log, &Spec { seed: n, value_bytes: 300, ..Spec::default() }, LeaderEpoch(0));
        }
        rig.ears.durable_at(&log, expected.end).await;
        log.state().idle().await;
        rig.storage.stop_background().await;
    });
}

fn set_aside(name: &str) -> Vec<(String, u64)> {
    let mut files: Vec<(String, u64)> = std::fs::read_dir(folder(name).join("t-0"))
        .unwrap()
        .map(|entry| entry.unwrap())
        .map(|entry| (entry.file_name().into_string().unwrap(), entry.metadata().unwrap().len()))
        .filter(|(file, _)| file.contains(".cut-"))
        .collect();
    files.sort();
    files
}

#[test]
fn what_is_cut_is_saved_aside() {
    const NAME: &str = "cut";
    killed(NAME);
    // a torn batch behind the last good one
    let files = log_files(NAME);
    let last = files.last().unwrap();
    let mut bytes = std::fs::read(last).unwrap();
    let size = batch(&Spec { value_bytes: 300, ..Spec::default() }).0.len();
    let base: usize = last.file_stem().unwrap().to_str().unwrap().parse().unwrap();
    let good = (600 - base) / 3 * size;
    assert!(bytes[good..].iter().all(|byte| *byte == 0), "preallocated");
    let torn: Vec<u8> = bytes[..size - 100].to_vec();
    bytes[good..good + torn.len()].copy_from_slice(&torn);
    std::fs::write(last, &bytes).unwrap();
    on_a_shard(NAME, move |root| async move {
        let rig = Rig::start(&root, config(), false);
        let log = rig.open(0, small_segments()).await;
        assert_eq!(log.end_offset(), Offset(600));
        let mut expected = Expected { end: Offset(600), ..Expected::default() };
        expected.append(&log, &Spec::default(), LeaderEpoch(1));
        rig.ears.durable_at(&log, expected.end).await;
        rig.storage.stop().await.unwrap();
    });
    let name = format!("{}.cut-{good}", last.file_name().unwrap().to_str().unwrap());
    assert_eq!(set_aside(NAME), [(name.clone(), torn.len() as u64)]);
    assert_eq!(std::fs::read(folder(NAME).join("t-0").join(name)).unwrap(), torn);
    std::fs::remove_dir_all(folder(NAME)).unwrap();
}

#[test]
fn damage_below_the_recovery_point_stays_and_above_it_cuts() {
    const NAME: &str = "damage";
    for known in [true, false] {
        killed(NAME);
        let files = log_files(NAME);
        let size = batch(&Spec { value_bytes: 300, ..Spec::default() }).0.len();
        // the second batch of the third segment
        let third = files[2].clone();
        let base: i64 = third.file_stem().unwrap().to_str().unwrap().parse().unwrap();
        let mut bytes = std::fs::read(&third).unwrap();
        bytes[size + 200] ^= 1;
        std::fs::write(&third, bytes).unwrap();
        if !known {
            // without snapshots and recovery points nothing is known to have been durable
            for entry in std::fs::read_dir(third.parent().unwrap()).unwrap() {
                let path = entry.unwrap().path();
                if path.extension().is_some_and(|ending| ending == "snapshot") {
                    std::fs::remove_file(path).unwrap();
                }
            }
        }
        on_a_shard(NAME, move |root| async move {
            let rig = Rig::start(&root, no_caches(), false);
            let log = rig.open(0, small_segments()).await;
            assert_eq!(log.end_offset(), if known { Offset(600) } else { Offset(base + 3) });
            let read = log.read(Offset(base + 3), Offset(600), 1, true).await;
            match known {
                true => assert_eq!(read.err(), Some(Error::Corrupt)),
                false => assert_eq!(read.unwrap().bytes, 0, "it is the end now"),
            }
            if known {
                assert!(log.read(Offset(base + 6), Offset(600), 1, true).await.is_ok());
            }
            rig.storage.stop().await.unwrap();
        });
        let aside = set_aside(NAME);
        if known {
            assert_eq!(aside, []);
        } else {
            assert_eq!(aside.len(), files.len() - 2, "the third's rest and all later ones: {aside:?}");
            assert_eq!(log_files(NAME), files[..3]);
        }
        std::fs::remove_dir_all(folder(NAME)).unwrap();
    }
}

#[test]
fn leftovers_of_a_crash_go_at_the_next_start() {
    const NAME: &str = "leftovers";
    killed(NAME);
    let root = folder(NAME);
    let left = [
        "00000000000000000000.log.deleted",
        "leader-epoch-checkpoint.tmp",
        "00000000000000000003.log.cleaned",
    ];
    left.iter().for_each(|name| std::fs::write(root.join("t-0").join(name), b"x").unwrap());
    let deleted = root.join("u-3.0123456789abcdef0123456789abcdef-delete");
    std::fs::create_dir_all(deleted.join("deeper")).unwrap();
    on_a_shard(NAME, move |root| async move {
        let rig = Rig::start(&root, config(), false);
        let log = rig.open(0, small_segments()).await;
        assert_eq!(log.end_offset(), Offset(600));
        while root.join("u-3.0123456789abcdef0123456789abcdef-delete").exists() {
            reactor::sleep(Duration::from_millis(1)).await;
        }
        rig.storage.stop().await.unwrap();
    });
    left.iter().for_each(|name| assert!(!root.join("t-0").join(name).exists(), "{name}"));
    std::fs::remove_dir_all(root).unwrap();
}

#[test]
fn a_deletion_may_come_before_a_roll_that_is_due() {
    const NAME: &str = "roll-delete";
    on_a_shard(NAME, move |root| async move {
        let rig = Rig::start(&root, config(), false);
        let log = rig.open(0, small_segments()).await;
        let mut expected = Expected::default();
        let mut seed = 0..100;
        while !log.state().borrow().work.rolling {
            log.state().idle().await;
            let seed = seed.next().expect("a segment is full long before");
            expected.append(&log, &Spec { seed, value_bytes: 300, ..Spec::default() }, LeaderEpoch(0));
        }
        // The roll has its turn only now, with nothing left to roll for.
        rig.storage.delete(&log).await.unwrap();
        rig.storage.stop().await.unwrap();
    });
    std::fs::remove_dir_all(folder(NAME)).unwrap();
}

#[test]
fn times_are_found_in_a_segment_that_was_asked_about_while_it_grew() {
    const NAME: &str = "times";
    on_a_shard(NAME, move |root| async move {
        let rig = Rig::start(&root, config(), false);
        let log = rig.open(0, small_segments()).await;
        let mut expected = Expected::default();
        for (seed, base_timestamp) in (0..).zip([1_000, 2_000].into_iter().chain([5_000; 40])) {
            let spec = Spec { seed, value_bytes: 300, base_timestamp, ..Spec::default() };
            expected.append(&log, &spec, LeaderEpoch(0));
            rig.ears.durable_at(&log, expected.end).await;
            let latest = log.find_max_timestamp(expected.end).await.unwrap().unwrap();
            assert_eq!(latest.0, TimestampMs(base_timestamp + 2));
        }
        log.state().idle().await;
        assert!(log.state().borrow().segments[0].closed.get());
        let found = log.find_timestamp(TimestampMs(1_500), expected.end).await.unwrap();
        assert_eq!(found, Some((TimestampMs(2_000), Offset(3), LeaderEpoch(0))));
        rig.storage.stop().await.unwrap();
    });
    std::fs::remove_dir_all(folder(NAME)).unwrap();
}

#[test]
fn times_are_found_inside_compressed_batches() {
    const NAME: &str = "times-gzip";
    on_a_shard(NAME, move |root| async move {
        let rig = Rig::start(&root, config(), false);
        let log = rig.open(0, log_config()).await;
        for base_timestamp in [1_000, 2_000] {
            let (plain, _) = batch(&Spec { base_timestamp, timestamp_step: 10, ..Spec::default() });
            let (packed, header) = gzipped(&plain);
            log.append(packed, &header, LeaderEpoch(0), NOW).unwrap();
        }
        log.flush().await.unwrap();
        let find = |target| log.find_timestamp(TimestampMs(target), Offset(6));
        assert_eq!(find(1_005).await.unwrap(), Some((TimestampMs(1_010), Offset(1), LeaderEpoch(0))));
        assert_eq!(find(1_020).await.unwrap(), Some((TimestampMs(1_020), Offset(2), LeaderEpoch(0))));
        assert_eq!(find(1_021).await.unwrap(), Some((TimestampMs(2_000), Offset(3), LeaderEpoch(0))));
        assert_eq!(find(2_021).await.unwrap(), None);
        let latest = log.find_max_timestamp(Offset(6)).await.unwrap();
        assert_eq!(latest, Some((TimestampMs(2_020), Offset(5), LeaderEpoch(0))));
        rig.storage.stop().await.unwrap();
    });
    std::fs::remove_dir_all(folder(NAME)).unwrap();
}

fn gzipped(plain: &[u8]) -> (Bytes, BatchHeader) {
    let mut encoder =
        flate2::write::GzEncoder::new(plain[..HEADER_BYTES].to_vec(), flate2::Compression::fast());
    encoder.write_all(&plain[HEADER_BYTES..]).unwrap();
    let mut packed = encoder.finish().unwrap();
    let length = (packed.len() - 12) as i32;
    packed[8..12].copy_from_slice(&length.to_be_bytes());
    packed[22] |= 1; // the codec, in the attributes
    rewrite_crc(&mut packed);
    let header = BatchHeader::parse(&packed).unwrap();
    (packed.into(), header)
}

/// The recovery point says that the end was flushed, and the disk gives zeros for it: a gap that answers `Corrupt`,
/// never offsets that are given twice.
#[test]
fn a_lost_end_below_the_recovery_point_is_a_gap() {
    const NAME: &str = "lost-end";
    killed(NAME);
    let last = log_files(NAME).pop().unwrap();
    let base: i64 = last.file_stem().unwrap().to_str().unwrap().parse().unwrap();
    let size = batch(&Spec { value_bytes: 300, ..Spec::default() }).0.len();
    let mut bytes = std::fs::read(&last).unwrap();
    bytes[size..].fill(0);
    std::fs::write(&last, bytes).unwrap();
    let points = format!("0\n1\n{} 0 600\n", partition(0).topic);
    std::fs::write(folder(NAME).join("recovery-points.0"), points).unwrap();
    on_a_shard(NAME, move |root| async move {
        let rig = Rig::start(&root, no_caches(), false);
        let log = rig.open(0, small_segments()).await;
        assert_eq!(log.end_offset(), Offset(600));
        assert!(log.read(Offset(base), Offset(600), 1, true).await.is_ok());
        assert_eq!(log.read(Offset(base + 3), Offset(600), 1, true).await.err(), Some(Error::Corrupt));
        let (bytes, header) = batch(&Spec::default());
        assert_eq!(log.append(bytes, &header, LeaderEpoch(0), NOW).unwrap().base_offset, Offset(600));
        rig.storage.stop().await.unwrap();
    });
    std::fs::remove_dir_all(folder(NAME)).unwrap();
}

/// A boot that fails half way stops what it has started; what was flushed before stays known.
#[test]
fn a_boot_that_fails_forgets_no_recovery_point() {
    const NAME: &str = "failed-boot";
    killed(NAME);
    let path = folder(NAME).join("recovery-points.0");
    let points = format!("0\n1\n{} 0 600\n", partition(0).topic);
    std::fs::write(&path, &points).unwrap();
    on_a_shard(NAME, move |root| async move {
        let rig = Rig::start(&root, config(), false);
        rig.storage.boot_begins();
        rig.open(1, small_segments()).await;
        rig.storage.stop().await.unwrap();
    });
    assert_eq!(std::fs::read_to_string(&path).unwrap(), points);
    // a log that cannot be opened keeps its point in a run that goes on
    std::fs::rename(folder(NAME).join("t-0"), folder(NAME).join("elsewhere")).unwrap();
    on_a_shard(NAME, move |root| async move {
        let rig = Rig::start(&root, config(), false);
        assert!(rig.try_open(0, small_segments(), Create::Never).await.is_err());
        rig.storage.stop().await.unwrap();
    });
    assert_eq!(std::fs::read_to_string(&path).unwrap(), points);
    std::fs::remove_dir_all(folder(NAME)).unwrap();
}

#[test]
fn producers_are_forgotten_when_they_are_silent_or_too_many() {
    const NAME: &str = "producers";
    on_a_shard(NAME, move |root| async move {
        let budget = 100_000;
        let live = LiveConfig { producer_expiration_ms: 3_600_000, ..config().live };
        let config = Config { live, producer_state_bytes: budget, ..config() };
        let rig = Rig::start(&root, config, false);
        let logs = [rig.open(0, log_config()).await, rig.open(1, log_config()).await];
        let now = reactor::wall_clock_ms();
        let append = |log: &Log, id: i64, base_timestamp: i64, sequence: i32| {
            let producer = Some((id, 0, sequence));
            let (bytes, header) = batch(&Spec { producer, base_timestamp, ..Spec::default() });
            log.append(bytes, &header, LeaderEpoch(0), NOW).map(|appended| appended.duplicate)
        };
        append(&logs[0], 1, now - 7_200_000, 0).unwrap();
        append(&logs[0], 2, now, 0).unwrap();
        let state = logs[0].state();
        let shard = &state.shard;
        producers::look(shard).await;
        assert_eq!(append(&logs[0], 1, now, 0), Ok(false), "it is nobody's batch any more");
        assert_eq!(append(&logs[0], 2, now, 0), Ok(true));
        for id in 0..2_000 {
            append(&logs[usize::from(id % 4 == 0)], 100 + id, now, 0).unwrap();
        }
        let used = || logs.iter().map(|log| log.state().borrow().producers.memory_bytes()).sum::<usize>();
        assert!(used() > budget);
        // nobody looks: an append that passes the budget has done it
        reactor::turn().await;
        shard.background_ended().await;
        assert!((budget / 2..budget).contains(&used()), "{}", used());
        assert_eq!(shard.producers.used_bytes(), used());
        assert_eq!(append(&logs[1], 2_096, now, 0), Ok(true), "the newest stay");
        rig.storage.stop().await.unwrap();
    });
    std::fs::remove_dir_all(folder(NAME)).unwrap();
}

//! Cleanings of logs on the virtual reactor: what is read afterwards, and after a crash at any moment.

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::future::Future;
use std::path::PathBuf;
use std::pin::Pin;
use std::rc::Rc;

use bytes::Bytes;
use kafka_protocol::records::{Compression, Record as Wanted, TimestampType as Stamp};

use super::*;
use crate::log::files::{FileState, SegmentFile};
use crate::log::producer_state::{EndTxn, NewMarker};
use crate::model::{DirectoryId, LeaderEpoch, ProducerEpoch, ProducerId, TopicId};
use crate::protocol::batch::{Batches, Codec, HEADER_BYTES, rewrite_crc};
use crate::protocol::compose::{NewRecord, compose};
use crate::protocol::compression;
use crate::protocol::records::Records;
use crate::protocol::test_batch::encode_records;
use crate::reactor::ShardContext;
use crate::reactor::sim::{Disk, Simulation, When, check_seeds};
use crate::storage::testing::{Noise, config, log_config, transactional};
use crate::storage::{Assigned, LiveConfig};
use crate::storage::{
    CleanupPolicy, Compaction, Config, Create, Listener, Log, LogConfig, LogDir, OpenLog, Storage,
};

const DIRECTORY: DirectoryId = DirectoryId(100);
const PARTITION: PartitionId = PartitionId { topic: TopicId(7), index: 0 };
const FOLDER: &str = "/data/t-0";

struct Deaf;

impl Listener for Deaf {
    fn assign(&self, _: PartitionId, _: DirectoryId) -> Pin<Box<dyn Future<Output = Assigned>>> {
        Box::pin(std::future::ready(Assigned::No))
    }

    fn high_watermark(&self, _: PartitionId) -> Offset {
        Offset(i64::MAX)
    }

    fn last_stable_offset(&self, _: PartitionId) -> Offset {
        Offset(i64::MAX)
    }

    fn durable(&self, _: PartitionId, _: Offset) {}

    fn failed(&self, _: DirectoryId) {}
}

/// Everything that was written, by offset: timestamp, key, value.
type Written = BTreeMap<i64, (i64, String, Option<String>)>;

fn settings() -> LogConfig {
    LogConfig {
        segment_bytes: 3_000,
        index_interval_bytes: 200,
        cleanup: CleanupPolicy { delete: false, compact: true },
        compaction: Compaction { min_dirty_ratio: 0.0, delete_retention_ms: 0, ..Compaction::default() },
        ..log_config()
    }
}

/// A tail cache that could hold everything.
fn small() -> Config {
    Config { tail_cache_bytes: 1 << 20, ..config() }
}

fn start(config: Config, clean: bool) -> Rc<Storage> {
    Storage::start(config, vec![LogDir::new(DIRECTORY, PathBuf::from("/data"), clean)], Rc::new(Deaf))
}

async fn open(storage: &Storage, config: LogConfig) -> Log {
    storage.replay_journals().await.expect("the journals are replayed");
    let what = OpenLog {
        partition: PARTITION,
        topic_name: "t".into(),
        directory: DIRECTORY,
        config,
        create: Create::IfMissing,
    };
    storage.open(what).await.expect("it opens")
}

/// Appends some batches of few keys; every third producer is idempotent.
async fn append(log: &Log, noise: &mut Noise, batches: u64, written: &RefCell<Written>) {
    for _ in 0..batches {
        let base = log.end_offset().0;
        let codecs =
            [Compression::None, Compression::Gzip, Compression::Snappy, Compression::Lz4, Compression::Zstd];
        let producer = noise.below(3) as i64;
        let sequence = {
            let known = log.state().borrow().producers.last_batches(None, 10);
            let known = known.into_iter().find(|(id, _)| id.0 == producer);
            known.map_or(0, |_| SEQUENCES.with(|all| all.borrow()[producer as usize]))
        };
        let count = 1 + noise.below(5) as usize;
        let records: Vec<Wanted> = (0..count)
            .map(|index| {
                let key = format!("key {}", noise.below(12));
                let value = (!noise.one_in(6))
                    .then(|| format!("{base}+{index} {}", "~".repeat(noise.below(200) as usize)));
                let timestamp = 1_000 + base * 2 + index as i64;
                written.borrow_mut().insert(base + index as i64, (timestamp, key.clone(), value.clone()));
                Wanted {
                    transactional: false,
                    control: false,
                    delete_horizon: false,
                    partition_leader_epoch: -1,
                    producer_id: if producer == 0 { -1 } else { producer },
                    producer_epoch: if producer == 0 { -1 } else { 0 },
                    timestamp_type: Stamp::Creation,
                    offset: index as i64,
                    sequence: sequence + index as i32,
                    timestamp,
                    key: Some(Bytes::from(key)),
                    value: value.map(Bytes::from),
                    headers: Default::default(),
                }
            })
            .collect();
        let mut batch = encode_records(&records, codecs[noise.below(5) as usize]).to_vec();
        if producer == 0 {
            batch[53..57].copy_from_slice(&(-1_i32).to_be_bytes());
            rewrite_crc(&mut batch);
        }
        let batch = Bytes::from(batch);
        let header = BatchHeader::parse(&batch).unwrap();
        let appended = log.append(batch, &header, LeaderEpoch(3), TimestampMs(0)).expect("it is appended");
        assert_eq!((appended.base_offset.0, appended.duplicate), (base, false));
        if producer > 0 {
            SEQUENCES.with(|all| all.borrow_mut()[producer as usize] = sequence + count as i32);
        }
        if noise.one_in(4) {
            log.flush().await.expect("it is flushed");
        }
    }
    log.flush().await.expect("it is flushed");
    log.state().idle().await;
}

thread_local! {
    /// What each producer sends next; a life that finds its producer unknown begins at 0.
    static SEQUENCES: RefCell<[i32; 3]> = const { RefCell::new([0; 3]) };
}

/// All records from `from` on, as a consumer reads them.
async fn read(log: &Log, from: Offset, max_bytes: usize) -> Written {
    let (mut found, mut next) = (Written::new(), from);
    while next < log.durable_end() {
        let slices = log.read(next, log.durable_end(), max_bytes, true).await.expect("it is readable");
        assert!(slices.bytes > 0 && slices.next > next, "a read goes on");
        for part in &slices.parts {
            for batch in Batches::new(part) {
                let (header, bytes) = batch.expect("whole batches");
                assert!(header.next_offset() > next || header.base_offset <= next, "in order");
                next = header.next_offset();
                let records =
                    compression::decompress(header.codec().unwrap(), &bytes[HEADER_BYTES..], 1 << 20)
                        .unwrap();
                let text =
                    |range: std::ops::Range<usize>| String::from_utf8(records[range].to_vec()).unwrap();
                for record in Records::new(&header, &records) {
                    let record = record.unwrap();
                    let offset = header.base_offset.0 + i64::from(record.offset_delta);
                    let entry = (
                        record.timestamp(&header).0,
                        text(record.key.clone().unwrap()),
                        record.value.clone().map(text),
                    );
                    assert!(found.insert(offset, entry).is_none(), "{offset} twice");
                }
            }
        }
    }
    found
}

/// The last value of each key; a tombstone is none.
fn values(records: &Written, end: i64) -> BTreeMap<&str, &str> {
    let mut values = BTreeMap::new();
    for (_, key, value) in records.range(..end).map(|(_, record)| record) {
        match value {
            Some(value) => values.insert(key.as_str(), value.as_str()),
            None => values.remove(key.as_str()),
        };
    }
    values
}

/// What is read is some of what was written, and gives the same values.
async fn holds(log: &Log, written: &RefCell<Written>) -> Written {
    let end = log.durable_end().0;
    let found = read(log, log.start_offset(), 700).await;
    let written = &*written.borrow();
    for (offset, record) in &found {
        assert_eq!(written.get(offset), Some(record), "offset {offset}");
    }
    assert_eq!(values(&found, end), values(written, end));
    found
}

async fn clean_all(log: &Log) {
    while clean_dirtiest(&log.state().shard).await {}
}

async fn files(state: FileState) -> Vec<String> {
    let entries = fs::list(FOLDER.as_ref()).await.unwrap().into_iter();
    entries
        .filter(|entry| SegmentFile::parse(&entry.name).is_some_and(|file| file.state == state))
        .map(|entry| entry.name)
        .collect()
}

fn run_on<T: 'static>(disk: &Disk, seed: u64, life: impl AsyncFnOnce() -> T + Clone + 'static) -> T {
    let simulation = Simulation::new(seed).disk(disk);
    let done = simulation.run(move |_: ShardContext<()>| {
        let life = life.clone();
        async move { life().await }
    });
    done_one(&mut done.done())
}

fn done_one<T>(done: &mut Vec<T>) -> T {
    done.pop().expect("one shard")
}

fn disk() -> Disk {
    let disk = Disk::new();
    disk.create_dir_all("/data").expect("an empty disk");
    SEQUENCES.with(|all| *all.borrow_mut() = [0; 3]);
    disk
}

#[test]
fn a_cleaned_log_has_the_last_values_and_is_found_again() {
    let disk = disk();
    let written = Rc::new(RefCell::new(Written::new()));
    let kept = Rc::clone(&written);
    run_on(&disk, 1, async move || {
        let storage = start(small(), true);
        let log = open(&storage, settings()).await;
        let mut noise = Noise(5);
        append(&log, &mut noise, 100, &kept).await;
        let before = log.size_bytes();
        clean_all(&log).await;
        let found = holds(&log, &kept).await;
        assert!(
            found.len() * 2 < kept.borrow().len() && log.size_bytes() * 2 < before,
            "{}",
            log.size_bytes()
        );
        assert_eq!((files(FileState::Cleaned).await, files(FileState::Swap).await), (vec![], vec![]));
        // every place is readable, the gaps too, and a later time is found
        for from in (0..log.end_offset().0).step_by(7) {
            let rest = read(&log, Offset(from), 100_000).await;
            assert!(rest.range(from..).eq(found.range(from..)), "from {from}");
        }
        let target = kept.borrow()[&40].0;
        let (timestamp, offset, _) = log
            .find_timestamp(TimestampMs(target), log.end_offset())
            .await
            .unwrap()
            .expect("there is a later one");
        let expect =
            found.iter().find(|(_, record)| record.0 >= target).map(|(offset, record)| (record.0, *offset));
        assert_eq!(Some((timestamp.0, offset.0)), expect);
        // it goes on, and what is cleaned again holds, too
        append(&log, &mut noise, 60, &kept).await;
        let segments = log.state().borrow().segments.len();
        clean_all(&log).await;
        holds(&log, &kept).await;
        assert!(log.state().borrow().segments.len() < segments, "small segments have become one");
        storage.stop().await.expect("a clean stop");
    });
    for (seed, clean) in [(2, true), (3, false)] {
        let written = Rc::clone(&written);
        run_on(&disk, seed, async move || {
            let storage = start(small(), clean);
            let log = open(&storage, settings()).await;
            assert_eq!(log.end_offset().0, written.borrow().len() as i64);
            holds(&log, &written).await;
            // what was cleaned is not cleaned again
            assert!(!clean_dirtiest(&log.state().shard).await);
            storage.stop().await.expect("a clean stop");
        });
    }
    // without anything that describes it, and with a policy that compacts no more
    run_on(&disk, 4, async move || {
        for entry in fs::list(FOLDER.as_ref()).await.unwrap() {
            if !entry.name.ends_with(".log") && entry.name != "partition.metadata" {
                fs::remove_file(&PathBuf::from(FOLDER).join(entry.name)).await.unwrap();
            }
        }
        let storage = start(small(), false);
        let log = open(
            &storage,
            LogConfig { cleanup: CleanupPolicy { delete: true, compact: false }, ..settings() },
        )
        .await;
        assert_eq!(log.end_offset().0, written.borrow().len() as i64);
        holds(&log, &written).await;
    });
}

#[test]
fn a_small_map_cleans_in_parts() {
    let disk = disk();
    let written = Rc::new(RefCell::new(Written::new()));
    run_on(&disk, 1, async move || {
        // eight slots, six keys
        let map_bytes = 8 * crate::log::compaction::BYTES_PER_SLOT;
        let cleaner = CleanerConfig { map_bytes, ..config().live.cleaner };
        let live = LiveConfig { cleaner, ..config().live };
        let storage = start(Config { live, ..small() }, true);
        let log = open(&storage, settings()).await;
        append(&log, &mut Noise(9), 80, &written).await;
        let mut runs = 0;
        while clean_dirtiest(&log.state().shard).await {
            runs += 1;
            holds(&log, &written).await;
        }
        assert!(runs > 3, "{runs} runs");
        let closed = log.state().borrow().segments.last().unwrap().base;
        assert_eq!(log.state().directory.cleaned.of(PARTITION), Some(closed));
    });
}

#[test]
fn damage_is_reported_and_nothing_is_taken_from_the_log() {
    let disk = disk();
    let written = Rc::new(RefCell::new(Written::new()));
    run_on(&disk, 1, async move || {
        let storage = start(small(), true);
        let log = open(&storage, settings()).await;
        append(&log, &mut Noise(5), 60, &written).await;
        let path = PathBuf::from(FOLDER).join(SegmentFile::live(Offset::ZERO, FileKind::Log).name());
        let good = fs::read(&path).await.unwrap();
        let mut bad = good.clone();
        bad[1_500] ^= 1;
        fs::write(&path, bad.clone()).await.unwrap();
        let before = fs::list(FOLDER.as_ref()).await.unwrap();
        assert!(!clean_dirtiest(&log.state().shard).await);
        assert_eq!(fs::list(FOLDER.as_ref()).await.unwrap(), before);
        assert_eq!(storage.measure().uncleanable_partitions, 1);
        // until the next start, repaired or not
        fs::write(&path, good).await.unwrap();
        assert!(!clean_dirtiest(&log.state().shard).await);
        storage.delete(&log).await.unwrap();
        assert_eq!(storage.measure().uncleanable_partitions, 0);
    });
}

#[test]
fn a_full_disk_is_left_alone() {
    let disk = disk();
    let written = Rc::new(RefCell::new(Written::new()));
    let full = disk.clone();
    run_on(&disk, 1, async move || {
        let storage = start(Config { reserve_bytes: 100_000, ..small() }, true);
        let log = open(&storage, settings()).await;
        append(&log, &mut Noise(5), 60, &written).await;
        full.set_capacity(full.used_bytes() + 101_000);
        crate::storage::space::sample(&log.state().shard, &log.state().directory).await;
        let before = fs::list(FOLDER.as_ref()).await.unwrap();
        assert!(!clean_dirtiest(&log.state().shard).await);
        assert_eq!(fs::list(FOLDER.as_ref()).await.unwrap(), before);
        assert!(log.is_writable() && storage.measure().uncleanable_partitions == 0);
        full.set_capacity(u64::MAX);
        crate::storage::space::sample(&log.state().shard, &log.state().directory).await;
        assert!(clean_dirtiest(&log.state().shard).await);
        holds(&log, &written).await;
    });
}

#[test]
fn a_deletion_and_a_stop_in_the_middle_end_the_cleaning() {
    for seed in 0..40 {
        let disk = disk();
        let written = Rc::new(RefCell::new(Written::new()));
        run_on(&disk, seed, async move || {
            let storage = start(small(), true);
            let log = open(&storage, settings()).await;
            append(&log, &mut Noise(seed), 60, &written).await;
            let cleaning = reactor::spawn({
                let log = log.clone();
                async move { clean_all(&log).await }
            });
            reactor::sleep(Duration::from_micros(reactor::random_u64() % 20_000)).await;
            let reader = reactor::spawn({
                let (log, written) = (log.clone(), Rc::clone(&written));
                async move { holds(&log, &written).await }
            });
            reader.await;
            if seed % 2 == 0 {
                storage.stop().await.expect("a clean stop");
                cleaning.await;
                assert_eq!((files(FileState::Cleaned).await, files(FileState::Swap).await), (vec![], vec![]));
            } else {
                storage.delete(&log).await.expect("it is deleted");
                cleaning.await;
                assert!(!fs::exists(FOLDER.as_ref()).await.unwrap());
            }
        });
    }
}

/// One life that appends and cleans until it is over or the power goes, then one that looks.
fn crashed(seed: u64, when: When, kill: bool) -> (Vec<u64>, bool, u64) {
    let disk = disk();
    let written = Rc::new(RefCell::new(Written::new()));
    let durable = Rc::new(std::cell::Cell::new(0));
    let simulation = Simulation::new(seed).disk(&disk);
    let simulation = if kill { simulation.kill(when) } else { simulation.power_cut(when) };
    let first = simulation.run({
        let (written, durable) = (Rc::clone(&written), Rc::clone(&durable));
        move |_: ShardContext<()>| {
            let (written, durable) = (Rc::clone(&written), Rc::clone(&durable));
            async move {
                let storage = start(small(), false);
                let log = open(&storage, settings()).await;
                let mut noise = Noise(seed);
                for _ in 0..2 {
                    append(&log, &mut noise, 25, &written).await;
                    durable.set(log.durable_end().0);
                    clean_all(&log).await;
                    holds(&log, &written).await;
                }
            }
        }
    });
    let (trace, steps) = (first.trace, first.steps);
    let did_crash = first.done_or_crashed().is_none();
    if !did_crash {
        disk.crash(seed);
    }
    let second = Simulation::new(seed + 1).disk(&disk).run({
        move |_: ShardContext<()>| {
            let (written, durable) = (Rc::clone(&written), Rc::clone(&durable));
            async move {
                let storage = start(small(), false);
                let log = open(&storage, settings()).await;
                assert!(log.end_offset().0 >= durable.get(), "{} of {}", log.end_offset(), durable.get());
                assert_eq!((files(FileState::Cleaned).await, files(FileState::Swap).await), (vec![], vec![]));
                holds(&log, &written).await;
                let last = log.state().borrow().producers.last_batches(None, 10);
                clean_all(&log).await;
                holds(&log, &written).await;
                assert_eq!(log.state().borrow().producers.last_batches(None, 10), last);
                storage.stop().await.expect("a clean stop");
            }
        }
    });
    let traces = vec![trace, second.trace];
    second.done();
    (traces, did_crash, steps)
}

#[test]
fn a_crash_at_any_moment_leaves_the_old_or_the_new() {
    check_seeds(150, |seed| {
        let mut noise = Noise(seed);
        crashed(seed, When::OneInDiskEvents(10 + noise.below(300) as u32), noise.one_in(3)).0
    });
}

#[test]
fn a_power_cut_at_every_step_leaves_the_old_or_the_new() {
    let (_, did_crash, steps) = crashed(7, When::Step(u64::MAX), false);
    assert!(!did_crash);
    let every = (steps / 250).max(1);
    for step in (0..steps).step_by(every as usize) {
        let (_, did_crash, _) = crashed(7, When::Step(step), step % 3 == 0);
        assert!(did_crash, "step {step} of {steps}");
    }
}

const COMMITTED: &str = "the committed one";
const ABORTED: &str = "the aborted one";

fn put(log: &Log, key: &str, value: &str, producer: Option<i64>) {
    let bytes = |text: &str| Some(Bytes::copy_from_slice(text.as_bytes()));
    let record = NewRecord { timestamp: 1_000, key: bytes(key), value: bytes(value), headers: Vec::new() };
    let mut batch = compose(&[record], Codec::None).unwrap();
    if let Some(producer) = producer {
        batch[43..51].copy_from_slice(&producer.to_be_bytes());
        batch[51..57].fill(0);
    }
    let header = BatchHeader::parse(&batch).unwrap();
    let batch = (Bytes::from(batch), header);
    let (batch, header) = if producer.is_some() { transactional(batch) } else { batch };
    log.append(batch, &header, LeaderEpoch(3), TimestampMs(0)).expect("it is appended");
}

async fn only_what_was_committed(log: &Log) {
    let slices = log.read(Offset::ZERO, log.durable_end(), 100_000, true).await.expect("it is readable");
    let bytes = slices.parts.concat();
    let has = |text: &str| bytes.windows(text.len()).any(|window| window == text.as_bytes());
    assert!(has(COMMITTED) && !has(ABORTED));
}

/// An aborted transaction's batches lie in closed segments, its marker in the one that is appended to: what it wrote must not
/// take the place of what was committed.
#[test]
fn what_was_aborted_replaces_nothing() {
    let disk = disk();
    run_on(&disk, 1, async || {
        let storage = start(small(), true);
        let log = open(&storage, settings()).await;
        put(&log, "k", COMMITTED, None);
        put(&log, "k", ABORTED, Some(7));
        for n in 0..40 {
            put(&log, &format!("other {n}"), &"~".repeat(200), None);
        }
        let marker = NewMarker {
            producer_id: ProducerId(7),
            producer_epoch: ProducerEpoch(0),
            coordinator_epoch: 0,
            end: EndTxn::Abort,
            transaction_version: 1,
        };
        log.append_marker(&marker, LeaderEpoch(3), TimestampMs(0)).expect("it is appended");
        log.flush().await.expect("it is flushed");
        log.state().idle().await;
        assert!(clean_dirtiest(&log.state().shard).await, "there is something to clean");
        only_what_was_committed(&log).await;
        storage.stop().await.expect("a clean stop");
    });
    run_on(&disk, 2, async || {
        let storage = start(small(), true);
        only_what_was_committed(&open(&storage, settings()).await).await;
        storage.stop().await.expect("a clean stop");
    });
}

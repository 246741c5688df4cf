//! Several lives of a shard's storage on one disk: append, read, roll, delete, crash, recover, again.
//!
//! A model beside it knows every batch that was appended, up to where each log was said to be durable, and the highest
//! log start that anybody was told. After every start the log must be a prefix of what was appended, at least as long as
//! what was durable, byte for byte from its start on, with the leader epochs and producer state that belong to it, and
//! begin at that start or above. While it runs, everything from the start to the durable end must be readable.

use std::cell::{Cell, RefCell};
use std::path::PathBuf;
use std::rc::Rc;
use std::time::Duration;

use bytes::Bytes;

use crate::log::files::{FileKind, SegmentFile};
use crate::model::{DirectoryId, ErrorCode, LeaderEpoch, Offset, PartitionId, TimestampMs, TopicId};
use crate::protocol::batch::BatchHeader;
use crate::reactor::sim::{CrashKind, Disk, Faults, Simulation, When, check_seeds};
use crate::reactor::sync::Notify;
use crate::reactor::{self, ShardContext};
use crate::storage::commit::mutation;
use crate::storage::log_starts;
use crate::storage::testing::{self, Noise, Spec, batch, stored};
use crate::storage::{
    CleanupPolicy, Config, Create, Durability, Error, Listener, Log, LogConfig, LogDir, OpenLog, Storage,
};

const DIRECTORY: DirectoryId = DirectoryId(100);

type Check = Result<(), String>;

macro_rules! check {
    ($holds:expr, $($text:tt)*) => {
        if !$holds {
            return Err(format!($($text)*));
        }
    };
}

/// What a seed decides once.
#[derive(Clone, Debug)]
struct Plan {
    partitions: usize,
    lives: usize,
    batches_per_life: u64,
    value_bytes_max: u64,
    config: Config,
    log: LogConfig,
    /// This partition does not flush.
    written: Option<usize>,
    /// Log starts move by themselves.
    expires: bool,
    /// Write and flush errors in the lives but the first.
    faults: bool,
    /// Logs are truncated once in so many batches; 0 for never.
    truncates: u64,
}

impl Plan {
    fn of(noise: &mut Noise) -> Plan {
        let expires = noise.one_in(2);
        let segment_bytes = [3_000, 20_000, 200_000][noise.below(3) as usize];
        let caches = [0, 10_000, 1 << 20][noise.below(3) as usize];
        Plan {
            partitions: 1 + noise.below(4) as usize,
            lives: 3,
            batches_per_life: 5 + noise.below(50),
            value_bytes_max: [50, 700, 9_000][noise.below(3) as usize],
            config: Config {
                journal_bytes: [0, 64 << 10, 160 << 10, 1 << 20][noise.below(4) as usize],
                tail_cache_bytes: caches,
                read_ahead_bytes: [0, 100_000, 4 << 20][noise.below(3) as usize],
                reserve_bytes: 0,
                checkpoint_interval_ms: 1 + noise.below(100),
                retention_check_interval_ms: 1 + noise.below(20),
                producer_expiration_ms: i64::MAX,
                producer_state_bytes: 16 << 20,
                ..testing::config()
            },
            log: LogConfig {
                segment_bytes,
                segment_ms: i64::MAX,
                segment_jitter_ms: 0,
                segment_index_bytes: 10 << 20,
                index_interval_bytes: 1 + noise.below(5_000),
                preallocate: false,
                cleanup: CleanupPolicy { delete: true, compact: false },
                // all records are from long ago
                retention_ms: if expires && noise.one_in(4) { 0 } else { -1 },
                retention_bytes: if expires { noise.below(4 * segment_bytes) as i64 } else { -1 },
                durability: Durability::Flushed,
                flush_messages: i64::MAX,
                flush_ms: i64::MAX,
                reserve: crate::storage::Reserve::Kept,
                ..testing::log_config()
            },
            written: noise.one_in(3).then_some(0),
            expires,
            faults: noise.one_in(4),
            truncates: [0, 0, 40, 8][noise.below(4) as usize],
        }
    }

    fn log_config(&self, index: usize) -> LogConfig {
        let durability = if self.written == Some(index) { Durability::Written } else { Durability::Flushed };
        LogConfig { durability, ..self.log.clone() }
    }
}

/// One batch as it was appended.
#[derive(Clone)]
struct Appended {
    base: Offset,
    end: Offset,
    raw: Bytes,
    header: BatchHeader,
    epoch: LeaderEpoch,
    stored: Vec<u8>,
}

/// What one log should hold.
#[derive(Default)]
struct Expected {
    topic: u128,
    /// It was opened once: its folder is durable.
    created: bool,
    /// Where the first batch begins: above zero where the log has begun anew.
    base: Offset,
    batches: Vec<Appended>,
    durable: Offset,
    /// The highest log start that was told, and that was asked for.
    start: Offset,
    asked: Offset,
    /// A truncation has begun, and not ended.
    cutting: Option<Cut>,
    /// How many have ended.
    cuts: u64,
    producer_epoch: i16,
}

/// A truncation as it was asked for.
#[derive(Clone, Copy, Debug)]
enum Cut {
    To(Offset),
    All(Offset),
}

impl Expected {
    /// A log start is told: it never goes back.
    fn told(&mut self, start: Offset) -> Check {
        check!(start >= self.start, "the log started at {}, and at {start} after that", self.start);
        self.start = start;
        Ok(())
    }

    fn end(&self) -> Offset {
        self.batches.last().map_or(self.base, |batch| batch.end)
    }

    /// Whether a log that was cut may start and end there. Retention may have moved its start without a word.
    fn may_be_cut(&self, cut: Cut, (start, end): (Offset, Offset)) -> bool {
        let is_empty = start == end;
        match cut {
            Cut::All(at) => is_empty && end == at,
            Cut::To(to) => {
                let kept = self.batches.partition_point(|batch| batch.end <= to);
                let floor = kept.checked_sub(1).map_or(self.base, |last| self.batches[last].end);
                let is_cut = end == floor && start >= self.start && start <= end;
                // it begins anew: below its start, or because the batch it started in is gone
                is_cut || (is_empty && (end == to || (end > floor && end >= self.start && end <= self.end())))
            }
        }
    }

    /// It was cut, and starts and ends there. An empty log may know its producers or not.
    fn has_been_cut(&mut self, (start, end): (Offset, Offset)) {
        self.batches.retain(|batch| batch.end <= end);
        if start == end {
            self.batches.clear();
            self.base = end;
            self.producer_epoch += 1;
        }
        (self.start, self.asked, self.durable) = (start, self.asked.max(start), end);
        (self.cutting, self.cuts) = (None, self.cuts + 1);
    }

    /// The first batch that ends above `offset`.
    fn above(&self, offset: Offset) -> usize {
        self.batches.partition_point(|batch| batch.end <= offset)
    }

    fn producer_batches(&self, producer: i64) -> impl DoubleEndedIterator<Item = &Appended> {
        self.batches.iter().filter(move |batch| batch.header.producer_id.0 == producer)
    }

    fn bytes(&self, from: Offset, to: Offset) -> Vec<u8> {
        let (first, last) = (self.above(from), self.above(to));
        let mut bytes = Vec::new();
        self.batches[first..last].iter().for_each(|batch| bytes.extend_from_slice(&batch.stored));
        bytes
    }
}

/// What survives the lives.
struct World {
    plan: Plan,
    logs: Vec<RefCell<Expected>>,
    failed: Cell<bool>,
    heard: Notify,
    /// The first thing that was wrong.
    wrong: RefCell<Option<String>>,
}

impl World {
    fn partition(&self, index: usize) -> PartitionId {
        PartitionId { topic: TopicId(self.logs[index].borrow().topic), index: index as i32 }
    }

    fn wrong(&self, what: String) {
        self.wrong.borrow_mut().get_or_insert(what);
    }
}

impl Listener for World {
    fn durable(&self, partition: PartitionId, end: Offset) {
        let mut expected = self.logs[partition.index as usize].borrow_mut();
        if partition.topic.0 != expected.topic {
            return;
        }
        if end <= expected.durable || end > expected.end() {
            self.wrong(format!("durable end {end} after {} of {}", expected.durable, expected.end()));
        }
        expected.durable = end;
        drop(expected);
        self.heard.notify();
    }

    fn high_watermark(&self, partition: PartitionId) -> Offset {
        self.logs[partition.index as usize].borrow().durable
    }

    fn failed(&self, _: DirectoryId) {
        self.failed.set(true);
        self.heard.notify();
    }
}

/// One life: recover, check, append and read side by side, stop or not. Whether the stop was clean.
async fn live(world: Rc<World>, disk: Disk, life: usize, clean: bool) -> bool {
    match try_live(&world, &disk, life, clean).await {
        Ok(clean) => clean,
        Err(what) => {
            world.wrong(format!("life {life}: {what}"));
            false
        }
    }
}

async fn try_live(world: &Rc<World>, disk: &Disk, life: usize, clean: bool) -> Result<bool, String> {
    let directory = LogDir { id: DIRECTORY, path: PathBuf::from("/data"), clean };
    let listener: Rc<dyn Listener> = world.clone();
    let storage = Storage::start(world.plan.config.clone(), vec![directory], listener);
    storage.replay_journals().await?;
    let opening: Vec<_> = (0..world.plan.partitions)
        .map(|index| {
            let (storage, world) = (Rc::clone(&storage), Rc::clone(world));
            reactor::spawn(async move { open(&storage, &world, index).await })
        })
        .collect();
    let mut logs = Vec::new();
    for opened in opening {
        logs.push(opened.await?);
    }
    for (index, log) in logs.iter().enumerate() {
        recovered(world, index, log).await.map_err(|what| format!("partition {index}: {what}"))?;
    }
    if world.plan.faults && life > 0 {
        let one_in = 20 + reactor::random_u64() as u32 % 100;
        disk.set_faults(Faults {
            write_error_one_in: one_in,
            flush_error_one_in: one_in,
            ..Faults::default()
        });
    }
    let mut working = Vec::new();
    for (index, log) in logs.iter().enumerate() {
        let (world, log) = (Rc::clone(world), log.clone());
        working.push(reactor::spawn({
            let (world, log) = (Rc::clone(&world), log.clone());
            async move { write(&world, index, &log, LeaderEpoch(life as i32)).await }
        }));
        working.push(reactor::spawn(async move { read(&world, index, &log).await }));
    }
    for work in working {
        work.await?;
    }
    for (index, log) in logs.iter().enumerate() {
        let end = world.logs[index].borrow().end();
        while log.durable_end() < end && !world.failed.get() {
            world.heard.notified().await;
        }
        readable(world, index, log, 100_000).await?;
    }
    world.heard.notify();
    if world.failed.get() || reactor::random_u64().is_multiple_of(3) {
        return Ok(false);
    }
    match storage.stop().await {
        Ok(()) => Ok(true),
        Err(_) if world.plan.faults => Ok(false),
        Err(error) => Err(format!("stop: {error:?}")),
    }
}

async fn open(storage: &Storage, world: &World, index: usize) -> Result<Log, String> {
    let created = world.logs[index].borrow().created;
    let what = OpenLog {
        partition: world.partition(index),
        topic_name: "t".into(),
        directory: DIRECTORY,
        config: world.plan.log_config(index),
        create: if created { Create::Never } else { Create::IfMissing },
    };
    let log = storage.open(what).await.map_err(|error| format!("open of {index}: {error:?}"))?;
    world.logs[index].borrow_mut().created = true;
    Ok(log)
}

/// What was found must be a prefix of what was appended, not shorter than what was durable.
async fn recovered(world: &World, index: usize, log: &Log) -> Check {
    let told = world.logs[index].borrow().start;
    {
        let expected = &mut *world.logs[index].borrow_mut();
        let end = log.end_offset();
        if let Some(cut) = expected.cutting.take() {
            // all of it has happened, or nothing
            let found = (log.start_offset(), end);
            if expected.may_be_cut(cut, found) {
                expected.has_been_cut(found);
            }
        }
        check!(end >= expected.durable, "durable up to {}, found up to {end}", expected.durable);
        check!(end <= expected.end(), "appended up to {}, found up to {end}", expected.end());
        expected.batches.retain(|batch| batch.end <= end);
        check!(expected.end() == end, "found up to {end}, where no batch ends");
        check!(log.durable_end() == end, "not all of it is durable");
        expected.durable = end;
        let start = log.start_offset();
        expected.told(start)?;
        check!(
            world.plan.expires || start <= expected.asked,
            "starts at {start}, asked for {}",
            expected.asked
        );
        check!(start <= end, "starts at {start}, ends at {end}");
        epochs(expected, log)?;
        producers(expected, log)?;
    }
    removed(index, told).await?;
    readable(world, index, log, 1 + reactor::random_u64() as usize % 50_000).await
}

/// After a start no files are left of segments below what the log's start was before, or soon none are.
async fn removed(index: usize, start: Offset) -> Check {
    let folder = PathBuf::from(format!("/data/t-{index}"));
    let mut bases = Vec::new();
    for _ in 0..100 {
        let entries = reactor::fs::list(&folder).await.map_err(|error| error.to_string())?;
        let files: Vec<_> = entries.iter().filter_map(|entry| SegmentFile::parse(&entry.name)).collect();
        let segments = files.iter().filter(|file| file.kind == FileKind::Log);
        bases = segments.map(|file| file.offset).collect();
        bases.sort_unstable();
        let stale = files.iter().find(|file| file.offset < bases[0]);
        check!(stale.is_none(), "{stale:?} is left, the first segment is {}", bases[0]);
        if bases.get(1).is_none_or(|&second| second > start) {
            return Ok(());
        }
        reactor::sleep(Duration::from_millis(10)).await;
    }
    Err(format!("segments {bases:?}, the log starts at {start}"))
}

fn epochs(expected: &Expected, log: &Log) -> Check {
    let last = expected.batches.last().map_or(LeaderEpoch::NONE, |batch| batch.epoch);
    let start = log.start_offset();
    // what was in force in front of an empty log may be known or not
    let is_empty = start == log.end_offset();
    check!(is_empty || log.last_epoch() == last, "last epoch {}, not {last}", log.last_epoch());
    for (number, batch) in expected.batches.iter().enumerate().filter(|(_, batch)| batch.base >= start) {
        check!(
            log.epoch_at(batch.base) == batch.epoch,
            "epoch at {}: {}",
            batch.base,
            log.epoch_at(batch.base)
        );
        let next = expected.batches.get(number + 1);
        if next.is_none_or(|next| next.epoch != batch.epoch) {
            let found = log.end_offset_for(batch.epoch);
            check!(found == (batch.epoch, batch.end), "end of epoch {}: {found:?}", batch.epoch);
        }
    }
    Ok(())
}

/// The last batch of each producer is known, none of the last five is appended again (Kafka's snapshot keeps one
/// batch of each, so an older one may be refused instead), and a gap is refused.
fn producers(expected: &Expected, log: &Log) -> Check {
    for producer in producer_ids() {
        for (number, batch) in expected.producer_batches(producer).rev().take(5).enumerate() {
            let again = log.append(batch.raw.clone(), &batch.header, LeaderEpoch(99), TimestampMs(0));
            if number > 0 && again == Err(Error::Refused(ErrorCode::OutOfOrderSequenceNumber)) {
                continue;
            }
            let Ok(again) = again else { return Err(format!("duplicate of {}: {again:?}", batch.base)) };
            let place = (again.base_offset, again.end_offset, again.duplicate);
            check!(place == (batch.base, batch.end, true), "duplicate of {} appended: {again:?}", batch.base);
        }
        if let Some(last) = expected.producer_batches(producer).next_back() {
            let (epoch, sequence) = (last.header.producer_epoch.0, last.header.last_sequence() + 2);
            let (raw, header) =
                self::batch(&Spec { producer: Some((producer, epoch, sequence)), ..Spec::default() });
            let gap = log.append(raw, &header, LeaderEpoch(99), TimestampMs(0));
            check!(gap == Err(Error::Refused(ErrorCode::OutOfOrderSequenceNumber)), "gap: {gap:?}");
        }
    }
    Ok(())
}

fn producer_ids() -> std::ops::Range<i64> {
    10..12
}

/// Reads from the start up to the durable end and compares.
async fn readable(world: &World, index: usize, log: &Log, max_bytes: usize) -> Check {
    reads(world, index, log, log.start_offset(), max_bytes, usize::MAX).await
}

/// At most so many reads from `from` on.
async fn reads(
    world: &World,
    index: usize,
    log: &Log,
    from: Offset,
    max_bytes: usize,
    count: usize,
) -> Check {
    let end = log.durable_end();
    let mut next = from;
    let cuts = world.logs[index].borrow().cuts;
    let is_cut = || {
        let expected = world.logs[index].borrow();
        expected.cutting.is_some() || expected.cuts != cuts
    };
    for _ in 0..count {
        if next >= end || is_cut() {
            break;
        }
        let slices = match log.read_cached(next, end, max_bytes, true) {
            Some(slices) => slices,
            None => match log.read(next, end, max_bytes, true).await {
                Ok(slices) => slices,
                _ if is_cut() => break,
                Err(Error::OutOfRange) if next < log.start_offset() => {
                    next = log.start_offset();
                    continue;
                }
                // A failed flush may take what was written and not flushed: what is only written promises no more.
                Err(Error::Corrupt) if world.failed.get() && world.plan.written == Some(index) => break,
                Err(error) => return Err(format!("read at {next}: {error:?}")),
            },
        };
        check!(slices.bytes > 0, "nothing to read at {next} below {end}");
        let mut bytes = Vec::with_capacity(slices.bytes);
        slices.parts.iter().for_each(|part| bytes.extend_from_slice(part));
        let mut to = next;
        for found in crate::protocol::batch::Batches::new(&bytes) {
            to = found.map_err(|error| format!("read at {next}: {error}"))?.0.next_offset();
        }
        let expected = world.logs[index].borrow().bytes(next, to);
        check!(bytes == expected, "read of {next}..{to} gave {} other bytes", bytes.len());
        next = to;
    }
    Ok(())
}

async fn write(world: &World, index: usize, log: &Log, epoch: LeaderEpoch) -> Check {
    let mut noise = Noise(reactor::random_u64());
    for _ in 0..world.plan.batches_per_life {
        if noise.one_in(3) {
            reactor::sleep(Duration::from_micros(noise.below(2_000))).await;
        }
        if noise.one_in(10) {
            delete(world, index, log, &mut noise).await?;
        }
        if world.plan.truncates > 0 && noise.one_in(world.plan.truncates) {
            truncate(world, index, log, &mut noise).await?;
        }
        let producer = 10 + noise.below(3) as i64;
        let (epoch_of_producer, sequence) = {
            let expected = world.logs[index].borrow();
            let last = expected.producer_batches(producer).next_back();
            (expected.producer_epoch, last.map_or(0, |last| last.header.last_sequence() + 1))
        };
        let spec = Spec {
            records: 1 + noise.below(5) as i32,
            value_bytes: noise.below(world.plan.value_bytes_max) as usize,
            seed: noise.next(),
            base_timestamp: 1_000 + noise.below(1_000) as i64,
            timestamp_step: 1,
            producer: producer_ids().contains(&producer).then_some((producer, epoch_of_producer, sequence)),
        };
        let (raw, header) = batch(&spec);
        let appended = match log.append(raw.clone(), &header, epoch, TimestampMs(reactor::wall_clock_ms())) {
            Err(Error::Offline) if world.failed.get() => return Ok(()),
            appended => appended.map_err(|error| format!("append: {error:?}"))?,
        };
        let expected = &mut *world.logs[index].borrow_mut();
        let (base, end) = (appended.base_offset, appended.end_offset);
        check!(base == expected.end() && !appended.duplicate, "appended at {base}, not {}", expected.end());
        let stored = stored(&raw, base, epoch);
        expected.batches.push(Appended { base, end, raw, header, epoch, stored });
    }
    Ok(())
}

/// Deletes up to some durable offset, which need not be where a batch begins.
async fn delete(world: &World, index: usize, log: &Log, noise: &mut Noise) -> Check {
    let start = log.start_offset();
    let left = (log.durable_end().0 - start.0) as u64;
    let most = if noise.one_in(5) { left } else { left / 4 };
    let to = start.plus(noise.below(most + 1) as i64);
    {
        let expected = &mut *world.logs[index].borrow_mut();
        expected.told(start)?;
        expected.asked = expected.asked.max(to);
    }
    match log.delete_records(to).await {
        Ok(told) => {
            check!(told >= to && told <= log.durable_end(), "deleted to {to}, starts at {told}");
            world.logs[index].borrow_mut().told(told)
        }
        Err(Error::Offline) if world.failed.get() => Ok(()),
        Err(error) => Err(format!("deletion to {to}: {error:?}")),
    }
}

/// Cuts the log somewhere, or has it begin anew, sometimes below its start.
async fn truncate(world: &World, index: usize, log: &Log, noise: &mut Noise) -> Check {
    let (start, end) = (log.start_offset(), log.end_offset());
    let behind = noise.below((end.0 - start.0) as u64 + 1) as i64;
    let cut = match noise.below(8) {
        0 => Cut::All(Offset(noise.below(end.0 as u64 + 100) as i64)),
        1 => Cut::To(Offset(noise.below(end.0 as u64 + 2) as i64)),
        2 => Cut::To(start.plus(behind)),
        _ => Cut::To(Offset(end.0 - behind.min(noise.below(12) as i64))),
    };
    {
        let expected = &mut *world.logs[index].borrow_mut();
        expected.told(start)?;
        expected.cutting = Some(cut);
    }
    let done = match cut {
        Cut::To(to) => log.truncate_to(to).await,
        Cut::All(at) => log.truncate_fully_and_start_at(at).await.map(|()| at),
    };
    match done {
        Ok(told) => {
            let expected = &mut *world.logs[index].borrow_mut();
            let found = (log.start_offset(), log.end_offset());
            let may_be = expected.may_be_cut(cut, found) && told == found.1;
            check!(
                may_be,
                "{cut:?} gave {told} and {found:?}, {} to {} before",
                expected.start,
                expected.end()
            );
            expected.has_been_cut(found);
            Ok(())
        }
        Err(Error::Offline) if world.failed.get() => Ok(()),
        Err(error) => Err(format!("{cut:?}: {error:?}")),
    }
}

/// Reads here and there below the durable end.
async fn read(world: &World, index: usize, log: &Log) -> Check {
    let mut noise = Noise(reactor::random_u64());
    for _ in 0..10 {
        reactor::sleep(Duration::from_micros(noise.below(10_000))).await;
        let end = log.durable_end();
        let from = Offset(noise.below(end.0 as u64 + 1) as i64);
        let from = {
            let expected = world.logs[index].borrow();
            expected.batches.get(expected.above(from)).map_or(Offset::ZERO, |batch| batch.base)
        };
        if world.logs[index].borrow().cutting.is_some() {
            continue;
        }
        world.logs[index].borrow_mut().told(log.start_offset())?;
        reads(world, index, log, from, 1 + noise.below(30_000) as usize, 4).await?;
    }
    Ok(())
}

/// All lives of a seed: the traces, or what was wrong.
fn lives(seed: u64) -> Result<Vec<u64>, String> {
    let mut noise = Noise(seed);
    let plan = Plan::of(&mut noise);
    let disk = Disk::new();
    disk.create_dir_all("/data").expect("an empty disk");
    let logs =
        (0..plan.partitions).map(|_| RefCell::new(Expected { topic: 7, ..Expected::default() })).collect();
    let (failed, heard, wrong) = (Cell::new(false), Notify::default(), RefCell::new(None));
    let world = Rc::new(World { plan, logs, failed, heard, wrong });
    let (mut traces, mut clean) = (Vec::new(), false);
    for life in 0..=world.plan.lives {
        let mut simulation = Simulation::new(noise.next()).disk(&disk);
        let kind = if noise.one_in(4) { CrashKind::Kill } else { CrashKind::PowerCut };
        let when = When::OneInDiskEvents(20 + noise.below(600) as u32);
        if life < world.plan.lives {
            simulation = match kind {
                CrashKind::Kill => simulation.kill(when),
                CrashKind::PowerCut => simulation.power_cut(when),
            };
        }
        world.failed.set(false);
        let outcome = simulation.run({
            let (world, disk) = (Rc::clone(&world), disk.clone());
            move |_: ShardContext<()>| live(Rc::clone(&world), disk.clone(), life, clean)
        });
        disk.set_faults(Faults::default());
        traces.push(outcome.trace);
        let ended = outcome.done_or_crashed();
        if let Some(what) = world.wrong.borrow_mut().take() {
            return Err(what);
        }
        clean = ended.as_ref().is_some_and(|clean| clean[0]);
        // as a power cut, a failed flush may lose what was only written
        let mut lost_power = world.failed.get() || (ended.is_none() && kind == CrashKind::PowerCut);
        if ended.is_some() && noise.one_in(2) {
            // after a clean stop everything is durable
            disk.crash(noise.next());
            lost_power = !clean;
        }
        if let Some(written) = world.plan.written.filter(|_| lost_power) {
            world.logs[written].borrow_mut().durable = Offset::ZERO;
        }
    }
    Ok(traces)
}

#[test]
fn what_was_durable_survives_and_nothing_torn_is_seen() {
    super::show_log_of_one_seed();
    check_seeds(500, |seed| lives(seed).unwrap_or_else(|what| panic!("seed {seed}: {what}")));
}

#[test]
fn a_missing_flush_would_be_noticed() {
    mutation::skip_flush(true);
    let noticed = (0..60).filter(|&seed| lives(seed).is_err()).count();
    mutation::skip_flush(false);
    assert!(noticed >= 20, "only {noticed} of 60 seeds notice that nothing is flushed");
}

#[test]
fn a_log_start_that_is_told_and_not_written_would_be_noticed() {
    log_starts::mutation::skip_write(true);
    let noticed = (0..40).filter(|&seed| lives(seed).is_err()).count();
    log_starts::mutation::skip_write(false);
    assert!(noticed >= 20, "only {noticed} of 40 seeds notice that no log start is written");
}

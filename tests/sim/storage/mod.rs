//! Several lives of a shard's storage on one disk: append, read, roll, delete, truncate, compact, a full disk, one that
//! rots, crash, recover, again.
//!
//! A model beside it knows every batch that was appended, up to where each log was said to be durable, and the highest
//! log start that anybody was told. After every start the log must be a prefix of what was appended, at least as long as
//! what was durable, byte for byte from its start on, with the leader epochs and producer state that belong to it, and
//! begin at that start or above. While it runs, everything from the start to the durable end must be readable. Of a
//! compacted log the same holds record by record: none that was not appended, and the last of each key. Where the disk
//! has rotted, a read may say so, and what lies beside it is as before.

mod expected;
mod life;
mod reading;
mod weather;
mod work;

use std::cell::{Cell, RefCell};
use std::future::Future;
use std::pin::Pin;
use std::rc::Rc;

use self::expected::Expected;
use self::weather::Room;
use crate::model::{DirectoryId, Offset, PartitionId, TopicId};
use crate::reactor::ShardContext;
use crate::reactor::sim::{CrashKind, Disk, Faults, Simulation, When, check_seeds};
use crate::reactor::sync::Notify;
use crate::storage::commit::mutation;
use crate::storage::log_starts;
use crate::storage::testing::{self, Noise};
use crate::storage::{
    Assigned, CleanerConfig, CleanupPolicy, Compaction, Config, Durability, Listener, LogConfig,
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
use check;

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
    /// This partition is compacted.
    compacted: Option<usize>,
    /// Others fill the disk.
    room: Room,
    /// Bits flip, between the lives and while they last.
    rots: bool,
}

impl Plan {
    fn of(noise: &mut Noise) -> Plan {
        let expires = noise.one_in(2);
        let segment_bytes = [3_000, 20_000, 200_000][noise.below(3) as usize];
        let caches = [0, 10_000, 1 << 20][noise.below(3) as usize];
        let mut plan = Plan {
            partitions: 1 + noise.below(4) as usize,
            lives: 3,
            batches_per_life: 5 + noise.below(50),
            value_bytes_max: [50, 700, 9_000][noise.below(3) as usize],
            config: Config {
                journal_bytes: [0, 64 << 10, 160 << 10, 1 << 20][noise.below(4) as usize],
                tail_cache_bytes: caches,
                read_ahead_bytes: [0, 100_000, 4 << 20, 32 << 20][noise.below(4) as usize],
                reserve_bytes: 0,
                checkpoint_interval_ms: 1 + noise.below(100),
                retention_check_interval_ms: 1 + noise.below(20),
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
                compaction: Compaction {
                    min_dirty_ratio: 0.0,
                    delete_retention_ms: 0,
                    ..Compaction::default()
                },
                durability: Durability::Flushed,
                flush_messages: i64::MAX,
                flush_ms: i64::MAX,
                reserve: crate::storage::Reserve::Kept,
            },
            written: noise.one_in(3).then_some(0),
            expires,
            faults: noise.one_in(4),
            truncates: [0, 0, 40, 8][noise.below(4) as usize],
            compacted: None,
            room: [Room::Enough, Room::Enough, Room::Scarce, Room::None][noise.below(4) as usize],
            rots: noise.one_in(4),
        };
        if noise.one_in(2) {
            plan.compacted = Some(plan.partitions - 1).filter(|last| plan.written != Some(*last));
        }
        let map_bytes = [100, 1_000, 1 << 20][noise.below(3) as usize];
        plan.config.live.cleaner = CleanerConfig { is_on: true, backoff_ms: 1 + noise.below(30), map_bytes };
        plan.config.reserve_bytes = if plan.room == Room::Enough { 0 } else { weather::RESERVE_BYTES };
        if plan.rots {
            // where a truncation ends is looked up in the log
            plan.truncates = 0;
        }
        plan
    }

    fn log_config(&self, index: usize) -> LogConfig {
        let durability = if self.written == Some(index) { Durability::Written } else { Durability::Flushed };
        let cleanup = match self.compacted == Some(index) {
            true => CleanupPolicy { delete: self.expires, compact: true },
            false => self.log.cleanup,
        };
        LogConfig { durability, cleanup, ..self.log.clone() }
    }
}

/// What survives the lives.
struct World {
    plan: Plan,
    logs: Vec<RefCell<Expected>>,
    failed: Cell<bool>,
    /// The directory may fail.
    may_fail: Cell<bool>,
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
    fn assign(&self, _: PartitionId, _: DirectoryId) -> Pin<Box<dyn Future<Output = Assigned>>> {
        Box::pin(std::future::ready(Assigned::No))
    }

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

    fn last_stable_offset(&self, partition: PartitionId) -> Offset {
        self.high_watermark(partition)
    }

    fn failed(&self, _: DirectoryId) {
        if !self.may_fail.get() {
            self.wrong("the directory failed, and nothing did".into());
        }
        self.failed.set(true);
        self.heard.notify();
    }
}

/// All lives of a seed: the traces, or what was wrong.
fn lives(seed: u64) -> Result<Vec<u64>, String> {
    let mut noise = Noise(seed);
    let plan = Plan::of(&mut noise);
    tracing::info!(seed, ?plan);
    let disk = Disk::new();
    disk.create_dir_all("/data").expect("an empty disk");
    let logs =
        (0..plan.partitions).map(|_| RefCell::new(Expected { topic: 7, ..Expected::default() })).collect();
    let (failed, may_fail, wrong) = (Cell::new(false), Cell::new(false), RefCell::new(None));
    let world = Rc::new(World { plan, logs, failed, may_fail, heard: Notify::default(), wrong });
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
        world.may_fail.set(false);
        if world.plan.rots && life > 0 {
            weather::rot(&world, &disk, &mut noise);
        }
        let outcome = simulation.run({
            let (world, disk) = (Rc::clone(&world), disk.clone());
            move |_: ShardContext<()>| life::live(Rc::clone(&world), disk.clone(), life, clean)
        });
        disk.set_faults(Faults::default());
        traces.push(outcome.trace);
        let ended = outcome.done_or_crashed();
        if ended.is_none() {
            disk.set_capacity(u64::MAX);
        }
        if let Some(what) = world.wrong.borrow_mut().take() {
            weather::describe(&world, &disk);
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

//! The virtual twin of the reactor: everything above runs on it unchanged, deterministic from a seed.
//!
//! One thread runs all virtual shards. Whenever several things could happen next, the seed decides: which runnable
//! task is polled, how long a disk operation, a message or a segment takes, where a write is torn by a crash. The
//! same seed gives the same run, told by an equal [`Outcome::trace`].
//!
//! # How to write a test
//! ```ignore
//! use crate::reactor::sim::{self, Disk, Simulation, When};
//!
//! #[test]
//! fn what_is_acknowledged_survives_a_power_cut() {
//!     sim::check_seeds(500, |seed| {
//!         let disk = Disk::new();
//!         disk.create_dir_all("/data").unwrap();
//!         let acknowledged = Rc::new(Cell::new(0));
//!         let crashed = Simulation::new(seed)
//!             .disk(&disk)
//!             .power_cut(When::OneInDiskEvents(40))
//!             .run({
//!                 let acknowledged = Rc::clone(&acknowledged);
//!                 move |_: ShardContext<()>| write_a_lot(Rc::clone(&acknowledged))
//!             });
//!         // the next run finds what survived on the disk
//!         let recovered = Simulation::new(seed + 1).disk(&disk).run(|_: ShardContext<()>| read_all());
//!         let traces = (crashed.trace, recovered.trace);
//!         assert!(recovered.done()[0] >= acknowledged.get());
//!         traces
//!     });
//! }
//! ```
//! [`check_seeds`] runs every seed twice and demands equal traces. A failure prints its seed:
//! `CORELANE_SEED=123 cargo test name` runs that one alone, `CORELANE_TRACE=1` beside it prints every step to
//! stderr, `CORELANE_SEEDS=100000` runs more seeds than the test asks for, `CORELANE_FIRST_SEED=5000` beside it leaves out
//! those below.
//!
//! # What differs from the real machine
//! * The clock moves only when nothing is runnable, so code takes no time; [`turn`](super::turn) takes 5 µs. A task
//!   that never waits for a timer or an operation stops the clock: the step limit ends such a run.
//! * `blocking` work runs in one piece, later.
//! * When all shards' futures have returned, everything else is dropped; on the real machine it is forgotten.
//! * Iterating a `HashMap` of the standard library gives another order in each process and even in each map: code
//!   that acts in that order has unequal traces.
//!
//! # The fault model
//! [`disk`] says what a crash may take. [`Faults`] adds I/O errors, rot and misdirected reads, [`Disk::set_capacity`]
//! a full disk, [`Simulation::wall_jump_one_in`] a wall clock that jumps, [`Simulation::reset_one_in`] connections
//! that break. Links that are cut and several hosts have their place in `net.rs` and `world.rs`.

pub mod disk;
mod file;
mod fs;
mod inode;
mod mesh;
mod names;
mod net;
mod random;
mod shard;
#[cfg(test)]
mod tests;
mod trace;
mod world;

use std::cell::{Cell, RefCell};
use std::fmt;
use std::future::Future;
use std::panic::Location;
use std::rc::Rc;
use std::time::Duration;

pub use disk::{Disk, Faults, Stats};
pub(in crate::reactor) use file::File;
pub(in crate::reactor) use mesh::Mesh;
pub(in crate::reactor) use net::{TcpListener, TcpStream};
pub(in crate::reactor) use shard::Shard;

use self::trace::Kind;
use self::world::{Host, Limits, Place, Running, Stop, World, WorldOptions};
use crate::model::ShardId;
use crate::reactor::{self, ShardContext};

/// How a run is ended from outside.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum CrashKind {
    /// Everything that no flush has covered is in doubt.
    PowerCut,
    /// The process is gone (kill -9), the machine goes on: what has completed stays, what was under way may.
    Kill,
}

/// When a run crashes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum When {
    /// Before that step. [`Outcome::steps`] of a run without a crash says how many there are.
    Step(u64),
    /// When the virtual clock gets there.
    Time(Duration),
    /// At the beginning or end of a disk operation, one in so many.
    OneInDiskEvents(u32),
}

#[derive(Clone, Copy, Debug)]
struct Crash {
    when: When,
    kind: CrashKind,
}

/// One run to be.
#[derive(Clone)]
pub struct Simulation {
    seed: u64,
    shards: usize,
    disk: Option<Disk>,
    crash: Option<Crash>,
    mesh_depth: usize,
    step_limit: u64,
    time_limit: Duration,
    wall_clock_ms: Option<i64>,
    wall_jump_one_in: u32,
    reset_one_in: u32,
}

/// What became of a run.
#[derive(Debug)]
pub struct Outcome<T> {
    pub seed: u64,
    pub end: End<T>,
    /// All decisions and events folded into one number: equal for equal runs.
    pub trace: u64,
    pub steps: u64,
    /// Virtual time.
    pub elapsed: Duration,
}

#[derive(Debug)]
pub enum End<T> {
    /// All shards have returned; their results in shard order.
    Done(Vec<T>),
    Crashed(CrashKind),
    Stuck(Stuck),
}

/// Why a run would never end.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Stuck {
    /// `deadlock` (nothing can happen any more), `step limit` or `time limit`.
    pub why: &'static str,
    pub pending_tasks: usize,
    /// Where each pending task was spawned, oldest first.
    pub spawned_at: Vec<String>,
}

impl fmt::Display for Stuck {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} with {} pending tasks, spawned at {:#?}", self.why, self.pending_tasks, self.spawned_at)
    }
}

impl<T> Outcome<T> {
    /// The shards' results.
    ///
    /// # Panics
    /// If the run crashed or got stuck.
    #[track_caller]
    pub fn done(self) -> Vec<T> {
        let seed = self.seed;
        self.done_or_crashed().unwrap_or_else(|| panic!("seed {seed}: the run crashed before it was done"))
    }

    /// The shards' results, or `None` after a crash.
    ///
    /// # Panics
    /// If the run got stuck.
    #[track_caller]
    pub fn done_or_crashed(self) -> Option<Vec<T>> {
        match self.end {
            End::Done(results) => Some(results),
            End::Crashed(_) => None,
            End::Stuck(stuck) => panic!("seed {}: {stuck}", self.seed),
        }
    }

    #[must_use]
    pub fn crashed(&self) -> bool {
        matches!(self.end, End::Crashed(_))
    }
}

impl Simulation {
    /// One shard, an empty disk, no crash, no faults; ended after ten virtual minutes or 50 million steps.
    #[must_use]
    pub fn new(seed: u64) -> Simulation {
        Simulation {
            seed,
            shards: 1,
            disk: None,
            crash: None,
            mesh_depth: 1024,
            step_limit: 50_000_000,
            time_limit: Duration::from_secs(600),
            wall_clock_ms: None,
            wall_jump_one_in: 0,
            reset_one_in: 0,
        }
    }

    #[must_use]
    pub fn shards(self, shards: usize) -> Simulation {
        Simulation { shards, ..self }
    }

    /// Runs on that disk; it stays as the run leaves it.
    #[must_use]
    pub fn disk(self, disk: &Disk) -> Simulation {
        Simulation { disk: Some(disk.clone()), ..self }
    }

    #[must_use]
    pub fn power_cut(self, when: When) -> Simulation {
        Simulation { crash: Some(Crash { when, kind: CrashKind::PowerCut }), ..self }
    }

    #[must_use]
    pub fn kill(self, when: When) -> Simulation {
        Simulation { crash: Some(Crash { when, kind: CrashKind::Kill }), ..self }
    }

    #[must_use]
    pub fn mesh_depth(self, mesh_depth: usize) -> Simulation {
        Simulation { mesh_depth, ..self }
    }

    #[must_use]
    pub fn step_limit(self, step_limit: u64) -> Simulation {
        Simulation { step_limit, ..self }
    }

    #[must_use]
    pub fn time_limit(self, time_limit: Duration) -> Simulation {
        Simulation { time_limit, ..self }
    }

    /// Where the wall clock begins; without it, where the disk's last run ended.
    #[must_use]
    pub fn wall_clock_ms(self, ms: i64) -> Simulation {
        Simulation { wall_clock_ms: Some(ms), ..self }
    }

    /// The wall clock jumps by up to an hour, either way, in one of so many moves of the virtual clock.
    #[must_use]
    pub fn wall_jump_one_in(self, moves: u32) -> Simulation {
        Simulation { wall_jump_one_in: moves, ..self }
    }

    /// One in so many TCP segments resets its connection.
    #[must_use]
    pub fn reset_one_in(self, segments: u32) -> Simulation {
        Simulation { reset_one_in: segments, ..self }
    }

    /// Runs `shard` once per shard, as [`reactor::run`] does, until all have returned.
    pub fn run<M, F, Fut, T>(self, shard: F) -> Outcome<T>
    where
        M: Send + 'static,
        F: Fn(ShardContext<M>) -> Fut,
        Fut: Future<Output = T> + 'static,
        T: 'static,
    {
        let disk = self.disk.clone().unwrap_or_default();
        let wall_start_ms = self.wall_clock_ms.unwrap_or_else(|| disk.wall_ms());
        disk.begin_run(self.seed);
        let shards =
            (0..self.shards).map(|id| Rc::new(Shard { place: place(id), count: self.shards })).collect();
        let running = Running::start(World::new(WorldOptions {
            seed: self.seed,
            hosts: vec![Host { shards, disk: disk.clone() }],
            limits: Limits {
                steps: self.step_limit,
                time_ns: u64::try_from(self.time_limit.as_nanos()).unwrap_or(u64::MAX),
            },
            crash: self.crash,
            wall_start_ms,
            wall_jump_one_in: self.wall_jump_one_in,
            text: std::env::var_os("CORELANE_TRACE").is_some(),
        }));
        let world = &running.0;
        world.network.set_reset_one_in(self.reset_one_in);

        let results: Rc<RefCell<Vec<Option<T>>>> =
            Rc::new(RefCell::new((0..self.shards).map(|_| None).collect()));
        let missing = Rc::new(Cell::new(self.shards));
        for (id, mesh) in Mesh::ends(self.seed, 0, self.shards, self.mesh_depth).into_iter().enumerate() {
            world.enter(place(id));
            let context = ShardContext {
                id: place(id).shard,
                count: self.shards,
                core: None,
                mesh: reactor::Mesh(reactor::mesh::Arm::Virtual(mesh)),
            };
            let body = shard(context);
            let (results, missing) = (Rc::clone(&results), Rc::clone(&missing));
            let task = Box::pin(async move {
                let result = body.await;
                results.borrow_mut()[id] = Some(result);
                missing.set(missing.get() - 1);
            });
            world.spawn(place(id), Location::caller(), task);
        }

        let stop = world.run(|| missing.get() == 0);
        let crash = match &stop {
            Stop::Crashed(kind) => Some(*kind),
            Stop::Done | Stop::Stuck(_) => None,
        };
        world.record(Kind::Crash, [crash.map_or(0, |kind| 1 + kind as u64), 0, 0]);
        world.end();
        disk.end_run(crash);
        Outcome {
            seed: self.seed,
            end: match stop {
                Stop::Done => End::Done(results.take().into_iter().flatten().collect()),
                Stop::Crashed(kind) => End::Crashed(kind),
                Stop::Stuck(stuck) => End::Stuck(stuck),
            },
            trace: world.trace_hash(),
            steps: world.steps(),
            elapsed: Duration::from_nanos(world.now()),
        }
    }
}

fn place(shard: usize) -> Place {
    Place { host: 0, shard: ShardId(u16::try_from(shard).expect("shards are numbered with 16 bits")) }
}

/// Runs `shard` on that many virtual shards with an empty disk and no faults.
pub fn run<M, F, Fut, T>(seed: u64, shards: usize, shard: F) -> Outcome<T>
where
    M: Send + 'static,
    F: Fn(ShardContext<M>) -> Fut,
    Fut: Future<Output = T> + 'static,
    T: 'static,
{
    Simulation::new(seed).shards(shards).run(shard)
}

/// From within a run: ends it here. Does not return.
pub async fn crash(kind: CrashKind) -> ! {
    World::current().crash_now(kind);
    std::future::pending().await
}

/// From within a run: moves the wall clock.
pub fn jump_wall_clock(by_ms: i64) {
    World::current().jump_wall_clock(by_ms);
}

/// Runs `check` twice for every seed below `count` and demands equal answers: traces, and whatever else should not
/// depend on anything but the seed. See the folder's first page for the environment variables.
pub fn check_seeds<R: PartialEq + fmt::Debug>(count: u64, check: impl Fn(u64) -> R) {
    let from_environment = |name: &str| {
        let text = std::env::var(name).ok()?;
        Some(text.parse::<u64>().unwrap_or_else(|_| panic!("{name}={text} is not a number")))
    };
    let seeds = match from_environment("CORELANE_SEED") {
        Some(seed) => seed..seed + 1,
        None => {
            let first = from_environment("CORELANE_FIRST_SEED").unwrap_or(0);
            first..from_environment("CORELANE_SEEDS").unwrap_or(count)
        }
    };
    for seed in seeds {
        let _told = TellSeed(seed);
        let (first, second) = (check(seed), check(seed));
        assert!(first == second, "seed {seed} gave two different runs: {first:?} and {second:?}");
    }
}

struct TellSeed(u64);

impl Drop for TellSeed {
    fn drop(&mut self) {
        if std::thread::panicking() {
            eprintln!("failed with seed {}: run it alone with CORELANE_SEED={}", self.0, self.0);
        }
    }
}

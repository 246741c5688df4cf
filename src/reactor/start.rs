//! One executor per core: boot probes, pinning, and the end of the process.

use std::fmt;
use std::future::Future;
use std::path::Path;
use std::rc::Rc;
use std::sync::{Arc, mpsc};
use std::thread;
use std::time::Duration;

use glommio::{LocalExecutor, LocalExecutorBuilder, Placement};

use super::driver::Driver;
use super::group::Group;
use super::load::Meter;
use super::mesh::{self, Ends, Loose};
use super::pool::Pool;
use super::pulse::{Pulse, Watchdog};
use super::ring::Ring;
use super::runtime::{self, Local, Runtime};
use super::{BLOCK_BYTES, File, Mesh, OpenMode, crash, machine, probe};
use crate::model::ShardId;

/// Which CPUs carry shards.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Cores {
    /// Every CPU of the process's affinity mask, one shard each.
    All,
    /// These CPUs, one shard each, pinned (`--cores 0-3,6`).
    List(Vec<usize>),
    /// That many shards, not pinned: for tests.
    Unpinned(usize),
}

#[derive(Clone, Debug)]
pub struct Options {
    pub cores: Cores,
    /// How long an idle shard looks for work before it sleeps; zero where clients share the cores. Shards that are
    /// not pinned do not spin.
    pub spin: Duration,
    /// Places in the channel from one shard to another; rounded up to a power of two.
    pub mesh_depth: usize,
    /// A file in the data directory, made 4 KiB long by [`run`] if it is shorter or not there: the boot check reads
    /// it to prove that direct I/O works there and is not polled.
    pub probe_file: std::path::PathBuf,
}

/// What a shard gets to begin with.
pub struct ShardContext<M: Send + 'static> {
    pub id: ShardId,
    pub count: usize,
    /// The CPU it is pinned to.
    pub core: Option<usize>,
    pub mesh: Mesh<M>,
}

/// Why the machine cannot run shards: one line that says what to change.
#[derive(Debug)]
pub struct StartError(pub String);

impl fmt::Display for StartError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl std::error::Error for StartError {}

/// Parses `0-3,6` into CPUs. Whether the machine has them is found out by [`run`].
impl std::str::FromStr for Cores {
    type Err = StartError;

    fn from_str(text: &str) -> Result<Cores, StartError> {
        let bad = |why: &str| StartError(format!("cores {text:?}: {why}: write CPU numbers like 0-3,6"));
        let number = |digits: &str| match digits.trim().parse::<usize>() {
            Ok(cpu) if cpu < CPUS_MAX => Ok(cpu),
            Ok(_) => Err(bad("no machine has that many CPUs")),
            Err(_) => Err(bad(&format!("{:?} is not a number", digits.trim()))),
        };
        let mut cpus = Vec::new();
        for part in text.split(',') {
            let (first, last) = match part.split_once('-') {
                Some((first, last)) => (number(first)?, number(last)?),
                None => (number(part)?, number(part)?),
            };
            if first > last {
                return Err(bad(&format!("{first}-{last} runs backwards")));
            }
            for cpu in first..=last {
                if cpus.contains(&cpu) {
                    return Err(bad(&format!("CPU {cpu} is named twice")));
                }
                cpus.push(cpu);
            }
        }
        Ok(Cores::List(cpus))
    }
}

const CPUS_MAX: usize = 4096;

impl Cores {
    /// How many shards there will be.
    pub fn count(&self) -> Result<usize, StartError> {
        Ok(self.placements()?.len())
    }

    /// One entry per shard: the CPU it is pinned to, if any.
    fn placements(&self) -> Result<Vec<Option<usize>>, StartError> {
        let allowed = || -> Result<Vec<usize>, StartError> {
            let cores = core_affinity::get_core_ids().unwrap_or_default();
            if cores.is_empty() {
                return Err(StartError(
                    "the affinity mask cannot be read: name the CPUs with --cores".into(),
                ));
            }
            Ok(cores.into_iter().map(|core| core.id).collect())
        };
        match self {
            Cores::All => Ok(allowed()?.into_iter().map(Some).collect()),
            Cores::List(cpus) if cpus.is_empty() => Err(StartError("--cores names no CPU".into())),
            Cores::List(cpus) => {
                let allowed = allowed()?;
                match cpus.iter().find(|cpu| !allowed.contains(cpu)) {
                    None => Ok(cpus.iter().copied().map(Some).collect()),
                    Some(cpu) => Err(StartError(format!(
                        "CPU {cpu} is not one of those this process may use ({}): change --cores, or the affinity mask (taskset, cpuset)",
                        ranges(&allowed)
                    ))),
                }
            }
            Cores::Unpinned(0) => Err(StartError("there must be at least one shard".into())),
            Cores::Unpinned(count) => Ok(vec![None; *count]),
        }
    }
}

/// `0-3,6` for 0, 1, 2, 3, 6.
fn ranges(cpus: &[usize]) -> String {
    let mut sorted = cpus.to_vec();
    sorted.sort_unstable();
    let runs = sorted.chunk_by(|a, b| a + 1 == *b);
    let texts: Vec<String> = runs
        .map(|run| match run {
            [first, .., last] => format!("{first}-{last}"),
            [only] => only.to_string(),
            [] => String::new(),
        })
        .collect();
    texts.join(",")
}

/// Entries of each of glommio's own rings, which nothing is done with.
const GLOMMIO_RING_DEPTH: usize = 8;

/// Memory registered with them: glommio's minimum.
const REGISTERED_BYTES: usize = 64 << 10;

/// After how long glommio signals a running task to make way: never. If that signal comes before the first task of one
/// of its turns, it takes its run queue for empty and sleeps for good.
const PREEMPT_TIMER: Duration = Duration::from_secs(1 << 30);

/// Runs `shard` on every core and returns when all have returned, with their results in shard order.
/// A panic anywhere aborts the process.
pub fn run<M, F, Fut, T>(options: &Options, shard: F) -> Result<Vec<T>, StartError>
where
    M: Send + 'static,
    F: Fn(ShardContext<M>) -> Fut + Clone + Send + 'static,
    Fut: Future<Output = T> + 'static,
    T: Send + 'static,
{
    let cores = options.cores.placements()?;
    let count = cores.len();
    if u16::try_from(count).is_err() {
        return Err(StartError(format!("{count} shards are too many: at most {}", u16::MAX)));
    }
    probe::machine(count)?;
    prepare_probe_file(&options.probe_file)?;
    machine::tune_allocator();
    crash::install_panic_hook();

    let group = Group::new(count)
        .map(Arc::new)
        .map_err(|error| StartError(format!("the shards get no event descriptors: {error}")))?;
    let pulses: Vec<Arc<Pulse>> = (0..count).map(|_| Arc::default()).collect();
    let (booted, boots) = mpsc::channel();
    let mut shards = Vec::with_capacity(count);
    for (index, (core, loose)) in
        cores.into_iter().zip(mesh::full_mesh(options.mesh_depth, &group)).enumerate()
    {
        let id = ShardId(u16::try_from(index).expect("checked above"));
        let body = Body {
            id,
            count,
            core,
            loose,
            group: Arc::clone(&group),
            pulse: Arc::clone(&pulses[index]),
            options: options.clone(),
            shard: shard.clone(),
        };
        let (go, gone) = mpsc::channel();
        let booted = booted.clone();
        let thread = thread::Builder::new()
            .name(format!("shard-{index}"))
            .spawn(move || body.run(&booted, &gone))
            .map_err(|error| StartError(format!("shard {index} gets no thread: {error}")))?;
        shards.push((thread, go));
    }
    drop(booted);

    let watchdog = Watchdog::start(pulses);
    let _watchdog = watchdog.map_err(|error| StartError(format!("the watchdog gets no thread: {error}")))?;
    // Shards talk to one another, so either all go on or none: a sender that is dropped sends them home.
    for _ in 0..count {
        boots.recv().unwrap_or_else(|_| Err(StartError("a shard ended while it started".into())))?;
    }
    let threads: Vec<_> = shards
        .into_iter()
        .map(|(thread, go)| {
            let _ = go.send(());
            thread
        })
        .collect();
    let results = threads.into_iter().map(|thread| match thread.join() {
        Ok(result) => result.expect("a shard that was told to go has a result"),
        Err(_) => crash::fatal("a shard ended with a panic"),
    });
    Ok(results.collect())
}

/// Everything that one shard's thread begins with.
struct Body<M: Send + 'static, F> {
    id: ShardId,
    count: usize,
    core: Option<usize>,
    loose: Loose<M>,
    group: Arc<Group>,
    pulse: Arc<Pulse>,
    options: Options,
    shard: F,
}

impl<M: Send + 'static, F> Body<M, F> {
    /// `None` if the shards did not get to start.
    fn run<Fut, T>(self, booted: &mpsc::Sender<Result<(), StartError>>, go: &mpsc::Receiver<()>) -> Option<T>
    where
        F: Fn(ShardContext<M>) -> Fut,
        Fut: Future<Output = T> + 'static,
        T: 'static,
    {
        crash::mark_thread();
        let (executor, driver) = match self.make() {
            Ok(made) => made,
            Err(error) => {
                let _ = booted.send(Err(error));
                return None;
            }
        };
        let local = Local {
            id: self.id,
            count: self.count,
            pulse: Arc::clone(&self.pulse),
            driver: Rc::clone(&driver),
            group: Arc::clone(&self.group),
        };
        runtime::enter(Some(Runtime::Glommio(Rc::new(local))));
        let (pulse, probe_file) = (Arc::clone(&self.pulse), self.options.probe_file.clone());
        let ready =
            executor.run(Rc::clone(&driver).accompany(async move { check_direct_io(&probe_file).await }));
        pulse.stop();
        let _ = booted.send(ready);
        let result = match go.recv() {
            Ok(()) => Some(executor.run(Rc::clone(&driver).accompany(self.live(Rc::clone(&driver))))),
            Err(_) => None,
        };
        pulse.stop();
        driver.end();
        runtime::enter(None);
        result
    }

    fn make(&self) -> Result<(LocalExecutor, Rc<Driver>), StartError> {
        let failed = |error: std::io::Error| StartError(format!("shard {} cannot start: {error}", self.id.0));
        let bell = self.group.bell(self.id);
        // before the executor pins this thread: the pool's would be pinned, too
        let pool = Pool::start(self.id, Arc::clone(bell)).map_err(failed)?;
        let executor = self.executor()?;
        let ring = Ring::new().map_err(failed)?;
        // Shards that are not pinned do not spin: there may be more of them than cores.
        let spin = self.core.map_or(Duration::ZERO, |_| self.options.spin);
        let meter = Meter::new(Arc::clone(self.group.load(self.id)));
        let driver = Driver::new(ring, pool, Arc::clone(bell), Arc::clone(&self.pulse), meter, spin);
        Ok((executor, driver))
    }

    fn executor(&self) -> Result<LocalExecutor, StartError> {
        let placement = self.core.map_or(Placement::Unbound, Placement::Fixed);
        LocalExecutorBuilder::new(placement)
            .name(&format!("shard-{}", self.id.0))
            .preempt_timer(PREEMPT_TIMER)
            .ring_depth(GLOMMIO_RING_DEPTH)
            .io_memory(REGISTERED_BYTES)
            .make()
            .map_err(|error| StartError(format!("shard {} cannot start: {error}", self.id.0)))
    }

    async fn live<Fut, T>(self, driver: Rc<Driver>) -> T
    where
        F: Fn(ShardContext<M>) -> Fut,
        Fut: Future<Output = T> + 'static,
        T: 'static,
    {
        let ends = Rc::new(Ends::new(self.loose, Rc::clone(&driver), Arc::clone(&self.group)));
        let context = ShardContext {
            id: self.id,
            count: self.count,
            core: self.core,
            mesh: Mesh(mesh::Arm::Glommio(Rc::clone(&ends))),
        };
        let result = (self.shard)(context).await;
        self.group.all_done(&driver).await;
        // until now: others may have sent to it
        drop(ends);
        result
    }
}

/// Reads the probe file.
async fn check_direct_io(probe_file: &Path) -> Result<(), StartError> {
    let failed = |error: std::io::Error| {
        StartError(format!(
            "direct I/O on {} does not work ({error}): put the data directory on a local ext4 or xfs file system",
            probe_file.display()
        ))
    };
    let file = File::open(probe_file, OpenMode::ReadWrite).await.map_err(failed)?;
    file.read(0, BLOCK_BYTES).await.map(drop).map_err(failed)
}

/// Makes the file at least a block long.
fn prepare_probe_file(path: &Path) -> Result<(), StartError> {
    let prepare = || -> std::io::Result<()> {
        let file =
            std::fs::OpenOptions::new().read(true).write(true).create(true).truncate(false).open(path)?;
        if file.metadata()?.len() < BLOCK_BYTES as u64 {
            std::os::unix::fs::FileExt::write_all_at(&file, &[0; BLOCK_BYTES], 0)?;
            file.sync_all()?;
        }
        Ok(())
    };
    prepare().map_err(|error| {
        StartError(format!(
            "{} cannot be written ({error}): is the data directory this user's?",
            path.display()
        ))
    })
}

//! One executor per core: boot probes, pinning, pacemaker, and the end of the process.

use std::fmt;
use std::future::Future;
use std::time::Duration;

use super::Mesh;
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
    /// How long an idle shard looks for work before it sleeps; zero where clients share the cores.
    pub spin: Duration,
    /// Places in the channel from one shard to another.
    pub mesh_depth: usize,
    /// Present and at least 4 KiB long: opened first, so that direct I/O is never taken for polled I/O
    /// (glommio probes with the first file it opens).
    pub probe_file: std::path::PathBuf,
}

/// What a shard gets to begin with.
pub struct ShardContext<M> {
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

/// Parses `0-3,6` into CPUs.
impl std::str::FromStr for Cores {
    type Err = StartError;

    fn from_str(text: &str) -> Result<Cores, StartError> {
        let _ = text;
        unimplemented!()
    }
}

/// Runs `shard` on every core and returns when all have returned, with their results in shard order.
/// A panic anywhere aborts the process.
pub fn run<M, F, Fut, T>(options: &Options, shard: F) -> Result<Vec<T>, StartError>
where
    M: Send + 'static,
    F: Fn(ShardContext<M>) -> Fut + Clone + Send + 'static,
    Fut: Future<Output = T> + 'static,
    T: Send + 'static,
{
    let _ = (options, shard);
    unimplemented!()
}

//! All logs of one shard, and the tasks that serve them.

use std::cell::{Cell, RefCell};
use std::collections::BTreeMap;
use std::rc::Rc;

use super::chunks::Chunks;
use super::cleaner::Cleaner;
use super::directory::{Directories, Directory};
use super::handle::Log;
use super::producers::ProducerMemory;
use super::relocate::Relocations;
use super::removal::Removals;
use super::space::Kept;
use super::state::LogState;
use super::tail::TailBudget;
use super::warm::Warm;
use super::{
    Config, DirectoryState, Error, FutureLog, Inventory, Listener, LiveConfig, LogDir, OpenLog, cleaner,
    commit, journal, log_starts, open, recovery_points, relocate, removal, retention, space, stop, strays,
};
use crate::metrics::snapshot::{self, StorageCounters};
use crate::model::{DirectoryId, PartitionId, ShardId};
use crate::reactor;
use crate::reactor::sync::Notify;

/// All logs of one shard.
pub struct Storage {
    shard: Rc<Shard>,
}

/// What the parts of storage share.
pub struct Shard {
    pub config: Config,
    pub live: Cell<LiveConfig>,
    /// `live` has changed.
    pub reconfigured: Notify,
    /// Shards of the node.
    count: usize,
    pub directories: Directories,
    pub listener: Rc<dyn Listener>,
    pub logs: RefCell<BTreeMap<PartitionId, Rc<LogState>>>,
    pub tails: TailBudget,
    pub chunks: Chunks,
    pub warm: Warm,
    pub removals: Removals,
    pub cleaner: Cleaner,
    pub relocations: Relocations,
    /// Bytes of batches that are appended and not yet durable.
    pub pending_bytes: Cell<usize>,
    pub counters: StorageCounters,
    pub producers: ProducerMemory,
    /// Not all logs are open yet: recovery points on disk stay as the last run left them.
    pub booting: Cell<bool>,
    /// No new work.
    pub stopping: Cell<bool>,
    /// Nothing is written any more.
    pub stopped: Cell<bool>,
    /// Work outside of any log's commits that has begun: space samples, checkpoints, removals.
    background: Cell<usize>,
    background_done: Notify,
    ids: Cell<u64>,
}

/// Keeps a stop from returning before some background work has ended.
pub struct Background(Rc<Shard>);

impl Drop for Background {
    fn drop(&mut self) {
        self.0.background.set(self.0.background.get() - 1);
        self.0.background_done.notify();
    }
}

impl Shard {
    /// Background work begins; it ends when this is dropped.
    pub fn background(self: &Rc<Shard>) -> Background {
        self.background.set(self.background.get() + 1);
        Background(Rc::clone(self))
    }

    pub async fn background_ended(&self) {
        while self.background.get() > 0 {
            self.background_done.notified().await;
        }
    }

    /// What clients' batches leave of the disk, and who else appends to it.
    pub fn kept_space(&self) -> Kept {
        Kept { reserve_bytes: self.config.reserve_bytes, shards: self.count }
    }

    /// A number nobody in this shard has had.
    pub fn next_id(&self) -> u64 {
        let id = self.ids.get();
        self.ids.set(id + 1);
        id
    }

    pub fn logs_of(&self, directory: &Directory) -> Vec<Rc<LogState>> {
        self.logs.borrow().values().filter(|log| log.directory.id == directory.id).cloned().collect()
    }
}

impl Drop for Storage {
    /// The logs know the shard that knows them: a process that goes on (a simulation's many lives) would keep all of it.
    fn drop(&mut self) {
        let logs = std::mem::take(&mut *self.shard.logs.borrow_mut());
        drop(logs);
    }
}

impl Storage {
    /// Starts the shard's commit loops and housekeeping on the current shard.
    #[must_use]
    pub fn start(config: Config, directories: Vec<LogDir>, listener: Rc<dyn Listener>) -> Rc<Storage> {
        let shard = Rc::new(Shard {
            tails: TailBudget::new(config.tail_cache_bytes),
            chunks: Chunks::new(config.read_ahead_bytes),
            warm: Warm::default(),
            removals: Removals::default(),
            cleaner: Cleaner::default(),
            relocations: Relocations::default(),
            directories: directories
                .into_iter()
                .map(|dir| (dir.id, Rc::new(Directory::new(dir, config.journal_bytes))))
                .collect(),
            count: reactor::shard_count().max(1),
            live: Cell::new(config.live),
            reconfigured: Notify::default(),
            config,
            listener,
            logs: RefCell::default(),
            pending_bytes: Cell::new(0),
            counters: StorageCounters::default(),
            producers: ProducerMemory::default(),
            booting: Cell::new(false),
            stopping: Cell::new(false),
            stopped: Cell::new(false),
            background: Cell::new(0),
            background_done: Notify::default(),
            ids: Cell::new(0),
        });
        for directory in shard.directories.values() {
            reactor::spawn(commit::run(Rc::clone(&shard), Rc::clone(directory)));
        }
        reactor::spawn(space::watch(Rc::clone(&shard)));
        reactor::spawn(recovery_points::keep(Rc::clone(&shard)));
        reactor::spawn(retention::keep(Rc::clone(&shard)));
        reactor::spawn(removal::run(Rc::clone(&shard)));
        reactor::spawn_background(cleaner::run(Rc::clone(&shard)));
        reactor::spawn_background(relocate::run(Rc::clone(&shard)));
        if reactor::shard_id() == ShardId::ZERO {
            reactor::spawn(stop::remove_leftovers(Rc::clone(&shard)));
        }
        Rc::new(Storage { shard })
    }

    /// Opens or creates one log, recovering it first if the last stop was not clean. Everything it keeps is
    /// durable when this returns. Logs may be opened side by side, each once.
    pub async fn open(&self, what: OpenLog) -> Result<Log, Error> {
        open::open(&self.shard, what).await.map(Log::new)
    }

    /// Renames the folder away and removes it later; readers of lent slices are not disturbed. Batches that are
    /// queued never become durable.
    pub async fn delete(&self, log: &Log) -> Result<(), Error> {
        stop::delete(&self.shard, log).await
    }

    /// Has the log move to another log directory, or stay in its own if it is on its way to another. The wish is durable
    /// when this returns; the move comes after those that were asked for before.
    ///
    /// # Errors
    /// `Offline`: a directory of the two is, or there is no such; `Full`; `Closed`, during the boot, too.
    pub async fn relocate(&self, log: &Log, to: DirectoryId) -> Result<(), Error> {
        relocate::ask(&self.shard, log, to).await
    }

    /// Where the log is on its way to.
    #[must_use]
    pub fn future(&self, partition: PartitionId) -> Option<FutureLog> {
        let relocation = relocate::of(&self.shard, partition)?;
        Some(FutureLog {
            directory: relocation.destination.id,
            size_bytes: relocation.copied_bytes.get(),
            end_offset: relocation.copied_to.get(),
        })
    }

    /// Ends the moves between log directories that the last stop has cut off where the metadata says that the log is there
    /// already; gives those that are to begin anew, with [`Self::relocate`] once the boot is done. For one shard, when
    /// metadata is known and no log is open.
    pub async fn finish_relocations(&self, inventory: &dyn Inventory) -> Vec<(PartitionId, DirectoryId)> {
        relocate::boot::finish(&self.shard, inventory).await
    }

    /// Renames the folders that metadata gives no partition of this node, and removes those of deleted topics. For
    /// one shard, when metadata is known and no log is being created.
    pub async fn set_strays_aside(&self, inventory: &dyn Inventory) {
        strays::set_aside(&self.shard, inventory).await;
    }

    /// Until [`Self::boot_is_done`] the recovery points on disk stay as the last run left them: a boot that fails half
    /// way must not forget those of logs it has not opened.
    pub fn boot_begins(&self) {
        self.shard.booting.set(true);
    }

    /// Every log is open: the log starts of those that were another shard's are this shard's to keep from here on.
    pub async fn boot_is_done(&self) {
        self.shard.booting.set(false);
        log_starts::take_over(&self.shard).await;
        if reactor::shard_id() == ShardId::ZERO {
            for directory in self.shard.directories.values() {
                recovery_points::forget_ends(&directory.path).await;
            }
        }
    }

    /// Puts what the commit journals of the last run hold into the segments. One shard does it, before anybody opens a log.
    ///
    /// # Errors
    /// A journal cannot be read, or a segment not be written: what was acknowledged would be missing.
    pub async fn replay_journals(&self) -> Result<(), String> {
        for directory in self.shard.directories.values() {
            // one that is switched off leaves no files behind
            let shards = if directory.journal.is_some() { reactor::shard_count() } else { 0 };
            journal::replay::replay(&directory.path, shards).await.map_err(|error| {
                let advice = if reactor::is_shortage(&error) {
                    "; make room, then start the broker again"
                } else {
                    ""
                };
                format!(
                    "the commit journal in {} cannot be replayed: {error}{advice}",
                    directory.path.display()
                )
            })?;
        }
        Ok(())
    }

    /// Clean stop: commits what is queued, trims preallocated space, writes indexes, snapshots and recovery
    /// points, flushes all of it. The caller writes the clean-shutdown mark after every shard has returned, in
    /// every directory that [is online](Self::is_online).
    ///
    /// # Errors
    /// [`Error::Offline`] if a directory is: it must not be marked clean.
    pub async fn stop(&self) -> Result<(), Error> {
        stop::stop(&self.shard).await
    }

    /// Ends housekeeping without a stop, as far as it can be waited for.
    #[cfg(test)]
    pub(super) async fn stop_background(&self) {
        self.shard.stopping.set(true);
        self.shard.background_ended().await;
    }

    /// Changes what may change while the storage runs: in force for what begins from now on.
    pub fn reconfigure(&self, live: LiveConfig) {
        self.shard.live.set(live);
        self.shard.reconfigured.notify();
    }

    /// Whether the directory has had no write or flush error.
    #[must_use]
    pub fn is_online(&self, directory: DirectoryId) -> bool {
        self.shard.directories.get(&directory).is_some_and(|directory| !directory.is_offline())
    }

    /// Bytes of batches that are appended and not yet durable. The budget of requests in flight bounds them.
    #[must_use]
    pub fn pending_bytes(&self) -> usize {
        self.shard.pending_bytes.get()
    }

    /// Bytes held by the tail cache and by the read-ahead cache.
    #[must_use]
    pub fn cached_bytes(&self) -> (usize, usize) {
        (self.shard.tails.used_bytes(), self.shard.chunks.used_bytes())
    }

    /// Every log directory.
    #[must_use]
    pub fn directories(&self) -> Vec<DirectoryState> {
        let state = |directory: &Rc<Directory>| DirectoryState {
            id: directory.id,
            path: directory.path.clone(),
            online: !directory.is_offline(),
        };
        self.shard.directories.values().map(state).collect()
    }

    /// Directories that had a write or flush error here.
    #[must_use]
    pub fn offline_directories(&self) -> Vec<DirectoryId> {
        let directories = self.shard.directories.values();
        directories.filter(|directory| directory.is_offline()).map(|directory| directory.id).collect()
    }

    /// Another shard has had a write or flush error there: nothing is written to it here any more, and reads go on.
    pub fn fail_directory(&self, directory: DirectoryId) {
        if let Some(directory) = self.shard.directories.get(&directory) {
            directory.fail_as_elsewhere(&self.shard);
        }
    }

    /// The storage is being stopped, or has.
    #[must_use]
    pub fn is_stopping(&self) -> bool {
        self.shard.stopping.get()
    }

    /// Everything that is counted here, for a scrape.
    #[must_use]
    pub fn measure(&self) -> snapshot::Storage {
        let Shard { config, counters, directories, .. } = &*self.shard;
        let (tail_cache_bytes, read_ahead_bytes) = self.cached_bytes();
        let journaled_bytes = self.shard.tails.pinned_bytes() as u64;
        let directories = directories.values().map(|directory| snapshot::Directory {
            path: directory.path.display().to_string(),
            online: !directory.is_offline(),
            bytes_until_refusal: directory.space.until_refusal(config.reserve_bytes),
        });
        snapshot::Storage {
            counters: counters.clone(),
            pending_bytes: self.pending_bytes() as u64,
            journaled_bytes,
            tail_cache_bytes: tail_cache_bytes as u64,
            tail_cache_bytes_max: config.tail_cache_bytes as u64,
            read_ahead_bytes: read_ahead_bytes as u64,
            read_ahead_bytes_max: config.read_ahead_bytes as u64,
            producer_state_bytes: self.shard.producers.used_bytes() as u64,
            producer_state_bytes_max: config.producer_state_bytes as u64,
            uncleanable_partitions: self.shard.cleaner.uncleanable(),
            dirtiest_log_ratio: self.shard.cleaner.dirtiest_ratio(),
            directories: directories.collect(),
        }
    }
}

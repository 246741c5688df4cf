//! One log directory: the logs that wait for its commit loop, whether it may be written, its free space.

use std::cell::{Cell, RefCell};
use std::collections::{BTreeMap, VecDeque};
use std::path::PathBuf;
use std::rc::Rc;

use super::cleaner::offsets::CleanedOffsets;
use super::journal::Journal;
use super::log_starts::LogStarts;
use super::recovery_points::PartitionOffsets;
use super::shard::Shard;
use super::space::Space;
use super::state::LogState;
use super::truncate::Mark;
use crate::model::DirectoryId;
use crate::reactor::sync::Notify;

pub struct Directory {
    pub id: DirectoryId,
    pub path: PathBuf,
    /// The last stop was clean.
    pub clean: bool,
    pub space: Space,
    /// Logs with something to commit, none of them in a round; `work` is notified when one comes.
    dirty: RefCell<VecDeque<Rc<LogState>>>,
    pub work: Notify,
    offline: Cell<bool>,
    /// What truncations have for the journal; the commit loop takes it.
    pub marks: RefCell<VecDeque<Mark>>,
    /// Where small batches are committed; `None` if they go to the segments, too.
    pub journal: Option<Journal>,
    /// As found at boot; loaded by the first log that needs it.
    pub found_points: RefCell<Option<Rc<PartitionOffsets>>>,
    /// Those of them whose logs could not be opened here.
    pub kept_points: RefCell<PartitionOffsets>,
    /// As last written by this shard.
    pub written_points: RefCell<Option<PartitionOffsets>>,
    /// Whoever writes them keeps others from it.
    pub points_turn: Turn,
    pub log_starts: LogStarts,
    pub cleaned: CleanedOffsets,
}

impl Directory {
    pub fn new(directory: super::LogDir, journal_bytes: u64) -> Directory {
        Directory {
            journal: Journal::new(&directory.path, journal_bytes),
            id: directory.id,
            path: directory.path,
            clean: directory.clean,
            space: Space::new(directory.latest_free),
            dirty: RefCell::default(),
            work: Notify::default(),
            offline: Cell::new(false),
            marks: RefCell::default(),
            found_points: RefCell::new(None),
            kept_points: RefCell::default(),
            written_points: RefCell::new(None),
            points_turn: Turn::default(),
            log_starts: LogStarts::default(),
            cleaned: CleanedOffsets::default(),
        }
    }

    pub fn is_offline(&self) -> bool {
        self.offline.get()
    }

    /// To be asked before and after a flush that others may flush the same file beside: once one has failed, another
    /// covers nothing of what that has lost, and says that all is well.
    pub fn online(&self) -> std::io::Result<()> {
        match self.is_offline() {
            true => Err(std::io::Error::other("the log directory is offline for writing")),
            false => Ok(()),
        }
    }

    pub fn enqueue(&self, log: Rc<LogState>) {
        self.dirty.borrow_mut().push_back(log);
        self.work.notify();
    }

    /// The log is the next one again.
    pub fn put_back(&self, log: Rc<LogState>) {
        self.dirty.borrow_mut().push_front(log);
    }

    /// The log that waits longest.
    pub fn next_dirty(&self) -> Option<Rc<LogState>> {
        self.dirty.borrow_mut().pop_front()
    }

    /// A write or flush failed: nothing is written here any more, nothing that is queued becomes durable, and it is
    /// not tried again (after a failed flush the kernel may call lost pages clean). Reads go on.
    pub fn fail(&self, shard: &Rc<Shard>, what: &str, error: &std::io::Error) {
        if self.is_offline() {
            return;
        }
        let reason = format!("{what}: {error}");
        tracing::error!(
            directory = %self.path.display(),
            reason,
            "log directory is offline for writing: repair the disk, then restart the broker"
        );
        self.go_offline(shard);
    }

    /// A write or flush of another shard failed: the disk is the same.
    pub fn fail_as_elsewhere(&self, shard: &Rc<Shard>) {
        if self.is_offline() {
            return;
        }
        tracing::warn!(
            directory = %self.path.display(),
            "another shard cannot write to the log directory: this one does not, either"
        );
        self.go_offline(shard);
    }

    fn go_offline(&self, shard: &Rc<Shard>) {
        self.offline.set(true);
        self.dirty.borrow_mut().clear();
        self.marks.borrow_mut().clear();
        let logs: Vec<Rc<LogState>> = shard.logs_of(self);
        for log in logs {
            log.borrow_mut().work.queued = false;
            log.drop_pending();
        }
        self.work.notify();
        if let Some(journal) = &self.journal {
            journal.freed.notify();
        }
        shard.listener.failed(self.id);
    }
}

/// One at a time.
#[derive(Default)]
pub struct Turn {
    taken: Cell<bool>,
    free: Notify,
}

impl Turn {
    pub async fn take(&self) -> MyTurn<'_> {
        while self.taken.replace(true) {
            self.free.notified().await;
        }
        MyTurn(self)
    }
}

/// Gives it up when it is dropped.
pub struct MyTurn<'a>(&'a Turn);

impl Drop for MyTurn<'_> {
    fn drop(&mut self) {
        self.0.taken.set(false);
        self.0.free.notify();
    }
}

/// The directories of a shard by id.
pub type Directories = BTreeMap<DirectoryId, Rc<Directory>>;

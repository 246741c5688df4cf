//! Log starts: per log the offset below which nothing is served any more. Retention and DeleteRecords move it, forward
//! only, and nobody is told of a start before it is durable; the segments below it go after that (see
//! [`removal`](super::removal)).
//!
//! Each shard writes one file per log directory, `log-start-offsets.<shard>`, in the format of Kafka's
//! `log-start-offset-checkpoint` but with topic ids for names. At boot the files of all shards are read, whatever the
//! number of shards is now, and the highest start of a partition counts. A partition that has come from another shard is
//! written to this shard's file before anything is served; until the next clean stop a shard keeps what it has found in
//! its own file, of partitions that have left it too. So a start is in some file at any moment.
//!
//! Starts that are asked for while the file is being written share the next write.

use std::cell::{Cell, RefCell};
use std::path::{Path, PathBuf};
use std::rc::Rc;

use super::Error;
use super::directory::Directory;
use super::recovery_points::{self, PartitionOffsets, encode};
use super::removal;
use super::shard::Shard;
use super::state::{LogState, Status};
use crate::log::files::LOG_STARTS_PREFIX;
use crate::model::{Offset, PartitionId};
use crate::reactor::sync::{Sender, oneshot};
use crate::reactor::{self, fs};

/// One directory's, on one shard.
#[derive(Default)]
pub struct LogStarts {
    /// As found at boot; loaded by the first log that needs it.
    found: RefCell<Option<Rc<Found>>>,
    /// Those of them whose logs could not be opened here.
    kept: RefCell<PartitionOffsets>,
    /// What this shard's file says, once it was written or read.
    written: RefCell<PartitionOffsets>,
    /// A log was opened here whose start this shard's file does not tell.
    has_newcomers: Cell<bool>,
    is_writing: Cell<bool>,
    waiting: RefCell<Vec<Sender<Result<(), Error>>>>,
}

/// What the files of a directory said at boot, and of logs that have come from another directory since.
#[derive(Clone, Default)]
pub struct Found {
    /// Of all shards: the highest.
    all: PartitionOffsets,
    /// In this shard's file.
    own: PartitionOffsets,
}

impl Found {
    /// Zero if nothing is known: the log begins with its first segment.
    pub fn of(&self, partition: PartitionId) -> Offset {
        self.all.get(&partition).copied().unwrap_or(Offset::ZERO)
    }
}

impl LogStarts {
    /// The log is open here from now on.
    pub fn comes(&self, partition: PartitionId, found: &Found) {
        if found.all.get(&partition) != found.own.get(&partition) {
            self.has_newcomers.set(true);
        }
    }

    /// A log that was on its way from another directory is open here.
    pub fn has_come(&self, partition: PartitionId) {
        self.kept.borrow_mut().remove(&partition);
    }

    /// The log is not here any more: what the next write leaves out.
    pub fn leave(&self, partition: PartitionId) {
        self.kept.borrow_mut().remove(&partition);
        self.found(|found| {
            found.all.remove(&partition);
            found.own.remove(&partition);
        });
    }

    /// Changes what was found, if it was looked for.
    fn found(&self, change: impl FnOnce(&mut Found)) {
        if let Some(found) = self.found.borrow_mut().as_mut() {
            change(Rc::make_mut(found));
        }
    }

    /// The log could not be opened: its start stays as it was found.
    pub fn keep(&self, partition: PartitionId, found: &Found) {
        let start = found.all.get(&partition).map(|&start| (partition, start));
        self.kept.borrow_mut().extend(start);
        self.comes(partition, found);
    }
}

/// A log comes from another directory with this start: durable when it returns, and kept until the log
/// [has come](LogStarts::has_come) or does not come after all.
pub async fn arrive(
    shard: &Rc<Shard>,
    directory: &Rc<Directory>,
    partition: PartitionId,
    start: Offset,
) -> Result<(), Error> {
    found(directory).await;
    directory.log_starts.leave(partition);
    if start > Offset::ZERO {
        directory.log_starts.kept.borrow_mut().insert(partition, start);
        directory.log_starts.found(|found| {
            found.all.insert(partition, start);
            found.own.insert(partition, start);
        });
    }
    make_durable(shard, directory).await
}

/// Moves the start up to `to`, which is durable already; once this returns, that is so for good. Gives the start, which
/// may be above `to`.
///
/// # Errors
/// `OutOfRange`: it is not durable. `Closed`, `Offline`, or `Full`; the start may still turn out to have moved at the next start of the broker.
pub async fn advance(log: &Rc<LogState>, to: Offset) -> Result<Offset, Error> {
    let is_described = {
        let inner = log.borrow();
        if to > inner.durable_end {
            // it was cut since
            return Err(Error::OutOfRange);
        }
        if inner.status == Status::Closed || inner.work.held {
            return Err(Error::Closed);
        }
        if to <= inner.start {
            return Ok(inner.start);
        }
        inner.recovery_point() >= to
    };
    let _moving = Moving::begin(log);
    // What lies below the start may be gone after a crash, so recovery must not need it: neither to know where the
    // log goes on, nor for the producers.
    if !is_described {
        log.flush_up_to(to).await?;
    }
    {
        let inner = &mut *log.borrow_mut();
        inner.start_asked = inner.start_asked.max(to);
    }
    make_durable(&log.shard, &log.directory).await?;
    let start = {
        let inner = &mut *log.borrow_mut();
        if inner.status == Status::Closed {
            return Err(Error::Closed);
        }
        let passed = u64::try_from(to.0 - inner.start.0).unwrap_or(0);
        log.shard.counters.expired_records.add(passed);
        inner.start = inner.start.max(to);
        inner.epochs_moved |= inner.epochs.truncate_from_start(inner.start);
        inner.start
    };
    removal::enqueue(log);
    Ok(start)
}

/// Keeps a truncation from beginning.
struct Moving<'a>(&'a LogState);

impl<'a> Moving<'a> {
    fn begin(log: &'a LogState) -> Moving<'a> {
        log.borrow_mut().work.moving_starts += 1;
        Moving(log)
    }
}

impl Drop for Moving<'_> {
    fn drop(&mut self) {
        self.0.borrow_mut().work.moving_starts -= 1;
        self.0.settled.notify();
    }
}

/// A truncated log's start, which may have gone back, is on disk when this returns.
pub async fn write_down(log: &Rc<LogState>) -> Result<(), Error> {
    make_durable(&log.shard, &log.directory).await
}

/// Whether another shard's file, from before the last clean stop, says that the log starts above `at`.
pub async fn is_above_elsewhere(directory: &Directory, partition: PartitionId, at: Offset) -> bool {
    let own = own_path(directory);
    let files = recovery_points::files(&directory.path, LOG_STARTS_PREFIX).await;
    let mut others =
        files.iter().filter(|(path, _)| *path != own).filter_map(|(_, found)| found.as_ref().ok());
    others.any(|starts| starts.get(&partition).is_some_and(|start| *start > at))
}

fn own_path(directory: &Directory) -> PathBuf {
    directory.path.join(format!("{LOG_STARTS_PREFIX}{}", reactor::shard_id().0))
}

/// Resolves when every start that has been asked for is on disk.
async fn make_durable(shard: &Rc<Shard>, directory: &Rc<Directory>) -> Result<(), Error> {
    let (sender, receiver) = oneshot();
    directory.log_starts.waiting.borrow_mut().push(sender);
    if !directory.log_starts.is_writing.replace(true) {
        // In a task of its own: others wait for the write when whoever asked first no longer does.
        reactor::spawn(write_while_asked(Rc::clone(shard), Rc::clone(directory)));
    }
    receiver.await.unwrap_or(Err(Error::Offline))
}

async fn write_while_asked(shard: Rc<Shard>, directory: Rc<Directory>) {
    let _background = shard.background();
    loop {
        let waiting = directory.log_starts.waiting.take();
        if waiting.is_empty() {
            directory.log_starts.is_writing.set(false);
            return;
        }
        let result = write(&shard, &directory).await;
        waiting.into_iter().for_each(|waiting| waiting.send(result));
    }
}

/// Before anything is served: the starts of partitions that other shards had.
pub async fn take_over(shard: &Rc<Shard>) {
    for directory in shard.directories.values() {
        if directory.log_starts.has_newcomers.take() && !directory.is_offline() {
            // an error takes the directory offline, or there is no room: either was said, and the other shard's file
            // stays until the next clean stop
            let _ = make_durable(shard, directory).await;
        }
    }
}

/// At the end of a clean stop, when nothing asks any more.
pub async fn write_last(shard: &Rc<Shard>, directory: &Rc<Directory>) -> Result<(), Error> {
    if shard.booting.get() {
        return Ok(());
    }
    found(directory).await;
    write(shard, directory).await
}

/// Writes this shard's file if a start has moved.
async fn write(shard: &Rc<Shard>, directory: &Directory) -> Result<(), Error> {
    if directory.is_offline() {
        return Err(Error::Offline);
    }
    let known = &directory.log_starts;
    let mut starts = known.kept.borrow().clone();
    if !shard.stopping.get()
        && let Some(found) = known.found.borrow().as_ref()
    {
        starts.extend(found.own.iter().map(|(&partition, &start)| (partition, start)));
    }
    for log in shard.logs_of(directory) {
        let start = log.borrow().start_asked;
        if start > Offset::ZERO {
            starts.insert(log.partition, start);
        } else {
            starts.remove(&log.partition);
        }
    }
    if *known.written.borrow() == starts {
        return Ok(());
    }
    #[cfg(test)]
    if mutation::skips_write() {
        return Ok(());
    }
    let text = encode(&starts);
    let path = own_path(directory);
    if let Err(error) = fs::write_durable(&path, text.into_bytes()).await {
        if reactor::is_shortage(&error) {
            tracing::warn!(
                path = %path.display(), %error,
                "cannot write the log starts: records are not deleted now; make room or raise the limit"
            );
            return Err(Error::Full);
        }
        directory.fail(shard, "cannot write the log starts", &error);
        return Err(Error::Offline);
    }
    *known.written.borrow_mut() = starts;
    Ok(())
}

/// The starts found at boot.
pub async fn found(directory: &Directory) -> Rc<Found> {
    if let Some(found) = directory.log_starts.found.borrow().as_ref() {
        return Rc::clone(found);
    }
    let loaded = load(&directory.path).await;
    let mut found = directory.log_starts.found.borrow_mut();
    if found.is_none() {
        *directory.log_starts.written.borrow_mut() = loaded.own.clone();
    }
    Rc::clone(found.get_or_insert_with(|| Rc::new(loaded)))
}

/// The highest start of each partition over all shards' files. What cannot be read is said and left out.
async fn load(directory: &Path) -> Found {
    let mut found = Found::default();
    let own = directory.join(format!("{LOG_STARTS_PREFIX}{}", reactor::shard_id().0));
    for (path, decoded) in recovery_points::files(directory, LOG_STARTS_PREFIX).await {
        match decoded {
            Ok(starts) => {
                for (&partition, &start) in &starts {
                    let highest = found.all.entry(partition).or_insert(start);
                    *highest = start.max(*highest);
                }
                if path == own {
                    found.own = starts;
                }
            }
            Err(reason) => tracing::error!(
                file = %path.display(), reason,
                "log starts are lost: logs begin with what their segments hold, and deleted records may be seen again"
            ),
        }
    }
    found
}

#[cfg(test)]
pub mod mutation {
    //! A fault of our own making, to show that the simulation would notice it.

    use std::cell::Cell;

    thread_local! {
        static SKIP_WRITE: Cell<bool> = const { Cell::new(false) };
    }

    /// From here on, on this thread, log starts are not written but said to be.
    pub fn skip_write(skip: bool) {
        SKIP_WRITE.set(skip);
    }

    pub fn skips_write() -> bool {
        SKIP_WRITE.get()
    }
}

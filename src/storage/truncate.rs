//! Truncation: a replica gives up what its leader does not have, or begins anew at another offset.
//!
//! ```text
//!   1  no appends; what is queued at or above the cut is dropped, the rest is committed, drained and flushed
//!   2  the recovery point on disk comes down to the cut
//!   3  a truncation in the journal: what it holds of the log before that does not count any more
//!   4  the file `truncation` in the folder                        from here on it is decided: the next start does 5
//!   5  later segments go, the last one is cut, a new one is made; the log is loaded as at a start
//!   6  a log start that has moved is written down
//!   7  the file goes, durably; appends go on
//! ```
//! What is appended afterwards goes to a segment of its own: nothing that was cut, should the disk bring it back, lies
//! behind it. Batches are whole, so the log may end below the offset asked for. A compacted segment that is cut stays a closed
//! one.

use std::io;
use std::path::Path;
use std::rc::Rc;
use std::time::Duration;

use super::directory::Directory;
use super::open::Opening;
use super::state::{LogState, Status};
use super::{Error, again, drain, indexes, log_starts, producers, recovery_points, removal, scan};
use crate::log::epoch_cache::EpochCache;
use crate::log::files::{FileKind, LEADER_EPOCH_CHECKPOINT, SegmentFile, TRUNCATION};
use crate::log::journal::{Entry, Kind};
use crate::log::recovery::{Offsets, Reason, Start};
use crate::log::truncation::{self, Truncation};
use crate::log::txn_index::TxnIndex;
use crate::model::{LeaderEpoch, Offset};
use crate::reactor::{self, File, OpenMode, fs};

/// Between two looks at whether index files are being written.
const PAUSE: Duration = Duration::from_millis(5);

/// A full disk is tried again after so long. Each time the operator hears of it.
const ROOM_PAUSE: Duration = Duration::from_secs(2);

/// What is asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Cut {
    /// Everything at or above the offset goes.
    To(Offset),
    /// Everything goes, and the log starts at the offset.
    All(Offset),
}

/// See [`Log::truncate_to`](super::Log::truncate_to).
pub async fn truncate(log: &Rc<LogState>, cut: Cut) -> Result<Offset, Error> {
    let log = Rc::clone(log);
    let (Cut::To(offset) | Cut::All(offset)) = cut;
    if offset < Offset::ZERO {
        return Err(Error::OutOfRange);
    }
    // in a task of its own: once begun, it ends, whoever waits for it
    reactor::spawn(async move {
        let _background = log.shard.background();
        let _hold = Hold::take(&log).await?;
        let cut = run(&log, cut).await;
        log.shard.tails.trim();
        cut
    })
    .await
}

/// Keeps appends and everything else that changes the log away from it.
struct Hold<'a>(&'a Rc<LogState>);

impl<'a> Hold<'a> {
    async fn take(log: &'a Rc<LogState>) -> Result<Hold<'a>, Error> {
        loop {
            if log.directory.is_offline() {
                return Err(Error::Offline);
            }
            // recovery points are not written yet
            if log.borrow().status != Status::Open || log.shard.booting.get() {
                return Err(Error::Closed);
            }
            if !std::mem::replace(&mut log.borrow_mut().work.held, true) {
                return Ok(Hold(log));
            }
            log.released.notified().await;
        }
    }
}

impl Drop for Hold<'_> {
    fn drop(&mut self) {
        self.0.borrow_mut().work.held = false;
        self.0.released.notify();
        self.0.settled.notify();
        self.0.schedule();
        if removal::is_due(&self.0.borrow()) {
            removal::enqueue(self.0);
        }
    }
}

async fn run(log: &Rc<LogState>, cut: Cut) -> Result<Offset, Error> {
    let above = match cut {
        Cut::To(to) => to,
        Cut::All(_) => Offset::ZERO,
    };
    let dropped = log.drop_pending_from(above);
    while !log.is_still() {
        log.settled.notified().await;
    }
    let is_described = || log.borrow().segments.iter().any(|segment| segment.describing.get());
    while is_described() {
        // index files are being written under names that others may have soon
        reactor::sleep(PAUSE).await;
    }
    drain::settle(log).await.map_err(|_| Error::Offline)?;
    let (start, end) = {
        let inner = &mut *log.borrow_mut();
        if log.directory.is_offline() {
            return Err(Error::Offline);
        }
        if inner.status == Status::Closed {
            return Err(Error::Closed);
        }
        inner.flushed_end = inner.durable_end;
        (inner.start, inner.durable_end)
    };
    let done = match cut {
        Cut::To(to) if to >= end && !dropped => return Ok(end),
        _ => cut_off(log, cut, start).await,
    };
    match done {
        Ok(truncation) => {
            tracing::info!(log = log.name, ?truncation, before = end.0, "the log is truncated");
            Ok(truncation.end)
        }
        Err(error) => {
            if dropped && !log.directory.is_offline() {
                // what is known of the end counts batches that are gone
                let whole = Truncation { start, end, last: None, kind: truncation::Kind::Cut };
                reload_with_room(log, Some(whole)).await?;
            }
            Err(error)
        }
    }
}

/// Steps 2 to 7.
async fn cut_off(log: &Rc<LogState>, cut: Cut, start: Offset) -> Result<Truncation, Error> {
    let truncation = match cut {
        Cut::To(to) if to < start => restart(to),
        // if the batch that the log starts in is cut, nothing is left
        Cut::To(to) => find(log, start, to).await?.unwrap_or_else(|| restart(start)),
        Cut::All(at) => restart(at),
    };
    let goes_back = truncation.start < start;
    if goes_back && log_starts::is_above_elsewhere(&log.directory, log.partition, truncation.start).await {
        tracing::error!(
            log = log.name,
            log_start = start.0,
            wanted = truncation.start.0,
            "the log cannot begin below its start now: the files of another shard still tell it, until the broker has \
             stopped cleanly once"
        );
        return Err(Error::OutOfRange);
    }
    write_intent(log, truncation).await?;
    carry_out(log, truncation).await?;
    Ok(truncation)
}

fn restart(at: Offset) -> Truncation {
    Truncation { start: at, end: at, last: None, kind: truncation::Kind::Restart }
}

/// How the log is cut so that nothing at or above `to` stays: at the beginning of a batch. `None` if nothing would be left
/// at or above `log_start`.
async fn find(log: &LogState, log_start: Offset, to: Offset) -> Result<Option<Truncation>, Error> {
    let failed = |error: io::Error| {
        tracing::error!(log = log.name, %error, "cannot read the segment: the log is not truncated");
        Error::Offline
    };
    let (segment, before) = {
        let segments = &log.borrow().segments;
        let index = segments.partition_point(|segment| segment.base <= to).saturating_sub(1);
        (Rc::clone(&segments[index]), index.checked_sub(1).map(|before| Rc::clone(&segments[before])))
    };
    let mut end = segment.base;
    let mut place = None;
    let (file, _) = segment.file(&log.folder).await.map_err(failed)?;
    let entry = indexes::with(log, &segment, |indexes| indexes.offsets.lookup(Offset(to.0 - 1))).await?;
    let mut position = if to > segment.base { u64::from(entry.position) } else { 0 };
    let length = segment.written_bytes.get();
    while position < length && place.is_none() {
        let start = Start {
            base_offset: segment.base,
            position,
            next_offset: end,
            last_epoch: LeaderEpoch::NONE,
            offsets: Offsets::Gaps,
            max_batch_bytes: u64::from(u32::MAX),
        };
        let verdict = scan::scan(&file, start, length, |header, at| {
            if place.is_none() && header.last_offset() >= to {
                place = Some(at);
            } else if place.is_none() {
                end = header.next_offset();
            }
        });
        let verdict = verdict.await.map_err(failed)?;
        if place.is_some() || verdict.reason == Reason::CleanEnd {
            break;
        }
        // damage is passed over
        let good = scan::next_good(&file, verdict.valid_bytes, length, end).await.map_err(failed)?;
        let Some((at, _)) = good else { break };
        position = at;
    }
    let bytes = place.unwrap_or(length);
    let last = match bytes {
        0 => before.as_ref().map(|before| (before.base, before.written_bytes.get())),
        bytes => Some((segment.base, bytes)),
    };
    let truncation = Truncation { start: log_start, end, last, kind: truncation::Kind::Cut };
    Ok((end >= log_start).then_some(truncation))
}

/// Steps 2 to 4. If there is no room for them, nothing is changed.
async fn write_intent(log: &Rc<LogState>, truncation: Truncation) -> Result<(), Error> {
    // a limit, and not where the flushed part ends: a flush would move that up again, and a checkpoint would tell it
    log.borrow_mut().cut = Some(truncation.end);
    let written = decide(log, truncation).await;
    if written == Err(Error::Full) {
        let waiters = {
            let inner = &mut *log.borrow_mut();
            inner.cut = None;
            inner.satisfied_waiters()
        };
        waiters.into_iter().for_each(|waiter| waiter.send(()));
    }
    written
}

async fn decide(log: &Rc<LogState>, truncation: Truncation) -> Result<(), Error> {
    recovery_points::write_lowered(&log.shard, &log.directory).await?;
    let entry = Entry {
        kind: Kind::Truncation,
        partition: log.partition,
        segment: truncation.end,
        position: 0,
        epoch: LeaderEpoch::NONE,
        base: truncation.end,
        end: truncation.end,
    };
    log.directory.journal_mark(entry).await?;
    let path = log.folder.join(TRUNCATION);
    fs::write_durable(&path, truncation.encode().into_bytes()).await.map_err(|error| {
        if reactor::is_shortage(&error) {
            tracing::warn!(log = log.name, %error, "no room to truncate the log: make room or raise the limit");
            return Error::Full;
        }
        log.directory.fail(&log.shard, &format!("{}: cannot truncate", log.name), &error);
        Error::Offline
    })
}

/// Steps 5 to 7, on a log that is in use.
async fn carry_out(log: &Rc<LogState>, truncation: Truncation) -> Result<(), Error> {
    {
        let inner = &mut *log.borrow_mut();
        // what is read meanwhile stays
        let end = match truncation.kind {
            truncation::Kind::Cut => truncation.end,
            truncation::Kind::Restart => inner.start.min(truncation.start),
        };
        (inner.end, inner.durable_end, inner.flushed_end) = (end, end, end);
    }
    reload_with_room(log, None).await
}

/// Loads the log anew, as soon as there is room. If that fails the directory does: only a start knows what is there now.
async fn reload_with_room(log: &Rc<LogState>, known: Option<Truncation>) -> Result<(), Error> {
    let mut result = reload(log, known).await;
    while result == Err(Error::Full) && !log.shard.stopping.get() {
        reactor::sleep(ROOM_PAUSE).await;
        result = reload(log, known).await;
    }
    if result.is_err() {
        let error = io::Error::other("what is left cannot be loaded");
        log.directory.fail(&log.shard, &format!("{}: cannot truncate", log.name), &error);
    }
    result
}

/// Loads the log anew: as the file `truncation` says, or, if there is none, as `known`.
async fn reload(log: &Rc<LogState>, known: Option<Truncation>) -> Result<(), Error> {
    {
        let inner = &mut *log.borrow_mut();
        inner.truncations += 1;
        // whoever reads one of them goes on with its file, and nobody keeps what was read
        inner.segments.iter().for_each(|segment| segment.retired.set(true));
        log.new_edition();
        inner.tail.clear(&log.shard.tails);
    }
    log.shard.chunks.forget(log.id);
    let opening = Opening::again(log, known);
    let loaded = opening.load().await?;
    let new = opening.inner(loaded).await?;
    let (waiters, known) = {
        let inner = &mut *log.borrow_mut();
        let mut new = new;
        let known = (inner.producers.len(), new.producers.len());
        (new.status, new.work, new.truncations) = (inner.status, inner.work, inner.truncations);
        (new.journaled, new.listed_in) = (inner.journaled, inner.listed_in);
        new.config = inner.config.clone();
        new.touched = true;
        let waiters = std::mem::take(&mut inner.flush_waiters);
        *inner = new;
        log.new_edition();
        (waiters, known)
    };
    producers::note(&log.shard, known.0, known.1);
    for (end, waiter) in waiters {
        // the others' records are gone: dropped, they hear of it
        if end <= log.borrow().end {
            waiter.send(());
        }
    }
    finish(log).await
}

/// Steps 6 and 7: nothing of the truncation is needed at the next start.
pub async fn finish(log: &Rc<LogState>) -> Result<(), Error> {
    log.directory.cleaned.lower(log.partition, log.borrow().end);
    log_starts::write_down(log).await?;
    let removed = match fs::remove_file(&log.folder.join(TRUNCATION)).await {
        Ok(()) => fs::sync_dir(&log.folder).await,
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        error => error,
    };
    removed.map_err(|error| {
        log.directory.fail(&log.shard, &format!("{}: cannot end a truncation", log.name), &error);
        Error::Offline
    })
}

/// The truncation that was decided and has not ended.
///
/// # Errors
/// It cannot be read, so nobody knows what the log should be.
pub async fn found(folder: &Path) -> io::Result<Truncation> {
    let bytes = fs::read(&folder.join(TRUNCATION)).await?;
    Truncation::decode(&String::from_utf8_lossy(&bytes))
        .map_err(|damage| io::Error::new(io::ErrorKind::InvalidData, damage.to_string()))
}

/// Step 5, as far as files go, whatever of it was done before. What describes the last segment is made again by whoever
/// loads the log.
pub async fn cut_files(opening: &Opening, truncation: &Truncation) -> io::Result<()> {
    let folder = &opening.folder;
    let restarts = truncation.kind == truncation::Kind::Restart;
    for entry in fs::list(folder).await? {
        let Some(file) = SegmentFile::parse(&entry.name) else { continue };
        let goes = match file.kind {
            FileKind::Snapshot => restarts || file.offset > truncation.end,
            _ => truncation.last.is_none_or(|(last, _)| file.offset > last),
        };
        if goes {
            fs::remove_file(&folder.join(&entry.name)).await?;
        }
    }
    fs::sync_dir(folder).await?;
    if let Some((base, bytes)) = truncation.last {
        let path = folder.join(SegmentFile::live(base, FileKind::Log).name());
        match File::open(&path, OpenMode::ReadWrite).await {
            // all of it lies below the log's start, and the load behind an earlier cut has removed it
            Err(error) if error.kind() == io::ErrorKind::NotFound && truncation.start == truncation.end => {}
            file => {
                let file = file?;
                if file.len().await? > bytes {
                    again::set_length(&file, bytes).await?;
                    file.sync_data().await?;
                }
                cut_transactions(opening, base, truncation.end).await?;
            }
        }
    }
    let mut epochs =
        if restarts { EpochCache::default() } else { opening.epochs().await.unwrap_or_default() };
    epochs.truncate_from_end(truncation.end);
    fs::write_durable(&folder.join(LEADER_EPOCH_CHECKPOINT), epochs.encode().into_bytes()).await?;
    let path = folder.join(SegmentFile::live(truncation.end, FileKind::Log).name());
    File::open(&path, OpenMode::CreateNew).await?;
    fs::sync_dir(folder).await
}

/// Cut, and not made again: for that all batches of its segment would have to be read.
async fn cut_transactions(opening: &Opening, base: Offset, end: Offset) -> io::Result<()> {
    let path = opening.folder.join(SegmentFile::live(base, FileKind::TxnIndex).name());
    let bytes = match fs::read(&path).await {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
        read => read?,
    };
    let Ok(mut index) = TxnIndex::decode(base, &bytes) else { return Ok(()) };
    index.truncate_to(end);
    let mut bytes = Vec::new();
    index.encode(0, &mut bytes);
    fs::write_durable(&path, bytes).await
}

/// A mark for the commit loop to write to the journal.
pub struct Mark {
    pub entry: Entry,
    pub done: reactor::sync::Sender<()>,
}

impl Directory {
    /// Resolves when the entry is flushed in the journal, at once if that holds nothing.
    pub async fn journal_mark(&self, entry: Entry) -> Result<(), Error> {
        if self.is_offline() {
            return Err(Error::Offline);
        }
        if !self.journal.as_ref().is_some_and(|journal| journal.is_open()) {
            return Ok(());
        }
        let (done, receiver) = reactor::sync::oneshot();
        self.marks.borrow_mut().push_back(Mark { entry, done });
        self.work.notify();
        receiver.await.ok_or(Error::Offline)
    }
}

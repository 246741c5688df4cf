//! A full segment gives way to a new one.
//!
//! The roll is decided by the append that does not fit (a plain function), which also fixes what the snapshot at
//! the boundary says. Here the file is made, its name made durable, and only then are batches written to it; the old
//! segment is trimmed and closed behind the producers' back, in order, by one task per log.

use std::io;
use std::path::Path;
use std::rc::Rc;

use super::directory::Directory;
use super::segment::{Aborts, Segment};
use super::state::{EndState, LogState, Roll, Status, Unclosed};
use super::{Error, append, drain, transactions};
use crate::log::files::{FileKind, LEADER_EPOCH_CHECKPOINT, SegmentFile};
use crate::model::{Offset, TimestampMs};
use crate::reactor::{self, File, OpenMode, fs};

/// Rolls the log whose next batch opens a segment; [`Work::rolling`](super::state::Work) is set already.
pub fn spawn(log: Rc<LogState>) {
    reactor::spawn(async move {
        let due = {
            let inner = &mut *log.borrow_mut();
            let roll = inner.pending.front_mut().and_then(|first| first.opens.take());
            // The log was deleted or its directory has failed since: what was queued is gone.
            inner.work.rolling = roll.is_some();
            roll.map(|roll| (roll, Rc::clone(&inner.committing), inner.durable_end))
        };
        let Some((roll, old, end)) = due else {
            log.settled.notify();
            return;
        };
        assert_eq!(roll.segment.base, end, "everything before the roll is committed");
        make(&log, *roll, old, end).await;
    });
}

/// Rolls a log although no batch asks for it, so that all it holds can go. False if something of it is queued or being
/// written: appends go on and roll it in their time.
pub async fn roll_now(log: &Rc<LogState>) -> bool {
    let (roll, old, end) = {
        let inner = &mut *log.borrow_mut();
        let busy = inner.work.queued || inner.work.in_round || inner.work.rolling;
        let may = inner.status == Status::Open && !inner.work.held && !log.directory.is_offline();
        if busy || !may || !inner.pending.is_empty() || inner.appended_bytes == 0 {
            return false;
        }
        let old = Rc::clone(&inner.committing);
        let roll = append::open_segment(log, inner, TimestampMs(reactor::wall_clock_ms()));
        inner.work.rolling = true;
        inner.touched = true;
        (roll, old, inner.durable_end)
    };
    assert_eq!(roll.segment.base, end, "nothing is queued");
    let log = Rc::clone(log);
    // in a task of its own: once begun, it is made, whoever waits for it
    reactor::spawn(async move { make(&log, roll, old, end).await }).await;
    true
}

/// Makes the segment's file, has commits go there, and has the old one, which ends at `end`, closed.
async fn make(log: &Rc<LogState>, roll: Roll, old: Rc<Segment>, end: Offset) {
    // The old segment's file must hold all of it.
    let made = match drain::drain(log).await {
        Ok(()) => create_segment_file(&log.folder, &roll.segment).await,
        Err(error) => Err(error),
    };
    let close = {
        let inner = &mut *log.borrow_mut();
        inner.work.rolling = false;
        if made.is_ok() {
            inner.committing = roll.segment;
            inner.partial_block.clear();
            inner.unclosed.push_back(Unclosed { segment: old, end, state: roll.before });
        }
        made.is_ok() && !std::mem::replace(&mut inner.work.closing, true)
    };
    if let Err(error) = made {
        log.directory.fail(&log.shard, &format!("{}: cannot roll", log.name), &error);
    }
    if close {
        reactor::spawn(close_rolled(Rc::clone(log)));
    }
    log.schedule();
    log.settled.notify();
}

/// The segment's empty file, its name durable.
pub async fn create_segment_file(folder: &Path, segment: &Segment) -> io::Result<()> {
    let file = File::open(&folder.join(segment.file_name(FileKind::Log)), OpenMode::CreateNew).await?;
    fs::sync_dir(folder).await?;
    segment.set_file(file);
    Ok(())
}

/// Closes what was rolled, oldest first; one task per log.
async fn close_rolled(log: Rc<LogState>) {
    loop {
        let next = {
            let inner = log.borrow();
            let oldest = inner.unclosed.front();
            let go_on = inner.status != Status::Closed && !log.directory.is_offline();
            oldest.filter(|_| go_on).map(|oldest| (Rc::clone(&oldest.segment), oldest.end))
        };
        let Some((segment, end)) = next else {
            // an error takes the directory offline, or there is no room and the next checkpoint tries again
            let _ = write_epochs(&log).await;
            let inner = &mut *log.borrow_mut();
            if inner.unclosed.is_empty() || inner.status == Status::Closed || log.directory.is_offline() {
                inner.work.closing = false;
                break;
            }
            continue; // meanwhile another was rolled
        };
        // taken out only when closed: until then the recovery point stays below the segment
        let state = {
            let mut inner = log.borrow_mut();
            let state = &mut inner.unclosed[0].state;
            EndState {
                snapshot: std::mem::take(&mut state.snapshot),
                epochs: std::mem::take(&mut state.epochs),
            }
        };
        if let Err(error) = close_segment(&log.directory, &log.folder, &segment, end, state).await {
            log.directory.fail(
                &log.shard,
                &format!("{}: cannot close segment {}", log.name, segment.base),
                &error,
            );
            continue;
        }
        log.shard.warm.note(&segment);
        let waiters = {
            let inner = &mut *log.borrow_mut();
            inner.unclosed.pop_front();
            inner.tail.release(&log, &log.shard.tails);
            inner.satisfied_waiters()
        };
        log.shard.tails.trim();
        waiters.into_iter().for_each(|waiter| waiter.send(()));
    }
    log.settled.notify();
}

/// Has `leader-epoch-checkpoint` follow the log start: with the next checkpoint, not with every DeleteRecords. Written
/// by the task that closes segments, so that two writes of the file never meet.
pub fn write_moved_epochs(log: &Rc<LogState>) {
    let is_due = {
        let inner = &mut *log.borrow_mut();
        let is_due = inner.epochs_moved && inner.status == Status::Open && !inner.work.held;
        is_due && !std::mem::replace(&mut inner.work.closing, true)
    };
    if is_due {
        reactor::spawn(close_rolled(Rc::clone(log)));
    }
}

/// Writes the leader epochs if the log start has moved, which is durable by then. An epoch that begins behind what is
/// flushed is not told yet.
pub async fn write_epochs(log: &LogState) -> Result<(), Error> {
    let text = {
        let inner = &mut *log.borrow_mut();
        if log.directory.is_offline() || inner.status == Status::Closed || !inner.epochs_moved {
            return Ok(());
        }
        inner.epochs_moved = false;
        let mut epochs = inner.epochs.clone();
        epochs.truncate_from_end(inner.recovery_point().plus(1));
        epochs.encode()
    };
    let written = fs::write_durable(&log.folder.join(LEADER_EPOCH_CHECKPOINT), text.into_bytes()).await;
    let Err(error) = written else { return Ok(()) };
    if reactor::is_shortage(&error) {
        log.borrow_mut().epochs_moved = true;
        tracing::warn!(log = log.name, %error, "cannot write the leader epochs now");
        return Ok(());
    }
    log.directory.fail(&log.shard, &format!("{}: cannot write the leader epochs", log.name), &error);
    Err(Error::Offline)
}

/// Trims and flushes the segment, then writes what describes it: indexes (their names are flushed with what
/// follows), leader epochs, and last the producer snapshot at `end`. A snapshot that is there says that everything below
/// its offset was durable and described; recovery relies on that.
pub async fn close_segment(
    directory: &Directory,
    folder: &Path,
    segment: &Segment,
    end: Offset,
    state: EndState,
) -> io::Result<()> {
    let file = segment.open_file().expect("a segment stays open until it is closed");
    let length = segment.durable_bytes.get();
    assert_eq!(
        segment.written_bytes.get(),
        length,
        "nothing of a segment that is closed lies in the journal only"
    );
    file.truncate(length).await?;
    file.sync_data().await?;
    directory.online()?;
    segment.allocated.set(length);
    segment.flushed_bytes.set(length);
    write_indexes(folder, segment).await?;
    write_aborts(folder, segment).await?;
    let latest = segment.indexes.borrow().as_ref().map(|indexes| indexes.max_timestamp());
    segment.latest.set(latest);
    fs::write_durable(&folder.join(LEADER_EPOCH_CHECKPOINT), state.epochs.into_bytes()).await?;
    let snapshot = SegmentFile::live(end, FileKind::Snapshot).name();
    fs::write_durable(&folder.join(snapshot), state.snapshot).await?;
    segment.closed.set(true);
    Ok(())
}

/// Writes the segment's transaction index. What a segment without aborts has on disk, it has from recovery.
async fn write_aborts(folder: &Path, segment: &Segment) -> io::Result<()> {
    let index = match &*segment.aborts.borrow() {
        Aborts::Known(index) if !index.entries().is_empty() => index.clone(),
        Aborts::Known(_) | Aborts::OnDisk => return Ok(()),
    };
    transactions::write(folder, segment.base, &index).await
}

/// Writes and flushes the segment's index files from memory.
pub async fn write_indexes(folder: &Path, segment: &Segment) -> io::Result<()> {
    let (mut offsets, mut times) = (Vec::new(), Vec::new());
    if let Some(indexes) = segment.indexes.borrow_mut().as_mut() {
        indexes.close();
        indexes.offsets.encode(0, &mut offsets);
        indexes.times.encode(0, &mut times);
    }
    for (kind, bytes) in [(FileKind::OffsetIndex, offsets), (FileKind::TimeIndex, times)] {
        let path = folder.join(segment.file_name(kind));
        fs::write(&path, bytes).await?;
        // through the ring, where many logs' flushes run side by side at a stop
        File::open(&path, OpenMode::ReadWrite).await?.sync_data().await?;
    }
    Ok(())
}

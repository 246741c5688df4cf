//! Segments below their log's start are taken out of the log, and their space is given back, one at a time.
//!
//! One task a shard, fed by whoever has moved a start. The start is durable by then, so a crash loses nothing by it:
//! whatever is left goes when the log is opened again, in whatever order the names have gone. A segment's files go only
//! when no read holds the segment any more: nobody meets a file that is missing or shorter than it was.
//!
//! A large file is shortened step by step before its name goes. Unlinking 1 GiB at once keeps ext4 (mounted with
//! `discard`) busy for 220 ms and holds up flushes beside it for 75 ms; steps of 16 MiB take 4 ms each and hold them up as
//! long, steps of 4 MiB take 1.3 ms, which does not show.

use std::cell::RefCell;
use std::collections::VecDeque;
use std::io;
use std::rc::Rc;
use std::time::Duration;

use super::segment::Segment;
use super::shard::Shard;
use super::state::{Inner, LogState, Status};
use crate::log::files::{FileKind, FileState, SegmentFile};
use crate::model::Offset;
use crate::reactor::sync::Notify;
use crate::reactor::{self, File, OpenMode, fs};

/// A file is shortened by this much at once; in tests by little, so that they come between two steps, too.
const STEP_BYTES: u64 = if cfg!(test) { 4 << 10 } else { 4 << 20 };
/// Between two steps, and two segments: up to 600 MiB a second are given back.
const PAUSE: Duration = Duration::from_millis(5);

/// The logs of a shard that have something to be removed.
#[derive(Default)]
pub struct Removals {
    queue: RefCell<VecDeque<Rc<LogState>>>,
    work: Notify,
}

/// The log's start has moved, or something that kept its oldest segment has ended.
pub fn enqueue(log: &Rc<LogState>) {
    if log.borrow_mut().work.removal_queued {
        return;
    }
    log.borrow_mut().work.removal_queued = true;
    log.shard.removals.queue.borrow_mut().push_back(Rc::clone(log));
    log.shard.removals.work.notify();
}

/// The log's oldest segment lies wholly below its start.
pub fn is_due(inner: &Inner) -> bool {
    inner.segments.get(1).is_some_and(|second| second.base <= inner.start)
}

/// Serves the queue while the shard runs.
pub async fn run(shard: Rc<Shard>) {
    while !shard.stopping.get() {
        let next = shard.removals.queue.borrow_mut().pop_front();
        let Some(log) = next else {
            shard.removals.work.notified().await;
            continue;
        };
        log.borrow_mut().work.removal_queued = false;
        // looked for once, when there is something to remove: a log may have many segments
        let mut snapshots = None;
        while let Some((segment, next)) = take_oldest(&log) {
            let released = release(&log, &segment, next, &mut snapshots).await;
            log.borrow_mut().work.removing = false;
            log.settled.notify();
            match released {
                Ok(Released::Yes) => {}
                Ok(Released::GivenUp) => break,
                Err(error) => tracing::warn!(
                    log = log.name, segment = segment.base.0, %error,
                    "cannot remove the files of an expired segment: the next start removes them"
                ),
            }
            reactor::sleep(PAUSE).await;
        }
    }
}

/// Takes the oldest segment out of the log if all of it lies below the start; with the base of the next one.
fn take_oldest(log: &LogState) -> Option<(Rc<Segment>, Offset)> {
    let inner = &mut *log.borrow_mut();
    if must_end(log, inner.status) || log.directory.is_offline() {
        return None;
    }
    // a cleaning holds what it reads, and enqueues the log when it has ended
    if !is_due(inner) || inner.work.cleaning || inner.work.held {
        return None;
    }
    let (oldest, next) = (&inner.segments[0], inner.segments[1].base);
    let is_closing = inner.unclosed.front().is_some_and(|unclosed| unclosed.segment.id == oldest.id);
    if !oldest.closed.get() || is_closing {
        return None;
    }
    let segment = inner.segments.remove(0);
    log.new_edition();
    let bytes = segment.durable_bytes.get();
    inner.total_bytes -= bytes;
    inner.work.removing = true;
    log.shard.counters.removed_segments.increment();
    log.shard.counters.removed_bytes.add(bytes);
    Some((segment, next))
}

/// The shard stops, or the folder is about to go.
fn must_end(log: &LogState, status: Status) -> bool {
    log.shard.stopping.get() || status == Status::Closed
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Released {
    Yes,
    /// What is left goes with the folder, or at the next start.
    GivenUp,
}

/// Removes the segment's files: what describes it, then its batches. Producer snapshots below `next` describe a log
/// that is gone.
async fn release(
    log: &LogState,
    segment: &Rc<Segment>,
    next: Offset,
    snapshots: &mut Option<Vec<Offset>>,
) -> io::Result<Released> {
    let goes_on = || !must_end(log, log.borrow().status);
    while Rc::strong_count(segment) > 1 {
        // a read still has it
        reactor::sleep(PAUSE).await;
        if !goes_on() {
            return Ok(Released::GivenUp);
        }
    }
    segment.drop_file();
    if snapshots.is_none() {
        *snapshots = Some(snapshots_of(log).await?);
    }
    let stale = snapshots.iter().flatten().filter(|offset| **offset < next);
    let stale = stale.map(|offset| SegmentFile::live(*offset, FileKind::Snapshot).name());
    let kinds = [FileKind::OffsetIndex, FileKind::TimeIndex, FileKind::TxnIndex];
    let described: Vec<String> = stale.chain(kinds.map(|kind| segment.file_name(kind))).collect();
    snapshots.iter_mut().for_each(|snapshots| snapshots.retain(|offset| *offset >= next));
    for name in described {
        if !goes_on() {
            return Ok(Released::GivenUp);
        }
        remove(log, &name).await?;
    }
    let name = segment.file_name(FileKind::Log);
    let mut length = segment.durable_bytes.get();
    if length > STEP_BYTES {
        let file = File::open(&log.folder.join(&name), OpenMode::ReadWrite).await?;
        while length > STEP_BYTES && goes_on() {
            length -= STEP_BYTES;
            file.truncate(length).await?;
            reactor::sleep(PAUSE).await;
        }
    }
    if !goes_on() {
        return Ok(Released::GivenUp);
    }
    remove(log, &name).await?;
    Ok(Released::Yes)
}

async fn snapshots_of(log: &LogState) -> io::Result<Vec<Offset>> {
    let entries = fs::list(&log.folder).await?;
    let files = entries.iter().filter_map(|entry| SegmentFile::parse(&entry.name));
    let snapshots = files.filter(|file| file.kind == FileKind::Snapshot && file.state == FileState::Live);
    Ok(snapshots.map(|file| file.offset).collect())
}

/// Not every segment has every file.
async fn remove(log: &LogState, name: &str) -> io::Result<()> {
    match fs::remove_file(&log.folder.join(name)).await {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        removed => removed,
    }
}

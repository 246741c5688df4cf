//! Group commit: one task per log directory gathers what was appended, writes and flushes it in rounds.
//!
//! A round takes the logs that have something queued, oldest first. Per log it builds one aligned buffer (the
//! durable part of the last block, then every queued batch, the only copy a batch ever gets), writes all buffers side
//! by side, then flushes all files side by side. While it is in flight, new appends gather; nobody lingers.
//!
//! A log is in one round at a time, so its writes never overlap. A roll is not part of a round: a log whose next
//! batch opens a segment leaves the queue until [`roll`](super::roll) has made the file.
//!
//! The per-shard journal will stand here: it takes over what happens between gathering and `complete`.

use std::io;
use std::rc::Rc;

use super::concurrent::Lanes;
use super::directory::Directory;
use super::run::Place;
use super::segment::Segment;
use super::shard::Shard;
use super::state::{Inner, LogState, Status};
use super::tail::Published;
use crate::model::Offset;
use crate::protocol::batch;
use crate::reactor::{BLOCK_BYTES, Buf, File, Instant, now};

/// Rounds in flight per directory. Two would gather smaller groups; measure before raising it.
pub const DEPTH: usize = 1;
/// Writes or flushes in flight at once.
const CONCURRENT_IO: usize = 64;
/// What one log may write in a round (a single larger batch still goes out), so that no log holds up the others,
/// and where a flush takes 4 ms one partition still reaches a gigabyte a second.
const LOG_ROUND_BYTES: usize = 4 << 20;
/// A round takes no further log when it has this much. Its copies are made before the first real wait: about 60 µs
/// a MiB, and only under backlog.
const ROUND_BYTES: usize = 4 << 20;

/// One log's part of a round.
struct Part {
    log: Rc<LogState>,
    /// What is being written; `None` if only a flush is asked for.
    written: Option<Written>,
    file: File,
    sync: Sync,
    result: io::Result<()>,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Sync {
    Yes,
    No,
}

struct Written {
    segment: Rc<Segment>,
    published: Published,
    /// Exclusive end of the batches.
    end: Offset,
    /// Bytes of new batches, how many they are, and when the first of them came.
    bytes: usize,
    batches: usize,
    since: Instant,
}

/// The directory's commit loop; ends when the shard stops and nothing is left.
pub async fn run(shard: Rc<Shard>, directory: Rc<Directory>) {
    let mut lanes = Lanes::new(CONCURRENT_IO);
    let mut round: Vec<Part> = Vec::new();
    loop {
        gather(&directory, &mut round);
        if round.is_empty() {
            if directory.is_offline() || shard.stopped.get() {
                return;
            }
            directory.work.notified().await;
            continue;
        }
        lanes.run(round.iter_mut().map(write)).await;
        lanes
            .run(round.iter_mut().filter(|part| part.sync == Sync::Yes && part.result.is_ok()).map(flush))
            .await;
        complete(&shard, &directory, &mut round);
    }
}

/// Takes logs from the queue and builds their buffers.
fn gather(directory: &Directory, round: &mut Vec<Part>) {
    let mut bytes = 0;
    while bytes < ROUND_BYTES && !directory.is_offline() {
        let Some(log) = directory.next_dirty() else { return };
        let part = {
            let inner = &mut *log.borrow_mut();
            inner.work.queued = false;
            if inner.status == Status::Closed {
                continue;
            }
            inner.work.in_round = true;
            let written = build(inner);
            let sync = if inner.flushes() { Sync::Yes } else { Sync::No };
            let file = inner.committing.open_file().expect("the segment that is written to is open");
            Part { log: Rc::clone(&log), written, file, sync, result: Ok(()) }
        };
        bytes += part.written.as_ref().map_or(0, |written| written.bytes);
        round.push(part);
    }
}

/// One exact-size buffer with everything queued, up to the next roll and the round's limit.
fn build(inner: &mut Inner) -> Option<Written> {
    let start = inner.committing.durable_bytes.get();
    let before = (start % BLOCK_BYTES as u64) as usize;
    assert_eq!(
        before,
        inner.partial_block.len(),
        "the last block holds the durable bytes behind the last boundary"
    );
    let (mut count, mut bytes) = (0, 0);
    for (index, pending) in inner.pending.iter().enumerate() {
        // the first one may have opened this segment: then its mark is gone
        if pending.opens.is_some() || (index > 0 && bytes + pending.batch.len() > LOG_ROUND_BYTES) {
            break;
        }
        count += 1;
        bytes += pending.batch.len();
    }
    let first = inner.pending.front().filter(|_| count > 0)?.base_offset;
    let mut buf = Buf::new((before + bytes).next_multiple_of(BLOCK_BYTES));
    let mut places = Vec::with_capacity(count);
    let mut end = first;
    let out = buf.as_mut_slice();
    out[..before].copy_from_slice(&inner.partial_block);
    let mut at = before;
    for pending in inner.pending.drain(..count) {
        let copy = &mut out[at..at + pending.batch.len()];
        copy.copy_from_slice(&pending.batch);
        batch::patch_base_offset_and_epoch(copy, pending.base_offset, pending.epoch);
        places.push(Place { last_offset: pending.last_offset, at: at as u32 });
        at += pending.batch.len();
        end = pending.last_offset.plus(1);
    }
    out[at..].fill(0);
    inner.pending_bytes -= bytes;
    let published =
        Published { buf: buf.freeze(), position: start - before as u64, first, places, end: at as u32 };
    let (segment, since) = (Rc::clone(&inner.committing), inner.pending_since);
    if !inner.pending.is_empty() {
        // what is left came since, or waits for one round more than is told: no clock is read for each batch
        inner.pending_since = now();
    }
    Some(Written { segment, published, end, bytes, batches: count, since })
}

async fn write(part: &mut Part) {
    let Some(written) = &part.written else { return };
    part.result = write_aligned(&part.log, &part.file, written).await;
}

async fn write_aligned(log: &LogState, file: &File, written: &Written) -> io::Result<()> {
    let Published { buf, position, .. } = &written.published;
    let needed = position + buf.as_slice().len() as u64;
    let segment_bytes = log.borrow().config.segment_bytes;
    if let Some(length) = written.segment.allocation(needed, segment_bytes) {
        match file.allocate(length).await {
            Ok(()) => written.segment.allocated.set(length),
            Err(error) if only_ahead(&error) => {}
            Err(error) => return Err(error),
        }
    }
    file.write(buf, *position).await?;
    written.segment.allocated.set(written.segment.allocated.get().max(needed));
    Ok(())
}

/// Reserving ahead is only for speed: where it meets a limit, the write itself says whether there is room for the bytes.
fn only_ahead(error: &io::Error) -> bool {
    use io::ErrorKind::{FileTooLarge, QuotaExceeded, StorageFull, Unsupported};
    matches!(error.kind(), StorageFull | QuotaExceeded | FileTooLarge | Unsupported)
}

async fn flush(part: &mut Part) {
    #[cfg(test)]
    if mutation::skips_flush() {
        return;
    }
    part.result = part.file.sync_data().await;
}

/// Moves the durable ends, publishes the buffers, lets the logs go on and tells the listener.
fn complete(shard: &Rc<Shard>, directory: &Rc<Directory>, round: &mut Vec<Part>) {
    for part in round.iter() {
        if let Some(written) = &part.written {
            shard.pending_bytes.set(shard.pending_bytes.get() - written.bytes);
        }
        if let Err(error) = &part.result {
            directory.fail(shard, &format!("{}: write or flush failed", part.log.name), error);
        }
    }
    count(shard, round);
    for part in round.drain(..) {
        let Part { log, written, sync, result, .. } = part;
        let moved = {
            let inner = &mut *log.borrow_mut();
            inner.work.in_round = false;
            result.is_ok().then(|| advance(inner, written, sync, &log))
        };
        log.schedule();
        log.settled.notify();
        let Some((end, waiters)) = moved else { continue };
        waiters.into_iter().for_each(|waiter| waiter.send(()));
        if let Some(end) = end {
            shard.listener.durable(log.partition, end);
        }
    }
    shard.tails.trim();
}

fn count(shard: &Shard, round: &[Part]) {
    let (counters, now) = (&shard.counters, now());
    counters.rounds.increment();
    for part in round.iter().filter(|part| part.result.is_ok()) {
        if part.sync == Sync::Yes {
            counters.flushes.increment();
        }
        if let Some(written) = &part.written {
            counters.batches.add(written.batches as u64);
            counters.batch_bytes.add(written.bytes as u64);
            counters.written_bytes.add(written.published.buf.as_slice().len() as u64);
            counters.commits.record(now.since(written.since));
        }
    }
}

type Waiters = Vec<crate::reactor::sync::Sender<()>>;

fn advance(
    inner: &mut Inner,
    written: Option<Written>,
    sync: Sync,
    log: &Rc<LogState>,
) -> (Option<Offset>, Waiters) {
    let mut moved = None;
    if let Some(Written { segment, published, end, .. }) = written {
        let slice = published.buf.as_slice();
        let full = published.end as usize / BLOCK_BYTES * BLOCK_BYTES;
        inner.partial_block.clear();
        inner.partial_block.extend_from_slice(&slice[full..published.end as usize]);
        segment.durable_bytes.set(published.position + u64::from(published.end));
        inner.durable_end = end;
        moved = Some(end);
        if inner.status != Status::Closed {
            inner.tail.publish(published, log, &log.shard.tails);
        }
    }
    if sync == Sync::Yes {
        inner.flushed_end = inner.durable_end;
    }
    (moved, inner.satisfied_waiters())
}

#[cfg(test)]
pub mod mutation {
    //! A fault of our own making, to show that the simulation would notice it.

    use std::cell::Cell;

    thread_local! {
        static SKIP_FLUSH: Cell<bool> = const { Cell::new(false) };
    }

    /// From here on, on this thread, commit rounds do not flush but say they did.
    pub fn skip_flush(skip: bool) {
        SKIP_FLUSH.set(skip);
    }

    pub fn skips_flush() -> bool {
        SKIP_FLUSH.get()
    }
}

//! One log's write to its segment's file: what lies in the journal only, then batches that are queued.
//!
//! Whoever writes holds [`Work::writing`](super::state::Work), so two writes never meet in one block. A queued batch that
//! goes to the file goes together with everything before it, so the file never has a hole.

use std::io;
use std::rc::Rc;

use super::Durability;
use super::run::Place;
use super::segment::{Ahead, Segment};
use super::state::{Inner, LogState, Status};
use super::tail::Published;
use crate::model::Offset;
use crate::protocol::batch;
use crate::reactor::{BLOCK_BYTES, Buf, File};

/// What is being written: whole blocks that end with the last batch.
pub struct Write {
    segment: Rc<Segment>,
    published: Published,
    /// So many pinned runs are in it.
    pinned: usize,
    /// Exclusive end of the batches.
    pub end: Offset,
}

impl Write {
    /// Bytes that go to the disk.
    pub fn block_bytes(&self) -> usize {
        self.published.buf.as_slice().len()
    }
}

/// One exact-size buffer with the durable part of the last block, what is pinned (at most `pinned_bytes` of it and at
/// least one run, all of it if batches are queued behind it), and the first `count` queued batches. `None` if that is
/// nothing.
pub fn build(inner: &mut Inner, pinned_bytes: usize, count: usize) -> Option<Write> {
    let segment = Rc::clone(&inner.committing);
    let start = segment.written_bytes.get();
    let before = (start % BLOCK_BYTES as u64) as usize;
    assert_eq!(before, inner.partial_block.len(), "the last block holds what is behind the last boundary");
    let (mut pinned, mut bytes) = (0, 0);
    for run in inner.tail.pinned() {
        if count == 0 && pinned > 0 && bytes + run.bytes().len() > pinned_bytes {
            break;
        }
        pinned += 1;
        bytes += run.bytes().len();
    }
    bytes += inner.pending.iter().take(count).map(|pending| pending.batch.len()).sum::<usize>();
    let first = match inner.tail.pinned().front() {
        Some(run) => run.first_offset(),
        None => inner.pending.front().filter(|_| count > 0)?.base_offset,
    };
    let mut buf = Buf::new((before + bytes).next_multiple_of(BLOCK_BYTES));
    let mut places = Vec::with_capacity(count + pinned);
    let mut end = first;
    let out = buf.as_mut_slice();
    out[..before].copy_from_slice(&inner.partial_block);
    let mut at = before;
    for run in inner.tail.pinned().iter().take(pinned) {
        let batches = run.bytes();
        out[at..at + batches.len()].copy_from_slice(batches);
        let from = run.places()[0].at;
        places.extend(run.places().iter().map(|place| Place { at: place.at - from + at as u32, ..*place }));
        at += batches.len();
        end = run.end_offset();
    }
    if count > 0 {
        (at, end) = copy_queued(inner, count, out, at, &mut places);
    }
    out[at..].fill(0);
    let published =
        Published { buf: buf.freeze(), position: start - before as u64, first, places, end: at as u32 };
    Some(Write { segment, published, pinned, end })
}

/// Moves the first `count` queued batches to `out`, the only copy a batch gets in memory on its way to be durable, with
/// their places; where they end there, and their end offset.
pub fn copy_queued(
    inner: &mut Inner,
    count: usize,
    out: &mut [u8],
    at: usize,
    places: &mut Vec<Place>,
) -> (usize, Offset) {
    let (mut at, begin) = (at, at);
    let mut end = inner.durable_end;
    for pending in inner.pending.drain(..count) {
        let copy = &mut out[at..at + pending.batch.len()];
        copy.copy_from_slice(&pending.batch);
        batch::patch_base_offset_and_epoch(copy, pending.base_offset, pending.epoch);
        places.push(Place { last_offset: pending.last_offset, at: at as u32 });
        at += pending.batch.len();
        end = pending.last_offset.plus(1);
    }
    inner.pending_bytes -= at - begin;
    (at, end)
}

/// Writes it, into space that is allocated ahead.
pub async fn run(log: &LogState, file: &File, write: &Write) -> io::Result<()> {
    let Published { buf, position, .. } = &write.published;
    let needed = position + buf.as_slice().len() as u64;
    let (segment_bytes, ahead) = ahead(log);
    if let Some(length) = write.segment.allocation(needed, segment_bytes, ahead) {
        match file.allocate(length).await {
            Ok(()) => write.segment.allocated.set(length),
            Err(error) if only_ahead(&error) => {}
            Err(error) => return Err(error),
        }
    }
    file.write(buf, *position).await?;
    write.segment.allocated.set(write.segment.allocated.get().max(needed));
    Ok(())
}

/// What is reserved at once: of a topic with preallocate a whole segment, unless Produce would be refused for want of the
/// space that nothing is in yet.
fn ahead(log: &LogState) -> (u64, Ahead) {
    let config = &log.borrow().config;
    let free = log.directory.space.until_refusal(log.shard.config.reserve_bytes);
    let has_room = free.is_none_or(|free| free > config.segment_bytes);
    (config.segment_bytes, if config.preallocate && has_room { Ahead::Whole } else { Ahead::Step })
}

/// Reserving ahead is only for speed: where it meets a limit, the write itself says whether there is room for the bytes.
fn only_ahead(error: &io::Error) -> bool {
    use io::ErrorKind::{FileTooLarge, QuotaExceeded, StorageFull, Unsupported};
    matches!(error.kind(), StorageFull | QuotaExceeded | FileTooLarge | Unsupported)
}

/// It is in the file: the buffer takes the place of what was pinned.
pub fn done(log: &Rc<LogState>, inner: &mut Inner, write: Write) {
    let Write { segment, published, pinned, .. } = write;
    let slice = published.buf.as_slice();
    let full = published.end as usize / BLOCK_BYTES * BLOCK_BYTES;
    inner.partial_block.clear();
    inner.partial_block.extend_from_slice(&slice[full..published.end as usize]);
    segment.written_bytes.set(published.position + u64::from(published.end));
    let budget = &log.shard.tails;
    inner.tail.unpin(pinned, budget);
    if inner.status != Status::Closed {
        // what is only written may go with a failed flush: that is its promise, and it has no bound
        let until_flushed = (inner.config.durability == Durability::Flushed).then_some(segment);
        inner.tail.publish(published, until_flushed, log, budget);
    }
}

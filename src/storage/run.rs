//! Whole batches that lie one behind the other in one buffer: what both caches hold and what a fetch lends from.

use bytes::Bytes;

use crate::model::Offset;
use crate::reactor::SharedBuf;

/// One batch of a run.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Place {
    /// Inclusive. Compaction may leave gaps between one batch's last and the next one's first offset.
    pub last_offset: Offset,
    /// Where the batch begins in the buffer; it ends where the next one begins.
    pub at: u32,
}

/// Batches in a frozen buffer, at least one. The bytes before the first and behind the last are not theirs.
pub struct Run {
    buf: SharedBuf,
    /// Where the buffer's first byte lies in the segment file; in a journal's buffer it would lie there, which may be
    /// before the file's beginning.
    origin: i64,
    /// Base offset of the first batch; lower where compaction has left a gap in front of it.
    first: Offset,
    /// Ascending in both columns.
    places: Vec<Place>,
    /// Where the last batch ends in the buffer.
    end: u32,
    /// What the run costs its cache's budget, in bytes.
    memory: usize,
}

/// What a read takes from one run.
pub struct Taken {
    pub bytes: Bytes,
    /// Where the read goes on.
    pub next: Offset,
    /// The run has nothing behind what was taken.
    pub to_end: bool,
}

impl Run {
    /// `position` is the buffer's in the segment file.
    pub fn new(buf: SharedBuf, position: u64, first: Offset, places: Vec<Place>, end: u32) -> Run {
        let memory = buf.as_slice().len() + places.capacity() * size_of::<Place>();
        Run::with(buf, position.cast_signed(), first, places, end, memory)
    }

    /// A part of a buffer that others have parts of, too: the first batch belongs at `position`, and `share` bytes of
    /// the buffer are this run's.
    pub fn part(
        buf: SharedBuf,
        position: u64,
        first: Offset,
        places: Vec<Place>,
        end: u32,
        share: usize,
    ) -> Run {
        let origin = position.cast_signed() - places.first().map_or(0, |place| i64::from(place.at));
        let memory = share + places.capacity() * size_of::<Place>();
        Run::with(buf, origin, first, places, end, memory)
    }

    fn with(buf: SharedBuf, origin: i64, first: Offset, places: Vec<Place>, end: u32, memory: usize) -> Run {
        assert!(places.last().is_some_and(|last| last.at < end), "a run holds at least one batch");
        Run { buf, origin, first, places, end, memory }
    }

    /// From here on the run has everything up to its end.
    pub fn first_offset(&self) -> Offset {
        self.first
    }

    /// Exclusive.
    pub fn end_offset(&self) -> Offset {
        self.places.last().map_or(Offset::ZERO, |last| last.last_offset.plus(1))
    }

    /// Position in the file of the first batch.
    pub fn first_position(&self) -> u64 {
        (self.origin + self.places.first().map_or(0, |first| i64::from(first.at))).cast_unsigned()
    }

    /// Position in the file behind the last batch.
    pub fn end_position(&self) -> u64 {
        (self.origin + i64::from(self.end)).cast_unsigned()
    }

    pub fn places(&self) -> &[Place] {
        &self.places
    }

    /// Position in the file of the buffer's first byte.
    pub fn origin(&self) -> i64 {
        self.origin
    }

    /// The batches.
    pub fn bytes(&self) -> &[u8] {
        let start = self.places.first().map_or(0, |first| first.at);
        &self.buf.as_slice()[start as usize..self.end as usize]
    }

    /// What it costs its cache's budget.
    pub fn memory_bytes(&self) -> usize {
        self.memory
    }

    /// Whole batches from the one that holds `from` (or the first behind it, in a gap), all below `limit`, at most
    /// `max_bytes` but at least one if `at_least_one`. `None` if that is nothing.
    pub fn take(&self, from: Offset, limit: Offset, max_bytes: usize, at_least_one: bool) -> Option<Taken> {
        let first = self.places.partition_point(|place| place.last_offset < from);
        let start = self.places.get(first)?.at;
        let below = self.places.partition_point(|place| place.last_offset < limit);
        if below <= first {
            return None;
        }
        let fits = |&index: &usize| (self.end_of(index) - start) as usize <= max_bytes;
        let mut count = partition(first, below, fits) - first;
        if count == 0 && at_least_one {
            count = 1;
        }
        let last = first + count.checked_sub(1)?;
        Some(Taken {
            bytes: self.buf.lend(start as usize..self.end_of(last) as usize),
            next: self.places[last].last_offset.plus(1),
            to_end: last + 1 == self.places.len(),
        })
    }

    fn end_of(&self, index: usize) -> u32 {
        self.places.get(index + 1).map_or(self.end, |next| next.at)
    }
}

/// The first index of `low..high` that does not satisfy `holds`, which holds up to some point and not behind it.
fn partition(low: usize, high: usize, holds: impl Fn(&usize) -> bool) -> usize {
    let (mut low, mut high) = (low, high);
    while low < high {
        let middle = low + (high - low) / 2;
        if holds(&middle) { low = middle + 1 } else { high = middle }
    }
    low
}

//! The time index of one segment: sparse (largest timestamp so far, offset) pairs.

use super::Damage;
use crate::model::{Offset, TimestampMs};

/// One entry on disk: i64 timestamp, i32 offset relative to the segment's base.
pub const ENTRY_BYTES: usize = 12;

/// A timestamp and the last offset of the batch that carries it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TimestampOffset {
    pub timestamp: TimestampMs,
    pub offset: Offset,
}

/// Whether the last free slot may be used.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Slot {
    /// An append: the last slot stays free for the entry at close.
    Append,
    /// The segment is rolled or closed.
    Close,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TimeIndex {
    base: Offset,
    max_entries: usize,
    timestamps: Vec<i64>,
    offsets: Vec<u32>,
}

impl TimeIndex {
    /// `max_bytes` is segment.index.bytes.
    #[must_use]
    pub fn new(base: Offset, max_bytes: usize) -> TimeIndex {
        TimeIndex { base, max_entries: max_bytes / ENTRY_BYTES, timestamps: Vec::new(), offsets: Vec::new() }
    }

    /// Adds the largest timestamp so far if it is larger than the last entry's. True if an entry was added.
    pub fn maybe_append(&mut self, entry: TimestampOffset, slot: Slot) -> bool {
        let _ = (entry, slot);
        unimplemented!()
    }

    /// The last entry with a timestamp at or below `target`, else (no timestamp, base).
    #[must_use]
    pub fn lookup(&self, target: TimestampMs) -> TimestampOffset {
        let _ = target;
        unimplemented!()
    }

    /// Drops entries whose offset is at or after `end`.
    pub fn truncate_to(&mut self, end: Offset) {
        let _ = end;
        unimplemented!()
    }

    /// One slot is kept for the entry at close.
    #[must_use]
    pub fn is_full(&self) -> bool {
        self.timestamps.len() + 1 >= self.max_entries
    }

    #[must_use]
    pub fn len(&self) -> usize {
        self.timestamps.len()
    }

    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.timestamps.is_empty()
    }

    #[must_use]
    pub fn last(&self) -> Option<TimestampOffset> {
        unimplemented!()
    }

    /// The file's bytes from entry `from` on (0: all of it).
    pub fn encode(&self, from: usize, out: &mut Vec<u8>) {
        let _ = (from, out);
        unimplemented!()
    }

    /// Reads a file; trailing zeros of a preallocated file are dropped.
    ///
    /// # Errors
    /// What is wrong; the index is to be rebuilt from the log.
    pub fn decode(
        base: Offset,
        max_bytes: usize,
        end_offset: Offset,
        bytes: &[u8],
    ) -> Result<TimeIndex, Damage> {
        let _ = (base, max_bytes, end_offset, bytes);
        unimplemented!()
    }
}

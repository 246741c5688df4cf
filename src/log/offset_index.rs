//! The offset index of one segment: sparse (offset, position) pairs.

use super::Damage;
use crate::model::Offset;

/// One entry on disk: i32 offset relative to the segment's base, i32 position in the `.log` file.
pub const ENTRY_BYTES: usize = 8;

/// An entry names a batch: its last offset and the position where it begins.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct OffsetPosition {
    pub offset: Offset,
    pub position: u32,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct OffsetIndex {
    base: Offset,
    max_entries: usize,
    /// (last offset of a batch minus base, its position), both strictly growing.
    entries: Vec<(u32, u32)>,
}

impl OffsetIndex {
    /// `max_bytes` is segment.index.bytes.
    #[must_use]
    pub fn new(base: Offset, max_bytes: usize) -> OffsetIndex {
        OffsetIndex { base, max_entries: max_bytes / ENTRY_BYTES, entries: Vec::new() }
    }

    /// Notes that the batch ending at `last_offset` begins at `position`. False, and nothing noted, when the index
    /// is full, or the entry would not grow both columns or not fit them.
    pub fn append(&mut self, last_offset: Offset, position: u32) -> bool {
        let _ = (last_offset, position);
        unimplemented!()
    }

    /// Where to begin looking for `target`: the largest entry at or below it, else (base, 0).
    #[must_use]
    pub fn lookup(&self, target: Offset) -> OffsetPosition {
        let _ = target;
        unimplemented!()
    }

    /// Drops what is at or after `end`.
    pub fn truncate_to(&mut self, end: Offset) {
        let _ = end;
        unimplemented!()
    }

    #[must_use]
    pub fn is_full(&self) -> bool {
        self.entries.len() >= self.max_entries
    }

    #[must_use]
    pub fn len(&self) -> usize {
        self.entries.len()
    }

    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.entries.is_empty()
    }

    #[must_use]
    pub fn last(&self) -> Option<OffsetPosition> {
        unimplemented!()
    }

    /// The file's bytes from entry `from` on (0: all of it).
    pub fn encode(&self, from: usize, out: &mut Vec<u8>) {
        let _ = (from, out);
        unimplemented!()
    }

    /// Reads a file. Trailing zeros of a preallocated file are dropped; entries must grow, lie in the segment and
    /// below `log_bytes`, its length.
    ///
    /// # Errors
    /// What is wrong; the index is to be rebuilt from the log.
    pub fn decode(
        base: Offset,
        max_bytes: usize,
        log_bytes: u64,
        bytes: &[u8],
    ) -> Result<OffsetIndex, Damage> {
        let _ = (base, max_bytes, log_bytes, bytes);
        unimplemented!()
    }
}

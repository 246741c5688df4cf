//! What an append does to a segment's two indexes, live and at recovery alike.

use super::offset_index::OffsetIndex;
use super::time_index::{TimeIndex, TimestampOffset};
use crate::model::{Offset, TimestampMs};

/// One batch as the indexes see it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Placed {
    /// Where it begins in the `.log` file.
    pub position: u32,
    pub bytes: u32,
    pub last_offset: Offset,
    pub max_timestamp: TimestampMs,
}

/// Both indexes of a segment and the counters that decide when they grow.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SegmentIndexes {
    pub offsets: OffsetIndex,
    pub times: TimeIndex,
    /// Bytes of batches since the last entry.
    since_entry: u64,
    max_timestamp: TimestampOffset,
}

impl SegmentIndexes {
    /// `max_bytes` is segment.index.bytes.
    #[must_use]
    pub fn new(base: Offset, max_bytes: usize) -> SegmentIndexes {
        SegmentIndexes {
            offsets: OffsetIndex::new(base, max_bytes),
            times: TimeIndex::new(base, max_bytes),
            since_entry: 0,
            max_timestamp: TimestampOffset { timestamp: TimestampMs::NONE, offset: base },
        }
    }

    /// Of a segment that was closed cleanly, from its files.
    #[must_use]
    pub fn loaded(offsets: OffsetIndex, times: TimeIndex) -> SegmentIndexes {
        let _ = (offsets, times);
        unimplemented!()
    }

    /// Notes a batch, in order; an entry is made when more than `interval_bytes` have passed since the last.
    pub fn append(&mut self, batch: Placed, interval_bytes: u64) {
        let _ = (batch, interval_bytes);
        unimplemented!()
    }

    /// The segment is rolled or closed: the largest timestamp becomes the last entry.
    pub fn close(&mut self) {
        unimplemented!()
    }

    /// The largest timestamp so far and the last offset of its batch.
    #[must_use]
    pub fn max_timestamp(&self) -> TimestampOffset {
        self.max_timestamp
    }

    #[must_use]
    pub fn is_full(&self) -> bool {
        self.offsets.is_full() || self.times.is_full()
    }
}

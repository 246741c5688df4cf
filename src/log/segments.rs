//! The ordered set of a log's segments: which one holds an offset or a time, which ones retention drops.

use crate::model::{Offset, TimestampMs};

/// What is known of a segment without opening its files.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SegmentInfo {
    pub base_offset: Offset,
    /// Bytes of batches.
    pub bytes: u64,
    /// The largest record timestamp; `NONE` when no batch has one.
    pub max_timestamp: TimestampMs,
    /// The file's modification time: counts for retention when there is no record timestamp.
    pub modified: TimestampMs,
}

/// Segments by base offset; the last one is active. `T` is what the caller keeps with each.
#[derive(Clone, Debug, Default)]
pub struct Segments<T> {
    infos: Vec<SegmentInfo>,
    data: Vec<T>,
}

impl<T> Segments<T> {
    #[must_use]
    pub fn new() -> Segments<T> {
        Segments { infos: Vec::new(), data: Vec::new() }
    }

    /// Adds a segment above all others.
    ///
    /// # Panics
    /// When its base is not above the last one's.
    pub fn push(&mut self, info: SegmentInfo, data: T) {
        let _ = (info, data);
        unimplemented!()
    }

    /// For [`retention_plan`] and the like, oldest first.
    #[must_use]
    pub fn infos(&self) -> &[SegmentInfo] {
        &self.infos
    }

    #[must_use]
    pub fn data(&self) -> &[T] {
        &self.data
    }

    /// Index of the segment that holds `offset`: the last whose base is at or below it.
    #[must_use]
    pub fn floor(&self, offset: Offset) -> Option<usize> {
        let _ = offset;
        unimplemented!()
    }

    /// Index of the first segment with a record timestamp at or after `target`.
    #[must_use]
    pub fn first_at_or_after(&self, target: TimestampMs) -> Option<usize> {
        let _ = target;
        unimplemented!()
    }
}

/// Retention settings; -1 means no limit.
#[derive(Clone, Copy, Debug)]
pub struct Retention {
    pub retention_ms: i64,
    pub retention_bytes: i64,
    pub log_start: Offset,
    /// Only segments that end at or below it may go.
    pub high_watermark: Offset,
}

/// How many of the oldest segments may be dropped now.
#[must_use]
pub fn retention_plan(segments: &[SegmentInfo], rules: &Retention, now: TimestampMs) -> usize {
    let _ = (segments, rules, now);
    unimplemented!()
}

//! When the active segment gives way to a new one.

use crate::model::{Offset, TimestampMs};

/// Why a segment is rolled.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Reason {
    /// segment.bytes
    Size,
    /// segment.ms
    Age,
    /// segment.index.bytes
    IndexFull,
    /// The offset no longer fits in 31 bits relative to the base.
    OffsetRange,
}

/// The active segment.
#[derive(Clone, Copy, Debug)]
pub struct Active {
    pub base_offset: Offset,
    /// Bytes of batches.
    pub bytes: u64,
    /// The first batch's max timestamp; `NONE` when empty or the batch has none.
    pub first_timestamp: TimestampMs,
    pub created: TimestampMs,
    pub indexes_full: bool,
}

/// The batch about to be appended.
#[derive(Clone, Copy, Debug)]
pub struct Incoming {
    pub bytes: u64,
    pub last_offset: Offset,
    pub max_timestamp: TimestampMs,
}

#[derive(Clone, Copy, Debug)]
pub struct Limits {
    pub segment_bytes: u64,
    pub segment_ms: i64,
    /// This segment's share of segment.jitter.ms.
    pub jitter_ms: i64,
}

/// Whether the batch must go to a new segment.
#[must_use]
pub fn should_roll(
    active: &Active,
    incoming: &Incoming,
    limits: &Limits,
    now: TimestampMs,
) -> Option<Reason> {
    let _ = (active, incoming, limits, now);
    unimplemented!()
}

//! The verdict on a segment's bytes after an unclean stop.

use crate::model::{LeaderEpoch, Offset};
use crate::protocol::batch::BatchHeader;

/// Whether a log's offsets follow each other without gaps.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Offsets {
    /// Each batch begins where the one before ends.
    Dense,
    /// Compaction may have left gaps, and batches with fewer records than offsets.
    Gaps,
}

/// Where a scan begins and what must hold there.
#[derive(Clone, Copy, Debug)]
pub struct Start {
    /// The segment's base offset.
    pub base_offset: Offset,
    /// Position in the file of the first byte fed.
    pub position: u64,
    /// The offset the first batch must (`Dense`) or may at least (`Gaps`) have.
    pub next_offset: Offset,
    /// No batch may have a lower epoch.
    pub last_epoch: LeaderEpoch,
    pub offsets: Offsets,
    /// No batch is longer: the largest segment.bytes the topic may have had.
    pub max_batch_bytes: u64,
}

/// Why the scan ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Reason {
    /// Nothing, or only zeros, after the last good batch.
    CleanEnd,
    /// The bytes end inside a batch.
    Torn {
        have: u64,
        need: u64,
    },
    BadCrc {
        base_offset: Offset,
        stored: u32,
        computed: u32,
    },
    /// The header cannot be one.
    BadHeader {
        what: &'static str,
    },
    OffsetOutOfOrder {
        expected: Offset,
        found: Offset,
    },
    EpochOutOfOrder {
        last: LeaderEpoch,
        found: LeaderEpoch,
    },
    /// A hole of zeros with data behind it.
    DataAfterZeros {
        position: u64,
    },
}

/// What to keep.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Verdict {
    /// Position in the file where the good batches end.
    pub valid_bytes: u64,
    /// The offset after the last good batch.
    pub next_offset: Offset,
    pub last_epoch: LeaderEpoch,
    pub reason: Reason,
}

/// Whether more bytes are of use.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Progress {
    More,
    /// The verdict is certain; what follows need not be read.
    Done,
}

/// Fed with a segment's bytes in order, in chunks of any size. Holds one header, never a batch.
#[derive(Clone, Debug)]
pub struct Scanner {
    _todo: (),
}

impl Scanner {
    #[must_use]
    pub fn new(start: Start) -> Scanner {
        let _ = start;
        unimplemented!()
    }

    /// The next bytes of the file. `each` gets every batch that is found good, with its position.
    pub fn feed(&mut self, chunk: &[u8], each: &mut dyn FnMut(&BatchHeader, u64)) -> Progress {
        let _ = (chunk, each);
        unimplemented!()
    }

    /// No more bytes: the verdict.
    #[must_use]
    pub fn finish(self) -> Verdict {
        unimplemented!()
    }
}

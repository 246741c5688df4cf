//! Idempotence: what each producer last appended to one partition, and the verdict on its next batch.

use crate::model::{ErrorCode, Offset, ProducerEpoch, ProducerId, TimestampMs};
use crate::protocol::batch::BatchHeader;

/// Batches remembered per producer: what a client may have in flight.
pub const BATCHES_RETAINED: usize = 5;
/// What one producer is counted as against the memory budget.
pub const ENTRY_MEMORY_BYTES: usize = 256;

/// What to do with a batch.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    Append,
    /// Already in the log (not necessarily durable yet): answer success with these. Inclusive last offset.
    Duplicate {
        base_offset: Offset,
        last_offset: Offset,
        timestamp: TimestampMs,
    },
    Refuse(ErrorCode),
}

/// All producers of one partition.
#[derive(Clone, Debug, Default)]
pub struct ProducerStates {
    _todo: (),
}

/// How a transaction ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum EndTxn {
    Commit,
    Abort,
}

/// A transaction that a marker has just ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct CompletedTxn {
    pub producer_id: ProducerId,
    pub first_offset: Offset,
    /// The marker's.
    pub last_offset: Offset,
    pub end: EndTxn,
}

/// The payload of a control batch that ends a transaction.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Marker {
    pub producer_id: ProducerId,
    pub producer_epoch: ProducerEpoch,
    pub coordinator_epoch: i32,
    pub end: EndTxn,
    pub offset: Offset,
    pub timestamp: TimestampMs,
}

impl ProducerStates {
    /// Kafka's rules for a client's batch; a batch without a producer id is always `Append`. Changes nothing.
    #[must_use]
    pub fn check(&self, header: &BatchHeader) -> Verdict {
        let _ = header;
        unimplemented!()
    }

    /// Notes a data batch that was given `base_offset`. Called when its place is fixed, before it is durable, and for
    /// every batch that is read at recovery. Does not check.
    pub fn apply(&mut self, header: &BatchHeader, base_offset: Offset) {
        let _ = (header, base_offset);
        unimplemented!()
    }

    /// Notes a control batch.
    pub fn apply_marker(&mut self, marker: Marker) -> Option<CompletedTxn> {
        let _ = marker;
        unimplemented!()
    }

    /// Forgets producers without an open transaction whose last timestamp is `after_ms` or more ago.
    pub fn expire(&mut self, now: TimestampMs, after_ms: i64) {
        let _ = (now, after_ms);
        unimplemented!()
    }

    /// Forgets the producers that were silent longest (by offset) until `bytes` or fewer are used; those with an open
    /// transaction stay. Returns how many were forgotten.
    pub fn shed(&mut self, bytes: usize) -> usize {
        let _ = bytes;
        unimplemented!()
    }

    /// First offset of the oldest open transaction.
    #[must_use]
    pub fn first_undecided(&self) -> Option<Offset> {
        unimplemented!()
    }

    /// What the producers are counted as against the memory budget.
    #[must_use]
    pub fn memory_bytes(&self) -> usize {
        self.len() * ENTRY_MEMORY_BYTES
    }

    #[must_use]
    pub fn len(&self) -> usize {
        unimplemented!()
    }

    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    pub fn clear(&mut self) {
        unimplemented!()
    }
}

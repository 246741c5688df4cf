//! The leader epochs a log's batches were appended in, and where each begins.

use super::Damage;
use crate::model::{LeaderEpoch, Offset};

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct EpochEntry {
    pub epoch: LeaderEpoch,
    /// Offset of the first batch of that epoch.
    pub start: Offset,
}

/// Entries grow in both columns.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct EpochCache {
    entries: Vec<EpochEntry>,
}

impl EpochCache {
    /// A batch of `epoch` is appended at `start`. True when the cache changed: the checkpoint must be written before
    /// the batch counts as durable.
    pub fn assign(&mut self, epoch: LeaderEpoch, start: Offset) -> bool {
        let _ = (epoch, start);
        unimplemented!()
    }

    /// `NONE` when empty.
    #[must_use]
    pub fn last_epoch(&self) -> LeaderEpoch {
        self.entries.last().map_or(LeaderEpoch::NONE, |entry| entry.epoch)
    }

    /// The epoch in force at `offset`; `NONE` before the first.
    #[must_use]
    pub fn epoch_at(&self, offset: Offset) -> LeaderEpoch {
        let _ = offset;
        unimplemented!()
    }

    /// Kafka's `endOffsetFor`: (epoch, its exclusive end), or (NONE, NONE) when unknown.
    #[must_use]
    pub fn end_offset_for(&self, epoch: LeaderEpoch, log_end: Offset) -> (LeaderEpoch, Offset) {
        let _ = (epoch, log_end);
        unimplemented!()
    }

    /// The log now starts at `start`. True when the cache changed.
    pub fn truncate_from_start(&mut self, start: Offset) -> bool {
        let _ = start;
        unimplemented!()
    }

    /// The log now ends at `end`. True when the cache changed.
    pub fn truncate_from_end(&mut self, end: Offset) -> bool {
        let _ = end;
        unimplemented!()
    }

    #[must_use]
    pub fn entries(&self) -> &[EpochEntry] {
        &self.entries
    }

    /// The text of `leader-epoch-checkpoint`.
    #[must_use]
    pub fn encode(&self) -> String {
        unimplemented!()
    }

    /// # Errors
    /// What is wrong; the cache is to be rebuilt from the batches.
    pub fn decode(text: &str) -> Result<EpochCache, Damage> {
        let _ = text;
        unimplemented!()
    }
}

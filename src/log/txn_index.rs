//! The transaction index of one segment: the aborted transactions whose marker lies in it.

use super::Damage;
use crate::model::{Offset, ProducerId};

/// One entry on disk: i16 version = 0, then the four fields as i64.
pub const ENTRY_BYTES: usize = 34;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct AbortedTxn {
    pub producer_id: ProducerId,
    pub first_offset: Offset,
    /// The abort marker's.
    pub last_offset: Offset,
    /// The last stable offset when the marker was appended.
    pub last_stable_offset: Offset,
}

#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct TxnIndex {
    entries: Vec<AbortedTxn>,
}

impl TxnIndex {
    /// False, and nothing noted, when the last offset does not grow.
    pub fn append(&mut self, txn: AbortedTxn) -> bool {
        let _ = txn;
        unimplemented!()
    }

    /// Adds to `found` the transactions that overlap `fetch..upper_bound`. True when later segments cannot hold more.
    pub fn collect(&self, fetch: Offset, upper_bound: Offset, found: &mut Vec<AbortedTxn>) -> bool {
        let _ = (fetch, upper_bound, found);
        unimplemented!()
    }

    /// Drops entries whose marker is at or after `end`.
    pub fn truncate_to(&mut self, end: Offset) {
        let _ = end;
        unimplemented!()
    }

    #[must_use]
    pub fn entries(&self) -> &[AbortedTxn] {
        &self.entries
    }

    pub fn encode(&self, from: usize, out: &mut Vec<u8>) {
        let _ = (from, out);
        unimplemented!()
    }

    /// # Errors
    /// What is wrong; the index is to be rebuilt from the log.
    pub fn decode(base: Offset, bytes: &[u8]) -> Result<TxnIndex, Damage> {
        let _ = (base, bytes);
        unimplemented!()
    }
}

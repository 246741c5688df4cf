//! The transaction index of one segment: the aborted transactions whose marker lies in it. A transaction may have
//! begun in an earlier segment. A segment without aborts has no such file.
//!
//! Markers grow. Source: Kafka's `TransactionIndex`, schema `AbortedTxn.json`.

use super::Damage;
use super::offset_index::used_entries;
use crate::model::{Offset, ProducerId};

/// One entry on disk: i16 version = 0, then the four fields as i64.
pub const ENTRY_BYTES: usize = 34;
const VERSION: i16 = 0;

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
        if self.entries.last().is_some_and(|last| last.last_offset >= txn.last_offset) {
            return false;
        }
        self.entries.push(txn);
        true
    }

    /// Adds to `found` the transactions that overlap `fetch..upper_bound` (exclusive). True when the search is over: at
    /// the marker of an entry everything below its last stable offset was decided, so no later marker can end a
    /// transaction that began in the range.
    pub fn collect(&self, fetch: Offset, upper_bound: Offset, found: &mut Vec<AbortedTxn>) -> bool {
        for txn in &self.entries {
            if txn.last_offset >= fetch && txn.first_offset < upper_bound {
                found.push(*txn);
            }
            if txn.last_stable_offset >= upper_bound {
                return true;
            }
        }
        false
    }

    /// Drops entries whose marker is at or after `end`.
    pub fn truncate_to(&mut self, end: Offset) {
        let count = self.entries.partition_point(|txn| txn.last_offset < end);
        self.entries.truncate(count);
    }

    #[must_use]
    pub fn entries(&self) -> &[AbortedTxn] {
        &self.entries
    }

    /// The file's bytes from entry `from` on (0: all of it).
    pub fn encode(&self, from: usize, out: &mut Vec<u8>) {
        out.reserve((self.entries.len() - from) * ENTRY_BYTES);
        for txn in &self.entries[from..] {
            out.extend_from_slice(&VERSION.to_be_bytes());
            for field in [txn.producer_id.0, txn.first_offset.0, txn.last_offset.0, txn.last_stable_offset.0]
            {
                out.extend_from_slice(&field.to_be_bytes());
            }
        }
    }

    /// Reads a file. Trailing zeros of a preallocated file are dropped; markers must grow and lie at or above the
    /// segment's base.
    ///
    /// # Errors
    /// What is wrong; the index is to be rebuilt from the log.
    pub fn decode(base: Offset, bytes: &[u8]) -> Result<TxnIndex, Damage> {
        let used = used_entries(bytes, ENTRY_BYTES, "transaction index")?;
        let mut index = TxnIndex { entries: Vec::with_capacity(used.len() / ENTRY_BYTES) };
        for (number, entry) in used.chunks_exact(ENTRY_BYTES).enumerate() {
            let (version, fields) = entry.split_at(2);
            if version != VERSION.to_be_bytes() {
                return Err(Damage(format!(
                    "transaction index entry {number} has unknown version {version:?}"
                )));
            }
            let field =
                |at: usize| i64::from_be_bytes(fields[at * 8..at * 8 + 8].try_into().expect("eight bytes"));
            let txn = AbortedTxn {
                producer_id: ProducerId(field(0)),
                first_offset: Offset(field(1)),
                last_offset: Offset(field(2)),
                last_stable_offset: Offset(field(3)),
            };
            if txn.last_offset < base || !index.append(txn) {
                return Err(Damage(format!(
                    "transaction index entry {number} (marker at {}) does not grow or lies below the base {base}",
                    txn.last_offset
                )));
            }
        }
        Ok(index)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn txn(first: i64, last: i64, stable: i64) -> AbortedTxn {
        AbortedTxn {
            producer_id: ProducerId(first * 7),
            first_offset: Offset(first),
            last_offset: Offset(last),
            last_stable_offset: Offset(stable),
        }
    }

    fn index(txns: &[AbortedTxn]) -> TxnIndex {
        let mut index = TxnIndex::default();
        for &txn in txns {
            assert!(index.append(txn));
        }
        index
    }

    #[test]
    fn collects_what_overlaps() {
        let all = [txn(0, 10, 11), txn(5, 15, 13), txn(20, 30, 40), txn(21, 45, 46)];
        let index = index(&all);
        let check = |fetch: i64, upper: i64, expect: &[AbortedTxn], over: bool| {
            let mut found = Vec::new();
            assert_eq!(index.collect(Offset(fetch), Offset(upper), &mut found), over, "{fetch}..{upper}");
            assert_eq!(found, expect, "{fetch}..{upper}");
        };
        check(0, 100, &all, false);
        check(0, 46, &all, true);
        check(0, 32, &all[..3], true);
        check(0, 5, &all[..1], true);
        check(10, 13, &all[..2], true);
        check(11, 13, &all[1..2], true);
        check(16, 20, &[], true);
        check(16, 21, &all[2..3], true);
        check(46, 100, &[], false);
    }

    #[test]
    fn bytes_are_kafkas_and_come_back() {
        let index = index(&[txn(1, 10, 11), txn(5, 15, 16)]);
        let mut encoded = Vec::new();
        index.encode(0, &mut encoded);
        assert_eq!(encoded.len(), 2 * ENTRY_BYTES);
        assert_eq!(&encoded[..18], [0, 0, 0, 0, 0, 0, 0, 0, 0, 7, 0, 0, 0, 0, 0, 0, 0, 1]);
        assert_eq!(&encoded[18..34], [0, 0, 0, 0, 0, 0, 0, 10, 0, 0, 0, 0, 0, 0, 0, 11]);
        for zeros in [0, 5, 4096] {
            let mut padded = encoded.clone();
            padded.resize(encoded.len() + zeros, 0);
            assert_eq!(TxnIndex::decode(Offset(3), &padded).unwrap(), index);
        }
        assert!(TxnIndex::decode(Offset(11), &encoded).is_err(), "marker below the base");
        assert!(TxnIndex::decode(Offset(3), &encoded[..67]).is_err());
        assert!(TxnIndex::decode(Offset(3), &[&encoded[34..], &encoded[..34]].concat()).is_err());
        encoded[1] = 1;
        assert!(TxnIndex::decode(Offset(3), &encoded).is_err());
    }

    #[test]
    fn markers_grow_and_truncate_drops_the_end_itself() {
        let mut index = index(&[txn(0, 10, 11), txn(5, 15, 13)]);
        assert!(!index.append(txn(1, 15, 16)) && !index.append(txn(1, 14, 16)));
        index.truncate_to(Offset(15));
        assert_eq!(index.entries(), [txn(0, 10, 11)]);
        index.truncate_to(Offset(0));
        assert!(index.entries().is_empty());
    }
}

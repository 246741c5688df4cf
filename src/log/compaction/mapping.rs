//! The first pass of a cleaning: the dirty part's keys go into the map.

use super::transactions::Transactions;
use super::{KeyMap, decode, each_record, offset_of};
use crate::model::Offset;
use crate::protocol::batch::BatchHeader;

/// Whether more batches are of use.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mapped {
    Whole,
    /// The records cannot be decoded: the batch has no keys here, and stays.
    Unknown,
    /// The map is full: this batch and those behind it are not in it.
    Full,
}

/// Fed with the batches from the one that holds the first dirty offset on, in order.
pub struct Mapping {
    map: KeyMap,
    transactions: Transactions,
    from: Offset,
    end: Offset,
}

impl Mapping {
    /// Records below `from` are clean already. `transactions` knows the aborted ones that reach into the dirty part.
    #[must_use]
    pub fn new(map: KeyMap, transactions: Transactions, from: Offset) -> Mapping {
        Mapping { map, transactions, from, end: from }
    }

    pub fn batch(&mut self, header: &BatchHeader, batch: &[u8]) -> Mapped {
        let mut mapped = Mapped::Whole;
        if header.is_control() {
            self.transactions.control_batch(header, batch);
        } else if !self.transactions.data_batch(header) && header.next_offset() > self.from {
            match decode(header, batch) {
                None => mapped = Mapped::Unknown,
                Some(bytes) => {
                    for record in each_record(header, &bytes) {
                        let offset = offset_of(header, &record);
                        let Some(key) = record.key.filter(|_| offset >= self.from) else { continue };
                        if !self.map.put(&bytes[key], offset) {
                            return Mapped::Full;
                        }
                    }
                }
            }
        }
        self.end = self.end.max(header.next_offset());
        mapped
    }

    /// The map, and the offset up to which (exclusive) it knows everything. Offsets noted at or above it are of a batch
    /// that was not taken up whole.
    #[must_use]
    pub fn finish(self) -> (KeyMap, Offset) {
        (self.map, self.end)
    }
}

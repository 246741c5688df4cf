//! Which transactions of the batches that pass were aborted, and which markers nobody needs any more.
//!
//! A marker is needed as long as a batch of its transaction is in the log. Source: Kafka's `CleanedTransactionMetadata`.

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use super::{decode, each_record};
use crate::log::txn_index::AbortedTxn;
use crate::model::{Offset, ProducerId};
use crate::protocol::batch::BatchHeader;

/// An aborted transaction under way.
struct Aborted {
    txn: AbortedTxn,
    /// A batch of it has passed in this cleaning.
    has_batches: bool,
}

/// Fed with batches in order.
#[derive(Default)]
pub struct Transactions {
    /// By first offset; those that have not begun yet.
    to_come: VecDeque<AbortedTxn>,
    aborted: BTreeMap<ProducerId, Aborted>,
    committed: BTreeSet<ProducerId>,
    /// Markers that were kept, for the cleaned segment's index.
    kept: Vec<AbortedTxn>,
}

/// What a control batch says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Marker {
    Abort,
    Commit,
    /// Not of a transaction, or not known.
    Other,
    /// Its record is gone already.
    Empty,
}

impl Transactions {
    /// `aborted`: from the transaction indexes; `from`: where the first batch that is fed begins. A transaction whose
    /// marker lies below has nothing to say of what comes.
    #[must_use]
    pub fn new(mut aborted: Vec<AbortedTxn>, from: Offset) -> Transactions {
        aborted.retain(|txn| txn.last_offset >= from);
        aborted.sort_unstable_by_key(|txn| (txn.first_offset, txn.last_offset));
        aborted.dedup();
        Transactions { to_come: aborted.into(), ..Transactions::default() }
    }

    /// A data batch passes; whether its transaction was aborted.
    pub fn data_batch(&mut self, header: &BatchHeader) -> bool {
        self.begin_up_to(header);
        if !header.is_transactional() {
            return false;
        }
        match self.aborted.get_mut(&header.producer_id) {
            Some(aborted) => {
                aborted.has_batches = true;
                true
            }
            None => {
                self.committed.insert(header.producer_id);
                false
            }
        }
    }

    /// A control batch passes; whether it is a marker that nobody needs: no batch of its transaction has passed.
    pub fn control_batch(&mut self, header: &BatchHeader, batch: &[u8]) -> bool {
        self.begin_up_to(header);
        match marker(header, batch) {
            Marker::Abort => match self.aborted.remove(&header.producer_id) {
                Some(aborted) if aborted.has_batches => {
                    self.kept.push(aborted.txn);
                    false
                }
                _ => true,
            },
            Marker::Commit => !self.committed.remove(&header.producer_id),
            Marker::Other => false,
            Marker::Empty => true,
        }
    }

    /// The aborted transactions whose markers were kept since the last call, in the order of the markers.
    pub fn take_kept(&mut self) -> Vec<AbortedTxn> {
        std::mem::take(&mut self.kept)
    }

    fn begin_up_to(&mut self, header: &BatchHeader) {
        while let Some(txn) = self.to_come.pop_front_if(|txn| txn.first_offset <= header.last_offset()) {
            self.aborted.entry(txn.producer_id).or_insert(Aborted { txn, has_batches: false });
        }
    }
}

/// The type stands in the key: i16 version, i16 type.
fn marker(header: &BatchHeader, batch: &[u8]) -> Marker {
    if header.record_count == 0 {
        return Marker::Empty;
    }
    let Some(bytes) = decode(header, batch) else { return Marker::Other };
    let key = each_record(header, &bytes).next().and_then(|record| record.key).map(|key| &bytes[key]);
    match key {
        Some([_, _, 0, 0, ..]) => Marker::Abort,
        Some([_, _, 0, 1, ..]) => Marker::Commit,
        _ => Marker::Other,
    }
}

//! The second pass of a cleaning: what is left of each batch.

use std::borrow::Cow;
use std::collections::BTreeMap;

use super::transactions::Transactions;
use super::{KeyMap, decode, each_record, offset_of};
use crate::log::producer_state::LastBatch;
use crate::log::txn_index::AbortedTxn;
use crate::model::{Offset, ProducerId, TimestampMs};
use crate::protocol::batch::{BatchHeader, Codec, Rewritten, TimestampType, with_records, without_records};
use crate::protocol::compression;
use crate::protocol::records::{Record, put_with_timestamp_delta};

/// What is left of a batch.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Kept {
    /// Everything, byte for byte.
    Whole,
    /// As [`Kept::Whole`], because its records cannot be decoded (or not be compressed again): tell the operator.
    Unknown,
    /// These bytes instead.
    Changed(Vec<u8>),
    /// A header without records.
    Emptied(Vec<u8>),
    Nothing,
}

/// What a cleaning starts from.
pub struct Filter {
    map: KeyMap,
    /// Exclusive: what is at or above is not known to the map, and stays.
    map_end: Offset,
    now: TimestampMs,
    delete_retention_ms: i64,
    /// Of the producers that are active.
    last_batches: BTreeMap<ProducerId, LastBatch>,
    transactions: Transactions,
    /// The batch that ends here (exclusive) is the last of its segment.
    segment_end: Offset,
    /// A batch that could not be decoded has passed.
    met_unknown: bool,
}

/// What decides of one batch, besides its records.
struct Fate {
    /// Its records are of no use to anybody, whatever they are.
    discard: bool,
    /// Its header stays.
    stays: bool,
    /// It is a marker whose transaction is gone: its time begins to run.
    is_done_marker: bool,
}

impl Filter {
    /// `map` knows everything from the first dirty offset up to `map_end`; `transactions` the aborted ones from the log's
    /// start on; `now` is when the cleaning began.
    #[must_use]
    pub fn new(
        (map, map_end): (KeyMap, Offset),
        transactions: Transactions,
        last_batches: BTreeMap<ProducerId, LastBatch>,
        now: TimestampMs,
        delete_retention_ms: i64,
    ) -> Filter {
        Filter {
            map,
            map_end,
            now,
            delete_retention_ms,
            last_batches,
            transactions,
            segment_end: Offset::NONE,
            met_unknown: false,
        }
    }

    /// The next batches go to a segment that ends here (exclusive): where the one behind it begins.
    pub fn begin_segment(&mut self, end: Offset) {
        self.segment_end = end;
    }

    /// The aborted transactions whose markers are in the segment, for its index; all of its batches have passed.
    pub fn end_segment(&mut self) -> Vec<AbortedTxn> {
        self.transactions.take_kept()
    }

    /// Batches come in order, from the log's start on. `batch` is whole and matches its checksum.
    pub fn batch(&mut self, header: &BatchHeader, batch: &[u8]) -> Kept {
        let fate = self.fate(header, batch);
        let left = |records: usize| match (records, fate.stays) {
            (0, false) => Some(Kept::Nothing),
            (0, true) if header.record_count == 0 => Some(Kept::Whole),
            (0, true) => Some(Kept::Emptied(without_records(batch))),
            _ => None,
        };
        if header.record_count == 0 || fate.discard {
            return left(0).expect("nothing is left");
        }
        let starts_a_horizon = fate.is_done_marker && header.delete_horizon().is_none();
        if (header.base_offset >= self.map_end || header.is_control()) && !starts_a_horizon {
            return Kept::Whole;
        }
        let Some(bytes) = decode(header, batch) else {
            self.met_unknown = true;
            return Kept::Unknown;
        };
        let mut has_tombstones = false;
        let retained: Vec<bool> = each_record(header, &bytes)
            .map(|record| {
                let verdict =
                    if header.is_control() { Verdict::Kept } else { self.record(header, &record, &bytes) };
                has_tombstones |= verdict == Verdict::Tombstone;
                verdict != Verdict::Gone
            })
            .collect();
        let count = retained.iter().filter(|kept| **kept).count();
        if let Some(kept) = left(count) {
            return kept;
        }
        let horizon = ((has_tombstones || starts_a_horizon) && header.delete_horizon().is_none())
            .then(|| TimestampMs(self.now.0.saturating_add(self.delete_retention_ms.max(0))));
        if count == retained.len() && horizon.is_none() {
            return Kept::Whole;
        }
        match rebuild(header, batch, &bytes, &retained, horizon) {
            Some(changed) => Kept::Changed(changed),
            None => {
                self.met_unknown = true;
                Kept::Unknown
            }
        }
    }

    #[cfg(test)]
    pub(super) fn last_batches_for_test(&mut self, producer: ProducerId, last: LastBatch) {
        self.last_batches.insert(producer, last);
    }

    fn fate(&mut self, header: &BatchHeader, batch: &[u8]) -> Fate {
        let (discard, is_done_marker) = if header.is_control() {
            let is_done = self.transactions.control_batch(header, batch);
            let is_over = header.delete_horizon().is_some_and(|horizon| horizon <= self.now);
            (is_done && is_over, is_done)
        } else {
            (self.transactions.data_batch(header), false)
        };
        let is_last_of_producer = self.last_batches.get(&header.producer_id).is_some_and(|last| match last {
            LastBatch::Data(offset) => *offset == header.last_offset(),
            // its producer is known by a marker alone, which has the epoch
            LastBatch::Marker(epoch) => header.is_control() && *epoch == header.producer_epoch,
        });
        let stays = is_last_of_producer || header.next_offset() == self.segment_end;
        Fate { discard, stays, is_done_marker }
    }

    fn record(&self, header: &BatchHeader, record: &Record, bytes: &[u8]) -> Verdict {
        let offset = offset_of(header, record);
        if offset >= self.map_end {
            return Verdict::Kept;
        }
        let Some(key) = record.key.clone() else { return Verdict::Gone };
        if self.map.get(&bytes[key]).is_some_and(|last| offset < last) {
            return Verdict::Gone;
        }
        let is_over = header.delete_horizon().is_some_and(|horizon| horizon <= self.now);
        match record.value {
            Some(_) => Verdict::Kept,
            None if is_over && !self.met_unknown => Verdict::Gone,
            None => Verdict::Tombstone,
        }
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Verdict {
    Kept,
    /// Kept, and it is one.
    Tombstone,
    Gone,
}

/// The batch with those of its records that are retained, compressed as before; `None` if that cannot be.
fn rebuild(
    header: &BatchHeader,
    batch: &[u8],
    bytes: &[u8],
    retained: &[bool],
    horizon: Option<TimestampMs>,
) -> Option<Vec<u8>> {
    let codec = header.codec()?;
    let (mut records, mut count) = (Vec::new(), 0);
    let mut max_timestamp = TimestampMs::NONE;
    for (record, _) in each_record(header, bytes).zip(retained).filter(|(_, kept)| **kept) {
        count += 1;
        let timestamp = record.timestamp(header);
        max_timestamp = max_timestamp.max(timestamp);
        let span = &bytes[record.span.clone()];
        match horizon {
            // under the broker's time a record's own delta says nothing
            Some(horizon) if header.timestamp_type() == TimestampType::CreateTime => {
                put_with_timestamp_delta(span, timestamp.0.saturating_sub(horizon.0), &mut records)?;
            }
            _ => records.extend_from_slice(span),
        }
    }
    let packed = match codec {
        Codec::None => Cow::Borrowed(&records),
        codec => Cow::Owned(compression::compress(codec.into(), &records)?),
    };
    let change = Rewritten { delete_horizon: horizon, max_timestamp, record_count: count };
    with_records(batch, &change, &packed)
}

//! The model: what one log should hold.

use std::collections::BTreeMap;
use std::ops::Range;

use bytes::Bytes;

use super::{Check, check};
use crate::model::{LeaderEpoch, Offset};
use crate::protocol::batch::{BatchHeader, HEADER_BYTES};
use crate::protocol::records::Records;

/// One batch as it was appended.
#[derive(Clone)]
pub struct Appended {
    pub base: Offset,
    pub end: Offset,
    pub raw: Bytes,
    pub header: BatchHeader,
    pub epoch: LeaderEpoch,
    pub stored: Vec<u8>,
}

/// Offset, key and value of a record.
pub type Keyed = (i64, Vec<u8>, Option<Vec<u8>>);

/// The records of a batch as it is in the log; all have keys.
pub fn keyed(header: &BatchHeader, batch: &[u8]) -> Result<Vec<Keyed>, String> {
    let bytes = &batch[HEADER_BYTES..];
    let copy = |range: Range<usize>| bytes[range].to_vec();
    Records::new(header, bytes)
        .map(|record| {
            let record = record.map_err(|error| format!("batch at {}: {error}", header.base_offset))?;
            let offset = header.base_offset.0 + i64::from(record.offset_delta);
            Ok((offset, record.key.map(copy).unwrap_or_default(), record.value.map(copy)))
        })
        .collect()
}

/// What one log should hold.
#[derive(Default)]
pub struct Expected {
    pub topic: u128,
    /// It was opened once: its folder is durable.
    pub created: bool,
    /// Where the first batch begins: above zero where the log has begun anew.
    pub base: Offset,
    pub batches: Vec<Appended>,
    pub durable: Offset,
    /// The highest log start that was told, and that was asked for.
    pub start: Offset,
    pub asked: Offset,
    /// A truncation has begun, and not ended.
    pub cutting: Option<Cut>,
    /// How many have ended.
    pub cuts: u64,
    pub producer_epoch: i16,
    /// What may have been damaged on the disk, as offsets.
    pub rotten: Vec<Range<Offset>>,
    /// A batch's base offset has rotted: only what lies around it tells, so nothing else may.
    pub misplaced: bool,
    /// Producers are known by their batches only.
    pub lost_snapshots: bool,
}

/// A truncation as it was asked for.
#[derive(Clone, Copy, Debug)]
pub enum Cut {
    To(Offset),
    All(Offset),
}

impl Expected {
    /// A log start is told: it never goes back.
    pub fn told(&mut self, start: Offset) -> Check {
        check!(start >= self.start, "the log started at {}, and at {start} after that", self.start);
        self.start = start;
        Ok(())
    }

    pub fn end(&self) -> Offset {
        self.batches.last().map_or(self.base, |batch| batch.end)
    }

    /// Whether a log that was cut may start and end there. Retention may have moved its start without a word.
    pub fn may_be_cut(&self, cut: Cut, (start, end): (Offset, Offset)) -> bool {
        let is_empty = start == end;
        match cut {
            Cut::All(at) => is_empty && end == at,
            Cut::To(to) => {
                let kept = self.batches.partition_point(|batch| batch.end <= to);
                let floor = kept.checked_sub(1).map_or(self.base, |last| self.batches[last].end);
                let is_cut = end == floor && start >= self.start && start <= end;
                // it begins anew: below its start, or because the batch it started in is gone
                is_cut || (is_empty && (end == to || (end > floor && end >= self.start && end <= self.end())))
            }
        }
    }

    /// It was cut, and starts and ends there. An empty log may know its producers or not.
    pub fn has_been_cut(&mut self, (start, end): (Offset, Offset)) {
        self.batches.retain(|batch| batch.end <= end);
        if start == end {
            self.batches.clear();
            self.base = end;
            self.producer_epoch += 1;
        }
        (self.start, self.asked, self.durable) = (start, self.asked.max(start), end);
        (self.cutting, self.cuts) = (None, self.cuts + 1);
    }

    /// Damage at the log's end looks like a torn write: what lies behind it is cut. In a log with gaps it may be any. Of a
    /// batch that the log starts in, no more is known to have been flushed than that start.
    pub fn may_end_at(&self, end: Offset, gaps: bool) -> bool {
        let is_start = |damage: &Range<Offset>| damage.contains(&end) && end <= self.asked;
        self.rotten
            .iter()
            .any(|damage| damage.start == end || (gaps && damage.start < end) || is_start(damage))
    }

    /// Where the damage that a read at `offset` met ends, if there is any. In a log without gaps it begins there.
    pub fn end_of_damage(&self, offset: Offset, gaps: bool) -> Option<Offset> {
        let met = self.rotten.iter().filter(|damage| offset < damage.end && (gaps || damage.start <= offset));
        met.map(|damage| damage.end).min()
    }

    /// All records with offsets in the range.
    pub fn keyed(&self, range: Range<Offset>) -> Result<BTreeMap<i64, Keyed>, String> {
        let mut records = BTreeMap::new();
        let from = self.above(range.start);
        for batch in self.batches[from..].iter().take_while(|batch| batch.base < range.end) {
            let header = BatchHeader::parse(&batch.stored).map_err(|error| error.to_string())?;
            for record in keyed(&header, &batch.stored)? {
                records.insert(record.0, record);
            }
        }
        Ok(records.split_off(&range.start.0))
    }

    /// The first batch that ends above `offset`.
    pub fn above(&self, offset: Offset) -> usize {
        self.batches.partition_point(|batch| batch.end <= offset)
    }

    pub fn producer_batches(&self, producer: i64) -> impl DoubleEndedIterator<Item = &Appended> {
        let is_its = move |header: &BatchHeader| {
            header.producer_id.0 == producer && header.producer_epoch.0 == self.producer_epoch
        };
        self.batches.iter().filter(move |batch| is_its(&batch.header))
    }

    pub fn bytes(&self, from: Offset, to: Offset) -> Vec<u8> {
        let (first, last) = (self.above(from), self.above(to));
        let mut bytes = Vec::new();
        self.batches[first..last].iter().for_each(|batch| bytes.extend_from_slice(&batch.stored));
        bytes
    }
}

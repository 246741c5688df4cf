//! Compaction: the last record of each key is kept. Pure; the shell (`storage/cleaner`) reads, writes and swaps.
//!
//! One cleaning of a log: [`plan`] says which part is dirty and may be cleaned; [`Mapping`] reads the dirty part and
//! notes the last offset of each key in a [`KeyMap`]; [`Filter`] goes through everything from the log's start to where
//! the map ends, in order, and says of each batch what is left of it.
//!
//! Invariants
//! - Offsets never change. A batch that stays keeps base offset, offset range, producer, sequence, epochs and
//!   timestamp type; one that nothing is taken from stays byte for byte.
//! - A record goes only if a later record of its key is in the map, if it is a tombstone whose time is over, if it has
//!   no key, or if its transaction was aborted.
//! - The last batch of every active producer stays, emptied if need be (its sequence), and so does the last batch of
//!   every segment: a compacted segment ends where the next begins, so that a lost end is still found.
//! - A batch that cannot be decoded stays as it is. What it holds is unknown, so from there on tombstones stay, too: one
//!   may be all that hides a record in it.
//! - Groups of segments are replaced in the order of their offsets: a tombstone is never gone before what it hides.
//!
//! Source of the rules: Kafka's `Cleaner`, `LogCleanerManager`, `CleanedTransactionMetadata`, `MemoryRecords.filterTo`.

mod filter;
mod key_map;
mod mapping;
pub mod plan;
mod transactions;

use std::borrow::Cow;

pub use filter::{Filter, Kept};
pub use key_map::{BYTES_PER_SLOT, KeyMap, LOAD_PERCENT_MAX};
pub use mapping::{Mapped, Mapping};
pub use transactions::Transactions;

use crate::model::Offset;
use crate::protocol::batch::{BatchHeader, Codec, HEADER_BYTES, MAGIC, crc_matches};
use crate::protocol::compression;
use crate::protocol::records::{Record, Records};

/// A batch whose records take more is not looked into. It bounds what one step of a cleaning holds in memory: the
/// records of one batch, and what is left of them.
pub const DECOMPRESSED_BYTES_MAX: usize = 64 << 20;

/// What a topic says of compaction.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Settings {
    /// Kafka's min.cleanable.dirty.ratio.
    pub min_dirty_ratio: f64,
    /// Kafka's min.compaction.lag.ms.
    pub min_lag_ms: i64,
    /// Kafka's max.compaction.lag.ms.
    pub max_lag_ms: i64,
    /// Kafka's delete.retention.ms.
    pub delete_retention_ms: i64,
}

/// Kafka's defaults.
impl Default for Settings {
    fn default() -> Settings {
        Settings {
            min_dirty_ratio: 0.5,
            min_lag_ms: 0,
            max_lag_ms: i64::MAX,
            delete_retention_ms: 86_400_000,
        }
    }
}

/// A walk over the batches of a segment met bytes that were never written there. Nothing may be taken from such a log:
/// what is missing would no longer be found missing.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Bad(pub &'static str);

/// Where a walk over a segment's batches stands.
#[derive(Clone, Copy, Debug)]
pub struct Walk {
    /// No batch begins below.
    pub next: Offset,
    /// Exclusive; no batch goes beyond.
    pub end: Offset,
    /// The segment was never cleaned: each batch begins where the one before ends.
    pub is_dense: bool,
}

/// How far a walk came in its bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Walked {
    /// Whole batches.
    pub bytes: usize,
    /// What the batch that follows takes, if its header is there and the batch is not.
    pub needs: Option<usize>,
}

impl Walk {
    /// Gives `each` the whole batches of `bytes` until it returns false; the batch it returns false for counts as
    /// walked. Something bad behind good batches ends the walk in front of it, and is met again by the next.
    ///
    /// # Errors
    /// What comes first is bad: a checksum that does not match, a header that cannot be one, an offset out of order.
    pub fn batches(
        &mut self,
        bytes: &[u8],
        mut each: impl FnMut(&BatchHeader, &[u8]) -> bool,
    ) -> Result<Walked, Bad> {
        let mut at = 0;
        loop {
            let rest = &bytes[at..];
            if rest.len() < HEADER_BYTES {
                return Ok(Walked { bytes: at, needs: None });
            }
            let (header, batch) = match self.next_batch(rest) {
                Ok((header, Some(batch))) => (header, batch),
                Ok((header, None)) => return Ok(Walked { bytes: at, needs: Some(header.total_bytes) }),
                Err(bad) if at == 0 => return Err(bad),
                Err(_) => return Ok(Walked { bytes: at, needs: None }),
            };
            at += header.total_bytes;
            self.next = header.next_offset();
            if !each(&header, batch) {
                return Ok(Walked { bytes: at, needs: None });
            }
        }
    }

    /// The batch at the front of `bytes`, if all of it is there.
    fn next_batch<'a>(&self, bytes: &'a [u8]) -> Result<(BatchHeader, Option<&'a [u8]>), Bad> {
        let header = BatchHeader::parse(bytes).map_err(|_| Bad("not a batch header"))?;
        if header.magic != MAGIC || header.last_offset_delta < 0 || header.record_count < 0 {
            return Err(Bad("not a batch header"));
        }
        let follows = header.base_offset == self.next || (header.base_offset > self.next && !self.is_dense);
        if !follows || header.next_offset() > self.end {
            return Err(Bad("a batch out of order"));
        }
        let batch = bytes.get(..header.total_bytes);
        if batch.is_some_and(|batch| !crc_matches(batch)) {
            return Err(Bad("the checksum does not match"));
        }
        Ok((header, batch))
    }
}

/// The records of a batch, decompressed; `None` if they cannot be had or do not add up. [`Records`] gives each of them
/// without an error then; they are not kept, since one takes many times what its bytes take.
fn decode<'a>(header: &BatchHeader, batch: &'a [u8]) -> Option<Cow<'a, [u8]>> {
    let packed = batch.get(HEADER_BYTES..)?;
    let bytes: Cow<'a, [u8]> = match header.codec()? {
        Codec::None => Cow::Borrowed(packed),
        codec => Cow::Owned(compression::decompress(codec, packed, DECOMPRESSED_BYTES_MAX).ok()?.into()),
    };
    let (mut last_delta, mut end, mut count) = (-1, 0, 0);
    for record in Records::new(header, &bytes) {
        let record = record.ok()?;
        if record.offset_delta <= last_delta || record.offset_delta > header.last_offset_delta {
            return None;
        }
        (last_delta, end, count) = (record.offset_delta, record.span.end, count + 1);
    }
    (end == bytes.len() && count == header.record_count).then_some(bytes)
}

/// What [`decode`] gave, record by record.
fn each_record<'a>(header: &BatchHeader, bytes: &'a [u8]) -> impl Iterator<Item = Record> + 'a {
    Records::new(header, bytes).map_while(Result::ok)
}

/// In range: [`decode`] has checked the delta, [`Walk`] the batch.
fn offset_of(header: &BatchHeader, record: &Record) -> Offset {
    header.base_offset.plus(i64::from(record.offset_delta))
}

#[cfg(test)]
mod tests;

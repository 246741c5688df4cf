//! The time index of one segment: sparse (largest timestamp so far, offset) pairs. An entry says that no record at
//! or below its offset has a larger timestamp. The last entry of a closed segment is its largest timestamp, by which
//! retention decides. [`indexes`](super::indexes) decides when an entry is made.
//!
//! Timestamps grow strictly, offsets with them. Source: Kafka's `TimeIndex`.

use super::Damage;
use super::offset_index::{relative_offset, used_entries};
use crate::model::{Offset, TimestampMs};

/// One entry on disk: i64 timestamp, i32 offset relative to the segment's base.
pub const ENTRY_BYTES: usize = 12;

/// A timestamp and the last offset of the batch that carries it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TimestampOffset {
    pub timestamp: TimestampMs,
    pub offset: Offset,
}

/// Whether the last free slot may be used.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Slot {
    /// An append: the last slot stays free for the entry at close.
    Append,
    /// The segment is rolled or closed.
    Close,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TimeIndex {
    base: Offset,
    max_entries: usize,
    /// Two columns, so that an entry takes the 12 bytes it takes on disk.
    timestamps: Vec<i64>,
    offsets: Vec<u32>,
}

impl TimeIndex {
    /// `max_bytes` is segment.index.bytes.
    #[must_use]
    pub fn new(base: Offset, max_bytes: usize) -> TimeIndex {
        TimeIndex { base, max_entries: max_bytes / ENTRY_BYTES, timestamps: Vec::new(), offsets: Vec::new() }
    }

    /// Adds the largest timestamp so far if it is larger than the last entry's and the offset is not lower. True if
    /// an entry was added.
    pub fn maybe_append(&mut self, entry: TimestampOffset, slot: Slot) -> bool {
        let Some(relative) = relative_offset(self.base, entry.offset) else { return false };
        let grows = match (self.timestamps.last(), self.offsets.last()) {
            (Some(&timestamp), Some(&offset)) => entry.timestamp.0 > timestamp && relative >= offset,
            _ => entry.timestamp > TimestampMs::NONE,
        };
        let free = match slot {
            Slot::Append => !self.is_full(),
            Slot::Close => self.timestamps.len() < self.max_entries,
        };
        if !grows || !free {
            return false;
        }
        self.timestamps.push(entry.timestamp.0);
        self.offsets.push(relative);
        true
    }

    /// The last entry with a timestamp at or below `target`, else (no timestamp, base).
    #[must_use]
    pub fn lookup(&self, target: TimestampMs) -> TimestampOffset {
        match self.timestamps.partition_point(|&timestamp| timestamp <= target.0).checked_sub(1) {
            Some(last) => self.entry(last),
            None => TimestampOffset { timestamp: TimestampMs::NONE, offset: self.base },
        }
    }

    /// Drops entries whose offset is at or after `end`.
    pub fn truncate_to(&mut self, end: Offset) {
        let below = end.0.saturating_sub(self.base.0);
        let count = self.offsets.partition_point(|&relative| i64::from(relative) < below);
        self.timestamps.truncate(count);
        self.offsets.truncate(count);
    }

    /// One slot is kept for the entry at close.
    #[must_use]
    pub fn is_full(&self) -> bool {
        self.timestamps.len() + 1 >= self.max_entries
    }

    #[must_use]
    pub fn len(&self) -> usize {
        self.timestamps.len()
    }

    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.timestamps.is_empty()
    }

    #[must_use]
    pub fn last(&self) -> Option<TimestampOffset> {
        self.len().checked_sub(1).map(|last| self.entry(last))
    }

    pub fn entries(&self) -> impl Iterator<Item = TimestampOffset> {
        (0..self.len()).map(|number| self.entry(number))
    }

    /// The file's bytes from entry `from` on (0: all of it).
    pub fn encode(&self, from: usize, out: &mut Vec<u8>) {
        out.reserve((self.len() - from) * ENTRY_BYTES);
        for (timestamp, relative) in self.timestamps[from..].iter().zip(&self.offsets[from..]) {
            out.extend_from_slice(&timestamp.to_be_bytes());
            out.extend_from_slice(&relative.to_be_bytes());
        }
    }

    /// Reads a file. Trailing zeros of a preallocated file are dropped; entries must grow and lie in the segment, which
    /// ends before `end_offset`.
    ///
    /// # Errors
    /// What is wrong; the index is to be rebuilt from the log.
    pub fn decode(
        base: Offset,
        max_bytes: usize,
        end_offset: Offset,
        bytes: &[u8],
    ) -> Result<TimeIndex, Damage> {
        let used = used_entries(bytes, ENTRY_BYTES, "time index")?;
        let mut index = TimeIndex::new(base, max_bytes);
        index.timestamps.reserve_exact(used.len() / ENTRY_BYTES);
        index.offsets.reserve_exact(used.len() / ENTRY_BYTES);
        let mut previous = (TimestampMs::NONE.0, 0);
        for (number, entry) in used.chunks_exact(ENTRY_BYTES).enumerate() {
            let timestamp = i64::from_be_bytes(entry[..8].try_into().expect("eight bytes"));
            let relative = u32::from_be_bytes(entry[8..].try_into().expect("four bytes"));
            let offset = base.0.saturating_add(i64::from(relative));
            let fits = relative <= i32::MAX as u32 && offset < end_offset.0;
            if timestamp <= previous.0 || relative < previous.1 || !fits {
                return Err(Damage(format!(
                    "time index entry {number} (timestamp {timestamp} at offset {offset}) does not grow or lies \
                     outside the segment that ends at {end_offset}"
                )));
            }
            previous = (timestamp, relative);
            index.timestamps.push(timestamp);
            index.offsets.push(relative);
        }
        Ok(index)
    }

    fn entry(&self, number: usize) -> TimestampOffset {
        TimestampOffset {
            timestamp: TimestampMs(self.timestamps[number]),
            offset: self.base.plus(i64::from(self.offsets[number])),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const BASE: Offset = Offset(1000);

    fn at(timestamp: i64, offset: i64) -> TimestampOffset {
        TimestampOffset { timestamp: TimestampMs(timestamp), offset: Offset(offset) }
    }

    fn index(entries: &[(i64, i64)]) -> TimeIndex {
        let mut index = TimeIndex::new(BASE, 1200);
        for &(timestamp, offset) in entries {
            assert!(index.maybe_append(at(timestamp, offset), Slot::Append), "{timestamp} at {offset}");
        }
        index
    }

    fn bytes(entries: &[(i64, u32)]) -> Vec<u8> {
        let mut bytes = Vec::new();
        for (timestamp, relative) in entries {
            bytes.extend_from_slice(&timestamp.to_be_bytes());
            bytes.extend_from_slice(&relative.to_be_bytes());
        }
        bytes
    }

    #[test]
    fn lookup_gives_the_last_entry_at_or_below() {
        let index = index(&[(50, 1010), (70, 1020), (90, 1030)]);
        for (target, expect) in [
            (i64::MIN, at(-1, 1000)),
            (49, at(-1, 1000)),
            (50, at(50, 1010)),
            (69, at(50, 1010)),
            (90, at(90, 1030)),
            (i64::MAX, at(90, 1030)),
        ] {
            assert_eq!(index.lookup(TimestampMs(target)), expect, "{target}");
        }
    }

    #[test]
    fn append_takes_only_larger_timestamps() {
        let mut index = index(&[(50, 1010)]);
        for (timestamp, offset) in [(50, 1011), (49, 1011), (51, 1009), (51, BASE.0 + (1 << 31)), (-1, 1011)]
        {
            assert!(!index.maybe_append(at(timestamp, offset), Slot::Append), "{timestamp} at {offset}");
        }
        assert!(
            !TimeIndex::new(BASE, 1200).maybe_append(at(-1, 1000), Slot::Append),
            "no timestamp, no entry"
        );
        assert!(TimeIndex::new(BASE, 1200).maybe_append(at(0, 1000), Slot::Append));
    }

    #[test]
    fn the_last_slot_is_for_the_close() {
        let mut index = TimeIndex::new(BASE, 3 * ENTRY_BYTES);
        assert!(index.maybe_append(at(1, 1001), Slot::Append));
        assert!(!index.is_full());
        assert!(index.maybe_append(at(2, 1002), Slot::Append));
        assert!(index.is_full());
        assert!(!index.maybe_append(at(3, 1003), Slot::Append));
        assert!(index.maybe_append(at(3, 1003), Slot::Close));
        assert!(!index.maybe_append(at(4, 1004), Slot::Close));
    }

    #[test]
    fn truncate_drops_the_end_itself() {
        for (end, left) in [(999, 0), (1010, 0), (1011, 1), (1031, 3)] {
            let mut index = index(&[(50, 1010), (70, 1020), (90, 1030)]);
            index.truncate_to(Offset(end));
            assert_eq!(index.len(), left, "{end}");
        }
    }

    #[test]
    fn bytes_are_kafkas_and_come_back() {
        let index = index(&[(0x0100, 1010), (0x010000, 1256)]);
        let mut encoded = Vec::new();
        index.encode(0, &mut encoded);
        assert_eq!(encoded, bytes(&[(0x0100, 10), (0x010000, 256)]));
        for zeros in [0, 1, 12, 4096] {
            let mut padded = encoded.clone();
            padded.resize(encoded.len() + zeros, 0);
            assert_eq!(TimeIndex::decode(BASE, 1200, Offset(1257), &padded).unwrap(), index, "{zeros}");
        }
        assert!(TimeIndex::decode(BASE, 1200, BASE, &[0; 100]).unwrap().is_empty());
    }

    #[test]
    fn damage_is_found() {
        for entries in [
            &[(50, 10), (50, 20)][..],
            &[(50, 10), (49, 20)],
            &[(50, 10), (60, 9)],
            &[(50, 10), (0, 0), (70, 20)],
            &[(50, 100)],
            &[(50, 1 << 31)],
            &[(-2, 10)],
        ] {
            let decoded = TimeIndex::decode(BASE, 1200, Offset(1100), &bytes(entries));
            assert!(decoded.is_err(), "{entries:?}");
        }
        let cut = &bytes(&[(50, 10), (60, 11)])[..23];
        assert!(TimeIndex::decode(BASE, 1200, Offset(1100), cut).is_err());
    }
}

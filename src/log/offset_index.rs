//! The offset index of one segment: sparse (offset, position) pairs that say where in the `.log` file to begin
//! looking for an offset. [`indexes`](super::indexes) decides when an entry is made.
//!
//! In memory an entry takes the 8 bytes it takes on disk. Entries grow strictly in both columns, and no entry is at
//! position 0, so a zero entry is unused space of a preallocated file. Source: Kafka's `OffsetIndex`.

use super::Damage;
use crate::model::Offset;

/// One entry on disk: i32 offset relative to the segment's base, i32 position in the `.log` file.
pub const ENTRY_BYTES: usize = 8;

/// Kafka's columns are signed.
const RELATIVE_MAX: u32 = i32::MAX as u32;
const POSITION_MAX: u32 = i32::MAX as u32;

/// An entry names a batch: its last offset and the position where it begins.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct OffsetPosition {
    pub offset: Offset,
    pub position: u32,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct OffsetIndex {
    base: Offset,
    max_entries: usize,
    /// (last offset of a batch minus base, its position), both strictly growing.
    entries: Vec<(u32, u32)>,
}

impl OffsetIndex {
    /// `max_bytes` is segment.index.bytes.
    #[must_use]
    pub fn new(base: Offset, max_bytes: usize) -> OffsetIndex {
        OffsetIndex { base, max_entries: max_bytes / ENTRY_BYTES, entries: Vec::new() }
    }

    /// Notes that the batch ending at `last_offset` begins at `position`. False, and nothing noted, when the index
    /// is full, or the entry would not grow both columns or not fit them.
    pub fn append(&mut self, last_offset: Offset, position: u32) -> bool {
        let Some(relative) = relative_offset(self.base, last_offset) else { return false };
        let grows = match self.entries.last() {
            Some(&(last_relative, last_position)) => relative > last_relative && position > last_position,
            None => position > 0,
        };
        if self.is_full() || !grows || position > POSITION_MAX {
            return false;
        }
        self.entries.push((relative, position));
        true
    }

    /// Where to begin looking for `target`: the largest entry at or below it, else (base, 0).
    #[must_use]
    pub fn lookup(&self, target: Offset) -> OffsetPosition {
        let below = target.0.saturating_sub(self.base.0);
        let count = self.entries.partition_point(|&(relative, _)| i64::from(relative) <= below);
        match count.checked_sub(1) {
            Some(last) => self.entry(last),
            None => OffsetPosition { offset: self.base, position: 0 },
        }
    }

    /// The last batch with an entry that begins at `position` of the file or before it.
    #[must_use]
    pub fn begins_by(&self, position: u64) -> Option<OffsetPosition> {
        let count = self.entries.partition_point(|&(_, begin)| u64::from(begin) <= position);
        count.checked_sub(1).map(|last| self.entry(last))
    }

    /// Drops what is at or after `end`.
    pub fn truncate_to(&mut self, end: Offset) {
        let below = end.0.saturating_sub(self.base.0);
        let count = self.entries.partition_point(|&(relative, _)| i64::from(relative) < below);
        self.entries.truncate(count);
    }

    #[must_use]
    pub fn is_full(&self) -> bool {
        self.entries.len() >= self.max_entries
    }

    #[must_use]
    pub fn len(&self) -> usize {
        self.entries.len()
    }

    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.entries.is_empty()
    }

    #[must_use]
    pub fn last(&self) -> Option<OffsetPosition> {
        self.entries.len().checked_sub(1).map(|last| self.entry(last))
    }

    pub fn entries(&self) -> impl Iterator<Item = OffsetPosition> {
        (0..self.len()).map(|number| self.entry(number))
    }

    /// The file's bytes from entry `from` on (0: all of it).
    pub fn encode(&self, from: usize, out: &mut Vec<u8>) {
        let entries = &self.entries[from..];
        out.reserve(entries.len() * ENTRY_BYTES);
        for (relative, position) in entries {
            out.extend_from_slice(&relative.to_be_bytes());
            out.extend_from_slice(&position.to_be_bytes());
        }
    }

    /// Reads a file. Trailing zeros of a preallocated file are dropped; entries must grow, lie in the segment and
    /// below `log_bytes`, its length.
    ///
    /// # Errors
    /// What is wrong; the index is to be rebuilt from the log.
    pub fn decode(
        base: Offset,
        max_bytes: usize,
        log_bytes: u64,
        bytes: &[u8],
    ) -> Result<OffsetIndex, Damage> {
        let used = used_entries(bytes, ENTRY_BYTES, "offset index")?;
        let mut index = OffsetIndex::new(base, max_bytes);
        index.entries.reserve_exact(used.len() / ENTRY_BYTES);
        let mut previous = (0, 0);
        for (number, entry) in used.chunks_exact(ENTRY_BYTES).enumerate() {
            let relative = u32::from_be_bytes(entry[..4].try_into().expect("four bytes"));
            let position = u32::from_be_bytes(entry[4..].try_into().expect("four bytes"));
            let grows = position > previous.1 && (number == 0 || relative > previous.0);
            let offset = base.0.checked_add(i64::from(relative));
            let fits = offset.is_some() && relative <= RELATIVE_MAX && u64::from(position) < log_bytes;
            if !grows || !fits {
                return Err(Damage(format!(
                    "offset index entry {number} ({relative} above the base at {position}) does not grow or lies \
                     outside the segment of {log_bytes} bytes"
                )));
            }
            previous = (relative, position);
            index.entries.push(previous);
        }
        Ok(index)
    }

    fn entry(&self, number: usize) -> OffsetPosition {
        let (relative, position) = self.entries[number];
        OffsetPosition { offset: self.base.plus(i64::from(relative)), position }
    }
}

/// `offset` as an index of a segment with this base holds it; `None` when it does not fit 31 bits.
pub(super) fn relative_offset(base: Offset, offset: Offset) -> Option<u32> {
    let relative = u32::try_from(offset.0.checked_sub(base.0)?).ok()?;
    (relative <= RELATIVE_MAX).then_some(relative)
}

/// The whole entries at the start of an index file, without the zeros behind them.
pub(super) fn used_entries<'a>(
    bytes: &'a [u8],
    entry_bytes: usize,
    what: &'static str,
) -> Result<&'a [u8], Damage> {
    let nonzero = bytes.iter().rposition(|&byte| byte != 0).map_or(0, |last| last + 1);
    let used = nonzero.next_multiple_of(entry_bytes);
    bytes.get(..used).ok_or_else(|| Damage(format!("{what} of {} bytes ends inside an entry", bytes.len())))
}

#[cfg(test)]
mod tests {
    use super::*;

    const BASE: Offset = Offset(1000);

    fn index(entries: &[(i64, u32)]) -> OffsetIndex {
        let mut index = OffsetIndex::new(BASE, 1024);
        for &(offset, position) in entries {
            assert!(index.append(Offset(offset), position), "{offset} at {position}");
        }
        index
    }

    fn bytes(entries: &[(u32, u32)]) -> Vec<u8> {
        let mut bytes = Vec::new();
        for (relative, position) in entries {
            bytes.extend_from_slice(&relative.to_be_bytes());
            bytes.extend_from_slice(&position.to_be_bytes());
        }
        bytes
    }

    #[test]
    fn lookup_gives_the_largest_entry_at_or_below() {
        let index = index(&[(1010, 4200), (1020, 8400), (1030, 12600)]);
        let check = |target: i64, offset: i64, position: u32| {
            let expect = OffsetPosition { offset: Offset(offset), position };
            assert_eq!(index.lookup(Offset(target)), expect, "{target}");
        };
        check(i64::MIN, 1000, 0);
        check(999, 1000, 0);
        check(1000, 1000, 0);
        check(1009, 1000, 0);
        check(1010, 1010, 4200);
        check(1011, 1010, 4200);
        check(1029, 1020, 8400);
        check(1030, 1030, 12600);
        check(i64::MAX, 1030, 12600);
        assert_eq!(OffsetIndex::new(BASE, 8).lookup(Offset(5000)).position, 0);
    }

    #[test]
    fn append_takes_only_what_grows_and_fits() {
        let mut index = index(&[(1010, 4200)]);
        for (offset, position) in
            [(1010, 5000), (1009, 5000), (1011, 4200), (1011, 4199), (999, 5000), (BASE.0 + (1 << 31), 5000)]
        {
            assert!(!index.append(Offset(offset), position), "{offset} at {position}");
        }
        assert!(!index.append(Offset(1011), POSITION_MAX + 1));
        assert_eq!(index.len(), 1);
        assert!(index.append(BASE.plus(i64::from(RELATIVE_MAX)), POSITION_MAX));
        assert!(!OffsetIndex::new(BASE, 1024).append(BASE, 0), "a zero entry would read as unused space");

        let mut small = OffsetIndex::new(BASE, 20);
        assert!(small.append(Offset(1001), 1) && small.append(Offset(1002), 2));
        assert!(small.is_full() && !small.append(Offset(1003), 3));
    }

    #[test]
    fn truncate_drops_the_end_itself() {
        for (end, left) in [(999, 0), (1010, 0), (1011, 1), (1020, 1), (1031, 3), (i64::MAX, 3)] {
            let mut index = index(&[(1010, 4200), (1020, 8400), (1030, 12600)]);
            index.truncate_to(Offset(end));
            assert_eq!(index.len(), left, "{end}");
        }
    }

    #[test]
    fn bytes_are_kafkas_and_come_back() {
        let index = index(&[(1010, 4200), (1020, 8400)]);
        let mut encoded = Vec::new();
        index.encode(0, &mut encoded);
        assert_eq!(encoded, bytes(&[(10, 4200), (20, 8400)]));
        let mut tail = Vec::new();
        index.encode(1, &mut tail);
        assert_eq!(tail, encoded[8..]);

        for zeros in [0, 8, 11, 4096] {
            let mut padded = encoded.clone();
            padded.resize(encoded.len() + zeros, 0);
            assert_eq!(OffsetIndex::decode(BASE, 1024, 9000, &padded).unwrap(), index, "{zeros}");
        }
        assert!(OffsetIndex::decode(BASE, 1024, 0, &[0; 100]).unwrap().is_empty());
        // the last byte of an entry may be zero
        let round = index_of_round_position();
        let mut encoded = Vec::new();
        round.encode(0, &mut encoded);
        assert_eq!(OffsetIndex::decode(BASE, 1024, 1 << 20, &encoded).unwrap(), round);
    }

    fn index_of_round_position() -> OffsetIndex {
        index(&[(1001, 4096), (1002, 65536)])
    }

    #[test]
    fn damage_is_found() {
        let check = |entries: &[(u32, u32)], log_bytes: u64| {
            let decoded = OffsetIndex::decode(BASE, 1024, log_bytes, &bytes(entries));
            assert!(decoded.is_err(), "{entries:?} {log_bytes}");
        };
        check(&[(10, 4200), (10, 8400)], 10_000);
        check(&[(10, 4200), (9, 8400)], 10_000);
        check(&[(10, 4200), (11, 4200)], 10_000);
        check(&[(10, 4200), (0, 0), (12, 5000)], 10_000);
        check(&[(10, 10_000)], 10_000);
        check(&[(1 << 31, 4200)], 10_000);
        check(&[(10, 0)], 10_000);
        // a base from a file name that leaves no room above it
        let entry = bytes(&[(10, 4200)]);
        assert!(OffsetIndex::decode(Offset(i64::MAX - 9), 1024, 10_000, &entry).is_err());
        let top = OffsetIndex::decode(Offset(i64::MAX - 10), 1024, 10_000, &entry).unwrap();
        assert_eq!(top.lookup(Offset(i64::MAX)).offset, Offset(i64::MAX));
        let cut = &bytes(&[(10, 4200), (11, 5001)])[..15];
        assert!(OffsetIndex::decode(BASE, 1024, 10_000, cut).is_err());
    }
}

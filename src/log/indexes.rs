//! What an append does to a segment's two indexes, live and at recovery alike.
//!
//! Kafka's rule (`LogSegment.append`, `recover`): a batch gets an entry in both when more than index.interval.bytes
//! of batches lie between it and the batch of the last entry, or the segment's start. The offset entry names the
//! batch's own last offset and position, the time entry the largest timestamp so far, this batch included.

use super::offset_index::OffsetIndex;
use super::time_index::{Slot, TimeIndex, TimestampOffset};
use crate::model::{Offset, TimestampMs};

/// One batch as the indexes see it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Placed {
    /// Where it begins in the `.log` file.
    pub position: u32,
    pub bytes: u32,
    pub last_offset: Offset,
    pub max_timestamp: TimestampMs,
}

/// Both indexes of a segment and the counters that decide when they grow.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SegmentIndexes {
    pub offsets: OffsetIndex,
    pub times: TimeIndex,
    /// Bytes of batches since the last entry.
    since_entry: u64,
    max_timestamp: TimestampOffset,
}

impl SegmentIndexes {
    /// `max_bytes` is segment.index.bytes.
    #[must_use]
    pub fn new(base: Offset, max_bytes: usize) -> SegmentIndexes {
        SegmentIndexes {
            offsets: OffsetIndex::new(base, max_bytes),
            times: TimeIndex::new(base, max_bytes),
            since_entry: 0,
            max_timestamp: TimestampOffset { timestamp: TimestampMs::NONE, offset: base },
        }
    }

    /// Of a segment that was closed cleanly, from its files.
    #[must_use]
    pub fn loaded(offsets: OffsetIndex, times: TimeIndex) -> SegmentIndexes {
        let base = offsets.lookup(Offset(i64::MIN)).offset;
        let none = TimestampOffset { timestamp: TimestampMs::NONE, offset: base };
        let max_timestamp = times.last().unwrap_or(none);
        SegmentIndexes { offsets, times, since_entry: 0, max_timestamp }
    }

    /// Notes a batch, in order; an entry is made when more than `interval_bytes` have passed since the last.
    pub fn append(&mut self, batch: Placed, interval_bytes: u64) {
        if batch.max_timestamp > self.max_timestamp.timestamp {
            self.max_timestamp =
                TimestampOffset { timestamp: batch.max_timestamp, offset: batch.last_offset };
        }
        if self.since_entry > interval_bytes {
            self.offsets.append(batch.last_offset, batch.position);
            self.times.maybe_append(self.max_timestamp, Slot::Append);
            self.since_entry = 0;
        }
        self.since_entry += u64::from(batch.bytes);
    }

    /// Takes over what `live` says of what lies behind these: from `position` on, where the batches from `next` on are.
    /// Both are of one segment; `live` has grown while these were made again.
    pub fn go_on_as(&mut self, live: &SegmentIndexes, position: u64, next: Offset) {
        for entry in live.offsets.entries().filter(|entry| u64::from(entry.position) >= position) {
            self.offsets.append(entry.offset, entry.position);
        }
        for entry in live.times.entries().filter(|entry| entry.offset >= next) {
            self.times.maybe_append(entry, Slot::Append);
        }
        if live.max_timestamp.offset >= next && live.max_timestamp.timestamp > self.max_timestamp.timestamp {
            self.max_timestamp = live.max_timestamp;
        }
        self.since_entry = live.since_entry;
    }

    /// The segment is rolled or closed: the largest timestamp becomes the last entry.
    pub fn close(&mut self) {
        self.times.maybe_append(self.max_timestamp, Slot::Close);
    }

    /// The largest timestamp so far and the last offset of its batch.
    #[must_use]
    pub fn max_timestamp(&self) -> TimestampOffset {
        self.max_timestamp
    }

    #[must_use]
    pub fn is_full(&self) -> bool {
        self.offsets.is_full() || self.times.is_full()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Feeds batches of (bytes, records, max timestamp) and gives the entries of both indexes.
    fn check(
        batches: &[(u32, i64, i64)],
        interval: u64,
        offsets: &[(i64, u32)],
        times: &[(i64, i64)],
    ) -> SegmentIndexes {
        let base = Offset(100);
        let mut indexes = SegmentIndexes::new(base, 1 << 20);
        let (mut position, mut next) = (0, base);
        for &(bytes, records, timestamp) in batches {
            let last_offset = next.plus(records - 1);
            let max_timestamp = TimestampMs(timestamp);
            indexes.append(Placed { position, bytes, last_offset, max_timestamp }, interval);
            position += bytes;
            next = next.plus(records);
        }
        indexes.close();
        let mut expect = OffsetIndex::new(base, 1 << 20);
        for &(offset, position) in offsets {
            assert!(expect.append(Offset(offset), position));
        }
        assert_eq!(indexes.offsets, expect);
        let mut expect = TimeIndex::new(base, 1 << 20);
        for &(timestamp, offset) in times {
            let entry = TimestampOffset { timestamp: TimestampMs(timestamp), offset: Offset(offset) };
            assert!(expect.maybe_append(entry, Slot::Close));
        }
        assert_eq!(indexes.times, expect);
        indexes
    }

    #[test]
    fn entries_lie_more_than_the_interval_apart() {
        // exactly the interval is not enough
        check(&[(4096, 1, 10), (100, 1, 11), (100, 1, 12)], 4096, &[(102, 4196)], &[(12, 102)]);
        check(
            &[(5000, 10, 10), (5000, 10, 20), (100, 1, 30), (5000, 10, 15), (70, 1, 16)],
            4096,
            &[(119, 5000), (120, 10000), (131, 15100)],
            &[(20, 119), (30, 120)],
        );
        check(&[], 4096, &[], &[]);
    }

    #[test]
    fn indexes_that_were_made_again_go_on_as_those_that_have_grown() {
        let mut grown = SegmentIndexes::new(Offset(0), 1 << 20);
        let place = |number: u32| Placed {
            position: number * 100,
            bytes: 100,
            last_offset: Offset(i64::from(number)),
            max_timestamp: TimestampMs(i64::from(number % 7)),
        };
        (0..50).for_each(|number| grown.append(place(number), 250));
        for made in 0..50 {
            let mut again = SegmentIndexes::new(Offset(0), 1 << 20);
            (0..made).for_each(|number| again.append(place(number), 250));
            again.go_on_as(&grown, u64::from(made) * 100, Offset(i64::from(made)));
            assert_eq!((&again.offsets, again.since_entry), (&grown.offsets, grown.since_entry));
            assert_eq!(again.times, grown.times);
            assert_eq!(again.max_timestamp, grown.max_timestamp);
        }
    }

    #[test]
    fn the_largest_timestamp_closes_the_time_index() {
        let indexes = check(&[(100, 1, 10), (100, 1, 30), (100, 1, 20)], 4096, &[], &[(30, 101)]);
        assert_eq!(indexes.max_timestamp().offset, Offset(101));
        // an equal timestamp keeps the first batch that had it
        check(&[(100, 1, 30), (100, 1, 30)], 4096, &[], &[(30, 100)]);
        check(&[(100, 1, -1), (100, 1, -1)], 4096, &[], &[]);
    }

    #[test]
    fn an_interval_of_zero_indexes_every_batch_but_the_first() {
        check(&[(70, 1, 1), (70, 1, 2), (70, 1, 3)], 0, &[(101, 70), (102, 140)], &[(2, 101), (3, 102)]);
    }

    #[test]
    fn loaded_from_files_knows_the_largest_timestamp() {
        let closed = check(
            &[(5000, 10, 10), (5000, 10, 20), (100, 1, 5)],
            4096,
            &[(119, 5000), (120, 10000)],
            &[(20, 119)],
        );
        let loaded = SegmentIndexes::loaded(closed.offsets.clone(), closed.times.clone());
        assert_eq!(loaded.max_timestamp(), closed.max_timestamp());
        let empty = SegmentIndexes::new(Offset(7), 80);
        let loaded = SegmentIndexes::loaded(empty.offsets.clone(), empty.times.clone());
        assert_eq!(loaded, empty);
    }

    #[test]
    fn full_when_either_is() {
        // 36 bytes: four offset entries, three time entries of which the last is kept for the close
        let mut indexes = SegmentIndexes::new(Offset::ZERO, 36);
        for number in 0..3 {
            assert!(!indexes.is_full());
            let placed = Placed {
                position: number * 70,
                bytes: 70,
                last_offset: Offset(i64::from(number)),
                max_timestamp: TimestampMs(i64::from(number)),
            };
            indexes.append(placed, 0);
        }
        assert!(indexes.is_full());
    }
}

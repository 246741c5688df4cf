//! The ordered set of a log's segments: which one holds an offset or a time, which ones retention drops.
//!
//! Base offsets grow strictly; the last segment is the active one. Retention follows Kafka's
//! `UnifiedLog.deleteOldSegments`.

use crate::model::{Offset, TimestampMs};

/// What is known of a segment without opening its files.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SegmentInfo {
    pub base_offset: Offset,
    /// Bytes of batches.
    pub bytes: u64,
    /// The largest record timestamp; `NONE` when no batch has one.
    pub max_timestamp: TimestampMs,
    /// The file's modification time: counts for retention when there is no record timestamp.
    pub modified: TimestampMs,
}

/// Segments by base offset; the last one is active. `T` is what the caller keeps with each.
#[derive(Clone, Debug, Default)]
pub struct Segments<T> {
    infos: Vec<SegmentInfo>,
    data: Vec<T>,
}

impl<T> Segments<T> {
    #[must_use]
    pub fn new() -> Segments<T> {
        Segments { infos: Vec::new(), data: Vec::new() }
    }

    /// Adds a segment above all others; it is the active one now.
    ///
    /// # Panics
    /// When its base is not above the last one's.
    pub fn push(&mut self, info: SegmentInfo, data: T) {
        let grows = self.infos.last().is_none_or(|last| last.base_offset < info.base_offset);
        assert!(grows, "segment {} above {:?}", info.base_offset, self.infos.last());
        self.infos.push(info);
        self.data.push(data);
    }

    #[must_use]
    pub fn len(&self) -> usize {
        self.infos.len()
    }

    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.infos.is_empty()
    }

    /// For [`retention_plan`] and the like, oldest first.
    #[must_use]
    pub fn infos(&self) -> &[SegmentInfo] {
        &self.infos
    }

    #[must_use]
    pub fn data(&self) -> &[T] {
        &self.data
    }

    #[must_use]
    pub fn get(&self, index: usize) -> Option<(&SegmentInfo, &T)> {
        self.infos.get(index).zip(self.data.get(index))
    }

    pub fn get_mut(&mut self, index: usize) -> Option<SegmentMut<'_, T>> {
        let info = self.infos.get_mut(index)?;
        let SegmentInfo { bytes, max_timestamp, modified, .. } = info;
        Some(SegmentMut { bytes, max_timestamp, modified, data: &mut self.data[index] })
    }

    #[must_use]
    pub fn active(&self) -> Option<(&SegmentInfo, &T)> {
        self.infos.last().zip(self.data.last())
    }

    pub fn active_mut(&mut self) -> Option<SegmentMut<'_, T>> {
        self.get_mut(self.len().checked_sub(1)?)
    }

    /// Index of the segment that holds `offset`: the last whose base is at or below it.
    #[must_use]
    pub fn floor(&self, offset: Offset) -> Option<usize> {
        self.infos.partition_point(|info| info.base_offset <= offset).checked_sub(1)
    }

    /// Index of the first segment with a record timestamp at or after `target`. Record times need not grow from
    /// segment to segment.
    #[must_use]
    pub fn first_at_or_after(&self, target: TimestampMs) -> Option<usize> {
        self.infos
            .iter()
            .position(|info| info.max_timestamp != TimestampMs::NONE && info.max_timestamp >= target)
    }

    /// Removes the oldest `count` and gives them back.
    pub fn drop_oldest(&mut self, count: usize) -> Vec<(SegmentInfo, T)> {
        self.infos.drain(..count).zip(self.data.drain(..count)).collect()
    }

    /// Removes the newest ones whose base is at or above `offset` and gives them back, oldest first.
    pub fn drop_from(&mut self, offset: Offset) -> Vec<(SegmentInfo, T)> {
        let kept = self.infos.partition_point(|info| info.base_offset < offset);
        self.infos.drain(kept..).zip(self.data.drain(kept..)).collect()
    }

    /// Bytes of batches in all segments.
    #[must_use]
    pub fn bytes(&self) -> u64 {
        self.infos.iter().map(|info| info.bytes).sum()
    }
}

/// A segment to be changed; its base offset is not.
#[derive(Debug)]
pub struct SegmentMut<'a, T> {
    pub bytes: &'a mut u64,
    pub max_timestamp: &'a mut TimestampMs,
    pub modified: &'a mut TimestampMs,
    pub data: &'a mut T,
}

/// Retention settings; -1 means no limit.
#[derive(Clone, Copy, Debug)]
pub struct Retention {
    pub retention_ms: i64,
    pub retention_bytes: i64,
    pub log_start: Offset,
    /// Exclusive end of the log.
    pub log_end: Offset,
    /// Only segments that end at or below it may go.
    pub high_watermark: Offset,
}

/// How many of the oldest segments may be dropped now. The active one counts too if it holds bytes: the caller rolls
/// first, so that a log never is without a segment.
///
/// A segment goes only if those before it go: when all of it lies below the log start, when the rest still holds
/// retention.bytes without it, or when its largest record time is older than retention.ms.
#[must_use]
pub fn retention_plan(segments: &[SegmentInfo], rules: &Retention, now: TimestampMs) -> usize {
    let mut total: u64 = segments.iter().map(|segment| segment.bytes).sum();
    let mut count = 0;
    for (index, segment) in segments.iter().enumerate() {
        // the active segment has no known end; it may go only when all it holds is below the high watermark
        let next_base = segments.get(index + 1).map(|next| next.base_offset);
        let end = next_base.unwrap_or(rules.log_end);
        let may_go = end <= rules.high_watermark && (next_base.is_some() || segment.bytes > 0);
        let below_start = next_base.is_some_and(|base| base <= rules.log_start);
        let too_much = u64::try_from(rules.retention_bytes)
            .is_ok_and(|kept| total.checked_sub(segment.bytes).is_some_and(|rest| rest >= kept));
        let time = if segment.max_timestamp.0 >= 0 { segment.max_timestamp } else { segment.modified };
        let too_old = rules.retention_ms >= 0 && now.0.saturating_sub(time.0) > rules.retention_ms;
        if !may_go || !(below_start || too_much || too_old) {
            break;
        }
        total -= segment.bytes;
        count += 1;
    }
    count
}

#[cfg(test)]
mod tests {
    use super::*;

    fn segments(list: &[(i64, u64, i64)]) -> Segments<()> {
        let mut segments = Segments::new();
        for &(base, bytes, max_timestamp) in list {
            let (base_offset, max_timestamp) = (Offset(base), TimestampMs(max_timestamp));
            segments.push(SegmentInfo { base_offset, bytes, max_timestamp, modified: TimestampMs(500) }, ());
        }
        segments
    }

    #[test]
    fn the_segment_of_an_offset_and_of_a_time() {
        let segments = segments(&[(10, 1, 100), (20, 1, -1), (30, 1, 90), (40, 1, 300)]);
        for (offset, expect) in [(9, None), (10, Some(0)), (19, Some(0)), (20, Some(1)), (i64::MAX, Some(3))]
        {
            assert_eq!(segments.floor(Offset(offset)), expect, "{offset}");
        }
        for (time, expect) in [(i64::MIN, Some(0)), (100, Some(0)), (101, Some(3)), (301, None)] {
            assert_eq!(segments.first_at_or_after(TimestampMs(time)), expect, "{time}");
        }
    }

    #[test]
    fn drops_from_both_ends() {
        let mut segments = segments(&[(10, 1, 1), (20, 2, 1), (30, 4, 1), (40, 8, 1)]);
        let bases = |dropped: Vec<(SegmentInfo, ())>| -> Vec<i64> {
            dropped.iter().map(|(info, ())| info.base_offset.0).collect()
        };
        assert_eq!(bases(segments.drop_oldest(1)), [10]);
        assert_eq!(bases(segments.drop_from(Offset(31))), [40]);
        assert_eq!(bases(segments.drop_from(Offset(30))), [30]);
        *segments.active_mut().unwrap().bytes += 10;
        assert_eq!(segments.bytes(), 12);
    }

    #[test]
    fn retention() {
        // three rolled segments and an active one; the log ends at 100
        let list = [(0, 100, 1_000), (30, 100, 2_000), (60, 100, -1), (90, 100, 4_000)];
        let check = |rules: Retention, now: i64, expect: usize| {
            let segments = segments(&list);
            assert_eq!(
                retention_plan(segments.infos(), &rules, TimestampMs(now)),
                expect,
                "{rules:?} at {now}"
            );
        };
        let none = Retention {
            retention_ms: -1,
            retention_bytes: -1,
            log_start: Offset(0),
            log_end: Offset(100),
            high_watermark: Offset(100),
        };
        check(none, i64::MAX, 0);
        // by time: the oldest first, and only while each qualifies
        let timed = Retention { retention_ms: 1_000, ..none };
        check(timed, 2_000, 0);
        check(timed, 2_001, 1);
        // the third has no record time: its file's counts
        check(timed, 3_001, 3);
        check(timed, 5_001, 4);
        check(Retention { high_watermark: Offset(89), ..timed }, 3_001, 2);
        check(Retention { high_watermark: Offset(99), ..timed }, 5_001, 3);
        // by size: never below retention.bytes
        let sized = Retention { retention_bytes: 300, ..none };
        check(sized, 0, 1);
        check(Retention { retention_bytes: 301, ..none }, 0, 0);
        check(Retention { retention_bytes: 0, ..none }, 0, 4);
        // by log start: whole segments below it
        check(Retention { log_start: Offset(59), ..none }, 0, 1);
        check(Retention { log_start: Offset(60), ..none }, 0, 2);
        check(Retention { log_start: Offset(100), ..none }, 0, 3);
    }

    #[test]
    fn an_empty_active_segment_stays() {
        let segments = segments(&[(0, 100, 1), (30, 0, -1)]);
        let rules = Retention {
            retention_ms: 0,
            retention_bytes: 0,
            log_start: Offset(30),
            log_end: Offset(30),
            high_watermark: Offset(30),
        };
        assert_eq!(retention_plan(segments.infos(), &rules, TimestampMs(i64::MAX)), 1);
    }
}

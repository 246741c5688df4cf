//! What of a log may be cleaned, which log goes first, and which segments become one.

use crate::log::compaction::Settings;
use crate::model::{Offset, TimestampMs};

/// Where a log's dirty part lies.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Section {
    pub first_dirty: Offset,
    /// Exclusive; not below `first_dirty`.
    pub end: Offset,
    /// What the checkpoint said cannot be: it is to be written again.
    pub checkpoint_is_off: bool,
}

/// One segment, as planning sees it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Candidate {
    pub base: Offset,
    pub bytes: u64,
    /// Its largest record timestamp; where no record has one, when the file was last changed.
    pub latest: TimestampMs,
    /// The largest timestamp of its first batch; `NONE` if there is none.
    pub first: TimestampMs,
}

/// The offsets of a log.
#[derive(Clone, Copy, Debug)]
pub struct Bounds {
    pub log_start: Offset,
    pub log_end: Offset,
    /// Nothing at or above is cleaned: an open transaction, what is not durable, the segment that is appended to.
    pub limit: Offset,
}

/// The part that may be cleaned. `cleaned_to`: the checkpoint; `closed`: the closed segments, in order.
#[must_use]
pub fn section(
    cleaned_to: Option<Offset>,
    bounds: &Bounds,
    closed: &[Candidate],
    settings: &Settings,
    now: TimestampMs,
) -> Section {
    let checkpoint = cleaned_to.unwrap_or(bounds.log_start);
    let is_off = checkpoint < bounds.log_start || checkpoint > bounds.log_end;
    let first_dirty = if is_off { bounds.log_start } else { checkpoint };
    let lag_ms = settings.min_lag_ms.max(0);
    let too_young = |candidate: &&Candidate| lag_ms > 0 && candidate.latest.0 > now.0.saturating_sub(lag_ms);
    let young = dirty(closed, first_dirty).iter().find(too_young).map(|candidate| candidate.base);
    let end = young.map_or(bounds.limit, |young| young.min(bounds.limit));
    Section { first_dirty, end: end.max(first_dirty), checkpoint_is_off: is_off }
}

/// Those that hold dirty offsets, the one that holds the first included.
fn dirty(closed: &[Candidate], first_dirty: Offset) -> &[Candidate] {
    let from = closed.partition_point(|candidate| candidate.base <= first_dirty);
    &closed[from.saturating_sub(1)..]
}

/// How urgent a log is.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Dirt {
    /// Bytes that may be cleaned, of all up to there.
    pub dirty_bytes: u64,
    pub total_bytes: u64,
    /// A record has waited for max.compaction.lag.ms.
    pub is_overdue: bool,
}

impl Dirt {
    /// 0 to 1.
    #[must_use]
    pub fn ratio(&self) -> f64 {
        if self.total_bytes == 0 { 0.0 } else { self.dirty_bytes as f64 / self.total_bytes as f64 }
    }

    /// Whether the topic's settings want it cleaned now.
    #[must_use]
    pub fn is_due(&self, settings: &Settings) -> bool {
        (self.is_overdue && self.dirty_bytes > 0) || self.ratio() > settings.min_dirty_ratio
    }

    /// Whether a log with these settings is to be cleaned rather than the best found so far: it is due, and dirtier.
    #[must_use]
    pub fn goes_before(&self, best: Option<&Dirt>, settings: &Settings) -> bool {
        self.total_bytes > 0 && self.is_due(settings) && best.is_none_or(|best| self.ratio() > best.ratio())
    }
}

/// In whole segments, as Kafka counts. `end_of_closed`: where the segment behind the closed ones begins.
#[must_use]
pub fn dirt(
    section: &Section,
    closed: &[Candidate],
    end_of_closed: Offset,
    settings: &Settings,
    now: TimestampMs,
) -> Dirt {
    let clean: u64 = closed.iter().filter(|one| one.base < section.first_dirty).map(|one| one.bytes).sum();
    // a segment counts whole: from the one that holds the first dirty offset to the first that begins at the end
    let end = closed.iter().map(|one| one.base).find(|base| *base >= section.end).unwrap_or(end_of_closed);
    let from = section.first_dirty.min(end);
    let cleanable: u64 = dirty(closed, from).iter().filter(|one| one.base < end).map(|one| one.bytes).sum();
    let cleanable = if from < end { cleanable } else { 0 };
    let earliest = closed
        .iter()
        .filter(|one| one.base >= section.first_dirty && one.first.0 > 0)
        .map(|one| one.first)
        .min();
    let until = now.0.saturating_sub(settings.max_lag_ms.max(0));
    Dirt {
        dirty_bytes: cleanable,
        total_bytes: clean + cleanable,
        is_overdue: earliest.is_some_and(|earliest| earliest.0 < until),
    }
}

/// Limits of one segment.
#[derive(Clone, Copy, Debug)]
pub struct GroupLimits {
    /// segment.bytes
    pub segment_bytes: u64,
    /// segment.index.bytes
    pub index_bytes: u64,
    /// index.interval.bytes
    pub index_interval_bytes: u64,
}

/// A time index entry, the larger of the two kinds.
const INDEX_ENTRY_BYTES: u64 = 12;
/// Positions and relative offsets in an index are 31 bits.
const RANGE_MAX: i64 = i32::MAX as i64;
/// A batch that gets a delete horizon may grow: room for it below what a position can say.
const POSITION_MAX: u64 = i32::MAX as u64 - (64 << 20);

/// Runs of segments that become one each, as lengths, in order. `end`: where the segment behind the last begins.
#[must_use]
pub fn groups(segments: &[Candidate], end: Offset, limits: &GroupLimits) -> Vec<usize> {
    let bytes_max = limits.segment_bytes.min(POSITION_MAX);
    // an entry at most per interval, and per batch
    let entry_every = limits.index_interval_bytes.max(61);
    let index_bytes = |bytes: u64| (bytes / entry_every + 1).saturating_mul(INDEX_ENTRY_BYTES);
    let mut groups = Vec::new();
    let mut first = 0;
    while first < segments.len() {
        let mut bytes = segments[first].bytes;
        let mut next = first + 1;
        while let Some(candidate) = segments.get(next) {
            let last_offset = segments.get(next + 1).map_or(end, |behind| behind.base).0 - 1;
            let together = bytes.saturating_add(candidate.bytes);
            let fits = together <= bytes_max
                && index_bytes(together) <= limits.index_bytes
                && last_offset.saturating_sub(segments[first].base.0) <= RANGE_MAX;
            if !fits {
                break;
            }
            bytes = together;
            next += 1;
        }
        groups.push(next - first);
        first = next;
    }
    groups
}

#[cfg(test)]
mod tests {
    use super::*;

    /// (base, bytes, latest, first)
    fn candidates(list: &[(i64, u64, i64, i64)]) -> Vec<Candidate> {
        list.iter()
            .map(|&(base, bytes, latest, first)| Candidate {
                base: Offset(base),
                bytes,
                latest: TimestampMs(latest),
                first: TimestampMs(first),
            })
            .collect()
    }

    const NOW: TimestampMs = TimestampMs(10_000);

    fn bounds(log_start: i64, limit: i64, log_end: i64) -> Bounds {
        Bounds { log_start: Offset(log_start), log_end: Offset(log_end), limit: Offset(limit) }
    }

    #[test]
    fn the_part_that_may_be_cleaned() {
        let closed = candidates(&[
            (0, 100, 1_000, 900),
            (10, 100, 9_000, 900),
            (20, 100, 2_000, 900),
            (30, 100, 9_900, 900),
        ]);
        let check = |cleaned_to: Option<i64>, bounds: Bounds, min_lag_ms: i64, expect: (i64, i64, bool)| {
            let settings = Settings { min_lag_ms, ..Settings::default() };
            let found = section(cleaned_to.map(Offset), &bounds, &closed, &settings, NOW);
            let found = (found.first_dirty.0, found.end.0, found.checkpoint_is_off);
            assert_eq!(found, expect, "{cleaned_to:?} {bounds:?} {min_lag_ms}");
        };
        check(None, bounds(0, 40, 45), 0, (0, 40, false));
        check(Some(25), bounds(0, 40, 45), 0, (25, 40, false));
        // an open transaction, or a segment that is not closed
        check(Some(5), bounds(0, 17, 45), 0, (5, 17, false));
        check(Some(25), bounds(0, 17, 45), 0, (25, 25, false));
        // the log starts above, or ends below: the checkpoint is of another life
        check(Some(5), bounds(7, 40, 45), 0, (7, 40, true));
        check(Some(46), bounds(0, 40, 45), 0, (0, 40, true));
        check(Some(45), bounds(0, 40, 45), 0, (45, 45, false));
        // too young: the first of them, and what lies behind it
        check(None, bounds(0, 40, 45), 500, (0, 30, false));
        check(None, bounds(0, 40, 45), 1_000, (0, 30, false));
        check(None, bounds(0, 40, 45), 1_001, (0, 10, false));
        check(Some(15), bounds(0, 40, 45), 1_001, (15, 15, false));
        check(Some(25), bounds(0, 40, 45), 1_001, (25, 30, false));
        check(None, bounds(0, 40, 45), i64::MAX, (0, 0, false));
    }

    #[test]
    fn dirt_is_counted_in_segments() {
        let closed =
            candidates(&[(0, 100, 1, 500), (10, 200, 1, 9_000), (20, 400, 1, -1), (30, 800, 1, 9_500)]);
        let check = |first_dirty: i64, end: i64, expect: (u64, u64)| {
            let section =
                Section { first_dirty: Offset(first_dirty), end: Offset(end), checkpoint_is_off: false };
            let found = dirt(&section, &closed, Offset(40), &Settings::default(), NOW);
            assert_eq!((found.dirty_bytes, found.total_bytes), expect, "{first_dirty}..{end}");
        };
        check(0, 40, (1_500, 1_500));
        check(0, 30, (700, 700));
        check(20, 40, (1_200, 1_500));
        check(40, 40, (0, 1_500));
        check(0, 0, (0, 0));
        check(20, 20, (0, 300));
        // the end inside a segment takes it in
        check(10, 25, (600, 700));
    }

    #[test]
    fn the_first_of_what_waits_too_long_is_overdue() {
        let closed = candidates(&[(0, 1, 1, 500), (10, 1, 1, 9_000), (20, 1, 1, -1), (30, 1, 1, 9_500)]);
        for (first_dirty, max_lag_ms, expect) in [
            (0, 9_499, true),
            (0, 9_500, false),
            (10, 999, true),
            (10, 1_000, false),
            (20, 499, true),
            (40, 1, false),
            (0, i64::MAX, false),
        ] {
            let section =
                Section { first_dirty: Offset(first_dirty), end: Offset(40), checkpoint_is_off: false };
            let settings = Settings { max_lag_ms, ..Settings::default() };
            let found = dirt(&section, &closed, Offset(40), &settings, NOW);
            assert_eq!(found.is_overdue, expect, "{first_dirty} {max_lag_ms}");
        }
    }

    #[test]
    fn the_dirtiest_that_is_due_goes_first() {
        let dirt = |dirty_bytes: u64, total_bytes: u64, is_overdue: bool| Dirt {
            dirty_bytes,
            total_bytes,
            is_overdue,
        };
        let half = Settings::default();
        let all = Settings { min_dirty_ratio: 1.0, ..half };
        let none = Settings { min_dirty_ratio: 0.0, ..half };
        for (logs, expect) in [
            (&[][..], None),
            (&[(dirt(50, 100, false), half)], None),
            (
                &[(dirt(51, 100, false), half), (dirt(90, 100, false), half), (dirt(60, 100, false), half)],
                Some(1),
            ),
            (&[(dirt(100, 100, false), all), (dirt(1, 100, false), none)], Some(1)),
            (&[(dirt(1, 100, true), half), (dirt(0, 100, true), half)], Some(0)),
            (&[(dirt(0, 100, true), half), (dirt(0, 0, true), none), (dirt(0, 100, false), none)], None),
        ] {
            let mut best: Option<usize> = None;
            for (number, (dirt, settings)) in logs.iter().enumerate() {
                if dirt.goes_before(best.map(|best: usize| &logs[best].0), settings) {
                    best = Some(number);
                }
            }
            assert_eq!(best, expect, "{logs:?}");
        }
    }

    #[test]
    fn segments_go_together_as_far_as_one_can_hold_them() {
        let check = |list: &[(i64, u64)], end: i64, limits: (u64, u64, u64), expect: &[usize]| {
            let list: Vec<_> = list.iter().map(|&(base, bytes)| (base, bytes, 0, 0)).collect();
            let (segment_bytes, index_bytes, index_interval_bytes) = limits;
            let limits = GroupLimits { segment_bytes, index_bytes, index_interval_bytes };
            assert_eq!(groups(&candidates(&list), Offset(end), &limits), expect, "{list:?}");
        };
        let wide = (1_000, 1 << 20, 4_096);
        check(&[], 0, wide, &[]);
        check(&[(0, 400), (10, 600), (20, 1), (30, 999), (40, 1)], 50, wide, &[2, 2, 1]);
        check(&[(0, 5_000), (10, 5_000), (20, 0)], 50, wide, &[1, 1, 1]);
        check(&[(0, 0), (10, 0), (20, 0)], 50, wide, &[3]);
        // relative offsets are 31 bits
        let max = i64::from(i32::MAX);
        check(&[(0, 1), (10, 1)], max + 1, wide, &[2]);
        check(&[(0, 1), (10, 1)], max + 2, wide, &[1, 1]);
        // the index: 12 bytes an interval
        check(&[(0, 4_000), (10, 4_000), (20, 4_000)], 30, (1 << 30, 36, 4_096), &[3]);
        check(&[(0, 4_000), (10, 4_000), (20, 4_000)], 30, (1 << 30, 24, 4_096), &[2, 1]);
        // and what a position can say, whatever segment.bytes is
        check(&[(0, 1 << 30), (10, 1 << 30)], 30, (u64::MAX, u64::MAX, 4_096), &[1, 1]);
    }
}

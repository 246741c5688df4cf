//! When the active segment gives way to a new one. Age counts in record time where records have a time: a topic
//! replayed from the past rolls as it did then. Source: Kafka's `LogSegment.shouldRoll`, `timeWaitedForRoll`.

use crate::model::{Offset, TimestampMs};

/// Positions in an index are 31 bits, so no segment is longer, whatever segment.bytes says.
const SEGMENT_BYTES_MAX: u64 = i32::MAX as u64;
/// Offsets in an index are 31 bits above the base.
const OFFSETS_MAX: i64 = i32::MAX as i64;

/// Why a segment is rolled.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Reason {
    /// segment.bytes
    Size,
    /// segment.ms
    Age,
    /// segment.index.bytes
    IndexFull,
    /// The offset no longer fits in 31 bits relative to the base.
    OffsetRange,
}

/// The active segment.
#[derive(Clone, Copy, Debug)]
pub struct Active {
    pub base_offset: Offset,
    /// Bytes of batches.
    pub bytes: u64,
    /// The first batch's max timestamp; `NONE` when empty or the batch has none.
    pub first_timestamp: TimestampMs,
    pub created: TimestampMs,
    pub indexes_full: bool,
}

/// The batch about to be appended.
#[derive(Clone, Copy, Debug)]
pub struct Incoming {
    pub bytes: u64,
    pub last_offset: Offset,
    pub max_timestamp: TimestampMs,
}

#[derive(Clone, Copy, Debug)]
pub struct Limits {
    pub segment_bytes: u64,
    pub segment_ms: i64,
    /// This segment's share of segment.jitter.ms.
    pub jitter_ms: i64,
}

/// A segment's share of segment.jitter.ms: below it and below segment.ms, the same for the same seed. Where Kafka draws
/// it for each segment, `seed` is made from what names the segment, so that a restart does not draw again.
#[must_use]
pub fn jitter(seed: u64, segment_jitter_ms: i64, segment_ms: i64) -> i64 {
    let bound = segment_jitter_ms.min(segment_ms);
    // the last steps of splitmix64: neighbouring seeds give unrelated numbers
    let mixed = (seed ^ (seed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    let mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    match u64::try_from(bound) {
        Ok(bound) if bound > 0 => i64::try_from((mixed ^ (mixed >> 31)) % bound).unwrap_or(0),
        _ => 0,
    }
}

/// Why the batch must go to a new segment; `None`: it goes to this one. An empty segment takes any batch that a
/// segment can hold: its base is the batch's offset.
#[must_use]
pub fn should_roll(
    active: &Active,
    incoming: &Incoming,
    limits: &Limits,
    now: TimestampMs,
) -> Option<Reason> {
    if active.bytes == 0 {
        let range = incoming.last_offset.0.saturating_sub(active.base_offset.0);
        return (range > OFFSETS_MAX).then_some(Reason::OffsetRange);
    }
    let limit = limits.segment_bytes.min(SEGMENT_BYTES_MAX);
    if active.bytes.saturating_add(incoming.bytes) > limit {
        return Some(Reason::Size);
    }
    let waited_ms = if active.first_timestamp.0 >= 0 {
        incoming.max_timestamp.0.saturating_sub(active.first_timestamp.0)
    } else {
        now.0.saturating_sub(active.created.0)
    };
    if waited_ms > limits.segment_ms.saturating_sub(limits.jitter_ms) {
        return Some(Reason::Age);
    }
    if active.indexes_full {
        return Some(Reason::IndexFull);
    }
    let range = incoming.last_offset.0.saturating_sub(active.base_offset.0);
    (range > OFFSETS_MAX).then_some(Reason::OffsetRange)
}

#[cfg(test)]
mod tests {
    use super::*;

    const ACTIVE: Active = Active {
        base_offset: Offset(100),
        bytes: 900,
        first_timestamp: TimestampMs(5_000),
        created: TimestampMs(70_000),
        indexes_full: false,
    };
    const INCOMING: Incoming =
        Incoming { bytes: 100, last_offset: Offset(200), max_timestamp: TimestampMs(6_000) };
    const LIMITS: Limits = Limits { segment_bytes: 1000, segment_ms: 1_000, jitter_ms: 0 };
    const NOW: TimestampMs = TimestampMs(70_500);

    fn check(active: Active, incoming: Incoming, limits: Limits, expect: Option<Reason>) {
        assert_eq!(
            should_roll(&active, &incoming, &limits, NOW),
            expect,
            "{active:?} {incoming:?} {limits:?}"
        );
    }

    #[test]
    fn size() {
        check(ACTIVE, INCOMING, LIMITS, None);
        check(ACTIVE, Incoming { bytes: 101, ..INCOMING }, LIMITS, Some(Reason::Size));
        // an empty segment takes the batch whatever its size: nothing would be gained
        check(Active { bytes: 0, ..ACTIVE }, Incoming { bytes: 5000, ..INCOMING }, LIMITS, None);
        let huge = Limits { segment_bytes: u64::MAX, ..LIMITS };
        let full = Active { bytes: SEGMENT_BYTES_MAX - 50, ..ACTIVE };
        check(full, INCOMING, huge, Some(Reason::Size));
        check(ACTIVE, Incoming { bytes: u64::MAX, ..INCOMING }, huge, Some(Reason::Size));
    }

    #[test]
    fn age_in_record_time_else_by_the_clock() {
        let late = Incoming { max_timestamp: TimestampMs(6_001), ..INCOMING };
        check(ACTIVE, late, LIMITS, Some(Reason::Age));
        check(ACTIVE, INCOMING, Limits { jitter_ms: 1, ..LIMITS }, Some(Reason::Age));
        check(Active { bytes: 0, ..ACTIVE }, late, LIMITS, None);
        // without record time the segment's own age counts: 500 ms
        let untimed = Active { first_timestamp: TimestampMs::NONE, ..ACTIVE };
        check(untimed, late, LIMITS, None);
        check(untimed, INCOMING, Limits { segment_ms: 499, ..LIMITS }, Some(Reason::Age));
        // no overflow on a hostile timestamp
        let first = Active { first_timestamp: TimestampMs(i64::MAX), ..ACTIVE };
        check(first, Incoming { max_timestamp: TimestampMs(i64::MIN), ..INCOMING }, LIMITS, None);
    }

    #[test]
    fn indexes_and_offset_range() {
        check(Active { indexes_full: true, ..ACTIVE }, INCOMING, LIMITS, Some(Reason::IndexFull));
        let at = |last_offset: i64| Incoming { last_offset: Offset(last_offset), ..INCOMING };
        check(ACTIVE, at(100 + OFFSETS_MAX), LIMITS, None);
        check(ACTIVE, at(101 + OFFSETS_MAX), LIMITS, Some(Reason::OffsetRange));
        check(Active { bytes: 0, ..ACTIVE }, at(101 + OFFSETS_MAX), LIMITS, Some(Reason::OffsetRange));
    }

    #[test]
    fn jitter_spreads_and_stays_below_both_settings() {
        for (jitter_ms, segment_ms, bound) in
            [(100, 1_000, 100), (1_000, 100, 100), (i64::MAX, i64::MAX, i64::MAX)]
        {
            let drawn: Vec<i64> = (0..1_000).map(|seed| jitter(seed, jitter_ms, segment_ms)).collect();
            assert!(drawn.iter().all(|&drawn| (0..bound).contains(&drawn)));
            assert!(drawn.iter().any(|&drawn| drawn < bound / 10));
            assert!(drawn.iter().any(|&drawn| drawn > bound / 10 * 9));
            assert_eq!(jitter(7, jitter_ms, segment_ms), drawn[7]);
        }
        for (jitter_ms, segment_ms) in [(0, 1_000), (1_000, 0), (-1, 1_000), (1, 1_000)] {
            assert_eq!(jitter(7, jitter_ms, segment_ms), 0);
        }
    }
}

//! Which of a log's oldest segments may go. Source: Kafka's `UnifiedLog.deleteOldSegments`.
//!
//! Segments are judged one by one, oldest first, and the first that stays ends the walk. What only the segment's
//! newest record can tell is asked for ([`Verdict::AskTime`]), so that no index is read in vain. (A segment below the
//! log start goes whatever the limits: it is not part of the log any more.)

use crate::model::{Offset, TimestampMs};

/// The oldest segment that is left.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Candidate {
    /// Exclusive: the next segment's base, or the log's end for the active one.
    pub end: Offset,
    /// Bytes of batches.
    pub bytes: u64,
    /// Appends go to it.
    pub is_active: bool,
}

/// What decides. A limit below zero is none; a log whose cleanup.policy does not delete has none.
#[derive(Clone, Copy, Debug)]
pub struct Rules {
    pub retention_ms: i64,
    pub retention_bytes: i64,
    /// Only segments that end at or below it may go.
    pub high_watermark: Offset,
}

/// Why a segment goes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Reason {
    /// retention.bytes
    Size,
    /// retention.ms
    Time,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// The active one is rolled first, so that a log never is without a segment.
    Delete(Reason),
    /// It goes if [`Rules::is_expired`] says so of its newest record.
    AskTime,
    Keep,
}

impl Rules {
    /// `log_bytes`: of this segment and all behind it. By size a segment goes only if the rest still holds
    /// retention.bytes, so up to one segment more is kept.
    #[must_use]
    pub fn judge(&self, segment: &Candidate, log_bytes: u64) -> Verdict {
        let is_empty = segment.is_active && segment.bytes == 0;
        if is_empty || segment.end > self.high_watermark {
            return Verdict::Keep;
        }
        let rest = log_bytes.saturating_sub(segment.bytes);
        if u64::try_from(self.retention_bytes).is_ok_and(|kept| rest >= kept) {
            return Verdict::Delete(Reason::Size);
        }
        if self.retention_ms >= 0 { Verdict::AskTime } else { Verdict::Keep }
    }

    /// `newest`: the segment's largest record timestamp or, where no record has one, when its file was last written.
    /// One from the future never expires before it has come.
    #[must_use]
    pub fn is_expired(&self, newest: TimestampMs, now: TimestampMs) -> bool {
        self.retention_ms >= 0 && now.0.saturating_sub(newest.0) > self.retention_ms
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const NONE: Rules = Rules { retention_ms: -1, retention_bytes: -1, high_watermark: Offset(100) };
    /// End, bytes, newest record: three rolled segments and an active one; the log ends at 100.
    const LOG: [(i64, u64, i64); 4] =
        [(30, 100, 1_000), (60, 100, 2_000), (90, 100, 3_000), (100, 100, 4_000)];

    /// How many of the oldest go.
    fn count(log: &[(i64, u64, i64)], rules: &Rules, now: i64) -> usize {
        let mut left: u64 = log.iter().map(|(_, bytes, _)| bytes).sum();
        let goes = |&(index, &(end, bytes, newest)): &(usize, &(i64, u64, i64))| {
            let segment = Candidate { end: Offset(end), bytes, is_active: index + 1 == log.len() };
            let verdict = rules.judge(&segment, left);
            left -= bytes;
            match verdict {
                Verdict::Delete(_) => true,
                Verdict::AskTime => rules.is_expired(TimestampMs(newest), TimestampMs(now)),
                Verdict::Keep => false,
            }
        };
        log.iter().enumerate().take_while(goes).count()
    }

    fn check(rules: Rules, now: i64, expect: usize) {
        assert_eq!(count(&LOG, &rules, now), expect, "{rules:?} at {now}");
    }

    #[test]
    fn by_time() {
        let timed = Rules { retention_ms: 1_000, ..NONE };
        check(NONE, i64::MAX, 0);
        check(timed, i64::MIN, 0);
        check(timed, 2_000, 0);
        check(timed, 2_001, 1);
        check(timed, 4_001, 3);
        // the active one too
        check(timed, 5_001, 4);
        check(Rules { high_watermark: Offset(89), ..timed }, 5_001, 2);
        check(Rules { high_watermark: Offset(99), ..timed }, 5_001, 3);
        check(Rules { retention_ms: 0, ..NONE }, 1_000, 0);
        check(Rules { retention_ms: 0, ..NONE }, 1_001, 1);
        check(Rules { retention_ms: i64::MAX, ..NONE }, i64::MAX, 0);
    }

    #[test]
    fn a_timestamp_from_the_future_blocks_what_is_behind_it() {
        let log = [(30, 100, 1_000), (60, 100, 9_000), (90, 100, 1_000), (100, 0, -1)];
        let timed = Rules { retention_ms: 1_000, ..NONE };
        assert_eq!(count(&log, &timed, 5_000), 1);
        assert_eq!(count(&log, &timed, 10_001), 3);
        assert_eq!(count(&[(30, 100, i64::MAX), (60, 1, 1)], &timed, i64::MAX), 0);
    }

    #[test]
    fn by_size_never_below_the_limit() {
        let sized = |retention_bytes| Rules { retention_bytes, ..NONE };
        check(sized(301), 0, 0);
        check(sized(300), 0, 1);
        check(sized(101), 0, 2);
        check(sized(100), 0, 3);
        check(sized(1), 0, 3);
        check(sized(0), 0, 4);
        check(sized(i64::MAX), 0, 0);
        // either is enough, and each counts what the other has left
        check(Rules { retention_ms: 1_000, ..sized(200) }, 2_001, 2);
        check(Rules { retention_ms: 1_000, ..sized(300) }, 3_001, 2);
    }

    #[test]
    fn an_empty_active_segment_stays() {
        let rules = Rules { retention_ms: 0, retention_bytes: 0, ..NONE };
        assert_eq!(count(&[(30, 100, 1), (30, 0, -1)], &rules, i64::MAX), 1);
    }
}

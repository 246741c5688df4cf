//! When records are due at a fixed rate.
//!
//! The schedule goes on whatever the broker does, and latency counts from when a record was due, not from when it
//! could be sent: a broker that stands still for a second delays every record of that second, and all of them are
//! in the figures (no coordinated omission).

/// Records that are due closer together than this are due together: a thread wakes 10,000 times a second at most.
/// An application that hands its client a record every few microseconds looks the same to the broker.
pub const TICK_NANOS: u64 = 100_000;

/// The arrivals of one thread.
#[derive(Clone, Debug)]
pub struct Schedule {
    nanos_per_record: f64,
    phase: f64,
    given: u64,
    /// Nothing is due from then on.
    until: u64,
}

impl Schedule {
    /// `phase` of an interval later than others of the same rate, so that threads do not send at the same moments.
    ///
    /// # Panics
    /// If the rate is not above zero.
    #[must_use]
    pub fn new(records_per_second: f64, phase: f64, until: u64) -> Schedule {
        assert!(records_per_second > 0.0, "a rate is above zero");
        Schedule { nanos_per_record: 1e9 / records_per_second, phase, given: 0, until }
    }

    /// When the next record is due; `None` when all have been given out.
    #[must_use]
    pub fn next_due(&self) -> Option<u64> {
        let exact = ((self.given as f64 + self.phase) * self.nanos_per_record) as u64;
        let due = if self.nanos_per_record >= TICK_NANOS as f64 {
            exact
        } else {
            exact.next_multiple_of(TICK_NANOS)
        };
        (due < self.until).then_some(due)
    }

    /// The next record has been given out.
    pub fn advance(&mut self) {
        self.given += 1;
    }

    /// Records that were due by then and have not been given out.
    #[must_use]
    pub fn backlog(&self, now: u64) -> u64 {
        let due = now.min(self.until) as f64 / self.nanos_per_record - self.phase;
        (due.ceil().max(0.0) as u64).saturating_sub(self.given)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn all_due(mut schedule: Schedule) -> Vec<u64> {
        let mut all = Vec::new();
        while let Some(due) = schedule.next_due() {
            all.push(due);
            schedule.advance();
        }
        all
    }

    #[test]
    fn slow_rates_are_exact() {
        let due = all_due(Schedule::new(1000.0, 0.5, 10_000_000));
        assert_eq!(due, (0..10).map(|i| 500_000 + i * 1_000_000).collect::<Vec<_>>());
    }

    #[test]
    fn fast_rates_come_in_ticks_and_lose_nothing() {
        for rate in [12_345.0, 1_000_000.0, 33_333_333.0] {
            let due = all_due(Schedule::new(rate, 0.0, 1_000_000_001));
            assert!((due.len() as f64 - rate).abs() <= 1.0 + rate / 1e4, "{} at {rate}", due.len());
            assert!(due.iter().all(|due| due % TICK_NANOS == 0) && due.is_sorted());
        }
    }

    #[test]
    fn the_backlog_is_what_was_due_and_not_given() {
        let mut schedule = Schedule::new(1000.0, 0.0, 8_000_000);
        assert_eq!(schedule.backlog(5_000_000), 5);
        schedule.advance();
        assert_eq!(schedule.backlog(5_000_000), 4);
        assert_eq!(schedule.backlog(u64::MAX), 7, "nothing is due at the end or later");
    }
}

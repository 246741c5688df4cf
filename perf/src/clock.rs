//! The time of a run: nanoseconds since it began, and what the wall clock said then.

use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

/// One per run, copied to every thread.
#[derive(Clone, Copy, Debug)]
pub struct Clock {
    begin: Instant,
    wall_ms: i64,
}

impl Clock {
    /// A clock whose zero is that long from now.
    #[must_use]
    pub fn begins_in(wait: Duration) -> Clock {
        let wall = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default() + wait;
        let wall_ms = i64::try_from(wall.as_millis()).unwrap_or(i64::MAX);
        Clock { begin: Instant::now() + wait, wall_ms }
    }

    /// Nanoseconds since the run began; 0 before.
    #[must_use]
    pub fn nanos(&self) -> u64 {
        nanos(self.begin.elapsed())
    }

    /// Kafka's timestamp for that moment of the run.
    #[must_use]
    pub fn timestamp_ms(&self, nanos: u64) -> i64 {
        self.wall_ms + i64::try_from(nanos / 1_000_000).unwrap_or(i64::MAX / 2)
    }

    /// Milliseconds since 1970 at the beginning.
    #[must_use]
    pub fn wall_ms(&self) -> i64 {
        self.wall_ms
    }

    /// How long until that moment.
    #[must_use]
    pub fn until(&self, nanos: u64) -> Duration {
        (self.begin + Duration::from_nanos(nanos)).saturating_duration_since(Instant::now())
    }
}

/// Whole nanoseconds, 584 years at most.
#[must_use]
pub fn nanos(duration: Duration) -> u64 {
    u64::try_from(duration.as_nanos()).unwrap_or(u64::MAX)
}

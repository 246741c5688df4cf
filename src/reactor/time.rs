//! Clocks and timers.

use std::time::Duration;

/// Nanoseconds of the monotonic clock since the process began.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Instant(pub u64);

impl Instant {
    #[must_use]
    pub fn after(self, duration: Duration) -> Instant {
        Instant(self.0.saturating_add(u64::try_from(duration.as_nanos()).unwrap_or(u64::MAX)))
    }

    /// Zero if `earlier` is later.
    #[must_use]
    pub fn since(self, earlier: Instant) -> Duration {
        Duration::from_nanos(self.0.saturating_sub(earlier.0))
    }
}

/// The monotonic clock.
#[must_use]
pub fn now() -> Instant {
    unimplemented!()
}

/// The wall clock, milliseconds since 1970. It may jump.
#[must_use]
pub fn wall_clock_ms() -> i64 {
    unimplemented!()
}

pub async fn sleep(duration: Duration) {
    sleep_until(now().after(duration)).await;
}

pub async fn sleep_until(deadline: Instant) {
    let _ = deadline;
    unimplemented!()
}

/// Random for ids and jitter (seeded in simulation); not for secrets.
#[must_use]
pub fn random_u64() -> u64 {
    unimplemented!()
}

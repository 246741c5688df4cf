//! Clocks and timers.

use std::cell::Cell;
use std::sync::LazyLock;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use super::runtime::{self, Runtime};

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

/// Where the monotonic clock begins: whoever asks first. One for all threads, so that instants may be compared.
static BEGINNING: LazyLock<std::time::Instant> = LazyLock::new(std::time::Instant::now);

/// The machine's monotonic clock, whatever runtime serves this thread.
pub(super) fn machine_now() -> Instant {
    Instant(u64::try_from(BEGINNING.elapsed().as_nanos()).unwrap_or(u64::MAX))
}

/// The monotonic clock. Outside of a shard too.
#[must_use]
pub fn now() -> Instant {
    runtime::with(|runtime| match runtime {
        #[cfg(any(test, feature = "sim"))]
        Some(Runtime::Virtual(shard)) => shard.now(),
        Some(Runtime::Glommio(_)) | None => machine_now(),
    })
}

/// The wall clock, milliseconds since 1970. It may jump. Outside of a shard too.
#[must_use]
pub fn wall_clock_ms() -> i64 {
    runtime::with(|runtime| match runtime {
        #[cfg(any(test, feature = "sim"))]
        Some(Runtime::Virtual(shard)) => shard.wall_clock_ms(),
        Some(Runtime::Glommio(_)) | None => milliseconds_since_1970(SystemTime::now()),
    })
}

/// Milliseconds since 1970, negative before.
pub(super) fn milliseconds_since_1970(time: SystemTime) -> i64 {
    match time.duration_since(UNIX_EPOCH) {
        Ok(after) => i64::try_from(after.as_millis()).unwrap_or(i64::MAX),
        Err(before) => i64::try_from(before.duration().as_millis()).map_or(i64::MIN, |ms| -ms),
    }
}

pub async fn sleep(duration: Duration) {
    sleep_until(now().after(duration)).await;
}

/// Returns at `deadline` or a little after it; at once if it has passed.
pub async fn sleep_until(deadline: Instant) {
    match runtime::current() {
        Runtime::Glommio(local) => local.driver.sleep_until(deadline).await,
        #[cfg(any(test, feature = "sim"))]
        Runtime::Virtual(shard) => shard.sleep_until(deadline).await,
    }
}

/// Random for ids and jitter (seeded in simulation); not for secrets. Outside of a shard too.
#[must_use]
pub fn random_u64() -> u64 {
    runtime::with(|runtime| match runtime {
        #[cfg(any(test, feature = "sim"))]
        Some(Runtime::Virtual(shard)) => shard.random_u64(),
        Some(Runtime::Glommio(_)) | None => machine_random(),
    })
}

/// SplitMix64 (Steele, Lea, Flood 2014), seeded once per thread by the kernel.
fn machine_random() -> u64 {
    thread_local! {
        static STATE: Cell<u64> = Cell::new(super::machine::random_seed());
    }
    STATE.with(|state| {
        state.set(state.get().wrapping_add(0x9e37_79b9_7f4a_7c15));
        let mut mixed = state.get();
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ (mixed >> 31)
    })
}

//! How busy each shard is, for whoever would give one more to do: each works it out for itself and tells all how many may come.

use std::cell::Cell;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use super::runtime::{self, Runtime};
use super::time::Instant;
use crate::model::ShardId;

/// It is worked out over so long a time, or longer when the shard slept at its end.
const PERIOD: Duration = Duration::from_millis(64);
/// A shard that is busier has no place.
const BUSY_MAX_PER_MILLE: u32 = 700;
/// What a newcomer is taken to bring until it shows: as many as fit below the bound may come in the next period.
const NEWCOMER_PER_MILLE: u32 = 100;

/// Of one shard: told by it when it wakes, as one that carries a broker does several times a second; claimed from by all.
#[derive(Default)]
pub(super) struct Load {
    /// None before the first period has ended.
    places: AtomicU32,
}

impl Load {
    fn tell(&self, busy_per_mille: u32) {
        let room = BUSY_MAX_PER_MILLE.saturating_sub(busy_per_mille);
        self.places.store(room / NEWCOMER_PER_MILLE, Ordering::Relaxed);
    }

    fn claim(&self) -> bool {
        let claimed = |places: u32| places.checked_sub(1);
        self.places.fetch_update(Ordering::Relaxed, Ordering::Relaxed, claimed).is_ok()
    }
}

/// Whether that shard has time for something that lasts, as a connection does. If so, one of the places is taken that
/// it has for the time being. In the simulator nobody has one: its connections stay where they are.
#[must_use]
pub fn claim_place(shard: ShardId) -> bool {
    match runtime::current() {
        Runtime::Glommio(local) => local.group.load(shard).claim(),
        #[cfg(any(test, feature = "sim"))]
        Runtime::Virtual(_) => false,
    }
}

/// The shard's own: measures with clocks that the driver reads anyway.
pub(super) struct Meter {
    load: Arc<Load>,
    since: Cell<Instant>,
    idle: Cell<Duration>,
    /// It has looked for work since then, and found none.
    spins_from: Cell<Option<Instant>>,
}

impl Meter {
    pub(super) fn new(load: Arc<Load>) -> Meter {
        Meter { load, since: Cell::default(), idle: Cell::default(), spins_from: Cell::default() }
    }

    pub(super) fn begin(&self, now: Instant) {
        self.since.set(now);
        self.idle.set(Duration::ZERO);
    }

    /// In that time the shard slept, or did what can wait.
    pub(super) fn idle(&self, time: Duration) {
        self.idle.set(self.idle.get() + time);
    }

    /// Nobody has anything to do, and the shard does not sleep: idle until the next turn.
    pub(super) fn spin(&self, now: Instant) {
        self.spins_from.set(Some(now));
    }

    pub(super) fn turn(&self, now: Instant) {
        if let Some(from) = self.spins_from.take() {
            self.idle(now.since(from));
        }
        let period = now.since(self.since.get());
        if period >= PERIOD {
            self.load.tell(busy_per_mille(period, self.idle.get()));
            self.begin(now);
        }
    }
}

fn busy_per_mille(period: Duration, idle: Duration) -> u32 {
    let busy = period.saturating_sub(idle);
    u32::try_from(busy.as_micros() * 1000 / period.as_micros().max(1)).unwrap_or(1000)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_idle_have_places() {
        let load = Arc::<Load>::default();
        let meter = Meter::new(Arc::clone(&load));
        let at = |ms: u64| Instant::default().after(Duration::from_millis(ms));
        meter.begin(at(1000));
        assert!(!load.claim(), "nothing is known of it yet");
        meter.idle(Duration::from_millis(50));
        meter.turn(at(1063));
        assert!(!load.claim());
        meter.turn(at(1100));
        assert!(load.claim() && load.claim() && !load.claim(), "half of the time: two tenths are left");
        // spinning is idle, up to the next turn
        meter.turn(at(1110));
        meter.spin(at(1110));
        meter.turn(at(1200));
        assert_eq!((0..10).filter(|_| load.claim()).count(), 6);
        meter.turn(at(1264));
        assert!(!load.claim(), "busy all the time");
    }
}

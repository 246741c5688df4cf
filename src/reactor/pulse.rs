//! Whether a shard gets round: how long it went without a turn, and a thread that says so while it lasts.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread::JoinHandle;
use std::time::Duration;

use super::time::{Instant, machine_now};

/// A shard that has no turn for longer is reported.
const STALL: Duration = Duration::from_secs(1);
/// How often the thread looks.
const PERIOD: Duration = Duration::from_millis(250);

/// Of one shard; written by it alone.
#[derive(Default)]
pub(super) struct Pulse {
    /// When its last turn was, in nanoseconds of the machine's clock; 0 while it sleeps.
    turned_at: AtomicU64,
    /// The longest time between two turns without sleep, in nanoseconds.
    longest: AtomicU64,
}

impl Pulse {
    pub(super) fn turn(&self, now: Instant) {
        let before = self.turned_at.load(Ordering::Relaxed);
        if before != 0 {
            let silence = now.0.saturating_sub(before);
            if silence > self.longest.load(Ordering::Relaxed) {
                self.longest.store(silence, Ordering::Relaxed);
            }
        }
        self.turned_at.store(now.0, Ordering::Relaxed);
    }

    pub(super) fn fall_asleep(&self) {
        self.turned_at.store(0, Ordering::Relaxed);
    }

    pub(super) fn wake_up(&self, now: Instant) {
        self.turned_at.store(now.0, Ordering::Relaxed);
    }

    /// The shard has ended.
    pub(super) fn stop(&self) {
        self.fall_asleep();
    }

    pub(super) fn longest(&self) -> Duration {
        Duration::from_nanos(self.longest.load(Ordering::Relaxed))
    }

    fn silence(&self, now: Instant) -> Duration {
        match self.turned_at.load(Ordering::Relaxed) {
            0 => Duration::ZERO,
            turned_at => now.since(Instant(turned_at)),
        }
    }
}

/// The longest time that this shard went without a turn: one task ran all the time, or the machine had no time for it.
#[must_use]
pub fn longest_stall() -> Duration {
    match super::runtime::current() {
        super::runtime::Runtime::Glommio(local) => local.pulse.longest(),
        #[cfg(any(test, feature = "sim"))]
        super::runtime::Runtime::Virtual(_) => Duration::ZERO,
    }
}

/// The thread that looks after the shards. Ends when this is dropped.
pub(super) struct Watchdog {
    thread: Option<JoinHandle<()>>,
    stop: Arc<AtomicBool>,
}

impl Watchdog {
    pub(super) fn start(pulses: Vec<Arc<Pulse>>) -> std::io::Result<Watchdog> {
        let stop = Arc::new(AtomicBool::new(false));
        let stopped = Arc::clone(&stop);
        let thread = std::thread::Builder::new().name("watchdog".into()).spawn(move || {
            super::crash::mark_thread();
            let mut reported = vec![Duration::ZERO; pulses.len()];
            while !stopped.load(Ordering::Acquire) {
                for ((shard, pulse), reported) in pulses.iter().enumerate().zip(&mut reported) {
                    look(shard, pulse.silence(machine_now()), reported);
                }
                std::thread::park_timeout(PERIOD);
            }
        })?;
        Ok(Watchdog { thread: Some(thread), stop })
    }
}

/// `reported`: how long the silence was that was told of last, if it has not ended.
fn look(shard: usize, silence: Duration, reported: &mut Duration) {
    if silence > STALL && reported.is_zero() {
        tracing::warn!(
            shard,
            ?silence,
            "shard does not answer: a task keeps its thread, or the machine has no time for it"
        );
    }
    if silence > STALL {
        *reported = silence;
    } else if !reported.is_zero() {
        tracing::info!(shard, silence = ?*reported, "shard answers again");
        *reported = Duration::ZERO;
    }
}

impl Drop for Watchdog {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Release);
        if let Some(thread) = self.thread.take() {
            thread.thread().unpark();
            // It cannot have panicked: that aborts the process.
            let _ = thread.join();
        }
    }
}

//! One thread that wakes every shard a hundred times a second from outside, and notices who does not answer.
//!
//! glommio can park with work waiting: when its pre-emption signal comes before the first task of a turn, it takes
//! the run queue for empty and sleeps until something happens from outside. This is what happens. It makes the
//! worst lost wake-up a pause of [`PERIOD`], and because a shard that does not answer is stalled, it tells of those.

use std::future::poll_fn;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Poll, Waker};
use std::thread::JoinHandle;
use std::time::Duration;

use super::time::{Instant, machine_now};

/// How often every shard is woken. For it two idle shards and this thread pay some 3 % of one core together.
const PERIOD: Duration = Duration::from_millis(10);

/// A shard that does not answer for longer is reported.
const STALL: Duration = Duration::from_secs(1);

/// Wake-ups that a shard may leave unanswered before they come less often: a stalled shard collects them, each is a
/// reference to one task, and glommio panics at the 32,768th.
const EAGER_BEATS: u32 = 1000;

/// From then on every so many beats, and no more than so many: a shard that slept through four hours is lost.
const LATE_BEAT: u32 = 100;
const BEATS_MAX: u32 = EAGER_BEATS + 15_000 * LATE_BEAT;

/// Where the pacemaker and one shard meet.
#[derive(Default)]
pub(super) struct Pulse {
    /// Left by the shard when it starts. It stays here while it is used: a shard that was woken and fell asleep again
    /// before it ran the task must be woken again.
    waker: Mutex<Option<Waker>>,
    /// When the shard last answered, in nanoseconds of the machine's clock.
    answered_at: AtomicU64,
    /// The longest time between a wake-up and its answer, in nanoseconds.
    longest_silence: AtomicU64,
    /// The shard runs. While it starts it is woken, and may be silent: it waits for the slowest of them.
    is_live: AtomicBool,
}

impl Pulse {
    /// The shard's side: a task that runs as long as the shard, calling `housekeeping` on every beat.
    pub(super) async fn answer(self: Arc<Pulse>, housekeeping: impl Fn()) {
        let mut introduced = false;
        poll_fn(|context| {
            housekeeping();
            self.answered_at.store(machine_now().0, Ordering::Release);
            if !introduced {
                introduced = true;
                *self.waker.lock().unwrap_or_else(PoisonError::into_inner) = Some(context.waker().clone());
            }
            Poll::<()>::Pending
        })
        .await;
    }

    /// The shard has started: from now on its silence is told.
    pub(super) fn begin(&self) {
        self.is_live.store(true, Ordering::Release);
    }

    /// No wake-ups from here on. Called on the shard at its end: the waker is dropped at home.
    pub(super) fn stop(&self) {
        drop(self.waker.lock().unwrap_or_else(PoisonError::into_inner).take());
    }

    pub(super) fn longest_silence(&self) -> Duration {
        Duration::from_nanos(self.longest_silence.load(Ordering::Relaxed))
    }
}

/// The longest time that this shard was deaf to the pacemaker: no task of it ran, or one ran all the time.
#[must_use]
pub fn longest_stall() -> Duration {
    match super::runtime::current() {
        super::runtime::Runtime::Glommio(local) => local.pulse.longest_silence(),
        #[cfg(any(test, feature = "sim"))]
        super::runtime::Runtime::Virtual(_) => Duration::ZERO,
    }
}

/// The thread. Ends when this is dropped.
pub(super) struct Pacemaker {
    thread: Option<JoinHandle<()>>,
    stop: Arc<AtomicBool>,
}

impl Pacemaker {
    pub(super) fn start(pulses: Vec<Arc<Pulse>>) -> std::io::Result<Pacemaker> {
        let stop = Arc::new(AtomicBool::new(false));
        let stopped = Arc::clone(&stop);
        let thread = std::thread::Builder::new().name("pacemaker".into()).spawn(move || {
            super::crash::mark_thread();
            let mut shards: Vec<Watched> = pulses.into_iter().map(Watched::new).collect();
            while !stopped.load(Ordering::Acquire) {
                for (id, shard) in shards.iter_mut().enumerate() {
                    shard.beat(id, machine_now());
                }
                std::thread::park_timeout(PERIOD);
            }
        })?;
        Ok(Pacemaker { thread: Some(thread), stop })
    }
}

impl Drop for Pacemaker {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Release);
        if let Some(thread) = self.thread.take() {
            thread.thread().unpark();
            // It cannot have panicked: that aborts the process.
            let _ = thread.join();
        }
    }
}

/// One shard in the pacemaker's eyes.
struct Watched {
    pulse: Arc<Pulse>,
    /// The first wake-up that it has not answered yet, and how many beats ago that was.
    asked_at: Option<Instant>,
    unanswered: u32,
    reported: bool,
}

impl Watched {
    fn new(pulse: Arc<Pulse>) -> Watched {
        Watched { pulse, asked_at: None, unanswered: 0, reported: false }
    }

    fn beat(&mut self, id: usize, now: Instant) {
        if !self.pulse.is_live.load(Ordering::Acquire) {
            let waker = self.pulse.waker.lock().unwrap_or_else(PoisonError::into_inner);
            if let Some(waker) = waker.as_ref().filter(|_| self.unanswered < EAGER_BEATS) {
                self.unanswered += 1;
                waker.wake_by_ref();
            }
            return;
        }
        if let Some(asked_at) = self.asked_at {
            let answered_at = Instant(self.pulse.answered_at.load(Ordering::Acquire));
            if answered_at >= asked_at {
                self.answered(id, answered_at.since(asked_at));
            } else {
                self.silent(id, now.since(asked_at));
            }
        }
        let beats = self.unanswered;
        if beats < EAGER_BEATS || (beats < BEATS_MAX && beats.is_multiple_of(LATE_BEAT)) {
            let waker = self.pulse.waker.lock().unwrap_or_else(PoisonError::into_inner);
            if let Some(waker) = &*waker {
                self.asked_at.get_or_insert(now);
                waker.wake_by_ref();
            }
        }
    }

    fn silent(&mut self, id: usize, silence: Duration) {
        self.unanswered = self.unanswered.saturating_add(1);
        self.remember(silence);
        if silence > STALL && !self.reported {
            self.reported = true;
            tracing::warn!(
                shard = id,
                ?silence,
                "shard does not answer: a task keeps its thread, or the machine has no time for it"
            );
        }
    }

    fn answered(&mut self, id: usize, silence: Duration) {
        self.asked_at = None;
        self.unanswered = 0;
        self.remember(silence);
        if std::mem::take(&mut self.reported) {
            tracing::info!(shard = id, ?silence, "shard answers again");
        }
    }

    fn remember(&self, silence: Duration) {
        let silence = u64::try_from(silence.as_nanos()).unwrap_or(u64::MAX);
        self.pulse.longest_silence.fetch_max(silence, Ordering::Relaxed);
    }
}

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

/// How often every shard is woken. Two idle shards pay well under 1 % of a core for it.
const PERIOD: Duration = Duration::from_millis(10);

/// A shard that does not answer for longer is reported.
const STALL: Duration = Duration::from_secs(1);

/// Where the pacemaker and one shard meet.
#[derive(Default)]
pub(super) struct Pulse {
    /// Left by the shard when it answers; taken to wake it. One at a time: a task bears only so many wakers.
    waker: Mutex<Option<Waker>>,
    /// When the shard last answered, in nanoseconds of the machine's clock.
    answered_at: AtomicU64,
    /// The longest time between a wake-up and its answer, in nanoseconds.
    longest_silence: AtomicU64,
    stop: AtomicBool,
}

impl Pulse {
    /// The shard's side: runs as a task of the shard until [`Self::stop`], calling `housekeeping` on every beat.
    pub(super) async fn answer(self: Arc<Pulse>, housekeeping: impl Fn()) {
        poll_fn(|context| {
            housekeeping();
            self.answered_at.store(machine_now().0, Ordering::Release);
            let mut waker = self.waker.lock().unwrap_or_else(PoisonError::into_inner);
            if self.stop.load(Ordering::Acquire) {
                return Poll::Ready(());
            }
            *waker = Some(context.waker().clone());
            Poll::Pending
        })
        .await;
    }

    /// Lets the shard's task end. Called on the shard, whose waker must be dropped at home.
    pub(super) fn stop(&self) {
        self.stop.store(true, Ordering::Release);
        let waker = self.waker.lock().unwrap_or_else(PoisonError::into_inner).take();
        if let Some(waker) = waker {
            waker.wake();
        }
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
    /// When it was last woken, until it answers.
    asked_at: Option<Instant>,
    reported: bool,
}

impl Watched {
    fn new(pulse: Arc<Pulse>) -> Watched {
        Watched { pulse, asked_at: None, reported: false }
    }

    fn beat(&mut self, id: usize, now: Instant) {
        let waker = self.pulse.waker.lock().unwrap_or_else(PoisonError::into_inner).take();
        match (waker, self.asked_at) {
            (Some(waker), asked_at) => {
                if let Some(asked_at) = asked_at {
                    let answered_at = Instant(self.pulse.answered_at.load(Ordering::Acquire));
                    self.answered(id, answered_at.since(asked_at));
                }
                self.asked_at = Some(now);
                waker.wake();
            }
            (None, Some(asked_at)) => {
                let silence = now.since(asked_at);
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
            // It has not begun yet.
            (None, None) => {}
        }
    }

    fn answered(&mut self, id: usize, silence: Duration) {
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

//! The task that gives a shard its turns: it looks at the ring, the timers and the bell when all others have run, and sleeps when
//! none of them has anything to do.
//!
//! glommio runs tasks in the order in which they were woken, one queue. This task is always in it, so glommio never comes to
//! the end of the queue, where it would look at its own rings and go to sleep itself. That nobody else has anything to
//! do is seen from two laps through the queue with no other task between them.

use std::cell::{Cell, RefCell};
use std::collections::{BTreeMap, VecDeque};
use std::future::{Future, poll_fn};
use std::pin::pin;
use std::rc::Rc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll, Wake, Waker};
use std::time::Duration;

use super::bell::Bell;
use super::buffer;
use super::load::Meter;
use super::pool::Pool;
use super::pulse::Pulse;
use super::ring::{Ring, Wait, Watch};
use super::runtime::{self, Runtime};
use super::time::{Instant, machine_now};

/// Laps in which tasks wake each other, after which the ring is looked at all the same.
const LAPS_MAX: u32 = 4;
/// A background task that took so long lets the others have as much as this many times before its like is run again.
const BACKGROUND_REST: u32 = 20;
/// How often buffers are looked for that other shards have given back, while there are some out.
const SWEEP_PERIOD: Duration = Duration::from_millis(10);

/// Takes what came from other shards; `true` if there may be more.
type Receive = Rc<dyn Fn() -> bool>;

/// Lives on its shard.
pub(super) struct Driver {
    pub(super) ring: Rc<Ring>,
    pub(super) pool: Pool,
    bell: Arc<Bell>,
    /// Makes the ring return when the bell is rung.
    _bell_watch: Watch,
    pulse: Arc<Pulse>,
    meter: Meter,
    /// How long it looks for work before it sleeps.
    spin: Duration,
    idle_since: Cell<Option<Instant>>,
    /// Another task has run since this one did.
    others_ran: Cell<bool>,
    laps: Cell<u32>,
    timers: RefCell<Timers>,
    /// Tasks that let one turn happen before they go on; those of the background.
    turns: RefCell<Vec<Waker>>,
    background_turns: RefCell<Vec<Waker>>,
    background: RefCell<VecDeque<Arc<Background>>>,
    /// Until then background tasks run only if nobody else does.
    background_rests_until: Cell<Instant>,
    is_background: Cell<bool>,
    /// They take what came from other shards.
    receivers: RefCell<Vec<Receive>>,
    on_bell: RefCell<Vec<Waker>>,
    swept_at: Cell<Instant>,
    /// Between the runs of the executor there are no turns, and the task waits.
    running: Cell<bool>,
    task: RefCell<Option<Waker>>,
}

impl Driver {
    pub(super) fn new(
        ring: Ring,
        pool: Pool,
        bell: Arc<Bell>,
        pulse: Arc<Pulse>,
        meter: Meter,
        spin: Duration,
    ) -> Rc<Driver> {
        let ring = Rc::new(ring);
        Rc::new(Driver {
            _bell_watch: ring.watch(bell.fd()),
            ring,
            pool,
            bell,
            pulse,
            meter,
            spin,
            idle_since: Cell::default(),
            others_ran: Cell::default(),
            laps: Cell::default(),
            timers: RefCell::default(),
            turns: RefCell::default(),
            background_turns: RefCell::default(),
            background: RefCell::default(),
            background_rests_until: Cell::default(),
            is_background: Cell::default(),
            receivers: RefCell::default(),
            on_bell: RefCell::default(),
            swept_at: Cell::default(),
            running: Cell::default(),
            task: RefCell::default(),
        })
    }

    /// Runs `future` with turns until it ends: what an executor is given to run.
    pub(super) async fn accompany<T>(self: Rc<Driver>, future: impl Future<Output = T>) -> T {
        self.running.set(true);
        let now = machine_now();
        self.pulse.wake_up(now);
        self.meter.begin(now);
        match self.task.take() {
            Some(task) => task.wake(),
            None => {
                let driver = Rc::clone(&self);
                let turns = poll_fn(move |context| {
                    driver.poll(context);
                    Poll::<()>::Pending
                });
                glommio::spawn_local(turns).detach();
            }
        }
        let result = Rc::clone(&self).seen(future).await;
        self.running.set(false);
        result
    }

    /// `future`, whose polls are noticed.
    pub(super) async fn seen<T>(self: Rc<Driver>, future: impl Future<Output = T>) -> T {
        let mut future = pin!(future);
        poll_fn(|context| {
            self.others_ran.set(true);
            future.as_mut().poll(context)
        })
        .await
    }

    fn poll(&self, context: &Context<'_>) {
        if !self.running.get() {
            self.task.replace(Some(context.waker().clone()));
            return;
        }
        context.waker().wake_by_ref();
        let others_ran = self.others_ran.take();
        if others_ran && self.laps.get() < LAPS_MAX {
            // whoever they have woken comes first
            self.laps.set(self.laps.get() + 1);
            return;
        }
        self.laps.set(0);
        let began = machine_now();
        self.pulse.turn(began);
        self.meter.turn(began);
        let (turns, background_turns) = (self.turns.take(), self.background_turns.take());
        let is_busy = self.look_around(others_ran || !turns.is_empty(), began);
        let wait = if is_busy || !background_turns.is_empty() { Wait::No } else { self.rest(began) };
        let now = if wait == Wait::No {
            self.ring.enter(Wait::No);
            began
        } else {
            self.sleep(began)
        };
        self.timers.borrow_mut().fire(now);
        turns.into_iter().chain(background_turns).for_each(Waker::wake);
        if buffer::lent_bytes() > 0 && now.since(self.swept_at.get()) >= SWEEP_PERIOD {
            self.swept_at.set(now);
            buffer::sweep(usize::MAX);
        }
    }

    /// Takes what came from other threads, and lets a background task run if it may. Whether there is something to do now.
    fn look_around(&self, mut is_busy: bool, now: Instant) -> bool {
        if self.bell.answer() {
            is_busy = true;
            self.pool.look();
            self.receive();
            self.on_bell.take().into_iter().for_each(Waker::wake);
        }
        if is_busy && now < self.background_rests_until.get() {
            return is_busy;
        }
        let next = self.background.borrow_mut().pop_front();
        if let Some(next) = next {
            is_busy = true;
            next.release();
        }
        is_busy
    }

    /// Nobody has anything to do: whether that may last, and the alarm is set for when it must not any more.
    fn rest(&self, now: Instant) -> Wait {
        if !self.spin.is_zero() {
            let since = self.idle_since.get().unwrap_or(now);
            self.idle_since.set(Some(since));
            if now.since(since) < self.spin {
                self.meter.spin(now);
                return Wait::No;
            }
        }
        let sweep = (buffer::lent_bytes() > 0).then(|| self.swept_at.get().after(SWEEP_PERIOD));
        match [self.timers.borrow().next(), sweep].into_iter().flatten().min() {
            None => Wait::Yes,
            Some(deadline) if deadline <= now => Wait::No,
            Some(deadline) => {
                self.ring.wake_at(deadline, now);
                Wait::Yes
            }
        }
    }

    fn sleep(&self, began: Instant) -> Instant {
        if self.bell.fall_asleep() {
            self.pulse.fall_asleep();
            self.ring.enter(Wait::Yes);
            self.bell.wake_up();
        } else {
            self.ring.enter(Wait::No);
        }
        self.idle_since.set(None);
        let now = machine_now();
        self.pulse.wake_up(now);
        self.meter.idle(now.since(began));
        now
    }

    /// Returns at `deadline` or a little after it.
    pub(super) async fn sleep_until(self: &Rc<Driver>, deadline: Instant) {
        let mut timer = Timer { driver: Rc::clone(self), deadline, id: None };
        poll_fn(|context| timer.poll(context)).await;
    }

    /// Lets one turn happen.
    pub(super) async fn turn(&self) {
        let mut waited = false;
        poll_fn(|context| {
            if std::mem::replace(&mut waited, true) {
                return Poll::Ready(());
            }
            let turns = if self.is_background.get() { &self.background_turns } else { &self.turns };
            turns.borrow_mut().push(context.waker().clone());
            Poll::Pending
        })
        .await;
    }

    pub(super) fn bell(&self) -> &Arc<Bell> {
        &self.bell
    }

    /// Until the bell is rung once more, by whomever.
    pub(super) async fn next_bell(&self) {
        let mut waited = false;
        poll_fn(|context| {
            if std::mem::replace(&mut waited, true) {
                return Poll::Ready(());
            }
            self.on_bell.borrow_mut().push(context.waker().clone());
            Poll::Pending
        })
        .await;
    }

    /// From now on `receive` is called when the bell was rung; once at once, for what has come before.
    pub(super) fn on_receive(&self, receive: Receive) {
        self.receivers.borrow_mut().push(receive);
        self.bell.ring();
    }

    fn receive(&self) {
        for at in 0.. {
            // not borrowed meanwhile: one may make another begin to receive
            let Some(receive) = self.receivers.borrow().get(at).map(Rc::clone) else { return };
            if receive() {
                self.bell.ring();
            }
        }
    }

    /// Whether the task that runs is one of the background, or was spawned by one.
    pub(super) fn is_background(&self) -> bool {
        self.is_background.get()
    }

    /// `future`, polled when the others leave time for it.
    pub(super) async fn in_background<T>(self: Rc<Driver>, future: impl Future<Output = T>) -> T {
        let mut future = pin!(future);
        let background = Arc::new(Background::default());
        let waker = Waker::from(Arc::clone(&background));
        poll_fn(|context| {
            *background.task.lock().unwrap_or_else(PoisonError::into_inner) = Some(context.waker().clone());
            let began = machine_now();
            self.is_background.set(true);
            let result = future.as_mut().poll(&mut Context::from_waker(&waker));
            self.is_background.set(false);
            let now = machine_now();
            self.meter.idle(now.since(began));
            self.background_rests_until.set(now.after(now.since(began) * BACKGROUND_REST));
            if result.is_ready() {
                background.task.lock().unwrap_or_else(PoisonError::into_inner).take();
            }
            result
        })
        .await
    }

    /// The shard has ended: lets go of what holds the driver itself.
    pub(super) fn end(&self) {
        drop(self.receivers.take());
        drop(self.task.take());
        drop(std::mem::take(&mut self.timers.borrow_mut().by_deadline));
    }
}

#[derive(Default)]
struct Timers {
    by_deadline: BTreeMap<(Instant, u64), Waker>,
    made: u64,
}

impl Timers {
    fn next(&self) -> Option<Instant> {
        self.by_deadline.first_key_value().map(|((deadline, _), _)| *deadline)
    }

    fn fire(&mut self, now: Instant) {
        while let Some(first) = self.by_deadline.first_entry().filter(|first| first.key().0 <= now) {
            first.remove().wake();
        }
    }
}

struct Timer {
    driver: Rc<Driver>,
    deadline: Instant,
    /// `None` before it waits.
    id: Option<u64>,
}

impl Timer {
    fn poll(&mut self, context: &Context<'_>) -> Poll<()> {
        if machine_now() >= self.deadline {
            return Poll::Ready(());
        }
        let mut timers = self.driver.timers.borrow_mut();
        let id = *self.id.get_or_insert_with(|| {
            timers.made += 1;
            timers.made
        });
        timers.by_deadline.insert((self.deadline, id), context.waker().clone());
        Poll::Pending
    }
}

impl Drop for Timer {
    fn drop(&mut self) {
        if let Some(id) = self.id {
            self.driver.timers.borrow_mut().by_deadline.remove(&(self.deadline, id));
        }
    }
}

/// Stands between a background task and whoever wakes it. Lives on one shard, although a waker must be fit for any thread.
#[derive(Default)]
struct Background {
    task: Mutex<Option<Waker>>,
    is_queued: AtomicBool,
}

impl Background {
    fn release(&self) {
        self.is_queued.store(false, Ordering::Relaxed);
        let task = self.task.lock().unwrap_or_else(PoisonError::into_inner).take();
        task.into_iter().for_each(Waker::wake);
    }
}

impl Wake for Background {
    fn wake(self: Arc<Self>) {
        if self.is_queued.swap(true, Ordering::Relaxed) {
            return;
        }
        runtime::with(|runtime| match runtime {
            Some(Runtime::Glommio(local)) => local.driver.background.borrow_mut().push_back(self),
            _ => panic!("a task is woken on its own shard only"),
        });
    }
}

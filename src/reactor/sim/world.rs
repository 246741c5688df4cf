//! The virtual machine of one run: tasks, clock, events, and the seeded choice of what happens next.
//!
//! One thread runs every virtual shard. A step polls one runnable task or fires one due event, chosen at random
//! by the seed; the clock moves only when there is neither, to the next event. Each step is recorded in the trace.

use std::cell::{Cell, RefCell};
use std::cmp::Reverse;
use std::collections::BinaryHeap;
use std::future::Future;
use std::panic::Location;
use std::pin::Pin;
use std::rc::Rc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::task::{Context, Poll, Wake, Waker};

use super::disk::Disk;
use super::net::Network;
use super::random::Random;
use super::trace::{Kind, Trace};
use super::{Crash, CrashKind, Shard, When};
use crate::model::ShardId;
use crate::reactor::runtime::{self, Runtime};

/// Milliseconds since 1970 at the start of a simulation on a fresh disk.
pub(super) const WALL_CLOCK_START_MS: i64 = 1_767_225_600_000;

thread_local! {
    static CURRENT: RefCell<Option<Rc<World>>> = const { RefCell::new(None) };
}

/// Where a task lives. There is one host yet; the disk, the network and the tasks are kept apart by it already.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Place {
    pub host: usize,
    pub shard: ShardId,
}

/// One machine of the simulation.
pub(super) struct Host {
    pub shards: Vec<Rc<Shard>>,
    pub disk: Disk,
}

/// What bounds a run.
pub(super) struct Limits {
    pub steps: u64,
    pub time_ns: u64,
}

pub(super) struct World {
    pub seed: u64,
    pub hosts: Vec<Host>,
    pub network: Network,
    limits: Limits,
    crash: Option<Crash>,
    crash_kind: Cell<Option<CrashKind>>,
    /// One jump in so many steps of the clock; zero for none.
    wall_jump_one_in: u32,
    wall_start_ms: i64,
    wall_offset_ms: Cell<i64>,
    now: Cell<u64>,
    steps: Cell<u64>,
    place: Cell<Place>,
    /// `place` is the thread's runtime.
    entered: Cell<bool>,
    /// Tasks are being dropped: nothing new begins.
    ending: Cell<bool>,
    ready: Arc<Ready>,
    tasks: RefCell<Tasks>,
    events: RefCell<Events>,
    schedule: RefCell<Random>,
    /// For the code above: ids, jitter.
    workload: RefCell<Random>,
    trace: RefCell<Trace>,
    /// Breaks up what would keep itself alive.
    at_end: RefCell<Vec<Box<dyn FnOnce()>>>,
}

/// Runnable tasks; wakers put their task here. A lock because a `Waker` must be `Send`, never contended.
#[derive(Default)]
struct Ready(Mutex<Vec<usize>>);

struct TaskWaker {
    slot: usize,
    /// In the ready list, or finished: a wake does nothing.
    queued: AtomicBool,
    ready: Arc<Ready>,
}

impl Wake for TaskWaker {
    fn wake(self: Arc<Self>) {
        self.wake_by_ref();
    }

    fn wake_by_ref(self: &Arc<Self>) {
        if !self.queued.swap(true, Ordering::Relaxed) {
            self.ready.0.lock().expect("no panic while it is held").push(self.slot);
        }
    }
}

type BoxedTask = Pin<Box<dyn Future<Output = ()>>>;

struct Slot {
    number: u64,
    /// Absent while it is being polled.
    future: Option<BoxedTask>,
    handle: Arc<TaskWaker>,
    waker: Waker,
    place: Place,
    spawned_at: &'static Location<'static>,
}

#[derive(Default)]
struct Tasks {
    slots: Vec<Option<Slot>>,
    free: Vec<usize>,
    next_number: u64,
}

/// A registered timer; cancelled when its future is dropped, so that the clock does not stop there.
struct Timer {
    waker: RefCell<Option<Waker>>,
    state: Cell<TimerState>,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum TimerState {
    Waiting,
    Fired,
    Cancelled,
}

enum Action {
    Timer(Rc<Timer>),
    Run(Box<dyn FnOnce()>),
}

struct Event {
    time: u64,
    number: u64,
    place: Place,
    action: Action,
}

impl Event {
    fn is_cancelled(&self) -> bool {
        matches!(&self.action, Action::Timer(timer) if timer.state.get() == TimerState::Cancelled)
    }
}

impl PartialEq for Event {
    fn eq(&self, other: &Event) -> bool {
        self.number == other.number
    }
}

impl Eq for Event {}

impl PartialOrd for Event {
    fn partial_cmp(&self, other: &Event) -> Option<std::cmp::Ordering> {
        Some(self.cmp(other))
    }
}

impl Ord for Event {
    fn cmp(&self, other: &Event) -> std::cmp::Ordering {
        (self.time, self.number).cmp(&(other.time, other.number))
    }
}

#[derive(Default)]
struct Events {
    later: BinaryHeap<Reverse<Event>>,
    /// Their time has come; any of them may be next.
    due: Vec<Event>,
    next_number: u64,
}

/// Why a run stopped.
pub(super) enum Stop {
    Done,
    Crashed(CrashKind),
    /// Nothing is runnable and no event will come, or a limit was reached.
    Stuck(super::Stuck),
}

/// The settings a world begins with.
pub(super) struct WorldOptions {
    pub seed: u64,
    pub hosts: Vec<Host>,
    pub limits: Limits,
    pub crash: Option<Crash>,
    pub wall_start_ms: i64,
    pub wall_jump_one_in: u32,
    pub text: bool,
}

impl World {
    pub fn new(options: WorldOptions) -> Rc<World> {
        let seed = options.seed;
        Rc::new(World {
            seed,
            hosts: options.hosts,
            network: Network::new(seed),
            limits: options.limits,
            crash: options.crash,
            crash_kind: Cell::new(None),
            wall_jump_one_in: options.wall_jump_one_in,
            wall_start_ms: options.wall_start_ms,
            wall_offset_ms: Cell::new(0),
            now: Cell::new(0),
            steps: Cell::new(0),
            place: Cell::new(Place { host: 0, shard: ShardId::ZERO }),
            entered: Cell::new(false),
            ending: Cell::new(false),
            ready: Arc::default(),
            tasks: RefCell::default(),
            events: RefCell::default(),
            schedule: RefCell::new(Random::new(seed, 1)),
            workload: RefCell::new(Random::new(seed, 2)),
            trace: RefCell::new(Trace::new(seed, options.text)),
            at_end: RefCell::default(),
        })
    }

    /// The world that runs on this thread, if one does.
    pub fn try_current() -> Option<Rc<World>> {
        CURRENT.with(|current| current.borrow().clone())
    }

    pub fn current() -> Rc<World> {
        World::try_current().expect("this needs a simulation that runs on this thread")
    }

    pub fn is_current() -> bool {
        CURRENT.with(|current| current.borrow().is_some())
    }

    // -- clock

    pub fn now(&self) -> u64 {
        self.now.get()
    }

    pub fn wall_clock_ms(&self) -> i64 {
        self.wall_start_ms + (self.now.get() / 1_000_000) as i64 + self.wall_offset_ms.get()
    }

    pub fn jump_wall_clock(&self, by_ms: i64) {
        self.wall_offset_ms.set(self.wall_offset_ms.get() + by_ms);
        self.record(Kind::WallJump, [by_ms as u64, 0, 0]);
    }

    pub fn random_u64(&self) -> u64 {
        self.workload.borrow_mut().next()
    }

    /// Nanoseconds until a blocking job is through.
    pub fn blocking_delay(&self) -> u64 {
        let mut schedule = self.schedule.borrow_mut();
        match schedule.below(16) {
            0 => schedule.below(5_000_000),
            _ => schedule.below(200_000),
        }
    }

    pub fn place(&self) -> Place {
        self.place.get()
    }

    /// What runs from here on runs as that shard.
    pub fn enter(&self, place: Place) {
        if self.place.replace(place) != place || !self.entered.replace(true) {
            let shard = Rc::clone(&self.hosts[place.host].shards[place.shard.index()]);
            runtime::enter(Some(Runtime::Virtual(shard)));
        }
    }

    pub fn at_end(&self, action: impl FnOnce() + 'static) {
        self.at_end.borrow_mut().push(Box::new(action));
    }

    pub fn host(&self) -> &Host {
        &self.hosts[self.place.get().host]
    }

    // -- trace

    pub fn record(&self, kind: Kind, what: [u64; 3]) {
        self.trace.borrow_mut().record(self.now.get(), kind, what);
    }

    pub fn note(&self, text: impl FnOnce() -> String) {
        self.trace.borrow_mut().note(text);
    }

    pub fn trace_hash(&self) -> u64 {
        self.trace.borrow().hash()
    }

    pub fn steps(&self) -> u64 {
        self.steps.get()
    }

    // -- tasks and events

    pub fn spawn(&self, place: Place, at: &'static Location<'static>, future: BoxedTask) {
        if self.ending.get() {
            return;
        }
        let mut tasks = self.tasks.borrow_mut();
        let slot = tasks.free.pop().unwrap_or_else(|| {
            tasks.slots.push(None);
            tasks.slots.len() - 1
        });
        let number = tasks.next_number;
        tasks.next_number += 1;
        let handle =
            Arc::new(TaskWaker { slot, queued: AtomicBool::new(false), ready: Arc::clone(&self.ready) });
        handle.wake_by_ref();
        let waker = Waker::from(Arc::clone(&handle));
        tasks.slots[slot] = Some(Slot { number, future: Some(future), handle, waker, place, spawned_at: at });
        drop(tasks);
        self.record(Kind::Spawn, [number, u64::from(place.shard.0), 0]);
        self.note(|| format!("task {number} of {at}"));
    }

    /// Runs `action` as the given shard, `delay_ns` from now.
    pub fn after(&self, delay_ns: u64, place: Place, action: impl FnOnce() + 'static) {
        self.add_event(self.now.get().saturating_add(delay_ns), place, Action::Run(Box::new(action)));
    }

    fn add_event(&self, time: u64, place: Place, action: Action) {
        if self.ending.get() {
            return;
        }
        let mut events = self.events.borrow_mut();
        let number = events.next_number;
        events.next_number += 1;
        events.later.push(Reverse(Event { time, number, place, action }));
    }

    /// Stops the run before the next step.
    pub fn crash_now(&self, kind: CrashKind) {
        self.crash_kind.set(Some(kind));
    }

    /// Called at the begin and end of every disk operation: a place where crashes hurt.
    pub fn disk_event(&self) {
        if let Some(Crash { when: When::OneInDiskEvents(disk_events), kind }) = self.crash
            && self.schedule.borrow_mut().one_in(disk_events)
        {
            self.crash_now(kind);
        }
    }

    // -- the run

    /// Steps until `is_done`, a crash, or nothing is left to do.
    pub fn run(self: &Rc<World>, is_done: impl Fn() -> bool) -> Stop {
        loop {
            if let Some(kind) = self.due_crash() {
                return Stop::Crashed(kind);
            }
            if is_done() {
                return Stop::Done;
            }
            if self.steps.get() >= self.limits.steps {
                return Stop::Stuck(self.stuck("step limit"));
            }
            if let Err(why) = self.step() {
                return Stop::Stuck(self.stuck(why));
            }
        }
    }

    fn due_crash(&self) -> Option<CrashKind> {
        let due = |crash: &Crash| match crash.when {
            When::Step(step) => self.steps.get() >= step,
            When::Time(time) => u128::from(self.now.get()) >= time.as_nanos(),
            When::OneInDiskEvents(_) => false,
        };
        self.crash.filter(due).map(|crash| crash.kind).or(self.crash_kind.get())
    }

    fn step(self: &Rc<World>) -> Result<(), &'static str> {
        let due = loop {
            let now = self.now.get();
            let mut events = self.events.borrow_mut();
            let events = &mut *events;
            while events.later.peek().is_some_and(|Reverse(event)| event.time <= now || event.is_cancelled())
            {
                let Reverse(event) = events.later.pop().expect("it was peeked at");
                if !event.is_cancelled() {
                    events.due.push(event);
                }
            }
            let ready = self.ready.0.lock().expect("no panic while it is held").len();
            if ready + events.due.len() > 0 {
                let choice = self.schedule.borrow_mut().index(ready + events.due.len());
                break (choice >= ready).then(|| events.due.swap_remove(choice - ready)).ok_or(choice);
            }
            let Some(Reverse(next)) = events.later.peek() else { return Err("deadlock") };
            if next.time > self.limits.time_ns {
                return Err("time limit");
            }
            self.now.set(next.time);
            if self.schedule.borrow_mut().one_in(self.wall_jump_one_in) {
                let by_ms = self.schedule.borrow_mut().below(7_200_000) as i64 - 3_600_000;
                self.jump_wall_clock(by_ms);
            }
        };
        self.steps.set(self.steps.get() + 1);
        match due {
            Ok(event) => self.fire(event),
            Err(choice) => self.poll(choice),
        }
        Ok(())
    }

    fn fire(&self, event: Event) {
        if event.is_cancelled() {
            return;
        }
        self.record(Kind::Fire, [event.number, 0, 0]);
        self.enter(event.place);
        match event.action {
            Action::Run(action) => action(),
            Action::Timer(timer) => {
                timer.state.set(TimerState::Fired);
                if let Some(waker) = timer.waker.take() {
                    waker.wake();
                }
            }
        }
    }

    fn poll(&self, choice: usize) {
        let index = self.ready.0.lock().expect("no panic while it is held").swap_remove(choice);
        let (mut future, handle, waker, number) = {
            let mut tasks = self.tasks.borrow_mut();
            let slot = tasks.slots[index].as_mut().expect("a finished task is not woken");
            self.enter(slot.place);
            let future = slot.future.take().expect("a task is polled once at a time");
            (future, Arc::clone(&slot.handle), slot.waker.clone(), slot.number)
        };
        self.record(Kind::Poll, [number, 0, 0]);
        handle.queued.store(false, Ordering::Relaxed);
        let polled = future.as_mut().poll(&mut Context::from_waker(&waker));
        if polled.is_pending() {
            self.tasks.borrow_mut().slots[index].as_mut().expect("it was just polled").future = Some(future);
            return;
        }
        drop(future);
        // a wake after the end must not touch the slot's next task
        if handle.queued.swap(true, Ordering::Relaxed) {
            self.ready.0.lock().expect("no panic while it is held").retain(|&other| other != index);
        }
        let mut tasks = self.tasks.borrow_mut();
        tasks.slots[index] = None;
        tasks.free.push(index);
    }

    fn stuck(&self, why: &'static str) -> super::Stuck {
        let tasks = self.tasks.borrow();
        let mut pending: Vec<_> = tasks.slots.iter().flatten().map(|slot| (slot.number, slot)).collect();
        pending.sort_by_key(|(number, _)| *number);
        super::Stuck {
            why,
            pending_tasks: pending.len(),
            spawned_at: pending.iter().map(|(_, slot)| slot.spawned_at.to_string()).collect(),
        }
    }

    /// Drops all tasks and events; what their destructors start is dropped too.
    pub fn end(&self) {
        self.ending.set(true);
        let slots = std::mem::take(&mut self.tasks.borrow_mut().slots);
        for slot in slots.into_iter().flatten() {
            self.enter(slot.place);
            drop(slot);
        }
        let events = std::mem::take(&mut *self.events.borrow_mut());
        drop(events);
        self.network.end();
        for action in self.at_end.take() {
            action();
        }
    }
}

/// Makes a world the current one of this thread; takes it down at the end.
pub(super) struct Running(pub Rc<World>);

impl Running {
    pub fn start(world: Rc<World>) -> Running {
        assert!(runtime::with(|runtime| runtime.is_none()), "a simulation runs on a thread that is no shard");
        CURRENT.with(|current| current.borrow_mut().replace(Rc::clone(&world)));
        world.enter(Place { host: 0, shard: ShardId::ZERO });
        Running(world)
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        if std::thread::panicking() {
            // destructors of half-run tasks could panic again and hide the first message
            let seed = self.0.seed;
            eprintln!("the simulation ran with seed {seed}");
            self.0.ending.set(true);
            std::mem::forget(std::mem::take(&mut *self.0.tasks.borrow_mut()));
            std::mem::forget(std::mem::take(&mut *self.0.events.borrow_mut()));
        } else {
            self.0.end();
        }
        let world = CURRENT.with(|current| current.borrow_mut().take());
        runtime::enter(None);
        if std::thread::panicking() {
            std::mem::forget(world);
        }
    }
}

/// A virtual timer.
pub(super) struct Sleep {
    deadline: u64,
    timer: Option<Rc<Timer>>,
}

impl Sleep {
    pub fn until(deadline: u64) -> Sleep {
        Sleep { deadline, timer: None }
    }
}

impl Future for Sleep {
    type Output = ();

    /// Even a deadline in the past lets others run once, as a real timer does.
    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<()> {
        if let Some(timer) = &self.timer {
            if timer.state.get() == TimerState::Fired {
                return Poll::Ready(());
            }
            *timer.waker.borrow_mut() = Some(context.waker().clone());
            return Poll::Pending;
        }
        let world = World::current();
        let timer = Rc::new(Timer {
            waker: RefCell::new(Some(context.waker().clone())),
            state: Cell::new(TimerState::Waiting),
        });
        world.add_event(self.deadline.max(world.now()), world.place(), Action::Timer(Rc::clone(&timer)));
        self.timer = Some(timer);
        Poll::Pending
    }
}

impl Drop for Sleep {
    fn drop(&mut self) {
        if let Some(timer) = &self.timer
            && timer.state.get() == TimerState::Waiting
        {
            timer.state.set(TimerState::Cancelled);
            timer.waker.take();
        }
    }
}

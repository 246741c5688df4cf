//! One thread of the load generator: an epoll loop over its producers and consumers.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::sync::{Barrier, mpsc};
use std::time::Duration;

use anyhow::{Context, Result};

use super::consumer::{self, Consumer, ConsumerPlan, Findings, Places};
use super::poller::Poller;
use super::producer::{self, Budget, Linger, ProducePlan, Producer};
use crate::clock::Clock;
use crate::measure::{Interval, Recorder, Role, histogram};
use crate::schedule::Schedule;

/// A thread looks at the shared flags this often at least.
const LOOK: Duration = Duration::from_millis(20);
/// Tokens of one producer's or consumer's sockets: one for each broker of a cluster.
const LINKS_MAX: u64 = 1 << 20;

/// What the threads of a run share. Touched once per request at most.
#[derive(Default)]
pub struct Shared {
    /// Producers take no more records; what they have is sent and acknowledged.
    pub stop_producing: AtomicBool,
    /// The threads end.
    pub stop: AtomicBool,
    pub acknowledged: AtomicU64,
    /// By consumers other than those that catch up.
    pub received: AtomicU64,
    pub received_bytes: AtomicU64,
    /// Threads with producers that have nothing more to send or to wait for.
    pub drained: AtomicUsize,
    /// Threads that could not connect, or have ended.
    pub ended: AtomicUsize,
}

/// What one thread is to do.
pub struct Work {
    pub core: Option<core_affinity::CoreId>,
    /// Indices of its producers, with id and epoch of idempotent ones.
    pub producers: Vec<(u32, Option<(i64, i16)>)>,
    pub produce: Option<Arc<ProducePlan>>,
    /// `None`: closed loop.
    pub schedule: Option<Schedule>,
    pub budget: Budget,
    /// Its consumers: plan and places.
    pub consumers: Vec<(Arc<ConsumerPlan>, Places)>,
}

/// What a thread has to say at its end.
pub struct WorkerEnd {
    pub errors: BTreeMap<String, u64>,
    pub findings: Findings,
    /// How late records were taken that were due: the generator's own lateness, nanoseconds.
    pub lateness: hdrhistogram::Histogram<u64>,
    /// Records that were due and were never taken, because their producer was full.
    pub not_taken: u64,
}

/// Runs until told to stop. `begin` is passed twice: when connected, and when the clock is set.
///
/// # Errors
/// A broken connection, or what the broker answered.
pub fn work(
    work: Work,
    shared: &Shared,
    begin: &Barrier,
    clock: &std::sync::OnceLock<Clock>,
    out: &mpsc::Sender<Interval>,
) -> Result<WorkerEnd> {
    if let Some(core) = work.core {
        core_affinity::set_for_current(core);
    }
    // Without this the kernel may wake the thread 50 µs late.
    let _ = rustix::thread::set_current_timer_slack(std::num::NonZeroU64::new(1));
    let connected = Worker::connect(work, out);
    begin.wait();
    begin.wait();
    let worker = connected.context("connecting");
    let result = worker.and_then(|worker| worker.run(shared, clock.get().context("the run did not begin")?));
    shared.ended.fetch_add(1, Ordering::Release);
    result
}

struct Worker {
    poller: Poller,
    producers: Vec<Producer>,
    consumers: Vec<Consumer>,
    schedule: Option<Schedule>,
    budget: Budget,
    recorders: BTreeMap<Role, Recorder>,
    end: WorkerEnd,
    /// Whose turn it is to take a record.
    turn: usize,
    /// When all producers were full last: until then it was the broker that was late.
    full_at: u64,
}

impl Worker {
    fn connect(work: Work, out: &mpsc::Sender<Interval>) -> Result<Worker> {
        let poller = Poller::new()?;
        let mut recorders = BTreeMap::new();
        let mut producers = Vec::with_capacity(work.producers.len());
        if let Some(plan) = &work.produce {
            recorders.insert(Role::Produce, Recorder::new(Role::Produce, out.clone()));
            for (place, (index, identity)) in work.producers.into_iter().enumerate() {
                producers.push(Producer::connect(index, plan, identity, &poller, place as u64 * LINKS_MAX)?);
            }
        }
        let mut consumers = Vec::with_capacity(work.consumers.len());
        for (plan, places) in &work.consumers {
            let token = (producers.len() + consumers.len()) as u64 * LINKS_MAX;
            recorders.entry(plan.role).or_insert_with(|| Recorder::new(plan.role, out.clone()));
            consumers.push(Consumer::connect(plan, places, &poller, token)?);
        }
        let end = WorkerEnd {
            errors: BTreeMap::new(),
            findings: Findings::default(),
            lateness: histogram(),
            not_taken: 0,
        };
        let Work { schedule, budget, .. } = work;
        Ok(Worker { poller, producers, consumers, schedule, budget, recorders, end, turn: 0, full_at: 0 })
    }

    fn run(mut self, shared: &Shared, clock: &Clock) -> Result<WorkerEnd> {
        for consumer in &mut self.consumers {
            consumer.start(clock, &self.poller)?;
        }
        std::thread::sleep(clock.until(0));
        let mut happened = Vec::with_capacity(256);
        let mut is_drained = self.producers.is_empty();
        let mut was_stopped = false;
        while !shared.stop.load(Ordering::Acquire) {
            let now = clock.nanos();
            self.recorders.values_mut().for_each(|recorder| recorder.roll(now));
            let stopped = shared.stop_producing.load(Ordering::Acquire);
            if stopped && !was_stopped {
                was_stopped = true;
                // what was due until the end is still taken, if it can be
                self.produce(now, shared, clock)?;
                self.end.not_taken = self.schedule.as_ref().map_or(0, |schedule| schedule.backlog(now));
                self.budget = Budget { records: 0, bytes: 0 };
            }
            let wait = if is_drained { LOOK } else { self.produce(now, shared, clock)? };
            if !is_drained && self.has_taken_all() && self.producers.iter().all(Producer::is_idle) {
                is_drained = true;
                shared.drained.fetch_add(1, Ordering::Release);
            }
            happened.extend(self.poller.wait(wait.min(LOOK))?);
            for event in happened.drain(..) {
                self.react(event, shared, clock)?;
            }
        }
        Ok(self.end)
    }

    /// There is nothing more to give to producers.
    fn has_taken_all(&self) -> bool {
        let schedule = self.schedule.as_ref();
        self.budget.is_used_up() || schedule.is_some_and(|schedule| schedule.next_due().is_none())
    }

    /// Gives producers what is due and lets them send; how long until there is more to do.
    fn produce(&mut self, now: u64, shared: &Shared, clock: &Clock) -> Result<Duration> {
        let Worker { poller, producers, schedule, budget, recorders, end, turn, full_at, .. } = self;
        let Some(recorder) = recorders.get_mut(&Role::Produce) else { return Ok(LOOK) };
        let mut io = producer::Io { clock, recorder, shared, errors: &mut end.errors };
        let Some(schedule) = schedule else {
            let mut wait = LOOK;
            for producer in producers {
                if producer.saturate(budget, clock, poller, &mut io)? {
                    wait = Duration::ZERO;
                }
            }
            return Ok(wait);
        };
        // A full producer's turn goes to the next; when all are full, what is due waits.
        let mut full = 0;
        while let Some(due) = schedule.next_due().filter(|due| *due <= now && !budget.is_used_up()) {
            *turn = (*turn + 1) % producers.len();
            let producer = &mut producers[*turn];
            if producer.is_full() {
                full += 1;
                if full == producers.len() {
                    *full_at = now;
                    break;
                }
                continue;
            }
            full = 0;
            end.lateness.saturating_record(now.saturating_sub(due.max(*full_at)).max(1));
            budget.take(producer.offer(due, clock));
            schedule.advance();
        }
        let next_due = schedule.next_due().filter(|_| !budget.is_used_up());
        let linger = if next_due.is_none() { Linger::Over } else { Linger::Timed };
        // producers that are full have room again when something is acknowledged
        let mut next = next_due.filter(|_| full < producers.len()).unwrap_or(u64::MAX);
        for producer in producers {
            let linger = if producer.is_full() { Linger::Over } else { linger };
            producer.send(now, linger, poller, &mut io)?;
            next = next.min(producer.lingers_until().unwrap_or(u64::MAX));
        }
        Ok(Duration::from_nanos(next.saturating_sub(clock.nanos())))
    }

    fn react(&mut self, event: super::poller::Happened, shared: &Shared, clock: &Clock) -> Result<()> {
        let Worker { poller, producers, consumers, recorders, end, .. } = self;
        let (place, link) = ((event.token / LINKS_MAX) as usize, (event.token % LINKS_MAX) as usize);
        if let Some(producer) = producers.get_mut(place) {
            let Some(recorder) = recorders.get_mut(&Role::Produce) else { return Ok(()) };
            let mut io = producer::Io { clock, recorder, shared, errors: &mut end.errors };
            if event.is_readable {
                producer.on_readable(link, &mut io)?;
            }
            if event.is_writable {
                producer.on_writable(link, poller, &mut io)?;
            }
        } else if let Some(consumer) = consumers.get_mut(place - producers.len()) {
            let Some(recorder) = recorders.get_mut(&consumer.role()) else { return Ok(()) };
            let mut io = consumer::Io { clock, recorder, shared, findings: &mut end.findings };
            if event.is_readable {
                consumer.on_readable(link, poller, &mut io)?;
            }
            if event.is_writable {
                consumer.on_writable(link, poller)?;
            }
        }
        Ok(())
    }
}

//! One thread of a run: an epoll loop over its producers.

use std::cmp::Reverse;
use std::collections::{BTreeMap, BinaryHeap, VecDeque};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Barrier, OnceLock, mpsc};
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use hdrhistogram::Histogram;

use super::producer::{Outcome, Plan, Producer, Receiver, Retry, Written};
use crate::clock::{Clock, nanos};
use crate::engine::{Line, Poller};
use crate::measure::{Interval, Recorder, Role, histogram};
use crate::schedule::Schedule;
use crate::wire::error_name;

/// A thread looks at the clock this often at least.
const LOOK: Duration = Duration::from_millis(20);
/// What transactions under way may take when the time is over, nanoseconds.
const DRAIN: u64 = 30_000_000_000;
/// Tokens of one producer's connections: one for each broker of a cluster.
const LINES_MAX: u64 = 1 << 20;

/// What the threads of a run share.
pub struct Shared {
    /// Passed twice by all threads and who started them: when they are connected, and when the clock is set.
    pub begin: Barrier,
    pub clock: OnceLock<Clock>,
    /// The threads end, whatever is under way.
    pub stop: AtomicBool,
}

/// What one thread is to do.
pub struct Work {
    pub core: Option<core_affinity::CoreId>,
    pub plan: Arc<Plan>,
    /// Its producers, each with the address of its coordinator if it has one.
    pub producers: Vec<(Producer, Option<String>)>,
    /// `None`: closed loop.
    pub schedule: Option<Schedule>,
    pub window: Window,
    pub intervals: mpsc::Sender<Interval>,
}

/// The measured time, nanoseconds since the run began. No transaction begins when it is over.
#[derive(Clone, Copy)]
pub struct Window {
    pub from: u64,
    pub until: u64,
}

/// What a thread has to say at its end, beside the latencies.
pub struct End {
    /// Of the measured time: what was refused and sent again, by request and error.
    pub retries: BTreeMap<String, u64>,
    /// How long producers waited before they did, nanoseconds.
    pub waited: u64,
    /// How late transactions began that were due while a producer had nothing to do: the tool's own, nanoseconds.
    pub lateness: Histogram<u64>,
    /// Transactions that were due and never began, because producers were busy.
    pub not_begun: u64,
}

impl End {
    #[must_use]
    pub fn new() -> End {
        End { retries: BTreeMap::new(), waited: 0, lateness: histogram(), not_begun: 0 }
    }

    pub fn add(&mut self, other: &End) {
        for (what, count) in &other.retries {
            *self.retries.entry(what.clone()).or_insert(0) += count;
        }
        self.waited += other.waited;
        let _ = self.lateness.add(&other.lateness);
        self.not_begun += other.not_begun;
    }
}

/// A producer with its connections.
struct Client {
    producer: Producer,
    /// To every broker of the layout in its order, and to the coordinator if that is another one.
    lines: Vec<Line>,
    coordinator: usize,
    /// When its transaction was due, or began.
    due: u64,
    /// When its end was asked for.
    ending: Option<u64>,
}

impl Client {
    fn connect(
        plan: &Plan,
        producer: Producer,
        coordinator: Option<String>,
        poller: &Poller,
        token: u64,
    ) -> Result<Client> {
        let mut addresses = plan.layout.brokers.clone();
        let coordinator = match coordinator {
            None => 0,
            Some(address) => addresses.iter().position(|known| *known == address).unwrap_or_else(|| {
                addresses.push(address);
                addresses.len() - 1
            }),
        };
        let connect = |(line, address): (usize, &String)| Line::connect(address, poller, token + line as u64);
        let lines = addresses.iter().enumerate().map(connect).collect::<Result<_>>()?;
        Ok(Client { producer, lines, coordinator, due: 0, ending: None })
    }
}

/// Runs until the time is over and no transaction is under way.
///
/// # Errors
/// A broken connection, or what the broker refused.
pub fn work(work: Work, shared: &Shared) -> Result<End> {
    if let Some(core) = work.core {
        core_affinity::set_for_current(core);
    }
    // Without this the kernel may wake the thread 50 µs late.
    let _ = rustix::thread::set_current_timer_slack(std::num::NonZeroU64::new(1));
    let connected = Worker::connect(work);
    shared.begin.wait();
    shared.begin.wait();
    let clock = shared.clock.get().context("the run did not begin")?;
    connected.context("connecting")?.run(clock, &shared.stop)
}

struct Worker {
    plan: Arc<Plan>,
    poller: Poller,
    clients: Vec<Client>,
    /// Clients without a transaction, the one that has had none for longest first.
    idle: VecDeque<usize>,
    /// Since when there is one: until then it was the broker that was late.
    idle_since: u64,
    /// When which client sends again what was refused.
    again: BinaryHeap<Reverse<(u64, usize)>>,
    schedule: Option<Schedule>,
    window: Window,
    transactions: Recorder,
    commits: Recorder,
    end: End,
}

impl Worker {
    fn connect(work: Work) -> Result<Worker> {
        let poller = Poller::new()?;
        let mut clients = Vec::with_capacity(work.producers.len());
        for (place, (producer, coordinator)) in work.producers.into_iter().enumerate() {
            let token = place as u64 * LINES_MAX;
            clients.push(Client::connect(&work.plan, producer, coordinator, &poller, token)?);
        }
        Ok(Worker {
            plan: work.plan,
            poller,
            idle: (0..clients.len()).collect(),
            clients,
            idle_since: 0,
            again: BinaryHeap::new(),
            schedule: work.schedule,
            window: work.window,
            transactions: Recorder::new(Role::Transaction, work.intervals.clone()),
            commits: Recorder::new(Role::Commit, work.intervals),
            end: End::new(),
        })
    }

    fn run(mut self, clock: &Clock, stop: &AtomicBool) -> Result<End> {
        std::thread::sleep(clock.until(0));
        let mut happened = Vec::with_capacity(256);
        let mut is_over = false;
        while !stop.load(Ordering::Acquire) {
            let now = clock.nanos();
            self.begin(now, clock)?;
            self.send_again(now)?;
            if now >= self.window.until {
                if !is_over {
                    is_over = true;
                    self.end.not_begun = self.schedule.take().map_or(0, |schedule| schedule.backlog(now));
                }
                if self.idle.len() == self.clients.len() {
                    return Ok(self.end);
                }
                let is_late = now > self.window.until.saturating_add(DRAIN);
                ensure!(!is_late, "transactions are under way {} s after the end", DRAIN / 1_000_000_000);
            }
            let wait = Duration::from_nanos(self.next().saturating_sub(clock.nanos()));
            happened.extend(self.poller.wait(wait.min(LOOK))?);
            for event in happened.drain(..) {
                let (place, line) = ((event.token / LINES_MAX) as usize, (event.token % LINES_MAX) as usize);
                if event.is_writable {
                    self.clients[place].lines[line].on_writable(&self.poller)?;
                }
                if event.is_readable {
                    self.react(place, line, clock)?;
                }
            }
        }
        Ok(self.end)
    }

    /// When there is something to do.
    fn next(&self) -> u64 {
        let due = self.schedule.as_ref().filter(|_| !self.idle.is_empty()).and_then(Schedule::next_due);
        let again = self.again.peek().map(|Reverse((at, _))| *at);
        due.into_iter().chain(again).min().unwrap_or(u64::MAX)
    }

    /// Gives producers that have nothing to do the transactions that are due, or in a closed loop one each.
    fn begin(&mut self, now: u64, clock: &Clock) -> Result<()> {
        while let Some(place) = self.idle.front().copied() {
            let due = match &mut self.schedule {
                None if now < self.window.until => now,
                None => return Ok(()),
                Some(schedule) => {
                    let Some(due) = schedule.next_due().filter(|due| *due <= now) else { return Ok(()) };
                    schedule.advance();
                    let late = now.saturating_sub(due.max(self.idle_since));
                    self.end.lateness.saturating_record(late.max(1));
                    due
                }
            };
            self.idle.pop_front();
            let client = &mut self.clients[place];
            client.due = due;
            client.producer.begin(&self.plan, clock.timestamp_ms(now))?;
            self.ask(place, now)?;
        }
        Ok(())
    }

    fn send_again(&mut self, now: u64) -> Result<()> {
        while let Some(Reverse((_, place))) = self.again.peek().copied().filter(|next| next.0.0 <= now) {
            self.again.pop();
            self.ask(place, now)?;
        }
        Ok(())
    }

    /// Sends what comes next.
    fn ask(&mut self, place: usize, now: u64) -> Result<()> {
        let Client { producer, lines, coordinator, ending, .. } = &mut self.clients[place];
        if producer.is_ending() {
            ending.get_or_insert(now);
        }
        for receiver in producer.receivers() {
            let line = match receiver {
                Receiver::Coordinator => *coordinator,
                Receiver::Leader(leader) => leader,
            };
            lines[line].ask(&self.poller, |id| producer.request(&self.plan, receiver, id))?;
        }
        Ok(())
    }

    fn react(&mut self, place: usize, line: usize, clock: &Clock) -> Result<()> {
        let Client { producer, lines, .. } = &mut self.clients[place];
        let Some(response) = lines[line].on_readable()? else { return Ok(()) };
        let now = clock.nanos();
        self.transactions.roll(now);
        self.transactions.request();
        match producer.answer(&self.plan, line, response)? {
            Outcome::Waits => Ok(()),
            Outcome::GoesOn => self.ask(place, now),
            Outcome::Again(retry) => {
                self.wait(place, retry, now);
                Ok(())
            }
            Outcome::Done(written) => {
                self.finish(place, written, now);
                Ok(())
            }
        }
    }

    fn wait(&mut self, place: usize, retry: Retry, now: u64) {
        if (self.window.from..self.window.until).contains(&now) {
            let what = format!("{:?}: {}", retry.request, error_name(retry.error));
            *self.end.retries.entry(what).or_insert(0) += 1;
            self.end.waited += nanos(retry.after);
        }
        self.again.push(Reverse((now + nanos(retry.after), place)));
    }

    fn finish(&mut self, place: usize, written: Written, now: u64) {
        let client = &mut self.clients[place];
        self.transactions.latency(now.saturating_sub(client.due), 1);
        self.transactions.count(1, written.payload_bytes, written.wire_bytes);
        if let Some(sent) = client.ending.take() {
            self.commits.roll(now);
            self.commits.latency(now.saturating_sub(sent), 1);
            self.commits.count(1, 0, 0);
            self.commits.request();
        }
        if self.idle.is_empty() {
            self.idle_since = now;
        }
        self.idle.push_back(place);
    }
}

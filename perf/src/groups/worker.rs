//! One thread of a run: an epoll loop over the members of its groups. A group's members are all of one thread, which so
//! knows when the group is stable.

use std::cmp::Reverse;
use std::collections::{BTreeMap, BTreeSet, BinaryHeap};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, mpsc};
use std::time::Duration;

use anyhow::Result;
use hdrhistogram::Histogram;
use kafka_protocol::messages::GroupId;

use super::member::{Member, Outcome, Plan, Standing};
use super::options::Protocol;
use super::seat::{Answered, Change, NEVER, Seat, UnderWay};
use crate::clock::Clock;
use crate::engine::Poller;
use crate::measure::{Interval, Recorder, Role, histogram};
use crate::wire::control::string;
use crate::wire::error_name;

/// A thread looks for orders this often at least.
const LOOK: Duration = Duration::from_millis(5);
/// Until a coordinator that was not ready is asked again.
const PAUSE_NANOS: u64 = 100_000_000;

/// What one thread is to do.
pub struct Work {
    pub core: Option<core_affinity::CoreId>,
    pub clock: Clock,
    pub plan: Arc<Plan>,
    pub protocol: Protocol,
    /// Nanoseconds; `None`: as the broker says.
    pub heartbeat: Option<u64>,
    pub members: u32,
    /// Its groups: number among all, name, address of the coordinator.
    pub groups: Vec<(usize, String, String)>,
    /// Requests of all threads.
    pub requests: Arc<AtomicU64>,
    pub intervals: mpsc::Sender<Interval>,
}

/// What the threads are told.
#[derive(Clone, Copy, Debug)]
pub enum Order {
    /// All members join at that moment.
    Join { at: u64 },
    /// Heartbeats that are due from the first moment until before the second are measured.
    Record { from: u64, until: u64 },
    /// The last member of this group (by its number among all) joins or leaves at that moment.
    Change { at: u64, group: usize, change: Change },
    /// All members leave.
    Leave,
}

/// What the threads tell.
pub enum Told {
    /// All of this thread's members are connected.
    Connected,
    /// All members of this group have what they are to have.
    Stable { at: u64 },
    /// All heartbeats that were to be measured are answered.
    Recorded(Recorded),
    /// All of this thread's members have left.
    Left,
    /// The thread has ended.
    Failed(anyhow::Error),
}

/// What was measured beside the latencies.
pub struct Recorded {
    /// How late heartbeats were sent: the tool's own lateness, nanoseconds.
    pub lateness: Histogram<u64>,
    /// Of the whole run until then.
    pub errors: BTreeMap<String, u64>,
    /// Members that had to join again.
    pub rejoins: u64,
}

/// Runs until nobody gives orders any more.
pub fn work(work: Work, orders: &mpsc::Receiver<Order>, told: &mpsc::Sender<Told>) {
    if let Some(core) = work.core {
        core_affinity::set_for_current(core);
    }
    // Without this the kernel may wake the thread 50 µs late.
    let _ = rustix::thread::set_current_timer_slack(std::num::NonZeroU64::new(1));
    let result = Worker::connect(work, told.clone()).and_then(|worker| worker.run(orders));
    if let Err(error) = result {
        let _ = told.send(Told::Failed(error));
    }
}

struct Worker {
    work: Work,
    told: mpsc::Sender<Told>,
    poller: Poller,
    seats: Vec<Seat>,
    groups: Vec<Group>,
    /// When which seat has something to say; what is not that seat's [`Seat::due`] any more counts for nothing.
    queue: BinaryHeap<Reverse<(u64, usize)>>,
    /// Orders whose moment has not come, in the order they came.
    pending: Vec<Order>,
    /// Members that have no answer to their first request.
    unconnected: usize,
    is_leaving: bool,
    window: Option<Window>,
    recorder: Recorder,
    recorded: Recorded,
}

struct Group {
    /// Among all.
    number: usize,
    seats: std::ops::Range<usize>,
    /// It is waited for: stable in a later epoch than this one.
    awaited: Option<i32>,
    /// A member's standing may have changed.
    is_changed: bool,
}

/// Heartbeats that are measured.
#[derive(Clone, Copy)]
struct Window {
    from: u64,
    until: u64,
}

impl Worker {
    fn connect(work: Work, told: mpsc::Sender<Told>) -> Result<Worker> {
        let poller = Poller::new()?;
        let members = work.members as usize;
        let mut seats = Vec::with_capacity(work.groups.len() * members);
        let mut groups = Vec::with_capacity(work.groups.len());
        for (place, (number, name, coordinator)) in work.groups.iter().enumerate() {
            for index in 0..members {
                let member = Member::new(work.protocol, GroupId(string(name)), format!("{name}-{index}"));
                let token = seats.len() as u64;
                seats.push(Seat::connect(coordinator, place, member, &poller, token)?);
            }
            let seats = place * members..(place + 1) * members;
            groups.push(Group { number: *number, seats, awaited: None, is_changed: false });
        }
        let recorded = Recorded { lateness: histogram(), errors: BTreeMap::new(), rejoins: 0 };
        Ok(Worker {
            told,
            poller,
            unconnected: seats.len(),
            seats,
            groups,
            queue: BinaryHeap::new(),
            pending: Vec::new(),
            is_leaving: false,
            window: None,
            recorder: Recorder::new(Role::Heartbeat, work.intervals.clone()),
            recorded,
            work,
        })
    }

    fn run(mut self, orders: &mpsc::Receiver<Order>) -> Result<()> {
        let mut happened = Vec::with_capacity(256);
        loop {
            loop {
                match orders.try_recv() {
                    Ok(order) => self.pending.push(order),
                    Err(mpsc::TryRecvError::Empty) => break,
                    Err(mpsc::TryRecvError::Disconnected) => return Ok(()),
                }
            }
            let now = self.work.clock.nanos();
            self.obey(now)?;
            self.beat(now)?;
            self.record(now);
            self.tell_stable(now);
            let next = self.next().saturating_sub(self.work.clock.nanos());
            happened.extend(self.poller.wait(Duration::from_nanos(next).min(LOOK))?);
            for event in happened.drain(..) {
                let place = event.token as usize;
                if event.is_writable {
                    self.seats[place].on_writable(&self.poller)?;
                }
                if event.is_readable
                    && let Some(answered) = self.seats[place].on_readable(&self.work.plan)?
                {
                    self.react(place, answered)?;
                }
            }
        }
    }

    /// When there is something to do.
    fn next(&self) -> u64 {
        let orders = self.pending.iter().map(|order| moment(*order));
        let seats = self.queue.peek().map(|Reverse((due, _))| *due);
        orders.chain(seats).min().unwrap_or(NEVER)
    }

    fn obey(&mut self, now: u64) -> Result<()> {
        let due: Vec<Order> = self.pending.extract_if(.., |order| moment(*order) <= now).collect();
        for order in due {
            match order {
                Order::Join { .. } => {
                    for place in 0..self.groups.len() {
                        self.groups[place].awaited = Some(0);
                        for seat in self.groups[place].seats.clone() {
                            self.change(seat, Change::Joins)?;
                        }
                    }
                }
                Order::Record { from, until } => {
                    self.window = Some(Window { from, until });
                    self.recorded.rejoins = 0;
                }
                Order::Change { group, change, .. } => {
                    let found = self.groups.iter_mut().find(|of_thread| of_thread.number == group);
                    let Some(group) = found else { continue };
                    let last = group.seats.end - 1;
                    let standings =
                        self.seats[group.seats.clone()].iter().filter_map(|seat| seat.member.standing());
                    group.awaited = Some(standings.map(|standing| standing.epoch).max().unwrap_or(0));
                    self.change(last, change)?;
                }
                Order::Leave => {
                    self.is_leaving = true;
                    for seat in 0..self.seats.len() {
                        if self.seats[seat].is_in {
                            self.change(seat, Change::Leaves)?;
                        }
                    }
                    self.tell_left();
                }
            }
        }
        Ok(())
    }

    fn change(&mut self, place: usize, change: Change) -> Result<()> {
        let seat = &mut self.seats[place];
        seat.is_in = change == Change::Joins;
        seat.due = NEVER;
        seat.wish = Some(change);
        if seat.under_way().is_none() { self.go_on(place) } else { Ok(()) }
    }

    /// Sends what comes next.
    fn go_on(&mut self, place: usize) -> Result<()> {
        let seat = &mut self.seats[place];
        match seat.wish.take() {
            Some(Change::Joins) => seat.member.join(),
            Some(Change::Leaves) => seat.member.leave(),
            None => {}
        }
        self.work.requests.fetch_add(1, Ordering::Relaxed);
        self.seats[place].ask(&self.work.plan, UnderWay::Other, &self.poller)
    }

    /// Sends the heartbeats that are due, and what was to be said again.
    fn beat(&mut self, now: u64) -> Result<()> {
        while let Some(Reverse((due, place))) = self.queue.peek().copied().filter(|next| next.0.0 <= now) {
            self.queue.pop();
            let seat = &mut self.seats[place];
            // under way: it is sent when that is answered
            if seat.due != due || seat.under_way().is_some() {
                continue;
            }
            if !seat.member.is_resting() {
                seat.due = NEVER;
                self.go_on(place)?;
                continue;
            }
            self.send_beat(place, due, now)?;
        }
        Ok(())
    }

    fn send_beat(&mut self, place: usize, due: u64, now: u64) -> Result<()> {
        if self.is_measured(due) {
            let _ = self.recorded.lateness.record((now - due).max(1));
        }
        self.work.requests.fetch_add(1, Ordering::Relaxed);
        let as_what = UnderWay::Beat { due };
        self.seats[place].ask(&self.work.plan, as_what, &self.poller)?;
        self.schedule(place, due.saturating_add(self.interval(place)));
        Ok(())
    }

    fn is_measured(&self, due: u64) -> bool {
        self.window.is_some_and(|window| (window.from..window.until).contains(&due))
    }

    /// Nanoseconds from one heartbeat to the next.
    fn interval(&self, place: usize) -> u64 {
        const DEFAULT_MS: i32 = 3_000;
        let told = self.seats[place].member.heartbeat_interval_ms().unwrap_or(DEFAULT_MS);
        let told = u64::try_from(told).unwrap_or(0).max(1) * 1_000_000;
        self.work.heartbeat.unwrap_or(told)
    }

    fn schedule(&mut self, place: usize, due: u64) {
        self.seats[place].due = due;
        self.queue.push(Reverse((due, place)));
    }

    fn react(&mut self, place: usize, answered: Answered) -> Result<()> {
        let now = self.work.clock.nanos();
        match answered.to {
            UnderWay::Versions => {
                self.unconnected -= 1;
                if self.unconnected == 0 {
                    let _ = self.told.send(Told::Connected);
                }
                return Ok(());
            }
            UnderWay::Beat { due } if self.is_measured(due) => {
                let from = self.window.map_or(0, |window| window.from);
                self.recorder.roll(now.saturating_sub(from));
                self.recorder.latency(now.saturating_sub(due), 1);
                self.recorder.count(1, 0, 0);
                self.recorder.request();
            }
            UnderWay::Beat { .. } | UnderWay::Other => {}
        }
        let group = self.seats[place].group;
        self.groups[group].is_changed = true;
        if let Outcome::Refused(error) = answered.outcome {
            *self.recorded.errors.entry(error_name(error)).or_insert(0) += 1;
        }
        let seat = &mut self.seats[place];
        if seat.wish.is_some() {
            return self.go_on(place);
        }
        if !seat.is_in && answered.outcome != Outcome::Waits {
            // it has left, or the broker does not know it any more
            seat.due = NEVER;
            self.tell_left();
            return Ok(());
        }
        match answered.outcome {
            Outcome::Left => Ok(()),
            Outcome::Rests => self.rest(place, now),
            Outcome::GoesOn => self.go_on(place),
            Outcome::Rejoins => {
                // who joins does not beat
                seat.due = NEVER;
                self.recorded.rejoins += 1;
                self.go_on(place)
            }
            Outcome::Waits | Outcome::Refused(_) => {
                self.schedule(place, now + PAUSE_NANOS);
                Ok(())
            }
        }
    }

    /// The member's next heartbeat: as it was due before, at once if that is over, or anew, spread over the interval so
    /// that members who were told of their group at the same moment do not beat at the same moment for ever.
    fn rest(&mut self, place: usize, now: u64) -> Result<()> {
        const GOLDEN: f64 = 0.618_033_988_749_894_9;
        let due = self.seats[place].due;
        if due == NEVER {
            let phase = (place as f64 * GOLDEN).fract();
            let wait = (self.interval(place) as f64 * phase) as u64;
            self.schedule(place, now + wait);
            return Ok(());
        }
        if due <= now { self.send_beat(place, due, now) } else { Ok(()) }
    }

    /// Tells of what was measured when the last of it is answered.
    fn record(&mut self, now: u64) {
        let Some(window) = self.window.filter(|window| now >= window.until) else { return };
        let is_open = |seat: &Seat| {
            let is_under_way = matches!(seat.under_way(), Some(UnderWay::Beat { due }) if due < window.until);
            is_under_way || (seat.member.is_resting() && seat.due < window.until)
        };
        if self.seats.iter().any(is_open) {
            return;
        }
        self.window = None;
        // hands over the second that has begun
        self.recorder = Recorder::new(Role::Heartbeat, self.work.intervals.clone());
        let empty = Recorded { lateness: histogram(), errors: BTreeMap::new(), rejoins: 0 };
        let _ = self.told.send(Told::Recorded(std::mem::replace(&mut self.recorded, empty)));
    }

    fn tell_stable(&mut self, now: u64) {
        let partitions = self.work.plan.layout.slots.len();
        for group in self.groups.iter_mut().filter(|group| group.is_changed) {
            group.is_changed = false;
            let Some(epoch) = group.awaited else { continue };
            let standings = self.seats[group.seats.clone()].iter().filter(|seat| seat.is_in);
            if is_stable(standings.map(|seat| seat.member.standing()), epoch, partitions) {
                group.awaited = None;
                let _ = self.told.send(Told::Stable { at: now });
            }
        }
    }

    fn tell_left(&mut self) {
        let is_out = |seat: &Seat| !seat.is_in && seat.under_way().is_none() && seat.wish.is_none();
        if self.is_leaving && self.seats.iter().all(is_out) {
            let _ = self.told.send(Told::Left);
        }
    }
}

/// When an order is to be obeyed.
fn moment(order: Order) -> u64 {
    match order {
        Order::Join { at } | Order::Change { at, .. } => at,
        Order::Record { .. } | Order::Leave => 0,
    }
}

/// All members of a group are in one epoch, a later one than this, and have all partitions among them, none more than one
/// more than another: a member that came when the broker had just assigned waits in the same epoch with nothing.
fn is_stable(standings: impl Iterator<Item = Option<Standing>>, behind: i32, partitions: usize) -> bool {
    let (mut epochs, mut shares) = (BTreeSet::new(), Vec::new());
    for standing in standings {
        let Some(standing) = standing else { return false };
        epochs.insert(standing.epoch);
        shares.push(standing.partitions);
    }
    let (Some(least), Some(most)) = (shares.iter().min(), shares.iter().max()) else { return false };
    epochs.len() == 1
        && epochs.first().is_some_and(|epoch| *epoch > behind)
        && shares.iter().sum::<usize>() == partitions
        && most - least <= 1
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_group_is_stable_when_all_are_in_one_new_epoch_with_all_partitions() {
        let of = |epoch, partitions| Some(Standing { epoch, partitions });
        let stable = |members: &[Option<Standing>]| is_stable(members.iter().copied(), 3, 10);
        assert!(stable(&[of(4, 5), of(4, 5)]));
        assert!(is_stable([of(4, 1), of(4, 0)].into_iter(), 3, 1), "more members than partitions");
        assert!(!stable(&[of(4, 10), of(4, 0)]), "one has come and is not counted yet");
        assert!(!stable(&[of(3, 5), of(3, 5)]), "as before");
        assert!(!stable(&[of(4, 5), of(5, 5)]));
        assert!(!stable(&[of(4, 5), of(4, 4)]), "a partition is on its way");
        assert!(!stable(&[of(4, 10), None]), "a member has not done its part");
        assert!(!stable(&[]));
    }
}

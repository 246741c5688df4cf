//! What threads measure: per role and second, counts and a histogram of latencies, handed to the run's main thread
//! once a second.

use std::collections::BTreeMap;
use std::sync::mpsc;

use hdrhistogram::Histogram;
use serde::{Deserialize, Serialize};

/// Longest latency that is told apart from longer ones.
const LONGEST_NANOS: u64 = 600_000_000_000;
const SECOND: u64 = 1_000_000_000;

/// Whose figures.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Role {
    /// Records acknowledged; latency of each, from when it was due to its acknowledgement.
    Produce,
    /// Records received that the run itself produces; latency of each, from when it was due to its receipt.
    EndToEnd,
    /// Records read from the log; latency of each fetch that brought some.
    Consume,
    /// The same beside producers: readers that go through the log again and again.
    CatchUp,
    /// Heartbeats answered; latency of each, from when it was due to its answer.
    Heartbeat,
    /// Transactions committed; latency of each, from when it was due (or began) until its commit was answered.
    Transaction,
    /// The same transactions; latency of the commit alone.
    Commit,
}

impl Role {
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Role::Produce => "produce",
            Role::EndToEnd => "end-to-end",
            Role::Consume => "consume",
            Role::CatchUp => "catch-up",
            Role::Heartbeat => "heartbeat",
            Role::Transaction => "transaction",
            Role::Commit => "commit",
        }
    }

    /// What is counted, in the singular.
    #[must_use]
    pub fn counts(self) -> &'static str {
        match self {
            Role::Heartbeat => "heartbeat",
            Role::Transaction => "transaction",
            Role::Commit => "commit",
            Role::Produce | Role::EndToEnd | Role::Consume | Role::CatchUp => "record",
        }
    }

    /// What one latency is of.
    #[must_use]
    pub fn latency_of(self) -> &'static str {
        match self {
            Role::Produce => "record: due to acknowledged",
            Role::EndToEnd => "record: due to received",
            Role::Consume | Role::CatchUp => "fetch that brought records: sent to received",
            Role::Heartbeat => "heartbeat: due to answered",
            Role::Transaction => "transaction: due or begun to committed",
            Role::Commit => "commit: EndTxn sent to answered",
        }
    }
}

/// An empty histogram of nanoseconds, three digits.
///
/// # Panics
/// Never: the bounds are right.
#[must_use]
pub fn histogram() -> Histogram<u64> {
    Histogram::new_with_bounds(1, LONGEST_NANOS, 3).expect("right bounds")
}

/// One second of one role, of one thread or of all.
#[derive(Clone)]
pub struct Interval {
    pub role: Role,
    /// Seconds since the run began.
    pub second: u64,
    pub records: u64,
    pub payload_bytes: u64,
    /// Batches as they are sent, compressed.
    pub wire_bytes: u64,
    pub requests: u64,
    /// Nanoseconds.
    pub latency: Histogram<u64>,
}

impl Interval {
    #[must_use]
    pub fn new(role: Role, second: u64) -> Interval {
        let latency = histogram();
        Interval { role, second, records: 0, payload_bytes: 0, wire_bytes: 0, requests: 0, latency }
    }

    /// # Panics
    /// Never: all histograms have the same bounds.
    pub fn add(&mut self, other: &Interval) {
        self.records += other.records;
        self.payload_bytes += other.payload_bytes;
        self.wire_bytes += other.wire_bytes;
        self.requests += other.requests;
        self.latency.add(&other.latency).expect("the same bounds");
    }
}

/// One thread's part of one role.
pub struct Recorder {
    current: Interval,
    out: mpsc::Sender<Interval>,
}

impl Recorder {
    #[must_use]
    pub fn new(role: Role, out: mpsc::Sender<Interval>) -> Recorder {
        Recorder { current: Interval::new(role, 0), out }
    }

    /// Hands over the second that has passed, if one has. To be called before anything of `now` is recorded.
    pub fn roll(&mut self, now: u64) {
        let second = now / SECOND;
        if second > self.current.second {
            let next = Interval::new(self.current.role, second);
            self.hand_over(next);
        }
    }

    fn hand_over(&mut self, next: Interval) {
        let ended = std::mem::replace(&mut self.current, next);
        if ended.records > 0 || ended.requests > 0 {
            // A main thread that is gone has an error of its own to tell.
            let _ = self.out.send(ended);
        }
    }

    pub fn latency(&mut self, nanos: u64, count: u32) {
        let of_run = &mut self.current.latency;
        of_run.saturating_record_n(nanos.clamp(1, LONGEST_NANOS), u64::from(count));
    }

    pub fn count(&mut self, records: u64, payload_bytes: u64, wire_bytes: u64) {
        self.current.records += records;
        self.current.payload_bytes += payload_bytes;
        self.current.wire_bytes += wire_bytes;
    }

    pub fn request(&mut self) {
        self.current.requests += 1;
    }
}

impl Drop for Recorder {
    fn drop(&mut self) {
        let next = Interval::new(self.current.role, self.current.second);
        self.hand_over(next);
    }
}

/// The seconds of a run, all threads added up. A second's histogram is kept until it is settled, so that a long run
/// does not fill the memory of the machine it measures.
pub struct Series {
    warm_up_seconds: u64,
    open: BTreeMap<(Role, u64), Interval>,
    settled: BTreeMap<(Role, u64), Second>,
    warm_up: BTreeMap<Role, Interval>,
    measured: BTreeMap<Role, Interval>,
}

/// What is kept of a second.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Second {
    pub records: u64,
    pub payload_bytes: u64,
    /// Nanoseconds; 0 if nothing was measured.
    pub p50: u64,
    pub p99: u64,
    pub max: u64,
}

impl Series {
    #[must_use]
    pub fn new(warm_up_seconds: u64) -> Series {
        Series {
            warm_up_seconds,
            open: BTreeMap::new(),
            settled: BTreeMap::new(),
            warm_up: BTreeMap::new(),
            measured: BTreeMap::new(),
        }
    }

    pub fn add(&mut self, interval: &Interval) {
        let key = (interval.role, interval.second);
        self.open.entry(key).or_insert_with(|| Interval::new(key.0, key.1)).add(interval);
    }

    /// No thread adds to the seconds before this one.
    pub fn settle(&mut self, before: u64) {
        for ((role, second), interval) in self.open.extract_if(.., |(_, second), _| *second < before) {
            let latency = &interval.latency;
            let of_second = self.settled.entry((role, second)).or_default();
            *of_second = Second {
                // what comes after all: the counts stay right, the percentiles are those of the larger part
                records: of_second.records + interval.records,
                payload_bytes: of_second.payload_bytes + interval.payload_bytes,
                p50: of_second.p50.max(latency.value_at_quantile(0.5)),
                p99: of_second.p99.max(latency.value_at_quantile(0.99)),
                max: of_second.max.max(latency.max()),
            };
            let total = if second < self.warm_up_seconds { &mut self.warm_up } else { &mut self.measured };
            total.entry(role).or_insert_with(|| Interval::new(role, second)).add(&interval);
        }
    }

    /// Takes the warm-up into the figures.
    pub fn measure_warm_up(&mut self) {
        self.warm_up_seconds = 0;
        for (role, interval) in std::mem::take(&mut self.warm_up) {
            self.measured.entry(role).or_insert_with(|| Interval::new(role, 0)).add(&interval);
        }
    }

    #[must_use]
    pub fn roles(&self) -> Vec<Role> {
        let roles = self.open.keys().chain(self.settled.keys()).map(|(role, _)| *role);
        roles.collect::<std::collections::BTreeSet<_>>().into_iter().collect()
    }

    /// A second that is not settled.
    #[must_use]
    pub fn second(&self, role: Role, second: u64) -> Option<&Interval> {
        self.open.get(&(role, second))
    }

    /// The settled seconds after the warm-up, added up.
    #[must_use]
    pub fn measured(&self, role: Role) -> Interval {
        self.measured.get(&role).cloned().unwrap_or_else(|| Interval::new(role, self.warm_up_seconds))
    }

    /// The settled seconds, warm-up included, in order.
    pub fn seconds(&self, role: Role) -> impl Iterator<Item = (u64, &Second)> {
        self.settled.range((role, 0)..=(role, u64::MAX)).map(|((_, second), of_second)| (*second, of_second))
    }

    /// Forgets what is not settled of a role.
    pub fn forget_open(&mut self, role: Role) {
        self.open.retain(|(of, _), _| *of != role);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn seconds_are_handed_over_and_added_up() {
        let (out, intervals) = mpsc::channel();
        for _ in 0..2 {
            let mut recorder = Recorder::new(Role::Produce, out.clone());
            for second in [0, 1, 1, 5] {
                recorder.roll(second * SECOND + 7);
                recorder.latency(1000 * (second + 1), 3);
                recorder.count(3, 300, 200);
                recorder.request();
            }
        }
        drop(out);
        let mut series = Series::new(1);
        intervals.iter().for_each(|interval| series.add(&interval));
        assert_eq!(series.roles(), [Role::Produce]);
        assert_eq!(series.second(Role::Produce, 1).map(|i| (i.records, i.latency.len())), Some((12, 12)));
        series.settle(5);
        let sums = |series: &Series| {
            let all = series.measured(Role::Produce);
            (all.records, all.payload_bytes, all.wire_bytes, all.requests, all.latency.len())
        };
        assert_eq!(
            sums(&series),
            (12, 1200, 800, 4, 12),
            "the warm-up and the second that is open are left out"
        );
        series.settle(6);
        assert_eq!(sums(&series), (18, 1800, 1200, 6, 18));
        series.measure_warm_up();
        assert_eq!(sums(&series), (24, 2400, 1600, 8, 24));
        let found: Vec<_> = series.seconds(Role::Produce).map(|(second, of)| (second, of.records)).collect();
        assert_eq!(found, [(0, 6), (1, 12), (5, 6)]);
    }

    #[test]
    fn a_latency_beyond_the_longest_counts_as_the_longest() {
        let (out, intervals) = mpsc::channel();
        let mut recorder = Recorder::new(Role::Consume, out);
        recorder.latency(u64::MAX, 1);
        recorder.request();
        drop(recorder);
        let interval = intervals.recv().expect("an interval");
        assert!(interval.latency.max() >= LONGEST_NANOS);
    }
}

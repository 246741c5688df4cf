//! One run: topics, threads, the seconds as they pass, and the report.

use std::collections::BTreeMap;
use std::io::{IsTerminal, Write};
use std::sync::atomic::{AtomicI64, Ordering};
use std::sync::{Arc, Barrier, OnceLock, mpsc};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Result, bail, ensure};
use kafka_protocol::messages::ApiKey;

use crate::clock::{Clock, nanos};
use crate::engine::{
    AtEnd, Budget, ConsumerPlan, Findings, ProducePlan, RecordPlan, Shared, Work, WorkerEnd, work,
};
use crate::group::Group;
use crate::host::Host;
use crate::measure::{Interval, Role, Series, histogram};
use crate::options::{Consume, Length, Load, Output, Produce, Target, Topics};
use crate::report::{FORMAT, GeneratorUse, Latency, Report, RoleReport, STEAL_PERCENT_MAX, Second};
use crate::schedule::Schedule;
use crate::units::{show_bytes, show_count, show_micros};
use crate::watch::{self, Used, Watch};
use crate::wire::control::{self, Connection, Layout, NewTopic};
use crate::wire::{fetch, produce};

/// How long what is in flight may take when the time is over.
const DRAIN: Duration = Duration::from_secs(30);
/// How long consumers wait for records that were acknowledged and do not come.
const ARRIVAL: Duration = Duration::from_secs(10);
/// Threads hand over a second this long after it ended, at the latest.
const HAND_OVER: Duration = Duration::from_millis(60);
/// Seconds after which a second is settled: no thread is that late.
const SETTLED: u64 = 5;
const END: i64 = -1;
const BEGINNING: i64 = -2;

/// What is to be run.
#[derive(Clone)]
pub struct Run<'a> {
    pub kind: &'a str,
    pub target: &'a Target,
    pub topics: &'a Topics,
    pub length: &'a Length,
    /// Of the producers, or of those that fill the topic before.
    pub produce: &'a Produce,
    /// There are producers in the run itself.
    pub writes: bool,
    pub readers: Vec<Readers<'a>>,
    pub output: &'a Output,
    /// Bytes that are written before, if the topic is the run's own.
    pub preload: u64,
}

impl<'a> Run<'a> {
    /// Producers only.
    #[must_use]
    pub fn new(kind: &'a str, load: &'a Load) -> Run<'a> {
        let Load { target, topics, length, produce, output } = load;
        Run { kind, target, topics, length, produce, writes: true, readers: Vec::new(), output, preload: 0 }
    }

    /// What the run's producers do, if there are some.
    #[must_use]
    pub fn producers(&self) -> Option<&'a Produce> {
        self.writes.then_some(self.produce)
    }

    /// How often each record that is written is read at the tail.
    fn tails(&self) -> usize {
        self.readers.iter().filter(|readers| readers.role == Role::EndToEnd).count()
    }
}

/// Consumers of one role.
#[derive(Clone)]
pub struct Readers<'a> {
    pub role: Role,
    pub count: u32,
    pub options: &'a Consume,
}

/// Makes the run; topics of its own are deleted whatever happens.
///
/// # Errors
/// What stopped it.
pub fn run(run: &Run<'_>) -> Result<Report> {
    let mut control = Connection::open(&run.target.bootstrap)?;
    let now = Clock::begins_in(Duration::ZERO).wall_ms();
    let is_own = run.topics.topic.is_none();
    let base = run.topics.topic.clone().unwrap_or_else(|| format!("bench-{now}-{}", std::process::id()));
    let names: Vec<String> = match run.topics.topics {
        1 => vec![base],
        count => (0..count).map(|i| format!("{base}-{i}")).collect(),
    };
    let mut made = Vec::new();
    let result = make_topics(run, &mut control, &names, &mut made).and_then(|()| {
        let layout = Arc::new(control.layout(&names)?);
        // metadata may know leaders that do not know it yet: they answer this when they do
        control::offsets(&layout, END)?;
        if is_own && run.preload > 0 {
            preload(run, &layout)?;
        }
        Running::begin(run, &mut control, &layout)?.finish()
    });
    if is_own && !run.topics.keep_topic && !made.is_empty() {
        let deleted =
            Connection::open(&run.target.bootstrap).and_then(|mut control| control.delete_topics(&made));
        if let (Ok(_), Err(error)) = (&result, deleted) {
            eprintln!("warning: the run's topics {made:?} could not be deleted: {error:#}");
        }
    }
    result
}

fn make_topics(
    run: &Run<'_>,
    control: &mut Connection,
    names: &[String],
    made: &mut Vec<String>,
) -> Result<()> {
    for name in names {
        let topic = NewTopic {
            name,
            partitions: run.topics.partitions,
            replication_factor: run.topics.replication_factor,
            configs: &run.topics.topic_config,
        };
        if control.create_topic(&topic)? {
            made.push(name.clone());
        }
    }
    Ok(())
}

/// Fills the run's own topic for readers, as fast as it goes.
fn preload(run: &Run<'_>, layout: &Arc<Layout>) -> Result<()> {
    let produce = Produce { rate: None, search: None, ..run.produce.clone() };
    let length = Length {
        duration: Duration::from_secs(3600),
        warm_up: Duration::ZERO,
        records: None,
        bytes: Some(run.preload),
    };
    let loading = Run {
        kind: "preload",
        length: &length,
        produce: &produce,
        writes: true,
        readers: Vec::new(),
        preload: 0,
        ..run.clone()
    };
    let mut control = Connection::open(&run.target.bootstrap)?;
    Running::begin(&loading, &mut control, layout)?.finish()?;
    Ok(())
}

/// A run under way.
struct Running<'a> {
    run: &'a Run<'a>,
    shared: Arc<Shared>,
    clock: Clock,
    intervals: mpsc::Receiver<Interval>,
    threads: Vec<thread::JoinHandle<Result<WorkerEnd>>>,
    /// Threads that have producers.
    producing: usize,
    series: Series,
    watch: Watch,
    groups: Vec<Group>,
    /// That lead a partition.
    brokers: usize,
    warm_up_seconds: u64,
    warnings: Vec<String>,
}

impl<'a> Running<'a> {
    /// Connects everything and sets the clock.
    fn begin(run: &'a Run<'a>, control: &mut Connection, layout: &Arc<Layout>) -> Result<Running<'a>> {
        let mut warnings = Vec::new();
        let cores = cores(run.output);
        let clients = run.producers().map_or(0, |produce| produce.producers as usize)
            + run.readers.iter().map(|readers| readers.count as usize).sum::<usize>();
        let threads = run.output.threads.map_or(cores.len().div_ceil(2), |threads| threads as usize);
        let threads = threads.min(clients).max(1);
        let id = (Clock::begins_in(Duration::ZERO).wall_ms() as u32).wrapping_mul(std::process::id() | 1);
        let mut works: Vec<Work> = (0..threads)
            .map(|thread| Work {
                core: (!cores.is_empty()).then(|| cores[thread % cores.len()]),
                producers: Vec::new(),
                produce: None,
                schedule: None,
                budget: Budget { records: u64::MAX, bytes: u64::MAX },
                consumers: Vec::new(),
            })
            .collect();
        if let Some(options) = run.producers() {
            plan_producers(run, options, id, control, layout, &mut works)?;
        }
        let stamps = run.producers().map(|options| (id, options.producers));
        let mut groups = Vec::new();
        if !run.readers.is_empty() {
            control.version(ApiKey::Fetch, &[fetch::VERSION])?;
        }
        for readers in &run.readers {
            plan_consumers(readers, run, stamps, layout, &mut works, &mut groups, &mut warnings)?;
        }
        let producing = works.iter().filter(|work| !work.producers.is_empty()).count();
        let shared = Arc::new(Shared::default());
        let clock = Arc::new(OnceLock::new());
        let barrier = Arc::new(Barrier::new(threads + 1));
        let (out, intervals) = mpsc::channel();
        let threads: Vec<_> = works
            .into_iter()
            .enumerate()
            .map(|(index, of_thread)| {
                let (shared, barrier) = (Arc::clone(&shared), Arc::clone(&barrier));
                let (clock, out) = (Arc::clone(&clock), out.clone());
                let thread = thread::Builder::new().name(format!("load-{index}"));
                thread.spawn(move || work(of_thread, &shared, &barrier, &clock, &out))
            })
            .collect::<Result<_, _>>()?;
        barrier.wait();
        // before anything is sent: a run without a warm-up is measured from here
        let watch = Watch::new(run.target);
        let started = *clock.get_or_init(|| Clock::begins_in(Duration::from_millis(20)));
        barrier.wait();
        let warm_up_seconds = run.length.warm_up_seconds();
        Ok(Running {
            run,
            shared,
            clock: started,
            intervals,
            threads,
            producing,
            series: Series::new(warm_up_seconds),
            watch,
            groups,
            brokers: watch::brokers(&layout.brokers),
            warm_up_seconds,
            warnings,
        })
    }

    /// Lets the time pass, ends the run, reports.
    fn finish(mut self) -> Result<Report> {
        let end = self.pass_time();
        if self.producing == 0 {
            // readers do not stop by themselves
            self.shared.stop.store(true, Ordering::Release);
        }
        self.watch.end();
        self.shared.stop_producing.store(true, Ordering::Release);
        self.drain();
        self.shared.stop.store(true, Ordering::Release);
        for group in std::mem::take(&mut self.groups) {
            self.warnings.extend(group.leave());
        }
        let mut ends = Vec::new();
        let mut failed = None;
        for thread in std::mem::take(&mut self.threads) {
            match thread.join() {
                Ok(Ok(end)) => ends.push(end),
                Ok(Err(error)) => failed = failed.or(Some(error)),
                Err(_) => bail!("a thread of the load generator panicked"),
            }
        }
        self.progress_end();
        if let Some(error) = failed {
            return Err(error);
        }
        while let Ok(interval) = self.intervals.try_recv() {
            self.series.add(&interval);
        }
        Ok(self.report(end, ends))
    }

    /// Until the duration is over, the limits are reached or a thread has ended; gives the moment.
    fn pass_time(&mut self) -> u64 {
        let until = self.run.length.until();
        let mut second = 0;
        loop {
            second += 1;
            let boundary = (second * 1_000_000_000).min(until);
            if self.wait_until(boundary) {
                return self.clock.nanos();
            }
            self.watch.second(self.clock.nanos());
            if second == self.warm_up_seconds {
                self.watch.begin();
            }
            if boundary >= until {
                return until;
            }
            self.wait_until(boundary + nanos(HAND_OVER));
            self.progress(second - 1);
            self.series.settle(second.saturating_sub(SETTLED));
        }
    }

    /// Takes in what threads hand over until then; true if the run is at its end before.
    fn wait_until(&mut self, moment: u64) -> bool {
        loop {
            let wait = self.clock.until(moment);
            if wait.is_zero() {
                return false;
            }
            // Limits are looked at as often as this.
            if let Ok(interval) = self.intervals.recv_timeout(wait.min(Duration::from_millis(5))) {
                self.series.add(&interval);
            }
            if self.shared.ended.load(Ordering::Acquire) > 0 || self.is_at_limit() {
                return true;
            }
        }
    }

    fn is_at_limit(&self) -> bool {
        if self.producing > 0 {
            // without such a limit the time decides, even if the last record that is due has been acknowledged
            let is_limited = self.run.length.records.is_some() || self.run.length.bytes.is_some();
            return is_limited && self.shared.drained.load(Ordering::Acquire) == self.producing;
        }
        let received = self.shared.received.load(Ordering::Relaxed);
        self.run.length.records.is_some_and(|records| received >= records)
            || self
                .run
                .length
                .bytes
                .is_some_and(|bytes| self.shared.received_bytes.load(Ordering::Relaxed) >= bytes)
    }

    /// What is in flight ends; records on their way to consumers arrive.
    fn drain(&mut self) {
        let deadline = Instant::now() + DRAIN;
        let is_failed = |shared: &Shared| shared.ended.load(Ordering::Acquire) > 0;
        while self.shared.drained.load(Ordering::Acquire) < self.producing && !is_failed(&self.shared) {
            if Instant::now() > deadline {
                self.warnings.push(format!(
                    "records were still not acknowledged {} s after the end: their latencies are missing",
                    DRAIN.as_secs()
                ));
                break;
            }
            thread::sleep(Duration::from_millis(1));
        }
        let copies = self.run.tails() as u64;
        if copies == 0 {
            return;
        }
        let deadline = Instant::now() + ARRIVAL;
        while !is_failed(&self.shared) {
            let due = self.shared.acknowledged.load(Ordering::Relaxed) * copies;
            let received = self.shared.received.load(Ordering::Relaxed);
            if received >= due {
                break;
            }
            if Instant::now() > deadline {
                let missing = due - received;
                self.warnings.push(format!(
                    "{missing} acknowledged records had not come {} s later",
                    ARRIVAL.as_secs()
                ));
                break;
            }
            thread::sleep(Duration::from_millis(1));
        }
    }

    fn report(mut self, end: u64, ends: Vec<WorkerEnd>) -> Report {
        let run = self.run;
        let mut warnings = self.warnings;
        // A run that ended in its warm-up by its own limits is measured whole.
        let is_short = end / 1_000_000_000 < self.warm_up_seconds;
        if is_short {
            self.series.measure_warm_up();
        }
        let warm_up_seconds = if is_short { 0 } else { self.warm_up_seconds };
        if is_short {
            warnings.push("the run ended within its warm-up: the figures include it".to_owned());
        }
        let measured_seconds = (end as f64 / 1e9 - warm_up_seconds as f64).max(1e-9);
        let last_second = end.div_ceil(1_000_000_000);
        let mut findings = Findings::default();
        let (mut errors, mut lateness, mut not_sent) = (BTreeMap::new(), histogram(), 0);
        for of_thread in &ends {
            findings.add(of_thread.findings);
            not_sent += of_thread.not_taken;
            let _ = lateness.add(&of_thread.lateness);
            for (error, records) in &of_thread.errors {
                *errors.entry(error.clone()).or_insert(0) += records;
            }
        }
        let rate = run.producers().and_then(|produce| produce.rate).map(|rate| rate as f64);
        // What producers had under way at the end counts for their latency, and for that of the consumers of those
        // records; readers of the log just go on, and that counts for nothing.
        self.series.settle(last_second);
        let in_time: Vec<(Role, (u64, u64))> = (self.series.roles().into_iter())
            .map(|role| {
                let measured = self.series.measured(role);
                (role, (measured.records, measured.payload_bytes))
            })
            .collect();
        self.series.forget_open(Role::Consume);
        self.series.forget_open(Role::CatchUp);
        self.series.settle(u64::MAX);
        let roles: Vec<RoleReport> = (in_time.into_iter())
            .map(|(role, in_time)| {
                let asked = rate.filter(|_| role == Role::Produce);
                role_report(&self.series, role, warm_up_seconds, in_time, measured_seconds, asked)
            })
            .collect();
        warnings.extend(roles.iter().filter_map(unreached));
        if roles.is_empty() {
            warnings.push("nothing was measured".to_owned());
        }
        if not_sent > 0 {
            warnings.push(format!(
                "{not_sent} records were due and never sent, because producers were full: their latencies are missing"
            ));
        }
        warnings.extend(findings_as_warnings(findings));
        let micros = |nanos: u64| nanos as f64 / 1e3;
        let main_role = roles.iter().find(|role| role.role == Role::Produce).or(roles.first());
        let mut used = self.watch.finish(main_role, measured_seconds, warm_up_seconds);
        if self.brokers > 1 && used.broker.take().is_some() {
            warnings.push(shared_load(self.brokers));
        }
        let Used { broker, own_cpu_seconds: cpu_seconds, steal_percent, metrics } = used;
        let threads = ends.len();
        Report {
            format: FORMAT,
            label: run.output.label.clone().unwrap_or_else(|| run.kind.to_owned()),
            kind: run.kind.to_owned(),
            workload: run.kind.to_owned(),
            date: date(self.clock),
            tool: tool(),
            host: Host::this(),
            settings: settings(run),
            measured_seconds,
            warm_up_seconds: warm_up_seconds as f64,
            steal_percent,
            is_noisy: steal_percent > STEAL_PERCENT_MAX,
            roles,
            broker,
            generator: GeneratorUse {
                threads,
                cpu_seconds,
                cores: cpu_seconds / measured_seconds,
                lateness_p50: micros(lateness.value_at_quantile(0.5)),
                lateness_p99: micros(lateness.value_at_quantile(0.99)),
                lateness_max: if lateness.is_empty() { 0.0 } else { micros(lateness.max()) },
                not_sent,
            },
            metrics,
            search: Vec::new(),
            groups: None,
            transactions: None,
            errors,
            warnings,
        }
    }

    /// One line that stays where it is, or on a pipe a line for every ten seconds.
    fn progress(&self, second: u64) {
        if self.run.output.quiet || !(std::io::stderr().is_terminal() || second % 10 == 9) {
            return;
        }
        let mut line = format!("{:>4} s", second + 1);
        if second < self.warm_up_seconds {
            line += " warm-up";
        }
        for role in self.series.roles() {
            let Some(interval) = self.series.second(role, second) else { continue };
            let at = |quantile: f64| show_micros(interval.latency.value_at_quantile(quantile) as f64 / 1e3);
            let (rate, bytes) =
                (show_count(interval.records as f64), show_bytes(interval.payload_bytes as f64));
            line += &format!(" | {} {rate}/s {bytes}/s p50 {} p99 {}", role.name(), at(0.5), at(0.99));
        }
        line += &self.watch.progress();
        let mut err = std::io::stderr().lock();
        let _ = if err.is_terminal() { write!(err, "\r\x1b[K{line}") } else { writeln!(err, "{line}") };
    }

    fn progress_end(&self) {
        if !self.run.output.quiet && std::io::stderr().is_terminal() {
            eprintln!();
        }
    }
}

/// What to tell of a role that was slower than it was to be.
#[must_use]
pub fn unreached(role: &RoleReport) -> Option<String> {
    let asked = role.asked_rate.filter(|asked| role.records_per_second < asked * 0.98)?;
    let (reached, asked, what) = (show_count(role.records_per_second), show_count(asked), role.role.counts());
    Some(format!("the rate was not reached: {reached} of {asked} {what}s/s; latencies are lower bounds"))
}

/// When a run began, for its report.
#[must_use]
pub fn date(clock: Clock) -> String {
    let since = Duration::from_millis(clock.wall_ms().unsigned_abs());
    humantime::format_rfc3339_seconds(std::time::UNIX_EPOCH + since).to_string()
}

/// What makes the load, for a report.
#[must_use]
pub fn tool() -> String {
    format!("corelane bench {}", env!("CARGO_PKG_VERSION"))
}

/// What to tell of several brokers, of which only one could be watched.
#[must_use]
pub fn shared_load(brokers: usize) -> String {
    format!("{brokers} brokers share the load: what one of them uses would say nothing, and is left out")
}

/// The CPUs for threads, in the order they are taken.
#[must_use]
pub fn cores(output: &Output) -> Vec<core_affinity::CoreId> {
    let allowed = core_affinity::get_core_ids().unwrap_or_default();
    match &output.cores {
        Some(wanted) => wanted.0.iter().map(|id| core_affinity::CoreId { id: *id }).collect(),
        None => allowed.into_iter().rev().collect(),
    }
}

fn plan_producers(
    run: &Run<'_>,
    options: &Produce,
    id: u32,
    control: &mut Connection,
    layout: &Arc<Layout>,
    works: &mut [Work],
) -> Result<()> {
    ensure!(options.acks == -1 || !options.idempotence, "--idempotence needs --acks all");
    ensure!(options.in_flight <= 5 || !options.idempotence, "--idempotence needs --in-flight 5 or fewer");
    ensure!(
        !(options.keep_going && options.idempotence),
        "--keep-going is not for --idempotence: after one batch that is refused all later ones are out of sequence"
    );
    ensure!(options.rate != Some(0), "--rate 0: leave it out for as fast as the broker answers");
    if let Some(keys) = options.keys {
        ensure!((1..=1 << 32).contains(&keys), "--keys {keys}: from 1 to 4294967296");
    }
    let small = |bytes: u64| usize::try_from(bytes.min(1 << 30)).unwrap_or(1 << 30);
    let plan = Arc::new(ProducePlan {
        records: RecordPlan::new(options, id),
        layout: Arc::clone(layout),
        version: control.version(ApiKey::Produce, &produce::VERSIONS)?,
        acks: options.acks,
        timeout_ms: i32::try_from(options.timeout.as_millis()).unwrap_or(i32::MAX),
        codec: options.codec,
        own_slot: options.own_partition,
        batch_bytes: small(options.batch_bytes),
        request_bytes: small(options.request_bytes),
        buffer_bytes: small(options.buffer_bytes),
        linger_nanos: nanos(options.linger),
        in_flight: options.in_flight as usize,
        keep_going: options.keep_going,
    });
    let threads = works.len();
    let until = run.length.until();
    for index in 0..options.producers {
        let identity = options.idempotence.then(|| control.init_producer_id(None)).transpose()?;
        works[index as usize % threads].producers.push((index, identity));
    }
    let (mut records, mut bytes) = (run.length.records, run.length.bytes);
    let mut rest = u64::from(options.producers);
    for (place, work) in works.iter_mut().enumerate().filter(|(_, work)| !work.producers.is_empty()) {
        // each thread its share of what is left, so that the shares add up
        let of_thread = work.producers.len() as u64;
        let share = |limit: &mut Option<u64>| {
            limit.as_mut().map_or(u64::MAX, |left| {
                let share = (u128::from(*left) * u128::from(of_thread) / u128::from(rest)) as u64;
                *left -= share;
                share
            })
        };
        work.budget = Budget { records: share(&mut records), bytes: share(&mut bytes) };
        rest -= of_thread;
        work.schedule = options.rate.map(|rate| {
            let of_all = of_thread as f64 / f64::from(options.producers);
            Schedule::new(rate as f64 * of_all, place as f64 / threads as f64, until)
        });
        work.produce = Some(Arc::clone(&plan));
    }
    Ok(())
}

fn plan_consumers(
    readers: &Readers<'_>,
    run: &Run<'_>,
    stamps: Option<(u32, u32)>,
    layout: &Arc<Layout>,
    works: &mut [Work],
    groups: &mut Vec<Group>,
    warnings: &mut Vec<String>,
) -> Result<()> {
    let options = readers.options;
    let int = |value: u64| i32::try_from(value).unwrap_or(i32::MAX);
    let wraps = readers.role != Role::EndToEnd;
    if readers.role == Role::EndToEnd && run.produce.record_bytes.min < 20 {
        bail!("end-to-end latency is told by a stamp of 20 bytes in each value: --record-bytes 20 or more");
    }
    let plan = Arc::new(ConsumerPlan {
        role: readers.role,
        layout: Arc::clone(layout),
        at_end: if wraps { AtEnd::Wrap } else { AtEnd::Wait },
        max_wait_ms: if wraps { 0 } else { int(options.fetch_wait.as_millis() as u64) },
        min_bytes: int(options.fetch_min_bytes),
        max_bytes: int(options.fetch_bytes),
        partition_max_bytes: int(options.partition_bytes),
        verify: options.verify,
        stamps: stamps.filter(|_| readers.role == Role::EndToEnd || options.verify),
        positions: (0..layout.slots.len()).map(|_| AtomicI64::new(-1)).collect(),
    });
    let from = if readers.role == Role::EndToEnd { END } else { BEGINNING };
    let begins: BTreeMap<usize, i64> = control::offsets(layout, from)?.into_iter().collect();
    let mut count = readers.count as usize;
    if count > layout.slots.len() {
        let partitions = layout.slots.len();
        warnings.push(format!(
            "{count} consumers for {partitions} partitions: {} are left out",
            count - partitions
        ));
        count = partitions;
    }
    let shares: Vec<Vec<usize>> = match &options.group {
        Some(name) => {
            let group = Group::join(&run.target.bootstrap, name, count, layout, &plan.positions)?;
            let shares = group.assignments().to_vec();
            groups.push(group);
            shares
        }
        None => (0..count).map(|i| (i..layout.slots.len()).step_by(count).collect()).collect(),
    };
    let threads = works.len();
    // from the other end than producers, so that one of each lands on either of two threads
    for (index, slots) in shares.into_iter().enumerate() {
        let places = slots.into_iter().map(|slot| (slot, begins.get(&slot).copied().unwrap_or(0))).collect();
        works[(threads - 1) - index % threads].consumers.push((Arc::clone(&plan), places));
    }
    Ok(())
}

/// The figures of one role. `in_time`: records and bytes of the measured seconds.
#[must_use]
pub fn role_report(
    series: &Series,
    role: Role,
    warm_up_seconds: u64,
    in_time: (u64, u64),
    seconds: f64,
    asked: Option<f64>,
) -> RoleReport {
    let all = series.measured(role);
    RoleReport {
        role,
        records: all.records,
        payload_bytes: all.payload_bytes,
        wire_bytes: all.wire_bytes,
        requests: all.requests,
        records_per_second: in_time.0 as f64 / seconds,
        payload_bytes_per_second: in_time.1 as f64 / seconds,
        asked_rate: asked,
        latency_of: role.latency_of().to_owned(),
        latency: Latency::of(&all.latency),
        series: series.seconds(role).map(|(second, of)| Second::of(second, of, warm_up_seconds)).collect(),
    }
}

fn findings_as_warnings(findings: Findings) -> Vec<String> {
    let told = [
        (findings.missing, "records are missing or came after later ones of their producer"),
        (findings.repeated, "records came twice or out of order"),
        (findings.bad_checksums, "batches with a wrong CRC"),
        (findings.resets, "positions were no longer in the log: reading went on at its beginning"),
    ];
    told.into_iter().filter(|(count, _)| *count > 0).map(|(count, what)| format!("{count} {what}")).collect()
}

/// What the reader of a report needs to make the run again.
fn settings(run: &Run<'_>) -> BTreeMap<String, String> {
    let mut settings = BTreeMap::new();
    let mut set = |key: &str, value: String| settings.insert(key.to_owned(), value);
    let time = |duration| humantime::format_duration(duration).to_string();
    set("topics", run.topics.topics.to_string());
    set("partitions", run.topics.partitions.to_string());
    set("replication-factor", run.topics.replication_factor.to_string());
    set("duration", time(run.length.duration));
    if let Some(records) = run.length.records {
        set("records", records.to_string());
    }
    if let Some(bytes) = run.length.bytes {
        set("bytes", bytes.to_string());
    }
    if run.preload > 0 {
        set("preload", run.preload.to_string());
    }
    if !run.topics.topic_config.is_empty() {
        let pairs: Vec<String> =
            run.topics.topic_config.iter().map(|(key, value)| format!("{key}={value}")).collect();
        set("topic-config", pairs.join(","));
    }
    let produce = run.produce;
    let range = produce.record_bytes;
    set(
        "record-bytes",
        if range.min == range.max { range.min.to_string() } else { format!("{}..{}", range.min, range.max) },
    );
    set("codec", format!("{:?}", produce.codec).to_lowercase());
    set("batch-bytes", produce.batch_bytes.to_string());
    set("payload", format!("{:?}", produce.payload).to_lowercase());
    if run.writes {
        set("producers", produce.producers.to_string());
        set("rate", produce.rate.map_or("closed loop".to_owned(), |rate| rate.to_string()));
        set("acks", if produce.acks == -1 { "all".to_owned() } else { produce.acks.to_string() });
        set("in-flight", produce.in_flight.to_string());
        set("linger", time(produce.linger));
        set("request-bytes", produce.request_bytes.to_string());
        set("buffer-bytes", produce.buffer_bytes.to_string());
        set("idempotence", produce.idempotence.to_string());
    }
    if produce.own_partition {
        set("own-partition", "true".to_owned());
    }
    if let Some(keys) = produce.keys {
        set("keys", format!("{keys} of {} B", produce.key_bytes));
    }
    if produce.headers > 0 {
        set("headers", format!("{} of {} B", produce.headers, produce.header_bytes));
    }
    if run.tails() > 1 {
        set("fan-out", run.tails().to_string());
    }
    for readers in &run.readers {
        set(&format!("{} consumers", readers.role.name()), readers.count.to_string());
        set("fetch-bytes", readers.options.fetch_bytes.to_string());
        set("partition-bytes", readers.options.partition_bytes.to_string());
        set("fetch-wait", time(readers.options.fetch_wait));
        set("fetch-min-bytes", readers.options.fetch_min_bytes.to_string());
        set("verify", readers.options.verify.to_string());
        if let Some(group) = &readers.options.group {
            set("group", group.clone());
        }
    }
    settings
}

//! A run of transactions from its topic to its report.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Barrier, OnceLock, mpsc};
use std::thread;
use std::time::Duration;

use anyhow::{Result, ensure};

use super::options::{Protocol, Transactions};
use super::producer::{Plan, Producer, Versions};
use super::worker::{End, Shared, Window, Work, work};
use crate::clock::Clock;
use crate::engine::RecordPlan;
use crate::host::Host;
use crate::measure::{Interval, Role, Series};
use crate::report::{FORMAT, GeneratorUse, Report, RoleReport, STEAL_PERCENT_MAX, TransactionsReport};
use crate::run as runs;
use crate::schedule::Schedule;
use crate::watch::{self, Used, Watch};
use crate::wire::control::{self, Connection, Coordinated, NewTopic};

/// Of the broker.
const FEATURE: &str = "transaction.version";
/// Until threads that have been started begin.
const LEAD: Duration = Duration::from_millis(20);
const END_OF_LOG: i64 = -1;
/// What a latency is of without a protocol.
const NO_TRANSACTION: &str = "batches as of a transaction: due or begun to acknowledged";
const SECOND: u64 = 1_000_000_000;

/// Makes the run; its topic is deleted whatever happens.
///
/// # Errors
/// What stopped it.
pub fn run(options: &Transactions) -> Result<Report> {
    let partitions = options.partitions_of_topic();
    ensure!(
        options.partitions <= partitions,
        "--partitions {}: the topic has {partitions}, give more --topic-partitions",
        options.partitions
    );
    ensure!(options.rate != Some(0), "--rate 0: leave it out for as fast as the broker answers");
    let mut control = Connection::open(&options.target.bootstrap)?;
    let versions = Versions::of(options.protocol, &control)?;
    if options.protocol == Protocol::V2 {
        let level = control.feature(FEATURE)?;
        ensure!(
            level >= 2,
            "the broker's {FEATURE} is {level}: --protocol v2 needs 2, --protocol classic works with any"
        );
    }
    let base = format!("bench-{}-{}", Clock::begins_in(Duration::ZERO).wall_ms(), std::process::id());
    let topic = NewTopic {
        name: &base,
        partitions: i32::try_from(partitions)?,
        replication_factor: options.replication_factor,
        configs: &options.topic_config,
    };
    control.create_topic(&topic)?;
    let result =
        prepare(options, &mut control, versions, &base).and_then(|prepared| conduct(options, prepared));
    let deleted =
        Connection::open(&options.target.bootstrap).and_then(|mut control| control.delete_topics(&[base]));
    if let (Ok(_), Err(error)) = (&result, deleted) {
        eprintln!("warning: the run's topic could not be deleted: {error:#}");
    }
    result
}

/// Producers that may begin.
struct Prepared {
    plan: Plan,
    /// Each with the address of its coordinator if it has one.
    producers: Vec<(Producer, Option<String>)>,
}

/// Waits for the topic, finds each producer's coordinator and gets its id.
fn prepare(
    options: &Transactions,
    control: &mut Connection,
    versions: Versions,
    base: &str,
) -> Result<Prepared> {
    let layout = control.layout(&[base.to_owned()])?;
    // metadata may know leaders that do not know it yet: they answer this when they do
    control::offsets(&layout, END_OF_LOG)?;
    let plan = Plan {
        layout,
        protocol: options.protocol,
        versions,
        partitions: options.partitions as usize,
        records: options.records,
    };
    let values = RecordPlan::of_values(options.record_bytes, options.payload);
    let mut coordinators = BTreeMap::new();
    let mut prepare = |index: usize| {
        if options.protocol == Protocol::None {
            let identity = control.init_producer_id(None)?;
            return Ok((Producer::new(index, None, identity, &plan, &values), None));
        }
        let id = format!("{base}-{index}");
        let address = control.coordinator(Coordinated::Transactions(&id))?;
        if !coordinators.contains_key(&address) {
            coordinators.insert(address.clone(), Connection::open(&address)?);
        }
        let coordinator = coordinators.get_mut(&address).unwrap_or(control);
        let identity = coordinator.init_producer_id(Some(&id))?;
        Ok((Producer::new(index, Some(id), identity, &plan, &values), Some(address)))
    };
    let producers = (0..options.producers as usize).map(&mut prepare).collect::<Result<_>>()?;
    Ok(Prepared { plan, producers })
}

/// Connects everything, lets the time pass, reports.
fn conduct(options: &Transactions, prepared: Prepared) -> Result<Report> {
    let whole = |time: Duration| time.as_secs() + u64::from(time.subsec_nanos() > 0);
    let (warm_up_seconds, seconds) = (whole(options.warm_up), whole(options.duration).max(1));
    let Prepared { plan, producers } = prepared;
    let coordinators = producers.iter().filter_map(|(_, coordinator)| coordinator.as_ref());
    let brokers = watch::brokers(plan.layout.brokers.iter().chain(coordinators));
    let window = Window { from: warm_up_seconds * SECOND, until: (warm_up_seconds + seconds) * SECOND };
    let (measuring, intervals) = mpsc::channel();
    let works = works(options, plan, producers, window, &measuring);
    let shared = Arc::new(Shared {
        begin: Barrier::new(works.len() + 1),
        clock: OnceLock::new(),
        stop: AtomicBool::new(false),
    });
    let start = |(thread, of_thread): (usize, Work)| {
        let shared = Arc::clone(&shared);
        let thread = thread::Builder::new().name(format!("transactions-{thread}"));
        thread.spawn(move || work(of_thread, &shared))
    };
    let threads = works.into_iter().enumerate().map(start).collect::<Result<Vec<_>, _>>()?;
    shared.begin.wait();
    if !options.output.quiet {
        eprintln!("{} producers have their ids and are connected", options.producers);
    }
    // before anything is sent: a run without a warm-up is measured from here
    let watch = Watch::new(&options.target);
    let clock = *shared.clock.get_or_init(|| Clock::begins_in(LEAD));
    shared.begin.wait();
    let mut measured = Measured {
        clock,
        series: Series::new(warm_up_seconds),
        watch,
        end: End::new(),
        threads: threads.len(),
        brokers,
        warm_up_seconds,
        seconds,
    };
    let is_whole = measured.pass_time(&threads, &intervals);
    shared.stop.store(!is_whole, Ordering::Release);
    for thread in threads {
        match thread.join() {
            Ok(end) => measured.end.add(&end?),
            Err(_) => anyhow::bail!("a thread of the load generator panicked"),
        }
    }
    intervals.try_iter().for_each(|interval| measured.series.add(&interval));
    Ok(measured.report(options))
}

/// What each thread is to do, with its share of the producers.
fn works(
    options: &Transactions,
    plan: Plan,
    producers: Vec<(Producer, Option<String>)>,
    window: Window,
    measuring: &mpsc::Sender<Interval>,
) -> Vec<Work> {
    let cores = runs::cores(&options.output);
    let threads = options.output.threads.map_or(cores.len().div_ceil(2), |threads| threads as usize);
    let threads = threads.clamp(1, producers.len());
    let (plan, all) = (Arc::new(plan), producers.len());
    let mut shares: Vec<Vec<_>> = (0..threads).map(|_| Vec::new()).collect();
    for (index, producer) in producers.into_iter().enumerate() {
        shares[index % threads].push(producer);
    }
    let of_thread = |(thread, producers): (usize, Vec<_>)| Work {
        core: (!cores.is_empty()).then(|| cores[thread % cores.len()]),
        plan: Arc::clone(&plan),
        schedule: options.rate.map(|rate| {
            let of_all = producers.len() as f64 / all as f64;
            Schedule::new(rate as f64 * of_all, thread as f64 / threads as f64, window.until)
        }),
        producers,
        window,
        intervals: measuring.clone(),
    };
    shares.into_iter().enumerate().map(of_thread).collect()
}

/// What came of a run.
struct Measured {
    clock: Clock,
    series: Series,
    watch: Watch,
    end: End,
    threads: usize,
    brokers: usize,
    warm_up_seconds: u64,
    seconds: u64,
}

impl Measured {
    /// Until the measured time is over; false if a thread has ended before, whose error is the run's.
    fn pass_time(
        &mut self,
        threads: &[thread::JoinHandle<Result<End>>],
        intervals: &mpsc::Receiver<Interval>,
    ) -> bool {
        for second in 1..=self.warm_up_seconds + self.seconds {
            thread::sleep(self.clock.until(second * SECOND));
            self.watch.second(second * SECOND);
            if second == self.warm_up_seconds {
                self.watch.begin();
            }
            intervals.try_iter().for_each(|interval| self.series.add(&interval));
            let is_last = second == self.warm_up_seconds + self.seconds;
            if !is_last && threads.iter().any(thread::JoinHandle::is_finished) {
                return false;
            }
        }
        self.watch.end();
        true
    }

    fn report(mut self, options: &Transactions) -> Report {
        let (warm_up_seconds, measured_seconds) = (self.warm_up_seconds, self.seconds as f64);
        // what was under way at the end counts for latency only
        self.series.settle(warm_up_seconds + self.seconds);
        let roles = self.series.roles();
        let in_time = |role: Role| {
            let measured = self.series.measured(role);
            (measured.records, measured.payload_bytes)
        };
        let in_time: Vec<_> = roles.into_iter().map(|role| (role, in_time(role))).collect();
        self.series.settle(u64::MAX);
        let roles: Vec<_> = (in_time.iter())
            .map(|(role, in_time)| {
                let asked = options.rate.map(|rate| rate as f64).filter(|_| *role == Role::Transaction);
                let report = runs::role_report(
                    &self.series,
                    *role,
                    warm_up_seconds,
                    *in_time,
                    measured_seconds,
                    asked,
                );
                match options.protocol {
                    Protocol::V2 | Protocol::Classic => report,
                    Protocol::None => RoleReport { latency_of: NO_TRANSACTION.to_owned(), ..report },
                }
            })
            .collect();
        let mut warnings: Vec<String> = roles.iter().filter_map(runs::unreached).collect();
        let done =
            in_time.iter().find(|(role, _)| *role == Role::Transaction).map_or(0, |(_, (count, _))| *count);
        if done == 0 {
            warnings
                .push("nothing was measured: no transaction was done, give a longer --duration".to_owned());
        }
        let Used { mut broker, own_cpu_seconds: cpu_seconds, steal_percent, metrics } =
            self.watch.finish(roles.first(), measured_seconds, warm_up_seconds);
        if self.brokers > 1 && broker.take().is_some() {
            warnings.push(runs::shared_load(self.brokers));
        }
        let End { retries, waited, lateness, not_begun } = self.end;
        if not_begun > 0 {
            warnings.push(format!(
                "{not_begun} transactions were due and never begun, because producers were busy: their latencies are missing"
            ));
        }
        let of_each =
            broker.as_ref().filter(|_| done > 0).map(|broker| broker.cpu_seconds * 1e6 / done as f64);
        let lateness_at = |quantile: f64| lateness.value_at_quantile(quantile) as f64 / 1e3;
        Report {
            format: FORMAT,
            label: options.output.label.clone().unwrap_or_else(|| "transactions".to_owned()),
            kind: "transactions".to_owned(),
            workload: "transactions".to_owned(),
            date: runs::date(self.clock),
            tool: runs::tool(),
            host: Host::this(),
            settings: settings(options),
            measured_seconds,
            warm_up_seconds: warm_up_seconds as f64,
            steal_percent,
            is_noisy: steal_percent > STEAL_PERCENT_MAX,
            roles,
            broker,
            generator: GeneratorUse {
                threads: self.threads,
                cpu_seconds,
                cores: cpu_seconds / measured_seconds,
                lateness_p50: lateness_at(0.5),
                lateness_p99: lateness_at(0.99),
                lateness_max: if lateness.is_empty() { 0.0 } else { lateness_at(1.0) },
                not_sent: not_begun,
            },
            metrics,
            search: Vec::new(),
            groups: None,
            transactions: Some(TransactionsReport {
                producers: options.producers,
                protocol: options.protocol.name().to_owned(),
                partitions: options.partitions,
                cpu_micros_per_transaction: of_each,
                cpu_micros_per_partition: of_each.map(|micros| micros / f64::from(options.partitions)),
                waited_micros_per_transaction: waited as f64 / 1e3 / done.max(1) as f64,
                retries,
            }),
            errors: BTreeMap::new(),
            warnings,
        }
    }
}

/// What the reader of a report needs to make the run again.
fn settings(options: &Transactions) -> BTreeMap<String, String> {
    let mut settings: BTreeMap<String, String> = [
        ("producers", options.producers.to_string()),
        ("partitions", options.partitions.to_string()),
        ("records", options.records.to_string()),
        ("record-bytes", options.record_bytes.to_string()),
        ("payload", format!("{:?}", options.payload).to_lowercase()),
        ("protocol", options.protocol.name().to_owned()),
        ("rate", options.rate.map_or("closed loop".to_owned(), |rate| rate.to_string())),
        ("topic-partitions", options.partitions_of_topic().to_string()),
        ("replication-factor", options.replication_factor.to_string()),
        ("duration", humantime::format_duration(options.duration).to_string()),
    ]
    .map(|(key, value)| (key.to_owned(), value))
    .into();
    if !options.topic_config.is_empty() {
        let pairs: Vec<_> =
            options.topic_config.iter().map(|(key, value)| format!("{key}={value}")).collect();
        settings.insert("topic-config".to_owned(), pairs.join(","));
    }
    settings
}

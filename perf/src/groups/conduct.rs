//! A run of groups from its topic to its report.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, mpsc};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};
use kafka_protocol::messages::consumer_group_heartbeat_request::TopicPartitions;
use kafka_protocol::messages::metadata_request::MetadataRequestTopic;
use kafka_protocol::messages::{
    ApiKey, DeleteGroupsRequest, DeleteGroupsResponse, GroupId, MetadataRequest, MetadataResponse,
};

use super::member::{Plan, Versions};
use super::options::{Groups, Protocol};
use super::seat::Change;
use super::worker::{Order, Recorded, Told, Work, work};
use crate::clock::{Clock, nanos};
use crate::host::{self, CpuTime, Host, ProcessUse};
use crate::measure::{Interval, Role, Series, histogram};
use crate::report::{FORMAT, GeneratorUse, GroupsReport, Rebalance, Report, STEAL_PERCENT_MAX};
use crate::run as runs;
use crate::units::show_micros;
use crate::watch::{self, Used, Watch, broker_pid};
use crate::wire::control::{Connection, Coordinated, NewTopic, name, string};
use crate::wire::error_name;

/// What connecting all, or a rebalance, may take.
const SETTLE: Duration = Duration::from_secs(600);
/// What heartbeats that were due may still take when the time is over.
const DRAIN: Duration = Duration::from_secs(30);
/// From an order until it is obeyed: threads have seen it by then.
const LEAD: Duration = Duration::from_millis(20);
/// Groups deleted by one request.
const DELETED_AT_ONCE: usize = 100;
const SECOND: u64 = 1_000_000_000;

/// Makes the run; its topic and its groups are deleted whatever happens.
///
/// # Errors
/// What stopped it.
pub fn run(options: &Groups) -> Result<Report> {
    ensure!(
        options.rebalances == 0 || options.members > 1,
        "--rebalances: a member leaves and joins again, so a group needs --members 2 or more"
    );
    ensure!(
        options.heartbeat.is_none_or(|heartbeat| !heartbeat.is_zero()),
        "--heartbeat 0s: beat less often"
    );
    let mut control = Connection::open(&options.target.bootstrap)?;
    let base = format!("bench-{}-{}", Clock::begins_in(Duration::ZERO).wall_ms(), std::process::id());
    let groups: Vec<String> = (0..options.groups).map(|group| format!("{base}-{group}")).collect();
    let topic = NewTopic {
        name: &base,
        partitions: options.partitions,
        replication_factor: options.replication_factor,
        configs: &[],
    };
    control.create_topic(&topic)?;
    let result = prepare(options, &mut control, &base, &groups)
        .and_then(|(plan, coordinators)| Conductor::begin(options, plan, &groups, coordinators)?.finish());
    let deleted = Connection::open(&options.target.bootstrap)
        .and_then(|mut control| delete_groups(&mut control, &groups).and(control.delete_topics(&[base])));
    if let (Ok(_), Err(error)) = (&result, deleted) {
        eprintln!("warning: the run's topic and groups could not be deleted: {error:#}");
    }
    result
}

/// Waits for the topic, and finds each group's coordinator.
fn prepare(
    options: &Groups,
    control: &mut Connection,
    topic: &str,
    groups: &[String],
) -> Result<(Plan, Vec<String>)> {
    let layout = control.layout(&[topic.to_owned()])?;
    let versions = Versions::of(options.protocol, control)?;
    let topic = match options.protocol {
        Protocol::Classic => TopicPartitions::default(),
        Protocol::Consumer => topic_by_id(control, topic)?,
    };
    let session_timeout_ms = i32::try_from(options.session_timeout.as_millis()).unwrap_or(i32::MAX);
    let coordinators =
        groups.iter().map(|group| control.coordinator(Coordinated::Group(group))).collect::<Result<_>>()?;
    Ok((Plan { layout, topic, versions, session_timeout_ms }, coordinators))
}

fn topic_by_id(control: &mut Connection, topic: &str) -> Result<TopicPartitions> {
    let wanted = MetadataRequestTopic::default().with_name(Some(name(topic)));
    let request =
        MetadataRequest::default().with_topics(Some(vec![wanted])).with_allow_auto_topic_creation(false);
    let metadata: MetadataResponse = control.ask(ApiKey::Metadata, &[12, 10], &request)?;
    let found = metadata.topics.first().context("Metadata answered without the topic")?;
    Ok(TopicPartitions::default().with_topic_id(found.topic_id))
}

fn delete_groups(control: &mut Connection, groups: &[String]) -> Result<()> {
    const GROUP_ID_NOT_FOUND: i16 = 69;
    for some in groups.chunks(DELETED_AT_ONCE) {
        let names = some.iter().map(|group| GroupId(string(group))).collect();
        let request = DeleteGroupsRequest::default().with_groups_names(names);
        let deleted: DeleteGroupsResponse = control.ask(ApiKey::DeleteGroups, &[2, 1, 0], &request)?;
        for result in &deleted.results {
            let error = result.error_code;
            let is_gone = [0, GROUP_ID_NOT_FOUND].contains(&error);
            ensure!(is_gone, "DeleteGroups answered {}", error_name(error));
        }
    }
    Ok(())
}

/// A run under way.
struct Conductor<'a> {
    options: &'a Groups,
    clock: Clock,
    /// The broker's, if it is on this machine and alone.
    pid: Option<u32>,
    brokers: usize,
    threads: Vec<Thread>,
    told: mpsc::Receiver<Told>,
    intervals: mpsc::Receiver<Interval>,
    requests: Arc<AtomicU64>,
    /// Of the broker before there were connections, with them, and with stable groups.
    resident: Vec<u64>,
    idle_cores: Option<f64>,
    stable: Took,
    warnings: Vec<String>,
}

struct Thread {
    orders: mpsc::Sender<Order>,
    handle: thread::JoinHandle<()>,
}

/// How long something took, and what it cost the broker.
#[derive(Clone, Copy, Debug, Default)]
struct Took {
    seconds: f64,
    cpu_seconds: Option<f64>,
    requests: u64,
    steal_percent: f64,
}

/// A moment from which something is counted.
struct Moment {
    at: u64,
    cpu_nanos: Option<u64>,
    cpu: CpuTime,
    requests: u64,
}

impl<'a> Conductor<'a> {
    /// Connects all members, and lets them join when the idle broker has been watched.
    fn begin(
        options: &'a Groups,
        plan: Plan,
        groups: &[String],
        coordinators: Vec<String>,
    ) -> Result<Conductor<'a>> {
        let mut warnings = Vec::new();
        let brokers = watch::brokers(&coordinators);
        let pid = broker_pid(&options.target).filter(|_| brokers == 1);
        if brokers > 1 {
            warnings.push(runs::shared_load(brokers));
        }
        let clock = Clock::begins_in(Duration::ZERO);
        let cores = runs::cores(&options.output);
        let threads = options.output.threads.map_or(cores.len().div_ceil(2), |threads| threads as usize);
        let threads = threads.clamp(1, groups.len());
        let (telling, told) = mpsc::channel();
        let (measuring, intervals) = mpsc::channel();
        let (plan, requests) = (Arc::new(plan), Arc::new(AtomicU64::new(0)));
        let all: Vec<(usize, String, String)> = (groups.iter().cloned().zip(coordinators).enumerate())
            .map(|(number, (group, coordinator))| (number, group, coordinator))
            .collect();
        let resident = pid.and_then(ProcessUse::of).map(|used| used.resident_bytes);
        let start = |thread: usize| {
            let work_of_thread = Work {
                core: (!cores.is_empty()).then(|| cores[thread % cores.len()]),
                clock,
                plan: Arc::clone(&plan),
                protocol: options.protocol,
                heartbeat: options.heartbeat.map(nanos),
                members: options.members,
                groups: all.iter().skip(thread).step_by(threads).cloned().collect(),
                requests: Arc::clone(&requests),
                intervals: measuring.clone(),
            };
            let (orders, ordered) = mpsc::channel();
            let telling = telling.clone();
            let handle = thread::Builder::new()
                .name(format!("groups-{thread}"))
                .spawn(move || work(work_of_thread, &ordered, &telling))?;
            Ok(Thread { orders, handle })
        };
        let mut conductor = Conductor {
            options,
            clock,
            pid,
            brokers,
            threads: (0..threads).map(start).collect::<Result<_>>()?,
            told,
            intervals,
            requests,
            resident: resident.into_iter().collect(),
            idle_cores: None,
            stable: Took::default(),
            warnings,
        };
        conductor.wait_for(threads, SETTLE, "connect", |told| matches!(told, Told::Connected))?;
        conductor.see_memory();
        conductor.watch_idle();
        Ok(conductor)
    }

    fn finish(mut self) -> Result<Report> {
        let (groups, members) = (self.options.groups as usize, self.options.members);
        self.progress(&format!("{groups} groups of {members}: connected"));
        self.stable = self.rebalance(groups, |at| Order::Join { at })?;
        self.progress(&format!("all stable after {}", show_micros(self.stable.seconds * 1e6)));
        self.see_memory();
        let measured = self.measure()?;
        let mut rebalances = Vec::new();
        for number in 0..self.options.rebalances {
            let change = if number % 2 == 0 { Change::Leaves } else { Change::Joins };
            // leaves and joins again in one group, then in the next
            let group = (number / 2) as usize % groups;
            let took = self.rebalance(1, |at| Order::Change { at, group, change })?;
            let trigger = if change == Change::Leaves { "leaves" } else { "joins" };
            self.progress(&format!("a member {trigger}: {}", show_micros(took.seconds * 1e6)));
            rebalances.push(Rebalance {
                trigger: trigger.to_owned(),
                seconds: took.seconds,
                cpu_seconds: took.cpu_seconds,
                requests: took.requests,
                steal_percent: took.steal_percent,
            });
        }
        self.order(Order::Leave);
        self.wait_for(self.threads.len(), DRAIN, "leave", |told| matches!(told, Told::Left))?;
        let threads = self.threads.len();
        for Thread { orders, handle } in std::mem::take(&mut self.threads) {
            drop(orders);
            ensure!(handle.join().is_ok(), "a thread of the load generator panicked");
        }
        Ok(self.report(measured, rebalances, threads))
    }

    fn order(&self, order: Order) {
        for thread in &self.threads {
            // one that has ended has told why
            let _ = thread.orders.send(order);
        }
    }

    /// Waits for so many messages of a kind; others are passed over.
    fn wait_for(
        &mut self,
        count: usize,
        patience: Duration,
        what: &str,
        mut is_one: impl FnMut(&Told) -> bool,
    ) -> Result<Option<Told>> {
        let deadline = Instant::now() + patience;
        let mut last = None;
        for done in 0..count {
            loop {
                let told = self.told.recv_timeout(deadline.saturating_duration_since(Instant::now()));
                match told {
                    Ok(Told::Failed(error)) => return Err(error),
                    Ok(told) if is_one(&told) => {
                        last = Some(told);
                        break;
                    }
                    Ok(_) => {}
                    Err(_) => {
                        let seconds = patience.as_secs();
                        bail!("{done} of {count} did {what} within {seconds} s: does the broker answer?")
                    }
                }
            }
        }
        Ok(last)
    }

    fn see_memory(&mut self) {
        self.resident.extend(self.pid.and_then(ProcessUse::of).map(|used| used.resident_bytes));
    }

    fn watch_idle(&mut self) {
        if self.options.idle.is_zero() {
            return;
        }
        let begun = self.moment(self.clock.nanos());
        thread::sleep(self.options.idle);
        let idle = self.since(&begun, self.clock.nanos());
        self.idle_cores = idle.cpu_seconds.map(|used| used / idle.seconds);
    }

    fn moment(&self, at: u64) -> Moment {
        Moment {
            at,
            cpu_nanos: self.pid.and_then(host::cpu_nanos),
            cpu: CpuTime::now(),
            requests: self.requests.load(Ordering::Relaxed),
        }
    }

    fn since(&self, begun: &Moment, until: u64) -> Took {
        let ended = self.moment(until);
        let cpu_nanos =
            ended.cpu_nanos.zip(begun.cpu_nanos).map(|(ended, begun)| ended.saturating_sub(begun));
        Took {
            seconds: until.saturating_sub(begun.at) as f64 / 1e9,
            cpu_seconds: cpu_nanos.map(|nanos| nanos as f64 / 1e9),
            requests: ended.requests - begun.requests,
            steal_percent: ended.cpu.steal_percent_since(begun.cpu),
        }
    }

    /// Gives an order and waits until so many groups are stable.
    fn rebalance(&mut self, groups: usize, order: impl FnOnce(u64) -> Order) -> Result<Took> {
        let at = self.clock.nanos() + nanos(LEAD);
        let begun = self.moment(at);
        self.order(order(at));
        let mut last = at;
        self.wait_for(groups, SETTLE, "become stable", |told| match told {
            Told::Stable { at } => {
                last = last.max(*at);
                true
            }
            _ => false,
        })?;
        Ok(self.since(&begun, last))
    }

    /// Lets members beat for the warm-up and the measured time.
    fn measure(&mut self) -> Result<Measured> {
        let whole = |time: Duration| time.as_secs() + u64::from(time.subsec_nanos() > 0);
        let (warm_up_seconds, seconds) = (whole(self.options.warm_up), whole(self.options.duration).max(1));
        let from = self.clock.nanos() + nanos(LEAD);
        self.order(Order::Record { from, until: from + (warm_up_seconds + seconds) * SECOND });
        let mut series = Series::new(warm_up_seconds);
        thread::sleep(self.clock.until(from));
        let mut watch = Watch::new(&self.options.target);
        let mut begun = self.moment(from);
        for second in 1..=warm_up_seconds + seconds {
            let boundary = from + second * SECOND;
            thread::sleep(self.clock.until(boundary));
            watch.second(second * SECOND);
            if second == warm_up_seconds {
                watch.begin();
                begun = self.moment(boundary);
            }
            self.intervals.try_iter().for_each(|interval| series.add(&interval));
        }
        watch.end();
        let took = self.since(&begun, from + (warm_up_seconds + seconds) * SECOND);
        let mut recorded = Recorded { lateness: histogram(), errors: BTreeMap::new(), rejoins: 0 };
        self.wait_for(self.threads.len(), DRAIN, "answer the heartbeats that were due", |told| {
            let Told::Recorded(of_thread) = told else { return false };
            let _ = recorded.lateness.add(&of_thread.lateness);
            recorded.rejoins += of_thread.rejoins;
            for (error, count) in &of_thread.errors {
                *recorded.errors.entry(error.clone()).or_insert(0) += count;
            }
            true
        })?;
        self.intervals.try_iter().for_each(|interval| series.add(&interval));
        Ok(Measured { series, watch, took, recorded, warm_up_seconds, seconds })
    }

    fn report(mut self, measured: Measured, rebalances: Vec<Rebalance>, threads: usize) -> Report {
        let options = self.options;
        let Measured { mut series, watch, took, recorded, warm_up_seconds, seconds } = measured;
        // what was due at the end is answered a little later, and counts for latency only
        series.settle(warm_up_seconds + seconds);
        let in_time = series.measured(Role::Heartbeat).records;
        series.settle(u64::MAX);
        let measured_seconds = seconds as f64;
        let asked = options.heartbeat.map(|heartbeat| {
            f64::from(options.groups) * f64::from(options.members) / heartbeat.as_secs_f64()
        });
        let role = runs::role_report(
            &series,
            Role::Heartbeat,
            warm_up_seconds,
            (in_time, 0),
            measured_seconds,
            asked,
        );
        let Used { broker, own_cpu_seconds: cpu_seconds, steal_percent, metrics } =
            watch.finish(Some(&role), measured_seconds, warm_up_seconds);
        let mut warnings = std::mem::take(&mut self.warnings);
        warnings.extend(runs::unreached(&role));
        if in_time == 0 {
            warnings.push("nothing was measured: no heartbeat was due, give a longer --duration".to_owned());
        }
        if recorded.rejoins > 0 {
            warnings.push(format!(
                "members joined again {} times meanwhile: the figures are of groups that were not stable",
                recorded.rejoins
            ));
        }
        let steal_percent = (rebalances.iter().map(|rebalance| rebalance.steal_percent))
            .fold(steal_percent.max(self.stable.steal_percent), f64::max);
        let beyond_idle =
            took.cpu_seconds.zip(self.idle_cores).map(|(used, idle)| used - idle * took.seconds);
        let members = f64::from(options.groups) * f64::from(options.members);
        let grown = |earlier: usize, later: usize| {
            let (earlier, later) = (self.resident.get(earlier)?, self.resident.get(later)?);
            Some((*later as f64 - *earlier as f64).max(0.0) / members)
        };
        let lateness_at = |quantile: f64| recorded.lateness.value_at_quantile(quantile) as f64 / 1e3;
        let is_lone = self.brokers == 1;
        Report {
            format: FORMAT,
            label: options.output.label.clone().unwrap_or_else(|| "groups".to_owned()),
            kind: "groups".to_owned(),
            workload: "groups".to_owned(),
            date: runs::date(self.clock),
            tool: runs::tool(),
            host: Host::this(),
            settings: settings(options),
            measured_seconds,
            warm_up_seconds: warm_up_seconds as f64,
            steal_percent,
            is_noisy: steal_percent > STEAL_PERCENT_MAX,
            roles: vec![role],
            broker: broker.filter(|_| is_lone),
            generator: GeneratorUse {
                threads,
                cpu_seconds,
                cores: cpu_seconds / measured_seconds,
                lateness_p50: lateness_at(0.5),
                lateness_p99: lateness_at(0.99),
                lateness_max: if recorded.lateness.is_empty() { 0.0 } else { lateness_at(1.0) },
                not_sent: 0,
            },
            metrics,
            search: Vec::new(),
            groups: Some(GroupsReport {
                groups: options.groups,
                members: options.members,
                protocol: options.protocol.name().to_owned(),
                stable_seconds: self.stable.seconds,
                stable_cpu_seconds: self.stable.cpu_seconds,
                idle_cores: self.idle_cores,
                cpu_micros_per_heartbeat: beyond_idle
                    .filter(|_| in_time > 0)
                    .map(|used| used * 1e6 / in_time as f64),
                bytes_per_connection: grown(0, 1),
                bytes_per_member: grown(1, 2),
                rebalances,
            }),
            transactions: None,
            errors: recorded.errors,
            warnings,
        }
    }

    fn progress(&self, text: &str) {
        if !self.options.output.quiet {
            eprintln!("{text}");
        }
    }
}

/// What came of the heartbeats.
struct Measured {
    series: Series,
    watch: Watch,
    took: Took,
    recorded: Recorded,
    warm_up_seconds: u64,
    seconds: u64,
}

/// What the reader of a report needs to make the run again.
fn settings(options: &Groups) -> BTreeMap<String, String> {
    let time = |duration| humantime::format_duration(duration).to_string();
    [
        ("groups", options.groups.to_string()),
        ("members", options.members.to_string()),
        ("protocol", options.protocol.name().to_owned()),
        ("heartbeat", options.heartbeat.map_or("default".to_owned(), time)),
        ("partitions", options.partitions.to_string()),
        ("replication-factor", options.replication_factor.to_string()),
        ("session-timeout", time(options.session_timeout)),
        ("rebalances", options.rebalances.to_string()),
        ("idle", time(options.idle)),
        ("duration", time(options.duration)),
    ]
    .map(|(key, value)| (key.to_owned(), value))
    .into()
}

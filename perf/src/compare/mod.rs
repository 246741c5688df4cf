//! Brokers by turns: one runs at a time, on the same CPUs and the same disk, each round all of them, so that whatever
//! happens to the machine happens to all. Medians of the rounds, ratios to Kafka as it comes.

mod kafka;
mod process;
mod table;

use std::net::TcpListener;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use anyhow::{Context, Result, bail, ensure};
use clap::Args;
use serde::Serialize;

pub use kafka::Kafka;
pub use process::Process;

use crate::command::measure_line;
use crate::host::{self, Host, ProcessUse};
use crate::report::{self, Report};
use crate::units;
use crate::wire::control::{Connection, NewTopic};

/// What is measured of every system: name, command line, what it shows.
const WORKLOADS: &[(&str, &str, &str)] = &[
    (
        "throughput-1k",
        "produce --producers 4 -p 16 -s 1KiB",
        "1 KiB records, 16 partitions, as fast as it answers",
    ),
    (
        "throughput-100b",
        "produce --producers 4 -p 16 -s 100",
        "100-byte records, 16 partitions, as fast as it answers",
    ),
    ("latency-1k-5000", "produce --producers 4 -p 16 -s 1KiB -r 5000", "1 KiB records at 5,000 records/s"),
    (
        "end-to-end-1k-2000",
        "end-to-end --producers 4 --consumers 4 -p 16 -s 1KiB -r 2000",
        "1 KiB records at 2,000 records/s, read at the tail",
    ),
    (
        "consume-1k",
        "consume --consumers 4 -p 16 -s 1KiB --preload 256MiB",
        "1 KiB records read from the beginning",
    ),
    (
        "keyed-100b-1000p",
        "produce --producers 50 -p 1000 -s 100 --keys 100k --linger 5ms -r 5k",
        "50 producers, 1,000 partitions, 100-byte keyed records at 5,000 records/s, linger 5 ms",
    ),
];

/// Linux' default.
const READ_AHEAD_KIB: u64 = 128;

#[derive(Args, Clone, Debug)]
pub struct Compare {
    /// The corelane binary. Default: this one.
    #[arg(long, value_name = "FILE")]
    corelane: Option<PathBuf>,
    /// Apache Kafka's release, from Maven Central.
    #[arg(long, default_value = kafka::VERSION)]
    kafka_version: String,
    /// A broker of any kind that runs already; may be repeated. It is not started, stopped or emptied.
    #[arg(long, value_name = "HOST:PORT")]
    other: Vec<String>,
    /// Only these systems, of corelane-flushed, corelane-written, kafka and kafka-flushed.
    #[arg(long, value_delimiter = ',')]
    systems: Vec<String>,
    /// Only these workloads.
    #[arg(long, value_delimiter = ',')]
    workloads: Vec<String>,
    /// Rounds; the figures are their medians.
    #[arg(long, default_value_t = 5, value_parser = clap::value_parser!(u32).range(1..=1000))]
    rounds: u32,
    /// How often a run is made again that had more than 3 % CPU steal.
    #[arg(long, default_value_t = 1)]
    retries: u32,
    /// Measured in each run.
    #[arg(long, short, default_value = "8s", value_parser = units::duration)]
    duration: Duration,
    /// Before it, in each run.
    #[arg(long, default_value = "4s", value_parser = units::duration)]
    warm_up: Duration,
    /// Load before the first run of a broker that has just started, so that a JVM has compiled what it runs.
    #[arg(long, default_value = "10s", value_parser = units::duration)]
    heat: Duration,
    /// CPUs of the brokers, as for taskset. Default: all. The load generator takes CPUs from the last one downwards.
    #[arg(long, value_name = "LIST")]
    broker_cores: Option<String>,
    /// Where Kafka's jars and the brokers' data go: the disk that is measured.
    #[arg(long, default_value = "target/compare", value_name = "FOLDER")]
    work: PathBuf,
    /// Results: OUT.md, OUT.html and OUT.json. Default: in the work folder.
    #[arg(long, value_name = "FILE")]
    out: Option<PathBuf>,
    /// Options for every run, over its own.
    #[arg(value_name = "OPTION", allow_hyphen_values = true, last = true)]
    options: Vec<String>,
}

/// One of those that are compared.
#[derive(Clone, Debug)]
struct System {
    name: String,
    kind: Kind,
    /// Settings of the topics.
    topic_configs: &'static [&'static str],
}

#[derive(Clone, Debug, PartialEq)]
enum Kind {
    Corelane,
    Kafka,
    Other(String),
}

/// What one system showed in one round.
#[derive(Clone, Debug, Serialize)]
pub struct Turn {
    system: String,
    round: u32,
    /// Seconds from the start of the process to its first answer.
    start_up_seconds: Option<f64>,
    /// Before the first load.
    resident_bytes_idle: Option<u64>,
    reports: Vec<Report>,
}

/// The whole comparison.
#[derive(Clone, Debug, Serialize)]
pub struct Comparison {
    date: String,
    host: Host,
    tool: String,
    settings: Vec<(String, String)>,
    workloads: Vec<(String, String, String)>,
    systems: Vec<String>,
    turns: Vec<Turn>,
}

/// Runs the comparison and writes its results.
///
/// # Errors
/// What stopped it. The results up to there are written all the same.
pub fn compare(options: &Compare) -> Result<()> {
    let systems = systems(options)?;
    let workloads = workloads(options)?;
    std::fs::create_dir_all(&options.work).with_context(|| format!("making {}", options.work.display()))?;
    let work = options.work.canonicalize()?;
    let needs_kafka = systems.iter().any(|system| system.kind == Kind::Kafka);
    let kafka = needs_kafka.then(|| Kafka::install(&work, &options.kafka_version)).transpose()?;
    let corelane = match &options.corelane {
        Some(path) => path.clone(),
        None => std::env::current_exe().context("this program's own path")?,
    };
    let out = options.out.clone().unwrap_or_else(|| work.join("comparison"));
    let mut comparison = Comparison {
        date: humantime::format_rfc3339_seconds(std::time::SystemTime::now()).to_string(),
        host: Host::this(),
        tool: format!("corelane bench {}", env!("CARGO_PKG_VERSION")),
        settings: settings(options, &systems, kafka.as_ref(), &corelane, &work),
        workloads: workloads.iter().map(|of| (of.0.to_owned(), of.1.to_owned(), of.2.to_owned())).collect(),
        systems: systems.iter().map(|system| system.name.clone()).collect(),
        turns: Vec::new(),
    };
    announce(options, &systems, &workloads);
    for warning in host_warnings(kafka.as_ref(), &work) {
        eprintln!("WARNING: {warning}");
    }
    for round in 1..=options.rounds {
        // another one goes first in each round
        for system in systems.iter().cycle().skip(round as usize - 1).take(systems.len()) {
            eprintln!("round {round} of {}: {}", options.rounds, system.name);
            let turn = turn(options, system, &workloads, &work, kafka.as_ref(), &corelane, round)?;
            comparison.turns.push(turn);
            // each time: half an hour's figures outlive whatever stops the rest
            write(&comparison, &out)?;
        }
    }
    print!("{}", table::markdown(&comparison));
    eprintln!("written: {0}.md, {0}.html, {0}.json", out.display());
    Ok(())
}

/// What of this host would make the comparison unfair.
fn host_warnings(kafka: Option<&Kafka>, work: &Path) -> Vec<String> {
    let mut warnings = Vec::new();
    if cfg!(debug_assertions) {
        warnings.push("this is a debug build: its figures mean nothing".to_owned());
    }
    if let Some(kib) = host::read_ahead_kib(work).filter(|kib| kafka.is_some() && *kib > READ_AHEAD_KIB) {
        warnings.push(format!(
            "the disk's read-ahead is {kib} KiB: Kafka's mapped index files (10 MiB each, two for a partition) are \
             faulted in by pieces of that size, and with 1,000 partitions it does little else. Linux' default is \
             {READ_AHEAD_KIB}: read_ahead_kb in the disk's folder below /sys/block"
        ));
    }
    warnings
}

fn systems(options: &Compare) -> Result<Vec<System>> {
    let system = |name: &str, kind, topic_configs| System { name: name.to_owned(), kind, topic_configs };
    let mut known = vec![
        system("corelane-flushed", Kind::Corelane, &[] as &[_]),
        system("corelane-written", Kind::Corelane, &["corelane.durability=written"]),
        system("kafka", Kind::Kafka, &[]),
        system("kafka-flushed", Kind::Kafka, &["flush.messages=1"]),
    ];
    for name in &options.systems {
        ensure!(known.iter().any(|system| system.name == *name), "no system is called {name:?}");
    }
    if !options.systems.is_empty() {
        known.retain(|system| options.systems.contains(&system.name));
    } else if !options.other.is_empty() {
        // with brokers of one's own, Kafka need not be fetched
        known.retain(|system| system.kind == Kind::Corelane);
    }
    known.extend(options.other.iter().map(|address| system(address, Kind::Other(address.clone()), &[])));
    Ok(known)
}

fn workloads(options: &Compare) -> Result<Vec<(&'static str, &'static str, &'static str)>> {
    for name in &options.workloads {
        let names: Vec<&str> = WORKLOADS.iter().map(|workload| workload.0).collect();
        ensure!(
            names.contains(&name.as_str()),
            "no workload is called {name:?}; there are {}",
            names.join(", ")
        );
    }
    let is_wanted =
        |name: &str| options.workloads.is_empty() || options.workloads.iter().any(|wanted| wanted == name);
    Ok(WORKLOADS.iter().filter(|workload| is_wanted(workload.0)).copied().collect())
}

fn announce(options: &Compare, systems: &[System], workloads: &[(&str, &str, &str)]) {
    let of_run = options.duration + options.warm_up;
    let started = systems.iter().filter(|system| !matches!(system.kind, Kind::Other(_))).count() as u32;
    let rounds = of_run * (systems.len() * workloads.len()) as u32 + options.heat * started;
    eprintln!(
        "{} systems, {} workloads, {} rounds: {} and what starting and filling takes",
        systems.len(),
        workloads.len(),
        options.rounds,
        humantime::format_duration(Duration::from_secs((rounds * options.rounds).as_secs()))
    );
}

/// One system, from its start to its end.
fn turn(
    options: &Compare,
    system: &System,
    workloads: &[(&str, &str, &str)],
    work: &Path,
    kafka: Option<&Kafka>,
    corelane: &Path,
    round: u32,
) -> Result<Turn> {
    let data = work.join(format!("data-{}", system.name.replace(['/', ':'], "-")));
    let (process, address) = match &system.kind {
        Kind::Other(address) => (None, address.clone()),
        kind => {
            empty(&data)?;
            let (port, controller_port) = (free_port()?, free_port()?);
            let cpus = options.broker_cores.as_deref();
            let process = match kind {
                Kind::Corelane => start_corelane(corelane, port, &data, cpus)?,
                _ => kafka.context("Kafka is installed")?.start(port, controller_port, &data, cpus)?,
            };
            (Some(process), format!("127.0.0.1:{port}"))
        }
    };
    let resident = process.as_ref().and_then(|process| ProcessUse::of(process.pid()));
    until_topics_can_be_made(&address)?;
    let run = |line: &str, more: &[String]| {
        let mut words: Vec<String> = line.split_whitespace().map(str::to_owned).collect();
        words.extend(["--bootstrap".to_owned(), address.clone()]);
        for config in system.topic_configs {
            words.extend(["--topic-config".to_owned(), (*config).to_owned()]);
        }
        words.extend(more.iter().cloned());
        measure_line(&words)
    };
    if process.is_some() && !options.heat.is_zero() {
        let heat = [format!("{}ms", options.heat.as_millis())];
        let more = ["--quiet", "--warm-up", "0s", "--duration"].map(str::to_owned).into_iter().chain(heat);
        run("end-to-end --producers 4 --consumers 4 -p 16 -s 1KiB", &more.collect::<Vec<_>>())?;
    }
    let mut reports = Vec::new();
    for (name, line, _) in workloads {
        let mut more: Vec<String> = [
            "--quiet".to_owned(),
            "--label".to_owned(),
            system.name.clone(),
            "--duration".to_owned(),
            format!("{}ms", options.duration.as_millis()),
            "--warm-up".to_owned(),
            format!("{}ms", options.warm_up.as_millis()),
        ]
        .into();
        more.extend(options.options.iter().cloned());
        let mut report = None;
        for _ in 0..=options.retries {
            let made = run(line, &more).with_context(|| format!("{} with {name}", system.name))?;
            eprintln!("  {name}: {}", table::line(&made));
            if !made.errors.is_empty() {
                bail!("{} with {name}: the broker answered errors: {:?}", system.name, made.errors);
            }
            ensure!(!made.roles.is_empty(), "{} with {name}: nothing was answered", system.name);
            let best = report.take().filter(|best: &Report| best.steal_percent < made.steal_percent);
            if !report.insert(best.unwrap_or(made)).is_noisy {
                break;
            }
        }
        let mut report = report.context("at least one run was made")?;
        (*name).clone_into(&mut report.workload);
        if let Some(broker) = &mut report.broker {
            // results are shown to others: where things lie on this machine is nothing to them
            let (work, corelane) = (work.display().to_string(), corelane.display().to_string());
            broker.command = broker.command.replace(&work, "WORK").replace(&corelane, "corelane");
        }
        reports.push(report);
    }
    let start_up_seconds = process.as_ref().map(|process| process.start_up.as_secs_f64());
    if let Some(process) = process {
        process.stop()?;
        empty(&data)?;
    }
    Ok(Turn {
        system: system.name.clone(),
        round,
        start_up_seconds,
        resident_bytes_idle: resident.map(|used| used.resident_bytes),
        reports,
    })
}

fn start_corelane(binary: &Path, port: u16, data: &Path, cpus: Option<&str>) -> Result<Process> {
    let mut command = Command::new(binary);
    command.arg("start").arg("--set").arg(format!("listeners=PLAINTEXT://127.0.0.1:{port}"));
    command.arg("--set").arg(format!("log.dirs={}", data.display()));
    command.arg("--set").arg("admin.listener=");
    Process::start(&command, cpus, &format!("127.0.0.1:{port}"), &data.with_extension("log"))
}

/// A broker may answer before its controller has settled.
fn until_topics_can_be_made(address: &str) -> Result<()> {
    let mut left = 200;
    loop {
        let mut control = Connection::open(address)?;
        let topic =
            NewTopic { name: "bench-is-it-there", partitions: 1, replication_factor: -1, configs: &[] };
        match control.create_topic(&topic) {
            Ok(_) => {
                control.layout(&[topic.name.to_owned()])?;
                return control.delete_topics(&[topic.name.to_owned()]);
            }
            Err(error) if left == 0 => return Err(error),
            Err(_) => left -= 1,
        }
        std::thread::sleep(Duration::from_millis(100));
    }
}

fn free_port() -> Result<u16> {
    Ok(TcpListener::bind("127.0.0.1:0")?.local_addr()?.port())
}

fn empty(folder: &Path) -> Result<()> {
    match std::fs::remove_dir_all(folder) {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
            Err(error).with_context(|| format!("emptying {}", folder.display()))
        }
        _ => Ok(()),
    }
}

/// Everything that somebody needs to judge the comparison.
fn settings(
    options: &Compare,
    systems: &[System],
    kafka: Option<&Kafka>,
    corelane: &Path,
    work: &Path,
) -> Vec<(String, String)> {
    let mut settings = Vec::new();
    let mut set = |key: &str, value: String| settings.push((key.to_owned(), value));
    set("rounds", options.rounds.to_string());
    set("runs made again for CPU steal", format!("at most {} times", options.retries));
    set("measured", format!("{:?} after {:?} of warm-up", options.duration, options.warm_up));
    set("load before the first run", format!("{:?}, end-to-end, as fast as it goes", options.heat));
    set("CPUs of the brokers", options.broker_cores.clone().unwrap_or_else(|| "all".to_owned()));
    if let Some(kib) = host::read_ahead_kib(work) {
        set("the disk's read-ahead", format!("{kib} KiB"));
    }
    for warning in host_warnings(kafka, work) {
        set("WARNING", warning);
    }
    if !options.options.is_empty() {
        set("options of every run", options.options.join(" "));
    }
    for system in systems {
        let configs = system.topic_configs.join(" ");
        set(
            &format!("{}: topic settings", system.name),
            if configs.is_empty() { "as it comes".to_owned() } else { configs },
        );
    }
    let version = Command::new(corelane).arg("--version").output();
    let version =
        version.map_or(String::new(), |output| String::from_utf8_lossy(&output.stdout).trim().to_owned());
    set(
        "corelane",
        format!("{version}, settings as it comes but for listeners, log.dirs and no admin.listener"),
    );
    if let Some(kafka) = kafka {
        let java = Command::new("java").arg("-version").output();
        let java =
            java.map_or(String::new(), |output| String::from_utf8_lossy(&output.stderr).replace('\n', "; "));
        set("Apache Kafka", kafka.version().to_owned());
        set("Kafka's Java", java.trim_end_matches("; ").to_owned());
        set("Kafka's JVM options", Kafka::jvm());
        let properties = Kafka::properties(9092, 9093, Path::new("DATA"));
        set("Kafka's server.properties", properties.trim_end().replace('\n', "; "));
    }
    settings
}

fn write(comparison: &Comparison, out: &Path) -> Result<()> {
    if let Some(folder) = out.parent() {
        std::fs::create_dir_all(folder).with_context(|| format!("making {}", folder.display()))?;
    }
    let with = |extension: &str| PathBuf::from(format!("{}.{extension}", out.display()));
    let markdown = table::markdown(comparison);
    let save = |path: &Path, text: &str| {
        std::fs::write(path, text).with_context(|| format!("writing {}", path.display()))
    };
    save(&with("md"), &markdown)?;
    save(&with("json"), &(serde_json::to_string(comparison)? + "\n"))?;
    let medians: Vec<Report> = table::medians(comparison).into_iter().cloned().collect();
    report::write_page(&with("html"), &medians)
}

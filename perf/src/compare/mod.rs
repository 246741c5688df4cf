//! Brokers by turns: one runs at a time, on the same CPUs and the same disk, each round all of them, so that whatever
//! happens to the machine happens to all. Medians of the rounds, ratios to Kafka as it comes.

mod footprint;
mod kafka;
mod process;
mod system;
mod table;
mod targets;
mod workloads;

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
use footprint::Footprint;
use system::{Kind, Launcher, System, until_topics_can_be_made};
use workloads::Workload;

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
    /// Only these systems, of corelane-flushed, corelane-written, null, kafka and kafka-flushed.
    #[arg(long, value_delimiter = ',')]
    systems: Vec<String>,
    /// Only these workloads; footprint is memory, start and CPU of brokers that do nothing.
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
    /// Of Kafka in the first round only: it is slow.
    footprint: Option<Footprint>,
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
    /// What the disk's flush takes, as `corelane tune disk` tells it.
    flush_micros: Option<f64>,
    turns: Vec<Turn>,
    targets: Vec<targets::Row>,
}

/// What all turns share.
struct Session<'a> {
    options: &'a Compare,
    workloads: Vec<Workload>,
    with_footprint: bool,
    launcher: Launcher<'a>,
}

/// Runs the comparison and writes its results.
///
/// # Errors
/// What stopped it. The results up to there are written all the same.
pub fn compare(options: &Compare) -> Result<()> {
    let systems = System::chosen(&options.systems, &options.other)?;
    let (workloads, with_footprint) = workloads::chosen(&options.workloads)?;
    std::fs::create_dir_all(&options.work).with_context(|| format!("making {}", options.work.display()))?;
    let work = options.work.canonicalize()?;
    let needs_kafka = systems.iter().any(|system| system.kind == Kind::Kafka);
    let kafka = needs_kafka.then(|| Kafka::install(&work, &options.kafka_version)).transpose()?;
    let corelane = match &options.corelane {
        Some(path) => path.clone(),
        None => std::env::current_exe().context("this program's own path")?,
    };
    let out = options.out.clone().unwrap_or_else(|| work.join("comparison"));
    let launcher = Launcher {
        work: &work,
        corelane: &corelane,
        kafka: kafka.as_ref(),
        cpus: options.broker_cores.as_deref(),
    };
    let session = Session { options, workloads, with_footprint, launcher };
    for warning in host_warnings(kafka.as_ref(), &work) {
        eprintln!("WARNING: {warning}");
    }
    let mut comparison = Comparison {
        date: humantime::format_rfc3339_seconds(std::time::SystemTime::now()).to_string(),
        host: Host::this(),
        tool: format!("corelane bench {}", env!("CARGO_PKG_VERSION")),
        settings: settings(options, &systems, kafka.as_ref(), &corelane, &work),
        workloads: session.workloads.iter().map(Workload::described).collect(),
        systems: systems.iter().map(|system| system.name.clone()).collect(),
        flush_micros: session.flush_micros(),
        turns: Vec::new(),
        targets: Vec::new(),
    };
    session.announce(&systems);
    for round in 1..=options.rounds {
        // another one goes first in each round
        for system in systems.iter().cycle().skip(round as usize - 1).take(systems.len()) {
            if session.is_left_out(system) {
                continue;
            }
            eprintln!("round {round} of {}: {}", options.rounds, system.name);
            comparison.turns.push(session.turn(system, round)?);
            comparison.targets = targets::rows(&comparison);
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

impl Session<'_> {
    /// The system makes no run, and nothing else is measured of it.
    fn is_left_out(&self, system: &System) -> bool {
        let has_footprint = self.with_footprint && system.has_footprint();
        !has_footprint && !self.workloads.iter().any(|workload| system.makes(workload))
    }

    fn announce(&self, systems: &[System]) {
        let of_run = self.options.duration + self.options.warm_up;
        let runs = |system: &System| self.workloads.iter().filter(|of| system.makes(of)).count() as u32;
        let of_system = |system: &System| match system.kind {
            Kind::Other(_) | Kind::Null => of_run * runs(system),
            Kind::Corelane | Kind::Kafka => of_run * runs(system) + self.options.heat,
        };
        let round: Duration = systems.iter().map(of_system).sum();
        eprintln!(
            "{} systems, {} workloads, {} rounds: {} and what starting and filling takes",
            systems.len(),
            self.workloads.len() + usize::from(self.with_footprint),
            self.options.rounds,
            humantime::format_duration(Duration::from_secs((round * self.options.rounds).as_secs()))
        );
    }

    /// One system, from its start to its end.
    fn turn(&self, system: &System, round: u32) -> Result<Turn> {
        let mut turn = Turn {
            system: system.name.clone(),
            round,
            start_up_seconds: None,
            resident_bytes_idle: None,
            reports: Vec::new(),
            footprint: None,
        };
        // Kafka's is slow, and no target is held against it
        let is_due = round == 1 || system.kind == Kind::Corelane;
        if self.with_footprint && is_due && system.has_footprint() {
            let taken = Footprint::take(&self.launcher, system)
                .with_context(|| format!("{} with {}", system.name, workloads::FOOTPRINT))?;
            eprintln!("  {}: {}", workloads::FOOTPRINT, taken.line());
            turn.footprint = Some(taken);
        }
        if self.workloads.iter().any(|workload| system.makes(workload)) {
            self.runs(system, &mut turn)?;
        }
        Ok(turn)
    }

    /// All runs of a system, by one broker.
    fn runs(&self, system: &System, turn: &mut Turn) -> Result<()> {
        let options = self.options;
        let place = self.launcher.place(system)?;
        let process = self.launcher.start(system, &place)?;
        let address = match &system.kind {
            Kind::Other(address) => address.clone(),
            _ => place.address(),
        };
        if let Some(process) = process.as_ref().filter(|_| system.kind != Kind::Null) {
            turn.start_up_seconds = Some(process.start_up.as_secs_f64());
            turn.resident_bytes_idle = ProcessUse::of(process.pid()).map(|used| used.resident_bytes);
        }
        until_topics_can_be_made(&address)?;
        if matches!(system.kind, Kind::Corelane | Kind::Kafka) && !options.heat.is_zero() {
            let heat = [format!("{}ms", options.heat.as_millis())];
            let more =
                ["--quiet", "--warm-up", "0s", "--duration"].map(str::to_owned).into_iter().chain(heat);
            let line = "end-to-end --producers 4 --consumers 4 -p 16 -s 1KiB";
            run(system, &address, line, &more.collect::<Vec<_>>())?;
        }
        for workload in self.workloads.iter().filter(|workload| system.makes(workload)) {
            let mut report = self.quietest(system, &address, workload)?;
            workload.name.clone_into(&mut report.workload);
            if let Some(broker) = &mut report.broker {
                // results are shown to others: where things lie on this machine is nothing to them
                let work = self.launcher.work.display().to_string();
                let corelane = self.launcher.corelane.display().to_string();
                broker.command = broker.command.replace(&work, "WORK").replace(&corelane, "corelane");
            }
            turn.reports.push(report);
        }
        if let Some(process) = process {
            process.stop()?;
            place.empty()?;
        }
        Ok(())
    }

    /// The workload, again if CPU steal spoiled it.
    fn quietest(&self, system: &System, address: &str, workload: &Workload) -> Result<Report> {
        let (options, name) = (self.options, workload.name);
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
            let made = run(system, address, workload.line, &more)
                .with_context(|| format!("{} with {name}", system.name))?;
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
        report.context("at least one run was made")
    }

    /// What the disk's flush takes, if a target depends on it and the disk can be measured.
    fn flush_micros(&self) -> Option<f64> {
        if !self.workloads.iter().any(|workload| workload.name == targets::LATENCY) {
            return None;
        }
        let measured = flush_micros(self.launcher.corelane, self.launcher.work);
        if let Err(error) = &measured {
            eprintln!("WARNING: the disk's flush is not known, and what depends on it not told: {error:#}");
        }
        measured.ok()
    }
}

/// One run against a system.
fn run(system: &System, address: &str, line: &str, more: &[String]) -> Result<Report> {
    let mut words: Vec<String> = line.split_whitespace().map(str::to_owned).collect();
    words.extend(["--bootstrap".to_owned(), address.to_owned()]);
    for config in system.topic_configs {
        words.extend(["--topic-config".to_owned(), (*config).to_owned()]);
    }
    words.extend(more.iter().cloned());
    measure_line(&words)
}

/// Median of the flushes of the disk that holds this folder, each after a write of 16 KiB into blocks that were written
/// before.
fn flush_micros(corelane: &Path, folder: &Path) -> Result<f64> {
    let mut command = Command::new(corelane);
    command.args(["tune", "disk", "--json", "--size", "256MiB", "--seconds-per-step", "0.5", "--data"]);
    let output = command.arg(folder).output().with_context(|| format!("starting {}", corelane.display()))?;
    let said = String::from_utf8_lossy(&output.stderr);
    ensure!(output.status.success(), "corelane tune disk: {}", said.lines().last().unwrap_or_default());
    let report: serde_json::Value = serde_json::from_slice(&output.stdout)?;
    report["limits"]["commit"]["flush_p50_us"].as_f64().context("corelane tune disk tells no flush")
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
    for system in systems.iter().filter(|system| system.kind != Kind::Null) {
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
    report::write_page_with(&with("html"), &medians, targets::table(comparison).as_slice())
}

//! What a broker takes that does nothing: memory, CPU and the time to start, empty and with a thousand partitions. Of
//! brokers that are started for it.

use std::collections::BTreeSet;
use std::fs;
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use serde::Serialize;

use super::system::{Kind, Launcher, System, until_topics_can_be_made};
use crate::host::{CpuTime, ProcessUse};
use crate::report::STEAL_PERCENT_MAX;
use crate::units::{show_bytes, show_micros};
use crate::wire::control::{Connection, NewTopic};

const CONNECTIONS: usize = 100;
const PARTITIONS: i32 = 1_000;
/// How long an idle broker is watched.
const WATCHED: Duration = Duration::from_secs(5);
/// Of corelane: what it may hold of memory, of each shard and of all of them together.
const BUDGETS_OF_SHARD: &[&str] = &[
    "corelane.shard.request.bytes",
    "corelane.shard.journal.bytes",
    "corelane.shard.tail.cache.bytes",
    "corelane.shard.read.ahead.bytes",
    "corelane.shard.producer.state.bytes",
];
const BUDGET_OF_ALL: &str = "log.cleaner.dedupe.buffer.size";

/// What one broker showed.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Footprint {
    /// From the start of the process to its first answer, with an empty folder.
    pub start_seconds: f64,
    /// Empty; the larger one of before and after the idle connections.
    pub resident_bytes: u64,
    /// CPUs that the empty broker uses with 100 connections on which nothing is asked.
    pub idle_cores: f64,
    /// When 1,000 partitions had just been made.
    pub resident_bytes_partitions_made: u64,
    /// From the start to the first answer with them, after a clean stop.
    pub start_seconds_partitions: f64,
    /// After that start.
    pub resident_bytes_partitions: u64,
    /// Of corelane: the sum of the memory budgets that it is set to.
    pub budget_bytes: Option<u64>,
    /// Over all of it.
    pub steal_percent: f64,
    pub is_noisy: bool,
}

impl Footprint {
    /// Starts, stops and starts the system's broker.
    ///
    /// # Errors
    /// What stopped it.
    pub fn take(launcher: &Launcher<'_>, system: &System) -> Result<Footprint> {
        let begun = CpuTime::now();
        let place = launcher.place(system)?;
        let start =
            || launcher.start(system, &place)?.context("its footprint is taken of a broker that is started");
        let broker = start()?;
        let start_seconds = broker.start_up.as_secs_f64();
        let before = used(broker.pid())?.resident_bytes;
        let address = place.address();
        until_topics_can_be_made(&address)?;
        let idle_cores = idle_cores(broker.pid(), &address)?;
        let resident_bytes = before.max(used(broker.pid())?.resident_bytes);
        let budget_bytes = match system.kind {
            Kind::Corelane => Some(budget_bytes(broker.pid(), &address)?),
            _ => None,
        };
        let topic = NewTopic {
            name: "bench-partitions",
            partitions: PARTITIONS,
            replication_factor: -1,
            configs: &[],
        };
        let mut control = Connection::open(&address)?;
        control.create_topic(&topic)?;
        control.layout(&[topic.name.to_owned()])?;
        drop(control);
        let resident_bytes_partitions_made = used(broker.pid())?.resident_bytes;
        broker.stop()?;

        let broker = start()?;
        let start_seconds_partitions = broker.start_up.as_secs_f64();
        // the first answer may come before all partitions are there
        Connection::open(&address)?.layout(&[topic.name.to_owned()])?;
        let resident_bytes_partitions = used(broker.pid())?.resident_bytes;
        broker.stop()?;
        place.empty()?;
        let steal_percent = CpuTime::now().steal_percent_since(begun);
        Ok(Footprint {
            start_seconds,
            resident_bytes,
            idle_cores,
            resident_bytes_partitions_made,
            start_seconds_partitions,
            resident_bytes_partitions,
            budget_bytes,
            steal_percent,
            is_noisy: steal_percent > STEAL_PERCENT_MAX,
        })
    }

    /// In one line, for the progress.
    #[must_use]
    pub fn line(&self) -> String {
        format!(
            "start {}, {}, idle CPU {:.2} %; with {PARTITIONS} partitions start {}, {}; steal {:.1} %{}",
            show_micros(self.start_seconds * 1e6),
            show_bytes(self.resident_bytes as f64),
            self.idle_cores * 100.0,
            show_micros(self.start_seconds_partitions * 1e6),
            show_bytes(self.resident_bytes_partitions as f64),
            self.steal_percent,
            if self.is_noisy { " (noisy)" } else { "" }
        )
    }
}

fn used(pid: u32) -> Result<ProcessUse> {
    ProcessUse::of(pid).context("the broker's process is gone")
}

/// CPUs that the broker uses with connections on which nothing is asked.
fn idle_cores(pid: u32, address: &str) -> Result<f64> {
    // each has had an answer, so the broker has taken it in
    let _connections: Vec<Connection> =
        (0..CONNECTIONS).map(|_| Connection::open(address)).collect::<Result<_>>()?;
    let (before, begun) = (used(pid)?.cpu, Instant::now());
    thread::sleep(WATCHED);
    let after = used(pid)?.cpu;
    Ok(after.seconds_since(before) / begun.elapsed().as_secs_f64())
}

/// What a corelane broker may hold in memory by its settings.
fn budget_bytes(pid: u32, address: &str) -> Result<u64> {
    let names: Vec<&str> = BUDGETS_OF_SHARD.iter().copied().chain([BUDGET_OF_ALL]).collect();
    let configs = Connection::open(address)?.broker_configs(&names)?;
    let bytes = |name: &str| -> Result<u64> {
        let value = configs.get(name).with_context(|| format!("the broker does not tell {name}"))?;
        value.parse().with_context(|| format!("{name}={value} is no number"))
    };
    let of_shard = BUDGETS_OF_SHARD.iter().map(|name| bytes(name)).sum::<Result<u64>>()?;
    Ok(of_shard * shards(pid)? + bytes(BUDGET_OF_ALL)?)
}

/// By the names of the broker's threads.
fn shards(pid: u32) -> Result<u64> {
    let threads =
        fs::read_dir(format!("/proc/{pid}/task")).context("the broker's process is gone")?.flatten();
    let names = threads.filter_map(|thread| fs::read_to_string(thread.path().join("comm")).ok());
    let is_shard = |name: &String| {
        let number = name.trim().strip_prefix("shard-");
        number.is_some_and(|number| number.parse::<u16>().is_ok())
    };
    let shards: BTreeSet<String> = names.filter(is_shard).collect();
    anyhow::ensure!(
        !shards.is_empty(),
        "the broker has no thread called shard-0: its shards cannot be counted"
    );
    Ok(shards.len() as u64)
}

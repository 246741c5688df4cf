//! The machine and the broker's process, watched while a run lasts.

use std::collections::{BTreeMap, BTreeSet};

use crate::host::{self, CpuTime, CpuUse, ProcessUse};
use crate::options::Target;
use crate::report::{BrokerSecond, BrokerUse, RoleReport};
use crate::scrape;

/// Where corelane has its metrics.
const METRICS_PORT: u16 = 9644;

pub struct Watch {
    pid: Option<u32>,
    /// Where the broker's metrics are.
    metrics: Option<String>,
    begun: Sample,
    ended: Option<Sample>,
    last: Option<(u64, ProcessUse)>,
    resident_bytes_max: u64,
    series: Vec<BrokerSecond>,
}

/// What the measured time has cost.
pub struct Used {
    pub broker: Option<BrokerUse>,
    pub own_cpu_seconds: f64,
    pub steal_percent: f64,
    pub metrics: BTreeMap<String, f64>,
}

/// One moment.
struct Sample {
    cpu: CpuTime,
    broker: Option<ProcessUse>,
    own_cpu: CpuUse,
    metrics: BTreeMap<String, f64>,
}

/// The broker's process, if it is on this machine.
#[must_use]
pub fn broker_pid(target: &Target) -> Option<u32> {
    target.pid.or_else(|| host::listener(&target.bootstrap))
}

/// How many brokers there are at these addresses. A process on this machine is one, wherever it listens: the shards of a
/// broker may have ports of their own.
#[must_use]
pub fn brokers<'a>(addresses: impl IntoIterator<Item = &'a String>) -> usize {
    let addresses: BTreeSet<&String> = addresses.into_iter().collect();
    if addresses.len() < 2 {
        return addresses.len();
    }
    let known = addresses.into_iter().map(|address| host::listener(address).ok_or(address));
    known.collect::<BTreeSet<_>>().len()
}

impl Watch {
    /// Finds out what can be watched. The run begins now.
    #[must_use]
    pub fn new(target: &Target) -> Watch {
        let pid = broker_pid(target);
        let host = target.bootstrap.rsplit_once(':').map_or("localhost", |(host, _)| host);
        let usual = format!("{host}:{METRICS_PORT}");
        // another broker on this machine may be the one that has its metrics there
        let is_brokers = pid.is_some() && host::listener(&usual) == pid;
        let metrics = target.metrics.clone().or_else(|| is_brokers.then_some(usual));
        let begun = Sample::now(pid, metrics.as_deref());
        let last = begun.broker.map(|used| (0, used));
        Watch { pid, metrics, begun, ended: None, last, resident_bytes_max: 0, series: Vec::new() }
    }

    /// The warm-up is over.
    pub fn begin(&mut self) {
        self.begun = Sample::now(self.pid, self.metrics.as_deref());
    }

    /// The measured time is over.
    pub fn end(&mut self) {
        self.ended = Some(Sample::now(self.pid, self.metrics.as_deref()));
    }

    /// A second of the run is over.
    pub fn second(&mut self, now: u64) {
        let Some(used) = self.pid.and_then(ProcessUse::of) else { return };
        self.resident_bytes_max = self.resident_bytes_max.max(used.resident_bytes);
        let Some((before, last)) = self.last.replace((now, used)) else { return };
        let seconds = now.saturating_sub(before) as f64 / 1e9;
        if seconds > 0.5 {
            self.series.push(BrokerSecond {
                second: (before as f64 / 1e9).round() as i64,
                cores: used.cpu.seconds_since(last.cpu) / seconds,
                resident_bytes: used.resident_bytes,
                written_bytes: used.written_bytes.saturating_sub(last.written_bytes),
            });
        }
    }

    /// For the progress line.
    #[must_use]
    pub fn progress(&self) -> String {
        let Some(last) = self.series.last() else { return String::new() };
        let resident = crate::units::show_bytes(last.resident_bytes as f64);
        format!(" | broker {:.2} cores {resident}", last.cores)
    }

    /// `main_role`: whose records and bytes the costs are counted for.
    #[must_use]
    pub fn finish(mut self, main_role: Option<&RoleReport>, seconds: f64, warm_up_seconds: u64) -> Used {
        let begun = self.begun;
        let ended = self.ended.unwrap_or_else(|| Sample::now(self.pid, self.metrics.as_deref()));
        let records = main_role.map_or(0.0, |role| role.records_per_second * seconds).max(1.0);
        let bytes = main_role.map_or(0.0, |role| role.payload_bytes_per_second * seconds).max(1.0);
        let own_cpu_seconds = ended.own_cpu.seconds_since(begun.own_cpu);
        let machine_cpu_seconds = (ended.cpu.busy_seconds_since(begun.cpu) - own_cpu_seconds).max(0.0);
        let broker = self.pid.zip(begun.broker.zip(ended.broker)).map(|(pid, (before, after))| {
            let cpu_seconds = after.cpu.seconds_since(before.cpu);
            let switches = after.context_switches.saturating_sub(before.context_switches);
            for second in &mut self.series {
                second.second -= warm_up_seconds as i64;
            }
            BrokerUse {
                pid,
                command: host::command(pid).unwrap_or_default(),
                cpu_seconds,
                cores: cpu_seconds / seconds,
                cpu_micros_per_record: cpu_seconds * 1e6 / records,
                cpu_seconds_per_gigabyte: cpu_seconds * 1e9 / bytes,
                resident_bytes: after.resident_bytes,
                resident_bytes_max: self.resident_bytes_max.max(after.resident_bytes),
                written_bytes: after.written_bytes.saturating_sub(before.written_bytes),
                read_bytes: after.read_bytes.saturating_sub(before.read_bytes),
                context_switches_per_record: switches as f64 / records,
                machine_cpu_seconds: Some(machine_cpu_seconds),
                series: self.series,
            }
        });
        Used {
            broker,
            own_cpu_seconds,
            steal_percent: ended.cpu.steal_percent_since(begun.cpu),
            metrics: scrape::growth(&begun.metrics, &ended.metrics),
        }
    }
}

impl Sample {
    fn now(pid: Option<u32>, metrics: Option<&str>) -> Sample {
        Sample {
            cpu: CpuTime::now(),
            broker: pid.and_then(ProcessUse::of),
            own_cpu: ProcessUse::of(std::process::id()).unwrap_or_default().cpu,
            metrics: metrics.and_then(|address| scrape::scrape(address).ok()).unwrap_or_default(),
        }
    }
}

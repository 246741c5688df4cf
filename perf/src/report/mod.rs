//! What a run says at its end: one struct, written as JSON, shown on the terminal and drawn as an HTML page.

mod html;
mod text;

use std::collections::BTreeMap;
use std::path::Path;

use anyhow::{Context, Result, ensure};
use hdrhistogram::Histogram;
use serde::{Deserialize, Serialize};

pub use html::{Table, write_page, write_page_with};
pub use text::summary;

use crate::host::Host;
use crate::measure::{self, Role};

/// Of the file. A reader refuses a later one.
pub const FORMAT: u32 = 1;
/// Above this share of stolen CPU time a run says little.
pub const STEAL_PERCENT_MAX: f64 = 3.0;

/// One run.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Report {
    pub format: u32,
    pub label: String,
    pub kind: String,
    /// Runs of one workload are compared with each other.
    pub workload: String,
    /// UTC, ISO 8601.
    pub date: String,
    pub tool: String,
    pub host: Host,
    /// How the run was made, as option and value.
    pub settings: BTreeMap<String, String>,
    /// Seconds that the figures are of.
    pub measured_seconds: f64,
    pub warm_up_seconds: f64,
    pub steal_percent: f64,
    /// Too much of the CPU was stolen for the figures to mean anything.
    pub is_noisy: bool,
    pub roles: Vec<RoleReport>,
    pub broker: Option<BrokerUse>,
    pub generator: GeneratorUse,
    /// Growth of the broker's own metrics during the measured time.
    pub metrics: BTreeMap<String, f64>,
    /// The runs of a search for the highest rate that came before this one.
    pub search: Vec<Trial>,
    /// Of a run of consumer groups.
    #[serde(default)]
    pub groups: Option<GroupsReport>,
    /// Of a run of transactions.
    #[serde(default)]
    pub transactions: Option<TransactionsReport>,
    /// Errors the broker answered, by name: records, or requests of group members.
    pub errors: BTreeMap<String, u64>,
    /// What the reader must know before believing the figures.
    pub warnings: Vec<String>,
}

/// What consumer groups cost a broker. Of the broker: nothing where it is not on this machine.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct GroupsReport {
    pub groups: u32,
    /// Of each group.
    pub members: u32,
    pub protocol: String,
    /// From the first member's joining until all members of all groups had their partitions.
    pub stable_seconds: f64,
    /// What the broker used in that time.
    pub stable_cpu_seconds: Option<f64>,
    /// What the broker uses with all connections open and nobody in a group.
    pub idle_cores: Option<f64>,
    /// What it uses beyond that in the measured time, microseconds for each heartbeat.
    pub cpu_micros_per_heartbeat: Option<f64>,
    /// By how much its resident memory grew with the connections, for each of them.
    pub bytes_per_connection: Option<f64>,
    /// By how much it grew from then until all groups were stable, for each member.
    pub bytes_per_member: Option<f64>,
    pub rebalances: Vec<Rebalance>,
}

/// What transactions cost. Of the broker: nothing where it is not on this machine.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct TransactionsReport {
    pub producers: u32,
    pub protocol: String,
    /// Of each transaction.
    pub partitions: u32,
    /// What the broker used in the measured time, microseconds for each transaction.
    pub cpu_micros_per_transaction: Option<f64>,
    /// The same for each partition of each.
    pub cpu_micros_per_partition: Option<f64>,
    /// How long a producer waited to send again what was refused, microseconds for each transaction.
    pub waited_micros_per_transaction: f64,
    /// Requests that were refused and sent again in the measured time, by name and error.
    pub retries: BTreeMap<String, u64>,
}

/// One rebalance.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Rebalance {
    /// What the last member of the group did: `joins` or `leaves`.
    pub trigger: String,
    /// From then until all members were in one new generation (epoch) with all partitions among them.
    pub seconds: f64,
    /// What the broker used in that time, heartbeats included.
    pub cpu_seconds: Option<f64>,
    /// Requests of all members in that time.
    pub requests: u64,
    pub steal_percent: f64,
}

/// One run of a search.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Trial {
    /// Records per second asked for.
    pub rate: f64,
    pub reached: f64,
    /// Microseconds.
    pub p99: f64,
    pub is_within: bool,
}

/// What one kind of client did.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct RoleReport {
    pub role: Role,
    /// With those that were under way at the end; rates and costs leave them out.
    pub records: u64,
    /// Producers: keys, values and headers. Consumers: values where records were looked at, batches otherwise.
    pub payload_bytes: u64,
    /// Batches as they were sent.
    pub wire_bytes: u64,
    pub requests: u64,
    pub records_per_second: f64,
    pub payload_bytes_per_second: f64,
    /// Records a second that were asked for.
    pub asked_rate: Option<f64>,
    pub latency_of: String,
    pub latency: Latency,
    pub series: Vec<Second>,
}

/// Microseconds.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Latency {
    pub count: u64,
    pub mean: f64,
    pub min: f64,
    pub p50: f64,
    pub p90: f64,
    pub p99: f64,
    pub p999: f64,
    pub p9999: f64,
    pub max: f64,
    /// Quantile and microseconds, closer together towards 1.
    pub curve: Vec<(f64, f64)>,
}

/// One second of a role, warm-up included (negative).
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Second {
    pub second: i64,
    pub records: u64,
    pub payload_bytes: u64,
    /// Microseconds; 0 if nothing was measured in that second.
    pub p50: f64,
    pub p99: f64,
    pub max: f64,
}

/// What the broker's process used in the measured time.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct BrokerUse {
    pub pid: u32,
    pub command: String,
    pub cpu_seconds: f64,
    pub cores: f64,
    /// Microseconds of CPU per record produced or, where none is produced, consumed.
    pub cpu_micros_per_record: f64,
    /// Seconds of CPU per 10^9 payload bytes of those records.
    pub cpu_seconds_per_gigabyte: f64,
    /// At the end.
    pub resident_bytes: u64,
    pub resident_bytes_max: u64,
    pub written_bytes: u64,
    pub read_bytes: u64,
    pub context_switches_per_record: f64,
    /// CPU time of the whole machine less the load generator's: the broker's, that of the kernel's own threads (flushes,
    /// completions of direct I/O), which no process is charged with, and that of whatever else ran.
    #[serde(default)]
    pub machine_cpu_seconds: Option<f64>,
    pub series: Vec<BrokerSecond>,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct BrokerSecond {
    pub second: i64,
    pub cores: f64,
    pub resident_bytes: u64,
    pub written_bytes: u64,
}

/// What the load generator itself used.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct GeneratorUse {
    pub threads: usize,
    pub cpu_seconds: f64,
    pub cores: f64,
    /// How late it took records that were due at a fixed rate; microseconds. Part of the latencies above.
    pub lateness_p50: f64,
    pub lateness_p99: f64,
    pub lateness_max: f64,
    /// Records that were due and never sent, because producers were full.
    pub not_sent: u64,
}

impl Latency {
    #[must_use]
    pub fn of(nanos: &Histogram<u64>) -> Latency {
        let at = |quantile: f64| nanos.value_at_quantile(quantile) as f64 / 1e3;
        let mut curve = Vec::new();
        if !nanos.is_empty() {
            curve.push((0.0, nanos.min() as f64 / 1e3));
            // five points for every halving of what is left above
            curve.extend(nanos.iter_quantiles(5).map(|step| {
                (step.quantile_iterated_to(), step.value_iterated_to().min(nanos.max()) as f64 / 1e3)
            }));
        }
        Latency {
            count: nanos.len(),
            mean: nanos.mean() / 1e3,
            min: if nanos.is_empty() { 0.0 } else { nanos.min() as f64 / 1e3 },
            p50: at(0.5),
            p90: at(0.9),
            p99: at(0.99),
            p999: at(0.999),
            p9999: at(0.9999),
            max: nanos.max() as f64 / 1e3,
            curve,
        }
    }
}

impl Second {
    #[must_use]
    pub fn of(second: u64, of_second: &measure::Second, warm_up_seconds: u64) -> Second {
        let micros = |nanos: u64| nanos as f64 / 1e3;
        Second {
            second: second as i64 - warm_up_seconds as i64,
            records: of_second.records,
            payload_bytes: of_second.payload_bytes,
            p50: micros(of_second.p50),
            p99: micros(of_second.p99),
            max: micros(of_second.max),
        }
    }
}

impl Report {
    /// The figures of one role.
    #[must_use]
    pub fn role(&self, role: Role) -> Option<&RoleReport> {
        self.roles.iter().find(|report| report.role == role)
    }

    /// # Errors
    /// The file system's.
    pub fn write_json(&self, path: &Path) -> Result<()> {
        let json = serde_json::to_string_pretty(self)?;
        std::fs::write(path, json + "\n").with_context(|| format!("writing {}", path.display()))
    }

    /// # Errors
    /// No file, or one that is not a report.
    pub fn read_json(path: &Path) -> Result<Report> {
        let json = std::fs::read(path).with_context(|| format!("reading {}", path.display()))?;
        let report: Report =
            serde_json::from_slice(&json).with_context(|| format!("{} is not a report", path.display()))?;
        let format = report.format;
        ensure!(format <= FORMAT, "{} has format {format}; this tool reads up to {FORMAT}", path.display());
        Ok(report)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_latency_has_its_percentiles_and_a_rising_curve() {
        let mut nanos = crate::measure::histogram();
        for micros in 1..=10_000 {
            nanos.record(micros * 1000).expect("within bounds");
        }
        let latency = Latency::of(&nanos);
        let near = |found: f64, expect: f64| {
            assert!((found / expect - 1.0).abs() < 0.002, "{found} is not {expect}")
        };
        near(latency.p50, 5000.0);
        near(latency.p99, 9900.0);
        near(latency.p9999, 9999.0);
        near(latency.max, 10_000.0);
        assert!(latency.curve.is_sorted_by(|a, b| a.0 <= b.0 && a.1 <= b.1));
        assert_eq!(latency.curve.last().map(|(quantile, _)| *quantile), Some(1.0));
    }
}

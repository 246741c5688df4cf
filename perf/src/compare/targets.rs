//! What corelane is to reach, beside what the rounds have shown: each target with the figures it speaks of, their ratios,
//! and whether it is met. [`rows`] collects, [`Target::judge`] decides.

use std::fmt::Write;

use serde::Serialize;

use super::footprint::Footprint;
use super::table::{median, ratio, runs};
use super::{Comparison, Turn};
use crate::measure::Role;
use crate::report::{Latency, Report, Table};
use crate::units::{show_count, show_micros};

/// The run whose latency is held against a target, where the disk's flush is fast.
pub const LATENCY: &str = "latency-1k-5000";
/// The same producers without consumers and with them.
const TAIL_UNREAD: &str = "tail-1k-2000-unread";
const TAIL: &str = "tail-1k-2000";
/// The disk on which latencies are held against Kafka's, which waits for no flush: one whose own takes less.
const FLUSH_MICROS_MAX: f64 = 200.0;

const MIB: f64 = 1024.0 * 1024.0;

/// Who is judged, and the others that have a column.
const SYSTEMS: [&str; 4] = [OWN, NULL, KAFKA, KAFKA_FLUSHED];
const OWN: &str = "corelane-flushed";
const NULL: &str = "null";
const KAFKA: &str = "kafka";
const KAFKA_FLUSHED: &str = "kafka-flushed";

/// One line of the table.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Row {
    what: String,
    target: String,
    /// Of each of the table's systems.
    figures: Vec<(&'static str, Figure)>,
    /// To what, and how much of it.
    ratios: Vec<(String, f64)>,
    verdict: Verdict,
}

/// What a system showed: the median of its rounds.
#[derive(Clone, Debug, PartialEq, Serialize)]
#[serde(rename_all = "kebab-case")]
enum Figure {
    Quiet {
        value: f64,
        shown: String,
    },
    /// CPU steal was above 3 % in every round: it is held against nothing.
    Noisy {
        value: f64,
        shown: String,
    },
    /// The system or the workload was left out, or does not exist.
    Absent,
}

#[derive(Clone, Debug, PartialEq, Serialize)]
#[serde(rename_all = "kebab-case")]
enum Verdict {
    Met,
    /// By how much each limit is missed, and of the other limits what cannot be told.
    Missed(Vec<String>),
    /// Why not.
    Untold(Vec<String>),
}

/// A median before it is shown.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Sample {
    Quiet(f64),
    Noisy(f64),
    Absent,
}

/// What a target says of one ratio.
#[derive(Clone, Copy, Debug)]
struct Limit {
    sense: Sense,
    factor: f64,
    to: Reference,
}

#[derive(Clone, Copy, Debug, PartialEq)]
enum Sense {
    AtMost,
    Below,
    AtLeast,
}

#[derive(Clone, Copy, Debug)]
enum Reference {
    System(&'static str),
    /// The same for everybody; `None`: it is not known.
    Fixed(&'static str, Option<f64>),
}

/// A target and what there is to judge it by.
struct Target {
    what: &'static str,
    says: String,
    /// In the order of [`SYSTEMS`].
    samples: [Sample; 4],
    limits: Vec<Limit>,
    /// Why it does not apply.
    unless: Option<String>,
    show: fn(f64) -> String,
}

impl Target {
    fn judge(&self) -> Row {
        let (mut ratios, mut missed, mut untold) = (Vec::new(), Vec::new(), Vec::new());
        for limit in &self.limits {
            let name = limit.to.name();
            match self.ratio_to(limit.to) {
                Err(why) => untold.push(why),
                Ok(ratio) => {
                    ratios.push((name.to_owned(), ratio));
                    if let Some(share) = limit.shortfall(ratio) {
                        missed.push(format!("by {} ({name})", percent(share)));
                    }
                }
            }
        }
        untold.sort_unstable();
        untold.dedup();
        let verdict = match &self.unless {
            Some(why) => Verdict::Untold(vec![why.clone()]),
            None if !missed.is_empty() => Verdict::Missed([missed, untold].concat()),
            None if !untold.is_empty() => Verdict::Untold(untold),
            None => Verdict::Met,
        };
        let figure = |sample: &Sample| match *sample {
            Sample::Quiet(value) => Figure::Quiet { value, shown: (self.show)(value) },
            Sample::Noisy(value) => Figure::Noisy { value, shown: (self.show)(value) },
            Sample::Absent => Figure::Absent,
        };
        Row {
            what: self.what.to_owned(),
            target: self.says.clone(),
            figures: SYSTEMS.into_iter().zip(self.samples.iter().map(figure)).collect(),
            ratios,
            verdict,
        }
    }

    /// Of the judged system's figure to this; the error says what it lacks.
    fn ratio_to(&self, reference: Reference) -> Result<f64, String> {
        let own = self.quiet(OWN)?;
        let of = match reference {
            Reference::System(name) => self.quiet(name)?,
            Reference::Fixed(name, value) => value.ok_or_else(|| format!("{name} is not known"))?,
        };
        if of > 0.0 { Ok(own / of) } else { Err(format!("{} has no figure above 0", reference.name())) }
    }

    fn quiet(&self, system: &str) -> Result<f64, String> {
        let place = SYSTEMS.iter().position(|name| *name == system);
        match place.map_or(Sample::Absent, |place| self.samples[place]) {
            Sample::Quiet(value) => Ok(value),
            Sample::Noisy(_) => Err(format!("{system} is noisy")),
            Sample::Absent => Err(format!("{system} has no figure")),
        }
    }
}

impl Limit {
    /// What is missing, as a share of the limit; `None` if it is kept.
    fn shortfall(self, ratio: f64) -> Option<f64> {
        let of_limit = ratio / self.factor;
        match self.sense {
            Sense::AtMost => (of_limit > 1.0).then_some(of_limit - 1.0),
            Sense::Below => (of_limit >= 1.0).then_some(of_limit - 1.0),
            Sense::AtLeast => (of_limit < 1.0).then_some(1.0 - of_limit),
        }
    }
}

impl Reference {
    fn name(self) -> &'static str {
        match self {
            Reference::System(name) | Reference::Fixed(name, _) => name,
        }
    }
}

fn percent(share: f64) -> String {
    let percent = share * 100.0;
    if percent < 10.0 { format!("{percent:.1} %") } else { format!("{percent:.0} %") }
}

const fn at_most(factor: f64, system: &'static str) -> Limit {
    Limit { sense: Sense::AtMost, factor, to: Reference::System(system) }
}

const fn at_least(factor: f64, system: &'static str) -> Limit {
    Limit { sense: Sense::AtLeast, factor, to: Reference::System(system) }
}

/// Of one that is the same for everybody.
fn within(name: &'static str, limit: impl Into<Option<f64>>) -> Vec<Limit> {
    vec![Limit { sense: Sense::AtMost, factor: 1.0, to: Reference::Fixed(name, limit.into()) }]
}

/// The median of the values that are not noisy; where there are none, that of all.
fn sample(values: &[(f64, bool)]) -> Sample {
    let quiet: Vec<f64> = values.iter().filter(|(_, is_noisy)| !is_noisy).map(|(value, _)| *value).collect();
    match (median(quiet), median(values.iter().map(|(value, _)| *value).collect())) {
        (Some(value), _) => Sample::Quiet(value),
        (None, Some(value)) => Sample::Noisy(value),
        (None, None) => Sample::Absent,
    }
}

/// Of each of [`SYSTEMS`], what its runs of a workload show.
fn of_runs(comparison: &Comparison, workload: &str, of: impl Fn(&Report) -> Option<f64>) -> [Sample; 4] {
    SYSTEMS.map(|system| {
        let runs = runs(comparison, system, workload);
        sample(&runs.into_iter().filter_map(|run| Some((of(run)?, run.is_noisy))).collect::<Vec<_>>())
    })
}

/// The turns of a system.
fn turns<'a>(comparison: &'a Comparison, system: &'a str) -> impl Iterator<Item = &'a Turn> {
    comparison.turns.iter().filter(move |turn| turn.system == system)
}

/// The same of brokers that did nothing; without steal where `is_time` is false, as memory knows none.
fn of_footprints(comparison: &Comparison, is_time: bool, of: impl Fn(&Footprint) -> f64) -> [Sample; 4] {
    SYSTEMS.map(|system| {
        let taken = turns(comparison, system).filter_map(|turn| turn.footprint.as_ref());
        sample(&taken.map(|taken| (of(taken), is_time && taken.is_noisy)).collect::<Vec<_>>())
    })
}

fn cpu_micros(run: &Report) -> Option<f64> {
    Some(run.broker.as_ref()?.cpu_micros_per_record)
}

/// What reading at the tail costs a broker, microseconds of CPU for each record received: what it uses a second with
/// consumers, less that of the same producers without them in the same round.
fn tail_cpu_micros(comparison: &Comparison) -> [Sample; 4] {
    SYSTEMS.map(|system| {
        let of_turn = |turn: &Turn| {
            let run = |name: &str| turn.reports.iter().find(|report| report.workload == name);
            let (read, unread) = (run(TAIL)?, run(TAIL_UNREAD)?);
            let received = read.role(Role::EndToEnd)?.records_per_second;
            let cores = read.broker.as_ref()?.cores - unread.broker.as_ref()?.cores;
            (received > 0.0).then(|| (cores * 1e6 / received, read.is_noisy || unread.is_noisy))
        };
        match sample(&turns(comparison, system).filter_map(of_turn).collect::<Vec<_>>()) {
            // it is lost in what the runs differ by
            Sample::Quiet(value) | Sample::Noisy(value) if value <= 0.0 => Sample::Absent,
            sample => sample,
        }
    })
}

fn records_per_second(run: &Report) -> Option<f64> {
    Some(run.role(Role::Produce)?.records_per_second)
}

/// Every target of which anything was measured.
pub fn rows(comparison: &Comparison) -> Vec<Row> {
    let mut targets = cpu(comparison);
    targets.extend(latency(comparison));
    targets.push(Target {
        what: "records/s, 100 connections, 1,000 partitions, keyed 100-byte records, acks=all",
        says: "at least 3 times kafka-flushed, not below kafka".to_owned(),
        samples: of_runs(comparison, "keyed-100b-1000p-full", records_per_second),
        limits: vec![at_least(3.0, KAFKA_FLUSHED), at_least(1.0, KAFKA)],
        unless: None,
        show: show_count,
    });
    targets.extend(footprint(comparison));
    let is_measured = |target: &Target| target.samples.iter().any(|sample| *sample != Sample::Absent);
    targets.iter().filter(|target| is_measured(target)).map(Target::judge).collect()
}

fn cpu(comparison: &Comparison) -> Vec<Target> {
    let of_null_and_kafka = |what, workload, times: f64| Target {
        what,
        says: format!("at most {times} times null, at most 1/4 of kafka"),
        samples: of_runs(comparison, workload, cpu_micros),
        limits: vec![at_most(times, NULL), at_most(0.25, KAFKA)],
        unless: None,
        show: show_micros,
    };
    vec![
        of_null_and_kafka(
            "broker CPU a 1 KiB record produced, 16 partitions, acks=all",
            "throughput-1k",
            2.0,
        ),
        of_null_and_kafka(
            "broker CPU a 100-byte record produced, batches of 16 KiB, 16 partitions, acks=all",
            "throughput-100b",
            3.0,
        ),
        Target {
            what: "broker CPU a 1 KiB record consumed at the tail",
            says: "at most 1/3 of kafka".to_owned(),
            samples: tail_cpu_micros(comparison),
            limits: vec![at_most(1.0 / 3.0, KAFKA)],
            unless: None,
            show: show_micros,
        },
    ]
}

fn latency(comparison: &Comparison) -> [Target; 2] {
    let of = |what, says: &str, quantile: fn(&Latency) -> f64, limit| {
        let samples = of_runs(comparison, LATENCY, |run| Some(quantile(&run.role(Role::Produce)?.latency)));
        Target {
            what,
            says: format!("{says}, where the disk's flush takes less than {}", show_micros(FLUSH_MICROS_MAX)),
            unless: slow_flush(comparison.flush_micros, samples[0]),
            samples,
            limits: vec![limit],
            show: show_micros,
        }
    };
    let below_kafka = Limit { sense: Sense::Below, factor: 1.0, to: Reference::System(KAFKA) };
    [
        of("p99 of produce at 5,000 records/s of 1 KiB, acks=all", "below kafka", |of| of.p99, below_kafka),
        of("its p99.9", "at most 1/3 of kafka", |of| of.p999, at_most(1.0 / 3.0, KAFKA)),
    ]
}

/// Why a latency (microseconds) is not held against Kafka's on this disk, and what is told instead.
fn slow_flush(flush_micros: Option<f64>, own: Sample) -> Option<String> {
    let Some(flush) = flush_micros else { return Some("the disk's flush is not known".to_owned()) };
    if flush < FLUSH_MICROS_MAX {
        return None;
    }
    let mut why = format!("the disk's flush takes {}", show_micros(flush));
    match own {
        Sample::Quiet(value) => {
            let excess = show_micros((value - flush).max(0.0));
            let _ = write!(why, "; {excess} above one flush");
        }
        Sample::Noisy(_) => why += "; noisy",
        Sample::Absent => {}
    }
    Some(why)
}

fn footprint(comparison: &Comparison) -> Vec<Target> {
    let budgets =
        turns(comparison, OWN).filter_map(|turn| Some(turn.footprint.as_ref()?.budget_bytes? as f64));
    let budget = median(budgets.collect());
    let used = |run: &Report| Some((run.broker.as_ref()?.resident_bytes_max) as f64);
    let memory_of_runs = of_runs(comparison, "throughput-1k", used).map(|sample| match sample {
        // steal makes no memory
        Sample::Noisy(value) => Sample::Quiet(value),
        sample => sample,
    });
    let run = Target {
        what: "resident memory, at most, up to the end of the run of 1 KiB records on 16 partitions",
        says: budget.map_or("within the budget".to_owned(), |budget| {
            format!("within the budget, {} as it is set", show_mib(budget))
        }),
        samples: memory_of_runs,
        limits: within("the budget", budget),
        unless: None,
        show: show_mib,
    };
    let of = |what, (says, limit): (&str, f64), samples, show| Target {
        what,
        says: format!("at most {says}"),
        samples,
        limits: within("the limit", limit),
        unless: None,
        show,
    };
    let memory = |of: fn(&Footprint) -> f64| of_footprints(comparison, false, of);
    let time = |of: fn(&Footprint) -> f64| of_footprints(comparison, true, of);
    let idle = memory(|of| of.resident_bytes as f64);
    let idle_partitions = memory(|of| of.resident_bytes_partitions as f64);
    let start = time(|of| of.start_seconds);
    let start_partitions = time(|of| of.start_seconds_partitions);
    let seconds: fn(f64) -> String = |seconds| show_micros(seconds * 1e6);
    let share: fn(f64) -> String = |cores| format!("{:.2} %", cores * 100.0);
    let after_stop = "start to the first answer, 1,000 partitions, after a clean stop";
    vec![
        of("resident memory, idle", ("40 MiB", 40.0 * MIB), idle, show_mib),
        of(
            "resident memory, 1,000 idle partitions, started again",
            ("64 MiB", 64.0 * MIB),
            idle_partitions,
            show_mib,
        ),
        run,
        of("start to the first answer, empty", ("100 ms", 0.1), start, seconds),
        of(after_stop, ("2 s", 2.0), start_partitions, seconds),
        of("CPU with 100 idle connections", ("1 % of a core", 0.01), time(|of| of.idle_cores), share),
    ]
}

/// Budgets are set in powers of two.
fn show_mib(bytes: f64) -> String {
    let mib = bytes / MIB;
    if mib < 100.0 { format!("{mib:.1} MiB") } else { format!("{mib:.0} MiB") }
}

/// The table; `None` if nothing of it was measured.
pub fn table(comparison: &Comparison) -> Option<Table> {
    let head = ["what", "target"].into_iter().chain(SYSTEMS).chain(["ratios", "verdict"]);
    let is_there = !comparison.targets.is_empty();
    is_there.then(|| Table {
        title: "Targets".to_owned(),
        note: about(comparison),
        head: head.map(str::to_owned).collect(),
        rows: comparison.targets.iter().map(Row::cells).collect(),
    })
}

/// What the reader must know of it.
fn about(comparison: &Comparison) -> String {
    let mut text = format!(
        "{OWN} is judged. Ratios are its figures to the others'; what is noisy or was left out is held against nothing."
    );
    if let Some(flush) = comparison.flush_micros {
        let _ = write!(
            text,
            " The disk's flush takes {} (p50, 16 KiB, `corelane tune disk`).",
            show_micros(flush)
        );
    }
    text
}

impl Row {
    fn cells(&self) -> Vec<String> {
        let figure = |(_, figure): &(&str, Figure)| match figure {
            Figure::Quiet { shown, .. } => shown.clone(),
            Figure::Noisy { shown, .. } => format!("{shown} (noisy)"),
            Figure::Absent => "-".to_owned(),
        };
        let ratios: Vec<String> =
            self.ratios.iter().map(|(to, value)| format!("x{} of {to}", ratio(*value))).collect();
        let verdict = match &self.verdict {
            Verdict::Met => "met".to_owned(),
            Verdict::Missed(how) => format!("MISSED {}", how.join("; ")),
            Verdict::Untold(why) => format!("not to be told: {}", why.join("; ")),
        };
        let mut cells = vec![self.what.clone(), self.target.clone()];
        cells.extend(self.figures.iter().map(figure));
        cells.extend([ratios.join(", "), verdict]);
        cells
    }
}

#[cfg(test)]
mod tests {
    use super::Sample::{Absent, Noisy, Quiet};
    use super::*;
    use crate::compare::workloads::WORKLOADS;

    fn judged(
        samples: [Sample; 4],
        limits: Vec<Limit>,
        unless: Option<&str>,
    ) -> (Vec<(String, f64)>, Verdict) {
        let target = Target {
            what: "CPU",
            says: "little".to_owned(),
            samples,
            limits,
            unless: unless.map(str::to_owned),
            show: show_micros,
        };
        let row = target.judge();
        (row.ratios, row.verdict)
    }

    fn verdict(samples: [Sample; 4], limits: Vec<Limit>) -> Verdict {
        judged(samples, limits, None).1
    }

    fn missed(how: &[&str]) -> Verdict {
        Verdict::Missed(how.iter().map(|how| (*how).to_owned()).collect())
    }

    fn untold(why: &[&str]) -> Verdict {
        Verdict::Untold(why.iter().map(|why| (*why).to_owned()).collect())
    }

    #[test]
    fn a_target_is_met_when_every_limit_is_kept() {
        let limits = || vec![at_most(2.0, NULL), at_most(0.25, KAFKA)];
        let (ratios, verdict) = judged([Quiet(2.0), Quiet(1.0), Quiet(8.0), Absent], limits(), None);
        assert_eq!(verdict, Verdict::Met, "at most is met by as much");
        assert_eq!(ratios, [("null".to_owned(), 2.0), ("kafka".to_owned(), 0.25)]);
    }

    #[test]
    fn what_is_missed_is_told_with_its_share_of_the_limit() {
        let limits = || vec![at_most(2.0, NULL), at_most(0.25, KAFKA)];
        let one = verdict([Quiet(2.5), Quiet(1.0), Quiet(10.0), Absent], limits());
        assert_eq!(one, missed(&["by 25 % (null)"]));
        let both = verdict([Quiet(2.1), Quiet(1.0), Quiet(4.2), Absent], limits());
        assert_eq!(both, missed(&["by 5.0 % (null)", "by 100 % (kafka)"]));
        let records = || vec![at_least(3.0, KAFKA_FLUSHED), at_least(1.0, KAFKA)];
        let (ratios, verdict) = judged([Quiet(240.0), Absent, Quiet(240.0), Quiet(100.0)], records(), None);
        assert_eq!(verdict, missed(&["by 20 % (kafka-flushed)"]));
        assert_eq!(ratios, [("kafka-flushed".to_owned(), 2.4), ("kafka".to_owned(), 1.0)]);
        let below = vec![Limit { sense: Sense::Below, factor: 1.0, to: Reference::System(KAFKA) }];
        let equal = judged([Quiet(5.0), Absent, Quiet(5.0), Absent], below, None).1;
        assert_eq!(equal, missed(&["by 0.0 % (kafka)"]), "below is not as much");
    }

    #[test]
    fn what_is_noisy_or_absent_decides_nothing() {
        let limits = || vec![at_most(2.0, NULL), at_most(0.25, KAFKA)];
        let kafka_is_noisy = verdict([Quiet(1.0), Quiet(1.0), Noisy(8.0), Absent], limits());
        assert_eq!(kafka_is_noisy, untold(&["kafka is noisy"]));
        let no_kafka = verdict([Quiet(1.0), Quiet(1.0), Absent, Absent], limits());
        assert_eq!(no_kafka, untold(&["kafka has no figure"]));
        let own_is_noisy = verdict([Noisy(9.0), Quiet(1.0), Quiet(8.0), Absent], limits());
        assert_eq!(own_is_noisy, untold(&["corelane-flushed is noisy"]), "told once");
        let missed_all_the_same = verdict([Quiet(3.0), Quiet(1.0), Absent, Absent], limits());
        assert_eq!(missed_all_the_same, missed(&["by 50 % (null)", "kafka has no figure"]));
        let nothing_to_divide_by = verdict([Quiet(3.0), Quiet(0.0), Quiet(99.0), Absent], limits());
        assert_eq!(nothing_to_divide_by, untold(&["null has no figure above 0"]));
    }

    #[test]
    fn limits_of_their_own_need_no_other_system() {
        let own = |value| [Quiet(value), Absent, Noisy(500.0), Absent];
        assert_eq!(verdict(own(0.0), within("the limit", 40.0)), Verdict::Met);
        assert_eq!(verdict(own(50.0), within("the limit", 40.0)), missed(&["by 25 % (the limit)"]));
        assert_eq!(verdict(own(50.0), within("the budget", None)), untold(&["the budget is not known"]));
    }

    #[test]
    fn on_a_disk_that_flushes_slowly_the_excess_is_told() {
        assert_eq!(slow_flush(Some(150.0), Quiet(400.0)), None);
        let told = |flush, own| slow_flush(flush, own).expect("it does not apply");
        assert_eq!(
            told(Some(600.0), Quiet(1600.0)),
            "the disk's flush takes 600 µs; 1.00 ms above one flush"
        );
        assert_eq!(told(Some(200.0), Noisy(1600.0)), "the disk's flush takes 200 µs; noisy");
        assert_eq!(told(None, Quiet(1.0)), "the disk's flush is not known");
        let limits = vec![at_most(1.0, KAFKA)];
        let (ratios, verdict) = judged([Quiet(2.0), Absent, Quiet(1.0), Absent], limits, Some("slow"));
        assert_eq!((ratios.len(), verdict), (1, untold(&["slow"])), "the ratio is told all the same");
    }

    #[test]
    fn samples_are_medians_of_the_quiet_rounds() {
        assert_eq!(sample(&[]), Absent);
        assert_eq!(sample(&[(1.0, false), (9.0, true), (3.0, false)]), Quiet(2.0));
        assert_eq!(sample(&[(1.0, true), (9.0, true), (3.0, true)]), Noisy(3.0));
    }

    #[test]
    fn every_run_that_a_target_names_is_made() {
        let names = ["throughput-1k", "throughput-100b", "keyed-100b-1000p-full", LATENCY, TAIL, TAIL_UNREAD];
        for name in names {
            assert!(WORKLOADS.iter().any(|workload| workload.name == name), "{name}");
        }
    }

    #[test]
    fn a_row_shows_what_there_is() {
        let target = Target {
            what: "CPU",
            says: "at most 2 times null, at most 1/4 of kafka".to_owned(),
            samples: [Quiet(2.5), Quiet(1.0), Noisy(8.0), Absent],
            limits: vec![at_most(2.0, NULL), at_most(0.25, KAFKA)],
            unless: None,
            show: |value| format!("{value} µs"),
        };
        let expect = "CPU | at most 2 times null, at most 1/4 of kafka | 2.5 µs | 1 µs | 8 µs (noisy) | - | \
                      x2.50 of null | MISSED by 25 % (null); kafka is noisy";
        assert_eq!(target.judge().cells().join(" | "), expect);
    }
}

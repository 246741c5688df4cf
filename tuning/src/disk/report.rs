//! What was measured, as tables and as JSON, and the limit that follows from it.

use std::fmt::Write as _;
use std::time::Duration;

use serde::Serialize;

use super::COMMIT_BLOCK;
use super::measure::{Committed, Direction, Durable, Extents, Stream, Streamed};
use crate::data_disk::DataDisk;

/// Above this share of stolen processor time the figures say more about the neighbours than about the disk.
const STEAL_PERCENT_MAX: f64 = 3.0;

/// Sum and stolen part of /proc/stat's first line, in ticks.
#[derive(Clone, Copy, Debug)]
pub(super) struct ProcessorTime {
    total: u64,
    stolen: u64,
}

#[derive(Serialize)]
pub(super) struct Report {
    data: DataDisk,
    file_bytes: u64,
    seconds_per_step: f64,
    #[serde(skip_serializing_if = "Option::is_none")]
    steal_percent: Option<f64>,
    steps: Vec<Step>,
    limits: Limits,
}

/// One row. Latencies are those of a block moved, or of a whole commit.
#[derive(Clone, Debug, Serialize)]
pub(super) struct Step {
    what: &'static str,
    extents: &'static str,
    block_bytes: u32,
    depth: usize,
    operations: u64,
    megabytes_per_second: f64,
    operations_per_second: f64,
    p50_us: f64,
    p99_us: f64,
    #[serde(skip_serializing_if = "Option::is_none")]
    steal_percent: Option<f64>,
    #[serde(flatten, skip_serializing_if = "Option::is_none")]
    parts: Option<Parts>,
}

/// A commit's two halves.
#[derive(Clone, Copy, Debug, Serialize)]
struct Parts {
    write_p50_us: f64,
    write_p99_us: f64,
    flush_p50_us: f64,
    flush_p99_us: f64,
}

/// What the broker is held against.
#[derive(Serialize)]
struct Limits {
    write: Step,
    read: Step,
    /// 16 KiB and a flush, into pre-written extents.
    commit: Step,
}

impl Step {
    pub(super) fn of_stream(stream: Stream, streamed: &Streamed) -> Step {
        let what = match stream.direction {
            Direction::Write => "write",
            Direction::Read => "read",
        };
        let latency = &streamed.latency;
        Step {
            what,
            extents: name(Extents::PreWritten),
            depth: stream.depth,
            p50_us: latency.quantile_us(0.5),
            p99_us: latency.quantile_us(0.99),
            parts: None,
            ..Step::rate(stream.block_bytes, streamed.operations, streamed.took)
        }
    }

    pub(super) fn of_commits(
        block_bytes: u32,
        extents: Extents,
        durable: Durable,
        committed: &Committed,
    ) -> Step {
        let parts = Parts {
            write_p50_us: committed.write.quantile_us(0.5),
            write_p99_us: committed.write.quantile_us(0.99),
            flush_p50_us: committed.flush.quantile_us(0.5),
            flush_p99_us: committed.flush.quantile_us(0.99),
        };
        Step {
            what: match durable {
                Durable::Flush => "write+fdatasync",
                Durable::Open => "write O_DSYNC",
            },
            extents: name(extents),
            p50_us: committed.both.quantile_us(0.5),
            p99_us: committed.both.quantile_us(0.99),
            parts: (durable == Durable::Flush).then_some(parts),
            ..Step::rate(block_bytes, committed.operations, committed.took)
        }
    }

    #[allow(clippy::cast_precision_loss)] // counts of a run are far below 2^53
    fn rate(block_bytes: u32, operations: u64, took: Duration) -> Step {
        let per_second = operations as f64 / took.as_secs_f64().max(1e-9);
        Step {
            what: "",
            extents: "",
            block_bytes,
            depth: 1,
            operations,
            megabytes_per_second: (per_second * f64::from(block_bytes) / 1e5).round() / 10.0,
            operations_per_second: per_second.round(),
            p50_us: 0.0,
            p99_us: 0.0,
            steal_percent: None,
            parts: None,
        }
    }

    /// Adds what the neighbours took while it ran.
    pub(super) fn stolen(self, steal_percent: Option<f64>) -> Step {
        Step { steal_percent, ..self }
    }

    /// What is put behind a row that is not to be trusted.
    fn mark(&self) -> &'static str {
        if self.steal_percent.is_some_and(|steal| steal > STEAL_PERCENT_MAX) { " *" } else { "" }
    }

    /// The row as progress is told.
    pub(super) fn line(&self) -> String {
        format!(
            "{} {} depth {}, {}: {:.0} MB/s, p50 {:.0} µs, p99 {:.0} µs",
            self.what,
            block(self.block_bytes),
            self.depth,
            self.extents,
            self.megabytes_per_second,
            self.p50_us,
            self.p99_us
        )
    }
}

impl Report {
    pub(super) fn new(
        data: DataDisk,
        file_bytes: u64,
        step: Duration,
        steal_percent: Option<f64>,
        steps: Vec<Step>,
    ) -> Report {
        let fastest = |what: &str| {
            let candidates = steps.iter().filter(|step| step.what == what);
            candidates
                .max_by(|left, right| left.megabytes_per_second.total_cmp(&right.megabytes_per_second))
                .cloned()
                .expect("every run writes and reads")
        };
        let is_commit = |step: &&Step| {
            step.parts.is_some()
                && step.extents == name(Extents::PreWritten)
                && step.block_bytes == COMMIT_BLOCK
        };
        let commit = steps.iter().find(is_commit).cloned().expect("every run commits 16 KiB");
        let limits = Limits { write: fastest("write"), read: fastest("read"), commit };
        Report { data, file_bytes, seconds_per_step: step.as_secs_f64(), steal_percent, steps, limits }
    }

    pub(super) fn table(&self) -> String {
        let mut text = String::new();
        let disks =
            if self.data.disks.is_empty() { "disk not found".into() } else { self.data.disks.join(", ") };
        let _ = writeln!(
            text,
            "{}: {} on {}, file of {} MiB, {} s per step\n",
            self.data.directory,
            self.data.file_system,
            disks,
            self.file_bytes >> 20,
            self.seconds_per_step
        );
        let (commits, streams): (Vec<_>, Vec<_>) =
            self.steps.iter().partition(|step| !matches!(step.what, "write" | "read"));
        let _ = writeln!(
            text,
            "{:7} {:>8} {:>5} {:>9} {:>9} {:>9} {:>9}",
            "stream", "block", "depth", "MB/s", "op/s", "p50 µs", "p99 µs"
        );
        for step in streams {
            let _ = writeln!(
                text,
                "{:7} {:>8} {:>5} {:>9.0} {:>9.0} {:>9.0} {:>9.0}{}",
                step.what,
                block(step.block_bytes),
                step.depth,
                step.megabytes_per_second,
                step.operations_per_second,
                step.p50_us,
                step.p99_us,
                step.mark()
            );
        }
        let _ = writeln!(
            text,
            "\n{:15} {:>8} {:11} {:>9} {:>15} {:>15} {:>15}",
            "commit, depth 1",
            "block",
            "extents",
            "op/s",
            "write p50/p99",
            "flush p50/p99",
            "both p50/p99 µs"
        );
        for step in commits {
            let parts = step.parts.map_or((String::from("-"), String::from("-")), |parts| {
                (pair(parts.write_p50_us, parts.write_p99_us), pair(parts.flush_p50_us, parts.flush_p99_us))
            });
            let _ = writeln!(
                text,
                "{:15} {:>8} {:11} {:>9.0} {:>15} {:>15} {:>15}{}",
                step.what,
                block(step.block_bytes),
                step.extents,
                step.operations_per_second,
                parts.0,
                parts.1,
                pair(step.p50_us, step.p99_us),
                step.mark()
            );
        }
        text.push_str(&self.closing());
        text
    }

    /// Steal, and the limit in words.
    fn closing(&self) -> String {
        let mut text = String::new();
        if self.steps.iter().any(|step| !step.mark().is_empty()) {
            let _ = writeln!(text, "* CPU steal above {STEAL_PERCENT_MAX:.0} % during this step");
        }
        let _ = match self.steal_percent {
            Some(steal) if steal > STEAL_PERCENT_MAX => writeln!(
                text,
                "\nCPU steal {steal:.1} %: ABOVE {STEAL_PERCENT_MAX:.0} %, neighbours took part of the machine; measure again"
            ),
            Some(steal) => writeln!(text, "\nCPU steal {steal:.1} %"),
            None => writeln!(text, "\nCPU steal not known: /proc/stat does not say"),
        };
        let Limits { write, read, commit } = &self.limits;
        let parts = commit.parts.expect("a commit has two halves");
        let stream = |step: &Step| {
            format!(
                "{:.0} MB/s ({}, depth {}){}",
                step.megabytes_per_second,
                block(step.block_bytes),
                step.depth,
                step.mark()
            )
        };
        let _ = write!(
            text,
            "\nthe limit the broker is held against\n  sequential write   {}\n  sequential read    {}\n  flush after 16 KiB p50 {:.0} µs, p99 {:.0} µs{}\n",
            stream(write),
            stream(read),
            parts.flush_p50_us,
            parts.flush_p99_us,
            commit.mark()
        );
        let _ = writeln!(
            text,
            "  a lone durable batch (acks=all) cannot be acknowledged before one write and one flush: {:.0} µs half of the time, {:.0} µs one time in a hundred; batches that arrive together share both",
            commit.p50_us, commit.p99_us
        );
        text
    }
}

/// Where the whole machine's time went so far; none where /proc/stat does not say.
pub(super) fn processor_time() -> Option<ProcessorTime> {
    parse(&std::fs::read_to_string("/proc/stat").ok()?)
}

/// `cpu  user nice system idle iowait irq softirq steal guest guest_nice`: guests are in user already.
fn parse(stat: &str) -> Option<ProcessorTime> {
    let line = stat.lines().next()?.strip_prefix("cpu ")?;
    let ticks: Vec<u64> =
        line.split_whitespace().take(8).map(|word| word.parse().ok()).collect::<Option<_>>()?;
    Some(ProcessorTime { total: ticks.iter().sum(), stolen: *ticks.get(7)? })
}

#[allow(clippy::cast_precision_loss)] // ticks of a run are far below 2^53
pub(super) fn steal_percent(before: Option<ProcessorTime>, after: Option<ProcessorTime>) -> Option<f64> {
    let (before, after) = (before?, after?);
    let total = after.total.checked_sub(before.total).filter(|&ticks| ticks > 0)?;
    let stolen = after.stolen.saturating_sub(before.stolen);
    Some((stolen as f64 / total as f64 * 1000.0).round() / 10.0)
}

fn name(extents: Extents) -> &'static str {
    match extents {
        Extents::Extending => "extending",
        Extents::Fallocated => "fallocated",
        Extents::PreWritten => "pre-written",
    }
}

fn block(bytes: u32) -> String {
    if bytes >= 1 << 20 { format!("{} MiB", bytes >> 20) } else { format!("{} KiB", bytes >> 10) }
}

fn pair(p50: f64, p99: f64) -> String {
    format!("{p50:.0}/{p99:.0}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn steal_is_a_share_of_all_time() {
        let before = parse("cpu  100 0 100 800 0 0 0 0 50 0\ncpu0 1");
        let after = parse("cpu  150 0 110 800 0 0 0 40 90 0\ncpu0 1");
        assert_eq!(steal_percent(before, after), Some(40.0));
        assert_eq!(steal_percent(before, before), None, "no time has passed");
        assert!(parse("cpu  1 2 3 4").is_none(), "an old kernel without the column");
        assert!(parse("intr 5").is_none());
    }

    #[test]
    fn stolen_time_is_marked() {
        let step = |what, extents, steal_percent| Step {
            what,
            extents: name(extents),
            parts: (what == "write+fdatasync").then_some(Parts {
                write_p50_us: 50.0,
                write_p99_us: 80.0,
                flush_p50_us: 40.0,
                flush_p99_us: 90.0,
            }),
            steal_percent,
            ..Step::rate(COMMIT_BLOCK, 1000, Duration::from_secs(1))
        };
        let steps = |steal| {
            vec![
                step("write", Extents::PreWritten, Some(0.0)),
                step("read", Extents::PreWritten, Some(3.0)),
                step("write+fdatasync", Extents::Extending, None),
                step("write+fdatasync", Extents::PreWritten, steal),
            ]
        };
        let table = |steal| {
            Report::new(DataDisk::default(), 1 << 30, Duration::from_secs(1), steal, steps(steal)).table()
        };
        let calm = table(Some(3.0));
        assert!(calm.contains("CPU steal 3.0 %\n") && !calm.contains('*'), "{calm}");
        assert!(calm.contains("flush after 16 KiB p50 40 µs, p99 90 µs\n"), "{calm}");
        let stolen = table(Some(3.1));
        assert!(stolen.contains("CPU steal 3.1 %: ABOVE 3 %"), "{stolen}");
        assert!(stolen.contains("flush after 16 KiB p50 40 µs, p99 90 µs *\n"), "{stolen}");
        assert!(table(None).contains("steal not known"));
    }
}

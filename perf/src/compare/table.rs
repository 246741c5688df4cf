//! Medians and ratios, as Markdown.

use std::fmt::Write;

use super::{Comparison, Turn, targets};
use crate::measure::Role;
use crate::report::{Report, RoleReport};
use crate::units::{show_bytes, show_count, show_micros};

/// What ratios are to, if it is there.
const BASELINE: &str = "kafka";

/// One figure of a run.
struct Figure {
    name: &'static str,
    of: fn(&Report) -> Option<f64>,
    show: fn(f64) -> String,
}

const FIGURES: &[Figure] = &[
    Figure { name: "records/s", of: |run| Some(main_role(run)?.records_per_second), show: show_count },
    Figure {
        name: "MB/s",
        of: |run| Some(main_role(run)?.payload_bytes_per_second / 1e6),
        show: |mb| format!("{mb:.1}"),
    },
    Figure {
        name: "broker CPU per record",
        of: |run| Some(run.broker.as_ref()?.cpu_micros_per_record),
        show: show_micros,
    },
    Figure { name: "the machine's, less the generator's", of: machine_cpu_micros, show: show_micros },
    Figure {
        name: "broker CPU per GB",
        of: |run| Some(run.broker.as_ref()?.cpu_seconds_per_gigabyte),
        show: |seconds| format!("{seconds:.2} s"),
    },
    Figure { name: "p50", of: |run| Some(latest_role(run)?.latency.p50), show: show_micros },
    Figure { name: "p99", of: |run| Some(latest_role(run)?.latency.p99), show: show_micros },
    Figure { name: "p99.9", of: |run| Some(latest_role(run)?.latency.p999), show: show_micros },
    Figure {
        name: "resident memory, at most",
        of: |run| Some(run.broker.as_ref()?.resident_bytes_max as f64),
        show: show_bytes,
    },
    Figure {
        name: "written to disk per byte sent",
        of: written_per_byte,
        show: |ratio| format!("{ratio:.2}"),
    },
    Figure {
        name: "context switches per record",
        of: |run| Some(run.broker.as_ref()?.context_switches_per_record),
        show: |switches| format!("{switches:.3}"),
    },
];

/// Whose throughput is told: producers', where there are some.
fn main_role(run: &Report) -> Option<&RoleReport> {
    run.role(Role::Produce).or(run.roles.first())
}

/// Whose latency is told: that of the last stage.
fn latest_role(run: &Report) -> Option<&RoleReport> {
    run.role(Role::EndToEnd).or_else(|| main_role(run))
}

/// CPU of the machine per record, that of the load generator left out.
fn machine_cpu_micros(run: &Report) -> Option<f64> {
    let records = main_role(run)?.records_per_second * run.measured_seconds;
    Some(run.broker.as_ref()?.machine_cpu_seconds? * 1e6 / records.max(1.0))
}

fn written_per_byte(run: &Report) -> Option<f64> {
    let produced = run.role(Role::Produce)?;
    // what was under way at the end counts for neither
    let in_time = produced.records_per_second * run.measured_seconds / produced.records.max(1) as f64;
    Some(run.broker.as_ref()?.written_bytes as f64 / (produced.wire_bytes as f64 * in_time).max(1.0))
}

/// A run in one line, for the progress.
pub fn line(report: &Report) -> String {
    let Some(role) = latest_role(report) else { return "nothing measured".to_owned() };
    let cpu = report
        .broker
        .as_ref()
        .map_or(String::new(), |broker| format!(", {:.2} µs CPU/record", broker.cpu_micros_per_record));
    format!(
        "{} records/s, p50 {}, p99 {}{cpu}, steal {:.1} %{}",
        show_count(role.records_per_second),
        show_micros(role.latency.p50),
        show_micros(role.latency.p99),
        report.steal_percent,
        if report.is_noisy { " (noisy)" } else { "" }
    )
}

/// The runs of a system and workload that count: those that are not noisy, or all if all are.
pub fn runs<'a>(comparison: &'a Comparison, system: &str, workload: &str) -> Vec<&'a Report> {
    let of_system = |turn: &&Turn| turn.system == system;
    let all: Vec<&Report> = comparison
        .turns
        .iter()
        .filter(of_system)
        .flat_map(|turn| &turn.reports)
        .filter(|report| report.workload == workload)
        .collect();
    let quiet: Vec<&Report> = all.iter().copied().filter(|report| !report.is_noisy).collect();
    if quiet.is_empty() { all } else { quiet }
}

pub fn median(mut values: Vec<f64>) -> Option<f64> {
    values.sort_unstable_by(f64::total_cmp);
    let middle = values.len() / 2;
    match values.len() {
        0 => None,
        odd if odd % 2 == 1 => Some(values[middle]),
        _ => Some(f64::midpoint(values[middle - 1], values[middle])),
    }
}

/// Of each workload and system, the run in the middle by its p99 (at a fixed rate) or its throughput.
pub fn medians(comparison: &Comparison) -> Vec<&Report> {
    let mut chosen = Vec::new();
    for (workload, ..) in &comparison.workloads {
        for system in &comparison.systems {
            let mut runs = runs(comparison, system, workload);
            let key = |run: &&Report| {
                let role = latest_role(run);
                let by_rate = main_role(run).is_some_and(|role| role.asked_rate.is_some());
                role.map_or(0.0, |role| if by_rate { role.latency.p99 } else { role.records_per_second })
            };
            runs.sort_by(|a, b| key(a).total_cmp(&key(b)));
            chosen.extend(runs.get(runs.len() / 2).copied());
        }
    }
    chosen
}

pub fn markdown(comparison: &Comparison) -> String {
    let mut text = String::new();
    let systems = &comparison.systems;
    let baseline = if systems.iter().any(|system| system == BASELINE) { BASELINE } else { &systems[0] };
    let _ = writeln!(text, "# {} by turns\n", systems.join(", "));
    let _ = writeln!(text, "{}, {}, {}.\n", comparison.date, comparison.host, comparison.tool);
    let _ = writeln!(
        text,
        "Medians of the rounds; in brackets the ratio to {baseline}. Rounds with more than 3 % CPU steal are left out; \
         where no round is left all are taken, and marked noisy instead of held against others. Load generator and broker share the machine. \"written to \
         disk\" is what the kernel charges the broker's process with.\n"
    );
    if let Some(targets) = targets::table(comparison) {
        let _ = writeln!(text, "## {}\n\n{}\n", targets.title, targets.note);
        let _ = writeln!(text, "| {} |\n|{}", targets.head.join(" | "), "---|".repeat(targets.head.len()));
        for row in &targets.rows {
            let _ = writeln!(text, "| {} |", row.join(" | "));
        }
        text.push('\n');
    }
    startup(&mut text, comparison, baseline);
    for (workload, line, about) in &comparison.workloads {
        // not every system makes every run
        let has_run = |system: &&String| !runs(comparison, system, workload).is_empty();
        let systems: Vec<String> = systems.iter().filter(has_run).cloned().collect();
        let systems = &systems;
        let _ = writeln!(text, "\n## {workload}\n\n{about}: `bench {line}`\n");
        let _ = writeln!(text, "| | {} |", systems.join(" | "));
        let _ = writeln!(text, "|---|{}", "---|".repeat(systems.len()));
        for figure in FIGURES {
            let of_system = |system: &str| {
                median(runs(comparison, system, workload).into_iter().filter_map(figure.of).collect())
            };
            let is_noisy = |system: &str| runs(comparison, system, workload).iter().any(|run| run.is_noisy);
            let ratio_to = |system: &str| {
                let of_baseline = of_system(baseline)?;
                Some(if is_noisy(system) || is_noisy(baseline) { Err(Noisy) } else { Ok(of_baseline) })
            };
            row(&mut text, figure.name, systems, of_system, ratio_to, figure.show);
        }
        let rounds = systems.iter().map(|system| {
            let counted = runs(comparison, system, workload);
            let steal = counted.iter().map(|run| run.steal_percent).fold(0.0, f64::max);
            let noisy = if counted.iter().any(|run| run.is_noisy) { ", NOISY" } else { "" };
            format!("{} (steal up to {steal:.1} %{noisy})", counted.len())
        });
        let _ = writeln!(text, "| rounds counted | {} |", rounds.collect::<Vec<_>>().join(" | "));
        for system in systems {
            let mut told: Vec<&String> =
                runs(comparison, system, workload).into_iter().flat_map(|run| &run.warnings).collect();
            told.sort_unstable();
            told.dedup();
            for warning in told {
                let _ = writeln!(text, "\n- {system}: {warning}");
            }
        }
    }
    let _ = writeln!(text, "\n## Settings\n\n| what | how |\n|---|---|");
    for (key, value) in &comparison.settings {
        let _ = writeln!(text, "| {key} | {} |", value.replace('|', "\\|"));
    }
    text
}

fn startup(text: &mut String, comparison: &Comparison, baseline: &str) {
    let is_started = |system: &&String| {
        let mut turns = comparison.turns.iter().filter(|turn| turn.system == **system);
        turns.any(|turn| turn.start_up_seconds.is_some())
    };
    let systems: Vec<String> = comparison.systems.iter().filter(is_started).cloned().collect();
    if systems.is_empty() {
        return;
    }
    let systems = &systems;
    let turns =
        |system: &str| comparison.turns.iter().filter(move |turn| turn.system == *system).collect::<Vec<_>>();
    let start =
        |system: &str| median(turns(system).into_iter().filter_map(|turn| turn.start_up_seconds).collect());
    let idle = |system: &str| {
        median(turns(system).into_iter().filter_map(|turn| Some(turn.resident_bytes_idle? as f64)).collect())
    };
    let _ = writeln!(text, "## Start\n\n| | {} |", systems.join(" | "));
    let _ = writeln!(text, "|---|{}", "---|".repeat(systems.len()));
    row(
        text,
        "start to first answer",
        systems,
        start,
        |_| start(baseline).map(Ok),
        |seconds| show_micros(seconds * 1e6),
    );
    row(text, "resident memory then", systems, idle, |_| idle(baseline).map(Ok), show_bytes);
}

/// CPU steal has spoiled one side of a ratio.
#[derive(Clone, Copy)]
struct Noisy;

/// `ratio_to`: of each system, what its figure is held against.
fn row(
    text: &mut String,
    name: &str,
    systems: &[String],
    of: impl Fn(&str) -> Option<f64>,
    ratio_to: impl Fn(&str) -> Option<Result<f64, Noisy>>,
    show: impl Fn(f64) -> String,
) {
    if systems.iter().all(|system| of(system).is_none()) {
        return;
    }
    let cell = |system: &String| match (of(system), ratio_to(system)) {
        (None, _) => "-".to_owned(),
        (Some(value), Some(Ok(baseline))) if baseline > 0.0 => {
            format!("{} (x{})", show(value), ratio(value / baseline))
        }
        (Some(value), Some(Err(Noisy))) => format!("{} (noisy)", show(value)),
        (Some(value), _) => show(value),
    };
    let cells: Vec<String> = systems.iter().map(cell).collect();
    let _ = writeln!(text, "| {name} | {} |", cells.join(" | "));
}

pub fn ratio(ratio: f64) -> String {
    match ratio {
        ratio if ratio >= 10.0 => format!("{ratio:.0}"),
        ratio if ratio >= 0.1 => format!("{ratio:.2}"),
        ratio => format!("{ratio:.4}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn medians_are_in_the_middle() {
        assert_eq!(median(vec![]), None);
        assert_eq!(median(vec![3.0, 1.0, 2.0]), Some(2.0));
        assert_eq!(median(vec![4.0, 1.0, 2.0, 3.0]), Some(2.5));
    }

    #[test]
    fn a_figure_that_steal_has_spoiled_has_no_ratio() {
        let systems = ["a", "b", "c"].map(str::to_owned);
        let mut text = String::new();
        let of = |system: &str| (system != "c").then_some(2.0);
        let ratio_to = |system: &str| Some(if system == "b" { Err(Noisy) } else { Ok(8.0) });
        row(&mut text, "p50", &systems, of, ratio_to, |value| format!("{value} ms"));
        assert_eq!(text, "| p50 | 2 ms (x0.25) | 2 ms (noisy) | - |\n");
        text.clear();
        row(&mut text, "p50", &systems, |_| None, ratio_to, show_micros);
        assert_eq!(text, "", "nobody has it");
    }
}

//! The highest rate whose p99 stays below a bound.

use std::time::Duration;

use anyhow::{Context, Result};

use crate::measure::Role;
use crate::options::{Length, Output, Produce};
use crate::report::{Report, RoleReport, Trial};
use crate::run::{Run, run};
use crate::units::{show_count, show_micros};

/// The search ends when the rate is known this well.
const PRECISION: f64 = 0.03;
const TRIALS_MAX: usize = 20;
/// A rate that is not reached to this share is too high, whatever the latencies of what was sent.
const REACHED: f64 = 0.98;

/// Halves the space between a rate that is within the bound and one that is not; the last run is a whole one at the
/// rate that was found. The bound is held by the latest stage: received if the run has consumers, else acknowledged.
///
/// # Errors
/// What stopped a run, or no rate within the bound.
pub fn search(whole: &Run<'_>, options: &Produce, bound: Duration) -> Result<Report> {
    let length = Length { duration: options.search_step, records: None, bytes: None, ..whole.length.clone() };
    let bound_micros = bound.as_secs_f64() * 1e6;
    let mut trials = Vec::new();
    let attempt = |rate: Option<f64>| -> Result<Report> {
        let produce = Produce { rate: rate.map(|rate| rate as u64), ..options.clone() };
        let output = Output { quiet: true, ..whole.output.clone() };
        let report = run(&Run {
            produce: Some(&produce),
            length: &length,
            output: &output,
            readers: whole.readers.clone(),
            ..*whole
        })?;
        Ok(report)
    };
    // As fast as it goes in a closed loop is where to begin, not an upper end: batches fill better on a schedule.
    let fastest = attempt(None)?.role(Role::Produce).map_or(0.0, |role| role.records_per_second);
    if !whole.output.quiet {
        eprintln!("search: {} records/s as fast as it goes", show_count(fastest));
    }
    let (mut within, mut beyond) = (0.0, f64::INFINITY);
    let mut rate = fastest;
    while trials.len() < TRIALS_MAX && beyond - within > beyond * PRECISION && rate >= 1.0 {
        let mut report = attempt(Some(rate))?;
        if report.is_noisy {
            report = attempt(Some(rate))?;
        }
        let produced = report.role(Role::Produce).context("nothing was produced")?;
        let reached = produced.records_per_second;
        let p99 = latest(&report, whole).map_or(f64::MAX, |role| role.latency.p99);
        let is_within = p99 <= bound_micros && reached >= rate * REACHED;
        if !whole.output.quiet {
            let verdict = if is_within { "within the bound" } else { "beyond" };
            let noisy = if report.is_noisy { " (too much CPU steal, twice)" } else { "" };
            eprintln!("search: {} records/s: p99 {}, {verdict}{noisy}", show_count(rate), show_micros(p99));
        }
        trials.push(Trial { rate, reached, p99, is_within });
        *(if is_within { &mut within } else { &mut beyond }) = rate;
        rate = match (within, beyond) {
            (0.0, beyond) => beyond / 2.0,
            (within, f64::INFINITY) => within * 1.5,
            (within, beyond) => f64::midpoint(within, beyond),
        };
    }
    anyhow::ensure!(
        within > 0.0,
        "no rate had its p99 below {bound:?}: the lowest tried was {} records/s",
        show_count(beyond)
    );
    let produce = Produce { rate: Some(within as u64), ..options.clone() };
    let mut report = run(&Run { produce: Some(&produce), readers: whole.readers.clone(), ..*whole })?;
    if latest(&report, whole).is_none_or(|role| role.latency.p99 > bound_micros) {
        report
            .warnings
            .push(format!("the last run, at the rate found, had its p99 above {bound:?}: search again"));
    }
    report.search = trials;
    report.settings.insert("search".to_owned(), format!("p99 below {bound:?}"));
    Ok(report)
}

/// Whose latency is held against the bound: the consumers', if there are any.
fn latest<'a>(report: &'a Report, run: &Run<'_>) -> Option<&'a RoleReport> {
    let role = if run.readers.is_empty() { Role::Produce } else { Role::EndToEnd };
    report.role(role)
}

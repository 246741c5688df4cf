//! The highest rate whose p99 stays below a bound.

use std::time::Duration;

use anyhow::{Context, Result};

use crate::measure::Role;
use crate::options::{Length, Output, Produce};
use crate::report::{Report, Trial};
use crate::run::{Run, run};
use crate::units::{show_count, show_micros};

/// The search ends when the rate is known this well.
const PRECISION: f64 = 0.03;
const TRIALS_MAX: usize = 12;
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
    // As fast as it goes is more than any bound allows: the upper end.
    let fastest = attempt(None)?.role(Role::Produce).map_or(0.0, |role| role.records_per_second);
    if !whole.output.quiet {
        eprintln!("search: {} records/s as fast as it goes", show_count(fastest));
    }
    let (mut within, mut beyond) = (0.0, fastest * 1.02);
    while trials.len() < TRIALS_MAX && beyond - within > beyond * PRECISION {
        let rate = (within + beyond) / 2.0;
        let report = attempt(Some(rate))?;
        let produced = report.role(Role::Produce).context("nothing was produced")?;
        let latest = report.role(Role::EndToEnd).unwrap_or(produced);
        let reached = produced.records_per_second;
        let is_within = latest.latency.p99 <= bound_micros && reached >= rate * REACHED;
        let trial = Trial { rate, reached, p99: latest.latency.p99, is_within };
        if !whole.output.quiet {
            let verdict = if is_within { "within the bound" } else { "beyond" };
            eprintln!("search: {} records/s: p99 {}, {verdict}", show_count(rate), show_micros(trial.p99));
        }
        *(if is_within { &mut within } else { &mut beyond }) = rate;
        trials.push(trial);
    }
    anyhow::ensure!(
        within > 0.0,
        "no rate had its p99 below {bound:?}: the lowest tried was {} records/s",
        show_count(beyond)
    );
    let produce = Produce { rate: Some(within as u64), ..options.clone() };
    let mut report = run(&Run { produce: Some(&produce), readers: whole.readers.clone(), ..*whole })?;
    report.search = trials;
    report.settings.insert("search".to_owned(), format!("p99 below {bound:?}"));
    Ok(report)
}

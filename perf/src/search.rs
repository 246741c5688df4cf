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
pub fn search(whole: &Run<'_>, bound: Duration) -> Result<Report> {
    let length =
        Length { duration: whole.produce.search_step, records: None, bytes: None, ..whole.length.clone() };
    let bound_micros = bound.as_secs_f64() * 1e6;
    let mut trials = Vec::new();
    let attempt = |rate: Option<f64>| -> Result<Report> {
        let produce = Produce { rate: rate.map(|rate| rate as u64), ..whole.produce.clone() };
        let output = Output { quiet: true, ..whole.output.clone() };
        run(&Run { produce: &produce, length: &length, output: &output, ..whole.clone() })
    };
    // As fast as it goes in a closed loop is where to begin, not an upper end: batches fill better on a schedule.
    let fastest = attempt(None)?.role(Role::Produce).map_or(0.0, |role| role.records_per_second);
    if !whole.output.quiet {
        eprintln!("search: {} records/s as fast as it goes", show_count(fastest));
    }
    let mut bracket = Bracket::from(fastest);
    while let Some(rate) = bracket.next().filter(|_| trials.len() < TRIALS_MAX) {
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
        bracket.learn(rate, is_within);
    }
    let within = bracket.within;
    anyhow::ensure!(
        within > 0.0,
        "no rate had its p99 below {bound:?}: the lowest tried was {} records/s",
        show_count(bracket.beyond)
    );
    let produce = Produce { rate: Some(within as u64), ..whole.produce.clone() };
    let mut report = run(&Run { produce: &produce, ..whole.clone() })?;
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

/// The space in which the rate lies.
struct Bracket {
    /// The highest that was within the bound; 0: none.
    within: f64,
    /// The lowest that was not; infinite: none.
    beyond: f64,
    first: f64,
}

impl Bracket {
    fn from(first: f64) -> Bracket {
        Bracket { within: 0.0, beyond: f64::INFINITY, first }
    }

    fn learn(&mut self, rate: f64, is_within: bool) {
        *(if is_within { &mut self.within } else { &mut self.beyond }) = rate;
    }

    /// What to try next; `None` when it is known well enough, or no rate is low enough.
    fn next(&self) -> Option<f64> {
        let rate = match (self.within, self.beyond) {
            (0.0, f64::INFINITY) => self.first,
            (0.0, beyond) => beyond / 2.0,
            (within, f64::INFINITY) => within * 1.5,
            (within, beyond) => f64::midpoint(within, beyond),
        };
        let is_known = self.beyond.is_finite() && self.beyond - self.within <= self.beyond * PRECISION;
        (!is_known && rate >= 1.0).then_some(rate)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_search_finds_the_rate_wherever_it_lies() {
        for (fastest, limit) in [(1000.0, 990.0), (1000.0, 7300.0), (1e6, 150.0), (5e5, 4.9e5), (1e6, 0.2)] {
            let mut bracket = Bracket::from(fastest);
            let mut trials = 0;
            while let Some(rate) = bracket.next() {
                bracket.learn(rate, rate <= limit);
                trials += 1;
                assert!(trials <= TRIALS_MAX, "{fastest} {limit}");
            }
            if limit < 1.0 {
                assert_eq!(bracket.within, 0.0);
            } else {
                assert!(bracket.within <= limit && limit < bracket.beyond, "{fastest} {limit}");
                assert!(bracket.beyond - bracket.within <= bracket.beyond * PRECISION, "{fastest} {limit}");
            }
        }
    }
}

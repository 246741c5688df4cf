//! A report on the terminal.

use std::fmt::Write;

use super::{BrokerUse, Report, RoleReport, STEAL_PERCENT_MAX};
use crate::units::{show_bytes, show_count, show_micros};

/// The whole report in some lines.
#[must_use]
pub fn summary(report: &Report) -> String {
    let mut text = String::new();
    let seconds = report.measured_seconds;
    let _ = writeln!(text, "{} · {} · {seconds:.1} s measured · {}", report.label, report.kind, report.date);
    let settings: Vec<String> = report.settings.iter().map(|(key, value)| format!("{key}={value}")).collect();
    let _ = writeln!(text, "  settings    {}", settings.join(" "));
    let _ = writeln!(text, "  host        {}", report.host);
    for role in &report.roles {
        role_lines(&mut text, role);
    }
    if let Some(broker) = &report.broker {
        broker_lines(&mut text, broker);
    }
    let generator = &report.generator;
    let _ = write!(text, "  generator   {} threads, {:.2} cores", generator.threads, generator.cores);
    if generator.lateness_max > 0.0 {
        let (p50, p99) = (show_micros(generator.lateness_p50), show_micros(generator.lateness_p99));
        let _ = write!(text, ", itself late by p50 {p50}, p99 {p99} (part of the latencies)");
    }
    let _ = writeln!(text);
    for trial in &report.search {
        let verdict = if trial.is_within { "within the bound" } else { "beyond" };
        let (rate, p99) = (show_count(trial.rate), show_micros(trial.p99));
        let _ = writeln!(text, "  search      {rate} records/s: p99 {p99}, {verdict}");
    }
    for (error, records) in &report.errors {
        let _ = writeln!(text, "  ERROR       {error}: {records} records");
    }
    for warning in &report.warnings {
        let _ = writeln!(text, "  WARNING     {warning}");
    }
    let verdict = if report.is_noisy { "too noisy: do not use this run" } else { "usable" };
    let _ = writeln!(
        text,
        "  CPU steal   {:.1} % of at most {STEAL_PERCENT_MAX:.0} % ({verdict})",
        report.steal_percent
    );
    text
}

fn role_lines(text: &mut String, role: &RoleReport) {
    let asked = role.asked_rate.map_or(String::new(), |rate| format!(" of {} asked for", show_count(rate)));
    let _ = writeln!(
        text,
        "  {:<11} {} records/s{asked}, {}/s; {} records in {} requests",
        role.role.name(),
        show_count(role.records_per_second),
        show_bytes(role.payload_bytes_per_second),
        role.records,
        role.requests
    );
    let latency = &role.latency;
    if latency.count > 0 {
        let _ = writeln!(
            text,
            "    latency   p50 {}, p90 {}, p99 {}, p99.9 {}, p99.99 {}, max {}  ({})",
            show_micros(latency.p50),
            show_micros(latency.p90),
            show_micros(latency.p99),
            show_micros(latency.p999),
            show_micros(latency.p9999),
            show_micros(latency.max),
            role.latency_of
        );
    }
}

fn broker_lines(text: &mut String, broker: &BrokerUse) {
    let _ = writeln!(
        text,
        "  broker      {:.3} µs CPU a record, {:.2} s CPU a GB, {:.2} cores, {:.3} context switches a record",
        broker.cpu_micros_per_record,
        broker.cpu_seconds_per_gigabyte,
        broker.cores,
        broker.context_switches_per_record
    );
    let _ = writeln!(
        text,
        "              {} resident (at most {}), {} written to disk, {} read",
        show_bytes(broker.resident_bytes as f64),
        show_bytes(broker.resident_bytes_max as f64),
        show_bytes(broker.written_bytes as f64),
        show_bytes(broker.read_bytes as f64)
    );
}

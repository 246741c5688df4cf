//! A report on the terminal.

use std::fmt::Write;

use super::{BrokerUse, GroupsReport, Rebalance, Report, RoleReport, STEAL_PERCENT_MAX, TransactionsReport};
use crate::measure::Role;
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
        let what = report.roles.first().map_or("record", |role| role.role.counts());
        broker_lines(&mut text, broker, what);
    }
    if let Some(groups) = &report.groups {
        groups_lines(&mut text, groups);
    }
    if let Some(transactions) = &report.transactions {
        transactions_lines(&mut text, transactions);
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
    let things = if report.groups.is_some() { "requests" } else { "records" };
    for (error, records) in &report.errors {
        let _ = writeln!(text, "  ERROR       {error}: {records} {things}");
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
    let (name, rate) = (role.role.name(), show_count(role.records_per_second));
    let (what, count, requests) = (role.role.counts(), role.records, role.requests);
    let _ = match role.role {
        Role::Heartbeat | Role::Commit => {
            writeln!(text, "  {name:<11} {rate} {what}s/s{asked}; {count} {what}s")
        }
        _ => {
            let bytes = show_bytes(role.payload_bytes_per_second);
            writeln!(
                text,
                "  {name:<11} {rate} {what}s/s{asked}, {bytes}/s; {count} {what}s in {requests} requests"
            )
        }
    };
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

/// `what`: that costs are counted for.
fn broker_lines(text: &mut String, broker: &BrokerUse, what: &str) {
    let per_gigabyte = match broker.cpu_seconds_per_gigabyte {
        // of what has no bytes
        _ if what != "record" => String::new(),
        seconds => format!("{seconds:.2} s CPU a GB, "),
    };
    let _ = writeln!(
        text,
        "  broker      {:.3} µs CPU a {what}, {per_gigabyte}{:.2} cores, {:.3} context switches a {what}",
        broker.cpu_micros_per_record, broker.cores, broker.context_switches_per_record
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

fn groups_lines(text: &mut String, groups: &GroupsReport) {
    let seconds = |seconds: f64| show_micros(seconds * 1e6);
    let cpu = |used: Option<f64>| {
        used.map_or(String::new(), |used| format!(", {} of the broker's CPU", seconds(used)))
    };
    let GroupsReport { groups: count, members, protocol, stable_seconds, .. } = groups;
    let _ = writeln!(
        text,
        "  groups      {count} of {members}, protocol {protocol}: stable after {}{}",
        seconds(*stable_seconds),
        cpu(groups.stable_cpu_seconds)
    );
    if let (Some(idle), Some(of_one)) = (groups.idle_cores, groups.cpu_micros_per_heartbeat) {
        let _ = writeln!(
            text,
            "              {of_one:.2} µs CPU a heartbeat beyond the {idle:.3} cores without groups"
        );
    }
    if let (Some(connection), Some(member)) = (groups.bytes_per_connection, groups.bytes_per_member) {
        let (connection, member) = (show_bytes(connection), show_bytes(member));
        let _ = writeln!(text, "              resident memory: {connection} a connection, {member} a member");
    }
    for rebalance in &groups.rebalances {
        let Rebalance { trigger, requests, steal_percent, .. } = rebalance;
        let _ = writeln!(
            text,
            "  rebalance   a member {trigger}: {}{}, {requests} requests, steal {steal_percent:.1} %",
            seconds(rebalance.seconds),
            cpu(rebalance.cpu_seconds)
        );
    }
}

fn transactions_lines(text: &mut String, transactions: &TransactionsReport) {
    let TransactionsReport { producers, protocol, partitions, retries, .. } = transactions;
    let cpu = transactions
        .cpu_micros_per_partition
        .map_or(String::new(), |micros| format!("; {} of the broker's CPU a partition", show_micros(micros)));
    let _ = writeln!(
        text,
        "  protocol    {protocol}, {producers} producers, {partitions} partitions a transaction{cpu}"
    );
    let waited = show_micros(transactions.waited_micros_per_transaction);
    for (what, count) in retries {
        let _ = writeln!(text, "  retries     {what}: {count}");
    }
    if !retries.is_empty() {
        let _ = writeln!(text, "              {waited} of waiting to send again, a transaction");
    }
}

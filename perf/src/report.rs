//! What a run says at its end, and the progress line before.

use std::time::Duration;

use hdrhistogram::Histogram;

use crate::host;

pub struct Totals {
    pub what: &'static str,
    pub records: u64,
    pub bytes: u64,
    pub requests: u64,
    pub elapsed: Duration,
    /// Microseconds per request.
    pub latency: Histogram<u64>,
    pub steal_percent: f64,
    /// CPU time the broker's process used meanwhile, and its resident bytes at the end.
    pub broker: Option<(Duration, u64)>,
}

pub fn print(totals: &Totals, settings: &str) {
    let seconds = totals.elapsed.as_secs_f64();
    println!("{} · {settings}", totals.what);
    println!("  host        {}", host::describe());
    println!(
        "  throughput  {:.0} records/s, {:.1} MB/s, {:.0} requests/s over {seconds:.1} s",
        totals.records as f64 / seconds,
        totals.bytes as f64 / 1e6 / seconds,
        totals.requests as f64 / seconds
    );
    let at = |quantile: f64| Duration::from_micros(totals.latency.value_at_quantile(quantile));
    println!(
        "  latency     p50 {:.2?}, p99 {:.2?}, p99.9 {:.2?}, max {:.2?} per request",
        at(0.5),
        at(0.99),
        at(0.999),
        Duration::from_micros(totals.latency.max())
    );
    if let Some((cpu, resident)) = totals.broker {
        println!(
            "  broker      {:.3} µs CPU per record, {:.2} s CPU per GB, {:.2} cores, {:.0} MiB resident",
            cpu.as_secs_f64() * 1e6 / totals.records as f64,
            cpu.as_secs_f64() * 1e9 / totals.bytes as f64,
            cpu.as_secs_f64() / seconds,
            resident as f64 / (1 << 20) as f64
        );
    }
    let verdict = if totals.steal_percent > 3.0 { "too noisy, drop this run" } else { "usable" };
    println!("  CPU steal   {:.1} % ({verdict})", totals.steal_percent);
}

//! Runs work over and over and tells what it takes.
//!
//! Each line: what, nanoseconds of CPU time per operation (the best and the middle of several runs), records and
//! bytes per second of CPU time at the best. CPU time, so that other work on the machine counts less; caches are
//! still shared with it. The last line says how much the host took meanwhile; above 3 % run again.

use std::hint::black_box;
use std::time::Duration;

const RUNS: usize = 25;
const RUN_TIME: Duration = Duration::from_millis(20);

/// Runs those benchmarks whose names hold what the command line asks for.
pub struct Bench {
    filter: String,
    steal_before: Option<(u64, u64)>,
}

impl Bench {
    /// Prints the head of the table.
    pub fn begin() -> Bench {
        // cargo passes flags of its own
        let filter = std::env::args().skip(1).find(|argument| !argument.starts_with('-')).unwrap_or_default();
        println!(
            "{:<44} {:>11} {:>11} {:>12} {:>12}",
            "benchmark", "best ns/op", "ns/op", "M records/s", "MB/s"
        );
        Bench { filter, steal_before: cpu_times() }
    }

    /// Prints how much of the CPU others had.
    pub fn end(self) {
        print_steal(self.steal_before);
    }

    /// Runs `work` over and over; `records` and `bytes` are what one call handles, 0 where there is no such figure.
    pub fn run<R>(&self, name: &str, records: usize, bytes: usize, mut work: impl FnMut() -> R) {
        if !name.contains(&self.filter) {
            return;
        }
        let mut calls = 1_u32;
        while time(calls, &mut work) < RUN_TIME / 10 {
            calls *= 4;
        }
        let calls = (f64::from(calls) * RUN_TIME.as_secs_f64() / time(calls, &mut work).as_secs_f64()) as u32;
        let calls = calls.max(1);
        let mut nanos: Vec<f64> =
            (0..RUNS).map(|_| time(calls, &mut work).as_secs_f64() * 1e9 / f64::from(calls)).collect();
        nanos.sort_by(f64::total_cmp);
        let (best, middle) = (nanos[0], nanos[RUNS / 2]);
        let rate = |amount: usize, scale: f64| match amount {
            0 => "-".to_owned(),
            amount => format!("{:.1}", amount as f64 / best * 1e9 / scale),
        };
        println!(
            "{name:<44} {best:>11.1} {middle:>11.1} {:>12} {:>12}",
            rate(records, 1e6),
            rate(bytes, 1e6)
        );
    }
}

fn time<R>(calls: u32, work: &mut impl FnMut() -> R) -> Duration {
    let start = cpu_time();
    for _ in 0..calls {
        black_box(work());
    }
    cpu_time() - start
}

/// What this thread has run so far.
fn cpu_time() -> Duration {
    let mut now = libc::timespec { tv_sec: 0, tv_nsec: 0 };
    // SAFETY: the call writes one timespec to where the reference points.
    let result = unsafe { libc::clock_gettime(libc::CLOCK_THREAD_CPUTIME_ID, &mut now) };
    assert_eq!(result, 0, "every Linux has the clock");
    Duration::new(now.tv_sec as u64, now.tv_nsec as u32)
}

/// All CPU time since boot and the part the host took away, in ticks.
fn cpu_times() -> Option<(u64, u64)> {
    let stat = std::fs::read_to_string("/proc/stat").ok()?;
    let fields: Vec<u64> =
        stat.lines().next()?.split_whitespace().skip(1).filter_map(|field| field.parse().ok()).collect();
    Some((fields.iter().take(8).sum(), *fields.get(7)?))
}

fn print_steal(before: Option<(u64, u64)>) {
    match before.zip(cpu_times()) {
        Some(((all_before, steal_before), (all, steal))) if all > all_before => {
            let percent = (steal - steal_before) as f64 / (all - all_before) as f64 * 100.0;
            println!("CPU steal during the run: {percent:.1} %");
        }
        _ => println!("CPU steal: not known here"),
    }
}

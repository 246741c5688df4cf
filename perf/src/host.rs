//! What the machine says: CPU steal, a process's CPU time and memory, the host's name for the report.

use std::fs;
use std::time::Duration;

/// Jiffies of all CPUs since boot: stolen by the hypervisor, and in total.
#[derive(Clone, Copy)]
pub struct CpuTime {
    steal: u64,
    total: u64,
}

impl CpuTime {
    pub fn now() -> CpuTime {
        let text = fs::read_to_string("/proc/stat").unwrap_or_default();
        let fields = text.lines().next().unwrap_or_default().split_whitespace().skip(1);
        let jiffies: Vec<u64> = fields.take(8).filter_map(|field| field.parse().ok()).collect();
        CpuTime { steal: jiffies.get(7).copied().unwrap_or(0), total: jiffies.iter().sum() }
    }

    /// Per cent of the time since then that the hypervisor gave to others.
    pub fn steal_percent_since(self) -> f64 {
        let now = CpuTime::now();
        let total = now.total.saturating_sub(self.total).max(1);
        now.steal.saturating_sub(self.steal) as f64 * 100.0 / total as f64
    }
}

/// User and system time a process has used, all threads.
pub fn process_cpu(pid: u32) -> Option<Duration> {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    // the command's name may hold spaces: fields count from behind its closing parenthesis
    let fields: Vec<&str> = stat.rsplit_once(')')?.1.split_whitespace().collect();
    let jiffies = fields.get(11)?.parse::<u64>().ok()? + fields.get(12)?.parse::<u64>().ok()?;
    Some(Duration::from_millis(jiffies * 10))
}

/// Resident memory of a process in bytes.
pub fn process_resident(pid: u32) -> Option<u64> {
    let statm = fs::read_to_string(format!("/proc/{pid}/statm")).ok()?;
    Some(statm.split_whitespace().nth(1)?.parse::<u64>().ok()? * 4096)
}

/// CPU model, count, kernel: one line.
pub fn describe() -> String {
    let cpuinfo = fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
    let model = cpuinfo.lines().find_map(|line| line.strip_prefix("model name")).unwrap_or(": unknown CPU");
    let count = cpuinfo.lines().filter(|line| line.starts_with("processor")).count();
    let kernel = fs::read_to_string("/proc/sys/kernel/osrelease").unwrap_or_default();
    format!("{count} x {}, Linux {}", model.trim_start_matches([' ', '\t', ':']), kernel.trim())
}

//! What the machine says: CPU steal, what a process uses, who listens on a port, the host's name for the report.

use std::fs;
use std::net::{SocketAddr, ToSocketAddrs};
use std::os::unix::fs::MetadataExt;
use std::path::Path;

use serde::{Deserialize, Serialize};

/// Jiffies of all CPUs since boot: used by somebody on this machine, stolen by the hypervisor, and in total.
#[derive(Clone, Copy, Debug)]
pub struct CpuTime {
    busy: u64,
    steal: u64,
    total: u64,
}

impl CpuTime {
    #[must_use]
    pub fn now() -> CpuTime {
        let text = fs::read_to_string("/proc/stat").unwrap_or_default();
        CpuTime::of(text.lines().next().unwrap_or_default())
    }

    /// From the first line of /proc/stat: user, nice, system, idle, waiting for disks, interrupts, soft interrupts, stolen.
    fn of(line: &str) -> CpuTime {
        let fields = line.split_whitespace().skip(1);
        let jiffies: Vec<u64> = fields.take(8).filter_map(|field| field.parse().ok()).collect();
        let at = |place: usize| jiffies.get(place).copied().unwrap_or(0);
        let total: u64 = jiffies.iter().sum();
        CpuTime { busy: total - at(3) - at(4) - at(7), steal: at(7), total }
    }

    /// CPU time that was used since `earlier`, by processes and by the kernel's own threads.
    #[must_use]
    pub fn busy_seconds_since(self, earlier: CpuTime) -> f64 {
        self.busy.saturating_sub(earlier.busy) as f64 / rustix::param::clock_ticks_per_second() as f64
    }

    /// Per cent of the time since `earlier` that the hypervisor gave to others.
    #[must_use]
    pub fn steal_percent_since(self, earlier: CpuTime) -> f64 {
        let total = self.total.saturating_sub(earlier.total).max(1);
        self.steal.saturating_sub(earlier.steal) as f64 * 100.0 / total as f64
    }
}

/// What a process has used since it began, and what it holds now.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct ProcessUse {
    pub cpu: CpuUse,
    pub resident_bytes: u64,
    /// To and from the disk, as far as the kernel lets us see.
    pub written_bytes: u64,
    pub read_bytes: u64,
    /// Of the threads there are.
    pub context_switches: u64,
}

impl ProcessUse {
    /// `None` if there is no such process.
    #[must_use]
    pub fn of(pid: u32) -> Option<ProcessUse> {
        let stat = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
        // the command's name may hold spaces: fields count from behind its closing parenthesis
        let fields: Vec<&str> = stat.rsplit_once(')')?.1.split_whitespace().collect();
        let jiffies = fields.get(11)?.parse::<u64>().ok()? + fields.get(12)?.parse::<u64>().ok()?;
        let statm = fs::read_to_string(format!("/proc/{pid}/statm")).ok()?;
        let pages: u64 = statm.split_whitespace().nth(1)?.parse().ok()?;
        let io = fs::read_to_string(format!("/proc/{pid}/io")).unwrap_or_default();
        let mut context_switches = 0;
        for thread in fs::read_dir(format!("/proc/{pid}/task")).ok()?.flatten() {
            let status = fs::read_to_string(thread.path().join("status")).unwrap_or_default();
            context_switches +=
                field(&status, "voluntary_ctxt_switches:") + field(&status, "nonvoluntary_ctxt_switches:");
        }
        Some(ProcessUse {
            cpu: CpuUse { ticks: jiffies, nanos: cpu_nanos(pid).unwrap_or(0) },
            resident_bytes: pages * rustix::param::page_size() as u64,
            written_bytes: field(&io, "write_bytes:"),
            read_bytes: field(&io, "read_bytes:"),
            context_switches,
        })
    }
}

/// CPU time of a process since it began, counted twice: finely without the threads that have ended, coarsely with them.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct CpuUse {
    /// Of all threads there were, of the kernel's clock, which goes a hundred times a second.
    ticks: u64,
    /// Of the threads there are.
    nanos: u64,
}

impl CpuUse {
    /// Seconds of CPU since `earlier`: in nanoseconds, unless threads have ended with more than that.
    #[must_use]
    pub fn seconds_since(self, earlier: CpuUse) -> f64 {
        /// User and system time are each cut off to a whole tick, so that two may be of rounding.
        const ROUNDING: u64 = 2;
        let second = rustix::param::clock_ticks_per_second() as f64;
        let ticks = self.ticks.saturating_sub(earlier.ticks);
        let fine = self.nanos.saturating_sub(earlier.nanos) as f64 / 1e9;
        if ticks.saturating_sub(ROUNDING) as f64 / second > fine { ticks as f64 / second } else { fine }
    }
}

/// CPU time of the threads a process has now, nanoseconds: finer than /proc/PID/stat, which counts in hundredths of a
/// second. `None` if there is no such process or the kernel does not tell.
#[must_use]
pub fn cpu_nanos(pid: u32) -> Option<u64> {
    let threads = fs::read_dir(format!("/proc/{pid}/task")).ok()?.flatten();
    let of_thread = |thread: fs::DirEntry| {
        let text = fs::read_to_string(thread.path().join("schedstat")).ok()?;
        text.split_whitespace().next()?.parse::<u64>().ok()
    };
    // one that has just ended counts for nothing
    let nanos: Vec<u64> = threads.filter_map(of_thread).collect();
    (!nanos.is_empty()).then(|| nanos.iter().sum())
}

fn field(text: &str, name: &str) -> u64 {
    let line = text.lines().find_map(|line| line.strip_prefix(name));
    line.and_then(|value| value.trim().parse().ok()).unwrap_or(0)
}

/// Lets this process open as many files, and so connections, as its hard limit says.
pub fn allow_open_files() {
    use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
    let limit = getrlimit(Resource::Nofile);
    // refused, it stays as it is, and connecting says why it fails
    let _ = setrlimit(Resource::Nofile, Rlimit { current: limit.maximum, maximum: limit.maximum });
}

/// The process on this machine that listens at this address, if it can be seen.
#[must_use]
pub fn listener(address: &str) -> Option<u32> {
    let addresses: Vec<SocketAddr> = address.to_socket_addrs().ok()?.collect();
    let port = addresses.iter().find(|address| address.ip().is_loopback())?.port();
    let inodes: Vec<String> =
        ["/proc/net/tcp", "/proc/net/tcp6"].iter().flat_map(|file| listening(file, port)).collect();
    let sockets: Vec<String> = inodes.iter().map(|inode| format!("socket:[{inode}]")).collect();
    let processes = fs::read_dir("/proc").ok()?.flatten();
    let mut pids = processes.filter_map(|entry| entry.file_name().to_str()?.parse::<u32>().ok());
    pids.find(|pid| {
        let Ok(descriptors) = fs::read_dir(format!("/proc/{pid}/fd")) else { return false };
        let mut targets =
            descriptors.flatten().filter_map(|descriptor| fs::read_link(descriptor.path()).ok());
        targets.any(|target| sockets.iter().any(|socket| target.as_os_str() == socket.as_str()))
    })
}

/// Inodes of the sockets that listen on the port, from one of the kernel's tables.
fn listening(file: &str, port: u16) -> Vec<String> {
    const LISTEN: &str = "0A";
    let text = fs::read_to_string(file).unwrap_or_default();
    let mut inodes = Vec::new();
    for line in text.lines().skip(1) {
        let fields: Vec<&str> = line.split_whitespace().collect();
        let [_, local, _, state, _, _, _, _, _, inode, ..] = fields[..] else { continue };
        let of_port = local.rsplit_once(':').and_then(|(_, port)| u16::from_str_radix(port, 16).ok());
        if state == LISTEN && of_port == Some(port) {
            inodes.push(inode.to_owned());
        }
    }
    inodes
}

/// The command line of a process.
#[must_use]
pub fn command(pid: u32) -> Option<String> {
    let line = fs::read(format!("/proc/{pid}/cmdline")).ok()?;
    let words = line.split(|byte| *byte == 0).filter(|word| !word.is_empty());
    Some(words.map(String::from_utf8_lossy).collect::<Vec<_>>().join(" "))
}

/// How much the kernel reads ahead, for those who go through its page cache, on the disk that holds this folder.
#[must_use]
pub fn read_ahead_kib(folder: &Path) -> Option<u64> {
    let device = fs::metadata(folder).ok()?.dev();
    let disk = format!("/sys/dev/block/{}:{}", rustix::fs::major(device), rustix::fs::minor(device));
    // a partition's queue is its disk's
    let found = ["queue", "../queue"]
        .iter()
        .find_map(|queue| fs::read_to_string(format!("{disk}/{queue}/read_ahead_kb")).ok());
    found?.trim().parse().ok()
}

/// The machine a run was made on.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Host {
    pub cpu: String,
    pub cpus: usize,
    pub memory_bytes: u64,
    pub kernel: String,
}

impl Host {
    #[must_use]
    pub fn this() -> Host {
        let cpuinfo = fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
        let model = cpuinfo.lines().find_map(|line| line.strip_prefix("model name")).unwrap_or("unknown CPU");
        let meminfo = fs::read_to_string("/proc/meminfo").unwrap_or_default();
        let memory = meminfo.lines().find_map(|line| line.strip_prefix("MemTotal:")).unwrap_or_default();
        let kernel = fs::read_to_string("/proc/sys/kernel/osrelease").unwrap_or_default();
        Host {
            cpu: model.trim_start_matches([' ', '\t', ':']).to_owned(),
            cpus: cpuinfo.lines().filter(|line| line.starts_with("processor")).count(),
            memory_bytes: memory.trim().trim_end_matches("kB").trim().parse::<u64>().unwrap_or(0) * 1024,
            kernel: kernel.trim().to_owned(),
        }
    }
}

impl std::fmt::Display for Host {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let memory = self.memory_bytes as f64 / f64::from(1 << 30);
        write!(f, "{} x {}, {memory:.0} GiB, Linux {}", self.cpus, self.cpu, self.kernel)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_process_that_listens_is_found() {
        let listener_here = std::net::TcpListener::bind("127.0.0.1:0").expect("a port");
        let address = listener_here.local_addr().expect("an address").to_string();
        assert_eq!(listener(&address), Some(std::process::id()));
        drop(listener_here);
        assert_eq!(listener(&address), None);
    }

    #[test]
    fn who_waits_is_not_busy() {
        let before = CpuTime::of("cpu  10 20 30 1000 500 1 2 7 3 0");
        let after = CpuTime::of("cpu  110 20 130 2000 700 51 52 107 3 0");
        let tick = 1.0 / rustix::param::clock_ticks_per_second() as f64;
        assert!((after.busy_seconds_since(before) - 300.0 * tick).abs() < 1e-9);
        assert!((after.steal_percent_since(before) - 100.0 * 100.0 / 1600.0).abs() < 1e-9);
    }

    #[test]
    fn threads_that_ended_are_counted_in_ticks() {
        let tick = 1_000_000_000 / rustix::param::clock_ticks_per_second();
        let before = CpuUse { ticks: 100, nanos: 100 * tick + 7 };
        let check = |ticks: u64, nanos: u64, expect: u64| {
            let seconds = CpuUse { ticks, nanos }.seconds_since(before);
            assert!((seconds * 1e9 - expect as f64).abs() < 1.0, "{ticks} ticks, {nanos} ns: {seconds} s");
        };
        check(100, 100 * tick + 9, 2);
        check(102, 100 * tick + 9, 2);
        // a thread that had used 50 ticks before has ended, after 10 more
        check(110, 50 * tick + 7, 10 * tick);
        check(110, 110 * tick, 10 * tick - 7);
    }

    #[test]
    fn a_process_uses_something() {
        let now = ProcessUse::of(std::process::id()).expect("this process");
        assert!(now.resident_bytes > 100_000 && now.context_switches > 0, "{now:?}");
        assert_eq!(ProcessUse::of(u32::MAX), None);
        let before = cpu_nanos(std::process::id()).expect("this process");
        let mut state = 1_u64;
        // what a thread uses is told at the next tick of the kernel's at the latest
        while cpu_nanos(std::process::id()).is_some_and(|nanos| nanos < before + 1_000_000) {
            state = std::hint::black_box(state.wrapping_mul(3));
        }
        assert_eq!(cpu_nanos(u32::MAX), None);
    }
}

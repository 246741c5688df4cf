//! What the process and its threads take of the machine: for metrics.
#![allow(unsafe_code)]

use std::fs;
use std::io;
use std::time::Duration;

use super::machine::{Resource, limit};
use super::runtime::{self, Runtime};

/// CPU time of this shard's thread since its start. A system call of some 0.3 µs.
#[must_use]
pub fn thread_cpu_time() -> Duration {
    match runtime::current() {
        Runtime::Glommio(_) => clock(libc::CLOCK_THREAD_CPUTIME_ID),
        #[cfg(any(test, feature = "sim"))]
        Runtime::Virtual(_) => Duration::ZERO,
    }
}

/// The whole process, as the kernel counts it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct ProcessUsage {
    pub cpu: Duration,
    pub resident_bytes: u64,
    pub open_files: u64,
    pub open_files_max: u64,
}

/// Reads `/proc`, where each open file is one entry: for the blocking pool. What cannot be told is 0.
#[must_use]
pub fn process_usage() -> ProcessUsage {
    ProcessUsage {
        cpu: clock(libc::CLOCK_PROCESS_CPUTIME_ID),
        resident_bytes: resident_bytes().unwrap_or(0),
        // without the one that lists them
        open_files: fs::read_dir("/proc/self/fd").map_or(0, |files| files.count().saturating_sub(1) as u64),
        open_files_max: limit(Resource::OpenFiles).map_or(0, |limit| limit.soft),
    }
}

fn clock(id: libc::clockid_t) -> Duration {
    let mut time = libc::timespec { tv_sec: 0, tv_nsec: 0 };
    // SAFETY: `time` is a valid place for the answer.
    let failed = unsafe { libc::clock_gettime(id, &raw mut time) } != 0;
    assert!(!failed, "the kernel has the clock {id}: {}", io::Error::last_os_error());
    let part = |number: i64| u64::try_from(number).expect("CPU time is not negative");
    Duration::from_secs(part(time.tv_sec)) + Duration::from_nanos(part(time.tv_nsec))
}

fn resident_bytes() -> Option<u64> {
    let statm = fs::read_to_string("/proc/self/statm").ok()?;
    let pages: u64 = statm.split(' ').nth(1)?.parse().ok()?;
    // SAFETY: reads a constant of the system.
    let page = unsafe { libc::sysconf(libc::_SC_PAGESIZE) };
    Some(pages * u64::try_from(page).ok()?)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_process_takes_something() {
        let first = process_usage();
        assert!(first.cpu > Duration::ZERO && first.resident_bytes > 1 << 20, "{first:?}");
        assert!(first.open_files >= 3 && first.open_files <= first.open_files_max, "{first:?}");
        let own = clock(libc::CLOCK_THREAD_CPUTIME_ID);
        assert!(own <= clock(libc::CLOCK_PROCESS_CPUTIME_ID));
    }
}

//! `corelane tune disk`: what the data disk can do, measured past the page cache with the broker's own means.
//!
//! One file in the data directory, without a name from its first moment on, so that nothing stays behind however the
//! run ends. Writes and reads go one block after the other as a log does; commits are one write and one flush.

mod measure;
mod report;
mod ring;

use std::fs::{File, OpenOptions};
use std::io::{self, Write};
use std::os::fd::AsRawFd;
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::time::Duration;

use clap::Args;

use self::measure::{Direction, Durable, Extents, Stream, Target};
use self::report::{Report, Step};
use self::ring::{FileIndex, Refused, Ring};
use crate::data_disk::DataDisk;
use crate::host::existing_ancestor;
use crate::printed;
use crate::root::Root;

const BLOCKS: [u32; 4] = [4 << 10, 16 << 10, 128 << 10, 1 << 20];
const DEPTHS: [usize; 3] = [1, 4, 16];
const COMMIT_BLOCKS: [u32; 3] = [4 << 10, 16 << 10, 1 << 20];
const EXTENTS: [Extents; 3] = [Extents::PreWritten, Extents::Fallocated, Extents::Extending];

/// The block at which O_DSYNC is compared, and that the limits name.
const COMMIT_BLOCK: u32 = 16 << 10;

const BUFFER_BYTES: u32 = 1 << 20;
const SLOTS: u16 = 16;

/// Room for a few of the largest blocks.
const SIZE_MIN: u64 = 4 << 20;

/// A longer step than an hour is a slip of the finger.
const STEP_SECONDS_MAX: f64 = 3600.0;

#[derive(Args, Debug)]
pub struct Options {
    /// The broker's data directory (its nearest parent that exists is measured).
    #[arg(long, value_name = "DIR", default_value = "./corelane-data")]
    data: PathBuf,

    /// Bytes of the file; twice as many must be free.
    #[arg(long, value_name = "BYTES", default_value = "1GiB", value_parser = size)]
    size: u64,

    /// How long each of the 34 steps takes.
    #[arg(long, value_name = "SECONDS", default_value = "2", value_parser = step_time)]
    seconds_per_step: Duration,

    /// Print one JSON document instead of tables.
    #[arg(long)]
    json: bool,
}

/// One measured thing.
enum Plan {
    Stream(Stream),
    Commit { block_bytes: u32, extents: Extents, durable: Durable },
}

pub(crate) fn run(options: &Options, out: &mut dyn Write) -> Result<(), String> {
    let report = measure(options)?;
    if options.json {
        let text = serde_json::to_string_pretty(&report)
            .map_err(|error| format!("the report cannot be written as JSON: {error}"))?;
        return printed(writeln!(out, "{text}"));
    }
    printed(out.write_all(report.table().as_bytes()))
}

/// Whether io_uring is there for this process; the error says what to do.
pub(crate) fn probe() -> Result<(), String> {
    ring::probe().map_err(|error| refused(&Refused::Ring(error)))
}

fn measure(options: &Options) -> Result<Report, String> {
    let directory = existing_ancestor(&options.data)?
        .canonicalize()
        .map_err(|error| format!("{} cannot be looked at: {error}", options.data.display()))?;
    let data = DataDisk::below(&Root::new(Path::new("/")), &directory);
    if matches!(data.file_system.as_str(), "tmpfs" | "ramfs") {
        return Err(format!(
            "{} is memory ({}), there is no disk to measure: name a directory on a disk with --data",
            data.directory, data.file_system
        ));
    }
    let bytes = options.size / u64::from(BUFFER_BYTES) * u64::from(BUFFER_BYTES);
    enough_space(&directory, bytes)?;
    let files = Files::open(&directory)?;
    let mut ring = Ring::new(&[&files.plain, &files.durable, &files.growing], SLOTS, BUFFER_BYTES as usize)
        .map_err(|why| refused(&why))?;
    let plans = plans();
    eprintln!(
        "measuring {}: {} steps of {} s are {:.0} s, and before them {} MiB are written",
        data.directory,
        plans.len(),
        options.seconds_per_step.as_secs_f64(),
        options.seconds_per_step.as_secs_f64() * plans.len() as f64,
        bytes >> 20
    );
    let before = report::processor_time();
    let failed = |error: io::Error| format!("{} could not be measured: {error}", data.directory);
    measure::fill(&mut ring, files.plain(bytes), BUFFER_BYTES, DEPTHS[1]).map_err(failed)?;
    let mut steps: Vec<Step> = Vec::with_capacity(plans.len());
    for (number, plan) in plans.iter().enumerate() {
        let begin = report::processor_time();
        let step = take(&mut ring, &files, bytes, plan, options.seconds_per_step).map_err(failed)?;
        let step = step.stolen(report::steal_percent(begin, report::processor_time()));
        eprintln!("{:2}/{} {}", number + 1, plans.len(), step.line());
        steps.push(step);
    }
    let steal_percent = report::steal_percent(before, report::processor_time());
    Ok(Report::new(data, bytes, options.seconds_per_step, steal_percent, steps))
}

fn plans() -> Vec<Plan> {
    let mut plans = Vec::new();
    for direction in [Direction::Write, Direction::Read] {
        for block_bytes in BLOCKS {
            plans.extend(DEPTHS.map(|depth| Plan::Stream(Stream { direction, block_bytes, depth })));
        }
    }
    for extents in EXTENTS {
        plans.extend(COMMIT_BLOCKS.map(|block_bytes| Plan::Commit {
            block_bytes,
            extents,
            durable: Durable::Flush,
        }));
    }
    plans.push(Plan::Commit {
        block_bytes: COMMIT_BLOCK,
        extents: Extents::PreWritten,
        durable: Durable::Open,
    });
    plans
}

fn take(ring: &mut Ring, files: &Files, bytes: u64, plan: &Plan, time: Duration) -> io::Result<Step> {
    match *plan {
        Plan::Stream(stream) => {
            let streamed = measure::stream(ring, files.plain(bytes), stream, time)?;
            Ok(Step::of_stream(stream, &streamed))
        }
        Plan::Commit { block_bytes, extents, durable } => {
            let target = match (extents, durable) {
                (Extents::PreWritten, Durable::Flush) => files.plain(bytes),
                (Extents::PreWritten, Durable::Open) => files.durable(bytes),
                (Extents::Extending | Extents::Fallocated, _) => files.growing(bytes),
            };
            let committed = measure::commit(ring, target, extents, durable, block_bytes, time)?;
            Ok(Step::of_commits(block_bytes, extents, durable, &committed))
        }
    }
}

/// The files, all without a name: they are gone with the process.
struct Files {
    /// Written once before the steps.
    plain: File,
    /// The same file, opened so that each write is durable when it returns.
    durable: File,
    /// Made empty again and again.
    growing: File,
}

impl Files {
    fn open(directory: &Path) -> Result<Files, String> {
        let (plain, durable) = nameless(directory, "fixed")?;
        let (growing, _) = nameless(directory, "growing")?;
        Ok(Files { plain, durable, growing })
    }

    fn plain(&self, bytes: u64) -> Target<'_> {
        Target { file: &self.plain, index: FileIndex(0), bytes }
    }

    fn durable(&self, bytes: u64) -> Target<'_> {
        Target { file: &self.durable, index: FileIndex(1), bytes }
    }

    fn growing(&self, bytes: u64) -> Target<'_> {
        Target { file: &self.growing, index: FileIndex(2), bytes }
    }
}

/// A new file opened for direct I/O, twice (the second time with O_DSYNC), its name removed at once.
fn nameless(directory: &Path, purpose: &str) -> Result<(File, File), String> {
    let path = directory.join(format!(".corelane-tune-{}-{purpose}", std::process::id()));
    let open = |fresh: bool, path: &Path, flags: i32| {
        OpenOptions::new().read(true).write(true).create_new(fresh).custom_flags(flags).open(path)
    };
    let opened = open(true, &path, libc::O_DIRECT).and_then(|plain| {
        // by its descriptor: the name may lead elsewhere by now
        let same = format!("/proc/self/fd/{}", plain.as_raw_fd());
        let durable = open(false, Path::new(&same), libc::O_DIRECT | libc::O_DSYNC)?;
        Ok((plain, durable))
    });
    let exists = matches!(&opened, Err(error) if error.kind() == io::ErrorKind::AlreadyExists);
    // Some file systems create the file and then refuse direct I/O; another's file is not ours to remove.
    let removed = if exists { Ok(()) } else { std::fs::remove_file(&path) };
    let files = opened.map_err(|error| match error.raw_os_error() {
        Some(libc::EINVAL) => format!(
            "the file system of {} knows no direct I/O: name a directory on ext4 or xfs with --data",
            directory.display()
        ),
        Some(libc::EACCES | libc::EPERM | libc::EROFS) => format!(
            "no file can be created in {} ({error}): run as the broker's user, or name another directory with --data",
            directory.display()
        ),
        _ => format!("no file can be opened in {}: {error}", directory.display()),
    })?;
    removed.map_err(|error| format!("{} cannot be removed: {error}", path.display()))?;
    Ok(files)
}

fn enough_space(directory: &Path, bytes: u64) -> Result<(), String> {
    let space = rustix::fs::statvfs(directory)
        .map_err(|error| format!("the free space in {} is not known: {error}", directory.display()))?;
    let free = space.f_bavail.saturating_mul(space.f_frsize);
    let needed = bytes.saturating_mul(2);
    if free < needed {
        return Err(format!(
            "{} MiB are free in {} and {} MiB are needed: make room, or choose a smaller --size",
            free >> 20,
            directory.display(),
            needed >> 20
        ));
    }
    Ok(())
}

fn refused(why: &Refused) -> String {
    let memory = format!(
        "too little memory may be locked for {} MiB of buffers: raise it (ulimit -l 32768, LimitMEMLOCK=infinity for systemd, --ulimit memlock=-1 for a container)",
        (usize::from(SLOTS) * BUFFER_BYTES as usize) >> 20
    );
    match why {
        Refused::Ring(error) | Refused::Buffers(error) if error.raw_os_error() == Some(libc::ENOMEM) => {
            memory
        }
        Refused::Ring(error) => match error.raw_os_error() {
            Some(libc::ENOSYS | libc::EOPNOTSUPP | libc::EINVAL) => {
                format!("this kernel offers no usable io_uring ({error}): use Linux 5.13 or newer")
            }
            Some(libc::EPERM | libc::EACCES) => format!(
                "io_uring is forbidden here ({error}): sysctl -w kernel.io_uring_disabled=0, or allow it in the container's seccomp profile"
            ),
            _ => format!("io_uring does not start: {error}"),
        },
        Refused::Buffers(error) => format!("io_uring takes no registered buffers: {error}"),
        Refused::Files(error) => format!("io_uring takes no registered files: {error}"),
    }
}

/// `1GiB`, `512M`, `1048576`: powers of 1,024 either way.
fn size(text: &str) -> Result<u64, String> {
    let digits = text.find(|character: char| !character.is_ascii_digit()).unwrap_or(text.len());
    let (number, unit) = text.split_at(digits);
    let shift = match unit.trim().to_ascii_lowercase().as_str() {
        "" | "b" => 0,
        "k" | "kib" => 10,
        "m" | "mib" => 20,
        "g" | "gib" => 30,
        "t" | "tib" => 40,
        _ => return Err("a number with KiB, MiB, GiB or TiB, for example 1GiB".into()),
    };
    let number: u64 = number.parse().map_err(|_| "a number such as 1GiB".to_owned())?;
    match number.checked_mul(1 << shift) {
        Some(bytes) if bytes >= SIZE_MIN => Ok(bytes),
        Some(_) => Err(format!("at least {} MiB", SIZE_MIN >> 20)),
        None => Err("more than any disk holds".into()),
    }
}

fn step_time(text: &str) -> Result<Duration, String> {
    let seconds: f64 = text.parse().map_err(|_| "a number of seconds, for example 0.5".to_owned())?;
    if seconds > 0.0 && seconds <= STEP_SECONDS_MAX {
        return Ok(Duration::from_secs_f64(seconds));
    }
    Err("more than 0 and at most 3600 seconds".into())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes() {
        let check = |text: &str, expect: Option<u64>| assert_eq!(size(text).ok(), expect, "{text}");
        check("1GiB", Some(1 << 30));
        check("8m", Some(8 << 20));
        check("4194304", Some(4 << 20));
        check("4194303", None);
        check("99999999999999T", None);
        check("GiB", None);
        check("1 fathom", None);
        check("", None);
    }

    #[test]
    fn step_times() {
        let check = |text: &str, expect: Option<u64>| {
            assert_eq!(step_time(text).ok(), expect.map(Duration::from_millis), "{text}");
        };
        check("0.5", Some(500));
        check("2", Some(2000));
        for bad in ["0", "-1", "nan", "inf", "1e9", "soon"] {
            check(bad, None);
        }
    }

    #[test]
    fn refusals_say_what_to_do() {
        let check = |why: fn(io::Error) -> Refused, errno: i32, expect: &str| {
            let line = refused(&why(io::Error::from_raw_os_error(errno)));
            assert!(line.contains(expect), "{line}");
        };
        check(Refused::Ring, libc::ENOSYS, "Linux 5.13");
        check(Refused::Ring, libc::EPERM, "io_uring_disabled=0");
        check(Refused::Ring, libc::ENOMEM, "LimitMEMLOCK");
        check(Refused::Buffers, libc::ENOMEM, "ulimit -l");
    }

    #[test]
    fn measures_and_leaves_nothing_behind() {
        let directory = std::env::temp_dir().join(format!("corelane-tune-disk-{}", std::process::id()));
        std::fs::create_dir_all(&directory).unwrap();
        let options = Options {
            data: directory.join("not-yet-there"),
            size: 8 << 20,
            seconds_per_step: Duration::from_millis(20),
            json: true,
        };
        let mut out = Vec::new();
        let result = run(&options, &mut out);
        let left: Vec<_> = std::fs::read_dir(&directory).unwrap().collect();
        assert!(left.is_empty(), "{left:?}");
        std::fs::remove_dir(&directory).unwrap();
        if let Err(why) = &result {
            // Where temporary files are memory, or rings are forbidden, the refusal is all there is to see.
            assert!(why.contains("memory") || why.contains("io_uring") || why.contains("direct"), "{why}");
            return;
        }
        let report: serde_json::Value = serde_json::from_slice(&out).unwrap();
        let steps = report["steps"].as_array().unwrap();
        assert_eq!(steps.len(), 34);
        for step in steps {
            let number = |name: &str| step[name].as_f64().unwrap();
            assert!(number("operations") >= 1.0, "{step}");
            assert!(number("megabytes_per_second") > 0.0, "{step}");
            assert!(number("p50_us") > 0.0 && number("p50_us") <= number("p99_us"), "{step}");
        }
        let best = report["limits"]["write"]["megabytes_per_second"].as_f64().unwrap();
        let writes = steps.iter().filter(|step| step["what"] == "write");
        assert!(writes.map(|step| step["megabytes_per_second"].as_f64().unwrap()).all(|speed| speed <= best));
        let commit = &report["limits"]["commit"];
        assert_eq!(commit["block_bytes"], 16 << 10);
        assert!(commit["p50_us"].as_f64().unwrap() >= commit["flush_p50_us"].as_f64().unwrap());
    }

    #[test]
    fn too_little_space_is_refused() {
        let line = enough_space(&std::env::temp_dir(), u64::MAX / 2).unwrap_err();
        assert!(line.contains("--size"), "{line}");
    }
}

//! A broker under test: the built binary as a process of its own, on a free port, with a data directory of its own.
//!
//! The harness waits for events, never for time: the `ready` line on stdout, the end of the process. What the broker
//! writes to stderr is kept and printed when a test fails. A broker never outlives the thread that started it.
//!
//! Two environment variables turn the tests to another broker (see `tests/README.md`): `CORELANE_TEST_BINARY` names
//! another executable with corelane's command line, `CORELANE_TEST_BOOTSTRAP` the address of a broker that runs
//! already; that one is never stopped.

use std::io::{BufRead, BufReader, Read};
use std::net::TcpListener;
use std::os::fd::{AsRawFd, FromRawFd};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::process::{CommandExt, ExitStatusExt};
use std::path::{Path, PathBuf};
use std::process::{Command, ExitStatus, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::mpsc::{Receiver, RecvTimeoutError, channel};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

/// How long a broker may take to say `ready`; a start that recovers a large log is the slow case.
const READY: Duration = Duration::from_secs(60);
/// How long a clean stop or a refused start may take: "within seconds".
const EXIT: Duration = Duration::from_secs(20);

/// A directory under `target/tmp` that goes away with its owner, unless the test fails: then it is evidence.
pub struct TempDir(PathBuf);

impl TempDir {
    pub fn new() -> TempDir {
        static NEXT: AtomicU32 = AtomicU32::new(0);
        let number = NEXT.fetch_add(1, Ordering::Relaxed);
        let path =
            Path::new(env!("CARGO_TARGET_TMPDIR")).join(format!("broker-{}-{number}", std::process::id()));
        std::fs::create_dir_all(&path).expect("target/tmp is writable");
        TempDir(path)
    }

    pub fn path(&self) -> &Path {
        &self.0
    }
}

impl Drop for TempDir {
    fn drop(&mut self) {
        if thread::panicking() {
            eprintln!("kept for a look: {}", self.0.display());
        } else {
            let _ = std::fs::remove_dir_all(&self.0);
        }
    }
}

/// Waits until `holds`, which is asked again whenever a file appears in the folder, goes or is renamed.
pub fn wait_for_files(folder: &Path, what: &str, mut holds: impl FnMut() -> bool) {
    let path = std::ffi::CString::new(folder.as_os_str().as_bytes()).expect("a path has no zero byte");
    let events = libc::IN_CREATE | libc::IN_DELETE | libc::IN_MOVE;
    // SAFETY: inotify_init1 gives a descriptor of our own or -1, which is not taken for one; the path is a string that
    // ends with a zero and outlives the call.
    let mut watch = unsafe {
        let watch = libc::inotify_init1(libc::IN_CLOEXEC | libc::IN_NONBLOCK);
        assert!(
            watch >= 0 && libc::inotify_add_watch(watch, path.as_ptr(), events) >= 0,
            "{folder:?} is watched"
        );
        std::fs::File::from_raw_fd(watch)
    };
    let deadline = Instant::now() + READY;
    while !holds() {
        let left = deadline.saturating_duration_since(Instant::now());
        assert!(!left.is_zero(), "not within {READY:?}: {what}");
        let mut poll = libc::pollfd { fd: watch.as_raw_fd(), events: libc::POLLIN, revents: 0 };
        let left_ms = i32::try_from(left.as_millis()).expect("a minute") + 1;
        // SAFETY: poll reads and writes the one struct it is given.
        unsafe { libc::poll(&raw mut poll, 1, left_ms) };
        // what has happened until now is in the next answer
        let mut events = [0; 16_384];
        while watch.read(&mut events).is_ok_and(|read| read > 0) {}
    }
}

/// The executable under test.
pub fn binary() -> PathBuf {
    std::env::var_os("CORELANE_TEST_BINARY")
        .map_or_else(|| env!("CARGO_BIN_EXE_corelane").into(), PathBuf::from)
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// What a process has written to stderr so far, and who waits for more.
#[derive(Default)]
struct Stderr {
    text: Mutex<String>,
    grown: Condvar,
}

/// One run of the executable.
pub struct Process {
    pid: i32,
    exit: Receiver<ExitStatus>,
    ended: Option<ExitStatus>,
    stdout: Receiver<String>,
    stderr: Arc<Stderr>,
}

impl Process {
    /// Starts `command` with both outputs captured and bound to the life of the calling thread.
    pub fn spawn(mut command: Command) -> Process {
        // SAFETY: prctl with PR_SET_PDEATHSIG is a plain system call that touches no memory; it is safe between fork
        // and exec.
        unsafe {
            command.pre_exec(|| {
                libc::prctl(libc::PR_SET_PDEATHSIG, libc::SIGKILL);
                Ok(())
            });
        }
        command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut child = command.spawn().unwrap_or_else(|error| panic!("{command:?} does not start: {error}"));
        let pid = i32::try_from(child.id()).expect("a process id is positive and small");
        let (line, stdout) = channel();
        let out = child.stdout.take().expect("stdout is piped");
        thread::spawn(move || {
            BufReader::new(out).lines().map_while(Result::ok).try_for_each(|text| line.send(text))
        });
        let stderr = Arc::new(Stderr::default());
        let kept = Arc::clone(&stderr);
        let mut err = BufReader::new(child.stderr.take().expect("stderr is piped"));
        let drained = thread::spawn(move || {
            let mut text = String::new();
            while err.read_line(&mut text).is_ok_and(|read| read > 0) {
                lock(&kept.text).push_str(&text);
                kept.grown.notify_all();
                text.clear();
            }
        });
        let (status, exit) = channel();
        thread::spawn(move || {
            let ended = child.wait().expect("a child can be waited for");
            // Whoever learns of the end finds all of stderr there.
            let _ = drained.join();
            let _ = status.send(ended);
        });
        Process { pid, exit, ended: None, stdout, stderr }
    }

    /// The banner up to the line that starts with `ready`.
    pub fn wait_ready(&mut self) -> Vec<String> {
        self.lines_until("ready")
    }

    /// Lines of stdout up to and with the first that starts with `word`.
    pub fn lines_until(&mut self, word: &str) -> Vec<String> {
        let mut lines = Vec::new();
        loop {
            match self.stdout.recv_timeout(READY) {
                Ok(line) => {
                    let found = line.starts_with(word);
                    lines.push(line);
                    if found {
                        return lines;
                    }
                }
                Err(RecvTimeoutError::Timeout) => panic!("no `{word}` after {READY:?}; it said {lines:?}"),
                Err(RecvTimeoutError::Disconnected) => {
                    let status = self.wait_exit();
                    panic!("ended with {status} before it said `{word}`; it said {lines:?}");
                }
            }
        }
    }

    /// The rest of stdout, until the process closes it.
    pub fn lines_to_end(&mut self) -> Vec<String> {
        let mut lines = Vec::new();
        loop {
            match self.stdout.recv_timeout(READY) {
                Ok(line) => lines.push(line),
                Err(RecvTimeoutError::Disconnected) => return lines,
                Err(RecvTimeoutError::Timeout) => panic!("stdout still open after {READY:?}"),
            }
        }
    }

    /// Waits for the end of the process.
    pub fn wait_exit(&mut self) -> ExitStatus {
        if let Some(status) = self.ended {
            return status;
        }
        let status = self.exit.recv_timeout(EXIT).unwrap_or_else(|_| panic!("still running after {EXIT:?}"));
        self.ended = Some(status);
        status
    }

    pub fn signal(&mut self, signal: i32) {
        if self.ended.is_none() && self.exit.try_recv().map(|status| self.ended = Some(status)).is_err() {
            // SAFETY: kill takes two integers; the process is our child and has not been reported as waited for.
            let sent = unsafe { libc::kill(self.pid, signal) };
            assert!(sent == 0 || self.exit.recv_timeout(EXIT).is_ok(), "signal {signal} could not be sent");
        }
    }

    pub fn stderr(&self) -> String {
        lock(&self.stderr.text).clone()
    }

    /// Waits until `count` lines of stderr hold `words`; gives the last of them.
    pub fn wait_logged(&self, words: &str, count: usize) -> String {
        assert!(count > 0, "nothing to wait for");
        let deadline = Instant::now() + READY;
        let mut text = lock(&self.stderr.text);
        loop {
            if let Some(line) = text.lines().filter(|line| line.contains(words)).nth(count - 1) {
                return line.to_owned();
            }
            let left = deadline.saturating_duration_since(Instant::now());
            assert!(!left.is_zero(), "not {count} times `{words}` after {READY:?}");
            text = self.stderr.grown.wait_timeout(text, left).unwrap_or_else(PoisonError::into_inner).0;
        }
    }

    pub fn pid(&self) -> i32 {
        self.pid
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        self.signal(libc::SIGKILL);
        if self.ended.is_none() {
            let _ = self.exit.recv_timeout(EXIT);
        }
        if thread::panicking() {
            eprintln!("--- stderr of process {}:\n{}---", self.pid, self.stderr());
        }
    }
}

/// What a run that was expected to fail or to end by itself has left.
pub struct Ended {
    pub status: ExitStatus,
    pub stdout: Vec<String>,
    pub stderr: String,
}

/// Runs the executable to its end.
pub fn run_to_end(command: Command) -> Ended {
    let mut process = Process::spawn(command);
    let stdout = process.lines_to_end();
    let status = process.wait_exit();
    Ended { status, stdout, stderr: process.stderr() }
}

/// How a broker is to be started.
#[derive(Clone)]
pub struct Setup {
    shards: usize,
    sets: Vec<String>,
    /// A program that runs the command line behind its own arguments.
    under: Vec<String>,
}

impl Setup {
    /// Two shards, so that requests cross the mesh, not pinned, so that tests run side by side.
    pub fn new() -> Setup {
        Setup { shards: 2, sets: Vec::new(), under: Vec::new() }
    }

    pub fn shards(mut self, shards: usize) -> Setup {
        self.shards = shards;
        self
    }

    pub fn set(mut self, key: &str, value: impl std::fmt::Display) -> Setup {
        self.sets.push(format!("{key}={value}"));
        self
    }

    /// Starts the broker as the last arguments of this command, which becomes it (`exec`).
    pub fn under(mut self, command: &[&str]) -> Setup {
        self.under = command.iter().map(|word| (*word).to_owned()).collect();
        self
    }

    /// The command line for a data directory and a port, 0 for a free one.
    pub fn command(&self, data: &Path, port: u16) -> Command {
        let mut command = match self.under.split_first() {
            Some((program, arguments)) => {
                let mut command = Command::new(program);
                command.args(arguments).arg(binary());
                command
            }
            None => Command::new(binary()),
        };
        command.arg("start").arg("--shards").arg(self.shards.to_string());
        command.arg("--set").arg(format!("listeners=PLAINTEXT://127.0.0.1:{port}"));
        command.arg("--set").arg(format!("log.dirs={}", data.display()));
        // Any free port, before what the test sets.
        command.arg("--set").arg("admin.listener=127.0.0.1:0");
        for set in &self.sets {
            command.arg("--set").arg(set);
        }
        command
    }

    pub fn start(self) -> Broker {
        if let Ok(bootstrap) = std::env::var("CORELANE_TEST_BOOTSTRAP") {
            return Broker {
                setup: self,
                dir: TempDir::new(),
                bootstrap,
                banner: Vec::new(),
                last_stderr: String::new(),
                process: None,
            };
        }
        let dir = TempDir::new();
        let mut process = Process::spawn(self.command(&dir.path().join("data"), free_port()));
        let banner = process.wait_ready();
        let bootstrap = listener(&banner);
        Broker { setup: self, dir, bootstrap, banner, last_stderr: String::new(), process: Some(process) }
    }
}

/// A port that nobody listens on, below those the kernel gives to outgoing connections: a broker that restarts on it
/// cannot find it taken by a client of another test.
pub fn free_port() -> u16 {
    static TRIED: AtomicU32 = AtomicU32::new(0);
    const FIRST: u32 = 12_000;
    const COUNT: u32 = 20_000;
    for _ in 0..COUNT {
        let tried = TRIED.fetch_add(1, Ordering::Relaxed);
        let port = FIRST + (std::process::id().wrapping_mul(97) + tried) % COUNT;
        let port = u16::try_from(port).expect("below 32,000");
        if TcpListener::bind(("127.0.0.1", port)).is_ok() {
            return port;
        }
    }
    panic!("no free port from {FIRST} to {}", FIRST + COUNT);
}

/// The first of so many of such ports in a row.
pub fn free_ports(count: u16) -> u16 {
    // each is given to one test only
    let mut first = free_port();
    let mut last = first;
    while last - first + 1 < count {
        let next = free_port();
        if next != last + 1 {
            first = next;
        }
        last = next;
    }
    first
}

/// The first listener's `host:port` as the banner prints it.
pub fn listener(banner: &[String]) -> String {
    let address = banner
        .iter()
        .find_map(|line| line.split_whitespace().find_map(|word| word.strip_prefix("PLAINTEXT://")));
    address.unwrap_or_else(|| panic!("no listener in the banner {banner:?}")).trim_end_matches(',').to_owned()
}

/// The admin listener's `host:port` as the banner prints it.
fn admin(banner: &[String]) -> Option<&str> {
    let word = banner.iter().find_map(|line| line.trim_start().strip_prefix("admin"))?;
    word.trim().strip_prefix("http://")?.strip_suffix("/metrics")
}

/// A running broker.
pub struct Broker {
    // First, so that the process is gone before its directory goes.
    process: Option<Process>,
    dir: TempDir,
    setup: Setup,
    bootstrap: String,
    banner: Vec<String>,
    last_stderr: String,
}

impl Broker {
    pub fn start() -> Broker {
        Setup::new().start()
    }

    /// `host:port` for clients.
    pub fn bootstrap(&self) -> &str {
        &self.bootstrap
    }

    /// `host:port` of its metrics and health checks.
    pub fn admin(&self) -> &str {
        admin(&self.banner).unwrap_or_else(|| panic!("no admin listener in the banner {:?}", self.banner))
    }

    /// What it printed up to and with `ready`.
    pub fn banner(&self) -> &[String] {
        &self.banner
    }

    /// The directory given as `log.dirs`.
    pub fn data(&self) -> PathBuf {
        self.dir.path().join("data")
    }

    /// Scratch space that lives as long as the broker.
    pub fn scratch(&self) -> &Path {
        self.dir.path()
    }

    /// Whether somebody else runs this broker (`CORELANE_TEST_BOOTSTRAP`): it can be talked to, not stopped.
    pub fn is_external(&self) -> bool {
        self.process.is_none() && std::env::var_os("CORELANE_TEST_BOOTSTRAP").is_some()
    }

    fn own(&mut self) -> &mut Process {
        self.process.as_mut().expect("this test stops or measures its broker, so it needs one of its own")
    }

    /// Sends a signal and waits for nothing.
    pub fn signal(&mut self, signal: i32) {
        self.own().signal(signal);
    }

    /// SIGTERM; asserts a clean end with exit code 0 within seconds.
    pub fn stop(&mut self) {
        self.stop_with(libc::SIGTERM);
    }

    pub fn stop_with(&mut self, signal: i32) {
        self.signal(signal);
        self.wait_stopped();
    }

    /// As [`Broker::stop`], for one that was told to.
    pub fn wait_stopped(&mut self) {
        let process = self.own();
        let status = process.wait_exit();
        assert!(status.success(), "a stop should end with code 0, it ended with {status}");
        assert!(!process.stderr().contains("panicked"), "it panicked on the way down");
        self.last_stderr = process.stderr();
        self.process = None;
    }

    /// SIGTERM, where something was wrong: how it ended.
    pub fn stop_uncleanly(&mut self) -> ExitStatus {
        let process = self.own();
        process.signal(libc::SIGTERM);
        let status = process.wait_exit();
        self.last_stderr = process.stderr();
        self.process = None;
        status
    }

    /// From now on no file of the broker can grow beyond this many bytes.
    pub fn limit_file_size(&mut self, bytes: u64) {
        let limit = libc::rlimit { rlim_cur: bytes, rlim_max: bytes };
        // SAFETY: prlimit reads the struct given and writes nothing; the process is our child.
        let result = unsafe {
            libc::prlimit(self.own().pid(), libc::RLIMIT_FSIZE, &raw const limit, std::ptr::null_mut())
        };
        assert_eq!(result, 0, "the limit could not be set: {}", std::io::Error::last_os_error());
    }

    /// SIGKILL: what was not durable is gone.
    pub fn kill(&mut self) {
        let process = self.own();
        process.signal(libc::SIGKILL);
        let status = process.wait_exit();
        assert_eq!(status.signal(), Some(libc::SIGKILL), "it had ended by itself before the kill: {status}");
        self.process = None;
    }

    /// Starts again on the same directory and the same port.
    pub fn restart(&mut self) {
        self.restart_with(&[]);
    }

    /// The same with another number of shards.
    pub fn restart_on(&mut self, shards: usize) {
        self.setup.shards = shards;
        self.restart();
    }

    /// The same with more arguments behind the others.
    pub fn restart_on_with(&mut self, shards: usize, arguments: &[&str]) {
        self.setup.shards = shards;
        self.restart_with(arguments);
    }

    /// As [`Broker::restart`] with more arguments behind the others.
    pub fn restart_with(&mut self, arguments: &[&str]) {
        assert!(self.process.is_none(), "stop or kill it first");
        let port = self.bootstrap.rsplit(':').next().and_then(|port| port.parse().ok()).expect("host:port");
        let mut command = self.setup.command(&self.data(), port);
        command.args(arguments);
        let mut process = Process::spawn(command);
        self.banner = process.wait_ready();
        self.process = Some(process);
    }

    /// Bytes of memory that are resident now.
    pub fn resident_bytes(&mut self) -> u64 {
        let mut statm = String::new();
        let path = format!("/proc/{}/statm", self.own().pid());
        let read = std::fs::File::open(&path).and_then(|mut file| file.read_to_string(&mut statm));
        assert!(read.is_ok(), "{path}: {read:?}");
        let pages: u64 =
            statm.split(' ').nth(1).and_then(|pages| pages.parse().ok()).expect("statm has two numbers");
        // SAFETY: sysconf reads a constant of the system.
        let page = unsafe { libc::sysconf(libc::_SC_PAGESIZE) };
        pages * u64::try_from(page).expect("a page has a size")
    }

    /// Waits until this run of the broker has logged `count` lines with `words`; gives the last of them.
    pub fn wait_logged(&mut self, words: &str, count: usize) -> String {
        self.own().wait_logged(words, count)
    }

    /// What the broker has logged so far; after a stop, what the run that ended has logged.
    pub fn stderr(&self) -> String {
        self.process.as_ref().map_or_else(|| self.last_stderr.clone(), Process::stderr)
    }
}

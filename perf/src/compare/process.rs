//! A broker as a process of this tool's: started, waited for, stopped.

use std::fs::File;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use rustix::process::{Pid, Signal, kill_process};

use crate::wire::control::Connection;

const START_TIMEOUT: Duration = Duration::from_secs(120);
const STOP_TIMEOUT: Duration = Duration::from_secs(60);

/// Killed when it is dropped.
pub struct Process {
    child: Child,
    log: PathBuf,
    /// From the start of the process to the first answer to a request.
    pub start_up: Duration,
}

impl Process {
    /// Starts the command on these CPUs (all, if none are given) and waits until it answers at `address`. What it
    /// writes goes to `log`.
    ///
    /// # Errors
    /// It ended, or did not answer in time.
    pub fn start(command: &Command, cpus: Option<&str>, address: &str, log: &Path) -> Result<Process> {
        let mut command = child_of_this(command, cpus);
        let out = File::create(log).with_context(|| format!("writing {}", log.display()))?;
        command.stdin(Stdio::null()).stderr(out.try_clone()?).stdout(out);
        let begun = Instant::now();
        let child = command.spawn().with_context(|| format!("starting {command:?}"))?;
        let mut process = Process { child, log: log.to_owned(), start_up: Duration::ZERO };
        loop {
            if Connection::open(address).is_ok() {
                process.start_up = begun.elapsed();
                return Ok(process);
            }
            if let Some(status) = process.child.try_wait()? {
                bail!("the broker ended with {status}; see {}", process.log.display());
            }
            if begun.elapsed() > START_TIMEOUT {
                bail!("no answer at {address} after {START_TIMEOUT:?}; see {}", process.log.display());
            }
            // until there is a listener there is nothing to wait for but time
            thread::sleep(Duration::from_millis(2));
        }
    }

    #[must_use]
    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    /// Ends it as an operator would.
    ///
    /// # Errors
    /// It does not end, or not well.
    pub fn stop(mut self) -> Result<()> {
        if let Some(pid) = Pid::from_raw(i32::try_from(self.child.id())?) {
            kill_process(pid, Signal::TERM)?;
        }
        let begun = Instant::now();
        while begun.elapsed() < STOP_TIMEOUT {
            if self.child.try_wait()?.is_some() {
                return Ok(());
            }
            thread::sleep(Duration::from_millis(10));
        }
        bail!("the broker did not end within {STOP_TIMEOUT:?} of SIGTERM; see {}", self.log.display());
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        // it may have ended by itself
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// The command on these CPUs; it is told to end when this process dies, however that happens.
fn child_of_this(command: &Command, cpus: Option<&str>) -> Command {
    let mut child = Command::new("setpriv");
    child.args(["--pdeathsig", "TERM"]);
    if let Some(cpus) = cpus {
        child.args(["taskset", "-c", cpus]);
    }
    child.arg(command.get_program()).args(command.get_args());
    if let Some(folder) = command.get_current_dir() {
        child.current_dir(folder);
    }
    child
}

/// Runs a command to its end; what it wrote is in the error if it fails.
///
/// # Errors
/// It cannot be started, or fails.
pub fn run(command: &mut Command) -> Result<()> {
    let output = command.stdin(Stdio::null()).output().with_context(|| format!("starting {command:?}"))?;
    if !output.status.success() {
        let said =
            [String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr)].concat();
        bail!("{command:?} failed with {}:\n{said}", output.status);
    }
    Ok(())
}

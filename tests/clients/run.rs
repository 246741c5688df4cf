//! Runs a client to its end, with a time limit, and shows what it said when it fails.

use std::io::Write;
use std::process::{Command, Stdio};
use std::sync::mpsc::channel;
use std::thread;
use std::time::{Duration, Instant};

/// Longer than any client needs even on a busy machine: the longest, librdkafka's own tests, takes 170 s on two cores.
const LIMIT: Duration = Duration::from_secs(400);

/// What a client wrote; it ended with exit code 0.
pub struct Output {
    pub stdout: Vec<u8>,
    pub stderr: Vec<u8>,
}

impl Output {
    /// Both outputs as text.
    pub fn text(&self) -> String {
        [String::from_utf8_lossy(&self.stdout), String::from_utf8_lossy(&self.stderr)].concat()
    }
}

/// Runs `command` with `input` on stdin. Panics with everything it wrote unless it ends well and in time.
pub fn run_with(mut command: Command, input: Vec<u8>) -> Output {
    let started = Instant::now();
    command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut child = command.spawn().unwrap_or_else(|error| panic!("{command:?} does not start: {error}"));
    let mut stdin = child.stdin.take().expect("stdin is piped");
    let pid = i32::try_from(child.id()).expect("a process id is positive and small");
    thread::spawn(move || {
        // A client that ends before it has read everything shows that by its exit code.
        let _ = stdin.write_all(&input);
    });
    let (sender, ended) = channel();
    thread::spawn(move || {
        let _ = sender.send(child.wait_with_output());
    });
    let output = match ended.recv_timeout(LIMIT) {
        Ok(output) => output.expect("a child can be waited for"),
        Err(_) => {
            // SAFETY: kill takes two integers; the child has not been waited for.
            unsafe { libc::kill(pid, libc::SIGKILL) };
            let output = ended.recv().expect("a killed child ends").expect("a child can be waited for");
            panic!("{command:?} was not done after {LIMIT:?}\n{}", both(&output));
        }
    };
    assert!(output.status.success(), "{command:?}: {}\n{}", output.status, both(&output));
    eprintln!("{:5.1} s  {}", started.elapsed().as_secs_f64(), shortened(&command));
    Output { stdout: output.stdout, stderr: output.stderr }
}

pub fn run(command: Command) -> Output {
    run_with(command, Vec::new())
}

fn both(output: &std::process::Output) -> String {
    format!(
        "--- stdout\n{}\n--- stderr\n{}",
        String::from_utf8_lossy(&output.stdout),
        String::from_utf8_lossy(&output.stderr)
    )
}

/// The program and its arguments, long ones cut.
fn shortened(command: &Command) -> String {
    let words = std::iter::once(command.get_program()).chain(command.get_args());
    words
        .map(|word| word.to_string_lossy().chars().take(60).collect::<String>())
        .collect::<Vec<_>>()
        .join(" ")
}

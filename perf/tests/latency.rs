//! Open-loop latency against an independent measurement: a broker that stands still for a second delays every record
//! of that second, and the report must show all of them, not one.

use std::io::{BufRead, BufReader};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process};

const RATE: f64 = 1000.0;
const SECONDS: f64 = 6.0;

/// A null broker; killed at the end.
struct NullBroker {
    child: Child,
    address: String,
}

impl NullBroker {
    fn start() -> NullBroker {
        let mut command = Command::new(env!("CARGO_BIN_EXE_corelane-perf"));
        command.args(["null-broker", "--listen", "127.0.0.1:0"]).stdout(Stdio::piped());
        let mut child = command.spawn().expect("the built binary runs");
        let mut line = String::new();
        BufReader::new(child.stdout.take().expect("a pipe")).read_line(&mut line).expect("its first line");
        let word = line.split_whitespace().nth(3).expect("null broker at ADDRESS: ...");
        let address = word.trim_end_matches(':').to_owned();
        NullBroker { child, address }
    }

    fn signal(&self, signal: Signal) {
        let pid = Pid::from_raw(i32::try_from(self.child.id()).expect("a pid")).expect("a pid");
        kill_process(pid, signal).expect("a signal");
    }
}

impl Drop for NullBroker {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

#[test]
fn a_broker_that_pauses_for_a_second_shows_as_a_second_in_the_tail() {
    let broker = NullBroker::start();
    let json = Path::new(env!("CARGO_TARGET_TMPDIR")).join(format!("pause-{}.json", std::process::id()));
    let mut command = Command::new(env!("CARGO_BIN_EXE_corelane-perf"));
    command.args(["produce", "--bootstrap", &broker.address, "--quiet", "--warm-up", "0s"]);
    command.arg("--rate").arg(RATE.to_string()).arg("--duration").arg(format!("{SECONDS}s"));
    let mut run =
        command.arg("--json").arg(&json).stdout(Stdio::null()).spawn().expect("the built binary runs");
    // somewhere inside the run: the pause is the fault, and its length is measured here
    thread::sleep(Duration::from_secs(2));
    broker.signal(Signal::STOP);
    let paused = Instant::now();
    thread::sleep(Duration::from_secs(1));
    broker.signal(Signal::CONT);
    let paused = paused.elapsed().as_secs_f64();
    assert!(run.wait().expect("the run ends").success());

    let text = std::fs::read(&json).expect("a report");
    let report: serde_json::Value = serde_json::from_slice(&text).expect("JSON");
    let _ = std::fs::remove_file(&json);
    let produced = &report["roles"][0];
    let latency = &produced["latency"];
    let number = |value: &serde_json::Value| value.as_f64().expect("a number");
    assert_eq!(number(&produced["records"]), RATE * SECONDS, "every record that was due is in the figures");
    assert_eq!(number(&latency["count"]), RATE * SECONDS);
    let max = number(&latency["max"]) / 1e6;
    assert!(
        (paused * 0.99..paused + 0.5).contains(&max),
        "paused for {paused} s, the longest latency is {max} s"
    );
    // A record due when the pause had t left took t: those with more than a tenth of a second left are all slow.
    let curve = latency["curve"].as_array().expect("a curve");
    let fast = curve
        .iter()
        .filter(|point| number(&point[1]) < 100_000.0)
        .map(|point| number(&point[0]))
        .fold(0.0, f64::max);
    let slow = (1.0 - fast) * RATE * SECONDS;
    let expect = (paused - 0.1) * RATE;
    assert!((expect * 0.8..expect * 1.6).contains(&slow), "{slow:.0} slow records, {expect:.0} expected");
    // and not all of them to its end: latencies fall evenly over the pause
    let p90 = number(&latency["p90"]) / 1e6;
    assert!((paused * 0.1..paused * 0.8).contains(&p90), "p90 {p90} s");
}

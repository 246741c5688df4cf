//! The first thing anybody tries: `corelane start` without a file or a flag, and Python's shortest producer.

use crate::harness::{Process, TempDir, binary, run_to_end};
use crate::install::script;
use crate::run::run;
use std::net::TcpListener;
use std::process::Command;

#[test]
fn hello_kafka_with_nothing_configured() {
    if let Err(error) = TcpListener::bind("127.0.0.1:9092") {
        panic!("this test needs port 9092, the one the defaults name, and cannot have it: {error}");
    }
    let home = TempDir::new();
    let start = || {
        let mut command = Command::new(binary());
        command.arg("start").current_dir(home.path());
        command
    };
    let mut broker = Process::spawn(start());
    let banner = broker.wait_ready().join("\n");
    let shards = std::thread::available_parallelism().expect("Linux tells").to_string();
    for word in ["localhost:9092", "corelane-data", &format!("shards    {shards}")] {
        assert!(banner.contains(word), "no `{word}` in\n{banner}");
    }

    let produced = run(script("mission_produce.py"));
    assert_eq!(produced.text(), "", "the program has nothing to say");
    let consumed = run(script("mission_consume.py"));
    assert_eq!(String::from_utf8_lossy(&consumed.stdout), "topic1 0 0 Hello, Kafka!\n");

    let second = run_to_end(start());
    assert_eq!(second.status.code(), Some(1), "the directory and the port are taken: {}", second.stderr);

    broker.signal(libc::SIGTERM);
    let status = broker.wait_exit();
    assert!(status.success(), "{status}");
    assert!(home.path().join("corelane-data/topic1-0").is_dir(), "the data lies where the banner says");

    // Another day, another start: it is still there.
    let mut broker = Process::spawn(start());
    broker.wait_ready();
    let consumed = run(script("mission_consume.py"));
    assert_eq!(String::from_utf8_lossy(&consumed.stdout), "topic1 0 0 Hello, Kafka!\n");
}

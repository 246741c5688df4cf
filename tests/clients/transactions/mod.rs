//! Transactions with real clients: what is committed is read whole, what is aborted is not read, who was fenced is told, and
//! a program that reads, writes and commits both in transactions does each record once, whatever is killed meanwhile.

mod clients;
mod librdkafka;

use std::process::Command;

use crate::harness::{Broker, Process, Setup};
use crate::run::run;
use crate::wire::{self, Wire};
use clients::{AIOKAFKA, CONFLUENT, Client, FRANZ_GO, JAVA};

const PARTITIONS: i32 = 4;
/// Numbers that are transformed.
const COUNT: u32 = 10_000;
/// Transactions after which something is killed.
const ENOUGH: usize = 20;

struct Topics {
    topic: String,
    output: String,
    group: String,
}

impl Topics {
    fn command(&self, client: Client, broker: &Broker, action: &str) -> Command {
        let mut command = client.command();
        command.args([action, "--bootstrap", broker.bootstrap(), "--topic", &self.topic]);
        command.args(["--output", &self.output, "--group", &self.group]);
        command.args(["--partitions", &PARTITIONS.to_string(), "--count", &COUNT.to_string()]);
        command
    }
}

/// A group's session ends soon, by either protocol.
fn broker() -> Broker {
    Setup::new()
        .shards(2)
        .set("group.initial.rebalance.delay.ms", 0)
        .set("group.consumer.session.timeout.ms", 6_000)
        .set("group.consumer.heartbeat.interval.ms", 500)
        .start()
}

fn created(broker: &Broker, name: &str) -> String {
    let topic = wire::unique(name);
    Wire::connect(broker.bootstrap()).create_topic(&topic, PARTITIONS, &[]);
    topic
}

fn reads_what_it_has_committed(client: Client) {
    let broker = broker();
    for action in ["write", "fence"] {
        let topics =
            Topics { topic: created(&broker, action), output: String::new(), group: wire::unique(action) };
        run(topics.command(client, &broker, action));
    }
}

/// Waits for so many transactions of the program.
fn progress(program: &mut Process, transactions: usize) {
    for _ in 0..transactions {
        program.lines_until("transaction");
    }
}

fn transforms_each_record_once(client: Client) {
    let mut broker = broker();
    let topics = Topics {
        topic: created(&broker, "input"),
        output: created(&broker, "output"),
        group: wire::unique("transform"),
    };
    let bootstrap = broker.bootstrap().to_owned();
    // one library writes the numbers and judges what has become of them, whoever transforms them
    run(topics.command(CONFLUENT, &broker, "fill"));
    let mut program = Process::spawn(topics.command(client, &broker, "transform"));
    progress(&mut program, ENOUGH);
    if !broker.is_external() {
        for _ in 0..2 {
            broker.kill();
            broker.restart();
            assert_eq!(broker.bootstrap(), bootstrap, "it is where it was");
            progress(&mut program, ENOUGH);
        }
    }
    // in the midst of a transaction, most likely: its successor ends it
    program.signal(libc::SIGKILL);
    program.wait_exit();
    let mut program = Process::spawn(topics.command(client, &broker, "transform"));
    program.lines_until("done");
    let status = program.wait_exit();
    assert!(status.success(), "{status}\n{}", program.stderr());
    run(topics.command(CONFLUENT, &broker, "check"));
}

#[test]
fn confluent_kafka_python_reads_what_it_has_committed() {
    reads_what_it_has_committed(CONFLUENT);
}

#[test]
fn confluent_kafka_python_transforms_each_record_once() {
    transforms_each_record_once(CONFLUENT);
}

#[test]
fn java_reads_what_it_has_committed() {
    reads_what_it_has_committed(JAVA);
}

#[test]
fn java_transforms_each_record_once() {
    transforms_each_record_once(JAVA);
}

#[test]
fn franz_go_reads_what_it_has_committed() {
    reads_what_it_has_committed(FRANZ_GO);
}

#[test]
fn franz_go_transforms_each_record_once() {
    transforms_each_record_once(FRANZ_GO);
}

#[test]
fn aiokafka_reads_what_it_has_committed() {
    reads_what_it_has_committed(AIOKAFKA);
}

#[test]
fn aiokafka_transforms_each_record_once() {
    transforms_each_record_once(AIOKAFKA);
}

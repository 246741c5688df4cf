//! Transactions with real clients: what is committed is read whole, what is aborted is not read, who was fenced is told, and
//! a program that reads, writes and commits both in transactions does each record once, whatever is killed meanwhile.

use std::process::Command;

use crate::harness::{Broker, Process, Setup};
use crate::install::script;
use crate::run::run;
use crate::wire::{self, Wire};

const PARTITIONS: i32 = 4;
/// Numbers that are transformed.
const COUNT: u32 = 20_000;
/// Transactions after which something is killed.
const ENOUGH: usize = 20;

struct Client<'a> {
    broker: &'a Broker,
    topic: &'a str,
    output: &'a str,
    group: &'a str,
}

impl Client<'_> {
    fn command(&self, action: &str) -> Command {
        let mut command = script("confluent_transactions.py");
        command.args([action, "--bootstrap", self.broker.bootstrap(), "--topic", self.topic]);
        command.args(["--output", self.output, "--group", self.group]);
        command.args(["--partitions", &PARTITIONS.to_string(), "--count", &COUNT.to_string()]);
        command
    }
}

fn broker() -> Broker {
    Setup::new().shards(2).set("group.initial.rebalance.delay.ms", 0).start()
}

fn created(broker: &Broker, name: &str) -> String {
    let topic = wire::unique(name);
    Wire::connect(broker.bootstrap()).create_topic(&topic, PARTITIONS, &[]);
    topic
}

#[test]
fn confluent_kafka_python_reads_what_it_has_committed() {
    let broker = broker();
    for action in ["write", "fence"] {
        let (topic, group) = (created(&broker, action), wire::unique(action));
        run(Client { broker: &broker, topic: &topic, output: "", group: &group }.command(action));
    }
}

/// Waits for so many transactions of the program.
fn progress(program: &mut Process, transactions: usize) {
    for _ in 0..transactions {
        program.lines_until("transaction");
    }
}

#[test]
fn confluent_kafka_python_transforms_each_record_once() {
    let mut broker = broker();
    let (topic, output) = (created(&broker, "input"), created(&broker, "output"));
    let group = wire::unique("transform");
    let bootstrap = broker.bootstrap().to_owned();
    let command = |broker: &Broker, action: &str| {
        assert_eq!(broker.bootstrap(), bootstrap, "it is where it was");
        Client { broker, topic: &topic, output: &output, group: &group }.command(action)
    };
    run(command(&broker, "fill"));
    let mut program = Process::spawn(command(&broker, "transform"));
    progress(&mut program, ENOUGH);
    if !broker.is_external() {
        for _ in 0..2 {
            broker.kill();
            broker.restart();
            progress(&mut program, ENOUGH);
        }
    }
    // in the midst of a transaction, most likely: its successor ends it
    program.signal(libc::SIGKILL);
    program.wait_exit();
    let mut program = Process::spawn(command(&broker, "transform"));
    program.lines_until("done");
    let status = program.wait_exit();
    assert!(status.success(), "{status}\n{}", program.stderr());
    run(command(&broker, "check"));
}

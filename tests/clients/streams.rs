//! A word count by Kafka Streams (`java/WordCount.java`): it makes its own topics, two instances share the work, one ends
//! and the other goes on with the counts of both.

use std::collections::BTreeMap;
use std::process::Command;
use std::time::{Duration, Instant};

use crate::harness::{Process, Setup};
use crate::install::java_program;
use crate::run::{run, run_with};
use crate::wire::{self, Wire};

const PATIENCE: Duration = Duration::from_secs(90);
const ROUND: &str = "to be or not to be\nthat is the question\nto be\n";
/// How often each word is in a round.
const COUNTS: [(&str, usize); 8] =
    [("be", 3), ("is", 1), ("not", 1), ("or", 1), ("question", 1), ("that", 1), ("the", 1), ("to", 3)];
const ROUNDS: usize = 500;

#[test]
fn kafka_streams_counts_words() {
    let mut broker = Setup::new().set("group.initial.rebalance.delay.ms", 0).start();
    let name = wire::unique("words");
    let [lines, counts] = [format!("{name}-lines"), format!("{name}-counts")];
    for topic in [&lines, &counts] {
        Wire::connect(broker.bootstrap()).create_topic(topic, 4, &[]);
    }
    let start = |state: &str| {
        let mut command = java_program("WordCount");
        command.args([broker.bootstrap(), &name]).arg(broker.scratch().join(state)).args([&lines, &counts]);
        Process::spawn(command)
    };
    let corelane = |words: &str| {
        let mut command = Command::new(env!("CARGO_BIN_EXE_corelane"));
        command.args(words.split(' ')).args(["-b", broker.bootstrap()]);
        command
    };
    let write = || {
        run_with(corelane(&format!("topic produce {lines}")), ROUND.repeat(ROUNDS).into_bytes());
    };
    let counted = |rounds: usize| {
        let wanted: BTreeMap<String, usize> =
            COUNTS.iter().map(|(word, times)| ((*word).to_owned(), times * rounds)).collect();
        let deadline = Instant::now() + PATIENCE;
        loop {
            // each look waits for the broker, so this does not spin
            let output = run(corelane(&format!("topic consume {counts} -e -f %k=%v")));
            let text = String::from_utf8(output.stdout).expect("text");
            let pairs = text.lines().map(|line| line.split_once('=').expect("a word and its count"));
            let latest: BTreeMap<String, usize> =
                pairs.map(|(word, count)| (word.to_owned(), count.parse().expect("a number"))).collect();
            if latest == wanted {
                break;
            }
            assert!(Instant::now() < deadline, "{latest:?}, not {wanted:?}");
        }
    };

    let mut first = start("first");
    first.lines_until("RUNNING");
    write();
    counted(ROUNDS);
    write();
    let mut second = start("second");
    second.lines_until("RUNNING");
    write();
    counted(3 * ROUNDS);
    // half of the counts are in the first one's state, and in the topic it keeps that in
    first.signal(libc::SIGTERM);
    first.lines_until("NOT_RUNNING");
    first.wait_exit();
    write();
    counted(4 * ROUNDS);
    second.signal(libc::SIGTERM);
    second.lines_until("NOT_RUNNING");
    second.wait_exit();
    if !broker.is_external() {
        broker.stop();
    }
}

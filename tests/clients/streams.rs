//! A word count by Kafka Streams (`java/WordCount.java`): it makes its own topics, two instances share the work, one ends
//! and the other goes on with the counts of both; and exactly once, the broker and one of them are killed amid the work,
//! and the counts are what they should be.

use std::collections::BTreeMap;
use std::process::Command;
use std::time::{Duration, Instant};

use crate::harness::{Broker, Process, Setup};
use crate::install::{java_program, kcat};
use crate::run::{run, run_with};
use crate::wire::{self, Wire};

const PATIENCE: Duration = Duration::from_secs(90);
const ROUND: &str = "to be or not to be\nthat is the question\nto be\n";
/// How often each word is in a round.
const COUNTS: [(&str, usize); 8] =
    [("be", 3), ("is", 1), ("not", 1), ("or", 1), ("question", 1), ("that", 1), ("the", 1), ("to", 3)];
const ROUNDS: usize = 500;
/// Work for longer than it takes to write it: whoever is killed then is killed amid it.
const MANY_ROUNDS: usize = 10_000;

/// The application and its two topics.
struct Words {
    broker: Broker,
    name: String,
    lines: String,
    counts: String,
    guarantee: &'static str,
}

impl Words {
    fn new(guarantee: &'static str) -> Words {
        let broker = Setup::new().set("group.initial.rebalance.delay.ms", 0).start();
        let name = wire::unique("words");
        let [lines, counts] = [format!("{name}-lines"), format!("{name}-counts")];
        for topic in [&lines, &counts] {
            Wire::connect(broker.bootstrap()).create_topic(topic, 4, &[]);
        }
        Words { broker, name, lines, counts, guarantee }
    }

    /// An instance, which works.
    fn start(&self, state: &str) -> Process {
        let mut command = java_program("WordCount");
        command.args([self.broker.bootstrap(), &self.name]).arg(self.broker.scratch().join(state));
        command.args([self.lines.as_str(), &self.counts, self.guarantee]);
        let mut process = Process::spawn(command);
        process.lines_until("RUNNING");
        process
    }

    fn write(&self, rounds: usize) {
        let mut produce = Command::new(env!("CARGO_BIN_EXE_corelane"));
        produce.args(["topic", "produce", &self.lines, "-b", self.broker.bootstrap()]);
        run_with(produce, ROUND.repeat(rounds).into_bytes());
    }

    /// The counts of each word that are committed, in their order.
    fn counted(&self) -> BTreeMap<String, Vec<usize>> {
        let mut consume = kcat();
        consume.args(["-b", self.broker.bootstrap(), "-X", "isolation.level=read_committed", "-q"]);
        consume.args(["-C", "-t", &self.counts, "-e", "-f", "%k=%s\n"]);
        let text = String::from_utf8(run(consume).stdout).expect("text");
        let mut counted = BTreeMap::<String, Vec<usize>>::new();
        for line in text.lines() {
            let (word, count) = line.split_once('=').expect("a word and its count");
            counted.entry(word.to_owned()).or_default().push(count.parse().expect("a number"));
        }
        counted
    }

    /// Looks until it is so; each look waits for the broker, so this does not spin.
    fn until(&self, what: &str, holds: impl Fn(&BTreeMap<String, Vec<usize>>) -> bool) {
        let deadline = Instant::now() + PATIENCE;
        loop {
            let counted = self.counted();
            if holds(&counted) {
                return;
            }
            assert!(Instant::now() < deadline, "not {what}: {:?}", latest(&counted));
        }
    }

    /// Waits until the counts are those of so many rounds.
    fn all_counted(&self, rounds: usize) {
        let wanted = COUNTS.map(|(word, times)| (word.to_owned(), times * rounds));
        let wanted = BTreeMap::from(wanted);
        self.until(&format!("{wanted:?}"), |counted| latest(counted) == wanted);
    }
}

fn latest(counted: &BTreeMap<String, Vec<usize>>) -> BTreeMap<String, usize> {
    let last = |counts: &Vec<usize>| *counts.last().expect("a word comes with a count");
    counted.iter().map(|(word, counts)| (word.clone(), last(counts))).collect()
}

#[test]
fn kafka_streams_counts_words() {
    let mut words = Words::new("at_least_once");
    let mut first = words.start("first");
    words.write(ROUNDS);
    words.all_counted(ROUNDS);
    words.write(ROUNDS);
    let mut second = words.start("second");
    words.write(ROUNDS);
    words.all_counted(3 * ROUNDS);
    // half of the counts are in the first one's state, and in the topic it keeps that in
    first.signal(libc::SIGTERM);
    first.lines_until("CLOSED");
    first.wait_exit();
    words.write(ROUNDS);
    words.all_counted(4 * ROUNDS);
    second.signal(libc::SIGTERM);
    second.lines_until("CLOSED");
    second.wait_exit();
    if !words.broker.is_external() {
        words.broker.stop();
    }
}

#[test]
fn kafka_streams_counts_each_word_once() {
    let mut words = Words::new("exactly_once_v2");
    let is_more_than = |counted: &BTreeMap<String, Vec<usize>>, rounds: usize| {
        latest(counted).values().sum::<usize>()
            > rounds * COUNTS.iter().map(|(_, times)| times).sum::<usize>()
    };
    words.write(MANY_ROUNDS);
    let mut first = words.start("first");
    words.until("a count", |counted| is_more_than(counted, 0));
    words.write(MANY_ROUNDS);
    if !words.broker.is_external() {
        words.broker.kill();
        words.broker.restart();
    }
    words.until("a count after the first part", |counted| is_more_than(counted, MANY_ROUNDS));
    words.write(MANY_ROUNDS);
    // its transaction stays open: the other one reads on when that has timed out
    first.signal(libc::SIGKILL);
    first.wait_exit();
    let _second = words.start("second");
    words.all_counted(3 * MANY_ROUNDS);
    for (word, counts) in words.counted() {
        assert!(counts.is_sorted_by(|one, next| one < next), "{word} is counted twice: {counts:?}");
    }
}

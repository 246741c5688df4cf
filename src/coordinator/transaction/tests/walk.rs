//! Producers of both versions that come, go, are fenced and repeat what they have asked, a coordinator that dies at any time,
//! and a host that writes markers late: the driver looks after every step that the log holds what there is and that no decision
//! is followed by another. What a producer is told is what was decided.

use super::*;

struct Walk {
    driver: Driver,
    state: u64,
    producers: Vec<Producer>,
}

/// What a client knows.
#[derive(Clone)]
struct Producer {
    id: &'static str,
    version: Version,
    who: (i64, i16),
    /// The last end it has asked for, to ask again: the line.
    asked: Option<String>,
}

impl Walk {
    fn below(&mut self, end: usize) -> usize {
        self.state =
            self.state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (self.state >> 33) as usize % end
    }

    fn step(&mut self) {
        let at = self.below(self.producers.len());
        let Producer { id, version, who: (producer_id, epoch), asked } = self.producers[at].clone();
        self.driver.client = version;
        let me = format!("{id} {producer_id}:{epoch}");
        match self.below(20) {
            0 => self.take(at, &format!("init {id}")),
            1 => self.take(at, &format!("init {me}")),
            2..8 => {
                let partitions = [" t-0", " t-1 u-0", " t-2", " t-0 t-1 t-2 u-0"][self.below(4)];
                let what = if self.below(6) == 0 { "verify" } else { "add" };
                let _ = self.driver.ask(&format!("{what} {me}{partitions}"));
            }
            8..12 => {
                let end = ["commit", "abort"][self.below(2)];
                self.end(at, &format!("{end} {me}"));
            }
            12 => {
                if let Some(line) = asked {
                    self.end(at, &line);
                }
            }
            13 => {
                let stale = epoch.saturating_sub(1);
                let answer = self.driver.ask(&format!("add {id} {producer_id}:{stale} t-0"));
                assert_ne!(answer, "ok", "an epoch that is over");
            }
            14 => {
                let wait = [1, 20_000, 70_000, 4_000_000][self.below(4)];
                self.driver.pass(wait);
            }
            15 if self.below(4) == 0 => self.driver.restart(0),
            16 if self.below(4) == 0 => {
                let level = [Version::ZERO, Version(1), Version::TWO][self.below(3)];
                self.driver.set_level(level);
            }
            _ => self.write_markers(),
        }
    }

    /// A producer, or another in its place, takes the id.
    fn take(&mut self, at: usize, line: &str) {
        let answer = self.driver.ask(line);
        if let Some(who) = successor(&answer) {
            // what a new producer does not know
            self.producers[at].who = who;
            self.producers[at].asked = None;
        }
    }

    fn end(&mut self, at: usize, line: &str) {
        let answer = self.driver.ask(line);
        let producer = &mut self.producers[at];
        producer.asked = Some(line.to_owned());
        if let Some(who) = successor(&answer) {
            producer.who = who;
        }
        if answer.starts_with("ok") {
            let id = line.split(' ').nth(1).unwrap();
            let transaction = self.driver.of(id);
            let end = if line.starts_with("commit") { EndTxn::Commit } else { EndTxn::Abort };
            let is_so = match transaction.state {
                TransactionState::PrepareCommit | TransactionState::CompleteCommit => EndTxn::Commit,
                TransactionState::PrepareAbort | TransactionState::CompleteAbort => EndTxn::Abort,
                state => panic!("{line} is answered {answer} in {state:?}"),
            };
            assert_eq!(is_so, end, "{line}");
        }
    }

    /// The host has written some, each perhaps for the second time.
    fn write_markers(&mut self) {
        if self.driver.commands.is_empty() {
            return;
        }
        let at = self.below(self.driver.commands.len());
        let command = self.driver.commands.remove(at);
        self.driver.written(&command.decided);
        if self.below(5) == 0 {
            self.driver.written(&command.decided);
        }
    }
}

fn successor(answer: &str) -> Option<(i64, i16)> {
    let (id, epoch) = answer.strip_prefix("ok ")?.split_once(':')?;
    Some((id.parse().unwrap(), epoch.parse().unwrap()))
}

#[test]
fn producers_may_do_anything() {
    for seed in 0..40 {
        let level = [Version::ZERO, Version(1), Version::TWO][seed as usize % 3];
        let mut driver = Driver::new(level);
        // one is soon at the end of its epochs
        driver.has_been("c", 7, i16::MAX - 4);
        let mut producers = Vec::new();
        for id in ["a", "b", "c"] {
            for version in [Version::ZERO, Version::TWO] {
                producers.push(Producer { id, version, who: (7, i16::MAX - 4), asked: None });
            }
        }
        let mut walk = Walk { driver, state: seed, producers };
        for _ in 0..400 {
            walk.step();
        }
        // the host catches up, and everybody can go on
        while !walk.driver.commands.is_empty() {
            walk.write_markers();
        }
        for id in ["a", "b", "c"] {
            let mut tries = 0;
            while successor(&walk.driver.ask(&format!("init {id}"))).is_none() {
                walk.write_markers();
                tries += 1;
                assert!(tries < 3, "seed {seed}: {id} is stuck");
            }
            assert!(walk.driver.of(id).state_is_final());
        }
    }
}

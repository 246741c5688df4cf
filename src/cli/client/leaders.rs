//! Asking the leaders of partitions.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::time::Instant;

use super::error::{LEADER_NOT_AVAILABLE, UNKNOWN_TOPIC_OR_PARTITION};
use super::{Client, Error, PAUSE, Refusal};

#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(in crate::cli) struct TopicPartition {
    pub(in crate::cli) topic: String,
    pub(in crate::cli) partition: i32,
}

impl TopicPartition {
    pub(in crate::cli) fn new(topic: &str, partition: i32) -> TopicPartition {
        TopicPartition { topic: topic.to_owned(), partition }
    }
}

impl fmt::Display for TopicPartition {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} partition {}", self.topic, self.partition)
    }
}

/// What is asked for, or the error code instead of it.
pub(in crate::cli) type Answer<T> = Result<T, i16>;

/// Partitions by the broker that leads them.
#[derive(Default)]
struct Led {
    by_broker: BTreeMap<i32, Vec<TopicPartition>>,
    /// With the error code that says why.
    by_nobody: Vec<(TopicPartition, i16)>,
}

impl Client {
    /// What the leader of each partition answers, each for itself: one that is not there or has no leader keeps nobody
    /// from the others. One that the answers say nothing about is missing. Asked again while an answer may be otherwise a
    /// moment later. `ask` is given a leader and its partitions, in order; `what` they are asked for is for errors.
    pub(in crate::cli) fn each_at_leader<T>(
        &mut self,
        what: &str,
        wanted: &BTreeSet<TopicPartition>,
        mut ask: impl FnMut(
            &mut Client,
            i32,
            &[TopicPartition],
        ) -> Result<Vec<(TopicPartition, Answer<T>)>, Error>,
    ) -> Result<BTreeMap<TopicPartition, Result<T, Error>>, Error> {
        let deadline = Instant::now() + self.timeout;
        let (mut found, mut left) = (BTreeMap::new(), wanted.clone());
        while !left.is_empty() {
            let led = self.led(&left)?;
            let mut answers: Vec<_> = led.by_nobody.into_iter().map(|(of, code)| (of, Err(code))).collect();
            for (leader, asked) in led.by_broker {
                answers.extend(ask(self, leader, &asked)?);
            }
            let mut passing = BTreeSet::new();
            for (of, answer) in answers {
                let answer =
                    answer.map_err(|code| Error::Refused(Refusal::new(format!("{what} {of}"), code, None)));
                // metadata without it is an answer, and a partition may be without a leader for days
                let stays = [UNKNOWN_TOPIC_OR_PARTITION, LEADER_NOT_AVAILABLE];
                let again = match &answer {
                    Err(Error::Refused(refusal)) => refusal.passes() && !stays.contains(&refusal.code),
                    _ => false,
                };
                if again && Instant::now() < deadline {
                    passing.insert(of);
                } else {
                    found.insert(of, answer);
                }
            }
            left = passing;
            if !left.is_empty() {
                std::thread::sleep(PAUSE);
            }
        }
        Ok(found)
    }

    fn led(&mut self, wanted: &BTreeSet<TopicPartition>) -> Result<Led, Error> {
        let topics: BTreeSet<&str> = wanted.iter().map(|of| of.topic.as_str()).collect();
        let metadata = self.refresh(Some(&topics.into_iter().collect::<Vec<_>>()))?;
        let mut leaders = BTreeMap::new();
        for topic in &metadata.topics {
            let Some(name) = &topic.name else { continue };
            for partition in &topic.partitions {
                leaders.insert(TopicPartition::new(name, partition.partition_index), partition.leader_id.0);
            }
        }
        let mut led = Led::default();
        for of in wanted {
            match leaders.get(of) {
                None => led.by_nobody.push((of.clone(), UNKNOWN_TOPIC_OR_PARTITION)),
                Some(..0) => led.by_nobody.push((of.clone(), LEADER_NOT_AVAILABLE)),
                Some(&leader) => led.by_broker.entry(leader).or_default().push(of.clone()),
            }
        }
        Ok(led)
    }
}

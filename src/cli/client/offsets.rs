//! ListOffsets: where logs begin and end, and which offset a time has.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::time::Instant;

use super::error::{LEADER_NOT_AVAILABLE, UNKNOWN_TOPIC_OR_PARTITION};
use super::{Client, Error, PAUSE, Refusal, topic_name};
use crate::protocol::messages::list_offsets_request::{ListOffsetsPartition, ListOffsetsTopic};
use crate::protocol::messages::{BrokerId, ListOffsetsRequest};

/// Special timestamps of ListOffsets.
pub(in crate::cli) const LATEST: i64 = -1;
pub(in crate::cli) const EARLIEST: i64 = -2;

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

/// An offset, or the error code instead of it.
type Answer = Result<i64, i16>;

impl Client {
    /// The offsets that partitions of a topic have for a timestamp ([`EARLIEST`], [`LATEST`], or milliseconds: the
    /// first record that is not older; -1: none is). `partitions` are (index, leader). Asked again while a partition
    /// is so new that its leader does not know it, or has just got another.
    pub(in crate::cli) fn offsets(
        &mut self,
        topic: &str,
        partitions: &[(i32, i32)],
        timestamp: i64,
    ) -> Result<BTreeMap<i32, i64>, Error> {
        let deadline = Instant::now() + self.timeout;
        let mut partitions = partitions.to_vec();
        loop {
            match self.ask_leaders(topic, &partitions, timestamp) {
                Err(error) if error.passes() && Instant::now() < deadline => {
                    std::thread::sleep(PAUSE);
                    let leaders = self.leaders(topic)?;
                    for (index, leader) in &mut partitions {
                        *leader = leaders.get(index).copied().unwrap_or(-1);
                    }
                }
                other => return other,
            }
        }
    }

    fn ask_leaders(
        &mut self,
        topic: &str,
        partitions: &[(i32, i32)],
        timestamp: i64,
    ) -> Result<BTreeMap<i32, i64>, Error> {
        let mut by_leader: BTreeMap<i32, Vec<TopicPartition>> = BTreeMap::new();
        for &(index, leader) in partitions {
            by_leader.entry(leader).or_default().push(TopicPartition::new(topic, index));
        }
        let mut offsets = BTreeMap::new();
        for (leader, asked) in by_leader {
            for (of, answer) in self.ask_leader(leader, &asked, timestamp)? {
                let offset = answer.map_err(|code| refusal(&of, code))?;
                offsets.insert(of.partition, offset);
            }
        }
        Ok(offsets)
    }

    /// The same for partitions of any topics, each for itself: one that is not there or has no leader keeps nobody from
    /// the others. One that the answers say nothing about is missing.
    pub(in crate::cli) fn offsets_of(
        &mut self,
        wanted: &BTreeSet<TopicPartition>,
        timestamp: i64,
    ) -> Result<BTreeMap<TopicPartition, Result<i64, Error>>, Error> {
        let deadline = Instant::now() + self.timeout;
        let (mut found, mut left) = (BTreeMap::new(), wanted.clone());
        while !left.is_empty() {
            let mut passing = BTreeSet::new();
            for (of, answer) in self.ask_once(&left, timestamp)? {
                let answer = answer.map_err(|code| refusal(&of, code));
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

    fn ask_once(
        &mut self,
        wanted: &BTreeSet<TopicPartition>,
        timestamp: i64,
    ) -> Result<Vec<(TopicPartition, Answer)>, Error> {
        let topics: BTreeSet<&str> = wanted.iter().map(|of| of.topic.as_str()).collect();
        let metadata = self.refresh(Some(&topics.into_iter().collect::<Vec<_>>()))?;
        let mut leaders = BTreeMap::new();
        for topic in &metadata.topics {
            let Some(name) = &topic.name else { continue };
            for partition in &topic.partitions {
                leaders.insert(TopicPartition::new(name, partition.partition_index), partition.leader_id.0);
            }
        }
        let (mut answers, mut by_leader) = (Vec::new(), BTreeMap::<i32, Vec<TopicPartition>>::new());
        for of in wanted {
            match leaders.get(of) {
                None => answers.push((of.clone(), Err(UNKNOWN_TOPIC_OR_PARTITION))),
                Some(..0) => answers.push((of.clone(), Err(LEADER_NOT_AVAILABLE))),
                Some(&leader) => by_leader.entry(leader).or_default().push(of.clone()),
            }
        }
        for (leader, asked) in by_leader {
            answers.extend(self.ask_leader(leader, &asked, timestamp)?);
        }
        Ok(answers)
    }

    /// `asked`: by topic, since they go out so.
    fn ask_leader(
        &mut self,
        leader: i32,
        asked: &[TopicPartition],
        timestamp: i64,
    ) -> Result<Vec<(TopicPartition, Answer)>, Error> {
        let topics = asked.chunk_by(|a, b| a.topic == b.topic).map(|partitions| {
            let asked = partitions.iter().map(|of| {
                ListOffsetsPartition::default()
                    .with_partition_index(of.partition)
                    .with_current_leader_epoch(-1)
                    .with_timestamp(timestamp)
            });
            ListOffsetsTopic::default()
                .with_name(topic_name(&partitions[0].topic))
                .with_partitions(asked.collect())
        });
        let request =
            ListOffsetsRequest::default().with_replica_id(BrokerId(-1)).with_topics(topics.collect());
        let response = self.call_broker(leader, &request)?;
        let mut answers = Vec::new();
        for topic in &response.topics {
            for answer in &topic.partitions {
                let of = TopicPartition::new(&topic.name, answer.partition_index);
                let code = answer.error_code;
                answers.push((of, if code == 0 { Ok(answer.offset) } else { Err(code) }));
            }
        }
        Ok(answers)
    }
}

fn refusal(of: &TopicPartition, code: i16) -> Error {
    Error::Refused(Refusal::new(format!("the offsets of {of}"), code, None))
}

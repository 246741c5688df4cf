//! ListOffsets: where logs begin and end, and which offset a time has.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Instant;

use super::leaders::{Answer, TopicPartition};
use super::{Client, Error, PAUSE, Refusal, topic_name};
use crate::protocol::messages::list_offsets_request::{ListOffsetsPartition, ListOffsetsTopic};
use crate::protocol::messages::{BrokerId, ListOffsetsRequest};

/// Special timestamps of ListOffsets.
pub(in crate::cli) const LATEST: i64 = -1;
pub(in crate::cli) const EARLIEST: i64 = -2;

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

    /// The same for partitions of any topics, as [`Client::each_at_leader`].
    pub(in crate::cli) fn offsets_of(
        &mut self,
        wanted: &BTreeSet<TopicPartition>,
        timestamp: i64,
    ) -> Result<BTreeMap<TopicPartition, Result<i64, Error>>, Error> {
        self.each_at_leader("the offsets of", wanted, |client, leader, asked| {
            client.ask_leader(leader, asked, timestamp)
        })
    }

    /// `asked`: by topic, since they go out so.
    fn ask_leader(
        &mut self,
        leader: i32,
        asked: &[TopicPartition],
        timestamp: i64,
    ) -> Result<Vec<(TopicPartition, Answer<i64>)>, Error> {
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

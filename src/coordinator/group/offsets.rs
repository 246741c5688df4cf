//! The offsets that one group has committed, and those that transactions are about to.

use std::collections::BTreeMap;

use super::Turn;
use super::pending::PendingOffsets;
use crate::coordinator::record::{OffsetValue, Record};
use crate::log::producer_state::EndTxn;
use crate::model::ProducerId;

/// By topic and partition.
#[derive(Clone, Debug, Default, PartialEq)]
pub(super) struct Offsets {
    topics: BTreeMap<String, BTreeMap<i32, OffsetValue>>,
    pending: PendingOffsets,
}

/// From when on the offsets of a group may be forgotten.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Expiry {
    /// From each one's commit.
    FromCommit,
    /// From this time, milliseconds since 1970: when the group lost its last member.
    From(i64),
}

impl Offsets {
    pub fn is_empty(&self) -> bool {
        self.topics.is_empty() && self.pending.is_empty()
    }

    /// A transaction that is open may change it.
    pub fn is_pending(&self, topic: &str, partition: i32) -> bool {
        self.pending.contains(topic, partition)
    }

    pub fn get(&self, topic: &str, partition: i32) -> Option<&OffsetValue> {
        self.topics.get(topic)?.get(&partition)
    }

    /// By topic, then partition.
    pub fn iter(&self) -> impl Iterator<Item = (&str, &BTreeMap<i32, OffsetValue>)> {
        self.topics.iter().map(|(topic, partitions)| (topic.as_str(), partitions))
    }

    pub fn replay(&mut self, topic: &str, partition: i32, value: Option<OffsetValue>) {
        match &value {
            Some(_) => self.pending.overtake(topic, partition),
            None => self.pending.remove(topic, partition),
        }
        self.set(topic, partition, value);
    }

    /// Of the producer's transaction.
    pub fn replay_pending(
        &mut self,
        producer: ProducerId,
        topic: &str,
        partition: i32,
        value: Option<OffsetValue>,
    ) {
        match value {
            Some(value) => self.pending.put(producer, topic, partition, value),
            // nobody writes a removal within a transaction
            None => self.replay(topic, partition, None),
        }
    }

    pub fn end_transaction(&mut self, producer: ProducerId, end: EndTxn) {
        for (topic, partition, value) in self.pending.end(producer, end) {
            self.set(&topic, partition, Some(value));
        }
    }

    fn set(&mut self, topic: &str, partition: i32, value: Option<OffsetValue>) {
        match value {
            Some(value) => {
                if let Some(partitions) = self.topics.get_mut(topic) {
                    partitions.insert(partition, value);
                } else {
                    self.topics.insert(topic.to_owned(), BTreeMap::from([(partition, value)]));
                }
            }
            None => {
                let Some(partitions) = self.topics.get_mut(topic) else { return };
                partitions.remove(&partition);
                if partitions.is_empty() {
                    self.topics.remove(topic);
                }
            }
        }
    }

    /// With a producer: once its transaction commits.
    pub fn commit(
        &mut self,
        turn: &mut Turn,
        producer: Option<ProducerId>,
        topic: &str,
        partition: i32,
        value: OffsetValue,
    ) {
        match producer {
            Some(producer) => self.replay_pending(producer, topic, partition, Some(value.clone())),
            None => self.replay(topic, partition, Some(value.clone())),
        }
        turn.record(Record::Offset {
            group: turn.group.to_string(),
            topic: topic.to_owned(),
            partition,
            value: Some(value),
        });
    }

    /// Nothing, if there is none.
    pub fn remove(&mut self, turn: &mut Turn, topic: &str, partition: i32) {
        if self.get(topic, partition).is_none() && !self.is_pending(topic, partition) {
            return;
        }
        self.replay(topic, partition, None);
        let group = turn.group.to_string();
        turn.record(Record::Offset { group, topic: topic.to_owned(), partition, value: None });
    }

    /// All of the topics for which `goes` says so.
    pub fn remove_topics(&mut self, turn: &mut Turn, goes: impl Fn(&str) -> bool) {
        let committed = self.topics.iter().filter(|(topic, _)| goes(topic));
        let committed =
            committed.flat_map(|(topic, partitions)| partitions.keys().map(|index| (topic.clone(), *index)));
        let pending = self.pending.partitions().filter(|(topic, _)| goes(topic));
        let pending = pending.map(|(topic, index)| (topic.to_owned(), index));
        let going: Vec<_> = committed.chain(pending).collect();
        self.remove_all(turn, going);
    }

    fn remove_all(&mut self, turn: &mut Turn, going: Vec<(String, i32)>) {
        for (topic, partition) in going {
            self.remove(turn, &topic, partition);
        }
    }

    /// Removes what is too old, but of topics that the group still reads, and where a transaction is open.
    pub fn expire(&mut self, turn: &mut Turn, expiry: Expiry, is_subscribed: impl Fn(&str) -> bool) {
        let (now, retention) = (turn.now.wall, turn.settings.offsets_retention_ms);
        let is_over = |value: &OffsetValue| {
            if value.expire_timestamp == -1 {
                let from = match expiry {
                    Expiry::FromCommit => value.commit_timestamp,
                    Expiry::From(time) => time,
                };
                now.saturating_sub(from) >= retention
            } else {
                now >= value.expire_timestamp
            }
        };
        let topics = self.topics.iter().filter(|(topic, _)| !is_subscribed(topic));
        let going = topics.flat_map(|(topic, partitions)| {
            let over = partitions.iter().filter(|(_, value)| is_over(value)).map(|(index, _)| *index);
            over.filter(|index| !self.is_pending(topic, *index)).map(|index| (topic.clone(), index))
        });
        let going = going.collect();
        self.remove_all(turn, going);
    }
}

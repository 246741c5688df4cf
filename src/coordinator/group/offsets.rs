//! The offsets that one group has committed.

use std::collections::BTreeMap;

use super::Turn;
use crate::coordinator::record::{OffsetValue, Record};

/// By topic and partition.
#[derive(Clone, Debug, Default, PartialEq)]
pub(super) struct Offsets {
    topics: BTreeMap<String, BTreeMap<i32, OffsetValue>>,
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
        self.topics.is_empty()
    }

    pub fn get(&self, topic: &str, partition: i32) -> Option<&OffsetValue> {
        self.topics.get(topic)?.get(&partition)
    }

    /// By topic, then partition.
    pub fn iter(&self) -> impl Iterator<Item = (&str, &BTreeMap<i32, OffsetValue>)> {
        self.topics.iter().map(|(topic, partitions)| (topic.as_str(), partitions))
    }

    pub fn replay(&mut self, topic: &str, partition: i32, value: Option<OffsetValue>) {
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

    pub fn commit(&mut self, turn: &mut Turn, topic: &str, partition: i32, value: OffsetValue) {
        self.replay(topic, partition, Some(value.clone()));
        turn.record(Record::Offset {
            group: turn.group.to_string(),
            topic: topic.to_owned(),
            partition,
            value: Some(value),
        });
    }

    /// Nothing, if there is none.
    pub fn remove(&mut self, turn: &mut Turn, topic: &str, partition: i32) {
        if self.get(topic, partition).is_none() {
            return;
        }
        self.replay(topic, partition, None);
        let group = turn.group.to_string();
        turn.record(Record::Offset { group, topic: topic.to_owned(), partition, value: None });
    }

    /// All for which `goes` says so.
    pub fn remove_where(&mut self, turn: &mut Turn, goes: impl Fn(&str, &OffsetValue) -> bool) {
        let going: Vec<(String, i32)> = (self.topics.iter())
            .flat_map(|(topic, partitions)| {
                let of_topic = partitions.iter().filter(|(_, value)| goes(topic, value));
                of_topic.map(|(partition, _)| (topic.clone(), *partition))
            })
            .collect();
        for (topic, partition) in going {
            self.remove(turn, &topic, partition);
        }
    }

    /// Removes what is too old, but of topics that the group still reads.
    pub fn expire(&mut self, turn: &mut Turn, expiry: Expiry, is_subscribed: impl Fn(&str) -> bool) {
        let (now, retention) = (turn.now.wall, turn.settings.offsets_retention_ms);
        self.remove_where(turn, |topic, value| {
            let is_over = if value.expire_timestamp == -1 {
                let from = match expiry {
                    Expiry::FromCommit => value.commit_timestamp,
                    Expiry::From(time) => time,
                };
                now.saturating_sub(from) >= retention
            } else {
                now >= value.expire_timestamp
            };
            is_over && !is_subscribed(topic)
        });
    }
}

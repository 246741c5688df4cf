//! One member of a consumer group, as the log has it.

use std::collections::BTreeMap;

use super::Partitions;
use crate::coordinator::record::{CurrentAssignmentValue, EpochPartitions, MemberValue};
use crate::model::TopicId;

/// Of a static member that has left for a while: its partitions wait for it as long as its session lasts.
pub(super) const AWAY: i32 = -2;

/// Partitions by topic, each with the epoch since which it is the member's. No topic is without any.
pub(super) type Owned = BTreeMap<TopicId, BTreeMap<i32, i32>>;

#[derive(Clone, Debug, PartialEq)]
pub(super) struct Member {
    /// What it has said of itself; topics in order, each once.
    pub about: MemberValue,
    /// Of the group, as far as the member has followed it; [`AWAY`].
    pub epoch: i32,
    /// The one before: an answer may have been lost.
    pub previous_epoch: i32,
    pub state: State,
    pub assigned: Owned,
    /// It was told to give these up and has not said that it did.
    pub revoking: Owned,
}

/// How far a member is with its target. The numbers are Kafka's, in its records.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum State {
    /// It has the target of its epoch.
    Stable = 0,
    /// It has partitions to give up first, and stays in its epoch until then.
    Unrevoked = 1,
    /// It is in the target's epoch; others have to give up partitions that are to be its own.
    Unreleased = 2,
    /// Of a newer broker.
    Unknown = 127,
}

impl State {
    fn of(number: i8) -> State {
        match number {
            0 => State::Stable,
            1 => State::Unrevoked,
            2 => State::Unreleased,
            _ => State::Unknown,
        }
    }
}

impl Member {
    /// Of whom nothing is known but that it joins.
    pub fn new() -> Member {
        let about = MemberValue {
            instance: None,
            rack: None,
            client_id: String::new(),
            client_host: String::new(),
            topics: Vec::new(),
            regex: Some(String::new()),
            rebalance_timeout_ms: -1,
            assignor: None,
            classic: None,
        };
        Member {
            about,
            epoch: 0,
            previous_epoch: -1,
            state: State::Stable,
            assigned: Owned::new(),
            revoking: Owned::new(),
        }
    }

    /// It subscribes to one.
    pub fn regex(&self) -> Option<&str> {
        self.about.regex.as_deref().filter(|regex| !regex.is_empty())
    }

    pub fn uses_classic_protocol(&self) -> bool {
        self.about.classic.is_some()
    }

    /// It has what the target of this epoch gives it.
    pub fn is_reconciled(&self, target_epoch: i32) -> bool {
        self.state == State::Stable && self.epoch == target_epoch
    }

    /// Since which epoch this partition is the member's, also one that it has not given up yet.
    pub fn epoch_of(&self, topic: TopicId, partition: i32) -> Option<i32> {
        let of = |owned: &Owned| owned.get(&topic)?.get(&partition).copied();
        of(&self.assigned).or_else(|| of(&self.revoking))
    }

    /// Everything that is not another's: what it has and what it has not given up.
    pub fn owned(&self) -> impl Iterator<Item = (TopicId, i32)> {
        let all = self.assigned.iter().chain(&self.revoking);
        all.flat_map(|(topic, partitions)| partitions.keys().map(|partition| (*topic, *partition)))
    }

    pub fn current(&self) -> CurrentAssignmentValue {
        let list = |owned: &Owned| {
            let topics = owned.iter().map(|(topic, partitions)| EpochPartitions {
                topic: *topic,
                partitions: partitions.keys().copied().collect(),
                epochs: Some(partitions.values().copied().collect()),
            });
            topics.collect()
        };
        CurrentAssignmentValue {
            epoch: self.epoch,
            previous_epoch: self.previous_epoch,
            state: self.state as i8,
            assigned: list(&self.assigned),
            revoking: list(&self.revoking),
        }
    }

    pub fn set_current(&mut self, value: &CurrentAssignmentValue) {
        let owned = |list: &[EpochPartitions]| {
            let mut owned = Owned::new();
            for of_topic in list.iter().filter(|of_topic| !of_topic.partitions.is_empty()) {
                // brokers before Kafka 4.3 have not written since when
                let since =
                    |at: usize| of_topic.epochs.as_ref().map_or(value.epoch.max(0), |epochs| epochs[at]);
                let partitions = of_topic.partitions.iter().enumerate();
                owned.insert(of_topic.topic, partitions.map(|(at, index)| (*index, since(at))).collect());
            }
            owned
        };
        self.epoch = value.epoch;
        self.previous_epoch = value.previous_epoch;
        self.state = State::of(value.state);
        self.assigned = owned(&value.assigned);
        self.revoking = owned(&value.revoking);
    }
}

/// Without the epochs.
pub(super) fn partitions(owned: &Owned) -> Partitions {
    owned.iter().map(|(topic, partitions)| (*topic, partitions.keys().copied().collect())).collect()
}

//! A consumer group's state and its records: each record changes the state in one way, when it is made and when the log
//! is read again.

use std::rc::Rc;

use super::member::Member;
use super::{ConsumerGroup, Partitions};
use crate::coordinator::group::{Due, Turn};
use crate::coordinator::record::{GroupEpochValue, Record, RegexValue, TargetEpochValue, TopicPartitions};

/// Of a group and of its target, before there is a record of them.
pub(super) const FIRST_EPOCH: i32 = 1;

impl ConsumerGroup {
    pub fn epoch(&self) -> i32 {
        self.epoch.as_ref().map_or(FIRST_EPOCH, |value| value.epoch)
    }

    /// Of the topics that are subscribed to, when the group's epoch was made.
    pub fn metadata_hash(&self) -> i64 {
        self.epoch.as_ref().map_or(0, |value| value.metadata_hash)
    }

    /// For which of the group's epochs the targets are.
    pub fn target_epoch(&self) -> i32 {
        self.target_epoch.as_ref().map_or(FIRST_EPOCH, |value| value.epoch)
    }

    /// Appends a record and does what it says.
    pub(super) fn write(&mut self, turn: &mut Turn, record: Record) {
        self.apply(&record);
        turn.record(record);
    }

    pub(super) fn write_epoch(&mut self, turn: &mut Turn, epoch: i32, metadata_hash: i64) {
        let value = Some(GroupEpochValue { epoch, metadata_hash });
        self.write(turn, Record::ConsumerGroup { group: turn.group.to_string(), value });
    }

    pub(super) fn write_member(&mut self, turn: &mut Turn, id: &str, member: &Member) {
        let (group, value) = (turn.group.to_string(), Some(member.about.clone()));
        self.write(turn, Record::ConsumerMember { group, member: id.to_owned(), value });
    }

    pub(super) fn write_target_epoch(&mut self, turn: &mut Turn, epoch: i32, timestamp: i64) {
        let value = Some(TargetEpochValue { epoch, timestamp });
        self.write(turn, Record::TargetEpoch { group: turn.group.to_string(), value });
    }

    pub(super) fn write_target(&mut self, turn: &mut Turn, id: &str, target: &Partitions) {
        let value = target
            .iter()
            .map(|(topic, partitions)| TopicPartitions { topic: *topic, partitions: partitions.clone() });
        let (group, value) = (turn.group.to_string(), Some(value.collect()));
        self.write(turn, Record::TargetMember { group, member: id.to_owned(), value });
    }

    pub(super) fn write_current(&mut self, turn: &mut Turn, id: &str, member: &Member) {
        let (group, value) = (turn.group.to_string(), Some(member.current()));
        self.write(turn, Record::CurrentAssignment { group, member: id.to_owned(), value });
    }

    pub(super) fn write_regex(&mut self, turn: &mut Turn, regex: &str, value: Option<RegexValue>) {
        let group = turn.group.to_string();
        self.write(turn, Record::Regex { group, regex: regex.to_owned(), value });
    }

    /// Takes a member out of the log.
    pub(super) fn write_removal(&mut self, turn: &mut Turn, id: &str) {
        let (group, member) = (turn.group.to_string(), id.to_owned());
        self.write(
            turn,
            Record::CurrentAssignment { group: group.clone(), member: member.clone(), value: None },
        );
        self.write(turn, Record::TargetMember { group: group.clone(), member: member.clone(), value: None });
        self.write(turn, Record::ConsumerMember { group, member, value: None });
    }

    /// Takes the group out of the log, with its members.
    pub fn remove(&mut self, turn: &mut Turn) {
        let group = turn.group.to_string();
        let ids: Vec<String> = self.members.keys().map(|id| id.to_string()).collect();
        for member in ids.iter().cloned() {
            self.write(turn, Record::CurrentAssignment { group: group.clone(), member, value: None });
        }
        for member in ids.iter().cloned() {
            self.write(turn, Record::TargetMember { group: group.clone(), member, value: None });
        }
        self.write(turn, Record::TargetEpoch { group: group.clone(), value: None });
        for member in ids {
            self.cancel_timers(turn, &member);
            self.write(turn, Record::ConsumerMember { group: group.clone(), member, value: None });
        }
        for regex in self.regexes.keys().cloned().collect::<Vec<_>>() {
            self.write_regex(turn, &regex, None);
        }
        turn.cancel_timer(Due::Regexes);
        turn.cancel_timer(Due::Assignment);
        self.write(turn, Record::ConsumerGroup { group, value: None });
    }

    pub(super) fn cancel_timers(&self, turn: &mut Turn, id: &str) {
        let id: Rc<str> = Rc::from(id);
        for due in [Due::Session(Rc::clone(&id)), Due::Rebalance(id)] {
            turn.cancel_timer(due);
        }
    }

    pub fn replay(&mut self, record: Record) {
        self.apply(&record);
    }

    fn apply(&mut self, record: &Record) {
        match record {
            Record::ConsumerGroup { value, .. } => self.epoch.clone_from(value),
            Record::TargetEpoch { value, .. } => self.target_epoch.clone_from(value),
            Record::ConsumerMember { member, value: None, .. } => {
                if let Some((id, member)) = self.members.remove_entry(member.as_str()) {
                    self.index.remove(&id, &member);
                }
            }
            Record::ConsumerMember { member, value: Some(value), .. } => self.change(member, |member| {
                member.about = value.clone();
                member.about.topics.sort_unstable();
                member.about.topics.dedup();
            }),
            Record::CurrentAssignment { member, value: Some(value), .. } => {
                self.change(member, |member| member.set_current(value));
            }
            Record::CurrentAssignment { member, value: None, .. } => {
                if self.members.contains_key(member.as_str()) {
                    self.change(member, |member| {
                        let about = member.about.clone();
                        *member = Member { about, epoch: -1, ..Member::new() };
                    });
                }
            }
            Record::TargetMember { member, value: Some(value), .. } => {
                let mut target = Partitions::new();
                for of_topic in value.iter().filter(|of_topic| !of_topic.partitions.is_empty()) {
                    let mut partitions = of_topic.partitions.clone();
                    partitions.sort_unstable();
                    target.insert(of_topic.topic, partitions);
                }
                self.targets.insert(Rc::from(member.as_str()), Rc::new(target));
            }
            Record::TargetMember { member, value: None, .. } => {
                self.targets.remove(member.as_str());
            }
            Record::Regex { regex, value, .. } => {
                if let Some(before) = self.regexes.remove(regex) {
                    self.index.remove_regex(&before);
                }
                if let Some(value) = value {
                    let mut value = value.clone();
                    value.topics.sort_unstable();
                    value.topics.dedup();
                    self.index.add_regex(&value);
                    self.regexes.insert(regex.clone(), value);
                }
            }
            Record::Offset { .. } | Record::ClassicGroup { .. } => {
                unreachable!("no record of a consumer group")
            }
        }
    }

    fn change(&mut self, id: &str, change: impl FnOnce(&mut Member)) {
        let (id, mut member) = match self.members.remove_entry(id) {
            Some((id, member)) => {
                self.index.remove(&id, &member);
                (id, member)
            }
            None => (Rc::from(id), Member::new()),
        };
        change(&mut member);
        self.index.add(&id, &member);
        self.members.insert(id, member);
    }

    /// Nothing of it is left in the log.
    pub fn is_gone(&self) -> bool {
        self.epoch.is_none()
            && self.target_epoch.is_none()
            && self.members.is_empty()
            && self.targets.is_empty()
            && self.regexes.is_empty()
    }

    /// The log was replayed: everybody has the time of a session to be heard of.
    pub fn loaded(&mut self, turn: &mut Turn) {
        self.is_stale = true;
        self.are_regexes_stale = true;
        for (id, member) in &self.members {
            self.set_session_timer(turn, id, member);
            self.set_rebalance_timer(turn, id, member);
        }
        self.set_regex_timer(turn);
    }

    /// What the log holds of it, and what follows from that.
    #[cfg(test)]
    pub fn durable(&self) -> impl PartialEq + std::fmt::Debug {
        let mut index = self.index.clone();
        index.topics_version = 0;
        let epochs = (self.epoch.clone(), self.target_epoch.clone());
        (epochs, self.members.clone(), self.targets.clone(), self.regexes.clone(), index)
    }
}

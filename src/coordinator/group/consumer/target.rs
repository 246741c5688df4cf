//! A group's epoch, which goes up with every change that may call for another assignment, and its target, which follows as
//! soon as the last one is old enough.

use std::collections::BTreeMap;
use std::rc::Rc;

use twox_hash::XxHash3_64;

use super::member::Member;
use super::{ConsumerGroup, Partitions, config};
use crate::coordinator::group::assignor::{self, Assignor, Spec, Subscriber};
use crate::coordinator::group::{Due, Settings, Turn};
use crate::metadata::{Image, Topic};
use crate::model::TopicId;

impl ConsumerGroup {
    /// The group's epoch goes up if `is_due` or if the topics that it reads are not any more what they were.
    pub fn follow_topics(&mut self, turn: &mut Turn, is_due: bool) {
        if !is_due && !self.is_stale {
            return;
        }
        let hash = self.hash(turn.image);
        if is_due || hash != self.metadata_hash() {
            self.write_epoch(turn, self.epoch() + 1, hash);
        }
    }

    /// Of the topics that are subscribed to. Computed anew when they are others or have changed.
    pub fn hash(&mut self, image: &Image) -> i64 {
        let version = self.index.topics_version;
        if let Some((at, hash)) = self.hash.filter(|_| !self.is_stale)
            && at == version
        {
            return hash;
        }
        let topics = self.index.topics().filter_map(|name| image.topic_by_name(name));
        let hashes: Vec<u8> = topics.flat_map(|topic| topic_hash(topic, image).to_le_bytes()).collect();
        let hash = if hashes.is_empty() { 0 } else { XxHash3_64::oneshot(&hashes).cast_signed() };
        self.hash = Some((version, hash));
        self.is_stale = false;
        hash
    }

    /// Makes a target for the group's epoch, unless the last one is too young: then later.
    pub fn follow_epoch(&mut self, turn: &mut Turn) {
        if self.target_epoch() >= self.epoch() || self.members.is_empty() {
            return;
        }
        let wait = self.target_wait_ms(turn);
        if wait > 0 {
            turn.set_timer(Due::Assignment, wait);
        } else {
            turn.cancel_timer(Due::Assignment);
            self.assign(turn);
        }
    }

    /// Milliseconds until a new target may be made. If the clock was set back, none.
    fn target_wait_ms(&self, turn: &Turn) -> u64 {
        let made = self.target_epoch.as_ref().map_or(0, |value| value.timestamp);
        let interval = config::assignment_interval_ms(turn);
        match u64::try_from(turn.now.wall.saturating_sub(made)) {
            Ok(age) if made != 0 => interval.saturating_sub(age),
            _ => 0,
        }
    }

    fn assign(&mut self, turn: &mut Turn) {
        let nothing = Partitions::new();
        let mut partition_counts = BTreeMap::new();
        for topic in self.index.topics().filter_map(|name| turn.image.topic_by_name(name)) {
            partition_counts.insert(topic.id, i32::try_from(topic.partitions.len()).unwrap_or(i32::MAX));
        }
        let mut subscriptions = Subscriptions { group: self, image: turn.image, seen: BTreeMap::new() };
        let members = (self.members.iter()).map(|(id, member)| Subscriber {
            id,
            instance: member.about.instance.as_deref(),
            topics: subscriptions.of(member),
            target: self.targets.get(id).map_or(&nothing, Rc::as_ref),
        });
        let spec = Spec { members: members.collect(), partition_counts };
        let assigned = self.assignor(turn.settings).assign(&spec);
        let is_new = |id: &Rc<str>, target: &Partitions| {
            self.targets.get(id).is_none_or(|before| before.as_ref() != target)
        };
        let changed: Vec<(Rc<str>, Partitions)> = (self.members.keys().map(Rc::clone).zip(assigned))
            .filter(|(id, target)| is_new(id, target))
            .collect();
        for (id, target) in changed {
            self.write_target(turn, &id, &target);
        }
        self.write_target_epoch(turn, self.epoch(), turn.now.wall);
    }

    /// What most members ask for, if the broker has it, else the broker's default.
    fn assignor(&self, settings: &Settings) -> &'static Assignor {
        assignor::find(self.assignor_name(settings))
            .or_else(|| settings.consumer_assignors.iter().find_map(|name| assignor::find(name)))
            .unwrap_or(assignor::DEFAULT)
    }

    pub fn assignor_name<'a>(&'a self, settings: &'a Settings) -> &'a str {
        let preferred = self.index.preferred_assignor();
        let default = settings.consumer_assignors.first().map_or(assignor::DEFAULT.name, String::as_str);
        preferred
            .filter(|name| settings.consumer_assignors.iter().any(|known| known == name))
            .unwrap_or(default)
    }
}

type Subscription<'a> = (&'a [String], Option<&'a str>);

/// The topics of members, as ids; the same list for the same subscription.
struct Subscriptions<'a> {
    group: &'a ConsumerGroup,
    image: &'a Image,
    /// By names and expression.
    seen: BTreeMap<Subscription<'a>, Rc<[TopicId]>>,
}

impl<'a> Subscriptions<'a> {
    fn of(&mut self, member: &'a Member) -> Rc<[TopicId]> {
        let topics = self.seen.entry((&member.about.topics, member.regex())).or_insert_with(|| {
            let regex = member.regex().and_then(|regex| self.group.regexes.get(regex));
            let names = member.about.topics.iter().chain(regex.into_iter().flat_map(|value| &value.topics));
            let mut topics: Vec<TopicId> =
                names.filter_map(|name| self.image.topic_by_name(name)).map(|topic| topic.id).collect();
            topics.sort_unstable();
            topics.dedup();
            topics.into()
        });
        Rc::clone(topics)
    }
}

/// Kafka's, so that a group that comes from there with its records need not be assigned anew: XXH3 of a zero byte, the id, the
/// name and the partitions with their racks, numbers in little-endian order, texts in UTF-16 with their lengths behind.
pub(super) fn topic_hash(topic: &Topic, image: &Image) -> u64 {
    let mut bytes = vec![0];
    for half in [topic.id.0 >> 64, topic.id.0] {
        bytes.extend_from_slice(&half.to_le_bytes()[..8]);
    }
    let put_text = |text: &str, bytes: &mut Vec<u8>| {
        text.encode_utf16().for_each(|unit| bytes.extend_from_slice(&unit.to_le_bytes()));
        bytes.extend_from_slice(&length(text).to_le_bytes());
    };
    put_text(&topic.name, &mut bytes);
    bytes.extend_from_slice(&(topic.partitions.len() as u32).to_le_bytes());
    for (index, partition) in (0_i32..).zip(&topic.partitions) {
        bytes.extend_from_slice(&index.to_le_bytes());
        let brokers = partition.replicas.iter().filter_map(|broker| image.broker(*broker));
        let mut racks: Vec<&str> = brokers.filter_map(|broker| broker.rack.as_deref()).collect();
        racks.sort_unstable();
        for rack in racks {
            bytes.extend_from_slice(&length(rack).to_le_bytes());
            put_text(rack, &mut bytes);
        }
    }
    XxHash3_64::oneshot(&bytes)
}

/// As Java counts.
fn length(text: &str) -> u32 {
    u32::try_from(text.encode_utf16().count()).unwrap_or(u32::MAX)
}

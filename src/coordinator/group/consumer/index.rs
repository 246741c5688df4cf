//! What follows from a group's members and is asked for at every heartbeat: who owns a partition, how many subscribe to a
//! topic. Kept with every change, so that no request looks at all members.

use std::collections::{BTreeMap, HashMap};
use std::rc::Rc;

use super::member::Member;
use crate::coordinator::record::RegexValue;
use crate::model::TopicId;

#[derive(Clone, Debug, Default, PartialEq)]
pub(super) struct Index {
    /// The member of each static instance.
    pub instances: HashMap<String, Rc<str>>,
    /// Who has a partition, or has not given it up yet.
    owners: HashMap<TopicId, HashMap<i32, Rc<str>>>,
    /// How often each topic is subscribed to: by members by its name, and by regular expressions that match it.
    topics: BTreeMap<String, Subscriptions>,
    /// Members of each regular expression.
    pub regexes: BTreeMap<String, usize>,
    /// Members that ask for each assignor.
    assignors: BTreeMap<String, usize>,
    /// Members that use the classic protocol, and how many of them support each of its assignors.
    pub classic_members: usize,
    pub classic_protocols: BTreeMap<String, usize>,
    /// Goes up when a topic comes to the subscribed ones or goes.
    pub topics_version: u64,
}

#[derive(Clone, Copy, Debug, Default, PartialEq)]
struct Subscriptions {
    by_name: usize,
    by_regex: usize,
}

impl Index {
    pub fn topics(&self) -> impl Iterator<Item = &str> {
        self.topics.keys().map(String::as_str)
    }

    pub fn is_subscribed(&self, topic: &str) -> bool {
        self.topics.contains_key(topic)
    }

    pub fn owner(&self, topic: TopicId, partition: i32) -> Option<&Rc<str>> {
        self.owners.get(&topic)?.get(&partition)
    }

    /// What most of those members ask for that ask for one; of as many, the first by name.
    pub fn preferred_assignor(&self) -> Option<&str> {
        let most = self.assignors.values().max()?;
        self.assignors.iter().find(|(_, count)| *count == most).map(|(name, _)| name.as_str())
    }

    /// A member has come, or is as it is now.
    pub fn add(&mut self, id: &Rc<str>, member: &Member) {
        if let Some(instance) = &member.about.instance {
            self.instances.insert(instance.clone(), Rc::clone(id));
        }
        for (topic, partition) in member.owned() {
            self.owners.entry(topic).or_default().insert(partition, Rc::clone(id));
        }
        for topic in &member.about.topics {
            self.subscribe(topic, |subscriptions| &mut subscriptions.by_name);
        }
        if let Some(regex) = member.regex() {
            count(&mut self.regexes, regex);
        }
        if let Some(assignor) = &member.about.assignor {
            count(&mut self.assignors, assignor);
        }
        if let Some(classic) = &member.about.classic {
            self.classic_members += 1;
            classic.protocols.iter().for_each(|protocol| count(&mut self.classic_protocols, &protocol.name));
        }
    }

    /// A member is gone, or is no more as it was. What has become another's stays that one's: in a log that was
    /// compacted in part, a partition can be another's before this member's last record.
    pub fn remove(&mut self, id: &str, member: &Member) {
        if let Some(instance) = &member.about.instance
            && self.instances.get(instance).is_some_and(|holder| **holder == *id)
        {
            self.instances.remove(instance);
        }
        for (topic, partition) in member.owned() {
            let Some(owners) = self.owners.get_mut(&topic) else { continue };
            if owners.get(&partition).is_some_and(|owner| **owner == *id) {
                owners.remove(&partition);
            }
            if owners.is_empty() {
                self.owners.remove(&topic);
            }
        }
        for topic in &member.about.topics {
            self.unsubscribe(topic, |subscriptions| &mut subscriptions.by_name);
        }
        if let Some(regex) = member.regex() {
            discount(&mut self.regexes, regex);
        }
        if let Some(assignor) = &member.about.assignor {
            discount(&mut self.assignors, assignor);
        }
        if let Some(classic) = &member.about.classic {
            self.classic_members -= 1;
            classic
                .protocols
                .iter()
                .for_each(|protocol| discount(&mut self.classic_protocols, &protocol.name));
        }
    }

    pub fn add_regex(&mut self, value: &RegexValue) {
        for topic in &value.topics {
            self.subscribe(topic, |subscriptions| &mut subscriptions.by_regex);
        }
    }

    pub fn remove_regex(&mut self, value: &RegexValue) {
        for topic in &value.topics {
            self.unsubscribe(topic, |subscriptions| &mut subscriptions.by_regex);
        }
    }

    fn subscribe(&mut self, topic: &str, of: impl Fn(&mut Subscriptions) -> &mut usize) {
        if let Some(subscriptions) = self.topics.get_mut(topic) {
            *of(subscriptions) += 1;
            return;
        }
        *of(self.topics.entry(topic.to_owned()).or_default()) += 1;
        self.topics_version += 1;
    }

    fn unsubscribe(&mut self, topic: &str, of: impl Fn(&mut Subscriptions) -> &mut usize) {
        let subscriptions = self.topics.get_mut(topic).expect("what was subscribed to is counted");
        *of(subscriptions) -= 1;
        if (subscriptions.by_name, subscriptions.by_regex) == (0, 0) {
            self.topics.remove(topic);
            self.topics_version += 1;
        }
    }
}

fn count(counts: &mut BTreeMap<String, usize>, key: &str) {
    if let Some(count) = counts.get_mut(key) {
        *count += 1;
    } else {
        counts.insert(key.to_owned(), 1);
    }
}

fn discount(counts: &mut BTreeMap<String, usize>, key: &str) {
    let count = counts.get_mut(key).expect("what goes has come");
    *count -= 1;
    if *count == 0 {
        counts.remove(key);
    }
}

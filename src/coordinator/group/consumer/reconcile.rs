//! How a member comes from what it has to its target: first it gives up what is to be another's and says so, then it moves to
//! the target's epoch and gets what nobody has any more.
//!
//! A partition is free when no member has it or has still to give it up: so no two members ever have one partition.

use std::collections::BTreeMap;

use super::member::{Member, Owned, State};
use super::{Claim, ConsumerGroup, Partitions};
use crate::metadata::Image;
use crate::model::TopicId;

/// What a member's next step depends on, beside its group.
pub(super) struct Step<'a> {
    pub image: &'a Image,
    pub id: &'a str,
    pub target: &'a Partitions,
    /// What the member says that it has; `None`: it says nothing.
    pub claim: Option<Claim<'a>>,
    /// With this heartbeat.
    pub has_subscription_changed: bool,
}

impl ConsumerGroup {
    /// The member after its next step; the same where there is none to make.
    pub(super) fn reconciled(&self, member: &Member, step: &Step) -> Member {
        match member.state {
            State::Stable if member.epoch == self.target_epoch() => self.unsubscribed(member, step),
            State::Unrevoked if has_any(step.claim, &member.revoking) => self.unsubscribed(member, step),
            // one of an unknown state has nothing, or it was refused
            State::Stable | State::Unrevoked | State::Unreleased | State::Unknown => {
                self.towards_target(member, step)
            }
        }
    }

    /// Whether the member subscribes to a topic that is there.
    pub(super) fn subscribes(&self, member: &Member, image: &Image, topic: TopicId) -> bool {
        let Some(topic) = image.topic(topic) else { return false };
        let has = |topics: &[String]| topics.binary_search(&topic.name).is_ok();
        let by_regex = || self.regexes.get(member.regex()?).map(|value| has(&value.topics));
        has(&member.about.topics) || by_regex().unwrap_or(false)
    }

    /// What it does not subscribe to any more goes, without waiting for a new target.
    fn unsubscribed(&self, member: &Member, step: &Step) -> Member {
        if !step.has_subscription_changed {
            return member.clone();
        }
        let (assigned, leaving): (Owned, Owned) = (member.assigned.clone().into_iter())
            .partition(|(topic, _)| self.subscribes(member, step.image, *topic));
        if leaving.is_empty() {
            return member.clone();
        }
        let mut revoking = member.revoking.clone();
        for (topic, partitions) in leaving {
            revoking.entry(topic).or_default().extend(partitions);
        }
        let mut next = Member { assigned, previous_epoch: member.epoch, ..member.clone() };
        if has_any(step.claim, &revoking) {
            next.state = State::Unrevoked;
            next.revoking = revoking;
        }
        next
    }

    fn towards_target(&self, member: &Member, step: &Step) -> Member {
        let nothing = Vec::new();
        let (mut assigned, mut revoking) = (Owned::new(), Owned::new());
        for (topic, owned) in &member.assigned {
            let is_subscribed = self.subscribes(member, step.image, *topic);
            let target = if is_subscribed { step.target.get(topic).unwrap_or(&nothing) } else { &nothing };
            let (kept, leaving): (BTreeMap<i32, i32>, BTreeMap<i32, i32>) = (owned.iter())
                .map(|(partition, since)| (*partition, *since))
                .partition(|(partition, _)| target.binary_search(partition).is_ok());
            for (owned, partitions) in [(&mut assigned, kept), (&mut revoking, leaving)] {
                if !partitions.is_empty() {
                    owned.insert(*topic, partitions);
                }
            }
        }
        if has_any(step.claim, &revoking) {
            let previous_epoch = member.epoch;
            return Member { previous_epoch, state: State::Unrevoked, assigned, revoking, ..member.clone() };
        }
        let epoch = self.target_epoch();
        let mut state = State::Stable;
        for (topic, target) in step.target {
            if !self.subscribes(member, step.image, *topic) {
                continue;
            }
            for partition in target {
                match self.index.owner(*topic, *partition) {
                    Some(owner) if **owner != *step.id => state = State::Unreleased,
                    _ => {
                        assigned.entry(*topic).or_default().entry(*partition).or_insert(epoch);
                    }
                }
            }
        }
        let revoking = Owned::new();
        Member { epoch, previous_epoch: member.epoch, state, assigned, revoking, ..member.clone() }
    }
}

/// Whether the member still has some of these. One that does not say has all; nobody has any of none.
fn has_any(claim: Option<Claim>, partitions: &Owned) -> bool {
    let Some(claim) = claim else { return !partitions.is_empty() };
    claim.iter().any(|(topic, claimed)| {
        let of_topic = partitions.get(topic);
        of_topic.is_some_and(|of_topic| claimed.iter().any(|partition| of_topic.contains_key(partition)))
    })
}

/// Whether the member has nothing but of these; one that does not say may have more.
pub(super) fn is_within(claim: Option<Claim>, partitions: &Owned) -> bool {
    claim.is_some_and(|claim| {
        claim.iter().all(|(topic, claimed)| {
            let of_topic = partitions.get(topic);
            of_topic.is_some_and(|of_topic| claimed.iter().all(|partition| of_topic.contains_key(partition)))
        })
    })
}

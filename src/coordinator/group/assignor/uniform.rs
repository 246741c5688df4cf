//! `uniform`: every member gets as many partitions as the others, and keeps of what it has as many as that allows.
//!
//! Balance comes before stickiness. Where all members subscribe to the same topics, their counts differ by one at most. Where
//! they do not, no partition could be given to another subscriber of its topic that has fewer by two or more, unless
//! that takes more than [`ROUNDS_MAX`] rounds.

use std::cmp::Reverse;
use std::collections::BinaryHeap;

use super::{Partitions, Spec};
use crate::model::TopicId;

/// Rounds over all topics in which partitions are moved for balance. One is enough where the subscribers of a topic
/// have the same subscriptions; where these overlap, each takes off about half of what is left.
const ROUNDS_MAX: usize = 16;

/// An owner's place that stands for none.
const NOBODY: usize = usize::MAX;

pub(super) fn assign(spec: &Spec) -> Vec<Partitions> {
    let mut draft = Draft::of_targets(spec);
    if spec.is_homogeneous() {
        draft.keep_quotas();
    } else {
        draft.give_what_is_free();
        draft.balance();
    }
    draft.assigned()
}

/// An assignment in the making. Members and topics are places in lists.
struct Draft {
    topics: Vec<Topic>,
    /// How many partitions each member has.
    sizes: Vec<usize>,
}

struct Topic {
    id: TopicId,
    /// Ascending.
    subscribers: Vec<usize>,
    /// By partition.
    owners: Vec<usize>,
}

impl Draft {
    /// The members have of their targets what they still subscribe to.
    fn of_targets(spec: &Spec) -> Draft {
        let mut topics: Vec<Topic> = (spec.partition_counts.iter())
            .map(|(&id, &count)| {
                let owners = vec![NOBODY; usize::try_from(count).unwrap_or(0)];
                Topic { id, subscribers: Vec::new(), owners }
            })
            .collect();
        let mut sizes = vec![0; spec.members.len()];
        for (at, member) in spec.members.iter().enumerate() {
            for id in member.topics.iter() {
                let place = topics.binary_search_by_key(id, |topic| topic.id);
                let topic = &mut topics[place.expect("a subscription is counted")];
                topic.subscribers.push(at);
                for &partition in member.target.get(id).into_iter().flatten() {
                    let owner = usize::try_from(partition).ok().and_then(|index| topic.owners.get_mut(index));
                    if let Some(owner) = owner.filter(|owner| **owner == NOBODY) {
                        *owner = at;
                        sizes[at] += 1;
                    }
                }
            }
        }
        topics.retain(|topic| !topic.subscribers.is_empty());
        Draft { topics, sizes }
    }

    /// All members subscribe to all topics. Each gets the same number of partitions, some one more; those that have one
    /// more already keep it, as far as there are enough.
    fn keep_quotas(&mut self) {
        let total: usize = self.topics.iter().map(|topic| topic.owners.len()).sum();
        let (each, mut extras) = (total / self.sizes.len(), total % self.sizes.len());
        let count = self.sizes.len();
        let mut quotas: Vec<usize> = (self.sizes.iter().enumerate())
            .map(|(at, &size)| {
                let is_one_of_the_last = count - at <= extras;
                let has_extra = extras > 0 && (size > each || is_one_of_the_last);
                extras -= usize::from(has_extra);
                each + usize::from(has_extra)
            })
            .collect();
        for owner in self.topics.iter_mut().flat_map(|topic| &mut topic.owners) {
            match quotas.get_mut(*owner) {
                Some(0) => *owner = NOBODY,
                Some(quota) => *quota -= 1,
                None => {}
            }
        }
        // what is left of the quotas is for what is nobody's
        let mut takers = (quotas.iter().enumerate()).flat_map(|(at, &quota)| std::iter::repeat_n(at, quota));
        for owner in self.topics.iter_mut().flat_map(|topic| &mut topic.owners) {
            if *owner == NOBODY {
                *owner = takers.next().expect("the quotas are as many as the partitions");
            }
        }
    }

    /// Each free partition goes to the subscriber that has least; the topics with most partitions for a subscriber
    /// first, and those with few subscribers, for there is least choice.
    fn give_what_is_free(&mut self) {
        let mut order: Vec<usize> = (0..self.topics.len()).collect();
        order.sort_by(|&one, &other| {
            let (one, other) = (&self.topics[one], &self.topics[other]);
            (other.owners.len() * one.subscribers.len())
                .cmp(&(one.owners.len() * other.subscribers.len()))
                .then(one.subscribers.len().cmp(&other.subscribers.len()))
        });
        for at in order {
            let topic = &mut self.topics[at];
            if !topic.owners.contains(&NOBODY) {
                continue;
            }
            let sizes = &mut self.sizes;
            let mut least: BinaryHeap<_> =
                topic.subscribers.iter().map(|&member| Reverse((sizes[member], member))).collect();
            for owner in topic.owners.iter_mut().filter(|owner| **owner == NOBODY) {
                let mut first = least.peek_mut().expect("every topic here has a subscriber");
                let Reverse((size, member)) = &mut *first;
                *owner = *member;
                *size += 1;
                sizes[*member] = *size;
            }
        }
    }

    /// Until a whole round over the topics has changed nothing.
    fn balance(&mut self) {
        let mut quiet = 0;
        for at in (0..self.topics.len()).cycle().take(ROUNDS_MAX * self.topics.len()) {
            quiet = if self.balance_topic(at) { 0 } else { quiet + 1 };
            if quiet == self.topics.len() {
                return;
            }
        }
    }

    /// Partitions go from the subscriber that has most to the one that has least. Whether one went.
    fn balance_topic(&mut self, at: usize) -> bool {
        let (topic, sizes) = (&mut self.topics[at], &mut self.sizes);
        let of_subscribers = || topic.subscribers.iter().map(|&member| sizes[member]);
        let (Some(smallest), Some(largest)) = (of_subscribers().min(), of_subscribers().max()) else {
            return false;
        };
        if largest - smallest <= 1 {
            return false;
        }
        let mut owned = vec![Vec::new(); sizes.len()];
        for (partition, &owner) in topic.owners.iter().enumerate() {
            owned[owner].push(partition);
        }
        let mut most: BinaryHeap<(usize, Reverse<usize>)> = (topic.subscribers.iter())
            .filter(|&&member| !owned[member].is_empty())
            .map(|&member| (sizes[member], Reverse(member)))
            .collect();
        let mut least: BinaryHeap<Reverse<(usize, usize)>> =
            topic.subscribers.iter().map(|&member| Reverse((sizes[member], member))).collect();
        let mut has_moved = false;
        // an entry whose size is not its member's any more goes back with the right one
        while let (Some(&(size, Reverse(giver))), Some(&Reverse((small, taker)))) =
            (most.peek(), least.peek())
        {
            if size != sizes[giver] {
                most.pop();
                most.push((sizes[giver], Reverse(giver)));
            } else if small != sizes[taker] {
                least.pop();
                least.push(Reverse((sizes[taker], taker)));
            } else if size - small.min(size) <= 1 {
                break;
            } else if let Some(partition) = owned[giver].pop() {
                topic.owners[partition] = taker;
                sizes[giver] -= 1;
                sizes[taker] += 1;
                has_moved = true;
            } else {
                most.pop();
            }
        }
        has_moved
    }

    fn assigned(&self) -> Vec<Partitions> {
        let mut assigned = vec![Partitions::new(); self.sizes.len()];
        for topic in &self.topics {
            for (partition, &owner) in (0..).zip(&topic.owners) {
                assigned[owner].entry(topic.id).or_default().push(partition);
            }
        }
        assigned
    }
}

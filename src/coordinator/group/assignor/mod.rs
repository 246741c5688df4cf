//! Assignors: how the partitions of the topics that a group reads are spread over its members.
//!
//! An assignor is a function of what the members subscribe to and of what was theirs so far. [`ASSIGNORS`] is the one
//! table; an entry there is all that another one needs.
//!
//! Invariants of every assignor, whatever the members' targets say:
//! * Each partition of a topic that somebody subscribes to is given to exactly one of its subscribers.
//! * The same input gives the same result.
//!
//! Racks are not looked at: nor are they by Kafka's assignors of these names.

mod range;
#[cfg(test)]
mod tests;
mod uniform;

use std::collections::BTreeMap;
use std::rc::Rc;

use crate::model::TopicId;

/// Partitions by topic, ascending; no topic is without any.
pub(super) type Partitions = BTreeMap<TopicId, Vec<i32>>;

/// A way to assign, by the name that members ask for it.
#[derive(Debug)]
pub(super) struct Assignor {
    pub name: &'static str,
    assign: fn(&Spec) -> Vec<Partitions>,
}

const ASSIGNORS: &[Assignor] = &[
    Assignor { name: "uniform", assign: uniform::assign },
    Assignor { name: "range", assign: range::assign },
];

/// Of a broker whose settings name none.
pub(super) const DEFAULT: &Assignor = &ASSIGNORS[0];

pub(super) fn find(name: &str) -> Option<&'static Assignor> {
    ASSIGNORS.iter().find(|assignor| assignor.name == name)
}

/// What is to be assigned, and to whom.
#[derive(Debug)]
pub(super) struct Spec<'a> {
    /// By their ids, ascending.
    pub members: Vec<Subscriber<'a>>,
    /// How many partitions each topic has that a member subscribes to.
    pub partition_counts: BTreeMap<TopicId, i32>,
}

/// A member as an assignor sees it.
#[derive(Clone, Debug)]
pub(super) struct Subscriber<'a> {
    pub id: &'a str,
    pub instance: Option<&'a str>,
    /// Ascending; each is one of [`Spec::partition_counts`]. Shared by members with the same subscription.
    pub topics: Rc<[TopicId]>,
    /// What it was to have so far.
    pub target: &'a Partitions,
}

impl Assignor {
    /// What each member is to have, in the order of [`Spec::members`].
    pub fn assign(&self, spec: &Spec) -> Vec<Partitions> {
        if spec.members.is_empty() { Vec::new() } else { (self.assign)(spec) }
    }
}

impl Spec<'_> {
    /// All members subscribe to the same topics.
    fn is_homogeneous(&self) -> bool {
        let first = &self.members[0].topics;
        self.members.iter().all(|member| Rc::ptr_eq(&member.topics, first) || member.topics == *first)
    }
}

//! The members of a group, with the counts that save going through them all.

use std::collections::{BTreeMap, HashMap};
use std::rc::Rc;

use super::{Member, Terms};
use crate::coordinator::Ticket;

#[derive(Debug, Default)]
pub struct Roster {
    members: BTreeMap<Rc<str>, Member>,
    /// The ids of static members.
    by_instance: HashMap<Rc<str>, Rc<str>>,
    /// How many members have a protocol; none that nobody has.
    supporters: HashMap<Rc<str>, usize>,
    /// How many wait for the others to join.
    joining: usize,
}

impl Roster {
    pub fn len(&self) -> usize {
        self.members.len()
    }

    pub fn is_empty(&self) -> bool {
        self.members.is_empty()
    }

    pub fn contains(&self, id: &str) -> bool {
        self.members.contains_key(id)
    }

    pub fn get(&self, id: &str) -> Option<&Member> {
        self.members.get(id)
    }

    /// Whoever changes whether it joins, or its protocols, does so by the functions below.
    pub fn get_mut(&mut self, id: &str) -> Option<&mut Member> {
        self.members.get_mut(id)
    }

    /// By id.
    pub fn iter(&self) -> impl Iterator<Item = &Member> {
        self.members.values()
    }

    pub fn iter_mut(&mut self) -> impl Iterator<Item = &mut Member> {
        self.members.values_mut()
    }

    pub fn first(&self) -> Option<&Rc<str>> {
        self.members.keys().next()
    }

    /// The id of the static member.
    pub fn of_instance(&self, instance: &str) -> Option<&Rc<str>> {
        self.by_instance.get(instance)
    }

    pub fn joining(&self) -> usize {
        self.joining
    }

    /// In place of one with its id.
    pub fn add(&mut self, member: Member) {
        self.remove(&member.id);
        if let Some(instance) = &member.instance {
            self.by_instance.insert(Rc::clone(instance), Rc::clone(&member.id));
        }
        self.joining += usize::from(member.joining.is_some());
        self.count(&member.terms);
        self.members.insert(Rc::clone(&member.id), member);
    }

    pub fn remove(&mut self, id: &str) -> Option<Member> {
        let member = self.members.remove(id)?;
        if let Some(instance) = &member.instance
            && self.by_instance.get(instance).is_some_and(|of_instance| **of_instance == *id)
        {
            self.by_instance.remove(instance);
        }
        self.joining -= usize::from(member.joining.is_some());
        self.discount(&member.terms);
        Some(member)
    }

    /// The member's new terms.
    pub fn update(&mut self, id: &str, terms: Terms) {
        let Some(member) = self.members.get_mut(id) else { return };
        let former = std::mem::replace(&mut member.terms, terms.clone());
        self.discount(&former);
        self.count(&terms);
    }

    /// The member waits for the others to join, in place of a request of it that did: that one is returned.
    pub fn wait_for_join(&mut self, id: &str, ticket: Ticket) -> Option<Ticket> {
        let former = self.members.get_mut(id)?.joining.replace(ticket);
        self.joining += usize::from(former.is_none());
        former
    }

    /// The member waits no more for the others to join.
    pub fn take_joining(&mut self, id: &str) -> Option<Ticket> {
        let ticket = self.members.get_mut(id)?.joining.take();
        self.joining -= usize::from(ticket.is_some());
        ticket
    }

    /// Whether a member with these protocols has one in common with all who are there.
    pub fn supports<'a>(&self, mut protocols: impl Iterator<Item = &'a str>) -> bool {
        protocols.any(|name| self.supporters.get(name).copied().unwrap_or(0) == self.members.len())
    }

    /// Of the protocols that all have, the one that most like best; the first by name among equals. `None` without members.
    pub fn vote(&self) -> Option<Rc<str>> {
        let is_candidate = |name: &str| self.supporters.get(name) == Some(&self.members.len());
        let mut votes: BTreeMap<&Rc<str>, usize> = BTreeMap::new();
        for member in self.members.values() {
            let best = member.terms.protocols.iter().find(|protocol| is_candidate(&protocol.name));
            if let Some(best) = best {
                *votes.entry(&best.name).or_default() += 1;
            }
        }
        let most = votes.values().copied().max()?;
        votes.into_iter().find(|(_, count)| *count == most).map(|(name, _)| Rc::clone(name))
    }

    /// The longest that a member may take to join again, milliseconds.
    pub fn rebalance_timeout_ms(&self) -> u64 {
        self.members.values().map(Member::rebalance_timeout_ms).max().unwrap_or(0)
    }

    fn count(&mut self, terms: &Terms) {
        for protocol in &terms.protocols {
            *self.supporters.entry(Rc::clone(&protocol.name)).or_default() += 1;
        }
    }

    fn discount(&mut self, terms: &Terms) {
        for protocol in &terms.protocols {
            let count = self.supporters.get_mut(&protocol.name).expect("what a member has is counted");
            *count -= 1;
            if *count == 0 {
                self.supporters.remove(&protocol.name);
            }
        }
    }
}

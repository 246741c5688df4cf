//! The coordinator of the consumer groups whose records are in one partition of `__consumer_offsets`.
//!
//! [`GroupCoordinator`] holds the groups by id; what is asked of one goes to its members ([`classic`] protocol, or
//! KIP-848's [`consumer`]) or its [`offsets`]. A group is there from its first member or offset to its last.
//!
//! Invariants (beside those of the folder above):
//! * A group's records and its state change together, in the same call.
//! * Nothing is done for groups that nobody asks about but what a timer calls for; the sweep for expired offsets takes
//!   so many groups at a time.

mod assignor;
mod classic;
mod commit;
mod consumer;
mod describe;
mod offsets;
mod pending;
mod request;
mod settings;
#[cfg(test)]
mod testing;
#[cfg(test)]
mod tests;

pub use commit::refused;
pub use describe::GroupProgress;
pub use request::{Body, Client, Reply, Request};
pub use settings::{Migration, Settings};

use std::collections::{BTreeMap, BTreeSet};
use std::convert::Infallible;
use std::ops::Bound;
use std::rc::Rc;

use classic::ClassicGroup;
use consumer::ConsumerGroup;
use offsets::{Expiry, Offsets};

use super::record::Record;
use super::timers::Timers;
use super::{Context, Machine, Now, Ticket};
use crate::log::producer_state::EndTxn;
use crate::metadata::Image;
use crate::model::{ErrorCode, ProducerId};
use crate::protocol::messages::OffsetCommitRequest;

/// Nothing is commanded.
type Effects = super::Effects<Reply, Record, Infallible>;

/// Groups that one sweep looks at before others get a turn.
const SWEPT_AT_ONCE: usize = 256;

pub struct GroupCoordinator {
    settings: Settings,
    groups: BTreeMap<Rc<str>, Group>,
    timers: Timers<Timer>,
    /// Groups in which a producer's open transaction has offsets, or had.
    transactions: BTreeMap<ProducerId, BTreeSet<Rc<str>>>,
    /// How far the sweep for expired offsets has come.
    swept: Option<Rc<str>>,
}

#[derive(Debug)]
struct Group {
    members: Members,
    offsets: Offsets,
}

#[derive(Debug)]
enum Members {
    /// Also a group that has offsets only.
    Classic(ClassicGroup),
    Consumer(ConsumerGroup),
}

/// What becomes due.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
enum Timer {
    /// The sweep for expired offsets.
    Sweep,
    Group(Rc<str>, Due),
}

/// Of a group.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
enum Due {
    /// Nothing was heard of this member.
    Session(Rc<str>),
    /// This member has not done its part in a rebalance.
    Rebalance(Rc<str>),
    /// Of a classic group: the members have had their time to join; to wait for the first ones is over.
    Join,
    /// Of a classic group: the members have had their time to ask for their assignment.
    Sync,
    /// Of a consumer group: a new assignment may be made, or the regular expressions are to be looked at again.
    Assignment,
    Regexes,
}

/// One call of the machine for one group.
struct Turn<'a> {
    now: Now,
    image: &'a Image,
    random: &'a mut dyn FnMut() -> u64,
    settings: &'a Settings,
    timers: &'a mut Timers<Timer>,
    effects: Effects,
    group: Rc<str>,
}

impl<'a> Turn<'a> {
    fn begin(
        context: &'a mut Context<'_>,
        settings: &'a Settings,
        timers: &'a mut Timers<Timer>,
        group: Rc<str>,
    ) -> Turn<'a> {
        let Context { now, image, random, .. } = context;
        Turn { now: *now, image, random: &mut **random, settings, timers, effects: Effects::default(), group }
    }

    fn record(&mut self, record: Record) {
        self.effects.records.push(record);
    }

    fn reply(&mut self, ticket: Ticket, reply: Reply) {
        self.effects.replies.push((ticket, reply));
    }

    /// From now, milliseconds.
    fn set_timer(&mut self, due: Due, after_ms: u64) {
        self.timers.set(Timer::Group(Rc::clone(&self.group), due), self.now.steady.saturating_add(after_ms));
    }

    fn has_timer(&self, due: Due) -> bool {
        self.timers.is_set(&Timer::Group(Rc::clone(&self.group), due))
    }

    fn cancel_timer(&mut self, due: Due) {
        self.timers.cancel(&Timer::Group(Rc::clone(&self.group), due));
    }

    /// A random identifier as Java writes it.
    fn uuid(&mut self) -> String {
        let random = (u128::from((self.random)()) << 64) | u128::from((self.random)());
        uuid::Builder::from_random_bytes(random.to_be_bytes()).into_uuid().to_string()
    }
}

impl Machine for GroupCoordinator {
    type Settings = Settings;
    type Record = Record;
    type Request = Request;
    type Reply = Reply;
    type Command = Infallible;

    fn new(settings: Settings) -> GroupCoordinator {
        GroupCoordinator {
            settings,
            groups: BTreeMap::new(),
            timers: Timers::default(),
            transactions: BTreeMap::new(),
            swept: None,
        }
    }

    fn replay(&mut self, record: Record) {
        let id: Rc<str> = Rc::from(record.group());
        let group = self.groups.entry(Rc::clone(&id)).or_insert_with(Group::new);
        group.replay(record);
        if group.is_gone() {
            self.groups.remove(&id);
        }
    }

    fn replay_in_transaction(&mut self, producer: ProducerId, record: Record) {
        let Record::Offset { group, topic, partition, value } = record else {
            // nobody writes other records within a transaction
            return self.replay(record);
        };
        let id: Rc<str> = Rc::from(group);
        let group = self.groups.entry(Rc::clone(&id)).or_insert_with(Group::new);
        group.offsets.replay_pending(producer, &topic, partition, value);
        self.transactions.entry(producer).or_default().insert(id);
    }

    fn end_transaction(&mut self, producer: ProducerId, end: EndTxn) {
        for id in self.transactions.remove(&producer).unwrap_or_default() {
            let Some(group) = self.groups.get_mut(&id) else { continue };
            group.offsets.end_transaction(producer, end);
            if group.is_gone() {
                self.groups.remove(&id);
            }
        }
    }

    /// The log has been replayed: members have their time anew, offsets of topics that are gone go.
    fn loaded(&mut self, context: &mut Context) -> Effects {
        let sweep = context.now.steady + self.settings.offsets_retention_check_interval_ms;
        self.timers.set(Timer::Sweep, sweep);
        let image = context.image;
        self.each(context, |group, turn| {
            group.loaded(turn);
            group.offsets.remove_topics(turn, |topic| image.topic_by_name(topic).is_none());
        })
    }

    /// These topics are no more: their offsets go with them, or a topic of the same name would begin there.
    fn topics_removed(&mut self, context: &mut Context, topics: &[String]) -> Effects {
        self.each(context, |group, turn| {
            group.offsets.remove_topics(turn, |topic| topics.iter().any(|removed| removed == topic));
        })
    }

    /// Topics have come, gone, or grown: groups that follow them assign anew.
    fn topics_changed(&mut self, context: &mut Context) -> Effects {
        self.each(context, |group, turn| {
            if let Members::Consumer(members) = &mut group.members {
                members.topics_changed(turn);
            }
        })
    }

    fn handle(&mut self, context: &mut Context, ticket: Ticket, request: Request) -> Effects {
        let Request { version, client, body } = request;
        match body {
            Body::Describe(groups) => {
                let described = groups.iter().map(|id| self.describe(id, version)).collect();
                answer(ticket, Reply::Describe(described))
            }
            Body::DescribeConsumer(groups) => {
                let described = groups.iter().map(|id| self.describe_consumer(context.image, id)).collect();
                answer(ticket, Reply::DescribeConsumer(described))
            }
            Body::List { states, types } => answer(ticket, Reply::List(self.list(&states, &types))),
            Body::Delete(groups) => self.delete(context, ticket, groups),
            Body::FetchOffsets { group, require_stable } => {
                answer(ticket, Reply::FetchOffsets(self.fetch_offsets(&group, require_stable)))
            }
            Body::Commit(commit) => self.commit(context, ticket, version, None, &commit),
            Body::CommitInTransaction { producer_id, producer_epoch, commit, .. } => {
                let mut effects = self.commit(context, ticket, version, Some(producer_id), &commit);
                if !effects.records.is_empty() {
                    let id = Rc::from(&*commit.group_id.0);
                    self.transactions.entry(producer_id).or_default().insert(id);
                    effects.in_transaction = Some((producer_id, producer_epoch));
                }
                effects
            }
            Body::DeleteOffsets(request) => self.one(context, &request.group_id, |group, turn| match group {
                None => commit::delete_from_no_group(turn, ticket),
                Some(group) => group.delete_offsets(turn, ticket, &request),
            }),
            Body::Join(request) => self.one(context, &request.group_id, |group, turn| {
                classic::join(group, turn, ticket, version, &client, &request);
            }),
            Body::Sync(request) => self.one(context, &request.group_id, |group, turn| {
                classic::sync(group, turn, ticket, version, &request)
            }),
            Body::Heartbeat(request) => self.one(context, &request.group_id, |group, turn| {
                classic::heartbeat(group, turn, ticket, &request)
            }),
            Body::Leave(request) => self.one(context, &request.group_id, |group, turn| {
                classic::leave(group, turn, ticket, version, &request)
            }),
            Body::ConsumerHeartbeat(request) => self.one(context, &request.group_id, |group, turn| {
                consumer::heartbeat(group, turn, ticket, version, &client, &request);
            }),
        }
    }

    fn next_tick(&self) -> Option<u64> {
        self.timers.next()
    }

    fn tick(&mut self, context: &mut Context) -> Effects {
        match self.timers.pop(context.now.steady) {
            None => Effects::default(),
            Some(Timer::Sweep) => self.sweep(context),
            Some(Timer::Group(id, due)) => self.one(context, &id, |group, turn| {
                if let Some(group) = group {
                    group.due(turn, due);
                }
            }),
        }
    }
}

impl GroupCoordinator {
    /// With a producer, in its transaction.
    fn commit(
        &mut self,
        context: &mut Context,
        ticket: Ticket,
        version: i16,
        producer: Option<ProducerId>,
        commit: &OffsetCommitRequest,
    ) -> Effects {
        let may_create = commit.generation_id_or_member_epoch < 0;
        self.one(context, &commit.group_id, |group, turn| match group {
            None if !may_create => commit::of_no_group(turn, ticket, version, producer, commit),
            group => group.get_or_insert_with(Group::new).commit(turn, ticket, version, producer, commit),
        })
    }

    /// Forgets offsets that are too old, and groups that have nothing left; some groups at a time.
    fn sweep(&mut self, context: &mut Context) -> Effects {
        let behind = self.swept.take().map_or(Bound::Unbounded, Bound::Excluded);
        let ids: Vec<Rc<str>> =
            (self.groups.range::<str, _>((behind.as_ref().map(Rc::as_ref), Bound::Unbounded)))
                .take(SWEPT_AT_ONCE)
                .map(|(id, _)| Rc::clone(id))
                .collect();
        let (now, interval) = (context.now.steady, self.settings.offsets_retention_check_interval_ms);
        let is_whole = ids.len() < SWEPT_AT_ONCE;
        self.timers.set(Timer::Sweep, if is_whole { now + interval } else { now });
        self.swept = ids.last().filter(|_| !is_whole).map(Rc::clone);
        self.these(context, ids, Group::expire)
    }

    fn delete(
        &mut self,
        context: &mut Context,
        ticket: Ticket,
        ids: Vec<crate::protocol::messages::GroupId>,
    ) -> Effects {
        let mut results = Vec::with_capacity(ids.len());
        let mut effects = Effects::default();
        for id in ids {
            let mut error = ErrorCode::GroupIdNotFound;
            let of_one = self.one(context, &id, |group, turn| {
                if let Some(group) = group {
                    error = group.delete(turn);
                }
            });
            effects.append(of_one);
            results.push(describe::deleted(id, error));
        }
        effects.replies.push((ticket, Reply::Delete(results)));
        effects
    }

    /// A turn of one group, which may come by it or go.
    fn one(
        &mut self,
        context: &mut Context,
        id: &str,
        act: impl FnOnce(&mut Option<Group>, &mut Turn),
    ) -> Effects {
        let (id, mut group) = match self.groups.remove_entry(id) {
            Some((id, group)) => (id, Some(group)),
            None => (Rc::from(id), None),
        };
        let mut turn = Turn::begin(context, &self.settings, &mut self.timers, Rc::clone(&id));
        act(&mut group, &mut turn);
        let effects = turn.effects;
        if let Some(group) = group.filter(|group| !group.is_gone()) {
            self.groups.insert(id, group);
        }
        effects
    }

    /// A turn of every group, each where it is: that of a change of topics has little to do but to go through them all.
    fn each(&mut self, context: &mut Context, act: impl Fn(&mut Group, &mut Turn)) -> Effects {
        let (mut effects, mut gone) = (Effects::default(), Vec::new());
        for (id, group) in &mut self.groups {
            let mut turn = Turn::begin(context, &self.settings, &mut self.timers, Rc::clone(id));
            act(group, &mut turn);
            effects.append(turn.effects);
            if group.is_gone() {
                gone.push(Rc::clone(id));
            }
        }
        for id in gone {
            self.groups.remove(&id);
        }
        effects
    }

    fn these(
        &mut self,
        context: &mut Context,
        ids: Vec<Rc<str>>,
        act: impl Fn(&mut Group, &mut Turn),
    ) -> Effects {
        let mut effects = Effects::default();
        for id in ids {
            let of_one = self.one(context, &id, |group, turn| {
                if let Some(group) = group {
                    act(group, turn);
                }
            });
            effects.append(of_one);
        }
        effects
    }
}

impl Group {
    fn new() -> Group {
        Group { members: Members::Classic(ClassicGroup::new()), offsets: Offsets::default() }
    }

    /// Nothing of it is left, in the log or here.
    fn is_gone(&self) -> bool {
        let is_memberless = match &self.members {
            Members::Classic(members) => members.is_gone(),
            Members::Consumer(members) => members.is_gone(),
        };
        is_memberless && self.offsets.is_empty()
    }

    fn replay(&mut self, record: Record) {
        match record {
            Record::Offset { topic, partition, value, .. } => self.offsets.replay(&topic, partition, value),
            Record::ClassicGroup { value, .. } => match (&mut self.members, value) {
                (_, Some(value)) => self.members = Members::Classic(ClassicGroup::replayed(value)),
                (Members::Classic(members), None) => *members = ClassicGroup::new(),
                // what an upgrade has left of the classic group
                (Members::Consumer(_), None) => {}
            },
            record => {
                let is_removal = record.is_removal();
                if let Members::Classic(_) = &self.members {
                    if is_removal {
                        return;
                    }
                    self.members = Members::Consumer(ConsumerGroup::new());
                }
                let Members::Consumer(members) = &mut self.members else { unreachable!("made so above") };
                members.replay(record);
                if members.is_gone() {
                    self.members = Members::Classic(ClassicGroup::new());
                }
            }
        }
    }

    fn loaded(&mut self, turn: &mut Turn) {
        match &mut self.members {
            Members::Classic(members) => members.loaded(turn),
            Members::Consumer(members) => members.loaded(turn),
        }
    }

    fn due(&mut self, turn: &mut Turn, due: Due) {
        match &mut self.members {
            Members::Classic(members) => members.due(turn, due),
            Members::Consumer(_) => consumer::due(self, turn, due),
        }
    }

    fn is_subscribed(&self, topic: &str) -> bool {
        match &self.members {
            Members::Classic(members) => members.is_subscribed(topic),
            Members::Consumer(members) => members.is_subscribed(topic),
        }
    }

    /// The sweep's part: old offsets go, and with the last of them a group without members.
    fn expire(&mut self, turn: &mut Turn) {
        let expiry = match &self.members {
            Members::Classic(members) => members.expiry(),
            Members::Consumer(members) => Some(members.expiry()),
        };
        let members = &self.members;
        if let Some(expiry) = expiry {
            self.offsets.expire(turn, expiry, |topic| match members {
                Members::Classic(members) => members.is_subscribed(topic),
                Members::Consumer(members) => members.is_subscribed(topic),
            });
        }
        let is_awaited = matches!(&self.members, Members::Classic(members) if members.is_awaited());
        if self.offsets.is_empty() && !is_awaited {
            self.remove_if_empty(turn);
        }
    }

    fn remove_if_empty(&mut self, turn: &mut Turn) {
        match &mut self.members {
            Members::Classic(members) if members.is_empty() => members.remove(turn),
            Members::Consumer(members) if members.is_empty() => members.remove(turn),
            _ => {}
        }
    }

    /// DeleteGroups: with its offsets.
    fn delete(&mut self, turn: &mut Turn) -> ErrorCode {
        let is_empty = match &self.members {
            Members::Classic(members) => members.is_empty(),
            Members::Consumer(members) => members.is_empty(),
        };
        if !is_empty {
            return ErrorCode::NonEmptyGroup;
        }
        self.offsets.remove_topics(turn, |_| true);
        self.remove_if_empty(turn);
        ErrorCode::None
    }
}

fn answer(ticket: Ticket, reply: Reply) -> Effects {
    Effects { replies: vec![(ticket, reply)], ..Effects::default() }
}

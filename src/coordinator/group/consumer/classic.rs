//! Members of the classic protocol in a group of the consumer protocol: their JoinGroup, SyncGroup, Heartbeat and LeaveGroup.
//!
//! Such a member's generation is its epoch. It has its assignment from SyncGroup, says with JoinGroup what it has, and
//! is told by its heartbeats that it is to join again: to give something up, or to get something. In between it has the
//! time of its rebalance timeout.

use std::rc::Rc;

use super::heartbeat::Arrival;
use super::member::{self, Member, State};
use super::{ConsumerGroup, ErrorCode, Members, Partitions, leave, migration};
use crate::coordinator::Ticket;
use crate::coordinator::group::classic::{self, CONSUMER, Terms};
use crate::coordinator::group::describe::text;
use crate::coordinator::group::{Client, Due, Group, Reply, Turn};
use crate::coordinator::record::{Assignment, ClassicProtocol, ClassicSupport, MemberValue, Subscription};
use crate::metadata::Image;
use crate::model::TopicId;
use crate::protocol::messages::leave_group_request::MemberIdentity;
use crate::protocol::messages::{
    HeartbeatRequest, JoinGroupRequest, JoinGroupResponse, SyncGroupRequest, SyncGroupResponse,
};

/// JoinGroup of a group with members, which is one of the consumer protocol.
pub(in crate::coordinator::group) fn join(
    group: &mut Group,
    turn: &mut Turn,
    ticket: Ticket,
    version: i16,
    client: &Client,
    request: &JoinGroupRequest,
) {
    let Members::Consumer(members) = &mut group.members else { return };
    let joining = match members.check_join(turn, version, client, request) {
        Ok(joining) => joining,
        Err((id, error)) => return classic::refuse_join(turn, ticket, &id, error),
    };
    let is_downgrade = match &joining.arrival {
        Arrival::Replaces(other) => members.may_downgrade_with(turn, other),
        Arrival::Joins | Arrival::Known => false,
    };
    let Joining { id, arrival, before, about, claim } = joining;
    if let Arrival::Replaces(other) = arrival {
        members.replace(turn, &other, &id, &before);
    }
    let has_changed = members.describe_member(turn, &id, &before, about);
    members.follow_topics(turn, has_changed);
    if !is_downgrade {
        members.follow_epoch(turn);
    }
    let is_behind = members.target_epoch() < members.epoch() || (is_downgrade && !members.have_targets(&id));
    let claim: Vec<(TopicId, &[i32])> =
        claim.iter().map(|(topic, partitions)| (*topic, partitions.as_slice())).collect();
    let member = if is_downgrade && is_behind {
        members.members[&id].clone()
    } else {
        members.reconcile(turn, &id, Some(&claim), has_changed)
    };
    members.set_session_timer(turn, &id, &member);
    // it has to ask for its assignment
    turn.set_timer(Due::Rebalance(Rc::clone(&id)), rebalance_timeout_ms(&member));
    if is_downgrade {
        let rebalance = if is_behind { Rebalance::Now } else { Rebalance::No };
        migration::downgrade(group, turn, &[], rebalance);
    }
    let protocol = member.about.classic.iter().flat_map(|classic| &classic.protocols).next();
    let response = JoinGroupResponse::default()
        .with_member_id(text(&id))
        .with_generation_id(member.epoch)
        .with_protocol_type(Some(text(CONSUMER)))
        .with_protocol_name(protocol.map(|protocol| text(&protocol.name)));
    turn.reply(ticket, Reply::Join(Box::new(response)));
}

/// LeaveGroup; an error for each. Takes members of the consumer protocol out, too: an administrator may ask for that.
pub(in crate::coordinator::group) fn classic_leave(
    group: &mut Group,
    turn: &mut Turn,
    leaving: &[MemberIdentity],
) -> Vec<ErrorCode> {
    let Members::Consumer(members) = &group.members else { return Vec::new() };
    let mut ids: Vec<Rc<str>> = Vec::new();
    let errors = leaving.iter().map(|identity| match members.find_leaving(identity) {
        Ok(id) => {
            ids.push(id);
            ErrorCode::None
        }
        Err(error) => error,
    });
    let errors = errors.collect();
    ids.sort_unstable();
    ids.dedup();
    leave::fence(group, turn, &ids);
    errors
}

/// Whether a group that becomes a classic one is assigned anew.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Rebalance {
    Now,
    No,
}

/// A JoinGroup that may be answered.
struct Joining {
    id: Rc<str>,
    arrival: Arrival,
    before: Member,
    about: MemberValue,
    /// What the member says that it has.
    claim: Partitions,
}

impl ConsumerGroup {
    /// Changes nothing. An error comes with the member id that is told with it.
    fn check_join(
        &self,
        turn: &mut Turn,
        version: i16,
        client: &Client,
        request: &JoinGroupRequest,
    ) -> Result<Joining, (String, ErrorCode)> {
        let told = request.member_id.to_string();
        let refused = |error| Err((told.clone(), error));
        let policy = turn.settings.migration;
        if !policy.upgrade && !policy.downgrade {
            return refused(ErrorCode::InconsistentGroupProtocol);
        }
        if told.len() > super::MEMBER_ID_BYTES_MAX {
            return refused(ErrorCode::UnknownMemberId);
        }
        let instance = request.group_instance_id.as_deref();
        let is_new = told.is_empty();
        let id: Rc<str> = if is_new { turn.uuid().into() } else { Rc::from(told.as_str()) };
        self.check_size(turn, &id, instance).map_err(|refusal| (told.clone(), refusal.error))?;
        let terms = Terms::of(request);
        let supports = |name: &str| {
            self.index.classic_protocols.get(name).copied().unwrap_or(0) == self.index.classic_members
        };
        if request.protocol_type.as_str() != CONSUMER
            || !terms.protocols.iter().any(|protocol| supports(&protocol.name))
        {
            return refused(ErrorCode::InconsistentGroupProtocol);
        }
        if is_new && instance.is_none() && version >= classic::MEMBER_ID_REQUIRED_FROM {
            return Err((id.to_string(), ErrorCode::MemberIdRequired));
        }
        let holder = instance.and_then(|instance| self.index.instances.get(instance));
        let arrival = match (instance, holder) {
            (Some(_), Some(holder)) if is_new => Arrival::Replaces(Rc::clone(holder)),
            (Some(instance), _) if !is_new => {
                self.check_instance(turn, &id, instance).map_err(|refusal| (told.clone(), refusal.error))?;
                Arrival::Known
            }
            _ => Arrival::Joins,
        };
        let Some(subscription) = Subscription::decode(&terms.protocols[0].metadata) else {
            return refused(ErrorCode::InconsistentGroupProtocol);
        };
        let before = self.before(&id, &arrival);
        let claim = by_id(turn.image, &subscription.owned);
        let about = said(&before.about, client, instance, terms, subscription);
        Ok(Joining { id, arrival, before, about, claim })
    }

    /// SyncGroup: the assignment is there already.
    pub fn sync(
        &mut self,
        turn: &mut Turn,
        request: &SyncGroupRequest,
    ) -> Result<SyncGroupResponse, ErrorCode> {
        let instance = request.group_instance_id.as_deref();
        let (id, member) = self.classic_member(turn, &request.member_id, instance, request.generation_id)?;
        let protocol = member
            .about
            .classic
            .iter()
            .flat_map(|classic| &classic.protocols)
            .next()
            .ok_or(ErrorCode::UnknownMemberId)?;
        let is_other = |said: Option<&str>, known: &str| said.is_some_and(|said| said != known);
        if is_other(request.protocol_type.as_deref(), CONSUMER)
            || is_other(request.protocol_name.as_deref(), &protocol.name)
        {
            return Err(ErrorCode::InconsistentGroupProtocol);
        }
        if self.target_epoch() > member.epoch && member.state != State::Unrevoked {
            expect_join(turn, &id, member);
            return Err(ErrorCode::RebalanceInProgress);
        }
        let assignment = embedded(turn.image, &protocol.metadata, &member::partitions(&member.assigned));
        turn.cancel_timer(Due::Rebalance(Rc::clone(&id)));
        self.set_session_timer(turn, &id, member);
        Ok(SyncGroupResponse::default()
            .with_protocol_type(request.protocol_type.clone())
            .with_protocol_name(request.protocol_name.clone())
            .with_assignment(assignment))
    }

    /// Heartbeat: it is to join again when there is another target, when it has something to give up, or when what it waits
    /// for is free.
    pub fn classic_heartbeat(&mut self, turn: &mut Turn, request: &HeartbeatRequest) -> ErrorCode {
        let instance = request.group_instance_id.as_deref();
        let found = self.classic_member(turn, &request.member_id, instance, request.generation_id);
        let (id, member) = match found {
            Ok(found) => found,
            Err(error) => return error,
        };
        self.set_session_timer(turn, &id, member);
        let has_to_join = match member.state {
            _ if member.epoch < self.target_epoch() => true,
            State::Unrevoked => true,
            State::Unreleased => !self.waits_for_others(&id, member),
            State::Stable | State::Unknown => false,
        };
        if !has_to_join {
            return ErrorCode::None;
        }
        expect_join(turn, &id, member);
        ErrorCode::RebalanceInProgress
    }

    /// A member of the classic protocol in this generation.
    fn classic_member(
        &self,
        turn: &Turn,
        id: &str,
        instance: Option<&str>,
        generation: i32,
    ) -> Result<(Rc<str>, &Member), ErrorCode> {
        let id = match instance {
            Some(instance) => self.check_instance(turn, id, instance).map_err(|refusal| refusal.error)?,
            None => Rc::from(id),
        };
        let member = self.members.get(&id).filter(|member| member.uses_classic_protocol());
        let member = member.ok_or(ErrorCode::UnknownMemberId)?;
        if member.epoch == generation { Ok((id, member)) } else { Err(ErrorCode::IllegalGeneration) }
    }

    /// Something of its target is another's still.
    fn waits_for_others(&self, id: &Rc<str>, member: &Member) -> bool {
        let target = self.targets.get(id).into_iter().flat_map(|target| target.iter());
        let mut missing = target.flat_map(|(topic, partitions)| {
            let has = |partition: &i32| {
                member.assigned.get(topic).is_some_and(|owned| owned.contains_key(partition))
            };
            partitions.iter().filter(move |partition| !has(partition)).map(|partition| (*topic, *partition))
        });
        missing.any(|(topic, partition)| self.index.owner(topic, partition).is_some())
    }

    fn find_leaving(&self, identity: &MemberIdentity) -> Result<Rc<str>, ErrorCode> {
        let id = identity.member_id.as_str();
        let Some(instance) = identity.group_instance_id.as_deref() else {
            let known = self.members.get_key_value(id);
            return known.map(|(id, _)| Rc::clone(id)).ok_or(ErrorCode::UnknownMemberId);
        };
        match self.index.instances.get(instance) {
            None => Err(ErrorCode::UnknownMemberId),
            Some(holder) if id.is_empty() || **holder == *id => Ok(Rc::clone(holder)),
            Some(_) => Err(ErrorCode::FencedInstanceId),
        }
    }
}

/// The member has so long to join.
fn expect_join(turn: &mut Turn, id: &Rc<str>, member: &Member) {
    let due = Due::Rebalance(Rc::clone(id));
    if !turn.has_timer(due.clone()) {
        turn.set_timer(due, rebalance_timeout_ms(member));
    }
}

fn rebalance_timeout_ms(member: &Member) -> u64 {
    u64::try_from(member.about.rebalance_timeout_ms).unwrap_or(0)
}

/// A classic member subscribes by names only.
fn said(
    before: &MemberValue,
    client: &Client,
    instance: Option<&str>,
    terms: Terms,
    subscription: Subscription,
) -> MemberValue {
    let mut topics = subscription.topics;
    topics.sort_unstable();
    topics.dedup();
    MemberValue {
        instance: instance.map(str::to_owned).or_else(|| before.instance.clone()),
        rack: subscription.rack.or_else(|| before.rack.clone()),
        client_id: client.id.clone(),
        client_host: client.host.clone(),
        topics,
        regex: Some(String::new()),
        rebalance_timeout_ms: terms.rebalance_timeout_ms,
        assignor: before.assignor.clone(),
        classic: Some(support(terms)),
    }
}

pub(super) fn support(terms: Terms) -> ClassicSupport {
    let protocols = terms
        .protocols
        .into_iter()
        .map(|protocol| ClassicProtocol { name: protocol.name.to_string(), metadata: protocol.metadata });
    ClassicSupport { session_timeout_ms: terms.session_timeout_ms, protocols: protocols.collect() }
}

/// Those of topics that are there.
pub(super) fn by_id(image: &Image, named: &[(String, Vec<i32>)]) -> Partitions {
    let mut partitions = Partitions::new();
    for (name, of_topic) in named.iter().filter(|(_, of_topic)| !of_topic.is_empty()) {
        if let Some(topic) = image.topic_by_name(name) {
            let all = partitions.entry(topic.id).or_default();
            all.extend_from_slice(of_topic);
            all.sort_unstable();
            all.dedup();
        }
    }
    partitions
}

/// As a member of the classic protocol reads it, in the version of its subscription.
pub(super) fn embedded(image: &Image, subscription: &[u8], partitions: &Partitions) -> bytes::Bytes {
    let version = Subscription::decode(subscription).map_or(0, |subscription| subscription.version);
    let named = partitions
        .iter()
        .filter_map(|(topic, partitions)| Some((image.topic(*topic)?.name.clone(), partitions.clone())));
    Assignment::encode(version, &named.collect())
}

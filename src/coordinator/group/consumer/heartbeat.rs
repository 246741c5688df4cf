//! ConsumerGroupHeartbeat 0-1 (KIP-848; 1 brings regular expressions, and member ids that clients make).

use std::rc::Rc;

use super::member::{AWAY, Member, State};
use super::reconcile::{Step, is_within};
use super::{Claim, ConsumerGroup, MEMBER_ID_BYTES_MAX, Partitions, Refusal, config, member, migration};
use crate::coordinator::group::{Client, Group, Members, Turn};
use crate::coordinator::pattern;
use crate::coordinator::record::{MemberValue, TEXT_BYTES_MAX};
use crate::model::{ErrorCode, TopicId};
use crate::protocol::StrBytes;
use crate::protocol::messages::consumer_group_heartbeat_response::{Assignment, TopicPartitions};
use crate::protocol::messages::{ConsumerGroupHeartbeatRequest, ConsumerGroupHeartbeatResponse};

/// A client makes its member's id from this version on.
const MEMBER_ID_FROM: i16 = 1;

/// Of a member that leaves for good.
pub(super) const LEAVES: i32 = -1;

/// What can be said without knowing the group.
pub(super) fn check_request(
    turn: &Turn,
    version: i16,
    request: &ConsumerGroupHeartbeatRequest,
) -> Result<(), Refusal> {
    let invalid = |message: &str| Err(Refusal::new(ErrorCode::InvalidRequest, message));
    if !turn.settings.serves_consumer_protocol {
        return Err(Refusal::new(
            ErrorCode::UnsupportedVersion,
            "The broker does not serve the consumer protocol.",
        ));
    }
    let epoch = request.member_epoch;
    if (version >= MEMBER_ID_FROM || epoch > 0 || epoch == LEAVES) && is_blank(&request.member_id) {
        return invalid("MemberId can't be empty.");
    }
    if request.member_id.len() > MEMBER_ID_BYTES_MAX {
        return invalid("MemberId is too long.");
    }
    if is_blank(&request.group_id) {
        return invalid("GroupId can't be empty.");
    }
    if request.group_id.len() > TEXT_BYTES_MAX {
        return invalid("GroupId is too long.");
    }
    if request.instance_id.as_deref().is_some_and(is_blank) {
        return invalid("InstanceId can't be empty.");
    }
    if request.rack_id.as_deref().is_some_and(is_blank) {
        return invalid("RackId can't be empty.");
    }
    if epoch == 0 {
        if request.rebalance_timeout_ms == -1 {
            return invalid("RebalanceTimeoutMs must be provided in first request.");
        }
        if request.topic_partitions.as_ref().is_none_or(|partitions| !partitions.is_empty()) {
            return invalid("TopicPartitions must be empty when (re-)joining.");
        }
        if request.subscribed_topic_names.is_none() && request.subscribed_topic_regex.is_none() {
            return invalid(
                "Either SubscribedTopicNames or SubscribedTopicRegex must be non-null when (re-)joining.",
            );
        }
    } else if epoch == AWAY {
        if request.instance_id.is_none() {
            return invalid("InstanceId can't be null.");
        }
    } else if epoch < AWAY {
        return invalid("MemberEpoch is invalid.");
    }
    let known = &turn.settings.consumer_assignors;
    if let Some(assignor) = request.server_assignor.as_deref()
        && !known.iter().any(|name| name == assignor)
    {
        let message =
            format!("ServerAssignor {assignor} is not supported. Supported assignors: {}.", known.join(", "));
        return Err(Refusal::new(ErrorCode::UnsupportedAssignor, message));
    }
    Ok(())
}

/// As Java trims.
fn is_blank(text: &str) -> bool {
    text.chars().all(|character| character <= ' ')
}

/// Where a request finds its member.
pub(super) enum Arrival {
    /// It is new.
    Joins,
    Known,
    /// It comes for a static member that was there under this id.
    Replaces(Rc<str>),
}

/// A heartbeat that may be answered.
struct Accepted {
    id: Rc<str>,
    arrival: Arrival,
    /// The member before it.
    before: Member,
    about: MemberValue,
}

/// A member joins, or goes on.
pub(super) fn heartbeat(
    group: &mut Option<Group>,
    turn: &mut Turn,
    client: &Client,
    request: &ConsumerGroupHeartbeatRequest,
) -> Result<ConsumerGroupHeartbeatResponse, Refusal> {
    if let Some(Group { members: Members::Consumer(members), .. }) = group
        && let Some(response) = members.undisturbed(turn, client, request)
    {
        return Ok(response);
    }
    let claim: Option<Vec<(TopicId, &[i32])>> = request.topic_partitions.as_ref().map(|topics| {
        topics.iter().map(|topic| (TopicId(topic.topic_id.as_u128()), topic.partitions.as_slice())).collect()
    });
    let claim = claim.as_deref();
    let is_joining = request.member_epoch == 0;
    let not_found = || {
        let message = format!("Consumer group {} not found.", turn.group);
        Refusal::new(ErrorCode::GroupIdNotFound, message)
    };
    match group.as_mut().map(|group| &mut group.members) {
        Some(Members::Consumer(members)) => {
            let accepted = members.check(turn, client, request, claim)?;
            Ok(members.accept(turn, request, claim, accepted))
        }
        Some(Members::Classic(classic)) if is_joining && classic.is_empty() => {
            let mut members = ConsumerGroup::new();
            let accepted = members.check(turn, client, request, claim)?;
            classic.remove(turn);
            let response = members.accept(turn, request, claim, accepted);
            group.get_or_insert_with(Group::new).members = Members::Consumer(members);
            Ok(response)
        }
        None if is_joining => {
            let mut members = ConsumerGroup::new();
            let accepted = members.check(turn, client, request, claim)?;
            let response = members.accept(turn, request, claim, accepted);
            group.get_or_insert_with(Group::new).members = Members::Consumer(members);
            Ok(response)
        }
        Some(Members::Classic(classic)) if is_joining => {
            let upgrade = migration::upgrade(turn, classic)?;
            let accepted = upgrade.group.check(turn, client, request, claim)?;
            let mut members = upgrade.perform(turn, classic);
            let response = members.accept(turn, request, claim, accepted);
            group.get_or_insert_with(Group::new).members = Members::Consumer(members);
            Ok(response)
        }
        Some(Members::Classic(_)) | None => Err(not_found()),
    }
}

impl ConsumerGroup {
    /// The answer to a heartbeat that says nothing new, of a member that has what it is to have, in a group that has nothing
    /// to do: nearly every one. What [`Self::check`] and [`Self::accept`] would do for it, without a copy of the member.
    fn undisturbed(
        &self,
        turn: &mut Turn,
        client: &Client,
        request: &ConsumerGroupHeartbeatRequest,
    ) -> Option<ConsumerGroupHeartbeatResponse> {
        let says_nothing = request.rack_id.is_none()
            && request.rebalance_timeout_ms == -1
            && request.subscribed_topic_names.is_none()
            && request.subscribed_topic_regex.is_none()
            && request.server_assignor.is_none();
        let has_nothing_to_do = !self.is_stale && self.target_epoch() >= self.epoch();
        if !says_nothing || !has_nothing_to_do {
            return None;
        }
        let (id, member) = self.members.get_key_value(request.member_id.as_str())?;
        let about = &member.about;
        let holder = |instance: &str| self.index.instances.get(instance);
        let is_same = !member.uses_classic_protocol()
            && request.instance_id.as_deref().is_none_or(|instance| holder(instance) == Some(id))
            && (about.client_id.as_str(), about.client_host.as_str()) == (&*client.id, &*client.host);
        if !is_same || member.epoch != request.member_epoch || !member.is_reconciled(self.target_epoch()) {
            return None;
        }
        self.set_session_timer(turn, id, member);
        Some(beaten(turn, request.member_id.clone(), member.epoch))
    }

    /// Whether a heartbeat may be answered. Changes nothing.
    fn check(
        &self,
        turn: &mut Turn,
        client: &Client,
        request: &ConsumerGroupHeartbeatRequest,
        claim: Option<Claim>,
    ) -> Result<Accepted, Refusal> {
        self.check_size(turn, &request.member_id, request.instance_id.as_deref())?;
        let id: Rc<str> = match request.member_id.as_str() {
            "" => turn.uuid().into(),
            id => id.into(),
        };
        let arrival = match request.instance_id.as_deref() {
            Some(instance) => self.static_arrival(turn, &id, instance, request.member_epoch)?,
            None if self.members.contains_key(&id) => Arrival::Known,
            None if request.member_epoch == 0 => Arrival::Joins,
            None => return Err(self.unknown_member(turn, &id)),
        };
        let before = self.before(&id, &arrival);
        check_epoch(&before, request.member_epoch, claim)?;
        let about = said(&before.about, client, request);
        if let Some(regex) = about.regex.as_deref().filter(|regex| !regex.is_empty())
            && about.regex != before.about.regex
            && !self.index.regexes.contains_key(regex)
            && let Err(reason) = pattern::compile(regex)
        {
            let message =
                format!("SubscribedTopicRegex `{regex}` is not a valid regular expression: {reason}.");
            return Err(Refusal::new(ErrorCode::InvalidRegularExpression, message));
        }
        if before.state == State::Unknown && claim.is_none_or(|claim| !claim.is_empty()) {
            let message = "The consumer group member is in an unknown state. \
                           The member must abandon all its partitions and rejoin.";
            return Err(Refusal::new(ErrorCode::FencedMemberEpoch, message));
        }
        Ok(Accepted { id, arrival, before, about })
    }

    /// The member as it is, or begins.
    pub(super) fn before(&self, id: &str, arrival: &Arrival) -> Member {
        match arrival {
            Arrival::Joins | Arrival::Known => self.members.get(id).cloned().unwrap_or_else(Member::new),
            Arrival::Replaces(other) => Member { epoch: 0, previous_epoch: 0, ..self.members[other].clone() },
        }
    }

    /// A static member that comes back has its place.
    pub(super) fn check_size(&self, turn: &Turn, id: &str, instance: Option<&str>) -> Result<(), Refusal> {
        let max = turn.settings.consumer_max_size;
        let has_place = instance.is_some_and(|instance| self.index.instances.contains_key(instance))
            || self.members.contains_key(id);
        if has_place || self.members.len() < max {
            return Ok(());
        }
        let message = format!("The consumer group has reached its maximum capacity of {max} members.");
        Err(Refusal::new(ErrorCode::GroupMaxSizeReached, message))
    }

    fn static_arrival(&self, turn: &Turn, id: &str, instance: &str, epoch: i32) -> Result<Arrival, Refusal> {
        let holder = self.index.instances.get(instance);
        if epoch != 0 {
            self.check_instance(turn, id, instance)?;
            return Ok(Arrival::Known);
        }
        let Some(holder) = holder else { return Ok(Arrival::Joins) };
        let member = &self.members[holder];
        if !member.uses_classic_protocol() && member.epoch != AWAY {
            let message = format!(
                "Static member {id} with instance id {instance} cannot join the group \
                 because the instance id is owned by {holder} member."
            );
            return Err(Refusal::new(ErrorCode::UnreleasedInstanceId, message));
        }
        Ok(Arrival::Replaces(Rc::clone(holder)))
    }

    /// A static member has to be who it was.
    pub(super) fn check_instance(&self, turn: &Turn, id: &str, instance: &str) -> Result<Rc<str>, Refusal> {
        match self.index.instances.get(instance) {
            Some(holder) if **holder == *id => Ok(Rc::clone(holder)),
            Some(holder) => {
                let message =
                    format!("Static member {id} with instance id {instance} was fenced by member {holder}.");
                Err(Refusal::new(ErrorCode::FencedInstanceId, message))
            }
            None => {
                let message = format!("Instance id {instance} is unknown in group {}.", turn.group);
                Err(Refusal::new(ErrorCode::UnknownMemberId, message))
            }
        }
    }

    pub(super) fn unknown_member(&self, turn: &Turn, id: &str) -> Refusal {
        let message = format!("Member {id} is not a member of group {}.", turn.group);
        Refusal::new(ErrorCode::UnknownMemberId, message)
    }

    fn accept(
        &mut self,
        turn: &mut Turn,
        request: &ConsumerGroupHeartbeatRequest,
        claim: Option<Claim>,
        accepted: Accepted,
    ) -> ConsumerGroupHeartbeatResponse {
        let Accepted { id, arrival, before, about } = accepted;
        let assignor = self.assignor_name(turn.settings).to_owned();
        if let Arrival::Replaces(other) = arrival {
            self.replace(turn, &other, &id, &before);
        }
        let has_subscription_changed = self.describe_member(turn, &id, &before, about);
        let is_due = has_subscription_changed || *self.assignor_name(turn.settings) != *assignor;
        self.follow_topics(turn, is_due);
        self.follow_epoch(turn);
        let member = self.reconcile(turn, &id, claim, has_subscription_changed);
        self.set_session_timer(turn, &id, &member);

        let is_full = request.rebalance_timeout_ms != -1
            && (request.subscribed_topic_names.is_some() || request.subscribed_topic_regex.is_some())
            && claim.is_some();
        let is_told = request.member_epoch == 0 || is_full || member.assigned != before.assigned;
        beaten(turn, StrBytes::from_string(id.to_string()), member.epoch)
            .with_assignment(is_told.then(|| assignment(&member)))
    }

    /// A static member goes on under another id, with what it had.
    pub(super) fn replace(&mut self, turn: &mut Turn, other: &str, id: &str, member: &Member) {
        let target = self.targets.get(other).map_or_else(Partitions::new, |target| (**target).clone());
        self.write_removal(turn, other);
        self.cancel_timers(turn, other);
        self.write_member(turn, id, member);
        self.write_target(turn, id, &target);
        self.write_current(turn, id, member);
    }

    /// Writes what a member says of itself, if that is new. Whether it subscribes to something else.
    pub(super) fn describe_member(
        &mut self,
        turn: &mut Turn,
        id: &str,
        before: &Member,
        about: MemberValue,
    ) -> bool {
        if self.members.contains_key(id) && about == before.about {
            return false;
        }
        let after = Member { about, ..before.clone() };
        self.write_member(turn, id, &after);
        let has_regex_changed = before.regex() != after.regex();
        if has_regex_changed {
            self.follow_regexes(turn, before.regex(), after.regex());
        }
        has_regex_changed || before.about.topics != after.about.topics
    }

    /// The member's next step. Returns the member after it.
    pub(super) fn reconcile(
        &mut self,
        turn: &mut Turn,
        id: &Rc<str>,
        claim: Option<Claim>,
        has_subscription_changed: bool,
    ) -> Member {
        let member = &self.members[id];
        if !has_subscription_changed && member.is_reconciled(self.target_epoch()) {
            return member.clone();
        }
        let target = self.targets.get(id).cloned().unwrap_or_default();
        let step = Step { image: turn.image, id, target: &target, claim, has_subscription_changed };
        let next = self.reconciled(member, &step);
        if next != *member {
            self.write_current(turn, id, &next);
            self.set_rebalance_timer(turn, id, &next);
        }
        next
    }
}

/// One that rejoins may have any. One with the epoch before has lost the answer that brought the next, if it has nothing
/// but what it was given then.
fn check_epoch(member: &Member, epoch: i32, claim: Option<Claim>) -> Result<(), Refusal> {
    let is_behind = epoch == member.previous_epoch && is_within(claim, &member.assigned);
    if epoch == 0 || epoch == member.epoch || (epoch < member.epoch && is_behind) {
        return Ok(());
    }
    let order = if epoch > member.epoch { "greater" } else { "smaller" };
    let message = format!(
        "The consumer group member has a {order} member epoch ({epoch}) than the one known by the group coordinator ({}). \
         The member must abandon all its partitions and rejoin.",
        member.epoch
    );
    Err(Refusal::new(ErrorCode::FencedMemberEpoch, message))
}

/// What is not said stays as it was.
fn said(before: &MemberValue, client: &Client, request: &ConsumerGroupHeartbeatRequest) -> MemberValue {
    let or_before = |text: &Option<StrBytes>, before: &Option<String>| match text {
        Some(text) => Some(text.as_str().to_owned()),
        None => before.clone(),
    };
    let topics = match &request.subscribed_topic_names {
        Some(names) => {
            let mut topics: Vec<String> = names.iter().map(|name| name.0.as_str().to_owned()).collect();
            topics.sort_unstable();
            topics.dedup();
            topics
        }
        None => before.topics.clone(),
    };
    MemberValue {
        instance: or_before(&request.instance_id, &before.instance),
        rack: or_before(&request.rack_id, &before.rack),
        client_id: client.id.clone(),
        client_host: client.host.clone(),
        topics,
        regex: or_before(&request.subscribed_topic_regex, &before.regex),
        rebalance_timeout_ms: match request.rebalance_timeout_ms {
            -1 => before.rebalance_timeout_ms,
            timeout => timeout,
        },
        assignor: or_before(&request.server_assignor, &before.assignor),
        classic: None,
    }
}

/// Without an assignment.
fn beaten(turn: &Turn, id: StrBytes, epoch: i32) -> ConsumerGroupHeartbeatResponse {
    let interval = i32::try_from(config::heartbeat_interval_ms(turn)).unwrap_or(i32::MAX);
    ConsumerGroupHeartbeatResponse::default()
        .with_member_id(Some(id))
        .with_member_epoch(epoch)
        .with_heartbeat_interval_ms(interval)
}

fn assignment(member: &Member) -> Assignment {
    let topics = member::partitions(&member.assigned).into_iter().map(|(topic, partitions)| {
        TopicPartitions::default().with_topic_id(uuid::Uuid::from_u128(topic.0)).with_partitions(partitions)
    });
    Assignment::default().with_topic_partitions(topics.collect())
}

//! JoinGroup 0-9: who is let in, and what it makes of the group. KIP-345 (static members), KIP-394 (members are given
//! their id first), KIP-559 (protocol type and name), KIP-800 (a reason, which nobody keeps), KIP-814 (skip_assignment).

use std::rc::Rc;

use super::{ClassicGroup, Client, Due, Member, Reply, State, Terms, Turn, text};
use crate::coordinator::Ticket;
use crate::coordinator::record::TEXT_BYTES_MAX;
use crate::model::ErrorCode;
use crate::protocol::messages::join_group_response::JoinGroupResponseMember;
use crate::protocol::messages::{JoinGroupRequest, JoinGroupResponse};

/// JoinGroup's from which a member has to come again with the id it was given.
pub const MEMBER_ID_REQUIRED_FROM: i16 = 4;
/// JoinGroup's from which a leader can be told not to assign.
const SKIP_ASSIGNMENT_FROM: i16 = 9;
/// How long a member may wait that has never had an answer: its client may have gone, or have asked again as another one.
const NEW_MEMBER_JOIN_TIMEOUT_MS: u64 = 5 * 60 * 1_000;
/// What of a client's or an instance's name begins a member's id; with the rest it must be short enough for a record.
const MEMBER_ID_NAME_BYTES_MAX: usize = 1_024;

/// Who asks, and what for.
#[derive(Clone, Copy)]
struct Joining<'a> {
    ticket: Ticket,
    version: i16,
    client: &'a Client,
    request: &'a JoinGroupRequest,
}

pub fn refuse(turn: &mut Turn, ticket: Ticket, member: &str, error: ErrorCode) {
    let response = JoinGroupResponse::default().with_member_id(text(member)).with_error_code(error.code());
    turn.reply(ticket, Reply::Join(Box::new(response)));
}

impl ClassicGroup {
    pub(super) fn join(
        &mut self,
        turn: &mut Turn,
        ticket: Ticket,
        version: i16,
        client: &Client,
        request: &JoinGroupRequest,
    ) {
        let joining = Joining { ticket, version, client, request };
        let id = request.member_id.as_str();
        if !self.has_room_for(id, turn.settings.max_size) {
            refuse(turn, ticket, "", ErrorCode::GroupMaxSizeReached);
            self.forget_pending(turn, id);
            self.remove_member(turn, id);
            self.join_if_all_are_here(turn);
        } else if !self.supports(request) {
            refuse(turn, ticket, id, ErrorCode::InconsistentGroupProtocol);
        } else if id.is_empty() {
            self.join_as_new(turn, joining);
        } else if request.group_instance_id.is_none() && self.pending.contains(id) {
            self.add_member(turn, joining, Rc::from(id));
        } else {
            let instance = request.group_instance_id.as_deref();
            match self.check_member(id, instance) {
                Ok(()) => self.join_again(turn, joining),
                Err(error) => refuse(turn, ticket, id, error),
            }
        }
    }

    /// While members join, those who wait are counted: of a group that is too large, whoever comes last has to go.
    fn has_room_for(&self, id: &str, max_size: usize) -> bool {
        match self.state {
            State::Empty => true,
            State::PreparingRebalance => {
                let is_waiting = self.roster.get(id).is_some_and(|member| member.joining.is_some());
                is_waiting || self.roster.joining() < max_size
            }
            State::CompletingRebalance | State::Stable => {
                self.roster.contains(id) || self.roster.len() < max_size
            }
        }
    }

    fn supports(&self, request: &JoinGroupRequest) -> bool {
        if self.state == State::Empty {
            return !request.protocol_type.is_empty() && !request.protocols.is_empty();
        }
        self.protocol_type.as_deref() == Some(request.protocol_type.as_str())
            && self.roster.supports(request.protocols.iter().map(|protocol| protocol.name.as_str()))
    }

    fn join_as_new(&mut self, turn: &mut Turn, joining: Joining) {
        let Joining { ticket, version, client, request } = joining;
        let instance = request.group_instance_id.as_deref();
        let id = new_member_id(turn, instance.unwrap_or(&client.id));
        if let Some(former) = instance.and_then(|instance| self.roster.of_instance(instance)) {
            let former = Rc::clone(former);
            self.replace_static_member(turn, joining, &former, id);
        } else if instance.is_none() && version >= MEMBER_ID_REQUIRED_FROM {
            refuse(turn, ticket, &id, ErrorCode::MemberIdRequired);
            let session = u64::try_from(request.session_timeout_ms).unwrap_or(0);
            turn.set_timer(Due::Session(Rc::clone(&id)), session);
            self.pending.insert(id);
        } else {
            self.add_member(turn, joining, id);
        }
    }

    fn add_member(&mut self, turn: &mut Turn, joining: Joining, id: Rc<str>) {
        let Joining { ticket, client, request, .. } = joining;
        self.pending.remove(&id);
        if let Some(initial) = &mut self.initial {
            initial.has_new_member = true;
        }
        if self.roster.is_empty() {
            self.protocol_type = Some(request.protocol_type.to_string());
        }
        if self.leader.is_none() {
            self.leader = Some(Rc::clone(&id));
        }
        let instance = request.group_instance_id.as_deref().map(Rc::from);
        let mut member = Member::new(Rc::clone(&id), instance, client.clone(), Terms::of(request));
        (member.joining, member.is_new) = (Some(ticket), true);
        self.roster.add(member);
        turn.set_timer(Due::Session(id), NEW_MEMBER_JOIN_TIMEOUT_MS);
        self.rebalance(turn);
    }

    /// A member joins that is one. It changes nothing, unless it says other things of itself, or leads: a leader asks for a
    /// rebalance that way, for what only it can see.
    fn join_again(&mut self, turn: &mut Turn, joining: Joining) {
        let Joining { ticket, request, .. } = joining;
        let id = request.member_id.as_str();
        let terms = Terms::of(request);
        let is_same = self.roster.get(id).is_some_and(|member| member.terms.protocols == terms.protocols);
        let is_leader = self.leader.as_deref() == Some(id);
        let keeps_generation = match self.state {
            State::CompletingRebalance => is_same,
            State::Stable => is_same && !is_leader,
            State::Empty | State::PreparingRebalance => false,
        };
        if keeps_generation {
            let mut response = self.joined(id);
            if is_leader {
                response.members = self.all_joined();
            }
            self.touch(turn, id);
            return turn.reply(ticket, Reply::Join(Box::new(response)));
        }
        self.roster.update(id, terms);
        self.wait_for_join(turn, id, ticket);
        self.rebalance(turn);
    }

    /// A static member has started anew and does not know its id: it takes over from the one it was, who is fenced. The
    /// others need not know of it where the protocol stays the same.
    fn replace_static_member(&mut self, turn: &mut Turn, joining: Joining, former_id: &str, id: Rc<str>) {
        let Joining { ticket, version, client, request } = joining;
        let former_leader = self.leader.clone();
        let Some(former) = self.roster.remove(former_id) else { return };
        turn.cancel_timer(Due::Session(Rc::clone(&former.id)));
        if let Some(waiting) = former.joining {
            refuse(turn, waiting, former_id, ErrorCode::FencedInstanceId);
        }
        if let Some(waiting) = former.syncing {
            super::sync::refuse(turn, waiting, ErrorCode::FencedInstanceId);
        }
        if former_leader.as_deref() == Some(former_id) {
            self.leader = Some(Rc::clone(&id));
        }
        if self.unsynced.remove(former_id) {
            self.unsynced.insert(Rc::clone(&id));
        }
        let mut member =
            Member::new(Rc::clone(&id), former.instance.clone(), client.clone(), Terms::of(request));
        member.assignment = former.assignment;
        self.roster.add(member);
        self.touch(turn, &id);
        if self.state == State::Stable && self.roster.vote() == self.protocol {
            self.subscribed = self.subscribed_topics();
            self.write(turn);
            let mut response = self.joined(&id);
            if version >= SKIP_ASSIGNMENT_FROM {
                if self.leader.as_ref() == Some(&id) {
                    response.members = self.all_joined();
                    response.skip_assignment = true;
                }
            } else {
                // so that it does not see it leads: it would assign, and nobody would ask for what it did
                response.leader = text(former_leader.as_deref().unwrap_or_default());
            }
            return turn.reply(ticket, Reply::Join(Box::new(response)));
        }
        self.wait_for_join(turn, &id, ticket);
        self.rebalance(turn);
    }

    /// A request of the member that waits already is answered: its client has given it up.
    fn wait_for_join(&mut self, turn: &mut Turn, id: &str, ticket: Ticket) {
        if let Some(former) = self.roster.wait_for_join(id, ticket) {
            refuse(turn, former, id, ErrorCode::RebalanceInProgress);
        }
    }

    /// What a member is told of this generation; its leader is told of all members, too.
    pub(super) fn joined(&self, id: &str) -> JoinGroupResponse {
        JoinGroupResponse::default()
            .with_generation_id(self.generation())
            .with_protocol_type(Some(text(self.protocol_type())))
            .with_protocol_name(Some(text(self.protocol.as_deref().unwrap_or_default())))
            .with_leader(text(self.leader.as_deref().unwrap_or_default()))
            .with_member_id(text(id))
    }

    pub(super) fn all_joined(&self) -> Vec<JoinGroupResponseMember> {
        let protocol = self.protocol.as_deref().unwrap_or_default();
        let members = self.roster.iter().map(|member| {
            JoinGroupResponseMember::default()
                .with_member_id(text(&member.id))
                .with_group_instance_id(member.instance.as_deref().map(text))
                .with_metadata(member.metadata(protocol))
        });
        members.collect()
    }
}

/// Whether what the member says of itself can be written down.
pub(super) fn fits_a_record(request: &JoinGroupRequest) -> bool {
    let instance = request.group_instance_id.as_deref().unwrap_or_default();
    let mut names = request.protocols.iter().map(|protocol| protocol.name.as_str());
    names.all(|name| name.len() <= TEXT_BYTES_MAX)
        && instance.len() <= TEXT_BYTES_MAX
        && request.protocol_type.len() <= TEXT_BYTES_MAX
}

fn new_member_id(turn: &mut Turn, name: &str) -> Rc<str> {
    let name = &name[..name.floor_char_boundary(MEMBER_ID_NAME_BYTES_MAX)];
    Rc::from(format!("{name}-{}", turn.uuid()))
}

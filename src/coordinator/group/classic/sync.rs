//! SyncGroup 0-5: the leader says who has what, the others wait to be told. KIP-345, KIP-559.

use std::collections::HashMap;

use bytes::Bytes;

use super::{ClassicGroup, Due, Reply, State, Turn, text};
use crate::coordinator::Ticket;
use crate::model::ErrorCode;
use crate::protocol::messages::{SyncGroupRequest, SyncGroupResponse};

/// Of the record of a group. Kafka's bound is max.message.bytes of `__consumer_offsets`, a MiB unless somebody raises it.
const GROUP_BYTES_MAX: usize = 64 << 20;
/// Of a member's names in it, commonly.
const MEMBER_BYTES: usize = 256;

/// SyncGroup's from which a member says which protocol it means.
const PROTOCOL_FROM: i16 = 5;

pub(super) fn refuse(turn: &mut Turn, ticket: Ticket, error: ErrorCode) {
    let response = SyncGroupResponse::default().with_error_code(error.code());
    turn.reply(ticket, Reply::Sync(Box::new(response)));
}

impl ClassicGroup {
    pub(super) fn sync(&mut self, turn: &mut Turn, ticket: Ticket, version: i16, request: &SyncGroupRequest) {
        let id = request.member_id.as_str();
        if let Err(error) = self.check_sync(version, request) {
            return refuse(turn, ticket, error);
        }
        match self.state {
            State::Empty => refuse(turn, ticket, ErrorCode::UnknownMemberId),
            State::PreparingRebalance => refuse(turn, ticket, ErrorCode::RebalanceInProgress),
            State::CompletingRebalance => {
                self.has_synced(turn, id);
                let former = self.roster.get_mut(id).and_then(|member| member.syncing.replace(ticket));
                if let Some(former) = former {
                    refuse(turn, former, ErrorCode::RebalanceInProgress);
                }
                if self.leader.as_deref() == Some(id) {
                    self.assign(turn, request);
                }
            }
            State::Stable => {
                self.has_synced(turn, id);
                self.touch(turn, id);
                let assignment = self.roster.get(id).map(|member| member.assignment.clone());
                let response = self.synced().with_assignment(assignment.unwrap_or_default());
                turn.reply(ticket, Reply::Sync(Box::new(response)));
            }
        }
    }

    fn check_sync(&self, version: i16, request: &SyncGroupRequest) -> Result<(), ErrorCode> {
        let (protocol_type, protocol) = (request.protocol_type.as_deref(), request.protocol_name.as_deref());
        if version >= PROTOCOL_FROM && (protocol_type.is_none() || protocol.is_none()) {
            return Err(ErrorCode::InconsistentGroupProtocol);
        }
        self.check_member(&request.member_id, request.group_instance_id.as_deref())?;
        if request.generation_id != self.generation {
            return Err(ErrorCode::IllegalGeneration);
        }
        let is_other =
            |said: Option<&str>, ours: Option<&str>| said.is_some() && ours.is_some() && said != ours;
        if is_other(protocol_type, self.protocol_type.as_deref())
            || is_other(protocol, self.protocol.as_deref())
        {
            return Err(ErrorCode::InconsistentGroupProtocol);
        }
        Ok(())
    }

    fn has_synced(&mut self, turn: &mut Turn, id: &str) {
        if self.unsynced.remove(id) && self.unsynced.is_empty() {
            turn.cancel_timer(Due::Sync);
        }
    }

    /// The leader's assignment: members of which it says nothing have nothing.
    fn assign(&mut self, turn: &mut Turn, request: &SyncGroupRequest) {
        if self.bytes_with(request) > GROUP_BYTES_MAX {
            return self.refuse_sync(turn, &request.member_id, ErrorCode::UnknownServerError);
        }
        let assignments: HashMap<&str, &Bytes> = (request.assignments.iter())
            .map(|assigned| (assigned.member_id.as_str(), &assigned.assignment))
            .collect();
        for member in self.roster.iter_mut() {
            let assigned = assignments.get(&*member.id);
            member.assignment = assigned.map_or_else(Bytes::new, |bytes| Bytes::copy_from_slice(bytes));
        }
        self.enter(turn, State::Stable);
        self.write(turn);
        self.answer_syncs(turn, ErrorCode::None);
    }

    /// What the group's record would take with these assignments, nearly.
    fn bytes_with(&self, request: &SyncGroupRequest) -> usize {
        let protocol = self.protocol.as_deref().unwrap_or_default();
        let of_members = self.roster.iter().map(|member| member.metadata(protocol).len() + MEMBER_BYTES);
        let assigned = request.assignments.iter().map(|assigned| assigned.assignment.len());
        of_members.sum::<usize>() + assigned.sum::<usize>()
    }

    /// As Kafka says of a record that is too large.
    fn refuse_sync(&mut self, turn: &mut Turn, id: &str, error: ErrorCode) {
        if let Some(ticket) = self.roster.get_mut(id).and_then(|member| member.syncing.take()) {
            refuse(turn, ticket, error);
        }
    }

    /// All who wait: with their assignment, or an error. Their session begins anew, it was not counted meanwhile.
    pub(super) fn answer_syncs(&mut self, turn: &mut Turn, error: ErrorCode) {
        let synced = self.synced();
        for member in self.roster.iter_mut() {
            let Some(ticket) = member.syncing.take() else { continue };
            if error.is_none() {
                let response = synced.clone().with_assignment(member.assignment.clone());
                turn.reply(ticket, Reply::Sync(Box::new(response)));
            } else {
                refuse(turn, ticket, error);
            }
            turn.set_timer(Due::Session(member.id.clone()), member.session_timeout_ms());
        }
    }

    fn synced(&self) -> SyncGroupResponse {
        SyncGroupResponse::default()
            .with_protocol_type(Some(text(self.protocol_type())))
            .with_protocol_name(self.protocol.as_deref().map(text))
    }
}

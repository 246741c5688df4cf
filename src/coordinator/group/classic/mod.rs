//! A group of the classic protocol.

use super::{Client, Due, Expiry, Group, Reply, Turn};
use crate::coordinator::Ticket;
use crate::coordinator::record::{ClassicGroupValue, Record};
use crate::model::ErrorCode;
use crate::protocol::messages::describe_groups_response::DescribedGroup;
use crate::protocol::messages::{
    HeartbeatRequest, HeartbeatResponse, JoinGroupRequest, JoinGroupResponse, LeaveGroupRequest,
    LeaveGroupResponse, OffsetCommitRequest, SyncGroupRequest, SyncGroupResponse,
};

#[derive(Clone, Debug, Default, PartialEq)]
pub(super) struct ClassicGroup {
    /// What the log holds of it.
    value: Option<ClassicGroupValue>,
}

pub(super) fn join(
    _group: &mut Option<Group>,
    turn: &mut Turn,
    ticket: Ticket,
    _version: i16,
    _client: &Client,
    _request: &JoinGroupRequest,
) {
    let response = JoinGroupResponse::default().with_error_code(ErrorCode::CoordinatorNotAvailable.code());
    turn.reply(ticket, Reply::Join(Box::new(response)));
}

pub(super) fn sync(
    _group: &mut Option<Group>,
    turn: &mut Turn,
    ticket: Ticket,
    _version: i16,
    _request: &SyncGroupRequest,
) {
    let response = SyncGroupResponse::default().with_error_code(ErrorCode::CoordinatorNotAvailable.code());
    turn.reply(ticket, Reply::Sync(Box::new(response)));
}

pub(super) fn heartbeat(
    _group: &mut Option<Group>,
    turn: &mut Turn,
    ticket: Ticket,
    _request: &HeartbeatRequest,
) {
    let response = HeartbeatResponse::default().with_error_code(ErrorCode::CoordinatorNotAvailable.code());
    turn.reply(ticket, Reply::Heartbeat(response));
}

pub(super) fn leave(
    _group: &mut Option<Group>,
    turn: &mut Turn,
    ticket: Ticket,
    _version: i16,
    _request: &LeaveGroupRequest,
) {
    let response = LeaveGroupResponse::default().with_error_code(ErrorCode::CoordinatorNotAvailable.code());
    turn.reply(ticket, Reply::Leave(response));
}

impl ClassicGroup {
    /// Empty, and nothing of it in the log.
    pub fn new() -> ClassicGroup {
        ClassicGroup::default()
    }

    pub fn replayed(value: ClassicGroupValue) -> ClassicGroup {
        ClassicGroup { value: Some(value) }
    }

    /// Nothing of it is left, in the log or here.
    pub fn is_gone(&self) -> bool {
        self.value.is_none()
    }

    /// Members.
    pub fn len(&self) -> usize {
        self.value.as_ref().map_or(0, |value| value.members.len())
    }

    /// Without members, and none about to come.
    pub fn is_empty(&self) -> bool {
        self.value.as_ref().is_none_or(|value| value.members.is_empty())
    }

    /// The log was replayed: timers begin.
    pub fn loaded(&mut self, _turn: &mut Turn) {}

    pub fn due(&mut self, _turn: &mut Turn, _due: Due) {}

    /// Takes an empty group out of the log.
    pub fn remove(&mut self, turn: &mut Turn) {
        if self.value.take().is_some() {
            turn.record(Record::ClassicGroup { group: turn.group.to_string(), value: None });
        }
    }

    /// A commit of a member shows that it is alive.
    pub fn may_commit(&mut self, _turn: &mut Turn, _request: &OffsetCommitRequest) -> Result<(), ErrorCode> {
        Ok(())
    }

    pub fn may_delete_offsets(&self) -> Result<(), ErrorCode> {
        Ok(())
    }

    pub fn is_subscribed(&self, _topic: &str) -> bool {
        false
    }

    /// `None`: offsets stay as long as there are members.
    pub fn expiry(&self) -> Option<Expiry> {
        Some(Expiry::FromCommit)
    }

    pub fn state_name(&self) -> &'static str {
        "Empty"
    }

    /// Empty where nobody has said one.
    pub fn protocol_type(&self) -> &str {
        self.value.as_ref().map_or("", |value| value.protocol_type.as_str())
    }

    pub fn describe(&self, described: DescribedGroup) -> DescribedGroup {
        described.with_group_state(super::describe::text(self.state_name()))
    }
}

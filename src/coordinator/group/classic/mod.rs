//! A group of the classic protocol: JoinGroup 0-9, SyncGroup 0-5, Heartbeat 0-4, LeaveGroup 0-5.
//!
//! ```text
//!            first member            all are here, or time is up
//!   Empty ──────────────► Preparing ────────────────────────────► Completing ───► Stable
//!     ▲                   Rebalance ◄─────────────────────────── Rebalance          │
//!     │ nobody is left    │   ▲        a member comes, goes, changes  leader's      │
//!     └───────────────────┘   └──────────────────────────────────── assignment ─────┘
//! ```
//! `join` lets members in, `rebalance` counts generations, `sync` hands assignments out, `heartbeat` and `leave` are
//! what they are called, `log` is what of it all is written: a generation with its assignments once the leader has sent
//! them, a group that has become empty, and a static member that has got another id.
//!
//! Invariants:
//! * A JoinGroup waits in PreparingRebalance only, a SyncGroup in CompletingRebalance only; a member has at most one
//!   of each. When a member goes or is replaced, or another request takes the place of the one that waits, that one
//!   is answered.
//! * All members have one protocol in common, so a vote always ends.
//! * In Stable and Empty, what the log holds of the group is what the group is.
//! * A request costs O(log members), but for what ends or begins a rebalance or is answered with all members.

mod describe;
mod heartbeat;
mod join;
mod leave;
mod log;
mod member;
mod offsets;
mod rebalance;
mod roster;
mod subscription;
mod sync;
#[cfg(test)]
mod tests;

use std::collections::{BTreeSet, HashSet};
use std::rc::Rc;

pub(super) use describe::CONSUMER;
pub(super) use join::{MEMBER_ID_REQUIRED_FROM, refuse as refuse_join};
pub(super) use member::{Member, Protocol, Terms};
use rebalance::InitialDelay;
use roster::Roster;

use super::describe::text;
use super::{Client, Due, Expiry, Group, Members, Reply, Turn, consumer};
use crate::coordinator::Ticket;
use crate::coordinator::record::TEXT_BYTES_MAX;
use crate::model::ErrorCode;
use crate::protocol::messages::{
    HeartbeatRequest, HeartbeatResponse, JoinGroupRequest, LeaveGroupRequest, SyncGroupRequest,
};

#[derive(Debug, Default)]
pub(super) struct ClassicGroup {
    state: State,
    /// When the state began, milliseconds since 1970; `None`: not known.
    since: Option<i64>,
    generation: i32,
    /// Of the last members that there were; `None`: never had any, only offsets.
    protocol_type: Option<String>,
    /// That this generation's members voted for.
    protocol: Option<Rc<str>>,
    /// Whose assignment counts. A member of the roster, where there are any.
    leader: Option<Rc<str>>,
    roster: Roster,
    /// Ids that were given out and have not joined yet (KIP-394); each has the session timer of a member.
    pending: HashSet<Rc<str>>,
    /// The members that have not asked for this generation's assignment; while there are any, [`Due::Sync`] is set.
    unsynced: BTreeSet<Rc<str>>,
    /// While the first members of an empty group are waited for.
    initial: Option<InitialDelay>,
    /// The topics of this generation's members; `None`: not known, or they do not subscribe to topics.
    subscribed: Option<BTreeSet<String>>,
    /// The log has a value of it.
    is_logged: bool,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum State {
    /// No members.
    #[default]
    Empty,
    /// Members join.
    PreparingRebalance,
    /// The leader assigns.
    CompletingRebalance,
    Stable,
}

impl State {
    /// Kafka's.
    fn name(self) -> &'static str {
        match self {
            State::Empty => "Empty",
            State::PreparingRebalance => "PreparingRebalance",
            State::CompletingRebalance => "CompletingRebalance",
            State::Stable => "Stable",
        }
    }
}

/// JoinGroup. A group of the consumer protocol that has no members becomes a classic one.
pub(super) fn join(
    group: &mut Option<Group>,
    turn: &mut Turn,
    ticket: Ticket,
    version: i16,
    client: &Client,
    request: &JoinGroupRequest,
) {
    let is_new_member = request.member_id.is_empty();
    let session = turn.settings.session_timeout_ms_min..=turn.settings.session_timeout_ms_max;
    let refuse = |turn: &mut Turn, error| join::refuse(turn, ticket, &request.member_id, error);
    if turn.group.is_empty() || turn.group.len() > TEXT_BYTES_MAX {
        return refuse(turn, ErrorCode::InvalidGroupId);
    }
    if !join::fits_a_record(request) {
        return refuse(turn, ErrorCode::InvalidRequest);
    }
    if !session.contains(&request.session_timeout_ms) {
        return refuse(turn, ErrorCode::InvalidSessionTimeout);
    }
    if group.is_none() && !is_new_member {
        return refuse(turn, ErrorCode::UnknownMemberId);
    }
    let group = group.get_or_insert_with(Group::new);
    if let Members::Consumer(members) = &mut group.members {
        if !members.is_empty() {
            return consumer::join(group, turn, ticket, version, client, request);
        }
        if !is_new_member {
            return refuse(turn, ErrorCode::UnknownMemberId);
        }
        members.remove(turn);
        group.members = Members::Classic(ClassicGroup::new());
    }
    let Members::Classic(members) = &mut group.members else { unreachable!("made so above") };
    members.join(turn, ticket, version, client, request);
}

pub(super) fn sync(
    group: &mut Option<Group>,
    turn: &mut Turn,
    ticket: Ticket,
    version: i16,
    request: &SyncGroupRequest,
) {
    if turn.group.is_empty() {
        return sync::refuse(turn, ticket, ErrorCode::InvalidGroupId);
    }
    match group.as_mut().map(|group| &mut group.members) {
        Some(Members::Classic(members)) => members.sync(turn, ticket, version, request),
        Some(Members::Consumer(members)) => match members.sync(turn, request) {
            Ok(response) => turn.reply(ticket, Reply::Sync(Box::new(response))),
            Err(error) => sync::refuse(turn, ticket, error),
        },
        None => sync::refuse(turn, ticket, ErrorCode::UnknownMemberId),
    }
}

pub(super) fn heartbeat(
    group: &mut Option<Group>,
    turn: &mut Turn,
    ticket: Ticket,
    request: &HeartbeatRequest,
) {
    let error = match group.as_mut().map(|group| &mut group.members) {
        _ if turn.group.is_empty() => ErrorCode::InvalidGroupId,
        Some(Members::Classic(members)) => members.heartbeat(turn, request),
        Some(Members::Consumer(members)) => members.classic_heartbeat(turn, request),
        None => ErrorCode::UnknownMemberId,
    };
    turn.reply(ticket, Reply::Heartbeat(HeartbeatResponse::default().with_error_code(error.code())));
}

pub(super) fn leave(
    group: &mut Option<Group>,
    turn: &mut Turn,
    ticket: Ticket,
    version: i16,
    request: &LeaveGroupRequest,
) {
    let leaving = leave::who_leaves(version, request);
    if turn.group.is_empty() {
        return turn.reply(ticket, Reply::Leave(leave::refused(ErrorCode::InvalidGroupId)));
    }
    let errors = match group {
        Some(Group { members: Members::Classic(members), .. }) => members.leave(turn, &leaving),
        Some(group) => consumer::classic_leave(group, turn, &leaving),
        None => vec![ErrorCode::UnknownMemberId; leaving.len()],
    };
    turn.reply(ticket, Reply::Leave(leave::answer(version, &leaving, &errors)));
}

impl ClassicGroup {
    /// Empty, and nothing of it in the log.
    pub fn new() -> ClassicGroup {
        ClassicGroup::default()
    }

    /// Members.
    pub fn len(&self) -> usize {
        self.roster.len()
    }

    /// Without members.
    pub fn is_empty(&self) -> bool {
        self.state == State::Empty
    }

    /// Members that have got their ids are about to join.
    pub fn is_awaited(&self) -> bool {
        !self.pending.is_empty()
    }

    /// That the members of its last rebalance voted for; `None`: there was none.
    pub fn protocol(&self) -> Option<&str> {
        self.protocol.as_deref()
    }

    /// Of its last rebalance; 0: there was none.
    pub fn generation(&self) -> i32 {
        self.generation
    }

    /// Empty where nobody has said one.
    pub fn protocol_type(&self) -> &str {
        self.protocol_type.as_deref().unwrap_or_default()
    }

    pub fn due(&mut self, turn: &mut Turn, due: Due) {
        match due {
            Due::Session(member) => self.session_is_over(turn, &member),
            Due::Join => self.join_is_due(turn),
            Due::Sync => self.sync_is_due(turn),
            // of a consumer group that this one was before
            Due::Rebalance(_) | Due::Assignment | Due::Regexes => {}
        }
    }

    /// That the member is one, and if it is static that nobody has taken its place.
    fn check_member(&self, id: &str, instance: Option<&str>) -> Result<(), ErrorCode> {
        if let Some(instance) = instance {
            let of_instance = self.roster.of_instance(instance).ok_or(ErrorCode::UnknownMemberId)?;
            if **of_instance != *id {
                return Err(ErrorCode::FencedInstanceId);
            }
        }
        if self.roster.contains(id) { Ok(()) } else { Err(ErrorCode::UnknownMemberId) }
    }

    fn enter(&mut self, turn: &Turn, state: State) {
        self.state = state;
        self.since = Some(turn.now.wall);
    }
}

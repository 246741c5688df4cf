//! Members of the classic protocol play against a coordinator.

mod join;
mod leave;
mod log;
mod offsets;
mod rebalance;
mod sessions;
mod statics;
mod subscription;
mod sync;
mod walk;

use bytes::Bytes;

use super::super::testing::Driver;
use super::super::{Body, Reply, Settings};
use crate::coordinator::Ticket;
use crate::model::ErrorCode;
use crate::protocol::StrBytes;
use crate::protocol::messages::describe_groups_response::DescribedGroup;
use crate::protocol::messages::join_group_request::JoinGroupRequestProtocol;
use crate::protocol::messages::leave_group_request::MemberIdentity;
use crate::protocol::messages::sync_group_request::SyncGroupRequestAssignment;
use crate::protocol::messages::{
    GroupId, HeartbeatRequest, JoinGroupRequest, JoinGroupResponse, LeaveGroupRequest, LeaveGroupResponse,
    SyncGroupRequest, SyncGroupResponse,
};

const SESSION_MS: u64 = 10_000;
const REBALANCE_MS: u64 = 60_000;
const INITIAL_DELAY_MS: u64 = 3_000;

fn text(text: &str) -> StrBytes {
    StrBytes::from_string(text.to_owned())
}

fn group() -> GroupId {
    GroupId(text("g"))
}

fn driver() -> Driver {
    Driver::new(Settings::default())
}

/// What a consumer says of itself: version 1, no bytes of its assignor, nothing owned.
fn subscription(topics: &[&str]) -> Bytes {
    let mut bytes = vec![0, 1];
    bytes.extend(i32::try_from(topics.len()).unwrap().to_be_bytes());
    for topic in topics {
        bytes.extend(i16::try_from(topic.len()).unwrap().to_be_bytes());
        bytes.extend(topic.as_bytes());
    }
    bytes.extend((-1_i32).to_be_bytes());
    bytes.extend(0_i32.to_be_bytes());
    bytes.into()
}

fn protocols(protocols: &[(&str, &[u8])]) -> Vec<JoinGroupRequestProtocol> {
    let protocol = |(name, metadata): &(&str, &[u8])| {
        JoinGroupRequestProtocol::default()
            .with_name(text(name))
            .with_metadata(Bytes::copy_from_slice(metadata))
    };
    protocols.iter().map(protocol).collect()
}

/// Of a consumer that reads `t`.
fn join_request(member: &str) -> JoinGroupRequest {
    JoinGroupRequest::default()
        .with_group_id(group())
        .with_member_id(text(member))
        .with_session_timeout_ms(SESSION_MS as i32)
        .with_rebalance_timeout_ms(REBALANCE_MS as i32)
        .with_protocol_type(text("consumer"))
        .with_protocols(protocols(&[("range", &subscription(&["t"]))]))
}

fn static_join(member: &str, instance: &str) -> JoinGroupRequest {
    join_request(member).with_group_instance_id(Some(text(instance)))
}

fn sync_request(member: &str, generation: i32) -> SyncGroupRequest {
    SyncGroupRequest::default()
        .with_group_id(group())
        .with_member_id(text(member))
        .with_generation_id(generation)
}

fn assignments(assignments: &[(&str, &str)]) -> Vec<SyncGroupRequestAssignment> {
    let assignment = |(member, assignment): &(&str, &str)| {
        SyncGroupRequestAssignment::default()
            .with_member_id(text(member))
            .with_assignment(Bytes::copy_from_slice(assignment.as_bytes()))
    };
    assignments.iter().map(assignment).collect()
}

fn identity(member: &str, instance: Option<&str>) -> MemberIdentity {
    MemberIdentity::default().with_member_id(text(member)).with_group_instance_id(instance.map(text))
}

impl Driver {
    fn join(&mut self, version: i16, request: JoinGroupRequest) -> Ticket {
        self.send(version, Body::Join(Box::new(request)))
    }

    fn joined(&mut self, ticket: Ticket) -> JoinGroupResponse {
        match self.reply(ticket) {
            Reply::Join(response) => *response,
            other => panic!("{other:?}"),
        }
    }

    /// The error that a JoinGroup is answered with at once.
    fn join_error(&mut self, version: i16, request: JoinGroupRequest) -> ErrorCode {
        let ticket = self.join(version, request);
        error_of(self.joined(ticket).error_code)
    }

    /// The id that a new member is given, with which it is to join.
    fn new_id(&mut self) -> String {
        let ticket = self.join(4, join_request(""));
        let response = self.joined(ticket);
        assert_eq!(error_of(response.error_code), ErrorCode::MemberIdRequired);
        response.member_id.to_string()
    }

    fn sync(&mut self, version: i16, request: SyncGroupRequest) -> Ticket {
        self.send(version, Body::Sync(Box::new(request)))
    }

    fn synced(&mut self, ticket: Ticket) -> SyncGroupResponse {
        match self.reply(ticket) {
            Reply::Sync(response) => *response,
            other => panic!("{other:?}"),
        }
    }

    fn sync_error(&mut self, version: i16, request: SyncGroupRequest) -> ErrorCode {
        let ticket = self.sync(version, request);
        error_of(self.synced(ticket).error_code)
    }

    fn heartbeat(&mut self, member: &str, generation: i32) -> ErrorCode {
        let request = HeartbeatRequest::default()
            .with_group_id(group())
            .with_member_id(text(member))
            .with_generation_id(generation);
        self.heartbeat_of(request)
    }

    fn heartbeat_of(&mut self, request: HeartbeatRequest) -> ErrorCode {
        match self.ask(4, Body::Heartbeat(request)) {
            Reply::Heartbeat(response) => error_of(response.error_code),
            other => panic!("{other:?}"),
        }
    }

    fn leave(&mut self, version: i16, request: LeaveGroupRequest) -> LeaveGroupResponse {
        match self.ask(version, Body::Leave(request.with_group_id(group()))) {
            Reply::Leave(response) => response,
            other => panic!("{other:?}"),
        }
    }

    /// Each one's error.
    fn leave_all(&mut self, members: Vec<MemberIdentity>) -> Vec<ErrorCode> {
        let response = self.leave(5, LeaveGroupRequest::default().with_members(members));
        assert_eq!(response.error_code, 0);
        response.members.iter().map(|member| error_of(member.error_code)).collect()
    }

    fn describe(&mut self) -> DescribedGroup {
        match self.ask(6, Body::Describe(vec![group()])) {
            Reply::Describe(mut groups) => groups.remove(0),
            other => panic!("{other:?}"),
        }
    }

    fn state(&mut self) -> String {
        self.describe().group_state.to_string()
    }

    /// A member joins an empty group, or one that all others join again, and has its answer.
    fn join_alone(&mut self) -> JoinGroupResponse {
        let ticket = self.join(3, join_request(""));
        self.pass(INITIAL_DELAY_MS);
        self.joined(ticket)
    }

    /// So many new members form a group, which is stable then; each has been assigned `of <its id>`.
    fn form(&mut self, count: usize) -> Formed {
        let tickets = (0..count).map(|_| self.join(3, join_request(""))).collect();
        self.pass(2 * INITIAL_DELAY_MS);
        self.finish(tickets)
    }

    /// The JoinGroups that were waited with have been answered: their members sync.
    fn finish(&mut self, tickets: Vec<Ticket>) -> Formed {
        let joined: Vec<_> = tickets.into_iter().map(|ticket| self.joined(ticket)).collect();
        for response in &joined {
            assert_eq!(error_of(response.error_code), ErrorCode::None);
        }
        let (leader, generation) = (joined[0].leader.to_string(), joined[0].generation_id);
        let mut members = vec![leader.clone()];
        members
            .extend(joined.iter().map(|response| response.member_id.to_string()).filter(|id| *id != leader));
        let syncs: Vec<_> =
            members[1..].iter().map(|member| self.sync(4, sync_request(member, generation))).collect();
        let assigned: Vec<_> =
            members.iter().map(|member| (member.as_str(), format!("of {member}"))).collect();
        let assigned: Vec<_> = assigned.iter().map(|(member, text)| (*member, text.as_str())).collect();
        let request = sync_request(&leader, generation).with_assignments(assignments(&assigned));
        let leaders = self.sync(4, request);
        for (member, ticket) in members.iter().zip([leaders].into_iter().chain(syncs)) {
            let response = self.synced(ticket);
            assert_eq!(error_of(response.error_code), ErrorCode::None);
            assert_eq!(response.assignment, format!("of {member}"));
        }
        assert_eq!(self.state(), "Stable");
        Formed { members, generation }
    }
}

/// A stable group.
struct Formed {
    /// The leader first.
    members: Vec<String>,
    generation: i32,
}

fn error_of(code: i16) -> ErrorCode {
    let known = [
        ErrorCode::None,
        ErrorCode::FencedInstanceId,
        ErrorCode::GroupIdNotFound,
        ErrorCode::GroupMaxSizeReached,
        ErrorCode::GroupSubscribedToTopic,
        ErrorCode::IllegalGeneration,
        ErrorCode::InconsistentGroupProtocol,
        ErrorCode::InvalidGroupId,
        ErrorCode::InvalidSessionTimeout,
        ErrorCode::MemberIdRequired,
        ErrorCode::NonEmptyGroup,
        ErrorCode::RebalanceInProgress,
        ErrorCode::UnknownMemberId,
    ];
    known.into_iter().find(|error| error.code() == code).unwrap_or_else(|| panic!("error {code}"))
}

//! A member of the classic protocol: JoinGroup, SyncGroup, Heartbeat, LeaveGroup. Whoever leads assigns ranges.

use anyhow::Result;
use bytes::{Bytes, BytesMut};
use kafka_protocol::messages::join_group_request::JoinGroupRequestProtocol;
use kafka_protocol::messages::leave_group_request::MemberIdentity;
use kafka_protocol::messages::sync_group_request::SyncGroupRequestAssignment;
use kafka_protocol::messages::{
    ApiKey, GroupId, HeartbeatRequest, HeartbeatResponse, JoinGroupRequest, JoinGroupResponse,
    LeaveGroupRequest, LeaveGroupResponse, SyncGroupRequest, SyncGroupResponse,
};
use kafka_protocol::protocol::StrBytes;

use super::member::{Outcome, Plan, REBALANCE_TIMEOUT_MS, Standing, answer, frame};
use crate::wire::assignment::{assigned, assignment, subscription};
use crate::wire::code;

const ASSIGNOR: StrBytes = StrBytes::from_static_str("range");
const PROTOCOL_TYPE: StrBytes = StrBytes::from_static_str("consumer");

pub struct Classic {
    group: GroupId,
    /// Empty before the broker has given it one.
    id: StrBytes,
    generation: i32,
    partitions: usize,
    step: Step,
}

/// The next request, or the one under way.
enum Step {
    Join,
    /// With the ids of all members, if this one leads.
    Sync(Vec<StrBytes>),
    Beat,
    Leave,
}

impl Classic {
    #[must_use]
    pub fn new(group: GroupId) -> Classic {
        Classic { group, id: StrBytes::default(), generation: -1, partitions: 0, step: Step::Join }
    }

    pub fn join(&mut self) {
        self.step = Step::Join;
    }

    pub fn leave(&mut self) {
        self.step = Step::Leave;
    }

    #[must_use]
    pub fn standing(&self) -> Option<Standing> {
        let standing = Standing { epoch: self.generation, partitions: self.partitions };
        matches!(self.step, Step::Beat).then_some(standing)
    }

    pub fn request(&self, plan: &Plan, correlation_id: i32) -> Result<BytesMut> {
        let versions = &plan.versions;
        match &self.step {
            Step::Join => {
                let protocol = JoinGroupRequestProtocol::default()
                    .with_name(ASSIGNOR)
                    .with_metadata(subscription(&plan.layout));
                let request = JoinGroupRequest::default()
                    .with_group_id(self.group.clone())
                    .with_session_timeout_ms(plan.session_timeout_ms)
                    .with_rebalance_timeout_ms(REBALANCE_TIMEOUT_MS)
                    .with_member_id(self.id.clone())
                    .with_protocol_type(PROTOCOL_TYPE)
                    .with_protocols(vec![protocol]);
                frame(ApiKey::JoinGroup, versions.join, correlation_id, &request)
            }
            Step::Sync(members) => {
                let mut request = SyncGroupRequest::default()
                    .with_group_id(self.group.clone())
                    .with_generation_id(self.generation)
                    .with_member_id(self.id.clone())
                    .with_assignments(assign(plan, members));
                if versions.sync >= 5 {
                    request.protocol_type = Some(PROTOCOL_TYPE);
                    request.protocol_name = Some(ASSIGNOR);
                }
                frame(ApiKey::SyncGroup, versions.sync, correlation_id, &request)
            }
            Step::Beat => {
                let request = HeartbeatRequest::default()
                    .with_group_id(self.group.clone())
                    .with_generation_id(self.generation)
                    .with_member_id(self.id.clone());
                frame(ApiKey::Heartbeat, versions.heartbeat, correlation_id, &request)
            }
            Step::Leave => {
                let member = MemberIdentity::default().with_member_id(self.id.clone());
                let request =
                    LeaveGroupRequest::default().with_group_id(self.group.clone()).with_members(vec![member]);
                frame(ApiKey::LeaveGroup, versions.leave, correlation_id, &request)
            }
        }
    }

    pub fn answer(&mut self, plan: &Plan, response: Bytes) -> Result<Outcome> {
        let versions = &plan.versions;
        let error = match self.step {
            Step::Join => {
                let joined: JoinGroupResponse = answer(ApiKey::JoinGroup, versions.join, response)?;
                match joined.error_code {
                    0 => {
                        (self.id, self.generation) = (joined.member_id, joined.generation_id);
                        let members = joined.members.into_iter().map(|member| member.member_id);
                        self.step = Step::Sync(members.collect());
                        return Ok(Outcome::GoesOn);
                    }
                    code::MEMBER_ID_REQUIRED => {
                        self.id = joined.member_id;
                        return Ok(Outcome::GoesOn);
                    }
                    error => error,
                }
            }
            Step::Sync(_) => {
                let synced: SyncGroupResponse = answer(ApiKey::SyncGroup, versions.sync, response)?;
                if synced.error_code == 0 {
                    self.partitions = assigned(&plan.layout, &synced.assignment)?.len();
                    self.step = Step::Beat;
                    return Ok(Outcome::Rests);
                }
                synced.error_code
            }
            Step::Beat => {
                let beaten: HeartbeatResponse = answer(ApiKey::Heartbeat, versions.heartbeat, response)?;
                if beaten.error_code == 0 {
                    return Ok(Outcome::Rests);
                }
                beaten.error_code
            }
            Step::Leave => {
                let left: LeaveGroupResponse = answer(ApiKey::LeaveGroup, versions.leave, response)?;
                let of_member = left.members.first().map_or(0, |member| member.error_code);
                if (left.error_code, of_member) == (0, 0) {
                    *self = Classic::new(self.group.clone());
                    return Ok(Outcome::Left);
                }
                if left.error_code == 0 { of_member } else { left.error_code }
            }
        };
        Ok(self.refused(error))
    }

    fn refused(&mut self, error: i16) -> Outcome {
        match error {
            code::COORDINATOR_LOAD_IN_PROGRESS | code::COORDINATOR_NOT_AVAILABLE => Outcome::Waits,
            code::REBALANCE_IN_PROGRESS => {
                self.step = Step::Join;
                Outcome::Rejoins
            }
            error => {
                *self = Classic::new(self.group.clone());
                Outcome::Refused(error)
            }
        }
    }
}

/// Of each member in turn a range of the partitions; nothing for nobody.
fn assign(plan: &Plan, members: &[StrBytes]) -> Vec<SyncGroupRequestAssignment> {
    let partitions = plan.layout.slots.len();
    let mut next = 0;
    let assign = |(place, member): (usize, &StrBytes)| {
        let end = next + partitions / members.len() + usize::from(place < partitions % members.len());
        let slots: Vec<usize> = (next..end).collect();
        next = end;
        SyncGroupRequestAssignment::default()
            .with_member_id(member.clone())
            .with_assignment(assignment(&plan.layout, &slots))
    };
    members.iter().enumerate().map(assign).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::groups::testing::plan;
    use crate::wire::testing::respond;
    use kafka_protocol::messages::join_group_response::JoinGroupResponseMember;
    use kafka_protocol::messages::leave_group_response::MemberResponse;

    fn member() -> Classic {
        Classic::new(GroupId(StrBytes::from_static_str("g")))
    }

    fn answered<A: kafka_protocol::protocol::Encodable>(
        member: &mut Classic,
        key: ApiKey,
        response: &A,
    ) -> Outcome {
        let plan = plan(10);
        let (asked, version) = respond(&member.request(&plan, 1).expect("a request"), response);
        assert_eq!(asked, key);
        let _ = version;
        member
            .answer(&plan, respond(&member.request(&plan, 1).expect("a request"), response).1)
            .expect("read")
    }

    fn joined(members: &[&'static str]) -> JoinGroupResponse {
        let members = members
            .iter()
            .map(|id| JoinGroupResponseMember::default().with_member_id(StrBytes::from_static_str(id)));
        JoinGroupResponse::default()
            .with_generation_id(4)
            .with_member_id(StrBytes::from_static_str("a"))
            .with_protocol_name(Some(ASSIGNOR))
            .with_members(members.collect())
    }

    #[test]
    fn a_leader_joins_assigns_and_beats() {
        let mut member = member();
        let id = StrBytes::from_static_str("a");
        let required = JoinGroupResponse::default()
            .with_error_code(code::MEMBER_ID_REQUIRED)
            .with_protocol_name(Some(StrBytes::default()))
            .with_member_id(id);
        assert_eq!(answered(&mut member, ApiKey::JoinGroup, &required), Outcome::GoesOn);
        assert_eq!(member.id.as_str(), "a");
        assert_eq!(answered(&mut member, ApiKey::JoinGroup, &joined(&["a", "b", "c"])), Outcome::GoesOn);
        assert_eq!(member.standing(), None);
        let plan = plan(10);
        let ranges: Vec<_> = assign(&plan, &["a", "b", "c"].map(StrBytes::from_static_str))
            .iter()
            .map(|of| assigned(&plan.layout, &of.assignment).expect("an assignment"))
            .collect();
        assert_eq!(ranges, [vec![0, 1, 2, 3], vec![4, 5, 6], vec![7, 8, 9]]);
        let synced = SyncGroupResponse::default().with_assignment(assignment(&plan.layout, &[0, 1, 2, 3]));
        assert_eq!(answered(&mut member, ApiKey::SyncGroup, &synced), Outcome::Rests);
        assert_eq!(member.standing(), Some(Standing { epoch: 4, partitions: 4 }));
        let beaten = |error| HeartbeatResponse::default().with_error_code(error);
        assert_eq!(answered(&mut member, ApiKey::Heartbeat, &beaten(0)), Outcome::Rests);
        assert_eq!(
            answered(&mut member, ApiKey::Heartbeat, &beaten(code::REBALANCE_IN_PROGRESS)),
            Outcome::Rejoins
        );
        assert_eq!((member.id.as_str(), member.standing()), ("a", None), "it joins again as who it is");
    }

    #[test]
    fn who_is_refused_begins_anew_and_who_leaves_is_nobody() {
        let mut member = member();
        answered(&mut member, ApiKey::JoinGroup, &joined(&[]));
        let error = SyncGroupResponse::default().with_error_code(code::UNKNOWN_MEMBER_ID);
        assert_eq!(
            answered(&mut member, ApiKey::SyncGroup, &error),
            Outcome::Refused(code::UNKNOWN_MEMBER_ID)
        );
        assert_eq!(member.id.as_str(), "");
        let loading = JoinGroupResponse::default()
            .with_error_code(code::COORDINATOR_LOAD_IN_PROGRESS)
            .with_protocol_name(Some(StrBytes::default()));
        assert_eq!(answered(&mut member, ApiKey::JoinGroup, &loading), Outcome::Waits);
        answered(&mut member, ApiKey::JoinGroup, &joined(&[]));
        member.leave();
        let left = LeaveGroupResponse::default().with_members(vec![MemberResponse::default()]);
        assert_eq!(answered(&mut member, ApiKey::LeaveGroup, &left), Outcome::Left);
        assert_eq!((member.id.as_str(), member.generation), ("", -1));
    }
}

//! LeaveGroup 0-5: members go by themselves or, by an administrator's hand, static ones by their instance's name
//! (KIP-345); several at once from 3 on.

use std::rc::Rc;

use super::{ClassicGroup, State, Turn};
use crate::model::ErrorCode;
use crate::protocol::messages::leave_group_request::MemberIdentity;
use crate::protocol::messages::leave_group_response::MemberResponse;
use crate::protocol::messages::{LeaveGroupRequest, LeaveGroupResponse};

/// LeaveGroup's from which several members may leave at once.
const MEMBERS_FROM: i16 = 3;

pub(super) fn who_leaves(version: i16, request: &LeaveGroupRequest) -> Vec<MemberIdentity> {
    if version >= MEMBERS_FROM {
        request.members.clone()
    } else {
        vec![MemberIdentity::default().with_member_id(request.member_id.clone())]
    }
}

pub(super) fn refused(error: ErrorCode) -> LeaveGroupResponse {
    LeaveGroupResponse::default().with_error_code(error.code())
}

/// An error for each who wanted to leave.
pub(super) fn answer(version: i16, leaving: &[MemberIdentity], errors: &[ErrorCode]) -> LeaveGroupResponse {
    if version < MEMBERS_FROM {
        return refused(errors.first().copied().unwrap_or(ErrorCode::None));
    }
    let members = leaving.iter().zip(errors).map(|(member, error)| {
        MemberResponse::default()
            .with_member_id(member.member_id.clone())
            .with_group_instance_id(member.group_instance_id.clone())
            .with_error_code(error.code())
    });
    LeaveGroupResponse::default().with_members(members.collect())
}

impl ClassicGroup {
    /// An error for each.
    pub(super) fn leave(&mut self, turn: &mut Turn, leaving: &[MemberIdentity]) -> Vec<ErrorCode> {
        let members_before = self.roster.len();
        let errors = leaving.iter().map(|member| self.leave_one(turn, member)).collect();
        let are_fewer = self.roster.len() < members_before;
        match self.state {
            State::CompletingRebalance | State::Stable if are_fewer => self.rebalance(turn),
            // also when one goes who was only about to come
            _ => self.join_if_all_are_here(turn),
        }
        errors
    }

    fn leave_one(&mut self, turn: &mut Turn, leaving: &MemberIdentity) -> ErrorCode {
        let (id, instance) = (leaving.member_id.as_str(), leaving.group_instance_id.as_deref());
        let id = if id.is_empty() {
            let of_instance = instance.and_then(|instance| self.roster.of_instance(instance));
            let Some(of_instance) = of_instance else { return ErrorCode::UnknownMemberId };
            Rc::clone(of_instance)
        } else if self.forget_pending(turn, id) {
            return ErrorCode::None;
        } else if let Err(error) = self.check_member(id, instance) {
            return error;
        } else {
            Rc::from(id)
        };
        self.remove_member(turn, &id);
        ErrorCode::None
    }
}

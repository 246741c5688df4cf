//! Heartbeat 0-4: a member lives, and hears when it has to join again.

use super::{ClassicGroup, State, Turn};
use crate::model::ErrorCode;
use crate::protocol::messages::HeartbeatRequest;

impl ClassicGroup {
    pub(super) fn heartbeat(&mut self, turn: &mut Turn, request: &HeartbeatRequest) -> ErrorCode {
        let id = request.member_id.as_str();
        if let Err(error) = self.check_member(id, request.group_instance_id.as_deref()) {
            return error;
        }
        if request.generation_id != self.generation {
            return ErrorCode::IllegalGeneration;
        }
        self.touch(turn, id);
        match self.state {
            State::Empty => ErrorCode::UnknownMemberId,
            State::PreparingRebalance => ErrorCode::RebalanceInProgress,
            // a member may have been told of the generation before the leader has assigned
            State::CompletingRebalance | State::Stable => ErrorCode::None,
        }
    }
}

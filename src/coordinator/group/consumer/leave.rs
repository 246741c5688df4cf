//! Members that leave, or are taken out because nothing was heard of them or they did not give up what they had to.

use std::rc::Rc;

use super::classic::Rebalance;
use super::member::{AWAY, Member, Owned};
use super::{ConsumerGroup, Refusal, migration};
use crate::coordinator::group::{Due, Group, Members, Turn};
use crate::model::ErrorCode;
use crate::protocol::messages::{ConsumerGroupHeartbeatRequest, ConsumerGroupHeartbeatResponse};

/// A heartbeat with which a member leaves, for good or (a static one) for a while.
pub(super) fn leave(
    group: &mut Option<Group>,
    turn: &mut Turn,
    request: &ConsumerGroupHeartbeatRequest,
) -> Result<ConsumerGroupHeartbeatResponse, Refusal> {
    let Some(group) = group else {
        let message = format!("Group {} not found.", turn.group);
        return Err(Refusal::new(ErrorCode::GroupIdNotFound, message));
    };
    let Members::Consumer(members) = &mut group.members else {
        let message = format!("Group {} is not a consumer group.", turn.group);
        return Err(Refusal::new(ErrorCode::GroupIdNotFound, message));
    };
    let id = match request.instance_id.as_deref() {
        Some(instance) => members.check_instance(turn, &request.member_id, instance)?,
        None => match members.members.get_key_value(request.member_id.as_str()) {
            Some((id, _)) => Rc::clone(id),
            None => return Err(members.unknown_member(turn, &request.member_id)),
        },
    };
    if request.member_epoch == AWAY {
        members.go_away(turn, &id);
    } else {
        fence(group, turn, &[id]);
    }
    Ok(ConsumerGroupHeartbeatResponse::default()
        .with_member_id(Some(request.member_id.clone()))
        .with_member_epoch(request.member_epoch))
}

/// Takes members of the group out of it. If only such are left as use the classic protocol, it becomes a classic group.
pub(super) fn fence(group: &mut Group, turn: &mut Turn, ids: &[Rc<str>]) {
    let Members::Consumer(members) = &mut group.members else { return };
    if ids.is_empty() {
        return;
    }
    if members.may_downgrade_without(turn, ids) {
        migration::downgrade(group, turn, ids, Rebalance::Now);
    } else {
        members.remove_members(turn, ids);
    }
}

impl ConsumerGroup {
    /// A static member will be back within its session. What it has stays its own, since epoch 0, so that it may commit
    /// when it is back; what it had to give up it has given up by going.
    fn go_away(&mut self, turn: &mut Turn, id: &Rc<str>) {
        let mut member = Member { epoch: AWAY, revoking: Owned::new(), ..self.members[id].clone() };
        member
            .assigned
            .values_mut()
            .flat_map(|partitions| partitions.values_mut())
            .for_each(|since| *since = 0);
        turn.cancel_timer(Due::Rebalance(Rc::clone(id)));
        self.write_current(turn, id, &member);
    }

    fn remove_members(&mut self, turn: &mut Turn, ids: &[Rc<str>]) {
        let regexes: Vec<String> =
            ids.iter().filter_map(|id| self.members[id].regex().map(str::to_owned)).collect();
        for id in ids {
            self.write_removal(turn, id);
            self.cancel_timers(turn, id);
        }
        for regex in regexes {
            self.follow_regexes(turn, Some(&regex), None);
        }
        self.follow_topics(turn, true);
        if self.members.is_empty() {
            // as of a new group, whose first target need not wait
            self.write_target_epoch(turn, self.epoch(), 0);
            turn.cancel_timer(Due::Assignment);
        }
    }
}

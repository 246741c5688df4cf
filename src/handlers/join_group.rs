//! JoinGroup 0-9 (key 11): a client becomes a member of a classic group, or begins another rebalance.
//!
//! Answered when the rebalance has ended, perhaps after minutes: only this connection waits. v4+ a new member is first given its id
//! (KIP-394), v5+ static members (KIP-345), v7+ the protocol type is told (KIP-559), v8+ with a reason (KIP-800), v9+ the leader may
//! be told to keep the assignment (KIP-814).

use std::rc::Rc;

use super::Broker;
use super::authorize::Operation;
use super::groups::may;
use super::service::{CloseReason, Outcome, Request};
use crate::coordinator::group::{Body, Reply};
use crate::model::ErrorCode;
use crate::protocol::StrBytes;
use crate::protocol::messages::{JoinGroupRequest, JoinGroupResponse};
use crate::reactor::now;

/// From here on a name that is not known is null.
const NULLABLE_NAMES_FROM: i16 = 7;

pub(super) async fn handle(broker: Rc<Broker>, request: Request) -> Result<Outcome, CloseReason> {
    let (context, request) = request.decode::<JoinGroupRequest>()?;
    let (group, member) = (request.group_id.clone(), request.member_id.clone());
    // it waits for other members
    let asked = now();
    let reply = if !may(&context, Operation::Read, &group) {
        Err(ErrorCode::GroupAuthorizationFailed)
    } else if group.is_empty() {
        Err(ErrorCode::InvalidGroupId)
    } else {
        broker.ask_group(&context, &group, Body::Join(Box::new(request))).await
    };
    let mut response = match reply {
        Ok(Reply::Join(response)) => *response,
        Ok(_) => unreachable!("Join is answered in kind"),
        Err(error) => JoinGroupResponse::default()
            .with_error_code(error.code())
            .with_generation_id(-1)
            .with_protocol_name(None)
            .with_member_id(member),
    };
    if context.version() < NULLABLE_NAMES_FROM {
        response.protocol_name.get_or_insert_with(StrBytes::default);
    }
    Ok(context.reply_coded(response.error_code, response).after_wished_wait(now().since(asked)))
}

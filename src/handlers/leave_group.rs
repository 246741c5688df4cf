//! LeaveGroup 0-5 (key 13): members leave a classic group. v3+ several at once, also by instance id (KIP-345); v5+ with a
//! reason (KIP-800).

use std::rc::Rc;

use super::Broker;
use super::authorize::Operation;
use super::groups::may;
use super::service::{CloseReason, Outcome, Request};
use crate::coordinator::group::{Body, Reply};
use crate::model::ErrorCode;
use crate::protocol::messages::{LeaveGroupRequest, LeaveGroupResponse};

pub(super) async fn handle(broker: Rc<Broker>, request: Request) -> Result<Outcome, CloseReason> {
    let (context, request) = request.decode::<LeaveGroupRequest>()?;
    let group = request.group_id.clone();
    let reply = if !may(&context, Operation::Read, &group) {
        Err(ErrorCode::GroupAuthorizationFailed)
    } else if group.is_empty() {
        Err(ErrorCode::InvalidGroupId)
    } else {
        broker.ask_group(&context, &group, Body::Leave(request)).await
    };
    let response = match reply {
        Ok(Reply::Leave(response)) => response,
        Ok(_) => unreachable!("Leave is answered in kind"),
        Err(error) => LeaveGroupResponse::default().with_error_code(error.code()),
    };
    Ok(context.reply_coded(response.error_code, response))
}

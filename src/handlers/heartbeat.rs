//! Heartbeat 0-4 (key 12): a member of a classic group is alive, and learns of a rebalance. v3+ static members (KIP-345).

use std::rc::Rc;

use super::Broker;
use super::authorize::Operation;
use super::groups::may;
use super::service::{CloseReason, Outcome, Request};
use crate::coordinator::group::{Body, Reply};
use crate::model::ErrorCode;
use crate::protocol::messages::{HeartbeatRequest, HeartbeatResponse};

pub(super) async fn handle(broker: Rc<Broker>, request: Request) -> Result<Outcome, CloseReason> {
    let (context, request) = request.decode::<HeartbeatRequest>()?;
    let group = request.group_id.clone();
    let reply = if !may(&context, Operation::Read, &group) {
        Err(ErrorCode::GroupAuthorizationFailed)
    } else if group.is_empty() {
        Err(ErrorCode::InvalidGroupId)
    } else {
        broker.ask_group(&context, &group, Body::Heartbeat(request)).await
    };
    let response = match reply {
        Ok(Reply::Heartbeat(response)) => response,
        Ok(_) => unreachable!("Heartbeat is answered in kind"),
        Err(error) => HeartbeatResponse::default().with_error_code(error.code()),
    };
    Ok(context.reply_coded(response.error_code, response))
}

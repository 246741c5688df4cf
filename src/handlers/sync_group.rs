//! SyncGroup 0-5 (key 14): a member of a classic group asks for its part; the leader brings everybody's.
//!
//! Answered when the leader has come and the assignment is durable. v3+ static members (KIP-345), v5+ protocol type and
//! name (KIP-559).

use std::rc::Rc;

use super::Broker;
use super::authorize::Operation;
use super::groups::may;
use super::service::{CloseReason, Outcome, Request};
use crate::coordinator::group::{Body, Reply};
use crate::model::ErrorCode;
use crate::protocol::messages::{SyncGroupRequest, SyncGroupResponse};
use crate::reactor::now;

pub(super) async fn handle(broker: Rc<Broker>, request: Request) -> Result<Outcome, CloseReason> {
    let (context, request) = request.decode::<SyncGroupRequest>()?;
    let group = request.group_id.clone();
    // it waits for other members
    let asked = now();
    let reply = if !may(&context, Operation::Read, &group) {
        Err(ErrorCode::GroupAuthorizationFailed)
    } else if group.is_empty() {
        Err(ErrorCode::InvalidGroupId)
    } else {
        broker.ask_group(&context, &group, Body::Sync(Box::new(request))).await
    };
    let response = match reply {
        Ok(Reply::Sync(response)) => *response,
        Ok(_) => unreachable!("Sync is answered in kind"),
        Err(error) => SyncGroupResponse::default().with_error_code(error.code()),
    };
    Ok(context.reply_coded(response.error_code, response).after_wished_wait(now().since(asked)))
}

//! ConsumerGroupHeartbeat 0-1 (key 68, KIP-848): a member of a consumer group joins, is alive, tells what it has, learns what it is to
//! have, and leaves. v1+ regular expressions, and member ids that clients make.

use std::rc::Rc;

use super::Broker;
use super::authorize::{Operation, Resource, allowed};
use super::groups::may;
use super::service::{CloseReason, Outcome, Request};
use super::topic::message;
use crate::coordinator::group::{Body, Reply};
use crate::model::ErrorCode;
use crate::protocol::messages::{ConsumerGroupHeartbeatRequest, ConsumerGroupHeartbeatResponse};

pub(super) async fn handle(broker: Rc<Broker>, request: Request) -> Result<Outcome, CloseReason> {
    let (context, request) = request.decode::<ConsumerGroupHeartbeatRequest>()?;
    let group = request.group_id.clone();
    let may_see = |topic: &str| allowed(&context, Operation::Describe, Resource::Topic(topic));
    let topics = request.subscribed_topic_names.as_deref().unwrap_or_default();
    let reply = if !may(&context, Operation::Read, &group) {
        Err((ErrorCode::GroupAuthorizationFailed, "the group may not be read"))
    } else if !topics.iter().all(|topic| may_see(topic)) {
        Err((ErrorCode::TopicAuthorizationFailed, "a topic of the subscription may not be described"))
    } else {
        let body = Body::ConsumerHeartbeat(Box::new(request));
        broker
            .ask_group(&context, &group, body)
            .await
            .map_err(|error| (error, "look for the coordinator again"))
    };
    let response = match reply {
        Ok(Reply::ConsumerHeartbeat(response)) => *response,
        Ok(_) => unreachable!("ConsumerHeartbeat is answered in kind"),
        Err((error, text)) => ConsumerGroupHeartbeatResponse::default()
            .with_error_code(error.code())
            .with_error_message(Some(message(text))),
    };
    Ok(context.reply_coded(response.error_code, response))
}

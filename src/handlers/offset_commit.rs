//! OffsetCommit 2-9 (key 8): how far a group has read. Answered when it is durable.
//!
//! v2-4 may say how long to keep it; v6+ leader epochs (KIP-320), v7+ static members (KIP-345), v9+ member epochs (KIP-848). A topic or
//! partition that is not there is UNKNOWN_TOPIC_OR_PARTITION. Left out: v10 (topic ids).

use std::rc::Rc;

use super::Broker;
use super::authorize::{Operation, Resource, allowed};
use super::groups::may;
use super::list_offsets::note;
use super::service::{CloseReason, Outcome, Request};
use crate::coordinator::group::{Body, Reply, refused};
use crate::model::ErrorCode;
use crate::protocol::messages::OffsetCommitRequest;

pub(super) async fn handle(broker: Rc<Broker>, request: Request) -> Result<Outcome, CloseReason> {
    let (context, mut request) = request.decode::<OffsetCommitRequest>()?;
    let group = request.group_id.clone();
    if !may(&context, Operation::Read, &group) {
        let error = ErrorCode::GroupAuthorizationFailed;
        return Ok(context.reply(refused(&request, error), error));
    }
    let (allowed, unreadable) = std::mem::take(&mut request.topics)
        .into_iter()
        .partition(|topic| allowed(&context, Operation::Read, Resource::Topic(&topic.name)));
    let unreadable = OffsetCommitRequest::default().with_topics(unreadable);
    request.topics = allowed;
    // it is needed once more only where the coordinator cannot be asked
    let asked = request.clone();
    let reply = broker.ask_group(&context, &group, Body::Commit(Box::new(request))).await;
    let mut response = match reply {
        Ok(Reply::Commit(response)) => response,
        Ok(_) => unreachable!("Commit is answered in kind"),
        Err(error) => refused(&asked, error),
    };
    response.topics.extend(refused(&unreadable, ErrorCode::TopicAuthorizationFailed).topics);
    let mut first_error = ErrorCode::None;
    for partition in response.topics.iter().flat_map(|topic| &topic.partitions) {
        note(
            &mut first_error,
            ErrorCode::from_code(partition.error_code).unwrap_or(ErrorCode::UnknownServerError),
        );
    }
    Ok(context.reply(response, first_error))
}

//! OffsetCommit 2-10 (key 8): how far a group has read. Answered when it is durable.
//!
//! v2-4 may say how long to keep it; v6+ leader epochs (KIP-320), v7+ static members (KIP-345), v9+ member epochs, v10+ topics by id
//! (KIP-848). A topic or partition that is not there is UNKNOWN_TOPIC_OR_PARTITION, an id UNKNOWN_TOPIC_ID.

use std::rc::Rc;

use super::Broker;
use super::authorize::{Operation, Resource, allowed};
use super::groups::may;
use super::list_offsets::note;
use super::service::{CloseReason, Outcome, Request};
use super::topic::topic_id;
use crate::coordinator::group::{Body, Reply, refused};
use crate::model::ErrorCode;
use crate::protocol::StrBytes;
use crate::protocol::messages::offset_commit_request::OffsetCommitRequestTopic;
use crate::protocol::messages::{OffsetCommitRequest, TopicName};
use crate::protocol::topic_ids::TOPIC_IDS_FROM;

pub(super) async fn handle(broker: Rc<Broker>, request: Request) -> Result<Outcome, CloseReason> {
    let (context, mut request) = request.decode::<OffsetCommitRequest>()?;
    let group = request.group_id.clone();
    if !may(&context, Operation::Read, &group) {
        let error = ErrorCode::GroupAuthorizationFailed;
        return Ok(context.reply(refused(&request, error), error));
    }
    let unknown =
        if context.version() >= TOPIC_IDS_FROM { broker.name_topics(&mut request) } else { Vec::new() };
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
    let unknown = OffsetCommitRequest::default().with_topics(unknown);
    response.topics.extend(refused(&unknown, ErrorCode::UnknownTopicId).topics);
    let mut first_error = ErrorCode::None;
    for partition in response.topics.iter().flat_map(|topic| &topic.partitions) {
        note(
            &mut first_error,
            ErrorCode::from_code(partition.error_code).unwrap_or(ErrorCode::UnknownServerError),
        );
    }
    Ok(context.reply(response, first_error))
}

impl Broker {
    /// Gives each topic the name of its id; those that have none are taken out.
    fn name_topics(&self, request: &mut OffsetCommitRequest) -> Vec<OffsetCommitRequestTopic> {
        let image = self.shard.image();
        let (known, unknown) = std::mem::take(&mut request.topics)
            .into_iter()
            .partition(|topic| image.topic(topic_id(topic.topic_id)).is_some());
        request.topics = known;
        for topic in &mut request.topics {
            let name = image.topic(topic_id(topic.topic_id)).map(|known| known.name.clone());
            topic.name = TopicName(StrBytes::from_string(name.unwrap_or_default()));
        }
        unknown
    }
}

//! OffsetDelete 0 (key 47, KIP-496): committed offsets of topics that a group no longer reads go.

use std::rc::Rc;

use super::Broker;
use super::authorize::{Operation, Resource, allowed};
use super::groups::may;
use super::service::{CloseReason, Outcome, Request};
use crate::coordinator::group::{Body, Reply};
use crate::model::ErrorCode;
use crate::protocol::messages::offset_delete_request::OffsetDeleteRequestTopic;
use crate::protocol::messages::offset_delete_response::{
    OffsetDeleteResponsePartition, OffsetDeleteResponseTopic,
};
use crate::protocol::messages::{OffsetDeleteRequest, OffsetDeleteResponse};

pub(super) async fn handle(broker: Rc<Broker>, request: Request) -> Result<Outcome, CloseReason> {
    let (context, mut request) = request.decode::<OffsetDeleteRequest>()?;
    let group = request.group_id.clone();
    let failed = |error: ErrorCode| OffsetDeleteResponse::default().with_error_code(error.code());
    if !may(&context, Operation::Delete, &group) {
        let error = ErrorCode::GroupAuthorizationFailed;
        return Ok(context.reply(failed(error), error));
    }
    let mut refused = Vec::new();
    request.topics.retain_mut(|topic| {
        let may_read = allowed(&context, Operation::Read, Resource::Topic(&topic.name));
        let count = broker.shard.image().topic_by_name(&topic.name).map_or(0, |topic| topic.partitions.len());
        let is_there = |index: i32| usize::try_from(index).is_ok_and(|index| index < count);
        let (error, wanted): (_, Vec<_>) = if may_read {
            let wanted = topic.partitions.iter().filter(|partition| is_there(partition.partition_index));
            (ErrorCode::UnknownTopicOrPartition, wanted.cloned().collect())
        } else {
            (ErrorCode::TopicAuthorizationFailed, Vec::new())
        };
        if wanted.len() < topic.partitions.len() {
            let is_refused = |index: i32| !may_read || !is_there(index);
            refused.push(refusal(topic, is_refused, error));
        }
        topic.partitions = wanted;
        !topic.partitions.is_empty()
    });
    let reply = broker.ask_group(&context, &group, Body::DeleteOffsets(request)).await;
    let mut response = match reply {
        Ok(Reply::DeleteOffsets(response)) => response,
        Ok(_) => unreachable!("DeleteOffsets is answered in kind"),
        Err(error) => failed(error),
    };
    if response.error_code == ErrorCode::None.code() {
        response.topics.extend(refused);
    }
    Ok(context.reply_coded(response.error_code, response))
}

fn refusal(
    topic: &OffsetDeleteRequestTopic,
    is_refused: impl Fn(i32) -> bool,
    error: ErrorCode,
) -> OffsetDeleteResponseTopic {
    let refused =
        topic.partitions.iter().map(|partition| partition.partition_index).filter(|&at| is_refused(at));
    let partitions = refused.map(|index| {
        OffsetDeleteResponsePartition::default().with_partition_index(index).with_error_code(error.code())
    });
    OffsetDeleteResponseTopic::default().with_name(topic.name.clone()).with_partitions(partitions.collect())
}

//! DeleteRecords 0-2 (key 21, KIP-107): a partition's log begins at an offset from now on.
//!
//! -1 stands for the high watermark; an offset above it, or another negative one, is OFFSET_OUT_OF_RANGE; one below the
//! log start changes nothing. A topic that is only compacted is POLICY_VIOLATION, an internal one
//! INVALID_TOPIC_EXCEPTION. Answered with the log start once that is durable; segments below it go later.
//! The timeout is how long to wait for followers; there are none yet.

use std::rc::Rc;

use super::Broker;
use super::authorize::{Operation, Resource, allowed};
use super::list_offsets::note;
use super::service::{CloseReason, Outcome, Request};
use super::topic::is_internal;
use crate::model::{ErrorCode, Offset, PartitionId, TopicId};
use crate::partition::{DeleteBefore, DeleteRecordsPartition};
use crate::protocol::messages::delete_records_response::{
    DeleteRecordsPartitionResult, DeleteRecordsTopicResult,
};
use crate::protocol::messages::{DeleteRecordsRequest, DeleteRecordsResponse};

pub(super) async fn handle(broker: Rc<Broker>, request: Request) -> Result<Outcome, CloseReason> {
    let (context, request) = request.decode::<DeleteRecordsRequest>()?;
    let mut deletions = Vec::new();
    // where the answers belong
    let mut places = Vec::new();
    let mut first_error = ErrorCode::None;
    let mut topics = Vec::with_capacity(request.topics.len());
    for asked in &request.topics {
        let found = if allowed(&context, Operation::Delete, Resource::Topic(&asked.name)) {
            deletable(&broker, &asked.name)
        } else {
            Err(ErrorCode::TopicAuthorizationFailed)
        };
        let mut partitions = Vec::with_capacity(asked.partitions.len());
        for partition in &asked.partitions {
            let index = partition.partition_index;
            let answer =
                DeleteRecordsPartitionResult::default().with_partition_index(index).with_low_watermark(-1);
            match found.and_then(|topic| Ok((topic, before(partition.offset)?))) {
                Ok((topic, before)) => {
                    places.push((topics.len(), partitions.len()));
                    let partition = PartitionId { topic, index };
                    deletions.push(DeleteRecordsPartition { partition, before });
                    partitions.push(answer);
                }
                Err(error) => {
                    note(&mut first_error, error);
                    partitions.push(answer.with_error_code(error.code()));
                }
            }
        }
        let result = DeleteRecordsTopicResult::default().with_name(asked.name.clone());
        topics.push(result.with_partitions(partitions));
    }
    let outcomes = broker.shard.delete_records(deletions).await;
    assert_eq!(outcomes.len(), places.len(), "one outcome per deletion");
    for ((topic, partition), outcome) in places.into_iter().zip(outcomes) {
        note(&mut first_error, outcome.error);
        let response = &mut topics[topic].partitions[partition];
        response.error_code = outcome.error.code();
        response.low_watermark = outcome.low_watermark.0;
    }
    Ok(context.reply(DeleteRecordsResponse::default().with_topics(topics), first_error))
}

/// The topic, if its records may be deleted.
fn deletable(broker: &Broker, name: &str) -> Result<TopicId, ErrorCode> {
    let image = broker.shard.image();
    let topic = image.topic_by_name(name).ok_or(ErrorCode::UnknownTopicOrPartition)?;
    if is_internal(name) {
        return Err(ErrorCode::InvalidTopicException);
    }
    let cleanup = topic.settings.cleanup;
    if cleanup.compact && !cleanup.delete {
        return Err(ErrorCode::PolicyViolation);
    }
    Ok(topic.id)
}

fn before(offset: i64) -> Result<DeleteBefore, ErrorCode> {
    match offset {
        -1 => Ok(DeleteBefore::HighWatermark),
        0.. => Ok(DeleteBefore::Offset(Offset(offset))),
        _ => Err(ErrorCode::OffsetOutOfRange),
    }
}

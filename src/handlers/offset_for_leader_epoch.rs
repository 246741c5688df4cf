//! OffsetForLeaderEpoch 2-4 (key 23, KIP-101, KIP-279): where a leader epoch ended, so that a client can tell whether
//! the log was cut behind its back.
//!
//! The epoch in the answer is the largest one not above the one asked for. v3+ says who asks (a replica or a
//! consumer), which makes no difference to the answer; DESCRIBE on the topic suffices.

use std::rc::Rc;

use super::Broker;
use super::authorize::{Operation, Resource, allowed};
use super::list_offsets::note;
use super::service::{CloseReason, Outcome, Request};
use crate::model::{ErrorCode, LeaderEpoch, PartitionId};
use crate::partition::EpochQueryPartition;
use crate::protocol::messages::offset_for_leader_epoch_response::{
    EpochEndOffset, OffsetForLeaderTopicResult,
};
use crate::protocol::messages::{OffsetForLeaderEpochRequest, OffsetForLeaderEpochResponse};

pub(super) async fn handle(broker: Rc<Broker>, request: Request) -> Result<Outcome, CloseReason> {
    let (context, request) = request.decode::<OffsetForLeaderEpochRequest>()?;
    let mut queries = Vec::new();
    // where the answers belong
    let mut places = Vec::new();
    let mut first_error = ErrorCode::None;
    let mut topics = Vec::with_capacity(request.topics.len());
    for asked in &request.topics {
        let found = if allowed(&context, Operation::Describe, Resource::Topic(&asked.topic)) {
            let image = broker.shard.image();
            image.topic_by_name(&asked.topic).map(|topic| topic.id).ok_or(ErrorCode::UnknownTopicOrPartition)
        } else {
            Err(ErrorCode::TopicAuthorizationFailed)
        };
        let mut partitions = Vec::with_capacity(asked.partitions.len());
        for partition in &asked.partitions {
            let answer = EpochEndOffset::default().with_partition(partition.partition);
            match found {
                Ok(topic) => {
                    places.push((topics.len(), partitions.len()));
                    queries.push(EpochQueryPartition {
                        partition: PartitionId { topic, index: partition.partition },
                        current_epoch: LeaderEpoch(partition.current_leader_epoch),
                        epoch: LeaderEpoch(partition.leader_epoch),
                    });
                    partitions.push(answer);
                }
                Err(error) => {
                    note(&mut first_error, error);
                    partitions.push(answer.with_error_code(error.code()));
                }
            }
        }
        let result = OffsetForLeaderTopicResult::default().with_topic(asked.topic.clone());
        topics.push(result.with_partitions(partitions));
    }
    let answers = broker.shard.epoch_end_offsets(queries).await;
    assert_eq!(answers.len(), places.len(), "one answer per query");
    for ((topic, partition), answer) in places.into_iter().zip(answers) {
        note(&mut first_error, answer.error);
        let response = &mut topics[topic].partitions[partition];
        response.error_code = answer.error.code();
        response.leader_epoch = answer.epoch.0;
        response.end_offset = answer.end_offset.0;
    }
    Ok(context.reply(OffsetForLeaderEpochResponse::default().with_topics(topics), first_error))
}

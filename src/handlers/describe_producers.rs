//! DescribeProducers 0 (key 61, KIP-664): the producers that partitions know, by whom a transaction that hangs is found.
//!
//! A topic that does not exist, or whose records the client may not read, is told for each of its partitions. An internal
//! topic is described as any other.

use std::rc::Rc;

use super::Broker;
use super::authorize::{Operation, Resource, allowed};
use super::list_offsets::note;
use super::service::{CloseReason, Outcome, Request};
use crate::log::producer_state::ActiveProducer;
use crate::model::{ErrorCode, PartitionId};
use crate::protocol::messages::describe_producers_response::{
    PartitionResponse, ProducerState, TopicResponse,
};
use crate::protocol::messages::{DescribeProducersRequest, DescribeProducersResponse};

pub(super) async fn handle(broker: Rc<Broker>, request: Request) -> Result<Outcome, CloseReason> {
    let (context, request) = request.decode::<DescribeProducersRequest>()?;
    let mut asked = Vec::new();
    // where the answers belong
    let mut places = Vec::new();
    let mut first_error = ErrorCode::None;
    let mut topics = Vec::with_capacity(request.topics.len());
    for topic in request.topics {
        let found = if allowed(&context, Operation::Read, Resource::Topic(&topic.name)) {
            let image = broker.shard.image();
            image.topic_by_name(&topic.name).map(|topic| topic.id).ok_or(ErrorCode::UnknownTopicOrPartition)
        } else {
            Err(ErrorCode::TopicAuthorizationFailed)
        };
        let mut partitions = Vec::with_capacity(topic.partition_indexes.len());
        for index in topic.partition_indexes {
            let answer = PartitionResponse::default().with_partition_index(index);
            partitions.push(match found {
                Ok(topic) => {
                    places.push((topics.len(), partitions.len()));
                    asked.push(PartitionId { topic, index });
                    answer
                }
                Err(error) => {
                    note(&mut first_error, error);
                    answer.with_error_code(error.code())
                }
            });
        }
        topics.push(TopicResponse::default().with_name(topic.name).with_partitions(partitions));
    }
    let answers = broker.shard.describe_producers(asked).await;
    assert_eq!(answers.len(), places.len(), "one answer per partition");
    for ((topic, partition), answer) in places.into_iter().zip(answers) {
        let response = &mut topics[topic].partitions[partition];
        match answer {
            Ok(producers) => response.active_producers = producers.iter().map(state).collect(),
            Err(error) => {
                note(&mut first_error, error);
                response.error_code = error.code();
            }
        }
    }
    Ok(context.reply(DescribeProducersResponse::default().with_topics(topics), first_error))
}

fn state(producer: &ActiveProducer) -> ProducerState {
    ProducerState::default()
        .with_producer_id(producer.id.0.into())
        .with_producer_epoch(i32::from(producer.epoch.0))
        .with_last_sequence(producer.last_sequence)
        .with_last_timestamp(producer.last_timestamp.0)
        .with_coordinator_epoch(producer.coordinator_epoch)
        .with_current_txn_start_offset(producer.txn_start_offset.0)
}

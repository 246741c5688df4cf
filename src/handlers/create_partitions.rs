//! CreatePartitions 0-3 (key 37, KIP-195): more partitions for topics, decided by the controller.
//!
//! Any broker takes the request. The count is the new total. Answered when the new partitions are open on this node. A
//! topic succeeds or fails by itself; one that is named twice is refused, and told once. Left out: the controller
//! mutation quota of v3 (KIP-599).

use std::collections::HashSet;
use std::rc::Rc;

use super::authorize::{Operation, Resource, allowed};
use super::create_topics::{decided, patience};
use super::endpoint::broker_of;
use super::list_offsets::note;
use super::service::{CloseReason, Outcome, Request};
use super::topic::message;
use super::{Broker, control};
use crate::metadata::Image;
use crate::model::ErrorCode;
use crate::protocol::messages::create_partitions_request::{
    CreatePartitionsAssignment, CreatePartitionsTopic,
};
use crate::protocol::messages::create_partitions_response::CreatePartitionsTopicResult;
use crate::protocol::messages::{CreatePartitionsRequest, CreatePartitionsResponse};

pub(super) async fn handle(broker: Rc<Broker>, request: Request) -> Result<Outcome, CloseReason> {
    let (context, request) = request.decode::<CreatePartitionsRequest>()?;
    let (asked, refused): (Vec<_>, Vec<_>) = (request.topics.into_iter())
        .partition(|topic| allowed(&context, Operation::Alter, Resource::Topic(&topic.name)));
    let mut results = Vec::with_capacity(asked.len() + refused.len());
    let mut first_error = ErrorCode::None;
    if !asked.is_empty() {
        let control = control::Request::CreatePartitions {
            topics: broker.additions(&asked),
            validate_only: request.validate_only,
        };
        let reply = broker.control(control, patience(request.timeout_ms)).await;
        match decided(reply, asked.len()) {
            Ok(decided) => {
                for (topic, result) in asked.iter().zip(decided) {
                    note(&mut first_error, result.error);
                    results.push(answer(topic, result.error).with_error_message(result.message.map(message)));
                }
            }
            Err(error) => {
                note(&mut first_error, error);
                results.extend(asked.iter().map(|topic| answer(topic, error)));
            }
        }
    }
    for topic in &refused {
        note(&mut first_error, ErrorCode::TopicAuthorizationFailed);
        results.push(answer(topic, ErrorCode::TopicAuthorizationFailed));
    }
    let mut told = HashSet::new();
    results.retain(|result| told.insert(result.name.clone()));
    Ok(context.reply(CreatePartitionsResponse::default().with_results(results), first_error))
}

impl Broker {
    fn additions(&self, asked: &[CreatePartitionsTopic]) -> Vec<control::CreatePartitions> {
        let image = self.shard.image();
        asked.iter().map(|topic| addition(&image, topic)).collect()
    }
}

fn addition(image: &Image, topic: &CreatePartitionsTopic) -> control::CreatePartitions {
    control::CreatePartitions {
        topic: topic.name.to_string(),
        count: topic.count,
        assignments: topic.assignments.as_ref().map(|assignments| {
            let brokers = |assignment: &CreatePartitionsAssignment| {
                assignment.broker_ids.iter().map(|id| broker_of(image, id.0)).collect()
            };
            assignments.iter().map(brokers).collect()
        }),
    }
}

fn answer(topic: &CreatePartitionsTopic, error: ErrorCode) -> CreatePartitionsTopicResult {
    CreatePartitionsTopicResult::default()
        .with_name(topic.name.clone())
        .with_error_code(error.code())
        .with_error_message(None)
}

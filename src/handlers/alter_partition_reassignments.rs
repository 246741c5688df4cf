//! AlterPartitionReassignments 0-1 (key 45, KIP-455): which brokers carry a partition, decided by the controller.
//!
//! A null list of replicas cancels. v1+ (KIP-860): the client may insist on the replication factor there is. Left out:
//! moving partitions to other brokers, which needs replication; so there is never anything to cancel.

use std::rc::Rc;

use super::authorize::{Operation, Resource, allowed};
use super::create_topics::patience;
use super::elect_leaders::partitions_decided;
use super::endpoint::broker_of;
use super::list_offsets::note;
use super::service::{CloseReason, Outcome, Request};
use super::topic::message;
use super::{Broker, control};
use crate::metadata::{Image, PartitionRef, Reassignment};
use crate::model::ErrorCode;
use crate::protocol::messages::alter_partition_reassignments_response::{
    ReassignablePartitionResponse, ReassignableTopicResponse,
};
use crate::protocol::messages::{AlterPartitionReassignmentsRequest, AlterPartitionReassignmentsResponse};

pub(super) async fn handle(broker: Rc<Broker>, request: Request) -> Result<Outcome, CloseReason> {
    let (context, request) = request.decode::<AlterPartitionReassignmentsRequest>()?;
    let decided = if allowed(&context, Operation::Alter, Resource::Cluster) {
        let control = control::Request::ReassignPartitions {
            partitions: asked(&broker.shard.image(), &request),
            may_change_replication_factor: request.allow_replication_factor_change,
        };
        partitions_decided(broker.control(control, patience(request.timeout_ms)).await)
    } else {
        Err(ErrorCode::ClusterAuthorizationFailed)
    };
    let mut first_error = decided.as_ref().err().copied().unwrap_or(ErrorCode::None);
    let response = AlterPartitionReassignmentsResponse::default()
        .with_error_code(first_error.code())
        .with_error_message(None)
        .with_allow_replication_factor_change(request.allow_replication_factor_change);
    let results = decided.unwrap_or_else(|error| {
        let failed = |asked: Reassignment| control::PartitionResult {
            partition: asked.partition,
            error,
            message: None,
        };
        asked(&broker.shard.image(), &request).into_iter().map(failed).collect()
    });
    for result in &results {
        note(&mut first_error, result.error);
    }
    let mut results = results.into_iter();
    let topics = request.topics.iter().map(|topic| {
        let of_topic = results.by_ref().take(topic.partitions.len()).map(told);
        ReassignableTopicResponse::default().with_name(topic.name.clone()).with_partitions(of_topic.collect())
    });
    let topics = topics.collect();
    Ok(context.reply(response.with_responses(topics), first_error))
}

fn asked(image: &Image, request: &AlterPartitionReassignmentsRequest) -> Vec<Reassignment> {
    let asked = request.topics.iter().flat_map(|topic| {
        topic.partitions.iter().map(|partition| Reassignment {
            partition: PartitionRef { topic: topic.name.to_string(), index: partition.partition_index },
            replicas: (partition.replicas.as_ref())
                .map(|replicas| replicas.iter().map(|id| broker_of(image, id.0)).collect()),
        })
    });
    asked.collect()
}

fn told(result: control::PartitionResult) -> ReassignablePartitionResponse {
    ReassignablePartitionResponse::default()
        .with_partition_index(result.partition.index)
        .with_error_code(result.error.code())
        .with_error_message(result.message.map(message))
}

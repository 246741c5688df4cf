//! ElectLeaders 0-2 (key 43, KIP-183, KIP-460): new leaders for partitions, decided by the controller.
//!
//! v0 knows preferred leaders only; v1+ unclean elections too, and an error for the whole request. A null list means
//! every partition; then those that need no election are left out of the answer. On one node every partition is led by
//! its only replica, and no election is needed.

use std::collections::HashMap;
use std::rc::Rc;

use super::authorize::{Operation, Resource, allowed};
use super::create_topics::patience;
use super::list_offsets::note;
use super::service::{CloseReason, Outcome, Request};
use super::topic::message;
use super::{Broker, control};
use crate::metadata::{Election, PartitionRef};
use crate::model::ErrorCode;
use crate::protocol::StrBytes;
use crate::protocol::messages::elect_leaders_response::{PartitionResult, ReplicaElectionResult};
use crate::protocol::messages::{ElectLeadersRequest, ElectLeadersResponse, TopicName};

pub(super) async fn handle(broker: Rc<Broker>, request: Request) -> Result<Outcome, CloseReason> {
    let (context, request) = request.decode::<ElectLeadersRequest>()?;
    let election = match request.election_type {
        0 => Ok(Election::Preferred),
        1 => Ok(Election::Unclean),
        _ => Err(ErrorCode::InvalidRequest),
    };
    let decided = match election {
        _ if !allowed(&context, Operation::Alter, Resource::Cluster) => {
            Err(ErrorCode::ClusterAuthorizationFailed)
        }
        Err(error) => Err(error),
        Ok(election) => {
            let partitions = request.topic_partitions.as_ref().map(|_| asked(&request).collect());
            let control = control::Request::ElectLeaders { election, partitions };
            partitions_decided(broker.control(control, patience(request.timeout_ms)).await)
        }
    };
    let mut response = ElectLeadersResponse::default();
    let (error, results) = match decided {
        Ok(results) => (ErrorCode::None, results),
        Err(error) => {
            if context.version() >= 1 {
                response.error_code = error.code();
            }
            let failed = |partition| control::PartitionResult { partition, error, message: None };
            (error, asked(&request).map(failed).collect())
        }
    };
    let mut first_error = error;
    for result in &results {
        note(&mut first_error, result.error);
    }
    response.replica_election_results = if request.topic_partitions.is_some() {
        in_the_order_of_the_request(&request, results)
    } else if error.is_none() {
        broker.by_topic(results)
    } else {
        Vec::new()
    };
    Ok(context.reply(response, first_error))
}

/// The controller's results about partitions, or why there are none.
pub(super) fn partitions_decided(
    reply: Option<control::Reply>,
) -> Result<Vec<control::PartitionResult>, ErrorCode> {
    match reply {
        Some(control::Reply::Partitions(results)) => Ok(results),
        Some(control::Reply::Failed(error)) => Err(error),
        Some(_) => unreachable!("a request about partitions is answered with partitions"),
        None => Err(ErrorCode::RequestTimedOut),
    }
}

fn asked(request: &ElectLeadersRequest) -> impl Iterator<Item = PartitionRef> {
    request.topic_partitions.iter().flatten().flat_map(|topic| {
        let of = |&index| PartitionRef { topic: topic.topic.to_string(), index };
        topic.partitions.iter().map(of)
    })
}

fn in_the_order_of_the_request(
    request: &ElectLeadersRequest,
    results: Vec<control::PartitionResult>,
) -> Vec<ReplicaElectionResult> {
    let mut results = results.into_iter();
    let told = request.topic_partitions.iter().flatten().map(|topic| {
        let of_topic = results.by_ref().take(topic.partitions.len()).map(told);
        ReplicaElectionResult::default()
            .with_topic(topic.topic.clone())
            .with_partition_result(of_topic.collect())
    });
    told.collect()
}

impl Broker {
    /// Every topic, as Kafka does, whether or not a partition of it is told.
    fn by_topic(&self, results: Vec<control::PartitionResult>) -> Vec<ReplicaElectionResult> {
        let mut of_topics: HashMap<String, Vec<PartitionResult>> = HashMap::new();
        for mut result in results {
            let topic = std::mem::take(&mut result.partition.topic);
            of_topics.entry(topic).or_default().push(told(result));
        }
        let image = self.shard.image();
        let topics = image.topics().map(|topic| {
            ReplicaElectionResult::default()
                .with_topic(TopicName(StrBytes::from_string(topic.name.clone())))
                .with_partition_result(of_topics.remove(&topic.name).unwrap_or_default())
        });
        topics.collect()
    }
}

fn told(result: control::PartitionResult) -> PartitionResult {
    PartitionResult::default()
        .with_partition_id(result.partition.index)
        .with_error_code(result.error.code())
        .with_error_message(result.message.map(message))
}

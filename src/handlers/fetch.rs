//! Fetch 4-18 (key 1): whole batches from the fetch offset on, up to the high watermark or last stable offset.
//!
//! Waits for min_bytes up to max_wait_ms; any partition error ends the wait. Records are slices of the tail cache or
//! of what was read from disk, spliced into the encoded response. v7+ sessions (KIP-227): this broker keeps none, so
//! a full fetch is answered with session id 0 and an incremental one with FETCH_SESSION_ID_NOT_FOUND, on which clients
//! fetch in full. v9+ leader epochs (KIP-320); v12+ divergence (KIP-595); v13+ topic ids (KIP-516); v16+ the new
//! leader's address (KIP-951). v11+ racks (KIP-392): reads from followers are left out, and so are followers
//! themselves: a request of a replica is NOT_LEADER_OR_FOLLOWER.

use std::rc::Rc;

use bytes::Bytes;

use super::Broker;
use super::authorize::{Operation, Resource, allowed};
use super::context::RequestContext;
use super::endpoint::live_node;
use super::list_offsets::{isolation, note};
use super::service::{CloseReason, Outcome, Request};
use super::topic::topic_id;
use crate::metadata::topic_config::Compression;
use crate::model::{ErrorCode, LeaderEpoch, Offset, PartitionId, TopicId};
use crate::partition::{self, Leader, ReadOutcome, ReadPartition};
use crate::protocol::messages::fetch_request::FetchTopic;
use crate::protocol::messages::fetch_response::{
    AbortedTransaction, EpochEndOffset, FetchableTopicResponse, LeaderIdAndEpoch, NodeEndpoint, PartitionData,
};
use crate::protocol::messages::{FetchRequest, FetchResponse};

/// No fetch waits longer, whatever it asks for: its client may be gone long since.
const WAIT_MS_MAX: u64 = 5 * 60 * 1000;
/// The session epoch of a request that is complete in itself: opening a session, or without one.
const FULL_EPOCHS: [i32; 2] = [0, -1];

pub(super) async fn handle(broker: Rc<Broker>, request: Request) -> Result<Outcome, CloseReason> {
    let (context, request) = request.decode::<FetchRequest>()?;
    let version = context.version();
    if version >= 7 && !FULL_EPOCHS.contains(&request.session_epoch) {
        let error = ErrorCode::FetchSessionIdNotFound;
        return Ok(context.reply(FetchResponse::default().with_error_code(error.code()), error));
    }
    let from_replica = request.replica_id.0 >= 0 || request.replica_state.replica_id.0 >= 0;

    let mut first_error = ErrorCode::None;
    let mut reads = Vec::new();
    // where the outcomes belong
    let mut places = Vec::new();
    let mut topics = Vec::with_capacity(request.topics.len());
    for asked in &request.topics {
        let target =
            if from_replica { Err(ErrorCode::NotLeaderOrFollower) } else { target(&broker, &context, asked) };
        let mut partitions = Vec::with_capacity(asked.partitions.len());
        for partition in &asked.partitions {
            match target {
                Ok(topic) => {
                    places.push((topics.len(), partitions.len()));
                    reads.push(ReadPartition {
                        partition: PartitionId { topic, index: partition.partition },
                        fetch_offset: Offset(partition.fetch_offset),
                        max_bytes: usize::try_from(partition.partition_max_bytes).unwrap_or(0),
                        current_epoch: LeaderEpoch(partition.current_leader_epoch),
                        last_fetched_epoch: LeaderEpoch(partition.last_fetched_epoch),
                    });
                    partitions.push(nothing(partition.partition));
                }
                Err(error) => {
                    note(&mut first_error, error);
                    partitions.push(nothing(partition.partition).with_error_code(error.code()));
                }
            }
        }
        topics.push(
            FetchableTopicResponse::default()
                .with_topic(asked.topic.clone())
                .with_topic_id(asked.topic_id)
                .with_partitions(partitions),
        );
    }

    let max_bytes = usize::try_from(request.max_bytes).unwrap_or(0).min(broker.settings.fetch_bytes_max);
    let max_wait_ms = u64::try_from(request.max_wait_ms).unwrap_or(0).min(WAIT_MS_MAX);
    let outcomes = broker
        .shard
        .fetch(partition::FetchRequest {
            partitions: reads,
            max_bytes,
            min_bytes: usize::try_from(request.min_bytes).unwrap_or(0),
            // an error is told at once
            max_wait_ms: if first_error.is_none() { max_wait_ms } else { 0 },
            isolation: isolation(request.isolation_level),
        })
        .await;
    // from here on nothing needs the request's bytes
    drop(request);

    assert_eq!(outcomes.len(), places.len(), "one outcome per partition");
    let mut leaders = Vec::new();
    let mut records: Vec<Vec<Vec<Bytes>>> =
        topics.iter().map(|topic| vec![Vec::new(); topic.partitions.len()]).collect();
    for ((topic, partition), mut outcome) in places.into_iter().zip(outcomes) {
        note(&mut first_error, outcome.error);
        leaders.extend(outcome.leader);
        records[topic][partition] = std::mem::take(&mut outcome.records);
        fill(&mut topics[topic].partitions[partition], outcome, version);
    }
    let mut response = FetchResponse::default().with_responses(topics);
    if version >= 16 && !leaders.is_empty() {
        response.node_endpoints = node_endpoints(&broker, &context, &leaders);
    }
    Ok(reply(&context, response, records, first_error))
}

fn target(broker: &Broker, context: &RequestContext, asked: &FetchTopic) -> Result<TopicId, ErrorCode> {
    let image = broker.shard.image();
    let by_id = context.version() >= 13;
    if !by_id && !allowed(context, Operation::Read, Resource::Topic(&asked.topic)) {
        return Err(ErrorCode::TopicAuthorizationFailed);
    }
    let topic = if by_id {
        image.topic(topic_id(asked.topic_id)).ok_or(ErrorCode::UnknownTopicId)?
    } else {
        image.topic_by_name(&asked.topic).ok_or(ErrorCode::UnknownTopicOrPartition)?
    };
    if !allowed(context, Operation::Read, Resource::Topic(&topic.name)) {
        return Err(ErrorCode::TopicAuthorizationFailed);
    }
    if context.version() < 10 && matches!(topic.settings.compression, Compression::Zstd { .. }) {
        return Err(ErrorCode::UnsupportedCompressionType);
    }
    Ok(topic.id)
}

fn nothing(index: i32) -> PartitionData {
    PartitionData::default()
        .with_partition_index(index)
        .with_high_watermark(-1)
        .with_last_stable_offset(-1)
        .with_log_start_offset(-1)
        .with_aborted_transactions(None)
        .with_preferred_read_replica((-1).into())
        .with_records(Some(Bytes::new()))
}

fn fill(response: &mut PartitionData, outcome: ReadOutcome, version: i16) {
    let error = match outcome.error {
        ErrorCode::KafkaStorageError if version <= 5 => ErrorCode::NotLeaderOrFollower,
        error => error,
    };
    response.error_code = error.code();
    response.high_watermark = outcome.high_watermark.0;
    response.last_stable_offset = outcome.last_stable_offset.0;
    response.log_start_offset = outcome.log_start_offset.0;
    response.aborted_transactions = outcome.aborted.map(|aborted| {
        let told = |(producer, first): (crate::model::ProducerId, Offset)| {
            AbortedTransaction::default().with_producer_id(producer.0.into()).with_first_offset(first.0)
        };
        aborted.into_iter().map(told).collect()
    });
    if version >= 12 {
        if let Some((epoch, end)) = outcome.diverging {
            response.diverging_epoch = EpochEndOffset::default().with_epoch(epoch.0).with_end_offset(end.0);
        }
        if let Some(leader) = outcome.leader {
            response.current_leader = LeaderIdAndEpoch::default()
                .with_leader_id(leader.broker.0.into())
                .with_leader_epoch(leader.epoch.0);
        }
    }
}

fn node_endpoints(broker: &Broker, context: &RequestContext, leaders: &[Leader]) -> Vec<NodeEndpoint> {
    let image = broker.shard.image();
    let mut told: Vec<NodeEndpoint> = Vec::new();
    for leader in leaders {
        if told.iter().any(|node| node.node_id.0 == leader.broker.0) {
            continue;
        }
        if let Some(node) = live_node(&image, leader.broker, &context.connection.listener) {
            told.push(
                NodeEndpoint::default()
                    .with_node_id(node.broker.0.into())
                    .with_host(node.host)
                    .with_port(node.port)
                    .with_rack(node.rack),
            );
        }
    }
    told
}

fn reply(
    context: &RequestContext,
    mut response: FetchResponse,
    records: Vec<Vec<Vec<Bytes>>>,
    error: ErrorCode,
) -> Outcome {
    for (topic, records) in response.responses.iter_mut().zip(records) {
        for (partition, parts) in topic.partitions.iter_mut().zip(records) {
            partition.records = Some(Bytes::from(parts.concat()));
        }
    }
    context.reply(response, error)
}

//! Fetch 4-18 (key 1): whole batches from the fetch offset on, up to the high watermark or last stable offset.
//!
//! Waits for min_bytes up to max_wait_ms; any partition error ends the wait. Records are slices of the tail cache or
//! of what was read from disk, spliced into the encoded response. v7+ sessions (KIP-227): this broker keeps none, so
//! a full fetch is answered with session id 0 and an incremental one with FETCH_SESSION_ID_NOT_FOUND, on which clients
//! fetch in full. v9+ leader epochs (KIP-320); v12+ divergence (KIP-595); v13+ topic ids (KIP-516); v16+ the new
//! leader's address (KIP-951). v11+ racks (KIP-392): reads from followers are left out, and so are followers
//! themselves: a request of a replica is NOT_LEADER_OR_FOLLOWER.

use std::rc::Rc;
use std::time::Duration;

use super::Broker;
use super::authorize::{Operation, Resource, allowed};
use super::context::RequestContext;
use super::endpoint::{Node, live_nodes, node_id};
use super::list_offsets::{isolation, note};
use super::service::{CloseReason, Outcome, Reply, Request};
use super::topic::topic_id;
use crate::metadata::topic_config::Compression;
use crate::model::{ErrorCode, LeaderEpoch, Offset, PartitionId, TopicId};
use crate::partition::{self, Fetched, ReadOutcome, ReadPartition};
use crate::protocol::fetch_response::{self, FetchResponse};
use crate::protocol::messages::FetchRequest;
use crate::protocol::messages::fetch_request::FetchTopic;

/// No fetch waits longer, whatever it asks for: its client may be gone long since.
const WAIT_MS_MAX: u64 = 5 * 60 * 1000;
/// The session epoch of a request that is complete in itself: opening a session, or without one.
const FULL_EPOCHS: [i32; 2] = [0, -1];

pub(super) async fn handle(broker: Rc<Broker>, request: Request) -> Result<Outcome, CloseReason> {
    let reply_bytes_max = request.reply_bytes_max.min(broker.settings.fetch_bytes_max);
    let (context, request) = request.decode::<FetchRequest>()?;
    let version = context.version();
    if version >= 7 && !FULL_EPOCHS.contains(&request.session_epoch) {
        let error = ErrorCode::FetchSessionIdNotFound;
        return Ok(whole(&context, &[], &[], error, error, Duration::ZERO));
    }
    let from_replica = request.replica_id.0 >= 0 || request.replica_state.replica_id.0 >= 0;

    let mut first_error = ErrorCode::None;
    let mut reads = Vec::new();
    // of all partitions, in the request's order; and where in it the outcomes belong
    let mut answers = Vec::new();
    let mut places = Vec::new();
    for asked in &request.topics {
        let target =
            if from_replica { Err(ErrorCode::NotLeaderOrFollower) } else { target(&broker, &context, asked) };
        for partition in &asked.partitions {
            let error = match target {
                Ok(topic) => {
                    places.push(answers.len());
                    reads.push(ReadPartition {
                        partition: PartitionId { topic, index: partition.partition },
                        fetch_offset: Offset(partition.fetch_offset),
                        max_bytes: usize::try_from(partition.partition_max_bytes).unwrap_or(0),
                        current_epoch: LeaderEpoch(partition.current_leader_epoch),
                        last_fetched_epoch: LeaderEpoch(partition.last_fetched_epoch),
                    });
                    ErrorCode::None
                }
                Err(error) => error,
            };
            note(&mut first_error, error);
            answers.push(ReadOutcome::failed(error));
        }
    }

    let max_wait_ms = u64::try_from(request.max_wait_ms).unwrap_or(0).min(WAIT_MS_MAX);
    let Fetched { outcomes, waited, concern } = broker
        .shard
        .fetch(partition::FetchRequest {
            partitions: reads,
            max_bytes: usize::try_from(request.max_bytes).unwrap_or(0).min(reply_bytes_max),
            min_bytes: usize::try_from(request.min_bytes).unwrap_or(0),
            // an error is told at once
            max_wait_ms: if first_error.is_none() { max_wait_ms } else { 0 },
            isolation: isolation(request.isolation_level),
        })
        .await;
    context.connection.count(concern);
    assert_eq!(outcomes.len(), places.len(), "one outcome per partition");
    for (place, outcome) in places.into_iter().zip(outcomes) {
        note(&mut first_error, outcome.error);
        answers[place] = outcome;
    }
    Ok(reply(&broker, &context, &request.topics, &answers, first_error, waited))
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

/// Splices the records into the response; `answers` are those of all partitions in the request's order.
fn reply(
    broker: &Broker,
    context: &RequestContext,
    asked: &[FetchTopic],
    answers: &[ReadOutcome],
    error: ErrorCode,
    waited: Duration,
) -> Outcome {
    let version = context.version();
    let indexes = asked.iter().flat_map(|topic| topic.partitions.iter().map(|asked| asked.partition));
    let partitions: Vec<_> =
        indexes.zip(answers).map(|(index, answer)| partition(broker, context, index, answer)).collect();
    let mut rest = partitions.as_slice();
    let topics: Vec<_> = asked
        .iter()
        .map(|topic| {
            let (own, others) = rest.split_at(topic.partitions.len());
            rest = others;
            fetch_response::Topic { name: &topic.topic, id: topic_id(topic.topic_id), partitions: own }
        })
        .collect();
    let nodes = if version >= 16 { leaders(broker, context, answers) } else { Vec::new() };
    let node_endpoints: Vec<_> = nodes
        .iter()
        .map(|node| fetch_response::NodeEndpoint {
            node: node.id,
            host: &node.host,
            port: node.port,
            rack: node.rack.as_deref(),
        })
        .collect();
    whole(context, &topics, &node_endpoints, error, ErrorCode::None, waited)
}

/// The one place a fetch is answered: `first_error` is for the metrics, `request_error` for the client.
fn whole(
    context: &RequestContext,
    topics: &[fetch_response::Topic<'_>],
    node_endpoints: &[fetch_response::NodeEndpoint<'_>],
    first_error: ErrorCode,
    request_error: ErrorCode,
    wished_wait: Duration,
) -> Outcome {
    let throttle = context.throttle();
    let response = FetchResponse {
        throttle_time_ms: throttle.time_ms,
        error: request_error,
        session_id: 0,
        topics,
        node_endpoints,
    };
    let mut parts = fetch_response::encode(context.header, &response);
    let rest = parts.split_off(1);
    let head = parts.pop().expect("a frame has a first part");
    Outcome::Reply(Reply { head, rest, error: first_error, mute: throttle.mute, wished_wait })
}

fn partition<'a>(
    broker: &Broker,
    context: &RequestContext,
    index: i32,
    answer: &'a ReadOutcome,
) -> fetch_response::Partition<'a> {
    let error = match answer.error {
        // the newer code means nothing to older clients
        ErrorCode::KafkaStorageError if context.version() <= 5 => ErrorCode::NotLeaderOrFollower,
        error => error,
    };
    fetch_response::Partition {
        index,
        error,
        high_watermark: answer.high_watermark,
        last_stable_offset: answer.last_stable_offset,
        log_start_offset: answer.log_start_offset,
        diverging: answer.diverging,
        current_leader: answer.leader.map(|leader| {
            let listener = &context.connection.listener;
            (node_id(&broker.shard.image(), leader.broker, leader.shard, listener), leader.epoch)
        }),
        aborted: answer.aborted.as_deref(),
        preferred_read_replica: None,
        records: &answer.records,
    }
}

/// The leaders named in the answers, each once.
fn leaders(broker: &Broker, context: &RequestContext, answers: &[ReadOutcome]) -> Vec<Node> {
    let leaders = answers.iter().filter_map(|answer| answer.leader);
    live_nodes(
        &broker.shard.image(),
        leaders.map(|leader| (leader.broker, leader.shard)),
        &context.connection.listener,
    )
}

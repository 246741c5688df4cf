//! Produce 3-13 (key 0): batches to partitions. Two stages: order is fixed, then the acknowledgement comes.
//!
//! Exactly one batch of magic 2 per partition, checked here on the connection's shard (`log::validate`), handed on as
//! a slice of the frame. acks=0 is never answered; if a partition failed the connection closes. v7+ zstd (KIP-110);
//! v8+ messages and the records at fault (KIP-467); v10+ the new leader and its address (KIP-951); v13 topic ids alone
//! (KIP-516). Produce never creates a topic. Internal topics are for the broker and the admin client.
//!
//! Where the topic has a codec of its own (compression.type), is compacted or has corelane.validation=full, compressed
//! batches are looked into, and compressed anew, before the order is fixed ([`repack`]).
//!
//! A transactional batch needs the request's transactional id (TRANSACTIONAL_ID_AUTHORIZATION_FAILED without one, or where
//! the client may not write by it), and all of them one producer (INVALID_PRODUCER_ID_MAPPING): else the whole request is
//! refused. Its partition must belong to the transaction, which the coordinator is asked for; v12+ joins by being
//! produced to (KIP-890).

use std::rc::Rc;
use std::sync::Arc;

use bytes::Bytes;

use super::Broker;
use super::authorize::{Operation, Resource, allowed};
use super::context::RequestContext;
use super::endpoint::{live_nodes, node_id};
use super::list_offsets::note;
use super::repack::{self, Share};
use super::service::{CloseReason, Outcome, Request, Stage};
use super::topic::{is_internal, message, topic_id};
use crate::log::validate::{self, Checked, Depth, Keys, Rejection, Rules, TimestampType};
use crate::metadata::topic_config::{Compression, Validation};
use crate::metadata::{LogSettings, topic_config};
use crate::model::{ErrorCode, PartitionId, TimestampMs, TopicId};
use crate::partition::{Acks, AppendOutcome, AppendPartition, Transaction, TransactionSupport};
use crate::protocol::compression::Packing;
use crate::protocol::messages::produce_request::{PartitionProduceData, TopicProduceData};
use crate::protocol::messages::produce_response::{
    BatchIndexAndErrorMessage, LeaderIdAndEpoch, NodeEndpoint, PartitionProduceResponse, TopicProduceResponse,
};
use crate::protocol::messages::{ProduceRequest, ProduceResponse};
use crate::reactor::{spawn, turn, wall_clock_ms};

/// After checking this much the rest of the shard gets a turn: some 100 µs of CRC.
const CHECKED_IN_A_ROW_MAX: usize = 1024 * 1024;
/// May write to internal topics.
const ADMIN_CLIENT_ID: &str = "__admin_client";

/// A request under way: the response as far as it is known, and where the outcomes belong.
struct Plan {
    acks: Acks,
    topics: Vec<TopicProduceResponse>,
    batches: Vec<AppendPartition>,
    /// Of those that are transactional, if any is.
    transaction: Option<Transaction>,
    /// (topic, partition) of each batch.
    places: Vec<(usize, usize)>,
    first_error: ErrorCode,
}

/// Where a topic's batches go.
struct Target {
    id: TopicId,
    rules: Rules,
}

/// Why a batch is not appended.
struct Refusal {
    error: ErrorCode,
    message: Option<String>,
    records: Vec<i32>,
}

impl From<Rejection> for Refusal {
    fn from(rejection: Rejection) -> Refusal {
        Refusal {
            error: rejection.error_code(),
            records: rejection.record_indexes().to_vec(),
            message: Some(rejection.to_string()),
        }
    }
}

pub(super) async fn start(broker: Rc<Broker>, request: Request) -> Stage {
    let (context, request) = match request.decode::<ProduceRequest>() {
        Ok(decoded) => decoded,
        Err(reason) => return Stage::Done(Outcome::Close(reason)),
    };
    let timeout_ms = u64::try_from(request.timeout_ms).unwrap_or(0);
    let (mut plan, share) = plan(&broker, &context, request).await;
    if plan.batches.is_empty() {
        return Stage::Done(plan.finish(&broker, &context, Vec::new()));
    }
    let batches = std::mem::take(&mut plan.batches);
    let transaction = plan.transaction.take();
    let (concern, appended) = broker.shard.append_in(transaction, plan.acks, timeout_ms, batches).await;
    context.connection.count(concern);
    if share.is_empty() {
        return Stage::Later(Box::pin(async move {
            let outcomes = appended.await;
            plan.finish(&broker, &context, outcomes)
        }));
    }
    // in a task: the future of a reply is not polled while its client does not take the replies before it
    let appended = spawn(async move {
        let outcomes = appended.await;
        drop(share);
        outcomes
    });
    Stage::Later(Box::pin(async move {
        let outcomes = appended.await;
        plan.finish(&broker, &context, outcomes)
    }))
}

async fn plan(broker: &Broker, context: &RequestContext, mut request: ProduceRequest) -> (Plan, Share) {
    let now = TimestampMs(wall_clock_ms());
    let acks = match request.acks {
        0 => Ok(Acks::None),
        1 => Ok(Acks::Leader),
        -1 => Ok(Acks::All),
        _ => Err(ErrorCode::InvalidRequiredAcks),
    };
    let mut plan = Plan {
        acks: acks.unwrap_or(Acks::Leader),
        topics: Vec::with_capacity(request.topic_data.len()),
        batches: Vec::with_capacity(request.topic_data.len()),
        transaction: None,
        places: Vec::with_capacity(request.topic_data.len()),
        first_error: ErrorCode::None,
    };
    let transactional_id = request.transactional_id.take();
    let mut checked_in_a_row = 0;
    let targets: Vec<_> =
        request.topic_data.iter().map(|topic| acks.and_then(|_| target(broker, context, topic))).collect();
    let mut share = broker.room.take(growth_max(&request, &targets)).await;
    for (topic, target) in request.topic_data.into_iter().zip(targets) {
        let TopicProduceData { name, topic_id, partition_data, .. } = topic;
        let mut partitions = Vec::with_capacity(partition_data.len());
        for partition in partition_data {
            let response = PartitionProduceResponse::default()
                .with_index(partition.index)
                .with_base_offset(-1)
                .with_log_append_time_ms(-1)
                .with_log_start_offset(-1);
            let bytes = partition.records.as_ref().map_or(0, Bytes::len);
            let checked = match &target {
                Ok(target) => check(broker, partition, target, now, &mut share).await,
                Err(error) => Err(Refusal { error: *error, message: None, records: Vec::new() }),
            };
            partitions.push(match checked {
                Ok((batch, append_time)) => {
                    plan.places.push((plan.topics.len(), partitions.len()));
                    plan.batches.push(batch);
                    response.with_log_append_time_ms(append_time.0)
                }
                Err(refusal) => {
                    note(&mut plan.first_error, refusal.error);
                    refused(response, refusal)
                }
            });
            checked_in_a_row += bytes;
            if checked_in_a_row >= CHECKED_IN_A_ROW_MAX {
                turn().await;
                checked_in_a_row = 0;
            }
        }
        plan.topics.push(
            TopicProduceResponse::default()
                .with_name(name)
                .with_topic_id(topic_id)
                .with_partition_responses(partitions),
        );
    }
    share.settle();
    plan.join_transaction(context, transactional_id.as_ref().map(|id| &***id));
    (plan, share)
}

/// By how much the batches of the request may grow.
fn growth_max(request: &ProduceRequest, targets: &[Result<Target, ErrorCode>]) -> u64 {
    let of_topic = |(topic, target): (&TopicProduceData, &Result<Target, ErrorCode>)| {
        let Ok(Target { rules: rules @ Rules { packing: Some(_), .. }, .. }) = target else { return 0 };
        let records = topic.partition_data.iter().filter_map(|partition| partition.records.as_ref());
        records.map(|records| repack::growth_max(records, rules)).fold(0, u64::saturating_add)
    };
    request.topic_data.iter().zip(targets).map(of_topic).fold(0, u64::saturating_add)
}

/// The topic, and what it asks of batches.
fn target(broker: &Broker, context: &RequestContext, asked: &TopicProduceData) -> Result<Target, ErrorCode> {
    let image = broker.shard.image();
    let topic = if context.version() >= 13 {
        image.topic(topic_id(asked.topic_id)).ok_or(ErrorCode::UnknownTopicId)?
    } else {
        if !allowed(context, Operation::Write, Resource::Topic(&asked.name)) {
            return Err(ErrorCode::TopicAuthorizationFailed);
        }
        image.topic_by_name(&asked.name).ok_or(ErrorCode::UnknownTopicOrPartition)?
    };
    if !allowed(context, Operation::Write, Resource::Topic(&topic.name)) {
        return Err(ErrorCode::TopicAuthorizationFailed);
    }
    if is_internal(&topic.name) && context.client_id() != ADMIN_CLIENT_ID {
        return Err(ErrorCode::InvalidTopicException);
    }
    Ok(Target { id: topic.id, rules: rules(&topic.settings, context.version()) })
}

fn rules(settings: &LogSettings, version: i16) -> Rules {
    Rules {
        version,
        max_message_bytes: settings.max_message_bytes,
        segment_bytes: settings.segment_bytes,
        timestamp_type: match settings.timestamp_type {
            topic_config::TimestampType::CreateTime => TimestampType::CreateTime,
            topic_config::TimestampType::LogAppendTime => TimestampType::LogAppendTime,
        },
        timestamp_before_max_ms: settings.timestamp_before_max_ms,
        timestamp_after_max_ms: settings.timestamp_after_max_ms,
        keys: if settings.cleanup.compact { Keys::Required } else { Keys::Optional },
        depth: match settings.validation {
            Validation::Header => Depth::Header,
            Validation::Full => Depth::Records,
        },
        packing: match settings.compression {
            Compression::Producer => None,
            Compression::None => Some(Packing::None),
            Compression::Gzip { level } => Some(Packing::Gzip { level }),
            Compression::Snappy => Some(Packing::Snappy),
            Compression::Lz4 { level } => Some(Packing::Lz4 { level }),
            Compression::Zstd { level } => Some(Packing::Zstd { level }),
        },
    }
}

/// The batch as it is to be stored, and its log append time if it has one.
async fn check(
    broker: &Broker,
    partition: PartitionProduceData,
    target: &Target,
    now: TimestampMs,
    share: &mut Share,
) -> Result<(AppendPartition, TimestampMs), Refusal> {
    let Target { id, rules } = target;
    let records = partition.records.unwrap_or_default();
    let checked: Checked = validate::check(&records, rules, now)?;
    let (batch, header) = if rules.looks_inside(&checked.header) {
        let (batch, header) = repack::open(checked, records, rules, now, share).await?;
        if header.codec() != checked.header.codec() {
            broker.shard.count_recompressed();
        }
        (batch, header)
    } else {
        checked.stored(&records)
    };
    let append_time = match rules.timestamp_type {
        TimestampType::CreateTime => TimestampMs::NONE,
        TimestampType::LogAppendTime => now,
    };
    let partition = PartitionId { topic: *id, index: partition.index };
    Ok((AppendPartition { partition, batch, header }, append_time))
}

fn refused(response: PartitionProduceResponse, refusal: Refusal) -> PartitionProduceResponse {
    let text = refusal.message.map(message);
    let record_error = |record| {
        BatchIndexAndErrorMessage::default()
            .with_batch_index(record)
            .with_batch_index_error_message(text.clone())
    };
    let record_errors = refusal.records.into_iter().map(record_error).collect();
    response.with_error_code(refusal.error.code()).with_error_message(text).with_record_errors(record_errors)
}

impl Plan {
    /// Looks at the transactional batches as a whole. If they are refused, all batches are.
    fn join_transaction(&mut self, context: &RequestContext, transactional_id: Option<&str>) {
        let mut transactional = self.batches.iter().filter(|batch| batch.header.is_transactional());
        let Some(first) = transactional.next() else { return };
        let producer = |batch: &AppendPartition| (batch.header.producer_id, batch.header.producer_epoch);
        let is_one = transactional.all(|other| producer(other) == producer(first));
        let may = |id: &&str| allowed(context, Operation::Write, Resource::TransactionalId(id));
        let refused = match transactional_id.filter(may) {
            None => ErrorCode::TransactionalIdAuthorizationFailed,
            Some(_) if !is_one => ErrorCode::InvalidProducerIdMapping,
            Some(id) => {
                let support = TransactionSupport::of_produce(context.version());
                self.transaction = Some(Transaction { transactional_id: Arc::from(id), support });
                return;
            }
        };
        self.batches.clear();
        note(&mut self.first_error, refused);
        for (topic, partition) in self.places.drain(..) {
            let response = &mut self.topics[topic].partition_responses[partition];
            (response.error_code, response.log_append_time_ms) = (refused.code(), -1);
        }
    }

    fn finish(mut self, broker: &Broker, context: &RequestContext, outcomes: Vec<AppendOutcome>) -> Outcome {
        assert_eq!(outcomes.len(), self.places.len(), "one outcome per batch");
        for (&(topic, partition), outcome) in self.places.iter().zip(&outcomes) {
            note(&mut self.first_error, outcome.error);
            fill(broker, context, &mut self.topics[topic].partition_responses[partition], outcome);
        }
        if self.acks == Acks::None {
            return match self.first_error {
                ErrorCode::None => Outcome::NoReply,
                error => Outcome::Close(CloseReason::UnacknowledgedProduce(error)),
            };
        }
        let mut response = ProduceResponse::default().with_responses(self.topics);
        if context.version() >= 10 {
            let leaders = outcomes.iter().filter_map(|outcome| outcome.leader);
            let listener = &context.connection.listener;
            response.node_endpoints = live_nodes(
                &broker.shard.image(),
                leaders.map(|leader| (leader.broker, leader.shard)),
                listener,
            )
            .into_iter()
            .map(|node| {
                NodeEndpoint::default()
                    .with_node_id(node.id.0.into())
                    .with_host(node.host)
                    .with_port(i32::from(node.port))
                    .with_rack(node.rack)
            })
            .collect();
        }
        context.reply(response, self.first_error)
    }
}

fn fill(
    broker: &Broker,
    context: &RequestContext,
    response: &mut PartitionProduceResponse,
    outcome: &AppendOutcome,
) {
    response.error_code = outcome.error.code();
    response.base_offset = outcome.base_offset.0;
    response.log_start_offset = outcome.log_start_offset.0;
    if !outcome.error.is_none() {
        response.base_offset = -1;
        response.log_append_time_ms = -1;
    }
    if let (10.., Some(leader)) = (context.version(), outcome.leader) {
        let listener = &context.connection.listener;
        let node = node_id(&broker.shard.image(), leader.broker, leader.shard, listener);
        response.current_leader =
            LeaderIdAndEpoch::default().with_leader_id(node.0.into()).with_leader_epoch(leader.epoch.0);
    }
}

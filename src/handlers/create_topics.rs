//! CreateTopics 2-7 (key 19, KIP-4): topics with partitions, replicas and configs, decided by the controller.
//!
//! Any broker takes the request. -1 partitions or replicas (KIP-464) mean the broker's default; v5+ answers with the
//! counts and every config in force (KIP-525); v7 with topic ids (KIP-516). Answered when the partitions are open on
//! this node. A topic still succeeds or fails by itself. Left out: the controller mutation quota of v6 (KIP-599).

use std::collections::BTreeMap;
use std::rc::Rc;
use std::time::Duration;

use super::authorize::{Operation, Resource, allowed};
use super::endpoint::broker_of;
use super::list_offsets::note;
use super::service::{CloseReason, Outcome, Request};
use super::topic::{message, wire_id};
use super::{Broker, control};
use crate::metadata::{Image, topic_config};
use crate::model::ErrorCode;
use crate::protocol::StrBytes;
use crate::protocol::messages::create_topics_request::CreatableTopic;
use crate::protocol::messages::create_topics_response::{CreatableTopicConfigs, CreatableTopicResult};
use crate::protocol::messages::{CreateTopicsRequest, CreateTopicsResponse};

/// The client's timeout bounds the wait, but a commit is given this much.
const PATIENCE_MIN: Duration = Duration::from_secs(1);

pub(super) async fn handle(broker: Rc<Broker>, request: Request) -> Result<Outcome, CloseReason> {
    let (context, request) = request.decode::<CreateTopicsRequest>()?;
    let may_create_any = allowed(&context, Operation::Create, Resource::Cluster);
    let (asked, refused): (Vec<_>, Vec<_>) = request.topics.into_iter().partition(|topic| {
        may_create_any || allowed(&context, Operation::Create, Resource::Topic(&topic.name))
    });
    let mut results = Vec::with_capacity(asked.len() + refused.len());
    let mut first_error = ErrorCode::None;
    if !asked.is_empty() {
        let control = control::Request::CreateTopics {
            topics: broker.creations(&asked),
            validate_only: request.validate_only,
        };
        let reply = broker.control(control, patience(request.timeout_ms)).await;
        match decided(reply, asked.len()) {
            Ok(decided) => {
                for (topic, result) in asked.iter().zip(decided) {
                    note(&mut first_error, result.error);
                    results.push(answer(&broker, topic, result, context.version()));
                }
            }
            Err(error) => {
                note(&mut first_error, error);
                results.extend(asked.iter().map(|topic| failed(topic, error)));
            }
        }
    }
    for topic in &refused {
        note(&mut first_error, ErrorCode::TopicAuthorizationFailed);
        results.push(failed(topic, ErrorCode::TopicAuthorizationFailed));
    }
    Ok(context.reply(CreateTopicsResponse::default().with_topics(results), first_error))
}

pub(super) fn patience(timeout_ms: i32) -> Duration {
    Duration::from_millis(u64::try_from(timeout_ms).unwrap_or(0)).max(PATIENCE_MIN)
}

/// The controller's results of a request for `count` topics, or why there are none.
pub(super) fn decided(
    reply: Option<control::Reply>,
    count: usize,
) -> Result<Vec<control::TopicResult>, ErrorCode> {
    match reply {
        Some(control::Reply::Topics(results)) => {
            assert_eq!(results.len(), count, "one result per topic");
            Ok(results)
        }
        Some(control::Reply::Failed(error)) => Err(error),
        Some(_) => unreachable!("a request about topics is answered with topics"),
        None => Err(ErrorCode::RequestTimedOut),
    }
}

impl Broker {
    fn creations(&self, asked: &[CreatableTopic]) -> Vec<control::CreateTopic> {
        let image = self.shard.image();
        asked.iter().map(|topic| creation(&image, topic)).collect()
    }
}

fn creation(image: &Image, topic: &CreatableTopic) -> control::CreateTopic {
    control::CreateTopic {
        name: topic.name.to_string(),
        partitions: (topic.num_partitions != -1).then_some(topic.num_partitions),
        replication_factor: (topic.replication_factor != -1).then_some(topic.replication_factor),
        assignments: topic
            .assignments
            .iter()
            .map(|replica| {
                let brokers = replica.broker_ids.iter().map(|id| broker_of(image, id.0)).collect();
                (replica.partition_index, brokers)
            })
            .collect(),
        configs: topic
            .configs
            .iter()
            .map(|config| (config.name.to_string(), config.value.as_ref().map(ToString::to_string)))
            .collect(),
    }
}

fn answer(
    broker: &Broker,
    topic: &CreatableTopic,
    result: control::TopicResult,
    version: i16,
) -> CreatableTopicResult {
    let answer = CreatableTopicResult::default()
        .with_name(topic.name.clone())
        .with_error_code(result.error.code())
        .with_error_message(result.message.map(message))
        .with_num_partitions(-1)
        .with_replication_factor(-1);
    if !result.error.is_none() || version < 5 {
        return answer;
    }
    answer
        .with_topic_id(wire_id(result.id))
        .with_num_partitions(result.partitions)
        .with_replication_factor(result.replication_factor)
        .with_configs(Some(configs(broker, topic)))
}

/// Every config of the topic; what the request set, over what the broker says.
fn configs(broker: &Broker, topic: &CreatableTopic) -> Vec<CreatableTopicConfigs> {
    let overrides: BTreeMap<_, _> = topic
        .configs
        .iter()
        .filter_map(|config| Some((config.name.to_string(), config.value.as_ref()?.to_string())))
        .collect();
    topic_config::describe(&overrides, broker.shard.image().defaults())
        .into_iter()
        .map(|entry| {
            CreatableTopicConfigs::default()
                .with_name(StrBytes::from_static_str(entry.name))
                .with_value(entry.value.filter(|_| !entry.sensitive).map(StrBytes::from_string))
                .with_read_only(entry.read_only)
                .with_config_source(entry.source as i8)
                .with_is_sensitive(entry.sensitive)
        })
        .collect()
}

fn failed(topic: &CreatableTopic, error: ErrorCode) -> CreatableTopicResult {
    CreatableTopicResult::default()
        .with_name(topic.name.clone())
        .with_error_code(error.code())
        .with_error_message(None)
        .with_num_partitions(-1)
        .with_replication_factor(-1)
}

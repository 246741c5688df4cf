//! DescribeConfigs 1-4 (key 32, KIP-133): the configs of topics, of this broker and of groups.
//!
//! A null or empty list of keys means all. v1+ synonyms on demand (KIP-226), v3+ types, and documentation on demand
//! (KIP-569). Resource types: topic (2), broker (4; the empty name is what is set of every broker while the cluster
//! runs, and no more), broker logger (8, KIP-412: levels), client metrics (16; there are none, so each has its defaults) and group (32).
//! Anything else is INVALID_REQUEST. A broker is named by its id or by that of one of its shards. Sensitive values are never told. A resource that is named more than once is told
//! once: the answer is hundreds of times as long as the question.

use std::borrow::Cow;
use std::collections::HashSet;
use std::rc::Rc;

use super::Broker;
use super::authorize::{Operation, Resource, allowed};
use super::context::RequestContext;
use super::endpoint::broker_of;
use super::list_offsets::note;
use super::service::{CloseReason, Outcome, Request};
use super::topic::message;
use crate::metadata::{
    ConfigEntry, ConfigResource, ConfigSource, ConfigType, check_topic_name, topic_config,
};
use crate::model::ErrorCode;
use crate::protocol::StrBytes;
use crate::protocol::messages::describe_configs_request::DescribeConfigsResource;
use crate::protocol::messages::describe_configs_response::{
    DescribeConfigsResourceResult, DescribeConfigsResult, DescribeConfigsSynonym,
};
use crate::protocol::messages::{DescribeConfigsRequest, DescribeConfigsResponse};
use crate::reactor::turn;

pub(super) const TOPIC: i8 = 2;
pub(super) const BROKER: i8 = 4;
pub(super) const BROKER_LOGGER: i8 = 8;
pub(super) const CLIENT_METRICS: i8 = 16;
pub(super) const GROUP: i8 = 32;

/// Each is some 10 µs of work; then the rest of the shard gets a turn.
const RESOURCES_IN_A_ROW: usize = 16;

pub(super) type Refusal = (ErrorCode, String);

pub(super) async fn handle(broker: Rc<Broker>, request: Request) -> Result<Outcome, CloseReason> {
    let (context, request) = request.decode::<DescribeConfigsRequest>()?;
    let mut first_error = ErrorCode::None;
    let mut seen = HashSet::new();
    let mut results = Vec::new();
    for resource in &request.resources {
        if !seen.insert((resource.resource_type, resource.resource_name.as_str())) {
            continue;
        }
        if results.len() % RESOURCES_IN_A_ROW == RESOURCES_IN_A_ROW - 1 {
            turn().await;
        }
        let result = DescribeConfigsResult::default()
            .with_resource_type(resource.resource_type)
            .with_resource_name(resource.resource_name.clone());
        results.push(match configs(&broker, &context, resource, &request) {
            Ok(configs) => result.with_error_message(None).with_configs(configs),
            Err((error, text)) => {
                note(&mut first_error, error);
                result.with_error_code(error.code()).with_error_message(Some(message(text)))
            }
        });
    }
    Ok(context.reply(DescribeConfigsResponse::default().with_results(results), first_error))
}

fn configs(
    broker: &Broker,
    context: &RequestContext,
    resource: &DescribeConfigsResource,
    request: &DescribeConfigsRequest,
) -> Result<Vec<DescribeConfigsResourceResult>, Refusal> {
    let asked = |name: &str| is_asked_for(resource, name);
    if resource.resource_type == BROKER_LOGGER {
        let loggers = loggers(broker, context, resource.resource_name.as_str())?;
        return Ok(loggers.into_iter().filter(|logger| asked(&logger.name)).collect());
    }
    let entries = entries(broker, context, resource)?.into_iter().filter(|entry| asked(entry.name));
    Ok(entries.map(|entry| told(entry, request)).collect())
}

/// Kafka tells no type of them and no documentation.
fn loggers(
    broker: &Broker,
    context: &RequestContext,
    name: &str,
) -> Result<Vec<DescribeConfigsResourceResult>, Refusal> {
    const DYNAMIC_BROKER_LOGGER: i8 = 6;
    if !allowed(context, Operation::DescribeConfigs, Resource::Cluster) {
        return Err(cluster_refusal());
    }
    check_broker(broker, name)?;
    let loggers = broker.loggers.list().into_iter().map(|(logger, level)| {
        DescribeConfigsResourceResult::default()
            .with_name(StrBytes::from_string(logger))
            .with_value(Some(StrBytes::from_static_str(level.name())))
            .with_config_source(DYNAMIC_BROKER_LOGGER)
            .with_documentation(None)
    });
    Ok(loggers.collect())
}

fn cluster_refusal() -> Refusal {
    (ErrorCode::ClusterAuthorizationFailed, "cluster authorization failed".to_owned())
}

fn entries(
    broker: &Broker,
    context: &RequestContext,
    resource: &DescribeConfigsResource,
) -> Result<Vec<ConfigEntry>, Refusal> {
    let name = resource.resource_name.as_str();
    match resource.resource_type {
        TOPIC => {
            if !allowed(context, Operation::DescribeConfigs, Resource::Topic(name)) {
                return Err((ErrorCode::TopicAuthorizationFailed, "topic authorization failed".to_owned()));
            }
            check_topic_name(name)?;
            let image = broker.shard.image();
            if image.topic_by_name(name).is_none() {
                let text = "this server does not host this topic-partition".to_owned();
                return Err((ErrorCode::UnknownTopicOrPartition, text));
            }
            Ok(topic_config::describe(image.topic_configs(name), image.defaults()))
        }
        BROKER | CLIENT_METRICS | GROUP
            if !allowed(context, Operation::DescribeConfigs, Resource::Cluster) =>
        {
            Err(cluster_refusal())
        }
        BROKER => {
            let (config, own) = (&broker.settings.config, broker.settings.broker);
            let image = broker.shard.image();
            if name.is_empty() {
                return Ok(config.describe_default(image.live_configs(own)));
            }
            check_broker(broker, name)?;
            Ok(config.describe(image.live_configs(own)))
        }
        CLIENT_METRICS | GROUP if name.is_empty() => {
            Err((ErrorCode::InvalidRequest, "the resource name must not be empty".to_owned()))
        }
        CLIENT_METRICS => Ok(client_metrics()),
        GROUP => {
            let (config, own) = (&broker.settings.config, broker.settings.broker);
            let image = broker.shard.image();
            let overrides = image.configs_of(&ConfigResource::group(name));
            Ok(config.describe_group(overrides, image.live_configs(own)))
        }
        other => Err((ErrorCode::InvalidRequest, format!("unsupported resource type: {other}"))),
    }
}

/// What Kafka tells of a subscription nobody has made (KIP-714).
fn client_metrics() -> Vec<ConfigEntry> {
    let entry = |name, kind, value: &str, doc| ConfigEntry {
        name,
        value: Some(value.to_owned()),
        default: Some(value.to_owned()),
        source: ConfigSource::Default,
        kind,
        read_only: false,
        sensitive: false,
        synonyms: Vec::new(),
        doc,
    };
    vec![
        entry("interval.ms", ConfigType::Int, "300000", "How often clients push their metrics."),
        entry("match", ConfigType::List, "", "Which clients push their metrics; empty is all."),
        entry("metrics", ConfigType::List, "", "Which metrics are pushed; empty is none."),
    ]
}

/// The broker's own id for that of one of its shards; any other name as it is.
pub(super) fn broker_name<'a>(broker: &Broker, name: &'a str) -> Cow<'a, str> {
    // one spelling of each id: see `check_broker`
    let id = name.parse::<i32>().ok().filter(|id| id.to_string() == name);
    match id.map(|id| (id, broker_of(&broker.shard.image(), id))) {
        Some((id, owner)) if owner.0 != id => Cow::Owned(owner.to_string()),
        _ => Cow::Borrowed(name),
    }
}

/// A broker tells its own configs only.
pub(super) fn check_broker(broker: &Broker, name: &str) -> Result<(), Refusal> {
    let own = broker.settings.broker.0;
    let name = &*broker_name(broker, name);
    match name.parse::<i32>() {
        // One spelling only: each resource of a request is answered once, and a broker's answer is large.
        Ok(id) if id == own && name == own.to_string() => Ok(()),
        Ok(id) => {
            let text = format!("unexpected broker id, expected {own}, but received {id}");
            Err((ErrorCode::InvalidRequest, text))
        }
        Err(_) => Err((ErrorCode::InvalidRequest, format!("node id must be an integer, but it is: {name}"))),
    }
}

fn is_asked_for(resource: &DescribeConfigsResource, name: &str) -> bool {
    match &resource.configuration_keys {
        Some(keys) if !keys.is_empty() => keys.iter().any(|key| key.as_str() == name),
        _ => true,
    }
}

fn told(entry: ConfigEntry, request: &DescribeConfigsRequest) -> DescribeConfigsResourceResult {
    let sensitive = entry.sensitive;
    let value = |value: Option<String>| value.filter(|_| !sensitive).map(StrBytes::from_string);
    let synonyms = if request.include_synonyms { entry.synonyms } else { Vec::new() };
    DescribeConfigsResourceResult::default()
        .with_name(StrBytes::from_static_str(entry.name))
        .with_value(value(entry.value))
        .with_read_only(entry.read_only)
        .with_config_source(entry.source as i8)
        .with_is_sensitive(sensitive)
        .with_config_type(entry.kind as i8)
        .with_documentation(request.include_documentation.then(|| StrBytes::from_static_str(entry.doc)))
        .with_synonyms(
            synonyms
                .into_iter()
                .map(|synonym| {
                    DescribeConfigsSynonym::default()
                        .with_name(StrBytes::from_static_str(synonym.name))
                        .with_value(value(synonym.value))
                        .with_source(synonym.source as i8)
                })
                .collect(),
        )
}

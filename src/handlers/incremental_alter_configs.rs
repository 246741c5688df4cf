//! IncrementalAlterConfigs 0-1 (key 44, KIP-339): set, delete, append to and subtract from a topic's configs.
//!
//! A resource changes as a whole or not at all; the controller checks and commits. Left out: configs of brokers,
//! loggers, client metrics and groups; each is INVALID_REQUEST with a word about it.

use std::collections::HashSet;
use std::rc::Rc;
use std::time::Duration;

use super::authorize::{Operation, Resource, allowed};
use super::context::RequestContext;
use super::create_topics::decided;
use super::describe_configs::{BROKER, BROKER_LOGGER, CLIENT_METRICS, GROUP, TOPIC};
use super::list_offsets::note;
use super::service::{CloseReason, Outcome, Request};
use super::topic::message;
use super::{Broker, control};
use crate::metadata::{AlterTopicConfig, ConfigChange, ConfigOperation};
use crate::model::ErrorCode;
use crate::protocol::StrBytes;
use crate::protocol::messages::incremental_alter_configs_request::AlterConfigsResource;
use crate::protocol::messages::incremental_alter_configs_response::AlterConfigsResourceResponse;
use crate::protocol::messages::{IncrementalAlterConfigsRequest, IncrementalAlterConfigsResponse};

/// The request carries no timeout.
const PATIENCE: Duration = Duration::from_secs(30);

/// Type and name of a resource.
pub(super) type Named<'a> = (i8, &'a str);

type Refusal = (ErrorCode, &'static str);

/// What became of one resource.
pub(super) struct Altered {
    pub(super) error: ErrorCode,
    pub(super) message: Option<StrBytes>,
}

pub(super) async fn handle(broker: Rc<Broker>, request: Request) -> Result<Outcome, CloseReason> {
    let (context, request) = request.decode::<IncrementalAlterConfigsRequest>()?;
    let named: Vec<Named> = (request.resources.iter())
        .map(|resource| (resource.resource_type, resource.resource_name.as_str()))
        .collect();
    let twice = named_twice(&named);
    let plans = (request.resources.iter().zip(&named))
        .map(|(resource, named)| {
            alterable(&context, *named, &twice)?;
            plan(resource)
        })
        .collect();
    let validate_only = request.validate_only;
    let ask = |topics| control::Request::AlterTopicConfigs { topics, validate_only };
    let altered = alter(&broker, plans, ask).await;
    let mut first_error = ErrorCode::None;
    let responses = (request.resources.into_iter().zip(altered))
        .map(|(resource, altered)| {
            note(&mut first_error, altered.error);
            AlterConfigsResourceResponse::default()
                .with_resource_type(resource.resource_type)
                .with_resource_name(resource.resource_name)
                .with_error_code(altered.error.code())
                .with_error_message(altered.message)
        })
        .collect();
    Ok(context.reply(IncrementalAlterConfigsResponse::default().with_responses(responses), first_error))
}

/// Has the controller carry out the plans; the outcomes are in their order.
pub(super) async fn alter<T>(
    broker: &Rc<Broker>,
    plans: Vec<Result<T, Refusal>>,
    ask: impl FnOnce(Vec<T>) -> control::Request,
) -> Vec<Altered> {
    let mut outcomes = Vec::with_capacity(plans.len());
    let (mut topics, mut places) = (Vec::new(), Vec::new());
    for plan in plans {
        let (error, text) = match plan {
            Ok(topic) => {
                places.push(outcomes.len());
                topics.push(topic);
                (ErrorCode::None, None)
            }
            Err((error, text)) => (error, Some(message(text))),
        };
        outcomes.push(Altered { error, message: text });
    }
    if topics.is_empty() {
        return outcomes;
    }
    let reply = broker.control(ask(topics), PATIENCE).await;
    match decided(reply, places.len()) {
        Ok(decided) => {
            for (&place, result) in places.iter().zip(decided) {
                outcomes[place] = Altered { error: result.error, message: result.message.map(message) };
            }
        }
        Err(error) => places.into_iter().for_each(|place| outcomes[place].error = error),
    }
    outcomes
}

/// The resources that a request names more than once.
pub(super) fn named_twice<'a>(named: &[Named<'a>]) -> HashSet<Named<'a>> {
    let mut seen = HashSet::new();
    named.iter().copied().filter(|&resource| !seen.insert(resource)).collect()
}

/// Whether a resource is one whose configs the controller may be asked to change: a topic.
pub(super) fn alterable(
    context: &RequestContext,
    (kind, name): Named<'_>,
    twice: &HashSet<Named<'_>>,
) -> Result<(), Refusal> {
    if twice.contains(&(kind, name)) {
        return Err((ErrorCode::InvalidRequest, "each resource must appear at most once"));
    }
    match kind {
        TOPIC if !allowed(context, Operation::AlterConfigs, Resource::Topic(name)) => {
            Err((ErrorCode::TopicAuthorizationFailed, "topic authorization failed"))
        }
        TOPIC => Ok(()),
        BROKER | BROKER_LOGGER | CLIENT_METRICS | GROUP
            if !allowed(context, Operation::AlterConfigs, Resource::Cluster) =>
        {
            Err((ErrorCode::ClusterAuthorizationFailed, "cluster authorization failed"))
        }
        BROKER => Err((
            ErrorCode::InvalidRequest,
            "broker configs cannot be changed at run time; set them in the broker's configuration and restart it",
        )),
        BROKER_LOGGER => Err((ErrorCode::InvalidRequest, "log levels cannot be changed at run time")),
        CLIENT_METRICS | GROUP => {
            Err((ErrorCode::InvalidRequest, "this broker has no configs of this resource type"))
        }
        _ => Err((ErrorCode::InvalidRequest, "unknown resource type")),
    }
}

fn plan(resource: &AlterConfigsResource) -> Result<AlterTopicConfig, Refusal> {
    let changes: Option<Vec<_>> = (resource.configs.iter())
        .map(|config| {
            Some(ConfigChange {
                key: config.name.to_string(),
                operation: operation(config.config_operation)?,
                value: config.value.as_ref().map(ToString::to_string),
            })
        })
        .collect();
    let changes = changes.ok_or((ErrorCode::InvalidRequest, "unknown config operation"))?;
    Ok(AlterTopicConfig { name: resource.resource_name.to_string(), changes })
}

fn operation(wire: i8) -> Option<ConfigOperation> {
    match wire {
        0 => Some(ConfigOperation::Set),
        1 => Some(ConfigOperation::Delete),
        2 => Some(ConfigOperation::Append),
        3 => Some(ConfigOperation::Subtract),
        _ => None,
    }
}

//! IncrementalAlterConfigs 0-1 (key 44, KIP-339): set, delete, append to and subtract from configs of topics, of this
//! broker or all (KIP-226), and of groups; and set or delete this broker's log levels (KIP-412), until it ends.
//!
//! A resource changes as a whole or not at all; the controller checks and commits, and the change is in force on every
//! shard when it is answered. Of a broker that may change which Kafka lets change: a setting over that of every broker
//! (the empty name), and that over the file; a value that is not allowed is INVALID_REQUEST. Left out: client metrics
//! (INVALID_REQUEST with a word about it), and of what Kafka lets change the settings of listeners, TLS and SASL,
//! max.connections.per.ip.overrides and metric.reporters.

use std::borrow::Cow;
use std::collections::HashSet;
use std::rc::Rc;
use std::time::Duration;

use super::authorize::{Operation, Resource, allowed};
use super::context::RequestContext;
use super::describe_configs::{
    BROKER, BROKER_LOGGER, CLIENT_METRICS, GROUP, Refusal, TOPIC, broker_name, check_broker,
};
use super::list_offsets::note;
use super::service::{CloseReason, Outcome, Request};
use super::topic::message;
use super::{Broker, control};
use crate::metadata::{
    AlterConfigs, ConfigChange, ConfigOperation, ConfigResource, ConfigResult, ResourceKind,
};
use crate::model::ErrorCode;
use crate::protocol::StrBytes;
use crate::protocol::messages::incremental_alter_configs_request::{AlterConfigsResource, AlterableConfig};
use crate::protocol::messages::incremental_alter_configs_response::AlterConfigsResourceResponse;
use crate::protocol::messages::{IncrementalAlterConfigsRequest, IncrementalAlterConfigsResponse};

/// The request carries no timeout.
const PATIENCE: Duration = Duration::from_secs(30);

/// Type and name of a resource, a broker's by the broker's own id.
pub(super) type Named<'a> = (i8, Cow<'a, str>);

/// What became of one resource.
pub(super) struct Altered {
    pub(super) error: ErrorCode,
    pub(super) message: Option<StrBytes>,
}

pub(super) async fn handle(broker: Rc<Broker>, request: Request) -> Result<Outcome, CloseReason> {
    let (context, request) = request.decode::<IncrementalAlterConfigsRequest>()?;
    let named: Vec<Named> = (request.resources.iter())
        .map(|resource| named(&broker, resource.resource_type, &resource.resource_name))
        .collect();
    let twice = named_twice(&named);
    let plans = (request.resources.iter().zip(&named))
        .map(|(resource, named)| match alterable(&broker, &context, named, &twice)? {
            Alterable::Loggers => {
                check_changes(&resource.configs)?;
                broker.loggers.alter(&resource.configs, request.validate_only)?;
                Ok(None)
            }
            Alterable::Stored(asked) => {
                Ok(Some(AlterConfigs { resource: asked, changes: changes(resource)? }))
            }
        })
        .collect();
    let validate_only = request.validate_only;
    let ask = |resources| control::Request::AlterConfigs { resources, validate_only };
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

/// What is named can be changed.
pub(super) enum Alterable {
    /// By the controller.
    Stored(ConfigResource),
    /// Here: this broker's log levels.
    Loggers,
}

/// Has the controller carry out the plans (`None`: it is done); the outcomes are in their order.
pub(super) async fn alter<T>(
    broker: &Rc<Broker>,
    plans: Vec<Result<Option<T>, Refusal>>,
    ask: impl FnOnce(Vec<T>) -> control::Request,
) -> Vec<Altered> {
    let mut outcomes = Vec::with_capacity(plans.len());
    let (mut asked, mut places) = (Vec::new(), Vec::new());
    for plan in plans {
        let (error, text) = match plan {
            Ok(plan) => {
                places.extend(plan.is_some().then_some(outcomes.len()));
                asked.extend(plan);
                (ErrorCode::None, None)
            }
            Err((error, text)) => (error, Some(message(text))),
        };
        outcomes.push(Altered { error, message: text });
    }
    if asked.is_empty() {
        return outcomes;
    }
    let reply = broker.control(ask(asked), PATIENCE).await;
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

/// The controller's results about `count` resources, or why there are none.
fn decided(reply: Option<control::Reply>, count: usize) -> Result<Vec<ConfigResult>, ErrorCode> {
    match reply {
        Some(control::Reply::Configs(results)) => {
            assert_eq!(results.len(), count, "one result per resource");
            Ok(results)
        }
        Some(control::Reply::Failed(error)) => Err(error),
        Some(_) => unreachable!("a request about configs is answered with configs"),
        None => Err(ErrorCode::RequestTimedOut),
    }
}

pub(super) fn named<'a>(broker: &Broker, kind: i8, name: &'a str) -> Named<'a> {
    match kind {
        BROKER | BROKER_LOGGER => (kind, broker_name(broker, name)),
        _ => (kind, Cow::Borrowed(name)),
    }
}

/// The resources that a request names more than once.
pub(super) fn named_twice<'n, 'a>(named: &'n [Named<'a>]) -> HashSet<&'n Named<'a>> {
    let mut seen = HashSet::new();
    named.iter().filter(|&resource| !seen.insert(resource)).collect()
}

/// Whose configs may be changed.
pub(super) fn alterable(
    broker: &Broker,
    context: &RequestContext,
    resource: &Named<'_>,
    twice: &HashSet<&Named<'_>>,
) -> Result<Alterable, Refusal> {
    let (kind, name) = (resource.0, &*resource.1);
    let refused = |error, text: &str| Err((error, text.to_owned()));
    if twice.contains(resource) {
        return refused(ErrorCode::InvalidRequest, "each resource must appear at most once");
    }
    let stored = |kind| Ok(Alterable::Stored(ConfigResource { kind, name: name.to_owned() }));
    match kind {
        TOPIC if !allowed(context, Operation::AlterConfigs, Resource::Topic(name)) => {
            refused(ErrorCode::TopicAuthorizationFailed, "topic authorization failed")
        }
        TOPIC => stored(ResourceKind::Topic),
        BROKER | BROKER_LOGGER | CLIENT_METRICS | GROUP
            if !allowed(context, Operation::AlterConfigs, Resource::Cluster) =>
        {
            refused(ErrorCode::ClusterAuthorizationFailed, "cluster authorization failed")
        }
        BROKER => {
            if !name.is_empty() {
                check_broker(broker, name)?;
            }
            stored(ResourceKind::Broker)
        }
        GROUP => stored(ResourceKind::Group),
        BROKER_LOGGER => check_broker(broker, name).map(|()| Alterable::Loggers),
        CLIENT_METRICS => refused(
            ErrorCode::InvalidRequest,
            "this broker takes no metrics from clients: nothing to configure",
        ),
        other => Err((ErrorCode::InvalidRequest, format!("unknown resource type {other}"))),
    }
}

/// What the controller checks of the others.
fn check_changes(configs: &[AlterableConfig]) -> Result<(), Refusal> {
    const DELETE: i8 = 1;
    let mut seen = HashSet::new();
    let (mut twice, mut nulls) = (false, Vec::new());
    for config in configs {
        twice |= !seen.insert(config.name.as_str());
        if config.config_operation != DELETE && config.value.is_none() {
            nulls.push(config.name.as_str());
        }
    }
    if twice {
        return Err((ErrorCode::InvalidRequest, "duplicate config keys".to_owned()));
    }
    if nulls.is_empty() {
        return Ok(());
    }
    Err((ErrorCode::InvalidRequest, format!("null value not supported for: {}", nulls.join(", "))))
}

fn changes(resource: &AlterConfigsResource) -> Result<Vec<ConfigChange>, Refusal> {
    let changes = resource.configs.iter().map(|config| {
        let operation = operation(config.config_operation).ok_or_else(|| {
            (ErrorCode::InvalidRequest, format!("unknown config operation {}", config.config_operation))
        })?;
        let value = config.value.as_ref().map(ToString::to_string);
        Ok(ConfigChange { key: config.name.to_string(), operation, value })
    });
    changes.collect()
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

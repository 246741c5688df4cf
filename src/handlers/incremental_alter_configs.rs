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
use crate::protocol::messages::incremental_alter_configs_request::AlterConfigsResource;
use crate::protocol::messages::incremental_alter_configs_response::AlterConfigsResourceResponse;
use crate::protocol::messages::{IncrementalAlterConfigsRequest, IncrementalAlterConfigsResponse};

/// The request carries no timeout.
const PATIENCE: Duration = Duration::from_secs(30);

pub(super) async fn handle(broker: Rc<Broker>, request: Request) -> Result<Outcome, CloseReason> {
    let (context, request) = request.decode::<IncrementalAlterConfigsRequest>()?;
    let mut seen = HashSet::new();
    let mut twice = HashSet::new();
    for resource in &request.resources {
        let key = (resource.resource_type, resource.resource_name.as_str());
        if !seen.insert(key) {
            twice.insert(key);
        }
    }
    let mut first_error = ErrorCode::None;
    let mut responses = Vec::with_capacity(request.resources.len());
    let mut changes = Vec::new();
    let mut places = Vec::new();
    for resource in &request.resources {
        let mut response = AlterConfigsResourceResponse::default()
            .with_resource_type(resource.resource_type)
            .with_resource_name(resource.resource_name.clone())
            .with_error_message(None);
        let planned = if twice.contains(&(resource.resource_type, resource.resource_name.as_str())) {
            Err((ErrorCode::InvalidRequest, "each resource must appear at most once"))
        } else {
            plan(&context, resource)
        };
        match planned {
            Ok(change) => {
                places.push(responses.len());
                changes.push(change);
            }
            Err((error, text)) => {
                note(&mut first_error, error);
                response.error_code = error.code();
                response.error_message = Some(message(text));
            }
        }
        responses.push(response);
    }
    if !changes.is_empty() {
        let control =
            control::Request::AlterTopicConfigs { topics: changes, validate_only: request.validate_only };
        let reply = broker.control(control, PATIENCE).await;
        match decided(reply, places.len()) {
            Ok(decided) => {
                for (&place, result) in places.iter().zip(decided) {
                    note(&mut first_error, result.error);
                    responses[place].error_code = result.error.code();
                    responses[place].error_message = result.message.map(message);
                }
            }
            Err(error) => {
                note(&mut first_error, error);
                for place in places {
                    responses[place].error_code = error.code();
                }
            }
        }
    }
    Ok(context.reply(IncrementalAlterConfigsResponse::default().with_responses(responses), first_error))
}

fn plan(
    context: &RequestContext,
    resource: &AlterConfigsResource,
) -> Result<AlterTopicConfig, (ErrorCode, &'static str)> {
    let name = resource.resource_name.as_str();
    match resource.resource_type {
        TOPIC if !allowed(context, Operation::AlterConfigs, Resource::Topic(name)) => {
            Err((ErrorCode::TopicAuthorizationFailed, "topic authorization failed"))
        }
        TOPIC => {
            let changes: Option<Vec<_>> = resource
                .configs
                .iter()
                .map(|config| {
                    Some(ConfigChange {
                        key: config.name.to_string(),
                        operation: operation(config.config_operation)?,
                        value: config.value.as_ref().map(ToString::to_string),
                    })
                })
                .collect();
            let changes = changes.ok_or((ErrorCode::InvalidRequest, "unknown config operation"))?;
            Ok(AlterTopicConfig { name: name.to_owned(), changes })
        }
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

fn operation(wire: i8) -> Option<ConfigOperation> {
    match wire {
        0 => Some(ConfigOperation::Set),
        1 => Some(ConfigOperation::Delete),
        2 => Some(ConfigOperation::Append),
        3 => Some(ConfigOperation::Subtract),
        _ => None,
    }
}

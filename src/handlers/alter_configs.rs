//! AlterConfigs 0-2 (key 33, KIP-133): all configs of a topic, a broker or a group at once; what is not named goes back to
//! its default.
//!
//! Deprecated for IncrementalAlterConfigs. A resource changes as a whole or not at all; the controller checks and
//! commits. Left out: what [`incremental_alter_configs`](super::incremental_alter_configs) leaves out.

use std::rc::Rc;

use super::incremental_alter_configs::{Alterable, Named, alter, alterable, named, named_twice};
use super::list_offsets::note;
use super::service::{CloseReason, Outcome, Request};
use super::{Broker, control};
use crate::metadata::ReplaceConfigs;
use crate::model::ErrorCode;
use crate::protocol::messages::alter_configs_response::AlterConfigsResourceResponse;
use crate::protocol::messages::{AlterConfigsRequest, AlterConfigsResponse};

pub(super) async fn handle(broker: Rc<Broker>, request: Request) -> Result<Outcome, CloseReason> {
    let (context, request) = request.decode::<AlterConfigsRequest>()?;
    let named: Vec<Named> = (request.resources.iter())
        .map(|resource| named(&broker, resource.resource_type, &resource.resource_name))
        .collect();
    let twice = named_twice(&named);
    let plans = (request.resources.iter().zip(&named))
        .map(|(resource, named)| {
            let Alterable::Stored(asked) = alterable(&broker, &context, named, &twice)? else {
                let text = "unknown resource type 8: log levels change with IncrementalAlterConfigs only";
                return Err((ErrorCode::InvalidRequest, text.to_owned()));
            };
            let text = ToString::to_string;
            let configs = (resource.configs.iter())
                .map(|config| (config.name.to_string(), config.value.as_ref().map(text)))
                .collect();
            Ok(Some(ReplaceConfigs { resource: asked, configs }))
        })
        .collect();
    let validate_only = request.validate_only;
    let ask = |resources| control::Request::ReplaceConfigs { resources, validate_only };
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
    Ok(context.reply(AlterConfigsResponse::default().with_responses(responses), first_error))
}

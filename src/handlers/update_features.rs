//! UpdateFeatures 0-2 (key 57, KIP-584, KIP-778): the finalized levels of features, decided by the controller.
//!
//! All of a request's features change or none. v0 has a flag for downgrades, v1+ the type of the upgrade (1 upgrade, 2
//! and 3 safe and unsafe downgrade) and a trial run. v0-1 answer for each feature as well when all went well; an error
//! is told for the whole, in every version. Every feature has one level so far (see `metadata/features.rs`), so what
//! can be asked for is the level that is there.

use std::rc::Rc;

use super::authorize::{Operation, Resource, allowed};
use super::create_topics::patience;
use super::service::{CloseReason, Outcome, Request};
use super::topic::message;
use super::{Broker, control};
use crate::metadata::{FeatureUpdate, UpgradeType};
use crate::model::ErrorCode;
use crate::protocol::messages::update_features_request::FeatureUpdateKey;
use crate::protocol::messages::update_features_response::UpdatableFeatureResult;
use crate::protocol::messages::{UpdateFeaturesRequest, UpdateFeaturesResponse};

pub(super) async fn handle(broker: Rc<Broker>, request: Request) -> Result<Outcome, CloseReason> {
    let (context, request) = request.decode::<UpdateFeaturesRequest>()?;
    let version = context.version();
    let decided = if allowed(&context, Operation::Alter, Resource::Cluster) {
        let updates = request.feature_updates.iter().map(|update| FeatureUpdate {
            feature: update.feature.to_string(),
            level: update.max_version_level,
            upgrade: upgrade_type(update, version),
        });
        let control = control::Request::UpdateFeatures {
            updates: updates.collect(),
            validate_only: request.validate_only,
        };
        match broker.control(control, patience(request.timeout_ms)).await {
            Some(control::Reply::Features(decided)) => decided,
            Some(control::Reply::Failed(error)) => Err((error, String::new())),
            Some(_) => unreachable!("a request about features is answered with features"),
            None => Err((ErrorCode::RequestTimedOut, String::new())),
        }
    } else {
        Err((ErrorCode::ClusterAuthorizationFailed, "cluster authorization failed".to_owned()))
    };
    let mut response = UpdateFeaturesResponse::default().with_error_message(None);
    let error = match decided {
        Err((error, text)) => {
            response.error_code = error.code();
            response.error_message = (!text.is_empty()).then(|| message(text));
            error
        }
        Ok(()) => {
            if version <= 1 {
                let results = request.feature_updates.into_iter().map(|update| {
                    UpdatableFeatureResult::default().with_feature(update.feature).with_error_message(None)
                });
                response.results = results.collect();
            }
            ErrorCode::None
        }
    };
    Ok(context.reply(response, error))
}

/// `None`: one that Kafka does not know either.
fn upgrade_type(update: &FeatureUpdateKey, version: i16) -> Option<UpgradeType> {
    match update.upgrade_type {
        _ if version == 0 && update.allow_downgrade => Some(UpgradeType::SafeDowngrade),
        _ if version == 0 => Some(UpgradeType::Upgrade),
        1 => Some(UpgradeType::Upgrade),
        2 => Some(UpgradeType::SafeDowngrade),
        3 => Some(UpgradeType::UnsafeDowngrade),
        _ => None,
    }
}

//! ApiVersions 0-4 (key 18): what this broker serves, the features it supports and the levels they are at.
//!
//! v3+ (KIP-511): the client names its software; a name or version of other than letters, digits, `-` and `.` is
//! INVALID_REQUEST. v3+ (KIP-584): features; v0-3 must not see a supported feature whose minimum is 0 (KAFKA-17492).
//! A version above 4 never gets here: the connection loop answers it in version 0 with UNSUPPORTED_VERSION.
//! Left out: v5 (KIP-1242, cluster and node id in the request).

use std::rc::Rc;

use super::Broker;
use super::service::{CloseReason, Outcome, Request};
use crate::model::ErrorCode;
use crate::protocol::StrBytes;
use crate::protocol::api;
use crate::protocol::messages::api_versions_response::{FinalizedFeatureKey, SupportedFeatureKey};
use crate::protocol::messages::{ApiVersionsRequest, ApiVersionsResponse};

pub(super) async fn handle(broker: Rc<Broker>, request: Request) -> Result<Outcome, CloseReason> {
    let (context, request) = request.decode::<ApiVersionsRequest>()?;
    let version = context.version();
    let software = [&request.client_software_name, &request.client_software_version];
    if version >= 3 && !software.into_iter().all(|text| is_software(text)) {
        let error = ErrorCode::InvalidRequest;
        return Ok(context.reply(ApiVersionsResponse::default().with_error_code(error.code()), error));
    }
    let mut response = ApiVersionsResponse::default().with_api_keys(api::advertised());
    if version >= 3 {
        let image = broker.shard.image();
        let features = image.broker(broker.settings.broker).map_or(&[][..], |broker| &broker.features);
        for feature in features {
            let name = StrBytes::from_string(feature.name.clone());
            if version >= 4 || feature.min > 0 {
                let supported = SupportedFeatureKey::default()
                    .with_name(name.clone())
                    .with_min_version(feature.min)
                    .with_max_version(feature.max);
                response.supported_features.push(supported);
            }
            let level = image.feature_level(&feature.name);
            if level > 0 {
                let finalized = FinalizedFeatureKey::default()
                    .with_name(name)
                    .with_min_version_level(level)
                    .with_max_version_level(level);
                response.finalized_features.push(finalized);
                response.finalized_features_epoch = image.features_epoch();
            }
        }
    }
    Ok(context.reply(response, ErrorCode::None))
}

/// Kafka's `[a-zA-Z0-9](?:[a-zA-Z0-9\-.]*[a-zA-Z0-9])?`.
fn is_software(text: &str) -> bool {
    let bytes = text.as_bytes();
    let (Some(first), Some(last)) = (bytes.first(), bytes.last()) else { return false };
    first.is_ascii_alphanumeric()
        && last.is_ascii_alphanumeric()
        && bytes.iter().all(|byte| byte.is_ascii_alphanumeric() || b"-.".contains(byte))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn software_names() {
        for good in ["librdkafka", "a", "7", "apache-kafka-java", "2.3.0", "v1.0-rc.1", "a..b"] {
            assert!(is_software(good), "{good}");
        }
        for bad in ["", "-", ".", "-a", "a-", "a.", ".a", "a b", "a_b", "ä", "a\n"] {
            assert!(!is_software(bad), "{bad:?}");
        }
    }
}

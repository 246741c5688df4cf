//! UpdateFeatures (KIP-584, KIP-778). Kafka: FeatureControlManager.
//!
//! All of a request's features change or none. A level is possible when this controller and every registered broker
//! support it; level 0 takes a feature back, where it is supported.

use super::{Controller, Refusal};
use crate::metadata::record::{Record, SupportedFeature};
use crate::metadata::{FeatureUpdate, Reply, UpgradeType, features};
use crate::model::ErrorCode;

impl Controller {
    pub(super) fn update_features(
        &mut self,
        updates: &[FeatureUpdate],
        validate_only: bool,
        records: &mut Vec<Record>,
    ) -> Reply {
        if let Some(refusal) = updates.iter().find_map(|update| self.check_update(update).err()) {
            return Reply::Features(Err(refusal));
        }
        for FeatureUpdate { feature, level, .. } in updates {
            if !validate_only && self.image.feature_level(feature) != *level {
                self.append(Record::FeatureLevel { name: feature.clone(), level: *level }, records);
            }
        }
        Reply::Features(Ok(()))
    }

    fn check_update(&self, update: &FeatureUpdate) -> Result<(), Refusal> {
        let FeatureUpdate { feature, level, upgrade } = update;
        let invalid = |why: String| {
            let message = format!(
                "the update failed for all features since the following feature had an error: invalid update version \
                 {level} for feature {feature}: {why}"
            );
            Err((ErrorCode::InvalidUpdateVersion, message))
        };
        let Some(upgrade) = upgrade else {
            return invalid("the controller does not support the given upgrade type".to_owned());
        };
        if *level < 0 {
            return invalid("a feature version cannot be less than 0".to_owned());
        }
        if let Some(why) = not_supported("the controller", &features::supported(), feature, *level) {
            return invalid(why);
        }
        for broker in self.image.brokers() {
            let name = format!("broker {}", broker.broker.0);
            if let Some(why) = not_supported(&name, &broker.features, feature, *level) {
                return invalid(why);
            }
        }
        let now = self.image.feature_level(feature);
        match upgrade {
            UpgradeType::Upgrade if *level < now => invalid(
                "it is a downgrade; allow it with the upgrade type safe or unsafe downgrade".to_owned(),
            ),
            UpgradeType::SafeDowngrade | UpgradeType::UnsafeDowngrade if *level > now => {
                invalid("can't downgrade to a newer version".to_owned())
            }
            _ => Ok(()),
        }
    }
}

/// Why `who`, who supports these features, cannot run at the level.
fn not_supported(who: &str, supported: &[SupportedFeature], feature: &str, level: i16) -> Option<String> {
    match supported.iter().find(|supported| supported.name == feature) {
        None => Some(format!("{who} does not support this feature")),
        Some(known) if (known.min..=known.max).contains(&level) => None,
        Some(known) => Some(format!("{who} only supports versions {}-{}", known.min, known.max)),
    }
}

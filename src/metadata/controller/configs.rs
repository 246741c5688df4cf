//! IncrementalAlterConfigs (KIP-339) and AlterConfigs (KIP-133) of topics, brokers (KIP-226) and groups (KIP-848).
//! Kafka: ConfigAdminManager.preprocess, ConfigurationControlManager.
//!
//! A resource changes as a whole or not at all. A value of a broker that is not allowed is INVALID_REQUEST, as in Kafka
//! (KAFKA-13609); of a topic or a group it is INVALID_CONFIG. Unlike Kafka, which keeps what plug-ins might want, a
//! broker setting nobody knows is refused.

use std::collections::{BTreeMap, HashSet};

use super::create_topics::{check_name, check_value_size};
use super::{Controller, Refusal, duplicates};
use crate::metadata::record::{ConfigResource, Record, ResourceKind};
use crate::metadata::setting::{ConfigType, Setting, split_list};
use crate::metadata::{AlterConfigs, ConfigChange, ConfigOperation, ConfigResult, ReplaceConfigs, Reply};
use crate::metadata::{group_config, topic_config};
use crate::model::{BrokerId, ErrorCode};

/// What is set of one resource, by key.
type Overrides = BTreeMap<String, String>;

impl Controller {
    pub(super) fn alter_configs(
        &mut self,
        resources: &[AlterConfigs],
        validate_only: bool,
        records: &mut Vec<Record>,
    ) -> Reply {
        let result = |resource: &ConfigResource, refusal: Option<Refusal>| {
            let (error, message) =
                refusal.map_or((ErrorCode::None, None), |(error, message)| (error, Some(message)));
            ConfigResult { resource: resource.clone(), error, message }
        };
        let limit = self.settings.changes_per_request_max;
        if resources.iter().map(|asked| asked.changes.len()).fold(0, usize::saturating_add) > limit {
            let message =
                format!("excessively large number of changes per request, at most {limit} are allowed");
            let refusal = |asked: &AlterConfigs| {
                result(&asked.resource, Some((ErrorCode::PolicyViolation, message.clone())))
            };
            return Reply::Configs(resources.iter().map(refusal).collect());
        }
        let twice = duplicates(resources.iter().map(|asked| &asked.resource));
        let mut results = Vec::with_capacity(resources.len());
        for asked in resources {
            let planned = self.plan_changes(asked, &twice);
            if let Ok(changes) = &planned
                && !validate_only
            {
                self.advance(changes);
                records.extend_from_slice(changes);
            }
            results.push(result(&asked.resource, planned.err()));
        }
        Reply::Configs(results)
    }

    /// Sets what is named and deletes what is not.
    pub(super) fn replace_configs(
        &mut self,
        resources: Vec<ReplaceConfigs>,
        validate_only: bool,
        records: &mut Vec<Record>,
    ) -> Reply {
        let resources: Vec<_> = resources.into_iter().map(|asked| self.replacement(asked)).collect();
        self.alter_configs(&resources, validate_only, records)
    }

    fn replacement(&self, asked: ReplaceConfigs) -> AlterConfigs {
        let named: HashSet<&str> = asked.configs.iter().map(|(key, _)| key.as_str()).collect();
        let rest: Vec<ConfigChange> = (self.image.configs_of(&asked.resource).keys())
            .filter(|key| !named.contains(key.as_str()))
            .map(|key| ConfigChange { key: key.clone(), operation: ConfigOperation::Delete, value: None })
            .collect();
        let set = |(key, value)| ConfigChange { key, operation: ConfigOperation::Set, value };
        let changes = asked.configs.into_iter().map(set).chain(rest).collect();
        AlterConfigs { resource: asked.resource, changes }
    }

    /// A record for each override that differs afterwards.
    fn plan_changes(
        &self,
        asked: &AlterConfigs,
        twice: &HashSet<&ConfigResource>,
    ) -> Result<Vec<Record>, Refusal> {
        let invalid_request = |message: &str| (ErrorCode::InvalidRequest, message.to_owned());
        let resource = &asked.resource;
        if twice.contains(resource) {
            return Err(invalid_request("each resource must appear at most once"));
        }
        if !duplicates(asked.changes.iter().map(|change| change.key.as_str())).is_empty() {
            return Err(invalid_request("duplicate config keys"));
        }
        let is_null =
            |change: &&ConfigChange| change.operation != ConfigOperation::Delete && change.value.is_none();
        let nulls: Vec<&str> =
            asked.changes.iter().filter(is_null).map(|change| change.key.as_str()).collect();
        if !nulls.is_empty() {
            return Err(invalid_request(&format!("null value not supported for: {}", nulls.join(", "))));
        }
        check_resource_name(resource)?;

        let current = self.image.configs_of(resource);
        let mut after = current.clone();
        let mut changes = Vec::new();
        for change in &asked.changes {
            let value = self.changed_value(resource, change, current)?;
            if value.as_ref() == current.get(&change.key) {
                continue;
            }
            match &value {
                Some(value) => after.insert(change.key.clone(), value.clone()),
                None => after.remove(&change.key),
            };
            changes.push(Record::Config { resource: resource.clone(), key: change.key.clone(), value });
        }
        self.check_together(resource, &after, &changes)?;
        self.check_existence(resource)?;
        Ok(changes)
    }

    /// The override after one change; `None`: none. Deleting what is not set is no change (Kafka 4.3), even if no
    /// such config exists.
    fn changed_value(
        &self,
        resource: &ConfigResource,
        change: &ConfigChange,
        current: &Overrides,
    ) -> Result<Option<String>, Refusal> {
        let key = change.key.as_str();
        let operand = change.value.as_deref().unwrap_or_default();
        let value = match change.operation {
            ConfigOperation::Delete => return Ok(None),
            ConfigOperation::Set => operand.to_owned(),
            ConfigOperation::Append | ConfigOperation::Subtract => {
                self.edited_list(resource, change, operand, current)?
            }
        };
        check_value_size(key, &value)?;
        let parsed = match resource.kind {
            ResourceKind::Topic => topic_config::validate(key, &value, self.image.defaults()),
            ResourceKind::Broker => self.live_setting(key).and_then(|setting| parse(&setting, &value)),
            ResourceKind::Group => group_config::find(key)
                .ok_or_else(|| format!("unknown group config name: {key}"))
                .and_then(|config| parse(&config.setting, &value)),
        };
        parsed.map(Some).map_err(|message| (unfit(resource.kind), message))
    }

    /// A broker setting that may change while the broker runs, or why it may not.
    fn live_setting(&self, key: &str) -> Result<Setting, String> {
        let read_only = || format!("cannot update these configs dynamically: {key}");
        if let Some((topic, synonym)) = topic_config::find_synonym(key) {
            let is_live = topic.live_synonym().is_some_and(|live| live.name == synonym.name);
            let setting = self.image.defaults().with_minimum(&synonym.setting(topic));
            return if is_live { Ok(setting) } else { Err(read_only()) };
        }
        let own = &self.settings.broker_settings;
        match own.binary_search_by(|known| known.setting.name.cmp(key)) {
            Ok(at) if own[at].is_live => Ok(own[at].setting),
            Ok(_) => Err(read_only()),
            Err(_) => Err(format!("unknown broker config name: {key}")),
        }
    }

    /// Appends to, or subtracts from, the list in force: of a broker, to what is set of this very resource, or the
    /// default.
    fn edited_list(
        &self,
        resource: &ConfigResource,
        change: &ConfigChange,
        operand: &str,
        current: &Overrides,
    ) -> Result<String, Refusal> {
        let key = change.key.as_str();
        let in_force = |setting: &Setting| {
            current.get(key).cloned().unwrap_or_else(|| setting.default.unwrap_or_default().to_owned())
        };
        let list = match resource.kind {
            ResourceKind::Topic => topic_config::find(key).map(|config| {
                let list = topic_config::effective(config, current, self.image.defaults());
                (config.setting.kind, list)
            }),
            ResourceKind::Broker => {
                self.live_setting(key).ok().map(|setting| (setting.kind, in_force(&setting)))
            }
            ResourceKind::Group => {
                group_config::find(key).map(|config| (config.setting.kind, in_force(&config.setting)))
            }
        };
        let Some((_, list)) = list.filter(|(kind, _)| *kind == ConfigType::List) else {
            let verb = if change.operation == ConfigOperation::Append { "append" } else { "subtract" };
            let message = format!("can't {verb} to key {key} because its type is not LIST");
            return Err((ErrorCode::InvalidConfig, message));
        };
        let operand = split_list(operand);
        let mut items = split_list(&list);
        if change.operation == ConfigOperation::Append {
            let mut known: HashSet<&str> = items.iter().copied().collect();
            items.extend(operand.into_iter().filter(|item| known.insert(item)));
        } else {
            let operand: HashSet<&str> = operand.into_iter().collect();
            items.retain(|item| !operand.contains(item));
        }
        Ok(items.join(","))
    }

    /// What only shows when all that is set of the resource is looked at. What is set of another broker is not, for
    /// what it was started with is not known here.
    fn check_together(
        &self,
        resource: &ConfigResource,
        after: &Overrides,
        changes: &[Record],
    ) -> Result<(), Refusal> {
        let checked = match resource.kind {
            ResourceKind::Topic => topic_config::validate_together(after, self.image.defaults()),
            ResourceKind::Broker => match self.image.level_of(&resource.name) {
                Some(level) => {
                    let mut defaults = self.image.defaults().clone();
                    for change in changes {
                        let Record::Config { key, value, .. } = change else { continue };
                        defaults.set_live(level, key, value.as_deref());
                    }
                    topic_config::validate_together(&BTreeMap::new(), &defaults)
                }
                None => Ok(()),
            },
            ResourceKind::Group => Ok(()),
        };
        checked.map_err(|message| (unfit(resource.kind), message))
    }

    fn check_existence(&self, resource: &ConfigResource) -> Result<(), Refusal> {
        let name = resource.name.as_str();
        match resource.kind {
            ResourceKind::Topic if self.image.topic_by_name(name).is_none() => {
                Err((ErrorCode::UnknownTopicOrPartition, format!("the topic '{name}' does not exist")))
            }
            ResourceKind::Broker if !name.is_empty() => {
                let id = name.parse().map(BrokerId);
                match id.ok().and_then(|id| self.image.broker(id)) {
                    Some(_) => Ok(()),
                    None => Err((ErrorCode::BrokerIdNotRegistered, format!("there is no broker {name}"))),
                }
            }
            // a group may be configured before it is there
            _ => Ok(()),
        }
    }
}

fn check_resource_name(resource: &ConfigResource) -> Result<(), Refusal> {
    let name = resource.name.as_str();
    let refused = |message: String| Err((ErrorCode::InvalidRequest, message));
    match resource.kind {
        ResourceKind::Topic if name.is_empty() => {
            refused("default topic resources are not allowed".to_owned())
        }
        ResourceKind::Topic => check_name(name),
        ResourceKind::Group if name.is_empty() => {
            refused("default group resources are not allowed".to_owned())
        }
        ResourceKind::Group => Ok(()),
        ResourceKind::Broker if name.is_empty() => Ok(()),
        // one spelling only: it is the name the settings are kept under
        ResourceKind::Broker => match name.parse::<i32>() {
            Ok(id) if id >= 0 && name == id.to_string() => Ok(()),
            _ => refused(format!("node id must be an integer, but it is: {name}")),
        },
    }
}

fn parse(setting: &Setting, value: &str) -> Result<String, String> {
    let key = setting.name;
    setting
        .parse(value)
        .map_err(|allowed| format!("invalid value {value} for configuration {key}: {allowed}"))
}

/// The error of a value that is not allowed.
fn unfit(kind: ResourceKind) -> ErrorCode {
    match kind {
        ResourceKind::Topic | ResourceKind::Group => ErrorCode::InvalidConfig,
        ResourceKind::Broker => ErrorCode::InvalidRequest,
    }
}

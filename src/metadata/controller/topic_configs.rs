//! IncrementalAlterConfigs (KIP-339) and AlterConfigs (KIP-133) of topics. Kafka: ConfigAdminManager.preprocess,
//! ConfigurationControlManager.
//!
//! A resource changes as a whole or not at all.

use std::collections::{BTreeMap, HashSet};

use super::create_topics::{check_name, check_value_size};
use super::{Controller, Refusal, TopicResult, duplicates};
use crate::metadata::record::{ConfigResource, Record};
use crate::metadata::setting::{ConfigType, split_list};
use crate::metadata::topic_config;
use crate::metadata::{AlterTopicConfig, ConfigChange, ConfigOperation, ReplaceTopicConfigs, Reply};
use crate::model::ErrorCode;

impl Controller {
    pub(super) fn alter_topic_configs(
        &mut self,
        topics: &[AlterTopicConfig],
        validate_only: bool,
        records: &mut Vec<Record>,
    ) -> Reply {
        let limit = self.settings.changes_per_request_max;
        if topics.iter().map(|topic| topic.changes.len()).fold(0, usize::saturating_add) > limit {
            let message =
                format!("excessively large number of changes per request, at most {limit} are allowed");
            let refuse = |topic: &AlterTopicConfig| {
                TopicResult::refused(&topic.name, (ErrorCode::PolicyViolation, message.clone()))
            };
            return Reply::Topics(topics.iter().map(refuse).collect());
        }
        let twice = duplicates(topics.iter().map(|topic| topic.name.as_str()));
        let mut results = Vec::with_capacity(topics.len());
        for topic in topics {
            results.push(match self.plan_changes(topic, &twice) {
                Err(refusal) => TopicResult::refused(&topic.name, refusal),
                Ok(changes) => {
                    if !validate_only {
                        for (key, value) in changes {
                            let resource = ConfigResource::topic(&topic.name);
                            self.append(Record::Config { resource, key, value }, records);
                        }
                    }
                    TopicResult::done(self.image.topic_by_name(&topic.name).expect("the plan found it"))
                }
            });
        }
        Reply::Topics(results)
    }

    /// Sets what is named and deletes what is not.
    pub(super) fn replace_topic_configs(
        &mut self,
        topics: Vec<ReplaceTopicConfigs>,
        validate_only: bool,
        records: &mut Vec<Record>,
    ) -> Reply {
        let topics: Vec<_> = topics.into_iter().map(|topic| self.replacement(topic)).collect();
        self.alter_topic_configs(&topics, validate_only, records)
    }

    fn replacement(&self, topic: ReplaceTopicConfigs) -> AlterTopicConfig {
        let named: HashSet<&str> = topic.configs.iter().map(|(key, _)| key.as_str()).collect();
        let rest: Vec<ConfigChange> = (self.image.topic_configs(&topic.name).keys())
            .filter(|key| !named.contains(key.as_str()))
            .map(|key| ConfigChange { key: key.clone(), operation: ConfigOperation::Delete, value: None })
            .collect();
        let set = |(key, value)| ConfigChange { key, operation: ConfigOperation::Set, value };
        let changes = topic.configs.into_iter().map(set).chain(rest).collect();
        AlterTopicConfig { name: topic.name, changes }
    }

    /// The overrides that differ afterwards; `None` deletes.
    fn plan_changes(
        &self,
        topic: &AlterTopicConfig,
        twice: &HashSet<&str>,
    ) -> Result<Vec<(String, Option<String>)>, Refusal> {
        let invalid_request = |message: &str| (ErrorCode::InvalidRequest, message.to_owned());
        if twice.contains(topic.name.as_str()) {
            return Err(invalid_request("each resource must appear at most once"));
        }
        if !duplicates(topic.changes.iter().map(|change| change.key.as_str())).is_empty() {
            return Err(invalid_request("duplicate config keys"));
        }
        let is_null =
            |change: &&ConfigChange| change.operation != ConfigOperation::Delete && change.value.is_none();
        let nulls: Vec<&str> =
            topic.changes.iter().filter(is_null).map(|change| change.key.as_str()).collect();
        if !nulls.is_empty() {
            return Err(invalid_request(&format!("null value not supported for: {}", nulls.join(", "))));
        }
        if topic.name.is_empty() {
            return Err(invalid_request("default topic resources are not allowed"));
        }
        check_name(&topic.name)?;

        let current = self.image.topic_configs(&topic.name);
        let mut after = current.clone();
        let mut changes = Vec::new();
        for change in &topic.changes {
            let value = self.changed_value(change, current)?;
            if value.as_ref() == current.get(&change.key) {
                continue;
            }
            match &value {
                Some(value) => after.insert(change.key.clone(), value.clone()),
                None => after.remove(&change.key),
            };
            changes.push((change.key.clone(), value));
        }
        topic_config::validate_together(&after, self.image.defaults())
            .map_err(|message| (ErrorCode::InvalidConfig, message))?;
        if self.image.topic_by_name(&topic.name).is_none() {
            let message = format!("the topic '{}' does not exist", topic.name);
            return Err((ErrorCode::UnknownTopicOrPartition, message));
        }
        Ok(changes)
    }

    /// The override after one change; `None`: none. Deleting what is not set is no change (Kafka 4.3), even if no
    /// such config exists.
    fn changed_value(
        &self,
        change: &ConfigChange,
        current: &BTreeMap<String, String>,
    ) -> Result<Option<String>, Refusal> {
        let key = change.key.as_str();
        let operand = change.value.as_deref().unwrap_or_default();
        let value = match change.operation {
            ConfigOperation::Delete => return Ok(None),
            ConfigOperation::Set => operand.to_owned(),
            ConfigOperation::Append | ConfigOperation::Subtract => {
                self.edited_list(change, operand, current)?
            }
        };
        check_value_size(key, &value)?;
        topic_config::validate(key, &value, self.image.defaults())
            .map(Some)
            .map_err(|message| (ErrorCode::InvalidConfig, message))
    }

    /// Appends to, or subtracts from, the list in force.
    fn edited_list(
        &self,
        change: &ConfigChange,
        operand: &str,
        current: &BTreeMap<String, String>,
    ) -> Result<String, Refusal> {
        let config = topic_config::find(&change.key)
            .filter(|config| config.setting.kind == ConfigType::List)
            .ok_or_else(|| {
                let verb = if change.operation == ConfigOperation::Append { "append" } else { "subtract" };
                let message = format!("can't {verb} to key {} because its type is not LIST", change.key);
                (ErrorCode::InvalidConfig, message)
            })?;
        let list = topic_config::effective(config, current, self.image.defaults());
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
}

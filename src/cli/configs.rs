//! DescribeConfigs and IncrementalAlterConfigs of one topic or broker, for all commands that need them.

use serde_json::{Value, json};

use super::client::{Client, Error, Refusal, string};
use crate::config::nearest;
use crate::metadata::topic_config;
use crate::protocol::messages::describe_configs_request::DescribeConfigsResource;
use crate::protocol::messages::describe_configs_response::DescribeConfigsResourceResult;
use crate::protocol::messages::incremental_alter_configs_request::{AlterConfigsResource, AlterableConfig};
use crate::protocol::messages::{DescribeConfigsRequest, IncrementalAlterConfigsRequest};

/// Whose settings.
pub(super) enum Resource {
    Topic(String),
    Broker(i32),
}

/// What is to change.
#[derive(Default)]
pub(super) struct Changes {
    pub(super) set: Vec<(String, String)>,
    pub(super) delete: Vec<String>,
}

impl Changes {
    pub(super) fn is_empty(&self) -> bool {
        self.set.is_empty() && self.delete.is_empty()
    }
}

impl Resource {
    fn kind(&self) -> i8 {
        match self {
            Resource::Topic(_) => 2,
            Resource::Broker(_) => 4,
        }
    }

    fn name(&self) -> String {
        match self {
            Resource::Topic(name) => name.clone(),
            Resource::Broker(id) => id.to_string(),
        }
    }

    pub(super) fn describe(&self) -> String {
        match self {
            Resource::Topic(name) => format!("topic {name}"),
            Resource::Broker(id) => format!("broker {id}"),
        }
    }
}

/// By name.
pub(super) fn describe(
    client: &mut Client,
    resource: &Resource,
) -> Result<Vec<DescribeConfigsResourceResult>, Error> {
    let asked = DescribeConfigsResource::default()
        .with_resource_type(resource.kind())
        .with_resource_name(string(&resource.name()))
        .with_configuration_keys(None);
    let request = DescribeConfigsRequest::default().with_resources(vec![asked]);
    let response = match resource {
        Resource::Topic(_) => client.call(&request)?,
        Resource::Broker(id) => {
            client.refresh(Some(&[]))?;
            client.call_broker(*id, &request)?
        }
    };
    let mut configs = Vec::new();
    for result in response.results {
        if let (3, Resource::Topic(name)) = (result.error_code, resource) {
            return Err(client.unknown_topic(name)?);
        }
        let message = result.error_message.as_deref();
        Refusal::check(result.error_code, message, || format!("the settings of {}", resource.describe()))?;
        configs.extend(result.configs);
    }
    configs.sort_by(|a, b| a.name.as_str().cmp(b.name.as_str()));
    Ok(configs)
}

pub(super) fn alter(client: &mut Client, resource: &Resource, changes: &Changes) -> Result<(), String> {
    /// IncrementalAlterConfigs' operations.
    const SET: i8 = 0;
    const DELETE: i8 = 1;
    if !changes.delete.is_empty() {
        check_known(client, resource, &changes.delete)?;
    }
    let set = changes.set.iter().map(|(key, value)| {
        AlterableConfig::default()
            .with_name(string(key))
            .with_config_operation(SET)
            .with_value(Some(string(value)))
    });
    let delete = changes.delete.iter().map(|key| {
        AlterableConfig::default().with_name(string(key)).with_config_operation(DELETE).with_value(None)
    });
    let asked = AlterConfigsResource::default()
        .with_resource_type(resource.kind())
        .with_resource_name(string(&resource.name()))
        .with_configs(set.chain(delete).collect());
    let request = IncrementalAlterConfigsRequest::default().with_resources(vec![asked]);
    let response = match resource {
        Resource::Topic(_) => client.call_controller(&request)?,
        Resource::Broker(id) => {
            client.refresh(Some(&[]))?;
            client.call_broker(*id, &request)?
        }
    };
    for result in response.responses {
        if let (3, Resource::Topic(name)) = (result.error_code, resource) {
            return Err(client.unknown_topic(name)?.into());
        }
        let message = result.error_message.as_deref();
        let keys = changes.set.iter().map(|(key, _)| key).chain(&changes.delete);
        Refusal::check(result.error_code, message, || format!("changing {}", resource.describe()))
            .map_err(|error| with_near_name(&error, keys))?;
    }
    Ok(())
}

/// Brokers say nothing when a setting is taken back that does not exist; somebody who mistyped it wants to know.
fn check_known(client: &mut Client, resource: &Resource, keys: &[String]) -> Result<(), String> {
    let known = describe(client, resource)?;
    let names = || known.iter().map(|config| config.name.as_str());
    let Some(unknown) = keys.iter().find(|key| names().all(|name| name != key.as_str())) else {
        return Ok(());
    };
    let near = nearest(unknown, names()).map(|near| format!(", did you mean {near}?"));
    Err(format!("{} has no setting {unknown}{}", resource.describe(), near.unwrap_or_default()))
}

/// Adds to an error of configs what an unknown one may have meant.
pub(super) fn with_near_name<'a>(error: &Error, keys: impl IntoIterator<Item = &'a String>) -> String {
    const INVALID_CONFIG: i16 = 40;
    let text = error.to_string();
    if !matches!(error, Error::Refused(refusal) if refusal.code == INVALID_CONFIG) {
        return text;
    }
    let names = || topic_config::TABLE.iter().map(|topic| topic.setting.name);
    let unknown = keys.into_iter().find(|key| topic_config::find(key).is_none());
    match unknown.and_then(|key| nearest(key, names())) {
        Some(near) => format!("{text}; did you mean {near}?"),
        None => text,
    }
}

/// Where a value comes from, as DescribeConfigs numbers it.
fn source(source: i8) -> &'static str {
    match source {
        1 => "topic",
        2 => "broker",
        3 => "all brokers",
        4 => "file",
        5 => "default",
        _ => "other",
    }
}

pub(super) fn is_default(config: &DescribeConfigsResourceResult) -> bool {
    const DEFAULT: i8 = 5;
    config.config_source == DEFAULT
}

/// Name, value, source.
pub(super) fn cells(config: &DescribeConfigsResourceResult) -> [String; 3] {
    let value = match &config.value {
        _ if config.is_sensitive => "(secret)".to_owned(),
        None => "(unset)".to_owned(),
        Some(value) if value.is_empty() => "(empty)".to_owned(),
        Some(value) => value.to_string(),
    };
    [config.name.to_string(), value, source(config.config_source).to_owned()]
}

pub(super) fn json(config: &DescribeConfigsResourceResult) -> Value {
    json!({
        "name": config.name.as_str(),
        "value": config.value.as_ref().map(|value| value.as_str()),
        "source": source(config.config_source),
        "read_only": config.read_only,
        "sensitive": config.is_sensitive,
    })
}

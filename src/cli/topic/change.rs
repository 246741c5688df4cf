//! Topics made, changed and deleted.

use clap::Args;
use serde_json::{Value, json};

use super::size;
use crate::cli::client::{Client, Error, Refusal, string, topic_name};
use crate::cli::configs::{self, Changes, Resource, with_near_name};
use crate::cli::target::{Target, pair};
use crate::protocol::messages::create_partitions_request::CreatePartitionsTopic;
use crate::protocol::messages::create_topics_request::{CreatableTopic, CreatableTopicConfig};
use crate::protocol::messages::delete_topics_request::DeleteTopicState;
use crate::protocol::messages::{CreatePartitionsRequest, CreateTopicsRequest, DeleteTopicsRequest};

const UNKNOWN_TOPIC_OR_PARTITION: i16 = 3;
const TOPIC_ALREADY_EXISTS: i16 = 36;

#[derive(Args)]
pub(in crate::cli) struct Create {
    topic: String,
    /// Default: what the broker has in num.partitions.
    #[arg(long, short, value_parser = clap::value_parser!(i32).range(1..))]
    partitions: Option<i32>,
    /// Default: what the broker has in default.replication.factor.
    #[arg(long, short, value_parser = clap::value_parser!(i16).range(1..))]
    replication_factor: Option<i16>,
    /// A setting of the topic, such as retention.ms=3600000; may be given several times.
    #[arg(long, short, value_name = "KEY=VALUE", value_parser = pair)]
    config: Vec<(String, String)>,
    /// Fine if it is there already, whatever its partitions and settings are.
    #[arg(long)]
    if_not_exists: bool,
    #[command(flatten)]
    target: Target,
}

#[derive(Args)]
pub(in crate::cli) struct Delete {
    #[arg(required = true, value_name = "TOPIC")]
    topics: Vec<String>,
    /// Fine if one is not there.
    #[arg(long)]
    if_exists: bool,
    #[command(flatten)]
    target: Target,
}

#[derive(Args)]
pub(in crate::cli) struct Alter {
    topic: String,
    /// Set a setting; may be given several times.
    #[arg(long, short, value_name = "KEY=VALUE", value_parser = pair)]
    config: Vec<(String, String)>,
    /// Take a setting back to what the broker has; may be given several times.
    #[arg(long, short, value_name = "KEY")]
    delete_config: Vec<String>,
    /// The new number of partitions, more than there are. Keys go to other partitions from then on.
    #[arg(long, short, value_parser = clap::value_parser!(i32).range(1..))]
    partitions: Option<i32>,
    #[command(flatten)]
    target: Target,
}

pub(super) fn create(arguments: &Create) -> Result<(), String> {
    let name = &arguments.topic;
    let mut client = arguments.target.connect()?;
    let configs = arguments.config.iter().map(|(key, value)| {
        CreatableTopicConfig::default().with_name(string(key)).with_value(Some(string(value)))
    });
    let topic = CreatableTopic::default()
        .with_name(topic_name(name))
        .with_num_partitions(arguments.partitions.unwrap_or(-1))
        .with_replication_factor(arguments.replication_factor.unwrap_or(-1))
        .with_configs(configs.collect());
    let request =
        CreateTopicsRequest::default().with_topics(vec![topic]).with_timeout_ms(client.timeout_ms());
    let response = client.call_controller(&request)?;
    let result = response.topics.first().ok_or_else(|| Error::Silent(format!("topic {name}")))?;
    let created = match result.error_code {
        TOPIC_ALREADY_EXISTS if arguments.if_not_exists => false,
        code => {
            let message = result.error_message.as_deref();
            Refusal::check(code, message, || format!("creating topic {name}"))
                .map_err(|error| with_near_name(&error, arguments.config.iter().map(|(key, _)| key)))?;
            true
        }
    };
    // versions before 5 do not tell them
    let partitions = usize::try_from(result.num_partitions).ok().filter(|_| created);
    let counts = partitions.zip(usize::try_from(result.replication_factor).ok());
    let document = || {
        json!({
            "topic": name,
            "created": created,
            "partitions": counts.map(|(partitions, _)| partitions),
            "replication_factor": counts.map(|(_, replicas)| replicas),
        })
    };
    arguments.target.tell(document, || match (created, counts) {
        (false, _) => format!("topic {name} is there already\n"),
        (true, None) => format!("created topic {name}\n"),
        (true, Some((partitions, replicas))) => {
            format!("created topic {name}: {}\n", size(partitions, replicas))
        }
    })
}

pub(super) fn delete(arguments: &Delete) -> Result<(), String> {
    let mut client = arguments.target.connect()?;
    let mut deleted = Vec::new();
    for name in &arguments.topics {
        // one at a time: what comes before an error is deleted, and nothing behind it
        match delete_one(&mut client, name)? {
            UNKNOWN_TOPIC_OR_PARTITION if arguments.if_exists => {}
            UNKNOWN_TOPIC_OR_PARTITION => {
                let before = match deleted.len() {
                    0 => String::new(),
                    count => format!(" ({count} deleted before it)"),
                };
                return Err(format!("{}{before}", client.unknown_topic(name)?));
            }
            _ => deleted.push(name.as_str()),
        }
    }
    arguments.target.tell(
        || json!({ "deleted": deleted }),
        || deleted.iter().map(|name| format!("deleted topic {name}\n")).collect(),
    )
}

/// The error code is none, or that the topic is unknown.
fn delete_one(client: &mut Client, name: &str) -> Result<i16, String> {
    // the first for versions from 6 on, the second for older ones
    let by_state = DeleteTopicState::default().with_name(Some(topic_name(name)));
    let base = DeleteTopicsRequest::default().with_timeout_ms(client.timeout_ms());
    let newer = base.clone().with_topics(vec![by_state]);
    let response = match client.call_controller(&newer) {
        Err(Error::NotEncodable { .. }) => {
            client.call_controller(&base.with_topic_names(vec![topic_name(name)]))?
        }
        other => other?,
    };
    let result = response.responses.first().ok_or_else(|| Error::Silent(format!("topic {name}")))?;
    if result.error_code != UNKNOWN_TOPIC_OR_PARTITION {
        let message = result.error_message.as_deref();
        Refusal::check(result.error_code, message, || format!("deleting topic {name}"))?;
    }
    Ok(result.error_code)
}

pub(super) fn alter(arguments: &Alter) -> Result<(), String> {
    let name = &arguments.topic;
    let changes = Changes { set: arguments.config.clone(), delete: arguments.delete_config.clone() };
    if changes.is_empty() && arguments.partitions.is_none() {
        return Err("nothing to change: give --config, --delete-config or --partitions".to_owned());
    }
    let mut client = arguments.target.connect()?;
    if let Some(count) = arguments.partitions {
        // before anything is changed
        add_partitions(&mut client, name, count, Mode::Validate)?;
    }
    if !changes.is_empty() {
        configs::alter(&mut client, &Resource::Topic(name.clone()), &changes)?;
    }
    if let Some(count) = arguments.partitions {
        add_partitions(&mut client, name, count, Mode::Change)?;
    }
    let document = || -> Value {
        json!({
            "topic": name,
            "set": changes.set.iter().cloned().collect::<std::collections::BTreeMap<_, _>>(),
            "deleted": changes.delete,
            "partitions": arguments.partitions,
        })
    };
    arguments.target.tell(document, || format!("changed topic {name}\n"))
}

/// Whether a request changes anything.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Mode {
    Validate,
    Change,
}

fn add_partitions(client: &mut Client, name: &str, count: i32, mode: Mode) -> Result<(), String> {
    let topic =
        CreatePartitionsTopic::default().with_name(topic_name(name)).with_count(count).with_assignments(None);
    let request = CreatePartitionsRequest::default()
        .with_topics(vec![topic])
        .with_timeout_ms(client.timeout_ms())
        .with_validate_only(mode == Mode::Validate);
    let response = client.call_controller(&request)?;
    let result = response.results.first().ok_or_else(|| Error::Silent(format!("topic {name}")))?;
    if result.error_code == UNKNOWN_TOPIC_OR_PARTITION {
        return Err(client.unknown_topic(name)?.into());
    }
    let what = || format!("giving topic {name} {count} partitions");
    Ok(Refusal::check(result.error_code, result.error_message.as_deref(), what)?)
}

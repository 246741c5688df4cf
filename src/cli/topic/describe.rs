//! Topics as they are.

use std::collections::BTreeMap;
use std::fmt::Write as _;

use clap::Args;
use serde_json::{Value, json};

use super::size;
use crate::cli::client::{Client, EARLIEST, LATEST, Refusal};
use crate::cli::configs::{self, Resource};
use crate::cli::table::Table;
use crate::cli::target::Target;
use crate::protocol::messages::BrokerId;
use crate::protocol::messages::metadata_response::{MetadataResponsePartition, MetadataResponseTopic};

#[derive(Args)]
pub(in crate::cli) struct List {
    /// Those that brokers keep for themselves, too.
    #[arg(long)]
    internal: bool,
    #[command(flatten)]
    target: Target,
}

#[derive(Args)]
pub(in crate::cli) struct Describe {
    #[arg(required = true, value_name = "TOPIC")]
    topics: Vec<String>,
    #[command(flatten)]
    target: Target,
}

fn name(topic: &MetadataResponseTopic) -> String {
    topic.name.as_ref().map(|name| name.to_string()).unwrap_or_default()
}

fn replication(topic: &MetadataResponseTopic) -> usize {
    topic.partitions.first().map_or(0, |partition| partition.replica_nodes.len())
}

pub(super) fn list(arguments: &List) -> Result<(), String> {
    let mut topics = arguments.target.connect()?.refresh(None)?.topics;
    topics.retain(|topic| arguments.internal || !topic.is_internal);
    topics.sort_by_key(name);
    let document = || {
        let topics = topics.iter().map(|topic| {
            json!({
                "name": name(topic),
                "id": topic.topic_id.to_string(),
                "internal": topic.is_internal,
                "partitions": topic.partitions.len(),
                "replication_factor": replication(topic),
            })
        });
        json!({ "topics": topics.collect::<Vec<_>>() })
    };
    arguments.target.tell_table(document, || {
        let mut table = Table::new(&["TOPIC", "PARTITIONS", "REPLICAS"]);
        for topic in &topics {
            table.row([name(topic), topic.partitions.len().to_string(), replication(topic).to_string()]);
        }
        table
    })
}

/// All that is told of a topic.
struct Topic {
    metadata: MetadataResponseTopic,
    /// Those that are set for it.
    configs: Vec<(String, Option<String>)>,
    starts: BTreeMap<i32, i64>,
    ends: BTreeMap<i32, i64>,
}

pub(super) fn describe(arguments: &Describe) -> Result<(), String> {
    let mut client = arguments.target.connect()?;
    let topics = arguments.topics.iter().map(|name| look(&mut client, name));
    let topics = topics.collect::<Result<Vec<_>, _>>()?;
    arguments.target.tell(
        || json!({ "topics": topics.iter().map(Topic::json).collect::<Vec<_>>() }),
        || topics.iter().map(Topic::text).collect::<Vec<_>>().join("\n"),
    )
}

fn look(client: &mut Client, name: &str) -> Result<Topic, String> {
    const TOPIC: i8 = 1;
    let metadata = client.topic(name)?;
    let configs = configs::describe(client, &Resource::Topic(name.to_owned()))?;
    let configs = configs.into_iter().filter(|config| config.config_source == TOPIC);
    let configs =
        configs.map(|config| (config.name.to_string(), config.value.map(|value| value.to_string())));
    let led: Vec<(i32, i32)> = metadata
        .partitions
        .iter()
        .filter(|partition| partition.leader_id.0 >= 0)
        .map(|partition| (partition.partition_index, partition.leader_id.0))
        .collect();
    Ok(Topic {
        configs: configs.collect(),
        starts: client.offsets(name, &led, EARLIEST)?,
        ends: client.offsets(name, &led, LATEST)?,
        metadata,
    })
}

fn ids(brokers: &[BrokerId]) -> Vec<i32> {
    brokers.iter().map(|broker| broker.0).collect()
}

impl Topic {
    /// First and next offset, where there is a leader to ask.
    fn offsets(&self, partition: &MetadataResponsePartition) -> (Option<i64>, Option<i64>) {
        let index = partition.partition_index;
        (self.starts.get(&index).copied(), self.ends.get(&index).copied())
    }

    fn json(&self) -> Value {
        let partitions = self.metadata.partitions.iter().map(|partition| {
            let (start, end) = self.offsets(partition);
            json!({
                "partition": partition.partition_index,
                "leader": (partition.leader_id.0 >= 0).then_some(partition.leader_id.0),
                "leader_epoch": partition.leader_epoch,
                "replicas": ids(&partition.replica_nodes),
                "in_sync": ids(&partition.isr_nodes),
                "start_offset": start,
                "end_offset": end,
                "error": (partition.error_code != 0)
                    .then(|| Refusal::new(String::new(), partition.error_code, None).name()),
            })
        });
        json!({
            "name": name(&self.metadata),
            "id": self.metadata.topic_id.to_string(),
            "internal": self.metadata.is_internal,
            "replication_factor": replication(&self.metadata),
            "configs": self.configs.iter().cloned().collect::<BTreeMap<_, _>>(),
            "partitions": partitions.collect::<Vec<_>>(),
        })
    }

    fn text(&self) -> String {
        let topic = &self.metadata;
        let mut text = format!(
            "{}: {}, id {}\n",
            name(topic),
            size(topic.partitions.len(), replication(topic)),
            topic.topic_id
        );
        for (key, value) in &self.configs {
            let _ = writeln!(text, "  {key}={}", value.as_deref().unwrap_or("(secret)"));
        }
        let heads = ["PARTITION", "LEADER", "EPOCH", "REPLICAS", "IN SYNC", "START", "END", "STATE"];
        let mut table = Table::new(&heads);
        for partition in &topic.partitions {
            let (start, end) = self.offsets(partition);
            let told =
                |offset: Option<i64>| offset.map_or_else(|| "-".to_owned(), |offset| offset.to_string());
            let list =
                |brokers: &[BrokerId]| ids(brokers).iter().map(i32::to_string).collect::<Vec<_>>().join(",");
            let state = match partition.error_code {
                0 if partition.isr_nodes.len() < partition.replica_nodes.len() => "not in sync".to_owned(),
                0 => "ok".to_owned(),
                code => Refusal::new(String::new(), code, None).name(),
            };
            table.row([
                partition.partition_index.to_string(),
                if partition.leader_id.0 >= 0 { partition.leader_id.0.to_string() } else { "-".to_owned() },
                partition.leader_epoch.to_string(),
                list(&partition.replica_nodes),
                list(&partition.isr_nodes),
                told(start),
                told(end),
                state,
            ]);
        }
        text + &table.text()
    }
}

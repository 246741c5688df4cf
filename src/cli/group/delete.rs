//! Groups deleted, or what they have committed for some topics.

use std::collections::BTreeSet;

use clap::Args;
use serde_json::json;

use super::committed;
use super::described::unknown;
use crate::cli::client::{Client, Coordinated, Error, Refusal, TopicPartition, group_id, topic_name};
use crate::cli::confirm::confirm;
use crate::cli::partitions::{Partitions, Scope, select, text};
use crate::cli::target::{Target, counted};
use crate::protocol::messages::offset_delete_request::{
    OffsetDeleteRequestPartition, OffsetDeleteRequestTopic,
};
use crate::protocol::messages::{DeleteGroupsRequest, OffsetDeleteRequest};

const GROUP_ID_NOT_FOUND: i16 = 69;

#[derive(Args)]
pub(in crate::cli) struct Delete {
    #[arg(required = true, value_name = "GROUP")]
    groups: Vec<String>,
    /// Fine if one is not there.
    #[arg(long)]
    if_exists: bool,
    /// Without asking.
    #[arg(long, short)]
    yes: bool,
    #[command(flatten)]
    target: Target,
}

#[derive(Args)]
pub(in crate::cli) struct DeleteOffsets {
    group: String,
    /// Of these partitions, as orders or orders:0,4-7; may be given several times.
    #[arg(long, short = 'T', required = true, value_name = "TOPIC[:PARTITIONS]")]
    topic: Vec<Scope>,
    /// Without asking.
    #[arg(long, short)]
    yes: bool,
    #[command(flatten)]
    target: Target,
}

pub(super) fn groups(arguments: &Delete) -> Result<(), String> {
    let (names, what) = (&arguments.groups, if arguments.groups.len() == 1 { "group" } else { "groups" });
    let question = format!("delete {what} {} with all committed offsets", names.join(", "));
    confirm(arguments.yes.into(), &question)?;
    let mut client = arguments.target.connect()?;
    let mut deleted = Vec::new();
    for name in names {
        // one at a time: what comes before an error is deleted, and nothing behind it
        let error = match delete(&mut client, name) {
            Ok(()) => {
                deleted.push(name.as_str());
                continue;
            }
            Err(Error::Refused(refusal)) if refusal.code == GROUP_ID_NOT_FOUND => {
                if arguments.if_exists {
                    continue;
                }
                unknown(&mut client, name)?
            }
            Err(other) => other,
        };
        let before = match deleted.len() {
            0 => String::new(),
            count => format!(" ({count} deleted before it)"),
        };
        return Err(format!("{error}{before}"));
    }
    arguments.target.tell(
        || json!({ "deleted": deleted }),
        || deleted.iter().map(|name| format!("deleted group {name}\n")).collect(),
    )
}

fn delete(client: &mut Client, name: &str) -> Result<(), Error> {
    let request = DeleteGroupsRequest::default().with_groups_names(vec![group_id(name)]);
    client.at_coordinator(Coordinated::Group(name), |client, broker| {
        let response = client.call_broker(broker, &request)?;
        let result = response.results.first().ok_or_else(|| Error::Silent(format!("group {name}")))?;
        Refusal::check(result.error_code, None, || format!("deleting group {name}"))
    })
}

pub(super) fn offsets(arguments: &DeleteOffsets) -> Result<(), String> {
    let name = &arguments.group;
    let mut client = arguments.target.connect()?;
    let committed = committed::fetch(&mut client, name)?;
    if committed.is_empty() && super::described::find(&mut client, name)?.is_none() {
        return Err(unknown(&mut client, name)?.into());
    }
    let chosen = select(committed.into_keys(), &arguments.topic).map_err(|missing| match missing {
        TopicPartition { topic, partition: ..0 } => {
            format!("group {name} has committed nothing for topic {topic}")
        }
        of => format!("group {name} has committed nothing for {of}"),
    })?;
    let mut by_topic = Partitions::new();
    for of in &chosen {
        by_topic.entry(of.topic.clone()).or_default().insert(of.partition);
    }
    let question = format!("delete what group {name} has committed for {}", text(&by_topic));
    confirm(arguments.yes.into(), &question)?;
    forget(&mut client, name, &by_topic)?;
    let document = || {
        let deleted = chosen.iter().map(|of| json!({ "topic": of.topic, "partition": of.partition }));
        json!({ "group": name, "deleted": deleted.collect::<Vec<_>>() })
    };
    arguments.target.tell(document, || {
        let count = counted(chosen.len() as u64, "offset");
        format!("group {name}: deleted {count}, of {}\n", text(&by_topic))
    })
}

fn forget(client: &mut Client, name: &str, partitions: &Partitions) -> Result<(), Error> {
    let topics = partitions.iter().map(|(topic, indexes): (&String, &BTreeSet<i32>)| {
        let asked =
            indexes.iter().map(|&index| OffsetDeleteRequestPartition::default().with_partition_index(index));
        OffsetDeleteRequestTopic::default().with_name(topic_name(topic)).with_partitions(asked.collect())
    });
    let request = OffsetDeleteRequest::default().with_group_id(group_id(name)).with_topics(topics.collect());
    client.at_coordinator(Coordinated::Group(name), |client, broker| {
        let response = client.call_broker(broker, &request)?;
        let what = || format!("deleting offsets of group {name}");
        Refusal::check(response.error_code, None, what)?;
        for topic in &response.topics {
            for partition in &topic.partitions {
                let of = TopicPartition::new(&topic.name, partition.partition_index);
                Refusal::check(partition.error_code, None, || format!("{} for {of}", what()))?;
            }
        }
        Ok(())
    })
}

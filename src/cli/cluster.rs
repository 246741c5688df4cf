//! `corelane cluster describe`.

use clap::{Args, Subcommand};
use serde_json::json;

use super::client::Refusal;
use super::table::Table;
use super::target::{Target, counted};
use crate::protocol::messages::DescribeClusterRequest;

#[derive(Subcommand)]
pub(super) enum Command {
    /// The cluster's id, its brokers and its controller, how many topics and partitions there are, and what is wrong.
    Describe(Describe),
}

#[derive(Args)]
pub(super) struct Describe {
    #[command(flatten)]
    target: Target,
}

struct Broker {
    id: i32,
    host: String,
    port: i32,
    rack: Option<String>,
    leads: usize,
    replicas: usize,
}

pub(super) fn run(command: &Command) -> Result<(), String> {
    let Command::Describe(Describe { target }) = command;
    let mut client = target.connect()?;
    let cluster = client.call(&DescribeClusterRequest::default().with_endpoint_type(1))?;
    Refusal::check(cluster.error_code, cluster.error_message.as_deref(), || "the cluster".to_owned())?;
    let metadata = client.refresh(None)?;
    let partitions = || metadata.topics.iter().flat_map(|topic| &topic.partitions);
    let mut brokers: Vec<Broker> = cluster
        .brokers
        .iter()
        .map(|broker| Broker {
            id: broker.broker_id.0,
            host: broker.host.to_string(),
            port: broker.port,
            rack: broker.rack.as_ref().map(|rack| rack.to_string()),
            leads: partitions().filter(|partition| partition.leader_id == broker.broker_id).count(),
            replicas: partitions()
                .filter(|partition| partition.replica_nodes.contains(&broker.broker_id))
                .count(),
        })
        .collect();
    brokers.sort_by_key(|broker| broker.id);
    let all = partitions().count();
    let leaderless = partitions().filter(|partition| partition.leader_id.0 < 0).count();
    let short =
        partitions().filter(|partition| partition.isr_nodes.len() < partition.replica_nodes.len()).count();
    let document = || {
        json!({
            "cluster_id": cluster.cluster_id.as_str(),
            "controller": cluster.controller_id.0,
            "brokers": brokers.iter().map(|broker| json!({
                "id": broker.id,
                "host": broker.host,
                "port": broker.port,
                "rack": broker.rack,
                "partitions_led": broker.leads,
                "replicas": broker.replicas,
            })).collect::<Vec<_>>(),
            "topics": metadata.topics.len(),
            "partitions": all,
            "partitions_without_leader": leaderless,
            "partitions_not_in_sync": short,
        })
    };
    target.tell(document, || {
        let mut table = Table::new(&["BROKER", "ADDRESS", "RACK", "LEADS", "REPLICAS"]);
        for broker in &brokers {
            let mark = if broker.id == cluster.controller_id.0 { "*" } else { "" };
            table.row([
                format!("{}{mark}", broker.id),
                format!("{}:{}", broker.host, broker.port),
                broker.rack.clone().unwrap_or_else(|| "-".to_owned()),
                broker.leads.to_string(),
                broker.replicas.to_string(),
            ]);
        }
        format!(
            "cluster {}: {}, {}, {leaderless} without a leader, {short} with replicas not in sync\n\n{}\n* controller\n",
            cluster.cluster_id.as_str(),
            counted(metadata.topics.len() as u64, "topic"),
            counted(all as u64, "partition"),
            table.text()
        )
    })
}

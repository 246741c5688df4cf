//! ListConfigResources 0-1 (key 74, KIP-1142): the resources there are whose configs can be described.
//!
//! v0 is KIP-1000's ListClientMetricsResources and knows client metrics alone; v1 takes resource types, none of them
//! meaning all: topics, brokers and their loggers, and the groups that have configs of their own. Client metrics would
//! be told too; there are none.

use std::rc::Rc;

use super::Broker;
use super::authorize::{Operation, Resource, allowed};
use super::describe_configs::{BROKER, BROKER_LOGGER, CLIENT_METRICS, GROUP, TOPIC};
use super::endpoint::nodes;
use super::service::{CloseReason, Outcome, Request};
use crate::metadata::Topic;
use crate::model::ErrorCode;
use crate::protocol::StrBytes;
use crate::protocol::messages::list_config_resources_response::ConfigResource;
use crate::protocol::messages::{ListConfigResourcesRequest, ListConfigResourcesResponse};
use crate::reactor::turn;

/// Each is some 50 ns of work; then the rest of the shard gets a turn.
const TOPICS_IN_A_ROW: usize = 1000;

pub(super) async fn handle(broker: Rc<Broker>, request: Request) -> Result<Outcome, CloseReason> {
    let (context, request) = request.decode::<ListConfigResourcesRequest>()?;
    let known: &[i8] = match context.version() {
        0 => &[CLIENT_METRICS],
        _ => &[TOPIC, BROKER, BROKER_LOGGER, CLIENT_METRICS, GROUP],
    };
    let error = if !allowed(&context, Operation::DescribeConfigs, Resource::Cluster) {
        ErrorCode::ClusterAuthorizationFailed
    } else if request.resource_types.iter().any(|kind| !known.contains(kind)) {
        ErrorCode::UnsupportedVersion
    } else {
        ErrorCode::None
    };
    let mut resources = Vec::new();
    if error.is_none() {
        let all = request.resource_types.is_empty();
        for &kind in known.iter().filter(|kind| all || request.resource_types.contains(kind)) {
            match kind {
                TOPIC => broker.list_topics(&mut resources).await,
                BROKER | BROKER_LOGGER => {
                    let nodes = nodes(&broker.shard.image(), &context.connection.listener);
                    resources.extend(nodes.iter().map(|node| resource(kind, node.id.to_string())));
                }
                GROUP => {
                    let image = broker.shard.image();
                    let groups = image.groups_with_configs();
                    resources.extend(groups.map(|group| resource(GROUP, group.to_owned())));
                }
                _ => {}
            }
        }
    }
    let response =
        ListConfigResourcesResponse::default().with_error_code(error.code()).with_config_resources(resources);
    Ok(context.reply(response, error))
}

impl Broker {
    /// By name. The rest of the shard gets a turn now and then.
    async fn list_topics(&self, resources: &mut Vec<ConfigResource>) {
        let mut from = String::new();
        loop {
            let before = resources.len();
            let names = |topic: &Topic| resource(TOPIC, topic.name.clone());
            resources.extend(self.shard.image().topics_from(&from).take(TOPICS_IN_A_ROW).map(names));
            if resources.len() - before < TOPICS_IN_A_ROW {
                return;
            }
            // the least name behind the last one
            from = format!("{}\0", &*resources[resources.len() - 1].resource_name);
            turn().await;
        }
    }
}

fn resource(kind: i8, name: String) -> ConfigResource {
    ConfigResource::default().with_resource_type(kind).with_resource_name(StrBytes::from_string(name))
}

//! DescribeCluster 0-2 (key 60, KIP-700): brokers by the listener the client used, cluster id, controller.
//!
//! v1+ (KIP-919): the client says whether it wants brokers or controllers; a broker's listener knows the former.
//! v2+ (KIP-1073): fenced brokers on demand. The brokers are the nodes of Metadata. As in Kafka, the controller named is a live broker that takes admin
//! requests: this one.

use std::rc::Rc;

use super::authorize::{Operation, Resource, allowed, cluster_operations};
use super::endpoint::nodes;
use super::service::{CloseReason, Outcome, Request};
use super::{Broker, topic};
use crate::model::ErrorCode;
use crate::protocol::StrBytes;
use crate::protocol::messages::describe_cluster_response::DescribeClusterBroker;
use crate::protocol::messages::{DescribeClusterRequest, DescribeClusterResponse};

const BROKERS: i8 = 1;
const CONTROLLERS: i8 = 2;

pub(super) async fn handle(broker: Rc<Broker>, request: Request) -> Result<Outcome, CloseReason> {
    let (context, request) = request.decode::<DescribeClusterRequest>()?;
    let mut response = DescribeClusterResponse::default();
    if context.version() >= 1 && request.endpoint_type != BROKERS {
        let (error, text) = if request.endpoint_type == CONTROLLERS {
            let text = "the request was sent to an endpoint of type BROKER, but it asks for controllers";
            (ErrorCode::MismatchedEndpointType, text)
        } else {
            (ErrorCode::UnsupportedEndpointType, "unsupported endpoint type")
        };
        response.error_code = error.code();
        response.error_message = Some(topic::message(text));
        return Ok(context.reply(response, error));
    }
    {
        let image = broker.shard.image();
        response.cluster_id = StrBytes::from_string(image.cluster_id().to_owned());
        response.controller_id = broker.settings.broker.0.into();
        response.brokers = nodes(&image, &context.connection.listener)
            .into_iter()
            .filter(|node| !node.fenced || request.include_fenced_brokers)
            .map(|node| {
                DescribeClusterBroker::default()
                    .with_broker_id(node.id.0.into())
                    .with_host(node.host)
                    .with_port(i32::from(node.port))
                    .with_rack(node.rack)
                    .with_is_fenced(node.fenced)
            })
            .collect();
    }
    if request.include_cluster_authorized_operations {
        let may_describe = allowed(&context, Operation::Describe, Resource::Cluster);
        response.cluster_authorized_operations = if may_describe { cluster_operations(&context) } else { 0 };
    }
    Ok(context.reply(response, ErrorCode::None))
}

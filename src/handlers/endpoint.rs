//! Where clients of a listener find a broker: metadata, DescribeCluster and the hints to a new leader tell it alike.

use crate::metadata::{Endpoint, Image, Registration};
use crate::model::BrokerId;
use crate::protocol::StrBytes;

/// A broker as the clients of one listener see it.
pub(super) struct Node {
    pub(super) broker: BrokerId,
    pub(super) host: StrBytes,
    pub(super) port: u16,
    pub(super) rack: Option<StrBytes>,
    pub(super) fenced: bool,
}

impl Node {
    fn of(registration: &Registration, endpoint: &Endpoint) -> Node {
        Node {
            broker: registration.broker,
            host: StrBytes::from_string(endpoint.host.clone()),
            port: endpoint.port,
            rack: registration.rack.clone().map(StrBytes::from_string),
            fenced: registration.fenced,
        }
    }
}

/// Every broker that has this listener, fenced ones included.
pub(super) fn nodes(image: &Image, listener: &str) -> Vec<Node> {
    image.brokers().filter_map(|broker| Some(Node::of(broker, endpoint(broker, listener)?))).collect()
}

/// Those of the brokers that are alive and have this listener, each once.
pub(super) fn live_nodes(
    image: &Image,
    brokers: impl Iterator<Item = BrokerId>,
    listener: &str,
) -> Vec<Node> {
    let mut nodes: Vec<Node> = Vec::new();
    for broker in brokers {
        let registration = image.broker(broker).filter(|registration| !registration.fenced);
        if let Some(registration) = registration
            && let Some(endpoint) = endpoint(registration, listener)
            && nodes.iter().all(|node| node.broker != broker)
        {
            nodes.push(Node::of(registration, endpoint));
        }
    }
    nodes
}

pub(super) fn is_alive(image: &Image, broker: BrokerId) -> bool {
    image.broker(broker).is_some_and(|registration| !registration.fenced)
}

pub(super) fn has_listener(image: &Image, broker: BrokerId, listener: &str) -> bool {
    image.broker(broker).is_some_and(|registration| endpoint(registration, listener).is_some())
}

fn endpoint<'a>(registration: &'a Registration, listener: &str) -> Option<&'a Endpoint> {
    registration.endpoints.iter().find(|endpoint| endpoint.listener == listener)
}

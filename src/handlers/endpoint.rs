//! Where clients of a listener find brokers, and by which ids: metadata, DescribeCluster, coordinators and the hints to a new
//! leader tell it alike, and what clients send back is understood here.
//!
//! A broker whose shards have ports of their own (corelane.shard.port.offset) is one node for each of them
//! ([`NodeId`]); every other broker is one node.

use crate::metadata::{Endpoint, Image, Partition, Registration};
use crate::model::{BrokerId, NodeId, ShardId};
use crate::protocol::{StrBytes, messages};

/// A broker, or a shard of it, as the clients of one listener see it.
pub(super) struct Node {
    pub(super) id: NodeId,
    pub(super) host: StrBytes,
    pub(super) port: u16,
    pub(super) rack: Option<StrBytes>,
    pub(super) fenced: bool,
}

impl Node {
    fn of(registration: &Registration, endpoint: &Endpoint, shard: Option<ShardId>) -> Node {
        let (id, port) = place(registration.broker, endpoint, shard);
        Node {
            id,
            host: StrBytes::from_string(endpoint.host.clone()),
            port,
            rack: registration.rack.clone().map(StrBytes::from_string),
            fenced: registration.fenced,
        }
    }
}

/// What to connect to for a shard: its own port, or shard 0's where it has none, or the port of all.
fn place(broker: BrokerId, endpoint: &Endpoint, shard: Option<ShardId>) -> (NodeId, u16) {
    let own = shard.and_then(|shard| {
        let port = *endpoint.shard_ports.get(shard.index())?;
        Some((NodeId::of_shard(broker, shard)?, port))
    });
    let first = endpoint.shard_ports.first().copied();
    own.unwrap_or((NodeId::of(broker), first.unwrap_or(endpoint.port)))
}

/// Every broker that has this listener, fenced ones included; once for each shard that has a port of its own there.
pub(super) fn nodes(image: &Image, listener: &str) -> Vec<Node> {
    let mut nodes = Vec::new();
    for registration in image.brokers() {
        let Some(endpoint) = endpoint(registration, listener) else { continue };
        let others = (1..).map(ShardId).take(endpoint.shard_ports.len().saturating_sub(1));
        let shards = std::iter::once(ShardId::ZERO).chain(others);
        nodes.extend(shards.map(|shard| Node::of(registration, endpoint, Some(shard))));
    }
    nodes
}

/// Where a broker's shard is found; `None` unless the broker is alive and has this listener.
pub(super) fn live_node(
    image: &Image,
    broker: BrokerId,
    shard: Option<ShardId>,
    listener: &str,
) -> Option<Node> {
    let registration = image.broker(broker).filter(|registration| !registration.fenced)?;
    Some(Node::of(registration, endpoint(registration, listener)?, shard))
}

/// Those of the leaders that are alive and have this listener, each once.
pub(super) fn live_nodes(
    image: &Image,
    leaders: impl Iterator<Item = (BrokerId, Option<ShardId>)>,
    listener: &str,
) -> Vec<Node> {
    let mut nodes: Vec<Node> = Vec::new();
    for (broker, shard) in leaders {
        let node = live_node(image, broker, shard, listener);
        nodes.extend(node.filter(|node| nodes.iter().all(|other| other.id != node.id)));
    }
    nodes
}

/// The id by which clients of the listener know a broker's shard.
pub(super) fn node_id(image: &Image, broker: BrokerId, shard: Option<ShardId>, listener: &str) -> NodeId {
    let endpoint = image.broker(broker).and_then(|registration| endpoint(registration, listener));
    endpoint.map_or(NodeId::of(broker), |endpoint| place(broker, endpoint, shard).0)
}

/// The ids of those that carry a partition, or have or will.
pub(super) fn replica_ids<'a>(
    image: &Image,
    partition: &Partition,
    brokers: impl IntoIterator<Item = &'a BrokerId>,
    listener: &str,
) -> Vec<messages::BrokerId> {
    let id = |&broker| node_id(image, broker, partition.shard_of(broker), listener).0.into();
    brokers.into_iter().map(id).collect()
}

/// Whom a client means by an id: the broker of that id, or the one that has a shard of that id.
pub(super) fn broker_of(image: &Image, id: i32) -> BrokerId {
    let plain = BrokerId(id);
    if image.broker(plain).is_some() {
        return plain;
    }
    let of_shard = NodeId(id).parts().filter(|&(broker, shard)| {
        let endpoints = image.broker(broker).map_or(&[][..], |registration| &registration.endpoints);
        endpoints.iter().any(|endpoint| shard.index() < endpoint.shard_ports.len())
    });
    of_shard.map_or(plain, |(broker, _)| broker)
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

//! What the tests of members share: a plan.

use kafka_protocol::messages::consumer_group_heartbeat_request::TopicPartitions;

use super::member::{Plan, Versions};
use crate::wire::control::Layout;
use crate::wire::produce::Slot;

/// One topic, and the newest versions.
pub fn plan(partitions: i32) -> Plan {
    let slots = (0..partitions).map(|partition| Slot { topic: 0, partition, leader: 0 }).collect();
    Plan {
        layout: Layout { brokers: Vec::new(), topics: vec!["t".to_owned()], slots },
        topic: TopicPartitions::default(),
        versions: Versions { join: 9, sync: 5, heartbeat: 4, leave: 5, consumer_heartbeat: 1 },
        session_timeout_ms: 45_000,
    }
}

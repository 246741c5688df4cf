//! DescribeQuorum 0-2 (key 55, KIP-595): the quorum of the metadata log, which is this node alone.
//!
//! v1+ (KIP-836) tells when a replica last fetched, which of the leader is now; v2+ (KIP-853) directories, the nodes'
//! endpoints and errors in words. Anything but partition 0 of `__cluster_metadata` is UNKNOWN_TOPIC_OR_PARTITION. The
//! response has no throttle time.

use std::rc::Rc;

use super::Broker;
use super::authorize::{Operation, Resource, allowed};
use super::service::{CloseReason, Outcome, Request};
use super::topic::message;
use crate::model::ErrorCode;
use crate::partition::LogDescription;
use crate::protocol::StrBytes;
use crate::protocol::messages::describe_quorum_response::{
    Listener, Node, PartitionData, ReplicaState, TopicData,
};
use crate::protocol::messages::{DescribeQuorumRequest, DescribeQuorumResponse};
use crate::reactor::wall_clock_ms;

const METADATA_TOPIC: &str = "__cluster_metadata";

pub(super) async fn handle(broker: Rc<Broker>, request: Request) -> Result<Outcome, CloseReason> {
    let (context, request) = request.decode::<DescribeQuorumRequest>()?;
    let mut response = DescribeQuorumResponse::default();
    if !allowed(&context, Operation::Describe, Resource::Cluster) {
        let error = ErrorCode::ClusterAuthorizationFailed;
        return Ok(context.reply(response.with_error_code(error.code()), error));
    }
    let version = context.version();
    let found = if is_of_the_metadata_log(&request) {
        broker.shard.describe_metadata_log().await.ok_or(ErrorCode::KafkaStorageError)
    } else {
        Err(ErrorCode::UnknownTopicOrPartition)
    };
    let partition = |index: i32| {
        let partition = PartitionData::default().with_partition_index(index);
        match &found {
            Ok(log) => broker.quorum(partition, log, version),
            Err(error) => {
                let partition = partition.with_error_code(error.code());
                let text = message("this is not the metadata log, or it is not open");
                if version >= 2 { partition.with_error_message(Some(text)) } else { partition }
            }
        }
    };
    let topics = request.topics.iter().map(|topic| {
        let indexes = topic.partitions.iter().map(|asked| asked.partition_index);
        TopicData::default()
            .with_topic_name(topic.topic_name.clone())
            .with_partitions(indexes.map(partition).collect())
    });
    response.topics = topics.collect();
    if version >= 2 && found.is_ok() {
        response.nodes = vec![broker.quorum_node()];
    }
    Ok(context.reply(response, found.err().unwrap_or(ErrorCode::None)))
}

fn is_of_the_metadata_log(request: &DescribeQuorumRequest) -> bool {
    let [topic] = &request.topics[..] else { return false };
    let [partition] = &topic.partitions[..] else { return false };
    topic.topic_name.as_str() == METADATA_TOPIC && partition.partition_index == 0
}

impl Broker {
    fn quorum(&self, partition: PartitionData, log: &LogDescription, version: i16) -> PartitionData {
        let now_ms = wall_clock_ms();
        let mut voter = ReplicaState::default()
            .with_replica_id(self.settings.broker.0.into())
            .with_log_end_offset(log.end_offset.0);
        if version >= 1 {
            voter = voter.with_last_fetch_timestamp(now_ms).with_last_caught_up_timestamp(now_ms);
        }
        if version >= 2 {
            voter = voter.with_replica_directory_id(uuid::Uuid::from_u128(log.directory.0));
        }
        partition
            .with_leader_id(self.settings.broker.0.into())
            .with_leader_epoch(log.leader_epoch.0)
            .with_high_watermark(log.high_watermark.0)
            .with_current_voters(vec![voter])
    }

    /// On every listener: each takes what is asked of the controller.
    fn quorum_node(&self) -> Node {
        let image = self.shard.image();
        let endpoints = image.broker(self.settings.broker).map_or(&[][..], |broker| &broker.endpoints);
        let listeners = endpoints.iter().map(|endpoint| {
            Listener::default()
                .with_name(StrBytes::from_string(endpoint.listener.clone()))
                .with_host(StrBytes::from_string(endpoint.host.clone()))
                .with_port(endpoint.port)
        });
        Node::default().with_node_id(self.settings.broker.0.into()).with_listeners(listeners.collect())
    }
}

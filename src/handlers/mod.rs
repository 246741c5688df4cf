//! One file per Kafka API: decode, ask, answer.
//!
//! [`Broker`] is the shard's service: one exhaustive match from API to handler. A handler decodes its request (behind
//! the guard), asks [`authorize::allowed`], asks the shard's partitions, its image or the controller, and ends with
//! [`RequestContext::reply`], the one place that can throttle. Each file opens with versions, behaviour, KIP numbers
//! and what it leaves out.
//!
//! Invariants:
//! * A Kafka error is a value in a reply. Only a body that cannot be decoded, and a failed Produce that asked for no
//!   reply, close the connection.
//! * Nothing that a request says makes a handler panic or allocate more than a small multiple of its size.
//! * The image is never borrowed across an await.
//!
//! Never here: sockets and the order of replies (`server/`), where a partition lives (`partition/`).

mod add_offsets_to_txn;
mod add_partitions_to_txn;
mod alter_configs;
mod alter_partition_reassignments;
mod alter_replica_log_dirs;
mod api_versions;
pub mod authorize;
mod consumer_group_describe;
mod consumer_group_heartbeat;
mod context;
mod create_partitions;
mod create_topics;
mod delete_groups;
mod delete_records;
mod delete_topics;
mod describe_cluster;
mod describe_configs;
mod describe_groups;
mod describe_log_dirs;
mod describe_producers;
mod describe_quorum;
mod describe_topic_partitions;
mod describe_transactions;
mod elect_leaders;
mod end_txn;
mod endpoint;
mod fetch;
mod find_coordinator;
mod groups;
mod heartbeat;
mod incremental_alter_configs;
mod init_producer_id;
mod internal_topic;
mod join_group;
mod leave_group;
mod list_config_resources;
mod list_groups;
mod list_offsets;
mod list_partition_reassignments;
mod list_transactions;
mod loggers;
mod metadata;
mod offset_commit;
mod offset_delete;
mod offset_fetch;
mod offset_for_leader_epoch;
mod produce;
mod repack;
mod service;
mod sync_group;
mod tally;
mod throttle;
mod topic;
mod transactions;
mod txn_offset_commit;
mod update_features;
mod write_txn_markers;

use std::future::Future;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use futures_lite::future::or;

pub use context::{ConnectionContext, Principal, RequestContext};
pub use loggers::Loggers;
pub use service::{CloseReason, LocalFuture, Outcome, Reply, Request, Service, Stage};
pub use tally::Tally;
pub use throttle::Throttled;

use crate::config::Config;
use crate::metadata as control;
use crate::model::BrokerId;
use crate::partition::Shard;
use crate::protocol::api::Api;
use crate::reactor::{sleep, spawn};

/// The handlers of one shard; lives on it in an `Rc`.
pub struct Broker {
    shard: Rc<Shard>,
    settings: Settings,
    /// The node's, one for all shards.
    loggers: Arc<Loggers>,
    room: repack::Room,
}

/// What handlers take from the configuration.
struct Settings {
    broker: BrokerId,
    auto_create_topics_enable: bool,
    /// Kafka's fetch.max.bytes.
    fetch_bytes_max: usize,
    /// What the broker was started with, for DescribeConfigs.
    config: Config,
}

impl Broker {
    #[must_use]
    pub fn new(config: &Config, shard: Rc<Shard>, loggers: Arc<Loggers>) -> Broker {
        let settings = Settings {
            broker: config.node_id,
            auto_create_topics_enable: config.auto_create_topics_enable,
            fetch_bytes_max: config.fetch_max_bytes,
            config: config.clone(),
        };
        Broker { shard, settings, loggers, room: repack::Room::new() }
    }

    /// Asks the controller and waits for `patience` at most; it carries on when nobody waits any more.
    async fn control(
        self: &Rc<Self>,
        request: control::Request,
        patience: Duration,
    ) -> Option<control::Reply> {
        let shard = Rc::clone(&self.shard);
        let asked = spawn(async move { shard.control(request).await });
        or(async { Some(asked.await) }, async {
            sleep(patience).await;
            None
        })
        .await
    }
}

impl Service for Broker {
    fn call(self: Rc<Self>, request: Request) -> LocalFuture<Stage> {
        match request.header.api {
            Api::Produce => Box::pin(produce::start(self, request)),
            Api::Fetch => whole(fetch::handle(self, request)),
            Api::ListOffsets => whole(list_offsets::handle(self, request)),
            Api::Metadata => whole(metadata::handle(self, request)),
            Api::OffsetCommit => whole(offset_commit::handle(self, request)),
            Api::OffsetFetch => whole(offset_fetch::handle(self, request)),
            Api::FindCoordinator => whole(find_coordinator::handle(self, request)),
            Api::JoinGroup => whole(join_group::handle(self, request)),
            Api::Heartbeat => whole(heartbeat::handle(self, request)),
            Api::LeaveGroup => whole(leave_group::handle(self, request)),
            Api::SyncGroup => whole(sync_group::handle(self, request)),
            Api::DescribeGroups => whole(describe_groups::handle(self, request)),
            Api::ListGroups => whole(list_groups::handle(self, request)),
            Api::DeleteGroups => whole(delete_groups::handle(self, request)),
            Api::OffsetDelete => whole(offset_delete::handle(self, request)),
            Api::ConsumerGroupHeartbeat => whole(consumer_group_heartbeat::handle(self, request)),
            Api::ConsumerGroupDescribe => whole(consumer_group_describe::handle(self, request)),
            Api::ApiVersions => whole(api_versions::handle(self, request)),
            Api::CreateTopics => whole(create_topics::handle(self, request)),
            Api::DeleteTopics => whole(delete_topics::handle(self, request)),
            Api::DeleteRecords => whole(delete_records::handle(self, request)),
            Api::InitProducerId => whole(init_producer_id::handle(self, request)),
            Api::OffsetForLeaderEpoch => whole(offset_for_leader_epoch::handle(self, request)),
            Api::AddPartitionsToTxn => whole(add_partitions_to_txn::handle(self, request)),
            Api::AddOffsetsToTxn => whole(add_offsets_to_txn::handle(self, request)),
            Api::EndTxn => whole(end_txn::handle(self, request)),
            Api::WriteTxnMarkers => whole(write_txn_markers::handle(self, request)),
            Api::TxnOffsetCommit => whole(txn_offset_commit::handle(self, request)),
            Api::DescribeConfigs => whole(describe_configs::handle(self, request)),
            Api::AlterConfigs => whole(alter_configs::handle(self, request)),
            Api::AlterReplicaLogDirs => whole(alter_replica_log_dirs::handle(self, request)),
            Api::DescribeLogDirs => whole(describe_log_dirs::handle(self, request)),
            Api::CreatePartitions => whole(create_partitions::handle(self, request)),
            Api::ElectLeaders => whole(elect_leaders::handle(self, request)),
            Api::IncrementalAlterConfigs => whole(incremental_alter_configs::handle(self, request)),
            Api::AlterPartitionReassignments => whole(alter_partition_reassignments::handle(self, request)),
            Api::ListPartitionReassignments => whole(list_partition_reassignments::handle(self, request)),
            Api::DescribeQuorum => whole(describe_quorum::handle(self, request)),
            Api::UpdateFeatures => whole(update_features::handle(self, request)),
            Api::DescribeCluster => whole(describe_cluster::handle(self, request)),
            Api::DescribeProducers => whole(describe_producers::handle(self, request)),
            Api::DescribeTransactions => whole(describe_transactions::handle(self, request)),
            Api::ListTransactions => whole(list_transactions::handle(self, request)),
            Api::ListConfigResources => whole(list_config_resources::handle(self, request)),
            Api::DescribeTopicPartitions => whole(describe_topic_partitions::handle(self, request)),
        }
    }
}

/// A handler of one stage: whatever comes behind it waits for its end.
fn whole(handler: impl Future<Output = Result<Outcome, CloseReason>> + 'static) -> LocalFuture<Stage> {
    Box::pin(async move { Stage::Done(handler.await.unwrap_or_else(Outcome::Close)) })
}

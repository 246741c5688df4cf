//! What may be asked of the controller, and what it answers.

use super::record::ConfigResource;
use crate::model::{
    BrokerId, DirectoryId, ErrorCode, PartitionId, ProducerId, SecurityProtocol, ShardId, TopicId,
};

/// A change of the cluster's metadata. Answered when its records are committed, replayed on every shard of this
/// node, and (for new partitions) their logs are open.
#[derive(Clone, Debug)]
pub enum Request {
    CreateTopics {
        topics: Vec<CreateTopic>,
        validate_only: bool,
    },
    DeleteTopics {
        topics: Vec<TopicRef>,
    },
    CreatePartitions {
        topics: Vec<CreatePartitions>,
        validate_only: bool,
    },
    /// IncrementalAlterConfigs for topics, brokers and groups.
    AlterConfigs {
        resources: Vec<AlterConfigs>,
        validate_only: bool,
    },
    /// AlterConfigs for topics, brokers and groups.
    ReplaceConfigs {
        resources: Vec<ReplaceConfigs>,
        validate_only: bool,
    },
    /// `partitions: None`: all, of which those are answered that need an election.
    ElectLeaders {
        election: Election,
        partitions: Option<Vec<PartitionRef>>,
    },
    ReassignPartitions {
        partitions: Vec<Reassignment>,
        may_change_replication_factor: bool,
    },
    UpdateFeatures {
        updates: Vec<FeatureUpdate>,
        validate_only: bool,
    },
    /// A block of producer ids for one shard, never given out twice.
    AllocateProducerIds {
        broker: BrokerId,
        shard: ShardId,
    },
    /// The broker made these replicas' folders: from now on a missing folder is a loss.
    AssignReplicas {
        broker: BrokerId,
        replicas: Vec<AssignedReplica>,
    },
    /// A start of leadership on this broker (restart included) raises the epochs of the partitions it leads.
    RegisterBroker {
        broker: BrokerId,
        endpoints: Vec<Endpoint>,
        rack: Option<String>,
        incarnation: u128,
    },
}

#[derive(Clone, Debug)]
pub struct CreateTopic {
    pub name: String,
    /// `None`: the broker's default.
    pub partitions: Option<i32>,
    /// `None`: the broker's default. Raw, so that 0 and -2 are refused with Kafka's error.
    pub replication_factor: Option<i16>,
    /// Manual assignment: (partition index, brokers). Empty: the controller assigns.
    pub assignments: Vec<(i32, Vec<BrokerId>)>,
    pub configs: Vec<(String, Option<String>)>,
}

/// More partitions for a topic.
#[derive(Clone, Debug)]
pub struct CreatePartitions {
    pub topic: String,
    /// How many there are to be in all.
    pub count: i32,
    /// The brokers of each new partition, in order; `None`: the controller assigns.
    pub assignments: Option<Vec<Vec<BrokerId>>>,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum TopicRef {
    Name(String),
    Id(TopicId),
}

#[derive(Clone, Debug)]
pub struct AlterConfigs {
    pub resource: ConfigResource,
    pub changes: Vec<ConfigChange>,
}

#[derive(Clone, Debug)]
pub struct ConfigChange {
    pub key: String,
    pub operation: ConfigOperation,
    pub value: Option<String>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ConfigOperation {
    Set,
    Delete,
    Append,
    Subtract,
}

/// All the overrides the resource is to have; what it has beside them goes.
#[derive(Clone, Debug)]
pub struct ReplaceConfigs {
    pub resource: ConfigResource,
    pub configs: Vec<(String, Option<String>)>,
}

/// Kafka's `ElectionType`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Election {
    /// Of the first replica, if it is in sync.
    Preferred,
    /// Of whoever is alive, where nobody leads.
    Unclean,
}

/// A partition as a client names it; raw, for there need not be one.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PartitionRef {
    pub topic: String,
    pub index: i32,
}

#[derive(Clone, Debug)]
pub struct Reassignment {
    pub partition: PartitionRef,
    /// `None`: cancel what is under way.
    pub replicas: Option<Vec<BrokerId>>,
}

/// A feature's finalized level, as it is to be.
#[derive(Clone, Debug)]
pub struct FeatureUpdate {
    pub feature: String,
    pub level: i16,
    /// `None`: one that is unknown here.
    pub upgrade: Option<UpgradeType>,
}

/// Kafka's `FeatureUpdate.UpgradeType`: where a level may go.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum UpgradeType {
    Upgrade,
    SafeDowngrade,
    UnsafeDowngrade,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct AssignedReplica {
    pub partition: PartitionId,
    pub directory: DirectoryId,
    pub shard: ShardId,
}

/// Where clients reach a broker on one of its listeners.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Endpoint {
    pub listener: String,
    pub host: String,
    pub port: u16,
    pub protocol: SecurityProtocol,
    /// The port of each shard, where each has one of its own; else empty.
    pub shard_ports: Vec<u16>,
}

#[derive(Clone, Debug)]
pub enum Reply {
    /// In the order of the request.
    Topics(Vec<TopicResult>),
    /// In the order of the request.
    Configs(Vec<ConfigResult>),
    /// In the order of the request.
    Partitions(Vec<PartitionResult>),
    /// All levels are as asked for, or none has changed.
    Features(Result<(), (ErrorCode, String)>),
    ProducerIds {
        first: ProducerId,
        count: i64,
    },
    Done,
    /// The whole request failed (the metadata log cannot be written, or the process is stopping).
    Failed(ErrorCode),
}

/// What became of one topic of a request.
#[derive(Clone, Debug)]
pub struct TopicResult {
    pub name: String,
    pub id: TopicId,
    pub error: ErrorCode,
    /// For the operator: what was wrong and what is allowed.
    pub message: Option<String>,
    pub partitions: i32,
    pub replication_factor: i16,
}

/// What became of the configs of one resource of a request.
#[derive(Clone, Debug)]
pub struct ConfigResult {
    pub resource: ConfigResource,
    pub error: ErrorCode,
    /// For the operator: what was wrong and what is allowed.
    pub message: Option<String>,
}

/// What became of one partition of a request.
#[derive(Clone, Debug)]
pub struct PartitionResult {
    pub partition: PartitionRef,
    pub error: ErrorCode,
    /// For the operator: what was wrong and what is allowed.
    pub message: Option<String>,
}

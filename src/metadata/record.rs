//! The metadata log's records: one per change, with Kafka's noun for each.
//!
//! On disk a record is `type u16 | version u16 | length u32 | fields`, big-endian. The length covers the fields, so
//! that an older reader skips what a newer version appended to them; within a version nothing is optional and nothing
//! may be left over. A type this version does not know is an error: to skip it would be to forget a decision.

use crate::model::{
    BrokerEpoch, BrokerId, DirectoryId, LeaderEpoch, PartitionEpoch, PartitionId, ProducerId, ShardId,
    TopicId,
};

use super::Endpoint;

/// One change of the cluster's metadata.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Record {
    /// The finalized level of a feature; decides which record versions are written.
    FeatureLevel {
        name: String,
        level: i16,
    },
    RegisterBroker(Registration),
    Topic {
        name: String,
        id: TopicId,
    },
    Partition(NewPartition),
    PartitionChange(PartitionChange),
    /// The topic with its partitions, configs and shard placements.
    RemoveTopic {
        id: TopicId,
    },
    /// `value: None` deletes the override.
    Config {
        resource: ConfigResource,
        key: String,
        value: Option<String>,
    },
    /// Ids below `next` have been given out.
    ProducerIds {
        broker: BrokerId,
        broker_epoch: BrokerEpoch,
        next: ProducerId,
    },
    /// Which shard of `broker` carries its replica of `partition`.
    ReplicaShard {
        broker: BrokerId,
        partition: PartitionId,
        shard: ShardId,
    },
}

/// A broker as it registered at its last start.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Registration {
    pub broker: BrokerId,
    /// Random at every start of the process.
    pub incarnation: u128,
    pub epoch: BrokerEpoch,
    pub rack: Option<String>,
    pub endpoints: Vec<Endpoint>,
    pub features: Vec<SupportedFeature>,
    /// A fenced broker leads nothing and is given no new replica.
    pub fenced: bool,
}

/// The levels of a feature a broker can run at, both inclusive.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SupportedFeature {
    pub name: String,
    pub min: i16,
    pub max: i16,
}

/// A partition at its creation.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct NewPartition {
    pub partition: PartitionId,
    pub replicas: Vec<BrokerId>,
    /// The log directory of each replica, in the order of `replicas`.
    pub directories: Vec<DirectoryId>,
    pub isr: Vec<BrokerId>,
    pub elr: Vec<BrokerId>,
    pub last_known_elr: Vec<BrokerId>,
    pub adding: Vec<BrokerId>,
    pub removing: Vec<BrokerId>,
    /// [`BrokerId::NONE`] while nobody can lead.
    pub leader: BrokerId,
    pub leader_epoch: LeaderEpoch,
    pub partition_epoch: PartitionEpoch,
}

/// What changed of a partition; `None` leaves as it is.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct PartitionChange {
    pub partition: PartitionId,
    pub partition_epoch: PartitionEpoch,
    pub leader: Option<BrokerId>,
    pub leader_epoch: Option<LeaderEpoch>,
    pub replicas: Option<Vec<BrokerId>>,
    pub directories: Option<Vec<DirectoryId>>,
    pub isr: Option<Vec<BrokerId>>,
    pub elr: Option<Vec<BrokerId>>,
    pub last_known_elr: Option<Vec<BrokerId>>,
    pub adding: Option<Vec<BrokerId>>,
    pub removing: Option<Vec<BrokerId>>,
}

/// What a config belongs to.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ConfigResource {
    pub kind: ResourceKind,
    /// The topic's name, or the broker's id in decimal (empty: every broker).
    pub name: String,
}

/// Kafka's `ConfigResource.Type`; the discriminant is Kafka's id.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[repr(i8)]
pub enum ResourceKind {
    Topic = 2,
    Broker = 4,
}

/// Why bytes are not a record.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum DecodeError {
    /// A newer corelane wrote it; this one cannot run on this log.
    UnknownType(u16),
    /// It ends early, has bytes left over, or a field that no version writes.
    Malformed,
}

impl Record {
    /// Appends the record to `out`.
    pub fn encode(&self, out: &mut Vec<u8>) {
        let _ = out;
        unimplemented!()
    }

    /// Takes one record off the front of `input`. On an error `input` is left as it was.
    pub fn decode(input: &mut &[u8]) -> Result<Record, DecodeError> {
        let _ = input;
        unimplemented!()
    }
}

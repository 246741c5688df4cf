//! The metadata log's records: one per change, with Kafka's noun for each.
//!
//! On disk a record is `type u16 | version u16 | length u32 | fields`, big-endian. The length covers the fields, so
//! that an older reader skips what a newer version appended to them; within a version nothing is optional and nothing
//! may be left over. A type this version does not know is an error: to skip it would be to forget a decision.

use crate::model::{
    BrokerEpoch, BrokerId, DirectoryId, LeaderEpoch, PartitionEpoch, PartitionId, ProducerId,
    SecurityProtocol, ShardId, TopicId,
};

use super::Endpoint;
use super::codec::{Field, fields};

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
    /// The topic's name, the broker's id in decimal (empty: every broker), or the group's id.
    pub name: String,
}

/// Kafka's `ConfigResource.Type`; the discriminant is Kafka's id.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[repr(i8)]
pub enum ResourceKind {
    Topic = 2,
    Broker = 4,
    Group = 32,
}

/// Why bytes are not a record.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum DecodeError {
    /// A newer corelane wrote it; this one cannot run on this log.
    UnknownType(u16),
    /// It ends early, has bytes left over, or a field that no version writes.
    Malformed,
}

/// The feature whose finalized level says which record versions are written.
pub const METADATA_VERSION: &str = "corelane.metadata.version";
/// The highest level this version writes and reads.
pub const METADATA_VERSION_LEVEL: i16 = 1;

/// Type, version, length.
const HEADER_BYTES: usize = 8;

/// The version every record is written in at level 1, but for the registration of a broker whose shards have ports: an older
/// reader passes over these, which loses nothing, since a broker registers at each start.
const VERSION: u16 = 0;
const VERSION_WITH_SHARD_PORTS: u16 = 1;

/// Kafka's numbers where Kafka has the record; the fields are our own.
mod kind {
    pub const TOPIC: u16 = 2;
    pub const PARTITION: u16 = 3;
    pub const CONFIG: u16 = 4;
    pub const PARTITION_CHANGE: u16 = 5;
    pub const REMOVE_TOPIC: u16 = 9;
    pub const FEATURE_LEVEL: u16 = 12;
    pub const PRODUCER_IDS: u16 = 15;
    pub const REGISTER_BROKER: u16 = 27;
    pub const REPLICA_SHARD: u16 = 1000;

    pub const ALL: [u16; 9] = [
        TOPIC,
        PARTITION,
        CONFIG,
        PARTITION_CHANGE,
        REMOVE_TOPIC,
        FEATURE_LEVEL,
        PRODUCER_IDS,
        REGISTER_BROKER,
        REPLICA_SHARD,
    ];
}

/// The newest version there is.
fn newest(kind: u16) -> u16 {
    if kind == kind::REGISTER_BROKER { VERSION_WITH_SHARD_PORTS } else { VERSION }
}

impl Record {
    fn version(&self) -> u16 {
        match self {
            Record::RegisterBroker(registration) if registration.has_shard_ports() => {
                VERSION_WITH_SHARD_PORTS
            }
            _ => VERSION,
        }
    }

    fn kind(&self) -> u16 {
        match self {
            Record::FeatureLevel { .. } => kind::FEATURE_LEVEL,
            Record::RegisterBroker(_) => kind::REGISTER_BROKER,
            Record::Topic { .. } => kind::TOPIC,
            Record::Partition(_) => kind::PARTITION,
            Record::PartitionChange(_) => kind::PARTITION_CHANGE,
            Record::RemoveTopic { .. } => kind::REMOVE_TOPIC,
            Record::Config { .. } => kind::CONFIG,
            Record::ProducerIds { .. } => kind::PRODUCER_IDS,
            Record::ReplicaShard { .. } => kind::REPLICA_SHARD,
        }
    }

    /// Appends the record to `out`.
    pub fn encode(&self, out: &mut Vec<u8>) {
        self.kind().put(out);
        self.version().put(out);
        let length_at = out.len();
        0u32.put(out);
        match self {
            Record::FeatureLevel { name, level } => {
                name.put(out);
                level.put(out);
            }
            Record::RegisterBroker(registration) => {
                registration.put(out);
                if registration.has_shard_ports() {
                    let ports = registration.endpoints.iter().map(|endpoint| endpoint.shard_ports.clone());
                    ports.collect::<Vec<_>>().put(out);
                }
            }
            Record::Topic { name, id } => {
                name.put(out);
                id.put(out);
            }
            Record::Partition(partition) => partition.put(out),
            Record::PartitionChange(change) => change.put(out),
            Record::RemoveTopic { id } => id.put(out),
            Record::Config { resource, key, value } => {
                resource.put(out);
                key.put(out);
                value.put(out);
            }
            Record::ProducerIds { broker, broker_epoch, next } => {
                broker.put(out);
                broker_epoch.put(out);
                next.put(out);
            }
            Record::ReplicaShard { broker, partition, shard } => {
                broker.put(out);
                partition.put(out);
                shard.put(out);
            }
        }
        let length = u32::try_from(out.len() - length_at - 4).expect("a record is far below 4 GiB");
        out[length_at..length_at + 4].copy_from_slice(&length.to_be_bytes());
    }

    /// Takes one record off the front of `input`. On an error `input` is left as it was.
    pub fn decode(input: &mut &[u8]) -> Result<Record, DecodeError> {
        let mut rest = *input;
        let mut header = || Some((u16::take(&mut rest)?, u16::take(&mut rest)?, u32::take(&mut rest)?));
        let (kind, version, length) = header().ok_or(DecodeError::Malformed)?;
        let length = usize::try_from(length).map_err(|_| DecodeError::Malformed)?;
        let (mut fields, rest) = rest.split_at_checked(length).ok_or(DecodeError::Malformed)?;
        if !kind::ALL.contains(&kind) {
            return Err(DecodeError::UnknownType(kind));
        }
        let record = Self::take_fields(kind, version, &mut fields).ok_or(DecodeError::Malformed)?;
        if version <= newest(kind) && !fields.is_empty() {
            return Err(DecodeError::Malformed);
        }
        *input = rest;
        Ok(record)
    }

    fn take_fields(kind: u16, version: u16, input: &mut &[u8]) -> Option<Record> {
        Some(match kind {
            kind::FEATURE_LEVEL => {
                Record::FeatureLevel { name: Field::take(input)?, level: Field::take(input)? }
            }
            kind::REGISTER_BROKER => {
                let mut registration = Registration::take(input)?;
                if version >= VERSION_WITH_SHARD_PORTS {
                    registration.take_shard_ports(input)?;
                }
                Record::RegisterBroker(registration)
            }
            kind::TOPIC => Record::Topic { name: Field::take(input)?, id: Field::take(input)? },
            kind::PARTITION => Record::Partition(Field::take(input)?),
            kind::PARTITION_CHANGE => Record::PartitionChange(Field::take(input)?),
            kind::REMOVE_TOPIC => Record::RemoveTopic { id: Field::take(input)? },
            kind::CONFIG => Record::Config {
                resource: Field::take(input)?,
                key: Field::take(input)?,
                value: Field::take(input)?,
            },
            kind::PRODUCER_IDS => Record::ProducerIds {
                broker: Field::take(input)?,
                broker_epoch: Field::take(input)?,
                next: Field::take(input)?,
            },
            kind::REPLICA_SHARD => Record::ReplicaShard {
                broker: Field::take(input)?,
                partition: Field::take(input)?,
                shard: Field::take(input)?,
            },
            _ => return None,
        })
    }
}

/// Takes the bytes of one record off the front of `input`, whatever its type; `None` if it ends early.
pub(super) fn take_encoded<'a>(input: &mut &'a [u8]) -> Option<&'a [u8]> {
    let mut header = *input;
    u32::take(&mut header)?;
    let length = usize::try_from(u32::take(&mut header)?).ok()?;
    let (record, rest) = input.split_at_checked(length.checked_add(HEADER_BYTES)?)?;
    *input = rest;
    Some(record)
}

impl Registration {
    fn has_shard_ports(&self) -> bool {
        self.endpoints.iter().any(|endpoint| !endpoint.shard_ports.is_empty())
    }

    /// Those of each endpoint, in their order.
    fn take_shard_ports(&mut self, input: &mut &[u8]) -> Option<()> {
        let ports = Vec::<Vec<u16>>::take(input)?;
        if ports.len() != self.endpoints.len() {
            return None;
        }
        for (endpoint, ports) in self.endpoints.iter_mut().zip(ports) {
            endpoint.shard_ports = ports;
        }
        Some(())
    }
}

impl ConfigResource {
    #[must_use]
    pub fn topic(name: &str) -> ConfigResource {
        ConfigResource { kind: ResourceKind::Topic, name: name.to_owned() }
    }

    /// The settings of one broker; `None`: what every broker has.
    #[must_use]
    pub fn broker(id: Option<BrokerId>) -> ConfigResource {
        let name = id.map_or_else(String::new, |id| id.0.to_string());
        ConfigResource { kind: ResourceKind::Broker, name }
    }

    #[must_use]
    pub fn group(id: &str) -> ConfigResource {
        ConfigResource { kind: ResourceKind::Group, name: id.to_owned() }
    }
}

impl std::fmt::Display for DecodeError {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            DecodeError::UnknownType(kind) => {
                write!(f, "metadata record of unknown type {kind}: written by a newer version")
            }
            DecodeError::Malformed => f.write_str("malformed metadata record"),
        }
    }
}

impl std::error::Error for DecodeError {}

impl Field for ResourceKind {
    const BYTES_MIN: usize = 1;

    fn put(&self, out: &mut Vec<u8>) {
        (*self as u8).put(out);
    }

    fn take(input: &mut &[u8]) -> Option<Self> {
        match u8::take(input)? {
            2 => Some(ResourceKind::Topic),
            4 => Some(ResourceKind::Broker),
            32 => Some(ResourceKind::Group),
            _ => None,
        }
    }
}

fields!(ConfigResource { kind: ResourceKind, name: String });
/// Without the shards' ports, which stand behind the registration.
impl Field for Endpoint {
    const BYTES_MIN: usize = String::BYTES_MIN * 2 + u16::BYTES_MIN + SecurityProtocol::BYTES_MIN;

    fn put(&self, out: &mut Vec<u8>) {
        self.listener.put(out);
        self.host.put(out);
        self.port.put(out);
        self.protocol.put(out);
    }

    fn take(input: &mut &[u8]) -> Option<Self> {
        Some(Endpoint {
            listener: Field::take(input)?,
            host: Field::take(input)?,
            port: Field::take(input)?,
            protocol: Field::take(input)?,
            shard_ports: Vec::new(),
        })
    }
}

fields!(SupportedFeature { name: String, min: i16, max: i16 });
fields!(Registration {
    broker: BrokerId,
    incarnation: u128,
    epoch: BrokerEpoch,
    rack: Option<String>,
    endpoints: Vec<Endpoint>,
    features: Vec<SupportedFeature>,
    fenced: bool,
});
fields!(NewPartition {
    partition: PartitionId,
    replicas: Vec<BrokerId>,
    directories: Vec<DirectoryId>,
    isr: Vec<BrokerId>,
    elr: Vec<BrokerId>,
    last_known_elr: Vec<BrokerId>,
    adding: Vec<BrokerId>,
    removing: Vec<BrokerId>,
    leader: BrokerId,
    leader_epoch: LeaderEpoch,
    partition_epoch: PartitionEpoch,
});
fields!(PartitionChange {
    partition: PartitionId,
    partition_epoch: PartitionEpoch,
    leader: Option<BrokerId>,
    leader_epoch: Option<LeaderEpoch>,
    replicas: Option<Vec<BrokerId>>,
    directories: Option<Vec<DirectoryId>>,
    isr: Option<Vec<BrokerId>>,
    elr: Option<Vec<BrokerId>>,
    last_known_elr: Option<Vec<BrokerId>>,
    adding: Option<Vec<BrokerId>>,
    removing: Option<Vec<BrokerId>>,
});

//! Who and what: brokers, shards, topics, partitions, producers, log directories.

use std::fmt;

/// Kafka's `node.id`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct BrokerId(pub i32);

impl BrokerId {
    /// No broker: what a partition without a leader carries.
    pub const NONE: BrokerId = BrokerId(-1);
}

impl fmt::Display for BrokerId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// Counts the registrations of the cluster's brokers; a broker that speaks with an older one is fenced.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct BrokerEpoch(pub i64);

impl BrokerEpoch {
    pub const NONE: BrokerEpoch = BrokerEpoch(-1);
}

/// Counts the changes of a partition's metadata record; AlterPartition is fenced by it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct PartitionEpoch(pub i32);

/// A shard is one pinned thread with its own executor; numbered from 0 on each node.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ShardId(pub u16);

impl ShardId {
    /// Shard 0 also hosts the node's own loops: metadata log and controller.
    pub const ZERO: ShardId = ShardId(0);

    #[must_use]
    pub fn index(self) -> usize {
        usize::from(self.0)
    }
}

/// A broker's id as clients see it. Where its shards have ports of their own, each of them is a node to clients: the shard in
/// the millions, the broker below them.
///
/// Broker 7's shard 0 is node 7, its shard 2 is node 2000007.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct NodeId(pub i32);

impl NodeId {
    /// A broker whose shards are nodes has an id below this.
    pub const BROKERS_MAX: i32 = 1_000_000;
    /// So many shards of any such broker have an id.
    pub const SHARDS_MAX: usize = (i32::MAX / NodeId::BROKERS_MAX) as usize;

    /// A broker that is one node, and a broker's shard 0.
    #[must_use]
    pub fn of(broker: BrokerId) -> NodeId {
        NodeId(broker.0)
    }

    /// `None`: there is no id for it.
    #[must_use]
    pub fn of_shard(broker: BrokerId, shard: ShardId) -> Option<NodeId> {
        let fits = (0..NodeId::BROKERS_MAX).contains(&broker.0) && shard.index() < NodeId::SHARDS_MAX;
        fits.then(|| NodeId(i32::from(shard.0) * NodeId::BROKERS_MAX + broker.0))
    }

    /// The broker and its shard, if this is the id of a shard; what else it may be, only who knows the brokers can tell.
    #[must_use]
    pub fn parts(self) -> Option<(BrokerId, ShardId)> {
        let shard = u16::try_from(self.0.div_euclid(NodeId::BROKERS_MAX)).ok()?;
        Some((BrokerId(self.0 % NodeId::BROKERS_MAX), ShardId(shard)))
    }
}

impl fmt::Display for NodeId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// A topic's identity. A topic that is deleted and created again under its old name gets a new one.
#[derive(Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct TopicId(pub u128);

/// A log directory's identity, from its `meta.properties`. Kafka reserves the values below 100.
#[derive(Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct DirectoryId(pub u128);

impl TopicId {
    pub const ZERO: TopicId = TopicId(0);
}

impl DirectoryId {
    /// The replica has no directory yet: it may be created.
    pub const UNASSIGNED: DirectoryId = DirectoryId(0);
}

macro_rules! kafka_uuid {
    ($name:ident) => {
        impl fmt::Display for $name {
            /// Kafka's form: the 16 bytes in URL-safe base64 without padding, 22 characters.
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                let text = base64_uuid(self.0);
                f.write_str(std::str::from_utf8(&text).expect("base64 is ASCII"))
            }
        }

        impl fmt::Debug for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                fmt::Display::fmt(self, f)
            }
        }

        impl std::str::FromStr for $name {
            type Err = &'static str;

            fn from_str(text: &str) -> Result<Self, Self::Err> {
                parse_base64_uuid(text).map($name).ok_or("not a Kafka id: 22 characters of URL-safe base64")
            }
        }
    };
}

kafka_uuid!(TopicId);
kafka_uuid!(DirectoryId);

const BASE64: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_";

/// 128 bits, then four zero bits, as 22 six-bit digits from the top.
fn base64_uuid(value: u128) -> [u8; 22] {
    let mut text = [0; 22];
    for (digit, out) in text.iter_mut().enumerate() {
        let bits = if digit < 21 { (value >> (122 - 6 * digit)) & 63 } else { (value << 4) & 63 };
        *out = BASE64[bits as usize];
    }
    text
}

fn parse_base64_uuid(text: &str) -> Option<u128> {
    if text.len() != 22 {
        return None;
    }
    let mut value: u128 = 0;
    for (digit, byte) in text.bytes().enumerate() {
        let bits = BASE64.iter().position(|&b| b == byte)? as u128;
        value = if digit < 21 { value << 6 | bits } else { value << 2 | bits >> 4 };
    }
    Some(value)
}

/// One partition of one topic: the key of every table on the hot path.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct PartitionId {
    pub topic: TopicId,
    pub index: i32,
}

/// Names an idempotent producer; -1 in a batch means "not idempotent".
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ProducerId(pub i64);

impl ProducerId {
    pub const NONE: ProducerId = ProducerId(-1);
}

/// Counts the incarnations of a producer; a lower one is fenced.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ProducerEpoch(pub i16);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_nodes_id_says_which_shard_of_which_broker() {
        for (broker, shard, id) in
            [(1, 0, 1), (1, 1, 1_000_001), (0, 3, 3_000_000), (999_999, 2146, 2_146_999_999)]
        {
            let (broker, shard) = (BrokerId(broker), ShardId(shard));
            assert_eq!(NodeId::of_shard(broker, shard), Some(NodeId(id)));
            assert_eq!(NodeId(id).parts(), Some((broker, shard)));
        }
        for (broker, shard) in [(1_000_000, 0), (-1, 0), (1, 2147), (1, u16::MAX)] {
            assert_eq!(NodeId::of_shard(BrokerId(broker), ShardId(shard)), None, "{broker} {shard}");
        }
        for id in [-1, -1_000_001, i32::MIN] {
            assert_eq!(NodeId(id).parts(), None, "{id}");
        }
        assert_eq!(NodeId(i32::MAX).parts(), Some((BrokerId(483_647), ShardId(2147))));
        assert_eq!(
            NodeId::of(BrokerId(7_000_007)),
            NodeId(7_000_007),
            "a broker that is one node has any id"
        );
    }

    #[test]
    fn kafka_ids_print_and_parse() {
        for value in [0, 1, u128::MAX, 0x0123_4567_89ab_cdef_fedc_ba98_7654_3210] {
            let text = TopicId(value).to_string();
            assert_eq!(text.len(), 22);
            assert_eq!(text.parse::<TopicId>().unwrap(), TopicId(value));
        }
        // Kafka's Uuid.ONE_UUID and METADATA_TOPIC_ID print like this
        assert_eq!(TopicId(1).to_string(), "AAAAAAAAAAAAAAAAAAAAAQ");
        assert!("AAAA".parse::<TopicId>().is_err());
        assert!("!AAAAAAAAAAAAAAAAAAAAQ".parse::<TopicId>().is_err());
    }
}

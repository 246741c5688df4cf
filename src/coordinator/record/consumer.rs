//! The values of a consumer group's records (KIP-848): its epochs, its members, and what they are to have and have.

use bytes::Bytes;

use super::Value;
use super::codec::{Field, Form, put_tagged, tagged, take_tagged};
use crate::model::TopicId;

/// ConsumerGroupMetadataValue: the group's epoch.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct GroupEpochValue {
    pub epoch: i32,
    /// Of the topics that are subscribed to; 0: not known.
    pub metadata_hash: i64,
}

/// ConsumerGroupMemberMetadataValue: what a member has said of itself.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct MemberValue {
    pub instance: Option<String>,
    pub rack: Option<String>,
    pub client_id: String,
    pub client_host: String,
    pub topics: Vec<String>,
    pub regex: Option<String>,
    /// -1: not known.
    pub rebalance_timeout_ms: i32,
    pub assignor: Option<String>,
    /// Of a member that uses the classic protocol.
    pub classic: Option<ClassicSupport>,
}

/// What a member of the classic protocol supports.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ClassicSupport {
    pub session_timeout_ms: i32,
    pub protocols: Vec<ClassicProtocol>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ClassicProtocol {
    pub name: String,
    pub metadata: Bytes,
}

/// ConsumerGroupTargetAssignmentMetadataValue: for which of the group's epochs the target was made.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TargetEpochValue {
    pub epoch: i32,
    /// When it was made, milliseconds since 1970; 0: not known.
    pub timestamp: i64,
}

/// Partitions of one topic.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TopicPartitions {
    pub topic: TopicId,
    pub partitions: Vec<i32>,
}

/// ConsumerGroupCurrentMemberAssignmentValue: what a member has, and has to give back.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CurrentAssignmentValue {
    pub epoch: i32,
    pub previous_epoch: i32,
    /// Kafka's MemberState.
    pub state: i8,
    pub assigned: Vec<EpochPartitions>,
    pub revoking: Vec<EpochPartitions>,
}

/// Partitions of one topic and since which epoch the member has each.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct EpochPartitions {
    pub topic: TopicId,
    pub partitions: Vec<i32>,
    /// As many as partitions; `None`: not known.
    pub epochs: Option<Vec<i32>>,
}

/// ConsumerGroupRegularExpressionValue: which topics a regular expression meant when it was looked at last.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RegexValue {
    pub topics: Vec<String>,
    /// Of the cluster's metadata.
    pub version: i64,
    /// Milliseconds since 1970.
    pub timestamp: i64,
}

/// All of them have a version 0 only, a flexible one, and grow by tagged fields.
macro_rules! versioned {
    ($($name:ty),*) => {$(
        impl Value for $name {
            const VERSION_MAX: i16 = 0;
            const FLEXIBLE_FROM: i16 = 0;

            fn version(&self) -> i16 {
                0
            }

            fn put(&self, form: Form, out: &mut Vec<u8>) {
                Field::put(self, form, out);
            }

            fn take(_: i16, form: Form, input: &mut &[u8]) -> Option<Self> {
                Field::take(form, input)
            }
        }
    )*};
}

versioned!(GroupEpochValue, MemberValue, TargetEpochValue, CurrentAssignmentValue, RegexValue);

impl Value for Vec<TopicPartitions> {
    const VERSION_MAX: i16 = 0;
    const FLEXIBLE_FROM: i16 = 0;

    fn version(&self) -> i16 {
        0
    }

    fn put(&self, form: Form, out: &mut Vec<u8>) {
        Field::put(self, form, out);
        put_tagged(&[], form, out);
    }

    fn take(_: i16, form: Form, input: &mut &[u8]) -> Option<Self> {
        let value = Field::take(form, input)?;
        take_tagged(form, input, |_, _| Some(()))?;
        Some(value)
    }
}

/// A struct of fields that are always there, in this order, without tagged ones.
macro_rules! fields {
    ($name:ident { $($field:ident),* }) => {
        impl Field for $name {
            fn put(&self, form: Form, out: &mut Vec<u8>) {
                $(self.$field.put(form, out);)*
                put_tagged(&[], form, out);
            }

            fn take(form: Form, input: &mut &[u8]) -> Option<Self> {
                let value = $name { $($field: Field::take(form, input)?,)* };
                take_tagged(form, input, |_, _| Some(()))?;
                Some(value)
            }
        }
    };
}

fields!(ClassicProtocol { name, metadata });
fields!(ClassicSupport { session_timeout_ms, protocols });
fields!(TopicPartitions { topic, partitions });
fields!(CurrentAssignmentValue { epoch, previous_epoch, state, assigned, revoking });
fields!(RegexValue { topics, version, timestamp });

impl Field for GroupEpochValue {
    fn put(&self, form: Form, out: &mut Vec<u8>) {
        self.epoch.put(form, out);
        let hash = (self.metadata_hash != 0).then(|| tagged(0, &self.metadata_hash));
        put_tagged(hash.as_slice(), form, out);
    }

    fn take(form: Form, input: &mut &[u8]) -> Option<Self> {
        let mut value = GroupEpochValue { epoch: i32::take(form, input)?, metadata_hash: 0 };
        take_tagged(form, input, |tag, field| {
            if tag == 0 {
                value.metadata_hash = i64::take(form, field)?;
            }
            Some(())
        })?;
        Some(value)
    }
}

impl Field for TargetEpochValue {
    fn put(&self, form: Form, out: &mut Vec<u8>) {
        self.epoch.put(form, out);
        let timestamp = (self.timestamp != 0).then(|| tagged(0, &self.timestamp));
        put_tagged(timestamp.as_slice(), form, out);
    }

    fn take(form: Form, input: &mut &[u8]) -> Option<Self> {
        let mut value = TargetEpochValue { epoch: i32::take(form, input)?, timestamp: 0 };
        take_tagged(form, input, |tag, field| {
            if tag == 0 {
                value.timestamp = i64::take(form, field)?;
            }
            Some(())
        })?;
        Some(value)
    }
}

impl Field for EpochPartitions {
    fn put(&self, form: Form, out: &mut Vec<u8>) {
        self.topic.put(form, out);
        self.partitions.put(form, out);
        let epochs = self.epochs.is_some().then(|| tagged(0, &self.epochs));
        put_tagged(epochs.as_slice(), form, out);
    }

    fn take(form: Form, input: &mut &[u8]) -> Option<Self> {
        let (topic, partitions): (_, Vec<i32>) = (Field::take(form, input)?, Field::take(form, input)?);
        let mut value = EpochPartitions { topic, partitions, epochs: None };
        take_tagged(form, input, |tag, field| {
            if tag == 0 {
                value.epochs = Field::take(form, field)?;
            }
            Some(())
        })?;
        let is_whole = value.epochs.as_ref().is_none_or(|epochs| epochs.len() == value.partitions.len());
        is_whole.then_some(value)
    }
}

impl Field for MemberValue {
    fn put(&self, form: Form, out: &mut Vec<u8>) {
        self.instance.put(form, out);
        self.rack.put(form, out);
        self.client_id.put(form, out);
        self.client_host.put(form, out);
        self.topics.put(form, out);
        self.regex.put(form, out);
        self.rebalance_timeout_ms.put(form, out);
        self.assignor.put(form, out);
        let classic = self.classic.is_some().then(|| tagged(0, &self.classic));
        put_tagged(classic.as_slice(), form, out);
    }

    fn take(form: Form, input: &mut &[u8]) -> Option<Self> {
        let mut value = MemberValue {
            instance: Field::take(form, input)?,
            rack: Field::take(form, input)?,
            client_id: Field::take(form, input)?,
            client_host: Field::take(form, input)?,
            topics: Field::take(form, input)?,
            regex: Field::take(form, input)?,
            rebalance_timeout_ms: Field::take(form, input)?,
            assignor: Field::take(form, input)?,
            classic: None,
        };
        take_tagged(form, input, |tag, field| {
            if tag == 0 {
                value.classic = Field::take(form, field)?;
            }
            Some(())
        })?;
        Some(value)
    }
}

/// A struct that may be null: a byte that says so is in front.
impl Field for Option<ClassicSupport> {
    fn put(&self, form: Form, out: &mut Vec<u8>) {
        let is_there: i8 = if self.is_some() { 1 } else { -1 };
        is_there.put(form, out);
        if let Some(value) = self {
            value.put(form, out);
        }
    }

    fn take(form: Form, input: &mut &[u8]) -> Option<Self> {
        if i8::take(form, input)? < 0 { Some(None) } else { Field::take(form, input).map(Some) }
    }
}

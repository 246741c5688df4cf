//! What is written to `__consumer_offsets` ([`Record`]) and `__transaction_state` ([`TransactionRecord`]): Kafka's own
//! records, so that its tools and monitors read the topics, and a broker can be moved to with its data.
//!
//! A record's key begins with its type, its value with its version; a null value removes what the key names. Written in
//! the versions that Kafka 4.4 writes, read in all that it reads. Formats: the message schemas of Kafka's
//! `group-coordinator` and `transaction-coordinator`.

mod classic;
mod codec;
mod consumer;
mod embedded;
mod offset;
#[cfg(test)]
mod tests;
mod transaction;

pub use classic::{ClassicGroupValue, ClassicMemberValue};
pub use consumer::{
    ClassicProtocol, ClassicSupport, CurrentAssignmentValue, EpochPartitions, GroupEpochValue, MemberValue,
    RegexValue, TargetEpochValue, TopicPartitions,
};
pub use embedded::{Assignment, NamedPartitions, Subscription};
pub use offset::OffsetValue;
pub use transaction::{TransactionPartitions, TransactionRecord, TransactionState, TransactionValue};

use bytes::Bytes;
use codec::{Field, Form};

/// A change of a coordinator's state. `None`: what the rest of it names is gone.
#[derive(Clone, Debug, PartialEq)]
pub enum Record {
    Offset { group: String, topic: String, partition: i32, value: Option<OffsetValue> },
    ClassicGroup { group: String, value: Option<ClassicGroupValue> },
    ConsumerGroup { group: String, value: Option<GroupEpochValue> },
    ConsumerMember { group: String, member: String, value: Option<MemberValue> },
    TargetEpoch { group: String, value: Option<TargetEpochValue> },
    TargetMember { group: String, member: String, value: Option<Vec<TopicPartitions>> },
    CurrentAssignment { group: String, member: String, value: Option<CurrentAssignmentValue> },
    Regex { group: String, regex: String, value: Option<RegexValue> },
}

/// A record that is none of Kafka's.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum DecodeError {
    Key,
    /// Of a type that is known.
    Value {
        of_type: i16,
    },
}

/// The longest text that a record takes. Whoever makes records of what clients say sees to it.
pub const TEXT_BYTES_MAX: usize = i16::MAX as usize;

/// One record of a machine's log.
pub trait LogRecord: Sized {
    /// Key and value.
    fn encode(&self) -> (Bytes, Option<Bytes>);

    /// `None`: a record of a type that this coordinator knows nothing of (of a newer one, or of another kind).
    ///
    /// # Errors
    /// If it is of a known type and not readable.
    fn decode(key: &[u8], value: Option<&[u8]>) -> Result<Option<Self>, DecodeError>;
}

/// The types of keys.
mod of_type {
    pub const LEGACY_OFFSET: i16 = 0;
    pub const OFFSET: i16 = 1;
    pub const CLASSIC_GROUP: i16 = 2;
    pub const CONSUMER_GROUP: i16 = 3;
    pub const CONSUMER_MEMBER: i16 = 5;
    pub const TARGET_EPOCH: i16 = 6;
    pub const TARGET_MEMBER: i16 = 7;
    pub const CURRENT_ASSIGNMENT: i16 = 8;
    pub const REGEX: i16 = 16;
}

/// A value behind its version.
trait Value: Sized {
    /// The last that is read.
    const VERSION_MAX: i16;
    const FLEXIBLE_FROM: i16;

    /// In which it is written.
    fn version(&self) -> i16;

    /// In [`Self::version`].
    fn put(&self, form: Form, out: &mut Vec<u8>);

    fn take(version: i16, form: Form, input: &mut &[u8]) -> Option<Self>;

    fn form(version: i16) -> Form {
        if version >= Self::FLEXIBLE_FROM { Form::Flexible } else { Form::Fixed }
    }
}

impl Record {
    /// The group whose state it is.
    #[must_use]
    pub fn group(&self) -> &str {
        match self {
            Record::Offset { group, .. }
            | Record::ClassicGroup { group, .. }
            | Record::ConsumerGroup { group, .. }
            | Record::ConsumerMember { group, .. }
            | Record::TargetEpoch { group, .. }
            | Record::TargetMember { group, .. }
            | Record::CurrentAssignment { group, .. }
            | Record::Regex { group, .. } => group,
        }
    }

    #[must_use]
    pub fn is_committed_offset(&self) -> bool {
        matches!(self, Record::Offset { value: Some(_), .. })
    }

    /// It removes what it names.
    #[must_use]
    pub fn is_removal(&self) -> bool {
        match self {
            Record::Offset { value, .. } => value.is_none(),
            Record::ClassicGroup { value, .. } => value.is_none(),
            Record::ConsumerGroup { value, .. } => value.is_none(),
            Record::ConsumerMember { value, .. } => value.is_none(),
            Record::TargetEpoch { value, .. } => value.is_none(),
            Record::TargetMember { value, .. } => value.is_none(),
            Record::CurrentAssignment { value, .. } => value.is_none(),
            Record::Regex { value, .. } => value.is_none(),
        }
    }
}

impl LogRecord for Record {
    fn encode(&self) -> (Bytes, Option<Bytes>) {
        let key = |of_type: i16, texts: &[&String]| {
            let mut key = Vec::new();
            of_type.put(Form::Fixed, &mut key);
            texts.iter().for_each(|text| text.put(Form::Fixed, &mut key));
            key
        };
        let (key, value) = match self {
            Record::Offset { group, topic, partition, value } => {
                let mut key = key(of_type::OFFSET, &[group, topic]);
                partition.put(Form::Fixed, &mut key);
                (key, encode_value(value.as_ref()))
            }
            Record::ClassicGroup { group, value } => {
                (key(of_type::CLASSIC_GROUP, &[group]), encode_value(value.as_ref()))
            }
            Record::ConsumerGroup { group, value } => {
                (key(of_type::CONSUMER_GROUP, &[group]), encode_value(value.as_ref()))
            }
            Record::ConsumerMember { group, member, value } => {
                (key(of_type::CONSUMER_MEMBER, &[group, member]), encode_value(value.as_ref()))
            }
            Record::TargetEpoch { group, value } => {
                (key(of_type::TARGET_EPOCH, &[group]), encode_value(value.as_ref()))
            }
            Record::TargetMember { group, member, value } => {
                (key(of_type::TARGET_MEMBER, &[group, member]), encode_value(value.as_ref()))
            }
            Record::CurrentAssignment { group, member, value } => {
                (key(of_type::CURRENT_ASSIGNMENT, &[group, member]), encode_value(value.as_ref()))
            }
            Record::Regex { group, regex, value } => {
                (key(of_type::REGEX, &[group, regex]), encode_value(value.as_ref()))
            }
        };
        (key.into(), value)
    }

    fn decode(key: &[u8], value: Option<&[u8]>) -> Result<Option<Record>, DecodeError> {
        let mut rest = key;
        let of_type = i16::take(Form::Fixed, &mut rest).ok_or(DecodeError::Key)?;
        let mut text = || String::take(Form::Fixed, &mut rest).ok_or(DecodeError::Key);
        let record = match of_type {
            of_type::LEGACY_OFFSET | of_type::OFFSET => {
                let (group, topic) = (text()?, text()?);
                let partition = i32::take(Form::Fixed, &mut rest).ok_or(DecodeError::Key)?;
                Record::Offset { group, topic, partition, value: decode_value(of_type, value)? }
            }
            of_type::CLASSIC_GROUP => {
                Record::ClassicGroup { group: text()?, value: decode_value(of_type, value)? }
            }
            of_type::CONSUMER_GROUP => {
                Record::ConsumerGroup { group: text()?, value: decode_value(of_type, value)? }
            }
            of_type::CONSUMER_MEMBER => Record::ConsumerMember {
                group: text()?,
                member: text()?,
                value: decode_value(of_type, value)?,
            },
            of_type::TARGET_EPOCH => {
                Record::TargetEpoch { group: text()?, value: decode_value(of_type, value)? }
            }
            of_type::TARGET_MEMBER => {
                Record::TargetMember { group: text()?, member: text()?, value: decode_value(of_type, value)? }
            }
            of_type::CURRENT_ASSIGNMENT => Record::CurrentAssignment {
                group: text()?,
                member: text()?,
                value: decode_value(of_type, value)?,
            },
            of_type::REGEX => {
                Record::Regex { group: text()?, regex: text()?, value: decode_value(of_type, value)? }
            }
            _ => return Ok(None),
        };
        if rest.is_empty() { Ok(Some(record)) } else { Err(DecodeError::Key) }
    }
}

fn encode_value<V: Value>(value: Option<&V>) -> Option<Bytes> {
    let value = value?;
    let (version, mut out) = (value.version(), Vec::new());
    version.put(Form::Fixed, &mut out);
    value.put(V::form(version), &mut out);
    Some(out.into())
}

/// What follows the fields that are known is of a newer version's tags, or it is no value.
fn decode_value<V: Value>(of_type: i16, value: Option<&[u8]>) -> Result<Option<V>, DecodeError> {
    let Some(mut rest) = value else { return Ok(None) };
    let mut decode = || {
        let version = i16::take(Form::Fixed, &mut rest)?;
        if !(0..=V::VERSION_MAX).contains(&version) {
            return None;
        }
        let value = V::take(version, V::form(version), &mut rest)?;
        rest.is_empty().then_some(value)
    };
    decode().map(Some).ok_or(DecodeError::Value { of_type })
}

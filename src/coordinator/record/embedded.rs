//! What consumers of the classic protocol say to each other in bytes that the coordinator only carries: Kafka's
//! ConsumerProtocolSubscription and ConsumerProtocolAssignment 0-3. They are read where such a group becomes one of the consumer
//! protocol, or is one. A newer version begins as the last known one.

use bytes::Bytes;

use super::codec::{Field, Form};

/// The last that is known.
const VERSION_MAX: i16 = 3;

/// Partitions by the name of their topic.
pub type NamedPartitions = Vec<(String, Vec<i32>)>;

/// What a consumer says of itself when it joins.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Subscription {
    pub version: i16,
    pub topics: Vec<String>,
    /// What it has; from version 1.
    pub owned: NamedPartitions,
    /// From version 3.
    pub rack: Option<String>,
}

/// What a consumer is told to have.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Assignment {
    pub partitions: NamedPartitions,
    /// The assignor has said something that only the consumer's side of it understands.
    pub has_user_data: bool,
}

impl Subscription {
    /// `None`: it is none.
    #[must_use]
    pub fn decode(bytes: &[u8]) -> Option<Subscription> {
        let input = &mut &*bytes;
        let version = take_version(input)?;
        let topics = Field::take(Form::Fixed, input)?;
        let _user_data = take_user_data(input)?;
        let owned = if version >= 1 { Field::take(Form::Fixed, input)? } else { Vec::new() };
        if version >= 2 {
            let _generation = i32::take(Form::Fixed, input)?;
        }
        let rack = if version >= 3 { Field::take(Form::Fixed, input)? } else { None };
        Some(Subscription { version, topics, owned, rack })
    }
}

impl Assignment {
    /// `None`: it is none.
    #[must_use]
    pub fn decode(bytes: &[u8]) -> Option<Assignment> {
        let input = &mut &*bytes;
        take_version(input)?;
        let partitions = Field::take(Form::Fixed, input)?;
        Some(Assignment { partitions, has_user_data: take_user_data(input)? })
    }

    /// In the version of a consumer's subscription, without what an assignor might say.
    #[must_use]
    pub fn encode(version: i16, partitions: &NamedPartitions) -> Bytes {
        let mut out = Vec::new();
        version.put(Form::Fixed, &mut out);
        partitions.put(Form::Fixed, &mut out);
        (-1_i32).put(Form::Fixed, &mut out);
        out.into()
    }
}

fn take_version(input: &mut &[u8]) -> Option<i16> {
    let version = i16::take(Form::Fixed, input)?;
    (version >= 0).then(|| version.min(VERSION_MAX))
}

/// Whether there is any.
fn take_user_data(input: &mut &[u8]) -> Option<bool> {
    if input.starts_with(&(-1_i32).to_be_bytes()) {
        i32::take(Form::Fixed, input)?;
        return Some(false);
    }
    Bytes::take(Form::Fixed, input).map(|bytes| !bytes.is_empty())
}

/// A topic's name and its partitions.
impl Field for (String, Vec<i32>) {
    fn put(&self, form: Form, out: &mut Vec<u8>) {
        self.0.put(form, out);
        self.1.put(form, out);
    }

    fn take(form: Form, input: &mut &[u8]) -> Option<Self> {
        Some((Field::take(form, input)?, Field::take(form, input)?))
    }
}

//! GroupMetadataValue 0-4: a classic group at the end of a rebalance.

use bytes::Bytes;

use super::Value;
use super::codec::{Field, Form, put_items, take_items, take_tagged};

/// A classic group's generation and its members.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ClassicGroupValue {
    pub protocol_type: String,
    pub generation: i32,
    pub protocol: Option<String>,
    /// A member's id.
    pub leader: Option<String>,
    /// Milliseconds since 1970; -1: not known.
    pub state_timestamp: i64,
    pub members: Vec<ClassicMemberValue>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ClassicMemberValue {
    pub member: String,
    pub instance: Option<String>,
    pub client_id: String,
    pub client_host: String,
    pub rebalance_timeout_ms: i32,
    pub session_timeout_ms: i32,
    /// What it said of itself for the protocol that was chosen.
    pub subscription: Bytes,
    pub assignment: Bytes,
}

impl Value for ClassicGroupValue {
    const VERSION_MAX: i16 = 4;
    const FLEXIBLE_FROM: i16 = 4;

    fn version(&self) -> i16 {
        3
    }

    fn put(&self, form: Form, out: &mut Vec<u8>) {
        self.protocol_type.put(form, out);
        self.generation.put(form, out);
        self.protocol.put(form, out);
        self.leader.put(form, out);
        self.state_timestamp.put(form, out);
        put_items(&self.members, form, out, |member, out| member.put(form, out));
    }

    fn take(version: i16, form: Form, input: &mut &[u8]) -> Option<Self> {
        let value = ClassicGroupValue {
            protocol_type: Field::take(form, input)?,
            generation: Field::take(form, input)?,
            protocol: Field::take(form, input)?,
            leader: Field::take(form, input)?,
            state_timestamp: if version >= 2 { Field::take(form, input)? } else { -1 },
            members: take_items(form, input, |input| ClassicMemberValue::take(version, form, input))??,
        };
        take_tagged(form, input, |_, _| Some(()))?;
        Some(value)
    }
}

impl ClassicMemberValue {
    /// In the version that is written.
    fn put(&self, form: Form, out: &mut Vec<u8>) {
        self.member.put(form, out);
        self.instance.put(form, out);
        self.client_id.put(form, out);
        self.client_host.put(form, out);
        self.rebalance_timeout_ms.put(form, out);
        self.session_timeout_ms.put(form, out);
        self.subscription.put(form, out);
        self.assignment.put(form, out);
    }

    fn take(version: i16, form: Form, input: &mut &[u8]) -> Option<Self> {
        let member = Field::take(form, input)?;
        let instance = if version >= 3 { Field::take(form, input)? } else { None };
        let (client_id, client_host) = (Field::take(form, input)?, Field::take(form, input)?);
        let rebalance = if version >= 1 { Some(Field::take(form, input)?) } else { None };
        let session_timeout_ms = Field::take(form, input)?;
        let value = ClassicMemberValue {
            member,
            instance,
            client_id,
            client_host,
            rebalance_timeout_ms: rebalance.unwrap_or(session_timeout_ms),
            session_timeout_ms,
            subscription: Field::take(form, input)?,
            assignment: Field::take(form, input)?,
        };
        take_tagged(form, input, |_, _| Some(()))?;
        Some(value)
    }
}

//! OffsetCommitValue 0-4: an offset that a group has committed.

use super::Value;
use super::codec::{Field, Form, take_tagged};

/// A committed offset.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct OffsetValue {
    pub offset: i64,
    /// -1: not known.
    pub leader_epoch: i32,
    pub metadata: String,
    /// Milliseconds since 1970.
    pub commit_timestamp: i64,
    /// Milliseconds since 1970; -1: as the broker's settings say. What a client of OffsetCommit 2-4 has asked for.
    pub expire_timestamp: i64,
}

impl Value for OffsetValue {
    const VERSION_MAX: i16 = 4;
    const FLEXIBLE_FROM: i16 = 4;

    /// An expiry is in version 1 only, which has no leader epoch (nor has a request that asks for one). A topic id would be in
    /// version 4, which tools of before Kafka 4 do not read, and nobody needs it to read an offset: it goes with its topic.
    fn version(&self) -> i16 {
        if self.expire_timestamp == -1 { 3 } else { 1 }
    }

    fn put(&self, form: Form, out: &mut Vec<u8>) {
        self.offset.put(form, out);
        if self.version() >= 3 {
            self.leader_epoch.put(form, out);
        }
        self.metadata.put(form, out);
        self.commit_timestamp.put(form, out);
        if self.version() == 1 {
            self.expire_timestamp.put(form, out);
        }
    }

    fn take(version: i16, form: Form, input: &mut &[u8]) -> Option<Self> {
        let value = OffsetValue {
            offset: i64::take(form, input)?,
            leader_epoch: if version >= 3 { i32::take(form, input)? } else { -1 },
            metadata: String::take(form, input)?,
            commit_timestamp: i64::take(form, input)?,
            expire_timestamp: if version == 1 { i64::take(form, input)? } else { -1 },
        };
        // tag 0 is the topic's id
        take_tagged(form, input, |_, _| Some(()))?;
        Some(value)
    }
}

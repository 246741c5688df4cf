//! A member of a group, as a machine: which request comes next, and what an answer means. It has one request under way
//! at a time.

use anyhow::Result;
use bytes::{Bytes, BytesMut};
use kafka_protocol::messages::consumer_group_heartbeat_request::TopicPartitions;
use kafka_protocol::messages::{ApiKey, GroupId};

use super::classic::Classic;
use super::consumer::Consumer;
use super::options::Protocol;
use crate::wire::control::{self, Connection, Layout};

/// What a client's `max.poll.interval.ms` is: so long a member may take in a rebalance.
pub const REBALANCE_TIMEOUT_MS: i32 = 300_000;

/// What is the same for all members of a run.
pub struct Plan {
    pub layout: Layout,
    /// The topic by its id, without partitions. The classic protocol knows it by its name.
    pub topic: TopicPartitions,
    pub versions: Versions,
    pub session_timeout_ms: i32,
}

/// Of each API, the one this run speaks.
pub struct Versions {
    pub join: i16,
    pub sync: i16,
    pub heartbeat: i16,
    pub leave: i16,
    pub consumer_heartbeat: i16,
}

/// What came of an answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// The next request is to be sent now.
    GoesOn,
    /// As [`Outcome::GoesOn`], because the group rebalances.
    Rejoins,
    /// The same request again, a while later: the coordinator is not ready.
    Waits,
    /// Nothing to say until the next heartbeat.
    Rests,
    Left,
    /// The broker's error; the member begins anew.
    Refused(i16),
}

/// Where a member is that has done its part.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Standing {
    /// Of the group: its generation, or the member's epoch.
    pub epoch: i32,
    pub partitions: usize,
}

pub enum Member {
    Classic(Classic),
    Consumer(Consumer),
}

impl Versions {
    /// # Errors
    /// The broker does not have the protocol.
    pub fn of(protocol: Protocol, control: &Connection) -> Result<Versions> {
        let of = |wanted: Protocol, key, versions: &[i16]| {
            if protocol == wanted { control.version(key, versions) } else { Ok(0) }
        };
        Ok(Versions {
            join: of(Protocol::Classic, ApiKey::JoinGroup, &[9, 7, 5])?,
            sync: of(Protocol::Classic, ApiKey::SyncGroup, &[5, 4, 3])?,
            heartbeat: of(Protocol::Classic, ApiKey::Heartbeat, &[4, 3])?,
            leave: of(Protocol::Classic, ApiKey::LeaveGroup, &[5, 4, 3])?,
            consumer_heartbeat: of(Protocol::Consumer, ApiKey::ConsumerGroupHeartbeat, &[1, 0])?,
        })
    }
}

impl Member {
    /// `id`: of the client's making, where the protocol has that.
    #[must_use]
    pub fn new(protocol: Protocol, group: GroupId, id: String) -> Member {
        match protocol {
            Protocol::Classic => Member::Classic(Classic::new(group)),
            Protocol::Consumer => Member::Consumer(Consumer::new(group, id)),
        }
    }

    /// The next request.
    ///
    /// # Errors
    /// It cannot be written.
    pub fn request(&self, plan: &Plan, correlation_id: i32) -> Result<BytesMut> {
        match self {
            Member::Classic(member) => member.request(plan, correlation_id),
            Member::Consumer(member) => member.request(plan, correlation_id),
        }
    }

    /// The answer to it.
    ///
    /// # Errors
    /// It cannot be read.
    pub fn answer(&mut self, plan: &Plan, response: Bytes) -> Result<Outcome> {
        match self {
            Member::Classic(member) => member.answer(plan, response),
            Member::Consumer(member) => member.answer(plan, response),
        }
    }

    /// Its next request joins.
    pub fn join(&mut self) {
        match self {
            Member::Classic(member) => member.join(),
            Member::Consumer(member) => member.join(),
        }
    }

    /// Its next request leaves.
    pub fn leave(&mut self) {
        match self {
            Member::Classic(member) => member.leave(),
            Member::Consumer(member) => member.leave(),
        }
    }

    /// Its next request only says that it lives.
    #[must_use]
    pub fn is_resting(&self) -> bool {
        self.standing().is_some()
    }

    /// `None`: it has not done its part.
    #[must_use]
    pub fn standing(&self) -> Option<Standing> {
        match self {
            Member::Classic(member) => member.standing(),
            Member::Consumer(member) => member.standing(),
        }
    }

    /// What the broker asks for from one heartbeat to the next, milliseconds.
    #[must_use]
    pub fn heartbeat_interval_ms(&self) -> Option<i32> {
        match self {
            Member::Classic(_) => None,
            Member::Consumer(member) => member.heartbeat_interval_ms(),
        }
    }
}

/// A frame and an answer of one API in one version.
pub(super) use control::{answer, frame};

//! A group of the consumer protocol (KIP-848): each member says in its heartbeats what it subscribes to and what it has, and is
//! told what it is to have; the assignment is made here.
//!
//! The group has an epoch, which goes up when members or topics change ([`target`]); its target is made for an epoch
//! (by an assignor, at most once in consumer.assignment.interval.ms), and each member moves to the target's epoch by itself
//! ([`reconcile`]). Start at [`heartbeat`].
//!
//! Invariants:
//! * No two members have one partition, where "has" includes what a member was told to give up and has not yet said
//!   that it did, and what a static member that is away has left.
//! * Epochs do not go back, the group's nor the target's.
//! * A member of the classic protocol ([`classic`]) is one like the others, whose generation is its epoch; a group without any
//!   other member becomes a classic group ([`migration`]).
//! * Whatever a request is refused for is found before anything is changed.
//! * A heartbeat that brings nothing new writes nothing and looks at no other member.

mod classic;
mod config;
mod describe;
mod heartbeat;
mod index;
mod leave;
mod log;
mod member;
mod migration;
mod offsets;
mod reconcile;
mod regexes;
mod target;
#[cfg(test)]
mod tests;

use std::collections::BTreeMap;
use std::rc::Rc;

use super::assignor::Partitions;
use super::{Client, Due, Expiry, Group, Members, Reply, Turn};
use crate::coordinator::Ticket;
use crate::coordinator::record::{GroupEpochValue, RegexValue, TargetEpochValue};
use crate::model::{ErrorCode, TopicId};
use crate::protocol::StrBytes;
use crate::protocol::messages::{ConsumerGroupHeartbeatRequest, ConsumerGroupHeartbeatResponse};
pub(super) use classic::{classic_leave, join};
use index::Index;
use member::{Member, State};

/// Of a member's id, which is in the keys of records.
const MEMBER_ID_BYTES_MAX: usize = 4_096;

/// What a member says that it has.
type Claim<'a> = &'a [(TopicId, &'a [i32])];

#[derive(Clone, Debug, Default)]
pub(super) struct ConsumerGroup {
    // in the log
    epoch: Option<GroupEpochValue>,
    members: BTreeMap<Rc<str>, Member>,
    target_epoch: Option<TargetEpochValue>,
    targets: BTreeMap<Rc<str>, Rc<Partitions>>,
    /// What the regular expressions of members meant when they were looked at last.
    regexes: BTreeMap<String, RegexValue>,
    /// Of the members and expressions above.
    index: Index,
    // not in the log
    /// Topics may have changed since the group's epoch was made.
    is_stale: bool,
    /// Topics may have come since the regular expressions were looked at.
    are_regexes_stale: bool,
    /// [`Self::hash`] at a version of the index's topics.
    hash: Option<(u64, i64)>,
}

/// Why a member is refused.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Refusal {
    error: ErrorCode,
    message: String,
}

/// A member of a consumer group, or one that will be, tells that it is alive, and more.
pub(super) fn heartbeat(
    group: &mut Option<Group>,
    turn: &mut Turn,
    ticket: Ticket,
    version: i16,
    client: &Client,
    request: &ConsumerGroupHeartbeatRequest,
) {
    let answer = heartbeat::check_request(turn, version, request).and_then(|()| match request.member_epoch {
        ..0 => leave::leave(group, turn, request),
        _ => heartbeat::heartbeat(group, turn, client, request),
    });
    let response = answer.unwrap_or_else(|refusal| {
        ConsumerGroupHeartbeatResponse::default()
            .with_error_code(refusal.error.code())
            .with_error_message(Some(StrBytes::from_string(refusal.message)))
    });
    turn.reply(ticket, Reply::ConsumerHeartbeat(Box::new(response)));
}

/// A timer of the group; it may become a classic group by it.
pub(super) fn due(group: &mut Group, turn: &mut Turn, due: Due) {
    let Members::Consumer(members) = &mut group.members else { return };
    match due {
        Due::Session(id) if members.members.contains_key(&id) => leave::fence(group, turn, &[id]),
        Due::Rebalance(id) => {
            // one of the classic protocol has not joined, or not synced
            let is_late =
                |member: &Member| member.uses_classic_protocol() || member.state == State::Unrevoked;
            if members.members.get(&id).is_some_and(is_late) {
                leave::fence(group, turn, &[id]);
            }
        }
        Due::Assignment => members.follow_epoch(turn),
        Due::Regexes => members.refresh_regexes(turn),
        Due::Session(_) | Due::Join | Due::Sync => {}
    }
}

impl ConsumerGroup {
    pub fn new() -> ConsumerGroup {
        ConsumerGroup::default()
    }

    /// Members.
    pub fn len(&self) -> usize {
        self.members.len()
    }

    /// Without members.
    pub fn is_empty(&self) -> bool {
        self.members.is_empty()
    }

    /// Topics have come, gone, or grown. What that means for the group is found with the next heartbeat; other topics may
    /// match its regular expressions.
    pub fn topics_changed(&mut self, turn: &mut Turn) {
        self.is_stale = true;
        if !self.regexes.is_empty() {
            self.are_regexes_stale = true;
            self.set_regex_timer(turn);
        }
    }

    pub fn is_subscribed(&self, topic: &str) -> bool {
        self.index.is_subscribed(topic)
    }

    /// Offsets of topics that nobody reads go by their age.
    pub fn expiry(&self) -> Expiry {
        Expiry::FromCommit
    }

    fn set_session_timer(&self, turn: &mut Turn, id: &Rc<str>, member: &Member) {
        let of_classic = member.about.classic.as_ref().map(|classic| classic.session_timeout_ms);
        let timeout = match of_classic {
            Some(timeout) => u64::try_from(timeout).unwrap_or(0),
            None => config::session_timeout_ms(turn),
        };
        turn.set_timer(Due::Session(Rc::clone(id)), timeout);
    }

    /// A member has so long to give partitions up. (One of the classic protocol has it to join and to sync.)
    fn set_rebalance_timer(&self, turn: &mut Turn, id: &Rc<str>, member: &Member) {
        if member.uses_classic_protocol() {
            return;
        }
        if member.state == State::Unrevoked {
            let timeout = u64::try_from(member.about.rebalance_timeout_ms).unwrap_or(0);
            turn.set_timer(Due::Rebalance(Rc::clone(id)), timeout);
        } else {
            turn.cancel_timer(Due::Rebalance(Rc::clone(id)));
        }
    }
}

impl Refusal {
    fn new(error: ErrorCode, message: impl Into<String>) -> Refusal {
        Refusal { error, message: message.into() }
    }
}

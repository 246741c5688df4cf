//! Coordinators: what consumer groups agree on, as state machines that keep their state in a compacted topic.
//!
//! A machine takes a request and the time, and gives [`Effects`]: records to append, and replies. Its state and its records
//! change in the same call, so that a machine that reads its log from the front ends in the same state (the tests compare
//! the two after every step). What it holds beside (who waits, when who was heard last) is not in the log and is lost with the broker.
//!
//! Invariants:
//! * A reply, also one to a question, is released when everything that was appended before it is durable: nobody sees
//!   a state that a crash could take back.
//! * Whoever could not append the records of a turn drops the machine and loads it anew from its log.
//! * Time, randomness and the cluster's image are arguments. A client's strings are copied before they are kept: they
//!   lie in the buffer of its whole request.
//!
//! Never here: where a coordinator lives, logs, connections (`partition/coordinator`), authorization (`handlers/`).

pub mod group;
pub mod record;
mod timers;

use crate::metadata::Image;
use crate::model::{ProducerEpoch, ProducerId};
use record::Record;

/// Both clocks at the beginning of a turn, milliseconds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Now {
    /// Steady, from any beginning: for sessions and other waits.
    pub steady: u64,
    /// Since 1970: what is kept in records.
    pub wall: i64,
}

/// Whom a reply is for, in the host's numbers.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Ticket(pub u64);

/// What a machine may look at in a turn.
pub struct Context<'a> {
    pub now: Now,
    pub image: &'a Image,
    /// For member ids.
    pub random: &'a mut dyn FnMut() -> u64,
}

/// What came of a turn. The records are appended as one batch, then the replies released when it is durable.
#[derive(Debug)]
#[must_use]
pub struct Effects<Reply> {
    pub records: Vec<Record>,
    pub replies: Vec<(Ticket, Reply)>,
    /// The records are part of this producer's transaction.
    pub in_transaction: Option<(ProducerId, ProducerEpoch)>,
}

impl<Reply> Default for Effects<Reply> {
    fn default() -> Self {
        Effects { records: Vec::new(), replies: Vec::new(), in_transaction: None }
    }
}

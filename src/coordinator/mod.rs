//! Coordinators: what consumer groups agree on ([`group`]) and how far transactions are ([`transaction`]), as state machines
//! that keep their state in a compacted topic. [`Machine`] is what both are to their host.
//!
//! A machine takes a request and the time, and gives [`Effects`]: records to append, replies, commands. Its state and its records
//! change in the same call, so that a machine that reads its log from the front ends in the same state (the tests compare
//! the two after every step). What it holds beside (who waits, when who was heard last) is not in the log and is lost with the broker.
//!
//! Invariants:
//! * A reply, also one to a question, is released when everything that was appended before it is durable: nobody sees
//!   a state that a crash could take back. So is a command: nothing is done that the log does not know of.
//! * Whoever could not append the records of a turn drops the machine and loads it anew from its log.
//! * Time, randomness and the cluster's image are arguments. A client's strings are copied before they are kept: they
//!   lie in the buffer of its whole request.
//!
//! Never here: where a coordinator lives, logs, connections (`partition/coordinator`), authorization (`handlers/`).

pub mod group;
mod pattern;
pub mod record;
mod timers;
pub mod transaction;

use std::fmt::Debug;

use crate::log::producer_state::EndTxn;
use crate::metadata::Image;
use crate::model::{ProducerEpoch, ProducerId};
use record::LogRecord;

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

/// What a machine may look at, and take, in a turn.
pub struct Context<'a> {
    pub now: Now,
    pub image: &'a Image,
    /// For member ids.
    pub random: &'a mut dyn FnMut() -> u64,
    /// A producer id that nobody has had; `None`: there is none at hand.
    pub producer_id: &'a mut dyn FnMut() -> Option<ProducerId>,
}

/// The state machine of one partition of an internal topic.
pub trait Machine: Sized + 'static {
    type Settings: Clone;
    type Record: LogRecord;
    /// `Clone`: one that all machines are asked.
    type Request: Clone + Debug;
    type Reply: Debug;
    /// What the host is to do, and tell the machine the end of.
    type Command;

    /// Without state: [`Self::replay`] what the log holds, then call [`Self::loaded`].
    fn new(settings: Self::Settings) -> Self;

    /// One record of the log, in its order.
    fn replay(&mut self, record: Self::Record);

    /// As [`Self::replay`], of a record that is part of a transaction of this producer's.
    fn replay_in_transaction(&mut self, _producer: ProducerId, record: Self::Record) {
        self.replay(record);
    }

    /// The log has come to the end of the producer's transaction, live or when it is read.
    fn end_transaction(&mut self, _producer: ProducerId, _end: EndTxn) {}

    /// The log has been replayed.
    fn loaded(&mut self, context: &mut Context) -> EffectsOf<Self>;

    /// Replies come in this turn's effects or a later one's; every ticket gets one.
    fn handle(&mut self, context: &mut Context, ticket: Ticket, request: Self::Request) -> EffectsOf<Self>;

    /// By when [`Self::tick`] has something to do, milliseconds of the steady clock.
    fn next_tick(&self) -> Option<u64>;

    /// Does one thing that is due; call it again while [`Self::next_tick`] is not in the future.
    fn tick(&mut self, context: &mut Context) -> EffectsOf<Self>;

    /// These topics are no more.
    fn topics_removed(&mut self, context: &mut Context, topics: &[String]) -> EffectsOf<Self>;

    /// Topics have come, gone, or grown.
    fn topics_changed(&mut self, context: &mut Context) -> EffectsOf<Self>;
}

/// Of a turn of this machine.
pub type EffectsOf<M> = Effects<<M as Machine>::Reply, <M as Machine>::Record, <M as Machine>::Command>;

/// What came of a turn. The records are appended as one batch; when it is durable the replies are released and the commands
/// carried out.
#[derive(Debug)]
#[must_use]
pub struct Effects<Reply, Record, Command> {
    pub records: Vec<Record>,
    pub replies: Vec<(Ticket, Reply)>,
    pub commands: Vec<Command>,
    /// The records are part of this producer's transaction, which its coordinator knows of.
    pub in_transaction: Option<(ProducerId, ProducerEpoch)>,
}

impl<Reply, Record, Command> Default for Effects<Reply, Record, Command> {
    fn default() -> Self {
        Effects { records: Vec::new(), replies: Vec::new(), commands: Vec::new(), in_transaction: None }
    }
}

impl<Reply, Record, Command> Effects<Reply, Record, Command> {
    /// What came of the next turn; neither is one in a transaction.
    fn append(&mut self, next: Self) {
        assert!(
            self.in_transaction.is_none() && next.in_transaction.is_none(),
            "each has batches of its own"
        );
        self.records.extend(next.records);
        self.replies.extend(next.replies);
        self.commands.extend(next.commands);
    }
}

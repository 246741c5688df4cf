//! The coordinator of the transactions whose records are in one partition of `__transaction_state`.
//!
//! [`TransactionCoordinator`] holds a [`Transaction`] for each transactional id: which producer has it, and how far its
//! transaction is. A transaction comes to be when a partition is added to it ([`partitions`]); it is decided once ([`end`], a
//! timeout, or the producer's next life, [`init`]); then the host is commanded to write a marker to each of its partitions, and
//! when it tells that they are written, the transaction is complete.
//!
//! Invariants (beside those of the folder above):
//! * A decision is in the log before a marker is commanded, and is never changed. From then until the host says
//!   that all markers are written, the id takes part in nothing else: whoever asks is told CONCURRENT_TRANSACTIONS.
//! * What is decided and not complete is commanded again when the log was loaded.
//! * A producer that was fenced (its epoch is no more the current one) changes nothing.
//! * An id costs [`IDLE_BYTES`] and its name while it has no transaction; a transaction, a timer and some 20 bytes more for
//!   each partition, and the name of each topic. Only partitions that exist are in one.
//!
//! transaction.version is told by the request (a client of version 2 speaks EndTxn 5, and Produce 12 adds partitions), and for
//! what the coordinator does by itself by the cluster's level. From 2 on (KIP-890) every transaction's end raises the epoch.
//! Source: Kafka's `TransactionCoordinator`, `TransactionStateManager`, `TransactionMetadata`.

mod describe;
mod end;
mod init;
mod partitions;
mod request;
mod settings;
mod state;
#[cfg(test)]
mod tests;

pub use describe::unknown_filters;
pub use partitions::refused;
pub use request::{Body, Reply, Request};
pub use settings::Settings;

use std::collections::BTreeMap;
use std::ops::Bound;
use std::rc::Rc;

use state::Transaction;

use super::record::{TransactionRecord, TransactionState};
use super::timers::Timers;
use super::{Context, Machine, Now, Ticket};
use crate::log::producer_state::EndTxn;
use crate::metadata::Image;
use crate::metadata::features::TRANSACTION_VERSION;
use crate::model::{ErrorCode, ProducerEpoch, ProducerId};

pub type Effects = super::Effects<Reply, TransactionRecord, WriteMarkers>;

/// What an id without a transaction takes at most beside its name: its entry in the map (whose nodes are half empty at
/// worst) and the name's allocation.
pub const IDLE_BYTES: usize = 2 * (size_of::<Transaction>() + size_of::<Rc<str>>()) + 32;
const _: () = assert!(IDLE_BYTES <= 300);

/// Ids that one sweep looks at before others get a turn.
const SWEPT_AT_ONCE: usize = 256;

/// Until a transaction that could not be aborted for want of a producer id is tried again.
const ABORT_PAUSE_MS: u64 = 1_000;

/// A level of transaction.version.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Version(pub i16);

impl Version {
    pub const ZERO: Version = Version(0);
    pub const TWO: Version = Version(2);

    /// Whether the end of a transaction raises the producer's epoch.
    #[must_use]
    pub fn raises_epoch(self) -> bool {
        self >= Version::TWO
    }

    /// Of the records in the log.
    fn record_version(self) -> i16 {
        i16::from(self.0 >= 1)
    }
}

/// A transaction was decided, and that is durable: each of its partitions is to get a marker. To be told by
/// [`TransactionCoordinator::markers_written`] when all have one, and no later than that may anything be written for its
/// producer that takes up the same epoch: so none may be on its way any more. The coordinator's epoch in a marker is the leader
/// epoch of its partition.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct WriteMarkers {
    pub decided: Decided,
    pub end: EndTxn,
    pub version: Version,
    /// By topic.
    pub partitions: Vec<(String, Vec<i32>)>,
}

/// Which decision it is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Decided {
    pub transactional_id: Rc<str>,
    pub producer_id: ProducerId,
    /// In the markers; from version 2 on one more than the client's was.
    pub producer_epoch: ProducerEpoch,
}

pub struct TransactionCoordinator {
    settings: Settings,
    transactions: BTreeMap<Rc<str>, Transaction>,
    timers: Timers<Timer>,
    /// Of `transactions`, those that have begun and are not complete.
    open: usize,
    /// Aborted for their time since somebody has asked.
    timed_out: u64,
    /// How far the sweep for unused ids has come.
    swept: Option<Rc<str>>,
}

/// What becomes due.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
enum Timer {
    /// The sweep for unused ids.
    Sweep,
    /// The transaction of this id has taken too long.
    Timeout(Rc<str>),
}

/// One call of the machine for one transactional id.
struct Turn<'a> {
    now: Now,
    image: &'a Image,
    producer_id: &'a mut dyn FnMut() -> Option<ProducerId>,
    settings: &'a Settings,
    timers: &'a mut Timers<Timer>,
    effects: Effects,
    id: Rc<str>,
}

impl Turn<'_> {
    /// The cluster's.
    fn version(&self) -> Version {
        Version(self.image.feature_level(TRANSACTION_VERSION))
    }

    /// # Errors
    /// COORDINATOR_LOAD_IN_PROGRESS: there is none at hand, and clients are to try again.
    fn new_producer_id(&mut self) -> Result<ProducerId, ErrorCode> {
        (self.producer_id)().ok_or(ErrorCode::CoordinatorLoadInProgress)
    }

    /// The transaction's state goes to the log.
    fn write(&mut self, transaction: &Transaction) {
        let value = transaction.value(self.version());
        let transactional_id = self.id.to_string();
        self.effects.records.push(TransactionRecord { transactional_id, value: Some(value) });
    }

    /// From now, milliseconds. Transactions that end within an interval of each other are aborted together, as Kafka does.
    fn set_timeout(&mut self, after_ms: u64) {
        let deadline = self.now.steady.saturating_add(after_ms);
        let interval = self.settings.abort_interval_ms.max(1);
        let deadline = deadline.checked_next_multiple_of(interval).unwrap_or(u64::MAX);
        self.timers.set(Timer::Timeout(Rc::clone(&self.id)), deadline);
    }

    fn cancel_timeout(&mut self) {
        self.timers.cancel(&Timer::Timeout(Rc::clone(&self.id)));
    }

    /// The transaction, decided just now or by a coordinator before, gets its markers; without partitions, it is complete.
    fn command_markers(&mut self, transaction: &mut Transaction) {
        if transaction.partitions.is_empty() {
            transaction.complete(self.now.wall);
            self.write(transaction);
            return;
        }
        self.effects.commands.push(transaction.markers(Rc::clone(&self.id)));
    }
}

impl Machine for TransactionCoordinator {
    type Settings = Settings;
    type Record = TransactionRecord;
    type Request = Request;
    type Reply = Reply;
    type Command = WriteMarkers;

    fn new(settings: Settings) -> TransactionCoordinator {
        TransactionCoordinator {
            settings,
            transactions: BTreeMap::new(),
            timers: Timers::default(),
            open: 0,
            timed_out: 0,
            swept: None,
        }
    }

    fn replay(&mut self, record: TransactionRecord) {
        let TransactionRecord { transactional_id, value } = record;
        let before = match value {
            Some(value) => {
                let transaction = Transaction::replayed(value);
                self.open += usize::from(!transaction.state_is_final());
                self.transactions.insert(Rc::from(transactional_id), transaction)
            }
            None => self.transactions.remove(transactional_id.as_str()),
        };
        self.open -= usize::from(before.is_some_and(|before| !before.state_is_final()));
    }

    /// What was decided gets its markers, perhaps once more; what is under way has the rest of its time.
    fn loaded(&mut self, context: &mut Context) -> Effects {
        self.timers.set(Timer::Sweep, context.now.steady + self.settings.removal_interval_ms);
        let is_open = |transaction: &Transaction| !transaction.state_is_final();
        let ids: Vec<_> =
            self.transactions.iter().filter(|(_, open)| is_open(open)).map(|(id, _)| Rc::clone(id)).collect();
        self.these(context, ids, |transaction, turn| match transaction.state {
            TransactionState::Ongoing => {
                if let Some(rest) = transaction.remaining(turn.now.wall) {
                    turn.set_timeout(rest);
                }
            }
            _ => turn.command_markers(transaction),
        })
    }

    fn handle(&mut self, context: &mut Context, ticket: Ticket, request: Request) -> Effects {
        let Request { version, body } = request;
        match body {
            Body::InitProducerId(request) => {
                let id = request.transactional_id.as_ref().map(|id| id.0.to_string()).unwrap_or_default();
                self.answer(context, ticket, &id, |transaction, turn| {
                    Reply::InitProducerId(init::init_producer_id(transaction, turn, version, &request))
                })
            }
            Body::AddPartitions(request) => {
                let id = request.transactional_id.0.to_string();
                self.answer(context, ticket, &id, |transaction, turn| {
                    let result = match request.verify_only {
                        true => partitions::verify(transaction.as_ref(), &request),
                        false => partitions::add(transaction.as_mut(), turn, version, &request),
                    };
                    Reply::AddPartitions(result)
                })
            }
            Body::EndTxn(request) => {
                let id = request.transactional_id.0.to_string();
                self.answer(context, ticket, &id, |transaction, turn| {
                    Reply::EndTxn(end::end_txn(transaction.as_mut(), turn, version, &request))
                })
            }
            Body::Describe(ids) => {
                let described = ids.into_iter().map(|id| self.describe(id)).collect();
                Effects { replies: vec![(ticket, Reply::Describe(described))], ..Effects::default() }
            }
            Body::List(request) => {
                let listed = self.list(context.now, &request);
                Effects { replies: vec![(ticket, Reply::List(listed))], ..Effects::default() }
            }
        }
    }

    fn next_tick(&self) -> Option<u64> {
        self.timers.next()
    }

    fn tick(&mut self, context: &mut Context) -> Effects {
        match self.timers.pop(context.now.steady) {
            None => Effects::default(),
            Some(Timer::Sweep) => self.sweep(context),
            Some(Timer::Timeout(id)) => {
                let mut was_aborted = false;
                let effects = self.one(context, &id, |transaction, turn| {
                    let Some(transaction) = transaction else { return };
                    if end::fence(transaction, turn).is_err() {
                        turn.set_timeout(ABORT_PAUSE_MS);
                    }
                    was_aborted = transaction.is_decided();
                });
                self.timed_out += u64::from(was_aborted);
                effects
            }
        }
    }

    /// The host passes over partitions that are gone.
    fn topics_removed(&mut self, _: &mut Context, _: &[String]) -> Effects {
        Effects::default()
    }

    fn topics_changed(&mut self, _: &mut Context) -> Effects {
        Effects::default()
    }
}

impl TransactionCoordinator {
    /// All markers of a decision are written. Told once more, or for a decision that is none any more, it changes nothing.
    pub fn markers_written(&mut self, context: &mut Context, decided: &Decided) -> Effects {
        self.one(context, &decided.transactional_id, |transaction, turn| {
            if let Some(transaction) = transaction
                && transaction.is_decided()
                && transaction.producer_id == decided.producer_id
                && transaction.epoch == decided.producer_epoch
            {
                transaction.complete(turn.now.wall);
                turn.write(transaction);
            }
        })
    }

    /// Ids.
    #[must_use]
    pub fn len(&self) -> usize {
        self.transactions.len()
    }

    /// Transactions that have begun and are not complete.
    #[must_use]
    pub fn open(&self) -> usize {
        self.open
    }

    /// Transactions that were aborted because they took too long, since the last call.
    pub fn take_timed_out(&mut self) -> u64 {
        std::mem::take(&mut self.timed_out)
    }

    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.transactions.is_empty()
    }

    /// Forgets ids that were not used for too long; some at a time.
    fn sweep(&mut self, context: &mut Context) -> Effects {
        let behind = self.swept.take().map_or(Bound::Unbounded, Bound::Excluded);
        let ids: Vec<Rc<str>> = (self.transactions)
            .range::<str, _>((behind.as_ref().map(Rc::as_ref), Bound::Unbounded))
            .take(SWEPT_AT_ONCE)
            .map(|(id, _)| Rc::clone(id))
            .collect();
        let (now, interval) = (context.now, self.settings.removal_interval_ms);
        let is_whole = ids.len() < SWEPT_AT_ONCE;
        self.timers.set(Timer::Sweep, if is_whole { now.steady + interval } else { now.steady });
        self.swept = ids.last().filter(|_| !is_whole).map(Rc::clone);
        let used_before = now.wall.saturating_sub(self.settings.id_expiration_ms);
        let mut effects = Effects::default();
        for id in ids {
            let is_unused = (self.transactions.get(&id))
                .is_some_and(|known| known.state_is_final() && known.updated <= used_before);
            if is_unused {
                self.transactions.remove(&id);
                let record = TransactionRecord { transactional_id: id.to_string(), value: None };
                effects.records.push(record);
            }
        }
        effects
    }

    fn answer(
        &mut self,
        context: &mut Context,
        ticket: Ticket,
        id: &str,
        act: impl FnOnce(&mut Option<Transaction>, &mut Turn) -> Reply,
    ) -> Effects {
        self.one(context, id, |transaction, turn| {
            let reply = act(transaction, turn);
            turn.effects.replies.push((ticket, reply));
        })
    }

    /// A turn of one id, which may come to be by it.
    fn one(
        &mut self,
        context: &mut Context,
        id: &str,
        act: impl FnOnce(&mut Option<Transaction>, &mut Turn),
    ) -> Effects {
        let (id, mut transaction) = match self.transactions.remove_entry(id) {
            Some((id, transaction)) => (id, Some(transaction)),
            None => (Rc::from(id), None),
        };
        let is_open = |transaction: &Option<Transaction>| {
            usize::from(transaction.as_ref().is_some_and(|transaction| !transaction.state_is_final()))
        };
        self.open -= is_open(&transaction);
        let mut turn = Turn {
            now: context.now,
            image: context.image,
            producer_id: &mut *context.producer_id,
            settings: &self.settings,
            timers: &mut self.timers,
            effects: Effects::default(),
            id: Rc::clone(&id),
        };
        act(&mut transaction, &mut turn);
        let effects = turn.effects;
        self.open += is_open(&transaction);
        if let Some(transaction) = transaction {
            self.transactions.insert(id, transaction);
        }
        effects
    }

    fn these(
        &mut self,
        context: &mut Context,
        ids: Vec<Rc<str>>,
        act: impl Fn(&mut Transaction, &mut Turn),
    ) -> Effects {
        let mut effects = Effects::default();
        for id in ids {
            effects.append(self.one(context, &id, |transaction, turn| {
                if let Some(transaction) = transaction {
                    act(transaction, turn);
                }
            }));
        }
        effects
    }
}

/// What clients of before `since` are told instead of PRODUCER_FENCED, which they do not know.
fn known_error(error: ErrorCode, version: i16, since: i16) -> ErrorCode {
    match error {
        ErrorCode::ProducerFenced if version < since => ErrorCode::InvalidProducerEpoch,
        error => error,
    }
}

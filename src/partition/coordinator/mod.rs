//! The coordinators of a shard: one for each partition of `__consumer_offsets` and of `__transaction_state` that it leads.
//!
//! [`host`] is the hands of a machine of either kind: it loads the log into it, hands it requests and the time, appends the
//! records of each turn as it comes, and releases the replies when everything before them is durable. [`load`] reads the log.
//! [`route`] finds the host of a group from any shard, [`transactions`] that of a transactional id; [`markers`] ends
//! transactions in their partitions; [`verifier`] answers partitions that ask whether they belong to one.
//!
//! Invariants:
//! * A turn and the append of its records are one plain call: the log's order is the machine's.
//! * A machine whose records could not be written is dropped, with everybody who waits for it, and loaded anew.
//! * Nothing is done for a machine that was dropped: its commands end with it, and are given anew by the next one.
//! * Whoever waits for minutes (JoinGroup, SyncGroup) holds no credit of the mesh.
//! * When the node stops, nobody is heard and no session ends any more; nothing is written to a log that is being closed.
//!
//! Never here: what a group or a transaction is, which error a client sees.

mod host;
mod lag;
mod load;
mod markers;
mod route;
#[cfg(test)]
mod testing;
mod transactions;
mod verifier;

pub use route::partition_of;

use std::cell::{Cell, RefCell};
use std::collections::BTreeMap;
use std::convert::Infallible;
use std::future::Future;
use std::rc::Rc;

use host::{Host, Hosts, Stage};

use super::shard::Shard;
use crate::coordinator::group::{self, GroupCoordinator};
use crate::coordinator::record::{Record, TransactionRecord, TransactionState};
use crate::coordinator::transaction::{self, TransactionCoordinator, WriteMarkers};
use crate::coordinator::{Machine, Ticket};
use crate::log::producer_state::EndTxn;
use crate::metadata::{OFFSETS_TOPIC, TRANSACTIONS_TOPIC};
use crate::metrics::snapshot::PartitionCounters;
use crate::model::{ErrorCode, PartitionId, ProducerId, ShardId};
use crate::reactor;
use crate::reactor::sync::Sender;

/// Of all coordinators.
#[derive(Clone, Debug, Default)]
pub struct Settings {
    pub groups: group::Settings,
    pub transactions: transaction::Settings,
}

/// This shard alone; `None`: all of the node.
fn shards(only: Option<ShardId>) -> impl Iterator<Item = ShardId> {
    let of = |shard| ShardId(u16::try_from(shard).expect("shards are few"));
    (0..reactor::shard_count()).map(of).filter(move |&shard| only.is_none_or(|only| only == shard))
}

/// The coordinators of one shard.
pub(super) struct Coordinators {
    groups: Hosts<GroupCoordinator>,
    transactions: Hosts<TransactionCoordinator>,
    /// Requests of this shard's connections that other shards answer later, by the number we gave them.
    asked: RefCell<BTreeMap<u64, Sender<Result<group::Reply, ErrorCode>>>>,
    /// The node stops.
    has_ended: Cell<bool>,
}

/// What is different about the hosts of one kind of machine.
trait Hosted: Machine {
    /// Where its log is.
    const TOPIC: &'static str;
    /// What is lost to clients while it is not there.
    const WHAT: &'static str;
    /// Whether a turn may want a producer id at hand without having been asked for one.
    const TAKES_PRODUCER_IDS: bool;

    fn hosts(coordinators: &Coordinators) -> &Hosts<Self>;

    /// Whether the reply may come minutes later.
    fn may_wait(request: &Self::Request) -> bool;

    /// What a turn writes.
    fn count(counters: &PartitionCounters, records: &[Self::Record]);

    /// What a turn has done beside.
    fn count_turn(_machine: &mut Self, _counters: &PartitionCounters) {}

    /// What a turn commands is durably its decision.
    fn carry_out(shard: &Rc<Shard>, host: &Rc<Host<Self>>, commands: Vec<Self::Command>);
}

impl Hosted for GroupCoordinator {
    const TOPIC: &'static str = OFFSETS_TOPIC;
    const WHAT: &'static str = "consumer groups";
    const TAKES_PRODUCER_IDS: bool = false;

    fn hosts(coordinators: &Coordinators) -> &Hosts<Self> {
        &coordinators.groups
    }

    fn may_wait(request: &group::Request) -> bool {
        request.body.may_wait()
    }

    fn count(counters: &PartitionCounters, records: &[Record]) {
        let offsets = records.iter().filter(|record| record.is_committed_offset()).count();
        counters.committed_offsets.add(offsets as u64);
        counters.group_records.add(records.len() as u64);
    }

    fn carry_out(_: &Rc<Shard>, _: &Rc<Host<Self>>, commands: Vec<Infallible>) {
        assert!(commands.is_empty(), "there is none to be given");
    }
}

impl Hosted for TransactionCoordinator {
    const TOPIC: &'static str = TRANSACTIONS_TOPIC;
    const WHAT: &'static str = "transactions";
    const TAKES_PRODUCER_IDS: bool = true;

    fn hosts(coordinators: &Coordinators) -> &Hosts<Self> {
        &coordinators.transactions
    }

    fn may_wait(_: &transaction::Request) -> bool {
        false
    }

    fn count(counters: &PartitionCounters, records: &[TransactionRecord]) {
        for record in records {
            match record.value.as_ref().map(|value| value.state) {
                Some(TransactionState::CompleteCommit) => counters.committed_transactions.increment(),
                Some(TransactionState::CompleteAbort) => counters.aborted_transactions.increment(),
                _ => {}
            }
        }
    }

    fn count_turn(machine: &mut Self, counters: &PartitionCounters) {
        counters.timed_out_transactions.add(machine.take_timed_out());
    }

    fn carry_out(shard: &Rc<Shard>, host: &Rc<Host<Self>>, commands: Vec<WriteMarkers>) {
        commands.into_iter().for_each(|command| markers::begin(shard, host, command));
    }
}

impl Coordinators {
    pub(super) fn new(settings: Settings) -> Coordinators {
        Coordinators {
            groups: Hosts::new(settings.groups),
            transactions: Hosts::new(settings.transactions),
            asked: RefCell::default(),
            has_ended: Cell::new(false),
        }
    }

    /// The node stops. Nothing more may be asked, who waits for other members is told to go elsewhere, and no session
    /// ends: members that cannot be heard have not gone. What waits for the disk is answered still, and a topic that is being
    /// removed takes its offsets along until the logs are closed.
    pub(super) fn end(&self) {
        self.has_ended.set(true);
        self.groups.end();
        self.transactions.end();
        self.asked.borrow_mut().clear();
    }

    fn has_ended(&self) -> bool {
        self.has_ended.get()
    }
}

impl Shard {
    /// A partition is open here: if it is a coordinator's, that is loaded, then serves.
    pub(super) fn begin_coordinator(self: &Rc<Self>, partition: PartitionId) {
        let image = self.image();
        match image.topic(partition.topic).map(|topic| topic.name.as_str()) {
            Some(OFFSETS_TOPIC) => self.begin_host::<GroupCoordinator>(partition),
            Some(TRANSACTIONS_TOPIC) => self.begin_host::<TransactionCoordinator>(partition),
            _ => {}
        }
    }

    pub(super) fn end_coordinator(&self, partition: PartitionId) {
        self.end_host::<GroupCoordinator>(partition);
        self.end_host::<TransactionCoordinator>(partition);
    }

    /// Has `append` put the marker that ends a producer's transaction into a partition's log. If the log is a coordinator's,
    /// its machine is told in the same plain call: the log's order is the machine's.
    ///
    /// # Errors
    /// Those of `append`. COORDINATOR_LOAD_IN_PROGRESS and its like: the machine cannot be told yet, and nothing was appended.
    pub(super) fn end_transaction<T>(
        &self,
        partition: PartitionId,
        producer: ProducerId,
        end: EndTxn,
        append: impl FnOnce() -> Result<T, ErrorCode>,
    ) -> Result<T, ErrorCode> {
        let image = self.image();
        match image.topic(partition.topic).map(|topic| topic.name.as_str()) {
            Some(OFFSETS_TOPIC) => self.end_in::<GroupCoordinator, T>(partition, producer, end, append),
            Some(TRANSACTIONS_TOPIC) => {
                self.end_in::<TransactionCoordinator, T>(partition, producer, end, append)
            }
            _ => append(),
        }
    }

    /// What the topics' removal writes is durable when the future ends, also where groups are being loaded. A coordinator that
    /// cannot be loaded or written is told when it can, and nobody waits for that. Transactions need not know.
    pub(super) fn topics_removed(self: &Rc<Self>, topics: &[String]) -> impl Future<Output = ()> + use<> {
        let (mut written, mut told) = (Vec::new(), Vec::new());
        for host in self.coordinators().groups.all() {
            match self.turn(&host, |machine, context| machine.topics_removed(context, topics)) {
                Ok(settled) => written.push(settled),
                Err(_) => told.extend(host.tell_later(topics)),
            }
        }
        async move {
            for settled in written {
                settled.wait().await;
            }
            for told in told {
                told.await;
            }
        }
    }

    pub(super) fn topics_changed(self: &Rc<Self>) {
        for host in self.coordinators().groups.all() {
            // one that does not run learns of the topics when it is loaded
            let _ = self.turn(&host, |machine, context| machine.topics_changed(context));
        }
    }
}

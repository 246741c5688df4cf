//! The group coordinators of a shard: one for each partition of `__consumer_offsets` that it leads.
//!
//! [`GroupHost`] is the machine's hands: it loads the log into it, hands it requests and the time, appends the records
//! of each turn as it comes, and releases the replies when everything before them is durable. [`route`] finds the host
//! of a group from any shard; [`load`] reads the log.
//!
//! Invariants:
//! * A turn and the append of its records are one plain call: the log's order is the machine's.
//! * A machine whose records could not be written is dropped, with everybody who waits for it, and loaded anew.
//! * Whoever waits for minutes (JoinGroup, SyncGroup) holds no credit of the mesh.
//!
//! Never here: what a group is, which error a client sees.

mod lag;
mod load;
mod route;

pub use route::partition_of;

use std::cell::{Cell, RefCell};
use std::collections::HashMap;
use std::future::Future;
use std::rc::{Rc, Weak};
use std::time::Duration;

use bytes::Bytes;
use futures_lite::future::or;

use super::local::LocalAppend;
use super::message::{Acks, AppendOutcome, AppendPartition};
use super::shard::Shard;
use crate::coordinator::group::{GroupCoordinator, Reply, Request, Settings};
use crate::coordinator::record::Record;
use crate::coordinator::{Context, Effects, Now, Ticket};
use crate::model::{ErrorCode, PartitionId};
use crate::protocol::batch::{BatchHeader, Codec};
use crate::protocol::compose::{NewRecord, compose};
use crate::reactor::sync::{Notify, Receiver, Sender, oneshot};
use crate::reactor::{self, Instant, Task};

/// Until a coordinator that could not be loaded, or not write, is loaded again.
const RELOAD_PAUSE: Duration = Duration::from_secs(1);

/// Records of one batch, bytes of keys and values. A turn that makes more is written in several.
const BATCH_BYTES: usize = 1 << 20;

/// The coordinators of one shard.
pub(super) struct Coordinators {
    settings: Settings,
    hosts: RefCell<HashMap<PartitionId, Rc<GroupHost>>>,
    /// Requests of this shard's connections that other shards answer later, by the number we gave them.
    asked: RefCell<HashMap<u64, Sender<Result<Reply, ErrorCode>>>>,
}

struct GroupHost {
    partition: PartitionId,
    machine: RefCell<Machine>,
    waiting: RefCell<HashMap<Ticket, Waiting>>,
    next_ticket: Cell<u64>,
    /// The next deadline has moved forward, or the machine is not what it was.
    changed: Notify,
    /// When the timers' task wakes; `None`: it does not by itself.
    wakes: Cell<Option<u64>>,
    /// Topics that were removed while there was no machine to tell.
    untold: RefCell<Vec<String>>,
    /// Who waits until it is told.
    telling: RefCell<Vec<Sender<()>>>,
}

struct Waiting {
    sender: Sender<Reply>,
    /// For other members, not for the disk.
    for_others: bool,
}

/// Where the records of a turn are still on their way to the disk: the task that waits for it.
struct Settled(Option<Task<()>>);

enum Machine {
    Loading,
    Running(Box<GroupCoordinator>),
    /// Until it is loaded again.
    Failed,
    /// The partition is not led here any more.
    Gone,
}

impl Coordinators {
    pub(super) fn new(settings: Settings) -> Coordinators {
        Coordinators { settings, hosts: RefCell::default(), asked: RefCell::default() }
    }

    fn host(&self, partition: PartitionId) -> Option<Rc<GroupHost>> {
        self.hosts.borrow().get(&partition).map(Rc::clone)
    }

    fn all(&self) -> Vec<Rc<GroupHost>> {
        self.hosts.borrow().values().map(Rc::clone).collect()
    }

    /// Who waits for other members is told to go elsewhere: the node stops.
    pub(super) fn end_waits(&self) {
        for host in self.all() {
            host.waiting.borrow_mut().retain(|_, waiting| !waiting.for_others);
        }
        self.asked.borrow_mut().clear();
    }
}

impl GroupHost {
    fn new(partition: PartitionId) -> Rc<GroupHost> {
        Rc::new(GroupHost {
            partition,
            machine: RefCell::new(Machine::Loading),
            waiting: RefCell::default(),
            next_ticket: Cell::new(0),
            changed: Notify::default(),
            wakes: Cell::new(None),
            untold: RefCell::default(),
            telling: RefCell::default(),
        })
    }

    /// The machine is of no use any more: who waits is told so.
    fn fail(&self, now: Machine) {
        if matches!(*self.machine.borrow(), Machine::Gone) {
            return;
        }
        *self.machine.borrow_mut() = now;
        self.waiting.borrow_mut().clear();
        self.telling.borrow_mut().clear();
        self.changed.notify();
    }

    /// `None`: it may take long.
    fn tell_later(&self, topics: &[String]) -> Option<Receiver<()>> {
        self.untold.borrow_mut().extend_from_slice(topics);
        let (sender, receiver) = oneshot();
        let is_loading = matches!(*self.machine.borrow(), Machine::Loading);
        is_loading.then(|| {
            self.telling.borrow_mut().push(sender);
            receiver
        })
    }

    /// What a turn has appended is durable, or it is lost; then the machine is ahead of its log, and may not answer once more.
    fn settle(&self, replies: Vec<(Ticket, Reply)>, outcomes: &[AppendOutcome]) {
        match outcomes.iter().find(|outcome| !outcome.error.is_none()) {
            None => self.release(replies),
            Some(failed) => {
                tracing::error!(
                    partition = self.partition.index, error = ?failed.error,
                    "what consumer groups have agreed on cannot be written; they are loaded again from __consumer_offsets"
                );
                self.fail(Machine::Failed);
            }
        }
    }

    fn release(&self, replies: Vec<(Ticket, Reply)>) {
        for (ticket, reply) in replies {
            let waiting = self.waiting.borrow_mut().remove(&ticket);
            if let Some(waiting) = waiting {
                waiting.sender.send(reply);
            }
        }
    }

    /// When the machine has something to do; nothing if it does not run.
    fn next_tick(&self) -> Option<Option<u64>> {
        match &*self.machine.borrow() {
            Machine::Running(machine) => Some(machine.next_tick()),
            _ => None,
        }
    }
}

fn now() -> Now {
    Now { steady: reactor::now().0 / 1_000_000, wall: reactor::wall_clock_ms() }
}

impl Shard {
    /// A partition of `__consumer_offsets` is open here: its groups are loaded, then served.
    pub(super) fn begin_coordinator(self: &Rc<Self>, partition: PartitionId) {
        let host = GroupHost::new(partition);
        self.coordinators().hosts.borrow_mut().insert(partition, Rc::clone(&host));
        let shard = Rc::downgrade(self);
        reactor::spawn(run(shard, host));
    }

    pub(super) fn end_coordinator(&self, partition: PartitionId) {
        let host = self.coordinators().hosts.borrow_mut().remove(&partition);
        if let Some(host) = host {
            host.fail(Machine::Gone);
        }
    }

    /// What the topics' removal writes is durable when the future ends, also where groups are being loaded. A coordinator that
    /// cannot be loaded or written is told when it can, and nobody waits for that.
    pub(super) fn topics_removed(self: &Rc<Self>, topics: &[String]) -> impl Future<Output = ()> + use<> {
        let (mut written, mut told) = (Vec::new(), Vec::new());
        for host in self.coordinators().all() {
            match self.turn(&host, |machine, context| machine.topics_removed(context, topics)) {
                Ok(Settled(task)) => written.extend(task),
                Err(_) => told.extend(host.tell_later(topics)),
            }
        }
        async move {
            for task in written {
                task.await;
            }
            for told in told {
                told.await;
            }
        }
    }

    pub(super) fn topics_changed(self: &Rc<Self>) {
        for host in self.coordinators().all() {
            // one that does not run learns of the topics when it is loaded
            let _ = self.turn(&host, |machine, context| machine.topics_changed(context));
        }
    }

    fn ask_coordinator(
        self: &Rc<Self>,
        partition: PartitionId,
        request: Request,
    ) -> Result<Receiver<Reply>, ErrorCode> {
        let host = self.coordinators().host(partition).ok_or(ErrorCode::NotCoordinator)?;
        let ticket = Ticket(host.next_ticket.get());
        host.next_ticket.set(ticket.0 + 1);
        let (sender, receiver) = oneshot();
        let for_others = request.body.may_wait();
        host.waiting.borrow_mut().insert(ticket, Waiting { sender, for_others });
        match self.turn(&host, |machine, context| machine.handle(context, ticket, request)) {
            Ok(_) => Ok(receiver),
            Err(error) => {
                host.waiting.borrow_mut().remove(&ticket);
                Err(error)
            }
        }
    }

    /// One call of the machine, and the append of what it writes.
    fn turn(
        self: &Rc<Self>,
        host: &Rc<GroupHost>,
        act: impl FnOnce(&mut GroupCoordinator, &mut Context) -> Effects<Reply>,
    ) -> Result<Settled, ErrorCode> {
        let effects = match &mut *host.machine.borrow_mut() {
            Machine::Loading => return Err(ErrorCode::CoordinatorLoadInProgress),
            Machine::Failed => return Err(ErrorCode::CoordinatorNotAvailable),
            Machine::Gone => return Err(ErrorCode::NotCoordinator),
            Machine::Running(machine) => {
                let image = self.image();
                let mut context = Context { now: now(), image: &image, random: &mut reactor::random_u64 };
                act(machine, &mut context)
            }
        };
        let settled = self.take_effect(host, effects);
        if let Some(next) = host.next_tick().flatten()
            && host.wakes.get().is_none_or(|wakes| next < wakes)
        {
            host.changed.notify();
        }
        Ok(settled)
    }

    fn take_effect(self: &Rc<Self>, host: &Rc<GroupHost>, effects: Effects<Reply>) -> Settled {
        let Effects { records, replies, in_transaction: _ } = effects;
        match self.write(host.partition, &records) {
            LocalAppend::Settled(outcomes) => {
                host.settle(replies, &outcomes);
                Settled(None)
            }
            waiting @ LocalAppend::Waiting(_) => {
                let host = Rc::clone(host);
                let waits = async move { host.settle(replies, &waiting.outcomes().await) };
                Settled(Some(reactor::spawn(waits)))
            }
        }
    }

    /// Appends the records, in batches; without any, waits for what was appended before.
    fn write(self: &Rc<Self>, partition: PartitionId, records: &[Record]) -> LocalAppend {
        if records.is_empty() {
            return self.wait_local(partition);
        }
        let offsets = records.iter().filter(|record| record.is_committed_offset()).count();
        self.measures.counters.committed_offsets.add(offsets as u64);
        self.measures.counters.group_records.add(records.len() as u64);
        let timestamp = reactor::wall_clock_ms();
        let (mut batches, mut batch, mut bytes) = (Vec::new(), Vec::new(), 0);
        for record in records {
            let (key, value) = record.encode();
            bytes += key.len() + value.as_ref().map_or(0, Bytes::len);
            batch.push(NewRecord { timestamp, key: Some(key), value, headers: Vec::new() });
            if bytes >= BATCH_BYTES {
                batches.push(std::mem::take(&mut batch));
                bytes = 0;
            }
        }
        batches.extend((!batch.is_empty()).then_some(batch));
        let batches = (batches.iter())
            .map(|records| {
                let batch =
                    Bytes::from(compose(records, Codec::None).expect("a turn's records are few and small"));
                let header = BatchHeader::parse(&batch).expect("a batch of our own");
                AppendPartition { partition, batch, header }
            })
            .collect();
        // To the high watermark, however long it takes: what a turn has done cannot be taken back when a time is over.
        self.append_local(Acks::Leader, 0, batches)
    }
}

/// A host's task: loads the machine, then calls it when something is due, until the partition goes.
async fn run(shard: Weak<Shard>, host: Rc<GroupHost>) {
    let mut told = None;
    loop {
        let Some(strong) = shard.upgrade() else { return };
        if matches!(*host.machine.borrow(), Machine::Gone) {
            return;
        }
        match load::load(&strong, host.partition).await {
            Ok(machine) => {
                told = None;
                strong.began(&host, Box::new(machine));
            }
            Err(reason) => {
                if told.as_ref() != Some(&reason) {
                    tracing::error!(
                        partition = host.partition.index,
                        reason,
                        "the consumer groups of a partition of __consumer_offsets cannot be served until it can be read and \
                         written; trying on"
                    );
                    told = Some(reason);
                }
                host.fail(Machine::Failed);
            }
        }
        drop(strong);
        serve_timers(&shard, &host).await;
        reactor::sleep(RELOAD_PAUSE).await;
    }
}

/// Until the machine runs no more.
async fn serve_timers(shard: &Weak<Shard>, host: &Rc<GroupHost>) {
    while let Some(next) = host.next_tick() {
        let steady = now().steady;
        if next.is_some_and(|next| next <= steady) {
            let Some(shard) = shard.upgrade() else { return };
            let _ = shard.turn(host, GroupCoordinator::tick);
            // a thousand sessions may end at once
            reactor::turn().await;
            continue;
        }
        host.wakes.set(next);
        match next {
            Some(next) => or(sleep_until(next), host.changed.notified()).await,
            None => host.changed.notified().await,
        }
        host.wakes.set(None);
    }
}

/// Milliseconds of the steady clock.
async fn sleep_until(at: u64) {
    let deadline = Instant(at.saturating_mul(1_000_000));
    reactor::sleep(deadline.since(reactor::now())).await;
}

impl Shard {
    fn began(self: &Rc<Self>, host: &Rc<GroupHost>, machine: Box<GroupCoordinator>) {
        if matches!(*host.machine.borrow(), Machine::Gone) {
            return;
        }
        *host.machine.borrow_mut() = Machine::Running(machine);
        let _ = self.turn(host, |machine, context| machine.loaded(context));
        let (topics, telling) = (host.untold.take(), host.telling.take());
        // a topic of the same name may be there again; nobody could commit anything of it yet
        if let Ok(Settled(task)) =
            self.turn(host, |machine, context| machine.topics_removed(context, &topics))
        {
            reactor::spawn(async move {
                if let Some(task) = task {
                    task.await;
                }
                telling.into_iter().for_each(|sender| sender.send(()));
            });
        }
    }
}

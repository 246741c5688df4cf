//! One machine's hands, whichever kind it is.

use std::cell::{Cell, RefCell};
use std::collections::BTreeMap;
use std::rc::{Rc, Weak};
use std::time::Duration;

use bytes::Bytes;
use futures_lite::future::or;

use super::{Hosted, Shard, Ticket, load};
use crate::coordinator::record::LogRecord;
use crate::coordinator::{Context, Effects, EffectsOf, Machine, Now};
use crate::log::producer_state::EndTxn;
use crate::model::{ErrorCode, PartitionId, ProducerEpoch, ProducerId};
use crate::partition::local::LocalAppend;
use crate::partition::message::{AppendOutcome, AppendPartition};
use crate::protocol::batch::{BatchHeader, Codec, put_in_transaction};
use crate::protocol::compose::{NewRecord, compose};
use crate::reactor::sync::{Notify, Receiver, Sender, oneshot};
use crate::reactor::{self, Instant, Task};

/// Until a coordinator that could not be loaded, or not write, is loaded again.
const RELOAD_PAUSE: Duration = Duration::from_secs(1);

/// Records of one batch, bytes of keys and values. A turn that makes more is written in several.
const BATCH_BYTES: usize = 1 << 20;

/// A shard's hosts of one kind.
pub(super) struct Hosts<M: Machine> {
    pub settings: M::Settings,
    by_partition: RefCell<BTreeMap<PartitionId, Rc<Host<M>>>>,
}

pub(super) struct Host<M: Machine> {
    pub partition: PartitionId,
    pub machine: RefCell<Stage<M>>,
    waiting: RefCell<BTreeMap<Ticket, Waiting<M::Reply>>>,
    next_ticket: Cell<u64>,
    /// Machines that were dropped.
    lives: Cell<u64>,
    /// The next deadline has moved forward, or the machine is not what it was.
    changed: Notify,
    /// When the timers' task wakes; `None`: it does not by itself.
    wakes: Cell<Option<u64>>,
    /// Topics that were removed while there was no machine to tell.
    untold: RefCell<Vec<String>>,
    /// Who waits until it is told.
    telling: RefCell<Vec<Sender<()>>>,
}

struct Waiting<Reply> {
    sender: Sender<Reply>,
    /// For other members, not for the disk.
    for_others: bool,
}

/// Where the records of a turn are still on their way to the disk: the task that waits for it.
pub(super) struct Settled(Option<Task<()>>);

impl Settled {
    /// For the records to be durable, or lost.
    pub async fn wait(self) {
        if let Some(task) = self.0 {
            task.await;
        }
    }
}

pub(super) enum Stage<M> {
    Loading,
    Running(Box<M>),
    /// Until it is loaded again.
    Failed,
    /// The partition is not led here any more.
    Gone,
}

/// Which of a host's machines it was. What was begun for one is not carried on for the next.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Life(u64);

impl<M: Machine> Hosts<M> {
    pub fn new(settings: M::Settings) -> Hosts<M> {
        Hosts { settings, by_partition: RefCell::default() }
    }

    pub fn get(&self, partition: PartitionId) -> Option<Rc<Host<M>>> {
        self.by_partition.borrow().get(&partition).map(Rc::clone)
    }

    pub fn all(&self) -> Vec<Rc<Host<M>>> {
        self.by_partition.borrow().values().map(Rc::clone).collect()
    }

    /// The node stops.
    pub fn end(&self) {
        for host in self.all() {
            host.waiting.borrow_mut().retain(|_, waiting| !waiting.for_others);
            host.changed.notify();
        }
    }
}

impl<M: Hosted> Host<M> {
    fn new(partition: PartitionId) -> Rc<Host<M>> {
        Rc::new(Host {
            partition,
            machine: RefCell::new(Stage::Loading),
            waiting: RefCell::default(),
            next_ticket: Cell::new(0),
            lives: Cell::new(0),
            changed: Notify::default(),
            wakes: Cell::new(None),
            untold: RefCell::default(),
            telling: RefCell::default(),
        })
    }

    pub fn life(&self) -> Life {
        Life(self.lives.get())
    }

    /// The machine is of no use any more: who waits is told so.
    fn fail(&self, now: Stage<M>) {
        if matches!(*self.machine.borrow(), Stage::Gone) {
            return;
        }
        *self.machine.borrow_mut() = now;
        self.lives.set(self.lives.get() + 1);
        self.waiting.borrow_mut().clear();
        self.telling.borrow_mut().clear();
        self.changed.notify();
    }

    /// `None`: it may take long.
    pub fn tell_later(&self, topics: &[String]) -> Option<Receiver<()>> {
        self.untold.borrow_mut().extend_from_slice(topics);
        let (sender, receiver) = oneshot();
        let is_loading = matches!(*self.machine.borrow(), Stage::Loading);
        is_loading.then(|| {
            self.telling.borrow_mut().push(sender);
            receiver
        })
    }

    fn release(&self, replies: Vec<(Ticket, M::Reply)>) {
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
            Stage::Running(machine) => Some(machine.next_tick()),
            _ => None,
        }
    }
}

/// What waits until the records of a turn are durable.
struct Held<M: Machine> {
    life: Life,
    replies: Vec<(Ticket, M::Reply)>,
    commands: Vec<M::Command>,
}

fn now() -> Now {
    Now { steady: reactor::now().0 / 1_000_000, wall: reactor::wall_clock_ms() }
}

impl Shard {
    pub(super) fn begin_host<M: Hosted>(self: &Rc<Self>, partition: PartitionId) {
        let host = Host::<M>::new(partition);
        M::hosts(self.coordinators()).by_partition.borrow_mut().insert(partition, Rc::clone(&host));
        let shard = Rc::downgrade(self);
        reactor::spawn(run(shard, host));
    }

    pub(super) fn end_host<M: Hosted>(&self, partition: PartitionId) {
        let host = M::hosts(self.coordinators()).by_partition.borrow_mut().remove(&partition);
        if let Some(host) = host {
            host.fail(Stage::Gone);
        }
    }

    pub(super) fn ask_coordinator<M: Hosted>(
        self: &Rc<Self>,
        partition: PartitionId,
        request: M::Request,
    ) -> Result<Receiver<M::Reply>, ErrorCode> {
        if self.coordinators().has_ended() {
            return Err(ErrorCode::NotCoordinator);
        }
        let host = M::hosts(self.coordinators()).get(partition).ok_or(ErrorCode::NotCoordinator)?;
        let ticket = Ticket(host.next_ticket.get());
        host.next_ticket.set(ticket.0 + 1);
        let (sender, receiver) = oneshot();
        let for_others = M::may_wait(&request);
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
    pub(super) fn turn<M: Hosted>(
        self: &Rc<Self>,
        host: &Rc<Host<M>>,
        act: impl FnOnce(&mut M, &mut Context) -> EffectsOf<M>,
    ) -> Result<Settled, ErrorCode> {
        // its log is being closed
        if self.storage().is_stopping() {
            return Err(ErrorCode::NotCoordinator);
        }
        let effects = match &mut *host.machine.borrow_mut() {
            Stage::Loading => return Err(ErrorCode::CoordinatorLoadInProgress),
            Stage::Failed => return Err(ErrorCode::CoordinatorNotAvailable),
            Stage::Gone => return Err(ErrorCode::NotCoordinator),
            Stage::Running(machine) => {
                let image = self.image();
                let mut context = Context {
                    now: now(),
                    image: &image,
                    random: &mut reactor::random_u64,
                    producer_id: &mut || self.producer_id_at_hand(),
                };
                let effects = act(machine, &mut context);
                M::count_turn(machine, &self.measures.counters);
                effects
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

    /// See [`Self::end_transaction`].
    pub(super) fn end_in<M: Hosted, T>(
        &self,
        partition: PartitionId,
        producer: ProducerId,
        end: EndTxn,
        append: impl FnOnce() -> Result<T, ErrorCode>,
    ) -> Result<T, ErrorCode> {
        let host = M::hosts(self.coordinators()).get(partition).ok_or(ErrorCode::NotCoordinator)?;
        match &mut *host.machine.borrow_mut() {
            // its log must not grow while it is read
            Stage::Loading => Err(ErrorCode::CoordinatorLoadInProgress),
            Stage::Failed => Err(ErrorCode::CoordinatorNotAvailable),
            Stage::Gone => Err(ErrorCode::NotCoordinator),
            Stage::Running(machine) => {
                let appended = append()?;
                machine.end_transaction(producer, end);
                Ok(appended)
            }
        }
    }

    fn take_effect<M: Hosted>(self: &Rc<Self>, host: &Rc<Host<M>>, effects: EffectsOf<M>) -> Settled {
        let Effects { records, replies, commands, in_transaction } = effects;
        let held = Held { life: host.life(), replies, commands };
        match self.write::<M>(host.partition, &records, in_transaction) {
            LocalAppend::Settled(outcomes) => {
                self.turn_settled(host, held, &outcomes);
                Settled(None)
            }
            waiting @ LocalAppend::Waiting(_) => {
                let (shard, host) = (Rc::downgrade(self), Rc::clone(host));
                let waits = async move {
                    let outcomes = waiting.outcomes().await;
                    if let Some(shard) = shard.upgrade() {
                        shard.turn_settled(&host, held, &outcomes);
                    }
                };
                Settled(Some(reactor::spawn(waits)))
            }
        }
    }

    /// What a turn has appended is durable, or it is lost; then the machine is ahead of its log, and may not answer once more.
    fn turn_settled<M: Hosted>(
        self: &Rc<Self>,
        host: &Rc<Host<M>>,
        held: Held<M>,
        outcomes: &[AppendOutcome],
    ) {
        if held.life != host.life() {
            return;
        }
        match outcomes.iter().find(|outcome| !outcome.error.is_none()) {
            None => {
                host.release(held.replies);
                if !held.commands.is_empty() {
                    M::carry_out(self, host, held.commands);
                }
            }
            Some(failed) => {
                tracing::error!(
                    topic = M::TOPIC, partition = host.partition.index, error = ?failed.error,
                    "the state of {} cannot be written; they are loaded again from their topic", M::WHAT
                );
                host.fail(Stage::Failed);
            }
        }
    }

    /// Appends the records, in batches; without any, waits for what was appended before.
    fn write<M: Hosted>(
        self: &Rc<Self>,
        partition: PartitionId,
        records: &[M::Record],
        in_transaction: Option<(ProducerId, ProducerEpoch)>,
    ) -> LocalAppend {
        if records.is_empty() {
            return self.wait_local(partition);
        }
        M::count(&self.measures.counters, records);
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
                let mut batch = compose(records, Codec::None).expect("a turn's records are few and small");
                if let Some((producer_id, producer_epoch)) = in_transaction {
                    put_in_transaction(&mut batch, producer_id, producer_epoch, false);
                }
                let batch = Bytes::from(batch);
                let header = BatchHeader::parse(&batch).expect("a batch of our own");
                AppendPartition { partition, batch, header }
            })
            .collect();
        self.append_turn(partition, batches)
    }

    fn began<M: Hosted>(self: &Rc<Self>, host: &Rc<Host<M>>, machine: Box<M>) {
        if matches!(*host.machine.borrow(), Stage::Gone) {
            return;
        }
        *host.machine.borrow_mut() = Stage::Running(machine);
        let _ = self.turn(host, |machine, context| machine.loaded(context));
        let (topics, telling) = (host.untold.take(), host.telling.take());
        // a topic of the same name may be there again; nobody could commit anything of it yet
        if let Ok(settled) = self.turn(host, |machine, context| machine.topics_removed(context, &topics)) {
            reactor::spawn(async move {
                settled.wait().await;
                telling.into_iter().for_each(|sender| sender.send(()));
            });
        }
    }
}

/// A host's task: loads the machine, then calls it when something is due, until the partition goes or the node stops.
async fn run<M: Hosted>(shard: Weak<Shard>, host: Rc<Host<M>>) {
    let mut told = None;
    loop {
        let Some(strong) = shard.upgrade() else { return };
        if matches!(*host.machine.borrow(), Stage::Gone) {
            return;
        }
        match load::load::<M>(&strong, host.partition).await {
            Ok(machine) => {
                told = None;
                strong.began(&host, Box::new(machine));
            }
            Err(_) if strong.storage().is_stopping() => return host.fail(Stage::Gone),
            Err(reason) => {
                if told.as_ref() != Some(&reason) {
                    tracing::error!(
                        topic = M::TOPIC,
                        partition = host.partition.index,
                        reason,
                        "the {} of a partition cannot be served until it can be read and written; trying on",
                        M::WHAT
                    );
                    told = Some(reason);
                }
                host.fail(Stage::Failed);
            }
        }
        drop(strong);
        serve_timers(&shard, &host).await;
        if shard.upgrade().is_none_or(|shard| shard.coordinators().has_ended()) {
            return;
        }
        reactor::sleep(RELOAD_PAUSE).await;
    }
}

/// Until the machine runs no more, or the node stops.
async fn serve_timers<M: Hosted>(shard: &Weak<Shard>, host: &Rc<Host<M>>) {
    while let Some(next) = host.next_tick() {
        let steady = now().steady;
        let Some(strong) = shard.upgrade().filter(|shard| !shard.coordinators().has_ended()) else { return };
        if next.is_some_and(|next| next <= steady) {
            if M::TAKES_PRODUCER_IDS {
                // without one, the machine tries again later
                let _ = strong.stock_producer_ids().await;
            }
            let _ = strong.turn(host, M::tick);
            drop(strong);
            // a thousand sessions may end at once
            reactor::turn().await;
            continue;
        }
        drop(strong);
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

//! One shard's face to the handlers, and its ear to the other shards.

use std::cell::{Cell, OnceCell, Ref, RefCell};
use std::collections::HashMap;
use std::future::Future;
use std::pin::Pin;
use std::rc::Rc;
use std::time::Duration;

use super::coordinator::{self, Coordinators};
use super::leader::Partition;
use super::measure::Measures;
use super::message::{
    Acks, AppendOutcome, AppendPartition, DeleteRecordsOutcome, DeleteRecordsPartition, EpochAnswer,
    EpochQueryPartition, Lifecycle, Message, OffsetAnswer, OffsetQueryPartition, ShardReply, ShardRequest,
    Transaction,
};
use super::park::Parked;
use super::router::Router;
use super::verify::Verifier;
use crate::metadata::{self, Image};
use crate::metrics::snapshot;
use crate::model::{BrokerId, DirectoryId, ErrorCode, Offset, PartitionId, ProducerId, ShardId};
use crate::reactor::sync::{Credits, Notify};
use crate::reactor::{self, Mesh};
use crate::storage::{self, Storage};

/// How often appends are checked for their timeout. Kafka's purgatory is as coarse.
const EXPIRY_TICK: Duration = Duration::from_millis(200);

/// Requests of one shard that may wait for the controller.
const CONTROL_REQUESTS_MAX: u64 = 128;

pub(super) type LocalFuture<T> = Pin<Box<dyn Future<Output = T>>>;

/// What the layers above do when another shard asks for it.
pub trait Host {
    /// The controller; called on shard 0 only.
    fn control(&self, request: metadata::Request) -> LocalFuture<metadata::Reply>;
    /// The settings of brokers were changed; what they are now is in the image.
    fn reconfigured(&self);
    /// Start serving, stop serving, end.
    fn lifecycle(&self, step: Lifecycle) -> LocalFuture<()>;
    /// What they count on this shard; nothing while they serve no clients.
    fn measure(&self) -> snapshot::Server;
}

/// Lives on its shard in an `Rc`; knows its own partitions and whom to ask for the others.
pub struct Shard {
    id: ShardId,
    broker: BrokerId,
    pub(super) image: RefCell<Image>,
    pub(super) partitions: RefCell<HashMap<PartitionId, Rc<Partition>>>,
    pub(super) router: Router,
    pub(super) storage: OnceCell<Rc<Storage>>,
    coordinators: OnceCell<Coordinators>,
    host: OnceCell<Box<dyn Host>>,
    /// Fetches of this shard's connections that other shards have parked, by the number we gave them.
    pub(super) waits: RefCell<HashMap<u64, Rc<Notify>>>,
    pub(super) next_wait: Cell<u64>,
    /// No fetch waits any more.
    pub(super) waits_ended: Cell<bool>,
    /// Fetches of other shards' connections that wait here.
    pub(super) parked_for: RefCell<HashMap<(ShardId, u64), Rc<Parked>>>,
    producer_ids: ProducerIdBlock,
    pub(super) verifier: OnceCell<Box<dyn Verifier>>,
    /// Also for clients that add partitions to a transaction themselves.
    pub(super) verifies_added: Cell<bool>,
    /// Of batches that wait for it.
    pub(super) parked_bytes: Cell<usize>,
    /// Requests to the controller under way: they must not take all credits from the data's requests, and not pile up.
    control_room: Credits,
    pub(super) measures: Measures,
}

/// What is left of the block of producer ids this shard was given.
struct ProducerIdBlock {
    next: Cell<i64>,
    end: Cell<i64>,
    /// One request for a new block at a time.
    turn: Credits,
}

impl Shard {
    /// `image` is empty until the metadata log is replayed. Call [`Self::start`] next.
    #[must_use]
    pub fn new(
        id: ShardId,
        shard_count: usize,
        broker: BrokerId,
        image: Image,
        mesh: Mesh<Message>,
    ) -> Rc<Shard> {
        Rc::new(Shard {
            id,
            broker,
            image: RefCell::new(image),
            partitions: RefCell::default(),
            router: Router::new(mesh, shard_count),
            storage: OnceCell::new(),
            coordinators: OnceCell::new(),
            host: OnceCell::new(),
            waits: RefCell::default(),
            next_wait: Cell::new(0),
            waits_ended: Cell::new(false),
            parked_for: RefCell::default(),
            producer_ids: ProducerIdBlock { next: Cell::new(0), end: Cell::new(0), turn: Credits::new(1) },
            verifier: OnceCell::new(),
            verifies_added: Cell::new(true),
            parked_bytes: Cell::new(0),
            control_room: Credits::new(CONTROL_REQUESTS_MAX),
            measures: Measures::default(),
        })
    }

    /// Opens this shard's storage and begins to answer the other shards.
    pub fn start(
        self: &Rc<Self>,
        config: storage::Config,
        coordinators: coordinator::Settings,
        directories: Vec<storage::LogDir>,
        host: Box<dyn Host>,
    ) {
        assert!(self.host.set(host).is_ok(), "a shard starts once");
        assert!(self.coordinators.set(Coordinators::new(coordinators)).is_ok(), "a shard starts once");
        let listener = Rc::new(DurableEnds(Rc::downgrade(self)));
        assert!(
            self.storage.set(Storage::start(config, directories, listener)).is_ok(),
            "a shard starts once"
        );
        let shard = Rc::clone(self);
        self.router.on_receive(move |from, message| {
            shard.router.received.increment();
            match message {
                Message::Reply { id, reply } => shard.router.receive_reply(from, id, reply),
                Message::Request { id, request } => shard.receive(from, id, request),
            }
        });
        let shard = Rc::downgrade(self);
        reactor::spawn(async move {
            loop {
                reactor::sleep(EXPIRY_TICK).await;
                let Some(shard) = shard.upgrade() else { return };
                shard.expire_appends();
                shard.measures.activity.fade();
            }
        });
    }

    /// From now on a fetch is answered with what there is, and groups and transactions are not coordinated here: the node
    /// stops, and has no time for what may come.
    pub fn end_waits(&self) {
        self.coordinators().end();
        for partition in self.sorted_partitions(|_| true) {
            self.fail_parked(&partition, ErrorCode::NotEnoughReplicas);
        }
        self.waits_ended.set(true);
        let waits = self.waits.borrow();
        let mut numbers: Vec<_> = waits.keys().collect();
        numbers.sort_unstable();
        numbers.into_iter().for_each(|number| waits[number].notify());
    }

    /// Whoever waits in several is woken in an order that a map does not have: the same in every run of a simulated seed.
    fn sorted_partitions(&self, wanted: impl Fn(&Partition) -> bool) -> Vec<Rc<Partition>> {
        let partitions = self.partitions.borrow();
        let mut found: Vec<_> = partitions.iter().filter(|(_, partition)| wanted(partition)).collect();
        found.sort_unstable_by_key(|(id, _)| **id);
        found.into_iter().map(|(_, partition)| Rc::clone(partition)).collect()
    }

    #[must_use]
    pub fn id(&self) -> ShardId {
        self.id
    }

    #[must_use]
    pub fn broker(&self) -> BrokerId {
        self.broker
    }

    /// The cluster as this shard knows it. Do not hold the borrow across an await.
    pub fn image(&self) -> Ref<'_, Image> {
        self.image.borrow()
    }

    pub fn storage(&self) -> &Rc<Storage> {
        self.storage.get().expect("the shard was started")
    }

    /// Fixes the order of all batches before it returns (local ones are appended, messages to other shards are
    /// queued); the future it returns resolves when `acks` is satisfied. Outcomes in the order of `batches`.
    /// The outer future waits only for room on the mesh; await it before the connection's next request.
    pub async fn append(
        self: &Rc<Self>,
        acks: Acks,
        timeout_ms: u64,
        batches: Vec<AppendPartition>,
    ) -> impl Future<Output = Vec<AppendOutcome>> + use<> {
        self.append_in(None, acks, timeout_ms, batches).await.1
    }

    /// As [`Self::append`], and says whom it concerns; transactional batches among them: `transaction` is theirs. Without
    /// one they are INVALID_TXN_STATE, unless their transaction has begun in the partition.
    pub async fn append_in(
        self: &Rc<Self>,
        transaction: Option<Transaction>,
        acks: Acks,
        timeout_ms: u64,
        batches: Vec<AppendPartition>,
    ) -> (Concern, impl Future<Output = Vec<AppendOutcome>> + use<>) {
        let mut split = self.split(batches, |batch| batch.partition);
        let concern = split.concern(self.id);
        let mut tickets = Vec::with_capacity(split.remote.len());
        for (owner, _) in &split.remote {
            tickets.push(self.router.ticket(*owner).await);
        }
        // From here to the end of the block nothing awaits: the order is fixed.
        let remote: Vec<_> = (split.remote.drain(..).zip(tickets))
            .map(|((_, part), ticket)| {
                let (batches, transaction) = (part.items, transaction.clone());
                let request = ShardRequest::Append { acks, timeout_ms, batches, transaction };
                (part.places, self.router.send(ticket, request))
            })
            .collect();
        let local = self.append_local(acks, timeout_ms, split.local.items, transaction);
        let outcomes = async move {
            let mut outcomes = vec![AppendOutcome::failed(ErrorCode::UnknownTopicOrPartition); split.count];
            place(&mut outcomes, &split.local.places, local.outcomes().await);
            for (places, receiver) in remote {
                let Some(ShardReply::Append(part)) = receiver.await else {
                    unreachable!("an append is answered with outcomes")
                };
                place(&mut outcomes, &places, part);
            }
            outcomes
        };
        (concern, outcomes)
    }

    pub async fn list_offsets(&self, queries: Vec<OffsetQueryPartition>) -> Vec<OffsetAnswer> {
        let mut answers = vec![OffsetAnswer::failed(ErrorCode::UnknownTopicOrPartition); queries.len()];
        let split = self.split(queries, |query| query.partition);
        for (owner, part) in split.remote {
            let reply = self.router.ask(owner, ShardRequest::ListOffsets(part.items)).await;
            let ShardReply::ListOffsets(found) = reply else {
                unreachable!("ListOffsets is answered in kind")
            };
            place(&mut answers, &part.places, found);
        }
        place(&mut answers, &split.local.places, self.list_offsets_local(split.local.items).await);
        answers
    }

    pub async fn epoch_end_offsets(&self, queries: Vec<EpochQueryPartition>) -> Vec<EpochAnswer> {
        let unknown = EpochAnswer {
            error: ErrorCode::UnknownTopicOrPartition,
            epoch: crate::model::LeaderEpoch::NONE,
            end_offset: Offset::NONE,
        };
        let mut answers = vec![unknown; queries.len()];
        let split = self.split(queries, |query| query.partition);
        for (owner, part) in split.remote {
            let reply = self.router.ask(owner, ShardRequest::EpochEndOffsets(part.items)).await;
            let ShardReply::EpochEndOffsets(found) = reply else {
                unreachable!("EpochEndOffsets is answered in kind")
            };
            place(&mut answers, &part.places, found);
        }
        place(&mut answers, &split.local.places, self.epoch_end_offsets_local(&split.local.items));
        answers
    }

    pub async fn delete_records(
        self: &Rc<Self>,
        deletions: Vec<DeleteRecordsPartition>,
    ) -> Vec<DeleteRecordsOutcome> {
        let mut outcomes =
            vec![DeleteRecordsOutcome::failed(ErrorCode::UnknownTopicOrPartition); deletions.len()];
        let split = self.split(deletions, |deletion| deletion.partition);
        let mut remote = Vec::with_capacity(split.remote.len());
        for (owner, part) in split.remote {
            let ticket = self.router.ticket(owner).await;
            let receiver = self.router.send(ticket, ShardRequest::DeleteRecords(part.items));
            remote.push((part.places, receiver));
        }
        place(&mut outcomes, &split.local.places, self.delete_records_local(split.local.items).await);
        for (places, receiver) in remote {
            let Some(ShardReply::DeleteRecords(part)) = receiver.await else {
                unreachable!("DeleteRecords is answered in kind")
            };
            place(&mut outcomes, &places, part);
        }
        outcomes
    }

    /// Asks the controller, wherever it is; see [`metadata::Request`] for when it answers. REQUEST_TIMED_OUT at once
    /// when too many wait already.
    pub async fn control(&self, request: metadata::Request) -> metadata::Reply {
        if !self.control_room.try_take(1) {
            return metadata::Reply::Failed(ErrorCode::RequestTimedOut);
        }
        let reply = self.ask_controller(request).await;
        self.control_room.give(1);
        reply
    }

    async fn ask_controller(&self, request: metadata::Request) -> metadata::Reply {
        if self.id == ShardId::ZERO {
            return self.host().control(request).await;
        }
        match self.router.ask(ShardId::ZERO, ShardRequest::Control(request)).await {
            ShardReply::Control(reply) => reply,
            _ => unreachable!("Control is answered in kind"),
        }
    }

    /// A producer id nobody has had, from this shard's block.
    pub async fn next_producer_id(&self) -> Result<ProducerId, ErrorCode> {
        self.stock_producer_ids().await?;
        Ok(self.producer_id_at_hand().expect("there is one until somebody else has a turn"))
    }

    /// As [`Self::next_producer_id`]; `None`: there is none before [`Self::stock_producer_ids`].
    pub(super) fn producer_id_at_hand(&self) -> Option<ProducerId> {
        let block = &self.producer_ids;
        let id = block.next.get();
        if id == block.end.get() {
            return None;
        }
        block.next.set(id + 1);
        Some(ProducerId(id))
    }

    /// Sees to it that there is one at hand.
    pub(super) async fn stock_producer_ids(&self) -> Result<(), ErrorCode> {
        let block = &self.producer_ids;
        if block.next.get() != block.end.get() {
            return Ok(());
        }
        block.turn.take(1).await;
        let filled =
            if block.next.get() == block.end.get() { self.fill_producer_ids().await } else { Ok(()) };
        block.turn.give(1);
        filled
    }

    async fn fill_producer_ids(&self) -> Result<(), ErrorCode> {
        let request = metadata::Request::AllocateProducerIds { broker: self.broker, shard: self.id };
        match self.control(request).await {
            metadata::Reply::ProducerIds { first, count } => {
                assert!(count > 0, "a block of producer ids is not empty");
                self.producer_ids.next.set(first.0);
                self.producer_ids.end.set(first.0 + count);
                Ok(())
            }
            metadata::Reply::Failed(error) => Err(error),
            _ => unreachable!("AllocateProducerIds is answered in kind"),
        }
    }

    /// Asks one shard, this one included: how shard 0 leads the others.
    pub async fn ask(self: &Rc<Self>, to: ShardId, request: ShardRequest) -> ShardReply {
        if to == self.id { self.serve(to, request).await } else { self.router.ask(to, request).await }
    }

    pub(super) fn coordinators(&self) -> &Coordinators {
        self.coordinators.get().expect("the shard was started")
    }

    pub(super) fn host(&self) -> &dyn Host {
        self.host.get().expect("the shard was started").as_ref()
    }

    /// Has the other shards leave a log directory alone that cannot be written here: its disk is theirs, too. Not while the
    /// storage stops: they may have ended.
    fn tell_others(self: &Rc<Self>, directory: DirectoryId) {
        if self.storage.get().is_none_or(|storage| storage.is_stopping()) {
            return;
        }
        for to in self.router.others(self.id) {
            let shard = Rc::clone(self);
            reactor::spawn(async move {
                shard.router.ask(to, ShardRequest::DirectoryFailed(directory)).await;
            });
        }
    }

    /// A request from another shard. What fixes an order happens before this returns.
    fn receive(self: &Rc<Self>, from: ShardId, id: u64, request: ShardRequest) {
        let reply = self.serve(from, request);
        let shard = Rc::clone(self);
        reactor::spawn(async move {
            let reply = reply.await;
            shard.router.reply(from, id, reply);
        });
    }

    /// Fixes the order now; the future only waits for the outcome.
    fn serve(self: &Rc<Self>, from: ShardId, request: ShardRequest) -> LocalFuture<ShardReply> {
        let shard = Rc::clone(self);
        match request {
            ShardRequest::Append { acks, timeout_ms, batches, transaction } => {
                let append = self.append_local(acks, timeout_ms, batches, transaction);
                Box::pin(async move { ShardReply::Append(append.outcomes().await) })
            }
            ShardRequest::WriteMarkers(markers) => {
                let written = self.write_markers_local(&markers);
                Box::pin(async move { ShardReply::Markers(written.await) })
            }
            ShardRequest::DescribeProducers(partitions) => {
                Box::pin(
                    async move { ShardReply::Producers(shard.describe_producers_local(&partitions).await) },
                )
            }
            ShardRequest::Read(read) => {
                Box::pin(async move { ShardReply::Read(shard.read_local(&read).await) })
            }
            ShardRequest::Park { id, read, min_bytes } => {
                let parked = Rc::new(Parked::default());
                self.parked_for.borrow_mut().insert((from, id), Rc::clone(&parked));
                Box::pin(async move { shard.park_for(from, id, parked, read, min_bytes).await })
            }
            ShardRequest::Unpark { id } => {
                let parked = self.parked_for.borrow_mut().remove(&(from, id));
                if let Some(parked) = parked {
                    parked.call_off();
                }
                done()
            }
            ShardRequest::Fired { id } => {
                if let Some(wait) = self.waits.borrow().get(&id) {
                    wait.notify();
                }
                done()
            }
            ShardRequest::ListOffsets(queries) => {
                Box::pin(async move { ShardReply::ListOffsets(shard.list_offsets_local(queries).await) })
            }
            ShardRequest::EpochEndOffsets(queries) => {
                let answers = self.epoch_end_offsets_local(&queries);
                Box::pin(async move { ShardReply::EpochEndOffsets(answers) })
            }
            ShardRequest::DeleteRecords(deletions) => {
                Box::pin(
                    async move { ShardReply::DeleteRecords(shard.delete_records_local(deletions).await) },
                )
            }
            ShardRequest::Relocate(moves) => {
                Box::pin(async move { ShardReply::Relocate(shard.relocate_local(moves).await) })
            }
            ShardRequest::DescribeLogs(asked) => {
                Box::pin(async move { ShardReply::Logs(shard.describe_logs_local(asked).await) })
            }
            ShardRequest::Coordinate { partition, request } => {
                let reply = self.coordinate_for(partition, request);
                Box::pin(async move { ShardReply::Coordinate(reply.await) })
            }
            ShardRequest::CoordinateLater { id, partition, request } => {
                self.coordinate_later(from, id, partition, request);
                done()
            }
            ShardRequest::Coordinated { id, reply } => {
                self.coordinated(id, *reply);
                done()
            }
            ShardRequest::ListGroups { states, types } => {
                Box::pin(async move { ShardReply::Groups(shard.list_groups_local(states, types).await) })
            }
            ShardRequest::GroupProgress => {
                Box::pin(async move { ShardReply::GroupProgress(shard.group_progress().await) })
            }
            ShardRequest::Transact { partition, request } => Box::pin(async move {
                ShardReply::Transact(Box::new(shard.transact_local(partition, request).await))
            }),
            ShardRequest::ListTransactions(request) => {
                Box::pin(
                    async move { ShardReply::Transactions(shard.list_transactions_local(request).await) },
                )
            }
            ShardRequest::Control(request) => {
                let reply = self.host().control(request);
                Box::pin(async move { ShardReply::Control(reply.await) })
            }
            ShardRequest::Replay(records) => Box::pin(async move {
                shard.replay(&records).await;
                ShardReply::Done
            }),
            ShardRequest::Open(partitions) => {
                Box::pin(async move { ShardReply::Open(shard.open_local(partitions).await) })
            }
            ShardRequest::Lifecycle(step) => {
                let step = self.host().lifecycle(step);
                Box::pin(async move {
                    step.await;
                    ShardReply::Done
                })
            }
            ShardRequest::DirectoryFailed(directory) => {
                self.storage().fail_directory(directory);
                done()
            }
            ShardRequest::Metrics => Box::pin(async move { ShardReply::Metrics(shard.measure().await) }),
            ShardRequest::Activity => {
                let activity = self.measures.activity.fade();
                Box::pin(std::future::ready(ShardReply::Activity(activity)))
            }
            ShardRequest::Expect(bytes) => {
                self.measures.activity.expect(bytes);
                Box::pin(std::future::ready(ShardReply::Done))
            }
            ShardRequest::Ping => {
                let offline = self.storage().offline_directories();
                Box::pin(std::future::ready(ShardReply::Pong(offline)))
            }
        }
    }

    /// The shard that holds a partition; `None` if this broker does not lead it (yet).
    pub(super) fn owner(&self, partition: PartitionId) -> Option<ShardId> {
        if self.partitions.borrow().contains_key(&partition) {
            return Some(self.id);
        }
        let image = self.image.borrow();
        let state = image.partition(partition)?;
        // Placed here but not open here: it is being opened or deleted. Until a start has opened its logs, a place is that of
        // the life before, which may have had more shards.
        let is_elsewhere = |shard: &ShardId| *shard != self.id && self.router.reaches(*shard);
        state.shard_of(self.broker).filter(|shard| state.leader == self.broker && is_elsewhere(shard))
    }

    /// Groups items by the shard that owns their partition, in the order of shards, keeping their places; items nobody
    /// owns stay out.
    pub(super) fn split<T>(&self, items: Vec<T>, partition: impl Fn(&T) -> PartitionId) -> Split<T> {
        let mut split = Split { count: items.len(), local: Part::default(), remote: Vec::new() };
        for (index, item) in items.into_iter().enumerate() {
            let part = match self.owner(partition(&item)) {
                Some(owner) if owner == self.id => &mut split.local,
                Some(owner) => {
                    let found = split.remote.iter().position(|(shard, _)| *shard == owner);
                    let at = found.unwrap_or_else(|| {
                        split.remote.push((owner, Part::default()));
                        split.remote.len() - 1
                    });
                    &mut split.remote[at].1
                }
                None => continue,
            };
            part.places.push(index);
            part.items.push(item);
        }
        // Credits are taken in the same order by all: two requests never hold what the other waits for.
        split.remote.sort_unstable_by_key(|(owner, _)| *owner);
        split
    }

    fn expire_appends(&self) {
        let now = reactor::now();
        for partition in self.partitions.borrow().values() {
            partition.expire(now);
        }
    }
}

fn done() -> LocalFuture<ShardReply> {
    Box::pin(std::future::ready(ShardReply::Done))
}

/// Whose partitions a request is about.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Concern {
    /// None that anybody owns.
    Nobody,
    One(ShardId),
    Several,
}

/// Items of a request grouped by owner.
pub(super) struct Split<T> {
    pub(super) count: usize,
    pub(super) local: Part<T>,
    pub(super) remote: Vec<(ShardId, Part<T>)>,
}

/// One owner's items and where their answers belong.
pub(super) struct Part<T> {
    pub(super) places: Vec<usize>,
    pub(super) items: Vec<T>,
}

impl<T> Split<T> {
    /// `home` is the shard that split it.
    pub(super) fn concern(&self, home: ShardId) -> Concern {
        match (self.local.items.is_empty(), self.remote.as_slice()) {
            (true, []) => Concern::Nobody,
            (false, []) => Concern::One(home),
            (true, [(owner, _)]) => Concern::One(*owner),
            _ => Concern::Several,
        }
    }
}

impl<T> Default for Part<T> {
    fn default() -> Part<T> {
        Part { places: Vec::new(), items: Vec::new() }
    }
}

/// Puts the answers of a part where they belong.
pub(super) fn place<T>(answers: &mut [T], places: &[usize], part: Vec<T>) {
    assert_eq!(places.len(), part.len(), "one answer per item");
    for (&at, answer) in places.iter().zip(part) {
        answers[at] = answer;
    }
}

/// Storage's news, handed to the partition concerned.
struct DurableEnds(std::rc::Weak<Shard>);

impl storage::Listener for DurableEnds {
    fn assign(&self, partition: PartitionId, directory: DirectoryId) -> LocalFuture<storage::Assigned> {
        let shard = self.0.upgrade();
        Box::pin(async move {
            match shard {
                Some(shard) => shard.assign(partition, directory).await,
                None => storage::Assigned::No,
            }
        })
    }

    fn durable(&self, partition: PartitionId, end: Offset) {
        let Some(shard) = self.0.upgrade() else { return };
        let found = shard.partitions.borrow().get(&partition).map(Rc::clone);
        if let Some(partition) = found {
            partition.advance(end);
        }
    }

    /// Of a partition that is not served (any more), nothing is deleted.
    fn high_watermark(&self, partition: PartitionId) -> Offset {
        let shard = self.0.upgrade();
        shard
            .and_then(|shard| Some(shard.partitions.borrow().get(&partition)?.high_watermark()))
            .unwrap_or(Offset::ZERO)
    }

    /// Of a partition that is not served (any more), nothing is compacted.
    fn last_stable_offset(&self, partition: PartitionId) -> Offset {
        let shard = self.0.upgrade();
        shard
            .and_then(|shard| Some(shard.partitions.borrow().get(&partition)?.last_stable_offset()))
            .unwrap_or(Offset::ZERO)
    }

    fn failed(&self, directory: DirectoryId) {
        let Some(shard) = self.0.upgrade() else { return };
        for partition in shard.sorted_partitions(|partition| partition.directory() == directory) {
            partition.fail_waiters(ErrorCode::KafkaStorageError);
            shard.fail_parked(&partition, ErrorCode::KafkaStorageError);
        }
        shard.tell_others(directory);
    }
}

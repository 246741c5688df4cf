//! Hosts the pure controller on shard 0: one decision at a time, committed, replayed everywhere, then answered.

use std::cell::{Cell, RefCell};
use std::collections::VecDeque;
use std::rc::Rc;
use std::sync::Arc;

use super::placement::Load;
use super::quorum::Quorum;
use crate::metadata::{AssignedReplica, Controller, Image, Record, Reply, Request, placement};
use crate::model::{BrokerId, DirectoryId, ErrorCode, PartitionId, ShardId};
use crate::partition::{OpenPartition, Shard, ShardReply, ShardRequest, Work};
use crate::reactor;
use crate::reactor::sync::{Notify, Sender, oneshot};
use crate::storage::{Create, LogDir};

/// Cheap to clone; the queue to the controller's loop.
#[derive(Clone)]
pub struct ControllerHost {
    queue: Rc<Queue>,
}

#[derive(Default)]
struct Queue {
    requests: RefCell<VecDeque<(Request, Sender<Reply>)>>,
    arrived: Notify,
    /// A decision is under way.
    busy: Cell<bool>,
    /// No decision begins any more; `idle` is notified when the last has ended.
    ending: Cell<bool>,
    idle: Notify,
}

/// The loop's own state.
pub(super) struct Loop {
    pub(super) shard: Rc<Shard>,
    pub(super) shard_count: usize,
    pub(super) quorum: Quorum,
    pub(super) controller: Controller,
    pub(super) log_dirs: Vec<LogDir>,
}

/// A replica of this node and where it is to be opened.
pub(super) struct Placed {
    pub(super) shard: ShardId,
    pub(super) open: OpenPartition,
}

impl ControllerHost {
    /// Spawns the loop.
    pub(super) fn start(mut state: Loop) -> ControllerHost {
        let queue = Rc::new(Queue::default());
        let host = ControllerHost { queue: Rc::clone(&queue) };
        reactor::spawn(async move {
            loop {
                let next = queue.requests.borrow_mut().pop_front().filter(|_| !queue.ending.get());
                match next {
                    Some((request, sender)) => {
                        queue.busy.set(true);
                        sender.send(state.handle(request).await);
                        state.shorten_log().await;
                        queue.busy.set(false);
                        queue.idle.notify();
                    }
                    None => queue.arrived.notified().await,
                }
            }
        });
        host
    }

    /// Lets the decision under way come to its end and begins no other: the logs may be closed then. Who still waits
    /// is answered BROKER_NOT_AVAILABLE.
    pub async fn end(&self) {
        self.queue.ending.set(true);
        self.queue.requests.borrow_mut().clear();
        while self.queue.busy.get() {
            self.queue.idle.notified().await;
        }
    }

    /// Queues a request; its reply comes when its records are committed and in force on every shard.
    pub async fn handle(&self, request: Request) -> Reply {
        if self.queue.ending.get() {
            return Reply::Failed(ErrorCode::BrokerNotAvailable);
        }
        let (sender, receiver) = oneshot();
        self.queue.requests.borrow_mut().push_back((request, sender));
        self.queue.arrived.notify();
        receiver.await.unwrap_or(Reply::Failed(ErrorCode::BrokerNotAvailable))
    }
}

impl Loop {
    pub(super) async fn handle(&mut self, request: Request) -> Reply {
        let now_ms = reactor::wall_clock_ms();
        let decision = self.controller.handle(now_ms, &mut reactor::random_u64, request);
        self.commit(decision.records.clone()).await;
        let created = self.place_new(&decision.records).await;
        if created.is_empty() {
            return decision.reply;
        }
        let failed = self.open(created).await;
        report_failures(decision.reply, &failed)
    }

    /// Durable, then replayed by every shard.
    async fn commit(&mut self, records: Vec<Record>) {
        if records.is_empty() {
            return;
        }
        if let Err(error) = self.quorum.commit(&records).await {
            tracing::error!(
                error,
                "the metadata log cannot be written; the broker stops. Mend the disk that holds the first of \
                 log.dirs, then start again"
            );
            std::process::exit(1);
        }
        let committed = reactor::now();
        self.broadcast(ShardRequest::Replay, Arc::new(records)).await;
        self.shard.metadata_metrics().applies.record(reactor::now().since(committed));
    }

    /// Between two decisions, when there is enough to shorten. A topic that was removed since the last one has lost its
    /// folders by now: those of one that a snapshot does not know any more would be set aside.
    pub(super) async fn shorten_log(&mut self) {
        if self.quorum.wants_snapshot() {
            self.quorum.take_snapshot(self.controller.image()).await;
        }
    }

    /// Sends every shard its copy of a request and waits for all.
    pub(super) async fn broadcast<T: Clone + 'static>(
        &self,
        request: impl Fn(T) -> ShardRequest,
        payload: T,
    ) {
        let mut tasks = Vec::with_capacity(self.shard_count);
        for index in 0..self.shard_count {
            let (shard, request) = (Rc::clone(&self.shard), request(payload.clone()));
            let to = ShardId(u16::try_from(index).expect("shards are few"));
            tasks.push(reactor::spawn(async move { shard.ask(to, request).await }));
        }
        for task in tasks {
            task.await;
        }
    }

    pub(super) fn image(&self) -> &Image {
        self.controller.image()
    }

    fn broker(&self) -> BrokerId {
        self.shard.broker()
    }

    /// Places the replicas that these records give this node.
    async fn place_new(&self, records: &[Record]) -> Vec<Placed> {
        let new: Vec<PartitionId> = (records.iter())
            .filter_map(|record| match record {
                Record::Partition(new) if new.replicas.contains(&self.broker()) => Some(new.partition),
                _ => None,
            })
            .collect();
        if new.is_empty() {
            return Vec::new();
        }
        let work = self.work().await;
        let mut load = Load::new(self.image(), self.broker(), &work, new.len(), &self.log_dirs);
        let mut placed = Vec::with_capacity(new.len());
        for of_topic in new.chunk_by(|a, b| a.topic == b.topic) {
            let shards = load.place(of_topic[0].topic, of_topic.len());
            for (&partition, shard) in of_topic.iter().zip(shards) {
                let open =
                    OpenPartition { partition, directory: load.directory(), create: Create::IfMissing };
                placed.push(Placed { shard, open });
            }
        }
        self.expect(&placed, load.expected()).await;
        placed
    }

    /// What the partitions of each shard have to do.
    async fn work(&self) -> Vec<Work> {
        let mut work_of = Vec::with_capacity(self.shard_count);
        for index in 0..self.shard_count {
            let to = ShardId(u16::try_from(index).expect("shards are few"));
            let ShardReply::Activity(work) = self.shard.ask(to, ShardRequest::Activity).await else {
                unreachable!("Activity is answered in kind")
            };
            work_of.push(work);
        }
        work_of
    }

    /// Until new partitions show what they do, they count as the others do, or the next ones would go to the same shard.
    async fn expect(&self, placed: &[Placed], each: u64) {
        for index in 0..self.shard_count {
            let to = ShardId(u16::try_from(index).expect("shards are few"));
            let count = placed.iter().filter(|placed| placed.shard == to).count() as u64;
            if count > 0 && each > 0 {
                self.shard.ask(to, ShardRequest::Expect(each.saturating_mul(count))).await;
            }
        }
    }

    /// Every replica of this node with its shard and directory, for boot: where it was, unless the number of shards
    /// has changed and calls for another spread.
    pub(super) fn place_all(&self) -> Vec<Placed> {
        let mut load = Load::new(
            self.image(),
            self.broker(),
            &vec![Work::default(); self.shard_count],
            0,
            &self.log_dirs,
        );
        let (mut opens, mut recorded_shards) = (Vec::new(), Vec::new());
        for topic in self.image().topics() {
            for (index, state) in (0..).zip(&topic.partitions) {
                let Some(recorded) = state.directory_of(self.broker()) else { continue };
                let (directory, create) = if recorded == DirectoryId::UNASSIGNED {
                    (load.directory(), Create::IfMissing)
                } else {
                    (recorded, Create::Never)
                };
                let partition = PartitionId { topic: topic.id, index };
                opens.push(OpenPartition { partition, directory, create });
                recorded_shards.push((partition, state.shard_of(self.broker())));
            }
        }
        let shards = placement::place_all(self.shard_count, &recorded_shards);
        opens.into_iter().zip(shards).map(|(open, placed)| Placed { shard: placed.shard, open }).collect()
    }

    /// Opens the logs on their shards side by side, and records where they are if that is news. Gives those
    /// that could not be opened.
    pub(super) async fn open(&mut self, placed: Vec<Placed>) -> Vec<PartitionId> {
        let mut by_shard: Vec<Vec<OpenPartition>> = vec![Vec::new(); self.shard_count];
        for Placed { shard, open } in placed {
            by_shard[shard.index()].push(open);
        }
        let mut tasks = Vec::new();
        for (index, opens) in by_shard.into_iter().enumerate().filter(|(_, opens)| !opens.is_empty()) {
            let to = ShardId(u16::try_from(index).expect("shards are few"));
            let (shard, request) = (Rc::clone(&self.shard), ShardRequest::Open(opens.clone()));
            tasks.push((to, opens, reactor::spawn(async move { shard.ask(to, request).await })));
        }
        let (mut replicas, mut failed) = (Vec::new(), Vec::new());
        for (shard, opens, task) in tasks {
            let ShardReply::Open(results) = task.await else { unreachable!("Open is answered in kind") };
            for (open, result) in opens.iter().zip(results) {
                match result {
                    Ok(directory) => {
                        replicas.push(AssignedReplica { partition: open.partition, directory, shard })
                    }
                    // Its folder stays where it was recorded, its shard answers that it is offline.
                    Err(_) if open.create == Create::Never => {
                        failed.push(open.partition);
                        let directory = open.directory;
                        replicas.push(AssignedReplica { partition: open.partition, directory, shard });
                    }
                    Err(_) => failed.push(open.partition),
                }
            }
        }
        replicas.retain(|replica| self.is_news(replica));
        if !replicas.is_empty() {
            let request = Request::AssignReplicas { broker: self.broker(), replicas };
            let decision =
                self.controller.handle(reactor::wall_clock_ms(), &mut reactor::random_u64, request);
            self.commit(decision.records).await;
        }
        failed
    }

    fn is_news(&self, replica: &AssignedReplica) -> bool {
        let state = self.image().partition(replica.partition);
        state.is_none_or(|state| {
            state.shard_of(self.broker()) != Some(replica.shard)
                || state.directory_of(self.broker()) != Some(replica.directory)
        })
    }
}

/// A topic whose partitions could not all be opened was created, but says so.
fn report_failures(mut reply: Reply, failed: &[PartitionId]) -> Reply {
    if let Reply::Topics(topics) = &mut reply {
        for topic in topics {
            if topic.error.is_none() && failed.iter().any(|partition| partition.topic == topic.id) {
                topic.error = ErrorCode::KafkaStorageError;
                topic.message = Some(
                    "the topic exists, but not every log could be created; the broker's log says why"
                        .to_owned(),
                );
            }
        }
    }
    reply
}

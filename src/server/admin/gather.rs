//! Asks every shard, once for all who want to know, and waits for none longer than it may take.

use std::cell::{Cell, RefCell};
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use futures_lite::future::or;

use super::Phase;
use crate::metrics::snapshot::nanoseconds;
use crate::metrics::{Node, PartitionOffsets, Scrape, Snapshot, render, render_groups, render_partitions};
use crate::model::{DirectoryId, ShardId, TopicId};
use crate::partition::{Shard, ShardReply, ShardRequest};
use crate::reactor::sync::{Sender, oneshot};
use crate::reactor::{blocking, now, process_usage, sleep_until, spawn, turn};

/// Within this a shard that is well answers, whatever it has to do.
const HEALTHY: Duration = Duration::from_secs(1);
/// A scrape would rather wait than go without a shard's numbers; Prometheus waits for ten seconds.
const SCRAPE_PATIENCE: Duration = Duration::from_secs(5);

/// Partitions looked at before the rest of the shard gets a turn: some 50 µs.
const LOGS_IN_A_ROW: usize = 1000;

/// Lives on shard 0.
pub(super) struct Gatherer {
    shard: Rc<Shard>,
    started_ms: i64,
    pub(super) phase: Cell<Phase>,
    /// Of the admin listener, for the metrics.
    pub(super) connections: Cell<u64>,
    scrapes: Questions,
    pings: Questions,
    texts: Rc<Joint<Bytes>>,
    partition_texts: Rc<Joint<Bytes>>,
    group_texts: Rc<Joint<Bytes>>,
    healths: Rc<Joint<Rc<Health>>>,
}

/// What the shards say of themselves.
pub(super) struct Health {
    pub(super) silent: Vec<ShardId>,
    /// Log directories that some shard cannot write.
    pub(super) offline: Vec<DirectoryId>,
}

impl Gatherer {
    pub(super) fn new(shard: Rc<Shard>, shard_count: usize, started_ms: i64) -> Rc<Gatherer> {
        Rc::new(Gatherer {
            shard,
            started_ms,
            phase: Cell::new(Phase::Starting),
            connections: Cell::new(0),
            scrapes: Questions::new(shard_count),
            pings: Questions::new(shard_count),
            texts: Rc::default(),
            partition_texts: Rc::default(),
            group_texts: Rc::default(),
            healths: Rc::default(),
        })
    }

    /// The text of a scrape that has begun after the call.
    pub(super) async fn metrics(self: &Rc<Self>) -> Bytes {
        let own = Rc::clone(self);
        self.texts.get(move || scrape(Rc::clone(&own))).await
    }

    /// The offsets of every partition, as text.
    pub(super) async fn partitions(self: &Rc<Self>) -> Bytes {
        let own = Rc::clone(self);
        self.partition_texts.get(move || describe_partitions(Rc::clone(&own))).await
    }

    /// The offsets and the lag of every consumer group, as text.
    pub(super) async fn groups(self: &Rc<Self>) -> Bytes {
        let own = Rc::clone(self);
        self.group_texts.get(move || describe_groups(Rc::clone(&own))).await
    }

    pub(super) async fn health(self: &Rc<Self>) -> Rc<Health> {
        let own = Rc::clone(self);
        self.healths.get(move || ping(Rc::clone(&own))).await
    }
}

async fn scrape(gatherer: Rc<Gatherer>) -> Bytes {
    let replies = gatherer.scrapes.ask(&gatherer.shard, || ShardRequest::Metrics, SCRAPE_PATIENCE).await;
    let snapshot = |reply| match reply {
        ShardReply::Metrics(snapshot) => snapshot,
        _ => unreachable!("Metrics is answered in kind"),
    };
    let shards: Vec<(ShardId, Option<Box<Snapshot>>)> =
        replies.into_iter().map(|(id, reply)| (id, reply.map(snapshot))).collect();
    let node = Node {
        ready: gatherer.phase.get() == Phase::Serving,
        started: u64::try_from(gatherer.started_ms).unwrap_or(0) * 1_000_000,
        admin_connections: gatherer.connections.get(),
        ..Node::default()
    };
    blocking(move || {
        let usage = process_usage();
        let node = Node {
            cpu: nanoseconds(usage.cpu),
            resident_bytes: usage.resident_bytes,
            open_files: usage.open_files,
            open_files_max: usage.open_files_max,
            ..node
        };
        Bytes::from(render(&Scrape { version: env!("CARGO_PKG_VERSION"), node, shards }))
    })
    .await
}

async fn describe_partitions(gatherer: Rc<Gatherer>) -> Bytes {
    let mut logs = gatherer.shard.describe_logs(None).await.logs;
    logs.sort_unstable_by_key(|log| log.partition);
    let mut offsets = Vec::with_capacity(logs.len());
    let mut last: Option<(TopicId, Arc<str>)> = None;
    for few in logs.chunks(LOGS_IN_A_ROW) {
        for log in few {
            let id = log.partition.topic;
            if last.as_ref().is_none_or(|(last, _)| *last != id) {
                // one that is deleted in the meantime is left out
                last = gatherer.shard.image().topic(id).map(|topic| (id, Arc::from(topic.name.as_str())));
            }
            let Some((_, topic)) = &last else { continue };
            offsets.push(PartitionOffsets {
                topic: Arc::clone(topic),
                partition: log.partition.index,
                start: log.start_offset.0,
                high_watermark: log.high_watermark.0,
                end: log.end_offset.0,
                leader_epoch: log.leader_epoch.0,
                size_bytes: log.size_bytes,
            });
        }
        turn().await;
    }
    blocking(move || Bytes::from(render_partitions(&offsets))).await
}

async fn describe_groups(gatherer: Rc<Gatherer>) -> Bytes {
    let groups = gatherer.shard.group_lags().await;
    blocking(move || Bytes::from(render_groups(&groups))).await
}

async fn ping(gatherer: Rc<Gatherer>) -> Rc<Health> {
    let mut health = Health { silent: Vec::new(), offline: Vec::new() };
    for (id, reply) in gatherer.pings.ask(&gatherer.shard, || ShardRequest::Ping, HEALTHY).await {
        match reply {
            None => health.silent.push(id),
            Some(ShardReply::Pong(offline)) => health.offline.extend(offline),
            Some(_) => unreachable!("Ping is answered in kind"),
        }
    }
    Rc::new(health)
}

/// One kind of question to all shards; one such round at a time.
struct Questions {
    /// By shard: an answer is still due. Such a shard is not asked again, or it would collect questions while it is
    /// stalled.
    due: Rc<[Cell<bool>]>,
}

impl Questions {
    fn new(shard_count: usize) -> Questions {
        Questions { due: (0..shard_count).map(|_| Cell::new(false)).collect() }
    }

    /// The answers in the order of the shards; `None` where there is none within `patience`.
    async fn ask(
        &self,
        shard: &Rc<Shard>,
        question: fn() -> ShardRequest,
        patience: Duration,
    ) -> Vec<(ShardId, Option<ShardReply>)> {
        let deadline = now().after(patience);
        let asked: Vec<_> = (0..self.due.len())
            .map(|index| {
                let to = ShardId(u16::try_from(index).expect("shards are numbered with 16 bits"));
                if self.due[index].replace(true) {
                    return (to, None);
                }
                let (shard, due) = (Rc::clone(shard), Rc::clone(&self.due));
                // In a task of its own: a question that nobody waits for any more still ends.
                let asking = spawn(async move {
                    let reply = shard.ask(to, question()).await;
                    due[index].set(false);
                    reply
                });
                (to, Some(asking))
            })
            .collect();
        let mut answers = Vec::with_capacity(asked.len());
        for (to, asking) in asked {
            let answer = match asking {
                None => None,
                Some(asking) => {
                    or(async { Some(asking.await) }, async {
                        sleep_until(deadline).await;
                        None
                    })
                    .await
                }
            };
            answers.push((to, answer));
        }
        answers
    }
}

/// Work that is done once for all who ask before it begins; whoever comes while it is under way gets the next.
struct Joint<T> {
    waiting: RefCell<Vec<Sender<T>>>,
    running: Cell<bool>,
}

impl<T> Default for Joint<T> {
    fn default() -> Joint<T> {
        Joint { waiting: RefCell::default(), running: Cell::new(false) }
    }
}

impl<T: Clone + 'static> Joint<T> {
    async fn get<F: Future<Output = T> + 'static>(self: &Rc<Self>, work: impl Fn() -> F + 'static) -> T {
        let (sender, receiver) = oneshot();
        self.waiting.borrow_mut().push(sender);
        if !self.running.replace(true) {
            let joint = Rc::clone(self);
            spawn(async move {
                loop {
                    let waiting = joint.waiting.take();
                    if waiting.is_empty() {
                        break;
                    }
                    let result = work().await;
                    waiting.into_iter().for_each(|waiter| waiter.send(result.clone()));
                }
                joint.running.set(false);
            });
        }
        receiver.await.expect("whoever waits is given the result")
    }
}

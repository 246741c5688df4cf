//! One transaction as a client makes it.

use std::collections::{BTreeMap, BTreeSet};
use std::ops::Range;
use std::pin::Pin;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;

use super::late::perhaps_again;
use super::ledger::Id;
use super::producer::{Client, INPUT, Process, ask, is_passing, raise_epoch, transactional_id};
use super::{Part, World, below, chance, parts, pause, reader};
use crate::coordinator::group::{self, Body as GroupBody, Reply as GroupReply};
use crate::coordinator::transaction::{Body, Reply};
use crate::metadata::OFFSETS_TOPIC;
use crate::model::{ErrorCode, PartitionId, ProducerEpoch, ProducerId};
use crate::partition::{Acks, AppendPartition, Shard, Transaction, TransactionSupport};
use crate::protocol::StrBytes;
use crate::protocol::batch::{BatchHeader, Codec, put_in_transaction, rewrite_crc};
use crate::protocol::compose::{NewRecord, compose};
use crate::protocol::messages::add_partitions_to_txn_request::{
    AddPartitionsToTxnTopic, AddPartitionsToTxnTransaction,
};
use crate::protocol::messages::offset_commit_request::{
    OffsetCommitRequestPartition, OffsetCommitRequestTopic,
};
use crate::protocol::messages::{EndTxnRequest, GroupId, OffsetCommitRequest, TopicName};
use crate::reactor::{self, Instant};

/// Of one request, before the client aborts.
const TRIES: u32 = 5;

/// The first sequence's place in a batch.
const SEQUENCE: Range<usize> = 53..57;

/// What became of a step.
enum Step {
    Done,
    /// The transaction is not to be committed.
    Failed,
    /// The process is over: another has taken its id, or the life ends.
    Dead,
}

/// What the client goes on with.
#[derive(Default)]
pub struct After {
    pub process: Option<Process>,
    pub has_committed: bool,
}

pub struct Attempt {
    world: Rc<World>,
    shard: Rc<Shard>,
    client: Rc<Client>,
    process: Process,
    id: Id,
    begun: Instant,
    steps: u64,
    /// What was said to the coordinator to belong to it.
    added: BTreeSet<Part>,
    /// It may be open.
    is_open: bool,
    /// Something was written, by what the client knows.
    has_written: bool,
    /// The client does not know what has become of some batch.
    is_uncertain: bool,
    is_zombie: bool,
}

/// A transaction whose end was asked for.
#[derive(Clone, Debug)]
pub struct Ending {
    process: Process,
    id: Id,
    commits: bool,
    asked: u32,
    /// When the transaction began; `None`: in a life before.
    begun: Option<Instant>,
    /// The client does not know what has become of some batch.
    is_uncertain: bool,
}

impl Attempt {
    pub fn begin(world: &Rc<World>, shard: &Rc<Shard>, client: &Rc<Client>, process: Process) -> Attempt {
        Attempt {
            world: Rc::clone(world),
            shard: Rc::clone(shard),
            client: Rc::clone(client),
            process,
            id: world.ledger.borrow_mut().begin(client.number),
            begun: reactor::now(),
            steps: 1 + below(5),
            added: BTreeSet::new(),
            is_open: false,
            has_written: false,
            is_uncertain: false,
            is_zombie: false,
        }
    }

    /// Boxed, for a zombie does the same.
    pub fn go_on(mut self) -> Pin<Box<dyn Future<Output = After>>> {
        Box::pin(async move {
            let mut failed = false;
            while self.steps > 0 && !failed {
                self.steps -= 1;
                if self.world.life().is_over() {
                    return After::default();
                }
                if self.world.life().is_stormy() && !self.is_zombie {
                    match below(100) {
                        0..2 => pause(2 * self.client.timeout_ms as u64).await,
                        2 => return After::default(),
                        3..5 => {
                            self.haunt();
                            return After::default();
                        }
                        _ => {}
                    }
                }
                match self.write().await {
                    Step::Done => {}
                    Step::Failed => failed = true,
                    Step::Dead => return After::default(),
                }
                pause(100).await;
            }
            if !failed && self.has_written && chance(50) {
                match self.commit_offsets().await {
                    Step::Done => {}
                    Step::Failed => failed = true,
                    Step::Dead => return After::default(),
                }
            }
            self.end(failed).await
        })
    }

    /// The process goes on, while its client takes it for dead.
    fn haunt(mut self) {
        self.is_zombie = true;
        self.world.life().begin_task(async move {
            pause(5_000).await;
            self.go_on().await;
        });
    }

    /// Nothing has happened that the client has to expect anything but success.
    fn is_healthy(&self) -> bool {
        !self.is_uncertain && is_in_time(&self.client, &self.process, Some(self.begun))
    }

    /// An answer that is not to be asked for again.
    fn refused(&mut self, what: &str, error: ErrorCode) -> Step {
        assert!(
            !self.is_healthy(),
            "{}: {} of {:?} by {:?} is refused: {error:?}",
            self.world.place(),
            what,
            self.id,
            self.process
        );
        self.is_uncertain = true;
        match error {
            ErrorCode::InvalidProducerEpoch
            | ErrorCode::ProducerFenced
            | ErrorCode::InvalidProducerIdMapping => Step::Dead,
            _ => Step::Failed,
        }
    }

    /// A fenced process is not told that it has done anything.
    fn check_current(&self, was_current: bool, what: &str) {
        assert!(
            was_current,
            "{}: {what} of {:?} by {:?}, which is fenced",
            self.world.place(),
            self.id,
            self.process
        );
    }

    async fn write(&mut self) -> Step {
        let all: Vec<_> = parts(&self.shard).into_iter().collect();
        let mut chosen: BTreeMap<Part, PartitionId> = BTreeMap::new();
        for _ in 0..1 + below(3) {
            if let Some((part, partition)) = all.get(below(all.len() as u64) as usize) {
                chosen.insert(part.clone(), *partition);
            }
        }
        if !self.client.is_new() {
            match self.add(chosen.keys().cloned().collect()).await {
                Step::Done => {}
                step => return step,
            }
        }
        let transaction =
            Transaction { transactional_id: Arc::from(&*self.client.id), support: self.client.support };
        let mut left: Vec<(Part, AppendPartition)> =
            chosen.into_iter().map(|(part, partition)| self.batch(part, partition)).collect();
        for _ in 0..TRIES {
            let batches: Vec<_> = left.iter().map(|(_, batch)| batch.clone()).collect();
            perhaps_again(&self.world, &self.shard, &transaction, &batches);
            let was_current = self.client.is_current(&self.process);
            self.is_open = true;
            let (_, appended) =
                self.shard.append_in(Some(transaction.clone()), Acks::All, 10_000, batches).await;
            if self.world.life().is_stormy() && chance(2) {
                // the client hangs up
                self.is_uncertain = true;
                return Step::Failed;
            }
            let outcomes = self.world.answered("Produce", appended).await;
            tracing::debug!(client = self.client.number, id = ?self.id, "{left:?} -> {outcomes:?}");
            if self.world.life().is_stormy() && chance(4) {
                // the answer gets lost
                continue;
            }
            let mut again = Vec::new();
            for ((part, batch), outcome) in left.into_iter().zip(outcomes) {
                match outcome.error {
                    ErrorCode::None => {
                        self.check_current(was_current, "a write");
                        self.wrote(&part, &batch);
                    }
                    ErrorCode::NotLeaderOrFollower
                    | ErrorCode::NotEnoughReplicas
                    | ErrorCode::ConcurrentTransactions
                    | ErrorCode::CoordinatorLoadInProgress
                    | ErrorCode::KafkaStorageError
                    | ErrorCode::RequestTimedOut
                    | ErrorCode::UnknownTopicOrPartition => again.push((part, batch)),
                    error => return self.refused("a write", error),
                }
            }
            if again.is_empty() {
                return Step::Done;
            }
            if self.world.life().is_over() {
                return Step::Dead;
            }
            left = again;
            pause(300).await;
        }
        self.is_uncertain = true;
        Step::Failed
    }

    fn batch(&self, part: Part, partition: PartitionId) -> (Part, AppendPartition) {
        let first = self.world.ledger.borrow().records(self.id, &part);
        let records: Vec<_> = (first..=first + below(3) as u32)
            .map(|record| NewRecord {
                timestamp: reactor::wall_clock_ms(),
                value: Some(Bytes::copy_from_slice(&reader::encode((self.id, record)))),
                ..NewRecord::default()
            })
            .collect();
        let mut batch = compose(&records, Codec::None).expect("a few records");
        let (producer_id, epoch) = self.process.producer;
        let sequence = self.process.sequences.get(&part).copied().unwrap_or(0);
        put_in_transaction(&mut batch, producer_id, epoch, false);
        batch[SEQUENCE].copy_from_slice(&sequence.to_be_bytes());
        rewrite_crc(&mut batch);
        let batch = Bytes::from(batch);
        let header = BatchHeader::parse(&batch).expect("a batch of our own");
        (part, AppendPartition { partition, batch, header })
    }

    fn wrote(&mut self, part: &Part, batch: &AppendPartition) {
        self.has_written = true;
        let records = batch.header.record_count;
        *self.process.sequences.entry(part.clone()).or_default() += records;
        self.world.ledger.borrow_mut().wrote(self.id, part, records as u32);
    }

    /// AddPartitionsToTxn of those that are not in it.
    async fn add(&mut self, parts: BTreeSet<Part>) -> Step {
        let new: Vec<Part> = parts.difference(&self.added).cloned().collect();
        if new.is_empty() {
            return Step::Done;
        }
        let topics = new.iter().map(|(topic, index)| {
            AddPartitionsToTxnTopic::default()
                .with_name(TopicName(StrBytes::from_string(topic.clone())))
                .with_partitions(vec![*index])
        });
        let (producer_id, epoch) = self.process.producer;
        let request = AddPartitionsToTxnTransaction::default()
            .with_transactional_id(transactional_id(&self.client))
            .with_producer_id(producer_id.0.into())
            .with_producer_epoch(epoch.0)
            .with_topics(topics.collect());
        for _ in 0..TRIES {
            let was_current = self.client.is_current(&self.process);
            self.is_open = true;
            let body = Body::AddPartitions(request.clone());
            if self.world.life().is_stormy() && chance(4) {
                // twice, or the answer gets lost
                let _ = ask(&self.world, &self.shard, &self.client, 3, body.clone()).await;
            }
            let error = match ask(&self.world, &self.shard, &self.client, 3, body).await {
                Ok(Reply::AddPartitions(result)) => {
                    let partitions =
                        result.topic_results.iter().flat_map(|topic| &topic.results_by_partition);
                    let mut errors = partitions.map(|partition| partition.partition_error_code);
                    errors
                        .find(|error| *error != 0)
                        .map_or(ErrorCode::None, |error| ErrorCode::from_code(error).expect("an error"))
                }
                Ok(other) => panic!("{}: {other:?}", self.world.place()),
                Err(error) => error,
            };
            match error {
                ErrorCode::None => {
                    self.check_current(was_current, "an AddPartitionsToTxn");
                    self.added.extend(new);
                    return Step::Done;
                }
                // the topic is gone
                ErrorCode::UnknownTopicOrPartition | ErrorCode::OperationNotAttempted => return Step::Failed,
                error if is_passing(error) => {}
                error => return self.refused("an AddPartitionsToTxn", error),
            }
            if self.world.life().is_over() {
                return Step::Dead;
            }
            pause(200).await;
        }
        self.is_uncertain = true;
        Step::Failed
    }

    /// The offset of the client's group is the number of the transaction.
    async fn commit_offsets(&mut self) -> Step {
        let Some(partition) = self.shard.offsets_partition(&self.client.group) else { return Step::Failed };
        if !self.client.is_new() {
            match self.add(BTreeSet::from([(OFFSETS_TOPIC.to_owned(), partition.index)])).await {
                Step::Done => {}
                step => return step,
            }
        }
        let offset = OffsetCommitRequestPartition::default()
            .with_partition_index(0)
            .with_committed_offset(self.id.0 as i64);
        let topic = OffsetCommitRequestTopic::default()
            .with_name(TopicName(StrBytes::from_static_str(INPUT)))
            .with_partitions(vec![offset]);
        let commit = OffsetCommitRequest::default()
            .with_group_id(GroupId(StrBytes::from_string(self.client.group.clone())))
            .with_generation_id_or_member_epoch(-1)
            .with_topics(vec![topic]);
        let (producer_id, producer_epoch) = self.process.producer;
        let request = group::Request {
            version: match self.client.support {
                TransactionSupport::Classic => 3,
                TransactionSupport::Abortable => 4,
                TransactionSupport::Adds => 5,
            },
            client: group::Client { id: String::new(), host: String::new() },
            body: GroupBody::CommitInTransaction {
                transactional_id: self.client.id.clone(),
                producer_id,
                producer_epoch,
                commit: Box::new(commit),
            },
        };
        for _ in 0..TRIES {
            let was_current = self.client.is_current(&self.process);
            self.is_open = true;
            let asked = self.shard.coordinate(partition, request.clone());
            let error = match self.world.answered("TxnOffsetCommit", asked).await {
                _ if self.world.life().is_stormy() && chance(5) => ErrorCode::NotCoordinator,
                Ok(GroupReply::Commit(response)) => {
                    let error = response.topics[0].partitions[0].error_code;
                    ErrorCode::from_code(error).expect("an error")
                }
                Ok(other) => panic!("{}: {other:?}", self.world.place()),
                Err(error) => error,
            };
            match error {
                ErrorCode::None => {
                    self.check_current(was_current, "a TxnOffsetCommit");
                    self.world.ledger.borrow_mut().committed_offsets(self.id);
                    return Step::Done;
                }
                error if is_passing(error) => {}
                error => return self.refused("a TxnOffsetCommit", error),
            }
            if self.world.life().is_over() {
                return Step::Dead;
            }
            pause(200).await;
        }
        self.is_uncertain = true;
        Step::Failed
    }

    async fn end(self, failed: bool) -> After {
        let commits = !failed && self.has_written && (chance(80) || self.world.life().is_calm());
        // a client of before begins its transaction itself, and knows; where it does not, raising the epoch ends it, too
        let must_end = if self.client.is_new() { self.is_open } else { !self.added.is_empty() };
        let (world, shard, client) = (&self.world, &self.shard, &self.client);
        let process = self.process;
        if must_end {
            if commits {
                world.ledger.borrow_mut().asks_for_commit(self.id);
            }
            let ending = Ending {
                process,
                id: self.id,
                commits,
                asked: 0,
                begun: Some(self.begun),
                is_uncertain: self.is_uncertain,
            };
            return match ending.ask(world, shard, client, self.is_zombie).await {
                Some(process) => After { process: Some(process), has_committed: commits },
                None => After::default(),
            };
        }
        let process = match self.is_uncertain {
            true => raise_epoch(world, shard, client, process).await,
            false => Some(process),
        };
        After { process, has_committed: false }
    }
}

/// Nobody but the process has the id, and its transaction has not taken too long.
fn is_in_time(client: &Client, process: &Process, begun: Option<Instant>) -> bool {
    let timeout = Duration::from_millis(client.timeout_ms as u64);
    client.is_alone(process) && begun.is_some_and(|begun| reactor::now().since(begun) < timeout)
}

impl Ending {
    /// In the life after the one in which it was asked for: a client that was only cut off.
    pub async fn go_on(self, world: &Rc<World>, shard: &Rc<Shard>, client: &Client) -> Option<Process> {
        let ending = Ending { begun: None, ..self };
        ending.ask(world, shard, client, false).await
    }

    /// Until it is answered. `None`: the process is over, or the life.
    async fn ask(
        mut self,
        world: &Rc<World>,
        shard: &Rc<Shard>,
        client: &Client,
        is_zombie: bool,
    ) -> Option<Process> {
        let version = match client.support {
            TransactionSupport::Classic => 3,
            TransactionSupport::Abortable => 4,
            TransactionSupport::Adds => 5,
        };
        let (producer_id, epoch) = self.process.producer;
        let request = EndTxnRequest::default()
            .with_transactional_id(transactional_id(client))
            .with_producer_id(producer_id.0.into())
            .with_producer_epoch(epoch.0)
            .with_committed(self.commits);
        loop {
            self.asked += 1;
            if !is_zombie {
                client.keep_ending(Some(self.clone()));
            }
            let was_current = client.is_current(&self.process);
            let reply = ask(world, shard, client, version, Body::EndTxn(request.clone())).await;
            let error = match &reply {
                _ if world.life().is_stormy() && chance(6) => ErrorCode::NotCoordinator,
                Ok(Reply::EndTxn(reply)) => ErrorCode::from_code(reply.error_code).expect("an error"),
                Ok(other) => panic!("{}: {other:?}", world.place()),
                Err(error) => *error,
            };
            if is_passing(error) {
                if world.life().is_over() {
                    return None;
                }
                pause(200).await;
                continue;
            }
            if !error.is_none() {
                let is_healthy = !self.is_uncertain && is_in_time(client, &self.process, self.begun);
                assert!(!is_healthy, "{}: EndTxn of {self:?}: {error:?}", world.place());
                if self.commits && self.asked == 1 {
                    world.ledger.borrow_mut().is_refused(self.id);
                }
                if !is_zombie {
                    client.keep_ending(None);
                }
                return None;
            }
            assert!(was_current, "{}: EndTxn of {self:?}, which is fenced", world.place());
            if self.commits {
                world.ledger.borrow_mut().is_committed(self.id);
            }
            if let Ok(Reply::EndTxn(reply)) = reply
                && client.is_new()
            {
                self.process.producer =
                    (ProducerId(reply.producer_id.0), ProducerEpoch(reply.producer_epoch));
                self.process.sequences.clear();
            }
            let goes_on = match self.is_uncertain && !client.is_new() {
                true => raise_epoch(world, shard, client, self.process).await,
                false => Some(self.process),
            };
            if !is_zombie {
                client.keep_ending(None);
            }
            return goes_on;
        }
    }
}

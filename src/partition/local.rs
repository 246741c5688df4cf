//! What a shard does for its own partitions, for its connections and for the other shards alike.

use std::rc::Rc;
use std::time::Duration;

use super::METADATA_PARTITION;
use super::error::error_code;
use super::leader::{Partition, PendingAppend};
use super::message::{
    Acks, AppendOutcome, AppendPartition, DeleteBefore, DeleteRecordsOutcome, DeleteRecordsPartition,
    EpochAnswer, EpochQueryPartition, Isolation, OffsetAnswer, OffsetQuery, OffsetQueryPartition,
    OpenPartition, Transaction, TransactionSupport,
};
use super::shard::Shard;
use super::verify::ParkedAppend;
use crate::log::producer_state::FirstSequence;
use crate::metadata::{Topic, is_internal};
use crate::model::{DirectoryId, Durability, ErrorCode, LeaderEpoch, Offset, PartitionId, TimestampMs};
use crate::reactor::sync::{Receiver, oneshot};
use crate::reactor::{self, Instant};
use crate::storage::{Compaction, Create, Log, LogConfig, OpenLog, Reserve};

/// Logs opened (and after a crash scanned) side by side on one shard.
const OPENS_IN_FLIGHT: usize = 8;

/// Partitions of one DeleteRecords request that are shortened side by side on one shard. A request may name more, and the
/// same one many times.
const DELETIONS_IN_FLIGHT: usize = 1024;

/// Appended; perhaps waiting for durability.
pub(super) enum LocalAppend {
    Settled(Vec<AppendOutcome>),
    Waiting(Receiver<Vec<AppendOutcome>>),
}

impl LocalAppend {
    pub(super) async fn outcomes(self) -> Vec<AppendOutcome> {
        match self {
            LocalAppend::Settled(outcomes) => outcomes,
            LocalAppend::Waiting(receiver) => {
                receiver.await.expect("an append is settled or failed, never dropped")
            }
        }
    }
}

impl Shard {
    pub(super) fn local(&self, partition: PartitionId) -> Option<Rc<Partition>> {
        self.partitions.borrow().get(&partition).map(Rc::clone)
    }

    /// Fixes every batch's place; a plain function. What must be verified first parks.
    pub(super) fn append_local(
        self: &Rc<Self>,
        acks: Acks,
        timeout_ms: u64,
        batches: Vec<AppendPartition>,
        transaction: Option<Transaction>,
    ) -> LocalAppend {
        let now = TimestampMs(reactor::wall_clock_ms());
        let mut outcomes = Vec::with_capacity(batches.len());
        let mut waits: Vec<(usize, Rc<Partition>, Offset)> = Vec::new();
        let mut parks: Vec<(usize, Rc<Partition>, AppendPartition)> = Vec::new();
        let is_trusted = transaction.as_ref().is_some_and(|transaction| !self.verifies(transaction.support));
        for (place, batch) in batches.into_iter().enumerate() {
            let Some(partition) = self.local(batch.partition) else {
                outcomes.push(AppendOutcome::failed(ErrorCode::NotLeaderOrFollower));
                continue;
            };
            if partition.must_verify(&batch.header, is_trusted) {
                outcomes.push(AppendOutcome::failed(ErrorCode::InvalidTxnState));
                if transaction.is_some() {
                    parks.push((place, partition, batch));
                }
                continue;
            }
            match self.append_one(&partition, batch, first_sequence(transaction.as_ref()), now) {
                Ok((outcome, end)) => {
                    outcomes.push(outcome);
                    if end > partition.high_watermark() && acks != Acks::None {
                        waits.push((place, partition, end));
                    }
                }
                Err(error) => outcomes.push(AppendOutcome::failed(error)),
            }
        }
        if waits.is_empty() && parks.is_empty() {
            return LocalAppend::Settled(outcomes);
        }
        let deadline = deadline(acks, timeout_ms);
        let (sender, receiver) = oneshot();
        let request = PendingAppend::new(outcomes, waits.len() + parks.len(), sender);
        for (place, partition, end) in waits {
            partition.wait_for(end, deadline, Rc::clone(&request), place);
        }
        if let Some(transaction) = transaction {
            let mut questions = Vec::new();
            for (place, partition, batch) in parks {
                let (transaction, request) = (transaction.clone(), Rc::clone(&request));
                let append = ParkedAppend { batch, acks, timeout_ms, transaction, request, place };
                self.park_append(&partition, append, &mut questions);
            }
            self.ask_about(questions);
        }
        LocalAppend::Waiting(receiver)
    }

    /// Appends to one partition what its coordinator has decided in a turn, and waits for the high watermark to pass it,
    /// however long that takes: what a turn has done cannot be taken back when a time is over. Whoever has a turn in a
    /// transaction has seen to it that the partition belongs to it.
    pub(super) fn append_turn(&self, partition: PartitionId, batches: Vec<AppendPartition>) -> LocalAppend {
        let Some(leads) = self.local(partition) else {
            return LocalAppend::Settled(vec![AppendOutcome::failed(ErrorCode::NotLeaderOrFollower)]);
        };
        let now = TimestampMs(reactor::wall_clock_ms());
        for batch in batches {
            if let Err(error) = self.append_one(&leads, batch, FirstSequence::Any, now) {
                return LocalAppend::Settled(vec![AppendOutcome::failed(error)]);
            }
        }
        self.wait_local(partition)
    }

    /// The batch's outcome if it becomes durable, and the end that must be for that.
    fn append_one(
        &self,
        partition: &Partition,
        batch: AppendPartition,
        first: FirstSequence,
        now: TimestampMs,
    ) -> Result<(AppendOutcome, Offset), ErrorCode> {
        let log = partition.log.as_ref().ok_or(ErrorCode::KafkaStorageError)?;
        let bytes = batch.batch.len();
        let epoch = partition.leader_epoch.get();
        let appended = log.append_first(batch.batch, &batch.header, first, epoch, now).map_err(error_code)?;
        if !appended.duplicate {
            partition.topic.count_received(bytes, appended.record_count());
            if batch.partition != METADATA_PARTITION {
                self.measures.activity.add(bytes);
            }
        }
        let outcome = AppendOutcome {
            error: ErrorCode::None,
            base_offset: appended.base_offset,
            log_start_offset: log.start_offset(),
            leader: None,
        };
        Ok((outcome, appended.end_offset))
    }

    /// Appends a batch that was verified; whether it is in the log.
    pub(super) fn append_parked(&self, partition: &Rc<Partition>, append: &ParkedAppend) -> bool {
        let ParkedAppend { batch, acks, timeout_ms, transaction, request, place } = append;
        let now = TimestampMs(reactor::wall_clock_ms());
        match self.append_one(partition, batch.clone(), first_sequence(Some(transaction)), now) {
            Ok((outcome, end)) => {
                request.expect(*place, outcome);
                if end > partition.high_watermark() && *acks != Acks::None {
                    partition.wait_for(end, deadline(*acks, *timeout_ms), Rc::clone(request), *place);
                } else {
                    request.settle(*place, ErrorCode::None);
                }
                true
            }
            Err(error) => {
                request.settle(*place, error);
                false
            }
        }
    }

    /// Until everything that is appended to the partition now is durable; at once, if it is.
    pub(super) fn wait_local(&self, partition: PartitionId) -> LocalAppend {
        let Some((partition, log)) =
            self.local(partition).and_then(|partition| Some((Rc::clone(&partition), partition.log.clone()?)))
        else {
            return LocalAppend::Settled(vec![AppendOutcome::failed(ErrorCode::NotLeaderOrFollower)]);
        };
        let end = log.end_offset();
        if end <= partition.high_watermark() {
            return LocalAppend::Settled(Vec::new());
        }
        let (sender, receiver) = oneshot();
        let outcome = AppendOutcome { error: ErrorCode::None, ..AppendOutcome::failed(ErrorCode::None) };
        partition.wait_for(end, None, PendingAppend::new(vec![outcome], 1, sender), 0);
        LocalAppend::Waiting(receiver)
    }

    pub(super) async fn list_offsets_local(&self, queries: Vec<OffsetQueryPartition>) -> Vec<OffsetAnswer> {
        let mut answers = Vec::with_capacity(queries.len());
        for query in queries {
            let answer = match self.led_log(query.partition, query.current_epoch) {
                Ok((partition, log)) => find_offset(&partition, &log, query).await,
                Err(error) => Err(error),
            };
            answers.push(answer.unwrap_or_else(OffsetAnswer::failed));
        }
        answers
    }

    pub(super) fn epoch_end_offsets_local(&self, queries: &[EpochQueryPartition]) -> Vec<EpochAnswer> {
        let answer = |query: &EpochQueryPartition| match self.led_log(query.partition, query.current_epoch) {
            Ok((partition, log)) => {
                // The current epoch has not ended: its end is the log end, whether or not it has batches yet.
                let (epoch, end_offset) = if query.epoch == partition.leader_epoch.get() {
                    (query.epoch, log.end_offset())
                } else {
                    log.end_offset_for(query.epoch)
                };
                EpochAnswer { error: ErrorCode::None, epoch, end_offset }
            }
            Err(error) => EpochAnswer { error, epoch: LeaderEpoch::NONE, end_offset: Offset::NONE },
        };
        queries.iter().map(answer).collect()
    }

    /// Side by side, so that they share the write that makes the log starts durable.
    pub(super) async fn delete_records_local(
        self: &Rc<Self>,
        deletions: Vec<DeleteRecordsPartition>,
    ) -> Vec<DeleteRecordsOutcome> {
        let mut outcomes = Vec::with_capacity(deletions.len());
        for few in deletions.chunks(DELETIONS_IN_FLIGHT) {
            let tasks: Vec<_> = (few.iter().copied())
                .map(|deletion| {
                    let shard = Rc::clone(self);
                    reactor::spawn(async move { shard.delete_one(deletion).await })
                })
                .collect();
            for task in tasks {
                outcomes.push(task.await.unwrap_or_else(DeleteRecordsOutcome::failed));
            }
        }
        outcomes
    }

    async fn delete_one(&self, deletion: DeleteRecordsPartition) -> Result<DeleteRecordsOutcome, ErrorCode> {
        let (partition, log) = self.led_log(deletion.partition, LeaderEpoch::NONE)?;
        let high_watermark = partition.high_watermark();
        let to = match deletion.before {
            DeleteBefore::HighWatermark => high_watermark,
            DeleteBefore::Offset(offset) if offset <= high_watermark => offset,
            DeleteBefore::Offset(_) => return Err(ErrorCode::OffsetOutOfRange),
        };
        let low_watermark = log.delete_records(to).await.map_err(error_code)?;
        Ok(DeleteRecordsOutcome { error: ErrorCode::None, low_watermark })
    }

    /// The log of a partition led here, if the client's idea of the leader epoch is ours.
    pub(super) fn led_log(
        &self,
        partition: PartitionId,
        current_epoch: LeaderEpoch,
    ) -> Result<(Rc<Partition>, Log), ErrorCode> {
        let partition = self.local(partition).ok_or(ErrorCode::NotLeaderOrFollower)?;
        let epoch = partition.leader_epoch.get();
        if current_epoch != LeaderEpoch::NONE && current_epoch < epoch {
            return Err(ErrorCode::FencedLeaderEpoch);
        }
        if current_epoch > epoch {
            return Err(ErrorCode::UnknownLeaderEpoch);
        }
        let log = partition.log.clone().ok_or(ErrorCode::KafkaStorageError)?;
        Ok((partition, log))
    }

    /// Opens logs of partitions placed here, a few at a time.
    pub(super) async fn open_local(
        self: &Rc<Self>,
        wanted: Vec<OpenPartition>,
    ) -> Vec<Result<DirectoryId, ErrorCode>> {
        let mut opened = Vec::with_capacity(wanted.len());
        for few in wanted.chunks(OPENS_IN_FLIGHT) {
            let tasks: Vec<_> = few
                .iter()
                .map(|open| {
                    let (shard, open) = (Rc::clone(self), open.clone());
                    reactor::spawn(async move { shard.open_one(open).await })
                })
                .collect();
            for (open, task) in few.iter().zip(tasks) {
                let outcome = task.await;
                if outcome.is_ok() {
                    self.begin_coordinator(open.partition);
                }
                opened.push(outcome);
            }
        }
        opened
    }

    /// The log of a partition that is open here.
    pub fn log(&self, partition: PartitionId) -> Option<Log> {
        self.local(partition)?.log.clone()
    }

    /// For the metadata log, whose leadership is not in the image.
    pub fn set_leader_epoch(&self, partition: PartitionId, epoch: LeaderEpoch) {
        self.local(partition).expect("the partition is open here").leader_epoch.set(epoch);
    }

    async fn open_one(&self, open: OpenPartition) -> Result<DirectoryId, ErrorCode> {
        let (topic_name, config, epoch) = {
            let image = self.image.borrow();
            let (Some(topic), Some(state)) =
                (image.topic(open.partition.topic), image.partition(open.partition))
            else {
                return Err(ErrorCode::UnknownTopicId);
            };
            (topic.name.clone(), log_config(topic), state.leader_epoch)
        };
        let partition = open.partition;
        let opened = self.open_log(open, topic_name, config, epoch).await?;
        if let Some(log) = self.log(partition) {
            log.begin_epoch(epoch);
        }
        Ok(opened)
    }

    /// Opens one log and serves it. A log that cannot be opened is served as offline, never as empty.
    pub async fn open_log(
        &self,
        open: OpenPartition,
        topic_name: String,
        config: LogConfig,
        epoch: LeaderEpoch,
    ) -> Result<DirectoryId, ErrorCode> {
        let OpenPartition { partition, directory, create } = open;
        let name = topic_name.clone();
        let opened = self.storage().open(OpenLog { partition, topic_name, directory, config, create }).await;
        let log = match opened {
            Ok(log) if log.last_epoch() > epoch => {
                tracing::error!(
                    topic = name, partition = partition.index, in_log = %log.last_epoch(), in_metadata = %epoch,
                    "the log holds a newer leader epoch than the metadata: was the metadata directory replaced? partition is offline"
                );
                None
            }
            Ok(log) => Some(log),
            Err(error) => {
                tracing::error!(topic = name, partition = partition.index, ?error, "partition is offline");
                None
            }
        };
        let result = if log.is_some() { Ok(directory) } else { Err(ErrorCode::KafkaStorageError) };
        // A folder that could not be made now is tried again at the next start; one that is missing stays offline.
        if log.is_some() || create == Create::Never {
            let topic = self.measures.topic_of(partition, &self.image.borrow(), &name);
            let partition_state = Rc::new(Partition::new(partition, directory, log, topic, epoch));
            self.measures.comes(&partition_state);
            let before = self.partitions.borrow_mut().insert(partition, partition_state);
            if let Some(before) = before {
                self.measures.leaves(&before);
            }
        }
        result
    }
}

/// What storage needs of a topic's settings. What the broker itself writes is always flushed, and may use the space that
/// is kept free.
pub(super) fn log_config(topic: &Topic) -> LogConfig {
    let settings = &topic.settings;
    let is_internal = is_internal(&topic.name);
    LogConfig {
        segment_bytes: settings.segment_bytes,
        segment_ms: settings.segment_ms,
        segment_jitter_ms: settings.segment_jitter_ms,
        segment_index_bytes: settings.segment_index_bytes,
        index_interval_bytes: settings.index_interval_bytes,
        preallocate: settings.preallocate,
        cleanup: settings.cleanup,
        retention_ms: settings.retention_ms,
        retention_bytes: settings.retention_bytes,
        compaction: Compaction {
            min_dirty_ratio: settings.min_cleanable_dirty_ratio,
            min_lag_ms: settings.min_compaction_lag_ms,
            max_lag_ms: settings.max_compaction_lag_ms,
            delete_retention_ms: settings.delete_retention_ms,
        },
        durability: if is_internal { Durability::Flushed } else { settings.durability },
        flush_messages: settings.flush_messages,
        flush_ms: settings.flush_ms,
        reserve: if is_internal { Reserve::Usable } else { Reserve::Kept },
    }
}

/// acks=1 has no timeout in Kafka's protocol: the leader's own append is all it waits for.
fn deadline(acks: Acks, timeout_ms: u64) -> Option<Instant> {
    (acks == Acks::All).then(|| reactor::now().after(Duration::from_millis(timeout_ms)))
}

fn first_sequence(transaction: Option<&Transaction>) -> FirstSequence {
    match transaction {
        Some(Transaction { support: TransactionSupport::Adds, .. }) => FirstSequence::Zero,
        _ => FirstSequence::Any,
    }
}

async fn find_offset(
    partition: &Partition,
    log: &Log,
    query: OffsetQueryPartition,
) -> Result<OffsetAnswer, ErrorCode> {
    let limit = match query.isolation {
        Isolation::ReadUncommitted => partition.high_watermark(),
        Isolation::ReadCommitted => partition.last_stable_offset(),
    };
    let plain = |offset: Offset, epoch: LeaderEpoch| OffsetAnswer {
        error: ErrorCode::None,
        timestamp: TimestampMs::NONE,
        offset,
        epoch,
    };
    let found = match query.query {
        OffsetQuery::Latest => return Ok(plain(limit, partition.leader_epoch.get())),
        OffsetQuery::Earliest | OffsetQuery::EarliestLocal => {
            let start = log.start_offset();
            return Ok(plain(start, log.epoch_at(start)));
        }
        OffsetQuery::LatestTiered => return Ok(plain(Offset::NONE, LeaderEpoch::NONE)),
        OffsetQuery::MaxTimestamp => log.find_max_timestamp(limit).await,
        OffsetQuery::AtOrAfter(target) => log.find_timestamp(target, limit).await,
    };
    Ok(match found.map_err(error_code)? {
        Some((timestamp, offset, epoch)) => OffsetAnswer { error: ErrorCode::None, timestamp, offset, epoch },
        None => plain(Offset::NONE, LeaderEpoch::NONE),
    })
}

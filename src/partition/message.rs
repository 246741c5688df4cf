//! What may be asked of a partition, wherever it lives: the closed set of requests that cross the mesh.

use std::net::SocketAddr;
use std::sync::Arc;

use bytes::Bytes;

use super::activity::Work;
use crate::coordinator::{group, transaction};
use crate::log::producer_state::{ActiveProducer, EndTxn};
use crate::metadata;
use crate::metrics::Snapshot;
use crate::model::{
    BrokerId, DirectoryId, ErrorCode, LeaderEpoch, Offset, PartitionId, ProducerEpoch, ProducerId, ShardId,
    TimestampMs,
};
use crate::protocol::batch::BatchHeader;
use crate::protocol::messages::list_groups_response::ListedGroup;
use crate::protocol::messages::{ListTransactionsRequest, ListTransactionsResponse};
use crate::storage::{Create, DirectoryState, FutureLog};

/// What travels between two shards. A request holds a credit for its reply's place, so neither ever waits for
/// room (see `router`).
#[derive(Debug)]
pub enum Message {
    Request { id: u64, request: ShardRequest },
    Reply { id: u64, reply: ShardReply },
}

/// Everything one shard may ask of another. Closed: no closure crosses.
#[derive(Debug)]
pub enum ShardRequest {
    Append {
        acks: Acks,
        timeout_ms: u64,
        batches: Vec<AppendPartition>,
        /// Of the request, if any of its batches is transactional.
        transaction: Option<Transaction>,
    },
    /// Transactions have ended. Answered when that is durable.
    WriteMarkers(Vec<MarkerPartition>),
    /// The producers that these partitions know.
    DescribeProducers(Vec<PartitionId>),
    Read(ReadRequest),
    /// As `Read`, and if that gives fewer than `min_bytes`: answer `Parked`, and send `Fired` once it would not.
    Park {
        id: u64,
        read: ReadRequest,
        min_bytes: usize,
    },
    /// The asker no longer waits for `Fired`.
    Unpark {
        id: u64,
    },
    /// To the shard that parked: there is enough to read now.
    Fired {
        id: u64,
    },
    ListOffsets(Vec<OffsetQueryPartition>),
    EpochEndOffsets(Vec<EpochQueryPartition>),
    DeleteRecords(Vec<DeleteRecordsPartition>),
    Relocate(Vec<RelocatePartition>),
    /// What the logs here are like: of these partitions, or all but the metadata log.
    DescribeLogs(Option<Arc<Vec<PartitionId>>>),
    /// Of the groups whose records are in this partition of `__consumer_offsets`.
    Coordinate {
        partition: PartitionId,
        request: group::Request,
    },
    /// As `Coordinate`, with an answer that may take minutes: `Coordinated` brings it.
    CoordinateLater {
        id: u64,
        partition: PartitionId,
        request: group::Request,
    },
    /// To the shard that asked with `CoordinateLater`.
    Coordinated {
        id: u64,
        reply: Box<Result<group::Reply, ErrorCode>>,
    },
    /// The groups of the shard's coordinators, in these states and of these types; none named: all.
    ListGroups {
        states: Vec<String>,
        types: Vec<String>,
    },
    /// How far the groups of the shard's coordinators have come.
    GroupProgress,
    /// Of the transactional ids whose records are in this partition of `__transaction_state`.
    Transact {
        partition: PartitionId,
        request: transaction::Request,
    },
    /// The transactions of the shard's coordinators.
    ListTransactions(ListTransactionsRequest),
    /// To shard 0 only.
    Control(metadata::Request),
    /// Committed metadata records, in commit order.
    Replay(Arc<Vec<metadata::Record>>),
    /// Open these logs here; each has been placed on the asked shard.
    Open(Vec<OpenPartition>),
    Lifecycle(Lifecycle),
    /// A write or flush of the asking shard failed there: nobody writes to it any more.
    DirectoryFailed(DirectoryId),
    /// Everything the shard counts.
    Metrics,
    /// Whether it is there, and what it cannot write.
    Ping,
    /// How much the shard's partitions have to do.
    Activity,
    /// Partitions are about to come of which so much is expected, in bytes.
    Expect(u64),
}

#[derive(Debug)]
pub enum ShardReply {
    Append(Vec<AppendOutcome>),
    /// In the order of the request.
    Markers(Vec<ErrorCode>),
    /// In the order of the request.
    Producers(Vec<Result<Vec<ActiveProducer>, ErrorCode>>),
    Read(Vec<ReadOutcome>),
    Parked,
    ListOffsets(Vec<OffsetAnswer>),
    EpochEndOffsets(Vec<EpochAnswer>),
    /// In the order of the request.
    DeleteRecords(Vec<DeleteRecordsOutcome>),
    /// In the order of the request.
    Relocate(Vec<ErrorCode>),
    Logs(ShardLogs),
    Coordinate(Result<group::Reply, ErrorCode>),
    Groups(Result<Vec<ListedGroup>, ErrorCode>),
    GroupProgress(Vec<group::GroupProgress>),
    Transact(Box<Result<transaction::Reply, ErrorCode>>),
    Transactions(Result<ListTransactionsResponse, ErrorCode>),
    Control(metadata::Reply),
    /// In the order of the request: where the log is now, or that it could not be opened.
    Open(Vec<Result<DirectoryId, ErrorCode>>),
    Metrics(Box<Snapshot>),
    /// With the log directories that are offline for writing here.
    Pong(Vec<DirectoryId>),
    Activity(Work),
    Done,
}

/// The steps shard 0 leads every shard through.
#[derive(Clone, Debug)]
pub enum Lifecycle {
    /// Everything is open: listen on these addresses and serve.
    Serve(Arc<Vec<SocketAddr>>),
    /// Stop accepting, finish what is in flight, close the connections.
    StopServing,
    /// Flush and close the logs, then let the shard end.
    StopStorage,
}

/// A log to open on its shard.
#[derive(Clone, Debug)]
pub struct OpenPartition {
    pub partition: PartitionId,
    pub directory: DirectoryId,
    pub create: Create,
}

/// The part of a fetch that concerns one shard.
#[derive(Clone, Debug)]
pub struct ReadRequest {
    pub partitions: Vec<ReadPartition>,
    pub max_bytes: usize,
    pub isolation: Isolation,
}

/// The producer's `acks`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Acks {
    None,
    Leader,
    All,
}

/// One batch for one partition, checked by the connection's shard.
#[derive(Clone, Debug)]
pub struct AppendPartition {
    pub partition: PartitionId,
    /// Exactly one v2 batch, CRC verified.
    pub batch: Bytes,
    pub header: BatchHeader,
}

/// The transaction that a produce request goes on with.
#[derive(Clone, Debug)]
pub struct Transaction {
    pub transactional_id: Arc<str>,
    pub support: TransactionSupport,
}

/// What the version of a Produce or TxnOffsetCommit says of its client, beside the format (KIP-890).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TransactionSupport {
    /// To version 10, or 3: adds its partitions to the transaction itself, and knows none of the newer errors.
    Classic,
    /// Version 11, or 4: the same, and knows TRANSACTION_ABORTABLE.
    Abortable,
    /// From version 12, or 5, on: partitions join the transaction with the first batch, and the epoch rises with each transaction.
    Adds,
}

impl TransactionSupport {
    #[must_use]
    pub fn of_produce(version: i16) -> TransactionSupport {
        match version {
            ..=10 => TransactionSupport::Classic,
            11 => TransactionSupport::Abortable,
            _ => TransactionSupport::Adds,
        }
    }

    #[must_use]
    pub fn of_txn_offset_commit(version: i16) -> TransactionSupport {
        match version {
            ..=3 => TransactionSupport::Classic,
            4 => TransactionSupport::Abortable,
            _ => TransactionSupport::Adds,
        }
    }
}

/// Whether these partitions belong to the transaction that the producer has open, asked of its coordinator.
#[derive(Clone, Debug)]
pub struct VerifyPartitions {
    pub transactional_id: Arc<str>,
    pub producer_id: ProducerId,
    pub producer_epoch: ProducerEpoch,
    pub partitions: Vec<PartitionId>,
    pub mode: VerifyMode,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum VerifyMode {
    /// They must belong to it already.
    VerifyOnly,
    /// They join it.
    Add,
}

/// The end of a producer's transaction in one partition.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct MarkerPartition {
    pub partition: PartitionId,
    pub producer_id: ProducerId,
    pub producer_epoch: ProducerEpoch,
    /// The leader epoch of the coordinator's partition of `__transaction_state`.
    pub coordinator_epoch: i32,
    pub end: EndTxn,
    /// Kafka's transaction.version of the transaction: from 2 on the epoch is one more than the producer's was (KIP-890).
    pub transaction_version: i8,
}

/// What became of one batch, in the order of the request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct AppendOutcome {
    pub error: ErrorCode,
    pub base_offset: Offset,
    pub log_start_offset: Offset,
    /// The leader to go to instead, with `NotLeaderOrFollower`.
    pub leader: Option<Leader>,
}

impl AppendOutcome {
    #[must_use]
    pub fn failed(error: ErrorCode) -> AppendOutcome {
        AppendOutcome { error, base_offset: Offset::NONE, log_start_offset: Offset::NONE, leader: None }
    }
}

/// Who leads, as far as this broker knows.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Leader {
    pub broker: BrokerId,
    /// Where the leader has it, if that is known.
    pub shard: Option<ShardId>,
    pub epoch: LeaderEpoch,
}

/// One partition of a fetch.
#[derive(Clone, Copy, Debug)]
pub struct ReadPartition {
    pub partition: PartitionId,
    pub fetch_offset: Offset,
    pub max_bytes: usize,
    /// The client's idea of the leader epoch; `NONE` skips the check.
    pub current_epoch: LeaderEpoch,
    /// The epoch of the client's last record; `NONE` skips the divergence check.
    pub last_fetched_epoch: LeaderEpoch,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Isolation {
    ReadUncommitted,
    ReadCommitted,
}

/// A fetch, the partitions in the client's order.
#[derive(Clone, Debug)]
pub struct FetchRequest {
    pub partitions: Vec<ReadPartition>,
    pub max_bytes: usize,
    pub min_bytes: usize,
    pub max_wait_ms: u64,
    pub isolation: Isolation,
}

/// What one partition gave to a fetch.
#[derive(Clone, Debug)]
pub struct ReadOutcome {
    pub error: ErrorCode,
    pub high_watermark: Offset,
    pub last_stable_offset: Offset,
    pub log_start_offset: Offset,
    /// Whole batches, to be spliced into the answer as they are.
    pub records: Vec<Bytes>,
    pub records_bytes: usize,
    /// How many offsets the fetch moves on by.
    pub record_count: u64,
    /// There is more to read behind the records: a limit on bytes, or the way the disk is read, ended them.
    pub has_more: bool,
    /// With `ReadCommitted`: (producer, first offset) of aborted transactions in the returned range.
    pub aborted: Option<Vec<(ProducerId, Offset)>>,
    /// The client's log leaves ours here: (epoch, end offset) of the last common epoch.
    pub diverging: Option<(LeaderEpoch, Offset)>,
    pub leader: Option<Leader>,
}

impl ReadOutcome {
    #[must_use]
    pub fn failed(error: ErrorCode) -> ReadOutcome {
        ReadOutcome {
            error,
            high_watermark: Offset::NONE,
            last_stable_offset: Offset::NONE,
            log_start_offset: Offset::NONE,
            records: Vec::new(),
            records_bytes: 0,
            record_count: 0,
            has_more: false,
            aborted: None,
            diverging: None,
            leader: None,
        }
    }

    /// A reason to answer the fetch at once, however little there is: waiting would not bring more.
    #[must_use]
    pub fn is_urgent(&self) -> bool {
        !self.error.is_none() || self.diverging.is_some() || self.has_more
    }
}

/// What ListOffsets asks for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum OffsetQuery {
    Latest,
    Earliest,
    MaxTimestamp,
    EarliestLocal,
    LatestTiered,
    AtOrAfter(TimestampMs),
}

#[derive(Clone, Copy, Debug)]
pub struct OffsetQueryPartition {
    pub partition: PartitionId,
    pub query: OffsetQuery,
    pub current_epoch: LeaderEpoch,
    pub isolation: Isolation,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct OffsetAnswer {
    pub error: ErrorCode,
    pub timestamp: TimestampMs,
    pub offset: Offset,
    pub epoch: LeaderEpoch,
}

impl OffsetAnswer {
    #[must_use]
    pub fn failed(error: ErrorCode) -> OffsetAnswer {
        OffsetAnswer { error, timestamp: TimestampMs::NONE, offset: Offset::NONE, epoch: LeaderEpoch::NONE }
    }
}

#[derive(Clone, Copy, Debug)]
pub struct EpochQueryPartition {
    pub partition: PartitionId,
    pub current_epoch: LeaderEpoch,
    pub epoch: LeaderEpoch,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct EpochAnswer {
    pub error: ErrorCode,
    pub epoch: LeaderEpoch,
    pub end_offset: Offset,
}

/// Records of one partition that are to go.
#[derive(Clone, Copy, Debug)]
pub struct DeleteRecordsPartition {
    pub partition: PartitionId,
    pub before: DeleteBefore,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum DeleteBefore {
    /// All that consumers can see.
    HighWatermark,
    /// Exclusive.
    Offset(Offset),
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct DeleteRecordsOutcome {
    pub error: ErrorCode,
    /// The log start, durable.
    pub low_watermark: Offset,
}

impl DeleteRecordsOutcome {
    #[must_use]
    pub fn failed(error: ErrorCode) -> DeleteRecordsOutcome {
        DeleteRecordsOutcome { error, low_watermark: Offset::NONE }
    }
}

/// In which log directory of this node a partition's log is to be.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RelocatePartition {
    pub partition: PartitionId,
    pub directory: DirectoryId,
}

/// Logs, in no order, and the log directories they are in.
#[derive(Clone, Debug)]
pub struct ShardLogs {
    pub directories: Vec<DirectoryState>,
    pub logs: Vec<LogDescription>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct LogDescription {
    pub partition: PartitionId,
    pub directory: DirectoryId,
    /// Of all segments, without what is reserved ahead.
    pub size_bytes: u64,
    pub start_offset: Offset,
    pub end_offset: Offset,
    pub high_watermark: Offset,
    pub leader_epoch: LeaderEpoch,
    /// Where it is on its way to.
    pub future: Option<FutureLog>,
}

//! What may be asked of a partition, wherever it lives: the closed set of requests that cross the mesh.

use bytes::Bytes;

use crate::model::{ErrorCode, LeaderEpoch, Offset, PartitionId, ProducerId, TimestampMs};
use crate::protocol::batch::BatchHeader;

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

/// What became of one batch, in the order of the request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct AppendOutcome {
    pub error: ErrorCode,
    pub base_offset: Offset,
    pub log_start_offset: Offset,
    /// The leader to go to instead, with `NotLeaderOrFollower`.
    pub leader: Option<Leader>,
}

/// Who leads, as far as this broker knows.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Leader {
    pub broker: crate::model::BrokerId,
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
    /// With `ReadCommitted`: (producer, first offset) of aborted transactions in the returned range.
    pub aborted: Option<Vec<(ProducerId, Offset)>>,
    /// The client's log leaves ours here: (epoch, end offset) of the last common epoch.
    pub diverging: Option<(LeaderEpoch, Offset)>,
    pub leader: Option<Leader>,
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

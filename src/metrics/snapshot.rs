//! What one shard counts, as plain data: the counters live with their owners, a scrape takes copies of them.

use std::sync::Arc;
use std::time::Duration;

use super::{Counter, Gauge, Histogram};
use crate::model::{ErrorCode, ShardId};
use crate::protocol::api::Api;

/// One shard's numbers, as they were at one moment (those of topics within a few turns of the shard).
#[derive(Clone, Debug, Default)]
pub struct Snapshot {
    /// Nanoseconds of its thread on a CPU.
    pub cpu: u64,
    /// Nanoseconds.
    pub longest_stall: u64,
    /// Nanoseconds that this copy took, without the waits in it.
    pub scrape: u64,
    pub server: Server,
    pub partitions: Partitions,
    /// Of shard 0; of the others nothing.
    pub metadata: Metadata,
    pub storage: Storage,
    pub topics: Vec<Topic>,
}

/// Of the connections. By default: none yet.
#[derive(Clone, Debug, Default)]
pub struct Server {
    pub counters: ServerCounters,
    pub connections: u64,
    pub request_budget_bytes: u64,
    pub request_used_bytes: u64,
    pub reply_waiting_bytes: u64,
}

#[derive(Clone, Debug)]
pub struct ServerCounters {
    /// In the order of [`Api::all`].
    apis: Box<[ApiCounters]>,
    pub connections_accepted: Counter,
    /// Turned away, or made to wait, by a limit.
    pub connections_refused: Counter,
    /// Closed because of something they sent, or did not take.
    pub connections_rejected: Counter,
    /// Sent on to the shard that most of their requests concern.
    pub connections_handed_over: Counter,
    /// Not sent on, since that shard was busy.
    pub handovers_refused: Counter,
}

/// One API's.
#[derive(Clone, Debug, Default)]
pub struct ApiCounters {
    pub requests: Counter,
    /// Replies that carry an error.
    pub errors: Counter,
    pub request_bytes: Counter,
    pub reply_bytes: Counter,
    /// From the frame's last byte until the reply is ready.
    pub latency: Histogram,
}

/// Of the partitions led by the shard, and of the fetches of its connections.
#[derive(Clone, Debug, Default)]
pub struct Partitions {
    pub counters: PartitionCounters,
    pub open: u64,
    /// Of `open`: cannot be read or written.
    pub offline: u64,
    pub waiting_fetches: u64,
    pub messages_sent: u64,
    pub messages_received: u64,
    pub groups: Groups,
    pub transactions: Transactions,
}

/// Of the transaction coordinators.
#[derive(Clone, Copy, Debug, Default)]
pub struct Transactions {
    /// Partitions of `__transaction_state` that are led here.
    pub coordinators: u64,
    /// Of `coordinators`: they load, or cannot be loaded or written.
    pub unavailable: u64,
    pub transactional_ids: u64,
    /// Begun, and not decided or without all its markers.
    pub open: u64,
}

/// Of the group coordinators.
#[derive(Clone, Copy, Debug, Default)]
pub struct Groups {
    /// Partitions of `__consumer_offsets` that are led here.
    pub coordinators: u64,
    /// Of `coordinators`: they load, or cannot be loaded or written.
    pub unavailable: u64,
    pub groups: u64,
    pub members: u64,
}

#[derive(Clone, Debug, Default)]
pub struct PartitionCounters {
    /// Reads of a partition for a fetch: given from memory, or from disk.
    pub cache_hits: Counter,
    pub cache_misses: Counter,
    /// Batches that Produce has compressed anew.
    pub recompressed_batches: Counter,
    /// Offsets that groups have committed.
    pub committed_offsets: Counter,
    /// Records of groups, these offsets among them.
    pub group_records: Counter,
    /// Transactions whose markers are all written.
    pub committed_transactions: Counter,
    pub aborted_transactions: Counter,
    /// Of `aborted_transactions`, those that took too long; counted when that is decided.
    pub timed_out_transactions: Counter,
    /// Questions whether partitions belong to a transaction, and partitions that do not.
    pub verifications: Counter,
    pub failed_verifications: Counter,
}

/// Of the metadata log.
#[derive(Clone, Debug, Default)]
pub struct Metadata {
    pub term: Gauge,
    pub start_offset: Gauge,
    pub end_offset: Gauge,
    /// From a decision until it is committed, and from then until it is in force on every shard.
    pub commits: Histogram,
    pub applies: Histogram,
    pub snapshots: Counter,
    pub failed_snapshots: Counter,
    /// The offset behind the last entry in the newest snapshot.
    pub snapshot_end_offset: Gauge,
    pub bytes_since_snapshot: Gauge,
}

/// Of the logs.
#[derive(Clone, Debug, Default)]
pub struct Storage {
    pub counters: StorageCounters,
    pub pending_bytes: u64,
    /// Of batches that lie in the journal only.
    pub journaled_bytes: u64,
    pub tail_cache_bytes: u64,
    pub tail_cache_bytes_max: u64,
    pub read_ahead_bytes: u64,
    pub read_ahead_bytes_max: u64,
    pub producer_state_bytes: u64,
    pub producer_state_bytes_max: u64,
    /// Compacted partitions that cannot be compacted.
    pub uncleanable_partitions: u64,
    /// Of the dirtiest log, in millionths.
    pub dirtiest_log_ratio: u64,
    pub directories: Vec<Directory>,
}

#[derive(Clone, Debug, Default)]
pub struct StorageCounters {
    pub rounds: Counter,
    /// Logs flushed in them.
    pub flushes: Counter,
    pub batches: Counter,
    /// Bytes of those batches, and of what was written for them: whole blocks.
    pub batch_bytes: Counter,
    pub written_bytes: Counter,
    /// Bytes written to segments of what had become durable in the journal.
    pub drained_bytes: Counter,
    /// From the arrival of a log's first batch of a round until it is durable.
    pub commits: Histogram,
    pub disk_read_bytes: Counter,
    /// Offsets that log starts have passed.
    pub expired_records: Counter,
    /// Segments below a log start that were taken out of their logs, and their bytes.
    pub removed_segments: Counter,
    pub removed_bytes: Counter,
    /// Cleanings of compacted logs begun, what they read and what they wrote.
    pub cleaner_runs: Counter,
    pub cleaner_read_bytes: Counter,
    pub cleaner_written_bytes: Counter,
    /// Keys in the map of the last cleaning, and how many fit.
    pub cleaner_map_keys: Gauge,
    pub cleaner_map_keys_max: Gauge,
}

/// One log directory in one shard's eyes.
#[derive(Clone, Debug)]
pub struct Directory {
    pub path: String,
    /// Has had no write or flush error.
    pub online: bool,
    /// What may still be appended before produce is refused; `None`: the file system has not been asked yet.
    pub bytes_until_refusal: Option<u64>,
}

/// One topic's on one shard: what its partitions there received, what connections there sent.
#[derive(Clone, Debug)]
pub struct Topic {
    pub name: Arc<str>,
    pub received_bytes: Counter,
    pub received_records: Counter,
    pub sent_bytes: Counter,
    pub sent_records: Counter,
    pub partitions: Gauge,
    /// Of all its partitions together: offsets from the last stable one to the high watermark.
    pub stable_lag: Gauge,
}

/// The process, beside its shards.
#[derive(Clone, Copy, Debug, Default)]
pub struct Node {
    /// Clients are served.
    pub ready: bool,
    /// Nanoseconds since 1970.
    pub started: u64,
    /// Nanoseconds on any CPU.
    pub cpu: u64,
    pub resident_bytes: u64,
    pub open_files: u64,
    pub open_files_max: u64,
    /// Connections of the admin listener.
    pub admin_connections: u64,
}

/// Everything one scrape tells.
#[derive(Clone, Debug, Default)]
pub struct Scrape {
    pub version: &'static str,
    pub node: Node,
    /// In the order of their ids; `None`: the shard did not answer in time.
    pub shards: Vec<(ShardId, Option<Box<Snapshot>>)>,
}

impl Default for ServerCounters {
    fn default() -> ServerCounters {
        ServerCounters {
            apis: Api::all().map(|_| ApiCounters::default()).collect(),
            connections_accepted: Counter::default(),
            connections_refused: Counter::default(),
            connections_rejected: Counter::default(),
            connections_handed_over: Counter::default(),
            handovers_refused: Counter::default(),
        }
    }
}

impl ServerCounters {
    #[must_use]
    pub fn api(&self, api: Api) -> &ApiCounters {
        &self.apis[api as usize]
    }
}

impl ApiCounters {
    /// A request has its reply, or needs none (`bytes` is 0).
    pub fn count_reply(&self, error: ErrorCode, bytes: usize, took: Duration) {
        self.requests.increment();
        if !error.is_none() {
            self.errors.increment();
        }
        self.reply_bytes.add(bytes as u64);
        self.latency.record(took);
    }
}

impl Topic {
    #[must_use]
    pub fn new(name: Arc<str>) -> Topic {
        Topic {
            name,
            received_bytes: Counter::default(),
            received_records: Counter::default(),
            sent_bytes: Counter::default(),
            sent_records: Counter::default(),
            partitions: Gauge::default(),
            stable_lag: Gauge::default(),
        }
    }

    pub fn count_received(&self, bytes: usize, records: u64) {
        self.received_bytes.add(bytes as u64);
        self.received_records.add(records);
    }

    pub fn count_sent(&self, bytes: usize, records: u64) {
        self.sent_bytes.add(bytes as u64);
        self.sent_records.add(records);
    }

    /// Another shard's numbers of the same topic.
    pub(super) fn merge(&self, other: &Topic) {
        let Topic {
            name: _,
            received_bytes,
            received_records,
            sent_bytes,
            sent_records,
            partitions,
            stable_lag,
        } = other;
        self.received_bytes.add(received_bytes.get());
        self.received_records.add(received_records.get());
        self.sent_bytes.add(sent_bytes.get());
        self.sent_records.add(sent_records.get());
        self.partitions.replace(0, partitions.get());
        self.stable_lag.replace(0, stable_lag.get());
    }
}

impl Directory {
    /// The same directory in another shard's eyes: each knows its own appends and its own errors.
    pub(super) fn merge(&mut self, other: &Directory) {
        self.online &= other.online;
        self.bytes_until_refusal = match (self.bytes_until_refusal, other.bytes_until_refusal) {
            (Some(own), Some(other)) => Some(own.min(other)),
            (own, other) => own.or(other),
        };
    }
}

/// Nanoseconds, as raw values of durations are kept.
#[must_use]
pub fn nanoseconds(duration: Duration) -> u64 {
    u64::try_from(duration.as_nanos()).unwrap_or(u64::MAX)
}

//! `__cluster_metadata-0`: the quorum's entries as record batches of an ordinary partition log.
//!
//! An entry is one batch, so its records are there together or not at all; its term is the batch's leader epoch, and
//! its index is not stored: entries are counted. The log is written and recovered by the same code as every
//! partition, and Kafka's tools can read its framing.

use std::rc::Rc;

use raft::eraftpb::Entry;

use crate::metadata::batch;
use crate::metrics::snapshot::Metadata;
use crate::model::{DirectoryId, ErrorCode, LeaderEpoch, Offset};
use crate::partition::{Acks, AppendPartition, METADATA_PARTITION, OpenPartition, Shard};
use crate::protocol::batch::{BatchHeader, Batches};
use crate::storage::{CleanupPolicy, Compaction, Create, Durability, Log, LogConfig, Reserve};

/// Read this much at a time at boot.
const CHUNK_BYTES: usize = 1 << 20;

pub(in crate::cluster) const TOPIC_NAME: &str = "__cluster_metadata";

/// A segment is about what lies between two snapshots.
const SEGMENT_BYTES_MIN: u64 = 16 << 10;
const SEGMENT_BYTES_MAX: u64 = 1 << 30;

/// Never rolled by time; cut by snapshots only, by whole segments; always flushed.
const CONFIG: LogConfig = LogConfig {
    segment_bytes: SEGMENT_BYTES_MAX,
    segment_ms: i64::MAX,
    segment_jitter_ms: 0,
    segment_index_bytes: 10 << 20,
    index_interval_bytes: 4096,
    preallocate: false,
    cleanup: CleanupPolicy { delete: false, compact: false },
    retention_ms: -1,
    retention_bytes: -1,
    compaction: Compaction {
        min_dirty_ratio: 1.0,
        min_lag_ms: 0,
        max_lag_ms: i64::MAX,
        delete_retention_ms: i64::MAX,
    },
    durability: Durability::Flushed,
    flush_messages: i64::MAX,
    flush_ms: i64::MAX,
    reserve: Reserve::Usable,
};

/// On shard 0.
pub(super) struct MetadataLog {
    shard: Rc<Shard>,
    log: Log,
}

/// An entry as the log has it.
pub(super) struct Stored {
    pub term: u64,
    pub data: Vec<u8>,
    /// The log's offset behind it.
    pub end: Offset,
}

impl MetadataLog {
    /// `cut_bytes`: so much comes between two snapshots.
    pub async fn open(
        shard: &Rc<Shard>,
        directory: DirectoryId,
        create: Create,
        cut_bytes: u64,
    ) -> Result<MetadataLog, String> {
        let open = OpenPartition { partition: METADATA_PARTITION, directory, create };
        let config =
            LogConfig { segment_bytes: cut_bytes.clamp(SEGMENT_BYTES_MIN, SEGMENT_BYTES_MAX), ..CONFIG };
        let opened = shard.open_log(open, TOPIC_NAME.to_owned(), config, LeaderEpoch(i32::MAX)).await;
        opened.map_err(|_| format!("cannot open the metadata log {TOPIC_NAME}-0; the log says why"))?;
        let log = shard.log(METADATA_PARTITION).expect("just opened");
        Ok(MetadataLog { shard: Rc::clone(shard), log })
    }

    /// Every entry from `from` on, where one begins.
    pub async fn read(&self, from: Offset) -> Result<Vec<Stored>, String> {
        let mut entries = Vec::new();
        let (mut next, end) = (from, self.log.durable_end());
        if next < self.log.start_offset() || next > end {
            return Err(format!(
                "the metadata log reaches from {} to {end}, and {next} is what is needed: restore {TOPIC_NAME}-0 from a backup",
                self.log.start_offset()
            ));
        }
        while next < end {
            let slices = (self.log.read(next, end, CHUNK_BYTES, true).await)
                .map_err(|error| format!("cannot read the metadata log at offset {next}: {error:?}"))?;
            for part in slices.parts {
                for batch in Batches::new(&part) {
                    let (header, bytes) = batch.map_err(|error| damaged(next, &format!("{error:?}")))?;
                    let data = batch::decode(&header, bytes).map_err(|error| damaged(next, &error))?;
                    let term = u64::try_from(header.leader_epoch.0).unwrap_or(0);
                    next = header.next_offset();
                    entries.push(Stored { term, data, end: next });
                }
            }
        }
        Ok(entries)
    }

    /// Appends; returns when all are durable, with the log's offset behind each.
    pub async fn append(&self, entries: &[Entry], now_ms: i64) -> Result<Vec<Offset>, ErrorCode> {
        let mut waits = Vec::with_capacity(entries.len());
        for entry in entries {
            let batch = batch::encode(&entry.data, now_ms).expect("the controller proposes records");
            let header = BatchHeader::parse(&batch).expect("we encoded it");
            let count = i64::from(header.record_count);
            self.shard.set_leader_epoch(METADATA_PARTITION, epoch(entry.term));
            let append = AppendPartition { partition: METADATA_PARTITION, batch, header };
            waits.push((count, self.shard.append(Acks::Leader, 0, vec![append]).await));
        }
        let mut ends = Vec::with_capacity(entries.len());
        for (count, wait) in waits {
            let outcome = wait.await[0];
            if !outcome.error.is_none() {
                return Err(outcome.error);
            }
            ends.push(outcome.base_offset.plus(count));
        }
        Ok(ends)
    }

    /// What lies below is in a snapshot; its segments go.
    pub async fn forget_before(&self, offset: Offset) -> Result<(), String> {
        let forgotten = self.log.delete_records(offset).await;
        forgotten.map(|_| ()).map_err(|error| format!("{error:?}"))
    }

    /// Where what it does is counted.
    pub fn metrics(&self) -> &Metadata {
        self.shard.metadata_metrics()
    }

    #[must_use]
    pub fn start(&self) -> Offset {
        self.log.start_offset()
    }
}

fn epoch(term: u64) -> LeaderEpoch {
    LeaderEpoch(i32::try_from(term).expect("two billion elections"))
}

fn damaged(offset: Offset, what: &str) -> String {
    format!("the metadata log is damaged at offset {offset} ({what}): restore {TOPIC_NAME}-0 from a backup")
}

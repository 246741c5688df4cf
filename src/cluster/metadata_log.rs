//! `__cluster_metadata-0`: metadata records as record batches of an ordinary partition log.
//!
//! One decision is one batch, so its records are there together or not at all. The log is written and recovered
//! by the same code as every partition, and Kafka's tools can read its framing.

use std::rc::Rc;

use bytes::{Bytes, BytesMut};
use kafka_protocol::records::{
    Compression, Record as KafkaRecord, RecordBatchEncoder, RecordEncodeOptions, TimestampType,
};

use crate::metadata::Record;
use crate::model::{DirectoryId, ErrorCode, LeaderEpoch, Offset};
use crate::partition::{Acks, AppendPartition, METADATA_PARTITION, OpenPartition, Shard};
use crate::protocol::batch::{BatchHeader, Batches, HEADER_BYTES};
use crate::protocol::records::Records;
use crate::storage::{CleanupPolicy, Compaction, Create, Durability, Log, LogConfig, Reserve};

/// Read this much at a time at boot.
const CHUNK_BYTES: usize = 1 << 20;

pub(super) const TOPIC_NAME: &str = "__cluster_metadata";

/// Never rolled by time; keeps everything; always flushed.
const CONFIG: LogConfig = LogConfig {
    segment_bytes: 1 << 30,
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

/// Appends for the controller's host, on shard 0.
pub(super) struct MetadataLog {
    shard: Rc<Shard>,
}

impl MetadataLog {
    /// Opens the log and reads every record in it.
    pub(super) async fn open(
        shard: &Rc<Shard>,
        directory: DirectoryId,
        create: Create,
    ) -> Result<(MetadataLog, Vec<Record>), String> {
        let open = OpenPartition { partition: METADATA_PARTITION, directory, create };
        let opened = shard.open_log(open, TOPIC_NAME.to_owned(), CONFIG, LeaderEpoch(i32::MAX)).await;
        opened.map_err(|_| format!("cannot open the metadata log {TOPIC_NAME}-0; the log says why"))?;
        let log = shard.log(METADATA_PARTITION).expect("just opened");
        let records = read_all(&log).await?;
        // Each start is a new leadership of the metadata log.
        shard.set_leader_epoch(METADATA_PARTITION, LeaderEpoch(log.last_epoch().0.saturating_add(1)));
        Ok((MetadataLog { shard: Rc::clone(shard) }, records))
    }

    /// Appends the records of one decision together; returns when they are durable.
    pub(super) async fn append(&self, records: &[Record], now_ms: i64) -> Result<(), ErrorCode> {
        let batch = encode(records, now_ms);
        let header = BatchHeader::parse(&batch).expect("we encoded it");
        let append = AppendPartition { partition: METADATA_PARTITION, batch, header };
        let outcome = self.shard.append(Acks::Leader, 0, vec![append]).await.await[0];
        if outcome.error.is_none() { Ok(()) } else { Err(outcome.error) }
    }
}

fn encode(records: &[Record], now_ms: i64) -> Bytes {
    let records: Vec<KafkaRecord> =
        (0..).zip(records).map(|(offset, record)| encode_record(offset, record, now_ms)).collect();
    let options = RecordEncodeOptions { version: 2, compression: Compression::None };
    let mut batch = BytesMut::new();
    RecordBatchEncoder::encode(&mut batch, &records, &options).expect("small uncompressed records encode");
    batch.freeze()
}

fn encode_record(offset: i64, record: &Record, now_ms: i64) -> KafkaRecord {
    let mut value = Vec::new();
    record.encode(&mut value);
    KafkaRecord {
        transactional: false,
        control: false,
        delete_horizon: false,
        partition_leader_epoch: 0,
        producer_id: -1,
        producer_epoch: -1,
        timestamp_type: TimestampType::Creation,
        offset,
        // the encoder starts a new batch where the sequence does not go on
        sequence: i32::try_from(offset).expect("a decision is small") - 1,
        timestamp: now_ms,
        key: None,
        value: Some(value.into()),
        headers: Default::default(),
    }
}

async fn read_all(log: &Log) -> Result<Vec<Record>, String> {
    let mut records = Vec::new();
    let (mut next, end) = (log.start_offset(), log.durable_end());
    while next < end {
        let slices = (log.read(next, end, CHUNK_BYTES, true).await)
            .map_err(|error| format!("cannot read the metadata log at offset {next}: {error:?}"))?;
        for part in slices.parts {
            for batch in Batches::new(&part) {
                let (header, bytes) = batch.map_err(|error| damaged(next, &format!("{error:?}")))?;
                decode(&header, bytes, &mut records).map_err(|error| damaged(header.base_offset, &error))?;
                next = header.next_offset();
            }
        }
    }
    Ok(records)
}

fn decode(header: &BatchHeader, bytes: &[u8], records: &mut Vec<Record>) -> Result<(), String> {
    let body = &bytes[HEADER_BYTES..];
    for record in Records::new(header, body) {
        let value = record.map_err(|error| format!("{error:?}"))?.value.ok_or("a record without a value")?;
        let mut value = &body[value];
        records.push(Record::decode(&mut value).map_err(|error| format!("{error:?}"))?);
    }
    Ok(())
}

fn damaged(offset: Offset, what: &str) -> String {
    format!("the metadata log is damaged at offset {offset} ({what}): restore {TOPIC_NAME}-0 from a backup")
}

//! Metadata records as record batches, in the metadata log and in its snapshots: a record of the batch is one change,
//! so Kafka's tools can read the framing.
//!
//! Between a batch and the consensus engine, a decision is *data*: its encoded records, one behind the other. Data
//! without records is the entry with which a leader begins; its batch has one record with an empty value.

use bytes::{Bytes, BytesMut};
use kafka_protocol::records::{
    Compression, Record as BatchRecord, RecordBatchEncoder, RecordEncodeOptions, TimestampType,
};

use super::record::{self, DecodeError, Record};
use crate::protocol::batch::{BatchHeader, HEADER_BYTES};
use crate::protocol::records::Records;

/// The records, one behind the other.
#[must_use]
pub fn encode_data(records: &[Record]) -> Vec<u8> {
    let mut data = Vec::new();
    records.iter().for_each(|record| record.encode(&mut data));
    data
}

/// # Errors
/// The first that is no record.
pub fn decode_data(mut data: &[u8], records: &mut Vec<Record>) -> Result<(), DecodeError> {
    while !data.is_empty() {
        records.push(Record::decode(&mut data)?);
    }
    Ok(())
}

/// One batch of all records in `data`. Base offset and leader epoch are left to whoever appends it.
///
/// # Errors
/// If `data` is not made of records.
pub fn encode(data: &[u8], now_ms: i64) -> Result<Bytes, DecodeError> {
    let mut values = Vec::new();
    let mut rest = data;
    while !rest.is_empty() {
        values.push(record::take_encoded(&mut rest).ok_or(DecodeError::Malformed)?);
    }
    if values.is_empty() {
        values.push(&[]);
    }
    let records: Vec<BatchRecord> =
        (0..).zip(values).map(|(offset, value)| batch_record(offset, value, now_ms)).collect();
    let options = RecordEncodeOptions { version: 2, compression: Compression::None };
    let mut batch = BytesMut::new();
    RecordBatchEncoder::encode(&mut batch, &records, &options).expect("small uncompressed records encode");
    Ok(batch.freeze())
}

fn batch_record(offset: i64, value: &[u8], now_ms: i64) -> BatchRecord {
    BatchRecord {
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
        value: Some(Bytes::copy_from_slice(value)),
        headers: Default::default(),
    }
}

/// What [`encode`] was given. `bytes` is the whole batch.
///
/// # Errors
/// What is wrong with it.
pub fn decode(header: &BatchHeader, bytes: &[u8]) -> Result<Vec<u8>, String> {
    let body = &bytes[HEADER_BYTES..];
    let mut data = Vec::with_capacity(body.len());
    for record in Records::new(header, body) {
        let value = record.map_err(|error| format!("{error:?}"))?.value.ok_or("a record without a value")?;
        data.extend_from_slice(&body[value]);
    }
    Ok(data)
}

//! Metadata records as record batches, in the metadata log and in its snapshots: a record of the batch is one change,
//! so Kafka's tools can read the framing.
//!
//! Between a batch and the consensus engine, a decision is *data*: its encoded records, one behind the other. Data
//! without records is the entry with which a leader begins; its batch has one record with an empty value.

use bytes::Bytes;

use super::record::{self, DecodeError, Record};
use crate::protocol::batch::{BatchHeader, Codec, HEADER_BYTES};
use crate::protocol::compose::{NewRecord, compose};
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
    let record = |value: &[u8]| NewRecord {
        timestamp: now_ms,
        value: Some(Bytes::copy_from_slice(value)),
        ..NewRecord::default()
    };
    let records: Vec<NewRecord> = values.into_iter().map(record).collect();
    Ok(compose(&records, Codec::None).expect("a decision fits a batch").into())
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

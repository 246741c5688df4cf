//! Record batches for tests, written by the crate's encoder: a second opinion on every format here.

use bytes::{Bytes, BytesMut};
use kafka_protocol::records::{Compression, Record, RecordBatchEncoder, RecordEncodeOptions, TimestampType};

use super::StrBytes;

pub(crate) const BASE_TIMESTAMP: i64 = 1_700_000_000_000;

/// What the tests vary. Record `i` has timestamp `BASE_TIMESTAMP + 10 i`, sequence `50 + i`, key `key-i`, a value
/// of `value_bytes` and one header.
#[derive(Clone, Copy)]
pub(crate) struct Spec {
    pub records: usize,
    pub base_offset: i64,
    pub value_bytes: usize,
    pub compression: Compression,
}

impl Default for Spec {
    fn default() -> Self {
        Spec { records: 3, base_offset: 0, value_bytes: 20, compression: Compression::None }
    }
}

pub(crate) fn records(spec: &Spec) -> Vec<Record> {
    (0..spec.records)
        .map(|i| {
            let mut record = Record {
                transactional: false,
                control: false,
                delete_horizon: false,
                partition_leader_epoch: 7,
                producer_id: 12,
                producer_epoch: 3,
                timestamp_type: TimestampType::Creation,
                offset: spec.base_offset + i as i64,
                sequence: 50 + i as i32,
                timestamp: BASE_TIMESTAMP + 10 * i as i64,
                key: Some(Bytes::from(format!("key-{i}"))),
                value: Some(Bytes::from(vec![b'a' + (i % 26) as u8; spec.value_bytes])),
                headers: Default::default(),
            };
            record.headers.insert(StrBytes::from_static_str("trace"), Some(Bytes::from_static(b"id")));
            record
        })
        .collect()
}

pub(crate) fn encode(spec: &Spec) -> Bytes {
    encode_records(&records(spec), spec.compression)
}

pub(crate) fn encode_records(records: &[Record], compression: Compression) -> Bytes {
    let mut batch = BytesMut::new();
    RecordBatchEncoder::encode(&mut batch, records, &RecordEncodeOptions { version: 2, compression })
        .expect("the crate encodes what it can represent");
    batch.freeze()
}

//! Record batches (format v2), built record by record into a buffer that is used again, and walked in place.

use anyhow::{Result, bail};
use bytes::{Bytes, BytesMut};
use clap::ValueEnum;
use kafka_protocol::compression::{Compressor, Decompressor, Gzip, Lz4, Snappy, Zstd};

use super::{Cursor, Malformed};

/// Bytes before the first record.
pub const HEADER_BYTES: usize = 61;
/// Most bytes a record has beside its key, value and headers: five varints of five bytes, one of ten, the attributes.
const RECORD_OVERHEAD: usize = 36;

/// What compresses a batch.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Codec {
    None,
    Gzip,
    Snappy,
    Lz4,
    Zstd,
}

/// The idempotent producer that a batch says it comes from.
#[derive(Clone, Copy, Debug)]
pub struct ProducerState {
    pub id: i64,
    pub epoch: i16,
    pub base_sequence: i32,
    /// The batch is part of the producer's transaction.
    pub is_transactional: bool,
}

/// Not idempotent.
pub const NO_PRODUCER: ProducerState =
    ProducerState { id: -1, epoch: -1, base_sequence: -1, is_transactional: false };
/// In a batch's attributes.
const TRANSACTIONAL: i16 = 0x10;

/// One record as it is appended. `headers` are encoded already, with their count in front.
#[derive(Clone, Copy)]
pub struct Record<'a> {
    pub key: Option<&'a [u8]>,
    /// The value in two parts: what is different in every record, and what is not.
    pub value: [&'a [u8]; 2],
    pub headers: &'a [u8],
    pub timestamp_ms: i64,
    /// When the record was due, on the run's clock: kept for the latency.
    pub due_nanos: u64,
}

/// A batch under construction, then in flight; cleared and used again.
#[derive(Default)]
pub struct Batch {
    bytes: Vec<u8>,
    count: u32,
    base_timestamp_ms: i64,
    max_timestamp_ms: i64,
    payload_bytes: u64,
    /// When its records were due, as (moment, how many).
    due: Vec<(u64, u32)>,
}

impl Batch {
    #[must_use]
    pub fn count(&self) -> u32 {
        self.count
    }

    /// Keys, values and headers.
    #[must_use]
    pub fn payload_bytes(&self) -> u64 {
        self.payload_bytes
    }

    /// As it is, header included; after [`seal`](Batch::seal), as it is sent.
    #[must_use]
    pub fn bytes(&self) -> &[u8] {
        &self.bytes
    }

    #[must_use]
    pub fn due(&self) -> &[(u64, u32)] {
        &self.due
    }

    /// What the batch would have at most with such a record more.
    #[must_use]
    pub fn bytes_with(&self, record: &Record<'_>) -> usize {
        self.bytes.len().max(HEADER_BYTES) + RECORD_OVERHEAD + record.payload_bytes()
    }

    pub fn clear(&mut self) {
        self.bytes.clear();
        self.count = 0;
        self.payload_bytes = 0;
        self.due.clear();
    }

    pub fn append(&mut self, record: &Record<'_>) {
        if self.count == 0 {
            self.bytes.clear();
            self.bytes.resize(HEADER_BYTES, 0);
            self.base_timestamp_ms = record.timestamp_ms;
            self.max_timestamp_ms = record.timestamp_ms;
        }
        self.max_timestamp_ms = self.max_timestamp_ms.max(record.timestamp_ms);
        // The body's length comes before it: the small fields are put together first.
        let mut small = [0; 32];
        let mut at = 1; // attributes: 0
        at = put_varint(&mut small, at, record.timestamp_ms - self.base_timestamp_ms);
        at = put_varint(&mut small, at, i64::from(self.count));
        at = put_varint(&mut small, at, record.key.map_or(-1, |key| key.len() as i64));
        let after_key = at;
        let value_bytes = record.value[0].len() + record.value[1].len();
        at = put_varint(&mut small, at, value_bytes as i64);
        let body = at + record.payload_bytes();
        let mut length = [0; 10];
        let length_bytes = put_varint(&mut length, 0, body as i64);
        let bytes = &mut self.bytes;
        bytes.extend_from_slice(&length[..length_bytes]);
        bytes.extend_from_slice(&small[..after_key]);
        bytes.extend_from_slice(record.key.unwrap_or_default());
        bytes.extend_from_slice(&small[after_key..at]);
        bytes.extend_from_slice(record.value[0]);
        bytes.extend_from_slice(record.value[1]);
        bytes.extend_from_slice(record.headers);
        self.count += 1;
        self.payload_bytes += record.payload_bytes() as u64;
        match self.due.last_mut() {
            Some((due, count)) if *due == record.due_nanos => *count += 1,
            _ => self.due.push((record.due_nanos, 1)),
        }
    }

    /// Compresses, writes the header and the checksum: the batch is ready to be sent.
    ///
    /// # Errors
    /// The codec's.
    pub fn seal(&mut self, codec: Codec, producer: ProducerState) -> Result<()> {
        debug_assert!(self.count > 0, "a batch has a record at least");
        if codec != Codec::None {
            compress(&mut self.bytes, codec)?;
        }
        let bytes = &mut self.bytes;
        let length = u32::try_from(bytes.len() - 12)?;
        bytes[..8].fill(0); // base offset
        bytes[8..12].copy_from_slice(&length.to_be_bytes());
        bytes[12..16].copy_from_slice(&(-1_i32).to_be_bytes()); // leader epoch
        bytes[16] = 2;
        let transactional = if producer.is_transactional { TRANSACTIONAL } else { 0 };
        bytes[21..23].copy_from_slice(&(codec as i16 | transactional).to_be_bytes());
        bytes[23..27].copy_from_slice(&(self.count - 1).to_be_bytes());
        bytes[27..35].copy_from_slice(&self.base_timestamp_ms.to_be_bytes());
        bytes[35..43].copy_from_slice(&self.max_timestamp_ms.to_be_bytes());
        bytes[43..51].copy_from_slice(&producer.id.to_be_bytes());
        bytes[51..53].copy_from_slice(&producer.epoch.to_be_bytes());
        bytes[53..57].copy_from_slice(&producer.base_sequence.to_be_bytes());
        bytes[57..61].copy_from_slice(&self.count.to_be_bytes());
        let crc = crc32c::crc32c(&bytes[21..]);
        bytes[17..21].copy_from_slice(&crc.to_be_bytes());
        Ok(())
    }
}

impl Record<'_> {
    #[must_use]
    pub fn payload_bytes(&self) -> usize {
        self.key.map_or(0, <[u8]>::len) + self.value[0].len() + self.value[1].len() + self.headers.len()
    }
}

fn put_varint(into: &mut [u8], mut at: usize, value: i64) -> usize {
    let mut bits = ((value << 1) ^ (value >> 63)) as u64;
    while bits >= 0x80 {
        into[at] = bits as u8 | 0x80;
        bits >>= 7;
        at += 1;
    }
    into[at] = bits as u8;
    at + 1
}

/// Headers as a record carries them: their count, then name and value of each.
#[must_use]
pub fn encode_headers(headers: &[(String, Vec<u8>)]) -> Vec<u8> {
    let mut encoded = Vec::new();
    let mut put = |value: usize, bytes: &[u8]| {
        let mut varint = [0; 10];
        let length = put_varint(&mut varint, 0, value as i64);
        encoded.extend_from_slice(&varint[..length]);
        encoded.extend_from_slice(bytes);
    };
    put(headers.len(), &[]);
    for (name, value) in headers {
        put(name.len(), name.as_bytes());
        put(value.len(), value);
    }
    encoded
}

fn compress(bytes: &mut Vec<u8>, codec: Codec) -> Result<()> {
    let mut compressed = BytesMut::with_capacity(bytes.len() / 2);
    let records = &bytes[HEADER_BYTES..];
    let put = |into: &mut BytesMut| {
        into.extend_from_slice(records);
        Ok(())
    };
    match codec {
        Codec::None => {}
        Codec::Gzip => {
            Gzip::compress(&mut compressed, |into: &mut BytesMut| -> Result<()> { put(into) })?;
        }
        Codec::Snappy => {
            Snappy::compress(&mut compressed, |into: &mut BytesMut| -> Result<()> { put(into) })?
        }
        Codec::Lz4 => Lz4::compress(&mut compressed, |into: &mut BytesMut| -> Result<()> { put(into) })?,
        Codec::Zstd => Zstd::compress(&mut compressed, |into: &mut BytesMut| -> Result<()> { put(into) })?,
    }
    bytes.truncate(HEADER_BYTES);
    bytes.extend_from_slice(&compressed);
    Ok(())
}

/// One batch of a fetch response, not looked into yet.
#[derive(Clone, Copy)]
pub struct BatchView<'a>(&'a [u8]);

impl<'a> BatchView<'a> {
    #[must_use]
    pub fn len(self) -> usize {
        self.0.len()
    }

    fn field<const N: usize>(self, at: usize) -> [u8; N] {
        let mut field = [0; N];
        field.copy_from_slice(&self.0[at..at + N]);
        field
    }

    #[must_use]
    pub fn base_offset(self) -> i64 {
        i64::from_be_bytes(self.field(0))
    }

    #[must_use]
    pub fn next_offset(self) -> i64 {
        self.base_offset().saturating_add(i64::from(i32::from_be_bytes(self.field(23)))).saturating_add(1)
    }

    #[must_use]
    pub fn count(self) -> u32 {
        u32::from_be_bytes(self.field(57))
    }

    #[must_use]
    pub fn is_control(self) -> bool {
        self.0[22] & 0x20 != 0
    }

    #[must_use]
    pub fn is_crc_right(self) -> bool {
        u32::from_be_bytes(self.field(17)) == crc32c::crc32c(&self.0[21..])
    }

    /// Calls with the offset and the value of each record.
    ///
    /// # Errors
    /// A record that is not one, or an unknown codec.
    pub fn records(self, mut each: impl FnMut(i64, &[u8])) -> Result<()> {
        let records = &self.0[HEADER_BYTES..];
        let mut walk = |records: &[u8]| -> Result<()> {
            let mut cursor = Cursor::new(records);
            for _ in 0..self.count() {
                let length = usize::try_from(cursor.varint()?).map_err(|_| Malformed)?;
                let mut record = Cursor::new(cursor.bytes(length)?);
                record.bytes(1)?;
                record.varint()?;
                let offset = self.base_offset().checked_add(record.varint()?).ok_or(Malformed)?;
                let key = record.varint()?;
                record.bytes(usize::try_from(key).unwrap_or(0))?;
                let value = record.varint()?;
                each(offset, record.bytes(usize::try_from(value).unwrap_or(0))?);
            }
            Ok(())
        };
        let compressed = || Bytes::copy_from_slice(records);
        match self.0[22] & 0x07 {
            0 => walk(records),
            1 => Gzip::decompress(&mut compressed(), |records: &mut Bytes| walk(records)),
            2 => Snappy::decompress(&mut compressed(), |records: &mut Bytes| walk(records)),
            3 => Lz4::decompress(&mut compressed(), |records: &mut Bytes| walk(records)),
            4 => Zstd::decompress(&mut compressed(), |records: &mut Bytes| walk(records)),
            codec => bail!("a batch with codec {codec}, which nobody knows"),
        }
    }
}

/// The whole batches of a partition's records; a cut one at the end is left out.
pub fn batches(mut records: &[u8]) -> impl Iterator<Item = BatchView<'_>> {
    std::iter::from_fn(move || {
        let length = 12 + u32::from_be_bytes(*records.get(8..)?.first_chunk()?) as usize;
        if length < HEADER_BYTES {
            return None;
        }
        let (batch, rest) = records.split_at_checked(length)?;
        records = rest;
        Some(BatchView(batch))
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use kafka_protocol::records::RecordBatchDecoder;

    fn build(codec: Codec, producer: ProducerState) -> Batch {
        let headers =
            encode_headers(&[("trace".to_owned(), b"abc".to_vec()), ("empty".to_owned(), Vec::new())]);
        let none = encode_headers(&[]);
        let mut batch = Batch::default();
        for i in 0..300_u64 {
            let value = vec![b'v'; i as usize];
            batch.append(&Record {
                key: (i % 2 == 0).then_some(b"key".as_slice()),
                value: [&i.to_be_bytes(), &value],
                headers: if i % 3 == 0 { &headers } else { &none },
                timestamp_ms: 1_700_000_000_000 + i64::try_from(i).unwrap_or(0),
                due_nanos: i / 100,
            });
        }
        batch.seal(codec, producer).expect("a batch that can be sealed");
        batch
    }

    #[test]
    fn a_batch_is_what_the_protocol_crate_reads() {
        for codec in [Codec::None, Codec::Gzip, Codec::Snappy, Codec::Lz4, Codec::Zstd] {
            let is_transactional = codec != Codec::Gzip;
            let state = ProducerState { id: 7, epoch: 2, base_sequence: 11, is_transactional };
            let batch = build(codec, state);
            let mut bytes = Bytes::copy_from_slice(batch.bytes());
            let decoded =
                RecordBatchDecoder::decode(&mut bytes).expect("a batch that can be decoded").records;
            assert_eq!(decoded.len(), 300, "{codec:?}");
            for (i, record) in decoded.iter().enumerate() {
                assert_eq!(record.offset, i as i64);
                assert_eq!(record.sequence, 11 + i as i32);
                assert_eq!((record.producer_id, record.producer_epoch), (7, 2));
                assert_eq!(record.transactional, is_transactional);
                assert_eq!(record.timestamp, 1_700_000_000_000 + i as i64);
                assert_eq!(record.key.is_some(), i % 2 == 0);
                assert_eq!(record.value.as_ref().map(|value| value.len()), Some(8 + i));
                assert_eq!(record.headers.len(), if i % 3 == 0 { 2 } else { 0 });
            }
            assert_eq!(batch.due(), [(0, 100), (1, 100), (2, 100)]);
        }
    }

    #[test]
    fn a_batch_is_walked_as_it_was_built() {
        for codec in [Codec::None, Codec::Gzip, Codec::Snappy, Codec::Lz4, Codec::Zstd] {
            let mut two = build(codec, NO_PRODUCER).bytes().to_vec();
            two.extend_from_within(..);
            let cut = &two[..two.len() - 1];
            assert_eq!(batches(cut).count(), 1, "a cut batch is left out");
            let mut seen = 0;
            for batch in batches(&two) {
                assert!(batch.is_crc_right() && !batch.is_control());
                assert_eq!((batch.base_offset(), batch.next_offset(), batch.count()), (0, 300, 300));
                batch
                    .records(|offset, value| {
                        assert_eq!(value[..8], offset.to_be_bytes());
                        assert_eq!(value.len() as i64, 8 + offset);
                        seen += 1;
                    })
                    .expect("records that can be walked");
            }
            assert_eq!(seen, 600, "{codec:?}");
        }
    }

    #[test]
    fn broken_records_are_an_error_and_nothing_worse() {
        let whole = build(Codec::None, NO_PRODUCER).bytes().to_vec();
        for at in HEADER_BYTES..HEADER_BYTES + 40 {
            let mut broken = whole.clone();
            broken[at] ^= 0xff;
            for batch in batches(&broken) {
                assert!(!batch.is_crc_right());
                let _ = batch.records(|_, _| {});
            }
        }
        assert_eq!(batches(&[0xff; 70]).count(), 0);
        assert_eq!(batches(&[0; 70]).count(), 0);
    }
}

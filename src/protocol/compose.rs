//! What a client does with records, and the broker with those of its metadata: a batch made of new ones; and a record's
//! headers read.

use bytes::Bytes;

use super::batch::{Codec, HEADER_BYTES, MAGIC, rewrite_crc};
use super::compression::compress;
use super::wire::{put_varlong, take_varint};

/// Name and value.
pub type Header<'a> = (&'a [u8], Option<&'a [u8]>);

/// A record that has no offset yet.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct NewRecord {
    /// Milliseconds since 1970.
    pub timestamp: i64,
    pub key: Option<Bytes>,
    pub value: Option<Bytes>,
    /// Names may repeat.
    pub headers: Vec<(Bytes, Option<Bytes>)>,
}

impl NewRecord {
    /// Key, value and headers.
    #[must_use]
    pub fn payload_bytes(&self) -> usize {
        let length = |bytes: &Option<Bytes>| bytes.as_ref().map_or(0, Bytes::len);
        let headers = self.headers.iter().map(|(name, value)| name.len() + length(value));
        length(&self.key) + length(&self.value) + headers.sum::<usize>()
    }
}

/// A batch without a producer id, as a client sends it. `None`: there is no record, or more than a batch can hold.
#[must_use]
pub fn compose(records: &[NewRecord], codec: Codec) -> Option<Vec<u8>> {
    let count = i32::try_from(records.len()).ok()?;
    let base = records.first()?.timestamp;
    let max = records.iter().map(|record| record.timestamp).max()?;
    let mut plain = Vec::new();
    let mut body = Vec::new();
    for (delta, record) in (0..).zip(records) {
        body.clear();
        body.push(0); // attributes
        put_varlong(&mut body, record.timestamp.wrapping_sub(base));
        put_varlong(&mut body, delta);
        put_nullable(&mut body, record.key.as_deref());
        put_nullable(&mut body, record.value.as_deref());
        put_varlong(&mut body, record.headers.len() as i64);
        for (name, value) in &record.headers {
            put_nullable(&mut body, Some(name));
            put_nullable(&mut body, value.as_deref());
        }
        put_varlong(&mut plain, body.len() as i64);
        plain.extend_from_slice(&body);
    }
    let packed = compress(codec.into(), &plain)?;
    let length = i32::try_from(HEADER_BYTES - 12 + packed.len()).ok()?;
    let mut batch = Vec::with_capacity(HEADER_BYTES + packed.len());
    batch.extend_from_slice(&0_i64.to_be_bytes()); // base offset
    batch.extend_from_slice(&length.to_be_bytes());
    batch.extend_from_slice(&(-1_i32).to_be_bytes()); // leader epoch
    batch.extend_from_slice(&MAGIC.to_be_bytes());
    batch.extend_from_slice(&[0; 4]); // checksum
    batch.extend_from_slice(&(codec as i16).to_be_bytes()); // attributes
    batch.extend_from_slice(&(count - 1).to_be_bytes());
    batch.extend_from_slice(&base.to_be_bytes());
    batch.extend_from_slice(&max.to_be_bytes());
    batch.extend_from_slice(&(-1_i64).to_be_bytes()); // producer id, its epoch, sequence
    batch.extend_from_slice(&(-1_i16).to_be_bytes());
    batch.extend_from_slice(&(-1_i32).to_be_bytes());
    batch.extend_from_slice(&count.to_be_bytes());
    assert!(batch.len() == HEADER_BYTES, "the header has its size");
    batch.extend_from_slice(&packed);
    rewrite_crc(&mut batch);
    Some(batch)
}

fn put_nullable(out: &mut Vec<u8>, bytes: Option<&[u8]>) {
    put_varlong(out, bytes.map_or(-1, |bytes| bytes.len() as i64));
    out.extend_from_slice(bytes.unwrap_or_default());
}

/// A record's headers, from the bytes and the count that [`Record`](super::records::Record) tells. `None`: the bytes
/// are something else.
#[must_use]
pub fn headers(mut bytes: &[u8], count: u32) -> Option<Vec<Header<'_>>> {
    let mut headers = Vec::new();
    for _ in 0..count {
        let name = take_nullable(&mut bytes)??;
        headers.push((name, take_nullable(&mut bytes)?));
    }
    bytes.is_empty().then_some(headers)
}

fn take_nullable<'a>(bytes: &mut &'a [u8]) -> Option<Option<&'a [u8]>> {
    let length = take_varint(bytes)?;
    if length == -1 {
        return Some(None);
    }
    let (taken, rest) = bytes.split_at_checked(usize::try_from(length).ok()?)?;
    *bytes = rest;
    Some(Some(taken))
}

#[cfg(test)]
mod tests {
    use kafka_protocol::records::RecordBatchDecoder;

    use super::*;
    use crate::protocol::batch::{BatchHeader, crc_matches};
    use crate::protocol::compression::decompress;
    use crate::protocol::records::{Records, walk};

    fn records() -> Vec<NewRecord> {
        let bytes = |text: &'static str| Some(Bytes::from_static(text.as_bytes()));
        let header = |name: &'static str, value| (Bytes::from_static(name.as_bytes()), value);
        vec![
            NewRecord { timestamp: 5_000, key: bytes("k"), value: bytes("v"), headers: Vec::new() },
            NewRecord {
                timestamp: 4_000,
                key: None,
                value: bytes(""),
                headers: vec![header("a", bytes("1"))],
            },
            NewRecord {
                timestamp: 9_000,
                key: bytes(""),
                value: None,
                headers: vec![header("b", None), header("b", bytes("2")), header("", bytes(""))],
            },
        ]
    }

    #[test]
    fn what_is_composed_is_read_back() {
        let written = records();
        for codec in [Codec::None, Codec::Gzip, Codec::Snappy, Codec::Lz4, Codec::Zstd] {
            let batch = compose(&written, codec).unwrap();
            assert!(crc_matches(&batch), "{codec:?}");
            let header = BatchHeader::parse(&batch).unwrap();
            assert_eq!((header.total_bytes, header.codec()), (batch.len(), Some(codec)));
            assert_eq!((header.base_timestamp.0, header.max_timestamp.0), (5_000, 9_000));
            assert!(!header.is_idempotent());
            let plain = decompress(codec, &batch[HEADER_BYTES..], 1 << 20).unwrap();
            walk(&header, &plain).unwrap();
            let read: Vec<NewRecord> = Records::new(&header, &plain)
                .map(|record| {
                    let record = record.unwrap();
                    let bytes = |range: &std::ops::Range<usize>| plain.slice(range.clone());
                    let own = Bytes::copy_from_slice;
                    let found = headers(&plain[record.headers.clone()], record.header_count).unwrap();
                    NewRecord {
                        timestamp: record.timestamp(&header).0,
                        key: record.key.as_ref().map(bytes),
                        value: record.value.as_ref().map(bytes),
                        headers: found.into_iter().map(|(name, value)| (own(name), value.map(own))).collect(),
                    }
                })
                .collect();
            assert_eq!(read, written, "{codec:?}");
        }
        assert_eq!(compose(&[], Codec::None), None);
    }

    /// The crate's own decoder is the second opinion.
    #[test]
    fn others_read_it_too() {
        let written = records();
        let batch = compose(&written, Codec::Zstd).unwrap();
        let sets = RecordBatchDecoder::decode_all(&mut Bytes::from(batch)).unwrap();
        let read: Vec<_> = sets.into_iter().flat_map(|set| set.records).collect();
        assert_eq!(read.len(), written.len());
        for (read, written) in read.iter().zip(&written) {
            assert_eq!(
                (read.timestamp, &read.key, &read.value),
                (written.timestamp, &written.key, &written.value)
            );
        }
    }

    #[test]
    fn headers_that_are_cut_short_are_none() {
        let bytes = [2, b'a', 2, b'1'];
        assert_eq!(headers(&bytes, 1), Some(vec![(&b"a"[..], Some(&b"1"[..]))]));
        for (bytes, count) in [(&bytes[..3], 1), (&bytes[..], 2), (&bytes[..], 0), (&[1, 0][..], 1)] {
            assert_eq!(headers(bytes, count), None, "{bytes:?}");
        }
    }
}

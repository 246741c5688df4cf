//! The records behind a batch header, walked in place: framing, deltas, timestamps, where key and value lie.
//!
//! One record: length varint | attributes i8 | timestamp delta varlong | offset delta varint |
//! key length varint, key | value length varint, value | header count varint | per header: key length varint, key,
//! value length varint, value. A length of -1 is null (not for a header's key); every varint is zigzag. The
//! record's length counts what follows it and must be used up exactly.
//!
//! Everything here works on uncompressed records.

use std::ops::Range;

use super::batch::{BatchHeader, Error, TimestampType};
use super::wire::{put_varlong, take_varint, take_varlong};
use crate::model::TimestampMs;

/// What a walk over the records of a batch found.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Walk {
    /// The least and greatest timestamp of a record, by the deltas (whatever the timestamp type).
    pub min_timestamp: TimestampMs,
    pub max_timestamp: TimestampMs,
    /// A record without a key cannot go into a compacted topic.
    pub all_have_keys: bool,
}

/// Checks the framing of all records of a producer's batch: the lengths add up, offset deltas are 0, 1, 2 …, and
/// there are as many as the header counts.
///
/// `records` is what follows the 61 bytes, uncompressed. No allocation; a few nanoseconds a record.
pub fn walk(header: &BatchHeader, records: &[u8]) -> Result<Walk, Error> {
    let mut rest = records;
    let (mut min_delta, mut max_delta) = (i64::MAX, i64::MIN);
    let mut all_have_keys = true;
    // the smallest record is seven bytes: a count that cannot be is refused before the first is looked at
    let count = usize::try_from(header.record_count).map_err(|_| Error::RecordCount)?;
    if count > records.len() / RECORD_BYTES_MIN {
        return Err(Error::RecordCount);
    }
    for index in 0..header.record_count {
        let mut record = take_record(&mut rest).ok_or(Error::RecordFraming)?;
        let fields = take_fields(&mut record).ok_or(Error::RecordFraming)?;
        if fields.offset_delta != index {
            return Err(Error::OffsetDelta { index });
        }
        min_delta = min_delta.min(fields.timestamp_delta);
        max_delta = max_delta.max(fields.timestamp_delta);
        all_have_keys &= skip_nullable(&mut record).ok_or(Error::RecordFraming)?;
        skip_nullable(&mut record).ok_or(Error::RecordFraming)?;
        skip_headers(&mut record).ok_or(Error::RecordFraming)?;
        if !record.is_empty() {
            return Err(Error::RecordFraming);
        }
    }
    if !rest.is_empty() {
        return Err(Error::RecordCount);
    }
    if count == 0 {
        (min_delta, max_delta) = (0, 0);
    }
    Ok(Walk {
        min_timestamp: TimestampMs(header.base_timestamp.0.saturating_add(min_delta)),
        max_timestamp: TimestampMs(header.base_timestamp.0.saturating_add(max_delta)),
        all_have_keys,
    })
}

/// Length, attributes, two deltas, null key, null value, no headers: a byte each.
const RECORD_BYTES_MIN: usize = 7;

/// One record. The ranges are places in the slice given to [`Records::new`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Record {
    /// The whole record, its length in front included.
    pub span: Range<usize>,
    pub offset_delta: i32,
    pub timestamp_delta: i64,
    pub key: Option<Range<usize>>,
    pub value: Option<Range<usize>>,
    pub header_count: u32,
    /// All headers, from the first header's key length to the end of the record.
    pub headers: Range<usize>,
}

impl Record {
    /// The record's time, as a client sees it.
    #[must_use]
    pub fn timestamp(&self, batch: &BatchHeader) -> TimestampMs {
        match batch.timestamp_type() {
            TimestampType::LogAppendTime => batch.max_timestamp,
            TimestampType::CreateTime => {
                TimestampMs(batch.base_timestamp.0.saturating_add(self.timestamp_delta))
            }
        }
    }
}

/// The records of one batch in their order, uncompressed. Ends after the first error.
///
/// Offset deltas are given as they are: compaction leaves gaps.
#[derive(Clone, Debug)]
pub struct Records<'a> {
    records: &'a [u8],
    rest: &'a [u8],
    left: i32,
}

impl<'a> Records<'a> {
    /// `records` is what follows the 61 bytes, uncompressed; of it, the `header.record_count` first are given.
    #[must_use]
    pub fn new(header: &BatchHeader, records: &'a [u8]) -> Records<'a> {
        Records { records, rest: records, left: header.record_count }
    }

    fn take(&mut self) -> Option<Record> {
        let start = self.records.len() - self.rest.len();
        let mut record = take_record(&mut self.rest)?;
        let end = self.records.len() - self.rest.len();
        let fields = take_fields(&mut record)?;
        let key = self.take_nullable(&mut record, end)?;
        let value = self.take_nullable(&mut record, end)?;
        let before_headers = record;
        let header_count = skip_headers(&mut record)?;
        if !record.is_empty() {
            return None;
        }
        let mut headers = before_headers;
        take_varint(&mut headers)?;
        Some(Record {
            span: start..end,
            offset_delta: fields.offset_delta,
            timestamp_delta: fields.timestamp_delta,
            key,
            value,
            header_count,
            headers: end - headers.len()..end,
        })
    }

    /// `record` is the rest of a record that ends at `end`.
    fn take_nullable(&self, record: &mut &[u8], end: usize) -> Option<Option<Range<usize>>> {
        let length = take_varint(record)?;
        if length == -1 {
            return Some(None);
        }
        let start = end - record.len();
        let length = usize::try_from(length).ok()?;
        *record = record.get(length..)?;
        Some(Some(start..start + length))
    }
}

impl Iterator for Records<'_> {
    type Item = Result<Record, Error>;

    fn next(&mut self) -> Option<Self::Item> {
        if self.left <= 0 {
            return None;
        }
        self.left -= 1;
        let record = self.take();
        if record.is_none() {
            self.left = 0;
        }
        Some(record.ok_or(Error::RecordFraming))
    }
}

/// Appends a record to `out` with another timestamp delta and everything else as it is. `record` is the
/// [span](Record::span) of one that was read; `None`, and nothing appended, if it is not one.
pub fn put_with_timestamp_delta(record: &[u8], delta: i64, out: &mut Vec<u8>) -> Option<()> {
    let mut rest = record;
    let mut body = take_record(&mut rest)?;
    let (&attributes, behind) = body.split_first()?;
    body = behind;
    take_varlong(&mut body)?;
    let mut head = Vec::with_capacity(11);
    head.push(attributes);
    put_varlong(&mut head, delta);
    put_varlong(out, (head.len() + body.len()) as i64);
    out.extend_from_slice(&head);
    out.extend_from_slice(body);
    Some(())
}

struct Fields {
    timestamp_delta: i64,
    offset_delta: i32,
}

/// Cuts one record, without its length, from the front of `rest`.
#[inline]
fn take_record<'a>(rest: &mut &'a [u8]) -> Option<&'a [u8]> {
    let length = usize::try_from(take_varint(rest)?).ok()?;
    let (record, behind) = rest.split_at_checked(length)?;
    *rest = behind;
    Some(record)
}

#[inline]
fn take_fields(record: &mut &[u8]) -> Option<Fields> {
    let (_attributes, behind) = record.split_first()?;
    *record = behind;
    let timestamp_delta = take_varlong(record)?;
    let offset_delta = take_varint(record)?;
    Some(Fields { timestamp_delta, offset_delta })
}

/// Skips a key or a value; says whether it is there at all.
#[inline]
fn skip_nullable(record: &mut &[u8]) -> Option<bool> {
    let length = take_varint(record)?;
    if length == -1 {
        return Some(false);
    }
    *record = record.get(usize::try_from(length).ok()?..)?;
    Some(true)
}

/// Skips the headers; says how many there are.
#[inline]
fn skip_headers(record: &mut &[u8]) -> Option<u32> {
    let count = u32::try_from(take_varint(record)?).ok()?;
    for _ in 0..count {
        if !skip_nullable(record)? {
            return None;
        }
        skip_nullable(record)?;
    }
    Some(count)
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;
    use kafka_protocol::records::Compression;

    use super::*;
    use crate::protocol::batch::{self, HEADER_BYTES};
    use crate::protocol::test_batch::{self, BASE_TIMESTAMP, Spec};

    fn parse(batch: &[u8]) -> (BatchHeader, &[u8]) {
        (BatchHeader::parse(batch).unwrap(), &batch[HEADER_BYTES..])
    }

    /// A batch of one record with these bytes, the length in front included.
    fn check_one(record: &[u8], expect: Result<Walk, Error>) {
        let mut header = BatchHeader::parse(&test_batch::encode(&Spec::default())).unwrap();
        (header.base_timestamp, header.record_count) = (TimestampMs(1000), 1);
        assert_eq!(walk(&header, record), expect, "{record:?}");
        let iterated = Records::new(&header, record).next().unwrap();
        match expect {
            Err(Error::RecordFraming) => assert_eq!(iterated, Err(Error::RecordFraming), "{record:?}"),
            _ => assert!(iterated.is_ok(), "{record:?}"),
        }
    }

    #[test]
    fn what_the_crate_encodes_is_walked_and_read() {
        for count in [1, 2, 100, 1000] {
            let spec = Spec { records: count, base_offset: 40, value_bytes: 100, ..Default::default() };
            let written = test_batch::records(&spec);
            let batch = test_batch::encode(&spec);
            let (header, bytes) = parse(&batch);
            let walked = walk(&header, bytes).unwrap();
            assert_eq!(walked.min_timestamp, TimestampMs(BASE_TIMESTAMP));
            assert_eq!(walked.max_timestamp, header.max_timestamp);
            assert!(walked.all_have_keys);

            let read: Vec<Record> = Records::new(&header, bytes).map(Result::unwrap).collect();
            assert_eq!(read.len(), written.len());
            for (index, (read, written)) in read.iter().zip(&written).enumerate() {
                assert_eq!(read.offset_delta, index as i32);
                assert_eq!(read.timestamp(&header).0, written.timestamp);
                assert_eq!(&bytes[read.key.clone().unwrap()], written.key.as_ref().unwrap());
                assert_eq!(&bytes[read.value.clone().unwrap()], written.value.as_ref().unwrap());
                assert_eq!(read.header_count, 1);
                assert_eq!(&bytes[read.headers.clone()], b"\x0atrace\x04id");
            }
            let spans: Vec<u8> =
                read.iter().flat_map(|record| &bytes[record.span.clone()]).copied().collect();
            assert_eq!(spans, bytes, "the spans are all of it");
            for delta in [0, -1, 300, i64::MIN, i64::MAX] {
                let mut moved = Vec::new();
                for record in &read {
                    put_with_timestamp_delta(&bytes[record.span.clone()], delta, &mut moved).unwrap();
                }
                for (before, after) in read.iter().zip(Records::new(&header, &moved)) {
                    let after = after.unwrap();
                    assert_eq!((after.timestamp_delta, after.offset_delta), (delta, before.offset_delta));
                    let parts = |record: &Record, bytes: &[u8]| {
                        let range = |range: &Range<usize>| bytes[range.clone()].to_vec();
                        (
                            record.key.as_ref().map(range),
                            record.value.as_ref().map(range),
                            range(&record.headers),
                        )
                    };
                    assert_eq!(parts(before, bytes), parts(&after, &moved));
                }
            }
        }
    }

    #[test]
    fn nulls_empties_and_gaps() {
        let mut records = test_batch::records(&Spec::default());
        records[0].key = None;
        records[1].value = None;
        records[2].key = Some(Bytes::new());
        records[2].headers.insert("empty".into(), None);
        let batch = test_batch::encode_records(&records, Compression::None);
        let (header, bytes) = parse(&batch);
        assert!(!walk(&header, bytes).unwrap().all_have_keys);
        let read: Vec<Record> = Records::new(&header, bytes).map(Result::unwrap).collect();
        assert_eq!((&read[0].key, &read[1].value), (&None, &None));
        assert!(read[2].key.clone().unwrap().is_empty());
        assert_eq!(read[2].header_count, 2);

        // as compaction leaves it: offsets 0 and 2
        records.remove(1);
        records[1].sequence = records[0].sequence + 2;
        let batch = test_batch::encode_records(&records, Compression::None);
        let (header, bytes) = parse(&batch);
        assert_eq!(walk(&header, bytes), Err(Error::OffsetDelta { index: 1 }));
        let deltas: Vec<i32> =
            Records::new(&header, bytes).map(|record| record.unwrap().offset_delta).collect();
        assert_eq!(deltas, [0, 2]);
    }

    #[test]
    fn log_append_time_is_every_records_time() {
        let batch = test_batch::encode(&Spec::default());
        let stamped = batch::rewritten(&batch, batch::Rewrite::LogAppendTime(TimestampMs(5)));
        let (header, bytes) = parse(&stamped);
        for record in Records::new(&header, bytes) {
            assert_eq!(record.unwrap().timestamp(&header), TimestampMs(5));
        }
    }

    #[test]
    fn framing_of_one_record() {
        let fine = |delta: i64| {
            let timestamp = TimestampMs(1000 + delta);
            Ok(Walk { min_timestamp: timestamp, max_timestamp: timestamp, all_have_keys: false })
        };
        // length 6 | attributes | timestamp delta | offset delta 0 | null key | null value | no headers
        check_one(&[12, 0, 0, 0, 1, 1, 0], fine(0));
        check_one(&[12, 0, 9, 0, 1, 1, 0], fine(-5));
        check_one(&[12, 0, 0, 2, 1, 1, 0], Err(Error::OffsetDelta { index: 0 }));
        check_one(&[12, 0, 0, 1, 1, 1, 0], Err(Error::OffsetDelta { index: 0 }));
        for bad in [
            &[14, 0, 0, 0, 1, 1, 0][..],           // ends after the bytes do
            &[14, 0, 0, 0, 1, 1, 0, 0],            // a byte too many inside
            &[10, 0, 0, 0, 1, 1, 0],               // a byte too few inside
            &[13, 0, 0, 0, 1, 1, 0],               // negative length
            &[12, 0, 0, 0, 3, 1, 0],               // key length -2
            &[12, 0, 0, 0, 4, 1, 0],               // key longer than the record
            &[12, 0, 0, 0, 1, 4, 0],               // value longer than the record
            &[12, 0, 0, 0, 1, 1, 1],               // header count -1
            &[12, 0, 0, 0, 1, 1, 2],               // one header, missing
            &[16, 0, 0, 0, 1, 1, 2, 1, 1],         // header with a null key
            &[0xff, 0xff, 0xff, 0xff, 0xff, 1, 0], // a length that does not end
            &[32, 0, 0x80, 0x80, 0x80, 0x80, 0x80, 0x80, 0x80, 0x80, 0x80, 0x80, 1, 0, 1, 1, 0], // so does a delta
            &[22, 0, 0, 0, 0xfe, 0xff, 0xff, 0xff, 0x0f, 0, 0, 0], // key of 2^31-1 bytes
        ] {
            check_one(bad, Err(Error::RecordFraming));
        }
    }

    #[test]
    fn counts_must_match() {
        let batch = test_batch::encode(&Spec::default());
        let (header, bytes) = parse(&batch);
        for (count, expect) in [
            (2, Err(Error::RecordCount)),
            (4, Err(Error::RecordFraming)),
            (0, Err(Error::RecordCount)),
            (-1, Err(Error::RecordCount)),
            (i32::MAX, Err(Error::RecordCount)),
        ] {
            let header = BatchHeader { record_count: count, ..header };
            assert_eq!(walk(&header, bytes), expect, "{count}");
        }
        // an empty batch keeps a producer's sequence after compaction; its walk has nothing to say
        let empty = walk(&BatchHeader { record_count: 0, ..header }, &[]).unwrap();
        assert_eq!(empty.max_timestamp, header.base_timestamp);
    }

    #[test]
    fn times_at_the_ends_of_their_range_do_not_overflow() {
        let mut header = BatchHeader::parse(&test_batch::encode(&Spec::default())).unwrap();
        (header.base_timestamp, header.record_count) = (TimestampMs(i64::MAX), 1);
        let record = [12, 0, 2, 0, 1, 1, 0];
        assert_eq!(walk(&header, &record).unwrap().max_timestamp, TimestampMs(i64::MAX));
        let read = Records::new(&header, &record).next().unwrap().unwrap();
        assert_eq!(read.timestamp(&header), TimestampMs(i64::MAX));
    }
}

//! Control batches: what ends a transaction, and what that does to producers and to the transaction index when batches
//! are read again.
//!
//! One record: key i16 version, i16 type (0 abort, 1 commit, others are no end of a transaction); value i16 version, i32
//! coordinator epoch. Source: Kafka's `EndTransactionMarker`, `ControlRecordType`, `LogSegment.updateProducerState`.

use bytes::Bytes;

use super::producer_state::{EndTxn, Marker, NewMarker, ProducerStates};
use super::txn_index::AbortedTxn;
use crate::model::{Offset, TimestampMs};
use crate::protocol::batch::{BatchHeader, Codec, put_in_transaction};
use crate::protocol::compose::{NewRecord, compose};
use crate::protocol::records::Records;

/// A control batch that ends a transaction is shorter; what is longer is none.
pub const BYTES_MAX: usize = 512;

/// What the record says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct EndMarker {
    pub end: EndTxn,
    pub coordinator_epoch: i32,
}

/// The control batch that ends a transaction, byte for byte Kafka's: transactional, one record, no sequence. It has no
/// offset yet.
#[must_use]
pub fn marker_batch(marker: &NewMarker, now: TimestampMs) -> (Bytes, BatchHeader) {
    const VERSION: [u8; 2] = [0, 0];
    let kind = u8::from(marker.end == EndTxn::Commit);
    let key = [VERSION, [0, kind]].concat();
    let value = [&VERSION[..], &marker.coordinator_epoch.to_be_bytes()].concat();
    let record = NewRecord {
        timestamp: now.0,
        key: Some(Bytes::from(key)),
        value: Some(Bytes::from(value)),
        headers: Vec::new(),
    };
    let mut batch = compose(&[record], Codec::None).expect("one small record fits into a batch");
    put_in_transaction(&mut batch, marker.producer_id, marker.producer_epoch, true);
    let header = BatchHeader::parse(&batch).expect("it was made just now");
    (Bytes::from(batch), header)
}

/// Reads what follows the header of a control batch. `None`: it ends no transaction, or cannot be read.
#[must_use]
pub fn end_marker(header: &BatchHeader, records: &[u8]) -> Option<EndMarker> {
    if !header.is_control() || header.codec() != Some(Codec::None) {
        return None;
    }
    let record = Records::new(header, records).next()?.ok()?;
    let (key, value) = (&records[record.key?], &records[record.value?]);
    let (&[version_high, _, type_high, kind], &[value_version_high, _, a, b, c, d]) =
        (key.first_chunk::<4>()?, value.first_chunk::<6>()?);
    let is_known = version_high < 0x80 && value_version_high < 0x80 && type_high == 0;
    let end = match kind {
        0 if is_known => EndTxn::Abort,
        1 if is_known => EndTxn::Commit,
        _ => return None,
    };
    Some(EndMarker { end, coordinator_epoch: i32::from_be_bytes([a, b, c, d]) })
}

/// Takes a batch that is read again into the producers' state. Gives the transaction that it aborts, as the transaction
/// index of its segment has it. Batches come in order; `marker` is what [`end_marker`] says of this one.
pub fn replay(
    producers: &mut ProducerStates,
    header: &BatchHeader,
    marker: Option<EndMarker>,
) -> Option<AbortedTxn> {
    if !header.is_control() {
        producers.apply(header, header.base_offset);
        return None;
    }
    if !header.is_idempotent() {
        return None;
    }
    let EndMarker { end, coordinator_epoch } = marker?;
    let completed = producers.apply_marker(Marker {
        producer_id: header.producer_id,
        producer_epoch: header.producer_epoch,
        coordinator_epoch,
        end,
        offset: header.last_offset(),
        timestamp: header.max_timestamp,
    })?;
    (completed.end == EndTxn::Abort).then(|| AbortedTxn {
        producer_id: completed.producer_id,
        first_offset: completed.first_offset,
        last_offset: completed.last_offset,
        last_stable_offset: last_stable(producers, completed.last_offset),
    })
}

/// Where the oldest transaction begins that is still open behind the marker, else the offset behind the marker.
fn last_stable(producers: &ProducerStates, marker: Offset) -> Offset {
    producers.first_undecided().unwrap_or(Offset(marker.0.saturating_add(1)))
}

#[cfg(test)]
pub(crate) mod testing {
    use super::{BatchHeader, EndTxn};
    use crate::protocol::batch::{HEADER_BYTES, rewrite_crc};

    /// A batch of a transaction, as it is on disk: with `end` the marker that ends it, of coordinator epoch 5, else one
    /// record.
    pub(crate) fn batch(producer: i64, epoch: i16, end: Option<EndTxn>, base_offset: i64) -> Vec<u8> {
        let mut bytes = vec![0; HEADER_BYTES];
        match end {
            // length, attributes, two deltas, no key, value, no headers
            None => bytes.extend_from_slice(&[16, 0, 0, 0, 1, 4, b'o', b'k', 0]),
            // the same with a key (version, type) and a value (version, coordinator epoch)
            Some(end) => {
                let kind = u8::from(end == EndTxn::Commit);
                bytes.extend_from_slice(&[32, 0, 0, 0, 8, 0, 0, 0, kind, 12, 0, 0, 0, 0, 0, 5, 0]);
            }
        }
        let length = (bytes.len() - 12) as i32;
        let mut put = |at: usize, field: &[u8]| bytes[at..at + field.len()].copy_from_slice(field);
        put(0, &base_offset.to_be_bytes());
        put(8, &length.to_be_bytes());
        put(16, &[2]);
        put(22, &[if end.is_some() { 0x30 } else { 0x10 }]);
        put(27, &1_000_i64.to_be_bytes());
        put(35, &1_000_i64.to_be_bytes());
        put(43, &producer.to_be_bytes());
        put(51, &epoch.to_be_bytes());
        put(53, &if end.is_some() { -1_i32 } else { 0 }.to_be_bytes());
        put(57, &1_i32.to_be_bytes());
        rewrite_crc(&mut bytes);
        assert_eq!(BatchHeader::parse(&bytes).map(|header| header.total_bytes), Ok(bytes.len()));
        bytes
    }
}

#[cfg(test)]
mod tests {
    use super::testing::batch as control_batch;
    use super::*;
    use crate::log::recovery::{Offsets, Scanner, Start};
    use crate::log::txn_index::TxnIndex;
    use crate::model::{LeaderEpoch, ProducerEpoch, ProducerId};
    use crate::protocol::batch::{HEADER_BYTES, rewrite_crc};

    fn aborted(producer: i64, first: i64, last: i64, stable: i64) -> AbortedTxn {
        AbortedTxn {
            producer_id: ProducerId(producer),
            first_offset: Offset(first),
            last_offset: Offset(last),
            last_stable_offset: Offset(stable),
        }
    }

    #[test]
    fn markers_are_read_and_nothing_else() {
        let read = |change: &dyn Fn(&mut Vec<u8>)| {
            let mut batch = control_batch(7, 2, Some(EndTxn::Abort), 10);
            change(&mut batch);
            let header = BatchHeader::parse(&batch).unwrap();
            end_marker(&header, &batch[HEADER_BYTES..])
        };
        let abort = Some(EndMarker { end: EndTxn::Abort, coordinator_epoch: 5 });
        assert_eq!(read(&|_| {}), abort);
        let commit = control_batch(7, 2, Some(EndTxn::Commit), 10);
        let header = BatchHeader::parse(&commit).unwrap();
        let commit = end_marker(&header, &commit[HEADER_BYTES..]);
        assert_eq!(commit, Some(EndMarker { end: EndTxn::Commit, coordinator_epoch: 5 }));
        // length 1, attributes 1, deltas 1 + 1, key length 1: the key is at 5
        let key = HEADER_BYTES + 5;
        assert_eq!(read(&|batch| batch[key + 3] = 2), None, "a leader change");
        assert_eq!(read(&|batch| batch[key + 2] = 1), None);
        assert_eq!(read(&|batch| batch[key] = 0x80), None, "a negative version");
        assert_eq!(read(&|batch| batch[22] &= !0x20), None, "no control batch");
        assert_eq!(read(&|batch| batch[22] |= 1), None, "compressed");
        for length in HEADER_BYTES..control_batch(7, 2, Some(EndTxn::Abort), 10).len() {
            assert_eq!(read(&|batch| batch.truncate(length)), None, "cut at {length}");
        }
    }

    /// Batches from a scan, whatever the chunks, give the index that Kafka would have.
    #[test]
    fn aborts_are_found_again_from_the_batches() {
        let mut bytes = Vec::new();
        // two transactions beside each other, one of which is aborted first, one that commits, one that goes on, and a
        // marker of a producer that has written nothing here
        for (producer, end) in [
            (1, None),
            (2, None),
            (1, None),
            (2, Some(EndTxn::Abort)),
            (3, None),
            (1, Some(EndTxn::Abort)),
            (3, Some(EndTxn::Commit)),
            (4, Some(EndTxn::Abort)),
            (1, None),
            (5, None),
            (1, Some(EndTxn::Abort)),
        ] {
            let offset = bytes.len() as i64;
            let batch = control_batch(producer, 0, end, offset);
            // dense offsets are not asked for: each batch begins at its place in the bytes
            bytes.extend_from_slice(&batch);
        }
        let places: Vec<i64> = {
            let mut places = Vec::new();
            let mut at = 0;
            while at < bytes.len() {
                places.push(at as i64);
                at += BatchHeader::parse(&bytes[at..]).unwrap().total_bytes;
            }
            places
        };
        let expect = [
            aborted(2, places[1], places[3], places[0]),
            aborted(1, places[0], places[5], places[4]),
            aborted(1, places[8], places[10], places[9]),
        ];
        for chunk in [1, 60, 100, bytes.len()] {
            let mut producers = ProducerStates::default();
            let mut index = TxnIndex::default();
            let mut scanner = Scanner::new(Start {
                base_offset: Offset::ZERO,
                position: 0,
                next_offset: Offset::ZERO,
                last_epoch: LeaderEpoch::NONE,
                offsets: Offsets::Gaps,
                max_batch_bytes: 1 << 20,
            });
            for chunk in bytes.chunks(chunk) {
                scanner.feed_with_markers(chunk, &mut |header, _, marker| {
                    if let Some(aborted) = replay(&mut producers, header, marker) {
                        assert!(index.append(aborted));
                    }
                });
            }
            assert_eq!(index.entries(), expect, "chunks of {chunk}");
            assert_eq!(producers.first_undecided(), Some(Offset(places[9])));
        }
    }

    #[test]
    fn a_marker_is_made_as_kafka_makes_it() {
        for end in [EndTxn::Abort, EndTxn::Commit] {
            let marker = NewMarker {
                producer_id: ProducerId(7),
                producer_epoch: ProducerEpoch(2),
                coordinator_epoch: 5,
                end,
                transaction_version: 2,
            };
            let (batch, header) = marker_batch(&marker, TimestampMs(1_000));
            let mut expect = control_batch(7, 2, Some(end), 0);
            expect[12..16].copy_from_slice(&(-1_i32).to_be_bytes()); // no leader epoch yet
            assert_eq!(batch[..], expect[..], "{end:?}");
            let read = end_marker(&header, &batch[HEADER_BYTES..]);
            assert_eq!(read, Some(EndMarker { end, coordinator_epoch: 5 }));
        }
    }

    #[test]
    fn a_control_batch_of_any_length_is_scanned() {
        let mut batch = control_batch(1, 0, Some(EndTxn::Abort), 0);
        batch.resize(BYTES_MAX + 1, 0);
        let length = (batch.len() - 12) as i32;
        batch[8..12].copy_from_slice(&length.to_be_bytes());
        rewrite_crc(&mut batch);
        let mut seen = Vec::new();
        let start = Start {
            base_offset: Offset::ZERO,
            position: 0,
            next_offset: Offset::ZERO,
            last_epoch: LeaderEpoch::NONE,
            offsets: Offsets::Dense,
            max_batch_bytes: 1 << 20,
        };
        Scanner::new(start).feed_with_markers(&batch, &mut |_, _, marker| seen.push(marker));
        assert_eq!(seen, [None], "it is too long to be one");
    }
}

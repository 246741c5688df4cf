//! Batches whose records must be had to check them, or to store them in another codec: Kafka's `LogValidator`, where it
//! cannot assign offsets in place.
//!
//! What stays: offsets, producer, sequence, attributes but the codec, base timestamp, and every record byte for byte.
//! The levels of compression.type say how batches of another codec are compressed; one that has the topic's codec
//! already is not touched.

use std::borrow::Cow;

use bytes::Bytes;

use super::{Checked, Rejection, Rules, check_fits_segment, check_records};
use crate::model::TimestampMs;
use crate::protocol::batch::{self, BatchHeader, Codec, HEADER_BYTES, repacked};
use crate::protocol::compression::{self, Packing};

/// Checks the records of a batch that [`check`](super::check) has passed and whose rules look inside; the batch as it
/// is to be stored, and its header. `bytes_max` bounds the records when they are decompressed. It takes long: not for
/// the shard's thread, unless `batch` and `bytes_max` are small.
///
/// # Errors
/// Records that cannot be read or are more than that; the first check of the records that fails; a batch that has
/// become larger than max.message.bytes or segment.bytes.
pub fn open(
    checked: &Checked,
    batch: &Bytes,
    rules: &Rules,
    now: TimestampMs,
    bytes_max: usize,
) -> Result<(Bytes, BatchHeader), Rejection> {
    let Checked { header, .. } = checked;
    let codec = header.codec().ok_or(Rejection::UnknownCodec)?;
    let packing = rules.repacks(codec);
    // nothing is gained by decompressing what is refused then
    let bytes_max =
        if packing == Some(Packing::None) { bytes_max.min(rules.max_message_bytes) } else { bytes_max };
    let sent = batch.get(HEADER_BYTES..).unwrap_or_default();
    let (records, rewrite) = match codec {
        Codec::None => (Cow::Borrowed(sent), checked.rewrite),
        _ => {
            let records = compression::decompress(codec, sent, bytes_max).map_err(Rejection::Records)?;
            let rewrite = check_records(header, &records, rules, now)?;
            (Cow::Owned(records.into()), rewrite)
        }
    };
    let Some(packing) = packing else {
        return Ok(Checked { header: *header, rewrite }.stored(batch));
    };
    let packed = compression::compress(packing, &records).ok_or(Rejection::CannotCompress)?;
    drop(records);
    let bytes = HEADER_BYTES + packed.len();
    let stored = (bytes <= rules.max_message_bytes)
        .then(|| repacked(batch, packing.codec(), rewrite, &packed))
        .flatten()
        .ok_or(Rejection::TooLarge { bytes, max: rules.max_message_bytes })?;
    let header = BatchHeader::parse(&stored).map_err(|_: batch::Error| Rejection::CannotCompress)?;
    check_fits_segment(&header, rules)?;
    Ok((stored, header))
}

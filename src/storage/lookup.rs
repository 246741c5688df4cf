//! Offsets by time: through the time index to a batch, through the batch to the record.

use std::rc::Rc;

use bytes::Bytes;

use super::indexes;
use super::read::{self, Request};
use super::segment::Segment;
use super::state::LogState;
use super::{Error, Slices};
use crate::log::time_index::TimestampOffset;
use crate::model::{LeaderEpoch, Offset, TimestampMs};
use crate::protocol::batch::{BatchHeader, Batches, Codec, HEADER_BYTES, TimestampType};
use crate::protocol::compression;
use crate::protocol::records::Records;
use crate::reactor;

/// Timestamp, offset and leader epoch of a record.
pub type FoundRecord = (TimestampMs, Offset, LeaderEpoch);

/// A compressed batch that holds more answers as a whole.
const DECOMPRESSED_BYTES_MAX: usize = 64 << 20;

/// One read on the way.
const STEP_BYTES: usize = 256 << 10;

/// See [`Log::find_timestamp`](super::Log::find_timestamp).
pub async fn first_at_or_after(
    log: &Rc<LogState>,
    target: TimestampMs,
    limit: Offset,
) -> Result<Option<FoundRecord>, Error> {
    for segment in segments_below(log, limit) {
        if indexes::latest(log, &segment).await?.timestamp < target {
            continue;
        }
        let entry = indexes::with(log, &segment, |indexes| indexes.times.lookup(target)).await?;
        let start = log.borrow().start;
        let wanted = |header: &BatchHeader, records: &[u8]| {
            if header.max_timestamp < target {
                return None;
            }
            let holds = |timestamp, offset| timestamp >= target && offset >= start && offset < limit;
            record_where(header, records, header.base_offset, holds)
        };
        let inside = |header: &BatchHeader| header.max_timestamp >= target && has_times(header);
        let found = batches(log, &segment, entry.offset, limit, inside, wanted).await?;
        if found.is_some() {
            return Ok(found);
        }
    }
    Ok(None)
}

/// See [`Log::find_max_timestamp`](super::Log::find_max_timestamp).
pub async fn latest(log: &Rc<LogState>, limit: Offset) -> Result<Option<FoundRecord>, Error> {
    let mut best: Option<(TimestampMs, Rc<Segment>, Offset)> = None;
    let start = log.borrow().start;
    for segment in segments_below(log, limit) {
        let mut entry = indexes::latest(log, &segment).await?;
        let begins_inside = segment.base < start;
        if begins_inside {
            // what the index tells may be of a record that does not count any more
            entry = TimestampOffset { timestamp: TimestampMs::NONE, offset: start };
        }
        while entry.offset >= limit && entry.timestamp > TimestampMs::NONE {
            // it is of a batch that does not count yet: the entry before, and what lies between
            let below = TimestampMs(entry.timestamp.0 - 1);
            entry = indexes::with(log, &segment, |indexes| indexes.times.lookup(below)).await?;
        }
        let mut highest = entry;
        let straddles = |header: &BatchHeader| header.base_offset < start;
        let note = |header: &BatchHeader, records: &[u8]| {
            let timestamp = match straddles(header) {
                true => newest_from(header, records, start),
                false => header.max_timestamp,
            };
            if timestamp > highest.timestamp && header.last_offset() < limit {
                highest = TimestampOffset { timestamp, offset: header.last_offset() };
            }
            None
        };
        if begins_inside || segment_end(log, &segment) > limit {
            batches(log, &segment, entry.offset, limit, straddles, note).await?;
        }
        let better = best.as_ref().is_none_or(|(timestamp, ..)| highest.timestamp > *timestamp);
        if better && highest.timestamp > TimestampMs::NONE {
            best = Some((highest.timestamp, segment, highest.offset));
        }
    }
    let Some((timestamp, segment, offset)) = best else { return Ok(None) };
    let wanted = |header: &BatchHeader, records: &[u8]| {
        if header.max_timestamp < timestamp {
            return None;
        }
        record_where(header, records, header.last_offset(), |time, offset| {
            time >= timestamp && offset >= start && offset < limit
        })
    };
    let inside = |header: &BatchHeader| header.max_timestamp >= timestamp && has_times(header);
    batches(log, &segment, offset, limit, inside, wanted).await
}

/// Exclusive end of what the segment may hold.
fn segment_end(log: &LogState, segment: &Segment) -> Offset {
    let inner = log.borrow();
    inner.segment_after(segment).map_or(inner.end, |next| next.base)
}

fn segments_below(log: &LogState, limit: Offset) -> Vec<Rc<Segment>> {
    let inner = log.borrow();
    let limit = limit.min(inner.durable_end);
    inner.segments.iter().filter(|segment| segment.base < limit).cloned().collect()
}

/// Gives `look` the segment's batches from the one that holds `from`, below `limit`, until it answers: the header
/// and the records, which are still compressed unless it `looks_inside`.
async fn batches(
    log: &Rc<LogState>,
    segment: &Segment,
    from: Offset,
    limit: Offset,
    looks_inside: impl Fn(&BatchHeader) -> bool,
    mut look: impl FnMut(&BatchHeader, &[u8]) -> Option<FoundRecord>,
) -> Result<Option<FoundRecord>, Error> {
    let limit = limit.min(segment_end(log, segment));
    let mut from = from.max(segment.base);
    loop {
        from = from.max(log.borrow().start);
        if from >= limit {
            break;
        }
        let request = Request { from, limit, max_bytes: STEP_BYTES, at_least_one: true };
        let Slices { parts, .. } = match read::read(log, request).await {
            // the start has moved past it
            Err(Error::OutOfRange) if from < log.borrow().start => continue,
            read => read?,
        };
        let before = from;
        for part in &parts {
            let mut walk = Batches::new(part);
            loop {
                let at = walk.position();
                let Some(batch) = walk.next() else { break };
                let (header, bytes) = batch.map_err(|_| Error::Corrupt)?;
                let compressed = header.codec() != Some(Codec::None) && looks_inside(&header);
                let found = if compressed {
                    let batch = part.slice(at..at + bytes.len());
                    look(&header, &decompressed(&header, batch).await)
                } else {
                    look(&header, bytes.get(HEADER_BYTES..).unwrap_or_default())
                };
                if found.is_some() {
                    return Ok(found);
                }
                from = header.next_offset();
            }
        }
        if from <= before {
            break;
        }
    }
    Ok(None)
}

/// The largest timestamp of the batch's records from `start` on.
fn newest_from(header: &BatchHeader, records: &[u8], start: Offset) -> TimestampMs {
    if !has_times(header) {
        return header.max_timestamp;
    }
    let mut newest = TimestampMs::NONE;
    for record in Records::new(header, records) {
        let Ok(record) = record else { return header.max_timestamp };
        if header.base_offset.0.saturating_add(i64::from(record.offset_delta)) >= start.0 {
            newest = newest.max(record.timestamp(header));
        }
    }
    newest
}

/// Its records have timestamps of their own.
fn has_times(header: &BatchHeader) -> bool {
    header.timestamp_type() == TimestampType::CreateTime
}

/// The records of a compressed batch; nothing if they cannot be had.
async fn decompressed(header: &BatchHeader, batch: Bytes) -> Bytes {
    let Some(codec) = header.codec() else { return Bytes::new() };
    reactor::blocking(move || {
        compression::decompress(codec, batch.get(HEADER_BYTES..).unwrap_or_default(), DECOMPRESSED_BYTES_MAX)
    })
    .await
    .unwrap_or_default()
}

/// The first record of the batch that satisfies `holds`. A batch whose records cannot be read (they are damaged, or
/// grow beyond bounds) answers as a whole: its largest timestamp, at the offset `otherwise`.
fn record_where(
    header: &BatchHeader,
    records: &[u8],
    otherwise: Offset,
    holds: impl Fn(TimestampMs, Offset) -> bool,
) -> Option<FoundRecord> {
    let whole =
        |timestamp, offset| holds(timestamp, offset).then_some((timestamp, offset, header.leader_epoch));
    if header.timestamp_type() == TimestampType::LogAppendTime {
        return whole(header.max_timestamp, header.base_offset);
    }
    for record in Records::new(header, records) {
        let Ok(record) = record else { return whole(header.max_timestamp, otherwise) };
        let offset = Offset(header.base_offset.0.saturating_add(i64::from(record.offset_delta)));
        let timestamp = record.timestamp(header);
        if holds(timestamp, offset) {
            return Some((timestamp, offset, header.leader_epoch));
        }
    }
    None
}

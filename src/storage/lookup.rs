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
use crate::protocol::records::Records;

/// Timestamp, offset and leader epoch of a record.
pub type FoundRecord = (TimestampMs, Offset, LeaderEpoch);

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
        let wanted = |header: &BatchHeader, batch: &Bytes| {
            if header.max_timestamp < target {
                return None;
            }
            let holds = |timestamp, offset| timestamp >= target && offset < limit;
            record_where(header, batch, header.base_offset, holds)
        };
        let found = batches(log, &segment, entry.offset, limit, wanted).await?;
        if found.is_some() {
            return Ok(found);
        }
    }
    Ok(None)
}

/// See [`Log::find_max_timestamp`](super::Log::find_max_timestamp).
pub async fn latest(log: &Rc<LogState>, limit: Offset) -> Result<Option<FoundRecord>, Error> {
    let mut best: Option<(TimestampMs, Rc<Segment>, Offset)> = None;
    for segment in segments_below(log, limit) {
        let mut entry = indexes::latest(log, &segment).await?;
        while entry.offset >= limit && entry.timestamp > TimestampMs::NONE {
            // it is of a batch that does not count yet: the entry before, and what lies between
            let below = TimestampMs(entry.timestamp.0 - 1);
            entry = indexes::with(log, &segment, |indexes| indexes.times.lookup(below)).await?;
        }
        let mut highest = entry;
        let note = |header: &BatchHeader, _: &Bytes| {
            if header.max_timestamp > highest.timestamp && header.last_offset() < limit {
                highest = TimestampOffset { timestamp: header.max_timestamp, offset: header.last_offset() };
            }
            None
        };
        if segment_end(log, &segment) > limit {
            batches(log, &segment, entry.offset, limit, note).await?;
        }
        let better = best.as_ref().is_none_or(|(timestamp, ..)| highest.timestamp > *timestamp);
        if better && highest.timestamp > TimestampMs::NONE {
            best = Some((highest.timestamp, segment, highest.offset));
        }
    }
    let Some((timestamp, segment, offset)) = best else { return Ok(None) };
    let wanted = |header: &BatchHeader, batch: &Bytes| {
        if header.max_timestamp < timestamp {
            return None;
        }
        record_where(header, batch, header.last_offset(), |time, offset| time >= timestamp && offset < limit)
    };
    batches(log, &segment, offset, limit, wanted).await
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

/// Gives `look` the segment's batches from the one that holds `from`, below `limit`, until it answers.
async fn batches(
    log: &Rc<LogState>,
    segment: &Segment,
    from: Offset,
    limit: Offset,
    mut look: impl FnMut(&BatchHeader, &Bytes) -> Option<FoundRecord>,
) -> Result<Option<FoundRecord>, Error> {
    let limit = limit.min(segment_end(log, segment));
    let mut from = from.max(segment.base).max(log.borrow().start);
    while from < limit {
        let request = Request { from, limit, max_bytes: STEP_BYTES, at_least_one: true };
        let Slices { parts, .. } = read::read(log, request).await?;
        let before = from;
        for part in &parts {
            let mut walk = Batches::new(part);
            loop {
                let at = walk.position();
                let Some(batch) = walk.next() else { break };
                let (header, bytes) = batch.map_err(|_| Error::Corrupt)?;
                if let Some(found) = look(&header, &part.slice(at..at + bytes.len())) {
                    return Ok(Some(found));
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

/// The first record of the batch that satisfies `holds`. A batch whose records cannot be read here (they are
/// compressed) answers as a whole: its largest timestamp, at the offset `otherwise`.
fn record_where(
    header: &BatchHeader,
    batch: &Bytes,
    otherwise: Offset,
    holds: impl Fn(TimestampMs, Offset) -> bool,
) -> Option<FoundRecord> {
    let whole =
        |timestamp, offset| holds(timestamp, offset).then_some((timestamp, offset, header.leader_epoch));
    if header.timestamp_type() == TimestampType::LogAppendTime {
        return whole(header.max_timestamp, header.base_offset);
    }
    if header.codec() != Some(Codec::None) {
        return whole(header.max_timestamp, otherwise);
    }
    for record in Records::new(header, batch.get(HEADER_BYTES..).unwrap_or_default()) {
        let Ok(record) = record else { return whole(header.max_timestamp, otherwise) };
        let offset = Offset(header.base_offset.0.saturating_add(i64::from(record.offset_delta)));
        let timestamp = record.timestamp(header);
        if holds(timestamp, offset) {
            return Some((timestamp, offset, header.leader_epoch));
        }
    }
    None
}

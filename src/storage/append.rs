//! Fixing a batch's place: a plain function, so that the order of calls is the order in the log.

use std::rc::Rc;
use std::time::Duration;

use bytes::Bytes;

use super::segment::Segment;
use super::space::{self, Kept};
use super::state::{EndState, Inner, LogState, Pending, Roll, Status};
use super::{Appended, Durability, Ended, Error, Reserve, producers};
use crate::log::control::{self, EndMarker};
use crate::log::indexes::{Placed, SegmentIndexes};
use crate::log::producer_state::{FirstSequence, MarkerVerdict, NewMarker, Verdict};
use crate::log::{producer_snapshot, roll, txn_index};
use crate::model::{ErrorCode, LeaderEpoch, Offset, TimestampMs};
use crate::protocol::batch::{BatchHeader, HEADER_BYTES};
use crate::reactor;

/// Positions in a segment are i32 in Kafka's index.
const SEGMENT_BYTES_MAX: u64 = i32::MAX as u64;

/// See [`Log::append`](super::Log::append).
pub fn append(
    log: &Rc<LogState>,
    batch: Bytes,
    header: &BatchHeader,
    first: FirstSequence,
    epoch: LeaderEpoch,
    now: TimestampMs,
) -> Result<Appended, Error> {
    assert_eq!(batch.len(), header.total_bytes, "the header is the batch's");
    let bytes = batch.len();
    let producers;
    let appended = {
        let inner = &mut *log.borrow_mut();
        takes_appends(log, inner)?;
        match inner.producers.check(header, first) {
            Verdict::Append => {}
            Verdict::Duplicate { base_offset, last_offset, .. } => {
                return Ok(Appended { base_offset, end_offset: last_offset.plus(1), duplicate: true });
            }
            Verdict::Refuse(code) => return Err(Error::Refused(code)),
        }
        let base_offset = inner.end;
        let last_offset = base_offset.0.checked_add(i64::from(header.last_offset_delta)).map(Offset);
        if last_offset.is_none_or(|last| last < base_offset || last.0 == i64::MAX) {
            return Err(Error::Refused(ErrorCode::InvalidRecord));
        }
        if bytes as u64 > SEGMENT_BYTES_MAX {
            return Err(Error::Refused(ErrorCode::RecordListTooLarge));
        }
        let kept = match inner.config.reserve {
            Reserve::Kept => log.shard.kept_space(),
            Reserve::Usable => Kept::NOTHING,
        };
        if !log.directory.space.reserve(bytes as u64, kept) {
            space::sample_soon(log);
            return Err(Error::Full);
        }
        let known = inner.producers.len();
        queue(log, inner, batch, header, epoch, now);
        producers = (known, inner.producers.len());
        Appended { base_offset, end_offset: inner.end, duplicate: false }
    };
    log.schedule();
    producers::note(&log.shard, producers.0, producers.1);
    space::sample_soon(log);
    Ok(appended)
}

/// See [`Log::append_marker`](super::Log::append_marker).
pub fn append_marker(
    log: &Rc<LogState>,
    marker: &NewMarker,
    epoch: LeaderEpoch,
    now: TimestampMs,
) -> Result<(Appended, Option<Ended>), Error> {
    let (known, ended) = {
        let inner = &mut *log.borrow_mut();
        takes_appends(log, inner)?;
        let (base_offset, known) = (inner.end, inner.producers.len());
        match inner.producers.check_marker(marker) {
            MarkerVerdict::Append => {}
            // whatever says so is below the end
            MarkerVerdict::Repeated => {
                return Ok((Appended { base_offset, end_offset: base_offset, duplicate: true }, None));
            }
            MarkerVerdict::Refuse(code) => return Err(Error::Refused(code)),
        }
        let (batch, header) = control::marker_batch(marker, now);
        // a transaction must be able to end on a full disk: only then what it holds back can be consumed and go
        if !log.directory.space.reserve(batch.len() as u64, Kept::NOTHING) {
            space::sample_soon(log);
            return Err(Error::Full);
        }
        let first_offset = inner.producers.open_txn(marker.producer_id);
        queue(log, inner, batch, &header, epoch, now);
        let appended = Appended { base_offset, end_offset: inner.end, duplicate: false };
        (known, (appended, first_offset.map(|first_offset| Ended { first_offset, marker: base_offset })))
    };
    log.schedule();
    producers::note(&log.shard, known, log.borrow().producers.len());
    space::sample_soon(log);
    Ok(ended)
}

fn takes_appends(log: &LogState, inner: &Inner) -> Result<(), Error> {
    if inner.status != Status::Open || (inner.work.held && inner.boundary.is_none()) {
        return Err(Error::Closed);
    }
    if log.directory.is_offline() {
        return Err(Error::Offline);
    }
    Ok(())
}

/// Gives the batch its place at the log's end.
fn queue(
    log: &Rc<LogState>,
    inner: &mut Inner,
    batch: Bytes,
    header: &BatchHeader,
    epoch: LeaderEpoch,
    now: TimestampMs,
) {
    let (bytes, base_offset) = (batch.len(), inner.end);
    let last_offset = base_offset.plus(i64::from(header.last_offset_delta));
    let incoming = roll::Incoming { bytes: bytes as u64, last_offset, max_timestamp: header.max_timestamp };
    let opens = must_roll(log, inner, &incoming, now).then(|| Box::new(open_segment(log, inner, now)));
    let marker = if header.is_control() { control::end_marker(header, &batch[HEADER_BYTES..]) } else { None };
    place(inner, &BatchHeader { base_offset, ..*header }, marker, epoch);
    if inner.pending.is_empty() {
        inner.pending_since = reactor::now();
    }
    inner.pending.push_back(Pending { batch, base_offset, last_offset, epoch, opens });
    inner.pending_bytes += bytes;
    inner.touched = true;
    if inner.config.durability == Durability::Written && inner.config.flush_ms < i64::MAX {
        flush_in_time(log, inner);
    }
    log.shard.pending_bytes.set(log.shard.pending_bytes.get() + bytes);
}

/// Queues what was appended to the log while it was on its way to this directory: the same batches at the same offsets.
pub fn go_on(log: &Rc<LogState>, ordered: impl IntoIterator<Item = Pending>) {
    let now = TimestampMs(reactor::wall_clock_ms());
    for Pending { batch, base_offset, epoch, .. } in ordered {
        let header = BatchHeader::parse(&batch).expect("it was a batch when it was appended");
        // it was told to have room; if it has none here, the write says so
        log.directory.space.reserve(batch.len() as u64, Kept::NOTHING);
        let inner = &mut *log.borrow_mut();
        assert_eq!(inner.end, base_offset, "the order of a batch is fixed once");
        queue(log, inner, batch, &header, epoch, now);
    }
    log.schedule();
}

/// Has what is appended now flushed in flush.ms at the latest.
fn flush_in_time(log: &Rc<LogState>, inner: &mut Inner) {
    if std::mem::replace(&mut inner.work.flush_timed, true) {
        return;
    }
    let wait = Duration::from_millis(u64::try_from(inner.config.flush_ms).unwrap_or(0));
    let log = Rc::downgrade(log);
    reactor::spawn(async move {
        reactor::sleep(wait).await;
        let Some(log) = log.upgrade() else { return };
        log.borrow_mut().work.flush_timed = false;
        // an error is said where it happens; a log that is closed needs none
        let _ = log.flush().await;
    });
}

fn must_roll(log: &LogState, inner: &Inner, incoming: &roll::Incoming, now: TimestampMs) -> bool {
    if inner.appended_bytes == 0 {
        return false;
    }
    if inner.boundary == Some(inner.end) {
        // so that the segment in front ends there, if the log stays after all
        return true;
    }
    let segment = active(inner);
    let active = roll::Active {
        base_offset: segment.base,
        bytes: inner.appended_bytes,
        first_timestamp: segment.first_timestamp.get(),
        created: segment.created,
        indexes_full: segment.indexes.borrow().as_ref().is_some_and(|indexes| indexes.is_full())
            || (segment.aborts_in_memory() * txn_index::ENTRY_BYTES) as u64
                >= inner.config.segment_index_bytes,
    };
    // what is appended to is not compacted: it must not be appended to for longer than a record may wait
    let lag_ms =
        if inner.config.cleanup.compact { inner.config.compaction.max_lag_ms.max(1) } else { i64::MAX };
    let limits = roll::Limits {
        segment_bytes: inner.config.segment_bytes.min(SEGMENT_BYTES_MAX),
        segment_ms: inner.config.segment_ms.min(lag_ms),
        jitter_ms: roll::jitter(
            seed(log, segment.base),
            inner.config.segment_jitter_ms,
            inner.config.segment_ms,
        ),
    };
    roll::should_roll(&active, incoming, &limits, now).is_some()
}

/// A number for each segment, so that those of many partitions do not end at once.
fn seed(log: &LogState, base: Offset) -> u64 {
    let topic = log.partition.topic.0;
    (topic as u64) ^ (topic >> 64) as u64 ^ (log.partition.index as u64) << 40 ^ base.0 as u64
}

/// A new last segment at the log's end, and what the files at the boundary will say.
pub fn open_segment(log: &LogState, inner: &mut Inner, now: TimestampMs) -> Roll {
    let before =
        EndState { snapshot: producer_snapshot::encode(&inner.producers), epochs: inner.epochs.encode() };
    let segment = Rc::new(Segment::new(inner.end, log.shard.next_id(), now));
    let index_bytes = usize::try_from(inner.config.segment_index_bytes).unwrap_or(usize::MAX);
    *segment.indexes.borrow_mut() = Some(Box::new(SegmentIndexes::new(segment.base, index_bytes)));
    inner.segments.push(Rc::clone(&segment));
    inner.appended_bytes = 0;
    Roll { segment, before }
}

/// The state in memory after the batch, whose header says where it is now. `marker`: how it ends a transaction, if it does.
fn place(inner: &mut Inner, header: &BatchHeader, marker: Option<EndMarker>, epoch: LeaderEpoch) {
    let (bytes, last_offset) = (header.total_bytes as u64, header.last_offset());
    {
        let segment = active(inner);
        if inner.appended_bytes == 0 {
            segment.first_timestamp.set(header.max_timestamp);
        }
        let placed = Placed {
            position: u32::try_from(inner.appended_bytes).expect("a segment is shorter than 2 GiB"),
            bytes: bytes as u32,
            last_offset,
            max_timestamp: header.max_timestamp,
        };
        let mut indexes = segment.indexes.borrow_mut();
        let indexes = indexes.as_mut().expect("the last segment's indexes are in memory");
        indexes.append(placed, inner.config.index_interval_bytes);
    }
    if let Some(aborted) = control::replay(&mut inner.producers, header, marker) {
        active(inner).add_abort(aborted);
    }
    inner.epochs.assign(epoch, header.base_offset);
    inner.appended_bytes += bytes;
    inner.total_bytes += bytes;
    inner.end = last_offset.plus(1);
}

fn active(inner: &Inner) -> &Segment {
    inner.segments.last().expect("a log has at least one segment")
}

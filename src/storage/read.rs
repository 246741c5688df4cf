//! Reads: the tail cache, the read-ahead cache, then the segment file through its index.
//!
//! What comes from disk is checked against its checksum before anybody sees it, once per chunk. A reader that goes
//! on where its last chunk ended finds the next position without the index and has the chunks behind it read ahead,
//! two at a time: the index says where a batch begins in about the right place, and the chunk in front ends there.

use std::ops::Range;
use std::rc::Rc;

use super::chunks::{AHEAD_CHUNKS, Asked, Chunk, Turn};
use super::run::{Place, Run};
use super::segment::{Segment, WasOpen};
use super::shard::Shard;
use super::state::LogState;
use super::{Error, Slices, indexes, scan};
use crate::log::indexes::SegmentIndexes;
use crate::log::recovery::{Offsets, Start};
use crate::model::{LeaderEpoch, Offset};
use crate::protocol::batch::{self, BatchHeader};
use crate::reactor::{self, BLOCK_BYTES, SharedBuf, Task};

/// One read from disk, for a reader that goes on in sequence, and for others.
const SEQUENTIAL_BYTES: usize = 2 << 20;
const FIRST_BYTES: Range<usize> = 64 << 10..512 << 10;
const LONG_BATCH_BYTES: usize = 8 << 20;

/// What is asked of a log.
#[derive(Clone, Copy, Debug)]
pub struct Request {
    pub from: Offset,
    /// Exclusive.
    pub limit: Offset,
    pub max_bytes: usize,
    pub at_least_one: bool,
}

/// See [`Log::read_cached`](super::Log::read_cached).
pub fn cached(log: &Rc<LogState>, request: &Request) -> Option<Slices> {
    let bounded = bounds(log, request).ok()?;
    let mut slices = Slices::none_from(request.from);
    let Some(request) = bounded else { return Some(slices) };
    from_memory(log, &request, &mut slices).then_some(slices)
}

/// See [`Log::prepare`](super::Log::prepare).
pub fn prepare(log: &Rc<LogState>, request: &Request) {
    let chunks = &log.shard.chunks;
    let Ok(Some(Request { from, max_bytes, .. })) = bounds(log, request) else { return };
    if log.borrow().tail.begins_at().is_some_and(|begin| begin <= from)
        || chunks.missing(log.id, from, 1).is_none()
    {
        return;
    }
    let Some(permit) = Permit::take(&log.shard, max_bytes.min(SEQUENTIAL_BYTES), true) else { return };
    let log = Rc::clone(log);
    reactor::spawn(async move { load_ahead(&log, (from, 1), max_bytes, &mut Ahead::new(permit)).await });
}

/// See [`Log::read`](super::Log::read).
pub async fn read(log: &Rc<LogState>, request: Request) -> Result<Slices, Error> {
    let mut slices = Slices::none_from(request.from);
    loop {
        let Some(request) = bounds(log, &request)? else { return Ok(slices) };
        if from_memory(log, &request, &mut slices) {
            return Ok(slices);
        }
        let _turn = match log.shard.chunks.turn(log.id, request.from, 0) {
            Turn::Mine => MyTurn { shard: &log.shard, log: log.id, offset: request.from },
            Turn::Wait(done) => {
                done.await;
                // checking and sending what has come is work: what is read next goes to the disk first
                reactor::turn().await;
                continue;
            }
        };
        let truncations = log.borrow().truncations;
        let chunk = match load(log, request.from, request.max_bytes, None).await {
            // what was looked for may be gone
            Err(_) if log.borrow().truncations != truncations => continue,
            loaded => loaded?,
        };
        if take(&chunk, &request, &mut slices) {
            from_memory(log, &request, &mut slices);
        }
        read_ahead(log, &chunk);
        return Ok(slices);
    }
}

/// Ends the turn however the read ends, its caller's loss of interest included.
struct MyTurn<'a> {
    shard: &'a Shard,
    log: u64,
    offset: Offset,
}

impl Drop for MyTurn<'_> {
    fn drop(&mut self) {
        self.shard.chunks.done(self.log, self.offset);
    }
}

/// The request with its limit at the durable end; `None` if nothing can be there.
fn bounds(log: &LogState, request: &Request) -> Result<Option<Request>, Error> {
    let inner = log.borrow();
    if request.from < inner.start || request.from > inner.end {
        return Err(Error::OutOfRange);
    }
    let limit = request.limit.min(inner.durable_end);
    Ok((request.from < limit).then_some(Request { limit, ..*request }))
}

/// Adds what lies in memory from where the slices end; false if that offset is not there.
fn from_memory(log: &Rc<LogState>, request: &Request, slices: &mut Slices) -> bool {
    let mut found = false;
    loop {
        let from = slices.next;
        let room = request.max_bytes.saturating_sub(slices.bytes);
        let wanted = request.at_least_one && slices.bytes == 0;
        if from >= request.limit || (room == 0 && !wanted) {
            return true;
        }
        if let Some(tail) = log.borrow().tail.read(from, request.limit, room, wanted) {
            slices.bytes += tail.bytes;
            slices.parts.extend(tail.parts);
            slices.next = tail.next;
            return true;
        }
        let Some(chunk) = log.shard.chunks.get(log.id, from) else { return found };
        read_ahead(log, &chunk);
        if !take(&chunk, request, slices) {
            return true;
        }
        found = true;
    }
}

/// Adds what the chunk has; whether it is used up.
fn take(chunk: &Chunk, request: &Request, slices: &mut Slices) -> bool {
    let room = request.max_bytes.saturating_sub(slices.bytes);
    let wanted = request.at_least_one && slices.bytes == 0;
    let Some(taken) = chunk.run.take(slices.next, request.limit, room, wanted) else { return false };
    slices.bytes += taken.bytes.len();
    slices.parts.push(taken.bytes);
    slices.next = taken.next;
    taken.to_end
}

/// Room for one chunk that is read ahead.
struct Permit(Rc<Shard>);

impl Permit {
    fn take(shard: &Rc<Shard>, bytes: usize, near: bool) -> Option<Permit> {
        shard.chunks.begin_ahead(bytes, near).then(|| Permit(Rc::clone(shard)))
    }
}

impl Drop for Permit {
    fn drop(&mut self) {
        self.0.chunks.end_ahead();
    }
}

/// A task that reads ahead of somebody.
struct Ahead {
    /// Of the chunk that is being read.
    _permit: Permit,
    /// The disk has the one behind it already.
    coming: Option<Coming>,
}

/// Bytes on their way: where a batch should begin in a segment.
struct Coming {
    permit: Permit,
    segment: u64,
    position: u64,
    read: Task<Result<(SharedBuf, u64), Error>>,
}

impl Ahead {
    fn new(permit: Permit) -> Ahead {
        Ahead { _permit: permit, coming: None }
    }

    /// What is on its way from there; anything else is not wanted any more.
    fn take(&mut self, segment: &Segment, position: u64) -> Option<Task<Result<(SharedBuf, u64), Error>>> {
        let coming = self.coming.take()?;
        (coming.segment == segment.id && coming.position == position).then(|| {
            self._permit = coming.permit;
            coming.read
        })
    }

    /// Has the disk read what follows on `want` bytes at `position`. Gives where that begins: where a batch does, if the
    /// index is right.
    async fn begin_next(
        &mut self,
        log: &Rc<LogState>,
        segment: &Rc<Segment>,
        position: u64,
        want: usize,
    ) -> Result<Option<u64>, Error> {
        let find = |indexes: &SegmentIndexes| indexes.offsets.begins_by(position + want as u64);
        let found = indexes::with(log, segment, find).await?;
        let next = found.map(|entry| u64::from(entry.position));
        let Some(next) = next.filter(|next| (position + 1..segment.written_bytes.get()).contains(next))
        else {
            return Ok(None);
        };
        let Some(permit) = Permit::take(&log.shard, want, false) else { return Ok(None) };
        let read = fetch_in_turn(log, segment, next, want);
        self.coming = Some(Coming { permit, segment: segment.id, position: next, read });
        Ok(Some(next))
    }
}

/// Has what follows on the chunk read if somebody reads in sequence.
fn read_ahead(log: &Rc<LogState>, chunk: &Chunk) {
    if !chunk.sequential {
        return;
    }
    let Some(mut next) = missing(log, chunk.run.end_offset(), AHEAD_CHUNKS) else { return };
    let Some(permit) = Permit::take(&log.shard, SEQUENTIAL_BYTES, next.1 == AHEAD_CHUNKS) else { return };
    let log = Rc::clone(log);
    reactor::spawn(async move {
        let mut ahead = Ahead::new(permit);
        loop {
            let Some((end, left)) = load_ahead(&log, next, SEQUENTIAL_BYTES, &mut ahead).await else {
                return;
            };
            let Some(then) = missing(&log, end, left) else { return };
            if ahead.coming.is_none() {
                let Some(permit) = Permit::take(&log.shard, SEQUENTIAL_BYTES, false) else { return };
                ahead = Ahead::new(permit);
            }
            next = then;
        }
    });
}

/// The first chunk that is neither here nor on its way of `ahead` from `next` on, and how many are missing; `None` if
/// reading it makes no sense now.
fn missing(log: &LogState, next: Offset, ahead: usize) -> Option<(Offset, usize)> {
    let (next, left) = log.shard.chunks.missing(log.id, next, ahead)?;
    let inner = log.borrow();
    let in_memory = inner.tail.begins_at().is_some_and(|begin| begin <= next);
    (next < inner.durable_end && !in_memory).then_some((next, left))
}

/// Reads the first of `left` missing chunks: where it ends, and how many are to be read behind it.
async fn load_ahead(
    log: &Rc<LogState>,
    (from, left): (Offset, usize),
    max_bytes: usize,
    ahead: &mut Ahead,
) -> Option<(Offset, usize)> {
    let chunks = &log.shard.chunks;
    let Turn::Mine = chunks.turn(log.id, from, left - 1) else { return None };
    let _turn = MyTurn { shard: &log.shard, log: log.id, offset: from };
    // whoever reads there meets the error again
    let chunk = load(log, from, max_bytes, Some(ahead)).await.ok()?;
    Some((chunk.run.end_offset(), chunks.ahead(log.id, from)))
}

/// What a look at a buffer found.
enum Walk {
    Run {
        first: Offset,
        places: Vec<Place>,
        end: usize,
    },
    /// Everything up to this place is below the offset; the next batch begins with that one.
    Below(usize, Offset),
    /// The batch at this place has so many bytes, more than are here.
    Longer(usize, usize, Expect),
    Bad(usize, &'static str),
}

/// Reads the chunk that begins with the batch that holds `from` into the cache; `ahead` if nobody has asked for it yet.
async fn load(
    log: &Rc<LogState>,
    from: Offset,
    max_bytes: usize,
    mut ahead: Option<&mut Ahead>,
) -> Result<Rc<Chunk>, Error> {
    let asked = if ahead.is_some() { Asked::Later } else { Asked::Now };
    let before = log.shard.chunks.ending_at(log.id, from);
    let sequential = before.is_some();
    let mut want =
        if sequential { SEQUENTIAL_BYTES } else { max_bytes.clamp(FIRST_BYTES.start, FIRST_BYTES.end) };
    let segments = segments_from(log, from);
    for segment in segments {
        let (mut position, mut expect) = match &before {
            Some(before) if before.segment == segment.id => {
                (before.run.end_position(), Expect::next(&segment, before.run.end_offset()))
            }
            _ if from <= segment.base => (0, Expect::next(&segment, segment.base)),
            _ => begin(log, &segment, from).await?,
        };
        let mut doubt = Doubt::None;
        // ends: each turn goes on in the segment, asks for more of one batch, or doubts more
        while position < segment.written_bytes.get() {
            let (buf, start, end) = match ahead.as_mut().filter(|_| doubt == Doubt::None) {
                Some(ahead) => {
                    let goes_on = sequential && log.shard.chunks.ahead(log.id, from) > 0;
                    fetch_ahead(log, &segment, position, want, ahead, goes_on).await?
                }
                None => {
                    fetch(log, &segment, position, want).await.map(|(buf, start)| (buf, start, u64::MAX))?
                }
            };
            let end = end.min(segment.written_bytes.get());
            let readable = end.saturating_sub(start).min(buf.as_slice().len() as u64) as usize;
            let skip = (position - start) as usize;
            let (at, what) = match walk(&buf.as_slice()[..readable], skip, from, expect, doubt, &segment) {
                Walk::Run { first, places, end } => {
                    let run = Run::new(buf, start, first, places, end as u32);
                    let chunk = Rc::new(Chunk { run, segment: segment.id, sequential });
                    // what compaction has replaced meanwhile is good for this read, not for the next
                    if !segment.retired.get() {
                        log.shard.chunks.insert(log.id, Rc::clone(&chunk), asked);
                    }
                    return Ok(chunk);
                }
                Walk::Below(at, next) if start + at as u64 <= segment.written_bytes.get() => {
                    (position, expect) = (start + at as u64, Expect::next(&segment, next));
                    continue;
                }
                Walk::Longer(at, total, next)
                    if start + at as u64 + total as u64 <= segment.written_bytes.get()
                        && (want < total || at > skip)
                        && is_plausible(log, &segment, start + at as u64, total).await? =>
                {
                    (position, expect) = (start + at as u64, next);
                    want = want.max(total);
                    continue;
                }
                Walk::Longer(at, ..) => (at, "the batch is cut short"),
                Walk::Below(..) => (skip, "a batch in front of it is cut short"),
                Walk::Bad(at, what) => (at, what),
            };
            doubt = match doubt {
                // a disk may once answer with another place's bytes
                Doubt::None => Doubt::Read,
                Doubt::Read => {
                    if indexes::may_be_wrong(&segment) {
                        indexes::rebuild(log, &segment).await?;
                    }
                    (position, expect) = begin(log, &segment, from).await?;
                    Doubt::All
                }
                Doubt::All => {
                    // damage in front of what is asked for is passed over
                    match behind_damage(log, &segment, start + at as u64, from).await? {
                        Some((good, base)) => (position, expect) = (good, Expect::Base(base)),
                        None => return Err(damaged(log, &segment, start + at as u64, what)),
                    }
                    Doubt::All
                }
            };
        }
    }
    Err(Error::Corrupt)
}

/// Where the index says to begin, and what must be there.
async fn begin(log: &LogState, segment: &Rc<Segment>, from: Offset) -> Result<(u64, Expect), Error> {
    let entry = indexes::with(log, segment, |indexes| indexes.offsets.lookup(from)).await?;
    let position = u64::from(entry.position);
    // an entry names the last offset of its batch; without an entry the segment's first batch is meant
    let expect = if position == 0 { Expect::next(segment, segment.base) } else { Expect::Last(entry.offset) };
    Ok((position, expect))
}

/// The next good batch behind damage, if it begins at or below `from`.
async fn behind_damage(
    log: &LogState,
    segment: &Rc<Segment>,
    damage: u64,
    from: Offset,
) -> Result<Option<(u64, Offset)>, Error> {
    let (file, _) = segment.file(&log.folder).await.map_err(|_| Error::Offline)?;
    let found = scan::next_good(&file, damage, segment.written_bytes.get(), segment.base).await;
    Ok(found.map_err(|_| Error::Offline)?.filter(|(_, base)| *base <= from))
}

/// What the next batch must be. Offsets are dense where nothing was compacted: a batch from another place of the disk
/// does not pass.
#[derive(Clone, Copy, Debug)]
enum Expect {
    /// Its base offset.
    Base(Offset),
    /// Its base offset, at least.
    AtLeast(Offset),
    /// Its last offset.
    Last(Offset),
}

impl Expect {
    /// What follows on a batch, or begins the segment.
    fn next(segment: &Segment, offset: Offset) -> Expect {
        if segment.gaps.get() { Expect::AtLeast(offset) } else { Expect::Base(offset) }
    }

    fn is_met_by(self, header: &BatchHeader) -> bool {
        match self {
            Expect::Base(offset) => header.base_offset == offset,
            Expect::AtLeast(offset) => header.base_offset >= offset,
            Expect::Last(offset) => header.last_offset() == offset,
        }
    }
}

/// Whether memory for a batch of that length may be taken. A long one is checked in pieces first: its length is the
/// disk's word.
async fn is_plausible(
    log: &LogState,
    segment: &Rc<Segment>,
    position: u64,
    total: usize,
) -> Result<bool, Error> {
    if total <= LONG_BATCH_BYTES {
        return Ok(true);
    }
    let (file, _) = segment.file(&log.folder).await.map_err(|_| Error::Offline)?;
    let end = position + total as u64;
    let start = Start {
        base_offset: segment.base,
        position,
        next_offset: segment.base,
        last_epoch: LeaderEpoch::NONE,
        offsets: Offsets::Gaps,
        max_batch_bytes: total as u64,
    };
    let verdict = scan::scan(&file, start, end, |_, _| {}).await.map_err(|_| Error::Offline)?;
    Ok(verdict.valid_bytes == end)
}

/// What was tried already when a batch looks bad.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Doubt {
    None,
    /// It was read once more.
    Read,
    /// The index was made again, and the batches in front are checked too: their lengths led here.
    All,
}

/// The segments that may hold `from`: the one it falls into, then those behind it, in case damage left a gap.
fn segments_from(log: &LogState, from: Offset) -> Vec<Rc<Segment>> {
    let inner = log.borrow();
    let first = inner.segments.partition_point(|segment| segment.base <= from).saturating_sub(1);
    inner.segments[first..].iter().filter(|segment| segment.base < inner.durable_end).cloned().collect()
}

/// As [`fetch`], and has the disk read what comes behind it if somebody `goes_on`; then with where that begins.
async fn fetch_ahead(
    log: &Rc<LogState>,
    segment: &Rc<Segment>,
    position: u64,
    want: usize,
    ahead: &mut Ahead,
    goes_on: bool,
) -> Result<(SharedBuf, u64, u64), Error> {
    let read = ahead.take(segment, position);
    let read = read.unwrap_or_else(|| fetch_in_turn(log, segment, position, want));
    let next = if goes_on { ahead.begin_next(log, segment, position, want).await? } else { None };
    let (buf, start) = read.await?;
    Ok((buf, start, next.unwrap_or(u64::MAX)))
}

/// As [`fetch`], when it is its turn among what is read ahead.
fn fetch_in_turn(
    log: &Rc<LogState>,
    segment: &Rc<Segment>,
    position: u64,
    want: usize,
) -> Task<Result<(SharedBuf, u64), Error>> {
    let (log, segment) = (Rc::clone(log), Rc::clone(segment));
    reactor::spawn(async move {
        let reads = &log.shard.chunks.reads;
        reads.take(1).await;
        let read = fetch(&log, &segment, position, want).await;
        reads.give(1);
        read
    })
}

/// An aligned read of at least `want` bytes from `position`, as far as the segment goes; with its file position.
async fn fetch(
    log: &LogState,
    segment: &Rc<Segment>,
    position: u64,
    want: usize,
) -> Result<(SharedBuf, u64), Error> {
    const BLOCK: u64 = BLOCK_BYTES as u64;
    let start = position / BLOCK * BLOCK;
    let data_end = segment.written_bytes.get().next_multiple_of(BLOCK);
    let end = (position + want as u64).next_multiple_of(BLOCK).min(data_end);
    let failed = |error: std::io::Error| {
        tracing::error!(log = log.name, segment = segment.base.0, position, %error, "cannot read the segment");
        Error::Offline
    };
    let (file, was_open) = segment.file(&log.folder).await.map_err(failed)?;
    if was_open == WasOpen::No {
        log.shard.warm.note(segment);
    }
    let buf = file.read(start, (end - start) as usize).await.map_err(failed)?;
    log.shard.counters.disk_read_bytes.add(end - start);
    Ok((buf, start))
}

/// Walks the batches of `bytes` from `skip` on: those below `from` are passed over, the others are checked.
fn walk(bytes: &[u8], skip: usize, from: Offset, expect: Expect, doubt: Doubt, segment: &Segment) -> Walk {
    let mut at = skip;
    let mut expect = expect;
    let mut places = Vec::new();
    let mut first = Offset::NONE;
    let stop = loop {
        let rest = bytes.get(at..).unwrap_or_default();
        let header = match BatchHeader::parse(rest) {
            Ok(header) => header,
            Err(batch::Error::Truncated) => break Walk::Longer(at, batch::HEADER_BYTES, expect),
            Err(_) => break Walk::Bad(at, "not a batch header"),
        };
        if header.magic != batch::MAGIC || !expect.is_met_by(&header) || header.last_offset_delta < 0 {
            break Walk::Bad(at, "not the batch that belongs here");
        }
        let asked_for = header.last_offset() >= from;
        if asked_for || doubt == Doubt::All {
            let Some(batch) = rest.get(..header.total_bytes) else {
                break Walk::Longer(at, header.total_bytes, expect);
            };
            if !batch::crc_matches(batch) {
                break Walk::Bad(at, "the checksum does not match");
            }
        }
        if asked_for {
            if places.is_empty() {
                // in a gap, the run begins where it was asked for: it is found there again
                first = header.base_offset.min(from);
            }
            places.push(Place { last_offset: header.last_offset(), at: at as u32 });
        } else if header.total_bytes >= rest.len() {
            // it ends beyond the buffer or with it
            break Walk::Below(at + header.total_bytes, header.next_offset());
        }
        expect = Expect::next(segment, header.next_offset());
        at += header.total_bytes;
    };
    if places.is_empty() { stop } else { Walk::Run { first, places, end: at } }
}

/// Says once per place that the disk no longer has what was written.
fn damaged(log: &LogState, segment: &Segment, position: u64, what: &'static str) -> Error {
    if segment.reported.replace(Some(position)) != Some(position) {
        tracing::error!(
            log = log.name,
            file = %log.folder.join(segment.file_name(crate::log::files::FileKind::Log)).display(),
            position,
            what,
            "a batch on disk is damaged: reads of it are refused, the rest of the log stays readable"
        );
    }
    Error::Corrupt
}

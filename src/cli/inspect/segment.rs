//! One segment from front to back: its batches, and whether its indexes say the same.

use std::collections::BTreeSet;
use std::fs::File;
use std::io::{self, Read, Seek, SeekFrom};
use std::path::Path;

use super::against::Told;
use super::report::{Batch, Content, Finding};
use super::{Depth, failed};
use crate::log::control::{EndMarker, replay};
use crate::log::offset_index::{OffsetIndex, OffsetPosition};
use crate::log::producer_state::ProducerStates;
use crate::log::recovery::{Offsets, Progress, Reason, Scanner, Start, Verdict, candidates};
use crate::log::time_index::{TimeIndex, TimestampOffset};
use crate::log::txn_index::AbortedTxn;
use crate::model::{LeaderEpoch, Offset};
use crate::protocol::batch::{BatchHeader, crc_matches};

const CHUNK_BYTES: usize = 1 << 20;
/// How far behind damage a good batch is looked for.
const SEARCH_BYTES: u64 = 8 << 20;

/// What the segment must fit to.
#[derive(Clone, Copy, Debug)]
pub(super) struct Place {
    pub(super) base: Offset,
    /// The epoch of the batch before it.
    pub(super) last_epoch: LeaderEpoch,
    /// Its last bytes may be a write that was cut short: it is the last one, and the broker was not stopped cleanly.
    pub(super) may_be_torn: bool,
}

/// Its index files, decoded.
#[derive(Debug, Default)]
pub(super) struct Indexes {
    pub(super) offsets: Option<OffsetIndex>,
    pub(super) times: Option<TimeIndex>,
}

/// What the batches say of transactions and leader epochs, from one segment to the next.
pub(super) struct History {
    pub(super) producers: ProducerStates,
    /// The aborted ones whose marker is in the segment.
    pub(super) aborted: Vec<AbortedTxn>,
    /// The offsets of its control batches.
    pub(super) control: BTreeSet<Offset>,
    /// Every leader epoch so far, in the order of the batches.
    pub(super) epochs: Vec<Told>,
}

impl History {
    /// Before the first batch of a log.
    pub(super) fn new(producers: ProducerStates) -> History {
        History { producers, aborted: Vec::new(), control: BTreeSet::new(), epochs: Vec::new() }
    }

    fn batch(&mut self, header: &BatchHeader, marker: Option<EndMarker>) {
        self.aborted.extend(replay(&mut self.producers, header, marker));
        if header.is_control() {
            self.control.insert(header.last_offset());
        }
        match self.epochs.last_mut() {
            Some(told) if told.epoch == header.leader_epoch => told.end = header.next_offset(),
            _ => self.epochs.push(Told {
                epoch: header.leader_epoch,
                first: header.base_offset,
                end: header.next_offset(),
            }),
        }
    }
}

/// What a walk has brought.
pub(super) struct Walked {
    pub(super) content: Content,
    pub(super) last_epoch: LeaderEpoch,
}

/// Reads the file.
///
/// # Errors
/// The system's, as one line.
pub(super) fn walk(
    path: &Path,
    name: &str,
    place: Place,
    indexes: &Indexes,
    history: &mut History,
    depth: Depth,
    findings: &mut Vec<Finding>,
) -> Result<Walked, String> {
    let mut file = File::open(path).map_err(|error| failed("open", path, &error))?;
    let length = file.metadata().map_err(|error| failed("look at", path, &error))?.len();
    let mut walk = Walk::new(indexes, depth, place.base);
    let mut start = Start {
        base_offset: place.base,
        position: 0,
        next_offset: place.base,
        last_epoch: place.last_epoch,
        offsets: Offsets::Gaps,
        max_batch_bytes: i32::MAX as u64,
    };
    loop {
        let verdict = scan(&mut file, start, |header, position, marker| {
            walk.batch(header, position);
            history.batch(header, marker);
        })
        .map_err(|error| failed("read", path, &error))?;
        (walk.content.next_offset, start.last_epoch) = (verdict.next_offset.0, verdict.last_epoch);
        let next = match verdict.reason {
            Reason::CleanEnd => None,
            _ => next_good(&mut file, verdict.valid_bytes + 1, verdict.next_offset)
                .map_err(|error| failed("read", path, &error))?,
        };
        let left = length - verdict.valid_bytes.min(length);
        findings.extend(judge(name, &verdict, left, next, place.may_be_torn));
        let Some((position, offset)) = next else { break };
        (start.position, start.next_offset) = (position, offset);
        walk.skip_to(position, offset);
    }
    walk.finish(name, findings);
    Ok(Walked { content: walk.content, last_epoch: start.last_epoch })
}

/// What the end of a scan means; `next`: where good batches go on behind it.
fn judge(
    name: &str,
    verdict: &Verdict,
    left: u64,
    next: Option<(u64, Offset)>,
    may_be_torn: bool,
) -> Option<Finding> {
    let Verdict { valid_bytes: at, next_offset: offset, reason, .. } = verdict;
    let why = match reason {
        Reason::CleanEnd if left == 0 => return None,
        Reason::CleanEnd if may_be_torn => {
            return Some(Finding::note(name, format!("{left} bytes at the end are set aside and not used")));
        }
        Reason::CleanEnd => {
            return Some(Finding::damage(
                name,
                format!("zeros from byte {at} to the end, where batches should be"),
            ));
        }
        Reason::Torn { have, need } => format!("{have} of {need} bytes of a batch"),
        Reason::BadCrc { stored, computed, .. } => {
            format!("a batch with checksum {stored:#010x}, whose bytes have {computed:#010x}")
        }
        Reason::BadHeader { what } => format!("no batch header ({what})"),
        Reason::OffsetOutOfOrder { expected, found } => {
            format!("a batch at offset {found} where {expected} or more is next")
        }
        Reason::EpochOutOfOrder { last, found } => {
            format!("a batch of leader epoch {found} behind one of {last}")
        }
        Reason::DataAfterZeros { position } => format!("zeros, and data again from byte {position}"),
    };
    Some(match next {
        Some((position, resumed)) => Finding::damage(
            name,
            format!(
                "at byte {at}, offset {offset}: {why}; good batches go on at byte {position}, offset {resumed}"
            ),
        ),
        None if may_be_torn => Finding::note(
            name,
            format!(
                "at byte {at}, offset {offset}: {why}: a write that was cut short, which the next start removes"
            ),
        ),
        None => Finding::damage(
            name,
            format!("at byte {at}, offset {offset}: {why}, and no good batch in the 8 MiB behind it"),
        ),
    })
}

fn scan(
    file: &mut File,
    start: Start,
    mut each: impl FnMut(&BatchHeader, u64, Option<EndMarker>),
) -> io::Result<Verdict> {
    file.seek(SeekFrom::Start(start.position))?;
    let mut scanner = Scanner::new(start);
    let mut chunk = vec![0; CHUNK_BYTES];
    loop {
        let read = file.read(&mut chunk)?;
        if read == 0 || scanner.feed_with_markers(&chunk[..read], &mut each) == Progress::Done {
            return Ok(scanner.finish());
        }
    }
}

/// The next batch from there on that is whole, matches its checksum and begins at `least` or above.
fn next_good(file: &mut File, from: u64, least: Offset) -> io::Result<Option<(u64, Offset)>> {
    let mut bytes = Vec::new();
    file.seek(SeekFrom::Start(from))?;
    file.by_ref().take(SEARCH_BYTES).read_to_end(&mut bytes)?;
    let is_good = |(place, header): &(u64, BatchHeader)| {
        let at = (place - from) as usize;
        crc_matches(&bytes[at..at + header.total_bytes])
    };
    let found = candidates(&bytes, from, from + bytes.len() as u64, least).into_iter().find(is_good);
    Ok(found.map(|(place, header)| (place, header.base_offset)))
}

/// Counts batches and follows the indexes beside them.
struct Walk<'a> {
    content: Content,
    depth: Depth,
    offsets: Option<Entries<'a, OffsetPosition>>,
    times: Option<Entries<'a, TimestampOffset>>,
}

/// An index that is followed: what comes next in it, and what was wrong first.
struct Entries<'a, T> {
    left: std::iter::Peekable<Box<dyn Iterator<Item = T> + 'a>>,
    wrong: Option<String>,
}

impl<'a, T> Entries<'a, T> {
    fn new(entries: impl Iterator<Item = T> + 'a) -> Entries<'a, T> {
        let entries: Box<dyn Iterator<Item = T> + 'a> = Box::new(entries);
        Entries { left: entries.peekable(), wrong: None }
    }

    /// All batches have passed: what was wrong first.
    fn finish(&mut self, offset: impl Fn(&T) -> Offset) -> Option<String> {
        let behind =
            self.left.next().map(|entry| format!("says offset {} behind the last batch", offset(&entry)));
        self.wrong.take().or(behind)
    }
}

impl<'a> Walk<'a> {
    fn new(indexes: &'a Indexes, depth: Depth, base: Offset) -> Walk<'a> {
        Walk {
            content: Content { next_offset: base.0, max_timestamp: -1, ..Content::default() },
            depth,
            offsets: indexes.offsets.as_ref().map(|index| Entries::new(index.entries())),
            times: indexes.times.as_ref().map(|index| Entries::new(index.entries())),
        }
    }

    fn batch(&mut self, header: &BatchHeader, position: u64) {
        let content = &mut self.content;
        content.missing_offsets += u64::try_from(header.base_offset.0 - content.next_offset).unwrap_or(0);
        content.next_offset = header.next_offset().0;
        content.batches += 1;
        content.records += u64::try_from(header.record_count).unwrap_or(0);
        content.batch_bytes += header.total_bytes as u64;
        content.max_timestamp = content.max_timestamp.max(header.max_timestamp.0);
        content.control_batches += u64::from(header.is_control());
        content.transactional_batches += u64::from(header.is_transactional());
        content.idempotent_batches += u64::from(header.is_idempotent());
        let codec = header.codec().map_or("unknown".to_owned(), |codec| format!("{codec:?}").to_lowercase());
        *content.codecs.entry(codec.clone()).or_default() += 1;
        let max_timestamp = content.max_timestamp;
        if self.depth == Depth::Batches {
            content.all.push(Batch {
                position,
                bytes: header.total_bytes,
                base_offset: header.base_offset.0,
                last_offset: header.last_offset().0,
                records: header.record_count,
                leader_epoch: header.leader_epoch.0,
                max_timestamp: header.max_timestamp.0,
                codec,
                producer_id: header.producer_id.0,
                producer_epoch: header.producer_epoch.0,
                base_sequence: header.base_sequence,
                is_transactional: header.is_transactional(),
                is_control: header.is_control(),
            });
        }
        if let Some(index) = &mut self.offsets {
            while let Some(entry) = index.left.next_if(|entry| u64::from(entry.position) <= position) {
                if u64::from(entry.position) != position || entry.offset != header.last_offset() {
                    index.wrong.get_or_insert_with(|| {
                        format!(
                            "says offset {} at byte {}, where no such batch is",
                            entry.offset, entry.position
                        )
                    });
                }
            }
        }
        if let Some(index) = &mut self.times {
            while let Some(entry) = index.left.next_if(|entry| entry.offset <= header.last_offset()) {
                if entry.timestamp.0 != max_timestamp {
                    index.wrong.get_or_insert_with(|| {
                        let (timestamp, offset) = (entry.timestamp.0, entry.offset);
                        format!("says timestamp {timestamp} is the largest up to offset {offset}; it is {max_timestamp}")
                    });
                }
            }
        }
    }

    /// What the indexes say of damaged bytes is no second damage.
    fn skip_to(&mut self, position: u64, offset: Offset) {
        if let Some(index) = &mut self.offsets {
            while index.left.next_if(|entry| u64::from(entry.position) < position).is_some() {}
        }
        if let Some(index) = &mut self.times {
            while index.left.next_if(|entry| entry.offset < offset).is_some() {}
        }
    }

    fn finish(&mut self, name: &str, findings: &mut Vec<Finding>) {
        let stem = name.trim_end_matches(".log");
        let offsets = self.offsets.as_mut().and_then(|index| index.finish(|entry| entry.offset));
        let times = self.times.as_mut().and_then(|index| index.finish(|entry| entry.offset));
        for (ending, wrong) in [("index", offsets), ("timeindex", times)] {
            findings.extend(wrong.map(|what| Finding::damage(format!("{stem}.{ending}"), what)));
        }
    }
}

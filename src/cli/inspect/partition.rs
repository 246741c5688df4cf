//! One partition's folder: its files held against each other.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::Path;

use super::against::{self, Known, Told};
use super::report::{Epoch, Finding, Partition, Segment, Snapshot};
use super::segment::{self, History, Indexes, Place};
use super::{Depth, failed};
use crate::log::checkpoint::decode_partition_metadata;
use crate::log::epoch_cache::EpochCache;
use crate::log::files::{
    FileKind, FileState, LEADER_EPOCH_CHECKPOINT, PARTITION_METADATA, SegmentFile, TEMPORARY_SUFFIX,
    TRUNCATION, parse_folder,
};
use crate::log::offset_index::OffsetIndex;
use crate::log::producer_state::ProducerStates;
use crate::log::time_index::TimeIndex;
use crate::log::txn_index::TxnIndex;
use crate::log::{Damage, producer_snapshot};
use crate::model::{LeaderEpoch, Offset, TimestampMs};

/// By topic (its id, or its name) and index.
pub(super) type PartitionOffsets = BTreeMap<(String, i32), Offset>;

/// What the log directory says of its partitions.
#[derive(Debug, Default)]
pub(super) struct Expect {
    /// Everything below was flushed.
    pub(super) recovery_points: PartitionOffsets,
    /// Nothing below is served any more.
    pub(super) log_starts: PartitionOffsets,
    /// The broker was stopped: no last segment has a torn end.
    pub(super) is_clean: bool,
    /// It was corelane: after a stop each log's recovery point is its end, and whatever starts behind offset 0 has its
    /// start written down.
    pub(super) is_ours: bool,
    /// Those that were compacted: only they may have gaps between offsets. `None`: not known.
    pub(super) compacted: Option<BTreeSet<(String, i32)>>,
}

/// What one of the files says of the partition in the folder `name`.
fn offset_of(offsets: &PartitionOffsets, name: &str, topic_id: Option<&String>) -> Option<Offset> {
    let folder = parse_folder(name)?;
    let of = |topic: &String| offsets.get(&(topic.clone(), folder.partition)).copied();
    topic_id.and_then(of).or_else(|| of(&folder.topic))
}

impl Expect {
    fn is_compacted(&self, name: &str, topic_id: Option<&String>) -> Option<bool> {
        let (compacted, folder) = (self.compacted.as_ref()?, parse_folder(name)?);
        let has = |topic: &String| compacted.contains(&(topic.clone(), folder.partition));
        Some(topic_id.is_some_and(has) || has(&folder.topic))
    }
}

/// Reads a folder.
///
/// # Errors
/// It cannot be read at all.
pub(super) fn read(folder: &Path, name: &str, expect: &Expect, depth: Depth) -> Result<Partition, String> {
    let mut partition = Partition { name: name.to_owned(), ..Partition::default() };
    let mut files = Vec::new();
    for entry in fs::read_dir(folder).map_err(|error| failed("list", folder, &error))? {
        let name = entry.map_err(|error| failed("list", folder, &error))?.file_name();
        let Some(name) = name.to_str() else { continue };
        match SegmentFile::parse(name) {
            Some(file) if file.state == FileState::Live => files.push(file),
            Some(file) => {
                let what = match file.state {
                    FileState::Swap => "of a compaction that the next start completes",
                    _ => "a leftover, which the next start removes",
                };
                partition.findings.push(Finding::note(name, what));
            }
            None if name.ends_with(TEMPORARY_SUFFIX) => {
                partition.findings.push(Finding::note(name, "a leftover, which the next start removes"));
            }
            None if name == TRUNCATION => {
                let what = "a truncation was cut off: the next start of the partition ends it";
                partition.findings.push(Finding::note(name, what));
            }
            None if [LEADER_EPOCH_CHECKPOINT, PARTITION_METADATA].contains(&name)
                || name.contains(".cut-") => {}
            None => partition.findings.push(Finding::note(name, "is no file of a log: it is not looked at")),
        }
    }
    files.sort_unstable_by_key(|file| (file.offset, file.kind));
    partition.topic_id = metadata(folder, &mut partition.findings);
    let mut bases: Vec<Offset> =
        files.iter().filter(|file| file.kind == FileKind::Log).map(|file| file.offset).collect();
    let start = offset_of(&expect.log_starts, name, partition.topic_id.as_ref());
    partition.log_start = start.map(|start| start.0);
    let gone = bases.partition_point(|&base| start.is_some_and(|start| base <= start)).saturating_sub(1);
    for base in bases.drain(..gone) {
        let what = "lies below the log start; the next start removes it";
        let file = SegmentFile::live(base, FileKind::Log).name();
        partition.findings.push(Finding::note(file, what));
    }
    if bases.is_empty() {
        partition.findings.push(Finding::damage(name, "there is no segment"));
    }
    if let Some((first, start)) = bases.first().copied().zip(start).filter(|(first, start)| first > start) {
        let what = format!("the log starts at offset {start}, and its first segment at {first}");
        partition.findings.push(Finding::damage(name, what));
    }
    if let Some(first) =
        bases.first().filter(|first| expect.is_ours && start.is_none() && **first > Offset::ZERO)
    {
        let what = format!("its first segment begins at offset {first}, and no log start was written down");
        partition.findings.push(Finding::damage(name, what));
    }
    let is_compacted = expect.is_compacted(name, partition.topic_id.as_ref());
    let mut last_epoch = LeaderEpoch::NONE;
    // who had begun what where the log begins
    let begun = bases.first().and_then(|&base| {
        let bytes = fs::read(folder.join(SegmentFile::live(base, FileKind::Snapshot).name())).ok()?;
        producer_snapshot::decode(&bytes).ok()
    });
    let is_whole = begun.is_some() || bases.first() == Some(&Offset::ZERO);
    let mut history = History::new(begun.unwrap_or_default());
    for (number, &base) in bases.iter().enumerate() {
        let is_last = number + 1 == bases.len();
        let place = Place { base, last_epoch, may_be_torn: is_last && !expect.is_clean };
        let file = SegmentFile::live(base, FileKind::Log);
        if let Some(end) = partition.end_offset {
            partition.findings.extend(seam(
                &file.name(),
                Offset(end),
                base,
                is_compacted.unwrap_or_else(|| has_gaps(&partition.segments)),
            ));
        }
        let closed = if is_last && !expect.is_clean { Closed::Unknown } else { Closed::Yes };
        let known = match is_whole && is_compacted == Some(false) && !partition.is_damaged() {
            true => Known::Whole,
            false => Known::Parts,
        };
        let mut look = Look { place, depth, closed, known, history: &mut history };
        let (segment, epoch) = one_segment(folder, &file, &mut look, &mut partition.findings)?;
        if is_compacted == Some(false) {
            let found = gap_in_dense(&file.name(), &segment, &partition.findings);
            partition.findings.extend(found);
        }
        last_epoch = epoch;
        partition.end_offset = segment.content.as_ref().map(|content| content.next_offset);
        partition.segments.push(segment);
    }
    for file in files.iter().filter(|file| file.kind != FileKind::Log) {
        match file.kind {
            FileKind::Snapshot => snapshot(folder, *file, &mut partition),
            _ if !bases.contains(&file.offset) => {
                partition.findings.push(Finding::note(file.name(), "belongs to no segment"));
            }
            _ => {}
        }
    }
    epochs(folder, last_epoch, &history.epochs, expect, &mut partition);
    if let Some((start, end)) = start.zip(partition.end_offset).filter(|(start, end)| start.0 > *end) {
        let what = format!("the log starts at offset {start}, and ends at {end}");
        partition.findings.push(Finding::damage(name, what));
    }
    let recovery_point = offset_of(&expect.recovery_points, name, partition.topic_id.as_ref());
    let what = match (recovery_point, partition.end_offset) {
        (Some(point), Some(end)) if point.0 > end => {
            Some(format!("everything below offset {point} was flushed, and the log ends at {end}"))
        }
        (Some(point), Some(end)) if expect.is_ours && expect.is_clean && point.0 < end => Some(format!(
            "the recovery point is {point}, and a broker that stopped cleanly has flushed up to {end}"
        )),
        (None, Some(_)) if expect.is_ours && expect.is_clean => Some("it has no recovery point".to_owned()),
        _ => None,
    };
    partition.findings.extend(what.map(|what| Finding::damage(name, what)));
    Ok(partition)
}

/// One file by itself.
///
/// # Errors
/// It cannot be read.
pub(super) fn one_file(path: &Path, file: SegmentFile, depth: Depth) -> Result<Partition, String> {
    let mut partition = Partition { name: file.name(), ..Partition::default() };
    let folder = path.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."));
    match file.kind {
        FileKind::Snapshot => snapshot(folder, file, &mut partition),
        _ => {
            let log = SegmentFile { kind: FileKind::Log, ..file };
            let depth = if file.kind == FileKind::Log { depth } else { Depth::Content };
            let place = Place { base: file.offset, last_epoch: LeaderEpoch::NONE, may_be_torn: true };
            let mut history = History::new(ProducerStates::default());
            let (closed, known) = (Closed::Unknown, Known::Parts);
            let mut look = Look { place, depth, closed, known, history: &mut history };
            let (segment, _) = one_segment(folder, &log, &mut look, &mut partition.findings)?;
            partition.end_offset = segment.content.as_ref().map(|content| content.next_offset);
            partition.segments.push(segment);
        }
    }
    Ok(partition)
}

fn has_gaps(segments: &[Segment]) -> bool {
    segments.iter().any(|segment| segment.content.as_ref().is_some_and(|content| content.missing_offsets > 0))
}

/// Offsets that are missing where nothing was compacted. What is damaged has been told already.
fn gap_in_dense(name: &str, segment: &Segment, findings: &[Finding]) -> Option<Finding> {
    let missing = segment.content.as_ref().map_or(0, |content| content.missing_offsets);
    if missing == 0 || findings.iter().any(|finding| finding.is_damage_of(name)) {
        return None;
    }
    let what = format!("{missing} offsets are missing in it, and the log was never compacted");
    Some(Finding::damage(name, what))
}

/// Two segments beside each other.
fn seam(name: &str, end: Offset, base: Offset, is_compacted: bool) -> Option<Finding> {
    if base < end {
        return Some(Finding::damage(
            name,
            format!("begins at offset {base}, and the segment before ends at {end}"),
        ));
    }
    if base == end {
        return None;
    }
    let what = format!("offsets {end} to {base} (exclusive) are missing before it");
    Some(if is_compacted { Finding::note(name, what) } else { Finding::damage(name, what) })
}

/// Whether the segment's indexes are as a broker leaves them that has closed it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Closed {
    Yes,
    Unknown,
}

/// How a segment is looked at.
struct Look<'a> {
    place: Place,
    depth: Depth,
    closed: Closed,
    known: Known,
    history: &'a mut History,
}

fn one_segment(
    folder: &Path,
    file: &SegmentFile,
    look: &mut Look<'_>,
    findings: &mut Vec<Finding>,
) -> Result<(Segment, LeaderEpoch), String> {
    let path = folder.join(file.name());
    let bytes = fs::metadata(&path).map_err(|error| failed("look at", &path, &error))?.len();
    let base = file.offset;
    let of_kind = |kind| SegmentFile { kind, ..*file }.name();
    let decoded = |kind, findings: &mut Vec<Finding>| {
        let name = of_kind(kind);
        match fs::read(folder.join(&name)) {
            Ok(bytes) => Some((name, bytes)),
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => None,
            Err(error) => {
                findings.push(Finding::damage(name, format!("cannot be read: {error}")));
                None
            }
        }
    };
    let offsets = decoded(FileKind::OffsetIndex, findings).and_then(|(name, index)| {
        sound(findings, name, OffsetIndex::decode(base, index.len(), bytes, &index))
    });
    let times = decoded(FileKind::TimeIndex, findings).and_then(|(name, index)| {
        sound(findings, name, TimeIndex::decode(base, index.len(), Offset(i64::MAX), &index))
    });
    let transactions = decoded(FileKind::TxnIndex, findings)
        .and_then(|(name, index)| sound(findings, name, TxnIndex::decode(base, &index)));
    let mut segment = Segment {
        base_offset: base.0,
        bytes,
        offset_index: offsets.as_ref().map(OffsetIndex::len),
        time_index: times.as_ref().map(TimeIndex::len),
        aborted_transactions: transactions.as_ref().map(|index| index.entries().len()),
        content: None,
    };
    if look.depth == Depth::Outline {
        return Ok((segment, LeaderEpoch::NONE));
    }
    let indexes = Indexes { offsets, times };
    let (history, known) = (&mut *look.history, look.known);
    (history.aborted, history.control) = Default::default();
    let told_before = findings.iter().filter(|finding| finding.is_damage()).count();
    let walked = segment::walk(&path, &file.name(), look.place, &indexes, history, look.depth, findings)?;
    // what is damaged has been told, and what describes it fits no more
    if findings.iter().filter(|finding| finding.is_damage()).count() == told_before {
        if look.closed == Closed::Yes && bytes > 0 {
            let stem = file.name().trim_end_matches(".log").to_owned();
            findings.extend(against::reach(
                &stem,
                &indexes,
                TimestampMs(walked.content.max_timestamp),
                bytes,
            ));
        }
        findings.extend(against::transactions(
            &of_kind(FileKind::TxnIndex),
            transactions.as_ref(),
            history,
            known,
        ));
    }
    segment.content = Some(walked.content);
    Ok((segment, walked.last_epoch))
}

/// What was decoded; what is wrong with it is a finding.
fn sound<T>(findings: &mut Vec<Finding>, name: String, decoded: Result<T, Damage>) -> Option<T> {
    match decoded {
        Ok(index) => Some(index),
        Err(damage) => {
            findings.push(Finding::damage(name, damage.0));
            None
        }
    }
}

fn metadata(folder: &Path, findings: &mut Vec<Finding>) -> Option<String> {
    let Ok(text) = fs::read(folder.join(PARTITION_METADATA)) else {
        findings.push(Finding::note(PARTITION_METADATA, "is missing; the next start writes it"));
        return None;
    };
    let decoded = decode_partition_metadata(&String::from_utf8_lossy(&text));
    sound(findings, PARTITION_METADATA.to_owned(), decoded).map(|id| id.to_string())
}

fn snapshot(folder: &Path, file: SegmentFile, partition: &mut Partition) {
    let findings = &mut partition.findings;
    let states = match fs::read(folder.join(file.name())) {
        Ok(bytes) => sound(findings, file.name(), producer_snapshot::decode(&bytes)),
        Err(error) => {
            findings.push(Finding::damage(file.name(), format!("cannot be read: {error}")));
            None
        }
    };
    if let Some(end) = partition.end_offset.filter(|end| file.offset.0 > *end) {
        let what = format!("is of offset {}, and the log ends at {end}", file.offset);
        findings.push(Finding::note(file.name(), what));
    }
    partition
        .snapshots
        .extend(states.map(|states| Snapshot { offset: file.offset.0, producers: states.len() }));
}

/// The epochs, held against the batches, and whether those know a later one.
fn epochs(folder: &Path, last_epoch: LeaderEpoch, told: &[Told], expect: &Expect, partition: &mut Partition) {
    let Ok(text) = fs::read(folder.join(LEADER_EPOCH_CHECKPOINT)) else { return };
    let decoded = EpochCache::decode(&String::from_utf8_lossy(&text));
    let Some(cache) = sound(&mut partition.findings, LEADER_EPOCH_CHECKPOINT.to_owned(), decoded) else {
        return;
    };
    partition.leader_epochs = (cache.entries().iter())
        .map(|entry| Epoch { epoch: entry.epoch.0, start_offset: entry.start.0 })
        .collect();
    if !partition.is_damaged() {
        let log_start = Offset(partition.log_start.unwrap_or(0));
        partition.findings.extend(against::epochs(&cache, told, log_start));
    }
    if last_epoch > cache.last_epoch() {
        let what = format!("does not have epoch {last_epoch} of the last batch");
        partition.findings.push(match expect.is_clean {
            true => Finding::damage(LEADER_EPOCH_CHECKPOINT, what),
            false => Finding::note(LEADER_EPOCH_CHECKPOINT, what + "; the next start adds it"),
        });
    }
}

//! After a crash: every round that counts is written to the segments its batches belong to, before any log is opened,
//! whatever the number of shards is now. Then the logs are recovered as if the batches had been there all along.
//!
//! A replay writes the same bytes to the same places however often it is done, so it may itself be cut off. What lies
//! below a producer snapshot was closed after it was flushed, and may have been changed since (compacted): it is left
//! alone. Batches of deleted topics, and of segments that retention has removed, have no file to go to.

use std::cell::RefCell;
use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::path::{Path, PathBuf};

use super::unplaced;
use crate::log::checkpoint::decode_partition_metadata;
use crate::log::files::{FileKind, FileState, FolderState, JOURNAL_ENDS, JOURNAL_PREFIX};
use crate::log::files::{PARTITION_METADATA, SegmentFile, parse_folder};
use crate::log::journal::{Entry, Kind, Round, encode_file_head, judge, read_file};
use crate::model::{Offset, PartitionId};
use crate::reactor::{self, BLOCK_BYTES, Buf, File, OpenMode, fs};
use crate::storage::again;
use crate::storage::concurrent::Lanes;
use crate::storage::recovery_points::{self, PartitionOffsets};

/// Partitions written side by side.
const CONCURRENT_LOGS: usize = 16;
/// One write.
const PIECE_BYTES: usize = 4 << 20;

/// A journal file as found.
struct Found {
    bytes: Vec<u8>,
    rounds: Vec<Round>,
}

/// Batches of one partition, in order: what they are and where their bytes are.
pub type Pieces<'a> = Vec<(Entry, &'a [u8])>;

/// Replays every journal of the directory, empties those of the first `shards` shards, which go on with them, and removes
/// the others. The caller is the only one at work in the directory.
pub async fn replay(directory: &Path, shards: usize) -> io::Result<()> {
    let mut journals = list(directory).await?;
    let mut ends = PartitionOffsets::new();
    let mut batches = 0;
    for (shard, paths) in &journals {
        // one shard's journal in memory at a time
        let files = load(paths).await?;
        batches += replay_one(directory, *shard, &files, &mut ends).await?;
    }
    if !ends.is_empty() {
        // Durable before the journals are emptied: what they held is not to be cut, however this boot ends.
        recovery_points::write_ends(&directory.join(JOURNAL_ENDS), &ends).await?;
    }
    let left = journals.split_off(&u16::try_from(shards).unwrap_or(u16::MAX));
    for path in journals.into_values().flatten() {
        empty(&path).await?;
    }
    for path in left.into_values().flatten() {
        // of shards that are no more, or have no journal any more; emptied first, for its name may come back
        empty(&path).await?;
        fs::remove_file(&path).await?;
    }
    if batches > 0 {
        tracing::info!(directory = %directory.display(), bytes = batches, "replayed the commit journal");
    }
    Ok(())
}

/// The journal files by shard, in the order of their numbers.
async fn list(directory: &Path) -> io::Result<BTreeMap<u16, Vec<PathBuf>>> {
    let mut found: Vec<(u16, u32, PathBuf)> = Vec::new();
    for entry in fs::list(directory).await? {
        let numbers = entry.name.strip_prefix(JOURNAL_PREFIX).and_then(|rest| rest.split_once('.'));
        if let Some((shard, number)) = numbers
            && let (Ok(shard), Ok(number)) = (shard.parse(), number.parse())
            && !entry.is_dir
        {
            found.push((shard, number, directory.join(&entry.name)));
        }
    }
    found.sort_unstable();
    let mut journals = BTreeMap::<u16, Vec<PathBuf>>::new();
    found.into_iter().for_each(|(shard, _, path)| journals.entry(shard).or_default().push(path));
    Ok(journals)
}

async fn load(paths: &[PathBuf]) -> io::Result<Vec<Found>> {
    let mut files = Vec::new();
    for path in paths {
        let bytes = fs::read(path).await?;
        let (bytes, rounds) = reactor::blocking(move || {
            let rounds = read_file(&bytes);
            (bytes, rounds)
        })
        .await;
        let rounds = rounds.unwrap_or_else(|damage| {
            tracing::error!(
                file = %path.display(),
                %damage,
                "what was acknowledged last may be lost: restore the log directory from a copy if there is one"
            );
            Vec::new()
        });
        files.push(Found { bytes, rounds });
    }
    Ok(files)
}

/// Writes one shard's rounds to their segments and notes where what was flushed ends. How many bytes of batches it wrote.
async fn replay_one(
    directory: &Path,
    shard: u16,
    files: &[Found],
    ends: &mut PartitionOffsets,
) -> io::Result<u64> {
    let rounds: Vec<Vec<Round>> = files.iter().map(|file| file.rounds.clone()).collect();
    let judgement = judge(&rounds);
    for lost in &judgement.lost {
        tracing::error!(
            directory = %directory.display(),
            journal = shard,
            first_round = lost.start(),
            last_round = lost.end(),
            "the commit journal is damaged: batches that were acknowledged are lost; restore the log directory from a \
             copy if there is one, and look after the disk"
        );
    }
    let mut partitions = BTreeMap::<PartitionId, Pieces<'_>>::new();
    for &(file, index) in &judgement.rounds {
        let round = &rounds[file][index];
        for (entry, place) in &round.entries {
            let pieces = partitions.entry(entry.partition).or_default();
            if entry.kind == Kind::Truncation {
                // what stayed is flushed in its segments, and later entries may lie where others were cut
                pieces.clear();
                ends.remove(&entry.partition);
                continue;
            }
            pieces.push((*entry, &files[file].bytes[place.clone()]));
            if round.sequence <= judgement.flushed && entry.kind == Kind::Settled {
                let end = ends.entry(entry.partition).or_insert(entry.end);
                *end = entry.end.max(*end);
            }
        }
    }
    partitions.retain(|_, pieces| !pieces.is_empty());
    if partitions.is_empty() {
        return Ok(0);
    }
    let (folders, untold) = folders(directory).await?;
    for (partition, pieces) in &partitions {
        if untold.contains(&partition.index) && !folders.contains_key(partition) {
            unplaced::keep(directory, *partition, pieces).await?;
        }
    }
    let written = RefCell::new(Ok(0));
    let mut lanes = Lanes::new(CONCURRENT_LOGS);
    let (written_by, folders) = (&written, &folders);
    let work = partitions.iter().filter_map(|(partition, pieces)| {
        // a deleted topic's folder has another name
        let folder = folders.get(partition)?;
        Some(async move {
            let outcome = write_pieces(folder, pieces).await;
            let total = &mut *written_by.borrow_mut();
            match (outcome, total.as_mut()) {
                (Ok(bytes), Ok(total)) => *total += bytes,
                (Err(error), Ok(_)) => *total = Err(error),
                (_, Err(_)) => {}
            }
        })
    });
    lanes.run(work).await;
    written.into_inner()
}

/// The folders of the partitions that are there, and the indexes of partitions in folders that do not say whose they are.
async fn folders(directory: &Path) -> io::Result<(BTreeMap<PartitionId, PathBuf>, BTreeSet<i32>)> {
    let (mut folders, mut untold) = (BTreeMap::new(), BTreeSet::new());
    for entry in fs::list(directory).await? {
        let Some(parsed) = parse_folder(&entry.name).filter(|parsed| parsed.state == FolderState::Live)
        else {
            continue;
        };
        let path = directory.join(&entry.name);
        let text = fs::read(&path.join(PARTITION_METADATA)).await.unwrap_or_default();
        match decode_partition_metadata(&String::from_utf8_lossy(&text)) {
            Ok(topic) => {
                folders.insert(PartitionId { topic, index: parsed.partition }, path);
            }
            Err(damage) => {
                tracing::warn!(folder = %path.display(), %damage, "the folder does not say which topic's it is");
                untold.insert(parsed.partition);
            }
        }
    }
    Ok((folders, untold))
}

/// Writes what the journal has of one partition, and flushes it.
pub async fn write_pieces(folder: &Path, pieces: &[(Entry, &[u8])]) -> io::Result<u64> {
    let mut closed = Offset::ZERO;
    let mut segments = Vec::new();
    for entry in fs::list(folder).await? {
        match SegmentFile::parse(&entry.name) {
            Some(SegmentFile { offset, kind: FileKind::Snapshot, state: FileState::Live }) => {
                closed = closed.max(offset);
            }
            Some(SegmentFile { offset, kind: FileKind::Log, state: FileState::Live }) => {
                segments.push(offset)
            }
            _ => {}
        }
    }
    let mut bytes = 0;
    let open = pieces.iter().take_while(|(entry, _)| entry.base < closed).count();
    for pieces in pieces[open..].chunk_by(|(one, _), (next, _)| one.segment == next.segment) {
        let segment = pieces[0].0.segment;
        if segments.contains(&segment) {
            let path = folder.join(SegmentFile::live(segment, FileKind::Log).name());
            bytes += write_segment(&path, pieces).await?;
        }
    }
    Ok(bytes)
}

/// Writes what the journal has of one segment, and flushes it.
async fn write_segment(path: &Path, pieces: &[(Entry, &[u8])]) -> io::Result<u64> {
    let file = File::open(path, OpenMode::ReadWrite).await?;
    let (mut bytes, mut rest) = (0, pieces);
    while !rest.is_empty() {
        let (run, others) = rest.split_at(adjacent(rest));
        bytes += write_run(&file, run).await?;
        rest = others;
    }
    // the file may have been this long before, and that not be durable
    again::set_length(&file, file.len().await?).await?;
    file.sync_data().await?;
    Ok(bytes)
}

/// How many of the first pieces lie one behind the other in one segment, up to a good size for a write.
fn adjacent(pieces: &[(Entry, &[u8])]) -> usize {
    let Some((first, _)) = pieces.first() else { return 0 };
    let mut next = u64::from(first.position);
    let mut count = 0;
    for (entry, bytes) in pieces {
        let large = next - u64::from(first.position) + bytes.len() as u64 > PIECE_BYTES as u64;
        if entry.segment != first.segment || u64::from(entry.position) != next || (large && count > 0) {
            break;
        }
        next += bytes.len() as u64;
        count += 1;
    }
    count
}

/// Writes adjacent pieces; what the first and the last block hold beside them stays.
async fn write_run(file: &File, run: &[(Entry, &[u8])]) -> io::Result<u64> {
    const BLOCK: u64 = BLOCK_BYTES as u64;
    let Some((first, _)) = run.first() else { return Ok(0) };
    let bytes: usize = run.iter().map(|(_, bytes)| bytes.len()).sum();
    let begin = u64::from(first.position);
    let end = begin + bytes as u64;
    let start = begin / BLOCK * BLOCK;
    let length = usize::try_from(end.next_multiple_of(BLOCK) - start).map_err(io::Error::other)?;
    let mut buf = Buf::new(length);
    let out = buf.as_mut_slice();
    for (at, position) in [(0, start), (length - BLOCK_BYTES, start + (length - BLOCK_BYTES) as u64)] {
        let block = file.read(position, BLOCK_BYTES).await?;
        let there = block.as_slice();
        out[at..at + there.len()].copy_from_slice(there);
        out[at + there.len()..at + BLOCK_BYTES].fill(0);
    }
    let mut at = (begin - start) as usize;
    for (_, bytes) in run {
        out[at..at + bytes.len()].copy_from_slice(bytes);
        at += bytes.len();
    }
    file.write(&buf.freeze(), start).await?;
    Ok(bytes as u64)
}

/// Gives the file a new life, of which it has no rounds.
async fn empty(path: &Path) -> io::Result<()> {
    let file = File::open(path, OpenMode::ReadWrite).await?;
    let mut head = Buf::new(BLOCK_BYTES);
    head.as_mut_slice().copy_from_slice(&encode_file_head(reactor::random_u64()));
    file.write(&head.freeze(), 0).await?;
    file.sync_data().await
}

//! A segment's transaction index, made from the batches when the file is missing, short or corrupt. Most segments have
//! none: there is a file only where a transaction was aborted.
//!
//! Who has begun what is known from the newest producer snapshot at or below the segment; segments between the two are
//! read, too.

use std::io;
use std::path::Path;

use super::scan;
use crate::log::control::replay;
use crate::log::files::{FileKind, FileState, SegmentFile};
use crate::log::producer_snapshot;
use crate::log::producer_state::ProducerStates;
use crate::log::recovery::{Offsets, Reason, Start};
use crate::log::txn_index::TxnIndex;
use crate::model::{LeaderEpoch, Offset};
use crate::reactor::{File, OpenMode, fs};

/// What the file says. Empty if there is none; `None`: it is damaged, or tells of markers outside the segment.
pub async fn load(folder: &Path, base: Offset, end: Offset) -> io::Result<Option<TxnIndex>> {
    let bytes = match fs::read(&folder.join(name(base))).await {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Some(TxnIndex::default())),
        read => read?,
    };
    let index = TxnIndex::decode(base, &bytes).ok();
    Ok(index.filter(|index| index.entries().last().is_none_or(|last| last.last_offset < end)))
}

/// Makes the index of the segment that begins at `base` from its batches, and writes it if the file does not say that.
/// `segments`: base and bytes of all of the log's, ascending.
pub async fn rebuild(
    folder: &Path,
    segments: &[(Offset, u64)],
    base: Offset,
    end: Offset,
) -> io::Result<TxnIndex> {
    let made = make(folder, segments, base).await?;
    if load(folder, base, end).await?.as_ref() != Some(&made) {
        write(folder, base, &made).await?;
    }
    Ok(made)
}

/// Durable when it returns, but for the removal of a file that is to have nothing in it.
pub async fn write(folder: &Path, base: Offset, index: &TxnIndex) -> io::Result<()> {
    let path = folder.join(name(base));
    if !index.entries().is_empty() {
        let mut bytes = Vec::new();
        index.encode(0, &mut bytes);
        return fs::write_durable(&path, bytes).await;
    }
    match fs::remove_file(&path).await {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
        _ => Ok(()),
    }
}

/// The index of the segment that begins at `base`, from its batches.
pub async fn make(folder: &Path, segments: &[(Offset, u64)], base: Offset) -> io::Result<TxnIndex> {
    let (from, mut producers) = producers_at(folder, base).await?;
    let first = segments.partition_point(|&(base, _)| base <= from).saturating_sub(1);
    let mut index = TxnIndex::default();
    for &(segment, bytes) in segments[first..].iter().take_while(|&&(segment, _)| segment <= base) {
        let path = folder.join(SegmentFile::live(segment, FileKind::Log).name());
        let file = File::open(&path, OpenMode::Read).await?;
        let (mut position, mut next_offset) = (0, segment);
        loop {
            let start = Start {
                base_offset: segment,
                position,
                next_offset,
                last_epoch: LeaderEpoch::NONE,
                offsets: Offsets::Gaps,
                max_batch_bytes: u64::from(u32::MAX),
            };
            let verdict = scan::scan_with_markers(&file, start, bytes, |header, _, marker| {
                if header.base_offset < from {
                    return;
                }
                if let Some(aborted) = replay(&mut producers, header, marker).filter(|_| segment == base) {
                    index.append(aborted);
                }
            })
            .await?;
            if verdict.reason == Reason::CleanEnd {
                break;
            }
            // what damaged batches held is not known
            let next = scan::next_good(&file, verdict.valid_bytes, bytes, verdict.next_offset).await?;
            let Some((at, _)) = next else { break };
            (position, next_offset) = (at, verdict.next_offset);
        }
    }
    Ok(index)
}

/// The newest snapshot at or below `base` that can be read, and its offset.
async fn producers_at(folder: &Path, base: Offset) -> io::Result<(Offset, ProducerStates)> {
    let files = fs::list(folder).await?;
    let files = files.iter().filter_map(|entry| SegmentFile::parse(&entry.name));
    let snapshots = files.filter(|file| file.kind == FileKind::Snapshot && file.state == FileState::Live);
    let mut offsets: Vec<Offset> =
        snapshots.map(|file| file.offset).filter(|offset| *offset <= base).collect();
    offsets.sort_unstable();
    for offset in offsets.into_iter().rev() {
        let bytes = fs::read(&folder.join(SegmentFile::live(offset, FileKind::Snapshot).name())).await?;
        if let Ok(producers) = producer_snapshot::decode(&bytes) {
            return Ok((offset, producers));
        }
    }
    Ok((Offset::ZERO, ProducerStates::default()))
}

fn name(base: Offset) -> String {
    SegmentFile::live(base, FileKind::TxnIndex).name()
}

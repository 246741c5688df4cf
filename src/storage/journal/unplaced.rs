//! Batches that a replay could not put in their place, because the folder they belong to cannot be told: its
//! `partition.metadata` is missing or damaged. They are set aside, flushed, before the journal is emptied, in a file for
//! each partition, itself in the journal's format (`corelane inspect` reads it). When the partition is opened, metadata
//! says whose folder it is: they are put in their place then, and the file goes.

use std::collections::BTreeSet;
use std::io;
use std::path::{Path, PathBuf};

use super::replay::{Pieces, write_pieces};
use crate::log::files::UNPLACED_PREFIX;
use crate::log::journal::{Entry, RoundWriter, encode_file_head, read_file, round_bytes};
use crate::model::PartitionId;
use crate::reactor::{self, fs};

/// So many files, one for each partition, each as large as the journal at most. A directory in which more folders are
/// damaged than that has other worries.
const FILES_MAX: usize = 16;
/// Entries' bytes in one round.
const ROUND_BYTES: usize = 1 << 20;

fn path(directory: &Path, partition: PartitionId) -> PathBuf {
    directory.join(format!("{UNPLACED_PREFIX}{}.{}", partition.topic, partition.index))
}

/// Sets the batches aside, durably. The same ones may be set aside again, after a crash.
pub async fn keep(directory: &Path, partition: PartitionId, pieces: &Pieces<'_>) -> io::Result<()> {
    let path = path(directory, partition);
    let bytes: usize = pieces.iter().map(|(_, bytes)| bytes.len()).sum();
    let entries = fs::list(directory).await?;
    let there: BTreeSet<&str> = entries.iter().map(|entry| entry.name.as_str()).collect();
    let count = there.iter().filter(|name| name.starts_with(UNPLACED_PREFIX)).count();
    let is_there = path.file_name().and_then(|name| name.to_str()).is_some_and(|name| there.contains(name));
    if count >= FILES_MAX && !is_there {
        tracing::error!(
            directory = %directory.display(), topic = %partition.topic, partition = partition.index, bytes,
            "batches of the commit journal have no place and are lost: {FILES_MAX} partitions' batches are set aside \
             already; mend or remove the folders without a readable partition.metadata, then the {UNPLACED_PREFIX} files"
        );
        return Ok(());
    }
    fs::write_durable(&path, encode(pieces)).await?;
    tracing::error!(
        directory = %directory.display(), topic = %partition.topic, partition = partition.index, bytes,
        set_aside_as = %path.display(),
        "batches of the commit journal belong to a folder whose partition.metadata cannot be read: they are set aside, and \
         put in their place when the partition is opened; if it never is, its topic is gone: remove the file"
    );
    Ok(())
}

/// As a journal file.
fn encode(pieces: &Pieces<'_>) -> Vec<u8> {
    let life = reactor::random_u64();
    let mut file = encode_file_head(life).to_vec();
    let (mut rest, mut rounds) = (pieces.as_slice(), Vec::new());
    while !rest.is_empty() {
        let mut bytes = 0;
        let fits = rest.iter().take_while(|(_, piece)| {
            bytes += piece.len();
            bytes <= ROUND_BYTES
        });
        let (round, others) = rest.split_at(fits.count().max(1));
        rounds.push(round);
        rest = others;
    }
    let last = rounds.len() as u64;
    for (sequence, round) in (1..).zip(rounds) {
        let begin = file.len();
        let bytes = round.iter().map(|(_, piece)| piece.len()).sum();
        file.resize(begin + round_bytes(round.len(), bytes), 0);
        let mut writer = RoundWriter::new(&mut file[begin..]);
        for (entry, piece) in round {
            writer.entry(entry, piece.len()).1.copy_from_slice(piece);
        }
        let unsealed = writer.done();
        unsealed.seal(&mut file[begin..], life, sequence, last);
    }
    file
}

/// Puts what was set aside for the partition into its folder, which has been told apart now, and flushes it. Whether there
/// was anything.
///
/// # Errors
/// It cannot be read or written; it is still set aside.
pub async fn place(directory: &Path, partition: PartitionId, folder: &Path) -> io::Result<bool> {
    let path = path(directory, partition);
    let bytes = match fs::read(&path).await {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(false),
        read => read?,
    };
    let rounds = match read_file(&bytes) {
        Ok(rounds) => rounds,
        Err(damage) => {
            tracing::error!(file = %path.display(), %damage, "batches that were set aside are lost");
            return Ok(false);
        }
    };
    let mine = rounds.iter().flat_map(|round| &round.entries);
    let pieces: Vec<(Entry, &[u8])> = mine.map(|(entry, place)| (*entry, &bytes[place.clone()])).collect();
    let written = write_pieces(folder, &pieces).await?;
    fs::remove_file(&path).await?;
    fs::sync_dir(directory).await?;
    tracing::info!(folder = %folder.display(), bytes = written, "batches that were set aside are in their place");
    Ok(true)
}

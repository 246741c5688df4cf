//! Recovery points: per log the offset below which everything is flushed and described. After an unclean stop only
//! what lies at or above it may be cut.
//!
//! Each shard writes one file per log directory, `recovery-points.<shard>`, in the format of Kafka's
//! `recovery-point-offset-checkpoint` but with topic ids for names: a deleted topic's point must never count for a new
//! one of the same name. At boot the files of all shards are read, whatever the number of shards is now, and the lowest
//! point of a partition counts: too low only means more to scan. A producer snapshot in the partition's folder is a
//! recovery point too (see [`close_segment`](super::roll::close_segment)), so a lost file costs one segment's scan.
//! Kafka's own file is not kept: after a clean stop it would not be read, after an unclean one Kafka scans from 0.

use std::collections::BTreeMap;
use std::io;
use std::path::{Path, PathBuf};
use std::rc::Rc;
use std::time::Duration;

use super::directory::Directory;
use super::shard::Shard;
use super::{Durability, Error, producers, roll};
use crate::log::checkpoint::{PartitionOffset, decode_offsets, encode_offsets};
use crate::log::files::{
    CLEANED_OFFSETS_PREFIX, JOURNAL_ENDS, LOG_STARTS_PREFIX, RECOVERY_POINTS_PREFIX, TEMPORARY_SUFFIX,
};
use crate::model::{Offset, PartitionId, TopicId};
use crate::reactor::{self, fs};

/// What one of a shard's files tells: an offset of each partition.
pub type PartitionOffsets = BTreeMap<PartitionId, Offset>;

/// Writes the points every checkpoint interval while the shard runs.
pub async fn keep(shard: Rc<Shard>) {
    let interval = Duration::from_millis(shard.config.checkpoint_interval_ms.max(1));
    let mut next = reactor::now().after(interval);
    while !shard.stopping.get() {
        reactor::sleep_until(next).await;
        if shard.stopping.get() {
            return;
        }
        next = reactor::now().after(interval);
        let _background = shard.background();
        producers::look(&shard).await;
        for directory in shard.directories.values() {
            flush_written(&shard, directory).await;
            shard.logs_of(directory).iter().for_each(roll::write_moved_epochs);
            // an error takes the directory offline, which says everything
            let _ = write(&shard, directory).await;
        }
    }
}

/// Logs that are not flushed with every round are flushed now, so that their recovery point moves too.
async fn flush_written(shard: &Rc<Shard>, directory: &Directory) {
    for log in shard.logs_of(directory) {
        let lags = {
            let inner = log.borrow();
            inner.config.durability == Durability::Written && inner.flushed_end < inner.durable_end
        };
        if lags {
            let _ = log.flush().await;
        }
    }
}

/// Writes this shard's file if a point has moved.
pub async fn write(shard: &Rc<Shard>, directory: &Rc<Directory>) -> Result<(), Error> {
    if directory.is_offline() {
        return Err(Error::Offline);
    }
    if shard.booting.get() {
        return Ok(());
    }
    match write_now(shard, directory).await {
        // An older point is as true, it only means more to scan.
        Err(Error::Full) => Ok(()),
        written => written,
    }
}

/// As [`write`], after a point has come down: that must be on disk, and no older file say otherwise.
///
/// # Errors
/// `Full` or `Offline`: it is not.
pub async fn write_lowered(shard: &Rc<Shard>, directory: &Rc<Directory>) -> Result<(), Error> {
    // its name goes with the next flush of the folder, which is the one below
    forget_ends(&directory.path).await;
    directory.written_points.borrow_mut().take();
    write_now(shard, directory).await
}

/// A log comes from another directory, flushed and described up to `point`: durable when it returns.
pub async fn arrive(
    shard: &Rc<Shard>,
    directory: &Rc<Directory>,
    partition: PartitionId,
    point: Offset,
) -> Result<(), Error> {
    found(directory).await;
    if let Some(points) = directory.found_points.borrow_mut().as_mut() {
        Rc::make_mut(points).insert(partition, point);
    }
    directory.kept_points.borrow_mut().insert(partition, point);
    write_now(shard, directory).await
}

/// The log is not there any more: what the next write leaves out.
pub fn leave(directory: &Directory, partition: PartitionId) {
    directory.kept_points.borrow_mut().remove(&partition);
    if let Some(points) = directory.found_points.borrow_mut().as_mut() {
        Rc::make_mut(points).remove(&partition);
    }
}

async fn write_now(shard: &Rc<Shard>, directory: &Rc<Directory>) -> Result<(), Error> {
    let _turn = directory.points_turn.take().await;
    if directory.is_offline() {
        return Err(Error::Offline);
    }
    // Those of logs that could not be opened stay: what was flushed then still counts when they can be.
    let mut points = directory.kept_points.borrow().clone();
    points.extend(shard.logs_of(directory).iter().map(|log| (log.partition, log.borrow().recovery_point())));
    if directory.written_points.borrow().as_ref() == Some(&points) {
        return Ok(());
    }
    let text = encode(&points);
    let path = directory.path.join(format!("{RECOVERY_POINTS_PREFIX}{}", reactor::shard_id().0));
    if let Err(error) = fs::write_durable(&path, text.into_bytes()).await {
        if reactor::is_shortage(&error) {
            tracing::warn!(path = %path.display(), %error, "cannot write the recovery points now");
            return Err(Error::Full);
        }
        directory.fail(shard, "cannot write the recovery points", &error);
        return Err(Error::Offline);
    }
    *directory.written_points.borrow_mut() = Some(points);
    Ok(())
}

/// The points found at boot.
pub async fn found(directory: &Directory) -> Rc<PartitionOffsets> {
    if let Some(points) = directory.found_points.borrow().as_ref() {
        return Rc::clone(points);
    }
    let points = Rc::new(load(&directory.path).await);
    Rc::clone(directory.found_points.borrow_mut().get_or_insert(points))
}

/// The lowest point of each partition over all shards' files, or where what was replayed from the journal ends, if that is
/// higher. What cannot be read is said and left out.
async fn load(directory: &Path) -> PartitionOffsets {
    let mut points = lowest(directory).await;
    let ends = match fs::read(&directory.join(JOURNAL_ENDS)).await {
        Ok(bytes) => decode(&bytes).unwrap_or_default(),
        Err(_) => PartitionOffsets::new(),
    };
    for (partition, end) in ends {
        let point = points.entry(partition).or_insert(end);
        *point = end.max(*point);
    }
    points
}

async fn lowest(directory: &Path) -> PartitionOffsets {
    let mut points = PartitionOffsets::new();
    for (path, decoded) in files(directory, RECOVERY_POINTS_PREFIX).await {
        match decoded {
            Ok(found) => {
                for (partition, offset) in found {
                    let point = points.entry(partition).or_insert(offset);
                    *point = offset.min(*point);
                }
            }
            Err(reason) => {
                tracing::warn!(file = %path.display(), reason, "recovery points are not used: more is scanned");
            }
        }
    }
    points
}

/// The files of all shards whose names begin with `prefix`: what each says, or why it cannot be read.
pub async fn files(directory: &Path, prefix: &str) -> Vec<(PathBuf, Result<PartitionOffsets, String>)> {
    let mut files = Vec::new();
    for entry in fs::list(directory).await.unwrap_or_default() {
        if !entry.name.starts_with(prefix) || entry.name.ends_with(TEMPORARY_SUFFIX) {
            continue;
        }
        let path = directory.join(&entry.name);
        let decoded = match fs::read(&path).await {
            Ok(bytes) => decode(&bytes),
            Err(error) => Err(error.to_string()),
        };
        files.push((path, decoded));
    }
    files
}

/// Where what was replayed from the journal ends, which was flushed there: it counts like a recovery point until the boot
/// is done, and [`forget_ends`] removes the file.
pub async fn write_ends(path: &Path, ends: &PartitionOffsets) -> io::Result<()> {
    fs::write_durable(path, encode(ends).into_bytes()).await
}

/// Every log that could be opened was recovered.
pub async fn forget_ends(directory: &Path) {
    let path = directory.join(JOURNAL_ENDS);
    if fs::exists(&path).await.unwrap_or(false) {
        // If it stays, it says of the next start's logs what is true of them.
        let _ = fs::remove_file(&path).await;
    }
}

/// Removes the files of shards that are no more, log starts and cleaned offsets too; called when every log of theirs is in
/// another shard's file.
pub async fn remove_stale(directory: &Path) {
    for entry in fs::list(directory).await.unwrap_or_default() {
        let number = [RECOVERY_POINTS_PREFIX, LOG_STARTS_PREFIX, CLEANED_OFFSETS_PREFIX]
            .into_iter()
            .find_map(|prefix| entry.name.strip_prefix(prefix));
        let shard = number.and_then(|shard| shard.parse::<usize>().ok());
        if shard.is_some_and(|shard| shard >= reactor::shard_count()) {
            let _ = fs::remove_file(&directory.join(&entry.name)).await;
        }
    }
}

pub fn encode(points: &PartitionOffsets) -> String {
    let entries: Vec<PartitionOffset> = points
        .iter()
        .map(|(id, &offset)| PartitionOffset { topic: id.topic.to_string(), partition: id.index, offset })
        .collect();
    encode_offsets(&entries)
}

fn decode(bytes: &[u8]) -> Result<PartitionOffsets, String> {
    let text = std::str::from_utf8(bytes).map_err(|error| error.to_string())?;
    let mut points = PartitionOffsets::new();
    for entry in decode_offsets(text).map_err(|damage| damage.to_string())? {
        let topic = entry.topic.parse::<TopicId>()?;
        points.insert(PartitionId { topic, index: entry.partition }, entry.offset);
    }
    Ok(points)
}

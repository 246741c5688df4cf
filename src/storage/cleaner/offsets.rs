//! How far each log is clean, on disk: what Kafka keeps in `cleaner-offset-checkpoint`.
//!
//! Each shard writes one file per log directory, `cleaned-offsets.<shard>`, in the format of Kafka's checkpoint but with
//! topic ids for names. At boot the files of all shards are read, whatever the number of shards is now, and the lowest
//! offset of a partition counts: too low only means cleaning again. That a log has an entry says more: it may have
//! gaps between its offsets, whatever its topic's policy is by now. So the entry is there before the first segment
//! is replaced.

use std::cell::RefCell;
use std::path::Path;
use std::rc::Rc;

use super::Stop;
use crate::log::files::CLEANED_OFFSETS_PREFIX;
use crate::model::{Offset, PartitionId};
use crate::reactor::{self, fs};
use crate::storage::directory::Directory;
use crate::storage::recovery_points::{self, PartitionOffsets};
use crate::storage::shard::Shard;
use crate::storage::state::LogState;

/// One directory's, on one shard.
#[derive(Default)]
pub struct CleanedOffsets {
    /// As found at boot; loaded by the first log that needs it.
    found: RefCell<Option<Rc<PartitionOffsets>>>,
    /// Of this shard's logs, those included that could not be opened.
    current: RefCell<PartitionOffsets>,
    written: RefCell<PartitionOffsets>,
}

impl CleanedOffsets {
    /// Exclusive.
    pub fn of(&self, partition: PartitionId) -> Option<Offset> {
        self.current.borrow().get(&partition).copied()
    }

    /// The log ends at `end` now. On disk with what is written next; a higher offset there is as good until then, for the
    /// log does not reach it.
    pub fn lower(&self, partition: PartitionId, end: Offset) {
        if let Some(offset) = self.current.borrow_mut().get_mut(&partition) {
            *offset = end.min(*offset);
        }
    }

    /// The log is deleted, or has left for another directory.
    pub fn forget(&self, partition: PartitionId) {
        self.current.borrow_mut().remove(&partition);
    }
}

/// A log of this shard is about to be opened: what was found of it at boot.
pub async fn take(directory: &Directory, partition: PartitionId) -> Option<Offset> {
    let cleaned = &directory.cleaned;
    if cleaned.found.borrow().is_none() {
        let found = Rc::new(load(&directory.path).await);
        cleaned.found.borrow_mut().get_or_insert(found);
    }
    let found = cleaned.found.borrow().as_ref().and_then(|found| found.get(&partition).copied());
    let current = cleaned.of(partition).or(found)?;
    cleaned.current.borrow_mut().insert(partition, current);
    Some(current)
}

/// Notes durably how far the log is clean.
pub async fn note(log: &LogState, offset: Offset) -> Result<(), Stop> {
    let cleaned = &log.directory.cleaned;
    cleaned.current.borrow_mut().insert(log.partition, offset);
    write(&log.shard, &log.directory).await
}

/// The log comes from another directory, where it was clean up to `offset`; durable when it returns.
pub async fn arrive(
    shard: &Rc<Shard>,
    directory: &Directory,
    partition: PartitionId,
    offset: Option<Offset>,
) -> Result<(), Stop> {
    let Some(offset) = offset else { return Ok(()) };
    directory.cleaned.current.borrow_mut().insert(partition, offset);
    write(shard, directory).await
}

/// Writes this shard's file if it says something else.
pub async fn write(shard: &Rc<Shard>, directory: &Directory) -> Result<(), Stop> {
    if directory.is_offline() {
        return Err(Stop::Gone);
    }
    let current = directory.cleaned.current.borrow().clone();
    if *directory.cleaned.written.borrow() == current {
        return Ok(());
    }
    let path = directory.path.join(format!("{CLEANED_OFFSETS_PREFIX}{}", reactor::shard_id().0));
    let text = recovery_points::encode(&current).into_bytes();
    let needed_bytes = text.len() as u64;
    if let Err(error) = fs::write_durable(&path, text).await {
        if reactor::is_shortage(&error) {
            return Err(Stop::NoRoom { needed_bytes });
        }
        directory.fail(shard, "cannot write the cleaned offsets", &error);
        return Err(Stop::Gone);
    }
    *directory.cleaned.written.borrow_mut() = current;
    Ok(())
}

/// The lowest offset of each partition over all shards' files. What cannot be read is said and left out.
async fn load(directory: &Path) -> PartitionOffsets {
    let mut offsets = PartitionOffsets::new();
    for (path, decoded) in recovery_points::files(directory, CLEANED_OFFSETS_PREFIX).await {
        match decoded {
            Ok(found) => {
                for (partition, offset) in found {
                    let lowest = offsets.entry(partition).or_insert(offset);
                    *lowest = offset.min(*lowest);
                }
            }
            Err(reason) => {
                tracing::warn!(file = %path.display(), reason, "cleaned offsets are not used: logs are compacted again");
            }
        }
    }
    offsets
}

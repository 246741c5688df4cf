//! The ends of a log: a clean stop, and deletion.

use std::path::{Path, PathBuf};
use std::rc::Rc;

use super::concurrent::Lanes;
use super::directory::Directory;
use super::roll::{self, close_segment};
use super::shard::{Background, Shard};
use super::state::{EndState, HandOver, LogState, Status};
use super::{Error, Log, cleaner, drain, log_starts, recovery_points, relocate};
use crate::log::files::{FolderState, parse_folder, renamed_folder_name};
use crate::log::producer_snapshot;
use crate::model::ShardId;
use crate::reactor::{self, fs};

/// Logs closed side by side at a stop.
const CONCURRENT_LOGS: usize = 16;

/// See [`Storage::stop`](super::Storage::stop).
pub async fn stop(shard: &Rc<Shard>) -> Result<(), Error> {
    shard.stopping.set(true);
    relocate::stop(shard).await;
    let logs: Vec<Rc<LogState>> = shard.logs.borrow().values().cloned().collect();
    for log in &logs {
        let mut inner = log.borrow_mut();
        if inner.status == Status::Open {
            inner.status = Status::Stopping;
        }
    }
    for log in &logs {
        log.schedule();
        log.idle().await;
    }
    let mut lanes = Lanes::new(CONCURRENT_LOGS);
    lanes.run(logs.iter().map(|log| close(shard, log))).await;
    shard.background_ended().await;
    for directory in shard.directories.values() {
        if let Some(journal) = directory.journal.as_ref().filter(|_| !directory.is_offline())
            && let Err(error) = journal.empty().await
        {
            directory.fail(shard, "cannot empty the commit journal", &error);
        }
        let starts = log_starts::write_last(shard, directory).await;
        let cleaned = cleaner::offsets::write(shard, directory).await.is_ok();
        let written = recovery_points::write(shard, directory).await.is_ok() && starts.is_ok() && cleaned;
        // Shard 0 is the last to stop: what it finds of other numbers of shards is in the files of this one now.
        if written && reactor::shard_id() == ShardId::ZERO && !shard.booting.get() {
            recovery_points::remove_stale(&directory.path).await;
        }
    }
    shard.stopped.set(true);
    for log in &logs {
        log.borrow_mut().status = Status::Closed;
        log.drop_pending();
    }
    shard.logs.borrow_mut().clear();
    for directory in shard.directories.values() {
        directory.work.notify();
    }
    if shard.directories.values().any(|directory| directory.is_offline()) {
        return Err(Error::Offline);
    }
    Ok(())
}

/// Leaves the log's folder so that the next start need not scan it. Untouched logs cost nothing.
async fn close(shard: &Rc<Shard>, log: &Rc<LogState>) {
    if drain::drain(log).await.is_err() {
        return;
    }
    let touched = log.borrow().touched;
    if !touched {
        // an error takes the directory offline, which says everything
        let _ = roll::write_epochs(log).await;
    }
    let (segment, end, state) = {
        let inner = log.borrow();
        if log.directory.is_offline() || inner.status == Status::Closed || !inner.touched {
            return;
        }
        let state =
            EndState { snapshot: producer_snapshot::encode(&inner.producers), epochs: inner.epochs.encode() };
        (Rc::clone(&inner.committing), inner.end, state)
    };
    match close_segment(&log.directory, &log.folder, &segment, end, state).await {
        Ok(()) => {
            let inner = &mut *log.borrow_mut();
            inner.flushed_end = inner.durable_end;
        }
        Err(error) => log.directory.fail(shard, &format!("{}: cannot close", log.name), &error),
    }
}

/// See [`Storage::delete`](super::Storage::delete).
pub async fn delete(shard: &Rc<Shard>, log: &Log) -> Result<(), Error> {
    relocate::forget(shard, log.partition());
    let log = &settled(log).await;
    {
        let mut inner = log.borrow_mut();
        if inner.status == Status::Closed {
            return Err(Error::Closed);
        }
        inner.status = Status::Closed;
    }
    log.drop_pending();
    log.idle().await;
    // Closed before it is removed: the last to let go of a removed file gives its blocks back, which takes a while, and is
    // the blocking pool's then. Where this shard was, 5,000 partitions of one request stopped it for half a second.
    log.borrow().segments.iter().for_each(|segment| segment.drop_file());
    log.borrow_mut().tail.clear(&shard.tails);
    shard.chunks.forget(log.id);
    shard.cleaner.forget(log.partition);
    log.directory.cleaned.forget(log.partition);
    shard.logs.borrow_mut().remove(&log.partition);
    let topic = log.name.rsplit_once('-').map_or(log.name.as_str(), |(topic, _)| topic);
    let (partition, state) = (log.partition.index, FolderState::Delete);
    match set_aside(shard, &log.directory, &log.folder, topic, partition, state).await {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
            let what = format!("{}: cannot rename the folder of a deleted topic", log.name);
            log.directory.fail(shard, &what, &error);
            Err(Error::Offline)
        }
        _ => Ok(()),
    }
}

/// The log where it will be: in a moment it may have another folder.
async fn settled(log: &Log) -> Rc<LogState> {
    loop {
        let state = log.state();
        if state.borrow().work.hand_over != HandOver::Opening {
            return state;
        }
        state.released.notified().await;
        state.released.notify();
    }
}

/// Renames a partition's folder to Kafka's `-delete` or `-stray` form, durably; gives the new path. The first is then
/// removed in the background (at the next start, if a crash comes before that), the second stays.
pub async fn set_aside(
    shard: &Rc<Shard>,
    directory: &Directory,
    folder: &Path,
    topic: &str,
    partition: i32,
    state: FolderState,
) -> std::io::Result<PathBuf> {
    let unique = u128::from(reactor::random_u64()) << 64 | u128::from(reactor::random_u64());
    let renamed = directory.path.join(renamed_folder_name(topic, partition, unique, state));
    fs::rename(folder, &renamed).await?;
    fs::sync_dir(&directory.path).await?;
    if state == FolderState::Delete {
        reactor::spawn(remove(shard.background(), renamed.clone()));
    }
    Ok(renamed)
}

/// Removes the folders that deletions before the last stop have left. One shard does it.
pub async fn remove_leftovers(shard: Rc<Shard>) {
    for directory in shard.directories.values() {
        let entries = fs::list(&directory.path).await.unwrap_or_default();
        let is_deleted =
            |name: &str| parse_folder(name).is_some_and(|folder| folder.state == FolderState::Delete);
        let leftovers: Vec<_> =
            entries.into_iter().filter(|entry| entry.is_dir && is_deleted(&entry.name)).collect();
        // The crash may have come before their new names were durable, and a power cut would bring the old ones back, with
        // what is left in them by then.
        if leftovers.is_empty() || fs::sync_dir(&directory.path).await.is_err() {
            continue;
        }
        for entry in leftovers {
            if !shard.stopping.get() {
                remove(shard.background(), directory.path.join(&entry.name)).await;
            }
        }
    }
}

async fn remove(background: Background, folder: PathBuf) {
    match fs::remove_dir_all(&folder).await {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
            tracing::warn!(folder = %folder.display(), %error, "cannot remove a deleted partition's folder");
        }
        _ => {}
    }
    drop(background);
}

//! Moves of logs between the log directories of this node (KIP-113).
//!
//! ```text
//!   1  <destination>/<topic>-<partition>.<32 hex>-future, with partition.metadata      durable: the move is wanted
//!   2  the segments are copied there, over and over, until little is left              [`copy`]
//!   3  appends queue; the rest is copied, what a clean stop leaves beside it written,
//!      all of it durable, and read back                                                [`hand_over`]
//!   4  the metadata says that the destination counts                                   from here on it does
//!   5  -future -> its final name; durable; the log is opened there, and has what was
//!      appended meanwhile at the offsets it was given
//!   6  the old folder goes the way of deleted ones
//! ```
//! The log's shard stays the same, and so does whoever holds a [`Log`](super::Log), which goes along. Nothing is refused
//! meanwhile: from 3 to 5 (some milliseconds) what is appended waits, with its place in the order, and is committed in the
//! destination; reads go on in the source.
//!
//! A crash leaves what the metadata says: up to 4 the source counts, and the `-future` folder that is found at the next
//! start means that the move is wanted, so it begins anew ([`boot`]); from 4 on the destination does, the next start does
//! 5 and removes the old folder.
//!
//! One task a shard moves one log after the other in the order they were asked for, in slices, at the pace that
//! replica.alter.log.dirs.io.max.bytes.per.second allows, and rests between the slices as long as each took. While a log is
//! copied it is not compacted; retention and DeleteRecords go on, and what they remove need not be copied. A move that
//! cannot be done ends with a line for the operator, and the log stays where it is.

mod copy;
mod hand_over;

pub mod boot;
#[cfg(test)]
mod tests;

use std::cell::{Cell, RefCell};
use std::io;
use std::path::{Path, PathBuf};
use std::rc::Rc;

use super::directory::{Directory, Turn};
use super::handle::Log;
use super::shard::Shard;
use super::state::{LogState, Status};
use super::{Error, stop};
use crate::log::checkpoint::encode_partition_metadata;
use crate::log::files::{FolderState, PARTITION_METADATA, parse_folder, renamed_folder_name};
use crate::model::{DirectoryId, Offset, PartitionId};
use crate::reactor::sync::Notify;
use crate::reactor::{self, fs};

use self::copy::Copy;

/// What may be left to be copied when appends begin to queue. It takes the disks some milliseconds.
const LEFT_BYTES_MAX: u64 = 4 << 20;

/// The moves of a shard.
#[derive(Default)]
pub struct Relocations {
    /// In the order they were asked for; the first may be under way.
    asked: RefCell<Vec<Rc<Relocation>>>,
    arrived: Notify,
    /// Who decides on another.
    turn: Turn,
}

/// One log's move.
pub struct Relocation {
    pub partition: PartitionId,
    /// `topic-index`, for log lines.
    name: String,
    pub destination: Rc<Directory>,
    /// The log's folder there until it counts.
    folder: PathBuf,
    /// Of segments.
    pub copied_bytes: Cell<u64>,
    /// Exclusive; everything from the log's start up to here is in the copy.
    pub copied_to: Cell<Offset>,
    is_under_way: Cell<bool>,
    is_called_off: Cell<bool>,
    /// It is called off, or the shard stops.
    called: Notify,
    ended: Notify,
}

/// Why a move has ended before its end. The source counts, and nothing of it was changed.
#[derive(Debug)]
enum End {
    /// Somebody wants the log to stay, or to go elsewhere; or it is deleted.
    CalledOff,
    /// The next start of the broker begins it anew.
    Stopping,
    /// Why not, for the operator.
    Impossible(String),
}

impl End {
    fn source(error: &io::Error) -> End {
        End::Impossible(format!("the log cannot be read: {error}"))
    }

    /// Room and descriptors may be short for a while; after any other error nothing is written there any more.
    fn destination(relocation: &Relocation, shard: &Rc<Shard>, error: &io::Error) -> End {
        if !reactor::is_shortage(error) {
            let what = format!("{}: cannot write its copy", relocation.name);
            relocation.destination.fail(shard, &what, error);
        }
        End::Impossible(format!("the directory cannot be written: {error}"))
    }
}

/// Has the log moved to another directory, or stay in its own if it is on its way to another. Returns when that is noted
/// durably; the move itself takes its time.
///
/// # Errors
/// `Offline`: one of the directories is. `Full`: there is no room. `Closed`.
pub async fn ask(shard: &Rc<Shard>, log: &Log, to: DirectoryId) -> Result<(), Error> {
    let _turn = shard.relocations.turn.take().await;
    let destination = Rc::clone(shard.directories.get(&to).ok_or(Error::Offline)?);
    // ends: each turn calls off the one move there may be
    loop {
        let state = log.state();
        if shard.stopping.get() || shard.booting.get() || state.borrow().status != Status::Open {
            return Err(Error::Closed);
        }
        match of(shard, log.partition()) {
            Some(known) if known.destination.id == to && !known.is_called_off.get() => return Ok(()),
            Some(known) => {
                call_off(shard, &known).await;
                continue;
            }
            None if state.directory.id == to => return Ok(()),
            None => {}
        }
        if destination.is_offline() || state.directory.is_offline() {
            return Err(Error::Offline);
        }
        let folder = make_folder(shard, &state, &destination).await?;
        tracing::info!(
            log = state.name, from = %state.directory.path.display(), to = %destination.path.display(),
            "the log is to move to another log directory"
        );
        shard.relocations.asked.borrow_mut().push(Rc::new(Relocation {
            partition: state.partition,
            name: state.name.clone(),
            destination,
            folder,
            copied_bytes: Cell::new(0),
            copied_to: Cell::new(state.borrow().start),
            is_under_way: Cell::new(false),
            is_called_off: Cell::new(false),
            called: Notify::default(),
            ended: Notify::default(),
        }));
        shard.relocations.arrived.notify();
        return Ok(());
    }
}

/// The partition's move that is asked for or under way.
pub fn of(shard: &Shard, partition: PartitionId) -> Option<Rc<Relocation>> {
    shard.relocations.asked.borrow().iter().find(|asked| asked.partition == partition).cloned()
}

/// The log is about to be deleted: its move ends soon.
pub fn forget(shard: &Rc<Shard>, partition: PartitionId) {
    if let Some(relocation) = of(shard, partition) {
        let shard = Rc::clone(shard);
        reactor::spawn(async move { call_off(&shard, &relocation).await });
    }
}

/// Ends the move; it may have come to its end by then.
async fn call_off(shard: &Rc<Shard>, relocation: &Rc<Relocation>) {
    relocation.is_called_off.set(true);
    relocation.called.notify();
    if relocation.is_under_way.get() {
        while is_listed(shard, relocation) {
            relocation.ended.notified().await;
        }
        relocation.ended.notify();
        return;
    }
    let background = shard.background();
    take_out(shard, relocation);
    tracing::info!(log = relocation.name, "the move to another log directory is called off");
    discard(shard, relocation).await;
    drop(background);
}

fn is_listed(shard: &Shard, relocation: &Rc<Relocation>) -> bool {
    shard.relocations.asked.borrow().iter().any(|asked| Rc::ptr_eq(asked, relocation))
}

fn take_out(shard: &Shard, relocation: &Rc<Relocation>) {
    shard.relocations.asked.borrow_mut().retain(|asked| !Rc::ptr_eq(asked, relocation));
    relocation.ended.notify();
}

/// The shard stops: returns when no log is on its way. One whose end has been committed arrives before.
pub async fn stop(shard: &Rc<Shard>) {
    shard.relocations.arrived.notify();
    let first = shard.relocations.asked.borrow().first().cloned();
    let Some(under_way) = first.filter(|first| first.is_under_way.get()) else { return };
    under_way.called.notify();
    while is_listed(shard, &under_way) {
        under_way.ended.notified().await;
    }
    under_way.ended.notify();
}

/// Moves what is asked for while the shard runs.
pub async fn run(shard: Rc<Shard>) {
    while !shard.stopping.get() {
        let next = shard.relocations.asked.borrow().first().cloned();
        let Some(relocation) = next else {
            shard.relocations.arrived.notified().await;
            continue;
        };
        let background = shard.background();
        relocation.is_under_way.set(true);
        match relocate(&shard, &relocation).await {
            Ok(()) => {}
            Err(End::Stopping) => {}
            Err(End::CalledOff) => {
                tracing::info!(log = relocation.name, "the move to another log directory is called off");
                discard(&shard, &relocation).await;
            }
            Err(End::Impossible(reason)) => {
                tracing::error!(
                    log = relocation.name, to = %relocation.destination.path.display(), reason,
                    "the log could not be moved to another log directory and stays where it is: see to the reason, then \
                     ask for the move again"
                );
                discard(&shard, &relocation).await;
            }
        }
        take_out(&shard, &relocation);
        drop(background);
    }
}

async fn relocate(shard: &Rc<Shard>, relocation: &Rc<Relocation>) -> Result<(), End> {
    let log = shard.logs.borrow().get(&relocation.partition).cloned().ok_or(End::CalledOff)?;
    let _copying = Copying::of(&log);
    while log.borrow().work.cleaning {
        log.settled.notified().await;
    }
    log.settled.notify();
    remove_others(relocation).await.map_err(|error| End::destination(relocation, shard, &error))?;
    let mut copy = Copy::new(&log, relocation);
    copy.pace().await?;
    loop {
        copy.catch_up().await?;
        if copy.left() <= LEFT_BYTES_MAX {
            break;
        }
    }
    hand_over::hand_over(&log, relocation, copy).await
}

/// Keeps the cleaner away from the log.
struct Copying<'a>(&'a LogState);

impl<'a> Copying<'a> {
    fn of(log: &'a LogState) -> Copying<'a> {
        log.borrow_mut().work.relocating = true;
        Copying(log)
    }
}

impl Drop for Copying<'_> {
    fn drop(&mut self) {
        self.0.borrow_mut().work.relocating = false;
    }
}

/// Whether the move goes on.
fn check(log: &LogState, relocation: &Relocation) -> Result<(), End> {
    if log.shard.stopping.get() {
        return Err(End::Stopping);
    }
    if relocation.is_called_off.get() || log.borrow().status != Status::Open {
        return Err(End::CalledOff);
    }
    if log.directory.is_offline() || relocation.destination.is_offline() {
        return Err(End::Impossible("a log directory is offline".to_owned()));
    }
    Ok(())
}

/// The folder of a log that is to come, durable.
async fn make_folder(shard: &Rc<Shard>, log: &LogState, destination: &Directory) -> Result<PathBuf, Error> {
    let unique = u128::from(reactor::random_u64()) << 64 | u128::from(reactor::random_u64());
    let topic = log.name.rsplit_once('-').map_or(log.name.as_str(), |(topic, _)| topic);
    let name = renamed_folder_name(topic, log.partition.index, unique, FolderState::Future);
    let folder = destination.path.join(name);
    let made = async {
        fs::create_dir(&folder).await?;
        let text = encode_partition_metadata(log.partition.topic);
        fs::write_durable(&folder.join(PARTITION_METADATA), text.into_bytes()).await?;
        fs::sync_dir(&destination.path).await
    };
    match made.await {
        Ok(()) => Ok(folder),
        Err(error) if reactor::is_shortage(&error) => {
            tracing::warn!(log = log.name, %error, "no room to move the log to another log directory");
            // what is left of it is removed at the next start
            let _ = fs::remove_dir_all(&folder).await;
            Err(Error::Full)
        }
        Err(error) => {
            destination.fail(shard, &format!("{}: cannot make the folder of its copy", log.name), &error);
            Err(Error::Offline)
        }
    }
}

/// The part of a folder's name that tells whose it is.
fn stem(folder: &Path) -> Option<&str> {
    folder.file_name()?.to_str()?.rsplit_once('.').map(|(stem, _)| stem)
}

/// Removes what earlier moves of the log have left in the destination, so that the copy is the only one there when it
/// begins to count. The names are durable by then: the folder they are in is flushed before.
async fn remove_others(relocation: &Relocation) -> io::Result<()> {
    let own = relocation.folder.file_name().and_then(|name| name.to_str()).unwrap_or_default();
    for entry in fs::list(&relocation.destination.path).await? {
        let is_future = parse_folder(&entry.name).is_some_and(|folder| folder.state == FolderState::Future);
        let path = relocation.destination.path.join(&entry.name);
        if !is_future || entry.name == own || stem(&path) != stem(&relocation.folder) {
            continue;
        }
        let topic = boot::topic_of(&path).await;
        if topic.is_none_or(|topic| topic == relocation.partition.topic) {
            fs::remove_dir_all(&path).await?;
        }
    }
    Ok(())
}

/// Removes the copy. Its name goes first, durably: a start that finds it would begin the move again.
async fn discard(shard: &Rc<Shard>, relocation: &Relocation) {
    let topic = relocation.name.rsplit_once('-').map_or(relocation.name.as_str(), |(topic, _)| topic);
    let (index, folder) = (relocation.partition.index, &relocation.folder);
    let renamed = stop::set_aside(shard, &relocation.destination, folder, topic, index, FolderState::Delete);
    match renamed.await {
        Err(error) if error.kind() != io::ErrorKind::NotFound => tracing::warn!(
            folder = %folder.display(), %error,
            "cannot remove the copy of a log that is not moved: the next start would move it; remove the folder before"
        ),
        _ => {}
    }
}

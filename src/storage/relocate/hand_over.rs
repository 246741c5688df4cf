//! The end of a move: appends queue, the rest is copied, the metadata says that the destination counts, and the log goes
//! on there with what was queued.
//!
//! What the copy needs of a clean stop is written to it alone: until the metadata has changed the source is a log in use,
//! and goes on as one if the move comes to nothing.

use std::cell::Cell;
use std::io;
use std::path::{Path, PathBuf};
use std::rc::Rc;
use std::time::Duration;

use super::copy::Copy;
use super::{End, Relocation, check};
use crate::log::files::{FileKind, FolderState, LEADER_EPOCH_CHECKPOINT, SegmentFile, folder_name};
use crate::log::journal::{Entry, Kind};
use crate::log::producer_snapshot;
use crate::log::producer_state::ProducerStates;
use crate::model::{LeaderEpoch, Offset};
use crate::reactor::{self, File, OpenMode, fs};
use crate::storage::cleaner::offsets;
use crate::storage::open::Opening;
use crate::storage::segment::{Aborts, Segment};
use crate::storage::state::{EndState, HandOver, LogState, Status};
use crate::storage::{
    Assigned, Error, append, drain, log_starts, producers, recovery_points, removal, stop, transactions,
};

/// Between two looks at whether somebody still reads the old files.
const PAUSE: Duration = Duration::from_millis(5);

/// Steps 3 to 6 of a move.
pub async fn hand_over(log: &Rc<LogState>, relocation: &Relocation, mut copy: Copy<'_>) -> Result<(), End> {
    let hold = Hold::take(log, relocation).await?;
    hold.quiet(relocation).await?;
    drain::drain(log).await.map_err(|error| End::source(&error))?;
    copy.finish().await?;
    let shard = &log.shard;
    let described = hold.describe(relocation).await;
    described.map_err(|error| End::destination(relocation, shard, &error))?;
    if let Err(end) = note(log, relocation, hold.boundary).await.and_then(|()| check(log, relocation)) {
        forget(relocation);
        return Err(end);
    }
    commit(&hold, relocation).await
}

/// Keeps everything else that changes the log away from it; appends queue.
struct Hold<'a> {
    log: &'a Rc<LogState>,
    /// The log's end in the source.
    boundary: Offset,
    /// As of there.
    state: EndState,
    /// The log goes on in the destination.
    is_over: Cell<bool>,
}

impl<'a> Hold<'a> {
    async fn take(log: &'a Rc<LogState>, relocation: &Relocation) -> Result<Hold<'a>, End> {
        loop {
            check(log, relocation)?;
            if !log.borrow().work.held {
                break;
            }
            log.released.notified().await;
        }
        let inner = &mut *log.borrow_mut();
        (inner.work.held, inner.work.hand_over) = (true, HandOver::Closing);
        inner.boundary = Some(inner.end);
        let state =
            EndState { snapshot: producer_snapshot::encode(&inner.producers), epochs: inner.epochs.encode() };
        Ok(Hold { log, boundary: inner.end, state, is_over: Cell::new(false) })
    }

    fn set(&self, step: HandOver) {
        self.log.borrow_mut().work.hand_over = step;
        self.log.released.notify();
    }

    /// Returns when everything below the boundary is durable in the source and nothing of it is being written.
    async fn quiet(&self, relocation: &Relocation) -> Result<(), End> {
        loop {
            check(self.log, relocation)?;
            {
                let inner = self.log.borrow();
                let work = inner.work;
                let busy = work.queued || work.in_round || work.rolling || work.closing || work.writing;
                let changes = work.removing || work.cleaning || work.moving_starts > 0;
                if !(busy || changes) && inner.durable_end >= self.boundary && inner.unclosed.is_empty() {
                    return Ok(());
                }
            }
            self.log.settled.notified().await;
        }
    }

    /// What a clean stop leaves beside the segments, durable; the snapshot last, as there.
    async fn describe(&self, relocation: &Relocation) -> io::Result<()> {
        let folder = &relocation.folder;
        let last = Rc::clone(&self.log.borrow().committing);
        write_indexes(folder, &last).await?;
        write_aborts(folder, &last, self.boundary).await?;
        let epochs = self.state.epochs.clone().into_bytes();
        fs::write_durable(&folder.join(LEADER_EPOCH_CHECKPOINT), epochs).await?;
        let snapshot = SegmentFile::live(self.boundary, FileKind::Snapshot).name();
        fs::write_durable(&folder.join(snapshot), self.state.snapshot.clone()).await?;
        fs::sync_dir(folder).await?;
        // removes for good what earlier moves have left there, too
        fs::sync_dir(&relocation.destination.path).await
    }
}

impl Drop for Hold<'_> {
    fn drop(&mut self) {
        {
            let inner = &mut *self.log.borrow_mut();
            (inner.work.held, inner.work.hand_over) = (false, HandOver::None);
            inner.boundary = None;
        }
        self.log.released.notify();
        self.log.settled.notify();
        if !self.is_over.get() {
            self.log.schedule();
            if removal::is_due(&self.log.borrow()) {
                removal::enqueue(self.log);
            }
        }
    }
}

/// The indexes of the segment that is appended to, as they will be if it never is again.
async fn write_indexes(folder: &Path, segment: &Segment) -> io::Result<()> {
    if segment.written_bytes.get() == 0 {
        // what they know is behind the boundary
        return Ok(());
    }
    let (mut offsets, mut times) = (Vec::new(), Vec::new());
    let indexes = segment.indexes.borrow().clone();
    if let Some(mut indexes) = indexes {
        indexes.close();
        indexes.offsets.encode(0, &mut offsets);
        indexes.times.encode(0, &mut times);
    }
    for (kind, bytes) in [(FileKind::OffsetIndex, offsets), (FileKind::TimeIndex, times)] {
        let path = folder.join(segment.file_name(kind));
        fs::write(&path, bytes).await?;
        File::open(&path, OpenMode::ReadWrite).await?.sync_data().await?;
    }
    Ok(())
}

/// The same of its transaction index: what is behind the boundary is made there again.
async fn write_aborts(folder: &Path, segment: &Segment, boundary: Offset) -> io::Result<()> {
    let mut index = match &*segment.aborts.borrow() {
        Aborts::Known(index) => index.clone(),
        Aborts::OnDisk => return Ok(()),
    };
    index.truncate_to(boundary);
    transactions::write(folder, segment.base, &index).await
}

/// What the destination keeps of each of its logs says so of this one, durably: it may count at any moment now.
async fn note(log: &Rc<LogState>, relocation: &Relocation, boundary: Offset) -> Result<(), End> {
    let (shard, destination) = (&log.shard, &relocation.destination);
    let (partition, start) = (log.partition, log.borrow().start);
    let refused = |error| match error {
        Error::Full => End::Impossible("there is no room for what is kept of each log".to_owned()),
        _ => End::Impossible("the directory is offline".to_owned()),
    };
    log_starts::arrive(shard, destination, partition, start).await.map_err(refused)?;
    recovery_points::arrive(shard, destination, partition, boundary).await.map_err(refused)?;
    let cleaned = log.directory.cleaned.of(partition);
    offsets::arrive(shard, destination, partition, cleaned).await.map_err(|_| refused(Error::Full))?;
    // it may have batches of an earlier stay
    let entry = Entry {
        kind: Kind::Truncation,
        partition,
        segment: boundary,
        position: 0,
        epoch: LeaderEpoch::NONE,
        base: boundary,
        end: boundary,
    };
    destination.journal_mark(entry).await.map_err(refused)
}

/// The log does not come.
fn forget(relocation: &Relocation) {
    let (destination, partition) = (&relocation.destination, relocation.partition);
    destination.log_starts.leave(partition);
    recovery_points::leave(destination, partition);
    destination.cleaned.forget(partition);
}

/// Step 4, and what follows from it.
async fn commit(hold: &Hold<'_>, relocation: &Relocation) -> Result<(), End> {
    let (log, destination) = (hold.log, &relocation.destination);
    let listener = Rc::clone(&log.shard.listener);
    hold.set(HandOver::Assigning);
    let assigned = listener.assign(log.partition, destination.id).await;
    hold.set(HandOver::Opening);
    let is_deleted = log.borrow().status == Status::Closed;
    if is_deleted || assigned == Assigned::No {
        forget(relocation);
        return Err(match (is_deleted, log.shard.stopping.get()) {
            (true, _) => End::CalledOff,
            (false, true) => End::Stopping,
            (false, false) => End::Impossible("the controller does not answer".to_owned()),
        });
    }
    let opened = match open(hold, relocation).await {
        Ok(opened) if !destination.is_offline() => opened,
        opened => {
            let error = opened.err().unwrap_or(Error::Offline);
            return Err(go_back(hold, relocation, error).await);
        }
    };
    go_on(hold, &opened);
    forget_old(log).await;
    tracing::info!(log = log.name, to = %opened.folder.display(), end = hold.boundary.0, "the log has moved");
    Ok(())
}

/// Step 5, up to where the log could be used.
async fn open(hold: &Hold<'_>, relocation: &Relocation) -> Result<Rc<LogState>, Error> {
    let (log, destination) = (hold.log, &relocation.destination);
    let folder = final_folder(log, relocation);
    let renamed = async {
        fs::rename(&relocation.folder, &folder).await?;
        fs::sync_dir(&destination.path).await
    };
    renamed.await.map_err(|error| {
        destination.fail(&log.shard, &format!("{}: cannot rename its folder", log.name), &error);
        Error::Offline
    })?;
    let opening = Opening::moved(log, destination, folder);
    let loaded = opening.load().await?;
    if loaded.end != hold.boundary {
        tracing::error!(
            log = log.name,
            end = loaded.end.0,
            expected = hold.boundary.0,
            "the copy is not whole"
        );
        return Err(Error::Corrupt);
    }
    let (opened, _) = opening.finish(loaded).await?;
    Ok(opened)
}

fn final_folder(log: &LogState, relocation: &Relocation) -> PathBuf {
    let topic = log.name.rsplit_once('-').map_or(log.name.as_str(), |(topic, _)| topic);
    relocation.destination.path.join(folder_name(topic, log.partition.index))
}

/// The destination counts, but the log cannot be opened there: the source is to count again. If that cannot be said,
/// nobody may append to it: the next start opens the destination.
async fn go_back(hold: &Hold<'_>, relocation: &Relocation, error: Error) -> End {
    let (log, listener) = (hold.log, Rc::clone(&hold.log.shard.listener));
    hold.set(HandOver::Assigning);
    let assigned = listener.assign(log.partition, log.directory.id).await;
    hold.set(HandOver::Opening);
    if assigned == Assigned::No {
        log.borrow_mut().status = Status::Closed;
        log.drop_pending();
        return End::Stopping;
    }
    let folder = final_folder(log, relocation);
    let (destination, index) = (&relocation.destination, log.partition.index);
    let topic = log.name.rsplit_once('-').map_or(log.name.as_str(), |(topic, _)| topic);
    forget(relocation);
    // what cannot be renamed is removed at the next start
    let _ = stop::set_aside(&log.shard, destination, &folder, topic, index, FolderState::Delete).await;
    End::Impossible(format!("the log cannot be opened there ({error:?})"))
}

/// The log goes on in the destination, with what was appended meanwhile: nothing awaits here.
fn go_on(hold: &Hold<'_>, opened: &Rc<LogState>) {
    let (log, shard) = (hold.log, &hold.log.shard);
    let (ordered, waiters, last_epoch) = {
        let inner = &mut *log.borrow_mut();
        inner.status = Status::Closed;
        shard.pending_bytes.set(shard.pending_bytes.get() - inner.pending_bytes);
        inner.pending_bytes = 0;
        // whoever reads one of them goes on with its file, and nobody keeps what was read
        inner.segments.iter().for_each(|segment| segment.retired.set(true));
        inner.tail.clear(&shard.tails);
        opened.borrow_mut().config = inner.config.clone();
        (
            std::mem::take(&mut inner.pending),
            std::mem::take(&mut inner.flush_waiters),
            inner.epochs.last_epoch(),
        )
    };
    shard.chunks.forget(log.id);
    shard.logs.borrow_mut().insert(log.partition, Rc::clone(opened));
    assert!(log.successor.set(Rc::clone(opened)).is_ok(), "a log moves once from each directory");
    hold.is_over.set(true);
    append::go_on(opened, ordered);
    let satisfied = {
        let inner = &mut *opened.borrow_mut();
        if inner.epochs.last_epoch() < last_epoch {
            let end = inner.end;
            inner.epochs.assign(last_epoch, end);
        }
        inner.flush_waiters.extend(waiters);
        inner.satisfied_waiters()
    };
    satisfied.into_iter().for_each(|waiter| waiter.send(()));
    opened.schedule();
    let destination = &opened.directory;
    destination.log_starts.has_come(log.partition);
    destination.kept_points.borrow_mut().remove(&log.partition);
    let known = opened.borrow().producers.len();
    producers::note(shard, 0, known);
    shard.tails.trim();
}

/// Step 6. Whoever still reads the old files comes to its end first: they may be opened by name.
async fn forget_old(log: &Rc<LogState>) {
    let shard = &log.shard;
    let segments = log.borrow().segments.clone();
    let is_read = |segment: &Rc<Segment>| {
        let known = 2 + usize::from(Rc::ptr_eq(segment, &log.borrow().committing));
        Rc::strong_count(segment) > known
    };
    while segments.iter().any(is_read) && !shard.stopping.get() {
        reactor::sleep(PAUSE).await;
    }
    for segment in &segments {
        segment.retired.set(false);
        segment.drop_file();
        *segment.indexes.borrow_mut() = None;
        *segment.aborts.borrow_mut() = Aborts::OnDisk;
    }
    // whoever still holds it needs nothing but its successor
    log.borrow_mut().producers = ProducerStates::default();
    let source = &log.directory;
    source.cleaned.forget(log.partition);
    source.log_starts.leave(log.partition);
    recovery_points::leave(source, log.partition);
    if source.is_offline() {
        // the next start does it
        return;
    }
    let topic = log.name.rsplit_once('-').map_or(log.name.as_str(), |(topic, _)| topic);
    let (index, state) = (log.partition.index, FolderState::Delete);
    if let Err(error) = stop::set_aside(shard, source, &log.folder, topic, index, state).await {
        source.fail(
            shard,
            &format!("{}: cannot rename the folder of a log that has moved", log.name),
            &error,
        );
    }
}

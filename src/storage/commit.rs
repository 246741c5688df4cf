//! Group commit: one task per log directory gathers what was appended, writes and flushes it in rounds.
//!
//! A [round](super::round) takes the logs that have something queued, oldest first, writes the journal's part and the logs
//! that go straight to their segments side by side, then flushes side by side. While it is in flight, new appends
//! gather; nobody lingers. A lone producer's batch costs one write and one flush.
//!
//! A log is in one round at a time, so its writes never overlap. A roll is not part of a round: a log whose next
//! batch opens a segment leaves the queue until [`roll`](super::roll) has made the file.

use std::io;
use std::rc::Rc;

use futures_lite::future::zip;

use super::concurrent::Lanes;
use super::directory::Directory;
use super::journal::{Journal, Place};
use super::round::{Batches, Direct, Journaled, Part, Round, Shares, Sync};
use super::run::Run;
use super::shard::Shard;
use super::state::{LogState, Status};
use super::{drain, write};
use crate::model::Offset;
use crate::reactor::{self, SharedBuf, now};

/// Writes or flushes in flight at once.
const CONCURRENT_IO: usize = 64;
/// A log that has so much in the journal only is drained, before the journal is full: a write of this size costs little
/// more for each byte than a larger one.
const DRAIN_BYTES: usize = 1 << 20;

/// The directory's commit loop; ends when the shard stops and nothing is left. One round is in flight: two would gather
/// smaller groups, and the journal gives room to one at a time.
pub async fn run(shard: Rc<Shard>, directory: Rc<Directory>) {
    let mut lanes = Lanes::new(CONCURRENT_IO);
    let mut round = Round::default();
    let mut tried_journal = false;
    loop {
        round.gather(&directory);
        if round.is_empty() {
            if directory.is_offline() || shard.stopped.get() {
                return;
            }
            directory.work.notified().await;
            if !std::mem::replace(&mut tried_journal, true) {
                open_journal(&shard, &directory).await;
            }
            continue;
        }
        let written = commit(&shard, &directory, &mut lanes, &mut round).await;
        complete(&shard, &directory, &mut round, written);
    }
}

async fn open_journal(shard: &Rc<Shard>, directory: &Rc<Directory>) {
    let Some(journal) = &directory.journal else { return };
    match journal.open(shard).await {
        Ok(()) => {}
        Err(error) if reactor::is_shortage(&error) => tracing::warn!(
            directory = %directory.path.display(),
            %error,
            "there is no room for the commit journal: until the next start every partition is written by itself, which is \
             slower with many of them"
        ),
        Err(error) => directory.fail(shard, "cannot make the commit journal", &error),
    }
}

/// Where the journal's part was written, and its buffer.
type Written = io::Result<Option<(SharedBuf, Place)>>;

/// Writes and flushes everything in the round.
async fn commit(
    shard: &Rc<Shard>,
    directory: &Rc<Directory>,
    lanes: &mut Lanes,
    round: &mut Round,
) -> Written {
    let Round { direct, journaled, flush_journal, .. } = round;
    let journal = async {
        match directory.journal.as_ref().zip(journaled.as_mut()) {
            Some((journal, part)) => write_journal(shard, directory, journal, part, *flush_journal).await,
            None => Ok(None),
        }
    };
    let (written, ()) = zip(journal, lanes.run(direct.iter_mut().map(write_direct))).await;
    let written = match written {
        Ok(written) => written,
        Err(error) => {
            // nothing is flushed now, so nothing that was written becomes durable
            for part in direct.iter_mut().filter(|part| part.result.is_ok()) {
                part.result = Err(io::Error::other("the round was given up"));
            }
            return Err(error);
        }
    };
    let journal = async {
        match directory.journal.as_ref().filter(|_| *flush_journal) {
            Some(journal) => journal.flush().await,
            None => Ok(()),
        }
    };
    let due = direct.iter_mut().filter(|part| part.sync == Sync::Yes && part.result.is_ok());
    let (flushed, ()) = zip(journal, lanes.run(due.map(flush_direct))).await;
    flushed.map(|()| written)
}

async fn write_journal(
    shard: &Rc<Shard>,
    directory: &Rc<Directory>,
    journal: &Journal,
    part: &mut Journaled,
    flushes: bool,
) -> Written {
    let Some(mut buf) = part.buf.take() else { return Ok(None) };
    journal.room(shard, directory, buf.len()).await?;
    let place = journal.place(&mut buf, part.round);
    let buf = buf.freeze();
    // In one operation, if nothing that was written before waits for the flush: it would not be covered.
    if flushes && journal.flushed() + 1 == place.sequence && !skips_flush() {
        place.write_durable(&buf).await?;
        journal.note_flushed(place.sequence);
    } else {
        place.write(&buf).await?;
    }
    Ok(Some((buf, place)))
}

async fn write_direct(part: &mut Direct) {
    let Some((write, _)) = &part.written else { return };
    part.result = write::run(&part.log, &part.file, write).await;
}

async fn flush_direct(part: &mut Direct) {
    // a drain may write behind this while it is flushed
    part.covers = part.segment.written_bytes.get();
    if skips_flush() {
        return;
    }
    part.result = part.file.sync_data().await;
}

/// For tests that show that a missing flush is noticed.
pub fn skips_flush() -> bool {
    #[cfg(test)]
    return mutation::skips_flush();
    #[cfg(not(test))]
    false
}

/// Moves the durable ends, publishes the buffers, lets the logs go on and tells the listener.
fn complete(shard: &Rc<Shard>, directory: &Rc<Directory>, round: &mut Round, written: Written) {
    count(shard, round, &written);
    let written = written.unwrap_or_else(|error| {
        directory.fail(shard, "the commit journal cannot be written or flushed", &error);
        None
    });
    let journaled = round.journaled.take();
    let parts = journaled.map(|journaled| journaled.parts).unwrap_or_default();
    // What was taken has left the queue, whatever became of it.
    let taken = |bytes: usize| shard.pending_bytes.set(shard.pending_bytes.get() - bytes);
    parts.iter().for_each(|part| taken(part.batches.bytes));
    for part in &round.direct {
        part.written.iter().for_each(|(_, batches)| taken(batches.bytes));
        if let Err(error) = &part.result {
            directory.fail(shard, &format!("{}: write or flush failed", part.log.name), error);
        }
    }
    // No more of the journal is known to be flushed than before an error.
    let flushed = directory.journal.as_ref().map_or(0, Journal::flushed);
    for mark in round.marks.drain(..).filter(|_| written.is_some()) {
        mark.done.send(());
    }
    let shares = Shares::of(&parts, written.as_ref().map_or(0, |(buf, _)| buf.as_slice().len()));
    for part in parts {
        let log = Rc::clone(&part.log);
        let end = written.as_ref().map(|(buf, place)| pin(part, buf, place, &shares));
        settle(shard, &log, end, flushed);
    }
    for part in round.direct.drain(..) {
        let log = Rc::clone(&part.log);
        let end = advance(part);
        settle(shard, &log, end, flushed);
    }
    round.flush_journal = false;
    shard.tails.trim();
}

/// A log's part is durable in the journal: where the log ends now.
fn pin(part: Part, buf: &SharedBuf, place: &Place, shares: &Shares) -> Offset {
    let memory = shares.of_part(&part);
    let Part { log, segment, first, end, end_at, places, batches } = part;
    let inner = &mut *log.borrow_mut();
    let position = segment.durable_bytes.get();
    segment.durable_bytes.set(position + batches.bytes as u64);
    inner.durable_end = end;
    inner.journaled = place.sequence;
    place.file.note(&log, &mut inner.listed_in);
    if inner.status != Status::Closed {
        let run = Run::part(buf.clone(), position, first, places, end_at, memory);
        inner.tail.pin(run, &log.shard.tails);
    }
    end
}

/// A log's part went to its segment, or was only flushed there. Where the log ends now, if that has moved.
fn advance(part: Direct) -> Option<Offset> {
    let Direct { log, written, segment, sync, covers, result, .. } = part;
    let wrote = written.is_some();
    let inner = &mut *log.borrow_mut();
    let moved = written.map(|(write, _)| {
        inner.work.writing = false;
        log.file_free.notify();
        let end = write.end;
        if result.is_ok() {
            write::done(&log, inner, write);
            segment.durable_bytes.set(segment.written_bytes.get());
            inner.durable_end = end;
            inner.unflushed = true;
        }
        end
    });
    if result.is_ok() && sync == Sync::Yes {
        let flushed = if wrote { segment.written_bytes.get() } else { covers };
        segment.flushed_bytes.set(flushed.max(segment.flushed_bytes.get()));
        inner.tail.release(&log, &log.shard.tails);
        inner.unflushed = false;
    }
    moved.filter(|_| result.is_ok())
}

/// The log has left the round: it goes on, and whoever waits hears of what is durable.
fn settle(shard: &Shard, log: &Rc<LogState>, end: Option<Offset>, journal_flushed: u64) {
    let (waiters, drains) = {
        let inner = &mut *log.borrow_mut();
        inner.work.in_round = false;
        if !inner.unflushed && inner.journaled <= journal_flushed {
            inner.flushed_end = inner.durable_end;
        }
        let drains = inner.tail.pinned_bytes() >= DRAIN_BYTES && !inner.work.writing;
        (inner.satisfied_waiters(), drains && inner.status != Status::Closed)
    };
    if drains && !log.directory.is_offline() {
        drain::spawn(log);
    }
    log.schedule();
    log.settled.notify();
    waiters.into_iter().for_each(|waiter| waiter.send(()));
    if let Some(end) = end {
        shard.listener.durable(log.partition, end);
    }
}

fn count(shard: &Shard, round: &Round, written: &Written) {
    let (counters, now) = (&shard.counters, now());
    counters.rounds.increment();
    let note = |batches: &Batches| {
        counters.batches.add(batches.count as u64);
        counters.batch_bytes.add(batches.bytes as u64);
        counters.commits.record(now.since(batches.since));
    };
    if let Ok(written) = written {
        counters.flushes.add(u64::from(round.flush_journal));
        if let Some((buf, _)) = written {
            counters.written_bytes.add(buf.as_slice().len() as u64);
            let parts = round.journaled.iter().flat_map(|journaled| &journaled.parts);
            parts.for_each(|part| note(&part.batches));
        }
    }
    for part in round.direct.iter().filter(|part| part.result.is_ok()) {
        counters.flushes.add(u64::from(part.sync == Sync::Yes));
        if let Some((write, batches)) = &part.written {
            counters.written_bytes.add(write.block_bytes() as u64);
            note(batches);
        }
    }
}

#[cfg(test)]
pub mod mutation {
    //! A fault of our own making, to show that the simulation would notice it.

    use std::cell::Cell;

    thread_local! {
        static SKIP_FLUSH: Cell<bool> = const { Cell::new(false) };
    }

    /// From here on, on this thread, commit rounds and drains do not flush but say they did.
    pub fn skip_flush(skip: bool) {
        SKIP_FLUSH.set(skip);
    }

    pub fn skips_flush() -> bool {
        SKIP_FLUSH.get()
    }
}

//! What lies in the journal only is written to its segments, in large pieces, so that the journal's space can be used
//! again, and before a segment is closed.

use std::io;
use std::rc::Rc;

use super::commit::skips_flush;
use super::segment::Segment;
use super::state::LogState;
use super::write;
use crate::reactor;

/// One write. As large as a commit may find in front of it at the disk; and a larger one, when space runs out.
const PIECE_BYTES: usize = 512 << 10;
const LARGE_PIECE_BYTES: usize = 4 << 20;

/// Writes everything of the log that lies in the journal only. An error takes the directory offline.
pub async fn drain(log: &Rc<LogState>) -> io::Result<()> {
    if log.borrow().tail.pinned_bytes() == 0 {
        return Ok(());
    }
    while !log.begin_writing() {
        log.file_free.notified().await;
    }
    let drained = write_pinned(log).await;
    log.end_writing();
    if let Err(error) = &drained {
        log.directory.fail(&log.shard, &format!("{}: cannot write what is in the journal", log.name), error);
    }
    log.schedule();
    log.shard.tails.trim();
    drained
}

async fn write_pinned(log: &Rc<LogState>) -> io::Result<()> {
    loop {
        let is_pressed = log.directory.journal.as_ref().is_none_or(|journal| journal.is_pressed(&log.shard));
        let piece_bytes = if is_pressed { LARGE_PIECE_BYTES } else { PIECE_BYTES };
        let (write, file) = {
            let inner = &mut *log.borrow_mut();
            let Some(write) = write::build(inner, piece_bytes, 0) else { return Ok(()) };
            (write, inner.committing.open_file().expect("the segment that is written to is open"))
        };
        let bytes = write.block_bytes();
        write::run(log, &file, &write).await?;
        write::done(log, &mut log.borrow_mut(), write);
        log.shard.counters.drained_bytes.add(bytes as u64);
    }
}

/// Drains in the background.
pub fn spawn(log: &Rc<LogState>) {
    let log = Rc::clone(log);
    let background = log.shard.background();
    reactor::spawn(async move {
        // an error takes the directory offline, which says everything
        let _ = drain(&log).await;
        drop(background);
    });
}

/// Drains the log and flushes its segments: after that it needs nothing of what was in the journal when this began.
pub async fn settle(log: &Rc<LogState>) -> io::Result<()> {
    drain(log).await?;
    let segments: Vec<Rc<Segment>> = {
        let inner = log.borrow();
        let rolled = inner.unclosed.iter().map(|unclosed| &unclosed.segment);
        rolled.chain([&inner.committing]).cloned().collect()
    };
    for segment in segments {
        let written = segment.written_bytes.get();
        if segment.flushed_bytes.get() >= written {
            continue;
        }
        let Some(file) = segment.open_file() else { continue };
        if skips_flush() {
            continue;
        }
        log.directory.online()?;
        if let Err(error) = file.sync_data().await {
            log.directory.fail(&log.shard, &format!("{}: flush failed", log.name), &error);
            return Err(error);
        }
        log.directory.online()?;
        segment.flushed_bytes.set(segment.flushed_bytes.get().max(written));
    }
    log.borrow_mut().tail.release(log, &log.shard.tails);
    log.shard.tails.trim();
    Ok(())
}

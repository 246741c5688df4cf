//! Writing again what an earlier life of the process has written, so that a flush covers it.
//!
//! After a failed flush the kernel takes what it could not write for clean: readers see it, but no later flush makes it
//! durable, and the next life of the process is told nothing. So whatever is kept and is not known to have been flushed is
//! written again before the flush that is to be relied on: the same bytes to the same sectors, so that a crash in the
//! middle changes nothing. Small files are written anew as a whole; here are segments and journal files.

use std::collections::VecDeque;
use std::io;

use super::scan::read_from;
use crate::log::control::EndMarker;
use crate::log::recovery::{Progress, Scanner, Start, Verdict};
use crate::model::Offset;
use crate::protocol::batch::BatchHeader;
use crate::reactor::{BLOCK_BYTES, Buf, File, SharedBuf};

/// Pieces that wait for the end of a batch that is longer than one: 8 MiB. Of a longer one the first are written before
/// its checksum is known; it lies above the recovery point, and is cut if it is bad.
const HELD_MAX: usize = 16;

/// What failed.
#[derive(Debug)]
pub enum Failed {
    Read(io::Error),
    Write(io::Error),
}

impl From<io::Error> for Failed {
    fn from(error: io::Error) -> Failed {
        Failed::Read(error)
    }
}

/// As [`scan::scan_with_markers`](super::scan::scan_with_markers); the good batches that end above `above` are written again as they are read, with
/// what lies beside them in their pieces of the file.
pub async fn scan(
    file: &File,
    start: Start,
    end: u64,
    above: Offset,
    mut each: impl FnMut(&BatchHeader, u64, Option<EndMarker>),
) -> Result<Verdict, Failed> {
    let first = start.position.next_multiple_of(BLOCK_BYTES as u64);
    let mut position = start.position;
    let mut scanner = Scanner::new(start);
    let mut held = VecDeque::<(u64, SharedBuf)>::new();
    while position < end {
        let Some((buf, range)) = read_from(file, position, end).await? else { break };
        let at = position - range.start as u64;
        position += range.len() as u64;
        let progress = scanner.feed_with_markers(&buf.as_slice()[range], &mut each);
        held.push_back((at, buf));
        while let Some((at, buf)) = held.front() {
            let judged = at + buf.as_slice().len() as u64 <= scanner.valid_bytes();
            if !judged && held.len() <= HELD_MAX {
                break;
            }
            let next = scanner.next_offset();
            if next > above || (!judged && next == above) {
                write(file, *at, buf, first, u64::MAX).await.map_err(Failed::Write)?;
            }
            held.pop_front();
        }
        if progress == Progress::Done {
            break;
        }
    }
    let verdict = scanner.finish();
    if verdict.next_offset > above {
        for (at, buf) in &held {
            write(file, *at, buf, first, verdict.valid_bytes).await.map_err(Failed::Write)?;
        }
    }
    Ok(verdict)
}

/// Writes the piece that lies at `at`, from `first` on and up to the block that holds the last byte below `end`.
async fn write(file: &File, at: u64, piece: &SharedBuf, first: u64, end: u64) -> io::Result<()> {
    let bytes = piece.as_slice();
    let from = first.max(at);
    let end = end.checked_next_multiple_of(BLOCK_BYTES as u64).unwrap_or(u64::MAX);
    let to = end.min(at + bytes.len() as u64);
    if from >= to || skips() {
        return Ok(());
    }
    let bytes = &bytes[(from - at) as usize..(to - at) as usize];
    let mut buf = Buf::new(bytes.len().next_multiple_of(BLOCK_BYTES));
    let out = buf.as_mut_slice();
    out[..bytes.len()].copy_from_slice(bytes);
    out[bytes.len()..].fill(0);
    file.write(&buf.freeze(), from).await
}

/// Cuts or extends the file to `length`; the next flush covers that, although it may have been so long before.
pub async fn set_length(file: &File, length: u64) -> io::Result<()> {
    if file.len().await? == length && !skips() {
        file.truncate(length + 1).await?;
    }
    file.truncate(length).await
}

fn skips() -> bool {
    #[cfg(test)]
    return mutation::skips();
    #[cfg(not(test))]
    false
}

#[cfg(test)]
pub mod mutation {
    //! A fault of our own making, to show that the simulation would notice it.

    use std::cell::Cell;

    thread_local! {
        static SKIP: Cell<bool> = const { Cell::new(false) };
    }

    /// From here on, on this thread, nothing is written again.
    pub fn skip(skip: bool) {
        SKIP.set(skip);
    }

    pub fn skips() -> bool {
        SKIP.get()
    }
}

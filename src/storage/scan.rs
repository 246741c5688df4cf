//! Reading a segment from front to back: for recovery, for indexes that are missing, for producer state.

use std::io;

use crate::log::control::EndMarker;
use crate::log::recovery::{Offsets, Progress, Scanner, Start, Verdict, candidates};
use crate::model::{LeaderEpoch, Offset};
use crate::protocol::batch::{BatchHeader, HEADER_BYTES};
use crate::reactor::{self, BLOCK_BYTES, File};

/// One read, and the checksum work between two waits: about 50 µs.
const CHUNK_BYTES: usize = 512 << 10;

/// Scans from `start.position` to the end of the file or as far as `end`; `each` gets every good batch with its
/// position.
pub async fn scan(
    file: &File,
    start: Start,
    end: u64,
    mut each: impl FnMut(&BatchHeader, u64),
) -> io::Result<Verdict> {
    scan_with_markers(file, start, end, |header, position, _| each(header, position)).await
}

/// The same; of a control batch that ends a transaction, `each` is told how.
pub async fn scan_with_markers(
    file: &File,
    start: Start,
    end: u64,
    mut each: impl FnMut(&BatchHeader, u64, Option<EndMarker>),
) -> io::Result<Verdict> {
    let mut position = start.position;
    let mut scanner = Scanner::new(start);
    while position < end {
        let bytes = read_from(file, position, end).await?;
        let Some((buf, range)) = bytes else { break };
        position += range.len() as u64;
        if scanner.feed_with_markers(&buf.as_slice()[range], &mut each) == Progress::Done {
            break;
        }
    }
    Ok(scanner.finish())
}

type Piece = (crate::reactor::SharedBuf, std::ops::Range<usize>);

/// The bytes from `position` on, at most up to `end`: a buffer and where in it they are. `None` at the file's end.
pub async fn read_from(file: &File, position: u64, end: u64) -> io::Result<Option<Piece>> {
    let skip = (position % BLOCK_BYTES as u64) as usize;
    let start = position - skip as u64;
    let buf = file.read(start, CHUNK_BYTES).await?;
    let readable = buf.as_slice().len().min(usize::try_from(end - start).unwrap_or(usize::MAX));
    Ok((readable > skip).then_some((buf, skip..readable)))
}

/// The next batch behind `from` that is whole, matches its checksum and begins at `least` or above: its position and
/// base offset. For damage only: it looks at every byte.
pub async fn next_good(file: &File, from: u64, end: u64, least: Offset) -> io::Result<Option<(u64, Offset)>> {
    let mut position = from + 1;
    while let Some((buf, range)) = read_from(file, position, end).await? {
        let length = range.len();
        let bytes = buf.lend(range);
        let at = position;
        let candidates = reactor::blocking(move || candidates(&bytes, at, end, least)).await;
        for (at, header) in candidates {
            let start = Start {
                base_offset: least,
                position: at,
                next_offset: header.base_offset,
                last_epoch: LeaderEpoch::NONE,
                offsets: Offsets::Gaps,
                max_batch_bytes: header.total_bytes as u64,
            };
            let batch_end = at + header.total_bytes as u64;
            if scan(file, start, batch_end, |_, _| {}).await?.valid_bytes == batch_end {
                return Ok(Some((at, header.base_offset)));
            }
        }
        if length < HEADER_BYTES {
            break;
        }
        position += (length - HEADER_BYTES + 1) as u64;
    }
    Ok(None)
}

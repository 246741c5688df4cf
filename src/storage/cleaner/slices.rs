//! A segment in slices of about a megabyte: read here, walked on the blocking pool, with a rest after each.

use std::time::Duration;

use bytes::Bytes;

use super::{Source, Stop, check};
use crate::log::compaction::{Bad, Walk, Walked};
use crate::protocol::batch::BatchHeader;
use crate::reactor::{self, BLOCK_BYTES};
use crate::storage::state::LogState;

/// One read, and one piece of work: some milliseconds.
const SLICE_BYTES: usize = 1 << 20;
/// A longer batch is not taken into memory; max.message.bytes is 1 MiB unless somebody has raised it.
const BATCH_BYTES_MAX: usize = 64 << 20;
/// The longest rest after a slice.
const REST_MAX: Duration = Duration::from_millis(100);

/// Reads a segment from front to back.
pub struct Slices<'a> {
    log: &'a LogState,
    source: &'a Source,
    position: u64,
    want: usize,
    walk: Walk,
    /// A disk may once answer with another place's bytes.
    has_doubt: bool,
}

impl<'a> Slices<'a> {
    pub fn new(log: &'a LogState, source: &'a Source) -> Slices<'a> {
        let is_dense = !source.segment.gaps.get();
        let walk = Walk { next: source.segment.base, end: source.end, is_dense };
        Slices { log, source, position: 0, want: SLICE_BYTES, walk, has_doubt: false }
    }

    /// Gives the next batches to `step`, with `state` on the blocking pool; `state` comes back. `None`: there are no
    /// more. `step` returns false when it has seen enough, which is for the caller to remember.
    pub async fn next<S: Send + 'static>(
        &mut self,
        mut state: S,
        step: impl Fn(&mut S, &BatchHeader, &[u8]) -> bool + Copy + Send + 'static,
    ) -> Result<(S, Step), Stop> {
        // ends: each turn goes on, asks for more of one batch, or doubts, once
        loop {
            check(self.log)?;
            let length = self.source.segment.durable_bytes.get();
            if self.position >= length {
                if self.walk.is_dense && self.walk.next != self.walk.end {
                    return Err(self.bad("batches are missing at the end of the segment"));
                }
                return Ok((state, Step::End));
            }
            let bytes = self.read(length).await?;
            let begun = reactor::now();
            let mut walk = self.walk;
            let (moved, walk, walked) = reactor::blocking(move || {
                let walked = walk.batches(&bytes, |header, batch| step(&mut state, header, batch));
                (state, walk, walked)
            })
            .await;
            state = moved;
            rest(reactor::now().since(begun)).await;
            let bad = match walked {
                Ok(Walked { bytes, .. }) if bytes > 0 => {
                    self.position += bytes as u64;
                    (self.walk, self.want, self.has_doubt) = (walk, SLICE_BYTES, false);
                    return Ok((state, Step::Walked));
                }
                Ok(Walked { needs: Some(needs), .. }) if needs > BATCH_BYTES_MAX => {
                    return Err(
                        self.bad("a batch is longer than the 64 MiB that the cleaner takes into memory")
                    );
                }
                Ok(Walked { needs: Some(needs), .. }) if self.position + needs as u64 <= length => {
                    self.want = needs;
                    continue;
                }
                Ok(_) => "a batch is cut short",
                Err(Bad(what)) => what,
            };
            if self.has_doubt {
                return Err(self.bad(bad));
            }
            self.has_doubt = true;
        }
    }

    async fn read(&self, length: u64) -> Result<Bytes, Stop> {
        const BLOCK: u64 = BLOCK_BYTES as u64;
        let start = self.position / BLOCK * BLOCK;
        let end =
            (self.position + self.want as u64).next_multiple_of(BLOCK).min(length.next_multiple_of(BLOCK));
        let failed = |error: std::io::Error| self.bad(&format!("cannot be read: {error}"));
        let (file, _) = self.source.segment.file(&self.log.folder).await.map_err(failed)?;
        let buf = file.read(start, (end - start) as usize).await.map_err(failed)?;
        self.log.shard.counters.cleaner_read_bytes.add(end - start);
        let readable = buf.as_slice().len().min((length - start) as usize);
        let skip = (self.position - start) as usize;
        Ok(if readable > skip { buf.lend(skip..readable) } else { Bytes::new() })
    }

    fn bad(&self, what: &str) -> Stop {
        let (base, position) = (self.source.segment.base, self.position);
        Stop::Uncleanable(format!("segment {base}, position {position}: {what}"))
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Step {
    Walked,
    End,
}

/// As long as the work took: half a core at most is the cleaner's.
async fn rest(took: Duration) {
    if took.is_zero() {
        reactor::turn().await;
    } else {
        reactor::sleep(took.min(REST_MAX)).await;
    }
}

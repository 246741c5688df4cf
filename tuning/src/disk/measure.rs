//! The loops that are timed: streams of one block size and depth, and commits of one write and one flush.

use std::fs::File;
use std::io;
use std::time::{Duration, Instant};

use hdrhistogram::Histogram;

use super::ring::{Completion, FileIndex, Operation, Ring};

/// Longest latency told apart: a minute in nanoseconds.
const LATENCY_NS_MAX: u64 = 60_000_000_000;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Direction {
    Write,
    Read,
}

/// What a stream does: block size in bytes, operations in flight.
#[derive(Clone, Copy, Debug)]
pub(super) struct Stream {
    pub(super) direction: Direction,
    pub(super) block_bytes: u32,
    pub(super) depth: usize,
}

/// The extents that commits go into.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Extents {
    /// Nothing is there: each write makes the file longer.
    Extending,
    /// Allocated and never written.
    Fallocated,
    PreWritten,
}

/// How a commit becomes durable.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Durable {
    /// A write, then fdatasync.
    Flush,
    /// A write through a file opened with O_DSYNC.
    Open,
}

/// A file of which `bytes` may be used.
#[derive(Clone, Copy)]
pub(super) struct Target<'a> {
    pub(super) file: &'a File,
    pub(super) index: FileIndex,
    pub(super) bytes: u64,
}

/// Latencies in nanoseconds.
pub(super) struct Latency(Histogram<u64>);

impl Latency {
    fn new() -> Latency {
        Latency(Histogram::new_with_bounds(1, LATENCY_NS_MAX, 3).expect("the bounds are sound"))
    }

    fn record(&mut self, taken: Duration) {
        self.0.saturating_record(u64::try_from(taken.as_nanos()).unwrap_or(LATENCY_NS_MAX).max(1));
    }

    /// In µs, to a tenth.
    pub(super) fn quantile_us(&self, quantile: f64) -> f64 {
        #[allow(clippy::cast_precision_loss)] // a minute in ns is exact
        let nanoseconds = self.0.value_at_quantile(quantile) as f64;
        (nanoseconds / 100.0).round() / 10.0
    }
}

pub(super) struct Streamed {
    pub(super) operations: u64,
    pub(super) took: Duration,
    pub(super) latency: Latency,
}

pub(super) struct Committed {
    pub(super) operations: u64,
    pub(super) write: Latency,
    pub(super) flush: Latency,
    pub(super) both: Latency,
    /// Time in writes and flushes, without that of making the file empty again.
    pub(super) took: Duration,
}

/// Writes the whole file once and flushes it, so that every extent is there and written.
pub(super) fn fill(ring: &mut Ring, target: Target, block_bytes: u32, depth: usize) -> io::Result<()> {
    // In one piece first: blocks that arrive out of order would otherwise scatter the extents.
    rustix::fs::fallocate(target.file, rustix::fs::FallocateFlags::empty(), 0, target.bytes)?;
    let mut offsets = (0..target.bytes / u64::from(block_bytes)).map(|block| block * u64::from(block_bytes));
    let mut idle: Vec<usize> = (0..depth).collect();
    let mut done = Vec::new();
    loop {
        while let Some(slot) = idle.pop() {
            let Some(offset) = offsets.next() else { break };
            ring.push(slot, target.index, Operation::Write { offset, bytes: block_bytes });
        }
        if !ring.is_busy() {
            break;
        }
        ring.wait(&mut done)?;
        for Completion { slot, result } in done.drain(..) {
            whole(result?, block_bytes)?;
            idle.push(slot);
        }
    }
    flush(ring, target.index)
}

/// Keeps `depth` operations in flight, one block after the other and round again, until the time is over.
pub(super) fn stream(
    ring: &mut Ring,
    target: Target,
    stream: Stream,
    time: Duration,
) -> io::Result<Streamed> {
    let Stream { direction, block_bytes, depth } = stream;
    let blocks = target.bytes / u64::from(block_bytes);
    assert!(blocks > 0, "the file holds at least one block");
    let mut latency = Latency::new();
    let mut started = vec![Instant::now(); depth];
    let mut idle: Vec<usize> = (0..depth).collect();
    let mut done = Vec::new();
    let (mut next, mut operations) = (0_u64, 0);
    let begin = Instant::now();
    loop {
        let now = Instant::now();
        if now - begin < time {
            for slot in idle.drain(..) {
                let offset = next % blocks * u64::from(block_bytes);
                next += 1;
                let operation = match direction {
                    Direction::Write => Operation::Write { offset, bytes: block_bytes },
                    Direction::Read => Operation::Read { offset, bytes: block_bytes },
                };
                started[slot] = now;
                ring.push(slot, target.index, operation);
            }
        }
        if !ring.is_busy() {
            return Ok(Streamed { operations, took: begin.elapsed(), latency });
        }
        ring.wait(&mut done)?;
        let now = Instant::now();
        for Completion { slot, result } in done.drain(..) {
            whole(result?, block_bytes)?;
            latency.record(now - started[slot]);
            operations += 1;
            idle.push(slot);
        }
    }
}

/// One write and what makes it durable, one after the other, until the time is over.
pub(super) fn commit(
    ring: &mut Ring,
    target: Target,
    extents: Extents,
    durable: Durable,
    block_bytes: u32,
    time: Duration,
) -> io::Result<Committed> {
    let blocks = target.bytes / u64::from(block_bytes);
    assert!(blocks > 0, "the file holds at least one block");
    let mut committed = Committed {
        operations: 0,
        write: Latency::new(),
        flush: Latency::new(),
        both: Latency::new(),
        took: Duration::ZERO,
    };
    let begin = Instant::now();
    while begin.elapsed() < time {
        let block = committed.operations % blocks;
        if block == 0 {
            start_over(ring, target, extents)?;
        }
        let offset = block * u64::from(block_bytes);
        let start = Instant::now();
        let wrote = one(ring, target.index, Operation::Write { offset, bytes: block_bytes })?;
        whole(wrote, block_bytes)?;
        let written = Instant::now();
        if durable == Durable::Flush {
            flush(ring, target.index)?;
        }
        let end = Instant::now();
        committed.operations += 1;
        committed.took += end - start;
        committed.write.record(written - start);
        committed.flush.record(end - written);
        committed.both.record(end - start);
    }
    Ok(committed)
}

/// Brings the file into the state that the extents' name says, with nothing left to flush.
fn start_over(ring: &mut Ring, target: Target, extents: Extents) -> io::Result<()> {
    match extents {
        Extents::PreWritten => return Ok(()),
        Extents::Extending => target.file.set_len(0)?,
        Extents::Fallocated => {
            target.file.set_len(0)?;
            rustix::fs::fallocate(target.file, rustix::fs::FallocateFlags::empty(), 0, target.bytes)?;
        }
    }
    flush(ring, target.index)
}

fn flush(ring: &mut Ring, file: FileIndex) -> io::Result<()> {
    one(ring, file, Operation::Flush).map(|_| ())
}

fn one(ring: &mut Ring, file: FileIndex, operation: Operation) -> io::Result<u32> {
    let mut done = Vec::with_capacity(1);
    ring.push(0, file, operation);
    ring.wait(&mut done)?;
    done.pop().expect("one was waited for").result
}

/// A short write or read would be counted as a whole one.
fn whole(bytes: u32, wanted: u32) -> io::Result<()> {
    if bytes == wanted {
        return Ok(());
    }
    Err(io::Error::other(format!("{bytes} of {wanted} bytes were moved: is the disk full or failing?")))
}

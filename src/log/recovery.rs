//! The verdict on a segment's bytes after an unclean stop.
//!
//! A [`Scanner`] is fed the bytes from a position known to be good on, in chunks of any size. It gives each batch
//! that is whole and right, and at the end says how far the segment is to be kept and why not further:
//!
//! ```text
//!   position          valid_bytes
//!   │ batch │ batch │ batch │ 0 0 0 0 0 0 …   CleanEnd: unused preallocated space
//!   │ batch │ batch │ batch │ ba              Torn: the bytes end inside a batch
//!   │ batch │ batch │ batch │ b?tch │ batch   BadCrc, BadHeader, OffsetOutOfOrder, EpochOutOfOrder
//!   │ batch │ batch │ batch │ 0 0 0 │ batch   DataAfterZeros: a write that was lost before one that was not
//! ```
//!
//! What follows `valid_bytes` is never part of the log again, even where it holds good batches: they came after
//! something that is missing. No bytes make it panic; it holds one header, and of batches only control batches, which
//! are small.

use super::control::{self, EndMarker};
use crate::model::{LeaderEpoch, Offset};
use crate::protocol::batch::{BatchHeader, HEADER_BYTES, MAGIC};
use crate::protocol::crc::crc32c_append;

/// First byte that the CRC covers.
const CRC_FROM: usize = 21;

/// Whether a log's offsets follow each other without gaps.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Offsets {
    /// Each batch begins where the one before ends.
    Dense,
    /// Compaction may have left gaps, and batches with fewer records than offsets.
    Gaps,
    /// `Gaps` below this offset, `Dense` from it on; no gap reaches across.
    DenseFrom(Offset),
}

impl Offsets {
    /// Whether there may be a gap behind `next`, and how far it may reach.
    fn gap_behind(self, next: Offset) -> Option<Offset> {
        match self {
            Offsets::Dense => None,
            Offsets::Gaps => Some(Offset(i64::MAX)),
            Offsets::DenseFrom(dense) => (next < dense).then_some(dense),
        }
    }
}

/// Where a scan begins and what must hold there.
#[derive(Clone, Copy, Debug)]
pub struct Start {
    /// The segment's base offset.
    pub base_offset: Offset,
    /// Position in the file of the first byte fed.
    pub position: u64,
    /// The offset the first batch must (where offsets are dense) or may at least (where they have gaps) have.
    pub next_offset: Offset,
    /// No batch may have a lower epoch.
    pub last_epoch: LeaderEpoch,
    pub offsets: Offsets,
    /// No batch is longer: the largest segment.bytes the topic may have had.
    pub max_batch_bytes: u64,
}

/// Why the scan ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Reason {
    /// Nothing, or only zeros, after the last good batch.
    CleanEnd,
    /// The bytes end inside a batch. `need` is what the batch takes, or a header when that is cut already.
    Torn {
        have: u64,
        need: u64,
    },
    /// The bytes are not those that were written. Also what a torn batch looks like in preallocated space.
    BadCrc {
        base_offset: Offset,
        stored: u32,
        computed: u32,
    },
    /// The header cannot be one.
    BadHeader {
        what: &'static str,
    },
    OffsetOutOfOrder {
        expected: Offset,
        found: Offset,
    },
    EpochOutOfOrder {
        last: LeaderEpoch,
        found: LeaderEpoch,
    },
    /// A hole of zeros with data behind it, at this position in the file.
    DataAfterZeros {
        position: u64,
    },
}

/// What to keep.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Verdict {
    /// Position in the file where the good batches end.
    pub valid_bytes: u64,
    /// The offset after the last good batch.
    pub next_offset: Offset,
    /// The epoch of the last good batch; the start's if there is none.
    pub last_epoch: LeaderEpoch,
    pub reason: Reason,
}

/// Whether more bytes are of use.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Progress {
    More,
    /// The verdict is certain; what follows need not be read.
    Done,
}

/// What the next byte belongs to.
#[derive(Clone, Debug)]
enum State {
    /// A header of which `have` bytes are in the scanner's buffer.
    Header {
        have: usize,
    },
    /// The records of a batch whose header is sane.
    Body {
        header: BatchHeader,
        left: usize,
        crc: u32,
    },
    /// Everything since the last good batch was zero.
    Zeros,
    Ended(Reason),
}

/// Gets a batch, its position, and how it ends a transaction if it does.
pub type Each<'a> = dyn FnMut(&BatchHeader, u64, Option<EndMarker>) + 'a;

/// Fed with a segment's bytes in order, in chunks of any size.
#[derive(Clone, Debug)]
pub struct Scanner {
    start: Start,
    state: State,
    header: [u8; HEADER_BYTES],
    /// The records of a control batch, as far as they have come.
    control: Vec<u8>,
    /// Position in the file of the next byte fed.
    position: u64,
    valid_bytes: u64,
    next_offset: Offset,
    last_epoch: LeaderEpoch,
}

impl Scanner {
    #[must_use]
    pub fn new(start: Start) -> Scanner {
        Scanner {
            start,
            state: State::Header { have: 0 },
            header: [0; HEADER_BYTES],
            control: Vec::new(),
            position: start.position,
            valid_bytes: start.position,
            next_offset: start.next_offset,
            last_epoch: start.last_epoch,
        }
    }

    /// The next bytes of the file. `each` gets every batch that is found good, with its position.
    pub fn feed(&mut self, chunk: &[u8], each: &mut dyn FnMut(&BatchHeader, u64)) -> Progress {
        self.feed_with_markers(chunk, &mut |header, position, _| each(header, position))
    }

    /// The same; of a control batch that ends a transaction, `each` is told how.
    pub fn feed_with_markers(&mut self, mut chunk: &[u8], each: &mut Each<'_>) -> Progress {
        while !chunk.is_empty() {
            let used = match &mut self.state {
                State::Header { have } => {
                    let used = chunk.len().min(HEADER_BYTES - *have);
                    self.header[*have..*have + used].copy_from_slice(&chunk[..used]);
                    *have += used;
                    if *have == HEADER_BYTES {
                        self.state = self.after_header();
                    }
                    used
                }
                State::Body { header, left, crc } => {
                    let used = chunk.len().min(*left);
                    if header.is_control() && header.total_bytes <= control::BYTES_MAX {
                        self.control.extend_from_slice(&chunk[..used]);
                    }
                    *crc = crc32c_append(*crc, &chunk[..used]);
                    *left -= used;
                    used
                }
                State::Zeros => match chunk.iter().position(|&byte| byte != 0) {
                    Some(at) => {
                        let position = self.position + at as u64;
                        self.state = State::Ended(Reason::DataAfterZeros { position });
                        at
                    }
                    None => chunk.len(),
                },
                State::Ended(_) => return Progress::Done,
            };
            chunk = &chunk[used..];
            self.position += used as u64;
            if let State::Body { header, left: 0, crc } = self.state {
                self.state = self.after_batch(&header, crc, each);
            }
        }
        match self.state {
            State::Ended(_) => Progress::Done,
            _ => Progress::More,
        }
    }

    /// No more bytes: the verdict.
    #[must_use]
    pub fn finish(self) -> Verdict {
        let have = self.position - self.valid_bytes;
        let reason = match self.state {
            State::Zeros => Reason::CleanEnd,
            State::Header { have: used } if self.header[..used].iter().all(|&byte| byte == 0) => {
                Reason::CleanEnd
            }
            State::Header { .. } => Reason::Torn { have, need: HEADER_BYTES as u64 },
            State::Body { header, .. } => Reason::Torn { have, need: header.total_bytes as u64 },
            State::Ended(reason) => reason,
        };
        Verdict {
            valid_bytes: self.valid_bytes,
            next_offset: self.next_offset,
            last_epoch: self.last_epoch,
            reason,
        }
    }

    /// Position in the file where the good batches end so far.
    #[must_use]
    pub fn valid_bytes(&self) -> u64 {
        self.valid_bytes
    }

    /// The offset after the last good batch so far.
    #[must_use]
    pub fn next_offset(&self) -> Offset {
        self.next_offset
    }

    fn after_header(&self) -> State {
        if self.header == [0; HEADER_BYTES] {
            return State::Zeros;
        }
        let header = match BatchHeader::parse(&self.header) {
            Ok(header) => header,
            Err(_) => return State::Ended(Reason::BadHeader { what: "batch length below a header's" }),
        };
        match self.judge(&header) {
            Some(reason) => State::Ended(reason),
            None => State::Body {
                left: header.total_bytes - HEADER_BYTES,
                crc: crc32c_append(0, &self.header[CRC_FROM..]),
                header,
            },
        }
    }

    /// What is wrong with a header here; its CRC is checked when the batch has passed.
    fn judge(&self, header: &BatchHeader) -> Option<Reason> {
        // the offset after the batch must exist too
        let next_offset = header.base_offset.0.checked_add(i64::from(header.last_offset_delta) + 1);
        let in_segment = next_offset.is_some_and(|next| {
            next.checked_sub(self.start.base_offset.0).is_some_and(|end| end <= i64::from(i32::MAX) + 1)
        });
        let what = if header.magic != MAGIC {
            "record format is not 2"
        } else if header.total_bytes as u64 > self.start.max_batch_bytes {
            "batch length above a segment's"
        } else if header.codec().is_none() {
            "unknown compression"
        } else if header.last_offset_delta < 0 || header.record_count < 0 {
            "negative count"
        } else if i64::from(header.record_count) > i64::from(header.last_offset_delta) + 1 {
            "more records than offsets"
        } else if self.start.offsets.gap_behind(header.base_offset).is_none()
            && i64::from(header.record_count) != i64::from(header.last_offset_delta) + 1
        {
            "fewer records than offsets"
        } else if header.base_offset >= self.next_offset && !in_segment {
            "offset out of the segment's range"
        } else {
            let (expected, found) = (self.next_offset, header.base_offset);
            let gap = self.start.offsets.gap_behind(expected);
            let in_order = found == expected || gap.is_some_and(|end| (expected..=end).contains(&found));
            if !in_order {
                return Some(Reason::OffsetOutOfOrder { expected, found });
            }
            let (last, found) = (self.last_epoch, header.leader_epoch);
            return (found < last).then_some(Reason::EpochOutOfOrder { last, found });
        };
        Some(Reason::BadHeader { what })
    }

    fn after_batch(&mut self, header: &BatchHeader, computed: u32, each: &mut Each<'_>) -> State {
        let records = std::mem::take(&mut self.control);
        if computed != header.crc {
            let (base_offset, stored) = (header.base_offset, header.crc);
            return State::Ended(Reason::BadCrc { base_offset, stored, computed });
        }
        each(header, self.valid_bytes, control::end_marker(header, &records));
        self.valid_bytes = self.position;
        self.next_offset = header.next_offset();
        self.last_epoch = header.leader_epoch;
        State::Header { have: 0 }
    }
}

/// Places in `bytes`, which lie at `position` of the file, that look like a batch header: the batch begins at `least` or
/// above and ends at `end` or before. Where good batches go on behind damage is looked for among them.
#[must_use]
pub fn candidates(bytes: &[u8], position: u64, end: u64, least: Offset) -> Vec<(u64, BatchHeader)> {
    const MAGIC_AT: usize = 16;
    let mut found = Vec::new();
    for at in 0..bytes.len().saturating_sub(HEADER_BYTES - 1) {
        if bytes[at + MAGIC_AT] != MAGIC as u8 {
            continue;
        }
        let Ok(header) = BatchHeader::parse(&bytes[at..]) else { continue };
        let place = position + at as u64;
        let near = header.base_offset >= least && header.base_offset.0 - least.0 < i64::from(i32::MAX);
        if near && header.last_offset_delta >= 0 && place + header.total_bytes as u64 <= end {
            found.push((place, header));
        }
    }
    found
}

#[cfg(test)]
mod tests;

//! The part of Produce that decompresses and compresses: on the blocking pool, and in bounded memory.
//!
//! What a request sends is paid for by its frame's reservation, but a batch may be many times larger in another codec.
//! A request takes room for all its batches at once, before the first is decompressed, so that no two wait for what
//! the other holds, and gives it back when what it appended is durable.

use std::rc::Rc;

use bytes::Bytes;

use crate::log::compaction::DECOMPRESSED_BYTES_MAX;
use crate::log::validate::{self, Checked, Rejection, Rules};
use crate::model::TimestampMs;
use crate::protocol::batch::{self, BatchHeader, Codec};
use crate::reactor::blocking;
use crate::reactor::sync::Credits;

/// By so much at most batches of requests in flight have grown, for each shard.
const ROOM_BYTES: u64 = 64 << 20;
/// A compressed batch of this size is decompressed and walked on the shard's thread: some 50 µs.
const WALKED_AT_ONCE_MAX: usize = 4096;

/// Lives on its shard, in the broker.
pub(super) struct Room(Rc<Credits>);

impl Room {
    pub(super) fn new() -> Room {
        Room(Rc::new(Credits::new(ROOM_BYTES)))
    }

    /// Waits for room for batches that grow by `bytes` at most.
    pub(super) async fn take(&self, bytes: u64) -> Share {
        let held = bytes.min(ROOM_BYTES);
        if held > 0 {
            self.0.take(held).await;
        }
        Share { room: Rc::clone(&self.0), held, used: 0 }
    }
}

/// What a request holds of the room.
pub(super) struct Share {
    room: Rc<Credits>,
    held: u64,
    used: u64,
}

impl Share {
    pub(super) fn is_empty(&self) -> bool {
        self.held == 0
    }

    /// Gives back what was not used.
    pub(super) fn settle(&mut self) {
        self.room.give(self.held - self.used);
        self.held = self.used;
    }

    /// Whether a batch that has grown by this much is within it.
    fn uses(&mut self, bytes: u64) -> bool {
        let is_within = bytes <= self.held - self.used;
        if is_within {
            self.used += bytes;
        }
        is_within
    }
}

impl Drop for Share {
    fn drop(&mut self) {
        self.room.give(self.held);
    }
}

/// By how much a batch may grow that is decompressed to be stored. One that comes uncompressed hardly does.
pub(super) fn growth_max(records: &[u8], rules: &Rules) -> u64 {
    let codec = BatchHeader::parse(records).ok().and_then(|header| header.codec());
    let is_repacked = codec.is_some_and(|codec| codec != Codec::None && rules.repacks(codec).is_some());
    if is_repacked { rules.max_message_bytes.saturating_sub(records.len()) as u64 } else { 0 }
}

/// The batch as it is to be stored. The pool has two threads a shard, so that many batches at most are held
/// decompressed.
pub(super) async fn open(
    checked: Checked,
    batch: Bytes,
    rules: &Rules,
    now: TimestampMs,
    share: &mut Share,
) -> Result<(Bytes, BatchHeader), Rejection> {
    let bytes = batch.len();
    let is_walk = checked.header.codec().is_some_and(|codec| rules.repacks(codec).is_none());
    if is_walk && bytes <= WALKED_AT_ONCE_MAX {
        let opened = validate::open(&checked, &batch, rules, now, 4 * WALKED_AT_ONCE_MAX);
        if !matches!(opened, Err(Rejection::Records(batch::Error::DecompressedTooLarge))) {
            return opened;
        }
    }
    let is_compressed = checked.header.codec() != Some(Codec::None);
    let rules = *rules;
    let (stored, header) =
        blocking(move || validate::open(&checked, &batch, &rules, now, DECOMPRESSED_BYTES_MAX)).await?;
    let grown = if is_compressed { stored.len().saturating_sub(bytes) } else { 0 };
    if !share.uses(grown as u64) {
        return Err(Rejection::Records(batch::Error::DecompressedTooLarge));
    }
    Ok((stored, header))
}

//! Kafka's `.snapshot` file, version 1: producer state as of the offset in the file's name. Taken at every roll and
//! at a clean stop, so that recovery reads only the batches after it.
//!
//! Layout (big endian): version i16 = 1 | CRC-32C u32 of everything after it | count i32 | per producer: id i64,
//! epoch i16, last sequence i32, last offset i64, offset delta i32, timestamp i64, coordinator epoch i32, first
//! offset of the open transaction i64. -1 is "none".
//!
//! Kafka writes the last batch of a producer only, so a client that has several in flight when the broker is killed
//! behind a roll repeats the older ones in vain: out of order. Here a producer's remembered batches come one after the
//! other, each as an entry, oldest first; Kafka takes the last entry of a producer and reads the same as from its own
//! file. Of too many producers only the last batches are kept, which bounds the file. Source: Kafka's
//! `ProducerSnapshot.json`, `ProducerStateManager`.

use super::Damage;
use super::producer_state::{ProducerEntry, ProducerStates, RememberedBatch};
use crate::model::ProducerId;
use crate::protocol::crc::crc32c;

const VERSION: i16 = 1;
const CRC_AT: usize = 2;
const BODY_AT: usize = 6;
const ENTRIES_AT: usize = 10;
const ENTRY_BYTES: usize = 46;
/// Up to so many producers have their older batches in the file.
const REMEMBERED_PRODUCERS_MAX: usize = 10_000;

/// The file's bytes.
#[must_use]
pub fn encode(states: &ProducerStates) -> Vec<u8> {
    let with_older = states.len() <= REMEMBERED_PRODUCERS_MAX;
    let older = |entry: &ProducerEntry| if with_older { entry.older_batches().len() } else { 0 };
    let entries: usize = states.entries().map(|(_, entry)| older(entry) + 1).sum();
    let count = i32::try_from(entries).expect("producers are bounded by the memory budget");
    let mut bytes = Vec::with_capacity(ENTRIES_AT + entries * ENTRY_BYTES);
    bytes.extend_from_slice(&VERSION.to_be_bytes());
    bytes.extend_from_slice(&[0; 4]);
    bytes.extend_from_slice(&count.to_be_bytes());
    for (id, entry) in states.entries() {
        let none = RememberedBatch { last_sequence: -1, offset_delta: 0, last_offset: -1, timestamp: -1 };
        let last =
            RememberedBatch { timestamp: entry.last_timestamp, ..*entry.last_batch().unwrap_or(&none) };
        for batch in entry.older_batches().iter().take(older(entry)).chain([&last]) {
            bytes.extend_from_slice(&id.0.to_be_bytes());
            bytes.extend_from_slice(&entry.epoch.to_be_bytes());
            bytes.extend_from_slice(&batch.last_sequence.to_be_bytes());
            bytes.extend_from_slice(&batch.last_offset.to_be_bytes());
            bytes.extend_from_slice(&batch.offset_delta.to_be_bytes());
            bytes.extend_from_slice(&batch.timestamp.to_be_bytes());
            bytes.extend_from_slice(&entry.coordinator_epoch.to_be_bytes());
            bytes.extend_from_slice(&entry.txn_first_offset.unwrap_or(-1).to_be_bytes());
        }
    }
    let crc = crc32c(&bytes[BODY_AT..]);
    bytes[CRC_AT..BODY_AT].copy_from_slice(&crc.to_be_bytes());
    bytes
}

/// # Errors
/// What is wrong; an older snapshot, or the whole log, is to be read instead.
pub fn decode(bytes: &[u8]) -> Result<ProducerStates, Damage> {
    let damage = |what: String| Err(Damage(format!("producer snapshot {what}")));
    let Some((head, entries)) = bytes.split_first_chunk::<ENTRIES_AT>() else {
        return damage(format!("of {} bytes is too short", bytes.len()));
    };
    let version = i16::from_be_bytes([head[0], head[1]]);
    if version != VERSION {
        return damage(format!("has unknown version {version}"));
    }
    let stored = u32::from_be_bytes([head[2], head[3], head[4], head[5]]);
    let computed = crc32c(&bytes[BODY_AT..]);
    if stored != computed {
        return damage(format!("has checksum {stored:#x}, its bytes have {computed:#x}"));
    }
    let count = i32::from_be_bytes([head[6], head[7], head[8], head[9]]);
    if usize::try_from(count).ok().and_then(|count| count.checked_mul(ENTRY_BYTES)) != Some(entries.len()) {
        return damage(format!("says {count} producers in {} bytes", entries.len()));
    }
    let mut states = ProducerStates::default();
    for entry in entries.chunks_exact(ENTRY_BYTES) {
        let (id, entry) = decode_entry(entry.try_into().expect("an entry's bytes"));
        if id < ProducerId(0) {
            return damage(format!("has producer id {}", id.0));
        }
        states.insert_next(id, entry);
    }
    Ok(states)
}

fn decode_entry(bytes: &[u8; ENTRY_BYTES]) -> (ProducerId, ProducerEntry) {
    let long = |at: usize| i64::from_be_bytes(bytes[at..at + 8].try_into().expect("eight bytes"));
    let int = |at: usize| i32::from_be_bytes(bytes[at..at + 4].try_into().expect("four bytes"));
    let epoch = i16::from_be_bytes([bytes[8], bytes[9]]);
    let (last_sequence, last_offset, offset_delta, timestamp) = (int(10), long(14), int(22), long(26));
    let mut entry = ProducerEntry::new(epoch);
    if last_offset >= 0 {
        entry.push(epoch, RememberedBatch { last_sequence, offset_delta, last_offset, timestamp });
    }
    entry.last_timestamp = timestamp;
    entry.coordinator_epoch = int(34);
    entry.txn_first_offset = Some(long(38)).filter(|&offset| offset >= 0);
    (ProducerId(long(0)), entry)
}

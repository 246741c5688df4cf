//! The format of a shard's commit journal: small batches of all partitions, round after round, in files that are
//! recycled. Ours; Kafka has nothing like it.
//!
//! A file is one block that says which *life* of the file this is, then rounds, each from a block boundary on. A round
//! carries life and sequence inside its checksum, so what an earlier life left behind never counts, and every entry
//! says where its batches belong: topic id, partition, segment, position. So a replay is writes of the same bytes to the
//! same places, however often it is done.
//!
//! Layout (big endian). File: magic 8 bytes | life u64 | CRC-32C u32 of what is before it | zeros up to the block's end.
//! Round: magic u32 | CRC-32C u32 of everything after it | life u64 | sequence u64 | flushed u64 | length u32, padding
//! not counted | entries u32 | entries. Entry: length u32 of its batches | partition i32 | topic 16 bytes | segment i64 |
//! position u32 | leader epoch i32 of the last batch | base offset i64 | end offset i64, exclusive | kind u32 |
//! batches.
//! `flushed` is the last round that was flushed when this one was written: what is missing up to there was lost by the
//! disk, what is missing behind it was never acknowledged as flushed.

use std::ops::{Range, RangeInclusive};

use super::Damage;
use crate::model::{LeaderEpoch, Offset, PartitionId, TopicId};
use crate::protocol::crc::crc32c;

/// Rounds begin at multiples of it, and the file's head fills one.
pub const BLOCK_BYTES: usize = 4096;
pub const ROUND_HEAD_BYTES: usize = 40;
pub const ENTRY_HEAD_BYTES: usize = 60;

const FILE_MAGIC: [u8; 8] = *b"corelane";
const FILE_HEAD_BYTES: usize = 20;
const ROUND_MAGIC: u32 = 0x636c_6a31;
/// Of a round: where the checksum is, and where what it covers begins.
const CRC_AT: usize = 4;
const COVERED_AT: usize = 8;

/// Where batches that lie one behind the other belong.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Entry {
    pub partition: PartitionId,
    /// Base offset of the segment.
    pub segment: Offset,
    /// Of the first batch, in the segment's file.
    pub position: u32,
    /// The last batch's.
    pub epoch: LeaderEpoch,
    /// Base offset of the first batch.
    pub base: Offset,
    /// Exclusive.
    pub end: Offset,
    pub kind: Kind,
}

/// What an entry says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    Batches,
    /// And whatever the log has below `base` is flushed, or lies in this journal.
    Settled,
    /// The log is cut, to end at `end`: nothing the journal has of it before this counts any more. What stays is flushed in
    /// its segments.
    Truncation,
}

impl Kind {
    const fn number(self) -> u32 {
        match self {
            Kind::Batches => 0,
            Kind::Settled => 1,
            Kind::Truncation => 2,
        }
    }

    fn of(number: u32) -> Option<Kind> {
        [Kind::Batches, Kind::Settled, Kind::Truncation].into_iter().find(|kind| kind.number() == number)
    }
}

/// A round found in a file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Round {
    pub sequence: u64,
    /// The last round that was flushed when this one was written.
    pub flushed: u64,
    /// With the place of its batches in the file.
    pub entries: Vec<(Entry, Range<usize>)>,
}

/// The first block of a file that begins its life.
#[must_use]
pub fn encode_file_head(life: u64) -> [u8; BLOCK_BYTES] {
    let mut head = [0; BLOCK_BYTES];
    head[..8].copy_from_slice(&FILE_MAGIC);
    head[8..16].copy_from_slice(&life.to_be_bytes());
    let crc = crc32c(&head[..16]);
    head[16..FILE_HEAD_BYTES].copy_from_slice(&crc.to_be_bytes());
    head
}

/// Bytes of a round with so many entries and so many bytes of batches, padding included.
#[must_use]
pub fn round_bytes(entries: usize, batch_bytes: usize) -> usize {
    (ROUND_HEAD_BYTES + entries * ENTRY_HEAD_BYTES + batch_bytes).next_multiple_of(BLOCK_BYTES)
}

/// Fills a buffer with one round.
#[derive(Debug)]
pub struct RoundWriter<'a> {
    out: &'a mut [u8],
    at: usize,
    entries: u32,
}

impl<'a> RoundWriter<'a> {
    /// `out` is as long as [`round_bytes`] says.
    #[must_use]
    pub fn new(out: &'a mut [u8]) -> RoundWriter<'a> {
        RoundWriter { out, at: ROUND_HEAD_BYTES, entries: 0 }
    }

    /// Adds an entry; the caller puts its batches into the slice, whose place in the buffer is given, too.
    pub fn entry(&mut self, entry: &Entry, batch_bytes: usize) -> (usize, &mut [u8]) {
        let length = u32::try_from(batch_bytes).expect("a round is smaller than 4 GiB");
        let head = &mut self.out[self.at..self.at + ENTRY_HEAD_BYTES];
        head[..4].copy_from_slice(&length.to_be_bytes());
        head[4..8].copy_from_slice(&entry.partition.index.to_be_bytes());
        head[8..24].copy_from_slice(&entry.partition.topic.0.to_be_bytes());
        head[24..32].copy_from_slice(&entry.segment.0.to_be_bytes());
        head[32..36].copy_from_slice(&entry.position.to_be_bytes());
        head[36..40].copy_from_slice(&entry.epoch.0.to_be_bytes());
        head[40..48].copy_from_slice(&entry.base.0.to_be_bytes());
        head[48..56].copy_from_slice(&entry.end.0.to_be_bytes());
        head[56..60].copy_from_slice(&entry.kind.number().to_be_bytes());
        let at = self.at + ENTRY_HEAD_BYTES;
        self.at = at + batch_bytes;
        self.entries += 1;
        (at, &mut self.out[at..at + batch_bytes])
    }

    /// All entries are in.
    #[must_use]
    pub fn done(self) -> Unsealed {
        self.out[self.at..].fill(0);
        let length = u32::try_from(self.at).expect("a round is smaller than 4 GiB");
        Unsealed { length, entries: self.entries }
    }
}

/// A round whose place in the journal is not known yet.
#[derive(Clone, Copy, Debug)]
pub struct Unsealed {
    length: u32,
    entries: u32,
}

impl Unsealed {
    /// Writes the round's head into the buffer it was made in.
    pub fn seal(self, out: &mut [u8], life: u64, sequence: u64, flushed: u64) {
        out[..4].copy_from_slice(&ROUND_MAGIC.to_be_bytes());
        out[8..16].copy_from_slice(&life.to_be_bytes());
        out[16..24].copy_from_slice(&sequence.to_be_bytes());
        out[24..32].copy_from_slice(&flushed.to_be_bytes());
        out[32..36].copy_from_slice(&self.length.to_be_bytes());
        out[36..40].copy_from_slice(&self.entries.to_be_bytes());
        let crc = crc32c(&out[COVERED_AT..self.length as usize]);
        out[CRC_AT..COVERED_AT].copy_from_slice(&crc.to_be_bytes());
    }
}

/// The rounds of the file's present life, by ascending sequence. After a block that is no round the search goes on:
/// whether what is missing matters is [`judge`]'s question.
///
/// # Errors
/// The head is neither a head nor zeros: a sector that was written long before cannot be read as it was.
pub fn read_file(file: &[u8]) -> Result<Vec<Round>, Damage> {
    let head = file.get(..FILE_HEAD_BYTES).unwrap_or_default();
    if head.iter().all(|byte| *byte == 0) {
        return Ok(Vec::new());
    }
    if head[..8] != FILE_MAGIC || u32_at(head, 16) != crc32c(&head[..16]) {
        return Err(Damage("the journal file's head is damaged".to_owned()));
    }
    let life = u64_at(head, 8);
    let mut rounds: Vec<Round> = Vec::new();
    let mut at = BLOCK_BYTES;
    while at + ROUND_HEAD_BYTES <= file.len() {
        match round_at(file, at, life) {
            Some((round, length)) if rounds.last().is_none_or(|last| last.sequence < round.sequence) => {
                rounds.push(round);
                at += length.next_multiple_of(BLOCK_BYTES);
            }
            _ => at += BLOCK_BYTES,
        }
    }
    Ok(rounds)
}

/// The round at this place and its length, if one of this life is there, whole.
fn round_at(file: &[u8], at: usize, life: u64) -> Option<(Round, usize)> {
    let head = file.get(at..at + ROUND_HEAD_BYTES)?;
    if u32_at(head, 0) != ROUND_MAGIC || u64_at(head, 8) != life {
        return None;
    }
    let length = u32_at(head, 32) as usize;
    let round = file.get(at..at.checked_add(length)?)?;
    if length < ROUND_HEAD_BYTES || crc32c(&round[COVERED_AT..]) != u32_at(head, CRC_AT) {
        return None;
    }
    let mut entries = Vec::new();
    let mut next = ROUND_HEAD_BYTES;
    for _ in 0..u32_at(head, 36) {
        let head = round.get(next..next + ENTRY_HEAD_BYTES)?;
        let begin = next + ENTRY_HEAD_BYTES;
        next = begin.checked_add(u32_at(head, 0) as usize).filter(|end| *end <= length)?;
        entries.push((decode_entry(head)?, at + begin..at + next));
    }
    Some((Round { sequence: u64_at(head, 16), flushed: u64_at(head, 24), entries }, length))
}

fn decode_entry(head: &[u8]) -> Option<Entry> {
    let topic = (u128::from(u64_at(head, 8)) << 64) | u128::from(u64_at(head, 16));
    Some(Entry {
        partition: PartitionId { topic: TopicId(topic), index: u32_at(head, 4).cast_signed() },
        segment: Offset(u64_at(head, 24).cast_signed()),
        position: u32_at(head, 32),
        epoch: LeaderEpoch(u32_at(head, 36).cast_signed()),
        base: Offset(u64_at(head, 40).cast_signed()),
        end: Offset(u64_at(head, 48).cast_signed()),
        kind: Kind::of(u32_at(head, 56))?,
    })
}

fn u32_at(bytes: &[u8], at: usize) -> u32 {
    u32::from_be_bytes(bytes[at..at + 4].try_into().expect("four bytes"))
}

fn u64_at(bytes: &[u8], at: usize) -> u64 {
    u64::from_be_bytes(bytes[at..at + 8].try_into().expect("eight bytes"))
}

/// What the files of one journal say together.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Judgement {
    /// Which file, and which of its rounds: those that count, in order.
    pub rounds: Vec<(usize, usize)>,
    /// Everything up to this round was flushed once.
    pub flushed: u64,
    /// Rounds that were flushed and are not there any more.
    pub lost: Vec<RangeInclusive<u64>>,
}

/// Which rounds count, given the rounds of each file. Files are recycled in order, so what is there is one sequence,
/// and it ends where the first round is missing; unless that one is known to have been flushed: then the disk lost it,
/// and what comes behind it was acknowledged as well.
#[must_use]
pub fn judge(files: &[Vec<Round>]) -> Judgement {
    let mut order: Vec<(u64, usize, usize)> = files
        .iter()
        .enumerate()
        .flat_map(|(file, rounds)| {
            rounds.iter().enumerate().map(move |(index, round)| (round.sequence, file, index))
        })
        .collect();
    order.sort_unstable();
    let flushed = files.iter().flatten().map(|round| round.flushed).max().unwrap_or(0);
    let mut judgement = Judgement { flushed, ..Judgement::default() };
    let mut expected = order.first().map_or(0, |first| first.0);
    for (sequence, file, index) in order {
        if sequence > expected {
            if expected > flushed {
                break;
            }
            judgement.lost.push(expected..=sequence - 1);
        }
        judgement.rounds.push((file, index));
        expected = sequence.saturating_add(1);
    }
    judgement
}

#[cfg(test)]
mod tests;

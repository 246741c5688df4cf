use super::*;
use crate::protocol::batch::{patch_base_offset_and_epoch, rewrite_crc};
use crate::protocol::test_batch::{self, Spec};

const START: Start = Start {
    base_offset: Offset(100),
    position: 0,
    next_offset: Offset(100),
    last_epoch: LeaderEpoch(3),
    offsets: Offsets::Dense,
    max_batch_bytes: 1 << 20,
};

/// A batch at this offset, of this many records and about this many bytes each.
fn batch(base_offset: i64, records: usize, value_bytes: usize, epoch: i32) -> Vec<u8> {
    let mut batch = test_batch::encode(&Spec { records, value_bytes, ..Spec::default() }).to_vec();
    patch_base_offset_and_epoch(&mut batch, Offset(base_offset), LeaderEpoch(epoch));
    batch
}

/// Batches of three records from offset 100 on, epoch 3 and later 4: bytes, and where each begins.
fn segment(batches: usize) -> (Vec<u8>, Vec<u64>) {
    let (mut bytes, mut positions) = (Vec::new(), Vec::new());
    for number in 0..batches {
        positions.push(bytes.len() as u64);
        let epoch = if number < batches / 2 { 3 } else { 4 };
        bytes.extend(batch(100 + 3 * number as i64, 3, 10 + 37 * number, epoch));
    }
    (bytes, positions)
}

fn scan(start: Start, bytes: &[u8], chunk_bytes: usize) -> (Vec<(BatchHeader, u64)>, Verdict) {
    let mut scanner = Scanner::new(start);
    let mut found = Vec::new();
    for chunk in bytes.chunks(chunk_bytes) {
        let progress = scanner.feed(chunk, &mut |header, position| found.push((*header, position)));
        if progress == Progress::Done {
            break;
        }
    }
    (found, scanner.finish())
}

/// Scans in chunks of several sizes, which must not matter, and looks at the reason and the number of good batches.
fn check(start: Start, bytes: &[u8], good: usize, reason: Reason) -> Verdict {
    let (found, verdict) = scan(start, bytes, usize::MAX);
    assert_eq!(found.len(), good, "{verdict:?}");
    assert_eq!(verdict.reason, reason);
    let end = found.last().map_or(start.position, |(header, position)| position + header.total_bytes as u64);
    assert_eq!(verdict.valid_bytes, end);
    assert_eq!(
        verdict.next_offset,
        found.last().map_or(start.next_offset, |(header, _)| header.next_offset())
    );
    assert_eq!(verdict.last_epoch, found.last().map_or(start.last_epoch, |(header, _)| header.leader_epoch));
    for chunk_bytes in [1, 7, 60, 61, 62, 4096] {
        assert_eq!(
            scan(start, bytes, chunk_bytes),
            (found.clone(), verdict.clone()),
            "chunks of {chunk_bytes}"
        );
    }
    verdict
}

#[test]
fn whole_batches_and_nothing_or_zeros_behind_them() {
    let (bytes, positions) = segment(8);
    for zeros in [0, 1, 60, 61, 62, 4096, 100_000] {
        let mut padded = bytes.clone();
        padded.resize(bytes.len() + zeros, 0);
        let verdict = check(START, &padded, 8, Reason::CleanEnd);
        assert_eq!(verdict.valid_bytes, bytes.len() as u64);
        assert_eq!(verdict.next_offset, Offset(124));
        assert_eq!(verdict.last_epoch, LeaderEpoch(4));
    }
    let (found, _) = scan(START, &bytes, 100);
    assert_eq!(found.iter().map(|(_, position)| *position).collect::<Vec<_>>(), positions);
    check(START, &[], 0, Reason::CleanEnd);
    check(START, &[0; 5000], 0, Reason::CleanEnd);
}

#[test]
fn from_the_middle() {
    let (bytes, positions) = segment(8);
    let middle = Start { position: positions[5], next_offset: Offset(115), ..START };
    let verdict = check(middle, &bytes[positions[5] as usize..], 3, Reason::CleanEnd);
    assert_eq!(verdict.valid_bytes, bytes.len() as u64);
}

#[test]
fn cut_anywhere() {
    let (bytes, positions) = segment(3);
    for length in 0..bytes.len() {
        let good = positions.iter().skip(1).filter(|&&end| end <= length as u64).count();
        let (found, verdict) = scan(START, &bytes[..length], 33);
        assert_eq!((found.len(), verdict.valid_bytes), (good, positions[good]), "cut to {length}");
        let have = length as u64 - positions[good];
        match verdict.reason {
            // a header's first bytes are zero: not to be told from unused space
            Reason::CleanEnd => {
                assert!(bytes[positions[good] as usize..length].iter().all(|&byte| byte == 0))
            }
            Reason::Torn { have: told, need } => {
                let whole = positions.get(good + 1).copied().unwrap_or(bytes.len() as u64) - positions[good];
                assert_eq!(told, have, "cut to {length}");
                assert_eq!(need, if have < HEADER_BYTES as u64 { HEADER_BYTES as u64 } else { whole });
            }
            other => panic!("cut to {length}: {other:?}"),
        }
    }
}

#[test]
fn any_changed_byte_ends_the_log_before_its_batch() {
    let (bytes, positions) = segment(3);
    for at in positions[1] as usize..positions[2] as usize {
        for bit in 0..8 {
            let mut damaged = bytes.clone();
            damaged[at] ^= 1 << bit;
            let (found, verdict) = scan(START, &damaged, 4096);
            let in_batch = at - positions[1] as usize;
            if found.len() == 3 {
                // the epoch lies outside the CRC: a higher one cannot be told from a right one, unless the next
                // batch goes back
                assert!((12..16).contains(&in_batch), "byte {at} bit {bit} went through");
                continue;
            }
            let epoch_raised = (12..16).contains(&in_batch) && found.len() == 2;
            assert!(found.len() == 1 || epoch_raised, "byte {at} bit {bit}: {verdict:?}");
        }
    }
}

#[test]
fn damage_is_told_apart() {
    let first = batch(100, 3, 50, 3);
    let with = |second: &[u8]| [&first[..], second].concat();

    let mut rotten = batch(103, 3, 50, 3);
    *rotten.last_mut().unwrap() ^= 1;
    let stored = BatchHeader::parse(&rotten).unwrap().crc;
    let computed = crc32c_append(0, &rotten[CRC_FROM..]);
    check(START, &with(&rotten), 1, Reason::BadCrc { base_offset: Offset(103), stored, computed });

    // unwritten sectors at the end of the batch, in preallocated space
    let mut half = batch(103, 3, 5000, 3);
    half[4096..].fill(0);
    let (found, verdict) = scan(START, &with(&half), 512);
    assert_eq!(found.len(), 1);
    assert!(matches!(verdict.reason, Reason::BadCrc { .. }));

    // unwritten sectors at its beginning
    let mut hole = batch(103, 3, 5000, 3);
    hole[..4096].fill(0);
    let position = (first.len() + 4096) as u64;
    check(START, &with(&hole), 1, Reason::DataAfterZeros { position });

    // a stale batch of another life of these blocks
    for found in [99, 100, 102, 104] {
        let expected = Offset(103);
        let reason = Reason::OffsetOutOfOrder { expected, found: Offset(found) };
        check(START, &with(&batch(found, 3, 50, 3)), 1, reason);
    }
    let reason = Reason::EpochOutOfOrder { last: LeaderEpoch(3), found: LeaderEpoch(2) };
    check(START, &with(&batch(103, 3, 50, 2)), 1, reason);
    let reason = Reason::EpochOutOfOrder { last: LeaderEpoch(3), found: LeaderEpoch(-1) };
    check(START, &batch(100, 3, 50, -1), 0, reason);
}

#[test]
fn headers_that_cannot_be() {
    let check_header = |change: &dyn Fn(&mut Vec<u8>), what: &'static str| {
        let mut changed = batch(100, 3, 50, 3);
        change(&mut changed);
        rewrite_crc(&mut changed);
        check(START, &changed, 0, Reason::BadHeader { what });
    };
    let put = |at: usize, value: i32| {
        move |batch: &mut Vec<u8>| batch[at..at + 4].copy_from_slice(&value.to_be_bytes())
    };
    for length in [i32::MIN, -1, 0, 48] {
        check_header(&put(8, length), "batch length below a header's");
    }
    for length in [(1 << 20) - 11, i32::MAX] {
        check_header(&put(8, length), "batch length above a segment's");
    }
    for magic in [0, 1, 3, 0xff] {
        check_header(&|batch| batch[16] = magic, "record format is not 2");
    }
    for codec in 5..8 {
        check_header(&|batch| batch[22] = codec, "unknown compression");
    }
    check_header(&put(23, -1), "negative count");
    check_header(&put(57, -1), "negative count");
    check_header(&put(57, 4), "more records than offsets");
    check_header(&put(57, i32::MAX), "more records than offsets");
    check_header(&put(57, 2), "fewer records than offsets");
    check_header(&put(23, 5), "fewer records than offsets");
}

#[test]
fn offsets_stay_in_the_segments_range() {
    let what = "offset out of the segment's range";
    let last = i64::from(i32::MAX) + 100;
    let start = Start { next_offset: Offset(last - 2), ..START };
    check(start, &batch(last - 2, 3, 50, 3), 1, Reason::CleanEnd);
    let start = Start { next_offset: Offset(last - 1), ..START };
    check(start, &batch(last - 1, 3, 50, 3), 0, Reason::BadHeader { what });
    let top = Start { base_offset: Offset(i64::MAX - 5), next_offset: Offset(i64::MAX - 1), ..START };
    check(top, &batch(i64::MAX - 1, 3, 50, 3), 0, Reason::BadHeader { what });
    check(top, &batch(i64::MAX - 1, 2, 50, 3), 0, Reason::BadHeader { what });
    check(top, &batch(i64::MAX - 1, 1, 50, 3), 1, Reason::CleanEnd);
}

#[test]
fn compacted_logs_have_gaps() {
    let gaps = Start { offsets: Offsets::Gaps, ..START };
    // a gap between batches, and a batch that lost a record
    let mut thinned = batch(110, 3, 50, 4);
    thinned[23..27].copy_from_slice(&9i32.to_be_bytes());
    rewrite_crc(&mut thinned);
    let bytes = [batch(105, 3, 50, 3), thinned, batch(500, 1, 50, 4)].concat();
    let verdict = check(gaps, &bytes, 3, Reason::CleanEnd);
    assert_eq!(verdict.next_offset, Offset(501));
    // a batch emptied, kept for its producer's sequence
    let mut empty = batch(100, 3, 0, 3);
    empty.truncate(HEADER_BYTES);
    empty[8..12].copy_from_slice(&49i32.to_be_bytes());
    empty[57..61].copy_from_slice(&0i32.to_be_bytes());
    rewrite_crc(&mut empty);
    let verdict = check(gaps, &empty, 1, Reason::CleanEnd);
    assert_eq!(verdict.next_offset, Offset(103));
    let reason = Reason::BadHeader { what: "fewer records than offsets" };
    check(START, &empty, 0, reason);
    let reason = Reason::OffsetOutOfOrder { expected: Offset(108), found: Offset(107) };
    check(gaps, &[batch(105, 3, 50, 3), batch(107, 3, 50, 3)].concat(), 1, reason);
}

#[test]
fn nothing_after_the_verdict_is_looked_at() {
    let (bytes, positions) = segment(3);
    let mut damaged = bytes.clone();
    damaged[positions[1] as usize + 30] ^= 1;
    let mut scanner = Scanner::new(START);
    let mut count = 0;
    assert_eq!(scanner.feed(&damaged, &mut |_, _| count += 1), Progress::Done);
    assert_eq!(scanner.feed(&bytes, &mut |_, _| count += 1), Progress::Done);
    assert_eq!(count, 1);
    assert_eq!(scanner.finish().valid_bytes, positions[1]);
}

/// Random and mutated bytes: never a panic, the same verdict however they are cut into chunks, and what is kept is a
/// run of good batches from the start.
#[test]
fn any_bytes_get_a_verdict() {
    let mut random: u64 = 0x2545_f491_4f6c_dd1d;
    let mut next = |bound: usize| {
        random ^= random << 13;
        random ^= random >> 7;
        random ^= random << 17;
        (random % bound as u64) as usize
    };
    let (clean, _) = segment(6);
    let mut damaged_seen = 0;
    for round in 0..3_000 {
        let mut bytes = clean.clone();
        match round % 4 {
            0 => {
                let length = next(600);
                bytes = (0..length).map(|_| next(256) as u8).collect();
            }
            1 => {
                for _ in 0..1 + next(4) {
                    let at = next(bytes.len());
                    bytes[at] = next(256) as u8;
                }
            }
            2 => {
                // sectors lost, repeated, exchanged
                let (from, to, length) = (next(bytes.len()), next(bytes.len()), next(512));
                let end = (from + length).min(bytes.len());
                let moved = bytes[from..end].to_vec();
                let room = moved.len().min(bytes.len() - to);
                bytes[to..to + room].copy_from_slice(&moved[..room]);
                bytes[from..end].fill(0);
            }
            _ => {
                let at = next(bytes.len());
                bytes.truncate(at);
                bytes.resize(at + next(300), 0);
                if next(2) == 0 {
                    bytes.push(1);
                }
            }
        }
        let offsets = if next(2) == 0 { Offsets::Dense } else { Offsets::Gaps };
        let start = Start { offsets, ..START };
        let (found, verdict) = scan(start, &bytes, usize::MAX);
        assert_eq!(scan(start, &bytes, 1 + next(200)), (found.clone(), verdict.clone()));
        damaged_seen += usize::from(verdict.reason != Reason::CleanEnd);
        let kept = &bytes[..verdict.valid_bytes as usize];
        let (again, clean_verdict) = scan(start, kept, 64);
        assert_eq!(again, found);
        assert_eq!(clean_verdict, Verdict { reason: Reason::CleanEnd, ..verdict });
    }
    assert!(damaged_seen > 1_500, "{damaged_seen}");
}

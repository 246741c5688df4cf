use super::*;

fn entry(index: i32, base: i64) -> Entry {
    Entry {
        partition: PartitionId { topic: TopicId(u128::MAX - 7), index },
        segment: Offset(base / 100 * 100),
        position: base as u32 * 10,
        epoch: LeaderEpoch(3),
        base: Offset(base),
        end: Offset(base + 2),
        kind: [Kind::Batches, Kind::Settled, Kind::Truncation][base as usize / 10 % 3],
    }
}

/// A round with entries of so many bytes each; byte values tell entries and sequence apart.
fn round(life: u64, sequence: u64, flushed: u64, sizes: &[usize]) -> Vec<u8> {
    let mut bytes = vec![0xee; round_bytes(sizes.len(), sizes.iter().sum())];
    let mut writer = RoundWriter::new(&mut bytes);
    for (index, &size) in sizes.iter().enumerate() {
        let (_, space) = writer.entry(&entry(index as i32, sequence as i64 * 10), size);
        space.fill(sequence as u8 ^ index as u8);
    }
    writer.done().seal(&mut bytes, life, sequence, flushed);
    bytes
}

fn file(life: u64, rounds: &[Vec<u8>], length: usize) -> Vec<u8> {
    let mut bytes = encode_file_head(life).to_vec();
    rounds.iter().for_each(|round| bytes.extend_from_slice(round));
    bytes.resize(length.max(bytes.len()), 0);
    bytes
}

fn sequences(file: &[u8]) -> Vec<u64> {
    read_file(file).unwrap().iter().map(|round| round.sequence).collect()
}

#[test]
fn what_is_written_is_read() {
    let sizes =
        [vec![100, 5_000, 1], vec![], vec![4096 - ROUND_HEAD_BYTES - ENTRY_HEAD_BYTES], vec![0, 70_000]];
    let rounds: Vec<Vec<u8>> = (7_u64..).zip(&sizes).map(|(at, sizes)| round(5, at, at - 1, sizes)).collect();
    assert_eq!(rounds[2].len(), 4096, "exactly one block");
    let bytes = file(5, &rounds, 1 << 20);
    let read = read_file(&bytes).unwrap();
    assert_eq!(read.len(), 4);
    for (round, sizes) in read.iter().zip(&sizes) {
        assert_eq!(round.flushed, round.sequence - 1);
        assert_eq!(round.entries.len(), sizes.len());
        for (index, ((found, place), &size)) in round.entries.iter().zip(sizes).enumerate() {
            assert_eq!(*found, entry(index as i32, round.sequence as i64 * 10));
            assert_eq!(place.len(), size);
            assert!(bytes[place.clone()].iter().all(|byte| *byte == round.sequence as u8 ^ index as u8));
        }
    }
}

#[test]
fn an_earlier_life_never_counts() {
    let old: Vec<Vec<u8>> = (1..20).map(|sequence| round(1, sequence, sequence - 1, &[100])).collect();
    let mut bytes = file(1, &old, 0);
    assert_eq!(sequences(&bytes).len(), 19);
    bytes[..BLOCK_BYTES].copy_from_slice(&encode_file_head(2));
    assert!(sequences(&bytes).is_empty());
    let new = round(2, 20, 19, &[10]);
    bytes[BLOCK_BYTES..2 * BLOCK_BYTES].copy_from_slice(&new);
    assert_eq!(
        sequences(&bytes),
        [20],
        "not the old rounds behind it, whose sequence is lower or whose life is gone"
    );
}

#[test]
fn a_file_without_a_head_is_unused_and_a_broken_head_is_damage() {
    assert_eq!(read_file(&[]), Ok(Vec::new()));
    assert_eq!(read_file(&vec![0; 1 << 16]), Ok(Vec::new()));
    let good = file(9, &[round(9, 1, 0, &[10])], 0);
    for bit in 0..FILE_HEAD_BYTES * 8 {
        let mut bytes = good.clone();
        bytes[bit / 8] ^= 1 << (bit % 8);
        assert!(read_file(&bytes).is_err(), "bit {bit}");
    }
}

#[test]
fn a_round_that_is_not_whole_is_none() {
    let good = file(9, &[round(9, 1, 0, &[3_000]), round(9, 2, 1, &[6_000]), round(9, 3, 2, &[50])], 0);
    assert_eq!(sequences(&good), [1, 2, 3]);
    let ends = [4096 + 3_100, 8192 + 6_100, 16_384 + 150];
    for cut in (512..good.len()).step_by(512) {
        // behind a crash each sector is the old or the new one
        let mut torn = good.clone();
        torn[cut..].fill(0);
        let whole = ends.iter().filter(|&&end| end <= cut).count() as u64;
        assert!(sequences(&torn).into_iter().eq(1..=whole), "cut at {cut}");
    }
    // what covers the rounds' bytes: none survives a flipped bit
    for at in [4096, 4099, 4103, 4110, 4120, 4130, 4135, 4139, 4150, 4200, 7_000] {
        let mut bytes = good.clone();
        bytes[at] ^= 0x10;
        assert_eq!(sequences(&bytes), [2, 3], "byte {at}");
    }
}

#[test]
fn lengths_from_the_disk_are_not_believed() {
    let mut bytes = file(9, &[round(9, 1, 0, &[10])], 3 * BLOCK_BYTES);
    for (at, value) in
        [(32, u32::MAX), (32, 0), (32, 39), (36, u32::MAX), (36, 2), (40, u32::MAX), (40, 4000)]
    {
        let mut changed = bytes.clone();
        changed[BLOCK_BYTES + at..BLOCK_BYTES + at + 4].copy_from_slice(&value.to_be_bytes());
        // with a checksum that matches, as only a bug could leave it
        let length = u32_at(&changed, BLOCK_BYTES + 32) as usize;
        if let Some(covered) = changed.get(BLOCK_BYTES + COVERED_AT..BLOCK_BYTES + length) {
            let crc = crc32c(covered);
            changed[BLOCK_BYTES + CRC_AT..BLOCK_BYTES + COVERED_AT].copy_from_slice(&crc.to_be_bytes());
        }
        assert!(sequences(&changed).is_empty(), "{value} at {at}");
    }
    bytes.truncate(BLOCK_BYTES + 100);
    assert!(sequences(&bytes).is_empty());
}

fn found(pairs: &[(u64, u64)]) -> Vec<Round> {
    pairs.iter().map(|&(sequence, flushed)| Round { sequence, flushed, entries: Vec::new() }).collect()
}

#[test]
fn the_end_is_the_first_round_that_is_missing() {
    // without a flush a power cut may lose any round, and the rest is not behind anything acknowledged
    let judged = judge(&[found(&[(4, 0), (5, 0), (7, 0)])]);
    assert_eq!(judged, Judgement { rounds: vec![(0, 0), (0, 1)], flushed: 0, lost: vec![] });
    assert_eq!(judge(&[]), Judgement::default());
    assert_eq!(judge(&[vec![], vec![]]), Judgement::default());
}

#[test]
fn a_flushed_round_that_is_missing_is_lost_and_not_the_end() {
    let judged = judge(&[found(&[(10, 9), (11, 10), (14, 13)]), found(&[(8, 7), (16, 14), (18, 14)])]);
    assert_eq!(judged.rounds, [(1, 0), (0, 0), (0, 1), (0, 2)]);
    assert_eq!(judged.lost, [9..=9, 12..=13]);
    assert_eq!(judged.flushed, 14, "15 was not known to be flushed when 16 was written: that is the end");
}

#[test]
fn files_follow_by_sequence_whatever_their_order() {
    let judged = judge(&[found(&[(5, 4), (6, 5)]), found(&[(7, 6)]), found(&[(3, 2), (4, 3)])]);
    assert_eq!(judged.rounds, [(2, 0), (2, 1), (0, 0), (0, 1), (1, 0)]);
    assert_eq!(judged.lost, []);
}

#[test]
fn a_round_with_an_entry_of_an_unknown_kind_is_none() {
    let mut bytes = round(5, 1, 0, &[10, 20]);
    let second = ROUND_HEAD_BYTES + ENTRY_HEAD_BYTES + 10;
    bytes[second + 59] = 3;
    let length = (second + ENTRY_HEAD_BYTES + 20) as u32;
    Unsealed { length, entries: 2 }.seal(&mut bytes, 5, 1, 0);
    assert!(sequences(&file(5, &[bytes], 0)).is_empty());
}

use super::*;
use crate::model::Offset;

/// What the text files are made of.
const TEXT: &[u8] = b"0123 -\n\t:=\\u.aversion";

/// Random bytes, and good files with bytes changed, into every decoder: never a panic, neither in what is decoded;
/// what is taken is what a file of its own would hold.
#[test]
fn any_bytes_get_an_answer_from_every_decoder() {
    let mut random: u64 = 0x2545_f491_4f6c_dd1d;
    let mut next = |bound: usize| {
        random ^= random << 13;
        random ^= random >> 7;
        random ^= random << 17;
        (random % bound as u64) as usize
    };
    let mut taken = [0; 3];
    for round in 0..20_000 {
        let mut bytes: Vec<u8> = (0..next(20) * [8, 12, 34][round % 3]).map(|_| next(256) as u8).collect();
        // small columns, so that some files are right
        if next(2) == 0 {
            for (at, byte) in bytes.iter_mut().enumerate() {
                let low = [at % 4 >= 2, at % 12 >= 6, at % 34 == 25][round % 3];
                *byte = if low { (at / 3) as u8 } else { 0 };
            }
            if !bytes.is_empty() && next(4) == 0 {
                let at = next(bytes.len());
                bytes[at] = next(256) as u8;
            }
        }
        let base = Offset([0, 5, i64::MAX - 40, i64::MAX][next(4)]);
        let used = bytes.iter().rposition(|&byte| byte != 0).map_or(0, |last| last + 1);
        let mut encoded = Vec::new();
        if let Ok(index) = offset_index::OffsetIndex::decode(base, 100, 1 << 20, &bytes) {
            taken[0] += usize::from(!index.is_empty());
            let last = index.lookup(Offset(i64::MAX));
            assert_eq!(index.last().unwrap_or(last), last);
            index.encode(0, &mut encoded);
            assert_eq!(encoded[..used], bytes[..used]);
        }
        encoded.clear();
        if let Ok(index) = time_index::TimeIndex::decode(base, 100, Offset(i64::MAX), &bytes) {
            taken[1] += usize::from(!index.is_empty());
            let last = index.lookup(crate::model::TimestampMs(i64::MAX));
            assert_eq!(index.last().unwrap_or(last), last);
            index.encode(0, &mut encoded);
            assert_eq!(encoded[..used], bytes[..used]);
        }
        encoded.clear();
        if let Ok(index) = txn_index::TxnIndex::decode(base, &bytes) {
            taken[2] += usize::from(!index.entries().is_empty());
            index.collect(Offset(0), Offset(i64::MAX), &mut Vec::new());
            index.encode(0, &mut encoded);
            assert_eq!(encoded[..used], bytes[..used]);
        }
        assert!(producer_snapshot::decode(&bytes).is_err(), "no checksum by chance");

        let text: String = bytes.iter().map(|byte| TEXT[usize::from(*byte) % TEXT.len()] as char).collect();
        let text = ["", "0\n1\n", "version: 0\ntopic_id: ", "version=1\n"][next(4)].to_owned() + &text;
        let _ = checkpoint::decode_offsets(&text);
        let _ = epoch_cache::EpochCache::decode(&text);
        let _ = checkpoint::decode_partition_metadata(&text);
        let _ = checkpoint::MetaProperties::decode(&text);
        let _ = checkpoint::decode_clean_shutdown(&text);
        let _ = files::SegmentFile::parse(&text);
        let _ = files::parse_folder(&text);
    }
    assert!(taken.iter().all(|&count| count > 100), "{taken:?}");
}

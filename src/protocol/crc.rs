//! The record batch checksum: CRC-32C (Castagnoli). Two crates compute it: `crc32c` with the CPU's instruction for it, which
//! goes on where an earlier piece ended, and `crc-fast` by folding with carry-less multiplication, three to four times as fast
//! from 400 bytes on and no slower below (`benches/codec.rs`), which every produced batch and every round of the journal
//! goes through. The tests hold each against the other.

/// CRC-32C of `bytes`, as a v2 record batch carries it.
#[must_use]
pub fn crc32c(bytes: &[u8]) -> u32 {
    crc_fast::crc32_iscsi(bytes)
}

/// The checksum of bytes whose beginning has checksum `crc` (0: none yet) and that go on with `bytes`.
#[must_use]
pub fn crc32c_append(crc: u32, bytes: &[u8]) -> u32 {
    crc32c::crc32c_append(crc, bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn known_answers() {
        // RFC 3720, appendix B.4, and the check value of the CRC catalogue
        assert_eq!(crc32c(&[0; 32]), 0x8a91_36aa);
        assert_eq!(crc32c(&[0xff; 32]), 0x62a8_ab43);
        assert_eq!(crc32c(b"123456789"), 0xe306_9283);
    }

    #[test]
    fn both_crates_agree() {
        let bytes: Vec<u8> = (0..70_000_u32).map(|i| (i.wrapping_mul(0x9e37_79b9) >> 24) as u8).collect();
        let lengths = (0..=2_000).chain([4_095, 4_096, 16_384, 65_537, bytes.len() - 64]);
        for length in lengths {
            // wherever it lies in memory
            let from = length % 64;
            let piece = &bytes[from..from + length];
            assert_eq!(crc32c(piece), crc32c_append(0, piece), "{length} bytes from {from}");
        }
    }

    #[test]
    fn in_pieces() {
        let whole = b"123456789";
        for cut in 0..=whole.len() {
            assert_eq!(crc32c_append(crc32c_append(0, &whole[..cut]), &whole[cut..]), crc32c(whole));
        }
    }
}

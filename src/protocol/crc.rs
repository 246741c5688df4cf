//! The record batch checksum: CRC-32C (Castagnoli), by the `crc32c` crate, which uses the CPU's instruction.

/// CRC-32C of `bytes`, as a v2 record batch carries it.
#[must_use]
pub fn crc32c(bytes: &[u8]) -> u32 {
    crc32c::crc32c(bytes)
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
    fn in_pieces() {
        let whole = b"123456789";
        for cut in 0..=whole.len() {
            assert_eq!(crc32c_append(crc32c_append(0, &whole[..cut]), &whole[cut..]), crc32c(whole));
        }
    }
}

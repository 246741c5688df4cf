//! Variable-length integers, read from the front of a slice.
//!
//! Kafka writes seven bits a byte, lowest first, the top bit set on all but the last byte. Lengths in flexible
//! versions are unsigned; the fields of a record are signed, folded by zigzag (0, -1, 1, -2, …).

/// An unsigned varint of at most five bytes. `None`: the bytes end first, or say more than 32 bits.
#[inline]
pub(crate) fn take_unsigned_varint(bytes: &mut &[u8]) -> Option<u32> {
    let (&first, rest) = bytes.split_first()?;
    if first < 0x80 {
        *bytes = rest;
        return Some(u32::from(first));
    }
    take_long_unsigned_varint(bytes)
}

fn take_long_unsigned_varint(bytes: &mut &[u8]) -> Option<u32> {
    let mut value = 0_u32;
    for (index, &byte) in bytes.iter().take(5).enumerate() {
        if index == 4 && byte > 0x0f {
            return None;
        }
        value |= u32::from(byte & 0x7f) << (7 * index);
        if byte < 0x80 {
            *bytes = &bytes[index + 1..];
            return Some(value);
        }
    }
    None
}

/// A signed varint of at most five bytes.
#[inline]
pub(super) fn take_varint(bytes: &mut &[u8]) -> Option<i32> {
    let folded = take_unsigned_varint(bytes)?;
    Some((folded >> 1) as i32 ^ -((folded & 1) as i32))
}

/// A signed varint of at most ten bytes.
#[inline]
pub(super) fn take_varlong(bytes: &mut &[u8]) -> Option<i64> {
    let (&first, rest) = bytes.split_first()?;
    let folded = if first < 0x80 {
        *bytes = rest;
        u64::from(first)
    } else {
        take_long_unsigned_varlong(bytes)?
    };
    Some((folded >> 1) as i64 ^ -((folded & 1) as i64))
}

fn take_long_unsigned_varlong(bytes: &mut &[u8]) -> Option<u64> {
    let mut value = 0_u64;
    for (index, &byte) in bytes.iter().take(10).enumerate() {
        if index == 9 && byte > 0x01 {
            return None;
        }
        value |= u64::from(byte & 0x7f) << (7 * index);
        if byte < 0x80 {
            *bytes = &bytes[index + 1..];
            return Some(value);
        }
    }
    None
}

/// Appends an unsigned varint: at most five bytes.
pub(crate) fn put_unsigned_varint(out: &mut Vec<u8>, mut value: u32) {
    while value >= 0x80 {
        out.push(value as u8 | 0x80);
        value >>= 7;
    }
    out.push(value as u8);
}

/// Appends a signed varint: at most ten bytes, five for what fits 32 bits.
pub(super) fn put_varlong(out: &mut Vec<u8>, value: i64) {
    let mut folded = ((value << 1) ^ (value >> 63)) as u64;
    while folded >= 0x80 {
        out.push(folded as u8 | 0x80);
        folded >>= 7;
    }
    out.push(folded as u8);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_at_every_width() {
        let mut bytes = Vec::new();
        let values: Vec<i64> =
            (0..64).flat_map(|bit| [1_i64 << bit, (1_i64 << bit).wrapping_sub(1)]).collect();
        for &value in &values {
            put_varlong(&mut bytes, value);
            put_varlong(&mut bytes, value.wrapping_neg());
        }
        let mut rest: &[u8] = &bytes;
        for &value in &values {
            assert_eq!(take_varlong(&mut rest), Some(value));
            assert_eq!(take_varlong(&mut rest), Some(value.wrapping_neg()));
        }
        assert!(rest.is_empty());
        for value in [0, -1, 1, 63, -64, 64, 300, i32::MAX, i32::MIN] {
            let mut bytes = Vec::new();
            put_varlong(&mut bytes, i64::from(value));
            assert_eq!(take_varint(&mut &bytes[..]), Some(value));
        }
    }

    #[test]
    fn what_does_not_end_or_does_not_fit_is_refused() {
        for bytes in [&[][..], &[0x80], &[0xff; 4], &[0xff; 5], &[0x80, 0x80, 0x80, 0x80, 0x10]] {
            let mut rest = bytes;
            assert_eq!(take_unsigned_varint(&mut rest), None, "{bytes:?}");
            assert_eq!(rest, bytes, "nothing is taken on refusal");
        }
        assert_eq!(take_unsigned_varint(&mut &[0xff, 0xff, 0xff, 0xff, 0x0f][..]), Some(u32::MAX));
        assert_eq!(take_varlong(&mut &[0xff; 10][..]), None);
        assert_eq!(
            take_varlong(&mut &[0x80, 0x80, 0x80, 0x80, 0x80, 0x80, 0x80, 0x80, 0x80, 0x02][..]),
            None
        );
    }
}

//! Reads Kafka's primitive types from a response, in place.

/// The response ends early or holds what cannot be.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Malformed;

impl std::fmt::Display for Malformed {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("a response that does not follow Kafka's protocol")
    }
}

impl std::error::Error for Malformed {}

pub struct Cursor<'a> {
    rest: &'a [u8],
}

impl<'a> Cursor<'a> {
    #[must_use]
    pub fn new(bytes: &'a [u8]) -> Cursor<'a> {
        Cursor { rest: bytes }
    }

    /// What has not been read.
    #[must_use]
    pub fn rest(&self) -> &'a [u8] {
        self.rest
    }

    pub fn bytes(&mut self, count: usize) -> Result<&'a [u8], Malformed> {
        let (head, rest) = self.rest.split_at_checked(count).ok_or(Malformed)?;
        self.rest = rest;
        Ok(head)
    }

    fn array<const N: usize>(&mut self) -> Result<[u8; N], Malformed> {
        let (head, rest) = self.rest.split_first_chunk::<N>().ok_or(Malformed)?;
        self.rest = rest;
        Ok(*head)
    }

    pub fn int16(&mut self) -> Result<i16, Malformed> {
        self.array().map(i16::from_be_bytes)
    }

    pub fn int32(&mut self) -> Result<i32, Malformed> {
        self.array().map(i32::from_be_bytes)
    }

    pub fn int64(&mut self) -> Result<i64, Malformed> {
        self.array().map(i64::from_be_bytes)
    }

    pub fn unsigned_varint(&mut self) -> Result<u32, Malformed> {
        self.varint_bits().and_then(|bits| u32::try_from(bits).map_err(|_| Malformed))
    }

    /// Zigzag, as in records.
    pub fn varint(&mut self) -> Result<i64, Malformed> {
        let bits = self.varint_bits()?;
        Ok((bits >> 1) as i64 ^ -((bits & 1) as i64))
    }

    fn varint_bits(&mut self) -> Result<u64, Malformed> {
        let mut bits = 0;
        for shift in (0..64).step_by(7) {
            let (&byte, rest) = self.rest.split_first().ok_or(Malformed)?;
            self.rest = rest;
            bits |= u64::from(byte & 0x7f) << shift;
            if byte & 0x80 == 0 {
                return Ok(bits);
            }
        }
        Err(Malformed)
    }

    /// The length of an array or of bytes; null counts as empty.
    pub fn length(&mut self, flexible: bool) -> Result<usize, Malformed> {
        let length = if flexible { i64::from(self.unsigned_varint()?) - 1 } else { i64::from(self.int32()?) };
        Ok(usize::try_from(length).unwrap_or(0))
    }

    /// A string's bytes; null counts as empty.
    pub fn string(&mut self, flexible: bool) -> Result<&'a [u8], Malformed> {
        let length = if flexible { i64::from(self.unsigned_varint()?) - 1 } else { i64::from(self.int16()?) };
        self.bytes(usize::try_from(length).unwrap_or(0))
    }

    /// Skips the tagged fields, which only flexible versions have.
    pub fn tagged_fields(&mut self, flexible: bool) -> Result<(), Malformed> {
        if flexible {
            for _ in 0..self.unsigned_varint()? {
                self.unsigned_varint()?;
                let length = self.unsigned_varint()?;
                self.bytes(length as usize)?;
            }
        }
        Ok(())
    }
}

//! The decode guard: refuses a request body whose lengths lie, before the `kafka-protocol` crate believes them.
//!
//! The crate makes room for as many elements as an array's length says before it has seen one; twelve bytes of
//! Produce can ask it for 206 GB. So every body is first walked along its shape, from `guard_table.rs`, which is
//! generated from Kafka's message schemas. The walk allocates nothing and takes about 50 ns for a Produce of one
//! partition. What it refuses:
//! - an array of more elements than the rest of the body could hold at their smallest size,
//! - a length that is negative (other than -1 where null is allowed) or reaches behind the body,
//! - a string longer than 32,767 bytes, as Kafka does,
//! - a structure that may be null and of which the first byte does not say whether it is,
//! - a varint that does not end within five bytes or says more than 32 bits,
//! - a tagged field whose value does not fill its size (the crate reads past it),
//! - a body that would decode to more than [`MEMORY_FACTOR`] times its size plus [`MEMORY_FREE_BYTES`], or to more
//!   than [`MEMORY_MAX_BYTES`].
//!
//! Bytes behind the body are left alone: Kafka ignores them too. UTF-8 is the crate's to check.
//!
//! To regenerate the table after a change of `api.rs` or a new Kafka release, see `tests/it/guard_table.rs`.

use std::fmt;

use super::api::Api;
use super::guard_table;
use super::wire::take_unsigned_varint;

/// What a decoded request may take in memory for each of its bytes. Elements are larger decoded than on the wire
/// (a topic of the smallest Produce: 3 bytes, decoded 96); sixteen times is what real requests stay far below.
pub const MEMORY_FACTOR: usize = 16;
/// What it may take beyond that, so that short names in a short request are no matter.
pub const MEMORY_FREE_BYTES: usize = 64 * 1024;

/// What it may take whatever its size: a million elements of the usual size, more than Kafka allows in one array.
/// Record data does not count, it is not copied.
pub const MEMORY_MAX_BYTES: usize = 128 * 1024 * 1024;

/// A tagged field that the crate does not know goes into a map of its structure, whose first node has room for
/// eleven: 408 bytes. Each is charged as if it were the first.
const UNKNOWN_TAG_BYTES: u32 = 416;

const STRING_BYTES_MAX: u32 = i16::MAX as u32;

/// The next field of a structure, as it lies on the wire.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Field {
    /// Fields of fixed size, this many bytes together.
    Fixed(u32),
    /// Length `i16`.
    String { nullable: bool },
    /// Length varint, one more than it is; 0 is null.
    CompactString { nullable: bool },
    /// Length `i32`; record data too.
    Bytes { nullable: bool },
    /// Length varint, one more than it is; 0 is null.
    CompactBytes { nullable: bool },
    /// Count `i32`.
    Array(Array),
    /// Count varint, one more than it is; 0 is null.
    CompactArray(Array),
    /// A byte, 1 before the structure and -1 in its place. For any other Kafka sees a structure and the crate none.
    NullableStruct(&'static [Field]),
    /// The tagged fields a flexible structure ends with, of which these are known.
    Tags(&'static [Tag]),
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Array {
    pub nullable: bool,
    /// The fewest bytes an element can take on the wire, at least 1.
    pub wire_bytes_min: u32,
    /// What an element takes decoded, apart from what it points to.
    pub memory_bytes: u32,
    pub element: &'static [Field],
}

/// A tagged field of this version.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Tag {
    pub tag: u32,
    pub value: &'static [Field],
}

/// Why a body is refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Error {
    /// The body ends inside a field, or a length reaches behind it.
    Truncated,
    /// A length is negative, or null where that is not allowed.
    Length,
    StringTooLong,
    Varint,
    /// An array has more elements than the rest of the body can hold.
    Count,
    /// The byte that says whether a structure is there says neither.
    Presence,
    /// A tagged field's value and its size differ.
    TagSize,
    /// Decoded, the request would take too much memory for its size.
    Memory,
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Error::Truncated => "it ends inside a field",
            Error::Length => "a length is negative",
            Error::StringTooLong => "a string is longer than 32767 bytes",
            Error::Varint => "a variable-length integer does not end",
            Error::Count => "an array has more elements than the request has room for",
            Error::Presence => "a structure is neither there nor null",
            Error::TagSize => "a tagged field does not fill its size",
            Error::Memory => "it would take too much memory for its size",
        })
    }
}

/// The shape of a request body in a version the table of APIs accepts.
#[must_use]
pub fn shape(api: Api, version: i16) -> &'static [Field] {
    debug_assert!(api.accepted().contains(version), "{} {version} is not served", api.name());
    guard_table::shape(api, version)
}

/// Walks a request body; returns how many of its bytes the request takes.
pub fn check(api: Api, version: i16, body: &[u8]) -> Result<usize, Error> {
    let mut walk = Walk { rest: body, memory_bytes: memory_bytes_max(body.len()) };
    walk.structure(shape(api, version))?;
    Ok(body.len() - walk.rest.len())
}

/// The most a request of this size may take decoded, apart from the frame it points into.
#[must_use]
pub const fn memory_bytes_max(body_bytes: usize) -> usize {
    let by_size = MEMORY_FACTOR.saturating_mul(body_bytes).saturating_add(MEMORY_FREE_BYTES);
    if by_size < MEMORY_MAX_BYTES { by_size } else { MEMORY_MAX_BYTES }
}

struct Walk<'a> {
    rest: &'a [u8],
    /// What the request may still take decoded.
    memory_bytes: usize,
}

impl Walk<'_> {
    /// Recursion is as deep as the shape, which is ours, not the client's.
    fn structure(&mut self, fields: &[Field]) -> Result<(), Error> {
        for field in fields {
            match *field {
                Field::Fixed(bytes) => self.skip(bytes as usize)?,
                Field::String { nullable } => {
                    let length = i32::from(i16::from_be_bytes(self.take()?));
                    self.skip_length(length, nullable)?;
                }
                Field::Bytes { nullable } => {
                    let length = i32::from_be_bytes(self.take()?);
                    self.skip_length(length, nullable)?;
                }
                Field::CompactString { nullable } => {
                    let length = self.varint()?;
                    if length > STRING_BYTES_MAX + 1 {
                        return Err(Error::StringTooLong);
                    }
                    self.skip_compact_length(length, nullable)?;
                }
                Field::CompactBytes { nullable } => {
                    let length = self.varint()?;
                    self.skip_compact_length(length, nullable)?;
                }
                Field::Array(ref array) => match i32::from_be_bytes(self.take()?) {
                    -1 if array.nullable => {}
                    count => self.elements(array, u32::try_from(count).map_err(|_| Error::Length)?)?,
                },
                Field::CompactArray(ref array) => match self.varint()? {
                    0 if array.nullable => {}
                    count => self.elements(array, count.checked_sub(1).ok_or(Error::Length)?)?,
                },
                Field::NullableStruct(fields) => match i8::from_be_bytes(self.take()?) {
                    -1 => {}
                    1 => self.structure(fields)?,
                    _ => return Err(Error::Presence),
                },
                Field::Tags(known) => self.tags(known)?,
            }
        }
        Ok(())
    }

    fn elements(&mut self, array: &Array, count: u32) -> Result<(), Error> {
        // both products are of two u32
        if u64::from(count) * u64::from(array.wire_bytes_min) > self.rest.len() as u64 {
            return Err(Error::Count);
        }
        self.charge(u64::from(count) * u64::from(array.memory_bytes))?;
        if let [Field::Fixed(bytes)] = *array.element {
            return self.skip(count as usize * bytes as usize);
        }
        for _ in 0..count {
            self.structure(array.element)?;
        }
        Ok(())
    }

    #[inline]
    fn tags(&mut self, known: &[Tag]) -> Result<(), Error> {
        match self.varint()? {
            0 => Ok(()),
            count => self.some_tags(known, count),
        }
    }

    fn some_tags(&mut self, known: &[Tag], count: u32) -> Result<(), Error> {
        for _ in 0..count {
            let tag = self.varint()?;
            let size = self.varint()? as usize;
            let (value, behind) = self.rest.split_at_checked(size).ok_or(Error::Truncated)?;
            if let Some(known) = known.iter().find(|known| known.tag == tag) {
                self.rest = value;
                self.structure(known.value)?;
                if !self.rest.is_empty() {
                    return Err(Error::TagSize);
                }
            } else {
                self.charge(u64::from(UNKNOWN_TAG_BYTES))?;
            }
            self.rest = behind;
        }
        Ok(())
    }

    fn charge(&mut self, bytes: u64) -> Result<(), Error> {
        let bytes = usize::try_from(bytes).map_err(|_| Error::Memory)?;
        self.memory_bytes = self.memory_bytes.checked_sub(bytes).ok_or(Error::Memory)?;
        Ok(())
    }

    #[inline]
    fn skip(&mut self, bytes: usize) -> Result<(), Error> {
        self.rest = self.rest.get(bytes..).ok_or(Error::Truncated)?;
        Ok(())
    }

    #[inline]
    fn take<const N: usize>(&mut self) -> Result<[u8; N], Error> {
        let (bytes, rest) = self.rest.split_first_chunk().ok_or(Error::Truncated)?;
        self.rest = rest;
        Ok(*bytes)
    }

    #[inline]
    fn varint(&mut self) -> Result<u32, Error> {
        take_unsigned_varint(&mut self.rest).ok_or(Error::Varint)
    }

    #[inline]
    fn skip_length(&mut self, length: i32, nullable: bool) -> Result<(), Error> {
        match usize::try_from(length) {
            Ok(length) => self.skip(length),
            Err(_) if length == -1 && nullable => Ok(()),
            Err(_) => Err(Error::Length),
        }
    }

    #[inline]
    fn skip_compact_length(&mut self, length: u32, nullable: bool) -> Result<(), Error> {
        match length.checked_sub(1) {
            Some(length) => self.skip(length as usize),
            None if nullable => Ok(()),
            None => Err(Error::Length),
        }
    }
}

//! Aligned buffers for direct I/O, and `Bytes` lent from them to any shard without a copy.

use std::ops::Range;

use bytes::Bytes;

/// Alignment of memory, file position and length for direct I/O.
pub const BLOCK_BYTES: usize = 4096;

/// An aligned buffer of exact size, owned and writable. Contents are unspecified until written.
pub struct Buf {
    _todo: (),
}

/// A buffer that will never be written again. Cloning shares it (one shard only); `lend` crosses shards.
#[derive(Clone)]
pub struct SharedBuf {
    _todo: (),
}

impl Buf {
    /// `len` bytes, a multiple of [`BLOCK_BYTES`].
    #[must_use]
    pub fn new(len: usize) -> Buf {
        let _ = len;
        unimplemented!()
    }

    #[must_use]
    pub fn len(&self) -> usize {
        unimplemented!()
    }

    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    pub fn as_mut_slice(&mut self) -> &mut [u8] {
        unimplemented!()
    }

    /// From here on the contents are immutable and may be written to disk and lent out.
    #[must_use]
    pub fn freeze(self) -> SharedBuf {
        unimplemented!()
    }
}

impl SharedBuf {
    #[must_use]
    pub fn as_slice(&self) -> &[u8] {
        unimplemented!()
    }

    /// A slice for any shard; the memory stays until the last such `Bytes` is dropped, wherever that happens.
    #[must_use]
    pub fn lend(&self, range: Range<usize>) -> Bytes {
        let _ = range;
        unimplemented!()
    }
}

//! A file for direct I/O. Positions and lengths are multiples of [`BLOCK_BYTES`](super::BLOCK_BYTES).

use std::io;
use std::path::Path;

use super::SharedBuf;

/// How to open.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum OpenMode {
    /// Existing file, reading only.
    Read,
    /// Existing file, reading and writing.
    ReadWrite,
    /// Must not exist yet. The name is durable only after [`fs::sync_dir`](super::fs::sync_dir) of its folder.
    CreateNew,
}

/// An open file; cloning shares it within the shard. Closed (in the background) when the last clone is dropped.
#[derive(Clone)]
pub struct File {
    _todo: (),
}

impl File {
    pub async fn open(path: &Path, mode: OpenMode) -> io::Result<File> {
        let _ = (path, mode);
        unimplemented!()
    }

    /// Reads `len` bytes at `position`, both aligned; fewer bytes come back at the end of the file only.
    pub async fn read(&self, position: u64, len: usize) -> io::Result<SharedBuf> {
        let _ = (position, len);
        unimplemented!()
    }

    /// Writes the whole buffer at an aligned `position`, or fails. Durable only after [`Self::sync_data`].
    pub async fn write(&self, buf: &SharedBuf, position: u64) -> io::Result<()> {
        let _ = (buf, position);
        unimplemented!()
    }

    /// fdatasync: data and the length needed to read it back are durable afterwards.
    pub async fn sync_data(&self) -> io::Result<()> {
        unimplemented!()
    }

    /// Makes the file at least `len` bytes long, the new part reading as zeros and its space reserved
    /// (fallocate); ENOSPC when there is none.
    pub async fn allocate(&self, len: u64) -> io::Result<()> {
        let _ = len;
        unimplemented!()
    }

    /// Sets the length; any byte value, no alignment.
    pub async fn truncate(&self, len: u64) -> io::Result<()> {
        let _ = len;
        unimplemented!()
    }

    pub async fn len(&self) -> io::Result<u64> {
        unimplemented!()
    }
}

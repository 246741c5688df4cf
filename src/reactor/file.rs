//! A file for direct I/O. Positions and lengths are multiples of [`BLOCK_BYTES`](super::BLOCK_BYTES).
//!
//! An operation whose future is dropped before its end may still happen, in part or as a whole: wait for it.

use std::fs;
use std::io;
use std::os::fd::{AsRawFd, RawFd};
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;
use std::rc::Rc;

use super::ring::{Buffer, Durably, Ring};
use super::runtime::{self, Runtime};
#[cfg(any(test, feature = "sim"))]
use super::sim;
use super::{BLOCK_BYTES, Buf, SharedBuf, blocking};

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
pub struct File(Arm);

#[derive(Clone)]
enum Arm {
    Ring(Rc<Direct>),
    #[cfg(any(test, feature = "sim"))]
    Virtual(sim::File),
}

/// The most that one read or write may carry; the kernel's own limit is a little below 2 GiB.
const IO_BYTES_MAX: usize = 1 << 30;

impl File {
    pub async fn open(path: &Path, mode: OpenMode) -> io::Result<File> {
        match runtime::current() {
            Runtime::Glommio(_) => {
                let path = path.to_owned();
                let file = blocking(move || open_direct(&path, mode)).await?;
                Ok(File(Arm::Ring(Rc::new(Direct(Some(file))))))
            }
            #[cfg(any(test, feature = "sim"))]
            Runtime::Virtual(shard) => Ok(File(Arm::Virtual(shard.open(path, mode).await?))),
        }
    }

    /// Reads `len` bytes at `position`, both aligned; fewer bytes come back at the end of the file only.
    pub async fn read(&self, position: u64, len: usize) -> io::Result<SharedBuf> {
        assert_aligned(position, len);
        match &self.0 {
            Arm::Ring(file) => read_direct(file, position, len).await,
            #[cfg(any(test, feature = "sim"))]
            Arm::Virtual(file) => file.read(position, len).await,
        }
    }

    /// Writes the whole buffer at an aligned `position`, or fails. Durable only after [`Self::sync_data`].
    pub async fn write(&self, buf: &SharedBuf, position: u64) -> io::Result<()> {
        assert_aligned(position, buf.as_slice().len());
        match &self.0 {
            Arm::Ring(file) => write_direct(file, buf, position, Durably::No).await,
            #[cfg(any(test, feature = "sim"))]
            Arm::Virtual(file) => file.write(buf, position).await,
        }
    }

    /// As [`Self::write`], and what was written is durable when it returns, nothing else: one operation (RWF_DSYNC) where
    /// a write and a flush are two.
    pub async fn write_durable(&self, buf: &SharedBuf, position: u64) -> io::Result<()> {
        assert_aligned(position, buf.as_slice().len());
        match &self.0 {
            Arm::Ring(file) => write_direct(file, buf, position, Durably::Yes).await,
            #[cfg(any(test, feature = "sim"))]
            Arm::Virtual(file) => file.write_durable(buf, position).await,
        }
    }

    /// fdatasync: data and the length needed to read it back are durable afterwards.
    pub async fn sync_data(&self) -> io::Result<()> {
        match &self.0 {
            Arm::Ring(file) => ring().sync_data(file).await.0.map(drop),
            #[cfg(any(test, feature = "sim"))]
            Arm::Virtual(file) => file.sync_data().await,
        }
    }

    /// Makes the file at least `len` bytes long, the new part reading as zeros and its space reserved
    /// (fallocate); ENOSPC when there is none, and then the file may have grown a part of the way.
    pub async fn allocate(&self, len: u64) -> io::Result<()> {
        match &self.0 {
            // fallocate refuses a range of nothing.
            Arm::Ring(_) if len == 0 => Ok(()),
            Arm::Ring(file) => ring().allocate(file, len).await.0.map(drop),
            #[cfg(any(test, feature = "sim"))]
            Arm::Virtual(file) => file.allocate(len).await,
        }
    }

    /// Sets the length; any byte value, no alignment.
    pub async fn truncate(&self, len: u64) -> io::Result<()> {
        match &self.0 {
            Arm::Ring(file) => {
                let file = Rc::clone(file);
                // On a descriptor of its own: should the caller go before the blocking pool gets to it, the number may belong
                // to another file by then.
                let file = file.file().try_clone()?;
                blocking(move || file.set_len(len)).await
            }
            #[cfg(any(test, feature = "sim"))]
            Arm::Virtual(file) => file.truncate(len).await,
        }
    }

    pub async fn len(&self) -> io::Result<u64> {
        match &self.0 {
            Arm::Ring(file) => file.len(),
            #[cfg(any(test, feature = "sim"))]
            Arm::Virtual(file) => file.len().await,
        }
    }
}

fn assert_aligned(position: u64, len: usize) {
    assert!(position.is_multiple_of(BLOCK_BYTES as u64), "position {position} is not on a block");
    assert!(
        len > 0 && len.is_multiple_of(BLOCK_BYTES) && len <= IO_BYTES_MAX,
        "{len} bytes are not whole blocks up to 1 GiB"
    );
}

/// The descriptor, until the last operation on it has ended.
pub(super) struct Direct(Option<fs::File>);

impl Direct {
    fn file(&self) -> &fs::File {
        self.0.as_ref().expect("open until it is dropped")
    }

    pub(super) fn fd(&self) -> RawFd {
        self.file().as_raw_fd()
    }

    fn len(&self) -> io::Result<u64> {
        Ok(self.file().metadata()?.len())
    }
}

impl Drop for Direct {
    /// In the background: the last descriptor of a removed file takes as long as freeing its blocks does.
    fn drop(&mut self) {
        let file = self.0.take();
        runtime::with(|runtime| {
            if let Some(Runtime::Glommio(local)) = runtime {
                local.driver.pool.detach(move || drop(file));
            }
        });
    }
}

fn ring() -> Rc<Ring> {
    Rc::clone(&runtime::local().driver.ring)
}

/// Blocks.
fn open_direct(path: &Path, mode: OpenMode) -> io::Result<fs::File> {
    let mut options = fs::OpenOptions::new();
    options.read(true).write(mode != OpenMode::Read).create_new(mode == OpenMode::CreateNew);
    options.custom_flags(libc::O_DIRECT).open(path)
}

async fn read_direct(file: &Rc<Direct>, position: u64, len: usize) -> io::Result<SharedBuf> {
    let ring = ring();
    let (buf, got) = read_once(&ring, file, position, Buf::new(len)).await?;
    if got == len || position + got as u64 >= file.len()? {
        return Ok(buf.freeze_prefix(got));
    }
    // The kernel may stop early in the middle of a file (a signal, a fault further on): go on from the block it
    // stopped in, to the end or to the error.
    let mut whole = buf;
    let mut filled = got;
    loop {
        let from = filled - filled % BLOCK_BYTES;
        let (rest, more) = read_once(&ring, file, position + from as u64, Buf::new(len - from)).await?;
        let rest = rest.freeze_prefix(more);
        whole.as_mut_slice()[from..from + more].copy_from_slice(rest.as_slice());
        let now_filled = from + more;
        if now_filled == len || position + now_filled as u64 >= file.len()? {
            return Ok(whole.freeze_prefix(now_filled));
        }
        if now_filled <= filled {
            return Err(io::Error::new(
                io::ErrorKind::UnexpectedEof,
                "the device stops in the middle of the file",
            ));
        }
        filled = now_filled;
    }
}

/// The buffer again, and how many bytes were read into it.
async fn read_once(ring: &Rc<Ring>, file: &Rc<Direct>, position: u64, buf: Buf) -> io::Result<(Buf, usize)> {
    let len = buf.len();
    match ring.read(file, position, buf).await {
        (Ok(got), Buffer::Read(buf)) => {
            assert!(got <= len, "read {got} bytes of {len}");
            Ok((buf, got))
        }
        (Ok(_), _) => unreachable!("a read gives back its buffer"),
        (Err(error), _) => Err(error),
    }
}

async fn write_direct(file: &Rc<Direct>, buf: &SharedBuf, position: u64, durably: Durably) -> io::Result<()> {
    let (ring, len) = (ring(), buf.as_slice().len());
    let mut written = 0;
    // The kernel may stop early (the device is full, a signal): go on from the block it stopped in, which either
    // succeeds or tells the reason.
    while written < len {
        let from = written - written % BLOCK_BYTES;
        let more = ring.write(file, position + from as u64, buf.clone(), from, durably).await.0?;
        if from + more <= written {
            return Err(io::ErrorKind::WriteZero.into());
        }
        written = from + more;
    }
    Ok(())
}

/// Nothing is wrong with the disk: the system is short of something that may be there again later.
#[must_use]
pub fn is_shortage(error: &io::Error) -> bool {
    matches!(error.kind(), io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded)
        || matches!(error.raw_os_error(), Some(libc::EMFILE | libc::ENFILE))
}

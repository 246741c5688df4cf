//! A file for direct I/O. Positions and lengths are multiples of [`BLOCK_BYTES`](super::BLOCK_BYTES).
//!
//! An operation whose future is dropped before its end may still happen, in part or as a whole: wait for it.
#![allow(unsafe_code)]

use std::cell::RefCell;
use std::fs;
use std::io;
use std::mem::ManuallyDrop;
use std::os::fd::{AsRawFd, BorrowedFd, FromRawFd};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::rc::Rc;

use glommio::GlommioError;
use glommio::io::{DmaFile, OpenOptions};

use super::runtime::{self, Runtime};
#[cfg(any(test, feature = "sim"))]
use super::sim;
use super::{BLOCK_BYTES, Buf, SharedBuf, blocking, spawn};

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
    Glommio(Rc<DmaFile>),
    #[cfg(any(test, feature = "sim"))]
    Virtual(sim::File),
}

/// The most that one read or write may carry; the kernel's own limit is a little below 2 GiB.
const IO_BYTES_MAX: usize = 1 << 30;

impl File {
    pub async fn open(path: &Path, mode: OpenMode) -> io::Result<File> {
        match runtime::current() {
            // In a task of its own: a descriptor that arrives after the caller has gone would never be closed.
            Runtime::Glommio(_) => spawn(open_direct(path.to_owned(), mode)).await,
            #[cfg(any(test, feature = "sim"))]
            Runtime::Virtual(shard) => Ok(File(Arm::Virtual(shard.open(path, mode).await?))),
        }
    }

    /// Reads `len` bytes at `position`, both aligned; fewer bytes come back at the end of the file only.
    pub async fn read(&self, position: u64, len: usize) -> io::Result<SharedBuf> {
        assert_aligned(position, len);
        match &self.0 {
            Arm::Glommio(file) => read_direct(file, position, len).await,
            #[cfg(any(test, feature = "sim"))]
            Arm::Virtual(file) => file.read(position, len).await,
        }
    }

    /// Writes the whole buffer at an aligned `position`, or fails. Durable only after [`Self::sync_data`].
    pub async fn write(&self, buf: &SharedBuf, position: u64) -> io::Result<()> {
        assert_aligned(position, buf.as_slice().len());
        match &self.0 {
            Arm::Glommio(file) => write_direct(file, buf, position).await,
            #[cfg(any(test, feature = "sim"))]
            Arm::Virtual(file) => file.write(buf, position).await,
        }
    }

    /// fdatasync: data and the length needed to read it back are durable afterwards.
    pub async fn sync_data(&self) -> io::Result<()> {
        match &self.0 {
            Arm::Glommio(file) => file.fdatasync().await.map_err(io_error),
            #[cfg(any(test, feature = "sim"))]
            Arm::Virtual(file) => file.sync_data().await,
        }
    }

    /// Makes the file at least `len` bytes long, the new part reading as zeros and its space reserved
    /// (fallocate); ENOSPC when there is none, and then the file may have grown a part of the way.
    pub async fn allocate(&self, len: u64) -> io::Result<()> {
        match &self.0 {
            // fallocate refuses a range of nothing.
            Arm::Glommio(_) if len == 0 => Ok(()),
            Arm::Glommio(file) => file.pre_allocate(len, false).await.map_err(io_error),
            #[cfg(any(test, feature = "sim"))]
            Arm::Virtual(file) => file.allocate(len).await,
        }
    }

    /// Sets the length; any byte value, no alignment.
    pub async fn truncate(&self, len: u64) -> io::Result<()> {
        match &self.0 {
            Arm::Glommio(file) => {
                // On a descriptor of its own: should the caller and the file go before the blocking pool gets to it,
                // the number may belong to another file by then.
                // SAFETY: the file is open for as long as `self` is borrowed.
                let file = unsafe { BorrowedFd::borrow_raw(file.as_raw_fd()) }.try_clone_to_owned()?;
                blocking(move || fs::File::from(file).set_len(len)).await
            }
            #[cfg(any(test, feature = "sim"))]
            Arm::Virtual(file) => file.truncate(len).await,
        }
    }

    pub async fn len(&self) -> io::Result<u64> {
        match &self.0 {
            Arm::Glommio(file) => length(file),
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

/// Opens by way of an ordinary descriptor. glommio asks for the file system by name after opening and panics if the
/// name has gone by then (a folder may be renamed or removed at any time); the name of an open descriptor stays.
async fn open_direct(path: PathBuf, mode: OpenMode) -> io::Result<File> {
    let anchor = blocking(move || {
        let mut options = fs::OpenOptions::new();
        match mode {
            OpenMode::Read => options.read(true),
            OpenMode::ReadWrite => options.read(true).write(true),
            OpenMode::CreateNew => options.read(true).write(true).create_new(true),
        };
        let file = options.open(path)?;
        let device = file.metadata()?.dev();
        io::Result::Ok((file, device))
    });
    let (anchor, device) = anchor.await?;
    let name = format!("/proc/self/fd/{}", anchor.as_raw_fd());
    forbid_polling(&name, device).await;
    let file = OpenOptions::new().read(true).write(mode != OpenMode::Read).dma_open(&name).await;
    drop(anchor);
    Ok(File(Arm::Glommio(Rc::new(file.map_err(io_error)?))))
}

/// Settles for this executor that files on `device` are never read or written through the polling ring, on which
/// waiting for the disk takes a whole core. glommio decides it by reading from the first file that it opens there:
/// an empty file makes it believe in polling where there is none, and a device that can poll makes it poll. A file
/// that is open for writing only makes that read fail, which settles it for good.
async fn forbid_polling(name: &str, device: u64) {
    thread_local! {
        static SETTLED: RefCell<Vec<u64>> = const { RefCell::new(Vec::new()) };
    }
    if SETTLED.with_borrow(|settled| settled.contains(&device)) {
        return;
    }
    let mut options = OpenOptions::new();
    let mut open = Box::pin(options.write(true).dma_open(name));
    // glommio logs the failed read as an error, which it is not.
    let opened = std::future::poll_fn(|context| {
        let _silence = tracing::subscriber::set_default(tracing::subscriber::NoSubscriber::default());
        open.as_mut().poll(context)
    });
    match opened.await {
        Ok(file) => {
            let _ = file.close().await;
            SETTLED.with_borrow_mut(|settled| settled.push(device));
        }
        // Not writable, so not a file of ours that could be empty: glommio's own way will do for it.
        Err(error) => tracing::debug!("polled I/O is not ruled out: {}", io_error(error)),
    }
}

async fn read_direct(file: &DmaFile, position: u64, len: usize) -> io::Result<SharedBuf> {
    let result = file.read_at_aligned(position, len).await.map_err(io_error)?;
    let got = result.len();
    assert!(got <= len, "read {got} bytes of {len}");
    if got == len || position + got as u64 >= length(file)? {
        return Ok(SharedBuf::from_read(result));
    }
    // The kernel may stop early in the middle of a file (a signal, a fault further on): go on from the block it
    // stopped in, to the end or to the error.
    let mut whole = Buf::new(len);
    whole.as_mut_slice()[..got].copy_from_slice(&result);
    let mut filled = got;
    loop {
        let from = filled - filled % BLOCK_BYTES;
        let result = file.read_at_aligned(position + from as u64, len - from).await.map_err(io_error)?;
        whole.as_mut_slice()[from..from + result.len()].copy_from_slice(&result);
        let now_filled = from + result.len();
        if now_filled == len || position + now_filled as u64 >= length(file)? {
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

async fn write_direct(file: &DmaFile, buf: &SharedBuf, position: u64) -> io::Result<()> {
    let len = buf.as_slice().len();
    let mut written = file.write_rc_at(buf.to_write(), position).await.map_err(io_error)?;
    // The kernel may stop early (the device is full, a signal): go on from the block it stopped in, which either
    // succeeds or tells the reason.
    while written < len {
        let from = written - written % BLOCK_BYTES;
        let mut rest = glommio::allocate_dma_buffer_global(len - from);
        rest.as_bytes_mut().copy_from_slice(&buf.as_slice()[from..]);
        let more = file.write_at(rest, position + from as u64).await.map_err(io_error)?;
        if from + more <= written {
            return Err(io::ErrorKind::WriteZero.into());
        }
        written = from + more;
    }
    Ok(())
}

/// By descriptor; glommio would ask by name, which may have changed.
fn length(file: &DmaFile) -> io::Result<u64> {
    // SAFETY: the file is open for as long as it is borrowed, and never closed through this value.
    let borrowed = ManuallyDrop::new(unsafe { fs::File::from_raw_fd(file.as_raw_fd()) });
    Ok(borrowed.metadata()?.len())
}

/// With the system's error code kept.
pub(super) fn io_error(error: GlommioError<()>) -> io::Error {
    match error {
        GlommioError::IoError(source) | GlommioError::EnhancedIoError { source, .. } => source,
        other => io::Error::other(other.to_string()),
    }
}

/// Nothing is wrong with the disk: the system is short of something that may be there again later.
#[must_use]
pub fn is_shortage(error: &io::Error) -> bool {
    matches!(error.kind(), io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded)
        || matches!(error.raw_os_error(), Some(libc::EMFILE | libc::ENFILE))
}

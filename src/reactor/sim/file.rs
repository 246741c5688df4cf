//! A file of the virtual disk for direct I/O: the virtual [`File`](crate::reactor::File).

use std::io;
use std::path::Path;
use std::rc::Rc;

use super::disk::{Disk, Ending, NewChild, Operation};
use super::names::error;
use super::world::World;
use crate::reactor::ring::Durably;
use crate::reactor::sync::Receiver;
use crate::reactor::{BLOCK_BYTES, OpenMode, SharedBuf};

#[derive(Clone)]
pub struct File(Rc<Handle>);

struct Handle {
    disk: Disk,
    inode: u64,
    mode: OpenMode,
    /// Of the disk when it was opened.
    epoch: u64,
}

impl Drop for Handle {
    fn drop(&mut self) {
        let mut state = self.disk.0.borrow_mut();
        if state.epoch == self.epoch
            && let Ok(inode) = state.inode(self.inode)
        {
            inode.open = inode.open.saturating_sub(1);
            state.release_if_gone(self.inode);
        }
    }
}

/// The result of an operation; if the run ends first, this never returns.
pub(super) async fn finished<T>(receiver: Receiver<io::Result<T>>) -> io::Result<T> {
    match receiver.await {
        Some(result) => result,
        None => std::future::pending().await,
    }
}

impl File {
    pub async fn open(path: &Path, mode: OpenMode) -> io::Result<File> {
        let disk = World::current().host().disk.clone();
        let wanted = path.to_owned();
        World::current().note(|| format!("open {} {mode:?}", path.display()));
        let opened = disk.submit(Operation::Open, [mode as u64, 0], move |state, _| {
            if mode == OpenMode::CreateNew {
                let at = state.names.locate(&wanted)?.ok_or_else(|| error(libc::EEXIST))?;
                if state.names.child(&at).is_some() {
                    return Err(error(libc::EEXIST));
                }
                state.create(at, NewChild::File);
            }
            let inode = state.file(&wanted)?;
            state.inode(inode)?.open += 1;
            Ok((inode, state.epoch))
        });
        let (inode, epoch) = finished(opened).await?;
        World::current().note(|| format!("inode {inode} is {}", path.display()));
        Ok(File(Rc::new(Handle { disk, inode, mode, epoch })))
    }

    pub async fn read(&self, position: u64, len: usize) -> io::Result<SharedBuf> {
        assert!(
            position.is_multiple_of(BLOCK_BYTES as u64) && len.is_multiple_of(BLOCK_BYTES),
            "direct I/O that is not aligned: read of {len} bytes at {position}"
        );
        let inode = self.0.inode;
        // a write that ends before this read does may be seen or not
        let early = {
            let mut state = self.0.disk.0.borrow_mut();
            state.random.one_in(4).then(|| state.read(inode, position, len))
        };
        let read = self.0.disk.submit(Operation::Read, [inode, position], move |state, ending| match early {
            _ if ending != Ending::Complete => Err(error(libc::EINTR)),
            Some(early) => early,
            None => state.read(inode, position, len),
        });
        finished(read).await
    }

    pub async fn write(&self, buf: &SharedBuf, position: u64) -> io::Result<()> {
        self.write_as(buf, position, Durably::No).await
    }

    pub async fn write_durable(&self, buf: &SharedBuf, position: u64) -> io::Result<()> {
        self.write_as(buf, position, Durably::Yes).await
    }

    async fn write_as(&self, buf: &SharedBuf, position: u64, durably: Durably) -> io::Result<()> {
        self.check_writable()?;
        let bytes = buf.as_slice();
        assert!(
            position.is_multiple_of(BLOCK_BYTES as u64)
                && bytes.len().is_multiple_of(BLOCK_BYTES)
                && !bytes.is_empty(),
            "direct I/O that is not aligned: write of {} bytes at {position}",
            bytes.len()
        );
        let inode = self.0.inode;
        let checksum = crc32c::crc32c(bytes);
        World::current().note(|| format!("write inode {inode}, {} bytes at {position}", bytes.len()));
        self.0.disk.0.borrow_mut().begin_write(inode, position, buf);
        let buf = buf.clone();
        let written = self.0.disk.submit(
            Operation::Write,
            [inode ^ (u64::from(checksum) << 32), position],
            move |state, ending| {
                state.end_write(inode, position, &buf, checksum, ending)?;
                if durably == Durably::Yes && ending == Ending::Complete {
                    state.end_durable_write(inode, position, buf.as_slice().len())?;
                }
                Ok(())
            },
        );
        finished(written).await
    }

    pub async fn sync_data(&self) -> io::Result<()> {
        let inode = self.0.inode;
        let covered = self.0.disk.0.borrow_mut().begin_flush(inode);
        let flushed = self.0.disk.submit(Operation::Flush, [inode, covered], move |state, ending| {
            state.end_flush(inode, covered, ending)
        });
        finished(flushed).await
    }

    pub async fn allocate(&self, len: u64) -> io::Result<()> {
        self.check_writable()?;
        let inode = self.0.inode;
        let allocated =
            self.0.disk.submit(Operation::Allocate, [inode, len], move |state, _| state.allocate(inode, len));
        finished(allocated).await
    }

    pub async fn truncate(&self, len: u64) -> io::Result<()> {
        self.check_writable()?;
        let inode = self.0.inode;
        let truncated = self.0.disk.submit(Operation::Truncate, [inode, len], move |state, _| {
            state.truncate(inode, len);
            Ok(())
        });
        finished(truncated).await
    }

    pub async fn len(&self) -> io::Result<u64> {
        let inode = self.0.inode;
        let len = self.0.disk.submit(Operation::Stat, [inode, 0], move |state, _| Ok(state.len(inode)));
        finished(len).await
    }

    fn check_writable(&self) -> io::Result<()> {
        if self.0.mode == OpenMode::Read { Err(error(libc::EBADF)) } else { Ok(()) }
    }
}

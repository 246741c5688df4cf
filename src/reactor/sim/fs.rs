//! Names, folders and small files of the virtual disk: the virtual [`fs`](crate::reactor::fs).
//!
//! Every step is an operation of its own, so that a crash may fall between any two.

use std::io;
use std::path::Path;

use super::disk::{Disk, NewChild, Operation, State};
use super::file::finished;
use super::names::{Name, error};
use super::world::World;
use crate::reactor::fs::{Entry, Space, temporary_name};

fn disk() -> Disk {
    World::current().host().disk.clone()
}

/// Runs `effect` on the disk of this host, later.
async fn operate<T: 'static>(
    operation: Operation,
    path: &Path,
    effect: impl FnOnce(&mut State, &Path) -> io::Result<T> + 'static,
) -> io::Result<T> {
    World::current().note(|| format!("{operation:?} {}", path.display()));
    let path = path.to_owned();
    finished(disk().submit(operation, [0, 0], move |state, _| effect(state, &path))).await
}

fn name_of(state: &State, path: &Path) -> io::Result<Name> {
    state.names.locate(path)?.ok_or_else(|| error(libc::EBUSY))
}

pub async fn read(path: &Path) -> io::Result<Vec<u8>> {
    operate(Operation::Read, path, |state, path| {
        let inode = state.file(path)?;
        state.read_whole(inode)
    })
    .await
}

/// Creates or empties the file, then writes it: two steps, as open and write are.
pub async fn write(path: &Path, contents: Vec<u8>) -> io::Result<()> {
    let inode = operate(Operation::Open, path, |state, path| {
        let name = name_of(state, path)?;
        if state.names.child(&name).is_none() {
            state.create(name, NewChild::File);
        }
        let inode = state.file(path)?;
        state.truncate(inode, 0);
        Ok(inode)
    })
    .await?;
    operate(Operation::Write, path, move |state, _| state.write_bytes(inode, &contents)).await
}

pub async fn write_durable(path: &Path, contents: Vec<u8>) -> io::Result<()> {
    let temporary = temporary_name(path);
    write(&temporary, contents).await?;
    sync_file(&temporary).await?;
    rename(&temporary, path).await?;
    sync_dir(path.parent().unwrap_or(Path::new("/"))).await
}

async fn sync_file(path: &Path) -> io::Result<()> {
    let disk = disk();
    let (inode, covered) = {
        let mut state = disk.0.borrow_mut();
        let inode = state.file(path)?;
        (inode, state.begin_flush(inode))
    };
    let flushed = disk.submit(Operation::Flush, [inode, covered], move |state, ending| {
        state.end_flush(inode, covered, ending)
    });
    finished(flushed).await
}

pub async fn create_dir(path: &Path) -> io::Result<()> {
    operate(Operation::CreateDir, path, |state, path| {
        let name = state.names.locate(path)?.ok_or_else(|| error(libc::EEXIST))?;
        if state.names.child(&name).is_some() {
            return Err(error(libc::EEXIST));
        }
        state.create(name, NewChild::Dir);
        Ok(())
    })
    .await
}

pub async fn sync_dir(path: &Path) -> io::Result<()> {
    let disk = disk();
    let (dir, covered) = {
        let state = disk.0.borrow();
        (state.names.resolve_dir(path)?, state.sequence)
    };
    World::current().note(|| format!("flush folder {}", path.display()));
    let flushed = disk.submit(Operation::FlushDir, [dir, covered], move |state, ending| {
        state.end_flush_dir(dir, covered, ending)
    });
    finished(flushed).await
}

pub async fn list(path: &Path) -> io::Result<Vec<Entry>> {
    operate(Operation::List, path, |state, path| {
        let dir = state.names.resolve_dir(path)?;
        let entry = |(name, child): (&String, super::names::Child)| Entry {
            name: name.clone(),
            is_dir: child.is_dir,
            len: if child.is_dir { 0 } else { state.len(child.inode) },
        };
        Ok(state.names.children(dir).map(entry).collect())
    })
    .await
}

pub async fn exists(path: &Path) -> io::Result<bool> {
    operate(Operation::Stat, path, |state, path| match state.names.resolve(path) {
        Ok(_) => Ok(true),
        Err(missing) if missing.kind() == io::ErrorKind::NotFound => Ok(false),
        Err(other) => Err(other),
    })
    .await
}

pub async fn rename(from: &Path, to: &Path) -> io::Result<()> {
    let to = to.to_owned();
    operate(Operation::Rename, from, move |state, from| {
        let from = name_of(state, from)?;
        let to = name_of(state, &to)?;
        state.rename(&from, to)
    })
    .await
}

pub async fn remove_file(path: &Path) -> io::Result<()> {
    operate(Operation::Remove, path, |state, path| {
        let name = name_of(state, path)?;
        let child = state.names.resolve(path)?;
        if child.is_dir {
            return Err(error(libc::EISDIR));
        }
        state.remove(name, child);
        Ok(())
    })
    .await
}

pub async fn remove_dir_all(path: &Path) -> io::Result<()> {
    for entry in list(path).await? {
        let inner = path.join(&entry.name);
        if entry.is_dir {
            Box::pin(remove_dir_all(&inner)).await?;
        } else {
            remove_file(&inner).await?;
        }
    }
    operate(Operation::Remove, path, |state, path| {
        let name = name_of(state, path)?;
        let child = state.names.resolve(path)?;
        if state.names.children(child.inode).next().is_some() {
            return Err(error(libc::ENOTEMPTY));
        }
        state.remove(name, child);
        Ok(())
    })
    .await
}

pub async fn modified_ms(path: &Path) -> io::Result<i64> {
    operate(Operation::Stat, path, |state, path| {
        let inode = state.names.resolve(path)?.inode;
        Ok(state.inode(inode)?.modified_ms)
    })
    .await
}

pub async fn space(path: &Path) -> io::Result<Space> {
    operate(Operation::Stat, path, |state, path| {
        state.names.resolve(path)?;
        Ok(Space { free_bytes: state.free_bytes(), total_bytes: state.capacity_bytes() })
    })
    .await
}

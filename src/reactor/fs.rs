//! Names, folders and small files: rare work, done on the blocking pool (or the virtual disk).

use std::fs;
use std::io::{self, Read, Write};
use std::path::{Path, PathBuf};

use super::blocking;
use super::machine::HEAP_BYTES;
use super::runtime::{self, Runtime};
use super::time::milliseconds_since_1970;

/// What [`list`] says of one name in a folder.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Entry {
    pub name: String,
    pub is_dir: bool,
    /// Length in bytes; 0 for a folder.
    pub len: u64,
}

/// Free and total bytes of the file system that holds a path.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Space {
    pub free_bytes: u64,
    pub total_bytes: u64,
}

/// The whole file; any length.
pub async fn read(path: &Path) -> io::Result<Vec<u8>> {
    match runtime::current() {
        Runtime::Glommio(_) => {
            let path = path.to_owned();
            blocking(move || read_whole(&path)).await
        }
        #[cfg(any(test, feature = "sim"))]
        Runtime::Virtual(shard) => shard.read(path).await,
    }
}

/// Replaces the file as one durable step: temporary name, write, flush, rename, flush of the folder.
pub async fn write_durable(path: &Path, contents: Vec<u8>) -> io::Result<()> {
    match runtime::current() {
        Runtime::Glommio(_) => {
            let path = path.to_owned();
            blocking(move || replace_durably(&path, &contents)).await
        }
        #[cfg(any(test, feature = "sim"))]
        Runtime::Virtual(shard) => shard.write_durable(path, contents).await,
    }
}

/// Writes without flushing anything: for files that are rebuilt when they are missing, short or corrupt.
pub async fn write(path: &Path, contents: Vec<u8>) -> io::Result<()> {
    match runtime::current() {
        Runtime::Glommio(_) => {
            let path = path.to_owned();
            blocking(move || fs::write(path, contents)).await
        }
        #[cfg(any(test, feature = "sim"))]
        Runtime::Virtual(shard) => shard.write(path, contents).await,
    }
}

/// Creates one folder; an error if it exists.
pub async fn create_dir(path: &Path) -> io::Result<()> {
    match runtime::current() {
        Runtime::Glommio(_) => {
            let path = path.to_owned();
            blocking(move || fs::create_dir(path)).await
        }
        #[cfg(any(test, feature = "sim"))]
        Runtime::Virtual(shard) => shard.create_dir(path).await,
    }
}

/// Makes the names in a folder durable.
pub async fn sync_dir(path: &Path) -> io::Result<()> {
    match runtime::current() {
        Runtime::Glommio(_) => {
            let path = path.to_owned();
            blocking(move || flush_dir(&path)).await
        }
        #[cfg(any(test, feature = "sim"))]
        Runtime::Virtual(shard) => shard.sync_dir(path).await,
    }
}

/// The names in a folder, sorted.
pub async fn list(path: &Path) -> io::Result<Vec<Entry>> {
    match runtime::current() {
        Runtime::Glommio(_) => {
            let path = path.to_owned();
            blocking(move || entries(&path)).await
        }
        #[cfg(any(test, feature = "sim"))]
        Runtime::Virtual(shard) => shard.list(path).await,
    }
}

pub async fn exists(path: &Path) -> io::Result<bool> {
    match runtime::current() {
        Runtime::Glommio(_) => {
            let path = path.to_owned();
            blocking(move || path.try_exists()).await
        }
        #[cfg(any(test, feature = "sim"))]
        Runtime::Virtual(shard) => shard.exists(path).await,
    }
}

pub async fn rename(from: &Path, to: &Path) -> io::Result<()> {
    match runtime::current() {
        Runtime::Glommio(_) => {
            let (from, to) = (from.to_owned(), to.to_owned());
            blocking(move || fs::rename(from, to)).await
        }
        #[cfg(any(test, feature = "sim"))]
        Runtime::Virtual(shard) => shard.rename(from, to).await,
    }
}

pub async fn remove_file(path: &Path) -> io::Result<()> {
    match runtime::current() {
        Runtime::Glommio(_) => {
            let path = path.to_owned();
            blocking(move || fs::remove_file(path)).await
        }
        #[cfg(any(test, feature = "sim"))]
        Runtime::Virtual(shard) => shard.remove_file(path).await,
    }
}

pub async fn remove_dir_all(path: &Path) -> io::Result<()> {
    match runtime::current() {
        Runtime::Glommio(_) => {
            let path = path.to_owned();
            blocking(move || fs::remove_dir_all(path)).await
        }
        #[cfg(any(test, feature = "sim"))]
        Runtime::Virtual(shard) => shard.remove_dir_all(path).await,
    }
}

/// Last modification in milliseconds since 1970.
pub async fn modified_ms(path: &Path) -> io::Result<i64> {
    match runtime::current() {
        Runtime::Glommio(_) => {
            let path = path.to_owned();
            blocking(move || Ok(milliseconds_since_1970(fs::metadata(path)?.modified()?))).await
        }
        #[cfg(any(test, feature = "sim"))]
        Runtime::Virtual(shard) => shard.modified_ms(path).await,
    }
}

pub async fn space(path: &Path) -> io::Result<Space> {
    match runtime::current() {
        Runtime::Glommio(_) => {
            let path = path.to_owned();
            blocking(move || super::machine::file_system_space(&path)).await
        }
        #[cfg(any(test, feature = "sim"))]
        Runtime::Virtual(shard) => shard.space(path).await,
    }
}

/// `path` with `.tmp` appended: where [`write_durable`] writes first. Left-overs are removed by recovery.
#[must_use]
pub fn temporary_name(path: &Path) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(".tmp");
    PathBuf::from(name)
}

/// What is large, a commit journal above all, is read once, at the start: it lies in memory that the allocator gives back.
/// (Pages that are not touched cost nothing.)
fn read_whole(path: &Path) -> io::Result<Vec<u8>> {
    const LARGE: usize = 1 << 20;
    let mut file = fs::File::open(path)?;
    let length = usize::try_from(file.metadata()?.len()).map_err(io::Error::other)?;
    // a byte more than there are: the end is seen without another allocation
    let mut bytes = Vec::with_capacity(if length < LARGE { length + 1 } else { HEAP_BYTES.max(length + 1) });
    file.read_to_end(&mut bytes)?;
    Ok(bytes)
}

fn replace_durably(path: &Path, contents: &[u8]) -> io::Result<()> {
    let temporary = temporary_name(path);
    let mut file = fs::File::create(&temporary)?;
    file.write_all(contents)?;
    file.sync_all()?;
    drop(file);
    fs::rename(&temporary, path)?;
    flush_dir(parent(path))
}

fn flush_dir(path: &Path) -> io::Result<()> {
    fs::File::open(path)?.sync_all()
}

/// The folder that holds the name `path`.
fn parent(path: &Path) -> &Path {
    match path.parent() {
        Some(parent) if !parent.as_os_str().is_empty() => parent,
        _ => Path::new("."),
    }
}

fn entries(path: &Path) -> io::Result<Vec<Entry>> {
    let mut entries = Vec::new();
    for entry in fs::read_dir(path)? {
        let entry = entry?;
        // Through symbolic links: an operator may have moved a folder to another disk.
        let metadata = match fs::metadata(entry.path()) {
            Ok(metadata) => metadata,
            // Removed since it was listed.
            Err(error) if error.kind() == io::ErrorKind::NotFound => continue,
            Err(error) => return Err(error),
        };
        let is_dir = metadata.is_dir();
        entries.push(Entry {
            name: entry.file_name().to_string_lossy().into_owned(),
            is_dir,
            len: if is_dir { 0 } else { metadata.len() },
        });
    }
    entries.sort_by(|a, b| a.name.cmp(&b.name));
    Ok(entries)
}

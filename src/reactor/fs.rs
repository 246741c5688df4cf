//! Names, folders and small files: rare work, done on the blocking pool (or the virtual disk).

use std::io;
use std::path::{Path, PathBuf};

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
    let _ = path;
    unimplemented!()
}

/// Replaces the file as one durable step: temporary name, write, flush, rename, flush of the folder.
pub async fn write_durable(path: &Path, contents: Vec<u8>) -> io::Result<()> {
    let _ = (path, contents);
    unimplemented!()
}

/// Writes without flushing anything: for files that are rebuilt when they are missing, short or corrupt.
pub async fn write(path: &Path, contents: Vec<u8>) -> io::Result<()> {
    let _ = (path, contents);
    unimplemented!()
}

/// Creates one folder; an error if it exists.
pub async fn create_dir(path: &Path) -> io::Result<()> {
    let _ = path;
    unimplemented!()
}

/// Makes the names in a folder durable.
pub async fn sync_dir(path: &Path) -> io::Result<()> {
    let _ = path;
    unimplemented!()
}

/// The names in a folder, sorted.
pub async fn list(path: &Path) -> io::Result<Vec<Entry>> {
    let _ = path;
    unimplemented!()
}

pub async fn exists(path: &Path) -> io::Result<bool> {
    let _ = path;
    unimplemented!()
}

pub async fn rename(from: &Path, to: &Path) -> io::Result<()> {
    let _ = (from, to);
    unimplemented!()
}

pub async fn remove_file(path: &Path) -> io::Result<()> {
    let _ = path;
    unimplemented!()
}

pub async fn remove_dir_all(path: &Path) -> io::Result<()> {
    let _ = path;
    unimplemented!()
}

/// Last modification in milliseconds since 1970.
pub async fn modified_ms(path: &Path) -> io::Result<i64> {
    let _ = path;
    unimplemented!()
}

pub async fn space(path: &Path) -> io::Result<Space> {
    let _ = path;
    unimplemented!()
}

/// `path` with `.tmp` appended: where [`write_durable`] writes first. Left-overs are removed by recovery.
#[must_use]
pub fn temporary_name(path: &Path) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(".tmp");
    PathBuf::from(name)
}

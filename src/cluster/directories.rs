//! The log directories before the shards start and after they have ended: lock, identity, clean-shutdown mark.
//!
//! Runs on the main thread with plain files; nothing else touches the directories then.

use std::fmt;
use std::fs::{self, File, TryLockError};
use std::io::{self, Write as _};
use std::path::{Path, PathBuf};

use crate::log::checkpoint::{self, MetaProperties};
use crate::model::{BrokerId, DirectoryId};
use crate::storage::LogDir;

const META_PROPERTIES: &str = "meta.properties";
const CLEAN_SHUTDOWN: &str = ".kafka_cleanshutdown";
const LOCK: &str = ".lock";
const PROBE: &str = ".corelane-probe";
/// The metadata log's folder, in the first log directory.
pub(super) const METADATA_FOLDER: &str = "__cluster_metadata-0";

/// One line that says what to change.
#[derive(Debug)]
pub struct Error(String);

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl std::error::Error for Error {}

/// The log directories of this node, locked as long as this lives.
pub struct Directories {
    pub cluster_id: String,
    /// In the order of log.dirs; the first holds the metadata log.
    pub log_dirs: Vec<LogDir>,
    /// The first directory has never served: the metadata log is to be created, then [`Self::identify_fresh`].
    pub fresh: bool,
    node_id: BrokerId,
    _locks: Vec<File>,
}

impl Directories {
    /// Creates what is missing on a fresh node, locks and identifies every directory, takes the clean marks.
    pub fn prepare(
        paths: &[PathBuf],
        node_id: BrokerId,
        mut random: impl FnMut() -> u128,
    ) -> Result<Directories, Error> {
        let mut locks = Vec::new();
        let mut found = Vec::new();
        for path in paths {
            fs::create_dir_all(path).map_err(|error| failed("create the log directory", path, &error))?;
            locks.push(lock(path)?);
            found.push(read_properties(path, node_id)?);
        }
        let cluster_id = agreed_cluster_id(paths, &found)?;
        let first_path = paths.first().expect("log.dirs is not empty");
        let fresh = found[0].is_none();
        if fresh && cluster_id.is_some() {
            return Err(Error(format!(
                "{} has no {META_PROPERTIES} but other log directories have: the metadata directory is lost or \
                 log.dirs changed its order; restore it or put its directory first",
                first_path.display()
            )));
        }
        if !fresh && !first_path.join(METADATA_FOLDER).is_dir() {
            return Err(Error(format!(
                "{} is missing: the metadata of this node is lost; restore the folder, or empty every directory in \
                 log.dirs to start as a new node",
                first_path.join(METADATA_FOLDER).display()
            )));
        }
        let cluster_id =
            cluster_id.unwrap_or_else(|| crate::model::TopicId(random_id(&mut random)).to_string());
        let mut log_dirs = Vec::new();
        for (path, properties) in paths.iter().zip(found) {
            let id = match properties {
                Some(properties) => {
                    // An older version does not know what this one writes.
                    if properties.format < checkpoint::FORMAT {
                        write_properties(path, &cluster_id, node_id, properties.directory_id)?;
                    }
                    properties.directory_id
                }
                None => {
                    refuse_unidentified_data(path)?;
                    let id = DirectoryId(random_id(&mut random));
                    // On a fresh node that comes when its metadata log is there; see `identify_fresh`.
                    if !fresh {
                        write_properties(path, &cluster_id, node_id, id)?;
                    }
                    id
                }
            };
            log_dirs.push(LogDir::new(id, path.clone(), take_clean_mark(path)?));
        }
        make_probe(first_path)?;
        Ok(Directories { cluster_id, log_dirs, fresh, node_id, _locks: locks })
    }

    /// The file that is opened before any other for direct I/O.
    #[must_use]
    pub fn probe_file(&self) -> PathBuf {
        self.log_dirs[0].path.join(PROBE)
    }

    /// A fresh node's metadata log is durable: from now on its absence is a loss. The directory that holds it goes
    /// first: without it the others would look as if it had been lost.
    pub fn identify_fresh(&self) -> Result<(), Error> {
        for directory in &self.log_dirs {
            write_properties(&directory.path, &self.cluster_id, self.node_id, directory.id)?;
        }
        Ok(())
    }

    /// Every log is flushed, trimmed and closed, except in the `unclean` directories: the next start scans nothing
    /// in the others.
    ///
    /// # Errors
    /// Names the unclean directories, if there are any; the others are marked all the same.
    pub fn mark_clean(&self, broker_epoch: i64, unclean: &[DirectoryId]) -> Result<(), Error> {
        let (dirty, clean): (Vec<_>, Vec<_>) =
            self.log_dirs.iter().partition(|directory| unclean.contains(&directory.id));
        for directory in clean {
            let text = checkpoint::encode_clean_shutdown(broker_epoch);
            write_durable(&directory.path, CLEAN_SHUTDOWN, &text)?;
        }
        if dirty.is_empty() {
            return Ok(());
        }
        let paths: Vec<_> = dirty.iter().map(|directory| directory.path.display().to_string()).collect();
        Err(Error(format!(
            "stopped, but not cleanly: {} could not be written; mend the disk, the next start recovers what is there",
            paths.join(", ")
        )))
    }
}

fn failed(what: &str, path: &Path, error: &io::Error) -> Error {
    Error(format!("cannot {what} {}: {error}", path.display()))
}

fn lock(path: &Path) -> Result<File, Error> {
    let name = path.join(LOCK);
    let file = File::create(&name).map_err(|error| failed("create", &name, &error))?;
    match file.try_lock() {
        Ok(()) => Ok(file),
        Err(TryLockError::WouldBlock) => Err(Error(format!(
            "the log directory {} is in use by another broker: stop it, or set log.dirs to another directory",
            path.display()
        ))),
        Err(TryLockError::Error(error)) => Err(failed("lock", &name, &error)),
    }
}

fn read_properties(path: &Path, node_id: BrokerId) -> Result<Option<MetaProperties>, Error> {
    let name = path.join(META_PROPERTIES);
    let text = match fs::read_to_string(&name) {
        Ok(text) => text,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(failed("read", &name, &error)),
    };
    let properties = MetaProperties::decode(&text).map_err(|damage| {
        Error(format!("{} is damaged ({damage}): restore it from a backup", name.display()))
    })?;
    if properties.format > checkpoint::FORMAT {
        return Err(Error(format!(
            "{} has corelane.format={}, this corelane knows {} at most: start the newer version that wrote it",
            name.display(),
            properties.format,
            checkpoint::FORMAT
        )));
    }
    if properties.format == 0 || properties.directory_id == DirectoryId::UNASSIGNED {
        return Err(Error(format!(
            "{} was not written by corelane: set log.dirs to a directory of its own",
            name.display()
        )));
    }
    if properties.node_id != node_id {
        return Err(Error(format!(
            "{} belongs to node {}, this node's id is {}: set node.id={} or another log.dirs",
            name.display(),
            properties.node_id.0,
            node_id.0,
            properties.node_id.0
        )));
    }
    Ok(Some(properties))
}

fn agreed_cluster_id(paths: &[PathBuf], found: &[Option<MetaProperties>]) -> Result<Option<String>, Error> {
    let mut agreed: Option<(&Path, &str)> = None;
    for (path, properties) in paths.iter().zip(found) {
        let Some(properties) = properties else { continue };
        match agreed {
            None => agreed = Some((path, &properties.cluster_id)),
            Some((_, cluster_id)) if cluster_id == properties.cluster_id => {}
            Some((other, cluster_id)) => {
                return Err(Error(format!(
                    "{} belongs to cluster {}, {} to cluster {cluster_id}: log.dirs must be of one node",
                    path.display(),
                    properties.cluster_id,
                    other.display()
                )));
            }
        }
    }
    Ok(agreed.map(|(_, cluster_id)| cluster_id.to_owned()))
}

/// Data of unknown origin is never taken over.
fn refuse_unidentified_data(path: &Path) -> Result<(), Error> {
    let entries = fs::read_dir(path).map_err(|error| failed("list", path, &error))?;
    for entry in entries {
        let entry = entry.map_err(|error| failed("list", path, &error))?;
        if entry.file_name() != METADATA_FOLDER && entry.path().join("partition.metadata").exists() {
            return Err(Error(format!(
                "{} holds partitions but no {META_PROPERTIES}: restore that file, or set log.dirs to an empty directory",
                path.display()
            )));
        }
    }
    Ok(())
}

fn write_properties(path: &Path, cluster_id: &str, node_id: BrokerId, id: DirectoryId) -> Result<(), Error> {
    let properties = MetaProperties {
        cluster_id: cluster_id.to_owned(),
        node_id,
        directory_id: id,
        format: checkpoint::FORMAT,
    };
    write_durable(path, META_PROPERTIES, &properties.encode())
}

/// The mark is gone, durably, before anything is written: a crash from here on is seen as one.
fn take_clean_mark(path: &Path) -> Result<bool, Error> {
    let name = path.join(CLEAN_SHUTDOWN);
    match fs::remove_file(&name) {
        Ok(()) => {}
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(false),
        Err(error) => return Err(failed("remove", &name, &error)),
    }
    sync_dir(path)?;
    Ok(true)
}

fn make_probe(path: &Path) -> Result<(), Error> {
    let name = path.join(PROBE);
    if fs::metadata(&name).is_ok_and(|found| found.len() >= 4096) {
        return Ok(());
    }
    fs::write(&name, [0; 4096]).map_err(|error| failed("write", &name, &error))
}

fn write_durable(path: &Path, name: &str, text: &str) -> Result<(), Error> {
    let (target, temporary) = (path.join(name), path.join(format!("{name}.tmp")));
    let write = || -> io::Result<()> {
        let mut file = File::create(&temporary)?;
        file.write_all(text.as_bytes())?;
        file.sync_all()?;
        fs::rename(&temporary, &target)
    };
    write().map_err(|error| failed("write", &target, &error))?;
    sync_dir(path)
}

fn sync_dir(path: &Path) -> Result<(), Error> {
    File::open(path).and_then(|folder| folder.sync_all()).map_err(|error| failed("flush", path, &error))
}

/// Kafka reserves the ids below 100.
fn random_id(random: &mut impl FnMut() -> u128) -> u128 {
    random().max(100)
}

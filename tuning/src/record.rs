//! What `apply` has changed and what was there before: the file that `revert` works from.
//!
//! Invariants: a value is in the record, on disk, before it is written to the host; the original of a path is what
//! somebody else has set last, never a value of ours; only paths that a knob writes are taken from it, and only from
//! a file that nobody else can have written, because `revert` writes them as root. All of them are undone by a
//! restart of the host, and numbers (of interrupts) may then mean others: a record counts for the boot it was made in.

use std::fs::{self, File, OpenOptions};
use std::io::{self, ErrorKind, Write};
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use crate::finding::Change;
use crate::root::Root;
use crate::rule::{chosen, same};

const DEFAULT: &str = "/var/lib/corelane/tune.json";

/// Another one each time the kernel starts.
const BOOT_ID: &str = "/proc/sys/kernel/random/boot_id";

/// A record of another version is not touched: an older program must not forget what a newer one wrote.
const VERSION: u32 = 1;

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Entry {
    pub(crate) knob: String,
    pub(crate) path: String,
    pub(crate) original: String,
    /// Every value that an `apply` meant to write, or that the kernel made of it, the last one last. All of them,
    /// because a crash may have come between the record and the write, and then the one before is still in force.
    pub(crate) applied: Vec<String>,
}

impl Entry {
    /// Whether it is the original or one of ours; otherwise somebody else has set it.
    pub(crate) fn knows(&self, value: &str) -> bool {
        same(value, &self.original) || self.applied.iter().any(|applied| same(value, applied))
    }
}

#[derive(Debug, Serialize, Deserialize)]
struct Content {
    version: u32,
    /// None where the host does not tell.
    #[serde(default)]
    boot_id: Option<String>,
    entries: Vec<Entry>,
}

/// The record in memory and where it lies.
#[derive(Debug)]
pub(crate) struct Record {
    place: PathBuf,
    boot_id: Option<String>,
    /// There is a file, of an earlier boot: a restart has undone what it names, which `entries` leaves out.
    pub(crate) is_outlived: bool,
    pub(crate) entries: Vec<Entry>,
}

impl Record {
    /// Reads the record at `place` (default: the host's own); empty when there is none.
    pub(crate) fn load(root: &Root, place: Option<&Path>) -> Result<Record, String> {
        let place = place.map_or_else(|| root.place(DEFAULT), Path::to_path_buf);
        trusted(&place)?;
        let boot_id = root.read(BOOT_ID).ok();
        let text = match fs::read_to_string(&place) {
            Ok(text) => text,
            Err(error) if error.kind() == ErrorKind::NotFound => {
                return Ok(Record { place, boot_id, is_outlived: false, entries: Vec::new() });
            }
            Err(error) => {
                return Err(format!("the record {} cannot be read: {error}", place.display()));
            }
        };
        let content: Content = serde_json::from_str(&text).map_err(|error| {
            format!(
                "the record {} is damaged ({error}): restore by hand what it names, then remove it",
                place.display()
            )
        })?;
        if content.version != VERSION {
            return Err(format!(
                "the record {} is of version {}, this program knows {VERSION}: use the program that wrote it",
                place.display(),
                content.version
            ));
        }
        if let Some(entry) = content.entries.iter().find(|entry| !is_setting(&entry.path)) {
            return Err(format!(
                "the record {} names {}, which is no setting of a knob: it was not written by apply",
                place.display(),
                entry.path
            ));
        }
        let is_outlived = match (&content.boot_id, &boot_id) {
            (Some(then), Some(now)) => then != now,
            _ => false,
        };
        let entries = if is_outlived { Vec::new() } else { content.entries };
        Ok(Record { place, boot_id, is_outlived, entries })
    }

    pub(crate) fn place(&self) -> &Path {
        &self.place
    }

    /// Notes that `change` is about to be written.
    pub(crate) fn note(&mut self, knob: &str, change: &Change) {
        assert!(is_setting(&change.path), "{} is no setting", change.path);
        if let Some(entry) = self.entries.iter_mut().find(|entry| entry.path == change.path) {
            if !entry.knows(&change.old) {
                entry.original.clone_from(&change.old);
                entry.applied.clear();
            }
            entry.applied.retain(|value| !same(value, &change.new));
            entry.applied.push(change.new.clone());
            return;
        }
        self.entries.push(Entry {
            knob: knob.to_owned(),
            path: change.path.clone(),
            original: change.old.clone(),
            applied: vec![change.new.clone()],
        });
    }

    /// Notes what the kernel has made of the value that was written.
    pub(crate) fn note_instead(&mut self, path: &str, value: &str) {
        let entry = self.entries.iter_mut().find(|entry| entry.path == path);
        entry.expect("noted before it was written").applied.push(chosen(value).to_owned());
    }

    /// Makes the file say what memory says, durably; without entries there is no file.
    pub(crate) fn save(&self) -> Result<(), String> {
        let result = if self.entries.is_empty() { self.remove() } else { self.replace() };
        result.map_err(|error| {
            format!(
                "the record {} cannot be written ({error}): run as root, or name a place with --record",
                self.place.display()
            )
        })
    }

    fn replace(&self) -> io::Result<()> {
        let content =
            Content { version: VERSION, boot_id: self.boot_id.clone(), entries: self.entries.clone() };
        let mut text = serde_json::to_string_pretty(&content)?;
        text.push('\n');
        if let Some(parent) = self.parent() {
            fs::create_dir_all(parent)?;
        }
        let mut temporary = self.place.clone().into_os_string();
        temporary.push(".new");
        let temporary = PathBuf::from(temporary);
        // A new one: what lies there may be a link, or another user's.
        match fs::remove_file(&temporary) {
            Err(error) if error.kind() != ErrorKind::NotFound => return Err(error),
            _ => {}
        }
        let mut file = OpenOptions::new().write(true).create_new(true).mode(0o600).open(&temporary)?;
        file.write_all(text.as_bytes())?;
        file.sync_all()?;
        fs::rename(&temporary, &self.place)?;
        self.sync_parent()
    }

    fn remove(&self) -> io::Result<()> {
        match fs::remove_file(&self.place) {
            Ok(()) => self.sync_parent(),
            Err(error) if error.kind() == ErrorKind::NotFound => Ok(()),
            Err(error) => Err(error),
        }
    }

    fn parent(&self) -> Option<&Path> {
        self.place.parent().filter(|parent| !parent.as_os_str().is_empty())
    }

    /// A rename lasts when its directory is on disk.
    fn sync_parent(&self) -> io::Result<()> {
        File::open(self.parent().unwrap_or_else(|| Path::new(".")))?.sync_all()
    }
}

/// Where knobs write.
const SETTINGS: &[&str] = &[
    "/proc/irq/",
    "/proc/sys/kernel/io_uring_disabled",
    "/proc/sys/net/",
    "/proc/sys/vm/",
    "/sys/block/",
    "/sys/devices/system/",
    "/sys/kernel/mm/transparent_hugepage/",
];

fn is_setting(path: &str) -> bool {
    SETTINGS.iter().any(|start| path.starts_with(start)) && !path.split('/').any(|part| part == "..")
}

/// Refuses a record that another user could have written. The one that runs this and root are trusted.
fn trusted(place: &Path) -> Result<(), String> {
    let Ok(metadata) = fs::metadata(place) else { return Ok(()) }; // absent or unreadable: told when it is read
    let own = fs::metadata("/proc/self").map_or(0, |process| process.uid());
    if [0, own].contains(&metadata.uid()) && metadata.mode() & 0o022 == 0 {
        return Ok(());
    }
    Err(format!(
        "the record {} belongs to user {} with mode {:o}: others may have written it; look at it, then chown and chmod it",
        place.display(),
        metadata.uid(),
        metadata.mode() & 0o777
    ))
}

//! Where the host's files are read and written: `/`, or a directory that stands in for it in tests.

use std::fmt;
use std::fs::{self, OpenOptions};
use std::io::{self, ErrorKind, Write};
use std::path::{Path, PathBuf};

/// The host's file tree. Paths given to it are the host's own, absolute (`/proc/sys/vm/swappiness`).
#[derive(Clone, Debug)]
pub(crate) struct Root {
    prefix: PathBuf,
}

/// Why there is nothing to read.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Unread {
    /// This host has no such file.
    Absent,
    /// It is there and does not let itself be read; the reason.
    Refused(String),
}

impl fmt::Display for Unread {
    fn fmt(&self, formatter: &mut fmt::Formatter) -> fmt::Result {
        match self {
            Unread::Absent => formatter.write_str("there is no such file"),
            Unread::Refused(why) => formatter.write_str(why),
        }
    }
}

impl Root {
    pub(crate) fn new(prefix: &Path) -> Root {
        Root { prefix: prefix.to_path_buf() }
    }

    /// Whether this is the running host: only then may system calls be asked, too.
    pub(crate) fn is_host(&self) -> bool {
        self.prefix == Path::new("/")
    }

    /// Where `path` lies on the machine that runs us.
    pub(crate) fn place(&self, path: &str) -> PathBuf {
        self.prefix.join(path.trim_start_matches('/'))
    }

    pub(crate) fn exists(&self, path: &str) -> bool {
        self.place(path).exists()
    }

    pub(crate) fn read_bytes(&self, path: &str) -> Result<Vec<u8>, Unread> {
        fs::read(self.place(path)).map_err(|error| match error.kind() {
            ErrorKind::NotFound | ErrorKind::NotADirectory => Unread::Absent,
            _ => Unread::Refused(error.to_string()),
        })
    }

    /// The text of a file without the line's end.
    pub(crate) fn read(&self, path: &str) -> Result<String, Unread> {
        let bytes = self.read_bytes(path)?;
        Ok(String::from_utf8_lossy(&bytes).trim_end().to_owned())
    }

    /// Writes `value` and a line's end in one call, as the kernel's files want it; creates nothing.
    ///
    /// # Errors
    /// One line: what the kernel said, and what to do about it.
    pub(crate) fn write(&self, path: &str, value: &str) -> Result<(), String> {
        let line = format!("{value}\n");
        OpenOptions::new()
            .write(true)
            .truncate(true)
            .open(self.place(path))
            .and_then(|mut file| file.write_all(line.as_bytes()))
            .map_err(|error| refusal(&error))
    }

    /// The names in a directory, in order; none when it is absent or closed to us.
    pub(crate) fn list(&self, path: &str) -> Vec<String> {
        let Ok(entries) = fs::read_dir(self.place(path)) else { return Vec::new() };
        let mut names: Vec<String> =
            entries.flatten().map(|entry| entry.file_name().to_string_lossy().into_owned()).collect();
        names.sort_by_key(|name| (name.len(), name.clone()));
        names
    }

    /// Follows symbolic links, as /sys is full of them; the answer is a path of the host again.
    pub(crate) fn resolve(&self, path: &str) -> Option<String> {
        let place = fs::canonicalize(self.place(path)).ok()?;
        let prefix = fs::canonicalize(&self.prefix).ok()?;
        Some(format!("/{}", place.strip_prefix(prefix).ok()?.to_str()?))
    }
}

fn refusal(error: &io::Error) -> String {
    let advice = match error.raw_os_error() {
        Some(libc::EACCES | libc::EPERM) => {
            "run as root; inside a container it must be done on the host; an interrupt may be the kernel's own to place"
        }
        Some(libc::EROFS) => "/proc or /sys is read-only here, as in a container: do it on the host",
        Some(libc::EINVAL) => "this kernel does not take the value; leave the knob out with --only",
        Some(libc::EIO) => "the kernel places this one itself; leave the knob out with --only",
        Some(libc::ENOENT) => "the host has it no longer",
        _ => "leave the knob out with --only",
    };
    format!("{error}: {advice}")
}

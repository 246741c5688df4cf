//! `corelane inspect`: what the files of a log directory hold, and with `--verify` whether they fit together.
//!
//! Reads only, with plain files, so it serves a copy as well as a directory whose broker is stopped. [`segment`] reads
//! a segment from front to back, [`partition`] holds a folder's files [`against`] each other, [`directory`] what lies
//! beside the folders; [`report`] is what they tell, as text and as JSON.
//!
//! A finding is damage (bytes that are not those that were written, or are missing) or a note (what the next start
//! deals with by itself). Nothing that is found makes it stop.

mod against;
mod directory;
mod journal;
mod partition;
mod report;
mod segment;

use std::path::{Path, PathBuf};

use clap::Args;

use crate::log::files::{SegmentFile, parse_folder};
use report::Report;

#[derive(Args)]
pub(super) struct Arguments {
    /// A log directory, a partition's folder, or one of its files.
    path: PathBuf,

    /// Read everything: checksums, order of offsets, indexes against batches. Exit code 1 if anything is damaged.
    #[arg(long)]
    verify: bool,

    /// Tell every batch, too.
    #[arg(long)]
    batches: bool,

    /// One JSON document.
    #[arg(long)]
    json: bool,
}

/// How much is read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Depth {
    /// Names, sizes and the small files.
    Outline,
    /// The segments, too.
    Content,
    /// And every batch is kept for the report.
    Batches,
}

pub(super) fn run(arguments: &Arguments) -> Result<(), String> {
    let path = &arguments.path;
    let kind = std::fs::metadata(path).map_err(|error| failed("look at", path, &error))?;
    let depth = match (arguments.batches, arguments.verify || kind.is_file()) {
        (true, _) => Depth::Batches,
        (false, true) => Depth::Content,
        (false, false) => Depth::Outline,
    };
    let report = look(path, kind.is_file(), depth)?;
    let text = if arguments.json { report.json() } else { report.text() };
    // who reads only the beginning (`| head`) has what they wanted
    let _ = std::io::Write::write_all(&mut std::io::stdout().lock(), text.as_bytes());
    match report.damage() {
        0 => Ok(()),
        _ if !arguments.verify => Ok(()),
        1 => Err("1 damage found; it is told above".to_owned()),
        count => Err(format!("{count} damages found; they are told above")),
    }
}

fn look(path: &Path, is_file: bool, depth: Depth) -> Result<Report, String> {
    let name = path.canonicalize().ok().and_then(|path| Some(path.file_name()?.to_str()?.to_owned()));
    let name = name.unwrap_or_default();
    let mut report = Report { path: path.display().to_string(), ..Report::default() };
    if is_file {
        let Some(file) = SegmentFile::parse(&name) else {
            return Err(format!(
                "{} is no file of a segment (.log, .index, .timeindex, .txnindex, .snapshot): name its folder to see \
                 checkpoints",
                path.display()
            ));
        };
        report.partitions.push(partition::one_file(path, file, depth)?);
    } else if parse_folder(&name).is_some() {
        report.partitions.push(partition::read(path, &name, &partition::Expect::default(), depth)?);
    } else {
        directory::read(path, depth, &mut report)?;
    }
    Ok(report)
}

fn failed(what: &str, path: &Path, error: &std::io::Error) -> String {
    format!("cannot {what} {}: {error}", path.display())
}

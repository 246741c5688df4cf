//! `corelane tune revert`: puts back what the record names. What somebody has changed since is left alone.

use std::io::Write;
use std::path::PathBuf;

use clap::Args;

use crate::apply::write_and_verify;
use crate::printed;
use crate::record::{Entry, Record};
use crate::root::{Root, Unread};
use crate::rule::{chosen, same};

#[derive(Args, Debug)]
pub struct Options {
    /// The record that `apply` left [default: /var/lib/corelane/tune.json].
    #[arg(long, value_name = "FILE")]
    record: Option<PathBuf>,

    /// Put back also what was changed since, and forget what the host has no longer.
    #[arg(long)]
    force: bool,

    /// A directory that stands in for the host's root.
    #[arg(long, value_name = "DIR", default_value = "/", hide = true)]
    root: PathBuf,
}

/// What became of one entry.
enum Outcome {
    Restored,
    /// The host holds the original already: a write that a crash or a reboot has undone.
    AsItWas,
    Forgotten,
    /// Stays in the record; why.
    Kept(String),
}

pub(crate) fn run(options: &Options, out: &mut dyn Write) -> Result<(), String> {
    let root = Root::new(&options.root);
    let mut record = Record::load(&root, options.record.as_deref())?;
    if record.is_outlived {
        record.save()?;
        return printed(writeln!(
            out,
            "nothing to revert: the host was restarted since, which undid it all; {} is removed",
            record.place().display()
        ));
    }
    if record.entries.is_empty() {
        return printed(writeln!(out, "nothing to revert: no record at {}", record.place().display()));
    }
    let mut kept = Vec::new();
    // The last written first: a value may have been possible only after another.
    for entry in record.entries.drain(..).rev() {
        let Entry { knob, path, original, .. } = &entry;
        let said = match restore(&root, &entry, options.force) {
            Outcome::Restored => format!("{knob}: {path}: back to {original}"),
            Outcome::AsItWas => format!("{knob}: {path}: is {original} already"),
            Outcome::Forgotten => format!("{knob}: {path}: the host has it no longer, forgotten"),
            Outcome::Kept(why) => {
                let said = format!("{knob}: {path}: not put back to {original}: {why}");
                kept.push(entry);
                said
            }
        };
        // Nobody may be reading; the rest is put back all the same.
        let _ = writeln!(out, "{said}");
    }
    kept.reverse();
    record.entries = kept;
    record.save()?;
    match record.entries.len() {
        0 => Ok(()),
        left => Err(format!(
            "not everything was put back: {left} left, which {} still names",
            record.place().display()
        )),
    }
}

fn restore(root: &Root, entry: &Entry, force: bool) -> Outcome {
    let now = match root.read(&entry.path) {
        Ok(now) => now,
        Err(Unread::Absent) if force => return Outcome::Forgotten,
        Err(Unread::Absent) => {
            return Outcome::Kept("the host has it no longer (--force forgets it)".into());
        }
        Err(Unread::Refused(why)) => return Outcome::Kept(format!("it cannot be read: {why}")),
    };
    if same(&now, &entry.original) {
        return Outcome::AsItWas;
    }
    if !entry.knows(&now) && !force {
        return Outcome::Kept(format!("somebody has set it to {} since (--force overrides)", chosen(&now)));
    }
    match write_and_verify(root, &entry.path, &entry.original) {
        Ok(()) => Outcome::Restored,
        Err(why) => Outcome::Kept(why),
    }
}

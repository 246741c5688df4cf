//! `corelane tune apply`: asks, records, writes, reads back. A refused write is reported and the others go on.

use std::io::Write;
use std::path::PathBuf;

use clap::Args;

use crate::check::{Row, look};
use crate::finding::{Change, Verdict};
use crate::host::{self, Host};
use crate::knobs::KNOBS;
use crate::printed;
use crate::record::Record;
use crate::root::Root;
use crate::rule::{chosen, same};

#[derive(Args, Debug)]
pub struct Options {
    #[command(flatten)]
    host: host::Options,

    /// Write without asking.
    #[arg(long)]
    yes: bool,

    /// Only these knobs, by the names that `check` prints.
    #[arg(long, value_name = "KNOB", value_delimiter = ',')]
    only: Vec<String>,

    /// Where to remember what was there before [default: /var/lib/corelane/tune.json].
    #[arg(long, value_name = "FILE")]
    record: Option<PathBuf>,
}

/// What the person at the terminal said.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Answer {
    Write,
    LeaveAlone,
}

/// One file to write, and the knob it belongs to.
struct Step<'a> {
    knob: &'static str,
    change: &'a Change,
}

pub(crate) fn run(
    options: &Options,
    out: &mut dyn Write,
    ask: impl FnOnce(&str) -> Result<Answer, String>,
) -> Result<(), String> {
    if let Some(unknown) = options.only.iter().find(|name| !KNOBS.iter().any(|knob| knob.name == **name)) {
        let names: Vec<&str> = KNOBS.iter().map(|knob| knob.name).collect();
        return Err(format!("no knob is named {unknown}: there are {}", names.join(", ")));
    }
    let host = Host::read(&options.host)?;
    let mut record = Record::load(&host.root, options.record.as_deref())?;
    let rows: Vec<Row> = look(&host)
        .into_iter()
        .filter(|row| options.only.is_empty() || options.only.iter().any(|name| name == row.knob.name))
        .collect();
    let steps: Vec<Step> = rows
        .iter()
        .flat_map(|row| row.finding.changes.iter().map(|change| Step { knob: row.knob.name, change }))
        .collect();
    for Step { knob, change } in &steps {
        printed(writeln!(out, "{knob}: {}: {} -> {}", change.path, change.old, change.new))?;
    }
    print_the_rest(&rows, out)?;
    if steps.is_empty() {
        return printed(writeln!(out, "nothing to write"));
    }
    if !options.yes && ask("write all of these?")? == Answer::LeaveAlone {
        return printed(writeln!(out, "nothing written"));
    }
    let failed = write_all(&host.root, &steps, &mut record, out)?;
    if failed > 0 {
        return Err(format!("{failed} of {} values could not be written; see above", steps.len()));
    }
    printed(writeln!(out, "all written; `corelane tune revert` puts back what was there before"))
}

/// What differs and is not ours to write.
fn print_the_rest(rows: &[Row], out: &mut dyn Write) -> Result<(), String> {
    for row in rows.iter().filter(|row| row.finding.verdict == Verdict::Change) {
        if let Some(line) = &row.finding.by_hand {
            printed(writeln!(out, "{}: by hand: {line}", row.knob.name))?;
        }
    }
    Ok(())
}

/// Records everything, then writes; says how many failed.
fn write_all(root: &Root, steps: &[Step], record: &mut Record, out: &mut dyn Write) -> Result<usize, String> {
    let before = record.entries.clone();
    for Step { knob, change } in steps {
        record.note(knob, change);
    }
    record.save()?;
    let mut failed = 0;
    for Step { knob, change } in steps {
        let Err(why) = write_and_verify(root, &change.path, &change.new) else { continue };
        failed += 1;
        // Nobody may be reading; the writes go on all the same.
        let _ = writeln!(out, "{knob}: {} was not written: {why}", change.path);
        match root.read(&change.path) {
            Ok(now) if same(&now, &change.old) => {
                // As if never meant: otherwise a later `apply` would take this original for the one to go back to.
                record.entries.retain(|entry| entry.path != change.path);
                record.entries.extend(before.iter().find(|entry| entry.path == change.path).cloned());
            }
            Ok(now) => record.note_instead(&change.path, &now),
            // it stays noted: `revert` looks again
            Err(_) => {}
        }
    }
    if failed > 0 {
        record.save()?;
    }
    Ok(failed)
}

/// Some files take a value without a complaint and keep the old one.
pub(crate) fn write_and_verify(root: &Root, path: &str, value: &str) -> Result<(), String> {
    root.write(path, value)?;
    match root.read(path) {
        Ok(now) if same(&now, value) => Ok(()),
        Ok(now) => Err(format!("the kernel took it and still says {}", chosen(&now))),
        Err(why) => Err(format!("it cannot be read back: {why}")),
    }
}

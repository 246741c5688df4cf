//! What the host offers a broker: its knobs (check, apply, revert) and what its data disk can do.
//!
//! `knobs.rs` is the table to begin with: what is read, what is wanted, why, and who can change it. `host.rs` reads
//! the host once; `finding.rs` judges; `check.rs` prints; `apply.rs` and `revert.rs` write, through `record.rs`, which
//! remembers what was there before; `disk/` measures. Everything except `disk/` goes through [`root::Root`], so that
//! a tree of plain files can stand in for a host. `check` never writes; `revert` writes only paths of the record.

#![deny(unsafe_code)]

mod apply;
mod check;
mod data_disk;
mod disk;
mod finding;
mod host;
mod interrupts;
mod knobs;
mod processors;
mod record;
mod revert;
mod root;
mod rule;
#[cfg(test)]
mod tests;

use std::io::{BufRead, IsTerminal, Write};

use clap::Subcommand;

/// `corelane tune …`.
#[derive(Subcommand)]
pub enum Command {
    /// Compare the host with what the broker wants; reads only.
    Check(check::Options),
    /// Set what can be set at once, after asking; what was there before is recorded for `revert`.
    Apply(apply::Options),
    /// Put back what `apply` changed.
    Revert(revert::Options),
    /// Measure the data disk: writes, reads and flushes through io_uring, past the page cache.
    Disk(disk::Options),
}

/// Runs one sub-command; the error is one line for the operator.
///
/// # Errors
/// What could not be done, and what to do about it.
pub fn run(command: &Command) -> Result<(), String> {
    let mut out = std::io::stdout().lock();
    match command {
        Command::Check(options) => check::run(options, &mut out),
        Command::Apply(options) => apply::run(options, &mut out, ask),
        Command::Revert(options) => revert::run(options, &mut out),
        Command::Disk(options) => disk::run(options, &mut out),
    }
}

/// Asks the person at the terminal.
fn ask(question: &str) -> Result<apply::Answer, String> {
    let input = std::io::stdin();
    if !input.is_terminal() {
        return Err("no terminal to ask at: repeat with --yes to write without a question".into());
    }
    let mut answer = String::new();
    eprint!("{question} [y/N] ");
    std::io::stderr().flush().and_then(|()| input.lock().read_line(&mut answer)).map_err(|error| {
        format!("the answer could not be read ({error}): repeat with --yes to write without a question")
    })?;
    Ok(match answer.trim() {
        "y" | "Y" | "yes" => apply::Answer::Write,
        _ => apply::Answer::LeaveAlone,
    })
}

/// What becomes of a report that nobody reads to the end (`corelane tune check | head`): not our failure.
fn printed(result: std::io::Result<()>) -> Result<(), String> {
    match result {
        Err(error) if error.kind() != std::io::ErrorKind::BrokenPipe => {
            Err(format!("the report could not be printed: {error}"))
        }
        _ => Ok(()),
    }
}

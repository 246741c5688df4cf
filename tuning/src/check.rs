//! `corelane tune check`: what the host offers against what the broker wants. Reads only.

use std::fmt::Write as _;
use std::io::{IsTerminal, Write};

use clap::Args;
use serde::Serialize;

use crate::data_disk::DataDisk;
use crate::finding::{Finding, Verdict};
use crate::host::{self, Host};
use crate::knobs::{Group, KNOBS, Knob};
use crate::printed;

#[derive(Args, Debug)]
pub struct Options {
    #[command(flatten)]
    host: host::Options,

    /// Print one JSON document instead of a table.
    #[arg(long)]
    json: bool,

    /// Fail when something differs from what is wanted.
    #[arg(long)]
    strict: bool,
}

/// A knob and what was found.
#[derive(Serialize)]
pub(crate) struct Row {
    #[serde(serialize_with = "name_only")]
    pub(crate) knob: &'static Knob,
    group: Group,
    #[serde(flatten)]
    pub(crate) finding: Finding,
    why: &'static str,
    measured_gain: Option<&'static str>,
}

#[derive(Serialize)]
struct Report<'a> {
    data: &'a DataDisk,
    knobs: &'a [Row],
}

/// How the table is printed: for eyes, or for grep and files.
#[derive(Clone, Copy)]
struct Style {
    /// Columns after which reasons are broken; none for a pipe, where a line stays a line.
    width: Option<usize>,
    colour: bool,
}

pub(crate) fn run(options: &Options, out: &mut dyn Write) -> Result<(), String> {
    let host = Host::read(&options.host)?;
    let rows = look(&host);
    if options.json {
        let report = Report { data: &host.data, knobs: &rows };
        let text = serde_json::to_string_pretty(&report)
            .map_err(|error| format!("the report cannot be written as JSON: {error}"))?;
        printed(writeln!(out, "{text}"))?;
    } else {
        printed(out.write_all(table(&host.data, &rows, style()).as_bytes()))?;
    }
    let differing = rows.iter().filter(|row| row.finding.verdict == Verdict::Change).count();
    if options.strict && differing > 0 {
        return Err(format!("{differing} of {} knobs differ from what is wanted", rows.len()));
    }
    Ok(())
}

/// Looks at every knob, in the order of the table.
pub(crate) fn look(host: &Host) -> Vec<Row> {
    let row = |knob: &'static Knob| Row {
        knob,
        group: knob.group,
        finding: knob.look(host),
        why: knob.why,
        measured_gain: knob.gain,
    };
    KNOBS.iter().map(row).collect()
}

fn name_only<S: serde::Serializer>(knob: &&'static Knob, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.serialize_str(knob.name)
}

fn style() -> Style {
    let output = std::io::stdout();
    if !output.is_terminal() {
        return Style { width: None, colour: false };
    }
    let width = rustix::termios::tcgetwinsize(&output).map_or(100, |size| usize::from(size.ws_col));
    Style { width: Some(width.clamp(60, 140)), colour: std::env::var_os("NO_COLOR").is_none() }
}

fn table(data: &DataDisk, rows: &[Row], style: Style) -> String {
    let column = |title: &str, text: fn(&Row) -> &str| {
        rows.iter().map(|row| text(row).chars().count()).max().unwrap_or(0).max(title.len())
    };
    let name = column("knob", |row| row.knob.name);
    let now = column("now", |row| &row.finding.now).min(34);
    let wanted = column("wanted", |row| &row.finding.wanted).min(34);
    let mut text = place(data);
    let _ = writeln!(text, "{:name$}  {:7}  {:now$}  wanted", "knob", "verdict", "now");
    for row in rows {
        let finding = &row.finding;
        let line = format!(
            "{:name$}  {}  {:now$}  {:wanted$}",
            row.knob.name,
            verdict(finding.verdict, style),
            finding.now,
            finding.wanted
        );
        let _ = writeln!(text, "{}", line.trim_end());
        let gain = row.measured_gain.map(|gain| format!("measured: {gain}"));
        let note = finding.note.as_ref().map(|note| format!("note: {note}"));
        let by_hand = finding.by_hand.as_ref().map(|line| format!("by hand: {line}"));
        for remark in [Some(row.why.to_owned()), gain, note, by_hand].into_iter().flatten() {
            wrap(&mut text, &remark, name + 2, style.width);
        }
    }
    text.push_str(&summary(rows));
    text
}

fn place(data: &DataDisk) -> String {
    let disks = if data.disks.is_empty() { "none found".to_owned() } else { data.disks.join(", ") };
    let mut text = format!("data in {}; disk: {disks}\n", data.directory);
    if let Some(missing) = &data.missing {
        let _ = writeln!(text, "{missing}");
    }
    text.push('\n');
    text
}

fn verdict(verdict: Verdict, style: Style) -> String {
    let (word, code) = match verdict {
        Verdict::Ok => ("ok", "32"),
        Verdict::Change => ("change", "33"),
        Verdict::Absent => ("absent", "2"),
        Verdict::Unknown => ("unknown", "36"),
    };
    if style.colour { format!("\x1b[{code}m{word:7}\x1b[0m") } else { format!("{word:7}") }
}

/// Adds a remark below its knob, broken between words.
fn wrap(text: &mut String, remark: &str, indent: usize, width: Option<usize>) {
    let room = width.map_or(usize::MAX, |width| width.saturating_sub(indent).max(20));
    let mut used = 0;
    for word in remark.split(' ') {
        let length = word.chars().count();
        if used > 0 && used + 1 + length > room {
            text.push('\n');
            used = 0;
        }
        if used == 0 {
            let _ = write!(text, "{:indent$}", "");
        } else {
            text.push(' ');
            used += 1;
        }
        text.push_str(word);
        used += length;
    }
    text.push('\n');
}

fn summary(rows: &[Row]) -> String {
    let count = |wanted: Verdict| rows.iter().filter(|row| row.finding.verdict == wanted).count();
    let writable = rows.iter().filter(|row| !row.finding.changes.is_empty()).count();
    let mut text = format!(
        "\n{} ok, {} to change, {} unknown, {} absent on this host\n",
        count(Verdict::Ok),
        count(Verdict::Change),
        count(Verdict::Unknown),
        count(Verdict::Absent)
    );
    if writable > 0 {
        let _ = writeln!(text, "`corelane tune apply` can set {writable}; lines \"by hand\" are yours");
    }
    text
}

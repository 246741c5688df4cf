//! What was found about one knob, and how it is judged.

use serde::Serialize;

use crate::host::Host;
use crate::root::Unread;
use crate::rule::{Rule, chosen};

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum Verdict {
    /// Good enough.
    Ok,
    /// Differs from what is wanted.
    Change,
    /// This host has no such knob: nothing to do.
    Absent,
    /// It could not be read or understood; the note says why.
    Unknown,
}

/// One file to write.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub(crate) struct Change {
    pub(crate) path: String,
    pub(crate) old: String,
    pub(crate) new: String,
}

/// The state of one knob, over all the places (processors, disks) that have it.
#[derive(Clone, Debug, Serialize)]
pub(crate) struct Finding {
    pub(crate) now: String,
    pub(crate) wanted: String,
    pub(crate) verdict: Verdict,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) note: Option<String>,
    /// What `apply` would write.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub(crate) changes: Vec<Change>,
    /// What only the operator can do: a line to paste, or to follow.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) by_hand: Option<String>,
}

impl Finding {
    pub(crate) fn new(verdict: Verdict, now: impl Into<String>, wanted: impl Into<String>) -> Finding {
        Finding {
            now: now.into(),
            wanted: wanted.into(),
            verdict,
            note: None,
            changes: Vec::new(),
            by_hand: None,
        }
    }

    pub(crate) fn absent(wanted: impl Into<String>, note: &str) -> Finding {
        Finding::new(Verdict::Absent, "-", wanted).noted(note)
    }

    pub(crate) fn unknown(wanted: impl Into<String>, note: &str) -> Finding {
        Finding::new(Verdict::Unknown, "?", wanted).noted(note)
    }

    pub(crate) fn noted(mut self, note: impl Into<String>) -> Finding {
        self.note = Some(note.into());
        self
    }

    pub(crate) fn by_hand(mut self, line: impl Into<String>) -> Finding {
        self.by_hand = Some(line.into());
        self
    }
}

/// Judges the same file in several places (each processor, each disk), or in one.
pub(crate) fn of_files(host: &Host, paths: &[String], rule: Rule, absent: &str) -> Finding {
    let mut values: Vec<String> = Vec::new();
    let mut changes = Vec::new();
    let mut trouble = None;
    let mut differs = false;
    for path in paths {
        let text = match host.root.read(path) {
            Ok(text) => text,
            Err(Unread::Absent) => continue,
            Err(Unread::Refused(why)) => {
                trouble = Some(format!("{path} cannot be read: {why}"));
                continue;
            }
        };
        values.push(shown(chosen(&text)));
        match rule.holds(&text) {
            None => trouble = Some(format!("{path} holds something strange")),
            Some(true) => {}
            Some(false) => {
                differs = true;
                match rule.better(&text) {
                    Some(new) => changes.push(Change { path: path.clone(), old: chosen(&text).into(), new }),
                    None => trouble = Some(format!("{path} offers nothing better: {}", shown(&text))),
                }
            }
        }
    }
    if values.is_empty() && trouble.is_none() {
        return Finding::absent(rule.wanted(), absent);
    }
    let verdict = match (differs, &trouble) {
        (true, _) => Verdict::Change,
        (false, Some(_)) => Verdict::Unknown,
        (false, None) => Verdict::Ok,
    };
    let mut finding = Finding::new(verdict, counted(&values), rule.wanted());
    finding.note = trouble;
    finding.changes = changes;
    finding
}

/// `powersave`, or `performance x1, powersave x3` where the places differ.
fn counted(values: &[String]) -> String {
    let mut kinds: Vec<(&String, usize)> = Vec::new();
    for value in values {
        match kinds.iter_mut().find(|(kind, _)| *kind == value) {
            Some((_, count)) => *count += 1,
            None => kinds.push((value, 1)),
        }
    }
    match kinds.as_slice() {
        [] => "?".into(),
        [(kind, _)] => (*kind).clone(),
        _ => kinds.iter().map(|(kind, count)| format!("{kind} x{count}")).collect::<Vec<_>>().join(", "),
    }
}

/// A value fit for one line of a table, whatever the file held.
pub(crate) fn shown(text: &str) -> String {
    const CHARACTERS_MAX: usize = 60;
    let line: String = text.split_whitespace().collect::<Vec<_>>().join(" ");
    let clean: String = line.chars().filter(|character| !character.is_control()).collect();
    match clean.char_indices().nth(CHARACTERS_MAX) {
        Some((end, _)) => format!("{}…", &clean[..end]),
        None => clean,
    }
}

//! What was found: the same for text and JSON.

use std::collections::BTreeMap;
use std::fmt::Write as _;

use serde::Serialize;

#[derive(Debug, Default, Serialize)]
pub(super) struct Report {
    pub(super) path: String,
    /// Of a log directory: its identity.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub(super) properties: BTreeMap<&'static str, String>,
    pub(super) partitions: Vec<Partition>,
    /// What concerns the directory as a whole.
    pub(super) findings: Vec<Finding>,
}

#[derive(Debug, Default, Serialize)]
pub(super) struct Partition {
    /// The folder's, or the file's.
    pub(super) name: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) topic_id: Option<String>,
    pub(super) segments: Vec<Segment>,
    pub(super) snapshots: Vec<Snapshot>,
    pub(super) leader_epochs: Vec<Epoch>,
    /// As it was written down; absent: the log begins with its first segment.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) log_start: Option<i64>,
    /// Exclusive; where the content was read.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) end_offset: Option<i64>,
    pub(super) findings: Vec<Finding>,
}

#[derive(Debug, Default, Serialize)]
pub(super) struct Segment {
    pub(super) base_offset: i64,
    /// The file's length.
    pub(super) bytes: u64,
    /// Entries of the index files; absent: there is no such file.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) offset_index: Option<usize>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) time_index: Option<usize>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) aborted_transactions: Option<usize>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) content: Option<Content>,
}

/// What a segment's batches are.
#[derive(Debug, Default, Serialize)]
pub(super) struct Content {
    pub(super) next_offset: i64,
    pub(super) batches: u64,
    pub(super) records: u64,
    /// Of whole batches.
    pub(super) batch_bytes: u64,
    /// Offsets that no batch has: compaction took them, or they are lost.
    pub(super) missing_offsets: u64,
    /// Milliseconds since 1970; -1: no batch has one.
    pub(super) max_timestamp: i64,
    pub(super) control_batches: u64,
    pub(super) transactional_batches: u64,
    pub(super) idempotent_batches: u64,
    /// Batches by codec.
    pub(super) codecs: BTreeMap<String, u64>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub(super) all: Vec<Batch>,
}

#[derive(Debug, Serialize)]
pub(super) struct Batch {
    pub(super) position: u64,
    pub(super) bytes: usize,
    pub(super) base_offset: i64,
    pub(super) last_offset: i64,
    pub(super) records: i32,
    pub(super) leader_epoch: i32,
    pub(super) max_timestamp: i64,
    pub(super) codec: String,
    pub(super) producer_id: i64,
    pub(super) producer_epoch: i16,
    pub(super) base_sequence: i32,
    pub(super) is_transactional: bool,
    pub(super) is_control: bool,
}

/// Producer state as of an offset.
#[derive(Debug, Serialize)]
pub(super) struct Snapshot {
    pub(super) offset: i64,
    pub(super) producers: usize,
}

#[derive(Debug, Serialize)]
pub(super) struct Epoch {
    pub(super) epoch: i32,
    pub(super) start_offset: i64,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub(super) enum Severity {
    /// Bytes that are not those that were written, or that are missing.
    Damage,
    /// Worth knowing; the next start deals with it.
    Note,
}

#[derive(Debug, PartialEq, Eq, Serialize)]
pub(super) struct Finding {
    pub(super) severity: Severity,
    /// The file's name in its folder.
    pub(super) file: String,
    pub(super) what: String,
}

impl Finding {
    pub(super) fn damage(file: impl Into<String>, what: impl Into<String>) -> Finding {
        Finding { severity: Severity::Damage, file: file.into(), what: what.into() }
    }

    pub(super) fn note(file: impl Into<String>, what: impl Into<String>) -> Finding {
        Finding { severity: Severity::Note, file: file.into(), what: what.into() }
    }

    pub(super) fn is_damage(&self) -> bool {
        self.severity == Severity::Damage
    }

    pub(super) fn is_damage_of(&self, file: &str) -> bool {
        self.is_damage() && self.file == file
    }
}

impl Partition {
    pub(super) fn is_damaged(&self) -> bool {
        self.findings.iter().any(Finding::is_damage)
    }
}

impl Report {
    /// How many findings are damage.
    pub(super) fn damage(&self) -> usize {
        let of_partitions = self.partitions.iter().flat_map(|partition| &partition.findings);
        let all = self.findings.iter().chain(of_partitions);
        all.filter(|finding| finding.severity == Severity::Damage).count()
    }

    pub(super) fn json(&self) -> String {
        serde_json::to_string_pretty(self).expect("numbers and text are JSON") + "\n"
    }

    pub(super) fn text(&self) -> String {
        let mut text = format!("{}\n", self.path);
        for (key, value) in &self.properties {
            let _ = writeln!(text, "  {key}={value}");
        }
        findings(&mut text, "  ", &self.findings);
        for partition in &self.partitions {
            partition.write(&mut text);
        }
        let notes =
            self.findings.iter().chain(self.partitions.iter().flat_map(|partition| &partition.findings));
        let notes = notes.filter(|finding| finding.severity == Severity::Note).count();
        let bytes: u64 =
            self.partitions.iter().flat_map(|partition| &partition.segments).map(|s| s.bytes).sum();
        let segments: usize = self.partitions.iter().map(|partition| partition.segments.len()).sum();
        let _ = writeln!(
            text,
            "\n{} partitions, {segments} segments, {bytes} bytes; damage: {}, notes: {notes}",
            self.partitions.len(),
            self.damage()
        );
        text
    }
}

impl Partition {
    fn write(&self, text: &mut String) {
        let _ = write!(text, "\n{}", self.name);
        if let Some(id) = &self.topic_id {
            let _ = write!(text, "  topic id {id}");
        }
        if let Some(end) = self.end_offset {
            let first = self.segments.first().map_or(end, |segment| segment.base_offset);
            let start = self.log_start.map_or(first, |start| start.max(first));
            let _ = write!(text, "  offsets {start} to {end} (exclusive)");
        }
        text.push('\n');
        for segment in &self.segments {
            segment.write(text);
        }
        for snapshot in &self.snapshots {
            let _ = writeln!(text, "  producers at {}: {}", snapshot.offset, snapshot.producers);
        }
        if !self.leader_epochs.is_empty() {
            let epochs =
                self.leader_epochs.iter().map(|entry| format!("{} from {}", entry.epoch, entry.start_offset));
            let _ = writeln!(text, "  leader epochs: {}", epochs.collect::<Vec<_>>().join(", "));
        }
        findings(text, "  ", &self.findings);
    }
}

impl Segment {
    fn write(&self, text: &mut String) {
        let _ = write!(text, "  segment {}: {} bytes", self.base_offset, self.bytes);
        let files = [
            ("index entries", self.offset_index),
            ("time index entries", self.time_index),
            ("aborted transactions", self.aborted_transactions),
        ];
        for (what, count) in files.into_iter().filter_map(|(what, count)| Some((what, count?))) {
            let _ = write!(text, ", {count} {what}");
        }
        text.push('\n');
        let Some(content) = &self.content else { return };
        let codecs = content.codecs.iter().map(|(codec, batches)| format!("{codec} {batches}"));
        let _ = writeln!(
            text,
            "    {} records in {} batches ({} bytes) up to offset {}, largest timestamp {}; {}",
            content.records,
            content.batches,
            content.batch_bytes,
            content.next_offset,
            timestamp(content.max_timestamp),
            codecs.collect::<Vec<_>>().join(", ")
        );
        let kinds = [
            ("idempotent", content.idempotent_batches),
            ("transactional", content.transactional_batches),
            ("control", content.control_batches),
        ];
        let told: Vec<String> = kinds
            .into_iter()
            .filter(|(_, count)| *count > 0)
            .map(|(what, count)| format!("{count} {what}"))
            .collect();
        if !told.is_empty() {
            let _ = writeln!(text, "    of the batches: {}", told.join(", "));
        }
        for batch in &content.all {
            batch.write(text);
        }
    }
}

impl Batch {
    fn write(&self, text: &mut String) {
        let _ = write!(
            text,
            "    @{} {} bytes: offsets {}-{}, {} records, epoch {}, {}, {}",
            self.position,
            self.bytes,
            self.base_offset,
            self.last_offset,
            self.records,
            self.leader_epoch,
            timestamp(self.max_timestamp),
            self.codec
        );
        if self.producer_id >= 0 {
            let (id, epoch, sequence) = (self.producer_id, self.producer_epoch, self.base_sequence);
            let _ = write!(text, ", producer {id} epoch {epoch} sequence {sequence}");
        }
        if self.is_transactional {
            text.push_str(", transactional");
        }
        if self.is_control {
            text.push_str(", control");
        }
        text.push('\n');
    }
}

fn findings(text: &mut String, indent: &str, findings: &[Finding]) {
    for Finding { severity, file, what } in findings {
        let severity = match severity {
            Severity::Damage => "DAMAGE",
            Severity::Note => "note",
        };
        let _ = writeln!(text, "{indent}{severity}: {file}: {what}");
    }
}

/// Milliseconds since 1970 as a date people read.
fn timestamp(ms: i64) -> String {
    /// The last millisecond of the year 9999.
    const LATEST: u64 = 253_402_300_799_999;
    match u64::try_from(ms) {
        Ok(ms @ ..=LATEST) => {
            let time = std::time::UNIX_EPOCH + std::time::Duration::from_millis(ms);
            humantime::format_rfc3339_millis(time).to_string()
        }
        Ok(ms) => format!("{ms} ms"),
        Err(_) => "none".to_owned(),
    }
}

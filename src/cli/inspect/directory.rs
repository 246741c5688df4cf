//! A log directory: its partitions, and what lies beside them.

use std::collections::{BTreeMap, BTreeSet};
use std::fs::{self, File, TryLockError};
use std::io::IsTerminal;
use std::path::Path;

use super::partition::{self, Expect, PartitionOffsets};
use super::report::{Finding, Report};
use super::{Depth, failed, journal};
use crate::log::checkpoint::{MetaProperties, PartitionOffset, decode_offsets};
use crate::log::files::{
    CLEAN_SHUTDOWN, CLEANED_OFFSETS_PREFIX, CLEANER_OFFSET_CHECKPOINT, Folder, FolderState, JOURNAL_ENDS,
    LOCK, LOG_START_CHECKPOINT, LOG_STARTS_PREFIX, META_PROPERTIES, PARTITION_METADATA,
    RECOVERY_POINT_CHECKPOINT, RECOVERY_POINTS_PREFIX, TEMPORARY_SUFFIX, parse_folder,
};
use crate::model::Offset;

/// Adds what the directory holds.
///
/// # Errors
/// It is none, or cannot be read.
pub(super) fn read(path: &Path, depth: Depth, report: &mut Report) -> Result<(), String> {
    let mut names = Vec::new();
    for entry in fs::read_dir(path).map_err(|error| failed("list", path, &error))? {
        let entry = entry.map_err(|error| failed("list", path, &error))?;
        names.extend(entry.file_name().to_str().map(str::to_owned));
    }
    names.sort_unstable();
    let folder =
        |name: &String| Some((name.clone(), parse_folder(name).filter(|_| path.join(name).is_dir())?));
    let folders: Vec<(String, Folder)> = names.iter().filter_map(folder).collect();
    let has_properties = names.iter().any(|name| name == META_PROPERTIES);
    if !has_properties && folders.is_empty() {
        return Err(format!(
            "{} is no log directory: it has neither {META_PROPERTIES} nor a partition's folder",
            path.display()
        ));
    }
    if is_in_use(path) {
        let what = "a broker runs on this directory: the ends of its logs move while they are read";
        report.findings.push(Finding::note(LOCK, what));
    }
    properties(path, has_properties, report);
    let is_clean = names.iter().any(|name| name == CLEAN_SHUTDOWN);
    report
        .properties
        .insert("stopped", if is_clean { "cleanly" } else { "not cleanly, or running" }.to_owned());
    let mut offsets = |kafkas, ours, choose| offsets(path, &names, [kafkas, ours], choose, report);
    let mut recovery_points = offsets(RECOVERY_POINT_CHECKPOINT, RECOVERY_POINTS_PREFIX, Offset::min);
    let log_starts = offsets(LOG_START_CHECKPOINT, LOG_STARTS_PREFIX, Offset::max);
    journal::read(path, &names, &mut recovery_points, report);
    let compacted = Some(compacted(path, &names, report));
    replayed_ends(path, &names, report);
    let is_ours = names.iter().any(|name| name.starts_with(RECOVERY_POINTS_PREFIX));
    let expect = Expect { recovery_points, log_starts, is_clean, is_ours, compacted };
    for name in names.iter().filter(|name| path.join(name).is_dir() && parse_folder(name).is_none()) {
        report.findings.push(Finding::note(name, "is no partition's folder: it is not looked at"));
    }
    for (name, folder) in folders {
        if folder.state != FolderState::Live {
            report.findings.push(Finding::note(name, "set aside; not part of any topic"));
            continue;
        }
        if depth != Depth::Outline && std::io::stderr().is_terminal() {
            eprintln!("reading {name}");
        }
        report.partitions.push(partition::read(&path.join(&name), &name, &expect, depth)?);
    }
    topic_ids(report);
    Ok(())
}

/// Whether a process holds the directory's lock.
fn is_in_use(path: &Path) -> bool {
    File::open(path.join(LOCK))
        .is_ok_and(|file| matches!(file.try_lock_shared(), Err(TryLockError::WouldBlock)))
}

fn properties(path: &Path, is_there: bool, report: &mut Report) {
    if !is_there {
        report
            .findings
            .push(Finding::note(META_PROPERTIES, "is missing: part of a directory, or never served"));
        return;
    }
    let text = fs::read_to_string(path.join(META_PROPERTIES)).unwrap_or_default();
    match MetaProperties::decode(&text) {
        Ok(found) => {
            report.properties.insert("cluster.id", found.cluster_id);
            report.properties.insert("node.id", found.node_id.to_string());
            report.properties.insert("directory.id", found.directory_id.to_string());
        }
        Err(damage) => report.findings.push(Finding::damage(META_PROPERTIES, damage.0)),
    }
}

/// The partitions that a file of cleaned offsets names: Kafka's by the topic's name, each shard's by its id.
fn compacted(path: &Path, names: &[String], report: &mut Report) -> BTreeSet<(String, i32)> {
    let is_one = |name: &&String| {
        let is_ours = name.starts_with(CLEANED_OFFSETS_PREFIX) && !name.ends_with(TEMPORARY_SUFFIX);
        *name == CLEANER_OFFSET_CHECKPOINT || is_ours
    };
    let mut compacted = BTreeSet::new();
    for name in names.iter().filter(is_one) {
        let found = checkpoint(path, name, report);
        compacted.extend(found.into_iter().map(|found| (found.topic, found.partition)));
    }
    compacted
}

/// Of each partition, what `choose` makes of all that the files tell: Kafka's by the topic's name, each shard's by its
/// id. `names` are Kafka's file and how ours begin.
fn offsets(
    path: &Path,
    files: &[String],
    names: [&str; 2],
    choose: fn(Offset, Offset) -> Offset,
    report: &mut Report,
) -> PartitionOffsets {
    let mut offsets = PartitionOffsets::new();
    let is_one = |name: &&String| {
        let is_ours = name.starts_with(names[1]) && !name.ends_with(TEMPORARY_SUFFIX);
        *name == names[0] || is_ours
    };
    for name in files.iter().filter(is_one) {
        for found in checkpoint(path, name, report) {
            let offset = offsets.entry((found.topic, found.partition)).or_insert(found.offset);
            *offset = choose(found.offset, *offset);
        }
    }
    offsets
}

/// One file of offsets. Kafka's may be empty, ours never are.
fn checkpoint(path: &Path, name: &str, report: &mut Report) -> Vec<PartitionOffset> {
    let is_ours = [RECOVERY_POINTS_PREFIX, LOG_STARTS_PREFIX, CLEANED_OFFSETS_PREFIX, JOURNAL_ENDS]
        .iter()
        .any(|prefix| name.starts_with(prefix));
    let decoded = match fs::read_to_string(path.join(name)) {
        Ok(text) if is_ours && text.lines().count() < 2 => Err("is cut short".to_owned()),
        Ok(text) => decode_offsets(&text).map_err(|damage| damage.0),
        Err(error) => Err(format!("cannot be read: {error}")),
    };
    decoded.unwrap_or_else(|what| {
        report.findings.push(Finding::damage(name, what));
        Vec::new()
    })
}

/// What a boot that did not come to its end has left: the next one uses it.
fn replayed_ends(path: &Path, names: &[String], report: &mut Report) {
    if names.iter().any(|name| name == JOURNAL_ENDS) {
        checkpoint(path, JOURNAL_ENDS, report);
    }
}

/// Partitions of one topic have one topic id.
fn topic_ids(report: &mut Report) {
    let mut ids: BTreeMap<String, (String, String)> = BTreeMap::new();
    let mut findings = Vec::new();
    for partition in &report.partitions {
        let Some((folder, id)) = parse_folder(&partition.name).zip(partition.topic_id.as_ref()) else {
            continue;
        };
        let (first, known) = ids.entry(folder.topic).or_insert_with(|| (partition.name.clone(), id.clone()));
        if known != id {
            let what = format!("says topic id {id}, and {first} says {known}");
            findings.push(Finding::damage(format!("{}/{PARTITION_METADATA}", partition.name), what));
        }
    }
    report.findings.extend(findings);
}

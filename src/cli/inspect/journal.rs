//! The commit journals of a log directory: what the next start puts into the segments.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::Path;

use super::partition::PartitionOffsets;
use super::report::{Finding, Report};
use crate::log::files::{JOURNAL_PREFIX, TEMPORARY_SUFFIX, UNPLACED_PREFIX};
use crate::log::journal::{Round, judge, read_file};

/// Tells what the journals hold. What is in one may lie below a recovery point and in no segment yet, so `points` come
/// down to the lowest offset there: what is missing above it is the next start's to put back.
pub(super) fn read(path: &Path, names: &[String], points: &mut PartitionOffsets, report: &mut Report) {
    let mut journals = BTreeMap::<&str, Vec<Vec<Round>>>::new();
    // a topic called `journal` has folders of such names
    let is_file = |name: &&String| name.starts_with(JOURNAL_PREFIX) && !path.join(name).is_dir();
    for name in names.iter().filter(is_file) {
        let number = name[JOURNAL_PREFIX.len()..].split_once('.');
        let Some((shard, _)) = number.filter(|(shard, file)| is_number(shard) && is_number(file)) else {
            report.findings.push(Finding::note(name, "is no name of a journal file: it is not looked at"));
            continue;
        };
        let found = fs::read(path.join(name)).map_err(|error| format!("cannot be read: {error}"));
        match found.and_then(|bytes| read_file(&bytes).map_err(|damage| damage.0)) {
            Ok(rounds) => journals.entry(shard).or_default().push(rounds),
            Err(what) => report.findings.push(Finding::damage(name, what)),
        }
    }
    unplaced(path, names, report);
    let (mut bytes, mut rounds, mut partitions) = (0, 0, BTreeSet::new());
    for (shard, files) in &journals {
        let judgement = judge(files);
        for lost in &judgement.lost {
            let what = format!(
                "rounds {} to {} are missing, which were flushed once: what was acknowledged in them is lost",
                lost.start(),
                lost.end()
            );
            report.findings.push(Finding::damage(format!("{JOURNAL_PREFIX}{shard}"), what));
        }
        rounds += judgement.rounds.len();
        for (entry, place) in judgement.rounds.iter().flat_map(|&(file, round)| &files[file][round].entries) {
            bytes += place.len();
            let name = (entry.partition.topic.to_string(), entry.partition.index);
            if let Some(point) = points.get_mut(&name) {
                *point = entry.base.min(*point);
            }
            partitions.insert(name);
        }
    }
    if rounds > 0 {
        let what = format!(
            "{rounds} rounds with {bytes} bytes of batches of {} partitions: the next start puts into the segments what they \
             do not have yet",
            partitions.len()
        );
        report.properties.insert("journal", what);
    }
}

/// Tells what a replay has set aside, because the folder it belongs to did not say whose it is.
fn unplaced(path: &Path, names: &[String], report: &mut Report) {
    let is_one = |name: &&String| name.starts_with(UNPLACED_PREFIX) && !name.ends_with(TEMPORARY_SUFFIX);
    for name in names.iter().filter(is_one) {
        let found = fs::read(path.join(name)).map_err(|error| format!("cannot be read: {error}"));
        report.findings.push(match found.and_then(|bytes| read_file(&bytes).map_err(|damage| damage.0)) {
            Ok(rounds) => {
                let entries: Vec<_> = rounds.iter().flat_map(|round| &round.entries).collect();
                let bytes: usize = entries.iter().map(|(_, place)| place.len()).sum();
                let (from, to) = (entries.first(), entries.last());
                let what = format!(
                    "{bytes} bytes of batches, offsets {} to {}, that were acknowledged and are in no segment, because \
                     their folder did not say whose it is: the next start of the partition puts them in their place",
                    from.map_or(0, |(entry, _)| entry.base.0),
                    to.map_or(0, |(entry, _)| entry.end.0 - 1),
                );
                Finding::note(name, what)
            }
            Err(what) => Finding::damage(name, what),
        });
    }
}

fn is_number(text: &str) -> bool {
    text.parse::<u32>().is_ok_and(|number| number.to_string() == text)
}

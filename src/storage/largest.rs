//! Which topics take the most space of a log directory: what the operator of a full disk wants to know.
//!
//! Asks the file system, once when a disk becomes full: the folders of all shards, and those of deleted topics that are
//! not removed yet. A step per folder, on the blocking pool; memory for a name and a number per topic.

use std::collections::BTreeMap;
use std::path::Path;

use super::shard::Shard;
use crate::log::files::{FolderState, parse_folder};
use crate::reactor::fs;

/// Topics that are named.
const NAMED: usize = 5;

/// The topics with the most bytes in the folder `directory`, as text; what goes away or vanishes meanwhile is passed over.
pub async fn largest_topics(shard: &Shard, directory: &Path) -> String {
    let mut topics: BTreeMap<String, Usage> = BTreeMap::new();
    for entry in fs::list(directory).await.unwrap_or_default() {
        let Some(folder) = parse_folder(&entry.name).filter(|_| entry.is_dir) else { continue };
        if shard.stopping.get() {
            break;
        }
        let files = fs::list(&directory.join(&entry.name)).await.unwrap_or_default();
        let topic = match folder.state {
            FolderState::Live => folder.topic,
            FolderState::Delete => format!("{} (deleted, being removed)", folder.topic),
            FolderState::Stray | FolderState::Future => format!("{} (set aside)", folder.topic),
        };
        let usage = topics.entry(topic).or_default();
        usage.partitions += 1;
        usage.bytes += files.iter().map(|file| file.len).sum::<u64>();
    }
    describe(topics)
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Usage {
    bytes: u64,
    partitions: u64,
}

/// The largest first.
fn describe(topics: BTreeMap<String, Usage>) -> String {
    let count = topics.len();
    let mut topics: Vec<(String, Usage)> = topics.into_iter().collect();
    topics.sort_by_key(|(_, usage)| std::cmp::Reverse(usage.bytes));
    let mut words: Vec<String> = (topics.iter().take(NAMED))
        .map(|(topic, usage)| {
            let partitions = if usage.partitions == 1 { "partition" } else { "partitions" };
            format!("{topic} {} MiB in {} {partitions}", usage.bytes >> 20, usage.partitions)
        })
        .collect();
    if count > NAMED {
        let rest: u64 = topics[NAMED..].iter().map(|(_, usage)| usage.bytes).sum();
        words.push(format!("{} more with {} MiB", count - NAMED, rest >> 20));
    }
    if words.is_empty() { "none: other files fill it".to_owned() } else { words.join(", ") }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(sizes: &[(&str, u64, u64)], expect: &str) {
        let usage = |&(topic, mib, partitions): &(&str, u64, u64)| {
            (topic.to_owned(), Usage { bytes: mib << 20, partitions })
        };
        assert_eq!(describe(sizes.iter().map(usage).collect()), expect);
    }

    #[test]
    fn the_largest_come_first_and_the_rest_is_counted() {
        check(&[], "none: other files fill it");
        check(&[("a", 1, 1), ("b", 20, 3)], "b 20 MiB in 3 partitions, a 1 MiB in 1 partition");
        let many: Vec<(String, u64, u64)> = (0..8).map(|n| (format!("t{n}"), n, 1)).collect();
        let many: Vec<(&str, u64, u64)> =
            many.iter().map(|(name, mib, count)| (&**name, *mib, *count)).collect();
        let expect = "t7 7 MiB in 1 partition, t6 6 MiB in 1 partition, t5 5 MiB in 1 partition, \
                      t4 4 MiB in 1 partition, t3 3 MiB in 1 partition, 3 more with 3 MiB";
        check(&many, expect);
    }
}

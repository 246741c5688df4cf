//! Partitions of topics as people write and read them: `orders:0,1,5`, `orders:0-2,5`.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write as _;
use std::str::FromStr;

use crate::cli::client::{Client, TopicPartition};

/// `TOPIC` or `TOPIC:0,1,4-7`: all partitions of a topic, or these.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Scope {
    pub(super) topic: String,
    pub(super) partitions: Option<BTreeSet<i32>>,
}

impl FromStr for Scope {
    type Err = String;

    fn from_str(text: &str) -> Result<Scope, String> {
        let bad = || "must be TOPIC or TOPIC:PARTITIONS, as orders, orders:0,1 or orders:0-3,7".to_owned();
        let (topic, list) = match text.split_once(':') {
            Some((topic, list)) => (topic, Some(list)),
            None => (text, None),
        };
        let partitions = list.map(|list| indexes(list).ok_or_else(bad)).transpose()?;
        if topic.is_empty() { Err(bad()) } else { Ok(Scope { topic: topic.to_owned(), partitions }) }
    }
}

/// `0,1,4-7`.
pub(super) fn indexes(text: &str) -> Option<BTreeSet<i32>> {
    let number = |text: &str| text.trim().parse::<i32>().ok().filter(|index| *index >= 0);
    let mut found = BTreeSet::new();
    for part in text.split(',') {
        match part.split_once('-') {
            Some((first, last)) => {
                let (first, last) = (number(first)?, number(last)?);
                // more than any topic has: a slip of the finger, not a list
                (first <= last && last - first < 1_000_000).then_some(())?;
                found.extend(first..=last);
            }
            None => _ = found.insert(number(part)?),
        }
    }
    Some(found)
}

/// What `scopes` name, all of which must exist.
pub(super) fn resolve(client: &mut Client, scopes: &[Scope]) -> Result<BTreeSet<TopicPartition>, String> {
    let mut found = BTreeSet::new();
    for Scope { topic, partitions } in scopes {
        let led = client.leaders(topic)?;
        let wanted: Vec<i32> = match partitions {
            Some(partitions) => partitions.iter().copied().collect(),
            None => led.keys().copied().collect(),
        };
        if let Some(missing) = wanted.iter().find(|index| !led.contains_key(index)) {
            return Err(format!(
                "topic {topic} has no partition {missing}: it has 0 to {}",
                led.len().saturating_sub(1)
            ));
        }
        found.extend(wanted.into_iter().map(|index| TopicPartition::new(topic, index)));
    }
    Ok(found)
}

/// Those of `all` that `scopes` name; a scope that names none of them is an error.
pub(super) fn select(
    all: impl Iterator<Item = TopicPartition>,
    scopes: &[Scope],
) -> Result<BTreeSet<TopicPartition>, TopicPartition> {
    let all: BTreeSet<TopicPartition> = all.collect();
    let mut found = BTreeSet::new();
    for Scope { topic, partitions } in scopes {
        let of_topic = || all.iter().filter(|of| of.topic == *topic);
        match partitions {
            Some(partitions) => {
                for &index in partitions {
                    let of = TopicPartition::new(topic, index);
                    found.insert(if all.contains(&of) { of } else { return Err(of) });
                }
            }
            None if of_topic().next().is_none() => return Err(TopicPartition::new(topic, -1)),
            None => found.extend(of_topic().cloned()),
        }
    }
    Ok(found)
}

/// Of several topics.
pub(super) type Partitions = BTreeMap<String, BTreeSet<i32>>;

/// "orders:0-2,5 payments:1"; "-" for none.
pub(super) fn text(partitions: &Partitions) -> String {
    let mut text = String::new();
    for (topic, indexes) in partitions.iter().filter(|(_, indexes)| !indexes.is_empty()) {
        let gap = if text.is_empty() { "" } else { " " };
        let _ = write!(text, "{gap}{topic}:{}", ranges(indexes));
    }
    if text.is_empty() { "-".to_owned() } else { text }
}

fn ranges(indexes: &BTreeSet<i32>) -> String {
    let sorted: Vec<i32> = indexes.iter().copied().collect();
    let runs = sorted.chunk_by(|a, b| a + 1 == *b).map(|run| match run {
        [one] => one.to_string(),
        [one, other] => format!("{one},{other}"),
        [first, .., last] => format!("{first}-{last}"),
        [] => unreachable!("chunk_by gives no empty chunk"),
    });
    runs.collect::<Vec<_>>().join(",")
}

/// What of `these` is not in `others`.
pub(super) fn without(these: &Partitions, others: &Partitions) -> Partitions {
    let none = BTreeSet::new();
    let left = these.iter().map(|(topic, indexes)| {
        (topic.clone(), indexes.difference(others.get(topic).unwrap_or(&none)).copied().collect())
    });
    left.filter(|(_, indexes): &(String, BTreeSet<i32>)| !indexes.is_empty()).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_scope_is_a_topic_with_or_without_partitions() {
        let check = |text: &str, expect: Option<(&str, Option<&[i32]>)>| {
            let scope = expect.map(|(topic, partitions)| Scope {
                topic: topic.to_owned(),
                partitions: partitions.map(|partitions| partitions.iter().copied().collect()),
            });
            assert_eq!(text.parse::<Scope>().ok(), scope, "{text}");
        };
        check("orders", Some(("orders", None)));
        check("orders:0", Some(("orders", Some(&[0]))));
        check("orders:3,1,1", Some(("orders", Some(&[1, 3]))));
        check("orders:0-2,7", Some(("orders", Some(&[0, 1, 2, 7]))));
        for bad in ["", ":0", "orders:", "orders:x", "orders:-1", "orders:2-1", "orders:0-2000000000"] {
            check(bad, None);
        }
    }

    fn partitions(all: &[(&str, &[i32])]) -> Partitions {
        all.iter().map(|&(topic, indexes)| (topic.to_owned(), indexes.iter().copied().collect())).collect()
    }

    #[test]
    fn partitions_are_told_as_ranges() {
        for (all, expect) in [
            (&[][..], "-"),
            (&[("a", &[][..])], "-"),
            (&[("b", &[4, 0]), ("a", &[1])], "a:1 b:0,4"),
            (&[("a", &[0, 1])], "a:0,1"),
            (&[("a", &[0, 1, 2, 5, 7, 8, 9, 10])], "a:0-2,5,7-10"),
        ] {
            assert_eq!(text(&partitions(all)), expect);
        }
    }

    #[test]
    fn what_others_have_is_taken_away() {
        let these = partitions(&[("a", &[0, 1, 2]), ("b", &[0]), ("c", &[3])]);
        let others = partitions(&[("a", &[1, 7]), ("b", &[0])]);
        assert_eq!(without(&these, &others), partitions(&[("a", &[0, 2]), ("c", &[3])]));
    }

    #[test]
    fn what_is_selected_must_be_there() {
        let all = || [("a", 0), ("a", 2), ("b", 0)].map(|(topic, index)| TopicPartition::new(topic, index));
        let check = |scopes: &[&str], expect: Result<&[(&str, i32)], (&str, i32)>| {
            let scopes: Vec<Scope> = scopes.iter().map(|scope| scope.parse().expect("a scope")).collect();
            let of = |(topic, index): (&str, i32)| TopicPartition::new(topic, index);
            let expect = match expect {
                Ok(found) => Ok(found.iter().copied().map(of).collect()),
                Err(missing) => Err(of(missing)),
            };
            assert_eq!(select(all().into_iter(), &scopes), expect, "{scopes:?}");
        };
        check(&["a"], Ok(&[("a", 0), ("a", 2)]));
        check(&["a:2", "b"], Ok(&[("a", 2), ("b", 0)]));
        check(&["a:0-2"], Err(("a", 1)));
        check(&["c"], Err(("c", -1)));
    }
}

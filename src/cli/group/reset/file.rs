//! Offsets in a file, as `kafka-consumer-groups --export` writes and `--from-file` reads them: `topic,partition,offset`
//! on a line, with the group before it where there are several.

use std::collections::BTreeMap;
use std::fmt::Write as _;

use crate::cli::client::TopicPartition;

pub(super) type Offsets = BTreeMap<TopicPartition, i64>;

pub(super) fn write(offsets: impl Iterator<Item = (TopicPartition, i64)>) -> String {
    let mut text = String::new();
    for (TopicPartition { topic, partition }, offset) in offsets {
        let _ = writeln!(text, "{topic},{partition},{offset}");
    }
    text
}

/// Lines of other groups are passed over.
///
/// # Errors
/// A line says something else, or what a line before it has said; the text says which.
pub(super) fn parse(text: &str, group: &str) -> Result<Offsets, String> {
    let mut offsets = Offsets::new();
    let lines = text.lines().map(str::trim).enumerate();
    for (at, line) in lines.filter(|(_, line)| !line.is_empty()) {
        let bad = |what: &str| format!("line {} ({line}): {what}", at + 1);
        let row = row(line).ok_or_else(|| bad("must be TOPIC,PARTITION,OFFSET"))?;
        if row.group.is_some_and(|other| other != group) {
            continue;
        }
        if offsets.insert(row.of, row.offset).is_some() {
            return Err(bad("the partition has an offset already"));
        }
    }
    match offsets.is_empty() {
        true => Err(format!("no line has an offset for group {group}")),
        false => Ok(offsets),
    }
}

struct Row {
    group: Option<String>,
    of: TopicPartition,
    offset: i64,
}

/// From behind: only a group's name may have commas in it.
fn row(line: &str) -> Option<Row> {
    let mut cells = line.rsplitn(4, ',');
    let offset = cells.next()?.trim().parse().ok().filter(|offset: &i64| *offset >= 0)?;
    let partition = cells.next()?.trim().parse().ok().filter(|partition: &i32| *partition >= 0)?;
    let topic = unquoted(cells.next()?);
    (!topic.is_empty()).then_some(())?;
    Some(Row { group: cells.next().map(unquoted), of: TopicPartition { topic, partition }, offset })
}

fn unquoted(cell: &str) -> String {
    let cell = cell.trim();
    match cell.strip_prefix('"').and_then(|cell| cell.strip_suffix('"')) {
        Some(quoted) => quoted.replace("\"\"", "\""),
        None => cell.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_written_is_read() {
        let offsets: Offsets = [("orders", 0, 7), ("orders", 11, 0), ("payments", 2, i64::MAX)]
            .map(|(topic, partition, offset)| (TopicPartition::new(topic, partition), offset))
            .into();
        let text = write(offsets.clone().into_iter());
        assert_eq!(text, "orders,0,7\norders,11,0\npayments,2,9223372036854775807\n");
        assert_eq!(parse(&text, "g"), Ok(offsets));
    }

    #[test]
    fn lines_are_taken_as_kafka_s_tool_writes_them() {
        let check = |text: &str, expect: Result<&[(&str, i32, i64)], &str>| {
            let expect = match expect {
                Ok(rows) => Ok(rows.iter().map(|&(t, p, o)| (TopicPartition::new(t, p), o)).collect()),
                Err(error) => Err(error.to_owned()),
            };
            assert_eq!(parse(text, "a, \"b\""), expect, "{text}");
        };
        check("\"orders\",1,5\r\n\r\n orders , 2 , 6 ", Ok(&[("orders", 1, 5), ("orders", 2, 6)]));
        check("\"a, \"\"b\"\"\",orders,1,5\nother,orders,1,6\n", Ok(&[("orders", 1, 5)]));
        check("orders,1,5\norders,1,6", Err("line 2 (orders,1,6): the partition has an offset already"));
        for bad in ["orders,1", "topic,partition,offset", "orders,1,-5", "orders,-1,5", ",1,5", "orders;1;5"]
        {
            check(bad, Err(&format!("line 1 ({bad}): must be TOPIC,PARTITION,OFFSET")));
        }
        check("", Err("no line has an offset for group a, \"b\""));
        check("other,orders,1,6", Err("no line has an offset for group a, \"b\""));
    }
}

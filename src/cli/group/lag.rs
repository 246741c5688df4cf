//! `corelane group lag`: how far groups are behind.

use clap::Args;
use serde_json::json;

use super::committed;
use super::described::{self, Group};
use super::list::{self, Listed};
use super::position::{Logs, Positions, look_at_logs, positions};
use crate::cli::client::{Client, TopicPartition};
use crate::cli::progress::Progress;
use crate::cli::table::Table;
use crate::cli::target::{Target, counted};

#[derive(Args)]
pub(in crate::cli) struct Lag {
    /// Default: all.
    #[arg(value_name = "GROUP")]
    groups: Vec<String>,
    /// For scripts: exit code 1 when a group has more than N records to read.
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(i64).range(0..))]
    fail_above: Option<i64>,
    #[command(flatten)]
    target: Target,
}

/// What a group has still to read.
#[derive(Debug, PartialEq, Eq)]
struct Summary {
    id: String,
    state: String,
    members: usize,
    partitions: usize,
    /// Of all partitions for which it can be told.
    lag: i64,
    /// The partition that is furthest behind; none is where all are read to their ends.
    worst: Option<(TopicPartition, i64)>,
    /// Partitions of which it cannot be told: nothing is committed, or nobody can say where the log ends.
    unknown: usize,
}

impl Summary {
    fn new(group: &Group, positions: &Positions) -> Summary {
        let lags = || positions.iter().filter_map(|(of, position)| Some((of, position.lag()?.max(0))));
        // of several the first
        let worst = lags().filter(|&(_, lag)| lag > 0).rev().max_by_key(|&(_, lag)| lag);
        Summary {
            id: group.id.clone(),
            state: group.state.clone(),
            members: group.members.len(),
            partitions: positions.len(),
            lag: lags().fold(0, |sum, (_, lag)| sum.saturating_add(lag)),
            worst: worst.map(|(of, lag)| (of.clone(), lag)),
            unknown: positions.len() - lags().count(),
        }
    }
}

pub(super) fn run(arguments: &Lag) -> Result<(), String> {
    let mut client = arguments.target.connect()?;
    let mut progress = Progress::new(false);
    let groups = match arguments.groups.is_empty() {
        true => all(&mut client, &mut progress)?,
        false => {
            let groups = arguments.groups.iter().map(|id| described::describe(&mut client, id));
            groups.collect::<Result<Vec<_>, _>>()?
        }
    };
    let mut each = Vec::new();
    for (done, group) in groups.iter().enumerate() {
        progress.say(|| format!("offsets of {done} of {} groups", groups.len()));
        each.push(positions(group, committed::fetch(&mut client, &group.id)?));
    }
    look_at_logs(&mut client, &mut each.iter_mut().collect::<Vec<_>>(), Logs::Ends)?;
    drop(progress);
    let summaries: Vec<Summary> =
        groups.iter().zip(&each).map(|(group, positions)| Summary::new(group, positions)).collect();
    tell(arguments, &summaries)?;
    match arguments.fail_above.and_then(|most| failure(&summaries, most)) {
        Some(failure) => Err(failure),
        None => Ok(()),
    }
}

fn all(client: &mut Client, progress: &mut Progress) -> Result<Vec<Group>, String> {
    let listed = list::all(client)?;
    let listed: Vec<&Listed> = listed.iter().filter(|group| group.is_of_consumers()).collect();
    Ok(list::describe_all(client, &listed, progress)?.into_values().collect())
}

/// Names the groups that have more than so many records to read.
fn failure(summaries: &[Summary], most: i64) -> Option<String> {
    let behind = summaries.iter().filter(|summary| summary.lag > most);
    let behind: Vec<String> = behind.map(|summary| format!("{} ({})", summary.id, summary.lag)).collect();
    let records = counted(most.unsigned_abs(), "record");
    (!behind.is_empty()).then(|| format!("more than {records} behind: {}", behind.join(", ")))
}

fn tell(arguments: &Lag, summaries: &[Summary]) -> Result<(), String> {
    let document = || {
        let groups = summaries.iter().map(|summary| {
            json!({
                "group": summary.id,
                "state": summary.state,
                "members": summary.members,
                "lag": summary.lag,
                "partitions": summary.partitions,
                "partitions_unknown": summary.unknown,
                "worst": summary.worst.as_ref().map(|(of, lag)| {
                    json!({ "topic": of.topic, "partition": of.partition, "lag": lag })
                }),
            })
        });
        json!({ "groups": groups.collect::<Vec<_>>() })
    };
    arguments.target.tell_table(document, || table(summaries))
}

fn table(summaries: &[Summary]) -> Table {
    let heads = ["GROUP", "STATE", "MEMBERS", "PARTITIONS", "UNKNOWN", "LAG", "WORST", "PARTITION"];
    let mut table = Table::new(&heads);
    for summary in summaries {
        let (worst, of) = match &summary.worst {
            Some((of, lag)) => (lag.to_string(), format!("{}:{}", of.topic, of.partition)),
            None => ("-".to_owned(), "-".to_owned()),
        };
        table.row([
            summary.id.clone(),
            summary.state.clone(),
            summary.members.to_string(),
            summary.partitions.to_string(),
            summary.unknown.to_string(),
            summary.lag.to_string(),
            worst,
            of,
        ]);
    }
    table
}

#[cfg(test)]
mod tests {
    use super::super::committed::Committed;
    use super::super::described::Kind;
    use super::super::position::Position;
    use super::*;

    fn summary(positions: &[(i32, Option<i64>, Option<i64>)]) -> Summary {
        let group = Group {
            id: "g".to_owned(),
            kind: Kind::Classic { protocol_type: "consumer".to_owned() },
            state: "Empty".to_owned(),
            assignor: String::new(),
            coordinator: 1,
            members: Vec::new(),
        };
        let positions = positions.iter().map(|&(index, committed, end)| {
            let committed = committed.map(|offset| Committed { offset, metadata: String::new() });
            let position = Position { committed, end, ..Position::default() };
            (TopicPartition::new("t", index), position)
        });
        Summary::new(&group, &positions.collect())
    }

    #[test]
    fn a_lag_is_the_sum_of_what_is_known() {
        let check =
            |positions: &[(i32, Option<i64>, Option<i64>)], lag, worst: Option<(i32, i64)>, unknown| {
                let summary = summary(positions);
                let worst = worst.map(|(index, lag)| (TopicPartition::new("t", index), lag));
                let expect = (lag, &worst, unknown, positions.len());
                assert_eq!((summary.lag, &summary.worst, summary.unknown, summary.partitions), expect);
            };
        check(&[], 0, None, 0);
        check(&[(0, Some(5), Some(5))], 0, None, 0);
        check(&[(0, Some(5), Some(7)), (1, Some(0), Some(9)), (2, Some(1), Some(10))], 20, Some((1, 9)), 0);
        // nothing committed; no leader; a log that ends before what was read makes up for nothing
        check(
            &[(0, None, Some(7)), (1, Some(3), None), (2, Some(9), Some(2)), (3, Some(0), Some(4))],
            4,
            Some((3, 4)),
            2,
        );
        check(
            &[(0, Some(0), Some(i64::MAX)), (1, Some(0), Some(i64::MAX))],
            i64::MAX,
            Some((0, i64::MAX)),
            0,
        );
    }

    #[test]
    fn those_that_are_too_far_behind_are_named() {
        let all = [summary(&[(0, Some(0), Some(7))]), summary(&[(0, Some(0), Some(3))])];
        assert_eq!(failure(&all, 7), None);
        assert_eq!(failure(&all, 3).as_deref(), Some("more than 3 records behind: g (7)"));
        assert_eq!(failure(&all, 1).as_deref(), Some("more than 1 record behind: g (7), g (3)"));
        let expect = "\
GROUP  STATE  MEMBERS  PARTITIONS  UNKNOWN  LAG  WORST  PARTITION
g      Empty        0           1        0    7      7  t:0
g      Empty        0           1        0    3      3  t:0
";
        assert_eq!(table(&all).text(), expect);
    }
}

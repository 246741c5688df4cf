//! `corelane group reset-offsets`: a group reads on elsewhere.
//!
//! It shows what it would do and changes nothing, unless it is told to: what a group has read twice or never cannot be
//! taken back.

mod file;
mod plan;

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

use clap::{Args, value_parser};
use serde_json::json;

use super::committed::{self, Committed};
use super::described::{self, Group};
use crate::cli::client::{
    Client, Coordinated, EARLIEST, Error, LATEST, Refusal, TopicPartition, group_id, topic_name,
};
use crate::cli::partitions::{Scope, resolve};
use crate::cli::table::Table;
use crate::cli::target::{Target, counted, print};
use crate::cli::time;
use crate::protocol::messages::OffsetCommitRequest;
use crate::protocol::messages::offset_commit_request::{
    OffsetCommitRequestPartition, OffsetCommitRequestTopic,
};
use file::Offsets;
use plan::{Goal, Known, Planned, plan};

const UNKNOWN_TOPIC_OR_PARTITION: i16 = 3;

#[derive(Args)]
pub(in crate::cli) struct ResetOffsets {
    group: String,
    #[command(flatten)]
    to: To,
    /// These partitions, as orders or orders:0,4-7; may be given several times.
    #[arg(long, short = 'T', value_name = "TOPIC[:PARTITIONS]", conflicts_with = "from_file")]
    topic: Vec<Scope>,
    /// All partitions for which the group has committed an offset.
    #[arg(long, conflicts_with_all = ["topic", "from_file"])]
    all_topics: bool,
    /// Do it; without this it is only shown.
    #[arg(long)]
    execute: bool,
    /// Print the new offsets as --from-file reads them, nothing else.
    #[arg(long, conflicts_with = "json")]
    export: bool,
    #[command(flatten)]
    target: Target,
}

#[derive(Args)]
#[group(required = true, multiple = false)]
struct To {
    /// The first record that there is.
    #[arg(long)]
    to_earliest: bool,
    /// Behind the last record that there is.
    #[arg(long)]
    to_latest: bool,
    /// What is committed already; the end where nothing is.
    #[arg(long)]
    to_current: bool,
    #[arg(long, value_name = "OFFSET", value_parser = value_parser!(i64).range(0..))]
    to_offset: Option<i64>,
    /// So many records on from what is committed, or back, as -100.
    #[arg(long, value_name = "N", allow_hyphen_values = true)]
    shift_by: Option<i64>,
    /// The first record of this time or later: 2026-07-01T12:00:00Z, with +02:00 instead of Z, or @ and milliseconds since
    /// 1970. Without a zone it is UTC; for local time: "$(date -Is -d 'yesterday 14:00')".
    #[arg(long, value_name = "TIME", value_parser = moment)]
    to_datetime: Option<i64>,
    /// The same, so long ago: 90min, 2h, 3days.
    #[arg(long, value_name = "TIME", value_parser = time::length)]
    ago: Option<i64>,
    /// Each partition as a line of this file says: topic,partition,offset. - is stdin.
    #[arg(long, value_name = "FILE")]
    from_file: Option<PathBuf>,
}

fn moment(text: &str) -> Result<i64, String> {
    time::parse(text).ok_or_else(|| format!("must be a time, as {}", time::FORMS))
}

/// Where to, for all partitions or for each.
enum Goals {
    Same(Goal),
    Each(Offsets),
}

/// One partition, before and after.
struct Row {
    of: TopicPartition,
    known: Known,
    planned: Planned,
}

pub(super) fn run(arguments: &ResetOffsets) -> Result<(), String> {
    let name = &arguments.group;
    let (goals, time) = arguments.goals()?;
    let mut client = arguments.target.connect()?;
    let group = described::find(&mut client, name)?;
    if arguments.execute
        && let Some(group) = group.as_ref().filter(|group| group.has_members())
    {
        return Err(format!("{}; stop its consumers first, nothing was changed", busy(group)));
    }
    let committed = committed::fetch(&mut client, name)?;
    if group.is_none() {
        // so is one whose name is mistyped
        let near = match described::unknown(&mut client, name)? {
            Error::UnknownGroup { near, .. } => near.map(|near| format!("; did you mean {near}?")),
            other => return Err(other.into()),
        };
        note(&format!("group {name} does not exist, setting offsets makes it{}", near.unwrap_or_default()));
    }
    let wanted = match &goals {
        Goals::Each(offsets) => resolve(&mut client, &scopes(offsets))?,
        Goals::Same(_) if arguments.all_topics => committed.keys().cloned().collect(),
        Goals::Same(_) => resolve(&mut client, &arguments.topic)?,
    };
    if wanted.is_empty() {
        return Err(format!("group {name} has committed nothing; --topic says which partitions are meant"));
    }
    let known = look(&mut client, &committed, &wanted, time)?;
    let mut rows = Vec::new();
    for (of, known) in known {
        let goal = match &goals {
            Goals::Same(goal) => *goal,
            Goals::Each(offsets) => Goal::Offset(offsets[&of]),
        };
        let planned = plan(goal, &known).ok_or_else(|| {
            format!(
                "group {name} has committed nothing for {of} that could be shifted; leave it out with --topic"
            )
        })?;
        rows.push(Row { of, known, planned });
    }
    if arguments.execute {
        commit(&mut client, name, &rows)?;
    }
    tell(arguments, &rows, time, group.as_ref())
}

impl ResetOffsets {
    /// And the time, in milliseconds since 1970, where that is the goal.
    fn goals(&self) -> Result<(Goals, Option<i64>), String> {
        let To { to_earliest, to_latest, to_current, to_offset, shift_by, to_datetime, ago, from_file } =
            &self.to;
        if let Some(path) = from_file {
            let offsets = read(path).and_then(|text| file::parse(&text, &self.group));
            let offsets = offsets.map_err(|error| format!("{}: {error}", path.display()))?;
            return Ok((Goals::Each(offsets), None));
        }
        if self.topic.is_empty() && !self.all_topics {
            return Err("say which partitions: --topic TOPIC, --topic TOPIC:0,1 or --all-topics".to_owned());
        }
        let time = to_datetime.or(ago.map(time::ago));
        let goal = match (to_offset, shift_by, time) {
            (Some(offset), _, _) => Goal::Offset(*offset),
            (_, Some(by), _) => Goal::Shift(*by),
            (_, _, Some(_)) => Goal::Time,
            _ if *to_earliest => Goal::Earliest,
            _ if *to_latest => Goal::Latest,
            _ => {
                assert!(to_current, "one of the group is required");
                Goal::Current
            }
        };
        Ok((Goals::Same(goal), time))
    }
}

fn read(path: &Path) -> Result<String, String> {
    let text = match path.as_os_str() == "-" {
        true => std::io::read_to_string(std::io::stdin()),
        false => std::fs::read_to_string(path),
    };
    text.map_err(|error| format!("cannot read it: {error}"))
}

fn scopes(offsets: &Offsets) -> Vec<Scope> {
    let mut topics: BTreeMap<&str, BTreeSet<i32>> = BTreeMap::new();
    for of in offsets.keys() {
        topics.entry(&of.topic).or_default().insert(of.partition);
    }
    let scope =
        |(topic, partitions): (&str, _)| Scope { topic: topic.to_owned(), partitions: Some(partitions) };
    topics.into_iter().map(scope).collect()
}

fn busy(group: &Group) -> String {
    let members = counted(group.members.len() as u64, "member");
    format!("group {} has {members} (it is {})", group.id, group.state)
}

/// Beside what is told on stdout.
fn note(text: &str) {
    eprintln!("note: {text}");
}

/// What is known of each partition; one whose topic is gone is left out.
fn look(
    client: &mut Client,
    committed: &BTreeMap<TopicPartition, Committed>,
    wanted: &BTreeSet<TopicPartition>,
    time: Option<i64>,
) -> Result<BTreeMap<TopicPartition, Known>, Error> {
    let mut starts = client.offsets_of(wanted, EARLIEST)?;
    let mut ends = client.offsets_of(wanted, LATEST)?;
    let mut found = match time {
        Some(time) => client.offsets_of(wanted, time)?,
        None => BTreeMap::new(),
    };
    let mut known = BTreeMap::new();
    for of in wanted {
        let silent = || Error::Silent(format!("the offsets of {of}"));
        let start = match starts.remove(of).ok_or_else(silent)? {
            Err(Error::Refused(refusal)) if refusal.code == UNKNOWN_TOPIC_OR_PARTITION => {
                note(&format!("{of} does not exist any more; `corelane group delete-offsets` forgets it"));
                continue;
            }
            other => other?,
        };
        let end = ends.remove(of).ok_or_else(silent)??;
        let found = match time {
            Some(_) => Some(found.remove(of).ok_or_else(silent)??).filter(|offset| *offset >= 0),
            None => None,
        };
        let committed = committed.get(of).map(|committed| committed.offset);
        known.insert(of.clone(), Known { committed, start, end, found });
    }
    Ok(known)
}

fn commit(client: &mut Client, name: &str, rows: &[Row]) -> Result<(), String> {
    let topics = rows.chunk_by(|a, b| a.of.topic == b.of.topic).map(|rows| {
        let partitions = rows.iter().map(|row| {
            OffsetCommitRequestPartition::default()
                .with_partition_index(row.of.partition)
                .with_committed_offset(row.planned.offset)
                .with_committed_leader_epoch(-1)
                .with_committed_metadata(Some(Default::default()))
        });
        OffsetCommitRequestTopic::default()
            .with_name(topic_name(&rows[0].of.topic))
            .with_partitions(partitions.collect())
    });
    // as a consumer without a group's protocol commits: it is refused while there are members
    let request = OffsetCommitRequest::default()
        .with_group_id(group_id(name))
        .with_generation_id_or_member_epoch(-1)
        .with_topics(topics.collect());
    let what = || format!("setting offsets of group {name}");
    let mut set = 0;
    let result = client.at_coordinator(Coordinated::Group(name), |client, broker| {
        set = 0;
        let mut first = Ok(());
        let response = client.call_broker(broker, &request)?;
        for topic in &response.topics {
            for partition in &topic.partitions {
                let of = TopicPartition::new(&topic.name, partition.partition_index);
                let checked = Refusal::check(partition.error_code, None, || format!("{} for {of}", what()));
                set += usize::from(checked.is_ok());
                first = first.and(checked);
            }
        }
        first
    });
    match result {
        Ok(()) if set == rows.len() => Ok(()),
        Ok(()) => Err(Error::Silent(what()).into()),
        Err(error) => Err(format!("{error} ({set} of {} were set)", rows.len())),
    }
}

fn tell(
    arguments: &ResetOffsets,
    rows: &[Row],
    time: Option<i64>,
    group: Option<&Group>,
) -> Result<(), String> {
    let name = &arguments.group;
    if arguments.export {
        for row in rows {
            if let Some(why) = row.planned.note {
                note(&format!("{}: {why}", row.of));
            }
        }
        return print(&file::write(rows.iter().map(|row| (row.of.clone(), row.planned.offset))));
    }
    let document = || {
        let partitions = rows.iter().map(|Row { of, known, planned }| {
            json!({
                "topic": of.topic,
                "partition": of.partition,
                "before": known.committed,
                "after": planned.offset,
                "start_offset": known.start,
                "end_offset": known.end,
                "note": planned.note.map(|note| note.to_string()),
            })
        });
        json!({
            "group": name,
            "executed": arguments.execute,
            "time": time.map(time::text),
            "members": group.map_or(0, |group| group.members.len()),
            "partitions": partitions.collect::<Vec<_>>(),
        })
    };
    arguments.target.tell(document, || {
        let head = time.map(|time| format!("first records of {} or later\n\n", time::text(time)));
        let count = counted(rows.len() as u64, "offset");
        let tail = match (arguments.execute, group.filter(|group| group.has_members())) {
            (true, _) => format!("group {name}: {count} set"),
            (false, None) => format!("nothing was changed: --execute sets {count}"),
            (false, Some(group)) => {
                format!("nothing was changed, and {}: stop its consumers before --execute", busy(group))
            }
        };
        format!("{}{}\n{tail}\n", head.unwrap_or_default(), table(rows).text())
    })
}

fn table(rows: &[Row]) -> Table {
    let has_notes = rows.iter().any(|row| row.planned.note.is_some());
    let mut heads = vec!["TOPIC", "PARTITION", "BEFORE", "AFTER", "CHANGE", "START", "END"];
    heads.extend(has_notes.then_some("NOTE"));
    let mut table = Table::new(&heads);
    for Row { of, known, planned } in rows {
        let change = known.committed.map(|before| planned.offset - before);
        let told = |number: Option<i64>| number.map_or_else(|| "-".to_owned(), |number| number.to_string());
        let mut row = vec![
            of.topic.clone(),
            of.partition.to_string(),
            told(known.committed),
            planned.offset.to_string(),
            match change {
                None => "-".to_owned(),
                Some(0) => "0".to_owned(),
                Some(change) => format!("{change:+}"),
            },
            known.start.to_string(),
            known.end.to_string(),
        ];
        row.extend(has_notes.then(|| planned.note.map(|note| note.to_string()).unwrap_or_default()));
        table.row(row);
    }
    table
}

#[cfg(test)]
mod tests {
    use clap::Parser;

    use super::plan::Note;
    use super::*;

    #[derive(Parser)]
    struct Line {
        #[command(flatten)]
        reset: ResetOffsets,
    }

    /// `None`: the words are refused.
    fn goal(words: &str) -> Option<(Goal, Option<i64>)> {
        let line = Line::try_parse_from(words.split_whitespace()).ok()?;
        match line.reset.goals().ok()? {
            (Goals::Same(goal), time) => Some((goal, time)),
            (Goals::Each(_), _) => None,
        }
    }

    #[test]
    fn one_goal_and_one_scope_must_be_given() {
        let check = |words: &str, expect: Option<Goal>| {
            assert_eq!(goal(&format!("reset g {words}")).map(|(goal, _)| goal), expect, "{words}");
        };
        check("--to-earliest --topic a", Some(Goal::Earliest));
        check("--to-latest --all-topics", Some(Goal::Latest));
        check("--to-current -T a:0 -T b", Some(Goal::Current));
        check("--to-offset 7 -T a", Some(Goal::Offset(7)));
        check("--shift-by -7 -T a", Some(Goal::Shift(-7)));
        check("--ago 2h -T a", Some(Goal::Time));
        for bad in [
            "--to-earliest",
            "-T a",
            "--to-earliest --to-latest -T a",
            "--to-offset -7 -T a",
            "--to-earliest -T a --all-topics",
            "--from-file f -T a",
            "--from-file f --all-topics",
            "--to-datetime noon -T a",
            "--ago soon -T a",
            "--to-earliest -T a --export --json",
        ] {
            check(bad, None);
        }
        let at = goal("reset g --to-datetime 1970-01-01T00:00:02Z --topic a");
        assert_eq!(at, Some((Goal::Time, Some(2_000))));
    }

    #[test]
    fn the_table_has_notes_where_there_are_any() {
        let row = |partition, committed, offset, note| Row {
            of: TopicPartition::new("orders", partition),
            known: Known { committed, start: 2, end: 90, found: None },
            planned: Planned { offset, note },
        };
        let rows = [row(0, Some(40), 30, None), row(1, None, 90, None)];
        let expect = "\
TOPIC   PARTITION  BEFORE  AFTER  CHANGE  START  END
orders          0      40     30     -10      2   90
orders          1       -     90       -      2   90
";
        assert_eq!(table(&rows).text(), expect);
        let rows = [row(0, Some(85), 90, Some(Note::BehindEnd(95)))];
        let expect = "\
TOPIC   PARTITION  BEFORE  AFTER  CHANGE  START  END  NOTE
orders          0      85     90      +5      2   90  95 is behind the end, which is taken
";
        assert_eq!(table(&rows).text(), expect);
    }
}

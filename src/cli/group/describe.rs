//! `corelane group describe`.

use std::fmt::Write as _;

use clap::Args;
use serde_json::{Value, json};

use super::committed;
use super::described::{self, Group, Kind, Member};
use super::position::{Logs, Position, Positions, look_at_logs, positions};
use crate::cli::client::{Client, TopicPartition};
use crate::cli::partitions::{Partitions, text, without};
use crate::cli::table::Table;
use crate::cli::target::{Target, counted};

#[derive(Args)]
pub(in crate::cli) struct Describe {
    #[arg(required = true, value_name = "GROUP")]
    groups: Vec<String>,
    #[command(flatten)]
    target: Target,
}

/// All that is told of a group.
struct Told {
    group: Group,
    /// Where its coordinator listens.
    coordinator: String,
    positions: Positions,
}

pub(super) fn run(arguments: &Describe) -> Result<(), String> {
    let mut client = arguments.target.connect()?;
    let told = arguments.groups.iter().map(|id| look(&mut client, id));
    let mut told = told.collect::<Result<Vec<_>, String>>()?;
    let mut all: Vec<&mut Positions> = told.iter_mut().map(|told| &mut told.positions).collect();
    look_at_logs(&mut client, &mut all, Logs::StartsAndEnds)?;
    arguments.target.tell(
        || json!({ "groups": told.iter().map(Told::json).collect::<Vec<_>>() }),
        || told.iter().map(Told::text).collect::<Vec<_>>().join("\n"),
    )
}

fn look(client: &mut Client, id: &str) -> Result<Told, String> {
    let group = described::describe(client, id)?;
    Ok(Told {
        coordinator: client.address(group.coordinator).unwrap_or_default().to_owned(),
        positions: positions(&group, committed::fetch(client, id)?),
        group,
    })
}

fn or_dash(text: &str) -> String {
    if text.is_empty() { "-".to_owned() } else { text.to_owned() }
}

fn number_or_dash(number: Option<i64>) -> String {
    number.map_or_else(|| "-".to_owned(), |number| number.to_string())
}

impl Told {
    fn text(&self) -> String {
        let group = &self.group;
        let kind = match &group.kind {
            Kind::Classic { protocol_type } if protocol_type != "consumer" && !protocol_type.is_empty() => {
                format!("classic group of protocol {protocol_type}")
            }
            kind => format!("{} group", kind.name()),
        };
        let mut text = format!(
            "{}: {kind}, {}, {}, coordinator broker {} ({})\n",
            group.id,
            group.state,
            counted(group.members.len() as u64, "member"),
            group.coordinator,
            self.coordinator
        );
        if !group.assignor.is_empty() {
            let _ = write!(text, "  assignor {}", group.assignor);
            if let Kind::Consumer { epoch, assignment_epoch } = group.kind {
                let _ = write!(text, ", group epoch {epoch}, assignment epoch {assignment_epoch}");
            }
            text.push('\n');
        }
        if !group.members.is_empty() {
            text += &members(&group.members).text();
        }
        match self.positions.is_empty() {
            true => text += "it has committed nothing, and its members read nothing\n",
            false => text = text + "\n" + &self.offsets().text(),
        }
        text
    }

    fn offsets(&self) -> Table {
        let has_metadata = self.positions.values().any(|position| metadata(position).is_some());
        let mut heads = vec!["TOPIC", "PARTITION", "COMMITTED", "START", "END", "LAG", "MEMBER"];
        heads.extend(has_metadata.then_some("METADATA"));
        let mut table = Table::new(&heads);
        for (TopicPartition { topic, partition }, position) in &self.positions {
            let member = position.member.map(|index| self.group.members[index].id.as_str());
            let mut row = vec![
                topic.clone(),
                partition.to_string(),
                number_or_dash(position.committed.as_ref().map(|committed| committed.offset)),
                number_or_dash(position.start),
                number_or_dash(position.end),
                number_or_dash(position.lag()),
                or_dash(member.unwrap_or_default()),
            ];
            row.extend(has_metadata.then(|| metadata(position).unwrap_or("-").to_owned()));
            table.row(row);
        }
        table
    }

    fn json(&self) -> Value {
        let group = &self.group;
        let partitions = self.positions.iter().map(|(of, position)| {
            json!({
                "topic": of.topic,
                "partition": of.partition,
                "committed": position.committed.as_ref().map(|committed| committed.offset),
                "start_offset": position.start,
                "end_offset": position.end,
                "lag": position.lag(),
                "member": position.member.map(|index| &group.members[index].id),
                "metadata": metadata(position),
            })
        });
        let (protocol_type, epochs) = match &group.kind {
            Kind::Classic { protocol_type } => (protocol_type.as_str(), None),
            Kind::Consumer { epoch, assignment_epoch } => ("consumer", Some((epoch, assignment_epoch))),
        };
        json!({
            "group": group.id,
            "type": group.kind.name(),
            "protocol_type": protocol_type,
            "state": group.state,
            "assignor": group.assignor,
            "epoch": epochs.map(|(epoch, _)| epoch),
            "assignment_epoch": epochs.map(|(_, epoch)| epoch),
            "coordinator": group.coordinator,
            "members": group.members.iter().map(member_json).collect::<Vec<_>>(),
            "partitions": partitions.collect::<Vec<_>>(),
        })
    }
}

fn metadata(position: &Position) -> Option<&str> {
    position.committed.as_ref().map(|committed| committed.metadata.as_str()).filter(|text| !text.is_empty())
}

/// Columns that would be empty are left out.
fn members(members: &[Member]) -> Table {
    let has_instances = members.iter().any(|member| member.instance.is_some());
    let has_aims = members.iter().any(|member| member.aim.is_some());
    let moves = members.iter().map(changes).collect::<Vec<_>>();
    let has_moves = moves.iter().any(|text| !text.is_empty());
    let mut heads = vec!["MEMBER"];
    heads.extend(has_instances.then_some("INSTANCE"));
    heads.extend(["CLIENT", "HOST"]);
    heads.extend(has_aims.then_some("EPOCH"));
    heads.push("PARTITIONS");
    heads.extend(has_moves.then_some("CHANGES"));
    let mut table = Table::new(&heads);
    for (member, moves) in members.iter().zip(&moves) {
        let mut row = vec![member.id.clone()];
        row.extend(has_instances.then(|| or_dash(member.instance.as_deref().unwrap_or_default())));
        row.extend([or_dash(&member.client), or_dash(&member.host)]);
        row.extend(has_aims.then(|| number_or_dash(member.aim.as_ref().map(|aim| aim.epoch.into()))));
        row.push(text(&member.assigned));
        row.extend(has_moves.then(|| or_dash(moves)));
        table.row(row);
    }
    table
}

/// What the coordinator takes from a member, and what it gives it once others have let go of it.
fn moves(member: &Member) -> (Partitions, Partitions) {
    let Some(aim) = &member.aim else { return (Partitions::new(), Partitions::new()) };
    (without(&member.assigned, &aim.target), without(&aim.target, &member.assigned))
}

fn changes(member: &Member) -> String {
    let (revoked, coming) = moves(member);
    let parts = [("revokes", revoked), ("waits for", coming)];
    let parts = parts.iter().filter(|(_, partitions)| !partitions.is_empty());
    parts.map(|(what, partitions)| format!("{what} {}", text(partitions))).collect::<Vec<_>>().join(", ")
}

fn member_json(member: &Member) -> Value {
    let (revoked, coming) = moves(member);
    let aim = member.aim.as_ref();
    json!({
        "member": member.id,
        "instance": member.instance,
        "client": member.client,
        "host": member.host,
        "epoch": aim.map(|aim| aim.epoch),
        "topics": aim.map(|aim| &aim.topics),
        "regex": aim.and_then(|aim| aim.regex.as_ref()),
        "assigned": member.assigned,
        "target": aim.map(|aim| &aim.target),
        "revokes": aim.map(|_| revoked),
        "waits_for": aim.map(|_| coming),
    })
}

#[cfg(test)]
mod tests {
    use super::super::committed::Committed;
    use super::super::described::Aim;
    use super::*;

    fn partitions(topic: &str, indexes: &[i32]) -> Partitions {
        [(topic.to_owned(), indexes.iter().copied().collect())].into()
    }

    fn member(id: &str, assigned: Partitions, aim: Option<(i32, Partitions)>) -> Member {
        Member {
            id: id.to_owned(),
            instance: None,
            client: "app".to_owned(),
            host: "127.0.0.1".to_owned(),
            assigned,
            aim: aim.map(|(epoch, target)| Aim { epoch, target, topics: Vec::new(), regex: None }),
        }
    }

    fn told(kind: Kind, members: Vec<Member>, committed: &[(i32, i64, &str)]) -> Told {
        let group = Group {
            id: "checkout".to_owned(),
            kind,
            state: "Stable".to_owned(),
            assignor: "range".to_owned(),
            coordinator: 1,
            members,
        };
        let committed = committed.iter().map(|&(index, offset, metadata)| {
            let committed = Committed { offset, metadata: metadata.to_owned() };
            (TopicPartition::new("orders", index), committed)
        });
        let mut positions = positions(&group, committed.collect());
        for position in positions.values_mut().take(2) {
            (position.start, position.end) = (Some(5), Some(100));
        }
        Told { coordinator: "localhost:9092".to_owned(), group, positions }
    }

    #[test]
    fn a_classic_group_has_members_and_offsets() {
        let classic = Kind::Classic { protocol_type: "consumer".to_owned() };
        let mut second = member("app-2", Partitions::new(), None);
        second.instance = Some("pod-7".to_owned());
        let members = vec![member("app-1", partitions("orders", &[0, 1]), None), second];
        let told = told(classic, members, &[(0, 30, ""), (2, 4, "at noon")]);
        let expect = "\
checkout: classic group, Stable, 2 members, coordinator broker 1 (localhost:9092)
  assignor range
MEMBER  INSTANCE  CLIENT  HOST       PARTITIONS
app-1   -         app     127.0.0.1  orders:0,1
app-2   pod-7     app     127.0.0.1  -

TOPIC   PARTITION  COMMITTED  START  END  LAG  MEMBER  METADATA
orders          0         30      5  100   70  app-1   -
orders          1          -      5  100    -  app-1   -
orders          2          4      -    -    -  -       at noon
";
        assert_eq!(told.text(), expect);
        let json = told.json();
        assert_eq!(json["members"][0]["assigned"], json!({ "orders": [0, 1] }));
        assert_eq!((&json["epoch"], &json["members"][0]["target"]), (&Value::Null, &Value::Null));
        assert_eq!(json["partitions"][2]["metadata"], "at noon");
    }

    #[test]
    fn a_group_of_the_consumer_protocol_tells_what_moves() {
        let kind = Kind::Consumer { epoch: 4, assignment_epoch: 3 };
        let members = vec![
            member("a", partitions("orders", &[0, 1, 2]), Some((3, partitions("orders", &[0])))),
            member("b", Partitions::new(), Some((4, partitions("orders", &[1, 2])))),
        ];
        let told = told(kind, members, &[]);
        let text = told.text();
        let lines: Vec<&str> = text.lines().collect();
        assert_eq!(lines[1], "  assignor range, group epoch 4, assignment epoch 3");
        assert_eq!(lines[2], "MEMBER  CLIENT  HOST       EPOCH  PARTITIONS  CHANGES");
        assert_eq!(lines[3], "a       app     127.0.0.1      3  orders:0-2  revokes orders:1,2");
        assert_eq!(lines[4], "b       app     127.0.0.1      4  -           waits for orders:1,2");
        assert_eq!(told.json()["members"][1]["waits_for"], json!({ "orders": [1, 2] }));
    }

    #[test]
    fn a_group_that_has_done_nothing_says_so() {
        let mut told = told(Kind::Classic { protocol_type: String::new() }, Vec::new(), &[]);
        told.group.assignor.clear();
        let expect = "checkout: classic group, Stable, 0 members, coordinator broker 1 (localhost:9092)\n\
                      it has committed nothing, and its members read nothing\n";
        assert_eq!(told.text(), expect);
    }
}

//! `corelane group list`, and what all commands know of all groups.

use std::collections::BTreeMap;

use clap::Args;
use clap::builder::PossibleValuesParser;
use serde_json::json;

use super::described::{self, Group};
use crate::cli::client::{Client, Coordinated, Error, Refusal};
use crate::cli::progress::Progress;
use crate::cli::table::Table;
use crate::cli::target::Target;
use crate::protocol::messages::ListGroupsRequest;
use crate::protocol::messages::list_groups_response::ListedGroup;

/// Groups that a broker is asked about in one request.
const ASKED_AT_ONCE: usize = 100;

/// All that brokers name, whatever a group's type.
const STATES: [&str; 8] = [
    "Stable",
    "Empty",
    "Assigning",
    "Reconciling",
    "PreparingRebalance",
    "CompletingRebalance",
    "NotReady",
    "Dead",
];
const TYPES: [&str; 4] = ["classic", "consumer", "share", "streams"];

#[derive(Args)]
pub(in crate::cli) struct List {
    /// Only those in this state; may be given several times.
    #[arg(long, ignore_case = true, value_parser = PossibleValuesParser::new(STATES))]
    state: Vec<String>,
    /// Only those of this type; may be given several times.
    #[arg(long = "type", value_name = "TYPE", ignore_case = true, value_parser = PossibleValuesParser::new(TYPES))]
    kind: Vec<String>,
    /// Only those whose name begins with this.
    #[arg(long, default_value = "", hide_default_value = true, value_name = "TEXT")]
    prefix: String,
    #[command(flatten)]
    target: Target,
}

pub(super) struct Listed {
    pub(super) id: String,
    /// classic, consumer, share, streams, whatever comes.
    pub(super) kind: String,
    pub(super) protocol_type: String,
    /// Empty: the broker is too old to tell.
    pub(super) state: String,
    pub(super) coordinator: i32,
}

impl Listed {
    fn new(group: &ListedGroup, coordinator: i32) -> Listed {
        Listed {
            id: group.group_id.to_string(),
            // who does not tell it is from before there were others
            kind: if group.group_type.is_empty() {
                "classic".to_owned()
            } else {
                group.group_type.to_lowercase()
            },
            protocol_type: group.protocol_type.to_string(),
            state: group.group_state.to_string(),
            coordinator,
        }
    }

    /// Whether [`described`] can tell more of it.
    pub(super) fn is_of_consumers(&self) -> bool {
        ["classic", "consumer"].contains(&self.kind.as_str())
    }
}

impl List {
    fn wants(&self, group: &Listed) -> bool {
        let is_one_of = |wanted: &[String], value: &str| {
            wanted.is_empty() || wanted.iter().any(|wanted| wanted.eq_ignore_ascii_case(value))
        };
        is_one_of(&self.state, &group.state)
            && is_one_of(&self.kind, &group.kind)
            && group.id.starts_with(&self.prefix)
    }
}

/// Of every broker, by name. Their coordinators are known to the client from then on.
pub(super) fn all(client: &mut Client) -> Result<Vec<Listed>, Error> {
    let mut all = Vec::new();
    for broker in client.brokers()? {
        all.extend(of_broker(client, broker)?);
    }
    all.sort_by(|a, b| a.id.cmp(&b.id));
    all.dedup_by(|a, b| a.id == b.id);
    for group in &all {
        client.remember_coordinator(Coordinated::Group(&group.id), group.coordinator);
    }
    Ok(all)
}

/// Waits while the broker has not loaded its groups.
fn of_broker(client: &mut Client, broker: i32) -> Result<Vec<Listed>, Error> {
    client.patiently(|client| {
        let response = client.call_broker(broker, &ListGroupsRequest::default())?;
        Refusal::check(response.error_code, None, || format!("the groups of broker {broker}"))?;
        Ok(response.groups.iter().map(|group| Listed::new(group, broker)).collect())
    })
}

/// Those of `listed` that can be described, by name; what is gone meanwhile is missing.
pub(super) fn describe_all(
    client: &mut Client,
    listed: &[&Listed],
    progress: &mut Progress,
) -> Result<BTreeMap<String, Group>, Error> {
    let mut by_coordinator: BTreeMap<i32, Vec<&str>> = BTreeMap::new();
    for group in listed.iter().filter(|group| group.is_of_consumers()) {
        by_coordinator.entry(group.coordinator).or_default().push(&group.id);
    }
    let mut found = BTreeMap::new();
    for (coordinator, ids) in by_coordinator {
        for ids in ids.chunks(ASKED_AT_ONCE) {
            for (id, answer) in described::ask(client, coordinator, ids)? {
                let group = match answer {
                    Ok(group) => Some(group),
                    // it has another coordinator now, or is gone, or says why not
                    Err(_) => described::find(client, &id)?,
                };
                found.extend(group.map(|group| (id, group)));
            }
            progress.say(|| format!("{} of {} groups described", found.len(), listed.len()));
        }
    }
    Ok(found)
}

pub(super) fn run(arguments: &List) -> Result<(), String> {
    let mut client = arguments.target.connect()?;
    let mut groups = all(&mut client)?;
    groups.retain(|group| arguments.wants(group));
    let listed: Vec<&Listed> = groups.iter().collect();
    let described = describe_all(&mut client, &listed, &mut Progress::new(false))?;
    let members = |group: &Listed| described.get(&group.id).map(|group| group.members.len());
    let document = || {
        let groups = groups.iter().map(|group| {
            json!({
                "group": group.id,
                "type": group.kind,
                "protocol_type": group.protocol_type,
                "state": group.state,
                "members": members(group),
                "coordinator": group.coordinator,
            })
        });
        json!({ "groups": groups.collect::<Vec<_>>() })
    };
    arguments.target.tell_table(document, || {
        let mut table = Table::new(&["GROUP", "TYPE", "PROTOCOL", "STATE", "MEMBERS", "COORDINATOR"]);
        let told = |text: &str| if text.is_empty() { "-".to_owned() } else { text.to_owned() };
        for group in &groups {
            table.row([
                group.id.clone(),
                group.kind.clone(),
                told(&group.protocol_type),
                told(&group.state),
                members(group).map_or_else(|| "-".to_owned(), |members| members.to_string()),
                group.coordinator.to_string(),
            ]);
        }
        table
    })
}

#[cfg(test)]
mod tests {
    use clap::Parser;

    use super::*;

    #[derive(Parser)]
    struct Line {
        #[command(flatten)]
        list: List,
    }

    #[test]
    fn filters_are_all_to_be_met_and_one_value_of_each_is_enough() {
        let group = |id: &str, kind: &str, state: &str| Listed {
            id: id.to_owned(),
            kind: kind.to_owned(),
            protocol_type: "consumer".to_owned(),
            state: state.to_owned(),
            coordinator: 1,
        };
        let all = [
            group("app-a", "classic", "Stable"),
            group("app-b", "consumer", "Empty"),
            group("batch", "classic", "Empty"),
            group("cache", "share", "Stable"),
        ];
        let check = |words: &str, expect: &[&str]| {
            let line = Line::try_parse_from(format!("list {words}").split_whitespace()).expect("options");
            let found: Vec<&str> =
                all.iter().filter(|group| line.list.wants(group)).map(|group| group.id.as_str()).collect();
            assert_eq!(found, expect, "{words}");
        };
        check("", &["app-a", "app-b", "batch", "cache"]);
        check("--state empty", &["app-b", "batch"]);
        check("--state Empty --type CLASSIC", &["batch"]);
        check("--type share --type consumer", &["app-b", "cache"]);
        check("--prefix app- --state STABLE", &["app-a"]);
        assert!(Line::try_parse_from(["list", "--state", "stabel"]).is_err());
    }
}

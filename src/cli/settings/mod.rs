//! `corelane config`: settings of topics and brokers, and of a file that is to become a broker's.

mod check;

use clap::{Args, Subcommand, ValueEnum};
use serde_json::json;

use super::client::Client;
use super::configs::{self, Changes, Resource};
use super::table::Table;
use super::target::{Target, pair};

#[derive(Subcommand)]
pub(super) enum Command {
    /// The settings of a topic or a broker that somebody has set; with --all every one.
    Describe(Describe),
    /// Set settings of a topic or a broker, or take them back.
    Alter(Alter),
    /// What would start with a file of settings, and what is wrong with it; exit code 1 if nothing would. Talks to nobody.
    Check(check::Arguments),
}

#[derive(Clone, Copy, ValueEnum)]
enum Kind {
    Topic,
    Broker,
}

#[derive(Args)]
pub(super) struct Describe {
    #[arg(value_enum)]
    kind: Kind,
    /// A topic's name, or a broker's id; without one the only broker there is.
    name: Option<String>,
    /// Those that nobody has set, too.
    #[arg(long)]
    all: bool,
    #[command(flatten)]
    target: Target,
}

#[derive(Args)]
pub(super) struct Alter {
    #[arg(value_enum)]
    kind: Kind,
    /// A topic's name, or a broker's id.
    name: String,
    /// May be given several times.
    #[arg(long, value_name = "KEY=VALUE", value_parser = pair, required_unless_present = "delete")]
    set: Vec<(String, String)>,
    /// Back to the default; may be given several times.
    #[arg(long, value_name = "KEY")]
    delete: Vec<String>,
    #[command(flatten)]
    target: Target,
}

pub(super) fn run(command: &Command) -> Result<(), String> {
    match command {
        Command::Describe(arguments) => describe(arguments),
        Command::Alter(arguments) => alter(arguments),
        Command::Check(arguments) => check::run(arguments),
    }
}

fn resource(client: &mut Client, kind: Kind, name: Option<&str>) -> Result<Resource, String> {
    match (kind, name) {
        (Kind::Topic, Some(name)) => Ok(Resource::Topic(name.to_owned())),
        (Kind::Topic, None) => Err("name the topic: corelane config describe topic NAME".to_owned()),
        (Kind::Broker, Some(id)) => {
            let id = id.parse().map_err(|_| format!("{id} is no broker's id, which is a number"))?;
            Ok(Resource::Broker(id))
        }
        (Kind::Broker, None) => {
            let brokers = client.refresh(Some(&[]))?.brokers;
            match &brokers[..] {
                [only] => Ok(Resource::Broker(only.node_id.0)),
                several => {
                    let ids: Vec<String> =
                        several.iter().map(|broker| broker.node_id.0.to_string()).collect();
                    Err(format!("name the broker, which is one of {}", ids.join(", ")))
                }
            }
        }
    }
}

fn describe(arguments: &Describe) -> Result<(), String> {
    let mut client = arguments.target.connect()?;
    let resource = resource(&mut client, arguments.kind, arguments.name.as_deref())?;
    let mut found = configs::describe(&mut client, &resource)?;
    found.retain(|config| arguments.all || !configs::is_default(config));
    arguments.target.tell_table(
        || {
            json!({
                "resource": resource.describe(),
                "configs": found.iter().map(configs::json).collect::<Vec<_>>(),
            })
        },
        || {
            let mut table = Table::new(&["SETTING", "VALUE", "SET BY"]);
            found.iter().for_each(|config| table.row(configs::cells(config)));
            table
        },
    )
}

fn alter(arguments: &Alter) -> Result<(), String> {
    let changes = Changes { set: arguments.set.clone(), delete: arguments.delete.clone() };
    let mut client = arguments.target.connect()?;
    let resource = resource(&mut client, arguments.kind, Some(&arguments.name))?;
    configs::alter(&mut client, &resource, &changes)?;
    let document = || {
        json!({
            "resource": resource.describe(),
            "set": changes.set.iter().cloned().collect::<std::collections::BTreeMap<_, _>>(),
            "deleted": changes.delete,
        })
    };
    arguments.target.tell(document, || format!("changed {}\n", resource.describe()))
}

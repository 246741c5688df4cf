//! `corelane config check`: the settings a broker would start with, without starting one.
//!
//! What only the host can tell (whether a port is free, a directory can be written, a name has an address) is left to
//! the start.

use std::path::PathBuf;

use clap::Args;
use serde_json::json;

use crate::cli::table::Table;
use crate::cli::target::{self, counted, print};
use crate::config::{Checked, Config, Severity};
use crate::metadata::{ConfigEntry, ConfigSource, LiveConfigs};
use crate::reactor::{Cores, StartError};

#[derive(Args)]
pub(in crate::cli) struct Arguments {
    /// Settings with Kafka's own property names (server.properties).
    file: PathBuf,
    /// One setting, over the file; may be given several times.
    #[arg(long = "set", value_name = "KEY=VALUE")]
    sets: Vec<String>,
    /// For scripts: one JSON document instead of text for people.
    #[arg(long)]
    json: bool,
}

pub(super) fn run(arguments: &Arguments) -> Result<(), String> {
    let path = arguments.file.display().to_string();
    let text = std::fs::read_to_string(&arguments.file)
        .map_err(|error| format!("cannot read the configuration {path}: {error}"))?;
    let Checked { result, warnings } = Config::check(Some((&path, &text)), &arguments.sets);
    let (config, mut errors) = match result {
        Ok(config) => (Some(config), Vec::new()),
        Err(errors) => (None, errors.iter().map(ToString::to_string).collect()),
    };
    if let Some(cores) = config.as_ref().and_then(|config| config.cores.as_deref()) {
        errors.extend(cores.parse::<Cores>().err().map(|error: StartError| error.to_string()));
    }
    let changed = config.as_ref().map(changed).unwrap_or_default();
    let of = |severity| warnings.iter().filter(move |warning| warning.severity == severity);
    if arguments.json {
        let text = |severity| of(severity).map(ToString::to_string).collect::<Vec<_>>();
        let settings = changed
            .iter()
            .map(|entry| json!({ "name": entry.name, "value": entry.value, "default": entry.default }));
        let document = json!({
            "file": path,
            "starts": errors.is_empty(),
            "settings": settings.collect::<Vec<_>>(),
            "errors": errors,
            "warnings": text(Severity::Warning),
            "notes": text(Severity::Info),
        });
        print(&target::document(&document))?;
    } else {
        let mut text = String::new();
        if !changed.is_empty() {
            let mut table = Table::new(&["SETTING", "VALUE", "DEFAULT"]);
            changed.iter().for_each(|entry| table.row(cells(entry)));
            text = table.text();
        } else if config.is_some() {
            text.push_str("every setting has its default\n");
        }
        let told = errors.iter().map(|error| format!("error: {error}\n"));
        let warned = of(Severity::Warning).map(|warning| format!("warning: {warning}\n"));
        let noted = of(Severity::Info).map(|note| format!("note: {note}\n"));
        text.extend(told.chain(warned).chain(noted));
        print(&text)?;
    }
    match errors.len() as u64 {
        0 => Ok(()),
        count => {
            Err(format!("a broker would not start with {path}: {}, told above", counted(count, "error")))
        }
    }
}

/// What differs from its default, by name. `broker.id` is `node.id` once more.
fn changed(config: &Config) -> Vec<ConfigEntry> {
    let mut entries = config.describe(LiveConfigs::NONE);
    entries.retain(|entry| {
        let is_set = entry.source == ConfigSource::StaticBroker;
        entry.name != "broker.id" && is_set && (entry.sensitive || entry.value != entry.default)
    });
    entries
}

fn cells(entry: &ConfigEntry) -> [String; 3] {
    let text = |value: &Option<String>| match value.as_deref() {
        None if entry.sensitive => "(secret)".to_owned(),
        None => "(unset)".to_owned(),
        Some("") => "(empty)".to_owned(),
        Some(value) => value.to_owned(),
    };
    [entry.name.to_owned(), text(&entry.value), text(&entry.default)]
}

//! What settings there are: for DescribeConfigs of a broker, and for the documentation.

use std::fmt::Write as _;

use super::Config;
use super::table::{Effect, TABLE};
use crate::metadata::setting::Setting;
use crate::metadata::topic_config::{self, TopicConfig};
use crate::metadata::{ConfigEntry, ConfigSource, ConfigSynonym, ConfigType};

impl Config {
    /// Every setting for DescribeConfigs of this broker, by name.
    #[must_use]
    pub fn describe(&self) -> Vec<ConfigEntry> {
        let own = TABLE.iter().map(|row| self.describe_own(&row.setting));
        let inherited = topic_config::TABLE.iter().flat_map(|topic| self.describe_inherited(topic));
        let mut entries: Vec<_> = own.chain(inherited).collect();
        entries.sort_by_key(|entry| entry.name);
        entries
    }

    fn describe_own(&self, setting: &Setting) -> ConfigEntry {
        let set = self.set.get(setting.name).map(String::as_str);
        let synonyms = [
            synonym(setting.name, set, ConfigSource::StaticBroker),
            synonym(setting.name, setting.default, ConfigSource::Default),
        ];
        entry(setting, set.or(setting.default), synonyms.into_iter().flatten().collect())
    }

    /// A topic config's broker settings: each is told with all of them, since any of them may decide.
    fn describe_inherited(&self, topic: &TopicConfig) -> Vec<ConfigEntry> {
        let set = |name| self.topic_defaults.get(name);
        let all = topic.synonyms;
        let entries = all.iter().map(|own| {
            let statics = all.iter().map(|s| synonym(s.name, set(s.name), ConfigSource::StaticBroker));
            let defaults = all.iter().map(|s| synonym(s.name, s.default, ConfigSource::Default));
            let synonyms = statics.chain(defaults).flatten().collect();
            entry(&own.setting(topic), set(own.name).or(own.default), synonyms)
        });
        entries.collect()
    }
}

fn synonym(name: &'static str, value: Option<&str>, source: ConfigSource) -> Option<ConfigSynonym> {
    value.map(|value| ConfigSynonym { name, value: Some(value.to_owned()), source })
}

fn entry(setting: &Setting, value: Option<&str>, synonyms: Vec<ConfigSynonym>) -> ConfigEntry {
    let sensitive = setting.kind == ConfigType::Password;
    ConfigEntry {
        name: setting.name,
        value: value.filter(|_| !sensitive).map(str::to_owned),
        default: setting.default.map(str::to_owned),
        source: synonyms.first().map_or(ConfigSource::Default, |first| first.source),
        kind: setting.kind,
        // settings are read at the start
        read_only: true,
        sensitive,
        synonyms,
        doc: setting.doc,
    }
}

/// The table of settings as Markdown, for the documentation.
#[must_use]
pub fn reference_markdown() -> String {
    let mut text = String::new();
    section(
        &mut text,
        "Broker settings",
        TABLE.iter().filter(|row| row.effect == Effect::InForce).map(|row| row.setting),
    );
    let inherited = |topic: &'static TopicConfig| topic.synonyms.iter().map(|synonym| synonym.setting(topic));
    let mut inherited: Vec<Setting> = topic_config::TABLE.iter().flat_map(inherited).collect();
    inherited.sort_by_key(|setting| setting.name);
    section(&mut text, "Broker settings that topics inherit", inherited.into_iter());
    section(&mut text, "Topic configs", topic_config::TABLE.iter().map(|topic| topic.setting));
    section(
        &mut text,
        "Settings of Kafka that are checked and have no effect here",
        TABLE.iter().filter(|row| row.effect == Effect::None).map(|row| row.setting),
    );
    text
}

fn section(text: &mut String, title: &str, settings: impl Iterator<Item = Setting>) {
    let write = |text: &mut String, line: std::fmt::Arguments<'_>| {
        text.write_fmt(line).expect("a string takes any text");
    };
    let blank = if text.is_empty() { "" } else { "\n" };
    write(
        text,
        format_args!(
            "{blank}## {title}\n\n| name | default | allowed | what it does |\n| --- | --- | --- | --- |\n"
        ),
    );
    for setting in settings {
        let default = match setting.default {
            None => "unset".to_owned(),
            Some("") => "empty".to_owned(),
            Some(value) => format!("`{value}`"),
        };
        let unit = setting.unit().map(|unit| format!(" ({unit})")).unwrap_or_default();
        let allowed = format!("{}{unit}", setting.allowed());
        write(text, format_args!("| `{}` | {default} | {allowed} | {} |\n", setting.name, setting.doc));
    }
}

//! What settings there are: for DescribeConfigs of a broker and of groups, and for the documentation.

use std::collections::BTreeMap;
use std::fmt::Write as _;

use super::Config;
use super::load::find;
use super::table::{Effect, Row, TABLE, Update};
use crate::metadata::group_config::{self, GroupConfig};
use crate::metadata::setting::Setting;
use crate::metadata::topic_config::{self, Synonym, TopicConfig};
use crate::metadata::{ConfigEntry, ConfigSource, ConfigSynonym, ConfigType, LiveConfigs};

impl Config {
    /// Every setting for DescribeConfigs of this broker, by name. `live`: what is set of it while it runs.
    #[must_use]
    pub fn describe(&self, live: LiveConfigs<'_>) -> Vec<ConfigEntry> {
        let own = TABLE.iter().map(|row| self.describe_own(row, live));
        let inherited = topic_config::TABLE.iter().flat_map(|topic| self.describe_inherited(topic, live));
        let mut entries: Vec<_> = own.chain(inherited).collect();
        entries.sort_by_key(|entry| entry.name);
        entries
    }

    /// What is set of every broker while the cluster runs, for DescribeConfigs of the default broker, by name.
    #[must_use]
    pub fn describe_default(&self, live: LiveConfigs<'_>) -> Vec<ConfigEntry> {
        let live = LiveConfigs { of_broker: LiveConfigs::NONE.of_broker, ..live };
        let mut entries = self.describe(live);
        let is_live = |synonym: &ConfigSynonym| synonym.source == ConfigSource::DynamicDefaultBroker;
        entries.retain_mut(|entry| {
            entry.synonyms.retain(|synonym| synonym.name == entry.name && is_live(synonym));
            !entry.synonyms.is_empty()
        });
        entries
    }

    /// Every config of a group, by name: its own over the broker's settings.
    #[must_use]
    pub fn describe_group(
        &self,
        overrides: &BTreeMap<String, String>,
        live: LiveConfigs<'_>,
    ) -> Vec<ConfigEntry> {
        let entries = group_config::TABLE.iter().map(|GroupConfig { setting }| {
            let own = synonym(setting.name, overrides.get(setting.name), ConfigSource::Group);
            let inherited = match find(&format!("group.{}", setting.name)) {
                Some(row) => self.describe_own(row, live).synonyms,
                None => default(setting.name, setting.default).into_iter().collect(),
            };
            let synonyms: Vec<_> = own.into_iter().chain(inherited).collect();
            entry(setting, Update::Live, synonyms)
        });
        entries.collect()
    }

    fn describe_own(&self, row: &Row, live: LiveConfigs<'_>) -> ConfigEntry {
        let name = row.setting.name;
        let set = |set: Option<&String>, source| synonym(name, set, source);
        let synonyms = [
            set(live.of_broker.get(name), ConfigSource::DynamicBroker),
            set(live.of_all.get(name), ConfigSource::DynamicDefaultBroker),
            set(self.set.get(name), ConfigSource::StaticBroker),
            default(name, row.setting.default),
        ];
        entry(&row.setting, row.update, synonyms.into_iter().flatten().collect())
    }

    /// A topic config's broker settings: each is told with those that stand back behind it, as Kafka does.
    fn describe_inherited(&self, topic: &'static TopicConfig, live: LiveConfigs<'_>) -> Vec<ConfigEntry> {
        let all = topic.synonyms;
        let synonyms: Vec<_> = (all.iter().map(|s| set_live(s, live.of_broker, ConfigSource::DynamicBroker)))
            .chain(all.iter().map(|s| set_live(s, live.of_all, ConfigSource::DynamicDefaultBroker)))
            .chain(all.iter().map(|s| {
                let set = self.topic_defaults.get(s.name).map(str::to_owned);
                synonym(s.name, set.as_ref(), ConfigSource::StaticBroker)
            }))
            .chain(all.iter().map(|s| default(s.name, s.default)))
            .flatten()
            .collect();
        let entries = all.iter().map(|own| {
            let is_live = topic.live_synonym().is_some_and(|live| live.name == own.name);
            let update = if is_live { Update::Live } else { Update::ReadOnly };
            let behind = synonyms.iter().skip_while(|synonym| synonym.name != own.name);
            entry(&own.setting(topic), update, behind.cloned().collect())
        });
        entries.collect()
    }
}

fn set_live(
    setting: &Synonym,
    live: &BTreeMap<String, String>,
    source: ConfigSource,
) -> Option<ConfigSynonym> {
    synonym(setting.name, live.get(setting.name), source)
}

fn synonym(name: &'static str, value: Option<&String>, source: ConfigSource) -> Option<ConfigSynonym> {
    value.map(|value| ConfigSynonym { name, value: Some(value.clone()), source })
}

fn default(name: &'static str, value: Option<&'static str>) -> Option<ConfigSynonym> {
    value.map(|value| ConfigSynonym { name, value: Some(value.to_owned()), source: ConfigSource::Default })
}

fn entry(setting: &Setting, update: Update, synonyms: Vec<ConfigSynonym>) -> ConfigEntry {
    let sensitive = setting.kind == ConfigType::Password;
    let first = synonyms.first();
    ConfigEntry {
        name: setting.name,
        value: first.filter(|_| !sensitive).and_then(|first| first.value.clone()),
        default: setting.default.map(str::to_owned),
        source: first.map_or(ConfigSource::Default, |first| first.source),
        kind: setting.kind,
        read_only: update == Update::ReadOnly,
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
    section(&mut text, "Group configs", group_config::TABLE.iter().map(|config| config.setting));
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

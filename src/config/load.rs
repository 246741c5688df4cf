//! From text to [`Config`].

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::str::FromStr;

use super::listeners::{self, Texts};
use super::nearest::nearest as near;
use super::table::{Effect, Row, TABLE, Update};
use super::{
    AdminListener, Checked, Config, ConfigError, InternalTopic, Severity, ShardBudgets, Warning, ignored,
    properties,
};
use crate::coordinator::group::{self, Migration};
use crate::coordinator::transaction;
use crate::metadata::setting::split_list;
use crate::metadata::topic_config::{self, TopicDefaults};
use crate::metadata::{BrokerSetting, Settings};
use crate::model::{BrokerId, NodeId};

/// Java classes that would refuse requests if they could be loaded.
const POLICIES: [&str; 3] =
    ["alter.config.policy.class.name", "client.quota.callback.class", "create.topic.policy.class.name"];

impl Config {
    /// `text`: the path and content of a properties file; `sets`: `key=value`, the last one wins, over the file.
    pub fn load(text: Option<(&str, &str)>, sets: &[String]) -> Result<(Config, Vec<Warning>), ConfigError> {
        let Checked { result, warnings } = Config::check(text, sets);
        match result {
            Ok(config) => Ok((config, warnings)),
            Err(mut errors) => Err(errors.swap_remove(0)),
        }
    }

    /// As [`Config::load`], and does not end with the first value that is not allowed.
    #[must_use]
    pub fn check(text: Option<(&str, &str)>, sets: &[String]) -> Checked {
        let mut loader = Loader::default();
        let result = loader.load(text, sets);
        Checked { result, warnings: loader.warnings }
    }
}

/// A value and where it was set: `server.properties:12` or `--set`.
struct Given {
    value: String,
    origin: String,
}

#[derive(Default)]
struct Loader {
    given: BTreeMap<String, Given>,
    warnings: Vec<Warning>,
    /// Valid values, as they are kept.
    set: BTreeMap<&'static str, String>,
    topic_defaults: TopicDefaults,
}

impl Loader {
    /// The errors are at least one.
    fn load(&mut self, text: Option<(&str, &str)>, sets: &[String]) -> Result<Config, Vec<ConfigError>> {
        let one = |error| vec![error];
        if let Some((path, text)) = text {
            self.read_file(path, text).map_err(one)?;
        }
        for set in sets {
            let pair = set.split_once('=').map(|(key, value)| (key.trim(), value.trim()));
            match pair {
                Some((key, value)) if !key.is_empty() => self.enter(key, value, "--set".to_owned()),
                _ => return Err(vec![ConfigError(format!("--set {set}: must be key=value"))]),
            }
        }
        let errors = self.check_each();
        if errors.is_empty() { self.build().map_err(one) } else { Err(errors) }
    }

    fn read_file(&mut self, path: &str, text: &str) -> Result<(), ConfigError> {
        let properties =
            properties::parse(text).map_err(|(line, what)| ConfigError(format!("{path}:{line}: {what}")))?;
        for property in properties {
            let origin = format!("{path}:{}", property.line);
            if let Some(before) = self.given.get(&property.key) {
                let text = format!("{} is set twice: {origin} wins over {}", property.key, before.origin);
                self.warnings.push(Warning { severity: Severity::Warning, text });
            }
            self.enter(&property.key, property.value.trim(), origin);
        }
        Ok(())
    }

    fn enter(&mut self, key: &str, value: &str, origin: String) {
        self.given.insert(key.to_owned(), Given { value: value.to_owned(), origin });
    }

    /// Each setting by itself: known, and its value allowed.
    fn check_each(&mut self) -> Vec<ConfigError> {
        let (mut errors, mut without_effect) = (Vec::new(), Vec::new());
        let given = std::mem::take(&mut self.given);
        // it decides what log.segment.bytes may be
        if let Some(min) = given.get("corelane.segment.bytes.min").and_then(|min| min.value.parse().ok()) {
            self.topic_defaults.set_segment_bytes_min(min);
        }
        for (key, Given { value, origin }) in &given {
            let complain = |allowed: String| {
                ConfigError(format!("{origin}: invalid value {value} for {key}: {allowed}"))
            };
            if let Some(row) = find(key) {
                match row.setting.parse(value) {
                    Ok(value) => _ = self.set.insert(row.setting.name, value),
                    Err(allowed) => errors.push(complain(allowed)),
                }
                if row.effect == Effect::None {
                    without_effect.push(key.as_str());
                }
                continue;
            }
            match self.topic_defaults.set(key, value) {
                Ok(true) => continue,
                Ok(false) => {}
                Err(allowed) => {
                    errors.push(complain(allowed));
                    continue;
                }
            }
            if POLICIES.contains(&key.as_str()) && !value.is_empty() {
                let text = format!(
                    "{origin}: {key} names a Java class, which cannot be loaded: nothing enforces it"
                );
                self.warnings.push(Warning { severity: Severity::Warning, text });
            } else if ignored::is_known(key) {
                without_effect.push(key.as_str());
            } else {
                let near = nearest(key).map(|near| format!(", did you mean {near}?")).unwrap_or_default();
                let text = format!("{origin}: unknown setting {key} is ignored{near}");
                self.warnings.push(Warning { severity: Severity::Warning, text });
            }
        }
        if !without_effect.is_empty() {
            let text = format!("settings of Kafka without effect here: {}", without_effect.join(", "));
            self.warnings.push(Warning { severity: Severity::Info, text });
        }
        self.given = given;
        errors
    }

    /// The settings together.
    fn build(&mut self) -> Result<Config, ConfigError> {
        let node_id = self.node_id()?;
        let shard_port_offset = Some(self.number("corelane.shard.port.offset")).filter(|offset| *offset > 0);
        if shard_port_offset.is_some() && node_id.0 >= NodeId::BROKERS_MAX {
            let allowed = format!(
                "must be below {} where corelane.shard.port.offset makes each shard a node to clients",
                NodeId::BROKERS_MAX
            );
            return Err(self.complain("node.id", &allowed));
        }
        let log_dirs = self.log_dirs()?;
        let listeners = self.listeners()?;
        let admin_listener = self.admin_listener(&listeners)?;
        self.check_absent()?;
        topic_config::validate_together(&BTreeMap::new(), &self.topic_defaults)
            .map_err(|what| ConfigError(format!("defaults of topics: {what}")))?;
        let socket_request_max_bytes = self.number("socket.request.max.bytes");
        let shard = ShardBudgets {
            request_bytes: self.number("corelane.shard.request.bytes"),
            journal_bytes: self.number("corelane.shard.journal.bytes"),
            tail_cache_bytes: self.number("corelane.shard.tail.cache.bytes"),
            read_ahead_bytes: self.number("corelane.shard.read.ahead.bytes"),
            producer_state_bytes: self.number("corelane.shard.producer.state.bytes"),
        };
        if shard.request_bytes < socket_request_max_bytes {
            let allowed =
                format!("must be at least socket.request.max.bytes, which is {socket_request_max_bytes}");
            return Err(self.complain("corelane.shard.request.bytes", &allowed));
        }
        Ok(Config {
            node_id,
            rack: self.text("broker.rack").filter(|rack| !rack.is_empty()).map(str::to_owned),
            listeners,
            admin_listener,
            log_dirs,
            auto_create_topics_enable: self.number("auto.create.topics.enable"),
            controller: Settings {
                num_partitions: self.number("num.partitions"),
                default_replication_factor: self.number("default.replication.factor"),
                delete_topic_enable: self.number("delete.topic.enable"),
                changes_per_request_max: self.number("corelane.changes.per.request.max"),
                broker_settings: (TABLE.iter())
                    .map(|row| BrokerSetting { setting: row.setting, is_live: row.update == Update::Live })
                    .collect(),
            },
            metadata_snapshot_bytes: self.number("metadata.log.max.record.bytes.between.snapshots"),
            metadata_snapshot_interval_ms: self.number("metadata.log.max.snapshot.interval.ms"),
            topic_defaults: self.topic_defaults.clone(),
            socket_request_max_bytes,
            max_connections_per_ip_overrides: self.per_ip_overrides()?,
            connections_max_idle_ms: u64::try_from(self.number::<i64>("connections.max.idle.ms")).ok(),
            connection_handover: self.number("corelane.connection.handover"),
            shard_port_offset,
            slow_request_ms: Some(self.number("corelane.slow.request.ms")).filter(|ms| *ms > 0),
            fetch_max_bytes: self.number("fetch.max.bytes"),
            groups: self.groups()?,
            offsets_topic: InternalTopic {
                partitions: self.number("offsets.topic.num.partitions"),
                replication_factor: self.number("offsets.topic.replication.factor"),
                min_insync_replicas: None,
                segment_bytes: self.number("offsets.topic.segment.bytes"),
            },
            transactions: transaction::Settings {
                timeout_ms_max: self.number("transaction.max.timeout.ms"),
                id_expiration_ms: self.number("transactional.id.expiration.ms"),
                abort_interval_ms: self.number("transaction.abort.timed.out.transaction.cleanup.interval.ms"),
                removal_interval_ms: self
                    .number("transaction.remove.expired.transaction.cleanup.interval.ms"),
            },
            transactions_topic: InternalTopic {
                partitions: self.number("transaction.state.log.num.partitions"),
                replication_factor: self.number("transaction.state.log.replication.factor"),
                min_insync_replicas: Some(self.number("transaction.state.log.min.isr")),
                segment_bytes: self.number("transaction.state.log.segment.bytes"),
            },
            checkpoint_interval_ms: self.number("log.flush.offset.checkpoint.interval.ms"),
            retention_check_interval_ms: self.number("log.retention.check.interval.ms"),
            shard,
            disk_reserve_bytes: self.number("corelane.disk.reserve.bytes"),
            cores: self.text("corelane.cores").map(str::to_owned),
            spin_us: self.number("corelane.spin.us"),
            set: self.set.clone(),
        })
    }

    fn groups(&self) -> Result<group::Settings, ConfigError> {
        let (shortest, longest) = ("group.min.session.timeout.ms", "group.max.session.timeout.ms");
        let settings = group::Settings {
            initial_rebalance_delay_ms: self.number("group.initial.rebalance.delay.ms"),
            session_timeout_ms_min: self.number(shortest),
            session_timeout_ms_max: self.number(longest),
            max_size: self.number("group.max.size"),
            serves_consumer_protocol: self
                .list("group.coordinator.rebalance.protocols")
                .contains(&"consumer"),
            consumer_max_size: self.number("group.consumer.max.size"),
            consumer_session_timeout_ms: self.number("group.consumer.session.timeout.ms"),
            consumer_heartbeat_interval_ms: self.number("group.consumer.heartbeat.interval.ms"),
            consumer_assignment_interval_ms: self.number("group.consumer.assignment.interval.ms"),
            consumer_regex_refresh_interval_ms: self.number("group.consumer.regex.refresh.interval.ms"),
            consumer_assignors: self
                .list("group.consumer.assignors")
                .into_iter()
                .map(str::to_owned)
                .collect(),
            migration: match self.text("group.consumer.migration.policy") {
                Some("upgrade") => Migration { upgrade: true, downgrade: false },
                Some("downgrade") => Migration { upgrade: false, downgrade: true },
                Some("disabled") => Migration { upgrade: false, downgrade: false },
                _ => Migration { upgrade: true, downgrade: true },
            },
            offset_metadata_bytes_max: self.number("offset.metadata.max.bytes"),
            offsets_retention_ms: self.number::<i64>("offsets.retention.minutes") * 60_000,
            offsets_retention_check_interval_ms: self.number("offsets.retention.check.interval.ms"),
        };
        if settings.session_timeout_ms_min > settings.session_timeout_ms_max {
            let allowed = format!("must be at most {longest}, which is {}", settings.session_timeout_ms_max);
            return Err(self.complain(shortest, &allowed));
        }
        if settings.consumer_heartbeat_interval_ms >= settings.consumer_session_timeout_ms {
            let allowed = "must be below group.consumer.session.timeout.ms";
            return Err(self.complain("group.consumer.heartbeat.interval.ms", allowed));
        }
        Ok(settings)
    }

    fn list(&self, key: &str) -> Vec<&str> {
        split_list(self.text(key).unwrap_or_default())
    }

    /// node.id, or broker.id as Kafka called it; each stands for the other.
    fn node_id(&mut self) -> Result<BrokerId, ConfigError> {
        let old = self.number::<i32>("broker.id");
        if old < 0 {
            self.set.remove("broker.id");
        } else if !self.set.contains_key("node.id") {
            self.set.insert("node.id", old.to_string());
        }
        let id = self.number::<i32>("node.id");
        if old >= 0 && old != id {
            return Err(self
                .complain("broker.id", &format!("must be the same as node.id, which is {id}, or not set")));
        }
        if self.set.contains_key("node.id") {
            self.set.insert("broker.id", id.to_string());
        }
        Ok(BrokerId(id))
    }

    fn log_dirs(&self) -> Result<Vec<PathBuf>, ConfigError> {
        let key = if self.set.contains_key("log.dirs") { "log.dirs" } else { "log.dir" };
        let directories: Vec<PathBuf> =
            split_list(self.text(key).unwrap_or_default()).into_iter().map(PathBuf::from).collect();
        // `data` and `./data/` are one directory
        let same = |a: &PathBuf, b: &PathBuf| plain(a).eq(plain(b));
        let twice = (1..directories.len())
            .find(|&at| directories[..at].iter().any(|other| same(other, &directories[at])));
        match twice {
            Some(at) => Err(self.complain(key, &format!("{} occurs twice", directories[at].display()))),
            None => Ok(directories),
        }
    }

    fn listeners(&mut self) -> Result<Vec<super::Listener>, ConfigError> {
        let mut notes = Vec::new();
        let texts = Texts {
            listeners: self.text("listeners").unwrap_or_default(),
            advertised: self.text("advertised.listeners"),
            protocols: self.text("listener.security.protocol.map").unwrap_or_default(),
            controllers: self.text("controller.listener.names").unwrap_or_default(),
        };
        let listeners = listeners::parse(&texts, &mut notes)
            .map_err(|(key, what)| ConfigError(format!("{}{key}: {what}", self.origin(key))))?;
        for (key, note) in notes {
            let text = format!("{}{key}: {note}", self.origin(key));
            self.warnings.push(Warning { severity: Severity::Info, text });
        }
        Ok(listeners)
    }

    fn admin_listener(&mut self, clients: &[super::Listener]) -> Result<Option<AdminListener>, ConfigError> {
        let key = "admin.listener";
        let text = self.text(key).unwrap_or_default();
        if text.is_empty() || text.eq_ignore_ascii_case("none") {
            return Ok(None);
        }
        let is_set = self.set.contains_key(key);
        let (host, port) = listeners::host_and_port(text).ok_or_else(|| {
            self.complain(
                key,
                "must be host:port, an IPv6 address in brackets, the port from 0 to 65535, or none",
            )
        })?;
        let taken =
            clients.iter().find(|listener| listeners::clash(&listener.host, listener.port, &host, port));
        match taken {
            None => Ok(Some(AdminListener { host, port, is_set })),
            Some(listener) if is_set => {
                Err(self.complain(key, &format!("the port is taken by the listener {}", listener.name)))
            }
            Some(listener) => {
                let text = format!(
                    "no metrics are served: the listener {} has the port of {key}; set {key} to another, or to none",
                    listener.name
                );
                self.warnings.push(Warning { severity: Severity::Warning, text });
                Ok(None)
            }
        }
    }

    /// What would be dangerous or senseless to pass over.
    fn check_absent(&self) -> Result<(), ConfigError> {
        if self.text("authorizer.class.name").is_some_and(|class| !class.is_empty()) {
            let allowed =
                "access control is not available yet; without this setting everybody may do everything";
            return Err(self.complain("authorizer.class.name", allowed));
        }
        if !split_list(self.text("process.roles").unwrap_or_default()).contains(&"broker") {
            return Err(self.complain("process.roles", "must have broker, every corelane node is one"));
        }
        Ok(())
    }

    fn per_ip_overrides(&self) -> Result<Vec<(String, usize)>, ConfigError> {
        let key = "max.connections.per.ip.overrides";
        let items = split_list(self.text(key).unwrap_or_default()).into_iter();
        items
            .map(|item| {
                let (host, count) = item.rsplit_once(':')?;
                let host = host.trim().trim_start_matches('[').trim_end_matches(']');
                (!host.is_empty()).then_some((host.to_owned(), count.trim().parse().ok()?))
            })
            .collect::<Option<Vec<_>>>()
            .ok_or_else(|| self.complain(key, "must be address:count pairs, separated by commas"))
    }

    /// The value in force; `None`: not set, and no default.
    fn text(&self, key: &str) -> Option<&str> {
        let row = find(key).unwrap_or_else(|| panic!("{key} is not in the table of settings"));
        self.set.get(row.setting.name).map(String::as_str).or(row.setting.default)
    }

    /// A number or a boolean that the table has checked.
    fn number<T: FromStr>(&self, key: &str) -> T {
        let parsed = self.text(key).and_then(|text| text.parse().ok());
        parsed.unwrap_or_else(|| panic!("the table allows a value of {key} that its field cannot hold"))
    }

    fn complain(&self, key: &str, allowed: &str) -> ConfigError {
        let value =
            self.given.get(key).map_or_else(|| self.text(key).unwrap_or_default(), |given| &given.value);
        ConfigError(format!("{}invalid value {value} for {key}: {allowed}", self.origin(key)))
    }

    /// `server.properties:12: `, or nothing where the default is meant.
    fn origin(&self, key: &str) -> String {
        self.given.get(key).map(|given| format!("{}: ", given.origin)).unwrap_or_default()
    }
}

pub(super) fn find(key: &str) -> Option<&'static Row> {
    TABLE.binary_search_by(|row| row.setting.name.cmp(key)).ok().map(|at| &TABLE[at])
}

fn plain(path: &std::path::Path) -> impl Iterator<Item = std::path::Component<'_>> {
    path.components().filter(|part| !matches!(part, std::path::Component::CurDir))
}

/// The setting that was meant, if one is near enough: a topic config's broker setting, or few letters away.
fn nearest(key: &str) -> Option<&'static str> {
    if let Some(topic) = topic_config::find(key) {
        return topic.synonyms.first().map(|synonym| synonym.name);
    }
    let inherited = topic_config::TABLE.iter().flat_map(|topic| topic.synonyms).map(|synonym| synonym.name);
    let names = TABLE.iter().map(|row| row.setting.name).chain(inherited);
    near(key, names)
}

use std::collections::BTreeMap;

use super::*;
use crate::metadata::setting::{Setting, Valid, split_list};
use crate::metadata::topic_config::{
    CleanupPolicy, Compression, TABLE, TimestampType, Validation, describe, effective, find, resolve,
    validate,
};
use crate::model::Durability;

fn overrides(text: &str) -> BTreeMap<String, String> {
    let pairs = text.split(' ').filter(|pair| !pair.is_empty()).map(|pair| pair.split_once('=').unwrap());
    pairs.map(|(key, value)| (key.to_owned(), value.to_owned())).collect()
}

fn defaults(text: &str) -> TopicDefaults {
    let mut defaults = TopicDefaults::default();
    for (property, value) in overrides(text) {
        assert_eq!(defaults.set(&property, &value), Ok(true), "{property}");
    }
    defaults
}

#[test]
fn the_table_is_sound() {
    assert!(TABLE.is_sorted_by_key(|topic| topic.setting.name));
    let mut names: Vec<&str> =
        TABLE.iter().flat_map(|topic| topic.synonyms).map(|synonym| synonym.name).collect();
    let count = names.len();
    names.sort_unstable();
    names.dedup();
    assert_eq!(names.len(), count, "a broker setting stands for two topic configs");
    for topic in TABLE {
        let setting = &topic.setting;
        let default = setting.default.unwrap();
        assert_eq!(setting.parse(default).as_deref(), Ok(default), "{}", setting.name);
        assert!(setting.doc.ends_with('.') && !setting.doc.contains('\n'), "{}", setting.name);
        // without anything set, the broker's default and the topic's are one
        assert_eq!(effective(topic, &BTreeMap::new(), &TopicDefaults::default()), default);
        for synonym in topic.synonyms {
            if let Some(default) = synonym.default {
                let inherited =
                    effective(topic, &BTreeMap::new(), &defaults(&format!("{}={default}", synonym.name)));
                assert_eq!(Some(inherited.as_str()), setting.default, "{}", synonym.name);
            }
        }
    }
}

#[test]
fn defaults_resolve_as_in_kafka() {
    let expected = LogSettings {
        segment_bytes: 1 << 30,
        segment_ms: 604_800_000,
        segment_jitter_ms: 0,
        segment_index_bytes: 10 << 20,
        index_interval_bytes: 4096,
        preallocate: false,
        max_message_bytes: 1_048_588,
        timestamp_type: TimestampType::CreateTime,
        timestamp_before_max_ms: i64::MAX,
        timestamp_after_max_ms: 3_600_000,
        compression: Compression::Producer,
        cleanup: CleanupPolicy { delete: true, compact: false },
        retention_ms: 604_800_000,
        retention_bytes: -1,
        delete_retention_ms: 86_400_000,
        file_delete_delay_ms: 60_000,
        flush_messages: i64::MAX,
        flush_ms: i64::MAX,
        min_compaction_lag_ms: 0,
        max_compaction_lag_ms: i64::MAX,
        min_cleanable_dirty_ratio: 0.5,
        min_insync_replicas: 1,
        unclean_leader_election: false,
        durability: Durability::Flushed,
        validation: Validation::Header,
    };
    assert_eq!(resolve(&BTreeMap::new(), &TopicDefaults::default()), expected);
}

#[test]
fn an_override_goes_before_the_broker_and_the_broker_before_the_default() {
    for (broker, topic, expected) in [
        ("", "", 604_800_000),
        ("log.retention.hours=1", "", 3_600_000),
        ("log.retention.hours=1 log.retention.minutes=2", "", 120_000),
        ("log.retention.hours=1 log.retention.minutes=2 log.retention.ms=3", "", 3),
        ("log.retention.ms=3", "retention.ms=4", 4),
        ("log.retention.hours=-1", "", -1),
        ("log.retention.hours=2147483647", "", 2_147_483_647 * 3_600_000),
        // a value that this version cannot read counts as not set
        ("", "retention.ms=soon", 604_800_000),
    ] {
        let settings = resolve(&overrides(topic), &defaults(broker));
        assert_eq!(settings.retention_ms, expected, "{broker} / {topic}");
    }
    let topic = "cleanup.policy=compact,delete compression.type=zstd compression.zstd.level=-7 \
                 message.timestamp.type=LogAppendTime corelane.validation=full retention.bytes=-9";
    let settings = resolve(&overrides(topic), &defaults("corelane.durability=written message.max.bytes=7"));
    assert_eq!(settings.cleanup, CleanupPolicy { delete: true, compact: true });
    assert_eq!(settings.compression, Compression::Zstd { level: -7 });
    assert_eq!(settings.timestamp_type, TimestampType::LogAppendTime);
    assert_eq!(settings.durability, Durability::Written);
    assert_eq!(settings.validation, Validation::Full);
    assert_eq!(settings.max_message_bytes, 7);
    assert_eq!(settings.retention_bytes, -1);
    let empty = resolve(&overrides("cleanup.policy="), &TopicDefaults::default());
    assert_eq!(empty.cleanup, CleanupPolicy { delete: false, compact: false });
}

#[test]
fn checks_values() {
    for (key, value, expected) in [
        ("retention.ms", " +5 ", Some("5")),
        ("retention.ms", "-1", Some("-1")),
        ("retention.ms", "-2", None),
        ("retention.ms", "9223372036854775807", Some("9223372036854775807")),
        ("retention.ms", "9223372036854775808", None),
        ("retention.ms", "5ms", None),
        ("retention.ms", "1.5", None),
        ("retention.ms", "", None),
        ("segment.index.bytes", "3", None),
        ("segment.index.bytes", "2147483648", None),
        ("preallocate", "True", Some("true")),
        ("preallocate", "yes", None),
        ("cleanup.policy", "compact , delete", Some("compact,delete")),
        ("cleanup.policy", "", Some("")),
        ("cleanup.policy", "compact,compact", None),
        ("cleanup.policy", "compact,", None),
        ("cleanup.policy", "Compact", None),
        ("min.cleanable.dirty.ratio", "1", Some("1")),
        ("min.cleanable.dirty.ratio", "1.01", None),
        ("min.cleanable.dirty.ratio", "-0.1", None),
        ("min.cleanable.dirty.ratio", "NaN", None),
        ("compression.type", "none", None),
        ("compression.type", "uncompressed", Some("uncompressed")),
        ("compression.gzip.level", "-1", Some("-1")),
        ("compression.gzip.level", "0", None),
        ("compression.gzip.level", "9", Some("9")),
        ("compression.lz4.level", "18", None),
        ("compression.zstd.level", "-131072", Some("-131072")),
        ("message.timestamp.type", "createtime", None),
        ("leader.replication.throttled.replicas", "*", Some("*")),
        ("leader.replication.throttled.replicas", "0:1,2:3", Some("0:1,2:3")),
        ("leader.replication.throttled.replicas", "0:1,*", None),
        ("leader.replication.throttled.replicas", "0-1", None),
        ("remote.storage.enable", "false", Some("false")),
        ("remote.storage.enable", "true", None),
        ("min.insync.replicas", "0", None),
        ("internal.segment.bytes", "100", None),
    ] {
        let result = validate(key, value, &TopicDefaults::default());
        assert_eq!(result.as_ref().ok().map(String::as_str), expected, "{key}={value}: {result:?}");
        if let Err(message) = result {
            assert!(message.contains(key), "{message}");
            let unknown = find(key).is_none();
            assert!(unknown || message.contains(value) && message.contains("must be"), "{message}");
        }
    }
}

#[test]
fn tests_may_have_small_segments() {
    let mut defaults = TopicDefaults::default();
    assert!(validate("segment.bytes", "8192", &defaults).is_err());
    assert!(defaults.set("log.segment.bytes", "8192").is_err());
    defaults.set_segment_bytes_min(4096);
    assert!(validate("segment.bytes", "8192", &defaults).is_ok());
    assert!(validate("segment.bytes", "4095", &defaults).is_err());
    assert_eq!(defaults.set("log.segment.bytes", "8192"), Ok(true));
    assert_eq!(resolve(&BTreeMap::new(), &defaults).segment_bytes, 8192);
    assert_eq!(defaults.set("no.such.property", "1"), Ok(false));
}

#[test]
fn describes_where_a_value_comes_from() {
    let entries = describe(
        &overrides("retention.ms=4"),
        &defaults("log.retention.ms=5 log.retention.hours=1 log.roll.hours=2"),
    );
    assert_eq!(entries.len(), TABLE.len());
    let entry = |name: &str| entries.iter().find(|entry| entry.name == name).unwrap();
    let synonyms = |name: &str| {
        let synonyms = &entry(name).synonyms;
        synonyms
            .iter()
            .map(|s| format!("{}={} {:?}", s.name, s.value.as_deref().unwrap(), s.source))
            .collect::<Vec<_>>()
    };
    assert_eq!(entry("retention.ms").value.as_deref(), Some("4"));
    assert_eq!(entry("retention.ms").source, ConfigSource::Topic);
    assert_eq!(entry("retention.ms").default.as_deref(), Some("604800000"));
    assert_eq!(entry("retention.ms").kind, ConfigType::Long);
    assert_eq!(
        synonyms("retention.ms"),
        [
            "retention.ms=4 Topic",
            "log.retention.ms=5 StaticBroker",
            "log.retention.hours=1 StaticBroker",
            "log.retention.hours=168 Default"
        ]
    );
    assert_eq!(entry("segment.ms").value.as_deref(), Some("7200000"));
    // as Kafka tells it: the hours count, but only log.roll.ms would be named
    assert_eq!(entry("segment.ms").source, ConfigSource::Default);
    assert!(synonyms("segment.ms").is_empty());
    assert_eq!(synonyms("segment.bytes"), ["log.segment.bytes=1073741824 Default"]);
    assert_eq!(entry("segment.bytes").source, ConfigSource::Default);
    assert_eq!(entry("remote.storage.enable").source, ConfigSource::Default);
    assert!(synonyms("remote.storage.enable").is_empty());
    assert!(entries.iter().all(|entry| !entry.read_only && !entry.sensitive));
}

#[test]
fn splits_lists_as_kafka_does() {
    assert_eq!(split_list(""), [""; 0]);
    assert_eq!(split_list("  "), [""; 0]);
    assert_eq!(split_list(" a , b,c "), ["a", "b", "c"]);
    assert_eq!(split_list("a,,b,"), ["a", "", "b", ""]);
}

#[test]
fn says_what_is_allowed() {
    let setting = |kind, valid| Setting { name: "a.b.ms", kind, default: None, valid, doc: "" };
    for (kind, valid, expected) in [
        (ConfigType::Boolean, Valid::Any, "true or false"),
        (ConfigType::Int, Valid::Any, "a whole number, at most 2147483647"),
        (ConfigType::Short, Valid::AtLeast(1), "a whole number from 1 to 32767"),
        (ConfigType::Long, Valid::AtLeast(1), "a whole number, at least 1"),
        (ConfigType::Long, Valid::Any, "a whole number"),
        (ConfigType::Int, Valid::Between(1, 9), "a whole number from 1 to 9"),
        (ConfigType::Int, Valid::BetweenOr(1, 9, -1), "a whole number from 1 to 9, or -1"),
        (ConfigType::Double, Valid::Ratio, "a number from 0 to 1"),
        (ConfigType::String, Valid::OneOf(&["a", "b"]), "one of a, b"),
        (ConfigType::List, Valid::ListOf(&["a", "b"]), "a comma-separated list of a, b, each at most once"),
        (ConfigType::List, Valid::NotEmpty, "a comma-separated list that is not empty"),
    ] {
        assert_eq!(setting(kind, valid).allowed(), expected);
    }
    assert_eq!(setting(ConfigType::Long, Valid::Any).unit(), Some("milliseconds"));
}

//! Settings of the broker that change while it runs, in every version: who may be asked for what, where a value comes
//! from, that it is in force when it is answered, and that it outlives the process. And configs of groups.

use kafka_protocol::messages::alter_configs_request::{
    AlterConfigsResource as ReplacedResource, AlterableConfig as ReplacedConfig,
};
use kafka_protocol::messages::describe_configs_request::DescribeConfigsResource;
use kafka_protocol::messages::describe_configs_response::DescribeConfigsResourceResult;
use kafka_protocol::messages::incremental_alter_configs_request::{AlterConfigsResource, AlterableConfig};
use kafka_protocol::messages::{
    AlterConfigsRequest, DescribeConfigsRequest, IncrementalAlterConfigsRequest, ListConfigResourcesRequest,
};
use kafka_protocol::records::Compression;

use crate::harness::{Broker, Setup};
use crate::wire::{self, Wire, batch, keyed_batch, string};
use bytes::Bytes;
use kafka_protocol::messages::metadata_request::MetadataRequestTopic;
use kafka_protocol::messages::{MetadataRequest, TopicName};
use std::collections::BTreeSet;
use std::path::Path;

const NONE: i16 = 0;
const MESSAGE_TOO_LARGE: i16 = 10;
const INVALID_CONFIG: i16 = 40;
const INVALID_REQUEST: i16 = 42;

const BROKER: i8 = 4;
const BROKER_LOGGER: i8 = 8;
const CLIENT_METRICS: i8 = 16;
const GROUP: i8 = 32;

/// What IncrementalAlterConfigs is asked to do to a key.
#[derive(Clone, Copy)]
enum Do<'a> {
    Set(&'a str, &'a str),
    Delete(&'a str),
    Append(&'a str, &'a str),
}

/// Changes one resource; the error and what is said of it.
fn alter(
    wire: &mut Wire,
    version: i16,
    kind: i8,
    of: &str,
    changes: &[Do],
    validate_only: bool,
) -> (i16, String) {
    let configs = changes.iter().map(|change| {
        let (key, operation, value) = match *change {
            Do::Set(key, value) => (key, 0, Some(value)),
            Do::Delete(key) => (key, 1, None),
            Do::Append(key, value) => (key, 2, Some(value)),
        };
        AlterableConfig::default()
            .with_name(string(key))
            .with_config_operation(operation)
            .with_value(value.map(string))
    });
    let resource = AlterConfigsResource::default()
        .with_resource_type(kind)
        .with_resource_name(string(of))
        .with_configs(configs.collect());
    let request = IncrementalAlterConfigsRequest::default()
        .with_resources(vec![resource])
        .with_validate_only(validate_only);
    let told = wire.call(&request, version).responses.remove(0);
    assert_eq!((told.resource_type, told.resource_name.as_str()), (kind, of), "v{version}");
    assert_eq!(told.error_message.is_some(), told.error_code != NONE, "v{version}: {told:?}");
    (told.error_code, told.error_message.map(|text| text.to_string()).unwrap_or_default())
}

/// Changes one resource and expects success.
fn set(wire: &mut Wire, kind: i8, of: &str, changes: &[Do]) {
    assert_eq!(alter(wire, 1, kind, of, changes, false), (NONE, String::new()));
}

/// Has one resource with exactly these configs; the error.
fn replace(
    wire: &mut Wire,
    version: i16,
    kind: i8,
    of: &str,
    configs: &[(&str, &str)],
    validate_only: bool,
) -> i16 {
    let configs = configs
        .iter()
        .map(|(key, value)| ReplacedConfig::default().with_name(string(key)).with_value(Some(string(value))));
    let resource = ReplacedResource::default()
        .with_resource_type(kind)
        .with_resource_name(string(of))
        .with_configs(configs.collect());
    let request =
        AlterConfigsRequest::default().with_resources(vec![resource]).with_validate_only(validate_only);
    wire.call(&request, version).responses.remove(0).error_code
}

fn describe(wire: &mut Wire, version: i16, kind: i8, of: &str) -> Vec<DescribeConfigsResourceResult> {
    let resource = DescribeConfigsResource::default()
        .with_resource_type(kind)
        .with_resource_name(string(of))
        .with_configuration_keys(None);
    let request = DescribeConfigsRequest::default()
        .with_resources(vec![resource])
        .with_include_synonyms(true)
        .with_include_documentation(version >= 3);
    let told = wire.call(&request, version).results.remove(0);
    assert_eq!(told.error_code, NONE, "v{version}: {told:?}");
    told.configs
}

/// `value source: name=value source, …`, each source by its number.
fn show(configs: &[DescribeConfigsResourceResult], name: &str) -> String {
    let config = configs.iter().find(|config| config.name.as_str() == name);
    let Some(config) = config else { return "not told".to_owned() };
    let synonyms = config.synonyms.iter().map(|synonym| {
        format!("{}={} {}", &*synonym.name, synonym.value.as_deref().unwrap_or("null"), synonym.source)
    });
    let synonyms = synonyms.collect::<Vec<_>>().join(", ");
    format!("{} {}: {synonyms}", config.value.as_deref().unwrap_or("null"), config.config_source)
}

/// The names and values that are set of a resource itself.
fn own(configs: &[DescribeConfigsResourceResult], source: i8) -> String {
    let own = configs.iter().filter(|config| config.config_source == source);
    let own = own.map(|config| format!("{}={}", &*config.name, config.value.as_deref().unwrap_or("null")));
    own.collect::<Vec<_>>().join(" ")
}

#[test]
fn a_value_tells_where_it_comes_from() {
    let broker = Setup::new().set("message.max.bytes", 4000).set("max.connections", 50).start();
    let mut wire = Wire::connect(broker.bootstrap());
    let topic = wire::unique("inherits");
    wire.create_topic(&topic, 1, &[]);
    set(&mut wire, BROKER, "1", &[Do::Set("message.max.bytes", "3000")]);
    set(&mut wire, BROKER, "", &[Do::Set("message.max.bytes", "2000"), Do::Set("num.io.threads", "9")]);
    let inherited = "message.max.bytes=3000 2, message.max.bytes=2000 3, message.max.bytes=4000 4, \
                     message.max.bytes=1048588 5";
    for version in 1..=4 {
        let configs = describe(&mut wire, version, BROKER, "1");
        assert!(configs.len() > 100, "v{version}: all are told");
        for (name, expected) in [
            ("message.max.bytes", format!("3000 2: {inherited}")),
            ("num.io.threads", "9 3: num.io.threads=9 3, num.io.threads=8 5".to_owned()),
            ("max.connections", "50 4: max.connections=50 4, max.connections=2147483647 5".to_owned()),
            ("num.partitions", "1 5: num.partitions=1 5".to_owned()),
        ] {
            assert_eq!(show(&configs, name), expected, "v{version}");
        }
        let config = |name: &str| configs.iter().find(|config| config.name.as_str() == name).expect("told");
        assert!(config("num.partitions").read_only && !config("message.max.bytes").read_only, "v{version}");
        assert!(!config("message.max.bytes").is_sensitive);
        assert_eq!(config("message.max.bytes").config_type, if version >= 3 { 3 } else { 0 });
        let documentation = config("message.max.bytes").documentation.as_ref();
        assert_eq!(documentation.is_some_and(|text| !text.is_empty()), version >= 3);

        let of_all = describe(&mut wire, version, BROKER, "");
        assert_eq!(of_all.len(), 2, "v{version}: only what is set: {of_all:?}");
        assert_eq!(show(&of_all, "message.max.bytes"), "2000 3: message.max.bytes=2000 3", "v{version}");
        assert_eq!(show(&of_all, "num.io.threads"), "9 3: num.io.threads=9 3", "v{version}");
        let of_topic = describe(&mut wire, version, 2, &topic);
        assert_eq!(show(&of_topic, "max.message.bytes"), format!("3000 2: {inherited}"), "v{version}");
    }
}

#[test]
fn every_version_changes_a_broker_and_refuses_as_kafka_does() {
    let broker = Broker::start();
    let mut wire = Wire::connect(broker.bootstrap());
    let own_of = |wire: &mut Wire| own(&describe(wire, 4, BROKER, "1"), 2);
    let of_all = |wire: &mut Wire| own(&describe(wire, 4, BROKER, ""), 3);
    let key = "log.retention.ms";
    for version in 0..=1 {
        let mut try_it = |of: &str, changes: &[Do], validate_only: bool| {
            let told = alter(&mut wire, version, BROKER, of, changes, validate_only);
            (told.0, told.1, own_of(&mut wire), of_all(&mut wire))
        };
        let done = |own: &str, all: &str| (NONE, String::new(), own.to_owned(), all.to_owned());
        assert_eq!(try_it("1", &[Do::Set(key, "7")], true), done("", ""), "v{version}: only tried");
        assert_eq!(try_it("1", &[Do::Set(key, "7")], false), done("log.retention.ms=7", ""), "v{version}");
        let both = done("log.retention.ms=7", "log.cleanup.policy=delete,compact");
        assert_eq!(try_it("", &[Do::Append("log.cleanup.policy", "compact")], false), both, "v{version}");
        for (of, changes, code, words) in [
            ("1", &[Do::Set("num.partitions", "5")][..], INVALID_REQUEST, "dynamically: num.partitions"),
            ("1", &[Do::Set(key, "9"), Do::Set("log.retention.hours", "5")], INVALID_REQUEST, "dynamically"),
            ("", &[Do::Set("no.such", "5")], INVALID_REQUEST, "unknown"),
            ("1", &[Do::Set(key, "soon")], INVALID_REQUEST, "invalid value soon"),
            ("1", &[Do::Append(key, "5")], INVALID_CONFIG, "LIST"),
            ("2", &[Do::Set(key, "9")], INVALID_REQUEST, "expected 1"),
            ("one", &[Do::Set(key, "9")], INVALID_REQUEST, "must be an integer"),
        ] {
            let (error, text, own, all) = try_it(of, changes, false);
            assert_eq!((error, own, all), (code, both.2.clone(), both.3.clone()), "v{version}: {text}");
            assert!(text.contains(words), "v{version}: {text}");
        }
        assert_eq!(try_it("1", &[Do::Delete(key), Do::Delete("no.such")], false), done("", &both.3));
        assert_eq!(try_it("", &[Do::Delete("log.cleanup.policy")], false), done("", ""), "v{version}");
    }
    for version in 0..=2 {
        for (of, configs, validate_only, expected, after) in [
            (
                "1",
                &[(key, "7"), ("max.connections", "99")][..],
                false,
                NONE,
                "log.retention.ms=7 max.connections=99",
            ),
            ("1", &[(key, "8")], true, NONE, "log.retention.ms=7 max.connections=99"),
            ("1", &[(key, "8")], false, NONE, "log.retention.ms=8"),
            ("1", &[("num.partitions", "8")], false, INVALID_REQUEST, "log.retention.ms=8"),
            ("2", &[(key, "9")], false, INVALID_REQUEST, "log.retention.ms=8"),
            ("1", &[], false, NONE, ""),
        ] {
            let told = replace(&mut wire, version, BROKER, of, configs, validate_only);
            assert_eq!((told, own_of(&mut wire).as_str()), (expected, after), "v{version}: {configs:?}");
        }
    }
}

/// The topic's own over this broker's over every broker's over the configuration's, on every shard at once and after a
/// kill.
#[test]
fn topics_follow_their_broker() {
    const PARTITIONS: i32 = 4;
    let mut broker = Setup::new().set("message.max.bytes", 4000).start();
    let mut wire = Wire::connect(broker.bootstrap());
    let (plain, set_itself) = (wire::unique("plain"), wire::unique("own"));
    wire.create_topic(&plain, PARTITIONS, &[]);
    wire.create_topic(&set_itself, 1, &[("max.message.bytes", "3500")]);
    let accepts = |wire: &mut Wire, topic: &str, partition: i32, bytes: usize| {
        let value = vec![Bytes::from(vec![b'v'; bytes])];
        match wire.produce(topic, partition, -1, batch(&value)).error_code {
            NONE => true,
            MESSAGE_TOO_LARGE => false,
            other => panic!("{other}"),
        }
    };
    let check = |wire: &mut Wire, limit: usize, why: &str| {
        // every partition, so every shard; a batch is some 70 bytes more than its value
        for partition in 0..PARTITIONS {
            assert!(accepts(wire, &plain, partition, limit - 200), "{why}: {limit} at {partition}");
            assert!(!accepts(wire, &plain, partition, limit), "{why}: {limit} at {partition}");
        }
        assert!(accepts(wire, &set_itself, 0, 3300) && !accepts(wire, &set_itself, 0, 3500), "{why}");
    };
    let key = "message.max.bytes";
    check(&mut wire, 4000, "the configuration");
    set(&mut wire, BROKER, "", &[Do::Set(key, "2000")]);
    check(&mut wire, 2000, "every broker");
    set(&mut wire, BROKER, "1", &[Do::Set(key, "3000")]);
    check(&mut wire, 3000, "this broker");
    set(&mut wire, BROKER, "", &[Do::Set(key, "2500")]);
    check(&mut wire, 3000, "this broker still");
    broker.kill();
    broker.restart_on(3);
    let mut wire = Wire::connect(broker.bootstrap());
    check(&mut wire, 3000, "this broker after a kill");
    set(&mut wire, BROKER, "1", &[Do::Delete(key)]);
    check(&mut wire, 2500, "every broker, set long ago");
    set(&mut wire, BROKER, "", &[Do::Delete(key)]);
    check(&mut wire, 4000, "the configuration again");
}

/// A log's own settings change, not only what is told of them.
#[test]
fn segments_follow_their_broker() {
    let broker = Setup::new().start();
    let mut wire = Wire::connect(broker.bootstrap());
    let topic = wire::unique("segments");
    wire.create_topic(&topic, 1, &[]);
    let segments = || {
        let entries = std::fs::read_dir(broker.data().join(format!("{topic}-0"))).expect("a folder");
        let names = entries.map(|entry| entry.expect("an entry").file_name().into_string().expect("a name"));
        names.filter(|name| name.ends_with(".log")).count()
    };
    let produce = |wire: &mut Wire, bytes: usize| {
        let value = vec![Bytes::from(vec![b'v'; bytes])];
        assert_eq!(wire.produce(&topic, 0, -1, batch(&value)).error_code, NONE);
    };
    produce(&mut wire, 700_000);
    produce(&mut wire, 700_000);
    assert_eq!(segments(), 1);
    set(&mut wire, BROKER, "", &[Do::Set("log.segment.bytes", "1048576")]);
    produce(&mut wire, 10);
    assert_eq!(segments(), 2, "the segment that was written to is too large now");
}

#[test]
fn connections_are_limited_while_they_last() {
    let broker = Setup::new().start();
    let mut wire = Wire::connect(broker.bootstrap());
    let mut second = Wire::connect(broker.bootstrap());
    second.metadata("x");
    set(&mut wire, BROKER, "1", &[Do::Set("max.connections.per.ip", "2")]);
    second.metadata("x");
    Wire::connect(broker.bootstrap()).assert_closed("two are there already");
    set(&mut wire, BROKER, "1", &[Do::Set("max.connections.per.ip", "3")]);
    Wire::connect(broker.bootstrap()).metadata("x");
}

#[test]
fn the_cleaner_is_switched_on() {
    let mut broker = Setup::new()
        .set("log.cleaner.threads", 0)
        .set("log.cleaner.backoff.ms", 3_600_000)
        .set("corelane.segment.bytes.min", 4096)
        .start();
    let mut wire = Wire::connect(broker.bootstrap());
    let topic = wire::unique("cleaned");
    let configs =
        [("cleanup.policy", "compact"), ("segment.bytes", "8192"), ("min.cleanable.dirty.ratio", "0")];
    wire.create_topic(&topic, 1, &configs);
    for number in 0..20 {
        let entries = [(Some("key".to_owned()), Some(format!("{number} {}", "~".repeat(1000))))];
        assert_eq!(wire.produce(&topic, 0, -1, keyed_batch(&entries, Compression::None)).error_code, NONE);
    }
    assert!(!broker.stderr().contains(" compacted log="));
    set(&mut wire, BROKER, "", &[Do::Set("log.cleaner.threads", "1")]);
    broker.wait_logged(" compacted log=", 1);
}

#[test]
fn groups_have_configs() {
    let broker = Setup::new().set("group.share.delivery.count.limit", 7).start();
    let mut wire = Wire::connect(broker.bootstrap());
    let groups = |wire: &mut Wire| {
        let request = ListConfigResourcesRequest::default().with_resource_types(vec![GROUP]);
        let told = wire.call(&request, 1).config_resources.into_iter();
        told.map(|told| told.resource_name.to_string()).collect::<Vec<_>>().join(" ")
    };
    let own_of = |wire: &mut Wire| own(&describe(wire, 4, GROUP, "g"), 8);
    let key = "consumer.session.timeout.ms";
    for version in 0..=1 {
        assert_eq!(alter(&mut wire, version, GROUP, "g", &[Do::Set(key, "50000")], true).0, NONE);
        assert_eq!((own_of(&mut wire), groups(&mut wire)), (String::new(), String::new()), "v{version}");
        assert_eq!(alter(&mut wire, version, GROUP, "g", &[Do::Set(key, "50000")], false).0, NONE);
        for (of, changes, code) in [
            ("g", &[Do::Set(key, "44999")][..], INVALID_CONFIG),
            ("g", &[Do::Set("no.such", "1")], INVALID_CONFIG),
            ("", &[Do::Set(key, "50000")], INVALID_REQUEST),
        ] {
            assert_eq!(alter(&mut wire, version, GROUP, of, changes, false).0, code, "v{version}");
        }
        assert_eq!(own_of(&mut wire), "consumer.session.timeout.ms=50000", "v{version}");
        assert_eq!(groups(&mut wire), "g", "v{version}");
        assert_eq!(replace(&mut wire, version, GROUP, "g", &[], false), NONE);
        assert_eq!((own_of(&mut wire), groups(&mut wire)), (String::new(), String::new()), "v{version}");
    }
    set(&mut wire, GROUP, "g", &[Do::Set(key, "60000")]);
    for version in 1..=4 {
        let configs = describe(&mut wire, version, GROUP, "g");
        for (name, expected) in [
            (key, "60000 8: consumer.session.timeout.ms=60000 8, group.consumer.session.timeout.ms=45000 5"),
            (
                "share.delivery.count.limit",
                "7 4: group.share.delivery.count.limit=7 4, group.share.delivery.count.limit=5 5",
            ),
            ("share.auto.offset.reset", "latest 5: share.auto.offset.reset=latest 5"),
        ] {
            assert_eq!(show(&configs, name), expected, "v{version}");
        }
        let of_metrics = describe(&mut wire, version, CLIENT_METRICS, "subscription");
        let of_metrics: Vec<String> = of_metrics
            .iter()
            .map(|config| format!("{} {}", &*config.name, show(&of_metrics, &config.name)))
            .collect();
        assert_eq!(of_metrics, ["interval.ms 300000 5: ", "match  5: ", "metrics  5: "], "v{version}");
    }
    assert_eq!(
        alter(&mut wire, 1, CLIENT_METRICS, "subscription", &[Do::Set("interval.ms", "100")], false).0,
        INVALID_REQUEST
    );
}

/// Every folder of the source that logs, and `root`.
fn expected_loggers() -> BTreeSet<String> {
    fn logs(path: &Path) -> bool {
        if !path.is_dir() {
            return std::fs::read_to_string(path).is_ok_and(|text| text.contains("tracing::"));
        }
        std::fs::read_dir(path).expect("a folder").any(|entry| logs(&entry.expect("an entry").path()))
    }
    let source = Path::new(env!("CARGO_MANIFEST_DIR")).join("src");
    let folders = std::fs::read_dir(source).expect("a folder").map(|entry| entry.expect("an entry").path());
    let folders = folders.filter(|path| path.is_dir() && logs(path));
    let names = folders.map(|path| path.file_name().expect("a name").to_string_lossy().into_owned());
    let loggers = names.map(|name| format!("corelane::{name}"));
    loggers.chain(["corelane".to_owned(), "root".to_owned()]).collect()
}

#[test]
fn log_levels_change_while_the_broker_runs() {
    const LINE: &str = "topic cannot be created automatically";
    let mut broker = Broker::start();
    let mut wire = Wire::connect(broker.bootstrap());
    let level = |wire: &mut Wire, logger: &str| show(&describe(wire, 4, BROKER_LOGGER, "1"), logger);
    for version in 1..=4 {
        let configs = describe(&mut wire, version, BROKER_LOGGER, "1");
        let told: BTreeSet<String> = configs.iter().map(|config| config.name.to_string()).collect();
        assert_eq!(told, expected_loggers(), "v{version}");
        for config in &configs {
            assert_eq!(show(&configs, &config.name), "INFO 6: ", "v{version}: {}", &*config.name);
            assert!(!config.read_only && !config.is_sensitive, "v{version}");
        }
    }
    // a topic whose name collides with another's: told on debug level
    wire.create_topic("logged.topic", 1, &[]);
    let cannot_be_created = |wire: &mut Wire| {
        let topic = MetadataRequestTopic::default().with_name(Some(TopicName(string("logged_topic"))));
        let request =
            MetadataRequest::default().with_topics(Some(vec![topic])).with_allow_auto_topic_creation(true);
        wire.call(&request, 12);
    };
    cannot_be_created(&mut wire);
    let mut lines = 0;
    let logger = "corelane::handlers";
    for version in 0..=1 {
        let set = [Do::Set(logger, "DEBUG")];
        assert_eq!(alter(&mut wire, version, BROKER_LOGGER, "1", &set, true).0, NONE, "v{version}");
        assert_eq!(level(&mut wire, logger), "INFO 6: ", "v{version}: only tried");
        cannot_be_created(&mut wire);
        assert_eq!(alter(&mut wire, version, BROKER_LOGGER, "1", &set, false).0, NONE, "v{version}");
        assert_eq!(level(&mut wire, logger), "DEBUG 6: ", "v{version}");
        cannot_be_created(&mut wire);
        lines += 1;
        broker.wait_logged(LINE, lines);
        for (of, changes, code) in [
            ("1", &[Do::Set(logger, "TRACE"), Do::Set("no.such", "INFO")][..], INVALID_CONFIG),
            ("1", &[Do::Delete("no.such")], INVALID_CONFIG),
            ("1", &[Do::Set(logger, "OFF")], INVALID_CONFIG),
            ("1", &[Do::Set(logger, "debug")], INVALID_CONFIG),
            ("1", &[Do::Append(logger, "INFO")], INVALID_REQUEST),
            ("1", &[Do::Delete("root")], INVALID_REQUEST),
            ("1", &[Do::Set(logger, "INFO"), Do::Set(logger, "WARN")], INVALID_REQUEST),
            ("2", &[Do::Set(logger, "INFO")], INVALID_REQUEST),
            ("", &[Do::Set(logger, "INFO")], INVALID_REQUEST),
        ] {
            assert_eq!(alter(&mut wire, version, BROKER_LOGGER, of, changes, false).0, code, "v{version}");
        }
        assert_eq!(level(&mut wire, logger), "DEBUG 6: ", "v{version}: all or nothing");
        set_levels(&mut wire, &[Do::Set("root", "FATAL")]);
        assert_eq!(level(&mut wire, "corelane::storage"), "FATAL 6: ", "v{version}");
        set_levels(&mut wire, &[Do::Delete(logger), Do::Set("root", "INFO")]);
        assert_eq!(level(&mut wire, logger), "INFO 6: ", "v{version}");
        cannot_be_created(&mut wire);
    }
    set_levels(&mut wire, &[Do::Set("corelane", "DEBUG")]);
    cannot_be_created(&mut wire);
    broker.wait_logged(LINE, lines + 1);
    assert_eq!(broker.stderr().matches(LINE).count(), lines + 1, "nothing while the level was INFO");
    for version in 0..=2 {
        let told = replace(&mut wire, version, BROKER_LOGGER, "1", &[("root", "DEBUG")], false);
        assert_eq!(told, INVALID_REQUEST, "v{version}");
    }
    broker.stop();
    broker.restart();
    let mut wire = Wire::connect(broker.bootstrap());
    assert_eq!(level(&mut wire, "corelane"), "INFO 6: ", "levels are forgotten");
}

fn set_levels(wire: &mut Wire, changes: &[Do]) {
    set(wire, BROKER_LOGGER, "1", changes);
}

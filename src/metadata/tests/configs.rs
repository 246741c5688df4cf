//! Configs of brokers and of groups; those of topics are in `controller`.

use super::*;
use crate::metadata::setting::{Setting, Valid};
use crate::metadata::{BrokerSetting, group_config};

/// A controller on broker 1 of two that knows two settings of its own beside those that topics inherit.
fn cluster() -> Cluster {
    let own = |name, is_live| BrokerSetting {
        setting: Setting {
            name,
            kind: ConfigType::Int,
            default: Some("1"),
            valid: Valid::AtLeast(1),
            doc: "",
        },
        is_live,
    };
    let broker_settings = vec![own("max.connections", true), own("num.partitions", false)];
    let mut defaults = TopicDefaults::default();
    defaults.set("log.retention.ms", "4").unwrap();
    Cluster::with(Settings { broker_settings, ..Settings::default() }, defaults, 2)
}

fn set(cluster: &Cluster, resource: &ConfigResource) -> String {
    let set = cluster.image().configs_of(resource).iter();
    set.map(|(key, value)| format!("{key}={value}")).collect::<Vec<_>>().join(" ")
}

#[test]
fn brokers() {
    let ok = "broker/1 None";
    let mut cluster = cluster();
    // each request, what it answers, and what is set of broker 1 afterwards
    for (request, expected, after) in [
        ("alter validate broker/1 max.connections=5", ok, ""),
        (
            "alter broker/1 max.connections=5 log.cleanup.policy=compact",
            ok,
            "log.cleanup.policy=compact max.connections=5",
        ),
        (
            "alter broker/1 +log.cleanup.policy=delete !max.connections",
            ok,
            "log.cleanup.policy=compact,delete",
        ),
        ("alter broker/1 -log.cleanup.policy=delete !no.such", ok, "log.cleanup.policy=compact"),
        ("replace broker/1 max.connections=7", ok, "max.connections=7"),
        (
            "alter broker/1 num.partitions=5",
            "broker/1 InvalidRequest: cannot update these configs dynamically: num.partitions",
            "max.connections=7",
        ),
        (
            "alter broker/1 max.connections=8 log.retention.hours=5",
            "broker/1 InvalidRequest: cannot update these configs dynamically: log.retention.hours",
            "max.connections=7",
        ),
        (
            "alter broker/1 no.such=5",
            "broker/1 InvalidRequest: unknown broker config name: no.such",
            "max.connections=7",
        ),
        (
            "replace broker/1 max.connections=0",
            "broker/1 InvalidRequest: invalid value 0 for configuration max.connections: must be a whole number from 1 to \
             2147483647",
            "max.connections=7",
        ),
        (
            "alter broker/1 log.segment.bytes=5",
            "broker/1 InvalidRequest: invalid value 5 for configuration log.segment.bytes: must be a whole number from \
             1048576 to 2147483647",
            "max.connections=7",
        ),
        (
            "alter broker/1 +max.connections=5",
            "broker/1 InvalidConfig: can't append to key max.connections because its type is not LIST",
            "max.connections=7",
        ),
        (
            "alter broker/1 log.cleaner.min.compaction.lag.ms=9 log.cleaner.max.compaction.lag.ms=8",
            "broker/1 InvalidRequest: min.compaction.lag.ms (9) must not be larger than max.compaction.lag.ms (8)",
            "max.connections=7",
        ),
        (
            "alter broker/3 max.connections=5",
            "broker/3 BrokerIdNotRegistered: there is no broker 3",
            "max.connections=7",
        ),
        (
            "alter broker/01 max.connections=5",
            "broker/01 InvalidRequest: node id must be an integer, but it is: 01",
            "max.connections=7",
        ),
        (
            "alter broker/1 max.connections=5; broker/2 max.connections=6; broker/ max.connections=4",
            "broker/1 None\nbroker/2 None\nbroker/ None",
            "max.connections=5",
        ),
        ("replace broker/1", ok, ""),
    ] {
        assert_eq!(cluster.reply(request), expected, "{request}");
        assert_eq!(set(&cluster, &ConfigResource::broker(Some(BrokerId(1)))), after, "{request}");
    }
    assert_eq!(set(&cluster, &ConfigResource::broker(None)), "max.connections=4");
    assert_eq!(cluster.image().live_configs(BrokerId(1)).get("max.connections"), Some("4"));
    assert_eq!(cluster.image().live_configs(BrokerId(2)).get("max.connections"), Some("6"));
    assert!(
        cluster.decide("alter broker/2 max.connections=6").records.is_empty(),
        "what is so already is not written"
    );
}

/// Of the topic over this broker's over every broker's over the configuration's.
#[test]
fn topics_inherit_what_is_set_of_brokers() {
    let mut cluster = cluster();
    cluster.reply("create own 1 1 retention.ms=1; other 1 1");
    // each request, and the retention of both topics and of one that is created then
    for (number, (request, expected)) in (0..).zip([
        ("alter broker/2 log.retention.ms=9", [1, 4]),
        ("alter broker/ log.retention.ms=3", [1, 3]),
        ("alter broker/1 log.retention.ms=2 min.insync.replicas=2", [1, 2]),
        ("alter own !retention.ms", [2, 2]),
        ("alter broker/ log.retention.ms=5", [2, 2]),
        ("alter broker/1 !log.retention.ms", [5, 5]),
        ("replace broker/", [4, 4]),
    ]) {
        assert!(cluster.reply(request).ends_with(" None"), "{request}");
        let new = format!("new-{number}");
        cluster.reply(&format!("create {new} 1 1"));
        let retention = |name: &str| cluster.image().topic_by_name(name).unwrap().settings.retention_ms;
        assert_eq!([retention("own"), retention("other")], expected, "{request}");
        assert_eq!(retention(&new), expected[1], "{request}");
    }
    assert_eq!(cluster.image().topic_by_name("own").unwrap().settings.min_insync_replicas, 2);
}

#[test]
fn a_value_that_cannot_be_read_counts_as_not_set() {
    let mut image = cluster().image().clone();
    let resource = ConfigResource::broker(None);
    for value in ["3", "soon"] {
        let key = "log.retention.ms".to_owned();
        let value = Some(value.to_owned());
        image.replay(&Record::Config { resource: resource.clone(), key, value }).unwrap();
    }
    assert_eq!(image.defaults().get("log.retention.ms"), Some("4"));
}

#[test]
fn groups() {
    let mut cluster = Cluster::new(1);
    let of = |cluster: &Cluster| set(cluster, &ConfigResource::group("g"));
    for (request, expected, after) in [
        ("alter validate group/g consumer.session.timeout.ms=50000", "group/g None", ""),
        (
            "alter group/g consumer.session.timeout.ms=50000 share.auto.offset.reset=by_duration:P1DT2.5S",
            "group/g None",
            "consumer.session.timeout.ms=50000 share.auto.offset.reset=by_duration:P1DT2.5S",
        ),
        ("replace group/g streams.num.standby.replicas=2", "group/g None", "streams.num.standby.replicas=2"),
        (
            "alter group/g streams.num.standby.replicas=3",
            "group/g InvalidConfig: invalid value 3 for configuration streams.num.standby.replicas: must be a whole number \
             from 0 to 2",
            "streams.num.standby.replicas=2",
        ),
        (
            "alter group/g retention.ms=3",
            "group/g InvalidConfig: unknown group config name: retention.ms",
            "streams.num.standby.replicas=2",
        ),
        (
            "alter group/ consumer.session.timeout.ms=50000",
            "group/ InvalidRequest: default group resources are not allowed",
            "streams.num.standby.replicas=2",
        ),
        (
            "alter group/h share.isolation.level=read_committed",
            "group/h None",
            "streams.num.standby.replicas=2",
        ),
        ("replace group/g", "group/g None", ""),
    ] {
        assert_eq!(cluster.reply(request), expected, "{request}");
        assert_eq!(of(&cluster), after, "{request}");
    }
    assert_eq!(cluster.image().groups_with_configs().collect::<Vec<_>>(), ["h"]);
}

#[test]
fn the_table_of_group_configs_is_sound() {
    assert!(group_config::TABLE.is_sorted_by_key(|config| config.setting.name));
    for config in group_config::TABLE {
        let setting = &config.setting;
        if let Some(default) = setting.default {
            assert_eq!(setting.parse(default).as_deref(), Ok(default), "{}", setting.name);
        }
        assert!(setting.doc.ends_with('.') && !setting.doc.contains('\n'), "{}", setting.name);
    }
}

#[test]
fn where_a_share_group_begins() {
    let setting = group_config::find("share.auto.offset.reset").unwrap().setting;
    for good in ["earliest", "latest", "by_duration:PT1S", "by_duration:P3D", "by_duration:p1dt2h3m4.5s"] {
        assert!(setting.parse(good).is_ok(), "{good}");
    }
    for good in ["by_duration:PT1H", "by_duration:PT5M", "by_duration:PT1H2S", "by_duration:P1DT1M"] {
        assert!(setting.parse(good).is_ok(), "{good}");
    }
    for bad in ["", "none", "by_duration:", "by_duration:P", "by_duration:PT", "by_duration:P1DT", "P1D"] {
        assert!(setting.parse(bad).is_err(), "{bad}");
    }
    for bad in
        ["by_duration:-PT1S", "by_duration:PT-1S", "by_duration:1S", "by_duration:PT1M1H", "by_duration:P1Y"]
    {
        assert!(setting.parse(bad).is_err(), "{bad}");
    }
}

use super::properties::{Property, parse};
use super::table::TABLE;
use super::*;
use crate::metadata::{ConfigEntry, ConfigSource, LiveConfigs, group_config, topic_config};

fn load(text: &str, sets: &[&str]) -> Result<(Config, Vec<Warning>), ConfigError> {
    let sets: Vec<String> = sets.iter().map(|&set| set.to_owned()).collect();
    Config::load(Some(("server.properties", text)), &sets)
}

/// Loads without a warning.
fn config(text: &str) -> Config {
    let (config, warnings) = load(text, &[]).unwrap();
    assert_eq!(warnings, [], "{text}");
    config
}

fn error(text: &str) -> String {
    load(text, &[]).unwrap_err().to_string()
}

fn warnings(text: &str) -> Vec<String> {
    let (_, warnings) = load(text, &[]).unwrap();
    let letter = |warning: &Warning| if warning.severity == Severity::Info { 'I' } else { 'W' };
    warnings.iter().map(|warning| format!("{} {warning}", letter(warning))).collect()
}

#[test]
fn nothing_set_serves_localhost() {
    let (config, warnings) = Config::load(None, &[]).unwrap();
    assert_eq!(warnings, []);
    assert_eq!(config.node_id, BrokerId(1));
    assert_eq!(config.rack, None);
    assert_eq!(config.log_dirs, [PathBuf::from("./corelane-data")]);
    let listener = Listener {
        name: "PLAINTEXT".to_owned(),
        protocol: SecurityProtocol::Plaintext,
        host: String::new(),
        port: 9092,
        advertised_host: "localhost".to_owned(),
        advertised_port: 9092,
    };
    assert_eq!(config.listeners, [listener]);
    let admin = AdminListener { host: "localhost".to_owned(), port: 9644, is_set: false };
    assert_eq!(config.admin_listener, Some(admin));
    let broker_settings = config.controller.broker_settings.clone();
    assert_eq!(broker_settings.len(), TABLE.len());
    assert_eq!(config.controller, Settings { broker_settings, ..Settings::default() });
    assert_eq!(config.topic_defaults, TopicDefaults::default());
    assert!(config.auto_create_topics_enable);
    assert_eq!(config.connections_max_idle_ms, Some(600_000));
    assert_eq!(config.socket_request_max_bytes, 100 << 20);
    assert_eq!(config.fetch_max_bytes, 55 << 20);
    let live = config.live(LiveConfigs::NONE);
    assert_eq!((live.max_connections, live.max_connections_per_ip), (2_147_483_647, 2_147_483_647));
    assert_eq!(config.groups.initial_rebalance_delay_ms, 3000);
    assert_eq!(live.producer_id_expiration_ms, 86_400_000);
    assert!(live.verifies_transactions);
    assert_eq!((config.checkpoint_interval_ms, config.retention_check_interval_ms), (60_000, 300_000));
    assert_eq!((config.cores, config.spin_us), (None, 0));
}

#[test]
fn every_setting_arrives() {
    let config = config(
        "node.id=7\nbroker.rack=east\nlisteners=PLAINTEXT://localhost:1234\nlog.dirs=/a, b\n\
         auto.create.topics.enable=false\nnum.partitions=3\ndefault.replication.factor=2\ndelete.topic.enable=false\n\
         corelane.changes.per.request.max=11\nmessage.max.bytes=12\nsocket.request.max.bytes=2000000\n\
         max.connections=14\nmax.connections.per.ip=15\nmax.connections.per.ip.overrides=127.0.0.1:2, [::1]:3 ,host:4\n\
         connections.max.idle.ms=-1\nfetch.max.bytes=1024\ngroup.initial.rebalance.delay.ms=17\n\
         producer.id.expiration.ms=18\nlog.flush.offset.checkpoint.interval.ms=19\n\
         log.retention.check.interval.ms=20\ncorelane.shard.request.bytes=2000000\n\
         corelane.shard.tail.cache.bytes=2000001\ncorelane.shard.journal.bytes=2000004\ncorelane.shard.read.ahead.bytes=2000002\n\
         corelane.shard.producer.state.bytes=2000003\ncorelane.disk.reserve.bytes=25\ncorelane.cores=0-1\n\
         corelane.shard.port.offset=30\ncorelane.spin.us=26\ncorelane.durability=written\nadmin.listener=[::1]:27\n\
         transaction.state.log.min.isr=28\ntransaction.partition.verification.enable=false\n",
    );
    assert_eq!(config.node_id, BrokerId(7));
    assert_eq!(config.rack.as_deref(), Some("east"));
    assert_eq!((config.listeners[0].host.as_str(), config.listeners[0].port), ("localhost", 1234));
    assert_eq!(config.log_dirs, [PathBuf::from("/a"), PathBuf::from("b")]);
    assert!(!config.auto_create_topics_enable);
    let controller = Settings {
        num_partitions: 3,
        default_replication_factor: 2,
        delete_topic_enable: false,
        changes_per_request_max: 11,
        broker_settings: config.controller.broker_settings.clone(),
    };
    assert_eq!(config.controller, controller);
    let settings = topic_config::resolve(&BTreeMap::new(), &config.topic_defaults);
    assert_eq!(settings.max_message_bytes, 12);
    assert_eq!(settings.durability, crate::model::Durability::Written);
    assert_eq!(config.socket_request_max_bytes, 2_000_000);
    let live = config.live(LiveConfigs::NONE);
    assert_eq!((live.max_connections, live.max_connections_per_ip), (14, 15));
    let overrides = [("127.0.0.1", 2), ("::1", 3), ("host", 4)].map(|(host, count)| (host.to_owned(), count));
    assert_eq!(config.max_connections_per_ip_overrides, overrides);
    assert_eq!(config.connections_max_idle_ms, None);
    assert_eq!(config.fetch_max_bytes, 1024);
    assert_eq!(config.groups.initial_rebalance_delay_ms, 17);
    assert_eq!(live.producer_id_expiration_ms, 18);
    assert!(!live.verifies_transactions);
    assert_eq!(config.transactions_topic.min_insync_replicas, Some(28));
    assert_eq!((config.checkpoint_interval_ms, config.retention_check_interval_ms), (19, 20));
    let shard = ShardBudgets {
        request_bytes: 2_000_000,
        journal_bytes: 2_000_004,
        tail_cache_bytes: 2_000_001,
        read_ahead_bytes: 2_000_002,
        producer_state_bytes: 2_000_003,
    };
    assert_eq!(config.shard, shard);
    assert_eq!(config.disk_reserve_bytes, 25);
    assert_eq!(config.shard_port_offset, Some(30));
    assert_eq!((config.cores.as_deref(), config.spin_us), (Some("0-1"), 26));
    let admin = AdminListener { host: "::1".to_owned(), port: 27, is_set: true };
    assert_eq!(config.admin_listener, Some(admin));
}

#[test]
fn the_admin_listener_gives_way_to_clients_unless_it_is_set() {
    let (config, warnings) = load("listeners=PLAINTEXT://:9644", &[]).unwrap();
    assert_eq!(config.admin_listener, None);
    assert!(warnings[0].text.contains("admin.listener"), "{warnings:?}");
    let error = error("listeners=PLAINTEXT://:9644\nadmin.listener=localhost:9644");
    assert!(error.contains("admin.listener") && error.contains("PLAINTEXT"), "{error}");
}

#[test]
fn the_admin_listener_can_be_off_or_wrong() {
    for off in ["none", "None", ""] {
        assert_eq!(config(&format!("admin.listener={off}")).admin_listener, None, "{off}");
    }
    let everywhere = AdminListener { host: String::new(), port: 0, is_set: true };
    assert_eq!(config("admin.listener=:0").admin_listener, Some(everywhere));
    for wrong in
        ["9644", "localhost", "localhost:", "localhost:66000", "[::1:9644", "a b:1", "http://localhost:1"]
    {
        let error = error(&format!("admin.listener={wrong}"));
        assert!(error.contains("admin.listener") && error.contains("must be host:port"), "{error}");
    }
}

/// What Kafka 4 ships as config/server.properties.
const STOCK: &str = "\
# comment
process.roles=broker,controller
node.id=1
controller.quorum.bootstrap.servers=localhost:9093
listeners=PLAINTEXT://:9092,CONTROLLER://:9093
inter.broker.listener.name=PLAINTEXT
advertised.listeners=PLAINTEXT://localhost:9092,CONTROLLER://localhost:9093
controller.listener.names=CONTROLLER
listener.security.protocol.map=CONTROLLER:PLAINTEXT,PLAINTEXT:PLAINTEXT,SSL:SSL,SASL_PLAINTEXT:SASL_PLAINTEXT,SASL_SSL:SASL_SSL
num.network.threads=3
num.io.threads=8
socket.send.buffer.bytes=102400
socket.receive.buffer.bytes=102400
socket.request.max.bytes=104857600
log.dirs=/tmp/kraft-combined-logs
num.partitions=1
num.recovery.threads.per.data.dir=1
offsets.topic.replication.factor=1
share.coordinator.state.topic.replication.factor=1
share.coordinator.state.topic.min.isr=1
transaction.state.log.replication.factor=1
transaction.state.log.min.isr=1
#log.flush.interval.messages=10000
log.retention.hours=168
#log.retention.bytes=1073741824
log.segment.bytes=1073741824
log.retention.check.interval.ms=300000
";

#[test]
fn kafkas_own_file_is_taken_as_it_is() {
    let (config, warnings) = load(STOCK, &[]).unwrap();
    assert_eq!(config.listeners.len(), 1);
    assert_eq!(config.log_dirs, [PathBuf::from("/tmp/kraft-combined-logs")]);
    assert!(warnings.iter().all(|warning| warning.severity == Severity::Info), "{warnings:?}");
    assert_eq!(
        warnings.len(),
        2,
        "one line for all that has no effect, one for the controller: {warnings:?}"
    );
    assert!(warnings[0].text.contains("num.network.threads, num.recovery.threads.per.data.dir"));
    assert!(
        warnings[1].text.starts_with("server.properties:5: listeners: CONTROLLER://:9093 is passed over")
    );
}

#[test]
fn sets_go_over_the_file_and_the_last_wins() {
    let (config, warnings) =
        load("num.partitions=3\nnode.id=4", &["num.partitions=5", "num.partitions = 6 "]).unwrap();
    assert_eq!(warnings, []);
    assert_eq!(config.controller.num_partitions, 6);
    assert_eq!(config.node_id, BrokerId(4));
    for (set, expected) in [
        ("num.partitions", "--set num.partitions: must be key=value"),
        ("=5", "--set =5: must be key=value"),
        (
            "num.partitions=x",
            "--set: invalid value x for num.partitions: must be a whole number from 1 to 2147483647",
        ),
    ] {
        assert_eq!(load("", &[set]).unwrap_err().to_string(), expected);
    }
}

#[test]
fn a_bad_value_says_where_and_what_is_allowed() {
    for (text, expected) in [
        (
            "#\nnum.partitions=0",
            "server.properties:2: invalid value 0 for num.partitions: must be a whole number from 1 to 2147483647",
        ),
        (
            "delete.topic.enable=maybe",
            "server.properties:1: invalid value maybe for delete.topic.enable: must be true or false",
        ),
        (
            "log.segment.bytes=1000",
            "server.properties:1: invalid value 1000 for log.segment.bytes: must be a whole number from 1048576 to 2147483647",
        ),
        (
            "log.retention.hours=soon",
            "server.properties:1: invalid value soon for log.retention.hours: must be a whole number from -1 to 2147483647",
        ),
        (
            "corelane.durability=often",
            "server.properties:1: invalid value often for corelane.durability: must be one of flushed, written",
        ),
        // settings without effect are checked too
        (
            "num.io.threads=0",
            "server.properties:1: invalid value 0 for num.io.threads: must be a whole number from 1 to 2147483647",
        ),
        (
            "log.dirs=",
            "server.properties:1: invalid value  for log.dirs: must be a comma-separated list that is not empty",
        ),
        ("log.dirs=a,./a/", "server.properties:1: invalid value a,./a/ for log.dirs: ./a/ occurs twice"),
        (
            "node.id=1\nbroker.id=2",
            "server.properties:2: invalid value 2 for broker.id: must be the same as node.id, which is 1, or not set",
        ),
        (
            "corelane.shard.request.bytes=1048576",
            "server.properties:1: invalid value 1048576 for corelane.shard.request.bytes: must be at least \
             socket.request.max.bytes, which is 104857600",
        ),
        (
            "authorizer.class.name=org.apache.kafka.metadata.authorizer.StandardAuthorizer",
            "server.properties:1: invalid value org.apache.kafka.metadata.authorizer.StandardAuthorizer for \
             authorizer.class.name: access control is not available yet; without this setting everybody may do \
             everything",
        ),
        (
            "process.roles=controller",
            "server.properties:1: invalid value controller for process.roles: must have broker, every corelane node is one",
        ),
        (
            "max.connections.per.ip.overrides=localhost",
            "server.properties:1: invalid value localhost for max.connections.per.ip.overrides: must be address:count \
             pairs, separated by commas",
        ),
        (
            "log.cleaner.min.compaction.lag.ms=9\nlog.cleaner.max.compaction.lag.ms=8",
            "defaults of topics: min.compaction.lag.ms (9) must not be larger than max.compaction.lag.ms (8)",
        ),
        ("a=\\u12x4", "server.properties:1: \\u12x4: \\u takes four hexadecimal digits"),
    ] {
        assert_eq!(error(text), expected);
    }
}

#[test]
fn an_unknown_key_is_a_warning_with_the_nearest_known_one() {
    for (text, expected) in [
        ("num.partition=3", "unknown setting num.partition is ignored, did you mean num.partitions?"),
        (
            "log.retention.hour=3",
            "unknown setting log.retention.hour is ignored, did you mean log.retention.hours?",
        ),
        (
            "auto.create.topic.enabled=true",
            "unknown setting auto.create.topic.enabled is ignored, did you mean auto.create.topics.enable?",
        ),
        ("retention.ms=3", "unknown setting retention.ms is ignored, did you mean log.retention.ms?"),
        (
            "max.message.bytes=3",
            "unknown setting max.message.bytes is ignored, did you mean message.max.bytes?",
        ),
        ("corelane.spin.ms=3", "unknown setting corelane.spin.ms is ignored, did you mean corelane.spin.us?"),
        ("something.else.entirely=3", "unknown setting something.else.entirely is ignored"),
        ("x", "unknown setting x is ignored"),
    ] {
        assert_eq!(warnings(text), [format!("W server.properties:1: {expected}")]);
    }
}

#[test]
fn what_is_worth_a_word() {
    for (text, expected) in [
        (
            "num.partitions=1\nnum.partitions=2",
            "W num.partitions is set twice: server.properties:2 wins over server.properties:1",
        ),
        (
            "create.topic.policy.class.name=a.B",
            "W server.properties:1: create.topic.policy.class.name names a Java class, which cannot be loaded: nothing \
             enforces it",
        ),
        (
            "ssl.keystore.location=/secret\nlistener.name.x.sasl.enabled.mechanisms=PLAIN\nqueued.max.requests=5",
            "I settings of Kafka without effect here: listener.name.x.sasl.enabled.mechanisms, queued.max.requests, \
             ssl.keystore.location",
        ),
        (
            "listeners=PLAINTEXT://0.0.0.0:9092",
            "I server.properties:1: listeners: PLAINTEXT://0.0.0.0:9092 takes connections on every interface, but \
             tells clients to connect to localhost; set advertised.listeners to what they can reach",
        ),
    ] {
        assert_eq!(warnings(text), [expected]);
    }
}

#[test]
fn reads_java_properties() {
    for (text, expected) in [
        ("", vec![]),
        ("\n  \t\n#c\n  !c=1\n", vec![]),
        ("a=b", vec![("a", "b", 1)]),
        ("a:b", vec![("a", "b", 1)]),
        ("a b", vec![("a", "b", 1)]),
        ("a", vec![("a", "", 1)]),
        ("  a  =  b  ", vec![("a", "b  ", 1)]),
        ("a = = b", vec![("a", "= b", 1)]),
        ("a\t:\tb", vec![("a", "b", 1)]),
        ("a b=c", vec![("a", "b=c", 1)]),
        ("=b", vec![("", "b", 1)]),
        ("a\\=b\\:c\\ d=e", vec![("a=b:c d", "e", 1)]),
        ("a=x\\ty\\nz\\q\\\\", vec![("a", "x\ty\nzq\\", 1)]),
        ("a=\\u00e4\\ud83d\\ude00", vec![("a", "\u{e4}\u{1f600}", 1)]),
        ("a=b#c!d", vec![("a", "b#c!d", 1)]),
        ("a=1\r\nb=2\rc=3\n", vec![("a", "1", 1), ("b", "2", 2), ("c", "3", 3)]),
        // continued lines; the blanks that begin the next belong to nobody
        ("a=b\\\n   c\\\n\td\ne=f", vec![("a", "bcd", 1), ("e", "f", 4)]),
        ("a=b\\\\\nc=d", vec![("a", "b\\", 1), ("c", "d", 2)]),
        ("a=b\\\\\\\nc", vec![("a", "b\\c", 1)]),
        ("a=b\\", vec![("a", "b", 1)]),
        ("a\\\n=b", vec![("a", "b", 1)]),
        // a comment cannot be continued, and a continuation is no comment
        ("# a\\\nb=c", vec![("b", "c", 2)]),
        ("a=b\\\n#c", vec![("a", "b#c", 1)]),
        ("\u{feff}a=b", vec![("a", "b", 1)]),
        ("a=1\na=2", vec![("a", "1", 1), ("a", "2", 2)]),
    ] {
        let expected: Vec<Property> = expected
            .into_iter()
            .map(|(key, value, line)| Property { key: key.to_owned(), value: value.to_owned(), line })
            .collect();
        assert_eq!(parse(text), Ok(expected), "{text:?}");
    }
    for (text, line) in [("a=1\nb=\\u12", 2), ("a=\\uzzzz", 1), ("a=\\u+123", 1), ("a=\\ud83d", 1)] {
        assert_eq!(parse(text).unwrap_err().0, line, "{text}");
    }
}

/// Each listener as `NAME host:port -> advertised host:port`.
fn listeners(text: &str) -> Vec<String> {
    let (config, _) = load(text, &[]).unwrap();
    let show = |listener: &Listener| {
        let Listener { name, host, port, advertised_host, advertised_port, .. } = listener;
        format!("{name} {host}:{port} -> {advertised_host}:{advertised_port}")
    };
    config.listeners.iter().map(show).collect()
}

#[test]
fn puts_listeners_together() {
    for (text, expected) in [
        ("listeners=PLAINTEXT://:1", vec!["PLAINTEXT :1 -> localhost:1"]),
        ("listeners=plaintext://Host-1.x_y:1", vec!["PLAINTEXT Host-1.x_y:1 -> Host-1.x_y:1"]),
        ("listeners=PLAINTEXT://0.0.0.0:1", vec!["PLAINTEXT 0.0.0.0:1 -> localhost:1"]),
        ("listeners=PLAINTEXT://[::]:1", vec!["PLAINTEXT :::1 -> localhost:1"]),
        ("listeners=PLAINTEXT://[::1]:1", vec!["PLAINTEXT ::1:1 -> ::1:1"]),
        ("listeners=PLAINTEXT://:0", vec!["PLAINTEXT :0 -> localhost:0"]),
        (
            "listeners=IN://:1,OUT://:2\nlistener.security.protocol.map=IN:PLAINTEXT,out:plaintext\n\
             advertised.listeners=OUT://example.com:99",
            vec!["IN :1 -> localhost:1", "OUT :2 -> example.com:99"],
        ),
        ("advertised.listeners=PLAINTEXT://example.com:9", vec!["PLAINTEXT :9092 -> example.com:9"]),
        ("advertised.listeners=PLAINTEXT://:9", vec!["PLAINTEXT :9092 -> localhost:9"]),
        ("listeners=PLAINTEXT://:1,CONTROLLER://:2", vec!["PLAINTEXT :1 -> localhost:1"]),
        ("listeners=PLAINTEXT://:1,C://:2\ncontroller.listener.names=C", vec!["PLAINTEXT :1 -> localhost:1"]),
        (
            "listeners=A://127.0.0.1:1,B://[::1]:1\nlistener.security.protocol.map=A:PLAINTEXT,B:PLAINTEXT",
            vec!["A 127.0.0.1:1 -> 127.0.0.1:1", "B ::1:1 -> ::1:1"],
        ),
    ] {
        assert_eq!(listeners(text), expected, "{text}");
    }
}

#[test]
fn refuses_listeners_that_cannot_be() {
    let shape = "must be NAME://host:port, an IPv6 address in brackets, the port from 0 to 65535";
    for (text, expected) in [
        ("listeners=:9092", format!(":9092: {shape}")),
        ("listeners=PLAINTEXT://localhost", format!("PLAINTEXT://localhost: {shape}")),
        ("listeners=PLAINTEXT://:65536", format!("PLAINTEXT://:65536: {shape}")),
        ("listeners=PLAINTEXT://:-1", format!("PLAINTEXT://:-1: {shape}")),
        ("listeners=PLAINTEXT://[::1:9092", format!("PLAINTEXT://[::1:9092: {shape}")),
        ("listeners=PLAINTEXT://[host]:9092", format!("PLAINTEXT://[host]:9092: {shape}")),
        ("listeners=PLAINTEXT://a/b:9092", format!("PLAINTEXT://a/b:9092: {shape}")),
        ("listeners=://a:9092", format!("://a:9092: {shape}")),
        ("listeners=SSL://:9092", "SSL://:9092: SSL is not available yet, only PLAINTEXT is".to_owned()),
        (
            "listeners=X://:9092\nlistener.security.protocol.map=X:SASL_SSL",
            "X://:9092: SASL_SSL is not available yet, only PLAINTEXT is".to_owned(),
        ),
        (
            "listeners=INTERNAL://:9092",
            "INTERNAL://:9092: listener.security.protocol.map has no protocol for INTERNAL".to_owned(),
        ),
        (
            "listeners=PLAINTEXT://:1,plaintext://:2",
            "plaintext://:2: the name PLAINTEXT occurs twice".to_owned(),
        ),
        (
            "listeners=PLAINTEXT://:1,X://localhost:1\nlistener.security.protocol.map=X:PLAINTEXT",
            "X://localhost:1: the port 1 is taken by PLAINTEXT".to_owned(),
        ),
        ("listeners=CONTROLLER://:9093", "CONTROLLER://:9093: no listener for clients".to_owned()),
    ] {
        assert_eq!(error(text), format!("server.properties:1: listeners: {expected}"));
    }
    for (text, expected) in [
        ("PLAINTEXT://0.0.0.0:9", "clients cannot connect to this address; name one that they can reach"),
        ("PLAINTEXT://[::]:9", "clients cannot connect to this address; name one that they can reach"),
        ("PLAINTEXT://a:0", "clients cannot connect to port 0"),
        ("SSL://a:9", "listeners has no SSL"),
        ("a:9", shape),
    ] {
        assert_eq!(
            error(&format!("advertised.listeners={text}")),
            format!("server.properties:1: advertised.listeners: {text}: {expected}")
        );
    }
    assert_eq!(
        error("listener.security.protocol.map=X:TLS"),
        "server.properties:1: listener.security.protocol.map: X:TLS: must be NAME:PROTOCOL, the protocol one of \
         PLAINTEXT, SSL, SASL_PLAINTEXT, SASL_SSL"
    );
}

#[test]
fn knows_which_listeners_anybody_can_use() {
    for (host, open) in [
        ("", true),
        ("0.0.0.0", true),
        ("[::]", true),
        ("192.168.0.1", true),
        ("example.com", true),
        ("localhost", false),
        ("127.0.0.1", false),
        ("127.8.9.1", false),
        ("[::1]", false),
        ("[::ffff:127.0.0.1]", false),
        ("[::ffff:10.0.0.1]", true),
    ] {
        let (config, _) = load(&format!("listeners=PLAINTEXT://{host}:9092"), &[]).unwrap();
        assert_eq!(!config.open_listeners().is_empty(), open, "{host}");
    }
}

#[test]
fn shards_have_ports_where_there_is_room() {
    let on = |offset: u16, listeners: &str| {
        format!(
            "corelane.shard.port.offset={offset}\nlisteners={listeners}\n\
             listener.security.protocol.map=A:PLAINTEXT,B:PLAINTEXT\n"
        )
    };
    let (one, two) = ("A://localhost:9092", "A://localhost:9092,B://localhost:9192");
    for (text, shards, expect) in [
        (String::new(), 5000, ""),
        (on(0, two), 5000, ""),
        (on(1000, one), 4, ""),
        (on(1000, two), 100, ""),
        (on(1000, "A://:0"), 2000, ""),
        (on(1000, "A://127.0.0.1:9092,B://127.0.0.2:10093"), 4, ""),
        (on(1000, two), 101, "A of shard 100 needs port 10192, and so does a shard of B"),
        (on(98, two), 2, ""),
        (on(98, two), 3, "A of shard 2 needs port 9192, which the listener B has"),
        (on(98, "A://:9092,B://localhost:9192"), 3, "A of shard 2 needs port 9192, which the listener B has"),
        (on(551, one), 2, "A of shard 1 needs port 9644, which admin.listener has"),
        (on(551, one) + "admin.listener=none", 2, ""),
        (on(56_440, one), 4, ""),
        (on(56_440, one), 5, "A listens on port 9092, and shard 4 would have port 65536, above 65535"),
        (
            on(1000, one) + "advertised.listeners=A://there:64530",
            8,
            "A is advertised with port 64530, and shard 7 would have port 65537, above 65535",
        ),
        (on(1, "A://:0"), 2147, ""),
        (on(1, "A://:0"), 2148, "clients can tell at most 2147 shards apart"),
    ] {
        let config = load(&text, &[]).unwrap().0;
        let offset = config.shard_port_offset.unwrap_or(0);
        let expect = match expect {
            "" => Ok(()),
            what => Err(ConfigError(format!(
                "invalid value {offset} for corelane.shard.port.offset: {what}; choose another, or 0 for none"
            ))),
        };
        assert_eq!(config.check_shard_ports(shards), expect, "{shards} shards: {text}");
    }

    let config = load(&(on(1000, two) + "advertised.listeners=A://there:19092"), &[]).unwrap().0;
    let told = |listener: &Listener| {
        let port = listener.shard_port(1000, 3);
        (port, listener.advertised_shard_port(1000, 3, port))
    };
    assert_eq!(config.listeners.iter().map(told).collect::<Vec<_>>(), [(10_095, 20_095), (10_195, 10_195)]);
    let any = &load(&on(1000, "A://:0"), &[]).unwrap().0.listeners[0];
    assert_eq!((any.shard_port(1000, 3), any.advertised_shard_port(1000, 3, 4711)), (0, 4711));

    assert_eq!(
        error("node.id=1000000\ncorelane.shard.port.offset=1"),
        "server.properties:1: invalid value 1000000 for node.id: must be below 1000000 where \
         corelane.shard.port.offset makes each shard a node to clients"
    );
    assert_eq!(config.shard_port_offset, Some(1000));
    assert_eq!(load("node.id=1000000", &[]).unwrap().0.shard_port_offset, None);
}

#[test]
fn either_name_of_the_node_id_will_do() {
    for (text, id) in
        [("", 1), ("node.id=0", 0), ("broker.id=5", 5), ("broker.id=-1", 1), ("node.id=3\nbroker.id=3", 3)]
    {
        let config = config(text);
        assert_eq!(config.node_id, BrokerId(id), "{text}");
        if id != 1 {
            let described = config.describe(LiveConfigs::NONE);
            for name in ["node.id", "broker.id"] {
                let entry = described.iter().find(|entry| entry.name == name).unwrap();
                assert_eq!(entry.value, Some(id.to_string()), "{name}");
            }
        }
    }
}

#[test]
fn tests_may_have_small_segments() {
    // the order of the lines does not matter
    let config = config("log.segment.bytes=8192\ncorelane.segment.bytes.min=4096");
    assert_eq!(topic_config::resolve(&BTreeMap::new(), &config.topic_defaults).segment_bytes, 8192);
    assert!(error("corelane.segment.bytes.min=100").contains("corelane.segment.bytes.min"));
}

#[test]
fn the_table_is_sound() {
    assert!(TABLE.is_sorted_by_key(|row| row.setting.name));
    let inherited = topic_config::TABLE.iter().flat_map(|topic| topic.synonyms).map(|synonym| synonym.name);
    for name in inherited {
        assert!(load::find(name).is_none(), "{name} is in both tables");
        assert!(!ignored::is_known(name) || name.starts_with("log."), "{name}");
    }
    for row in TABLE {
        let setting = &row.setting;
        if let Some(default) = setting.default {
            assert_eq!(setting.parse(default).as_deref(), Ok(default), "{}", setting.name);
        }
        assert!(setting.doc.ends_with('.') && !setting.doc.contains('\n'), "{}", setting.name);
    }
    assert!(ignored::is_known("log.cleaner.io.buffer.size") && ignored::is_known("ssl.keystore.password"));
    assert!(!ignored::is_known("ssl"));
}

/// Whatever a number's range allows, its field can hold: setting each to its ends must not panic.
#[test]
fn every_allowed_number_fits_its_field() {
    for row in TABLE {
        for value in ["-9223372036854775808", "-1", "0", "1", "32767", "2147483647", "9223372036854775807"] {
            if let Ok((config, _)) = load(&format!("{}={value}", row.setting.name), &[]) {
                let _ = config.live(LiveConfigs::NONE);
            }
        }
    }
}

#[test]
fn describes_every_setting() {
    let config = config("log.retention.hours=2\nnum.partitions=3\nlog.dirs=/x");
    let entries = config.describe(LiveConfigs::NONE);
    assert!(entries.is_sorted_by_key(|entry| entry.name));
    assert!(entries.iter().all(|entry| !entry.sensitive));
    let is_read_only = |name: &str| entries.iter().find(|entry| entry.name == name).unwrap().read_only;
    for name in ["num.partitions", "log.retention.hours", "log.dirs", "max.connections.per.ip.overrides"] {
        assert!(is_read_only(name), "{name}");
    }
    for name in ["log.retention.ms", "max.connections", "log.cleaner.threads", "corelane.durability"] {
        assert!(!is_read_only(name), "{name}");
    }
    let entry = |name: &str| entries.iter().find(|entry| entry.name == name).unwrap();
    let show = |name: &str| {
        let entry = entry(name);
        let synonyms = entry.synonyms.iter();
        let synonyms = synonyms.map(|s| format!("{}={} {:?}", s.name, s.value.as_deref().unwrap(), s.source));
        (entry.value.as_deref(), entry.source, synonyms.collect::<Vec<_>>().join(", "))
    };
    assert_eq!(
        show("num.partitions"),
        (
            Some("3"),
            ConfigSource::StaticBroker,
            "num.partitions=3 StaticBroker, num.partitions=1 Default".to_owned()
        )
    );
    assert_eq!(
        show("log.dir"),
        (Some("./corelane-data"), ConfigSource::Default, "log.dir=./corelane-data Default".to_owned())
    );
    assert_eq!(show("broker.rack"), (None, ConfigSource::Default, String::new()));
    // what decides is told of the setting that decides
    let decides = "log.retention.hours=2 StaticBroker, log.retention.hours=168 Default".to_owned();
    assert_eq!(show("log.retention.ms"), (None, ConfigSource::Default, String::new()));
    assert_eq!(show("log.retention.hours"), (Some("2"), ConfigSource::StaticBroker, decides));
    // what tools look for
    for name in
        ["min.insync.replicas", "log.segment.bytes", "offsets.topic.replication.factor", "message.max.bytes"]
    {
        assert!(entry(name).value.is_some(), "{name}");
    }
}

fn overrides(text: &str) -> BTreeMap<String, String> {
    let pairs = text.split(' ').filter(|pair| !pair.is_empty()).map(|pair| pair.split_once('=').unwrap());
    pairs.map(|(key, value)| (key.to_owned(), value.to_owned())).collect()
}

fn show(entries: &[ConfigEntry], name: &str) -> String {
    let entry = entries.iter().find(|entry| entry.name == name).unwrap_or_else(|| panic!("no {name}"));
    let synonyms = entry.synonyms.iter();
    let synonyms: Vec<String> = synonyms
        .map(|s| format!("{}={} {:?}", s.name, s.value.as_deref().unwrap_or("null"), s.source))
        .collect();
    format!("{} {:?}: {}", entry.value.as_deref().unwrap_or("null"), entry.source, synonyms.join(", "))
}

#[test]
fn what_is_set_while_the_broker_runs_goes_first() {
    let config = config("log.retention.hours=2\nmax.connections=3\nlog.cleaner.threads=4\nnode.id=1");
    let of_broker = overrides("max.connections=5 log.retention.ms=7");
    let of_all = overrides("max.connections=6 log.retention.ms=8 log.cleaner.backoff.ms=9");
    let live = LiveConfigs { of_broker: &of_broker, of_all: &of_all };
    let entries = config.describe(live);
    for (name, expected) in [
        (
            "max.connections",
            "5 DynamicBroker: max.connections=5 DynamicBroker, max.connections=6 DynamicDefaultBroker, \
             max.connections=3 StaticBroker, max.connections=2147483647 Default",
        ),
        (
            "log.retention.ms",
            "7 DynamicBroker: log.retention.ms=7 DynamicBroker, log.retention.ms=8 DynamicDefaultBroker, \
             log.retention.hours=2 StaticBroker, log.retention.hours=168 Default",
        ),
        (
            "log.cleaner.threads",
            "4 StaticBroker: log.cleaner.threads=4 StaticBroker, log.cleaner.threads=1 Default",
        ),
    ] {
        assert_eq!(show(&entries, name), expected);
    }
    let of_default = config.describe_default(live);
    let names: Vec<&str> = of_default.iter().map(|entry| entry.name).collect();
    assert_eq!(names, ["log.cleaner.backoff.ms", "log.retention.ms", "max.connections"]);
    assert_eq!(
        show(&of_default, "max.connections"),
        "6 DynamicDefaultBroker: max.connections=6 DynamicDefaultBroker"
    );
    assert!(config.describe_default(LiveConfigs::NONE).is_empty());

    let values = config.live(live);
    assert_eq!((values.max_connections, values.cleaner.backoff_ms, values.cleaner.threads), (5, 9, 4));
    let odd = overrides("max.connections=many");
    let values = config.live(LiveConfigs { of_broker: &odd, of_all: &of_all });
    assert_eq!(values.max_connections, 3, "what cannot be read counts as not set");
}

#[test]
fn a_group_has_its_own_configs_over_the_brokers() {
    let config = load("group.share.delivery.count.limit=6", &[]).unwrap().0;
    let entries = config.describe_group(&overrides("consumer.session.timeout.ms=50000"), LiveConfigs::NONE);
    assert!(entries.is_sorted_by_key(|entry| entry.name));
    assert_eq!(entries.len(), group_config::TABLE.len());
    assert!(entries.iter().all(|entry| !entry.read_only));
    for (name, expected) in [
        (
            "consumer.session.timeout.ms",
            "50000 Group: consumer.session.timeout.ms=50000 Group, group.consumer.session.timeout.ms=45000 Default",
        ),
        (
            "share.delivery.count.limit",
            "6 StaticBroker: group.share.delivery.count.limit=6 StaticBroker, group.share.delivery.count.limit=5 Default",
        ),
        ("share.isolation.level", "read_uncommitted Default: share.isolation.level=read_uncommitted Default"),
        ("share.assignor.offload.enable", "true Default: share.assignor.offload.enable=true Default"),
    ] {
        assert_eq!(show(&entries, name), expected);
    }
}

#[test]
fn the_reference_lists_everything() {
    let reference = reference_markdown();
    let settings = TABLE.iter().map(|row| row.setting.name);
    let inherited = topic_config::TABLE.iter().flat_map(|topic| topic.synonyms).map(|synonym| synonym.name);
    let topics = topic_config::TABLE.iter().map(|topic| topic.setting.name);
    let groups = group_config::TABLE.iter().map(|config| config.setting.name);
    for name in settings.chain(inherited).chain(topics).chain(groups) {
        assert!(reference.contains(&format!("| `{name}` |")), "{name}");
    }
    assert!(reference.contains(
        "| `num.partitions` | `1` | a whole number from 1 to 2147483647 | Partitions of a topic that is created without \
         saying how many. |"
    ));
    for line in reference.lines().filter(|line| line.starts_with('|')) {
        assert_eq!(line.matches('|').count(), 5, "{line}");
    }
}

//! The APIs about configs beside those in `apis`, each in every version: what is asked is answered, in that version's
//! own format, and errors are Kafka's.

use kafka_protocol::messages::alter_configs_request::{AlterConfigsResource, AlterableConfig};
use kafka_protocol::messages::create_topics_request::CreatableTopic;
use kafka_protocol::messages::describe_configs_request::DescribeConfigsResource;
use kafka_protocol::messages::{
    AlterConfigsRequest, CreateTopicsRequest, DescribeConfigsRequest, ListConfigResourcesRequest, TopicName,
};

use crate::harness::{Broker, Setup};
use crate::wire::{self, Wire, string};

const NONE: i16 = 0;
const UNKNOWN_TOPIC_OR_PARTITION: i16 = 3;
const INVALID_TOPIC: i16 = 17;
const UNSUPPORTED_VERSION: i16 = 35;
const INVALID_CONFIG: i16 = 40;
const INVALID_REQUEST: i16 = 42;

const TOPIC: i8 = 2;
const BROKER: i8 = 4;
const BROKER_LOGGER: i8 = 8;
const CLIENT_METRICS: i8 = 16;
const GROUP: i8 = 32;

/// What is set of a topic, `key=value` by key.
fn overrides(wire: &mut Wire, topic: &str) -> String {
    const OF_THE_TOPIC: i8 = 1;
    let resource =
        DescribeConfigsResource::default().with_resource_type(TOPIC).with_resource_name(string(topic));
    let resource = resource.with_configuration_keys(None);
    let request = DescribeConfigsRequest::default().with_resources(vec![resource]);
    let result = wire.call(&request, 4).results.remove(0);
    let own = result.configs.iter().filter(|config| config.config_source == OF_THE_TOPIC);
    let mut own: Vec<String> = own
        .map(|config| format!("{}={}", &*config.name, config.value.as_deref().unwrap_or("null")))
        .collect();
    own.sort();
    own.join(" ")
}

fn replaced(kind: i8, of: &str, configs: &[(&str, Option<&str>)]) -> AlterConfigsResource {
    let configs = configs
        .iter()
        .map(|(key, value)| AlterableConfig::default().with_name(string(key)).with_value(value.map(string)));
    AlterConfigsResource::default()
        .with_resource_type(kind)
        .with_resource_name(string(of))
        .with_configs(configs.collect())
}

#[test]
fn alter_configs() {
    let broker = Broker::start();
    let mut wire = Wire::connect(broker.bootstrap());
    for version in 0..=2 {
        let topic = wire::unique("replace");
        wire.create_topic(&topic, 1, &[("segment.ms", "5"), ("retention.ms", "6")]);
        let alter = |wire: &mut Wire, resources: Vec<AlterConfigsResource>, validate_only: bool| {
            let names: Vec<_> =
                resources.iter().map(|of| (of.resource_type, of.resource_name.clone())).collect();
            let request =
                AlterConfigsRequest::default().with_resources(resources).with_validate_only(validate_only);
            let told = wire.call(&request, version).responses;
            let told_names: Vec<_> =
                told.iter().map(|told| (told.resource_type, told.resource_name.clone())).collect();
            assert_eq!(told_names, names, "v{version}");
            for told in &told {
                assert_eq!(told.error_message.is_some(), told.error_code != NONE, "v{version}: {told:?}");
            }
            told.into_iter().map(|told| told.error_code).collect::<Vec<i16>>()
        };
        let set =
            || replaced(TOPIC, &topic, &[("retention.ms", Some("7")), ("cleanup.policy", Some("compact"))]);
        assert_eq!(alter(&mut wire, vec![set()], true), [NONE], "v{version}");
        assert_eq!(overrides(&mut wire, &topic), "retention.ms=6 segment.ms=5", "v{version}: only tried");
        assert_eq!(alter(&mut wire, vec![set()], false), [NONE], "v{version}");
        assert_eq!(overrides(&mut wire, &topic), "cleanup.policy=compact retention.ms=7", "v{version}");

        let key = "retention.ms";
        let refused = [
            (replaced(TOPIC, &topic, &[(key, Some("never"))]), INVALID_CONFIG),
            (replaced(TOPIC, "nowhere", &[(key, Some("7"))]), UNKNOWN_TOPIC_OR_PARTITION),
            (replaced(TOPIC, "a b", &[(key, Some("7"))]), INVALID_TOPIC),
            (replaced(TOPIC, "", &[(key, Some("7"))]), INVALID_REQUEST),
            (replaced(BROKER, "1", &[(key, Some("7"))]), INVALID_REQUEST),
            (replaced(BROKER_LOGGER, "1", &[("root", Some("DEBUG"))]), INVALID_REQUEST),
            (replaced(CLIENT_METRICS, "metrics", &[("interval.ms", Some("7"))]), INVALID_REQUEST),
            (replaced(99, "", &[]), INVALID_REQUEST),
            (replaced(TOPIC, "twice", &[]), INVALID_REQUEST),
            (replaced(TOPIC, "twice", &[]), INVALID_REQUEST),
        ];
        let (resources, codes): (Vec<_>, Vec<_>) = refused.into_iter().unzip();
        assert_eq!(alter(&mut wire, resources, false), codes, "v{version}");
        for odd in [&[("no.such", Some("1"))][..], &[(key, None)], &[(key, Some("1")), (key, Some("2"))]] {
            let expected = if odd[0].0 == key { INVALID_REQUEST } else { INVALID_CONFIG };
            assert_eq!(alter(&mut wire, vec![replaced(TOPIC, &topic, odd)], false), [expected], "v{version}");
        }
        assert_eq!(overrides(&mut wire, &topic), "cleanup.policy=compact retention.ms=7", "v{version}");
        assert_eq!(alter(&mut wire, vec![replaced(TOPIC, &topic, &[])], false), [NONE], "v{version}");
        assert_eq!(overrides(&mut wire, &topic), "", "v{version}: what is not named goes");
    }
}

#[test]
fn list_config_resources() {
    // more topics than are listed in one go
    const TOPICS: usize = 1001;
    let broker = Setup::new().start();
    let mut wire = Wire::connect(broker.bootstrap());
    let mut names: Vec<String> = (0..TOPICS).map(|index| format!("listed-{index}")).collect();
    let created = names.iter().map(|name| {
        CreatableTopic::default()
            .with_name(TopicName(string(name)))
            .with_num_partitions(1)
            .with_replication_factor(1)
    });
    let request = CreateTopicsRequest::default().with_topics(created.collect()).with_timeout_ms(30_000);
    assert!(wire.call(&request, 7).topics.iter().all(|told| told.error_code == NONE));
    names.sort();

    let answer = wire.call(&ListConfigResourcesRequest::default(), 0);
    assert_eq!(
        (answer.error_code, answer.config_resources.len()),
        (NONE, 0),
        "v0 tells of client metrics only"
    );
    let mut list = |kinds: &[i8]| {
        let request = ListConfigResourcesRequest::default().with_resource_types(kinds.to_vec());
        let answer = wire.call(&request, 1);
        let told = answer.config_resources.into_iter();
        (answer.error_code, told.map(|told| (told.resource_type, told.resource_name.to_string())).collect())
    };
    let of = |kind: i8, names: &[String]| names.iter().map(|name| (kind, name.clone())).collect::<Vec<_>>();
    let one = ["1".to_owned()];
    assert_eq!(list(&[TOPIC]), (NONE, of(TOPIC, &names)));
    assert_eq!(list(&[BROKER, BROKER]), (NONE, of(BROKER, &one)), "asked twice, told once");
    assert_eq!(list(&[GROUP, BROKER_LOGGER]), (NONE, of(BROKER_LOGGER, &one)));
    assert_eq!(list(&[CLIENT_METRICS, GROUP]), (NONE, Vec::new()));
    let all = [of(TOPIC, &names), of(BROKER, &one), of(BROKER_LOGGER, &one)].concat();
    assert_eq!(list(&[]), (NONE, all));
    for unknown in [0, 1, 3, 64, -1] {
        assert_eq!(list(&[TOPIC, unknown]), (UNSUPPORTED_VERSION, Vec::new()), "{unknown}");
    }
}

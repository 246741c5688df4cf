//! Features: what a registration finalizes, and what may be asked for then.

use super::*;
use crate::metadata::features::{
    KAFKA_METADATA_VERSION, KAFKA_METADATA_VERSION_LEVEL, TRANSACTION_VERSION, supported,
};

#[test]
fn a_first_registration_finalizes_every_feature() {
    let mut cluster = Cluster::new(0);
    let finalized = |records: &[Record]| {
        let levels = records.iter().filter_map(|record| match record {
            Record::FeatureLevel { name, level } => Some(format!("{name}={level}")),
            _ => None,
        });
        levels.collect::<Vec<_>>()
    };
    let first = cluster.decide("register 1 7");
    assert_eq!(
        finalized(&first.records),
        ["corelane.metadata.version=1", "metadata.version=25", "transaction.version=2"]
    );
    assert_eq!(finalized(&cluster.decide("register 2 8").records), [""; 0]);
    for feature in supported() {
        let level = cluster.image().feature_level(&feature.name);
        assert!((feature.min..=feature.max).contains(&level), "{feature:?}");
    }

    // a log of before the feature was known
    let old = Image::new("cluster", TopicDefaults::default());
    let mut cluster = Cluster { controller: Controller::new(Settings::default(), old), random: Random(1) };
    let level = Record::FeatureLevel { name: METADATA_VERSION.to_owned(), level: 1 };
    let mut image = cluster.image().clone();
    image.replay(&level).unwrap();
    cluster.controller = Controller::new(Settings::default(), image);
    assert_eq!(
        finalized(&cluster.decide("register 1 7").records),
        ["metadata.version=25", "transaction.version=2"]
    );
}

#[test]
fn a_level_this_version_does_not_know_is_an_error() {
    for feature in supported() {
        let mut image = Cluster::new(1).image().clone();
        let record = Record::FeatureLevel { name: feature.name, level: feature.max + 1 };
        assert!(image.replay(&record).is_err(), "{record:?}");
    }
}

/// A level that was chosen stays, also 0, which is as if there were none. Clients see by the epoch that it has changed.
#[test]
fn a_level_may_be_chosen() {
    let mut cluster = Cluster::new(1);
    let mut epoch = cluster.image().features_epoch();
    for (update, level) in [
        ("finalize transaction.version=1/safe", 1),
        ("finalize transaction.version=2", 2),
        ("finalize transaction.version=0/unsafe", 0),
    ] {
        assert_eq!(cluster.reply(update), "done", "{update}");
        assert_eq!(cluster.image().feature_level(TRANSACTION_VERSION), level);
        assert!(cluster.image().features_epoch() > epoch, "{update}");
        epoch = cluster.image().features_epoch();
    }
    let mut again = Image::new("cluster", TopicDefaults::default()).of_broker(BrokerId(1));
    cluster.image().records().iter().for_each(|record| again.replay(record).unwrap());
    assert_eq!(&again, cluster.image(), "a snapshot has it all");
    assert_eq!(
        cluster.reply("finalize transaction.version=3").split(':').next(),
        Some("InvalidUpdateVersion")
    );
    let registered = cluster.decide("register 1 77");
    assert!(!registered.records.iter().any(|record| matches!(record, Record::FeatureLevel { .. })));
    assert_eq!(cluster.image().feature_level(TRANSACTION_VERSION), 0);
    assert!(cluster.image().features_epoch() > epoch);
}

#[test]
fn updates() {
    let invalid = |update: &str, why: &str| {
        format!(
            "InvalidUpdateVersion: the update failed for all features since the following feature had an error: invalid \
             update version {update}: {why}"
        )
    };
    let mut cluster = Cluster::new(1);
    for (request, expected) in [
        ("finalize metadata.version=25", "done".to_owned()),
        ("finalize metadata.version=25/safe corelane.metadata.version=1/unsafe", "done".to_owned()),
        ("finalize validate metadata.version=25", "done".to_owned()),
        (
            "finalize metadata.version=26",
            invalid("26 for feature metadata.version", "the controller only supports versions 25-25"),
        ),
        (
            "finalize corelane.metadata.version=1 metadata.version=0/unsafe",
            invalid("0 for feature metadata.version", "the controller only supports versions 25-25"),
        ),
        (
            "finalize group.version=1",
            invalid("1 for feature group.version", "the controller does not support this feature"),
        ),
        (
            "finalize metadata.version=-1/safe",
            invalid("-1 for feature metadata.version", "a feature version cannot be less than 0"),
        ),
        (
            "finalize metadata.version=25/odd",
            invalid(
                "25 for feature metadata.version",
                "the controller does not support the given upgrade type",
            ),
        ),
    ] {
        assert!(cluster.decide(request).records.is_empty(), "{request}");
        assert_eq!(cluster.reply(request), expected, "{request}");
    }
}

/// A broker of an older version, and levels that only differ from what is finalized because nothing was.
#[test]
fn every_broker_must_support_a_level() {
    let register = |features: &[(&str, i16, i16)]| {
        let features = features.iter().map(|(name, min, max)| SupportedFeature {
            name: (*name).to_owned(),
            min: *min,
            max: *max,
        });
        let mut image = Image::new("cluster", TopicDefaults::default());
        let registration = Registration {
            broker: BrokerId(5),
            incarnation: 1,
            epoch: BrokerEpoch(0),
            rack: None,
            endpoints: Vec::new(),
            features: features.collect(),
            fenced: false,
        };
        image.replay(&Record::RegisterBroker(registration)).unwrap();
        Cluster { controller: Controller::new(Settings::default(), image), random: Random(1) }
    };
    let level = KAFKA_METADATA_VERSION_LEVEL;
    let finalize = format!("finalize {KAFKA_METADATA_VERSION}={level}");
    for (features, expected) in [
        (&[][..], "broker 5 does not support this feature"),
        (&[(KAFKA_METADATA_VERSION, 1, level - 1)], "broker 5 only supports versions 1-24"),
        (&[(KAFKA_METADATA_VERSION, 1, level)], ""),
    ] {
        let mut cluster = register(features);
        if expected.is_empty() {
            let safe = cluster.reply(&format!("{finalize}/safe"));
            assert!(safe.ends_with("can't downgrade to a newer version"), "{safe}");
            assert!(cluster.decide(&finalize.replace("finalize", "finalize validate")).records.is_empty());
            assert_eq!(cluster.decide(&finalize).records.len(), 1);
            assert_eq!(cluster.image().feature_level(KAFKA_METADATA_VERSION), level);
        } else {
            let reply = cluster.reply(&finalize);
            assert!(reply.ends_with(expected), "{reply}");
        }
    }
}

use super::*;

fn join_regex(member: &str, regex: &str) -> ConsumerGroupHeartbeatRequest {
    join(member, &[]).with_subscribed_topic_names(None).with_subscribed_topic_regex(Some(text(regex)))
}

fn broker() -> Broker {
    let mut broker = Broker::with_topics();
    broker.create("ab", 1);
    broker
}

#[test]
fn topics_are_named_by_an_expression() {
    let mut broker = broker();
    let response = broker.beat(join_regex("m", "a.*"));
    assert_eq!(kinds(&broker.records), "MREPTC");
    let Record::Regex { value: Some(value), .. } = &broker.records[1] else { panic!() };
    assert_eq!(value.topics, ["a", "ab"]);
    assert_eq!(told(&response), Some(has(&[(1, &[0, 1, 2, 3]), (3, &[0])])));
    // another member of the same expression, and one that names a topic
    broker.beat(join_regex("n", "a.*"));
    assert_eq!(kinds(&broker.records), "MEPPTC");
    broker.beat(join("o", &["a"]).with_subscribed_topic_regex(Some(text("b"))));
    assert_eq!(broker.describe().members[2].subscribed_topic_regex.as_deref(), Some("b"));
    // the last member takes its expression along
    broker.beat(heartbeat("o", -1));
    assert_eq!(kinds(&broker.records), "cpmrE");
    broker.beat(heartbeat("m", -1));
    assert_eq!(kinds(&broker.records), "cpmE");
    broker.beat(heartbeat("n", -1));
    assert_eq!(kinds(&broker.records), "cpmrET");
}

/// Whole names, whatever alternatives and brackets an expression has.
#[test]
fn expressions_match_whole_names() {
    let mut broker = broker();
    for (regex, topics) in [
        ("a", &["a"][..]),
        ("a|b", &["a", "b"]),
        ("(?i)A(B)?", &["a", "ab"]),
        (".*", &["a", "ab", "b"]),
        ("ab?$", &["a", "ab"]),
        ("c", &[]),
        ("", &[]),
    ] {
        broker.beat(join_regex("m", regex));
        let found = broker.records.iter().find_map(|record| match record {
            Record::Regex { value: Some(value), .. } => Some(value.topics.clone()),
            _ => None,
        });
        assert_eq!(found.unwrap_or_default(), topics, "{regex}");
    }
}

#[test]
fn what_is_no_expression_is_refused() {
    let mut broker = broker();
    let long = "a".repeat(5_000);
    let nested = format!("{}a{}", "(".repeat(200), ")".repeat(200));
    for regex in ["(", "a)|(b", "[", "(?x)a #", "a{1000}{1000}{1000}", "\\1", "(?=a)", &long, &nested] {
        assert_eq!(broker.refused(join_regex("m", regex)), ErrorCode::InvalidRegularExpression, "{regex}");
    }
    // and one that goes on keeps what it has
    broker.beat(join_regex("m", "a"));
    let bad = heartbeat("m", 2).with_subscribed_topic_regex(Some(text("(")));
    assert_eq!(broker.refused(bad), ErrorCode::InvalidRegularExpression);
    assert_eq!(told(&broker.beat(join_regex("m", "a"))), Some(has(&[(1, &[0, 1, 2, 3])])));
}

#[test]
fn a_member_changes_its_expression() {
    let mut broker = broker();
    broker.beat(join_regex("m", "a"));
    let other = broker.beat(heartbeat("m", 2).with_subscribed_topic_regex(Some(text("b"))));
    assert_eq!(kinds(&broker.records), "MrREPTC");
    assert_eq!((other.member_epoch, told(&other)), (2, Some(Has::new())));
    let moved = broker.beat(heartbeat("m", 2).with_topic_partitions(owned(&[])));
    assert_eq!(told(&moved), Some(has(&[(2, &[0, 1])])));
    // and takes names instead
    let named = heartbeat("m", 3)
        .with_subscribed_topic_regex(Some(text("")))
        .with_subscribed_topic_names(names(&["b"]));
    assert_eq!(told(&broker.beat(named)), None);
    assert_eq!(kinds(&broker.records), "MrEPTC".replace("P", ""));
}

#[test]
fn new_topics_are_found_soon_and_old_ones_looked_at_now_and_then() {
    let mut broker = broker();
    broker.beat(join_regex("m", "a.*"));
    let aa = broker.create("aa", 1);
    broker.create("z", 1);
    assert_eq!(kinds(&broker.wait(9_999)), "", "not at once for every topic");
    assert_eq!(kinds(&broker.wait(1)), "RE");
    assert!(told(&broker.beat(heartbeat("m", 2))).unwrap().contains_key(&aa));
    broker.delete("aa");
    assert_eq!(kinds(&broker.wait(10_000)), "RE");
    let mut records = String::new();
    for _ in 0..60 {
        records += &kinds(&broker.wait(10_000));
        let epoch = broker.describe().members[0].member_epoch;
        broker.beat(heartbeat("m", epoch).with_topic_partitions(owned(&[(1, &[0, 1, 2, 3]), (3, &[0])])));
    }
    assert_eq!(records, "R", "group.consumer.regex.refresh.interval.ms");
}

/// Topics may have come while nobody coordinated.
#[test]
fn a_broker_that_takes_over_looks_again() {
    let mut broker = broker();
    broker.beat(join_regex("m", "a.*"));
    broker.pass(10_000);
    broker.checks_log = false;
    let other = GroupCoordinator::new(broker.settings.clone());
    let coordinator = std::mem::replace(&mut broker.coordinator, other);
    broker.create("aa", 1);
    broker.coordinator = coordinator;
    broker.restart();
    assert_eq!(kinds(&broker.wait(0)), "RE");
    broker.check_log();
}

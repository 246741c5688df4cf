use super::*;

fn instance(request: ConsumerGroupHeartbeatRequest) -> ConsumerGroupHeartbeatRequest {
    request.with_instance_id(Some(text("i")))
}

#[test]
fn a_static_member_comes_back_to_what_it_had() {
    let mut broker = Broker::with_topics();
    broker.beat(instance(join("m", &["a"])));
    broker.beat(join("n", &["b"]));
    let left = broker.beat(instance(heartbeat("m", -2)));
    assert_eq!((left.member_epoch, kinds(&broker.records).as_str()), (-2, "C"));
    // nobody gets it meanwhile
    assert_eq!(told(&broker.beat(heartbeat("n", 3).with_subscribed_topic_names(names(&["a", "b"])))), None);
    let back = broker.beat(instance(join("m2", &["a"])));
    assert_eq!(kinds(&broker.records), "cpmMPCC", "no other epoch, no other target");
    assert_eq!(broker.describe().members[0].member_id.as_str(), "m2");
    assert_eq!(broker.describe().members.len(), 2);
    assert_eq!(told(&back).unwrap().values().map(BTreeSet::len).sum::<usize>(), 3);
}

#[test]
fn an_instance_has_one_member() {
    let mut broker = Broker::with_topics();
    assert_eq!(broker.refused(instance(heartbeat("m", 1))), ErrorCode::GroupIdNotFound);
    broker.beat(join("n", &["a"]));
    assert_eq!(broker.refused(instance(heartbeat("m", 1))), ErrorCode::UnknownMemberId);
    assert_eq!(broker.refused(instance(heartbeat("m", -2))), ErrorCode::UnknownMemberId);
    broker.beat(instance(join("m", &["a"])));
    for member in ["m", "m2"] {
        assert_eq!(broker.refused(instance(join(member, &["a"]))), ErrorCode::UnreleasedInstanceId);
    }
    for epoch in [3, -1, -2] {
        assert_eq!(broker.refused(instance(heartbeat("m2", epoch))), ErrorCode::FencedInstanceId);
    }
    assert_eq!(broker.refused(instance(heartbeat("m", 9))), ErrorCode::FencedMemberEpoch);
    assert_eq!(broker.beat(instance(heartbeat("m", 3))).error_code, 0);
}

#[test]
fn a_static_member_that_stays_away_is_taken_out() {
    let mut broker = Broker::with_topics();
    broker.beat(instance(join("m", &["a"])));
    broker.beat(instance(heartbeat("m", -2)));
    broker.pass(44_000);
    assert_eq!(broker.describe().members[0].member_epoch, -2);
    assert_eq!(kinds(&broker.wait(1_000)), "cpmET");
}

#[test]
fn a_static_member_that_leaves_for_good_is_gone_at_once() {
    let mut broker = Broker::with_topics();
    broker.beat(instance(join("m", &["a"])));
    broker.beat(instance(heartbeat("m", -1)));
    assert_eq!(kinds(&broker.records), "cpmET");
    assert_eq!(broker.beat(instance(join("m", &["a"]))).member_epoch, 4);
}

/// It was told to give something up and goes: then it has given it up. Nor does its rebalance timeout count any more.
#[test]
fn a_static_member_goes_in_the_middle_of_a_rebalance() {
    let mut broker = Broker::with_topics();
    broker.beat(instance(join("m", &["a"])).with_rebalance_timeout_ms(1_000));
    broker.beat(join("n", &["a"]));
    broker.beat(instance(heartbeat("m", 2)));
    broker.beat(instance(heartbeat("m", -2)));
    assert_eq!(told(&broker.beat(heartbeat("n", 3))), Some(has(&[(1, &[2, 3])])));
    assert_eq!(kinds(&broker.wait(30_000)), "");
    let back = broker.beat(instance(join("m2", &["a"])));
    assert_eq!((back.member_epoch, told(&back)), (3, Some(has(&[(1, &[0, 1])]))));
    assert_eq!(broker.state(), "Stable");
}

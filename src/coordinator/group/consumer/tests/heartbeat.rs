use super::*;

#[test]
fn the_first_member_gets_everything() {
    let mut broker = Broker::with_topics();
    let response = broker.beat(join("m", &["b", "a", "a", "gone"]));
    assert_eq!(kinds(&broker.records), "MEPTC");
    assert_eq!((response.member_epoch, response.heartbeat_interval_ms), (2, 5_000));
    assert_eq!(told(&response), Some(has(&[(1, &[0, 1, 2, 3]), (2, &[0, 1])])));
    assert_eq!(broker.state(), "Stable");
    let again = broker.beat(heartbeat("m", 2));
    assert_eq!((told(&again), again.member_epoch), (None, 2));
    assert_eq!(broker.records, []);
}

#[test]
fn a_second_member_gets_its_half_when_the_first_has_given_it_up() {
    let mut broker = Broker::with_topics();
    broker.beat(join("m", &["a"]));
    let joined = broker.beat(join("n", &["a"]));
    // it is in the group, but everything is the first one's still
    assert_eq!((joined.member_epoch, told(&joined)), (3, Some(Has::new())));
    assert_eq!(broker.state(), "Reconciling");
    let revoke = broker.beat(heartbeat("m", 2));
    assert_eq!((revoke.member_epoch, told(&revoke)), (2, Some(has(&[(1, &[0, 1])]))));
    assert_eq!(told(&broker.beat(heartbeat("n", 3))), None);
    // still busy with it, or not said
    for said in [None, owned(&[(1, &[0, 1, 2, 3])]), owned(&[(1, &[0, 1, 3])])] {
        let waits = broker.beat(heartbeat("m", 2).with_topic_partitions(said));
        assert_eq!((waits.member_epoch, told(&waits)), (2, None));
        assert_eq!(told(&broker.beat(heartbeat("n", 3))), None);
    }
    let done = broker.beat(heartbeat("m", 2).with_topic_partitions(owned(&[(1, &[0, 1])])));
    assert_eq!((done.member_epoch, told(&done)), (3, None));
    let gets = broker.beat(heartbeat("n", 3));
    assert_eq!((gets.member_epoch, told(&gets)), (3, Some(has(&[(1, &[2, 3])]))));
    assert_eq!(broker.state(), "Stable");
}

#[test]
fn a_full_request_is_told_everything() {
    let mut broker = Broker::with_topics();
    broker.beat(join("m", &["b"]));
    let full = heartbeat("m", 2)
        .with_rebalance_timeout_ms(REBALANCE_MS)
        .with_subscribed_topic_names(names(&["b"]))
        .with_topic_partitions(owned(&[]));
    assert_eq!(told(&broker.beat(full.clone())), Some(has(&[(2, &[0, 1])])));
    assert_eq!(broker.records, []);
    for partial in [
        full.clone().with_rebalance_timeout_ms(-1),
        full.clone().with_subscribed_topic_names(None),
        full.with_topic_partitions(None),
    ] {
        assert_eq!(told(&broker.beat(partial)), None);
    }
}

#[test]
fn requests_that_make_no_sense() {
    let mut broker = Broker::with_topics();
    let join = || join("m", &["a"]);
    let invalid = [
        join().with_member_id(text("")),
        heartbeat(" ", -1),
        join().with_group_id(GroupId(text(" "))),
        join().with_instance_id(Some(text(""))),
        join().with_rack_id(Some(text("\t"))),
        join().with_rebalance_timeout_ms(-1),
        join().with_topic_partitions(None),
        join().with_topic_partitions(owned(&[(1, &[0])])),
        join().with_subscribed_topic_names(None),
        heartbeat("m", -2),
        heartbeat("m", -3).with_instance_id(Some(text("i"))),
    ];
    for request in invalid {
        assert_eq!(broker.refused(request.clone()), ErrorCode::InvalidRequest, "{request:?}");
    }
    assert_eq!(
        broker.refused(join().with_server_assignor(Some(text("best")))),
        ErrorCode::UnsupportedAssignor
    );
    for epoch in [1, -1] {
        assert_eq!(broker.refused(heartbeat("m", epoch)), ErrorCode::GroupIdNotFound);
    }
    assert!(broker.coordinator.groups.is_empty());
    broker.beat(join());
    for epoch in [1, -1] {
        assert_eq!(broker.refused(heartbeat("n", epoch)), ErrorCode::UnknownMemberId);
    }
    broker.coordinator.settings.serves_consumer_protocol = false;
    assert_eq!(broker.refused(join()), ErrorCode::UnsupportedVersion);
}

/// Version 0's clients may leave that to the broker.
#[test]
fn a_member_without_an_id_gets_one() {
    let mut broker = Broker::with_topics();
    let response = broker.beat_version(0, join("", &["a"]));
    let id = response.member_id.clone().unwrap();
    assert_eq!(id.len(), 36, "a UUID");
    assert_eq!(told(&broker.beat_version(0, heartbeat(&id, response.member_epoch))), None);
}

#[test]
fn a_group_has_only_so_many_members() {
    let mut broker = Broker::new(Settings { consumer_max_size: 2, ..Settings::default() });
    broker.create("a", 4);
    broker.beat(join("m", &["a"]));
    broker.beat(join("n", &["a"]).with_instance_id(Some(text("i"))));
    assert_eq!(broker.refused(join("o", &["a"])), ErrorCode::GroupMaxSizeReached);
    assert_eq!(broker.beat(join("m", &["a"])).error_code, 0);
    // a static member comes back to its place
    broker.beat(heartbeat("n", -2).with_instance_id(Some(text("i"))));
    assert_eq!(broker.beat(join("p", &["a"]).with_instance_id(Some(text("i")))).error_code, 0);
}

#[test]
fn epochs_are_checked() {
    let mut broker = Broker::with_topics();
    broker.beat(join("m", &["a"]));
    broker.beat(join("n", &["a"]));
    broker.beat(heartbeat("m", 2));
    broker.beat(heartbeat("m", 2).with_topic_partitions(owned(&[(1, &[0, 1])])));
    // the answer with epoch 3 is lost: the member goes on with 2 and what it has, or less
    for (epoch, said, error) in [
        (4, None, ErrorCode::FencedMemberEpoch),
        (2, None, ErrorCode::FencedMemberEpoch),
        (2, owned(&[(1, &[0, 1, 2])]), ErrorCode::FencedMemberEpoch),
        (2, owned(&[(2, &[0])]), ErrorCode::FencedMemberEpoch),
        (1, owned(&[(1, &[0])]), ErrorCode::FencedMemberEpoch),
        (2, owned(&[(1, &[0])]), ErrorCode::None),
        (2, owned(&[]), ErrorCode::None),
        (3, None, ErrorCode::None),
        (0, None, ErrorCode::None),
    ] {
        let request = match epoch {
            0 => join("m", &["a"]),
            _ => heartbeat("m", epoch).with_topic_partitions(said),
        };
        let response = broker.beat(request.clone());
        assert_eq!(error_of(response.error_code), error, "{request:?}");
        assert!(error != ErrorCode::None || response.member_epoch == 3);
    }
}

#[test]
fn a_member_that_is_silent_is_taken_out() {
    let mut broker = Broker::with_topics();
    broker.beat(join("m", &["a"]));
    broker.pass(44_999);
    broker.beat(join("n", &["a"]));
    let records = broker.wait(1);
    assert_eq!(kinds(&records), "cpmE");
    assert_eq!(broker.refused(heartbeat("m", 2)), ErrorCode::UnknownMemberId);
    let rest = broker.beat(heartbeat("n", 3));
    assert_eq!((rest.member_epoch, told(&rest)), (4, Some(has(&[(1, &[0, 1, 2, 3])]))));
    // the last one: the target follows at once, and the next need not wait
    assert_eq!(kinds(&broker.wait(45_000)), "cpmET");
    assert_eq!(broker.state(), "Empty");
    assert_eq!(broker.beat(join("o", &["a"])).member_epoch, 6);
}

#[test]
fn a_member_that_does_not_give_up_in_time_is_taken_out() {
    let mut broker = Broker::with_topics();
    broker.beat(join("m", &["a"]));
    broker.beat(join("n", &["a"]));
    broker.beat(heartbeat("m", 2));
    for _ in 0..2 {
        broker.pass(29_999);
        broker.beat(heartbeat("m", 2));
        broker.beat(heartbeat("n", 3));
    }
    assert_eq!(kinds(&broker.wait(2)), "cpmE");
    assert_eq!(broker.refused(heartbeat("m", 2)), ErrorCode::UnknownMemberId);
    assert_eq!(told(&broker.beat(heartbeat("n", 3))), Some(has(&[(1, &[0, 1, 2, 3])])));
}

#[test]
fn a_member_that_gives_up_in_time_stays() {
    let mut broker = Broker::with_topics();
    broker.beat(join("m", &["a"]));
    broker.beat(join("n", &["a"]));
    broker.beat(heartbeat("m", 2));
    broker.beat(heartbeat("m", 2).with_topic_partitions(owned(&[(1, &[0, 1])])));
    for _ in 0..4 {
        broker.pass(20_000);
        broker.beat(heartbeat("m", 3));
        broker.beat(heartbeat("n", 3));
    }
    assert_eq!(broker.state(), "Stable");
}

#[test]
fn members_leave() {
    let mut broker = Broker::with_topics();
    broker.beat(join("m", &["a"]));
    broker.beat(join("n", &["b"]));
    let left = broker.beat(heartbeat("m", -1));
    assert_eq!((left.error_code, left.member_epoch, left.member_id), (0, -1, Some(text("m"))));
    assert_eq!(kinds(&broker.records), "cpmE");
    broker.beat(heartbeat("n", -1));
    assert_eq!(kinds(&broker.records), "cpmET");
    assert_eq!(broker.state(), "Empty");
    assert_eq!(broker.coordinator.next_tick(), Some(601_000), "only the sweep is left");
    // the sweep takes what has no offsets
    assert_eq!(kinds(&broker.wait(600_000)), "te");
    assert!(broker.coordinator.groups.is_empty());
}

#[test]
fn topics_that_are_not_subscribed_to_any_more_go_at_once() {
    let mut broker =
        Broker::new(Settings { consumer_assignment_interval_ms: 1_000_000, ..Settings::default() });
    broker.create("a", 2);
    broker.create("b", 2);
    broker.beat(join("m", &["a", "b"]));
    // the next target is far away
    let only_b = heartbeat("m", 2).with_subscribed_topic_names(names(&["b"]));
    let response = broker.beat(only_b);
    assert_eq!((response.member_epoch, told(&response)), (2, Some(has(&[(2, &[0, 1])]))));
    assert_eq!(broker.state(), "Assigning");
    let done = broker.beat(heartbeat("m", 2).with_topic_partitions(owned(&[(2, &[0, 1])])));
    assert_eq!((done.member_epoch, told(&done)), (2, None));
}

#[test]
fn groups_are_described_and_listed() {
    let mut broker = Broker::with_topics();
    broker.beat(join("m", &["a"]).with_rack_id(Some(text("r"))).with_server_assignor(Some(text("range"))));
    broker.beat(join("n", &["a"]).with_instance_id(Some(text("i"))));
    broker.beat(heartbeat("m", 2));
    let described = broker.describe();
    assert_eq!((described.group_epoch, described.assignment_epoch), (3, 3));
    assert_eq!(described.assignor_name.as_str(), "range");
    let [m, n] = &described.members[..] else { panic!("{described:?}") };
    assert_eq!((m.member_epoch, m.member_type, m.rack_id.as_deref()), (2, 1, Some("r")));
    assert_eq!((n.instance_id.as_deref(), n.client_host.as_str()), (Some("i"), "/127.0.0.1"));
    let parts = |assignment: &crate::protocol::messages::consumer_group_describe_response::Assignment| {
        let topics = assignment.topic_partitions.iter();
        topics.map(|topic| (topic.topic_name.0.to_string(), topic.partitions.clone())).collect::<Vec<_>>()
    };
    // what it gives up is its own until it says that it has
    assert_eq!(parts(&m.assignment).iter().map(|(_, parts)| parts.len()).sum::<usize>(), 4);
    assert_eq!(parts(&m.target_assignment)[0].1.len() + parts(&n.target_assignment)[0].1.len(), 4);
    assert_eq!(parts(&n.assignment), []);
    let list = Body::List { states: vec!["reconciling".to_owned()], types: vec!["consumer".to_owned()] };
    let ticket = broker.send(5, list);
    let Reply::List(listed) = broker.reply(ticket) else { panic!() };
    let listed: Vec<_> =
        listed.iter().map(|group| (group.protocol_type.as_str(), group.group_type.as_str())).collect();
    assert_eq!(listed, [("consumer", "consumer")]);
}

#[test]
fn a_group_with_members_is_not_deleted() {
    let mut broker = Broker::with_topics();
    let delete = || Body::Delete(vec![GroupId(text(GROUP))]);
    let deleted = |broker: &mut Broker| {
        let ticket = broker.send(2, delete());
        let Reply::Delete(results) = broker.reply(ticket) else { panic!() };
        error_of(results[0].error_code)
    };
    broker.beat(join("m", &["a"]));
    assert_eq!(deleted(&mut broker), ErrorCode::NonEmptyGroup);
    broker.beat(heartbeat("m", -1));
    assert_eq!(deleted(&mut broker), ErrorCode::None);
    assert_eq!(kinds(&broker.records), "te");
    assert_eq!(deleted(&mut broker), ErrorCode::GroupIdNotFound);
}

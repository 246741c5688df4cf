//! From one generation to the next.

use super::*;

#[test]
fn the_first_members_are_waited_for() {
    let mut driver = driver();
    let first = driver.join(3, join_request(""));
    assert_eq!(driver.state(), "PreparingRebalance");
    driver.pass(INITIAL_DELAY_MS - 1);
    assert!(driver.is_waiting(first));
    // somebody has come: so long again from the end of the wait
    let second = driver.join(3, join_request(""));
    driver.pass(INITIAL_DELAY_MS);
    assert!(driver.is_waiting(first) && driver.is_waiting(second));
    driver.pass(1);
    assert_eq!(driver.joined(first).members.len(), 2);
    assert_eq!(driver.joined(second).members.len(), 0, "only the leader is told");
    assert_eq!(driver.state(), "CompletingRebalance");
}

/// Members that go on coming do not put the first rebalance off for ever.
#[test]
fn the_first_members_wait_no_longer_than_the_rebalance_timeout() {
    let mut driver = driver();
    let mut tickets = Vec::new();
    for _ in 0..10 {
        tickets.push(driver.join(3, join_request("").with_rebalance_timeout_ms(10_000)));
        driver.pass(999);
    }
    assert!(tickets.iter().all(|ticket| driver.is_waiting(*ticket)));
    driver.pass(10);
    assert!(tickets.into_iter().all(|ticket| driver.joined(ticket).generation_id == 1));
}

#[test]
fn without_a_delay_the_first_member_does_not_wait() {
    let mut driver = Driver::new(Settings { initial_rebalance_delay_ms: 0, ..Settings::default() });
    let first = driver.join(3, join_request(""));
    driver.pass(0);
    assert_eq!(driver.joined(first).members.len(), 1);
}

/// Nobody is left when the first wait is over.
#[test]
fn a_first_member_may_go_while_it_waits() {
    let mut driver = driver();
    let id = driver.new_id();
    let ticket = driver.join(4, join_request(&id));
    assert_eq!(driver.leave_all(vec![identity(&id, None)]), [ErrorCode::None]);
    assert_eq!(error_of(driver.joined(ticket).error_code), ErrorCode::UnknownMemberId);
    driver.pass(INITIAL_DELAY_MS);
    assert_eq!(driver.state(), "Empty");
}

#[test]
fn a_rebalance_ends_when_the_last_member_has_joined_again() {
    let mut driver = driver();
    let formed = driver.form(3);
    let newcomer = driver.join(3, join_request(""));
    assert_eq!(driver.state(), "PreparingRebalance");
    let mut tickets = vec![newcomer];
    for member in &formed.members {
        assert!(tickets.iter().all(|ticket| driver.is_waiting(*ticket)));
        assert_eq!(driver.heartbeat(member, formed.generation), ErrorCode::RebalanceInProgress);
        tickets.push(driver.join(4, join_request(member)));
    }
    let formed_again = driver.finish(tickets);
    assert_eq!(formed_again.generation, formed.generation + 1);
    assert_eq!(formed_again.members[0], formed.members[0], "who led goes on");
    assert_eq!(formed_again.members.len(), 4);
}

/// The longest rebalance timeout of all counts.
#[test]
fn who_does_not_join_again_in_time_is_out() {
    let mut driver = driver();
    let formed = driver.form(3);
    let slow = join_request("").with_rebalance_timeout_ms(2 * REBALANCE_MS as i32);
    let slow = driver.join(3, slow);
    let back = driver.join(4, join_request(&formed.members[2]));
    // they live, but do not join
    for _ in 0..12 {
        driver.pass(9_990);
        for member in &formed.members[..2] {
            assert_eq!(driver.heartbeat(member, formed.generation), ErrorCode::RebalanceInProgress);
        }
        assert!(driver.is_waiting(slow) && driver.is_waiting(back));
    }
    driver.pass(200);
    let next = driver.finish(vec![slow, back]);
    assert_eq!((next.members.len(), next.generation), (2, formed.generation + 1));
    for member in &formed.members[..2] {
        assert_eq!(driver.heartbeat(member, next.generation), ErrorCode::UnknownMemberId);
    }
}

/// A static member may be away for as long as its session lasts, but then has to ask for its assignment.
#[test]
fn static_members_are_kept() {
    let mut driver = driver();
    let long =
        |join: JoinGroupRequest| join.with_session_timeout_ms(600_000).with_rebalance_timeout_ms(30_000);
    let of_static = driver.join(5, long(static_join("", "i")));
    let dynamic = driver.join(3, long(join_request("")));
    driver.pass(2 * INITIAL_DELAY_MS);
    let formed = driver.finish(vec![of_static, dynamic]);
    let newcomer = driver.join(3, long(join_request("")));
    driver.pass(29_999);
    assert!(driver.is_waiting(newcomer));
    driver.pass(1);
    let joined = driver.joined(newcomer);
    let mut members: Vec<_> = joined.members.iter().map(|member| member.member_id.as_str()).collect();
    members.sort_unstable();
    let of_static = formed.members.iter().find(|member| member.starts_with("i-")).unwrap();
    assert_eq!(
        members,
        [joined.member_id.as_str(), of_static],
        "the static one is there, the dynamic one not"
    );
    assert_eq!(joined.leader, joined.member_id, "who leads is there");

    let assigned = assignments(&[(&joined.member_id, "all")]);
    let sync = sync_request(&joined.member_id, joined.generation_id).with_assignments(assigned);
    assert_eq!(
        driver.sync_error(5, sync.clone().with_protocol_type(Some(text("consumer")))),
        ErrorCode::InconsistentGroupProtocol
    );
    assert_eq!(driver.sync_error(4, sync), ErrorCode::None);
    driver.pass(29_999);
    assert_eq!(driver.state(), "Stable");
    driver.pass(1);
    assert_eq!(driver.state(), "PreparingRebalance", "it has not asked for its assignment");
    assert_eq!(driver.describe().members.len(), 1);
}

/// There is no generation of members of which none is there.
#[test]
fn static_members_who_are_all_away_are_waited_for() {
    let mut driver = driver();
    let long = |join: JoinGroupRequest| join.with_session_timeout_ms(200_000);
    let (a, b) = (driver.join(5, long(static_join("", "a"))), driver.join(5, long(static_join("", "b"))));
    let dynamic = driver.join(3, join_request(""));
    driver.pass(2 * INITIAL_DELAY_MS);
    let formed = driver.finish(vec![a, b, dynamic]);
    let dynamic = formed.members.iter().find(|member| member.starts_with("client-")).unwrap();
    driver.leave_all(vec![identity(dynamic, None)]);
    driver.pass(2 * REBALANCE_MS + 1);
    assert_eq!(driver.state(), "PreparingRebalance");
    let of_a = formed.members.iter().find(|member| member.starts_with("a-")).unwrap();
    let back = driver.join(5, long(static_join(of_a, "a")));
    driver.pass(REBALANCE_MS - 1);
    let joined = driver.joined(back);
    assert_eq!((joined.leader.as_str(), joined.members.len()), (of_a.as_str(), 2));
}

/// All static members' sessions end while nobody is there.
#[test]
fn a_group_whose_members_all_fall_silent_is_empty() {
    let mut driver = driver();
    let tickets = ["a", "b"].map(|instance| driver.join(5, static_join("", instance)));
    driver.pass(2 * INITIAL_DELAY_MS);
    driver.finish(tickets.into());
    driver.pass(SESSION_MS - 1);
    assert_eq!(driver.state(), "Stable");
    driver.pass(1);
    assert_eq!(driver.state(), "Empty");
    assert_eq!(driver.describe().members.len(), 0);
}

#[test]
fn an_unchanged_member_changes_nothing_unless_it_leads() {
    let mut driver = driver();
    let formed = driver.form(2);
    let (leader, follower) = (formed.members[0].as_str(), formed.members[1].as_str());
    let ticket = driver.join(4, join_request(follower));
    let joined = driver.joined(ticket);
    assert_eq!((joined.generation_id, joined.leader.as_str()), (formed.generation, leader));
    assert_eq!((joined.members.len(), joined.protocol_name.as_deref()), (0, Some("range")));
    assert_eq!(driver.state(), "Stable");

    let changed = protocols(&[("range", &subscription(&["t", "u"]))]);
    for request in [join_request(follower).with_protocols(changed.clone()), join_request(leader)] {
        let former = driver.describe();
        let id = request.member_id.clone();
        let ticket = driver.join(4, request);
        assert_eq!(driver.state(), "PreparingRebalance");
        let others = former.members.iter().filter(|member| member.member_id != id);
        let mut tickets = vec![ticket];
        for other in others.map(|member| member.member_id.to_string()).collect::<Vec<_>>() {
            let of_other = if other == follower { changed.clone() } else { join_request("").protocols };
            tickets.push(driver.join(4, join_request(&other).with_protocols(of_other)));
        }
        driver.finish(tickets);
    }
}

/// A member that has not seen its answer asks again.
#[test]
fn while_the_leader_assigns_an_unchanged_member_is_told_again() {
    let mut driver = driver();
    let tickets = [driver.join(3, join_request("")), driver.join(3, join_request(""))];
    driver.pass(2 * INITIAL_DELAY_MS);
    let joined = tickets.map(|ticket| driver.joined(ticket));
    for former in &joined {
        let ticket = driver.join(4, join_request(&former.member_id));
        assert_eq!(driver.joined(ticket), *former);
    }
    let waiting = driver.sync(4, sync_request(&joined[0].member_id, 1));
    let waits = joined[0].leader != joined[0].member_id;
    assert_eq!(driver.is_waiting(waiting), waits);
    let changed = join_request(&joined[1].member_id).with_protocols(protocols(&[("range", b"other")]));
    let ticket = driver.join(4, changed);
    assert!(driver.is_waiting(ticket));
    assert_eq!(driver.state(), "PreparingRebalance");
    if waits {
        assert_eq!(error_of(driver.synced(waiting).error_code), ErrorCode::RebalanceInProgress);
    }
}

#[test]
fn another_member_leads_when_the_leader_does_not_come_back() {
    let mut driver = driver();
    let formed = driver.form(3);
    assert_eq!(driver.leave_all(vec![identity(&formed.members[0], None)]), [ErrorCode::None]);
    let tickets = formed.members[1..].iter().map(|member| driver.join(4, join_request(member))).collect();
    let next = driver.finish(tickets);
    assert!(formed.members[1..].contains(&next.members[0]));
}

/// A member that has its id and does not come holds the others up, but not for longer than a rebalance may take.
#[test]
fn who_is_about_to_join_is_waited_for() {
    let mut driver = driver();
    let mut members = driver.form(1).members;
    let join_all = |driver: &mut Driver, members: &[String]| {
        let tickets = members.iter().map(|member| driver.join(4, join_request(member))).collect::<Vec<_>>();
        assert!(tickets.iter().all(|ticket| driver.is_waiting(*ticket)));
        tickets
    };

    // it comes
    let newcomer = driver.new_id();
    assert_eq!(driver.state(), "Stable", "it has not joined yet");
    let mut tickets = join_all(&mut driver, &members);
    tickets.push(driver.join(4, join_request(&newcomer)));
    members = driver.finish(tickets).members;
    assert_eq!(members.len(), 2);

    // it says that it does not come
    let newcomer = driver.new_id();
    let tickets = join_all(&mut driver, &members);
    assert_eq!(driver.leave_all(vec![identity(&newcomer, None)]), [ErrorCode::None]);
    driver.finish(tickets);

    // it is not heard of again, or only when it is too late
    for (session, waited) in [(30_000, 30_000), (100_000, REBALANCE_MS)] {
        let ticket = driver.join(4, join_request("").with_session_timeout_ms(session));
        assert_eq!(error_of(driver.joined(ticket).error_code), ErrorCode::MemberIdRequired);
        let tickets = join_all(&mut driver, &members);
        driver.pass(waited - 1);
        assert!(tickets.iter().all(|ticket| driver.is_waiting(*ticket)));
        driver.pass(1);
        driver.finish(tickets);
    }
}

/// A new member's client may be gone, nobody would notice: it is not kept for ever. One that was a member before is.
#[test]
fn a_new_member_waits_five_minutes_at_most() {
    let mut driver = driver();
    let slow = |join: JoinGroupRequest| join.with_rebalance_timeout_ms(900_000);
    let (a, b) = (driver.join(3, slow(join_request(""))), driver.join(3, slow(join_request(""))));
    driver.pass(2 * INITIAL_DELAY_MS);
    let formed = driver.finish(vec![a, b]);
    let newcomer = driver.join(3, join_request(""));
    let back = driver.join(4, slow(join_request(&formed.members[0])));
    for minute in 0..6 {
        assert_eq!(driver.is_waiting(newcomer), minute < 5);
        for _ in 0..12 {
            driver.pass(5_000);
            let error = driver.heartbeat(&formed.members[1], formed.generation);
            assert_eq!(error, ErrorCode::RebalanceInProgress);
        }
    }
    let refused = driver.joined(newcomer);
    assert_eq!((error_of(refused.error_code), refused.member_id.as_str()), (ErrorCode::UnknownMemberId, ""));
    assert!(driver.is_waiting(back), "it is alive as long as it waits");
    let last = driver.join(4, slow(join_request(&formed.members[1])));
    driver.finish(vec![back, last]);
}

#[test]
fn five_hundred_members_form_a_group() {
    let mut driver = driver();
    let formed = driver.form(500);
    let newcomer = driver.join(3, join_request(""));
    let mut tickets = vec![newcomer];
    tickets
        .extend(formed.members.iter().map(|member| driver.join(4, join_request(member))).collect::<Vec<_>>());
    assert_eq!(driver.finish(tickets).members.len(), 501);
}

//! Who is let in.

use super::*;

#[test]
fn a_dynamic_member_is_given_its_id_first_from_version_4_on() {
    let mut driver = driver();
    let ticket = driver.send_as("app", 4, Body::Join(Box::new(join_request(""))));
    let required = driver.joined(ticket);
    assert_eq!(error_of(required.error_code), ErrorCode::MemberIdRequired);
    let id = required.member_id.as_str();
    assert!(id.starts_with("app-") && id.len() == "app-".len() + 36, "{id}");
    assert_eq!(driver.state(), "Empty");
    let ticket = driver.join(4, join_request(id));
    assert!(driver.is_waiting(ticket));
    driver.pass(INITIAL_DELAY_MS);
    let joined = driver.joined(ticket);
    assert_eq!((joined.generation_id, joined.leader.as_str(), joined.member_id.as_str()), (1, id, id));
    assert_eq!(joined.protocol_name.as_deref(), Some("range"));
    assert_eq!(joined.protocol_type.as_deref(), Some("consumer"));
    assert!(!joined.skip_assignment);
    let members: Vec<_> = joined.members.iter().map(|member| member.member_id.as_str()).collect();
    assert_eq!(members, [id]);
    assert_eq!(joined.members[0].metadata, subscription(&["t"]));

    // older ones, and static ones, are let in at once
    let older = driver.join(3, join_request(""));
    let named = driver.join(9, static_join("", "i"));
    let again = driver.join(4, join_request(id));
    for (ticket, start) in [(older, "client-"), (named, "i-"), (again, id)] {
        let joined = driver.joined(ticket);
        assert_eq!((error_of(joined.error_code), joined.generation_id), (ErrorCode::None, 2));
        assert!(joined.member_id.starts_with(start), "{joined:?}");
    }
}

/// A client may call itself anything; its members' ids still fit in a record.
#[test]
fn a_long_name_is_cut_in_an_id() {
    let mut driver = driver();
    let name = "ä".repeat(16_000);
    let ticket = driver.send_as(&name, 3, Body::Join(Box::new(join_request(""))));
    driver.pass(INITIAL_DELAY_MS);
    let joined = driver.joined(ticket);
    assert_eq!(joined.member_id.len(), 1_024 + 1 + 36);
    assert_eq!(driver.sync_error(4, sync_request(&joined.member_id, 1)), ErrorCode::None);
    assert_eq!(driver.describe().members[0].client_id.as_str(), name);
}

#[test]
fn an_id_that_is_not_used_is_forgotten() {
    let mut driver = driver();
    let id = driver.new_id();
    driver.pass(SESSION_MS - 1);
    assert_eq!(driver.state(), "Empty");
    driver.pass(1);
    assert_eq!(driver.state(), "Dead", "there is no such group any more");
    assert_eq!(driver.join_error(4, join_request(&id)), ErrorCode::UnknownMemberId);
}

/// What is wrong with the request itself.
#[test]
fn requests_are_checked() {
    type Change = fn(JoinGroupRequest) -> JoinGroupRequest;
    let of_group: [(&str, Change, ErrorCode); 4] = [
        ("no group", |join| join.with_group_id(GroupId::default()), ErrorCode::InvalidGroupId),
        ("short session", |join| join.with_session_timeout_ms(5_999), ErrorCode::InvalidSessionTimeout),
        ("long session", |join| join.with_session_timeout_ms(1_800_001), ErrorCode::InvalidSessionTimeout),
        ("not a member", |join| join.with_member_id(text("x")), ErrorCode::UnknownMemberId),
    ];
    let of_empty: [(&str, Change, ErrorCode); 2] = [
        ("no type", |join| join.with_protocol_type(text("")), ErrorCode::InconsistentGroupProtocol),
        ("no protocols", |join| join.with_protocols(Vec::new()), ErrorCode::InconsistentGroupProtocol),
    ];
    let of_members: [(&str, Change, ErrorCode); 3] = [
        ("other type", |join| join.with_protocol_type(text("connect")), ErrorCode::InconsistentGroupProtocol),
        (
            "other protocol",
            |join| join.with_protocols(protocols(&[("sticky", b"")])),
            ErrorCode::InconsistentGroupProtocol,
        ),
        ("unknown and static", |_| static_join("x", "i"), ErrorCode::UnknownMemberId),
    ];
    let mut driver = driver();
    for (name, change, error) in of_group.iter().chain(&of_empty) {
        for version in [0, 4, 9] {
            let request = change(join_request(""));
            let id = request.member_id.clone();
            let ticket = driver.join(version, request);
            let response = driver.joined(ticket);
            assert_eq!((error_of(response.error_code), response.member_id), (*error, id), "{name}");
            assert_eq!(driver.state(), "Dead", "{name} makes no group");
        }
    }
    let formed = driver.form(2);
    for (name, change, error) in of_group.iter().chain(&of_empty).chain(&of_members) {
        assert_eq!(driver.join_error(9, change(join_request(""))), *error, "{name}");
    }
    for member in &formed.members {
        assert_eq!(driver.heartbeat(member, formed.generation), ErrorCode::None, "nothing has happened");
    }
}

/// What the last members were counts no more in an empty group.
#[test]
fn an_empty_group_takes_another_type() {
    let mut driver = driver();
    let formed = driver.form(1);
    assert_eq!(driver.leave_all(vec![identity(&formed.members[0], None)]), [ErrorCode::None]);
    let request = join_request("").with_protocol_type(text("connect"));
    let ticket = driver.join(3, request.with_protocols(protocols(&[("compatible", b"x")])));
    driver.pass(INITIAL_DELAY_MS);
    let joined = driver.joined(ticket);
    assert_eq!((joined.generation_id, joined.protocol_type.as_deref()), (3, Some("connect")));
    assert_eq!(driver.sync_error(4, sync_request(&joined.member_id, 3)), ErrorCode::None);
}

/// Version 0 has no rebalance timeout: the session's is taken.
#[test]
fn the_first_version_has_one_timeout() {
    let mut driver = driver();
    let formed = driver.form(1);
    driver.leave_all(vec![identity(&formed.members[0], None)]);
    let old = driver.join(0, join_request("").with_rebalance_timeout_ms(-1).with_session_timeout_ms(20_000));
    driver.pass(INITIAL_DELAY_MS);
    let joined = driver.joined(old);
    assert_eq!(driver.sync_error(0, sync_request(&joined.member_id, joined.generation_id)), ErrorCode::None);
    let newer = driver.join(0, join_request("").with_rebalance_timeout_ms(-1));
    for _ in 0..2 {
        driver.pass(9_999);
        assert_eq!(driver.heartbeat(&joined.member_id, joined.generation_id), ErrorCode::RebalanceInProgress);
    }
    assert!(driver.is_waiting(newer));
    driver.pass(2);
    assert_eq!(driver.joined(newer).members.len(), 1, "the first one had 20 s");
}

#[test]
fn a_group_takes_so_many_members() {
    let mut driver = Driver::new(Settings { max_size: 2, ..Settings::default() });
    let (first, second) = (driver.join(3, join_request("")), driver.join(3, join_request("")));
    let ticket = driver.join(3, join_request(""));
    let refused = driver.joined(ticket);
    assert_eq!(
        (error_of(refused.error_code), refused.member_id.as_str()),
        (ErrorCode::GroupMaxSizeReached, "")
    );
    driver.pass(2 * INITIAL_DELAY_MS);
    let formed = driver.finish(vec![first, second]);
    for version in [3, 4, 9] {
        assert_eq!(driver.join_error(version, join_request("")), ErrorCode::GroupMaxSizeReached);
    }
    assert_eq!(driver.join_error(9, static_join("", "i")), ErrorCode::GroupMaxSizeReached);
    let tickets = formed.members.iter().map(|member| driver.join(4, join_request(member))).collect();
    driver.finish(tickets);
}

/// The setting is smaller than it was: all members are asked to join again, and those who come last may not.
#[test]
fn a_group_that_is_too_large_when_it_is_loaded_shrinks() {
    let mut driver = driver();
    let formed = driver.form(3);
    driver.settings.max_size = 2;
    driver.restart();
    for member in &formed.members {
        assert_eq!(driver.heartbeat(member, formed.generation), ErrorCode::RebalanceInProgress);
    }
    let tickets: Vec<_> =
        formed.members[..2].iter().map(|member| driver.join(4, join_request(member))).collect();
    assert!(tickets.iter().all(|ticket| driver.is_waiting(*ticket)));
    let last = join_request(&formed.members[2]);
    assert_eq!(driver.join_error(4, last), ErrorCode::GroupMaxSizeReached);
    driver.finish(tickets);
}

/// A client that has given up on its request and sends another: both are answered.
#[test]
fn a_later_request_takes_the_place_of_the_one_that_waits() {
    let mut driver = driver();
    let id = driver.new_id();
    let first = driver.join(4, join_request(&id));
    let second = driver.join(4, join_request(&id));
    let former = driver.joined(first);
    assert_eq!(
        (error_of(former.error_code), former.member_id.as_str()),
        (ErrorCode::RebalanceInProgress, &*id)
    );
    assert!(driver.is_waiting(second));
    driver.pass(INITIAL_DELAY_MS);
    driver.finish(vec![second]);
}

/// The one with which most begin, of those that all have.
#[test]
fn members_vote_for_a_protocol() {
    let votes: [(&[&[&str]], &str); 6] = [
        (&[&["a"]], "a"),
        (&[&["b", "a"]], "b"),
        (&[&["a", "b"], &["b", "a"], &["b", "a"]], "b"),
        (&[&["a", "b"], &["a", "b"], &["b"]], "b"),
        (&[&["c", "a", "b"], &["b", "a"], &["b", "a", "c"], &["a", "b"], &["a", "b"]], "a"),
        // one that is named twice counts once
        (&[&["a", "a", "b"], &["b"]], "b"),
    ];
    for (members, expected) in votes {
        let mut driver = driver();
        let tickets = members.iter().map(|names| {
            let named: Vec<(&str, &[u8])> = names.iter().map(|name| (*name, name.as_bytes())).collect();
            let request = join_request("").with_protocol_type(text("any"));
            driver.join(3, request.with_protocols(protocols(&named)))
        });
        let tickets: Vec<_> = tickets.collect();
        driver.pass(2 * INITIAL_DELAY_MS);
        for ticket in tickets {
            let joined = driver.joined(ticket);
            assert_eq!(joined.protocol_name.as_deref(), Some(expected), "{members:?}");
            let is_of_protocol = joined.members.iter().all(|member| member.metadata == expected);
            assert!(is_of_protocol, "{members:?}: {joined:?}");
        }
    }
}

/// A member may change what it has as long as it has one in common with all.
#[test]
fn protocols_may_change_one_by_one() {
    let mut driver = driver();
    let formed = driver.form(2);
    let (range, both, sticky): (&[_], &[_], &[_]) =
        (&[("range", &b"r"[..])], &[("sticky", &b"s"[..]), ("range", &b"r"[..])], &[("sticky", &b"s"[..])]);
    let join = |driver: &mut Driver, member: usize, named| {
        driver.join(4, join_request(&formed.members[member]).with_protocols(protocols(named)))
    };
    let refused = join(&mut driver, 0, sticky);
    assert_eq!(error_of(driver.joined(refused).error_code), ErrorCode::InconsistentGroupProtocol);
    let steps = [
        ([(0, both), (1, range)], "range"),
        ([(1, both), (0, both)], "sticky"),
        ([(0, sticky), (1, both)], "sticky"),
    ];
    for (step, expected) in steps {
        let tickets = step.map(|(member, named)| join(&mut driver, member, named));
        for ticket in tickets {
            assert_eq!(driver.joined(ticket).protocol_name.as_deref(), Some(expected));
        }
    }
    let refused = join(&mut driver, 1, range);
    assert_eq!(error_of(driver.joined(refused).error_code), ErrorCode::InconsistentGroupProtocol);
}

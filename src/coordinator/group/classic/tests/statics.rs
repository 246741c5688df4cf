//! Static members: an instance keeps its place when its process starts anew (KIP-345, KIP-814).

use super::*;

/// Three static members, stable. Their ids by instance: `a` leads.
struct Statics {
    driver: Driver,
    a: String,
    b: String,
    generation: i32,
}

fn statics() -> Statics {
    let mut driver = driver();
    let a = driver.join(5, static_join("", "a"));
    let b = driver.join(5, static_join("", "b"));
    driver.pass(2 * INITIAL_DELAY_MS);
    let formed = driver.finish(vec![a, b]);
    let [a, b] =
        ["a-", "b-"].map(|start| formed.members.iter().find(|id| id.starts_with(start)).unwrap().clone());
    assert_eq!(formed.members[0], a);
    Statics { driver, a, b, generation: formed.generation }
}

#[test]
fn a_follower_that_starts_anew_goes_on() {
    for version in [5, 8, 9] {
        let Statics { mut driver, a, b, generation } = statics();
        let records = driver.log.len();
        let ticket = driver.join(version, static_join("", "b"));
        let joined = driver.joined(ticket);
        let id = joined.member_id.as_str();
        assert!(id.starts_with("b-") && id != b);
        assert_eq!((joined.generation_id, joined.leader.as_str()), (generation, a.as_str()));
        assert!(joined.members.is_empty() && !joined.skip_assignment);
        assert_eq!(driver.log.len(), records + 1, "the new id is in the log");
        assert_eq!(driver.state(), "Stable");
        driver.restart();
        let ticket = driver.sync(
            5,
            sync_request(id, generation)
                .with_group_instance_id(Some(text("b")))
                .with_protocol_type(Some(text("consumer")))
                .with_protocol_name(Some(text("range"))),
        );
        let synced = driver.synced(ticket);
        assert_eq!(
            (error_of(synced.error_code), synced.assignment),
            (ErrorCode::None, format!("of {b}").into())
        );
        assert_eq!(driver.heartbeat(id, generation), ErrorCode::None);
        assert_eq!(driver.heartbeat(&a, generation), ErrorCode::None);
    }
}

/// A leader that starts anew would assign again: where it cannot be told not to, it is told that another one leads.
#[test]
fn a_leader_that_starts_anew_does_not_assign() {
    for version in [5, 8] {
        let Statics { mut driver, a, .. } = statics();
        let ticket = driver.join(version, static_join("", "a"));
        let joined = driver.joined(ticket);
        assert_eq!((joined.leader.as_str(), joined.members.len()), (a.as_str(), 0));
        assert!(!joined.skip_assignment);
    }
    let Statics { mut driver, generation, .. } = statics();
    let ticket = driver.join(9, static_join("", "a"));
    let joined = driver.joined(ticket);
    assert_eq!((&joined.leader, joined.members.len()), (&joined.member_id, 2));
    assert!(joined.skip_assignment && joined.generation_id == generation);
    // it leads: when it joins again there is a rebalance
    let again = driver.join(9, static_join(&joined.member_id, "a"));
    assert!(driver.is_waiting(again));
}

/// Whoever still uses the id of before is fenced, by each API.
#[test]
fn the_one_before_is_fenced() {
    let Statics { mut driver, b, generation, .. } = statics();
    let ticket = driver.join(9, static_join("", "b"));
    let id = driver.joined(ticket).member_id.to_string();
    let fenced = ErrorCode::FencedInstanceId;
    assert_eq!(driver.join_error(9, static_join(&b, "b")), fenced);
    assert_eq!(
        driver.sync_error(4, sync_request(&b, generation).with_group_instance_id(Some(text("b")))),
        fenced
    );
    let heartbeat = HeartbeatRequest::default().with_group_id(group()).with_generation_id(generation);
    let heartbeat = heartbeat.with_group_instance_id(Some(text("b")));
    assert_eq!(driver.heartbeat_of(heartbeat.clone().with_member_id(text(&b))), fenced);
    assert_eq!(driver.leave_all(vec![identity(&b, Some("b"))]), [fenced]);
    // without its instance's name it is just not known
    assert_eq!(driver.heartbeat(&b, generation), ErrorCode::UnknownMemberId);
    assert_eq!(driver.heartbeat_of(heartbeat.with_member_id(text(&id))), ErrorCode::None);
}

#[test]
fn what_the_one_before_waits_for_is_answered() {
    // it waits for the others to join
    let Statics { mut driver, a, b, .. } = statics();
    let leaders = driver.join(9, static_join(&a, "a"));
    assert!(driver.is_waiting(leaders), "b has not joined");
    driver.pass(1);
    let newcomer = driver.new_id();
    let former = driver.join(9, static_join(&b, "b"));
    assert!(driver.is_waiting(former), "who has its id is waited for");
    let later = driver.join(9, static_join("", "b"));
    let refused = driver.joined(former);
    assert_eq!(
        (error_of(refused.error_code), refused.member_id.as_str()),
        (ErrorCode::FencedInstanceId, &*b)
    );
    let newcomer = driver.join(9, join_request(&newcomer));
    let formed = driver.finish(vec![leaders, later, newcomer]);

    // it waits for its assignment
    let tickets: Vec<_> = (formed.members.iter())
        .map(|id| match &id[..2] {
            instance @ ("a-" | "b-") => driver.join(9, static_join(id, &instance[..1])),
            _ => driver.join(9, join_request(id)),
        })
        .collect();
    let joined: Vec<_> = tickets.into_iter().map(|ticket| driver.joined(ticket)).collect();
    let of_b = joined.iter().find(|joined| joined.member_id.starts_with("b-")).unwrap();
    let waiting = driver.sync(4, sync_request(&of_b.member_id, of_b.generation_id));
    assert!(driver.is_waiting(waiting));
    let later = driver.join(9, static_join("", "b"));
    assert_eq!(error_of(driver.synced(waiting).error_code), ErrorCode::FencedInstanceId);
    assert!(driver.is_waiting(later));
    assert_eq!(driver.state(), "PreparingRebalance", "the leader assigns to an id that is no more");
    driver.all_are_answered();
}

#[test]
fn another_protocol_is_a_rebalance() {
    let mut driver = driver();
    let both = protocols(&[("a", b""), ("b", b"")]);
    let tickets = ["i", "j"].map(|name| driver.join(9, static_join("", name).with_protocols(both.clone())));
    driver.pass(2 * INITIAL_DELAY_MS);
    driver.finish(tickets.into());
    let same = static_join("", "j").with_protocols(protocols(&[("a", b"x")]));
    let ticket = driver.join(9, same);
    assert_eq!(error_of(driver.joined(ticket).error_code), ErrorCode::None, "the others need not know");
    let ticket = driver.join(9, static_join("", "j").with_protocols(both.clone()));
    assert_eq!(error_of(driver.joined(ticket).error_code), ErrorCode::None);
    let other = static_join("", "j").with_protocols(protocols(&[("b", b"")]));
    let ticket = driver.join(9, other);
    assert!(driver.is_waiting(ticket));
    assert_eq!(driver.state(), "PreparingRebalance");
}

/// An administrator knows the instance only.
#[test]
fn a_static_member_is_removed_by_its_name() {
    let Statics { mut driver, a, b, generation } = statics();
    let leaving = vec![identity("", Some("b")), identity("", Some("x")), identity("", None)];
    let unknown = ErrorCode::UnknownMemberId;
    assert_eq!(driver.leave_all(leaving), [ErrorCode::None, unknown, unknown]);
    assert_eq!(driver.heartbeat(&a, generation), ErrorCode::RebalanceInProgress);
    assert_eq!(driver.heartbeat(&b, generation), unknown);
    assert_eq!(driver.leave_all(vec![identity(&b, Some("b"))]), [unknown]);
    assert_eq!(driver.leave_all(vec![identity(&a, Some("a"))]), [ErrorCode::None]);
    assert_eq!(driver.state(), "Empty");
}

/// Who takes the place of a member that has not asked for its assignment has to ask for it.
#[test]
fn the_time_to_ask_for_an_assignment_goes_on() {
    let mut driver = driver();
    let tickets = ["a", "b"].map(|instance| driver.join(5, static_join("", instance)));
    driver.pass(2 * INITIAL_DELAY_MS);
    let leader = tickets.map(|ticket| driver.joined(ticket))[0].leader.to_string();
    assert_eq!(driver.sync_error(4, sync_request(&leader, 1)), ErrorCode::None);
    let follower = if leader.starts_with("a-") { "b" } else { "a" };
    let ticket = driver.join(5, static_join("", follower));
    let id = driver.joined(ticket).member_id;
    for _ in 0..6 {
        driver.pass(9_990);
        assert_eq!([&*leader, &id].map(|id| driver.heartbeat(id, 1)), [ErrorCode::None; 2]);
    }
    driver.pass(100);
    assert_eq!(driver.heartbeat(&leader, 1), ErrorCode::RebalanceInProgress);
    assert_eq!(driver.heartbeat(&id, 1), ErrorCode::UnknownMemberId);
}

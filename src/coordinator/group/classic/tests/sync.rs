//! Assignments.

use super::*;

/// Two members that have joined: the leader's answer, the follower's.
fn joined() -> (Driver, JoinGroupResponse, JoinGroupResponse) {
    let mut driver = driver();
    let tickets = [driver.join(3, join_request("")), driver.join(3, join_request(""))];
    driver.pass(2 * INITIAL_DELAY_MS);
    let [a, b] = tickets.map(|ticket| driver.joined(ticket));
    if a.members.is_empty() { (driver, b, a) } else { (driver, a, b) }
}

#[test]
fn the_leaders_assignment_is_written_and_handed_out() {
    let (mut driver, leader, follower) = joined();
    let records = driver.log.len();
    let waiting = driver.sync(3, sync_request(&follower.member_id, 1));
    assert!(driver.is_waiting(waiting));
    let assigned = assignments(&[(&leader.member_id, "1"), (&follower.member_id, "2"), ("nobody", "3")]);
    let leaders = driver.sync(3, sync_request(&leader.member_id, 1).with_assignments(assigned));
    for (ticket, assignment) in [(waiting, "2"), (leaders, "1")] {
        let synced = driver.synced(ticket);
        assert_eq!((error_of(synced.error_code), synced.assignment), (ErrorCode::None, assignment.into()));
        assert_eq!(synced.protocol_type.as_deref(), Some("consumer"));
        assert_eq!(synced.protocol_name.as_deref(), Some("range"));
    }
    assert_eq!(driver.log.len(), records + 1);
    // whoever asks later has the same, as often as it likes
    for _ in 0..2 {
        let ticket = driver.sync(
            5,
            sync_request(&follower.member_id, 1)
                .with_protocol_type(Some(text("consumer")))
                .with_protocol_name(Some(text("range"))),
        );
        assert_eq!(driver.synced(ticket).assignment, "2");
    }
    assert_eq!(driver.log.len(), records + 1);
}

#[test]
fn who_was_not_assigned_anything_has_nothing() {
    let (mut driver, leader, follower) = joined();
    let assigned = assignments(&[(&leader.member_id, "all")]);
    assert_eq!(
        driver.sync_error(3, sync_request(&leader.member_id, 1).with_assignments(assigned)),
        ErrorCode::None
    );
    let ticket = driver.sync(3, sync_request(&follower.member_id, 1));
    let synced = driver.synced(ticket);
    assert_eq!((error_of(synced.error_code), synced.assignment), (ErrorCode::None, Bytes::new()));
}

#[test]
fn requests_are_checked() {
    type Change = fn(SyncGroupRequest) -> SyncGroupRequest;
    let named = |protocol_type: &str, name: &str| {
        let (protocol_type, name) = (text(protocol_type), text(name));
        move |sync: SyncGroupRequest| {
            sync.with_protocol_type(Some(protocol_type.clone())).with_protocol_name(Some(name.clone()))
        }
    };
    let cases: [(i16, Change, ErrorCode); 5] = [
        (3, |sync| sync.with_group_id(GroupId::default()), ErrorCode::InvalidGroupId),
        (3, |sync| sync.with_group_id(GroupId(text("x"))), ErrorCode::UnknownMemberId),
        (3, |sync| sync.with_member_id(text("x")), ErrorCode::UnknownMemberId),
        (3, |sync| sync.with_generation_id(0), ErrorCode::IllegalGeneration),
        (5, |sync| sync, ErrorCode::InconsistentGroupProtocol),
    ];
    let (mut driver, leader, _) = joined();
    for (version, change, error) in cases {
        assert_eq!(driver.sync_error(version, change(sync_request(&leader.member_id, 1))), error);
    }
    for (protocol_type, name) in [("connect", "range"), ("consumer", "sticky")] {
        let request = named(protocol_type, name)(sync_request(&leader.member_id, 1));
        assert_eq!(driver.sync_error(5, request), ErrorCode::InconsistentGroupProtocol);
    }
    let request = named("consumer", "range")(sync_request(&leader.member_id, 1));
    assert_eq!(driver.sync_error(5, request), ErrorCode::None);
    // while members join
    let ticket = driver.join(4, join_request(&leader.member_id));
    assert!(driver.is_waiting(ticket));
    let error = driver.sync_error(3, sync_request(&leader.member_id, 1));
    assert_eq!(error, ErrorCode::RebalanceInProgress);
}

#[test]
fn a_later_request_takes_the_place_of_the_one_that_waits() {
    let (mut driver, leader, follower) = joined();
    let first = driver.sync(3, sync_request(&follower.member_id, 1));
    let second = driver.sync(3, sync_request(&follower.member_id, 1));
    assert_eq!(error_of(driver.synced(first).error_code), ErrorCode::RebalanceInProgress);
    assert_eq!(driver.sync_error(3, sync_request(&leader.member_id, 1)), ErrorCode::None);
    assert_eq!(error_of(driver.synced(second).error_code), ErrorCode::None);
}

#[test]
fn a_rebalance_sends_those_who_wait_back() {
    let (mut driver, leader, follower) = joined();
    let waiting = driver.sync(3, sync_request(&follower.member_id, 1));
    let newcomer = driver.join(3, join_request(""));
    let refused = driver.synced(waiting);
    assert_eq!(error_of(refused.error_code), ErrorCode::RebalanceInProgress);
    let tickets = [leader, follower].map(|member| driver.join(4, join_request(&member.member_id)));
    let formed = driver.finish([tickets.as_slice(), &[newcomer]].concat());
    assert_eq!(formed.generation, 2);
}

/// A member that goes while it waits is answered, too.
#[test]
fn who_leaves_while_it_waits_is_answered() {
    let (mut driver, _, follower) = joined();
    let waiting = driver.sync(3, sync_request(&follower.member_id, 1));
    assert_eq!(driver.leave_all(vec![identity(&follower.member_id, None)]), [ErrorCode::None]);
    assert_eq!(error_of(driver.synced(waiting).error_code), ErrorCode::UnknownMemberId);
}

/// The leader lives, but does not assign: it goes, and the others join again.
#[test]
fn a_leader_has_so_long_to_assign() {
    let (mut driver, leader, follower) = joined();
    let waiting = driver.sync(3, sync_request(&follower.member_id, 1));
    for _ in 0..6 {
        driver.pass(9_990);
        assert_eq!(driver.heartbeat(&leader.member_id, 1), ErrorCode::None);
        assert!(driver.is_waiting(waiting));
    }
    driver.pass(100);
    assert_eq!(error_of(driver.synced(waiting).error_code), ErrorCode::RebalanceInProgress);
    assert_eq!(driver.heartbeat(&leader.member_id, 1), ErrorCode::UnknownMemberId);
    let ticket = driver.join(4, join_request(&follower.member_id));
    let formed = driver.finish(vec![ticket]);
    assert_eq!((formed.members.len(), formed.generation), (1, 2));
}

/// Also a follower that never asks goes, though the group is stable.
#[test]
fn a_follower_has_so_long_to_ask() {
    let (mut driver, leader, follower) = joined();
    assert_eq!(driver.sync_error(3, sync_request(&leader.member_id, 1)), ErrorCode::None);
    for _ in 0..6 {
        driver.pass(9_990);
        for member in [&leader, &follower] {
            assert_eq!(driver.heartbeat(&member.member_id, 1), ErrorCode::None);
        }
    }
    driver.pass(100);
    assert_eq!(driver.heartbeat(&leader.member_id, 1), ErrorCode::RebalanceInProgress);
    assert_eq!(driver.heartbeat(&follower.member_id, 1), ErrorCode::UnknownMemberId);
}

/// What the last generation had is nobody's while the next one is under way.
#[test]
fn an_assignment_that_was_not_finished_leaves_none() {
    let mut driver = driver();
    let formed = driver.form(1);
    assert!(!driver.describe().members[0].member_assignment.is_empty());
    let ticket = driver.join(4, join_request(&formed.members[0]));
    assert_eq!(driver.joined(ticket).generation_id, 2);
    driver.join(3, join_request(""));
    let described = driver.describe();
    assert_eq!(described.members.len(), 2);
    assert!(described.members.iter().all(|member| member.member_assignment.is_empty()));
}

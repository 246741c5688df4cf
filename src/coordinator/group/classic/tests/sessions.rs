//! Heartbeats, and what happens without them.

use super::*;

#[test]
fn heartbeats_are_answered_by_the_groups_state() {
    let mut driver = driver();
    assert_eq!(driver.heartbeat("x", 1), ErrorCode::UnknownMemberId, "no group");
    let no_group = HeartbeatRequest::default().with_member_id(text("x"));
    assert_eq!(driver.heartbeat_of(no_group), ErrorCode::InvalidGroupId);
    let id = driver.new_id();
    assert_eq!(driver.heartbeat(&id, 0), ErrorCode::UnknownMemberId, "it has not joined");
    let ticket = driver.join(4, join_request(&id));
    assert_eq!(driver.heartbeat(&id, 0), ErrorCode::RebalanceInProgress);
    driver.pass(INITIAL_DELAY_MS);
    driver.joined(ticket);
    assert_eq!(driver.heartbeat(&id, 1), ErrorCode::None, "it has joined");
    assert_eq!(driver.sync_error(4, sync_request(&id, 1)), ErrorCode::None);
    assert_eq!(driver.heartbeat(&id, 1), ErrorCode::None, "it is stable");
    assert_eq!(driver.heartbeat(&id, 0), ErrorCode::IllegalGeneration);
    assert_eq!(driver.heartbeat("x", 1), ErrorCode::UnknownMemberId);
    driver.leave_all(vec![identity(&id, None)]);
    assert_eq!(driver.heartbeat(&id, 2), ErrorCode::UnknownMemberId, "it has left");
}

#[test]
fn a_silent_member_goes() {
    let mut driver = driver();
    let formed = driver.form(2);
    driver.pass(SESSION_MS - 1);
    assert_eq!(driver.heartbeat(&formed.members[0], formed.generation), ErrorCode::None);
    driver.pass(1);
    assert_eq!(driver.heartbeat(&formed.members[0], formed.generation), ErrorCode::RebalanceInProgress);
    assert_eq!(driver.heartbeat(&formed.members[1], formed.generation), ErrorCode::UnknownMemberId);
    let ticket = driver.join(4, join_request(&formed.members[0]));
    assert_eq!(driver.finish(vec![ticket]).members, formed.members[..1]);
}

/// Also while others join: the rebalance does not wait for it any longer.
#[test]
fn a_member_that_falls_silent_does_not_hold_up_a_rebalance() {
    let mut driver = driver();
    let formed = driver.form(2);
    driver.pass(5_000);
    let back = driver.join(4, join_request(&formed.members[0]));
    driver.pass(4_999);
    assert!(driver.is_waiting(back));
    driver.pass(1);
    assert_eq!(driver.finish(vec![back]).members.len(), 1);
}

/// A client cannot send heartbeats while its request waits on the same connection.
#[test]
fn who_waits_is_alive() {
    let mut driver = driver();
    let slow = |join: JoinGroupRequest| join.with_rebalance_timeout_ms(200_000);
    let tickets = [driver.join(3, slow(join_request(""))), driver.join(3, slow(join_request("")))];
    driver.pass(2 * INITIAL_DELAY_MS);
    let formed = driver.finish(tickets.into());
    // for the others to join
    let waiting = driver.join(4, slow(join_request(&formed.members[0])));
    for _ in 0..10 {
        driver.pass(9_000);
        assert_eq!(driver.heartbeat(&formed.members[1], 1), ErrorCode::RebalanceInProgress);
    }
    let last = driver.join(4, slow(join_request(&formed.members[1])));
    let joined = [waiting, last].map(|ticket| driver.joined(ticket));
    // for the leader to assign
    let (leader, follower) = (joined[0].leader.to_string(), formed.members[1].clone());
    assert_eq!(leader, formed.members[0]);
    let waiting = driver.sync(4, sync_request(&follower, 2));
    for _ in 0..10 {
        driver.pass(9_000);
        assert_eq!(driver.heartbeat(&leader, 2), ErrorCode::None);
    }
    assert_eq!(driver.sync_error(4, sync_request(&leader, 2)), ErrorCode::None);
    assert_eq!(error_of(driver.synced(waiting).error_code), ErrorCode::None);
    // its session begins with the answer
    driver.pass(SESSION_MS - 1);
    assert_eq!(driver.heartbeat(&follower, 2), ErrorCode::None);
}

/// Each member has the time that it asked for.
#[test]
fn sessions_are_the_members_own() {
    let mut driver = driver();
    let tickets =
        [6_000, 1_800_000].map(|session| driver.join(3, join_request("").with_session_timeout_ms(session)));
    driver.pass(2 * INITIAL_DELAY_MS);
    let short = driver.joined(tickets[0]).member_id;
    let long = driver.joined(tickets[1]).member_id;
    driver.pass(5_999);
    assert_eq!(driver.heartbeat(&long, 1), ErrorCode::None);
    driver.pass(1);
    assert_eq!(driver.heartbeat(&short, 1), ErrorCode::UnknownMemberId);
    assert_eq!(driver.heartbeat(&long, 1), ErrorCode::RebalanceInProgress);
}

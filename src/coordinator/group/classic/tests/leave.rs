//! Members go.

use super::*;

#[test]
fn one_leaves_before_version_3() {
    for version in [0, 2] {
        let mut driver = driver();
        let formed = driver.form(2);
        let request = |member: &str| LeaveGroupRequest::default().with_member_id(text(member));
        let response = driver.leave(version, request("x"));
        assert_eq!((error_of(response.error_code), response.members.len()), (ErrorCode::UnknownMemberId, 0));
        let response = driver.leave(version, request(&formed.members[1]));
        assert_eq!((error_of(response.error_code), response.members.len()), (ErrorCode::None, 0));
        assert_eq!(driver.heartbeat(&formed.members[0], formed.generation), ErrorCode::RebalanceInProgress);
    }
}

#[test]
fn several_leave_at_once_each_with_its_error() {
    let mut driver = driver();
    let formed = driver.form(3);
    let pending = driver.new_id();
    let members = vec![
        identity(&formed.members[1], None),
        identity("x", None),
        identity(&formed.members[1], None),
        identity(&pending, None),
        identity(&formed.members[2], Some("no instance of it")),
    ];
    let request = LeaveGroupRequest::default().with_members(members.clone());
    let response = driver.leave(5, request);
    for (member, asked) in response.members.iter().zip(&members) {
        assert_eq!(
            (&member.member_id, &member.group_instance_id),
            (&asked.member_id, &asked.group_instance_id)
        );
    }
    let (none, unknown) = (ErrorCode::None, ErrorCode::UnknownMemberId);
    let errors: Vec<_> = response.members.iter().map(|member| error_of(member.error_code)).collect();
    assert_eq!(errors, [none, unknown, unknown, none, unknown]);
    assert_eq!(driver.join_error(4, join_request(&pending)), unknown);
    let tickets = [0, 2].map(|member: usize| driver.join(4, join_request(&formed.members[member])));
    driver.finish(tickets.into());
}

#[test]
fn nobody_leaves_a_group_that_is_not_there() {
    let mut driver = driver();
    assert_eq!(driver.leave_all(vec![identity("x", None)]), [ErrorCode::UnknownMemberId]);
    let request = LeaveGroupRequest::default().with_member_id(text("x"));
    assert_eq!(error_of(driver.leave(1, request.clone()).error_code), ErrorCode::UnknownMemberId);
    let Reply::Leave(response) = driver.ask(5, Body::Leave(LeaveGroupRequest::default())) else { panic!() };
    assert_eq!(error_of(response.error_code), ErrorCode::InvalidGroupId);
}

/// A member that was only about to come disturbs nobody.
#[test]
fn who_has_not_joined_leaves_without_a_rebalance() {
    let mut driver = driver();
    let formed = driver.form(1);
    let pending = driver.new_id();
    assert_eq!(driver.leave_all(vec![identity(&pending, None)]), [ErrorCode::None]);
    assert_eq!(driver.heartbeat(&formed.members[0], formed.generation), ErrorCode::None);
}

#[test]
fn the_last_one_leaves_an_empty_group() {
    let mut driver = driver();
    let formed = driver.form(2);
    let records = driver.log.len();
    let leaving = formed.members.iter().map(|member| identity(member, None)).collect();
    assert_eq!(driver.leave_all(leaving), [ErrorCode::None; 2]);
    assert_eq!(driver.state(), "Empty");
    assert_eq!(driver.log.len(), records + 1, "it is written");
    // while one waits to join, too
    let id = driver.new_id();
    let waiting = driver.join(4, join_request(&id));
    driver.pass(INITIAL_DELAY_MS);
    driver.finish(vec![waiting]);
    let newcomer = driver.join(3, join_request(""));
    assert_eq!(driver.leave_all(vec![identity(&id, None)]), [ErrorCode::None]);
    driver.finish(vec![newcomer]);
}

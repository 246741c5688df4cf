//! What is left after a restart.

use super::*;
use crate::coordinator::Machine;
use crate::coordinator::record::{ClassicGroupValue, ClassicMemberValue, LogRecord, Record};

#[test]
fn a_stable_group_goes_on() {
    let mut driver = driver();
    let formed = driver.form(2);
    driver.pass(9_000);
    driver.restart();
    assert_eq!(driver.state(), "Stable");
    // members have their time anew
    driver.pass(9_000);
    for member in &formed.members {
        assert_eq!(driver.heartbeat(member, formed.generation), ErrorCode::None);
        let ticket = driver.sync(4, sync_request(member, formed.generation));
        assert_eq!(driver.synced(ticket).assignment, format!("of {member}"));
    }
    let ticket = driver.join(4, join_request(&formed.members[1]));
    assert_eq!(driver.joined(ticket).generation_id, formed.generation, "it is unchanged");
    driver.pass(SESSION_MS);
    assert_eq!(driver.state(), "Empty", "nobody was heard of");
}

/// What was going on is not in the log: the group is what it was before.
#[test]
fn a_rebalance_begins_anew() {
    let mut driver = driver();
    let formed = driver.form(2);
    let newcomer = driver.join(3, join_request(""));
    let tickets: Vec<_> = formed.members.iter().map(|id| driver.join(4, join_request(id))).collect();
    assert_eq!(driver.state(), "CompletingRebalance");
    driver.joined(newcomer);
    for ticket in tickets {
        assert_eq!(driver.joined(ticket).generation_id, 2);
    }
    driver.restart();
    assert_eq!(driver.state(), "Stable");
    assert_eq!(driver.describe().members.len(), 2);
    for member in &formed.members {
        assert_eq!(driver.sync_error(4, sync_request(member, 2)), ErrorCode::IllegalGeneration);
        assert_eq!(driver.heartbeat(member, 1), ErrorCode::None);
    }
    assert_eq!(driver.leave_all(vec![identity(&formed.members[1], None)]), [ErrorCode::None]);
    let ticket = driver.join(4, join_request(&formed.members[0]));
    driver.finish(vec![ticket]);
}

#[test]
fn an_empty_group_counts_on() {
    let mut driver = driver();
    let formed = driver.form(1);
    driver.leave_all(vec![identity(&formed.members[0], None)]);
    driver.restart();
    assert_eq!(driver.state(), "Empty");
    assert_eq!(driver.join_alone().generation_id, formed.generation + 2);
}

/// What the record says that other brokers and tools read.
#[test]
fn the_record_is_kafkas() {
    let mut driver = driver();
    let ticket = driver.join(5, static_join("", "i"));
    driver.pass(INITIAL_DELAY_MS);
    driver.pass(1_234);
    let formed = driver.finish(vec![ticket]);
    let id = formed.members[0].clone();
    let (key, value) = driver.log.last().unwrap();
    let record = Record::decode(key, value.as_deref()).unwrap().unwrap();
    let member = ClassicMemberValue {
        member: id.clone(),
        instance: Some("i".to_owned()),
        client_id: "client".to_owned(),
        client_host: "/127.0.0.1".to_owned(),
        rebalance_timeout_ms: REBALANCE_MS as i32,
        session_timeout_ms: SESSION_MS as i32,
        subscription: subscription(&["t"]),
        assignment: format!("of {id}").into(),
    };
    let value = ClassicGroupValue {
        protocol_type: "consumer".to_owned(),
        generation: 1,
        protocol: Some("range".to_owned()),
        leader: Some(id),
        state_timestamp: driver.now.wall,
        members: vec![member],
    };
    assert_eq!(record, Record::ClassicGroup { group: "g".to_owned(), value: Some(value) });
    driver.leave_all(vec![identity("", Some("i"))]);
    let (key, value) = driver.log.last().unwrap();
    let empty = ClassicGroupValue {
        protocol_type: "consumer".to_owned(),
        generation: 2,
        protocol: None,
        leader: None,
        state_timestamp: driver.now.wall,
        members: Vec::new(),
    };
    let record = Record::decode(key, value.as_deref()).unwrap().unwrap();
    assert_eq!(record, Record::ClassicGroup { group: "g".to_owned(), value: Some(empty) });
}

/// Whatever lies in the log, no panic: a leader that is no member, members without a protocol, one twice, odd timeouts.
#[test]
fn what_contradicts_itself_in_the_log_does_no_harm() {
    let member = |id: &str, instance: Option<&str>| ClassicMemberValue {
        member: id.to_owned(),
        instance: instance.map(str::to_owned),
        client_id: String::new(),
        client_host: String::new(),
        rebalance_timeout_ms: -7,
        session_timeout_ms: -1,
        subscription: Bytes::from_static(b"?"),
        assignment: Bytes::new(),
    };
    let value = ClassicGroupValue {
        protocol_type: String::new(),
        generation: i32::MAX,
        protocol: None,
        leader: Some("nobody".to_owned()),
        state_timestamp: -1,
        members: vec![member("a", Some("i")), member("b", Some("i")), member("a", None), member("c", None)],
    };
    let mut driver = driver();
    driver.log.push(Record::ClassicGroup { group: "g".to_owned(), value: Some(value) }.encode());
    driver.coordinator = super::super::super::GroupCoordinator::new(driver.settings.clone());
    driver.restart();
    driver.describe();
    let ticket = driver.join(9, static_join("", "i"));
    driver.pass(REBALANCE_MS);
    driver.reply(ticket);
    driver.all_are_answered();
    assert_eq!(driver.state(), "Dead", "all have gone, and the group with them");
}

//! Both protocols in one group.

use super::*;
use crate::coordinator::group::Migration;
use crate::protocol::messages::join_group_request::JoinGroupRequestProtocol;
use crate::protocol::messages::leave_group_request::MemberIdentity;
use crate::protocol::messages::sync_group_request::SyncGroupRequestAssignment;
use crate::protocol::messages::{
    HeartbeatRequest, JoinGroupRequest, JoinGroupResponse, LeaveGroupRequest, SyncGroupRequest,
    SyncGroupResponse,
};

const SESSION_MS: i32 = 10_000;

/// What a consumer of the classic protocol says: version 1.
fn subscription(topics: &[&str], owned: &[(&str, &[i32])]) -> Bytes {
    let mut out = vec![0, 1];
    let put_text = |text: &str, out: &mut Vec<u8>| {
        out.extend(i16::try_from(text.len()).unwrap().to_be_bytes());
        out.extend(text.as_bytes());
    };
    let put_count = |count: usize, out: &mut Vec<u8>| out.extend(i32::try_from(count).unwrap().to_be_bytes());
    put_count(topics.len(), &mut out);
    topics.iter().for_each(|topic| put_text(topic, &mut out));
    out.extend((-1_i32).to_be_bytes());
    put_count(owned.len(), &mut out);
    for (topic, partitions) in owned {
        put_text(topic, &mut out);
        put_count(partitions.len(), &mut out);
        partitions.iter().for_each(|partition| out.extend(partition.to_be_bytes()));
    }
    out.into()
}

/// `a` with these partitions, as an assignor of the classic protocol writes it.
fn assignment(partitions: &[i32]) -> Bytes {
    let mut out = vec![0, 1, 0, 0, 0, 1, 0, 1, b'a'];
    out.extend(i32::try_from(partitions.len()).unwrap().to_be_bytes());
    partitions.iter().for_each(|partition| out.extend(partition.to_be_bytes()));
    out.extend((-1_i32).to_be_bytes());
    out.into()
}

fn classic_join(member: &str, owned: &[(&str, &[i32])]) -> JoinGroupRequest {
    let protocol = JoinGroupRequestProtocol::default()
        .with_name(text("range"))
        .with_metadata(subscription(&["a"], owned));
    JoinGroupRequest::default()
        .with_group_id(GroupId(text(GROUP)))
        .with_member_id(text(member))
        .with_session_timeout_ms(SESSION_MS)
        .with_rebalance_timeout_ms(REBALANCE_MS)
        .with_protocol_type(text("consumer"))
        .with_protocols(vec![protocol])
}

impl Broker {
    fn join_classic(&mut self, version: i16, request: JoinGroupRequest) -> JoinGroupResponse {
        let ticket = self.send(version, Body::Join(Box::new(request)));
        let Reply::Join(response) = self.reply(ticket) else { panic!() };
        *response
    }

    fn sync(&mut self, member: &str, generation: i32, assignments: &[(&str, Bytes)]) -> SyncGroupResponse {
        let assignments = assignments.iter().map(|(member, assignment)| {
            SyncGroupRequestAssignment::default()
                .with_member_id(text(member))
                .with_assignment(assignment.clone())
        });
        let request = SyncGroupRequest::default()
            .with_group_id(GroupId(text(GROUP)))
            .with_member_id(text(member))
            .with_generation_id(generation)
            .with_protocol_type(Some(text("consumer")))
            .with_protocol_name(Some(text("range")))
            .with_assignments(assignments.collect());
        let ticket = self.send(5, Body::Sync(Box::new(request)));
        let Reply::Sync(response) = self.reply(ticket) else { panic!() };
        *response
    }

    fn beat_classic(&mut self, member: &str, generation: i32) -> ErrorCode {
        let request = HeartbeatRequest::default()
            .with_group_id(GroupId(text(GROUP)))
            .with_member_id(text(member))
            .with_generation_id(generation);
        let ticket = self.send(4, Body::Heartbeat(request));
        let Reply::Heartbeat(response) = self.reply(ticket) else { panic!() };
        error_of(response.error_code)
    }

    fn leave_classic(&mut self, members: &[(&str, Option<&str>)]) -> Vec<ErrorCode> {
        let identities = members.iter().map(|(member, instance)| {
            MemberIdentity::default().with_member_id(text(member)).with_group_instance_id(instance.map(text))
        });
        let request = LeaveGroupRequest::default()
            .with_group_id(GroupId(text(GROUP)))
            .with_members(identities.collect());
        let ticket = self.send(5, Body::Leave(request));
        let Reply::Leave(response) = self.reply(ticket) else { panic!() };
        response.members.iter().map(|member| error_of(member.error_code)).collect()
    }

    /// The group's only member, of the classic protocol, has all of `a`; its id.
    fn one_classic(&mut self) -> String {
        let first = self.join_classic(4, classic_join("", &[]));
        assert_eq!(error_of(first.error_code), ErrorCode::MemberIdRequired);
        let id = first.member_id.as_str().to_owned();
        let ticket = self.send(5, Body::Join(Box::new(classic_join(&id, &[]))));
        self.pass(3_000);
        let Reply::Join(joined) = self.reply(ticket) else { panic!() };
        assert_eq!((joined.error_code, joined.generation_id), (0, 1));
        let synced = self.sync(&id, 1, &[(&id, assignment(&[0, 1, 2, 3]))]);
        assert_eq!(synced.assignment, assignment(&[0, 1, 2, 3]));
        id
    }

    fn is_classic(&self) -> bool {
        matches!(self.coordinator.groups[GROUP].members, Members::Classic(_))
    }
}

/// Online, up and down again; the members hand their partitions over as those of one protocol do.
#[test]
fn a_group_goes_to_the_consumer_protocol_and_back() {
    let mut broker = Broker::with_topics();
    let old = broker.one_classic();
    let joined = broker.beat(join("new", &["a"]));
    assert_eq!(kinds(&broker.records), "gMEPTCMEPPTC");
    assert_eq!((joined.member_epoch, told(&joined)), (2, Some(Has::new())));
    let types: BTreeMap<String, i8> = (broker.describe().members.iter())
        .map(|member| (member.member_id.as_str().to_owned(), member.member_type))
        .collect();
    assert_eq!(types, BTreeMap::from([(old.clone(), 0), ("new".to_owned(), 1)]));
    // the old one gives half up
    assert_eq!(broker.beat_classic(&old, 1), ErrorCode::RebalanceInProgress);
    assert_eq!(error_of(broker.sync(&old, 1, &[]).error_code), ErrorCode::RebalanceInProgress);
    let all: &[(&str, &[i32])] = &[("a", &[0, 1, 2, 3])];
    let rejoined = broker.join_classic(5, classic_join(&old, all));
    assert_eq!((rejoined.error_code, rejoined.generation_id), (0, 1));
    assert_eq!(rejoined.protocol_name.as_deref(), Some("range"));
    assert_eq!(broker.sync(&old, 1, &[]).assignment, assignment(&[0, 1]));
    assert_eq!(broker.beat_classic(&old, 1), ErrorCode::RebalanceInProgress);
    let half: &[(&str, &[i32])] = &[("a", &[0, 1])];
    assert_eq!(broker.join_classic(5, classic_join(&old, half)).generation_id, 2);
    assert_eq!(broker.sync(&old, 2, &[]).assignment, assignment(&[0, 1]));
    assert_eq!(broker.beat_classic(&old, 2), ErrorCode::None);
    assert_eq!(told(&broker.beat(heartbeat("new", 2))), Some(has(&[(1, &[2, 3])])));
    assert_eq!(broker.state(), "Stable");
    // the new one goes
    assert_eq!(broker.beat(heartbeat("new", -1)).error_code, 0);
    assert_eq!(kinds(&broker.records), "ccpptmmeG");
    assert!(broker.is_classic());
    assert_eq!(broker.beat_classic(&old, 2), ErrorCode::RebalanceInProgress);
    let ticket = broker.send(5, Body::Join(Box::new(classic_join(&old, half))));
    let Reply::Join(alone) = broker.reply(ticket) else { panic!() };
    assert_eq!((alone.error_code, alone.generation_id, alone.leader.as_str()), (0, 3, old.as_str()));
    broker.restart();
    assert!(broker.is_classic());
}

#[test]
fn a_group_of_the_classic_protocol_may_have_reasons_to_stay_one() {
    let mut broker = Broker::with_topics();
    broker.coordinator.settings.migration = Migration { upgrade: false, downgrade: true };
    let old = broker.one_classic();
    let joining = || join("new", &["a"]);
    assert_eq!(broker.refused(joining()), ErrorCode::GroupIdNotFound);
    broker.coordinator.settings.migration.upgrade = true;
    broker.coordinator.settings.consumer_max_size = 0;
    assert_eq!(broker.refused(joining()), ErrorCode::GroupIdNotFound);
    broker.coordinator.settings.consumer_max_size = 1;
    assert_eq!(broker.refused(joining()), ErrorCode::GroupMaxSizeReached);
    broker.coordinator.settings.consumer_max_size = 2;
    for epoch in [1, -1] {
        assert_eq!(broker.refused(heartbeat("new", epoch)), ErrorCode::GroupIdNotFound);
    }
    assert!(broker.is_classic());
    assert_eq!(broker.beat_classic(&old, 1), ErrorCode::None, "nothing has happened to it");
    assert_eq!(broker.beat(joining()).error_code, 0);
}

/// An assignor's own words, or bytes that are none of Kafka's.
#[test]
fn a_group_whose_assignments_say_more_is_not_upgraded() {
    let mut words = assignment(&[0]).to_vec();
    words.truncate(words.len() - 4);
    words.extend([0, 0, 0, 1, 9]);
    for bytes in [Bytes::from(words), Bytes::from_static(b"x"), assignment(&[0]).slice(..10)] {
        let mut broker = Broker::with_topics();
        let first = broker.join_classic(4, classic_join("", &[])).member_id.as_str().to_owned();
        let ticket = broker.send(5, Body::Join(Box::new(classic_join(&first, &[]))));
        broker.pass(3_000);
        let _ = broker.reply(ticket);
        broker.sync(&first, 1, &[(&first, bytes)]);
        assert_eq!(broker.refused(join("new", &["a"])), ErrorCode::GroupIdNotFound);
        assert!(broker.is_classic());
    }
}

/// Who waits for the others of the classic group is told to come again.
#[test]
fn those_who_wait_are_answered_when_the_group_changes() {
    let mut broker = Broker::with_topics();
    let first = broker.join_classic(4, classic_join("", &[])).member_id.as_str().to_owned();
    let ticket = broker.send(5, Body::Join(Box::new(classic_join(&first, &[]))));
    assert_eq!(broker.beat(join("new", &["a"])).error_code, 0);
    let Reply::Join(told) = broker.reply(ticket) else { panic!() };
    assert_eq!(error_of(told.error_code), ErrorCode::RebalanceInProgress);
    assert_eq!(broker.describe().members.len(), 2);
    let rejoined = broker.join_classic(5, classic_join(&first, &[]));
    assert_eq!(rejoined.error_code, 0);
}

/// Epoch 0 is that of who is no member: one who was told it would join for ever.
#[test]
fn a_group_that_changes_before_its_first_generation_has_an_epoch() {
    let mut broker = Broker::with_topics();
    let waits = broker.send(3, Body::Join(Box::new(classic_join("", &[]))));
    assert!(broker.is_waiting(waits));
    assert_eq!(broker.beat(join("reads-nothing", &[])).member_epoch, 2);
}

/// A cooperative member goes on reading while it waits for the others.
#[test]
fn what_a_member_reads_amid_a_rebalance_stays_its_own_when_the_group_changes() {
    let mut broker = Broker::with_topics();
    let old = broker.one_classic();
    broker.send(3, Body::Join(Box::new(classic_join("", &[]))));
    let joins = broker.send(5, Body::Join(Box::new(classic_join(&old, &[("a", &[0, 1, 2, 3])]))));
    let Reply::Join(joined) = broker.reply(joins) else { panic!() };
    assert_eq!((joined.error_code, joined.generation_id), (0, 2));
    // another one comes before anything is assigned: the group forgets who had what
    broker.send(3, Body::Join(Box::new(classic_join("", &[]))));
    let new = broker.beat(join("new", &["a"]));
    assert_eq!(told(&new), Some(Has::new()), "all of it is read");
    assert!(!broker.is_classic());
}

#[test]
fn empty_groups_change_without_a_word() {
    let mut broker = Broker::with_topics();
    let old = broker.one_classic();
    assert_eq!(broker.leave_classic(&[(&old, None)]), [ErrorCode::None]);
    broker.coordinator.settings.migration = Migration { upgrade: false, downgrade: false };
    assert_eq!(broker.beat(join("new", &["a"])).member_epoch, 2);
    assert_eq!(kinds(&broker.records), "gMEPTC");
    assert_eq!(
        broker.join_classic(5, classic_join("", &[])).error_code,
        ErrorCode::InconsistentGroupProtocol.code()
    );
    broker.beat(heartbeat("new", -1));
    let first = broker.join_classic(4, classic_join("", &[]));
    assert_eq!(error_of(first.error_code), ErrorCode::MemberIdRequired);
    assert_eq!(kinds(&broker.records), "te");
}

#[test]
fn a_classic_member_joins_a_consumer_group() {
    let mut broker = Broker::with_topics();
    broker.beat(join("new", &["a"]));
    let given = broker.join_classic(4, classic_join("", &[]));
    assert_eq!(
        (error_of(given.error_code), kinds(&broker.records).as_str()),
        (ErrorCode::MemberIdRequired, "")
    );
    let id = given.member_id.as_str().to_owned();
    let other = classic_join(&id, &[]).with_protocol_type(text("connect"));
    assert_eq!(error_of(broker.join_classic(5, other).error_code), ErrorCode::InconsistentGroupProtocol);
    let mut malformed = classic_join(&id, &[]);
    malformed.protocols[0].metadata = Bytes::from_static(&[0, 1, 0xff, 0xff]);
    assert_eq!(error_of(broker.join_classic(5, malformed).error_code), ErrorCode::InconsistentGroupProtocol);
    let joined = broker.join_classic(5, classic_join(&id, &[]));
    assert_eq!((joined.error_code, joined.generation_id), (0, 3));
    assert_eq!(broker.sync(&id, 3, &[]).assignment.len(), 2 + 4 + 4, "nothing is free yet");
    assert_eq!(broker.beat_classic(&id, 3), ErrorCode::None);
    broker.beat(heartbeat("new", 2));
    broker.beat(heartbeat("new", 2).with_topic_partitions(owned(&[(1, &[2, 3])])));
    broker.beat(heartbeat("new", 2).with_topic_partitions(owned(&[(1, &[0, 1])])));
    assert_eq!(broker.beat_classic(&id, 3), ErrorCode::RebalanceInProgress, "it is free now");
    broker.join_classic(5, classic_join(&id, &[]));
    assert_ne!(broker.sync(&id, 3, &[]).assignment.len(), 10);
    // generations and members are checked
    assert_eq!(broker.beat_classic(&id, 4), ErrorCode::IllegalGeneration);
    assert_eq!(error_of(broker.sync(&id, 2, &[]).error_code), ErrorCode::IllegalGeneration);
    for stranger in ["new", "nobody"] {
        assert_eq!(broker.beat_classic(stranger, 3), ErrorCode::UnknownMemberId);
        assert_eq!(error_of(broker.sync(stranger, 3, &[]).error_code), ErrorCode::UnknownMemberId);
    }
    let long = "x".repeat(40_000);
    assert_eq!(
        error_of(broker.join_classic(5, classic_join(&long, &[])).error_code),
        ErrorCode::UnknownMemberId
    );
    assert_eq!(broker.refused(join(&long, &["a"])), ErrorCode::InvalidRequest);
}

#[test]
fn a_classic_member_has_its_own_timeouts() {
    // it does not join when it is told to; it joins and does not sync; it is silent
    for (case, expected) in [(0, 65_000), (1, 60_000), (2, 10_000)] {
        let mut broker = Broker::with_topics();
        let old = broker.one_classic();
        broker.beat(join("new", &["a"]));
        if case == 1 {
            broker.join_classic(5, classic_join(&old, &[("a", &[0, 1, 2, 3])]));
        }
        let mut waited = 0;
        while broker.describe().members.len() == 2 {
            assert!(waited <= 60_000, "case {case}");
            broker.pass(5_000);
            waited += 5_000;
            if case < 2 {
                let _ = broker.beat_classic(&old, 1);
            }
            broker.beat(heartbeat("new", 2));
        }
        assert_eq!(waited, expected, "case {case}");
    }
}

#[test]
fn members_of_both_protocols_leave_together() {
    let mut broker = Broker::with_topics();
    let old = broker.one_classic();
    broker.beat(join("new", &["a"]));
    broker.beat(join("static", &["a"]).with_instance_id(Some(text("i"))));
    let left = broker.leave_classic(&[
        ("nobody", None),
        ("", Some("i")),
        ("x", Some("i")),
        ("", Some("j")),
        (&old, None),
        (&old, None),
    ]);
    let expected = [
        ErrorCode::UnknownMemberId,
        ErrorCode::None,
        ErrorCode::FencedInstanceId,
        ErrorCode::UnknownMemberId,
        ErrorCode::None,
        ErrorCode::None,
    ];
    assert_eq!(left, expected);
    assert_eq!(kinds(&broker.records), "cpmcpmE");
    assert_eq!(broker.describe().members.len(), 1);
}

/// A static member comes back with the other protocol, in both directions.
#[test]
fn a_static_member_changes_its_protocol() {
    let mut broker = Broker::with_topics();
    broker.beat(join("m", &["a"]).with_instance_id(Some(text("i"))));
    broker.beat(heartbeat("m", -2).with_instance_id(Some(text("i"))));
    let request = classic_join("", &[]).with_group_instance_id(Some(text("i")));
    let joined = broker.join_classic(5, request);
    assert_eq!((joined.error_code, joined.generation_id), (0, 2));
    assert!(broker.is_classic(), "the last one of the consumer protocol");
    let id = joined.member_id.as_str().to_owned();
    let synced = broker.sync(&id, 2, &[]);
    assert_eq!((synced.error_code, synced.assignment), (0, assignment(&[0, 1, 2, 3])));
    let back = broker.beat(join("m2", &["a"]).with_instance_id(Some(text("i"))));
    assert_eq!(told(&back), Some(has(&[(1, &[0, 1, 2, 3])])));
    assert_eq!(broker.describe().members.len(), 1);
    assert_eq!(broker.beat_classic(&id, 2), ErrorCode::UnknownMemberId);
}

/// Who waited for the rebalance has nothing yet, whatever the member that changes the group reads.
#[test]
fn a_group_that_changes_amid_a_rebalance_is_assigned_anew() {
    let mut broker = Broker::with_topics();
    let old = broker.one_classic();
    broker.leave_classic(&[(&old, None)]);
    let waits = broker.send(3, Body::Join(Box::new(classic_join("", &[]))));
    assert!(broker.is_waiting(waits));
    broker.beat(join("reads-nothing", &[]));
    let Reply::Join(told) = broker.reply(waits) else { panic!() };
    let id = told.member_id.as_str().to_owned();
    let joined = broker.join_classic(5, classic_join(&id, &[]));
    let synced = broker.sync(&id, joined.generation_id, &[]);
    assert_eq!((synced.error_code, synced.assignment), (0, assignment(&[0, 1, 2, 3])));
}

/// It is not given what another has still: the group is assigned anew.
#[test]
fn a_static_member_that_changes_its_protocol_takes_nothing_from_others() {
    let mut broker = Broker::with_topics();
    let old = broker.one_classic();
    let new = broker.beat(join("m", &["a"]).with_instance_id(Some(text("i"))));
    assert_eq!(told(&new), Some(Has::new()), "half of it is to be its own, and is another's");
    broker.beat(heartbeat("m", -2).with_instance_id(Some(text("i"))));
    let joined = broker.join_classic(5, classic_join("", &[]).with_group_instance_id(Some(text("i"))));
    assert!(broker.is_classic());
    let synced = broker.sync(&joined.member_id, joined.generation_id, &[]);
    assert_ne!(synced.error_code, 0);
    assert_ne!(broker.beat_classic(&old, 1), ErrorCode::None);
}

#[test]
fn what_a_member_reads_stays_its_own_when_the_group_changes_there_and_back() {
    let mut broker = Broker::with_topics();
    broker.one_classic();
    broker.beat(join("new", &["a"]));
    broker.beat(heartbeat("new", -1));
    assert!(broker.is_classic());
    // the old one has not heard of any of it, and reads on
    assert_eq!(told(&broker.beat(join("newer", &["a"]))), Some(Has::new()));
}

#[test]
fn without_a_downgrade_the_group_stays_one_of_the_consumer_protocol() {
    let mut broker = Broker::with_topics();
    let old = broker.one_classic();
    broker.beat(join("new", &["a"]));
    broker.coordinator.settings.migration.downgrade = false;
    broker.beat(heartbeat("new", -1));
    assert_eq!(kinds(&broker.records), "cpmE");
    assert!(!broker.is_classic());
    assert_eq!(broker.beat_classic(&old, 1), ErrorCode::RebalanceInProgress);
}

//! A member of the classic protocol.

use std::collections::BTreeSet;
use std::time::Duration;

use super::client::{Player, Speech, error_of, text};
use super::{Part, REBALANCE_MS, SESSION_MS, chance, embedded, pause};
use crate::coordinator::group::{Body, Reply};
use crate::coordinator::record::{Assignment, Subscription};
use crate::model::ErrorCode;
use crate::protocol::messages::join_group_request::JoinGroupRequestProtocol;
use crate::protocol::messages::sync_group_request::SyncGroupRequestAssignment;
use crate::protocol::messages::{
    GroupId, HeartbeatRequest, JoinGroupRequest, JoinGroupResponse, SyncGroupRequest,
};
use crate::reactor;
use crate::sim_tests::life::Phase;

const TYPE: &str = "consumer";
/// From here on a leader that has come back is told that it leads.
const SKIP_ASSIGNMENT_FROM: i16 = 9;

impl Player {
    /// What a consumer does between two reads.
    pub async fn tick(&self) {
        self.look_at_topics();
        if self.client.state.borrow().rejoins {
            self.rejoin().await;
        } else {
            self.heartbeat().await;
        }
    }

    fn is_cooperative(&self) -> bool {
        self.client.state.borrow().speech == Speech::Cooperative
    }

    fn protocol(&self) -> &'static str {
        if self.is_cooperative() { "cooperative" } else { "eager" }
    }

    /// Topics of the name's kind and their partitions, now.
    fn topics(&self) -> Vec<(String, i32)> {
        let image = self.shard.image();
        let topics = image.topics().filter(|topic| topic.name.starts_with('t'));
        topics
            .map(|topic| (topic.name.clone(), i32::try_from(topic.partitions.len()).expect("few")))
            .collect()
    }

    /// The one who has assigned does so again when there are others.
    fn look_at_topics(&self) {
        let topics = self.topics();
        let state = &mut *self.client.state.borrow_mut();
        if state.assigned_for.as_ref().is_some_and(|assigned_for| *assigned_for != topics) {
            state.rejoins = true;
        }
    }

    async fn heartbeat(&self) {
        let asked_ms = self.world.now_ms();
        let request = {
            let state = self.client.state.borrow();
            HeartbeatRequest::default()
                .with_group_id(GroupId(text(&self.client.group)))
                .with_generation_id(state.epoch)
                .with_member_id(text(&state.id))
                .with_group_instance_id(self.client.instance.as_deref().map(text))
        };
        let Ok(Reply::Heartbeat(response)) = self.ask(4, Body::Heartbeat(request)).await else { return };
        match error_of(response.error_code) {
            ErrorCode::None => {
                let state = &mut *self.client.state.borrow_mut();
                (state.heard_ms, state.clean_ms) = (asked_ms, asked_ms);
            }
            ErrorCode::RebalanceInProgress => {
                let state = &mut *self.client.state.borrow_mut();
                (state.heard_ms, state.rejoins) = (asked_ms, true);
            }
            error => return self.refused(error),
        }
        self.check_owned();
    }

    /// An answer that says it is no member of this generation.
    fn refused(&self, error: ErrorCode) {
        let state = &mut *self.client.state.borrow_mut();
        match error {
            ErrorCode::IllegalGeneration => state.is_lost(),
            // fenced: the process ends, another begins
            ErrorCode::UnknownMemberId | ErrorCode::FencedInstanceId => {
                state.is_lost();
                state.id = String::new();
            }
            error => panic!("{}: {error:?}: {state:#?}", self.world.place()),
        }
    }

    /// Until it has joined, or has to do so again later.
    async fn rejoin(&self) {
        if !self.is_cooperative() {
            let state = &mut *self.client.state.borrow_mut();
            state.owned.clear();
            state.told.clear();
        }
        self.client.state.borrow_mut().rejoins = true;
        let comes_back = self.client.instance.is_some() && self.client.state.borrow().id.is_empty();
        let Some(joined) = self.join().await else { return };
        let asked_for = self.topics();
        let is_leader = joined.leader == joined.member_id && !joined.members.is_empty();
        let assigns = is_leader && !joined.skip_assignment;
        {
            let state = &mut *self.client.state.borrow_mut();
            if assigns {
                state.last_assigned_for.clone_from(&asked_for);
            }
            // Kafka's consumer that comes back as the leader takes the topics as they are then for what it has assigned, and
            // never learns that one has grown meanwhile
            state.assigned_for = is_leader.then(|| state.last_assigned_for.clone());
        }
        let assignments = if assigns { self.assignments(&asked_for, &joined) } else { Vec::new() };
        if self.world.life().is_stormy() && chance(3) {
            pause(2 * SESSION_MS).await;
        }
        self.sync(&joined, assignments).await;
        if comes_back && self.world.life().phase() == Phase::Calm {
            self.all_rejoin();
        }
    }

    /// A static member that comes back gets what it had, even if it reads other topics now: coordinators do not look into what
    /// it says (Kafka's neither), so that it takes the leader's joining anew to see it.
    fn all_rejoin(&self) {
        for member in self.others().chain([&self.client]) {
            member.state.borrow_mut().rejoins = true;
        }
    }

    async fn join(&self) -> Option<JoinGroupResponse> {
        let asked_ms = self.world.now_ms();
        // one that the group knows may be behind the others
        let is_new = !std::mem::replace(&mut self.client.state.borrow_mut().has_asked, true);
        let others = if is_new || !self.may_speak_both() { self.epochs() } else { Vec::new() };
        let is_static = self.client.instance.is_some();
        let version = if is_static { SKIP_ASSIGNMENT_FROM } else { 5 + (reactor::random_u64() % 5) as i16 };
        let request = {
            let state = self.client.state.borrow();
            let protocol = JoinGroupRequestProtocol::default()
                .with_name(text(self.protocol()))
                .with_metadata(embedded::subscription(&state.topics, &state.owned));
            JoinGroupRequest::default()
                .with_group_id(GroupId(text(&self.client.group)))
                .with_member_id(text(&state.id))
                .with_group_instance_id(self.client.instance.as_deref().map(text))
                .with_session_timeout_ms(i32::try_from(SESSION_MS).expect("a few seconds"))
                .with_rebalance_timeout_ms(i32::try_from(REBALANCE_MS).expect("a few seconds"))
                .with_protocol_type(text(TYPE))
                .with_protocols(vec![protocol])
        };
        let reply = self.ask(version, Body::Join(Box::new(request))).await;
        let Ok(Reply::Join(joined)) = reply else { return None };
        match error_of(joined.error_code) {
            ErrorCode::None => {
                // who takes the place of the last member of the consumer protocol is told 0, by Kafka, too, if the group is
                // about to be assigned anew: it has to join again
                if joined.generation_id > 0 || !self.may_speak_both() {
                    self.check_epoch(joined.generation_id, &others);
                }
                let state = &mut *self.client.state.borrow_mut();
                if state.lease_ends() <= self.world.now_ms() {
                    // perhaps it was forgotten and does not know it: a group of the consumer protocol takes it in again
                    // under its old id, as Kafka's does, and what it still reads is its own no more
                    state.stale = state.owned.clone();
                }
                state.id = joined.member_id.to_string();
                state.epoch = joined.generation_id;
                state.heard_ms = asked_ms;
                Some(*joined)
            }
            ErrorCode::MemberIdRequired => {
                self.client.state.borrow_mut().id = joined.member_id.to_string();
                None
            }
            // another request of the same member has taken its place; a protocol that others do not speak (any more)
            ErrorCode::RebalanceInProgress | ErrorCode::InconsistentGroupProtocol => None,
            error => {
                self.refused(error);
                None
            }
        }
    }

    fn assignments(
        &self,
        topics: &[(String, i32)],
        joined: &JoinGroupResponse,
    ) -> Vec<SyncGroupRequestAssignment> {
        let members: Vec<(String, Subscription)> = (joined.members.iter())
            .map(|member| {
                let said = Subscription::decode(&member.metadata).expect("what a member has said");
                (member.member_id.to_string(), said)
            })
            .collect();
        let assigned = embedded::assign(topics, &members, self.is_cooperative());
        let assigned = assigned.into_iter().map(|(id, parts)| {
            SyncGroupRequestAssignment::default()
                .with_member_id(text(&id))
                .with_assignment(Assignment::encode(1, &embedded::named(&parts)))
        });
        assigned.collect()
    }

    async fn sync(&self, joined: &JoinGroupResponse, assignments: Vec<SyncGroupRequestAssignment>) {
        let asked_ms = self.world.now_ms();
        let request = SyncGroupRequest::default()
            .with_group_id(GroupId(text(&self.client.group)))
            .with_generation_id(joined.generation_id)
            .with_member_id(joined.member_id.clone())
            .with_group_instance_id(self.client.instance.as_deref().map(text))
            .with_protocol_type(Some(text(TYPE)))
            .with_protocol_name(joined.protocol_name.clone())
            .with_assignments(assignments);
        let Ok(Reply::Sync(synced)) = self.ask(5, Body::Sync(Box::new(request))).await else { return };
        match error_of(synced.error_code) {
            ErrorCode::None => {
                let assignment = match &synced.assignment {
                    bytes if bytes.is_empty() => Assignment::default(),
                    bytes => Assignment::decode(bytes).expect("what the leader or the coordinator has made"),
                };
                self.take(asked_ms, embedded::parts(&assignment.partitions)).await;
            }
            ErrorCode::RebalanceInProgress => {}
            error => self.refused(error),
        }
    }

    /// Reads what is new at once, and gives up the rest.
    async fn take(&self, asked_ms: u64, assigned: BTreeSet<Part>) {
        let has_to_give_up = {
            let state = &mut *self.client.state.borrow_mut();
            state.owned.extend(assigned.iter().cloned());
            state.stale.retain(|part| !assigned.contains(part));
            state.told = assigned;
            (state.heard_ms, state.clean_ms) = (asked_ms, asked_ms);
            state.durable_epoch = state.epoch;
            state.rejoins = state.has_to_give_up();
            state.rejoins
        };
        self.check_owned();
        if has_to_give_up {
            if self.world.life().is_stormy() {
                reactor::sleep(Duration::from_millis(reactor::random_u64() % 1_000)).await;
            }
            let state = &mut *self.client.state.borrow_mut();
            let told = state.told.clone();
            state.owned.retain(|part| told.contains(part));
        }
    }
}

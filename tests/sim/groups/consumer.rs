//! A member of the consumer protocol (KIP-848).

use std::collections::BTreeMap;

use super::client::{Player, State, error_of, text};
use super::{Part, REBALANCE_MS, chance};
use crate::coordinator::group::{Body, Reply};
use crate::model::{ErrorCode, TopicId};
use crate::protocol::messages::consumer_group_heartbeat_request::TopicPartitions;
use crate::protocol::messages::{
    ConsumerGroupHeartbeatRequest, ConsumerGroupHeartbeatResponse, GroupId, TopicName,
};
use crate::reactor;

const VERSION: i16 = 1;

impl Player {
    /// A heartbeat. What is to go the member keeps a while.
    pub async fn beat(&self) {
        let asked_ms = self.world.now_ms();
        let (request, says, is_joining, is_new) = {
            let state = &mut *self.client.state.borrow_mut();
            if state.dawdles_until <= asked_ms {
                let told = &state.told;
                state.owned.retain(|part| told.contains(part));
            }
            let request = self.request(state);
            let says = state.owned.clone();
            // until there is an answer
            state.is_full = true;
            (request, says, state.epoch == 0, !std::mem::replace(&mut state.has_asked, true))
        };
        let others = if is_new { self.epochs() } else { Vec::new() };
        let reply = self.ask(VERSION, Body::ConsumerHeartbeat(Box::new(request))).await;
        let Ok(Reply::ConsumerHeartbeat(response)) = reply else { return };
        match error_of(response.error_code) {
            ErrorCode::None => {
                if is_new {
                    self.check_epoch(response.member_epoch, &others);
                }
                self.client.state.borrow_mut().said = says;
                self.accept(asked_ms, &response);
            }
            // its group is a classic one that cannot be joined now, or there is none any more
            ErrorCode::GroupIdNotFound | ErrorCode::FencedMemberEpoch | ErrorCode::UnknownMemberId => {
                self.client.state.borrow_mut().is_lost();
            }
            // the process before this one is waited for
            ErrorCode::UnreleasedInstanceId if is_joining => {}
            ErrorCode::FencedInstanceId if self.client.instance.is_some() => {
                self.client.state.borrow_mut().is_lost();
            }
            error => panic!("{}: {error:?}: {response:?}", self.world.place()),
        }
    }

    fn request(&self, state: &State) -> ConsumerGroupHeartbeatRequest {
        let request = ConsumerGroupHeartbeatRequest::default()
            .with_group_id(GroupId(text(&self.client.group)))
            .with_member_id(text(&state.id))
            .with_member_epoch(state.epoch)
            .with_instance_id(self.client.instance.as_deref().map(text))
            .with_rebalance_timeout_ms(-1);
        let says_owned = state.is_full || state.owned != state.said || chance(30);
        let request = request.with_topic_partitions(says_owned.then(|| self.by_id(state)));
        if !state.is_full {
            return request;
        }
        let names = match state.regex {
            Some(_) => Vec::new(),
            None => state.topics.iter().map(|name| TopicName(text(name))).collect(),
        };
        request
            .with_rebalance_timeout_ms(i32::try_from(REBALANCE_MS).expect("a few seconds"))
            .with_subscribed_topic_names(Some(names))
            .with_subscribed_topic_regex(Some(text(state.regex.unwrap_or_default())))
    }

    fn by_id(&self, state: &State) -> Vec<TopicPartitions> {
        let names = self.world.names.borrow();
        let mut owned: BTreeMap<TopicId, Vec<i32>> = BTreeMap::new();
        for (name, partition) in &state.owned {
            let id = names.iter().find(|(_, known)| *known == name).map(|(id, _)| *id);
            owned.entry(id.expect("it was told of it")).or_default().push(*partition);
        }
        let owned = owned.into_iter().map(|(id, partitions)| {
            TopicPartitions::default().with_topic_id(uuid::Uuid::from_u128(id.0)).with_partitions(partitions)
        });
        owned.collect()
    }

    fn name(&self, id: TopicId) -> String {
        if let Some(name) = self.world.topic_name(id) {
            self.world.names.borrow_mut().insert(id, name);
        }
        let names = self.world.names.borrow();
        names.get(&id).cloned().unwrap_or_else(|| panic!("{}: {id:?} is no topic", self.world.place()))
    }

    fn accept(&self, asked_ms: u64, response: &ConsumerGroupHeartbeatResponse) {
        let told: Option<Vec<Part>> = response.assignment.as_ref().map(|assignment| {
            let topics = assignment.topic_partitions.iter().flat_map(|topic| {
                let name = self.name(TopicId(topic.topic_id.as_u128()));
                topic.partitions.iter().map(move |partition| (name.clone(), *partition))
            });
            topics.collect()
        });
        {
            let state = &mut *self.client.state.borrow_mut();
            assert!(response.member_epoch >= state.epoch, "{}: an epoch goes back", self.world.place());
            (state.epoch, state.durable_epoch) = (response.member_epoch, response.member_epoch);
            state.is_full = state.is_repeated;
            if let Some(told) = told {
                state.owned.extend(told.iter().cloned());
                state.told = told.into_iter().collect();
                if state.has_to_give_up() {
                    state.dawdles_until = match reactor::random_u64() % 20 {
                        _ if !self.world.life().is_stormy() => 0,
                        0 => asked_ms + 2 * REBALANCE_MS,
                        1..10 => asked_ms + reactor::random_u64() % 4_000,
                        _ => 0,
                    };
                }
            }
            state.heard_ms = asked_ms;
            // the answer that was not looked at may have told it to give something up
            let knows_all = !state.is_repeated || response.assignment.is_some();
            if knows_all && !state.has_to_give_up() {
                state.clean_ms = asked_ms;
            }
        }
        self.check_owned();
    }

    pub async fn leave_consumer(&self, id: &str) {
        let epoch = if self.client.instance.is_some() && chance(70) { -2 } else { -1 };
        let request = ConsumerGroupHeartbeatRequest::default()
            .with_group_id(GroupId(text(&self.client.group)))
            .with_member_id(text(id))
            .with_member_epoch(epoch)
            .with_instance_id(self.client.instance.as_deref().map(text));
        let _ = self.ask(VERSION, Body::ConsumerHeartbeat(Box::new(request))).await;
    }
}

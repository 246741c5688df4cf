//! A member of the consumer protocol (KIP-848): one request for all, in which it says what is new and is told what it is
//! to have. What it is told it takes at once and says so at once, as a client without records to finish does.

use anyhow::Result;
use bytes::{Bytes, BytesMut};
use kafka_protocol::messages::{
    ApiKey, ConsumerGroupHeartbeatRequest, ConsumerGroupHeartbeatResponse, GroupId,
};
use kafka_protocol::protocol::StrBytes;

use super::member::{Outcome, Plan, REBALANCE_TIMEOUT_MS, Standing, answer, frame};
use crate::wire::code;
use crate::wire::control::{name, string};

/// The epoch of one who joins, and of one who leaves.
const JOINS: i32 = 0;
const LEAVES: i32 = -1;

pub struct Consumer {
    group: GroupId,
    id: StrBytes,
    /// [`JOINS`] and [`LEAVES`] until that is answered.
    epoch: i32,
    /// What it has, of the run's only topic.
    partitions: Vec<i32>,
    /// The broker does not know yet that it has them, and nothing else.
    is_news: bool,
    heartbeat_interval_ms: Option<i32>,
}

impl Consumer {
    #[must_use]
    pub fn new(group: GroupId, id: String) -> Consumer {
        Consumer {
            group,
            id: string(&id),
            epoch: JOINS,
            partitions: Vec::new(),
            is_news: false,
            heartbeat_interval_ms: None,
        }
    }

    pub fn join(&mut self) {
        self.epoch = JOINS;
        self.partitions.clear();
        self.is_news = false;
    }

    pub fn leave(&mut self) {
        self.epoch = LEAVES;
    }

    #[must_use]
    pub fn standing(&self) -> Option<Standing> {
        let standing = Standing { epoch: self.epoch, partitions: self.partitions.len() };
        (self.epoch > JOINS && !self.is_news).then_some(standing)
    }

    #[must_use]
    pub fn heartbeat_interval_ms(&self) -> Option<i32> {
        self.heartbeat_interval_ms
    }

    pub fn request(&self, plan: &Plan, correlation_id: i32) -> Result<BytesMut> {
        let mut request = ConsumerGroupHeartbeatRequest::default()
            .with_group_id(self.group.clone())
            .with_member_id(self.id.clone())
            .with_member_epoch(self.epoch);
        if self.epoch == JOINS {
            let topics = plan.layout.topics.iter().map(|topic| name(topic)).collect();
            request.rebalance_timeout_ms = REBALANCE_TIMEOUT_MS;
            request.subscribed_topic_names = Some(topics);
            request.topic_partitions = Some(Vec::new());
        } else if self.is_news {
            let has = plan.topic.clone().with_partitions(self.partitions.clone());
            request.topic_partitions = Some(if has.partitions.is_empty() { Vec::new() } else { vec![has] });
        }
        let version = plan.versions.consumer_heartbeat;
        frame(ApiKey::ConsumerGroupHeartbeat, version, correlation_id, &request)
    }

    pub fn answer(&mut self, plan: &Plan, response: Bytes) -> Result<Outcome> {
        let version = plan.versions.consumer_heartbeat;
        let beaten: ConsumerGroupHeartbeatResponse =
            answer(ApiKey::ConsumerGroupHeartbeat, version, response)?;
        match beaten.error_code {
            0 => {}
            code::COORDINATOR_LOAD_IN_PROGRESS | code::COORDINATOR_NOT_AVAILABLE => {
                return Ok(Outcome::Waits);
            }
            error => {
                self.join();
                return Ok(Outcome::Refused(error));
            }
        }
        if self.epoch == LEAVES {
            self.join();
            return Ok(Outcome::Left);
        }
        // one of version 0 that joins is given its id
        self.id = beaten.member_id.unwrap_or_else(|| self.id.clone());
        self.epoch = beaten.member_epoch;
        self.heartbeat_interval_ms = Some(beaten.heartbeat_interval_ms);
        self.is_news = false;
        if let Some(assignment) = beaten.assignment {
            let told: Vec<i32> =
                assignment.topic_partitions.into_iter().flat_map(|of| of.partitions).collect();
            self.is_news = told != self.partitions;
            self.partitions = told;
        }
        Ok(if self.is_news { Outcome::GoesOn } else { Outcome::Rests })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::groups::testing::plan;
    use crate::wire::testing::{decode, respond};
    use kafka_protocol::messages::consumer_group_heartbeat_response::{Assignment, TopicPartitions};

    fn answered(member: &mut Consumer, epoch: i32, told: Option<&[i32]>, error: i16) -> Outcome {
        let assignment = told.map(|partitions| {
            let of_topic = TopicPartitions::default().with_partitions(partitions.to_vec());
            Assignment::default().with_topic_partitions(vec![of_topic])
        });
        let response = ConsumerGroupHeartbeatResponse::default()
            .with_error_code(error)
            .with_member_epoch(epoch)
            .with_heartbeat_interval_ms(5_000)
            .with_assignment(assignment);
        let plan = plan(10);
        let (_, bytes) = respond(&member.request(&plan, 1).expect("a request"), &response);
        member.answer(&plan, bytes).expect("read")
    }

    fn said(member: &Consumer) -> (i32, bool, Option<Vec<i32>>) {
        let frame = member.request(&plan(10), 1).expect("a request");
        let request: ConsumerGroupHeartbeatRequest = decode(&frame);
        let has =
            request.topic_partitions.map(|topics| topics.into_iter().flat_map(|of| of.partitions).collect());
        (request.member_epoch, request.subscribed_topic_names.is_some(), has)
    }

    #[test]
    fn what_it_is_told_it_takes_and_says_so_once() {
        let mut member = Consumer::new(GroupId(string("g")), "m".to_owned());
        assert_eq!(said(&member), (JOINS, true, Some(vec![])));
        assert_eq!(answered(&mut member, 3, Some(&[1, 2]), 0), Outcome::GoesOn);
        assert_eq!((said(&member), member.standing()), ((3, false, Some(vec![1, 2])), None));
        assert_eq!(answered(&mut member, 3, None, 0), Outcome::Rests);
        assert_eq!(said(&member), (3, false, None), "nothing is new");
        assert_eq!(member.standing(), Some(Standing { epoch: 3, partitions: 2 }));
        assert_eq!(answered(&mut member, 3, Some(&[1, 2]), 0), Outcome::Rests, "told the same again");
        assert_eq!(answered(&mut member, 3, Some(&[]), 0), Outcome::GoesOn, "it has to give all up");
        assert_eq!(said(&member), (3, false, Some(vec![])));
        assert_eq!(member.heartbeat_interval_ms(), Some(5_000));
    }

    #[test]
    fn who_is_refused_joins_anew_and_who_leaves_may_come_back() {
        let mut member = Consumer::new(GroupId(string("g")), "m".to_owned());
        answered(&mut member, 3, Some(&[1]), 0);
        assert_eq!(answered(&mut member, 0, None, 110), Outcome::Refused(110));
        assert_eq!(said(&member), (JOINS, true, Some(vec![])));
        assert_eq!(answered(&mut member, 0, None, code::COORDINATOR_LOAD_IN_PROGRESS), Outcome::Waits);
        answered(&mut member, 4, Some(&[1]), 0);
        member.leave();
        assert_eq!(member.standing(), None);
        assert_eq!(answered(&mut member, LEAVES, None, 0), Outcome::Left);
        assert_eq!(said(&member), (JOINS, true, Some(vec![])));
    }
}

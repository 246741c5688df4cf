//! What a heartbeat that brings nothing new costs: it does not depend on what the member has.

use corelane::coordinator::group::{Body, Client, GroupCoordinator, Reply, Request, Settings};
use corelane::coordinator::{Context, Machine, Now, Ticket};
use corelane::metadata::{Image, NewPartition, Record, TopicDefaults};
use corelane::model::{PartitionId, TopicId};
use corelane::protocol::StrBytes;
use corelane::protocol::messages::consumer_group_heartbeat_request::TopicPartitions;
use corelane::protocol::messages::{
    ConsumerGroupHeartbeatRequest, ConsumerGroupHeartbeatResponse, GroupId, TopicName,
};

use crate::allocations::{Allocations, measure};

const TOPIC: TopicId = TopicId(1);

/// A group of the consumer protocol with one member, who has the topic.
struct Lone {
    coordinator: GroupCoordinator,
    image: Image,
}

impl Lone {
    fn new(partitions: i32) -> Lone {
        let mut image = Image::new("cluster", TopicDefaults::default());
        image.replay(&Record::Topic { name: "t".to_owned(), id: TOPIC }).expect("a new topic");
        for index in 0..partitions {
            let partition =
                NewPartition { partition: PartitionId { topic: TOPIC, index }, ..Default::default() };
            image.replay(&Record::Partition(partition)).expect("a new partition");
        }
        Lone { coordinator: GroupCoordinator::new(Settings::default()), image }
    }

    fn beat(
        &mut self,
        request: ConsumerGroupHeartbeatRequest,
    ) -> (ConsumerGroupHeartbeatResponse, Allocations) {
        let client = Client { id: "client".to_owned(), host: "/127.0.0.1".to_owned() };
        let request = Request { version: 1, client, body: Body::ConsumerHeartbeat(Box::new(request)) };
        let (now, random) = (Now { steady: 1_000, wall: 1_700_000_000_000 }, &mut || 7);
        let mut context = Context { now, image: &self.image, random, producer_id: &mut || None };
        let handle = || self.coordinator.handle(&mut context, Ticket(1), request);
        let (mut effects, allocations) = measure(handle);
        match effects.replies.pop() {
            Some((_, Reply::ConsumerHeartbeat(response))) if response.error_code == 0 => {
                (*response, allocations)
            }
            reply => panic!("{reply:?}"),
        }
    }
}

fn request(epoch: i32) -> ConsumerGroupHeartbeatRequest {
    ConsumerGroupHeartbeatRequest::default()
        .with_group_id(GroupId(StrBytes::from_static_str("g")))
        .with_member_id(StrBytes::from_static_str("m"))
        .with_member_epoch(epoch)
}

/// Of a heartbeat of a member that has joined and said what it has.
fn allocations(partitions: i32) -> Allocations {
    let mut lone = Lone::new(partitions);
    let topics = vec![TopicName(StrBytes::from_static_str("t"))];
    let joins = request(0).with_rebalance_timeout_ms(60_000).with_subscribed_topic_names(Some(topics));
    let (joined, _) = lone.beat(joins.with_topic_partitions(Some(Vec::new())));
    let told = joined.assignment.expect("an assignment").topic_partitions.remove(0);
    assert_eq!(told.partitions.len(), usize::try_from(partitions).expect("a count"));
    let has = TopicPartitions::default().with_topic_id(told.topic_id).with_partitions(told.partitions);
    lone.beat(request(joined.member_epoch).with_topic_partitions(Some(vec![has])));
    let (beaten, allocations) = lone.beat(request(joined.member_epoch));
    assert_eq!((beaten.member_epoch, beaten.assignment), (joined.member_epoch, None));
    allocations
}

#[test]
fn a_heartbeat_costs_the_same_whatever_the_member_has() {
    let (few, many) = (allocations(1), allocations(1_000));
    assert_eq!(few, many);
    assert!(few.count <= 12 && few.largest <= 1_024, "{few:?}");
}

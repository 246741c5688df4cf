//! DescribeTopicPartitions 0 (key 75, KIP-966): topics and their partitions page by page, in the order of their names.
//!
//! An empty list of topics means all. A page has as many partitions as the client allows, 2000 at most and one at
//! least, and ends with a cursor to the first that is missing; the client sends it back with the same list. A page
//! begins at its cursor, and may end inside a topic. A topic that does not exist is told with an error if it was named.

use std::collections::{BTreeSet, HashSet};
use std::rc::Rc;

use super::Broker;
use super::authorize::{Operation, Resource, allowed, topic_operations};
use super::context::RequestContext;
use super::endpoint::{has_listener, is_alive, node_id, replica_ids};
use super::list_offsets::note;
use super::service::{CloseReason, Outcome, Request};
use super::topic::{is_internal, wire_id};
use crate::metadata::{Image, Partition, check_topic_name};
use crate::model::{BrokerId, ErrorCode};
use crate::protocol::StrBytes;
use crate::protocol::messages::describe_topic_partitions_response::{
    Cursor, DescribeTopicPartitionsResponsePartition, DescribeTopicPartitionsResponseTopic,
};
use crate::protocol::messages::{DescribeTopicPartitionsRequest, DescribeTopicPartitionsResponse, TopicName};
use crate::reactor::turn;

/// Kafka's max.request.partition.size.limit, which is not a setting here.
const PARTITIONS_MAX: usize = 2000;

/// Topics without partitions do not count for the page; after so many topics the rest of the shard gets a turn.
const TOPICS_IN_A_ROW: usize = 500;

/// Where a page begins.
struct Start {
    topic: TopicName,
    partition: usize,
}

pub(super) async fn handle(broker: Rc<Broker>, request: Request) -> Result<Outcome, CloseReason> {
    let (context, request) = request.decode::<DescribeTopicPartitionsRequest>()?;
    let named: Vec<TopicName> = request.topics.iter().map(|topic| topic.name.clone()).collect();
    let Some(start) = start(&request, &named) else {
        let mut told = HashSet::new();
        let names = named.into_iter().filter(|name| told.insert(name.clone()));
        let topics = names.map(|name| failed(name, ErrorCode::InvalidRequest)).collect();
        let response = DescribeTopicPartitionsResponse::default().with_topics(topics);
        return Ok(context.reply(response, ErrorCode::InvalidRequest));
    };
    let limit = usize::try_from(request.response_partition_limit).unwrap_or(0).clamp(1, PARTITIONS_MAX);
    let mut page = Page {
        context: &context,
        start,
        left: limit,
        response: DescribeTopicPartitionsResponse::default(),
        first_error: ErrorCode::None,
    };
    let refused = if named.is_empty() {
        page.fill(&broker).await;
        Vec::new()
    } else {
        page.fill_with(&broker, named).await
    };
    let Page { mut response, mut first_error, .. } = page;
    for name in refused {
        note(&mut first_error, ErrorCode::TopicAuthorizationFailed);
        response.topics.push(failed(name, ErrorCode::TopicAuthorizationFailed));
    }
    Ok(context.reply(response, first_error))
}

/// `None`: the cursor is not one of this list.
fn start(request: &DescribeTopicPartitionsRequest, named: &[TopicName]) -> Option<Start> {
    let Some(cursor) = &request.cursor else {
        return Some(Start { topic: TopicName::default(), partition: 0 });
    };
    let belongs = named.is_empty() || named.contains(&cursor.topic_name);
    let partition = usize::try_from(cursor.partition_index).ok()?;
    belongs.then(|| Start { topic: cursor.topic_name.clone(), partition })
}

fn failed(name: TopicName, error: ErrorCode) -> DescribeTopicPartitionsResponseTopic {
    DescribeTopicPartitionsResponseTopic::default().with_error_code(error.code()).with_name(Some(name))
}

/// The answer as it grows.
struct Page<'a> {
    context: &'a RequestContext,
    start: Start,
    /// Partitions there is room for.
    left: usize,
    response: DescribeTopicPartitionsResponse,
    first_error: ErrorCode,
}

impl Page<'_> {
    fn may_describe(&self, topic: &str) -> bool {
        allowed(self.context, Operation::Describe, Resource::Topic(topic))
    }

    /// From all topics, each as it is when its turn comes.
    async fn fill(&mut self, broker: &Broker) {
        let mut from = self.start.topic.to_string();
        for step in 1.. {
            {
                let image = broker.shard.image();
                let Some(topic) = image.topics_from(&from).find(|topic| self.may_describe(&topic.name))
                else {
                    return;
                };
                self.add(&image, TopicName(StrBytes::from_string(topic.name.clone())));
                // the least name behind this one
                from = format!("{}\0", topic.name);
            }
            if self.is_at_its_end() {
                return;
            }
            if step % TOPICS_IN_A_ROW == 0 {
                turn().await;
            }
        }
    }

    /// From the topics that were named. Gives those the client may not see.
    async fn fill_with(&mut self, broker: &Broker, named: Vec<TopicName>) -> Vec<TopicName> {
        let start = self.start.topic.clone();
        let sorted: BTreeSet<_> = named.into_iter().filter(|name| name.as_str() >= start.as_str()).collect();
        let (names, refused): (Vec<_>, Vec<_>) = sorted.into_iter().partition(|name| self.may_describe(name));
        for (step, name) in (1..).zip(names) {
            self.add(&broker.shard.image(), name);
            if self.is_at_its_end() {
                break;
            }
            if step % TOPICS_IN_A_ROW == 0 {
                turn().await;
            }
        }
        refused
    }

    fn is_at_its_end(&self) -> bool {
        self.response.next_cursor.is_some()
    }

    fn add(&mut self, image: &Image, name: TopicName) {
        if self.left == 0 {
            self.end_at(name, 0);
            return;
        }
        let operations = topic_operations(self.context, &name);
        let Some(topic) = image.topic_by_name(&name) else {
            let error =
                check_topic_name(&name).err().map_or(ErrorCode::UnknownTopicOrPartition, |(error, _)| error);
            note(&mut self.first_error, error);
            let internal = is_internal(&name);
            self.response.topics.push(
                failed(name, error).with_is_internal(internal).with_topic_authorized_operations(operations),
            );
            return;
        };
        let first = if name == self.start.topic { self.start.partition } else { 0 };
        let partitions: Vec<_> = ((0..).zip(&topic.partitions))
            .skip(first)
            .take(self.left)
            .map(|(index, partition)| self.partition(image, index, partition))
            .collect();
        self.left -= partitions.len();
        let end = first.saturating_add(partitions.len());
        self.response.topics.push(
            DescribeTopicPartitionsResponseTopic::default()
                .with_topic_id(wire_id(topic.id))
                .with_is_internal(is_internal(&name))
                .with_name(Some(name.clone()))
                .with_partitions(partitions)
                .with_topic_authorized_operations(operations),
        );
        if end < topic.partitions.len() {
            self.end_at(name, end);
        }
    }

    fn end_at(&mut self, topic: TopicName, partition: usize) {
        let index = i32::try_from(partition).expect("a partition index");
        self.response.next_cursor =
            Some(Cursor::default().with_topic_name(topic).with_partition_index(index));
    }

    fn partition(
        &self,
        image: &Image,
        index: i32,
        partition: &Partition,
    ) -> DescribeTopicPartitionsResponsePartition {
        let listener = &*self.context.connection.listener;
        let online = |broker| is_alive(image, broker) && has_listener(image, broker, listener);
        let offline = partition.replicas.iter().filter(|&&replica| !online(replica));
        let leader = if online(partition.leader) { partition.leader } else { BrokerId::NONE };
        let leader = node_id(image, leader, partition.shard_of(leader), listener);
        let ids = |brokers: &[BrokerId]| replica_ids(image, partition, brokers, listener);
        DescribeTopicPartitionsResponsePartition::default()
            .with_partition_index(index)
            .with_leader_id(leader.0.into())
            .with_leader_epoch(partition.leader_epoch.0)
            .with_replica_nodes(ids(&partition.replicas))
            .with_isr_nodes(ids(&partition.isr))
            .with_eligible_leader_replicas(Some(ids(&partition.elr)))
            .with_last_known_elr(Some(ids(&partition.last_known_elr)))
            .with_offline_replicas(replica_ids(image, partition, offline, listener))
    }
}

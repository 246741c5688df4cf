//! OffsetFetch 1-10 (key 9): how far groups have read.
//!
//! v2+ all topics of a group (null), v5+ leader epochs (KIP-320), v7+ only stable offsets on demand (KIP-447), v8+ several groups
//! (KIP-709), v9+ member epochs, v10+ topics by id (KIP-848). What was never committed is -1.

use std::rc::Rc;

use super::Broker;
use super::authorize::{Operation, Resource, allowed};
use super::context::RequestContext;
use super::groups::may;
use super::list_offsets::note;
use super::service::{CloseReason, Outcome, Request};
use super::topic::{topic_id, wire_id};
use crate::coordinator::group::{Body, Reply};
use crate::model::ErrorCode;
use crate::protocol::StrBytes;
use crate::protocol::messages::offset_fetch_request::{OffsetFetchRequestGroup, OffsetFetchRequestTopics};
use crate::protocol::messages::offset_fetch_response::{
    OffsetFetchResponseGroup, OffsetFetchResponsePartition, OffsetFetchResponsePartitions,
    OffsetFetchResponseTopic, OffsetFetchResponseTopics,
};
use crate::protocol::messages::{OffsetFetchRequest, OffsetFetchResponse, TopicName};
use crate::protocol::topic_ids::TOPIC_IDS_FROM;
use crate::reactor::spawn;

/// From here on a request asks for several groups.
const GROUPS_FROM: i16 = 8;

pub(super) async fn handle(broker: Rc<Broker>, request: Request) -> Result<Outcome, CloseReason> {
    let (context, request) = request.decode::<OffsetFetchRequest>()?;
    let require_stable = request.require_stable;
    if context.version() < GROUPS_FROM {
        let fetched = fetch(broker, context.clone(), only_group(request), require_stable).await;
        let error = ErrorCode::from_code(fetched.error_code).unwrap_or(ErrorCode::UnknownServerError);
        return Ok(context.reply(as_one_group(fetched), error));
    }
    let groups: Vec<_> = (request.groups.into_iter())
        .map(|group| spawn(fetch(Rc::clone(&broker), context.clone(), group, require_stable)))
        .collect();
    let (mut fetched, mut first_error) = (Vec::with_capacity(groups.len()), ErrorCode::None);
    for group in groups {
        let group = group.await;
        note(
            &mut first_error,
            ErrorCode::from_code(group.error_code).unwrap_or(ErrorCode::UnknownServerError),
        );
        fetched.push(group);
    }
    Ok(context.reply(OffsetFetchResponse::default().with_groups(fetched), first_error))
}

async fn fetch(
    broker: Rc<Broker>,
    context: RequestContext,
    mut group: OffsetFetchRequestGroup,
    require_stable: bool,
) -> OffsetFetchResponseGroup {
    let id = group.group_id.clone();
    let failed = |error: ErrorCode| {
        OffsetFetchResponseGroup::default().with_group_id(id.clone()).with_error_code(error.code())
    };
    if !may(&context, Operation::Describe, &id) {
        return failed(ErrorCode::GroupAuthorizationFailed);
    }
    let may_see = |topic: &str| allowed(&context, Operation::Describe, Resource::Topic(topic));
    let mut refused = Vec::new();
    let by_id = context.version() >= TOPIC_IDS_FROM;
    if let Some(topics) = group.topics.as_mut().filter(|_| by_id) {
        refused.extend(broker.name_fetched(topics));
    }
    if let Some(topics) = &mut group.topics {
        topics.retain(|topic| {
            let may_see = may_see(&topic.name);
            if !may_see {
                refused.push(refusal(topic, ErrorCode::TopicAuthorizationFailed));
            }
            may_see
        });
    }
    match broker.ask_group(&context, &id, Body::FetchOffsets { group, require_stable }).await {
        Ok(Reply::FetchOffsets(mut fetched)) => {
            fetched.topics.retain(|topic| may_see(&topic.name));
            if by_id {
                broker.tell_ids(&mut fetched.topics);
            }
            if fetched.error_code == ErrorCode::None.code() {
                fetched.topics.extend(refused);
            }
            fetched
        }
        Ok(_) => unreachable!("FetchOffsets is answered in kind"),
        Err(error) => failed(error),
    }
}

fn refusal(topic: &OffsetFetchRequestTopics, error: ErrorCode) -> OffsetFetchResponseTopics {
    let partitions = topic.partition_indexes.iter().map(|&index| {
        OffsetFetchResponsePartitions::default()
            .with_partition_index(index)
            .with_committed_offset(-1)
            .with_error_code(error.code())
    });
    OffsetFetchResponseTopics::default()
        .with_name(topic.name.clone())
        .with_topic_id(topic.topic_id)
        .with_partitions(partitions.collect())
}

/// A request of the older form, as one for a group.
fn only_group(request: OffsetFetchRequest) -> OffsetFetchRequestGroup {
    let topics = request.topics.map(|topics| {
        let topics = topics.into_iter().map(|topic| {
            OffsetFetchRequestTopics::default()
                .with_name(topic.name)
                .with_partition_indexes(topic.partition_indexes)
        });
        topics.collect()
    });
    OffsetFetchRequestGroup::default()
        .with_group_id(request.group_id)
        .with_member_epoch(-1)
        .with_topics(topics)
}

/// The response of the older form. Before v2, which has no place for it, the group's error stands with each partition: there are none
/// here then, since topics are always named.
fn as_one_group(fetched: OffsetFetchResponseGroup) -> OffsetFetchResponse {
    let topics = fetched.topics.into_iter().map(|topic| {
        let partitions = topic.partitions.into_iter().map(|partition| {
            OffsetFetchResponsePartition::default()
                .with_partition_index(partition.partition_index)
                .with_committed_offset(partition.committed_offset)
                .with_committed_leader_epoch(partition.committed_leader_epoch)
                .with_metadata(partition.metadata)
                .with_error_code(partition.error_code)
        });
        OffsetFetchResponseTopic::default().with_name(topic.name).with_partitions(partitions.collect())
    });
    OffsetFetchResponse::default().with_error_code(fetched.error_code).with_topics(topics.collect())
}

impl Broker {
    /// Gives each topic the name of its id. Those that have none are taken out, and answered here.
    fn name_fetched(&self, topics: &mut Vec<OffsetFetchRequestTopics>) -> Vec<OffsetFetchResponseTopics> {
        let image = self.shard.image();
        let mut unknown = Vec::new();
        topics.retain_mut(|topic| match image.topic(topic_id(topic.topic_id)) {
            Some(known) => {
                topic.name = TopicName(StrBytes::from_string(known.name.clone()));
                true
            }
            None => {
                unknown.push(refusal(topic, ErrorCode::UnknownTopicId));
                false
            }
        });
        unknown
    }

    /// Gives each topic the id of its name. One that has none any more cannot be told.
    fn tell_ids(&self, topics: &mut Vec<OffsetFetchResponseTopics>) {
        let image = self.shard.image();
        topics.retain_mut(|topic| match image.topic_by_name(&topic.name) {
            Some(known) => {
                topic.topic_id = wire_id(known.id);
                true
            }
            None => false,
        });
    }
}

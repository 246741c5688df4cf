//! Metadata 0-13 (key 3): brokers as seen through the client's listener, topics with leaders, replicas, epochs, ids.
//!
//! v0: an empty list of topics means all; v1+: null means all and an empty list means none. v4+ the client may forbid
//! auto-creation (KIP-204); v5+ offline replicas (KIP-112); v7+ leader epochs (KIP-320); v8+ authorized operations
//! on demand (KIP-430), for the cluster up to v10; v10+ topic ids (KIP-516), v12+ topics by id alone.
//!
//! A topic that does not exist is created if both sides allow it. The controller answers when the partitions are
//! open, so the reply has the new topic; if that takes too long it says UNKNOWN_TOPIC_OR_PARTITION, which has clients
//! ask again. A broker whose shards have ports of their own is told as a node for each of them, and a partition's leader and
//! replicas as the shards that have it. controller_id is this broker, which takes admin requests like any other. Left out: the controller
//! mutation quota (KIP-599).

use std::collections::HashSet;
use std::rc::Rc;
use std::time::Duration;

use super::authorize::{Operation, Resource, allowed, cluster_operations, topic_operations};
use super::context::RequestContext;
use super::endpoint::{has_listener, is_alive, node_id, nodes, replica_ids};
use super::list_offsets::note;
use super::service::{CloseReason, Outcome, Request};
use super::topic::{is_internal, topic_id, wire_id};
use super::{Broker, control};
use crate::metadata::{Image, Partition, Topic, check_topic_name};
use crate::model::{BrokerId, ErrorCode, TopicId};
use crate::protocol::StrBytes;
use crate::protocol::messages::metadata_response::{
    MetadataResponseBroker, MetadataResponsePartition, MetadataResponseTopic,
};
use crate::protocol::messages::{MetadataRequest, MetadataResponse, TopicName};
use crate::reactor::turn;

/// A client that asks for a topic waits that long for its creation.
const CREATION_PATIENCE: Duration = Duration::from_secs(1);

/// Each is some 100 ns of work; then the rest of the shard gets a turn.
const PARTITIONS_IN_A_ROW: usize = 1000;

/// Which topics the client wants.
enum Wanted {
    All,
    Names(Vec<TopicName>),
    Ids(Vec<TopicId>),
    /// The request contradicts its version.
    Invalid,
}

/// What the entries of one response have in common.
struct Shape<'a> {
    context: &'a RequestContext,
    /// The request asks for authorized operations.
    operations: bool,
}

pub(super) async fn handle(broker: Rc<Broker>, request: Request) -> Result<Outcome, CloseReason> {
    let (context, request) = request.decode::<MetadataRequest>()?;
    let version = context.version();
    let shape =
        Shape { context: &context, operations: version >= 8 && request.include_topic_authorized_operations };
    let mut first_error = ErrorCode::None;
    let topics = match wanted(&request, version) {
        Wanted::All => {
            let ids: Vec<TopicId> = broker.shard.image().topics().map(|topic| topic.id).collect();
            // one that is deleted meanwhile is left out, and so is one the client may not see
            let visible = |image: &Image, id: TopicId| {
                let topic = image.topic(id)?;
                allowed(&context, Operation::Describe, Resource::Topic(&topic.name))
                    .then(|| shape.known(image, topic))
            };
            broker.tell(ids, visible).await
        }
        Wanted::Names(names) => {
            let may_create = broker.settings.auto_create_topics_enable && request.allow_auto_topic_creation;
            if may_create {
                broker.create_missing(&context, &names).await;
            }
            broker.tell(names, |image, name| Some(shape.by_name(image, name))).await
        }
        Wanted::Ids(ids) => broker.tell(ids, |image, id| Some(shape.by_id(image, id))).await,
        Wanted::Invalid => {
            let asked = request.topics.unwrap_or_default();
            asked.into_iter().map(|topic| invalid(topic.name, topic.topic_id, version)).collect::<Vec<_>>()
        }
    };
    for topic in &topics {
        note_code(&mut first_error, topic.error_code);
    }
    let mut response = MetadataResponse::default().with_topics(topics);
    {
        let image = broker.shard.image();
        response.brokers = nodes(&image, &context.connection.listener)
            .into_iter()
            .filter(|node| !node.fenced)
            .map(|node| {
                MetadataResponseBroker::default()
                    .with_node_id(node.id.0.into())
                    .with_host(node.host)
                    .with_port(i32::from(node.port))
                    .with_rack(node.rack)
            })
            .collect();
        response.cluster_id = Some(StrBytes::from_string(image.cluster_id().to_owned()));
        response.controller_id = broker.settings.broker.0.into();
    }
    if (8..=10).contains(&version) && request.include_cluster_authorized_operations {
        let may_describe = allowed(&context, Operation::Describe, Resource::Cluster);
        response.cluster_authorized_operations = if may_describe { cluster_operations(&context) } else { 0 };
    }
    Ok(context.reply(response, first_error))
}

/// The metrics want to know that there was an error, not which of the codes on the wire.
fn note_code(first: &mut ErrorCode, code: i16) {
    let known =
        [ErrorCode::UnknownTopicOrPartition, ErrorCode::UnknownTopicId, ErrorCode::InvalidTopicException];
    if code != ErrorCode::None.code() {
        let error = known.into_iter().find(|error| error.code() == code);
        note(first, error.unwrap_or(ErrorCode::UnknownServerError));
    }
}

fn wanted(request: &MetadataRequest, version: i16) -> Wanted {
    let Some(topics) = &request.topics else { return Wanted::All };
    if version == 0 && topics.is_empty() {
        return Wanted::All;
    }
    let by_id = topics.iter().any(|topic| topic_id(topic.topic_id) != TopicId::ZERO);
    let nameless = topics.iter().any(|topic| topic.name.is_none());
    if version < 12 && (by_id || nameless) {
        return Wanted::Invalid;
    }
    if by_id {
        let mut seen = HashSet::new();
        let ids = topics.iter().map(|topic| topic_id(topic.topic_id));
        return Wanted::Ids(ids.filter(|&id| id != TopicId::ZERO && seen.insert(id)).collect());
    }
    if nameless {
        return Wanted::Invalid;
    }
    let mut seen = HashSet::new();
    let names = topics.iter().filter_map(|topic| topic.name.clone());
    Wanted::Names(names.filter(|name| seen.insert(name.clone())).collect())
}

fn invalid(name: Option<TopicName>, id: uuid::Uuid, version: i16) -> MetadataResponseTopic {
    // before v12 a name is never null on the wire
    let name = if version < 12 { Some(name.unwrap_or_default()) } else { name };
    MetadataResponseTopic::default()
        .with_error_code(ErrorCode::InvalidRequest.code())
        .with_name(name)
        .with_topic_id(id)
}

impl Broker {
    /// The entries of these topics. The rest of the shard gets a turn now and then.
    async fn tell<T>(
        &self,
        topics: Vec<T>,
        entry: impl Fn(&Image, T) -> Option<MetadataResponseTopic>,
    ) -> Vec<MetadataResponseTopic> {
        let mut entries = Vec::with_capacity(topics.len());
        let mut in_a_row = 0;
        for topic in topics {
            if in_a_row >= PARTITIONS_IN_A_ROW {
                turn().await;
                in_a_row = 0;
            }
            let entry = entry(&self.shard.image(), topic);
            in_a_row += 1 + entry.as_ref().map_or(0, |entry| entry.partitions.len());
            entries.extend(entry);
        }
        entries
    }

    /// Creates those of the topics that do not exist and may be created, and waits a little for it.
    async fn create_missing(self: &Rc<Self>, context: &RequestContext, names: &[TopicName]) {
        let missing: Vec<_> = {
            let image = self.shard.image();
            let is_missing = |name: &str| {
                image.topic_by_name(name).is_none() && check_topic_name(name).is_ok() && !is_internal(name)
            };
            names.iter().filter(|name| is_missing(name) && may_create(context, name)).collect()
        };
        if missing.is_empty() {
            return;
        }
        let topics = missing
            .into_iter()
            .map(|name| control::CreateTopic {
                name: name.to_string(),
                partitions: None,
                replication_factor: None,
                assignments: Vec::new(),
                configs: Vec::new(),
            })
            .collect();
        let control = control::Request::CreateTopics { topics, validate_only: false };
        match self.control(control, CREATION_PATIENCE).await {
            Some(control::Reply::Topics(results)) => {
                for result in results {
                    if !matches!(result.error, ErrorCode::None | ErrorCode::TopicAlreadyExists) {
                        tracing::debug!(
                            topic = result.name,
                            error = ?result.error,
                            message = result.message,
                            "topic cannot be created automatically"
                        );
                    }
                }
            }
            Some(control::Reply::Failed(error)) => {
                tracing::debug!(?error, "topics cannot be created automatically");
            }
            Some(_) => unreachable!("a request about topics is answered with topics"),
            // It goes on, and the client asks again.
            None => {}
        }
    }
}

fn may_create(context: &RequestContext, name: &str) -> bool {
    allowed(context, Operation::Describe, Resource::Topic(name))
        && (allowed(context, Operation::Create, Resource::Cluster)
            || allowed(context, Operation::Create, Resource::Topic(name)))
}

impl Shape<'_> {
    fn by_name(&self, image: &Image, name: TopicName) -> MetadataResponseTopic {
        let error = if !allowed(self.context, Operation::Describe, Resource::Topic(&name)) {
            ErrorCode::TopicAuthorizationFailed
        } else if let Some(topic) = image.topic_by_name(&name) {
            return self.known(image, topic);
        } else {
            check_topic_name(&name).err().map_or(ErrorCode::UnknownTopicOrPartition, |(error, _)| error)
        };
        MetadataResponseTopic::default()
            .with_error_code(error.code())
            .with_is_internal(is_internal(&name))
            .with_name(Some(name))
    }

    fn by_id(&self, image: &Image, id: TopicId) -> MetadataResponseTopic {
        match image.topic(id) {
            Some(topic) if allowed(self.context, Operation::Describe, Resource::Topic(&topic.name)) => {
                self.known(image, topic)
            }
            // who may not see the topic must not learn its name
            Some(_) => MetadataResponseTopic::default()
                .with_error_code(ErrorCode::TopicAuthorizationFailed.code())
                .with_name(None)
                .with_topic_id(wire_id(id)),
            None => MetadataResponseTopic::default()
                .with_error_code(ErrorCode::UnknownTopicId.code())
                .with_name(None)
                .with_topic_id(wire_id(id)),
        }
    }

    fn known(&self, image: &Image, topic: &Topic) -> MetadataResponseTopic {
        let partitions = (0..).zip(&topic.partitions);
        let mut response = MetadataResponseTopic::default()
            .with_name(Some(TopicName(StrBytes::from_string(topic.name.clone()))))
            .with_topic_id(wire_id(topic.id))
            .with_is_internal(is_internal(&topic.name))
            .with_partitions(
                partitions.map(|(index, partition)| self.partition(image, index, partition)).collect(),
            );
        if self.operations {
            response.topic_authorized_operations = topic_operations(self.context, &topic.name);
        }
        response
    }

    fn partition(&self, image: &Image, index: i32, partition: &Partition) -> MetadataResponsePartition {
        let listener = &*self.context.connection.listener;
        let leader = partition.leader;
        let error = if leader == BrokerId::NONE || !is_alive(image, leader) {
            ErrorCode::LeaderNotAvailable
        } else if !has_listener(image, leader, listener) {
            if self.context.version() <= 5 {
                ErrorCode::LeaderNotAvailable
            } else {
                ErrorCode::ListenerNotFound
            }
        } else {
            ErrorCode::None
        };
        let leader = if error.is_none() { leader } else { BrokerId::NONE };
        let leader = node_id(image, leader, partition.shard_of(leader), listener);
        let offline = partition.replicas.iter().filter(|&&replica| !is_alive(image, replica));
        MetadataResponsePartition::default()
            .with_error_code(error.code())
            .with_partition_index(index)
            .with_leader_id(leader.0.into())
            .with_leader_epoch(partition.leader_epoch.0)
            .with_replica_nodes(replica_ids(image, partition, &partition.replicas, listener))
            .with_isr_nodes(replica_ids(image, partition, &partition.isr, listener))
            .with_offline_replicas(replica_ids(image, partition, offline, listener))
    }
}

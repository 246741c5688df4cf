//! Members of the consumer protocol play against a coordinator: a clock that is moved by hand, and a log from which a
//! second coordinator is loaded after every step.

mod heartbeat;
mod migration;
mod offsets;
mod regexes;
mod simulation;
mod statics;
mod target;

use std::collections::{BTreeMap, BTreeSet};
use std::ops::{Deref, DerefMut};

use bytes::Bytes;

use crate::coordinator::Machine;
use crate::coordinator::group::testing::Driver;
use crate::coordinator::group::{Body, GroupCoordinator, Members, Reply, Settings};
use crate::coordinator::record::{LogRecord, Record};
use crate::metadata::{
    ConfigResource, Image, NewPartition, Record as MetadataRecord, ResourceKind, TopicDefaults,
};
use crate::model::{ErrorCode, PartitionId, TopicId};
use crate::protocol::StrBytes;
use crate::protocol::messages::consumer_group_describe_response::DescribedGroup;
use crate::protocol::messages::consumer_group_heartbeat_request::TopicPartitions;
use crate::protocol::messages::{
    ConsumerGroupHeartbeatRequest, ConsumerGroupHeartbeatResponse, GroupId, TopicName,
};

const GROUP: &str = "g";
const REBALANCE_MS: i32 = 60_000;

pub(super) type Has = BTreeMap<TopicId, BTreeSet<i32>>;

pub(super) fn text(text: &str) -> StrBytes {
    StrBytes::from_string(text.to_owned())
}

fn error_of(code: i16) -> ErrorCode {
    use ErrorCode::*;
    let errors = [
        None,
        UnknownTopicOrPartition,
        IllegalGeneration,
        InconsistentGroupProtocol,
        UnknownMemberId,
        RebalanceInProgress,
        UnsupportedVersion,
        InvalidRequest,
        NonEmptyGroup,
        GroupSubscribedToTopic,
        GroupIdNotFound,
        GroupMaxSizeReached,
        MemberIdRequired,
        FencedInstanceId,
        FencedMemberEpoch,
        UnreleasedInstanceId,
        UnsupportedAssignor,
        StaleMemberEpoch,
        InvalidRegularExpression,
    ];
    errors.into_iter().find(|error| error.code() == code).unwrap_or_else(|| panic!("error {code}"))
}

/// A broker and its topics.
pub(super) struct Broker {
    driver: Driver,
    topics: u128,
}

impl Deref for Broker {
    type Target = Driver;

    fn deref(&self) -> &Driver {
        &self.driver
    }
}

impl DerefMut for Broker {
    fn deref_mut(&mut self) -> &mut Driver {
        &mut self.driver
    }
}

impl Broker {
    /// Without topics.
    pub fn new(settings: Settings) -> Broker {
        let mut driver = Driver::new(settings);
        driver.image = Image::new("cluster", TopicDefaults::default());
        Broker { driver, topics: 0 }
    }

    /// With the topics `a` of 4 partitions and `b` of 2, and targets without a wait.
    pub fn with_topics() -> Broker {
        let mut broker = Broker::new(Settings { consumer_assignment_interval_ms: 0, ..Settings::default() });
        broker.create("a", 4);
        broker.create("b", 2);
        broker
    }

    pub fn create(&mut self, name: &str, partitions: i32) -> TopicId {
        self.topics += 1;
        let id = TopicId(self.topics);
        self.image.replay(&MetadataRecord::Topic { name: name.to_owned(), id }).unwrap();
        self.grow(id, partitions);
        id
    }

    /// To so many partitions.
    pub fn grow(&mut self, topic: TopicId, partitions: i32) {
        let before = i32::try_from(self.image.topic(topic).unwrap().partitions.len()).unwrap();
        for index in before..partitions {
            let partition = NewPartition { partition: PartitionId { topic, index }, ..Default::default() };
            self.image.replay(&MetadataRecord::Partition(partition)).unwrap();
        }
        self.act(|coordinator, context| coordinator.topics_changed(context));
    }

    pub fn delete(&mut self, name: &str) {
        let id = self.image.topic_by_name(name).unwrap().id;
        self.image.replay(&MetadataRecord::RemoveTopic { id }).unwrap();
        let names = [name.to_owned()];
        self.act(|coordinator, context| coordinator.topics_removed(context, &names));
        self.act(|coordinator, context| coordinator.topics_changed(context));
    }

    pub fn set_group_config(&mut self, key: &str, value: &str) {
        let resource = ConfigResource { kind: ResourceKind::Group, name: GROUP.to_owned() };
        let (key, value) = (key.to_owned(), Some(value.to_owned()));
        self.image.replay(&MetadataRecord::Config { resource, key, value }).unwrap();
    }

    pub fn beat(&mut self, request: ConsumerGroupHeartbeatRequest) -> ConsumerGroupHeartbeatResponse {
        self.beat_version(1, request)
    }

    pub fn beat_version(
        &mut self,
        version: i16,
        request: ConsumerGroupHeartbeatRequest,
    ) -> ConsumerGroupHeartbeatResponse {
        let ticket = self.send(version, Body::ConsumerHeartbeat(Box::new(request)));
        match self.reply(ticket) {
            Reply::ConsumerHeartbeat(response) => *response,
            other => panic!("{other:?}"),
        }
    }

    /// The error that a heartbeat is refused with; nothing was written.
    pub fn refused(&mut self, request: ConsumerGroupHeartbeatRequest) -> ErrorCode {
        let response = self.beat(request);
        assert_eq!(self.records, [], "a refused heartbeat changes nothing");
        assert!(response.error_message.is_some() && response.error_code != 0, "{response:?}");
        error_of(response.error_code)
    }

    pub fn describe(&mut self) -> DescribedGroup {
        let ticket = self.send(1, Body::DescribeConsumer(vec![GroupId(text(GROUP))]));
        match self.reply(ticket) {
            Reply::DescribeConsumer(mut described) => described.remove(0),
            other => panic!("{other:?}"),
        }
    }

    pub fn state(&mut self) -> String {
        self.describe().group_state.as_str().to_owned()
    }

    /// Time goes on; the records that timers bring.
    pub fn wait(&mut self, ms: u64) -> Vec<Record> {
        let before = self.log.len();
        self.pass(ms);
        let records = self.log[before..].iter().map(|(key, value)| Record::decode(key, value.as_deref()));
        records.map(|record| record.unwrap().expect("a record of ours")).collect()
    }
}

/// Of a member that goes on: nothing but its epoch.
pub(super) fn heartbeat(member: &str, epoch: i32) -> ConsumerGroupHeartbeatRequest {
    ConsumerGroupHeartbeatRequest::default()
        .with_group_id(GroupId(text(GROUP)))
        .with_member_id(text(member))
        .with_member_epoch(epoch)
        .with_rebalance_timeout_ms(-1)
}

pub(super) fn names(topics: &[&str]) -> Option<Vec<TopicName>> {
    Some(topics.iter().map(|topic| TopicName(text(topic))).collect())
}

pub(super) fn join(member: &str, topics: &[&str]) -> ConsumerGroupHeartbeatRequest {
    heartbeat(member, 0)
        .with_rebalance_timeout_ms(REBALANCE_MS)
        .with_subscribed_topic_names(names(topics))
        .with_topic_partitions(Some(Vec::new()))
}

/// As a member says it: topic, partitions.
pub(super) fn owned(partitions: &[(u128, &[i32])]) -> Option<Vec<TopicPartitions>> {
    let topics = partitions.iter().map(|(topic, partitions)| {
        TopicPartitions::default()
            .with_topic_id(uuid::Uuid::from_u128(*topic))
            .with_partitions(partitions.to_vec())
    });
    Some(topics.collect())
}

/// What a member is told to have; `None`: it is told nothing.
pub(super) fn told(response: &ConsumerGroupHeartbeatResponse) -> Option<Has> {
    assert_eq!(response.error_code, 0, "{response:?}");
    let topics = &response.assignment.as_ref()?.topic_partitions;
    let of = |topic: &crate::protocol::messages::consumer_group_heartbeat_response::TopicPartitions| {
        (TopicId(topic.topic_id.as_u128()), topic.partitions.iter().copied().collect())
    };
    Some(topics.iter().map(of).collect())
}

pub(super) fn has(partitions: &[(u128, &[i32])]) -> Has {
    partitions.iter().map(|(topic, of_topic)| (TopicId(*topic), of_topic.iter().copied().collect())).collect()
}

/// Which types of records these are, in their order; a lower case one removes.
pub(super) fn kinds(records: &[Record]) -> String {
    let kind = |record: &Record| {
        let kind = match record {
            Record::Offset { .. } => 'O',
            Record::ClassicGroup { .. } => 'G',
            Record::ConsumerGroup { .. } => 'E',
            Record::ConsumerMember { .. } => 'M',
            Record::TargetEpoch { .. } => 'T',
            Record::TargetMember { .. } => 'P',
            Record::CurrentAssignment { .. } => 'C',
            Record::Regex { .. } => 'R',
        };
        if record.is_removal() { kind.to_ascii_lowercase() } else { kind }
    };
    records.iter().map(kind).collect()
}

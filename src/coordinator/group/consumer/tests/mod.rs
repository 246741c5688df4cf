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

use bytes::Bytes;

use crate::coordinator::group::{Body, Client, GroupCoordinator, Members, Reply, Request, Settings};
use crate::coordinator::record::Record;
use crate::coordinator::{Context, Effects, Now, Ticket};
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

pub(super) struct Broker {
    pub coordinator: GroupCoordinator,
    pub settings: Settings,
    pub now: Now,
    pub image: Image,
    /// Keys and values as they would lie on the disk.
    pub log: Vec<(Bytes, Option<Bytes>)>,
    /// Of the last step.
    pub records: Vec<Record>,
    pub replies: BTreeMap<Ticket, Reply>,
    /// A second coordinator reads the log after every step.
    pub checks_log: bool,
    random: u64,
    tickets: u64,
    topics: u128,
}

impl Broker {
    /// Without topics.
    pub fn new(settings: Settings) -> Broker {
        let mut broker = Broker {
            coordinator: GroupCoordinator::new(settings.clone()),
            settings,
            now: Now { steady: 1_000, wall: 1_700_000_000_000 },
            image: Image::new("cluster", TopicDefaults::default()),
            log: Vec::new(),
            records: Vec::new(),
            replies: BTreeMap::new(),
            checks_log: true,
            random: 0,
            tickets: 0,
            topics: 0,
        };
        broker.act(|coordinator, context| coordinator.loaded(context));
        broker
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

    /// The reply may come later.
    pub fn send(&mut self, version: i16, body: Body) -> Ticket {
        self.tickets += 1;
        let ticket = Ticket(self.tickets);
        let client = Client { id: "client".to_owned(), host: "/127.0.0.1".to_owned() };
        self.act(|coordinator, context| {
            coordinator.handle(context, ticket, Request { version, client, body })
        });
        ticket
    }

    pub fn reply(&mut self, ticket: Ticket) -> Reply {
        self.replies.remove(&ticket).unwrap_or_else(|| panic!("{ticket:?} has no reply"))
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

    /// Time goes on, timers fire at their time. The records of all of them.
    pub fn pass(&mut self, ms: u64) -> Vec<Record> {
        let mut records = Vec::new();
        let end = self.now.steady + ms;
        while let Some(next) = self.coordinator.next_tick().filter(|next| *next <= end) {
            self.move_clock(next.max(self.now.steady));
            self.act(|coordinator, context| coordinator.tick(context));
            records.append(&mut self.records);
        }
        self.move_clock(end);
        records
    }

    fn move_clock(&mut self, steady: u64) {
        self.now.wall += i64::try_from(steady - self.now.steady).unwrap();
        self.now.steady = steady;
    }

    /// The broker dies; another one begins with the log.
    pub fn restart(&mut self) {
        self.check_log();
        self.coordinator = self.from_log();
        self.act(|coordinator, context| coordinator.loaded(context));
    }

    pub fn act(&mut self, act: impl FnOnce(&mut GroupCoordinator, &mut Context) -> Effects<Reply>) {
        let random = &mut self.random;
        let mut random = || {
            *random += 1;
            *random
        };
        let mut context = Context { now: self.now, image: &self.image, random: &mut random };
        let effects = act(&mut self.coordinator, &mut context);
        self.log.extend(effects.records.iter().map(Record::encode));
        self.records = effects.records;
        for (ticket, reply) in effects.replies {
            assert!(self.replies.insert(ticket, reply).is_none(), "{ticket:?} is answered twice");
        }
        if self.checks_log {
            self.check_log();
        }
    }

    fn from_log(&self) -> GroupCoordinator {
        let mut coordinator = GroupCoordinator::new(self.settings.clone());
        for (key, value) in &self.log {
            let record = Record::decode(key, value.as_deref()).unwrap();
            coordinator.replay(record.expect("a record of ours"));
        }
        coordinator
    }

    /// A coordinator that reads the log has what this one has.
    pub fn check_log(&self) {
        let loaded = self.from_log();
        for (id, group) in &self.coordinator.groups {
            let Members::Consumer(members) = &group.members else { continue };
            let in_log = loaded.groups.get(id).unwrap_or_else(|| panic!("{id} is not in the log"));
            let Members::Consumer(loaded_members) = &in_log.members else {
                panic!("{id} is no consumer group")
            };
            assert_eq!(members.durable(), loaded_members.durable(), "{id}");
            assert_eq!(group.offsets, in_log.offsets, "{id}");
        }
        let left = loaded.groups.keys().filter(|id| !self.coordinator.groups.contains_key(*id));
        assert_eq!(left.count(), 0, "groups are in the log only");
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

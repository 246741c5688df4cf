//! What is asked of a group coordinator, in Kafka's messages, and what it answers.

use crate::model::{ProducerEpoch, ProducerId};
use crate::protocol::messages::consumer_group_describe_response::DescribedGroup as DescribedConsumerGroup;
use crate::protocol::messages::delete_groups_response::DeletableGroupResult;
use crate::protocol::messages::describe_groups_response::DescribedGroup;
use crate::protocol::messages::list_groups_response::ListedGroup;
use crate::protocol::messages::offset_fetch_request::OffsetFetchRequestGroup;
use crate::protocol::messages::offset_fetch_response::OffsetFetchResponseGroup;
use crate::protocol::messages::{
    ConsumerGroupHeartbeatRequest, ConsumerGroupHeartbeatResponse, GroupId, HeartbeatRequest,
    HeartbeatResponse, JoinGroupRequest, JoinGroupResponse, LeaveGroupRequest, LeaveGroupResponse,
    OffsetCommitRequest, OffsetCommitResponse, OffsetDeleteRequest, OffsetDeleteResponse, SyncGroupRequest,
    SyncGroupResponse,
};

/// One request, whose groups are all of one coordinator. Authorized, and with topics by name: an id is resolved before.
#[derive(Clone, Debug)]
pub struct Request {
    /// Of the API.
    pub version: i16,
    pub client: Client,
    pub body: Body,
}

/// Who asks, as members are described.
#[derive(Clone, Debug)]
pub struct Client {
    pub id: String,
    /// As Kafka writes an address: `/127.0.0.1`.
    pub host: String,
}

#[derive(Clone, Debug)]
pub enum Body {
    /// Answered when the rebalance has ended: perhaps after minutes.
    Join(Box<JoinGroupRequest>),
    /// Answered when the leader has sent the assignment: perhaps after minutes.
    Sync(Box<SyncGroupRequest>),
    Heartbeat(HeartbeatRequest),
    Leave(LeaveGroupRequest),
    ConsumerHeartbeat(Box<ConsumerGroupHeartbeatRequest>),
    Commit(Box<OffsetCommitRequest>),
    /// TxnOffsetCommit, of the same fields, and its version: once the producer's transaction commits. The coordinator's
    /// partition belongs to that.
    CommitInTransaction {
        transactional_id: String,
        producer_id: ProducerId,
        producer_epoch: ProducerEpoch,
        commit: Box<OffsetCommitRequest>,
    },
    /// `topics: None`: all.
    FetchOffsets {
        group: OffsetFetchRequestGroup,
        require_stable: bool,
    },
    DeleteOffsets(OffsetDeleteRequest),
    Describe(Vec<GroupId>),
    DescribeConsumer(Vec<GroupId>),
    Delete(Vec<GroupId>),
    /// Filters: lower case names of states and types; empty: all.
    List {
        states: Vec<String>,
        types: Vec<String>,
    },
}

impl Body {
    /// Whether the reply may come minutes later.
    #[must_use]
    pub fn may_wait(&self) -> bool {
        matches!(self, Body::Join(_) | Body::Sync(_))
    }
}

#[derive(Clone, Debug, PartialEq)]
pub enum Reply {
    Join(Box<JoinGroupResponse>),
    Sync(Box<SyncGroupResponse>),
    Heartbeat(HeartbeatResponse),
    Leave(LeaveGroupResponse),
    ConsumerHeartbeat(Box<ConsumerGroupHeartbeatResponse>),
    Commit(OffsetCommitResponse),
    FetchOffsets(OffsetFetchResponseGroup),
    DeleteOffsets(OffsetDeleteResponse),
    Describe(Vec<DescribedGroup>),
    DescribeConsumer(Vec<DescribedConsumerGroup>),
    Delete(Vec<DeletableGroupResult>),
    List(Vec<ListedGroup>),
}

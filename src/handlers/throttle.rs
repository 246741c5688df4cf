//! The seam for quotas: every response that can carry a throttle time.

use kafka_protocol::protocol::Encodable;

use crate::protocol::messages;

/// A response; all but one can tell their client to wait.
pub trait Throttled: Encodable {
    fn set_throttle_time_ms(&mut self, wait_ms: i32);
}

macro_rules! throttled {
    ($($response:ident)*) => {
        $(
            impl Throttled for messages::$response {
                fn set_throttle_time_ms(&mut self, wait_ms: i32) {
                    self.throttle_time_ms = wait_ms;
                }
            }
        )*
    };
}

/// Kafka's response has no field for it.
impl Throttled for messages::DescribeQuorumResponse {
    fn set_throttle_time_ms(&mut self, _wait_ms: i32) {}
}

/// It has no such field: between brokers nobody is throttled.
impl Throttled for messages::WriteTxnMarkersResponse {
    fn set_throttle_time_ms(&mut self, _wait_ms: i32) {}
}

throttled! {
    AddOffsetsToTxnResponse
    AddPartitionsToTxnResponse
    AlterConfigsResponse
    AlterPartitionReassignmentsResponse
    AlterReplicaLogDirsResponse
    ApiVersionsResponse
    ConsumerGroupDescribeResponse
    ConsumerGroupHeartbeatResponse
    CreatePartitionsResponse
    CreateTopicsResponse
    DeleteGroupsResponse
    DeleteRecordsResponse
    DeleteTopicsResponse
    DescribeClusterResponse
    DescribeConfigsResponse
    DescribeGroupsResponse
    DescribeLogDirsResponse
    DescribeProducersResponse
    DescribeTopicPartitionsResponse
    DescribeTransactionsResponse
    ElectLeadersResponse
    EndTxnResponse
    FetchResponse
    FindCoordinatorResponse
    HeartbeatResponse
    IncrementalAlterConfigsResponse
    InitProducerIdResponse
    JoinGroupResponse
    LeaveGroupResponse
    ListConfigResourcesResponse
    ListGroupsResponse
    ListOffsetsResponse
    ListPartitionReassignmentsResponse
    ListTransactionsResponse
    MetadataResponse
    OffsetCommitResponse
    OffsetDeleteResponse
    OffsetFetchResponse
    OffsetForLeaderEpochResponse
    ProduceResponse
    SyncGroupResponse
    TxnOffsetCommitResponse
    UpdateFeaturesResponse
}

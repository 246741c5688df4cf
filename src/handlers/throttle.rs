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

throttled! {
    AlterConfigsResponse
    AlterPartitionReassignmentsResponse
    AlterReplicaLogDirsResponse
    ApiVersionsResponse
    CreatePartitionsResponse
    CreateTopicsResponse
    DeleteRecordsResponse
    DeleteTopicsResponse
    DescribeClusterResponse
    DescribeConfigsResponse
    DescribeLogDirsResponse
    DescribeTopicPartitionsResponse
    ElectLeadersResponse
    FetchResponse
    IncrementalAlterConfigsResponse
    InitProducerIdResponse
    ListConfigResourcesResponse
    ListOffsetsResponse
    ListPartitionReassignmentsResponse
    MetadataResponse
    OffsetForLeaderEpochResponse
    ProduceResponse
    UpdateFeaturesResponse
}

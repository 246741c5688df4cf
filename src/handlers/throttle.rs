//! The seam for quotas: every response that can carry a throttle time.

use kafka_protocol::protocol::Encodable;

use crate::protocol::messages;

/// A response whose client can be told to wait.
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

throttled! {
    AlterConfigsResponse
    AlterPartitionReassignmentsResponse
    ApiVersionsResponse
    CreatePartitionsResponse
    CreateTopicsResponse
    DeleteRecordsResponse
    DeleteTopicsResponse
    DescribeClusterResponse
    DescribeConfigsResponse
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
}

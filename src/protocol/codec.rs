//! Bodies in and out through the `kafka-protocol` crate.
//!
//! A request body passes the guard and is then decoded in place: strings and records are slices of the frame. A reply is encoded into one
//! buffer of exactly its size, length prefix and header included, ready for the socket.

use std::fmt;

use bytes::{Bytes, BytesMut};
use kafka_protocol::messages::{self, ApiVersionsResponse};
use kafka_protocol::protocol::{Decodable, Encodable};

use super::api::{Api, advertised_entry};
use super::guard;
use super::header::{RequestHeader, ResponseHeader, begin_frame, finish_frame};
use super::topic_ids::{self, TOPIC_IDS_FROM};
use crate::model::ErrorCode;

/// A body that cannot be decoded. The connection closes: nothing says where the next field begins.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Error {
    pub api: Api,
    pub version: i16,
    /// What the guard found; `None` where it is the crate that objects, which then is a string that is not UTF-8
    /// or a tag in a version that does not have it.
    pub refused: Option<guard::Error>,
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} request of version {} is malformed: ", self.api.name(), self.version)?;
        match self.refused {
            Some(refused) => refused.fmt(f),
            None => f.write_str("a value is not allowed there"),
        }
    }
}

impl std::error::Error for Error {}

/// A request type, the API it belongs to and the type that answers it.
pub trait Request: Decodable {
    const API: Api;
    type Response: Encodable;

    /// `None`: these bytes are none.
    fn decode_body(body: &mut Bytes, version: i16) -> Option<Self> {
        Self::decode(body, version).ok()
    }
}

macro_rules! requests {
    ($($api:ident: $request:ident => $response:ident,)*) => {
        $(
            impl Request for messages::$request {
                const API: Api = Api::$api;
                type Response = messages::$response;
            }
        )*
    };
}

requests! {
    Produce: ProduceRequest => ProduceResponse,
    Fetch: FetchRequest => FetchResponse,
    ListOffsets: ListOffsetsRequest => ListOffsetsResponse,
    Metadata: MetadataRequest => MetadataResponse,
    FindCoordinator: FindCoordinatorRequest => FindCoordinatorResponse,
    JoinGroup: JoinGroupRequest => JoinGroupResponse,
    Heartbeat: HeartbeatRequest => HeartbeatResponse,
    LeaveGroup: LeaveGroupRequest => LeaveGroupResponse,
    SyncGroup: SyncGroupRequest => SyncGroupResponse,
    DescribeGroups: DescribeGroupsRequest => DescribeGroupsResponse,
    ListGroups: ListGroupsRequest => ListGroupsResponse,
    ApiVersions: ApiVersionsRequest => ApiVersionsResponse,
    CreateTopics: CreateTopicsRequest => CreateTopicsResponse,
    DeleteTopics: DeleteTopicsRequest => DeleteTopicsResponse,
    DeleteRecords: DeleteRecordsRequest => DeleteRecordsResponse,
    InitProducerId: InitProducerIdRequest => InitProducerIdResponse,
    OffsetForLeaderEpoch: OffsetForLeaderEpochRequest => OffsetForLeaderEpochResponse,
    AddPartitionsToTxn: AddPartitionsToTxnRequest => AddPartitionsToTxnResponse,
    AddOffsetsToTxn: AddOffsetsToTxnRequest => AddOffsetsToTxnResponse,
    EndTxn: EndTxnRequest => EndTxnResponse,
    WriteTxnMarkers: WriteTxnMarkersRequest => WriteTxnMarkersResponse,
    TxnOffsetCommit: TxnOffsetCommitRequest => TxnOffsetCommitResponse,
    DescribeConfigs: DescribeConfigsRequest => DescribeConfigsResponse,
    AlterConfigs: AlterConfigsRequest => AlterConfigsResponse,
    AlterReplicaLogDirs: AlterReplicaLogDirsRequest => AlterReplicaLogDirsResponse,
    DescribeLogDirs: DescribeLogDirsRequest => DescribeLogDirsResponse,
    CreatePartitions: CreatePartitionsRequest => CreatePartitionsResponse,
    DeleteGroups: DeleteGroupsRequest => DeleteGroupsResponse,
    ElectLeaders: ElectLeadersRequest => ElectLeadersResponse,
    IncrementalAlterConfigs: IncrementalAlterConfigsRequest => IncrementalAlterConfigsResponse,
    AlterPartitionReassignments: AlterPartitionReassignmentsRequest => AlterPartitionReassignmentsResponse,
    ListPartitionReassignments: ListPartitionReassignmentsRequest => ListPartitionReassignmentsResponse,
    OffsetDelete: OffsetDeleteRequest => OffsetDeleteResponse,
    DescribeQuorum: DescribeQuorumRequest => DescribeQuorumResponse,
    UpdateFeatures: UpdateFeaturesRequest => UpdateFeaturesResponse,
    DescribeCluster: DescribeClusterRequest => DescribeClusterResponse,
    DescribeProducers: DescribeProducersRequest => DescribeProducersResponse,
    DescribeTransactions: DescribeTransactionsRequest => DescribeTransactionsResponse,
    ListTransactions: ListTransactionsRequest => ListTransactionsResponse,
    ConsumerGroupHeartbeat: ConsumerGroupHeartbeatRequest => ConsumerGroupHeartbeatResponse,
    ConsumerGroupDescribe: ConsumerGroupDescribeRequest => ConsumerGroupDescribeResponse,
    ListConfigResources: ListConfigResourcesRequest => ListConfigResourcesResponse,
    DescribeTopicPartitions: DescribeTopicPartitionsRequest => DescribeTopicPartitionsResponse,
}

impl Request for messages::OffsetCommitRequest {
    const API: Api = Api::OffsetCommit;
    type Response = messages::OffsetCommitResponse;

    fn decode_body(body: &mut Bytes, version: i16) -> Option<Self> {
        if version >= TOPIC_IDS_FROM {
            topic_ids::offset_commit(body)
        } else {
            Self::decode(body, version).ok()
        }
    }
}

impl Request for messages::OffsetFetchRequest {
    const API: Api = Api::OffsetFetch;
    type Response = messages::OffsetFetchResponse;

    fn decode_body(body: &mut Bytes, version: i16) -> Option<Self> {
        if version >= TOPIC_IDS_FROM {
            topic_ids::offset_fetch(body)
        } else {
            Self::decode(body, version).ok()
        }
    }
}

/// Decodes a request's body in place. Bytes behind the body are ignored, as Kafka does.
pub fn decode<T: Request>(request: &RequestHeader) -> Result<T, Error> {
    assert!(request.api == T::API, "a {} request is not decoded as another", request.api.name());
    let malformed = |refused| Error { api: request.api, version: request.version, refused };
    guard::check(request.api, request.version, &request.body).map_err(|refused| malformed(Some(refused)))?;
    let mut body = request.body.clone();
    T::decode_body(&mut body, request.version).ok_or(malformed(None))
}

/// A response that does not fit its version or a frame. A handler's mistake, yet one that a client's own strings and
/// counts may have led to: the connection closes, the broker goes on.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NotEncodable {
    pub api: Api,
    pub version: i16,
    /// In the words of the crate, which names no field.
    pub reason: Box<str>,
}

impl fmt::Display for NotEncodable {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let name = self.api.name();
        write!(f, "{name} response of version {} cannot be encoded: {}", self.version, self.reason)
    }
}

impl std::error::Error for NotEncodable {}

/// Encodes a reply as one frame, length prefix included.
///
/// # Errors
/// A field is set that the version does not have, a string is longer than it can say, or the whole is longer than
/// a frame can be.
pub fn encode_response<T: Encodable>(header: ResponseHeader, response: &T) -> Result<Bytes, NotEncodable> {
    let not_encodable = |reason: &dyn fmt::Display| NotEncodable {
        api: header.api,
        version: header.version,
        reason: reason.to_string().into(),
    };
    let body_bytes = response.compute_size(header.version).map_err(|error| not_encodable(&error))?;
    if body_bytes > FRAME_BYTES_MAX - HEADER_BYTES_MAX {
        return Err(not_encodable(&format_args!("it has {body_bytes} bytes")));
    }
    let mut frame = BytesMut::with_capacity(HEADER_BYTES_MAX + body_bytes);
    begin_frame(&mut frame, header);
    response.encode(&mut frame, header.version).map_err(|error| not_encodable(&error))?;
    finish_frame(&mut frame, 0);
    Ok(frame.freeze())
}

/// Length prefix, correlation id, no tagged fields.
const HEADER_BYTES_MAX: usize = 9;

/// A frame's length is an `i32`.
const FRAME_BYTES_MAX: usize = i32::MAX as usize;

/// The answer to an ApiVersions request of a version we do not know: in version 0, UNSUPPORTED_VERSION, and the
/// one entry from which the client learns which version to ask in. The whole frame.
#[must_use]
pub fn unsupported_api_versions(correlation_id: i32) -> Bytes {
    let header = ResponseHeader { api: Api::ApiVersions, version: 0, correlation_id };
    let response = ApiVersionsResponse::default()
        .with_error_code(ErrorCode::UnsupportedVersion.code())
        .with_api_keys(vec![advertised_entry(Api::ApiVersions)]);
    encode_response(header, &response).expect("two integers and one entry fit any frame")
}

#[cfg(test)]
mod tests {
    use bytes::Buf;
    use kafka_protocol::messages::create_topics_response::CreatableTopicResult;
    use kafka_protocol::messages::produce_request::{PartitionProduceData, TopicProduceData};
    use kafka_protocol::messages::{
        CreateTopicsResponse, ProduceRequest, ProduceResponse, ResponseHeader as CrateResponseHeader,
    };
    use kafka_protocol::protocol::StrBytes;

    use super::*;

    fn request<T: Encodable>(api: Api, version: i16, message: &T) -> RequestHeader {
        let mut body = BytesMut::new();
        message.encode(&mut body, version).unwrap();
        RequestHeader { api, version, correlation_id: 5, client_id: None, body: body.freeze() }
    }

    #[test]
    fn records_are_slices_of_the_frame() {
        let records = Bytes::from(vec![7; 1000]);
        let partition = PartitionProduceData::default().with_index(3).with_records(Some(records.clone()));
        let topic = TopicProduceData::default()
            .with_name(StrBytes::from_static_str("t").into())
            .with_partition_data(vec![partition]);
        let message = ProduceRequest::default().with_acks(-1).with_topic_data(vec![topic]);
        for version in 3..=12 {
            let request = request(Api::Produce, version, &message);
            let decoded: ProduceRequest = decode(&request).unwrap();
            let found = decoded.topic_data[0].partition_data[0].records.as_ref().unwrap();
            assert_eq!(found, &records);
            let frame = request.body.as_ptr_range();
            assert!(frame.contains(&found.as_ptr()), "version {version} copied the records");
        }
    }

    #[test]
    fn trailing_bytes_are_ignored_and_missing_ones_are_not() {
        let mut request = request(Api::Produce, 9, &ProduceRequest::default());
        let whole = request.body.clone();
        request.body = Bytes::from([&whole[..], b"more"].concat());
        assert!(decode::<ProduceRequest>(&request).is_ok());
        request.body = whole.slice(..whole.len() - 1);
        assert!(decode::<ProduceRequest>(&request).is_err());
        request.body = whole.slice(..5);
        let error = decode::<ProduceRequest>(&request).unwrap_err();
        assert_eq!(error.to_string(), "Produce request of version 9 is malformed: it ends inside a field");
    }

    #[test]
    fn replies_are_whole_frames_of_the_right_size() {
        for version in Api::Produce.accepted().iter() {
            let header = ResponseHeader { api: Api::Produce, version, correlation_id: 5 };
            let response = ProduceResponse::default().with_throttle_time_ms(9);
            let mut frame = encode_response(header, &response).unwrap();
            assert_eq!(frame.get_i32() as usize, frame.len());
            let header_version = if version >= 9 { 1 } else { 0 };
            let header = CrateResponseHeader::decode(&mut frame, header_version).unwrap();
            assert_eq!(header.correlation_id, 5);
            assert_eq!(ProduceResponse::decode(&mut frame, version).unwrap(), response);
            assert!(frame.is_empty());
        }
    }

    #[test]
    fn what_a_version_cannot_say_is_an_error() {
        let header = ResponseHeader { api: Api::CreateTopics, version: 4, correlation_id: 5 };
        let named = |name: String| {
            let topic = CreatableTopicResult::default().with_name(StrBytes::from_string(name).into());
            CreateTopicsResponse::default().with_topics(vec![topic])
        };
        assert!(encode_response(header, &named("t".repeat(32_767))).is_ok());
        let error = encode_response(header, &named("t".repeat(32_768))).unwrap_err();
        assert!(error.to_string().starts_with("CreateTopics response of version 4 cannot be encoded: "));
    }

    #[test]
    fn an_unknown_api_versions_is_answered_in_version_0() {
        let frame = unsupported_api_versions(0x0102_0304);
        let expected = [
            0, 0, 0, 16, // length
            1, 2, 3, 4, // correlation id, no tagged fields
            0, 35, // UNSUPPORTED_VERSION
            0, 0, 0, 1, 0, 18, 0, 0, 0, 4, // one entry: ApiVersions, 0 to 4
        ];
        assert_eq!(&frame[..], expected);
    }
}

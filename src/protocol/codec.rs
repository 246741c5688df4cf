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
    ApiVersions: ApiVersionsRequest => ApiVersionsResponse,
    CreateTopics: CreateTopicsRequest => CreateTopicsResponse,
    DeleteTopics: DeleteTopicsRequest => DeleteTopicsResponse,
    InitProducerId: InitProducerIdRequest => InitProducerIdResponse,
    OffsetForLeaderEpoch: OffsetForLeaderEpochRequest => OffsetForLeaderEpochResponse,
    DescribeConfigs: DescribeConfigsRequest => DescribeConfigsResponse,
    IncrementalAlterConfigs: IncrementalAlterConfigsRequest => IncrementalAlterConfigsResponse,
    DescribeCluster: DescribeClusterRequest => DescribeClusterResponse,
}

/// Decodes a request's body in place. Bytes behind the body are ignored, as Kafka does.
pub fn decode<T: Request>(request: &RequestHeader) -> Result<T, Error> {
    assert!(request.api == T::API, "a {} request is not decoded as another", request.api.name());
    let malformed = |refused| Error { api: request.api, version: request.version, refused };
    guard::check(request.api, request.version, &request.body).map_err(|refused| malformed(Some(refused)))?;
    let mut body = request.body.clone();
    T::decode(&mut body, request.version).map_err(|_| malformed(None))
}

/// Encodes a reply as one frame, length prefix included.
///
/// Panics if a field is set that the version does not have: what a handler puts in an answer is our own doing.
#[must_use]
pub fn encode_response<T: Encodable>(header: ResponseHeader, response: &T) -> Bytes {
    let body_bytes =
        response.compute_size(header.version).unwrap_or_else(|error| not_encodable(header, &error));
    let mut frame = BytesMut::with_capacity(HEADER_BYTES_MAX + body_bytes);
    begin_frame(&mut frame, header);
    response.encode(&mut frame, header.version).unwrap_or_else(|error| not_encodable(header, &error));
    finish_frame(&mut frame, 0);
    frame.freeze()
}

/// Length prefix, correlation id, no tagged fields.
const HEADER_BYTES_MAX: usize = 9;

#[cold]
fn not_encodable(header: ResponseHeader, error: &dyn fmt::Display) -> ! {
    panic!("{} response of version {} cannot be encoded: {error}", header.api.name(), header.version)
}

/// The answer to an ApiVersions request of a version we do not know: in version 0, UNSUPPORTED_VERSION, and the
/// one entry from which the client learns which version to ask in. The whole frame.
#[must_use]
pub fn unsupported_api_versions(correlation_id: i32) -> Bytes {
    let header = ResponseHeader { api: Api::ApiVersions, version: 0, correlation_id };
    let response = ApiVersionsResponse::default()
        .with_error_code(ErrorCode::UnsupportedVersion.code())
        .with_api_keys(vec![advertised_entry(Api::ApiVersions)]);
    encode_response(header, &response)
}

#[cfg(test)]
mod tests {
    use bytes::Buf;
    use kafka_protocol::messages::produce_request::{PartitionProduceData, TopicProduceData};
    use kafka_protocol::messages::{ProduceRequest, ProduceResponse, ResponseHeader as CrateResponseHeader};
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
            let mut frame = encode_response(header, &response);
            assert_eq!(frame.get_i32() as usize, frame.len());
            let header_version = if version >= 9 { 1 } else { 0 };
            let header = CrateResponseHeader::decode(&mut frame, header_version).unwrap();
            assert_eq!(header.correlation_id, 5);
            assert_eq!(ProduceResponse::decode(&mut frame, version).unwrap(), response);
            assert!(frame.is_empty());
        }
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

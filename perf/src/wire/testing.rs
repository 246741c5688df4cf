//! What tests of machines share: a broker of one answer.

use bytes::{Buf, Bytes, BytesMut};
use kafka_protocol::messages::{ApiKey, RequestHeader, ResponseHeader};
use kafka_protocol::protocol::{Decodable, Encodable};

fn header(frame: &[u8]) -> (ApiKey, RequestHeader, Bytes) {
    let mut bytes = Bytes::copy_from_slice(&frame[4..]);
    let key = ApiKey::try_from((&bytes[..2]).get_i16()).expect("an API");
    let version = (&bytes[2..4]).get_i16();
    let header = RequestHeader::decode(&mut bytes, key.request_header_version(version)).expect("a header");
    (key, header, bytes)
}

/// The request in a frame.
pub fn decode<Q: Decodable>(frame: &[u8]) -> Q {
    let (_, header, mut bytes) = header(frame);
    let request = Q::decode(&mut bytes, header.request_api_version).expect("a request");
    assert!(bytes.is_empty());
    request
}

/// What was asked, and the answer to it without its length.
pub fn respond<A: Encodable>(frame: &[u8], response: &A) -> (ApiKey, Bytes) {
    let (key, header, _) = header(frame);
    let version = header.request_api_version;
    let mut bytes = BytesMut::new();
    ResponseHeader::default()
        .with_correlation_id(header.correlation_id)
        .encode(&mut bytes, key.response_header_version(version))
        .expect("a header");
    response.encode(&mut bytes, version).expect("a response");
    (key, bytes.freeze())
}

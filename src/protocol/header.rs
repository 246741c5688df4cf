//! Request headers in, response headers out, by hand.
//!
//! A header is read before anything is known about the body: an ApiVersions request of a version nobody has heard
//! of still gets its answer, and any other request that is not served costs eight bytes of parsing and closes the
//! connection, which is what Kafka does with it (kafka-spec 2.1).
//!
//! Request header: key i16 | version i16 | correlation id i32 | client id, i16 length, never compact |
//! tagged fields if the version is flexible. Response header: correlation id i32 | tagged fields (none, one zero
//! byte) if the header version is 1.

use std::fmt;

use bytes::{Buf, BufMut, Bytes, BytesMut};

use super::StrBytes;
use super::api::{Api, RequestHeaderVersion, ResponseHeaderVersion};
use super::wire;

/// Bytes in front of every frame: its length, which does not count these four.
pub const FRAME_LENGTH_BYTES: usize = 4;

/// A request that is served: its header, and the body still encoded.
#[derive(Clone, Debug)]
pub struct RequestHeader {
    pub api: Api,
    pub version: i16,
    pub correlation_id: i32,
    /// `None` where the client sent null, which Kafka reads as "".
    pub client_id: Option<StrBytes>,
    pub body: Bytes,
}

impl RequestHeader {
    /// What the reply's header needs.
    #[must_use]
    pub fn response(&self) -> ResponseHeader {
        ResponseHeader { api: self.api, version: self.version, correlation_id: self.correlation_id }
    }
}

/// Which request a reply answers, and in which version.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ResponseHeader {
    pub api: Api,
    pub version: i16,
    pub correlation_id: i32,
}

/// What to do with a frame.
#[derive(Clone, Debug)]
pub enum Verdict {
    Served(RequestHeader),
    /// ApiVersions in a version we do not know: send [`codec::unsupported_api_versions`], keep the connection.
    ///
    /// [`codec::unsupported_api_versions`]: super::codec::unsupported_api_versions
    UnsupportedApiVersions {
        correlation_id: i32,
    },
    /// Close the connection without an answer.
    Close(Refusal),
}

/// Why a frame closes its connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Refusal {
    UnknownApi {
        key: i16,
    },
    UnsupportedVersion {
        api: Api,
        version: i16,
    },
    /// The frame ends inside its header, or a length in the header points outside it.
    Malformed,
}

impl fmt::Display for Refusal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Refusal::UnknownApi { key } => write!(f, "request with API key {key}, which is not served"),
            Refusal::UnsupportedVersion { api, version } => {
                let accepted = api.accepted();
                write!(
                    f,
                    "{} request of version {version}, served are {}-{}",
                    api.name(),
                    accepted.min,
                    accepted.max
                )
            }
            Refusal::Malformed => f.write_str("request header is malformed"),
        }
    }
}

/// Reads the header of one frame, given without its length prefix.
#[must_use]
pub fn parse(mut frame: Bytes) -> Verdict {
    if frame.len() < 8 {
        return Verdict::Close(Refusal::Malformed);
    }
    let key = frame.get_i16();
    let version = frame.get_i16();
    let correlation_id = frame.get_i32();
    let Some(api) = Api::from_key(key) else {
        return Verdict::Close(Refusal::UnknownApi { key });
    };
    if !api.accepted().contains(version) {
        return match api {
            Api::ApiVersions => Verdict::UnsupportedApiVersions { correlation_id },
            _ => Verdict::Close(Refusal::UnsupportedVersion { api, version }),
        };
    }
    let Some(client_id) = take_client_id(&mut frame) else {
        return Verdict::Close(Refusal::Malformed);
    };
    if api.request_header(version) == RequestHeaderVersion::V2 && skip_tagged_fields(&mut frame).is_none() {
        return Verdict::Close(Refusal::Malformed);
    }
    Verdict::Served(RequestHeader { api, version, correlation_id, client_id, body: frame })
}

/// A nullable string with an `i16` length. Kafka accepts any bytes here and replaces what is not UTF-8.
fn take_client_id(frame: &mut Bytes) -> Option<Option<StrBytes>> {
    let length = match frame.try_get_i16().ok()? {
        -1 => return Some(None),
        length => usize::try_from(length).ok()?,
    };
    if length > frame.len() {
        return None;
    }
    let bytes = frame.split_to(length);
    let client_id = StrBytes::from_utf8(bytes.clone())
        .unwrap_or_else(|_| StrBytes::from_string(String::from_utf8_lossy(&bytes).into_owned()));
    Some(Some(client_id))
}

/// The tags of request headers mean nothing yet; their lengths must still hold.
fn skip_tagged_fields(frame: &mut Bytes) -> Option<()> {
    let mut rest: &[u8] = frame;
    for _ in 0..wire::take_unsigned_varint(&mut rest)? {
        wire::take_unsigned_varint(&mut rest)?;
        let size = wire::take_unsigned_varint(&mut rest)? as usize;
        rest = rest.get(size..)?;
    }
    let consumed = frame.len() - rest.len();
    frame.advance(consumed);
    Some(())
}

/// Begins a frame at the start of `frame`: room for the length, then the header. [`finish_frame`] fills the length.
pub fn begin_frame(frame: &mut BytesMut, header: ResponseHeader) {
    assert!(frame.is_empty(), "a frame begins at the start of its buffer");
    frame.put_i32(0);
    frame.put_i32(header.correlation_id);
    if header.api.response_header(header.version) == ResponseHeaderVersion::V1 {
        frame.put_u8(0);
    }
}

/// Fills the length of a frame whose bytes are `frame` and, elsewhere, `bytes_elsewhere` more.
pub fn finish_frame(frame: &mut BytesMut, bytes_elsewhere: usize) {
    let length = frame.len() - FRAME_LENGTH_BYTES + bytes_elsewhere;
    let length = i32::try_from(length).expect("a reply is bounded by the byte limits of its request");
    frame[..FRAME_LENGTH_BYTES].copy_from_slice(&length.to_be_bytes());
}

#[cfg(test)]
mod tests {
    use kafka_protocol::messages::{RequestHeader as CrateHeader, ResponseHeader as CrateResponseHeader};
    use kafka_protocol::protocol::{Decodable, Encodable};

    use super::*;

    fn frame(key: i16, version: i16, header_version: i16, client_id: Option<&'static str>) -> BytesMut {
        let header = CrateHeader::default()
            .with_request_api_key(key)
            .with_request_api_version(version)
            .with_correlation_id(77)
            .with_client_id(client_id.map(StrBytes::from_static_str));
        let mut frame = BytesMut::new();
        header.encode(&mut frame, header_version).unwrap();
        frame.put_slice(b"body");
        frame
    }

    fn served(frame: BytesMut) -> RequestHeader {
        match parse(frame.freeze()) {
            Verdict::Served(request) => request,
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn every_served_version_is_read_as_the_crate_writes_it() {
        for api in Api::all() {
            for version in api.accepted().iter() {
                let header_version = if api.is_flexible(version) { 2 } else { 1 };
                for client_id in [None, Some(""), Some("rdkafka")] {
                    let request = served(frame(api.key(), version, header_version, client_id));
                    assert_eq!((request.api, request.version), (api, version));
                    assert_eq!(request.correlation_id, 77);
                    assert_eq!(request.client_id.as_deref(), client_id);
                    assert_eq!(&request.body[..], b"body");
                }
            }
        }
    }

    #[test]
    fn a_half_header_closes() {
        for header_version in [1, 2] {
            let version = if header_version == 2 { 12 } else { 11 };
            let whole = frame(1, version, header_version, Some("client")).freeze();
            let header_bytes = whole.len() - 4;
            for cut in 0..header_bytes {
                assert!(
                    matches!(parse(whole.slice(..cut)), Verdict::Close(Refusal::Malformed)),
                    "cut at {cut}"
                );
            }
            assert!(matches!(parse(whole.slice(..header_bytes)), Verdict::Served(_)));
        }
    }

    #[test]
    fn unknown_keys_and_versions_close_but_api_versions_answers() {
        let verdict = |key, version| parse(frame(key, version, 1, None).freeze());
        assert!(matches!(verdict(4, 0), Verdict::Close(Refusal::UnknownApi { key: 4 })));
        assert!(matches!(verdict(-1, 0), Verdict::Close(Refusal::UnknownApi { key: -1 })));
        for version in [-1, 0, 2, 14, i16::MAX] {
            assert!(matches!(
                verdict(0, version),
                Verdict::Close(Refusal::UnsupportedVersion { api: Api::Produce, version: v }) if v == version
            ));
        }
        for version in [-1, 5, i16::MAX] {
            assert!(matches!(verdict(18, version), Verdict::UnsupportedApiVersions { correlation_id: 77 }));
        }
        // nothing past the eight bytes is looked at
        assert!(matches!(
            parse(Bytes::from_static(&[0, 18, 0, 9, 0, 0, 0, 5, 0xff])),
            Verdict::UnsupportedApiVersions { correlation_id: 5 }
        ));
    }

    #[test]
    fn lengths_outside_the_frame_close() {
        let close = |tail: &[u8]| {
            let mut frame = BytesMut::from(&[0, 1, 0, 12, 0, 0, 0, 1][..]);
            frame.put_slice(tail);
            assert!(matches!(parse(frame.freeze()), Verdict::Close(Refusal::Malformed)), "accepted {tail:?}");
        };
        close(&[0xff, 0xfe]); // client id of length -2
        close(&[0x7f, 0xff, b'a']); // longer than the frame
        close(&[0xff, 0xff, 1]); // one tagged field, which is missing
        close(&[0xff, 0xff, 1, 0, 5, 1, 2]); // its size points outside
        close(&[0xff, 0xff, 0x80, 0x80, 0x80, 0x80, 0x80, 0]); // a varint that does not end
        close(&[0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0x0f]); // four billion tagged fields
    }

    #[test]
    fn tagged_fields_and_odd_client_ids_are_tolerated() {
        let mut bytes = BytesMut::from(&[0, 1, 0, 12, 0, 0, 0, 1, 0, 2, b'a', 0xff][..]);
        bytes.put_slice(&[2, 0, 1, 9, 200, 1, 0]); // tag 0 with one byte, tag 200 with none
        bytes.put_slice(b"body");
        let request = served(bytes);
        assert_eq!(request.client_id.as_deref(), Some("a\u{fffd}"));
        assert_eq!(&request.body[..], b"body");
    }

    #[test]
    fn response_headers_are_read_by_the_crate() {
        for api in Api::all() {
            for version in api.accepted().iter() {
                let mut reply = BytesMut::new();
                begin_frame(&mut reply, ResponseHeader { api, version, correlation_id: 9 });
                reply.put_slice(b"body");
                finish_frame(&mut reply, 100);
                let mut reply = reply.freeze();
                assert_eq!(reply.get_i32() as usize, reply.len() + 100);
                let header_version = match api.response_header(version) {
                    ResponseHeaderVersion::V0 => 0,
                    ResponseHeaderVersion::V1 => 1,
                };
                let header = CrateResponseHeader::decode(&mut reply, header_version).unwrap();
                assert_eq!(header.correlation_id, 9);
                assert_eq!(&reply[..], b"body");
            }
        }
    }
}

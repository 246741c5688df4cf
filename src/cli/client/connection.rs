//! One connection to one broker: what it serves, and one request at a time.

use std::collections::BTreeMap;
use std::io::{self, Read as _, Write as _};
use std::net::{TcpStream, ToSocketAddrs as _};
use std::time::Duration;

use bytes::{BufMut as _, Bytes, BytesMut};
use kafka_protocol::messages::{
    ApiKey, ApiVersionsRequest, ApiVersionsResponse, FetchRequest, ProduceRequest, RequestHeader,
    ResponseHeader,
};
use kafka_protocol::protocol::{
    Decodable as _, Encodable as _, HeaderVersion as _, Request, StrBytes, VersionRange,
};

use super::error::Error;

/// More than any answer has that is asked for here: a fetch asks for 16 MiB.
const ANSWER_BYTES_MAX: usize = 256 << 20;

/// The newest versions of Produce and Fetch that name topics; newer ones have ids only.
const NAMED_MAX: i16 = 12;

const UNSUPPORTED_VERSION: i16 = 35;

pub(super) struct Connection {
    address: String,
    stream: TcpStream,
    timeout: Duration,
    /// By API key.
    served: BTreeMap<i16, VersionRange>,
    correlation_id: i32,
}

/// A request whose answer has not been read.
#[must_use]
pub(in crate::cli) struct Pending {
    correlation_id: i32,
    version: i16,
}

impl Connection {
    pub(super) fn open(address: &str, timeout: Duration) -> Result<Connection, Error> {
        let failed = |cause| Error::Unreachable { address: address.to_owned(), cause };
        let mut cause = io::Error::new(io::ErrorKind::NotFound, "the name has no address");
        for candidate in address.to_socket_addrs().map_err(failed)? {
            match TcpStream::connect_timeout(&candidate, timeout) {
                Ok(stream) => {
                    let set_up = stream
                        .set_nodelay(true)
                        .and_then(|()| stream.set_read_timeout(Some(timeout)))
                        .and_then(|()| stream.set_write_timeout(Some(timeout)));
                    set_up.map_err(failed)?;
                    let mut connection = Connection {
                        address: address.to_owned(),
                        stream,
                        timeout,
                        served: BTreeMap::new(),
                        correlation_id: 0,
                    };
                    connection.learn_versions()?;
                    return Ok(connection);
                }
                Err(error) => cause = error,
            }
        }
        Err(failed(cause))
    }

    fn learn_versions(&mut self) -> Result<(), Error> {
        let request = ApiVersionsRequest::default()
            .with_client_software_name(StrBytes::from_static_str("corelane"))
            .with_client_software_version(StrBytes::from_static_str(env!("CARGO_PKG_VERSION")));
        let mut answer = self.ask_versions(&request, 3)?;
        if answer.error_code == UNSUPPORTED_VERSION {
            answer = self.ask_versions(&ApiVersionsRequest::default(), 0)?;
        }
        if answer.error_code != 0 || answer.api_keys.is_empty() {
            return Err(Error::NotKafka { address: self.address.clone() });
        }
        self.served = answer
            .api_keys
            .iter()
            .map(|api| (api.api_key, VersionRange { min: api.min_version, max: api.max_version }))
            .collect();
        Ok(())
    }

    fn ask_versions(
        &mut self,
        request: &ApiVersionsRequest,
        version: i16,
    ) -> Result<ApiVersionsResponse, Error> {
        let correlation_id = self.write(request, version)?;
        let frame = self.read_frame();
        let not_kafka = || Error::NotKafka { address: self.address.clone() };
        let mut frame = match frame {
            Err(Error::TooLarge { .. }) => return Err(not_kafka()),
            other => other?,
        };
        let header = ResponseHeader::decode(&mut frame, 0).map_err(|_| not_kafka())?;
        if header.correlation_id != correlation_id {
            return Err(not_kafka());
        }
        // a broker that does not know the version answers in version 0
        let unsupported = frame.get(..2) == Some(&UNSUPPORTED_VERSION.to_be_bytes());
        let version = if unsupported { 0 } else { version };
        ApiVersionsResponse::decode(&mut frame, version).map_err(|_| not_kafka())
    }

    /// Whether the broker has closed it, as brokers do with one that is idle for long. There must be no answer to come.
    pub(super) fn has_ended(&self) -> bool {
        let peeked = self.stream.set_nonblocking(true).and_then(|()| self.stream.peek(&mut [0]));
        let is_blocking_again = self.stream.set_nonblocking(false).is_ok();
        let is_open = matches!(peeked, Err(error) if error.kind() == io::ErrorKind::WouldBlock);
        !(is_open && is_blocking_again)
    }

    /// The newest version that both sides have.
    pub(super) fn version<R: Request>(&self) -> Result<i16, Error> {
        let mut known = R::VERSIONS;
        if [ProduceRequest::KEY, FetchRequest::KEY].contains(&R::KEY) {
            known.max = NAMED_MAX;
        }
        let served = self.served.get(&R::KEY);
        let common = served.map(|served| served.intersect(&known)).filter(|common| !common.is_empty());
        match common {
            Some(common) => Ok(common.max),
            None => Err(Error::NotServed {
                address: self.address.clone(),
                api: api_name(R::KEY),
                key: R::KEY,
                known: (known.min, known.max),
                served: served.map(|served| (served.min, served.max)),
            }),
        }
    }

    pub(super) fn call<R: Request>(&mut self, request: &R) -> Result<R::Response, Error> {
        let pending = self.send(request)?;
        self.receive::<R>(pending)
    }

    pub(super) fn send<R: Request>(&mut self, request: &R) -> Result<Pending, Error> {
        let version = self.version::<R>()?;
        Ok(Pending { correlation_id: self.write(request, version)?, version })
    }

    pub(super) fn receive<R: Request>(&mut self, pending: Pending) -> Result<R::Response, Error> {
        let mut frame = self.read_frame()?;
        let malformed = || Error::Malformed { address: self.address.clone(), api: api_name(R::KEY) };
        let header = ResponseHeader::decode(&mut frame, R::Response::header_version(pending.version))
            .map_err(|_| malformed())?;
        if header.correlation_id != pending.correlation_id {
            return Err(malformed());
        }
        R::Response::decode(&mut frame, pending.version).map_err(|_| malformed())
    }

    /// Sends, and gives the correlation id.
    fn write<R: Request>(&mut self, request: &R, version: i16) -> Result<i32, Error> {
        self.correlation_id = self.correlation_id.wrapping_add(1);
        let header = RequestHeader::default()
            .with_request_api_key(R::KEY)
            .with_request_api_version(version)
            .with_correlation_id(self.correlation_id)
            .with_client_id(Some(StrBytes::from_static_str("corelane")));
        let mut frame = BytesMut::new();
        frame.put_i32(0);
        let key = ApiKey::try_from(R::KEY).expect("a request has a key");
        let encoded = header
            .encode(&mut frame, key.request_header_version(version))
            .and_then(|()| request.encode(&mut frame, version));
        let not_encodable = |reason: String| Error::NotEncodable {
            address: self.address.clone(),
            api: api_name(R::KEY),
            reason,
        };
        encoded.map_err(|error| not_encodable(error.to_string()))?;
        let length =
            i32::try_from(frame.len() - 4).map_err(|_| not_encodable("it is too long".to_owned()))?;
        frame[..4].copy_from_slice(&length.to_be_bytes());
        self.stream.write_all(&frame).map_err(|cause| self.lost(cause))?;
        Ok(self.correlation_id)
    }

    fn read_frame(&mut self) -> Result<Bytes, Error> {
        let mut length = [0; 4];
        self.read(&mut length)?;
        let length = usize::try_from(i32::from_be_bytes(length)).unwrap_or(usize::MAX);
        if length > ANSWER_BYTES_MAX {
            return Err(Error::TooLarge { address: self.address.clone() });
        }
        let mut frame = vec![0; length];
        self.read(&mut frame)?;
        Ok(frame.into())
    }

    fn read(&mut self, bytes: &mut [u8]) -> Result<(), Error> {
        self.stream.read_exact(bytes).map_err(|cause| self.lost(cause))
    }

    fn lost(&self, cause: io::Error) -> Error {
        let address = self.address.clone();
        match cause.kind() {
            io::ErrorKind::WouldBlock | io::ErrorKind::TimedOut => {
                Error::Timeout { address, timeout: self.timeout }
            }
            _ => Error::Lost { address, cause },
        }
    }
}

fn api_name(key: i16) -> String {
    ApiKey::try_from(key).map_or_else(|_| format!("API {key}"), |key| format!("{key:?}"))
}

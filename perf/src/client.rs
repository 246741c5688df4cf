//! A blocking Kafka connection: just enough of the protocol for a load run.

use std::io::{self, Read, Write};
use std::net::TcpStream;
use std::time::Duration;

use anyhow::{Context, Result, bail, ensure};
use bytes::{BufMut, Bytes, BytesMut};
use kafka_protocol::messages::create_topics_request::CreatableTopic;
use kafka_protocol::messages::fetch_request::{FetchPartition, FetchTopic};
use kafka_protocol::messages::metadata_request::MetadataRequestTopic;
use kafka_protocol::messages::produce_request::{PartitionProduceData, TopicProduceData};
use kafka_protocol::messages::{
    ApiKey, CreateTopicsRequest, CreateTopicsResponse, FetchRequest, MetadataRequest, MetadataResponse,
    ProduceRequest, RequestHeader, ResponseHeader, TopicName,
};
use kafka_protocol::protocol::{Decodable, Encodable, StrBytes};
use kafka_protocol::records::{Compression, Record, RecordBatchEncoder, RecordEncodeOptions, TimestampType};

const PRODUCE_VERSION: i16 = 9;
const FETCH_VERSION: i16 = 11;
const METADATA_VERSION: i16 = 9;
const CREATE_TOPICS_VERSION: i16 = 5;

pub struct Connection {
    stream: TcpStream,
    frame: Vec<u8>,
    correlation_id: i32,
}

impl Connection {
    pub fn open(address: &str) -> Result<Connection> {
        let stream = TcpStream::connect(address).with_context(|| format!("connecting to {address}"))?;
        stream.set_nodelay(true)?;
        stream.set_read_timeout(Some(Duration::from_secs(60)))?;
        Ok(Connection { stream, frame: Vec::new(), correlation_id: 0 })
    }

    /// Sends an encoded request with the next correlation id.
    pub fn send(&mut self, request: &mut [u8]) -> io::Result<()> {
        self.correlation_id = self.correlation_id.wrapping_add(1);
        request[8..12].copy_from_slice(&self.correlation_id.to_be_bytes());
        self.stream.write_all(request)
    }

    /// The next response, without its length, correlation id in front.
    pub fn receive(&mut self) -> io::Result<&[u8]> {
        let mut length = [0; 4];
        self.stream.read_exact(&mut length)?;
        let length = u32::from_be_bytes(length) as usize;
        if self.frame.len() < length {
            self.frame.resize(length, 0);
        }
        self.stream.read_exact(&mut self.frame[..length])?;
        Ok(&self.frame[..length])
    }

    fn ask<Q: Encodable, A: Decodable>(&mut self, key: ApiKey, version: i16, request: &Q) -> Result<A> {
        let mut frame = encode(key, version, request)?;
        self.send(&mut frame)?;
        let mut response = Bytes::copy_from_slice(self.receive()?);
        ResponseHeader::decode(&mut response, key.response_header_version(version))?;
        A::decode(&mut response, version)
    }

    /// Creates the topic if it is not there; gives its number of partitions.
    pub fn ensure_topic(&mut self, topic: &str, partitions: i32) -> Result<i32> {
        let name = TopicName(StrBytes::from_string(topic.to_owned()));
        let wanted = CreatableTopic::default()
            .with_name(name.clone())
            .with_num_partitions(partitions)
            .with_replication_factor(-1);
        let request = CreateTopicsRequest::default().with_topics(vec![wanted]).with_timeout_ms(30_000);
        let created: CreateTopicsResponse =
            self.ask(ApiKey::CreateTopics, CREATE_TOPICS_VERSION, &request)?;
        let error = created.topics.first().map_or(-1, |topic| topic.error_code);
        const TOPIC_ALREADY_EXISTS: i16 = 36;
        ensure!(error == 0 || error == TOPIC_ALREADY_EXISTS, "CreateTopics answered error {error}");
        for _ in 0..100 {
            let topic = MetadataRequestTopic::default().with_name(Some(name.clone()));
            let request = MetadataRequest::default().with_topics(Some(vec![topic]));
            let metadata: MetadataResponse = self.ask(ApiKey::Metadata, METADATA_VERSION, &request)?;
            let found = metadata.topics.first().context("Metadata answered without the topic")?;
            if found.error_code == 0 && found.partitions.iter().all(|partition| partition.error_code == 0) {
                return Ok(i32::try_from(found.partitions.len())?);
            }
            std::thread::sleep(Duration::from_millis(50));
        }
        bail!("topic {topic} has no leaders")
    }
}

/// A framed request; the correlation id is patched in when it is sent.
fn encode<Q: Encodable>(key: ApiKey, version: i16, request: &Q) -> Result<Vec<u8>> {
    let mut frame = BytesMut::new();
    frame.put_u32(0);
    RequestHeader::default()
        .with_request_api_key(key as i16)
        .with_request_api_version(version)
        .with_client_id(Some(StrBytes::from_static_str("corelane-perf")))
        .encode(&mut frame, key.request_header_version(version))?;
    request.encode(&mut frame, version)?;
    let length = u32::try_from(frame.len() - 4)?;
    frame[..4].copy_from_slice(&length.to_be_bytes());
    Ok(frame.to_vec())
}

/// One uncompressed batch of `count` records of `bytes` each.
pub fn batch(count: usize, bytes: usize, now_ms: i64) -> Result<Bytes> {
    let value = Bytes::from(vec![b'x'; bytes]);
    let records: Vec<Record> = (0..count)
        .map(|offset| Record {
            transactional: false,
            control: false,
            delete_horizon: false,
            partition_leader_epoch: -1,
            producer_id: -1,
            producer_epoch: -1,
            timestamp_type: TimestampType::Creation,
            offset: offset as i64,
            // the encoder starts a new batch where the sequence does not go on
            sequence: offset as i32 - 1,
            timestamp: now_ms,
            key: None,
            value: Some(value.clone()),
            headers: Default::default(),
        })
        .collect();
    let mut encoded = BytesMut::new();
    let options = RecordEncodeOptions { version: 2, compression: Compression::None };
    RecordBatchEncoder::encode(&mut encoded, &records, &options)?;
    Ok(encoded.freeze())
}

pub fn produce_request(topic: &str, partition: i32, acks: i16, batch: &Bytes) -> Result<Vec<u8>> {
    let data = PartitionProduceData::default().with_index(partition).with_records(Some(batch.clone()));
    let topic = TopicProduceData::default()
        .with_name(TopicName(StrBytes::from_string(topic.to_owned())))
        .with_partition_data(vec![data]);
    let request =
        ProduceRequest::default().with_acks(acks).with_timeout_ms(30_000).with_topic_data(vec![topic]);
    encode(ApiKey::Produce, PRODUCE_VERSION, &request)
}

/// The error of a one-partition produce response.
pub fn produce_error(response: &[u8]) -> Result<i16> {
    use kafka_protocol::messages::ProduceResponse;
    let mut response = Bytes::copy_from_slice(response);
    ResponseHeader::decode(&mut response, ApiKey::Produce.response_header_version(PRODUCE_VERSION))?;
    let response = ProduceResponse::decode(&mut response, PRODUCE_VERSION)?;
    let partition = response.responses.first().and_then(|topic| topic.partition_responses.first());
    Ok(partition.context("Produce answered without the partition")?.error_code)
}

pub fn fetch_request(topic: &str, partition: i32, offset: i64, max_bytes: i32) -> Result<Vec<u8>> {
    let data = FetchPartition::default()
        .with_partition(partition)
        .with_fetch_offset(offset)
        .with_partition_max_bytes(max_bytes);
    let topic = FetchTopic::default()
        .with_topic(TopicName(StrBytes::from_string(topic.to_owned())))
        .with_partitions(vec![data]);
    // What is there is measured: at the end of a partition the answer is empty, and the run begins again.
    let request = FetchRequest::default()
        .with_max_wait_ms(0)
        .with_min_bytes(1)
        .with_max_bytes(i32::MAX)
        .with_topics(vec![topic]);
    encode(ApiKey::Fetch, FETCH_VERSION, &request)
}

/// What a one-partition fetch gave.
pub struct Fetched {
    pub records: u64,
    pub bytes: u64,
    pub next_offset: i64,
}

/// Walks the response in place: Fetch v11 with one topic and one partition. Batches are not decoded.
pub fn fetched(response: &[u8], topic: &str, offset: i64) -> Result<Fetched> {
    // correlation 4 | throttle 4 | error 2 | session 4 | topics 4 | name 2 + n | partitions 4 | index 4 | error 2 | hw 8 |
    // lso 8 | log start 8 | aborted 4 | preferred replica 4 | records length 4 | records
    let at = 4 + 4 + 2 + 4 + 4 + 2 + topic.len() + 4 + 4;
    ensure!(
        response.len() >= at + 38,
        "Fetch answered {} bytes: an error of the whole request",
        response.len()
    );
    let error = i16::from_be_bytes(response[at..at + 2].try_into()?);
    ensure!(error == 0, "Fetch answered error {error} at offset {offset}");
    let mut batches = &response[at + 38..];
    let mut fetched = Fetched { records: 0, bytes: 0, next_offset: offset };
    while batches.len() >= 61 {
        let base = i64::from_be_bytes(batches[..8].try_into()?);
        let length = 12 + u32::from_be_bytes(batches[8..12].try_into()?) as usize;
        if batches.len() < length {
            break; // Kafka may cut the last batch
        }
        let last_delta = i32::from_be_bytes(batches[23..27].try_into()?);
        fetched.records += u64::from(u32::from_be_bytes(batches[57..61].try_into()?));
        fetched.bytes += length as u64;
        fetched.next_offset = base + i64::from(last_delta) + 1;
        batches = &batches[length..];
    }
    Ok(fetched)
}

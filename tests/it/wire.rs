//! A client of raw frames: one blocking connection, messages through `kafka-protocol`, bytes as the test wants them.
//!
//! It does nothing by itself (no negotiation, no retry, no pooling), so a test sees exactly what the broker said.

use bytes::{Bytes, BytesMut};
use kafka_protocol::messages::create_topics_request::{CreatableTopic, CreatableTopicConfig};
use kafka_protocol::messages::fetch_request::{FetchPartition, FetchTopic};
use kafka_protocol::messages::fetch_response::PartitionData;
use kafka_protocol::messages::incremental_alter_configs_request::{AlterConfigsResource, AlterableConfig};
use kafka_protocol::messages::list_offsets_request::{ListOffsetsPartition, ListOffsetsTopic};
use kafka_protocol::messages::list_offsets_response::ListOffsetsPartitionResponse;
use kafka_protocol::messages::metadata_request::MetadataRequestTopic;
use kafka_protocol::messages::offset_for_leader_epoch_request::{
    OffsetForLeaderPartition, OffsetForLeaderTopic,
};
use kafka_protocol::messages::produce_request::{PartitionProduceData, TopicProduceData};
use kafka_protocol::messages::produce_response::PartitionProduceResponse;
use kafka_protocol::messages::{
    ApiKey, BrokerId, CreateTopicsRequest, DeleteTopicsRequest, FetchRequest, IncrementalAlterConfigsRequest,
    ListOffsetsRequest, MetadataRequest, MetadataResponse, OffsetForLeaderEpochRequest, ProduceRequest,
    RequestHeader, ResponseHeader, TopicName,
};
use kafka_protocol::protocol::{Decodable, Encodable, HeaderVersion, Request, StrBytes};
use kafka_protocol::records::{
    Compression, Record, RecordBatchDecoder, RecordBatchEncoder, RecordEncodeOptions, TimestampType,
};
use std::io::{ErrorKind, Read, Write};
use std::net::TcpStream;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

/// Nothing a test waits for takes this long unless it is lost.
const PATIENCE: Duration = Duration::from_secs(30);
/// The newest versions that name topics by name.
pub const PRODUCE: i16 = 12;
pub const FETCH: i16 = 12;

pub struct Wire {
    stream: TcpStream,
    correlation_id: i32,
}

/// One frame with its length in front.
pub fn framed(body: &[u8]) -> Vec<u8> {
    let mut frame = i32::try_from(body.len()).expect("a test frame is small").to_be_bytes().to_vec();
    frame.extend_from_slice(body);
    frame
}

/// The header of a request, without the length in front.
pub fn header_bytes<R: Request>(version: i16, correlation_id: i32) -> Vec<u8> {
    let header = RequestHeader::default()
        .with_request_api_key(R::KEY)
        .with_request_api_version(version)
        .with_correlation_id(correlation_id)
        .with_client_id(Some(StrBytes::from_static_str("wire")));
    let mut bytes = BytesMut::new();
    let key = ApiKey::try_from(R::KEY).expect("a request has a key");
    header.encode(&mut bytes, key.request_header_version(version)).expect("a header encodes");
    bytes.to_vec()
}

/// Header and body of a request, without the length in front.
pub fn request_bytes<R: Request>(request: &R, version: i16, correlation_id: i32) -> Vec<u8> {
    let mut bytes = BytesMut::from(header_bytes::<R>(version, correlation_id).as_slice());
    request.encode(&mut bytes, version).expect("the request fits its version");
    bytes.to_vec()
}

impl Wire {
    pub fn connect(bootstrap: &str) -> Wire {
        let stream = TcpStream::connect(bootstrap).unwrap_or_else(|error| panic!("{bootstrap}: {error}"));
        stream.set_read_timeout(Some(PATIENCE)).expect("a timeout can be set");
        stream.set_write_timeout(Some(PATIENCE)).expect("a timeout can be set");
        stream.set_nodelay(true).expect("delay can be turned off");
        Wire { stream, correlation_id: 0 }
    }

    /// Sends raw bytes. A broker that has closed already is no failure here: the test asks for that with
    /// [`Wire::assert_closed`].
    pub fn send_bytes(&mut self, bytes: &[u8]) {
        let _ = self.stream.write_all(bytes);
    }

    /// Says that nothing more will be sent.
    pub fn finish_sending(&mut self) {
        let _ = self.stream.shutdown(std::net::Shutdown::Write);
    }

    /// Sends a request and returns its correlation id.
    pub fn try_send<R: Request>(&mut self, request: &R, version: i16) -> std::io::Result<i32> {
        self.correlation_id += 1;
        self.stream.write_all(&framed(&request_bytes(request, version, self.correlation_id)))?;
        Ok(self.correlation_id)
    }

    pub fn send<R: Request>(&mut self, request: &R, version: i16) -> i32 {
        self.try_send(request, version).expect("the broker takes the request")
    }

    /// The next frame, without its length.
    pub fn receive_bytes(&mut self) -> std::io::Result<Bytes> {
        let mut length = [0; 4];
        self.stream.read_exact(&mut length)?;
        let length = u32::from_be_bytes(length) as usize;
        assert!(length < 256 << 20, "a reply of {length} bytes");
        let mut body = vec![0; length];
        self.stream.read_exact(&mut body)?;
        Ok(body.into())
    }

    /// The reply to the request with this correlation id, which must be the next one.
    pub fn try_receive<R: Request>(
        &mut self,
        correlation_id: i32,
        version: i16,
    ) -> std::io::Result<R::Response> {
        let mut bytes = self.receive_bytes()?;
        let header = ResponseHeader::decode(&mut bytes, R::Response::header_version(version))
            .expect("a reply has a header");
        assert_eq!(header.correlation_id, correlation_id, "replies come in the order of the requests");
        let response = R::Response::decode(&mut bytes, version).expect("the reply decodes");
        assert!(bytes.is_empty(), "{} bytes behind the reply", bytes.len());
        Ok(response)
    }

    pub fn receive<R: Request>(&mut self, correlation_id: i32, version: i16) -> R::Response {
        self.try_receive::<R>(correlation_id, version).expect("the broker answers")
    }

    pub fn call<R: Request>(&mut self, request: &R, version: i16) -> R::Response {
        let correlation_id = self.send(request, version);
        self.receive::<R>(correlation_id, version)
    }

    /// Asserts that the broker closes this connection without another byte.
    pub fn assert_closed(&mut self, why: &str) {
        let mut byte = [0];
        match self.stream.read(&mut byte) {
            Ok(0) => {}
            Ok(_) => panic!("{why}: an answer instead of a closed connection"),
            Err(error) if error.kind() == ErrorKind::ConnectionReset => {}
            Err(error) => panic!("{why}: the connection stays open ({error})"),
        }
    }

    /// Creates a topic and expects success.
    pub fn create_topic(&mut self, topic: &str, partitions: i32, configs: &[(&str, &str)]) {
        let configs = configs.iter().map(|(name, value)| {
            CreatableTopicConfig::default().with_name(string(name)).with_value(Some(string(value)))
        });
        let request = CreateTopicsRequest::default()
            .with_topics(vec![
                CreatableTopic::default()
                    .with_name(TopicName(string(topic)))
                    .with_num_partitions(partitions)
                    .with_replication_factor(1)
                    .with_configs(configs.collect()),
            ])
            .with_timeout_ms(30_000);
        let result = self.call(&request, 7).topics.remove(0);
        assert_eq!(result.error_code, 0, "{topic} cannot be created: {:?}", result.error_message);
        // corelane answers when the partitions are open. Kafka answers before that, so its partitions are asked for.
        if std::env::var_os("CORELANE_TEST_BOOTSTRAP").is_some()
            || std::env::var_os("CORELANE_TEST_BINARY").is_some()
        {
            (0..partitions)
                .for_each(|partition| while self.offset_answer(topic, partition).error_code != 0 {});
        }
    }

    /// Sets configs of a topic, or with `None` takes them back, and expects success.
    pub fn alter_topic(&mut self, topic: &str, configs: &[(&str, Option<&str>)]) {
        let configs = configs.iter().map(|(name, value)| {
            AlterableConfig::default()
                .with_name(string(name))
                .with_config_operation(i8::from(value.is_none()))
                .with_value(value.map(string))
        });
        let resource = AlterConfigsResource::default()
            .with_resource_type(2)
            .with_resource_name(string(topic))
            .with_configs(configs.collect());
        let request = IncrementalAlterConfigsRequest::default().with_resources(vec![resource]);
        let answer = self.call(&request, 1).responses.remove(0);
        assert_eq!(answer.error_code, 0, "{topic} cannot be changed: {:?}", answer.error_message);
    }

    /// Deletes a topic and expects success.
    pub fn delete_topic(&mut self, topic: &str) {
        let names = vec![TopicName(string(topic))];
        let request = DeleteTopicsRequest::default().with_topic_names(names).with_timeout_ms(30_000);
        let result = self.call(&request, 5).responses.remove(0);
        assert_eq!(result.error_code, 0, "{topic} cannot be deleted: {result:?}");
    }

    /// OffsetForLeaderEpoch of one partition: error, epoch, end offset.
    pub fn end_of_epoch(&mut self, topic: &str, partition: i32, epoch: i32) -> (i16, i32, i64) {
        let partition = OffsetForLeaderPartition::default()
            .with_partition(partition)
            .with_current_leader_epoch(-1)
            .with_leader_epoch(epoch);
        let topic = OffsetForLeaderTopic::default()
            .with_topic(TopicName(string(topic)))
            .with_partitions(vec![partition]);
        let request =
            OffsetForLeaderEpochRequest::default().with_replica_id(BrokerId(-1)).with_topics(vec![topic]);
        let answer = self.call(&request, 4).topics.remove(0).partitions.remove(0);
        (answer.error_code, answer.leader_epoch, answer.end_offset)
    }

    /// Metadata of one topic, never creating it.
    pub fn metadata(&mut self, topic: &str) -> MetadataResponse {
        let topics = vec![MetadataRequestTopic::default().with_name(Some(TopicName(string(topic))))];
        let request =
            MetadataRequest::default().with_topics(Some(topics)).with_allow_auto_topic_creation(false);
        self.call(&request, 12)
    }

    /// Produces one batch as it is; the answer for its partition.
    pub fn produce(
        &mut self,
        topic: &str,
        partition: i32,
        acks: i16,
        batch: Bytes,
    ) -> PartitionProduceResponse {
        let correlation_id = self.send(&produce_request(topic, partition, acks, batch), PRODUCE);
        let mut response = self.receive::<ProduceRequest>(correlation_id, PRODUCE);
        response.responses.remove(0).partition_responses.remove(0)
    }

    /// One fetch of one partition.
    pub fn fetch(&mut self, topic: &str, partition: i32, offset: i64, max_wait_ms: i32) -> PartitionData {
        let request = fetch_request(topic, partition, offset, max_wait_ms);
        let mut response = self.call(&request, FETCH);
        assert_eq!(response.error_code, 0);
        response.responses.remove(0).partitions.remove(0)
    }

    /// Every record of a partition up to its end, which the first fetch tells. Offsets are as stored.
    pub fn read_all(&mut self, topic: &str, partition: i32) -> Vec<Record> {
        let end = self.end_offset(topic, partition);
        let mut records: Vec<Record> = Vec::new();
        let mut next = 0;
        while next < end {
            let data = self.fetch(topic, partition, next, 5_000);
            assert_eq!(data.error_code, 0, "{topic}-{partition} cannot be read at {next}");
            let mut bytes = data.records.unwrap_or_default();
            assert!(!bytes.is_empty(), "{topic}-{partition} ends at {end} but gives nothing at {next}");
            for set in RecordBatchDecoder::decode_all(&mut bytes).expect("what is stored decodes") {
                records.extend(set.records.into_iter().filter(|record| record.offset >= next));
            }
            next = records.last().expect("a fetch with bytes has a record").offset + 1;
        }
        records
    }

    /// The offset after the last record that consumers may read.
    pub fn end_offset(&mut self, topic: &str, partition: i32) -> i64 {
        let answer = self.offset_answer(topic, partition);
        assert_eq!(answer.error_code, 0, "{topic} does not tell its end");
        answer.offset
    }

    fn offset_answer(&mut self, topic: &str, partition: i32) -> ListOffsetsPartitionResponse {
        let partition = ListOffsetsPartition::default()
            .with_partition_index(partition)
            .with_current_leader_epoch(-1)
            .with_timestamp(-1);
        let request = ListOffsetsRequest::default().with_replica_id(BrokerId(-1)).with_topics(vec![
            ListOffsetsTopic::default().with_name(TopicName(string(topic))).with_partitions(vec![partition]),
        ]);
        self.call(&request, 7).topics.remove(0).partitions.remove(0)
    }
}

pub fn string(text: &str) -> StrBytes {
    StrBytes::from_string(text.to_owned())
}

/// A topic name no other test has, so that tests can share a broker.
pub fn unique(name: &str) -> String {
    static NEXT: AtomicU32 = AtomicU32::new(0);
    format!("{name}-{}-{}-{}", now_ms(), std::process::id(), NEXT.fetch_add(1, Ordering::Relaxed))
}

pub fn fetch_request(topic: &str, partition: i32, offset: i64, max_wait_ms: i32) -> FetchRequest {
    let partition = FetchPartition::default()
        .with_partition(partition)
        .with_current_leader_epoch(-1)
        .with_fetch_offset(offset)
        .with_last_fetched_epoch(-1)
        .with_log_start_offset(-1)
        .with_partition_max_bytes(8 << 20);
    FetchRequest::default()
        .with_replica_id(BrokerId(-1))
        .with_max_wait_ms(max_wait_ms)
        .with_min_bytes(1)
        .with_max_bytes(32 << 20)
        .with_session_epoch(-1)
        .with_topics(vec![
            FetchTopic::default().with_topic(TopicName(string(topic))).with_partitions(vec![partition]),
        ])
}

pub fn produce_request(topic: &str, partition: i32, acks: i16, batch: Bytes) -> ProduceRequest {
    ProduceRequest::default().with_acks(acks).with_timeout_ms(30_000).with_topic_data(vec![
        TopicProduceData::default().with_name(TopicName(string(topic))).with_partition_data(vec![
            PartitionProduceData::default().with_index(partition).with_records(Some(batch)),
        ]),
    ])
}

/// Milliseconds since 1970.
pub fn now_ms() -> i64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).expect("the clock is past 1970");
    i64::try_from(since.as_millis()).expect("milliseconds fit")
}

/// One batch of these values, keys left out, as a producer without an id sends it.
pub fn batch(values: &[Bytes]) -> Bytes {
    batch_with(values, Compression::None)
}

pub fn batch_with(values: &[Bytes], compression: Compression) -> Bytes {
    encode(values.iter().map(|value| (None, Some(value.clone()))), compression)
}

/// One batch of these keys and values; without a value it is a tombstone.
pub fn keyed_batch(entries: &[(Option<String>, Option<String>)], compression: Compression) -> Bytes {
    let bytes = |text: &Option<String>| text.clone().map(Bytes::from);
    encode(entries.iter().map(|(key, value)| (bytes(key), bytes(value))), compression)
}

fn encode(entries: impl Iterator<Item = (Option<Bytes>, Option<Bytes>)>, compression: Compression) -> Bytes {
    let timestamp = now_ms();
    let records: Vec<Record> = (0..)
        .zip(entries)
        .map(|(offset, (key, value))| Record {
            transactional: false,
            control: false,
            delete_horizon: false,
            partition_leader_epoch: -1,
            producer_id: -1,
            producer_epoch: -1,
            timestamp_type: TimestampType::Creation,
            offset,
            // The encoder wants offset minus sequence to be the same in a batch; the sequence is reset below.
            sequence: i32::try_from(offset).expect("a test batch is small"),
            timestamp,
            key,
            value,
            headers: Default::default(),
        })
        .collect();
    let mut bytes = BytesMut::new();
    let options = RecordEncodeOptions { version: 2, compression };
    RecordBatchEncoder::encode(&mut bytes, &records, &options).expect("a batch encodes");
    // No producer id, so no sequence.
    let mut bytes = bytes.to_vec();
    bytes[header::BASE_SEQUENCE..header::BASE_SEQUENCE + 4].copy_from_slice(&(-1i32).to_be_bytes());
    seal(bytes)
}

/// Where a batch header's fields start.
pub mod header {
    pub const BASE_OFFSET: usize = 0;
    pub const BATCH_LENGTH: usize = 8;
    pub const MAGIC: usize = 16;
    pub const CRC: usize = 17;
    pub const ATTRIBUTES: usize = 21;
    pub const LAST_OFFSET_DELTA: usize = 23;
    pub const BASE_TIMESTAMP: usize = 27;
    pub const MAX_TIMESTAMP: usize = 35;
    pub const BASE_SEQUENCE: usize = 53;
    pub const RECORD_COUNT: usize = 57;
}

/// Writes the checksum a batch of these bytes has.
pub fn seal(mut batch: Vec<u8>) -> Bytes {
    let crc = crc32c::crc32c(&batch[header::ATTRIBUTES..]);
    batch[header::CRC..header::ATTRIBUTES].copy_from_slice(&crc.to_be_bytes());
    batch.into()
}

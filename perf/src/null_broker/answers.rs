//! What the null broker answers. Produce and Fetch are walked in place, the rest goes through the protocol crate.

use std::net::SocketAddr;

use anyhow::{Context, Result, bail};
use bytes::{Bytes, BytesMut};
use kafka_protocol::messages::api_versions_response::ApiVersion;
use kafka_protocol::messages::create_topics_response::CreatableTopicResult;
use kafka_protocol::messages::delete_topics_response::DeletableTopicResult;
use kafka_protocol::messages::list_offsets_response::{
    ListOffsetsPartitionResponse, ListOffsetsTopicResponse,
};
use kafka_protocol::messages::metadata_response::{
    MetadataResponseBroker, MetadataResponsePartition, MetadataResponseTopic,
};
use kafka_protocol::messages::{
    ApiKey, ApiVersionsResponse, BrokerId, CreateTopicsRequest, CreateTopicsResponse, DeleteTopicsRequest,
    DeleteTopicsResponse, InitProducerIdResponse, ListOffsetsRequest, ListOffsetsResponse, MetadataRequest,
    MetadataResponse, ProducerId, ResponseHeader, TopicName,
};
use kafka_protocol::protocol::{Decodable, Encodable, StrBytes};

use super::NullBroker;
use crate::wire::batch::{Batch, Codec, HEADER_BYTES, NO_PRODUCER, Record};
use crate::wire::produce::put_length;
use crate::wire::{Cursor, Malformed};

/// Offsets of every partition end here: far enough for any run.
const END_OFFSET: i64 = 1 << 50;
/// What is served: API, first and last version. Produce and Fetch as far as their layouts here reach.
const APIS: [(ApiKey, i16, i16); 8] = [
    (ApiKey::Produce, 3, 9),
    (ApiKey::Fetch, 4, 11),
    (ApiKey::ListOffsets, 1, 5),
    (ApiKey::Metadata, 1, 9),
    (ApiKey::ApiVersions, 0, 3),
    (ApiKey::CreateTopics, 2, 5),
    (ApiKey::DeleteTopics, 1, 4),
    (ApiKey::InitProducerId, 0, 1),
];

pub struct Answers {
    address: SocketAddr,
    partitions: i32,
    batch: Batch,
    next_producer_id: i64,
}

impl Answers {
    pub fn new(address: SocketAddr, options: &NullBroker) -> Result<Answers> {
        let value = vec![b'n'; usize::try_from(options.record_bytes)?];
        let record = Record { key: None, value: [&value, &[]], headers: &[0], timestamp_ms: 0, due_nanos: 0 };
        let mut batch = Batch::default();
        while batch.count() == 0 || batch.bytes_with(&record) as u64 <= options.batch_bytes {
            batch.append(&record);
        }
        batch.seal(Codec::None, NO_PRODUCER)?;
        Ok(Answers { address, partitions: options.partitions, batch, next_producer_id: 1 })
    }

    /// Appends the answer to a request (a frame without its length), if it gets one.
    pub fn answer(&mut self, frame: &[u8], out: &mut Vec<u8>) -> Result<()> {
        let mut cursor = Cursor::new(frame);
        let (key, version, correlation_id) = (cursor.int16()?, cursor.int16()?, cursor.int32()?);
        let key = ApiKey::try_from(key).map_err(|()| Malformed)?;
        cursor.string(false)?; // client id
        let begin = out.len();
        out.extend_from_slice(&[0; 4]);
        out.extend_from_slice(&correlation_id.to_be_bytes());
        let has_answer = match key {
            ApiKey::Produce if (3..=9).contains(&version) => produce(cursor, version, out)?,
            ApiKey::Fetch if (4..=11).contains(&version) => self.fetch(cursor, version, out)?,
            _ => {
                cursor.tagged_fields(key.request_header_version(version) >= 2)?;
                self.other(key, version, correlation_id, Bytes::copy_from_slice(cursor.rest()), out)?;
                true
            }
        };
        if has_answer {
            let length = (out.len() - begin - 4) as u32;
            out[begin..begin + 4].copy_from_slice(&length.to_be_bytes());
        } else {
            out.truncate(begin);
        }
        Ok(())
    }

    fn fetch(&mut self, mut cursor: Cursor<'_>, version: i16, out: &mut Vec<u8>) -> Result<bool, Malformed> {
        let int = |out: &mut Vec<u8>, value: i32| out.extend_from_slice(&value.to_be_bytes());
        cursor.bytes(4 + 4 + 4 + 4 + 1)?; // replica, wait, bytes, isolation
        int(out, 0); // throttle time
        if version >= 7 {
            cursor.bytes(8)?;
            out.extend_from_slice(&[0; 6]); // error, session
        }
        let topics = cursor.length(false)?;
        int(out, topics as i32);
        for _ in 0..topics {
            let topic = cursor.string(false)?;
            out.extend_from_slice(&(topic.len() as u16).to_be_bytes());
            out.extend_from_slice(topic);
            let partitions = cursor.length(false)?;
            int(out, partitions as i32);
            for _ in 0..partitions {
                let partition = cursor.int32()?;
                cursor.bytes(if version >= 9 { 4 } else { 0 })?;
                let offset = cursor.int64()?;
                cursor.bytes(if version >= 5 { 8 } else { 0 } + 4)?;
                int(out, partition);
                out.extend_from_slice(&0_i16.to_be_bytes());
                out.extend_from_slice(&END_OFFSET.to_be_bytes());
                out.extend_from_slice(&END_OFFSET.to_be_bytes());
                if version >= 5 {
                    out.extend_from_slice(&0_i64.to_be_bytes());
                }
                int(out, 0); // aborted transactions
                if version >= 11 {
                    int(out, -1);
                }
                let batch = self.batch.bytes();
                int(out, batch.len() as i32);
                let begin = out.len();
                out.extend_from_slice(batch);
                out[begin..begin + 8].copy_from_slice(&offset.to_be_bytes());
            }
        }
        Ok(true)
    }

    fn other(
        &mut self,
        key: ApiKey,
        version: i16,
        correlation_id: i32,
        mut body: Bytes,
        out: &mut Vec<u8>,
    ) -> Result<()> {
        let mut encoded = BytesMut::new();
        let served = APIS.iter().find(|(api, ..)| *api == key).context("an API that is not served")?;
        // a version that is not known is answered in version 0, so that the client can choose another
        let known = (served.1..=served.2).contains(&version);
        match key {
            ApiKey::ApiVersions => {
                let version = if known { version } else { 0 };
                let api = |(key, min, max): &(ApiKey, i16, i16)| {
                    ApiVersion::default()
                        .with_api_key(*key as i16)
                        .with_min_version(*min)
                        .with_max_version(*max)
                };
                let response = ApiVersionsResponse::default()
                    .with_error_code(if known { 0 } else { 35 })
                    .with_api_keys(APIS.iter().map(api).collect());
                response.encode(&mut encoded, version)?;
            }
            _ if !known => bail!("{key:?} version {version} is not served"),
            ApiKey::Metadata => {
                self.metadata(&MetadataRequest::decode(&mut body, version)?).encode(&mut encoded, version)?
            }
            ApiKey::ListOffsets => {
                list_offsets(&ListOffsetsRequest::decode(&mut body, version)?)
                    .encode(&mut encoded, version)?;
            }
            ApiKey::CreateTopics => {
                let request = CreateTopicsRequest::decode(&mut body, version)?;
                let made = request
                    .topics
                    .into_iter()
                    .map(|topic| CreatableTopicResult::default().with_name(topic.name));
                CreateTopicsResponse::default().with_topics(made.collect()).encode(&mut encoded, version)?;
            }
            ApiKey::DeleteTopics => {
                let request = DeleteTopicsRequest::decode(&mut body, version)?;
                let gone = request
                    .topic_names
                    .into_iter()
                    .map(|name| DeletableTopicResult::default().with_name(Some(name)));
                DeleteTopicsResponse::default()
                    .with_responses(gone.collect())
                    .encode(&mut encoded, version)?;
            }
            ApiKey::InitProducerId => {
                self.next_producer_id += 1;
                let id = ProducerId(self.next_producer_id);
                InitProducerIdResponse::default().with_producer_id(id).encode(&mut encoded, version)?;
            }
            _ => bail!("{key:?} is not served"),
        }
        let mut header = BytesMut::new();
        ResponseHeader::default()
            .with_correlation_id(correlation_id)
            .encode(&mut header, key.response_header_version(version))?;
        out.extend_from_slice(&header[4..]);
        out.extend_from_slice(&encoded);
        Ok(())
    }

    fn metadata(&self, request: &MetadataRequest) -> MetadataResponse {
        let node = BrokerId(1);
        let broker = MetadataResponseBroker::default()
            .with_node_id(node)
            .with_host(StrBytes::from_string(self.address.ip().to_string()))
            .with_port(self.address.port().into());
        let partition = |index| {
            MetadataResponsePartition::default()
                .with_partition_index(index)
                .with_leader_id(node)
                .with_replica_nodes(vec![node])
                .with_isr_nodes(vec![node])
        };
        let topic = |name: TopicName| {
            MetadataResponseTopic::default()
                .with_name(Some(name))
                .with_partitions((0..self.partitions).map(partition).collect())
        };
        let names = request.topics.iter().flatten().filter_map(|topic| topic.name.clone());
        MetadataResponse::default()
            .with_brokers(vec![broker])
            .with_controller_id(node)
            .with_cluster_id(Some(StrBytes::from_static_str("null-broker")))
            .with_topics(names.map(topic).collect())
    }
}

fn list_offsets(request: &ListOffsetsRequest) -> ListOffsetsResponse {
    const BEGINNING: i64 = -2;
    let topics = request.topics.iter().map(|topic| {
        let partitions = topic.partitions.iter().map(|partition| {
            ListOffsetsPartitionResponse::default()
                .with_partition_index(partition.partition_index)
                .with_offset(if partition.timestamp == BEGINNING { 0 } else { END_OFFSET })
        });
        ListOffsetsTopicResponse::default()
            .with_name(topic.name.clone())
            .with_partitions(partitions.collect())
    });
    ListOffsetsResponse::default().with_topics(topics.collect())
}

/// False with acks=0: no answer.
fn produce(mut cursor: Cursor<'_>, version: i16, out: &mut Vec<u8>) -> Result<bool, Malformed> {
    let flexible = version >= 9;
    cursor.tagged_fields(flexible)?;
    cursor.string(flexible)?; // transactional id
    let acks = cursor.int16()?;
    cursor.int32()?;
    if flexible {
        out.push(0);
    }
    let topics = cursor.length(flexible)?;
    put_length(out, flexible, topics);
    for _ in 0..topics {
        let topic = cursor.string(flexible)?;
        if flexible {
            put_length(out, true, topic.len());
        } else {
            out.extend_from_slice(&(topic.len() as u16).to_be_bytes());
        }
        out.extend_from_slice(topic);
        let partitions = cursor.length(flexible)?;
        put_length(out, flexible, partitions);
        for _ in 0..partitions {
            let partition = cursor.int32()?;
            let length = cursor.length(flexible)?;
            let records = cursor.bytes(length)?;
            cursor.tagged_fields(flexible)?;
            if records.len() < HEADER_BYTES {
                return Err(Malformed);
            }
            out.extend_from_slice(&partition.to_be_bytes());
            out.extend_from_slice(&0_i16.to_be_bytes());
            out.extend_from_slice(&0_i64.to_be_bytes());
            out.extend_from_slice(&(-1_i64).to_be_bytes());
            if version >= 5 {
                out.extend_from_slice(&0_i64.to_be_bytes());
            }
            if version == 8 {
                out.extend_from_slice(&[0, 0, 0, 0, 0xff, 0xff]); // no record errors, no message
            }
            if flexible {
                out.extend_from_slice(&[1, 0, 0]);
            }
        }
        cursor.tagged_fields(flexible)?;
        if flexible {
            out.push(0);
        }
    }
    out.extend_from_slice(&0_i32.to_be_bytes()); // throttle time
    if flexible {
        out.push(0);
    }
    Ok(acks != 0)
}

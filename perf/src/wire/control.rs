//! A blocking connection for everything that is not load: metadata, topics, offsets, producer ids, groups.

use std::collections::HashMap;
use std::io::{self, Read, Write};
use std::net::{TcpStream, ToSocketAddrs};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};
use bytes::{BufMut, Bytes, BytesMut};
use kafka_protocol::messages::create_topics_request::{CreatableTopic, CreatableTopicConfig};
use kafka_protocol::messages::describe_configs_request::DescribeConfigsResource;
use kafka_protocol::messages::list_offsets_request::{ListOffsetsPartition, ListOffsetsTopic};
use kafka_protocol::messages::metadata_request::MetadataRequestTopic;
use kafka_protocol::messages::{
    ApiKey, ApiVersionsRequest, ApiVersionsResponse, BrokerId, CreateTopicsRequest, CreateTopicsResponse,
    DeleteTopicsRequest, DeleteTopicsResponse, DescribeConfigsRequest, DescribeConfigsResponse,
    FindCoordinatorRequest, FindCoordinatorResponse, InitProducerIdRequest, InitProducerIdResponse,
    ListOffsetsRequest, ListOffsetsResponse, MetadataRequest, MetadataResponse, RequestHeader,
    ResponseHeader, TopicName, TransactionalId,
};
use kafka_protocol::protocol::{Decodable, Encodable, StrBytes};

use super::produce::{CLIENT_ID, Slot};
use super::{code, error_name};

/// What a broker may take to answer one of these.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(60);
/// After so long without a word from its producer a transaction is aborted: clients' default.
const TRANSACTION_TIMEOUT_MS: i32 = 60_000;
/// What a topic may take until all its partitions have leaders.
const LEADERS_TIMEOUT: Duration = Duration::from_secs(60);

/// The name's first address that accepts a connection.
///
/// # Errors
/// Which address, and what to do.
pub fn connect(address: &str) -> Result<TcpStream> {
    let addresses = address
        .to_socket_addrs()
        .with_context(|| format!("{address:?} is not an address like localhost:9092"))?;
    let mut refused = None;
    for socket in addresses {
        match TcpStream::connect_timeout(&socket, Duration::from_secs(10)) {
            Ok(stream) => {
                stream.set_nodelay(true)?;
                return Ok(stream);
            }
            Err(error) => refused = Some(error),
        }
    }
    let error = refused.unwrap_or_else(|| io::Error::other("the name has no address"));
    Err(error).with_context(|| format!("cannot reach a broker at {address}: is it running?"))
}

pub struct Connection {
    stream: TcpStream,
    correlation_id: i32,
    /// Of each API: the versions the broker has.
    versions: Vec<(i16, i16, i16)>,
}

/// Who has a coordinator.
#[derive(Clone, Copy, Debug)]
pub enum Coordinated<'a> {
    /// A consumer group.
    Group(&'a str),
    /// The transactions of a transactional id.
    Transactions(&'a str),
}

/// Where the partitions of a run are.
#[derive(Clone, Debug)]
pub struct Layout {
    /// Addresses of the brokers that lead a partition.
    pub brokers: Vec<String>,
    pub topics: Vec<String>,
    /// Ordered by topic, then partition.
    pub slots: Vec<Slot>,
}

/// A topic to be made.
#[derive(Clone, Debug)]
pub struct NewTopic<'a> {
    pub name: &'a str,
    pub partitions: i32,
    pub replication_factor: i16,
    pub configs: &'a [(String, String)],
}

impl Connection {
    /// Connects and asks which versions the broker speaks.
    ///
    /// # Errors
    /// Nobody there, or nobody who speaks Kafka's protocol.
    pub fn open(address: &str) -> Result<Connection> {
        let stream = connect(address)?;
        stream.set_read_timeout(Some(ANSWER_TIMEOUT))?;
        let mut connection = Connection { stream, correlation_id: 0, versions: Vec::new() };
        let answer: ApiVersionsResponse = connection
            .ask_version(ApiKey::ApiVersions, 0, &ApiVersionsRequest::default())
            .with_context(|| format!("{address} does not answer as a Kafka broker"))?;
        ensure!(answer.error_code == 0, "ApiVersions answered {}", error_name(answer.error_code));
        connection.versions =
            answer.api_keys.iter().map(|api| (api.api_key, api.min_version, api.max_version)).collect();
        Ok(connection)
    }

    /// The first of these versions that the broker has.
    ///
    /// # Errors
    /// It has none of them.
    pub fn version(&self, key: ApiKey, wanted: &[i16]) -> Result<i16> {
        let of_broker = self.versions.iter().find(|(api, ..)| *api == key as i16);
        let (_, min, max) = of_broker.with_context(|| format!("the broker does not serve {key:?}"))?;
        let version = wanted.iter().find(|version| (*min..=*max).contains(version));
        version
            .copied()
            .with_context(|| format!("the broker has {key:?} {min} to {max}; this tool speaks {wanted:?}"))
    }

    fn ask_version<Q: Encodable, A: Decodable>(
        &mut self,
        key: ApiKey,
        version: i16,
        request: &Q,
    ) -> Result<A> {
        self.correlation_id += 1;
        let frame = frame(key, version, self.correlation_id, request)?;
        self.stream.write_all(&frame)?;
        let mut length = [0; 4];
        self.stream.read_exact(&mut length).with_context(|| format!("no answer to {key:?}"))?;
        let length = u32::from_be_bytes(length);
        ensure!(length <= 256 << 20, "an answer of {length} bytes to {key:?}: not a Kafka broker?");
        let mut response = vec![0; length as usize];
        self.stream.read_exact(&mut response).with_context(|| format!("half an answer to {key:?}"))?;
        answer(key, version, Bytes::from(response))
    }

    /// Asks in the first of these versions that the broker has.
    ///
    /// # Errors
    /// The connection's, or an answer that cannot be read.
    pub fn ask<Q: Encodable, A: Decodable>(
        &mut self,
        key: ApiKey,
        versions: &[i16],
        request: &Q,
    ) -> Result<A> {
        let version = self.version(key, versions)?;
        self.ask_version(key, version, request)
    }

    /// Makes the topic; false if it was there.
    ///
    /// # Errors
    /// The broker's refusal.
    pub fn create_topic(&mut self, topic: &NewTopic<'_>) -> Result<bool> {
        let config = |(name, value): &(String, String)| {
            CreatableTopicConfig::default().with_name(string(name)).with_value(Some(string(value)))
        };
        let wanted = CreatableTopic::default()
            .with_name(name(topic.name))
            .with_num_partitions(topic.partitions)
            .with_replication_factor(topic.replication_factor)
            .with_configs(topic.configs.iter().map(config).collect());
        let request = CreateTopicsRequest::default().with_topics(vec![wanted]).with_timeout_ms(60_000);
        let created: CreateTopicsResponse = self.ask(ApiKey::CreateTopics, &[5, 4, 2], &request)?;
        let answer = created.topics.first().context("CreateTopics answered without the topic")?;
        const TOPIC_ALREADY_EXISTS: i16 = 36;
        match answer.error_code {
            0 => Ok(true),
            TOPIC_ALREADY_EXISTS => Ok(false),
            code => {
                let why = answer.error_message.as_ref().map_or("", |message| message.as_str());
                bail!("topic {} cannot be created: {} {why}", topic.name, error_name(code))
            }
        }
    }

    /// # Errors
    /// The broker's refusal.
    pub fn delete_topics(&mut self, topics: &[String]) -> Result<()> {
        let names = topics.iter().map(|topic| name(topic)).collect();
        let request = DeleteTopicsRequest::default().with_topic_names(names).with_timeout_ms(60_000);
        let deleted: DeleteTopicsResponse = self.ask(ApiKey::DeleteTopics, &[4, 3, 1], &request)?;
        for answer in &deleted.responses {
            ensure!(answer.error_code == 0, "DeleteTopics answered {}", error_name(answer.error_code));
        }
        Ok(())
    }

    /// Waits until every partition has a leader, and says where.
    ///
    /// # Errors
    /// No leaders in time.
    pub fn layout(&mut self, topics: &[String]) -> Result<Layout> {
        let deadline = Instant::now() + LEADERS_TIMEOUT;
        loop {
            let wanted =
                topics.iter().map(|topic| MetadataRequestTopic::default().with_name(Some(name(topic))));
            let request = MetadataRequest::default()
                .with_topics(Some(wanted.collect()))
                .with_allow_auto_topic_creation(false);
            let metadata: MetadataResponse = self.ask(ApiKey::Metadata, &[7, 5, 4], &request)?;
            if let Some(layout) = layout_of(topics, &metadata) {
                return Ok(layout);
            }
            ensure!(Instant::now() < deadline, "no leader for every partition of {topics:?} within a minute");
            std::thread::sleep(Duration::from_millis(20));
        }
    }

    /// The address of the coordinator.
    ///
    /// # Errors
    /// The broker's refusal, or none within a minute.
    pub fn coordinator(&mut self, of: Coordinated<'_>) -> Result<String> {
        let (key, key_type) = match of {
            Coordinated::Group(key) => (key, 0),
            Coordinated::Transactions(key) => (key, 1),
        };
        let deadline = Instant::now() + ANSWER_TIMEOUT;
        loop {
            let request = FindCoordinatorRequest::default().with_key(string(key)).with_key_type(key_type);
            let found: FindCoordinatorResponse = self.ask(ApiKey::FindCoordinator, &[2, 1, 3], &request)?;
            match found.error_code {
                0 => return Ok(address(&found.host, found.port)),
                // the broker makes its internal topic for the first one
                code::COORDINATOR_NOT_AVAILABLE | code::COORDINATOR_LOAD_IN_PROGRESS
                    if Instant::now() < deadline =>
                {
                    std::thread::sleep(Duration::from_millis(100));
                }
                error => bail!("FindCoordinator answered {}", error_name(error)),
            }
        }
    }

    /// A producer id and epoch; asked of the coordinator, those of a transactional id.
    ///
    /// # Errors
    /// The broker's refusal.
    pub fn init_producer_id(&mut self, transactional_id: Option<&str>) -> Result<(i64, i16)> {
        let id = transactional_id.map(|id| TransactionalId(string(id)));
        let request = InitProducerIdRequest::default()
            .with_transactional_id(id)
            .with_transaction_timeout_ms(TRANSACTION_TIMEOUT_MS);
        let deadline = Instant::now() + ANSWER_TIMEOUT;
        loop {
            let answer: InitProducerIdResponse = self.ask(ApiKey::InitProducerId, &[5, 4, 1, 0], &request)?;
            match answer.error_code {
                0 => return Ok((answer.producer_id.0, answer.producer_epoch)),
                // a coordinator says so, too, that has just become one
                code::COORDINATOR_LOAD_IN_PROGRESS
                | code::COORDINATOR_NOT_AVAILABLE
                | code::NOT_COORDINATOR
                | code::CONCURRENT_TRANSACTIONS
                    if Instant::now() < deadline =>
                {
                    std::thread::sleep(Duration::from_millis(50));
                }
                error => bail!("InitProducerId answered {}", error_name(error)),
            }
        }
    }

    /// The level of a feature that the cluster has agreed on; 0 if it knows none.
    ///
    /// # Errors
    /// The broker's refusal.
    pub fn feature(&mut self, feature: &str) -> Result<i16> {
        let request = ApiVersionsRequest::default()
            .with_client_software_name(StrBytes::from_static_str(CLIENT_ID))
            .with_client_software_version(StrBytes::from_static_str(env!("CARGO_PKG_VERSION")));
        let answer: ApiVersionsResponse = self.ask(ApiKey::ApiVersions, &[4, 3], &request)?;
        ensure!(answer.error_code == 0, "ApiVersions answered {}", error_name(answer.error_code));
        let found = answer.finalized_features.iter().find(|found| found.name.as_str() == feature);
        Ok(found.map_or(0, |found| found.max_version_level))
    }

    /// What the first broker of the cluster is set to, of these settings those that it has.
    ///
    /// # Errors
    /// The broker's refusal.
    pub fn broker_configs(&mut self, names: &[&str]) -> Result<HashMap<String, String>> {
        const BROKER: i8 = 4;
        let no_topics = MetadataRequest::default().with_topics(Some(Vec::new()));
        let metadata: MetadataResponse = self.ask(ApiKey::Metadata, &[7, 5, 4], &no_topics)?;
        let node = metadata.brokers.first().context("Metadata answered without a broker")?.node_id.0;
        let resource = DescribeConfigsResource::default()
            .with_resource_type(BROKER)
            .with_resource_name(string(&node.to_string()))
            .with_configuration_keys(Some(names.iter().map(|name| string(name)).collect()));
        let request = DescribeConfigsRequest::default().with_resources(vec![resource]);
        let described: DescribeConfigsResponse = self.ask(ApiKey::DescribeConfigs, &[2, 3, 1], &request)?;
        let answer = described.results.first().context("DescribeConfigs answered nothing")?;
        ensure!(answer.error_code == 0, "DescribeConfigs answered {}", error_name(answer.error_code));
        let told = answer
            .configs
            .iter()
            .filter_map(|config| Some((config.name.to_string(), config.value.as_ref()?.to_string())));
        Ok(told.collect())
    }

    /// The offset at that timestamp (-1: the end, -2: the beginning) of these slots, all led by this broker. Waits for
    /// partitions that the metadata has and their leader does not have yet.
    ///
    /// # Errors
    /// The broker's refusal.
    pub fn offsets(&mut self, layout: &Layout, slots: &[usize], timestamp: i64) -> Result<Vec<(usize, i64)>> {
        const UNKNOWN_TOPIC_OR_PARTITION: i16 = 3;
        const LEADER_NOT_AVAILABLE: i16 = 5;
        const NOT_LEADER_OR_FOLLOWER: i16 = 6;
        let deadline = Instant::now() + LEADERS_TIMEOUT;
        loop {
            let answers = self.list_offsets(layout, slots, timestamp)?;
            match answers.iter().map(|(_, _, error)| *error).find(|error| *error != 0) {
                None => return Ok(answers.into_iter().map(|(slot, offset, _)| (slot, offset)).collect()),
                Some(UNKNOWN_TOPIC_OR_PARTITION | LEADER_NOT_AVAILABLE | NOT_LEADER_OR_FOLLOWER)
                    if Instant::now() < deadline =>
                {
                    std::thread::sleep(Duration::from_millis(20));
                }
                Some(error) => bail!("ListOffsets answered {}", error_name(error)),
            }
        }
    }

    /// Slot, offset and error code of each of these slots, in order.
    fn list_offsets(
        &mut self,
        layout: &Layout,
        slots: &[usize],
        timestamp: i64,
    ) -> Result<Vec<(usize, i64, i16)>> {
        let topic_of = |slot: &usize| layout.slots[*slot].topic;
        let wanted = slots.chunk_by(|a, b| topic_of(a) == topic_of(b)).map(|of_topic| {
            let partition = |slot: &usize| {
                let index = layout.slots[*slot].partition;
                ListOffsetsPartition::default().with_partition_index(index).with_timestamp(timestamp)
            };
            ListOffsetsTopic::default()
                .with_name(name(&layout.topics[topic_of(&of_topic[0])]))
                .with_partitions(of_topic.iter().map(partition).collect())
        });
        let request =
            ListOffsetsRequest::default().with_replica_id(BrokerId(-1)).with_topics(wanted.collect());
        let answer: ListOffsetsResponse = self.ask(ApiKey::ListOffsets, &[5, 3, 1], &request)?;
        let places: HashMap<(&str, i32), usize> = slots
            .iter()
            .map(|slot| {
                let of_layout = layout.slots[*slot];
                ((layout.topics[of_layout.topic].as_str(), of_layout.partition), *slot)
            })
            .collect();
        let mut offsets = Vec::with_capacity(slots.len());
        for topic in &answer.topics {
            for partition in &topic.partitions {
                let slot = places.get(&(topic.name.as_str(), partition.partition_index));
                let slot = slot.context("ListOffsets answered for another partition")?;
                offsets.push((*slot, partition.offset, partition.error_code));
            }
        }
        ensure!(
            offsets.len() == slots.len(),
            "ListOffsets answered for {} of {}",
            offsets.len(),
            slots.len()
        );
        offsets.sort_unstable();
        Ok(offsets)
    }
}

/// A request as it is sent, its length in front.
///
/// # Errors
/// The version has no field for what the request says.
pub fn frame<Q: Encodable>(key: ApiKey, version: i16, correlation_id: i32, request: &Q) -> Result<BytesMut> {
    let mut frame = BytesMut::new();
    frame.put_u32(0);
    RequestHeader::default()
        .with_request_api_key(key as i16)
        .with_request_api_version(version)
        .with_correlation_id(correlation_id)
        .with_client_id(Some(StrBytes::from_static_str(CLIENT_ID)))
        .encode(&mut frame, key.request_header_version(version))?;
    request.encode(&mut frame, version)?;
    let length = u32::try_from(frame.len() - 4)?;
    frame[..4].copy_from_slice(&length.to_be_bytes());
    Ok(frame)
}

/// What is in a response, whose length has been taken off.
///
/// # Errors
/// It cannot be read.
pub fn answer<A: Decodable>(key: ApiKey, version: i16, mut response: Bytes) -> Result<A> {
    ResponseHeader::decode(&mut response, key.response_header_version(version))?;
    A::decode(&mut response, version)
}

/// Offsets of all the layout's slots, asked where they are led.
///
/// # Errors
/// A broker's refusal.
pub fn offsets(layout: &Layout, timestamp: i64) -> Result<Vec<(usize, i64)>> {
    let mut offsets = Vec::with_capacity(layout.slots.len());
    for (broker, address) in layout.brokers.iter().enumerate() {
        let led = |slot: &usize| layout.slots[*slot].leader == broker;
        let slots: Vec<usize> = (0..layout.slots.len()).filter(led).collect();
        offsets.extend(Connection::open(address)?.offsets(layout, &slots, timestamp)?);
    }
    offsets.sort_unstable();
    Ok(offsets)
}

fn layout_of(topics: &[String], metadata: &MetadataResponse) -> Option<Layout> {
    let mut layout = Layout { brokers: Vec::new(), topics: topics.to_vec(), slots: Vec::new() };
    for (index, topic) in topics.iter().enumerate() {
        let found = metadata
            .topics
            .iter()
            .find(|found| found.name.as_ref().is_some_and(|name| name.as_str() == topic))?;
        let mut partitions: Vec<_> = found.partitions.iter().collect();
        partitions.sort_unstable_by_key(|partition| partition.partition_index);
        if found.error_code != 0 || partitions.is_empty() {
            return None;
        }
        for partition in partitions {
            let broker = metadata.brokers.iter().find(|broker| broker.node_id == partition.leader_id)?;
            let address = address(&broker.host, broker.port);
            let known = layout.brokers.iter().position(|broker| *broker == address);
            let leader = known.unwrap_or_else(|| {
                layout.brokers.push(address);
                layout.brokers.len() - 1
            });
            layout.slots.push(Slot { topic: index, partition: partition.partition_index, leader });
        }
    }
    Some(layout)
}

/// With brackets around an IPv6 address.
pub fn address(host: &str, port: i32) -> String {
    if host.contains(':') { format!("[{host}]:{port}") } else { format!("{host}:{port}") }
}

pub fn string(text: &str) -> StrBytes {
    StrBytes::from_string(text.to_owned())
}

pub fn name(topic: &str) -> TopicName {
    TopicName(string(topic))
}

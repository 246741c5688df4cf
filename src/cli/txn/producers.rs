//! What the leaders of partitions know of producers: DescribeProducers.

use std::collections::{BTreeMap, BTreeSet};

use crate::cli::client::{Client, Error, TopicPartition, topic_name};
use crate::protocol::messages::DescribeProducersRequest;
use crate::protocol::messages::describe_producers_request::TopicRequest;
use crate::protocol::messages::describe_producers_response::ProducerState;

/// Partitions that a broker is asked about in one request.
const ASKED_AT_ONCE: usize = 500;

/// One that has written to a partition not too long ago, in transactions or not.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Producer {
    pub(super) id: i64,
    pub(super) epoch: i32,
    /// Of the coordinator that ended its last transaction there; `None`: it has had none that was ended.
    pub(super) coordinator_epoch: Option<i32>,
    /// `None`: it has written nothing since its epoch began.
    pub(super) last_sequence: Option<i32>,
    /// Of its last record or of the last end of a transaction, in milliseconds since 1970.
    pub(super) last_written_ms: i64,
    /// Where its open transaction begins.
    pub(super) open_from: Option<i64>,
}

impl From<&ProducerState> for Producer {
    fn from(state: &ProducerState) -> Producer {
        Producer {
            id: state.producer_id.0,
            epoch: state.producer_epoch,
            coordinator_epoch: Some(state.coordinator_epoch).filter(|epoch| *epoch >= 0),
            last_sequence: Some(state.last_sequence).filter(|sequence| *sequence >= 0),
            last_written_ms: state.last_timestamp,
            open_from: Some(state.current_txn_start_offset).filter(|offset| *offset >= 0),
        }
    }
}

/// Of each partition, by producer id.
pub(super) type Found = BTreeMap<TopicPartition, Result<Vec<Producer>, Error>>;

/// As [`Client::each_at_leader`].
pub(super) fn ask(client: &mut Client, wanted: &BTreeSet<TopicPartition>) -> Result<Found, Error> {
    client.each_at_leader("the producers of", wanted, |client, leader, asked| {
        let mut answers = Vec::new();
        for asked in asked.chunks(ASKED_AT_ONCE) {
            let topics = asked.chunk_by(|a, b| a.topic == b.topic).map(|partitions| {
                let indexes = partitions.iter().map(|of| of.partition).collect();
                TopicRequest::default()
                    .with_name(topic_name(&partitions[0].topic))
                    .with_partition_indexes(indexes)
            });
            let request = DescribeProducersRequest::default().with_topics(topics.collect());
            for topic in client.call_broker(leader, &request)?.topics {
                for partition in topic.partitions {
                    let of = TopicPartition::new(&topic.name, partition.partition_index);
                    let mut producers: Vec<Producer> =
                        partition.active_producers.iter().map(Producer::from).collect();
                    producers.sort_by_key(|producer| producer.id);
                    let code = partition.error_code;
                    answers.push((of, if code == 0 { Ok(producers) } else { Err(code) }));
                }
            }
        }
        Ok(answers)
    })
}

/// Of one partition.
pub(super) fn of(client: &mut Client, of: &TopicPartition) -> Result<Vec<Producer>, Error> {
    let found = ask(client, &[of.clone()].into())?.remove(of);
    found.unwrap_or_else(|| Err(Error::Silent(format!("the producers of {of}"))))
}

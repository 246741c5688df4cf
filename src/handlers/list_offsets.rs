//! ListOffsets 1-10 (key 2): offsets by time, and the ends of a partition's log.
//!
//! Special timestamps: -1 latest (the high watermark, or the last stable offset for read_committed), -2 earliest,
//! -3 (v7+, KIP-734) the record with the largest timestamp, -4 (v8+, KIP-405) earliest local, -5 (v9+, KIP-1005) last
//! tiered. One that is newer than the version, or unknown, is UNSUPPORTED_VERSION for its partition; a partition that
//! occurs twice is INVALID_REQUEST. v2+ isolation level, v4+ leader epochs (KIP-320).
//! Left out: v11 (earliest pending upload); the timeout of v10, which concerns tiered logs.

use std::collections::HashSet;
use std::rc::Rc;

use super::Broker;
use super::authorize::{Operation, Resource, allowed};
use super::service::{CloseReason, Outcome, Request};
use crate::model::{ErrorCode, LeaderEpoch, PartitionId, TimestampMs};
use crate::partition::{Isolation, OffsetAnswer, OffsetQuery, OffsetQueryPartition};
use crate::protocol::messages::list_offsets_response::{
    ListOffsetsPartitionResponse, ListOffsetsTopicResponse,
};
use crate::protocol::messages::{ListOffsetsRequest, ListOffsetsResponse};

pub(super) async fn handle(broker: Rc<Broker>, request: Request) -> Result<Outcome, CloseReason> {
    let (context, request) = request.decode::<ListOffsetsRequest>()?;
    let version = context.version();
    let isolation =
        if version >= 2 { isolation(request.isolation_level) } else { Isolation::ReadUncommitted };
    let mut queries = Vec::new();
    // where the answers belong
    let mut places = Vec::new();
    let mut first_error = ErrorCode::None;
    let mut seen = HashSet::new();
    let mut twice = HashSet::new();
    for topic in &request.topics {
        for partition in &topic.partitions {
            if !seen.insert((topic.name.as_str(), partition.partition_index)) {
                twice.insert((topic.name.as_str(), partition.partition_index));
            }
        }
    }
    let mut topics = Vec::with_capacity(request.topics.len());
    for asked in &request.topics {
        let found = broker.shard.image().topic_by_name(&asked.name).map(|topic| topic.id);
        let may_read = allowed(&context, Operation::Describe, Resource::Topic(&asked.name));
        let mut partitions = Vec::with_capacity(asked.partitions.len());
        for partition in &asked.partitions {
            let index = partition.partition_index;
            let query = query(partition.timestamp, version);
            let error = if !may_read {
                ErrorCode::TopicAuthorizationFailed
            } else if twice.contains(&(asked.name.as_str(), index)) {
                ErrorCode::InvalidRequest
            } else if query.is_none() {
                ErrorCode::UnsupportedVersion
            } else if found.is_none() {
                ErrorCode::UnknownTopicOrPartition
            } else {
                ErrorCode::None
            };
            let answer = ListOffsetsPartitionResponse::default().with_partition_index(index);
            if let (ErrorCode::None, Some(topic), Some(query)) = (error, found, query) {
                places.push((topics.len(), partitions.len()));
                queries.push(OffsetQueryPartition {
                    partition: PartitionId { topic, index },
                    query,
                    current_epoch: LeaderEpoch(partition.current_leader_epoch),
                    isolation,
                });
                partitions.push(answer);
            } else {
                note(&mut first_error, error);
                partitions.push(answer.with_error_code(error.code()));
            }
        }
        topics.push(
            ListOffsetsTopicResponse::default().with_name(asked.name.clone()).with_partitions(partitions),
        );
    }
    let answers = broker.shard.list_offsets(queries).await;
    assert_eq!(answers.len(), places.len(), "one answer per query");
    for ((topic, partition), answer) in places.into_iter().zip(answers) {
        note(&mut first_error, answer.error);
        fill(&mut topics[topic].partitions[partition], answer, version);
    }
    Ok(context.reply(ListOffsetsResponse::default().with_topics(topics), first_error))
}

fn fill(response: &mut ListOffsetsPartitionResponse, answer: OffsetAnswer, version: i16) {
    let error = match answer.error {
        // the newer code means nothing to older clients
        ErrorCode::OffsetNotAvailable if version < 5 => ErrorCode::LeaderNotAvailable,
        error => error,
    };
    response.error_code = error.code();
    response.timestamp = answer.timestamp.0;
    response.offset = answer.offset.0;
    if version >= 4 {
        response.leader_epoch = answer.epoch.0;
    }
}

/// `None`: not in this version.
fn query(timestamp: i64, version: i16) -> Option<OffsetQuery> {
    let (since, query) = match timestamp {
        0.. => (1, OffsetQuery::AtOrAfter(TimestampMs(timestamp))),
        -1 => (1, OffsetQuery::Latest),
        -2 => (1, OffsetQuery::Earliest),
        -3 => (7, OffsetQuery::MaxTimestamp),
        -4 => (8, OffsetQuery::EarliestLocal),
        -5 => (9, OffsetQuery::LatestTiered),
        _ => return None,
    };
    (version >= since).then_some(query)
}

pub(super) fn isolation(level: i8) -> Isolation {
    if level == 0 { Isolation::ReadUncommitted } else { Isolation::ReadCommitted }
}

/// Keeps the first error.
pub(super) fn note(first: &mut ErrorCode, error: ErrorCode) {
    if first.is_none() {
        *first = error;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn special_timestamps_begin_with_their_versions() {
        let since = [(5, 1), (0, 1), (-1, 1), (-2, 1), (-3, 7), (-4, 8), (-5, 9)];
        for (timestamp, first) in since {
            for version in 1..=10 {
                assert_eq!(
                    query(timestamp, version).is_some(),
                    version >= first,
                    "{timestamp} in v{version}"
                );
            }
        }
        for unknown in [-6, -7, i64::MIN] {
            assert_eq!(query(unknown, 10), None);
        }
    }
}

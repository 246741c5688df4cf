//! OffsetCommit, OffsetFetch and OffsetDelete, as a group answers them.

use super::{Group, GroupCoordinator, Members, Reply, Turn};
use crate::coordinator::Ticket;
use crate::coordinator::record::{OffsetValue, TEXT_BYTES_MAX};
use crate::model::{ErrorCode, ProducerId};
use crate::protocol::StrBytes;
use crate::protocol::messages::offset_commit_response::{
    OffsetCommitResponsePartition, OffsetCommitResponseTopic,
};
use crate::protocol::messages::offset_delete_response::{
    OffsetDeleteResponsePartition, OffsetDeleteResponseTopic,
};
use crate::protocol::messages::offset_fetch_request::OffsetFetchRequestGroup;
use crate::protocol::messages::offset_fetch_response::{
    OffsetFetchResponseGroup, OffsetFetchResponsePartitions, OffsetFetchResponseTopics,
};
use crate::protocol::messages::{
    OffsetCommitRequest, OffsetCommitResponse, OffsetDeleteRequest, OffsetDeleteResponse, TopicName,
};

/// OffsetCommit's from which a group that is not there has an error of its own.
const GROUP_ID_NOT_FOUND_FROM: i16 = 9;

/// A member of a group that is not there commits.
pub(super) fn of_no_group(
    turn: &mut Turn,
    ticket: Ticket,
    version: i16,
    producer: Option<ProducerId>,
    request: &OffsetCommitRequest,
) {
    let error = if producer.is_some() || version >= GROUP_ID_NOT_FOUND_FROM {
        ErrorCode::GroupIdNotFound
    } else {
        ErrorCode::IllegalGeneration
    };
    turn.reply(ticket, Reply::Commit(refused(request, error)));
}

pub(super) fn delete_from_no_group(turn: &mut Turn, ticket: Ticket) {
    turn.reply(ticket, not_deleted(ErrorCode::GroupIdNotFound));
}

fn not_deleted(error: ErrorCode) -> Reply {
    Reply::DeleteOffsets(OffsetDeleteResponse::default().with_error_code(error.code()))
}

/// The same error for everything.
#[must_use]
pub fn refused(request: &OffsetCommitRequest, error: ErrorCode) -> OffsetCommitResponse {
    let topics = request.topics.iter().map(|topic| {
        let partitions = topic.partitions.iter().map(|partition| {
            OffsetCommitResponsePartition::default()
                .with_partition_index(partition.partition_index)
                .with_error_code(error.code())
        });
        OffsetCommitResponseTopic::default()
            .with_name(topic.name.clone())
            .with_topic_id(topic.topic_id)
            .with_partitions(partitions.collect())
    });
    OffsetCommitResponse::default().with_topics(topics.collect())
}

impl Group {
    /// With a producer, in its transaction.
    pub(super) fn commit(
        &mut self,
        turn: &mut Turn,
        ticket: Ticket,
        version: i16,
        producer: Option<ProducerId>,
        request: &OffsetCommitRequest,
    ) {
        if turn.group.len() > TEXT_BYTES_MAX {
            return turn.reply(ticket, Reply::Commit(refused(request, ErrorCode::InvalidGroupId)));
        }
        let may_commit = match &mut self.members {
            Members::Classic(members) => members.may_commit(turn, producer, request),
            Members::Consumer(members) => members.may_commit(turn, version, producer, request),
        };
        if let Err(error) = may_commit {
            return turn.reply(ticket, Reply::Commit(refused(request, error)));
        }
        let now = turn.now.wall;
        let expire_timestamp = match request.retention_time_ms {
            -1 => -1,
            retention => now.saturating_add(retention.max(0)),
        };
        let mut topics = Vec::with_capacity(request.topics.len());
        for topic in &request.topics {
            let count = turn.image.topic_by_name(&topic.name).map_or(0, |topic| topic.partitions.len());
            let mut partitions = Vec::with_capacity(topic.partitions.len());
            for partition in &topic.partitions {
                let index = partition.partition_index;
                let metadata = partition.committed_metadata.as_deref().unwrap_or_default();
                let error = if usize::try_from(index).map_or(true, |index| index >= count) {
                    ErrorCode::UnknownTopicOrPartition
                } else if metadata.len() > TEXT_BYTES_MAX
                    || metadata.encode_utf16().count() > turn.settings.offset_metadata_bytes_max
                {
                    ErrorCode::OffsetMetadataTooLarge
                } else {
                    let value = OffsetValue {
                        offset: partition.committed_offset,
                        leader_epoch: partition.committed_leader_epoch,
                        metadata: metadata.to_owned(),
                        commit_timestamp: now,
                        expire_timestamp,
                    };
                    self.offsets.commit(turn, producer, &topic.name, index, value);
                    ErrorCode::None
                };
                let answer = OffsetCommitResponsePartition::default().with_partition_index(index);
                partitions.push(answer.with_error_code(error.code()));
            }
            let answer = OffsetCommitResponseTopic::default().with_name(topic.name.clone());
            topics.push(answer.with_topic_id(topic.topic_id).with_partitions(partitions));
        }
        turn.reply(ticket, Reply::Commit(OffsetCommitResponse::default().with_topics(topics)));
    }

    pub(super) fn delete_offsets(&mut self, turn: &mut Turn, ticket: Ticket, request: &OffsetDeleteRequest) {
        let may_delete = match &self.members {
            Members::Classic(members) => members.may_delete_offsets(),
            Members::Consumer(_) => Ok(()),
        };
        if let Err(error) = may_delete {
            return turn.reply(ticket, not_deleted(error));
        }
        let mut topics = Vec::with_capacity(request.topics.len());
        for topic in &request.topics {
            let error = if self.is_subscribed(&topic.name) {
                ErrorCode::GroupSubscribedToTopic
            } else {
                ErrorCode::None
            };
            let mut partitions = Vec::with_capacity(topic.partitions.len());
            for partition in &topic.partitions {
                let index = partition.partition_index;
                if error.is_none() {
                    self.offsets.remove(turn, &topic.name, index);
                }
                let answer = OffsetDeleteResponsePartition::default().with_partition_index(index);
                partitions.push(answer.with_error_code(error.code()));
            }
            let answer = OffsetDeleteResponseTopic::default().with_name(topic.name.clone());
            topics.push(answer.with_partitions(partitions));
        }
        turn.reply(ticket, Reply::DeleteOffsets(OffsetDeleteResponse::default().with_topics(topics)));
    }

    fn may_fetch_offsets(&self, request: &OffsetFetchRequestGroup) -> Result<(), ErrorCode> {
        match &self.members {
            Members::Classic(_) => Ok(()),
            Members::Consumer(members) => {
                members.may_fetch_offsets(request.member_id.as_deref(), request.member_epoch)
            }
        }
    }
}

impl GroupCoordinator {
    /// What is not committed, or of a group that is not there, is -1. `require_stable`: what an open transaction may change
    /// is not told, but UNSTABLE_OFFSET_COMMIT: the client asks again (KIP-447).
    pub(super) fn fetch_offsets(
        &self,
        request: &OffsetFetchRequestGroup,
        require_stable: bool,
    ) -> OffsetFetchResponseGroup {
        let response = OffsetFetchResponseGroup::default().with_group_id(request.group_id.clone());
        let group = self.groups.get(request.group_id.as_str());
        if let Some(Err(error)) = group.map(|group| group.may_fetch_offsets(request)) {
            return response.with_error_code(error.code());
        }
        let answer = |topic: &str, index: i32, value: Option<&OffsetValue>| {
            let answer = OffsetFetchResponsePartitions::default().with_partition_index(index);
            let is_unstable =
                require_stable && group.is_some_and(|group| group.offsets.is_pending(topic, index));
            let answer = match is_unstable {
                true => answer.with_error_code(ErrorCode::UnstableOffsetCommit.code()),
                false => answer,
            };
            match value.filter(|_| !is_unstable) {
                Some(value) => answer
                    .with_committed_offset(value.offset)
                    .with_committed_leader_epoch(value.leader_epoch)
                    .with_metadata(Some(StrBytes::from_string(value.metadata.clone()))),
                None => answer
                    .with_committed_offset(-1)
                    .with_committed_leader_epoch(-1)
                    .with_metadata(Some(StrBytes::default())),
            }
        };
        let topics = match &request.topics {
            Some(topics) => (topics.iter())
                .map(|topic| {
                    let partitions = topic.partition_indexes.iter().map(|&index| {
                        let value = group.and_then(|group| group.offsets.get(&topic.name, index));
                        answer(&topic.name, index, value)
                    });
                    OffsetFetchResponseTopics::default()
                        .with_name(topic.name.clone())
                        .with_topic_id(topic.topic_id)
                        .with_partitions(partitions.collect())
                })
                .collect(),
            None => (group.into_iter().flat_map(|group| group.offsets.iter()))
                .map(|(topic, partitions)| {
                    let partitions =
                        partitions.iter().map(|(index, value)| answer(topic, *index, Some(value)));
                    OffsetFetchResponseTopics::default()
                        .with_name(TopicName(StrBytes::from_string(topic.to_owned())))
                        .with_partitions(partitions.collect())
                })
                .collect(),
        };
        response.with_topics(topics)
    }
}

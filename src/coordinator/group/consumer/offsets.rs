//! Which offsets a member of a consumer group may commit and read.

use super::member::Member;
use super::{ConsumerGroup, ErrorCode};
use crate::coordinator::group::Turn;
use crate::model::ProducerId;
use crate::protocol::messages::OffsetCommitRequest;

/// OffsetCommit's from which on a member of the consumer protocol may use it: there are errors for its epochs.
const MEMBER_EPOCH_FROM: i16 = 9;

impl ConsumerGroup {
    /// A member commits with its epoch, or, if that has gone up meanwhile, with one in which it had the partitions already
    /// (KIP-1251): then all of them have to be of that kind. Who is no member may commit to a group without members, and in a
    /// transaction nothing has to be said of a member.
    pub fn may_commit(
        &mut self,
        turn: &mut Turn,
        version: i16,
        producer: Option<ProducerId>,
        request: &OffsetCommitRequest,
    ) -> Result<(), ErrorCode> {
        let epoch = request.generation_id_or_member_epoch;
        if epoch < 0 && self.members.is_empty() {
            return Ok(());
        }
        let is_of_nobody = request.member_id.is_empty() && request.group_instance_id.is_none();
        if producer.is_some() && epoch == -1 && is_of_nobody {
            return Ok(());
        }
        let member = self.members.get(request.member_id.as_str()).ok_or(ErrorCode::UnknownMemberId)?;
        if producer.is_none() && !member.uses_classic_protocol() && version < MEMBER_EPOCH_FROM {
            return Err(ErrorCode::UnsupportedVersion);
        }
        if epoch == member.epoch {
            return Ok(());
        }
        if epoch > member.epoch {
            return Err(stale(member));
        }
        for topic in &request.topics {
            // what is not there has an error of its own
            let Some(known) = turn.image.topic_by_name(&topic.name) else { continue };
            for partition in &topic.partitions {
                let index = partition.partition_index;
                let is_there = usize::try_from(index).is_ok_and(|index| index < known.partitions.len());
                if is_there && member.epoch_of(known.id, index).is_none_or(|since| epoch < since) {
                    return Err(stale(member));
                }
            }
        }
        Ok(())
    }

    /// With a member's id, only in its epoch; without, always.
    pub fn may_fetch_offsets(&self, member: Option<&str>, epoch: i32) -> Result<(), ErrorCode> {
        if member.is_none() && epoch < 0 {
            return Ok(());
        }
        let member = member.and_then(|id| self.members.get(id)).ok_or(ErrorCode::UnknownMemberId)?;
        if epoch == member.epoch { Ok(()) } else { Err(stale(member)) }
    }
}

fn stale(member: &Member) -> ErrorCode {
    if member.uses_classic_protocol() { ErrorCode::IllegalGeneration } else { ErrorCode::StaleMemberEpoch }
}

//! What the state of a group means for its offsets.

use super::describe::CONSUMER;
use super::{ClassicGroup, Expiry, State, Turn};
use crate::model::{ErrorCode, ProducerId};
use crate::protocol::messages::OffsetCommitRequest;

impl ClassicGroup {
    /// A commit of a member shows that it is alive. Who is no member (an administrator, a consumer that assigns itself) may
    /// commit while there are none.
    /// In a transaction nothing has to be said of a member, and the state of a rebalance does not matter; then the
    /// transaction, not the group, sees to it that what a member no longer has is not committed.
    pub fn may_commit(
        &mut self,
        turn: &mut Turn,
        producer: Option<ProducerId>,
        request: &OffsetCommitRequest,
    ) -> Result<(), ErrorCode> {
        let (id, instance) = (request.member_id.as_str(), request.group_instance_id.as_deref());
        let generation = request.generation_id_or_member_epoch;
        if generation < 0 && self.state == State::Empty {
            return Ok(());
        }
        if generation < 0 && id.is_empty() && instance.is_none() {
            return if producer.is_some() { Ok(()) } else { Err(ErrorCode::UnknownMemberId) };
        }
        self.check_member(id, instance)?;
        if generation != self.generation {
            return Err(ErrorCode::IllegalGeneration);
        }
        if producer.is_some() {
            return Ok(());
        }
        if self.state == State::CompletingRebalance {
            // it has heard of a generation whose assignment it does not have
            return Err(ErrorCode::RebalanceInProgress);
        }
        self.touch(turn, id);
        Ok(())
    }

    pub fn may_delete_offsets(&self) -> Result<(), ErrorCode> {
        if self.state == State::Empty || self.protocol_type() == CONSUMER {
            Ok(())
        } else {
            Err(ErrorCode::NonEmptyGroup)
        }
    }

    /// Consumers whose subscriptions are not known may have subscribed to anything.
    pub fn is_subscribed(&self, topic: &str) -> bool {
        match &self.subscribed {
            Some(topics) => topics.contains(topic),
            None => self.protocol_type() == CONSUMER,
        }
    }

    /// `None`: offsets stay as long as there are members. Of consumers whose subscriptions are known, those of other topics
    /// do not.
    pub fn expiry(&self) -> Option<Expiry> {
        match self.state {
            _ if self.protocol_type.is_none() => Some(Expiry::FromCommit),
            State::Empty => Some(self.since.map_or(Expiry::FromCommit, Expiry::From)),
            State::Stable if self.subscribed.is_some() => Some(Expiry::FromCommit),
            _ => None,
        }
    }
}

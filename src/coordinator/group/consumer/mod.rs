//! A group of the consumer protocol (KIP-848).

use super::{Client, Due, Group, Reply, Settings, Turn};
use crate::coordinator::Ticket;
use crate::coordinator::record::Record;
use crate::metadata::Image;
use crate::model::ErrorCode;
use crate::protocol::messages::consumer_group_describe_response::DescribedGroup;
use crate::protocol::messages::{
    ConsumerGroupHeartbeatRequest, ConsumerGroupHeartbeatResponse, OffsetCommitRequest,
};

#[derive(Clone, Debug, Default, PartialEq)]
pub(super) struct ConsumerGroup {}

pub(super) fn heartbeat(
    _group: &mut Option<Group>,
    turn: &mut Turn,
    ticket: Ticket,
    _version: i16,
    _client: &Client,
    _request: &ConsumerGroupHeartbeatRequest,
) {
    let response =
        ConsumerGroupHeartbeatResponse::default().with_error_code(ErrorCode::CoordinatorNotAvailable.code());
    turn.reply(ticket, Reply::ConsumerHeartbeat(Box::new(response)));
}

/// A timer of the group; it may become a classic group by it.
pub(super) fn due(_group: &mut Group, _turn: &mut Turn, _due: Due) {}

impl ConsumerGroup {
    pub fn new() -> ConsumerGroup {
        ConsumerGroup::default()
    }

    pub fn replay(&mut self, _record: Record) {}

    /// Nothing of it is left in the log.
    pub fn is_gone(&self) -> bool {
        true
    }

    /// Members.
    pub fn len(&self) -> usize {
        0
    }

    /// Without members.
    pub fn is_empty(&self) -> bool {
        true
    }

    /// The log was replayed: timers begin.
    pub fn loaded(&mut self, _turn: &mut Turn) {}

    /// Topics have come, gone, or grown.
    pub fn topics_changed(&mut self, _turn: &mut Turn) {}

    /// Takes an empty group out of the log.
    pub fn remove(&mut self, _turn: &mut Turn) {}

    pub fn may_commit(
        &mut self,
        _turn: &mut Turn,
        _version: i16,
        _request: &OffsetCommitRequest,
    ) -> Result<(), ErrorCode> {
        Ok(())
    }

    pub fn may_fetch_offsets(&self, _member: Option<&str>, _epoch: i32) -> Result<(), ErrorCode> {
        Ok(())
    }

    pub fn is_subscribed(&self, _topic: &str) -> bool {
        false
    }

    pub fn state_name(&self) -> &'static str {
        "Empty"
    }

    pub fn describe(
        &self,
        _image: &Image,
        _settings: &Settings,
        described: DescribedGroup,
    ) -> DescribedGroup {
        described
    }
}

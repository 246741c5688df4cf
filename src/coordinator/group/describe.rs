//! Groups as they are listed and described, and how a deletion is told.

use std::ops::Bound;

use super::{Group, GroupCoordinator, Members};
use crate::metadata::Image;
use crate::model::ErrorCode;
use crate::protocol::StrBytes;
use crate::protocol::messages::GroupId;
use crate::protocol::messages::consumer_group_describe_response::DescribedGroup as DescribedConsumerGroup;
use crate::protocol::messages::delete_groups_response::DeletableGroupResult;
use crate::protocol::messages::describe_groups_response::DescribedGroup;
use crate::protocol::messages::list_groups_response::ListedGroup;

/// A group and its committed offsets, for watching.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct GroupProgress {
    pub group: String,
    pub state: &'static str,
    /// `classic` or `consumer`.
    pub protocol: &'static str,
    pub members: usize,
    /// Topic, partition, offset.
    pub offsets: Vec<(String, i32, i64)>,
}

/// DescribeGroups' from which a group that is not there is an error.
const GROUP_ID_NOT_FOUND_FROM: i16 = 6;

impl Group {
    /// As clients know it.
    fn state(&self) -> &'static str {
        match &self.members {
            Members::Classic(members) => members.state_name(),
            Members::Consumer(members) => members.state_name(),
        }
    }

    fn protocol_type(&self) -> &str {
        match &self.members {
            Members::Classic(members) => members.protocol_type(),
            Members::Consumer(_) => "consumer",
        }
    }

    /// Members.
    fn len(&self) -> usize {
        match &self.members {
            Members::Classic(members) => members.len(),
            Members::Consumer(members) => members.len(),
        }
    }

    fn progress(&self, id: &str) -> GroupProgress {
        let offsets = self.offsets.iter().flat_map(|(topic, partitions)| {
            partitions.iter().map(|(partition, value)| (topic.to_owned(), *partition, value.offset))
        });
        GroupProgress {
            group: id.to_owned(),
            state: self.state(),
            protocol: self.type_name(),
            members: self.len(),
            offsets: offsets.collect(),
        }
    }

    fn type_name(&self) -> &'static str {
        match &self.members {
            Members::Classic(_) => "classic",
            Members::Consumer(_) => "consumer",
        }
    }
}

impl GroupCoordinator {
    /// How many groups there are, and members of them.
    #[must_use]
    pub fn size(&self) -> (usize, usize) {
        (self.groups.len(), self.groups.values().map(Group::len).sum())
    }

    /// The next `count` groups behind this one, in the order of their ids.
    #[must_use]
    pub fn progress(&self, behind: Option<&str>, count: usize) -> Vec<GroupProgress> {
        let from = behind.map_or(Bound::Unbounded, Bound::Excluded);
        let groups = self.groups.range::<str, _>((from, Bound::Unbounded)).take(count);
        groups.map(|(id, group)| group.progress(id)).collect()
    }

    pub(super) fn list(&self, states: &[String], types: &[String]) -> Vec<ListedGroup> {
        let is_in = |filter: &[String], name: &str| {
            filter.is_empty() || filter.iter().any(|wanted| wanted.eq_ignore_ascii_case(name))
        };
        let wanted = self
            .groups
            .iter()
            .filter(|(_, group)| is_in(states, group.state()) && is_in(types, group.type_name()));
        wanted
            .map(|(id, group)| {
                ListedGroup::default()
                    .with_group_id(GroupId(text(id)))
                    .with_protocol_type(text(group.protocol_type()))
                    .with_group_state(StrBytes::from_static_str(group.state()))
                    .with_group_type(StrBytes::from_static_str(group.type_name()))
            })
            .collect()
    }

    /// For DescribeGroups: a group of the consumer protocol is none of its kind.
    pub(super) fn describe(&self, id: &GroupId, version: i16) -> DescribedGroup {
        let described = DescribedGroup::default().with_group_id(id.clone());
        match self.groups.get(id.as_str()).map(|group| &group.members) {
            Some(Members::Classic(members)) => members.describe(described),
            _ => {
                let dead = described.with_group_state(StrBytes::from_static_str("Dead"));
                if version < GROUP_ID_NOT_FOUND_FROM {
                    return dead;
                }
                let message = format!("Group {} not found.", id.as_str());
                dead.with_error_code(ErrorCode::GroupIdNotFound.code())
                    .with_error_message(Some(StrBytes::from_string(message)))
            }
        }
    }

    pub(super) fn describe_consumer(&self, image: &Image, id: &GroupId) -> DescribedConsumerGroup {
        let described = DescribedConsumerGroup::default().with_group_id(id.clone());
        let message = match self.groups.get(id.as_str()).map(|group| &group.members) {
            Some(Members::Consumer(members)) => return members.describe(image, &self.settings, described),
            Some(Members::Classic(_)) => format!("Group {} is not a consumer group.", id.as_str()),
            None => format!("Group {} not found.", id.as_str()),
        };
        described
            .with_error_code(ErrorCode::GroupIdNotFound.code())
            .with_error_message(Some(StrBytes::from_string(message)))
    }
}

pub(super) fn deleted(id: GroupId, error: ErrorCode) -> DeletableGroupResult {
    DeletableGroupResult::default().with_group_id(id).with_error_code(error.code())
}

pub(super) fn text(text: &str) -> StrBytes {
    StrBytes::from_string(text.to_owned())
}

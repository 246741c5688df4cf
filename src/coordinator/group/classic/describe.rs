//! A group as tools see it.

use std::collections::BTreeSet;

use super::{ClassicGroup, Member, State, subscription, text};
use crate::protocol::StrBytes;
use crate::protocol::messages::describe_groups_response::{DescribedGroup, DescribedGroupMember};

/// The protocol type of consumers, whose subscriptions can be read.
pub const CONSUMER: &str = "consumer";

impl ClassicGroup {
    pub fn state_name(&self) -> &'static str {
        self.state.name()
    }

    /// By id.
    pub fn members(&self) -> impl Iterator<Item = &Member> {
        self.roster.iter()
    }

    /// Protocol and metadata are told in Stable only: before, members may not have them in common.
    pub fn describe(&self, described: DescribedGroup) -> DescribedGroup {
        let protocol = self.protocol.as_deref().filter(|_| self.state == State::Stable);
        let members = self.members().map(|member| {
            DescribedGroupMember::default()
                .with_member_id(text(&member.id))
                .with_group_instance_id(member.instance.as_deref().map(text))
                .with_client_id(text(&member.client.id))
                .with_client_host(text(&member.client.host))
                .with_member_metadata(protocol.map(|protocol| member.metadata(protocol)).unwrap_or_default())
                .with_member_assignment(member.assignment.clone())
        });
        described
            .with_group_state(StrBytes::from_static_str(self.state_name()))
            .with_protocol_type(text(self.protocol_type()))
            .with_protocol_data(text(protocol.unwrap_or_default()))
            .with_members(members.collect())
    }

    /// Of this generation's members. `None`: they are no consumers, or one's subscription cannot be read.
    pub(super) fn subscribed_topics(&self) -> Option<BTreeSet<String>> {
        if self.protocol_type() != CONSUMER {
            return None;
        }
        let protocol = self.protocol.as_deref().unwrap_or_default();
        let mut topics = BTreeSet::new();
        for member in self.members() {
            for topic in subscription::topics(&member.metadata(protocol))? {
                if !topics.contains(topic) {
                    topics.insert(topic.to_owned());
                }
            }
        }
        Some(topics)
    }
}

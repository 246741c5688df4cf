//! ConsumerGroupDescribe 0-1 (1 says which protocol each member uses), and the group's state by name.

use std::collections::BTreeMap;

use super::member::{self, Member};
use super::{ConsumerGroup, Partitions};
use crate::coordinator::group::Settings;
use crate::coordinator::group::describe::text;
use crate::metadata::Image;
use crate::protocol::StrBytes;
use crate::protocol::messages::TopicName;
use crate::protocol::messages::consumer_group_describe_response::{
    Assignment, DescribedGroup, Member as DescribedMember, TopicPartitions,
};

impl ConsumerGroup {
    pub fn state_name(&self) -> &'static str {
        if self.members.is_empty() {
            "Empty"
        } else if self.epoch() > self.target_epoch() {
            "Assigning"
        } else if self.members.values().all(|member| member.is_reconciled(self.target_epoch())) {
            "Stable"
        } else {
            "Reconciling"
        }
    }

    pub fn describe(&self, image: &Image, settings: &Settings, described: DescribedGroup) -> DescribedGroup {
        let members = self.members.iter().map(|(id, member)| {
            let nothing = Partitions::new();
            let target = self.targets.get(id).map_or(&nothing, |target| target.as_ref());
            describe_member(image, id, member, target)
        });
        described
            .with_group_state(StrBytes::from_static_str(self.state_name()))
            .with_group_epoch(self.epoch())
            .with_assignment_epoch(self.target_epoch())
            .with_assignor_name(text(self.assignor_name(settings)))
            .with_members(members.collect())
    }
}

fn describe_member(image: &Image, id: &str, member: &Member, target: &Partitions) -> DescribedMember {
    let about = &member.about;
    let optional = |value: &Option<String>| value.as_deref().map(text);
    // what it has not given up yet is its own still
    let mut current: BTreeMap<_, Vec<i32>> = member::partitions(&member.assigned);
    for (topic, partitions) in member::partitions(&member.revoking) {
        current.entry(topic).or_default().extend(partitions);
    }
    DescribedMember::default()
        .with_member_id(text(id))
        .with_instance_id(optional(&about.instance))
        .with_rack_id(optional(&about.rack))
        .with_member_epoch(member.epoch)
        .with_client_id(text(&about.client_id))
        .with_client_host(text(&about.client_host))
        .with_subscribed_topic_names(about.topics.iter().map(|topic| TopicName(text(topic))).collect())
        .with_subscribed_topic_regex(optional(&about.regex))
        .with_assignment(assignment(image, &current))
        .with_target_assignment(assignment(image, target))
        .with_member_type(i8::from(!member.uses_classic_protocol()))
}

fn assignment(image: &Image, partitions: &Partitions) -> Assignment {
    let topics = partitions.iter().filter_map(|(id, partitions)| {
        let topic = image.topic(*id)?;
        let described = TopicPartitions::default()
            .with_topic_id(uuid::Uuid::from_u128(id.0))
            .with_topic_name(TopicName(text(&topic.name)));
        Some(described.with_partitions(partitions.clone()))
    });
    Assignment::default().with_topic_partitions(topics.collect())
}

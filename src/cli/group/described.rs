//! What a coordinator says of groups: ConsumerGroupDescribe and, for those of the classic protocol, DescribeGroups.

use std::collections::BTreeMap;

use bytes::Buf as _;

use super::list;
use crate::cli::client::{Client, Coordinated, Error, Refusal, group_id};
use crate::cli::partitions::Partitions;
use crate::config::nearest;
use crate::protocol::messages::consumer_group_describe_response as consumer;
use crate::protocol::messages::describe_groups_response as classic;
use crate::protocol::messages::{ConsumerGroupDescribeRequest, DescribeGroupsRequest};

const UNSUPPORTED_VERSION: i16 = 35;
const GROUP_ID_NOT_FOUND: i16 = 69;

pub(super) struct Group {
    pub(super) id: String,
    pub(super) kind: Kind,
    /// As Kafka names them: Empty, Stable, Assigning, …
    pub(super) state: String,
    /// Who spreads partitions over members; empty: nobody does now.
    pub(super) assignor: String,
    pub(super) coordinator: i32,
    pub(super) members: Vec<Member>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    Classic {
        /// `consumer`; others have assignments that only they can read; empty: it has only ever committed offsets.
        protocol_type: String,
    },
    Consumer {
        epoch: i32,
        assignment_epoch: i32,
    },
}

pub(super) struct Member {
    pub(super) id: String,
    pub(super) instance: Option<String>,
    pub(super) client: String,
    pub(super) host: String,
    pub(super) assigned: Partitions,
    /// What only the consumer protocol tells.
    pub(super) aim: Option<Aim>,
}

/// Where the coordinator leads a member.
pub(super) struct Aim {
    pub(super) epoch: i32,
    pub(super) target: Partitions,
    pub(super) topics: Vec<String>,
    pub(super) regex: Option<String>,
}

impl Group {
    pub(super) fn has_members(&self) -> bool {
        !self.members.is_empty() || !["Empty", "Dead"].contains(&self.state.as_str())
    }
}

impl Kind {
    pub(super) fn name(&self) -> &'static str {
        match self {
            Kind::Classic { .. } => "classic",
            Kind::Consumer { .. } => "consumer",
        }
    }
}

/// Asked of whichever broker coordinates it.
pub(super) fn describe(client: &mut Client, id: &str) -> Result<Group, Error> {
    find(client, id)?.map_or_else(|| Err(unknown(client, id)?), Ok)
}

/// `None`: it does not exist.
pub(super) fn find(client: &mut Client, id: &str) -> Result<Option<Group>, Error> {
    client.at_coordinator(Coordinated::Group(id), |client, broker| {
        let mut found = ask(client, broker, &[id])?;
        let answer = found.remove(id).ok_or_else(|| Error::Silent(format!("group {id}")))?;
        match answer {
            Err(refusal) if refusal.code == GROUP_ID_NOT_FOUND => Ok(None),
            Err(refusal) => Err(Error::Refused(refusal)),
            // older brokers' way to say that there is none
            Ok(group) if group.state == "Dead" => Ok(None),
            Ok(group) => Ok(Some(group)),
        }
    })
}

/// The error of a group that does not exist, or that is none of those described here.
pub(super) fn unknown(client: &mut Client, id: &str) -> Result<Error, Error> {
    let all = list::all(client)?;
    if let Some(other) = all.iter().find(|group| group.id == id && !group.is_of_consumers()) {
        return Ok(Error::OtherGroup { name: id.to_owned(), kind: other.kind.clone() });
    }
    let near = nearest(id, all.iter().map(|group| group.id.as_str())).map(str::to_owned);
    Ok(Error::UnknownGroup { name: id.to_owned(), near })
}

/// Asks one broker about groups that it coordinates.
pub(super) fn ask(
    client: &mut Client,
    broker: i32,
    ids: &[&str],
) -> Result<BTreeMap<String, Result<Group, Refusal>>, Error> {
    let mut found = BTreeMap::new();
    let request = ConsumerGroupDescribeRequest::default()
        .with_group_ids(ids.iter().map(|id| group_id(id)).collect())
        .with_include_authorized_operations(false);
    let answered = match client.call_broker(broker, &request) {
        // a broker from before there were groups of the kind
        Err(Error::NotServed { .. }) => Vec::new(),
        other => other?.groups,
    };
    for group in answered {
        let id = group.group_id.to_string();
        match group.error_code {
            0 => _ = found.insert(id, Ok(of_consumer(group, broker))),
            GROUP_ID_NOT_FOUND | UNSUPPORTED_VERSION => {}
            code => _ = found.insert(id, Err(refusal(&group.group_id, code, group.error_message.as_deref()))),
        }
    }
    let left: Vec<_> = ids.iter().filter(|id| !found.contains_key(**id)).map(|id| group_id(id)).collect();
    if left.is_empty() {
        return Ok(found);
    }
    let request = DescribeGroupsRequest::default().with_groups(left);
    for group in client.call_broker(broker, &request)?.groups {
        let described = match group.error_code {
            0 => Ok(of_classic(&group, broker)),
            code => Err(refusal(&group.group_id, code, group.error_message.as_deref())),
        };
        found.insert(group.group_id.to_string(), described);
    }
    Ok(found)
}

fn refusal(id: &str, code: i16, message: Option<&str>) -> Refusal {
    Refusal::new(format!("describing group {id}"), code, message)
}

fn of_consumer(group: consumer::DescribedGroup, coordinator: i32) -> Group {
    let members = group.members.into_iter().map(|member| Member {
        id: member.member_id.to_string(),
        instance: member.instance_id.map(|id| id.to_string()),
        client: member.client_id.to_string(),
        host: member.client_host.trim_start_matches('/').to_owned(),
        assigned: named(&member.assignment),
        aim: Some(Aim {
            epoch: member.member_epoch,
            target: named(&member.target_assignment),
            topics: member.subscribed_topic_names.iter().map(|name| name.to_string()).collect(),
            regex: member.subscribed_topic_regex.map(|regex| regex.to_string()).filter(|r| !r.is_empty()),
        }),
    });
    Group {
        id: group.group_id.to_string(),
        kind: Kind::Consumer { epoch: group.group_epoch, assignment_epoch: group.assignment_epoch },
        state: group.group_state.to_string(),
        assignor: group.assignor_name.to_string(),
        coordinator,
        members: sorted(members),
    }
}

fn of_classic(group: &classic::DescribedGroup, coordinator: i32) -> Group {
    let members = group.members.iter().map(|member| Member {
        id: member.member_id.to_string(),
        instance: member.group_instance_id.as_ref().map(|id| id.to_string()),
        client: member.client_id.to_string(),
        host: member.client_host.trim_start_matches('/').to_owned(),
        assigned: if group.protocol_type.as_str() == "consumer" {
            assigned(&member.member_assignment)
        } else {
            Partitions::new()
        },
        aim: None,
    });
    Group {
        id: group.group_id.to_string(),
        kind: Kind::Classic { protocol_type: group.protocol_type.to_string() },
        state: group.group_state.to_string(),
        assignor: group.protocol_data.to_string(),
        coordinator,
        members: sorted(members),
    }
}

fn sorted(members: impl Iterator<Item = Member>) -> Vec<Member> {
    let mut members: Vec<Member> = members.collect();
    members.sort_by(|a, b| (&a.client, &a.id).cmp(&(&b.client, &b.id)));
    members
}

fn named(assignment: &consumer::Assignment) -> Partitions {
    let mut partitions = Partitions::new();
    for topic in &assignment.topic_partitions {
        partitions.entry(topic.topic_name.to_string()).or_default().extend(&topic.partitions);
    }
    partitions
}

/// The consumer protocol's assignment: a version, then topics with their partitions, and more that is not told here. One
/// that cannot be read is told as none. It is what a client has sent: no number in it is trusted.
fn assigned(bytes: &[u8]) -> Partitions {
    read_assigned(bytes).unwrap_or_default()
}

fn read_assigned(mut bytes: &[u8]) -> Option<Partitions> {
    let mut partitions = Partitions::new();
    let _version = bytes.try_get_i16().ok()?;
    for _ in 0..bytes.try_get_i32().ok()? {
        let length = usize::try_from(bytes.try_get_i16().ok()?).ok()?;
        let (name, behind) = bytes.split_at_checked(length)?;
        bytes = behind;
        let indexes = partitions.entry(str::from_utf8(name).ok()?.to_owned()).or_default();
        for _ in 0..bytes.try_get_i32().ok()? {
            indexes.insert(bytes.try_get_i32().ok()?);
        }
    }
    Some(partitions)
}

#[cfg(test)]
mod tests {
    use bytes::BytesMut;
    use kafka_protocol::protocol::Encodable as _;

    use super::*;
    use crate::cli::client::topic_name;
    use crate::protocol::messages::ConsumerProtocolAssignment;
    use crate::protocol::messages::consumer_protocol_assignment::TopicPartition;

    #[test]
    fn a_classic_member_s_assignment_is_read_as_far_as_it_can_be_trusted() {
        let of = |name, partitions: &[i32]| {
            TopicPartition::default().with_topic(topic_name(name)).with_partitions(partitions.to_vec())
        };
        let assignment = ConsumerProtocolAssignment::default()
            .with_assigned_partitions(vec![of("orders", &[2, 0, 1]), of("payments", &[4])])
            .with_user_data(Some(b"anything".as_slice().into()));
        for version in 0..=3_i16 {
            let mut bytes = BytesMut::from(version.to_be_bytes().as_slice());
            assignment.encode(&mut bytes, version).expect("it can be encoded");
            assert_eq!(crate::cli::partitions::text(&assigned(&bytes)), "orders:0-2 payments:4");
            // what is cut is none, and no number in it is believed
            assert_eq!(assigned(&bytes[..12]), Partitions::new());
            bytes[2..6].copy_from_slice(&i32::MAX.to_be_bytes());
            assert_eq!(assigned(&bytes), Partitions::new());
        }
        assert_eq!(assigned(&[]), Partitions::new());
    }
}

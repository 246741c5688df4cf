//! What classic members say to each other, and the assignment that their leader makes.

use std::collections::{BTreeMap, BTreeSet};

use bytes::Bytes;

use super::Part;
use crate::coordinator::record::{NamedPartitions, Subscription};

/// Kafka's ConsumerProtocolSubscription, version 1.
pub fn subscription(topics: &BTreeSet<String>, owned: &BTreeSet<Part>) -> Bytes {
    let mut out = vec![0, 1];
    put_count(topics.len(), &mut out);
    topics.iter().for_each(|topic| put_text(topic, &mut out));
    out.extend((-1_i32).to_be_bytes());
    let owned = named(owned);
    put_count(owned.len(), &mut out);
    for (topic, partitions) in owned {
        put_text(&topic, &mut out);
        put_count(partitions.len(), &mut out);
        partitions.iter().for_each(|partition| out.extend(partition.to_be_bytes()));
    }
    out.into()
}

fn put_text(text: &str, out: &mut Vec<u8>) {
    out.extend(i16::try_from(text.len()).expect("a name is short").to_be_bytes());
    out.extend(text.as_bytes());
}

fn put_count(count: usize, out: &mut Vec<u8>) {
    out.extend(i32::try_from(count).expect("a few").to_be_bytes());
}

pub fn named(parts: &BTreeSet<Part>) -> NamedPartitions {
    let mut named: BTreeMap<&str, Vec<i32>> = BTreeMap::new();
    for (topic, partition) in parts {
        named.entry(topic).or_default().push(*partition);
    }
    named.into_iter().map(|(topic, partitions)| (topic.to_owned(), partitions)).collect()
}

pub fn parts(named: &NamedPartitions) -> BTreeSet<Part> {
    let parts = named.iter().flat_map(|(topic, partitions)| partitions.iter().map(|at| (topic.clone(), *at)));
    parts.collect()
}

/// Who is to have what. Cooperative: what another member has nobody gets, until that one has given it up.
pub fn assign(
    topics: &[(String, i32)],
    members: &[(String, Subscription)],
    is_cooperative: bool,
) -> BTreeMap<String, BTreeSet<Part>> {
    let mut assigned: BTreeMap<String, BTreeSet<Part>> =
        members.iter().map(|(id, _)| (id.clone(), BTreeSet::new())).collect();
    let all =
        topics.iter().map(|(_, partitions)| usize::try_from(*partitions).expect("a count")).sum::<usize>();
    let quota = all.div_ceil(members.len().max(1));
    for (topic, partitions) in topics {
        let readers: Vec<&str> = (members.iter())
            .filter(|(_, said)| said.topics.contains(topic))
            .map(|(id, _)| id.as_str())
            .collect();
        for part in (0..*partitions).map(|partition| (topic.clone(), partition)) {
            let owner = members.iter().find(|(_, said)| is_cooperative && parts(&said.owned).contains(&part));
            let owner = owner.map(|(id, _)| id.as_str());
            let least = readers.iter().copied().min_by_key(|id| assigned[*id].len());
            let may_keep = |owner: &&str| assigned[*owner].len() < quota || least == Some(*owner);
            let keeps = owner.filter(|owner| readers.contains(owner) && may_keep(owner));
            match (keeps, owner) {
                (Some(owner), _) => assigned.get_mut(owner).expect("a member").insert(part),
                (None, Some(_)) => false,
                (None, None) => least.is_some_and(|id| assigned.get_mut(id).expect("a member").insert(part)),
            };
        }
    }
    assigned
}

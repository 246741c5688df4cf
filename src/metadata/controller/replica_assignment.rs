//! Which brokers carry a new topic's partitions: leaders striped over the brokers, replicas over the racks.

use std::collections::BTreeMap;

use crate::metadata::record::Registration;
use crate::model::BrokerId;

/// Replicas of each partition, the preferred leader first; `None` if there are fewer brokers than replicas.
/// `start` says where the stripe begins, so that the first partitions of all topics do not meet on one broker.
///
/// Leaders go round the brokers. The followers of a leader are the brokers after it, those of racks the partition has
/// not used first; each round begins one further on, so that a broker's followers are not always the same.
pub(super) fn assign(
    brokers: &[&Registration],
    partitions: usize,
    replicas: usize,
    start: u64,
) -> Option<Vec<Vec<BrokerId>>> {
    if replicas == 0 || replicas > brokers.len() {
        return None;
    }
    let order = interleave_racks(brokers);
    let count = order.len();
    let start = usize::try_from(start % count as u64).expect("less than the count");
    Some(
        (start..start + partitions)
            .map(|stripe| {
                let leader = stripe % count;
                let shift = (stripe - start) / count;
                let others = count - 1;
                let followers = (0..others).map(|step| (leader + 1 + (step + shift) % others) % count);
                pick(&order, leader, followers, replicas)
            })
            .collect(),
    )
}

fn pick(
    order: &[&Registration],
    leader: usize,
    followers: impl Iterator<Item = usize> + Clone,
    replicas: usize,
) -> Vec<BrokerId> {
    let mut chosen = vec![leader];
    for candidate in followers.clone() {
        let rack = order[candidate].rack.as_ref();
        if chosen.len() < replicas
            && rack.is_some()
            && chosen.iter().all(|&at| order[at].rack.as_ref() != rack)
        {
            chosen.push(candidate);
        }
    }
    for candidate in followers {
        if chosen.len() < replicas && !chosen.contains(&candidate) {
            chosen.push(candidate);
        }
    }
    chosen.into_iter().map(|at| order[at].broker).collect()
}

/// One broker of each rack in turn, so that neighbours differ in rack where they can.
fn interleave_racks<'a>(brokers: &[&'a Registration]) -> Vec<&'a Registration> {
    let mut racks: BTreeMap<Option<&str>, Vec<&Registration>> = BTreeMap::new();
    for broker in brokers {
        racks.entry(broker.rack.as_deref()).or_default().push(broker);
    }
    let longest = racks.values().map(Vec::len).max().unwrap_or(0);
    (0..longest).flat_map(|turn| racks.values().filter_map(move |rack| rack.get(turn).copied())).collect()
}

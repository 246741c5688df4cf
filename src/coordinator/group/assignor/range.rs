//! `range`: of each topic a member gets partitions that follow each other. Where topics have as many partitions and the same
//! subscribers, a member gets the same ones of each (so that they can be joined). Static members come first, by their
//! instance ids: they keep their place, and so what they have, when they come back under another member id.

use std::collections::BTreeMap;

use super::{Partitions, Spec};
use crate::model::TopicId;

/// How far a topic has been given out.
struct Ranges {
    /// What each subscriber gets at least.
    each: i32,
    /// So many subscribers that have not had their turn get one more.
    extra: i32,
    next: i32,
}

pub(super) fn assign(spec: &Spec) -> Vec<Partitions> {
    let mut subscribers: BTreeMap<TopicId, i32> = BTreeMap::new();
    for topic in spec.members.iter().flat_map(|member| member.topics.iter()) {
        *subscribers.entry(*topic).or_default() += 1;
    }
    let mut topics: BTreeMap<TopicId, Ranges> = (subscribers.into_iter())
        .map(|(topic, count)| {
            let partitions = spec.partition_counts[&topic];
            (topic, Ranges { each: partitions / count, extra: partitions % count, next: 0 })
        })
        .collect();

    let mut order: Vec<usize> = (0..spec.members.len()).collect();
    order.sort_by_key(|&at| {
        let member = &spec.members[at];
        (member.instance.is_none(), member.instance, member.id)
    });
    let mut assigned = vec![Partitions::new(); spec.members.len()];
    for at in order {
        for topic in spec.members[at].topics.iter() {
            let ranges = topics.get_mut(topic).expect("each member's topics were counted");
            let end = ranges.next + ranges.each + i32::from(ranges.extra > 0);
            if ranges.next < end {
                assigned[at].insert(*topic, (ranges.next..end).collect());
            }
            ranges.next = end;
            ranges.extra -= 1;
        }
    }
    assigned
}

//! What coordinators write, read as it comes: the records follow from each other.

use std::collections::{BTreeMap, BTreeSet};
use std::rc::Rc;
use std::time::Duration;

use super::{World, chance};
use crate::coordinator::record::{EpochPartitions, LogRecord, Record};
use crate::metadata::OFFSETS_TOPIC;
use crate::model::{Offset, PartitionId, TopicId};
use crate::partition::Shard;
use crate::protocol::batch::{Batches, HEADER_BYTES};
use crate::protocol::records::Records;
use crate::reactor;

/// More often than the cleaner takes records away.
const INTERVAL: Duration = Duration::from_millis(500);

/// Of a group of which there is no record yet.
const FIRST_EPOCH: i32 = 1;

/// Of a static member that will be back.
const AWAY: i32 = -2;

type Owned = BTreeSet<(TopicId, i32)>;

/// The groups of a partition of `__consumer_offsets`.
#[derive(Default)]
pub struct Journal {
    next: Offset,
    groups: BTreeMap<String, Group>,
}

#[derive(Default)]
struct Group {
    generation: i32,
    epoch: i32,
    target_epoch: i32,
    members: BTreeMap<String, Member>,
}

#[derive(Default)]
struct Member {
    topics: Vec<String>,
    epoch: i32,
    assigned: Owned,
    revoking: Owned,
    target: Owned,
}

/// Reads what the coordinators of a shard write while the node lives, and loads them anew now and then.
pub async fn watch(world: Rc<World>, shard: Rc<Shard>) {
    loop {
        let topic =
            shard.image().topic_by_name(OFFSETS_TOPIC).map(|topic| (topic.id, topic.partitions.len()));
        if let Some((topic, count)) = topic {
            for index in 0..i32::try_from(count).expect("few") {
                let partition = PartitionId { topic, index };
                read(&world, &shard, partition).await;
                if chance(10) {
                    shard.check_coordinator(partition).await;
                }
            }
        }
        reactor::sleep(INTERVAL).await;
    }
}

/// What is durable and was not read.
async fn read(world: &World, shard: &Rc<Shard>, partition: PartitionId) {
    let Some(log) = shard.log(partition) else { return };
    let known = world.journals.borrow_mut().remove(&partition);
    // what was there before this life is taken as it is: the cleaner has taken records from between
    let is_followed = known.is_some();
    let mut journal = known.unwrap_or_default();
    loop {
        let limit = log.durable_end();
        if journal.next >= limit {
            break;
        }
        let Ok(slices) = log.read(journal.next, limit, 1 << 16, true).await else { break };
        for batch in Batches::new(&slices.parts.concat()) {
            let (header, batch) = batch.expect("what was written");
            let body = &batch[HEADER_BYTES..];
            for record in Records::new(&header, body) {
                let record = record.expect("what was written");
                let key = record.key.map_or(&[][..], |range| &body[range]);
                let record = Record::decode(key, record.value.map(|range| &body[range]));
                let record = record.expect("what was written").expect("of a group");
                journal.apply(world, shard, record, is_followed);
            }
        }
        journal.next = slices.next;
    }
    world.journals.borrow_mut().insert(partition, journal);
}

impl Journal {
    fn apply(&mut self, world: &World, shard: &Shard, record: Record, is_followed: bool) {
        let place = || format!("{}, {}", world.place(), record.group());
        let group = self.groups.entry(record.group().to_owned()).or_default();
        match &record {
            Record::ClassicGroup { value, .. } => {
                let generation = value.as_ref().map_or(0, |value| value.generation);
                let goes_back = value.is_some() && generation < group.generation;
                assert!(!is_followed || !goes_back, "{}: a generation goes back: {record:?}", place());
                group.generation = generation;
            }
            Record::ConsumerGroup { value, .. } => {
                let epoch = value.as_ref().map_or(0, |value| value.epoch);
                let goes_back = value.is_some() && epoch < group.epoch;
                assert!(!is_followed || !goes_back, "{}: an epoch goes back: {record:?}", place());
                group.epoch = epoch;
            }
            Record::TargetEpoch { value, .. } => {
                let epoch = value.as_ref().map_or(0, |value| value.epoch);
                let is_wrong = value.is_some() && (epoch < group.target_epoch || epoch > group.epoch);
                assert!(!is_followed || !is_wrong, "{}: {record:?} of epoch {}", place(), group.epoch);
                group.target_epoch = epoch;
            }
            Record::ConsumerMember { member, value: Some(value), .. } => {
                group.members.entry(member.clone()).or_default().topics.clone_from(&value.topics);
            }
            Record::ConsumerMember { member, value: None, .. } => {
                group.members.remove(member);
            }
            Record::TargetMember { member, value, .. } => {
                let member = group.members.entry(member.clone()).or_default();
                let target = value.iter().flatten();
                member.target =
                    target.flat_map(|of| of.partitions.iter().map(|at| (of.topic, *at))).collect();
            }
            Record::CurrentAssignment { member, value, .. } => {
                let now = value.as_ref().map_or_else(Member::default, |value| Member {
                    epoch: value.epoch,
                    assigned: owned(&value.assigned),
                    revoking: owned(&value.revoking),
                    ..Member::default()
                });
                if is_followed && value.is_some() {
                    group.check(shard, member, &now, &place);
                }
                let member = group.members.entry(member.clone()).or_default();
                (member.epoch, member.assigned, member.revoking) = (now.epoch, now.assigned, now.revoking);
            }
            Record::Offset { .. } | Record::Regex { .. } => {}
        }
    }
}

impl Group {
    /// A member is about to be this.
    fn check(&self, shard: &Shard, id: &str, now: &Member, place: &impl Fn() -> String) {
        for (other_id, other) in self.members.iter().filter(|(other_id, _)| *other_id != id) {
            let has = |part: &&(TopicId, i32)| other.assigned.contains(part) || other.revoking.contains(part);
            let shared: Vec<_> = now.assigned.iter().chain(&now.revoking).filter(has).collect();
            assert!(shared.is_empty(), "{}: {shared:?} are of {id} and of {other_id}", place());
        }
        assert!(
            now.epoch <= self.epoch.max(FIRST_EPOCH),
            "{}: {id} is in epoch {} before the group is",
            place(),
            now.epoch
        );
        let Some(before) = self.members.get(id) else { return };
        assert!(
            now.epoch >= before.epoch || now.epoch == AWAY,
            "{}: {id} goes back from epoch {} to {}",
            place(),
            before.epoch,
            now.epoch
        );
        // what is its own by its target stays with it: no gap
        let image = shard.image();
        for (topic, partition) in before.assigned.difference(&now.assigned) {
            let reads = image.topic(*topic).is_some_and(|topic| before.topics.contains(&topic.name));
            assert!(
                !reads || !before.target.contains(&(*topic, *partition)),
                "{}: {topic:?}-{partition} is taken from {id}, whose it is to be",
                place()
            );
        }
    }
}

fn owned(list: &[EpochPartitions]) -> Owned {
    list.iter().flat_map(|of| of.partitions.iter().map(|at| (of.topic, *at))).collect()
}

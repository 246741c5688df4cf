//! How far behind the groups of this node are.

use std::collections::{BTreeSet, HashMap};
use std::rc::Rc;
use std::sync::Arc;

use super::{Shard, Stage};
use crate::coordinator::group::GroupProgress;
use crate::metrics::{GroupLag, PartitionLag, snapshot};
use crate::model::{PartitionId, ShardId};
use crate::partition::message::{ShardReply, ShardRequest};
use crate::reactor;

/// Groups looked at before the rest of the shard gets a turn: some 100 µs, if each reads ten partitions.
const GROUPS_IN_A_ROW: usize = 64;

impl Shard {
    /// Of every group this node coordinates, in the order of their ids.
    pub async fn group_lags(self: &Rc<Self>) -> Vec<GroupLag> {
        let mut groups = Vec::new();
        for shard in 0..reactor::shard_count() {
            let to = ShardId(u16::try_from(shard).expect("shards are few"));
            let ShardReply::GroupProgress(of_shard) = self.ask(to, ShardRequest::GroupProgress).await else {
                unreachable!("GroupProgress is answered in kind")
            };
            groups.extend(of_shard);
        }
        groups.sort_unstable_by(|a, b| a.group.cmp(&b.group));
        let read: BTreeSet<PartitionId> = groups.iter().flat_map(|group| self.partitions_of(group)).collect();
        let logs = self.describe_logs(Some(Arc::new(read.into_iter().collect()))).await.logs;
        let ends: HashMap<PartitionId, i64> =
            logs.iter().map(|log| (log.partition, log.high_watermark.0)).collect();
        let mut lags = Vec::with_capacity(groups.len());
        for few in groups.chunks(GROUPS_IN_A_ROW) {
            lags.extend(few.iter().map(|group| self.lag(group, &ends)));
            reactor::turn().await;
        }
        lags
    }

    fn partitions_of(&self, group: &GroupProgress) -> Vec<PartitionId> {
        let image = self.image();
        let known = group.offsets.iter().filter_map(|(topic, partition, _)| {
            Some(PartitionId { topic: image.topic_by_name(topic)?.id, index: *partition })
        });
        known.collect()
    }

    fn lag(&self, group: &GroupProgress, ends: &HashMap<PartitionId, i64>) -> GroupLag {
        let image = self.image();
        let partitions = group.offsets.iter().map(|(topic, index, committed)| {
            let id = image.topic_by_name(topic).map(|topic| PartitionId { topic: topic.id, index: *index });
            let end = id.and_then(|id| ends.get(&id));
            PartitionLag {
                topic: topic.clone(),
                partition: *index,
                committed: *committed,
                lag: end.map(|end| end.saturating_sub(*committed).max(0)),
            }
        });
        GroupLag {
            group: group.group.clone(),
            state: group.state,
            protocol: group.protocol,
            members: group.members,
            partitions: partitions.collect(),
        }
    }

    pub(in crate::partition) fn measure_groups(&self) -> snapshot::Groups {
        let mut measured = snapshot::Groups::default();
        for host in self.coordinators().groups.all() {
            measured.coordinators += 1;
            match &*host.machine.borrow() {
                Stage::Running(machine) => {
                    let (groups, members) = machine.size();
                    measured.groups += groups as u64;
                    measured.members += members as u64;
                }
                _ => measured.unavailable += 1,
            }
        }
        measured
    }

    /// Of this shard's coordinators that run. What they tell may not be durable yet: it is for watching.
    pub(in crate::partition) async fn group_progress(self: &Rc<Self>) -> Vec<GroupProgress> {
        let mut groups = Vec::new();
        for host in self.coordinators().groups.all() {
            let mut behind: Option<String> = None;
            loop {
                let few = match &*host.machine.borrow() {
                    Stage::Running(machine) => machine.progress(behind.as_deref(), GROUPS_IN_A_ROW),
                    _ => break,
                };
                let is_last = few.len() < GROUPS_IN_A_ROW;
                behind = few.last().map(|group| group.group.clone());
                groups.extend(few);
                if is_last {
                    break;
                }
                reactor::turn().await;
            }
        }
        groups
    }
}

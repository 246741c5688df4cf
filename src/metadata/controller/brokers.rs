//! What brokers ask for themselves: registration, producer id blocks, where their replicas live.

use super::Controller;
use crate::metadata::record::{PartitionChange, Record, Registration};
use crate::metadata::{AssignedReplica, Endpoint, Partition, Reply, features};
use crate::model::{BrokerEpoch, BrokerId, ErrorCode, LeaderEpoch, PartitionEpoch, PartitionId, ProducerId};

/// Kafka's block size.
const PRODUCER_IDS_PER_BLOCK: i64 = 1_000;

impl Controller {
    /// A new broker epoch, and a new leader epoch for every partition the broker leads: no batch of this life of the
    /// process may carry an epoch of the last. Asking again with the same incarnation changes nothing.
    pub(super) fn register_broker(
        &mut self,
        broker: BrokerId,
        endpoints: Vec<Endpoint>,
        rack: Option<String>,
        incarnation: u128,
        records: &mut Vec<Record>,
    ) -> Reply {
        if self.image.broker(broker).is_some_and(|registration| registration.incarnation == incarnation) {
            return Reply::Done;
        }
        let Some(epoch) = self.image.last_broker_epoch().0.checked_add(1) else {
            return Reply::Failed(ErrorCode::UnknownServerError);
        };
        let Some(changes) = self.leadership_starts(broker) else {
            return Reply::Failed(ErrorCode::UnknownServerError);
        };
        let features = features::supported();
        for feature in &features {
            // the first records of a new log, or of the first version that knows the feature; 0 may have been chosen
            if !self.image.has_feature_level(&feature.name) {
                let level = feature.max;
                self.append(Record::FeatureLevel { name: feature.name.clone(), level }, records);
            }
        }
        let epoch = BrokerEpoch(epoch);
        let registration =
            Registration { broker, incarnation, epoch, rack, endpoints, features, fenced: false };
        self.append(Record::RegisterBroker(registration), records);
        for change in changes {
            self.append(Record::PartitionChange(change), records);
        }
        Reply::Done
    }

    /// The partitions that `broker` leads, or could lead because nobody does and it is in sync. `None`: an epoch is
    /// used up.
    fn leadership_starts(&self, broker: BrokerId) -> Option<Vec<PartitionChange>> {
        let mut changes = Vec::new();
        for topic in self.image.topics() {
            for (index, partition) in (0..).zip(&topic.partitions) {
                let leaderless = partition.leader == BrokerId::NONE && partition.isr.contains(&broker);
                if partition.leader == broker || leaderless {
                    changes.push(PartitionChange {
                        leader: Some(broker),
                        leader_epoch: Some(LeaderEpoch(partition.leader_epoch.0.checked_add(1)?)),
                        ..next_change(PartitionId { topic: topic.id, index }, partition)?
                    });
                }
            }
        }
        Some(changes)
    }

    pub(super) fn allocate_producer_ids(&mut self, broker: BrokerId, records: &mut Vec<Record>) -> Reply {
        let Some(registration) = self.image.broker(broker) else {
            return Reply::Failed(ErrorCode::BrokerIdNotRegistered);
        };
        let broker_epoch = registration.epoch;
        let first = self.image.next_producer_id();
        let Some(next) = first.0.checked_add(PRODUCER_IDS_PER_BLOCK) else {
            return Reply::Failed(ErrorCode::UnknownServerError);
        };
        self.append(Record::ProducerIds { broker, broker_epoch, next: ProducerId(next) }, records);
        Reply::ProducerIds { first, count: PRODUCER_IDS_PER_BLOCK }
    }

    /// Partitions that are gone meanwhile, or have no replica on the broker, are passed over.
    pub(super) fn assign_replicas(
        &mut self,
        broker: BrokerId,
        replicas: &[AssignedReplica],
        records: &mut Vec<Record>,
    ) -> Reply {
        for replica in replicas {
            let id = replica.partition;
            let Some(partition) = self.image.partition(id) else { continue };
            let Some(place) = partition.replicas.iter().position(|&other| other == broker) else { continue };
            let shard_moves = partition.shards[place] != Some(replica.shard);
            if partition.directories[place] != replica.directory {
                let Some(mut change) = next_change(id, partition) else {
                    return Reply::Failed(ErrorCode::UnknownServerError);
                };
                let mut directories = partition.directories.clone();
                directories[place] = replica.directory;
                change.directories = Some(directories);
                self.append(Record::PartitionChange(change), records);
            }
            if shard_moves {
                self.append(Record::ReplicaShard { broker, partition: id, shard: replica.shard }, records);
            }
        }
        Reply::Done
    }
}

/// A change that changes nothing yet. `None`: the partition epoch is used up.
pub(super) fn next_change(id: PartitionId, partition: &Partition) -> Option<PartitionChange> {
    let partition_epoch = PartitionEpoch(partition.partition_epoch.0.checked_add(1)?);
    Some(PartitionChange { partition: id, partition_epoch, ..PartitionChange::default() })
}

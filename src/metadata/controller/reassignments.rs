//! AlterPartitionReassignments (KIP-455, KIP-860). Kafka: ReplicationControlManager.alterPartitionReassignments.
//!
//! Each partition succeeds or fails by itself. The brokers that carry a partition can be put in another order, which
//! says who is to lead; that is done at once, so there is never a reassignment to cancel. Left out: other brokers than
//! those, which replication would have to copy to first.

use super::brokers::next_change;
use super::{Controller, Refusal};
use crate::metadata::record::{PartitionChange, Record};
use crate::metadata::{PartitionResult, Reassignment, Reply};
use crate::model::{BrokerId, DirectoryId, ErrorCode};

impl Controller {
    pub(super) fn reassign_partitions(
        &mut self,
        partitions: Vec<Reassignment>,
        may_change_replication_factor: bool,
        records: &mut Vec<Record>,
    ) -> Reply {
        if partitions.len() > self.settings.changes_per_request_max {
            return Reply::Failed(ErrorCode::PolicyViolation);
        }
        let mut results = Vec::with_capacity(partitions.len());
        for asked in partitions {
            let planned = self.plan_reassignment(&asked, may_change_replication_factor);
            let refusal = match planned {
                Ok(change) => {
                    if let Some(change) = change {
                        self.append(Record::PartitionChange(change), records);
                    }
                    None
                }
                Err(refusal) => Some(refusal),
            };
            results.push(PartitionResult::of(asked.partition, refusal));
        }
        Reply::Partitions(results)
    }

    /// `None`: it is so already.
    fn plan_reassignment(
        &self,
        asked: &Reassignment,
        may_change_replication_factor: bool,
    ) -> Result<Option<PartitionChange>, Refusal> {
        let (id, partition) = self.find(&asked.partition)?;
        let Some(replicas) = &asked.replicas else {
            let message = "no partition reassignment is in progress".to_owned();
            return Err((ErrorCode::NoReassignmentInProgress, message));
        };
        let invalid = |why: String| (ErrorCode::InvalidReplicaAssignment, why);
        self.check_replicas(replicas).map_err(invalid)?;
        let (current, wanted) = (partition.replicas.len(), replicas.len());
        if current != wanted && !may_change_replication_factor {
            let message = format!("the replication factor would change from {current} to {wanted}");
            return Err((ErrorCode::InvalidReplicationFactor, message));
        }
        if *replicas == partition.replicas {
            return Ok(None);
        }
        let directory = |&broker: &BrokerId| partition.directory_of(broker);
        let directories: Option<Vec<DirectoryId>> = replicas.iter().map(directory).collect();
        let directories = directories.filter(|_| current == wanted).ok_or_else(|| {
            invalid("a partition cannot be moved to other brokers: there is no replication".to_owned())
        })?;
        let change = next_change(id, partition)
            .ok_or((ErrorCode::UnknownServerError, "the partition's epochs are used up".to_owned()))?;
        Ok(Some(PartitionChange {
            replicas: Some(replicas.clone()),
            directories: Some(directories),
            ..change
        }))
    }
}

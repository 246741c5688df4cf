//! ElectLeaders (KIP-183, KIP-460). Kafka: ReplicationControlManager.electLeaders, PartitionChangeBuilder.
//!
//! Each partition succeeds or fails by itself. The preferred leader is the first replica; it must be alive and in
//! sync, or in the ELR where nobody is in sync. An unclean election is for partitions without a leader: where no such
//! replica is left it takes the first that is alive, and what only the others had is lost.

use super::brokers::next_change;
use super::{Controller, Refusal};
use crate::metadata::record::{PartitionChange, Record};
use crate::metadata::{Election, Partition, PartitionRef, PartitionResult, Reply};
use crate::model::{BrokerId, ErrorCode, LeaderEpoch, PartitionId};

impl Controller {
    /// `None`: every partition, of which only those are told that need an election.
    pub(super) fn elect_leaders(
        &mut self,
        election: Election,
        partitions: Option<Vec<PartitionRef>>,
        records: &mut Vec<Record>,
    ) -> Reply {
        let is_needed = |partition: &&PartitionRef| {
            self.find(partition).is_ok_and(|(_, state)| is_needed(election, state))
        };
        let asked = partitions.unwrap_or_else(|| self.leaders_wanted(election));
        if asked.iter().filter(is_needed).count() > self.settings.changes_per_request_max {
            return Reply::Failed(ErrorCode::PolicyViolation);
        }
        let mut results = Vec::with_capacity(asked.len());
        for partition in asked {
            let planned = self.plan_election(election, &partition);
            if let Ok(change) = &planned {
                self.append(Record::PartitionChange(change.clone()), records);
            }
            results.push(PartitionResult::of(partition, planned.err()));
        }
        Reply::Partitions(results)
    }

    fn leaders_wanted(&self, election: Election) -> Vec<PartitionRef> {
        let mut wanted = Vec::new();
        for topic in self.image.topics() {
            for (index, partition) in (0..).zip(&topic.partitions) {
                if is_needed(election, partition) {
                    wanted.push(PartitionRef { topic: topic.name.clone(), index });
                }
            }
        }
        wanted
    }

    fn plan_election(&self, election: Election, asked: &PartitionRef) -> Result<PartitionChange, Refusal> {
        let (id, partition) = self.find(asked)?;
        if !is_needed(election, partition) {
            return Err((ErrorCode::ElectionNotNeeded, "the leader needs no election".to_owned()));
        }
        let none = match election {
            Election::Preferred => {
                (ErrorCode::PreferredLeaderNotAvailable, "the preferred leader is not available")
            }
            Election::Unclean => (ErrorCode::EligibleLeadersNotAvailable, "no replica is alive"),
        };
        let elected = self.elected(election, partition).filter(|&elected| elected != partition.leader);
        let elected = elected.ok_or((none.0, none.1.to_owned()))?;
        start_of_leadership(id, partition, elected)
            .ok_or((ErrorCode::UnknownServerError, "the partition's epochs are used up".to_owned()))
    }

    fn elected(&self, election: Election, partition: &Partition) -> Option<BrokerId> {
        let is_alive = |broker: &BrokerId| !self.is_fenced(*broker);
        let may_lead = |broker: &BrokerId| {
            let safe = if partition.isr.is_empty() { &partition.elr } else { &partition.isr };
            safe.contains(broker) && is_alive(broker)
        };
        let replicas = &partition.replicas;
        match election {
            Election::Preferred if replicas.first().is_some_and(may_lead) => replicas.first().copied(),
            Election::Preferred if may_lead(&partition.leader) => Some(partition.leader),
            Election::Preferred => replicas.iter().copied().find(may_lead),
            Election::Unclean => {
                replicas.iter().copied().find(may_lead).or_else(|| replicas.iter().copied().find(is_alive))
            }
        }
    }
}

fn is_needed(election: Election, partition: &Partition) -> bool {
    match election {
        Election::Preferred => partition.replicas.first() != Some(&partition.leader),
        Election::Unclean => partition.leader == BrokerId::NONE,
    }
}

/// One that was not in sync is from now on, and nobody else. `None`: an epoch is used up.
fn start_of_leadership(id: PartitionId, partition: &Partition, leader: BrokerId) -> Option<PartitionChange> {
    let alone = !partition.isr.contains(&leader);
    Some(PartitionChange {
        leader: Some(leader),
        leader_epoch: Some(LeaderEpoch(partition.leader_epoch.0.checked_add(1)?)),
        isr: alone.then(|| vec![leader]),
        elr: alone.then(Vec::new),
        ..next_change(id, partition)?
    })
}

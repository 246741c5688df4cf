//! What the simulation of consumer groups looks at.

use std::rc::Rc;

use super::{Coordinators, Host, Hosted, Shard, Stage, load};
use crate::coordinator::group::GroupCoordinator;
use crate::coordinator::transaction::TransactionCoordinator;
use crate::model::PartitionId;

impl Shard {
    /// Loads the groups of a partition a second time and compares. Whether that could be done: the coordinator may not run,
    /// or have more to write than the disk has.
    ///
    /// # Panics
    /// If they are not the same.
    pub async fn check_coordinator(self: &Rc<Self>, partition: PartitionId) -> bool {
        // the machine and the log it has read are of one moment: there is no await behind the last look at the log's end
        let Ok(loaded) = load::load::<GroupCoordinator>(self, partition).await else { return false };
        let Some(host) = self.coordinators().groups.get(partition) else { return false };
        let machine = host.machine.borrow();
        let Stage::Running(machine) = &*machine else { return false };
        machine.assert_same(&loaded);
        true
    }

    /// Coordinators that could not write what they had decided, or not read their log.
    pub fn failed_coordinators(&self) -> usize {
        fn failed<M: Hosted>(coordinators: &Coordinators) -> usize {
            let has_failed = |host: &Rc<Host<M>>| matches!(*host.machine.borrow(), Stage::Failed);
            M::hosts(coordinators).all().iter().filter(|host| has_failed(host)).count()
        }
        let coordinators = self.coordinators();
        failed::<GroupCoordinator>(coordinators) + failed::<TransactionCoordinator>(coordinators)
    }
}

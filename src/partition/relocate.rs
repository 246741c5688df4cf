//! Logs that are to move to another log directory of this node: the requests, and what the metadata says at their end.

use std::rc::Rc;
use std::time::Duration;

use super::error::error_code;
use super::message::{RelocatePartition, ShardReply, ShardRequest};
use super::shard::{Shard, place};
use crate::metadata::{self, AssignedReplica};
use crate::model::{DirectoryId, ErrorCode, PartitionId};
use crate::reactor;
use crate::storage::Assigned;

/// When the controller has too much to do.
const CONTROL_PAUSE: Duration = Duration::from_millis(100);

impl Shard {
    /// Has logs move, or stay where they are; answers when that is noted, in the order of `moves`. The moves themselves
    /// take their time.
    pub async fn relocate(self: &Rc<Self>, moves: Vec<RelocatePartition>) -> Vec<ErrorCode> {
        let mut outcomes = vec![ErrorCode::ReplicaNotAvailable; moves.len()];
        let split = self.split(moves, |relocate| relocate.partition);
        let mut remote = Vec::with_capacity(split.remote.len());
        for (owner, part) in split.remote {
            let ticket = self.router.ticket(owner).await;
            remote.push((part.places, self.router.send(ticket, ShardRequest::Relocate(part.items))));
        }
        place(&mut outcomes, &split.local.places, self.relocate_local(split.local.items).await);
        for (places, receiver) in remote {
            let Some(ShardReply::Relocate(part)) = receiver.await else {
                unreachable!("Relocate is answered in kind")
            };
            place(&mut outcomes, &places, part);
        }
        outcomes
    }

    pub(super) async fn relocate_local(&self, moves: Vec<RelocatePartition>) -> Vec<ErrorCode> {
        let mut outcomes = Vec::with_capacity(moves.len());
        for RelocatePartition { partition, directory } in moves {
            let Some(found) = self.local(partition) else {
                outcomes.push(ErrorCode::ReplicaNotAvailable);
                continue;
            };
            outcomes.push(match &found.log {
                Some(log) => self
                    .storage()
                    .relocate(log, directory)
                    .await
                    .map_or_else(error_code, |()| ErrorCode::None),
                None => ErrorCode::KafkaStorageError,
            });
        }
        outcomes
    }

    /// Has the metadata say that this partition's log is in that directory; it does when this returns `Yes`.
    pub(super) async fn assign(&self, partition: PartitionId, directory: DirectoryId) -> Assigned {
        let replica = AssignedReplica { partition, directory, shard: self.id() };
        loop {
            let request =
                metadata::Request::AssignReplicas { broker: self.broker(), replicas: vec![replica] };
            match self.control(request).await {
                metadata::Reply::Failed(ErrorCode::RequestTimedOut) => reactor::sleep(CONTROL_PAUSE).await,
                metadata::Reply::Done => break,
                _ => return Assigned::No,
            }
        }
        let recorded =
            self.image().partition(partition).and_then(|partition| partition.directory_of(self.broker()));
        if recorded == Some(directory) { Assigned::Yes } else { Assigned::No }
    }
}

//! What the logs of this node are like: where each lies, how large it is, where it ends.

use std::rc::Rc;
use std::sync::Arc;

use super::METADATA_PARTITION;
use super::leader::Partition;
use super::message::{LogDescription, ShardLogs, ShardReply, ShardRequest};
use super::shard::Shard;
use crate::model::{PartitionId, ShardId};
use crate::reactor::turn;
use crate::storage::Storage;

/// Logs described before the rest of the shard gets a turn: some 50 µs.
const LOGS_IN_A_ROW: usize = 1000;

impl Shard {
    /// The logs of all shards, in no order, and the log directories. `None`: every log but the metadata log; else those
    /// of these partitions that are open on this node.
    pub async fn describe_logs(self: &Rc<Self>, asked: Option<Arc<Vec<PartitionId>>>) -> ShardLogs {
        let mut remote = Vec::new();
        for to in self.router.others(self.id()) {
            let ticket = self.router.ticket(to).await;
            remote.push(self.router.send(ticket, ShardRequest::DescribeLogs(asked.clone())));
        }
        let mut all = self.describe_logs_local(asked).await;
        for receiver in remote {
            let Some(ShardReply::Logs(logs)) = receiver.await else {
                unreachable!("DescribeLogs is answered in kind")
            };
            all.logs.extend(logs.logs);
            for directory in logs.directories.into_iter().filter(|directory| !directory.online) {
                let known = all.directories.iter_mut().filter(|known| known.id == directory.id);
                known.for_each(|known| known.online = false);
            }
        }
        all
    }

    /// As [`Self::describe_logs`], of this shard alone: its logs, and the log directories as it sees them.
    pub async fn describe_logs_of(
        self: &Rc<Self>,
        shard: ShardId,
        asked: Option<Arc<Vec<PartitionId>>>,
    ) -> ShardLogs {
        let ShardReply::Logs(logs) = self.ask(shard, ShardRequest::DescribeLogs(asked)).await else {
            unreachable!("DescribeLogs is answered in kind")
        };
        logs
    }

    /// The metadata log, which is on shard 0; `None` if it is not open.
    pub async fn describe_metadata_log(self: &Rc<Self>) -> Option<LogDescription> {
        let asked = Some(Arc::new(vec![METADATA_PARTITION]));
        self.describe_logs_of(ShardId::ZERO, asked).await.logs.first().copied()
    }

    pub(super) async fn describe_logs_local(&self, asked: Option<Arc<Vec<PartitionId>>>) -> ShardLogs {
        let partitions: Vec<Rc<Partition>> = {
            let open = self.partitions.borrow();
            match &asked {
                None => open
                    .values()
                    .filter(|partition| partition.id != METADATA_PARTITION)
                    .map(Rc::clone)
                    .collect(),
                Some(asked) => asked.iter().filter_map(|id| open.get(id).map(Rc::clone)).collect(),
            }
        };
        let mut logs = Vec::with_capacity(partitions.len());
        for few in partitions.chunks(LOGS_IN_A_ROW) {
            logs.extend(few.iter().filter_map(|partition| describe(partition, self.storage())));
            if few.len() == LOGS_IN_A_ROW {
                turn().await;
            }
        }
        ShardLogs { directories: self.storage().directories(), logs }
    }
}

fn describe(partition: &Partition, storage: &Storage) -> Option<LogDescription> {
    let log = partition.log.as_ref()?;
    Some(LogDescription {
        partition: partition.id,
        directory: partition.directory(),
        size_bytes: log.size_bytes(),
        start_offset: log.start_offset(),
        end_offset: log.end_offset(),
        high_watermark: partition.high_watermark(),
        leader_epoch: partition.leader_epoch.get(),
        future: storage.future(partition.id),
    })
}

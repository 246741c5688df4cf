//! The producers that partitions know, for whoever looks for a transaction that hangs.

use std::rc::Rc;

use super::message::{ShardReply, ShardRequest};
use super::shard::{Shard, place};
use crate::log::producer_state::ActiveProducer;
use crate::model::{ErrorCode, LeaderEpoch, PartitionId};
use crate::reactor::turn;

/// Copied before the rest of the shard gets a turn: some 50 µs.
const PRODUCERS_IN_A_ROW: usize = 1_000;

impl Shard {
    /// Of each partition, by producer id, as of its log's end.
    pub async fn describe_producers(
        self: &Rc<Self>,
        partitions: Vec<PartitionId>,
    ) -> Vec<Result<Vec<ActiveProducer>, ErrorCode>> {
        let mut answers = vec![Err(ErrorCode::UnknownTopicOrPartition); partitions.len()];
        let split = self.split(partitions, |partition| *partition);
        for (owner, part) in split.remote {
            let reply = self.router.ask(owner, ShardRequest::DescribeProducers(part.items)).await;
            let ShardReply::Producers(found) = reply else {
                unreachable!("DescribeProducers is answered in kind")
            };
            place(&mut answers, &part.places, found);
        }
        let local = self.describe_producers_local(&split.local.items).await;
        place(&mut answers, &split.local.places, local);
        answers
    }

    pub(super) async fn describe_producers_local(
        &self,
        partitions: &[PartitionId],
    ) -> Vec<Result<Vec<ActiveProducer>, ErrorCode>> {
        let mut answers = Vec::with_capacity(partitions.len());
        for &partition in partitions {
            answers.push(self.producers_of(partition).await);
        }
        answers
    }

    async fn producers_of(&self, partition: PartitionId) -> Result<Vec<ActiveProducer>, ErrorCode> {
        let (_, log) = self.led_log(partition, LeaderEpoch::NONE)?;
        let mut all = Vec::new();
        loop {
            let after = all.last().map(|last: &ActiveProducer| last.id);
            let some = log.active_producers(after, PRODUCERS_IN_A_ROW);
            let is_last = some.len() < PRODUCERS_IN_A_ROW;
            all.extend(some);
            if is_last {
                return Ok(all);
            }
            turn().await;
        }
    }
}

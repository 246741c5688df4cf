//! Ends of transactions, written to the partitions that took part.

use std::future::Future;
use std::rc::Rc;

use super::leader::{Partition, PendingAppend};
use super::local::LocalAppend;
use super::message::{AppendOutcome, MarkerPartition, ShardReply, ShardRequest};
use super::shard::{Shard, place};
use crate::log::producer_state::NewMarker;
use crate::model::{ErrorCode, Offset, TimestampMs};
use crate::reactor;
use crate::reactor::sync::oneshot;

impl Shard {
    /// Ends transactions in these partitions: answered, in the order of the request, when the markers are durable. A marker
    /// may come again: it is answered as the first time. UNKNOWN_TOPIC_OR_PARTITION where there is no such partition (any
    /// more), NOT_LEADER_OR_FOLLOWER where it is not open yet.
    pub async fn write_markers(self: &Rc<Self>, markers: Vec<MarkerPartition>) -> Vec<ErrorCode> {
        let known = |marker: &MarkerPartition| self.image().partition(marker.partition).is_some();
        let mut outcomes: Vec<ErrorCode> = (markers.iter())
            .map(|marker| match known(marker) {
                true => ErrorCode::NotLeaderOrFollower,
                false => ErrorCode::UnknownTopicOrPartition,
            })
            .collect();
        let split = self.split(markers, |marker| marker.partition);
        let mut remote = Vec::with_capacity(split.remote.len());
        for (owner, part) in split.remote {
            let ticket = self.router.ticket(owner).await;
            remote.push((part.places, self.router.send(ticket, ShardRequest::WriteMarkers(part.items))));
        }
        let local = self.write_markers_local(&split.local.items).await;
        place(&mut outcomes, &split.local.places, local);
        for (places, receiver) in remote {
            let Some(ShardReply::Markers(part)) = receiver.await else {
                unreachable!("WriteMarkers is answered in kind")
            };
            place(&mut outcomes, &places, part);
        }
        outcomes
    }

    /// Fixes the order of all markers before it returns.
    pub(super) fn write_markers_local(
        &self,
        markers: &[MarkerPartition],
    ) -> impl Future<Output = Vec<ErrorCode>> + use<> {
        let now = TimestampMs(reactor::wall_clock_ms());
        let mut outcomes = Vec::with_capacity(markers.len());
        let mut waits: Vec<(usize, Rc<Partition>, Offset)> = Vec::new();
        for (place, marker) in markers.iter().enumerate() {
            outcomes.push(AppendOutcome::failed(match self.write_marker(marker, now) {
                Ok((partition, end)) => {
                    if end > partition.high_watermark() {
                        waits.push((place, partition, end));
                    }
                    ErrorCode::None
                }
                Err(error) => error,
            }));
        }
        let written = if waits.is_empty() {
            LocalAppend::Settled(outcomes)
        } else {
            let (sender, receiver) = oneshot();
            let request = PendingAppend::new(outcomes, waits.len(), sender);
            for (place, partition, end) in waits {
                partition.wait_for(end, None, Rc::clone(&request), place);
            }
            LocalAppend::Waiting(receiver)
        };
        async move { written.outcomes().await.iter().map(|outcome| outcome.error).collect() }
    }

    /// The marker's place in its partition's log, and what must be durable for it. One of `__consumer_offsets` ends the
    /// transaction for the groups of that partition, too.
    fn write_marker(
        &self,
        marker: &MarkerPartition,
        now: TimestampMs,
    ) -> Result<(Rc<Partition>, Offset), ErrorCode> {
        let partition = self.local(marker.partition).ok_or(ErrorCode::NotLeaderOrFollower)?;
        let new = NewMarker {
            producer_id: marker.producer_id,
            producer_epoch: marker.producer_epoch,
            coordinator_epoch: marker.coordinator_epoch,
            end: marker.end,
            transaction_version: marker.transaction_version,
        };
        let append = || partition.append_marker(&new, now);
        let end = self.end_transaction(marker.partition, marker.producer_id, marker.end, append)?;
        Ok((partition, end))
    }
}

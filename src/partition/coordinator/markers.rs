//! A transaction that was decided is ended in each of its partitions: a marker goes to the shard of each, again and again
//! until all are written.
//!
//! A marker that comes late would end the producer's next transaction, whose epoch is the same before transaction.version 2. So none is
//! sent for a machine that was dropped, and the machine is told only when every marker is answered; what was sent
//! before comes before, since messages between two shards keep their order.

use std::rc::{Rc, Weak};
use std::time::Duration;

use super::Shard;
use super::host::{Host, Life};
use crate::coordinator::transaction::{TransactionCoordinator, WriteMarkers};
use crate::model::{ErrorCode, LeaderEpoch, PartitionId};
use crate::partition::message::{MarkerPartition, ShardReply, ShardRequest};
use crate::partition::shard::place;
use crate::reactor;

/// Until markers that could not be written are tried again.
const PAUSE: Duration = Duration::from_millis(100);

/// Tries after which the operator is told.
const TOLD_AFTER: u32 = 50;

type TransactionHost = Host<TransactionCoordinator>;

/// Of a partition that has no marker yet: topic and index.
type Unwritten = (String, i32);

/// What is to become of a partition whose marker was answered so.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Verdict {
    Written,
    Again,
    /// A coordinator of a later epoch has taken over.
    Fenced,
}

/// Writes the markers in the background, and tells the machine.
pub(super) fn begin(shard: &Rc<Shard>, host: &Rc<TransactionHost>, command: WriteMarkers) {
    let (shard, host, life) = (Rc::downgrade(shard), Rc::clone(host), host.life());
    reactor::spawn(async move {
        if write(&shard, &host, life, &command).await.is_ok()
            && let Some(shard) = shard.upgrade()
            && host.life() == life
        {
            let _ = shard.turn(&host, |machine, context| machine.markers_written(context, &command.decided));
        }
    });
}

/// It is not for this machine to do any more.
struct CalledOff;

async fn write(
    shard: &Weak<Shard>,
    host: &Rc<TransactionHost>,
    life: Life,
    command: &WriteMarkers,
) -> Result<(), CalledOff> {
    let mut unwritten: Vec<Unwritten> = (command.partitions.iter())
        .flat_map(|(topic, indexes)| indexes.iter().map(|index| (topic.clone(), *index)))
        .collect();
    let mut tries = 0;
    loop {
        let strong = shard.upgrade().ok_or(CalledOff)?;
        unwritten = strong.send_markers(host, life, command, unwritten).await?;
        if unwritten.is_empty() {
            return Ok(());
        }
        tries += 1;
        if tries == TOLD_AFTER {
            tracing::warn!(
                transactional_id = &*command.decided.transactional_id, partitions = unwritten.len(), first = ?unwritten[0],
                "the end of a transaction cannot be written to its partitions; consumers that read what is committed wait \
                 there; trying on"
            );
        }
        drop(strong);
        reactor::sleep(PAUSE).await;
    }
}

impl Shard {
    /// One marker for each partition, side by side. Gives those that are to be tried again.
    async fn send_markers(
        self: &Rc<Self>,
        host: &Rc<TransactionHost>,
        life: Life,
        command: &WriteMarkers,
        partitions: Vec<Unwritten>,
    ) -> Result<Vec<Unwritten>, CalledOff> {
        let epoch = self.local(host.partition).ok_or(CalledOff)?.leader_epoch.get();
        let (partitions, markers) = self.markers(command, epoch, partitions);
        let mut split = self.split(markers, |marker| marker.partition);
        let mut tickets = Vec::with_capacity(split.remote.len());
        for (owner, _) in &split.remote {
            tickets.push(self.router.ticket(*owner).await);
        }
        if host.life() != life || self.coordinators().has_ended() {
            return Err(CalledOff);
        }
        // from here on nothing awaits until all are sent
        let sent: Vec<_> = (split.remote.drain(..).zip(tickets))
            .map(|((_, part), ticket)| {
                (part.places, self.router.send(ticket, ShardRequest::WriteMarkers(part.items)))
            })
            .collect();
        let mut errors = vec![ErrorCode::NotLeaderOrFollower; split.count];
        place(&mut errors, &split.local.places, self.write_markers_local(&split.local.items).await);
        for (places, receiver) in sent {
            let Some(ShardReply::Markers(part)) = receiver.await else {
                unreachable!("WriteMarkers is answered with errors")
            };
            place(&mut errors, &places, part);
        }
        let mut again = Vec::new();
        for (partition, error) in partitions.into_iter().zip(errors) {
            match verdict(command, &partition, error) {
                Verdict::Written => {}
                Verdict::Again => again.push(partition),
                Verdict::Fenced => return Err(CalledOff),
            }
        }
        Ok(again)
    }

    /// Of the partitions that are there: one that is gone needs none.
    fn markers(
        &self,
        command: &WriteMarkers,
        epoch: LeaderEpoch,
        partitions: Vec<Unwritten>,
    ) -> (Vec<Unwritten>, Vec<MarkerPartition>) {
        let image = self.image();
        let markers = partitions.into_iter().filter_map(|(name, index)| {
            let topic = image.topic_by_name(&name)?;
            let partition = PartitionId { topic: topic.id, index };
            image.partition(partition)?;
            let marker = MarkerPartition {
                partition,
                producer_id: command.decided.producer_id,
                producer_epoch: command.decided.producer_epoch,
                coordinator_epoch: epoch.0,
                end: command.end,
                transaction_version: i8::try_from(command.version.0).unwrap_or(i8::MAX),
            };
            Some(((name, index), marker))
        });
        markers.unzip()
    }
}

fn verdict(command: &WriteMarkers, (topic, partition): &Unwritten, error: ErrorCode) -> Verdict {
    let id = &*command.decided.transactional_id;
    match error {
        ErrorCode::None => Verdict::Written,
        ErrorCode::TransactionCoordinatorFenced => {
            tracing::error!(
                transactional_id = id,
                topic,
                partition,
                "a later coordinator has written to a partition of a transaction; this one leaves it to that"
            );
            Verdict::Fenced
        }
        // its producer is known there by a later epoch already, which ends what it had open: no try will find another answer
        ErrorCode::InvalidProducerEpoch => {
            tracing::error!(
                transactional_id = id,
                topic,
                partition,
                "the end of a transaction is refused by a partition that has heard of a later life of the producer"
            );
            Verdict::Written
        }
        // the topic was removed a moment ago, or the partition moves: the next try looks again
        _ => Verdict::Again,
    }
}

//! From any shard to the coordinator of a group.

use std::rc::Rc;
use std::sync::Arc;

use super::{Shard, shards};
use crate::coordinator::group::{Body, Client, GroupCoordinator, Reply, Request};
use crate::metadata::OFFSETS_TOPIC;
use crate::model::{ErrorCode, PartitionId, ShardId};
use crate::partition::message::{ShardReply, ShardRequest, Transaction, TransactionSupport};
use crate::protocol::messages::list_groups_response::ListedGroup;
use crate::reactor;
use crate::reactor::sync::{Receiver, oneshot};

/// Where the records of a group, or of a transactional id, are: by Java's hash of its name.
#[must_use]
pub fn partition_of(name: &str, partitions: usize) -> i32 {
    let hash =
        name.encode_utf16().fold(0_i32, |hash, unit| hash.wrapping_mul(31).wrapping_add(i32::from(unit)));
    let partitions = i32::try_from(partitions).unwrap_or(i32::MAX).max(1);
    (hash & i32::MAX) % partitions
}

impl Shard {
    /// The partition that holds a group's records; `None`: there is no `__consumer_offsets` yet.
    #[must_use]
    pub fn offsets_partition(&self, group: &str) -> Option<PartitionId> {
        self.partition_in(OFFSETS_TOPIC, group)
    }

    /// The partition of a coordinators' topic that holds the records of this name.
    pub(super) fn partition_in(&self, topic: &str, name: &str) -> Option<PartitionId> {
        let image = self.image();
        let topic = image.topic_by_name(topic)?;
        Some(PartitionId { topic: topic.id, index: partition_of(name, topic.partitions.len()) })
    }

    /// Asks the coordinator of one partition of `__consumer_offsets`, wherever it is.
    ///
    /// # Errors
    /// NOT_COORDINATOR and its like: the client looks for the coordinator again.
    pub async fn coordinate(
        self: &Rc<Self>,
        partition: PartitionId,
        request: Request,
    ) -> Result<Reply, ErrorCode> {
        let Some(owner) = self.owner(partition) else { return Err(self.why_nobody_owns(partition)) };
        if owner == self.id() {
            return self.coordinate_for(partition, request).await;
        }
        if !request.body.may_wait() {
            let reply = self.router.ask(owner, ShardRequest::Coordinate { partition, request }).await;
            let ShardReply::Coordinate(reply) = reply else { unreachable!("Coordinate is answered in kind") };
            return reply;
        }
        let id = self.next_wait.get();
        self.next_wait.set(id + 1);
        let (sender, receiver) = oneshot();
        self.coordinators().asked.borrow_mut().insert(id, sender);
        self.router.ask(owner, ShardRequest::CoordinateLater { id, partition, request }).await;
        receiver.await.unwrap_or(Err(ErrorCode::NotCoordinator))
    }

    pub(super) fn why_nobody_owns(&self, partition: PartitionId) -> ErrorCode {
        let is_ours =
            self.image().partition(partition).is_some_and(|partition| partition.leader == self.broker());
        if is_ours { ErrorCode::CoordinatorLoadInProgress } else { ErrorCode::NotCoordinator }
    }

    /// The groups of every coordinator on this node, or on `only` this shard.
    ///
    /// # Errors
    /// A coordinator that cannot tell (yet).
    pub async fn list_groups(
        self: &Rc<Self>,
        only: Option<ShardId>,
        states: Vec<String>,
        types: Vec<String>,
    ) -> Result<Vec<ListedGroup>, ErrorCode> {
        let mut listed = Vec::new();
        for to in shards(only) {
            let request = ShardRequest::ListGroups { states: states.clone(), types: types.clone() };
            let ShardReply::Groups(groups) = self.ask(to, request).await else {
                unreachable!("ListGroups is answered in kind")
            };
            listed.extend(groups?);
        }
        Ok(listed)
    }

    /// As [`Self::list_groups`], of this shard's.
    pub(in crate::partition) async fn list_groups_local(
        self: &Rc<Self>,
        states: Vec<String>,
        types: Vec<String>,
    ) -> Result<Vec<ListedGroup>, ErrorCode> {
        let client = Client { id: String::new(), host: String::new() };
        let request = Request { version: 0, client, body: Body::List { states, types } };
        let mut listed = Vec::new();
        for host in self.coordinators().groups.all() {
            match self.ask_coordinator::<GroupCoordinator>(host.partition, request.clone()) {
                Ok(receiver) => match receiver.await {
                    Some(Reply::List(groups)) => listed.extend(groups),
                    Some(_) => unreachable!("List is answered in kind"),
                    None => {}
                },
                Err(ErrorCode::NotCoordinator) => {}
                Err(error) => return Err(error),
            }
        }
        Ok(listed)
    }

    /// A connection of this shard's or another's asks a coordinator that is here: before this returns, but for offsets in a
    /// transaction, which may have to be verified first.
    pub(in crate::partition) fn coordinate_for(
        self: &Rc<Self>,
        partition: PartitionId,
        request: Request,
    ) -> impl Future<Output = Result<Reply, ErrorCode>> + use<> {
        let asked = match request.body {
            Body::CommitInTransaction { .. } => Err((Rc::clone(self), request)),
            _ => Ok(self.ask_coordinator::<GroupCoordinator>(partition, request)),
        };
        async move {
            let asked = match asked {
                Ok(asked) => asked,
                Err((shard, request)) => shard.commit_in_transaction(partition, request).await,
            };
            asked?.await.ok_or(ErrorCode::NotCoordinator)
        }
    }

    /// The partition joins the producer's transaction, or is part of it; then the coordinator is asked.
    async fn commit_in_transaction(
        self: &Rc<Self>,
        partition: PartitionId,
        request: Request,
    ) -> Result<Receiver<Reply>, ErrorCode> {
        let leads = self.local(partition).ok_or(ErrorCode::NotCoordinator)?;
        let Body::CommitInTransaction { transactional_id, producer_id, producer_epoch, .. } = &request.body
        else {
            unreachable!("the caller has looked")
        };
        let transaction = Transaction {
            transactional_id: Arc::from(transactional_id.as_str()),
            support: TransactionSupport::of_txn_offset_commit(request.version),
        };
        self.verify_turn(&leads, &transaction, (*producer_id, *producer_epoch)).await?;
        // in the same poll
        self.ask_coordinator::<GroupCoordinator>(partition, request)
    }

    /// As [`Self::coordinate_for`]; the reply goes back as a message of its own.
    pub(in crate::partition) fn coordinate_later(
        self: &Rc<Self>,
        from: ShardId,
        id: u64,
        partition: PartitionId,
        request: Request,
    ) {
        let reply = self.coordinate_for(partition, request);
        let shard = Rc::clone(self);
        reactor::spawn(async move {
            let reply = Box::new(reply.await);
            shard.router.ask(from, ShardRequest::Coordinated { id, reply }).await;
        });
    }

    /// The reply to a request of this shard's.
    pub(in crate::partition) fn coordinated(&self, id: u64, reply: Result<Reply, ErrorCode>) {
        let sender = self.coordinators().asked.borrow_mut().remove(&id);
        if let Some(sender) = sender {
            sender.send(reply);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Values of Java's String.hashCode.
    #[test]
    fn groups_are_where_kafka_has_them() {
        // "polygenelubricants" hashes to the least number there is
        for (group, partitions, partition) in [
            ("", 50, 0),
            ("a", 50, 47),
            ("group", 50, 47),
            ("polygenelubricants", 50, 0),
            ("\u{1F600}", 50, 49),
        ] {
            assert_eq!(partition_of(group, partitions), partition, "{group}");
        }
    }
}

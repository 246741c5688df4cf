//! From any shard to the coordinator of a transactional id.

use std::rc::Rc;

use super::{Shard, Stage, shards};
use crate::coordinator::transaction::{Body, Reply, Request, TransactionCoordinator, unknown_filters};
use crate::metadata::TRANSACTIONS_TOPIC;
use crate::metrics::snapshot;
use crate::model::{ErrorCode, PartitionId, ShardId};
use crate::partition::message::{ShardReply, ShardRequest};
use crate::protocol::messages::{ListTransactionsRequest, ListTransactionsResponse};

impl Shard {
    /// The partition that holds the records of a transactional id; `None`: there is no `__transaction_state` yet.
    #[must_use]
    pub fn transactions_partition(&self, transactional_id: &str) -> Option<PartitionId> {
        self.partition_in(TRANSACTIONS_TOPIC, transactional_id)
    }

    /// Asks the coordinator of one partition of `__transaction_state`, wherever it is.
    ///
    /// # Errors
    /// NOT_COORDINATOR and its like: the client looks for the coordinator again.
    pub async fn transact(
        self: &Rc<Self>,
        partition: PartitionId,
        request: Request,
    ) -> Result<Reply, ErrorCode> {
        let Some(owner) = self.owner(partition) else { return Err(self.why_nobody_owns(partition)) };
        if owner == self.id() {
            return self.transact_local(partition, request).await;
        }
        match self.router.ask(owner, ShardRequest::Transact { partition, request }).await {
            ShardReply::Transact(reply) => *reply,
            _ => unreachable!("Transact is answered in kind"),
        }
    }

    pub(in crate::partition) async fn transact_local(
        self: &Rc<Self>,
        partition: PartitionId,
        request: Request,
    ) -> Result<Reply, ErrorCode> {
        if request.may_take_producer_id() {
            // without one, the machine tells the client to come again
            let _ = self.stock_producer_ids().await;
        }
        let asked = self.ask_coordinator::<TransactionCoordinator>(partition, request)?;
        asked.await.ok_or(ErrorCode::NotCoordinator)
    }

    pub(in crate::partition) fn measure_transactions(&self) -> snapshot::Transactions {
        let mut measured = snapshot::Transactions::default();
        for host in self.coordinators().transactions.all() {
            measured.coordinators += 1;
            match &*host.machine.borrow() {
                Stage::Running(machine) => {
                    measured.transactional_ids += machine.len() as u64;
                    measured.open += machine.open() as u64;
                }
                _ => measured.unavailable += 1,
            }
        }
        measured
    }

    /// The transactions of every coordinator on this node, or on `only` this shard.
    pub async fn list_transactions(
        self: &Rc<Self>,
        only: Option<ShardId>,
        request: ListTransactionsRequest,
    ) -> ListTransactionsResponse {
        let mut response = unknown_filters(&request);
        if response.error_code != ErrorCode::None.code() {
            return response;
        }
        for to in shards(only) {
            let ShardReply::Transactions(listed) =
                self.ask(to, ShardRequest::ListTransactions(request.clone())).await
            else {
                unreachable!("ListTransactions is answered in kind")
            };
            match listed {
                Ok(listed) => response.transaction_states.extend(listed.transaction_states),
                Err(error) => return ListTransactionsResponse::default().with_error_code(error.code()),
            }
        }
        response
    }

    /// As [`Self::list_transactions`], of this shard's.
    pub(in crate::partition) async fn list_transactions_local(
        self: &Rc<Self>,
        request: ListTransactionsRequest,
    ) -> Result<ListTransactionsResponse, ErrorCode> {
        let mut all = ListTransactionsResponse::default();
        for host in self.coordinators().transactions.all() {
            if matches!(*host.machine.borrow(), Stage::Gone) {
                continue;
            }
            let body = Body::List(request.clone());
            let asked =
                self.ask_coordinator::<TransactionCoordinator>(host.partition, Request { version: 0, body })?;
            match asked.await {
                Some(Reply::List(listed)) => all.transaction_states.extend(listed.transaction_states),
                Some(_) => unreachable!("List is answered in kind"),
                None => {}
            }
        }
        Ok(all)
    }
}

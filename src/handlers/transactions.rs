//! What the handlers of transactions share: asking the coordinator of a transactional id, wherever it is.

use super::Broker;
use super::authorize::{Operation, Resource, allowed};
use super::context::RequestContext;
use crate::coordinator::transaction::{Body, Reply, Request};
use crate::model::ErrorCode;

impl Broker {
    /// One request about one transactional id.
    ///
    /// # Errors
    /// Those with which a client looks for the coordinator again.
    pub(super) async fn ask_transaction(
        &self,
        context: &RequestContext,
        transactional_id: &str,
        body: Body,
    ) -> Result<Reply, ErrorCode> {
        let partition =
            self.shard.transactions_partition(transactional_id).ok_or(ErrorCode::NotCoordinator)?;
        self.shard.transact(partition, Request { version: context.version(), body }).await
    }
}

/// Whether the client may do this by the transactional id.
pub(super) fn may(context: &RequestContext, operation: Operation, transactional_id: &str) -> bool {
    allowed(context, operation, Resource::TransactionalId(transactional_id))
}

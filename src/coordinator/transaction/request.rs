//! What is asked of a transaction coordinator, in Kafka's messages, and what it answers.

use crate::protocol::messages::add_partitions_to_txn_request::AddPartitionsToTxnTransaction;
use crate::protocol::messages::add_partitions_to_txn_response::AddPartitionsToTxnResult;
use crate::protocol::messages::describe_transactions_response::TransactionState;
use crate::protocol::messages::{
    EndTxnRequest, EndTxnResponse, InitProducerIdRequest, InitProducerIdResponse, ListTransactionsRequest,
    ListTransactionsResponse, TransactionalId,
};

/// One request, whose ids are all of one coordinator. Authorized.
#[derive(Clone, Debug)]
pub struct Request {
    /// Of the API.
    pub version: i16,
    pub body: Body,
}

#[derive(Clone, Debug)]
pub enum Body {
    /// With a transactional id.
    InitProducerId(InitProducerIdRequest),
    /// AddPartitionsToTxn, of one transaction; AddOffsetsToTxn, whose partition is that of the group. `verify_only`: nothing is
    /// added. From version 5 on by a client of transaction.version 2.
    AddPartitions(AddPartitionsToTxnTransaction),
    EndTxn(EndTxnRequest),
    Describe(Vec<TransactionalId>),
    List(ListTransactionsRequest),
}

impl Request {
    /// Whether a producer id should be at hand.
    #[must_use]
    pub fn may_take_producer_id(&self) -> bool {
        matches!(self.body, Body::InitProducerId(_) | Body::EndTxn(_))
    }
}

#[derive(Clone, Debug, PartialEq)]
pub enum Reply {
    InitProducerId(InitProducerIdResponse),
    AddPartitions(AddPartitionsToTxnResult),
    EndTxn(EndTxnResponse),
    /// In the order of the request.
    Describe(Vec<TransactionState>),
    List(ListTransactionsResponse),
}

//! Whether partitions belong to a transaction, asked of its coordinator on whichever shard that is.

use std::rc::{Rc, Weak};

use super::Shard;
use crate::coordinator::transaction::{Body, Reply, Request};
use crate::model::{ErrorCode, PartitionId};
use crate::partition::message::{VerifyMode, VerifyPartitions};
use crate::partition::shard::{LocalFuture, place};
use crate::partition::verify::Verifier;
use crate::protocol::StrBytes;
use crate::protocol::messages::add_partitions_to_txn_request::{
    AddPartitionsToTxnTopic, AddPartitionsToTxnTransaction,
};
use crate::protocol::messages::add_partitions_to_txn_response::AddPartitionsToTxnResult;
use crate::protocol::messages::{TopicName, TransactionalId};
use crate::reactor;

/// AddPartitionsToTxn's by which a client of transaction.version 2 adds.
const ADD_VERSION: i16 = 5;
/// And by which brokers ask for one of before.
const VERIFY_VERSION: i16 = 4;

/// This node's coordinators.
struct Coordinators(Weak<Shard>);

impl Verifier for Coordinators {
    fn verify(&self, ask: VerifyPartitions) -> LocalFuture<Vec<ErrorCode>> {
        let shard = self.0.clone();
        // a task: who asks may give up, and a credit of the mesh that comes then must not be lost
        let task = reactor::spawn(async move {
            match shard.upgrade() {
                Some(shard) => shard.ask_about_partitions(ask).await,
                None => vec![ErrorCode::CoordinatorNotAvailable; ask.partitions.len()],
            }
        });
        Box::pin(task)
    }
}

impl Shard {
    /// From now on this node's coordinators are asked whether a partition belongs to a transaction. To be said once, before
    /// clients are served.
    pub fn verify_by_coordinators(self: &Rc<Self>) {
        self.set_verifier(Box::new(Coordinators(Rc::downgrade(self))));
    }

    async fn ask_about_partitions(self: Rc<Self>, ask: VerifyPartitions) -> Vec<ErrorCode> {
        // of topics that are gone
        let mut answers = vec![ErrorCode::UnknownTopicOrPartition; ask.partitions.len()];
        let (places, topics) = self.named(&ask.partitions);
        if topics.is_empty() {
            return answers;
        }
        let is_verification = ask.mode == VerifyMode::VerifyOnly;
        let id = StrBytes::from_string(ask.transactional_id.as_ref().to_owned());
        let transaction = AddPartitionsToTxnTransaction::default()
            .with_transactional_id(TransactionalId(id))
            .with_producer_id(ask.producer_id.0.into())
            .with_producer_epoch(ask.producer_epoch.0)
            .with_verify_only(is_verification)
            .with_topics(topics);
        let version = if is_verification { VERIFY_VERSION } else { ADD_VERSION };
        let request = Request { version, body: Body::AddPartitions(transaction) };
        let reply = match self.transactions_partition(&ask.transactional_id) {
            Some(partition) => self.transact(partition, request).await,
            None => Err(ErrorCode::CoordinatorNotAvailable),
        };
        let told = match reply {
            Ok(Reply::AddPartitions(result)) => errors(&result),
            Ok(_) => unreachable!("AddPartitions is answered in kind"),
            Err(error) => vec![error; places.len()],
        };
        place(&mut answers, &places, told);
        answers
    }

    /// A topic for each partition that there is, so that the answers have their order, and the places of these partitions.
    fn named(&self, partitions: &[PartitionId]) -> (Vec<usize>, Vec<AddPartitionsToTxnTopic>) {
        let image = self.image();
        let named = partitions.iter().enumerate().filter_map(|(place, partition)| {
            let name = StrBytes::from_string(image.topic(partition.topic)?.name.clone());
            let topic = AddPartitionsToTxnTopic::default()
                .with_name(TopicName(name))
                .with_partitions(vec![partition.index]);
            Some((place, topic))
        });
        named.unzip()
    }
}

/// In the order of the request.
fn errors(result: &AddPartitionsToTxnResult) -> Vec<ErrorCode> {
    let partitions = result.topic_results.iter().flat_map(|topic| &topic.results_by_partition);
    partitions
        .map(|partition| {
            ErrorCode::from_code(partition.partition_error_code).unwrap_or(ErrorCode::UnknownServerError)
        })
        .collect()
}

//! WriteTxnMarkers 1 (key 27, KIP-98): ends transactions in partitions. Between brokers it is the coordinator's; an admin
//! client ends a transaction by it that hangs (KIP-664).
//!
//! Answered when the markers are durable. The markers' transactions are taken as of version 1, whose markers may have the
//! epoch of their batches: the field that says otherwise is version 2's (KIP-1228), which is left out.

use std::rc::Rc;

use super::Broker;
use super::authorize::{Operation, Resource, allowed};
use super::list_offsets::note;
use super::service::{CloseReason, Outcome, Request};
use crate::log::producer_state::EndTxn;
use crate::model::{ErrorCode, PartitionId, ProducerEpoch, ProducerId};
use crate::partition::MarkerPartition;
use crate::protocol::messages::write_txn_markers_response::{
    WritableTxnMarkerPartitionResult, WritableTxnMarkerResult, WritableTxnMarkerTopicResult,
};
use crate::protocol::messages::{WriteTxnMarkersRequest, WriteTxnMarkersResponse};

pub(super) async fn handle(broker: Rc<Broker>, request: Request) -> Result<Outcome, CloseReason> {
    let (context, request) = request.decode::<WriteTxnMarkersRequest>()?;
    let may = allowed(&context, Operation::Alter, Resource::Cluster)
        || allowed(&context, Operation::ClusterAction, Resource::Cluster);
    let mut asked = Vec::new();
    // where the answers belong
    let mut places = Vec::new();
    let mut first_error = ErrorCode::None;
    let mut markers = Vec::with_capacity(request.markers.len());
    for marker in request.markers {
        let end = if marker.transaction_result { EndTxn::Commit } else { EndTxn::Abort };
        let mut topics = Vec::with_capacity(marker.topics.len());
        for topic in marker.topics {
            let found = if may {
                let image = broker.shard.image();
                image
                    .topic_by_name(&topic.name)
                    .map(|topic| topic.id)
                    .ok_or(ErrorCode::UnknownTopicOrPartition)
            } else {
                Err(ErrorCode::ClusterAuthorizationFailed)
            };
            let mut partitions = Vec::with_capacity(topic.partition_indexes.len());
            for index in topic.partition_indexes {
                let answer = WritableTxnMarkerPartitionResult::default().with_partition_index(index);
                partitions.push(match found {
                    Ok(topic) => {
                        places.push((markers.len(), topics.len(), partitions.len()));
                        asked.push(MarkerPartition {
                            partition: PartitionId { topic, index },
                            producer_id: ProducerId(marker.producer_id.0),
                            producer_epoch: ProducerEpoch(marker.producer_epoch),
                            coordinator_epoch: marker.coordinator_epoch,
                            end,
                            transaction_version: 1,
                        });
                        answer
                    }
                    Err(error) => {
                        note(&mut first_error, error);
                        answer.with_error_code(error.code())
                    }
                });
            }
            topics.push(
                WritableTxnMarkerTopicResult::default().with_name(topic.name).with_partitions(partitions),
            );
        }
        markers.push(
            WritableTxnMarkerResult::default().with_producer_id(marker.producer_id).with_topics(topics),
        );
    }
    let outcomes = broker.shard.write_markers(asked).await;
    assert_eq!(outcomes.len(), places.len(), "one outcome per marker");
    for ((marker, topic, partition), error) in places.into_iter().zip(outcomes) {
        note(&mut first_error, error);
        markers[marker].topics[topic].partitions[partition].error_code = error.code();
    }
    Ok(context.reply(WriteTxnMarkersResponse::default().with_markers(markers), first_error))
}

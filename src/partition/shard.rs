//! One shard's face to the handlers.

use std::cell::Ref;
use std::future::Future;

use super::message::{
    Acks, AppendOutcome, AppendPartition, EpochAnswer, EpochQueryPartition, FetchRequest, OffsetAnswer,
    OffsetQueryPartition, ReadOutcome,
};
use crate::metadata::Image;

/// Lives on its shard in an `Rc`.
pub struct Shard {
    _todo: (),
}

impl Shard {
    /// The cluster as this shard knows it. Do not hold the borrow across an await.
    pub fn image(&self) -> Ref<'_, Image> {
        unimplemented!()
    }

    /// Fixes the order of all batches before it returns (local ones are appended, messages to other shards are
    /// queued); the future it returns resolves when `acks` is satisfied. Outcomes in the order of `batches`.
    /// The outer future waits only for room on the mesh; await it before the connection's next request.
    pub async fn append(
        &self,
        acks: Acks,
        timeout_ms: u64,
        batches: Vec<AppendPartition>,
    ) -> impl Future<Output = Vec<AppendOutcome>> + use<> {
        let _ = (acks, timeout_ms, batches);
        async { unimplemented!() }
    }

    /// Outcomes in the order of the request's partitions; waits for `min_bytes` up to `max_wait_ms`.
    pub async fn fetch(&self, request: FetchRequest) -> Vec<ReadOutcome> {
        let _ = request;
        unimplemented!()
    }

    pub async fn list_offsets(&self, queries: Vec<OffsetQueryPartition>) -> Vec<OffsetAnswer> {
        let _ = queries;
        unimplemented!()
    }

    pub async fn epoch_end_offsets(&self, queries: Vec<EpochQueryPartition>) -> Vec<EpochAnswer> {
        let _ = queries;
        unimplemented!()
    }

    /// Asks the controller, wherever it is; see [`metadata::Request`](crate::metadata::Request) for when it answers.
    pub async fn control(&self, request: crate::metadata::Request) -> crate::metadata::Reply {
        let _ = request;
        unimplemented!()
    }

    /// A producer id nobody has had, from this shard's block.
    pub async fn next_producer_id(&self) -> Result<crate::model::ProducerId, crate::model::ErrorCode> {
        unimplemented!()
    }
}

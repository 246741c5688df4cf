//! Ends of transactions, written to the partitions that took part.

use std::future::Future;

use super::message::MarkerPartition;
use super::shard::Shard;
use crate::model::ErrorCode;

impl Shard {
    /// Answered in the order of the request.
    pub(super) fn write_markers_local(
        &self,
        markers: &[MarkerPartition],
    ) -> impl Future<Output = Vec<ErrorCode>> + use<> {
        std::future::ready(vec![ErrorCode::NotLeaderOrFollower; markers.len()])
    }
}

//! What groups have committed.

use std::collections::BTreeMap;

use crate::cli::client::{Client, Coordinated, Error, Refusal, TopicPartition, group_id};
use crate::protocol::messages::OffsetFetchRequest;
use crate::protocol::messages::offset_fetch_request::OffsetFetchRequestGroup;

#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Committed {
    /// The next record to read.
    pub(super) offset: i64,
    /// What the consumer has written beside it; mostly nothing.
    pub(super) metadata: String,
}

/// Of all partitions for which a group has committed an offset; none where there is no such group.
pub(super) fn fetch(client: &mut Client, id: &str) -> Result<BTreeMap<TopicPartition, Committed>, Error> {
    let asked = OffsetFetchRequestGroup::default()
        .with_group_id(group_id(id))
        .with_member_id(None)
        .with_member_epoch(-1)
        .with_topics(None);
    let request = OffsetFetchRequest::default().with_groups(vec![asked]).with_require_stable(false);
    let what = || format!("the offsets of group {id}");
    client.at_coordinator(Coordinated::Group(id), |client, broker| {
        let response = client.call_broker(broker, &request)?;
        let group = response.groups.into_iter().next().ok_or_else(|| Error::Silent(what()))?;
        Refusal::check(group.error_code, None, what)?;
        let mut committed = BTreeMap::new();
        for topic in group.topics {
            for partition in topic.partitions {
                let of = TopicPartition::new(&topic.name, partition.partition_index);
                Refusal::check(partition.error_code, None, || format!("{} for {of}", what()))?;
                if partition.committed_offset >= 0 {
                    let metadata = partition.metadata.map(|text| text.to_string()).unwrap_or_default();
                    committed.insert(of, Committed { offset: partition.committed_offset, metadata });
                }
            }
        }
        Ok(committed)
    })
}

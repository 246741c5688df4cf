//! The two requests of version 10 that name topics by id (KIP-848), which the `kafka-protocol` crate does not decode: it was made when
//! they were unstable. It has their responses.
//!
//! Like the crate's own decoders, these are for bytes that the guard has seen.

use bytes::{Buf as _, Bytes};
use kafka_protocol::messages::offset_commit_request::{
    OffsetCommitRequestPartition, OffsetCommitRequestTopic,
};
use kafka_protocol::messages::offset_fetch_request::{OffsetFetchRequestGroup, OffsetFetchRequestTopics};
use kafka_protocol::messages::{GroupId, OffsetCommitRequest, OffsetFetchRequest};
use kafka_protocol::protocol::{Decodable as _, StrBytes};
use uuid::Uuid;

use super::wire::take_unsigned_varint;

/// From here on topics are named by id.
pub const TOPIC_IDS_FROM: i16 = 10;

/// The crate's last version, in whose form the partitions still are.
const PARTITIONS: i16 = 9;

/// `None`: these bytes are none.
pub(super) fn offset_commit(body: &mut Bytes) -> Option<OffsetCommitRequest> {
    let request = OffsetCommitRequest::default()
        .with_group_id(GroupId(text(body)?))
        .with_generation_id_or_member_epoch(number(body)?)
        .with_member_id(text(body)?)
        .with_group_instance_id(nullable_text(body)?)
        .with_retention_time_ms(-1);
    let topics = items(body, |body| {
        let id = Uuid::from_bytes(take(body)?);
        let partition = |body: &mut Bytes| OffsetCommitRequestPartition::decode(body, PARTITIONS).ok();
        let topic =
            OffsetCommitRequestTopic::default().with_topic_id(id).with_partitions(items(body, partition)??);
        skip_tagged(body)?;
        Some(topic)
    })??;
    skip_tagged(body)?;
    Some(request.with_topics(topics))
}

/// `None`: these bytes are none.
pub(super) fn offset_fetch(body: &mut Bytes) -> Option<OffsetFetchRequest> {
    let groups = items(body, |body| {
        let group = OffsetFetchRequestGroup::default()
            .with_group_id(GroupId(text(body)?))
            .with_member_id(nullable_text(body)?)
            .with_member_epoch(number(body)?);
        let topics = items(body, |body| {
            let id = Uuid::from_bytes(take(body)?);
            let indexes = items(body, number)??;
            skip_tagged(body)?;
            Some(OffsetFetchRequestTopics::default().with_topic_id(id).with_partition_indexes(indexes))
        })?;
        skip_tagged(body)?;
        Some(group.with_topics(topics))
    })??;
    let require_stable = take::<1>(body)? != [0];
    skip_tagged(body)?;
    Some(OffsetFetchRequest::default().with_groups(groups).with_require_stable(require_stable))
}

fn take<const N: usize>(body: &mut Bytes) -> Option<[u8; N]> {
    let taken = *body.first_chunk()?;
    body.advance(N);
    Some(taken)
}

fn number(body: &mut Bytes) -> Option<i32> {
    take(body).map(i32::from_be_bytes)
}

fn text(body: &mut Bytes) -> Option<StrBytes> {
    nullable_text(body)?
}

/// `Some(None)`: null.
fn nullable_text(body: &mut Bytes) -> Option<Option<StrBytes>> {
    let Some(length) = length(body)? else { return Some(None) };
    let text = (length <= body.len()).then(|| body.split_to(length))?;
    StrBytes::from_utf8(text).ok().map(Some)
}

/// As [`nullable_text`]. The guard has seen that there are so many.
fn items<T>(body: &mut Bytes, item: impl Fn(&mut Bytes) -> Option<T>) -> Option<Option<Vec<T>>> {
    let Some(count) = length(body)? else { return Some(None) };
    let mut items = Vec::with_capacity(count);
    for _ in 0..count {
        items.push(item(body)?);
    }
    Some(Some(items))
}

/// `Some(None)`: null.
fn length(body: &mut Bytes) -> Option<Option<usize>> {
    let one_more = varint(body)?;
    Some(usize::try_from(one_more).ok()?.checked_sub(1))
}

fn varint(body: &mut Bytes) -> Option<u32> {
    let mut rest: &[u8] = body;
    let value = take_unsigned_varint(&mut rest)?;
    let read = body.len() - rest.len();
    body.advance(read);
    Some(value)
}

fn skip_tagged(body: &mut Bytes) -> Option<()> {
    for _ in 0..varint(body)? {
        varint(body)?;
        let length = usize::try_from(varint(body)?).ok()?;
        (length <= body.len()).then(|| body.advance(length))?;
    }
    Some(())
}

#[cfg(test)]
mod tests {
    use kafka_protocol::protocol::Encodable as _;

    use super::*;

    const ID: u128 = 0x0102_0304_0506_0708_090a_0b0c_0d0e_0f10;

    /// The crate's bytes of version 9, whose topics have an empty name, with an id in the place of each name.
    fn with_ids(encoded: Vec<u8>, mark: &[u8]) -> Bytes {
        let mut bytes = Vec::new();
        let mut rest = &encoded[..];
        while let Some(at) = rest.windows(mark.len()).position(|window| window == mark) {
            bytes.extend_from_slice(&rest[..at]);
            bytes.extend_from_slice(&ID.to_be_bytes());
            rest = &rest[at + mark.len()..];
        }
        bytes.extend_from_slice(rest);
        bytes.into()
    }

    const NAME: &str = "NAME-OF-A-TOPIC";

    fn mark() -> Vec<u8> {
        let length = u8::try_from(NAME.len() + 1).unwrap();
        [&[length][..], NAME.as_bytes()].concat()
    }

    #[test]
    fn commits_by_id_are_read() {
        let partition = |index: i32, metadata: Option<&str>| {
            OffsetCommitRequestPartition::default()
                .with_partition_index(index)
                .with_committed_offset(7)
                .with_committed_leader_epoch(3)
                .with_committed_metadata(metadata.map(|text| StrBytes::from_string(text.to_owned())))
        };
        let topic = |count: i32| {
            OffsetCommitRequestTopic::default()
                .with_name(kafka_protocol::messages::TopicName(StrBytes::from_static_str(NAME)))
                .with_partitions(
                    (0..count).map(|index| partition(index, Some("m").filter(|_| index > 0))).collect(),
                )
        };
        let mut request = OffsetCommitRequest::default()
            .with_group_id(GroupId(StrBytes::from_static_str("group")))
            .with_generation_id_or_member_epoch(5)
            .with_member_id(StrBytes::from_static_str("member"))
            .with_group_instance_id(Some(StrBytes::from_static_str("instance")))
            .with_topics(vec![topic(2), topic(0)]);
        let mut encoded = Vec::new();
        request.encode(&mut encoded, PARTITIONS).unwrap();
        let mut body = with_ids(encoded, &mark());
        let whole = body.clone();
        for topic in &mut request.topics {
            topic.name = Default::default();
            topic.topic_id = uuid::Uuid::from_u128(ID);
        }
        assert_eq!(offset_commit(&mut body), Some(request));
        assert!(body.is_empty());
        for cut in 0..whole.len() {
            assert_eq!(offset_commit(&mut whole.slice(..cut)), None, "cut to {cut}");
        }
    }

    #[test]
    fn fetches_by_id_are_read() {
        let topic = OffsetFetchRequestTopics::default()
            .with_name(kafka_protocol::messages::TopicName(StrBytes::from_static_str(NAME)))
            .with_partition_indexes(vec![1, 2, 300]);
        let group = |topics: Option<Vec<OffsetFetchRequestTopics>>| {
            OffsetFetchRequestGroup::default()
                .with_group_id(GroupId(StrBytes::from_static_str("group")))
                .with_member_id(Some(StrBytes::from_static_str("member")))
                .with_member_epoch(4)
                .with_topics(topics)
        };
        let mut request = OffsetFetchRequest::default()
            .with_groups(vec![group(Some(vec![topic.clone(), topic])), group(None)])
            .with_require_stable(true);
        let mut encoded = Vec::new();
        request.encode(&mut encoded, PARTITIONS).unwrap();
        let mut body = with_ids(encoded, &mark());
        let whole = body.clone();
        for topic in request.groups.iter_mut().flat_map(|group| group.topics.iter_mut().flatten()) {
            topic.name = Default::default();
            topic.topic_id = uuid::Uuid::from_u128(ID);
        }
        assert_eq!(offset_fetch(&mut body), Some(request));
        assert!(body.is_empty());
        for cut in 0..whole.len() {
            assert_eq!(offset_fetch(&mut whole.slice(..cut)), None, "cut to {cut}");
        }
    }
}

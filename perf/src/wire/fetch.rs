//! Fetch, version 11: the request written into a buffer that is used again, the response walked in place.

use super::produce::{CLIENT_ID, Slot, put_string};
use super::{Cursor, Malformed};

pub const VERSION: i16 = 11;

/// What is the same in all fetches of a run.
#[derive(Clone, Copy)]
pub struct Form<'a> {
    pub max_wait_ms: i32,
    pub min_bytes: i32,
    pub max_bytes: i32,
    pub partition_max_bytes: i32,
    pub topics: &'a [String],
    pub slots: &'a [Slot],
}

/// Writes a full fetch (no session) for these slots in this order, each from its offset. A topic whose slots are not
/// beside each other is in it more than once.
pub fn frame(into: &mut Vec<u8>, form: Form<'_>, correlation_id: i32, places: &[(usize, i64)]) {
    into.clear();
    into.extend_from_slice(&[0; 4]);
    into.extend_from_slice(&1_i16.to_be_bytes());
    into.extend_from_slice(&VERSION.to_be_bytes());
    into.extend_from_slice(&correlation_id.to_be_bytes());
    put_string(into, false, CLIENT_ID);
    into.extend_from_slice(&(-1_i32).to_be_bytes()); // replica
    into.extend_from_slice(&form.max_wait_ms.to_be_bytes());
    into.extend_from_slice(&form.min_bytes.to_be_bytes());
    into.extend_from_slice(&form.max_bytes.to_be_bytes());
    into.push(0); // read uncommitted
    into.extend_from_slice(&0_i32.to_be_bytes()); // session id
    into.extend_from_slice(&(-1_i32).to_be_bytes()); // session epoch: none
    let topic_of = |place: &(usize, i64)| form.slots[place.0].topic;
    let topics = || places.chunk_by(|a, b| topic_of(a) == topic_of(b));
    into.extend_from_slice(&(topics().count() as u32).to_be_bytes());
    for of_topic in topics() {
        put_string(into, false, &form.topics[topic_of(&of_topic[0])]);
        into.extend_from_slice(&(of_topic.len() as u32).to_be_bytes());
        for (slot, offset) in of_topic {
            into.extend_from_slice(&form.slots[*slot].partition.to_be_bytes());
            into.extend_from_slice(&(-1_i32).to_be_bytes()); // leader epoch
            into.extend_from_slice(&offset.to_be_bytes());
            into.extend_from_slice(&(-1_i64).to_be_bytes()); // log start offset, of followers
            into.extend_from_slice(&form.partition_max_bytes.to_be_bytes());
        }
    }
    into.extend_from_slice(&0_u32.to_be_bytes()); // forgotten topics
    into.extend_from_slice(&0_u16.to_be_bytes()); // rack
    let length = (into.len() - 4) as u32;
    into[..4].copy_from_slice(&length.to_be_bytes());
}

/// One partition of a response.
#[derive(Clone, Copy, Debug)]
pub struct Answer<'a> {
    pub topic: &'a [u8],
    pub partition: i32,
    pub error: i16,
    pub high_watermark: i64,
    pub log_start_offset: i64,
    pub records: &'a [u8],
}

/// Calls with each partition of a response (correlation id in front, no length); gives the error of the whole.
///
/// # Errors
/// A response that is not one.
pub fn answers<'a>(response: &'a [u8], mut each: impl FnMut(Answer<'a>)) -> Result<i16, Malformed> {
    let mut cursor = Cursor::new(response);
    cursor.bytes(8)?; // correlation id, throttle time
    let error = cursor.int16()?;
    cursor.int32()?;
    for _ in 0..cursor.length(false)? {
        let topic = cursor.string(false)?;
        for _ in 0..cursor.length(false)? {
            let partition = cursor.int32()?;
            let error = cursor.int16()?;
            let high_watermark = cursor.int64()?;
            cursor.int64()?; // last stable offset
            let log_start_offset = cursor.int64()?;
            for _ in 0..cursor.length(false)? {
                cursor.bytes(16)?; // aborted transaction
            }
            cursor.int32()?; // preferred read replica
            let length = cursor.length(false)?;
            let records = cursor.bytes(length)?;
            each(Answer { topic, partition, error, high_watermark, log_start_offset, records });
        }
    }
    Ok(error)
}

#[cfg(test)]
mod tests {
    use super::*;
    use bytes::{Bytes, BytesMut};
    use kafka_protocol::messages::fetch_response::{
        AbortedTransaction, FetchableTopicResponse, PartitionData,
    };
    use kafka_protocol::messages::{
        ApiKey, FetchRequest, FetchResponse, RequestHeader, ResponseHeader, TopicName,
    };
    use kafka_protocol::protocol::{Decodable, Encodable, StrBytes};

    #[test]
    fn a_request_is_what_the_protocol_crate_reads() {
        let topics = ["first".to_owned(), "second".to_owned()];
        let slots: Vec<Slot> =
            (0..4).map(|i| Slot { topic: i / 2, partition: (i % 2) as i32, leader: 0 }).collect();
        let form = Form {
            max_wait_ms: 500,
            min_bytes: 1,
            max_bytes: 1 << 20,
            partition_max_bytes: 1 << 16,
            topics: &topics,
            slots: &slots,
        };
        let mut frame_bytes = vec![1; 10];
        frame(&mut frame_bytes, form, 5, &[(0, 10), (2, 20), (3, 30)]);
        let mut bytes = Bytes::from(frame_bytes);
        let length = bytes.split_to(4);
        assert_eq!(length[..], (bytes.len() as u32).to_be_bytes());
        let header = RequestHeader::decode(&mut bytes, ApiKey::Fetch.request_header_version(VERSION))
            .expect("a header");
        assert_eq!(header.correlation_id, 5);
        let request = FetchRequest::decode(&mut bytes, VERSION).expect("a fetch request");
        assert!(bytes.is_empty());
        assert_eq!((request.max_wait_ms, request.min_bytes, request.max_bytes), (500, 1, 1 << 20));
        assert_eq!((request.session_id, request.session_epoch), (0, -1));
        let found: Vec<_> = request
            .topics
            .iter()
            .flat_map(|topic| {
                topic.partitions.iter().map(|p| (topic.topic.to_string(), p.partition, p.fetch_offset))
            })
            .collect();
        assert_eq!(
            found,
            [("first".to_owned(), 0, 10), ("second".to_owned(), 0, 20), ("second".to_owned(), 1, 30)]
        );
    }

    #[test]
    fn a_response_is_read_as_the_protocol_crate_writes_it() {
        let partition = |index, error, records: Option<&'static [u8]>| {
            PartitionData::default()
                .with_partition_index(index)
                .with_error_code(error)
                .with_high_watermark(77)
                .with_log_start_offset(3)
                .with_aborted_transactions(Some(vec![AbortedTransaction::default()]))
                .with_records(records.map(Bytes::from_static))
        };
        let topic = FetchableTopicResponse::default()
            .with_topic(TopicName(StrBytes::from_static_str("first")))
            .with_partitions(vec![partition(0, 0, Some(b"records")), partition(1, 1, None)]);
        let mut bytes = BytesMut::new();
        ResponseHeader::default().encode(&mut bytes, 0).expect("a header");
        FetchResponse::default().with_responses(vec![topic]).encode(&mut bytes, VERSION).expect("a response");
        let mut found = Vec::new();
        let error = answers(&bytes, |a| {
            found.push((a.topic, a.partition, a.error, a.high_watermark, a.log_start_offset, a.records))
        });
        assert_eq!(error, Ok(0));
        let expect: [(&[u8], _, _, _, _, &[u8]); 2] =
            [(b"first", 0, 0, 77, 3, b"records"), (b"first", 1, 1, 77, 3, b"")];
        assert_eq!(found, expect);
        for cut in 0..bytes.len() {
            assert_eq!(answers(&bytes[..cut], |_| {}), Err(Malformed), "cut at {cut}");
        }
    }
}

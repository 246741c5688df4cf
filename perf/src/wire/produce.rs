//! Produce, versions 7 and 9 to 12: the request as pieces around batches that are sent from where they were built, and its
//! response walked in place.

use super::batch::Batch;
use super::{Cursor, Malformed};

pub const CLIENT_ID: &str = "corelane-bench";
/// The versions of plain runs: the last one before flexible fields, for old brokers, and the first one with them.
/// Those after it, up to 12, differ in what broker and client mean by them, not in these fields.
pub const VERSIONS: [i16; 2] = [9, 7];

/// One partition that a run writes to or reads from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Slot {
    /// Index of the topic's name in the run's list.
    pub topic: usize,
    pub partition: i32,
    /// Index of the leader in the run's list of brokers.
    pub leader: usize,
}

/// A request with its batches, used again when it has been answered.
#[derive(Default)]
pub struct Request {
    pub correlation_id: i32,
    /// Batches with the index of their slot; sorted by slot before [`frame`](Request::frame).
    pub batches: Vec<(usize, Batch)>,
    /// Everything around the batches.
    head: Vec<u8>,
    /// Where in `head` each batch belongs.
    cuts: Vec<usize>,
    bytes: usize,
}

/// What is the same in all requests of a run.
#[derive(Clone, Copy)]
pub struct Form<'a> {
    pub version: i16,
    /// From version 9 on.
    pub transactional_id: Option<&'a str>,
    pub acks: i16,
    pub timeout_ms: i32,
    pub topics: &'a [String],
    pub slots: &'a [Slot],
}

impl Request {
    /// Bytes of the frame, batches included.
    #[must_use]
    pub fn bytes(&self) -> usize {
        self.bytes
    }

    /// Writes the frame around the batches.
    pub fn frame(&mut self, form: Form<'_>, correlation_id: i32) {
        let flexible = form.version >= 9;
        self.correlation_id = correlation_id;
        self.batches.sort_unstable_by_key(|(slot, _)| *slot);
        let Request { batches, head, cuts, .. } = self;
        head.clear();
        cuts.clear();
        head.extend_from_slice(&[0; 4]);
        head.extend_from_slice(&0_i16.to_be_bytes());
        head.extend_from_slice(&form.version.to_be_bytes());
        head.extend_from_slice(&correlation_id.to_be_bytes());
        put_length16(head, CLIENT_ID.len());
        head.extend_from_slice(CLIENT_ID.as_bytes());
        if flexible {
            head.push(0); // no tagged fields
            match form.transactional_id {
                Some(id) => put_string(head, true, id),
                None => head.push(0),
            }
        } else {
            head.extend_from_slice(&(-1_i16).to_be_bytes());
        }
        head.extend_from_slice(&form.acks.to_be_bytes());
        head.extend_from_slice(&form.timeout_ms.to_be_bytes());
        let topic_of = |batch: &(usize, Batch)| form.slots[batch.0].topic;
        put_length(head, flexible, batches.chunk_by(|a, b| topic_of(a) == topic_of(b)).count());
        for of_topic in batches.chunk_by(|a, b| topic_of(a) == topic_of(b)) {
            put_string(head, flexible, &form.topics[topic_of(&of_topic[0])]);
            put_length(head, flexible, of_topic.len());
            for (slot, batch) in of_topic {
                head.extend_from_slice(&form.slots[*slot].partition.to_be_bytes());
                put_length(head, flexible, batch.bytes().len());
                cuts.push(head.len());
                if flexible {
                    head.push(0);
                }
            }
            if flexible {
                head.push(0);
            }
        }
        if flexible {
            head.push(0);
        }
        self.bytes = head.len() + batches.iter().map(|(_, batch)| batch.bytes().len()).sum::<usize>();
        let length = (self.bytes - 4) as u32;
        head[..4].copy_from_slice(&length.to_be_bytes());
    }

    /// The frame's pieces in order.
    pub fn pieces(&self) -> impl Iterator<Item = &[u8]> {
        let begins = std::iter::once(0).chain(self.cuts.iter().copied());
        let ends = self.cuts.iter().copied().chain(std::iter::once(self.head.len()));
        let heads = begins.zip(ends).map(|(begin, end)| &self.head[begin..end]);
        let batches = self.batches.iter().map(|(_, batch)| batch.bytes());
        heads
            .zip(batches.map(Some).chain(std::iter::once(None)))
            .flat_map(|(head, batch)| [Some(head), batch])
            .flatten()
    }
}

fn put_length16(into: &mut Vec<u8>, length: usize) {
    into.extend_from_slice(&(length as u16).to_be_bytes());
}

pub fn put_length(into: &mut Vec<u8>, flexible: bool, length: usize) {
    if flexible {
        let mut rest = length + 1;
        while rest >= 0x80 {
            into.push(rest as u8 | 0x80);
            rest >>= 7;
        }
        into.push(rest as u8);
    } else {
        into.extend_from_slice(&(length as u32).to_be_bytes());
    }
}

pub(super) fn put_string(into: &mut Vec<u8>, flexible: bool, text: &str) {
    if flexible {
        put_length(into, true, text.len());
    } else {
        put_length16(into, text.len());
    }
    into.extend_from_slice(text.as_bytes());
}

/// Calls with topic, partition and error code of each partition of a response (correlation id in front, no length).
///
/// # Errors
/// A response that is not one.
pub fn answers(
    response: &[u8],
    version: i16,
    mut each: impl FnMut(&[u8], i32, i16),
) -> Result<(), Malformed> {
    let flexible = version >= 9;
    let mut cursor = Cursor::new(response);
    cursor.int32()?;
    cursor.tagged_fields(flexible)?;
    for _ in 0..cursor.length(flexible)? {
        let topic = cursor.string(flexible)?;
        for _ in 0..cursor.length(flexible)? {
            let partition = cursor.int32()?;
            let error = cursor.int16()?;
            cursor.bytes(24)?; // base offset, append time, log start offset
            if flexible {
                for _ in 0..cursor.length(true)? {
                    cursor.int32()?;
                    cursor.string(true)?;
                    cursor.tagged_fields(true)?;
                }
                cursor.string(true)?;
                cursor.tagged_fields(true)?;
            }
            each(topic, partition, error);
        }
        cursor.tagged_fields(flexible)?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::wire::batch::{Codec, NO_PRODUCER, Record};
    use bytes::{Bytes, BytesMut};
    use kafka_protocol::messages::produce_response::{
        BatchIndexAndErrorMessage, PartitionProduceResponse, TopicProduceResponse,
    };
    use kafka_protocol::messages::{
        ApiKey, ProduceRequest, ProduceResponse, RequestHeader, ResponseHeader, TopicName,
    };
    use kafka_protocol::protocol::{Decodable, Encodable, StrBytes};

    fn batch(count: usize) -> Batch {
        let mut batch = Batch::default();
        for _ in 0..count {
            batch.append(&Record {
                key: None,
                value: [b"value", b""],
                headers: &[0],
                timestamp_ms: 1,
                due_nanos: 0,
            });
        }
        batch.seal(Codec::None, NO_PRODUCER).expect("a batch that can be sealed");
        batch
    }

    #[test]
    fn a_request_is_what_the_protocol_crate_reads() {
        let topics = ["first".to_owned(), "second".to_owned()];
        let slots: Vec<Slot> =
            (0..300).map(|i| Slot { topic: i / 200, partition: (i % 200) as i32, leader: 0 }).collect();
        for (version, transactional_id) in [(7, None), (9, None), (11, Some("t")), (12, Some("t"))] {
            // 250 partitions: lengths of more than one byte
            let batches = (0..250).rev().map(|slot| (slot, batch(slot + 1))).collect();
            let mut request = Request { batches, ..Request::default() };
            let form = Form {
                version,
                transactional_id,
                acks: -1,
                timeout_ms: 1234,
                topics: &topics,
                slots: &slots,
            };
            request.frame(form, 42);
            let frame: Vec<u8> = request.pieces().flatten().copied().collect();
            assert_eq!(frame.len(), request.bytes());
            let mut bytes = Bytes::from(frame);
            assert_eq!(bytes.split_to(4)[..], (request.bytes() as u32 - 4).to_be_bytes());
            let header = RequestHeader::decode(&mut bytes, ApiKey::Produce.request_header_version(version))
                .expect("a header");
            assert_eq!((header.correlation_id, header.request_api_version), (42, version));
            let decoded = ProduceRequest::decode(&mut bytes, version).expect("a produce request");
            assert!(bytes.is_empty());
            assert_eq!((decoded.acks, decoded.timeout_ms), (-1, 1234));
            assert_eq!(decoded.transactional_id.as_ref().map(|id| id.as_str()), transactional_id);
            let found: Vec<_> = decoded
                .topic_data
                .iter()
                .flat_map(|topic| {
                    topic.partition_data.iter().map(|p| (topic.name.to_string(), p.index, p.records.clone()))
                })
                .collect();
            assert_eq!(found.len(), 250);
            for (slot, (topic, partition, records)) in found.into_iter().enumerate() {
                assert_eq!((topic.as_str(), partition), (topics[slot / 200].as_str(), (slot % 200) as i32));
                assert_eq!(records.as_deref(), Some(request.batches[slot].1.bytes()));
            }
        }
    }

    #[test]
    fn a_response_is_read_as_the_protocol_crate_writes_it() {
        let partition = |index, error| {
            let message = BatchIndexAndErrorMessage::default().with_batch_index(3);
            PartitionProduceResponse::default()
                .with_index(index)
                .with_error_code(error)
                .with_record_errors(vec![message])
        };
        for version in [7, 9, 11, 12] {
            let topic = |name: &'static str, partitions| {
                TopicProduceResponse::default()
                    .with_name(TopicName(StrBytes::from_static_str(name)))
                    .with_partition_responses(partitions)
            };
            let mut response = ProduceResponse::default().with_responses(vec![
                topic("first", vec![partition(0, 0), partition(5, 6)]),
                topic("second", vec![partition(1, 0)]),
            ]);
            if version < 9 {
                for topic in &mut response.responses {
                    topic
                        .partition_responses
                        .iter_mut()
                        .for_each(|partition| partition.record_errors.clear());
                }
            }
            let mut bytes = BytesMut::new();
            let header = ResponseHeader::default().with_correlation_id(9);
            header.encode(&mut bytes, ApiKey::Produce.response_header_version(version)).expect("a header");
            response.encode(&mut bytes, version).expect("a response");
            let mut found = Vec::new();
            answers(&bytes, version, |topic, partition, error| {
                found.push((topic.to_vec(), partition, error))
            })
            .expect("answers");
            let expect = [(b"first".to_vec(), 0, 0), (b"first".to_vec(), 5, 6), (b"second".to_vec(), 1, 0)];
            assert_eq!(found, expect);
            for cut in 0..bytes.len() - 6 {
                assert_eq!(answers(&bytes[..cut], version, |_, _, _| {}), Err(Malformed), "cut at {cut}");
            }
        }
    }
}

//! Fetch responses, versions 4 to 18, as a list of parts: headers of our own with the stored records between them.
//!
//! Records are never copied: a partition's slices become parts as they are, and everything else, from the frame's
//! length to the last tagged field, lies in one buffer that is cut where they go in. Written by hand rather than
//! by the crate, which would copy the records or, encoding them empty, not say where they belong.

use bytes::{BufMut, Bytes, BytesMut};

use super::api::Api;
use super::header::{FRAME_LENGTH_BYTES, ResponseHeader, begin_frame, finish_frame};
use crate::model::{ErrorCode, LeaderEpoch, NodeId, Offset, ProducerId, TopicId};

/// A response; what a version does not have is left out of it.
#[derive(Clone, Copy, Debug)]
pub struct FetchResponse<'a> {
    pub throttle_time_ms: i32,
    /// Of the whole request, which then has no topics; since version 7.
    pub error: ErrorCode,
    /// 0 outside a session; since version 7.
    pub session_id: i32,
    pub topics: &'a [Topic<'a>],
    /// The addresses of the leaders named in `current_leader`; since version 16.
    pub node_endpoints: &'a [NodeEndpoint<'a>],
}

#[derive(Clone, Copy, Debug)]
pub struct Topic<'a> {
    /// Written up to version 12.
    pub name: &'a str,
    /// Written since version 13.
    pub id: TopicId,
    pub partitions: &'a [Partition<'a>],
}

#[derive(Clone, Copy, Debug)]
pub struct Partition<'a> {
    pub index: i32,
    pub error: ErrorCode,
    pub high_watermark: Offset,
    pub last_stable_offset: Offset,
    /// Since version 5.
    pub log_start_offset: Offset,
    /// Where the client's log leaves ours; since version 12.
    pub diverging: Option<(LeaderEpoch, Offset)>,
    /// Who leads instead of us; since version 12.
    pub current_leader: Option<(NodeId, LeaderEpoch)>,
    /// `None` is null on the wire: the client did not ask for read_committed.
    pub aborted: Option<&'a [(ProducerId, Offset)]>,
    /// The follower to read from instead; since version 11.
    pub preferred_read_replica: Option<NodeId>,
    /// Whole batches, one behind the other.
    pub records: &'a [Bytes],
}

#[derive(Clone, Copy, Debug)]
pub struct NodeEndpoint<'a> {
    pub node: NodeId,
    pub host: &'a str,
    pub port: u16,
    pub rack: Option<&'a str>,
}

/// Encodes a response as one frame, length prefix included: send the parts one behind the other.
///
/// Allocates the buffer between the records, the list of parts and the list of cuts, whatever the records' size.
#[must_use]
pub fn encode(header: ResponseHeader, response: &FetchResponse<'_>) -> Vec<Bytes> {
    assert!(header.api == Api::Fetch && header.api.accepted().contains(header.version));
    let mut writer = Writer {
        frame: BytesMut::with_capacity(capacity(response)),
        version: header.version,
        flexible: header.api.is_flexible(header.version),
        cuts: Vec::new(),
        records_bytes: 0,
        slices: 0,
    };
    begin_frame(&mut writer.frame, header);
    writer.response(response);
    writer.into_parts()
}

/// More than enough for all but the records of any version.
fn capacity(response: &FetchResponse<'_>) -> usize {
    let partition = |partition: &Partition<'_>| 96 + 17 * partition.aborted.map_or(0, <[_]>::len);
    let topic =
        |topic: &Topic<'_>| 25 + topic.name.len() + topic.partitions.iter().map(partition).sum::<usize>();
    let endpoint = |endpoint: &NodeEndpoint<'_>| 24 + endpoint.host.len() + endpoint.rack.map_or(0, str::len);
    FRAME_LENGTH_BYTES
        + 48
        + response.topics.iter().map(topic).sum::<usize>()
        + response.node_endpoints.iter().map(endpoint).sum::<usize>()
}

struct Writer<'a> {
    frame: BytesMut,
    version: i16,
    flexible: bool,
    /// Where records go in, as a place in `frame`.
    cuts: Vec<(usize, &'a [Bytes])>,
    records_bytes: usize,
    slices: usize,
}

impl<'a> Writer<'a> {
    fn response(&mut self, response: &FetchResponse<'a>) {
        self.frame.put_i32(response.throttle_time_ms);
        if self.version >= 7 {
            self.frame.put_i16(response.error.code());
            self.frame.put_i32(response.session_id);
        }
        self.count(response.topics.len());
        for topic in response.topics {
            self.topic(topic);
        }
        if self.version >= 16 && !response.node_endpoints.is_empty() {
            self.put_varint(1);
            self.node_endpoints(response.node_endpoints);
        } else {
            self.no_tagged_fields();
        }
    }

    fn topic(&mut self, topic: &Topic<'a>) {
        if self.version >= 13 {
            self.frame.put_u128(topic.id.0);
        } else {
            self.string(topic.name);
        }
        self.count(topic.partitions.len());
        for partition in topic.partitions {
            self.partition(partition);
        }
        self.no_tagged_fields();
    }

    fn partition(&mut self, partition: &Partition<'a>) {
        self.frame.put_i32(partition.index);
        self.frame.put_i16(partition.error.code());
        self.frame.put_i64(partition.high_watermark.0);
        self.frame.put_i64(partition.last_stable_offset.0);
        if self.version >= 5 {
            self.frame.put_i64(partition.log_start_offset.0);
        }
        match partition.aborted {
            None if self.flexible => self.frame.put_u8(0),
            None => self.frame.put_i32(-1),
            Some(aborted) => {
                self.count(aborted.len());
                for (producer, first_offset) in aborted {
                    self.frame.put_i64(producer.0);
                    self.frame.put_i64(first_offset.0);
                    self.no_tagged_fields();
                }
            }
        }
        if self.version >= 11 {
            self.frame.put_i32(partition.preferred_read_replica.map_or(-1, |broker| broker.0));
        }
        self.records(partition.records);
        if self.flexible {
            self.partition_tags(partition);
        }
    }

    fn records(&mut self, records: &'a [Bytes]) {
        let bytes: usize = records.iter().map(Bytes::len).sum();
        self.count(bytes);
        if bytes > 0 {
            self.cuts.push((self.frame.len(), records));
            self.records_bytes += bytes;
            self.slices += records.len();
        }
    }

    /// Tag 0, the diverging epoch, and tag 1, the current leader: each a structure that ends in no tagged fields.
    fn partition_tags(&mut self, partition: &Partition<'_>) {
        let count = u8::from(partition.diverging.is_some()) + u8::from(partition.current_leader.is_some());
        self.frame.put_u8(count);
        if let Some((epoch, end_offset)) = partition.diverging {
            self.frame.put_slice(&[0, 4 + 8 + 1]);
            self.frame.put_i32(epoch.0);
            self.frame.put_i64(end_offset.0);
            self.frame.put_u8(0);
        }
        if let Some((leader, epoch)) = partition.current_leader {
            self.frame.put_slice(&[1, 4 + 4 + 1]);
            self.frame.put_i32(leader.0);
            self.frame.put_i32(epoch.0);
            self.frame.put_u8(0);
        }
    }

    /// Tag 0 of the response.
    fn node_endpoints(&mut self, endpoints: &[NodeEndpoint<'_>]) {
        let string_bytes = |text: &str| varint_bytes(compact(text.len())) + text.len();
        let endpoint_bytes = |endpoint: &NodeEndpoint<'_>| {
            4 + string_bytes(endpoint.host) + 4 + endpoint.rack.map_or(1, string_bytes) + 1
        };
        let size =
            varint_bytes(compact(endpoints.len())) + endpoints.iter().map(endpoint_bytes).sum::<usize>();
        self.put_varint(0);
        self.put_varint(u32::try_from(size).expect("a few addresses"));
        self.count(endpoints.len());
        for endpoint in endpoints {
            self.frame.put_i32(endpoint.node.0);
            self.string(endpoint.host);
            self.frame.put_i32(i32::from(endpoint.port));
            match endpoint.rack {
                Some(rack) => self.string(rack),
                None => self.put_varint(0),
            }
            self.no_tagged_fields();
        }
    }

    fn into_parts(mut self) -> Vec<Bytes> {
        finish_frame(&mut self.frame, self.records_bytes);
        let frame = self.frame.freeze();
        let mut parts = Vec::with_capacity(self.cuts.len() + self.slices + 1);
        let mut start = 0;
        for (cut, records) in self.cuts {
            parts.push(frame.slice(start..cut));
            parts.extend(records.iter().filter(|slice| !slice.is_empty()).cloned());
            start = cut;
        }
        if start < frame.len() {
            parts.push(frame.slice(start..));
        }
        parts
    }

    /// An array's or the records' length.
    fn count(&mut self, count: usize) {
        if self.flexible {
            self.put_varint(compact(count));
        } else {
            self.frame.put_i32(i32::try_from(count).expect("bounded by the byte limits of the request"));
        }
    }

    fn string(&mut self, text: &str) {
        if self.flexible {
            self.put_varint(compact(text.len()));
        } else {
            self.frame.put_i16(i16::try_from(text.len()).expect("no string that came in is longer"));
        }
        self.frame.put_slice(text.as_bytes());
    }

    fn no_tagged_fields(&mut self) {
        if self.flexible {
            self.frame.put_u8(0);
        }
    }

    fn put_varint(&mut self, mut value: u32) {
        while value >= 0x80 {
            self.frame.put_u8(value as u8 | 0x80);
            value >>= 7;
        }
        self.frame.put_u8(value as u8);
    }
}

/// Compact lengths are one more than they say; 0 is null.
fn compact(length: usize) -> u32 {
    u32::try_from(length + 1).expect("bounded by the byte limits of the request")
}

fn varint_bytes(value: u32) -> usize {
    (32 - (value | 1).leading_zeros()).div_ceil(7) as usize
}

#[cfg(test)]
mod tests;

//! The decode guard against the crate it protects: they agree on every well-formed request of every served API and
//! version, and no mutant the guard lets through makes the crate panic or allocate beyond the guard's promise.

use bytes::{BufMut, Bytes, BytesMut};
use corelane::protocol::api::Api;
use corelane::protocol::codec::Request;
use corelane::protocol::guard::{self, Array, Error, Field, MEMORY_MAX_BYTES};
use corelane::protocol::messages::{
    AddOffsetsToTxnRequest, AddPartitionsToTxnRequest, AlterConfigsRequest,
    AlterPartitionReassignmentsRequest, AlterReplicaLogDirsRequest, ApiVersionsRequest,
    ConsumerGroupDescribeRequest, ConsumerGroupHeartbeatRequest, CreatePartitionsRequest,
    CreateTopicsRequest, DeleteGroupsRequest, DeleteRecordsRequest, DeleteTopicsRequest,
    DescribeClusterRequest, DescribeConfigsRequest, DescribeGroupsRequest, DescribeLogDirsRequest,
    DescribeProducersRequest, DescribeQuorumRequest, DescribeTopicPartitionsRequest,
    DescribeTransactionsRequest, ElectLeadersRequest, EndTxnRequest, FetchRequest, FindCoordinatorRequest,
    HeartbeatRequest, IncrementalAlterConfigsRequest, InitProducerIdRequest, JoinGroupRequest,
    LeaveGroupRequest, ListConfigResourcesRequest, ListGroupsRequest, ListOffsetsRequest,
    ListPartitionReassignmentsRequest, ListTransactionsRequest, MetadataRequest, OffsetCommitRequest,
    OffsetDeleteRequest, OffsetFetchRequest, OffsetForLeaderEpochRequest, ProduceRequest, SyncGroupRequest,
    TxnOffsetCommitRequest, UpdateFeaturesRequest, WriteTxnMarkersRequest,
};

use crate::allocations::{Allocations, measure};

/// In all, spread over the served versions.
const MUTANTS: usize = if cfg!(debug_assertions) { 250_000 } else { 1_000_000 };

/// What a decoder may need besides the request: the error it returns, the shared count of the frame's buffer.
const SLACK_BYTES: usize = 4096;

/// The crate's decoder alone. Says whether it was content, and what is left of the body.
fn crate_decodes(api: Api, version: i16, body: &Bytes) -> (bool, usize) {
    fn with<T: Request>(version: i16, mut body: Bytes) -> (bool, usize) {
        let content = T::decode_body(&mut body, version).is_some();
        (content, body.len())
    }
    let body = body.clone();
    match api {
        Api::Produce => with::<ProduceRequest>(version, body),
        Api::Fetch => with::<FetchRequest>(version, body),
        Api::ListOffsets => with::<ListOffsetsRequest>(version, body),
        Api::Metadata => with::<MetadataRequest>(version, body),
        Api::OffsetCommit => with::<OffsetCommitRequest>(version, body),
        Api::OffsetFetch => with::<OffsetFetchRequest>(version, body),
        Api::FindCoordinator => with::<FindCoordinatorRequest>(version, body),
        Api::JoinGroup => with::<JoinGroupRequest>(version, body),
        Api::Heartbeat => with::<HeartbeatRequest>(version, body),
        Api::LeaveGroup => with::<LeaveGroupRequest>(version, body),
        Api::SyncGroup => with::<SyncGroupRequest>(version, body),
        Api::DescribeGroups => with::<DescribeGroupsRequest>(version, body),
        Api::ListGroups => with::<ListGroupsRequest>(version, body),
        Api::ApiVersions => with::<ApiVersionsRequest>(version, body),
        Api::CreateTopics => with::<CreateTopicsRequest>(version, body),
        Api::DeleteTopics => with::<DeleteTopicsRequest>(version, body),
        Api::DeleteRecords => with::<DeleteRecordsRequest>(version, body),
        Api::InitProducerId => with::<InitProducerIdRequest>(version, body),
        Api::OffsetForLeaderEpoch => with::<OffsetForLeaderEpochRequest>(version, body),
        Api::AddPartitionsToTxn => with::<AddPartitionsToTxnRequest>(version, body),
        Api::AddOffsetsToTxn => with::<AddOffsetsToTxnRequest>(version, body),
        Api::EndTxn => with::<EndTxnRequest>(version, body),
        Api::WriteTxnMarkers => with::<WriteTxnMarkersRequest>(version, body),
        Api::TxnOffsetCommit => with::<TxnOffsetCommitRequest>(version, body),
        Api::DescribeConfigs => with::<DescribeConfigsRequest>(version, body),
        Api::AlterConfigs => with::<AlterConfigsRequest>(version, body),
        Api::AlterReplicaLogDirs => with::<AlterReplicaLogDirsRequest>(version, body),
        Api::DescribeLogDirs => with::<DescribeLogDirsRequest>(version, body),
        Api::CreatePartitions => with::<CreatePartitionsRequest>(version, body),
        Api::DeleteGroups => with::<DeleteGroupsRequest>(version, body),
        Api::ElectLeaders => with::<ElectLeadersRequest>(version, body),
        Api::IncrementalAlterConfigs => with::<IncrementalAlterConfigsRequest>(version, body),
        Api::AlterPartitionReassignments => with::<AlterPartitionReassignmentsRequest>(version, body),
        Api::ListPartitionReassignments => with::<ListPartitionReassignmentsRequest>(version, body),
        Api::OffsetDelete => with::<OffsetDeleteRequest>(version, body),
        Api::DescribeQuorum => with::<DescribeQuorumRequest>(version, body),
        Api::UpdateFeatures => with::<UpdateFeaturesRequest>(version, body),
        Api::DescribeCluster => with::<DescribeClusterRequest>(version, body),
        Api::DescribeProducers => with::<DescribeProducersRequest>(version, body),
        Api::DescribeTransactions => with::<DescribeTransactionsRequest>(version, body),
        Api::ListTransactions => with::<ListTransactionsRequest>(version, body),
        Api::ConsumerGroupHeartbeat => with::<ConsumerGroupHeartbeatRequest>(version, body),
        Api::ConsumerGroupDescribe => with::<ConsumerGroupDescribeRequest>(version, body),
        Api::ListConfigResources => with::<ListConfigResourcesRequest>(version, body),
        Api::DescribeTopicPartitions => with::<DescribeTopicPartitionsRequest>(version, body),
    }
}

fn every_version() -> impl Iterator<Item = (Api, i16)> {
    Api::all().flat_map(|api| api.accepted().iter().map(move |version| (api, version)))
}

/// The guard's promise for a body it has let through.
fn check_promise(api: Api, version: i16, body: &Bytes) -> (bool, usize) {
    let ((content, left), allocations) = measure(|| crate_decodes(api, version, body));
    let allowed = guard::memory_bytes_max(body.len()) + SLACK_BYTES;
    assert!(
        allocations.peak <= allowed,
        "{api:?} {version}: {} bytes made the crate hold {} ({allocations:?}); {body:02x?}",
        body.len(),
        allocations.peak,
    );
    (content, left)
}

#[test]
fn guard_and_crate_agree_on_well_formed_requests() {
    let mut random = Random(1);
    for (api, version) in every_version() {
        for round in 0..200 {
            let body = Bytes::from(well_formed(guard::shape(api, version), &mut random));
            let (checked, allocations) = measure(|| guard::check(api, version, &body));
            assert_eq!(checked, Ok(body.len()), "{api:?} {version}: {body:02x?}");
            assert_eq!(allocations, Allocations::default(), "the guard allocates nothing");
            assert_eq!(check_promise(api, version, &body), (true, 0), "{api:?} {version}: {body:02x?}");

            // bytes behind the body belong to neither
            let longer = Bytes::from([&body[..], &[round as u8; 5]].concat());
            assert_eq!(guard::check(api, version, &longer), Ok(body.len()));
            // and nothing of it can be missing
            let cut = body.len().saturating_sub(1 + random.below(4));
            if cut < body.len() {
                assert!(guard::check(api, version, &body[..cut]).is_err(), "{api:?} {version}: {body:02x?}");
            }
        }
    }
}

#[test]
fn no_mutant_costs_more_than_its_size_allows() {
    let mut random = Random(2);
    let versions = every_version().count();
    let (mut passed, mut decoded) = (0, 0);
    for (api, version) in every_version() {
        let originals: Vec<Vec<u8>> =
            (0..32).map(|_| well_formed(guard::shape(api, version), &mut random)).collect();
        for _ in 0..MUTANTS / versions {
            let mut body = originals[random.below(originals.len())].clone();
            for _ in 0..1 + random.below(3) {
                mutate(&mut body, &mut random);
            }
            let body = Bytes::from(body);
            let (checked, allocations) = measure(|| guard::check(api, version, &body));
            assert_eq!(allocations, Allocations::default());
            let Ok(consumed) = checked else { continue };
            passed += 1;
            let (content, left) = check_promise(api, version, &body);
            if content {
                decoded += 1;
                assert_eq!(left, body.len() - consumed, "{api:?} {version}: {body:02x?}");
            }
        }
    }
    // mutants that are all refused, or all let through, would show nothing
    let mutants = MUTANTS / versions * versions;
    assert!(
        passed > mutants / 10 && passed < mutants,
        "{passed} of {mutants} passed, {decoded} were decoded"
    );
    assert!(decoded > passed / 2, "{passed} of {mutants} passed, {decoded} were decoded");
}

/// Requests of as many of the smallest elements as there is room for, at every array of every version.
#[test]
fn the_densest_requests_keep_the_promise() {
    let (mut refused, mut largest) = (0, 0);
    for (api, version) in every_version() {
        let shape = guard::shape(api, version);
        for array in 0..arrays(shape) {
            for count in [1, 30, 200, 1_000, 4_000, 16_000] {
                for tags in [0, 1] {
                    let mut dense = Dense { array, count, unknown_tags: tags, body: Vec::new() };
                    dense.structure(shape, &mut 0);
                    let body = Bytes::from(dense.body);
                    match guard::check(api, version, &body) {
                        Ok(consumed) => {
                            assert_eq!(consumed, body.len());
                            let (_, left) = check_promise(api, version, &body);
                            assert_eq!(left, 0, "{api:?} {version}");
                            largest = largest.max(body.len());
                        }
                        Err(error) => {
                            assert_eq!(error, Error::Memory, "{api:?} {version}");
                            refused += 1;
                        }
                    }
                }
            }
        }
    }
    assert!(refused > 0 && largest > 100_000, "{refused} refused, the largest had {largest} bytes");
}

#[test]
fn no_request_takes_more_than_the_most() {
    // Metadata 0: an array of topics, names of eight bytes
    let [Field::Array(Array { memory_bytes, .. })] = guard::shape(Api::Metadata, 0) else {
        panic!("Metadata 0 is one array");
    };
    let request = |count: usize| {
        let mut body = BytesMut::new();
        body.put_i32(count as i32);
        (0..count).for_each(|_| body.put_slice(b"\0\x08eight by"));
        body.freeze()
    };
    let most = MEMORY_MAX_BYTES / *memory_bytes as usize;
    assert!(guard::check(Api::Metadata, 0, &request(most)).is_ok());
    assert_eq!(guard::check(Api::Metadata, 0, &request(most + 1)), Err(Error::Memory));
}

#[test]
fn the_known_attack_is_refused() {
    // null transactional id, acks, timeout, then 2^31-1 topics
    let body = [0xff, 0xff, 0, 1, 0, 0, 0, 9, 0x7f, 0xff, 0xff, 0xff];
    assert_eq!(guard::check(Api::Produce, 3, &body), Err(Error::Count));
    let body = [0, 0, 1, 0, 0, 0, 9, 0xff, 0xff, 0xff, 0xff, 0x0f];
    assert_eq!(guard::check(Api::Produce, 9, &body), Err(Error::Count));
}

#[test]
fn each_lie_has_its_name() {
    let check = |api, version, body: &[u8], expect| {
        assert_eq!(guard::check(api, version, body), expect, "{api:?} {version}: {body:02x?}");
    };
    // Metadata 0 is an array of strings
    check(Api::Metadata, 0, &[0, 0, 0, 1, 0, 1, b'a'], Ok(7));
    check(Api::Metadata, 0, &[], Err(Error::Truncated));
    check(Api::Metadata, 0, &[0, 0, 0, 1, 0, 2, b'a'], Err(Error::Truncated));
    check(Api::Metadata, 0, &[0, 0, 0, 1, 0xff, 0xff], Err(Error::Length));
    check(Api::Metadata, 0, &[0xff, 0xff, 0xff, 0xff], Err(Error::Length));
    check(Api::Metadata, 0, &[0, 0, 0, 2, 0, 1, b'a'], Err(Error::Count));
    // from version 1 its topics may be null
    check(Api::Metadata, 1, &[0xff, 0xff, 0xff, 0xff], Ok(4));
    check(Api::Metadata, 1, &[0xff, 0xff, 0xff, 0xfe], Err(Error::Length));
    // InitProducerId 2: compact nullable string, i32, tagged fields
    check(Api::InitProducerId, 2, &[0, 0, 0, 0, 1, 0], Ok(6));
    check(Api::InitProducerId, 2, &[0xff, 0xff, 0xff, 0xff, 0x7f, 0], Err(Error::Varint));
    check(Api::InitProducerId, 2, &[0x82, 0x80, 0x02, 0, 0, 0, 1, 0], Err(Error::StringTooLong));
    check(Api::InitProducerId, 2, &[0x80, 0x80, 0x02, 0, 0, 0, 1, 0], Err(Error::Truncated));
    check(Api::InitProducerId, 2, &[0, 0, 0, 0, 1, 1, 0, 9, 1], Err(Error::Truncated));
    check(Api::InitProducerId, 2, &[0, 0, 0, 0, 1, 1, 0, 1, 1], Ok(9));
    // DescribeTopicPartitions 0: compact array, i32, a structure of a string and an i32 or null
    check(Api::DescribeTopicPartitions, 0, &[1, 0, 0, 0, 9, 0xff, 0], Ok(7));
    check(Api::DescribeTopicPartitions, 0, &[1, 0, 0, 0, 9, 1, 2, b'a', 0, 0, 0, 3, 0, 0], Ok(14));
    check(Api::DescribeTopicPartitions, 0, &[1, 0, 0, 0, 9, 1, 2, b'a', 0, 0, 0], Err(Error::Truncated));
    for odd in [0, 2, 0x7f, 0x80, 0xfe] {
        check(Api::DescribeTopicPartitions, 0, &[1, 0, 0, 0, 9, odd, 0], Err(Error::Presence));
    }
    // Fetch 12 knows tag 0, a string: three bytes of value in a size of four
    let mut fetch = vec![0; 25];
    fetch.extend([1, 1, 1]);
    let tagged = |tag: &[u8]| [&fetch[..], tag].concat();
    check(Api::Fetch, 12, &tagged(&[0]), Ok(29));
    check(Api::Fetch, 12, &tagged(&[1, 0, 3, 3, b'i', b'd']), Ok(34));
    check(Api::Fetch, 12, &tagged(&[1, 0, 4, 3, b'i', b'd', 0]), Err(Error::TagSize));
    check(Api::Fetch, 12, &tagged(&[1, 0, 2, 3, b'i', b'd']), Err(Error::Truncated));
    // unknown tags without end: each a map node in memory
    let mut many = tagged(&[0xff, 0x7f]);
    many.extend((0..16_383).flat_map(|_| [9, 0]));
    check(Api::Fetch, 12, &many, Err(Error::Memory));
}

/// A body of random values along `shape`, small and valid.
fn well_formed(shape: &[Field], random: &mut Random) -> Vec<u8> {
    let mut body = BytesMut::new();
    put_structure(shape, random, &mut body);
    body.to_vec()
}

fn put_structure(shape: &[Field], random: &mut Random, body: &mut BytesMut) {
    for field in shape {
        match *field {
            Field::Fixed(bytes) => (0..bytes).for_each(|_| body.put_u8(random.byte())),
            Field::String { nullable } if nullable && random.one_in(4) => body.put_i16(-1),
            Field::CompactString { nullable } | Field::CompactBytes { nullable }
                if nullable && random.one_in(4) =>
            {
                body.put_u8(0);
            }
            Field::Bytes { nullable } if nullable && random.one_in(4) => body.put_i32(-1),
            Field::String { .. } => {
                let length = random.below(12);
                body.put_i16(length as i16);
                put_text(length, random, body);
            }
            Field::CompactString { .. } => {
                // now and then one whose length takes two bytes
                let length = if random.one_in(8) { 150 } else { random.below(12) };
                put_varint(length as u32 + 1, body);
                put_text(length, random, body);
            }
            Field::Bytes { .. } => {
                let length = random.below(40);
                body.put_i32(length as i32);
                put_text(length, random, body);
            }
            Field::CompactBytes { .. } => {
                let length = random.below(200);
                put_varint(length as u32 + 1, body);
                put_text(length, random, body);
            }
            Field::Array(ref array) => {
                if array.nullable && random.one_in(4) {
                    body.put_i32(-1);
                } else {
                    let count = random.below(4);
                    body.put_i32(count as i32);
                    (0..count).for_each(|_| put_structure(array.element, random, body));
                }
            }
            Field::CompactArray(ref array) => {
                if array.nullable && random.one_in(4) {
                    body.put_u8(0);
                } else {
                    let count = random.below(4);
                    put_varint(count as u32 + 1, body);
                    (0..count).for_each(|_| put_structure(array.element, random, body));
                }
            }
            Field::NullableStruct(fields) => {
                if random.one_in(4) {
                    body.put_i8(-1);
                } else {
                    body.put_i8(1);
                    put_structure(fields, random, body);
                }
            }
            Field::Tags(known) => {
                let mut fields = Vec::new();
                for tag in known {
                    if random.one_in(2) {
                        fields.push((tag.tag, well_formed(tag.value, random)));
                    }
                }
                if random.one_in(6) {
                    fields.push((200 + random.below(1000) as u32, vec![7; random.below(5)]));
                }
                put_varint(fields.len() as u32, body);
                for (tag, value) in fields {
                    put_varint(tag, body);
                    put_varint(value.len() as u32, body);
                    body.put_slice(&value);
                }
            }
        }
    }
}

fn put_text(length: usize, random: &mut Random, body: &mut BytesMut) {
    (0..length).for_each(|_| body.put_u8(b'a' + random.byte() % 26));
}

fn put_varint(mut value: u32, body: &mut BytesMut) {
    while value >= 0x80 {
        body.put_u8(value as u8 | 0x80);
        value >>= 7;
    }
    body.put_u8(value as u8);
}

fn mutate(body: &mut Vec<u8>, random: &mut Random) {
    let at = random.below(body.len() + 1);
    match random.below(8) {
        0 if at < body.len() => body[at] ^= 1 << random.below(8),
        1 if at < body.len() => body[at] = [0, 1, 0x7f, 0x80, 0xff][random.below(5)],
        2 if at < body.len() => body[at] = random.byte(),
        3 if at + 4 <= body.len() => {
            let extremes = [-1, -2, 0, 1, 1000, 100_000, i32::MAX, i32::MIN];
            body[at..at + 4].copy_from_slice(&extremes[random.below(8)].to_be_bytes());
        }
        4 if at + 5 <= body.len() => {
            let varints = [[0xff, 0xff, 0xff, 0xff, 0x0f], [0xff; 5], [0x80, 0x80, 0x80, 0x80, 0x00]];
            body[at..at + 5].copy_from_slice(&varints[random.below(3)]);
        }
        5 => body.truncate(at),
        6 => {
            // a piece of itself, again
            let end = at + random.below(body.len() + 1 - at);
            let piece = body[at..end].to_vec();
            let to = random.below(body.len() + 1);
            body.splice(to..to, piece);
        }
        7 => {
            let bytes: Vec<u8> = (0..random.below(6)).map(|_| random.byte()).collect();
            body.splice(at..at, bytes);
        }
        _ => {}
    }
}

/// Arrays in a shape, nested ones too.
fn arrays(shape: &[Field]) -> usize {
    let of = |array: &Array| 1 + arrays(array.element);
    shape
        .iter()
        .map(|field| match field {
            Field::Array(array) | Field::CompactArray(array) => of(array),
            Field::NullableStruct(fields) => arrays(fields),
            _ => 0,
        })
        .sum()
}

/// Writes the smallest body in which the array of number `array` has `count` elements, those around it one.
struct Dense {
    array: usize,
    count: usize,
    /// In every structure.
    unknown_tags: u32,
    body: Vec<u8>,
}

impl Dense {
    fn structure(&mut self, shape: &[Field], number: &mut usize) {
        for field in shape {
            match *field {
                Field::Fixed(bytes) => self.body.extend(vec![0; bytes as usize]),
                Field::String { .. } => self.body.extend([0; 2]),
                Field::Bytes { .. } => self.body.extend([0; 4]),
                Field::CompactString { .. } | Field::CompactBytes { .. } => self.body.push(1),
                Field::Array(ref array) => {
                    let count = self.elements(array, *number);
                    self.body.extend((count as i32).to_be_bytes());
                    self.put(array, count, number);
                }
                Field::CompactArray(ref array) => {
                    let count = self.elements(array, *number);
                    let mut bytes = BytesMut::new();
                    put_varint(count as u32 + 1, &mut bytes);
                    self.body.extend(bytes);
                    self.put(array, count, number);
                }
                Field::NullableStruct(fields) => {
                    self.body.push(1);
                    self.structure(fields, number);
                }
                Field::Tags(_) => {
                    self.body.push(self.unknown_tags as u8);
                    (0..self.unknown_tags).for_each(|tag| self.body.extend([100 + tag as u8, 0]));
                }
            }
        }
    }

    /// The array itself is filled, one that holds it has one element, any other none.
    fn elements(&self, array: &Array, number: usize) -> usize {
        let within = number + 1..number + 1 + arrays(array.element);
        if number == self.array { self.count } else { usize::from(within.contains(&self.array)) }
    }

    fn put(&mut self, array: &Array, count: usize, number: &mut usize) {
        let inner = *number + 1;
        for _ in 0..count {
            self.structure(array.element, &mut inner.clone());
        }
        *number = inner + arrays(array.element);
    }
}

/// splitmix64: enough to choose by.
struct Random(u64);

impl Random {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = self.0;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ (mixed >> 31)
    }

    fn below(&mut self, limit: usize) -> usize {
        (self.next() % limit as u64) as usize
    }

    fn byte(&mut self) -> u8 {
        self.next() as u8
    }

    fn one_in(&mut self, chances: usize) -> bool {
        self.below(chances) == 0
    }
}

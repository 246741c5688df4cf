//! What we write, the crate's own decoder reads, in every version.

use bytes::Buf;
use kafka_protocol::messages::fetch_response::{
    AbortedTransaction, EpochEndOffset, FetchableTopicResponse, LeaderIdAndEpoch, PartitionData,
};
use kafka_protocol::messages::{FetchResponse as CrateResponse, ResponseHeader as CrateHeader};
use kafka_protocol::protocol::{Decodable, StrBytes};
use uuid::Uuid;

use super::*;
use crate::protocol::test_batch::{self, Spec};

const TOPIC_ID: TopicId = TopicId(0x0123_4567_89ab_cdef_0011_2233_4455_6677);

fn quiet<'a>(index: i32, records: &'a [Bytes]) -> Partition<'a> {
    Partition {
        index,
        error: ErrorCode::None,
        high_watermark: Offset(100 + i64::from(index)),
        last_stable_offset: Offset(90),
        log_start_offset: Offset(10),
        diverging: None,
        current_leader: None,
        aborted: None,
        preferred_read_replica: None,
        records,
    }
}

fn response<'a>(topics: &'a [Topic<'a>]) -> FetchResponse<'a> {
    FetchResponse { throttle_time_ms: 7, error: ErrorCode::None, session_id: 0, topics, node_endpoints: &[] }
}

/// Encodes, checks the frame, decodes with the crate and compares with `expect`, version by version.
fn check(response: &FetchResponse<'_>, expect: impl Fn(i16) -> CrateResponse) {
    for version in Api::Fetch.accepted().iter() {
        let parts = encode(ResponseHeader { api: Api::Fetch, version, correlation_id: 3 }, response);
        assert!(parts.iter().all(|part| !part.is_empty()), "version {version}: an empty part");
        let mut frame = Bytes::from(parts.concat());
        assert_eq!(frame.get_i32() as usize, frame.len(), "version {version}");
        let header = CrateHeader::decode(&mut frame, if version >= 12 { 1 } else { 0 }).unwrap();
        assert_eq!(header.correlation_id, 3);
        let decoded = CrateResponse::decode(&mut frame, version).unwrap();
        assert!(frame.is_empty(), "version {version}: {} bytes too many", frame.len());
        assert_eq!(decoded, expect(version), "version {version}");
    }
}

/// `quiet`, as the crate has it.
fn crate_quiet(version: i16, index: i32, records: &[Bytes]) -> PartitionData {
    PartitionData::default()
        .with_partition_index(index)
        .with_high_watermark(100 + i64::from(index))
        .with_last_stable_offset(90)
        .with_log_start_offset(if version >= 5 { 10 } else { -1 })
        .with_aborted_transactions(None)
        .with_records(Some(Bytes::from(records.concat())))
}

fn crate_topic(version: i16, name: &'static str, partitions: Vec<PartitionData>) -> FetchableTopicResponse {
    let topic = FetchableTopicResponse::default().with_partitions(partitions);
    if version >= 13 {
        topic.with_topic_id(Uuid::from_u128(TOPIC_ID.0))
    } else {
        topic.with_topic(StrBytes::from_static_str(name).into())
    }
}

fn batches(count: usize) -> Vec<Bytes> {
    (0..count)
        .map(|i| {
            test_batch::encode(&Spec {
                base_offset: 3 * i as i64,
                value_bytes: 100 * i,
                ..Default::default()
            })
        })
        .collect()
}

#[test]
fn nothing_at_all() {
    check(&response(&[]), |_| CrateResponse::default().with_throttle_time_ms(7));
}

#[test]
fn records_of_no_slice_of_one_and_of_many() {
    let (one, many) = (batches(1), batches(9));
    let with_empty = [Bytes::new(), one[0].clone(), Bytes::new()];
    let first = [quiet(0, &[]), quiet(1, &one), quiet(2, &many)];
    let second = [quiet(0, &with_empty), quiet(5, &[])];
    let topics = [
        Topic { name: "first", id: TOPIC_ID, partitions: &first },
        Topic { name: "second", id: TOPIC_ID, partitions: &second },
        Topic { name: "empty", id: TOPIC_ID, partitions: &[] },
    ];
    check(&response(&topics), |version| {
        let first =
            vec![crate_quiet(version, 0, &[]), crate_quiet(version, 1, &one), crate_quiet(version, 2, &many)];
        let second = vec![crate_quiet(version, 0, &one), crate_quiet(version, 5, &[])];
        CrateResponse::default().with_throttle_time_ms(7).with_responses(vec![
            crate_topic(version, "first", first),
            crate_topic(version, "second", second),
            crate_topic(version, "empty", vec![]),
        ])
    });
}

#[test]
fn records_are_passed_on_not_copied() {
    let many = batches(4);
    let partitions = [quiet(0, &many[..2]), quiet(1, &many[2..])];
    let topics = [Topic { name: "t", id: TOPIC_ID, partitions: &partitions }];
    for version in [11, 12] {
        let parts =
            encode(ResponseHeader { api: Api::Fetch, version, correlation_id: 3 }, &response(&topics));
        let passed_on = parts.iter().filter(|part| many.iter().any(|batch| batch.as_ptr() == part.as_ptr()));
        assert_eq!(passed_on.count(), 4);
        // a version that is not flexible ends in records: nothing behind them
        assert_eq!(parts.len(), if version == 12 { 7 } else { 6 });
    }
}

#[test]
fn partition_errors_with_all_that_explains_them() {
    let mut diverging = quiet(0, &[]);
    diverging.diverging = Some((LeaderEpoch(4), Offset(55)));
    let mut moved = quiet(1, &[]);
    moved.error = ErrorCode::NotLeaderOrFollower;
    moved.high_watermark = Offset::NONE;
    moved.current_leader = Some((NodeId(2), LeaderEpoch(6)));
    let mut both = quiet(2, &[]);
    both.error = ErrorCode::FencedLeaderEpoch;
    both.diverging = diverging.diverging;
    both.current_leader = moved.current_leader;
    let partitions = [diverging, moved, both];
    let topics = [Topic { name: "t", id: TOPIC_ID, partitions: &partitions }];
    let end = EpochEndOffset::default().with_epoch(4).with_end_offset(55);
    let leader = LeaderIdAndEpoch::default().with_leader_id(2.into()).with_leader_epoch(6);
    check(&response(&topics), |version| {
        let mut expected = vec![
            crate_quiet(version, 0, &[]),
            crate_quiet(version, 1, &[]).with_error_code(6).with_high_watermark(-1),
            crate_quiet(version, 2, &[]).with_error_code(74),
        ];
        if version >= 12 {
            expected[0].diverging_epoch = end.clone();
            expected[1].current_leader = leader.clone();
            expected[2].diverging_epoch = end.clone();
            expected[2].current_leader = leader.clone();
        }
        CrateResponse::default()
            .with_throttle_time_ms(7)
            .with_responses(vec![crate_topic(version, "t", expected)])
    });
}

#[test]
fn aborted_transactions_and_a_preferred_replica() {
    let records = batches(2);
    let aborted = [(ProducerId(5), Offset(11)), (ProducerId(9), Offset(40))];
    let mut committed = quiet(0, &records);
    committed.aborted = Some(&aborted);
    let mut clean = quiet(1, &[]);
    clean.aborted = Some(&[]);
    clean.preferred_read_replica = Some(NodeId(3));
    let partitions = [committed, clean];
    let topics = [Topic { name: "t", id: TOPIC_ID, partitions: &partitions }];
    check(&response(&topics), |version| {
        let aborted = aborted.map(|(producer, first)| {
            AbortedTransaction::default().with_producer_id(producer.0.into()).with_first_offset(first.0)
        });
        let replica = if version >= 11 { 3 } else { -1 };
        let partitions = vec![
            crate_quiet(version, 0, &records).with_aborted_transactions(Some(aborted.to_vec())),
            crate_quiet(version, 1, &[])
                .with_aborted_transactions(Some(vec![]))
                .with_preferred_read_replica(replica.into()),
        ];
        CrateResponse::default()
            .with_throttle_time_ms(7)
            .with_responses(vec![crate_topic(version, "t", partitions)])
    });
}

#[test]
fn session_errors_and_node_endpoints() {
    use kafka_protocol::messages::fetch_response::NodeEndpoint as CrateEndpoint;
    let long_host = "h".repeat(200);
    let endpoints = [
        NodeEndpoint { node: NodeId(2), host: &long_host, port: 65_535, rack: None },
        NodeEndpoint { node: NodeId(3), host: "b", port: 1, rack: Some("r") },
    ];
    let mut response = response(&[]);
    response.error = ErrorCode::FetchSessionIdNotFound;
    response.session_id = 99;
    response.node_endpoints = &endpoints;
    check(&response, |version| {
        let mut expected = CrateResponse::default().with_throttle_time_ms(7);
        if version >= 7 {
            expected.error_code = 70;
            expected.session_id = 99;
        }
        if version >= 16 {
            expected.node_endpoints = endpoints
                .iter()
                .map(|endpoint| {
                    CrateEndpoint::default()
                        .with_node_id(endpoint.node.0.into())
                        .with_host(endpoint.host.to_owned().into())
                        .with_port(i32::from(endpoint.port))
                        .with_rack(endpoint.rack.map(|rack| rack.to_owned().into()))
                })
                .collect();
        }
        expected
    });
}

#[test]
fn varints_know_their_size() {
    for bit in 0..32 {
        for value in [1_u32 << bit, (1_u32 << bit) - 1, u32::MAX >> bit] {
            let mut writer = Writer {
                frame: BytesMut::new(),
                version: 12,
                flexible: true,
                cuts: vec![],
                records_bytes: 0,
                slices: 0,
            };
            writer.put_varint(value);
            assert_eq!(writer.frame.len(), varint_bytes(value), "{value}");
        }
    }
}

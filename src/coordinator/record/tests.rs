use super::*;
use crate::model::TopicId;

/// One record of each type, every optional field there and not there.
fn records() -> Vec<Record> {
    let (group, member) = (|| "grüppe".to_owned(), || "member-1".to_owned());
    let offset = OffsetValue {
        offset: i64::MAX,
        leader_epoch: 7,
        metadata: "m".repeat(4096),
        commit_timestamp: 1_700_000_000_000,
        expire_timestamp: -1,
    };
    let expiring = OffsetValue { leader_epoch: -1, expire_timestamp: 5, ..offset.clone() };
    let of_classic = |instance: Option<&str>| ClassicMemberValue {
        member: member(),
        instance: instance.map(str::to_owned),
        client_id: "client".to_owned(),
        client_host: "/127.0.0.1".to_owned(),
        rebalance_timeout_ms: 300_000,
        session_timeout_ms: 45_000,
        subscription: Bytes::from_static(&[0, 1, 2]),
        assignment: Bytes::new(),
    };
    let classic = ClassicGroupValue {
        protocol_type: "consumer".to_owned(),
        generation: 3,
        protocol: Some("range".to_owned()),
        leader: Some(member()),
        state_timestamp: 12,
        members: vec![of_classic(None), of_classic(Some("instance"))],
    };
    let empty = ClassicGroupValue { protocol: None, leader: None, members: Vec::new(), ..classic.clone() };
    let of_consumer = |classic: Option<ClassicSupport>, text: Option<&str>| MemberValue {
        instance: text.map(str::to_owned),
        rack: text.map(str::to_owned),
        client_id: "client".to_owned(),
        client_host: "/127.0.0.1".to_owned(),
        topics: vec!["a".to_owned(), "b".to_owned()],
        regex: text.map(str::to_owned),
        rebalance_timeout_ms: 60_000,
        assignor: text.map(str::to_owned),
        classic,
    };
    let support = ClassicSupport {
        session_timeout_ms: 45_000,
        protocols: vec![ClassicProtocol { name: "range".to_owned(), metadata: Bytes::from_static(b"x") }],
    };
    let partitions = |count: i32, epochs: Option<Vec<i32>>| EpochPartitions {
        topic: TopicId(u128::MAX / 3),
        partitions: (0..count).collect(),
        epochs,
    };
    let current = CurrentAssignmentValue {
        epoch: 9,
        previous_epoch: 8,
        state: 1,
        assigned: vec![partitions(200, None), partitions(3, Some(vec![7, 8, 9]))],
        revoking: Vec::new(),
    };
    let target = vec![TopicPartitions { topic: TopicId(5), partitions: vec![0, 300] }];
    let regex = RegexValue { topics: vec!["topic".to_owned()], version: 3, timestamp: 4 };
    let of_offset = |value| Record::Offset { group: group(), topic: "t".to_owned(), partition: 4, value };
    let of_member = |value| Record::ConsumerMember { group: group(), member: member(), value };
    vec![
        of_offset(Some(offset)),
        of_offset(Some(expiring)),
        of_offset(None),
        Record::ClassicGroup { group: group(), value: Some(classic) },
        Record::ClassicGroup { group: group(), value: Some(empty) },
        Record::ClassicGroup { group: group(), value: None },
        Record::ConsumerGroup {
            group: group(),
            value: Some(GroupEpochValue { epoch: 2, metadata_hash: -5 }),
        },
        Record::ConsumerGroup { group: group(), value: Some(GroupEpochValue { epoch: 2, metadata_hash: 0 }) },
        Record::ConsumerGroup { group: group(), value: None },
        of_member(Some(of_consumer(Some(support), None))),
        of_member(Some(of_consumer(None, Some("text")))),
        of_member(None),
        Record::TargetEpoch { group: group(), value: Some(TargetEpochValue { epoch: 1, timestamp: 77 }) },
        Record::TargetEpoch { group: group(), value: None },
        Record::TargetMember { group: group(), member: member(), value: Some(target) },
        Record::TargetMember { group: group(), member: member(), value: None },
        Record::CurrentAssignment { group: group(), member: member(), value: Some(current) },
        Record::CurrentAssignment { group: group(), member: member(), value: None },
        Record::Regex { group: group(), regex: "a.*".to_owned(), value: Some(regex) },
        Record::Regex { group: group(), regex: "a.*".to_owned(), value: None },
    ]
}

#[test]
fn records_come_back_as_they_were() {
    for record in records() {
        let (key, value) = record.encode();
        assert_eq!(Record::decode(&key, value.as_deref()), Ok(Some(record)));
    }
}

/// A record that was cut, or has a byte too many, is none; nor is one whose lengths lie.
#[test]
fn what_is_damaged_is_no_record() {
    for record in records() {
        let (key, value) = record.encode();
        for cut in 0..key.len() {
            let decoded = Record::decode(&key[..cut], value.as_deref());
            assert!(decoded.is_err(), "{record:?} cut to {cut}: {decoded:?}");
        }
        let Some(value) = value else { continue };
        for cut in 0..value.len() {
            assert!(Record::decode(&key, Some(&value[..cut])).is_err(), "{record:?} cut to {cut}");
        }
        assert!(Record::decode(&key, Some(&[&value[..], &[0]].concat())).is_err(), "{record:?}");
        for place in 0..value.len() {
            let mut changed = value.to_vec();
            changed[place] = 0xff;
            // whatever it says: no panic, and no memory for what is not there
            let _ = Record::decode(&key, Some(&changed));
        }
    }
}

#[test]
fn records_of_other_groups_and_newer_kinds_are_passed_over() {
    for of_type in [4_i16, 9, 10, 15, 17, 23, 99] {
        assert_eq!(Record::decode(&of_type.to_be_bytes(), Some(b"anything")), Ok(None));
    }
    assert_eq!(Record::decode(&[0], None), Err(DecodeError::Key));
}

/// Bytes as Kafka writes them, by its schemas.
#[test]
fn bytes_are_kafkas() {
    let hex = |bytes: &[u8]| bytes.iter().map(|byte| format!("{byte:02x}")).collect::<String>();
    let value = OffsetValue {
        offset: 10,
        leader_epoch: 2,
        metadata: "m".to_owned(),
        commit_timestamp: 256,
        expire_timestamp: -1,
    };
    let record = |value| Record::Offset { group: "g".to_owned(), topic: "t".to_owned(), partition: 1, value };
    let (key, bytes) = record(Some(value.clone())).encode();
    assert_eq!(hex(&key), "0001".to_owned() + "000167" + "000174" + "00000001");
    assert_eq!(
        hex(&bytes.unwrap()),
        "0003".to_owned() + "000000000000000a" + "00000002" + "00016d" + "0000000000000100"
    );
    let (_, bytes) = record(Some(OffsetValue { leader_epoch: -1, expire_timestamp: 512, ..value })).encode();
    assert_eq!(
        hex(&bytes.unwrap()),
        "0001".to_owned() + "000000000000000a" + "00016d" + "0000000000000100" + "0000000000000200"
    );
    let epoch = Record::ConsumerGroup {
        group: "g".to_owned(),
        value: Some(GroupEpochValue { epoch: 1, metadata_hash: 2 }),
    };
    let (key, bytes) = epoch.encode();
    assert_eq!(hex(&key), "0003000167");
    assert_eq!(
        hex(&bytes.unwrap()),
        "0000".to_owned() + "00000001" + "01" + "00" + "08" + "0000000000000002"
    );
}

/// Version 4 has a topic id behind a tag, which tells nothing that the key does not.
#[test]
fn what_newer_brokers_write_is_read() {
    let key =
        Record::Offset { group: "g".to_owned(), topic: "t".to_owned(), partition: 1, value: None }.encode().0;
    let mut value = vec![0, 4];
    value.extend(10_i64.to_be_bytes());
    value.extend(2_i32.to_be_bytes());
    value.extend([2, b'm']);
    value.extend(256_i64.to_be_bytes());
    value.extend([1, 0, 16]);
    value.extend([9; 16]);
    let Ok(Some(Record::Offset { value: Some(read), .. })) = Record::decode(&key, Some(&value)) else {
        panic!("a version 4 value is read")
    };
    assert_eq!((read.offset, read.leader_epoch, read.metadata.as_str()), (10, 2, "m"));
}

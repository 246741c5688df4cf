use super::*;

fn registration(shard_ports: &[u16]) -> Registration {
    Registration {
        broker: BrokerId(7),
        incarnation: 1 << 100,
        epoch: BrokerEpoch(i64::MAX),
        rack: Some("r\u{e4}ck".to_owned()),
        endpoints: vec![
            Endpoint {
                listener: "PLAINTEXT".to_owned(),
                host: "::1".to_owned(),
                port: 65535,
                protocol: SecurityProtocol::Plaintext,
                shard_ports: shard_ports.to_vec(),
            },
            Endpoint {
                listener: "OUTSIDE".to_owned(),
                host: String::new(),
                port: 0,
                protocol: SecurityProtocol::SaslSsl,
                shard_ports: Vec::new(),
            },
        ],
        features: vec![SupportedFeature { name: "f".to_owned(), min: 1, max: 2 }],
        fenced: true,
    }
}

fn samples() -> Vec<Record> {
    let partition = PartitionId { topic: TopicId(u128::MAX - 5), index: i32::MAX };
    let brokers = |ids: &[i32]| ids.iter().map(|&id| BrokerId(id)).collect::<Vec<_>>();
    vec![
        Record::FeatureLevel { name: "some.feature".to_owned(), level: -3 },
        Record::RegisterBroker(registration(&[])),
        Record::RegisterBroker(registration(&[9093, 9094, 65535])),
        Record::Topic { name: "t".to_owned(), id: TopicId(3) },
        Record::Partition(NewPartition {
            partition,
            replicas: brokers(&[1, 2, 3]),
            directories: vec![DirectoryId(1), DirectoryId::UNASSIGNED, DirectoryId(u128::MAX)],
            isr: brokers(&[1]),
            elr: brokers(&[2]),
            last_known_elr: brokers(&[3]),
            adding: brokers(&[4]),
            removing: brokers(&[5, 6]),
            leader: BrokerId::NONE,
            leader_epoch: LeaderEpoch(9),
            partition_epoch: PartitionEpoch(8),
        }),
        Record::PartitionChange(PartitionChange { partition, ..PartitionChange::default() }),
        Record::PartitionChange(PartitionChange {
            partition,
            partition_epoch: PartitionEpoch(5),
            leader: Some(BrokerId(2)),
            leader_epoch: Some(LeaderEpoch(4)),
            replicas: Some(brokers(&[2])),
            directories: Some(vec![DirectoryId(100)]),
            isr: Some(Vec::new()),
            elr: Some(brokers(&[1])),
            last_known_elr: Some(brokers(&[2])),
            adding: Some(brokers(&[3])),
            removing: Some(brokers(&[4])),
        }),
        Record::RemoveTopic { id: TopicId(3) },
        Record::Config {
            resource: ConfigResource::topic("t"),
            key: "k".to_owned(),
            value: Some(String::new()),
        },
        Record::Config {
            resource: ConfigResource { kind: ResourceKind::Broker, name: "1".to_owned() },
            key: "k".to_owned(),
            value: None,
        },
        Record::Config {
            resource: ConfigResource::group("g"),
            key: "k".to_owned(),
            value: Some("v".to_owned()),
        },
        Record::ProducerIds { broker: BrokerId(1), broker_epoch: BrokerEpoch(2), next: ProducerId(3000) },
        Record::ReplicaShard { broker: BrokerId(1), partition, shard: ShardId(u16::MAX) },
    ]
}

fn encode(record: &Record) -> Vec<u8> {
    let mut bytes = Vec::new();
    record.encode(&mut bytes);
    bytes
}

fn decode(bytes: &[u8]) -> Result<Record, DecodeError> {
    let mut input = bytes;
    let result = Record::decode(&mut input);
    if result.is_err() {
        assert_eq!(input, bytes, "an error takes nothing");
    }
    result
}

#[test]
fn records_come_back_as_they_were() {
    let mut log = Vec::new();
    for record in samples() {
        record.encode(&mut log);
        assert_eq!(decode(&encode(&record)), Ok(record));
    }
    let mut input = log.as_slice();
    for record in samples() {
        assert_eq!(Record::decode(&mut input), Ok(record));
    }
    assert!(input.is_empty());
}

/// The format is on disks: these bytes must never change.
#[test]
fn the_bytes_on_disk_are_fixed() {
    let topic =
        Record::Topic { name: "t1".to_owned(), id: TopicId(0x0102_0304_0506_0708_090a_0b0c_0d0e_0f10) };
    let bytes = [
        0, 2, 0, 0, 0, 0, 0, 22, // type, version, length
        0, 0, 0, 2, b't', b'1', // name
        1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15, 16, // id
    ];
    assert_eq!(encode(&topic), bytes);
    let change = Record::PartitionChange(PartitionChange {
        partition: PartitionId { topic: TopicId(1), index: 2 },
        partition_epoch: PartitionEpoch(3),
        leader: Some(BrokerId(-1)),
        isr: Some(vec![BrokerId(4)]),
        ..PartitionChange::default()
    });
    let bytes = [
        0, 5, 0, 0, 0, 0, 0, 45, // type, version, length
        0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1, 0, 0, 0, 2, // partition
        0, 0, 0, 3, // partition epoch
        1, 255, 255, 255, 255, // leader
        0, 0, 0, // leader epoch, replicas, directories
        1, 0, 0, 0, 1, 0, 0, 0, 4, // isr
        0, 0, 0, 0, // the rest
    ];
    assert_eq!(encode(&change), bytes);
}

#[test]
fn a_newer_versions_extra_fields_are_skipped() {
    for record in samples() {
        let mut bytes = encode(&record);
        bytes.extend_from_slice(b"more");
        let length = u32::from_be_bytes(bytes[4..8].try_into().unwrap()) + 4;
        bytes[4..8].copy_from_slice(&length.to_be_bytes());
        assert_eq!(decode(&bytes), Err(DecodeError::Malformed), "this version has no such field");
        if record == Record::RegisterBroker(registration(&[])) {
            continue; // a newer one has shards' ports, too
        }
        bytes[3] += 1;
        assert_eq!(decode(&bytes), Ok(record));
    }
}

/// What the version before shards had ports has written, and what it makes of what is written now: all but the ports.
#[test]
fn a_registration_with_shards_ports_is_the_one_before_and_more() {
    let mut before = vec![0, 27, 0, 0, 0, 0, 0, 99]; // type, version, length
    before.extend([0, 0, 0, 7]); // broker
    before.extend((1u128 << 100).to_be_bytes()); // incarnation
    before.extend(i64::MAX.to_be_bytes()); // epoch
    before.extend([1, 0, 0, 0, 5, b'r', 0xc3, 0xa4, b'c', b'k']); // rack
    before.extend([0, 0, 0, 2]); // endpoints
    before.extend(b"\0\0\0\x09PLAINTEXT\0\0\0\x03::1\xff\xff\0\0");
    before.extend(b"\0\0\0\x07OUTSIDE\0\0\0\0\0\0\0\x03");
    before.extend(b"\0\0\0\x01\0\0\0\x01f\0\x01\0\x02"); // features
    before.push(1); // fenced
    let without = Record::RegisterBroker(registration(&[]));
    assert_eq!(encode(&without), before);
    assert_eq!(decode(&before), Ok(without));

    let with = Record::RegisterBroker(registration(&[9093, 9094]));
    let ports = [0, 0, 0, 2, 0, 0, 0, 2, 35, 133, 35, 134, 0, 0, 0, 0];
    let mut bytes = before.clone();
    bytes.extend(ports);
    (bytes[3], bytes[7]) = (1, 99 + 16); // version, length
    assert_eq!(encode(&with), bytes);
    assert_eq!(decode(&bytes), Ok(with));
    // of one endpoint only
    bytes.truncate(before.len());
    bytes.extend([0, 0, 0, 1, 0, 0, 0, 2, 35, 133, 35, 134]);
    bytes[7] = 99 + 12;
    assert_eq!(decode(&bytes), Err(DecodeError::Malformed));
}

#[test]
fn what_this_version_does_not_know_is_an_error() {
    let mut bytes = encode(&Record::Topic { name: "t".to_owned(), id: TopicId(3) });
    bytes[0] = 77;
    assert_eq!(decode(&bytes), Err(DecodeError::UnknownType(77 << 8 | 2)));
}

#[test]
fn any_cut_is_malformed() {
    for record in samples() {
        let bytes = encode(&record);
        for end in 0..bytes.len() {
            assert_eq!(decode(&bytes[..end]), Err(DecodeError::Malformed));
        }
    }
}

#[test]
fn impossible_counts_are_refused_before_anything_is_allocated() {
    // a topic's name of 4 GiB; a partition with 2^32-1 replicas, one with as many directories (64 GiB)
    let name = [0, 2, 0, 0, 0, 0, 0, 4, 255, 255, 255, 255];
    assert_eq!(decode(&name), Err(DecodeError::Malformed));
    for replicas in [[255; 4], [0; 4]] {
        let mut partition = vec![0, 3, 0, 0, 0, 0, 0, 48];
        partition.extend_from_slice(&[0; 20]);
        partition.extend_from_slice(&replicas);
        partition.extend_from_slice(&[255; 4]);
        partition.extend_from_slice(&[0; 20]);
        assert_eq!(decode(&partition), Err(DecodeError::Malformed));
    }
}

/// Whatever the bytes are: no panic, neither in decoding nor in replaying what decodes.
#[test]
fn mutated_records_never_panic() {
    let mut random = Random(42);
    let samples: Vec<Vec<u8>> = samples().iter().map(encode).collect();
    let mut cluster = Cluster::new(3);
    cluster.reply("create t 3 2 retention.ms=5; u 1 3");
    let mut image = cluster.image().clone();
    let mut decoded = 0;
    for _ in 0..100_000 {
        let mut bytes = random.pick(&samples).clone();
        for _ in 0..1 + random.below(4) {
            let at = random.below(bytes.len());
            bytes[at] = *random.pick(&[0, 1, 2, 127, 128, 255, bytes[at].wrapping_add(1)]);
        }
        bytes.truncate(bytes.len() - random.below(2) * random.below(bytes.len()));
        if let Ok(record) = decode(&bytes) {
            decoded += 1;
            let _ = image.replay(&retarget(record, cluster.id("t"), &mut random));
        }
    }
    assert!(decoded > 10_000, "{decoded}");
}

/// Aims most records at a topic that exists, so that they get further than its lookup.
fn retarget(mut record: Record, topic: TopicId, random: &mut Random) -> Record {
    if random.below(4) == 0 {
        return record;
    }
    let partition = PartitionId { topic, index: i32::try_from(random.below(5)).unwrap() };
    match &mut record {
        Record::Partition(new) => new.partition = partition,
        Record::PartitionChange(change) => change.partition = partition,
        Record::ReplicaShard { partition: of, .. } => *of = partition,
        _ => {}
    }
    record
}

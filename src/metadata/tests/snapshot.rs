use super::*;
use crate::metadata::batch::{decode, decode_data, encode, encode_data};
use crate::metadata::snapshot::{self, SnapshotHeader, Writer};
use crate::model::Offset;
use crate::protocol::batch::BatchHeader;

fn image() -> Image {
    let mut cluster = Cluster::new(2);
    cluster.reply("create b 3 2 retention.ms=5 cleanup.policy=compact; a 1 1; c.d 40 1");
    cluster.reply("assign 1 b/0:200:4 a/0:201:0");
    cluster.reply("ids 1");
    cluster.image().clone()
}

fn header(image: &Image) -> SnapshotHeader {
    SnapshotHeader {
        index: 12,
        term: 3,
        end: Offset(4_711),
        voters: vec![BrokerId(1), BrokerId(2)],
        records: image.record_count() as u64,
    }
}

fn file(image: &Image) -> Vec<u8> {
    let mut writer = Writer::new(&header(image), 1_700_000_000_000);
    image.records().chunks(7).for_each(|few| writer.push(few));
    writer.finish()
}

#[test]
fn it_comes_back() {
    let image = image();
    let (found, records) = snapshot::decode(&file(&image)).unwrap();
    assert_eq!(found, header(&image));
    let mut again = Image::new("cluster", TopicDefaults::default()).of_broker(BrokerId(1));
    records.iter().for_each(|record| again.replay(record).unwrap());
    assert_eq!(again, image);
    assert_eq!(image.records().len(), image.record_count());
}

/// Whatever is lost or changed of it, nobody takes it for whole.
#[test]
fn damage_is_found() {
    let whole = file(&image());
    for len in 0..whole.len() {
        assert!(snapshot::decode(&whole[..len]).is_err(), "the first {len} of {} bytes", whole.len());
    }
    // outside of the checksum are a batch's base offset, leader epoch and format, which say nothing here
    let ignored = |byte: usize| byte < 8 || (12..17).contains(&byte);
    let first_batch = 12 + usize::try_from(i32::from_be_bytes(whole[8..12].try_into().unwrap())).unwrap();
    for byte in (0..first_batch).filter(|&byte| !ignored(byte)) {
        let mut damaged = whole.clone();
        damaged[byte] ^= 0x10;
        assert!(snapshot::decode(&damaged).is_err(), "byte {byte}");
    }
    assert!(
        snapshot::decode(&[&whole[..], &whole[first_batch..]].concat()).is_err(),
        "twice as many records"
    );
}

#[test]
fn names_are_kafkas() {
    let header = header(&image());
    let name = snapshot::file_name(&header);
    assert_eq!(name, "00000000000000004711-0000000003.checkpoint");
    assert_eq!(snapshot::parse_file_name(&name), Some((Offset(4_711), 3)));
    for stranger in [
        "00000000000000004711-0000000003.checkpoint.tmp",
        "00000000000000004711-0000000003.checkpoint.damaged",
        "4711-3.checkpoint",
        "leader-epoch-checkpoint",
        "+0000000000000004711-0000000003.checkpoint",
    ] {
        assert_eq!(snapshot::parse_file_name(stranger), None, "{stranger}");
    }
}

#[test]
fn a_decision_is_a_batch_with_a_record_for_each_change() {
    let records = image().records();
    let data = encode_data(&records);
    let batch = encode(&data, 5).unwrap();
    let framing = BatchHeader::parse(&batch).unwrap();
    assert_eq!(usize::try_from(framing.record_count), Ok(records.len()));
    let found = decode(&framing, &batch).unwrap();
    assert_eq!(found, data);
    let mut again = Vec::new();
    decode_data(&found, &mut again).unwrap();
    assert_eq!(again, records);

    let empty = encode(&[], 5).unwrap();
    let framing = BatchHeader::parse(&empty).unwrap();
    assert_eq!((framing.record_count, decode(&framing, &empty).unwrap()), (1, Vec::new()));
    assert!(encode(&data[..data.len() - 1], 5).is_err());
}

//! Transaction indexes made from the batches. What appends markers is not built yet: the segments are written by hand.

use super::*;
use crate::log::control::testing::batch as transactional;
use crate::log::producer_state::EndTxn::{self, Abort, Commit};
use crate::log::txn_index::{AbortedTxn, TxnIndex};
use crate::model::ProducerId;

/// Producer, and how it ends its transaction if it does; the offset is the place in the list.
const BATCHES: [(i64, Option<EndTxn>); 11] = [
    (1, None),
    (2, None),
    (1, None),
    (2, Some(Abort)),
    (3, None),
    // the second segment
    (1, Some(Abort)),
    (3, Some(Commit)),
    (1, None),
    (1, Some(Abort)),
    (4, Some(Abort)),
    (4, None),
];
const SECOND: usize = 5;

fn folder_of(name: &str) -> PathBuf {
    folder(name).join("t-0")
}

fn path(name: &str, base: usize, ending: &str) -> PathBuf {
    folder_of(name).join(format!("{base:020}.{ending}"))
}

/// Two segments in the folder of a log that was opened once, with nothing that describes them.
fn write_segments(name: &'static str) {
    on_a_shard(name, move |root| async move {
        let rig = Rig::start(&root, config(), false);
        rig.open(0, log_config()).await;
        rig.storage.stop().await.unwrap();
    });
    let bytes = |range: std::ops::Range<usize>| -> Vec<u8> {
        let batches = range.map(|at| transactional(BATCHES[at].0, 0, BATCHES[at].1, at as i64));
        batches.collect::<Vec<_>>().concat()
    };
    std::fs::write(path(name, 0, "log"), bytes(0..SECOND)).unwrap();
    std::fs::write(path(name, SECOND, "log"), bytes(SECOND..BATCHES.len())).unwrap();
}

/// What the two indexes say: producer, first and last offset, last stable offset.
fn told(name: &str) -> [Vec<(i64, i64, i64, i64)>; 2] {
    [0, SECOND].map(|base| {
        let bytes = std::fs::read(path(name, base, "txnindex")).expect("there are aborts in it");
        let index = TxnIndex::decode(Offset(base as i64), &bytes).expect("it is sound");
        index.entries().iter().map(|txn| {
            let AbortedTxn { producer_id: ProducerId(id), first_offset, last_offset, last_stable_offset } = *txn;
            (id, first_offset.0, last_offset.0, last_stable_offset.0)
        }).collect()
    })
}

fn expected() -> [Vec<(i64, i64, i64, i64)>; 2] {
    [vec![(2, 1, 3, 0)], vec![(1, 0, 5, 4), (1, 7, 8, 9)]]
}

fn open(name: &'static str, clean: bool, config: Config) {
    on_a_shard(name, move |root| {
        let config = config.clone();
        async move {
            let rig = Rig::start(&root, config, clean);
            let log = rig.open(0, log_config()).await;
            assert_eq!(log.end_offset(), Offset(BATCHES.len() as i64));
            let slices = log.read(Offset(1), log.end_offset(), 1, true).await.expect("it can be read");
            assert_eq!(BatchHeader::parse(&slices.parts[0]).unwrap().base_offset, Offset(1));
            rig.storage.stop().await.unwrap();
        }
    });
}

#[test]
fn transaction_indexes_are_made_again_by_recovery() {
    const NAME: &str = "transactions-recovery";
    write_segments(NAME);
    open(NAME, false, config());
    assert_eq!(told(NAME), expected());
    // again after a crash, when snapshots and recovery points spare the first segment, and one of them is wrong
    for (base, bytes) in [(0, &b"no index"[..]), (SECOND, &[0; 34][..]), (SECOND, &b""[..])] {
        std::fs::write(path(NAME, base, "txnindex"), bytes).unwrap();
        open(NAME, false, config());
        assert_eq!(told(NAME), expected(), "{base}");
    }
    std::fs::remove_file(path(NAME, SECOND, "txnindex")).unwrap();
    std::fs::remove_file(path(NAME, BATCHES.len(), "snapshot")).unwrap();
    open(NAME, false, config());
    assert_eq!(told(NAME), expected());
    std::fs::remove_dir_all(folder(NAME)).unwrap();
}

#[test]
fn a_transaction_index_is_mended_after_a_clean_stop() {
    const NAME: &str = "transactions-clean";
    write_segments(NAME);
    open(NAME, false, config());
    for base in [0, SECOND] {
        let sound = std::fs::read(path(NAME, base, "txnindex")).unwrap();
        let mut foreign = sound.clone();
        foreign[25] = 77; // the last offset: a marker of another segment
        for damaged in [&sound[..sound.len() - 1], &[0x5a; 70][..], &foreign[..]] {
            std::fs::write(path(NAME, base, "txnindex"), damaged).unwrap();
            open(NAME, true, no_caches());
            assert_eq!(told(NAME), expected(), "{base}");
        }
    }
    // missing with the other indexes: made again with them, when they are needed
    for ending in ["index", "timeindex", "txnindex"] {
        std::fs::remove_file(path(NAME, 0, ending)).unwrap();
    }
    open(NAME, true, no_caches());
    assert_eq!(told(NAME), expected());
    std::fs::remove_dir_all(folder(NAME)).unwrap();
}

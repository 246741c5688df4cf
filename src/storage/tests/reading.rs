//! Reads from disk: what is read ahead, and what that may cost.

use super::*;

const MIB: usize = 1 << 20;

fn large(seed: u64) -> Spec {
    Spec { records: 1, value_bytes: 100_000, seed, ..Spec::default() }
}

/// A log of `count` large batches.
async fn filled(rig: &Rig, index: i32, count: u64) -> (Log, Expected) {
    let log = rig.open(index, log_config()).await;
    let mut expected = Expected::default();
    for seed in 0..count {
        expected.append(&log, &large(seed), LeaderEpoch(0));
    }
    rig.ears.durable_at(&log, expected.end).await;
    (log, expected)
}

/// Reads about `bytes` bytes from `from`; where it ends.
async fn read_some(log: &Log, from: Offset, bytes: usize) -> Offset {
    log.read(from, log.durable_end(), bytes, true).await.expect("it is readable").next
}

/// There is no event for it: nobody waits for what is read ahead.
async fn read_ahead_has_ended(log: &Log) {
    let state = log.state();
    let chunks = &state.shard.chunks;
    for _ in 0..10_000 {
        if chunks.aheads() == 0 {
            return;
        }
        reactor::sleep(Duration::from_millis(1)).await;
    }
    panic!("it goes on and on");
}

#[test]
fn a_reader_in_sequence_has_chunks_in_front_of_it_and_nothing_is_read_twice() {
    const NAME: &str = "ahead";
    on_a_shard(NAME, |root| async move {
        let rig = Rig::start(&root, Config { read_ahead_bytes: 32 * MIB, ..no_caches() }, true);
        let (log, expected) = filled(&rig, 0, 160).await;
        let state = log.state();
        let chunks = &state.shard.chunks;
        let first = read_some(&log, Offset(0), 100_000).await;
        assert_eq!(chunks.aheads(), 0, "who reads once may not read on");
        let second = read_some(&log, first, MIB).await;
        read_ahead_has_ended(&log).await;
        assert!((5 * MIB..7 * MIB).contains(&chunks.unread_bytes()), "{} in front", chunks.unread_bytes());
        assert!(read_all(&log, second, MIB).await == expected.bytes_from(second));
        read_ahead_has_ended(&log).await;
        assert_eq!(chunks.unread_bytes(), 0);
        let from_disk = log.state().shard.counters.disk_read_bytes.get();
        // a chunk ends with a part of a batch, which is read again at the beginning of the next
        let at_most = log.size_bytes() * 5 / 4;
        assert!(from_disk <= at_most, "{from_disk} bytes of {} were read", log.size_bytes());
        assert!(read_all(&log, Offset(0), MIB).await == expected.bytes_from(Offset(0)));
        assert_eq!(log.state().shard.counters.disk_read_bytes.get(), from_disk, "others find it in memory");
        rig.storage.stop().await.unwrap();
    });
    std::fs::remove_dir_all(folder(NAME)).unwrap();
}

#[test]
fn what_many_readers_have_in_front_of_them_keeps_to_its_share() {
    const NAME: &str = "ahead-many";
    on_a_shard(NAME, |root| async move {
        let budget = 8 * MIB;
        let rig = Rig::start(&root, Config { read_ahead_bytes: budget, ..no_caches() }, true);
        let mut logs = Vec::new();
        for index in 0..12 {
            logs.push(filled(&rig, index, 30).await.0);
        }
        let state = logs[0].state();
        let chunks = &state.shard.chunks;
        // nobody comes for what was read ahead
        for log in &logs {
            let next = read_some(log, Offset(0), 100_000).await;
            read_some(log, next, 100_000).await;
            read_ahead_has_ended(log).await;
            assert!(chunks.unread_bytes() <= budget / 2, "{} in front", chunks.unread_bytes());
            assert!(chunks.used_bytes() <= budget);
        }
        assert!(chunks.unread_bytes() > 0);
        for log in &logs {
            log.state().shard.chunks.forget(log.state().id);
        }
        assert_eq!((chunks.unread_bytes(), chunks.used_bytes()), (0, 0));
        rig.storage.stop().await.unwrap();
    });
    std::fs::remove_dir_all(folder(NAME)).unwrap();
}

#[test]
fn what_was_prepared_is_not_read_again() {
    const NAME: &str = "prepared";
    on_a_shard(NAME, |root| async move {
        let rig = Rig::start(&root, Config { read_ahead_bytes: 8 * MIB, ..no_caches() }, true);
        let (log, expected) = filled(&rig, 0, 10).await;
        let read = || log.state().shard.counters.disk_read_bytes.get();
        for _ in 0..2 {
            log.prepare(Offset(3), expected.end, 200_000);
        }
        let next = read_some(&log, Offset(3), 200_000).await;
        assert!(next > Offset(3));
        let once = read();
        log.prepare(Offset(3), expected.end, 200_000);
        log.prepare(expected.end, expected.end, 200_000);
        log.prepare(expected.end.plus(1), expected.end, 200_000);
        read_ahead_has_ended(&log).await;
        assert_eq!(read(), once);
        rig.storage.stop().await.unwrap();
    });
    std::fs::remove_dir_all(folder(NAME)).unwrap();
}

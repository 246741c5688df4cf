//! Truncation: what stays, what is appended afterwards, and that nothing of what was cut comes back.

use super::*;
use crate::reactor::sim::{Disk, Simulation};

const BATCHES: u64 = 30;

/// Three records each, in a few segments; two of three batches have a producer.
fn spec(n: u64) -> Spec {
    let producer = (n % 3 < 2).then_some((10 + (n % 3) as i64, 0, (n / 3 * 3) as i32));
    Spec { value_bytes: 700, seed: n, producer, ..Spec::default() }
}

async fn written(rig: &Rig, index: i32) -> (Log, Expected) {
    let log = rig.open(index, small_segments()).await;
    let mut expected = Expected::default();
    for n in 0..BATCHES {
        expected.append(&log, &spec(n), LeaderEpoch((n / 10) as i32));
    }
    rig.ears.durable_at(&log, expected.end).await;
    (log, expected)
}

/// Cuts it as the log was, and looks at what is said of it.
async fn cut(rig: &Rig, log: &Log, expected: &mut Expected, to: i64) {
    let kept = expected.batches.partition_point(|(base, _)| base.0 + 3 <= to);
    expected.batches.truncate(kept);
    expected.end = Offset(kept as i64 * 3);
    assert_eq!(log.truncate_to(Offset(to)).await, Ok(expected.end), "to {to}");
    rig.ears.ends.borrow_mut().remove(&log.partition());
    assert_eq!(
        (log.start_offset(), log.end_offset(), log.durable_end()),
        (Offset::ZERO, expected.end, expected.end)
    );
    let last = if kept == 0 { LeaderEpoch::NONE } else { LeaderEpoch((kept as i32 - 1) / 10) };
    assert_eq!(log.last_epoch(), last, "to {to}");
    assert_eq!(log.end_offset_for(last), (last, if kept == 0 { Offset::NONE } else { expected.end }));
    let bytes: usize = expected.batches.iter().map(|(_, bytes)| bytes.len()).sum();
    assert_eq!(log.size_bytes(), bytes as u64);
    let names: Vec<String> = rig.files(log.partition().index).into_keys().collect();
    let above = |name: &&String| {
        name.len() > 20 && name[..20].parse().is_ok_and(|offset: i64| offset > expected.end.0)
    };
    assert_eq!(names.iter().find(above), None, "to {to}");
    assert!(!names.contains(&"truncation".to_owned()));
    assert_eq!(log.read(expected.end.plus(1), Offset(1_000), 1, true).await.err(), Some(Error::OutOfRange));
}

/// Everything is readable, and known producers' batches are known.
async fn holds(log: &Log, expected: &Expected) {
    assert_eq!((log.end_offset(), log.durable_end()), (expected.end, expected.end));
    for max_bytes in [1, 100_000] {
        let whole: Vec<u8> = expected.batches.iter().flat_map(|(_, bytes)| bytes.clone()).collect();
        assert_eq!(read_all(log, log.start_offset(), max_bytes).await, whole);
    }
}

const PLACES: [i64; 10] = [90, 89, 88, 60, 31, 30, 29, 27, 2, 0];

#[test]
fn what_is_cut_is_gone_for_good_and_the_rest_goes_on() {
    const NAME: &str = "truncation";
    on_a_shard(NAME, |root| async move {
        let rig = Rig::start(&root, config(), false);
        let mut all = Vec::new();
        for (index, to) in (0..).zip(PLACES) {
            let (log, mut expected) = written(&rig, index).await;
            cut(&rig, &log, &mut expected, to).await;
            holds(&log, &expected).await;
            // a batch that was cut is new, one that stayed is not
            let count = expected.batches.len() as u64;
            for n in (0..count).rev().filter(|n| n % 3 == 0).take(1) {
                let (bytes, header) = batch(&spec(n));
                let again = log.append(bytes, &header, LeaderEpoch(9), NOW).unwrap();
                assert!(again.duplicate && again.base_offset.0 == n as i64 * 3);
            }
            for n in count..BATCHES + 3 {
                expected.append(&log, &Spec { seed: n + 1_000, ..spec(n) }, LeaderEpoch(7));
            }
            rig.ears.durable_at(&log, expected.end).await;
            holds(&log, &expected).await;
            all.push(expected);
        }
        for index in 0..PLACES.len() as i32 {
            rig.open(index, small_segments()).await.state().idle().await;
        }
        rig.storage.stop_background().await;
        // what the journal has of what was cut lies where other batches lie now
        let rig = Rig::start(&root, config(), false);
        for (index, expected) in all.iter().enumerate() {
            holds(&rig.open(index as i32, small_segments()).await, expected).await;
        }
        rig.storage.stop().await.unwrap();
        let rig = Rig::start(&root, no_caches(), true);
        for (index, expected) in all.iter().enumerate() {
            holds(&rig.open(index as i32, small_segments()).await, expected).await;
        }
        rig.storage.stop().await.unwrap();
    });
    std::fs::remove_dir_all(folder(NAME)).unwrap();
}

#[test]
fn a_log_begins_anew_above_its_end_and_below_its_start() {
    const NAME: &str = "truncation-restart";
    on_a_shard(NAME, |root| async move {
        let rig = Rig::start(&root, config(), false);
        let mut all = Vec::new();
        for (index, at) in (0..).zip([500, 90, 40, 7, 0]) {
            let (log, _) = written(&rig, index).await;
            assert_eq!(log.delete_records(Offset(35)).await, Ok(Offset(35)));
            match index {
                // a cut below the start empties the log, too
                3 => assert_eq!(log.truncate_to(Offset(at)).await, Ok(Offset(at))),
                _ => log.truncate_fully_and_start_at(Offset(at)).await.unwrap(),
            }
            rig.ears.ends.borrow_mut().remove(&log.partition());
            assert_eq!((log.start_offset(), log.end_offset()), (Offset(at), Offset(at)));
            assert_eq!((log.last_epoch(), log.size_bytes()), (LeaderEpoch::NONE, 0));
            let mut expected = Expected { end: Offset(at), ..Expected::default() };
            for n in 0..10 {
                expected.append(&log, &spec(n), LeaderEpoch(3));
            }
            rig.ears.durable_at(&log, expected.end).await;
            holds(&log, &expected).await;
            log.state().idle().await;
            all.push((at, expected));
        }
        rig.storage.stop_background().await;
        for clean in [false, true] {
            let rig = Rig::start(&root, config(), clean);
            for (index, (at, expected)) in all.iter().enumerate() {
                let log = rig.open(index as i32, small_segments()).await;
                assert_eq!(log.start_offset(), Offset(*at));
                holds(&log, expected).await;
            }
            rig.storage.stop().await.unwrap();
        }
    });
    std::fs::remove_dir_all(folder(NAME)).unwrap();
}

#[test]
fn the_batch_that_the_log_starts_in_takes_the_log_with_it() {
    const NAME: &str = "truncation-start";
    on_a_shard(NAME, |root| async move {
        let rig = Rig::start(&root, config(), false);
        let (log, _) = written(&rig, 0).await;
        assert_eq!(log.delete_records(Offset(40)).await, Ok(Offset(40)));
        // 39 to 41 are one batch
        assert_eq!(log.truncate_to(Offset(41)).await, Ok(Offset(40)));
        assert_eq!((log.start_offset(), log.end_offset()), (Offset(40), Offset(40)));
        rig.storage.stop().await.unwrap();
    });
    std::fs::remove_dir_all(folder(NAME)).unwrap();
}

#[test]
fn what_is_queued_behind_a_cut_is_dropped_and_what_waits_for_it_hears_of_it() {
    const NAME: &str = "truncation-queued";
    on_a_shard(NAME, |root| async move {
        let rig = Rig::start(&root, config(), false);
        let (log, mut expected) = written(&rig, 0).await;
        let (kept, count) = (expected.end, expected.batches.len());
        // some of these roll the log
        for n in 0..20 {
            expected.append(&log, &Spec { producer: None, ..spec(n) }, LeaderEpoch(2));
        }
        let waits = reactor::spawn({
            let log = log.clone();
            async move { log.flush().await }
        });
        let cutting = reactor::spawn({
            let log = log.clone();
            async move { log.truncate_to(kept.plus(4)).await }
        });
        assert_eq!(cutting.await, Ok(kept.plus(3)));
        assert_eq!(waits.await, Err(Error::Closed));
        rig.ears.ends.borrow_mut().remove(&log.partition());
        expected.batches.truncate(count + 1);
        expected.end = kept.plus(3);
        holds(&log, &expected).await;
        for n in 0..5 {
            expected.append(&log, &Spec { producer: None, ..spec(n) }, LeaderEpoch(3));
        }
        rig.ears.durable_at(&log, expected.end).await;
        holds(&log, &expected).await;
        assert_eq!(rig.storage.pending_bytes(), 0);
        // two at once, and a stop beside them
        let first = reactor::spawn({
            let log = log.clone();
            async move { log.truncate_to(Offset(50)).await }
        });
        let second = reactor::spawn({
            let log = log.clone();
            async move { log.truncate_to(Offset(20)).await }
        });
        assert_eq!((first.await, second.await), (Ok(Offset(48)), Ok(Offset(18))));
        rig.storage.stop().await.unwrap();
        assert_eq!(log.truncate_to(Offset(5)).await, Err(Error::Closed));
    });
    std::fs::remove_dir_all(folder(NAME)).unwrap();
}

#[test]
fn a_start_that_another_shards_file_still_tells_does_not_go_back() {
    const NAME: &str = "truncation-elsewhere";
    on_a_shard(NAME, |root| async move {
        let partition = partition(0);
        std::fs::write(root.join("log-start-offsets.1"), format!("0\n1\n{} 0 30\n", partition.topic))
            .unwrap();
        let rig = Rig::start(&root, config(), false);
        let (log, expected) = written(&rig, 0).await;
        assert_eq!(log.delete_records(Offset(40)).await, Ok(Offset(40)));
        assert_eq!(log.truncate_fully_and_start_at(Offset(20)).await, Err(Error::OutOfRange));
        assert_eq!((log.start_offset(), log.end_offset()), (Offset(40), expected.end), "nothing has changed");
        assert_eq!(log.truncate_fully_and_start_at(Offset(30)).await, Ok(()));
        rig.storage.stop().await.unwrap();
    });
    std::fs::remove_dir_all(folder(NAME)).unwrap();
}

/// Cuts a log of 90 records to 60 while somebody asks for a flush again and again, on a disk that may be full by then.
/// What became of the cut, and of the flushes.
fn cut_beside_flushes(seed: u64, is_full: bool) -> (Result<Offset, Error>, Vec<Result<(), Error>>) {
    let disk = Disk::new();
    disk.create_dir_all("/data").unwrap();
    let outcome = Simulation::new(seed).disk(&disk.clone()).run(move |_: reactor::ShardContext<()>| {
        let disk = disk.clone();
        async move {
            // what lies in the journal only needs room for itself
            let config = if is_full { no_caches() } else { config() };
            let rig = Rig::start(Path::new("/data"), config, false);
            let (log, _) = written(&rig, 0).await;
            log.state().idle().await;
            if is_full {
                disk.set_capacity(disk.used_bytes());
            }
            let done = Rc::new(Cell::new(None));
            reactor::spawn({
                let (log, done) = (log.clone(), Rc::clone(&done));
                async move { done.set(Some(log.truncate_to(Offset(60)).await)) }
            });
            let (state, mut flushes) = (log.state(), Vec::new());
            while done.get().is_none() {
                reactor::sleep(Duration::from_micros(10)).await;
                let log = log.clone();
                flushes.push(reactor::spawn(async move { log.flush().await }));
                if disk.list("/data/t-0").unwrap().iter().any(|name| name == "truncation") {
                    let point = state.borrow().recovery_point();
                    assert!(point <= Offset(60), "a checkpoint tells that all is flushed up to {point}");
                }
            }
            let mut flushed = Vec::new();
            for flush in flushes {
                flushed.push(flush.await);
            }
            disk.set_capacity(u64::MAX);
            rig.storage.stop().await.unwrap();
            (done.get().expect("it has ended"), flushed)
        }
    });
    outcome.done().remove(0)
}

#[test]
fn a_flush_beside_a_truncation_does_not_have_a_checkpoint_tell_what_is_cut() {
    for seed in 0..20 {
        let (cut, flushed) = cut_beside_flushes(seed, false);
        assert_eq!(cut, Ok(Offset(60)));
        assert!(flushed.contains(&Err(Error::Closed)), "somebody waited for what is gone");
    }
}

#[test]
fn whoever_waits_for_a_flush_goes_on_when_there_is_no_room_for_a_truncation() {
    for seed in 0..20 {
        let (cut, flushed) = cut_beside_flushes(seed, true);
        assert_eq!(cut, Err(Error::Full));
        assert!(flushed.iter().all(Result::is_ok), "nothing is gone: {flushed:?}");
    }
}

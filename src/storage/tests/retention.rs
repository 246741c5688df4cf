//! What goes, when, and what stays: retention, DeleteRecords, log starts over restarts. Crashes are `tests/sim`'s.

use super::*;
use crate::log::files::{FileKind, SegmentFile};

/// Looked at all the time.
fn eager() -> Config {
    Config { retention_check_interval_ms: 5, ..config() }
}

/// Batches of 3 records, 20 to a segment, from `base_timestamp` on, one second apart.
async fn fill(rig: &Rig, log: &Log, expected: &mut Expected, batches: u64, base_timestamp: i64) {
    for seed in 0..batches {
        let base_timestamp = base_timestamp + seed as i64 * 1_000;
        let spec = Spec { seed, value_bytes: 300, base_timestamp, ..Spec::default() };
        expected.append(log, &spec, LeaderEpoch(0));
    }
    rig.ears.durable_at(log, expected.end).await;
}

/// Base offsets of the segments on disk. Panics when something else of a segment that is gone is left.
fn bases(files: &BTreeMap<String, u64>) -> Vec<i64> {
    let files: Vec<SegmentFile> = files.keys().filter_map(|name| SegmentFile::parse(name)).collect();
    let bases: Vec<i64> =
        files.iter().filter(|file| file.kind == FileKind::Log).map(|file| file.offset.0).collect();
    assert!(files.iter().all(|file| file.offset.0 >= bases[0]), "{files:?}");
    bases
}

/// Waits until the log's first segment on disk is the one that holds its start.
async fn until_removed(rig: &Rig, log: &Log, index: i32) -> Vec<i64> {
    loop {
        // names only: files go meanwhile
        let entries = std::fs::read_dir(rig.root.join(format!("t-{index}"))).unwrap();
        let names = entries.filter_map(|entry| entry.ok()?.file_name().into_string().ok());
        let files = names.filter_map(|name| SegmentFile::parse(&name));
        let mut logs: Vec<i64> =
            files.filter(|file| file.kind == FileKind::Log).map(|file| file.offset.0).collect();
        logs.sort_unstable();
        let idle = !log.state().borrow().work.removing;
        if idle && logs.get(1).is_none_or(|second| *second > log.start_offset().0) {
            return bases(&rig.files(index));
        }
        reactor::sleep(Duration::from_millis(1)).await;
    }
}

async fn until_starts_at(log: &Log, least: Offset) {
    while log.start_offset() < least {
        reactor::sleep(Duration::from_millis(1)).await;
    }
}

async fn starts_with(log: &Log, expected: &Expected, start: Offset) {
    assert_eq!(log.start_offset(), start);
    assert_eq!(read_all(log, start, 10_000).await, expected.bytes_from(start));
    if start > Offset::ZERO {
        let below = log.read(start.plus(-1), expected.end, 1, true).await;
        assert_eq!(below.err(), Some(Error::OutOfRange));
        assert_eq!(log.read_cached(start.plus(-1), expected.end, 1, true).map(|slices| slices.bytes), None);
    }
}

#[test]
fn what_is_too_much_goes_and_what_was_lent_stays() {
    const NAME: &str = "retention-size";
    const KEPT: u64 = 50_000;
    let config = || LogConfig { retention_bytes: KEPT as i64, ..small_segments() };
    on_a_shard(NAME, move |root| async move {
        let rig = Rig::start(&root, eager(), false);
        // nothing has a limit at first
        let log = rig.open(0, small_segments()).await;
        let compacted = CleanupPolicy { delete: false, compact: true };
        let compact = rig.open(1, LogConfig { cleanup: compacted, ..config() }).await;
        let mut expected = Expected::default();
        fill(&rig, &log, &mut expected, 200, 1_000).await;
        fill(&rig, &compact, &mut Expected::default(), 200, 1_000).await;
        log.flush().await.unwrap();
        let lent = log.read(Offset(0), expected.end, 10_000, true).await.unwrap();
        let segment = Rc::clone(&log.state().borrow().segments[0]);
        assert_eq!((log.start_offset(), bases(&rig.files(0)).len()), (Offset(0), 10));

        log.set_config(config());
        until_starts_at(&log, Offset(1)).await;
        let start = log.start_offset();
        // somebody reads the first segment: its files stay until that ends
        assert!(rig.files(0).contains_key("00000000000000000000.log"));
        assert!(!log.state().borrow().segments.iter().any(|other| other.base == Offset(0)));
        drop(segment);
        let kept = until_removed(&rig, &log, 0).await;
        assert_eq!((kept[0], log.end_offset()), (start.0, expected.end));
        let size = log.size_bytes();
        assert!((KEPT..KEPT + 20_000).contains(&size), "{size} bytes are kept");
        starts_with(&log, &expected, start).await;
        let first = expected.batches[0].1.clone();
        assert_eq!(lent.parts[0][..first.len()], first, "what was lent stays");
        let state = log.state();
        let counters = &state.shard.counters;
        assert_eq!(counters.expired_records.get(), start.0 as u64);
        assert_eq!(counters.removed_segments.get() as usize, 10 - kept.len());

        assert_eq!((compact.start_offset(), bases(&rig.files(1)).len()), (Offset(0), 10));
        compact.delete_records(Offset(125)).await.unwrap();
        assert_eq!(
            until_removed(&rig, &compact, 1).await[0],
            120,
            "below the start it goes, compacted or not"
        );
        rig.storage.stop().await.unwrap();
    });
    for clean in [true, false] {
        on_a_shard(NAME, move |root| async move {
            let mut expected = Expected::default();
            for seed in 0..200 {
                let base_timestamp = 1_000 + seed as i64 * 1_000;
                let (bytes, _) = batch(&Spec { seed, value_bytes: 300, base_timestamp, ..Spec::default() });
                expected.batches.push((expected.end, stored(&bytes, expected.end, LeaderEpoch(0))));
                expected.end = expected.end.plus(3);
            }
            let rig = Rig::start(&root, config_of_no_looks(), clean);
            let log = rig.open(0, config()).await;
            let start = log.start_offset();
            assert_eq!(bases(&rig.files(0))[0], start.0);
            assert!(start > Offset(300));
            starts_with(&log, &expected, start).await;
            let compact = rig.open(1, small_segments()).await;
            starts_with(&compact, &expected, Offset(125)).await;
            rig.storage.stop().await.unwrap();
        });
    }
    std::fs::remove_dir_all(folder(NAME)).unwrap();
}

fn config_of_no_looks() -> Config {
    Config { tail_cache_bytes: 0, ..config() }
}

#[test]
fn what_is_old_goes_with_the_active_segment_and_the_future_stays() {
    const NAME: &str = "retention-time";
    on_a_shard(NAME, move |root| async move {
        let now = reactor::wall_clock_ms();
        let hour = 3_600_000;
        let rig = Rig::start(&root, eager(), false);
        let config = LogConfig { retention_ms: hour, segment_ms: i64::MAX, ..small_segments() };
        let [old, mixed, ahead, untimed] = [
            rig.open(0, config.clone()).await,
            rig.open(1, config.clone()).await,
            rig.open(2, config.clone()).await,
            rig.open(3, config.clone()).await,
        ];
        let (mut of_ahead, mut of_old) = (Expected::default(), Expected::default());
        // a record from the future in the first segment
        fill(&rig, &ahead, &mut of_ahead, 1, now + hour).await;
        fill(&rig, &ahead, &mut of_ahead, 50, now - 5 * hour).await;
        // without timestamps the file's age counts, and the file is new
        fill(&rig, &untimed, &mut Expected::default(), 50, i64::MIN / 2).await;
        let mut of_mixed = Expected::default();
        fill(&rig, &mixed, &mut of_mixed, 50, now - 5 * hour).await;
        fill(&rig, &mixed, &mut of_mixed, 25, now).await;
        fill(&rig, &old, &mut of_old, 50, now - 5 * hour).await;

        until_starts_at(&old, of_old.end).await;
        assert_eq!(until_removed(&rig, &old, 0).await, [of_old.end.0], "an empty segment at the end is left");
        assert_eq!((old.size_bytes(), old.end_offset(), old.last_epoch()), (0, of_old.end, LeaderEpoch(0)));
        assert_eq!(old.find_max_timestamp(of_old.end).await, Ok(None));
        fill(&rig, &old, &mut of_old, 1, now).await;
        starts_with(&old, &of_old, Offset(150)).await;

        let kept = until_removed(&rig, &mixed, 1).await;
        assert!(kept[0] > 0 && kept[0] <= 150, "{kept:?}");
        starts_with(&mixed, &of_mixed, Offset(kept[0])).await;
        assert_eq!((ahead.start_offset(), untimed.start_offset()), (Offset(0), Offset(0)));
        rig.storage.stop().await.unwrap();
    });
    on_a_shard(NAME, move |root| async move {
        // all of it recovered, with the epoch and the producers of batches that are gone
        let rig = Rig::start(&root, config_of_no_looks(), false);
        let log = rig.open(0, small_segments()).await;
        assert_eq!((log.start_offset(), log.end_offset()), (Offset(150), Offset(153)));
        assert_eq!(log.epoch_at(Offset(150)), LeaderEpoch(0));
        rig.storage.stop().await.unwrap();
    });
    std::fs::remove_dir_all(folder(NAME)).unwrap();
}

/// A start inside a batch: what lies before it is no answer to any question.
#[test]
fn a_log_may_start_inside_a_batch() {
    const NAME: &str = "retention-inside";
    on_a_shard(NAME, move |root| async move {
        let rig = Rig::start(&root, config(), false);
        let log = rig.open(0, log_config()).await;
        let append = |seed, epoch, base_timestamp, timestamp_step| {
            let spec = Spec { seed, records: 10, base_timestamp, timestamp_step, ..Spec::default() };
            let (bytes, header) = batch(&spec);
            log.append(bytes, &header, LeaderEpoch(epoch), NOW).unwrap();
        };
        // offsets 0..10 at 9000, 8999 …; 10..20 at 5000, 5001 …
        append(1, 1, 9_000, -1);
        append(2, 2, 5_000, 1);
        log.flush().await.unwrap();
        let end = Offset(20);
        assert_eq!(log.delete_records(end.plus(1)).await, Err(Error::OutOfRange));
        assert_eq!(log.delete_records(Offset(4)).await, Ok(Offset(4)));
        assert_eq!(log.delete_records(Offset(2)).await, Ok(Offset(4)), "never back");
        check_times(&log, end).await;
        // the batch is read as a whole, from its first record on
        assert!(log.read(Offset(3), end, 1, true).await.is_err());
        assert!(log.read(Offset(4), end, 1, true).await.unwrap().bytes > 0);
        let epochs = [3, 4, 9, 10].map(|offset| log.epoch_at(Offset(offset)));
        assert_eq!(epochs, [LeaderEpoch::NONE, LeaderEpoch(1), LeaderEpoch(1), LeaderEpoch(2)]);
        rig.storage.stop().await.unwrap();
    });
    for clean in [true, false] {
        on_a_shard(NAME, move |root| async move {
            let rig = Rig::start(&root, config(), clean);
            let log = rig.open(0, log_config()).await;
            assert_eq!((log.start_offset(), log.end_offset()), (Offset(4), Offset(20)));
            assert_eq!(
                [3, 4].map(|offset| log.epoch_at(Offset(offset))),
                [LeaderEpoch::NONE, LeaderEpoch(1)]
            );
            check_times(&log, Offset(20)).await;
            rig.storage.stop().await.unwrap();
        });
    }
    std::fs::remove_dir_all(folder(NAME)).unwrap();
}

/// What `leader-epoch-checkpoint` says.
fn epochs_on_disk(rig: &Rig) -> String {
    std::fs::read_to_string(rig.root.join("t-0/leader-epoch-checkpoint")).unwrap_or_default()
}

#[test]
fn the_leader_epochs_on_disk_follow_the_log_start() {
    const NAME: &str = "retention-epochs";
    on_a_shard(NAME, move |root| async move {
        let rig = Rig::start(&root, Config { checkpoint_interval_ms: 20, ..config() }, false);
        let log = rig.open(0, log_config()).await;
        for epoch in 1..=3 {
            let (bytes, header) = batch(&Spec { records: 10, ..Spec::default() });
            log.append(bytes, &header, LeaderEpoch(epoch), NOW).unwrap();
        }
        log.flush().await.unwrap();
        // a leadership that has appended nothing yet
        log.begin_epoch(LeaderEpoch(4));
        log.delete_records(Offset(15)).await.unwrap();
        while epochs_on_disk(&rig) != "0\n3\n2 15\n3 20\n4 30\n" {
            reactor::sleep(Duration::from_millis(5)).await;
        }
        rig.storage.stop().await.unwrap();
    });
    // a log that is only shortened has it written by the stop, and one whose start has come to its end
    for (to, expect) in [(25, "0\n2\n3 25\n4 30\n"), (30, "0\n1\n4 30\n")] {
        on_a_shard(NAME, move |root| async move {
            let rig = Rig::start(&root, config(), true);
            let log = rig.open(0, log_config()).await;
            log.delete_records(Offset(to)).await.unwrap();
            assert_ne!(epochs_on_disk(&rig), expect, "not with every deletion");
            rig.storage.stop().await.unwrap();
            assert_eq!(epochs_on_disk(&rig), expect);
        });
    }
    on_a_shard(NAME, move |root| async move {
        // a recovery makes the epochs again from the batches
        for (clean, epoch) in [(true, 4), (false, 3)] {
            let rig = Rig::start(&root, config(), clean);
            let log = rig.open(0, log_config()).await;
            assert_eq!((log.start_offset(), log.last_epoch()), (Offset(30), LeaderEpoch(epoch)));
            rig.storage.stop().await.unwrap();
        }
    });
    std::fs::remove_dir_all(folder(NAME)).unwrap();
}

async fn check_times(log: &Log, end: Offset) {
    let found =
        |timestamp, offset, epoch| Ok(Some((TimestampMs(timestamp), Offset(offset), LeaderEpoch(epoch))));
    assert_eq!(log.find_max_timestamp(end).await, found(8_996, 4, 1));
    assert_eq!(log.find_max_timestamp(Offset(10)).await, found(8_996, 4, 1));
    assert_eq!(log.find_timestamp(TimestampMs(8_000), end).await, found(8_996, 4, 1));
    assert_eq!(log.find_timestamp(TimestampMs(8_997), end).await, Ok(None), "they are deleted");
    assert_eq!(log.find_timestamp(TimestampMs(0), end).await, found(8_996, 4, 1));
}

/// Whatever the number of shards was, the highest start that a file tells counts, and is in this shard's file before
/// the other's goes.
#[test]
fn the_highest_start_counts_and_moves_with_its_partition() {
    const NAME: &str = "retention-shards";
    let starts = |of: i32, offset: i64| format!("0\n1\n{} {of} {offset}\n", partition(0).topic);
    let file = |name: &str| std::fs::read_to_string(folder(NAME).join(name)).ok();
    on_a_shard(NAME, move |root| async move {
        let rig = Rig::start(&root, config(), false);
        let log = rig.open(0, small_segments()).await;
        fill(&rig, &log, &mut Expected::default(), 60, 1_000).await;
        rig.storage.stop().await.unwrap();
    });
    assert_eq!(file("log-start-offsets.0"), None, "no start has moved");
    std::fs::write(folder(NAME).join("log-start-offsets.0"), starts(5, 7)).unwrap();
    std::fs::write(folder(NAME).join("log-start-offsets.3"), starts(0, 65)).unwrap();
    std::fs::write(folder(NAME).join("log-start-offsets.4"), starts(0, 20)).unwrap();
    std::fs::write(folder(NAME).join("log-start-offsets.5"), "damaged").unwrap();
    on_a_shard(NAME, move |root| async move {
        let rig = Rig::start(&root, config(), false);
        rig.storage.boot_begins();
        let log = rig.open(0, small_segments()).await;
        assert_eq!(log.start_offset(), Offset(65));
        assert_eq!(bases(&rig.files(0)), [60, 120], "what lies below went when it was opened");
        let before = std::fs::read_to_string(root.join("log-start-offsets.0")).unwrap();
        assert_eq!(before, starts(5, 7), "boot may still fail");
        rig.storage.boot_is_done().await;
        let told = std::fs::read_to_string(root.join("log-start-offsets.0")).unwrap();
        assert!(
            told.contains(" 0 65\n") && told.contains(" 5 7\n"),
            "the other may not be open elsewhere yet: {told}"
        );
        // side by side
        let deletions = [70, 71, 130].map(|to| {
            let log = log.clone();
            reactor::spawn(async move { log.delete_records(Offset(to)).await })
        });
        for (deletion, least) in deletions.into_iter().zip([70, 71, 130]) {
            assert!(deletion.await.unwrap() >= Offset(least));
        }
        assert_eq!(until_removed(&rig, &log, 0).await, [120]);
        rig.storage.stop().await.unwrap();
    });
    assert_eq!(file("log-start-offsets.0"), Some(starts(0, 130)));
    assert_eq!([3, 4, 5].map(|shard| file(&format!("log-start-offsets.{shard}"))), [None, None, None]);
    std::fs::remove_dir_all(folder(NAME)).unwrap();
}

#[test]
fn a_log_that_cannot_be_opened_keeps_its_start() {
    const NAME: &str = "retention-missing";
    on_a_shard(NAME, move |root| async move {
        let rig = Rig::start(&root, config(), false);
        let log = rig.open(0, small_segments()).await;
        fill(&rig, &log, &mut Expected::default(), 30, 1_000).await;
        log.delete_records(Offset(10)).await.unwrap();
        rig.storage.stop().await.unwrap();
    });
    let (there, elsewhere) = (folder(NAME).join("t-0"), folder(NAME).join("elsewhere"));
    std::fs::rename(&there, &elsewhere).unwrap();
    on_a_shard(NAME, move |root| async move {
        let rig = Rig::start(&root, config(), false);
        assert!(rig.try_open(0, small_segments(), Create::Never).await.is_err());
        let log = rig.open(1, small_segments()).await;
        fill(&rig, &log, &mut Expected::default(), 30, 1_000).await;
        log.delete_records(Offset(20)).await.unwrap();
        rig.storage.stop().await.unwrap();
    });
    std::fs::rename(&elsewhere, &there).unwrap();
    on_a_shard(NAME, move |root| async move {
        let rig = Rig::start(&root, config(), true);
        let logs = [rig.open(0, small_segments()).await, rig.open(1, small_segments()).await];
        assert_eq!(logs.map(|log| log.start_offset()), [Offset(10), Offset(20)]);
        rig.storage.stop().await.unwrap();
    });
    std::fs::remove_dir_all(folder(NAME)).unwrap();
}

/// A deletion of the topic waits for the file that is just being removed, or the next topic of that name would lose it.
#[test]
fn a_topic_may_be_deleted_while_its_segments_are_removed() {
    const NAME: &str = "retention-delete";
    on_a_shard(NAME, move |root| async move {
        let rig = Rig::start(&root, config(), false);
        for round in 0..10 {
            let log = rig.open(0, small_segments()).await;
            rig.ears.ends.borrow_mut().clear();
            fill(&rig, &log, &mut Expected::default(), 100, 1_000).await;
            log.delete_records(Offset(300)).await.unwrap();
            while round > 0 && !log.state().borrow().work.removing {
                reactor::turn().await;
            }
            rig.storage.delete(&log).await.unwrap();
            assert!(!log.state().borrow().work.removing);
        }
        let log = rig.open(0, small_segments()).await;
        rig.ears.ends.borrow_mut().clear();
        let mut expected = Expected::default();
        fill(&rig, &log, &mut expected, 100, 1_000).await;
        starts_with(&log, &expected, Offset(0)).await;
        rig.storage.stop().await.unwrap();
    });
    std::fs::remove_dir_all(folder(NAME)).unwrap();
}

#[test]
fn a_written_log_is_flushed_after_so_many_records_or_so_long() {
    const NAME: &str = "flush-limits";
    on_a_shard(NAME, move |root| async move {
        let rig = Rig::start(&root, config(), false);
        let written = LogConfig { durability: Durability::Written, ..log_config() };
        let by_count = rig.open(0, LogConfig { flush_messages: 10, ..written.clone() }).await;
        let by_time = rig.open(1, LogConfig { flush_ms: 5, ..written.clone() }).await;
        let never = rig.open(2, written).await;
        let flushed = |log: &Log| log.state().borrow().flushed_end;
        for log in [&by_count, &by_time, &never] {
            let mut expected = Expected::default();
            for seed in 0..4 {
                expected.append(log, &Spec { seed, ..Spec::default() }, LeaderEpoch(0));
                rig.ears.durable_at(log, expected.end).await;
                if log.partition() == by_count.partition() {
                    assert_eq!(flushed(log), if seed == 3 { Offset(12) } else { Offset(0) });
                }
            }
        }
        while flushed(&by_time) < Offset(12) {
            reactor::sleep(Duration::from_millis(1)).await;
        }
        assert_eq!(flushed(&never), Offset(0));
        rig.storage.stop().await.unwrap();
    });
    std::fs::remove_dir_all(folder(NAME)).unwrap();
}

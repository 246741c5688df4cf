//! The commit journal: what goes there, what comes back from it.

use super::*;
use crate::log::journal::{BLOCK_BYTES, Round, read_file};

const LOGS: i32 = 20;

/// Batches of one record.
fn small(seed: u64) -> Spec {
    Spec { records: 1, value_bytes: 200, seed, ..Spec::default() }
}

fn journal_files(root: &Path) -> Vec<PathBuf> {
    let mut files: Vec<PathBuf> =
        std::fs::read_dir(root).unwrap().map(|entry| entry.unwrap().path()).collect();
    files.retain(|path| path.file_name().unwrap().to_str().unwrap().starts_with("journal-"));
    files.sort();
    files
}

fn rounds(root: &Path) -> Vec<Round> {
    let mut rounds: Vec<Round> = journal_files(root)
        .iter()
        .flat_map(|path| read_file(&std::fs::read(path).unwrap()).unwrap())
        .collect();
    rounds.sort_by_key(|round| round.sequence);
    rounds
}

/// One round after the other: `each` batches to every log, then the shard goes without a stop.
async fn run_and_go(
    root: &Path,
    config: Config,
    logs: i32,
    each: u64,
    spec: impl Fn(u64) -> Spec,
) -> Vec<Expected> {
    let rig = Rig::start(root, config, false);
    let mut all = Vec::new();
    for index in 0..logs {
        all.push((rig.open(index, log_config()).await, Expected::default()));
    }
    for n in 0..each {
        for (log, expected) in &mut all {
            expected.append(log, &spec(n), LeaderEpoch(0));
        }
        for (log, expected) in &all {
            rig.ears.durable_at(log, expected.end).await;
        }
    }
    for (log, _) in &all {
        log.state().idle().await;
    }
    rig.storage.stop_background().await;
    all.into_iter().map(|(_, expected)| expected).collect()
}

async fn all_there(rig: &Rig, logs: Vec<Expected>) {
    for (index, expected) in logs.into_iter().enumerate() {
        let log = rig.open(index as i32, log_config()).await;
        assert_eq!(log.end_offset(), expected.end, "log {index}");
        assert_eq!(
            read_all(&log, Offset::ZERO, 10_000).await,
            expected.bytes_from(Offset::ZERO),
            "log {index}"
        );
    }
}

#[test]
fn small_batches_of_all_logs_share_a_write_and_a_flush() {
    const NAME: &str = "journal-round";
    on_a_shard(NAME, |root| async move {
        let rig = Rig::start(&root, config(), false);
        let mut logs = Vec::new();
        for index in 0..LOGS {
            logs.push((rig.open(index, log_config()).await, Expected::default()));
        }
        let mut lone = Expected::default();
        lone.append(&logs[0].0, &small(1), LeaderEpoch(0));
        rig.ears.durable_at(&logs[0].0, lone.end).await;
        logs[0].1 = lone;
        let before = rig.storage.measure().counters;
        assert_eq!((before.rounds.get(), before.flushes.get(), before.batches.get()), (1, 1, 1));
        for (log, expected) in &mut logs {
            expected.append(log, &small(2), LeaderEpoch(0));
        }
        for (log, expected) in &logs {
            rig.ears.durable_at(log, expected.end).await;
        }
        let after = rig.storage.measure().counters;
        assert!(
            after.rounds.get() <= 3,
            "the first, and what came while it was gathered: {:?}",
            after.rounds
        );
        assert_eq!(after.flushes.get(), after.rounds.get(), "one flush each");
        assert_eq!(after.batches.get(), 1 + LOGS as u64);
        assert!(after.written_bytes.get() <= 4096 + 16 * 1024, "{:?}", after.written_bytes);
        for (log, expected) in &logs {
            let slices = log.read_cached(Offset::ZERO, expected.end, 10_000, true).expect("in memory");
            assert_eq!(slices.parts.concat(), expected.bytes_from(Offset::ZERO));
        }
        let begun: u64 = (0..LOGS).map(|index| rig.files(index)["00000000000000000000.log"]).sum();
        assert_eq!(begun, 0, "nothing has come to the segments");
        rig.storage.stop().await.unwrap();
        for (index, (_, expected)) in logs.iter().enumerate() {
            let bytes = std::fs::read(root.join(format!("t-{index}/00000000000000000000.log"))).unwrap();
            assert_eq!(bytes, expected.bytes_from(Offset::ZERO), "all of it has at the stop");
        }
        assert_eq!(rounds(&root), [], "and nothing is to be replayed");
    });
    std::fs::remove_dir_all(folder(NAME)).unwrap();
}

#[test]
fn what_is_in_the_journal_is_there_after_a_kill_and_after_another() {
    const NAME: &str = "journal-kill";
    on_a_shard(NAME, |root| async move {
        let logs = run_and_go(&root, config(), LOGS, 10, small).await;
        assert_eq!(rounds(&root).iter().map(|round| round.entries.len()).sum::<usize>(), 200);
        // as if the first replay had been cut off before the journal was emptied
        let copies: Vec<(PathBuf, Vec<u8>)> = journal_files(&root)
            .into_iter()
            .map(|path| (path.clone(), std::fs::read(path).unwrap()))
            .collect();
        let first = Rig::start(&root, config(), false);
        first.storage.replay_journals().await.unwrap();
        first.storage.stop_background().await;
        assert_eq!(rounds(&root), []);
        copies.iter().for_each(|(path, bytes)| std::fs::write(path, bytes).unwrap());
        let rig = Rig::start(&root, config(), false);
        all_there(&rig, logs).await;
        assert_eq!(rounds(&root), []);
        rig.storage.stop().await.unwrap();
    });
    std::fs::remove_dir_all(folder(NAME)).unwrap();
}

#[test]
fn a_small_journal_is_recycled_and_loses_nothing() {
    const NAME: &str = "journal-recycle";
    let tiny = Config { journal_bytes: (4 * 64) << 10, ..config() };
    on_a_shard(NAME, move |root| {
        let tiny = tiny.clone();
        async move {
            let spec = |n: u64| Spec { value_bytes: 100 + n as usize * 37 % 3_000, ..small(n) };
            let logs = run_and_go(&root, tiny.clone(), LOGS, 60, spec).await;
            let written: usize = logs.iter().map(|log| log.bytes_from(Offset::ZERO).len()).sum();
            assert!(written > (6 * 64) << 10, "several times through the journal: {written}");
            assert_eq!(journal_files(&root).len(), 4);
            let kept = rounds(&root);
            assert!(kept.iter().zip(&kept[1..]).all(|(a, b)| a.sequence + 1 == b.sequence), "the last ones");
            let rig = Rig::start(&root, tiny, false);
            all_there(&rig, logs).await;
            rig.storage.stop().await.unwrap();
        }
    });
    std::fs::remove_dir_all(folder(NAME)).unwrap();
}

#[test]
fn a_large_batch_takes_what_is_in_the_journal_with_it() {
    const NAME: &str = "journal-direct";
    on_a_shard(NAME, |root| async move {
        let spec = |n: u64| Spec { value_bytes: if n % 4 == 3 { 300_000 } else { 200 }, ..small(n) };
        let logs = run_and_go(&root, config(), 2, 9, spec).await;
        let entries = rounds(&root).iter().map(|round| round.entries.len()).sum::<usize>();
        assert_eq!(entries, 2 * 7, "the large ones are not in the journal");
        for (index, expected) in logs.iter().enumerate() {
            let bytes = std::fs::read(root.join(format!("t-{index}/00000000000000000000.log"))).unwrap();
            let whole = expected.bytes_from(Offset::ZERO);
            let eight = whole.len() - expected.bytes_from(Offset(8)).len();
            assert_eq!(bytes[..eight], whole[..eight], "all up to the last large one, without a hole");
            assert!(bytes[eight..].iter().all(|byte| *byte == 0));
        }
        let rig = Rig::start(&root, config(), false);
        all_there(&rig, logs).await;
        rig.storage.stop().await.unwrap();
    });
    std::fs::remove_dir_all(folder(NAME)).unwrap();
}

#[test]
fn a_deleted_topics_batches_come_to_nobody() {
    const NAME: &str = "journal-deleted";
    on_a_shard(NAME, |root| async move {
        let logs = run_and_go(&root, config(), 3, 4, small).await;
        // its folder went, and a topic of the same name was made since
        std::fs::remove_dir_all(root.join("t-1")).unwrap();
        let other = root.join("t-1");
        std::fs::create_dir_all(&other).unwrap();
        let metadata = crate::log::checkpoint::encode_partition_metadata(TopicId(8));
        std::fs::write(other.join("partition.metadata"), metadata).unwrap();
        std::fs::write(other.join("00000000000000000000.log"), b"").unwrap();
        let rig = Rig::start(&root, config(), false);
        for index in [0, 2] {
            let log = rig.open(index, log_config()).await;
            assert_eq!(log.end_offset(), logs[index as usize].end);
        }
        assert_eq!(std::fs::read(other.join("00000000000000000000.log")).unwrap(), b"");
        rig.storage.stop().await.unwrap();
    });
    std::fs::remove_dir_all(folder(NAME)).unwrap();
}

#[test]
fn a_rotten_round_is_a_gap_and_not_the_end() {
    const NAME: &str = "journal-rot";
    on_a_shard(NAME, |root| async move {
        let logs = run_and_go(&root, config(), 1, 6, small).await;
        assert_eq!(rounds(&root).len(), 6);
        let path = journal_files(&root)[0].clone();
        let mut bytes = std::fs::read(&path).unwrap();
        // the third round
        bytes[3 * BLOCK_BYTES + 200] ^= 1;
        std::fs::write(&path, bytes).unwrap();
        let rig = Rig::start(&root, no_caches(), false);
        let log = rig.open(0, log_config()).await;
        assert_eq!(log.end_offset(), logs[0].end, "no offset is given twice");
        assert_eq!(log.read(Offset(2), Offset(6), 1, true).await.err(), Some(Error::Corrupt));
        for offset in [0, 1, 3, 4, 5] {
            let read = log.read(Offset(offset), Offset(offset + 1), 10_000, true).await.unwrap();
            assert_eq!(read.parts.concat(), logs[0].batches[offset as usize].1, "offset {offset}");
        }
        rig.storage.stop().await.unwrap();
    });
    std::fs::remove_dir_all(folder(NAME)).unwrap();
}

#[test]
fn batches_of_a_folder_that_does_not_say_whose_it_is_wait_until_it_is_opened() {
    const NAME: &str = "journal-unplaced";
    let unplaced = |root: &Path| -> Vec<PathBuf> {
        let mut files: Vec<PathBuf> =
            std::fs::read_dir(root).unwrap().map(|entry| entry.unwrap().path()).collect();
        files.retain(|path| path.file_name().unwrap().to_str().unwrap().starts_with("unplaced-journal."));
        files.sort();
        files
    };
    on_a_shard(NAME, move |root| async move {
        let logs = run_and_go(&root, config(), 3, 4, small).await;
        std::fs::write(root.join("t-1/partition.metadata"), "version: 0\ntopic_id: ?\n").unwrap();
        std::fs::remove_file(root.join("t-2/partition.metadata")).unwrap();
        for _ in 0..2 {
            // the second time there is nothing in the journal any more
            let rig = Rig::start(&root, config(), false);
            rig.storage.replay_journals().await.unwrap();
            rig.storage.stop_background().await;
            assert_eq!(rounds(&root), []);
            let files = unplaced(&root);
            assert_eq!(files.len(), 2);
            for (file, index) in files.iter().zip([1, 2]) {
                let rounds = read_file(&std::fs::read(file).unwrap()).unwrap();
                let entries: Vec<_> = rounds.iter().flat_map(|round| &round.entries).collect();
                assert_eq!(entries.len(), 4);
                assert!(entries.iter().all(|(entry, _)| entry.partition == partition(index)));
            }
        }
        let rig = Rig::start(&root, config(), false);
        all_there(&rig, logs).await;
        assert_eq!(unplaced(&root), Vec::<PathBuf>::new());
        rig.storage.stop().await.unwrap();
    });
    std::fs::remove_dir_all(folder(NAME)).unwrap();
}

#[test]
fn a_journal_that_is_switched_off_leaves_no_files() {
    const NAME: &str = "journal-off";
    on_a_shard(NAME, |root| async move {
        let logs = run_and_go(&root, config(), 2, 4, small).await;
        assert_eq!(journal_files(&root).len(), 1);
        let rig = Rig::start(&root, Config { journal_bytes: 0, ..config() }, false);
        all_there(&rig, logs).await;
        assert_eq!(journal_files(&root), Vec::<PathBuf>::new());
        rig.storage.stop().await.unwrap();
    });
    std::fs::remove_dir_all(folder(NAME)).unwrap();
}

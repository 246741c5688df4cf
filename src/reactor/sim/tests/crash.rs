//! What a crash takes, what faults do, what is refused; and that the whole finds a log that loses what it acknowledged.

use std::cell::{Cell, RefCell};
use std::collections::{BTreeMap, BTreeSet};
use std::future::Future;
use std::io;
use std::path::Path;
use std::rc::Rc;
use std::time::Duration;

use super::{block, durable_file, filled, kind, on_disk, open, simulate};
use crate::reactor::sim::disk::Ending;
use crate::reactor::sim::{CrashKind, Disk, Faults, Simulation, When, check_seeds, crash};
use crate::reactor::{BLOCK_BYTES, Buf, File, OpenMode, fs, sleep, spawn, turn};

const SECTOR: usize = 512;

/// Over that many seeds: how often each answer came, each seed counted twice.
fn count<T: Ord + Clone + std::fmt::Debug>(seeds: u64, answer: impl Fn(u64) -> T) -> BTreeMap<T, u64> {
    let counts = RefCell::new(BTreeMap::new());
    check_seeds(seeds, |seed| {
        let answer = answer(seed);
        *counts.borrow_mut().entry(answer.clone()).or_insert(0) += 1;
        answer
    });
    counts.into_inner()
}

/// Runs `body`, then cuts the power.
fn power_cut_after(seed: u64, disk: &Disk, body: impl Future<Output = ()> + 'static) {
    let outcome = simulate(Simulation::new(seed).disk(disk), async {
        body.await;
        crash(CrashKind::PowerCut).await;
    });
    assert!(outcome.done_or_crashed().is_none());
}

#[test]
fn an_unsynced_write_is_lost_kept_or_torn_between_sectors() {
    let outcomes = count(200, |seed| {
        let disk = durable_file("/file", 2, 1);
        power_cut_after(seed, &disk, async {
            let file = open("/file", OpenMode::ReadWrite).await;
            file.write(&filled(2, 2), 0).await.unwrap();
            assert_eq!(
                file.read(0, BLOCK_BYTES).await.unwrap().as_slice()[0],
                2,
                "visible before it is durable"
            );
        });
        let contents = disk.read("/file").unwrap();
        let sectors: BTreeSet<u8> = contents
            .chunks(SECTOR)
            .map(|sector| {
                assert!(sector.iter().all(|&byte| byte == sector[0]), "a sector is never a mix");
                sector[0]
            })
            .collect();
        sectors.into_iter().collect::<Vec<_>>()
    });
    assert_eq!(outcomes.keys().map(Vec::as_slice).collect::<Vec<_>>(), [&[1][..], &[1, 2], &[2]]);
    assert!(outcomes.values().all(|&times| times > 20), "{outcomes:?}");
}

#[test]
fn a_synced_write_is_always_there() {
    let outcomes = count(200, |seed| {
        let disk = durable_file("/file", 1, 1);
        power_cut_after(seed, &disk, async {
            let file = open("/file", OpenMode::ReadWrite).await;
            file.write(&filled(2, 2), 0).await.unwrap();
            file.sync_data().await.unwrap();
            file.write(&filled(1, 3), block(2)).await.unwrap();
        });
        let contents = disk.read("/file").unwrap();
        assert!(
            contents.len() >= 2 * BLOCK_BYTES && contents[..2 * BLOCK_BYTES].iter().all(|&byte| byte == 2)
        );
        (contents.len() / BLOCK_BYTES, contents.get(2 * BLOCK_BYTES).copied())
    });
    // the unsynced block: length lost; length kept and data lost; both kept
    assert_eq!(outcomes.keys().copied().collect::<Vec<_>>(), [(2, None), (3, Some(0)), (3, Some(3))]);
}

#[test]
fn a_durable_write_is_always_there_and_covers_no_other() {
    let outcomes = count(200, |seed| {
        let disk = durable_file("/file", 2, 1);
        power_cut_after(seed, &disk, async {
            let file = open("/file", OpenMode::ReadWrite).await;
            file.write(&filled(1, 2), 0).await.unwrap();
            file.write_durable(&filled(1, 3), block(1)).await.unwrap();
        });
        let contents = disk.read("/file").unwrap();
        assert!(contents[BLOCK_BYTES..].iter().all(|&byte| byte == 3));
        contents[0]
    });
    assert_eq!(outcomes.keys().copied().collect::<Vec<_>>(), [1, 2]);
}

#[test]
fn a_write_that_ends_after_the_flush_began_is_not_covered() {
    let outcomes = count(200, |seed| {
        let disk = durable_file("/file", 1, 1);
        power_cut_after(seed, &disk, async {
            let file = open("/file", OpenMode::ReadWrite).await;
            let write = spawn({
                let file = file.clone();
                async move { file.write(&filled(1, 2), 0).await.unwrap() }
            });
            turn().await;
            file.sync_data().await.unwrap();
            write.await;
        });
        let contents = disk.read("/file").unwrap();
        contents.iter().all(|&byte| byte == 2)
    });
    assert_eq!(outcomes.len(), 2, "{outcomes:?}");
}

#[test]
fn a_write_in_flight_at_a_crash_is_in_doubt() {
    for kind in [CrashKind::PowerCut, CrashKind::Kill] {
        let outcomes = count(100, |seed| {
            let disk = durable_file("/file", 1, 1);
            let outcome = simulate(Simulation::new(seed).disk(&disk), async move {
                let file = open("/file", OpenMode::ReadWrite).await;
                spawn(async move { file.write(&filled(1, 2), 0).await });
                futures_lite::future::yield_now().await;
                crash(kind).await;
            });
            assert!(outcome.crashed());
            let contents = disk.read("/file").unwrap();
            (contents.contains(&1), contents.contains(&2))
        });
        assert_eq!(outcomes.len(), 3, "{outcomes:?}");
    }
}

#[test]
fn a_killed_process_loses_nothing_that_was_complete() {
    check_seeds(50, |seed| {
        let disk = durable_file("/file", 1, 1);
        let outcome = simulate(Simulation::new(seed).disk(&disk), async {
            let file = open("/file", OpenMode::ReadWrite).await;
            file.write(&filled(3, 2), 0).await.unwrap();
            fs::write(Path::new("/other"), vec![7; 10]).await.unwrap();
            crash(CrashKind::Kill).await;
        });
        assert_eq!(disk.read("/file").unwrap(), [2; 3 * BLOCK_BYTES]);
        assert_eq!(disk.read("/other").unwrap(), [7; 10]);
        // but it was not durable either
        disk.crash(seed);
        (outcome.trace, disk.read("/file").unwrap())
    });
}

#[test]
fn names_are_durable_after_sync_dir_and_in_doubt_before() {
    let outcomes = count(200, |seed| {
        let disk = durable_file("/old", 1, 1);
        disk.create_dir_all("/dir").unwrap();
        power_cut_after(seed, &disk, async {
            let created = open("/dir/synced", OpenMode::CreateNew).await;
            created.write(&filled(1, 1), 0).await.unwrap();
            fs::sync_dir(Path::new("/dir")).await.unwrap();
            created.sync_data().await.unwrap();
            let unsynced = open("/dir/unsynced", OpenMode::CreateNew).await;
            unsynced.write(&filled(1, 1), 0).await.unwrap();
            unsynced.sync_data().await.unwrap();
            fs::rename(Path::new("/old"), Path::new("/new")).await.unwrap();
            fs::create_dir(Path::new("/folder")).await.unwrap();
            open("/folder/file", OpenMode::CreateNew).await;
            // of the folder, not of its name
            fs::sync_dir(Path::new("/folder")).await.unwrap();
        });
        assert_eq!(disk.read("/dir/synced").unwrap(), [1; BLOCK_BYTES]);
        let there = |path: &str| disk.read(path).is_ok();
        assert_eq!(there("/new"), !there("/old"), "a rename is one step");
        if disk.list("/folder").is_ok() {
            assert!(there("/folder/file"));
        }
        (there("/dir/unsynced"), there("/new"), there("/folder/file"))
    });
    assert_eq!(outcomes.len(), 8, "every combination: {outcomes:?}");

    let outcomes = count(100, |seed| {
        let disk = durable_file("/old", 1, 1);
        power_cut_after(seed, &disk, async {
            fs::rename(Path::new("/old"), Path::new("/new")).await.unwrap();
            fs::sync_dir(Path::new("/")).await.unwrap();
            fs::remove_file(Path::new("/new")).await.unwrap();
        });
        assert!(disk.read("/old").is_err());
        disk.read("/new").is_ok()
    });
    assert_eq!(outcomes.len(), 2, "a removed name may come back: {outcomes:?}");
}

#[test]
fn a_durable_replacement_is_the_old_or_the_new_file_at_any_moment() {
    let outcomes = count(300, |seed| {
        let disk = Disk::new();
        disk.write("/checkpoint", b"old").unwrap();
        let outcome = simulate(
            Simulation::new(seed).disk(&disk).power_cut(When::OneInDiskEvents(10)),
            fs::write_durable(Path::new("/checkpoint"), b"newer".to_vec()),
        );
        let contents = disk.read("/checkpoint").unwrap();
        if let Some(results) = outcome.done_or_crashed() {
            assert!(results[0].is_ok());
            disk.crash(seed);
            assert_eq!(disk.read("/checkpoint").unwrap(), b"newer");
        }
        String::from_utf8(contents).unwrap()
    });
    assert_eq!(outcomes.into_keys().collect::<Vec<_>>(), ["newer", "old"]);
}

#[test]
fn a_truncated_file_may_have_its_end_back() {
    let outcomes = count(200, |seed| {
        let disk = durable_file("/file", 3, 1);
        power_cut_after(seed, &disk, async {
            let file = open("/file", OpenMode::ReadWrite).await;
            file.truncate(BLOCK_BYTES as u64 + 100).await.unwrap();
        });
        let len = disk.read("/file").unwrap().len();
        power_cut_after(seed, &disk, async {
            let file = open("/file", OpenMode::ReadWrite).await;
            file.truncate(BLOCK_BYTES as u64 + 100).await.unwrap();
            file.truncate(3 * BLOCK_BYTES as u64).await.unwrap();
            file.sync_data().await.unwrap();
        });
        let contents = disk.read("/file").unwrap();
        assert!(contents[..BLOCK_BYTES + 100].iter().all(|&byte| byte == 1));
        assert!(contents[BLOCK_BYTES + 100..].iter().all(|&byte| byte == 0));
        len
    });
    assert_eq!(outcomes.into_keys().collect::<Vec<_>>(), [BLOCK_BYTES + 100, 3 * BLOCK_BYTES]);
}

#[test]
fn a_read_beside_a_write_sees_either() {
    let outcomes = count(100, |seed| {
        let disk = durable_file("/file", 1, 1);
        on_disk(seed, &disk, async {
            let file = open("/file", OpenMode::ReadWrite).await;
            let write = spawn({
                let file = file.clone();
                async move { file.write(&filled(1, 2), 0).await.unwrap() }
            });
            let seen = file.read(0, BLOCK_BYTES).await.unwrap();
            write.await;
            assert_eq!(file.read(0, BLOCK_BYTES).await.unwrap().as_slice(), [2; BLOCK_BYTES]);
            (seen.as_slice().contains(&1), seen.as_slice().contains(&2))
        })
    });
    assert_eq!(outcomes.len(), 3, "{outcomes:?}");
}

// -- faults

#[test]
fn a_failed_flush_loses_what_no_later_flush_saves() {
    let outcomes = count(200, |seed| {
        let disk = durable_file("/file", 2, 1);
        disk.fail_flush_after(0);
        power_cut_after(seed, &disk, async {
            let file = open("/file", OpenMode::ReadWrite).await;
            file.write(&filled(1, 2), 0).await.unwrap();
            assert_eq!(file.sync_data().await.unwrap_err().raw_os_error(), Some(libc::EIO));
            file.write(&filled(1, 3), block(1)).await.unwrap();
            file.sync_data().await.unwrap();
        });
        let contents = disk.read("/file").unwrap();
        assert!(contents[BLOCK_BYTES..].iter().all(|&byte| byte == 3), "written after it and flushed");
        contents[..BLOCK_BYTES].contains(&1)
    });
    assert_eq!(outcomes.len(), 2, "{outcomes:?}");
}

#[test]
fn faults_strike_as_often_as_asked() {
    let disk = Disk::new();
    disk.set_faults(Faults {
        write_error_one_in: 4,
        read_error_one_in: 4,
        flush_error_one_in: 4,
        ..Faults::default()
    });
    let failures = on_disk(1, &disk, async {
        let file = open("/file", OpenMode::CreateNew).await;
        let mut failures = [0; 3];
        for _ in 0..200 {
            failures[0] += usize::from(file.write(&filled(1, 1), 0).await.is_err());
            failures[1] += usize::from(file.sync_data().await.is_err());
            failures[2] += usize::from(file.read(0, BLOCK_BYTES).await.is_err());
        }
        failures
    });
    assert!(failures.iter().all(|failures| (30..70).contains(failures)), "{failures:?}");
    assert_eq!(disk.stats().faults, failures.iter().sum::<usize>() as u64);

    disk.set_faults(Faults::default());
    disk.fail_write_after(2);
    let results = on_disk(2, &disk, async {
        let file = open("/file", OpenMode::ReadWrite).await;
        let mut results = Vec::new();
        for _ in 0..4 {
            results.push(file.write(&filled(1, 1), 0).await.is_ok());
        }
        results
    });
    assert_eq!(results, [true, true, false, true]);
}

#[test]
fn rot_stays_and_a_misdirected_read_does_not() {
    let flipped = |contents: &[u8], byte: u8| -> u32 {
        contents.iter().map(|&found| (found ^ byte).count_ones()).sum()
    };
    let disk = durable_file("/file", 4, 0xff);
    disk.set_faults(Faults { rot_one_in: 1, ..Faults::default() });
    let first = on_disk(1, &disk, async {
        open("/file", OpenMode::Read).await.read(0, 4 * BLOCK_BYTES).await.unwrap()
    });
    assert_eq!(flipped(first.as_slice(), 0xff), 1);
    assert_eq!(flipped(&disk.read("/file").unwrap(), 0xff), 1);
    disk.flip_bit("/file", 1, 0).unwrap();
    disk.crash(1);
    assert!((1..=2).contains(&flipped(&disk.read("/file").unwrap(), 0xff)));

    let disk = Disk::new();
    let contents: Vec<u8> = (0..4).flat_map(|block| [block; BLOCK_BYTES]).collect();
    disk.write("/file", &contents).unwrap();
    disk.set_faults(Faults { misdirected_read_one_in: 2, ..Faults::default() });
    let reads = on_disk(1, &disk, async {
        let file = open("/file", OpenMode::Read).await;
        let mut reads = Vec::new();
        for _ in 0..100 {
            reads.push(file.read(block(1), BLOCK_BYTES).await.unwrap().as_slice()[0]);
        }
        reads
    });
    let right = reads.iter().filter(|&&read| read == 1).count();
    assert!((40..90).contains(&right), "{right} of 100 are right");
    assert_eq!(disk.read("/file").unwrap(), contents);
}

#[test]
fn a_full_disk_refuses_and_has_room_again_after_a_removal() {
    let disk = Disk::new();
    disk.set_capacity(block(10));
    on_disk(1, &disk, async {
        let full = |result: io::Result<()>| assert_eq!(kind(result), io::ErrorKind::StorageFull);
        let file = open("/file", OpenMode::CreateNew).await;
        file.allocate(block(6)).await.unwrap();
        full(file.allocate(block(11)).await);
        // fallocate may have gone as far as it could
        assert!([block(6), block(10)].contains(&file.len().await.unwrap()));
        file.truncate(block(6)).await.unwrap();
        file.write(&filled(6, 1), 0).await.unwrap(); // reserved
        file.write(&filled(2, 1), block(6)).await.unwrap();
        file.write(&filled(2, 1), block(6)).await.unwrap(); // over itself
        full(file.write(&filled(3, 1), block(8)).await);
        full(fs::write(Path::new("/other"), vec![0; 3 * BLOCK_BYTES]).await);
        assert_eq!(fs::space(Path::new("/")).await.unwrap().free_bytes, block(2));
        file.truncate(block(5)).await.unwrap();
        assert_eq!(fs::space(Path::new("/")).await.unwrap().free_bytes, block(5));
        fs::remove_file(Path::new("/file")).await.unwrap();
        assert_eq!(fs::space(Path::new("/")).await.unwrap().free_bytes, block(5), "still open");
        drop(file);
        assert_eq!(fs::space(Path::new("/")).await.unwrap().free_bytes, block(10));
        let next = open("/next", OpenMode::CreateNew).await;
        next.write(&filled(10, 1), 0).await.unwrap();
    });
    assert_eq!(disk.used_bytes(), block(10));

    let outcomes = count(20, |seed| {
        let disk = Disk::new();
        disk.set_capacity(block(10));
        on_disk(seed, &disk, async {
            let file = open("/file", OpenMode::CreateNew).await;
            assert!(file.allocate(block(11)).await.is_err());
            file.len().await.unwrap()
        })
    });
    assert_eq!(outcomes.into_keys().collect::<Vec<_>>(), [0, block(10)]);
}

// -- the rules of the disk

#[test]
#[should_panic(expected = "two writes in flight to one block")]
fn two_writes_to_one_block_at_once_are_a_bug() {
    let disk = Disk::new();
    on_disk(1, &disk, async {
        let file = open("/file", OpenMode::CreateNew).await;
        let other = file.clone();
        spawn(async move { other.write(&filled(4, 1), 0).await });
        sleep(Duration::ZERO).await;
        file.write(&filled(1, 2), block(3)).await.unwrap();
    });
}

#[test]
#[should_panic(expected = "not on a block")]
fn a_position_that_is_not_aligned_is_a_bug() {
    let disk = Disk::new();
    on_disk(1, &disk, async {
        let file = open("/file", OpenMode::CreateNew).await;
        file.write(&filled(1, 1), 512).await.unwrap();
    });
}

#[test]
#[should_panic(expected = "changed while it was in flight")]
fn bytes_that_change_under_a_write_are_a_bug() {
    let disk = durable_file("/file", 1, 1);
    on_disk(1, &disk.clone(), async move {
        let mut state = disk.0.borrow_mut();
        let inode = state.file(Path::new("/file")).unwrap();
        let buf = filled(1, 2);
        state.begin_write(inode, 0, &buf);
        let other = crc32c::crc32c(filled(1, 3).as_slice());
        state.end_write(inode, 0, &buf, other, Ending::Complete).unwrap();
    });
}

// -- what it is for

#[derive(Clone, Copy, PartialEq, Eq)]
enum Flush {
    BeforeAcknowledging,
    Never,
}

/// Appends blocks that hold their number, and acknowledges each.
async fn append_log(flush: Flush, acknowledged: Rc<Cell<u64>>) {
    let file = open("/log", OpenMode::CreateNew).await;
    fs::sync_dir(Path::new("/")).await.unwrap();
    for number in 1..=20 {
        let mut buf = Buf::new(BLOCK_BYTES);
        buf.as_mut_slice().fill(number as u8);
        file.write(&buf.freeze(), block(number - 1)).await.unwrap();
        if flush == Flush::BeforeAcknowledging {
            file.sync_data().await.unwrap();
        }
        acknowledged.set(number);
    }
}

/// Whole blocks with their numbers from the beginning.
async fn recover_log() -> u64 {
    let Ok(file) = File::open(Path::new("/log"), OpenMode::Read).await else { return 0 };
    let mut recovered = 0;
    loop {
        let read = file.read(block(recovered), BLOCK_BYTES).await.unwrap();
        let expected = [(recovered + 1) as u8; BLOCK_BYTES];
        if read.as_slice() != expected {
            return recovered;
        }
        recovered += 1;
    }
}

/// The seeds that lose an acknowledged block.
fn seeds_that_lose(flush: Flush) -> usize {
    let losing = RefCell::new(BTreeSet::new());
    check_seeds(500, |seed| {
        let disk = Disk::new();
        let acknowledged = Rc::new(Cell::new(0));
        let crashed = simulate(
            Simulation::new(seed).disk(&disk).power_cut(When::OneInDiskEvents(50)),
            append_log(flush, Rc::clone(&acknowledged)),
        );
        let recovered = simulate(Simulation::new(seed).disk(&disk), recover_log());
        let traces = (crashed.trace, recovered.trace);
        if recovered.done()[0] < acknowledged.get() {
            losing.borrow_mut().insert(seed);
        }
        traces
    });
    losing.into_inner().len()
}

#[test]
fn a_log_without_its_flush_is_caught_and_with_it_is_not() {
    assert_eq!(seeds_that_lose(Flush::BeforeAcknowledging), 0);
    let caught = seeds_that_lose(Flush::Never);
    assert!(caught > 100, "{caught} of 500 seeds");
}

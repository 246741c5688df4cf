//! Lent bytes: never torn, never freed early, never kept for longer than somebody holds them.

use std::cell::RefCell;
use std::rc::Rc;

use bytes::Bytes;

use super::*;
use crate::model::ShardId;

const LEN: usize = 64 << 10;

#[test]
fn lent_bytes_outlive_their_buffer_on_other_shards() {
    let folder = Folder::new("buffer-lend");
    run(&folder.options(2), |context: ShardContext<Option<Bytes>>| async move {
        let mesh = Rc::new(context.mesh);
        if context.id == ShardId::ZERO {
            let verdicts = Rc::new(RefCell::new(0));
            let count = Rc::clone(&verdicts);
            mesh.on_receive(move |_, _| *count.borrow_mut() += 1);
            for seed in 0..30 {
                let mut buf = Buf::new(LEN);
                buf.as_mut_slice().copy_from_slice(&pattern(seed, LEN));
                let shared = buf.freeze();
                mesh.try_send(ShardId(1), Some(shared.lend(seed..LEN))).unwrap();
                mesh.try_send(ShardId(1), Some(shared.clone().lend(seed..seed + 100))).unwrap();
                assert_eq!(lent_bytes(), seed * LEN, "this one is still held here");
                drop(shared);
                assert_eq!(lent_bytes(), (seed + 1) * LEN, "the other shard holds all of them");
                // What would take the memory if it had gone free.
                let mut other = Buf::new(LEN);
                other.as_mut_slice().fill(0xee);
            }
            mesh.try_send(ShardId(1), None).unwrap();
            eventually("the other shard has looked at all", || *verdicts.borrow() == 1).await;
            eventually("all is free again", || lent_bytes() == 0).await;
        } else {
            let held = Rc::new(RefCell::new(Vec::new()));
            let done = Rc::new(RefCell::new(false));
            let (holding, ending) = (Rc::clone(&held), Rc::clone(&done));
            mesh.on_receive(move |_, message| match message {
                Some(bytes) => holding.borrow_mut().push(bytes),
                None => *ending.borrow_mut() = true,
            });
            eventually("all is here", || *done.borrow()).await;
            // Long after home has dropped the buffers.
            for (index, bytes) in held.borrow_mut().drain(..).enumerate() {
                let seed = index / 2;
                let end = if index % 2 == 0 { LEN } else { seed + 100 };
                assert!(bytes == pattern(seed, LEN)[seed..end], "slice {index} has changed");
            }
            mesh.try_send(ShardId::ZERO, None).unwrap();
        }
    })
    .unwrap();
}

#[test]
fn bytes_lent_at_home_are_free_as_soon_as_they_are_dropped() {
    on_a_shard("buffer-home", |_| async {
        let shared = Buf::new(BLOCK_BYTES).freeze();
        let lent = shared.lend(0..10);
        drop(lent);
        drop(shared);
        assert_eq!(lent_bytes(), 0);

        let lent = Buf::new(BLOCK_BYTES).freeze().lend(5..10);
        assert_eq!(lent_bytes(), BLOCK_BYTES);
        drop(lent);
        drop(Buf::new(BLOCK_BYTES));
        assert_eq!(lent_bytes(), 0, "making a buffer looks for what has come back");
    });
}

#[test]
fn what_was_read_may_be_lent_and_written_elsewhere() {
    on_a_shard("buffer-read", |folder| async move {
        let contents = pattern(3, 5 * BLOCK_BYTES);
        fs::write(&folder.join("a"), contents.clone()).await.unwrap();
        let file = File::open(&folder.join("a"), OpenMode::Read).await.unwrap();
        let lent = {
            let read = file.read(0, 4 * BLOCK_BYTES).await.unwrap();
            let copy = File::open(&folder.join("b"), OpenMode::CreateNew).await.unwrap();
            copy.write(&read, BLOCK_BYTES as u64).await.unwrap();
            read.lend(1..4 * BLOCK_BYTES)
        };
        assert_eq!(lent_bytes(), 4 * BLOCK_BYTES);
        // Reads that would use the memory again.
        for _ in 0..20 {
            file.read(BLOCK_BYTES as u64, 4 * BLOCK_BYTES).await.unwrap();
        }
        assert!(lent == contents[1..4 * BLOCK_BYTES]);
        drop(lent);
        eventually("it is looked for and freed", || lent_bytes() == 0).await;
        let copied = fs::read(&folder.join("b")).await.unwrap();
        assert!(copied[BLOCK_BYTES..] == contents[..4 * BLOCK_BYTES]);
    });
}

#[test]
fn bytes_outlive_the_shard_they_came_from() {
    let folder = Folder::new("buffer-exit");
    let bytes = run(&folder.options(1), |_: ShardContext<()>| async {
        let mut buf = Buf::new(LEN);
        buf.as_mut_slice().copy_from_slice(&pattern(9, LEN));
        buf.freeze().lend(0..LEN)
    });
    assert!(bytes.unwrap()[0] == pattern(9, LEN));
}

#[test]
fn buffers_are_recycled_and_not_faulted_in_anew() {
    on_a_shard("buffer-faults", |_| async {
        let round = || {
            for index in 0..64 {
                let mut buf = Buf::new((1 << 20) - index % 7 * BLOCK_BYTES);
                for page in buf.as_mut_slice().chunks_mut(BLOCK_BYTES) {
                    page[0] = 1;
                }
            }
        };
        round();
        // The tests beside this one may share its heap and take of it what a round has freed: the best round counts.
        let faults_of_a_round = || {
            let before = faults_of_this_thread();
            round();
            faults_of_this_thread() - before
        };
        let faults = (0..10).map(|_| faults_of_a_round()).min().expect("there are rounds");
        assert!(faults < 256, "{faults} page faults for 64 buffers of 256 pages");
    });
}

#[expect(unsafe_code, reason = "getrusage")]
fn faults_of_this_thread() -> i64 {
    // SAFETY: zeros are a valid rusage, and the call writes one.
    let usage = unsafe {
        let mut usage: libc::rusage = std::mem::zeroed();
        assert_eq!(libc::getrusage(libc::RUSAGE_THREAD, &raw mut usage), 0);
        usage
    };
    usage.ru_minflt
}

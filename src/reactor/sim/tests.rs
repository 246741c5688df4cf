//! The twin is deterministic, keeps the façade's promises as the real machine does, and crashes as the model says.

use std::cell::{Cell, RefCell};
use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::future::Future;
use std::io;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::rc::Rc;
use std::time::Duration;

use bytes::{Bytes, BytesMut};

use super::{CrashKind, Disk, End, Faults, Outcome, Simulation, When, check_seeds, run};
use crate::model::ShardId;
use crate::reactor::sync::{Notify, oneshot};
use crate::reactor::{
    BLOCK_BYTES, Buf, Cores, File, Instant, OpenMode, Options, ShardContext, SharedBuf, TcpListener,
    TcpStream, blocking, fs, now, random_u64, shard_count, shard_id, sleep, sleep_until, spawn, turn,
    wall_clock_ms,
};

const SECTOR: usize = 512;

/// Runs one future on one virtual shard.
fn simulate<T: 'static>(simulation: Simulation, body: impl Future<Output = T> + 'static) -> Outcome<T> {
    let body = RefCell::new(Some(body));
    simulation.run(move |_: ShardContext<()>| body.borrow_mut().take().expect("one shard"))
}

/// A run that must end well.
fn on_disk<T: 'static>(seed: u64, disk: &Disk, body: impl Future<Output = T> + 'static) -> T {
    simulate(Simulation::new(seed).disk(disk), body).done().remove(0)
}

fn filled(blocks: usize, byte: u8) -> SharedBuf {
    let mut buf = Buf::new(blocks * BLOCK_BYTES);
    buf.as_mut_slice().fill(byte);
    buf.freeze()
}

fn block(index: u64) -> u64 {
    index * BLOCK_BYTES as u64
}

async fn open(path: &str, mode: OpenMode) -> File {
    File::open(Path::new(path), mode).await.unwrap()
}

/// A file of that many blocks of `byte`, durable with its name.
fn durable_file(path: &str, blocks: usize, byte: u8) -> Disk {
    let disk = Disk::new();
    disk.write(path, &vec![byte; blocks * BLOCK_BYTES]).unwrap();
    disk
}

// -- the scheduler

/// A bit of everything, on three shards.
async fn busy_shard(context: ShardContext<u64>) -> u64 {
    let sum = Rc::new(Cell::new(0));
    let received = Rc::new(Notify::default());
    context.mesh.on_receive({
        let (sum, received) = (Rc::clone(&sum), Rc::clone(&received));
        move |from, message| {
            sum.set(sum.get() * 31 + message + u64::from(from.0));
            received.notify();
        }
    });
    let path = PathBuf::from(format!("/file-{}", context.id.0));
    let file = File::open(&path, OpenMode::CreateNew).await.unwrap();
    let writes: Vec<_> = (0..8)
        .map(|index| {
            let file = file.clone();
            spawn(async move { file.write(&filled(1, index as u8), block(index)).await.unwrap() })
        })
        .collect();
    for write in writes {
        write.await;
    }
    file.sync_data().await.unwrap();
    for to in (0..shard_count()).filter(|&to| to != context.id.index()) {
        context.mesh.try_send(ShardId(to as u16), random_u64() % 100).unwrap();
    }
    sleep(Duration::from_micros(random_u64() % 500)).await;
    received.notified().await;
    sum.get()
}

#[test]
fn the_same_seed_gives_the_same_run_and_another_seed_another() {
    let traces = RefCell::new(BTreeSet::new());
    check_seeds(50, |seed| {
        let outcome = run(seed, 3, busy_shard);
        traces.borrow_mut().insert(outcome.trace);
        (outcome.trace, outcome.steps, outcome.elapsed, outcome.done())
    });
    assert_eq!(traces.borrow().len(), 50, "every seed has a run of its own");
}

#[test]
fn tasks_run_in_every_order() {
    let mut orders = BTreeSet::new();
    for seed in 0..100 {
        let order = simulate(Simulation::new(seed), async {
            let order = Rc::new(RefCell::new(Vec::new()));
            let tasks: Vec<_> = (0..3)
                .map(|number| {
                    let order = Rc::clone(&order);
                    spawn(async move { order.borrow_mut().push(number) })
                })
                .collect();
            for task in tasks {
                task.await;
            }
            order.take()
        });
        orders.insert(order.done().remove(0));
    }
    assert_eq!(orders.len(), 6);
}

#[test]
fn the_clock_moves_to_the_next_timer_and_no_further() {
    let outcome = simulate(Simulation::new(1), async {
        let never = spawn(sleep(Duration::from_secs(1_000)));
        let begin = now();
        sleep(Duration::from_secs(60)).await;
        assert_eq!(now(), begin.after(Duration::from_secs(60)));
        drop(never);
        let wall = wall_clock_ms();
        super::jump_wall_clock(-5_000);
        assert_eq!(wall_clock_ms(), wall - 5_000);
        assert_eq!(now(), begin.after(Duration::from_secs(60)), "the monotonic clock does not jump");
    });
    assert_eq!(outcome.elapsed, Duration::from_secs(60));
    outcome.done();
}

#[test]
fn a_dropped_timer_does_not_move_the_clock() {
    let outcome = simulate(Simulation::new(1), async {
        let mut timer = Box::pin(sleep(Duration::from_secs(1_000)));
        assert!(futures_lite::future::poll_once(timer.as_mut()).await.is_none());
        drop(timer);
        std::future::pending::<()>().await;
    });
    assert!(matches!(outcome.end, End::Stuck(_)));
    assert_eq!(outcome.elapsed, Duration::ZERO);
}

#[test]
fn a_deadlock_is_told_with_its_tasks() {
    let outcome = simulate(Simulation::new(1), async {
        let (sender, receiver) = oneshot::<()>();
        spawn(std::future::pending::<()>());
        receiver.await;
        drop(sender);
    });
    let End::Stuck(stuck) = outcome.end else { panic!("{outcome:?}") };
    assert_eq!((stuck.why, stuck.pending_tasks), ("deadlock", 2));
    assert!(stuck.spawned_at.iter().any(|place| place.contains("tests.rs")), "{stuck}");
}

#[test]
fn runs_without_end_meet_a_limit() {
    let idle = simulate(Simulation::new(1).time_limit(Duration::from_secs(9)), async {
        loop {
            sleep(Duration::from_secs(1)).await;
        }
    });
    let busy = simulate(Simulation::new(1).step_limit(1_000), async {
        loop {
            futures_lite::future::yield_now().await;
        }
    });
    let why = |outcome: Outcome<()>| match outcome.end {
        End::Stuck(stuck) => stuck.why,
        other => panic!("{other:?}"),
    };
    assert_eq!(idle.elapsed, Duration::from_secs(9));
    assert_eq!((why(idle), why(busy)), ("time limit", "step limit"));
}

#[test]
fn the_wall_clock_jumps_on_request_and_goes_on_after_a_restart() {
    let disk = Disk::new();
    let ms = |seed, disk: &Disk, jump| {
        let simulation = Simulation::new(seed).disk(disk).wall_jump_one_in(jump);
        let body = async {
            let begin = wall_clock_ms();
            for _ in 0..10 {
                sleep(Duration::from_millis(100)).await;
            }
            (begin, wall_clock_ms())
        };
        simulate(simulation, body).done().remove(0)
    };
    let (begin, end) = ms(1, &disk, 0);
    assert_eq!(end - begin, 1_000);
    assert!(ms(2, &disk, 0).0 > end);
    let (begin, end) = ms(3, &disk, 2);
    assert_ne!(end - begin, 1_000);
}

#[test]
#[should_panic(expected = "a bug in a task")]
fn a_panic_in_a_task_ends_the_test() {
    simulate(Simulation::new(1), async { spawn(async { panic!("a bug in a task") }).await });
}

// -- one suite for both machines

type Message = u64;

/// Runs `body` on virtual shards with many seeds, then on real ones.
fn on_both<F, Fut>(name: &str, shards: usize, body: F)
where
    F: Fn(ShardContext<Message>, PathBuf) -> Fut + Clone + Send + 'static,
    Fut: Future<Output = ()> + 'static,
{
    check_seeds(100, |seed| {
        let disk = Disk::new();
        disk.create_dir_all("/data").unwrap();
        let outcome = Simulation::new(seed)
            .shards(shards)
            .disk(&disk)
            .mesh_depth(4)
            .run(|context| body(context, PathBuf::from("/data")));
        let trace = outcome.trace;
        outcome.done();
        trace
    });

    // beside the test program: a real disk, where /tmp may be memory
    let program = std::env::current_exe().unwrap();
    let dir = program.with_file_name(format!("conformance-{name}-{}", std::process::id()));
    std::fs::create_dir_all(&dir).unwrap();
    let data = dir.join("data");
    std::fs::create_dir(&data).unwrap();
    let options = Options {
        cores: Cores::Unpinned(shards),
        spin: Duration::ZERO,
        mesh_depth: 4,
        probe_file: dir.join("probe"),
    };
    crate::reactor::run(&options, move |context| body(context, data.clone())).unwrap();
    std::fs::remove_dir_all(&dir).unwrap();
}

fn kind<T>(result: io::Result<T>) -> io::ErrorKind {
    result.err().expect("it must fail").kind()
}

#[test]
fn files_behave_alike() {
    on_both("files", 1, |_, dir| async move {
        let path = dir.join("file");
        assert_eq!(kind(File::open(&path, OpenMode::Read).await), io::ErrorKind::NotFound);
        let file = File::open(&path, OpenMode::CreateNew).await.unwrap();
        assert_eq!(kind(File::open(&path, OpenMode::CreateNew).await), io::ErrorKind::AlreadyExists);
        assert_eq!(file.len().await.unwrap(), 0);
        assert!(file.read(0, BLOCK_BYTES).await.unwrap().as_slice().is_empty());

        file.write(&filled(2, 1), 0).await.unwrap();
        file.write(&filled(1, 2), block(1)).await.unwrap();
        assert_eq!(file.len().await.unwrap(), block(2));
        let read = file.read(0, 4 * BLOCK_BYTES).await.unwrap();
        assert_eq!(read.as_slice(), [[1; BLOCK_BYTES], [2; BLOCK_BYTES]].concat());
        assert_eq!(read.lend(4095..4097)[..], [1, 2]);

        // a hole, then fallocate: zeros, and nothing is shortened or overwritten
        file.write(&filled(1, 3), block(4)).await.unwrap();
        file.allocate(block(8)).await.unwrap();
        file.allocate(block(1)).await.unwrap();
        assert_eq!(file.len().await.unwrap(), block(8));
        for (index, expected) in [1, 2, 0, 0, 3, 0, 0, 0].into_iter().enumerate() {
            let read = file.read(block(index as u64), BLOCK_BYTES).await.unwrap();
            assert_eq!(read.as_slice(), [expected; BLOCK_BYTES], "block {index}");
        }

        // cut within a block; what lay beyond is zeros when the file grows again
        file.truncate(100).await.unwrap();
        assert_eq!(file.read(0, BLOCK_BYTES).await.unwrap().as_slice(), [1; 100]);
        file.truncate(block(2)).await.unwrap();
        let read = file.read(0, 2 * BLOCK_BYTES).await.unwrap();
        assert_eq!(read.as_slice()[..100], [1; 100]);
        assert!(read.as_slice()[100..].iter().all(|&byte| byte == 0));
        file.sync_data().await.unwrap();

        let reader = File::open(&path, OpenMode::Read).await.unwrap();
        assert!(reader.write(&filled(1, 9), 0).await.is_err());
        fs::remove_file(&path).await.unwrap();
        assert_eq!(
            reader.read(0, BLOCK_BYTES).await.unwrap().as_slice()[..100],
            [1; 100],
            "removed but open"
        );
    });
}

#[test]
fn names_behave_alike() {
    on_both("names", 1, |_, dir| async move {
        let (a, b, folder) = (dir.join("a"), dir.join("b"), dir.join("folder"));
        assert_eq!(kind(fs::read(&a).await), io::ErrorKind::NotFound);
        fs::write(&a, vec![7; 5_000]).await.unwrap();
        fs::write(&a, b"short".to_vec()).await.unwrap();
        assert_eq!(fs::read(&a).await.unwrap(), b"short");
        fs::write_durable(&b, b"durable".to_vec()).await.unwrap();
        fs::write_durable(&b, Vec::new()).await.unwrap();
        assert_eq!(fs::read(&b).await.unwrap(), b"");

        fs::create_dir(&folder).await.unwrap();
        assert_eq!(kind(fs::create_dir(&folder).await), io::ErrorKind::AlreadyExists);
        assert_eq!(kind(fs::create_dir(&dir.join("no/where")).await), io::ErrorKind::NotFound);
        fs::rename(&a, &folder.join("c")).await.unwrap();
        assert_eq!(kind(fs::rename(&a, &b).await), io::ErrorKind::NotFound);
        assert_eq!(kind(fs::rename(&b, &folder).await), io::ErrorKind::IsADirectory);
        fs::sync_dir(&folder).await.unwrap();
        fs::sync_dir(&dir).await.unwrap();
        let listed = |entries: Vec<fs::Entry>| -> Vec<_> {
            entries.into_iter().map(|entry| (entry.name, entry.is_dir, entry.len)).collect()
        };
        assert_eq!(
            listed(fs::list(&dir).await.unwrap()),
            [("b".to_owned(), false, 0), ("folder".to_owned(), true, 0)]
        );
        assert_eq!(listed(fs::list(&folder).await.unwrap()), [("c".to_owned(), false, 5)]);

        // over an existing file
        fs::rename(&folder.join("c"), &b).await.unwrap();
        assert_eq!(fs::read(&b).await.unwrap(), b"short");
        fs::create_dir(&folder.join("inner")).await.unwrap();
        fs::write(&folder.join("inner/d"), vec![1]).await.unwrap();
        assert!(fs::exists(&folder.join("inner/d")).await.unwrap());
        let renamed = dir.join("renamed");
        fs::rename(&folder, &renamed).await.unwrap();
        assert!(!fs::exists(&folder).await.unwrap());
        assert_eq!(fs::read(&renamed.join("inner/d")).await.unwrap(), [1]);
        assert!(fs::modified_ms(&b).await.unwrap() > 1_600_000_000_000);
        let space = fs::space(&dir).await.unwrap();
        assert!(space.free_bytes > 0 && space.free_bytes <= space.total_bytes);
        fs::remove_dir_all(&renamed).await.unwrap();
        assert_eq!(listed(fs::list(&dir).await.unwrap()), [("b".to_owned(), false, 5)]);
        assert_eq!(kind(fs::remove_file(&a).await), io::ErrorKind::NotFound);
    });
}

#[test]
fn tasks_and_timers_behave_alike() {
    on_both("timers", 2, |context, _| async move {
        assert_eq!((shard_id(), shard_count()), (context.id, 2));
        let id = context.id;
        assert!(spawn(async move { shard_id() == id }).await);
        let begin = now();
        let order = Rc::new(RefCell::new(Vec::new()));
        let sleepers: Vec<_> = [30, 10, 20]
            .map(|ms| {
                let order = Rc::clone(&order);
                spawn(async move {
                    sleep_until(begin.after(Duration::from_millis(ms))).await;
                    assert!(now() >= begin.after(Duration::from_millis(ms)), "never early");
                    order.borrow_mut().push(ms);
                })
            })
            .into();
        for sleeper in sleepers {
            sleeper.await;
        }
        assert_eq!(order.take(), [10, 20, 30]);
        sleep_until(Instant(0)).await;
        turn().await;
        assert_eq!(blocking(|| 6 * 7).await, 42);
        assert_ne!(random_u64(), random_u64());
        // a task runs on when its handle is dropped
        let (sender, receiver) = oneshot();
        drop(spawn(async move {
            turn().await;
            sender.send(1);
        }));
        assert_eq!(receiver.await, Some(1));
    });
}

#[test]
fn the_mesh_behaves_alike() {
    on_both("mesh", 3, |context, _| async move {
        const MESSAGES: u64 = 200;
        let mesh = Rc::new(context.mesh);
        let next = Rc::new(RefCell::new([0; 3]));
        let changed = Rc::new(Notify::default());
        assert_eq!(mesh.depth(), 4);
        let others: Vec<_> = (0..3).map(ShardId).filter(|&other| other != context.id).collect();
        for (position, &to) in others.iter().enumerate() {
            // before anybody receives: a full channel gives the message back
            for message in 0..4 {
                mesh.try_send(to, message).unwrap();
            }
            if position == 0 && context.id == ShardId(0) {
                sleep(Duration::from_millis(1)).await;
            }
        }
        let received = (Rc::clone(&next), Rc::clone(&changed));
        mesh.on_receive(move |from, message| {
            let (next, changed) = &received;
            let expected = &mut next.borrow_mut()[from.index()];
            assert_eq!(message, *expected, "in order from {from:?}");
            *expected += 1;
            changed.notify();
        });
        for message in 4..MESSAGES {
            for &to in &others {
                let mut message = message;
                while let Err(full) = mesh.try_send(to, message) {
                    message = full.0;
                    sleep(Duration::from_micros(50)).await;
                }
            }
        }
        while others.iter().any(|other| next.borrow()[other.index()] < MESSAGES) {
            changed.notified().await;
        }
    });
}

#[test]
fn a_full_channel_gives_the_message_back() {
    let outcome = Simulation::new(1).shards(2).mesh_depth(2).run(|context: ShardContext<u8>| async move {
        if context.id == ShardId(0) {
            context.mesh.try_send(ShardId(1), 1).unwrap();
            context.mesh.try_send(ShardId(1), 2).unwrap();
            assert_eq!(context.mesh.try_send(ShardId(1), 3).unwrap_err().0, 3);
        }
    });
    outcome.done();
}

async fn receive_all(stream: &TcpStream) -> io::Result<Vec<u8>> {
    let mut all = Vec::new();
    let mut buf = BytesMut::with_capacity(10_000);
    loop {
        stream.readable().await?;
        match stream.try_recv(&mut buf, 4_096)? {
            None => {}
            Some(0) => return Ok(all),
            Some(_) => all.extend_from_slice(&std::mem::take(&mut buf)),
        }
        buf.reserve(10_000);
    }
}

#[test]
fn sockets_behave_alike() {
    on_both("sockets", 2, |context, _| async move {
        // a port chosen by one shard is told to the other over the mesh
        let (port, told) = oneshot();
        let port = RefCell::new(Some(port));
        context.mesh.on_receive(move |_, message| port.take().expect("told once").send(message as u16));
        if context.id == ShardId(1) {
            let port = told.await.unwrap();
            let stream = TcpStream::connect(SocketAddr::from(([127, 0, 0, 1], port))).await.unwrap();
            assert_eq!(stream.peer_addr().unwrap().port(), port);
            // more than the virtual buffers hold: the sender waits for the reader
            let mut parts: VecDeque<Bytes> =
                (0..60_u32).map(|part| Bytes::from(vec![part as u8; 10_000])).collect();
            parts.push_back(Bytes::new());
            stream.send(&mut parts).await.unwrap();
            assert!(parts.is_empty());
            stream.readable().await.unwrap();
            let mut buf = BytesMut::with_capacity(1);
            assert_eq!(stream.try_recv(&mut buf, 100).unwrap(), Some(1));
            assert_eq!(buf[..], [42]);
            stream.shutdown();
            stream.readable().await.unwrap();
            assert!(stream.send(&mut VecDeque::from([Bytes::from_static(b"late")])).await.is_err());
            return;
        }
        let listener = TcpListener::bind(SocketAddr::from(([127, 0, 0, 1], 0))).unwrap();
        let address = listener.local_addr().unwrap();
        assert_ne!(address.port(), 0);
        context.mesh.try_send(ShardId(1), u64::from(address.port())).unwrap();
        let stream = listener.accept().await.unwrap();
        assert_eq!(stream.local_addr().unwrap(), address);
        let mut buf = BytesMut::with_capacity(70_000);
        assert!(stream.peer_addr().unwrap().ip().is_loopback());
        let mut received = 0;
        while received < 600_000 {
            stream.readable().await.unwrap();
            let Some(count) = stream.try_recv(&mut buf, 60_000).unwrap() else { continue };
            assert!(count > 0 && count <= 60_000);
            for (offset, &byte) in buf.iter().enumerate().step_by(7) {
                assert_eq!(byte, ((received + offset) / 10_000) as u8);
            }
            received += count;
            buf.clear();
        }
        stream.send(&mut VecDeque::from([Bytes::from_static(&[42])])).await.unwrap();
        assert_eq!(receive_all(&stream).await.unwrap(), b"");
        drop(listener);
        let refused = TcpStream::connect(address).await;
        assert_eq!(kind(refused), io::ErrorKind::ConnectionRefused);
    });
}

#[test]
fn closing_with_bytes_unread_resets_the_peer() {
    on_both("reset", 1, |_, _| async {
        let listener = TcpListener::bind(SocketAddr::from(([127, 0, 0, 1], 0))).unwrap();
        let client = TcpStream::connect(listener.local_addr().unwrap()).await.unwrap();
        let server = listener.accept().await.unwrap();
        client.send(&mut VecDeque::from([Bytes::from_static(b"nobody reads this")])).await.unwrap();
        server.readable().await.unwrap();
        drop(server);
        assert_eq!(kind(receive_all(&client).await), io::ErrorKind::ConnectionReset);
    });
}

#[test]
fn a_slow_reader_blocks_the_sender() {
    let outcome = run(1, 1, |_: ShardContext<()>| async {
        let listener = TcpListener::bind(SocketAddr::from(([127, 0, 0, 1], 0))).unwrap();
        let client = TcpStream::connect(listener.local_addr().unwrap()).await.unwrap();
        let _server = listener.accept().await.unwrap();
        client.send(&mut VecDeque::from([Bytes::from(vec![0; 1 << 20])])).await
    });
    assert!(matches!(outcome.end, End::Stuck(ref stuck) if stuck.why == "deadlock"), "{outcome:?}");
}

#[test]
fn connections_break_on_request() {
    let broken = RefCell::new(BTreeSet::new());
    check_seeds(50, |seed| {
        let outcome = simulate(Simulation::new(seed).reset_one_in(20), async {
            let listener = TcpListener::bind("[::]:9092".parse().unwrap()).unwrap();
            let client = TcpStream::connect(SocketAddr::from(([127, 0, 0, 1], 9092))).await.unwrap();
            let server = listener.accept().await.unwrap();
            for _ in 0..10 {
                client.send(&mut VecDeque::from([Bytes::from_static(b"x")])).await?;
                server.readable().await?;
                server.try_recv(&mut BytesMut::with_capacity(1), 1)?;
            }
            io::Result::Ok(())
        });
        let trace = outcome.trace;
        if outcome.done()[0].is_err() {
            broken.borrow_mut().insert(seed);
        }
        trace
    });
    assert!((5..50).contains(&broken.borrow().len()), "{broken:?} of 50");
}

// -- what a crash takes

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
        super::crash(CrashKind::PowerCut).await;
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
                super::crash(kind).await;
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
            super::crash(CrashKind::Kill).await;
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
        state.end_write(inode, 0, &buf, other, super::disk::Ending::Complete).unwrap();
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

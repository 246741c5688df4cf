//! One suite for both machines.

use std::cell::RefCell;
use std::collections::{BTreeSet, VecDeque};
use std::future::Future;
use std::io;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::rc::Rc;
use std::time::Duration;

use bytes::{Bytes, BytesMut};

use super::{block, filled, kind, simulate};
use crate::model::ShardId;
use crate::reactor::sim::{Disk, End, Simulation, check_seeds, run};
use crate::reactor::sync::{Notify, oneshot};
use crate::reactor::{
    BLOCK_BYTES, Cores, File, Instant, OpenMode, Options, ShardContext, TcpListener, TcpStream, blocking, fs,
    now, random_u64, shard_count, shard_id, sleep, sleep_until, spawn, turn,
};

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
        file.write_durable(&filled(1, 2), block(1)).await.unwrap();
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

//! Sockets on the loopback interface.

use std::collections::VecDeque;
use std::io::{ErrorKind, Read, Write};
use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr};
use std::rc::Rc;
use std::sync::mpsc;

use bytes::{Bytes, BytesMut};

use super::*;

const PATIENCE: std::time::Duration = std::time::Duration::from_secs(5);

fn any_port() -> SocketAddr {
    (Ipv4Addr::LOCALHOST, 0).into()
}

/// Both ends of a new connection, on this shard.
async fn pair() -> (TcpStream, TcpStream) {
    let listener = TcpListener::bind(any_port()).unwrap();
    let connecting = spawn(TcpStream::connect(listener.local_addr().unwrap()));
    let accepted = listener.accept().await.unwrap();
    (connecting.await.unwrap(), accepted)
}

/// Receives until `len` bytes are there, or the end.
async fn receive(stream: &TcpStream, len: usize, step: usize) -> std::io::Result<BytesMut> {
    let mut buf = BytesMut::with_capacity(len);
    while buf.len() < len {
        stream.readable().await?;
        let room = len - buf.len();
        if stream.try_recv(&mut buf, step.min(room))? == Some(0) {
            break;
        }
    }
    Ok(buf)
}

#[test]
fn echo() {
    on_a_shard("net-echo", |_| async {
        let (client, server) = pair().await;
        assert_eq!(client.peer_addr().unwrap(), server.local_addr().unwrap());
        assert_eq!(client.local_addr().unwrap(), server.peer_addr().unwrap());
        spawn(async move {
            let mut buf = BytesMut::new();
            loop {
                server.readable().await.unwrap();
                buf.reserve(1000);
                match server.try_recv(&mut buf, 1000).unwrap() {
                    Some(0) => break,
                    Some(_) => server.send(&mut VecDeque::from([buf.split().freeze()])).await.unwrap(),
                    None => {}
                }
            }
        });
        for size in [1, 999, 1000, 1001, 50_000] {
            for round in 0..40 {
                let message = Bytes::from(pattern(size + round, size));
                client.send(&mut VecDeque::from([message.clone()])).await.unwrap();
                assert!(receive(&client, size, 700).await.unwrap() == message);
            }
        }
        let mut buf = BytesMut::with_capacity(10);
        assert_eq!(client.try_recv(&mut buf, 10).unwrap(), None, "nothing is there");
    });
}

#[test]
fn try_recv_stays_within_its_bounds() {
    on_a_shard("net-recv", |_| async {
        let (client, server) = pair().await;
        client.send(&mut VecDeque::from([Bytes::from_static(b"0123456789")])).await.unwrap();
        server.readable().await.unwrap();
        let mut buf = BytesMut::with_capacity(8);
        buf.extend_from_slice(b"ab");
        let capacity = buf.capacity();
        assert_eq!(server.try_recv(&mut buf, 3).unwrap(), Some(3));
        assert_eq!(
            server.try_recv(&mut buf, 100).unwrap(),
            Some(capacity - 5),
            "as much as there is room for"
        );
        assert_eq!(buf, b"ab0123456789"[..capacity]);
        assert_eq!(buf.capacity(), capacity);
        buf.reserve(100);
        server.readable().await.unwrap();
        drop(client);
        eventually("the end comes", || server.try_recv(&mut buf, 100).unwrap() == Some(0)).await;
        server.readable().await.unwrap();
        assert_eq!(server.try_recv(&mut buf, 100).unwrap(), Some(0), "and stays");
    });
}

#[test]
fn readable_waits_again_after_everything_was_taken() {
    on_a_shard("net-again", |_| async {
        let (client, server) = pair().await;
        let server = Rc::new(server);
        for round in 0..3_u8 {
            let waiting = Rc::clone(&server);
            let woken = spawn(async move { waiting.readable().await });
            turn().await;
            client.send(&mut VecDeque::from([Bytes::copy_from_slice(&[round])])).await.unwrap();
            woken.await.unwrap();
            // A wait that finds something returns at once, also twice.
            server.readable().await.unwrap();
            let mut buf = BytesMut::with_capacity(8);
            assert_eq!(server.try_recv(&mut buf, 8).unwrap(), Some(1));
            assert_eq!(server.try_recv(&mut buf, 7).unwrap(), None);
            assert_eq!(buf[..], [round]);
            // Nothing is there now: it must not return.
            let mut waiting = Box::pin(server.readable());
            for _ in 0..5 {
                let ready = std::future::poll_fn(|context| {
                    std::task::Poll::Ready(waiting.as_mut().poll(context).is_ready())
                });
                assert!(!ready.await, "round {round}");
                turn().await;
            }
        }
    });
}

#[test]
fn gathered_parts_larger_than_the_socket_reach_a_slow_reader() {
    on_a_shard("net-gather", |_| async {
        let (client, server) = pair().await;
        // 300 parts, some empty, some large: 12 MiB, far more than the buffers of both sockets hold.
        let parts: VecDeque<Bytes> = (0..300)
            .map(|index| Bytes::from(pattern(index, [0, 1, 100, 5000, 160_000][index % 5])))
            .collect();
        let expected: Vec<u8> = parts.iter().flatten().copied().collect();
        let sent = spawn(async move {
            let mut parts = parts;
            client.send(&mut parts).await.unwrap();
            assert!(parts.is_empty());
            client.send(&mut parts).await.unwrap();
        });
        let mut received = BytesMut::with_capacity(expected.len());
        while received.len() < expected.len() {
            // Slow: the sender gets many turns in which there is no room.
            for _ in 0..3 {
                turn().await;
            }
            server.readable().await.unwrap();
            assert_ne!(server.try_recv(&mut received, 100_000).unwrap(), Some(0));
        }
        assert!(received == expected);
        sent.await;
    });
}

#[test]
fn shutdown_wakes_who_waits() {
    on_a_shard("net-shutdown", |_| async {
        let (client, server) = pair().await;
        let client = Rc::new(client);
        let (reader, writer) = (Rc::clone(&client), Rc::clone(&client));
        let reading = spawn(async move {
            reader.readable().await.unwrap();
            reader.try_recv(&mut BytesMut::with_capacity(1), 1).unwrap()
        });
        let (tell, told) = sync::oneshot();
        let writing = spawn(async move {
            let mut parts: VecDeque<Bytes> = (0..64).map(|_| Bytes::from(vec![1; 1 << 20])).collect();
            tell.send(());
            writer.send(&mut parts).await
        });
        told.await;
        // Nobody reads: the sender stands still with most of it unsent.
        for _ in 0..50 {
            turn().await;
        }
        client.shutdown();
        assert_eq!(reading.await, Some(0));
        assert_eq!(writing.await.unwrap_err().kind(), ErrorKind::BrokenPipe);
        client.shutdown();
        // The other end gets what was sent, and then the end.
        let all = receive(&server, 64 << 20, 1 << 20).await.unwrap_or_default();
        assert!(all.len() < 64 << 20);
    });
}

#[test]
fn a_peer_that_goes_is_an_error_and_no_signal() {
    on_a_shard("net-gone", |_| async {
        let (client, server) = pair().await;
        drop(server);
        let mut outcome = Ok(());
        while outcome.is_ok() {
            outcome = client.send(&mut VecDeque::from([Bytes::from_static(b"anybody there?")])).await;
            turn().await;
        }
        let kind = outcome.unwrap_err().kind();
        assert!(matches!(kind, ErrorKind::BrokenPipe | ErrorKind::ConnectionReset), "{kind}");

        let listener = TcpListener::bind(any_port()).unwrap();
        let address = listener.local_addr().unwrap();
        drop(listener);
        let error = TcpStream::connect(address).await.err().unwrap();
        assert_eq!(error.raw_os_error(), Some(libc::ECONNREFUSED));
    });
}

#[test]
fn an_accept_that_is_given_up_loses_no_connection() {
    on_a_shard("net-accept", |_| async {
        let listener = TcpListener::bind(any_port()).unwrap();
        let address = listener.local_addr().unwrap();
        for _ in 0..10 {
            let mut accept = Box::pin(listener.accept());
            let pending = std::future::poll_fn(|context| {
                std::task::Poll::Ready(accept.as_mut().poll(context).is_pending())
            });
            assert!(pending.await);
            turn().await;
            drop(accept);
            let client = TcpStream::connect(address).await.unwrap();
            let server = listener.accept().await.unwrap();
            assert_eq!(server.peer_addr().unwrap(), client.local_addr().unwrap());
        }
    });
}

#[test]
fn the_unspecified_address_takes_both_families() {
    on_a_shard("net-dual", |_| async {
        let listener = TcpListener::bind((Ipv6Addr::UNSPECIFIED, 0).into()).unwrap();
        let port = listener.local_addr().unwrap().port();
        // Other shards listen on the same port.
        let other = TcpListener::bind((Ipv6Addr::UNSPECIFIED, port).into()).unwrap();
        drop(other);
        let connecting = spawn(TcpStream::connect((Ipv4Addr::LOCALHOST, port).into()));
        let server = listener.accept().await.unwrap();
        let client = connecting.await.unwrap();
        assert_eq!(server.peer_addr().unwrap(), client.local_addr().unwrap(), "shown as IPv4");
        assert!(server.peer_addr().unwrap().is_ipv4() && server.local_addr().unwrap().is_ipv4());
        if listener.local_addr().unwrap().is_ipv6() {
            let connecting = spawn(TcpStream::connect((Ipv6Addr::LOCALHOST, port).into()));
            let server = listener.accept().await.unwrap();
            assert!(server.peer_addr().unwrap().is_ipv6());
            connecting.await.unwrap();
        }
    });
}

#[test]
fn a_port_in_use_is_found_before_the_shards_share_it() {
    let folder = Folder::new("net-probe");
    let (tell, told) = mpsc::channel();
    let (stop, stopped) = mpsc::channel::<()>();
    let stopped = std::sync::Arc::new(std::sync::Mutex::new(stopped));
    let options = folder.options(1);
    let broker = std::thread::spawn(move || {
        run(&options, move |_: ShardContext<()>| {
            let (tell, stopped) = (tell.clone(), std::sync::Arc::clone(&stopped));
            async move {
                let listener = TcpListener::bind((Ipv6Addr::UNSPECIFIED, 0).into()).unwrap();
                tell.send(listener.local_addr().unwrap().port()).unwrap();
                let stream = listener.accept().await.unwrap();
                let _ = blocking(move || stopped.lock().unwrap().recv()).await;
                // Ours closes first, so that the port is left in TIME_WAIT.
                stream.shutdown();
            }
        })
        .unwrap();
    });
    let port = told.recv().unwrap();
    for address in [(Ipv6Addr::UNSPECIFIED, port).into(), SocketAddr::from((Ipv4Addr::UNSPECIFIED, port))] {
        let text = probe_port(address, "listeners", PATIENCE).unwrap_err().to_string();
        assert!(
            text.contains(&format!("port {port} is already in use")) && text.contains("listeners="),
            "{text}"
        );
    }
    let mut client = std::net::TcpStream::connect((Ipv4Addr::LOCALHOST, port)).unwrap();
    client.write_all(b"x").unwrap();
    stop.send(()).unwrap();
    let _ = client.read(&mut [0]);
    drop(client);
    broker.join().unwrap();
    probe_port((Ipv6Addr::UNSPECIFIED, port).into(), "listeners", PATIENCE)
        .expect("old connections do not count");
    let text = probe_port("192.0.2.1:9092".parse().unwrap(), "listeners", PATIENCE).unwrap_err().to_string();
    assert!(text.contains("192.0.2.1 is not an address of this machine"), "{text}");
}

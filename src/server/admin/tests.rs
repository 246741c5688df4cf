//! The admin listener on the virtual reactor: half a minute of waiting takes no time there, and a shard can be silent.

use std::collections::VecDeque;
use std::net::Ipv4Addr;

use bytes::BytesMut;

use super::*;
use crate::metadata::{self, Image, TopicDefaults};
use crate::metrics::snapshot;
use crate::model::BrokerId;
use crate::partition::{Host, Lifecycle, MESH_DEPTH, Message};
use crate::reactor::ShardContext;
use crate::reactor::sim::{Disk, Simulation};
use crate::storage::{self, LogDir};

struct NoHost;

impl Host for NoHost {
    fn reconfigured(&self) {}

    fn control(&self, _: metadata::Request) -> std::pin::Pin<Box<dyn Future<Output = metadata::Reply>>> {
        Box::pin(std::future::ready(metadata::Reply::Done))
    }

    fn lifecycle(&self, _: Lifecycle) -> std::pin::Pin<Box<dyn Future<Output = ()>>> {
        Box::pin(std::future::ready(()))
    }

    fn measure(&self) -> snapshot::Server {
        snapshot::Server::default()
    }
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Second {
    Answers,
    Silent,
}

/// Runs `work` on shard 0 of two; what a silent shard is sent waits for ever.
fn with_admin(second: Second, work: impl AsyncFn(Admin) + Clone + 'static) {
    let disk = Disk::new();
    disk.create_dir_all("/data").unwrap();
    let simulation = Simulation::new(7).shards(2).disk(&disk).mesh_depth(MESH_DEPTH);
    simulation
        .run(move |context: ShardContext<Message>| {
            let work = work.clone();
            async move {
                let image = Image::new("cluster", TopicDefaults::default());
                let (id, count) = (context.id, context.count);
                let shard = Shard::new(id, count, BrokerId(1), image, context.mesh);
                let config = storage::Config {
                    journal_bytes: 1 << 20,
                    tail_cache_bytes: 1 << 20,
                    read_ahead_bytes: 1 << 20,
                    reserve_bytes: 0,
                    retention_check_interval_ms: 300_000,
                    producer_state_bytes: 1 << 20,
                    ..storage::testing::config()
                };
                let dirs = vec![LogDir::new(DirectoryId(5), "/data".into(), true)];
                if id == ShardId::ZERO || second == Second::Answers {
                    shard.start(
                        config,
                        crate::partition::CoordinatorSettings::default(),
                        dirs,
                        Box::new(NoHost),
                    );
                }
                if id != ShardId::ZERO {
                    return;
                }
                let settings = Settings {
                    addresses: vec![(Ipv4Addr::LOCALHOST, 9644).into()],
                    shard_count: count,
                    log_dirs: vec![(DirectoryId(5), "/data".into())],
                    started_ms: 1_700_000_000_000,
                };
                let admin = Admin::start(settings, shard).unwrap();
                work(admin).await;
            }
        })
        .done();
}

async fn connect(admin: &Admin) -> TcpStream {
    TcpStream::connect(admin.addresses()[0]).await.unwrap()
}

async fn send(stream: &TcpStream, text: &str) {
    stream.send(&mut VecDeque::from([Bytes::copy_from_slice(text.as_bytes())])).await.unwrap();
}

/// Everything until the other side closes.
async fn receive(stream: &TcpStream) -> String {
    let mut received = BytesMut::new();
    loop {
        received.reserve(4096);
        match stream.try_recv(&mut received, 4096) {
            Ok(None) => {
                let _ = stream.readable().await;
            }
            Ok(Some(0)) | Err(_) => return String::from_utf8(received.to_vec()).unwrap(),
            Ok(Some(_)) => {}
        }
    }
}

async fn get(admin: &Admin, path: &str) -> String {
    let stream = connect(admin).await;
    send(&stream, &format!("GET {path} HTTP/1.1\r\nHost: here\r\nConnection: close\r\n\r\n")).await;
    receive(&stream).await
}

fn assert_answer(answer: &str, status: u16, body: &str) {
    assert!(answer.starts_with(&format!("HTTP/1.1 {status} ")), "{answer}");
    assert!(answer.ends_with(&format!("\r\n\r\n{body}")), "{answer}");
}

#[test]
fn says_how_far_the_node_is() {
    with_admin(Second::Answers, async |admin: Admin| {
        for (phase, status, body) in [
            (None, 503, "starting: logs are being opened and recovered\n"),
            (Some(Phase::Serving), 200, "ok\n"),
            (Some(Phase::Stopping), 503, "stopping\n"),
        ] {
            phase.into_iter().for_each(|phase| admin.set_phase(phase));
            assert_answer(&get(&admin, "/readyz").await, status, body);
            assert_answer(&get(&admin, "/healthz").await, 200, "ok\n");
            let ready = u64::from(phase == Some(Phase::Serving));
            assert!(get(&admin, "/metrics").await.contains(&format!("\ncorelane_ready {ready}\n")));
        }
    });
}

#[test]
fn a_silent_shard_is_named_and_holds_nobody_up() {
    with_admin(Second::Silent, async |admin: Admin| {
        admin.set_phase(Phase::Serving);
        for path in ["/healthz", "/readyz"] {
            let asked = now();
            assert_answer(&get(&admin, path).await, 503, "shard 1 does not answer\n");
            assert!(now().since(asked) < Duration::from_millis(1500));
        }
        for waited in [true, false] {
            let asked = now();
            let text = get(&admin, "/metrics").await;
            assert!(
                text.contains("corelane_shard_up{shard=\"0\"} 1\ncorelane_shard_up{shard=\"1\"} 0\n"),
                "{text}"
            );
            let took = now().since(asked);
            assert_eq!(
                took > Duration::from_secs(4),
                waited,
                "an answer that is due is not waited for again"
            );
        }
    });
}

#[test]
fn a_silent_client_is_cut() {
    with_admin(Second::Answers, async |admin: Admin| {
        let begun = now();
        let silent = connect(&admin).await;
        let half = connect(&admin).await;
        send(&half, "GET /metrics HTTP/1.1\r\nHos").await;
        // One byte at a time is no request either.
        let drips = connect(&admin).await;
        while now().since(begun) < PATIENCE / 2 {
            sleep(Duration::from_secs(1)).await;
            send(&drips, "G").await;
        }
        for stream in [silent, half, drips] {
            assert_eq!(receive(&stream).await, "");
        }
        let took = now().since(begun);
        assert!(took >= PATIENCE && took < PATIENCE * 2, "{took:?}");
    });
}

#[test]
fn a_client_that_takes_nothing_is_cut() {
    with_admin(Second::Answers, async |admin: Admin| {
        let begun = now();
        let slow = connect(&admin).await;
        // More answers than fit between the two: the writer stands still.
        send(&slow, &"GET /metrics HTTP/1.1\r\nHost: here\r\n\r\n".repeat(100)).await;
        while !admin.shared.connections.borrow().is_empty() || now() == begun {
            sleep(Duration::from_millis(100)).await;
        }
        let took = now().since(begun);
        assert!(took >= PATIENCE && took < PATIENCE * 2, "{took:?}");
    });
}

#[test]
fn those_who_stand_still_give_way() {
    with_admin(Second::Answers, async |admin: Admin| {
        let mut silent = Vec::new();
        for _ in 0..2 * CONNECTIONS_MAX {
            silent.push(connect(&admin).await);
        }
        let begun = now();
        assert_answer(&get(&admin, "/healthz").await, 200, "ok\n");
        // Behind the others: each second makes room for those who wait.
        assert!(now().since(begun) < Duration::from_secs(10), "{:?}", now().since(begun));
        assert!(admin.shared.connections.borrow().len() <= CONNECTIONS_MAX);
    });
}

#[test]
fn who_asks_at_once_is_told_once() {
    with_admin(Second::Answers, async |admin: Admin| {
        let sent = |text: &str| -> u64 {
            let line =
                text.lines().find_map(|l| l.strip_prefix("corelane_shard_messages_sent_total{shard=\"0\"} "));
            line.expect("shard 0 tells").parse().unwrap()
        };
        let before = sent(&get(&admin, "/metrics").await);
        let admin = Rc::new(admin);
        let asking: Vec<_> = (0..CONNECTIONS_MAX)
            .map(|_| {
                let admin = Rc::clone(&admin);
                spawn(async move { get(&admin, "/metrics").await })
            })
            .collect();
        for answer in asking {
            assert!(answer.await.starts_with("HTTP/1.1 200 "));
        }
        let asked = sent(&get(&admin, "/metrics").await) - before;
        assert!(
            asked <= 1 + CONNECTIONS_MAX as u64 / 2,
            "{asked} questions for {CONNECTIONS_MAX} scrapes at once"
        );
    });
}

//! The connection loop on the real reactor over loopback, against a service that answers when the test says so.

mod handover;

use std::collections::HashMap;
use std::path::PathBuf;
use std::sync::atomic::{AtomicUsize, Ordering};

use bytes::{Buf, BufMut, Bytes, BytesMut};

use super::*;
use crate::handlers::{CloseReason, LocalFuture, Outcome, Reply, Request, Stage};
use crate::model::{ErrorCode, SecurityProtocol};
use crate::partition::Concern;
use crate::protocol::api::Api;
use crate::reactor::sync::{Sender, oneshot};
use crate::reactor::{Cores, Options, ShardContext, TcpStream, run, turn};

/// Answers Metadata at once, Produce in its second stage and ListOffsets in its first when released, CreateTopics
/// with a large reply, DescribeConfigs with one that mutes. A reply's body is empty: the correlation id says it all.
#[derive(Default)]
struct Fake {
    /// Correlation ids in the order of the calls.
    calls: RefCell<Vec<i32>>,
    gates: RefCell<HashMap<i32, Sender<Outcome>>>,
    /// Whom every request is about.
    concern: Cell<Option<Concern>>,
    /// As many as `calls`, for other shards.
    called: Arc<AtomicUsize>,
}

const LARGE_REPLY_BYTES: usize = 16 * 1024 * 1024;
const MUTE: Duration = Duration::from_millis(60);

fn reply(correlation_id: i32) -> Reply {
    let mut head = BytesMut::new();
    head.put_i32(4);
    head.put_i32(correlation_id);
    Reply {
        head: head.freeze(),
        rest: Vec::new(),
        error: ErrorCode::None,
        mute: Duration::ZERO,
        wished_wait: Duration::ZERO,
    }
}

impl Fake {
    fn gate(&self, correlation_id: i32) -> LocalFuture<Outcome> {
        let (sender, receiver) = oneshot();
        self.gates.borrow_mut().insert(correlation_id, sender);
        Box::pin(async move { receiver.await.expect("every gate is opened") })
    }

    fn release(&self, correlation_id: i32) {
        self.release_with(correlation_id, Outcome::Reply(reply(correlation_id)));
    }

    fn release_with(&self, correlation_id: i32, outcome: Outcome) {
        let gate = self.gates.borrow_mut().remove(&correlation_id);
        gate.expect("the request was called").send(outcome);
    }

    async fn until_called(&self, calls: &[i32]) {
        while self.calls.borrow().len() < calls.len() {
            turn().await;
        }
        assert_eq!(*self.calls.borrow(), calls);
    }
}

impl Service for Fake {
    fn call(self: Rc<Self>, request: Request) -> LocalFuture<Stage> {
        let id = request.header.correlation_id;
        self.calls.borrow_mut().push(id);
        self.called.fetch_add(1, Ordering::Relaxed);
        self.concern.get().into_iter().for_each(|concern| request.connection.count(concern));
        let mut done = reply(id);
        match request.header.api {
            Api::Produce => {
                let gate = self.gate(id);
                return Box::pin(async move { Stage::Later(gate) });
            }
            Api::ListOffsets => {
                let gate = self.gate(id);
                return Box::pin(async move { Stage::Done(gate.await) });
            }
            Api::CreateTopics => {
                let mut head = BytesMut::new();
                head.put_i32(i32::try_from(4 + LARGE_REPLY_BYTES).unwrap());
                head.put_i32(id);
                done.head = head.freeze();
                done.rest = vec![Bytes::from(vec![7; LARGE_REPLY_BYTES])];
            }
            Api::DescribeConfigs => done.mute = MUTE,
            _ => {}
        }
        Box::pin(async move { Stage::Done(Outcome::Reply(done)) })
    }
}

/// A frame of one of the old versions, whose headers have no tagged fields; the body is empty.
fn request(key: i16, version: i16, correlation_id: i32) -> Bytes {
    let mut frame = BytesMut::new();
    frame.put_i32(10);
    frame.put_i16(key);
    frame.put_i16(version);
    frame.put_i32(correlation_id);
    frame.put_i16(-1);
    frame.freeze()
}

fn produce(id: i32) -> Bytes {
    request(0, 3, id)
}

fn list_offsets(id: i32) -> Bytes {
    request(2, 1, id)
}

fn metadata(id: i32) -> Bytes {
    request(3, 0, id)
}

struct Client {
    stream: TcpStream,
    received: BytesMut,
}

impl Client {
    async fn send(&self, parts: impl IntoIterator<Item = Bytes>) {
        self.stream.send(&mut parts.into_iter().collect()).await.unwrap();
    }

    /// The next frame; `None` at the end of the stream, however it ends.
    async fn frame(&mut self) -> Option<Bytes> {
        loop {
            if let Some(size) = self.received.first_chunk() {
                let size = u32::from_be_bytes(*size) as usize;
                if self.received.len() >= 4 + size {
                    self.received.advance(4);
                    return Some(self.received.split_to(size).freeze());
                }
            }
            self.received.reserve(256 * 1024);
            self.stream.readable().await.ok()?;
            if self.stream.try_recv(&mut self.received, usize::MAX).ok()? == Some(0) {
                return None;
            }
        }
    }

    /// The correlation id of the next reply.
    async fn reply(&mut self) -> Option<i32> {
        Some(self.frame().await?.get_i32())
    }

    /// Nothing has come after the shard had many turns.
    async fn assert_silent(&mut self) {
        for _ in 0..20 {
            turn().await;
        }
        self.received.reserve(1);
        assert!(self.received.is_empty());
        assert!(self.stream.try_recv(&mut self.received, usize::MAX).unwrap().is_none(), "a reply too early");
    }
}

struct Broker {
    fake: Rc<Fake>,
    server: Rc<Server>,
    address: std::net::SocketAddr,
}

impl Broker {
    fn start(settings: Settings, limits: Arc<Limits>, lanes: Arc<Lanes>) -> Broker {
        let socket = TcpListener::bind("127.0.0.1:0".parse().unwrap()).unwrap();
        let address = socket.local_addr().unwrap();
        let endpoint = Endpoint {
            listener: "PLAINTEXT".to_owned(),
            host: "localhost".to_owned(),
            port: address.port(),
            protocol: SecurityProtocol::Plaintext,
            shard_ports: Vec::new(),
        };
        let fake = Rc::new(Fake::default());
        let listeners = vec![BoundListener { socket, endpoint, shard: None }];
        let service: Rc<dyn Service> = Rc::<Fake>::clone(&fake);
        let server = Rc::new(Server::with_service(settings, service, listeners, limits, lanes));
        Broker { fake, server, address }
    }

    async fn connect(&self) -> Client {
        let stream = TcpStream::connect(self.address).await.unwrap();
        Client { stream, received: BytesMut::new() }
    }

    async fn until_connections(&self, count: usize) {
        while self.server.connection_count() != count {
            turn().await;
        }
    }
}

fn settings() -> Settings {
    Settings {
        request_bytes_max: 1_000_000,
        request_budget_bytes: 4_000_000,
        idle_max: None,
        slow_request: None,
        handover: true,
    }
}

fn no_limits() -> Arc<Limits> {
    Limits::of(usize::MAX, usize::MAX, HashMap::new())
}

/// Runs `test` on a shard, with a broker of these settings.
fn with_broker<F: Future<Output = ()> + 'static>(
    settings: Settings,
    limits: fn() -> Arc<Limits>,
    test: impl Fn(Broker) -> F + Clone + Send + 'static,
) {
    let lanes = Arc::new(Lanes::new(1));
    run_shards(1, move |_| test(Broker::start(settings.clone(), limits(), Arc::clone(&lanes))));
}

fn run_shards<F: Future<Output = ()> + 'static>(
    count: usize,
    shard: impl Fn(ShardContext<()>) -> F + Clone + Send + 'static,
) {
    let name = std::thread::current().name().unwrap_or("server").replace(':', "-");
    let folder = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("target/tmp");
    std::fs::create_dir_all(&folder).unwrap();
    let options = Options {
        cores: Cores::Unpinned(count),
        spin: Duration::ZERO,
        mesh_depth: 64,
        probe_file: folder.join(format!("{name}-{}", std::process::id())),
    };
    run(&options, shard).unwrap();
    let _ = std::fs::remove_file(&options.probe_file);
}

#[test]
fn produces_overlap_and_their_replies_leave_in_order() {
    with_broker(settings(), no_limits, async |broker: Broker| {
        let mut client = broker.connect().await;
        client.send([produce(1), produce(2), produce(3)]).await;
        broker.fake.until_called(&[1, 2, 3]).await;
        broker.fake.release(3);
        broker.fake.release(2);
        client.assert_silent().await;
        broker.fake.release(1);
        for id in 1..=3 {
            assert_eq!(client.reply().await, Some(id));
        }
    });
}

#[test]
fn another_request_starts_when_the_replies_before_it_are_ready() {
    with_broker(settings(), no_limits, async |broker: Broker| {
        let mut client = broker.connect().await;
        client.send([produce(1), produce(2), metadata(3), produce(4), list_offsets(5), produce(6)]).await;
        broker.fake.until_called(&[1, 2]).await;
        broker.fake.release(2);
        client.assert_silent().await;
        broker.fake.until_called(&[1, 2]).await;
        broker.fake.release(1);
        broker.fake.until_called(&[1, 2, 3, 4]).await;
        for id in 1..=3 {
            assert_eq!(client.reply().await, Some(id));
        }
        broker.fake.release(4);
        broker.fake.until_called(&[1, 2, 3, 4, 5]).await;
        assert_eq!(client.reply().await, Some(4));
        client.assert_silent().await;
        broker.fake.until_called(&[1, 2, 3, 4, 5]).await;
        broker.fake.release(5);
        broker.fake.until_called(&[1, 2, 3, 4, 5, 6]).await;
        broker.fake.release(6);
        assert_eq!(client.reply().await, Some(5));
        assert_eq!(client.reply().await, Some(6));
    });
}

#[test]
fn connections_do_not_wait_for_each_other() {
    with_broker(settings(), no_limits, async |broker: Broker| {
        let mut waiting = broker.connect().await;
        waiting.send([list_offsets(1)]).await;
        broker.fake.until_called(&[1]).await;
        let mut other = broker.connect().await;
        other.send([metadata(2)]).await;
        assert_eq!(other.reply().await, Some(2));
        broker.fake.release(1);
        assert_eq!(waiting.reply().await, Some(1));
    });
}

#[test]
fn a_produce_without_acknowledgement_is_silent_or_closes() {
    with_broker(settings(), no_limits, async |broker: Broker| {
        let mut client = broker.connect().await;
        client.send([produce(1), produce(2), metadata(3)]).await;
        broker.fake.until_called(&[1, 2]).await;
        broker.fake.release_with(1, Outcome::NoReply);
        broker.fake.release(2);
        assert_eq!(client.reply().await, Some(2));
        assert_eq!(client.reply().await, Some(3));
        client.send([produce(4), produce(5), metadata(6)]).await;
        broker.fake.until_called(&[1, 2, 3, 4, 5]).await;
        let failed = CloseReason::UnacknowledgedProduce(ErrorCode::UnknownTopicOrPartition);
        broker.fake.release_with(5, Outcome::Close(failed));
        broker.fake.release(4);
        assert_eq!(client.reply().await, Some(4), "what came before is answered");
        assert_eq!(client.reply().await, None);
        broker.until_connections(0).await;
        broker.fake.until_called(&[1, 2, 3, 4, 5]).await;
        assert_eq!(broker.server.metrics().connections_rejected.get(), 1);
        let counts = broker.server.metrics().api(Api::Produce);
        assert_eq!((counts.requests.get(), counts.errors.get()), (3, 0));
    });
}

#[test]
fn what_cannot_be_answered_closes_its_connection_alone() {
    with_broker(settings(), no_limits, async |broker: Broker| {
        let mut witness = broker.connect().await;
        let size = |size: i32| Bytes::copy_from_slice(&size.to_be_bytes());
        let short = [size(3), Bytes::from_static(b"abc")].concat();
        let bad = [
            request(999, 0, 1),
            request(-1, 0, 1),
            request(0, 2, 1),
            request(3, 14, 1),
            request(3, -1, 1),
            size(-1),
            size(i32::MIN),
            size(i32::MAX),
            size(1_000_001),
            size(0),
            short.into(),
        ];
        for (round, bad) in (0..).zip(&bad) {
            let mut client = broker.connect().await;
            client.send([metadata(round), bad.clone()]).await;
            assert_eq!(client.reply().await, Some(round), "before {bad:?}");
            assert_eq!(client.reply().await, None, "after {bad:?}");
            witness.send([metadata(1000 + round)]).await;
            assert_eq!(witness.reply().await, Some(1000 + round));
        }
        assert_eq!(broker.server.metrics().connections_rejected.get(), bad.len() as u64);
        broker.until_connections(1).await;
    });
}

#[test]
fn api_versions_of_an_unknown_version_is_answered_in_version_0() {
    with_broker(settings(), no_limits, async |broker: Broker| {
        let mut client = broker.connect().await;
        // the body and the rest of the header mean nothing in a version nobody knows
        let mut odd = BytesMut::from(&request(18, 99, 7)[..12]);
        odd[3] = 15;
        odd.put_slice(&[0xff; 7]);
        client.send([produce(1), odd.freeze(), metadata(8)]).await;
        broker.fake.until_called(&[1]).await;
        client.assert_silent().await;
        broker.fake.release(1);
        assert_eq!(client.reply().await, Some(1));
        let mut answer = client.frame().await.unwrap();
        assert_eq!((answer.get_i32(), answer.get_i16(), answer.get_i32()), (7, 35, 1));
        assert_eq!((answer.get_i16(), answer.get_i16(), answer.get_i16()), (18, 0, 4));
        assert!(answer.is_empty());
        assert_eq!(client.reply().await, Some(8));
    });
}

#[test]
fn a_slow_client_does_not_pile_up_replies() {
    with_broker(settings(), no_limits, async |broker: Broker| {
        let mut client = broker.connect().await;
        let large = |id| request(19, 2, id);
        client.send([large(1), large(2), large(3)]).await;
        broker.fake.until_called(&[1]).await;
        for _ in 0..50 {
            turn().await;
        }
        broker.fake.until_called(&[1]).await;
        let shared = &broker.server.shared;
        assert!(shared.ready_bytes.get() > LARGE_REPLY_BYTES && shared.are_replies_short());
        assert_eq!(shared.reply_bytes_max(), REPLY_BYTES_MIN, "other replies are kept small meanwhile");
        for id in 1..=3 {
            let mut frame = client.frame().await.unwrap();
            assert_eq!((frame.len(), frame.get_i32()), (4 + LARGE_REPLY_BYTES, id));
        }
        // an answer behind it says that the last one has left
        client.send([metadata(4)]).await;
        assert_eq!(client.reply().await, Some(4));
        client.send([large(5)]).await;
        broker.fake.until_called(&[1, 2, 3, 4, 5]).await;
        drop(client);
        broker.until_connections(0).await;
        assert_eq!(broker.server.shared.ready_bytes.get(), 0, "also of what was never sent");
        assert_eq!(broker.server.shared.reply_bytes_max(), 2_000_000);
    });
}

#[test]
fn many_small_requests_at_once() {
    with_broker(settings(), no_limits, async |broker: Broker| {
        let mut client = broker.connect().await;
        let all: Vec<u8> = (0..5000).flat_map(|id| metadata(id).to_vec()).collect();
        client.send([Bytes::from(all)]).await;
        for id in 0..5000 {
            assert_eq!(client.reply().await, Some(id));
        }
        assert_eq!(broker.server.metrics().api(Api::Metadata).requests.get(), 5000);
    });
}

#[test]
fn a_request_holds_its_memory_until_its_reply_has_left() {
    // room for two requests of the least charge
    let settings = Settings { request_budget_bytes: 2048, ..settings() };
    with_broker(settings, no_limits, async |broker: Broker| {
        let mut client = broker.connect().await;
        client.send([produce(1), produce(2), produce(3)]).await;
        broker.fake.until_called(&[1, 2]).await;
        client.assert_silent().await;
        broker.fake.until_called(&[1, 2]).await;
        broker.fake.release(1);
        assert_eq!(client.reply().await, Some(1));
        broker.fake.until_called(&[1, 2, 3]).await;
        broker.fake.release(3);
        broker.fake.release(2);
        assert_eq!(client.reply().await, Some(2));
        assert_eq!(client.reply().await, Some(3));
        assert_eq!(broker.server.shared.budget.free_bytes(), 2048);
    });
}

#[test]
fn a_muted_connection_waits() {
    with_broker(settings(), no_limits, async |broker: Broker| {
        let mut client = broker.connect().await;
        client.send([request(32, 1, 1)]).await;
        assert_eq!(client.reply().await, Some(1), "the reply itself leaves at once");
        let replied = now();
        client.send([metadata(2)]).await;
        assert_eq!(client.reply().await, Some(2));
        // the mute began before the client had the reply
        assert!(now().since(replied) > MUTE / 2);
    });
}

#[test]
fn idle_connections_are_closed_and_waiting_ones_are_not() {
    let settings = Settings { idle_max: Some(Duration::from_millis(80)), ..settings() };
    with_broker(settings, no_limits, async |broker: Broker| {
        let mut idle = broker.connect().await;
        let mut half = broker.connect().await;
        let mut waiting = broker.connect().await;
        let mut pending = broker.connect().await;
        half.send([produce(9).slice(..7)]).await;
        waiting.send([list_offsets(1)]).await;
        broker.fake.until_called(&[1]).await;
        pending.send([produce(2)]).await;
        broker.fake.until_called(&[1, 2]).await;
        assert_eq!(idle.reply().await, None);
        assert_eq!(half.reply().await, None);
        sleep(Duration::from_millis(120)).await;
        broker.fake.release(1);
        broker.fake.release(2);
        assert_eq!(waiting.reply().await, Some(1));
        assert_eq!(pending.reply().await, Some(2));
        assert_eq!(broker.server.metrics().connections_rejected.get(), 0);
    });
}

#[test]
fn an_address_has_its_share_of_connections() {
    with_broker(
        settings(),
        || Limits::of(usize::MAX, 2, HashMap::new()),
        async |broker: Broker| {
            let mut first = broker.connect().await;
            let mut second = broker.connect().await;
            for (id, client) in (1..).zip([&mut first, &mut second]) {
                client.send([metadata(id)]).await;
                assert_eq!(client.reply().await, Some(id));
            }
            let mut third = broker.connect().await;
            assert_eq!(third.reply().await, None, "closed at once");
            drop(first);
            broker.until_connections(1).await;
            let mut fourth = broker.connect().await;
            fourth.send([metadata(4)]).await;
            assert_eq!(fourth.reply().await, Some(4));
            assert_eq!(broker.server.metrics().connections_refused.get(), 1);
        },
    );
}

#[test]
fn a_full_node_lets_newcomers_wait() {
    with_broker(
        settings(),
        || Limits::of(1, usize::MAX, HashMap::new()),
        async |broker: Broker| {
            let mut first = broker.connect().await;
            first.send([metadata(1)]).await;
            assert_eq!(first.reply().await, Some(1));
            let mut second = broker.connect().await;
            second.send([metadata(2)]).await;
            second.assert_silent().await;
            first.send([metadata(3)]).await;
            assert_eq!(first.reply().await, Some(3));
            drop(first);
            assert_eq!(second.reply().await, Some(2));
        },
    );
}

#[test]
fn stop_answers_what_is_in_flight() {
    with_broker(settings(), no_limits, async |broker: Broker| {
        let mut idle = broker.connect().await;
        let mut producing = broker.connect().await;
        let mut waiting = broker.connect().await;
        idle.send([metadata(1)]).await;
        assert_eq!(idle.reply().await, Some(1));
        producing.send([produce(2), produce(3)]).await;
        broker.fake.until_called(&[1, 2, 3]).await;
        waiting.send([list_offsets(4)]).await;
        broker.fake.until_called(&[1, 2, 3, 4]).await;

        let server = Rc::clone(&broker.server);
        let stopped = spawn(async move { server.stop().await });
        assert_eq!(idle.reply().await, None);
        producing.send([produce(5)]).await;
        broker.fake.release(3);
        broker.fake.release(2);
        broker.fake.release(4);
        assert_eq!(producing.reply().await, Some(2));
        assert_eq!(producing.reply().await, Some(3));
        assert_eq!(producing.reply().await, None);
        assert_eq!(waiting.reply().await, Some(4));
        assert_eq!(waiting.reply().await, None);
        stopped.await;
        assert_eq!(broker.server.connection_count(), 0);
        if let Ok(stream) = TcpStream::connect(broker.address).await {
            let mut late = Client { stream, received: BytesMut::new() };
            assert_eq!(late.reply().await, None);
        }
        assert_eq!(*broker.fake.calls.borrow(), [1, 2, 3, 4], "nothing was begun after the stop");
    });
}

#[test]
fn stop_does_not_wait_for_ever() {
    with_broker(settings(), no_limits, async |broker: Broker| {
        let mut client = broker.connect().await;
        client.send([list_offsets(1)]).await;
        broker.fake.until_called(&[1]).await;
        let server = Rc::clone(&broker.server);
        let stopped = spawn(async move { server.stop_within(Duration::from_millis(30)).await });
        assert_eq!(client.reply().await, None);
        stopped.await;
    });
}

//! Connections that go to another shard. Each test's client is on shard 0, which sleeps while it waits.

use std::sync::atomic::AtomicBool;

use super::*;
use crate::reactor::Signal;

/// A window of a connection's requests ends with the first one after so long.
const WINDOW: Duration = Duration::from_millis(220);
/// Requests of a first window.
const REQUESTS: i32 = 32;

/// Two shards with a broker each, seen from shard 0.
struct Two {
    broker: Broker,
    limits: Arc<Limits>,
    /// Requests that shard 1 was given.
    beyond: Arc<AtomicUsize>,
    /// Shard 1 has something to do all the time.
    busy: Arc<AtomicBool>,
}

/// Runs `test` on shard 0, with requests that are about what `concern` says of the shard that is asked.
fn with_two<F: Future<Output = ()> + 'static>(
    concern: fn(ShardId) -> Concern,
    test: impl Fn(Two) -> F + Clone + Send + 'static,
) {
    let (lanes, limits) = (Arc::new(Lanes::new(2)), no_limits());
    let (beyond, busy) = (Arc::<AtomicUsize>::default(), Arc::<AtomicBool>::default());
    let ended = Signal::default();
    run_shards(2, move |context| {
        let broker = Broker::start(settings(), Arc::clone(&limits), Arc::clone(&lanes));
        broker.fake.concern.set(Some(concern(context.id)));
        let (limits, beyond, busy) = (Arc::clone(&limits), Arc::clone(&beyond), Arc::clone(&busy));
        let (test, ended) = (test.clone(), ended.clone());
        async move {
            if context.id == ShardId::ZERO {
                test(Two { broker, limits, beyond, busy }).await;
                ended.raise();
                return;
            }
            let fake = Rc::clone(&broker.fake);
            spawn(async move {
                // what a broker wakes for, or never sleeps for
                loop {
                    if busy.load(Ordering::Relaxed) {
                        turn().await
                    } else {
                        sleep(MOMENT).await
                    }
                    beyond.store(fake.called.load(Ordering::Relaxed), Ordering::Relaxed);
                }
            });
            ended.raised().await;
            broker.server.stop().await;
        }
    });
}

const MOMENT: Duration = Duration::from_millis(2);

fn the_other(home: ShardId) -> Concern {
    Concern::One(ShardId(1 - home.0))
}

fn shard_1(_: ShardId) -> Concern {
    Concern::One(ShardId(1))
}

impl Two {
    fn handed_over(&self) -> u64 {
        self.broker.server.metrics().connections_handed_over.get()
    }

    async fn until(&self, what: &str, condition: impl Fn(&Two) -> bool) {
        let begun = now();
        while !condition(self) {
            assert!(now().since(begun) < Duration::from_secs(20), "never happened: {what}");
            sleep(MOMENT).await;
        }
    }

    /// All but the last request of a window.
    async fn nearly_a_window(&self, client: &mut Client) {
        for id in 1..REQUESTS {
            client.send([metadata(id)]).await;
            assert_eq!(client.reply().await, Some(id));
        }
        sleep(WINDOW).await;
    }

    /// Sends requests with numbers from `id` on until the condition holds; the next number.
    async fn ask_until(&self, client: &mut Client, mut id: i32, condition: impl Fn(&Two) -> bool) -> i32 {
        let begun = now();
        while !condition(self) {
            assert!(now().since(begun) < Duration::from_secs(20), "never happened");
            client.send([metadata(id)]).await;
            assert_eq!(client.reply().await, Some(id));
            id += 1;
            sleep(MOMENT).await;
        }
        id
    }
}

#[test]
fn a_connection_goes_where_its_requests_do() {
    with_two(shard_1, async |two: Two| {
        let mut client = two.broker.connect().await;
        let next = two.ask_until(&mut client, 0, |two| two.handed_over() == 1).await;
        assert!(next >= REQUESTS);
        let before = two.broker.fake.calls.borrow().len();
        for id in next..next + 1000 {
            client.send([metadata(id)]).await;
            assert_eq!(client.reply().await, Some(id));
        }
        assert_eq!(two.broker.fake.calls.borrow().len(), before, "nobody asks the old shard any more");
        assert_eq!((two.broker.server.connection_count(), two.limits.count()), (0, 1));
        two.until("the other shard was asked", |two| two.beyond.load(Ordering::Relaxed) == 1000).await;
        drop(client);
        two.until("it has ended", |two| two.limits.count() == 0).await;
    });
}

#[test]
fn what_is_in_flight_is_answered_first_and_what_was_received_goes_along() {
    with_two(shard_1, async |two: Two| {
        let mut client = two.broker.connect().await;
        two.nearly_a_window(&mut client).await;
        // with the last request of the window come whole ones behind it, and a part of another
        client.send([produce(100), metadata(101), metadata(102), metadata(103).slice(..9)]).await;
        two.until("the window is full", |two| two.broker.fake.calls.borrow().last() == Some(&100)).await;
        client.send([metadata(103).slice(9..11)]).await;
        sleep(MOMENT).await;
        assert_eq!((two.broker.server.connection_count(), two.handed_over()), (1, 0));
        two.broker.fake.release(100);
        for id in 100..=102 {
            assert_eq!(client.reply().await, Some(id));
        }
        client.send([metadata(103).slice(11..), metadata(104)]).await;
        for id in 103..=104 {
            assert_eq!(client.reply().await, Some(id));
        }
        assert_eq!(two.handed_over(), 1);
        assert_eq!(two.broker.fake.calls.borrow().last(), Some(&100));
    });
}

#[test]
fn a_stream_of_requests_is_answered_in_order_however_often_it_moves() {
    const ALL: i32 = 8000;
    with_two(the_other, async |two: Two| {
        let client = two.broker.connect().await;
        let Client { stream, received } = client;
        let stream = Rc::new(stream);
        let sending = Rc::clone(&stream);
        let sent = spawn(async move {
            let mut all: Bytes = (0..ALL).flat_map(|id| metadata(id).to_vec()).collect();
            for piece in (1..140).cycle() {
                let piece = all.split_to(piece.min(all.len()));
                if piece.is_empty() {
                    break;
                }
                sending.send(&mut [piece].into()).await.unwrap();
                sleep(Duration::from_micros(500)).await;
            }
        });
        let mut replies = received;
        let mut next = 0;
        while next < ALL {
            replies.reserve(4096);
            stream.readable().await.unwrap();
            assert_ne!(stream.try_recv(&mut replies, usize::MAX).unwrap(), Some(0), "closed after {next}");
            while replies.len() >= 8 {
                assert_eq!((replies.get_i32(), replies.get_i32()), (4, next));
                next += 1;
            }
        }
        sent.await;
        // there, back and there at least
        assert!(two.handed_over() >= 2, "{} moves from shard 0", two.handed_over());
    });
}

#[test]
fn a_mute_goes_along() {
    with_two(shard_1, async |two: Two| {
        let mut client = two.broker.connect().await;
        two.nearly_a_window(&mut client).await;
        client.send([request(32, 1, 100)]).await;
        assert_eq!(client.reply().await, Some(100));
        let replied = now();
        client.send([metadata(101)]).await;
        assert_eq!(client.reply().await, Some(101));
        // the mute began before the client had the reply
        assert!(now().since(replied) > MUTE / 2);
        assert_eq!(two.handed_over(), 1);
    });
}

#[test]
fn one_that_is_spread_stays() {
    let concern = |_| Concern::Several;
    with_two(concern, async |two: Two| {
        let mut client = two.broker.connect().await;
        let begun = now();
        let next = two.ask_until(&mut client, 0, |_| now().since(begun) > 3 * WINDOW).await;
        assert!(next > 2 * REQUESTS, "{next} requests");
        assert_eq!((two.handed_over(), two.broker.server.metrics().handovers_refused.get()), (0, 0));
    });
}

#[test]
fn a_busy_shard_is_left_in_peace() {
    with_two(shard_1, async |two: Two| {
        two.busy.store(true, Ordering::Relaxed);
        let mut client = two.broker.connect().await;
        let refused = |two: &Two| two.broker.server.metrics().handovers_refused.get();
        let next = two.ask_until(&mut client, 0, |two| refused(two) == 2).await;
        assert_eq!(two.handed_over(), 0);
        two.busy.store(false, Ordering::Relaxed);
        two.ask_until(&mut client, next, |two| two.handed_over() == 1).await;
    });
}

#[test]
fn whoever_is_told_to_stay_stays() {
    with_two(shard_1, async |two: Two| {
        let settings = Settings { handover: false, ..settings() };
        let broker = Broker::start(settings, no_limits(), Arc::new(Lanes::new(1)));
        broker.fake.concern.set(Some(shard_1(ShardId::ZERO)));
        let mut client = broker.connect().await;
        let begun = now();
        let next = two.ask_until(&mut client, 0, |_| now().since(begun) > 3 * WINDOW).await;
        assert!(next > 2 * REQUESTS, "{next} requests");
        assert_eq!(broker.server.metrics().connections_handed_over.get(), 0);
    });
}

#[test]
fn a_stop_comes_before_a_move() {
    with_two(shard_1, async |two: Two| {
        let mut client = two.broker.connect().await;
        two.nearly_a_window(&mut client).await;
        client.send([produce(100), produce(101)]).await;
        two.until("the window is full", |two| two.broker.fake.calls.borrow().last() == Some(&100)).await;
        let server = Rc::clone(&two.broker.server);
        let stopped = spawn(async move { server.stop().await });
        sleep(MOMENT).await;
        two.broker.fake.release(100);
        assert_eq!(client.reply().await, Some(100));
        assert_eq!(client.reply().await, None);
        stopped.await;
        assert_eq!((two.handed_over(), two.limits.count()), (0, 0));
        assert_eq!(two.broker.fake.calls.borrow().last(), Some(&100), "nothing was begun after the stop");
    });
}

#[test]
fn whoever_arrives_after_the_stop_is_closed() {
    with_two(the_other, async |two: Two| {
        // comes back from shard 1, where it goes first
        let mut client = two.broker.connect().await;
        let next = two.ask_until(&mut client, 0, |two| two.handed_over() == 1).await;
        two.broker.server.stop().await;
        let mut id = next;
        loop {
            client.send([metadata(id)]).await;
            match client.reply().await {
                Some(reply) => assert_eq!(reply, id),
                None => break,
            }
            id += 1;
            sleep(MOMENT).await;
        }
        assert!(id > next, "shard 1 has answered in between");
        two.until("nothing of it is left", |two| two.limits.count() == 0).await;
    });
}

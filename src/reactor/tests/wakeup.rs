//! Sleep: nobody who has something to do is left asleep, and who has nothing does sleep.

use std::cell::{Cell, RefCell};
use std::rc::Rc;
use std::sync::mpsc;

use futures_lite::future::or;

use super::*;
use crate::model::ShardId;

#[test]
fn two_shards_that_sleep_between_messages_wake_each_other() {
    const ROUNDS: u32 = 20_000;
    let folder = Folder::new("wakeup-mesh");
    let results = run(&folder.options(2), |context: ShardContext<u32>| async move {
        let mesh = Rc::new(context.mesh);
        let (other, waiting) = (ShardId(1 - context.id.0), Rc::new(RefCell::new(None)));
        let (answering, answered) = (Rc::clone(&mesh), Rc::clone(&waiting));
        mesh.on_receive(move |from, round| match answered.take() {
            Some(sender) => sync::Sender::send(sender, round),
            None => answering.try_send(from, round).unwrap(),
        });
        if context.id == ShardId::ZERO {
            for round in 0..ROUNDS {
                let (sender, receiver) = sync::oneshot();
                waiting.replace(Some(sender));
                mesh.try_send(other, round).unwrap();
                assert_eq!(receiver.await, Some(round));
            }
        }
    });
    results.unwrap();
}

#[test]
fn a_shard_is_woken_by_its_pool_by_signals_and_by_sockets() {
    on_a_shard("wakeup-threads", |_| async {
        for round in 0..2_000 {
            assert_eq!(blocking(move || round).await, round);
        }
        // A thread that raises one signal after the other, whether the shard sleeps yet or not.
        let (tell, told) = mpsc::channel::<Signal>();
        let raising = std::thread::spawn(move || told.into_iter().for_each(|signal| signal.raise()));
        for _ in 0..2_000 {
            let signal = Signal::default();
            tell.send(signal.clone()).unwrap();
            signal.raised().await;
        }
        drop(tell);
        blocking(move || raising.join().unwrap()).await;
    });
}

#[test]
fn a_shard_with_nothing_to_do_sleeps() {
    on_a_shard("wakeup-idle", |_| async {
        let waits = spawn(std::future::pending::<()>());
        let listener = TcpListener::bind((std::net::Ipv4Addr::LOCALHOST, 0).into()).unwrap();
        let client = TcpStream::connect(listener.local_addr().unwrap()).await.unwrap();
        let server = listener.accept().await.unwrap();
        let reads = spawn(async move { server.readable().await });
        let before = thread_cpu_time();
        sleep(Duration::from_millis(500)).await;
        let took = thread_cpu_time().checked_sub(before).unwrap();
        assert!(took < Duration::from_millis(50), "{took:?} of CPU in half a second of nothing");
        drop((client, waits));
        reads.await.unwrap();
    });
}

#[test]
fn a_sleep_ends_in_time_whichever_others_there_are() {
    on_a_shard("wakeup-alarm", |_| async {
        let ended = Rc::new(Cell::new(0));
        let _long = spawn(sleep(Duration::from_secs(3600)));
        turn().await;
        for round in 1..=100 {
            // earlier than what the ring waits for, and one that nobody waits for any more
            or(sleep(Duration::from_micros(50)), turn()).await;
            let count = Rc::clone(&ended);
            let later = spawn(async move {
                sleep(Duration::from_micros(400)).await;
                count.set(count.get() + 1);
            });
            let began = now();
            sleep(Duration::from_micros(200)).await;
            assert!(now().since(began) >= Duration::from_micros(200), "round {round}");
            later.await;
            assert_eq!(ended.get(), round);
        }
    });
}

#[test]
fn tasks_that_wake_each_other_for_ever_let_input_in() {
    on_a_shard("wakeup-busy", |_| async {
        let stop = Rc::new(Cell::new(false));
        for _ in 0..3 {
            let flag = Rc::clone(&stop);
            spawn(async move {
                while !flag.get() {
                    futures_lite::future::yield_now().await;
                }
            });
        }
        for _ in 0..100 {
            blocking(|| ()).await;
            sleep(Duration::from_micros(100)).await;
        }
        stop.set(true);
    });
}

#[test]
fn the_background_has_a_small_share_beside_others_and_all_of_it_alone() {
    on_a_shard("wakeup-background", |_| async {
        let busy_for = |length: Duration| {
            let begun = now();
            while now().since(begun) < length {}
        };
        let slices = Rc::new(Cell::new(0_u32));
        let stop = Rc::new(Cell::new(false));
        let (count, flag) = (Rc::clone(&slices), Rc::clone(&stop));
        spawn_background(async move {
            while !flag.get() {
                busy_for(Duration::from_micros(100));
                count.set(count.get() + 1);
                turn().await;
            }
        });
        for _ in 0..2_000 {
            busy_for(Duration::from_micros(100));
            turn().await;
        }
        let beside = slices.get();
        assert!((20..=400).contains(&beside), "{beside} slices beside 2,000 of others");
        slices.set(0);
        sleep(Duration::from_millis(200)).await;
        let alone = slices.get();
        assert!(alone > beside, "{alone} slices in 200 ms alone, {beside} in as long beside others");
        stop.set(true);
    });
}

//! The lost wake-up: glommio's pre-emption signal comes before the first task of a turn, the executor takes its run
//! queue for empty, and parks with work waiting until something happens from outside.

use std::io::{Read, Write};
use std::net::Ipv4Addr;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, mpsc};
use std::task::Waker;

use bytes::BytesMut;

use super::*;
use crate::reactor::start::{Tuning, run_tuned};

/// An echo beside a busy task, under a pre-emption timer as short as that: the longest that a reply took.
fn longest_reply(preempt_timer: Duration, pacemaker: bool, rounds: u32, patience: Duration) -> Duration {
    let folder = Folder::new(&format!("wakeup-{}-{pacemaker}", preempt_timer.as_micros()));
    let options = folder.options(1);
    let (tell, told) = mpsc::channel();
    let stop = Arc::new(AtomicBool::new(false));
    // Of a task of the shard: with it this thread ends what hangs.
    let rescue: Arc<Mutex<Option<Waker>>> = Arc::default();
    let (stopping, waking) = (Arc::clone(&stop), Arc::clone(&rescue));
    let shard = std::thread::spawn(move || {
        run_tuned(&options, Tuning { preempt_timer, pacemaker }, move |_: ShardContext<()>| {
            let (tell, stop, rescue) = (tell.clone(), Arc::clone(&stopping), Arc::clone(&waking));
            async move {
                let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0).into()).unwrap();
                tell.send(listener.local_addr().unwrap()).unwrap();
                let stream = listener.accept().await.unwrap();
                let flag = Arc::clone(&stop);
                let busy = spawn(async move {
                    while !flag.load(Ordering::Acquire) {
                        let begun = now();
                        while now().since(begun) < Duration::from_micros(30) {}
                        futures_lite::future::yield_now().await;
                    }
                });
                let flag = Arc::clone(&stop);
                spawn(std::future::poll_fn(move |context| {
                    *rescue.lock().unwrap() = Some(context.waker().clone());
                    if flag.load(Ordering::Acquire) {
                        std::task::Poll::Ready(())
                    } else {
                        std::task::Poll::Pending
                    }
                }));
                spawn(async move {
                    let mut buf = BytesMut::with_capacity(64);
                    loop {
                        if stream.readable().await.is_err() {
                            return;
                        }
                        buf.reserve(64);
                        match stream.try_recv(&mut buf, 64) {
                            Ok(Some(0)) | Err(_) => return,
                            Ok(_) if stream.send(&mut [buf.split().freeze()].into()).await.is_err() => return,
                            Ok(_) => {}
                        }
                    }
                });
                busy.await;
            }
        })
        .unwrap();
    });
    // A shard can lose a wake-up while it starts, too. It is left asleep.
    let Ok(address) = told.recv_timeout(patience) else { return patience };
    let mut client = std::net::TcpStream::connect(address).unwrap();
    client.set_nodelay(true).unwrap();
    client.set_read_timeout(Some(patience)).unwrap();
    let mut longest = Duration::ZERO;
    for _ in 0..rounds {
        let begun = std::time::Instant::now();
        client.write_all(b"ping").unwrap();
        let replied = client.read_exact(&mut [0; 4]).is_ok();
        longest = longest.max(begun.elapsed());
        if !replied {
            break;
        }
    }
    stop.store(true, Ordering::Release);
    // A shard that loses its last wake-up, too, is left asleep: what was to be seen has been seen.
    let stopped = std::time::Instant::now();
    while !shard.is_finished() && stopped.elapsed() < Duration::from_secs(2) {
        if let Some(waker) = rescue.lock().unwrap().take() {
            waker.wake();
        }
        std::thread::sleep(Duration::from_millis(1));
    }
    if shard.is_finished() {
        shard.join().unwrap();
    }
    longest
}

/// Without help, longer than any reply takes that is not lost.
const PATIENCE: Duration = Duration::from_millis(1500);
/// With the pacemaker: a loaded machine may be slow, and a wake-up that stays lost is lost for ever.
const PATIENCE_WITH_HELP: Duration = Duration::from_secs(15);

#[test]
fn the_pacemaker_ends_a_lost_wake_up() {
    // First that the trouble is there to be ended; how soon it shows depends on the machine.
    let timers = [50, 100, 200, 500].map(Duration::from_micros);
    let provoked = timers
        .iter()
        .cycle()
        .take(12)
        .find(|&&timer| longest_reply(timer, false, 2000, PATIENCE) >= PATIENCE);
    let Some(&timer) = provoked else {
        println!("no wake-up was lost in 12 attempts: nothing to prove here");
        return;
    };
    for _ in 0..3 {
        let longest = longest_reply(timer, true, 200, PATIENCE_WITH_HELP);
        assert!(
            longest < PATIENCE_WITH_HELP,
            "with the pacemaker a reply took {longest:?} under a timer of {timer:?}"
        );
    }
}

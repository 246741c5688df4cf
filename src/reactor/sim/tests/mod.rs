//! The twin is deterministic, keeps the façade's promises as the real machine does (`alike`), and crashes as the model
//! says (`crash`).

mod alike;
mod crash;

use std::cell::{Cell, RefCell};
use std::collections::BTreeSet;
use std::future::Future;
use std::io;
use std::path::{Path, PathBuf};
use std::rc::Rc;
use std::time::Duration;

use super::{Disk, End, Outcome, Simulation, check_seeds, run};
use crate::model::ShardId;
use crate::reactor::sync::{Notify, oneshot};
use crate::reactor::{
    BLOCK_BYTES, Buf, File, OpenMode, ShardContext, SharedBuf, now, random_u64, shard_count, sleep, spawn,
    wall_clock_ms,
};

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

fn kind<T>(result: io::Result<T>) -> io::ErrorKind {
    result.err().expect("it must fail").kind()
}

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
    assert!(stuck.spawned_at.iter().any(|place| place.contains(file!())), "{stuck}");
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

//! Tasks, timers, randomness, the blocking pool.

use std::cell::Cell;
use std::collections::HashSet;
use std::rc::Rc;
use std::sync::mpsc;

use super::*;

#[test]
fn a_task_gives_its_result_and_runs_on_without_its_handle() {
    on_a_shard("task-spawn", |_| async {
        assert_eq!(spawn(async { 5 }).await, 5);
        let ran = Rc::new(Cell::new(false));
        let flag = Rc::clone(&ran);
        drop(spawn(async move {
            turn().await;
            flag.set(true);
        }));
        assert!(!ran.get(), "a task never runs inside of spawn");
        eventually("the task runs", || ran.get()).await;
    });
}

#[test]
fn a_background_task_runs_beside_the_others_and_waits_like_them() {
    on_a_shard("task-background", |folder| async move {
        let work = spawn_background(async move {
            // what it spawns, waits for and has done elsewhere comes back to it
            let file = folder.join("file");
            fs::write(&file, vec![7; 10]).await.unwrap();
            let read = spawn(async move { fs::read(&file).await.unwrap() });
            sleep(Duration::from_millis(1)).await;
            blocking(|| ()).await;
            read.await
        });
        let beats = Rc::new(Cell::new(0));
        let count = Rc::clone(&beats);
        spawn(async move {
            loop {
                turn().await;
                count.set(count.get() + 1);
            }
        });
        assert_eq!(work.await, [7; 10]);
        assert_eq!(spawn_background(async { 5 }).await, 5, "the queue serves many");
        eventually("the others go on", || beats.get() > 5).await;
    });
}

#[test]
fn shards_know_who_they_are() {
    let folder = Folder::new("task-id");
    let ids = run(&folder.options(3), |context: ShardContext<()>| async move {
        assert_eq!((context.id, context.count, context.core), (shard_id(), shard_count(), None));
        let thread = std::thread::current();
        assert_eq!(thread.name(), Some(&*format!("shard-{}", shard_id().0)));
        shard_id().0
    });
    assert_eq!(ids.unwrap(), [0, 1, 2]);
}

#[test]
fn blocking_work_runs_elsewhere_and_side_by_side() {
    on_a_shard("task-blocking", |_| async {
        let here = std::thread::current().id();
        assert_ne!(blocking(|| std::thread::current().id()).await, here);
        // The first cannot end before the second has run.
        let (tell, told) = mpsc::channel();
        let first = spawn(blocking(move || told.recv().unwrap()));
        let beats = Rc::new(Cell::new(0));
        let count = Rc::clone(&beats);
        spawn(async move {
            loop {
                turn().await;
                count.set(count.get() + 1);
            }
        });
        eventually("the shard goes on meanwhile", || beats.get() > 5).await;
        blocking(move || tell.send(7).unwrap()).await;
        assert_eq!(first.await, 7);
    });
}

#[test]
fn timers_fire_in_order_and_never_early() {
    on_a_shard("task-timers", |_| async {
        let order = Rc::new(std::cell::RefCell::new(Vec::new()));
        let begun = now();
        let timers: Vec<_> = [30, 10, 20, 0]
            .map(|ms| {
                let order = Rc::clone(&order);
                spawn(async move {
                    let deadline = begun.after(Duration::from_millis(ms));
                    sleep_until(deadline).await;
                    assert!(now() >= deadline, "{ms} ms came early");
                    order.borrow_mut().push(ms);
                })
            })
            .into();
        for timer in timers {
            timer.await;
        }
        assert_eq!(*order.borrow(), [0, 10, 20, 30]);
        sleep_until(begun).await;
        let mut forever = Box::pin(sleep(Duration::MAX));
        let pending = std::future::poll_fn(|context| {
            std::task::Poll::Ready(forever.as_mut().poll(context).is_pending())
        });
        assert!(pending.await);
    });
}

#[test]
fn random_numbers_differ_between_threads_and_calls() {
    let draws = || (0..1000).map(|_| random_u64()).collect::<Vec<_>>();
    let elsewhere = std::thread::spawn(draws).join().unwrap();
    let all: HashSet<u64> = draws().into_iter().chain(elsewhere).collect();
    assert_eq!(all.len(), 2000);
    let ones: u32 = all.iter().map(|number| number.count_ones()).sum();
    assert!((62_000..66_000).contains(&ones), "{ones} of 128,000 bits are set");
}

#[test]
fn a_busy_task_that_takes_turns_lets_input_in() {
    on_a_shard("task-turn", |folder| async move {
        let stop = Rc::new(Cell::new(false));
        let flag = Rc::clone(&stop);
        let busy = spawn(async move {
            let mut slices = 0;
            while !flag.get() {
                let begun = now();
                while now().since(begun) < Duration::from_micros(100) {}
                slices += 1;
                turn().await;
            }
            slices
        });
        let file = File::open(&folder.join("f"), OpenMode::CreateNew).await.unwrap();
        let begun = now();
        for position in 0..20 {
            file.write(&Buf::new(BLOCK_BYTES).freeze(), position * BLOCK_BYTES as u64).await.unwrap();
        }
        let elapsed = now().since(begun);
        stop.set(true);
        let slices = busy.await;
        assert!(elapsed < Duration::from_millis(1500), "20 writes took {elapsed:?}");
        assert!(slices > 20, "{slices} slices");
    });
}

#[test]
fn a_stall_is_noticed() {
    let folder = Folder::new("task-stall");
    let stalls = run(&folder.options(2), |context: ShardContext<()>| async move {
        eventually("the shard has had turns", || longest_stall() > Duration::ZERO).await;
        if context.id.0 == 1 {
            std::thread::sleep(Duration::from_millis(1200));
            eventually("the stall is known", || longest_stall() > Duration::from_millis(1000)).await;
        }
        longest_stall()
    })
    .unwrap();
    assert!(stalls[1] >= Duration::from_millis(1000), "{stalls:?}");
}

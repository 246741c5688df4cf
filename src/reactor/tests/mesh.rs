//! Order, no loss, bounded channels, and who stays until when.

use std::cell::{Cell, RefCell};
use std::rc::Rc;

use super::*;
use crate::model::ShardId;

/// Every shard sends to every other; each must get all of it, in order.
fn all_to_all(shards: usize, messages: u64) {
    let folder = Folder::new(&format!("mesh-{shards}"));
    let received = run(&folder.options(shards), move |context: ShardContext<(u16, u64)>| async move {
        let next = Rc::new(RefCell::new(vec![0; context.count]));
        let receiving = Rc::clone(&next);
        context.mesh.on_receive(move |from, (claimed, number)| {
            assert_eq!(from.0, claimed);
            let mut next = receiving.borrow_mut();
            assert_eq!(number, next[from.index()], "from shard {}", from.0);
            next[from.index()] += 1;
        });
        for number in 0..messages {
            for to in (0..context.count).filter(|&to| to != context.id.index()) {
                let mut message = (context.id.0, number);
                while let Err(MeshFull(back)) = context.mesh.try_send(ShardId(to as u16), message) {
                    message = back;
                    turn().await;
                }
            }
        }
        let all = messages * (context.count as u64 - 1);
        eventually("all messages arrive", || next.borrow().iter().sum::<u64>() == all).await;
        all
    });
    assert_eq!(received.unwrap(), vec![messages * (shards as u64 - 1); shards]);
}

#[test]
fn two_shards_exchange_messages_in_order() {
    all_to_all(2, 20_000);
}

#[test]
fn four_shards_exchange_messages_in_order() {
    all_to_all(4, 3_000);
}

#[test]
fn a_full_channel_gives_the_message_back_and_loses_none() {
    let folder = Folder::new("mesh-full");
    let sent = std::sync::mpsc::sync_channel::<u64>(1);
    let (tell, told) = (sent.0, std::sync::Arc::new(std::sync::Mutex::new(sent.1)));
    let results = run(&folder.options(2), move |context: ShardContext<u64>| {
        let (tell, told) = (tell.clone(), std::sync::Arc::clone(&told));
        async move {
            if context.id == ShardId::ZERO {
                let mut accepted = 0;
                let refused = loop {
                    match context.mesh.try_send(ShardId(1), accepted) {
                        Ok(()) => accepted += 1,
                        Err(MeshFull(message)) => break message,
                    }
                };
                assert_eq!(refused, accepted);
                assert_eq!(accepted, context.mesh.depth() as u64);
                tell.send(accepted).unwrap();
                accepted
            } else {
                // Receives only once the other has filled the channel.
                let expected = blocking(move || told.lock().unwrap().recv().unwrap()).await;
                let received = Rc::new(Cell::new(0));
                let count = Rc::clone(&received);
                context.mesh.on_receive(move |_, message| {
                    assert_eq!(message, count.get());
                    count.set(count.get() + 1);
                });
                eventually("what was sent arrives", || received.get() == expected).await;
                received.get()
            }
        }
    });
    assert_eq!(results.unwrap(), [64, 64]);
}

#[test]
fn a_shard_that_is_done_answers_until_all_are() {
    let folder = Folder::new("mesh-end");
    let results = run(&folder.options(2), |context: ShardContext<u32>| async move {
        let mesh = Rc::new(context.mesh);
        let answers = Rc::new(Cell::new(0));
        let (answering, count) = (Rc::clone(&mesh), Rc::clone(&answers));
        mesh.on_receive(move |from, message| {
            if message % 2 == 0 {
                answering.try_send(from, message + 1).unwrap();
            } else {
                count.set(count.get() + 1);
            }
        });
        // Shard 0 returns at once and must go on answering.
        if context.id == ShardId(1) {
            for question in 0..500 {
                mesh.try_send(ShardId::ZERO, question * 2).unwrap();
                eventually("an answer comes", || answers.get() == question + 1).await;
            }
        }
        answers.get()
    });
    assert_eq!(results.unwrap(), [0, 500]);
}

#[test]
fn messages_under_way_at_the_end_are_dropped_in_silence() {
    let folder = Folder::new("mesh-close");
    for _ in 0..3 {
        run(&folder.options(3), |context: ShardContext<u32>| async move {
            let mesh = Rc::new(context.mesh);
            let echo = Rc::clone(&mesh);
            // Echoes for ever, also while its peers end.
            mesh.on_receive(move |from, message| drop(echo.try_send(from, message)));
            for to in (0..context.count).filter(|&to| to != context.id.index()) {
                mesh.try_send(ShardId(to as u16), 7).unwrap();
            }
        })
        .unwrap();
    }
}

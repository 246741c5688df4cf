//! Connections that change shards, and the way they take.

use std::io::{Read, Write};
use std::net::Ipv4Addr;
use std::rc::Rc;
use std::sync::Arc;

use bytes::BytesMut;

use super::*;
use crate::model::ShardId;

const MOVES: u32 = 1000;

/// A connection, and how often it has moved.
type Passenger = (LooseStream, u32);

/// Sends back what comes, moving on after each time; the last shard serves it to its end.
async fn echo(stream: TcpStream, moves: u32, onward: &Mailbox<Passenger>) -> u32 {
    let mut buf = BytesMut::new();
    loop {
        stream.readable().await.unwrap();
        buf.reserve(4000);
        match stream.try_recv(&mut buf, 4000).unwrap() {
            None => continue,
            Some(0) => return moves,
            Some(_) => stream.send(&mut [buf.split().freeze()].into()).await.unwrap(),
        }
        if moves < MOVES {
            onward.post((stream.detach(), moves + 1));
            return moves;
        }
    }
}

#[test]
fn a_stream_goes_on_whole_and_in_order_while_its_connection_changes_shards() {
    const BYTES: usize = 16 << 20;
    let folder = Folder::new("handover");
    let mailboxes: [Arc<Mailbox<Passenger>>; 2] = Default::default();
    let ended = Signal::default();
    let results = run(&folder.options(2), move |context: ShardContext<()>| {
        let (mailboxes, ended) = (mailboxes.clone(), ended.clone());
        async move {
            let home = context.id.index();
            let serve = {
                let (mailboxes, ended) = (mailboxes.clone(), ended.clone());
                Rc::new(move |stream: TcpStream, moves: u32| {
                    let (mailboxes, ended) = (mailboxes.clone(), ended.clone());
                    spawn(async move {
                        if echo(stream, moves, &mailboxes[1 - home]).await == MOVES {
                            ended.raise();
                        }
                    });
                })
            };
            let arrive = Rc::clone(&serve);
            mailboxes[home].on_receive(move |(stream, moves)| arrive(TcpStream::adopt(stream), moves));
            if context.id != ShardId::ZERO {
                ended.raised().await;
                return;
            }
            let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0).into()).unwrap();
            let address = listener.local_addr().unwrap();
            let client = std::thread::spawn(move || {
                let stream = std::net::TcpStream::connect(address).unwrap();
                let mut sending = stream.try_clone().unwrap();
                let sender = std::thread::spawn(move || {
                    sending.write_all(&pattern(1, BYTES)).unwrap();
                    sending.shutdown(std::net::Shutdown::Write).unwrap();
                });
                let mut received = Vec::new();
                (&stream).read_to_end(&mut received).unwrap();
                sender.join().unwrap();
                assert!(received == pattern(1, BYTES), "{} bytes came back", received.len());
            });
            serve(listener.accept().await.unwrap(), 0);
            blocking(move || client.join().unwrap()).await;
        }
    });
    results.unwrap();
}

#[test]
fn what_is_posted_early_is_received_and_what_is_posted_late_is_dropped() {
    let folder = Folder::new("mailbox");
    let mailbox = Arc::<Mailbox<Arc<u32>>>::default();
    let numbers: Vec<_> = (0..4).map(Arc::new).collect();
    mailbox.post(Arc::clone(&numbers[0]));
    mailbox.post(Arc::clone(&numbers[1]));
    let (posts, early) = (Arc::clone(&mailbox), numbers.clone());
    let results = run(&folder.options(1), move |_: ShardContext<()>| {
        let (mailbox, numbers) = (Arc::clone(&posts), early.clone());
        async move {
            let received = Rc::new(std::cell::RefCell::new(Vec::new()));
            let receiving = Rc::clone(&received);
            mailbox.on_receive(move |number: Arc<u32>| receiving.borrow_mut().push(*number));
            eventually("what was there comes", || received.borrow().len() == 2).await;
            let posts = Arc::clone(&mailbox);
            let third = Arc::clone(&numbers[2]);
            blocking(move || posts.post(third)).await;
            eventually("what is posted comes", || received.borrow().len() == 3).await;
            assert_eq!(*received.borrow(), [0, 1, 2]);
        }
    });
    results.unwrap();
    mailbox.post(Arc::clone(&numbers[3]));
    drop(mailbox);
    assert_eq!(Arc::strong_count(&numbers[3]), 1);
}

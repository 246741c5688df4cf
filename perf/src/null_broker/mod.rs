//! The null broker: speaks enough of Kafka's protocol for producers and consumers, keeps nothing, writes nothing.
//!
//! One thread, plain epoll, one large read and one write per wake-up: what a broker must pay for moving the bytes
//! through the kernel and nothing else. It shows how fast the load generator is, and what part of a broker's cost is
//! the broker. A fetch is answered with the same batch again and again.

mod answers;

use std::io::{self, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::time::Duration;

use anyhow::{Context, Result};
use clap::Args;

use crate::engine::{Happened, Poller};
use crate::units;
use answers::Answers;

/// Room for what one read brings.
const READ_BYTES: usize = 1 << 20;
const LISTENER: u64 = u64::MAX;
/// A frame longer than this is not one.
const FRAME_BYTES_MAX: usize = 256 << 20;

#[derive(Args, Clone, Debug)]
pub struct NullBroker {
    /// Where to listen; port 0 takes a free one.
    #[arg(long, default_value = "127.0.0.1:9092")]
    pub listen: String,
    /// Partitions of every topic.
    #[arg(long, short, default_value_t = 8, value_parser = clap::value_parser!(i32).range(1..=1_000_000))]
    pub partitions: i32,
    /// CPU to pin its thread to.
    #[arg(long)]
    pub core: Option<usize>,
    /// Bytes of the records that fetches bring.
    #[arg(long, default_value = "1KiB", value_parser = units::bytes)]
    pub record_bytes: u64,
    /// Bytes of the batch that every fetched partition brings.
    #[arg(long, default_value = "64KiB", value_parser = units::bytes)]
    pub batch_bytes: u64,
}

/// Serves until killed.
///
/// # Errors
/// The address, or the system.
pub fn serve(options: &NullBroker) -> Result<()> {
    let listener =
        TcpListener::bind(&options.listen).with_context(|| format!("cannot listen at {}", options.listen))?;
    if let Some(id) = options.core {
        core_affinity::set_for_current(core_affinity::CoreId { id });
    }
    println!("null broker at {}: keeps nothing, for as long as it runs", listener.local_addr()?);
    Broker::new(listener, options)?.run()
}

struct Broker {
    listener: TcpListener,
    poller: Poller,
    connections: Vec<Option<Connection>>,
    answers: Answers,
}

struct Connection {
    stream: TcpStream,
    /// Frames that have begun.
    inbox: Vec<u8>,
    filled: usize,
    outbox: Vec<u8>,
    sent: usize,
    watches_writable: bool,
}

impl Broker {
    fn new(listener: TcpListener, options: &NullBroker) -> Result<Broker> {
        listener.set_nonblocking(true)?;
        let poller = Poller::new()?;
        poller.add(&listener, LISTENER)?;
        let answers = Answers::new(listener.local_addr()?, options)?;
        Ok(Broker { listener, poller, connections: Vec::new(), answers })
    }

    fn run(mut self) -> Result<()> {
        let mut happened = Vec::with_capacity(256);
        loop {
            happened.extend(self.poller.wait(Duration::from_secs(3600))?);
            for event in happened.drain(..) {
                if event.token == LISTENER {
                    self.accept()?;
                } else {
                    self.react(event);
                }
            }
        }
    }

    fn accept(&mut self) -> Result<()> {
        loop {
            let stream = match self.listener.accept() {
                Ok((stream, _)) => stream,
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Ok(()),
                Err(error) if error.kind() == io::ErrorKind::ConnectionAborted => continue,
                Err(error) => return Err(error).context("accepting a connection"),
            };
            stream.set_nonblocking(true)?;
            stream.set_nodelay(true)?;
            let free = self.connections.iter().position(Option::is_none);
            let place = free.unwrap_or_else(|| {
                self.connections.push(None);
                self.connections.len() - 1
            });
            self.poller.add(&stream, place as u64)?;
            self.connections[place] = Some(Connection {
                stream,
                inbox: vec![0; READ_BYTES],
                filled: 0,
                outbox: Vec::new(),
                sent: 0,
                watches_writable: false,
            });
        }
    }

    fn react(&mut self, event: Happened) {
        let place = event.token as usize;
        let Some(connection) = self.connections[place].as_mut() else { return };
        let alive = (!event.is_readable || connection.on_readable(&mut self.answers).is_ok())
            && connection.write(&self.poller, event.token).is_ok();
        if !alive {
            self.connections[place] = None;
        }
    }
}

impl Connection {
    fn on_readable(&mut self, answers: &mut Answers) -> io::Result<()> {
        // who does not take answers is not asked for more
        if self.outbox.len() - self.sent > 64 << 20 {
            return Ok(());
        }
        match (&self.stream).read(&mut self.inbox[self.filled..]) {
            Ok(0) => return Err(io::ErrorKind::UnexpectedEof.into()),
            Ok(read) => self.filled += read,
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Ok(()),
            Err(error) => return Err(error),
        }
        let mut at = 0;
        while let Some(length) = self.inbox[at..self.filled].first_chunk() {
            let end = at + 4 + u32::from_be_bytes(*length) as usize;
            if end - at > FRAME_BYTES_MAX {
                return Err(io::ErrorKind::InvalidData.into());
            }
            if end > self.filled {
                // the whole frame must fit behind where it will begin
                if end - at > self.inbox.len() {
                    self.inbox.resize((end - at).next_power_of_two(), 0);
                }
                break;
            }
            let frame = &self.inbox[at + 4..end];
            answers
                .answer(frame, &mut self.outbox)
                .map_err(|_| io::Error::from(io::ErrorKind::InvalidData))?;
            at = end;
        }
        self.inbox.copy_within(at..self.filled, 0);
        self.filled -= at;
        Ok(())
    }

    fn write(&mut self, poller: &Poller, token: u64) -> io::Result<()> {
        while self.sent < self.outbox.len() {
            match (&self.stream).write(&self.outbox[self.sent..]) {
                Ok(written) => self.sent += written,
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => break,
                Err(error) => return Err(error),
            }
        }
        let blocked = self.sent < self.outbox.len();
        if !blocked {
            self.outbox.clear();
            self.sent = 0;
        }
        if self.watches_writable != blocked {
            self.watches_writable = blocked;
            poller.watch_writable(&self.stream, token, blocked)?;
        }
        Ok(())
    }
}

//! Virtual TCP: listeners and connections between the shards of the simulation.
//!
//! A connection is two pipes. Bytes travel in segments with seeded cuts and delays, in order; a pipe holds a
//! bounded number of bytes from `send` to `try_recv`, so that a slow reader blocks the sender. Closing with bytes
//! unread, or sending to a closed end, resets the connection, as TCP does.

use std::cell::{Cell, RefCell};
use std::collections::{BTreeMap, VecDeque};
use std::future::poll_fn;
use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::rc::Rc;
use std::task::{Poll, Waker};

use bytes::{Buf as _, BufMut as _, Bytes, BytesMut};

use super::names::error;
use super::random::Random;
use super::trace::Kind;
use super::world::{Place, World};
use crate::reactor::sync::oneshot;

/// How long a segment waits before it is tried again while its link is cut.
const RETRANSMIT_NS: u64 = 200_000_000;

/// Connections that wait to be accepted on one listener.
const BACKLOG: usize = 128;

/// Ports that `bind` to port 0 and `connect` take, one after the other.
const EPHEMERAL_PORTS_FROM: u16 = 40_000;

/// All sockets of a simulation.
pub(super) struct Network {
    listeners: RefCell<BTreeMap<u16, Vec<Rc<Listening>>>>,
    /// Directed links that carry nothing now: from host, to host.
    cuts: RefCell<Vec<(usize, usize)>>,
    next_port: Cell<u16>,
    next_connection: Cell<u64>,
    /// One segment in so many resets its connection; zero for none.
    reset_one_in: Cell<u32>,
    random: RefCell<Random>,
}

struct Listening {
    address: SocketAddr,
    place: Place,
    queue: RefCell<VecDeque<TcpStream>>,
    waiting: RefCell<Vec<Waker>>,
}

/// The virtual [`TcpListener`](crate::reactor::TcpListener).
pub struct TcpListener(Rc<Listening>);

/// The virtual [`TcpStream`](crate::reactor::TcpStream).
pub struct TcpStream {
    connection: Rc<Connection>,
    /// Which pipe this end sends into; it receives from the other.
    side: usize,
    local: SocketAddr,
    peer: SocketAddr,
}

struct Connection {
    number: u64,
    /// Pipe 0 is from the connecting side to the accepting side.
    pipes: [RefCell<Pipe>; 2],
}

enum Segment {
    Data(Bytes),
    End,
}

struct Pipe {
    from: Place,
    to: Place,
    in_flight: VecDeque<Segment>,
    arrived: VecDeque<Bytes>,
    /// In flight and arrived.
    bytes: usize,
    capacity: usize,
    /// The sender has shut down.
    end_sent: bool,
    end_arrived: bool,
    /// The receiver has shut down: arriving bytes are dropped.
    unread: bool,
    /// The receiver has closed: arriving bytes reset the connection.
    closed: bool,
    reset: bool,
    readers: Vec<Waker>,
    writers: Vec<Waker>,
}

impl Network {
    pub fn new(seed: u64) -> Network {
        Network {
            listeners: RefCell::default(),
            cuts: RefCell::default(),
            next_port: Cell::new(EPHEMERAL_PORTS_FROM),
            next_connection: Cell::new(0),
            reset_one_in: Cell::new(0),
            random: RefCell::new(Random::new(seed, 6)),
        }
    }

    pub fn set_reset_one_in(&self, segments: u32) {
        self.reset_one_in.set(segments);
    }

    /// Drops what nobody else would.
    pub fn end(&self) {
        let listeners = std::mem::take(&mut *self.listeners.borrow_mut());
        drop(listeners);
    }

    fn delay(&self) -> u64 {
        let mut random = self.random.borrow_mut();
        match random.below(64) {
            0..8 => 0,
            8 => random.below(20_000_000),
            _ => 5_000 + random.below(200_000),
        }
    }

    fn port(&self) -> u16 {
        let port = self.next_port.get();
        self.next_port.set(port.checked_add(1).unwrap_or(EPHEMERAL_PORTS_FROM));
        port
    }

    /// One of the listeners that take connections to `address`, as SO_REUSEPORT spreads them.
    fn listener(&self, address: SocketAddr) -> Option<Rc<Listening>> {
        let listeners = self.listeners.borrow();
        let on_port = listeners.get(&address.port())?;
        let fitting: Vec<_> =
            on_port.iter().filter(|listening| takes(listening.address.ip(), address.ip())).collect();
        let choice = self.random.borrow_mut().index(fitting.len());
        fitting.get(choice).map(|&listening| Rc::clone(listening))
    }
}

/// A listener on `[::]` is dual-stack.
fn takes(listening: IpAddr, wanted: IpAddr) -> bool {
    listening == wanted
        || listening == IpAddr::V6(Ipv6Addr::UNSPECIFIED)
        || listening == IpAddr::V4(Ipv4Addr::UNSPECIFIED) && wanted.is_ipv4()
}

fn wake_all(wakers: &mut Vec<Waker>) {
    for waker in wakers.drain(..) {
        waker.wake();
    }
}

impl TcpListener {
    pub fn bind(address: SocketAddr) -> io::Result<TcpListener> {
        let world = World::current();
        let network = &world.network;
        let mut address = address;
        if address.port() == 0 {
            address.set_port(network.port());
        }
        let listening = Rc::new(Listening {
            address,
            place: world.place(),
            queue: RefCell::default(),
            waiting: RefCell::default(),
        });
        network.listeners.borrow_mut().entry(address.port()).or_default().push(Rc::clone(&listening));
        Ok(TcpListener(listening))
    }

    pub fn local_addr(&self) -> io::Result<SocketAddr> {
        Ok(self.0.address)
    }

    pub async fn accept(&self) -> io::Result<TcpStream> {
        poll_fn(|context| {
            if let Some(stream) = self.0.queue.borrow_mut().pop_front() {
                return Poll::Ready(Ok(stream));
            }
            self.0.waiting.borrow_mut().push(context.waker().clone());
            Poll::Pending
        })
        .await
    }
}

impl Drop for TcpListener {
    fn drop(&mut self) {
        if let Some(world) = World::try_current()
            && let Some(on_port) = world.network.listeners.borrow_mut().get_mut(&self.0.address.port())
        {
            on_port.retain(|listening| !Rc::ptr_eq(listening, &self.0));
        }
        let never_accepted = std::mem::take(&mut *self.0.queue.borrow_mut());
        drop(never_accepted);
    }
}

impl TcpStream {
    pub async fn connect(address: SocketAddr) -> io::Result<TcpStream> {
        let world = World::current();
        let (sender, receiver) = oneshot();
        let from = world.place();
        world.after(world.network.delay(), from, move || {
            let stream = arrive(address, from);
            let world = World::current();
            world.after(world.network.delay(), from, move || sender.send(stream));
        });
        match receiver.await {
            Some(connected) => connected,
            None => std::future::pending().await,
        }
    }

    pub fn peer_addr(&self) -> io::Result<SocketAddr> {
        Ok(self.peer)
    }

    pub fn local_addr(&self) -> io::Result<SocketAddr> {
        Ok(self.local)
    }

    pub async fn readable(&self) -> io::Result<()> {
        poll_fn(|context| {
            let mut pipe = self.receiving().borrow_mut();
            if pipe.reset || pipe.unread || pipe.end_arrived || !pipe.arrived.is_empty() {
                return Poll::Ready(Ok(()));
            }
            pipe.readers.push(context.waker().clone());
            Poll::Pending
        })
        .await
    }

    pub fn try_recv(&self, buf: &mut BytesMut, max: usize) -> io::Result<Option<usize>> {
        let room = max.min(buf.capacity() - buf.len());
        assert!(room > 0, "a receive without room would look like the end of the stream");
        let world = World::current();
        let mut pipe = self.receiving().borrow_mut();
        if pipe.reset {
            return Err(error(libc::ECONNRESET));
        }
        if pipe.unread {
            return Ok(Some(0));
        }
        let wanted = {
            let mut random = world.network.random.borrow_mut();
            if random.one_in(4) { 1 + random.index(room) } else { room }
        };
        let mut received = 0;
        while received < wanted
            && let Some(front) = pipe.arrived.front_mut()
        {
            let count = front.len().min(wanted - received);
            buf.put_slice(&front[..count]);
            front.advance(count);
            received += count;
            if front.is_empty() {
                pipe.arrived.pop_front();
            }
        }
        if received > 0 {
            pipe.bytes -= received;
            wake_all(&mut pipe.writers);
            world.record(Kind::Receive, [self.connection.number, self.side as u64, received as u64]);
            return Ok(Some(received));
        }
        Ok(if pipe.end_arrived { Some(0) } else { None })
    }

    pub async fn send(&self, parts: &mut VecDeque<Bytes>) -> io::Result<()> {
        poll_fn(|context| {
            loop {
                while parts.front().is_some_and(Bytes::is_empty) {
                    parts.pop_front();
                }
                let Some(front) = parts.front_mut() else { return Poll::Ready(Ok(())) };
                let mut pipe = self.sending().borrow_mut();
                if pipe.reset || pipe.end_sent {
                    return Poll::Ready(Err(error(if pipe.end_sent {
                        libc::EPIPE
                    } else {
                        libc::ECONNRESET
                    })));
                }
                let free = pipe.capacity.saturating_sub(pipe.bytes);
                let room = free.min(front.len());
                // as a kernel does: a full buffer takes more only when a good part of it is free again, or the two
                // ends would exchange a few bytes at a time for ever
                if room < front.len() && free < pipe.capacity / 4 {
                    pipe.writers.push(context.waker().clone());
                    return Poll::Pending;
                }
                let world = World::current();
                let count = {
                    let mut random = world.network.random.borrow_mut();
                    if random.one_in(8) { 1 + random.index(room) } else { room }
                };
                pipe.bytes += count;
                pipe.in_flight.push_back(Segment::Data(front.split_to(count)));
                drop(pipe);
                world.record(Kind::Send, [self.connection.number, self.side as u64, count as u64]);
                self.connection.deliver_later(self.side);
            }
        })
        .await
    }

    pub fn shutdown(&self) {
        self.end_sending();
        let mut pipe = self.receiving().borrow_mut();
        pipe.unread = true;
        pipe.bytes -= pipe.arrived.drain(..).map(|bytes| bytes.len()).sum::<usize>();
        let Pipe { readers, writers, .. } = &mut *pipe;
        wake_all(readers);
        wake_all(writers);
    }

    fn end_sending(&self) {
        {
            let mut pipe = self.sending().borrow_mut();
            if pipe.end_sent || pipe.reset {
                return;
            }
            pipe.end_sent = true;
            pipe.in_flight.push_back(Segment::End);
            wake_all(&mut pipe.writers);
        }
        self.connection.deliver_later(self.side);
    }

    fn sending(&self) -> &RefCell<Pipe> {
        &self.connection.pipes[self.side]
    }

    fn receiving(&self) -> &RefCell<Pipe> {
        &self.connection.pipes[1 - self.side]
    }
}

impl Drop for TcpStream {
    fn drop(&mut self) {
        let unread = {
            let mut pipe = self.receiving().borrow_mut();
            pipe.closed = true;
            !pipe.arrived.is_empty()
        };
        let Some(world) = World::try_current() else { return };
        world.record(Kind::Close, [self.connection.number, self.side as u64, 0]);
        if unread {
            self.connection.reset_later(self.side);
        } else {
            self.end_sending();
        }
    }
}

/// A connection request reaches its host.
fn arrive(address: SocketAddr, from: Place) -> io::Result<TcpStream> {
    let world = World::current();
    let network = &world.network;
    let listening = network
        .listener(address)
        .filter(|listening| listening.queue.borrow().len() < BACKLOG)
        .ok_or_else(|| error(libc::ECONNREFUSED))?;
    let number = network.next_connection.get();
    network.next_connection.set(number + 1);
    let to = listening.place;
    world.record(Kind::Connect, [number, u64::from(from.shard.0), u64::from(to.shard.0)]);
    let pipe = |from, to| {
        let mut random = network.random.borrow_mut();
        let capacity =
            if random.one_in(8) { 256 + random.index(4096) } else { 65_536 + random.index(262_144) };
        RefCell::new(Pipe::new(from, to, capacity))
    };
    let connection = Rc::new(Connection { number, pipes: [pipe(from, to), pipe(to, from)] });
    let loopback = match address.ip() {
        IpAddr::V4(_) => IpAddr::V4(Ipv4Addr::LOCALHOST),
        IpAddr::V6(_) => IpAddr::V6(Ipv6Addr::LOCALHOST),
    };
    let client = SocketAddr::new(loopback, network.port());
    let accepted = TcpStream { connection: Rc::clone(&connection), side: 1, local: address, peer: client };
    listening.queue.borrow_mut().push_back(accepted);
    wake_all(&mut listening.waiting.borrow_mut());
    Ok(TcpStream { connection, side: 0, local: client, peer: address })
}

impl Pipe {
    fn new(from: Place, to: Place, capacity: usize) -> Pipe {
        Pipe {
            from,
            to,
            in_flight: VecDeque::new(),
            arrived: VecDeque::new(),
            bytes: 0,
            capacity,
            end_sent: false,
            end_arrived: false,
            unread: false,
            closed: false,
            reset: false,
            readers: Vec::new(),
            writers: Vec::new(),
        }
    }
}

impl Connection {
    /// One of the pipe's segments arrives, after a while: the oldest, whichever this arrival was meant for.
    fn deliver_later(self: &Rc<Connection>, side: usize) {
        let Some(world) = World::try_current() else { return };
        let connection = Rc::clone(self);
        let to = self.pipes[side].borrow().to;
        world.after(world.network.delay(), to, move || connection.deliver(side));
    }

    fn deliver(self: Rc<Connection>, side: usize) {
        let world = World::current();
        let (from, to) = {
            let pipe = self.pipes[side].borrow();
            (pipe.from, pipe.to)
        };
        if world.network.cuts.borrow().contains(&(from.host, to.host)) {
            world.after(RETRANSMIT_NS, to, move || self.deliver(side));
            return;
        }
        let reset_one_in = world.network.reset_one_in.get();
        if world.network.random.borrow_mut().one_in(reset_one_in) {
            self.reset();
            return;
        }
        let mut pipe = self.pipes[side].borrow_mut();
        let Some(segment) = pipe.in_flight.pop_front() else { return }; // a reset came first
        world.record(Kind::Deliver, [self.number, side as u64, 0]);
        match segment {
            Segment::End => pipe.end_arrived = true,
            Segment::Data(_) if pipe.closed => {
                drop(pipe);
                self.reset_later(1 - side);
                return;
            }
            Segment::Data(bytes) if pipe.unread => {
                pipe.bytes -= bytes.len();
                wake_all(&mut pipe.writers);
            }
            Segment::Data(bytes) => pipe.arrived.push_back(bytes),
        }
        wake_all(&mut pipe.readers);
    }

    /// The end that sends into `side` tells the other that the connection is no more.
    fn reset_later(self: &Rc<Connection>, side: usize) {
        let Some(world) = World::try_current() else { return };
        let connection = Rc::clone(self);
        let to = self.pipes[side].borrow().to;
        world.after(world.network.delay(), to, move || connection.reset());
    }

    fn reset(&self) {
        for pipe in &self.pipes {
            let mut pipe = pipe.borrow_mut();
            pipe.reset = true;
            let dropped = (std::mem::take(&mut pipe.in_flight), std::mem::take(&mut pipe.arrived));
            pipe.bytes = 0;
            let Pipe { readers, writers, .. } = &mut *pipe;
            wake_all(readers);
            wake_all(writers);
            drop(dropped);
        }
    }
}

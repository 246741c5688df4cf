//! TCP sockets. Reads go straight into the caller's buffer; writes gather many parts into one system call.
#![allow(unsafe_code)]

use std::collections::VecDeque;
use std::io;
use std::net::{Ipv4Addr, Ipv6Addr, Shutdown, SocketAddr};
use std::os::fd::{AsRawFd, RawFd};
use std::rc::Rc;
use std::time::{Duration, Instant};

use bytes::{Buf, Bytes, BytesMut};
use socket2::{Domain, Protocol, Socket, Type};

use super::ring::{Direction, Ring, Watch};
use super::runtime::{self, Runtime};
#[cfg(any(test, feature = "sim"))]
use super::sim;
use super::{StartError, turn};

/// Connections that the kernel holds for a listener before they are accepted.
const BACKLOG: i32 = 4096;

/// Parts that go into one system call.
const PARTS_PER_SEND: usize = 64;

/// A sender gives others a turn after that much, however fast its peer reads: some 100 µs of copying.
const SEND_SLICE_BYTES: usize = 1 << 20;

/// A listening socket, one per shard and address (SO_REUSEPORT).
pub struct TcpListener(ListenerArm);

enum ListenerArm {
    Ring(Listening),
    #[cfg(any(test, feature = "sim"))]
    Virtual(sim::TcpListener),
}

/// A connection on this shard. All methods take `&self`: one task may receive while another sends.
pub struct TcpStream(StreamArm);

/// A listening socket that lives on no shard yet: connections wait in it.
pub struct LooseListener(Socket);

/// A connection that lives on no shard, on its way from one to another. Dropped, it is closed.
pub struct LooseStream {
    socket: Socket,
    peer: SocketAddr,
}

enum StreamArm {
    Ring(Connection),
    #[cfg(any(test, feature = "sim"))]
    Virtual(sim::TcpStream),
}

impl TcpListener {
    /// Dual-stack when `address` is `[::]`. Every shard may bind it; the caller has probed the port first
    /// ([`probe_port`]).
    pub fn bind(address: SocketAddr) -> io::Result<TcpListener> {
        TcpListener::bind_as(address, Sharing::Shards)
    }

    /// For what one shard alone listens on: an address that anybody has is an error.
    pub fn bind_alone(address: SocketAddr) -> io::Result<TcpListener> {
        TcpListener::bind_as(address, Sharing::Alone)
    }

    /// Takes it to this shard.
    pub fn adopt(loose: LooseListener) -> io::Result<TcpListener> {
        Ok(TcpListener(ListenerArm::Ring(Listening::watched(loose.0)?)))
    }

    fn bind_as(address: SocketAddr, sharing: Sharing) -> io::Result<TcpListener> {
        Ok(TcpListener(match runtime::current() {
            Runtime::Glommio(_) => ListenerArm::Ring(Listening::bind(address, sharing)?),
            #[cfg(any(test, feature = "sim"))]
            Runtime::Virtual(shard) => ListenerArm::Virtual(shard.bind(address)?),
        }))
    }

    pub fn local_addr(&self) -> io::Result<SocketAddr> {
        match &self.0 {
            ListenerArm::Ring(listening) => listening.local_addr(),
            #[cfg(any(test, feature = "sim"))]
            ListenerArm::Virtual(listener) => listener.local_addr(),
        }
    }

    /// The next connection, with TCP_NODELAY set. After an error (no descriptors left, say) the caller waits a
    /// little before it tries again. For one task at a time; no connection is lost when the future is dropped.
    pub async fn accept(&self) -> io::Result<TcpStream> {
        Ok(TcpStream(match &self.0 {
            ListenerArm::Ring(listening) => StreamArm::Ring(listening.accept().await?),
            #[cfg(any(test, feature = "sim"))]
            ListenerArm::Virtual(listener) => StreamArm::Virtual(listener.accept().await?),
        }))
    }
}

impl TcpStream {
    pub async fn connect(address: SocketAddr) -> io::Result<TcpStream> {
        Ok(TcpStream(match runtime::current() {
            Runtime::Glommio(_) => StreamArm::Ring(Connection::connect(address).await?),
            #[cfg(any(test, feature = "sim"))]
            Runtime::Virtual(shard) => StreamArm::Virtual(shard.connect(address).await?),
        }))
    }

    /// The other end; an IPv4 client of a dual-stack listener is shown with its IPv4 address.
    pub fn peer_addr(&self) -> io::Result<SocketAddr> {
        match &self.0 {
            StreamArm::Ring(connection) => Ok(connection.peer),
            #[cfg(any(test, feature = "sim"))]
            StreamArm::Virtual(stream) => stream.peer_addr(),
        }
    }

    pub fn local_addr(&self) -> io::Result<SocketAddr> {
        match &self.0 {
            StreamArm::Ring(connection) => connection.local_addr(),
            #[cfg(any(test, feature = "sim"))]
            StreamArm::Virtual(stream) => stream.local_addr(),
        }
    }

    /// Waits until there is something to receive (or the end, or an error) without holding a buffer; now and then there is
    /// nothing after all. For one task at a time.
    pub async fn readable(&self) -> io::Result<()> {
        match &self.0 {
            StreamArm::Ring(connection) => {
                connection.watch.ready(Direction::In).await;
                Ok(())
            }
            #[cfg(any(test, feature = "sim"))]
            StreamArm::Virtual(stream) => stream.readable().await,
        }
    }

    /// Receives into the spare capacity of `buf`, at most `max` bytes and never growing it, without waiting:
    /// `Ok(None)` when nothing is there, `Ok(Some(0))` at the end of the stream. There must be room for a byte.
    pub fn try_recv(&self, buf: &mut BytesMut, max: usize) -> io::Result<Option<usize>> {
        match &self.0 {
            StreamArm::Ring(connection) => connection.try_recv(buf, max),
            #[cfg(any(test, feature = "sim"))]
            StreamArm::Virtual(stream) => stream.try_recv(buf, max),
        }
    }

    /// Sends all parts in order, gathered; on return the queue is empty. Waits while the peer does not read. For
    /// one task at a time. When the future is dropped, what is left in the queue has not been sent.
    pub async fn send(&self, parts: &mut VecDeque<Bytes>) -> io::Result<()> {
        match &self.0 {
            StreamArm::Ring(connection) => connection.send(parts).await,
            #[cfg(any(test, feature = "sim"))]
            StreamArm::Virtual(stream) => stream.send(parts).await,
        }
    }

    /// Takes it off this shard, with what the kernel holds for it in both directions; nobody may be waiting for it. Not
    /// for the simulator's: they belong to their shards.
    #[must_use]
    pub fn detach(self) -> LooseStream {
        match self.0 {
            StreamArm::Ring(Connection { socket, peer, watch }) => {
                drop(watch);
                LooseStream { socket, peer }
            }
            #[cfg(any(test, feature = "sim"))]
            StreamArm::Virtual(_) => panic!("a virtual connection stays on its shard"),
        }
    }

    /// Takes it to this shard.
    #[must_use]
    pub fn adopt(loose: LooseStream) -> TcpStream {
        let LooseStream { socket, peer } = loose;
        // a watch begins with what is there
        TcpStream(StreamArm::Ring(Connection { watch: ring().watch(socket.as_raw_fd()), socket, peer }))
    }

    /// No more sending and receiving; a task that waits in `readable` or `send` returns.
    pub fn shutdown(&self) {
        match &self.0 {
            StreamArm::Ring(connection) => connection.shutdown(),
            #[cfg(any(test, feature = "sim"))]
            StreamArm::Virtual(stream) => stream.shutdown(),
        }
    }
}

impl LooseListener {
    /// For what one shard alone is to listen on, which nobody else can from now on. Waits as [`probe_port`]; `setting` is what
    /// the operator would change.
    pub fn bind(address: SocketAddr, setting: &str, patience: Duration) -> Result<LooseListener, StartError> {
        patiently(patience, || {
            let socket = bound_socket(address, Sharing::Alone)?;
            socket.listen(BACKLOG)?;
            Ok(LooseListener(socket))
        })
        .map_err(|error| cannot_listen(address, &error, setting, "another value"))
    }

    pub fn local_addr(&self) -> io::Result<SocketAddr> {
        self.0.local_addr()?.as_socket().ok_or_else(|| io::ErrorKind::AddrNotAvailable.into())
    }
}

/// Fails when another process listens on the port already and does not let go of it within `patience`, as one that
/// was just killed does: the kernel tears its rings down after its end has been reported, and its listeners are held
/// until then, for milliseconds, on a busy machine for more. The shards' own listeners cannot tell: they share the port
/// among them (SO_REUSEPORT), and the kernel lets any process of the same user in. Called before the shards start;
/// blocks. `setting` is what the operator would change.
pub fn probe_port(address: SocketAddr, setting: &str, patience: Duration) -> Result<(), StartError> {
    patiently(patience, || bound_socket(address, Sharing::Alone))
        .map(drop)
        .map_err(|error| cannot_listen(address, &error, setting, "another port"))
}

/// Tries again while the port is taken.
fn patiently<T>(patience: Duration, bind: impl Fn() -> io::Result<T>) -> io::Result<T> {
    let deadline = Instant::now() + patience;
    loop {
        match bind() {
            Err(error) if error.kind() == io::ErrorKind::AddrInUse && Instant::now() < deadline => {}
            result => return result,
        }
        // Nothing tells when a port becomes free.
        std::thread::sleep(Duration::from_millis(5));
    }
}

fn cannot_listen(address: SocketAddr, error: &io::Error, setting: &str, other: &str) -> StartError {
    let port = address.port();
    StartError(match error.kind() {
        io::ErrorKind::AddrInUse => {
            format!("port {port} is already in use: stop the other process or set {setting}= to {other}")
        }
        io::ErrorKind::PermissionDenied => format!(
            "port {port} may not be used by this user: set {setting}= to a port from 1024 up, or grant CAP_NET_BIND_SERVICE"
        ),
        io::ErrorKind::AddrNotAvailable => {
            format!("{} is not an address of this machine: correct it in {setting}=", address.ip())
        }
        _ => format!("{address} cannot be listened on ({error}): correct it in {setting}="),
    })
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Sharing {
    /// With the other shards' sockets.
    Shards,
    /// With nobody.
    Alone,
}

/// A socket bound to `address`. `[::]` takes IPv4, too, and is `0.0.0.0` on a machine without IPv6.
fn bound_socket(address: SocketAddr, sharing: Sharing) -> io::Result<Socket> {
    let bind = |address: SocketAddr| -> io::Result<Socket> {
        let socket = Socket::new(Domain::for_address(address), Type::STREAM, Some(Protocol::TCP))?;
        if address.is_ipv6() {
            // Explicitly: the default is the administrator's.
            socket.set_only_v6(address.ip() != Ipv6Addr::UNSPECIFIED)?;
        }
        // A restart finds the old process's connections in TIME_WAIT; they are no reason to refuse the port.
        socket.set_reuse_address(true)?;
        socket.set_reuse_port(sharing == Sharing::Shards)?;
        socket.bind(&address.into())?;
        Ok(socket)
    };
    match bind(address) {
        Err(error)
            if address.ip() == Ipv6Addr::UNSPECIFIED
                && matches!(error.raw_os_error(), Some(libc::EAFNOSUPPORT | libc::EADDRNOTAVAIL)) =>
        {
            bind((Ipv4Addr::UNSPECIFIED, address.port()).into())
        }
        result => result,
    }
}

struct Listening {
    socket: Socket,
    watch: Watch,
}

impl Listening {
    fn bind(address: SocketAddr, sharing: Sharing) -> io::Result<Listening> {
        let socket = bound_socket(address, sharing)?;
        socket.listen(BACKLOG)?;
        Listening::watched(socket)
    }

    fn watched(socket: Socket) -> io::Result<Listening> {
        socket.set_nonblocking(true)?;
        Ok(Listening { watch: ring().watch(socket.as_raw_fd()), socket })
    }

    fn local_addr(&self) -> io::Result<SocketAddr> {
        self.socket.local_addr()?.as_socket().ok_or_else(|| io::ErrorKind::AddrNotAvailable.into())
    }

    async fn accept(&self) -> io::Result<Connection> {
        loop {
            match self.socket.accept() {
                // A client that has gone again already may have no address; the next one has.
                Ok((socket, peer)) => {
                    if let Some(peer) = peer.as_socket() {
                        return Connection::new(socket, peer);
                    }
                }
                Err(error) => match error.kind() {
                    io::ErrorKind::WouldBlock => {
                        self.watch.exhausted(Direction::In);
                        self.watch.ready(Direction::In).await;
                    }
                    io::ErrorKind::Interrupted | io::ErrorKind::ConnectionAborted => {}
                    _ => return Err(error),
                },
            }
        }
    }
}

impl Drop for Listening {
    fn drop(&mut self) {
        // Nobody is let in from here on: until the watch has ended, in the next turn, the kernel keeps the socket open.
        let _ = self.socket.shutdown(Shutdown::Both);
    }
}

struct Connection {
    // First, so that it is dropped before the descriptor is closed.
    watch: Watch,
    socket: Socket,
    peer: SocketAddr,
}

impl Connection {
    fn new(socket: Socket, peer: SocketAddr) -> io::Result<Connection> {
        socket.set_nodelay(true)?;
        let peer = SocketAddr::new(peer.ip().to_canonical(), peer.port());
        Ok(Connection { watch: ring().watch(socket.as_raw_fd()), socket, peer })
    }

    async fn connect(address: SocketAddr) -> io::Result<Connection> {
        let socket = Socket::new(Domain::for_address(address), Type::STREAM, Some(Protocol::TCP))?;
        socket.set_nonblocking(true)?;
        match socket.connect(&address.into()) {
            Err(error) if error.raw_os_error() != Some(libc::EINPROGRESS) => return Err(error),
            _ => {}
        }
        let connection = Connection::new(socket, address)?;
        connection.watch.ready(Direction::Out).await;
        match connection.socket.take_error()? {
            Some(error) => Err(error),
            None => Ok(connection),
        }
    }

    fn local_addr(&self) -> io::Result<SocketAddr> {
        let address = self.socket.local_addr()?.as_socket();
        let address = address.ok_or_else(|| io::Error::from(io::ErrorKind::AddrNotAvailable))?;
        Ok(SocketAddr::new(address.ip().to_canonical(), address.port()))
    }

    fn try_recv(&self, buf: &mut BytesMut, max: usize) -> io::Result<Option<usize>> {
        let spare = buf.spare_capacity_mut();
        let room = spare.len().min(max);
        assert!(room > 0, "no room to receive into");
        loop {
            // SAFETY: `spare` has at least `room` bytes that may be written.
            let got = unsafe { libc::recv(self.fd(), spare.as_mut_ptr().cast(), room, libc::MSG_DONTWAIT) };
            if let Ok(got) = usize::try_from(got) {
                if got < room {
                    // that was all
                    self.watch.exhausted(Direction::In);
                }
                // SAFETY: the kernel has written the first `got` bytes of the spare capacity.
                unsafe { buf.set_len(buf.len() + got) };
                return Ok(Some(got));
            }
            let error = io::Error::last_os_error();
            match error.kind() {
                io::ErrorKind::WouldBlock => {
                    self.watch.exhausted(Direction::In);
                    return Ok(None);
                }
                io::ErrorKind::Interrupted => {}
                _ => return Err(error),
            }
        }
    }

    async fn send(&self, parts: &mut VecDeque<Bytes>) -> io::Result<()> {
        let mut sent_in_slice = 0;
        loop {
            while parts.front().is_some_and(Bytes::is_empty) {
                parts.pop_front();
            }
            if parts.is_empty() {
                return Ok(());
            }
            let sent = match self.try_send(parts) {
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                    self.watch.exhausted(Direction::Out);
                    self.watch.ready(Direction::Out).await;
                    continue;
                }
                result => result?,
            };
            advance(parts, sent);
            sent_in_slice += sent;
            if sent_in_slice >= SEND_SLICE_BYTES {
                sent_in_slice = 0;
                turn().await;
            }
        }
    }

    /// One system call for as many parts as it takes.
    fn try_send(&self, parts: &VecDeque<Bytes>) -> io::Result<usize> {
        let mut slices = [libc::iovec { iov_base: std::ptr::null_mut(), iov_len: 0 }; PARTS_PER_SEND];
        let count = parts.len().min(PARTS_PER_SEND);
        for (slice, part) in slices.iter_mut().zip(parts) {
            *slice = libc::iovec { iov_base: part.as_ptr().cast_mut().cast(), iov_len: part.len() };
        }
        loop {
            // SAFETY: all zeros is a valid msghdr that names nothing.
            let mut message: libc::msghdr = unsafe { std::mem::zeroed() };
            message.msg_iov = slices.as_mut_ptr();
            message.msg_iovlen = count as _;
            // SAFETY: `count` slices point to the parts, which are borrowed; the kernel only reads them.
            let sent = unsafe {
                libc::sendmsg(self.fd(), &raw const message, libc::MSG_DONTWAIT | libc::MSG_NOSIGNAL)
            };
            match usize::try_from(sent) {
                Ok(sent) => return Ok(sent),
                Err(_) => {
                    let error = io::Error::last_os_error();
                    if error.kind() != io::ErrorKind::Interrupted {
                        return Err(error);
                    }
                }
            }
        }
    }

    fn fd(&self) -> RawFd {
        self.socket.as_raw_fd()
    }

    fn shutdown(&self) {
        // Fails if the peer was faster; then those who wait know already.
        let _ = self.socket.shutdown(Shutdown::Both);
    }
}

fn ring() -> Rc<Ring> {
    Rc::clone(&runtime::local().driver.ring)
}

/// Takes the first `sent` bytes off the queue.
fn advance(parts: &mut VecDeque<Bytes>, mut sent: usize) {
    while let Some(first) = parts.front_mut() {
        if sent < first.len() {
            first.advance(sent);
            return;
        }
        sent -= first.len();
        parts.pop_front();
    }
    assert!(sent == 0, "sent {sent} bytes more than there were");
}

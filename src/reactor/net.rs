//! TCP sockets. Reads go straight into the caller's buffer; writes gather many parts into one system call.

use std::collections::VecDeque;
use std::io;
use std::net::SocketAddr;

use bytes::{Bytes, BytesMut};

/// A listening socket, one per shard and address (SO_REUSEPORT).
pub struct TcpListener {
    _todo: (),
}

/// A connection on this shard. All methods take `&self`: one task may receive while another sends.
pub struct TcpStream {
    _todo: (),
}

impl TcpListener {
    /// Dual-stack when `address` is `[::]`. The caller has probed the port first (`Options::probe_port`).
    pub fn bind(address: SocketAddr) -> io::Result<TcpListener> {
        let _ = address;
        unimplemented!()
    }

    pub fn local_addr(&self) -> io::Result<SocketAddr> {
        unimplemented!()
    }

    /// The next connection, with TCP_NODELAY set.
    pub async fn accept(&self) -> io::Result<TcpStream> {
        unimplemented!()
    }
}

impl TcpStream {
    pub async fn connect(address: SocketAddr) -> io::Result<TcpStream> {
        let _ = address;
        unimplemented!()
    }

    pub fn peer_addr(&self) -> io::Result<SocketAddr> {
        unimplemented!()
    }

    pub fn local_addr(&self) -> io::Result<SocketAddr> {
        unimplemented!()
    }

    /// Waits until there is something to receive (or the end, or an error) without holding a buffer.
    pub async fn readable(&self) -> io::Result<()> {
        unimplemented!()
    }

    /// Receives into the spare capacity of `buf`, at most `max` bytes and never growing it, without waiting:
    /// `Ok(None)` when nothing is there, `Ok(Some(0))` at the end of the stream.
    pub fn try_recv(&self, buf: &mut BytesMut, max: usize) -> io::Result<Option<usize>> {
        let _ = (buf, max);
        unimplemented!()
    }

    /// Sends all parts in order, gathered; on return the queue is empty. Waits while the peer does not read.
    pub async fn send(&self, parts: &mut VecDeque<Bytes>) -> io::Result<()> {
        let _ = parts;
        unimplemented!()
    }

    /// No more sending and receiving; a task that waits in `readable` or `send` returns.
    pub fn shutdown(&self) {
        unimplemented!()
    }
}

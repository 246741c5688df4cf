//! A connection on which one request is under way at a time.

use std::io::{self, Write};
use std::net::TcpStream;

use anyhow::{Context, Result, ensure};
use bytes::{Buf, Bytes, BytesMut};

use super::inbox::Inbox;
use super::poller::Poller;
use crate::wire::control;

/// Most answers on such a connection are smaller; the buffer grows for the others.
const READ_BYTES: usize = 256;

pub struct Line {
    stream: TcpStream,
    inbox: Inbox,
    unsent: BytesMut,
    /// The poller tells when the socket takes more.
    is_blocked: bool,
    is_busy: bool,
    correlation_id: i32,
    token: u64,
}

impl Line {
    /// # Errors
    /// Nobody there.
    pub fn connect(address: &str, poller: &Poller, token: u64) -> Result<Line> {
        let stream = control::connect(address)?;
        stream.set_nonblocking(true)?;
        poller.add(&stream, token)?;
        Ok(Line {
            stream,
            inbox: Inbox::new(READ_BYTES),
            unsent: BytesMut::new(),
            is_blocked: false,
            is_busy: false,
            correlation_id: 0,
            token,
        })
    }

    /// Sends what `request` writes for the correlation id it is given; nothing may be under way.
    ///
    /// # Errors
    /// The connection's, or the request's.
    pub fn ask(&mut self, poller: &Poller, request: impl FnOnce(i32) -> Result<BytesMut>) -> Result<()> {
        debug_assert!(!self.is_busy && self.unsent.is_empty());
        self.correlation_id = self.correlation_id.wrapping_add(1);
        self.unsent = request(self.correlation_id)?;
        self.is_busy = true;
        self.on_writable(poller)
    }

    /// # Errors
    /// The connection's.
    pub fn on_writable(&mut self, poller: &Poller) -> Result<()> {
        while !self.unsent.is_empty() {
            match self.stream.write(&self.unsent) {
                Ok(sent) => self.unsent.advance(sent),
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => break,
                Err(error) => return Err(error).context("sending to the broker"),
            }
        }
        let is_blocked = !self.unsent.is_empty();
        if is_blocked != self.is_blocked {
            poller.watch_writable(&self.stream, self.token, is_blocked)?;
            self.is_blocked = is_blocked;
        }
        Ok(())
    }

    /// Reads; the answer without its length, if it is there.
    ///
    /// # Errors
    /// The connection's, or an answer to another request.
    pub fn on_readable(&mut self) -> Result<Option<Bytes>> {
        while self.inbox.fill(&self.stream).context("waiting for the broker's answer")? {
            let Some(response) = self.inbox.next()? else { continue };
            let response = Bytes::copy_from_slice(response);
            ensure!(self.is_busy, "the broker answered what was not asked");
            let correlation_id = response.first_chunk().copied().map(i32::from_be_bytes);
            ensure!(correlation_id == Some(self.correlation_id), "the broker answered another request");
            self.is_busy = false;
            return Ok(Some(response));
        }
        Ok(None)
    }
}

//! A member with its connection: sends its requests, one at a time, and says when it has to beat next.

use std::io::{self, Write};
use std::net::TcpStream;

use anyhow::{Context, Result, ensure};
use bytes::{Buf, Bytes, BytesMut};
use kafka_protocol::messages::{ApiKey, ApiVersionsRequest, ApiVersionsResponse};

use super::member::{Member, Outcome, Plan};
use crate::engine::{Inbox, Poller};
use crate::wire::control;

/// A heartbeat's answer is smaller; a leader is told of its whole group once, and the buffer grows for it.
const READ_BYTES: usize = 256;

/// Nothing is due.
pub const NEVER: u64 = u64::MAX;

pub struct Seat {
    /// Of the run's groups.
    pub group: usize,
    pub member: Member,
    /// It is in its group, or on its way there.
    pub is_in: bool,
    /// When its next heartbeat is due, or what it has to say again; [`NEVER`] while it is out or rebalances.
    pub due: u64,
    /// What it does as soon as nothing is under way.
    pub wish: Option<Change>,
    under_way: Option<UnderWay>,
    stream: TcpStream,
    inbox: Inbox,
    unsent: BytesMut,
    /// The poller tells when the socket takes more.
    is_blocked: bool,
    correlation_id: i32,
    token: u64,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Change {
    Joins,
    Leaves,
}

/// A request without an answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum UnderWay {
    /// The connection's first.
    Versions,
    /// A heartbeat that was due then.
    Beat {
        due: u64,
    },
    Other,
}

/// What an answer was to, and what came of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Answered {
    pub to: UnderWay,
    pub outcome: Outcome,
}

impl Seat {
    /// Connects and asks for the versions, as clients do.
    ///
    /// # Errors
    /// Nobody there.
    pub fn connect(address: &str, group: usize, member: Member, poller: &Poller, token: u64) -> Result<Seat> {
        let stream = control::connect(address)?;
        stream.set_nonblocking(true)?;
        poller.add(&stream, token)?;
        let mut seat = Seat {
            group,
            member,
            is_in: false,
            due: NEVER,
            wish: None,
            under_way: None,
            stream,
            inbox: Inbox::new(READ_BYTES),
            unsent: BytesMut::new(),
            is_blocked: false,
            correlation_id: 1,
            token,
        };
        let versions = control::frame(ApiKey::ApiVersions, 0, 1, &ApiVersionsRequest::default())?;
        seat.send(versions, UnderWay::Versions, poller)?;
        Ok(seat)
    }

    #[must_use]
    pub fn under_way(&self) -> Option<UnderWay> {
        self.under_way
    }

    /// Sends the member's next request; nothing may be under way.
    ///
    /// # Errors
    /// The connection's.
    pub fn ask(&mut self, plan: &Plan, as_what: UnderWay, poller: &Poller) -> Result<()> {
        self.correlation_id = self.correlation_id.wrapping_add(1);
        let frame = self.member.request(plan, self.correlation_id)?;
        self.send(frame, as_what, poller)
    }

    fn send(&mut self, frame: BytesMut, as_what: UnderWay, poller: &Poller) -> Result<()> {
        debug_assert!(self.under_way.is_none() && self.unsent.is_empty());
        self.under_way = Some(as_what);
        self.unsent = frame;
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
                Err(error) => return Err(error).context("a member's connection"),
            }
        }
        let is_blocked = !self.unsent.is_empty();
        if is_blocked != self.is_blocked {
            poller.watch_writable(&self.stream, self.token, is_blocked)?;
            self.is_blocked = is_blocked;
        }
        Ok(())
    }

    /// Reads; an answer, if there is one.
    ///
    /// # Errors
    /// The connection's, or an answer that cannot be read.
    pub fn on_readable(&mut self, plan: &Plan) -> Result<Option<Answered>> {
        while self.inbox.fill(&self.stream).context("a member's connection")? {
            let Some(response) = self.inbox.next()? else { continue };
            let response = Bytes::copy_from_slice(response);
            let to = self.under_way.take().context("the broker answered what was not asked")?;
            let correlation_id = response.first_chunk().copied().map(i32::from_be_bytes);
            ensure!(correlation_id == Some(self.correlation_id), "the broker answered another request");
            let outcome = match to {
                UnderWay::Versions => {
                    let _: ApiVersionsResponse = control::answer(ApiKey::ApiVersions, 0, response)?;
                    Outcome::Rests
                }
                UnderWay::Beat { .. } | UnderWay::Other => self.member.answer(plan, response)?,
            };
            return Ok(Some(Answered { to, outcome }));
        }
        Ok(None)
    }
}

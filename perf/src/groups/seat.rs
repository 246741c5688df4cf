//! A member with its connection: sends its requests, one at a time, and says when it has to beat next.

use anyhow::{Context, Result};
use kafka_protocol::messages::{ApiKey, ApiVersionsRequest, ApiVersionsResponse};

use super::member::{Member, Outcome, Plan};
use crate::engine::{Line, Poller};
use crate::wire::control;

/// Of a connection, for messages.
const WHOSE: &str = "a member's connection";

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
    line: Line,
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
        let mut line = Line::connect(address, poller, token)?;
        line.ask(poller, |id| control::frame(ApiKey::ApiVersions, 0, id, &ApiVersionsRequest::default()))?;
        let under_way = Some(UnderWay::Versions);
        Ok(Seat { group, member, is_in: false, due: NEVER, wish: None, under_way, line })
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
        debug_assert!(self.under_way.is_none());
        self.under_way = Some(as_what);
        let Seat { line, member, .. } = self;
        line.ask(poller, |id| member.request(plan, id)).context(WHOSE)
    }

    /// # Errors
    /// The connection's.
    pub fn on_writable(&mut self, poller: &Poller) -> Result<()> {
        self.line.on_writable(poller).context(WHOSE)
    }

    /// Reads; an answer, if there is one.
    ///
    /// # Errors
    /// The connection's, or an answer that cannot be read.
    pub fn on_readable(&mut self, plan: &Plan) -> Result<Option<Answered>> {
        let Some(response) = self.line.on_readable().context(WHOSE)? else { return Ok(None) };
        let to = self.under_way.take().context("the broker answered what was not asked")?;
        let outcome = match to {
            UnderWay::Versions => {
                let _: ApiVersionsResponse = control::answer(ApiKey::ApiVersions, 0, response)?;
                Outcome::Rests
            }
            UnderWay::Beat { .. } | UnderWay::Other => self.member.answer(plan, response)?,
        };
        Ok(Some(Answered { to, outcome }))
    }
}

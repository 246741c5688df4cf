//! Which broker coordinates a consumer group or a transactional id, and asking it.

use std::fmt;
use std::time::Instant;

use super::{Client, Error, PAUSE, Refusal, string};
use crate::protocol::messages::FindCoordinatorRequest;

/// What a broker coordinates.
#[derive(Clone, Copy, Debug)]
pub(in crate::cli) enum Coordinated<'a> {
    Group(&'a str),
    TransactionalId(&'a str),
}

impl Coordinated<'_> {
    /// FindCoordinator's kind of key, and the key.
    fn key(self) -> (i8, String) {
        match self {
            Coordinated::Group(group) => (0, group.to_owned()),
            Coordinated::TransactionalId(id) => (1, id.to_owned()),
        }
    }
}

impl fmt::Display for Coordinated<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Coordinated::Group(group) => write!(f, "group {group}"),
            Coordinated::TransactionalId(id) => write!(f, "transactional id {id}"),
        }
    }
}

impl Client {
    /// Which broker coordinates something, where that is known from elsewhere: it is not looked up then.
    pub(in crate::cli) fn remember_coordinator(&mut self, of: Coordinated<'_>, broker: i32) {
        self.coordinators.insert(of.key(), broker);
    }

    /// `ask`s the broker that coordinates something. Once more while the broker says that it does not coordinate it (any
    /// more), has not loaded it yet, or that nobody coordinates it now, until the client's time is over.
    pub(in crate::cli) fn at_coordinator<T>(
        &mut self,
        of: Coordinated<'_>,
        mut ask: impl FnMut(&mut Client, i32) -> Result<T, Error>,
    ) -> Result<T, Error> {
        let deadline = Instant::now() + self.timeout;
        loop {
            match self.coordinator(of).and_then(|broker| ask(self, broker)) {
                Err(error) if is_elsewhere(&error) && Instant::now() < deadline => {
                    self.coordinators.remove(&of.key());
                    std::thread::sleep(PAUSE);
                }
                other => return other,
            }
        }
    }

    fn coordinator(&mut self, of: Coordinated<'_>) -> Result<i32, Error> {
        let known_as = of.key();
        if let Some(&known) = self.coordinators.get(&known_as) {
            return Ok(known);
        }
        let (kind, key) = known_as;
        let request =
            FindCoordinatorRequest::default().with_key_type(kind).with_coordinator_keys(vec![string(&key)]);
        let response = self.call(&request)?;
        let what = || format!("the coordinator of {of}");
        let found = response.coordinators.first().ok_or_else(|| Error::Silent(what()))?;
        Refusal::check(found.error_code, found.error_message.as_deref(), what)?;
        let broker = found.node_id.0;
        if self.address(broker).is_none() {
            self.refresh(Some(&[]))?;
        }
        self.remember_coordinator(of, broker);
        Ok(broker)
    }
}

/// Whether the coordinator is to be looked up again. A broker that metadata does not have any more has just gone.
fn is_elsewhere(error: &Error) -> bool {
    match error {
        Error::Refused(refusal) => refusal.is_of_coordinator(),
        Error::UnknownBroker(_) => true,
        _ => false,
    }
}

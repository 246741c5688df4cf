//! Which broker coordinates a consumer group, and asking it.

use std::time::Instant;

use super::{Client, Error, PAUSE, Refusal, string};
use crate::protocol::messages::FindCoordinatorRequest;

/// FindCoordinator's kinds of keys.
const GROUP: i8 = 0;

impl Client {
    /// Which broker coordinates a group, where that is known from elsewhere: it is not looked up then.
    pub(in crate::cli) fn remember_coordinator(&mut self, group: &str, broker: i32) {
        self.coordinators.insert(group.to_owned(), broker);
    }

    /// `ask`s the broker that coordinates a group. Once more while the broker says that it does not coordinate it (any
    /// more), has not loaded it yet, or that nobody coordinates it now, until the client's time is over.
    pub(in crate::cli) fn at_coordinator<T>(
        &mut self,
        group: &str,
        mut ask: impl FnMut(&mut Client, i32) -> Result<T, Error>,
    ) -> Result<T, Error> {
        let deadline = Instant::now() + self.timeout;
        loop {
            match self.coordinator(group).and_then(|broker| ask(self, broker)) {
                Err(error) if is_elsewhere(&error) && Instant::now() < deadline => {
                    self.coordinators.remove(group);
                    std::thread::sleep(PAUSE);
                }
                other => return other,
            }
        }
    }

    fn coordinator(&mut self, group: &str) -> Result<i32, Error> {
        if let Some(&known) = self.coordinators.get(group) {
            return Ok(known);
        }
        let request =
            FindCoordinatorRequest::default().with_key_type(GROUP).with_coordinator_keys(vec![string(group)]);
        let response = self.call(&request)?;
        let what = || format!("the coordinator of group {group}");
        let found = response.coordinators.first().ok_or_else(|| Error::Silent(what()))?;
        Refusal::check(found.error_code, found.error_message.as_deref(), what)?;
        let broker = found.node_id.0;
        if self.address(broker).is_none() {
            self.refresh(Some(&[]))?;
        }
        self.remember_coordinator(group, broker);
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

//! Kafka's `.snapshot` file, version 1: producer state as of the offset in the file's name.

use super::Damage;
use super::producer_state::ProducerStates;

/// The file's bytes.
#[must_use]
pub fn encode(states: &ProducerStates) -> Vec<u8> {
    let _ = states;
    unimplemented!()
}

/// # Errors
/// What is wrong; an older snapshot, or the whole log, is to be read instead.
pub fn decode(bytes: &[u8]) -> Result<ProducerStates, Damage> {
    let _ = bytes;
    unimplemented!()
}

//! The settings of one group: its own configs where it has them, else the broker's.

use crate::coordinator::group::Turn;
use crate::metadata::{ConfigResource, ResourceKind};

/// Milliseconds.
pub(super) fn session_timeout_ms(turn: &Turn) -> u64 {
    of_group(turn, "consumer.session.timeout.ms").unwrap_or(turn.settings.consumer_session_timeout_ms)
}

/// Milliseconds.
pub(super) fn heartbeat_interval_ms(turn: &Turn) -> u64 {
    of_group(turn, "consumer.heartbeat.interval.ms").unwrap_or(turn.settings.consumer_heartbeat_interval_ms)
}

/// Milliseconds.
pub(super) fn assignment_interval_ms(turn: &Turn) -> u64 {
    of_group(turn, "consumer.assignment.interval.ms").unwrap_or(turn.settings.consumer_assignment_interval_ms)
}

/// A number below zero stands for the broker's.
fn of_group(turn: &Turn, key: &str) -> Option<u64> {
    let group = ConfigResource { kind: ResourceKind::Group, name: turn.group.to_string() };
    turn.image.configs(&group)?.get(key)?.parse().ok()
}

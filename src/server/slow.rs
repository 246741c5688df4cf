//! The slow-request log: one line for a request that took long, with what it waited for.

use std::time::Duration;

use super::log_rate::LogRate;
use crate::handlers::ConnectionContext;
use crate::protocol::StrBytes;
use crate::protocol::api::Api;
use crate::protocol::header::RequestHeader;
use crate::reactor::Instant;

/// A request's way through the broker. What is not there yet is the time before it.
#[derive(Clone, Debug)]
pub(super) struct Story {
    pub api: Api,
    version: i16,
    correlation_id: i32,
    client_id: Option<StrBytes>,
    /// Its last byte was there.
    pub received: Instant,
    /// Its turn had come: the replies before it were ready, and the connection was not muted.
    pub called: Instant,
    /// Its order was fixed; of any request but Produce, its reply was ready.
    pub handled: Instant,
    /// Its reply was ready.
    pub ready: Instant,
    /// Of that, it waited because the client wished it to (a fetch for data).
    pub wished: Duration,
}

impl Story {
    pub(super) fn new(api: Api, header: Option<&RequestHeader>, received: Instant) -> Story {
        Story {
            api,
            version: header.map_or(0, |header| header.version),
            correlation_id: header.map_or(0, |header| header.correlation_id),
            client_id: header.and_then(|header| header.client_id.clone()),
            received,
            called: received,
            handled: received,
            ready: received,
            wished: Duration::ZERO,
        }
    }

    /// Tells it if it took `threshold` or more until `sent`, waits that the client wished left out.
    pub(super) fn tell_if_slow(
        &self,
        sent: Instant,
        threshold: Duration,
        connection: &ConnectionContext,
        rate: &LogRate,
    ) {
        let total = sent.since(self.received).saturating_sub(self.wished);
        if total < threshold {
            return;
        }
        let Some(suppressed) = rate.admit(sent) else { return };
        let stages = [
            ("queued", self.called.since(self.received)),
            ("handled", self.handled.since(self.called).saturating_sub(self.wished)),
            ("committed", self.ready.since(self.handled)),
            ("sent", sent.since(self.ready)),
        ];
        let slowest = stages.iter().max_by_key(|(_, took)| *took).expect("there are four").0;
        let [queued_ms, handled_ms, committed_ms, sent_ms] = stages.map(|(_, took)| milliseconds(took));
        tracing::warn!(
            api = self.api.name(),
            version = self.version,
            client_id = self.client_id.as_deref().unwrap_or(""),
            peer = %connection.peer,
            listener = %connection.listener,
            correlation_id = self.correlation_id,
            total_ms = milliseconds(total),
            slowest,
            queued_ms,
            handled_ms,
            committed_ms,
            sent_ms,
            suppressed,
            "slow request"
        );
    }
}

/// To a tenth.
fn milliseconds(time: Duration) -> f64 {
    (time.as_secs_f64() * 10_000.0).round() / 10.0
}

//! The broker's settings for transactions.

/// By their names in `server.properties`; times in milliseconds.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Settings {
    /// transaction.max.timeout.ms
    pub timeout_ms_max: i32,
    /// transactional.id.expiration.ms
    pub id_expiration_ms: i64,
    /// transaction.abort.timed.out.transaction.cleanup.interval.ms
    pub abort_interval_ms: u64,
    /// transaction.remove.expired.transaction.cleanup.interval.ms
    pub removal_interval_ms: u64,
}

/// Kafka's defaults.
impl Default for Settings {
    fn default() -> Self {
        Settings {
            timeout_ms_max: 900_000,
            id_expiration_ms: 7 * 24 * 60 * 60 * 1_000,
            abort_interval_ms: 10_000,
            removal_interval_ms: 60 * 60 * 1_000,
        }
    }
}

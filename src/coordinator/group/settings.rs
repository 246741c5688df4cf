//! The broker's settings for groups.

/// Which groups may change their protocol while they have members: group.consumer.migration.policy.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Migration {
    /// Classic to consumer.
    pub upgrade: bool,
    /// Consumer to classic.
    pub downgrade: bool,
}

/// By their names in `server.properties`; times in milliseconds.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Settings {
    /// group.initial.rebalance.delay.ms
    pub initial_rebalance_delay_ms: u64,
    /// group.min.session.timeout.ms, group.max.session.timeout.ms
    pub session_timeout_ms_min: i32,
    pub session_timeout_ms_max: i32,
    /// group.max.size
    pub max_size: usize,
    /// group.coordinator.rebalance.protocols names `consumer`.
    pub serves_consumer_protocol: bool,
    /// group.consumer.max.size
    pub consumer_max_size: usize,
    /// group.consumer.session.timeout.ms, unless the group has a config.
    pub consumer_session_timeout_ms: u64,
    /// group.consumer.heartbeat.interval.ms, unless the group has a config.
    pub consumer_heartbeat_interval_ms: u64,
    /// group.consumer.assignment.interval.ms, unless the group has a config.
    pub consumer_assignment_interval_ms: u64,
    /// group.consumer.regex.refresh.interval.ms
    pub consumer_regex_refresh_interval_ms: u64,
    /// group.consumer.assignors; the first is the default. At least one.
    pub consumer_assignors: Vec<String>,
    pub migration: Migration,
    /// offset.metadata.max.bytes
    pub offset_metadata_bytes_max: usize,
    /// offsets.retention.minutes
    pub offsets_retention_ms: i64,
    /// offsets.retention.check.interval.ms
    pub offsets_retention_check_interval_ms: u64,
}

/// Kafka's defaults.
impl Default for Settings {
    fn default() -> Self {
        Settings {
            initial_rebalance_delay_ms: 3_000,
            session_timeout_ms_min: 6_000,
            session_timeout_ms_max: 1_800_000,
            max_size: 2_147_483_647,
            serves_consumer_protocol: true,
            consumer_max_size: 2_147_483_647,
            consumer_session_timeout_ms: 45_000,
            consumer_heartbeat_interval_ms: 5_000,
            consumer_assignment_interval_ms: 1_000,
            consumer_regex_refresh_interval_ms: 600_000,
            consumer_assignors: vec!["uniform".to_owned(), "range".to_owned()],
            migration: Migration { upgrade: true, downgrade: true },
            offset_metadata_bytes_max: 4_096,
            offsets_retention_ms: 7 * 24 * 60 * 60 * 1_000,
            offsets_retention_check_interval_ms: 600_000,
        }
    }
}

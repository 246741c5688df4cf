//! What becomes of old records.

/// Kafka's cleanup.policy. Both off: records are kept for ever.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct CleanupPolicy {
    /// By age and size.
    pub delete: bool,
    /// To the last record of each key.
    pub compact: bool,
}

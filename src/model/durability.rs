//! What an acknowledgement promises.

/// What "durable" means for a topic.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Durability {
    /// Written and flushed (fdatasync).
    #[default]
    Flushed,
    /// The device has the bytes, no flush: Kafka's own promise.
    Written,
}

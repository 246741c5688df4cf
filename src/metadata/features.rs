//! The features this version knows, and the levels it can run at.

use super::record::{METADATA_VERSION, METADATA_VERSION_LEVEL, SupportedFeature};

/// Kafka's feature of that name, which its tools and user interfaces ask for.
pub const KAFKA_METADATA_VERSION: &str = "metadata.version";
/// 4.0-IV3, the newest level that promises nothing we do not do: 26 (4.1-IV0) says that eligible leader replicas are
/// kept. No level below is offered, since nothing would be different at it. What is written to the metadata log
/// depends on [`METADATA_VERSION`] alone.
pub const KAFKA_METADATA_VERSION_LEVEL: i16 = 25;

/// Kafka's feature of that name (KIP-890). At 0 and 1 a transaction's end leaves the producer's epoch as it is; at 1 the records of
/// transactions have room for what comes with 2. Clients ask for it.
pub const TRANSACTION_VERSION: &str = "transaction.version";
pub const TRANSACTION_VERSION_LEVEL: i16 = 2;

/// By name. Kafka's other features (group.version, share.version …) join with what they switch on:
/// clients and tools take a level above 0 for a promise.
#[must_use]
pub fn supported() -> Vec<SupportedFeature> {
    let feature = |name: &str, min, max| SupportedFeature { name: name.to_owned(), min, max };
    vec![
        feature(METADATA_VERSION, 1, METADATA_VERSION_LEVEL),
        feature(KAFKA_METADATA_VERSION, KAFKA_METADATA_VERSION_LEVEL, KAFKA_METADATA_VERSION_LEVEL),
        feature(TRANSACTION_VERSION, 0, TRANSACTION_VERSION_LEVEL),
    ]
}

//! Kafka's protocol: API table, header choice, decode guard, `kafka-protocol` glue, record batch view, CRC-32C.

pub mod batch;

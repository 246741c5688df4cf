//! Settings that change while the broker runs (KIP-226): what is set in the metadata log, over what the broker was
//! started with.

use std::str::FromStr;

use super::load::find;
use super::table::{Row, Update};
use super::{Cleaner, Config, Live};
use crate::metadata::LiveConfigs;

impl Config {
    /// The settings in force. The controller has checked what is set; a value that a newer version allowed and this one
    /// cannot read counts as not set.
    #[must_use]
    pub fn live(&self, set: LiveConfigs<'_>) -> Live {
        Live {
            max_connections: self.live_value(set, "max.connections"),
            max_connections_per_ip: self.live_value(set, "max.connections.per.ip"),
            producer_id_expiration_ms: self.live_value(set, "producer.id.expiration.ms"),
            cleaner: Cleaner {
                threads: self.live_value(set, "log.cleaner.threads"),
                backoff_ms: self.live_value(set, "log.cleaner.backoff.ms"),
                map_bytes: self.live_value(set, "log.cleaner.dedupe.buffer.size"),
            },
            relocation_bytes_per_second: self
                .live_value(set, "replica.alter.log.dirs.io.max.bytes.per.second"),
            verifies_transactions: self.live_value(set, "transaction.partition.verification.enable"),
        }
    }

    fn live_value<T: FromStr>(&self, set: LiveConfigs<'_>, key: &str) -> T {
        let Row { setting, update, .. } =
            find(key).unwrap_or_else(|| panic!("{key} is not in the table of settings"));
        assert_eq!(*update, Update::Live, "{key} is read at the start");
        let live = set.get(key).and_then(|value| setting.parse(value).ok());
        let value = live.as_deref().or(self.set.get(key).map(String::as_str)).or(setting.default);
        let parsed = value.and_then(|value| value.parse().ok());
        parsed.unwrap_or_else(|| panic!("the table allows a value of {key} that its field cannot hold"))
    }
}

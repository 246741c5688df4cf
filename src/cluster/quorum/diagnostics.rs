//! The `raft` crate's log lines, told as ours: what it tells at every election is for whoever looks for a fault.

use std::fmt::{Arguments, Write as _};

use slog::{Drain, KV as _, Key, Level, Logger, Never, OwnedKVList, Serializer, o};

pub(super) fn logger() -> Logger {
    Logger::root(ToTracing, o!())
}

struct ToTracing;

impl Drain for ToTracing {
    type Ok = ();
    type Err = Never;

    fn log(&self, record: &slog::Record<'_>, context: &OwnedKVList) -> Result<(), Never> {
        let mut text = Text(record.msg().to_string());
        // a value that cannot be shown is left out
        let _ = record.kv().serialize(record, &mut text).and_then(|()| context.serialize(record, &mut text));
        match record.level() {
            Level::Critical | Level::Error => tracing::error!("metadata quorum: {}", text.0),
            Level::Warning => tracing::warn!("metadata quorum: {}", text.0),
            Level::Info | Level::Debug => tracing::debug!("metadata quorum: {}", text.0),
            Level::Trace => tracing::trace!("metadata quorum: {}", text.0),
        }
        Ok(())
    }
}

struct Text(String);

impl Serializer for Text {
    fn emit_arguments(&mut self, key: Key, value: &Arguments<'_>) -> slog::Result {
        write!(self.0, ", {key}: {value}").map_err(slog::Error::Fmt)
    }
}

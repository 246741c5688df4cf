//! The log levels of this process, told and changed by any shard (KIP-412); forgotten when it ends.
//!
//! One per node. Its lock is taken by requests about loggers, and by nothing else.

use std::sync::{Mutex, PoisonError};

use super::describe_configs::Refusal;
use crate::config::{LogLevel, LogLevels, ROOT};
use crate::model::ErrorCode;
use crate::protocol::messages::incremental_alter_configs_request::AlterableConfig;

/// Puts a filter in force.
type Apply = Box<dyn Fn(&str) -> Result<(), String> + Send + Sync>;

pub struct Loggers {
    levels: Mutex<LogLevels>,
    apply: Apply,
}

impl Loggers {
    /// `levels` are in force.
    #[must_use]
    pub fn new(levels: LogLevels, apply: Apply) -> Loggers {
        Loggers { levels: Mutex::new(levels), apply }
    }

    /// Every logger, by name, with the level in force.
    pub(super) fn list(&self) -> Vec<(String, LogLevel)> {
        self.levels.lock().unwrap_or_else(PoisonError::into_inner).list()
    }

    /// All of the changes or none.
    pub(super) fn alter(&self, changes: &[AlterableConfig], validate_only: bool) -> Result<(), Refusal> {
        let mut levels = self.levels.lock().unwrap_or_else(PoisonError::into_inner);
        let mut changed = levels.clone();
        for change in changes {
            alter_one(&mut changed, change)?;
        }
        if validate_only || changed == *levels {
            return Ok(());
        }
        let filter = changed.to_string();
        (self.apply)(&filter).map_err(|why| {
            tracing::error!(filter, why, "log levels cannot be changed");
            (ErrorCode::UnknownServerError, why)
        })?;
        tracing::info!(filter, "log levels changed");
        *levels = changed;
        Ok(())
    }
}

fn alter_one(levels: &mut LogLevels, change: &AlterableConfig) -> Result<(), Refusal> {
    let logger = change.name.as_str();
    let refused = |text: String| Err((ErrorCode::InvalidRequest, text));
    let unfit = |text: String| Err((ErrorCode::InvalidConfig, text));
    let unknown = || unfit(format!("logger {logger} does not exist"));
    match change.config_operation {
        0 | 1 if !levels.exists(logger) => unknown(),
        0 => {
            let name = change.value.as_deref().unwrap_or_default();
            let Some(level) = LogLevel::named(name) else {
                let names = LogLevel::ALL.map(LogLevel::name).join(", ");
                return unfit(format!(
                    "cannot set the log level of {logger} to {name}: it must be one of {names}"
                ));
            };
            levels.set(logger, level);
            Ok(())
        }
        1 if logger == ROOT => refused(format!("the log level of the {ROOT} logger cannot be removed")),
        1 => {
            levels.unset(logger);
            Ok(())
        }
        2 => refused("log levels cannot be appended to".to_owned()),
        3 => refused("log levels cannot be subtracted from".to_owned()),
        other => refused(format!("unknown config operation {other}")),
    }
}

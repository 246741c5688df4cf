//! Log levels by logger, as Kafka's tools see and set them (KIP-412): a filter (`corelane::storage=debug,info`) taken
//! apart and put together again.
//!
//! A logger is a module path, `root` is what no other decides. The longest logger that a message's module begins with
//! decides. Kafka's FATAL has no messages here: it silences.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;

/// The logger of everything.
pub const ROOT: &str = "root";

/// The loggers there are before anybody names others: the folders that log.
const MODULES: [&str; 8] = [
    "corelane",
    "corelane::cli",
    "corelane::cluster",
    "corelane::handlers",
    "corelane::partition",
    "corelane::reactor",
    "corelane::server",
    "corelane::storage",
];

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LogLevel {
    Trace,
    Debug,
    Info,
    Warn,
    Error,
    Fatal,
}

/// What is logged; cheap to clone.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LogLevels {
    root: LogLevel,
    /// By logger, `root` left out.
    set: BTreeMap<String, LogLevel>,
    loggers: BTreeSet<String>,
    /// Directives about spans and fields, as they were given: Kafka has no words for them.
    others: Vec<String>,
}

impl LogLevel {
    pub const ALL: [LogLevel; 6] =
        [LogLevel::Trace, LogLevel::Debug, LogLevel::Info, LogLevel::Warn, LogLevel::Error, LogLevel::Fatal];

    /// Kafka's name.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            LogLevel::Trace => "TRACE",
            LogLevel::Debug => "DEBUG",
            LogLevel::Info => "INFO",
            LogLevel::Warn => "WARN",
            LogLevel::Error => "ERROR",
            LogLevel::Fatal => "FATAL",
        }
    }

    /// By Kafka's name, in upper case only, as in Kafka.
    #[must_use]
    pub fn named(name: &str) -> Option<LogLevel> {
        LogLevel::ALL.into_iter().find(|level| level.name() == name)
    }

    /// As filters write it: a word in any case, or a digit.
    fn in_filter(text: &str) -> Option<LogLevel> {
        Some(match text.to_ascii_lowercase().as_str() {
            "trace" | "5" => LogLevel::Trace,
            "debug" | "4" => LogLevel::Debug,
            "info" | "3" => LogLevel::Info,
            "warn" | "2" => LogLevel::Warn,
            "error" | "1" => LogLevel::Error,
            "off" | "0" => LogLevel::Fatal,
            _ => return None,
        })
    }

    fn filter(self) -> &'static str {
        match self {
            LogLevel::Trace => "trace",
            LogLevel::Debug => "debug",
            LogLevel::Info => "info",
            LogLevel::Warn => "warn",
            LogLevel::Error => "error",
            LogLevel::Fatal => "off",
        }
    }
}

impl LogLevels {
    /// Of a filter that is valid. What no directive names is not logged; an empty filter means errors.
    #[must_use]
    pub fn parse(filter: &str) -> LogLevels {
        let root = if filter.trim().is_empty() { LogLevel::Error } else { LogLevel::Fatal };
        let mut levels = LogLevels {
            root,
            set: BTreeMap::new(),
            loggers: MODULES.map(str::to_owned).into(),
            others: Vec::new(),
        };
        for directive in directives(filter) {
            let (logger, level) = match directive.split_once('=') {
                _ if directive.contains(['[', '{']) => {
                    levels.others.push(directive.to_owned());
                    continue;
                }
                None => match LogLevel::in_filter(directive) {
                    Some(level) => (ROOT, level),
                    None => (directive, LogLevel::Trace),
                },
                Some((logger, level)) => (logger, LogLevel::in_filter(level).unwrap_or(LogLevel::Trace)),
            };
            levels.loggers.extend((logger != ROOT).then(|| logger.to_owned()));
            levels.set(logger, level);
        }
        levels
    }

    /// Whether there is such a logger: levels are set of those only, as in Kafka.
    #[must_use]
    pub fn exists(&self, logger: &str) -> bool {
        logger == ROOT || self.loggers.contains(logger)
    }

    pub fn set(&mut self, logger: &str, level: LogLevel) {
        if logger == ROOT {
            self.root = level;
        } else {
            self.set.insert(logger.to_owned(), level);
        }
    }

    /// From now on a shorter logger decides, or the root; the root itself stays.
    pub fn unset(&mut self, logger: &str) {
        self.set.remove(logger);
    }

    /// Every logger, by name, with the level in force.
    #[must_use]
    pub fn list(&self) -> Vec<(String, LogLevel)> {
        let all = self.loggers.iter().map(|logger| (logger.clone(), self.in_force(logger)));
        all.chain([(ROOT.to_owned(), self.root)]).collect()
    }

    fn in_force(&self, logger: &str) -> LogLevel {
        let deciding = self.set.iter().filter(|(set, _)| logger.starts_with(set.as_str()));
        deciding.max_by_key(|(set, _)| set.len()).map_or(self.root, |(_, level)| *level)
    }
}

/// The filter.
impl fmt::Display for LogLevels {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.root.filter())?;
        for (logger, level) in &self.set {
            write!(f, ",{logger}={}", level.filter())?;
        }
        self.others.iter().try_for_each(|other| write!(f, ",{other}"))
    }
}

/// What commas outside of brackets part.
fn directives(filter: &str) -> impl Iterator<Item = &str> {
    let mut depth = 0_usize;
    let parts = filter.split(move |letter| {
        match letter {
            '[' | '{' => depth += 1,
            ']' | '}' => depth = depth.saturating_sub(1),
            _ => {}
        }
        letter == ',' && depth == 0
    });
    parts.map(str::trim).filter(|directive| !directive.is_empty())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn list(levels: &LogLevels) -> String {
        let list = levels.list().into_iter().filter(|(logger, _)| {
            matches!(logger.as_str(), "root" | "corelane" | "corelane::storage")
                || !logger.contains("corelane")
        });
        list.map(|(logger, level)| format!("{logger}={}", level.name())).collect::<Vec<_>>().join(" ")
    }

    #[test]
    fn a_filter_is_taken_apart_and_put_together() {
        for (filter, expected_list, expected) in [
            ("info", "corelane=INFO corelane::storage=INFO root=INFO", "info"),
            ("", "corelane=ERROR corelane::storage=ERROR root=ERROR", "error"),
            ("corelane=debug", "corelane=DEBUG corelane::storage=DEBUG root=FATAL", "off,corelane=debug"),
            (
                "corelane::storage=TRACE, 2 ,glommio",
                "corelane=WARN corelane::storage=TRACE glommio=TRACE root=WARN",
                "warn,corelane::storage=trace,glommio=trace",
            ),
            (
                "corelane[a{b=1,c=2}]=debug,off",
                "corelane=FATAL corelane::storage=FATAL root=FATAL",
                "off,corelane[a{b=1,c=2}]=debug",
            ),
        ] {
            let levels = LogLevels::parse(filter);
            assert_eq!(list(&levels), expected_list, "{filter}");
            assert_eq!(levels.to_string(), expected, "{filter}");
            let again = LogLevels::parse(expected);
            assert_eq!((again.list(), again.to_string()), (levels.list(), expected.to_owned()), "{filter}");
        }
    }

    #[test]
    fn the_longest_logger_decides() {
        let mut levels = LogLevels::parse("info");
        for (logger, level, expected) in [
            ("corelane", Some("WARN"), "corelane=WARN corelane::storage=WARN root=INFO"),
            ("corelane::storage", Some("DEBUG"), "corelane=WARN corelane::storage=DEBUG root=INFO"),
            ("root", Some("FATAL"), "corelane=WARN corelane::storage=DEBUG root=FATAL"),
            ("corelane", None, "corelane=FATAL corelane::storage=DEBUG root=FATAL"),
            ("corelane::storage", None, "corelane=FATAL corelane::storage=FATAL root=FATAL"),
        ] {
            assert!(levels.exists(logger));
            match level {
                Some(level) => levels.set(logger, LogLevel::named(level).unwrap()),
                None => levels.unset(logger),
            }
            assert_eq!(list(&levels), expected, "{logger} {level:?}");
        }
        assert!(!levels.exists("corelane::nowhere"));
        assert_eq!((LogLevel::named("warn"), LogLevel::named("OFF")), (None, None));
    }
}

//! Log lines on stderr: for people, or one JSON object a line.

use clap::ValueEnum;
use std::io::IsTerminal as _;
use std::sync::Arc;
use tracing_subscriber::EnvFilter;
use tracing_subscriber::fmt::format::FmtSpan;
use tracing_subscriber::reload::Handle;

use crate::config::LogLevels;
use crate::handlers::Loggers;

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(super) enum LogFormat {
    /// For a terminal.
    Text,
    /// One JSON object a line.
    Json,
}

/// `filter` as `RUST_LOG` has it: `info`, `corelane::storage=debug,info` … What it gives changes the filter.
pub(super) fn start(format: LogFormat, filter: &str) -> Result<Arc<Loggers>, String> {
    let levels = LogLevels::parse(filter);
    let filter = EnvFilter::try_new(filter)
        .map_err(|error| format!("--log {filter} is not a filter ({error}); try info or corelane=debug"))?;
    let builder = tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_span_events(FmtSpan::NONE)
        .with_writer(std::io::stderr);
    let loggers = match format {
        LogFormat::Text => {
            let ansi = std::io::stderr().is_terminal();
            let builder = builder.with_ansi(ansi).with_target(false).with_filter_reloading();
            let handle = builder.reload_handle();
            builder.init();
            Loggers::new(levels, Box::new(move |filter| reload(&handle, filter)))
        }
        LogFormat::Json => {
            let builder = builder.json().flatten_event(true).with_filter_reloading();
            let handle = builder.reload_handle();
            builder.init();
            Loggers::new(levels, Box::new(move |filter| reload(&handle, filter)))
        }
    };
    Ok(Arc::new(loggers))
}

fn reload<S>(handle: &Handle<EnvFilter, S>, filter: &str) -> Result<(), String> {
    let filter = EnvFilter::try_new(filter).map_err(|error| error.to_string())?;
    handle.reload(filter).map_err(|error| error.to_string())
}

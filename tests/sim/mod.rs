//! Simulations: whole pieces of the broker on the virtual reactor, with crashes and faults, seed by seed.
//!
//! Compiled into the library's unit tests, for they need the virtual reactor and look inside.

mod exactly_once;
mod flushes;
mod groups;
mod life;
mod metadata;
mod node;
mod storage;
mod transactions;

/// Shows the log lines of a seed that is run alone.
fn show_log_of_one_seed() {
    if std::env::var_os("CORELANE_SEED").is_some() {
        let log = tracing_subscriber::fmt().with_max_level(tracing::Level::DEBUG).with_ansi(false);
        let _ = log.with_test_writer().without_time().try_init();
    }
}

//! SIGINT and SIGTERM, turned into an event that shard 0 awaits.

use std::io;
use std::sync::Arc;
use std::thread;

use signal_hook::consts::{SIGINT, SIGTERM};
use signal_hook::iterator::Signals;

use crate::reactor::Signal;

/// Cloned into the signal thread and shard 0.
#[derive(Clone, Default)]
pub(super) struct StopSignal(Signal);

impl StopSignal {
    /// The first signal asks for a clean stop, the second ends the process at once.
    pub(super) fn install() -> io::Result<StopSignal> {
        let stop = StopSignal::default();
        // A limit on file sizes is then an error of the write, which takes one log directory offline, not the end.
        signal_hook::flag::register(libc::SIGXFSZ, Arc::default())?;
        let mut signals = Signals::new([SIGINT, SIGTERM])?;
        let asked = stop.clone();
        thread::Builder::new().name("signals".to_owned()).spawn(move || {
            let mut received = signals.forever();
            if received.next().is_some() {
                tracing::info!(
                    "stopping: finishing what is in flight; a second signal ends the process at once"
                );
                asked.0.raise();
            }
            if received.next().is_some() {
                tracing::warn!("second signal: ending without a clean stop; the next start recovers");
                std::process::exit(130);
            }
        })?;
        Ok(stop)
    }

    pub(super) async fn asked(&self) {
        self.0.raised().await;
    }
}

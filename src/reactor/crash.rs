//! The end of the process on a bug: one message that cannot get lost, then abort.
//!
//! A panic kills its executor only, and the other shards would wait for it for ever; with `panic = "abort"` the
//! compiler ends the process anyway, and this does so in every other build.

use std::cell::Cell;
use std::io::Write;
use std::panic::PanicHookInfo;
use std::sync::Once;

thread_local! {
    static OURS: Cell<bool> = const { Cell::new(false) };
}

/// From here on a panic on this thread ends the process.
pub(super) fn mark_thread() {
    OURS.set(true);
}

/// Takes effect on threads that are marked; others keep what was installed before.
pub(super) fn install_panic_hook() {
    static INSTALLED: Once = Once::new();
    INSTALLED.call_once(|| {
        let before = std::panic::take_hook();
        std::panic::set_hook(Box::new(move |panic| {
            if OURS.try_with(Cell::get).unwrap_or(false) {
                fatal(&describe(panic));
            }
            before(panic);
        }));
    });
}

fn describe(panic: &PanicHookInfo<'_>) -> String {
    let thread = std::thread::current();
    let name = thread.name().unwrap_or("unnamed");
    let message = panic.payload_as_str().unwrap_or("a panic without a message");
    let place = panic.location().map_or_else(String::new, |place| format!(" at {place}"));
    let backtrace = std::backtrace::Backtrace::capture();
    if matches!(backtrace.status(), std::backtrace::BacktraceStatus::Captured) {
        format!("panic on thread {name}{place}: {message}\n{backtrace}")
    } else {
        format!("panic on thread {name}{place}: {message}")
    }
}

/// Logs, prints and aborts.
pub(super) fn fatal(message: &str) -> ! {
    // Straight to the descriptor: a test harness swallows what is printed.
    let _ = writeln!(std::io::stderr().lock(), "corelane: {message}");
    tracing::error!("{message}");
    std::process::abort();
}

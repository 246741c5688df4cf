//! Which runtime drives the shard that this thread runs. Private to the folder: every public function here is a
//! `match` over [`Runtime`], and this is the one place that knows how the arm is chosen.

use std::cell::RefCell;
use std::rc::Rc;
use std::sync::Arc;

use super::driver::Driver;
use super::group::Group;
use super::pulse::Pulse;
#[cfg(any(test, feature = "sim"))]
use super::sim;
use crate::model::ShardId;

/// The arm that serves the current thread.
#[derive(Clone)]
pub(super) enum Runtime {
    /// A glommio executor on real hardware.
    Glommio(Rc<Local>),
    /// A shard of the simulator; the simulator enters it before it polls one of the shard's tasks.
    #[cfg(any(test, feature = "sim"))]
    Virtual(Rc<sim::Shard>),
}

/// What a shard on glommio knows about itself.
pub(super) struct Local {
    pub(super) id: ShardId,
    pub(super) count: usize,
    pub(super) pulse: Arc<Pulse>,
    pub(super) driver: Rc<Driver>,
    pub(super) group: Arc<Group>,
}

thread_local! {
    static RUNTIME: RefCell<Option<Runtime>> = const { RefCell::new(None) };
}

/// Makes `runtime` the current thread's, and gives back the one before it.
pub(super) fn enter(runtime: Option<Runtime>) -> Option<Runtime> {
    RUNTIME.with(|current| current.replace(runtime))
}

/// Looks at the current thread's runtime; `None` outside of any shard.
pub(super) fn with<R>(look: impl FnOnce(Option<&Runtime>) -> R) -> R {
    RUNTIME.with(|current| look(current.borrow().as_ref()))
}

/// The current thread's runtime.
///
/// # Panics
/// Outside of any shard: a bug in the caller.
pub(super) fn current() -> Runtime {
    with(|runtime| runtime.cloned()).expect("called outside of a shard: only tasks of `reactor::run` may")
}

/// What the current thread's shard knows about itself, where it is one of the machine.
pub(super) fn local() -> Rc<Local> {
    match current() {
        Runtime::Glommio(local) => local,
        #[cfg(any(test, feature = "sim"))]
        Runtime::Virtual(_) => panic!("something of the machine is used on a virtual shard"),
    }
}

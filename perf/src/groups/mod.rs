//! Consumer groups without records: what members cost a broker by being there, and what a rebalance costs it.
//!
//! [`conduct`] is a run from its topic to its report. Its threads ([`worker`]) each have whole groups, a connection
//! ([`seat`]) for each member; a member ([`member`]) is a machine of the [`classic`] or the [`consumer`] protocol. The group
//! that `corelane bench consume --group` joins is another one: `group.rs`.

mod classic;
mod conduct;
mod consumer;
mod member;
mod options;
mod seat;
#[cfg(test)]
mod testing;
mod worker;

pub use conduct::run;
pub use options::Groups;

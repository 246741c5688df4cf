//! Cluster image and delta, controller decisions, config resolution: `handle(now, request) → records + replies`.

mod request;

pub use request::*;

/// The cluster as the committed metadata records describe it.
pub struct Image {
    _todo: (),
}

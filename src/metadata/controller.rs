//! The controller: decides what a request changes. Pure; lives on shard 0 of the node that leads the metadata log.

use super::image::Image;
use super::record::Record;
use super::{Reply, Request};

/// The controller's own settings, from the broker's configuration.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Settings {
    /// Kafka's `num.partitions`.
    pub num_partitions: i32,
    /// Kafka's `default.replication.factor`.
    pub default_replication_factor: i16,
    /// Kafka's `delete.topic.enable`.
    pub delete_topic_enable: bool,
    /// How many partitions one request may create.
    pub partitions_per_request_max: i32,
}

/// What the controller makes of a request.
#[derive(Clone, Debug)]
pub struct Decision {
    /// To be committed together, in this order. Empty: nothing changes, but the reply still waits until the records
    /// of every decision before it are committed.
    pub records: Vec<Record>,
    /// To be released when the records are committed.
    pub reply: Reply,
}

/// The cluster image with everything decided so far, committed or not.
pub struct Controller {
    settings: Settings,
    image: Image,
}

impl Controller {
    /// `image`: every committed record replayed.
    #[must_use]
    pub fn new(settings: Settings, image: Image) -> Controller {
        Controller { settings, image }
    }

    #[must_use]
    pub fn image(&self) -> &Image {
        &self.image
    }

    /// Decides, and advances the controller's own image by the records at once. If the records cannot be committed,
    /// this controller must be dropped and built again from the log. `random` gives 64 uniform bits a call.
    pub fn handle(&mut self, now_ms: i64, random: &mut dyn FnMut() -> u64, request: Request) -> Decision {
        let _ = (now_ms, random, request, &self.settings);
        unimplemented!()
    }
}

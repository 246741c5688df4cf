//! What this shard counts of its partitions, and the copy of everything it counts that a scrape takes.

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::ops::Bound;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use super::METADATA_PARTITION;
use super::activity::Activity;
use super::fetch::Plan;
use super::leader::Partition;
use super::message::ReadOutcome;
use super::shard::Shard;
use crate::metadata::Image;
use crate::metrics::snapshot::{self, PartitionCounters, Topic, nanoseconds};
use crate::metrics::{Gauge, Snapshot};
use crate::model::{PartitionId, TopicId};
use crate::reactor::{self, longest_stall, now, thread_cpu_time, turn};

/// Topics copied before the rest of the shard gets a turn: some 50 µs.
const TOPICS_IN_A_ROW: usize = 512;

/// Lives on its shard.
#[derive(Default)]
pub(super) struct Measures {
    pub(super) counters: PartitionCounters,
    pub(super) activity: Activity,
    pub(super) metadata: snapshot::Metadata,
    /// Partitions without a log.
    offline: Gauge,
    /// Of every topic that has a partition here or was sent to a connection of this shard. What a topic counts is
    /// added where it happens, so that a scrape costs by the topic and not by the partition.
    topics: RefCell<BTreeMap<TopicId, Rc<Topic>>>,
}

impl Measures {
    /// What a partition's topic counts here; of a topic that is not in the image, nobody asks.
    pub(super) fn topic_of(&self, partition: PartitionId, image: &Image, name: &str) -> Rc<Topic> {
        if partition == METADATA_PARTITION || image.topic(partition.topic).is_none() {
            return Rc::new(Topic::new(Arc::from(name)));
        }
        let mut topics = self.topics.borrow_mut();
        Rc::clone(topics.entry(partition.topic).or_insert_with(|| Rc::new(Topic::new(Arc::from(name)))))
    }

    /// The partition is served from now on.
    pub(super) fn comes(&self, partition: &Partition) {
        partition.topic.partitions.increment();
        partition.topic.stable_lag.replace(0, partition.stable_lag());
        if partition.log.is_none() {
            self.offline.increment();
        }
    }

    pub(super) fn leaves(&self, partition: &Partition) {
        partition.topic.partitions.decrement();
        partition.topic.stable_lag.replace(partition.stable_lag(), 0);
        if partition.log.is_none() {
            self.offline.decrement();
        }
    }

    /// The topic was deleted.
    pub(super) fn forget(&self, topic: TopicId) {
        self.topics.borrow_mut().remove(&topic);
    }
}

impl Shard {
    /// Where the host of the metadata log counts.
    pub fn metadata_metrics(&self) -> &snapshot::Metadata {
        &self.measures.metadata
    }

    /// A connection of this shard has produced a batch in another codec than its topic's.
    pub fn count_recompressed(&self) {
        self.measures.counters.recompressed_batches.increment();
    }

    /// Counts what a fetch of this shard's connection is given. Here, since only here it is known what is left of
    /// what the owners have read.
    pub(super) fn count_sent(&self, plan: &Plan, outcomes: &[ReadOutcome]) {
        let mut last: Option<(TopicId, Rc<Topic>)> = None;
        for (place, partition) in plan.partitions() {
            let outcome = &outcomes[place];
            if outcome.records_bytes == 0 {
                continue;
            }
            if last.as_ref().is_none_or(|(id, _)| *id != partition.topic) {
                let image = self.image.borrow();
                // deleted in the meantime
                let Some(topic) = image.topic(partition.topic) else { continue };
                last = Some((topic.id, self.measures.topic_of(partition, &image, &topic.name)));
            }
            let (_, topic) = last.as_ref().expect("set above");
            topic.count_sent(outcome.records_bytes, outcome.record_count);
        }
    }

    /// Everything that is counted on this shard, by the layers below and above too.
    pub(super) async fn measure(&self) -> Box<Snapshot> {
        let mut began = now();
        let mut spent = Duration::ZERO;
        let mut snapshot = Box::new(Snapshot {
            cpu: nanoseconds(thread_cpu_time()),
            longest_stall: nanoseconds(longest_stall()),
            scrape: 0,
            server: self.host().measure(),
            partitions: snapshot::Partitions {
                counters: self.measures.counters.clone(),
                open: self.partitions.borrow().len() as u64,
                offline: self.measures.offline.get(),
                waiting_fetches: self.waits.borrow().len() as u64,
                messages_sent: self.router.sent.get(),
                messages_received: self.router.received.get(),
                groups: self.measure_groups(),
                transactions: self.measure_transactions(),
            },
            metadata: self.measures.metadata.clone(),
            storage: self.storage().measure(),
            topics: Vec::with_capacity(self.measures.topics.borrow().len()),
        });
        let mut from = Bound::Unbounded;
        loop {
            let copied = snapshot.topics.len();
            for (id, topic) in
                self.measures.topics.borrow().range((from, Bound::Unbounded)).take(TOPICS_IN_A_ROW)
            {
                snapshot.topics.push(Topic::clone(topic));
                from = Bound::Excluded(*id);
            }
            spent += now().since(began);
            if snapshot.topics.len() < copied + TOPICS_IN_A_ROW {
                break;
            }
            turn().await;
            began = reactor::now();
        }
        snapshot.scrape = nanoseconds(spent);
        snapshot
    }
}

//! Committed metadata records on a shard: into its image, and into the partitions that they are about.
//!
//! What a decision costs is what it changes, not how many partitions there are. A decision of very many records is
//! taken in slices, so that the shard's other work goes on, but never a topic in part.

use std::collections::BTreeSet;
use std::rc::Rc;

use super::leader::Partition;
use super::local::log_config;
use super::shard::Shard;
use crate::metadata::{Image, Record, ResourceKind};
use crate::model::{ErrorCode, PartitionId, TopicId};
use crate::reactor;
use crate::storage::Log;

/// Records replayed before the rest of the shard gets a turn: some 200 µs.
const RECORDS_IN_A_ROW: usize = 512;

/// Folders of one decision that are removed side by side on one shard.
const DELETIONS_IN_FLIGHT: usize = 64;

/// What committed records leave to be done on a shard.
#[derive(Default)]
struct Left {
    /// Partitions of removed topics.
    removed: Vec<Rc<Partition>>,
    /// Logs whose durability was raised from written to flushed.
    to_flush: Vec<Log>,
    /// Names of removed topics, whose committed offsets go with them.
    removed_topics: Vec<String>,
    /// There are other topics or partitions than before.
    topics_changed: bool,
}

/// What a slice of records is about.
#[derive(Default)]
struct Touched {
    /// Partitions whose own state changed.
    partitions: BTreeSet<PartitionId>,
    /// Topics whose settings may have changed; `None`: all topics.
    settings: Option<BTreeSet<TopicId>>,
    removed: Vec<PartitionId>,
}

impl Shard {
    /// Returns when everything holds that these records promise: the settings are in force, what was acknowledged as
    /// written is flushed where the topic now says `flushed`, and the folders of removed topics are gone.
    pub(super) async fn replay(self: &Rc<Self>, records: &[Record]) {
        let mut left = Left::default();
        let mut rest = records;
        while !rest.is_empty() {
            let (slice, behind) = rest.split_at(slice_len(rest));
            self.replay_slice(slice, &mut left);
            rest = behind;
            if !rest.is_empty() {
                reactor::turn().await;
            }
        }
        self.tell_coordinators(&left).await;
        self.settle(left).await;
    }

    /// Before the removal is answered, or a new topic of the name could be read from where the old one was.
    async fn tell_coordinators(self: &Rc<Self>, left: &Left) {
        if !left.removed_topics.is_empty() {
            self.topics_removed(&left.removed_topics).await;
        }
        if left.topics_changed {
            self.topics_changed();
        }
    }

    fn replay_slice(&self, records: &[Record], left: &mut Left) {
        let names = self.names_of_removed(records);
        left.topics_changed |= !names.is_empty() || records.iter().any(is_of_a_new_partition);
        left.removed_topics.extend(names);
        let touched = self.take_into_image(records);
        for id in touched.removed {
            self.end_coordinator(id);
            let removed = self.partitions.borrow_mut().remove(&id);
            if let Some(partition) = removed {
                self.measures.leaves(&partition);
                left.removed.push(partition);
            }
        }
        for record in records {
            if let Record::RemoveTopic { id } = record {
                self.measures.forget(*id);
            }
        }
        let image = self.image.borrow();
        for id in touched.partitions {
            let (Some(state), Some(partition)) = (image.partition(id), self.local(id)) else { continue };
            let before = partition.leader_epoch.replace(state.leader_epoch);
            if let Some(log) = partition.log.as_ref().filter(|_| before != state.leader_epoch) {
                log.begin_epoch(state.leader_epoch);
            }
        }
        match touched.settings {
            Some(topics) => topics.into_iter().for_each(|id| self.configure(&image, id, &mut left.to_flush)),
            None => image.topics().for_each(|topic| self.configure(&image, topic.id, &mut left.to_flush)),
        }
        drop(image);
        if records.iter().any(is_of_a_broker) {
            self.host().reconfigured();
        }
    }

    fn names_of_removed(&self, records: &[Record]) -> Vec<String> {
        let image = self.image.borrow();
        let removed = records.iter().filter_map(|record| match record {
            Record::RemoveTopic { id } => Some(image.topic(*id)?.name.clone()),
            _ => None,
        });
        removed.collect()
    }

    fn take_into_image(&self, records: &[Record]) -> Touched {
        let mut image = self.image.borrow_mut();
        let mut touched = Touched { settings: Some(BTreeSet::new()), ..Touched::default() };
        for record in records {
            match record {
                Record::PartitionChange(change) => {
                    touched.partitions.insert(change.partition);
                }
                Record::RemoveTopic { id } => {
                    let count = image.topic(*id).map_or(0, |topic| topic.partitions.len());
                    let index = |index| i32::try_from(index).expect("a partition's index");
                    touched.removed.extend((0..count).map(|at| PartitionId { topic: *id, index: index(at) }));
                }
                _ if is_of_a_broker(record) => touched.settings = None,
                Record::Config { resource, .. } if resource.kind == ResourceKind::Topic => {
                    let topic = image.topic_by_name(&resource.name).map(|topic| topic.id);
                    if let Some(topics) = &mut touched.settings {
                        topics.extend(topic);
                    }
                }
                _ => {}
            }
        }
        image.replay_all(records).expect("the controller's own records follow from each other");
        touched
    }

    /// Has the topic's logs obey its settings.
    fn configure(&self, image: &Image, topic: TopicId, to_flush: &mut Vec<Log>) {
        let Some(topic) = image.topic(topic) else { return };
        for index in (0..).take(topic.partitions.len()) {
            let partition = self.local(PartitionId { topic: topic.id, index });
            let Some(log) = partition.as_ref().and_then(|partition| partition.log.as_ref()) else { continue };
            let was_flushed = log.is_flushed();
            log.set_config(log_config(topic));
            if log.is_flushed() && !was_flushed {
                to_flush.push(log.clone());
            }
        }
    }

    async fn settle(self: &Rc<Self>, left: Left) {
        // Side by side, so that they share commit rounds.
        let flushes: Vec<_> =
            (left.to_flush.into_iter()).map(|log| reactor::spawn(async move { log.flush().await })).collect();
        for flush in flushes {
            if let Err(error) = flush.await {
                tracing::error!(?error, "a log could not be flushed after its durability was raised");
            }
        }
        for partition in &left.removed {
            partition.fail_waiters(ErrorCode::UnknownTopicOrPartition);
            self.fail_parked(partition, ErrorCode::UnknownTopicOrPartition);
        }
        for few in left.removed.chunks(DELETIONS_IN_FLIGHT) {
            let deletions: Vec<_> = (few.iter())
                .map(|partition| {
                    let (shard, partition) = (Rc::clone(self), Rc::clone(partition));
                    reactor::spawn(async move { shard.delete_log(&partition).await })
                })
                .collect();
            for deletion in deletions {
                deletion.await;
            }
        }
    }

    async fn delete_log(&self, partition: &Partition) {
        let Some(log) = &partition.log else { return };
        if let Err(error) = self.storage().delete(log).await {
            tracing::error!(partition = ?partition.id, ?error, "could not delete a partition's folder; restart removes it");
        }
    }
}

fn is_of_a_new_partition(record: &Record) -> bool {
    matches!(record, Record::Topic { .. } | Record::Partition(_))
}

/// Whether the record sets what may change of a broker while it runs, and what topics inherit.
fn is_of_a_broker(record: &Record) -> bool {
    matches!(record, Record::Config { resource, .. } if resource.kind == ResourceKind::Broker)
}

/// How many records of the front are taken at once: about [`RECORDS_IN_A_ROW`], but a topic with all that belongs to it.
fn slice_len(records: &[Record]) -> usize {
    let belongs = |record: &Record| matches!(record, Record::Partition(_) | Record::Config { .. });
    let behind = records.iter().skip(RECORDS_IN_A_ROW).position(|record| !belongs(record));
    behind.map_or(records.len(), |place| RECORDS_IN_A_ROW + place)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::metadata::{ConfigResource, NewPartition};

    #[test]
    fn a_topic_is_taken_with_all_that_belongs_to_it() {
        let topic = || Record::Topic { name: "t".to_owned(), id: TopicId(5) };
        let config =
            || Record::Config { resource: ConfigResource::topic("t"), key: "k".to_owned(), value: None };
        let of_topic = |partitions: usize| {
            let partitions =
                std::iter::repeat_with(|| Record::Partition(NewPartition::default())).take(partitions);
            [topic(), config()].into_iter().chain(partitions)
        };
        let many: Vec<Record> = (0..10).flat_map(|_| of_topic(98)).collect();
        assert_eq!(slice_len(&many), 600, "six topics");
        assert_eq!(slice_len(&many[600..]), 400);
        let large: Vec<Record> = of_topic(5_000).chain(of_topic(1)).collect();
        assert_eq!(slice_len(&large), 5_002);
        assert_eq!(slice_len(&[]), 0);
    }
}

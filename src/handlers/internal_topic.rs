//! The coordinators' topics, made when somebody first needs them.

use std::rc::Rc;
use std::time::Duration;

use super::{Broker, control};
use crate::config::InternalTopic;
use crate::metadata::{OFFSETS_TOPIC, TRANSACTIONS_TOPIC};
use crate::model::{ErrorCode, PartitionId};

/// How long a client waits for a topic to be made, before it is told to ask again.
const CREATION_PATIENCE: Duration = Duration::from_secs(10);

impl Broker {
    /// Of a group. `None`: the topic could not be made; the log says why.
    pub(super) async fn offsets_partition(self: &Rc<Self>, group: &str) -> Option<PartitionId> {
        if self.shard.offsets_partition(group).is_none() {
            let settings = self.settings.config.offsets_topic;
            self.create_internal(OFFSETS_TOPIC, settings, &[("compression.type", "producer")]).await;
        }
        self.shard.offsets_partition(group)
    }

    /// Of a transactional id. `None`: the topic could not be made; the log says why.
    pub(super) async fn transactions_partition(self: &Rc<Self>, id: &str) -> Option<PartitionId> {
        if self.shard.transactions_partition(id).is_none() {
            let settings = self.settings.config.transactions_topic;
            let configs = [("compression.type", "uncompressed"), ("unclean.leader.election.enable", "false")];
            self.create_internal(TRANSACTIONS_TOPIC, settings, &configs).await;
        }
        self.shard.transactions_partition(id)
    }

    /// Compacted. Somebody else may have been faster.
    async fn create_internal(
        self: &Rc<Self>,
        name: &'static str,
        settings: InternalTopic,
        configs: &[(&str, &str)],
    ) {
        let brokers = i16::try_from(self.shard.image().brokers().count()).unwrap_or(i16::MAX);
        let replication_factor = settings.replication_factor.min(brokers);
        let segment_bytes = settings.segment_bytes.to_string();
        let in_sync =
            settings.min_insync_replicas.map(|least| least.min(replication_factor.into()).to_string());
        let in_sync = in_sync.as_deref().map(|least| ("min.insync.replicas", least));
        let common = [("cleanup.policy", "compact"), ("segment.bytes", &segment_bytes)];
        let config = |(key, value): &(&str, &str)| ((*key).to_owned(), Some((*value).to_owned()));
        let topic = control::CreateTopic {
            name: name.to_owned(),
            partitions: Some(settings.partitions),
            replication_factor: Some(replication_factor),
            assignments: Vec::new(),
            configs: common.iter().chain(&in_sync).chain(configs).map(config).collect(),
        };
        let request = control::Request::CreateTopics { topics: vec![topic], validate_only: false };
        match self.control(request, CREATION_PATIENCE).await {
            Some(control::Reply::Topics(results)) => {
                for result in results {
                    if !matches!(result.error, ErrorCode::None | ErrorCode::TopicAlreadyExists) {
                        tracing::error!(error = ?result.error, message = result.message, "cannot make {name}");
                    }
                }
            }
            Some(control::Reply::Failed(error)) => tracing::error!(?error, "cannot make {name}"),
            Some(_) => unreachable!("a request about topics is answered with topics"),
            None => tracing::warn!("{name} is still being made"),
        }
    }
}

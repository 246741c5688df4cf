//! From locked directories to a node whose every partition is open.

use std::collections::HashSet;
use std::rc::Rc;
use std::sync::Arc;

use super::controller_host::{ControllerHost, Loop};
use super::directories::METADATA_FOLDER;
use super::quorum::{Place, Quorum, SnapshotSettings, TOPIC_NAME};
use crate::metadata::{Controller, Endpoint, Image, Record, Reply, Request, Settings};
use crate::model::{BrokerId, DirectoryId, PartitionId, TopicId};
use crate::partition::{RelocatePartition, Shard, ShardRequest};
use crate::reactor;
use crate::storage::{Create, Inventory, LogDir};

/// What shard 0 needs to bring the node up.
pub struct Boot {
    pub shard_count: usize,
    /// Empty, with this node's cluster id and defaults.
    pub image: Image,
    pub settings: Settings,
    pub log_dirs: Vec<LogDir>,
    /// The first log directory has never served.
    pub fresh: bool,
    /// Where clients reach this broker.
    pub endpoints: Vec<Endpoint>,
    pub rack: Option<String>,
    /// When the metadata log is shortened.
    pub snapshots: SnapshotSettings,
}

/// A node whose logs are open.
pub struct Booted {
    pub controller: ControllerHost,
    /// Moves between log directories that the last stop has cut off: to be asked for again.
    pub moves: Vec<RelocatePartition>,
}

/// Replays the metadata log on every shard, registers this start of the broker (which raises the leader epochs of
/// what it leads), and opens every log. `identify` is called once a fresh node's metadata log is durable.
pub async fn boot(
    shard: &Rc<Shard>,
    boot: Boot,
    identify: impl FnOnce() -> Result<(), String>,
) -> Result<Booted, String> {
    shard.storage().replay_journals().await?;
    let create = if boot.fresh { Create::IfMissing } else { Create::Never };
    let first = &boot.log_dirs[0];
    let place = Place {
        directory: first.id,
        folder: first.path.join(METADATA_FOLDER),
        create,
        snapshots: boot.snapshots,
    };
    let (quorum, records) = Quorum::open(shard, place).await?;
    if boot.fresh {
        identify()?;
    }
    let mut image = boot.image;
    let mut deleted = HashSet::new();
    for record in &records {
        if let Record::RemoveTopic { id } = record {
            deleted.insert(*id);
        }
    }
    image
        .replay_all(&records)
        .map_err(|error| format!("the metadata log contradicts itself: {}", error.0))?;
    let mut state = Loop {
        shard: Rc::clone(shard),
        shard_count: boot.shard_count,
        quorum,
        controller: Controller::new(boot.settings, image),
        log_dirs: boot.log_dirs,
    };
    state.broadcast(ShardRequest::Replay, Arc::new(records)).await;
    let register = Request::RegisterBroker {
        broker: shard.broker(),
        endpoints: boot.endpoints,
        rack: boot.rack,
        incarnation: u128::from(reactor::random_u64()) << 64 | u128::from(reactor::random_u64()),
    };
    if let Reply::Failed(error) = state.handle(register).await {
        return Err(format!("the controller refused this broker's registration: {error:?}"));
    }
    let inventory = KnownFolders { image: state.image(), broker: shard.broker(), deleted };
    let moves = shard.storage().finish_relocations(&inventory).await;
    shard.storage().set_strays_aside(&inventory).await;
    let clean = state.log_dirs.iter().all(|directory| directory.clean);
    let placed = state.place_all();
    let count = placed.len();
    let started = reactor::now();
    let failed = state.open(placed).await;
    tracing::info!(
        partitions = count,
        offline = failed.len(),
        after_clean_stop = clean,
        seconds = reactor::now().since(started).as_secs_f64(),
        "opened the logs"
    );
    let moves = moves.into_iter().map(|(partition, directory)| RelocatePartition { partition, directory });
    Ok(Booted { controller: ControllerHost::start(state), moves: moves.collect() })
}

/// Which folders this node's log directories should have.
struct KnownFolders<'a> {
    image: &'a Image,
    broker: BrokerId,
    deleted: HashSet<TopicId>,
}

impl Inventory for KnownFolders<'_> {
    fn directory_of(&self, topic: &str, partition: i32) -> Option<DirectoryId> {
        if topic == TOPIC_NAME {
            // wherever it is, it stays
            return Some(DirectoryId::UNASSIGNED);
        }
        let topic = self.image.topic_by_name(topic)?.id;
        self.image.partition(PartitionId { topic, index: partition })?.directory_of(self.broker)
    }

    fn name(&self, topic: TopicId) -> Option<String> {
        self.image.topic(topic).map(|topic| topic.name.clone())
    }

    fn is_deleted(&self, topic: TopicId) -> bool {
        self.deleted.contains(&topic)
    }
}

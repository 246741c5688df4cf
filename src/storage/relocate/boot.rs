//! Copies of logs that a start finds: which are wanted, which count, which may go. The metadata says.

use std::path::Path;
use std::rc::Rc;

use crate::log::checkpoint::decode_partition_metadata;
use crate::log::files::{
    FileKind, FileState, FolderState, PARTITION_METADATA, SegmentFile, folder_name, parse_folder,
};
use crate::model::{DirectoryId, PartitionId, TopicId};
use crate::reactor::fs;
use crate::storage::directory::Directory;
use crate::storage::shard::Shard;
use crate::storage::strays::Inventory;

/// See [`Storage::finish_relocations`](crate::storage::Storage::finish_relocations).
pub async fn finish(shard: &Rc<Shard>, inventory: &dyn Inventory) -> Vec<(PartitionId, DirectoryId)> {
    let mut wanted = Vec::new();
    for directory in shard.directories.values() {
        for entry in fs::list(&directory.path).await.unwrap_or_default() {
            let parsed = parse_folder(&entry.name).filter(|parsed| parsed.state == FolderState::Future);
            let Some(index) = parsed.map(|parsed| parsed.partition).filter(|_| entry.is_dir) else {
                continue;
            };
            let folder = directory.path.join(&entry.name);
            let topic = topic_of(&folder).await;
            let name = topic.and_then(|topic| inventory.name(topic));
            let recorded = name.as_deref().and_then(|name| inventory.directory_of(name, index));
            match (topic, name, recorded) {
                (Some(topic), Some(name), Some(recorded)) if recorded == directory.id => {
                    let partition = PartitionId { topic, index };
                    arrive(directory, &folder, &folder_name(&name, index), partition).await;
                }
                (Some(topic), _, Some(recorded)) if recorded != DirectoryId::UNASSIGNED => {
                    wanted.push((PartitionId { topic, index }, directory.id));
                }
                // of a deleted topic, or not even begun
                _ => remove(&folder).await,
            }
        }
    }
    wanted
}

/// The copy counts: it gets its name, unless it has got it before and this is what is left of another one.
async fn arrive(directory: &Directory, folder: &Path, name: &str, partition: PartitionId) {
    let arrived = directory.path.join(name);
    if is_log(&arrived, Some(partition.topic)).await || !is_log(folder, Some(partition.topic)).await {
        return remove(folder).await;
    }
    let renamed = async {
        fs::rename(folder, &arrived).await?;
        fs::sync_dir(&directory.path).await
    };
    match renamed.await {
        Ok(()) => tracing::info!(
            folder = %arrived.display(),
            "the log's move to another log directory was cut off by the last stop when all of it was there: it is ended"
        ),
        Err(error) => tracing::error!(
            folder = %folder.display(), %error,
            "cannot rename the folder of a log that has moved: the partition is offline; rename the folder to {name}"
        ),
    }
}

async fn remove(folder: &Path) {
    if let Err(error) = fs::remove_dir_all(folder).await {
        tracing::warn!(folder = %folder.display(), %error, "cannot remove a copy that is not wanted any more");
    }
}

/// Whose the folder says that it is.
pub async fn topic_of(folder: &Path) -> Option<TopicId> {
    let metadata = fs::read(&folder.join(PARTITION_METADATA)).await.ok()?;
    decode_partition_metadata(&String::from_utf8_lossy(&metadata)).ok()
}

/// Whether the topic's log is there.
pub async fn is_log(folder: &Path, topic: Option<TopicId>) -> bool {
    let is_segment = |name: &str| {
        let file = SegmentFile::parse(name);
        file.is_some_and(|file| file.kind == FileKind::Log && file.state == FileState::Live)
    };
    topic.is_some()
        && topic_of(folder).await == topic
        && fs::list(folder).await.is_ok_and(|entries| entries.iter().any(|entry| is_segment(&entry.name)))
}

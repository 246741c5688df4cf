//! Folders that metadata gives no partition of this node: what a crash left of a deletion, or what somebody put there.

use std::rc::Rc;

use super::shard::Shard;
use super::stop;
use crate::log::checkpoint::decode_partition_metadata;
use crate::log::files::{Folder, FolderState, PARTITION_METADATA, parse_folder};
use crate::model::{DirectoryId, TopicId};
use crate::reactor::fs;

/// What metadata knows of a folder.
pub trait Inventory {
    /// The partition of that name is this node's, in that directory (or in one still to be chosen).
    fn has(&self, directory: DirectoryId, topic: &str, partition: i32) -> bool;
    /// The topic was deleted: its folders may go.
    fn is_deleted(&self, topic: TopicId) -> bool;
}

/// See [`Storage::set_strays_aside`](super::Storage::set_strays_aside).
pub async fn set_aside(shard: &Rc<Shard>, inventory: &dyn Inventory) {
    for directory in shard.directories.values() {
        for entry in fs::list(&directory.path).await.unwrap_or_default() {
            let Some(Folder { topic, partition, state: FolderState::Live }) = parse_folder(&entry.name)
            else {
                continue;
            };
            if !entry.is_dir || inventory.has(directory.id, &topic, partition) {
                continue;
            }
            let folder = directory.path.join(&entry.name);
            let metadata = fs::read(&folder.join(PARTITION_METADATA)).await.unwrap_or_default();
            let id = decode_partition_metadata(&String::from_utf8_lossy(&metadata)).ok();
            let state = match id {
                Some(id) if inventory.is_deleted(id) => FolderState::Delete,
                _ => FolderState::Stray,
            };
            match stop::set_aside(shard, directory, &folder, &topic, partition, state).await {
                Ok(_) if state == FolderState::Delete => {
                    tracing::info!(folder = %folder.display(), "the topic was deleted before the last stop: removing its folder");
                }
                Ok(renamed) => tracing::warn!(
                    folder = %folder.display(),
                    renamed = %renamed.display(),
                    "metadata knows no such partition here: set aside; remove the folder if nobody misses it"
                ),
                Err(error) => {
                    tracing::warn!(folder = %folder.display(), %error, "cannot rename a stray folder");
                }
            }
        }
    }
}

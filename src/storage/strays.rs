//! Folders that metadata gives no partition of this node: what a crash left of a deletion, or what somebody put there.

use std::rc::Rc;

use super::shard::Shard;
use super::{relocate, stop};
use crate::log::files::{Folder, FolderState, parse_folder};
use crate::model::{DirectoryId, TopicId};
use crate::reactor::fs;

/// What metadata knows of this node's folders.
pub trait Inventory {
    /// In which directory the partition of that name is; [`DirectoryId::UNASSIGNED`] in one still to be chosen.
    fn directory_of(&self, topic: &str, partition: i32) -> Option<DirectoryId>;
    /// The name of a topic.
    fn name(&self, topic: TopicId) -> Option<String>;
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
            let recorded = inventory.directory_of(&topic, partition);
            let is_here = recorded.is_some_and(|id| id == directory.id || id == DirectoryId::UNASSIGNED);
            if !entry.is_dir || is_here {
                continue;
            }
            let folder = directory.path.join(&entry.name);
            let id = relocate::boot::topic_of(&folder).await;
            let (is_deleted, counts) = (
                id.is_some_and(|id| inventory.is_deleted(id)),
                recorded.and_then(|id| shard.directories.get(&id)),
            );
            // what it was copied to is there
            let has_moved = match counts {
                Some(counts) => relocate::boot::is_log(&counts.path.join(&entry.name), id).await,
                None => false,
            };
            let state = if is_deleted || has_moved { FolderState::Delete } else { FolderState::Stray };
            match stop::set_aside(shard, directory, &folder, &topic, partition, state).await {
                Ok(_) if has_moved => tracing::info!(
                    folder = %folder.display(), "the log has moved to another log directory: removing its old folder"
                ),
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

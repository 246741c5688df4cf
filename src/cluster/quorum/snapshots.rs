//! The files beside the metadata log's segments: snapshots, and `quorum-state`.

use std::io;
use std::path::{Path, PathBuf};

use super::log::MetadataLog;
use super::state::QuorumState;
use crate::metadata::snapshot::{self, SnapshotHeader, Writer};
use crate::metadata::{Image, Record};
use crate::model::Offset;
use crate::reactor::{self, fs};

/// Records encoded before the rest of the shard gets a turn: some 100 µs.
const RECORDS_IN_A_ROW: usize = 512;

/// So many stay: each stands in for the one behind it, should that be damaged.
const KEPT: usize = 2;

pub(super) struct Snapshots {
    folder: PathBuf,
}

impl Snapshots {
    pub fn new(folder: PathBuf) -> Snapshots {
        Snapshots { folder }
    }

    /// The newest that is whole. Damaged ones are set aside.
    pub async fn newest(&self) -> Result<Option<(SnapshotHeader, Vec<Record>)>, String> {
        let names = self.names().await.map_err(|error| self.failed(&error))?;
        for (_, name) in names.iter().rev() {
            let path = self.folder.join(name);
            let file = fs::read(&path).await.map_err(|error| format!("{}: {error}", path.display()))?;
            match snapshot::decode(&file) {
                Ok(found) => return Ok(Some(found)),
                Err(error) => {
                    tracing::error!(
                        path = %path.display(), error,
                        "a snapshot of the metadata is damaged and set aside: the one before it and the log stand in for it"
                    );
                    let aside = self.folder.join(format!("{name}.damaged"));
                    fs::rename(&path, &aside)
                        .await
                        .map_err(|error| format!("{}: {error}", path.display()))?;
                }
            }
        }
        Ok(None)
    }

    /// Gives the file's size in bytes.
    pub async fn write(&self, header: &SnapshotHeader, image: &Image) -> Result<u64, String> {
        let mut writer = Writer::new(header, reactor::wall_clock_ms());
        let mut records = image.node_records();
        for topic in image.topics() {
            image.push_topic_records(topic, &mut records);
            if records.len() >= RECORDS_IN_A_ROW {
                push_all(&mut writer, &mut records).await;
            }
        }
        push_all(&mut writer, &mut records).await;
        let file = writer.finish();
        let bytes = file.len() as u64;
        let path = self.folder.join(snapshot::file_name(header));
        fs::write_durable(&path, file).await.map_err(|error| format!("{}: {error}", path.display()))?;
        Ok(bytes)
    }

    /// Takes away what is not needed any more: all snapshots but the newest, and the log in front of the oldest of these.
    pub async fn prune(&self, log: &MetadataLog) -> Result<(), String> {
        let names = self.names().await.map_err(|error| self.failed(&error))?;
        let Some(first_kept) = names.len().checked_sub(KEPT) else { return Ok(()) };
        let (gone, kept) = names.split_at(first_kept);
        let oldest = kept[0].0;
        if oldest > log.start() {
            log.forget_before(oldest).await?;
        }
        for (_, name) in gone {
            let path = self.folder.join(name);
            fs::remove_file(&path).await.map_err(|error| format!("{}: {error}", path.display()))?;
        }
        Ok(())
    }

    /// Oldest first.
    async fn names(&self) -> io::Result<Vec<(Offset, String)>> {
        let entries = fs::list(&self.folder).await?;
        let mut names: Vec<_> = (entries.into_iter())
            .filter_map(|entry| Some((snapshot::parse_file_name(&entry.name)?.0, entry.name)))
            .collect();
        names.sort();
        Ok(names)
    }

    fn failed(&self, error: &io::Error) -> String {
        format!("{}: {error}", self.folder.display())
    }
}

async fn push_all(writer: &mut Writer, records: &mut Vec<Record>) {
    for few in records.chunks(RECORDS_IN_A_ROW) {
        writer.push(few);
        reactor::turn().await;
    }
    records.clear();
}

/// `None` if there is no such file.
pub(super) async fn read_state(path: &Path) -> Result<Option<QuorumState>, String> {
    let text = match fs::read(path).await {
        Ok(bytes) => String::from_utf8_lossy(&bytes).into_owned(),
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(format!("{}: {error}", path.display())),
    };
    let state = QuorumState::decode(&text);
    let hint = "remove the file: while this node is the only voter, the metadata log has all it says";
    state.map(Some).map_err(|error| format!("{} is damaged ({error}): {hint}", path.display()))
}

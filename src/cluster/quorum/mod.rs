//! The quorum that commits metadata: the `raft` crate (TiKV's engine, pure), driven by this node. Today it is this node
//! alone, a quorum of one, on the path that several will take: propose, persist, commit, snapshot, restart.
//!
//! On disk, in the metadata log's folder: the entries ([`log`]), the node's promises in elections ([`state`]), and
//! snapshots ([`crate::metadata::snapshot`]). A start reads the newest snapshot and the entries behind it, is elected (a
//! new term) and commits them.
//!
//! Invariants:
//! * Term and vote are durable before an entry of that term is.
//! * A snapshot is durable before the entries that it stands for go, and those go only when a second one stands for
//!   them, too: if the newest is damaged, the one before it and the log have everything.

mod diagnostics;
mod entries;
mod log;
mod snapshots;
mod state;

use std::path::PathBuf;
use std::rc::Rc;
use std::time::Duration;

use raft::eraftpb::{ConfState, Entry, HardState};
use raft::{Config, RawNode, Storage as _};

use self::entries::{Base, Entries};
use self::log::MetadataLog;
pub(super) use self::log::TOPIC_NAME;
use self::snapshots::Snapshots;
use self::state::QuorumState;
use crate::metadata::batch::{decode_data, encode_data};
use crate::metadata::snapshot::SnapshotHeader;
use crate::metadata::{Image, Record};
use crate::model::{BrokerId, DirectoryId, Offset};
use crate::partition::Shard;
use crate::reactor::{self, Instant};
use crate::storage::Create;

/// Of the engine's clock, which a quorum of one does not need.
const HEARTBEAT_TICKS: usize = 1;
const ELECTION_TICKS: usize = 10;

/// Where the metadata log is, and when it is shortened.
pub(super) struct Place {
    pub directory: DirectoryId,
    /// The metadata log's folder.
    pub folder: PathBuf,
    pub create: Create,
    pub snapshots: SnapshotSettings,
}

/// When a snapshot is taken: at the first change after so much.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SnapshotSettings {
    /// metadata.log.max.record.bytes.between.snapshots
    pub after_bytes: u64,
    /// metadata.log.max.snapshot.interval.ms; `None`: bytes alone count.
    pub after: Option<Duration>,
}

pub(super) struct Quorum {
    node: RawNode<Entries>,
    log: MetadataLog,
    snapshots: Snapshots,
    settings: SnapshotSettings,
    broker: BrokerId,
    voters: Vec<BrokerId>,
    state_file: PathBuf,
    /// Of the changes that no snapshot has; not of those that one could not be written for.
    bytes_since_snapshot: u64,
    last_snapshot: Instant,
}

impl Quorum {
    /// Opens the log, is elected, and gives every record that is committed.
    ///
    /// # Errors
    /// What an operator can do something about.
    pub async fn open(shard: &Rc<Shard>, place: Place) -> Result<(Quorum, Vec<Record>), String> {
        let broker = shard.broker();
        let log =
            MetadataLog::open(shard, place.directory, place.create, place.snapshots.after_bytes).await?;
        let state_file = place.folder.join(state::FILE);
        let promised = snapshots::read_state(&state_file).await?;
        let snapshots = Snapshots::new(place.folder);
        let snapshot = snapshots.newest().await?;
        let (header, mut records) =
            snapshot.map_or((None, Vec::new()), |(header, records)| (Some(header), records));
        let base = header.as_ref().map_or(Base::default(), |header| Base {
            index: header.index,
            term: header.term,
            end: header.end,
        });
        let stored = log.read(base.end).await?;
        let last_term = stored.last().map_or(base.term, |entry| entry.term);
        // Logs from before there were elections have no such file; one voter needs none, either.
        let promised = promised.unwrap_or_else(|| QuorumState {
            term: last_term,
            vote: None,
            voters: header.map_or_else(|| vec![broker], |header| header.voters),
        });
        if promised.voters != [broker] {
            return Err(format!(
                "{}: its voters are {:?}, and this version runs with this node ({}) as the only one: start the newer version that wrote it",
                state_file.display(),
                promised.voters.iter().map(|voter| voter.0).collect::<Vec<_>>(),
                broker.0
            ));
        }
        let hard_state = HardState {
            term: promised.term.max(last_term),
            vote: promised.vote.map_or(0, raft_id),
            commit: base.index,
            ..HardState::default()
        };
        let voters = ConfState { voters: vec![raft_id(broker)], ..ConfState::default() };
        let mut entries = Entries::new(hard_state, voters, base);
        let mut bytes_since_snapshot = 0;
        for (index, entry) in (base.index + 1..).zip(stored) {
            bytes_since_snapshot += entry.data.len() as u64;
            let raft_entry = Entry { index, term: entry.term, data: entry.data.into(), ..Entry::default() };
            entries.push(raft_entry, entry.end);
        }
        let config = Config {
            id: raft_id(broker),
            applied: base.index,
            heartbeat_tick: HEARTBEAT_TICKS,
            election_tick: ELECTION_TICKS,
            max_size_per_msg: u64::MAX,
            ..Config::default()
        };
        let node = RawNode::new(&config, entries, &diagnostics::logger()).map_err(|error| cannot(&error))?;
        let mut quorum = Quorum {
            node,
            log,
            snapshots,
            settings: place.snapshots,
            broker,
            voters: promised.voters,
            state_file,
            bytes_since_snapshot,
            last_snapshot: reactor::now(),
        };
        quorum.node.campaign().map_err(|error| cannot(&error))?;
        for entry in quorum.drive().await? {
            decode_data(&entry.data, &mut records).map_err(|error| {
                format!(
                    "the metadata log's entry {} is damaged ({error}): restore {TOPIC_NAME}-0 from a backup",
                    entry.index
                )
            })?;
        }
        quorum.measure();
        Ok((quorum, records))
    }

    /// Returns when the records of one decision are committed.
    ///
    /// # Errors
    /// They may be, or not: the node can promise nothing any more.
    pub async fn commit(&mut self, records: &[Record]) -> Result<(), String> {
        let begun = reactor::now();
        let data = encode_data(records);
        self.bytes_since_snapshot += data.len() as u64;
        self.node.propose(Vec::new(), data).map_err(|error| cannot(&error))?;
        let proposed = self.node.raft.raft_log.last_index();
        let committed = self.drive().await?;
        let last = committed.last().map(|entry| entry.index);
        assert_eq!(last, Some(proposed), "a quorum of one commits what it proposes");
        self.log.metrics().commits.record(reactor::now().since(begun));
        self.measure();
        Ok(())
    }

    /// Has the gauges say how it stands.
    fn measure(&self) {
        let (metrics, raft) = (self.log.metrics(), &self.node.raft);
        let end = self.node.store().point(raft.raft_log.committed).map_or(Offset::ZERO, |point| point.end);
        metrics.term.set(raft.term);
        metrics.start_offset.set(unsigned(self.log.start()));
        metrics.end_offset.set(unsigned(end));
        metrics.snapshot_end_offset.set(unsigned(self.node.store().base().end));
        metrics.bytes_since_snapshot.set(self.bytes_since_snapshot);
    }

    /// Does what the engine wants done until it wants nothing; gives the entries that are committed by then.
    async fn drive(&mut self) -> Result<Vec<Entry>, String> {
        let mut committed = Vec::new();
        while self.node.has_ready() {
            let mut ready = self.node.ready();
            committed.extend(ready.take_committed_entries());
            if let Some(hard_state) = ready.hs().cloned() {
                // How far it is committed can be seen from the log.
                if ready.must_sync() {
                    self.promise(&hard_state).await?;
                }
                self.node.mut_store().set_hard_state(hard_state);
            }
            let entries = ready.take_entries();
            let appended = self.log.append(&entries, reactor::wall_clock_ms()).await;
            let ends = appended.map_err(|error| format!("{error:?}"))?;
            for (entry, end) in entries.into_iter().zip(ends) {
                self.node.mut_store().push(entry, end);
            }
            let mut light = self.node.advance(ready);
            if let Some(commit) = light.commit_index() {
                self.node.mut_store().set_commit(commit);
            }
            committed.extend(light.take_committed_entries());
            self.node.advance_apply();
        }
        Ok(committed)
    }

    /// Makes term and vote durable, if they are news.
    async fn promise(&self, hard_state: &HardState) -> Result<(), String> {
        let known = self.node.store().initial_state().map_err(|error| cannot(&error))?.hard_state;
        if (known.term, known.vote) == (hard_state.term, hard_state.vote) {
            return Ok(());
        }
        let vote = (hard_state.vote == raft_id(self.broker)).then_some(self.broker);
        let state = QuorumState { term: hard_state.term, vote, voters: self.voters.clone() };
        let written = reactor::fs::write_durable(&self.state_file, state.encode().into_bytes()).await;
        written.map_err(|error| format!("{}: {error}", self.state_file.display()))
    }

    #[must_use]
    pub fn wants_snapshot(&self) -> bool {
        let SnapshotSettings { after_bytes, after } = self.settings;
        let is_time = || after.is_some_and(|after| reactor::now().since(self.last_snapshot) >= after);
        self.bytes_since_snapshot >= after_bytes || (self.bytes_since_snapshot > 0 && is_time())
    }

    /// Writes what is committed as a snapshot. `image` is what it adds up to. If that fails, the log keeps it all, and
    /// it is tried again when as much has been added.
    pub async fn take_snapshot(&mut self, image: &Image) {
        self.bytes_since_snapshot = 0;
        self.last_snapshot = reactor::now();
        let Some(base) = self.node.store().point(self.node.raft.raft_log.committed) else { return };
        let header = SnapshotHeader {
            index: base.index,
            term: base.term,
            end: base.end,
            voters: self.voters.clone(),
            records: image.record_count() as u64,
        };
        match self.snapshots.write(&header, image).await {
            Ok(bytes) => {
                self.log.metrics().snapshots.increment();
                self.node.mut_store().compact(base);
                tracing::info!(end = %base.end, records = header.records, bytes, "wrote a snapshot of the metadata");
                if let Err(error) = self.snapshots.prune(&self.log).await {
                    tracing::warn!(error, "the metadata log keeps what its snapshots stand for");
                }
            }
            Err(error) => {
                self.log.metrics().failed_snapshots.increment();
                tracing::warn!(error, "no snapshot of the metadata: the log keeps everything");
            }
        }
        self.measure();
    }
}

/// The engine's ids begin at 1.
fn raft_id(broker: BrokerId) -> u64 {
    u64::try_from(broker.0).expect("node ids are not negative") + 1
}

fn unsigned(offset: Offset) -> u64 {
    u64::try_from(offset.0).unwrap_or(0)
}

fn cannot(error: &raft::Error) -> String {
    format!("the metadata quorum cannot go on: {error}")
}

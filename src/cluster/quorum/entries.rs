//! What the `raft` crate asks of its storage, answered from memory: the entries behind the last snapshot. They are as
//! many as lie between two snapshots, which a setting bounds; that they are durable is [`super::Quorum`]'s.

use raft::eraftpb::{ConfState, Entry, HardState, Snapshot};
use raft::{GetEntriesContext, RaftState, Result, Storage, StorageError, util};

use crate::model::Offset;

/// The point up to which entries are in a snapshot.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Base {
    pub index: u64,
    pub term: u64,
    /// The log's offset behind it.
    pub end: Offset,
}

pub(super) struct Entries {
    hard_state: HardState,
    voters: ConfState,
    base: Base,
    /// The first has the index `base.index + 1`, and each that of the one before it and one.
    entries: Vec<Entry>,
    /// The log's offset behind each.
    ends: Vec<Offset>,
}

impl Entries {
    pub fn new(hard_state: HardState, voters: ConfState, base: Base) -> Entries {
        Entries { hard_state, voters, base, entries: Vec::new(), ends: Vec::new() }
    }

    pub fn base(&self) -> Base {
        self.base
    }

    fn end_index(&self) -> u64 {
        self.base.index + self.entries.len() as u64
    }

    /// # Panics
    /// If it is not the next one: a quorum of one has no entries that contradict its log.
    pub fn push(&mut self, entry: Entry, end: Offset) {
        assert_eq!(entry.index, self.end_index() + 1, "entries follow each other");
        self.entries.push(entry);
        self.ends.push(end);
    }

    pub fn set_hard_state(&mut self, hard_state: HardState) {
        self.hard_state = hard_state;
    }

    pub fn set_commit(&mut self, index: u64) {
        self.hard_state.commit = index;
    }

    /// Where an entry ends that is here, or the base.
    pub fn point(&self, index: u64) -> Option<Base> {
        if index == self.base.index {
            return Some(self.base);
        }
        let place = self.place(index)?;
        Some(Base { index, term: self.entries[place].term, end: self.ends[place] })
    }

    /// Drops the entries up to `base`: they are in a snapshot.
    pub fn compact(&mut self, base: Base) {
        let gone = usize::try_from(base.index - self.base.index).expect("entries in memory");
        self.entries.drain(..gone);
        self.ends.drain(..gone);
        self.base = base;
    }

    fn place(&self, index: u64) -> Option<usize> {
        let place = usize::try_from(index.checked_sub(self.base.index + 1)?).ok()?;
        (place < self.entries.len()).then_some(place)
    }
}

impl Storage for Entries {
    fn initial_state(&self) -> Result<RaftState> {
        Ok(RaftState::new(self.hard_state.clone(), self.voters.clone()))
    }

    fn entries(
        &self,
        low: u64,
        high: u64,
        max_size: impl Into<Option<u64>>,
        _context: GetEntriesContext,
    ) -> Result<Vec<Entry>> {
        if low <= self.base.index {
            return Err(StorageError::Compacted.into());
        }
        let missing = || raft::Error::from(StorageError::Unavailable);
        let first = self.place(low).ok_or_else(missing)?;
        let last = self.place(high - 1).ok_or_else(missing)?;
        let mut entries = self.entries[first..=last].to_vec();
        util::limit_size(&mut entries, max_size.into());
        Ok(entries)
    }

    fn term(&self, index: u64) -> Result<u64> {
        let unknown =
            if index < self.base.index { StorageError::Compacted } else { StorageError::Unavailable };
        Ok(self.point(index).ok_or(unknown)?.term)
    }

    fn first_index(&self) -> Result<u64> {
        Ok(self.base.index + 1)
    }

    fn last_index(&self) -> Result<u64> {
        Ok(self.end_index())
    }

    /// For a follower that has fallen behind; a quorum of one has none.
    fn snapshot(&self, _request_index: u64, _to: u64) -> Result<Snapshot> {
        Err(StorageError::SnapshotTemporarilyUnavailable.into())
    }
}

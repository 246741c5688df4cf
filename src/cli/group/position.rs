//! Where groups stand: what they have committed and what they read, beside where the logs begin and end.

use std::collections::{BTreeMap, BTreeSet};

use super::committed::Committed;
use super::described::Group;
use crate::cli::client::{Client, EARLIEST, Error, LATEST, TopicPartition};

/// One partition of a group.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Position {
    pub(super) committed: Option<Committed>,
    /// The first offset of the log, where it was asked for and there is a leader to say it.
    pub(super) start: Option<i64>,
    /// The offset that the next record gets.
    pub(super) end: Option<i64>,
    /// Which of the group's members reads it.
    pub(super) member: Option<usize>,
}

impl Position {
    /// Records to be read, as Kafka's tools count them; below 0 where the log ends before what is committed, as that of
    /// a topic that was deleted and made anew. `None`: nothing is committed, or the log's end is unknown.
    pub(super) fn lag(&self) -> Option<i64> {
        Some(self.end?.saturating_sub(self.committed.as_ref()?.offset))
    }
}

pub(super) type Positions = BTreeMap<TopicPartition, Position>;

/// Every partition that is committed or that a member reads; what is known of the logs is put in by [`look_at_logs`].
pub(super) fn positions(group: &Group, committed: BTreeMap<TopicPartition, Committed>) -> Positions {
    let mut positions = Positions::new();
    for (of, committed) in committed {
        positions.entry(of).or_default().committed = Some(committed);
    }
    for (index, member) in group.members.iter().enumerate() {
        for (topic, partitions) in &member.assigned {
            for &partition in partitions {
                positions.entry(TopicPartition::new(topic, partition)).or_default().member = Some(index);
            }
        }
    }
    positions
}

/// What is wanted of logs.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Logs {
    Ends,
    StartsAndEnds,
}

/// Of all these groups' partitions at once.
pub(super) fn look_at_logs(client: &mut Client, all: &mut [&mut Positions], logs: Logs) -> Result<(), Error> {
    let wanted: BTreeSet<TopicPartition> = all.iter().flat_map(|one| one.keys().cloned()).collect();
    let starts = match logs {
        Logs::Ends => BTreeMap::new(),
        Logs::StartsAndEnds => client.offsets_of(&wanted, EARLIEST)?,
    };
    let ends = client.offsets_of(&wanted, LATEST)?;
    let known = |offsets: &BTreeMap<TopicPartition, Result<i64, Error>>, of: &TopicPartition| {
        offsets.get(of).and_then(|offset| offset.as_ref().ok().copied())
    };
    for (of, position) in all.iter_mut().flat_map(|one| one.iter_mut()) {
        (position.start, position.end) = (known(&starts, of), known(&ends, of));
    }
    Ok(())
}

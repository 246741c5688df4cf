//! What describes a segment held against its batches: the transaction index, how far the other indexes reach, and the
//! leader epochs of the whole log.

use super::report::Finding;
use super::segment::{self, Indexes};
use crate::log::epoch_cache::EpochCache;
use crate::log::files::LEADER_EPOCH_CHECKPOINT;
use crate::log::txn_index::{AbortedTxn, TxnIndex};
use crate::model::{LeaderEpoch, Offset, TimestampMs};

/// Whether everything that happened in the log is still in its batches.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Known {
    Whole,
    /// Compacted: of an aborted transaction only the marker may be left. Or damaged, or begun in the middle.
    Parts,
}

/// The transaction index against the segment's markers.
pub(super) fn transactions(
    name: &str,
    index: Option<&TxnIndex>,
    found: &segment::History,
    known: Known,
) -> Option<Finding> {
    let entries = index.map_or(&[][..], TxnIndex::entries);
    let at = |txn: &AbortedTxn| {
        let AbortedTxn { producer_id, first_offset, last_offset, last_stable_offset } = txn;
        let id = producer_id.0;
        format!(
            "producer {id} aborted {first_offset} to {last_offset}, last stable offset {last_stable_offset}"
        )
    };
    let what = match known {
        Known::Parts => {
            let wrong = entries.iter().find(|txn| !found.control.contains(&txn.last_offset))?;
            format!("says {}, where no marker is", at(wrong))
        }
        Known::Whole => {
            let missing = found.aborted.iter().find(|txn| !entries.contains(txn));
            let wrong = entries.iter().find(|txn| !found.aborted.contains(txn));
            match (missing, wrong) {
                (None, None) => return None,
                (Some(missing), None) => format!("does not say that {}", at(missing)),
                (None, Some(wrong)) => format!("says that {}, which no batch does", at(wrong)),
                (Some(missing), Some(wrong)) => {
                    format!("says that {}; it is that {}", at(wrong), at(missing))
                }
            }
        }
    };
    Some(Finding::damage(name, what))
}

/// An offset index that ends further than this from the segment's end has lost its own; so says the broker, too.
const SHORT_BYTES: u64 = 16 << 20;

/// Whether the indexes of a closed segment of so many `bytes` end where they should: what is missing at their end shows
/// nowhere else. The largest timestamp closes the time index.
pub(super) fn reach(stem: &str, indexes: &Indexes, newest: TimestampMs, bytes: u64) -> Vec<Finding> {
    let mut findings = Vec::new();
    let name = |ending: &str| format!("{stem}.{ending}");
    if let Some(times) = &indexes.times {
        let last = times.last().map_or(TimestampMs::NONE, |entry| entry.timestamp);
        if last < newest {
            let what = format!("is short: it ends at timestamp {}, and the largest is {}", last.0, newest.0);
            findings.push(Finding::damage(name("timeindex"), what));
        }
    }
    if let Some(offsets) = &indexes.offsets {
        let end = offsets.last().map_or(0, |entry| u64::from(entry.position));
        if bytes.saturating_sub(end) > SHORT_BYTES {
            let what = format!("is short: it ends at byte {end} of {bytes}");
            findings.push(Finding::damage(name("index"), what));
        }
    }
    for (ending, is_missing) in [("index", indexes.offsets.is_none()), ("timeindex", indexes.times.is_none())]
    {
        if is_missing {
            findings.push(Finding::note(name(ending), "is missing; it is made again when it is needed"));
        }
    }
    findings
}

/// One leader epoch as the batches tell it.
#[derive(Clone, Copy, Debug)]
pub(super) struct Told {
    pub(super) epoch: LeaderEpoch,
    pub(super) first: Offset,
    /// Exclusive end of its last batch.
    pub(super) end: Offset,
}

/// The leader epochs on disk against the batches. An epoch may begin before its first batch (compaction has taken
/// those, or nothing was appended at first), never before the last batch of a lower one. `log_start`: batches below it
/// count no more.
pub(super) fn epochs(cache: &EpochCache, told: &[Told], log_start: Offset) -> Option<Finding> {
    let entries = cache.entries();
    let wrong = |what: String| Some(Finding::damage(LEADER_EPOCH_CHECKPOINT, what));
    for told in told.iter().filter(|told| told.end > log_start && told.epoch >= LeaderEpoch(0)) {
        let Told { epoch, first, .. } = *told;
        match entries.iter().find(|entry| entry.epoch == epoch) {
            Some(entry) if entry.start > first.max(log_start) => {
                return wrong(format!(
                    "says that epoch {epoch} begins at {}, and a batch at {first} has it",
                    entry.start
                ));
            }
            // one above the last is a batch that came after the file was written
            None if epoch < cache.last_epoch() => {
                return wrong(format!("does not have epoch {epoch} of the batch at {first}"));
            }
            _ => {}
        }
    }
    for entry in entries {
        if let Some(lower) = told.iter().rfind(|told| told.epoch < entry.epoch && told.end > entry.start) {
            return wrong(format!(
                "says that epoch {} begins at {}, and a batch that ends at {} has epoch {}",
                entry.epoch, entry.start, lower.end, lower.epoch
            ));
        }
    }
    None
}

//! Which transactions of what was read are aborted: what a client that reads committed records leaves out.
//!
//! A transaction is known by its marker, which may lie in a later segment than its batches. So the search goes on until
//! an entry says that all transactions of the range had ended by then, or to the log's end; segments without aborts,
//! which most are, cost a look each. Source: Kafka's `LocalLog.collectAbortedTransactions`.

use std::io;
use std::ops::Range;
use std::rc::Rc;

use super::segment::{Aborts, Segment};
use super::state::LogState;
use super::{Error, transactions};
use crate::log::txn_index::{AbortedTxn, TxnIndex};
use crate::model::{Offset, ProducerId};

/// A search, from segment to segment: what is on the way need not fit into memory together.
struct Search<'a> {
    range: &'a Range<Offset>,
    found: Vec<AbortedTxn>,
    /// Segments below are behind it.
    next: Offset,
}

enum Step {
    Done,
    /// The transaction index of this segment, which ends there, is to be looked at, and is on disk.
    Needs(Rc<Segment>, Offset),
}

/// See [`Log::aborted_cached`](super::Log::aborted_cached).
pub fn cached(log: &LogState, range: &Range<Offset>) -> Option<Vec<(ProducerId, Offset)>> {
    let mut search = Search::new(log, range);
    match search.go_on(log) {
        Step::Done => Some(told(&search.found)),
        Step::Needs(..) => None,
    }
}

/// See [`Log::aborted`](super::Log::aborted).
pub async fn collect(log: &LogState, range: &Range<Offset>) -> Result<Vec<(ProducerId, Offset)>, Error> {
    Ok(told(&find(log, range).await?))
}

/// All that the log's transaction indexes say, in the order of the markers.
pub async fn all(log: &LogState) -> Result<Vec<AbortedTxn>, Error> {
    find(log, &(Offset::ZERO..Offset(i64::MAX))).await
}

async fn find(log: &LogState, range: &Range<Offset>) -> Result<Vec<AbortedTxn>, Error> {
    let mut search = Search::new(log, range);
    while let Step::Needs(segment, end) = search.go_on(log) {
        let edition = log.edition.get();
        let index = match load(log, &segment, end).await {
            // its name may be another segment's: whoever asked asks again
            _ if edition != log.edition.get() => break,
            index => index?,
        };
        let is_over = index.collect(range.start, range.end, &mut search.found);
        search.next = end;
        if let aborts @ Aborts::OnDisk = &mut *segment.aborts.borrow_mut() {
            *aborts = Aborts::Known(index);
        }
        log.shard.warm.note(&segment);
        if is_over {
            break;
        }
    }
    Ok(search.found)
}

impl<'a> Search<'a> {
    fn new(log: &LogState, range: &'a Range<Offset>) -> Search<'a> {
        let segments = &log.borrow().segments;
        let first = segments.partition_point(|segment| segment.base <= range.start).saturating_sub(1);
        Search { range, found: Vec::new(), next: segments[first].base }
    }

    fn go_on(&mut self, log: &LogState) -> Step {
        let inner = log.borrow();
        let first = inner.segments.partition_point(|segment| segment.base < self.next);
        for (at, segment) in inner.segments.iter().enumerate().skip(first) {
            match &*segment.aborts.borrow() {
                Aborts::Known(index) => {
                    if index.collect(self.range.start, self.range.end, &mut self.found) {
                        break;
                    }
                }
                Aborts::OnDisk => {
                    let end = inner.segments.get(at + 1).map_or(inner.end, |next| next.base);
                    return Step::Needs(Rc::clone(segment), end);
                }
            }
        }
        Step::Done
    }
}

fn told(found: &[AbortedTxn]) -> Vec<(ProducerId, Offset)> {
    found.iter().map(|txn| (txn.producer_id, txn.first_offset)).collect()
}

async fn load(log: &LogState, segment: &Segment, end: Offset) -> Result<TxnIndex, Error> {
    let failed = |error: io::Error| {
        tracing::error!(log = log.name, segment = segment.base.0, %error, "cannot read the transaction index");
        Error::Offline
    };
    if let Some(index) = transactions::load(&log.folder, segment.base, end).await.map_err(failed)? {
        return Ok(index);
    }
    tracing::warn!(
        log = log.name,
        segment = segment.base.0,
        "the transaction index on disk is damaged: it is made from the batches"
    );
    let segments: Vec<(Offset, u64)> = {
        let segments = &log.borrow().segments;
        segments.iter().map(|segment| (segment.base, segment.written_bytes.get())).collect()
    };
    transactions::make(&log.folder, &segments, segment.base).await.map_err(failed)
}

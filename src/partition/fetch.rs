//! Fetch: read what is there on every owning shard; if that is too little, park until it is more.

use std::rc::Rc;
use std::time::Duration;

use futures_lite::future::or;

use super::error::error_code;
use super::message::{
    FetchRequest, Isolation, ReadOutcome, ReadPartition, ReadRequest, ShardReply, ShardRequest,
};
use super::park::Parked;
use super::shard::{Concern, Part, Shard, Split, place};
use crate::model::{ErrorCode, LeaderEpoch, Offset, PartitionId, ShardId};
use crate::reactor::sync::Notify;
use crate::reactor::{self, Instant};

/// Read before the rest of the shard gets a turn.
const PARTITIONS_IN_A_ROW: usize = 512;
/// That are read from disk at once for one request.
const PARTITIONS_AT_ONCE: usize = 4;

/// What a fetch has come to.
pub struct Fetched {
    /// In the order of the request's partitions.
    pub outcomes: Vec<ReadOutcome>,
    /// How long it waited for more than there was.
    pub waited: Duration,
    pub concern: Concern,
}

impl Shard {
    /// Waits for `min_bytes` up to `max_wait_ms`.
    pub async fn fetch(self: &Rc<Self>, request: FetchRequest) -> Fetched {
        let deadline = reactor::now().after(Duration::from_millis(request.max_wait_ms));
        // "At least" is capped by what may be returned at all.
        let min_bytes = request.min_bytes.min(request.max_bytes);
        let (max_bytes, isolation) = (request.max_bytes, request.isolation);
        let split = self.split(request.partitions, |read| read.partition);
        let concern = split.concern(self.id());
        let plan = Plan::new(split, max_bytes, isolation);
        let mut waited = Duration::ZERO;
        loop {
            let outcomes = self.read_plan(&plan).await;
            let bytes: usize = outcomes.iter().map(|outcome| outcome.records_bytes).sum();
            let urgent = outcomes.iter().any(ReadOutcome::is_urgent);
            let read = reactor::now();
            let no_more = read >= deadline || self.waits_ended.get();
            if bytes >= min_bytes || urgent || outcomes.is_empty() || no_more {
                let outcomes = within_budget(outcomes, max_bytes);
                self.count_sent(&plan, &outcomes);
                return Fetched { outcomes, waited, concern };
            }
            self.wait_for_more(&plan, &outcomes, min_bytes, deadline).await;
            waited += reactor::now().since(read);
            // Whatever the above takes for a reason to read again, the shard's other work comes in between.
            reactor::turn().await;
        }
    }

    async fn read_plan(self: &Rc<Self>, plan: &Plan) -> Vec<ReadOutcome> {
        let mut outcomes = vec![ReadOutcome::failed(ErrorCode::UnknownTopicOrPartition); plan.count];
        let mut remote = Vec::with_capacity(plan.remote.len());
        for (owner, places, read) in &plan.remote {
            let ticket = self.router.ticket(*owner).await;
            remote.push((places, self.router.send(ticket, ShardRequest::Read(read.clone()))));
        }
        if let Some((places, read)) = &plan.local {
            place(&mut outcomes, places, self.read_local(read).await);
        }
        for (places, receiver) in remote {
            let Some(ShardReply::Read(part)) = receiver.await else {
                unreachable!("Read is answered in kind")
            };
            place(&mut outcomes, places, part);
        }
        outcomes
    }

    /// Returns when reading again may give enough, or at the deadline.
    async fn wait_for_more(
        self: &Rc<Self>,
        plan: &Plan,
        outcomes: &[ReadOutcome],
        min_bytes: usize,
        deadline: Instant,
    ) {
        // One shard alone waits for all of it. Of several, each tells about anything beyond what it gave: only
        // together may they have enough.
        let alone = plan.remote.len() + usize::from(plan.local.is_some()) == 1;
        let missing = |places: &[usize]| {
            let given: usize = places.iter().map(|&at| outcomes[at].records_bytes).sum();
            if alone { min_bytes } else { given + 1 }
        };
        let wait = Rc::new(Notify::default());
        let id = self.next_wait.get();
        self.next_wait.set(id + 1);
        self.waits.borrow_mut().insert(id, Rc::clone(&wait));
        for (owner, places, read) in &plan.remote {
            let request = ShardRequest::Park { id, read: read.clone(), min_bytes: missing(places) };
            if let ShardReply::Read(_) = self.router.ask(*owner, request).await {
                wait.notify(); // it became enough in the meantime: read again
            }
        }
        let any = async {
            match &plan.local {
                Some((places, read)) => {
                    or(
                        wait.notified(),
                        self.until_readable(read, missing(places), &Rc::new(Parked::default())),
                    )
                    .await;
                }
                None => wait.notified().await,
            }
        };
        or(any, reactor::sleep_until(deadline)).await;
        self.waits.borrow_mut().remove(&id);
        for (owner, _, _) in &plan.remote {
            let (shard, owner) = (Rc::clone(self), *owner);
            reactor::spawn(async move { shard.router.ask(owner, ShardRequest::Unpark { id }).await });
        }
    }

    /// Parks for another shard's fetch; answers at once, and fires once there is enough.
    pub(super) async fn park_for(
        self: Rc<Self>,
        from: ShardId,
        id: u64,
        parked: Rc<Parked>,
        read: ReadRequest,
        min_bytes: usize,
    ) -> ShardReply {
        if self.has_enough(&read, min_bytes) {
            self.parked_for.borrow_mut().remove(&(from, id));
            return ShardReply::Read(Vec::new());
        }
        reactor::spawn(async move {
            self.until_readable(&read, min_bytes, &parked).await;
            if self.parked_for.borrow_mut().remove(&(from, id)).is_some() {
                self.router.ask(from, ShardRequest::Fired { id }).await;
            }
        });
        ShardReply::Parked
    }

    /// Returns when these partitions have `min_bytes` to read or an answer that cannot wait, or when called off.
    async fn until_readable(&self, read: &ReadRequest, min_bytes: usize, parked: &Rc<Parked>) {
        let _registered = self.register(read, parked);
        while !parked.called_off.get() && !self.has_enough(read, min_bytes) {
            parked.moved.notified().await;
        }
    }

    fn register(&self, read: &ReadRequest, parked: &Rc<Parked>) -> Registered {
        let partitions = self.partitions.borrow();
        let found = read.partitions.iter().filter_map(|part| partitions.get(&part.partition).map(Rc::clone));
        let registered = Registered { parked: Rc::clone(parked), partitions: found.collect() };
        for partition in &registered.partitions {
            partition.park(parked);
        }
        registered
    }

    /// Whether a read would give `min_bytes` (by position, nothing is read) or an answer that cannot wait. It says so
    /// wherever the read then does, or the fetch would go round without waiting for anything.
    fn has_enough(&self, read: &ReadRequest, min_bytes: usize) -> bool {
        let mut bytes = 0;
        for part in &read.partitions {
            let Ok((partition, log)) = self.led_log(part.partition, part.current_epoch) else { return true };
            let limit = read_limit(&partition, read.isolation);
            if part.fetch_offset >= limit {
                continue;
            }
            match log.read_cached(part.fetch_offset, limit, part.max_bytes, true) {
                Some(slices) if slices.next < limit => return true,
                Some(slices) => bytes += slices.bytes,
                None => return true, // on disk: only a read can tell
            }
            if bytes >= min_bytes {
                return true;
            }
        }
        false
    }

    /// What these partitions have now, in order, within the request's bytes.
    pub(super) async fn read_local(&self, request: &ReadRequest) -> Vec<ReadOutcome> {
        let mut outcomes = Vec::with_capacity(request.partitions.len());
        let mut left = request.max_bytes;
        let mut at_least_one = true;
        for (index, part) in request.partitions.iter().enumerate() {
            if index % PARTITIONS_IN_A_ROW == PARTITIONS_IN_A_ROW - 1 {
                reactor::turn().await;
            }
            let behind = &request.partitions[index + 1..];
            let outcome = self.read_one(part, behind, request.isolation, left, at_least_one).await;
            let outcome = outcome.unwrap_or_else(ReadOutcome::failed);
            left = left.saturating_sub(outcome.records_bytes);
            at_least_one &= outcome.records_bytes == 0;
            outcomes.push(outcome);
        }
        outcomes
    }

    /// `behind` are those that come next in the request.
    async fn read_one(
        &self,
        read: &ReadPartition,
        behind: &[ReadPartition],
        isolation: Isolation,
        left: usize,
        at_least_one: bool,
    ) -> Result<ReadOutcome, ErrorCode> {
        let (partition, log) = self.led_log(read.partition, read.current_epoch)?;
        let mut outcome = ReadOutcome {
            error: ErrorCode::None,
            high_watermark: partition.high_watermark(),
            last_stable_offset: partition.last_stable_offset(),
            log_start_offset: log.start_offset(),
            aborted: (isolation == Isolation::ReadCommitted).then(Vec::new),
            ..ReadOutcome::failed(ErrorCode::None)
        };
        if read.last_fetched_epoch != LeaderEpoch::NONE {
            let (epoch, end) = log.end_offset_for(read.last_fetched_epoch);
            if end == Offset::NONE {
                return Err(ErrorCode::OffsetOutOfRange);
            }
            if epoch < read.last_fetched_epoch || end < read.fetch_offset {
                outcome.diverging = Some((epoch, end));
                return Ok(outcome);
            }
        }
        if read.fetch_offset < log.start_offset() || read.fetch_offset > log.end_offset() {
            outcome.error = ErrorCode::OffsetOutOfRange;
            return Ok(outcome);
        }
        let limit = read_limit(&partition, isolation);
        let max_bytes = read.max_bytes.min(left);
        if read.fetch_offset >= limit {
            return Ok(outcome);
        }
        if max_bytes == 0 && !at_least_one {
            outcome.has_more = true;
            return Ok(outcome);
        }
        let counters = &self.measures.counters;
        // ends: each turn but the last is because of segments that went meanwhile
        let slices = loop {
            let edition = log.edition();
            let slices = match log.read_cached(read.fetch_offset, limit, max_bytes, at_least_one) {
                Some(slices) => {
                    counters.cache_hits.increment();
                    Ok(slices)
                }
                None => {
                    counters.cache_misses.increment();
                    self.prepare(behind, isolation, left.saturating_sub(max_bytes));
                    log.read(read.fetch_offset, limit, max_bytes, at_least_one).await
                }
            };
            let range = match &slices {
                Ok(found) if isolation == Isolation::ReadCommitted => read.fetch_offset..found.next,
                _ => break slices,
            };
            let aborted = match log.aborted_cached(range.clone()) {
                Some(aborted) => Ok(aborted),
                None => log.aborted(range).await,
            };
            if log.edition() != edition {
                continue;
            }
            match aborted {
                Ok(aborted) => outcome.aborted = Some(aborted),
                Err(error) => break Err(error),
            }
            break slices;
        };
        match slices {
            Ok(slices) => {
                self.measures.activity.add(slices.bytes);
                outcome.records_bytes = slices.bytes;
                outcome.record_count = u64::try_from(slices.next.0 - read.fetch_offset.0).unwrap_or(0);
                outcome.has_more = slices.next < limit;
                outcome.records = slices.parts;
            }
            Err(error) => outcome.error = error_code(error),
        }
        Ok(outcome)
    }

    /// Has the next few partitions that `left` bytes reach for read from disk while the one in front of them is.
    fn prepare(&self, partitions: &[ReadPartition], isolation: Isolation, mut left: usize) {
        for read in partitions.iter().take(PARTITIONS_AT_ONCE - 1) {
            if left == 0 {
                return;
            }
            let max_bytes = read.max_bytes.min(left);
            if let Ok((partition, log)) = self.led_log(read.partition, read.current_epoch) {
                log.prepare(read.fetch_offset, read_limit(&partition, isolation), max_bytes);
            }
            left -= max_bytes;
        }
    }
}

fn read_limit(partition: &super::leader::Partition, isolation: Isolation) -> Offset {
    match isolation {
        Isolation::ReadUncommitted => partition.high_watermark(),
        Isolation::ReadCommitted => partition.last_stable_offset(),
    }
}

/// A fetch split by owner, kept for reading again.
pub(super) struct Plan {
    count: usize,
    local: Option<(Vec<usize>, ReadRequest)>,
    remote: Vec<(ShardId, Vec<usize>, ReadRequest)>,
}

impl Plan {
    /// Every partition with the place of its outcome.
    pub(super) fn partitions(&self) -> impl Iterator<Item = (usize, PartitionId)> {
        let local = self.local.iter().map(|(places, read)| (places, read));
        let remote = self.remote.iter().map(|(_, places, read)| (places, read));
        local.chain(remote).flat_map(|(places, read)| {
            places.iter().copied().zip(read.partitions.iter().map(|part| part.partition))
        })
    }

    fn new(split: Split<ReadPartition>, max_bytes: usize, isolation: Isolation) -> Plan {
        let request = |part: Part<ReadPartition>| {
            (part.places, ReadRequest { partitions: part.items, max_bytes, isolation })
        };
        Plan {
            count: split.count,
            local: (!split.local.items.is_empty()).then(|| request(split.local)),
            remote: (split.remote.into_iter())
                .map(|(owner, part)| {
                    let (places, read) = request(part);
                    (owner, places, read)
                })
                .collect(),
        }
    }
}

/// Takes the parked fetch out of its partitions again, however the wait ends.
struct Registered {
    parked: Rc<Parked>,
    partitions: Vec<Rc<super::leader::Partition>>,
}

impl Drop for Registered {
    fn drop(&mut self) {
        for partition in &self.partitions {
            partition.unpark(&self.parked);
        }
    }
}

/// Every shard read up to the whole budget: keeps, in the request's order, what fits; the first records always.
fn within_budget(mut outcomes: Vec<ReadOutcome>, max_bytes: usize) -> Vec<ReadOutcome> {
    let mut used = 0;
    for outcome in &mut outcomes {
        if outcome.records_bytes == 0 {
            continue;
        }
        if used > 0 && used + outcome.records_bytes > max_bytes {
            outcome.records.clear();
            outcome.aborted.iter_mut().for_each(Vec::clear);
            outcome.records_bytes = 0;
            outcome.record_count = 0;
        }
        used += outcome.records_bytes;
    }
    outcomes
}

//! Memory of idempotent producers: counted as it is used, and bounded by a budget of the shard.
//!
//! Producers that have been silent for Kafka's producer.id.expiration.ms are forgotten at every look. Beyond the budget
//! (corelane.shard.producer.state.bytes) those are that were silent longest, at once: a client may come with a new
//! producer id for every batch. Both are done in slices, since there may be hundreds of thousands.

use std::cell::Cell;
use std::rc::Rc;

use super::shard::Shard;
use super::state::LogState;
use crate::log::producer_state::{ENTRY_MEMORY_BYTES, ProducerStates};
use crate::model::{ProducerId, TimestampMs};
use crate::reactor;

/// Producers looked at before the rest of the shard gets a turn.
const PRODUCERS_IN_A_ROW: usize = 512;

/// Lives with its shard.
#[derive(Default)]
pub struct ProducerMemory {
    used: Cell<usize>,
    /// Of logs that are being recovered.
    recovering: Cell<usize>,
    /// A look is under way.
    looking: Cell<bool>,
}

impl ProducerMemory {
    pub fn used_bytes(&self) -> usize {
        self.used.get()
    }
}

/// What a log's recovery takes of the budget: the batches it reads may be of any number of producers. Counts until it is
/// dropped.
pub struct Recovering {
    shard: Rc<Shard>,
    bytes: usize,
}

impl Recovering {
    pub fn new(shard: &Rc<Shard>, producers: &ProducerStates) -> Recovering {
        let mut recovering = Recovering { shard: Rc::clone(shard), bytes: 0 };
        recovering.set(producers.memory_bytes());
        recovering
    }

    /// To be called after each batch.
    pub fn note(&mut self, producers: &mut ProducerStates) {
        if producers.memory_bytes() == self.bytes {
            return;
        }
        self.set(producers.memory_bytes());
        let memory = &self.shard.producers;
        if memory.used.get() + memory.recovering.get() > self.shard.config.producer_state_bytes {
            producers.shed(producers.len().div_ceil(4));
            self.set(producers.memory_bytes());
        }
    }

    fn set(&mut self, bytes: usize) {
        let recovering = &self.shard.producers.recovering;
        recovering.set(recovering.get() - self.bytes + bytes);
        self.bytes = bytes;
    }
}

impl Drop for Recovering {
    fn drop(&mut self) {
        self.set(0);
    }
}

/// A log's producers were `before` many and may be more now. For every append and every log that is opened.
pub fn note(shard: &Rc<Shard>, before: usize, now: usize) {
    if now <= before {
        return;
    }
    let memory = &shard.producers;
    memory.used.set(memory.used.get() + (now - before) * ENTRY_MEMORY_BYTES);
    if memory.used.get() > shard.config.producer_state_bytes && !memory.looking.get() {
        let (shard, background) = (Rc::clone(shard), shard.background());
        reactor::spawn(async move {
            look(&shard).await;
            drop(background);
        });
    }
}

/// Forgets who has expired, and who is too many.
pub async fn look(shard: &Rc<Shard>) {
    if shard.producers.looking.replace(true) {
        return;
    }
    let (now, after_ms) = (TimestampMs(reactor::wall_clock_ms()), shard.live.get().producer_expiration_ms);
    for log in logs(shard) {
        in_slices(&log, |producers, from| producers.expire(now, after_ms, from, PRODUCERS_IN_A_ROW)).await;
    }
    // more may have come while the others went; those in a transaction stay
    while count(shard) > shard.config.producer_state_bytes && !shard.stopping.get() {
        if shed(shard, shard.producers.used_bytes()).await == 0 {
            break;
        }
    }
    shard.producers.looking.set(false);
}

/// Well below the budget, each log by its share, so that this is not for every new producer. How many were forgotten.
async fn shed(shard: &Rc<Shard>, used: usize) -> usize {
    let budget = shard.config.producer_state_bytes;
    let aim = (used - budget + budget / 4) as u128;
    let mut forgotten = 0;
    for log in logs(shard) {
        let share = (log.borrow().producers.memory_bytes() as u128 * aim / used as u128) as usize;
        forgotten += shed_log(&log, share.div_ceil(ENTRY_MEMORY_BYTES)).await;
    }
    tracing::warn!(
        forgotten,
        bytes = used,
        budget,
        "too many idempotent producers: the longest silent are forgotten; raise \
         corelane.shard.producer.state.bytes or lower producer.id.expiration.ms"
    );
    forgotten
}

/// Forgets the `count` producers of the log that were silent longest; how many those were.
async fn shed_log(log: &Rc<LogState>, count: usize) -> usize {
    if count == 0 {
        return 0;
    }
    let mut last_offsets = Vec::new();
    in_slices(log, |producers, from| producers.last_offsets(from, PRODUCERS_IN_A_ROW, &mut last_offsets))
        .await;
    let Some(last) = count.min(last_offsets.len()).checked_sub(1) else { return 0 };
    let silent = reactor::blocking(move || *last_offsets.select_nth_unstable(last).1).await;
    let mut forgotten = 0;
    in_slices(log, |producers, from| {
        let (count, next) = producers.forget_up_to(silent, from, PRODUCERS_IN_A_ROW);
        forgotten += count;
        next
    })
    .await;
    forgotten
}

/// Calls `slice` until it has come to the end, with a turn for the shard in between.
async fn in_slices(
    log: &LogState,
    mut slice: impl FnMut(&mut ProducerStates, Option<ProducerId>) -> Option<ProducerId>,
) {
    let mut from = None;
    loop {
        from = slice(&mut log.borrow_mut().producers, from);
        if from.is_none() || log.shard.stopping.get() {
            return;
        }
        reactor::turn().await;
    }
}

fn logs(shard: &Shard) -> Vec<Rc<LogState>> {
    shard.logs.borrow().values().cloned().collect()
}

/// Counts anew: logs that were closed have taken theirs along.
fn count(shard: &Shard) -> usize {
    let used = shard.logs.borrow().values().map(|log| log.borrow().producers.memory_bytes()).sum();
    shard.producers.used.set(used);
    used
}

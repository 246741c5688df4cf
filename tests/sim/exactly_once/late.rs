//! Batches that come long after they were sent, when their client has been answered or has given up.

use std::rc::Rc;

use super::{World, chance, pause};
use crate::partition::{Acks, AppendPartition, Shard, Transaction};

/// Longer than transactions take, and some producers live.
const DELAY_MS: u64 = 12_000;

/// Sends these batches once more, now or later; nobody hears of what becomes of them.
pub fn perhaps_again(
    world: &Rc<World>,
    shard: &Rc<Shard>,
    transaction: &Transaction,
    batches: &[AppendPartition],
) {
    let delay_ms = match () {
        () if !world.life().is_stormy() => return,
        () if chance(4) => 0,
        () if chance(5) => DELAY_MS,
        () => return,
    };
    let (world, shard, transaction) = (Rc::clone(world), Rc::clone(shard), transaction.clone());
    let batches = batches.to_vec();
    world.life().begin_task(async move {
        pause(delay_ms).await;
        if world.life().is_over() {
            return;
        }
        let (_, appended) = shard.append_in(Some(transaction), Acks::All, 10_000, batches).await;
        // its client may be gone before the answer comes
        if chance(50) {
            world.answered("a late Produce", appended).await;
        }
    });
}

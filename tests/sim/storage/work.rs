//! Appends, deletions and truncations.

use std::time::Duration;

use super::expected::{Appended, Cut};
use super::life::producer_ids;
use super::weather::Room;
use super::{Check, World, check};
use crate::model::{LeaderEpoch, Offset, TimestampMs};
use crate::reactor;
use crate::storage::testing::{self, Noise, Spec, batch, stored};
use crate::storage::{Error, Log};

/// The weather changes in less, and is noticed within a second.
const FULL_MAX: Duration = Duration::from_secs(10);

pub async fn write(world: &World, index: usize, log: &Log, epoch: LeaderEpoch) -> Check {
    let mut noise = Noise(reactor::random_u64());
    for _ in 0..world.plan.batches_per_life {
        if noise.one_in(3) {
            reactor::sleep(Duration::from_micros(noise.below(2_000))).await;
        }
        if noise.one_in(10) {
            delete(world, index, log, &mut noise).await?;
        }
        if world.plan.truncates > 0 && noise.one_in(world.plan.truncates) {
            truncate(world, index, log, &mut noise).await?;
        }
        let producer = 10 + noise.below(3) as i64;
        let (epoch_of_producer, sequence) = {
            let expected = world.logs[index].borrow();
            let last = expected.producer_batches(producer).next_back();
            (expected.producer_epoch, last.map_or(0, |last| last.header.last_sequence() + 1))
        };
        let spec = Spec {
            records: 1 + noise.below(5) as i32,
            value_bytes: noise.below(world.plan.value_bytes_max) as usize,
            seed: noise.next(),
            base_timestamp: 1_000 + noise.below(1_000) as i64,
            timestamp_step: 1,
            producer: producer_ids().contains(&producer).then_some((producer, epoch_of_producer, sequence)),
            keys: (world.plan.compacted == Some(index)).then_some(12),
        };
        let (raw, header) = batch(&spec);
        let begun = reactor::now();
        let appended = loop {
            match log.append(raw.clone(), &header, epoch, TimestampMs(reactor::wall_clock_ms())) {
                Err(Error::Offline) if world.failed.get() => return Ok(()),
                Err(Error::Full) if world.plan.room != Room::Enough => {}
                appended => break appended.map_err(|error| format!("append: {error:?}"))?,
            }
            check!(
                reactor::now().since(begun) < FULL_MAX,
                "there is room again, and an append is refused still"
            );
            reactor::sleep(Duration::from_millis(20)).await;
        };
        let expected = &mut *world.logs[index].borrow_mut();
        let (base, end) = (appended.base_offset, appended.end_offset);
        check!(base == expected.end() && !appended.duplicate, "appended at {base}, not {}", expected.end());
        let stored = stored(&raw, base, epoch);
        expected.batches.push(Appended { base, end, raw, header, epoch, stored });
    }
    Ok(())
}

/// Deletes up to some durable offset, which need not be where a batch begins.
async fn delete(world: &World, index: usize, log: &Log, noise: &mut Noise) -> Check {
    let start = log.start_offset();
    let left = (log.durable_end().0 - start.0) as u64;
    let most = if noise.one_in(5) { left } else { left / 4 };
    let to = start.plus(noise.below(most + 1) as i64);
    {
        let expected = &mut *world.logs[index].borrow_mut();
        expected.told(start)?;
        expected.asked = expected.asked.max(to);
    }
    match log.delete_records(to).await {
        Ok(told) => {
            check!(told >= to && told <= log.durable_end(), "deleted to {to}, starts at {told}");
            world.logs[index].borrow_mut().told(told)
        }
        Err(Error::Offline) if world.failed.get() => Ok(()),
        // it could not be written down
        Err(Error::Full) if world.plan.room == Room::None && world.may_fail.get() => Ok(()),
        Err(error) => Err(format!("deletion to {to}: {error:?}")),
    }
}

/// Cuts the log somewhere, or has it begin anew, sometimes below its start.
async fn truncate(world: &World, index: usize, log: &Log, noise: &mut Noise) -> Check {
    let (start, end) = (log.start_offset(), log.end_offset());
    let mut behind = noise.below((end.0 - start.0) as u64 + 1) as i64;
    if world.plan.compacted == Some(index) {
        // nothing is cut that may have been compacted: the model does not know where its batches end
        let active = testing::active_base(log);
        behind = behind.min(end.0 - active.0);
    }
    let cut = match noise.below(8) {
        0 => Cut::All(Offset(noise.below(end.0 as u64 + 100) as i64)),
        1 if world.plan.compacted != Some(index) => Cut::To(Offset(noise.below(end.0 as u64 + 2) as i64)),
        2 if world.plan.compacted != Some(index) => Cut::To(start.plus(behind)),
        _ => Cut::To(Offset(end.0 - behind.min(noise.below(12) as i64))),
    };
    {
        let expected = &mut *world.logs[index].borrow_mut();
        expected.told(start)?;
        expected.cutting = Some(cut);
    }
    let done = match cut {
        Cut::To(to) => log.truncate_to(to).await,
        Cut::All(at) => log.truncate_fully_and_start_at(at).await.map(|()| at),
    };
    match done {
        Ok(told) => {
            let expected = &mut *world.logs[index].borrow_mut();
            let found = (log.start_offset(), log.end_offset());
            let may_be = expected.may_be_cut(cut, found) && told == found.1;
            check!(
                may_be,
                "{cut:?} gave {told} and {found:?}, {} to {} before",
                expected.start,
                expected.end()
            );
            expected.has_been_cut(found);
            Ok(())
        }
        Err(Error::Offline) if world.failed.get() => Ok(()),
        Err(Error::Full) if world.plan.room == Room::None && world.may_fail.get() => {
            // only what was not durable may be gone
            let expected = &mut *world.logs[index].borrow_mut();
            let end = log.end_offset();
            expected.batches.retain(|batch| batch.end <= end);
            check!(end == expected.end() && end >= expected.durable, "no room for {cut:?}: ends at {end}");
            (expected.cutting, expected.cuts) = (None, expected.cuts + 1);
            Ok(())
        }
        Err(error) => Err(format!("{cut:?}: {error:?}")),
    }
}

//! What is read is what was appended.

use std::collections::BTreeMap;
use std::time::Duration;

use super::expected::{Keyed, keyed};
use super::{Check, World, check};
use crate::model::Offset;
use crate::protocol::batch::Batches;
use crate::reactor;
use crate::storage::testing::{self, Noise};
use crate::storage::{Error, Log, Slices};

/// Reads from the start up to the durable end and compares.
pub async fn readable(world: &World, index: usize, log: &Log, max_bytes: usize) -> Check {
    if world.plan.compacted == Some(index) {
        return compacted(world, index, log, max_bytes).await;
    }
    reads(world, index, log, log.start_offset(), max_bytes, usize::MAX).await
}

/// At most so many reads from `from` on.
async fn reads(
    world: &World,
    index: usize,
    log: &Log,
    from: Offset,
    max_bytes: usize,
    count: usize,
) -> Check {
    let end = log.durable_end();
    let mut next = from;
    let cuts = world.logs[index].borrow().cuts;
    let is_cut = || {
        let expected = world.logs[index].borrow();
        expected.cutting.is_some() || expected.cuts != cuts
    };
    for _ in 0..count {
        if next >= end || is_cut() {
            break;
        }
        let slices = match slices(log, next, end, max_bytes).await {
            Ok(slices) => slices,
            _ if is_cut() => break,
            Err(Error::OutOfRange) if next < log.start_offset() => {
                next = log.start_offset();
                continue;
            }
            // A failed flush may take what was written and not flushed: what is only written promises no more.
            Err(Error::Corrupt) if world.failed.get() && world.plan.written == Some(index) => break,
            Err(error) => match world.logs[index].borrow().end_of_damage(next, false) {
                Some(behind) if error == Error::Corrupt => {
                    next = behind;
                    continue;
                }
                _ => {
                    let rotten = &world.logs[index].borrow().rotten;
                    return Err(format!("read at {next}: {error:?}, damaged are {rotten:?}"));
                }
            },
        };
        if is_cut() {
            break;
        }
        check!(slices.bytes > 0, "nothing to read at {next} below {end}");
        let mut bytes = Vec::with_capacity(slices.bytes);
        slices.parts.iter().for_each(|part| bytes.extend_from_slice(part));
        let mut to = next;
        for found in Batches::new(&bytes) {
            to = found.map_err(|error| format!("read at {next}: {error}"))?.0.next_offset();
        }
        let expected = world.logs[index].borrow().bytes(next, to);
        check!(bytes == expected, "read of {next}..{to} gave {} other bytes", bytes.len());
        next = to;
    }
    Ok(())
}

async fn slices(log: &Log, from: Offset, end: Offset, max_bytes: usize) -> Result<Slices, Error> {
    match log.read_cached(from, end, max_bytes, true) {
        Some(slices) => Ok(slices),
        None => log.read(from, end, max_bytes, true).await,
    }
}

/// Reads a compacted log from its start to its end: every record is one that was appended, and none is missing that
/// was the last of its key.
async fn compacted(world: &World, index: usize, log: &Log, max_bytes: usize) -> Check {
    let cuts = world.logs[index].borrow().cuts;
    let is_cut = || {
        let expected = world.logs[index].borrow();
        expected.cutting.is_some() || expected.cuts != cuts
    };
    let runs = || testing::cleaner_runs(log);
    let (runs_before, mut next) = (runs(), log.start_offset());
    let mut found: BTreeMap<i64, Keyed> = BTreeMap::new();
    while next < log.durable_end() {
        let slices = slices(log, next, log.durable_end(), max_bytes).await;
        if is_cut() {
            return Ok(());
        }
        let slices = match slices {
            Ok(slices) => slices,
            Err(Error::OutOfRange) if next < log.start_offset() => {
                next = log.start_offset();
                continue;
            }
            Err(error) => match world.logs[index].borrow().end_of_damage(next, true) {
                Some(behind) if error == Error::Corrupt => {
                    next = behind;
                    continue;
                }
                _ => return Err(format!("read at {next}: {error:?}")),
            },
        };
        check!(slices.next > next, "a read at {next} of {} bytes goes to {}", slices.bytes, slices.next);
        for part in &slices.parts {
            for batch in Batches::new(part) {
                let (header, bytes) = batch.map_err(|error| format!("read at {next}: {error}"))?;
                for record in keyed(&header, bytes)? {
                    found.insert(record.0, record);
                }
            }
        }
        next = slices.next;
    }
    // it may have ended only because the log's end has gone back
    if is_cut() {
        return Ok(());
    }
    // all of it was read as of now
    let expected = world.logs[index].borrow();
    let start = log.start_offset();
    let found = found.split_off(&start.0);
    let written = expected.keyed(start..next)?;
    for (offset, record) in &found {
        check!(written.get(offset) == Some(record), "another record was read at {offset}");
    }
    let last = |records: &BTreeMap<i64, Keyed>| -> BTreeMap<Vec<u8>, i64> {
        records.values().map(|(offset, key, _)| (key.clone(), *offset)).collect()
    };
    let is_damaged = |offset: i64| expected.rotten.iter().any(|damage| damage.contains(&Offset(offset)));
    let (found, is_quiet) = (last(&found), runs() == runs_before);
    for (key, offset) in last(&written).into_iter().filter(|(_, offset)| !is_damaged(*offset)) {
        let is_tombstone = written[&offset].2.is_none();
        match found.get(&key) {
            Some(last) if *last == offset => {}
            None if is_tombstone => {}
            // what it deleted was read before both went
            Some(_) if is_tombstone && !is_quiet => {}
            last => return Err(format!("the last record of key {key:?} is at {offset}, found {last:?}")),
        }
    }
    Ok(())
}

/// Reads here and there below the durable end.
pub async fn read(world: &World, index: usize, log: &Log) -> Check {
    let mut noise = Noise(reactor::random_u64());
    for _ in 0..10 {
        reactor::sleep(Duration::from_micros(noise.below(10_000))).await;
        let end = log.durable_end();
        let from = Offset(noise.below(end.0 as u64 + 1) as i64);
        let from = {
            let expected = world.logs[index].borrow();
            expected.batches.get(expected.above(from)).map_or(Offset::ZERO, |batch| batch.base)
        };
        if world.logs[index].borrow().cutting.is_some() {
            continue;
        }
        world.logs[index].borrow_mut().told(log.start_offset())?;
        match world.plan.compacted == Some(index) {
            true => compacted(world, index, log, 1 + noise.below(30_000) as usize).await?,
            false => reads(world, index, log, from, 1 + noise.below(30_000) as usize, 4).await?,
        }
    }
    Ok(())
}

//! One life of the storage, and what must hold when it has started.

use std::path::PathBuf;
use std::rc::Rc;
use std::time::Duration;

use super::expected::Expected;
use super::reading::{read, readable};
use super::weather::Room;
use super::work::write;
use super::{Check, DIRECTORY, World, check, weather};
use crate::log::files::{FileKind, SegmentFile};
use crate::model::{ErrorCode, LeaderEpoch, Offset, TimestampMs};
use crate::reactor;
use crate::reactor::sim::{Disk, Faults};
use crate::storage::testing::{Spec, batch};
use crate::storage::{Create, Error, Listener, Log, LogDir, OpenLog, Storage};

/// One life: recover, check, append and read side by side, stop or not. Whether the stop was clean.
pub async fn live(world: Rc<World>, disk: Disk, life: usize, clean: bool) -> bool {
    match try_live(&world, &disk, life, clean).await {
        Ok(clean) => clean,
        Err(what) => {
            world.wrong(format!("life {life}: {what}"));
            false
        }
    }
}

async fn try_live(world: &Rc<World>, disk: &Disk, life: usize, clean: bool) -> Result<bool, String> {
    let directory = LogDir::new(DIRECTORY, PathBuf::from("/data"), clean);
    let listener: Rc<dyn Listener> = world.clone();
    let storage = Storage::start(world.plan.config.clone(), vec![directory], listener);
    storage.boot_begins();
    storage.replay_journals().await?;
    let opening: Vec<_> = (0..world.plan.partitions)
        .map(|index| {
            let (storage, world) = (Rc::clone(&storage), Rc::clone(world));
            reactor::spawn(async move { open(&storage, &world, index).await })
        })
        .collect();
    let mut logs = Vec::new();
    for opened in opening {
        logs.push(opened.await?);
    }
    storage.boot_is_done().await;
    for (index, log) in logs.iter().enumerate() {
        recovered(world, index, log, clean).await.map_err(|what| format!("partition {index}: {what}"))?;
    }
    if world.plan.faults && life > 0 {
        world.may_fail.set(true);
        let one_in = 20 + reactor::random_u64() as u32 % 100;
        disk.set_faults(Faults {
            write_error_one_in: one_in,
            flush_error_one_in: one_in,
            ..Faults::default()
        });
    }
    let weather = reactor::spawn(weather::weather(Rc::clone(world), disk.clone()));
    let mut working = Vec::new();
    for (index, log) in logs.iter().enumerate() {
        let (world, log) = (Rc::clone(world), log.clone());
        working.push(reactor::spawn({
            let (world, log) = (Rc::clone(&world), log.clone());
            async move { write(&world, index, &log, LeaderEpoch(life as i32)).await }
        }));
        working.push(reactor::spawn(async move { read(&world, index, &log).await }));
    }
    for work in working {
        work.await?;
    }
    weather.await;
    for (index, log) in logs.iter().enumerate() {
        let end = world.logs[index].borrow().end();
        while log.durable_end() < end && !world.failed.get() {
            world.heard.notified().await;
        }
        readable(world, index, log, 100_000).await?;
    }
    weather::leave(world, disk);
    world.heard.notify();
    if world.failed.get() || reactor::random_u64().is_multiple_of(3) {
        return Ok(false);
    }
    match storage.stop().await {
        Ok(()) => Ok(true),
        Err(_) if world.may_fail.get() => Ok(false),
        Err(error) => Err(format!("stop: {error:?}")),
    }
}

async fn open(storage: &Storage, world: &World, index: usize) -> Result<Log, String> {
    let created = world.logs[index].borrow().created;
    let what = OpenLog {
        partition: world.partition(index),
        topic_name: "t".into(),
        directory: DIRECTORY,
        config: world.plan.log_config(index),
        create: if created { Create::Never } else { Create::IfMissing },
    };
    let log = storage.open(what).await.map_err(|error| format!("open of {index}: {error:?}"))?;
    world.logs[index].borrow_mut().created = true;
    Ok(log)
}

/// What was found must be a prefix of what was appended, not shorter than what was durable.
async fn recovered(world: &World, index: usize, log: &Log, clean: bool) -> Check {
    let told = world.logs[index].borrow().start;
    {
        let expected = &mut *world.logs[index].borrow_mut();
        let end = log.end_offset();
        if let Some(cut) = expected.cutting.take() {
            // all of it has happened, or nothing
            let found = (log.start_offset(), end);
            if expected.may_be_cut(cut, found) {
                expected.has_been_cut(found);
            }
        }
        // a stop may not have had the room to say how far all is flushed
        let may_be_torn = !clean || world.plan.room == Room::None;
        let is_kept = end >= expected.durable
            || (may_be_torn && expected.may_end_at(end, world.plan.compacted == Some(index)));
        check!(is_kept, "durable up to {}, found up to {end}", expected.durable);
        check!(end <= expected.end(), "appended up to {}, found up to {end}", expected.end());
        if end < expected.durable && world.plan.compacted == Some(index) {
            // what is cut now may have replaced any record before it
            expected.rotten.push(Offset::ZERO..end);
        }
        expected.batches.retain(|batch| batch.end <= end);
        if log.start_offset() == end && expected.is_lost_to_its_start(end) {
            expected.begins_anew(end);
        }
        check!(expected.end() == end, "found up to {end}, where no batch ends");
        check!(log.durable_end() == end, "not all of it is durable");
        expected.durable = end;
        let start = log.start_offset();
        expected.told(start)?;
        check!(
            world.plan.expires || start <= expected.asked,
            "starts at {start}, asked for {}",
            expected.asked
        );
        check!(start <= end, "starts at {start}, ends at {end}");
        expected.rotten.retain(|damage| damage.start < end);
        expected.misplaced &= !expected.rotten.is_empty();
        if expected.rotten.is_empty() {
            epochs(expected, log, world.plan.compacted == Some(index))?;
            producers(expected, log)?;
        }
        if expected.lost_snapshots || !expected.rotten.is_empty() {
            // who sent what is lost may be unknown
            expected.producer_epoch += 1;
            expected.lost_snapshots = false;
        }
    }
    removed(index, told).await?;
    readable(world, index, log, 1 + reactor::random_u64() as usize % 50_000).await
}

/// After a start no files are left of segments below what the log's start was before, or soon none are.
async fn removed(index: usize, start: Offset) -> Check {
    let folder = PathBuf::from(format!("/data/t-{index}"));
    let mut bases = Vec::new();
    for _ in 0..500 {
        let entries = reactor::fs::list(&folder).await.map_err(|error| error.to_string())?;
        let files: Vec<_> = entries.iter().filter_map(|entry| SegmentFile::parse(&entry.name)).collect();
        let segments = files.iter().filter(|file| file.kind == FileKind::Log);
        bases = segments.map(|file| file.offset).collect();
        bases.sort_unstable();
        let stale = files.iter().find(|file| file.offset < bases[0]);
        check!(stale.is_none(), "{stale:?} is left, the first segment is {}", bases[0]);
        if bases.get(1).is_none_or(|&second| second > start) {
            return Ok(());
        }
        reactor::sleep(Duration::from_millis(10)).await;
    }
    Err(format!("segments {bases:?}, the log starts at {start}"))
}

fn epochs(expected: &Expected, log: &Log, compacted: bool) -> Check {
    let last = expected.batches.last().map_or(LeaderEpoch::NONE, |batch| batch.epoch);
    let start = log.start_offset();
    // what was in force in front of an empty log may be known or not
    let is_empty = start == log.end_offset();
    check!(is_empty || log.last_epoch() == last, "last epoch {}, not {last}", log.last_epoch());
    let checked = |base: Offset| !compacted && base >= start;
    for (number, batch) in expected.batches.iter().enumerate().filter(|(_, batch)| checked(batch.base)) {
        check!(
            log.epoch_at(batch.base) == batch.epoch,
            "epoch at {}: {}",
            batch.base,
            log.epoch_at(batch.base)
        );
        let next = expected.batches.get(number + 1);
        if next.is_none_or(|next| next.epoch != batch.epoch) {
            let found = log.end_offset_for(batch.epoch);
            check!(found == (batch.epoch, batch.end), "end of epoch {}: {found:?}", batch.epoch);
        }
    }
    Ok(())
}

/// The last batch of each producer is known, none of the last five is appended again (Kafka's snapshot keeps one
/// batch of each, so an older one may be refused instead), and a gap is refused.
fn producers(expected: &Expected, log: &Log) -> Check {
    for producer in producer_ids() {
        let last = expected.producer_batches(producer).rev();
        for (number, batch) in last.take(5).enumerate() {
            if expected.lost_snapshots && batch.base < log.start_offset() {
                break;
            }
            let again = log.append(batch.raw.clone(), &batch.header, LeaderEpoch(99), TimestampMs(0));
            if number > 0 && again == Err(Error::Refused(ErrorCode::OutOfOrderSequenceNumber)) {
                continue;
            }
            let Ok(again) = again else { return Err(format!("duplicate of {}: {again:?}", batch.base)) };
            let place = (again.base_offset, again.end_offset, again.duplicate);
            check!(place == (batch.base, batch.end, true), "duplicate of {} appended: {again:?}", batch.base);
        }
        if let Some(last) =
            expected.producer_batches(producer).next_back().filter(|_| !expected.lost_snapshots)
        {
            let (epoch, sequence) = (last.header.producer_epoch.0, last.header.last_sequence() + 2);
            let (raw, header) =
                batch(&Spec { producer: Some((producer, epoch, sequence)), ..Spec::default() });
            let gap = log.append(raw, &header, LeaderEpoch(99), TimestampMs(0));
            check!(gap == Err(Error::Refused(ErrorCode::OutOfOrderSequenceNumber)), "gap: {gap:?}");
        }
    }
    Ok(())
}

pub fn producer_ids() -> std::ops::Range<i64> {
    10..12
}

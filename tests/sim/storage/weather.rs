//! What happens to the disk from outside: others fill it, and bits flip.

use std::path::PathBuf;
use std::rc::Rc;
use std::time::Duration;

use super::World;
use crate::log::files::{FileKind, SegmentFile};
use crate::protocol::batch::{BatchHeader, HEADER_BYTES, MAGIC, crc_matches};
use crate::reactor;
use crate::reactor::sim::Disk;
use crate::storage::testing::Noise;

/// Left free by what is appended. More than the journal, what is preallocated, and what describes the logs.
pub const RESERVE_BYTES: u64 = 8 << 20;

/// What others leave free on the disk.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Room {
    Enough,
    /// At times less than the reserve, but most of it.
    Scarce,
    /// The same, and at times none at all.
    None,
}

/// One life's weather: at its end there is room.
pub async fn weather(world: Rc<World>, disk: Disk) {
    let mut noise = Noise(reactor::random_u64());
    let mut wait = async |most_ms: u64| {
        reactor::sleep(Duration::from_micros(noise.below(most_ms * 1_000))).await;
        noise.next()
    };
    if world.plan.rots {
        let mut noise = Noise(wait(50).await);
        rot(&world, &disk, &mut noise);
    }
    if world.plan.room == Room::None && wait(20).await.is_multiple_of(2) {
        world.may_fail.set(true);
        disk.set_capacity(disk.used_bytes() + wait(20).await % 100_000);
    }
    wait(1_500).await;
    disk.set_capacity(u64::MAX);
}

/// How the next life finds the disk, if this one ends by itself.
pub fn leave(world: &World, disk: &Disk) {
    let chance = reactor::random_u64();
    if world.plan.room != Room::Enough && chance.is_multiple_of(2) {
        disk.set_capacity(disk.used_bytes() + RESERVE_BYTES * 3 / 4 + chance / 2 % (RESERVE_BYTES / 2));
    }
}

/// Flips a bit in some of the logs' batches, and damages what describes them.
pub fn rot(world: &World, disk: &Disk, noise: &mut Noise) {
    for _ in 0..1 + noise.below(3) {
        let index = noise.below(world.plan.partitions as u64) as usize;
        let folder = PathBuf::from(format!("/data/t-{index}"));
        let names = disk.list(&folder).unwrap_or_default();
        let files: Vec<SegmentFile> = names.iter().filter_map(|name| SegmentFile::parse(name)).collect();
        if files.is_empty() {
            continue;
        }
        let file = files[noise.below(files.len() as u64) as usize];
        let path = folder.join(file.name());
        let bytes = disk.read(&path).expect("it was listed");
        let bit = noise.below(8) as u32;
        if file.kind != FileKind::Log {
            world.logs[index].borrow_mut().lost_snapshots |= file.kind == FileKind::Snapshot;
            match noise.below(3) {
                _ if bytes.is_empty() => {}
                0 => disk.write(&path, &bytes[..noise.below(bytes.len() as u64) as usize]).expect("a file"),
                _ => disk.flip_bit(&path, noise.below(bytes.len() as u64), bit).expect("a file"),
            }
            continue;
        }
        let batches = batches(&bytes);
        if batches.is_empty() {
            continue;
        }
        let (position, header) = &batches[noise.below(batches.len() as u64) as usize];
        let at = noise.below(header.total_bytes as u64);
        let expected = &mut *world.logs[index].borrow_mut();
        // The leader epoch is not covered by the checksum. Neither is the base offset, which is known where offsets
        // have no gaps.
        let is_known = world.plan.compacted != Some(index) && expected.rotten.is_empty();
        let is_noticed = (8..12).contains(&at) || at >= 16 || (at < 8 && is_known);
        if is_noticed && !expected.misplaced {
            disk.flip_bit(&path, position + at, bit).expect("a file");
            expected.rotten.push(header.base_offset..header.next_offset());
            expected.misplaced = at < 8;
        }
    }
}

/// Says what the segments hold, for whoever looks into a seed that failed.
pub fn describe(world: &World, disk: &Disk) {
    for (index, expected) in world.logs.iter().enumerate() {
        let folder = PathBuf::from(format!("/data/t-{index}"));
        let files = disk.list(&folder).unwrap_or_default().join(" ");
        tracing::info!(index, damaged = ?expected.borrow().rotten, files);
        for name in disk.list(&folder).unwrap_or_default().iter().filter(|name| name.ends_with(".log")) {
            let bytes = disk.read(folder.join(name)).expect("it was listed");
            let sound: Vec<String> = batches(&bytes)
                .iter()
                .map(|(at, header)| format!("{}..{}@{at}", header.base_offset, header.next_offset()))
                .collect();
            tracing::info!(index, name, length = bytes.len(), sound = sound.join(" "));
        }
    }
}

/// The positions and headers of all sound batches, behind damage, too.
fn batches(bytes: &[u8]) -> Vec<(u64, BatchHeader)> {
    let (mut found, mut position) = (Vec::new(), 0);
    while position + HEADER_BYTES <= bytes.len() {
        let header = BatchHeader::parse(&bytes[position..]).ok().filter(|header| header.magic == MAGIC);
        let is_whole = |header: &BatchHeader| {
            bytes.get(position..position + header.total_bytes).is_some_and(crc_matches)
        };
        match header.filter(is_whole) {
            Some(header) => {
                let total = header.total_bytes;
                found.push((position as u64, header));
                position += total;
            }
            None => position += 1,
        }
    }
    found
}

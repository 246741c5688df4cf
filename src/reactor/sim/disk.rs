//! The virtual disk. It is made outside of a run and survives it, so that the next run recovers from it.
//!
//! The model: each 512-byte sector is old or new, never a mix. Sectors, names and lengths that no flush has covered
//! may be lost at a crash, each by itself. `sync_data` makes data and length of a file durable, `sync_dir` the
//! names in that folder (not the folder's own name in its parent). Operations complete after a delay, in any
//! order; a write under way at a crash or beside a read is sector by sector old or new.
//!
//! It panics when the code above breaks the rules of direct I/O: positions or lengths that are not aligned, two
//! writes to one block in flight together, bytes that change under a write.

use std::cell::RefCell;
use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::path::Path;
use std::rc::Rc;

use super::CrashKind;
use super::inode::{Inode, PAGE_BYTES, Survival};
use super::names::{Child, Name, Names, ROOT, error};
use super::random::Random;
use super::trace::Kind;
use super::world::{WALL_CLOCK_START_MS, World};
use crate::reactor::sync::{Receiver, oneshot};
use crate::reactor::{Buf, SharedBuf};

const SECTOR_BYTES: usize = 512;

/// A disk without a limit of its own is this large.
const CAPACITY_BYTES: u64 = 1 << 40;

/// A disk, shared by whoever clones the handle; one run at a time uses it.
#[derive(Clone, Default)]
pub struct Disk(pub(super) Rc<RefCell<State>>);

/// Faults that come by themselves. Each number is "once in so many operations"; zero is never.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Faults {
    /// EIO; each sector of the write is old or new.
    pub write_error_one_in: u32,
    /// EIO; the kernel then takes what it could not flush for clean: it may be old at once or after a crash, and
    /// no later flush saves it.
    pub flush_error_one_in: u32,
    /// EIO.
    pub read_error_one_in: u32,
    /// One bit of what is read flips, on the medium: later reads see it too.
    pub rot_one_in: u32,
    /// The read returns another block of the same file; the next one is right again.
    pub misdirected_read_one_in: u32,
}

/// What a disk has done since it was made.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Stats {
    pub reads: u64,
    pub writes: u64,
    pub bytes_written: u64,
    pub flushes: u64,
    /// Faults that were injected.
    pub faults: u64,
    pub crashes: u64,
    /// Pages of which a crash took something.
    pub pages_lost: u64,
}

/// How an operation ends.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Ending {
    Complete,
    /// The process was killed: the kernel may have received it or not.
    Killed,
    /// Power was lost: everything it would have changed is in doubt.
    Lost,
}

/// For the trace.
#[derive(Clone, Copy, Debug)]
#[repr(u64)]
pub(super) enum Operation {
    Open = 1,
    Read,
    Write,
    Flush,
    Allocate,
    Truncate,
    Stat,
    List,
    CreateDir,
    Rename,
    Remove,
    FlushDir,
}

type Effect = Box<dyn FnOnce(&mut State, Ending)>;

struct WriteInFlight {
    end_page: u64,
    buf: SharedBuf,
}

pub(super) struct State {
    pub random: Random,
    pub names: Names,
    inodes: BTreeMap<u64, Inode>,
    next_inode: u64,
    /// Counts every change, so that a flush knows what came before it.
    pub sequence: u64,
    /// Operations under way, by number. Here and not in the event, so that a crash can let some take effect.
    pending: BTreeMap<u64, Effect>,
    next_operation: u64,
    /// By inode and first page; they never overlap.
    writes_in_flight: BTreeMap<(u64, u64), WriteInFlight>,
    /// Nobody can see them any more, but a crash may bring their names back.
    gone: BTreeSet<u64>,
    capacity_bytes: u64,
    used_bytes: u64,
    faults: Faults,
    fail_write_after: Option<u64>,
    fail_flush_after: Option<u64>,
    stats: Stats,
    /// Counts crashes: handles from before one are void.
    pub epoch: u64,
    pub wall_ms: i64,
}

impl Default for State {
    fn default() -> State {
        State {
            random: Random::new(0, 3),
            names: Names::new(),
            inodes: BTreeMap::from([(ROOT, Inode::new(WALL_CLOCK_START_MS))]),
            next_inode: ROOT + 1,
            sequence: 0,
            pending: BTreeMap::new(),
            next_operation: 0,
            writes_in_flight: BTreeMap::new(),
            gone: BTreeSet::new(),
            capacity_bytes: CAPACITY_BYTES,
            used_bytes: 0,
            faults: Faults::default(),
            fail_write_after: None,
            fail_flush_after: None,
            stats: Stats::default(),
            epoch: 0,
            wall_ms: WALL_CLOCK_START_MS,
        }
    }
}

/// From outside of a run, or from the test inside one: no delay, no fault, durable at once.
impl Disk {
    /// An empty disk with nothing but `/`.
    #[must_use]
    pub fn new() -> Disk {
        Disk::default()
    }

    pub fn set_faults(&self, faults: Faults) {
        self.0.borrow_mut().faults = faults;
    }

    /// The write after `count` more fails.
    pub fn fail_write_after(&self, count: u64) {
        self.0.borrow_mut().fail_write_after = Some(count);
    }

    /// The flush after `count` more fails.
    pub fn fail_flush_after(&self, count: u64) {
        self.0.borrow_mut().fail_flush_after = Some(count);
    }

    /// The disk is full when files hold that much.
    pub fn set_capacity(&self, bytes: u64) {
        self.0.borrow_mut().capacity_bytes = bytes;
    }

    #[must_use]
    pub fn used_bytes(&self) -> u64 {
        self.0.borrow().used_bytes
    }

    #[must_use]
    pub fn stats(&self) -> Stats {
        self.0.borrow().stats
    }

    /// Creates a folder and those above it.
    pub fn create_dir_all(&self, path: impl AsRef<Path>) -> io::Result<()> {
        let mut state = self.0.borrow_mut();
        let mut at = std::path::PathBuf::from("/");
        for component in path.as_ref().components() {
            at.push(component);
            let Some(name) = state.names.locate(&at)? else { continue };
            match state.names.child(&name) {
                Some(Child { is_dir: true, .. }) => {}
                Some(_) => return Err(error(libc::ENOTDIR)),
                None => state.create(name, NewChild::Dir),
            }
        }
        state.names.settle();
        Ok(())
    }

    /// Puts a file there, replacing what is there; its folder exists. All names on the disk become durable.
    pub fn write(&self, path: impl AsRef<Path>, contents: &[u8]) -> io::Result<()> {
        let mut state = self.0.borrow_mut();
        let name = state.names.locate(path.as_ref())?.ok_or_else(|| error(libc::EISDIR))?;
        if state.names.child(&name).is_none() {
            state.create(name.clone(), NewChild::File);
        }
        let inode = state.file(path.as_ref())?;
        state.truncate(inode, 0);
        state.write_bytes(inode, contents)?;
        let sequence = state.sequence;
        state.inode(inode)?.flushed(sequence);
        state.names.settle();
        Ok(())
    }

    /// The whole file, as a reader sees it.
    pub fn read(&self, path: impl AsRef<Path>) -> io::Result<Vec<u8>> {
        let state = self.0.borrow();
        let inode = state.file(path.as_ref())?;
        Ok(state.contents(inode))
    }

    /// The names in a folder, sorted.
    pub fn list(&self, path: impl AsRef<Path>) -> io::Result<Vec<String>> {
        let state = self.0.borrow();
        let dir = state.names.resolve_dir(path.as_ref())?;
        Ok(state.names.children(dir).map(|(name, _)| name.clone()).collect())
    }

    /// Rot: one bit of the file flips. Nothing happens where the file has no data.
    pub fn flip_bit(&self, path: impl AsRef<Path>, byte: u64, bit: u32) -> io::Result<()> {
        let mut state = self.0.borrow_mut();
        let inode = state.file(path.as_ref())?;
        state.inode(inode)?.flip_bit(byte, bit);
        Ok(())
    }

    /// A power cut between runs; during one, see [`Crash`](super::Crash).
    pub fn crash(&self, seed: u64) {
        assert!(!World::is_current(), "within a run, call sim::crash");
        self.0.borrow_mut().random = Random::new(seed, 4);
        self.end_run(Some(CrashKind::PowerCut));
    }

    // -- for the run

    /// Where the wall clock of the last run ended, and a little more: booting takes time.
    pub(super) fn wall_ms(&self) -> i64 {
        self.0.borrow().wall_ms + 1_000
    }

    pub(super) fn begin_run(&self, seed: u64) {
        self.0.borrow_mut().random = Random::new(seed, 3);
    }

    /// The run is over: what was under way happens or does not.
    pub(super) fn end_run(&self, crash: Option<CrashKind>) {
        let mut state = self.0.borrow_mut();
        let ending = if crash == Some(CrashKind::PowerCut) { Ending::Lost } else { Ending::Killed };
        for (_, effect) in std::mem::take(&mut state.pending) {
            if ending == Ending::Lost || state.random.coin() {
                effect(&mut state, ending);
            }
        }
        state.writes_in_flight.clear();
        state.wall_ms = state.wall_now();
        state.epoch += 1;
        state.stats.crashes += u64::from(crash.is_some());
        if crash == Some(CrashKind::PowerCut) {
            state.lose_power();
        }
        state.close_everything();
    }

    /// Starts an operation. Its effect happens when it completes; the receiver then has the result. Dropping the
    /// receiver does not stop it.
    pub(super) fn submit<T: 'static>(
        &self,
        operation: Operation,
        what: [u64; 2],
        effect: impl FnOnce(&mut State, Ending) -> io::Result<T> + 'static,
    ) -> Receiver<io::Result<T>> {
        let world = World::current();
        let (sender, receiver) = oneshot();
        let (number, delay) = {
            let mut state = self.0.borrow_mut();
            let number = state.next_operation;
            state.next_operation += 1;
            let effect: Effect = Box::new(move |state, ending| sender.send(effect(state, ending)));
            state.pending.insert(number, effect);
            (number, state.delay(operation))
        };
        world.record(Kind::Submit, [operation as u64, what[0], what[1]]);
        world.note(|| format!("disk operation {number}: {operation:?}"));
        world.disk_event();
        let disk = self.clone();
        world.after(delay, world.place(), move || {
            let world = World::current();
            world.record(Kind::Complete, [number, 0, 0]);
            let effect = disk.0.borrow_mut().pending.remove(&number).expect("it completes once");
            effect(&mut disk.0.borrow_mut(), Ending::Complete);
            world.disk_event();
        });
        receiver
    }
}

/// What [`State::create`] makes.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum NewChild {
    File,
    Dir,
}

impl State {
    /// Nanoseconds: usually what a fast device takes, sometimes nothing at all, sometimes very long.
    fn delay(&mut self, operation: Operation) -> u64 {
        match self.random.below(64) {
            0..8 => 0,
            8 => self.random.below(8_000_000),
            _ if matches!(operation, Operation::Flush | Operation::FlushDir) => {
                30_000 + self.random.below(300_000)
            }
            _ => 10_000 + self.random.below(150_000),
        }
    }

    pub fn next_sequence(&mut self) -> u64 {
        self.sequence += 1;
        self.sequence
    }

    pub fn inode(&mut self, inode: u64) -> io::Result<&mut Inode> {
        self.inodes.get_mut(&inode).ok_or_else(|| error(libc::EBADF))
    }

    pub fn len(&self, inode: u64) -> u64 {
        self.inodes.get(&inode).map_or(0, Inode::len)
    }

    /// The inode of a path that must be a file.
    pub fn file(&self, path: &Path) -> io::Result<u64> {
        let child = self.names.resolve(path)?;
        if child.is_dir { Err(error(libc::EISDIR)) } else { Ok(child.inode) }
    }

    pub fn create(&mut self, at: Name, what: NewChild) {
        let inode = self.next_inode;
        self.next_inode += 1;
        let wall_ms = self.wall_now();
        self.inodes.insert(inode, Inode::new(wall_ms));
        let sequence = self.next_sequence();
        self.names.link(sequence, at, Child { inode, is_dir: what == NewChild::Dir });
    }

    pub fn remove(&mut self, at: Name, child: Child) {
        let sequence = self.next_sequence();
        self.names.unlink(sequence, at, child);
        self.release_if_gone(child.inode);
    }

    pub fn rename(&mut self, from: &Name, to: Name) -> io::Result<()> {
        let child = self.names.child(from).ok_or_else(|| error(libc::ENOENT))?;
        let replaced = self.names.child(&to);
        match replaced {
            Some(other) if other == child => return Ok(()),
            Some(other) if other.is_dir && !child.is_dir => return Err(error(libc::EISDIR)),
            Some(other) if !other.is_dir && child.is_dir => return Err(error(libc::ENOTDIR)),
            Some(other) if other.is_dir && self.names.children(other.inode).next().is_some() => {
                return Err(error(libc::ENOTEMPTY));
            }
            _ => {}
        }
        let sequence = self.next_sequence();
        self.names.rename(sequence, from, to, child);
        if let Some(other) = replaced {
            self.release_if_gone(other.inode);
        }
        Ok(())
    }

    /// An opened or closed handle, a removed name: the space of a file that nobody can reach is free.
    pub fn release_if_gone(&mut self, inode: u64) {
        let Some(found) = self.inodes.get(&inode) else { return };
        if found.open > 0 || self.names.is_named(inode) || self.gone.contains(&inode) {
            return;
        }
        self.used_bytes = self.used_bytes.saturating_sub(found.allocated_bytes());
        self.gone.insert(inode);
        self.forget_gone();
    }

    pub fn forget_gone(&mut self) {
        if self.names.is_settled() {
            for inode in std::mem::take(&mut self.gone) {
                self.inodes.remove(&inode);
            }
        }
    }

    fn lose_power(&mut self) {
        let survival = Survival::draw(&mut self.random);
        self.names.crash(survival, &mut self.random);
        for inode in self.inodes.values_mut() {
            self.stats.pages_lost += inode.crash(survival, &mut self.random);
        }
        if let Some(world) = World::try_current() {
            world.note(|| format!("power cut: {survival:?}, {} pages lost so far", self.stats.pages_lost));
        }
    }

    /// After a run there are no handles: what has no name is gone, unless a later crash brings the name back.
    fn close_everything(&mut self) {
        for inode in self.inodes.values_mut() {
            inode.open = 0;
            inode.flushing = 0;
        }
        let names = &self.names;
        self.gone =
            self.inodes.keys().copied().filter(|&inode| inode != ROOT && !names.is_named(inode)).collect();
        self.forget_gone();
        let gone = &self.gone;
        self.used_bytes = self
            .inodes
            .iter()
            .filter(|(inode, _)| !gone.contains(inode))
            .map(|(_, inode)| inode.allocated_bytes())
            .sum();
    }

    pub fn free_bytes(&self) -> u64 {
        self.capacity_bytes.saturating_sub(self.used_bytes)
    }

    pub fn capacity_bytes(&self) -> u64 {
        self.capacity_bytes
    }

    fn take_space(&mut self, bytes: u64) -> io::Result<()> {
        if bytes > self.free_bytes() {
            return Err(error(libc::ENOSPC));
        }
        self.used_bytes += bytes;
        Ok(())
    }

    fn wall_now(&self) -> i64 {
        World::try_current().map_or(self.wall_ms, |world| world.wall_clock_ms())
    }

    fn fault(&mut self, one_in: u32, operation: Operation) -> bool {
        let strikes = self.random.one_in(one_in);
        if strikes {
            self.note_fault(operation);
        }
        strikes
    }

    fn note_fault(&mut self, operation: Operation) {
        self.stats.faults += 1;
        if let Some(world) = World::try_current() {
            world.record(Kind::Fault, [operation as u64, 0, 0]);
            world.note(|| format!("fault: {operation:?}"));
        }
    }

    fn counted_fault(&mut self, pick: impl Fn(&mut State) -> &mut Option<u64>, operation: Operation) -> bool {
        let left = pick(self);
        let strikes = *left == Some(0);
        *left = left.and_then(|left| left.checked_sub(1));
        if strikes {
            self.note_fault(operation);
        }
        strikes
    }

    // -- data

    /// Panics if a write is under way to any of the blocks.
    pub fn begin_write(&mut self, inode: u64, position: u64, buf: &SharedBuf) {
        let first = position / PAGE_BYTES as u64;
        let end = first + (buf.as_slice().len() / PAGE_BYTES) as u64;
        let before = self.writes_in_flight.range((inode, 0)..(inode, end)).next_back();
        if let Some((&(_, other), in_flight)) = before {
            assert!(
                in_flight.end_page <= first,
                "two writes in flight to one block: pages {first}..{end} while {other}..{} is under way",
                in_flight.end_page
            );
        }
        self.stats.writes += 1;
        self.stats.bytes_written += buf.as_slice().len() as u64;
        self.writes_in_flight.insert((inode, first), WriteInFlight { end_page: end, buf: buf.clone() });
    }

    /// Takes the write's effect; `checksum` is that of the bytes at its beginning.
    pub fn end_write(
        &mut self,
        inode: u64,
        position: u64,
        buf: &SharedBuf,
        checksum: u32,
        ending: Ending,
    ) -> io::Result<()> {
        let bytes = buf.as_slice();
        assert!(crc32c::crc32c(bytes) == checksum, "the bytes of a write changed while it was in flight");
        let first = position / PAGE_BYTES as u64;
        let pages = (bytes.len() / PAGE_BYTES) as u64;
        self.writes_in_flight.remove(&(inode, first));
        let needed = self.inode(inode)?.bytes_to_write(first, pages);
        self.take_space(needed)?;
        let failed = ending == Ending::Complete
            && (self.counted_fault(|state| &mut state.fail_write_after, Operation::Write)
                || self.fault(self.faults.write_error_one_in, Operation::Write));
        let torn = failed || ending == Ending::Killed;
        let sequence = self.next_sequence();
        let wall_ms = self.wall_now();
        let State { inodes, random, .. } = self;
        let file = inodes.get_mut(&inode).expect("it was there");
        file.modified_ms = wall_ms;
        for (index, page) in (first..).zip(bytes.chunks_exact(PAGE_BYTES)) {
            if torn {
                file.tear_page(index, sequence, page, random);
            } else {
                file.write_page(index, sequence, page, random);
            }
        }
        if !failed {
            file.extend(sequence, position + bytes.len() as u64, random);
        }
        if failed { Err(error(libc::EIO)) } else { Ok(()) }
    }

    /// A small file's contents through the page cache, from its beginning; the rest of the last page is zeros.
    pub fn write_bytes(&mut self, inode: u64, contents: &[u8]) -> io::Result<()> {
        let pages = contents.len().div_ceil(PAGE_BYTES) as u64;
        let needed = self.inode(inode)?.bytes_to_write(0, pages);
        self.take_space(needed)?;
        let sequence = self.next_sequence();
        let wall_ms = self.wall_now();
        self.stats.writes += 1;
        self.stats.bytes_written += contents.len() as u64;
        let State { inodes, random, .. } = self;
        let file = inodes.get_mut(&inode).expect("it was there");
        file.modified_ms = wall_ms;
        for (index, chunk) in (0..).zip(contents.chunks(PAGE_BYTES)) {
            let mut page = [0; PAGE_BYTES];
            page[..chunk.len()].copy_from_slice(chunk);
            file.write_page(index, sequence, &page, random);
        }
        file.extend(sequence, contents.len() as u64, random);
        Ok(())
    }

    pub fn truncate(&mut self, inode: u64, len: u64) {
        let sequence = self.next_sequence();
        let wall_ms = self.wall_now();
        let State { inodes, random, .. } = self;
        if let Some(file) = inodes.get_mut(&inode) {
            let before = file.allocated_bytes();
            file.truncate(sequence, len, random);
            file.modified_ms = wall_ms;
            self.used_bytes = self.used_bytes.saturating_sub(before - file.allocated_bytes());
        }
    }

    pub fn allocate(&mut self, inode: u64, len: u64) -> io::Result<()> {
        let needed = self.inode(inode)?.bytes_to_reserve(len);
        if needed <= self.free_bytes() {
            self.reserve(inode, len, needed);
            return Ok(());
        }
        // as far as the space goes, or not at all
        let part = len.saturating_sub(needed - self.free_bytes()) / PAGE_BYTES as u64 * PAGE_BYTES as u64;
        let needed = self.inode(inode)?.bytes_to_reserve(part);
        if part > self.len(inode) && needed <= self.free_bytes() && self.random.coin() {
            self.reserve(inode, part, needed);
        }
        Err(error(libc::ENOSPC))
    }

    fn reserve(&mut self, inode: u64, len: u64, needed: u64) {
        self.used_bytes += needed;
        let sequence = self.next_sequence();
        let State { inodes, random, .. } = self;
        if let Some(file) = inodes.get_mut(&inode) {
            file.reserve(sequence, len, random);
        }
    }

    /// What a reader sees now: fewer bytes at the end of the file; under a write in flight, sectors old or new.
    pub fn read(&mut self, inode: u64, position: u64, len: usize) -> io::Result<SharedBuf> {
        let file_len = self.inode(inode)?.len();
        let count = usize::try_from(file_len.saturating_sub(position)).unwrap_or(usize::MAX).min(len);
        let mut buf = Buf::new(count.next_multiple_of(PAGE_BYTES).max(PAGE_BYTES));
        self.read_into(inode, position, &mut buf.as_mut_slice()[..count])?;
        Ok(buf.freeze_prefix(count))
    }

    /// A small file, as a reader sees it.
    pub fn read_whole(&mut self, inode: u64) -> io::Result<Vec<u8>> {
        let mut contents = vec![0; usize::try_from(self.inode(inode)?.len()).expect("a small file")];
        self.read_into(inode, 0, &mut contents)?;
        Ok(contents)
    }

    /// The caller has checked the length.
    fn read_into(&mut self, inode: u64, position: u64, out: &mut [u8]) -> io::Result<()> {
        self.stats.reads += 1;
        if self.fault(self.faults.read_error_one_in, Operation::Read) {
            return Err(error(libc::EIO));
        }
        let mut from = position;
        if !out.is_empty() {
            if self.fault(self.faults.misdirected_read_one_in, Operation::Read) {
                let pages = self.inode(inode)?.len().div_ceil(PAGE_BYTES as u64);
                from = self.random.below(pages) * PAGE_BYTES as u64;
            }
            if self.fault(self.faults.rot_one_in, Operation::Read) {
                let (byte, bit) = (from + self.random.below(out.len() as u64), self.random.below(8) as u32);
                self.inode(inode)?.flip_bit(byte, bit);
            }
        }
        self.inode(inode)?.read(from, out);
        self.mix_writes_in_flight(inode, from, out);
        Ok(())
    }

    fn mix_writes_in_flight(&mut self, inode: u64, position: u64, out: &mut [u8]) {
        let end = position + out.len() as u64;
        let pages = (inode, 0)..(inode, end.div_ceil(PAGE_BYTES as u64));
        let State { writes_in_flight, random, .. } = self;
        for (&(_, first), write) in writes_in_flight.range(pages).rev() {
            if write.end_page * PAGE_BYTES as u64 <= position {
                break;
            }
            let begin = first * PAGE_BYTES as u64;
            for (at, sector) in (begin..).step_by(SECTOR_BYTES).zip(write.buf.as_slice().chunks(SECTOR_BYTES))
            {
                if at >= position && at < end && random.coin() {
                    let offset = (at - position) as usize;
                    let count = sector.len().min(out.len() - offset);
                    out[offset..offset + count].copy_from_slice(&sector[..count]);
                }
            }
        }
    }

    /// The whole file, as a reader sees it.
    pub fn contents(&self, inode: u64) -> Vec<u8> {
        let Some(file) = self.inodes.get(&inode) else { return Vec::new() };
        let mut contents = vec![0; file.len() as usize];
        file.read(0, &mut contents);
        contents
    }

    /// A flush begins: returns what it covers.
    pub fn begin_flush(&mut self, inode: u64) -> u64 {
        self.stats.flushes += 1;
        if let Some(file) = self.inodes.get_mut(&inode) {
            file.flushing += 1;
        }
        self.sequence
    }

    pub fn end_flush(&mut self, inode: u64, covered: u64, ending: Ending) -> io::Result<()> {
        if ending != Ending::Complete {
            return Ok(()); // as if it had not begun: the crash decides
        }
        let failed = self.counted_fault(|state| &mut state.fail_flush_after, Operation::Flush)
            || self.fault(self.faults.flush_error_one_in, Operation::Flush);
        let State { inodes, random, .. } = self;
        let file = inodes.get_mut(&inode).ok_or_else(|| error(libc::EBADF))?;
        file.flushing = file.flushing.saturating_sub(1);
        if failed {
            file.flush_failed(covered, random);
            return Err(error(libc::EIO));
        }
        file.flushed(covered);
        Ok(())
    }

    /// The flush that is a part of a durable write: of what it has just written, and nothing else.
    pub fn end_durable_write(&mut self, inode: u64, position: u64, len: usize) -> io::Result<()> {
        self.stats.flushes += 1;
        let failed = self.counted_fault(|state| &mut state.fail_flush_after, Operation::Flush)
            || self.fault(self.faults.flush_error_one_in, Operation::Flush);
        let first = position / PAGE_BYTES as u64;
        let pages = first..first + (len / PAGE_BYTES) as u64;
        let State { inodes, random, sequence, .. } = self;
        let file = inodes.get_mut(&inode).ok_or_else(|| error(libc::EBADF))?;
        if failed {
            file.pages_flush_failed(pages, *sequence, random);
            return Err(error(libc::EIO));
        }
        file.pages_flushed(pages, *sequence);
        Ok(())
    }

    pub fn end_flush_dir(&mut self, dir: u64, covered: u64, ending: Ending) -> io::Result<()> {
        if ending != Ending::Complete {
            return Ok(());
        }
        if self.counted_fault(|state| &mut state.fail_flush_after, Operation::FlushDir)
            || self.fault(self.faults.flush_error_one_in, Operation::FlushDir)
        {
            return Err(error(libc::EIO));
        }
        self.names.flushed(dir, covered);
        self.forget_gone();
        Ok(())
    }
}

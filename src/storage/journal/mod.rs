//! The shard's commit journal in one log directory: where small batches of all partitions become durable together, with
//! one write and one flush.
//!
//! A few files of fixed size, written once before they are used (a flush into written space costs half of one into space
//! that is only reserved), are filled one after the other. When one is full, what its batches' logs have in the journal
//! only is [drained](super::drain) to their segments and flushed there; then the file gets a new life, which its old rounds
//! are not of, and may be filled again. A failed drain recycles nothing. All of that is done log by log and piece by piece with
//! rests between, as long as there is room in other files: a commit meets one of these writes or flushes, not a queue of
//! them (at 5,000 records/s the slowest thousandth was that of one file's end). After a crash [`replay`] puts
//! every round where it belongs before any log is opened.

mod recycle;
pub mod replay;
pub mod unplaced;

use std::cell::{Cell, RefCell};
use std::collections::VecDeque;
use std::io;
use std::path::{Path, PathBuf};
use std::rc::{Rc, Weak};
use std::time::Duration;

use super::again;
use super::commit::skips_flush;
use super::directory::Directory;
use super::shard::Shard;
use super::state::LogState;
use crate::log::files::JOURNAL_PREFIX;
use crate::log::journal::{BLOCK_BYTES, Unsealed, encode_file_head};
use crate::model::ShardId;
use crate::reactor::sync::Notify;
use crate::reactor::{self, Buf, File, Instant, OpenMode, SharedBuf, fs, now};

/// Files of a journal: one is filled while others are drained.
const FILES: usize = 4;
/// One write of a file's first zeros: while commits wait for the file, and while it is made ahead of them.
const ZERO_BYTES: usize = 1 << 20;
const ZERO_BYTES_AHEAD: usize = 256 << 10;
/// Of so many files that wait to be drained, the oldest is drained as fast as possible.
const FULL_MAX: usize = 2;
/// After a piece of work that can wait comes a rest of so many times what it took.
const REST: u32 = 3;
const REST_MAX: Duration = Duration::from_millis(20);

pub struct Journal {
    folder: PathBuf,
    shard: ShardId,
    file_bytes: u64,
    state: RefCell<State>,
    /// A file has become free, or none ever will.
    pub freed: Notify,
}

#[derive(Default)]
struct State {
    /// The file that rounds go to, and where the next one goes.
    current: Option<Rc<JournalFile>>,
    position: u64,
    /// The last round that was written, and the last that was flushed.
    written: u64,
    flushed: u64,
    free: VecDeque<Rc<JournalFile>>,
    /// Full, waiting to be drained, oldest first.
    full: VecDeque<Rc<JournalFile>>,
    recycling: bool,
    /// The next file is being made; it was tried while the current one was filled.
    making: bool,
    tried: bool,
    /// Commits wait for a file.
    awaited: bool,
    /// Files that exist.
    files: usize,
}

pub struct JournalFile {
    file: File,
    life: Cell<u64>,
    /// Logs with batches in it.
    logs: RefCell<Vec<Weak<LogState>>>,
}

impl State {
    fn begin(&mut self, file: Rc<JournalFile>) {
        (self.current, self.position) = (Some(file), BLOCK_BYTES as u64);
        (self.awaited, self.tried) = (false, false);
    }

    /// There should be one file more, and nobody makes it: whoever gets `true` does. In good time, before the current file
    /// is full, and once while it is filled.
    fn needs_next(&mut self, file_bytes: u64) -> bool {
        let is_time = self.position > file_bytes / 4 && self.free.is_empty() && self.files < FILES;
        let needs = is_time && !self.making && !self.tried;
        if needs {
            (self.making, self.tried) = (true, true);
        }
        needs
    }
}

/// Where a round goes.
pub struct Place {
    pub file: Rc<JournalFile>,
    position: u64,
    pub sequence: u64,
}

impl Journal {
    /// `bytes` is the size of the whole journal; `None` if that is too little for one.
    pub fn new(folder: &Path, bytes: u64) -> Option<Journal> {
        let file_bytes = bytes / FILES as u64 / BLOCK_BYTES as u64 * BLOCK_BYTES as u64;
        (file_bytes >= 4 * BLOCK_BYTES as u64).then(|| Journal {
            folder: folder.to_owned(),
            shard: reactor::shard_id(),
            file_bytes,
            state: RefCell::default(),
            freed: Notify::default(),
        })
    }

    /// The longest round it takes.
    pub fn round_bytes_max(&self) -> usize {
        usize::try_from(self.file_bytes).unwrap_or(usize::MAX) - BLOCK_BYTES
    }

    /// The last round that is flushed.
    pub fn flushed(&self) -> u64 {
        self.state.borrow().flushed
    }

    /// Makes or takes over the first file. Until then, and if there is no room for one, logs write to their segments.
    pub async fn open(&self, shard: &Shard) -> io::Result<()> {
        self.state.borrow_mut().awaited = true;
        let file = self.make_file(shard).await?;
        self.state.borrow_mut().begin(file);
        Ok(())
    }

    pub fn is_open(&self) -> bool {
        self.state.borrow().files > 0
    }

    /// Waits until the current file has room for a round of `bytes`. For the commit loop only.
    pub async fn room(&self, shard: &Rc<Shard>, directory: &Rc<Directory>, bytes: usize) -> io::Result<()> {
        let (full, needs_next) = {
            let state = &mut *self.state.borrow_mut();
            let full = state.current.is_some() && state.position + bytes as u64 > self.file_bytes;
            (full, state.needs_next(self.file_bytes))
        };
        if needs_next {
            reactor::spawn(recycle::make_next(Rc::clone(shard), Rc::clone(directory)));
        }
        if !full {
            return Ok(());
        }
        // A round that was not flushed in its own file would not be with a later one in the next.
        self.flush().await?;
        let recycling = {
            let state = &mut *self.state.borrow_mut();
            state.full.extend(state.current.take());
            std::mem::replace(&mut state.recycling, true)
        };
        if !recycling {
            reactor::spawn(recycle::run(Rc::clone(shard), Rc::clone(directory)));
        }
        let next = self.next_file(directory).await?;
        self.state.borrow_mut().begin(next);
        Ok(())
    }

    async fn next_file(&self, directory: &Directory) -> io::Result<Rc<JournalFile>> {
        loop {
            let free = {
                let state = &mut *self.state.borrow_mut();
                let free = state.free.pop_front();
                state.awaited = free.is_none();
                free
            };
            if let Some(free) = free {
                return Ok(free);
            }
            if directory.is_offline() {
                return Err(io::Error::other("the directory is offline"));
            }
            self.freed.notified().await;
        }
    }

    /// The next file, written over once and with a life, all of it durable.
    async fn make_file(&self, shard: &Shard) -> io::Result<Rc<JournalFile>> {
        let number = self.state.borrow().files;
        let path = self.folder.join(format!("{JOURNAL_PREFIX}{}.{number}", self.shard.0));
        let file = match File::open(&path, OpenMode::ReadWrite).await {
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                File::open(&path, OpenMode::CreateNew).await?
            }
            opened => opened?,
        };
        let mut written = file.len().await? / BLOCK_BYTES as u64 * BLOCK_BYTES as u64;
        if written < self.file_bytes {
            file.allocate(self.file_bytes).await?;
            let is_ahead = !self.is_pressed(shard);
            let length = if is_ahead { ZERO_BYTES_AHEAD } else { ZERO_BYTES };
            let length = (length as u64).min(self.file_bytes) as usize;
            let mut zeros = Buf::new(length);
            zeros.as_mut_slice().fill(0);
            let zeros = zeros.freeze();
            while written < self.file_bytes {
                // the last piece may go over what is there already; it is zeros, or of a life that has ended
                let at = written.min(self.file_bytes - length as u64);
                if is_ahead {
                    let began = now();
                    file.write_durable(&zeros, at).await?;
                    self.rest_after(began, shard).await;
                } else {
                    file.write(&zeros, at).await?;
                }
                written = at + length as u64;
            }
        }
        // it may have been this long in an earlier life, whose flush of that failed
        again::set_length(&file, file.len().await?).await?;
        let file = JournalFile { file, life: Cell::new(0), logs: RefCell::default() };
        file.begin_life().await?;
        fs::sync_dir(&self.folder).await?;
        self.state.borrow_mut().files += 1;
        Ok(Rc::new(file))
    }

    /// Gives a round its place behind the last one; [`Self::room`] was asked for as much.
    pub fn place(&self, buf: &mut Buf, round: Unsealed) -> Place {
        let state = &mut *self.state.borrow_mut();
        state.written += 1;
        let file = Rc::clone(state.current.as_ref().expect("room was made"));
        let place = Place { position: state.position, sequence: state.written, file };
        state.position += buf.len() as u64;
        assert!(state.position <= self.file_bytes, "a round ends within its file");
        round.seal(buf.as_mut_slice(), place.file.life.get(), place.sequence, state.flushed);
        place
    }

    /// Everything up to this round is flushed.
    pub fn note_flushed(&self, sequence: u64) {
        let state = &mut *self.state.borrow_mut();
        state.flushed = state.flushed.max(sequence);
    }

    /// What can wait while there is room in other files has to be done now.
    pub fn is_pressed(&self, shard: &Shard) -> bool {
        let state = self.state.borrow();
        state.awaited || state.full.len() >= FULL_MAX || shard.stopping.get()
    }

    /// Leaves the disk to commits, once a piece of work that can wait is done.
    async fn rest_after(&self, began: Instant, shard: &Shard) {
        if !self.is_pressed(shard) {
            reactor::sleep((now().since(began) * REST).min(REST_MAX)).await;
        }
    }

    /// Flushes what was written so far.
    pub async fn flush(&self) -> io::Result<()> {
        let (written, current) = {
            let state = self.state.borrow();
            (state.written, state.current.clone())
        };
        if let Some(current) = current.filter(|_| self.flushed() < written) {
            if !skips_flush() {
                current.file.sync_data().await?;
            }
            self.note_flushed(written);
        }
        Ok(())
    }

    /// After a clean stop, when every log has all it needs in its segments: nothing is to be replayed.
    pub async fn empty(&self) -> io::Result<()> {
        let files: Vec<Rc<JournalFile>> = {
            let state = &mut *self.state.borrow_mut();
            let full = state.full.drain(..);
            full.chain(state.current.take()).collect()
        };
        for file in files {
            file.begin_life().await?;
        }
        Ok(())
    }
}

impl Place {
    pub async fn write(&self, buf: &SharedBuf) -> io::Result<()> {
        self.file.file.write(buf, self.position).await
    }

    pub async fn write_durable(&self, buf: &SharedBuf) -> io::Result<()> {
        self.file.file.write_durable(buf, self.position).await
    }
}

impl JournalFile {
    /// Notes once that the log has batches here.
    pub fn note(&self, log: &Rc<LogState>, listed_in: &mut u64) {
        if std::mem::replace(listed_in, self.life.get()) != self.life.get() {
            self.logs.borrow_mut().push(Rc::downgrade(log));
        }
    }

    /// The rounds that are in the file do not count any more.
    async fn begin_life(&self) -> io::Result<()> {
        let life = reactor::random_u64();
        let mut head = Buf::new(BLOCK_BYTES);
        head.as_mut_slice().copy_from_slice(&encode_file_head(life));
        self.file.write(&head.freeze(), 0).await?;
        self.file.sync_data().await?;
        self.life.set(life);
        Ok(())
    }
}

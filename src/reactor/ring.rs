//! The shard's io_uring: file operations, the readiness of sockets, and the place where the shard sleeps.
//!
//! glommio's own three rings are not used: each of its turns costs five to ten system calls, among them a memory barrier over
//! all CPUs, and its sockets ask the kernel anew for every wait. Here a turn is one system call, which hands over what
//! was queued, waits if nobody has anything to do, and brings what is done; a socket is watched once and for all.
#![allow(unsafe_code)]

use std::cell::{Cell, RefCell};
use std::future::{Future, poll_fn};
use std::io;
use std::os::fd::RawFd;
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll, Waker};

use io_uring::types::{Fd, FsyncFlags, Timespec};
use io_uring::{IoUring, cqueue, opcode, squeue};
use slab::Slab;

use super::file::Direct;
use super::time::Instant;
use super::{Buf, SharedBuf};

/// Entries of the submission queue; when it is full it is handed over at once.
const SUBMISSIONS: u32 = 256;
/// Entries of the completion queue. What does not fit waits in the kernel.
const COMPLETIONS: u32 = 4096;

/// In the number of the request that ends a watch, beside the watch's. The lower half of a number is a place in
/// [`Ring::pending`]; what the upper half has beside this tells watches apart that have had the same place.
const END_OF: u64 = 1 << 63;

/// The numbers of the alarm and of what makes it earlier.
const ALARM: u64 = u64::MAX;
const ALARM_MOVED: u64 = u64::MAX - 1;

const READY: u32 = (libc::POLLIN | libc::POLLOUT).cast_unsigned() as u32;

/// Whether a write is over when it is durable, or when it is done.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Durably {
    Yes,
    No,
}

/// Whether [`Ring::enter`] waits for something to be done.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Wait {
    No,
    Yes,
}

/// Lives on its shard.
pub(super) struct Ring {
    uring: RefCell<IoUring>,
    pending: RefCell<Slab<Pending>>,
    watches: Cell<u32>,
    alarm: Alarm,
    /// Completions that were taken out and not handled yet.
    taken: RefCell<Vec<cqueue::Entry>>,
}

/// Ends a wait at a time. A time limit for each wait would do as well, but nearly all waits end before, and programming the
/// timer for each is dear on a virtual machine: 4 to 8 % of a produced record's CPU.
#[derive(Default)]
struct Alarm {
    /// When it goes off, if it is set.
    at: Cell<Option<Instant>>,
    /// The kernel reads it when it is handed over.
    time: Box<Cell<Timespec>>,
}

/// What the kernel may still tell of.
enum Pending {
    Operation(Operation),
    Watch(Rc<Watched>),
}

struct Operation {
    #[expect(dead_code, reason = "stays open until the kernel is done with it, whoever waits")]
    file: Rc<Direct>,
    buffer: Buffer,
    result: Option<i32>,
    waker: Option<Waker>,
    /// The future was dropped.
    abandoned: bool,
}

/// What the kernel works on: it stays until it is done.
pub(super) enum Buffer {
    None,
    /// The kernel reads from it.
    Written(#[expect(dead_code, reason = "held for the kernel")] SharedBuf),
    /// The kernel writes to it.
    Read(Buf),
}

impl Ring {
    /// The thread that makes it is the only one that uses it.
    pub(super) fn new() -> io::Result<Ring> {
        let build = |set_up: fn(&mut io_uring::Builder)| {
            let mut builder = IoUring::builder();
            builder.setup_cqsize(COMPLETIONS).setup_clamp();
            set_up(&mut builder);
            builder.build(SUBMISSIONS)
        };
        // Work that completes operations is done when the shard asks for it, not in the middle of something else: from Linux
        // 6.1 on; before, without interrupting the shard (5.19), or as it comes.
        let uring = build(|builder| {
            builder.setup_single_issuer().setup_defer_taskrun().setup_taskrun_flag();
        })
        .or_else(|_| {
            build(|builder| {
                builder.setup_coop_taskrun().setup_taskrun_flag();
            })
        })
        .or_else(|_| build(|_| {}))?;
        Ok(Ring {
            uring: RefCell::new(uring),
            pending: RefCell::default(),
            watches: Cell::new(0),
            alarm: Alarm::default(),
            taken: RefCell::default(),
        })
    }

    /// Hands over what was queued, waits, and wakes whoever has something to do now.
    pub(super) fn enter(&self, wait: Wait) {
        let mut taken = self.taken.take();
        {
            let mut uring = self.uring.borrow_mut();
            let wait = if taken.is_empty() { wait } else { Wait::No };
            if let Err(error) = hand_over(&mut uring, wait)
                && !is_passing(&error)
            {
                super::crash::fatal(&format!("io_uring_enter failed: {error}"));
            }
            taken.extend(uring.completion());
        }
        for completion in taken.drain(..) {
            self.complete(&completion);
        }
        // meanwhile others may have been taken to make room
        let mut since = self.taken.borrow_mut();
        if since.is_empty() {
            *since = taken;
        }
    }

    /// From now on a wait ends at `deadline`, or before it: there is one alarm, and whoever wants a later one sets it when it
    /// has gone off.
    pub(super) fn wake_at(&self, deadline: Instant, now: Instant) {
        let set = self.alarm.at.get();
        if set.is_some_and(|at| at <= deadline) {
            return;
        }
        self.alarm.at.set(Some(deadline));
        self.alarm.time.set(Timespec::from(deadline.since(now)));
        let time = self.alarm.time.as_ptr().cast_const();
        // SAFETY of the pointer, see `push`: the time is the ring's own, and read when the entry is handed over
        self.push(match set {
            None => opcode::Timeout::new(time).build().user_data(ALARM),
            Some(_) => opcode::TimeoutUpdate::new(ALARM, time).build().user_data(ALARM_MOVED),
        });
    }

    fn complete(&self, completion: &cqueue::Entry) {
        match completion.user_data() {
            ALARM => return self.alarm.at.set(None),
            // too late if it goes off just now: that is told, too
            ALARM_MOVED => return,
            _ => {}
        }
        if completion.user_data() & END_OF != 0 {
            // It was just about to tell something: once more, when it has.
            if completion.result() == -libc::EALREADY {
                self.end_watch(completion.user_data() & !END_OF);
            }
            return;
        }
        let key = place(completion.user_data());
        let mut pending = self.pending.borrow_mut();
        match pending.get_mut(key) {
            Some(Pending::Operation(operation)) if operation.abandoned => drop(pending.remove(key)),
            Some(Pending::Operation(operation)) => {
                operation.result = Some(completion.result());
                let waker = operation.waker.take();
                drop(pending);
                waker.into_iter().for_each(Waker::wake);
            }
            Some(Pending::Watch(watched)) => {
                let watched = Rc::clone(watched);
                let was_last = !cqueue::more(completion.flags());
                if was_last && watched.given_up.get() {
                    pending.remove(key);
                    return;
                }
                drop(pending);
                match u32::try_from(completion.result()) {
                    Ok(events) => watched.tell(events),
                    // not to be watched: whoever uses it gets to know why
                    Err(_) => watched.tell(u32::from(libc::POLLERR.cast_unsigned())),
                }
                if was_last {
                    watched.is_armed.set(false);
                    if completion.result() >= 0 {
                        // the kernel had no room to tell more: ask again, and let all look for themselves
                        self.arm(&watched);
                        watched.tell(READY);
                    }
                }
            }
            None => super::crash::fatal("io_uring tells of something that nobody has asked for"),
        }
    }

    /// Begins an operation.
    ///
    /// # Safety
    /// What `entry` points to is in `buffer`, and moving that does not move it.
    unsafe fn begin(self: &Rc<Self>, entry: squeue::Entry, file: &Rc<Direct>, buffer: Buffer) -> Completion {
        let operation =
            Operation { file: Rc::clone(file), buffer, result: None, waker: None, abandoned: false };
        let key = self.pending.borrow_mut().insert(Pending::Operation(operation));
        self.push(entry.user_data(key as u64));
        Completion { ring: Rc::clone(self), key: Some(key) }
    }

    pub(super) fn read(self: &Rc<Self>, file: &Rc<Direct>, position: u64, mut buf: Buf) -> Completion {
        let memory = buf.as_mut_slice();
        let length = u32::try_from(memory.len()).expect("at most 1 GiB");
        let entry = opcode::Read::new(Fd(file.fd()), memory.as_mut_ptr(), length).offset(position);
        // SAFETY: the buffer is the operation's, and its memory is on the heap.
        unsafe { self.begin(entry.build(), file, Buffer::Read(buf)) }
    }

    /// Writes the buffer's bytes behind the first `from`.
    pub(super) fn write(
        self: &Rc<Self>,
        file: &Rc<Direct>,
        position: u64,
        buf: SharedBuf,
        from: usize,
        durably: Durably,
    ) -> Completion {
        let memory = &buf.as_slice()[from..];
        let length = u32::try_from(memory.len()).expect("at most 1 GiB");
        let flags = if durably == Durably::Yes { libc::RWF_DSYNC } else { 0 };
        let entry =
            opcode::Write::new(Fd(file.fd()), memory.as_ptr(), length).offset(position).rw_flags(flags);
        // SAFETY: the buffer is the operation's, its memory is on the heap, and nobody writes to it any more.
        unsafe { self.begin(entry.build(), file, Buffer::Written(buf)) }
    }

    pub(super) fn sync_data(self: &Rc<Self>, file: &Rc<Direct>) -> Completion {
        let entry = opcode::Fsync::new(Fd(file.fd())).flags(FsyncFlags::DATASYNC);
        // SAFETY: it points to nothing.
        unsafe { self.begin(entry.build(), file, Buffer::None) }
    }

    pub(super) fn allocate(self: &Rc<Self>, file: &Rc<Direct>, len: u64) -> Completion {
        let entry = opcode::Fallocate::new(Fd(file.fd()), len);
        // SAFETY: it points to nothing.
        unsafe { self.begin(entry.build(), file, Buffer::None) }
    }

    /// Watches a socket or an eventfd, which stays open until the watch is dropped.
    pub(super) fn watch(self: &Rc<Self>, fd: RawFd) -> Watch {
        let made = self.watches.get().wrapping_add(1) & (u32::MAX >> 1);
        self.watches.set(made);
        let mut pending = self.pending.borrow_mut();
        let entry = pending.vacant_entry();
        let number = u64::from(made) << 32 | entry.key() as u64;
        let watched = Rc::new(Watched { fd, number, ..Watched::default() });
        entry.insert(Pending::Watch(Rc::clone(&watched)));
        drop(pending);
        self.arm(&watched);
        Watch { ring: Rc::clone(self), watched }
    }

    fn arm(&self, watched: &Watched) {
        watched.is_armed.set(true);
        let events = READY | u32::from(libc::POLLRDHUP.cast_unsigned());
        let entry = opcode::PollAdd::new(Fd(watched.fd), events).multi(true).build();
        self.push(entry.user_data(watched.number));
    }

    fn end_watch(&self, number: u64) {
        self.push(opcode::PollRemove::new(number).build().user_data(number | END_OF));
    }

    fn push(&self, entry: squeue::Entry) {
        let mut uring = self.uring.borrow_mut();
        loop {
            // SAFETY: see where entries are made: what they point to outlives the operation.
            if unsafe { uring.submission().push(&entry) }.is_ok() {
                return;
            }
            match uring.submit() {
                Err(error) if !is_passing(&error) => {
                    super::crash::fatal(&format!("io_uring_enter failed: {error}"));
                }
                // Before Linux 5.19: not before there is room for completions.
                Err(_) => self.taken.borrow_mut().extend(uring.completion()),
                Ok(_) => {}
            }
        }
    }
}

impl Drop for Ring {
    /// What the kernel still works on is left to it: its memory must not be used for anything else.
    fn drop(&mut self) {
        let pending = std::mem::take(self.pending.get_mut());
        for (_, pending) in pending {
            if let Pending::Operation(operation) = pending
                && operation.result.is_none()
            {
                std::mem::forget(operation);
            }
        }
    }
}

/// In [`Ring::pending`].
fn place(number: u64) -> usize {
    (number & u64::from(u32::MAX)) as usize
}

fn hand_over(uring: &mut IoUring, wait: Wait) -> io::Result<()> {
    let handed = match wait {
        Wait::No => {
            let submission = uring.submission();
            let nothing = submission.is_empty() && !submission.taskrun() && !submission.cq_overflow();
            drop(submission);
            if nothing { Ok(0) } else { uring.submit() }
        }
        Wait::Yes => uring.submit_and_wait(1),
    };
    handed.map(drop)
}

/// No failure: a signal, the completion queue is full, the kernel is short of memory for a moment.
fn is_passing(error: &io::Error) -> bool {
    matches!(error.raw_os_error(), Some(libc::EINTR | libc::EBUSY | libc::EAGAIN))
}

/// The end of an operation. When it is dropped before, the operation may still happen, in part or as a whole.
pub(super) struct Completion {
    ring: Rc<Ring>,
    /// `None` once it has ended.
    key: Option<usize>,
}

impl Future for Completion {
    /// The kernel's answer, and the operation's buffer.
    type Output = (io::Result<usize>, Buffer);

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Self::Output> {
        let key = self.key.expect("not polled after its end");
        let mut pending = self.ring.pending.borrow_mut();
        let Some(Pending::Operation(operation)) = pending.get_mut(key) else {
            unreachable!("an operation stays until it is taken");
        };
        let Some(result) = operation.result else {
            operation.waker = Some(context.waker().clone());
            return Poll::Pending;
        };
        let Pending::Operation(Operation { buffer, .. }) = pending.remove(key) else {
            unreachable!("seen above");
        };
        drop(pending);
        self.key = None;
        Poll::Ready((usize::try_from(result).map_err(|_| io::Error::from_raw_os_error(-result)), buffer))
    }
}

impl Drop for Completion {
    fn drop(&mut self) {
        let Some(key) = self.key else { return };
        let mut pending = self.ring.pending.borrow_mut();
        let ended = match pending.get_mut(key) {
            Some(Pending::Operation(operation)) => {
                operation.abandoned = true;
                operation.waker = None;
                operation.result.is_some()
            }
            _ => false,
        };
        if ended {
            pending.remove(key);
        }
    }
}

/// A descriptor that the kernel watches until this is dropped. What it tells is remembered until a task takes note of it: a
/// system call that finds nothing ([`Watch::exhausted`]).
pub(super) struct Watch {
    ring: Rc<Ring>,
    watched: Rc<Watched>,
}

/// Which way.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Direction {
    In,
    Out,
}

#[derive(Default)]
struct Watched {
    fd: RawFd,
    /// Under which the kernel knows it.
    number: u64,
    inward: Side,
    outward: Side,
    /// The peer has ended, or the connection is broken: nothing will be told any more, and nobody has to wait.
    ended: Cell<bool>,
    given_up: Cell<bool>,
    /// The kernel watches it.
    is_armed: Cell<bool>,
}

#[derive(Default)]
struct Side {
    ready: Cell<bool>,
    waker: RefCell<Option<Waker>>,
}

impl Watched {
    fn tell(&self, events: u32) {
        let has = |bits: i16| events & u32::from(bits.cast_unsigned()) != 0;
        let ended = has(libc::POLLRDHUP | libc::POLLHUP | libc::POLLERR | libc::POLLNVAL);
        if ended {
            self.ended.set(true);
        }
        let broken = has(libc::POLLHUP | libc::POLLERR | libc::POLLNVAL);
        for (side, ready) in
            [(&self.inward, ended || has(libc::POLLIN)), (&self.outward, broken || has(libc::POLLOUT))]
        {
            if ready {
                side.ready.set(true);
                side.waker.take().into_iter().for_each(Waker::wake);
            }
        }
    }

    fn side(&self, direction: Direction) -> &Side {
        match direction {
            Direction::In => &self.inward,
            Direction::Out => &self.outward,
        }
    }
}

impl Watch {
    /// A system call has found nothing to receive (or no room to send): the next wait is for what comes after it.
    pub(super) fn exhausted(&self, direction: Direction) {
        let ended = direction == Direction::In && self.watched.ended.get();
        self.watched.side(direction).ready.set(ended);
    }

    /// Until there is something to receive (room to send), or an end or an error to be told; now and then there is nothing
    /// after all. For one task at a time in each direction.
    pub(super) async fn ready(&self, direction: Direction) {
        poll_fn(|context| {
            let side = self.watched.side(direction);
            if side.ready.get() {
                return Poll::Ready(());
            }
            side.waker.replace(Some(context.waker().clone()));
            Poll::Pending
        })
        .await;
    }
}

impl Drop for Watch {
    fn drop(&mut self) {
        self.watched.given_up.set(true);
        if !self.watched.is_armed.get() {
            self.ring.pending.borrow_mut().remove(place(self.watched.number));
            return;
        }
        // the watch's last completion comes of it
        self.ring.end_watch(self.watched.number);
    }
}

//! epoll with timeouts of nanoseconds.

use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::time::Duration;

use rustix::buffer::spare_capacity;
use rustix::event::epoll::{self, CreateFlags, Event, EventData, EventFlags};
use rustix::time::Timespec;

pub struct Poller {
    epoll: OwnedFd,
    events: Vec<Event>,
}

/// What has happened to a socket.
#[derive(Clone, Copy, Debug)]
pub struct Happened {
    pub token: u64,
    /// There is something to read, or the end, or an error that reading tells.
    pub is_readable: bool,
    pub is_writable: bool,
}

impl Poller {
    /// # Errors
    /// The system's.
    pub fn new() -> io::Result<Poller> {
        Ok(Poller { epoll: epoll::create(CreateFlags::CLOEXEC)?, events: Vec::with_capacity(256) })
    }

    /// Tells of this socket from now on, when it is readable.
    ///
    /// # Errors
    /// The system's.
    pub fn add(&self, socket: &impl AsFd, token: u64) -> io::Result<()> {
        Ok(epoll::add(&self.epoll, socket, EventData::new_u64(token), EventFlags::IN)?)
    }

    /// Whether to tell when the socket is writable, too.
    ///
    /// # Errors
    /// The system's.
    pub fn watch_writable(&self, socket: &impl AsFd, token: u64, writable: bool) -> io::Result<()> {
        let flags = if writable { EventFlags::IN | EventFlags::OUT } else { EventFlags::IN };
        Ok(epoll::modify(&self.epoll, socket, EventData::new_u64(token), flags)?)
    }

    /// Waits until something happens, or for that long.
    ///
    /// # Errors
    /// The system's.
    pub fn wait(&mut self, timeout: Duration) -> io::Result<impl Iterator<Item = Happened> + use<'_>> {
        self.events.clear();
        let seconds = i64::try_from(timeout.as_secs()).unwrap_or(i64::MAX);
        let timeout = Timespec { tv_sec: seconds, tv_nsec: timeout.subsec_nanos().into() };
        match epoll::wait(&self.epoll, spare_capacity(&mut self.events), Some(&timeout)) {
            Ok(_) | Err(rustix::io::Errno::INTR) => {}
            Err(error) => return Err(error.into()),
        }
        let readable = EventFlags::IN | EventFlags::HUP | EventFlags::ERR;
        Ok(self.events.iter().map(move |event| Happened {
            token: { event.data }.u64(),
            is_readable: { event.flags }.intersects(readable),
            is_writable: { event.flags }.contains(EventFlags::OUT),
        }))
    }
}

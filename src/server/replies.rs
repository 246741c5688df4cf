//! One connection's queue of replies: filled in request order by the reader, emptied in that order by the writer.
//!
//! An entry is a reply or the future of one. Only the entry at the front is polled: nothing behind it can leave
//! before it, and what a Produce still does after its first stage does not depend on being polled.

use std::cell::{Cell, RefCell};
use std::collections::VecDeque;
use std::future::poll_fn;
use std::rc::Rc;
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::Bytes;

use super::slow::Story;
use crate::handlers::{CloseReason, LocalFuture, Outcome, Reply, Stage};
use crate::metrics::snapshot::ServerCounters;
use crate::model::ErrorCode;
use crate::network::Reservation;
use crate::reactor::now;
use crate::reactor::sync::Notify;

/// Replies that may be queued, ready or not, before the next Produce waits.
const REPLIES_MAX: usize = 256;
/// Ready bytes that may be queued before the next request waits.
const READY_BYTES_MAX: usize = 256 * 1024;
/// The writer sends when it has gathered this much, even if more is ready.
const GATHERED_BYTES_MAX: usize = 1024 * 1024;
/// What is sent in one go, so that it shows that a slow client gets on.
const PORTION_BYTES: usize = 1024 * 1024;

/// Lives in its connection.
pub(super) struct Replies {
    queue: RefCell<VecDeque<Entry>>,
    /// Entries in the queue whose reply is not ready, and the bytes of those that are.
    unready: Cell<usize>,
    ready_bytes: Cell<usize>,
    /// The same of all connections of the shard.
    shard_ready_bytes: Rc<Cell<usize>>,
    /// The writer took something that it has not sent yet.
    sending: Cell<bool>,
    /// No more will be pushed.
    complete: Cell<bool>,
    /// The writer has ended; nothing will be sent any more.
    writer_ended: Cell<bool>,
    /// For the writer: something was pushed, or `complete` was set.
    pushed: Notify,
    /// For the reader: the writer got on.
    moved: Notify,
}

struct Entry {
    story: Story,
    state: State,
    reservation: Reservation,
}

enum State {
    Ready(Reply),
    Later(LocalFuture<Outcome>),
    /// Counted, and nothing is to be sent.
    Silent,
    Close(CloseReason),
}

/// What the writer does next.
pub(super) enum Next {
    /// `Gathered` has parts to send.
    Send,
    /// Everything was sent and nothing more will come.
    End,
    /// A request's outcome is that the connection closes.
    Close(CloseReason),
}

/// Parts of one or more whole replies, and what they hold until they have left.
#[derive(Default)]
pub(super) struct Gathered {
    parts: VecDeque<Bytes>,
    /// What of it is being sent.
    portion: VecDeque<Bytes>,
    pub(super) mute: Duration,
    bytes: usize,
    held: Vec<(Story, Reservation)>,
}

/// The writer is gone, so no reply can leave.
#[derive(Debug)]
pub(super) struct WriterEnded;

impl Replies {
    pub(super) fn new(shard_ready_bytes: Rc<Cell<usize>>) -> Replies {
        Replies {
            queue: RefCell::default(),
            unready: Cell::new(0),
            ready_bytes: Cell::new(0),
            shard_ready_bytes,
            sending: Cell::new(false),
            complete: Cell::new(false),
            writer_ended: Cell::new(false),
            pushed: Notify::default(),
            moved: Notify::default(),
        }
    }

    fn grow_ready(&self, bytes: usize) {
        self.ready_bytes.set(self.ready_bytes.get() + bytes);
        self.shard_ready_bytes.set(self.shard_ready_bytes.get() + bytes);
    }

    fn shrink_ready(&self, bytes: usize) {
        self.ready_bytes.set(self.ready_bytes.get() - bytes);
        self.shard_ready_bytes.set(self.shard_ready_bytes.get() - bytes);
    }

    /// Waits until a Produce may be started: whatever is not ready is a Produce, so only room counts.
    pub(super) async fn room(&self) -> Result<(), WriterEnded> {
        self.until(|| self.queue.borrow().len() < REPLIES_MAX && self.ready_bytes.get() < READY_BYTES_MAX)
            .await
    }

    /// Waits until any request may be started: every reply before it is ready, and not too much of it waits for a
    /// slow client.
    pub(super) async fn all_ready(&self) -> Result<(), WriterEnded> {
        self.until(|| self.unready.get() == 0 && self.ready_bytes.get() < READY_BYTES_MAX).await
    }

    /// Waits until every reply has left.
    pub(super) async fn all_sent(&self) -> Result<(), WriterEnded> {
        self.until(|| self.is_empty()).await
    }

    async fn until(&self, condition: impl Fn() -> bool) -> Result<(), WriterEnded> {
        loop {
            if self.writer_ended.get() {
                return Err(WriterEnded);
            }
            if condition() {
                return Ok(());
            }
            self.moved.notified().await;
        }
    }

    /// Queues what became of a request's first stage.
    pub(super) fn push(
        &self,
        mut story: Story,
        stage: Stage,
        reservation: Reservation,
        metrics: &ServerCounters,
    ) {
        let state = match stage {
            Stage::Done(outcome) => self.ready(&mut story, outcome, metrics),
            Stage::Later(future) => {
                self.unready.set(self.unready.get() + 1);
                State::Later(future)
            }
        };
        self.queue.borrow_mut().push_back(Entry { story, state, reservation });
        self.pushed.notify();
    }

    /// No further reply will be pushed: the writer ends when it has sent what is there.
    pub(super) fn complete(&self) {
        self.complete.set(true);
        self.pushed.notify();
    }

    /// A reply is still being worked on.
    pub(super) fn any_unready(&self) -> bool {
        self.unready.get() > 0
    }

    /// Bytes that are ready and have not left.
    pub(super) fn ready_bytes(&self) -> usize {
        self.ready_bytes.get()
    }

    /// Nothing is queued and nothing is being sent.
    pub(super) fn is_empty(&self) -> bool {
        self.queue.borrow().is_empty() && !self.sending.get()
    }

    /// Called by the writer when it ends; what is still queued will not be sent.
    pub(super) fn writer_ended(&self) {
        self.writer_ended.set(true);
        self.sending.set(false);
        drop(self.queue.take());
        self.moved.notify();
    }

    /// Gathers every reply that is ready and may leave now; waits while there is none.
    pub(super) async fn next(&self, gathered: &mut Gathered, metrics: &ServerCounters) -> Next {
        debug_assert!(gathered.parts.is_empty());
        loop {
            let next = poll_fn(|context| self.gather(context, gathered, metrics)).await;
            self.moved.notify();
            match next {
                Some(next) => return next,
                None => self.pushed.notified().await,
            }
        }
    }

    /// `None`: the queue is empty and more may come.
    fn gather(
        &self,
        context: &mut Context<'_>,
        gathered: &mut Gathered,
        metrics: &ServerCounters,
    ) -> Poll<Option<Next>> {
        loop {
            if gathered.bytes >= GATHERED_BYTES_MAX {
                return Poll::Ready(Some(Next::Send));
            }
            let Some(mut entry) = self.queue.borrow_mut().pop_front() else {
                return Poll::Ready(match (gathered.is_empty(), self.complete.get()) {
                    (false, _) => Some(Next::Send),
                    (true, true) => Some(Next::End),
                    (true, false) => None,
                });
            };
            if let State::Later(future) = &mut entry.state {
                let Poll::Ready(outcome) = future.as_mut().poll(context) else {
                    self.queue.borrow_mut().push_front(entry);
                    return if gathered.is_empty() { Poll::Pending } else { Poll::Ready(Some(Next::Send)) };
                };
                entry.state = self.ready(&mut entry.story, outcome, metrics);
                self.unready.set(self.unready.get() - 1);
            }
            match entry.state {
                State::Ready(reply) => {
                    self.sending.set(true);
                    gathered.take(reply, entry.story, entry.reservation);
                }
                State::Silent => {}
                State::Close(reason) if gathered.is_empty() => {
                    return Poll::Ready(Some(Next::Close(reason)));
                }
                State::Close(_) => {
                    self.queue.borrow_mut().push_front(entry);
                    return Poll::Ready(Some(Next::Send));
                }
                State::Later(_) => unreachable!("made ready above"),
            }
        }
    }

    /// What was gathered has left: its bytes no longer wait, its reservations end.
    pub(super) fn sent(&self, gathered: &mut Gathered) {
        assert!(
            gathered.parts.is_empty() && gathered.portion.is_empty(),
            "replies were not sent to their end"
        );
        self.shrink_ready(gathered.bytes);
        gathered.bytes = 0;
        gathered.mute = Duration::ZERO;
        gathered.held.clear();
        self.sending.set(false);
        self.moved.notify();
    }

    fn ready(&self, story: &mut Story, outcome: Outcome, metrics: &ServerCounters) -> State {
        story.ready = now();
        let (api, took) = (story.api, story.ready.since(story.received));
        match outcome {
            Outcome::Reply(reply) => {
                let bytes = reply.bytes();
                story.wished = reply.wished_wait;
                metrics.api(api).count_reply(reply.error, bytes, took);
                self.grow_ready(bytes);
                State::Ready(reply)
            }
            Outcome::NoReply => {
                metrics.api(api).count_reply(ErrorCode::None, 0, took);
                State::Silent
            }
            Outcome::Close(reason) => State::Close(reason),
        }
    }
}

impl Drop for Replies {
    fn drop(&mut self) {
        self.shrink_ready(self.ready_bytes.get());
    }
}

impl Gathered {
    /// What is to be sent next, a megabyte at most; `None` when all was.
    pub(super) fn next_portion(&mut self) -> Option<&mut VecDeque<Bytes>> {
        debug_assert!(self.portion.is_empty());
        if self.bytes <= PORTION_BYTES {
            std::mem::swap(&mut self.parts, &mut self.portion);
        } else {
            let mut room = PORTION_BYTES;
            while room > 0
                && let Some(part) = self.parts.front_mut()
            {
                if part.len() > room {
                    self.portion.push_back(part.split_to(room));
                    break;
                }
                room -= part.len();
                self.portion.extend(self.parts.pop_front());
            }
        }
        (!self.portion.is_empty()).then_some(&mut self.portion)
    }

    fn take(&mut self, reply: Reply, story: Story, reservation: Reservation) {
        self.bytes += reply.bytes();
        self.mute = self.mute.max(reply.mute);
        self.parts.push_back(reply.head);
        self.parts.extend(reply.rest);
        self.held.push((story, reservation));
    }

    fn is_empty(&self) -> bool {
        self.held.is_empty()
    }

    /// The requests that are answered by it.
    pub(super) fn stories(&self) -> impl Iterator<Item = &Story> {
        self.held.iter().map(|(story, _)| story)
    }
}

//! One connection: the reader cuts frames and calls the service, the writer sends replies in request order.

use std::cell::{Cell, RefCell};
use std::fmt;
use std::io;
use std::rc::Rc;
use std::time::Duration;

use bytes::BytesMut;

use super::Shared;
use super::lanes::Luggage;
use super::limits::Admission;
use super::replies::{Gathered, Next, Replies, WriterEnded};
use super::slow::Story;
use crate::handlers::{CloseReason, ConnectionContext, Outcome, Reply, Request, Stage};
use crate::model::{ErrorCode, ShardId};
use crate::network::{self, Frame, FrameReader, PartialFrame};
use crate::protocol::api::Api;
use crate::protocol::codec::unsupported_api_versions;
use crate::protocol::header::{self, Refusal, Verdict};
use crate::reactor::{Instant, TcpStream, claim_place, now, sleep_until, spawn, turn};

/// Requests of one connection may keep the shard busy that long before the others get a turn.
const SLICE: Duration = Duration::from_micros(200);
/// While others wait for memory, a frame must not stand still for this long, and must arrive within the time its
/// bytes take at the rate below, and some.
const STILL_MAX: Duration = Duration::from_secs(10);
const FRAME_PATIENCE: Duration = Duration::from_secs(30);
const FRAME_BYTES_PER_SECOND: u64 = 100_000;

/// Lives on one shard, shared by its two tasks and the shard's table; on another it is another one ([`super::lanes`]).
pub(super) struct Connection {
    shared: Rc<Shared>,
    stream: TcpStream,
    context: Rc<ConnectionContext>,
    replies: Replies,
    /// The frame being received.
    partial: Rc<Cell<Option<PartialFrame>>>,
    /// The last time something was received or sent.
    active: Cell<Instant>,
    reader: Cell<Reader>,
    muted_until: Cell<Instant>,
    stopping: Cell<bool>,
    /// It goes on elsewhere: its writer ends, its socket does not.
    leaving: Cell<bool>,
    /// Why it ends; the first reason counts.
    end: RefCell<Option<End>>,
}

/// What the reader is at.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Reader {
    Receiving,
    /// It has a request, which must wait for the replies before it.
    Waiting,
    /// A request's first stage runs.
    Calling,
    Ended,
}

/// What comes when the reader has read.
enum Then {
    Over(End),
    /// Every reply has left: on to that shard.
    Onward(ShardId),
}

/// Why a connection ends.
#[derive(Debug)]
enum End {
    ByPeer,
    Stopped,
    Idle,
    /// Others waited for the memory of a frame that did not come.
    Stalled,
    /// Others needed the memory of a reply that was not taken.
    Slow,
    Frame(network::Error),
    Refused(Refusal),
    Handler(CloseReason),
    Send(io::Error),
}

impl Connection {
    /// From the first byte here to the last.
    pub(super) async fn run(shared: Rc<Shared>, stream: TcpStream, luggage: Luggage) {
        if shared.stopping.get() {
            return;
        }
        let Luggage { context, admission, received, muted_until } = luggage;
        let mut frames = FrameReader::new(
            Rc::clone(&shared.buffers),
            Rc::clone(&shared.budget),
            shared.settings.request_bytes_max,
            is_produce,
        )
        .resumed_with(received);
        let connection = Rc::new(Connection {
            stream,
            replies: Replies::new(Rc::clone(&shared.ready_bytes)),
            partial: frames.partial(),
            active: Cell::new(now()),
            reader: Cell::new(Reader::Receiving),
            muted_until: Cell::new(muted_until),
            stopping: Cell::new(false),
            leaving: Cell::new(false),
            end: RefCell::new(None),
            context: Rc::new(context),
            shared: Rc::clone(&shared),
        });
        let id = connection.context.id;
        shared.connections.borrow_mut().insert(id, Rc::clone(&connection));
        let writer = spawn(Rc::clone(&connection).write());
        let then = connection.read(&mut frames).await;
        connection.reader.set(Reader::Ended);
        let onward = match then {
            Then::Over(end) => {
                connection.note_end(end);
                None
            }
            Then::Onward(shard) => {
                connection.leaving.set(true);
                Some(shard)
            }
        };
        connection.replies.complete();
        writer.await;
        shared.connections.borrow_mut().remove(&id);
        // a stop may have come meanwhile
        match onward.filter(|_| connection.end.borrow().is_none()) {
            Some(shard) => connection.hand_over(shard, frames.into_received(), admission),
            None => {
                if onward.is_some() {
                    connection.stream.shutdown(); // the writer has not
                }
                connection.log_end();
                drop(admission);
            }
        }
        shared.ended.notify();
    }

    /// Nothing waits for it any more, and nothing of it is in flight.
    fn hand_over(self: Rc<Self>, to: ShardId, received: BytesMut, admission: Admission) {
        let Ok(Connection { shared, stream, context, muted_until, .. }) = Rc::try_unwrap(self) else {
            unreachable!("the writer has ended and the shard's table has let go of it");
        };
        // what a request has left behind may still know it
        let context = Rc::unwrap_or_clone(context);
        context.tally.set(context.tally.get().moved(now()));
        shared.metrics.connections_handed_over.increment();
        tracing::debug!(peer = %context.peer, listener = %context.listener, from = shared.home.0, to = to.0, "connection handed over");
        let luggage = Luggage { context, admission, received, muted_until: muted_until.get() };
        shared.lanes.send(to, stream, luggage);
    }

    /// The shard to move to now: the one that most requests concern, if it has a place.
    fn onward(&self) -> Option<ShardId> {
        let Shared { settings, home, metrics, .. } = &*self.shared;
        if !settings.handover {
            return None;
        }
        let wished = self.context.wish(*home, self.active.get())?;
        if claim_place(wished) {
            return Some(wished);
        }
        metrics.handovers_refused.increment();
        None
    }

    async fn read(&self, frames: &mut FrameReader) -> Then {
        let mut waits = 0;
        let mut busy_since = now();
        while !self.stopping.get() {
            if let Some(shard) = self.onward() {
                self.reader.set(Reader::Waiting);
                match self.replies.all_sent().await {
                    Ok(()) if !self.stopping.get() => return Then::Onward(shard),
                    _ => break,
                }
            }
            self.reader.set(Reader::Receiving);
            let frame = match frames.next(&self.stream).await {
                Ok(Some(frame)) => frame,
                Ok(None) => return Then::Over(End::ByPeer),
                Err(error) => return Then::Over(End::Frame(error)),
            };
            if self.stopping.get() {
                break; // it came too late
            }
            self.reader.set(Reader::Waiting);
            let mut received = now();
            self.active.set(received);
            if frames.waits() != waits {
                waits = frames.waits();
                busy_since = received;
            } else if received.since(busy_since) > SLICE {
                turn().await;
                received = now();
                busy_since = received;
            }
            if self.muted_until.get() > received {
                sleep_until(self.muted_until.get()).await;
            }
            match self.start(frame, received).await {
                Ok(()) => {}
                Err(Some(end)) => return Then::Over(end),
                Err(None) => break, // the writer has noted why
            }
        }
        Then::Over(End::Stopped)
    }

    /// Runs a request's first stage when its turn has come, and queues what remains of it. `Err(None)` when no
    /// reply can leave any more.
    async fn start(&self, frame: Frame, received: Instant) -> Result<(), Option<End>> {
        let bytes = frame.wire_bytes() as u64;
        let mut story = Story::new(Api::ApiVersions, None, received);
        let stage = match header::parse(frame.bytes) {
            Verdict::Close(refusal) => return Err(Some(End::Refused(refusal))),
            Verdict::UnsupportedApiVersions { correlation_id } => {
                self.replies.all_ready().await.map_err(|WriterEnded| None)?;
                let reply = Reply {
                    head: unsupported_api_versions(correlation_id),
                    rest: Vec::new(),
                    error: ErrorCode::UnsupportedVersion,
                    mute: Duration::ZERO,
                    wished_wait: Duration::ZERO,
                };
                Stage::Done(Outcome::Reply(reply))
            }
            Verdict::Served(header) => {
                story = Story::new(header.api, Some(&header), received);
                match header.api {
                    Api::Produce => self.replies.room().await,
                    _ => self.replies.all_ready().await,
                }
                .map_err(|WriterEnded| None)?;
                self.reader.set(Reader::Calling);
                story.called = now();
                let connection = Rc::clone(&self.context);
                let reply_bytes_max = self.shared.reply_bytes_max();
                let request = Request { connection, header, reply_bytes_max };
                Rc::clone(&self.shared.service).call(request).await
            }
        };
        story.handled = now();
        self.active.set(story.handled);
        self.shared.metrics.api(story.api).request_bytes.add(bytes);
        self.replies.push(story, stage, frame.reservation, &self.shared.metrics);
        Ok(())
    }

    async fn write(self: Rc<Self>) {
        let mut gathered = Gathered::default();
        loop {
            match self.replies.next(&mut gathered, &self.shared.metrics).await {
                Next::Send => {
                    if let Err(error) = self.send(&mut gathered).await {
                        self.note_end(End::Send(error));
                        break;
                    }
                    if !gathered.mute.is_zero() {
                        self.muted_until.set(now().after(gathered.mute));
                    }
                    self.tell_slow(&gathered);
                    self.replies.sent(&mut gathered);
                    if self.stopping.get() && self.is_quiet() {
                        self.stream.shutdown();
                    }
                }
                Next::End => break,
                Next::Close(reason) => {
                    self.note_end(End::Handler(reason));
                    break;
                }
            }
        }
        self.replies.writer_ended();
        if !self.leaving.get() {
            // the reader may be waiting for a frame
            self.stream.shutdown();
        }
    }

    fn tell_slow(&self, gathered: &Gathered) {
        let Some(threshold) = self.shared.settings.slow_request else { return };
        let sent = self.active.get();
        for story in gathered.stories() {
            story.tell_if_slow(sent, threshold, &self.context, &self.shared.slow_rate);
        }
    }

    async fn send(&self, gathered: &mut Gathered) -> io::Result<()> {
        while let Some(portion) = gathered.next_portion() {
            self.stream.send(portion).await?;
            self.active.set(now());
        }
        Ok(())
    }

    /// Ends the connection when what is in flight has been answered.
    pub(super) fn stop(&self) {
        self.stopping.set(true);
        self.note_end(End::Stopped);
        if self.is_quiet() {
            self.stream.shutdown();
        }
    }

    /// Ends the connection whatever is in flight.
    pub(super) fn cut(&self) {
        self.end_for(End::Stopped);
    }

    /// No request is in flight: none received that was not answered, no reply under way.
    fn is_quiet(&self) -> bool {
        matches!(self.reader.get(), Reader::Receiving | Reader::Ended) && self.replies.is_empty()
    }

    pub(super) fn close_if_idle(&self, now: Instant) {
        let progress = self.partial.get().map_or(self.active.get(), |partial| partial.progress);
        let still = now.since(self.active.get().max(progress));
        // while a request is being handled it is the broker who takes its time, not the client
        // (and it takes none of those that lie behind a reply which the client does not read)
        let waits_for_client = self.replies.ready_bytes() > 0;
        let handling =
            !waits_for_client && (self.reader.get() == Reader::Calling || self.replies.any_unready());
        if self.shared.settings.idle_max.is_some_and(|max| still > max) && !handling {
            self.end_for(End::Idle);
        }
        // What such a client has asked for holds room that others wait for: of replies, or of requests.
        let is_short = self.shared.are_replies_short() || self.shared.budget.is_contended();
        if is_short && waits_for_client && still > STILL_MAX {
            self.end_for(End::Slow);
        }
        if let Some(partial) = self.partial.get()
            && self.shared.budget.is_contended()
        {
            let at_rate = Duration::from_secs(partial.bytes as u64 / FRAME_BYTES_PER_SECOND);
            let still = now.since(partial.progress) > STILL_MAX;
            if still || now.since(partial.since) > FRAME_PATIENCE + at_rate {
                self.end_for(End::Stalled);
            }
        }
    }

    fn end_for(&self, end: End) {
        self.note_end(end);
        self.stream.shutdown();
    }

    fn note_end(&self, end: End) {
        self.end.borrow_mut().get_or_insert(end);
    }

    fn log_end(&self) {
        let end = self.end.take().unwrap_or(End::Stopped);
        let ConnectionContext { peer, listener, .. } = &*self.context;
        if !end.is_reported() {
            tracing::debug!(%peer, %listener, reason = %end, "connection closed");
            return;
        }
        self.shared.metrics.connections_rejected.increment();
        if let Some(suppressed) = self.shared.log_rate.admit(now()) {
            tracing::warn!(%peer, %listener, reason = %end, suppressed, "connection closed");
        }
    }
}

/// Produce is what carries bytes, and is done with them when they are appended.
fn is_produce(frame: &[u8]) -> bool {
    frame.starts_with(&Api::Produce.key().to_be_bytes())
}

impl End {
    /// Something is wrong with the client, and its owner will look for the reason in our log.
    fn is_reported(&self) -> bool {
        match self {
            End::ByPeer | End::Stopped | End::Idle | End::Send(_) => false,
            End::Frame(network::Error::Io(_) | network::Error::Truncated) => false,
            End::Frame(_) | End::Stalled | End::Slow | End::Refused(_) | End::Handler(_) => true,
        }
    }
}

impl fmt::Display for End {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            End::ByPeer => f.write_str("closed by the peer"),
            End::Stopped => f.write_str("the broker stops"),
            End::Idle => f.write_str("idle for longer than connections.max.idle.ms"),
            End::Stalled => {
                f.write_str("sent a part of a request and not the rest, while others needed the memory")
            }
            End::Slow => f.write_str("did not take its reply, while others needed the memory"),
            End::Frame(error) => error.fmt(f),
            End::Refused(refusal) => refusal.fmt(f),
            End::Handler(reason) => reason.fmt(f),
            End::Send(error) => write!(f, "cannot send: {error}"),
        }
    }
}

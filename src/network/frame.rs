//! One connection's cutter: from received bytes to frames, each with its reservation.
//!
//! Bytes are received into the shard's chunk. A frame that is not complete moves into a buffer of its own size, and
//! the rest of it is received straight into that. A complete one stays where it is if that pays ([`KeepInPlace`]);
//! others are copied out, so that a small request that waits long (a long-poll fetch) does not hold a whole chunk.
//!
//! The cutter itself ([`FrameReader::step`]) does not wait and knows no socket; [`FrameReader::next`] drives it.

use std::cell::Cell;
use std::fmt;
use std::future::{Future, poll_fn};
use std::io;
use std::pin::pin;
use std::rc::Rc;

use bytes::{Bytes, BytesMut};

use super::buffers::Body;
use super::{ReceiveBuffers, RequestBudget, Reservation};
use crate::reactor::{Instant, TcpStream, now, turn};

/// A frame's size in front of it.
const PREFIX_BYTES: usize = 4;
/// Copying this much costs no more than sharing the chunk.
const COPIED_FRAME_BYTES: usize = 2048;
/// One receive into the shard's chunk.
const RECEIVE_BYTES: usize = 256 * 1024;
/// One receive while the budget is short, or where a large frame is likely to begin: the rest of such a frame is
/// then received where it stays.
const RECEIVE_BYTES_SMALL: usize = 4096;
/// Reserved for a frame before more of it than its size is known.
const FIRST_RESERVATION_BYTES: usize = 16 * 1024;
/// Received in a row before the rest of the shard gets a turn, however fast the peer sends.
const RECEIVED_IN_A_ROW_MAX: usize = 1024 * 1024;

/// A request: what follows the size, and what it has reserved. Keep the reservation until the reply has left.
pub struct Frame {
    pub bytes: Bytes,
    pub reservation: Reservation,
}

impl Frame {
    /// What its peer has sent for it, the size in front included.
    #[must_use]
    pub fn wire_bytes(&self) -> usize {
        PREFIX_BYTES + self.bytes.len()
    }
}

/// Whether a frame carries so much, and is done with so soon, that it should not be copied out of its chunk.
pub type KeepInPlace = fn(frame: &[u8]) -> bool;

/// Why no further frame can be cut; the connection is over.
#[derive(Debug)]
pub enum Error {
    NegativeSize(i32),
    TooLarge {
        size: usize,
        max: usize,
    },
    /// The peer ended the stream inside a frame.
    Truncated,
    Io(io::Error),
}

/// A frame that has begun and is not complete: it holds a part of the budget that its peer must fill.
#[derive(Clone, Copy, Debug)]
pub struct PartialFrame {
    pub since: Instant,
    /// When something of it was received last.
    pub progress: Instant,
    /// Its whole size.
    pub bytes: usize,
}

pub struct FrameReader {
    buffers: Rc<ReceiveBuffers>,
    budget: Rc<RequestBudget>,
    /// Kafka's socket.request.max.bytes.
    frame_bytes_max: usize,
    keep_in_place: KeepInPlace,
    /// Received and not yet cut, and how much of it the budget knows of.
    received: BytesMut,
    noted: usize,
    prefix: [u8; PREFIX_BYTES],
    prefix_len: usize,
    reservation: Option<Reservation>,
    body: Option<Body>,
    /// The last frame did not fit a receive: the next probably does not either.
    expect_large: bool,
    /// The last receive got all there was.
    drained: bool,
    received_in_a_row: usize,
    waits: u64,
    partial: Rc<Cell<Option<PartialFrame>>>,
}

/// What the cutter needs next.
enum Step {
    Frame(Frame),
    /// Nothing to receive now.
    Wait,
    /// Others must get a turn first.
    Turn,
    /// `reservation` must be good for this many bytes.
    Reserve(usize),
    /// The peer ended the stream between two frames.
    End,
}

impl FrameReader {
    #[must_use]
    pub fn new(
        buffers: Rc<ReceiveBuffers>,
        budget: Rc<RequestBudget>,
        frame_bytes_max: usize,
        keep_in_place: KeepInPlace,
    ) -> FrameReader {
        FrameReader {
            buffers,
            budget,
            frame_bytes_max,
            keep_in_place,
            received: BytesMut::new(),
            noted: 0,
            prefix: [0; PREFIX_BYTES],
            prefix_len: 0,
            reservation: None,
            body: None,
            expect_large: false,
            drained: true,
            received_in_a_row: 0,
            waits: 0,
            partial: Rc::default(),
        }
    }

    /// Goes on with what another reader of the same stream has received and not cut.
    #[must_use]
    pub fn resumed_with(mut self, received: BytesMut) -> FrameReader {
        self.received = received;
        self
    }

    /// Ends it between two frames: what was received of those to come, in memory of its own.
    #[must_use]
    pub fn into_received(self) -> BytesMut {
        assert!(
            self.body.is_none() && self.reservation.is_none() && self.prefix_len == 0,
            "no frame has begun"
        );
        BytesMut::from(&self.received[..])
    }

    /// The frame being received, for whoever watches that connections make progress.
    #[must_use]
    pub fn partial(&self) -> Rc<Cell<Option<PartialFrame>>> {
        Rc::clone(&self.partial)
    }

    /// How often this reader had to wait for its socket: in between, the connection has kept the shard busy.
    #[must_use]
    pub fn waits(&self) -> u64 {
        self.waits
    }

    /// The next frame; `None` when the peer ended the stream. After an error there is no next.
    pub async fn next(&mut self, stream: &TcpStream) -> Result<Option<Frame>, Error> {
        loop {
            match self.step(|buf, max| stream.try_recv(buf, max))? {
                Step::Frame(frame) => return Ok(Some(frame)),
                Step::Wait => {
                    let mut readable = pin!(stream.readable());
                    let waits = &mut self.waits;
                    poll_fn(|context| {
                        let readable = readable.as_mut().poll(context);
                        *waits += u64::from(readable.is_pending());
                        readable
                    })
                    .await
                    .map_err(Error::Io)?;
                    self.drained = false;
                }
                Step::Turn => {
                    turn().await;
                    self.received_in_a_row = 0;
                    self.waits += 1;
                }
                Step::Reserve(bytes) => match &mut self.reservation {
                    Some(reservation) => {
                        // Meanwhile the peer is not to blame for a frame that does not grow.
                        let (partial, since) = (self.partial.take(), now());
                        reservation.extend(bytes).await;
                        let waited = now().since(since);
                        self.partial.set(partial.map(|partial| PartialFrame {
                            since: partial.since.after(waited),
                            progress: now(),
                            ..partial
                        }));
                    }
                    None => self.reservation = Some(self.budget.reserve(bytes).await),
                },
                Step::End => return Ok(None),
            }
        }
    }

    fn step(
        &mut self,
        receive: impl FnMut(&mut BytesMut, usize) -> io::Result<Option<usize>>,
    ) -> Result<Step, Error> {
        let step = self.cut_next(receive);
        self.budget.note_received(self.noted, self.received.len());
        self.noted = self.received.len();
        self.release_chunk();
        step
    }

    fn cut_next(
        &mut self,
        mut receive: impl FnMut(&mut BytesMut, usize) -> io::Result<Option<usize>>,
    ) -> Result<Step, Error> {
        loop {
            if let Some(body) = &mut self.body {
                if body.is_complete() {
                    let body = self.body.take().expect("looked at above");
                    let bytes = self.buffers.finish(body);
                    return Ok(Step::Frame(self.complete(bytes)));
                }
                if self.drained {
                    return Ok(Step::Wait);
                }
                if self.received_in_a_row >= RECEIVED_IN_A_ROW_MAX {
                    return Ok(Step::Turn);
                }
                let reservation = self.reservation.as_mut().expect("a body has a reservation");
                let received = body.bytes.len();
                if reservation.bytes() <= received {
                    let wanted = received.saturating_mul(2).min(body.size());
                    if !reservation.try_extend(wanted) {
                        return Ok(Step::Reserve(wanted));
                    }
                }
                let room = body.room().min(reservation.bytes() - received);
                match receive(&mut body.bytes, room).map_err(Error::Io)? {
                    None => self.drained = true,
                    Some(0) => return Err(Error::Truncated),
                    Some(count) => {
                        self.note_receive(count, room);
                        let progress = now();
                        self.partial
                            .set(self.partial.get().map(|partial| PartialFrame { progress, ..partial }));
                    }
                }
                continue;
            }
            if !self.received.is_empty() || self.prefix_len == PREFIX_BYTES {
                let Some(size) = self.size()? else { continue };
                if self.reservation.is_none() {
                    let bytes = self.first_reservation(size);
                    self.reservation = self.budget.try_reserve(bytes);
                    if self.reservation.is_none() {
                        return Ok(Step::Reserve(bytes));
                    }
                }
                if let Some(bytes) = self.cut(size) {
                    return Ok(Step::Frame(self.complete(bytes)));
                }
                continue;
            }
            if self.drained {
                return Ok(Step::Wait);
            }
            if self.received_in_a_row >= RECEIVED_IN_A_ROW_MAX {
                return Ok(Step::Turn);
            }
            self.release_chunk();
            let small = self.expect_large || self.budget.is_short();
            let max = if small { RECEIVE_BYTES_SMALL } else { RECEIVE_BYTES };
            match self.buffers.receive(max, &mut receive).map_err(Error::Io)? {
                None => self.drained = true,
                Some(received) if received.is_empty() => {
                    return if self.prefix_len == 0 { Ok(Step::End) } else { Err(Error::Truncated) };
                }
                Some(received) => {
                    self.note_receive(received.len(), max);
                    self.received = received;
                }
            }
        }
    }

    /// An empty rest still shares the shard's chunk, which could then never be used again: an idle connection holds no
    /// receive buffer.
    fn release_chunk(&mut self) {
        if self.received.is_empty() {
            self.received = BytesMut::new();
        }
    }

    /// A receive that did not fill its room has emptied the socket: asking again would be a wasted system call.
    fn note_receive(&mut self, count: usize, room: usize) {
        self.drained = count < room;
        self.received_in_a_row = if self.drained { 0 } else { self.received_in_a_row + count };
    }

    /// Completes the prefix from what was received; the frame's size once all four bytes are there.
    fn size(&mut self) -> Result<Option<usize>, Error> {
        let missing = (PREFIX_BYTES - self.prefix_len).min(self.received.len());
        let bytes = self.received.split_to(missing);
        self.prefix[self.prefix_len..self.prefix_len + missing].copy_from_slice(&bytes);
        self.prefix_len += missing;
        if self.prefix_len < PREFIX_BYTES {
            return Ok(None);
        }
        let size = i32::from_be_bytes(self.prefix);
        let size = usize::try_from(size).map_err(|_| Error::NegativeSize(size))?;
        if size > self.frame_bytes_max {
            return Err(Error::TooLarge { size, max: self.frame_bytes_max });
        }
        Ok(Some(size))
    }

    /// All of a frame that is there or small; of others a little more than what is there.
    fn first_reservation(&self, size: usize) -> usize {
        let received = self.received.len();
        if received >= size { size } else { size.min(FIRST_RESERVATION_BYTES.max(received * 2)) }
    }

    /// The frame if all of it was received, else a body begins with what was.
    fn cut(&mut self, size: usize) -> Option<Bytes> {
        if self.received.len() >= size {
            self.expect_large = false;
            let frame = self.received.split_to(size);
            return Some(if size > COPIED_FRAME_BYTES && (self.keep_in_place)(&frame) {
                frame.freeze()
            } else {
                Bytes::copy_from_slice(&frame)
            });
        }
        self.expect_large = size > RECEIVE_BYTES / 2;
        let now = now();
        self.partial.set(Some(PartialFrame { since: now, progress: now, bytes: size }));
        let start = std::mem::take(&mut self.received);
        self.body = Some(self.buffers.body(size, &start));
        None
    }

    fn complete(&mut self, bytes: Bytes) -> Frame {
        self.prefix_len = 0;
        self.partial.set(None);
        Frame { bytes, reservation: self.reservation.take().expect("reserved before the body was received") }
    }
}

impl Drop for FrameReader {
    fn drop(&mut self) {
        self.budget.note_received(self.noted, 0);
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Error::NegativeSize(size) => write!(f, "frame of negative size {size}"),
            Error::TooLarge { size, max } => {
                write!(f, "frame of {size} bytes, socket.request.max.bytes is {max}")
            }
            Error::Truncated => f.write_str("stream ended inside a frame"),
            Error::Io(error) => error.fmt(f),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::collections::VecDeque;

    use super::*;

    const FRAME_BYTES_MAX: usize = 1_000_000;

    /// A socket that gives these pieces, one receive each (or several, when a piece is larger than asked for).
    struct Pieces(VecDeque<Vec<u8>>);

    impl Pieces {
        fn receive(&mut self, buf: &mut BytesMut, max: usize) -> io::Result<Option<usize>> {
            assert!(max > 0, "asked for nothing");
            assert!(max <= buf.capacity() - buf.len(), "asked for more than there is room");
            let Some(piece) = self.0.front_mut() else { return Ok(Some(0)) };
            let count = piece.len().min(max);
            buf.extend_from_slice(&piece[..count]);
            piece.drain(..count);
            if piece.is_empty() {
                self.0.pop_front();
            }
            Ok(Some(count))
        }
    }

    struct Fixture {
        budget: Rc<RequestBudget>,
        reader: FrameReader,
    }

    impl Fixture {
        fn new() -> Fixture {
            let budget = RequestBudget::new(10_000_000);
            let reader = FrameReader::new(Rc::default(), Rc::clone(&budget), FRAME_BYTES_MAX, |frame| {
                frame.len() % 2 == 0
            });
            Fixture { budget, reader }
        }

        /// All frames up to the end of the stream or the error.
        fn read(&mut self, pieces: Vec<Vec<u8>>) -> (Vec<Vec<u8>>, Option<Error>) {
            let mut pieces = Pieces(pieces.into_iter().filter(|piece| !piece.is_empty()).collect());
            let mut frames = Vec::new();
            loop {
                match self.reader.step(|buf, max| pieces.receive(buf, max)) {
                    Ok(Step::Frame(frame)) => frames.push(frame.bytes.to_vec()),
                    Ok(Step::Wait) => self.reader.drained = false,
                    Ok(Step::Turn) => self.reader.received_in_a_row = 0,
                    Ok(Step::Reserve(_)) => panic!("the budget is large enough"),
                    Ok(Step::End) => return (frames, None),
                    Err(error) => return (frames, Some(error)),
                }
            }
        }
    }

    fn stream(frames: &[Vec<u8>]) -> Vec<u8> {
        let mut stream = Vec::new();
        for frame in frames {
            stream.extend_from_slice(&(frame.len() as u32).to_be_bytes());
            stream.extend_from_slice(frame);
        }
        stream
    }

    fn frame(size: usize) -> Vec<u8> {
        (0..size).map(|i| (i % 251) as u8).collect()
    }

    fn check(frames: &[Vec<u8>], cuts: &[usize]) {
        let stream = stream(frames);
        let mut pieces = Vec::new();
        let mut start = 0;
        for &cut in cuts {
            pieces.push(stream[start..cut].to_vec());
            start = cut;
        }
        pieces.push(stream[start..].to_vec());
        let mut fixture = Fixture::new();
        let (read, error) = fixture.read(pieces);
        assert!(error.is_none(), "{error:?} with cuts at {cuts:?}");
        assert!(read == frames, "with cuts at {cuts:?}");
        assert_eq!(fixture.budget.free_bytes(), 10_000_000, "all reservations came back");
        assert!(fixture.reader.partial.get().is_none());
    }

    #[test]
    fn frames_come_whole_however_the_stream_is_cut() {
        let frames = [frame(7), frame(0), frame(1), frame(11)];
        let length = stream(&frames).len();
        for first in 0..=length {
            for second in first..=length {
                check(&frames, &[first, second]);
            }
        }
        check(&frames, &(1..length).collect::<Vec<_>>());
    }

    #[test]
    fn frames_of_every_kind_of_buffer_come_whole() {
        let sizes = [10, 2048, 2049, 60_000, 65_537, 3, 300_000, 262_140, 1, 1_000_000, 999_999, 0, 131_072];
        let frames: Vec<_> = sizes.into_iter().map(frame).collect();
        let length = stream(&frames).len();
        check(&frames, &[]);
        for seed in 1..40_u64 {
            let mut random = seed;
            let mut cuts = Vec::new();
            let mut at = 0;
            loop {
                random = random.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
                at += (random >> 40) as usize % [10_000, 300_000][seed as usize % 2] + 1;
                if at >= length {
                    break;
                }
                cuts.push(at);
            }
            check(&frames, &cuts);
        }
    }

    #[test]
    fn a_bad_size_is_refused_before_anything_is_reserved() {
        for (prefix, frames) in [(-1_i32, 0), (i32::MIN, 0), (i32::MAX, 1), (FRAME_BYTES_MAX as i32 + 1, 2)] {
            let mut bytes = stream(&vec![frame(5); frames]);
            bytes.extend_from_slice(&prefix.to_be_bytes());
            bytes.extend_from_slice(b"more");
            let mut fixture = Fixture::new();
            let (read, error) = fixture.read(vec![bytes]);
            assert_eq!(read.len(), frames);
            match error {
                Some(Error::NegativeSize(size)) => assert_eq!(size, prefix),
                Some(Error::TooLarge { size, max }) => {
                    assert_eq!((size, max), (prefix as usize, FRAME_BYTES_MAX))
                }
                other => panic!("{other:?}"),
            }
            assert_eq!(fixture.budget.free_bytes(), 10_000_000);
        }
    }

    #[test]
    fn a_stream_that_ends_inside_a_frame_is_an_error() {
        let whole = stream(&[frame(9)]);
        for length in 1..whole.len() {
            let mut fixture = Fixture::new();
            let (read, error) = fixture.read(vec![whole[..length].to_vec()]);
            assert!(read.is_empty() && matches!(error, Some(Error::Truncated)), "{length}: {error:?}");
        }
    }

    #[test]
    fn a_frame_reserves_as_it_arrives() {
        let budget = RequestBudget::new(1_000_000);
        let mut reader = FrameReader::new(Rc::default(), Rc::clone(&budget), FRAME_BYTES_MAX, |frame| {
            frame.len() % 2 == 0
        });
        let whole = stream(&[frame(900_000)]);
        let mut pieces = Pieces(VecDeque::from([whole[..100].to_vec()]));
        reader.drained = false;
        let step = reader.step(|buf, max| pieces.receive(buf, max));
        assert!(matches!(step, Ok(Step::Wait)));
        assert_eq!(budget.free_bytes(), 1_000_000 - FIRST_RESERVATION_BYTES as u64);

        // a second one, so that the first cannot be the exempt one
        let mut exempt = budget.try_reserve(1).expect("there is room");
        assert!(exempt.try_extend(10_000_000));
        let mut pieces = Pieces(VecDeque::from([whole[100..].to_vec()]));
        reader.drained = false;
        let mut step = || reader.step(|buf, max| pieces.receive(buf, max));
        let Ok(Step::Reserve(wanted)) = step() else { panic!("half of the budget does not suffice") };
        assert!((262_144..=900_000).contains(&wanted));
        assert!(matches!(step(), Ok(Step::Reserve(again)) if again == wanted), "still");
        drop(exempt);
        let Ok(Step::Frame(arrived)) = step() else { panic!("it is the exempt one now") };
        assert_eq!(arrived.bytes, frame(900_000));
        drop(arrived);
        assert_eq!(budget.free_bytes(), 1_000_000);
    }

    #[test]
    fn a_frame_that_is_there_waits_for_its_reservation() {
        let budget = RequestBudget::new(100_000);
        let mut reader = FrameReader::new(Rc::default(), Rc::clone(&budget), FRAME_BYTES_MAX, |frame| {
            frame.len() % 2 == 0
        });
        let others = budget.try_reserve(50_000).expect("all is free");
        let mut pieces = Pieces(VecDeque::from([stream(&[frame(80_000), frame(4)])]));
        reader.drained = false;
        let mut step = || reader.step(|buf, max| pieces.receive(buf, max));
        assert!(matches!(step(), Ok(Step::Reserve(80_000))));
        assert!(matches!(step(), Ok(Step::Reserve(80_000))), "still");
        drop(others);
        let Ok(Step::Frame(large)) = step() else { panic!("there is room now") };
        assert_eq!(large.bytes, frame(80_000));
        assert_eq!(budget.free_bytes(), 20_000);
        let Ok(Step::Frame(small)) = step() else { panic!("there is room for both") };
        assert_eq!(small.bytes, frame(4));
        drop((large, small));
        assert_eq!(budget.free_bytes(), 100_000);
    }

    #[test]
    fn an_idle_reader_holds_no_receive_buffer() {
        let mut fixture = Fixture::new();
        let (frames, _) = fixture.read(vec![stream(&[frame(10), frame(5_000)])]);
        assert_eq!(frames.len(), 2);
        assert_eq!(fixture.reader.received.capacity(), 0);
    }

    #[test]
    fn a_partial_frame_is_seen_by_the_watch() {
        let mut fixture = Fixture::new();
        let mut pieces = Pieces(VecDeque::from([stream(&[frame(500)])[..100].to_vec()]));
        fixture.reader.drained = false;
        let step = fixture.reader.step(|buf, max| pieces.receive(buf, max));
        assert!(matches!(step, Ok(Step::Wait)));
        assert_eq!(fixture.reader.partial().get().map(|partial| partial.bytes), Some(500));
    }
}

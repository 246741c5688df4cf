//! One producer: gathers records into batches, sends them, and knows when each record was due.
//!
//! It does what clients do: a batch per partition; full batches go first, then those that have lingered; a request
//! carries batches of several partitions; a bounded number of requests is in flight per broker, and meanwhile
//! batches gather.

use std::collections::VecDeque;
use std::io::{self, IoSlice, Write};
use std::net::TcpStream;
use std::sync::Arc;

use anyhow::{Context, Result, bail, ensure};

use super::inbox::Inbox;
use super::poller::Poller;
use super::records::{RecordPlan, RecordSource};
use super::worker::Shared;
use crate::clock::Clock;
use crate::measure::Recorder;
use crate::wire::batch::{Batch, Codec, NO_PRODUCER, ProducerState};
use crate::wire::control::{self, Layout};
use crate::wire::partitioner::place_of_key;
use crate::wire::produce::{self, Form, Request};
use crate::wire::{Cursor, error_name};

/// Pieces of one system call.
const PIECES: usize = 64;
/// Responses are short.
const READ_BYTES: usize = 16 << 10;

/// What all producers of a run have in common.
#[derive(Clone)]
pub struct ProducePlan {
    pub records: RecordPlan,
    pub layout: Arc<Layout>,
    pub version: i16,
    pub acks: i16,
    pub timeout_ms: i32,
    pub codec: Codec,
    /// Without keys: a producer stays with one slot.
    pub own_slot: bool,
    pub batch_bytes: usize,
    pub request_bytes: usize,
    pub buffer_bytes: usize,
    pub linger_nanos: u64,
    pub in_flight: usize,
    pub keep_going: bool,
}

impl ProducePlan {
    fn form(&self) -> Form<'_> {
        Form {
            version: self.version,
            transactional_id: None,
            acks: self.acks,
            timeout_ms: self.timeout_ms,
            topics: &self.layout.topics,
            slots: &self.layout.slots,
        }
    }
}

/// The connection to one broker.
struct Link {
    stream: TcpStream,
    token: u64,
    inbox: Inbox,
    /// Framed and not whole in the socket; of the first one so many bytes are.
    unsent: VecDeque<Request>,
    sent_bytes: usize,
    /// In the socket, not answered.
    unanswered: VecDeque<Request>,
    watches_writable: bool,
    /// Full batches, oldest first.
    full: VecDeque<(usize, Batch)>,
    /// Slots whose batch takes records, and when its first record was due; may name batches that are full by now.
    filling: VecDeque<(usize, u64)>,
}

impl Link {
    fn has_room(&self, in_flight: usize) -> bool {
        self.unsent.len() + self.unanswered.len() < in_flight
    }
}

/// One producer; lives on one thread.
pub struct Producer {
    index: u32,
    plan: Arc<ProducePlan>,
    source: RecordSource,
    links: Vec<Link>,
    /// Of each slot: the batch that takes records.
    open: Vec<Option<Batch>>,
    open_bytes: usize,
    /// Bytes of all batches that are not acknowledged.
    unacknowledged_bytes: usize,
    /// Without keys: the slot that takes records until it has had a batch full of them, or for good.
    sticky: usize,
    sticky_bytes: usize,
    stamps: Vec<u32>,
    identity: Option<(i64, i16)>,
    sequences: Vec<i32>,
    /// Of each slot: the last request that carries a batch of it.
    carried_by: Vec<u64>,
    requests_made: u64,
    correlation_id: i32,
    batches: Vec<Batch>,
    requests: Vec<Request>,
}

impl Producer {
    /// Connects to every broker that leads a partition. `identity`: id and epoch of an idempotent producer. Tokens of
    /// its sockets begin at `token`.
    ///
    /// # Errors
    /// A broker that cannot be reached.
    pub fn connect(
        index: u32,
        plan: &Arc<ProducePlan>,
        identity: Option<(i64, i16)>,
        poller: &Poller,
        token: u64,
    ) -> Result<Producer> {
        let mut links = Vec::with_capacity(plan.layout.brokers.len());
        for (broker, address) in plan.layout.brokers.iter().enumerate() {
            let stream = control::connect(address)?;
            stream.set_nonblocking(true)?;
            let token = token + broker as u64;
            poller.add(&stream, token)?;
            links.push(Link {
                stream,
                token,
                inbox: Inbox::new(READ_BYTES),
                unsent: VecDeque::new(),
                sent_bytes: 0,
                unanswered: VecDeque::new(),
                watches_writable: false,
                full: VecDeque::new(),
                filling: VecDeque::new(),
            });
        }
        let slots = plan.layout.slots.len();
        Ok(Producer {
            index,
            plan: Arc::clone(plan),
            source: RecordSource::new(&plan.records, u64::from(index)),
            links,
            open: std::iter::repeat_with(|| None).take(slots).collect(),
            open_bytes: 0,
            unacknowledged_bytes: 0,
            sticky: index as usize % slots,
            sticky_bytes: 0,
            stamps: vec![0; slots],
            identity,
            sequences: vec![0; slots],
            carried_by: vec![0; slots],
            requests_made: 0,
            correlation_id: 0,
            batches: Vec::new(),
            requests: Vec::new(),
        })
    }

    /// It holds as much as it may: records that are due wait.
    #[must_use]
    pub fn is_full(&self) -> bool {
        self.unacknowledged_bytes >= self.plan.buffer_bytes
    }

    /// Everything it was given is acknowledged.
    #[must_use]
    pub fn is_idle(&self) -> bool {
        self.unacknowledged_bytes == 0
    }

    /// Takes one record; gives the bytes of its key, value and headers. Nothing is sent before [`send`](Producer::send).
    pub fn offer(&mut self, due_nanos: u64, clock: &Clock) -> u64 {
        let plan = &self.plan;
        let slots = plan.layout.slots.len();
        let slot = match self.source.draw() {
            // topics take turns by the key's place among all partitions of the run
            Some(key) => place_of_key(key, slots),
            None => self.sticky,
        };
        let record =
            self.source.record(due_nanos, clock.timestamp_ms(due_nanos), self.index, self.stamps[slot]);
        let payload_bytes = record.payload_bytes();
        let link = &mut self.links[plan.layout.slots[slot].leader];
        let too_many = |batch: &mut Batch| batch.bytes_with(&record) > plan.batch_bytes;
        if let Some(full) = self.open[slot].take_if(too_many) {
            self.open_bytes -= full.bytes().len();
            link.full.push_back((slot, full));
        }
        let batch = self.open[slot].get_or_insert_with(|| {
            link.filling.push_back((slot, due_nanos));
            self.batches.pop().unwrap_or_default()
        });
        let before = batch.bytes().len();
        batch.append(&record);
        let grown = batch.bytes().len() - before;
        self.open_bytes += grown;
        self.unacknowledged_bytes += grown;
        self.stamps[slot] = self.stamps[slot].wrapping_add(1);
        if !plan.records.has_keys() && !plan.own_slot {
            self.sticky_bytes += grown;
            if self.sticky_bytes + payload_bytes >= plan.batch_bytes {
                // what it takes now would not fit: the batch is full
                self.sticky_bytes = 0;
                self.sticky = (slot + 1) % slots;
                if let Some(full) = self.open[slot].take() {
                    self.open_bytes -= full.bytes().len();
                    link.full.push_back((slot, full));
                }
            }
        }
        payload_bytes as u64
    }

    /// Closed loop: takes records, due when they are made, until every link has its requests in flight or `left` is
    /// used up; at most so many requests in one call, since with acks=0 there is always room. True if there is more
    /// to do at once.
    ///
    /// # Errors
    /// A broken connection.
    pub fn saturate(
        &mut self,
        left: &mut Budget,
        clock: &Clock,
        poller: &Poller,
        io: &mut Io<'_>,
    ) -> Result<bool> {
        let mut now = clock.nanos();
        let mut made = self.requests_made;
        let last = made + self.plan.in_flight as u64 * self.links.len() as u64;
        loop {
            // Records for many partitions gather up to one request's worth, then all of them go.
            let is_gathered = self.open_bytes >= self.plan.request_bytes || self.is_full();
            let all = is_gathered || left.is_used_up();
            self.send(now, if all { Linger::Over } else { Linger::Ignore }, poller, io)?;
            let has_room = self.links.iter().any(|link| link.has_room(self.plan.in_flight));
            if !has_room || left.is_used_up() || self.is_full() {
                return Ok(false);
            }
            if is_gathered && self.open_bytes >= self.plan.request_bytes {
                return Ok(false); // all of it is for links without room
            }
            if self.requests_made > last {
                return Ok(true);
            }
            if self.requests_made > made {
                (made, now) = (self.requests_made, clock.nanos());
            }
            left.take(self.offer(now, clock));
        }
    }

    /// Sends what is full, and what has lingered.
    ///
    /// # Errors
    /// A broken connection.
    pub fn send(&mut self, now: u64, linger: Linger, poller: &Poller, io: &mut Io<'_>) -> Result<()> {
        for link in 0..self.links.len() {
            let mut framed = false;
            while self.links[link].has_room(self.plan.in_flight) && self.frame_one(link, now, linger)? {
                framed = true;
            }
            if framed {
                self.write(link, poller, io)?;
            }
        }
        Ok(())
    }

    /// When the next batch has lingered, if one is open and could be sent then.
    #[must_use]
    pub fn lingers_until(&self) -> Option<u64> {
        let links = self.links.iter().filter(|link| link.has_room(self.plan.in_flight));
        let first = links.filter_map(|link| link.filling.front()).map(|(_, due)| *due).min();
        first.map(|due| due.saturating_add(self.plan.linger_nanos))
    }

    /// Puts one request together; false if there is nothing to send.
    fn frame_one(&mut self, link_index: usize, now: u64, linger: Linger) -> Result<bool> {
        let link = &mut self.links[link_index];
        let mut request = self.requests.pop().unwrap_or_default();
        let number = self.requests_made + 1;
        let mut bytes = 0;
        // one batch of a partition per request: the second one waits for the next
        while let Some((slot, batch)) = link.full.front() {
            let fits = request.batches.is_empty() || bytes + batch.bytes().len() <= self.plan.request_bytes;
            if !fits || self.carried_by[*slot] == number {
                break;
            }
            self.carried_by[*slot] = number;
            bytes += batch.bytes().len();
            request.batches.extend(link.full.pop_front());
        }
        while let Some((slot, due)) = link.filling.front().copied() {
            // the batch that was begun then is full, and perhaps gone: another one follows in the list
            let is_open = self.open[slot].as_ref().is_some_and(|batch| batch.due()[0].0 == due);
            if !is_open {
                link.filling.pop_front();
                continue;
            }
            let over = match linger {
                Linger::Ignore => false,
                Linger::Over => true,
                Linger::Timed => due.saturating_add(self.plan.linger_nanos) <= now,
            };
            let size = self.open[slot].as_ref().map_or(0, |batch| batch.bytes().len());
            let fits = request.batches.is_empty() || bytes + size <= self.plan.request_bytes;
            // a full batch of the partition that waits goes before this one
            if !over
                || !fits
                || self.carried_by[slot] == number
                || link.full.iter().any(|(full, _)| *full == slot)
            {
                break;
            }
            self.carried_by[slot] = number;
            link.filling.pop_front();
            if let Some(batch) = self.open[slot].take() {
                self.open_bytes -= batch.bytes().len();
                bytes += batch.bytes().len();
                request.batches.push((slot, batch));
            }
        }
        if request.batches.is_empty() {
            self.requests.push(request);
            return Ok(false);
        }
        self.requests_made = number;
        for (slot, batch) in &mut request.batches {
            let unsealed = batch.bytes().len();
            let state = self.identity.map_or(NO_PRODUCER, |(id, epoch)| {
                let base_sequence = self.sequences[*slot];
                // after the largest comes 0
                self.sequences[*slot] = base_sequence.wrapping_add(batch.count() as i32) & i32::MAX;
                ProducerState { id, epoch, base_sequence, is_transactional: false }
            });
            batch.seal(self.plan.codec, state)?;
            self.unacknowledged_bytes = self.unacknowledged_bytes - unsealed + batch.bytes().len();
        }
        self.correlation_id = self.correlation_id.wrapping_add(1);
        request.frame(self.plan.form(), self.correlation_id);
        self.links[link_index].unsent.push_back(request);
        Ok(true)
    }

    /// Writes as much as the socket takes.
    fn write(&mut self, link_index: usize, poller: &Poller, io: &mut Io<'_>) -> Result<()> {
        let acks = self.plan.acks;
        let link = &mut self.links[link_index];
        let mut blocked = false;
        while let Some(request) = link.unsent.front() {
            let mut skip = link.sent_bytes;
            let mut pieces = [IoSlice::new(&[]); PIECES];
            let mut count = 0;
            for piece in request.pieces() {
                if skip >= piece.len() {
                    skip -= piece.len();
                    continue;
                }
                pieces[count] = IoSlice::new(&piece[skip..]);
                skip = 0;
                count += 1;
                if count == PIECES {
                    break;
                }
            }
            match (&link.stream).write_vectored(&pieces[..count]) {
                Ok(written) => link.sent_bytes += written,
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                    blocked = true;
                    break;
                }
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(error).context("sending to the broker"),
            }
            if link.sent_bytes == request.bytes() {
                link.sent_bytes = 0;
                let sent = link.unsent.pop_front();
                link.unanswered.extend(sent);
                if acks == 0 {
                    self.acknowledge_unasked(link_index, io);
                    return self.write(link_index, poller, io);
                }
            }
        }
        let link = &mut self.links[link_index];
        if link.watches_writable != blocked {
            link.watches_writable = blocked;
            poller.watch_writable(&link.stream, link.token, blocked)?;
        }
        Ok(())
    }

    /// # Errors
    /// A broken connection.
    pub fn on_writable(&mut self, link: usize, poller: &Poller, io: &mut Io<'_>) -> Result<()> {
        self.write(link, poller, io)
    }

    /// Reads answers.
    ///
    /// # Errors
    /// A broken connection, or an error code of the broker if the plan says that ends the run.
    pub fn on_readable(&mut self, link_index: usize, io: &mut Io<'_>) -> Result<()> {
        let link = &mut self.links[link_index];
        if !link.inbox.fill(&link.stream).context("waiting for an answer to Produce")? {
            return Ok(());
        }
        while let Some(response) = link.inbox.next()? {
            let mut request = link.unanswered.pop_front().context("an answer that nobody waits for")?;
            let correlation_id = Cursor::new(response).int32()?;
            ensure!(
                correlation_id == request.correlation_id,
                "answers come in another order than the requests"
            );
            let (now, plan) = (io.clock.nanos(), &self.plan);
            io.recorder.roll(now);
            io.recorder.request();
            let mut answered = 0;
            let mut failed = None;
            produce::answers(response, plan.version, |topic, partition, error| {
                // in the order of the request, most of the time
                let next = answered.min(request.batches.len());
                let places = (next..request.batches.len()).chain(0..next);
                let of_answer = |place: &usize| {
                    let slot = plan.layout.slots[request.batches[*place].0];
                    slot.partition == partition && plan.layout.topics[slot.topic].as_bytes() == topic
                };
                let Some(place) = places.into_iter().find(of_answer) else { return };
                answered += 1;
                let batch = &request.batches[place].1;
                if error == 0 {
                    io.acknowledged(batch, now);
                } else {
                    *io.errors.entry(format!("Produce: {}", error_name(error))).or_default() +=
                        u64::from(batch.count());
                    failed.get_or_insert((request.batches[place].0, error));
                }
            })?;
            ensure!(
                answered == request.batches.len(),
                "Produce answered for {answered} of {} partitions",
                request.batches.len()
            );
            if let Some((slot, error)) = failed.filter(|_| !plan.keep_going) {
                let slot = plan.layout.slots[slot];
                let topic = &plan.layout.topics[slot.topic];
                bail!("Produce to {topic}-{} answered {}", slot.partition, error_name(error));
            }
            for (_, mut batch) in request.batches.drain(..) {
                self.unacknowledged_bytes -= batch.bytes().len();
                batch.clear();
                self.batches.push(batch);
            }
            self.requests.push(request);
        }
        Ok(())
    }

    /// acks=0: what is in the socket counts as acknowledged.
    fn acknowledge_unasked(&mut self, link_index: usize, io: &mut Io<'_>) {
        let now = io.clock.nanos();
        io.recorder.roll(now);
        while let Some(mut request) = self.links[link_index].unanswered.pop_front() {
            io.recorder.request();
            for (_, mut batch) in request.batches.drain(..) {
                io.acknowledged(&batch, now);
                self.unacknowledged_bytes -= batch.bytes().len();
                batch.clear();
                self.batches.push(batch);
            }
            self.requests.push(request);
        }
    }
}

/// Which open batches are sent.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Linger {
    /// None but full ones.
    Ignore,
    /// Those whose time is over.
    Timed,
    /// All.
    Over,
}

/// What a thread may still produce.
#[derive(Clone, Copy, Debug)]
pub struct Budget {
    pub records: u64,
    pub bytes: u64,
}

impl Budget {
    #[must_use]
    pub fn is_used_up(&self) -> bool {
        self.records == 0 || self.bytes == 0
    }

    pub fn take(&mut self, payload_bytes: u64) {
        self.records = self.records.saturating_sub(1);
        self.bytes = self.bytes.saturating_sub(payload_bytes);
    }
}

/// What a producer reports to.
pub struct Io<'a> {
    pub clock: &'a Clock,
    pub recorder: &'a mut Recorder,
    pub shared: &'a Shared,
    pub errors: &'a mut std::collections::BTreeMap<String, u64>,
}

impl Io<'_> {
    fn acknowledged(&mut self, batch: &Batch, now: u64) {
        for (due, count) in batch.due() {
            self.recorder.latency(now.saturating_sub(*due), *count);
        }
        let count = u64::from(batch.count());
        self.recorder.count(count, batch.payload_bytes(), batch.bytes().len() as u64);
        self.shared.acknowledged.fetch_add(count, std::sync::atomic::Ordering::Relaxed);
    }
}

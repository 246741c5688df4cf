//! One consumer: one fetch in flight per broker, batches counted or records looked at.

use std::collections::BTreeMap;
use std::io::{self, Write};
use std::net::TcpStream;
use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};

use anyhow::{Context, Result, bail, ensure};

use super::inbox::Inbox;
use super::poller::Poller;
use super::worker::Shared;
use crate::clock::Clock;
use crate::measure::{Recorder, Role};
use crate::wire::batch;
use crate::wire::control::{self, Connection, Layout};
use crate::wire::fetch::{self, Answer, Form};
use crate::wire::stamp::Stamp;
use crate::wire::{Cursor, error_name};

const READ_BYTES: usize = 256 << 10;
const OFFSET_OUT_OF_RANGE: i16 = 1;
const BEGINNING: i64 = -2;

/// Slots with the offset to read next.
pub type Places = Vec<(usize, i64)>;

/// What a consumer does at the end of a partition.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum AtEnd {
    /// Waits for more.
    Wait,
    /// Begins again at the beginning.
    Wrap,
}

/// What all consumers of a role have in common.
#[derive(Clone)]
pub struct ConsumerPlan {
    pub role: Role,
    pub layout: Arc<Layout>,
    pub at_end: AtEnd,
    pub max_wait_ms: i32,
    pub min_bytes: i32,
    pub max_bytes: i32,
    pub partition_max_bytes: i32,
    /// Check checksums, walk records.
    pub verify: bool,
    /// Stamps of this run are looked for, of so many producers.
    pub stamps: Option<(u32, u32)>,
    /// Of each slot: where its consumer is, for commits.
    pub positions: Arc<[AtomicI64]>,
}

impl ConsumerPlan {
    fn form(&self) -> Form<'_> {
        Form {
            max_wait_ms: self.max_wait_ms,
            min_bytes: self.min_bytes,
            max_bytes: self.max_bytes,
            partition_max_bytes: self.partition_max_bytes,
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
    broker: usize,
    places: Places,
    request: Vec<u8>,
    sent_bytes: usize,
    sent_at: u64,
    is_waiting: bool,
    watches_writable: bool,
    correlation_id: i32,
}

/// One consumer; lives on one thread.
pub struct Consumer {
    plan: Arc<ConsumerPlan>,
    links: Vec<Link>,
    /// Of each slot and producer: the sequence that comes next.
    expected: BTreeMap<usize, Vec<u32>>,
    begin: BTreeMap<usize, i64>,
}

/// What a consumer has noticed.
#[derive(Clone, Copy, Debug, Default)]
pub struct Findings {
    /// Records of this run that never came, or came late.
    pub missing: u64,
    /// That came twice, or after a later one.
    pub repeated: u64,
    pub bad_checksums: u64,
    /// Positions that were no longer in the log: the consumer went on at its beginning.
    pub resets: u64,
}

impl Findings {
    pub fn add(&mut self, other: Findings) {
        self.missing += other.missing;
        self.repeated += other.repeated;
        self.bad_checksums += other.bad_checksums;
        self.resets += other.resets;
    }
}

/// What a consumer reports to.
pub struct Io<'a> {
    pub clock: &'a Clock,
    pub recorder: &'a mut Recorder,
    pub shared: &'a Shared,
    pub findings: &'a mut Findings,
}

impl Consumer {
    /// Connects to the brokers of these places (slot and offset).
    ///
    /// # Errors
    /// A broker that cannot be reached.
    pub fn connect(
        plan: &Arc<ConsumerPlan>,
        places: &[(usize, i64)],
        poller: &Poller,
        token: u64,
    ) -> Result<Consumer> {
        let mut links = Vec::new();
        for (broker, address) in plan.layout.brokers.iter().enumerate() {
            let of_broker = |(slot, _): &&(usize, i64)| plan.layout.slots[*slot].leader == broker;
            let places: Vec<_> = places.iter().filter(of_broker).copied().collect();
            if places.is_empty() {
                continue;
            }
            let stream = control::connect(address)?;
            stream.set_nonblocking(true)?;
            let token = token + links.len() as u64;
            poller.add(&stream, token)?;
            links.push(Link {
                stream,
                token,
                inbox: Inbox::new(READ_BYTES),
                broker,
                places,
                request: Vec::new(),
                sent_bytes: 0,
                sent_at: 0,
                is_waiting: false,
                watches_writable: false,
                correlation_id: 0,
            });
        }
        let producers = plan.stamps.map_or(0, |(_, producers)| producers as usize);
        let expected = places.iter().map(|(slot, _)| (*slot, vec![0; producers])).collect();
        Ok(Consumer { plan: Arc::clone(plan), links, expected, begin: places.iter().copied().collect() })
    }

    #[must_use]
    pub fn role(&self) -> Role {
        self.plan.role
    }

    /// Sends the first fetches.
    ///
    /// # Errors
    /// A broken connection.
    pub fn start(&mut self, clock: &Clock, poller: &Poller) -> Result<()> {
        (0..self.links.len()).try_for_each(|link| self.fetch(link, clock, poller))
    }

    fn fetch(&mut self, link: usize, clock: &Clock, poller: &Poller) -> Result<()> {
        let link = &mut self.links[link];
        link.correlation_id = link.correlation_id.wrapping_add(1);
        fetch::frame(&mut link.request, self.plan.form(), link.correlation_id, &link.places);
        link.sent_bytes = 0;
        link.sent_at = clock.nanos();
        link.is_waiting = true;
        write(link, poller)
    }

    /// # Errors
    /// A broken connection.
    pub fn on_writable(&mut self, link: usize, poller: &Poller) -> Result<()> {
        write(&mut self.links[link], poller)
    }

    /// Reads what has come; sends the next fetch when an answer is whole.
    ///
    /// # Errors
    /// A broken connection, or an error code of the broker.
    pub fn on_readable(&mut self, link_index: usize, poller: &Poller, io: &mut Io<'_>) -> Result<()> {
        let link = &mut self.links[link_index];
        if !link.inbox.fill(&link.stream).context("waiting for an answer to Fetch")? {
            return Ok(());
        }
        let Some(response) = link.inbox.next()? else { return Ok(()) };
        ensure!(link.is_waiting, "an answer that nobody waits for");
        ensure!(Cursor::new(response).int32()? == link.correlation_id, "an answer to another request");
        link.is_waiting = false;
        let now = io.clock.nanos();
        io.recorder.roll(now);
        let Link { places, sent_at, broker, .. } = link;
        let mut taking = Taking {
            plan: &self.plan,
            expected: &mut self.expected,
            places,
            at: 0,
            now,
            records: 0,
            bytes: 0,
            brought: 0,
            lost: Vec::new(),
            result: Ok(()),
            io: &mut *io,
        };
        let error = fetch::answers(response, |answer| taking.take(&answer))?;
        let Taking { records, bytes, brought, lost, result, .. } = taking;
        result?;
        ensure!(error == 0, "Fetch answered {}", error_name(error));
        if brought > 0 {
            io.recorder.request();
            if self.plan.role != Role::EndToEnd {
                io.recorder.latency(now.saturating_sub(*sent_at), 1);
            }
        }
        if self.plan.role != Role::CatchUp {
            io.shared.received.fetch_add(records, Ordering::Relaxed);
            io.shared.received_bytes.fetch_add(bytes, Ordering::Relaxed);
        }
        if !lost.is_empty() {
            io.findings.resets += lost.len() as u64;
            reset(&self.plan.layout, *broker, places, &lost)?;
            for place in lost {
                self.begin.insert(places[place].0, places[place].1);
            }
        } else if self.plan.at_end == AtEnd::Wrap && brought == 0 {
            for (slot, offset) in places.iter_mut() {
                *offset = self.begin.get(slot).copied().unwrap_or(0);
            }
        }
        // the broker fills a response in the order asked: what had its turn goes to the back
        let had_their_turn = brought % places.len();
        places.rotate_left(had_their_turn);
        self.fetch(link_index, io.clock, poller)
    }
}

/// One response on its way through.
struct Taking<'a, 'b> {
    plan: &'a ConsumerPlan,
    expected: &'a mut BTreeMap<usize, Vec<u32>>,
    places: &'a mut Vec<(usize, i64)>,
    /// Where the next answer's place is likely to be.
    at: usize,
    now: u64,
    records: u64,
    bytes: u64,
    /// Partitions that brought records.
    brought: usize,
    /// Places whose offset is not in the log.
    lost: Vec<usize>,
    result: Result<()>,
    io: &'a mut Io<'b>,
}

impl Taking<'_, '_> {
    fn take(&mut self, answer: &Answer<'_>) {
        if self.result.is_ok() {
            self.result = self.try_take(answer);
        }
    }

    fn try_take(&mut self, answer: &Answer<'_>) -> Result<()> {
        let layout = &self.plan.layout;
        let is_asked = |place: &usize| {
            let slot = layout.slots[self.places[*place].0];
            slot.partition == answer.partition && layout.topics[slot.topic].as_bytes() == answer.topic
        };
        let mut places = (self.at..self.places.len()).chain(0..self.at);
        let place = places.find(is_asked).context("Fetch answered for another partition")?;
        self.at = place + 1;
        if answer.error == OFFSET_OUT_OF_RANGE {
            self.lost.push(place);
            return Ok(());
        }
        if answer.error != 0 {
            let topic = String::from_utf8_lossy(answer.topic);
            bail!("Fetch of {topic}-{} answered {}", answer.partition, error_name(answer.error));
        }
        let (slot, begin) = self.places[place];
        let (role, mut next) = (self.plan.role, begin);
        for batch in batch::batches(answer.records) {
            if batch.next_offset() <= next {
                continue;
            }
            let skipped = u64::try_from(next - batch.base_offset()).unwrap_or(0);
            let mut records = u64::from(batch.count()).saturating_sub(skipped);
            let is_whole = !self.plan.verify || batch.is_crc_right();
            self.io.findings.bad_checksums += u64::from(!is_whole);
            let mut payload_bytes = batch.len() as u64 - batch::HEADER_BYTES as u64;
            if (self.plan.verify || self.plan.stamps.is_some()) && is_whole && !batch.is_control() {
                (records, payload_bytes) = (0, 0);
                let from = next;
                batch.records(|offset, value| {
                    // what others write to the topic meanwhile is not what this run waits for
                    let counts = offset >= from && (self.look_at(slot, value) || role != Role::EndToEnd);
                    records += u64::from(counts);
                    payload_bytes += if counts { value.len() as u64 } else { 0 };
                })?;
            }
            if !batch.is_control() {
                self.records += records;
                self.bytes += payload_bytes;
                self.io.recorder.count(records, payload_bytes, batch.len() as u64);
            }
            next = batch.next_offset();
        }
        if next > begin {
            self.brought += 1;
            self.places[place].1 = next;
            self.plan.positions[slot].store(next, Ordering::Relaxed);
        }
        if self.plan.at_end == AtEnd::Wrap && next >= answer.high_watermark && next > begin {
            self.places[place].1 = answer.log_start_offset.max(0);
        }
        Ok(())
    }

    /// A record's stamp: its latency, and whether it is the one that comes next. False: it is not of this run.
    fn look_at(&mut self, slot: usize, value: &[u8]) -> bool {
        let Some((run, _)) = self.plan.stamps else { return false };
        let Some(stamp) = Stamp::decode(value).filter(|stamp| stamp.run == run) else { return false };
        let of_slot =
            self.expected.get_mut(&slot).and_then(|producers| producers.get_mut(stamp.producer as usize));
        let Some(expected) = of_slot else { return false };
        if self.plan.role == Role::EndToEnd {
            self.io.recorder.latency(self.now.saturating_sub(stamp.due_nanos), 1);
        }
        let ahead = stamp.sequence.wrapping_sub(*expected);
        if ahead < u32::MAX / 2 {
            self.io.findings.missing += u64::from(ahead);
            *expected = stamp.sequence.wrapping_add(1);
        } else {
            self.io.findings.repeated += 1;
        }
        true
    }
}

/// Looks up the beginning of what was lost. Rare, and the thread waits for it.
fn reset(layout: &Layout, broker: usize, places: &mut [(usize, i64)], lost: &[usize]) -> Result<()> {
    let mut slots: Vec<usize> = lost.iter().map(|place| places[*place].0).collect();
    slots.sort_unstable();
    let begins = Connection::open(&layout.brokers[broker])?.offsets(layout, &slots, BEGINNING)?;
    for place in lost {
        let slot = places[*place].0;
        if let Ok(found) = begins.binary_search_by_key(&slot, |(slot, _)| *slot) {
            places[*place].1 = begins[found].1;
        }
    }
    Ok(())
}

fn write(link: &mut Link, poller: &Poller) -> Result<()> {
    let mut blocked = false;
    while link.sent_bytes < link.request.len() {
        match (&link.stream).write(&link.request[link.sent_bytes..]) {
            Ok(written) => link.sent_bytes += written,
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                blocked = true;
                break;
            }
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error).context("sending to the broker"),
        }
    }
    if link.watches_writable != blocked {
        link.watches_writable = blocked;
        poller.watch_writable(&link.stream, link.token, blocked)?;
    }
    Ok(())
}

//! A producer as a machine: its transactions one after another, which requests come next, what an answer means. To each
//! broker it has one request under way at a time.

use std::time::Duration;

use anyhow::{Context, Result, bail, ensure};
use bytes::{Bytes, BytesMut};
use kafka_protocol::messages::add_partitions_to_txn_request::AddPartitionsToTxnTopic;
use kafka_protocol::messages::{
    AddPartitionsToTxnRequest, AddPartitionsToTxnResponse, ApiKey, EndTxnRequest, EndTxnResponse, ProducerId,
    TransactionalId,
};

use super::options::Protocol;
use crate::engine::{RecordPlan, RecordSource};
use crate::wire::batch::{Batch, Codec, ProducerState};
use crate::wire::control::{Connection, Layout, answer, frame, name, string};
use crate::wire::produce::{self, Form, Request};
use crate::wire::{code, error_name};

/// Clients' `retry.backoff.ms` and `retry.backoff.max.ms`.
const BACKOFF: Duration = Duration::from_millis(100);
const BACKOFF_MAX: Duration = Duration::from_secs(1);
/// What clients wait whose first partitions of a transaction are refused because the one before is not through.
const FIRST_PARTITIONS_BACKOFF: Duration = Duration::from_millis(20);
/// How the broker may take at most to answer a Produce: clients' default.
const PRODUCE_TIMEOUT_MS: i32 = 30_000;

/// What is the same for all producers of a run.
pub struct Plan {
    pub layout: Layout,
    pub protocol: Protocol,
    pub versions: Versions,
    /// Of each transaction.
    pub partitions: usize,
    /// Of each batch.
    pub records: u32,
}

/// Of each API, the one this run speaks; 0 where the protocol has no use for it.
pub struct Versions {
    pub add_partitions: i16,
    pub produce: i16,
    pub end: i16,
}

impl Versions {
    /// # Errors
    /// The broker does not have the protocol.
    pub fn of(protocol: Protocol, control: &Connection) -> Result<Versions> {
        let produce = |versions: &[i16]| control.version(ApiKey::Produce, versions);
        Ok(match protocol {
            Protocol::V2 => Versions {
                add_partitions: 0,
                produce: produce(&[12])?,
                end: control.version(ApiKey::EndTxn, &[5])?,
            },
            Protocol::Classic => Versions {
                add_partitions: control.version(ApiKey::AddPartitionsToTxn, &[3])?,
                produce: produce(&[11, 10, 9])?,
                end: control.version(ApiKey::EndTxn, &[4, 3])?,
            },
            Protocol::None => Versions { add_partitions: 0, produce: produce(&[11, 10, 9])?, end: 0 },
        })
    }
}

/// Whom a request is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Receiver {
    Coordinator,
    /// By its place in the layout's list of brokers.
    Leader(usize),
}

/// What came of an answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// Other answers are missing.
    Waits,
    /// The next requests are to be sent now.
    GoesOn,
    /// What was refused is to be sent again, so much later.
    Again(Retry),
    /// The transaction is committed.
    Done(Written),
}

/// A request that the broker could not serve yet.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Retry {
    pub request: ApiKey,
    pub error: i16,
    pub after: Duration,
}

/// What a transaction has written.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Written {
    /// Values, and the byte of each record that says it has no headers.
    pub payload_bytes: u64,
    /// Batches as they were sent.
    pub wire_bytes: u64,
}

/// The requests that come next, or are under way.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Step {
    /// No transaction.
    Rest,
    Add,
    Write,
    End,
}

pub struct Producer {
    /// `None`: without transactions.
    transactional_id: Option<String>,
    id: i64,
    epoch: i16,
    /// Of each slot, what its next batch begins with.
    sequences: Vec<i32>,
    /// The first one of the next transaction.
    slot: usize,
    values: RecordSource,
    step: Step,
    /// Of each broker: the transaction's batches that are not acknowledged.
    writes: Vec<Request>,
    /// Answers that are missing.
    missing: usize,
    /// A refusal in one of the answers that have come.
    refused: Option<i16>,
    /// Times that this transaction's batches have been refused.
    refusals: u32,
    written: Written,
    spare: Vec<Batch>,
}

impl Producer {
    /// `index`: among all. `identity`: producer id and epoch.
    #[must_use]
    pub fn new(
        index: usize,
        transactional_id: Option<String>,
        identity: (i64, i16),
        plan: &Plan,
        values: &RecordPlan,
    ) -> Producer {
        let slots = plan.layout.slots.len();
        Producer {
            transactional_id,
            id: identity.0,
            epoch: identity.1,
            sequences: vec![0; slots],
            slot: index * plan.partitions % slots,
            values: RecordSource::new(values, index as u64),
            step: Step::Rest,
            writes: plan.layout.brokers.iter().map(|_| Request::default()).collect(),
            missing: 0,
            refused: None,
            refusals: 0,
            written: Written::default(),
            spare: Vec::new(),
        }
    }

    /// Begins a transaction: makes its batches. The one before is done.
    ///
    /// # Errors
    /// A batch cannot be made.
    pub fn begin(&mut self, plan: &Plan, timestamp_ms: i64) -> Result<()> {
        debug_assert_eq!(self.step, Step::Rest);
        self.written = Written::default();
        self.refusals = 0;
        for _ in 0..plan.partitions {
            let slot = self.slot;
            self.slot = (slot + 1) % plan.layout.slots.len();
            let mut batch = self.spare.pop().unwrap_or_default();
            for _ in 0..plan.records {
                self.values.draw();
                batch.append(&self.values.record(0, timestamp_ms, 0, 0));
            }
            let base_sequence = self.sequences[slot];
            // after the largest comes 0
            self.sequences[slot] = base_sequence.wrapping_add(batch.count() as i32) & i32::MAX;
            let is_transactional = self.transactional_id.is_some();
            let state = ProducerState { id: self.id, epoch: self.epoch, base_sequence, is_transactional };
            batch.seal(Codec::None, state)?;
            self.written.payload_bytes += batch.payload_bytes();
            self.written.wire_bytes += batch.bytes().len() as u64;
            self.writes[plan.layout.slots[slot].leader].batches.push((slot, batch));
        }
        self.step = if plan.protocol == Protocol::Classic { Step::Add } else { Step::Write };
        Ok(())
    }

    /// Its next request ends the transaction, or the one under way does.
    #[must_use]
    pub fn is_ending(&self) -> bool {
        self.step == Step::End
    }

    /// Who is to have a request now; each is to be sent, and answered once.
    pub fn receivers(&mut self) -> Vec<Receiver> {
        let receivers = match self.step {
            Step::Rest => Vec::new(),
            Step::Add | Step::End => vec![Receiver::Coordinator],
            Step::Write => {
                let has_batches = |leader: &usize| !self.writes[*leader].batches.is_empty();
                (0..self.writes.len()).filter(has_batches).map(Receiver::Leader).collect()
            }
        };
        self.missing = receivers.len();
        receivers
    }

    /// # Errors
    /// It cannot be written.
    pub fn request(&mut self, plan: &Plan, to: Receiver, correlation_id: i32) -> Result<BytesMut> {
        let versions = &plan.versions;
        let transactional_id = || {
            let id = self.transactional_id.as_deref().context("a transaction has an id")?;
            Ok::<_, anyhow::Error>(TransactionalId(string(id)))
        };
        match (to, self.step) {
            (Receiver::Leader(leader), _) => {
                let form = Form {
                    version: versions.produce,
                    transactional_id: self.transactional_id.as_deref(),
                    acks: -1,
                    timeout_ms: PRODUCE_TIMEOUT_MS,
                    topics: &plan.layout.topics,
                    slots: &plan.layout.slots,
                };
                let request = &mut self.writes[leader];
                request.frame(form, correlation_id);
                let mut bytes = BytesMut::with_capacity(request.bytes());
                request.pieces().for_each(|piece| bytes.extend_from_slice(piece));
                Ok(bytes)
            }
            (Receiver::Coordinator, Step::Add) => {
                let request = AddPartitionsToTxnRequest::default()
                    .with_v3_and_below_transactional_id(transactional_id()?)
                    .with_v3_and_below_producer_id(ProducerId(self.id))
                    .with_v3_and_below_producer_epoch(self.epoch)
                    .with_v3_and_below_topics(vec![self.partitions(plan)]);
                frame(ApiKey::AddPartitionsToTxn, versions.add_partitions, correlation_id, &request)
            }
            (Receiver::Coordinator, _) => {
                let request = EndTxnRequest::default()
                    .with_transactional_id(transactional_id()?)
                    .with_producer_id(ProducerId(self.id))
                    .with_producer_epoch(self.epoch)
                    .with_committed(true);
                frame(ApiKey::EndTxn, versions.end, correlation_id, &request)
            }
        }
    }

    /// Those of the transaction, all of the run's one topic.
    fn partitions(&self, plan: &Plan) -> AddPartitionsToTxnTopic {
        let slots = self.writes.iter().flat_map(|request| &request.batches).map(|(slot, _)| *slot);
        AddPartitionsToTxnTopic::default()
            .with_name(name(&plan.layout.topics[0]))
            .with_partitions(slots.map(|slot| plan.layout.slots[slot].partition).collect())
    }

    /// The answer to a request: the coordinator's, or that of the leader in that place of the layout's brokers.
    ///
    /// # Errors
    /// It cannot be read, or refuses for good.
    pub fn answer(&mut self, plan: &Plan, leader: usize, response: Bytes) -> Result<Outcome> {
        let versions = &plan.versions;
        let (request, error) = match self.step {
            Step::Rest => bail!("the broker answered what was not asked"),
            Step::Write => (ApiKey::Produce, self.acknowledge(plan, leader, &response)?),
            Step::Add => {
                let key = ApiKey::AddPartitionsToTxn;
                let added: AddPartitionsToTxnResponse = answer(key, versions.add_partitions, response)?;
                let topics = added.results_by_topic_v3_and_below.iter();
                let of_partitions = topics.flat_map(|topic| &topic.results_by_partition);
                let errors = of_partitions.map(|of_partition| of_partition.partition_error_code);
                // the partition that is the reason, not those that were left out because of it
                let error = errors.max_by_key(|error| match *error {
                    0 => 0,
                    code::OPERATION_NOT_ATTEMPTED => 1,
                    _ => 2,
                });
                (key, error.context("AddPartitionsToTxn answered for no partition")?)
            }
            Step::End => {
                let ended: EndTxnResponse = answer(ApiKey::EndTxn, versions.end, response)?;
                if ended.error_code == 0 && plan.protocol == Protocol::V2 {
                    // a new epoch, or a new id, begins its sequences anew
                    (self.id, self.epoch) = (ended.producer_id.0, ended.producer_epoch);
                    self.sequences.fill(0);
                }
                (ApiKey::EndTxn, ended.error_code)
            }
        };
        if error != 0 {
            ensure!(is_retriable(request, error), "{request:?} answered {}", error_name(error));
            self.refused = Some(error);
        }
        self.missing -= 1;
        if self.missing > 0 {
            return Ok(Outcome::Waits);
        }
        if let Some(error) = self.refused.take() {
            return Ok(Outcome::Again(Retry { request, error, after: self.backoff(error) }));
        }
        self.step = match self.step {
            Step::Add => Step::Write,
            Step::Write if plan.protocol != Protocol::None => Step::End,
            Step::Write | Step::End | Step::Rest => Step::Rest,
        };
        Ok(if self.step == Step::Rest { Outcome::Done(self.written) } else { Outcome::GoesOn })
    }

    /// Takes off what a leader has; the error of one that it has not, or 0.
    fn acknowledge(&mut self, plan: &Plan, leader: usize, response: &[u8]) -> Result<i16> {
        let sent = &mut self.writes[leader].batches;
        let mut refused = Vec::new();
        let (mut answered, mut first, mut stranger) = (0, 0, false);
        produce::answers(response, plan.versions.produce, |_, partition, error| {
            answered += 1;
            let of_answer = |(slot, _): &(usize, Batch)| plan.layout.slots[*slot].partition == partition;
            match sent.iter().position(of_answer) {
                Some(place) if error == 0 => {
                    let (_, mut batch) = sent.swap_remove(place);
                    batch.clear();
                    self.spare.push(batch);
                }
                Some(_) => {
                    refused.push(error);
                    // one that ends the run is told, not one that does not
                    if first == 0 || !is_retriable(ApiKey::Produce, error) {
                        first = error;
                    }
                }
                None => stranger = true,
            }
        })?;
        if stranger || refused.len() != sent.len() {
            bail!("Produce answered for {answered} partitions, and not for those it was sent");
        }
        Ok(first)
    }

    /// What clients wait before they send again what was refused.
    fn backoff(&mut self, error: i16) -> Duration {
        match self.step {
            Step::Add if error == code::CONCURRENT_TRANSACTIONS => FIRST_PARTITIONS_BACKOFF,
            Step::Add | Step::End | Step::Rest => BACKOFF,
            // of batches it doubles
            Step::Write => {
                self.refusals += 1;
                BACKOFF.saturating_mul(1 << (self.refusals - 1).min(10)).min(BACKOFF_MAX)
            }
        }
    }
}

/// Clients send it again.
fn is_retriable(request: ApiKey, error: i16) -> bool {
    match error {
        code::COORDINATOR_LOAD_IN_PROGRESS
        | code::COORDINATOR_NOT_AVAILABLE
        | code::CONCURRENT_TRANSACTIONS => true,
        code::NOT_ENOUGH_REPLICAS => request == ApiKey::Produce,
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::options::Payload;
    use crate::wire::produce::Slot;
    use crate::wire::testing::{decode, respond};
    use kafka_protocol::messages::add_partitions_to_txn_response::{
        AddPartitionsToTxnPartitionResult, AddPartitionsToTxnTopicResult,
    };
    use kafka_protocol::messages::produce_response::{PartitionProduceResponse, TopicProduceResponse};
    use kafka_protocol::messages::{ProduceRequest, ProduceResponse};
    use kafka_protocol::protocol::Encodable;
    use kafka_protocol::records::{Record, RecordBatchDecoder};

    /// Four partitions, led by two brokers by turns; transactions of three.
    fn plan(protocol: Protocol) -> Plan {
        let slot = |place: usize| Slot { topic: 0, partition: place as i32, leader: place % 2 };
        let brokers = vec!["one:9092".to_owned(), "two:9092".to_owned()];
        let layout = Layout { brokers, topics: vec!["t".to_owned()], slots: (0..4).map(slot).collect() };
        let versions = match protocol {
            Protocol::V2 => Versions { add_partitions: 0, produce: 12, end: 5 },
            Protocol::Classic | Protocol::None => Versions { add_partitions: 3, produce: 11, end: 4 },
        };
        Plan { layout, protocol, versions, partitions: 3, records: 2 }
    }

    fn producer(plan: &Plan) -> Producer {
        let id = (plan.protocol != Protocol::None).then(|| "id".to_owned());
        Producer::new(0, id, (7, 0), plan, &RecordPlan::of_values(10, Payload::Zeros))
    }

    /// Sends one request and answers it.
    fn exchange<A: Encodable>(
        producer: &mut Producer,
        plan: &Plan,
        to: Receiver,
        response: &A,
    ) -> (ApiKey, Result<Outcome>) {
        let frame = producer.request(plan, to, 1).expect("a request");
        let (key, response) = respond(&frame, response);
        let leader = if let Receiver::Leader(leader) = to { leader } else { 0 };
        (key, producer.answer(plan, leader, response))
    }

    fn produced(errors: &[(i32, i16)]) -> ProduceResponse {
        let answer = |(partition, error): &(i32, i16)| {
            PartitionProduceResponse::default().with_index(*partition).with_error_code(*error)
        };
        let topic = TopicProduceResponse::default()
            .with_name(name("t"))
            .with_partition_responses(errors.iter().map(answer).collect());
        ProduceResponse::default().with_responses(vec![topic])
    }

    fn added(errors: &[(i32, i16)]) -> AddPartitionsToTxnResponse {
        let answer = |(partition, error): &(i32, i16)| {
            AddPartitionsToTxnPartitionResult::default()
                .with_partition_index(*partition)
                .with_partition_error_code(*error)
        };
        let topic = AddPartitionsToTxnTopicResult::default()
            .with_name(name("t"))
            .with_results_by_partition(errors.iter().map(answer).collect());
        AddPartitionsToTxnResponse::default().with_results_by_topic_v3_and_below(vec![topic])
    }

    /// Partition, epoch, first sequence and whether it is transactional, of each batch for a leader.
    fn batches(producer: &mut Producer, plan: &Plan, leader: usize) -> Vec<(i32, i16, i32, bool)> {
        let frame = producer.request(plan, Receiver::Leader(leader), 1).expect("a request");
        let request: ProduceRequest = decode(&frame);
        let partitions = request.topic_data.into_iter().flat_map(|topic| topic.partition_data);
        let read = |partition: kafka_protocol::messages::produce_request::PartitionProduceData| {
            let mut records = partition.records.expect("records");
            let records: Vec<Record> = RecordBatchDecoder::decode(&mut records).expect("a batch").records;
            assert_eq!(records.len(), 2);
            let first = &records[0];
            (partition.index, first.producer_epoch, first.sequence, first.transactional)
        };
        partitions.map(read).collect()
    }

    const LEADERS: [Receiver; 2] = [Receiver::Leader(0), Receiver::Leader(1)];

    #[test]
    fn a_transaction_of_version_2_writes_and_ends_and_the_next_has_the_new_epoch() {
        let plan = plan(Protocol::V2);
        let mut producer = producer(&plan);
        producer.begin(&plan, 5).expect("a transaction");
        assert_eq!(producer.receivers(), LEADERS);
        assert_eq!(batches(&mut producer, &plan, 0), [(0, 0, 0, true), (2, 0, 0, true)]);
        let (key, outcome) = exchange(&mut producer, &plan, LEADERS[0], &produced(&[(0, 0), (2, 0)]));
        assert_eq!((key, outcome.expect("read")), (ApiKey::Produce, Outcome::Waits));
        let (_, outcome) = exchange(&mut producer, &plan, LEADERS[1], &produced(&[(1, 0)]));
        assert_eq!(outcome.expect("read"), Outcome::GoesOn);
        assert!(producer.is_ending());
        assert_eq!(producer.receivers(), [Receiver::Coordinator]);
        let ended = EndTxnResponse::default().with_producer_id(ProducerId(7)).with_producer_epoch(1);
        let (key, outcome) = exchange(&mut producer, &plan, Receiver::Coordinator, &ended);
        let Outcome::Done(written) = outcome.expect("read") else { panic!("it is committed") };
        assert_eq!((key, written.payload_bytes), (ApiKey::EndTxn, 3 * 2 * 11));
        // the next goes on where this one ended, and its sequences begin anew
        producer.begin(&plan, 6).expect("a transaction");
        assert_eq!(batches(&mut producer, &plan, 1), [(1, 1, 0, true), (3, 1, 0, true)]);
    }

    #[test]
    fn a_classic_transaction_adds_its_partitions_and_comes_again_while_the_last_one_completes() {
        let plan = plan(Protocol::Classic);
        let mut producer = producer(&plan);
        producer.begin(&plan, 5).expect("a transaction");
        assert_eq!(producer.receivers(), [Receiver::Coordinator]);
        let frame = producer.request(&plan, Receiver::Coordinator, 1).expect("a request");
        let request: AddPartitionsToTxnRequest = decode(&frame);
        let mut partitions = request.v3_and_below_topics[0].partitions.clone();
        partitions.sort_unstable();
        assert_eq!(partitions, [0, 1, 2]);
        let concurrent = code::CONCURRENT_TRANSACTIONS;
        let refused = added(&[(0, code::OPERATION_NOT_ATTEMPTED), (1, concurrent), (2, concurrent)]);
        let (key, outcome) = exchange(&mut producer, &plan, Receiver::Coordinator, &refused);
        let retry = Retry { request: key, error: concurrent, after: FIRST_PARTITIONS_BACKOFF };
        assert_eq!(outcome.expect("read"), Outcome::Again(retry));
        assert_eq!(producer.receivers(), [Receiver::Coordinator]);
        let all = added(&[(0, 0), (1, 0), (2, 0)]);
        assert_eq!(
            exchange(&mut producer, &plan, Receiver::Coordinator, &all).1.expect("read"),
            Outcome::GoesOn
        );
        assert_eq!(producer.receivers(), LEADERS);
        exchange(&mut producer, &plan, LEADERS[0], &produced(&[(0, 0), (2, 0)])).1.expect("read");
        exchange(&mut producer, &plan, LEADERS[1], &produced(&[(1, 0)])).1.expect("read");
        assert_eq!(producer.receivers(), [Receiver::Coordinator]);
        let ended = EndTxnResponse::default();
        let (key, outcome) = exchange(&mut producer, &plan, Receiver::Coordinator, &ended);
        assert!(key == ApiKey::EndTxn && matches!(outcome.expect("read"), Outcome::Done(_)));
        // the epoch is the same, and so are the sequences of partitions that had some
        producer.begin(&plan, 6).expect("a transaction");
        assert_eq!(batches(&mut producer, &plan, 1), [(1, 0, 2, true), (3, 0, 0, true)]);
    }

    #[test]
    fn only_batches_that_were_refused_come_again_and_ever_later() {
        let plan = plan(Protocol::V2);
        let mut producer = producer(&plan);
        producer.begin(&plan, 5).expect("a transaction");
        producer.receivers();
        let error = code::CONCURRENT_TRANSACTIONS;
        exchange(&mut producer, &plan, LEADERS[0], &produced(&[(0, 0), (2, error)])).1.expect("read");
        let again = |after: u64| {
            let after = Duration::from_millis(after);
            Outcome::Again(Retry { request: ApiKey::Produce, error, after })
        };
        let (_, outcome) = exchange(&mut producer, &plan, LEADERS[1], &produced(&[(1, 0)]));
        assert_eq!(outcome.expect("read"), again(100));
        for after in [200, 400, 800, 1000, 1000] {
            assert_eq!(producer.receivers(), [LEADERS[0]]);
            assert_eq!(batches(&mut producer, &plan, 0), [(2, 0, 0, true)], "as it was");
            let (_, outcome) = exchange(&mut producer, &plan, LEADERS[0], &produced(&[(2, error)]));
            assert_eq!(outcome.expect("read"), again(after));
        }
        producer.receivers();
        assert_eq!(
            exchange(&mut producer, &plan, LEADERS[0], &produced(&[(2, 0)])).1.expect("read"),
            Outcome::GoesOn
        );
    }

    #[test]
    fn without_a_protocol_batches_are_written_and_that_is_all() {
        let plan = plan(Protocol::None);
        let mut producer = producer(&plan);
        producer.begin(&plan, 5).expect("batches");
        assert_eq!(producer.receivers(), LEADERS);
        assert_eq!(batches(&mut producer, &plan, 1), [(1, 0, 0, false)]);
        exchange(&mut producer, &plan, LEADERS[0], &produced(&[(0, 0), (2, 0)])).1.expect("read");
        let (_, outcome) = exchange(&mut producer, &plan, LEADERS[1], &produced(&[(1, 0)]));
        assert!(matches!(outcome.expect("read"), Outcome::Done(_)));
    }

    #[test]
    fn what_clients_do_not_send_again_ends_the_run() {
        const INVALID_TXN_STATE: i16 = 48;
        let plan = plan(Protocol::V2);
        let mut producer = producer(&plan);
        producer.begin(&plan, 5).expect("a transaction");
        producer.receivers();
        let (_, outcome) = exchange(&mut producer, &plan, LEADERS[1], &produced(&[(1, INVALID_TXN_STATE)]));
        assert_eq!(outcome.expect_err("refused").to_string(), "Produce answered InvalidTxnState (48)");
        let (_, outcome) = exchange(&mut producer, &plan, LEADERS[0], &produced(&[(0, 0)]));
        let said = outcome.expect_err("half an answer").to_string();
        assert!(said.contains("not for those it was sent"), "{said}");
    }
}

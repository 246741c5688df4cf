//! Producers of a transaction coordinator, with a clock that is moved by hand and a log from which a second coordinator is
//! loaded after every step.
//!
//! What is asked is written in a line (see [`Driver::ask`]): `add a 1000:0 t-0 t-1`, and so is the answer: `ok`, `ok
//! 1000:1`, or the error.

mod describe;
mod end;
mod init;
mod partitions;
mod time;
mod walk;

use std::collections::BTreeMap;

use bytes::Bytes;

use super::state::Transaction;
use super::*;
use crate::coordinator::EffectsOf;
use crate::coordinator::record::{LogRecord, TransactionValue};
use crate::metadata::{NewPartition, Record as MetadataRecord, TopicDefaults};
use crate::model::{PartitionId, TopicId};
use crate::protocol::StrBytes;
use crate::protocol::messages::add_partitions_to_txn_request::{
    AddPartitionsToTxnTopic, AddPartitionsToTxnTransaction,
};
use crate::protocol::messages::{EndTxnRequest, InitProducerIdRequest, TransactionalId};

const FIRST_PRODUCER_ID: i64 = 1_000;
const TIMEOUT_MS: i32 = 60_000;

struct Driver {
    machine: TransactionCoordinator,
    settings: Settings,
    now: Now,
    image: Image,
    /// Keys and values as they would lie on the disk.
    log: Vec<(Bytes, Option<Bytes>)>,
    /// The last record of each id in it.
    last: BTreeMap<String, TransactionValue>,
    /// Commanded, and not yet told written.
    commands: Vec<WriteMarkers>,
    /// What clients speak.
    client: Version,
    next_producer_id: i64,
    has_producer_ids: bool,
    tickets: u64,
}

impl Driver {
    /// A cluster of this transaction.version, as are its clients, with the topics `t` of three partitions and `u` of one.
    fn new(level: Version) -> Driver {
        let mut image = Image::new("cluster", TopicDefaults::default());
        for (id, name, partitions) in [(1, "t", 3), (2, "u", 1)] {
            let id = TopicId(id);
            image.replay(&MetadataRecord::Topic { name: name.to_owned(), id }).unwrap();
            for index in 0..partitions {
                let partition =
                    NewPartition { partition: PartitionId { topic: id, index }, ..Default::default() };
                image.replay(&MetadataRecord::Partition(partition)).unwrap();
            }
        }
        let settings = Settings::default();
        let mut driver = Driver {
            machine: TransactionCoordinator::new(settings.clone()),
            settings,
            now: Now { steady: 1_000, wall: 1_700_000_000_000 },
            image,
            log: Vec::new(),
            last: BTreeMap::new(),
            commands: Vec::new(),
            client: level,
            next_producer_id: FIRST_PRODUCER_ID,
            has_producer_ids: true,
            tickets: 0,
        };
        driver.set_level(level);
        let _ = driver.act(|machine, context| machine.loaded(context));
        driver
    }

    fn set_level(&mut self, level: Version) {
        let record = MetadataRecord::FeatureLevel { name: TRANSACTION_VERSION.to_owned(), level: level.0 };
        self.image.replay(&record).unwrap();
    }

    /// A turn, and a look at what it has done.
    fn act(
        &mut self,
        act: impl FnOnce(&mut TransactionCoordinator, &mut Context) -> EffectsOf<TransactionCoordinator>,
    ) -> Vec<(Ticket, Reply)> {
        let (next, has) = (&mut self.next_producer_id, self.has_producer_ids);
        let mut producer_id = || {
            *next += i64::from(has);
            has.then_some(ProducerId(*next - 1))
        };
        let mut context =
            Context { now: self.now, image: &self.image, random: &mut || 0, producer_id: &mut producer_id };
        let Effects { records, replies, commands, in_transaction } = act(&mut self.machine, &mut context);
        assert_eq!(in_transaction, None, "its log has no transactions itself");
        for record in records {
            self.note(&record);
            self.log.push(record.encode());
        }
        for command in &commands {
            let decided = self.last[&*command.decided.transactional_id].clone();
            assert_eq!(decided.producer_id, command.decided.producer_id.0, "{command:?}");
            assert_eq!(decided.producer_epoch, command.decided.producer_epoch.0, "{command:?}");
            assert_eq!(decided.state, prepared(command.end), "{command:?} is in the log");
            assert!(!command.partitions.is_empty());
        }
        self.commands.extend(commands);
        self.check_log();
        replies
    }

    /// Whether the record may follow the last one of its id.
    fn note(&mut self, record: &TransactionRecord) {
        use TransactionState::*;
        let id = &record.transactional_id;
        let before = match &record.value {
            Some(value) => self.last.insert(id.clone(), value.clone()),
            None => self.last.remove(id),
        };
        let Some(before) = before else { return };
        match &record.value {
            None => assert!(matches!(before.state, Empty | CompleteCommit | CompleteAbort), "{before:?}"),
            Some(after) => {
                let may_follow = match before.state {
                    Empty | CompleteCommit | CompleteAbort => {
                        matches!(after.state, Empty | Ongoing | PrepareAbort)
                    }
                    Ongoing => matches!(after.state, Ongoing | PrepareCommit | PrepareAbort),
                    PrepareCommit => after.state == CompleteCommit,
                    PrepareAbort => after.state == CompleteAbort,
                };
                assert!(may_follow, "{before:?} then {after:?}");
                let is_newer =
                    (after.producer_id, after.producer_epoch) >= (before.producer_id, before.producer_epoch);
                assert!(is_newer, "an epoch comes again: {before:?} then {after:?}");
            }
        }
    }

    /// A coordinator that reads the log has what this one has.
    fn check_log(&self) {
        let loaded = self.load();
        assert_eq!(
            self.machine.transactions.keys().collect::<Vec<_>>(),
            loaded.transactions.keys().collect::<Vec<_>>()
        );
        let open = self.machine.transactions.values().filter(|transaction| !transaction.state_is_final());
        assert_eq!(self.machine.open(), open.count());
        assert_eq!(loaded.open(), self.machine.open());
        for (id, transaction) in &self.machine.transactions {
            let written = &self.last[&**id];
            let level = Version(written.version);
            assert_eq!(&transaction.value(level), written, "{id}");
            assert_eq!(&loaded.transactions[id].value(level), written, "{id}");
        }
    }

    fn load(&self) -> TransactionCoordinator {
        let mut machine = TransactionCoordinator::new(self.settings.clone());
        for (key, value) in &self.log {
            let record = TransactionRecord::decode(key, value.as_deref()).unwrap();
            machine.replay(record.expect("a record of ours"));
        }
        machine
    }

    /// The broker dies; another one begins with the log, whose end may be as old as `lost` records.
    fn restart(&mut self, lost: usize) {
        self.log.truncate(self.log.len() - lost);
        self.last.clear();
        for (key, value) in &self.log {
            let record = TransactionRecord::decode(key, value.as_deref()).unwrap().unwrap();
            match record.value {
                Some(value) => self.last.insert(record.transactional_id, value),
                None => self.last.remove(&record.transactional_id),
            };
        }
        self.machine = self.load();
        self.commands.clear();
        let _ = self.act(|machine, context| machine.loaded(context));
    }

    /// Time goes on, timers fire at their time.
    fn pass(&mut self, ms: u64) {
        let end = self.now.steady + ms;
        while let Some(next) = self.machine.next_tick().filter(|next| *next <= end) {
            self.move_clock(next.max(self.now.steady));
            let replies = self.act(|machine, context| machine.tick(context));
            assert!(replies.is_empty(), "nobody has asked");
        }
        self.move_clock(end);
    }

    fn move_clock(&mut self, steady: u64) {
        self.now.wall += i64::try_from(steady - self.now.steady).unwrap();
        self.now.steady = steady;
    }

    /// One request, answered in the same turn.
    fn request(&mut self, version: i16, body: Body) -> Reply {
        self.tickets += 1;
        let ticket = Ticket(self.tickets);
        let mut replies =
            self.act(|machine, context| machine.handle(context, ticket, Request { version, body }));
        let (to, reply) = replies.pop().expect("it is answered");
        assert!(to == ticket && replies.is_empty(), "it alone is answered, once");
        reply
    }

    fn init(&mut self, version: i16, request: InitProducerIdRequest) -> String {
        let Reply::InitProducerId(reply) = self.request(version, Body::InitProducerId(request)) else {
            panic!("in kind")
        };
        told(reply.error_code, reply.producer_id.0, reply.producer_epoch)
    }

    /// * `init ID [PRODUCER:EPOCH]`
    /// * `add ID PRODUCER:EPOCH TOPIC-PARTITION …`, `verify …`: the answer names each partition's error, if they differ.
    /// * `commit ID PRODUCER:EPOCH`, `abort …`
    /// * `written ID`: the host has written what was commanded.
    ///
    /// `init/3`: in this version.
    fn ask(&mut self, line: &str) -> String {
        let mut words = line.split(' ');
        let (what, id) = (words.next().unwrap(), words.next().unwrap());
        let (what, version) = match what.split_once('/') {
            Some((what, version)) => (what, Some(version.parse::<i16>().unwrap())),
            None => (what, None),
        };
        let is_two = self.client.raises_epoch();
        let transactional_id = TransactionalId(StrBytes::from_string(id.to_owned()));
        let producer = words.next().map_or((-1, -1), |producer| {
            let (id, epoch) = producer.split_once(':').unwrap();
            (id.parse::<i64>().unwrap(), epoch.parse::<i16>().unwrap())
        });
        match what {
            "init" => {
                let request = InitProducerIdRequest::default()
                    .with_transactional_id(Some(transactional_id))
                    .with_transaction_timeout_ms(TIMEOUT_MS)
                    .with_producer_id(producer.0.into())
                    .with_producer_epoch(producer.1);
                self.init(version.unwrap_or(5), request)
            }
            "add" | "verify" => {
                let request = AddPartitionsToTxnTransaction::default()
                    .with_transactional_id(transactional_id)
                    .with_producer_id(producer.0.into())
                    .with_producer_epoch(producer.1)
                    .with_verify_only(what == "verify")
                    .with_topics(words.map(partition).collect());
                let version = version.unwrap_or(if is_two { 5 } else { 3 });
                let Reply::AddPartitions(result) = self.request(version, Body::AddPartitions(request)) else {
                    panic!("in kind")
                };
                let partitions = result.topic_results.iter().flat_map(|topic| &topic.results_by_partition);
                let mut told: Vec<_> =
                    partitions.map(|partition| told(partition.partition_error_code, -1, -1)).collect();
                told.dedup();
                told.join(" ")
            }
            "commit" | "abort" => {
                let request = EndTxnRequest::default()
                    .with_transactional_id(transactional_id)
                    .with_producer_id(producer.0.into())
                    .with_producer_epoch(producer.1)
                    .with_committed(what == "commit");
                let version = version.unwrap_or(if is_two { 5 } else { 4 });
                let Reply::EndTxn(reply) = self.request(version, Body::EndTxn(request)) else {
                    panic!("in kind")
                };
                told(reply.error_code, reply.producer_id.0, reply.producer_epoch)
            }
            "written" => {
                let place =
                    (self.commands.iter()).position(|command| &*command.decided.transactional_id == id);
                let command = self.commands.remove(place.expect("markers were commanded"));
                self.written(&command.decided);
                "ok".to_owned()
            }
            _ => panic!("{line}"),
        }
    }

    fn written(&mut self, decided: &Decided) {
        let replies = self.act(|machine, context| machine.markers_written(context, decided));
        assert!(replies.is_empty(), "nobody has asked");
    }

    fn check(&mut self, lines: &[(&str, &str)]) {
        for (line, expected) in lines {
            assert_eq!(self.ask(line), *expected, "{line}");
        }
    }

    fn of(&self, id: &str) -> &Transaction {
        &self.machine.transactions[id]
    }

    fn state(&self, id: &str) -> TransactionState {
        self.of(id).state
    }

    /// What is commanded: `id commit 1000:0 t-0 t-1`.
    fn commanded(&self) -> Vec<String> {
        let tell = |command: &WriteMarkers| {
            let Decided { transactional_id, producer_id, producer_epoch } = &command.decided;
            let partitions = command
                .partitions
                .iter()
                .flat_map(|(topic, indexes)| indexes.iter().map(move |index| format!(" {topic}-{index}")));
            let end = if command.end == EndTxn::Commit { "commit" } else { "abort" };
            let partitions: String = partitions.collect();
            format!("{transactional_id} {end} {}:{}{partitions}", producer_id.0, producer_epoch.0)
        };
        self.commands.iter().map(tell).collect()
    }

    /// As if the id had come so far.
    fn has_been(&mut self, id: &str, producer_id: i64, epoch: i16) {
        let mut transaction = Transaction::new(ProducerId(producer_id), TIMEOUT_MS, self.now.wall);
        transaction.epoch = ProducerEpoch(epoch);
        let value = transaction.value(Version(self.image.feature_level(TRANSACTION_VERSION)));
        self.log.push(TransactionRecord { transactional_id: id.to_owned(), value: Some(value) }.encode());
        self.restart(0);
    }
}

fn prepared(end: EndTxn) -> TransactionState {
    match end {
        EndTxn::Commit => TransactionState::PrepareCommit,
        EndTxn::Abort => TransactionState::PrepareAbort,
    }
}

fn partition(text: &str) -> AddPartitionsToTxnTopic {
    let (topic, index) = text.split_once('-').unwrap();
    AddPartitionsToTxnTopic::default()
        .with_name(StrBytes::from_string(topic.to_owned()).into())
        .with_partitions(vec![index.parse().unwrap()])
}

fn told(error: i16, producer_id: i64, epoch: i16) -> String {
    match ErrorCode::from_code(error).unwrap() {
        ErrorCode::None if producer_id == -1 => "ok".to_owned(),
        ErrorCode::None => format!("ok {producer_id}:{epoch}"),
        error => {
            assert_eq!((producer_id, epoch), (-1, -1), "an error tells no producer");
            format!("{error:?}")
        }
    }
}

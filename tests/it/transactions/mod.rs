//! Transactions as their coordinator has them: producers that take an id, what they add and how they end it, and what a kill
//! leaves. Nothing is produced here: [`data`] and [`offsets`] do.

mod data;
mod memory;
mod offsets;

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use kafka_protocol::messages::add_partitions_to_txn_request::{
    AddPartitionsToTxnTopic, AddPartitionsToTxnTransaction,
};
use kafka_protocol::messages::describe_configs_request::DescribeConfigsResource;
use kafka_protocol::messages::describe_transactions_response::TransactionState;
use kafka_protocol::messages::{
    AddOffsetsToTxnRequest, AddPartitionsToTxnRequest, DescribeConfigsRequest, DescribeTransactionsRequest,
    EndTxnRequest, FindCoordinatorRequest, GroupId, InitProducerIdRequest, ListTransactionsRequest,
    ProducerId, TopicName, TransactionalId,
};

use crate::harness::{Broker, Setup};
use crate::wire::{self, Wire, string};

const NONE: i16 = 0;
const UNKNOWN_TOPIC_OR_PARTITION: i16 = 3;
const NOT_COORDINATOR: i16 = 16;
const INVALID_REQUEST: i16 = 42;
const INVALID_PRODUCER_EPOCH: i16 = 47;
const INVALID_TXN_STATE: i16 = 48;
const CONCURRENT_TRANSACTIONS: i16 = 51;
const OPERATION_NOT_ATTEMPTED: i16 = 55;
const PRODUCER_FENCED: i16 = 90;
const TRANSACTIONAL_ID_NOT_FOUND: i16 = 105;
const INVALID_REGULAR_EXPRESSION: i16 = 128;

/// Of `__transaction_state`, by default and on one broker.
const CONFIGS: [(&str, &str); 5] = [
    ("cleanup.policy", "compact"),
    ("compression.type", "uncompressed"),
    ("min.insync.replicas", "1"),
    ("segment.bytes", "104857600"),
    ("unclean.leader.election.enable", "false"),
];

/// Markers are written in milliseconds.
const PATIENCE: Duration = Duration::from_secs(30);

type Producer = (i64, i16);

/// How clients of one kind speak.
#[derive(Clone, Copy, Debug)]
struct Ways {
    /// `None`: by producing.
    add: Option<i16>,
    produce: i16,
    end: i16,
}

impl Ways {
    const ALL: [Ways; 3] = [
        Ways { add: Some(0), produce: 9, end: 0 },
        Ways { add: Some(3), produce: 11, end: 4 },
        // transaction.version 2
        Ways { add: None, produce: 12, end: 5 },
    ];

    fn add(self, wire: &mut Wire, transactional: &str, who: Producer, topic: &str, partitions: &[i32]) {
        if let Some(version) = self.add {
            let errors = add(wire, transactional, who, topic, partitions, version);
            assert!(errors.iter().all(|error| *error == NONE), "{self:?}: {errors:?}");
        }
    }

    /// Whether each transaction has an epoch of its own.
    fn raises_epoch(self) -> bool {
        self.add.is_none()
    }

    /// What EndTxn says to a producer that is fenced.
    fn fenced(self) -> i16 {
        if self.end < 2 { INVALID_PRODUCER_EPOCH } else { PRODUCER_FENCED }
    }
}

fn id(text: &str) -> TransactionalId {
    TransactionalId(string(text))
}

fn started(shards: usize) -> (Broker, Wire) {
    let broker = Setup::new().shards(shards).set("transaction.state.log.num.partitions", 8).start();
    let mut wire = Wire::connect(broker.bootstrap());
    find(&mut wire);
    (broker, wire)
}

/// The first question makes the topic.
fn find(wire: &mut Wire) {
    let request = FindCoordinatorRequest::default().with_key_type(1);
    let found = wire.call(&request.with_coordinator_keys(vec![string("any")]), 6).coordinators.remove(0);
    assert_eq!((found.error_code, found.node_id.0), (NONE, 1), "{:?}", found.error_message);
}

fn init_once(wire: &mut Wire, transactional: &str, version: i16) -> Result<Producer, i16> {
    init_for(wire, transactional, 60_000, version)
}

/// Transactions may take so long, milliseconds.
fn init_for(wire: &mut Wire, transactional: &str, timeout_ms: i32, version: i16) -> Result<Producer, i16> {
    let request = InitProducerIdRequest::default()
        .with_transactional_id(Some(id(transactional)))
        .with_transaction_timeout_ms(timeout_ms);
    let answer = wire.call(&request, version);
    match answer.error_code {
        NONE => Ok((answer.producer_id.0, answer.producer_epoch)),
        error => Err(error),
    }
}

/// As clients do: while the last transaction ends, again.
fn init(wire: &mut Wire, transactional: &str, version: i16) -> Producer {
    let begun = Instant::now();
    loop {
        match init_once(wire, transactional, version) {
            Ok(producer) => return producer,
            Err(CONCURRENT_TRANSACTIONS) => assert!(begun.elapsed() < PATIENCE, "it never ends"),
            Err(error) => panic!("v{version}: error {error}"),
        }
    }
}

/// The error of each partition.
fn add(
    wire: &mut Wire,
    transactional: &str,
    who: Producer,
    topic: &str,
    indexes: &[i32],
    version: i16,
) -> Vec<i16> {
    let topics = vec![
        AddPartitionsToTxnTopic::default()
            .with_name(TopicName(string(topic)))
            .with_partitions(indexes.to_vec()),
    ];
    let results = if version < 4 {
        let request = AddPartitionsToTxnRequest::default()
            .with_v3_and_below_transactional_id(id(transactional))
            .with_v3_and_below_producer_id(ProducerId(who.0))
            .with_v3_and_below_producer_epoch(who.1)
            .with_v3_and_below_topics(topics);
        wire.call(&request, version).results_by_topic_v3_and_below
    } else {
        let transaction = AddPartitionsToTxnTransaction::default()
            .with_transactional_id(id(transactional))
            .with_producer_id(ProducerId(who.0))
            .with_producer_epoch(who.1)
            .with_topics(topics);
        let request = AddPartitionsToTxnRequest::default().with_transactions(vec![transaction]);
        let mut answer = wire.call(&request, version);
        assert_eq!(answer.error_code, NONE, "v{version}");
        answer.results_by_transaction.remove(0).topic_results
    };
    let partitions = results.iter().flat_map(|topic| &topic.results_by_partition);
    partitions.map(|partition| partition.partition_error_code).collect()
}

/// Whom the producer is then, if it is told.
fn end(
    wire: &mut Wire,
    transactional: &str,
    who: Producer,
    committed: bool,
    version: i16,
) -> Result<Producer, i16> {
    let request = EndTxnRequest::default()
        .with_transactional_id(id(transactional))
        .with_producer_id(ProducerId(who.0))
        .with_producer_epoch(who.1)
        .with_committed(committed);
    let answer = wire.call(&request, version);
    match answer.error_code {
        NONE if version >= 5 => Ok((answer.producer_id.0, answer.producer_epoch)),
        NONE => Ok(who),
        error => Err(error),
    }
}

fn describe(wire: &mut Wire, transactional: &str) -> TransactionState {
    let request = DescribeTransactionsRequest::default().with_transactional_ids(vec![id(transactional)]);
    wire.call(&request, 0).transaction_states.remove(0)
}

/// While markers are on their way.
fn wait_for_state(wire: &mut Wire, transactional: &str, state: &str) -> TransactionState {
    let begun = Instant::now();
    loop {
        let described = describe(wire, transactional);
        if &*described.transaction_state == state {
            return described;
        }
        assert!(begun.elapsed() < PATIENCE, "{described:?} is never {state}");
    }
}

fn list(wire: &mut Wire, request: ListTransactionsRequest, version: i16) -> Vec<String> {
    let answer = wire.call(&request, version);
    assert_eq!(answer.error_code, NONE, "v{version}");
    let mut ids: Vec<_> =
        answer.transaction_states.iter().map(|one| one.transactional_id.to_string()).collect();
    ids.sort_unstable();
    ids
}

#[test]
fn the_first_question_for_a_coordinator_makes_the_topic() {
    let broker = Setup::new().shards(2).start();
    let mut wire = Wire::connect(broker.bootstrap());
    assert_eq!(init_once(&mut wire, "a", 5), Err(NOT_COORDINATOR));
    find(&mut wire);
    let topic = wire.metadata("__transaction_state").topics.remove(0);
    assert_eq!((topic.error_code, topic.is_internal, topic.partitions.len()), (NONE, true, 50));
    let asked = DescribeConfigsResource::default()
        .with_resource_type(2)
        .with_resource_name(string("__transaction_state"))
        .with_configuration_keys(Some(CONFIGS.map(|(key, _)| string(key)).to_vec()));
    let configs = wire.call(&DescribeConfigsRequest::default().with_resources(vec![asked]), 4);
    let configs = configs.results[0].configs.iter();
    let configs: BTreeMap<&str, &str> =
        configs.map(|config| (&*config.name, config.value.as_deref().unwrap_or_default())).collect();
    assert_eq!(configs, BTreeMap::from(CONFIGS));
    assert_eq!(init_once(&mut wire, "", 5), Err(INVALID_REQUEST));
    assert!(init_once(&mut wire, "a", 5).is_ok());
}

#[test]
fn transactions_end_in_every_version() {
    let (_broker, mut wire) = started(2);
    let topic = wire::unique("ended");
    wire.create_topic(&topic, 4, &[]);
    for version in 0..=5 {
        let name = wire::unique("id");
        let mut who = init(&mut wire, &name, version);
        assert_eq!(who.1, 0);
        for (committed, state) in [(true, "CompleteCommit"), (false, "CompleteAbort")] {
            assert_eq!(add(&mut wire, &name, who, &topic, &[0, 3], version), [NONE, NONE], "v{version}");
            let described = describe(&mut wire, &name);
            assert_eq!((&*described.transaction_state, described.producer_id.0), ("Ongoing", who.0));
            assert_eq!((described.topics.len(), described.transaction_timeout_ms), (1, 60_000));
            assert_eq!(described.topics[0].partitions, [0, 3]);
            let after = end(&mut wire, &name, who, committed, version).unwrap();
            assert_eq!(after, if version >= 5 { (who.0, who.1 + 1) } else { who }, "v{version}");
            let ended = wait_for_state(&mut wire, &name, state);
            assert_eq!(((ended.producer_id.0, ended.producer_epoch), ended.topics.len()), (after, 0));
            assert_eq!(end(&mut wire, &name, who, committed, version), Ok(after), "v{version}: asked again");
            assert_eq!(end(&mut wire, &name, who, !committed, version), Err(INVALID_TXN_STATE), "v{version}");
            who = after;
        }
        let fenced = if version < 2 { INVALID_PRODUCER_EPOCH } else { PRODUCER_FENCED };
        let next = init(&mut wire, &name, version);
        assert_eq!(next, (who.0, who.1 + 1));
        assert_eq!(add(&mut wire, &name, who, &topic, &[1], version), [fenced], "v{version}");
    }
}

#[test]
fn partitions_are_added_together_or_not_at_all() {
    let (_broker, mut wire) = started(1);
    let topic = wire::unique("together");
    wire.create_topic(&topic, 2, &[]);
    for version in 0..=5 {
        let name = wire::unique("id");
        let who = init(&mut wire, &name, 5);
        let errors = add(&mut wire, &name, who, &topic, &[0, 2, 1], version);
        assert_eq!(
            errors,
            [OPERATION_NOT_ATTEMPTED, UNKNOWN_TOPIC_OR_PARTITION, OPERATION_NOT_ATTEMPTED],
            "v{version}"
        );
        assert_eq!(&*describe(&mut wire, &name).transaction_state, "Empty");
    }
}

#[test]
fn a_groups_offsets_join_a_transaction() {
    let (_broker, mut wire) = started(2);
    for version in 0..=4 {
        let name = wire::unique("id");
        let who = init(&mut wire, &name, 4);
        let request = AddOffsetsToTxnRequest::default()
            .with_transactional_id(id(&name))
            .with_producer_id(ProducerId(who.0))
            .with_producer_epoch(who.1)
            .with_group_id(GroupId(string("group")));
        assert_eq!(wire.call(&request, version).error_code, NONE, "v{version}");
        let described = describe(&mut wire, &name);
        assert_eq!(described.topics.len(), 1);
        assert_eq!(described.topics[0].topic.as_str(), "__consumer_offsets");
        let fenced = if version < 2 { INVALID_PRODUCER_EPOCH } else { PRODUCER_FENCED };
        let request = request.with_producer_epoch(who.1 + 1);
        assert_eq!(wire.call(&request, version).error_code, fenced, "v{version}");
    }
}

/// What was answered is decided, whatever happens then; what was not yet decided has the rest of its time.
#[test]
fn what_was_decided_ends_after_a_kill() {
    let (mut broker, mut wire) = started(2);
    let topic = wire::unique("killed");
    wire.create_topic(&topic, 4, &[]);
    for version in [4, 5] {
        let (decided, open) = (wire::unique("decided"), wire::unique("open"));
        let who = init(&mut wire, &decided, 5);
        let other = init(&mut wire, &open, 5);
        let of_add = if version == 5 { 5 } else { 3 };
        assert_eq!(add(&mut wire, &decided, who, &topic, &[0, 1, 2, 3], of_add), [NONE; 4]);
        assert_eq!(add(&mut wire, &open, other, &topic, &[0], of_add), [NONE]);
        let after = end(&mut wire, &decided, who, true, version).unwrap();
        broker.kill();
        broker.restart();
        wire = Wire::connect(broker.bootstrap());
        let begun = Instant::now();
        while describe(&mut wire, &decided).error_code != NONE {
            assert!(begun.elapsed() < PATIENCE, "the coordinator is never there");
        }
        let ended = wait_for_state(&mut wire, &decided, "CompleteCommit");
        assert_eq!((ended.producer_id.0, ended.producer_epoch), after);
        wait_for_state(&mut wire, &open, "Ongoing");
        // another producer takes it, and its transaction is aborted
        assert_eq!(init_once(&mut wire, &open, 5), Err(CONCURRENT_TRANSACTIONS));
        assert_eq!(init(&mut wire, &open, 5), (other.0, other.1 + 2));
    }
}

#[test]
fn transactions_are_listed() {
    let (_broker, mut wire) = started(2);
    let topic = wire::unique("listed");
    wire.create_topic(&topic, 1, &[]);
    let names: Vec<String> = (0..20).map(|number| format!("listed-{number:02}")).collect();
    for name in &names {
        let who = init(&mut wire, name, 5);
        if name.ends_with('5') {
            assert_eq!(add(&mut wire, name, who, &topic, &[0], 3), [NONE]);
        }
    }
    let all = || ListTransactionsRequest::default().with_duration_filter(-1);
    let ongoing = all().with_state_filters(vec![string("Ongoing")]);
    for version in 0..=2 {
        assert_eq!(list(&mut wire, all(), version), names, "v{version}");
        assert_eq!(list(&mut wire, ongoing.clone(), version), ["listed-05", "listed-15"], "v{version}");
        let odd = wire.call(&all().with_state_filters(vec![string("odd")]), version);
        assert_eq!((odd.unknown_state_filters.len(), odd.transaction_states.len()), (1, 0), "v{version}");
    }
    let long = ongoing.with_duration_filter(3_600_000);
    assert!(list(&mut wire, long, 1).is_empty());
    let pattern = all().with_transactional_id_pattern(Some(string("listed-0[0-2]")));
    assert_eq!(list(&mut wire, pattern, 2), names[..3]);
    let wrong = wire.call(&all().with_transactional_id_pattern(Some(string("a("))), 2);
    assert_eq!(wrong.error_code, INVALID_REGULAR_EXPRESSION);
    assert_eq!(describe(&mut wire, "nothing").error_code, TRANSACTIONAL_ID_NOT_FOUND);
}

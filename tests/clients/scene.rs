//! Transactions in all states, on a broker of any make, over raw frames: open, committed, aborted, none yet, and two that
//! hang.

use std::time::{Duration, Instant};

use bytes::Bytes;
use kafka_protocol::messages::add_partitions_to_txn_request::AddPartitionsToTxnTopic;
use kafka_protocol::messages::incremental_alter_configs_request::{AlterConfigsResource, AlterableConfig};
use kafka_protocol::messages::list_offsets_request::{ListOffsetsPartition, ListOffsetsTopic};
use kafka_protocol::messages::{
    AddPartitionsToTxnRequest, BrokerId, EndTxnRequest, FindCoordinatorRequest,
    IncrementalAlterConfigsRequest, InitProducerIdRequest, ListOffsetsRequest, ProduceRequest, TopicName,
    TransactionalId,
};

use crate::wire::{self, Wire, batch, header, seal, string};

pub const TOPIC: &str = "orders";
pub const PARTITIONS: i32 = 5;

const NONE: i16 = 0;
/// A partition without a leader yet, a coordinator that is not there yet or loads, replicas that are not in sync yet, a
/// transaction whose last end is being written: clients try again. And a broker that does not trust producers yet, see
/// [`trust_producers`].
const PASSING: [i16; 10] = [3, 5, 6, 14, 15, 16, 19, 48, 51, 120];
const PATIENCE: Duration = Duration::from_secs(60);

fn until_it_works<T>(what: &str, mut ask: impl FnMut() -> (i16, T)) -> T {
    let begun = Instant::now();
    loop {
        match ask() {
            (NONE, done) => return done,
            (error, _) if PASSING.contains(&error) => {
                assert!(begun.elapsed() < PATIENCE, "{what}: error {error} for {PATIENCE:?}");
                std::thread::yield_now();
            }
            (error, _) => panic!("{what}: error {error}"),
        }
    }
}

/// A producer, of the protocol's first version of transactions.
pub struct Producer {
    wire: Wire,
    transactional_id: TransactionalId,
    pub id: i64,
    epoch: i16,
    /// The next number in each partition.
    sequences: [i32; PARTITIONS as usize],
}

impl Producer {
    /// One that its coordinator knows.
    pub fn new(bootstrap: &str, name: &str) -> Producer {
        let mut wire = Wire::connect(bootstrap);
        let find =
            FindCoordinatorRequest::default().with_key_type(1).with_coordinator_keys(vec![string(name)]);
        until_it_works("finding a coordinator", || (wire.call(&find, 6).coordinators[0].error_code, ()));
        Producer::init(wire, name, Some(TransactionalId(string(name))))
    }

    /// One that no coordinator knows, which says that it has this transactional id.
    fn unknown(bootstrap: &str, name: &str) -> Producer {
        Producer::init(Wire::connect(bootstrap), name, None)
    }

    fn init(mut wire: Wire, name: &str, known: Option<TransactionalId>) -> Producer {
        let request = InitProducerIdRequest::default()
            .with_transactional_id(known)
            .with_transaction_timeout_ms(600_000);
        let (id, epoch) = until_it_works("making a producer", || {
            let answer = wire.call(&request, 4);
            (answer.error_code, (answer.producer_id.0, answer.producer_epoch))
        });
        let transactional_id = TransactionalId(string(name));
        Producer { wire, transactional_id, id, epoch, sequences: [0; PARTITIONS as usize] }
    }

    pub fn add(&mut self, partitions: &[i32]) {
        let topic = AddPartitionsToTxnTopic::default()
            .with_name(TopicName(string(TOPIC)))
            .with_partitions(partitions.to_vec());
        let request = AddPartitionsToTxnRequest::default()
            .with_v3_and_below_transactional_id(self.transactional_id.clone())
            .with_v3_and_below_producer_id(self.id.into())
            .with_v3_and_below_producer_epoch(self.epoch)
            .with_v3_and_below_topics(vec![topic]);
        until_it_works("adding partitions", || {
            let answer = self.wire.call(&request, 3).results_by_topic_v3_and_below.remove(0);
            let errors = answer.results_by_partition.iter().map(|one| one.partition_error_code);
            (errors.max().expect("partitions were asked for"), ())
        });
    }

    /// Two records.
    pub fn produce(&mut self, partition: i32) {
        let index = usize::try_from(partition).expect("partitions are counted from 0");
        let stamp = wire::Producer { id: self.id, epoch: self.epoch, sequence: self.sequences[index] };
        let values = ["one", "two"].map(Bytes::from);
        let mut bytes = stamp.stamp(&batch(&values)).to_vec();
        bytes[header::ATTRIBUTES + 1] |= 0x10;
        let request = wire::produce_request(TOPIC, partition, -1, seal(bytes))
            .with_transactional_id(Some(self.transactional_id.clone()));
        until_it_works("producing", || {
            let correlation_id = self.wire.send(&request, 11);
            let mut answer = self.wire.receive::<ProduceRequest>(correlation_id, 11);
            (answer.responses.remove(0).partition_responses.remove(0).error_code, ())
        });
        self.sequences[index] += 2;
    }

    pub fn end(&mut self, committed: bool) {
        let request = EndTxnRequest::default()
            .with_transactional_id(self.transactional_id.clone())
            .with_producer_id(self.id.into())
            .with_producer_epoch(self.epoch)
            .with_committed(committed);
        until_it_works("ending", || (self.wire.call(&request, 4).error_code, ()));
    }
}

/// On topic [`TOPIC`], where each batch has two records and each end of a transaction takes an offset:
///
/// | transactional id | state | partitions |
/// |---|---|---|
/// | `shop-done` | committed | 0 at 0, 1 at 0 |
/// | `shop-failed` | aborted | 1 at 3 |
/// | `shop-idle` | none yet | |
/// | `shop-open` | open | 0 at 3, and 4 without a record |
/// | `shop-late` | committed | 2 at 0, and a batch behind the end, at 3: it hangs |
/// | `nobody`, which does not exist | | 3 at 0: it hangs |
pub struct Scene {
    pub open: Producer,
    pub late: Producer,
    pub nobody: Producer,
}

impl Scene {
    pub fn make(bootstrap: &str) -> Scene {
        let mut wire = Wire::connect(bootstrap);
        wire.create_topic(TOPIC, PARTITIONS, &[]);
        (0..PARTITIONS).for_each(|partition| {
            until_it_works("a new partition", || {
                (stable_offset(&mut wire, partition).err().unwrap_or(NONE), ())
            });
        });
        let make = |name: &str| Producer::new(bootstrap, name);
        let mut done = make("shop-done");
        done.add(&[0, 1]);
        done.produce(0);
        done.produce(1);
        done.end(true);
        wait_for_stable(&mut wire, 0, 3);
        wait_for_stable(&mut wire, 1, 3);
        let mut failed = make("shop-failed");
        failed.add(&[1]);
        failed.produce(1);
        failed.end(false);
        wait_for_stable(&mut wire, 1, 6);
        make("shop-idle");
        let mut open = make("shop-open");
        open.add(&[0, 4]);
        open.produce(0);
        let mut late = make("shop-late");
        late.add(&[2]);
        late.produce(2);
        late.end(true);
        wait_for_stable(&mut wire, 2, 3);
        trust_producers(&mut wire);
        late.produce(2);
        let mut nobody = Producer::unknown(bootstrap, "nobody");
        nobody.produce(3);
        Scene { open, late, nobody }
    }
}

/// Coordinators are not asked any more whether a batch belongs to a transaction: that is how transactions hang.
fn trust_producers(wire: &mut Wire) {
    let config = AlterableConfig::default()
        .with_name(string("transaction.partition.verification.enable"))
        .with_value(Some(string("false")));
    let resource = AlterConfigsResource::default()
        .with_resource_type(4)
        .with_resource_name(string("1"))
        .with_configs(vec![config]);
    let request = IncrementalAlterConfigsRequest::default().with_resources(vec![resource]);
    let answer = wire.call(&request, 1).responses.remove(0);
    assert_eq!(answer.error_code, NONE, "{:?}", answer.error_message);
}

/// Where readers of committed records get in a partition, or the error.
pub fn stable_offset(wire: &mut Wire, partition: i32) -> Result<i64, i16> {
    let asked = ListOffsetsPartition::default()
        .with_partition_index(partition)
        .with_current_leader_epoch(-1)
        .with_timestamp(-1);
    let topic = ListOffsetsTopic::default().with_name(TopicName(string(TOPIC))).with_partitions(vec![asked]);
    let request = ListOffsetsRequest::default()
        .with_replica_id(BrokerId(-1))
        .with_isolation_level(1)
        .with_topics(vec![topic]);
    let answer = wire.call(&request, 7).topics.remove(0).partitions.remove(0);
    if answer.error_code == NONE { Ok(answer.offset) } else { Err(answer.error_code) }
}

/// While an end is being written.
pub fn wait_for_stable(wire: &mut Wire, partition: i32, offset: i64) {
    let begun = Instant::now();
    loop {
        let now = stable_offset(wire, partition).expect("the partition is there");
        if now == offset {
            return;
        }
        assert!(begun.elapsed() < PATIENCE, "readers of {TOPIC}-{partition} get to {now}, never to {offset}");
    }
}

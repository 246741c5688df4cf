//! A consumer of committed records, and of the offsets of groups.

use std::collections::{BTreeMap, BTreeSet};
use std::rc::Rc;

use super::ledger::{Found, Id};
use super::producer::{Client, INPUT};
use super::{Part, World, below, parts, pause};
use crate::coordinator::group::{self, Body, Reply};
use crate::log::control::end_marker;
use crate::log::producer_state::EndTxn;
use crate::model::{ErrorCode, LeaderEpoch, Offset, PartitionId, ProducerId};
use crate::partition::{FetchRequest, Isolation, ReadOutcome, ReadPartition, Shard};
use crate::protocol::StrBytes;
use crate::protocol::batch::{Batches, HEADER_BYTES};
use crate::protocol::messages::offset_fetch_request::{OffsetFetchRequestGroup, OffsetFetchRequestTopics};
use crate::protocol::messages::{GroupId, TopicName};
use crate::protocol::records::Records;

/// As it is in a record.
pub fn encode((Id(transaction), record): Found) -> [u8; 12] {
    let mut value = [0; 12];
    value[..8].copy_from_slice(&(transaction as u64).to_be_bytes());
    value[8..].copy_from_slice(&record.to_be_bytes());
    value
}

fn decode(value: &[u8]) -> Found {
    let (transaction, record) = value.split_first_chunk::<8>().expect("what was written");
    let record = u32::from_be_bytes(record.try_into().expect("what was written"));
    (Id(u64::from_be_bytes(*transaction) as usize), record)
}

/// Reads while the node lives.
pub async fn watch(world: Rc<World>, shard: Rc<Shard>) {
    while !world.life().is_over() {
        let parts: Vec<_> = parts(&shard).into_iter().collect();
        if !parts.is_empty() {
            let (part, partition) = &parts[below(parts.len() as u64) as usize];
            look(&world, &shard, part, *partition, false).await;
        }
        let at = below(world.clients.len() as u64) as usize;
        look_at_offset(&world, &shard, &world.clients[at], false).await;
        pause(500).await;
    }
}

/// What a partition holds is what the ledger says. Gives where a reader of committed records may not read on, and where
/// nobody may; `None`: it could not be read.
pub async fn look(
    world: &Rc<World>,
    shard: &Rc<Shard>,
    part: &Part,
    partition: PartitionId,
    is_all: bool,
) -> Option<(Offset, Offset)> {
    let (found, stable, high) = read(world, shard, partition).await?;
    if !world.ledger.borrow().is_gone(&part.0) {
        let checked = world.ledger.borrow_mut().check(part, &found, is_all);
        checked.unwrap_or_else(|why| panic!("{}: {part:?}: {why}", world.place()));
    }
    Some((stable, high))
}

async fn read(
    world: &Rc<World>,
    shard: &Rc<Shard>,
    partition: PartitionId,
) -> Option<(Vec<Found>, Offset, Offset)> {
    let mut found = Vec::new();
    let mut next = Offset(0);
    let mut aborted = Aborted::default();
    loop {
        let outcome = fetch(world, shard, partition, next).await?;
        assert!(next <= outcome.last_stable_offset && outcome.last_stable_offset <= outcome.high_watermark);
        aborted.learn(outcome.aborted.as_deref().expect("committed records were asked for"));
        let before = next;
        for batch in Batches::new(&outcome.records.concat()) {
            let (header, batch) = batch.expect("what was written");
            next = header.next_offset();
            let body = &batch[HEADER_BYTES..];
            if header.is_control() {
                let marker = end_marker(&header, body).expect("the end of a transaction");
                aborted.ended(header.producer_id, marker.end);
            } else if !aborted.has(header.producer_id, header.base_offset) {
                let values =
                    Records::new(&header, body).map(|record| record.expect("what was written").value);
                found.extend(values.map(|value| decode(&body[value.expect("what was written")])));
            }
        }
        if next == before {
            let reached_its_end = next == outcome.last_stable_offset;
            assert!(reached_its_end, "{}: nothing is read at {next} of {partition:?}", world.place());
            return Some((found, outcome.last_stable_offset, outcome.high_watermark));
        }
    }
}

/// As a client knows them.
#[derive(Default)]
struct Aborted {
    /// By producer, the first offsets of transactions that are still to come.
    firsts: BTreeMap<ProducerId, BTreeSet<Offset>>,
    now: BTreeSet<ProducerId>,
    told: BTreeSet<(ProducerId, Offset)>,
}

impl Aborted {
    fn learn(&mut self, transactions: &[(ProducerId, Offset)]) {
        for &(producer, first) in transactions {
            // one that reaches over two fetches is told of twice
            if self.told.insert((producer, first)) {
                self.firsts.entry(producer).or_default().insert(first);
            }
        }
    }

    fn has(&mut self, producer: ProducerId, at: Offset) -> bool {
        if let Some(firsts) = self.firsts.get_mut(&producer)
            && firsts.first().is_some_and(|first| *first <= at)
        {
            firsts.pop_first();
            self.now.insert(producer);
        }
        self.now.contains(&producer)
    }

    fn ended(&mut self, producer: ProducerId, end: EndTxn) {
        let was_aborted = self.now.remove(&producer);
        assert!(!was_aborted || end == EndTxn::Abort, "what was told of as aborted is committed");
    }
}

async fn fetch(
    world: &Rc<World>,
    shard: &Rc<Shard>,
    partition: PartitionId,
    from: Offset,
) -> Option<ReadOutcome> {
    let read = ReadPartition {
        partition,
        fetch_offset: from,
        max_bytes: 1 << 12,
        current_epoch: LeaderEpoch::NONE,
        last_fetched_epoch: LeaderEpoch::NONE,
    };
    let request = FetchRequest {
        partitions: vec![read],
        max_bytes: 1 << 12,
        min_bytes: 0,
        max_wait_ms: 0,
        isolation: Isolation::ReadCommitted,
    };
    let mut fetched = world.answered("Fetch", shard.fetch(request)).await;
    let outcome = fetched.outcomes.pop().expect("one for the partition");
    let is_expected = matches!(
        outcome.error,
        ErrorCode::None
            | ErrorCode::NotLeaderOrFollower
            | ErrorCode::UnknownTopicOrPartition
            | ErrorCode::KafkaStorageError
    );
    assert!(is_expected, "{}: {partition:?} at {from}: {:?}", world.place(), outcome.error);
    outcome.error.is_none().then_some(outcome)
}

/// Whether the group's offset could be read, and is what the ledger says.
pub async fn look_at_offset(world: &Rc<World>, shard: &Rc<Shard>, client: &Client, is_all: bool) -> bool {
    let answered = world.ledger.borrow().last_answered(client.number);
    let Some(offset) = committed(world, shard, &client.group).await else { return false };
    let ledger = world.ledger.borrow();
    let checked = ledger.check_offset(client.number, offset, answered, is_all);
    checked.unwrap_or_else(|why| panic!("{}: {}: {why}", world.place(), client.group));
    true
}

/// What the group has committed; `None`: nobody can tell, or some of it is pending.
async fn committed(world: &Rc<World>, shard: &Rc<Shard>, group: &str) -> Option<Option<Id>> {
    let partition = shard.offsets_partition(group)?;
    // By name: one who asks for all is not told of a partition whose first offset is pending, as with Kafka.
    let input = OffsetFetchRequestTopics::default()
        .with_name(TopicName(StrBytes::from_static_str(INPUT)))
        .with_partition_indexes(vec![0]);
    let request = OffsetFetchRequestGroup::default()
        .with_group_id(GroupId(StrBytes::from_string(group.to_owned())))
        .with_member_epoch(-1)
        .with_topics(Some(vec![input]));
    let request = group::Request {
        version: 9,
        client: group::Client { id: String::new(), host: String::new() },
        body: Body::FetchOffsets { group: request, require_stable: true },
    };
    let reply = world.answered("OffsetFetch", shard.coordinate(partition, request)).await;
    let fetched = match reply {
        Ok(Reply::FetchOffsets(fetched)) => fetched,
        Ok(other) => panic!("{}: {other:?}", world.place()),
        Err(_) => return None,
    };
    assert_eq!(fetched.error_code, 0, "{}: {fetched:?}", world.place());
    let partition = &fetched.topics[0].partitions[0];
    match ErrorCode::from_code(partition.error_code) {
        Some(ErrorCode::None) => {}
        Some(ErrorCode::UnstableOffsetCommit) => return None,
        error => panic!("{}: {error:?}", world.place()),
    }
    // 0 is of the transaction with the number 0
    Some(usize::try_from(partition.committed_offset).ok().map(Id))
}

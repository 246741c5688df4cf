//! A client with a transactional id: one process after the other, and those before that do not know that they are over.

use std::cell::{Cell, RefCell};
use std::collections::BTreeMap;
use std::rc::Rc;

use super::transaction::{Attempt, Ending};
use super::{Part, World, chance, pause};
use crate::coordinator::transaction::{Body, Reply, Request};
use crate::model::{ErrorCode, ProducerEpoch, ProducerId};
use crate::partition::{Shard, TransactionSupport};
use crate::protocol::StrBytes;
use crate::protocol::messages::{InitProducerIdRequest, TransactionalId};
use crate::storage::testing::Noise;

/// The topic of whose one partition clients commit offsets.
pub const INPUT: &str = "in";

pub struct Client {
    pub number: u64,
    pub id: String,
    pub group: String,
    pub support: TransactionSupport,
    pub timeout_ms: i32,
    /// Processes that have asked for the id, and that have got it.
    asked: Cell<u64>,
    answered: Cell<u64>,
    /// What the next life goes on with.
    process: RefCell<Option<Process>>,
    ending: RefCell<Option<Ending>>,
    /// It has committed a transaction since the storm.
    content: Cell<bool>,
}

/// Whom a client takes itself for.
#[derive(Clone, Debug)]
pub struct Process {
    /// Which of those that have asked for the id.
    asked: u64,
    pub producer: (ProducerId, ProducerEpoch),
    /// Of the next batch.
    pub sequences: BTreeMap<Part, i32>,
}

impl Client {
    pub fn new(number: u64, support: TransactionSupport, noise: &mut Noise) -> Rc<Client> {
        Rc::new(Client {
            number,
            id: format!("id{number}"),
            group: format!("g{number}"),
            support,
            timeout_ms: 2_000 + noise.below(6_000) as i32,
            asked: Cell::new(0),
            answered: Cell::new(0),
            process: RefCell::default(),
            ending: RefCell::default(),
            content: Cell::new(false),
        })
    }

    /// Partitions join transactions by being written to, and each transaction's end raises the epoch.
    pub fn is_new(&self) -> bool {
        self.support == TransactionSupport::Adds
    }

    pub fn is_content(&self) -> bool {
        self.content.get()
    }

    /// No process that came later has been told that the id is its own.
    pub fn is_current(&self, process: &Process) -> bool {
        self.answered.get() == process.asked
    }

    /// Not even asked.
    pub fn is_alone(&self, process: &Process) -> bool {
        self.asked.get() == process.asked
    }

    pub fn keep_ending(&self, ending: Option<Ending>) {
        self.ending.replace(ending);
    }

    /// Between two lives: what it was about to be told is lost.
    pub fn node_ended(&self) {
        if self.ending.borrow().is_some() {
            self.process.replace(None);
        }
    }
}

pub async fn play(world: Rc<World>, shard: Rc<Shard>, client: Rc<Client>) {
    while !world.life().is_over() && !client.content.get() {
        let ending = client.ending.take().filter(|_| chance(60));
        let process = client.process.take();
        let goes_on = match (ending, process) {
            (Some(ending), _) => ending.go_on(&world, &shard, &client).await,
            (None, Some(process)) => Some(process),
            (None, None) => init(&world, &shard, &client).await,
        };
        let Some(process) = goes_on else {
            pause(500).await;
            continue;
        };
        let after = Attempt::begin(&world, &shard, &client, process).go_on().await;
        if after.has_committed && world.life().is_calm() {
            client.content.set(true);
        }
        client.process.replace(after.process);
        pause(300).await;
    }
}

/// Asks the coordinator of the client's id.
pub async fn ask(
    world: &Rc<World>,
    shard: &Rc<Shard>,
    client: &Client,
    version: i16,
    body: Body,
) -> Result<Reply, ErrorCode> {
    let partition = shard.transactions_partition(&client.id).ok_or(ErrorCode::NotCoordinator)?;
    let what = format!("{body:?}");
    let reply = world.answered(&what, shard.transact(partition, Request { version, body })).await;
    tracing::debug!(client = client.number, "{what} -> {reply:?}");
    reply
}

pub fn transactional_id(client: &Client) -> TransactionalId {
    TransactionalId(StrBytes::from_string(client.id.clone()))
}

/// Whether the client asks again.
pub fn is_passing(error: ErrorCode) -> bool {
    matches!(
        error,
        ErrorCode::ConcurrentTransactions
            | ErrorCode::CoordinatorLoadInProgress
            | ErrorCode::CoordinatorNotAvailable
            | ErrorCode::NotCoordinator
    )
}

/// A new process takes the id; `None`: the life is over.
async fn init(world: &Rc<World>, shard: &Rc<Shard>, client: &Client) -> Option<Process> {
    client.asked.set(client.asked.get() + 1);
    let asked = client.asked.get();
    let nobody = (ProducerId::NONE, ProducerEpoch(-1));
    let producer = take(world, shard, client, nobody).await?;
    let producer = producer.unwrap_or_else(|error| panic!("{}: {}: {error:?}", world.place(), client.id));
    client.answered.set(asked);
    Some(Process { asked, producer, sequences: BTreeMap::new() })
}

/// The same process under another epoch, since it does not know what has become of its batches (KIP-360). `None`: it is
/// fenced, or the life is over.
pub async fn raise_epoch(
    world: &Rc<World>,
    shard: &Rc<Shard>,
    client: &Client,
    process: Process,
) -> Option<Process> {
    match take(world, shard, client, process.producer).await? {
        Ok(producer) => Some(Process { producer, sequences: BTreeMap::new(), ..process }),
        Err(ErrorCode::ProducerFenced | ErrorCode::InvalidProducerEpoch) => None,
        Err(error) => panic!("{}: {}: {error:?}", world.place(), client.id),
    }
}

/// `None`: the life is over.
async fn take(
    world: &Rc<World>,
    shard: &Rc<Shard>,
    client: &Client,
    (producer_id, epoch): (ProducerId, ProducerEpoch),
) -> Option<Result<(ProducerId, ProducerEpoch), ErrorCode>> {
    loop {
        let request = InitProducerIdRequest::default()
            .with_transactional_id(Some(transactional_id(client)))
            .with_transaction_timeout_ms(client.timeout_ms)
            .with_producer_id(producer_id.0.into())
            .with_producer_epoch(epoch.0);
        let error = match ask(world, shard, client, 5, Body::InitProducerId(request)).await {
            // the reply gets lost: it is asked for again
            Ok(_) if world.life().is_stormy() && chance(5) => ErrorCode::NotCoordinator,
            Ok(Reply::InitProducerId(reply)) if reply.error_code == 0 => {
                return Some(Ok((ProducerId(reply.producer_id.0), ProducerEpoch(reply.producer_epoch))));
            }
            Ok(Reply::InitProducerId(reply)) => ErrorCode::from_code(reply.error_code).expect("an error"),
            Ok(other) => panic!("{}: {other:?}", world.place()),
            Err(error) => error,
        };
        if !is_passing(error) {
            return Some(Err(error));
        }
        if world.life().is_over() {
            return None;
        }
        pause(200).await;
    }
}

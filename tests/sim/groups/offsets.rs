//! What was committed, and what may be read of it.

use std::collections::{BTreeMap, BTreeSet};
use std::rc::Rc;
use std::time::Duration;

use super::client::{Player, Speech, ask, error_of, text};
use super::{Part, World, life, pause};
use crate::coordinator::group::{Body, Reply};
use crate::model::ErrorCode;
use crate::partition::Shard;
use crate::protocol::messages::offset_commit_request::{
    OffsetCommitRequestPartition, OffsetCommitRequestTopic,
};
use crate::protocol::messages::offset_fetch_request::OffsetFetchRequestGroup;
use crate::protocol::messages::{GroupId, OffsetCommitRequest, OffsetCommitResponse, TopicName};
use crate::reactor;

/// Nothing is committed.
const NONE: i64 = -1;

/// Nobody is a member of it.
pub const SOLO: &str = "solo";

/// Milliseconds until a coordinator has read its log.
const LOADS_IN: usize = 10_000;

/// A group's offset of a partition.
pub type Key = (String, Part);

/// All that was ever asked for, in order.
#[derive(Default)]
pub struct History {
    offsets: BTreeMap<Key, Offsets>,
    /// Somebody changes them now, so that what comes of it has one order.
    busy: BTreeSet<Key>,
    /// Groups and topics whose offsets are being removed.
    closed: BTreeSet<String>,
    last: i64,
}

struct Offsets {
    /// `None`: it was refused.
    asked: Vec<Option<i64>>,
    /// The place of the last one that was answered. Those behind it may be there or not.
    answered: usize,
}

/// What became of a change.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Outcome {
    Done,
    Refused,
    /// There was no answer, or one that does not say.
    Unknown,
}

impl Outcome {
    pub fn of(error: ErrorCode) -> Outcome {
        match error {
            ErrorCode::None => Outcome::Done,
            ErrorCode::NotCoordinator
            | ErrorCode::CoordinatorNotAvailable
            | ErrorCode::CoordinatorLoadInProgress
            | ErrorCode::RequestTimedOut => Outcome::Unknown,
            _ => Outcome::Refused,
        }
    }
}

impl History {
    /// The node has ended: whatever was asked is done or not.
    pub fn nobody_asks(&mut self) {
        self.busy.clear();
        self.closed.clear();
    }

    /// Larger than all before.
    fn next_offset(&mut self) -> i64 {
        self.last += 1;
        self.last
    }

    /// The place of the change, for [`Self::end`].
    fn begin(&mut self, key: &Key, offset: i64) -> usize {
        let offsets = (self.offsets.entry(key.clone()))
            .or_insert_with(|| Offsets { asked: vec![Some(NONE)], answered: 0 });
        offsets.asked.push(Some(offset));
        offsets.asked.len() - 1
    }

    fn end(&mut self, key: &Key, place: usize, outcome: Outcome) {
        let offsets = self.offsets.get_mut(key).expect("it was begun");
        match outcome {
            Outcome::Done => offsets.answered = offsets.answered.max(place),
            Outcome::Refused => offsets.asked[place] = None,
            Outcome::Unknown => {}
        }
    }

    /// What is answered now: no later answer is of before.
    fn answered(&self, key: &Key) -> usize {
        self.offsets.get(key).map_or(0, |offsets| offsets.answered)
    }

    fn may_be(&self, key: &Key, answered: usize, offset: i64) -> bool {
        match self.offsets.get(key) {
            Some(offsets) => offsets.asked[answered..].contains(&Some(offset)),
            None => offset == NONE,
        }
    }

    /// Everything of a group, or of a topic, is about to go. Not if somebody changes some of it now.
    pub fn begin_removal(&mut self, name: &str, is_of_it: impl Fn(&Key) -> bool) -> Option<Removal> {
        if self.busy.iter().any(&is_of_it) || !self.closed.is_empty() {
            return None;
        }
        self.closed.insert(name.to_owned());
        let keys: Vec<Key> = self.offsets.keys().filter(|key| is_of_it(key)).cloned().collect();
        let places = keys.into_iter().map(|key| (key.clone(), self.begin(&key, NONE))).collect();
        Some(Removal { name: name.to_owned(), places })
    }

    pub fn end_removal(&mut self, removal: &Removal, outcome: Outcome) {
        self.closed.remove(&removal.name);
        removal.places.iter().for_each(|(key, place)| self.end(key, *place, outcome));
    }
}

pub struct Removal {
    name: String,
    places: Vec<(Key, usize)>,
}

/// One commit that is on its way.
pub struct Commit {
    keys: Vec<(Key, usize)>,
    request: OffsetCommitRequest,
}

impl Commit {
    /// Of those of the partitions that nobody else changes now.
    pub fn new(world: &World, group: &str, parts: &BTreeSet<Part>) -> Option<Commit> {
        let history = &mut *world.offsets.borrow_mut();
        let mut keys = Vec::new();
        let mut topics: BTreeMap<&str, Vec<OffsetCommitRequestPartition>> = BTreeMap::new();
        for part in parts {
            let key = (group.to_owned(), part.clone());
            if history.closed.contains(group)
                || history.closed.contains(&part.0)
                || !history.busy.insert(key.clone())
            {
                continue;
            }
            let offset = history.next_offset();
            let place = history.begin(&key, offset);
            keys.push((key, place));
            let partition = OffsetCommitRequestPartition::default()
                .with_partition_index(part.1)
                .with_committed_offset(offset);
            topics.entry(&part.0).or_default().push(partition);
        }
        let topics = topics.into_iter().map(|(name, partitions)| {
            OffsetCommitRequestTopic::default().with_name(TopicName(text(name))).with_partitions(partitions)
        });
        let request = OffsetCommitRequest::default()
            .with_group_id(GroupId(text(group)))
            .with_generation_id_or_member_epoch(-1)
            .with_retention_time_ms(-1)
            .with_topics(topics.collect());
        (!keys.is_empty()).then_some(Commit { keys, request })
    }

    /// Whether there was an answer that has no error.
    pub async fn perform(self, world: &Rc<World>, shard: &Rc<Shard>, version: i16) -> bool {
        let group = self.request.group_id.to_string();
        let body = Body::Commit(Box::new(self.request));
        let reply = ask(Rc::clone(world), Rc::clone(shard), group, version, body).await;
        let response = match &reply {
            Ok(Reply::Commit(response)) => Some(response),
            Ok(other) => panic!("{}: {other:?}", world.place()),
            Err(_) => None,
        };
        let error =
            |part: &Part| response.map_or(ErrorCode::NotCoordinator, |response| error_in(response, part));
        let history = &mut *world.offsets.borrow_mut();
        for (key, place) in &self.keys {
            history.end(key, *place, Outcome::of(error(&key.1)));
            history.busy.remove(key);
        }
        self.keys.iter().any(|(key, _)| error(&key.1).is_none())
    }
}

fn error_in(response: &OffsetCommitResponse, (topic, index): &Part) -> ErrorCode {
    let mut partitions = (response.topics.iter())
        .filter(|answered| answered.name.as_str() == topic)
        .flat_map(|answered| &answered.partitions);
    let answer = partitions.find(|answered| answered.partition_index == *index);
    error_of(answer.expect("every partition is answered").error_code)
}

/// One who is no member commits all the time, so that hardly a moment is without a commit that is on its way to the disk.
pub async fn commit_steadily(world: Rc<World>, shard: Rc<Shard>) {
    while world.life().is_stormy() {
        let topic = life::topics(&shard).into_keys().next();
        let parts = topic.map(|topic| (topic, 0)).into_iter().collect();
        if let Some(commit) = Commit::new(&world, SOLO, &parts) {
            commit.perform(&world, &shard, 9).await;
        }
        pause(200).await;
    }
}

/// What the lives before this one have answered is there, before anybody commits anew and makes up for what is not.
pub async fn fetch_all(world: &Rc<World>, shard: &Rc<Shard>) {
    let groups = world.groups();
    for group in groups.into_iter().chain([SOLO]) {
        for _ in 0..LOADS_IN {
            match fetch(world, shard, group).await {
                Err(ErrorCode::CoordinatorLoadInProgress) => reactor::sleep(Duration::from_millis(1)).await,
                Ok(()) | Err(_) => break,
            }
        }
    }
}

/// Reads all offsets of a group and compares. Nobody's member reads what is there.
pub async fn fetch(world: &Rc<World>, shard: &Rc<Shard>, group: &str) -> Result<(), ErrorCode> {
    let before: Vec<(Key, usize)> = {
        let history = world.offsets.borrow();
        let keys = history.offsets.keys().filter(|key| key.0 == group).cloned();
        keys.map(|key| (key.clone(), history.answered(&key))).collect()
    };
    let request = OffsetFetchRequestGroup::default()
        .with_group_id(GroupId(text(group)))
        .with_member_epoch(-1)
        .with_topics(None);
    let body = Body::FetchOffsets { group: request, require_stable: true };
    let reply = ask(Rc::clone(world), Rc::clone(shard), group.to_owned(), 9, body).await;
    let fetched = match reply? {
        Reply::FetchOffsets(fetched) => fetched,
        other => panic!("{}: {other:?}", world.place()),
    };
    assert_eq!(fetched.error_code, 0, "{}: {fetched:?}", world.place());
    let found: BTreeMap<Part, i64> = (fetched.topics.iter())
        .flat_map(|topic| {
            let name = topic.name.to_string();
            topic
                .partitions
                .iter()
                .map(move |partition| ((name.clone(), partition.partition_index), partition.committed_offset))
        })
        .collect();
    let history = world.offsets.borrow();
    for (key, answered) in before {
        let offset = found.get(&key.1).copied().unwrap_or(NONE);
        assert!(
            history.may_be(&key, answered, offset),
            "{}: {key:?} is {offset}, but {:?} was asked for, and the one at {answered} answered",
            world.place(),
            history.offsets[&key].asked
        );
    }
    Ok(())
}

impl Player {
    /// Commits what the member reads.
    pub async fn commit(&self) {
        let asked_ms = self.world.now_ms();
        let (owned, id, epoch, speech) = {
            let state = self.client.state.borrow();
            (state.owned.clone(), state.id.clone(), state.epoch, state.speech)
        };
        if epoch <= 0 {
            return;
        }
        let Some(mut commit) = Commit::new(&self.world, &self.client.group, &owned) else { return };
        commit.request = commit
            .request
            .with_member_id(text(&id))
            .with_generation_id_or_member_epoch(epoch)
            .with_group_instance_id(self.client.instance.as_deref().map(text));
        let is_done = commit.perform(&self.world, &self.shard, 9).await;
        if is_done && speech != Speech::Consumer && !self.may_speak_both() {
            // that shows that it is alive, to a classic group
            self.client.state.borrow_mut().heard_ms = asked_ms;
        }
        if is_done {
            self.check_owned();
        }
    }

    pub async fn fetch(&self) {
        let groups: Vec<&str> = self.world.groups().into_iter().collect();
        let at = (reactor::random_u64() % groups.len() as u64) as usize;
        let _ = fetch(&self.world, &self.shard, groups[at]).await;
    }
}

//! What members of both protocols share: what they have, how long it is theirs, and how they misbehave.

use std::cell::RefCell;
use std::collections::BTreeSet;
use std::rc::Rc;
use std::time::Duration;

use futures_lite::future::or;

use super::{Part, REBALANCE_MS, SESSION_MS, World, chance, pause};
use crate::coordinator::group::{self, Body, Reply, Request};
use crate::model::ErrorCode;
use crate::partition::Shard;
use crate::protocol::StrBytes;
use crate::protocol::messages::leave_group_request::MemberIdentity;
use crate::protocol::messages::{GroupId, LeaveGroupRequest};
use crate::reactor;
use crate::sim_tests::life::Phase;
use crate::storage::testing::Noise;

/// By then every request has been answered. A JoinGroup may wait for members that are gone.
const PATIENCE: Duration = Duration::from_secs(60);

/// How a member speaks to its group.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Speech {
    /// Classic: gives everything up before it joins again.
    Eager,
    /// Classic: gives up what it is told to, and joins again.
    Cooperative,
    /// KIP-848.
    Consumer,
}

/// One who reads, in one process after the other.
#[derive(Debug)]
pub struct Client {
    pub group: String,
    pub number: usize,
    /// What the processes may speak.
    speeches: &'static [Speech],
    pub instance: Option<String>,
    pub state: RefCell<State>,
}

#[derive(Clone, Debug)]
pub struct State {
    pub speech: Speech,
    /// Processes there were.
    processes: u64,
    pub topics: BTreeSet<String>,
    pub regex: Option<&'static str>,
    pub id: String,
    /// Or generation; 0: it is no member.
    pub epoch: i32,
    /// The last in which it was told what to have: one that it has only joined may be forgotten with the node.
    pub durable_epoch: i32,
    /// The group may know the process.
    pub has_asked: bool,
    /// What it reads.
    pub owned: BTreeSet<Part>,
    /// Of that, what it had before it was forgotten without knowing it: no right of its own.
    pub stale: BTreeSet<Part>,
    /// What it was told to have: it stops with the rest, sooner or later.
    pub told: BTreeSet<Part>,
    /// It stops then.
    pub dawdles_until: u64,
    /// When the last request was sent whose answer says that it is a member.
    pub heard_ms: u64,
    /// The same of the last one whose answer says that it has nothing to give up.
    pub clean_ms: u64,
    /// Consumer: what the coordinator knows that it has.
    pub said: BTreeSet<Part>,
    /// Consumer: the next heartbeat says everything.
    pub is_full: bool,
    /// The last request was sent twice, and one answer has not been looked at.
    pub is_repeated: bool,
    /// Classic: it has to join again.
    pub rejoins: bool,
    /// Classic: it leads, and has assigned when the topics were like this.
    pub assigned_for: Option<Vec<(String, i32)>>,
    /// Classic: how the topics were when it last assigned, in an earlier process perhaps.
    pub last_assigned_for: Vec<(String, i32)>,
}

impl State {
    /// Until then it is a member, whatever has become of the answers it did not get: the coordinator has heard it at this
    /// time or later, and does not wait less long.
    pub fn lease_ends(&self) -> u64 {
        if self.epoch <= 0 {
            return 0;
        }
        (self.heard_ms + SESSION_MS).min(self.clean_ms + REBALANCE_MS)
    }

    /// It is no member any more, and knows it.
    pub fn is_lost(&mut self) {
        self.owned.clear();
        self.stale.clear();
        self.told.clear();
        (self.epoch, self.durable_epoch) = (0, 0);
        (self.heard_ms, self.clean_ms) = (0, 0);
        (self.is_full, self.rejoins) = (true, true);
        self.assigned_for = None;
    }

    /// What nobody else may have.
    fn own(&self) -> impl Iterator<Item = &Part> {
        self.owned.difference(&self.stale)
    }

    pub fn has_to_give_up(&self) -> bool {
        !self.owned.is_subset(&self.told)
    }
}

impl Client {
    pub fn new(group: &str, speeches: &'static [Speech], number: usize, noise: &mut Noise) -> Rc<Client> {
        let state = State {
            speech: speeches[noise.below(speeches.len() as u64) as usize],
            processes: 0,
            topics: BTreeSet::new(),
            regex: None,
            id: String::new(),
            epoch: 0,
            durable_epoch: 0,
            has_asked: false,
            owned: BTreeSet::new(),
            stale: BTreeSet::new(),
            told: BTreeSet::new(),
            dawdles_until: 0,
            heard_ms: 0,
            clean_ms: 0,
            said: BTreeSet::new(),
            is_full: true,
            is_repeated: false,
            rejoins: true,
            assigned_for: None,
            last_assigned_for: Vec::new(),
        };
        let instance = noise.one_in(3).then(|| format!("i{number}"));
        Rc::new(Client { group: group.to_owned(), number, speeches, instance, state: RefCell::new(state) })
    }
}

/// A client while the node lives, at one of its shards.
#[derive(Clone)]
pub struct Player {
    pub world: Rc<World>,
    pub shard: Rc<Shard>,
    pub client: Rc<Client>,
}

pub fn text(text: &str) -> StrBytes {
    StrBytes::from_string(text.to_owned())
}

pub fn error_of(code: i16) -> ErrorCode {
    ErrorCode::from_code(code).unwrap_or_else(|| panic!("error {code}"))
}

/// Asks a group's coordinator.
pub async fn ask(
    world: Rc<World>,
    shard: Rc<Shard>,
    group: String,
    version: i16,
    body: Body,
) -> Result<Reply, ErrorCode> {
    let partition = shard.offsets_partition(&group).ok_or(ErrorCode::NotCoordinator)?;
    let client = group::Client { id: "client".to_owned(), host: "/127.0.0.1".to_owned() };
    let what = format!("{body:?}");
    let asked = async { Some(shard.coordinate(partition, Request { version, client, body }).await) };
    let waited = async {
        reactor::sleep(PATIENCE).await;
        None
    };
    let reply = or(asked, waited).await;
    tracing::debug!(at = world.now_ms(), group, "{what} -> {reply:?}");
    reply.unwrap_or_else(|| panic!("{}: nobody has answered {what}", world.place()))
}

impl Player {
    pub async fn play(&self) {
        if self.client.state.borrow().processes == 0 {
            self.begin_process();
        }
        self.client.state.borrow_mut().is_full = true;
        let mut was_calm = false;
        while !self.world.life().is_over() {
            if self.world.life().is_stormy() {
                self.misbehave().await;
            }
            // after a change of protocol the one who leads may not know it
            let is_calm = self.world.life().phase() == Phase::Calm;
            if is_calm && !was_calm {
                self.client.state.borrow_mut().rejoins = true;
            }
            was_calm = is_calm;
            self.act().await;
            if chance(15) {
                self.commit().await;
            }
            if chance(5) {
                self.fetch().await;
            }
            pause(1_500).await;
        }
    }

    /// What its protocol has it say next.
    pub async fn act(&self) {
        let speech = self.client.state.borrow().speech;
        match speech {
            Speech::Consumer => self.beat().await,
            Speech::Eager | Speech::Cooperative => self.tick().await,
        }
    }

    /// Another process, which knows nothing of the one before.
    pub fn begin_process(&self) {
        let (topics, regex) = self.choose_topics();
        let client = &self.client;
        let state = &mut *client.state.borrow_mut();
        state.is_lost();
        state.has_asked = false;
        state.processes += 1;
        let choices = client.speeches.len() as u64;
        state.speech = client.speeches[(reactor::random_u64() % choices) as usize];
        state.id = match state.speech {
            Speech::Consumer => format!("c{}-{}", client.number, state.processes),
            Speech::Eager | Speech::Cooperative => String::new(),
        };
        (state.topics, state.regex) = (topics, regex);
    }

    fn choose_topics(&self) -> (BTreeSet<String>, Option<&'static str>) {
        let image = self.shard.image();
        let names = image.topics().map(|topic| &topic.name).filter(|name| name.starts_with('t'));
        let topics: BTreeSet<String> = names.filter(|_| chance(70)).cloned().collect();
        let regex = match reactor::random_u64() % 8 {
            0 => Some("t.*"),
            1 => Some("t[02468]"),
            _ => None,
        };
        (topics, regex)
    }

    async fn misbehave(&self) {
        match reactor::random_u64() % 100 {
            0 => reactor::sleep(Duration::from_millis(SESSION_MS + reactor::random_u64() % 6_000)).await,
            1 | 2 => {
                self.leave().await;
                pause(3_000).await;
                self.begin_process();
            }
            // dies
            3 => {
                self.client.state.borrow_mut().is_lost();
                pause(3_000).await;
                self.begin_process();
            }
            4 | 5 => {
                let (topics, regex) = self.choose_topics();
                let state = &mut *self.client.state.borrow_mut();
                (state.topics, state.regex) = (topics, regex);
                (state.is_full, state.rejoins) = (true, true);
            }
            _ => {}
        }
    }

    /// The replies of a storm may be lost, and requests be sent twice: the answer to the second counts. A heartbeat of the
    /// consumer protocol is sent again only when nobody works on the first: it says what the member had, and an old one that
    /// comes late would take from the member what it has got since.
    pub async fn ask(&self, version: i16, body: Body) -> Result<Reply, ErrorCode> {
        let is_stormy = self.world.life().is_stormy();
        let send = |body| {
            let (world, shard) = (Rc::clone(&self.world), Rc::clone(&self.shard));
            ask(world, shard, self.client.group.clone(), version, body)
        };
        let is_repeated = is_stormy && chance(4);
        self.client.state.borrow_mut().is_repeated = is_repeated;
        let is_late = matches!(body, Body::ConsumerHeartbeat(_));
        let first = is_repeated.then(|| reactor::spawn(send(body.clone())));
        let reply = match first {
            Some(first) if is_late => {
                let _ = first.await;
                send(body).await
            }
            Some(first) => {
                let reply = send(body).await;
                let _ = first.await;
                reply
            }
            None => send(body).await,
        };
        if is_stormy && chance(5) {
            return Err(ErrorCode::RequestTimedOut);
        }
        reply
    }

    async fn leave(&self) {
        let (speech, id, epoch) = {
            let state = &mut *self.client.state.borrow_mut();
            let (id, epoch) = (state.id.clone(), state.epoch);
            state.is_lost();
            (state.speech, id, epoch)
        };
        if epoch <= 0 {
            return;
        }
        if speech == Speech::Consumer {
            return self.leave_consumer(&id).await;
        }
        let member = MemberIdentity::default()
            .with_member_id(text(&id))
            .with_group_instance_id(self.client.instance.as_deref().map(text));
        let request = LeaveGroupRequest::default()
            .with_group_id(GroupId(text(&self.client.group)))
            .with_members(vec![member]);
        let _ = self.ask(5, Body::Leave(request)).await;
    }

    /// After every answer that gives this member something, or says that what it has is its own.
    pub fn check_owned(&self) {
        let now = self.world.now_ms();
        let state = self.client.state.borrow();
        if state.lease_ends() <= now {
            return;
        }
        for other in self.others() {
            let other_state = other.state.borrow();
            if other_state.lease_ends() <= now {
                continue;
            }
            let others: BTreeSet<&Part> = other_state.own().collect();
            let shared: Vec<&Part> = state.own().filter(|part| others.contains(part)).collect();
            assert!(
                shared.is_empty(),
                "{}: {shared:?} of {} have two readers: {state:#?} and {other_state:#?}",
                self.world.place(),
                self.client.group
            );
        }
    }

    /// What the other members of the group have.
    pub fn epochs(&self) -> Vec<(Rc<Client>, String, i32)> {
        let others = self.others().map(|other| {
            let state = other.state.borrow();
            (Rc::clone(other), state.id.clone(), state.durable_epoch)
        });
        others.collect()
    }

    /// That the group has not gone back behind what its members had when this one asked to join it.
    pub fn check_epoch(&self, joined: i32, before: &[(Rc<Client>, String, i32)]) {
        let now = self.world.now_ms();
        for (other, id, epoch) in before {
            let state = other.state.borrow();
            let is_member = state.lease_ends() > now && state.id == *id;
            assert!(
                !is_member || joined >= *epoch,
                "{}: {} is in epoch {joined}, but {id} was in {epoch} before: {state:#?}",
                self.world.place(),
                self.client.group
            );
        }
    }

    /// The group may change its protocol.
    pub fn may_speak_both(&self) -> bool {
        self.client.speeches.len() > 1
    }

    pub fn others(&self) -> impl Iterator<Item = &Rc<Client>> {
        let of_group = self.world.clients.iter().filter(|other| other.group == self.client.group);
        of_group.filter(|other| other.number != self.client.number)
    }
}

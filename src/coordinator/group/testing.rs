//! Clients of a group coordinator for the tests: a clock that is moved by hand, tickets that must be answered once, and
//! a log from which a second coordinator can be loaded after every step.

use std::collections::{BTreeMap, BTreeSet};

use bytes::Bytes;

use super::classic::ClassicGroup;
use super::{Body, Client, Group, GroupCoordinator, Members, Reply, Request, Settings};
use crate::coordinator::record::{LogRecord, Record};
use crate::coordinator::{Context, EffectsOf, Machine, Now, Ticket};
use crate::metadata::{Image, NewPartition, Record as MetadataRecord, TopicDefaults};
use crate::model::{PartitionId, TopicId};

/// Long after all timers of members that are no more.
const LONG_MS: u64 = 24 * 60 * 60 * 1_000;

pub(super) struct Driver {
    pub coordinator: GroupCoordinator,
    pub settings: Settings,
    pub now: Now,
    pub image: Image,
    /// Keys and values as they would lie on the disk.
    pub log: Vec<(Bytes, Option<Bytes>)>,
    /// That the last step has added to the log.
    pub records: Vec<Record>,
    /// A second coordinator reads the log after every step.
    pub checks_log: bool,
    random: u64,
    tickets: u64,
    waiting: BTreeSet<Ticket>,
    replies: BTreeMap<Ticket, Reply>,
}

impl Driver {
    /// A cluster with the topics `t` and `u` of three partitions each.
    pub fn new(settings: Settings) -> Driver {
        let mut image = Image::new("cluster", TopicDefaults::default());
        for (id, name) in [(1, "t"), (2, "u")] {
            let id = TopicId(id);
            image.replay(&MetadataRecord::Topic { name: name.to_owned(), id }).unwrap();
            for index in 0..3 {
                let partition =
                    NewPartition { partition: PartitionId { topic: id, index }, ..Default::default() };
                image.replay(&MetadataRecord::Partition(partition)).unwrap();
            }
        }
        let mut driver = Driver {
            coordinator: GroupCoordinator::new(settings.clone()),
            settings,
            now: Now { steady: 1_000, wall: 1_700_000_000_000 },
            image,
            log: Vec::new(),
            records: Vec::new(),
            checks_log: true,
            random: 0,
            tickets: 0,
            waiting: BTreeSet::new(),
            replies: BTreeMap::new(),
        };
        driver.act(|coordinator, context| coordinator.loaded(context));
        driver
    }

    /// A client asks; the reply may come later.
    pub fn send(&mut self, version: i16, body: Body) -> Ticket {
        self.send_as("client", version, body)
    }

    pub fn send_as(&mut self, client: &str, version: i16, body: Body) -> Ticket {
        self.tickets += 1;
        let ticket = Ticket(self.tickets);
        self.waiting.insert(ticket);
        let client = Client { id: client.to_owned(), host: "/127.0.0.1".to_owned() };
        self.act(|coordinator, context| {
            coordinator.handle(context, ticket, Request { version, client, body })
        });
        ticket
    }

    /// What has to be answered at once.
    pub fn ask(&mut self, version: i16, body: Body) -> Reply {
        let ticket = self.send(version, body);
        self.reply(ticket)
    }

    pub fn reply(&mut self, ticket: Ticket) -> Reply {
        self.replies.remove(&ticket).unwrap_or_else(|| panic!("{ticket:?} has no reply"))
    }

    pub fn is_waiting(&self, ticket: Ticket) -> bool {
        self.waiting.contains(&ticket)
    }

    /// Time goes on, timers fire at their time.
    pub fn pass(&mut self, ms: u64) {
        let end = self.now.steady + ms;
        while let Some(next) = self.coordinator.next_tick().filter(|next| *next <= end) {
            self.move_clock(next.max(self.now.steady));
            self.act(|coordinator, context| coordinator.tick(context));
        }
        self.move_clock(end);
    }

    fn move_clock(&mut self, steady: u64) {
        self.now.wall += i64::try_from(steady - self.now.steady).unwrap();
        self.now.steady = steady;
    }

    /// The broker dies; another one begins with the log. Who waits hears nothing.
    pub fn restart(&mut self) {
        self.coordinator = self.load();
        self.waiting.clear();
        self.act(|coordinator, context| coordinator.loaded(context));
    }

    /// After so long a time nobody waits: every request was answered.
    pub fn all_are_answered(&mut self) {
        self.pass(LONG_MS);
        assert!(self.waiting.is_empty(), "{:?} wait", self.waiting);
    }

    pub fn act(
        &mut self,
        act: impl FnOnce(&mut GroupCoordinator, &mut Context) -> EffectsOf<GroupCoordinator>,
    ) {
        let random = &mut self.random;
        let mut random = || {
            *random += 1;
            *random
        };
        let mut context =
            Context { now: self.now, image: &self.image, random: &mut random, producer_id: &mut || None };
        let effects = act(&mut self.coordinator, &mut context);
        self.log.extend(effects.records.iter().map(Record::encode));
        self.records = effects.records;
        for (ticket, reply) in effects.replies {
            assert!(self.waiting.remove(&ticket), "{ticket:?} is not waiting for {reply:?}");
            self.replies.insert(ticket, reply);
        }
        if self.checks_log {
            self.check_log();
        }
    }

    fn load(&self) -> GroupCoordinator {
        let mut coordinator = GroupCoordinator::new(self.settings.clone());
        for (key, value) in &self.log {
            let record = Record::decode(key, value.as_deref()).unwrap();
            coordinator.replay(record.expect("a record of ours"));
        }
        coordinator
    }

    /// A coordinator that reads the log has what this one has.
    pub fn check_log(&self) {
        self.coordinator.assert_same(&self.load());
    }
}

impl GroupCoordinator {
    /// `loaded` was read from this one's log.
    pub fn assert_same(&self, loaded: &GroupCoordinator) {
        for (id, group) in &self.groups {
            match &group.members {
                Members::Classic(members) => check_classic(id, members, group, loaded.groups.get(id)),
                Members::Consumer(members) => {
                    let in_log = loaded.groups.get(id).unwrap_or_else(|| panic!("{id} is not in the log"));
                    let Members::Consumer(loaded_members) = &in_log.members else {
                        panic!("{id} is a consumer group")
                    };
                    assert_eq!(members.durable(), loaded_members.durable(), "{id}");
                    assert_eq!(group.offsets, in_log.offsets, "{id}");
                }
            }
        }
        let left = loaded.groups.keys().filter(|id| !self.groups.contains_key(*id));
        assert_eq!(left.count(), 0, "groups are in the log only");
    }
}

fn check_classic(id: &str, members: &ClassicGroup, group: &Group, loaded: Option<&Group>) {
    let (is_logged, value) = members.durable();
    let Some(loaded) = loaded else {
        assert!(!is_logged && group.offsets.is_empty(), "{id} is not in the log");
        return;
    };
    let Members::Classic(loaded_members) = &loaded.members else { panic!("{id} is a classic group") };
    let (is_in_log, in_log) = loaded_members.durable();
    assert_eq!((is_logged, &group.offsets), (is_in_log, &loaded.offsets), "{id}");
    assert!(value.is_none() || value == in_log, "{id}: {value:#?}, in the log {in_log:#?}");
}

/// Numbers that are the same in every run.
pub(super) struct Random(pub u64);

impl Random {
    /// Below `end`.
    pub fn below(&mut self, end: u64) -> u64 {
        self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (self.0 >> 33) % end
    }

    pub fn chance(&mut self, percent: u64) -> bool {
        self.below(100) < percent
    }

    pub fn of<T: Clone>(&mut self, items: &[T]) -> Option<T> {
        let count = u64::try_from(items.len()).unwrap();
        (count > 0).then(|| items[usize::try_from(self.below(count)).unwrap()].clone())
    }
}

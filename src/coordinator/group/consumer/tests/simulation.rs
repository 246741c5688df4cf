//! Members that come, go, crash, dawdle and repeat themselves, over a network that loses and reorders: no two members ever
//! use one partition, epochs do not go back, and when things calm down everything is assigned.

use super::*;
use crate::coordinator::group::testing::Random;

const SEEDS: u64 = 60;
const STEPS: u32 = 400;

/// A consumer as a client library has it.
#[derive(Clone, Debug, Default)]
struct Consumer {
    id: String,
    instance: Option<String>,
    topics: Vec<String>,
    regex: Option<String>,
    epoch: i32,
    /// What it reads.
    uses: Has,
    /// What it was told to have: it stops with the rest, sooner or later.
    told: Has,
    /// The next heartbeat says everything.
    is_full: bool,
}

struct World {
    random: Random,
    broker: Broker,
    consumers: Vec<Consumer>,
    /// Heartbeats that may come again, late.
    sent: Vec<ConsumerGroupHeartbeatRequest>,
    topics: Vec<(String, TopicId, i32)>,
    born: u32,
    epochs: (i32, i32),
}

impl World {
    fn new(seed: u64) -> World {
        let settings = Settings { consumer_assignment_interval_ms: 500 * (seed % 3), ..Settings::default() };
        let mut broker = Broker::new(settings);
        broker.checks_log = false;
        let topics = Vec::new();
        let mut world = World {
            random: Random(seed),
            broker,
            consumers: Vec::new(),
            sent: Vec::new(),
            topics,
            born: 0,
            epochs: (0, 0),
        };
        (0..3).for_each(|_| world.create_topic());
        world
    }

    fn create_topic(&mut self) {
        let name = format!("topic-{}", self.topics.len());
        let partitions = i32::try_from(self.random.below(6)).unwrap() + 1;
        let id = self.broker.create(&name, partitions);
        self.topics.push((name, id, partitions));
    }

    fn subscription(&mut self) -> (Vec<String>, Option<String>) {
        if self.random.chance(25) {
            let regex = self.random.of(&["topic-.*", "topic-[02468]", "nothing"]).unwrap();
            return (Vec::new(), Some(regex.to_owned()));
        }
        let names: Vec<String> = self.topics.iter().map(|(name, ..)| name.clone()).collect();
        let mut topics: Vec<String> = names.into_iter().filter(|_| self.random.chance(60)).collect();
        topics.sort();
        (topics, None)
    }

    fn start(&mut self, instance: Option<String>) {
        self.born += 1;
        let (topics, regex) = self.subscription();
        let id = format!("m{}", self.born);
        self.consumers.push(Consumer { id, instance, topics, regex, ..Consumer::default() });
    }

    /// What the consumer says; with all of it when it joins, and now and then.
    fn request(&mut self, at: usize) -> ConsumerGroupHeartbeatRequest {
        let consumer = &self.consumers[at];
        let partitions: Vec<(u128, Vec<i32>)> =
            consumer.uses.iter().map(|(id, parts)| (id.0, parts.iter().copied().collect())).collect();
        let partitions: Vec<(u128, &[i32])> =
            partitions.iter().map(|(id, parts)| (*id, parts.as_slice())).collect();
        let request = heartbeat(&consumer.id, consumer.epoch)
            .with_instance_id(consumer.instance.as_deref().map(text))
            .with_topic_partitions(owned(&partitions));
        if consumer.epoch != 0 && !consumer.is_full {
            return request;
        }
        let topics: Vec<&str> = consumer.topics.iter().map(String::as_str).collect();
        request
            .with_rebalance_timeout_ms(20_000)
            .with_subscribed_topic_names(names(&topics))
            .with_subscribed_topic_regex(Some(text(consumer.regex.as_deref().unwrap_or_default())))
    }

    /// A heartbeat whose answer may be lost.
    fn beat(&mut self, at: usize, loss_percent: u64) {
        let request = self.request(at);
        self.sent.push(request.clone());
        let response = self.broker.beat(request);
        let is_lost = self.random.chance(loss_percent);
        let consumer = &mut self.consumers[at];
        // a client that had no answer says everything the next time
        consumer.is_full = is_lost;
        if is_lost {
            return;
        }
        match error_of(response.error_code) {
            ErrorCode::None => {
                assert!(response.member_epoch >= consumer.epoch, "a member's epoch goes back");
                consumer.epoch = response.member_epoch;
                if let Some(told) = told(&response) {
                    // it begins with what is new at once; what is to go it may keep a while
                    for (topic, partitions) in &told {
                        consumer.uses.entry(*topic).or_default().extend(partitions);
                    }
                    consumer.told = told;
                }
            }
            ErrorCode::FencedMemberEpoch | ErrorCode::UnknownMemberId => {
                consumer.uses.clear();
                consumer.told.clear();
                consumer.epoch = 0;
            }
            ErrorCode::UnreleasedInstanceId => {}
            error => panic!("{error:?}: {response:?}"),
        }
    }

    /// The consumer stops with what it is not to have.
    fn give_up(&mut self, at: usize) {
        let consumer = &mut self.consumers[at];
        consumer.uses.retain(|topic, partitions| {
            let keeps = consumer.told.get(topic);
            partitions.retain(|partition| keeps.is_some_and(|keeps| keeps.contains(partition)));
            !partitions.is_empty()
        });
    }

    fn leave(&mut self, at: usize) {
        let consumer = self.consumers.remove(at);
        if consumer.epoch == 0 {
            return;
        }
        let comes_back = consumer.instance.is_some() && self.random.chance(70);
        let epoch = if comes_back { -2 } else { -1 };
        let request = heartbeat(&consumer.id, epoch).with_instance_id(consumer.instance.as_deref().map(text));
        self.broker.beat(request);
        if comes_back {
            self.start(consumer.instance);
        }
    }

    fn step(&mut self) {
        let at = usize::try_from(self.random.below(8)).unwrap();
        let is_there = at < self.consumers.len();
        match self.random.below(100) {
            0..50 if is_there => self.beat(at, 10),
            50..62 if is_there => self.give_up(at),
            62..66 if self.consumers.len() < 8 => {
                let instance = self.random.chance(30).then(|| format!("i{}", self.born));
                self.start(instance);
            }
            66..68 if is_there => self.leave(at),
            // crashes: its session ends some time
            68..69 if is_there => {
                self.consumers.remove(at);
            }
            69..72 if is_there => {
                let (topics, regex) = self.subscription();
                let consumer = &mut self.consumers[at];
                (consumer.topics, consumer.regex, consumer.is_full) = (topics, regex, true);
            }
            // an old heartbeat comes late, or twice; nobody waits for the answer
            72..78 => {
                if let Some(request) = self.random.of(&self.sent) {
                    let is_alive = |consumer: &Consumer| consumer.id == request.member_id.as_str();
                    // one that joins is only sent again while its connection lives
                    if request.member_epoch != 0 || self.consumers.iter().any(is_alive) {
                        self.repeat(request);
                    }
                }
            }
            78..80 if self.topics.len() < 6 => self.create_topic(),
            80..82 => {
                let at = usize::try_from(self.random.below(self.topics.len() as u64)).unwrap();
                let (_, id, partitions) = &mut self.topics[at];
                *partitions += 1;
                let (id, partitions) = (*id, *partitions);
                self.broker.grow(id, partitions);
            }
            82..84 => self.broker.restart(),
            _ => {
                let ms = self.random.below(3_000);
                self.broker.pass(ms);
            }
        }
        self.check();
    }

    /// A request of a member comes a second time: a client whose connection broke sends the same again, and sees to it that
    /// it says no less than is true.
    fn repeat(&mut self, request: ConsumerGroupHeartbeatRequest) {
        let is_sender = |consumer: &&mut Consumer| consumer.id == request.member_id.as_str();
        if let Some(consumer) = self.consumers.iter_mut().find(is_sender) {
            let topics: Vec<&str> = consumer.topics.iter().map(String::as_str).collect();
            let says: Has = (request.topic_partitions.iter().flatten())
                .map(|topic| (TopicId(topic.topic_id.as_u128()), topic.partitions.iter().copied().collect()))
                .collect();
            let is_true = (consumer.uses.iter())
                .all(|(topic, uses)| says.get(topic).is_some_and(|says| uses.is_subset(says)));
            let regex = consumer.regex.as_deref().unwrap_or_default();
            let is_old = request.subscribed_topic_names.is_some()
                && (request.subscribed_topic_names != names(&topics)
                    || request.subscribed_topic_regex.as_deref() != Some(regex));
            if !is_true || is_old {
                return;
            }
            consumer.is_full = true;
        }
        self.broker.beat(request);
    }

    /// What a member uses is its own in the coordinator's eyes, as long as the coordinator has it as a member: so no two use
    /// the same.
    fn check(&mut self) {
        let Some(group) = self.broker.coordinator.groups.get(GROUP) else { return };
        let Members::Consumer(members) = &group.members else { return };
        let mut owners: BTreeMap<(TopicId, i32), &str> = BTreeMap::new();
        for (id, member) in &members.members {
            for owned in member.owned() {
                let before = owners.insert(owned, id);
                assert_eq!(before, None, "{owned:?} is {id}'s too");
            }
        }
        for consumer in self.consumers.iter().filter(|one| members.members.contains_key(one.id.as_str())) {
            for (topic, partitions) in &consumer.uses {
                for partition in partitions {
                    let owner = owners.get(&(*topic, *partition));
                    assert!(
                        owner.is_none_or(|owner| **owner == *consumer.id) || consumer.epoch == 0,
                        "{} uses {topic}-{partition} of {owner:?}",
                        consumer.id
                    );
                }
            }
        }
        let epochs = (members.epoch(), members.target_epoch());
        assert!(epochs.0 >= self.epochs.0 && epochs.1 >= self.epochs.1 && epochs.1 <= epochs.0, "{epochs:?}");
        self.epochs = epochs;
    }

    /// Everybody answers in time, nothing is lost: soon all is assigned to those who read it.
    fn calm_down(&mut self) {
        for _ in 0..30 {
            self.broker.pass(5_000);
            for at in 0..self.consumers.len() {
                self.give_up(at);
                self.beat(at, 0);
                self.check();
            }
        }
        if self.consumers.is_empty() {
            return;
        }
        assert_eq!(self.broker.state(), "Stable");
        let mut used = BTreeSet::new();
        for consumer in &self.consumers {
            for (topic, partitions) in &consumer.uses {
                for partition in partitions {
                    assert!(used.insert((*topic, *partition)), "{topic}-{partition} is used twice");
                }
            }
        }
        let read = |name: &str| {
            self.consumers.iter().any(|consumer| match consumer.regex.as_deref() {
                Some("topic-.*") => true,
                Some("topic-[02468]") => "02468".contains(&name[6..]),
                Some(_) => false,
                None => consumer.topics.iter().any(|topic| topic == name),
            })
        };
        for (name, id, partitions) in self.topics.iter().filter(|(name, ..)| read(name)) {
            for partition in 0..*partitions {
                assert!(used.remove(&(*id, partition)), "{name}-{partition} is nobody's");
            }
        }
        assert!(used.is_empty(), "{used:?} is read by nobody");
        self.broker.check_log();
    }
}

#[test]
fn members_never_share_a_partition() {
    for seed in 0..SEEDS {
        let mut world = World::new(seed);
        for _ in 0..STEPS {
            world.step();
        }
        world.calm_down();
    }
}

/// The same seed makes the same log.
#[test]
fn a_run_can_be_repeated() {
    let run = || {
        let mut world = World::new(7);
        (0..STEPS).for_each(|_| world.step());
        world.broker.log.clone()
    };
    assert_eq!(run(), run());
}

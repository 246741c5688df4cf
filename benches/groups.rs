//! Micro-benchmarks of the group coordinator's machine: heartbeats, large groups that rebalance, changes of topics.
//! Without what surrounds it: no frames, no log. `cargo bench --bench groups`.
#![allow(unsafe_code)]

mod harness;

use std::alloc::{GlobalAlloc, Layout, System};
use std::collections::HashMap;
use std::hint::black_box;
use std::sync::atomic::{AtomicU64, Ordering};

use bytes::Bytes;
use corelane::coordinator::group::{Body, Client, GroupCoordinator, Reply, Request, Settings};
use corelane::coordinator::record::LogRecord as _;
use corelane::coordinator::{Context, EffectsOf, Machine as _, Now, Ticket};
use corelane::metadata::{Image, NewPartition, Record, TopicDefaults};
use corelane::model::{PartitionId, TopicId};
use corelane::protocol::StrBytes;
use corelane::protocol::messages::consumer_group_heartbeat_request::TopicPartitions;
use corelane::protocol::messages::join_group_request::JoinGroupRequestProtocol;
use corelane::protocol::messages::leave_group_request::MemberIdentity;
use corelane::protocol::messages::{
    ConsumerGroupHeartbeatRequest, ConsumerGroupHeartbeatResponse, GroupId, HeartbeatRequest,
    JoinGroupRequest, JoinGroupResponse, LeaveGroupRequest, SyncGroupRequest, TopicName,
};
use harness::Bench;

const TOPIC: TopicId = TopicId(1);
const REBALANCE_TIMEOUT_MS: i32 = 60_000;

/// Calls over which allocations are counted.
const COUNTED: u64 = 1_000;

fn main() {
    let bench = Bench::begin();
    for of in [Protocol::Classic, Protocol::Consumer] {
        let mut groups = Groups::new(10);
        let ids = groups.join_all(of, 1_000, 5);
        let mut beats = |name: &str, beat: fn(&mut Groups, &Member) -> i32| {
            let mut next = 0;
            let mut one = || {
                next = (next + 1_237) % ids.len();
                beat(&mut groups, &ids[next])
            };
            bench.run(name, 0, 0, &mut one);
            let before = ALLOCATED.load(Ordering::Relaxed);
            (0..COUNTED).for_each(|_| {
                black_box(one());
            });
            let each = (ALLOCATED.load(Ordering::Relaxed) - before) as f64 / COUNTED as f64;
            println!("    {each:.1} allocations each, the request's and the reply's included");
        };
        match of {
            Protocol::Classic => beats("classic heartbeat, 1,000 groups of 5", Groups::classic_beat),
            Protocol::Consumer => {
                beats("consumer heartbeat, 1,000 groups of 5", Groups::quiet_beat);
                beats("consumer heartbeat that repeats a timeout", Groups::talking_beat);
            }
        }
        bench.run(&format!("{} topics changed, 1,000 groups of 5", of.name()), 0, 0, || {
            groups.act(|coordinator, context| coordinator.topics_changed(context)).records.len()
        });
    }
    for members in [250, 500, 1_000] {
        for of in [Protocol::Classic, Protocol::Consumer] {
            bench.run(&format!("{} join of {members}, 1,000 partitions", of.name()), 0, 0, || {
                Groups::new(1_000).join_all(of, 1, members).len()
            });
            let mut groups = Groups::new(1_000);
            let mut ids = groups.join_all(of, 1, members);
            bench.run(&format!("{} leave and join, {members} members", of.name()), 0, 0, || {
                groups.leave_and_join(of, &mut ids);
            });
        }
    }
    bench.end();
}

#[derive(Clone, Copy)]
enum Protocol {
    Classic,
    Consumer,
}

impl Protocol {
    fn name(self) -> &'static str {
        match self {
            Protocol::Classic => "classic",
            Protocol::Consumer => "consumer",
        }
    }
}

/// A member, as its client knows it.
#[derive(Clone)]
struct Member {
    group: GroupId,
    id: StrBytes,
    /// Or generation.
    epoch: i32,
}

impl Member {
    /// A heartbeat that says nothing.
    fn request(&self) -> ConsumerGroupHeartbeatRequest {
        ConsumerGroupHeartbeatRequest::default()
            .with_group_id(self.group.clone())
            .with_member_id(self.id.clone())
            .with_member_epoch(self.epoch)
    }
}

/// A coordinator with a topic, and its clients.
struct Groups {
    coordinator: GroupCoordinator,
    image: Image,
    now: Now,
    random: u64,
    tickets: u64,
    replies: HashMap<Ticket, Reply>,
}

impl Groups {
    fn new(partitions: i32) -> Groups {
        let mut image = Image::new("cluster", TopicDefaults::default());
        image.replay(&Record::Topic { name: "t".to_owned(), id: TOPIC }).expect("a new topic");
        for index in 0..partitions {
            let partition = PartitionId { topic: TOPIC, index };
            let partition = NewPartition { partition, ..Default::default() };
            image.replay(&Record::Partition(partition)).expect("a new partition");
        }
        // the time that passes here is of the rebalances only
        let settings = Settings {
            initial_rebalance_delay_ms: 0,
            consumer_session_timeout_ms: 1_000_000_000_000,
            ..Settings::default()
        };
        Groups {
            coordinator: GroupCoordinator::new(settings),
            image,
            now: Now { steady: 1_000, wall: 1_700_000_000_000 },
            random: 0,
            tickets: 0,
            replies: HashMap::new(),
        }
    }

    fn act(
        &mut self,
        act: impl FnOnce(&mut GroupCoordinator, &mut Context) -> EffectsOf<GroupCoordinator>,
    ) -> EffectsOf<GroupCoordinator> {
        let random = &mut self.random;
        let mut random = || {
            *random += 1;
            *random
        };
        act(
            &mut self.coordinator,
            &mut Context {
                now: self.now,
                image: &self.image,
                random: &mut random,
                producer_id: &mut || None,
            },
        )
    }

    /// The reply may come later. Records are encoded, as they would be for the log.
    fn send(&mut self, version: i16, body: Body) -> Ticket {
        self.tickets += 1;
        let ticket = Ticket(self.tickets);
        let client = Client { id: "client".to_owned(), host: "/127.0.0.1".to_owned() };
        let request = Request { version, client, body };
        let effects = self.act(|coordinator, context| coordinator.handle(context, ticket, request));
        self.take(effects);
        ticket
    }

    fn take(&mut self, effects: EffectsOf<GroupCoordinator>) {
        effects.records.iter().for_each(|record| {
            black_box(record.encode());
        });
        self.replies.extend(effects.replies);
    }

    fn ask(&mut self, version: i16, body: Body) -> Reply {
        let ticket = self.send(version, body);
        self.replies.remove(&ticket).expect("answered at once")
    }

    /// Timers fire.
    fn pass(&mut self, ms: u64) {
        self.now.steady += ms;
        self.now.wall += ms as i64;
        while self.coordinator.next_tick().is_some_and(|next| next <= self.now.steady) {
            let effects = self.act(|coordinator, context| coordinator.tick(context));
            self.take(effects);
        }
    }

    fn join_all(&mut self, of: Protocol, groups: usize, members: usize) -> Vec<Member> {
        let mut all = Vec::new();
        for group in 0..groups {
            let group = GroupId(StrBytes::from_string(format!("group-{group}")));
            let new = |id: String| Member { group: group.clone(), id: StrBytes::from_string(id), epoch: 0 };
            match of {
                Protocol::Classic => {
                    let some = (0..members).map(|_| new(String::new())).collect();
                    all.extend(self.generation(some));
                }
                Protocol::Consumer => {
                    let mut some: Vec<Member> = (0..members).map(|id| new(format!("m{id:04}"))).collect();
                    some.iter_mut().for_each(|member| self.follow(member));
                    self.settle(&mut some);
                    all.extend(some);
                }
            }
        }
        all
    }

    /// The last member leaves, all settle; another comes, all settle.
    fn leave_and_join(&mut self, of: Protocol, members: &mut Vec<Member>) {
        let mut last = members.pop().expect("a member");
        match of {
            Protocol::Classic => {
                let leaving = MemberIdentity::default().with_member_id(last.id);
                let request = LeaveGroupRequest::default()
                    .with_group_id(last.group.clone())
                    .with_members(vec![leaving]);
                self.ask(5, Body::Leave(request));
                *members = self.generation(std::mem::take(members));
                let new = Member { id: StrBytes::default(), group: last.group, epoch: 0 };
                // first, or the others would be a generation before it comes
                members.insert(0, new);
                *members = self.generation(std::mem::take(members));
            }
            Protocol::Consumer => {
                last.epoch = -1;
                self.follow(&mut last);
                self.settle(members);
                last.epoch = 0;
                self.follow(&mut last);
                members.push(last);
                self.settle(members);
            }
        }
    }

    /// All join, the first assigns, all are told.
    fn generation(&mut self, members: Vec<Member>) -> Vec<Member> {
        let joined: Vec<(Member, Ticket)> = (members.into_iter())
            .map(|mut member| {
                if member.id.is_empty() {
                    let ticket = self.send(9, join(&member));
                    member.id = self.joined(ticket).member_id;
                }
                let ticket = self.send(9, join(&member));
                (member, ticket)
            })
            .collect();
        // the wait for the first members, of no length, and once more because some have come
        self.pass(0);
        let mut told = Vec::with_capacity(joined.len());
        let members: Vec<Member> = joined
            .into_iter()
            .map(|(member, ticket)| {
                let joined = self.joined(ticket);
                let of_members = joined.members.iter().map(|member| {
                    corelane::protocol::messages::sync_group_request::SyncGroupRequestAssignment::default()
                        .with_member_id(member.member_id.clone())
                        .with_assignment(Bytes::from_static(&[7; 40]))
                });
                let request = SyncGroupRequest::default()
                    .with_group_id(member.group.clone())
                    .with_generation_id(joined.generation_id)
                    .with_member_id(member.id.clone())
                    .with_protocol_type(Some(StrBytes::from_static_str("consumer")))
                    .with_protocol_name(joined.protocol_name)
                    .with_assignments(of_members.collect());
                told.push(self.send(5, Body::Sync(Box::new(request))));
                Member { epoch: joined.generation_id, ..member }
            })
            .collect();
        for ticket in told {
            let Some(Reply::Sync(synced)) = self.replies.remove(&ticket) else { panic!("not synced") };
            assert_eq!(synced.error_code, 0);
        }
        members
    }

    fn joined(&mut self, ticket: Ticket) -> JoinGroupResponse {
        match self.replies.remove(&ticket) {
            Some(Reply::Join(joined)) => *joined,
            reply => panic!("{reply:?}"),
        }
    }

    /// Rounds of heartbeats, until nobody is told anything new.
    fn settle(&mut self, members: &mut [Member]) {
        // the next assignment may be made
        self.pass(1_000);
        loop {
            let before: Vec<i32> = members.iter().map(|member| member.epoch).collect();
            members.iter_mut().for_each(|member| self.follow(member));
            let epoch = members[0].epoch;
            if members.iter().zip(before).all(|(member, before)| (member.epoch, before) == (epoch, epoch)) {
                return;
            }
        }
    }

    /// A heartbeat; what it tells the member to have, the member has, and says so.
    fn follow(&mut self, member: &mut Member) {
        let told = self.consumer_beat(member, None);
        member.epoch = told.member_epoch;
        let mut told = told.assignment;
        while let Some(assignment) = told {
            let has = assignment.topic_partitions.iter().map(|of| {
                TopicPartitions::default().with_topic_id(of.topic_id).with_partitions(of.partitions.clone())
            });
            let answer = self.consumer_beat(member, Some(has.collect()));
            member.epoch = answer.member_epoch;
            told = answer.assignment.filter(|next| *next != assignment);
        }
    }

    fn consumer_beat(
        &mut self,
        member: &Member,
        has: Option<Vec<TopicPartitions>>,
    ) -> ConsumerGroupHeartbeatResponse {
        let mut request = member.request().with_topic_partitions(has);
        if member.epoch == 0 {
            request.rebalance_timeout_ms = REBALANCE_TIMEOUT_MS;
            request.subscribed_topic_names = Some(vec![TopicName(StrBytes::from_static_str("t"))]);
            request.topic_partitions = Some(Vec::new());
        }
        self.consumer_ask(request)
    }

    fn consumer_ask(&mut self, request: ConsumerGroupHeartbeatRequest) -> ConsumerGroupHeartbeatResponse {
        match self.ask(1, Body::ConsumerHeartbeat(Box::new(request))) {
            Reply::ConsumerHeartbeat(answer) if answer.error_code == 0 => *answer,
            reply => panic!("{reply:?}"),
        }
    }

    fn quiet_beat(&mut self, member: &Member) -> i32 {
        self.consumer_ask(member.request()).member_epoch
    }

    /// It says something, which is not new.
    fn talking_beat(&mut self, member: &Member) -> i32 {
        let request = member.request().with_rebalance_timeout_ms(REBALANCE_TIMEOUT_MS);
        self.consumer_ask(request).member_epoch
    }

    fn classic_beat(&mut self, member: &Member) -> i32 {
        let request = HeartbeatRequest::default()
            .with_group_id(member.group.clone())
            .with_generation_id(member.epoch)
            .with_member_id(member.id.clone());
        match self.ask(4, Body::Heartbeat(request)) {
            Reply::Heartbeat(answer) if answer.error_code == 0 => member.epoch,
            reply => panic!("{reply:?}"),
        }
    }
}

fn join(member: &Member) -> Body {
    let protocol = JoinGroupRequestProtocol::default()
        .with_name(StrBytes::from_static_str("range"))
        .with_metadata(Bytes::from_static(b"\0\0\0\0\0\x01\0\x01t\xff\xff\xff\xff"));
    let request = JoinGroupRequest::default()
        .with_group_id(member.group.clone())
        .with_session_timeout_ms(45_000)
        .with_rebalance_timeout_ms(REBALANCE_TIMEOUT_MS)
        .with_member_id(member.id.clone())
        .with_protocol_type(StrBytes::from_static_str("consumer"))
        .with_protocols(vec![protocol]);
    Body::Join(Box::new(request))
}

struct Counting;

static ALLOCATED: AtomicU64 = AtomicU64::new(0);

#[global_allocator]
static ALLOCATOR: Counting = Counting;

// SAFETY: every call goes to the system's allocator with the arguments it came with.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        ALLOCATED.fetch_add(1, Ordering::Relaxed);
        // SAFETY: the caller's promise is passed on.
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, memory: *mut u8, layout: Layout) {
        // SAFETY: the caller's promise is passed on.
        unsafe { System.dealloc(memory, layout) }
    }
}

//! A consumer group in the classic protocol: members join, one of them assigns, all of them beat and commit.
//!
//! The fetching is the engine's. Membership is a thread of its own with a connection for each member; a rebalance
//! during a run is not followed but told, since figures of a run that stood still would mean nothing.

use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};
use std::sync::mpsc;
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Result, ensure};
use kafka_protocol::messages::join_group_request::JoinGroupRequestProtocol;
use kafka_protocol::messages::leave_group_request::MemberIdentity;
use kafka_protocol::messages::offset_commit_request::{
    OffsetCommitRequestPartition, OffsetCommitRequestTopic,
};
use kafka_protocol::messages::sync_group_request::SyncGroupRequestAssignment;
use kafka_protocol::messages::{
    ApiKey, GroupId, HeartbeatRequest, HeartbeatResponse, JoinGroupRequest, JoinGroupResponse,
    LeaveGroupRequest, LeaveGroupResponse, OffsetCommitRequest, OffsetCommitResponse, SyncGroupRequest,
    SyncGroupResponse,
};
use kafka_protocol::protocol::StrBytes;

use crate::wire::assignment::{assigned, assignment, subscription};
use crate::wire::control::{Connection, Coordinated, Layout, name, string};
use crate::wire::{code, error_name};

const SESSION_TIMEOUT_MS: i32 = 30_000;
/// Shorter than an answer may take.
const REBALANCE_TIMEOUT_MS: i32 = 30_000;
const HEARTBEAT: Duration = Duration::from_secs(1);
const COMMIT: Duration = Duration::from_secs(5);
/// What a group may take until all its members are in one generation.
const SETTLE: Duration = Duration::from_secs(120);

pub struct Group {
    assignments: Vec<Vec<usize>>,
    /// Dropped to end the heart.
    alive: mpsc::Sender<()>,
    heart: thread::JoinHandle<Vec<String>>,
}

/// One member and what the group's last round gave it.
struct Member {
    connection: Connection,
    group: GroupId,
    id: StrBytes,
    generation: i32,
    slots: Vec<usize>,
}

impl Group {
    /// Joins with so many members and shares the layout's slots out among them. `positions`: of each slot, what is
    /// committed while the group lives.
    ///
    /// # Errors
    /// No coordinator, or a group that does not settle.
    pub fn join(
        bootstrap: &str,
        group: &str,
        members: usize,
        layout: &Arc<Layout>,
        positions: &Arc<[AtomicI64]>,
    ) -> Result<Group> {
        let coordinator = Connection::open(bootstrap)?.coordinator(Coordinated::Group(group))?;
        let mut joined: Vec<Member> = (0..members)
            .map(|_| {
                Ok(Member {
                    connection: Connection::open(&coordinator)?,
                    group: GroupId(string(group)),
                    id: StrBytes::default(),
                    generation: -1,
                    slots: Vec::new(),
                })
            })
            .collect::<Result<_>>()?;
        // JoinGroup answers when all have joined: each member waits on a thread of its own
        thread::scope(|scope| {
            let joining: Vec<_> =
                joined.iter_mut().map(|member| scope.spawn(|| member.settle(layout, members))).collect();
            joining.into_iter().try_for_each(|member| {
                member.join().map_err(|_| anyhow::anyhow!("a group member's thread panicked"))?
            })
        })?;
        let assignments = joined.iter().map(|member| member.slots.clone()).collect();
        let (alive, ended) = mpsc::channel();
        let (layout, positions) = (Arc::clone(layout), Arc::clone(positions));
        let heart = thread::Builder::new()
            .name("group".to_owned())
            .spawn(move || beat(&mut joined, &layout, &positions, &ended))?;
        Ok(Group { assignments, alive, heart })
    }

    /// The slots of each member.
    #[must_use]
    pub fn assignments(&self) -> &[Vec<usize>] {
        &self.assignments
    }

    /// Commits, leaves, and tells what went wrong meanwhile.
    #[must_use]
    pub fn leave(self) -> Vec<String> {
        drop(self.alive);
        self.heart.join().unwrap_or_else(|_| vec!["the group's thread panicked".to_owned()])
    }
}

impl Member {
    /// Joins again and again until the group is whole. A leader of too few assigns nothing, so that all of them join
    /// once more; a member of the whole group has a partition at least.
    fn settle(&mut self, layout: &Layout, members: usize) -> Result<()> {
        let deadline = Instant::now() + SETTLE;
        while self.slots.is_empty() {
            ensure!(Instant::now() < deadline, "the group does not settle: are other members in it?");
            self.round(layout, members)?;
        }
        Ok(())
    }

    /// Joins and syncs once.
    fn round(&mut self, layout: &Layout, members: usize) -> Result<()> {
        let deadline = Instant::now() + Duration::from_secs(60);
        let joined = loop {
            let protocol = JoinGroupRequestProtocol::default()
                .with_name(string("range"))
                .with_metadata(subscription(layout));
            let request = JoinGroupRequest::default()
                .with_group_id(self.group.clone())
                .with_session_timeout_ms(SESSION_TIMEOUT_MS)
                .with_rebalance_timeout_ms(REBALANCE_TIMEOUT_MS)
                .with_member_id(self.id.clone())
                .with_protocol_type(string("consumer"))
                .with_protocols(vec![protocol]);
            let joined: JoinGroupResponse = self.connection.ask(ApiKey::JoinGroup, &[5, 4, 2], &request)?;
            match joined.error_code {
                0 => break joined,
                code::MEMBER_ID_REQUIRED => self.id = joined.member_id,
                code::UNKNOWN_MEMBER_ID if Instant::now() < deadline => self.id = StrBytes::default(),
                code::COORDINATOR_LOAD_IN_PROGRESS | code::NOT_COORDINATOR if Instant::now() < deadline => {
                    thread::sleep(Duration::from_millis(100));
                }
                error => anyhow::bail!("JoinGroup answered {}", error_name(error)),
            }
        };
        self.id = joined.member_id;
        self.generation = joined.generation_id;
        let assign = |(place, member): (
            usize,
            &kafka_protocol::messages::join_group_response::JoinGroupResponseMember,
        )| {
            let slots: Vec<usize> = match joined.members.len() == members {
                true => (place..layout.slots.len()).step_by(members).collect(),
                false => Vec::new(),
            };
            SyncGroupRequestAssignment::default()
                .with_member_id(member.member_id.clone())
                .with_assignment(assignment(layout, &slots))
        };
        let request = SyncGroupRequest::default()
            .with_group_id(self.group.clone())
            .with_generation_id(self.generation)
            .with_member_id(self.id.clone())
            .with_assignments(joined.members.iter().enumerate().map(assign).collect());
        let synced: SyncGroupResponse = self.connection.ask(ApiKey::SyncGroup, &[3, 2, 1], &request)?;
        self.slots.clear();
        match synced.error_code {
            0 => self.slots = assigned(layout, &synced.assignment)?,
            // another member has come: once more
            code::REBALANCE_IN_PROGRESS | code::ILLEGAL_GENERATION | code::UNKNOWN_MEMBER_ID => {}
            error => anyhow::bail!("SyncGroup answered {}", error_name(error)),
        }
        Ok(())
    }

    fn beat(&mut self) -> Result<()> {
        let request = HeartbeatRequest::default()
            .with_group_id(self.group.clone())
            .with_generation_id(self.generation)
            .with_member_id(self.id.clone());
        let answer: HeartbeatResponse = self.connection.ask(ApiKey::Heartbeat, &[3, 2, 1], &request)?;
        ensure!(answer.error_code == 0, "Heartbeat answered {}", error_name(answer.error_code));
        Ok(())
    }

    fn commit(&mut self, layout: &Layout, positions: &[AtomicI64]) -> Result<()> {
        let topic_of = |slot: &usize| layout.slots[*slot].topic;
        let topics = self.slots.chunk_by(|a, b| topic_of(a) == topic_of(b)).map(|of_topic| {
            let partitions = of_topic.iter().filter_map(|slot| {
                let offset = positions[*slot].load(Ordering::Relaxed);
                let partition = layout.slots[*slot].partition;
                (offset >= 0).then(|| {
                    OffsetCommitRequestPartition::default()
                        .with_partition_index(partition)
                        .with_committed_offset(offset)
                })
            });
            OffsetCommitRequestTopic::default()
                .with_name(name(&layout.topics[topic_of(&of_topic[0])]))
                .with_partitions(partitions.collect())
        });
        let request = OffsetCommitRequest::default()
            .with_group_id(self.group.clone())
            .with_generation_id_or_member_epoch(self.generation)
            .with_member_id(self.id.clone())
            .with_topics(topics.filter(|topic| !topic.partitions.is_empty()).collect());
        let answer: OffsetCommitResponse = self.connection.ask(ApiKey::OffsetCommit, &[7, 6, 5], &request)?;
        let mut codes =
            answer.topics.iter().flat_map(|topic| &topic.partitions).map(|partition| partition.error_code);
        match codes.find(|code| *code != 0) {
            None => Ok(()),
            Some(code) => anyhow::bail!("OffsetCommit answered {}", error_name(code)),
        }
    }

    fn leave(&mut self) -> Result<()> {
        let member = MemberIdentity::default().with_member_id(self.id.clone());
        let request =
            LeaveGroupRequest::default().with_group_id(self.group.clone()).with_members(vec![member]);
        let answer: LeaveGroupResponse = self.connection.ask(ApiKey::LeaveGroup, &[3], &request)?;
        ensure!(answer.error_code == 0, "LeaveGroup answered {}", error_name(answer.error_code));
        Ok(())
    }
}

/// Heartbeats and commits until the group is left; what went wrong, each only once.
fn beat(
    members: &mut [Member],
    layout: &Layout,
    positions: &[AtomicI64],
    ended: &mpsc::Receiver<()>,
) -> Vec<String> {
    let mut wrong = Vec::new();
    let mut note = |result: Result<()>| {
        if let Err(error) = result {
            let text = format!("consumer group: {error:#}: the figures may be of a group that stood still");
            if !wrong.contains(&text) {
                wrong.push(text);
            }
        }
    };
    let mut committed = Instant::now();
    while ended.recv_timeout(HEARTBEAT) == Err(mpsc::RecvTimeoutError::Timeout) {
        let commits = committed.elapsed() >= COMMIT;
        for member in &mut *members {
            note(member.beat());
            if commits {
                note(member.commit(layout, positions));
            }
        }
        if commits {
            committed = Instant::now();
        }
    }
    for member in &mut *members {
        note(member.commit(layout, positions));
    }
    for member in members {
        note(member.leave());
    }
    wrong
}

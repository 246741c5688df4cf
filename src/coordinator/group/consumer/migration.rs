//! A group changes its protocol while it has members (group.consumer.migration.policy): to the consumer protocol with the first
//! member that uses it, back to the classic one when the last of those has gone.

use std::collections::BTreeSet;
use std::rc::Rc;

use super::classic::{Rebalance, by_id, embedded, support};
use super::log::FIRST_EPOCH;
use super::member::{Member, Owned, State, partitions};
use super::{ConsumerGroup, ErrorCode, Members, Partitions, Refusal};
use crate::coordinator::group::classic::{self, CONSUMER, ClassicGroup, Protocol, Terms};
use crate::coordinator::group::{Client, Group, Turn};
use crate::coordinator::record::{
    Assignment, GroupEpochValue, MemberValue, Record, Subscription, TargetEpochValue, TopicPartitions,
};
use crate::model::TopicId;

/// A classic group as one of the consumer protocol.
pub(super) struct Upgrade {
    pub group: ConsumerGroup,
    /// That make it, in Kafka's order.
    pub records: Vec<Record>,
}

/// What becomes of a classic group with members when one of the consumer protocol joins. Changes nothing.
pub(super) fn upgrade(turn: &Turn, classic: &ClassicGroup) -> Result<Upgrade, Refusal> {
    let refused = |reason: &str| {
        let message =
            format!("Cannot upgrade classic group {} to consumer group because {reason}.", turn.group);
        Err(Refusal::new(ErrorCode::GroupIdNotFound, message))
    };
    if !turn.settings.migration.upgrade {
        return refused("online upgrade is disabled");
    }
    if classic.protocol_type() != CONSUMER {
        return refused("the group does not use the consumer embedded protocol");
    }
    if classic.members().count() > turn.settings.consumer_max_size {
        return refused("the group size exceeds the consumer group maximum size");
    }
    // one that has had no generation yet begins like any other: epoch 0 is that of who is no member
    let epoch = classic.generation().max(FIRST_EPOCH);
    let mut known: Vec<(&classic::Member, Subscription, Partitions)> = Vec::new();
    for member in classic.members() {
        let assignment = match &member.assignment {
            bytes if bytes.is_empty() => Some(Assignment::default()),
            bytes => Assignment::decode(bytes),
        };
        // who has joined since the last vote may not have what was chosen then
        let chosen = classic
            .protocol()
            .and_then(|chosen| member.terms.protocols.iter().find(|protocol| *protocol.name == *chosen));
        let subscription = chosen
            .or_else(|| member.terms.protocols.first())
            .and_then(|protocol| Subscription::decode(&protocol.metadata));
        let (Some(assignment), Some(subscription)) = (assignment, subscription) else {
            return refused("the embedded consumer protocol is malformed");
        };
        if assignment.has_user_data {
            return refused("an unsupported custom assignor is in use");
        }
        known.push((member, subscription, by_id(turn.image, &assignment.partitions)));
    }
    keep_claimed(turn, &mut known);
    let members = known.into_iter().map(|(member, subscription, partitions)| {
        (member.id.to_string(), upgraded(member, epoch, subscription, &partitions), partitions)
    });
    Ok(Upgrade::of(turn, epoch, members.collect()))
}

/// Cooperative members read on what they said, when they joined, that they have: amid a rebalance, when the classic group has
/// forgotten its assignments, and after one that took something from them, until they have been told and have joined again
/// without it. It stays theirs so long, unless it was assigned to another. (Kafka takes it for free, and gives it to others.)
fn keep_claimed(turn: &Turn, known: &mut [(&classic::Member, Subscription, Partitions)]) {
    let pairs = |partitions: &Partitions| -> Vec<(TopicId, i32)> {
        let all = partitions.iter().flat_map(|(topic, all)| all.iter().map(|at| (*topic, *at)));
        all.collect()
    };
    let mut taken: BTreeSet<(TopicId, i32)> =
        known.iter().flat_map(|(_, _, partitions)| pairs(partitions)).collect();
    for (_, subscription, partitions) in known {
        for (topic, partition) in pairs(&by_id(turn.image, &subscription.owned)) {
            let exists = |count: usize| usize::try_from(partition).is_ok_and(|at| at < count);
            let is_there = turn.image.topic(topic).is_some_and(|topic| exists(topic.partitions.len()));
            if is_there && taken.insert((topic, partition)) {
                partitions.entry(topic).or_default().push(partition);
            }
        }
    }
}

/// It has what it had, since this epoch.
fn upgraded(
    member: &classic::Member,
    epoch: i32,
    subscription: Subscription,
    partitions: &Partitions,
) -> Member {
    let mut topics = subscription.topics;
    topics.sort_unstable();
    topics.dedup();
    let about = MemberValue {
        instance: member.instance.as_deref().map(str::to_owned),
        rack: subscription.rack,
        client_id: member.client.id.clone(),
        client_host: member.client.host.clone(),
        topics,
        regex: Some(String::new()),
        rebalance_timeout_ms: member.terms.rebalance_timeout_ms,
        assignor: None,
        classic: Some(support(member.terms.clone())),
    };
    let assigned = partitions.iter().map(|(topic, partitions)| {
        (*topic, partitions.iter().map(|partition| (*partition, epoch)).collect())
    });
    let assigned = assigned.collect();
    Member { about, epoch, previous_epoch: epoch, state: State::Stable, assigned, revoking: Owned::new() }
}

impl Upgrade {
    fn of(turn: &Turn, epoch: i32, members: Vec<(String, Member, Partitions)>) -> Upgrade {
        let mut upgrade = Upgrade { group: ConsumerGroup::new(), records: Vec::new() };
        let group = turn.group.to_string();
        for (member, state, _) in &members {
            let (member, value) = (member.clone(), Some(state.about.clone()));
            upgrade.push(Record::ConsumerMember { group: group.clone(), member, value });
        }
        // of no topics, so that there is another target soon: who has joined since the last one was given nothing, and the
        // member that changes the group may not subscribe to anything itself
        upgrade.group.is_stale = true;
        let value = Some(GroupEpochValue { epoch, metadata_hash: 0 });
        upgrade.push(Record::ConsumerGroup { group: group.clone(), value });
        for (member, _, target) in &members {
            let target = target
                .iter()
                .map(|(topic, partitions)| TopicPartitions { topic: *topic, partitions: partitions.clone() });
            let (member, value) = (member.clone(), Some(target.collect()));
            upgrade.push(Record::TargetMember { group: group.clone(), member, value });
        }
        let value = Some(TargetEpochValue { epoch, timestamp: 0 });
        upgrade.push(Record::TargetEpoch { group: group.clone(), value });
        for (member, state, _) in members {
            let value = Some(state.current());
            upgrade.push(Record::CurrentAssignment { group: group.clone(), member, value });
        }
        upgrade
    }

    fn push(&mut self, record: Record) {
        self.group.replay(record.clone());
        self.records.push(record);
    }

    /// The classic group ends; its members are told to join again.
    pub fn perform(self, turn: &mut Turn, classic: &mut ClassicGroup) -> ConsumerGroup {
        classic.release(turn, ErrorCode::RebalanceInProgress);
        classic.remove(turn);
        self.records.into_iter().for_each(|record| turn.record(record));
        for (id, member) in &self.group.members {
            self.group.set_session_timer(turn, id, member);
        }
        self.group
    }
}

impl ConsumerGroup {
    /// All who stay when these leave use the classic protocol, and may go on with it alone.
    pub fn may_downgrade_without(&self, turn: &Turn, leaving: &[Rc<str>]) -> bool {
        let leaving_classic = leaving.iter().filter(|id| self.members[*id].uses_classic_protocol()).count();
        let staying = self.members.len() - leaving.len();
        let staying_classic = self.index.classic_members - leaving_classic;
        staying > 0 && staying == staying_classic && self.is_downgrade_allowed(turn, staying)
    }

    /// The last member of the consumer protocol is replaced by one of the classic protocol.
    pub fn may_downgrade_with(&self, turn: &Turn, replaced: &str) -> bool {
        let (count, classic) = (self.members.len(), self.index.classic_members);
        classic + 1 == count
            && !self.members[replaced].uses_classic_protocol()
            && self.is_downgrade_allowed(turn, count)
    }

    /// All others have what they are to have.
    pub fn have_targets(&self, but: &str) -> bool {
        let mut others = self.members.iter().filter(|(id, _)| ***id != *but);
        others.all(|(_, member)| member.epoch == self.target_epoch() && member.state == State::Stable)
    }

    fn is_downgrade_allowed(&self, turn: &Turn, count: usize) -> bool {
        turn.settings.migration.downgrade && count <= turn.settings.max_size
    }
}

/// All members but those who leave use the classic protocol: the group goes on as a classic one, in the generation of its
/// epoch, with what the members have as their assignments. (Kafka takes their targets, some of which others still have: one
/// of these reads on what another is given, and an upgrade amid the rebalance would forget who has what.)
pub(super) fn downgrade(group: &mut Group, turn: &mut Turn, leaving: &[Rc<str>], rebalance: Rebalance) {
    let Members::Consumer(members) = &mut group.members else { return };
    let staying = members.members.iter().filter(|(id, _)| !leaving.contains(id));
    let mut classic = ClassicGroup::of_members(
        members.epoch(),
        CONSUMER.to_owned(),
        staying.map(|(id, member)| downgraded(turn, id, member)),
    );
    members.remove(turn);
    classic.write(turn);
    classic.loaded(turn);
    if rebalance == Rebalance::Now {
        classic.rebalance(turn);
    }
    group.members = Members::Classic(classic);
}

fn downgraded(turn: &Turn, id: &Rc<str>, member: &Member) -> classic::Member {
    let about = &member.about;
    let support = about.classic.iter();
    let protocols: Vec<Protocol> = (support.clone().flat_map(|support| &support.protocols))
        .map(|protocol| Protocol {
            name: Rc::from(protocol.name.as_str()),
            metadata: protocol.metadata.clone(),
        })
        .collect();
    let terms = Terms {
        rebalance_timeout_ms: about.rebalance_timeout_ms,
        session_timeout_ms: support.map(|support| support.session_timeout_ms).next().unwrap_or(0),
        protocols,
    };
    let client = Client { id: about.client_id.clone(), host: about.client_host.clone() };
    let subscription = terms.protocols.first().map(|protocol| protocol.metadata.clone()).unwrap_or_default();
    let instance = about.instance.as_deref().map(Rc::from);
    let mut downgraded = classic::Member::new(Rc::clone(id), instance, client, terms);
    let mut has = partitions(&member.assigned);
    for (topic, revoking) in &member.revoking {
        let of_topic = has.entry(*topic).or_default();
        of_topic.extend(revoking.keys());
        of_topic.sort_unstable();
    }
    downgraded.assignment = embedded(turn.image, &subscription, &has);
    downgraded
}

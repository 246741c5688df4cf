//! What of a group is in the log, and how it comes back from there.

use std::rc::Rc;

use super::{ClassicGroup, Client, Member, Protocol, State, Terms, Turn};
use crate::coordinator::record::{ClassicGroupValue, ClassicMemberValue, Record};
use crate::model::ErrorCode;

impl ClassicGroup {
    pub fn replayed(value: ClassicGroupValue) -> ClassicGroup {
        let protocol: Option<Rc<str>> = value.protocol.as_deref().map(Rc::from);
        // members have to have one in common
        let name = protocol.clone().unwrap_or_else(|| Rc::from(""));
        let members = value.members.into_iter().map(|member| {
            let rebalance_timeout_ms = match member.rebalance_timeout_ms {
                -1 => member.session_timeout_ms,
                timeout => timeout,
            };
            let protocols = vec![Protocol { name: Rc::clone(&name), metadata: member.subscription }];
            let terms =
                Terms { rebalance_timeout_ms, session_timeout_ms: member.session_timeout_ms, protocols };
            let client = Client { id: member.client_id, host: member.client_host };
            let instance = member.instance.map(Rc::from);
            let loaded = Member::new(Rc::from(member.member), instance, client, terms);
            Member { assignment: member.assignment, ..loaded }
        });
        let mut group = ClassicGroup::of_members(value.generation, value.protocol_type, members);
        group.protocol = protocol;
        group.leader = value.leader.map(Rc::from);
        group.since = (value.state_timestamp != -1).then_some(value.state_timestamp);
        group.subscribed = group.subscribed_topics();
        group.is_logged = true;
        group
    }

    /// Stable, or without members Empty; the first member leads. Its timers begin with [`Self::loaded`], and it is not in the
    /// log before [`Self::write`].
    pub fn of_members(
        generation: i32,
        protocol_type: String,
        members: impl Iterator<Item = Member>,
    ) -> ClassicGroup {
        let mut group = ClassicGroup::new();
        members.for_each(|member| group.roster.add(member));
        group.generation = generation;
        group.protocol_type = Some(protocol_type).filter(|protocol_type| !protocol_type.is_empty());
        group.protocol = group.roster.vote();
        group.leader = group.roster.first().map(Rc::clone);
        group.state = if group.roster.is_empty() { State::Empty } else { State::Stable };
        group.subscribed = group.subscribed_topics();
        group
    }

    /// The log was replayed: timers begin. Members of a group that is larger than it may be join again, which not all of
    /// them then can.
    pub fn loaded(&mut self, turn: &mut Turn) {
        for member in self.roster.iter() {
            self.touch(turn, &member.id);
        }
        if self.roster.len() > turn.settings.max_size {
            self.rebalance(turn);
        }
    }

    /// Nothing of it is left, in the log or here.
    pub fn is_gone(&self) -> bool {
        !self.is_logged && self.state == State::Empty && self.pending.is_empty()
    }

    /// Takes an empty group out of the log; who was about to join it has to begin anew.
    pub fn remove(&mut self, turn: &mut Turn) {
        self.release(turn, ErrorCode::UnknownMemberId);
        if self.is_logged {
            turn.record(Record::ClassicGroup { group: turn.group.to_string(), value: None });
        }
        *self = ClassicGroup::new();
    }

    /// Writes the group as it is.
    pub fn write(&mut self, turn: &mut Turn) {
        self.is_logged = true;
        turn.record(Record::ClassicGroup { group: turn.group.to_string(), value: Some(self.value()) });
    }

    fn value(&self) -> ClassicGroupValue {
        let protocol = self.protocol.as_deref().unwrap_or_default();
        let members = self.roster.iter().map(|member| ClassicMemberValue {
            member: member.id.to_string(),
            instance: member.instance.as_deref().map(str::to_owned),
            client_id: member.client.id.clone(),
            client_host: member.client.host.clone(),
            rebalance_timeout_ms: member.terms.rebalance_timeout_ms,
            session_timeout_ms: member.terms.session_timeout_ms,
            subscription: member.metadata(protocol),
            assignment: member.assignment.clone(),
        });
        ClassicGroupValue {
            protocol_type: self.protocol_type().to_owned(),
            generation: self.generation,
            protocol: self.protocol.as_deref().map(str::to_owned),
            leader: self.leader.as_deref().map(str::to_owned),
            state_timestamp: self.since.unwrap_or(-1),
            members: members.collect(),
        }
    }

    /// What the log holds of it, in the states in which it is what the log holds; whether the log holds anything.
    #[cfg(test)]
    pub fn durable(&self) -> (bool, Option<ClassicGroupValue>) {
        let is_settled = self.is_logged && matches!(self.state, State::Stable | State::Empty);
        (self.is_logged, is_settled.then(|| self.value()))
    }
}

//! From one generation to the next: who is waited for and how long, and who goes.

use std::rc::Rc;

use super::{ClassicGroup, Due, Reply, State, Turn, join, sync, text};
use crate::model::ErrorCode;

/// An empty group's first members usually come together: the first rebalance waits for the others, anew when some have
/// come, but no longer than the first one's rebalance timeout.
#[derive(Debug)]
pub(super) struct InitialDelay {
    /// Of the wait that is on, milliseconds.
    delay_ms: u64,
    /// By how much it may still be put off when that is over, milliseconds.
    remaining_ms: u64,
    /// Somebody has come since.
    pub(super) has_new_member: bool,
}

impl ClassicGroup {
    /// A member has come, gone, or changed.
    pub fn rebalance(&mut self, turn: &mut Turn) {
        if self.state == State::PreparingRebalance {
            self.join_if_all_are_here(turn);
        } else {
            self.prepare_rebalance(turn);
        }
    }

    fn prepare_rebalance(&mut self, turn: &mut Turn) {
        if self.state == State::CompletingRebalance {
            for member in self.roster.iter_mut() {
                member.assignment.clear();
            }
            self.answer_syncs(turn, ErrorCode::RebalanceInProgress);
        }
        self.unsynced.clear();
        turn.cancel_timer(Due::Sync);
        let was_empty = self.state == State::Empty;
        self.enter(turn, State::PreparingRebalance);
        if was_empty {
            let delay_ms = turn.settings.initial_rebalance_delay_ms;
            let remaining_ms = self.roster.rebalance_timeout_ms().saturating_sub(delay_ms);
            self.initial = Some(InitialDelay { delay_ms, remaining_ms, has_new_member: false });
            turn.set_timer(Due::Join, delay_ms);
        } else if self.are_all_here() {
            self.complete_join(turn);
        } else {
            turn.set_timer(Due::Join, self.roster.rebalance_timeout_ms());
        }
    }

    fn are_all_here(&self) -> bool {
        self.roster.joining() == self.roster.len() && self.pending.is_empty()
    }

    /// Ends the wait for members to join, unless it is the one for the first members, which has its own time.
    pub(super) fn join_if_all_are_here(&mut self, turn: &mut Turn) {
        if self.state == State::PreparingRebalance && self.initial.is_none() && self.are_all_here() {
            self.complete_join(turn);
        }
    }

    pub(super) fn join_is_due(&mut self, turn: &mut Turn) {
        if self.state != State::PreparingRebalance {
            return;
        }
        if let Some(initial) = &mut self.initial
            && initial.has_new_member
            && initial.remaining_ms > 0
        {
            let delay_ms = turn.settings.initial_rebalance_delay_ms.min(initial.remaining_ms);
            *initial = InitialDelay {
                delay_ms,
                remaining_ms: initial.remaining_ms.saturating_sub(initial.delay_ms),
                has_new_member: false,
            };
            return turn.set_timer(Due::Join, delay_ms);
        }
        self.complete_join(turn);
    }

    /// The next generation: those who wait, and the static members, who may be away for as long as their session.
    fn complete_join(&mut self, turn: &mut Turn) {
        turn.cancel_timer(Due::Join);
        self.initial = None;
        let absent =
            self.roster.iter().filter(|member| member.joining.is_none() && member.instance.is_none());
        let absent: Vec<Rc<str>> = absent.map(|member| Rc::clone(&member.id)).collect();
        for id in absent {
            self.remove_member(turn, &id);
        }
        if !self.roster.is_empty() && self.roster.joining() == 0 {
            // static members only: one of them comes, or their sessions end
            return turn.set_timer(Due::Join, self.roster.rebalance_timeout_ms());
        }
        self.elect_leader();
        self.generation = self.generation.checked_add(1).unwrap_or(1);
        self.protocol = self.roster.vote();
        self.subscribed = self.subscribed_topics();
        if self.roster.is_empty() {
            self.enter(turn, State::Empty);
            return self.write(turn);
        }
        self.enter(turn, State::CompletingRebalance);
        self.answer_joins(turn);
        turn.set_timer(Due::Sync, self.roster.rebalance_timeout_ms());
    }

    /// One who waits; the one who was it, if possible.
    fn elect_leader(&mut self) {
        let leader = self.leader.as_ref().and_then(|leader| self.roster.get(leader));
        if leader.is_none_or(|leader| leader.joining.is_none()) {
            let joining = self.roster.iter().find(|member| member.joining.is_some());
            self.leader = joining.map(|member| Rc::clone(&member.id));
        }
    }

    fn answer_joins(&mut self, turn: &mut Turn) {
        let mut all_joined = Some(self.all_joined());
        let ids: Vec<Rc<str>> = self.roster.iter().map(|member| Rc::clone(&member.id)).collect();
        let response = self.joined("");
        for id in ids {
            if let Some(ticket) = self.roster.take_joining(&id) {
                let mut response = response.clone().with_member_id(text(&id));
                if self.leader.as_ref() == Some(&id) {
                    response.members = all_joined.take().unwrap_or_default();
                }
                turn.reply(ticket, Reply::Join(Box::new(response)));
            }
            if let Some(member) = self.roster.get_mut(&id) {
                member.is_new = false;
            }
            self.touch(turn, &id);
            self.unsynced.insert(id);
        }
    }

    /// The members that should have asked for their assignment by now go; the others join again.
    pub(super) fn sync_is_due(&mut self, turn: &mut Turn) {
        let is_joined = matches!(self.state, State::CompletingRebalance | State::Stable);
        if !is_joined || self.unsynced.is_empty() {
            return;
        }
        for id in std::mem::take(&mut self.unsynced) {
            self.remove_member(turn, &id);
        }
        self.prepare_rebalance(turn);
    }

    /// Nothing was heard of a member, or of one that was to be. Who waits for an answer is alive, unless it never had one.
    pub(super) fn session_is_over(&mut self, turn: &mut Turn, id: &str) {
        if self.forget_pending(turn, id) {
            return self.join_if_all_are_here(turn);
        }
        let Some(member) = self.roster.get(id) else { return };
        let is_waiting = member.joining.is_some() || member.syncing.is_some();
        if member.is_new || !is_waiting {
            self.remove_member(turn, id);
            self.rebalance(turn);
        }
    }

    /// The member was heard: its session begins anew.
    pub(super) fn touch(&self, turn: &mut Turn, id: &str) {
        if let Some(member) = self.roster.get(id) {
            turn.set_timer(Due::Session(Rc::clone(&member.id)), member.session_timeout_ms());
        }
    }

    /// Whether there was one.
    pub(super) fn forget_pending(&mut self, turn: &mut Turn, id: &str) -> bool {
        let Some(id) = self.pending.take(id) else { return false };
        turn.cancel_timer(Due::Session(id));
        true
    }

    /// Answers what the member waits for; what becomes of the group is for the caller to decide.
    pub(super) fn remove_member(&mut self, turn: &mut Turn, id: &str) {
        let Some(member) = self.roster.remove(id) else { return };
        self.unsynced.remove(id);
        if self.leader.as_ref() == Some(&member.id) {
            self.leader = self.roster.first().map(Rc::clone);
        }
        if let Some(ticket) = member.joining {
            join::refuse(turn, ticket, "", ErrorCode::UnknownMemberId);
        }
        if let Some(ticket) = member.syncing {
            sync::refuse(turn, ticket, ErrorCode::UnknownMemberId);
        }
        turn.cancel_timer(Due::Session(member.id));
    }

    /// Answers all who wait with this error and ends all timers: the group is about to be removed or to become another one.
    pub fn release(&mut self, turn: &mut Turn, error: ErrorCode) {
        let ids: Vec<Rc<str>> = self.roster.iter().map(|member| Rc::clone(&member.id)).collect();
        for id in ids {
            if let Some(ticket) = self.roster.take_joining(&id) {
                join::refuse(turn, ticket, &id, error);
            }
            turn.cancel_timer(Due::Session(id));
        }
        self.answer_syncs(turn, error);
        for id in self.pending.drain() {
            turn.cancel_timer(Due::Session(id));
        }
        turn.cancel_timer(Due::Join);
        turn.cancel_timer(Due::Sync);
    }
}

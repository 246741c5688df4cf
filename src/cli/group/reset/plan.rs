//! Which offset a partition gets. As Kafka's tool has it: what is asked for by number is kept inside the log, what a log
//! has nothing for becomes its end.

use std::fmt;

/// Where a group is to read on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Goal {
    Earliest,
    Latest,
    Offset(i64),
    /// So many from what is committed.
    Shift(i64),
    /// The first record that is not older; [`Known::found`] has it.
    Time,
    /// What is committed.
    Current,
}

/// What is known of a partition.
#[derive(Clone, Copy, Debug)]
pub(super) struct Known {
    pub(super) committed: Option<i64>,
    pub(super) start: i64,
    pub(super) end: i64,
    /// For [`Goal::Time`]; `None`: no record is so new.
    pub(super) found: Option<i64>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Planned {
    pub(super) offset: i64,
    pub(super) note: Option<Note>,
}

/// Why an offset is not what was asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Note {
    BeforeStart(i64),
    BehindEnd(i64),
    NothingSoNew,
    NothingCommitted,
}

impl fmt::Display for Note {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Note::BeforeStart(asked) => write!(f, "{asked} is before the start, which is taken"),
            Note::BehindEnd(asked) => write!(f, "{asked} is behind the end, which is taken"),
            Note::NothingSoNew => f.write_str("no record is so new: the end"),
            Note::NothingCommitted => f.write_str("nothing is committed: the end"),
        }
    }
}

/// `None`: to be shifted, something must have been committed.
pub(super) fn plan(goal: Goal, known: &Known) -> Option<Planned> {
    let exactly = |offset| Planned { offset, note: None };
    let at_end = |note| Planned { offset: known.end, note: Some(note) };
    Some(match goal {
        Goal::Earliest => exactly(known.start),
        Goal::Latest => exactly(known.end),
        Goal::Offset(offset) => inside(offset, known),
        Goal::Shift(by) => inside(known.committed?.saturating_add(by), known),
        Goal::Time => known.found.map_or_else(|| at_end(Note::NothingSoNew), exactly),
        // also where the log has moved away from it
        Goal::Current => known.committed.map_or_else(|| at_end(Note::NothingCommitted), exactly),
    })
}

fn inside(asked: i64, known: &Known) -> Planned {
    match asked {
        _ if asked > known.end => Planned { offset: known.end, note: Some(Note::BehindEnd(asked)) },
        _ if asked < known.start => Planned { offset: known.start, note: Some(Note::BeforeStart(asked)) },
        _ => Planned { offset: asked, note: None },
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_goal_of_a_log_that_goes_from_10_to_50() {
        let check = |goal, committed, found, expect: Option<(i64, Option<Note>)>| {
            let known = Known { committed, start: 10, end: 50, found };
            let expect = expect.map(|(offset, note)| Planned { offset, note });
            assert_eq!(plan(goal, &known), expect, "{goal:?} {known:?}");
        };
        for committed in [None, Some(30)] {
            check(Goal::Earliest, committed, None, Some((10, None)));
            check(Goal::Latest, committed, None, Some((50, None)));
            check(Goal::Offset(10), committed, None, Some((10, None)));
            check(Goal::Offset(50), committed, None, Some((50, None)));
            check(Goal::Offset(9), committed, None, Some((10, Some(Note::BeforeStart(9)))));
            check(Goal::Offset(51), committed, None, Some((50, Some(Note::BehindEnd(51)))));
            check(Goal::Time, committed, Some(33), Some((33, None)));
            check(Goal::Time, committed, None, Some((50, Some(Note::NothingSoNew))));
        }
        check(Goal::Shift(-5), Some(30), None, Some((25, None)));
        check(Goal::Shift(5), Some(30), None, Some((35, None)));
        check(Goal::Shift(-21), Some(30), None, Some((10, Some(Note::BeforeStart(9)))));
        check(Goal::Shift(i64::MAX), Some(30), None, Some((50, Some(Note::BehindEnd(i64::MAX)))));
        check(Goal::Shift(5), None, None, None);
        check(Goal::Current, Some(30), None, Some((30, None)));
        check(Goal::Current, Some(3), None, Some((3, None)));
        check(Goal::Current, None, None, Some((50, Some(Note::NothingCommitted))));
    }
}

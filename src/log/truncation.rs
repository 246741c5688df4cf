//! The file that says that a log is being truncated: it is durable before anything is cut, and goes when the cut is, so a
//! crash in between is followed by the rest of the cut at the next start. In the partition's folder, [`TRUNCATION`]; ours,
//! Kafka has none.
//!
//! Text: version and number of lines as in Kafka's checkpoints, then `cut` or `restart`, log start, new end, base and length
//! of the last segment that keeps something (-1 for none).
//!
//! [`TRUNCATION`]: super::files::TRUNCATION

use super::Damage;
use super::checkpoint::checkpoint_lines;
use crate::model::Offset;

/// What is cut.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Truncation {
    /// The log start afterwards.
    pub start: Offset,
    /// Exclusive end of what stays: a new, empty segment begins here.
    pub end: Offset,
    /// Base of the last segment that stays and how much of its file does; `None` if none does.
    pub last: Option<(Offset, u64)>,
    pub kind: Kind,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// The end is cut off; what is known of producers and leader epochs below it stays.
    Cut,
    /// The log begins anew, at `start`, which is `end`, too.
    Restart,
}

impl Truncation {
    #[must_use]
    pub fn encode(&self) -> String {
        let kind = match self.kind {
            Kind::Cut => "cut",
            Kind::Restart => "restart",
        };
        let (base, bytes) = self.last.map_or((-1, 0), |(base, bytes)| (base.0, bytes));
        format!("0\n1\n{kind} {} {} {base} {bytes}\n", self.start, self.end)
    }

    /// # Errors
    /// It is no such text.
    pub fn decode(text: &str) -> Result<Truncation, Damage> {
        let damage = || Damage(format!("malformed truncation: {text:?}"));
        let lines = checkpoint_lines(text)?;
        let [line] = lines[..] else { return Err(damage()) };
        let [kind, start, end, base, bytes] = line.split(' ').collect::<Vec<_>>()[..] else {
            return Err(damage());
        };
        let kind = match kind {
            "cut" => Kind::Cut,
            "restart" => Kind::Restart,
            _ => return Err(damage()),
        };
        let offset = |field: &str| field.parse().map(Offset).map_err(|_| damage());
        let (start, end, base) = (offset(start)?, offset(end)?, offset(base)?);
        let bytes = bytes.parse().map_err(|_| damage())?;
        let last = (base >= Offset::ZERO).then_some((base, bytes));
        let is_ordered = Offset::ZERO <= start && start <= end && last.is_none_or(|(base, _)| base < end);
        if !is_ordered || (kind == Kind::Restart && (start != end || last.is_some())) {
            return Err(damage());
        }
        Ok(Truncation { start, end, last, kind })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_written_is_read_again_and_nothing_else() {
        let cut =
            |start, end, last| Truncation { start: Offset(start), end: Offset(end), last, kind: Kind::Cut };
        let all = [
            cut(100, 120, Some((Offset(100), 4_711))),
            cut(3, 120, Some((Offset(0), 0))),
            cut(0, 0, None),
            Truncation { kind: Kind::Restart, ..cut(7, 7, None) },
        ];
        for truncation in all {
            let text = truncation.encode();
            assert_eq!(Truncation::decode(&text), Ok(truncation));
        }
        let hostile = [
            "",
            "0",
            "0\n0\n",
            "1\n1\ncut 0 1 0 5\n",
            "0\n1\ncut 0 1 0\n",
            "0\n1\ncut 0 1 0 \n",
            "0\n1\ncut 0 1 0 5 6\n",
            "0\n1\nburn 0 1 0 5\n",
            "0\n1\ncut -5 1 -1 0\n",
            "0\n1\ncut 6 5 -1 0\n",
            "0\n1\ncut 0 5 5 10\n",
            "0\n1\ncut 0 5 3 -10\n",
            "0\n1\nrestart 4 5 -1 0\n",
            "0\n1\nrestart 5 5 3 10\n",
            "0\n1\ncut 0 9223372036854775808 -1 0\n",
            "0\n2\ncut 0 5 3 10\ncut 0 6 3 10\n",
        ];
        for text in hostile {
            assert!(Truncation::decode(text).is_err(), "{text:?}");
        }
    }
}

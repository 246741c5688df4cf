//! The file `quorum-state` beside the metadata log: what this node has promised in elections, and who votes. (Kafka's
//! file of that name says the same in JSON.)

use std::collections::BTreeMap;
use std::fmt::Write as _;

use crate::model::BrokerId;

pub(super) const FILE: &str = "quorum-state";

const VERSION: &str = "1";

/// Durable before anybody is told.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct QuorumState {
    pub term: u64,
    /// Whom this node has voted for in that term.
    pub vote: Option<BrokerId>,
    pub voters: Vec<BrokerId>,
}

impl QuorumState {
    #[must_use]
    pub fn encode(&self) -> String {
        let voters: Vec<String> = self.voters.iter().map(|voter| voter.0.to_string()).collect();
        let mut text = format!("version={VERSION}\nterm={}\nvoters={}\n", self.term, voters.join(","));
        if let Some(vote) = self.vote {
            writeln!(text, "vote={}", vote.0).expect("a String takes everything");
        }
        text
    }

    /// # Errors
    /// What is wrong.
    pub fn decode(text: &str) -> Result<QuorumState, String> {
        let fields: BTreeMap<&str, &str> = text.lines().filter_map(|line| line.split_once('=')).collect();
        let field = |name: &str| fields.get(name).copied().ok_or_else(|| format!("it has no {name}"));
        let version = field("version")?;
        if version != VERSION {
            return Err(format!("its version is {version:?}"));
        }
        let broker = |id: &str| id.parse().map(BrokerId).map_err(|_| format!("{id:?} is no broker's id"));
        let term = field("term")?;
        Ok(QuorumState {
            term: term.parse().map_err(|_| format!("{term:?} is no term"))?,
            vote: fields.get("vote").map(|id| broker(id)).transpose()?,
            voters: field("voters")?.split(',').map(broker).collect::<Result<_, _>>()?,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_comes_back() {
        for vote in [None, Some(BrokerId(0))] {
            let state = QuorumState { term: 7, vote, voters: vec![BrokerId(0), BrokerId(12)] };
            assert_eq!(QuorumState::decode(&state.encode()), Ok(state));
        }
    }

    #[test]
    fn what_is_wrong_is_said() {
        let wrong = |text: &str, what: &str| {
            assert_eq!(QuorumState::decode(text), Err(what.to_owned()), "{text:?}");
        };
        wrong("", "it has no version");
        wrong("version=2\nterm=1\nvoters=1\n", "its version is \"2\"");
        wrong("version=1\nvoters=1\n", "it has no term");
        wrong("version=1\nterm=x\nvoters=1\n", "\"x\" is no term");
        wrong("version=1\nterm=1\nvoters=\n", "\"\" is no broker's id");
        wrong("version=1\nterm=1\nvoters=1\nvote=me\n", "\"me\" is no broker's id");
    }
}

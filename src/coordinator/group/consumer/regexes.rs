//! Topics that members name by a regular expression. An expression is looked at when the first member comes with it, when there
//! are other topics, and every group.consumer.regex.refresh.interval.ms; what it meant is in the log.

use regex::Regex;

use super::ConsumerGroup;
use crate::coordinator::group::{Due, Turn};
use crate::coordinator::pattern::compile;
use crate::coordinator::record::RegexValue;
use crate::metadata::Image;

/// A group's expressions are looked at because of other topics so often at most, milliseconds.
const REFRESH_INTERVAL_MS_MIN: u64 = 10_000;

fn matching(regex: &Regex, image: &Image) -> Vec<String> {
    let names = image.topics().map(|topic| &topic.name);
    names.filter(|name| regex.is_match(name)).cloned().collect()
}

impl ConsumerGroup {
    /// A member has come to one expression (which is valid) or has left one.
    pub fn follow_regexes(&mut self, turn: &mut Turn, left: Option<&str>, joined: Option<&str>) {
        if let Some(left) = left
            && self.regexes.contains_key(left)
            && !self.index.regexes.contains_key(left)
        {
            self.write_regex(turn, left, None);
        }
        if let Some(joined) = joined
            && !self.regexes.contains_key(joined)
        {
            self.resolve(turn, joined);
        }
        self.set_regex_timer(turn);
    }

    fn resolve(&mut self, turn: &mut Turn, regex: &str) {
        // what was valid once, for another broker, may be none here: it means no topic
        let topics = compile(regex).map_or_else(|_| Vec::new(), |regex| matching(&regex, turn.image));
        // Kafka keeps an offset of its metadata log there and looks at the topics again if that has grown
        let value = RegexValue { topics, version: 0, timestamp: turn.now.wall };
        self.write_regex(turn, regex, Some(value));
    }

    /// All expressions are looked at again.
    pub fn refresh_regexes(&mut self, turn: &mut Turn) {
        let before: Vec<Vec<String>> = self.regexes.values().map(|value| value.topics.clone()).collect();
        for regex in self.index.regexes.keys().cloned().collect::<Vec<_>>() {
            self.resolve(turn, &regex);
        }
        let has_changed = !self.regexes.values().map(|value| &value.topics).eq(before.iter());
        self.are_regexes_stale = false;
        self.follow_topics(turn, has_changed);
        self.set_regex_timer(turn);
    }

    /// When the next look is due: soon, if topics have come or gone.
    pub fn set_regex_timer(&self, turn: &mut Turn) {
        let looks = self.regexes.values().map(|value| value.timestamp);
        let due = if self.are_regexes_stale {
            looks.max().map(|last| (last, REFRESH_INTERVAL_MS_MIN))
        } else {
            looks.min().map(|last| (last, turn.settings.consumer_regex_refresh_interval_ms))
        };
        match due {
            Some((last, interval)) => turn.set_timer(Due::Regexes, remaining(turn, last, interval)),
            None => turn.cancel_timer(Due::Regexes),
        }
    }
}

/// Milliseconds until `interval` after `last`.
fn remaining(turn: &Turn, last: i64, interval: u64) -> u64 {
    u64::try_from(turn.now.wall.saturating_sub(last)).map_or(interval, |age| interval.saturating_sub(age))
}

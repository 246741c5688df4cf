//! Where reading begins: `--from`.

use std::collections::BTreeMap;
use std::str::FromStr;

use crate::cli::client::{Client, EARLIEST, LATEST};
use crate::cli::time;

#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Begin {
    Beginning,
    End,
    Offset(i64),
    /// So many before the end.
    Last(i64),
    /// Milliseconds since 1970.
    Time(i64),
    /// Milliseconds before now.
    Ago(i64),
}

impl FromStr for Begin {
    type Err = String;

    fn from_str(text: &str) -> Result<Begin, String> {
        let signed = |count: u128| i64::try_from(count).ok();
        let found = match text {
            "beginning" => Some(Begin::Beginning),
            "end" => Some(Begin::End),
            _ => {
                let offset = || Some(Begin::Offset(signed(text.parse().ok()?)?));
                let last = || {
                    let count = text.strip_prefix('-')?.parse().ok().filter(|count: &i64| *count > 0)?;
                    Some(Begin::Last(count))
                };
                let time = || Some(Begin::Time(time::parse(text)?));
                let ago = || Some(Begin::Ago(signed(humantime::parse_duration(text).ok()?.as_millis())?));
                offset().or_else(last).or_else(time).or_else(ago)
            }
        };
        found.ok_or_else(|| {
            format!(
                "must be beginning, end, an offset, -N for the last N, a time ({}) or how long ago (10min)",
                time::FORMS
            )
        })
    }
}

/// The first offset of each partition; `led` are (index, leader).
pub(super) fn resolve(
    from: &Begin,
    client: &mut Client,
    topic: &str,
    led: &[(i32, i32)],
) -> Result<BTreeMap<i32, i64>, String> {
    let mut bounds = || -> Result<_, String> {
        Ok((client.offsets(topic, led, EARLIEST)?, client.offsets(topic, led, LATEST)?))
    };
    let time = match *from {
        Begin::Beginning => return Ok(client.offsets(topic, led, EARLIEST)?),
        Begin::End => return Ok(client.offsets(topic, led, LATEST)?),
        Begin::Offset(offset) => {
            let (starts, ends) = bounds()?;
            for (index, end) in ends {
                let start = starts.get(&index).copied().unwrap_or(0);
                if !(start..=end).contains(&offset) {
                    return Err(format!(
                        "{topic} partition {index} has no offset {offset}: it has {start} to {end} (exclusive); \
                         --partition chooses others"
                    ));
                }
            }
            return Ok(led.iter().map(|&(index, _)| (index, offset)).collect());
        }
        Begin::Last(count) => {
            let (starts, mut ends) = bounds()?;
            for (index, end) in &mut ends {
                *end = end.saturating_sub(count).max(starts.get(index).copied().unwrap_or(0));
            }
            return Ok(ends);
        }
        Begin::Time(time) => time,
        Begin::Ago(ms) => time::ago(ms),
    };
    let mut found = client.offsets(topic, led, time)?;
    if found.values().any(|&offset| offset < 0) {
        // nothing there is so new
        let ends = client.offsets(topic, led, LATEST)?;
        for (index, offset) in found.iter_mut().filter(|(_, offset)| **offset < 0) {
            *offset = ends.get(index).copied().unwrap_or(0);
        }
    }
    Ok(found)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_way_to_say_it() {
        for (text, expect) in [
            ("beginning", Some(Begin::Beginning)),
            ("end", Some(Begin::End)),
            ("0", Some(Begin::Offset(0))),
            ("17", Some(Begin::Offset(17))),
            ("-5", Some(Begin::Last(5))),
            ("@1700000000123", Some(Begin::Time(1_700_000_000_123))),
            ("1970-01-01T00:00:02Z", Some(Begin::Time(2_000))),
            ("1970-01-01 00:00:02", Some(Begin::Time(2_000))),
            ("2min", Some(Begin::Ago(120_000))),
            ("-0", None),
            ("@-2", None),
            ("start", None),
            ("", None),
        ] {
            assert_eq!(text.parse::<Begin>().ok(), expect, "{text}");
        }
    }
}

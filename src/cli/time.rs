//! Times as people write them.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

/// What [`parse`] takes, for the errors of options.
pub(super) const FORMS: &str = "2026-07-01T12:00:00Z, 2026-07-01T14:00:00+02:00 or @MILLISECONDS";

/// Milliseconds since 1970 of a time as in [`FORMS`]; without a zone it is UTC, as Kafka's tools take it.
pub(super) fn parse(text: &str) -> Option<i64> {
    if let Some(stamp) = text.strip_prefix('@') {
        return stamp.parse().ok().filter(|stamp: &i64| *stamp >= 0);
    }
    let (text, ahead) = offset(text).unwrap_or((text, 0));
    let time = humantime::parse_rfc3339_weak(text).ok()?;
    let utc = i64::try_from(time.duration_since(UNIX_EPOCH).ok()?.as_millis()).ok()?;
    utc.checked_sub(ahead)
}

/// Splits off `+02:00` and gives how many milliseconds that is ahead of UTC.
fn offset(text: &str) -> Option<(&str, i64)> {
    let (time, zone) = text.split_at_checked(text.len().checked_sub("+02:00".len())?)?;
    let sign = match zone.as_bytes() {
        [b'+', _, _, b':', _, _] => 1,
        [b'-', _, _, b':', _, _] => -1,
        _ => return None,
    };
    let number = |text: &str, most| text.parse::<u8>().ok().filter(|number| *number <= most).map(i64::from);
    let (hours, minutes) = (number(&zone[1..3], 23)?, number(&zone[4..], 59)?);
    // a date alone ends in two digits behind a hyphen, and never in a colon before them
    Some((time, sign * (hours * 60 + minutes) * 60_000))
}

/// Milliseconds of a length of time: 90min, 2h, 3days.
pub(super) fn length(text: &str) -> Result<i64, String> {
    let ms = humantime::parse_duration(text).ok().and_then(|time| i64::try_from(time.as_millis()).ok());
    ms.ok_or_else(|| "must be a length of time, as 90min, 2h or 3days".to_owned())
}

/// Milliseconds since 1970, so long ago.
pub(super) fn ago(ms: i64) -> i64 {
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_millis();
    i64::try_from(now).unwrap_or(i64::MAX).saturating_sub(ms).max(0)
}

/// How long `ms` milliseconds are, to the second where they are one or more: 3h 2m 5s.
pub(super) fn span(ms: i64) -> String {
    let ms = ms.max(0).cast_unsigned();
    let shown = if ms < 1_000 { ms } else { ms / 1_000 * 1_000 };
    humantime::format_duration(Duration::from_millis(shown)).to_string()
}

/// In UTC.
pub(super) fn text(ms: i64) -> String {
    let since = Duration::from_millis(ms.max(0).cast_unsigned());
    match UNIX_EPOCH.checked_add(since) {
        // later years have more digits than the form has
        Some(time) if ms < 253_402_300_800_000 => humantime::format_rfc3339_millis(time).to_string(),
        _ => format!("@{ms}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_time_has_a_zone_or_is_utc() {
        for (given, expect) in [
            ("1970-01-01T00:00:02Z", Some(2_000)),
            ("1970-01-01T00:00:02", Some(2_000)),
            ("1970-01-01 00:00:02.5", Some(2_500)),
            ("1970-01-01T02:00:02+02:00", Some(2_000)),
            ("1969-12-31T18:30:02-05:30", None),
            ("1970-01-02T00:00:00.123-05:30", Some(24 * 3_600_000 + 123 + 19_800_000)),
            ("@1700000000123", Some(1_700_000_000_123)),
            ("1970-01-01T00:00:02+25:00", None),
            ("1970-01-01T00:00:02+1:000", None),
            ("1970-01-01", None),
            ("@-2", None),
            ("ü+02:00", None),
            ("", None),
        ] {
            assert_eq!(parse(given), expect, "{given}");
        }
        assert_eq!(text(1_700_000_000_123), "2023-11-14T22:13:20.123Z");
        assert_eq!(parse(&text(1_700_000_000_123)), Some(1_700_000_000_123));
        assert_eq!(text(i64::MAX), format!("@{}", i64::MAX));
    }

    #[test]
    fn lengths_are_told_to_the_second() {
        for (ms, expect) in [
            (-1, "0s"),
            (0, "0s"),
            (999, "999ms"),
            (61_999, "1m 1s"),
            (10_925_000, "3h 2m 5s"),
            (86_400_000, "1day"),
        ] {
            assert_eq!(span(ms), expect, "{ms}");
        }
        assert_eq!(length("2h"), Ok(7_200_000));
        assert_eq!(length("0s"), Ok(0));
        assert!(length("soon").is_err());
    }
}

//! Amounts as people write them (`16KiB`, `50k`, `500ms`) and as they like to read them.

use std::time::Duration;

/// Bytes: a number with nothing, `k`, `M`, `G` (thousands), `Ki`, `Mi`, `Gi` (of 1,024), and a `B` if one likes.
///
/// # Errors
/// What a size looks like.
pub fn bytes(text: &str) -> Result<u64, String> {
    let unit = |unit: &str| match unit.strip_suffix('B').unwrap_or(unit) {
        "" => Some(1.0),
        "k" | "K" => Some(1e3),
        "M" => Some(1e6),
        "G" => Some(1e9),
        "T" => Some(1e12),
        "Ki" => Some(1024.0),
        "Mi" => Some(1024.0 * 1024.0),
        "Gi" => Some(1024.0 * 1024.0 * 1024.0),
        _ => None,
    };
    whole(amount(text, unit).ok_or_else(|| format!("{text:?} is not a size like 100, 16KiB or 2GB"))?)
}

/// A number of things, with `k`, `M` or `G` if one likes.
///
/// # Errors
/// What a count looks like.
pub fn count(text: &str) -> Result<u64, String> {
    let unit = |unit: &str| match unit {
        "" => Some(1.0),
        "k" | "K" => Some(1e3),
        "M" => Some(1e6),
        "G" => Some(1e9),
        _ => None,
    };
    whole(amount(text, unit).ok_or_else(|| format!("{text:?} is not a count like 5000, 50k or 1.5M"))?)
}

/// A length of time: `10s`, `500ms`, `250us`, `2m`, `1h 30m`.
///
/// # Errors
/// What a length of time looks like.
pub fn duration(text: &str) -> Result<Duration, String> {
    let bad = || format!("{text:?} is not a length of time like 10s, 500ms or 2m");
    humantime::parse_duration(text).map_err(|_| bad())
}

/// A value from the first to the last, both included.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ByteRange {
    pub min: u32,
    pub max: u32,
}

/// One size (`1024`) or a range of sizes (`100..2KiB`).
///
/// # Errors
/// What a range looks like.
pub fn byte_range(text: &str) -> Result<ByteRange, String> {
    let (min, max) = text.split_once("..").unwrap_or((text, text));
    let limit = |text| u32::try_from(bytes(text)?).map_err(|_| format!("{text:?} is more than 4 GiB"));
    let range = ByteRange { min: limit(min)?, max: limit(max)? };
    if range.min > range.max {
        return Err(format!("{text:?} ends before it begins"));
    }
    Ok(range)
}

fn amount(text: &str, unit: impl Fn(&str) -> Option<f64>) -> Option<f64> {
    let text = text.trim();
    let digits = text.find(|c: char| !c.is_ascii_digit() && c != '.' && c != '_').unwrap_or(text.len());
    let number: f64 = text[..digits].replace('_', "").parse().ok()?;
    Some(number * unit(text[digits..].trim())?)
}

fn whole(amount: f64) -> Result<u64, String> {
    if amount.is_finite() && amount < 9.0e18 {
        Ok(amount.round() as u64)
    } else {
        Err(format!("{amount} is too large"))
    }
}

/// Three digits and a unit: `1.23 ms`.
#[must_use]
pub fn show_micros(micros: f64) -> String {
    match micros {
        m if m < 1e3 => format!("{} µs", three_digits(m)),
        m if m < 1e6 => format!("{} ms", three_digits(m / 1e3)),
        m => format!("{} s", three_digits(m / 1e6)),
    }
}

/// Three digits and `k` or `M`: `1.23 M`.
#[must_use]
pub fn show_count(count: f64) -> String {
    match count {
        c if c < 1e4 => format!("{c:.0}"),
        c if c < 1e6 => format!("{} k", three_digits(c / 1e3)),
        c if c < 1e9 => format!("{} M", three_digits(c / 1e6)),
        c => format!("{} G", three_digits(c / 1e9)),
    }
}

/// Three digits and a unit of thousands: `12.3 MB`.
#[must_use]
pub fn show_bytes(bytes: f64) -> String {
    match bytes {
        b if b < 1e3 => format!("{b:.0} B"),
        b if b < 1e6 => format!("{} kB", three_digits(b / 1e3)),
        b if b < 1e9 => format!("{} MB", three_digits(b / 1e6)),
        b => format!("{} GB", three_digits(b / 1e9)),
    }
}

fn three_digits(value: f64) -> String {
    match value {
        v if v >= 99.95 => format!("{v:.0}"),
        v if v >= 9.995 => format!("{v:.1}"),
        v => format!("{v:.2}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn amounts_are_read_as_people_write_them() {
        for (text, expect) in [
            ("100", 100),
            ("16KiB", 16384),
            ("16Ki", 16384),
            ("2GB", 2_000_000_000),
            ("1.5M", 1_500_000),
            ("1_000", 1000),
        ] {
            assert_eq!(bytes(text), Ok(expect), "{text}");
        }
        for (text, expect) in [("50k", 50_000), ("1.5M", 1_500_000), ("7", 7)] {
            assert_eq!(count(text), Ok(expect), "{text}");
        }
        for (text, micros) in
            [("10s", 10_000_000), ("500ms", 500_000), ("250us", 250), ("2m", 120_000_000), ("0s", 0)]
        {
            assert_eq!(duration(text), Ok(Duration::from_micros(micros)), "{text}");
        }
        assert_eq!(byte_range("100..2KiB"), Ok(ByteRange { min: 100, max: 2048 }));
        assert_eq!(byte_range("64"), Ok(ByteRange { min: 64, max: 64 }));
        for text in ["", "x", "10 parsecs", "1e3", "-1", "5..", "9..3", "99999999999999999999GB"] {
            assert!(bytes(text).is_err() && byte_range(text).is_err() && duration(text).is_err(), "{text}");
        }
    }

    #[test]
    fn amounts_are_shown_with_three_digits() {
        assert_eq!(show_micros(0.5), "0.50 µs");
        assert_eq!(show_micros(999.0), "999 µs");
        assert_eq!(show_micros(1234.0), "1.23 ms");
        assert_eq!(show_micros(1_000_000.0), "1.00 s");
        assert_eq!(show_count(12345.0), "12.3 k");
        assert_eq!(show_bytes(1_234_567.0), "1.23 MB");
    }
}

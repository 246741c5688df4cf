//! One setting's definition, of a topic or of the broker: name, type, default, what is allowed, what it does.

use std::collections::HashSet;

/// Kafka's `DescribeConfigsResponse.ConfigType`; the discriminant is Kafka's id.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(i8)]
pub enum ConfigType {
    Boolean = 1,
    String = 2,
    Int = 3,
    Short = 4,
    Long = 5,
    Double = 6,
    List = 7,
    Class = 8,
    Password = 9,
}

/// Kafka's `DescribeConfigsResponse.ConfigSource`; the discriminant is Kafka's id.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(i8)]
pub enum ConfigSource {
    Topic = 1,
    DynamicBroker = 2,
    DynamicDefaultBroker = 3,
    StaticBroker = 4,
    Default = 5,
    Group = 8,
}

/// One config as DescribeConfigs and CreateTopics tell it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ConfigEntry {
    pub name: &'static str,
    /// `None` when there is none, and for sensitive ones.
    pub value: Option<String>,
    /// What it would be if nobody had set anything.
    pub default: Option<String>,
    pub source: ConfigSource,
    pub kind: ConfigType,
    pub read_only: bool,
    pub sensitive: bool,
    /// Where the value comes from and what it hides, in order of precedence.
    pub synonyms: Vec<ConfigSynonym>,
    pub doc: &'static str,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ConfigSynonym {
    pub name: &'static str,
    pub value: Option<String>,
    pub source: ConfigSource,
}

/// A setting that exists.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Setting {
    pub name: &'static str,
    pub kind: ConfigType,
    /// `None`: unset, which means something of its own.
    pub default: Option<&'static str>,
    pub valid: Valid,
    /// One line.
    pub doc: &'static str,
}

/// What is allowed, beyond the type. Ranges are inclusive.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Valid {
    Any,
    AtLeast(i64),
    Between(i64, i64),
    /// In the range, or exactly the last.
    BetweenOr(i64, i64, i64),
    /// A double from 0 to 1.
    Ratio,
    OneOf(&'static [&'static str]),
    /// Each at most once, in any order, or none at all.
    ListOf(&'static [&'static str]),
    NotEmpty,
    /// `*`, or partition:broker pairs.
    ThrottledReplicas,
    /// `earliest`, `latest`, or `by_duration:` and a time in ISO 8601.
    OffsetReset,
}

impl Setting {
    /// The value as it is kept: trimmed, booleans in lower case, lists without blanks. The error says what is
    /// allowed, to follow "invalid value V for K: ".
    pub fn parse(&self, raw: &str) -> Result<String, String> {
        let value = raw.trim();
        let fits = match self.kind {
            ConfigType::Boolean => value.eq_ignore_ascii_case("true") || value.eq_ignore_ascii_case("false"),
            ConfigType::Int => self.in_range(value, i64::from(i32::MIN), i64::from(i32::MAX)),
            ConfigType::Short => self.in_range(value, i64::from(i16::MIN), i64::from(i16::MAX)),
            ConfigType::Long => self.in_range(value, i64::MIN, i64::MAX),
            ConfigType::Double => value.parse::<f64>().is_ok_and(|number| match self.valid {
                Valid::Ratio => (0.0..=1.0).contains(&number),
                _ => number.is_finite(),
            }),
            ConfigType::List => self.list_fits(&split_list(value)),
            ConfigType::String | ConfigType::Class | ConfigType::Password => match self.valid {
                Valid::OneOf(allowed) => allowed.contains(&value),
                Valid::NotEmpty => !value.is_empty(),
                Valid::OffsetReset => is_offset_reset(value),
                _ => true,
            },
        };
        if !fits {
            return Err(format!("must be {}", self.allowed()));
        }
        Ok(match self.kind {
            ConfigType::Boolean => value.to_ascii_lowercase(),
            ConfigType::List => split_list(value).join(","),
            ConfigType::Int | ConfigType::Short | ConfigType::Long => {
                value.trim_start_matches('+').to_owned()
            }
            _ => value.to_owned(),
        })
    }

    fn in_range(&self, value: &str, type_min: i64, type_max: i64) -> bool {
        let Ok(number) = value.parse::<i64>() else { return false };
        let valid = match self.valid {
            Valid::AtLeast(min) => number >= min,
            Valid::Between(min, max) => (min..=max).contains(&number),
            Valid::BetweenOr(min, max, or) => (min..=max).contains(&number) || number == or,
            _ => true,
        };
        valid && (type_min..=type_max).contains(&number)
    }

    fn list_fits(&self, items: &[&str]) -> bool {
        let distinct = || items.iter().collect::<HashSet<_>>().len() == items.len();
        match self.valid {
            Valid::ListOf(allowed) => items.iter().all(|item| allowed.contains(item)) && distinct(),
            Valid::NotEmpty => !items.is_empty() && items.iter().all(|item| !item.is_empty()) && distinct(),
            Valid::ThrottledReplicas => items == ["*"] || items.iter().all(|item| is_replica_pair(item)),
            _ => true,
        }
    }

    /// What is allowed, in words: "a whole number, at least 1".
    #[must_use]
    pub fn allowed(&self) -> String {
        let what = match self.kind {
            ConfigType::Boolean => return "true or false".to_owned(),
            ConfigType::Int | ConfigType::Short | ConfigType::Long => "a whole number",
            ConfigType::Double => "a number",
            ConfigType::List => "a comma-separated list",
            ConfigType::String => "a text",
            ConfigType::Class => "a class name",
            ConfigType::Password => "a password",
        };
        let type_max = match self.kind {
            ConfigType::Int => Some(i64::from(i32::MAX)),
            ConfigType::Short => Some(i64::from(i16::MAX)),
            _ => None,
        };
        match (self.valid, type_max) {
            (Valid::AtLeast(min), Some(max)) => format!("{what} from {min} to {max}"),
            (Valid::Any, Some(max)) => format!("{what}, at most {max}"),
            (Valid::Any, None) => what.to_owned(),
            (Valid::AtLeast(min), None) => format!("{what}, at least {min}"),
            (Valid::Between(min, max), _) => format!("{what} from {min} to {max}"),
            (Valid::BetweenOr(min, max, or), _) => format!("{what} from {min} to {max}, or {or}"),
            (Valid::Ratio, _) => format!("{what} from 0 to 1"),
            (Valid::OneOf(allowed), _) => format!("one of {}", allowed.join(", ")),
            (Valid::ListOf(allowed), _) => format!("{what} of {}, each at most once", allowed.join(", ")),
            (Valid::NotEmpty, _) => format!("{what} that is not empty"),
            (Valid::ThrottledReplicas, _) => "*, or a comma-separated list of partition:broker".to_owned(),
            (Valid::OffsetReset, _) => {
                "earliest, latest, or by_duration: and a time as P1DT2H3M4.5S".to_owned()
            }
        }
    }

    /// The unit, which Kafka's names end in.
    #[must_use]
    pub fn unit(&self) -> Option<&'static str> {
        let suffix = self.name.rsplit('.').next()?;
        Some(match suffix {
            "ms" => "milliseconds",
            "us" => "microseconds",
            "seconds" => "seconds",
            "minutes" => "minutes",
            "hours" => "hours",
            "bytes" => "bytes",
            _ => return None,
        })
    }
}

/// Kafka's lists: comma-separated, blanks around items ignored; a blank text is the empty list.
#[must_use]
pub fn split_list(text: &str) -> Vec<&str> {
    if text.trim().is_empty() { Vec::new() } else { text.split(',').map(str::trim).collect() }
}

fn is_replica_pair(text: &str) -> bool {
    let is_number = |text: &str| !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
    text.split_once(':').is_some_and(|(partition, broker)| is_number(partition) && is_number(broker))
}

fn is_offset_reset(text: &str) -> bool {
    matches!(text, "earliest" | "latest") || text.strip_prefix("by_duration:").is_some_and(is_duration)
}

/// ISO 8601 as Java's `Duration` reads it, not negative: `P1DT2H3M4.5S`, each part at most once and in this order.
fn is_duration(text: &str) -> bool {
    let text = text.to_ascii_uppercase();
    let Some(text) = text.strip_prefix('P') else { return false };
    let (days, time) = match text.split_once('T') {
        Some((days, time)) => (days, Some(time)),
        None => (text, None),
    };
    let is_number = |text: &str| !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
    // takes `<number><unit>` off the front, if it is there
    let after = |text: &str, unit: char| match text.split_once(unit) {
        Some((number, rest)) if is_number(number) => rest.to_owned(),
        _ => text.to_owned(),
    };
    let days_fit = days.is_empty() || after(days, 'D').is_empty();
    let Some(time) = time else { return days_fit && !days.is_empty() };
    let seconds = after(&after(time, 'H'), 'M');
    let seconds_fit = seconds.is_empty()
        || seconds.strip_suffix('S').is_some_and(|number| match number.split_once('.') {
            Some((whole, part)) => is_number(whole) && (part.is_empty() || is_number(part)),
            None => is_number(number),
        });
    days_fit && !time.is_empty() && seconds_fit
}

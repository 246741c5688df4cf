//! Prometheus' text exposition format 0.0.4.
//!
//! CPU-heavy on a node with many topics (about a microsecond a line): not on a shard's thread.

use std::collections::BTreeMap;
use std::fmt::{self, Write as _};

use super::Histogram;
use super::snapshot::{Directory, Metadata, Scrape, Snapshot, Topic};
use super::table::{Metric, Source, TABLE, Unit};
use crate::model::ShardId;
use crate::protocol::api::Api;

/// Of the rendered text.
pub const CONTENT_TYPE: &str = "text/plain; version=0.0.4; charset=utf-8";

/// What a line takes, roughly.
const LINE_BYTES: usize = 80;

/// Every metric of the table, in its order.
#[must_use]
pub fn render(scrape: &Scrape) -> String {
    let merged = Merged::of(scrape);
    let lines = 2 * TABLE.len() + merged.topics.len() * 8 + 2000;
    let mut text = Text(String::with_capacity(lines * LINE_BYTES));
    for metric in TABLE {
        text.family(metric);
        text.samples(metric, scrape, &merged);
    }
    text.0
}

/// What is told of the node as a whole.
struct Merged<'a> {
    topics: Vec<Topic>,
    directories: BTreeMap<&'a str, Directory>,
}

impl<'a> Merged<'a> {
    fn of(scrape: &'a Scrape) -> Merged<'a> {
        let mut topics: BTreeMap<&str, Topic> = BTreeMap::new();
        let mut directories: BTreeMap<&str, Directory> = BTreeMap::new();
        for (_, shard) in answered(scrape) {
            for topic in &shard.topics {
                let merged = topics.entry(&topic.name);
                merged.and_modify(|merged| merged.merge(topic)).or_insert_with(|| topic.clone());
            }
            for directory in &shard.storage.directories {
                let merged = directories.entry(&directory.path);
                merged.and_modify(|merged| merged.merge(directory)).or_insert_with(|| directory.clone());
            }
        }
        Merged { topics: topics.into_values().collect(), directories }
    }
}

fn answered(scrape: &Scrape) -> impl Iterator<Item = (ShardId, &Snapshot)> {
    scrape.shards.iter().filter_map(|(id, shard)| Some((*id, shard.as_deref()?)))
}

/// The metadata log is on shard 0.
fn metadata(scrape: &Scrape) -> Option<&Metadata> {
    answered(scrape).find(|(id, _)| *id == ShardId::ZERO).map(|(_, shard)| &shard.metadata)
}

struct Text(String);

impl Text {
    fn family(&mut self, metric: &Metric) {
        self.write(format_args!("# HELP {} {}\n", metric.name, HelpText(metric.help)));
        self.write(format_args!("# TYPE {} {}\n", metric.name, metric.kind.name()));
    }

    fn samples(&mut self, metric: &Metric, scrape: &Scrape, merged: &Merged<'_>) {
        match &metric.source {
            Source::Version => self.sample(metric, "", &[("version", &scrape.version)], 1),
            Source::Node(value) => self.sample(metric, "", &[], value(&scrape.node)),
            Source::ShardAnswers => {
                for (id, shard) in &scrape.shards {
                    self.sample(metric, "", &[("shard", &id.0)], u64::from(shard.is_some()));
                }
            }
            Source::Shard(value) => {
                for (id, shard) in answered(scrape) {
                    self.sample(metric, "", &[("shard", &id.0)], value(shard));
                }
            }
            Source::ShardHistogram(histogram) => {
                for (id, shard) in answered(scrape) {
                    self.histogram(metric, Some(("shard", &id.0)), histogram(shard));
                }
            }
            Source::Api(value) => {
                for (id, shard) in answered(scrape) {
                    for api in Api::all() {
                        let value = value(shard.server.counters.api(api));
                        self.sample(metric, "", &[("shard", &id.0), ("api", &api.name())], value);
                    }
                }
            }
            Source::ApiHistogram(histogram) => {
                for api in Api::all() {
                    let sum = Histogram::default();
                    for (_, shard) in answered(scrape) {
                        sum.merge(histogram(shard.server.counters.api(api)));
                    }
                    self.histogram(metric, Some(("api", &api.name())), &sum);
                }
            }
            Source::Metadata(value) => {
                if let Some(metadata) = metadata(scrape) {
                    self.sample(metric, "", &[], value(metadata));
                }
            }
            Source::MetadataHistogram(histogram) => {
                if let Some(metadata) = metadata(scrape) {
                    self.histogram(metric, None, histogram(metadata));
                }
            }
            Source::Directory(value) => {
                for (path, directory) in &merged.directories {
                    if let Some(value) = value(directory) {
                        self.sample(metric, "", &[("dir", path)], value);
                    }
                }
            }
            Source::Topic(value) => {
                for topic in &merged.topics {
                    self.sample(metric, "", &[("topic", &topic.name)], value(topic));
                }
            }
        }
    }

    fn histogram(
        &mut self,
        metric: &Metric,
        label: Option<(&str, &dyn fmt::Display)>,
        histogram: &Histogram,
    ) {
        let name = metric.name;
        let own = label.map_or(String::new(), |(key, value)| format!("{key}=\"{}\"", LabelValue(value)));
        let comma = if own.is_empty() { "" } else { "," };
        for (bound_us, count) in histogram.cumulative() {
            let bound = Seconds(bound_us * 1000);
            self.write(format_args!("{name}_bucket{{{own}{comma}le=\"{bound}\"}} {count}\n"));
        }
        let count = histogram.count();
        self.write(format_args!("{name}_bucket{{{own}{comma}le=\"+Inf\"}} {count}\n"));
        self.sample(metric, "_sum", label.as_slice(), histogram.nanoseconds());
        let braced = if own.is_empty() { own } else { format!("{{{own}}}") };
        self.write(format_args!("{name}_count{braced} {count}\n"));
    }

    fn sample(&mut self, metric: &Metric, suffix: &str, labels: &[(&str, &dyn fmt::Display)], raw: u64) {
        self.write(format_args!("{}{suffix}", metric.name));
        for (at, (key, value)) in labels.iter().enumerate() {
            let before = if at == 0 { '{' } else { ',' };
            self.write(format_args!("{before}{key}=\"{}\"", LabelValue(*value)));
        }
        let end = if labels.is_empty() { "" } else { "}" };
        match metric.unit {
            Unit::Seconds => self.write(format_args!("{end} {}\n", Seconds(raw))),
            // the same text: billionths as a decimal fraction
            Unit::Ratio => self.write(format_args!("{end} {}\n", Seconds(raw * 1_000))),
            Unit::None | Unit::Bytes => self.write(format_args!("{end} {raw}\n")),
        }
    }

    fn write(&mut self, part: fmt::Arguments<'_>) {
        self.0.write_fmt(part).expect("a string takes any text");
    }
}

/// Nanoseconds written as seconds, without a rounding: 1_500_000 is `0.0015`.
struct Seconds(u64);

impl fmt::Display for Seconds {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (whole, mut rest) = (self.0 / 1_000_000_000, self.0 % 1_000_000_000);
        if rest == 0 {
            return write!(f, "{whole}");
        }
        let mut digits = 9;
        while rest.is_multiple_of(10) {
            rest /= 10;
            digits -= 1;
        }
        write!(f, "{whole}.{rest:0digits$}")
    }
}

/// With `\`, `"` and line ends escaped.
pub(super) struct LabelValue<'a>(pub(super) &'a dyn fmt::Display);

impl fmt::Display for LabelValue<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(Escaping { to: f, quotes: true }, "{}", self.0)
    }
}

/// With `\` and line ends escaped.
struct HelpText<'a>(&'a str);

impl fmt::Display for HelpText<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        Escaping { to: f, quotes: false }.write_str(self.0)
    }
}

struct Escaping<'a, 'f> {
    to: &'a mut fmt::Formatter<'f>,
    quotes: bool,
}

impl fmt::Write for Escaping<'_, '_> {
    fn write_str(&mut self, text: &str) -> fmt::Result {
        let mut rest = text;
        while let Some(at) = rest.find(|c| matches!(c, '\\' | '\n') || (c == '"' && self.quotes)) {
            self.to.write_str(&rest[..at])?;
            self.to.write_str(match rest.as_bytes()[at] {
                b'\\' => "\\\\",
                b'\n' => "\\n",
                _ => "\\\"",
            })?;
            rest = &rest[at + 1..];
        }
        self.to.write_str(rest)
    }
}

//! Every partition's offsets as Prometheus text: a page of its own, for a node may have very many.

use std::fmt::Write as _;

use super::render::LabelValue;

/// One partition's log on this node.
#[derive(Clone, Debug)]
pub struct PartitionOffsets {
    pub topic: std::sync::Arc<str>,
    pub partition: i32,
    pub start: i64,
    pub high_watermark: i64,
    pub end: i64,
    pub leader_epoch: i32,
    pub size_bytes: u64,
}

/// Name, meaning, value; all are gauges.
type Row = (&'static str, &'static str, fn(&PartitionOffsets) -> i64);

const TABLE: [Row; 5] = [
    ("corelane_partition_log_start_offset", "The first offset that can be read.", |log| log.start),
    (
        "corelane_partition_high_watermark",
        "Consumers may read up to here, exclusive: what they have committed less this is their lag.",
        |log| log.high_watermark,
    ),
    ("corelane_partition_log_end_offset", "The offset that the next record gets.", |log| log.end),
    ("corelane_partition_leader_epoch", "How often the partition's leadership has begun.", |log| {
        i64::from(log.leader_epoch)
    }),
    ("corelane_partition_size_bytes", "Of all segments, without what is reserved ahead.", |log| {
        i64::try_from(log.size_bytes).unwrap_or(i64::MAX)
    }),
];

/// The page; CPU-heavy, about a microsecond a line.
#[must_use]
pub fn render_partitions(logs: &[PartitionOffsets]) -> String {
    let mut text = String::with_capacity(logs.len() * TABLE.len() * 80);
    for (name, help, value) in TABLE {
        writeln!(text, "# HELP {name} {help}\n# TYPE {name} gauge").expect("a string takes any text");
        for log in logs {
            let (topic, partition) = (LabelValue(&log.topic), log.partition);
            writeln!(text, "{name}{{topic=\"{topic}\",partition=\"{partition}\"}} {}", value(log))
                .expect("a string takes any text");
        }
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_page_has_every_partition_under_every_name() {
        let log = |partition| PartitionOffsets {
            topic: "a".into(),
            partition,
            start: 1,
            high_watermark: 2,
            end: 3,
            leader_epoch: 4,
            size_bytes: 5,
        };
        let text = render_partitions(&[log(0), log(1)]);
        assert!(text.starts_with(
            "# HELP corelane_partition_log_start_offset The first offset that can be read.\n\
             # TYPE corelane_partition_log_start_offset gauge\n\
             corelane_partition_log_start_offset{topic=\"a\",partition=\"0\"} 1\n\
             corelane_partition_log_start_offset{topic=\"a\",partition=\"1\"} 1\n"
        ));
        assert!(text.ends_with("corelane_partition_size_bytes{topic=\"a\",partition=\"1\"} 5\n"));
        assert_eq!(text.lines().count(), 4 * TABLE.len());
    }
}

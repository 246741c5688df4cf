//! Every group's offsets and lag as Prometheus text: a page of its own, for there may be very many.

use std::fmt::Write as _;

use super::render::LabelValue;

/// A group, and where it is in each partition that it has committed an offset of.
#[derive(Clone, Debug)]
pub struct GroupLag {
    pub group: String,
    pub state: &'static str,
    pub protocol: &'static str,
    pub members: usize,
    pub partitions: Vec<PartitionLag>,
}

#[derive(Clone, Debug)]
pub struct PartitionLag {
    pub topic: String,
    pub partition: i32,
    pub committed: i64,
    /// Records that can be read and are not committed; `None`: the partition's end is not known on this node.
    pub lag: Option<i64>,
}

fn head(text: &mut String, name: &str, help: &str) {
    writeln!(text, "# HELP {name} {help}\n# TYPE {name} gauge").expect("a string takes any text");
}

/// The page; CPU-heavy, about a microsecond a line.
#[must_use]
pub fn render_groups(groups: &[GroupLag]) -> String {
    let mut text = String::new();
    let out = &mut text;
    let name = "corelane_group_members";
    head(out, name, "Members of the group, which is in this state and has this protocol.");
    for group in groups {
        let (id, state, protocol) = (LabelValue(&group.group), group.state, group.protocol);
        writeln!(out, "{name}{{group=\"{id}\",state=\"{state}\",protocol=\"{protocol}\"}} {}", group.members)
            .expect("a string takes any text");
    }
    let name = "corelane_group_committed_offset";
    head(out, name, "Up to here, exclusive, the group has read the partition.");
    per_partition(out, name, groups, |partition| Some(partition.committed));
    let name = "corelane_group_lag";
    head(out, name, "Records of the partition that the group could read and has not committed.");
    per_partition(out, name, groups, |partition| partition.lag);
    let name = "corelane_group_lag_of_all_partitions";
    head(out, name, "The lag of all partitions of the group.");
    for group in groups {
        let sum = group.partitions.iter().filter_map(|partition| partition.lag).fold(0, i64::saturating_add);
        writeln!(out, "{name}{{group=\"{}\"}} {sum}", LabelValue(&group.group))
            .expect("a string takes any text");
    }
    text
}

fn per_partition(
    out: &mut String,
    name: &str,
    groups: &[GroupLag],
    value: impl Fn(&PartitionLag) -> Option<i64>,
) {
    for group in groups {
        let id = LabelValue(&group.group);
        for partition in &group.partitions {
            let Some(value) = value(partition) else { continue };
            let (topic, index) = (LabelValue(&partition.topic), partition.partition);
            writeln!(out, "{name}{{group=\"{id}\",topic=\"{topic}\",partition=\"{index}\"}} {value}")
                .expect("a string takes any text");
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_page_has_every_group_and_partition() {
        let partition = |partition, lag| PartitionLag { topic: "t".to_owned(), partition, committed: 5, lag };
        let group = GroupLag {
            group: "a \"quoted\" one".to_owned(),
            state: "Stable",
            protocol: "classic",
            members: 2,
            partitions: vec![partition(0, Some(3)), partition(1, Some(4)), partition(2, None)],
        };
        let text = render_groups(&[group]);
        let lines: Vec<&str> = text.lines().filter(|line| !line.starts_with('#')).collect();
        assert_eq!(
            lines,
            [
                r#"corelane_group_members{group="a \"quoted\" one",state="Stable",protocol="classic"} 2"#,
                r#"corelane_group_committed_offset{group="a \"quoted\" one",topic="t",partition="0"} 5"#,
                r#"corelane_group_committed_offset{group="a \"quoted\" one",topic="t",partition="1"} 5"#,
                r#"corelane_group_committed_offset{group="a \"quoted\" one",topic="t",partition="2"} 5"#,
                r#"corelane_group_lag{group="a \"quoted\" one",topic="t",partition="0"} 3"#,
                r#"corelane_group_lag{group="a \"quoted\" one",topic="t",partition="1"} 4"#,
                r#"corelane_group_lag_of_all_partitions{group="a \"quoted\" one"} 7"#,
            ]
        );
        assert_eq!(text.lines().count() - lines.len(), 8);
    }
}

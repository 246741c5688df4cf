//! Kafka's small text files: offset checkpoints, `partition.metadata`, `meta.properties`, `.kafka_cleanshutdown`.
//!
//! A checkpoint is a version line (0), a count line, and that many lines of fields separated by blanks; an empty file
//! is no entries. Whoever writes one writes it beside itself, flushes, renames. Source: Kafka's `CheckpointFile`,
//! `OffsetCheckpointFile`, `PartitionMetadata`, `MetaProperties`, `CleanShutdownFileHandler`.

use std::collections::BTreeMap;
use std::fmt::Write as _;

use super::Damage;
use crate::model::{BrokerId, DirectoryId, Offset, TopicId};

/// One line of an offset checkpoint.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PartitionOffset {
    pub topic: String,
    pub partition: i32,
    pub offset: Offset,
}

/// The text of recovery-point-, replication- or log-start-offset-checkpoint.
#[must_use]
pub fn encode_offsets(entries: &[PartitionOffset]) -> String {
    let mut text = format!("0\n{}\n", entries.len());
    for PartitionOffset { topic, partition, offset } in entries {
        writeln!(text, "{topic} {partition} {offset}").expect("a String takes everything");
    }
    text
}

/// # Errors
/// What is wrong. An empty file is no entries, as in Kafka.
pub fn decode_offsets(text: &str) -> Result<Vec<PartitionOffset>, Damage> {
    checkpoint_lines(text)?.into_iter().map(decode_offset_line).collect()
}

fn decode_offset_line(line: &str) -> Result<PartitionOffset, Damage> {
    let fields: Vec<&str> = line.split_ascii_whitespace().collect();
    let numbers = match fields[..] {
        [_, partition, offset] => partition.parse().ok().zip(offset.parse().ok()),
        _ => None,
    };
    match numbers {
        Some((partition, offset)) if partition >= 0 && offset >= 0 => {
            Ok(PartitionOffset { topic: fields[0].to_owned(), partition, offset: Offset(offset) })
        }
        _ => Err(Damage(format!("malformed line in offset checkpoint: {line:?}"))),
    }
}

/// The entries of a checkpoint, one line each, version and count checked.
pub(super) fn checkpoint_lines(text: &str) -> Result<Vec<&str>, Damage> {
    let mut lines = text.lines();
    let Some(version) = lines.next() else { return Ok(Vec::new()) };
    if version.trim() != "0" {
        return Err(Damage(format!("unknown checkpoint version {version:?}")));
    }
    let Some(count) = lines.next() else { return Ok(Vec::new()) };
    let entries: Vec<&str> = lines.collect();
    if count.trim().parse() != Ok(entries.len()) {
        return Err(Damage(format!("checkpoint says {count:?} entries and has {}", entries.len())));
    }
    Ok(entries)
}

/// The text of `partition.metadata`.
#[must_use]
pub fn encode_partition_metadata(topic: TopicId) -> String {
    format!("version: 0\ntopic_id: {topic}")
}

/// # Errors
/// What is wrong.
pub fn decode_partition_metadata(text: &str) -> Result<TopicId, Damage> {
    let field = |line: Option<&str>, name: &str| -> Option<String> {
        Some(line?.strip_prefix(name)?.strip_prefix(':')?.trim().to_owned())
    };
    let mut lines = text.lines();
    let version = field(lines.next(), "version").and_then(|text| text.parse::<i32>().ok());
    let topic = field(lines.next(), "topic_id").and_then(|text| text.parse::<TopicId>().ok());
    match (version, topic) {
        // Kafka takes newer versions too, so that one can go back to an older broker
        (Some(version), Some(topic)) if version >= 0 && topic != TopicId::ZERO => Ok(topic),
        _ => Err(Damage(format!("malformed partition metadata: {text:?}"))),
    }
}

/// `meta.properties` of one log directory.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct MetaProperties {
    pub cluster_id: String,
    pub node_id: BrokerId,
    /// `UNASSIGNED` when the file has none.
    pub directory_id: DirectoryId,
    /// `corelane.format`: version of what we keep beside Kafka's files. The caller refuses one newer than
    /// [`FORMAT`]. 0 when the file has none: Kafka wrote it.
    pub format: u32,
}

/// The newest `corelane.format` this build reads and the one it writes. Before 2 the metadata log had no snapshots and no
/// elections' entries.
pub const FORMAT: u32 = 2;

/// Kafka's version of the file since KRaft.
const META_VERSION: &str = "1";

impl MetaProperties {
    #[must_use]
    pub fn encode(&self) -> String {
        let mut text = format!(
            "version={META_VERSION}\ncluster.id={}\nnode.id={}\n",
            escape_property(&self.cluster_id),
            self.node_id.0
        );
        if self.directory_id != DirectoryId::UNASSIGNED {
            writeln!(text, "directory.id={}", self.directory_id).expect("a String takes everything");
        }
        if self.format > 0 {
            writeln!(text, "corelane.format={}", self.format).expect("a String takes everything");
        }
        text
    }

    /// # Errors
    /// What is wrong.
    pub fn decode(text: &str) -> Result<MetaProperties, Damage> {
        let properties = parse_properties(text);
        let required =
            |key: &str| properties.get(key).ok_or_else(|| Damage(format!("meta.properties has no {key}")));
        let malformed = |key: &str, value: &str| Damage(format!("meta.properties has {key}={value:?}"));
        let version = required("version")?;
        if version.trim() != META_VERSION {
            return Err(malformed("version", version));
        }
        let node = required("node.id")?;
        let node_id = match node.trim().parse() {
            Ok(id) if id >= 0 => BrokerId(id),
            _ => return Err(malformed("node.id", node)),
        };
        let cluster_id = required("cluster.id")?.clone();
        if cluster_id.is_empty() {
            return Err(malformed("cluster.id", ""));
        }
        let directory_id = match properties.get("directory.id") {
            Some(id) => id.trim().parse().map_err(|_| malformed("directory.id", id))?,
            None => DirectoryId::UNASSIGNED,
        };
        let format = match properties.get("corelane.format") {
            Some(format) => format.trim().parse().map_err(|_| malformed("corelane.format", format))?,
            None => 0,
        };
        Ok(MetaProperties { cluster_id, node_id, directory_id, format })
    }
}

/// The part of Java's `Properties` format that its writer uses: comments, `key=value` or `key:value`, escapes. Lines
/// that go on after a backslash are none of it.
fn parse_properties(text: &str) -> BTreeMap<String, String> {
    let mut properties = BTreeMap::new();
    for line in text.lines() {
        let line = line.trim_start();
        if line.is_empty() || line.starts_with(['#', '!']) {
            continue;
        }
        let mut escaped = false;
        let separator = line.find(|c: char| {
            let here = !escaped && (c == '=' || c == ':' || c.is_ascii_whitespace());
            escaped = !escaped && c == '\\';
            here
        });
        let (key, rest) = line.split_at(separator.unwrap_or(line.len()));
        let rest = rest.trim_start();
        let value = rest.strip_prefix(['=', ':']).unwrap_or(rest).trim_start();
        properties.insert(unescape_property(key), unescape_property(value));
    }
    properties
}

fn unescape_property(text: &str) -> String {
    let mut plain = String::with_capacity(text.len());
    let mut chars = text.chars();
    while let Some(c) = chars.next() {
        if c != '\\' {
            plain.push(c);
            continue;
        }
        match chars.next() {
            Some('t') => plain.push('\t'),
            Some('n') => plain.push('\n'),
            Some('r') => plain.push('\r'),
            Some('f') => plain.push('\x0c'),
            Some('u') => {
                let digits: String = chars.by_ref().take(4).collect();
                let code = u32::from_str_radix(&digits, 16).ok().and_then(char::from_u32);
                plain.push(code.unwrap_or(char::REPLACEMENT_CHARACTER));
            }
            Some(other) => plain.push(other),
            None => {}
        }
    }
    plain
}

fn escape_property(text: &str) -> String {
    let mut escaped = String::with_capacity(text.len());
    for c in text.chars() {
        match c {
            '\\' | '=' | ':' | '#' | '!' | ' ' => escaped.extend(['\\', c]),
            '\t' => escaped.push_str("\\t"),
            '\n' => escaped.push_str("\\n"),
            '\r' => escaped.push_str("\\r"),
            '\x0c' => escaped.push_str("\\f"),
            _ => escaped.push(c),
        }
    }
    escaped
}

/// The content of `.kafka_cleanshutdown`; -1 when the broker has no epoch.
#[must_use]
pub fn encode_clean_shutdown(broker_epoch: i64) -> String {
    format!("{{\"version\":0,\"brokerEpoch\":{broker_epoch}}}")
}

/// The broker epoch, if the content has one. The file's being there is what says "clean".
#[must_use]
pub fn decode_clean_shutdown(text: &str) -> Option<i64> {
    let (_, after) = text.split_once("\"brokerEpoch\"")?;
    let number = after.trim_start().strip_prefix(':')?.trim_start();
    let end = number.find([',', '}']).unwrap_or(number.len());
    number[..end].trim_end().parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn line(topic: &str, partition: i32, offset: i64) -> PartitionOffset {
        PartitionOffset { topic: topic.to_owned(), partition, offset: Offset(offset) }
    }

    #[test]
    fn offset_checkpoints_are_kafkas_and_come_back() {
        let entries = [line("topic1", 0, 5), line("a.b-c_d", 12, i64::MAX)];
        let text = encode_offsets(&entries);
        assert_eq!(text, "0\n2\ntopic1 0 5\na.b-c_d 12 9223372036854775807\n");
        assert_eq!(decode_offsets(&text).unwrap(), entries);
        assert_eq!(encode_offsets(&[]), "0\n0\n");
        for empty in ["", "0", "0\n", "0\n0", "0\n0\n"] {
            assert!(decode_offsets(empty).unwrap().is_empty(), "{empty:?}");
        }
        // blanks of any kind and number, a last line without its end
        assert_eq!(decode_offsets("0\r\n1\r\nt\t0   7").unwrap(), [line("t", 0, 7)]);
        for damaged in [
            "1\n0\n",
            "x\n0\n",
            "0\n2\nt 0 1\n",
            "0\n0\nt 0 1\n",
            "0\n-1\n",
            "0\nx\n",
            "0\n1\nt 0\n",
            "0\n1\nt 0 1 2\n",
            "0\n1\nt x 1\n",
            "0\n1\nt 0 x\n",
            "0\n1\nt -1 1\n",
            "0\n1\nt 0 -1\n",
            "0\n1\nt 0 9223372036854775808\n",
            "0\n2\nt 0 1\n\n",
            "\0\0\0\0",
            "0\n99999999999999999999\n",
        ] {
            assert!(decode_offsets(damaged).is_err(), "{damaged:?}");
        }
    }

    #[test]
    fn partition_metadata() {
        let topic = TopicId(0x0123_4567_89ab_cdef_fedc_ba98_7654_3210);
        let text = encode_partition_metadata(topic);
        assert_eq!(text, format!("version: 0\ntopic_id: {topic}"));
        assert_eq!(decode_partition_metadata(&text).unwrap(), topic);
        assert_eq!(decode_partition_metadata(&format!("{text}\n")).unwrap(), topic);
        assert_eq!(decode_partition_metadata("version: 1\ntopic_id: AAAAAAAAAAAAAAAAAAAAAQ").unwrap().0, 1);
        for damaged in [
            "",
            "version: 0",
            "version: 0\n",
            "version: -1\ntopic_id: AAAAAAAAAAAAAAAAAAAAAQ",
            "version: x\n",
            "version: 0\ntopic_id: AAAAAAAAAAAAAAAAAAAAAA",
            "version: 0\ntopic_id: AAAA",
            "topic_id: AAAAAAAAAAAAAAAAAAAAAQ\nversion: 0",
        ] {
            assert!(decode_partition_metadata(damaged).is_err(), "{damaged:?}");
        }
    }

    fn meta(cluster_id: &str, format: u32) -> MetaProperties {
        MetaProperties {
            cluster_id: cluster_id.to_owned(),
            node_id: BrokerId(3),
            directory_id: DirectoryId(1),
            format,
        }
    }

    #[test]
    fn meta_properties() {
        let text = meta("5L6g3nShT-eMCtK--X86sw", FORMAT).encode();
        assert_eq!(
            text,
            "version=1\ncluster.id=5L6g3nShT-eMCtK--X86sw\nnode.id=3\n\
             directory.id=AAAAAAAAAAAAAAAAAAAAAQ\ncorelane.format=2\n"
        );
        for cluster_id in ["5L6g3nShT-eMCtK--X86sw", "my cluster", " a=b:c\\d#!", "tab\tend\n"] {
            for format in [0, 1, 7] {
                let meta = meta(cluster_id, format);
                assert_eq!(MetaProperties::decode(&meta.encode()).unwrap(), meta, "{cluster_id:?}");
            }
        }
        let unassigned = MetaProperties { directory_id: DirectoryId::UNASSIGNED, ..meta("c", 0) };
        assert_eq!(unassigned.encode(), "version=1\ncluster.id=c\nnode.id=3\n");
        assert_eq!(MetaProperties::decode(&unassigned.encode()).unwrap(), unassigned);
    }

    #[test]
    fn meta_properties_of_kafka() {
        let text = "#\n#Fri Aug 21 12:33:57 UTC 2026\nnode.id=3\ndirectory.id=AAAAAAAAAAAAAAAAAAAAAQ\n\
                    version=1\ncluster.id=a\\:b\\u0041\n";
        assert_eq!(MetaProperties::decode(text).unwrap(), meta("a:bA", 0));
        assert_eq!(
            MetaProperties::decode("version : 1\n cluster.id c\n\n!x\nnode.id: 3\n").unwrap().cluster_id,
            "c"
        );
        for damaged in [
            "",
            "version=1\nnode.id=3\n",
            "version=1\ncluster.id=c\n",
            "version=1\ncluster.id=\nnode.id=3\n",
            "cluster.id=c\nnode.id=3\n",
            "version=0\nbroker.id=3\ncluster.id=c\n",
            "version=2\ncluster.id=c\nnode.id=3\n",
            "version=1\ncluster.id=c\nnode.id=-3\n",
            "version=1\ncluster.id=c\nnode.id=x\n",
            "version=1\ncluster.id=c\nnode.id=3\ndirectory.id=x\n",
            "version=1\ncluster.id=c\nnode.id=3\ncorelane.format=-1\n",
        ] {
            assert!(MetaProperties::decode(damaged).is_err(), "{damaged:?}");
        }
    }

    #[test]
    fn clean_shutdown() {
        assert_eq!(encode_clean_shutdown(42), r#"{"version":0,"brokerEpoch":42}"#);
        for (text, expect) in [
            (r#"{"version":0,"brokerEpoch":42}"#, Some(42)),
            (r#"{ "brokerEpoch" : -1 , "version" : 0 }"#, Some(-1)),
            ("", None),
            ("{}", None),
            (r#"{"version":0,"brokerEpoch":null}"#, None),
            (r#"{"version":0,"brokerEpoch""#, None),
        ] {
            assert_eq!(decode_clean_shutdown(text), expect, "{text:?}");
        }
    }
}

//! Every metric: name, kind, unit, labels, meaning, and where its value comes from.
//!
//! Names follow Prometheus' conventions (a test checks each row): base units, the unit last, `_total` behind counters.
//! Labels: `shard` is a shard's number; what concerns the node as a whole (topics, log directories, latencies) is
//! summed over the shards, or a node with many cores and topics would tell millions of series.

use std::fmt::Write as _;

use super::Histogram;
use super::snapshot::{ApiCounters, Directory, Metadata, Node, Snapshot, Topic};

/// A metric that every scrape has.
pub struct Metric {
    pub name: &'static str,
    pub kind: Kind,
    pub unit: Unit,
    /// One or two sentences for the operator.
    pub help: &'static str,
    pub(super) source: Source,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    Counter,
    Gauge,
    Histogram,
}

/// What a value counts, and so how its raw number is written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Unit {
    /// Things, or 0 and 1 for no and yes.
    None,
    Bytes,
    /// Raw: nanoseconds.
    Seconds,
    /// Raw: millionths.
    Ratio,
}

/// Where the values come from, which also says what labels they have.
pub(super) enum Source {
    /// 1, with the version as a label.
    Version,
    Node(fn(&Node) -> u64),
    /// Whether each shard has answered the scrape.
    ShardAnswers,
    Shard(fn(&Snapshot) -> u64),
    ShardHistogram(fn(&Snapshot) -> &Histogram),
    Api(fn(&ApiCounters) -> u64),
    ApiHistogram(fn(&ApiCounters) -> &Histogram),
    Metadata(fn(&Metadata) -> u64),
    MetadataHistogram(fn(&Metadata) -> &Histogram),
    Directory(fn(&Directory) -> Option<u64>),
    Topic(fn(&Topic) -> u64),
}

impl Kind {
    /// As in the TYPE line.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Kind::Counter => "counter",
            Kind::Gauge => "gauge",
            Kind::Histogram => "histogram",
        }
    }
}

impl Unit {
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Unit::None => "",
            Unit::Bytes => "bytes",
            Unit::Seconds => "seconds",
            Unit::Ratio => "ratio",
        }
    }
}

impl Metric {
    /// The names of its labels, `le` of histograms left out.
    #[must_use]
    pub fn labels(&self) -> &'static [&'static str] {
        match self.source {
            Source::Node(_) | Source::Metadata(_) | Source::MetadataHistogram(_) => &[],
            Source::Version => &["version"],
            Source::ShardAnswers | Source::Shard(_) | Source::ShardHistogram(_) => &["shard"],
            Source::Api(_) => &["shard", "api"],
            Source::ApiHistogram(_) => &["api"],
            Source::Directory(_) => &["dir"],
            Source::Topic(_) => &["topic"],
        }
    }
}

const fn counter(name: &'static str, unit: Unit, source: Source, help: &'static str) -> Metric {
    Metric { name, kind: Kind::Counter, unit, help, source }
}

const fn gauge(name: &'static str, unit: Unit, source: Source, help: &'static str) -> Metric {
    Metric { name, kind: Kind::Gauge, unit, help, source }
}

const fn histogram(name: &'static str, source: Source, help: &'static str) -> Metric {
    Metric { name, kind: Kind::Histogram, unit: Unit::Seconds, help, source }
}

/// In the order in which they are told.
#[rustfmt::skip]
pub const TABLE: &[Metric] = &[
    // the node
    gauge("corelane_build_info", Unit::None, Source::Version,
        "Always 1; the label says which version runs."),
    gauge("corelane_ready", Unit::None, Source::Node(|node| u64::from(node.ready)),
        "1 while clients are served, 0 while the broker starts or stops."),
    gauge("corelane_admin_connections", Unit::None, Source::Node(|node| node.admin_connections),
        "Open connections of the admin listener."),
    // the process, by Prometheus' standard names
    counter("process_cpu_seconds_total", Unit::Seconds, Source::Node(|node| node.cpu),
        "CPU time of all threads, the shards' included."),
    gauge("process_resident_memory_bytes", Unit::Bytes, Source::Node(|node| node.resident_bytes),
        "Memory of the process that is resident."),
    gauge("process_open_fds", Unit::None, Source::Node(|node| node.open_files),
        "Open file descriptors."),
    gauge("process_max_fds", Unit::None, Source::Node(|node| node.open_files_max),
        "File descriptors that the process may open (ulimit -n)."),
    gauge("process_start_time_seconds", Unit::Seconds, Source::Node(|node| node.started),
        "When the broker was started, in seconds since 1970."),
    // shards
    gauge("corelane_shard_up", Unit::None, Source::ShardAnswers,
        "1 if the shard has answered this scrape; one that has not is missing from all other metrics of shards."),
    counter("corelane_shard_cpu_seconds_total", Unit::Seconds, Source::Shard(|shard| shard.cpu),
        "CPU time of the shard's thread: its rate is the shard's utilisation, 1 is all of a core. What corelane.spin.us adds is in it."),
    gauge("corelane_shard_longest_stall_seconds", Unit::Seconds, Source::Shard(|shard| shard.longest_stall),
        "The longest time since the start in which the shard had no turn: one task kept its thread, or the machine had no time for it."),
    gauge("corelane_shard_scrape_seconds", Unit::Seconds, Source::Shard(|shard| shard.scrape),
        "Time of the shard's thread that this scrape has taken."),
    counter("corelane_shard_messages_sent_total", Unit::None, Source::Shard(|shard| shard.partitions.messages_sent),
        "Requests and replies that the shard has sent to other shards."),
    counter("corelane_shard_messages_received_total", Unit::None, Source::Shard(|shard| shard.partitions.messages_received),
        "Requests and replies that the shard has received from other shards."),
    // connections
    gauge("corelane_connections", Unit::None, Source::Shard(|shard| shard.server.connections),
        "Open connections of clients."),
    counter("corelane_connections_accepted_total", Unit::None, Source::Shard(|shard| shard.server.counters.connections_accepted.get()),
        "Connections of clients that were let in."),
    counter("corelane_connections_refused_total", Unit::None, Source::Shard(|shard| shard.server.counters.connections_refused.get()),
        "Connections that max.connections made wait or max.connections.per.ip turned away."),
    counter("corelane_connections_rejected_total", Unit::None, Source::Shard(|shard| shard.server.counters.connections_rejected.get()),
        "Connections closed for what they sent or did not take; the log says why."),
    counter("corelane_connections_handed_over_total", Unit::None, Source::Shard(|shard| shard.server.counters.connections_handed_over.get()),
        "Connections that the shard has handed over to the shard that holds the partitions of most of their requests."),
    counter("corelane_connection_handovers_refused_total", Unit::None, Source::Shard(|shard| shard.server.counters.handovers_refused.get()),
        "Connections that the shard would have handed over, to a shard that was too busy for them; they are served where they are."),
    // requests
    counter("corelane_requests_total", Unit::None, Source::Api(|api| api.requests.get()),
        "Requests answered, acks=0 included."),
    counter("corelane_request_errors_total", Unit::None, Source::Api(|api| api.errors.get()),
        "Replies that carry an error."),
    counter("corelane_request_bytes_total", Unit::Bytes, Source::Api(|api| api.request_bytes.get()),
        "Bytes of requests handled, those included that ended their connection and have no reply."),
    counter("corelane_response_bytes_total", Unit::Bytes, Source::Api(|api| api.reply_bytes.get()),
        "Bytes of replies."),
    histogram("corelane_request_duration_seconds", Source::ApiHistogram(|api| &api.latency),
        "From a request's last byte until its reply is ready. A Fetch may wait for records as long as its client asks."),
    counter("corelane_recompressed_batches_total", Unit::None, Source::Shard(|shard| shard.partitions.counters.recompressed_batches.get()),
        "Produced batches compressed anew for their topic's compression.type. It costs CPU beside the shards' threads: let producers use that codec."),
    // memory budgets
    gauge("corelane_request_budget_bytes", Unit::Bytes, Source::Shard(|shard| shard.server.request_budget_bytes),
        "Memory for requests in flight (corelane.shard.request.bytes)."),
    gauge("corelane_request_budget_used_bytes", Unit::Bytes, Source::Shard(|shard| shard.server.request_used_bytes),
        "What requests in flight hold of it; connections wait when it is used up."),
    gauge("corelane_response_waiting_bytes", Unit::Bytes, Source::Shard(|shard| shard.server.reply_waiting_bytes),
        "Replies that are ready and that their clients have not taken."),
    gauge("corelane_tail_cache_bytes", Unit::Bytes, Source::Shard(|shard| shard.storage.tail_cache_bytes),
        "Newest records held in memory."),
    gauge("corelane_tail_cache_limit_bytes", Unit::Bytes, Source::Shard(|shard| shard.storage.tail_cache_bytes_max),
        "What the tail cache may hold (corelane.shard.tail.cache.bytes)."),
    gauge("corelane_read_ahead_bytes", Unit::Bytes, Source::Shard(|shard| shard.storage.read_ahead_bytes),
        "Records read from disk and held in memory."),
    gauge("corelane_read_ahead_limit_bytes", Unit::Bytes, Source::Shard(|shard| shard.storage.read_ahead_bytes_max),
        "What the read-ahead cache may hold (corelane.shard.read.ahead.bytes)."),
    gauge("corelane_producer_state_bytes", Unit::Bytes, Source::Shard(|shard| shard.storage.producer_state_bytes),
        "State of idempotent producers, as of the last time it was looked through."),
    gauge("corelane_producer_state_limit_bytes", Unit::Bytes, Source::Shard(|shard| shard.storage.producer_state_bytes_max),
        "What that state may hold (corelane.shard.producer.state.bytes); beyond it the longest silent are forgotten."),
    // reads
    counter("corelane_cache_hits_total", Unit::None, Source::Shard(|shard| shard.partitions.counters.cache_hits.get()),
        "Reads of a partition for a fetch that memory could answer."),
    counter("corelane_cache_misses_total", Unit::None, Source::Shard(|shard| shard.partitions.counters.cache_misses.get()),
        "Reads of a partition for a fetch that had to wait for the disk."),
    counter("corelane_disk_read_bytes_total", Unit::Bytes, Source::Shard(|shard| shard.storage.counters.disk_read_bytes.get()),
        "Bytes read from segment files for fetches, read-ahead included."),
    gauge("corelane_waiting_fetches", Unit::None, Source::Shard(|shard| shard.partitions.waiting_fetches),
        "Fetches that wait for records to arrive."),
    // commits
    counter("corelane_commit_rounds_total", Unit::None, Source::Shard(|shard| shard.storage.counters.rounds.get()),
        "Commit rounds: one write and one flush for all small batches together, and one of each for every log with much to write, side by side."),
    counter("corelane_commit_batches_total", Unit::None, Source::Shard(|shard| shard.storage.counters.batches.get()),
        "Record batches made durable (with corelane.durability=written: written); divided by the rounds, how many share one."),
    counter("corelane_commit_batch_bytes_total", Unit::Bytes, Source::Shard(|shard| shard.storage.counters.batch_bytes.get()),
        "Bytes of those batches."),
    counter("corelane_commit_written_bytes_total", Unit::Bytes, Source::Shard(|shard| shard.storage.counters.written_bytes.get()),
        "Bytes written for them to the journal and straight to segments, in whole blocks of 4 KiB."),
    counter("corelane_commit_drained_bytes_total", Unit::Bytes, Source::Shard(|shard| shard.storage.counters.drained_bytes.get()),
        "Bytes written to segments of what had become durable in the journal; with the above, and divided by the batches' bytes, the write amplification."),
    gauge("corelane_journal_bytes", Unit::Bytes, Source::Shard(|shard| shard.storage.journaled_bytes),
        "Bytes of batches that lie in the journal and not yet in their segments."),
    counter("corelane_flushes_total", Unit::None, Source::Shard(|shard| shard.storage.counters.flushes.get()),
        "Journal and segment files flushed (fdatasync) in commit rounds."),
    histogram("corelane_commit_duration_seconds", Source::ShardHistogram(|shard| &shard.storage.counters.commits),
        "From the arrival of the oldest batch that a round takes from a log until it is durable."),
    gauge("corelane_commit_pending_bytes", Unit::Bytes, Source::Shard(|shard| shard.storage.pending_bytes),
        "Bytes of batches that are appended and not yet durable."),
    // retention and DeleteRecords
    counter("corelane_expired_records_total", Unit::None, Source::Shard(|shard| shard.storage.counters.expired_records.get()),
        "Records that are served no more, because retention or DeleteRecords has moved a log start past them."),
    counter("corelane_removed_segments_total", Unit::None, Source::Shard(|shard| shard.storage.counters.removed_segments.get()),
        "Segments below their log's start whose files were removed, or will be when no read holds them."),
    counter("corelane_removed_bytes_total", Unit::Bytes, Source::Shard(|shard| shard.storage.counters.removed_bytes.get()),
        "Bytes of those segments."),
    // compaction
    counter("corelane_cleaner_runs_total", Unit::None, Source::Shard(|shard| shard.storage.counters.cleaner_runs.get()),
        "Cleanings of a compacted partition that were begun."),
    counter("corelane_cleaner_read_bytes_total", Unit::Bytes, Source::Shard(|shard| shard.storage.counters.cleaner_read_bytes.get()),
        "Bytes that cleanings have read."),
    counter("corelane_cleaner_written_bytes_total", Unit::Bytes, Source::Shard(|shard| shard.storage.counters.cleaner_written_bytes.get()),
        "Bytes of compacted segments that cleanings have written."),
    gauge("corelane_cleaner_dirtiest_log_ratio", Unit::Ratio, Source::Shard(|shard| shard.storage.dirtiest_log_ratio),
        "The share of the dirtiest compacted partition that is not compacted, at the cleaner's last look; it is cleaned above min.cleanable.dirty.ratio."),
    gauge("corelane_cleaner_map_keys", Unit::None, Source::Shard(|shard| shard.storage.counters.cleaner_map_keys.get()),
        "Keys in the map of the last cleaning."),
    gauge("corelane_cleaner_map_limit_keys", Unit::None, Source::Shard(|shard| shard.storage.counters.cleaner_map_keys_max.get()),
        "Keys that fit in that map. A map that is full makes a cleaning end early: raise log.cleaner.dedupe.buffer.size."),
    gauge("corelane_uncleanable_partitions", Unit::None, Source::Shard(|shard| shard.storage.uncleanable_partitions),
        "Compacted partitions that are not compacted until the next start, because their files are damaged or cannot be read; the log says why."),
    // metadata
    gauge("corelane_metadata_log_start_offset", Unit::None, Source::Metadata(|metadata| metadata.start_offset.get()),
        "The first offset that the metadata log still has; what lies before it is in snapshots."),
    gauge("corelane_metadata_log_end_offset", Unit::None, Source::Metadata(|metadata| metadata.end_offset.get()),
        "The offset behind the last change of the cluster's metadata that is committed."),
    gauge("corelane_metadata_term", Unit::None, Source::Metadata(|metadata| metadata.term.get()),
        "The term of the metadata quorum: how often a leader has been elected, each start included."),
    histogram("corelane_metadata_commit_duration_seconds", Source::MetadataHistogram(|metadata| &metadata.commits),
        "From a decision on the metadata until it is committed."),
    histogram("corelane_metadata_apply_duration_seconds", Source::MetadataHistogram(|metadata| &metadata.applies),
        "From there until it is in force on every shard; for the deletion of a topic, until its folders are gone."),
    counter("corelane_metadata_snapshots_total", Unit::None, Source::Metadata(|metadata| metadata.snapshots.get()),
        "Snapshots of the metadata written."),
    counter("corelane_metadata_snapshot_failures_total", Unit::None, Source::Metadata(|metadata| metadata.failed_snapshots.get()),
        "Snapshots that could not be written: the log keeps everything, and the broker's log says why."),
    gauge("corelane_metadata_snapshot_end_offset", Unit::None, Source::Metadata(|metadata| metadata.snapshot_end_offset.get()),
        "The offset behind the last change in the newest snapshot."),
    gauge("corelane_metadata_since_snapshot_bytes", Unit::Bytes, Source::Metadata(|metadata| metadata.bytes_since_snapshot.get()),
        "Changes since the last snapshot: what a start reads beside it (metadata.log.max.record.bytes.between.snapshots)."),
    // log directories
    gauge("corelane_log_dir_online", Unit::None, Source::Directory(|directory| Some(u64::from(directory.online))),
        "0 once a write or flush has failed in the directory: it is offline for writing until the broker is restarted."),
    gauge("corelane_log_dir_bytes_until_refusal", Unit::Bytes, Source::Directory(|directory| directory.bytes_until_refusal),
        "What may still be produced before the reserve (corelane.disk.reserve.bytes) is touched and Produce is refused."),
    // consumer groups
    gauge("corelane_groups", Unit::None, Source::Shard(|shard| shard.partitions.groups.groups),
        "Groups that the shard coordinates. What each has committed and its lag are at /metrics/groups."),
    gauge("corelane_members", Unit::None, Source::Shard(|shard| shard.partitions.groups.members),
        "Members of these groups."),
    gauge("corelane_group_coordinators", Unit::None, Source::Shard(|shard| shard.partitions.groups.coordinators),
        "Partitions of __consumer_offsets on the shard."),
    gauge("corelane_group_coordinators_unavailable", Unit::None, Source::Shard(|shard| shard.partitions.groups.unavailable),
        "Partitions of __consumer_offsets whose groups are being loaded, or cannot be: the broker's log says why."),
    counter("corelane_group_committed_offsets_total", Unit::None, Source::Shard(|shard| shard.partitions.counters.committed_offsets.get()),
        "Offsets committed, one for each partition of a commit."),
    counter("corelane_group_records_total", Unit::None, Source::Shard(|shard| shard.partitions.counters.group_records.get()),
        "Records written to __consumer_offsets: committed offsets, and what groups have agreed on."),
    // transactions
    gauge("corelane_transactional_ids", Unit::None, Source::Shard(|shard| shard.partitions.transactions.transactional_ids),
        "Transactional ids that the shard coordinates; one that is not used is forgotten after transactional.id.expiration.ms."),
    gauge("corelane_open_transactions", Unit::None, Source::Shard(|shard| shard.partitions.transactions.open),
        "Transactions that have begun and have not ended in all their partitions: they hold back consumers that read what is committed."),
    counter("corelane_committed_transactions_total", Unit::None, Source::Shard(|shard| shard.partitions.counters.committed_transactions.get()),
        "Transactions that have ended in all their partitions, committed."),
    counter("corelane_aborted_transactions_total", Unit::None, Source::Shard(|shard| shard.partitions.counters.aborted_transactions.get()),
        "Transactions that have ended in all their partitions, aborted."),
    counter("corelane_timed_out_transactions_total", Unit::None, Source::Shard(|shard| shard.partitions.counters.timed_out_transactions.get()),
        "Transactions that the coordinator has aborted because they took longer than their producer's transaction.timeout.ms."),
    counter("corelane_transaction_verifications_total", Unit::None, Source::Shard(|shard| shard.partitions.counters.verifications.get()),
        "Questions of the shard's partitions whether they belong to a transaction, before a producer's first batch of it."),
    counter("corelane_failed_transaction_verifications_total", Unit::None, Source::Shard(|shard| shard.partitions.counters.failed_verifications.get()),
        "Partitions for which the answer was no, or none came: the batch was refused, or the question asked again."),
    gauge("corelane_transaction_coordinators", Unit::None, Source::Shard(|shard| shard.partitions.transactions.coordinators),
        "Partitions of __transaction_state on the shard."),
    gauge("corelane_transaction_coordinators_unavailable", Unit::None, Source::Shard(|shard| shard.partitions.transactions.unavailable),
        "Partitions of __transaction_state whose transactions are being loaded, or cannot be: the broker's log says why."),
    // partitions and topics
    gauge("corelane_partitions", Unit::None, Source::Shard(|shard| shard.partitions.open),
        "Partitions on the shard, the metadata log included."),
    gauge("corelane_offline_partitions", Unit::None, Source::Shard(|shard| shard.partitions.offline),
        "Partitions whose folder is missing or could not be opened: neither read nor written."),
    gauge("corelane_topic_partitions", Unit::None, Source::Topic(|topic| topic.partitions.get()),
        "Partitions of the topic on this node."),
    gauge("corelane_topic_last_stable_offset_lag", Unit::None, Source::Topic(|topic| topic.stable_lag.get()),
        "Records (and markers) of the topic that consumers of committed records are not given yet: from each partition's last stable offset to its high watermark. If it only grows, a transaction hangs: corelane txn find-hanging."),
    counter("corelane_topic_received_bytes_total", Unit::Bytes, Source::Topic(|topic| topic.received_bytes.get()),
        "Bytes of record batches appended, as stored; duplicates of idempotent producers are not."),
    counter("corelane_topic_received_records_total", Unit::None, Source::Topic(|topic| topic.received_records.get()),
        "Records appended."),
    counter("corelane_topic_sent_bytes_total", Unit::Bytes, Source::Topic(|topic| topic.sent_bytes.get()),
        "Bytes of record batches given to fetches."),
    counter("corelane_topic_sent_records_total", Unit::None, Source::Topic(|topic| topic.sent_records.get()),
        "Records given to fetches: the offsets that each moved on by."),
];

/// The table as Markdown, for the documentation.
#[must_use]
pub fn reference_markdown() -> String {
    let mut text =
        String::from("| metric | kind | unit | labels | meaning |\n| --- | --- | --- | --- | --- |\n");
    for metric in TABLE {
        let labels = metric.labels().join(", ");
        writeln!(
            text,
            "| `{}` | {} | {} | {labels} | {} |",
            metric.name,
            metric.kind.name(),
            metric.unit.name(),
            metric.help
        )
        .expect("a string takes any text");
    }
    text
}

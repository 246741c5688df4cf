//! Retention: what is older, or more, than its topic keeps.
//!
//! Every log.retention.check.interval.ms each shard looks at its logs, at another time than the other shards. A log
//! whose oldest segments may go ([`log::retention`](crate::log::retention)) gets a new start; once that is durable,
//! [`removal`](super::removal) does the rest. Settings are read anew for every segment, so a change of the topic's
//! configuration counts at the next look.

use std::rc::Rc;
use std::time::Duration;

use super::segment::Segment;
use super::shard::Shard;
use super::state::{LogState, Status};
use super::{Error, LogConfig, indexes, log_starts, removal, roll};
use crate::log::files::FileKind;
use crate::log::retention::{Candidate, Reason, Rules, Verdict};
use crate::model::{Offset, TimestampMs};
use crate::reactor::{self, fs};

/// The first look comes this long after the start, as in Kafka, or after a whole interval if that is shorter.
const FIRST_LOOK: Duration = Duration::from_secs(30);
/// Logs looked at before the rest of the shard gets a turn: some 50 µs.
const LOGS_IN_A_ROW: usize = 256;

/// Looks at all logs every interval while the shard runs.
pub async fn keep(shard: Rc<Shard>) {
    let interval = Duration::from_millis(shard.config.retention_check_interval_ms.max(1));
    // shards one after the other, spread over the time there is
    let (turn, turns) = (reactor::shard_id().index() + 1, reactor::shard_count().max(1));
    let mut next = reactor::now().after(interval.min(FIRST_LOOK).mul_f64(turn as f64 / turns as f64));
    while !shard.stopping.get() {
        reactor::sleep_until(next).await;
        if shard.stopping.get() {
            return;
        }
        next = reactor::now().after(interval);
        if !shard.booting.get() {
            let _background = shard.background();
            look(&shard).await;
        }
    }
}

async fn look(shard: &Rc<Shard>) {
    let logs: Vec<Rc<LogState>> = shard.logs.borrow().values().cloned().collect();
    let mut moves = Vec::new();
    for (index, log) in logs.into_iter().enumerate() {
        if index % LOGS_IN_A_ROW == LOGS_IN_A_ROW - 1 {
            reactor::turn().await;
        }
        if shard.stopping.get() {
            break;
        }
        let truncations = log.borrow().truncations;
        match expired(&log).await {
            // what has expired may be gone, and something else be there
            Ok(_) if log.borrow().truncations != truncations => {}
            // side by side, so that they share the write
            Ok(Some(start)) => moves.push(reactor::spawn(async move {
                // an error is said where it happens
                let _ = log_starts::advance(&log, start).await;
            })),
            // an earlier removal may have been kept from it
            Ok(None) if removal::is_due(&log.borrow()) => removal::enqueue(&log),
            Ok(None) => {}
            Err(error) => {
                tracing::debug!(log = log.name, ?error, "retention passes over the log this time");
            }
        }
    }
    for done in moves {
        done.await;
    }
}

/// The log's new start, if segments are to go.
async fn expired(log: &Rc<LogState>) -> Result<Option<Offset>, Error> {
    let now = TimestampMs(reactor::wall_clock_ms());
    let (mut from, mut left) = {
        let inner = log.borrow();
        // what lies below the start is on its way out
        let gone = inner.segments.windows(2).take_while(|pair| pair[1].base <= inner.start);
        (inner.start, inner.total_bytes - gone.map(|pair| pair[0].durable_bytes.get()).sum::<u64>())
    };
    let (mut count, mut bytes, mut why) = (0, 0, None);
    let begin = from;
    // ends: each turn goes one segment on
    loop {
        let Some((segment, candidate, rules)) = oldest(log, from) else { break };
        let reason = match rules.judge(&candidate, left) {
            Verdict::Delete(reason) => reason,
            Verdict::AskTime if rules.is_expired(newest(log, &segment).await?, now) => Reason::Time,
            Verdict::AskTime | Verdict::Keep => break,
        };
        if candidate.is_active && !end_active(log, candidate.end).await? {
            break;
        }
        (count, bytes, why) = (count + 1, bytes + candidate.bytes, why.or(Some(reason)));
        (from, left) = (candidate.end, left.saturating_sub(candidate.bytes));
        if candidate.is_active {
            break;
        }
    }
    if from <= begin {
        return Ok(None);
    }
    tracing::info!(
        log = log.name,
        segments = count,
        bytes,
        reason = why.map_or("", words),
        log_start = from.0,
        "segments have expired and are removed"
    );
    Ok(Some(from))
}

fn words(reason: Reason) -> &'static str {
    match reason {
        Reason::Size => "retention.bytes",
        Reason::Time => "retention.ms",
    }
}

/// The segment that holds `from`, and what decides on it. A log that stops or is deleted has none.
fn oldest(log: &LogState, from: Offset) -> Option<(Rc<Segment>, Candidate, Rules)> {
    let high_watermark = log.shard.listener.high_watermark(log.partition);
    let inner = log.borrow();
    if inner.status != Status::Open || inner.work.held || log.directory.is_offline() {
        return None;
    }
    let index = inner.segments.partition_point(|segment| segment.base <= from).checked_sub(1)?;
    let segment = Rc::clone(&inner.segments[index]);
    let next = inner.segments.get(index + 1).map(|next| next.base);
    let candidate = Candidate {
        end: next.unwrap_or(inner.end),
        bytes: if next.is_some() { segment.durable_bytes.get() } else { inner.appended_bytes },
        is_active: next.is_none(),
    };
    let (retention_ms, retention_bytes) = limits(&inner.config);
    let high_watermark = high_watermark.min(inner.durable_end);
    Some((segment, candidate, Rules { retention_ms, retention_bytes, high_watermark }))
}

/// A topic that is only compacted, or keeps everything, has no limits.
fn limits(config: &LogConfig) -> (i64, i64) {
    if config.cleanup.delete { (config.retention_ms, config.retention_bytes) } else { (-1, -1) }
}

/// The largest record timestamp; where no record has one, when the file was last written.
async fn newest(log: &LogState, segment: &Rc<Segment>) -> Result<TimestampMs, Error> {
    let latest = indexes::latest(log, segment).await?.timestamp;
    if latest.0 >= 0 {
        return Ok(latest);
    }
    let path = log.folder.join(segment.file_name(FileKind::Log));
    let modified = fs::modified_ms(&path).await.map_err(|error| {
        tracing::error!(path = %path.display(), %error, "cannot tell the age of a segment: it stays");
        Error::Offline
    })?;
    Ok(TimestampMs(modified))
}

/// Has the active segment give way to a new one and waits until it is closed. False if the log has gone on meanwhile:
/// then it is for the next look.
async fn end_active(log: &Rc<LogState>, end: Offset) -> Result<bool, Error> {
    if log.borrow().end != end || !roll::roll_now(log).await {
        return Ok(false);
    }
    log.flush().await?;
    Ok(true)
}

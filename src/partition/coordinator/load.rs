//! A coordinator out of its log.

use std::rc::Rc;

use super::{Hosted, Shard};
use crate::coordinator::record::LogRecord;
use crate::log::control;
use crate::model::{Offset, PartitionId};
use crate::protocol::batch::{BatchHeader, Batches, Codec, HEADER_BYTES};
use crate::protocol::compression::decompress;
use crate::protocol::records::Records;
use crate::reactor;

/// Read and replayed before the shard's other work gets a turn: a millisecond or two.
const SLICE_BYTES: usize = 256 << 10;

/// Of one batch, decompressed. The broker writes none that is compressed; a log that was brought along may have some.
const BATCH_BYTES_MAX: usize = 64 << 20;

/// # Errors
/// Why the log cannot be read.
pub(super) async fn load<M: Hosted>(shard: &Rc<Shard>, partition: PartitionId) -> Result<M, String> {
    let log = shard.log(partition).ok_or("the partition is offline")?;
    let mut machine = M::new(M::hosts(shard.coordinators()).settings.clone());
    let started = reactor::now();
    let (mut records, mut unreadable) = (0_u64, 0_u64);
    let mut next = log.start_offset();
    while next < log.end_offset() {
        // after a failed write, what is left in flight fails with it
        let limit = log.durable_end();
        if next >= limit {
            return Err(format!("offset {next} is not durable"));
        }
        let slices = log.read(next, limit, SLICE_BYTES, true).await;
        let slices = slices.map_err(|error| format!("offset {next} cannot be read: {error:?}"))?;
        let bytes = slices.parts.concat();
        for batch in Batches::new(&bytes) {
            let (header, batch) = batch.map_err(|error| format!("at offset {next}: {error:?}"))?;
            let (read, not) = replay_batch(&mut machine, &header, batch)
                .map_err(|reason| format!("the batch at offset {}: {reason}", header.base_offset))?;
            (records, unreadable) = (records + read, unreadable + not);
        }
        if slices.next <= next {
            return Err(format!("there is nothing to read at offset {next}"));
        }
        next = slices.next;
        reactor::turn().await;
    }
    if unreadable > 0 {
        tracing::error!(
            topic = M::TOPIC,
            partition = partition.index,
            records = unreadable,
            "records of {} are passed over, since they cannot be understood; kafka-dump-log shows the partition's \
             records, with --offsets-decoder or --transaction-log-decoder",
            M::WHAT
        );
    }
    if next > Offset::ZERO {
        tracing::info!(
            topic = M::TOPIC,
            partition = partition.index,
            records,
            seconds = reactor::now().since(started).as_secs_f64(),
            "loaded the {} of a partition",
            M::WHAT
        );
    }
    Ok(machine)
}

/// How many records were replayed, and how many could not be understood.
fn replay_batch<M: Hosted>(
    machine: &mut M,
    header: &BatchHeader,
    batch: &[u8],
) -> Result<(u64, u64), String> {
    if header.is_control() {
        if let Some(marker) = control::end_marker(header, &batch[HEADER_BYTES..]) {
            machine.end_transaction(header.producer_id, marker.end);
        }
        return Ok((0, 0));
    }
    let codec = header.codec().ok_or("of an unknown codec")?;
    let unpacked;
    let body = match codec {
        Codec::None => &batch[HEADER_BYTES..],
        codec => {
            unpacked = decompress(codec, &batch[HEADER_BYTES..], BATCH_BYTES_MAX)
                .map_err(|error| format!("{error:?}"))?;
            &unpacked[..]
        }
    };
    let (mut read, mut unreadable) = (0, 0);
    for record in Records::new(header, body) {
        let record = record.map_err(|error| format!("{error:?}"))?;
        let key = record.key.map_or(&[][..], |range| &body[range]);
        match M::Record::decode(key, record.value.map(|range| &body[range])) {
            Ok(Some(record)) => {
                match header.is_transactional() {
                    true => machine.replay_in_transaction(header.producer_id, record),
                    false => machine.replay(record),
                }
                read += 1;
            }
            Ok(None) => {}
            Err(_) => unreadable += 1,
        }
    }
    Ok((read, unreadable))
}

//! A snapshot of the metadata log: what it adds up to at one point, as records. The log up to there is not needed any
//! more.
//!
//! The file is record batches, as the log's own, so each part is under a checksum. The first holds the header alone,
//! which says how many records follow: a file that ends early is damaged. Its name is Kafka's, offset and epoch.

use bytes::Bytes;

use super::batch;
use super::codec::{Field, fields};
use super::record::{DecodeError, Record};
use crate::model::{BrokerId, Offset};
use crate::protocol::batch::{Batches, crc_matches};

/// Which part of the log a snapshot stands for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SnapshotHeader {
    /// Consensus index and term of the last entry that is in it.
    pub index: u64,
    pub term: u64,
    /// The log's offset behind that entry.
    pub end: Offset,
    /// Who votes on the log.
    pub voters: Vec<BrokerId>,
    /// How many records follow.
    pub records: u64,
}

fields!(SnapshotHeader { index: u64, term: u64, end: Offset, voters: Vec<BrokerId>, records: u64 });

/// The version of the header. A newer one may have more fields.
const VERSION: u16 = 0;
/// Not a record's type: nobody takes a snapshot's header for a change.
const KIND: u16 = 0xfffe;

const SUFFIX: &str = ".checkpoint";

/// Gathers the file's batches.
pub struct Writer {
    file: Vec<u8>,
    now_ms: i64,
    left: u64,
}

impl Writer {
    #[must_use]
    pub fn new(header: &SnapshotHeader, now_ms: i64) -> Writer {
        let mut data = Vec::new();
        KIND.put(&mut data);
        VERSION.put(&mut data);
        let mut body = Vec::new();
        header.put(&mut body);
        u32::try_from(body.len()).expect("a header is small").put(&mut data);
        data.extend(body);
        let mut writer = Writer { file: Vec::new(), now_ms, left: header.records };
        writer.push_batch(&data);
        writer
    }

    fn push_batch(&mut self, data: &[u8]) {
        let batch = batch::encode(data, self.now_ms).expect("it was encoded here");
        self.file.extend_from_slice(&batch);
    }

    /// Appends one batch: a few hundred records at a time.
    pub fn push(&mut self, records: &[Record]) {
        self.left -= records.len() as u64;
        if !records.is_empty() {
            self.push_batch(&batch::encode_data(records));
        }
    }

    /// The whole file.
    ///
    /// # Panics
    /// If there are fewer records than the header says.
    #[must_use]
    pub fn finish(self) -> Vec<u8> {
        assert_eq!(self.left, 0, "the header promises more records");
        self.file
    }
}

/// # Errors
/// What is wrong with the file.
pub fn decode(file: &[u8]) -> Result<(SnapshotHeader, Vec<Record>), String> {
    let bytes = Bytes::copy_from_slice(file);
    let mut header = None;
    let mut records = Vec::new();
    for batch in Batches::new(&bytes) {
        let (framing, batch) = batch.map_err(|error| format!("{error:?}"))?;
        if !crc_matches(batch) {
            return Err("a batch does not match its checksum".to_owned());
        }
        let data = batch::decode(&framing, batch)?;
        match header {
            None => header = Some(decode_header(&data).map_err(|error| error.to_string())?),
            Some(_) => {
                batch::decode_data(&data, &mut records).map_err(|error| error.to_string())?;
            }
        }
    }
    let header: SnapshotHeader = header.ok_or("it is empty")?;
    if header.records != records.len() as u64 {
        return Err(format!("it has {} of {} records", records.len(), header.records));
    }
    Ok((header, records))
}

fn decode_header(data: &[u8]) -> Result<SnapshotHeader, DecodeError> {
    let mut rest = data;
    let (kind, version, length) =
        (|| Some((u16::take(&mut rest)?, u16::take(&mut rest)?, u32::take(&mut rest)?)))()
            .ok_or(DecodeError::Malformed)?;
    if kind != KIND {
        return Err(DecodeError::UnknownType(kind));
    }
    let whole = usize::try_from(length) == Ok(rest.len());
    let header = SnapshotHeader::take(&mut rest).filter(|_| whole).ok_or(DecodeError::Malformed)?;
    match version == VERSION && !rest.is_empty() {
        true => Err(DecodeError::Malformed),
        false => Ok(header),
    }
}

/// Kafka's name for the snapshot of that point.
#[must_use]
pub fn file_name(header: &SnapshotHeader) -> String {
    format!("{:020}-{:010}{SUFFIX}", header.end.0, header.term)
}

/// The offset behind the last entry in the snapshot of that name, and that entry's term; `None` if it is another file's
/// name.
#[must_use]
pub fn parse_file_name(name: &str) -> Option<(Offset, u64)> {
    let (offset, term) = name.strip_suffix(SUFFIX)?.split_once('-')?;
    let digits = |text: &str, count| text.len() == count && text.bytes().all(|byte| byte.is_ascii_digit());
    if !digits(offset, 20) || !digits(term, 10) {
        return None;
    }
    Some((Offset(offset.parse().ok()?), term.parse().ok()?))
}

//! What is written to `__transaction_state`: TransactionLogKey 0, TransactionLogValue 0-1.

use bytes::Bytes;

use super::codec::{Field, Form, put_items, put_tagged, tagged, take_items, take_tagged};
use super::{DecodeError, LogRecord, Value, decode_value, encode_value};

/// The type of the only kind of key.
const OF_TYPE: i16 = 0;

/// What `previous_producer_id` and `next_producer_id` are when there is none.
const NO_PRODUCER: i64 = -1;

/// The state of one transactional id.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TransactionRecord {
    pub transactional_id: String,
    /// `None`: the id is forgotten.
    pub value: Option<TransactionValue>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TransactionValue {
    /// 0: without the last two producer ids and the client's version.
    pub version: i16,
    pub producer_id: i64,
    /// -1: none.
    pub previous_producer_id: i64,
    /// The one in place of `producer_id` when the transaction has ended; -1: none.
    pub next_producer_id: i64,
    pub producer_epoch: i16,
    pub timeout_ms: i32,
    pub state: TransactionState,
    pub partitions: Vec<TransactionPartitions>,
    /// Milliseconds since 1970.
    pub updated: i64,
    /// Milliseconds since 1970; -1: there was no transaction yet.
    pub started: i64,
    /// The transaction.version by which the client speaks.
    pub client_version: i16,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TransactionPartitions {
    pub topic: String,
    pub partitions: Vec<i32>,
}

/// How far a transaction is, by its number in the log. Kafka's others (6 Dead, 7 PrepareEpochFence) are never written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(i8)]
pub enum TransactionState {
    /// There was no transaction since the producer's last InitProducerId.
    Empty = 0,
    Ongoing = 1,
    /// Decided; markers are being written.
    PrepareCommit = 2,
    PrepareAbort = 3,
    /// All markers are written.
    CompleteCommit = 4,
    CompleteAbort = 5,
}

impl TransactionState {
    pub const ALL: [TransactionState; 6] = [
        TransactionState::Empty,
        TransactionState::Ongoing,
        TransactionState::PrepareCommit,
        TransactionState::PrepareAbort,
        TransactionState::CompleteCommit,
        TransactionState::CompleteAbort,
    ];

    /// As Kafka's tools name it.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            TransactionState::Empty => "Empty",
            TransactionState::Ongoing => "Ongoing",
            TransactionState::PrepareCommit => "PrepareCommit",
            TransactionState::PrepareAbort => "PrepareAbort",
            TransactionState::CompleteCommit => "CompleteCommit",
            TransactionState::CompleteAbort => "CompleteAbort",
        }
    }
}

impl LogRecord for TransactionRecord {
    fn encode(&self) -> (Bytes, Option<Bytes>) {
        let mut key = Vec::new();
        OF_TYPE.put(Form::Fixed, &mut key);
        self.transactional_id.put(Form::Fixed, &mut key);
        (key.into(), encode_value(self.value.as_ref()))
    }

    fn decode(key: &[u8], value: Option<&[u8]>) -> Result<Option<TransactionRecord>, DecodeError> {
        let mut rest = key;
        if i16::take(Form::Fixed, &mut rest).ok_or(DecodeError::Key)? != OF_TYPE {
            return Ok(None);
        }
        let transactional_id = String::take(Form::Fixed, &mut rest).ok_or(DecodeError::Key)?;
        if !rest.is_empty() {
            return Err(DecodeError::Key);
        }
        Ok(Some(TransactionRecord { transactional_id, value: decode_value(OF_TYPE, value)? }))
    }
}

impl Value for TransactionValue {
    const VERSION_MAX: i16 = 1;
    const FLEXIBLE_FROM: i16 = 1;

    fn version(&self) -> i16 {
        self.version
    }

    fn put(&self, form: Form, out: &mut Vec<u8>) {
        self.producer_id.put(form, out);
        self.producer_epoch.put(form, out);
        self.timeout_ms.put(form, out);
        (self.state as i8).put(form, out);
        match self.state {
            TransactionState::Empty => None::<Vec<i32>>.put(form, out),
            _ => put_items(&self.partitions, form, out, |topic, out| {
                topic.topic.put(form, out);
                topic.partitions.put(form, out);
                put_tagged(&[], form, out);
            }),
        }
        self.updated.put(form, out);
        self.started.put(form, out);
        let mut tags = Vec::new();
        tags.extend(
            (self.previous_producer_id != NO_PRODUCER).then(|| tagged(0, &self.previous_producer_id)),
        );
        tags.extend((self.next_producer_id != NO_PRODUCER).then(|| tagged(1, &self.next_producer_id)));
        tags.extend((self.client_version != 0).then(|| tagged(2, &self.client_version)));
        put_tagged(&tags, form, out);
    }

    fn take(version: i16, form: Form, input: &mut &[u8]) -> Option<Self> {
        let mut value = TransactionValue {
            version,
            producer_id: i64::take(form, input)?,
            previous_producer_id: NO_PRODUCER,
            next_producer_id: NO_PRODUCER,
            producer_epoch: i16::take(form, input)?,
            timeout_ms: i32::take(form, input)?,
            state: {
                let state = i8::take(form, input)?;
                TransactionState::ALL.into_iter().find(|known| *known as i8 == state)?
            },
            partitions: take_items(form, input, |input| {
                let topic = String::take(form, input)?;
                let partitions = <Vec<i32> as Field>::take(form, input)?;
                take_tagged(form, input, |_, _| Some(()))?;
                Some(TransactionPartitions { topic, partitions })
            })?
            .unwrap_or_default(),
            updated: i64::take(form, input)?,
            started: i64::take(form, input)?,
            client_version: 0,
        };
        take_tagged(form, input, |tag, input| {
            match tag {
                0 => value.previous_producer_id = i64::take(form, input)?,
                1 => value.next_producer_id = i64::take(form, input)?,
                2 => value.client_version = i16::take(form, input)?,
                _ => {}
            }
            Some(())
        })?;
        Some(value)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn value() -> TransactionValue {
        let topic = |name: &str, partitions: &[i32]| TransactionPartitions {
            topic: name.to_owned(),
            partitions: partitions.to_vec(),
        };
        TransactionValue {
            version: 1,
            producer_id: 1_000,
            previous_producer_id: 7,
            next_producer_id: 2_000,
            producer_epoch: 3,
            timeout_ms: 60_000,
            state: TransactionState::PrepareCommit,
            partitions: vec![topic("t", &[0, 2]), topic("ü", &[1])],
            updated: 256,
            started: 255,
            client_version: 2,
        }
    }

    fn records() -> Vec<TransactionRecord> {
        let fixed = TransactionValue {
            version: 0,
            previous_producer_id: -1,
            next_producer_id: -1,
            client_version: 0,
            ..value()
        };
        let empty = TransactionValue { state: TransactionState::Empty, partitions: Vec::new(), ..value() };
        let ended = TransactionValue {
            state: TransactionState::CompleteAbort,
            partitions: Vec::new(),
            previous_producer_id: -1,
            ..value()
        };
        let record = |value| TransactionRecord { transactional_id: "an id".to_owned(), value };
        let empty_fixed = TransactionValue { version: 0, ..fixed.clone() };
        [Some(value()), Some(fixed), Some(empty), Some(ended), Some(empty_fixed), None]
            .into_iter()
            .map(record)
            .collect()
    }

    #[test]
    fn records_come_back_as_they_were() {
        for record in records() {
            let (key, value) = record.encode();
            assert_eq!(TransactionRecord::decode(&key, value.as_deref()), Ok(Some(record)));
        }
    }

    #[test]
    fn what_is_damaged_is_no_record() {
        for record in records() {
            let (key, value) = record.encode();
            for cut in 0..key.len() {
                assert!(TransactionRecord::decode(&key[..cut], value.as_deref()).is_err(), "{record:?}");
            }
            assert!(TransactionRecord::decode(&[&key[..], &[0]].concat(), None).is_err(), "{record:?}");
            let Some(value) = value else { continue };
            for cut in 0..value.len() {
                assert!(TransactionRecord::decode(&key, Some(&value[..cut])).is_err(), "{record:?} to {cut}");
                let mut changed = value.to_vec();
                changed[cut] = 0xff;
                // whatever it says: no panic, and no memory for what is not there
                let _ = TransactionRecord::decode(&key, Some(&changed));
            }
        }
        let (key, value) = records()[0].encode();
        let mut unknown = value.unwrap().to_vec();
        unknown[16] = 6;
        assert_eq!(TransactionRecord::decode(&key, Some(&unknown)), Err(DecodeError::Value { of_type: 0 }));
        assert_eq!(TransactionRecord::decode(&[0, 1, 0, 0], None), Ok(None), "a key of a newer kind");
    }

    /// Bytes as Kafka writes them, by its schemas.
    #[test]
    fn bytes_are_kafkas() {
        let hex = |bytes: &[u8]| bytes.iter().map(|byte| format!("{byte:02x}")).collect::<String>();
        let one = TransactionValue {
            partitions: vec![TransactionPartitions { topic: "t".to_owned(), partitions: vec![5] }],
            ..value()
        };
        let record = |value: &TransactionValue| {
            let record = TransactionRecord { transactional_id: "i".to_owned(), value: Some(value.clone()) };
            let (key, value) = record.encode();
            (hex(&key), hex(&value.unwrap()))
        };
        let head = "00000000000003e8".to_owned() + "0003" + "0000ea60" + "02";
        let times = "0000000000000100".to_owned() + "00000000000000ff";
        let (key, bytes) = record(&TransactionValue { version: 0, ..one.clone() });
        assert_eq!(key, "0000".to_owned() + "000169");
        assert_eq!(
            bytes,
            "0000".to_owned() + &head + "00000001" + "000174" + "00000001" + "00000005" + &times
        );
        let (_, bytes) = record(&one);
        let tags =
            "03".to_owned() + "0008" + "0000000000000007" + "0108" + "00000000000007d0" + "0202" + "0002";
        assert_eq!(
            bytes,
            "0001".to_owned() + &head + "02" + "0274" + "02" + "00000005" + "00" + &times + &tags
        );
        let (_, bytes) = record(&TransactionValue {
            version: 0,
            state: TransactionState::Empty,
            partitions: Vec::new(),
            ..one
        });
        assert!(bytes.contains(&("00".to_owned() + "ffffffff" + &times)), "{bytes}");
    }
}

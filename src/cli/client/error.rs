//! What can go wrong between a command and a broker, in words that say what to do.

use std::fmt;
use std::io;
use std::time::Duration;

use kafka_protocol::error::ResponseError;

pub(super) const UNKNOWN_TOPIC_OR_PARTITION: i16 = 3;
pub(super) const LEADER_NOT_AVAILABLE: i16 = 5;
const COORDINATOR_LOAD_IN_PROGRESS: i16 = 14;
const COORDINATOR_NOT_AVAILABLE: i16 = 15;
const NOT_COORDINATOR: i16 = 16;

#[derive(Debug)]
pub(in crate::cli) enum Error {
    Unreachable {
        address: String,
        cause: io::Error,
    },
    Timeout {
        address: String,
        timeout: Duration,
    },
    Lost {
        address: String,
        cause: io::Error,
    },
    NotKafka {
        address: String,
    },
    TooLarge {
        address: String,
    },
    Malformed {
        address: String,
        api: String,
    },
    NotEncodable {
        address: String,
        api: String,
        reason: String,
    },
    NotServed {
        address: String,
        api: String,
        key: i16,
        known: (i16, i16),
        served: Option<(i16, i16)>,
    },
    /// The answer has nothing about this.
    Silent(String),
    UnknownBroker(i32),
    UnknownTopic {
        name: String,
        near: Option<String>,
    },
    UnknownGroup {
        name: String,
        near: Option<String>,
    },
    UnknownTransactionalId {
        id: String,
        near: Option<String>,
    },
    /// Neither classic nor consumer.
    OtherGroup {
        name: String,
        kind: String,
    },
    Refused(Refusal),
}

/// An error code that a broker has answered with.
#[derive(Debug)]
pub(in crate::cli) struct Refusal {
    what: String,
    pub(in crate::cli) code: i16,
    message: Option<String>,
}

impl Refusal {
    pub(in crate::cli) fn new(what: String, code: i16, message: Option<&str>) -> Refusal {
        let message = message.filter(|message| !message.is_empty()).map(str::to_owned);
        Refusal { what, code, message }
    }

    /// `what` was asked for, and this is the answer's error code.
    pub(in crate::cli) fn check(
        code: i16,
        message: Option<&str>,
        what: impl FnOnce() -> String,
    ) -> Result<(), Error> {
        if code == 0 { Ok(()) } else { Err(Error::Refused(Refusal::new(what(), code, message))) }
    }

    /// Kafka's, without the broker's words.
    pub(in crate::cli) fn name(&self) -> String {
        match ResponseError::try_from_code(self.code) {
            Some(ResponseError::Unknown(_)) | None => "an error this version does not know".to_owned(),
            Some(error) => upper_snake(&error.to_string()),
        }
    }

    /// Whether another broker is to be asked about a group or a transactional id, or this one a moment later.
    pub(in crate::cli) fn is_of_coordinator(&self) -> bool {
        [COORDINATOR_LOAD_IN_PROGRESS, COORDINATOR_NOT_AVAILABLE, NOT_COORDINATOR].contains(&self.code)
    }

    /// Whether it may be otherwise a moment later.
    pub(in crate::cli) fn passes(&self) -> bool {
        ResponseError::try_from_code(self.code).is_some_and(|error| error.is_retriable())
    }
}

impl Error {
    /// Of those of several addresses.
    pub(super) fn first_of(mut failures: Vec<Error>) -> Error {
        let none = || Error::Unreachable {
            address: "no address".to_owned(),
            cause: io::Error::new(io::ErrorKind::InvalidInput, "--bootstrap-server is empty"),
        };
        if failures.is_empty() { none() } else { failures.swap_remove(0) }
    }

    /// Whether the same request may succeed once leaders are looked up again.
    pub(in crate::cli) fn passes(&self) -> bool {
        matches!(self, Error::Refused(refusal) if refusal.passes())
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Error::Unreachable { address, cause } => {
                let cause = cause_text(cause);
                write!(
                    f,
                    "cannot connect to {address}: {cause}; start a broker there, or say with --bootstrap-server where \
                     one is"
                )
            }
            Error::Timeout { address, timeout } => write!(
                f,
                "{address} did not answer within {}; is it overloaded, or not a broker? --timeout allows more",
                humantime::format_duration(*timeout)
            ),
            Error::Lost { address, cause } => write!(
                f,
                "the connection to {address} ended: {}; the broker's log says why if it ended it",
                cause_text(cause)
            ),
            Error::NotKafka { address } => {
                write!(
                    f,
                    "{address} does not answer as a Kafka broker; is the port that of a plaintext listener?"
                )
            }
            Error::TooLarge { address } => {
                write!(f, "{address} began an answer that is larger than any can be")
            }
            Error::Malformed { address, api } => {
                write!(f, "{address} answered {api} with what cannot be read")
            }
            Error::NotEncodable { address, api, reason } => {
                write!(f, "{address} speaks a version of {api} that cannot say what is asked for: {reason}")
            }
            Error::NotServed { address, api, key, served: None, .. } => {
                write!(f, "the broker at {address} does not have {api} (API {key}), which this needs")
            }
            Error::NotServed { address, api, key, known, served: Some(served) } => write!(
                f,
                "the broker at {address} has {api} (API {key}) in versions {} to {}, this program in {} to {}; use a \
                 version of it that is nearer to the broker's",
                served.0, served.1, known.0, known.1
            ),
            Error::Silent(what) => write!(f, "{what}: the broker's answer says nothing about it"),
            Error::UnknownBroker(-1) => {
                f.write_str("a partition has no leader now; `corelane topic describe` shows which")
            }
            Error::UnknownBroker(id) => {
                write!(
                    f,
                    "broker {id} is not in the cluster now; `corelane cluster describe` shows which are"
                )
            }
            Error::UnknownTopic { name, near } => {
                write!(f, "topic {name} does not exist")?;
                match near {
                    Some(near) => write!(f, ", did you mean {near}?"),
                    None => write!(f, "; `corelane topic list` shows those that do"),
                }
            }
            Error::UnknownGroup { name, near } => {
                write!(f, "group {name} does not exist")?;
                match near {
                    Some(near) => write!(f, ", did you mean {near}?"),
                    None => write!(f, "; `corelane group list` shows those that do"),
                }
            }
            Error::UnknownTransactionalId { id, near } => {
                write!(f, "no producer has the transactional id {id}")?;
                match near {
                    Some(near) => write!(f, ", did you mean {near}?"),
                    None => write!(f, "; `corelane txn list` shows those that there are"),
                }
            }
            Error::OtherGroup { name, kind } => {
                write!(f, "{name} is a {kind} group; this command is for classic and consumer groups")
            }
            Error::Refused(refusal) => refusal.fmt(f),
        }
    }
}

impl fmt::Display for Refusal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {} (error {})", self.what, self.name(), self.code)?;
        match (&self.message, advice(self.code)) {
            (Some(message), _) => write!(f, ": {message}"),
            (None, Some(advice)) => write!(f, ": {advice}"),
            (None, None) => Ok(()),
        }
    }
}

impl From<Error> for String {
    fn from(error: Error) -> String {
        error.to_string()
    }
}

/// What the common codes mean to somebody who did not write the protocol.
fn advice(code: i16) -> Option<&'static str> {
    Some(match code {
        1 => "there is no such offset; `corelane topic describe` shows the first and the last",
        2 => "the record is damaged, or has no key and the topic is compacted",
        3 => "it does not exist, or not on this broker any more",
        5 | 6 | 9 => "another broker is becoming the leader, try again",
        7 => "the brokers did not finish in time; it may have happened all the same",
        10 | 18 => "it is larger than the topic's max.message.bytes",
        14 => "the coordinator is reading what it has on disk, try again",
        15 | 16 => "another broker is becoming the coordinator, try again",
        17 => "a name has 1 to 249 letters, digits, dots, underscores and hyphens",
        19 => "too few replicas are in sync for the topic's min.insync.replicas",
        20 => "too few replicas were in sync when it was written; the leader has it",
        22 | 25 | 27 | 68 => "the group has members; stop its consumers first",
        24 => "the broker does not allow the name",
        29..=31 => "the broker does not allow it to you",
        36 => "there is one of this name",
        37 => "the number of partitions must be at least 1, and more than there are",
        38 => "there must be a broker for each replica",
        41 => "another broker is the controller, try again",
        56 => "the broker cannot write or read its disk; its log says why",
        47 => "the partition has seen a newer epoch of this producer",
        52 => "the partition has seen a newer epoch of the transaction coordinator",
        53 => "the broker does not allow it to you",
        69 => "there is no such group; `corelane group list` shows those there are",
        73 => "the broker is set to delete no topics (delete.topic.enable)",
        86 => "a member of the group reads the topic; stop its consumers first",
        105 => "no producer has it; `corelane txn list` shows those there are",
        128 => "it is no regular expression",
        _ => return None,
    })
}

/// Without the number that the system has for it.
fn cause_text(cause: &io::Error) -> String {
    match cause.kind() {
        io::ErrorKind::ConnectionRefused => "connection refused, nobody listens there".to_owned(),
        io::ErrorKind::TimedOut | io::ErrorKind::WouldBlock => "no answer in time".to_owned(),
        io::ErrorKind::UnexpectedEof => "the broker closed it".to_owned(),
        _ => {
            let text = cause.to_string();
            text.split_once(" (os error").map_or(text.clone(), |(words, _)| words.to_owned())
        }
    }
}

/// `UnknownTopicId` as Kafka writes it, `UNKNOWN_TOPIC_ID`.
fn upper_snake(name: &str) -> String {
    let mut text = String::new();
    for (at, letter) in name.char_indices() {
        if at > 0 && letter.is_ascii_uppercase() {
            text.push('_');
        }
        text.push(letter.to_ascii_uppercase());
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_refusal_tells_kafka_s_name_and_the_broker_s_words() {
        let text = |code, message| Refusal::new("topic a".to_owned(), code, message).to_string();
        let check = |code, message, expect: &str| assert_eq!(text(code, message), expect);
        check(
            36,
            Some("Topic 'a' already exists."),
            "topic a: TOPIC_ALREADY_EXISTS (error 36): Topic 'a' already exists.",
        );
        check(36, Some(""), "topic a: TOPIC_ALREADY_EXISTS (error 36): there is one of this name");
        check(45, None, "topic a: OUT_OF_ORDER_SEQUENCE_NUMBER (error 45)");
        check(999, None, "topic a: an error this version does not know (error 999)");
    }
}

//! How a record looks as text, in and out: `--format`.
//!
//! Tokens: %k key, %v value, %h headers, %T timestamp (milliseconds since 1970), %p partition, %o offset, %t topic, %%.
//! Escapes: \n \t \r \0 \\ \xHH. A record ends with what stands behind the last token, a newline if nothing does, so
//! that what one command has written the other can read: offset and topic are read and passed over.
//!
//! Headers are `name=value,name=value`; of a comma, an equals sign or a backslash in a name or a value a backslash tells
//! that it is meant.

use std::io::{BufRead, Read as _};

use bytes::Bytes;
use serde_json::{Value, json};

use crate::protocol::compose::Header;

/// What a record read may have: what Kafka allows for a whole request unless it is set otherwise
/// (socket.request.max.bytes).
const RECORD_BYTES_MAX: usize = 100 << 20;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Field {
    Key,
    Value,
    Headers,
    Timestamp,
    Partition,
    Offset,
    Topic,
}

#[derive(Clone, Debug, PartialEq, Eq)]
enum Part {
    Text(Vec<u8>),
    Field(Field),
}

pub(super) struct Format {
    /// Ends with a text.
    parts: Vec<Part>,
    /// What stands for a key, value or header value that is not there.
    null: Option<Vec<u8>>,
}

/// A record as it is written out.
pub(super) struct Told<'a> {
    pub(super) topic: &'a str,
    pub(super) partition: i32,
    pub(super) offset: i64,
    pub(super) timestamp: i64,
    pub(super) key: Option<&'a [u8]>,
    pub(super) value: Option<&'a [u8]>,
    pub(super) headers: &'a [Header<'a>],
}

impl Told<'_> {
    /// One JSON object on a line. Bytes that are no text are `{"hex": "…"}`.
    pub(super) fn write_json(&self, out: &mut Vec<u8>) {
        let bytes = |bytes: Option<&[u8]>| match bytes.map(|bytes| (bytes, std::str::from_utf8(bytes))) {
            None => Value::Null,
            Some((_, Ok(text))) => json!(text),
            Some((bytes, Err(_))) => {
                json!({ "hex": bytes.iter().map(|byte| format!("{byte:02x}")).collect::<String>() })
            }
        };
        let headers = self.headers.iter().map(|&(name, value)| json!([bytes(Some(name)), bytes(value)]));
        let object = json!({
            "topic": self.topic,
            "partition": self.partition,
            "offset": self.offset,
            "timestamp": self.timestamp,
            "key": bytes(self.key),
            "value": bytes(self.value),
            "headers": headers.collect::<Vec<_>>(),
        });
        out.extend(object.to_string().bytes());
        out.push(b'\n');
    }
}

/// A record as it was read.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Given {
    pub(super) key: Option<Bytes>,
    pub(super) value: Option<Bytes>,
    pub(super) headers: Vec<(Bytes, Option<Bytes>)>,
    pub(super) timestamp: Option<i64>,
    pub(super) partition: Option<i32>,
}

impl Format {
    pub(super) fn parse(text: &str, null: Option<&str>) -> Result<Format, String> {
        let mut parts: Vec<Part> = Vec::new();
        let mut letters = text.chars();
        while let Some(letter) = letters.next() {
            let byte = match letter {
                '%' => match letters.next() {
                    Some('%') => b'%',
                    token => {
                        parts.push(Part::Field(field(token)?));
                        continue;
                    }
                },
                '\\' => escape(&mut letters)?,
                other => {
                    push(&mut parts, other.encode_utf8(&mut [0; 4]).as_bytes());
                    continue;
                }
            };
            push(&mut parts, &[byte]);
        }
        if !parts.iter().any(|part| matches!(part, Part::Field(_))) {
            return Err(format!("--format {text:?} has none of the tokens {TOKENS}"));
        }
        if !matches!(parts.last(), Some(Part::Text(_))) {
            push(&mut parts, b"\n");
        }
        Ok(Format { parts, null: null.map(|null| null.as_bytes().to_vec()) })
    }

    /// Whether records can be taken apart again: something must stand between two tokens.
    pub(super) fn check_input(&self) -> Result<(), String> {
        let adjacent = self.parts.windows(2).any(|pair| matches!(pair, [Part::Field(_), Part::Field(_)]));
        match adjacent {
            true => Err("--format has two tokens side by side: nothing says where the first ends".to_owned()),
            false => Ok(()),
        }
    }

    pub(super) fn write(&self, record: &Told<'_>, out: &mut Vec<u8>) {
        let nullable = |out: &mut Vec<u8>, bytes: Option<&[u8]>| {
            out.extend_from_slice(bytes.or(self.null.as_deref()).unwrap_or_default());
        };
        for part in &self.parts {
            match part {
                Part::Text(text) => out.extend_from_slice(text),
                Part::Field(Field::Key) => nullable(out, record.key),
                Part::Field(Field::Value) => nullable(out, record.value),
                Part::Field(Field::Headers) => self.write_headers(record.headers, out),
                Part::Field(Field::Timestamp) => out.extend(record.timestamp.to_string().bytes()),
                Part::Field(Field::Partition) => out.extend(record.partition.to_string().bytes()),
                Part::Field(Field::Offset) => out.extend(record.offset.to_string().bytes()),
                Part::Field(Field::Topic) => out.extend(record.topic.bytes()),
            }
        }
    }

    fn write_headers(&self, headers: &[Header<'_>], out: &mut Vec<u8>) {
        for (index, (name, value)) in headers.iter().enumerate() {
            if index > 0 {
                out.push(b',');
            }
            put_escaped(name, out);
            out.push(b'=');
            match value {
                Some(value) => put_escaped(value, out),
                None => out.extend_from_slice(self.null.as_deref().unwrap_or_default()),
            }
        }
    }

    /// The next record; `None` at the end of the input. The error follows "record N: ".
    pub(super) fn read(&self, input: &mut impl BufRead) -> Result<Option<Given>, String> {
        let Some((Part::Text(end), parts)) = self.parts.split_last() else {
            unreachable!("a format ends with a text");
        };
        let Some(whole) = read_until(input, end).map_err(|error| format!("cannot read it: {error}"))? else {
            return Ok(None);
        };
        if whole.len() > RECORD_BYTES_MAX {
            let end = String::from_utf8_lossy(end);
            return Err(format!(
                "no {end:?} ends it within {RECORD_BYTES_MAX} bytes, more than brokers take; does --format fit?"
            ));
        }
        let mut given = Given::default();
        let mut rest = &whole[..];
        for (index, part) in parts.iter().enumerate() {
            match part {
                Part::Text(text) => {
                    rest = rest.strip_prefix(&text[..]).ok_or_else(|| {
                        format!("{:?} is missing at its beginning", String::from_utf8_lossy(text))
                    })?;
                }
                Part::Field(field) => {
                    let length = match parts.get(index + 1) {
                        Some(Part::Text(text)) => find(rest, text).ok_or_else(|| {
                            let text = String::from_utf8_lossy(text);
                            format!("{text:?} is missing behind the {}", name(*field))
                        })?,
                        _ => rest.len(),
                    };
                    self.take(*field, &rest[..length], &mut given)?;
                    rest = &rest[length..];
                }
            }
        }
        Ok(Some(given))
    }

    /// Whether the next record can be read from these bytes without waiting for more.
    pub(super) fn has_whole(&self, bytes: &[u8]) -> bool {
        matches!(self.parts.last(), Some(Part::Text(end)) if find(bytes, end).is_some())
    }

    fn take(&self, field: Field, bytes: &[u8], given: &mut Given) -> Result<(), String> {
        let number = || std::str::from_utf8(bytes).ok().map(str::trim);
        let wrong = || format!("{:?} is no {}", String::from_utf8_lossy(bytes), name(field));
        match field {
            // without --null there is no other way to say that there is none
            Field::Key if self.null.is_none() && bytes.is_empty() => given.key = None,
            Field::Key => given.key = self.nullable(bytes),
            Field::Value => given.value = self.nullable(bytes),
            Field::Headers => given.headers = self.take_headers(bytes)?,
            Field::Timestamp => {
                // -1: a record that has none
                let timestamp = number().and_then(|text| text.parse().ok()).filter(|time: &i64| *time >= -1);
                given.timestamp = Some(timestamp.ok_or_else(wrong)?);
            }
            Field::Partition => {
                let partition = number().and_then(|text| text.parse().ok()).filter(|index: &i32| *index >= 0);
                given.partition = Some(partition.ok_or_else(wrong)?);
            }
            Field::Offset | Field::Topic => {}
        }
        Ok(())
    }

    fn nullable(&self, bytes: &[u8]) -> Option<Bytes> {
        (self.null.as_deref() != Some(bytes)).then(|| Bytes::copy_from_slice(bytes))
    }

    fn take_headers(&self, bytes: &[u8]) -> Result<Vec<(Bytes, Option<Bytes>)>, String> {
        if bytes.is_empty() {
            return Ok(Vec::new());
        }
        let header = |header: &[u8]| -> Result<_, String> {
            let (name, value) = split_unescaped(header, b'=').ok_or_else(|| {
                format!("{:?} is no header, which is name=value", String::from_utf8_lossy(header))
            })?;
            let is_null = self.null.as_deref() == Some(value);
            Ok((unescaped(name), (!is_null).then(|| unescaped(value))))
        };
        let mut headers = Vec::new();
        let mut rest = bytes;
        while let Some((first, behind)) = split_unescaped(rest, b',') {
            headers.push(header(first)?);
            rest = behind;
        }
        headers.push(header(rest)?);
        Ok(headers)
    }
}

const TOKENS: &str = "%k %v %h %T %p %o %t";

fn field(token: Option<char>) -> Result<Field, String> {
    Ok(match token {
        Some('k') => Field::Key,
        Some('v' | 's') => Field::Value,
        Some('h') => Field::Headers,
        Some('T') => Field::Timestamp,
        Some('p') => Field::Partition,
        Some('o') => Field::Offset,
        Some('t') => Field::Topic,
        Some(other) => return Err(format!("--format: %{other} is no token; there are {TOKENS} and %%")),
        None => return Err(format!("--format ends in %; the tokens are {TOKENS} and %%")),
    })
}

fn name(field: Field) -> &'static str {
    match field {
        Field::Key => "key",
        Field::Value => "value",
        Field::Headers => "headers",
        Field::Timestamp => "timestamp",
        Field::Partition => "partition",
        Field::Offset => "offset",
        Field::Topic => "topic",
    }
}

/// What follows a backslash.
fn escape(letters: &mut std::str::Chars<'_>) -> Result<u8, String> {
    Ok(match letters.next() {
        Some('n') => b'\n',
        Some('t') => b'\t',
        Some('r') => b'\r',
        Some('0') => 0,
        Some('\\') => b'\\',
        Some('x') => {
            let digits: String = letters.by_ref().take(2).collect();
            u8::from_str_radix(&digits, 16)
                .map_err(|_| format!("--format: \\x{digits}: \\x takes two hexadecimal digits"))?
        }
        other => {
            let other = other.map(String::from).unwrap_or_default();
            return Err(format!(
                "--format: \\{other} is no escape; there are \\n \\t \\r \\0 \\\\ and \\xHH"
            ));
        }
    })
}

fn push(parts: &mut Vec<Part>, bytes: &[u8]) {
    match parts.last_mut() {
        Some(Part::Text(text)) => text.extend_from_slice(bytes),
        _ => parts.push(Part::Text(bytes.to_vec())),
    }
}

fn put_escaped(bytes: &[u8], out: &mut Vec<u8>) {
    for &byte in bytes {
        if matches!(byte, b',' | b'=' | b'\\') {
            out.push(b'\\');
        }
        out.push(byte);
    }
}

fn unescaped(bytes: &[u8]) -> Bytes {
    let mut out = Vec::with_capacity(bytes.len());
    let mut rest = bytes.iter();
    while let Some(&byte) = rest.next() {
        out.push(if byte == b'\\' { *rest.next().unwrap_or(&b'\\') } else { byte });
    }
    out.into()
}

/// At the first `separator` that no backslash stands before.
fn split_unescaped(bytes: &[u8], separator: u8) -> Option<(&[u8], &[u8])> {
    let mut escaped = false;
    let at = bytes.iter().position(|&byte| {
        let is_it = byte == separator && !escaped;
        escaped = byte == b'\\' && !escaped;
        is_it
    })?;
    Some((&bytes[..at], &bytes[at + 1..]))
}

fn find(bytes: &[u8], text: &[u8]) -> Option<usize> {
    bytes.windows(text.len()).position(|window| window == text)
}

/// Up to `end`, without it; what lies behind the last one counts as well. `None`: there is nothing more. What is longer
/// than a record may be is not read to its end.
fn read_until(input: &mut impl BufRead, end: &[u8]) -> std::io::Result<Option<Vec<u8>>> {
    let last = *end.last().expect("a text is not empty");
    let mut bytes = Vec::new();
    loop {
        let limit = RECORD_BYTES_MAX + end.len() + 1 - bytes.len();
        if input.by_ref().take(limit as u64).read_until(last, &mut bytes)? == 0 {
            return Ok((!bytes.is_empty()).then_some(bytes));
        }
        if bytes.ends_with(end) {
            bytes.truncate(bytes.len() - end.len());
            return Ok(Some(bytes));
        }
        if bytes.len() > RECORD_BYTES_MAX + end.len() {
            return Ok(Some(bytes));
        }
    }
}

#[cfg(test)]
mod tests;

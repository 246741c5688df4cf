//! Kafka's wire types as they stand in the records of a coordinator: big-endian numbers; lengths that are fixed numbers
//! or, in flexible versions, varints of one more than the length.
//!
//! Taking never panics and never allocates more than a small multiple of the bytes that are there.

use bytes::Bytes;

use crate::model::TopicId;
use crate::protocol::wire::{put_unsigned_varint, take_unsigned_varint};

/// How lengths are written, and whether tagged fields follow.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Form {
    Fixed,
    Flexible,
}

/// A value as it is written.
pub(super) trait Field: Sized {
    fn put(&self, form: Form, out: &mut Vec<u8>);

    /// Takes one value off the front of `input`; `None` if it is not there.
    fn take(form: Form, input: &mut &[u8]) -> Option<Self>;
}

macro_rules! number {
    ($($number:ty),*) => {$(
        impl Field for $number {
            fn put(&self, _: Form, out: &mut Vec<u8>) {
                out.extend_from_slice(&self.to_be_bytes());
            }

            fn take(_: Form, input: &mut &[u8]) -> Option<Self> {
                let (head, tail) = input.split_first_chunk()?;
                *input = tail;
                Some(<$number>::from_be_bytes(*head))
            }
        }
    )*};
}

number!(i8, i16, i32, i64, u128);

impl Field for TopicId {
    fn put(&self, form: Form, out: &mut Vec<u8>) {
        self.0.put(form, out);
    }

    fn take(form: Form, input: &mut &[u8]) -> Option<Self> {
        u128::take(form, input).map(TopicId)
    }
}

/// What a length is written as where it is fixed.
#[derive(Clone, Copy)]
enum Width {
    Two,
    Four,
}

fn put_length(length: Option<usize>, width: Width, form: Form, out: &mut Vec<u8>) {
    let length = length.map(|length| i32::try_from(length).expect("a record's fields are far below 2 GiB"));
    match (form, width) {
        (Form::Flexible, _) => {
            put_unsigned_varint(out, length.map_or(0, |length| length.unsigned_abs() + 1));
        }
        (Form::Fixed, Width::Four) => length.unwrap_or(-1).put(form, out),
        (Form::Fixed, Width::Two) => {
            let length = length.map_or(Ok(-1), i16::try_from);
            length.expect("texts are within TEXT_BYTES_MAX").put(form, out);
        }
    }
}

/// `Some(None)`: null.
fn take_length(width: Width, form: Form, input: &mut &[u8]) -> Option<Option<usize>> {
    let length = match (form, width) {
        (Form::Flexible, _) => i64::from(take_unsigned_varint(input)?) - 1,
        (Form::Fixed, Width::Four) => i64::from(i32::take(form, input)?),
        (Form::Fixed, Width::Two) => i64::from(i16::take(form, input)?),
    };
    if length == -1 { Some(None) } else { usize::try_from(length).ok().map(Some) }
}

fn take_bytes<'a>(count: usize, input: &mut &'a [u8]) -> Option<&'a [u8]> {
    let (head, tail) = input.split_at_checked(count)?;
    *input = tail;
    Some(head)
}

impl Field for Option<String> {
    fn put(&self, form: Form, out: &mut Vec<u8>) {
        put_length(self.as_ref().map(String::len), Width::Two, form, out);
        out.extend_from_slice(self.as_deref().unwrap_or_default().as_bytes());
    }

    fn take(form: Form, input: &mut &[u8]) -> Option<Self> {
        let Some(length) = take_length(Width::Two, form, input)? else { return Some(None) };
        let text = std::str::from_utf8(take_bytes(length, input)?).ok()?;
        Some(Some(text.to_owned()))
    }
}

impl Field for String {
    fn put(&self, form: Form, out: &mut Vec<u8>) {
        put_length(Some(self.len()), Width::Two, form, out);
        out.extend_from_slice(self.as_bytes());
    }

    fn take(form: Form, input: &mut &[u8]) -> Option<Self> {
        <Option<Self> as Field>::take(form, input)?
    }
}

impl Field for Bytes {
    fn put(&self, form: Form, out: &mut Vec<u8>) {
        put_length(Some(self.len()), Width::Four, form, out);
        out.extend_from_slice(self);
    }

    fn take(form: Form, input: &mut &[u8]) -> Option<Self> {
        let length = take_length(Width::Four, form, input)??;
        take_bytes(length, input).map(Bytes::copy_from_slice)
    }
}

impl<T: Field> Field for Vec<T> {
    fn put(&self, form: Form, out: &mut Vec<u8>) {
        put_items(self, form, out, |item, out| item.put(form, out));
    }

    fn take(form: Form, input: &mut &[u8]) -> Option<Self> {
        <Option<Self> as Field>::take(form, input)?
    }
}

impl<T: Field> Field for Option<Vec<T>> {
    fn put(&self, form: Form, out: &mut Vec<u8>) {
        match self {
            Some(items) => items.put(form, out),
            None => put_length(None, Width::Four, form, out),
        }
    }

    fn take(form: Form, input: &mut &[u8]) -> Option<Self> {
        take_items(form, input, |input| T::take(form, input))
    }
}

pub(super) fn put_items<T>(items: &[T], form: Form, out: &mut Vec<u8>, put: impl Fn(&T, &mut Vec<u8>)) {
    put_length(Some(items.len()), Width::Four, form, out);
    items.iter().for_each(|item| put(item, out));
}

/// `Some(None)`: null. An item takes a byte at least, so memory is not taken for more than there are.
pub(super) fn take_items<T>(
    form: Form,
    input: &mut &[u8],
    mut take: impl FnMut(&mut &[u8]) -> Option<T>,
) -> Option<Option<Vec<T>>> {
    let Some(count) = take_length(Width::Four, form, input)? else { return Some(None) };
    if count > input.len() {
        return None;
    }
    let mut items = Vec::new();
    for _ in 0..count {
        items.push(take(input)?);
    }
    Some(Some(items))
}

/// The tagged fields at the end of a struct in a flexible version, by tag.
pub(super) fn put_tagged(fields: &[(u32, Vec<u8>)], form: Form, out: &mut Vec<u8>) {
    if form == Form::Fixed {
        return;
    }
    put_unsigned_varint(out, u32::try_from(fields.len()).expect("few tags"));
    for (tag, value) in fields {
        put_unsigned_varint(out, *tag);
        put_unsigned_varint(out, u32::try_from(value.len()).expect("a record's fields are far below 2 GiB"));
        out.extend_from_slice(value);
    }
}

/// Calls `field` with each tag and its bytes; one that is not known is passed over there.
pub(super) fn take_tagged(
    form: Form,
    input: &mut &[u8],
    mut field: impl FnMut(u32, &mut &[u8]) -> Option<()>,
) -> Option<()> {
    if form == Form::Fixed {
        return Some(());
    }
    for _ in 0..take_unsigned_varint(input)? {
        let tag = take_unsigned_varint(input)?;
        let length = usize::try_from(take_unsigned_varint(input)?).ok()?;
        field(tag, &mut take_bytes(length, input)?)?;
    }
    Some(())
}

/// One tagged field's bytes.
pub(super) fn tagged(tag: u32, value: &impl Field) -> (u32, Vec<u8>) {
    let mut bytes = Vec::new();
    value.put(Form::Flexible, &mut bytes);
    (tag, bytes)
}

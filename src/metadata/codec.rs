//! Fields of metadata records as bytes: big-endian, counts and lengths as u32, `Option` behind one byte.
//!
//! Taking never panics and never allocates more than a small multiple of the bytes that are there.

use crate::model::{
    BrokerEpoch, BrokerId, DirectoryId, LeaderEpoch, Offset, PartitionEpoch, PartitionId, ProducerId,
    SecurityProtocol, ShardId, TopicId,
};

/// A field of a record.
pub(super) trait Field: Sized {
    /// The fewest bytes a value takes: bounds how many can be in what is left of the input.
    const BYTES_MIN: usize;

    fn put(&self, out: &mut Vec<u8>);

    /// Takes one value off the front of `input`; `None` if it is not there.
    fn take(input: &mut &[u8]) -> Option<Self>;
}

fn take_bytes<'a>(input: &mut &'a [u8], count: usize) -> Option<&'a [u8]> {
    let (head, tail) = input.split_at_checked(count)?;
    *input = tail;
    Some(head)
}

fn put_length(length: usize, out: &mut Vec<u8>) {
    u32::try_from(length).expect("a record's fields are far below 4 GiB").put(out);
}

macro_rules! number {
    ($($number:ty),*) => {$(
        impl Field for $number {
            const BYTES_MIN: usize = size_of::<$number>();

            fn put(&self, out: &mut Vec<u8>) {
                out.extend_from_slice(&self.to_be_bytes());
            }

            fn take(input: &mut &[u8]) -> Option<Self> {
                let bytes = take_bytes(input, size_of::<$number>())?;
                Some(<$number>::from_be_bytes(bytes.try_into().ok()?))
            }
        }
    )*};
}

number!(u8, u16, u32, u64, i16, i32, i64, u128);

macro_rules! newtype {
    ($($name:ident($number:ty)),*) => {$(
        impl Field for $name {
            const BYTES_MIN: usize = <$number>::BYTES_MIN;

            fn put(&self, out: &mut Vec<u8>) {
                self.0.put(out);
            }

            fn take(input: &mut &[u8]) -> Option<Self> {
                <$number>::take(input).map($name)
            }
        }
    )*};
}

newtype!(
    BrokerId(i32),
    BrokerEpoch(i64),
    DirectoryId(u128),
    LeaderEpoch(i32),
    Offset(i64),
    PartitionEpoch(i32),
    ProducerId(i64),
    ShardId(u16),
    TopicId(u128)
);

impl Field for bool {
    const BYTES_MIN: usize = 1;

    fn put(&self, out: &mut Vec<u8>) {
        u8::from(*self).put(out);
    }

    fn take(input: &mut &[u8]) -> Option<Self> {
        match u8::take(input)? {
            0 => Some(false),
            1 => Some(true),
            _ => None,
        }
    }
}

impl Field for PartitionId {
    const BYTES_MIN: usize = 20;

    fn put(&self, out: &mut Vec<u8>) {
        self.topic.put(out);
        self.index.put(out);
    }

    fn take(input: &mut &[u8]) -> Option<Self> {
        Some(PartitionId { topic: TopicId::take(input)?, index: i32::take(input)? })
    }
}

impl Field for SecurityProtocol {
    const BYTES_MIN: usize = 2;

    fn put(&self, out: &mut Vec<u8>) {
        self.id().put(out);
    }

    fn take(input: &mut &[u8]) -> Option<Self> {
        SecurityProtocol::from_id(i16::take(input)?)
    }
}

impl Field for String {
    const BYTES_MIN: usize = 4;

    fn put(&self, out: &mut Vec<u8>) {
        put_length(self.len(), out);
        out.extend_from_slice(self.as_bytes());
    }

    fn take(input: &mut &[u8]) -> Option<Self> {
        let length = usize::try_from(u32::take(input)?).ok()?;
        std::str::from_utf8(take_bytes(input, length)?).ok().map(str::to_owned)
    }
}

impl<T: Field> Field for Vec<T> {
    const BYTES_MIN: usize = 4;

    fn put(&self, out: &mut Vec<u8>) {
        put_length(self.len(), out);
        for item in self {
            item.put(out);
        }
    }

    fn take(input: &mut &[u8]) -> Option<Self> {
        let count = usize::try_from(u32::take(input)?).ok()?;
        if count > input.len() / T::BYTES_MIN {
            return None;
        }
        let mut items = Vec::with_capacity(count);
        for _ in 0..count {
            items.push(T::take(input)?);
        }
        Some(items)
    }
}

impl<T: Field> Field for Option<T> {
    const BYTES_MIN: usize = 1;

    fn put(&self, out: &mut Vec<u8>) {
        self.is_some().put(out);
        if let Some(value) = self {
            value.put(out);
        }
    }

    fn take(input: &mut &[u8]) -> Option<Self> {
        if bool::take(input)? { T::take(input).map(Some) } else { Some(None) }
    }
}

/// Writes the fields of a struct in the order they are listed, and reads them back in it.
macro_rules! fields {
    ($name:ident { $($field:ident : $kind:ty),* $(,)? }) => {
        impl $crate::metadata::codec::Field for $name {
            const BYTES_MIN: usize = 0 $(+ <$kind as $crate::metadata::codec::Field>::BYTES_MIN)*;

            fn put(&self, out: &mut Vec<u8>) {
                $($crate::metadata::codec::Field::put(&self.$field, out);)*
            }

            fn take(input: &mut &[u8]) -> Option<Self> {
                Some($name { $($field: <$kind as $crate::metadata::codec::Field>::take(input)?,)* })
            }
        }
    };
}

pub(super) use fields;

//! What a consumer says of itself when it joins: Kafka's ConsumerProtocolSubscription.
//!
//! Only the fields of version 0 are read, with which all versions begin.

/// The topics that are subscribed to; `None`: it is no subscription.
pub(super) fn topics(mut metadata: &[u8]) -> Option<Vec<&str>> {
    let input = &mut metadata;
    let _version: [u8; 2] = take_array(input)?;
    let mut topics = Vec::new();
    for _ in 0..u32::try_from(take_i32(input)?).ok()? {
        let length = usize::try_from(i16::from_be_bytes(take_array(input)?)).ok()?;
        topics.push(std::str::from_utf8(take(input, length)?).ok()?);
    }
    // what its assignor has to say, -1: nothing
    if let Ok(length) = usize::try_from(take_i32(input)?) {
        take(input, length)?;
    }
    Some(topics)
}

fn take_i32(input: &mut &[u8]) -> Option<i32> {
    take_array(input).map(i32::from_be_bytes)
}

fn take_array<const N: usize>(input: &mut &[u8]) -> Option<[u8; N]> {
    let (head, tail) = input.split_first_chunk()?;
    *input = tail;
    Some(*head)
}

fn take<'a>(input: &mut &'a [u8], count: usize) -> Option<&'a [u8]> {
    let (head, tail) = input.split_at_checked(count)?;
    *input = tail;
    Some(head)
}

//! What consumers tell each other through a classic group's coordinator, which does not look into it: subscriptions
//! and assignments.

use anyhow::{Context, Result};
use bytes::{BufMut, Bytes, BytesMut};

use super::control::Layout;
use super::{Cursor, Malformed};

/// `ConsumerProtocolSubscription`, version 0.
pub fn subscription(layout: &Layout) -> Bytes {
    let mut bytes = BytesMut::new();
    bytes.put_i16(0);
    bytes.put_u32(layout.topics.len() as u32);
    for topic in &layout.topics {
        put_string(&mut bytes, topic);
    }
    bytes.put_i32(-1);
    bytes.freeze()
}

/// `ConsumerProtocolAssignment`, version 0.
pub fn assignment(layout: &Layout, slots: &[usize]) -> Bytes {
    let topic_of = |slot: &usize| layout.slots[*slot].topic;
    let mut bytes = BytesMut::new();
    bytes.put_i16(0);
    let topics: Vec<_> = slots.chunk_by(|a, b| topic_of(a) == topic_of(b)).collect();
    bytes.put_u32(topics.len() as u32);
    for of_topic in topics {
        put_string(&mut bytes, &layout.topics[topic_of(&of_topic[0])]);
        bytes.put_u32(of_topic.len() as u32);
        for slot in of_topic {
            bytes.put_i32(layout.slots[*slot].partition);
        }
    }
    bytes.put_i32(-1);
    bytes.freeze()
}

fn put_string(bytes: &mut BytesMut, text: &str) {
    bytes.put_u16(text.len() as u16);
    bytes.put_slice(text.as_bytes());
}

/// The slots of an assignment, in order.
///
/// # Errors
/// It is none, or has a partition that the layout has not.
pub fn assigned(layout: &Layout, bytes: &[u8]) -> Result<Vec<usize>> {
    let mut slots = Vec::new();
    if bytes.is_empty() {
        return Ok(slots);
    }
    let mut cursor = Cursor::new(bytes);
    cursor.int16()?;
    for _ in 0..cursor.length(false)? {
        let topic = std::str::from_utf8(cursor.string(false)?).map_err(|_| Malformed)?;
        for _ in 0..cursor.length(false)? {
            let partition = cursor.int32()?;
            let found = layout
                .slots
                .iter()
                .position(|slot| slot.partition == partition && layout.topics[slot.topic] == topic);
            slots.push(found.context("an assignment of a partition that the run does not have")?);
        }
    }
    slots.sort_unstable();
    Ok(slots)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::wire::produce::Slot;

    #[test]
    fn an_assignment_survives_the_way() {
        let slots = (0..6).map(|i| Slot { topic: i / 4, partition: (i % 4) as i32, leader: 0 }).collect();
        let layout = Layout { brokers: Vec::new(), topics: vec!["a".to_owned(), "b".to_owned()], slots };
        for wanted in [vec![], vec![1], vec![0, 3, 4, 5]] {
            assert_eq!(assigned(&layout, &assignment(&layout, &wanted)).expect("an assignment"), wanted);
        }
        assert!(assigned(&layout, &[0, 0, 0]).is_err());
    }
}

//! Small things about topics that several handlers need: ids on the wire, internal names, bounded messages.

use uuid::Uuid;

use crate::model::TopicId;
use crate::protocol::StrBytes;

/// Messages for operators go out in strings of 16-bit lengths, and may quote what the client sent.
const MESSAGE_BYTES_MAX: usize = 1000;

pub(super) use crate::metadata::is_internal;

pub(super) fn topic_id(wire: Uuid) -> TopicId {
    TopicId(wire.as_u128())
}

pub(super) fn wire_id(id: TopicId) -> Uuid {
    Uuid::from_u128(id.0)
}

/// An error message of bounded length.
pub(super) fn message(text: impl Into<String>) -> StrBytes {
    let mut text = text.into();
    if text.len() > MESSAGE_BYTES_MAX {
        let end = (0..=MESSAGE_BYTES_MAX).rev().find(|&at| text.is_char_boundary(at)).unwrap_or(0);
        text.truncate(end);
    }
    StrBytes::from_string(text)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn messages_are_cut_between_characters() {
        assert_eq!(message("short").as_str(), "short");
        assert_eq!(message("ä".repeat(40_000)).as_str(), "ä".repeat(500));
        assert_eq!(message(format!("x{}", "ä".repeat(40_000))).len(), 999);
    }
}

//! What the first bytes of a value say, so that a consumer can tell when it was due, and whether one is missing,
//! doubled or out of order.

/// Values shorter than this carry no stamp.
pub const BYTES: usize = 20;

/// Of one record of one run.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Stamp {
    /// When the record was due, on the run's clock.
    pub due_nanos: u64,
    /// Told from records of other runs in the same topic by this.
    pub run: u32,
    pub producer: u32,
    /// Counts the records of one producer to one partition.
    pub sequence: u32,
}

impl Stamp {
    #[must_use]
    pub fn encode(self) -> [u8; BYTES] {
        let mut bytes = [0; BYTES];
        bytes[..8].copy_from_slice(&self.due_nanos.to_be_bytes());
        bytes[8..12].copy_from_slice(&self.run.to_be_bytes());
        bytes[12..16].copy_from_slice(&self.producer.to_be_bytes());
        bytes[16..].copy_from_slice(&self.sequence.to_be_bytes());
        bytes
    }

    #[must_use]
    pub fn decode(value: &[u8]) -> Option<Stamp> {
        let (due, rest) = value.split_first_chunk()?;
        let (run, rest) = rest.split_first_chunk()?;
        let (producer, rest) = rest.split_first_chunk()?;
        let (sequence, _) = rest.split_first_chunk()?;
        Some(Stamp {
            due_nanos: u64::from_be_bytes(*due),
            run: u32::from_be_bytes(*run),
            producer: u32::from_be_bytes(*producer),
            sequence: u32::from_be_bytes(*sequence),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_stamp_survives_the_way() {
        let stamp = Stamp { due_nanos: 1 << 40, run: 7, producer: 300, sequence: u32::MAX };
        let mut value = stamp.encode().to_vec();
        value.extend_from_slice(b"and the rest");
        assert_eq!(Stamp::decode(&value), Some(stamp));
        assert_eq!(Stamp::decode(&value[..19]), None);
    }
}

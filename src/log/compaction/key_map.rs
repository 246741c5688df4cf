//! The last offset of each key, in a fixed number of bytes per key, whatever the keys are.
//!
//! A slot is 128 bits of the key's hash and the offset: 24 bytes, as in Kafka. Keys themselves are not kept, so two
//! keys of one hash would be taken for one and lose data. The hash is SipHash-2-4 under a secret drawn for each
//! cleaning: nobody who does not know it can find such keys, and by chance it happens in one of 10^20 cleanings of a
//! billion keys.

use core::hash::Hasher as _;

use siphasher::sip128::{Hasher128 as _, SipHasher24};

use crate::model::Offset;

/// What one slot takes.
pub const BYTES_PER_SLOT: usize = 24;
/// How much of the slots is used at most, so that a search stays short (13 slots for a key that is not there, 3 for
/// one that is, on average). So a key costs up to 30 bytes of the map's memory.
pub const LOAD_PERCENT_MAX: usize = 80;

/// Open addressing with linear probing. Its memory is taken when it is made and never grows.
pub struct KeyMap {
    secret: [u8; 16],
    hashes: Vec<[u64; 2]>,
    /// The offset plus one; 0: the slot is free.
    offsets: Vec<i64>,
    used: usize,
    capacity: usize,
}

impl KeyMap {
    /// At most `bytes` of memory, and no more than `keys_max` keys need. Holds at least one key. `secret` is random.
    #[must_use]
    pub fn new(bytes: usize, keys_max: u64, secret: [u8; 16]) -> KeyMap {
        let wanted =
            usize::try_from(keys_max.saturating_mul(100) / LOAD_PERCENT_MAX as u64).unwrap_or(usize::MAX);
        let slots = (bytes / BYTES_PER_SLOT).min(wanted.saturating_add(1)).max(2);
        KeyMap {
            secret,
            hashes: vec![[0; 2]; slots],
            offsets: vec![0; slots],
            used: 0,
            capacity: (slots * LOAD_PERCENT_MAX / 100).max(1),
        }
    }

    /// Notes that `key` has a record at `offset`, which is above those noted before. False, and nothing noted, if the
    /// key is new and the map is full.
    #[must_use]
    pub fn put(&mut self, key: &[u8], offset: Offset) -> bool {
        let hash = self.hash(key);
        let slot = self.find(hash);
        if self.offsets[slot] == 0 {
            if self.used == self.capacity {
                return false;
            }
            self.used += 1;
            self.hashes[slot] = hash;
        }
        self.offsets[slot] = offset.0.saturating_add(1);
        true
    }

    /// The last offset noted of `key`.
    #[must_use]
    pub fn get(&self, key: &[u8]) -> Option<Offset> {
        match self.offsets[self.find(self.hash(key))] {
            0 => None,
            next => Some(Offset(next - 1)),
        }
    }

    #[must_use]
    pub fn len(&self) -> usize {
        self.used
    }

    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.used == 0
    }

    /// Keys it can hold.
    #[must_use]
    pub fn capacity(&self) -> usize {
        self.capacity
    }

    fn hash(&self, key: &[u8]) -> [u64; 2] {
        let mut hasher = SipHasher24::new_with_key(&self.secret);
        hasher.write(key);
        let hash = hasher.finish128();
        [hash.h1, hash.h2]
    }

    /// The slot that has the hash, or the free one where it would go. There is always a free one.
    fn find(&self, hash: [u64; 2]) -> usize {
        let slots = self.offsets.len();
        // the hash's place in proportion: no division, and no power of two needed
        let mut slot = ((u128::from(hash[0]) * slots as u128) >> 64) as usize;
        while self.offsets[slot] != 0 && self.hashes[slot] != hash {
            slot += 1;
            if slot == slots {
                slot = 0;
            }
        }
        slot
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::HashMap;

    #[test]
    fn it_says_what_a_map_says_until_it_is_full() {
        let mut map = KeyMap::new(24 * 1_000, u64::MAX, [7; 16]);
        assert_eq!(map.capacity(), 800);
        let mut model: HashMap<Vec<u8>, i64> = HashMap::new();
        for offset in 0..5_000_i64 {
            let key = format!("key {}", offset * 7_919 % 1_000).into_bytes();
            let fits = model.len() < 800 || model.contains_key(&key);
            assert_eq!(map.put(&key, Offset(offset)), fits, "{offset}");
            if fits {
                model.insert(key, offset);
            }
            assert_eq!(map.len(), model.len());
        }
        assert_eq!(model.len(), 800, "the test fills it");
        for number in 0..1_000 {
            let key = format!("key {number}").into_bytes();
            assert_eq!(map.get(&key), model.get(&key).map(|offset| Offset(*offset)), "{number}");
        }
    }

    #[test]
    fn keys_of_any_length_and_offsets_at_both_ends() {
        let mut map = KeyMap::new(1 << 20, u64::MAX, [1; 16]);
        let long = vec![9; 100_000];
        for (key, offset) in [(&b""[..], 0), (b"\0", 1), (b"\0\0", 2), (&long, i64::MAX - 1)] {
            assert_eq!(map.get(key), None);
            assert!(map.put(key, Offset(offset)));
            assert_eq!(map.get(key), Some(Offset(offset)));
        }
        assert!(!map.is_empty());
    }

    #[test]
    fn it_takes_no_more_memory_than_its_keys_need() {
        for (bytes, keys) in [(0, 0), (1, 1), (1 << 20, 10), (24 * 100, u64::MAX)] {
            let mut map = KeyMap::new(bytes, keys, [0; 16]);
            assert!(map.offsets.len() * BYTES_PER_SLOT <= bytes.max(2 * BYTES_PER_SLOT), "{bytes} {keys}");
            assert!(map.offsets.len() <= 15 || keys > 10, "{bytes} {keys}");
            assert!(map.capacity() < map.offsets.len(), "one slot is always free");
            assert!(map.put(b"a", Offset(0)));
            assert!(map.capacity() > 1 || !map.put(b"b", Offset(0)));
        }
        let map = KeyMap::new(1 << 30, 10, [0; 16]);
        assert!(map.capacity() >= 10);
    }

    #[test]
    fn the_secret_decides_the_hash() {
        let maps = [[0; 16], [1; 16]].map(|secret| KeyMap::new(100, 1, secret));
        assert_ne!(maps[0].hash(b"key"), maps[1].hash(b"key"));
        // SipHash-2-4-128 of the empty text under the key 00 01 .. 0f, from its authors' test vectors
        let secret = core::array::from_fn(|at| at as u8);
        let hash = KeyMap::new(100, 1, secret).hash(b"");
        let bytes: Vec<u8> = hash.iter().flat_map(|half| half.to_le_bytes()).collect();
        assert_eq!(
            bytes,
            [0xa3, 0x81, 0x7f, 0x04, 0xba, 0x25, 0xa8, 0xe6, 0x6d, 0xf6, 0x72, 0x14, 0xc7, 0x55, 0x02, 0x93]
        );
    }
}

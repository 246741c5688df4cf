//! Durations in a fixed array of buckets, two per power of two from 16 µs to 67 s.

use std::array;
use std::time::Duration;

use super::Counter;

/// The upper end of the first bucket.
const FIRST_US: u64 = 16;
const FIRST_EXPONENT: u32 = FIRST_US.ilog2();
/// Doublings from the first bucket to the last bound.
const DOUBLINGS: u32 = 22;
/// Bounds, the one at infinity left out.
pub(super) const BOUNDS: usize = 2 * DOUBLINGS as usize + 1;

/// How long something took, how often. About 400 bytes.
#[derive(Clone, Debug)]
pub struct Histogram {
    /// The last is for what lies above every bound.
    counts: [Counter; BOUNDS + 1],
    nanoseconds: Counter,
}

impl Default for Histogram {
    fn default() -> Histogram {
        Histogram { counts: array::from_fn(|_| Counter::default()), nanoseconds: Counter::default() }
    }
}

impl Histogram {
    pub fn record(&self, took: Duration) {
        let nanoseconds = u64::try_from(took.as_nanos()).unwrap_or(u64::MAX);
        self.nanoseconds.add(nanoseconds);
        self.counts[place(nanoseconds.div_ceil(1000))].increment();
    }

    #[must_use]
    pub fn count(&self) -> u64 {
        self.counts.iter().fold(0, |sum, count| sum.wrapping_add(count.get()))
    }

    /// The sum of all durations.
    #[must_use]
    pub fn nanoseconds(&self) -> u64 {
        self.nanoseconds.get()
    }

    /// Adds what another shard has recorded.
    pub(super) fn merge(&self, other: &Histogram) {
        self.nanoseconds.add(other.nanoseconds.get());
        for (own, other) in self.counts.iter().zip(&other.counts) {
            own.add(other.get());
        }
    }

    /// Each bound in microseconds with the count of what is not above it; [`Self::count`] belongs to infinity.
    pub(super) fn cumulative(&self) -> impl Iterator<Item = (u64, u64)> {
        let mut sum = 0_u64;
        self.counts[..BOUNDS].iter().enumerate().map(move |(place, count)| {
            sum = sum.wrapping_add(count.get());
            (bound_us(place), sum)
        })
    }
}

/// 16, 24, 32, 48, 64, 96 …
const fn bound_us(place: usize) -> u64 {
    let doubled = FIRST_US << (place / 2);
    if place.is_multiple_of(2) { doubled } else { doubled + doubled / 2 }
}

/// The first bucket whose bound is not below `us`: 17 to 24 µs belong to the second, 25 to 32 to the third.
fn place(us: u64) -> usize {
    if us <= FIRST_US {
        return 0;
    }
    // below the bound, so that the bound itself falls into its bucket
    let below = us - 1;
    let exponent = below.ilog2();
    let upper_half = (below >> (exponent - 1)) & 1;
    let place = 2 * (exponent - FIRST_EXPONENT) as usize + upper_half as usize + 1;
    place.min(BOUNDS)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_duration_falls_into_the_first_bucket_that_reaches_it() {
        for us in (0..3000).chain((12..40).flat_map(|power| [(1 << power) - 1, 1 << power, (1 << power) + 1]))
        {
            let expected = (0..BOUNDS).find(|&place| us <= bound_us(place)).unwrap_or(BOUNDS);
            assert_eq!(place(us), expected, "{us} µs");
        }
        assert_eq!(place(u64::MAX / 1000), BOUNDS);
        assert_eq!((bound_us(0), bound_us(1), bound_us(2), bound_us(BOUNDS - 1)), (16, 24, 32, 67_108_864));
    }

    #[test]
    fn counts_are_cumulative_and_exact_at_the_bounds() {
        let histogram = Histogram::default();
        for took in [16_000, 16_001, 24_000, 1_000_000_000, u64::MAX] {
            histogram.record(Duration::from_nanos(took));
        }
        let counts: Vec<_> = histogram.cumulative().collect();
        assert_eq!(counts[..3], [(16, 1), (24, 3), (32, 3)]);
        assert_eq!(counts.last(), Some(&(67_108_864, 4)));
        assert_eq!(histogram.count(), 5);
        assert!(counts.is_sorted_by_key(|(_, count)| *count) && counts.is_sorted_by_key(|(bound, _)| *bound));
        histogram.merge(&histogram.clone());
        assert_eq!(histogram.count(), 10);
    }
}

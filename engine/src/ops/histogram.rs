//! Distributions that any thread records into without a lock: fixed, log-linear buckets of atomics.
//!
//! Each power of two is cut into four, so a quantile read from the buckets is at most a fifth off. A whole number
//! `v` falls into the bucket with `low < v ≤ high`: bounds are inclusive above, as Prometheus has them, so that a
//! full batch of 1,024 counts under `le="1024"`. Deliberately not here: names, and windows over time; a collector
//! takes differences.

use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::time::Duration;

/// Cuts of each power of two.
const CUTS: usize = 4;
/// Above `2^TOP_EXPONENT` everything falls into the last bucket: 268 s in microseconds, or 268 M items.
const TOP_EXPONENT: usize = 28;
const BUCKETS: usize = CUTS * (TOP_EXPONENT - 1);

/// A distribution of whole numbers.
#[derive(Debug)]
pub struct Sizes {
    buckets: [AtomicU64; BUCKETS],
    sum: AtomicU64,
    max: AtomicU64,
}

impl Default for Sizes {
    fn default() -> Self {
        Self {
            buckets: [const { AtomicU64::new(0) }; BUCKETS],
            sum: AtomicU64::new(0),
            max: AtomicU64::new(0),
        }
    }
}

impl Sizes {
    /// Records one value.
    pub fn record(&self, value: u64) {
        self.record_many(value, 1);
    }

    /// Records a value that `times` things share, such as everybody in one batch.
    pub fn record_many(&self, value: u64, times: u64) {
        if times == 0 {
            return;
        }
        self.buckets[bucket(value)].fetch_add(times, Relaxed);
        self.sum.fetch_add(value.saturating_mul(times), Relaxed);
        self.max.fetch_max(value, Relaxed);
    }

    /// What was recorded so far.
    pub fn read(&self) -> Reading {
        Reading {
            buckets: std::array::from_fn(|at| self.buckets[at].load(Relaxed)),
            sum: self.sum.load(Relaxed),
            max: self.max.load(Relaxed),
        }
    }
}

/// A distribution of spans of time, kept in whole microseconds and shown in seconds.
#[derive(Debug, Default)]
pub struct Durations(Sizes);

impl Durations {
    /// Records one span.
    pub fn record(&self, span: Duration) {
        self.record_many(span, 1);
    }

    /// Records a span that `times` things share, such as everybody in one batch.
    pub fn record_many(&self, span: Duration, times: u64) {
        // To the nearest microsecond: cutting off would make every sum too small by half of one per record.
        let micros = (span + Duration::from_nanos(500)).as_micros();
        self.0.record_many(u64::try_from(micros).unwrap_or(u64::MAX), times);
    }

    /// What was recorded so far, in microseconds.
    pub fn read(&self) -> Reading {
        self.0.read()
    }
}

/// A distribution as it was at one moment.
#[derive(Clone, Debug)]
pub struct Reading {
    buckets: [u64; BUCKETS],
    sum: u64,
    max: u64,
}

impl Reading {
    /// How many values were recorded. Counted from the buckets, so that it always agrees with them.
    pub fn count(&self) -> u64 {
        self.buckets.iter().sum()
    }

    /// Their sum.
    pub fn sum(&self) -> u64 {
        self.sum
    }

    /// The largest of them.
    pub fn max(&self) -> u64 {
        self.max
    }

    /// The value that the fraction `q` (0 to 1) of all values does not exceed, interpolated within its bucket; 0 if
    /// nothing was recorded.
    pub fn quantile(&self, q: f64) -> f64 {
        let count = self.count();
        if count == 0 {
            return 0.0;
        }
        let rank = (q.clamp(0.0, 1.0) * count as f64).max(1.0);
        let mut below = 0_u64;
        for (at, here) in self.buckets.iter().copied().enumerate() {
            if here > 0 && (below + here) as f64 >= rank {
                let (low, high) = (low(at) as f64, low(at + 1) as f64);
                let value = low + (high - low) * (rank - below as f64) / here as f64;
                return value.min(self.max as f64);
            }
            below += here;
        }
        self.max as f64
    }

    /// Pairs of inclusive upper bound and values in that bucket, at the powers of two up to `2^exponent_max`, then
    /// everything above under infinity: four times coarser than what is kept, which is enough for a dashboard.
    pub fn powers_of_two(&self, exponent_max: u32) -> Vec<(f64, u64)> {
        let mut pairs = Vec::with_capacity(exponent_max as usize + 2);
        let mut from = 0;
        for exponent in 0..=exponent_max {
            let bound = 1_u64 << exponent;
            let to = (from..BUCKETS).find(|at| low(at + 1) > bound).unwrap_or(BUCKETS);
            pairs.push((bound as f64, self.buckets[from..to].iter().sum()));
            from = to;
        }
        pairs.push((f64::INFINITY, self.buckets[from..].iter().sum()));
        pairs
    }
}

/// The bucket of a value: of `value − 1`, so that bounds are inclusive above.
fn bucket(value: u64) -> usize {
    let below = value.saturating_sub(1);
    if below < CUTS as u64 {
        return below as usize;
    }
    let exponent = below.ilog2() as usize;
    let cut = (below >> (exponent - 2)) as usize & (CUTS - 1);
    (CUTS * (exponent - 1) + cut).min(BUCKETS - 1)
}

/// The exclusive lower bound of a bucket, which is the inclusive upper bound of the one before.
fn low(bucket: usize) -> u64 {
    if bucket < CUTS {
        return bucket as u64;
    }
    let exponent = bucket / CUTS + 1;
    ((CUTS + bucket % CUTS) as u64) << (exponent - 2)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_value_lies_within_the_bounds_of_its_bucket() {
        let edges = (0..TOP_EXPONENT).flat_map(|e| (1_u64 << e).saturating_sub(2)..=(1 << e) + 2);
        for value in (1..5000).chain(edges).filter(|value| *value > 0 && *value <= 1 << TOP_EXPONENT) {
            let at = bucket(value);
            assert!(low(at) < value && value <= low(at + 1), "{value} in bucket {at}");
        }
        assert_eq!(bucket(0), 0);
        assert_eq!(bucket(u64::MAX), BUCKETS - 1);
    }

    #[test]
    fn quantiles_are_at_most_a_fifth_off() {
        let sizes = Sizes::default();
        (1..=10_000).for_each(|value| sizes.record(value));
        let reading = sizes.read();
        assert_eq!((reading.count(), reading.sum(), reading.max()), (10_000, 50_005_000, 10_000));
        for (q, exact) in [(0.0, 1.0), (0.5, 5000.0), (0.99, 9900.0), (0.999, 9990.0), (1.0, 10_000.0)] {
            let read = reading.quantile(q);
            assert!((read - exact).abs() <= exact / 5.0, "q {q}: read {read}, exact {exact}");
        }
        assert_eq!(Sizes::default().read().quantile(0.5), 0.0);
    }

    #[test]
    fn bounds_are_inclusive_above_and_nothing_is_counted_twice() {
        let sizes = Sizes::default();
        sizes.record_many(1024, 7);
        sizes.record(1025);
        sizes.record_many(5, 0);
        sizes.record(u64::MAX);
        let pairs = sizes.read().powers_of_two(12);
        let at = |bound: f64| pairs.iter().find(|pair| pair.0 == bound).unwrap().1;
        assert_eq!((at(1024.0), at(2048.0), at(f64::INFINITY)), (7, 1, 1));
        assert_eq!(pairs.iter().map(|pair| pair.1).sum::<u64>(), 9);
    }

    #[test]
    fn spans_are_rounded_to_the_nearest_microsecond() {
        let spans = Durations::default();
        spans.record(Duration::from_nanos(1_499));
        spans.record_many(Duration::from_nanos(1_500), 2);
        assert_eq!(spans.read().sum(), 1 + 2 + 2);
    }
}

//! Where reservation ids come from: 48 bits of time, 16 bits that count, 64 bits that tell processes apart.
//!
//! ```text
//! bits 127…80  milliseconds since 1970 by this machine's clock
//! bits  79…64  counts within the millisecond, from a random start
//! bits  63… 0  the upper half, scrambled under a random key of this generator
//! ```
//!
//! The upper half rises with every id, so ids of one generator are unique and sort by age, whatever the clock
//! does. Scrambling is one-to-one, so two generators can only collide if they drew the same 64-bit key. Ids
//! are names, not secrets: whoever may talk to the server may confirm or cancel any id it knows.

use std::sync::LazyLock;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{SystemTime, UNIX_EPOCH};

use sluice_protocol::ReservationId;

/// Bits of the upper half that count within a millisecond.
const COUNTER_BITS: u32 = 16;

/// A new count starts in the lower half of its range, so that it does not overflow into the time at once.
const START_MASK: u64 = (1 << (COUNTER_BITS - 1)) - 1;

/// Makes ids that were never used before. Lock-free; share one freely between threads.
#[derive(Debug)]
pub struct IdGenerator {
    key: u64,
    last: AtomicU64,
}

impl IdGenerator {
    /// A generator with a key of its own.
    ///
    /// # Panics
    /// If the operating system has no random bytes to give.
    pub fn new() -> Self {
        Self { key: random_u64(), last: AtomicU64::new(0) }
    }

    /// An id that this generator never gave before, greater than all it gave.
    pub fn next(&self) -> ReservationId {
        let now_ms = SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_millis() as u64);
        self.next_at(now_ms)
    }

    fn next_at(&self, now_ms: u64) -> ReservationId {
        let start = scramble(self.key ^ now_ms) & START_MASK;
        let floor = (now_ms << COUNTER_BITS) | start;
        // Relaxed suffices: an id only has to differ from all others, and one atomic has one order of changes.
        let previous = self
            .last
            .fetch_update(Ordering::Relaxed, Ordering::Relaxed, |last| Some(floor.max(last + 1)))
            .expect("the update is never declined");
        let upper = floor.max(previous + 1);
        let lower = scramble(upper.wrapping_add(self.key));
        ReservationId((u128::from(upper) << 64) | u128::from(lower))
    }
}

impl Default for IdGenerator {
    fn default() -> Self {
        Self::new()
    }
}

/// An id from the generator of this process.
pub fn fresh_id() -> ReservationId {
    static PROCESS: LazyLock<IdGenerator> = LazyLock::new(IdGenerator::new);
    PROCESS.next()
}

/// Random numbers from the operating system, for keys and seeds.
pub(crate) fn random_u64() -> u64 {
    getrandom::u64().expect("the operating system gives random bytes")
}

/// A one-to-one scrambling of 64 bits in which each bit depends on all others (the finaliser of SplitMix64;
/// Steele, Lea, Flood: Fast Splittable Pseudorandom Number Generators, 2014).
pub(crate) fn scramble(value: u64) -> u64 {
    let value = (value ^ (value >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
    let value = (value ^ (value >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
    value ^ (value >> 31)
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;
    use std::thread;

    use super::*;

    #[test]
    fn ids_rise_while_the_clock_stands_or_falls() {
        let ids = IdGenerator::new();
        let mut last = ids.next_at(1_000_000);
        for now_ms in [1_000_000, 1_000_000, 999_000, 0, 1_000_001, 1_000_001, 5] {
            let next = ids.next_at(now_ms);
            assert!(next > last, "{next} after {last}");
            last = next;
        }
    }

    #[test]
    fn the_time_stands_in_front() {
        let id = IdGenerator::new().next_at(1_700_000_000_123);
        assert_eq!((id.0 >> 80) as u64, 1_700_000_000_123);
    }

    #[test]
    fn more_than_a_millisecond_can_count_stays_unique() {
        let ids = IdGenerator::new();
        let unique: HashSet<_> = (0..200_000).map(|_| ids.next_at(7)).collect();
        assert_eq!(unique.len(), 200_000);
    }

    #[test]
    fn threads_and_generators_never_give_one_twice() {
        let shared = IdGenerator::new();
        let given: Vec<ReservationId> = thread::scope(|scope| {
            let threads: Vec<_> = (0..8)
                .map(|_| {
                    scope.spawn(|| {
                        let own = IdGenerator::new();
                        let mine: Vec<_> = (0..20_000).map(|_| shared.next()).collect();
                        assert!(mine.is_sorted(), "ids rise as one thread sees them");
                        mine.into_iter().chain((0..20_000).map(|_| own.next())).collect::<Vec<_>>()
                    })
                })
                .collect();
            threads.into_iter().flat_map(|thread| thread.join().unwrap()).collect()
        });
        let unique: HashSet<_> = given.iter().collect();
        assert_eq!(unique.len(), given.len());
    }

    #[test]
    fn the_process_generator_rises() {
        let ids: Vec<_> = (0..100).map(|_| fresh_id()).collect();
        assert!(ids.is_sorted() && ids.windows(2).all(|pair| pair[0] != pair[1]));
    }
}

//! An approximate set that forgets: "does this user already have something of this product?", "is this id
//! known?". It may say *maybe* of a key that is not in it; it never says *no* of a key that is.
//!
//! Layout after the cuckoo filter (B. Fan et al., CoNEXT 2014), without the cuckoo: a bucket is one word of four
//! 16-bit fingerprints, a key has two buckets, goes into the emptier one and then never moves. So a reader
//! needs two loads and no retry, and the price is memory: the table is kept at most [`LOAD_MAX_EIGHTHS`]/8
//! full. A key that finds both buckets full makes one of them *saturated*: it answers *maybe* for ever.
//!
//! Two keys of the same fingerprint that share a bucket share both (the second follows from the first and the
//! fingerprint alone). So such twins are interchangeable and it does not matter whose copy is removed; with
//! independent buckets, removing one key could hide another.
//!
//! Why a reader is never fooled by twins changing places. Of a pair of buckets, call the one with the smaller
//! number *low*. Removal empties low before high, and a reader looks at low first. Take a key that stays in the
//! set. If low had no copy when it was read, then high had one at that moment. From then on high is only touched
//! by a removal when low has none, that is when high has the copies of all twins, and our key's is among
//! those that remain. So high has a copy whenever it is read later, or is saturated. Release stores and acquire
//! loads make "later" mean the same on all processors.
//!
//! False positives: at the highest load 8 slots × 3/8 full × 2⁻¹⁶ ≈ 5 in 100,000, and twice the share of
//! saturated buckets, which stays far below that (see the tests).
//!
//! Deliberately not here: growing (build a larger one and swap it), more than one writer.

use std::fmt;
use std::hash::BuildHasher;

use foldhash::quality::FixedState;

use super::sync::{AtomicU64, Ordering};

/// Eighths of the slots that [`Filter::with_capacity`] means to fill at most. With two choices and buckets of
/// four, hardly any key finds both buckets full at 3/8 (fewer than one in a million, see the tests); at
/// 4/8 it is one in 10,000 and at 7/8 every tenth bucket would be saturated.
pub const LOAD_MAX_EIGHTHS: usize = 3;

const SLOTS: usize = 4;
const SLOT_BITS: usize = 16;

/// A one in every slot: multiplies a fingerprint into all four, and is what zero detection borrows from.
const EACH_SLOT: u64 = 0x0001_0001_0001_0001;
const TOP_OF_EACH_SLOT: u64 = EACH_SLOT << (SLOT_BITS - 1);

/// What a saturated bucket holds. No fingerprint is 0xFFFF, so four of them cannot look like this.
const SATURATED: u64 = u64::MAX;

/// Fingerprints are 1 ..= 0xFFFE: 0 is a free slot.
const FINGERPRINTS: u64 = 0xFFFE;

/// An approximate set of hashes. One thread writes, any number read.
pub struct Filter {
    /// A power of two, at least two.
    buckets: Box<[AtomicU64]>,
    saturated: AtomicU64,
}

impl fmt::Debug for Filter {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let buckets = self.buckets.len();
        f.debug_struct("Filter").field("buckets", &buckets).field("saturated", &self.saturated()).finish()
    }
}

/// Where a key may lie.
struct Place {
    fingerprint: u64,
    low: usize,
    high: usize,
}

impl Filter {
    /// Room for `keys` keys at the promised rate of false positives; 5⅓ to 10⅔ bytes each. More may be inserted:
    /// the answers then drift towards *maybe*.
    pub fn with_capacity(keys: usize) -> Self {
        let slots = keys.saturating_mul(8).div_ceil(LOAD_MAX_EIGHTHS);
        let buckets = slots.div_ceil(SLOTS).next_power_of_two().max(2);
        Self { buckets: (0..buckets).map(|_| AtomicU64::new(0)).collect(), saturated: AtomicU64::new(0) }
    }

    /// Hashes a pair of words (product and user; the halves of an id). The seed is a secret of the process:
    /// users choose their ids, and must not be able to choose their collisions.
    pub fn hash(a: u64, b: u64, seed: u64) -> u64 {
        FixedState::with_seed(seed).hash_one((a, b))
    }

    /// Whether the key with this hash may be in the set. `false` is certain for what was inserted, and not
    /// removed, before the caller could know of it.
    pub fn maybe_contains(&self, hash: u64) -> bool {
        let Place { fingerprint, low, high } = self.place(hash);
        // Low first: the argument at the head of this file depends on it.
        [low, high].into_iter().any(|bucket| {
            let word = self.buckets[bucket].load(Ordering::Acquire);
            word == SATURATED || find(word, fingerprint).is_some()
        })
    }

    /// Adds a key. A key added twice takes two slots and must be removed twice. Writer only.
    pub fn insert(&self, hash: u64) {
        let Place { fingerprint, low, high } = self.place(hash);
        let (low_word, high_word) = (self.word(low), self.word(high));
        if low_word == SATURATED || high_word == SATURATED {
            return; // already *maybe*, for ever
        }
        let (emptier, word) =
            if used(high_word) < used(low_word) { (high, high_word) } else { (low, low_word) };
        if let Some(slot) = find(word, 0) {
            self.store(emptier, word | fingerprint << (slot * SLOT_BITS));
        } else {
            self.store(emptier, SATURATED);
            self.saturated.fetch_add(1, Ordering::Relaxed);
        }
    }

    /// Takes a key out that was inserted. Writer only.
    ///
    /// Of a pair with a saturated bucket nothing is removed: its keys are *maybe* for ever, and which copies
    /// were swallowed cannot be told. A reader who saw the bucket just before still relies on the other one.
    pub fn remove(&self, hash: u64) {
        let Place { fingerprint, low, high } = self.place(hash);
        let (low_word, high_word) = (self.word(low), self.word(high));
        if low_word == SATURATED || high_word == SATURATED {
            return;
        }
        // Low first: the argument at the head of this file depends on it.
        for (bucket, word) in [(low, low_word), (high, high_word)] {
            if let Some(slot) = find(word, fingerprint) {
                self.store(bucket, word & !(0xFFFF << (slot * SLOT_BITS)));
                return;
            }
        }
    }

    /// Forgets everything. Writer only; a reader at the same time may miss any key.
    pub fn clear(&self) {
        for bucket in &self.buckets {
            bucket.store(0, Ordering::Release);
        }
        self.saturated.store(0, Ordering::Relaxed);
    }

    /// Buckets that answer *maybe* to everything. Growing means that the filter is too small.
    pub fn saturated(&self) -> u64 {
        self.saturated.load(Ordering::Relaxed)
    }

    fn place(&self, hash: u64) -> Place {
        let mask = self.buckets.len() - 1;
        // The fingerprint from the upper half, the bucket from the lower: independent of each other.
        let fingerprint = 1 + (((hash >> 48) * FINGERPRINTS) >> SLOT_BITS);
        let first = hash as usize & mask;
        // Odd, so that the two always differ.
        let second = first ^ ((spread(fingerprint) as usize & mask) | 1);
        Place { fingerprint, low: first.min(second), high: first.max(second) }
    }

    /// The writer's own view: nobody else stores.
    fn word(&self, bucket: usize) -> u64 {
        self.buckets[bucket].load(Ordering::Relaxed)
    }

    fn store(&self, bucket: usize, word: u64) {
        self.buckets[bucket].store(word, Ordering::Release);
    }
}

/// The lowest slot that holds the fingerprint, or with 0 the lowest free one.
fn find(word: u64, fingerprint: u64) -> Option<usize> {
    // A slot that matches becomes zero. Subtracting one from every slot then borrows from its top bit, which was
    // not set before. A borrow can mislead about slots above a zero one, never about the lowest.
    let difference = word ^ (fingerprint * EACH_SLOT);
    let zeros = difference.wrapping_sub(EACH_SLOT) & !difference & TOP_OF_EACH_SLOT;
    (zeros != 0).then(|| zeros.trailing_zeros() as usize / SLOT_BITS)
}

fn used(word: u64) -> usize {
    (0..SLOTS).filter(|slot| word >> (slot * SLOT_BITS) & 0xFFFF != 0).count()
}

/// Spreads a fingerprint over the bucket numbers (Fibonacci hashing, Knuth vol. 3, 6.4).
fn spread(fingerprint: u64) -> u64 {
    fingerprint.wrapping_mul(0x9E37_79B9_7F4A_7C15) >> 24
}

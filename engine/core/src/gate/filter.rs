//! An approximate set that forgets: "does this user already have something of this product?", "is this id
//! known?". It may say *maybe* of a key that is not in it; it never says *no* of a key that is.
//!
//! Layout after the cuckoo filter (B. Fan et al., CoNEXT 2014). A bucket is one word of four 16-bit fingerprints.
//! A key has two buckets, one of even and one of odd number, and goes into the emptier one. If both are full, a
//! resident of the even bucket is moved to its own odd one to make room. If that fails too, the even bucket is
//! *saturated*: it answers *maybe* for ever. No chains of moves: the table is sized so that none are needed.
//!
//! Two keys of the same fingerprint that share a bucket share both (the second follows from the first and the
//! fingerprint alone). So such twins are interchangeable and it does not matter whose copy is removed; with
//! independent buckets, removing one key could hide another.
//!
//! Why a reader needs no lock and no second look: **copies travel from even to odd, never back.** A reader looks
//! at the even bucket first. Take a key that stays in the set. If its even bucket had no copy when it was read,
//! the odd one had one at that moment. From then on the odd one loses a copy only by a removal
//! that found none in the even one. Then the odd one had a copy for each twin, ours among them, and one for ours
//! remains. So there is a copy whenever the odd bucket is read later. Release stores and acquire loads make
//! "later" mean the same on all processors.
//!
//! False positives: 8 slots × the share in use × 2⁻¹⁶, and the share of saturated buckets, which stays far below
//! that (see the tests).
//!
//! Deliberately not here: growing ([`super::filters`]), more than one writer.

use std::fmt;
use std::hash::BuildHasher;

use foldhash::quality::FixedState;
#[cfg(not(loom))]
use zerocopy::FromZeros;

use super::sync::{AtomicU64, Ordering};

/// Slots that [`Filter::with_capacity`] provides for each key, at least. Measured on a full table while its keys
/// come and go: with two slots, one new key in 52 million saturates a bucket; with 8/5, one in 48,000.
pub const SLOTS_PER_KEY: usize = 2;

const SLOTS: usize = 4;
const SLOT_BITS: usize = 16;

/// A one in every slot: multiplies a fingerprint into all four, and is what zero detection borrows from.
const EACH_SLOT: u64 = 0x0001_0001_0001_0001;
const TOP_OF_EACH_SLOT: u64 = EACH_SLOT << (SLOT_BITS - 1);

/// What a saturated bucket holds. No fingerprint is 0xFFFF, so four of them cannot look like this.
const SATURATED: u64 = u64::MAX;

/// What a slot without a fingerprint holds.
const FREE: u64 = 0;

/// Fingerprints are 1 ..= 0xFFFE.
const FINGERPRINTS: u64 = 0xFFFE;

/// Buckets in a page of memory.
const PAGE_BUCKETS: u64 = 4096 / 8;

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
    even: usize,
    odd: usize,
}

impl Filter {
    /// Room for `keys` keys at 4 to 8 bytes each, with at most 1 false positive in 10,000. More may be inserted:
    /// the answers then drift towards *maybe*.
    pub fn with_capacity(keys: usize) -> Self {
        let buckets = keys.saturating_mul(SLOTS_PER_KEY).div_ceil(SLOTS).next_power_of_two().max(2);
        Self { buckets: zeroed(buckets), saturated: AtomicU64::new(0) }
    }

    /// Keys that there is room for.
    pub fn capacity(&self) -> u64 {
        (self.buckets.len() * SLOTS / SLOTS_PER_KEY) as u64
    }

    /// Bytes of its buckets.
    pub fn bytes(&self) -> u64 {
        size_of_val(&*self.buckets) as u64
    }

    /// Hashes a pair of words (product and user; the halves of an id). The seed is a secret of the process:
    /// users choose their ids, and must not be able to choose their collisions.
    pub fn hash(a: u64, b: u64, seed: u64) -> u64 {
        FixedState::with_seed(seed).hash_one((a, b))
    }

    /// Whether the key with this hash may be in the set. `false` is certain for what was inserted, and not
    /// removed, before the caller could know of it.
    pub fn maybe_contains(&self, hash: u64) -> bool {
        let Place { fingerprint, even, odd } = self.place(hash);
        // Even first: the argument at the head of this file depends on it.
        [even, odd].into_iter().any(|bucket| {
            let word = self.buckets[bucket].load(Ordering::Acquire);
            word == SATURATED || find(word, fingerprint).is_some()
        })
    }

    /// Reads the two buckets of a key. To be called for several keys in a row, well ahead of what will be done with them:
    /// then the processor waits for all of their memory at once.
    #[inline]
    pub fn touch(&self, hash: u64) -> u64 {
        let Place { even, odd, .. } = self.place(hash);
        self.word(even) ^ self.word(odd)
    }

    /// Makes the operating system provide a page of memory, if there are so many. Writer only.
    pub(super) fn touch_page(&self, page: u64) {
        let bucket = page.saturating_mul(PAGE_BUCKETS);
        if let Some(bucket) = usize::try_from(bucket).ok().and_then(|bucket| self.buckets.get(bucket)) {
            // A store of what is there: only the writer ever stores.
            bucket.store(bucket.load(Ordering::Relaxed), Ordering::Relaxed);
        }
    }

    /// Adds a key. A key added twice takes two slots and must be removed twice. Writer only.
    pub fn insert(&self, hash: u64) {
        let Place { fingerprint, even, odd } = self.place(hash);
        let (even_word, odd_word) = (self.word(even), self.word(odd));
        if even_word == SATURATED {
            return; // already *maybe*, for ever
        }
        if used(odd_word) < used(even_word) {
            let slot =
                find(odd_word, FREE).expect("the emptier of two buckets that are not both full has room");
            self.store(odd, replace(odd_word, slot, fingerprint));
        } else if let Some(slot) = find(even_word, FREE).or_else(|| self.make_room(even)) {
            self.store(even, replace(even_word, slot, fingerprint));
        } else {
            self.store(even, SATURATED);
            self.saturated.fetch_add(1, Ordering::Relaxed);
        }
    }

    /// Takes a key out that was inserted. Writer only.
    ///
    /// Of a pair with a saturated bucket nothing is removed: its keys are *maybe* for ever, and which copies
    /// were swallowed cannot be told. A reader who saw the bucket just before still relies on the other one.
    pub fn remove(&self, hash: u64) {
        let Place { fingerprint, even, odd } = self.place(hash);
        if self.word(even) == SATURATED {
            return;
        }
        // Even first: the argument at the head of this file depends on it.
        for bucket in [even, odd] {
            let word = self.word(bucket);
            if let Some(slot) = find(word, fingerprint) {
                self.store(bucket, replace(word, slot, FREE));
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
        // The fingerprint from the upper bits, the bucket from the lower: independent of each other.
        let fingerprint = 1 + (((hash >> 48) * FINGERPRINTS) >> SLOT_BITS);
        let first = hash as usize & (self.buckets.len() - 1);
        let second = self.partner(first, fingerprint);
        let (even, odd) = if first.is_multiple_of(2) { (first, second) } else { (second, first) };
        Place { fingerprint, even, odd }
    }

    /// The other bucket of a fingerprint that may lie in this one: its own inverse.
    fn partner(&self, bucket: usize, fingerprint: u64) -> usize {
        // Fibonacci hashing (Knuth vol. 3, 6.4). Odd, so that every pair has an even and an odd member.
        let distance = (fingerprint.wrapping_mul(0x9E37_79B9_7F4A_7C15) >> 24) | 1;
        bucket ^ (distance as usize & (self.buckets.len() - 1))
    }

    /// Copies a resident of a full even bucket to the emptiest odd bucket that any of them could go to. The slot
    /// it leaves behind, to be overwritten; `None` if all of those are full too.
    fn make_room(&self, even: usize) -> Option<usize> {
        let word = self.word(even);
        let moves = (0..SLOTS).map(|slot| {
            let fingerprint = word >> (slot * SLOT_BITS) & 0xFFFF;
            (slot, fingerprint, self.partner(even, fingerprint))
        });
        let (slot, fingerprint, odd) = moves.min_by_key(|(.., odd)| used(self.word(*odd)))?;
        let odd_word = self.word(odd);
        let free = find(odd_word, FREE)?;
        self.store(odd, replace(odd_word, free, fingerprint));
        Some(slot)
    }

    /// The writer's own view: nobody else stores.
    fn word(&self, bucket: usize) -> u64 {
        self.buckets[bucket].load(Ordering::Relaxed)
    }

    fn store(&self, bucket: usize, word: u64) {
        self.buckets[bucket].store(word, Ordering::Release);
    }
}

/// Empty buckets. Zeroed by the allocator, which for large ones gets zeroed pages from the operating system and touches none.
#[cfg(not(loom))]
fn zeroed(buckets: usize) -> Box<[AtomicU64]> {
    <[AtomicU64]>::new_box_zeroed_with_elems(buckets)
        .expect("memory for a filter, which is bounded by its keys")
}

#[cfg(loom)]
fn zeroed(buckets: usize) -> Box<[AtomicU64]> {
    (0..buckets).map(|_| AtomicU64::new(0)).collect()
}

/// The lowest slot that holds the fingerprint, or with [`FREE`] the lowest free one.
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

fn replace(word: u64, slot: usize, fingerprint: u64) -> u64 {
    let shift = slot * SLOT_BITS;
    (word & !(0xFFFF << shift)) | (fingerprint << shift)
}

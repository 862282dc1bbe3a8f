//! A few words that are written together by one thread and read together by many.
//!
//! A seqlock with two copies (the Linux kernel calls it `seqcount_latch`): the writer fills the copy that
//! nobody is sent to, then sends the readers there. So a reader never waits for a writer that was preempted
//! half-way; it tries again only if whole versions were published while it read.
//!
//! The orderings follow H.-J. Boehm, "Can Seqlocks Get Along With Programming Language Memory Models?" (2012).
//! Every word is an atomic, so a torn read is discarded, never undefined.
//!
//! Deliberately not here: what the words mean ([`super::notice`]).

use std::array;

use super::sync::{AtomicU64, Ordering, fence, spin_loop};

/// `N` words under a version. One writer, any number of readers, no waiting for either.
#[derive(Debug)]
pub struct Seqlock<const N: usize> {
    /// Counts publications; version `v` lies in copy `v % 2`.
    version: AtomicU64,
    copies: [[AtomicU64; N]; 2],
}

impl<const N: usize> Seqlock<N> {
    /// Holds `words` until the first publication.
    pub fn new(words: [u64; N]) -> Self {
        let copies = [array::from_fn(|i| AtomicU64::new(words[i])), array::from_fn(|_| AtomicU64::new(0))];
        Self { version: AtomicU64::new(0), copies }
    }

    /// Replaces all words. Only ever called by one thread.
    pub fn publish(&self, words: [u64; N]) {
        // Only this thread stores the version, so its own view of it is exact.
        let next = self.version.load(Ordering::Relaxed) + 1;
        // The copy written below is the one of version `next - 2`. A slow reader may still be in it: this fence
        // puts the version stored last time, `next - 1`, before the words, and pairs with the reader's fence,
        // so that whoever sees one of the new words also sees that its version has passed.
        fence(Ordering::Release);
        for (cell, word) in self.copies[copy_of(next)].iter().zip(words) {
            cell.store(word, Ordering::Relaxed);
        }
        // Release: whoever is sent to this copy finds all of its words.
        self.version.store(next, Ordering::Release);
    }

    /// The words of one publication, never of two. What was published before the caller learnt of it (by any
    /// synchronising load) is seen, or something newer.
    pub fn read(&self) -> [u64; N] {
        loop {
            // Acquire: pairs with the release in `publish`, so that no word is older than this version.
            let version = self.version.load(Ordering::Acquire);
            let copy = &self.copies[copy_of(version)];
            let words = array::from_fn(|i| copy[i].load(Ordering::Relaxed));
            // Pairs with the writer's fence: if a word was newer than `version`, the load below shows it.
            fence(Ordering::Acquire);
            if self.version.load(Ordering::Relaxed) == version {
                return words;
            }
            spin_loop();
        }
    }
}

fn copy_of(version: u64) -> usize {
    (version % 2) as usize
}

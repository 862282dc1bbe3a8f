//! What the replica publishes for the net threads: of each product a [`Notice`], of the whole ledger an
//! [`AppliedCell`]. With these a net thread refuses a whole frame by itself, from committed state.
//!
//! The order of publication is part of the contract: after an entry was applied the replica first gives the
//! units back to the gate, then posts the changed notices, then publishes the applied index. So whoever sees
//! index `i` applied finds every notice at least as new as `i`, and the units that came free with it.
//!
//! Deliberately not here: whether a notice may be used to say no. That takes a confirmed round, and is the
//! desk's business.

use sluice_protocol::ProductId;
use sluice_protocol::response::At;

use super::seqlock::Seqlock;
use crate::ledger::Standing;

const UNLIMITED: u64 = 1;
const SEALED: u64 = 1 << 1;

/// One product as of one applied index.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub struct Posted {
    /// The log index whose application made it so. Nothing about the product changed since, up to the index
    /// that was published last in the [`AppliedCell`].
    pub index: u64,
    /// Ledger time at that index, milliseconds since 1970.
    pub time_ms: u64,
    /// Units neither held nor sold; 0 if unlimited.
    pub free: u64,
    /// Units held.
    pub held: u64,
    /// When the first hold could end, ledger milliseconds; 0 = nothing is held.
    pub earliest_return_ms: u64,
    /// When the sale opens, ledger milliseconds.
    pub opens_ms: u64,
    /// When the sale closes, ledger milliseconds.
    pub closes_ms: u64,
    /// Units that one user may have, as in the product's terms.
    pub per_user_limit: u32,
    /// There is no stock to run out of.
    pub unlimited: bool,
    /// No stock will ever be added.
    pub sealed: bool,
}

/// The public state of one product. Written by the replica thread alone, read by all. It outlives gates: terms
/// come and go, committed state stays.
#[derive(Debug)]
pub struct Notice(Seqlock<9>);

impl Notice {
    /// Shows `posted` from the start.
    pub fn new(posted: Posted) -> Self {
        Self(Seqlock::new(posted.into_words()))
    }

    /// Replaces what is shown. Replica thread only.
    pub fn publish(&self, posted: Posted) {
        self.0.publish(posted.into_words());
    }

    /// What is shown: all of it as of one index.
    pub fn read(&self) -> Posted {
        Posted::from_words(self.0.read())
    }
}

impl Posted {
    /// A standing as of `at`.
    pub fn new(standing: &Standing, at: At) -> Self {
        Self {
            index: at.index,
            time_ms: at.time_ms,
            free: standing.free,
            held: standing.held,
            earliest_return_ms: standing.earliest_return_ms,
            opens_ms: standing.opens_ms,
            closes_ms: standing.closes_ms,
            per_user_limit: standing.per_user_limit,
            unlimited: standing.unlimited,
            sealed: standing.sealed,
        }
    }

    /// The standing of the product that this was posted of.
    pub fn standing(&self, product: ProductId) -> Standing {
        Standing {
            product,
            free: self.free,
            held: self.held,
            earliest_return_ms: self.earliest_return_ms,
            opens_ms: self.opens_ms,
            closes_ms: self.closes_ms,
            per_user_limit: self.per_user_limit,
            unlimited: self.unlimited,
            sealed: self.sealed,
        }
    }

    fn into_words(self) -> [u64; 9] {
        let flags = if self.unlimited { UNLIMITED } else { 0 } | if self.sealed { SEALED } else { 0 };
        [
            self.index,
            self.time_ms,
            self.free,
            self.held,
            self.earliest_return_ms,
            self.opens_ms,
            self.closes_ms,
            u64::from(self.per_user_limit),
            flags,
        ]
    }

    fn from_words(words: [u64; 9]) -> Self {
        let [index, time_ms, free, held, earliest_return_ms, opens_ms, closes_ms, limit, flags] = words;
        let per_user_limit = u32::try_from(limit).expect("the word was written from a u32");
        Self {
            index,
            time_ms,
            free,
            held,
            earliest_return_ms,
            opens_ms,
            closes_ms,
            per_user_limit,
            unlimited: flags & UNLIMITED != 0,
            sealed: flags & SEALED != 0,
        }
    }
}

/// How far the ledger has come.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub struct Applied {
    /// The index applied last.
    pub index: u64,
    /// Ledger time at that index, milliseconds since 1970.
    pub now_ms: u64,
}

/// Where the replica publishes [`Applied`]; last, after gate and notices.
#[derive(Debug)]
pub struct AppliedCell(Seqlock<2>);

impl AppliedCell {
    /// Shows `applied` from the start.
    pub fn new(applied: Applied) -> Self {
        Self(Seqlock::new([applied.index, applied.now_ms]))
    }

    /// Replaces what is shown. Replica thread only.
    pub fn publish(&self, applied: Applied) {
        self.0.publish([applied.index, applied.now_ms]);
    }

    /// The index and the time of that very index.
    pub fn read(&self) -> Applied {
        let [index, now_ms] = self.0.read();
        Applied { index, now_ms }
    }
}

#[cfg(all(test, not(loom)))]
mod tests {
    use super::*;

    #[test]
    fn every_field_comes_back_as_itself() {
        let posted = Posted {
            index: 1,
            time_ms: 10,
            free: 2,
            held: 3,
            earliest_return_ms: 4,
            opens_ms: 5,
            closes_ms: 6,
            per_user_limit: u32::MAX,
            unlimited: true,
            sealed: false,
        };
        let notice = Notice::new(posted);
        assert_eq!(notice.read(), posted);
        let later = Posted { index: 9, unlimited: false, sealed: true, ..posted };
        notice.publish(later);
        assert_eq!(notice.read(), later);
        notice.publish(posted);
        assert_eq!(notice.read(), posted);
    }

    #[test]
    fn applied_shows_the_last_publication() {
        let cell = AppliedCell::new(Applied { index: 1, now_ms: 10 });
        assert_eq!(cell.read(), Applied { index: 1, now_ms: 10 });
        for index in 2..10 {
            cell.publish(Applied { index, now_ms: index * 10 });
            assert_eq!(cell.read(), Applied { index, now_ms: index * 10 });
        }
    }
}

//! The tokens of one product in one term: who takes one may propose to reserve one unit.
//!
//! A hot product is hit by every net thread at once, so its tokens lie in stripes on cache lines of their own
//! and each thread takes from its own stripe first. At every moment
//!
//! ```text
//! sum(stripes) + in hands − debt = available − in flight
//! ```
//!
//! where *in hands* is what a sweep has gathered and not yet used or put back; nobody holds anything between
//! two calls. A stripe is unsigned: it cannot lend. *Debt* is what the ledger gave away without a token, so
//! that the next units to come back are already spoken for.
//!
//! Nothing is stranded: a sweep takes from every stripe, whatever its size, so the last units are within reach
//! of any thread in any division. Two sweeps at the same time can each gather a part and both fail; each puts
//! back all it had. So `false` is never an answer, only a doubt, and the ledger decides. For the same reason
//! whoever was refused must try again later even if nothing else happens: the shortage may have been the sight
//! of somebody else's failing sweep.
//!
//! Orderings: the counters guard no other memory, so each operation on one of them may be relaxed. One pair
//! must not pass each other: "tokens put, then debt looked at" and "debt raised, then stripes looked at". If
//! both looked too early, tokens and debt would stand side by side, and what is owed would be sold. The
//! sequentially consistent fence at the head of `Tokens::settle` stands between the two halves of both.
//!
//! Deliberately not here: anything that says no; persistence; terms (a gate is built afresh for each).

use crossbeam_utils::CachePadded;

use super::sync::{AtomicU64, Ordering, fence};
use crate::fault::{self, Mutant};

/// Striped tokens. Any thread may call anything.
#[derive(Debug)]
pub struct Tokens {
    /// A power of two of them; none if the product is unlimited.
    stripes: Box<[CachePadded<AtomicU64>]>,
    /// Units that are owed to the ledger before anything may lie in a stripe again.
    debt: AtomicU64,
}

impl Tokens {
    /// `available` units spread evenly over `stripes` (rounded up to a power of two), the remainder to the first
    /// ones. `None`: unlimited.
    pub fn new(stripes: usize, available: Option<u64>) -> Self {
        let Some(available) = available else {
            return Self { stripes: Box::default(), debt: AtomicU64::new(0) };
        };
        let count = stripes.next_power_of_two() as u64;
        let share = |stripe: u64| available / count + u64::from(stripe < available % count);
        let stripes = (0..count).map(|stripe| CachePadded::new(AtomicU64::new(share(stripe)))).collect();
        Self { stripes, debt: AtomicU64::new(0) }
    }

    /// Takes all of `units` or nothing, from the given stripe (of the calling thread; any number will do) if it
    /// has enough, else from wherever they lie. `false` is a doubt, not a no. Unlimited: always `true`.
    pub fn take(&self, stripe: usize, units: u32) -> bool {
        if self.is_unlimited() {
            return true;
        }
        let (own, units) = (self.own(stripe), u64::from(units));
        if withdraw(&self.stripes[own], units, units) == units {
            return true;
        }
        // A look before the leap: of a product that has run out nothing is written, so its stripes stay shared
        // in every cache; and a hopeless large order does not take the last units out of others' sight.
        if self.free() < units || fault::is_on(Mutant::StripesNotSwept) {
            return false;
        }
        let gathered = self.gather(own, units);
        if gathered == units {
            return true;
        }
        self.give(own, gathered);
        false
    }

    /// Puts units back: an admission that came to nothing, or units that became available. Debt is paid first.
    pub fn give(&self, stripe: usize, units: u64) {
        if self.is_unlimited() {
            return;
        }
        let own = self.own(stripe);
        if self.put(own, units) {
            self.settle(own);
        }
    }

    /// Takes away units that left the ledger without a token. What is not there becomes debt.
    pub fn debit(&self, units: u64) {
        if self.is_unlimited() || units == 0 {
            return;
        }
        self.debt.fetch_add(units, Ordering::Relaxed);
        self.settle(0);
    }

    /// Tokens in all stripes. Exact when nobody else is in a call, otherwise an impression. Unlimited: `u64::MAX`.
    pub fn free(&self) -> u64 {
        if self.is_unlimited() {
            return u64::MAX;
        }
        // Saturating, as the stripes are not read at one moment: the same units may be met twice on their way.
        self.stripes.iter().fold(0, |sum: u64, stripe| sum.saturating_add(stripe.load(Ordering::Relaxed)))
    }

    /// Units owed. While nobody else is in a call, either this or [`Tokens::free`] is 0.
    pub fn debt(&self) -> u64 {
        self.debt.load(Ordering::Relaxed)
    }

    fn is_unlimited(&self) -> bool {
        self.stripes.is_empty()
    }

    fn own(&self, stripe: usize) -> usize {
        stripe & (self.stripes.len() - 1)
    }

    /// Takes up to `units` from all stripes, `own` first.
    fn gather(&self, own: usize, units: u64) -> u64 {
        let mut gathered = 0;
        for step in 0..self.stripes.len() {
            if gathered == units {
                break;
            }
            gathered += withdraw(&self.stripes[self.own(own + step)], 1, units - gathered);
        }
        gathered
    }

    /// Pays debt, lays the rest into `own`. Whether there was a rest; if so the caller must settle.
    fn put(&self, own: usize, units: u64) -> bool {
        let rest = units - withdraw(&self.debt, 1, units);
        if rest > 0 {
            self.stripes[own].fetch_add(rest, Ordering::Relaxed);
        }
        rest > 0
    }

    /// Sees to it that tokens and debt do not stay side by side. Called after tokens were put, and after debt
    /// was raised: of two such calls at the same time at least one sees the other's work, and of what a third
    /// party holds in hands, that one will settle when it puts it back.
    fn settle(&self, own: usize) {
        loop {
            fence(Ordering::SeqCst);
            let owed = self.debt.load(Ordering::Relaxed);
            if owed == 0 {
                return;
            }
            let gathered = self.gather(own, owed);
            // Others may have paid meanwhile. Then there is a rest, it was put, and that is to be settled too.
            if gathered == 0 || !self.put(own, gathered) {
                return;
            }
        }
    }
}

/// Takes `most` units from a counter, or what it has if that is at least `least`, or nothing.
fn withdraw(counter: &AtomicU64, least: u64, most: u64) -> u64 {
    let mut has = counter.load(Ordering::Relaxed);
    loop {
        if has < least {
            return 0;
        }
        let taken = has.min(most);
        match counter.compare_exchange_weak(has, has - taken, Ordering::Relaxed, Ordering::Relaxed) {
            Ok(_) => return taken,
            Err(now) => has = now,
        }
    }
}

#[cfg(all(test, not(loom)))]
mod tests {
    use super::*;

    #[test]
    fn units_are_spread_evenly_and_the_remainder_goes_to_the_first() {
        let shares = |tokens: &Tokens| -> Vec<u64> {
            tokens.stripes.iter().map(|stripe| stripe.load(Ordering::Relaxed)).collect()
        };
        assert_eq!(shares(&Tokens::new(3, Some(10))), [3, 3, 2, 2]);
        assert_eq!(shares(&Tokens::new(4, Some(2))), [1, 1, 0, 0]);
        assert_eq!(shares(&Tokens::new(0, Some(7))), [7]);
    }
}

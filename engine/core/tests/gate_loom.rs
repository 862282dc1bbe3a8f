//! The gate under loom: every interleaving, and every value that a relaxed load may return, of small scenes.
//!
//! ```text
//! RUSTFLAGS="--cfg loom" cargo test -p sluice-core --test gate_loom --release
//! ```
//!
//! Relies on `gate/sync.rs` handing loom's atomics to the gate. Scenes with three threads are explored up to
//! [`PREEMPTIONS`] preemptions, those with two without a bound, and twice: loom 0.7 remembers only the last access
//! to an atomic, so where a thread loads a word before it stores to it, the load hides that the store races with
//! an earlier load of another thread. With the other thread going first the same outcomes are found.
//!
//! Deliberately not here: the product table (its atomics are not loom's) and anything with more than a handful of
//! operations (`tests/gate.rs` has those).

#![cfg(loom)]

use std::sync::Arc;

use loom::model::Builder;
use loom::thread::{self, JoinHandle};
use sluice_core::gate::seqlock::Seqlock;
use sluice_core::gate::{Applied, AppliedCell, Filter, Filters, Tokens};

/// Most concurrency bugs need two; the third is for good measure.
const PREEMPTIONS: usize = 3;

/// Explores a scene of two, with either of them going first.
fn explore(scene: impl Fn(bool) + Copy + Sync + Send + 'static) {
    for swapped in [false, true] {
        loom::model(move || scene(swapped));
    }
}

/// Explores a scene of three.
fn explore_bounded(scene: impl Fn() + Sync + Send + 'static) {
    let mut builder = Builder::new();
    builder.preemption_bound = Some(PREEMPTIONS);
    builder.check(scene);
}

fn race<T: Send + Sync + 'static, A: 'static, B: 'static>(
    swapped: bool,
    shared: &Arc<T>,
    one: impl FnOnce(&T) -> A + 'static,
    other: impl FnOnce(&T) -> B + 'static,
) -> (A, B) {
    if swapped {
        let one = with(shared, one);
        let other = other(shared);
        (one.join().expect("loom reports panics itself"), other)
    } else {
        let other = with(shared, other);
        let one = one(shared);
        (one, other.join().expect("loom reports panics itself"))
    }
}

fn with<T: Send + Sync + 'static, R: 'static>(
    shared: &Arc<T>,
    act: impl FnOnce(&T) -> R + 'static,
) -> JoinHandle<R> {
    let shared = Arc::clone(shared);
    thread::spawn(move || act(&shared))
}

/// What must hold of a quiet gate: nothing made, nothing lost, nothing owed beside units for sale, and every
/// unit within reach of every stripe.
fn assert_sound(tokens: &Tokens, balance: i64) {
    let (free, debt) = (tokens.free(), tokens.debt());
    assert_eq!(free as i64 - debt as i64, balance, "free {free}, debt {debt}");
    assert!(free == 0 || debt == 0, "{free} for sale while {debt} are owed");
    if free > 0 {
        let all = u32::try_from(free).expect("a scene has a handful of units");
        assert!(tokens.take(1, all), "{free} units are stranded");
        tokens.give(0, u64::from(all));
        assert!(tokens.take(0, all), "{free} units are stranded");
    }
}

#[test]
fn two_takers_of_the_last_unit() {
    explore(|swapped| {
        let tokens = Arc::new(Tokens::new(2, Some(1)));
        let (one, other) = race(swapped, &tokens, |tokens| tokens.take(0, 1), |tokens| tokens.take(1, 1));
        assert!(one ^ other, "one unit in one stripe has exactly one taker");
        assert_sound(&tokens, 0);
    });
}

#[test]
fn two_takers_of_all_units_of_two_stripes() {
    explore(|swapped| {
        let tokens = Arc::new(Tokens::new(2, Some(2)));
        let (one, other) = race(swapped, &tokens, |tokens| tokens.take(0, 2), |tokens| tokens.take(1, 2));
        assert!(!(one && other), "two units were sold twice");
        // Both may doubt. Then both put back what they had, and the next one gets it.
        assert_sound(&tokens, if one || other { 0 } else { 2 });
    });
}

#[test]
fn a_small_order_beside_a_failing_large_one() {
    explore(|swapped| {
        let tokens = Arc::new(Tokens::new(2, Some(2)));
        let (small, large) = race(swapped, &tokens, |tokens| tokens.take(0, 1), |tokens| tokens.take(1, 2));
        assert_sound(&tokens, 2 - i64::from(small) - 2 * i64::from(large));
    });
}

#[test]
fn a_taker_and_a_giver() {
    explore(|swapped| {
        let tokens = Arc::new(Tokens::new(2, Some(1)));
        let (taken, ()) = race(swapped, &tokens, |tokens| tokens.take(0, 2), |tokens| tokens.give(1, 1));
        assert_sound(&tokens, 2 - 2 * i64::from(taken));
    });
}

#[test]
fn a_debit_and_a_giver() {
    explore(|swapped| {
        let tokens = Arc::new(Tokens::new(2, Some(0)));
        race(swapped, &tokens, |tokens| tokens.debit(1), |tokens| tokens.give(1, 1));
        assert_sound(&tokens, 0);
    });
}

/// Here a settlement finds that somebody else has paid, and must look again after it has put its units back.
#[test]
fn two_debits_and_a_giver() {
    explore_bounded(|| {
        let tokens = Arc::new(Tokens::new(2, Some(1)));
        let giver = with(&tokens, |tokens| tokens.give(1, 1));
        let debit = with(&tokens, |tokens| tokens.debit(1));
        tokens.debit(1);
        giver.join().unwrap();
        debit.join().unwrap();
        assert_sound(&tokens, 0);
    });
}

#[test]
fn a_debit_and_two_givers() {
    explore_bounded(|| {
        let tokens = Arc::new(Tokens::new(2, Some(0)));
        let first = with(&tokens, |tokens| tokens.give(0, 2));
        let second = with(&tokens, |tokens| tokens.give(1, 1));
        tokens.debit(2);
        first.join().unwrap();
        second.join().unwrap();
        assert_sound(&tokens, 1);
    });
}

#[test]
fn a_debit_a_giver_and_a_taker() {
    explore_bounded(|| {
        let tokens = Arc::new(Tokens::new(2, Some(1)));
        let giver = with(&tokens, |tokens| tokens.give(1, 1));
        let taker = with(&tokens, |tokens| tokens.take(0, 1));
        tokens.debit(1);
        giver.join().unwrap();
        let taken = taker.join().unwrap();
        assert_sound(&tokens, 1 - i64::from(taken));
    });
}

#[test]
fn a_debit_beside_two_sweeps_that_may_fail() {
    explore_bounded(|| {
        let tokens = Arc::new(Tokens::new(2, Some(2)));
        let first = with(&tokens, |tokens| tokens.take(0, 2));
        let second = with(&tokens, |tokens| tokens.take(1, 2));
        tokens.debit(1);
        let sold = 2 * (i64::from(first.join().unwrap()) + i64::from(second.join().unwrap()));
        assert!(sold <= 2, "two units were sold twice");
        assert_sound(&tokens, 1 - sold);
    });
}

#[test]
fn whoever_sees_the_index_finds_the_units_that_came_with_it() {
    explore(|swapped| {
        let shared = Arc::new((Tokens::new(2, Some(0)), AppliedCell::new(Applied::default())));
        let replica = |(tokens, applied): &(Tokens, AppliedCell)| {
            tokens.give(1, 1);
            applied.publish(Applied { index: 1, now_ms: 1 });
        };
        let net = |(tokens, applied): &(Tokens, AppliedCell)| {
            if applied.read().index == 1 {
                assert!(tokens.take(0, 1), "the shortage of before was seen after the index");
            }
        };
        race(swapped, &shared, replica, net);
    });
}

#[test]
fn a_seqlock_never_shows_a_torn_pair() {
    explore(|swapped| {
        let cell = Arc::new(Seqlock::new([0, 0]));
        let write = |cell: &Seqlock<2>| (1..=3).for_each(|version| cell.publish([version, version]));
        let read = |cell: &Seqlock<2>| {
            let [a, b] = cell.read();
            assert_eq!(a, b);
            let [c, d] = cell.read();
            assert_eq!(c, d);
            assert!(a <= c, "an older pair after a newer one");
        };
        race(swapped, &cell, write, read);
        assert_eq!(cell.read(), [3, 3]);
    });
}

/// A hash with this fingerprint and first bucket. In the smallest filter, of two buckets, all keys share both.
fn key(fingerprint: u64, bucket: u64) -> u64 {
    (fingerprint << 48) | bucket
}

#[test]
fn a_key_inserted_before_is_found() {
    explore(|swapped| {
        let shared = Arc::new((Filter::with_capacity(1), AppliedCell::new(Applied::default())));
        let write = |(filter, applied): &(Filter, AppliedCell)| {
            filter.insert(key(0x1111, 0));
            filter.insert(key(0x2222, 0));
            applied.publish(Applied { index: 1, now_ms: 1 });
            filter.remove(key(0x1111, 0));
        };
        let read = |(filter, applied): &(Filter, AppliedCell)| {
            if applied.read().index == 1 {
                assert!(filter.maybe_contains(key(0x2222, 0)));
            }
        };
        race(swapped, &shared, write, read);
        assert!(!shared.0.maybe_contains(key(0x1111, 0)));
        assert!(shared.0.maybe_contains(key(0x2222, 0)));
    });
}

#[test]
fn a_key_is_not_hidden_by_a_twin_that_comes_and_goes() {
    for (ours, twins) in [(0, 0), (0, 1), (1, 0), (1, 1)] {
        for others in [0, 1, 2] {
            explore(move |swapped| {
                let filter = Arc::new(Filter::with_capacity(1));
                // Their number decides which of the two buckets is ours.
                (0..others).for_each(|other| filter.insert(key(0x7000 + 0x100 * other, 0)));
                filter.insert(key(0x1111, ours));
                let write = move |filter: &Filter| {
                    for _ in 0..2 {
                        filter.insert(key(0x1111, twins));
                        filter.remove(key(0x1111, twins));
                    }
                };
                let read = move |filter: &Filter| filter.maybe_contains(key(0x1111, ours));
                let ((), found) = race(swapped, &filter, write, read);
                assert!(found, "hidden by its twin");
                assert!(read(&filter), "removed with its twin");
            });
        }
    }
}

#[test]
fn a_key_is_not_hidden_by_its_own_move() {
    /// Of four buckets, this fingerprint's are 0 and 3.
    const OURS: u64 = 0x4333;
    /// And those of these are 0 and 1.
    const OTHERS: [u64; 8] = [0x1777, 0x1EEE, 0x3553, 0x3CCA, 0x532F, 0x5AA6, 0x710B, 0x7882];
    explore(|swapped| {
        let filter = Arc::new(Filter::with_capacity(8));
        filter.insert(key(OURS, 0));
        OTHERS[..7].iter().for_each(|other| filter.insert(key(*other, 0)));
        let write = |filter: &Filter| filter.insert(key(OTHERS[7], 0));
        let read = |filter: &Filter| filter.maybe_contains(key(OURS, 0));
        let ((), found) = race(swapped, &filter, write, read);
        assert!(found, "hidden while it moved");
        assert!(read(&filter), "lost on its way");
        assert!(OTHERS.iter().all(|other| filter.maybe_contains(key(*other, 0))));
        // Nine keys in two full buckets and no saturation: ours did move.
        assert_eq!(filter.saturated(), 0);
        filter.remove(key(OURS, 0));
        assert!(!read(&filter));
    });
}

#[test]
fn a_key_is_not_hidden_by_saturation() {
    for place in 0..8 {
        explore(move |swapped| {
            let filter = Arc::new(Filter::with_capacity(1));
            // Eight keys fill both buckets; ours is the one at `place`, so it is tried in either bucket.
            for other in 0..8 {
                filter.insert(if other == place { key(0x1111, 0) } else { key(0x7000 + 0x100 * other, 0) });
            }
            let write = |filter: &Filter| {
                filter.insert(key(0xEEEE, 0));
                filter.insert(key(0x1111, 1));
                filter.remove(key(0x1111, 1));
            };
            let read = |filter: &Filter| filter.maybe_contains(key(0x1111, 0));
            let ((), found) = race(swapped, &filter, write, read);
            assert!(found, "hidden by the overflow");
            assert!(read(&filter) && filter.maybe_contains(key(0xEEEE, 0)));
            assert_eq!(filter.saturated(), 1);
        });
    }
}

/// Four keys fill the first filter of this size. Whoever sees an index finds the keys that came with it, in a filter that
/// came with them; and nobody misses a key because another filter appears, or because its twin goes.
#[test]
fn no_key_is_missed_while_filters_grow() {
    explore(|swapped| {
        let shared = Arc::new((Filters::with_capacity(1), AppliedCell::new(Applied::default())));
        [0x1111, 0x2222, 0x3333, 0x4444].into_iter().for_each(|other| shared.0.insert(key(other, 0)));
        let write = |(filters, applied): &(Filters, AppliedCell)| {
            filters.insert(key(0x1111, 0));
            applied.publish(Applied { index: 1, now_ms: 1 });
            filters.remove(key(0x1111, 0));
            filters.remove(key(0x2222, 0));
        };
        let read = |(filters, applied): &(Filters, AppliedCell)| {
            let index = applied.read().index;
            assert!(filters.maybe_contains(key(0x1111, 0)), "one of two was there all the time");
            assert!(index == 0 || filters.depth() == 2);
        };
        race(swapped, &shared, write, read);
        assert!(shared.0.maybe_contains(key(0x1111, 0)));
        assert!(!shared.0.maybe_contains(key(0x2222, 0)));
    });
}

#[test]
fn a_key_of_a_new_filter_is_found_by_whoever_sees_its_index() {
    explore(|swapped| {
        let shared = Arc::new((Filters::with_capacity(1), AppliedCell::new(Applied::default())));
        [0x2222, 0x3333, 0x4444, 0x5555].into_iter().for_each(|other| shared.0.insert(key(other, 0)));
        let write = |(filters, applied): &(Filters, AppliedCell)| {
            filters.insert(key(0x1111, 0));
            applied.publish(Applied { index: 1, now_ms: 1 });
        };
        let read = |(filters, applied): &(Filters, AppliedCell)| {
            if applied.read().index == 1 {
                assert!(filters.maybe_contains(key(0x1111, 0)), "in a filter that the reader did not see");
            }
        };
        race(swapped, &shared, write, read);
    });
}

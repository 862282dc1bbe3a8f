//! The gate under loom: every interleaving, and every value that a relaxed load may return, of small scenes.
//!
//! ```text
//! RUSTFLAGS="--cfg loom" cargo test -p sluice-core --test gate_loom --release
//! ```
//!
//! Scenes with three threads are explored up to [`PREEMPTIONS`] preemptions, those with two completely. Relies on
//! `gate/sync.rs` handing loom's atomics to the gate. Deliberately not here: the product table (its atomics are
//! not loom's) and anything with more than a handful of operations (`tests/gate.rs` has those).

#![cfg(loom)]

use std::sync::Arc;

use loom::model::Builder;
use loom::thread::{self, JoinHandle};
use sluice_core::gate::seqlock::Seqlock;
use sluice_core::gate::{Applied, AppliedCell, Filter, Tokens};

/// Most concurrency bugs need two; the third is for good measure.
const PREEMPTIONS: usize = 3;

fn explore_bounded(scene: impl Fn() + Sync + Send + 'static) {
    let mut builder = Builder::new();
    builder.preemption_bound = Some(PREEMPTIONS);
    builder.check(scene);
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
    loom::model(|| {
        let tokens = Arc::new(Tokens::new(2, Some(1)));
        let other = with(&tokens, |tokens| tokens.take(1, 1));
        let mine = tokens.take(0, 1);
        assert!(mine ^ other.join().unwrap(), "one unit in one stripe has exactly one taker");
        assert_sound(&tokens, 0);
    });
}

#[test]
fn two_takers_of_all_units_of_two_stripes() {
    loom::model(|| {
        let tokens = Arc::new(Tokens::new(2, Some(2)));
        let other = with(&tokens, |tokens| tokens.take(1, 2));
        let mine = tokens.take(0, 2);
        let others = other.join().unwrap();
        assert!(!(mine && others), "two units were sold twice");
        // Both may doubt. Then both put back what they had, and the next one gets it.
        assert_sound(&tokens, if mine || others { 0 } else { 2 });
    });
}

#[test]
fn a_small_order_beside_a_failing_large_one() {
    loom::model(|| {
        let tokens = Arc::new(Tokens::new(2, Some(2)));
        let other = with(&tokens, |tokens| tokens.take(1, 2));
        let mine = tokens.take(0, 1);
        let others = other.join().unwrap();
        assert_sound(&tokens, 2 - i64::from(mine) - 2 * i64::from(others));
    });
}

#[test]
fn a_taker_and_a_giver() {
    loom::model(|| {
        let tokens = Arc::new(Tokens::new(2, Some(1)));
        let giver = with(&tokens, |tokens| tokens.give(1, 1));
        let taken = tokens.take(0, 2);
        giver.join().unwrap();
        assert_sound(&tokens, 2 - 2 * i64::from(taken));
    });
}

#[test]
fn a_debit_and_a_giver() {
    loom::model(|| {
        let tokens = Arc::new(Tokens::new(2, Some(0)));
        let giver = with(&tokens, |tokens| tokens.give(1, 1));
        tokens.debit(1);
        giver.join().unwrap();
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
    loom::model(|| {
        let shared = Arc::new((Tokens::new(2, Some(0)), AppliedCell::new(Applied::default())));
        let replica = with(&shared, |(tokens, applied)| {
            tokens.give(1, 1);
            applied.publish(Applied { index: 1, now_ms: 1 });
        });
        let (tokens, applied) = &*shared;
        if applied.read().index == 1 {
            assert!(tokens.take(0, 1), "the shortage of before was seen after the index");
        }
        replica.join().unwrap();
    });
}

#[test]
fn a_seqlock_never_shows_a_torn_pair() {
    loom::model(|| {
        let cell = Arc::new(Seqlock::new([0, 0]));
        let writer = with(&cell, |cell| {
            for version in 1..=3 {
                cell.publish([version, version]);
            }
        });
        let [a, b] = cell.read();
        assert_eq!(a, b);
        let [c, d] = cell.read();
        assert_eq!(c, d);
        assert!(a <= c, "an older pair after a newer one");
        writer.join().unwrap();
        assert_eq!(cell.read(), [3, 3]);
    });
}

/// A hash with this fingerprint and first bucket. In the smallest filter, of two buckets, all keys share both.
fn key(fingerprint: u64, bucket: u64) -> u64 {
    (fingerprint << 48) | bucket
}

#[test]
fn a_key_inserted_before_is_found() {
    loom::model(|| {
        let shared = Arc::new((Filter::with_capacity(1), AppliedCell::new(Applied::default())));
        let writer = with(&shared, |(filter, applied)| {
            filter.insert(key(0x1111, 0));
            filter.insert(key(0x2222, 0));
            applied.publish(Applied { index: 1, now_ms: 1 });
            filter.remove(key(0x1111, 0));
        });
        let (filter, applied) = &*shared;
        if applied.read().index == 1 {
            assert!(filter.maybe_contains(key(0x2222, 0)));
        }
        writer.join().unwrap();
        assert!(!filter.maybe_contains(key(0x1111, 0)));
        assert!(filter.maybe_contains(key(0x2222, 0)));
    });
}

#[test]
fn a_key_is_not_hidden_by_a_twin_that_comes_and_goes() {
    for (ours, twins) in [(0, 0), (0, 1), (1, 0), (1, 1)] {
        for others_in_low in [0, 2] {
            loom::model(move || {
                let filter = Arc::new(Filter::with_capacity(1));
                // Fillers are spread evenly, so an even number leaves the choice of the bucket to what follows.
                for other in 0..others_in_low {
                    filter.insert(key(0x7000 + 0x100 * other, 0));
                }
                filter.insert(key(0x1111, ours));
                let writer = with(&filter, move |filter| {
                    filter.insert(key(0x1111, twins));
                    filter.remove(key(0x1111, twins));
                    filter.insert(key(0x1111, twins));
                    filter.remove(key(0x1111, twins));
                });
                assert!(filter.maybe_contains(key(0x1111, ours)), "hidden by its twin");
                writer.join().unwrap();
                assert!(filter.maybe_contains(key(0x1111, ours)), "removed with its twin");
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
    loom::model(|| {
        let filter = Arc::new(Filter::with_capacity(8));
        filter.insert(key(OURS, 0));
        for other in &OTHERS[..7] {
            filter.insert(key(*other, 0));
        }
        let writer = with(&filter, |filter| filter.insert(key(OTHERS[7], 0)));
        assert!(filter.maybe_contains(key(OURS, 0)), "hidden while it moved");
        writer.join().unwrap();
        assert!(filter.maybe_contains(key(OURS, 0)), "lost on its way");
        assert!(OTHERS.iter().all(|other| filter.maybe_contains(key(*other, 0))));
        // Nine keys in two full buckets and no saturation: ours did move.
        assert_eq!(filter.saturated(), 0);
        filter.remove(key(OURS, 0));
        assert!(!filter.maybe_contains(key(OURS, 0)));
    });
}

#[test]
fn a_key_is_not_hidden_by_saturation() {
    for place in 0..8 {
        loom::model(move || {
            let filter = Arc::new(Filter::with_capacity(1));
            // Eight keys fill both buckets; ours is the one at `place`, so it is tried in either bucket.
            for other in 0..8 {
                filter.insert(if other == place { key(0x1111, 0) } else { key(0x7000 + 0x100 * other, 0) });
            }
            let writer = with(&filter, |filter| {
                filter.insert(key(0xEEEE, 0));
                filter.insert(key(0x1111, 1));
                filter.remove(key(0x1111, 1));
            });
            assert!(filter.maybe_contains(key(0x1111, 0)), "hidden by the overflow");
            writer.join().unwrap();
            assert!(filter.maybe_contains(key(0x1111, 0)));
            assert_eq!(filter.saturated(), 1);
        });
    }
}

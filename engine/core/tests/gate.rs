//! The gate against plain models, and with real threads and large numbers.
//!
//! Deliberately not here: interleavings and memory orderings, which `tests/gate_loom.rs` explores.

#![cfg(not(loom))]

use std::collections::HashMap;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;

use proptest::prelude::*;
use sluice_core::gate::filter::SLOTS_PER_KEY;
use sluice_core::gate::{Filter, Filters, Notice, Posted, Tokens};

const STRIPES: usize = 8;
const MILLION: u64 = 1_000_000;

/// What each of `STRIPES` threads returned for its number.
fn on_all_stripes<R: Send>(act: impl Fn(usize) -> R + Sync) -> Vec<R> {
    thread::scope(|scope| {
        let threads: Vec<_> = (0..STRIPES)
            .map(|stripe| {
                scope.spawn({
                    let act = &act;
                    move || act(stripe)
                })
            })
            .collect();
        threads.into_iter().map(|thread| thread.join().expect("the thread's assertions hold")).collect()
    })
}

#[test]
fn a_million_units_are_sold_a_million_times() {
    let tokens = Tokens::new(STRIPES, Some(MILLION));
    // Four threads to a stripe: they fight from the first unit on, not only for the last.
    let sold = on_all_stripes(|stripe| (0..).take_while(|_: &u64| tokens.take(stripe / 4, 1)).count() as u64);
    assert_eq!(sold.iter().sum::<u64>(), MILLION);
    assert_eq!((tokens.free(), tokens.debt()), (0, 0));
}

#[test]
fn a_single_thread_reaches_every_unit() {
    let tokens = Tokens::new(STRIPES, Some(1003));
    assert_eq!((0..2000).filter(|_| tokens.take(5, 1)).count(), 1003);
    let tokens = Tokens::new(STRIPES, Some(1003));
    assert!(!tokens.take(5, 1004));
    assert!(tokens.take(5, 1003));
}

#[test]
fn orders_of_all_sizes_with_refunds_and_debits_lose_nothing() {
    const DEBITS: u64 = 50_000;
    let tokens = Tokens::new(STRIPES, Some(MILLION));
    let sold = on_all_stripes(|stripe| {
        let mut sold = 0;
        for round in 0..100_000_u32 {
            let units = (round * 7 + stripe as u32) % 13 + 1;
            if tokens.take(stripe, units) {
                // Every third order comes to nothing, by way of somebody else's stripe.
                if round.is_multiple_of(3) {
                    tokens.give(stripe + 1, u64::from(units));
                } else {
                    sold += u64::from(units);
                }
            }
            if u64::from(round) < DEBITS / STRIPES as u64 {
                tokens.debit(1);
            }
        }
        sold
    });
    let sold = sold.iter().sum::<u64>();
    let left = tokens.free();
    // Debits may leave a debt if they came when all was sold; never beside units for sale.
    assert!(left == 0 || tokens.debt() == 0);
    assert_eq!(sold + DEBITS + left, MILLION + tokens.debt());
    assert!(left <= 13, "{left} units were left although every thread wanted them");
}

#[test]
fn unlimited_is_never_short_and_never_in_debt() {
    let tokens = Tokens::new(STRIPES, None);
    tokens.debit(5);
    tokens.give(0, 5);
    assert!((0..100).all(|stripe| tokens.take(stripe, u32::MAX)));
    assert_eq!((tokens.free(), tokens.debt()), (u64::MAX, 0));
}

#[derive(Clone, Debug)]
enum Act {
    Take(usize, u32),
    Give(usize, u64),
    Debit(u64),
}

fn act() -> impl Strategy<Value = Act> {
    prop_oneof![
        4 => (0..20_usize, 0..12_u32).prop_map(|(stripe, units)| Act::Take(stripe, units)),
        2 => (0..20_usize, 0..12_u64).prop_map(|(stripe, units)| Act::Give(stripe, units)),
        1 => (0..12_u64).prop_map(Act::Debit),
    ]
}

proptest! {
    /// With nobody else about, tokens are an integer that may fall below zero only by debits.
    #[test]
    fn tokens_are_an_integer(stripes in 0..20_usize, available in 0..40_u64,
                             acts in prop::collection::vec(act(), 0..100)) {
        let tokens = Tokens::new(stripes, Some(available));
        let mut balance = available as i64;
        for act in acts {
            match act {
                Act::Take(stripe, units) => {
                    let enough = units == 0 || balance >= i64::from(units);
                    prop_assert_eq!(tokens.take(stripe, units), enough);
                    balance -= if enough { i64::from(units) } else { 0 };
                }
                Act::Give(stripe, units) => {
                    tokens.give(stripe, units);
                    balance += units as i64;
                }
                Act::Debit(units) => {
                    tokens.debit(units);
                    balance -= units as i64;
                }
            }
            prop_assert_eq!(tokens.free(), balance.max(0) as u64);
            prop_assert_eq!(tokens.debt(), (-balance).max(0) as u64);
        }
    }

    /// Few fingerprints and a tiny table, so that twins and saturation are the rule. Whatever happens, what was
    /// put in more often than it was taken out is found; and without saturation nothing stays behind.
    #[test]
    fn a_filter_never_misses(keys in 1..40_usize,
                             acts in prop::collection::vec((any::<bool>(), 0..24_u64, 0..8_u64), 0..200)) {
        let filter = Filter::with_capacity(keys);
        let mut counts = HashMap::<u64, u32>::new();
        for (put, fingerprint, bucket) in acts {
            let hash = (fingerprint * 0x0A00) << 48 | bucket;
            let count = counts.entry(hash).or_default();
            if put {
                filter.insert(hash);
                *count += 1;
            } else if *count > 0 {
                filter.remove(hash);
                *count -= 1;
            }
            for (hash, count) in &counts {
                prop_assert!(*count == 0 || filter.maybe_contains(*hash));
            }
        }
        for (hash, count) in &counts {
            (0..*count).for_each(|_| filter.remove(*hash));
        }
        if filter.saturated() == 0 {
            prop_assert!(counts.keys().all(|hash| !filter.maybe_contains(*hash)));
        }
        filter.clear();
        prop_assert_eq!(filter.saturated(), 0);
        prop_assert!(counts.keys().all(|hash| !filter.maybe_contains(*hash)));
    }
}

proptest! {
    /// The same of filters that begin with room for four keys, and grow several times in nearly every run. Fewer
    /// buckets than keys: in some filter or other, most have twins.
    #[test]
    fn filters_never_miss_while_they_grow(acts in prop::collection::vec((0..4_u8, 0..200_u64, 0..4_u64), 0..600)) {
        let filters = Filters::with_capacity(1);
        let mut counts = HashMap::<u64, u32>::new();
        for (act, fingerprint, bucket) in acts {
            let hash = (fingerprint * 0x0100) << 48 | bucket;
            let count = counts.entry(hash).or_default();
            if act > 0 {
                filters.touch(hash);
                filters.insert(hash);
                *count += 1;
            } else if *count > 0 {
                filters.remove(hash);
                *count -= 1;
            }
            prop_assert!(counts.iter().all(|(hash, count)| *count == 0 || filters.maybe_contains(*hash)));
        }
        let depth = filters.depth();
        filters.clear();
        prop_assert_eq!((filters.depth(), filters.saturated()), (depth, 0));
        prop_assert!(counts.keys().all(|hash| !filters.maybe_contains(*hash)));
    }
}

const SEED: u64 = 42;

/// As many keys as make a table of 2¹⁶ buckets as full as it is meant to be.
const FULL: u64 = (1 << 18) / SLOTS_PER_KEY as u64;

fn false_positives_per_million(filter: &Filter) -> usize {
    const PROBES: u64 = 4 * MILLION;
    let strangers = (0..PROBES).filter(|user| filter.maybe_contains(Filter::hash(u64::MAX, *user, SEED)));
    strangers.count() / (PROBES / MILLION) as usize
}

#[test]
fn a_full_filter_is_rarely_wrong() {
    let filter = Filter::with_capacity(FULL as usize);
    for user in 0..FULL {
        filter.insert(Filter::hash(1, user, SEED));
    }
    assert_eq!(filter.saturated(), 0);
    // 8 slots, half of them in use, ÷ 65,534 fingerprints: 61 in a million.
    let wrong = false_positives_per_million(&filter);
    assert!((45..=80).contains(&wrong), "{wrong} false positives in a million");
    assert!((0..FULL).all(|user| filter.maybe_contains(Filter::hash(1, user, SEED))));
}

#[test]
fn a_full_filter_stays_so_while_its_keys_come_and_go() {
    const GENERATIONS: u64 = 20;
    let filter = Filter::with_capacity(FULL as usize);
    for user in 0..FULL * GENERATIONS {
        filter.insert(Filter::hash(1, user, SEED));
        if let Some(oldest) = user.checked_sub(FULL) {
            filter.remove(Filter::hash(1, oldest, SEED));
        }
    }
    let wrong = false_positives_per_million(&filter);
    assert_eq!(filter.saturated(), 0);
    assert!((45..=80).contains(&wrong), "{wrong} false positives in a million");
    let kept = FULL * (GENERATIONS - 1)..FULL * GENERATIONS;
    assert!(kept.clone().all(|user| filter.maybe_contains(Filter::hash(1, user, SEED))));
}

#[test]
fn an_overfull_filter_says_maybe() {
    let filter = Filter::with_capacity(100);
    for user in 0..10_000 {
        filter.insert(Filter::hash(1, user, SEED));
    }
    assert!(filter.saturated() > 0);
    assert!((0..10_000).all(|user| filter.maybe_contains(Filter::hash(1, user, SEED))));
    for user in 0..10_000 {
        filter.remove(Filter::hash(1, user, SEED));
    }
    assert!(filter.saturated() > 0, "saturation is for ever");
}

#[test]
fn filters_with_thirty_times_the_keys_they_were_made_for_are_rarely_wrong() {
    let expected = FULL / 16;
    let filters = Filters::with_capacity(expected as usize);
    for user in 0..30 * expected {
        filters.insert(Filter::hash(1, user, SEED));
    }
    // One for what was expected, and as many as doublings.
    assert_eq!((filters.depth(), filters.saturated()), (5, 0));
    assert!((0..30 * expected).all(|user| filters.maybe_contains(Filter::hash(1, user, SEED))));
    let wrong =
        (0..MILLION).filter(|user| filters.maybe_contains(Filter::hash(u64::MAX, *user, SEED))).count();
    // Each of the five is wrong as often as a full filter is.
    assert!((200..=400).contains(&wrong), "{wrong} false positives in a million");
    let bytes = filters.bytes() / (30 * expected);
    assert!(bytes <= 8, "{bytes} bytes for each key");
}

#[test]
fn filters_do_not_grow_because_keys_come_and_go() {
    let keys = FULL / 16;
    let filters = Filters::with_capacity(keys as usize);
    for user in 0..200 * keys {
        filters.insert(Filter::hash(1, user, SEED));
        if let Some(oldest) = user.checked_sub(2 * keys) {
            filters.remove(Filter::hash(1, oldest, SEED));
        }
    }
    assert_eq!((filters.depth(), filters.saturated()), (2, 0));
    // What may lie in either filter stays when it is removed, one in ten thousand.
    let stayed = (0..198 * keys).filter(|user| filters.maybe_contains(Filter::hash(1, *user, SEED))).count();
    assert!(stayed < 198 * keys as usize / 2000, "{stayed} keys stayed");
    let kept = 198 * keys..200 * keys;
    assert!(kept.clone().all(|user| filters.maybe_contains(Filter::hash(1, user, SEED))));
}

#[test]
fn a_twin_in_another_filter_is_not_removed_instead() {
    let filters = Filters::with_capacity(1);
    let key = |fingerprint: u64, bucket: u64| fingerprint << 48 | bucket;
    // Four keys fill the first filter, where these two are twins; in the second, of four buckets, they share none.
    let (ours, twin) = (key(0x4333, 0), key(0x4333, 1));
    let others = [0x1111, 0x2222, 0x3333].map(|fingerprint| key(fingerprint, 0));
    others.into_iter().chain([ours, twin]).for_each(|hash| filters.insert(hash));
    assert_eq!(filters.depth(), 2);
    filters.remove(twin);
    assert!(filters.maybe_contains(ours), "it went with its twin");
    filters.remove(ours);
    filters.remove(others[0]);
    assert!(!filters.maybe_contains(ours) && !filters.maybe_contains(others[0]), "one filter had them");
}

#[test]
fn hashes_depend_on_all_that_goes_into_them() {
    let hash = Filter::hash(1, 2, 3);
    assert_eq!(hash, Filter::hash(1, 2, 3));
    for other in [Filter::hash(0, 2, 3), Filter::hash(1, 0, 3), Filter::hash(1, 2, 0), Filter::hash(2, 1, 3)]
    {
        assert_ne!(hash, other);
    }
}

#[test]
fn a_notice_is_always_of_one_index() {
    let of = |index: u64| Posted {
        index,
        time_ms: index,
        free: index * 3,
        held: index * 5,
        earliest_return_ms: index * 7,
        opens_ms: !index,
        closes_ms: index << 7,
        per_user_limit: index as u32,
        unlimited: index.is_multiple_of(2),
        sealed: index.is_multiple_of(3),
    };
    let notice = Notice::new(of(0));
    let done = AtomicBool::new(false);
    thread::scope(|scope| {
        for _ in 0..3 {
            scope.spawn(|| {
                let mut last = 0;
                while !done.load(Ordering::Relaxed) {
                    let posted = notice.read();
                    assert_eq!(posted, of(posted.index));
                    assert!(posted.index >= last);
                    last = posted.index;
                }
            });
        }
        (1..=MILLION).for_each(|index| notice.publish(of(index)));
        done.store(true, Ordering::Relaxed);
    });
    assert_eq!(notice.read(), of(MILLION));
}

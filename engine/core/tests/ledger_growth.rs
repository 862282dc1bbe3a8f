//! Growth: millions of records, into tables that were made for none, and how much of the tables one entry moves.
//!
//! Counted, not timed: what an entry moves is what it costs beyond its commands. Deliberately not here: the filters
//! (`gate.rs`), and the table by itself (beside its code).

#![allow(clippy::unwrap_used)]

use sluice_core::ledger::Ledger;
use sluice_core::ledger::command::{Batch, Cancel, Group, Put, Reserve};
use sluice_core::ledger::effect::Ignore;
use sluice_core::ledger::settings::Settings;

const TERM: u64 = 1;

/// Commands in an entry: about as many reserves as fit.
const ENTRY: u64 = 1800;

const RECORDS: u64 = 3_000_000;

/// Entries of tables that one log entry may move. Of a table that doubled at once it would be all of them.
const MOVED_MAX: u64 = 40_000;

struct Loading {
    ledger: Ledger,
    index: u64,
    /// The most that one entry has moved.
    worst: u64,
}

impl Loading {
    fn new(capacity: usize) -> Self {
        let settings = Settings { records_max: u32::MAX / 2, ..Settings::default() };
        Self { ledger: Ledger::with_capacity(settings, 5, capacity), index: 0, worst: 0 }
    }

    fn apply(&mut self, group: Group) {
        let batch = Batch { proposer_term: TERM, stamp_ms: 1_000_000, groups: vec![group] };
        self.index += 1;
        let before = self.ledger.moved();
        self.ledger.apply(self.index, TERM, &batch.encode(), &mut Ignore).unwrap();
        self.worst = self.worst.max(self.ledger.moved() - before);
    }
}

fn put(product: u64) -> Put {
    Put {
        product,
        stock: Some(u64::from(u32::MAX)),
        opens_ms: 0,
        closes_ms: 0,
        per_user_limit: 1,
        hold_ms: 900_000,
        unlimited: false,
    }
}

fn id(number: u64) -> u128 {
    u128::from(number + 1) << 64 | u128::from(number)
}

fn reserve(number: u64) -> Reserve {
    Reserve { id: id(number), product: 1, user: number, quantity: 1 }
}

/// Loads records into a ledger made for so many, and returns it.
fn load(capacity: usize) -> Loading {
    let mut loading = Loading::new(capacity);
    loading.apply(Group::Put(vec![put(1)]));
    for first in (0..RECORDS).step_by(ENTRY as usize) {
        let last = (first + ENTRY).min(RECORDS);
        loading.apply(Group::Reserve((first..last).map(reserve).collect()));
    }
    assert_eq!(loading.ledger.totals().live, RECORDS);
    loading
}

#[test]
fn no_entry_moves_more_than_a_small_part_of_tables_that_were_made_for_nothing() {
    let mut loading = load(0);
    grew_in_small_parts(&loading);
    // What is given back moves nothing.
    let (bytes, moved) = (loading.ledger.totals().memory.sum(), loading.ledger.moved());
    for first in (0..100 * ENTRY).step_by(ENTRY as usize) {
        let cancels = (first..first + ENTRY).map(|number| Cancel { id: id(number), reason: 0 });
        loading.apply(Group::Cancel(cancels.collect()));
    }
    assert_eq!((loading.ledger.totals().memory.sum(), loading.ledger.moved()), (bytes, moved));
    assert_eq!(loading.ledger.totals().live, RECORDS - 100 * ENTRY);
}

/// Here all parts of the tables run full at the same time.
#[test]
fn no_entry_moves_more_than_a_small_part_of_tables_that_were_made_for_a_million() {
    grew_in_small_parts(&load(1_000_000));
}

fn grew_in_small_parts(loading: &Loading) {
    assert!(loading.ledger.moved() > RECORDS, "the tables did not grow");
    assert!(loading.worst < MOVED_MAX, "one entry moved {} entries of tables", loading.worst);
    let bytes = loading.ledger.totals().memory.sum() as f64 / RECORDS as f64;
    assert!(bytes < 112.0, "{bytes} bytes for each live reservation");
}

#[test]
fn no_put_moves_more_than_a_small_part_of_the_products() {
    const PRODUCTS: u64 = 200_000;
    let mut loading = Loading::new(0);
    for first in (1..=PRODUCTS).step_by(500) {
        loading.apply(Group::Put((first..first + 500).map(put).collect()));
    }
    assert_eq!(loading.ledger.totals().products, PRODUCTS);
    assert!(loading.ledger.moved() > PRODUCTS / 2, "the table did not grow");
    assert!(loading.worst < MOVED_MAX, "one entry moved {} entries of tables", loading.worst);
}

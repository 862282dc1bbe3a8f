//! Applying entries of the log, with a million live reservations in the tables, or as many as `SLUICE_BENCH_LIVE` says
//! (10000000 shows what cache and TLB misses cost).
//!
//! Ids and users are scattered, as real ones are. Deliberately not here: encoding of entries; a follower never does it.

use std::time::{Duration, Instant};

use criterion::{Criterion, Throughput, criterion_group, criterion_main};
use sluice_core::ledger::Ledger;
use sluice_core::ledger::command::{Batch, Cancel, Group, Put, Reserve};
use sluice_core::ledger::effect::Ignore;
use sluice_core::ledger::settings::Settings;

/// Live reservations unless it is said.
const LIVE_DEFAULT: u64 = 1_000_000;

/// Commands in an entry.
const ENTRY: u64 = 1024;

/// While it is measured the ledger may grow by a part of this many; then it is made anew.
const GROWTH_PART: u64 = 4;

const PRODUCT: u64 = 7;
const SOLD_OUT: u64 = 8;
const TERM: u64 = 1;
const START_MS: u64 = 1_700_000_000_000;

/// A ledger in the middle of a sale, and the numbers that come next.
struct Sale {
    ledger: Ledger,
    live: u64,
    next: u64,
    index: u64,
}

impl Sale {
    fn new(live: u64) -> Self {
        let records = live + live / GROWTH_PART + ENTRY;
        let settings = Settings { records_max: 2 * records as u32, ..Settings::default() };
        let ledger = Ledger::with_capacity(settings, 1, records as usize);
        let mut sale = Self { ledger, live, next: 0, index: 0 };
        let put = |product, stock| Put {
            product,
            stock: Some(stock),
            opens_ms: 0,
            closes_ms: 0,
            per_user_limit: 1,
            hold_ms: 900_000,
            unlimited: false,
        };
        sale.apply(Group::Put(vec![put(PRODUCT, 1 << 40), put(SOLD_OUT, 0)]));
        while sale.next < live {
            let entry = sale.reserves(PRODUCT);
            sale.apply(entry);
        }
        sale
    }

    /// The next buyers.
    fn reserves(&mut self, product: u64) -> Group {
        let first = self.next;
        self.next += ENTRY;
        Group::Reserve((first..self.next).map(|n| reserve(n, product)).collect())
    }

    /// Applies an entry; how long that took.
    fn apply(&mut self, group: Group) -> Duration {
        let entry = Batch { proposer_term: TERM, stamp_ms: START_MS, groups: vec![group] }.encode();
        self.index += 1;
        let began = Instant::now();
        self.ledger.apply(self.index, TERM, &entry, &mut Ignore).expect("the entry is sound");
        began.elapsed()
    }

    fn is_overgrown(&self) -> bool {
        self.next > self.live + self.live / GROWTH_PART
    }
}

fn reserve(number: u64, product: u64) -> Reserve {
    let scattered = number.wrapping_add(1).wrapping_mul(0x9e37_79b9_7f4a_7c15).rotate_left(29) | 1;
    Reserve { id: u128::from(scattered) << 64 | u128::from(number), product, user: scattered, quantity: 1 }
}

/// Measures `entry`, which is made from the sale as it is, and applied to it.
fn measure(
    criterion: &mut Criterion,
    sale: &mut Sale,
    name: &str,
    mut entry: impl FnMut(&mut Sale) -> Group,
) {
    let mut group = criterion.benchmark_group("ledger");
    group.sample_size(10).warm_up_time(Duration::from_millis(300)).measurement_time(Duration::from_secs(2));
    group.throughput(Throughput::Elements(ENTRY));
    group.bench_function(format!("{name}, {} live", sale.live), |bench| {
        bench.iter_custom(|count| {
            let mut took = Duration::ZERO;
            for _ in 0..count {
                if sale.is_overgrown() {
                    *sale = Sale::new(sale.live);
                }
                let entry = entry(sale);
                took += sale.apply(entry);
            }
            took
        });
    });
    group.finish();
}

fn ledger(criterion: &mut Criterion) {
    let live =
        std::env::var("SLUICE_BENCH_LIVE").ok().and_then(|text| text.parse().ok()).unwrap_or(LIVE_DEFAULT);
    let mut sale = Sale::new(live);
    let (totals, records) = (sale.ledger.totals(), sale.next as f64);
    let memory = totals.memory;
    println!(
        "ledger: {:.1} bytes for each of {} live reservations (rows {:.1}, ids {:.1}, quotas {:.1}), tables made to \
         measure",
        memory.sum() as f64 / records,
        totals.live,
        memory.records as f64 / records,
        memory.ids as f64 / records,
        memory.quotas as f64 / records,
    );
    measure(criterion, &mut sale, "reserve, accepted", |sale| sale.reserves(PRODUCT));
    measure(criterion, &mut sale, "reserve, refused", |sale| sale.reserves(SOLD_OUT));
    measure(criterion, &mut sale, "confirm", |sale| Group::Confirm(reserved(sale).collect()));
    measure(criterion, &mut sale, "cancel", |sale| {
        Group::Cancel(reserved(sale).map(|id| Cancel { id, reason: 1 }).collect())
    });
}

/// The ids of an entry of reservations, which is applied.
fn reserved(sale: &mut Sale) -> impl Iterator<Item = u128> {
    let first = sale.next;
    let entry = sale.reserves(PRODUCT);
    sale.apply(entry);
    (first..first + ENTRY).map(|number| reserve(number, PRODUCT).id)
}

criterion_group!(benches, ledger);
criterion_main!(benches);

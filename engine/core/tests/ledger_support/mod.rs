//! A ledger under observation: applies entries, keeps what they told, and checks after each of them what must
//! hold whatever the entries said.
//!
//! Shared by the ledger's tests. Deliberately not here: what any particular command should do.

// Each test binary uses its own part of this.
#![allow(dead_code, unreachable_pub, clippy::unwrap_used)]

#[path = "../bank/mod.rs"]
mod bank;
mod told;

use std::collections::{BTreeMap, BTreeSet};

use sluice_core::ledger::command::{Batch, Group};
use sluice_core::ledger::effect::Event;
use sluice_core::ledger::settings::Settings;
use sluice_core::ledger::{Applied, ImageError, Ledger, Standing};
use sluice_protocol::event::EventRecord;
use sluice_protocol::{Answer, ProductId, Status};

pub use told::Told;

/// A ledger, and what an observer who only heard its effects believes of it.
pub struct Observed {
    pub ledger: Ledger,
    /// Log index of the last entry.
    pub index: u64,
    seed: u64,
    buyers: BTreeSet<(u64, u64)>,
    known: BTreeSet<u128>,
    /// Tokens as a gate would count them from answers and credits.
    tokens: BTreeMap<u64, i64>,
    standings: BTreeMap<u64, Standing>,
    sequence: u64,
    /// Every event, the first first.
    pub events: Vec<EventRecord>,
}

/// The term under which entries are proposed and committed.
pub const TERM: u64 = 7;

impl Observed {
    pub fn new(settings: Settings, seed: u64) -> Self {
        bank::arm();
        Self {
            ledger: Ledger::new(settings, seed),
            index: 0,
            seed,
            buyers: BTreeSet::new(),
            known: BTreeSet::new(),
            tokens: BTreeMap::new(),
            standings: BTreeMap::new(),
            sequence: 0,
            events: Vec::new(),
        }
    }

    /// Applies an entry.
    pub fn apply(&mut self, stamp_ms: u64, groups: Vec<Group>) -> Told {
        let batch = Batch { proposer_term: TERM, stamp_ms, groups };
        self.index += 1;
        let mut told = Told::default();
        let applied = self.ledger.apply(self.index, TERM, &batch.encode(), &mut told).unwrap();
        assert_eq!(applied, Applied { voided: false, commands: told.answers.len() as u32 });
        self.listen(&batch, &told);
        self.check();
        told
    }

    /// Saves the ledger and goes on with what loads from the bytes, under another hash seed.
    pub fn reload(&mut self) {
        let digest = self.ledger.digest();
        let sections = sections(&mut self.ledger);
        self.seed += 1;
        self.ledger = load(&sections, self.seed).unwrap();
        assert_eq!(self.ledger.digest(), digest, "a loaded ledger is the one that was saved");
        self.check();
    }

    /// Believes what an entry told.
    fn listen(&mut self, batch: &Batch, told: &Told) {
        for event in &told.events {
            assert_eq!(event.sequence, self.sequence + 1, "sequences are dense");
            assert_eq!((event.index, event.time_ms), (self.index, self.ledger.now_ms()));
            self.sequence = event.sequence;
            self.events.push(record(event));
        }
        for &(product, user, has) in &told.buyers {
            let changed =
                if has { self.buyers.insert((product, user)) } else { self.buyers.remove(&(product, user)) };
            assert!(changed, "user {user} of product {product} was told twice: {has}");
        }
        for &(id, is) in &told.known {
            let changed = if is { self.known.insert(id) } else { self.known.remove(&id) };
            assert!(changed, "id {id} was told twice: {is}");
        }
        for &(product, units) in &told.credits {
            assert_ne!(units, 0);
            *self.tokens.entry(product).or_default() += units;
        }
        let mut answers = told.answers.iter();
        for group in &batch.groups {
            self.spend(group, &mut answers);
        }
        assert_eq!(answers.next(), None, "one answer for each command");
        let standings = &mut self.standings;
        self.ledger.changed(|standing| {
            standings.insert(standing.product.0, standing);
        });
        self.ledger.changed(|standing| panic!("{standing:?} was handed out twice"));
    }

    /// Moves tokens as the answers to commands demand.
    fn spend<'a>(&mut self, group: &Group, answers: &mut impl Iterator<Item = &'a Answer>) {
        let mut next = || answers.next().expect("one answer for each command").status().unwrap();
        match group {
            Group::Reserve(items) => {
                for item in items {
                    if next() == Status::Reserved && !self.is_unlimited(item.product) {
                        *self.tokens.entry(item.product).or_default() -= i64::from(item.quantity);
                    }
                }
            }
            Group::WriteOff(items) => {
                for item in items {
                    if next() == Status::Done {
                        *self.tokens.entry(item.product).or_default() -= i64::from(item.quantity);
                    }
                }
            }
            Group::Put(items) => {
                for item in items {
                    let status = next();
                    if status == Status::Done && !self.standings.contains_key(&item.product) {
                        let tokens = self.tokens.entry(item.product).or_default();
                        *tokens += item.stock.unwrap_or(0) as i64;
                        // Two puts of a new product in one entry must not count twice.
                        let standing = self.ledger.standing(ProductId(item.product)).unwrap();
                        self.standings.insert(item.product, standing);
                    }
                }
            }
            Group::Restock(items) => consume(&mut next, items.len()),
            Group::Cancel(items) => consume(&mut next, items.len()),
            Group::Confirm(ids) | Group::Resolve(ids) => consume(&mut next, ids.len()),
            Group::Seal(products) => consume(&mut next, products.len()),
            Group::Consume(items) => consume(&mut next, items.len()),
        }
    }

    fn is_unlimited(&self, product: u64) -> bool {
        self.ledger.standing(ProductId(product)).is_some_and(|standing| standing.unlimited)
    }

    /// What the ledger says of itself agrees with what it told.
    fn check(&self) {
        let ledger = &self.ledger;
        assert_eq!((ledger.index(), ledger.sequence()), (self.index, self.sequence));
        let mut buyers = BTreeSet::new();
        ledger.each_buyer(|product, user, units| {
            assert!(units > 0 && buyers.insert((product.0, user.0)));
            assert_eq!(ledger.user_units(product, user), units);
        });
        assert_eq!(buyers, self.buyers, "buyers told and buyers counted");
        let mut known = BTreeSet::new();
        ledger.each_known(|id| assert!(known.insert(id.0)));
        assert_eq!(known, self.known, "ids told and ids remembered");
        let mut last = None;
        for view in ledger.products_from(ProductId(0)) {
            assert!(last < Some(view.product), "products come in the order of their ids");
            last = Some(view.product);
            let standing = ledger.standing(view.product).unwrap();
            assert_eq!(self.standings.get(&view.product.0), Some(&standing), "changed() missed a change");
            assert_eq!(ledger.product(view.product), Some(view));
            if view.terms.unlimited {
                assert_eq!((view.stock, view.free), (0, 0));
            } else {
                assert_eq!(view.free + view.held + view.sold, view.stock);
                assert_eq!(
                    self.tokens[&view.product.0], view.free as i64,
                    "credits and answers give the free units"
                );
            }
        }
    }
}

/// An event's bytes.
pub fn record(event: &Event) -> EventRecord {
    EventRecord::from(*event)
}

/// Passes over answers that move no tokens.
fn consume(next: &mut impl FnMut() -> Status, count: usize) {
    for _ in 0..count {
        next();
    }
}

/// The bytes of a ledger.
pub fn sections(ledger: &mut Ledger) -> Vec<Vec<u8>> {
    let index = ledger.index();
    let image = ledger.freeze();
    assert_eq!(image.index(), index);
    image.sections().collect()
}

/// The ledger of some bytes.
pub fn load(sections: &[Vec<u8>], seed: u64) -> Result<Ledger, ImageError> {
    Ledger::from_sections(sections.iter().map(Vec::as_slice), 0, seed)
}

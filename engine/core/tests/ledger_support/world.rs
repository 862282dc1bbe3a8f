//! Two ledgers and a model of them, which take the same steps and must agree after each.
//!
//! Deliberately not here: which steps. Each test that includes this draws its own.

#![allow(dead_code, clippy::unwrap_used)]

use sluice_core::ledger::command::{Batch, Consume, Group};
use sluice_core::ledger::groups::Groups;
use sluice_core::ledger::settings::Settings;
use sluice_core::ledger::{Applied, Image, Ledger};
use sluice_protocol::{ProductId, ReservationId, UserId};
use zerocopy::IntoBytes;

use crate::ledger_support::{self, Observed, TERM, Told};
use crate::model::Model;

pub(crate) const IDS: u128 = 24;
pub(crate) const PRODUCTS: u64 = 4;
pub(crate) const USERS: u64 = 3;
pub(crate) const START_MS: u64 = 1_000_000;

/// Small worlds, so that everything meets everything.
pub(crate) const SETTINGS: Settings = Settings { records_max: 16, retention_ms: 700 };

#[derive(Clone, Debug)]
pub(crate) enum Step {
    /// Milliseconds that the proposer's clock moves (it may jump back or far ahead), and commands.
    Entry(i64, Vec<Group>),
    /// An entry proposed under a term that lost.
    Voided(Vec<Group>),
    /// A new leader's empty entry.
    NoOp,
    /// Save, load, go on.
    Reload,
    /// Freeze, go on, and only later look at what was frozen.
    FreezeFor(usize),
}

pub(crate) struct World {
    observed: Observed,
    plain: Ledger,
    model: Model,
    stamp_ms: u64,
    /// An image being written: steps until it is looked at, its digest, itself.
    frozen: Option<(usize, u64, Image)>,
}

impl World {
    pub(crate) fn new() -> Self {
        Self {
            observed: Observed::new(SETTINGS, 1),
            plain: Ledger::with_capacity(SETTINGS, 99, 100),
            model: Model::new(SETTINGS),
            stamp_ms: START_MS,
            frozen: None,
        }
    }

    /// Takes a step, and returns what the ledger told.
    pub(crate) fn step(&mut self, step: &Step) -> Told {
        let mut heard = Told::default();
        match step {
            Step::Entry(by_ms, groups) => {
                self.stamp_ms = self.stamp_ms.saturating_add_signed(*by_ms);
                let stamp_ms = self.stamp_ms;
                let groups = self.with_events(groups);
                let told = self.observed.apply(stamp_ms, groups.clone());
                let batch = Batch { proposer_term: TERM, stamp_ms, groups };
                let mut told_plain = Told::default();
                let index = self.observed.index;
                self.plain.apply(index, TERM, &batch.encode(), &mut told_plain).unwrap();
                assert_eq!(told, told_plain, "two ledgers of different seeds");
                assert_same(&told, &self.model.apply(index, TERM, &batch));
                heard = told;
                // The clock of the next proposer starts from what was agreed, however mad this one was.
                self.stamp_ms = self.observed.ledger.now_ms();
            }
            Step::Voided(groups) => {
                let batch = Batch { proposer_term: TERM - 1, stamp_ms: u64::MAX, groups: groups.clone() };
                self.skip(&batch.encode(), true);
                self.model.apply(self.observed.index, TERM, &batch);
            }
            Step::NoOp => {
                self.skip(&[], false);
                self.model.apply(self.observed.index, TERM, &Batch::default());
            }
            Step::Reload => self.observed.reload(),
            Step::FreezeFor(steps) => {
                let digest = self.plain.digest();
                self.frozen = Some((*steps, digest, self.plain.freeze()));
            }
        }
        self.look_at_frozen();
        self.compare();
        heard
    }

    /// The groups of one of the ledgers.
    pub(crate) fn groups(&self) -> &Groups {
        self.observed.ledger.groups()
    }

    /// The same commands, with the bytes of the events that those of consumer groups name; some are as they were drawn.
    fn with_events(&self, groups: &[Group]) -> Vec<Group> {
        let mut groups = groups.to_vec();
        for group in &mut groups {
            let Group::Consume(items) = group else { continue };
            for item in items {
                let Consume::Nak(nak) = item else { continue };
                let at = u64::from_le_bytes(nak.event[..8].try_into().unwrap());
                if let Some(event) = self.observed.events.get(at.wrapping_sub(1) as usize)
                    && nak.cause % 16 != 0
                {
                    nak.event.copy_from_slice(event.as_bytes());
                }
                if nak.cause % 16 == 1 {
                    nak.event[40] ^= 1;
                }
            }
        }
        groups
    }

    /// Applies an entry that changes nothing but the index.
    fn skip(&mut self, data: &[u8], voided: bool) {
        self.observed.index += 1;
        for ledger in [&mut self.observed.ledger, &mut self.plain] {
            let mut told = Told::default();
            let applied = ledger.apply(self.observed.index, TERM, data, &mut told).unwrap();
            assert_eq!((applied, told), (Applied { voided, commands: 0 }, Told::default()));
        }
    }

    /// What was frozen is still what it was, whatever happened since.
    fn look_at_frozen(&mut self) {
        let Some((steps, digest, image)) = self.frozen.take() else { return };
        if steps > 0 {
            self.frozen = Some((steps - 1, digest, image));
            return;
        }
        let sections: Vec<Vec<u8>> = image.sections().collect();
        assert_eq!(ledger_support::load(&sections, 3).unwrap().digest(), digest);
    }

    fn compare(&self) {
        let Self { observed, plain, model, .. } = self;
        let ledger = &observed.ledger;
        assert_eq!(ledger.digest(), plain.digest(), "byte-identical");
        assert_eq!(ledger.at(), model.at());
        assert_eq!(ledger.pulse_due_ms(), model.pulse_due_ms());
        assert!(!ledger.backlog(), "fewer holds than one sweep takes");
        for product in 0..=PRODUCTS {
            assert_eq!(ledger.product(ProductId(product)), model.product(product));
            for user in 0..USERS {
                let units = ledger.user_units(ProductId(product), UserId(user));
                assert_eq!(units, model.user_units(product, user));
            }
        }
        model.compare_groups(ledger.groups().iter().map(|group| &**group));
        for id in 0..=IDS {
            assert_eq!(ledger.reservation(ReservationId(id)), model.reservation(id));
        }
    }
}

/// The order in which different kinds of effects come is not promised; within a kind it is.
fn assert_same(got: &Told, expected: &Told) {
    assert_eq!(got.answers, expected.answers);
    assert_eq!(got.events, expected.events);
    assert_eq!(got.credits, expected.credits);
    assert_eq!(got.buyers, expected.buyers);
    assert_eq!(got.known, expected.known);
}

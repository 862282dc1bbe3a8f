//! Any commands against the ledger: what must hold after every entry (`watch`), and three ways to the same state: every
//! entry, every entry under another hash seed, and an image with the entries behind it.
//!
//! Deliberately not here: bytes that are no entry (`entry`).

use arbitrary::{Arbitrary, Unstructured};
use sluice_core::ledger::command::Batch;
use sluice_core::ledger::effect::Ignore;
use sluice_core::ledger::{Image, Ledger};

use crate::script::{BEGIN_MS, Bounds, Order, Stamp, Step};
use crate::watch::{Sections, Watched, load};

const TERM: u64 = 7;

#[derive(Debug, Arbitrary)]
struct Script {
    bounds: Bounds,
    steps: Vec<Step>,
}

/// See the module.
pub fn target(data: &[u8]) {
    let Ok(script) = Script::arbitrary(&mut Unstructured::new(data)) else { return };
    let mut play = Play {
        watched: Watched::new(script.bounds.settings()),
        log: Vec::new(),
        stamp_ms: BEGIN_MS,
        image: None,
    };
    for step in &script.steps {
        play.step(step);
    }
    play.write_image();
    play.replay(script.bounds);
}

struct Play {
    watched: Watched,
    /// The terms and bytes of all entries: entry 1 first.
    log: Vec<(u64, Vec<u8>)>,
    stamp_ms: u64,
    /// An image that was begun, and the digest of what it is of.
    image: Option<(Image, u64)>,
}

impl Play {
    fn step(&mut self, step: &Step) {
        match step {
            Step::Entry { stamp, orders } => self.entry(*stamp, orders, TERM),
            Step::Foreign(orders) => self.entry(Stamp::Later(1), orders, TERM + 1),
            Step::NoOp => {
                self.log.push((TERM, Vec::new()));
                let applied = self.watched.apply(self.log.len() as u64, TERM, &[]);
                assert_eq!(applied.map(|applied| applied.commands), Ok(0));
            }
            Step::Freeze => {
                self.write_image();
                let digest = self.watched.ledger.digest();
                self.image = Some((self.watched.ledger.freeze(), digest));
            }
            Step::Reload => self.watched.reload(),
        }
    }

    fn entry(&mut self, stamp: Stamp, orders: &[Order], term: u64) {
        self.stamp_ms = stamp.behind(self.stamp_ms);
        let groups = orders.iter().map(Order::group).collect();
        let batch = Batch { proposer_term: TERM, stamp_ms: self.stamp_ms, groups };
        let data = self.watched.apply_batch(self.log.len() as u64 + 1, term, &batch);
        self.log.push((term, data));
    }

    /// Writes the image that was begun, loads it, and applies what came since.
    fn write_image(&mut self) {
        let Some((image, digest)) = self.image.take() else { return };
        let index = image.index();
        let sections: Sections = image.sections().collect();
        let mut loaded = load(&sections, 77).expect("what a ledger writes can be read");
        assert_eq!((loaded.index(), loaded.digest()), (index, digest), "an image is of its index");
        self.continue_to_the_end(&mut loaded);
    }

    fn replay(&self, bounds: Bounds) {
        self.continue_to_the_end(&mut Ledger::new(bounds.settings(), 78));
    }

    fn continue_to_the_end(&self, ledger: &mut Ledger) {
        for (index, (term, data)) in (1..).zip(&self.log).skip(ledger.index() as usize) {
            ledger.apply(index, *term, data, &mut Ignore).expect("it was applied before");
        }
        assert_eq!(ledger.digest(), self.watched.ledger.digest(), "image and entries, or all entries");
    }
}

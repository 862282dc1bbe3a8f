//! A ledger and its twin of another hash seed under observation: after each entry both are the same, the books agree,
//! and no answer claims what is not so.
//!
//! Deliberately not here: where the entries come from.

use rkyv::rancor;
use sluice_core::ledger::command::{Batch, EntryError, Group};
use sluice_core::ledger::effect::Change;
use sluice_core::ledger::settings::Settings;
use sluice_core::ledger::{Applied, ImageError, Ledger};
use sluice_protocol::{Answer, ProductId, Status};

use crate::books::{Books, Told};

/// The bytes of a ledger.
pub type Sections = Vec<Vec<u8>>;

/// The ledger of some bytes.
pub fn load(sections: &[Vec<u8>], seed: u64) -> Result<Ledger, ImageError> {
    Ledger::from_sections(sections.iter().map(Vec::as_slice), 0, seed)
}

/// See the module.
pub struct Watched {
    /// The ledger.
    pub ledger: Ledger,
    twin: Ledger,
    books: Books,
    seed: u64,
}

impl Watched {
    /// An empty ledger.
    pub fn new(settings: Settings) -> Self {
        let (ledger, twin) = (Ledger::new(settings, 1), Ledger::new(settings, 2));
        Self { ledger, twin, books: Books::default(), seed: 2 }
    }

    /// The ledger of some bytes, if they are one's. Then its own bytes are those of the same ledger.
    ///
    /// # Errors
    /// [`ImageError`] if they are not.
    pub fn loaded(sections: &[Vec<u8>]) -> Result<Self, ImageError> {
        let (mut ledger, twin) = (load(sections, 1)?, load(sections, 2)?);
        assert_eq!(ledger.digest(), twin.digest());
        let written: Sections = ledger.freeze().sections().collect();
        let mut again = load(&written, 3).expect("what a ledger writes can be read");
        assert_eq!(again.digest(), ledger.digest());
        assert!(again.freeze().sections().eq(written.iter().cloned()), "a ledger has one image");
        let books = Books::of(&ledger);
        let mut watched = Self { ledger, twin, books, seed: 3 };
        watched.check();
        Ok(watched)
    }

    /// Exchanges the twin for what loads from the ledger's bytes.
    pub fn reload(&mut self) {
        let sections: Sections = self.ledger.freeze().sections().collect();
        self.seed += 1;
        self.twin = load(&sections, self.seed).expect("what a ledger writes can be read");
        self.check();
    }

    /// Applies an entry.
    ///
    /// # Errors
    /// [`EntryError`] if it is none. Then nothing has changed.
    pub fn apply(&mut self, index: u64, term: u64, data: &[u8]) -> Result<Applied, EntryError> {
        let (mut told, mut twin_told) = (Told::default(), Told::default());
        let before = self.ledger.digest();
        let (now_ms, units_before) = (self.ledger.now_ms(), self.units());
        let applied = self.ledger.apply(index, term, data, &mut told);
        assert_eq!(applied, self.twin.apply(index, term, data, &mut twin_told));
        assert_eq!(told, twin_told, "same entries, same effects");
        let Ok(done) = applied else {
            assert_eq!(self.ledger.digest(), before, "a refused entry changes nothing");
            return applied;
        };
        assert_eq!((self.ledger.index(), done.commands as usize), (index, told.answers.len()));
        assert!(self.ledger.now_ms() >= now_ms, "time never falls");
        if done.voided || data.is_empty() {
            assert_eq!(told, Told::default(), "nothing but the index");
        }
        self.books.listen(&self.ledger, &told);
        if !done.voided && !data.is_empty() {
            self.judge(data, &told, &units_before);
        }
        self.check();
        applied
    }

    /// Applies an entry that is one.
    pub fn apply_batch(&mut self, index: u64, term: u64, batch: &Batch) -> Vec<u8> {
        let data = batch.encode();
        assert_eq!(&decode(&data).expect("what was encoded decodes"), batch);
        self.apply(index, term, &data).expect("what was encoded applies");
        data
    }

    fn check(&mut self) {
        assert_eq!(self.ledger.digest(), self.twin.digest(), "same entries, same bytes");
        assert_eq!(self.ledger.pulse_due_ms(), self.twin.pulse_due_ms());
        assert_eq!(self.ledger.backlog(), self.twin.backlog());
        self.books.agree_with(&self.ledger);
        let totals = self.ledger.totals();
        assert_eq!(totals.stock, totals.free.saturating_add(totals.held).saturating_add(totals.sold));
        assert!(totals.records <= u64::from(self.ledger.settings().records_max));
    }

    /// Units by product and user.
    fn units(&self) -> Vec<(ProductId, u64, u64)> {
        let mut units = Vec::new();
        self.ledger.each_buyer(|product, user, has| units.push((product, user.0, has)));
        units.sort_unstable();
        units
    }

    /// Holds the answers of an entry against the ledger behind it.
    fn judge(&mut self, data: &[u8], told: &Told, units_before: &[(ProductId, u64, u64)]) {
        let batch = decode(data).expect("what was applied decodes");
        let mut answers = told.answers.iter();
        for group in &batch.groups {
            for at in 0..group.len() {
                let answer = answers.next().expect("one answer for each command");
                self.judge_one(group, at, answer);
            }
        }
        assert_eq!(answers.next(), None);
        let counted = |status: Status, changes: fn(Change) -> bool| {
            let answers = told.answers.iter().filter(|answer| answer.status() == Some(status)).count();
            assert_eq!(answers, told.events.iter().filter(|event| changes(event.change)).count());
        };
        counted(Status::Reserved, |change| matches!(change, Change::Reserved { .. }));
        counted(Status::Confirmed, |change| change == Change::Confirmed);
        counted(Status::Cancelled, |change| matches!(change, Change::Cancelled { .. }));

        // A limit may be lowered below what somebody has; but nobody gets more beyond it.
        if told.events.iter().any(|event| event.change == Change::TermsChanged) {
            return;
        }
        for (product, user, has) in self.units() {
            let had =
                units_before.iter().find(|row| (row.0, row.1) == (product, user)).map_or(0, |row| row.2);
            let limit = self.ledger.standing(product).map_or(0, |standing| standing.per_user_limit);
            assert!(limit == 0 || has <= had || has <= u64::from(limit), "{has} of {limit}");
        }
    }

    fn judge_one(&mut self, group: &Group, at: usize, answer: &Answer) {
        let status = answer.status().expect("a status of this version");
        assert_eq!(answer.at(), self.ledger.at());
        match (group, status) {
            (Group::Reserve(items), Status::Insufficient) => {
                assert!(answer.free() < u64::from(items[at].quantity), "it would have sufficed");
            }
            (Group::WriteOff(items), Status::Insufficient) => {
                assert!(answer.free() < u64::from(items[at].quantity), "it would have sufficed");
            }
            (Group::Reserve(items), Status::SoldOut) => {
                let standing = self.ledger.standing(ProductId(items[at].product));
                assert!(standing.is_some_and(|s| s.sealed && s.free == 0));
            }
            (Group::Reserve(items), Status::LimitReached) => {
                assert!(answer.user_has() + u64::from(items[at].quantity) > answer.limit());
            }
            (Group::Confirm(ids), Status::Expired) => self.books.settle(ids[at]),
            (Group::Cancel(items), Status::Already) => self.books.settle(items[at].id),
            _ => {}
        }
        if status == Status::Insufficient {
            let due_ms = answer.earliest_return_ms();
            assert_eq!(answer.held() == 0, due_ms == 0);
            assert!(due_ms == 0 || due_ms > self.ledger.now_ms(), "what is due was not swept first");
        }
    }
}

/// An entry as what was encoded.
pub fn decode(data: &[u8]) -> Option<Batch> {
    let archived = Batch::access(data).ok()?;
    Some(rkyv::deserialize::<Batch, rancor::Failure>(archived).expect("a batch in memory"))
}

//! Logs made by hand: entries of the real format, applied to the real ledger.

#![allow(dead_code, unreachable_pub, clippy::unwrap_used, reason = "each test file uses its own part")]

pub mod run;

use bytes::Bytes;
use sluice_core::ledger::Ledger;
use sluice_core::ledger::command::{Batch, Group};
use sluice_core::ledger::effect::{Effects, Event};
use sluice_core::ledger::settings::Settings;
use sluice_core::replica::disk::{EntryKind, LogEntry};
use sluice_protocol::{Answer, ProductId, ReservationId, UserId};

/// When logs begin.
pub const START_MS: u64 = 1_700_000_000_000;

/// The answers that a ledger gives.
#[derive(Default)]
pub struct Answers(pub Vec<Answer>);

impl Effects for Answers {
    fn answer(&mut self, answer: Answer) {
        self.0.push(answer);
    }
    fn event(&mut self, _: Event) {}
    fn credit(&mut self, _: ProductId, _: i64) {}
    fn buyer(&mut self, _: ProductId, _: UserId, _: bool) {}
    fn known(&mut self, _: ReservationId, _: bool) {}
}

/// Switches on the known bugs that SLUICE_MUTANTS names.
pub fn arm() {
    let names = std::env::var("SLUICE_MUTANTS").unwrap_or_default();
    for name in names.split(',').filter(|name| !name.is_empty()) {
        assert!(sluice_core::fault::switch_on(name), "there is no mutant {name:?}");
    }
}

/// A real ledger and the log it was given.
pub struct Log {
    pub ledger: Ledger,
    pub term: u64,
    pub now_ms: u64,
    pub entries: Vec<LogEntry>,
}

impl Log {
    pub fn new() -> Self {
        Self::with(Settings::default())
    }

    pub fn with(settings: Settings) -> Self {
        arm();
        Self { ledger: Ledger::new(settings, 3), term: 1, now_ms: START_MS, entries: Vec::new() }
    }

    /// The next entry, not applied.
    pub fn entry(&self, groups: Vec<Group>) -> LogEntry {
        let batch = Batch { proposer_term: self.term, stamp_ms: self.now_ms, groups };
        self.raw(Bytes::from(batch.encode()))
    }

    pub fn raw(&self, data: Bytes) -> LogEntry {
        let index = self.entries.len() as u64 + 1;
        LogEntry { index, term: self.term, kind: EntryKind::Normal, data }
    }

    /// Applies an entry. Its answers.
    pub fn apply(&mut self, entry: &LogEntry) -> Vec<Answer> {
        let mut answers = Answers::default();
        self.ledger.apply(entry.index, entry.term, &entry.data, &mut answers).unwrap();
        self.entries.push(entry.clone());
        answers.0
    }
}

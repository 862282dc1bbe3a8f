//! The ledger: the deterministic state machine that decides every reservation.
//!
//! [`Ledger::apply`] takes the entries of the log in order. Same entries, same state, byte for byte, and the
//! same [`effect`]s, on every replica. Whatever the log holds, `free + held + sold = stock` for every product
//! after every command, and an id has one outcome. Time enters only through the entries.
//!
//! The map, in the order of reading:
//! - [`command`]: what an entry says; [`effect`]: what applying it tells; [`settings`]: agreed bounds
//! - `turn`: one entry's turn: time, commands in order, then the sweeps; `ahead`: their memory, awaited together
//! - `reservation`: reserve, confirm, cancel, resolve; `admin`: put, restock, write off, seal
//! - [`groups`]: who consumes the events, and how far each has come
//! - `product`: terms and counters; `quota`: units by user; `expiry`: deadlines; `records`: ids and outcomes
//! - `chunked`: rows that freeze without copying; [`image`]: their bytes; `load`: the way back; [`extract`]: what auditors read
//! - `table`: hash tables that grow a little at a time
//! - `view`: what may be read
//!
//! Deliberately not here: clocks, randomness, and who leads. The seed scatters hash tables, and no byte of the
//! state depends on it.

mod admin;
pub(crate) mod ahead;
mod chunked;
pub mod command;
pub mod effect;
mod expiry;
pub mod extract;
pub mod groups;
pub mod image;
mod load;
mod product;
mod quota;
mod records;
mod reservation;
pub mod settings;
mod table;
mod turn;
mod view;

use std::fmt;

use sluice_protocol::response::At;

use command::{Batch, EntryError};
use effect::Effects;
use expiry::Agenda;
use groups::Groups;
use product::Products;
use quota::Quotas;
use records::Records;
use settings::{ADVANCE_MS_MAX, Settings};
use turn::Turn;

use crate::fault::{self, Mutant};

pub use image::{Image, ImageError};
pub use view::{Memory, Standing, Totals};

/// The state machine. See the module for what it promises.
///
/// One thread owns it. It never waits, and allocates only when a table outgrows the capacity it was made with,
/// or a chunk of rows is added.
pub struct Ledger {
    settings: Settings,
    index: u64,
    now_ms: u64,
    sequence: u64,
    records: Records,
    products: Products,
    quotas: Quotas,
    agenda: Agenda,
    groups: Groups,
}

/// What became of an entry.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub struct Applied {
    /// The entry was committed under another term than its proposer believed in: it changed nothing but the
    /// index, and gave no answers.
    pub voided: bool,
    /// Commands carried out, which is the number of answers given.
    pub commands: u32,
}

impl fmt::Debug for Ledger {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Ledger")
            .field("at", &self.at())
            .field("sequence", &self.sequence)
            .finish_non_exhaustive()
    }
}

impl Ledger {
    /// An empty ledger. `seed` scatters its hash tables and should differ between processes.
    pub fn new(settings: Settings, seed: u64) -> Self {
        Self::with_capacity(settings, seed, 0)
    }

    /// An empty ledger whose tables hold so many records before they grow.
    pub fn with_capacity(settings: Settings, seed: u64, records: usize) -> Self {
        Self {
            settings,
            index: 0,
            now_ms: 0,
            sequence: 0,
            records: Records::with_capacity(records, seed),
            products: Products::new(seed),
            quotas: Quotas::with_capacity(records, seed),
            agenda: Agenda::default(),
            groups: Groups::default(),
        }
    }

    /// Applies the log's entry at `index`, which raft committed under `term`. Empty data is a new leader's
    /// no-op. Time moves first, then the commands are carried out in order, then a bounded number of holds that
    /// are due expire and a bounded number of old outcomes are forgotten.
    ///
    /// # Errors
    /// [`EntryError`] if the data is not a batch. Nothing was changed; the replica must not go on.
    ///
    /// # Panics
    /// If `index` does not rise, or an invariant is broken: the caller must not survive either.
    pub fn apply(
        &mut self,
        index: u64,
        term: u64,
        data: &[u8],
        effects: &mut impl Effects,
    ) -> Result<Applied, EntryError> {
        assert!(index > self.index, "entry {index} came after entry {}: the log goes up", self.index);
        if data.is_empty() {
            self.index = index;
            return Ok(Applied::default());
        }
        let batch = Batch::access(data)?;
        self.index = index;
        if batch.proposer_term.to_native() != term && !fault::is_on(Mutant::TermUnchecked) {
            return Ok(Applied { voided: true, commands: 0 });
        }
        self.advance(batch.stamp_ms.to_native());
        let commands = Turn::new(self, effects).run(batch);
        Ok(Applied { voided: false, commands })
    }

    /// Moves time towards a proposer's clock: never back, and never far at once. The very first stamp is taken
    /// whole, because a new ledger stands at 1970.
    fn advance(&mut self, stamp_ms: u64) {
        let latest_ms = match self.now_ms {
            0 => stamp_ms,
            _ if fault::is_on(Mutant::TimeJumps) => stamp_ms,
            now_ms => now_ms.saturating_add(ADVANCE_MS_MAX),
        };
        let floor_ms = if fault::is_on(Mutant::TimeFalls) { 0 } else { self.now_ms };
        self.now_ms = floor_ms.max(stamp_ms.min(latest_ms));
    }

    /// The index of the last entry applied.
    pub fn index(&self) -> u64 {
        self.index
    }

    /// Ledger time, milliseconds since 1970; 0 before the first entry.
    pub fn now_ms(&self) -> u64 {
        self.now_ms
    }

    /// Index and time, as answers carry them.
    pub fn at(&self) -> At {
        At { index: self.index, time_ms: self.now_ms }
    }

    /// The sequence of the last event; 0 before the first.
    pub fn sequence(&self) -> u64 {
        self.sequence
    }

    /// Its consumer groups.
    pub fn groups(&self) -> &Groups {
        &self.groups
    }

    /// What every replica of this ledger has agreed on.
    pub fn settings(&self) -> Settings {
        self.settings
    }
}

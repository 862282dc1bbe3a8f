//! The judges of a run. The world tells [`Checkers`] all that happens, in the order in which it happens; each checker
//! holds one invariant, and the first that is broken ends the run.

mod setup;

use sluice_core::ledger::Ledger;
use sluice_core::replica::disk::{Append, LogEntry, Members};

pub use self::setup::{Kept, Setup, Spoke, Tally, Violation};
use crate::history::{Call, CallId, History, Reply};

/// See the module.
#[derive(Debug)]
pub struct Checkers {
    setup: Setup,
    history: History,
}

impl Checkers {
    /// The judges of one run.
    pub fn new(setup: Setup) -> Self {
        Self { setup, history: History::default() }
    }

    /// A client sends an item.
    pub fn sent(&mut self, call: Call) -> CallId {
        self.history.sent(call)
    }

    /// The client hears the answer.
    ///
    /// # Errors
    /// [`Violation`]
    pub fn heard(&mut self, call: CallId, at_us: u64, reply: Reply) -> Result<(), Violation> {
        self.history.heard(call, at_us, reply);
        Ok(())
    }

    /// A node believes to lead.
    ///
    /// # Errors
    /// [`Violation`]
    pub fn became_leader(&mut self, _node: u64, _term: u64) -> Result<(), Violation> {
        Ok(())
    }

    /// The membership as of a committed entry; joint: both halves. Told once by whichever node applies it first, or by all.
    pub fn members(&mut self, _index: u64, _members: &Members) {}

    /// This step is now synced on the node's disk. Told in the order of the steps, before the node hears of it.
    ///
    /// # Errors
    /// [`Violation`]
    pub fn durable(&mut self, _node: u64, _append: &Append) -> Result<(), Violation> {
        Ok(())
    }

    /// What the node's disk holds after a crash, or after it was wiped, rolled back or damaged: what the node will
    /// recover from.
    pub fn lost(&mut self, _node: u64, _kept: &Kept<'_>) {}

    /// The node applied an entry.
    ///
    /// # Errors
    /// [`Violation`]
    pub fn applied(&mut self, _node: u64, _entry: &LogEntry, _ledger: &Ledger) -> Result<(), Violation> {
        Ok(())
    }

    /// The node's ledger was loaded from a snapshot: its own, or one that a peer sent.
    ///
    /// # Errors
    /// [`Violation`]
    pub fn installed(&mut self, _node: u64, _index: u64, _ledger: &Ledger) -> Result<(), Violation> {
        Ok(())
    }

    /// What an open gate has of a product, and what the ledger of the same node has free.
    ///
    /// # Errors
    /// [`Violation`]
    pub fn gate(
        &mut self,
        _node: u64,
        _product: u64,
        _tokens: u64,
        _available: u64,
    ) -> Result<(), Violation> {
        Ok(())
    }

    /// The node's process ended, or refused to start.
    pub fn stopped(&mut self, _node: u64) {}

    /// A process of the node runs.
    pub fn started(&mut self, _node: u64) {}

    /// The node did what only a sound member may do.
    ///
    /// # Errors
    /// [`Violation`]
    pub fn spoke(&mut self, _node: u64, _what: Spoke) -> Result<(), Violation> {
        Ok(())
    }

    /// All faults are over from now on.
    pub fn healed(&mut self, _at_us: u64) {}

    /// Nothing is in flight anywhere, and all nodes have applied all: their ledgers, and the tokens of the leader's gate
    /// by product.
    ///
    /// # Errors
    /// [`Violation`]
    pub fn quiet(&mut self, _nodes: &[(u64, &Ledger)], _tokens: &[(u64, u64)]) -> Result<(), Violation> {
        Ok(())
    }

    /// The run is over.
    ///
    /// # Errors
    /// [`Violation`]
    pub fn finish(self) -> Result<Tally, Violation> {
        let _ = (self.setup, self.history);
        Ok(Tally::default())
    }
}

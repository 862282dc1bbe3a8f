//! Invariant 13, rule P: an entry is applied only after a quorum has it on disk, synced; and a node says only what it has
//! applied.

use std::collections::BTreeMap;

use sluice_core::replica::disk::{Append, LogEntry};

use super::Violation;
use super::disks::Disks;
use super::setup::violation;
use crate::history::Reply;
use crate::model::checksum;

/// See the module.
#[derive(Debug, Default)]
pub struct Quorum {
    /// Entries and answers looked at.
    pub checks: u64,
    /// The highest index that a node ever applied.
    applied: BTreeMap<u64, u64>,
    /// Entries that a quorum once held and nobody has applied yet, by index: terms and checksums. Whoever counted it knows,
    /// also if one of the disks was lost since.
    held: BTreeMap<u64, Vec<(u64, u32)>>,
}

impl Quorum {
    /// A step was synced somewhere; `disks` knows it.
    pub fn durable(&mut self, append: &Append, disks: &Disks) {
        for entry in &append.entries {
            let sum = checksum(entry);
            if disks.quorum_holds(entry.index, entry.term, sum) {
                self.held.entry(entry.index).or_default().push((entry.term, sum));
            }
        }
    }

    /// A node applied an entry, `first`: before all others.
    ///
    /// # Errors
    /// [`Violation`]
    pub fn applied(
        &mut self,
        node: u64,
        entry: &LogEntry,
        first: bool,
        disks: &Disks,
    ) -> Result<(), Violation> {
        self.reached(node, entry.index);
        if !first {
            return Ok(());
        }
        self.checks += 1;
        let (index, term, checksum) = (entry.index, entry.term, checksum(entry));
        let held = self.held.get(&index).is_some_and(|held| held.contains(&(term, checksum)));
        if held || disks.quorum_holds(index, term, checksum) {
            self.held = self.held.split_off(&(index + 1));
            return Ok(());
        }
        violation!(
            "quorum",
            "node {node} applies entry {index} of term {term}, which only the disks of {:?} hold",
            disks.holders(index, term, checksum)
        )
    }

    /// A node's ledger has come to an index.
    pub fn reached(&mut self, node: u64, index: u64) {
        let highest = self.applied.entry(node).or_default();
        *highest = index.max(*highest);
    }

    /// A client heard a reply of a node.
    ///
    /// # Errors
    /// [`Violation`]
    pub fn heard(&mut self, node: u64, reply: &Reply) -> Result<(), Violation> {
        let highest = self.applied.get(&node).copied().unwrap_or(0);
        for answer in reply.answers() {
            self.checks += 1;
            if answer.at().index > highest {
                return violation!("quorum", "node {node} answers {answer:?}, and has applied {highest}");
            }
        }
        Ok(())
    }
}

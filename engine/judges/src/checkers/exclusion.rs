//! Invariant 14: a node that is stopped, or has lost what it had synced, never votes, leads or serves.

use std::collections::{BTreeMap, BTreeSet};

use super::Violation;
use super::setup::{Spoke, violation};

/// See the module.
#[derive(Debug, Default)]
pub struct Exclusion {
    /// Votes, leaderships and answers looked at.
    pub checks: u64,
    stopped: BTreeSet<u64>,
    /// Nodes that lost something, and what.
    forgetful: BTreeMap<u64, String>,
}

impl Exclusion {
    /// The node's process ended, or refused to start.
    pub fn stopped(&mut self, node: u64) {
        self.stopped.insert(node);
    }

    /// A process of the node runs.
    pub fn started(&mut self, node: u64) {
        self.stopped.remove(&node);
    }

    /// The node's disk lacks what it had synced. A node id never recovers from that.
    pub fn forgot(&mut self, node: u64, what: String) {
        self.forgetful.entry(node).or_insert(what);
    }

    /// The node did what only a sound member may do.
    ///
    /// # Errors
    /// [`Violation`]
    pub fn spoke(&mut self, node: u64, what: Spoke) -> Result<(), Violation> {
        self.checks += 1;
        let did = match what {
            Spoke::Vote => "votes",
            Spoke::Lead => "leads",
            Spoke::Serve => "answers clients",
        };
        if self.stopped.contains(&node) {
            return violation!("exclusion", "node {node} {did}, and is stopped");
        }
        match self.forgetful.get(&node) {
            Some(lost) => {
                violation!("exclusion", "node {node} {did}, although its disk has lost something: {lost}")
            }
            None => Ok(()),
        }
    }
}

//! Flights that wait for the log, and the entries made of them.
//!
//! An entry takes whole flights, in the order they came, up to [`ENTRY_BYTES_MAX`]; neighbours of one kind share a
//! group. Deliberately not here: when to propose.

use std::collections::VecDeque;

use crate::flight::{Flight, Load};
use crate::ledger::command::{Batch, Group};

/// Bytes of one encoded entry. The log store relies on it.
pub const ENTRY_BYTES_MAX: usize = 64 * 1024;

/// What an entry takes beside its groups, generously.
const ENTRY_OVERHEAD: usize = 64;

/// See the module.
#[derive(Debug, Default)]
pub(super) struct Waiting {
    flights: VecDeque<Box<Flight>>,
    bytes: usize,
}

/// A flight's commands.
fn group(flight: &Flight) -> &Group {
    match &flight.load {
        Load::Commands(group) => group,
        other => unreachable!("only commands wait for the log, not {other:?}"),
    }
}

impl Waiting {
    pub(super) fn push(&mut self, flight: Box<Flight>) {
        self.bytes += group(&flight).encoded_len();
        self.flights.push_back(flight);
    }

    /// Bytes that the waiting commands would take in entries.
    pub(super) fn bytes(&self) -> usize {
        self.bytes
    }

    pub(super) fn len(&self) -> usize {
        self.flights.len()
    }

    pub(super) fn is_empty(&self) -> bool {
        self.flights.is_empty()
    }

    /// Takes everything, for an answer that is not the log's.
    pub(super) fn drain(&mut self) -> impl Iterator<Item = Box<Flight>> + '_ {
        self.bytes = 0;
        self.flights.drain(..)
    }

    /// The next entry and the flights in it.
    pub(super) fn take(&mut self, proposer_term: u64, stamp_ms: u64) -> (Batch, Vec<Box<Flight>>) {
        let mut batch = Batch { proposer_term, stamp_ms, groups: Vec::new() };
        let mut taken = Vec::new();
        let mut bytes = ENTRY_OVERHEAD;
        while let Some(flight) = self.flights.front() {
            let more = group(flight).encoded_len();
            if bytes + more > ENTRY_BYTES_MAX && !taken.is_empty() {
                break;
            }
            let flight = self.flights.pop_front().expect("it was just looked at");
            bytes += more;
            self.bytes -= more;
            let commands = group(&flight);
            if !batch.groups.last_mut().is_some_and(|last| last.absorb(commands)) {
                batch.groups.push(commands.clone());
            }
            taken.push(flight);
        }
        (batch, taken)
    }
}

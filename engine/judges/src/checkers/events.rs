//! What the judges are told of events: where nodes make them, and where their files keep them.
//!
//! Where disks lie, the log itself may be gone, and nothing is demanded of what it made. Deliberately not here: what must
//! hold ([`super::stream`]).

use sluice_protocol::event::EventRecord;

use super::groups::Table;
use super::{Checkers, Violation};
use crate::history::Delivery;

/// What a node's files of events hold when they are opened.
#[derive(Clone, Copy, Debug)]
pub struct Opened<'a> {
    /// The last event of the ledger that was recovered.
    pub upto: u64,
    /// All that can be read, in order.
    pub events: &'a [EventRecord],
    /// The sequence with which they go on.
    pub next: u64,
}

impl Checkers {
    /// The node's files of events were opened, before it makes any.
    ///
    /// # Errors
    /// [`Violation`]
    pub fn events_opened(&mut self, node: u64, opened: Opened<'_>) -> Result<(), Violation> {
        let Opened { upto, events, next } = opened;
        self.stream.began(node, upto + 1);
        if !self.setup.honest {
            return Ok(());
        }
        self.stream.opened(node, upto, events.iter(), next, &self.common.timeline)
    }

    /// A received snapshot took the ledger's place: the next event that the node makes.
    pub fn events_reset(&mut self, node: u64, next: u64) {
        self.stream.began(node, next);
    }

    /// The node made events. Told behind the entries that made them.
    ///
    /// # Errors
    /// [`Violation`]
    pub fn events_made(&mut self, node: u64, events: &[EventRecord]) -> Result<(), Violation> {
        if !self.setup.honest {
            return Ok(());
        }
        self.stream.made(node, events, &self.common.timeline)
    }

    /// These events are durable on the node from now on.
    pub fn events_durable(&mut self, node: u64, sequences: impl Iterator<Item = u64>) {
        self.stream.durable(node, sequences);
    }

    /// Somebody took from the node's disk what was durable.
    pub fn events_taken(&mut self, node: u64) {
        self.stream.forgot(node);
    }

    /// The node dropped its events up to `upto`, when its ledger was at `index`.
    ///
    /// # Errors
    /// [`Violation`]
    pub fn events_dropped(&mut self, node: u64, upto: u64, index: u64) -> Result<(), Violation> {
        if !self.setup.honest {
            return Ok(());
        }
        self.stream.dropped(node, upto, index, &self.common.timeline)
    }

    /// The node answers a fetch.
    ///
    /// # Errors
    /// [`Violation`]
    pub fn delivered(&mut self, node: u64, delivery: &Delivery) -> Result<(), Violation> {
        if !self.setup.honest {
            return Ok(());
        }
        self.groups.delivered(node, delivery, &mut self.stream, &self.common.timeline)
    }

    /// Nothing is in flight, and every group has come to the end: what its consumers made of events, by its number.
    ///
    /// # Errors
    /// [`Violation`]
    pub fn consumed<'a>(&mut self, tables: impl Iterator<Item = (u32, &'a Table)>) -> Result<(), Violation> {
        if !self.setup.honest {
            return Ok(());
        }
        self.groups.quiet(tables, &self.common.timeline)
    }

    /// What a node misses is kept by nobody: retention let go of it everywhere.
    pub fn events_gone(&mut self, node: u64, upto: u64) {
        self.stream.gone(node, upto);
    }

    /// Events as they were read from the node's files.
    ///
    /// # Errors
    /// [`Violation`]
    pub fn events_read(&mut self, node: u64, events: &[EventRecord]) -> Result<(), Violation> {
        if !self.setup.honest {
            return Ok(());
        }
        events.iter().try_for_each(|event| self.stream.look(node, "reads", event, &self.common.timeline))
    }
}

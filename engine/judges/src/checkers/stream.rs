//! Invariant 8: the stream is what the committed log changed, in its order, dense, and the same on all nodes.
//!
//! Looked at where events are made, where a node's files say which they have, and where somebody gets them. What a node has
//! made durable it has for good, unless retention has let go of it, and that goes no further than the groups allow.
//!
//! Deliberately not here: who should get which events (`groups`).

use std::collections::{BTreeMap, BTreeSet};

use sluice_protocol::event::EventRecord;

use super::Violation;
use super::setup::violation;
use crate::model::Timeline;

/// What one node has told.
#[derive(Debug, Default)]
struct Node {
    /// The sequence of the next event that it makes.
    next: u64,
    /// What its files must have.
    durable: BTreeSet<u64>,
    /// The last sequence that retention has let go of.
    dropped: u64,
}

/// See the module.
#[derive(Debug, Default)]
pub struct Stream {
    /// Events looked at.
    pub checks: u64,
    nodes: BTreeMap<u64, Node>,
}

impl Stream {
    /// A node goes on behind what its ledger has told, which was just loaded.
    pub fn began(&mut self, node: u64, next: u64) {
        self.nodes.entry(node).or_default().next = next;
    }

    /// A node made events.
    ///
    /// # Errors
    /// [`Violation`]
    pub fn made(&mut self, node: u64, events: &[EventRecord], timeline: &Timeline) -> Result<(), Violation> {
        let next = &mut self.nodes.entry(node).or_default().next;
        for event in events {
            if event.sequence() != *next {
                return violation!(
                    "stream",
                    "node {node} makes event {} where {next} is next",
                    event.sequence()
                );
            }
            *next += 1;
        }
        events.iter().try_for_each(|event| self.look(node, "makes", event, timeline))
    }

    /// One event is what the log says.
    ///
    /// # Errors
    /// [`Violation`]
    pub fn look(
        &mut self,
        node: u64,
        does: &str,
        event: &EventRecord,
        timeline: &Timeline,
    ) -> Result<(), Violation> {
        self.checks += 1;
        let right = timeline.event(event.sequence());
        if right.is_some() && event.view().as_ref() == right {
            return Ok(());
        }
        violation!(
            "stream",
            "node {node} {does} event {}, {:?}, and it should be {right:?}",
            event.sequence(),
            event.view()
        )
    }

    /// These are durable in a node's files.
    pub fn durable(&mut self, node: u64, sequences: impl Iterator<Item = u64>) {
        self.nodes.entry(node).or_default().durable.extend(sequences);
    }

    /// A node's files were wiped, set back or taken over from elsewhere.
    pub fn forgot(&mut self, node: u64) {
        self.nodes.remove(&node);
    }

    /// A node's files are opened for a ledger whose last event was `upto`: what they have then, and which sequence they
    /// expect next.
    ///
    /// # Errors
    /// [`Violation`]
    pub fn opened<'a>(
        &mut self,
        node: u64,
        upto: u64,
        events: impl Iterator<Item = &'a EventRecord>,
        next: u64,
        timeline: &Timeline,
    ) -> Result<(), Violation> {
        if next != upto + 1 {
            return violation!("stream", "node {node} recovers event {upto}; its files go on with {next}");
        }
        let mut here = BTreeSet::new();
        for event in events {
            if event.sequence() > upto {
                let sequence = event.sequence();
                return violation!(
                    "stream",
                    "node {node} recovers event {upto}; its files have {sequence} too"
                );
            }
            self.look(node, "keeps", event, timeline)?;
            here.insert(event.sequence());
        }
        let known = self.nodes.entry(node).or_default();
        if let Some(lost) = known.durable.range(..=upto).find(|sequence| !here.contains(*sequence)) {
            return violation!(
                "stream",
                "event {lost} was durable on node {node}, which recovers event {upto} and has it no more"
            );
        }
        known.durable = here;
        Ok(())
    }

    /// Retention lets go of all events of a node up to `upto`. Its ledger is at `index`, where groups need what is behind.
    ///
    /// # Errors
    /// [`Violation`]
    pub fn dropped(
        &mut self,
        node: u64,
        upto: u64,
        index: u64,
        timeline: &Timeline,
    ) -> Result<(), Violation> {
        self.checks += 1;
        let floor = timeline.floor(index);
        if upto >= floor {
            return violation!(
                "stream",
                "node {node} drops event {upto} at index {index}: {floor} is needed"
            );
        }
        let known = self.nodes.entry(node).or_default();
        known.dropped = known.dropped.max(upto);
        known.durable = known.durable.split_off(&(upto + 1));
        Ok(())
    }

    /// Nobody keeps what a node misses up to `upto`.
    pub fn gone(&mut self, node: u64, upto: u64) {
        let known = self.nodes.entry(node).or_default();
        known.dropped = known.dropped.max(upto);
    }

    /// A node says that nothing before `first` is kept.
    ///
    /// # Errors
    /// [`Violation`]
    pub fn begins(&mut self, node: u64, first: u64) -> Result<(), Violation> {
        self.checks += 1;
        let dropped = self.nodes.get(&node).map_or(0, |known| known.dropped);
        if first <= dropped + 1 {
            return Ok(());
        }
        violation!(
            "stream",
            "node {node} keeps nothing before event {first}, and has dropped {dropped} of them"
        )
    }
}

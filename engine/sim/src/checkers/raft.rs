//! Invariant 12, raft's own: one leader in a term, one vote in a term, logs that agree on an entry agree on all before it,
//! a leader has all that was committed in earlier terms, and what is committed never changes.

use std::collections::BTreeMap;

use sluice_core::replica::disk::{Append, LogEntry};

use super::Violation;
use super::disks::Disks;
use super::setup::violation;
use crate::model::{Timeline, checksum};

/// An entry as some log held it: its term and checksum, and the term of the entry before it.
type Seen = (u64, u32, Option<u64>);

/// See the module.
#[derive(Debug, Default)]
pub struct Raft {
    /// Elections, entries and votes looked at.
    pub checks: u64,
    /// Who led in a term.
    leaders: BTreeMap<u64, u64>,
    /// By index, each entry that any log ever held.
    seen: Vec<Vec<Seen>>,
    /// The first index at which a term has an entry in any log.
    begins: BTreeMap<u64, u64>,
}

impl Raft {
    /// A node believes to lead.
    ///
    /// # Errors
    /// [`Violation`]
    pub fn became_leader(&mut self, node: u64, term: u64) -> Result<(), Violation> {
        self.checks += 1;
        let leader = *self.leaders.entry(term).or_insert(node);
        if leader == node {
            return Ok(());
        }
        violation!("raft", "nodes {leader} and {node} both lead in term {term}")
    }

    /// A step is about to count as synced; `disks` holds what was there before.
    ///
    /// # Errors
    /// [`Violation`]
    pub fn durable(
        &mut self,
        node: u64,
        append: &Append,
        disks: &Disks,
        timeline: &Timeline,
    ) -> Result<(), Violation> {
        self.votes(node, append, disks)?;
        let Some(first) = append.entries.first() else { return Ok(()) };
        let disk = disks.get(node);
        let last = append.reset.map_or(disk.map_or(0, super::disks::Disk::last), |(index, _)| index);
        if first.index > last + 1 {
            return violation!(
                "raft",
                "node {node} writes entry {} behind its last one, {last}",
                first.index
            );
        }
        let end = append.entries.last().map_or(0, |entry| entry.index);
        // What it had beyond may have been its own, and never committed.
        let cut = (end + 1..=last.min(timeline.top())).find(|index| {
            let held = |disk: &super::disks::Disk| {
                timeline.step(*index).is_some_and(|step| disk.holds(*index, step.term, step.checksum))
            };
            append.reset.is_none() && disk.is_some_and(held)
        });
        if let Some(cut) = cut {
            return violation!("raft", "node {node} cuts its log at {end}, and with it entry {cut}, which is committed");
        }
        let before = first.index - 1;
        let mut before = match append.reset {
            Some((index, term)) if index == before => Some(term),
            _ => disk.and_then(|disk| disk.term(before)).or((before == 0).then_some(0)),
        };
        for entry in &append.entries {
            self.entry(node, entry, before, disk, timeline)?;
            before = Some(entry.term);
        }
        Ok(())
    }

    fn votes(&mut self, node: u64, append: &Append, disks: &Disks) -> Result<(), Violation> {
        let (Some(new), Some(disk)) = (append.hard_state, disks.get(node)) else { return Ok(()) };
        self.checks += 1;
        let old = disk.hard_state;
        if new.term < old.term {
            return violation!("raft", "node {node} goes back from term {} to {}", old.term, new.term);
        }
        if new.term == old.term && old.vote != 0 && new.vote != old.vote {
            return violation!(
                "raft",
                "node {node} votes for {} in term {}, after {}",
                new.vote,
                new.term,
                old.vote
            );
        }
        Ok(())
    }

    fn entry(
        &mut self,
        node: u64,
        entry: &LogEntry,
        before: Option<u64>,
        disk: Option<&super::disks::Disk>,
        timeline: &Timeline,
    ) -> Result<(), Violation> {
        self.checks += 1;
        let (index, term, sum) = (entry.index, entry.term, checksum(entry));
        // A leader that was deposed and does not know it may write what will never be committed, but not over what is.
        if let Some(step) = timeline.step(index)
            && (step.term, step.checksum) != (term, sum)
            && (term >= step.term || disk.is_some_and(|disk| disk.holds(index, step.term, step.checksum)))
        {
            return violation!(
                "raft",
                "node {node} writes entry {index} of term {term}; another one, of term {}, is committed there",
                step.term
            );
        }
        let begin = self.begins.entry(term).or_insert(index);
        *begin = index.min(*begin);
        let at = usize::try_from(index).expect("logs fit into memory");
        if self.seen.len() <= at {
            self.seen.resize(at + 1, Vec::new());
        }
        let Some(known) = self.seen[at].iter_mut().find(|(known, ..)| *known == term) else {
            self.seen[at].push((term, sum, before));
            return Ok(());
        };
        if known.1 != sum {
            return violation!(
                "raft",
                "two entries of index {index} and term {term}; node {node} has one of them"
            );
        }
        if let (Some(known), Some(before)) = (known.2, before)
            && known != before
        {
            return violation!(
                "raft",
                "logs agree on entry {index} of term {term} but not on the one before: terms {known} and, on node {node}, {before}"
            );
        }
        known.2 = known.2.or(before);
        Ok(())
    }

    /// A node applies an entry, of which `timeline` knows already what it must be.
    ///
    /// # Errors
    /// [`Violation`]
    pub fn applied(&mut self, node: u64, entry: &LogEntry, timeline: &Timeline) -> Result<(), Violation> {
        self.checks += 1;
        let (index, term) = (entry.index, entry.term);
        let Some(step) = timeline.step(index) else { return Ok(()) };
        if (step.term, step.checksum) == (term, checksum(entry)) {
            return Ok(());
        }
        violation!(
            "raft",
            "node {node} applies entry {index} of term {term}; another one, of term {}, was applied there before",
            step.term
        )
    }

    /// An entry is known to be committed from now on.
    ///
    /// # Errors
    /// [`Violation`]
    pub fn committed(&mut self, entry: &LogEntry) -> Result<(), Violation> {
        let later = self.begins.range(entry.term + 1..).find(|(_, begin)| **begin <= entry.index);
        let Some((term, begin)) = later else { return Ok(()) };
        violation!(
            "raft",
            "entry {} of term {} is committed, and the leader of term {term} began to write at {begin}: it lacked it",
            entry.index,
            entry.term
        )
    }
}

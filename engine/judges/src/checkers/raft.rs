//! Invariant 12, raft's own: one leader in a term, one vote in a term, logs that agree on an entry agree on all before it,
//! a leader has all that was committed in earlier terms, and what is committed never changes.

use std::collections::{BTreeMap, BTreeSet};

use sluice_core::replica::disk::{Append, HardState, LogEntry};

use super::Violation;
use super::disks::{Disk, Disks};
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
    /// By term and candidate: who had a vote for it on disk, ever.
    votes: BTreeMap<(u64, u64), BTreeSet<u64>>,
    /// By index, each entry that any log ever held.
    seen: Vec<Vec<Seen>>,
    /// The first index at which a term has an entry in any log.
    begins: BTreeMap<u64, u64>,
    /// Raft's own of each node whose log was found, as of the last time.
    found: BTreeMap<u64, HardState>,
}

impl Raft {
    /// A node believes to lead.
    ///
    /// # Errors
    /// [`Violation`]
    pub fn became_leader(&mut self, node: u64, term: u64, disks: &Disks) -> Result<(), Violation> {
        self.checks += 1;
        let leader = *self.leaders.entry(term).or_insert(node);
        if leader != node {
            return violation!("raft", "nodes {leader} and {node} both lead in term {term}");
        }
        let votes = self.votes.get(&(term, node)).cloned().unwrap_or_default();
        // A voter alone need not wait for its own disk; of others, a vote that is not on disk does not count.
        if disks.is_quorum(u64::MAX, |voter| *voter == node || votes.contains(voter)) {
            return Ok(());
        }
        violation!("raft", "node {node} leads in term {term}, and only {votes:?} have synced a vote for it")
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
        let last = append.reset.map_or(disk.map_or(0, Disk::last), |(index, _)| index);
        if first.index > last + 1 {
            return violation!(
                "raft",
                "node {node} writes entry {} behind its last one, {last}",
                first.index
            );
        }
        if append.reset.is_none()
            && let Some(disk) = disk
        {
            Self::keeps(node, append, disk, timeline)?;
        }
        let before = first.index - 1;
        let mut before = match append.reset {
            Some((index, term)) if index == before => Some(term),
            _ => disk.and_then(|disk| disk.term(before)).or((before == 0).then_some(0)),
        };
        for entry in &append.entries {
            self.entry(node, entry, before, timeline)?;
            before = Some(entry.term);
        }
        Ok(())
    }

    /// Whether a node keeps what it has of the committed log. Of anything else it may write what it likes: a leader that was
    /// deposed does not know it yet.
    fn keeps(node: u64, append: &Append, disk: &Disk, timeline: &Timeline) -> Result<(), Violation> {
        let committed = |index| timeline.step(index).map(|step| (step.term, step.checksum));
        let had = |index| {
            let committed = committed(index)?;
            (disk.entry(index) == Some(committed)).then_some(committed)
        };
        for entry in &append.entries {
            if let Some(right) = had(entry.index)
                && right != (entry.term, checksum(entry))
            {
                return violation!(
                    "raft",
                    "node {node} had entry {} of term {}, which is committed, and replaces it by one of term {}",
                    entry.index,
                    right.0,
                    entry.term
                );
            }
        }
        let end = append.entries.last().map_or(0, |entry| entry.index);
        match had(end + 1) {
            None => Ok(()),
            Some(_) => {
                violation!("raft", "node {node} cuts its log at {end}: entry {} is committed", end + 1)
            }
        }
    }

    fn votes(&mut self, node: u64, append: &Append, disks: &Disks) -> Result<(), Violation> {
        let Some(new) = append.hard_state else { return Ok(()) };
        self.votes.entry((new.term, new.vote)).or_default().insert(node);
        let Some(disk) = disks.get(node) else { return Ok(()) };
        self.follows(node, disk.hard_state, new)
    }

    fn follows(&mut self, node: u64, old: HardState, new: HardState) -> Result<(), Violation> {
        self.checks += 1;
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
        timeline: &Timeline,
    ) -> Result<(), Violation> {
        self.checks += 1;
        let (index, term, sum) = (entry.index, entry.term, checksum(entry));
        if let Some(step) = timeline.step(index)
            && (step.term < term || step.term == term && step.checksum != sum)
        {
            return violation!(
                "raft",
                "node {node} writes entry {index} of term {term}; another one, of term {}, was committed there before",
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

    /// A log was found, of a node that does not run. Told in the order in which they are found. How it came to be is not
    /// known; so it is held against other logs, and `timeline` is still empty.
    ///
    /// # Errors
    /// [`Violation`]
    pub fn found(
        &mut self,
        node: u64,
        hard_state: HardState,
        entries: &[LogEntry],
        timeline: &Timeline,
    ) -> Result<(), Violation> {
        if let Some(old) = self.found.insert(node, hard_state) {
            self.follows(node, old, hard_state)?;
        }
        let mut before = entries.first().filter(|first| first.index == 1).map(|_| 0);
        for entry in entries {
            self.entry(node, entry, before, timeline)?;
            before = Some(entry.term);
        }
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

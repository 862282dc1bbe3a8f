//! What each node's disk holds, synced: the ground that several checkers stand on. Holds no invariant itself.

use std::collections::{BTreeMap, VecDeque};

use sluice_core::replica::disk::{Append, HardState, Members};

use super::setup::Kept;
use crate::model::checksum;

/// One disk.
#[derive(Clone, Debug, Default)]
pub struct Disk {
    /// Index and term up to which a snapshot stands for the log.
    base: (u64, u64),
    /// Term and checksum of the entries behind it.
    entries: VecDeque<(u64, u32)>,
    /// Raft's own.
    pub hard_state: HardState,
}

impl Disk {
    /// The last index it holds.
    pub fn last(&self) -> u64 {
        self.base.0 + self.entries.len() as u64
    }

    /// The term of an entry, if it is still there as one, or is the snapshot's.
    pub fn term(&self, index: u64) -> Option<u64> {
        if index == self.base.0 {
            return Some(self.base.1);
        }
        self.entry(index).map(|(term, _)| term)
    }

    /// Term and checksum of an entry, unless a snapshot stands for it.
    pub fn entry(&self, index: u64) -> Option<(u64, u32)> {
        let at = index.checked_sub(self.base.0 + 1)?;
        self.entries.get(usize::try_from(at).ok()?).copied()
    }

    /// Whether it holds exactly this entry, or a snapshot that stands for it.
    pub fn holds(&self, index: u64, term: u64, checksum: u32) -> bool {
        index <= self.base.0 || self.entry(index) == Some((term, checksum))
    }

    fn write(&mut self, append: &Append) {
        if let Some(hard_state) = append.hard_state {
            self.hard_state = hard_state;
        }
        if let Some(reset) = append.reset {
            self.base = reset;
            self.entries.clear();
        }
        if let Some(first) = append.entries.first() {
            let keep = first.index.saturating_sub(self.base.0 + 1);
            self.entries.truncate(usize::try_from(keep).unwrap_or(usize::MAX));
            let behind = append.entries.iter().filter(|entry| entry.index > self.base.0);
            self.entries.extend(behind.map(|entry| (entry.term, checksum(entry))));
        }
        while self.base.0 < append.compact_to {
            let Some((term, _)) = self.entries.pop_front() else { break };
            self.base = (self.base.0 + 1, term);
        }
    }

    fn of(kept: &Kept<'_>) -> Self {
        let log = kept.log.iter().filter(|entry| entry.index > kept.snapshot.0);
        let entries = log.map(|entry| (entry.term, checksum(entry))).collect();
        Self { base: kept.snapshot, entries, hard_state: kept.hard_state }
    }

    /// Whether it lacks something that `before` held.
    fn lacks(&self, before: &Self) -> Option<String> {
        if self.hard_state.term < before.hard_state.term {
            return Some(format!(
                "it was in term {}, and is in {}",
                before.hard_state.term, self.hard_state.term
            ));
        }
        let voted = before.hard_state.vote;
        if self.hard_state.term == before.hard_state.term && voted != 0 && self.hard_state.vote != voted {
            return Some(format!("it had voted for {voted} in term {}", before.hard_state.term));
        }
        let mut indexes = before.base.0 + 1..=before.last();
        let gone = indexes.find(|index| {
            before.entry(*index).is_some_and(|(term, checksum)| !self.holds(*index, term, checksum))
        });
        if let Some(index) = gone {
            return Some(format!("it had entry {index}"));
        }
        (self.last() < before.base.0).then(|| format!("it had a snapshot of index {}", before.base.0))
    }
}

/// All disks, and the memberships.
#[derive(Debug)]
pub struct Disks {
    disks: BTreeMap<u64, Disk>,
    /// Memberships by the index of their entry.
    members: BTreeMap<u64, Members>,
}

/// The commit of an entry may have been counted by a leader that had not applied the last changes of membership yet; no
/// more than two can be under way.
const MEMBERSHIPS: usize = 3;

impl Disks {
    /// Empty disks, and the first membership.
    pub fn new(members: &Members) -> Self {
        Self { disks: BTreeMap::new(), members: BTreeMap::from([(0, members.clone())]) }
    }

    /// One of them, if anything was written to it.
    pub fn get(&self, node: u64) -> Option<&Disk> {
        self.disks.get(&node)
    }

    /// A step was synced.
    pub fn durable(&mut self, node: u64, append: &Append) {
        self.disks.entry(node).or_default().write(append);
    }

    /// What is there when the node recovers. Tells what it had synced and lacks now.
    pub fn recovered(&mut self, node: u64, kept: &Kept<'_>) -> Option<String> {
        let disk = Disk::of(kept);
        let lacks = self.disks.get(&node).and_then(|before| disk.lacks(before));
        self.disks.insert(node, disk);
        lacks
    }

    /// A membership was committed.
    pub fn members(&mut self, index: u64, members: &Members) {
        self.members.insert(index, members.clone());
    }

    /// Whether a quorum of some membership that may have counted it holds an entry.
    pub fn quorum_holds(&self, index: u64, term: u64, checksum: u32) -> bool {
        self.is_quorum(index, |node| {
            self.disks.get(node).is_some_and(|disk| disk.holds(index, term, checksum))
        })
    }

    /// Whether those of whom `is_for` says so are a quorum of a membership that somebody may go by at an index.
    pub fn is_quorum(&self, index: u64, is_for: impl Fn(&u64) -> bool) -> bool {
        let majority = |voters: &[u64]| {
            voters.is_empty() || 2 * voters.iter().filter(|node| is_for(node)).count() > voters.len()
        };
        let recent = self.members.range(..=index).rev().take(MEMBERSHIPS);
        recent.into_iter().any(|(_, members)| {
            !members.voters.is_empty() && majority(&members.voters) && majority(&members.outgoing)
        })
    }

    /// Who holds an entry, for people.
    pub fn holders(&self, index: u64, term: u64, checksum: u32) -> Vec<u64> {
        let holders = self.disks.iter().filter(|(_, disk)| disk.holds(index, term, checksum));
        holders.map(|(node, _)| *node).collect()
    }
}

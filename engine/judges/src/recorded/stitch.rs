//! The committed log, put together from the logs of nodes that were stopped or killed, each of which may lack its front.
//!
//! Where it ends is what the nodes that stopped cleanly had applied. From there it goes back: a piece belongs to it as far as
//! its node knew it to be committed, and in front of an entry that belongs to it, since logs that agree on an entry agree on
//! all before it. That this is so is not believed but checked ([`crate::checkers::raft`]).
//!
//! Before the first client comes nodes join, and logs are cut for that. What is missing then, a snapshot stands for in which
//! nothing is: entries without commands take its place.

use sluice_core::ledger::command::Batch;
use sluice_core::replica::disk::{EntryKind, LogEntry};
use sluice_protocol::response::At;

use super::FoundLog;

impl FoundLog {
    fn entry(&self, index: u64) -> Option<&LogEntry> {
        let first = self.entries.first()?.index;
        self.entries.get(usize::try_from(index.checked_sub(first)?).ok()?)
    }

    /// Whether what it has up to `index` is committed; `next`: the committed entry behind that, if it is known.
    fn belongs(&self, index: u64, next: Option<&LogEntry>) -> bool {
        let agrees = |next: &LogEntry| self.entry(next.index).is_some_and(|own| own.term == next.term);
        self.hard_state.commit.max(self.applied) >= index || next.is_some_and(agrees)
    }
}

/// The committed log, from index 1 on.
///
/// # Errors
/// A sentence, if a part of it was not found.
pub(super) fn stitch(logs: &[FoundLog]) -> Result<Vec<LogEntry>, String> {
    let ends = logs.iter().filter(|log| log.last).map(|log| log.applied);
    let end = ends.max().ok_or("no node stopped cleanly")?;
    let mut backwards: Vec<LogEntry> = Vec::new();
    let mut missing = end;
    while missing > 0 {
        let next = backwards.last();
        let pieces = logs.iter().filter(|log| log.entry(missing).is_some() && log.belongs(missing, next));
        let piece = pieces.min_by_key(|log| log.entries.first().map(|first| first.index));
        if piece.is_none()
            && let Some(void) = logs.iter().filter_map(|log| log.void).find(|void| void.index >= missing)
        {
            backwards.extend((1..=missing).rev().map(|index| nothing(index, void)));
            break;
        }
        let piece = piece.ok_or_else(|| {
            let have = logs.iter().filter_map(|log| {
                let (first, last) = (log.entries.first()?, log.entries.last()?);
                Some(format!("node {}: {} to {}", log.node, first.index, last.index))
            });
            let have: Vec<_> = have.collect();
            format!("entry {missing} of {end} was found in no log ({})", have.join(", "))
        })?;
        let part = piece.entries.iter().rev().filter(|entry| entry.index <= missing);
        backwards.extend(part.cloned());
        missing = end - backwards.len() as u64;
    }
    backwards.reverse();
    Ok(backwards)
}

/// An entry that only moves time, to where it was when there was still nothing.
fn nothing(index: u64, void: At) -> LogEntry {
    let batch = Batch { proposer_term: 0, stamp_ms: void.time_ms, groups: Vec::new() };
    LogEntry { index, term: 0, kind: EntryKind::Normal, data: batch.encode().into() }
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;
    use sluice_core::replica::disk::{EntryKind, HardState};

    use super::*;

    fn log(node: u64, commit: u64, first: u64, terms: &[u64]) -> FoundLog {
        let entry = |(at, term): (usize, &u64)| LogEntry {
            index: first + at as u64,
            term: *term,
            kind: EntryKind::Normal,
            data: Bytes::new(),
        };
        let entries = terms.iter().enumerate().map(entry).collect();
        let hard_state = HardState { term: 9, vote: 0, commit };
        FoundLog { node, hard_state, applied: 0, void: None, entries, last: false }
    }

    fn last(applied: u64, log: FoundLog) -> FoundLog {
        FoundLog { applied, last: true, ..log }
    }

    fn terms(logs: &[FoundLog]) -> Result<Vec<u64>, String> {
        stitch(logs).map(|log| log.iter().map(|entry| entry.term).collect())
    }

    #[test]
    fn pieces_are_joined_where_they_agree_or_are_known_to_be_committed() {
        let end = last(6, log(1, 6, 5, &[3, 3, 3]));
        // Of the third term node 2 wrote what was lost; its commit index covers what it is asked for.
        let by_commit = log(2, 4, 1, &[1, 1, 2, 2, 2, 2]);
        assert_eq!(terms(&[by_commit, end.clone()]), Ok(vec![1, 1, 2, 2, 3, 3]));
        let by_entry = log(2, 0, 1, &[1, 1, 2, 2, 3]);
        assert_eq!(terms(&[end.clone(), by_entry]), Ok(vec![1, 1, 2, 2, 3, 3]));
        let snapshot_of_four = FoundLog { applied: 4, ..log(2, 0, 1, &[1, 1, 1, 1]) };
        assert_eq!(terms(&[end, snapshot_of_four]), Ok(vec![1, 1, 1, 1, 3, 3]));
    }

    #[test]
    fn a_front_that_nobody_has_is_empty_if_a_snapshot_says_so() {
        let void = |index| Some(At { index, time_ms: 7 });
        let end = last(6, log(1, 6, 4, &[3, 3, 3]));
        let early = |index| FoundLog { void: void(index), ..log(2, 0, 5, &[3]) };
        assert_eq!(terms(&[end.clone(), early(3)]), Ok(vec![0, 0, 0, 3, 3, 3]));
        assert!(terms(&[end, early(2)]).is_err());
    }

    #[test]
    fn what_nobody_knows_to_be_committed_is_not_taken() {
        let end = last(6, log(1, 6, 5, &[3, 3, 3]));
        let stale = log(2, 3, 1, &[1, 1, 2, 2, 2, 2]);
        assert!(terms(&[end.clone(), stale]).is_err());
        let short = log(2, 3, 1, &[1, 1, 2]);
        assert!(terms(&[end.clone(), short]).is_err());
        assert!(terms(&[log(1, 6, 1, &[1, 1, 1, 1, 1, 1])]).is_err(), "nobody stopped");
    }
}

//! What is checked when a store is opened: every record by itself, all of them together, and the whole against the
//! fence.
//!
//! Deliberately not here: files. The records come as an iterator, the refusal leaves as a value.

use std::path::Path;

use sluice_core::fault::Mutant;
use sluice_core::replica::disk::LogEntry;

use super::fence::Mark;
use super::plan::Book;
use super::record::{self, RecordError, RecordKind, STATE_KEY, State};
use super::{Recovered, StoreError};
use crate::failpoint;

/// Why the stored records are refused.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Refusal {
    /// Something is not what was written.
    Damaged(String),
    /// Something that was acknowledged is not there.
    Lost(String),
    /// A record of a later version.
    Newer(u8),
}

impl Refusal {
    /// Says of which file it is, and up to which version this build reads.
    pub(super) fn of(self, file: &Path, supported: u8) -> StoreError {
        match self {
            Self::Damaged(what) => StoreError::damaged(file, what),
            Self::Lost(what) => StoreError::lost(file, what),
            Self::Newer(version) => StoreError::NewerFormat {
                file: file.to_path_buf(),
                found: version.to_string(),
                supported: supported.to_string(),
            },
        }
    }
}

/// What a sound store holds.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Sound {
    pub(super) book: Book,
    pub(super) recovered: Recovered,
    /// The fence that describes it.
    pub(super) mark: Mark,
}

struct Stored {
    entry: LogEntry,
    crc: u32,
}

/// Reads all records, in the order of their keys.
///
/// # Errors
/// [`Refusal`] unless everything that was acknowledged is there, as it was written.
pub(super) fn scan<K: AsRef<[u8]>, V: AsRef<[u8]>>(
    records: impl Iterator<Item = Result<(K, V), String>>,
    fence: &Mark,
) -> Result<Sound, Refusal> {
    let mut stored = Vec::new();
    let mut state: Option<State> = None;
    for pair in records {
        let (key, value) = pair.map_err(Refusal::Damaged)?;
        let (written_by, entry) = read(key.as_ref(), value.as_ref())?;
        stored.extend(entry);
        match &state {
            Some(known) if known.step == written_by.step && *known != written_by => {
                return damaged(format!("two records of step {} disagree", known.step));
            }
            Some(known) if known.step >= written_by.step => {}
            _ => state = Some(written_by),
        }
    }
    let state = state.unwrap_or_default();
    let fence = if failpoint::is_on(Mutant::FenceNotChecked) { &Mark::default() } else { fence };
    if state.step < fence.step {
        return lost(format!(
            "the newest step found is {}, but step {} was acknowledged",
            state.step, fence.step
        ));
    }
    let live = live_part(&stored, &state)?;
    check_order(live, &state)?;
    check_fence(&stored, &state, fence)?;
    let last = live.last();
    let mark = Mark {
        step: state.step,
        index: state.end_index,
        term: last.map_or(0, |s| s.entry.term),
        entry_crc: last.map_or(0, |s| s.crc),
        compact_to: state.compact_to,
    };
    let recovered = Recovered {
        hard_state: state.hard,
        entries: live.iter().map(|s| s.entry.clone()).collect(),
        first_index: live.first().map_or(state.end_index + 1, |s| s.entry.index),
        compact_to: state.compact_to,
        log_base: state.base,
    };
    let book = Book::recovered(state, stored.iter().map(|s| s.entry.index));
    Ok(Sound { book, recovered, mark })
}

fn read(key: &[u8], value: &[u8]) -> Result<(State, Option<Stored>), Refusal> {
    let Ok(key) = <[u8; 8]>::try_from(key) else {
        return damaged(format!("a key of {} bytes, where all have 8", key.len()));
    };
    let index = u64::from_be_bytes(key);
    let record = match record::decode(value) {
        Ok(record) => record,
        Err(RecordError::Newer(version)) => return Err(Refusal::Newer(version)),
        Err(RecordError::Damaged(what)) => return damaged(format!("record {index}: {what}")),
    };
    match record.kind {
        RecordKind::State if key == STATE_KEY => Ok((record.state, None)),
        RecordKind::Entry(kind) if key != STATE_KEY && record.index == index => {
            let entry = LogEntry { index, term: record.term, kind, data: record.data };
            Ok((record.state, Some(Stored { entry, crc: record.crc })))
        }
        _ => damaged(format!("the record under key {index} belongs elsewhere (it says {})", record.index)),
    }
}

/// The contiguous entries that end where the log ends. Below the compaction point holes are the work of removal, and
/// below the base waits what was stored before the log was reset.
fn live_part<'a>(stored: &'a [Stored], state: &State) -> Result<&'a [Stored], Refusal> {
    let stored = &stored[stored.partition_point(|s| s.entry.index <= state.base)..];
    let last = stored.last().map_or(0, |s| s.entry.index);
    if last > state.end_index {
        return damaged(format!("entry {last} lies behind the end of the log, {}", state.end_index));
    }
    if last < state.end_index && state.end_index > state.compact_to {
        return lost(format!("the log ends at entry {last}, but should at {}", state.end_index));
    }
    if last != state.end_index {
        return Ok(&[]);
    }
    let run =
        stored.windows(2).rev().take_while(|pair| pair[0].entry.index + 1 == pair[1].entry.index).count();
    let live = &stored[stored.len().saturating_sub(run + 1)..];
    match live.first() {
        Some(first) if first.entry.index > state.compact_to + 1 => damaged(format!(
            "entry {} is missing, and no snapshot stands for it (compacted up to {})",
            first.entry.index - 1,
            state.compact_to
        )),
        _ => Ok(live),
    }
}

fn check_order(live: &[Stored], state: &State) -> Result<(), Refusal> {
    if let Some(pair) = live.windows(2).find(|pair| pair[0].entry.term > pair[1].entry.term) {
        return damaged(format!("the term falls at entry {}", pair[1].entry.index));
    }
    if live.last().is_some_and(|s| s.entry.term > state.hard.term) {
        return damaged(format!(
            "the last entry is of a later term than the hard state, {}",
            state.hard.term
        ));
    }
    if state.hard.commit > state.end_index {
        return damaged(format!(
            "commit index {} lies behind the end, {}",
            state.hard.commit, state.end_index
        ));
    }
    Ok(())
}

fn check_fence(stored: &[Stored], state: &State, fence: &Mark) -> Result<(), Refusal> {
    if fence.index > state.end_index {
        return lost(format!("the log ends at {}, but {} was acknowledged", state.end_index, fence.index));
    }
    if fence.index <= state.compact_to || fence.term == 0 {
        return Ok(());
    }
    let at = stored.binary_search_by_key(&fence.index, |s| s.entry.index);
    match at.map(|at| &stored[at]) {
        Ok(s) if s.entry.term == fence.term && s.crc == fence.entry_crc => Ok(()),
        Ok(_) => lost(format!("entry {} is not the one that was acknowledged", fence.index)),
        Err(_) => lost(format!("entry {} was acknowledged and is missing", fence.index)),
    }
}

fn damaged<T>(what: String) -> Result<T, Refusal> {
    Err(Refusal::Damaged(what))
}

fn lost<T>(what: String) -> Result<T, Refusal> {
    Err(Refusal::Lost(what))
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;
    use sluice_core::replica::disk::{EntryKind, HardState};

    use super::*;

    /// Steps 1 to 6 wrote entries 5 to 10, of terms 1, 1, 2, 2, 3, 3; in the end all up to 6 are in a snapshot.
    fn records() -> Vec<(Vec<u8>, Vec<u8>)> {
        (1..=6).map(|step| record_of(step, 4 + step, step.div_ceil(2))).collect()
    }

    fn state(step: u64) -> State {
        let hard = HardState { term: step.div_ceil(2), vote: 1, commit: 4 };
        State { step, end_index: 4 + step, compact_to: 6.min(4 + step), hard, base: 0 }
    }

    fn record_of(step: u64, index: u64, term: u64) -> (Vec<u8>, Vec<u8>) {
        let entry = LogEntry { index, term, kind: EntryKind::Normal, data: Bytes::from_static(b"data") };
        (record::key(index).to_vec(), record::encode_entry(&entry, &state(step)).0)
    }

    fn look(records: &[(Vec<u8>, Vec<u8>)], fence: &Mark) -> Result<Sound, Refusal> {
        scan(records.iter().cloned().map(Ok), fence)
    }

    /// The fence that describes the records.
    fn fence() -> Mark {
        look(&records(), &Mark::default()).unwrap().mark
    }

    fn is_lost(records: &[(Vec<u8>, Vec<u8>)], fence: &Mark) -> bool {
        matches!(look(records, fence), Err(Refusal::Lost(_)))
    }

    fn is_damaged(records: &[(Vec<u8>, Vec<u8>)]) -> bool {
        matches!(look(records, &Mark::default()), Err(Refusal::Damaged(_)))
    }

    #[test]
    fn a_whole_log_is_sound_with_or_without_its_old_front() {
        let mut records = records();
        let sound = look(&records, &fence()).unwrap();
        assert_eq!((sound.recovered.first_index, sound.recovered.entries.len()), (5, 6));
        assert_eq!(sound.recovered.hard_state, state(6).hard);
        records.remove(1);
        let sound = look(&records, &fence()).unwrap();
        assert_eq!((sound.recovered.first_index, sound.recovered.entries.len()), (7, 4));
        records.remove(0);
        assert_eq!(look(&records, &fence()).unwrap().recovered.first_index, 7);
    }

    #[test]
    fn a_log_that_ends_early_or_has_a_hole_is_refused() {
        for missing in 2..6 {
            let mut records = records();
            records.remove(missing);
            assert!(look(&records, &fence()).is_err(), "without record {missing}");
        }
        assert!(is_damaged(&[&records()[..2], &records()[3..]].concat()));
        assert!(is_lost(&records()[..5], &fence()));
        assert!(is_lost(&[], &fence()));
    }

    #[test]
    fn a_log_that_is_not_the_fences_is_lost() {
        let fence = fence();
        assert!(is_lost(&records(), &Mark { step: fence.step + 1, ..fence }));
        assert!(is_lost(&records(), &Mark { index: fence.index + 1, ..fence }));
        assert!(is_lost(&records(), &Mark { term: fence.term + 1, ..fence }));
        assert!(is_lost(&records(), &Mark { entry_crc: fence.entry_crc ^ 1, ..fence }));
        // What a snapshot stands for is not looked for.
        assert!(look(&records(), &Mark { index: 5, ..fence }).is_ok());
    }

    #[test]
    fn records_that_contradict_each_other_are_damage() {
        let replaced = |at: usize, record| {
            let mut records = records();
            records[at] = record;
            records
        };
        assert!(is_damaged(&replaced(3, record_of(4, 8, 1))), "the term falls");
        assert!(is_damaged(&replaced(5, record_of(6, 10, 4))), "a term that the hard state has not seen");
        assert!(!is_damaged(&replaced(4, record_of(6, 9, 3))), "one step may write two entries");
        assert!(
            is_damaged(&replaced(3, (record::key(8).to_vec(), record_of(4, 9, 2).1))),
            "under another's key"
        );
        assert!(is_damaged(&replaced(0, (vec![0; 7], record_of(4, 8, 2).1))), "a key of another length");
        let beyond = [records(), vec![record_of(3, 11, 2)]].concat();
        assert!(is_damaged(&beyond), "an entry behind the end");
        let mut state = state(6);
        state.hard.vote = 2;
        let disagree = [vec![(STATE_KEY.to_vec(), record::encode_state(&state))], records()].concat();
        assert!(is_damaged(&disagree), "two states of one step");
    }
}

//! Cuts an append into steps that are small enough for one sync, and knows which keys are stored.
//!
//! Relies on one append being finished before the next begins, and on a failed one ending the store: the book here
//! is moved forward before the disk is. Deliberately not here: bytes, files.

use std::collections::VecDeque;
use std::ops::RangeInclusive;

use sluice_core::replica::disk::{Append, LogEntry};

use super::ENTRY_DATA_MAX;
use super::record::{HEADER_LEN, State};

/// Bytes of records in one step. With the leaves that sled rewrites on the way, a step stays below one 8 MiB segment,
/// so at most one segment begins between two syncs.
pub const STEP_BYTES_MAX: usize = 512 * 1024;

/// Records in one step. Each may make sled rewrite a leaf of up to a megabyte.
pub const STEP_RECORDS_MAX: usize = 32;

/// Keys removed in one step, for the same reason.
pub const STEP_REMOVES_MAX: usize = 16;

/// One atomic batch.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Step<'a> {
    /// Keys to be removed; none of them is in `entries`.
    pub(super) removes: Vec<u64>,
    /// Entries to be written over whatever is there. None: the state is written under its own key.
    pub(super) entries: &'a [LogEntry],
    /// The state that the step leaves.
    pub(super) state: State,
}

/// Which keys are stored, and the state.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Book {
    state: State,
    /// Stored keys in order. All runs but the last lie below the compaction point and wait for removal.
    runs: VecDeque<RangeInclusive<u64>>,
}

/// An append that is being cut.
pub(super) struct Pending<'a> {
    append: &'a Append,
    /// What the log is to be reset to, until that is done.
    reset: Option<State>,
    rest: &'a [LogEntry],
    finished: bool,
}

impl Book {
    /// The book of a store that was just read.
    pub(super) fn recovered(state: State, keys: impl Iterator<Item = u64>) -> Self {
        let mut book = Self { state, runs: VecDeque::new() };
        for key in keys {
            book.stored(key..=key);
        }
        book
    }

    pub(super) fn state(&self) -> State {
        self.state
    }

    /// The first index of the log, `end_index + 1` if it has no entries.
    pub(super) fn first_index(&self) -> u64 {
        match self.runs.back() {
            // What waits for removal below the base may adjoin what stands above it.
            Some(run) if *run.end() == self.state.end_index => (*run.start()).max(self.state.base + 1),
            _ => self.state.end_index + 1,
        }
    }

    /// The last index that stays, if this append removes or replaces what is stored behind it.
    pub(super) fn cut_by(&self, append: &Append) -> Option<u64> {
        let keep = match append.reset {
            Some((index, _)) => index,
            None => append.entries.first()?.index - 1,
        };
        (keep < self.state.end_index).then_some(keep)
    }

    /// Begins an append.
    pub(super) fn begin<'a>(&mut self, append: &'a Append) -> Pending<'a> {
        let begun = begin(&self.state, append);
        let reset = append.reset.map(|_| begun);
        if reset.is_none() {
            self.state = begun;
        }
        Pending { append, reset, rest: &append.entries, finished: false }
    }

    /// The next step of an append; `None` when there is no more.
    pub(super) fn next<'a>(&mut self, pending: &mut Pending<'a>) -> Option<Step<'a>> {
        if pending.finished {
            return None;
        }
        let entries = chunk(pending.rest);
        let mut removes = Vec::new();
        let written = entries.first().zip(entries.last()).map(|(first, last)| (first.index, last.index));
        let emptied = pending.reset.map(|reset| (reset.end_index + 1, reset.end_index));
        if let Some((first, last)) = written.or(emptied) {
            let stale = self.state.end_index.saturating_sub(last);
            if stale > STEP_REMOVES_MAX as u64 {
                return Some(self.shorten(pending));
            }
            removes.extend(last + 1..=self.state.end_index);
            self.cut_behind(first - 1);
            if let Some(reset) = pending.reset.take() {
                self.state = State { step: self.state.step, ..reset };
            }
            if written.is_some() {
                self.stored(first..=last);
            }
        }
        pending.rest = &pending.rest[entries.len()..];
        pending.finished = pending.rest.is_empty();
        self.remove_front(&mut removes, entries);
        advance(&mut self.state, pending.append, entries);
        Some(Step { removes, entries, state: self.state })
    }

    /// A step for a suffix that is too long for one batch: it is shortened from its end, so that what is left is always
    /// the beginning of the log that was.
    fn shorten<'a>(&mut self, pending: &Pending<'a>) -> Step<'a> {
        let (end, commit) = (self.state.end_index, self.state.hard.commit);
        let keep = end - STEP_REMOVES_MAX as u64;
        self.cut_behind(keep);
        advance(&mut self.state, pending.append, &[]);
        // What has been committed since is what takes the suffix's place, and not what is left of it.
        self.state.hard.commit = commit;
        Step { removes: (keep + 1..=end).collect(), entries: &[], state: self.state }
    }

    fn stored(&mut self, keys: RangeInclusive<u64>) {
        match self.runs.back_mut() {
            Some(run) if *run.end() + 1 == *keys.start() => *run = *run.start()..=*keys.end(),
            _ => self.runs.push_back(keys),
        }
    }

    fn cut_behind(&mut self, keep: u64) {
        if let Some(run) = self.runs.pop_back()
            && *run.start() <= keep
        {
            self.runs.push_back(*run.start()..=keep.min(*run.end()));
        }
        self.state.end_index = self.state.end_index.min(keep);
    }

    fn remove_front(&mut self, removes: &mut Vec<u64>, written: &[LogEntry]) {
        let last = written.first().map_or(self.state.compact_to, |e| self.state.compact_to.min(e.index - 1));
        while removes.len() < STEP_REMOVES_MAX
            && let Some(run) = self.runs.front_mut()
            && *run.start() <= last
        {
            removes.push(*run.start());
            *run = *run.start() + 1..=*run.end();
            if run.is_empty() {
                self.runs.pop_front();
            }
        }
    }
}

/// Begins an append: what it makes of the state before any of its entries is stored.
pub(super) fn begin(state: &State, append: &Append) -> State {
    let mut begun = *state;
    if let Some((index, term)) = append.reset {
        let term_max = append.hard_state.unwrap_or(state.hard).term;
        assert!(term <= term_max, "the snapshot at {index} is of a term not yet stored");
        let fixed = state.hard.commit.max(state.compact_to);
        assert!(index > 0 && index >= fixed, "a reset to {index} would take back what is committed");
        // Further on there is nothing yet that a snapshot could stand for.
        assert!(append.compact_to <= index, "a reset to {index} that compacts up to {}", append.compact_to);
        (begun.base, begun.end_index, begun.compact_to) = (index, index, index);
    }
    begun.compact_to = begun.compact_to.max(append.compact_to);
    // A snapshot that reaches further than the log: what comes next follows the snapshot.
    begun.end_index = begun.end_index.max(begun.compact_to);
    assert_sound(&begun, append);
    begun
}

/// The next step's state, which stores these entries of the append.
pub(super) fn advance(state: &mut State, append: &Append, entries: &[LogEntry]) {
    state.step += 1;
    if let Some(last) = entries.last() {
        state.end_index = last.index;
    }
    if let Some(hard) = append.hard_state {
        state.hard = hard;
        // Until the last step is written the log may be shorter than what raft knows to be committed.
        state.hard.commit = hard.commit.min(state.end_index);
    }
}

/// # Panics
/// If the append breaks raft's own rules.
fn assert_sound(state: &State, append: &Append) {
    if let Some(hard) = append.hard_state {
        assert!(hard.term >= state.hard.term, "raft's term never falls: {hard:?} after {:?}", state.hard);
        assert!(
            hard.term > state.hard.term || state.hard.vote == 0 || hard.vote == state.hard.vote,
            "one vote in one term: {hard:?} after {:?}",
            state.hard
        );
    }
    let term_max = append.hard_state.unwrap_or(state.hard).term;
    let mut before: Option<&LogEntry> = None;
    for entry in &append.entries {
        assert!(entry.data.len() <= ENTRY_DATA_MAX, "entry {} exceeds the limit", entry.index);
        assert!(entry.term <= term_max, "entry {} is of a term not yet stored", entry.index);
        match before {
            Some(b) => {
                assert_eq!(entry.index, b.index + 1, "entries of an append are contiguous");
                assert!(entry.term >= b.term, "terms never fall along the log");
            }
            None => {
                assert!(entry.index <= state.end_index + 1, "entry {} leaves a gap", entry.index);
                let fixed = state.hard.commit.max(state.compact_to);
                assert!(entry.index > fixed, "entry {} would replace a committed one", entry.index);
            }
        }
        before = Some(entry);
    }
    let end = before.map_or(state.end_index, |e| e.index);
    let commit = append.hard_state.unwrap_or(state.hard).commit;
    assert!(commit <= end, "commit index {commit} lies behind the end of the log {end}");
}

/// As many entries as fit one step; at least one if there are any.
fn chunk(entries: &[LogEntry]) -> &[LogEntry] {
    let mut bytes = 0;
    let fits = entries.iter().take(STEP_RECORDS_MAX).take_while(|entry| {
        bytes += HEADER_LEN + entry.data.len();
        bytes <= STEP_BYTES_MAX
    });
    &entries[..fits.count()]
}

const _: () = assert!(HEADER_LEN + ENTRY_DATA_MAX <= STEP_BYTES_MAX);

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use bytes::Bytes;
    use sluice_core::replica::disk::{EntryKind, HardState};

    use super::super::fence::Mark;
    use super::super::record::{self, STATE_KEY};
    use super::super::scan::{Sound, scan};
    use super::*;

    /// A store without files: what would be on disk after each step.
    #[derive(Default)]
    struct Disk {
        book: Book,
        records: BTreeMap<[u8; 8], Vec<u8>>,
    }

    impl Disk {
        /// Carries an append out, and hands what a crash would leave after each of its steps to `look`.
        fn append(&mut self, append: &Append, mut look: impl FnMut(&Step<'_>, Sound)) {
            let mut pending = self.book.begin(append);
            while let Some(step) = self.book.next(&mut pending) {
                assert!(step.removes.len() <= STEP_REMOVES_MAX && step.entries.len() <= STEP_RECORDS_MAX);
                for index in &step.removes {
                    assert!(self.records.remove(&record::key(*index)).is_some(), "{index} was not stored");
                }
                for entry in step.entries {
                    self.records.insert(record::key(entry.index), record::encode_entry(entry, &step.state).0);
                }
                if step.entries.is_empty() {
                    self.records.insert(STATE_KEY, record::encode_state(&step.state));
                }
                let sound = scan(self.records.iter().map(Ok), &Mark::default()).unwrap();
                assert_eq!(sound.book, self.book);
                assert_eq!(sound.recovered.first_index, self.book.first_index());
                look(&step, sound);
            }
        }
    }

    fn entries(first: u64, last: u64, term: u64, len: usize) -> Vec<LogEntry> {
        let data = Bytes::from(vec![7; len]);
        (first..=last)
            .map(|index| LogEntry { index, term, kind: EntryKind::Normal, data: data.clone() })
            .collect()
    }

    fn append(entries: Vec<LogEntry>, term: u64, commit: u64) -> Append {
        Append { hard_state: Some(HardState { term, vote: 1, commit }), entries, ..Append::default() }
    }

    #[test]
    fn every_step_of_a_large_append_leaves_a_sound_log() {
        let mut disk = Disk::default();
        let all = entries(1, 100, 1, ENTRY_DATA_MAX);
        let mut ends = Vec::new();
        disk.append(&append(all.clone(), 1, 100), |step, sound| {
            let end = step.state.end_index;
            assert_eq!(sound.recovered.entries, all[..usize::try_from(end).unwrap()]);
            // The term and the vote are there from the first step; the commit index follows the log.
            assert_eq!(sound.recovered.hard_state, HardState { term: 1, vote: 1, commit: end });
            ends.push(end);
        });
        assert_eq!(ends, (1..=14).map(|n| (7 * n).min(100)).chain([100]).collect::<Vec<_>>());
    }

    #[test]
    fn a_long_suffix_goes_before_anything_takes_its_place() {
        let mut disk = Disk::default();
        let old = entries(1, 100, 1, 10);
        disk.append(&append(old.clone(), 1, 20), |_, _| {});
        let new = entries(21, 60, 2, 10);
        let mut ends = Vec::new();
        disk.append(&append(new.clone(), 2, 60), |step, sound| {
            let end = usize::try_from(step.state.end_index).unwrap();
            let expected = match step.entries {
                [] => old[..end].to_vec(),
                _ => [&old[..20], &new[..end - 20]].concat(),
            };
            assert_eq!(sound.recovered.entries, expected);
            assert_eq!(sound.recovered.hard_state.term, 2);
            // Of what is replaced nothing may pass for committed, though its place is.
            let commit = if step.entries.is_empty() { 20 } else { end as u64 };
            assert_eq!(sound.recovered.hard_state.commit, commit);
            ends.push(end);
        });
        // 100 to 52 in steps of sixteen: the first 32 new entries overwrite the rest. Then the other eight.
        assert_eq!(ends, [84, 68, 52, 60]);
    }

    /// At every step: the old log or the beginning of it, as far as the snapshot at least, of which nothing is committed
    /// that was not; or the new one and nothing of the old.
    #[test]
    fn a_reset_is_one_step_and_what_lies_behind_it_goes_first() {
        for (old_end, index, count) in [
            (0, 30, 0),
            (20, 30, 0),
            (20, 30, 70),
            (30, 30, 3),
            (40, 30, 0),
            (100, 30, 0),
            (100, 30, 5),
            (100, 30, 90),
        ] {
            let mut disk = Disk::default();
            let old = entries(1, old_end, 1, 10);
            disk.append(&append(old.clone(), 1, old_end.min(20)), |_, _| {});
            let before = disk.book.state().hard;
            let new = entries(index + 1, index + count, 3, 10);
            let reset = Append {
                reset: Some((index, 2)),
                compact_to: index,
                ..append(new.clone(), 3, index + count)
            };
            let mut ends = Vec::new();
            disk.append(&reset, |step, Sound { recovered, .. }| {
                let end = step.state.end_index;
                assert_eq!((recovered.hard_state.term, recovered.hard_state.vote), (3, 1));
                if recovered.log_base == 0 {
                    assert!(end >= index && recovered.compact_to == 0);
                    assert_eq!(recovered.entries, old[..usize::try_from(end).unwrap()]);
                    assert_eq!(recovered.hard_state.commit, before.commit);
                } else {
                    assert_eq!((recovered.log_base, recovered.compact_to), (index, index));
                    assert_eq!(recovered.first_index, index + 1);
                    assert_eq!(recovered.entries, new[..usize::try_from(end - index).unwrap()]);
                    assert_eq!(recovered.hard_state.commit, end);
                }
                ends.push((end, recovered.log_base > 0));
            });
            assert_eq!(*ends.last().unwrap(), (index + count, true));
            if (old_end, count) == (100, 5) {
                assert_eq!(ends, [(84, false), (68, false), (52, false), (36, false), (35, true)]);
            }
            // What is left of the old log goes beside whatever else is done.
            for next in index + count + 1..=index + count + 10 {
                disk.append(&append(entries(next, next, 3, 10), 3, index + count), |_, sound| {
                    assert_eq!(sound.recovered.first_index, index + 1);
                });
            }
            assert_eq!(
                disk.records.len() as u64,
                count + 10 + u64::from(disk.records.contains_key(&STATE_KEY))
            );
        }
    }

    #[test]
    fn the_front_is_removed_beside_whatever_else_is_done() {
        let mut disk = Disk::default();
        disk.append(&append(entries(1, 40, 1, 10), 1, 40), |_, _| {});
        disk.append(&Append { compact_to: 500, ..Append::default() }, |_, sound| {
            assert_eq!((sound.recovered.first_index, sound.recovered.entries.len()), (501, 0));
        });
        disk.append(&append(entries(501, 502, 2, 10), 2, 500), |step, sound| {
            assert_eq!(step.removes, (17..=32).collect::<Vec<_>>());
            assert_eq!(sound.recovered.entries, entries(501, 502, 2, 10));
        });
        disk.append(&append(entries(502, 502, 3, 10), 3, 500), |step, _| {
            assert_eq!(step.removes, (33..=40).collect::<Vec<_>>());
        });
        disk.append(&append(entries(503, 503, 3, 10), 3, 503), |step, _| assert!(step.removes.is_empty()));
    }
}

//! Records and fence slots of the write-ahead log from any bytes, and whole logs of them: what is accepted encodes to the
//! same bytes, and a log that is accepted is one that raft could have.
//!
//! The first byte chooses: a record as it is, or with its checksum mended; a slot of the fence likewise; or a log that
//! was written plainly by the rules of docs/STORAGE.md and then damaged under good checksums. Deliberately not here: sled.

use std::collections::BTreeMap;

use arbitrary::{Arbitrary, Unstructured};
use bytes::Bytes;
use sluice_core::replica::disk::{EntryKind, HardState, LogEntry};
use sluice_engine::wal::fence::{self, Mark, SLOT_LEN};
use sluice_engine::wal::record::{self, RecordKind, State};
use sluice_engine::wal::{self, ENTRY_DATA_MAX, Recovered};

use crate::heap;

/// Bytes of a record's header, the base of a log that was reset left out, and where its checksum stands.
const HEADER_LEN: usize = 72;
const CRC_AT: usize = 4;

/// Bytes of a slot that are used; the last four are its checksum.
const SLOT_USED: usize = 56;

/// See the module.
pub fn target(data: &[u8]) {
    let Some((mode, bytes)) = data.split_first() else { return };
    match mode % 5 {
        0 => one_record(bytes),
        1 => one_record(&mended(bytes.to_vec())),
        mode @ (2 | 3) => slot(bytes, mode == 3),
        _ => {
            if let Ok(plan) = Plan::arbitrary(&mut Unstructured::new(bytes)) {
                log(&plan);
            }
        }
    }
}

/// The record with a checksum that holds.
fn mended(mut record: Vec<u8>) -> Vec<u8> {
    if record.len() >= HEADER_LEN {
        let sum = crc32fast::hash(&[&record[..CRC_AT], &record[CRC_AT + 4..]].concat());
        record[CRC_AT..CRC_AT + 4].copy_from_slice(&sum.to_le_bytes());
    }
    record
}

fn one_record(bytes: &[u8]) {
    let (decoded, taken) = heap::taken(|| record::decode(bytes));
    // The data is copied once, with what a shared buffer needs beside it.
    assert!(taken <= bytes.len() as u64 + 64, "{taken} bytes for a record of {}", bytes.len());
    let Ok(record) = decoded else { return };
    let again = match record.kind {
        RecordKind::State => record::encode_state(&record.state),
        RecordKind::Entry(kind) => {
            assert!(record.data.len() <= ENTRY_DATA_MAX && record.index > 0);
            let entry = LogEntry { index: record.index, term: record.term, kind, data: record.data };
            let (again, crc) = record::encode_entry(&entry, &record.state);
            assert_eq!(crc, record.crc);
            again
        }
    };
    assert_eq!(again, bytes, "what decodes encodes to the same bytes");
}

fn slot(bytes: &[u8], mend: bool) {
    let mut slot = [0; SLOT_LEN];
    let len = bytes.len().min(SLOT_LEN);
    slot[..len].copy_from_slice(&bytes[..len]);
    if mend {
        let sum = crc32fast::hash(&slot[..SLOT_USED - 4]);
        slot[SLOT_USED - 4..SLOT_USED].copy_from_slice(&sum.to_le_bytes());
    }
    let (decoded, taken) = heap::taken(|| fence::decode(&slot));
    assert_eq!(taken, 0);
    if let Ok(Some((counter, mark))) = decoded {
        assert_eq!(fence::encode(counter, &mark)[..SLOT_USED], slot[..SLOT_USED]);
    }
}

/// How a log came about, and what befell it.
#[derive(Debug, Arbitrary)]
struct Plan {
    steps: Vec<Step>,
    flaws: Vec<Flaw>,
    /// The fence was written behind this step.
    fenced: u8,
}

/// One atomic step of a store.
#[derive(Debug, Arbitrary)]
enum Step {
    /// Entries behind the end, or over a suffix, in this term or a later one.
    Append { back: u8, count: u8, later_term: bool, len: u8 },
    /// Raft learned that more is committed.
    Commit(u8),
    /// A snapshot was taken of what is committed; the front may go.
    Compact { to: u8, removes: u8 },
    /// A snapshot was taken ahead of the log.
    Leap(u8),
    /// A snapshot from the leader takes the log's place, before its end or behind it.
    Reset { back: u8, ahead: u8 },
}

/// What befalls a log.
#[derive(Debug, Arbitrary)]
enum Flaw {
    /// A bit pattern goes over a byte of a record, which is given a good checksum.
    Bits { record: u8, at: u8, by: u8 },
    /// A number of a record becomes another, under a good checksum.
    Number { record: u8, field: u8, to: u64 },
    /// A record is gone.
    Gone(u8),
    /// A record stands under another key.
    Moved { record: u8, to: u64 },
}

/// A store written plainly.
#[derive(Default)]
struct Plain {
    records: BTreeMap<[u8; 8], Vec<u8>>,
    entries: BTreeMap<u64, LogEntry>,
    state: State,
}

impl Plain {
    fn step(&mut self, step: &Step) {
        match *step {
            Step::Append { back, count, later_term, len } => self.append(back, count % 8, later_term, len),
            Step::Commit(by) => {
                let commit = self.state.hard.commit + u64::from(by % 8);
                self.state.hard.commit = commit.min(self.state.end_index);
                self.write(&[]);
            }
            Step::Compact { to, removes } => {
                let to = self.state.compact_to + u64::from(to % 8);
                self.state.compact_to = to.min(self.state.hard.commit).max(self.state.compact_to);
                let compact_to = self.state.compact_to;
                let front: Vec<u64> = self.entries.range(..=compact_to).map(|(index, _)| *index).collect();
                for index in front.into_iter().take(usize::from(removes % 8)) {
                    self.remove(index);
                }
                self.write(&[]);
            }
            Step::Leap(by) => {
                self.state.compact_to = self.state.end_index + 1 + u64::from(by % 8);
                self.state.end_index = self.state.compact_to;
                self.state.hard.commit = self.state.end_index;
                self.write(&[]);
            }
            Step::Reset { back, ahead } => self.reset(u64::from(back % 8), u64::from(ahead % 8)),
        }
    }

    fn reset(&mut self, back: u64, ahead: u64) {
        let fixed = self.state.hard.commit.max(self.state.compact_to).max(1);
        let base = (self.state.end_index + ahead).saturating_sub(back).max(fixed);
        let stale: Vec<u64> = self.entries.range(base + 1..).map(|(index, _)| *index).collect();
        stale.into_iter().for_each(|index| self.remove(index));
        // What lies before it waits for its removal.
        self.entries.clear();
        (self.state.base, self.state.compact_to, self.state.end_index) = (base, base, base);
        self.state.hard.commit = base;
        self.write(&[]);
    }

    fn append(&mut self, back: u8, count: u8, later_term: bool, len: u8) {
        let fixed = self.state.hard.commit.max(self.state.compact_to);
        let keep = self.state.end_index.saturating_sub(u64::from(back % 4)).max(fixed);
        let stale: Vec<u64> = self.entries.range(keep + 1..).map(|(index, _)| *index).collect();
        stale.into_iter().for_each(|index| self.remove(index));
        self.state.hard.term += u64::from(later_term || self.state.hard.term == 0);
        let term = self.state.hard.term;
        let data = Bytes::from(vec![7; usize::from(len)]);
        let entries: Vec<LogEntry> = (keep + 1..=keep + u64::from(count))
            .map(|index| LogEntry { index, term, kind: EntryKind::Normal, data: data.clone() })
            .collect();
        self.state.end_index = keep + u64::from(count);
        self.write(&entries);
    }

    fn remove(&mut self, index: u64) {
        self.entries.remove(&index);
        self.records.remove(&record::key(index));
    }

    fn write(&mut self, entries: &[LogEntry]) {
        self.state.step += 1;
        for entry in entries {
            self.entries.insert(entry.index, entry.clone());
            self.records.insert(record::key(entry.index), record::encode_entry(entry, &self.state).0);
        }
        if entries.is_empty() {
            self.records.insert(record::STATE_KEY, record::encode_state(&self.state));
        }
    }

    fn rows(&self) -> Vec<(Vec<u8>, Vec<u8>)> {
        self.records.iter().map(|(key, value)| (key.to_vec(), value.clone())).collect()
    }
}

fn log(plan: &Plan) {
    let mut plain = Plain::default();
    let mut fence = Mark::default();
    for (at, step) in plan.steps.iter().take(24).enumerate() {
        // Before entries are replaced or removed the fence is drawn back behind them.
        if matches!(step, Step::Append { .. } | Step::Reset { .. }) {
            fence = Mark { step: fence.step, ..Mark::default() };
        }
        plain.step(step);
        let (found, mark) = wal::check(&plain.rows(), &fence).expect("what was written is accepted");
        assert_eq!(found.hard_state, plain.state.hard);
        assert_eq!((found.compact_to, found.log_base), (plain.state.compact_to, plain.state.base));
        let live: Vec<_> = plain.entries.range(found.first_index..).map(|(_, entry)| entry.clone()).collect();
        assert_eq!(found.entries, live);
        if at == usize::from(plan.fenced % 24) {
            fence = mark;
        }
        judge(&plain.rows(), &fence, &found);
    }
    let mut rows = plain.rows();
    for flaw in plan.flaws.iter().take(8) {
        damage(&mut rows, flaw);
    }
    rows.sort_unstable();
    rows.dedup_by(|one, next| one.0 == next.0);
    if let Ok((found, mark)) = wal::check(&rows, &fence) {
        judge(&rows, &mark, &found);
    }
}

/// Whatever is accepted is a log that raft could have, and its fence describes it.
fn judge(rows: &[(Vec<u8>, Vec<u8>)], fence: &Mark, found: &Recovered) {
    let Recovered { hard_state, entries, first_index, compact_to, log_base } = found;
    let HardState { term, commit, .. } = hard_state;
    let last_index = first_index + entries.len() as u64 - 1;
    assert!((*first_index..).zip(entries).all(|(index, entry)| entry.index == index), "contiguous");
    assert!(entries.is_sorted_by_key(|entry| entry.term), "terms do not fall");
    assert!(entries.iter().all(|entry| entry.term <= *term && entry.data.len() <= ENTRY_DATA_MAX));
    assert!(*commit <= last_index && *compact_to < *first_index + entries.len() as u64);
    assert!(*first_index <= compact_to + 1, "no snapshot stands for what is missing");
    assert!(
        log_base < first_index && log_base <= compact_to,
        "what was before the reset is no part of the log"
    );
    let (again, mark) = wal::check(rows, fence).expect("it was accepted before");
    assert_eq!(&again, found);
    let (_, same) = wal::check(rows, &mark).expect("its own fence describes it");
    assert_eq!(same, mark);
    if last_index > *compact_to {
        let key = record::key(last_index);
        let short: Vec<_> = rows.iter().filter(|(at, _)| *at != key).cloned().collect();
        assert!(wal::check(&short, &mark).is_err(), "the last entry was acknowledged and is gone");
    }
}

fn damage(rows: &mut Vec<(Vec<u8>, Vec<u8>)>, flaw: &Flaw) {
    if rows.is_empty() {
        return;
    }
    let pick = |record: u8| usize::from(record) % rows.len();
    match *flaw {
        Flaw::Bits { record, at, by } => {
            let row = pick(record);
            let value = &mut rows[row].1;
            let at = usize::from(at) % value.len();
            value[at] ^= by;
            rows[row].1 = mended(std::mem::take(&mut rows[row].1));
        }
        Flaw::Number { record, field, to } => {
            let row = pick(record);
            let at = 8 + usize::from(field % 8) * 8;
            rows[row].1[at..at + 8].copy_from_slice(&to.to_le_bytes());
            rows[row].1 = mended(std::mem::take(&mut rows[row].1));
        }
        Flaw::Gone(record) => {
            rows.remove(pick(record));
        }
        Flaw::Moved { record, to } => {
            let row = pick(record);
            rows[row].0 = to.to_be_bytes().to_vec();
            // The record says so itself.
            if to != 0 {
                rows[row].1[8..16].copy_from_slice(&to.to_le_bytes());
                rows[row].1 = mended(std::mem::take(&mut rows[row].1));
            }
        }
    }
}

//! Any sequence of appends, syncs, restarts with more or less of the log behind a snapshot, replaced ledgers and retention
//! leaves what plain lists say; every sequence is here, missing, dropped or ahead, and reads say which.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on must stop")]

mod events_support;

use events_support::*;
use proptest::prelude::*;
use sluice_engine::stream::{Missing, ReadError, Store};

#[derive(Clone, Debug)]
enum Op {
    /// Blocks of such lengths, written at once.
    Append(Vec<u64>),
    Sync,
    /// The ledger's snapshot ends so far before the last event.
    Restart {
        back: u64,
    },
    /// The snapshot has more than the files.
    RestartAhead {
        ahead: u64,
    },
    /// A snapshot from the leader takes the ledger's place.
    Reset {
        ahead: u64,
    },
    /// Nobody needs what is older than so many events, and ledger time is so many events ahead.
    Retain {
        needed: u64,
        ahead: u64,
    },
}

fn op() -> impl Strategy<Value = Op> {
    prop_oneof![
        6 => prop::collection::vec(0..70_u64, 1..4).prop_map(Op::Append),
        1 => Just(Op::Sync),
        3 => (0..160_u64).prop_map(|back| Op::Restart { back }),
        1 => (0..90_u64).prop_map(|ahead| Op::RestartAhead { ahead }),
        1 => (0..90_u64).prop_map(|ahead| Op::Reset { ahead }),
        3 => (0..300_u64, 0..500_u64).prop_map(|(needed, ahead)| Op::Retain { needed, ahead }),
    ]
}

/// What the rules say.
#[derive(Debug, Default)]
struct Model {
    /// First and last sequence.
    segments: Vec<(u64, u64)>,
    dropped: u64,
    last: u64,
    /// Whether the last segment is appended to.
    goes_on: bool,
}

impl Model {
    fn append(&mut self, count: u64) {
        for _ in 0..count {
            self.last += 1;
            match self.segments.last_mut() {
                Some((first, last)) if self.goes_on && *last - *first + 1 < SEGMENT => *last += 1,
                _ => self.segments.push((self.last, self.last)),
            }
            self.goes_on = true;
        }
    }

    fn restart(&mut self, upto: u64) {
        self.segments.retain(|(first, _)| *first <= upto);
        if let Some((_, last)) = self.segments.last_mut() {
            *last = upto.min(*last);
        }
        self.segments.retain(|(_, last)| *last > self.dropped);
        self.last = upto;
        self.goes_on = self.segments.last().is_some_and(|(_, last)| *last == upto);
    }

    fn reset(&mut self, upto: u64) {
        self.goes_on &= upto == self.last;
        self.last = upto;
    }

    fn retain(&mut self, floor: u64, ledger_ms: u64) {
        while self.segments.len() > 1 {
            let bytes: u64 = self.segments.iter().map(|(first, last)| 80 * (last - first + 2)).sum();
            let (_, last) = self.segments[0];
            let is_due = bytes > RETAIN_BYTES || time_ms(last) + RETAIN_MS < ledger_ms;
            if last >= floor || !is_due {
                return;
            }
            self.segments.remove(0);
            self.dropped = self.dropped.max(last);
        }
    }

    fn is_here(&self, sequence: u64) -> bool {
        self.segments.iter().any(|(first, last)| (*first..=*last).contains(&sequence))
    }

    fn is_missing(&self, sequence: u64) -> bool {
        sequence > self.dropped && sequence <= self.last && !self.is_here(sequence)
    }

    /// The gap around a sequence that is missing.
    fn gap(&self, sequence: u64) -> Missing {
        let before = (1..sequence).rev().take_while(|sequence| self.is_missing(*sequence)).count() as u64;
        let behind = (sequence + 1..).take_while(|sequence| self.is_missing(*sequence)).count() as u64;
        Missing { from: sequence - before, to: sequence + behind }
    }

    /// What finding a time must say, by trying one after the other.
    fn found(&self, time: u64) -> Result<u64, Missing> {
        let here = |sequence: &u64| self.is_here(*sequence) && time_ms(*sequence) >= time;
        let found = (1..=self.last).find(here).unwrap_or(self.last + 1);
        if found > 1 && self.is_missing(found - 1) { Err(self.gap(found - 1)) } else { Ok(found) }
    }

    fn check(&self, store: &Store) {
        let mut reader = store.reader();
        let mut missing = store.missing();
        for sequence in 1..=self.last + 1 {
            match reader.read(sequence, 1) {
                Ok(read) if read.is_empty() => assert_eq!(sequence, self.last + 1),
                Ok(read) => assert!(read == [event(sequence)] && self.is_here(sequence), "{sequence}"),
                Err(ReadError::Dropped { to }) => {
                    assert!(to == self.dropped && sequence <= to && !self.is_here(sequence), "{sequence}");
                }
                Err(ReadError::Missing(gap)) => {
                    assert!(self.is_missing(sequence), "{sequence}");
                    assert_eq!(gap, self.gap(sequence));
                    missing.retain(|told| *told != gap);
                }
                Err(error) => panic!("{error}"),
            }
        }
        assert_eq!((store.last(), missing), (self.last, vec![]));
        for sequence in (1..=self.last + 3).step_by(17) {
            let found = match reader.find_time(time_ms(sequence)) {
                Ok(found) => Ok(found),
                Err(ReadError::Missing(gap)) => Err(gap),
                Err(error) => panic!("{error}"),
            };
            assert_eq!(found, self.found(time_ms(sequence)), "{sequence}");
            let run: Vec<_> =
                (sequence..).take_while(|sequence| self.is_here(*sequence)).take(120).map(event).collect();
            if self.is_here(sequence) {
                assert_eq!(reader.read(sequence, 120).unwrap(), run);
            }
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(96))]

    #[test]
    fn files_are_what_plain_lists_say(ops in prop::collection::vec(op(), 1..24)) {
        let data = tempfile::tempdir().unwrap();
        let mut model = Model::default();
        let mut store = open(data.path(), 0).unwrap();
        for op in ops {
            match op {
                Op::Append(lens) => {
                    let mut next = model.last + 1;
                    let blocks: Vec<_> = lens
                        .iter()
                        .map(|len| {
                            next += len;
                            events(next - len..next)
                        })
                        .collect();
                    store.append(&blocks).unwrap();
                    model.append(lens.iter().sum());
                }
                Op::Sync => store.sync().unwrap(),
                Op::Restart { back } => {
                    model.restart(model.last.saturating_sub(back));
                    drop(store);
                    store = open(data.path(), model.last).unwrap();
                }
                Op::RestartAhead { ahead } => {
                    model.restart(model.last + ahead);
                    drop(store);
                    store = open(data.path(), model.last).unwrap();
                }
                Op::Reset { ahead } => {
                    model.reset(model.last + ahead);
                    store.reset(model.last).unwrap();
                }
                Op::Retain { needed, ahead } => {
                    let (floor, now_ms) = (model.last.saturating_sub(needed), time_ms(model.last + ahead));
                    model.retain(floor, now_ms);
                    store.retain(floor, now_ms);
                }
            }
            model.check(&store);
        }
    }
}

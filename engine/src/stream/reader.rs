//! Reads events beside the writer: what is written so far, each event checked, none served that is damaged.
//!
//! A read asks the index where an event is, and then only the file: the writer never waits for it. Deliberately not here:
//! threads, and who may read.

use std::collections::VecDeque;
use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt;
use std::path::PathBuf;
use std::sync::Arc;

use sluice_protocol::event::EventRecord;
use zerocopy::{FromZeros, IntoBytes};

use super::format;
use super::kept::{Index, Kept, Place, Segment};
use super::{Missing, READ_MAX, ReadError};

/// Files that a reader keeps open: those who read far behind are mostly at a few places.
const OPEN_MAX: usize = 8;

/// Bytes of an event that its checksum covers; behind them up to the checksum is what differs from delivery to delivery.
const CHECKED_LEN: usize = 73;
const CHECKSUM_AT: usize = 76;

/// See the module. Each thread has its own.
#[derive(Debug)]
pub struct Reader {
    dir: PathBuf,
    index: Arc<Index>,
    /// By the sequence they begin with, the one used last at the end.
    open: VecDeque<(u64, File)>,
}

impl Reader {
    pub(super) fn new(dir: PathBuf, index: Arc<Index>) -> Self {
        Self { dir, index, open: VecDeque::new() }
    }

    /// The last sequence that was written.
    pub fn last(&self) -> u64 {
        self.index.last()
    }

    /// The oldest event that is kept; one more than the last if there is none.
    pub fn first(&self) -> u64 {
        self.index.kept().first()
    }

    /// The sequences that are missing here, oldest first.
    pub fn missing(&self) -> Vec<Missing> {
        self.index.kept().missing()
    }

    /// Events from `from` on without a gap, as far as they are written: at most `max`, nor more than [`READ_MAX`]. Fewer if
    /// one that follows cannot be read: the next read says why.
    ///
    /// # Errors
    /// [`ReadError`] if `from` itself cannot be read.
    ///
    /// # Panics
    /// If `from` is 0: sequences begin at 1.
    pub fn read(&mut self, from: u64, max: usize) -> Result<Vec<EventRecord>, ReadError> {
        assert!(from > 0, "sequences begin at 1");
        let mut found = Vec::new();
        let max = max.min(READ_MAX);
        while found.len() < max {
            let at = from + found.len() as u64;
            let read = match self.index.place(at) {
                Place::Here(segment) => self.read_segment(segment, at, max, &mut found),
                Place::Ahead => break,
                Place::Missing(missing) => Err(ReadError::Missing(missing)),
                Place::Dropped { to } => Err(ReadError::Dropped { to }),
            };
            match read {
                Err(error) if found.is_empty() => return Err(error),
                Err(_) => break,
                Ok(()) => {}
            }
        }
        Ok(found)
    }

    /// The first event at or after a time; one more than the last if there is none yet. Ledger time never falls.
    ///
    /// # Errors
    /// [`ReadError::Missing`] if that event may be among those that are missing right before the first one found;
    /// [`ReadError::Io`]. One that is damaged is passed over, or found if it may be the one.
    pub fn find_time(&mut self, time_ms: u64) -> Result<u64, ReadError> {
        loop {
            match self.search(time_ms) {
                // Retention went on meanwhile.
                Err(ReadError::Dropped { .. }) => {}
                other => return other,
            }
        }
    }

    fn search(&mut self, time_ms: u64) -> Result<u64, ReadError> {
        let kept = self.index.kept();
        // The events that are here, counted as if there were no gaps.
        let counts = kept.segments.iter().scan(0, |sum, segment| {
            let begin = *sum;
            *sum += segment.next - segment.first;
            Some(begin)
        });
        let begins: Vec<u64> = counts.collect();
        let sequence_of = |position: u64| {
            let at = begins.partition_point(|begin| *begin <= position) - 1;
            kept.segments[at].first + position - begins[at]
        };
        let total: u64 = kept.segments.iter().map(|segment| segment.next - segment.first).sum();
        let (mut low, mut high) = (0, total);
        while low < high {
            let middle = low + (high - low) / 2;
            match self.time_from(middle, high, sequence_of)? {
                Some((at, time)) if time < time_ms => low = at + 1,
                // What is damaged before it may be what was asked for.
                _ => high = middle,
            }
        }
        let found = if low < total { sequence_of(low) } else { kept.next };
        missing_before(&kept, found).map_or(Ok(found), |missing| Err(ReadError::Missing(missing)))
    }

    /// The first position in a range whose event is not damaged, and its time.
    fn time_from(
        &mut self,
        from: u64,
        to: u64,
        sequence_of: impl Fn(u64) -> u64,
    ) -> Result<Option<(u64, u64)>, ReadError> {
        for position in from..to {
            match self.read(sequence_of(position), 1) {
                Ok(read) => {
                    let time_ms = read.first().expect("what is kept is written").time_ms();
                    return Ok(Some((position, time_ms)));
                }
                Err(ReadError::Damaged { .. }) => {}
                Err(error) => return Err(error),
            }
        }
        Ok(None)
    }

    /// Appends what a segment has from `from` on, up to `max` in all. Stops at an event that is damaged.
    fn read_segment(
        &mut self,
        segment: Segment,
        from: u64,
        max: usize,
        found: &mut Vec<EventRecord>,
    ) -> Result<(), ReadError> {
        let count = (segment.next - from).min((max - found.len()) as u64) as usize;
        let path = format::path_of(&self.dir, segment.first);
        let damaged = |sequence| ReadError::Damaged { sequence, file: path.clone() };
        let mut records = EventRecord::new_vec_zeroed(count).expect("a read is bounded");
        let read = self.file(segment.first).and_then(|file| {
            file.read_exact_at(records.as_mut_bytes(), format::place_of(segment.first, from))
        });
        match read {
            // Retention took the file just now: the index says so.
            Err(error)
                if error.kind() == io::ErrorKind::NotFound
                    && self.index.place(from) != Place::Here(segment) =>
            {
                return Ok(());
            }
            Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => return Err(damaged(from)),
            read => read.map_err(|source| ReadError::Io { file: path.clone(), source })?,
        }
        let sound =
            (from..).zip(&records).take_while(|(sequence, record)| is_sound(record, *sequence)).count();
        found.extend_from_slice(&records[..sound]);
        if sound < count { Err(damaged(from + sound as u64)) } else { Ok(()) }
    }

    fn file(&mut self, first: u64) -> io::Result<&File> {
        match self.open.iter().position(|(open, _)| *open == first) {
            Some(at) => {
                let used = self.open.remove(at).expect("it was just found");
                self.open.push_back(used);
            }
            None => {
                let file = File::open(format::path_of(&self.dir, first))?;
                if self.open.len() == OPEN_MAX {
                    self.open.pop_front();
                }
                self.open.push_back((first, file));
            }
        }
        Ok(&self.open.back().expect("it was just put there").1)
    }
}

/// Whether this is the event of that sequence as a replica made it. What is told of deliveries is never stored.
fn is_sound(record: &EventRecord, sequence: u64) -> bool {
    let of_deliveries = &record.as_bytes()[CHECKED_LEN..CHECKSUM_AT];
    record.is_intact() && record.sequence() == sequence && of_deliveries == [0; CHECKSUM_AT - CHECKED_LEN]
}

/// The gap that ends right before a sequence.
fn missing_before(kept: &Kept, sequence: u64) -> Option<Missing> {
    match sequence.checked_sub(1).filter(|before| *before > 0).map(|before| kept.place(before)) {
        Some(Place::Missing(missing)) => Some(missing),
        _ => None,
    }
}

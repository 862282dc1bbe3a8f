//! The log on disk as segment files of our own: one write and one fdatasync for an append.
//!
//! - [`frame`]: the bytes of one atomic step, and how a torn one is told from a damaged one
//! - `file`: one segment file; all zero until frames are put into it
//! - `replay`: the whole log read back, and what it must look like
//! - `room`: the thread that makes the next segment and removes old ones
//!
//! Nothing that was acknowledged is ever written again: a suffix that raft replaces stays where it is, and the frame
//! that replaces it says so by its first index. Deliberately not here: the fence's bytes, the rules of an append.

mod file;
pub mod frame;
mod replay;
mod room;

use std::collections::VecDeque;
use std::fs::{self, File};
use std::io;
use std::os::unix::fs::FileExt;
use std::path::Path;

use rustix::fs::{FlockOperation, flock};
use sluice_core::replica::disk::{Append, LogEntry};

use self::file::Segment;
use self::frame::{PAGE_LEN, Place};
use self::replay::{Held, Replay, Sound};
use self::room::Room;
use super::backend::{begin_creation, open_fence};
use super::fence::Mark;
use super::keeper::{Keeper, Kept};
use super::record::State;
use super::{Appended, LogStore, Options, Recovered, StoreError, plan};
use crate::failpoint::{self, Point};
use crate::files::{sync_dir, sync_tree};

/// Bytes of a frame, its padding included. A longer append becomes several frames.
pub const FRAME_LEN_MAX: usize = 1 << 20;

/// The names within the data directory.
pub(super) const STORE_DIR: &str = "segments";
const STORE_DIR_ASIDE: &str = "segments.tmp";

/// The log store on segment files.
pub struct SegmentStore {
    salt: u64,
    keeper: Keeper,
    state: State,
    /// The last frame's.
    last_crc: u32,
    /// Where frames go.
    current: Segment,
    at: u64,
    /// The segments that hold frames, the current one last.
    held: VecDeque<Held>,
    /// Made ready before this process began.
    spares: VecDeque<Segment>,
    room: Room,
    /// Entries below are not part of the log, whatever segments hold them.
    floor: u64,
    buffer: Vec<u8>,
    /// Keeps a second process out.
    _lock: File,
}

impl SegmentStore {
    /// Makes an empty log in `data_dir`. Durable on return. What a crashed earlier call left behind is completed.
    ///
    /// # Errors
    /// [`StoreError::Damaged`] if there is a log already that was used, [`StoreError::Lost`] if there must have been
    /// one because the data directory has its identity; those of the file system.
    pub fn create(data_dir: &Path) -> Result<(), StoreError> {
        let (dir, aside) = (data_dir.join(STORE_DIR), data_dir.join(STORE_DIR_ASIDE));
        let io = |e| StoreError::io(&aside, "creating the log", e);
        begin_creation(data_dir, &dir)?;
        if dir.exists() {
            return Ok(());
        }
        if aside.exists() {
            fs::remove_dir_all(&aside).map_err(io)?;
        }
        fs::create_dir(&aside).map_err(io)?;
        let salt = getrandom::u64().map_err(|e| io(io::Error::other(e.to_string())))?;
        file::make(&aside, 1, salt)?;
        failpoint::reach(Point::CreateLog);
        failpoint::check(Point::CreateLogRename).map_err(io)?;
        fs::rename(&aside, &dir).map_err(io)?;
        failpoint::check(Point::CreateLogRenamed).map_err(io)?;
        sync_dir(data_dir).map_err(io)
    }

    /// Opens the log in `data_dir` and reads all of it.
    ///
    /// # Errors
    /// [`StoreError`] unless everything that was acknowledged is there, as it was written. Nothing is deleted or
    /// repaired, except what a crash left half written at the end.
    pub fn open(data_dir: &Path, options: Options) -> Result<(Self, Recovered), StoreError> {
        let dir = data_dir.join(STORE_DIR);
        let fence = open_fence(data_dir)?;
        failpoint::reach(Point::StartFence);
        let lock = lock(&dir)?;
        let io = |e| StoreError::io(&dir, "syncing before the log is opened", e);
        sync_tree(&dir).map_err(io)?;
        failpoint::reach(Point::StartOpened);
        let (sound, salt, mut segments) = read(&dir, fence.mark())?;
        let Sound { state, last_crc, recovered, held, end: (number, at), torn_len } = sound;
        failpoint::check(Point::StartScanned).map_err(|e| StoreError::io(&dir, "reading the log", e))?;
        let last = segments.iter().position(|segment| segment.number == number);
        let mut from_last = segments.split_off(last.expect("the end lies in a segment that was read"));
        let current = from_last.pop_front().expect("it begins with the last segment");
        if torn_len > 0 {
            tracing::warn!(file = %current.path.display(), at, "an append that was not acknowledged was cut short");
            file::blank(&current, at as u64, torn_len)?;
        }
        let last_term = recovered.entries.last().map_or(0, |entry| entry.term);
        let mut store = Self {
            room: Room::new(&dir, salt)?,
            salt,
            keeper: Keeper::new(fence, mark(&state, last_term, last_crc), options.clock),
            state,
            last_crc,
            current,
            at: at as u64,
            held: held.into(),
            spares: from_last,
            floor: recovered.first_index,
            buffer: Vec::new(),
            _lock: lock,
        };
        if store.spares.is_empty() {
            store.room.order(store.current.number + 1)?;
        }
        // What recovery read is durable now, whether it was acknowledged or not: from here on it counts.
        store.keeper.write_fence()?;
        failpoint::reach(Point::StartFenced);
        Ok((store, recovered))
    }

    fn try_append(&mut self, append: &Append) -> Result<Appended, StoreError> {
        let begun = plan::begin(&self.state, append);
        let compacts = begun.compact_to > self.state.compact_to;
        if append.reset.is_some() {
            // The frame that says so makes all others those of another log.
            self.held.iter_mut().for_each(Held::forget);
        }
        if append.reset.is_some() || begun.end_index > self.state.end_index {
            // A snapshot stands for all of the log.
            self.floor = begun.end_index + 1;
        }
        self.state = begun;
        let mut done = Appended::default();
        let mut rest = append.entries.as_slice();
        loop {
            let entries = chunk(rest, &self.state);
            rest = &rest[entries.len()..];
            plan::advance(&mut self.state, append, entries);
            if compacts {
                failpoint::reach(Point::LogCompact);
            }
            done.bytes += self.write_frame(entries)?;
            done.fsync += self.keeper.sync(&self.current.file, &self.current.path)?;
            failpoint::reach(Point::LogSynced);
            if compacts {
                failpoint::reach(Point::LogCompacted);
            }
            if rest.is_empty() {
                break;
            }
        }
        self.keeper.write_fence_if_due()?;
        self.release()?;
        done.first_index = self.first_index();
        done.last_index = self.state.end_index;
        done.disk_bytes = self.held.iter().map(|held| file::len_of(held.number)).sum();
        Ok(done)
    }

    /// Writes one frame behind the last, in the next segment if this one has no room for it.
    fn write_frame(&mut self, entries: &[LogEntry]) -> Result<u64, StoreError> {
        if self.at + frame::padded_len(entries, &self.state) as u64 > self.current.len {
            self.roll()?;
        }
        let place = Place {
            salt: self.salt,
            segment: self.current.number,
            at: self.at,
            previous: Some(self.last_crc),
        };
        self.last_crc = frame::encode(&mut self.buffer, &place, entries, &self.state);
        let Self { current, buffer, at, .. } = &*self;
        let write = || {
            failpoint::check(Point::LogWrite)?;
            failpoint::reach_with(Point::LogBuffered, || {
                // The process ends here, whatever the file takes.
                let _: io::Result<()> = current.file.write_all_at(&buffer[..buffer.len() / 2], *at);
            });
            current.file.write_all_at(buffer, *at)
        };
        write().map_err(|e| StoreError::io(&current.path, "writing the log", e))?;
        self.at += self.buffer.len() as u64;
        self.held.back_mut().expect("the current segment is held").note(entries);
        let last_term = entries.last().map_or(self.keeper.mark.term, |entry| entry.term);
        self.keeper.mark = mark(&self.state, last_term, self.last_crc);
        Ok(self.buffer.len() as u64)
    }

    /// Goes on in the next segment, which was made ready, and has another one made.
    fn roll(&mut self) -> Result<(), StoreError> {
        self.current = match self.spares.pop_front() {
            Some(spare) => spare,
            None => self.room.take(self.current.number + 1)?,
        };
        self.at = PAGE_LEN as u64;
        self.held.push_back(Held { number: self.current.number, indexes: None });
        if self.spares.is_empty() {
            self.room.order(self.current.number + 1)?;
        }
        Ok(())
    }

    /// Lets go of the oldest segments if a snapshot stands for all that is in them.
    fn release(&mut self) -> Result<(), StoreError> {
        let compact_to = self.state.compact_to;
        let mut removed = Vec::new();
        while self.held.len() > 1 && self.held[0].indexes.is_none_or(|(_, last)| last <= compact_to) {
            removed.extend(self.held.pop_front().map(|held| held.number));
        }
        if removed.is_empty() { Ok(()) } else { self.room.remove(removed) }
    }

    fn first_index(&self) -> u64 {
        let first = self.held.iter().find_map(|held| held.indexes).map(|(first, _)| first.max(self.floor));
        first.unwrap_or(self.floor).min(self.state.end_index + 1)
    }
}

impl Kept for SegmentStore {
    fn keeper(&mut self) -> &mut Keeper {
        &mut self.keeper
    }
}

impl LogStore for SegmentStore {
    fn append(&mut self, step: &Append) -> Result<Appended, StoreError> {
        self.unless_poisoned(|store| store.try_append(step))
    }

    fn settle(&mut self) -> Result<(), StoreError> {
        self.unless_poisoned(|store| store.keeper.write_fence())
    }

    fn close(mut self: Box<Self>) -> Result<(), StoreError> {
        self.unless_poisoned(|store| store.keeper.write_fence())
    }
}

/// What is checked of all segments at open, without files: their bytes, numbered from 1, against the fence. Returns what a
/// store would start with, and the fence that describes it. For fuzzing.
///
/// # Errors
/// Why they are refused, for people.
#[doc(hidden)]
pub fn check(salt: u64, segments: &[Vec<u8>], fence: &Mark) -> Result<(Recovered, Mark), String> {
    let mut replay = Replay::new(salt, *fence);
    let refused = |refusal| format!("{refusal:?}");
    for (number, bytes) in (1..).zip(segments) {
        replay.read(number, bytes).map_err(refused)?;
    }
    let Sound { state, last_crc, recovered, .. } = replay.finish().map_err(refused)?;
    let last_term = recovered.entries.last().map_or(0, |entry| entry.term);
    Ok((recovered, mark(&state, last_term, last_crc)))
}

fn mark(state: &State, last_term: u64, crc: u32) -> Mark {
    Mark {
        step: state.step,
        index: state.end_index,
        term: last_term,
        entry_crc: crc,
        compact_to: state.compact_to,
    }
}

/// As many entries as fit one frame; at least one if there are any.
fn chunk<'a>(entries: &'a [LogEntry], state: &State) -> &'a [LogEntry] {
    let fits = |entries: &[LogEntry]| frame::padded_len(entries, state) <= FRAME_LEN_MAX;
    if fits(entries) {
        return entries;
    }
    let fits = (1..entries.len()).take_while(|n| fits(&entries[..*n]));
    &entries[..fits.last().unwrap_or(1)]
}

fn lock(dir: &Path) -> Result<File, StoreError> {
    let file = match File::open(dir) {
        Ok(file) => file,
        Err(e) if e.kind() == io::ErrorKind::NotFound => {
            return Err(StoreError::lost(dir, "the directory is missing"));
        }
        Err(e) => return Err(StoreError::io(dir, "opening the log", e)),
    };
    match flock(&file, FlockOperation::NonBlockingLockExclusive) {
        Ok(()) => Ok(file),
        Err(rustix::io::Errno::WOULDBLOCK) => Err(StoreError::Locked { file: dir.to_path_buf() }),
        Err(e) => Err(StoreError::io(dir, "locking the log", e.into())),
    }
}

/// Reads every segment, in order.
fn read(dir: &Path, fence: Mark) -> Result<(Sound, u64, VecDeque<Segment>), StoreError> {
    let mut replay: Option<(Replay, u64)> = None;
    let mut segments = VecDeque::<Segment>::new();
    for number in file::list(dir)? {
        if let Some(last) = segments.back()
            && last.number + 1 != number
        {
            return Err(StoreError::lost(dir, format!("segment {:016x} is missing", last.number + 1)));
        }
        let salt = replay.as_ref().map(|(_, salt)| *salt);
        let (segment, bytes, salt) = file::read(dir, number, salt)?;
        let (replay, _) = replay.get_or_insert_with(|| (Replay::new(salt, fence), salt));
        replay.read(number, &bytes).map_err(|refusal| refusal.of(&segment.path, frame::FORMAT))?;
        segments.push_back(segment);
    }
    let Some((replay, salt)) = replay else {
        return Err(StoreError::lost(dir, "there is no segment"));
    };
    let sound = replay.finish().map_err(|refusal| refusal.of(dir, frame::FORMAT))?;
    Ok((sound, salt, segments))
}

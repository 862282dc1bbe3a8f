//! The writer of the stream's files: appends, makes durable when asked, drops what is old.
//!
//! A write is the system's to carry out, and a segment is synced when it is full, and every few megabytes so that the sync
//! which a snapshot waits for is short. Relies on the caller holding the data directory's lock, and on its ending the process
//! after any error: what reached the disk then is unknown, and a failed sync is never tried again.
//!
//! Deliberately not here: threads, and whose events are needed.

use std::fs::{self, File, OpenOptions};
use std::io;
use std::mem;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};

use rustix::fs::fdatasync;
use sluice_protocol::event::EventRecord;
use sluice_protocol::ids::ClusterId;
use zerocopy::IntoBytes;

use super::format::{self, HEADER_LEN, Header, RECORD_LEN};
use super::kept::{Index, Segment};
use super::{DIR, Missing, Options, Reader, StreamError, dropped, open};
use crate::failpoint::{self, Point};
use crate::files::sync_dir;

/// Bytes between two syncs: one sync of a gigabyte would hold up the log's.
const SYNC_EVERY: u64 = 16 << 20;

/// What writing took since that was last asked.
#[derive(Debug, Default)]
pub struct Work {
    /// Calls that wrote events.
    pub writes: u64,
    /// Bytes of events.
    pub bytes: u64,
    /// How long each sync took.
    pub syncs: Vec<Duration>,
    /// Segments that were begun.
    pub segments: u64,
}

/// What is kept.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Figures {
    /// The oldest event; one more than the last if there is none.
    pub first: u64,
    /// The last event that was written, or came before what is kept.
    pub last: u64,
    /// Bytes on disk.
    pub bytes: u64,
    /// Events that are missing here.
    pub missing: u64,
    /// The last event that retention has let go of; 0 = none.
    pub dropped: u64,
}

/// See the module.
#[derive(Debug)]
pub struct Store {
    dir: PathBuf,
    cluster: ClusterId,
    options: Options,
    index: Arc<Index>,
    current: Option<Current>,
    /// Events that go to the current segment with the next write.
    buffer: Vec<u8>,
    reader: Reader,
    work: Work,
}

/// The segment that events are appended to.
#[derive(Debug)]
struct Current {
    file: File,
    path: PathBuf,
    first: u64,
    len: u64,
    /// Bytes that were not synced.
    unsynced: u64,
    /// Its name was not synced.
    is_new: bool,
}

impl Store {
    /// Opens the events in `data_dir` for a ledger that has made events up to `upto`. What lies behind is cut off, since it
    /// will be made again; what is not there is missing. A directory without events is one that misses all.
    ///
    /// # Errors
    /// [`StreamError`] if the files are another cluster's or a later version's, or the system refuses.
    pub fn open(
        data_dir: &Path,
        cluster: ClusterId,
        upto: u64,
        options: Options,
    ) -> Result<Self, StreamError> {
        let kept = open::open(data_dir, cluster, upto)?;
        let dir = data_dir.join(DIR);
        let last = kept.segments.last().copied().filter(|last| last.next == kept.next);
        let current = last.map(|last| Current::open(&dir, last)).transpose()?;
        let index = Arc::new(Index::new(kept));
        let reader = Reader::new(dir.clone(), Arc::clone(&index));
        Ok(Self { dir, cluster, options, index, current, buffer: Vec::new(), reader, work: Work::default() })
    }

    /// Another reader of the same events.
    pub fn reader(&self) -> Reader {
        Reader::new(self.dir.clone(), Arc::clone(&self.index))
    }

    /// The last sequence that was written, or came before what is kept.
    pub fn last(&self) -> u64 {
        self.index.last()
    }

    /// What is kept, in figures.
    pub fn figures(&self) -> Figures {
        let kept = self.index.kept();
        let missing = kept.missing().iter().map(|missing| missing.to - missing.from + 1).sum();
        Figures {
            first: kept.first(),
            last: kept.next - 1,
            bytes: kept.bytes(),
            missing,
            dropped: kept.dropped,
        }
    }

    pub(super) fn index(&self) -> Arc<Index> {
        Arc::clone(&self.index)
    }

    /// The sequences that are missing here, oldest first.
    pub fn missing(&self) -> Vec<Missing> {
        self.index.kept().missing()
    }

    /// What was done since this was last asked.
    pub fn take_work(&mut self) -> Work {
        mem::take(&mut self.work)
    }

    /// Writes events that follow the last, by one call for each segment they go to. They can be read on return, and are not
    /// durable.
    ///
    /// # Errors
    /// [`StreamError`]; the caller ends the process.
    ///
    /// # Panics
    /// If they do not follow the last, without a gap.
    pub fn append(&mut self, blocks: &[impl AsRef<[EventRecord]>]) -> Result<(), StreamError> {
        let mut next = self.last() + 1;
        for block in blocks {
            let mut rest = block.as_ref();
            for record in rest {
                assert_eq!(record.sequence(), next, "events are dense");
                next += 1;
            }
            while !rest.is_empty() {
                let (now, later) = rest.split_at(rest.len().min(self.room()?));
                self.buffer.extend_from_slice(now.as_bytes());
                rest = later;
            }
        }
        self.write()?;
        let unsynced = self.current.as_ref().map_or(0, |current| current.unsynced);
        if unsynced >= SYNC_EVERY { self.sync() } else { Ok(()) }
    }

    /// All that was appended is durable on return.
    ///
    /// # Errors
    /// [`StreamError`]; the caller ends the process.
    pub fn sync(&mut self) -> Result<(), StreamError> {
        let Some(current) = self.current.as_mut().filter(|current| current.unsynced > 0) else {
            return Ok(());
        };
        let started = Instant::now();
        failpoint::check(Point::EventsSync)
            .and_then(|()| Ok(fdatasync(&current.file)?))
            .and_then(|()| if current.is_new { sync_dir(&self.dir) } else { Ok(()) })
            .map_err(|e| StreamError::io(&current.path, "syncing events", e))?;
        (current.unsynced, current.is_new) = (0, false);
        self.work.syncs.push(started.elapsed());
        Ok(())
    }

    /// The ledger was replaced by one that has made events up to `upto`: those that were not appended are missing here.
    /// What was appended is durable on return.
    ///
    /// # Errors
    /// [`StreamError`]; the caller ends the process.
    ///
    /// # Panics
    /// If the ledger falls back behind what was appended.
    pub fn reset(&mut self, upto: u64) -> Result<(), StreamError> {
        self.sync()?;
        let last = self.last();
        assert!(last <= upto, "a ledger is replaced by a later one");
        if last < upto {
            tracing::warn!(
                from = last + 1,
                to = upto,
                "events are missing on this node; others may have them"
            );
            self.current = None;
            self.index.skip_to(upto + 1);
        }
        Ok(())
    }

    /// Drops segments, oldest first, that are too old at a ledger time or too many, and wholly below `floor`: the first
    /// sequence that somebody still needs. The last segment stays. Returns how many went.
    ///
    /// A file that cannot be removed costs room and nothing else, and goes with the next start.
    pub fn retain(&mut self, floor: u64, ledger_ms: u64) -> u64 {
        let mut count = 0;
        while let Some(oldest) = self.superfluous(floor, ledger_ms) {
            // Without it what goes counts as missing after a restart. A full disk must not keep the rest from going.
            if let Err(error) = dropped::write(&self.dir, oldest.next - 1) {
                tracing::warn!(%error, "it cannot be noted down which events are dropped");
            }
            assert_eq!(self.index.drop_oldest(), oldest, "one thread changes what is kept");
            let path = format::path_of(&self.dir, oldest.first);
            if let Err(error) = failpoint::check(Point::EventsDrop).and_then(|()| fs::remove_file(&path)) {
                tracing::warn!(file = %path.display(), %error, "events that were dropped could not be deleted");
            }
            count += 1;
        }
        count
    }

    /// The oldest segment, if it may go.
    fn superfluous(&mut self, floor: u64, ledger_ms: u64) -> Option<Segment> {
        let kept = self.index.kept();
        let oldest =
            *kept.segments.first().filter(|oldest| kept.segments.len() > 1 && oldest.next <= floor)?;
        let retain_ms = u64::try_from(self.options.retain.as_millis()).unwrap_or(u64::MAX);
        let is_due = kept.bytes() > self.options.retain_bytes
            || self.newest_ms(oldest).saturating_add(retain_ms) < ledger_ms;
        is_due.then_some(oldest)
    }

    /// The time of the last event in a segment that can be read; 0 if none can.
    fn newest_ms(&mut self, segment: Segment) -> u64 {
        let mut readable =
            (segment.first..segment.next).rev().filter_map(|sequence| self.reader.read(sequence, 1).ok());
        readable.next().and_then(|read| Some(read.first()?.time_ms())).unwrap_or(0)
    }

    /// How many events the current segment has room for, beside those in the buffer. Begins the next one if it is full.
    fn room(&mut self) -> Result<usize, StreamError> {
        let full = HEADER_LEN + self.options.segment_records() * RECORD_LEN;
        let used = |current: &Current| current.len + self.buffer.len() as u64;
        if self.current.as_ref().is_none_or(|current| used(current) >= full) {
            self.write()?;
            self.sync()?;
            self.current = Some(Current::make(&self.dir, self.cluster, self.last() + 1)?);
            self.work.segments += 1;
        }
        let current = self.current.as_ref().expect("it is there, or was just made");
        let room = full - current.len - self.buffer.len() as u64;
        Ok((room / RECORD_LEN) as usize)
    }

    /// Writes what is in the buffer. Nobody sees any of it before all of it is written.
    fn write(&mut self) -> Result<(), StreamError> {
        if self.buffer.is_empty() {
            return Ok(());
        }
        let current = self.current.as_mut().expect("what is in the buffer goes to a segment");
        let (buffer, at) = (&self.buffer, current.len);
        failpoint::check(Point::EventsWrite)
            .and_then(|()| {
                failpoint::reach_with(Point::EventsHalf, || {
                    // The process ends here, whatever the file takes.
                    let _: io::Result<()> = current.file.write_all_at(&buffer[..buffer.len() / 2 + 1], at);
                });
                current.file.write_all_at(buffer, at)
            })
            .map_err(|e| StreamError::io(&current.path, "writing events", e))?;
        let bytes = self.buffer.len() as u64;
        current.len += bytes;
        current.unsynced += bytes;
        self.work.writes += 1;
        self.work.bytes += bytes;
        self.buffer.clear();
        self.index.extend(current.first, bytes / RECORD_LEN);
        Ok(())
    }
}

impl Current {
    /// A segment to which nothing was appended.
    fn make(dir: &Path, cluster: ClusterId, first: u64) -> Result<Self, StreamError> {
        let path = format::path_of(dir, first);
        let made = || {
            let file = OpenOptions::new().write(true).create(true).truncate(true).open(&path)?;
            file.write_all_at(Header::new(cluster, first).as_bytes(), 0)?;
            failpoint::check(Point::EventsSegment)?;
            Ok(file)
        };
        let file = made().map_err(|e| StreamError::io(&path, "beginning a file of events", e))?;
        Ok(Self { file, path, first, len: HEADER_LEN, unsynced: HEADER_LEN, is_new: true })
    }

    /// A segment that is gone on with. What an earlier process wrote there may not have been synced, if a snapshot from a
    /// peer stands for it: so it is now.
    fn open(dir: &Path, segment: Segment) -> Result<Self, StreamError> {
        let path = format::path_of(dir, segment.first);
        let opened = || {
            let file = OpenOptions::new().write(true).open(&path)?;
            fdatasync(&file)?;
            Ok(file)
        };
        let file = opened().map_err(|e| StreamError::io(&path, "going on with a file of events", e))?;
        let len = format::place_of(segment.first, segment.next);
        Ok(Self { file, path, first: segment.first, len, unsynced: 0, is_new: false })
    }
}

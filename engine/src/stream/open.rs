//! From files to what is kept: headers checked, what the log will make again cut off, gaps told.
//!
//! Nothing that is wrong with a file stops the node, but for two mistakes of people: files of another cluster, and of a later
//! version. Events that are not here are *missing*, and a warning says which. Deliberately not here: a look at every event;
//! each is checked when it is read.

use std::fs::{self, File, OpenOptions};
use std::io;
use std::os::unix::fs::FileExt;
use std::path::Path;

use rustix::fs::fdatasync;
use sluice_protocol::ids::ClusterId;
use zerocopy::IntoBytes;

use super::format::{self, Found, Header};
use super::kept::{Kept, Segment};
use super::{DIR, StreamError, dropped};
use crate::failpoint::{self, Point};
use crate::files::sync_dir;

const CUTTING: &str = "cutting off what the log makes again";

/// Gaps that are told one by one.
const GAPS_TOLD_MAX: usize = 8;

/// Opens the files in `data_dir` for a ledger that has made events up to `upto`. Makes the directory if there is none.
pub(super) fn open(data_dir: &Path, cluster: ClusterId, upto: u64) -> Result<Kept, StreamError> {
    let dir = data_dir.join(DIR);
    let io = |e| StreamError::io(&dir, "opening the events", e);
    if !dir.exists() {
        fs::create_dir(&dir).and_then(|()| sync_dir(data_dir)).map_err(io)?;
    }
    // Before anything is changed: what is another's is refused as it is.
    let mut found = Vec::new();
    for first in list(&dir).map_err(io)? {
        found.push((first, check(&dir, first, cluster)?));
    }
    remove_unfinished(&dir).map_err(io)?;
    let dropped = dropped::read(&dir);
    failpoint::check(Point::EventsCut).map_err(io)?;
    // The newest first, so that a crash leaves no gap.
    while let Some((first, _)) = found.pop_if(|(first, _)| *first > upto) {
        let path = format::path_of(&dir, first);
        fs::remove_file(&path).map_err(|e| StreamError::io(&path, CUTTING, e))?;
    }
    let mut segments = Vec::<Segment>::new();
    for (first, is_whole) in found {
        let path = format::path_of(&dir, first);
        let io = |e| StreamError::io(&path, CUTTING, e);
        if !is_whole {
            tracing::warn!(file = %path.display(), "events cannot be used, since the file's header is damaged; it is set aside");
            fs::rename(&path, format::damaged_path_of(&dir, first)).map_err(io)?;
            continue;
        }
        let file = OpenOptions::new().read(true).write(true).open(&path).map_err(io)?;
        let next = format::next_of(first, file.metadata().map_err(io)?.len()).min(upto + 1);
        if next == first || next - 1 <= dropped {
            fs::remove_file(&path).map_err(io)?;
            continue;
        }
        cut(&file, first, next).map_err(io)?;
        // Two files of the same events: a write of a length that was lost, or somebody's copy.
        if let Some(before) = segments.last_mut() {
            before.next = before.next.min(first);
        }
        segments.push(Segment { first, next });
    }
    failpoint::reach(Point::EventsCutDone);
    // What was removed must not come back beside what is made again.
    sync_dir(&dir).map_err(io)?;
    segments.retain(|segment| segment.first < segment.next);
    let kept = Kept { segments, dropped, next: upto + 1 };
    tell(&kept);
    Ok(kept)
}

/// What was being filled in when a process ended will be fetched again.
fn remove_unfinished(dir: &Path) -> io::Result<()> {
    for item in fs::read_dir(dir)? {
        let path = item?.path();
        if format::is_aside(&path) {
            fs::remove_file(path)?;
        }
    }
    Ok(())
}

/// The sequences with which segments begin, in order.
fn list(dir: &Path) -> io::Result<Vec<u64>> {
    let mut firsts = Vec::new();
    for item in fs::read_dir(dir)? {
        firsts.extend(format::first_of(&item?.path()));
    }
    firsts.sort_unstable();
    Ok(firsts)
}

/// Whether a segment's header is sound.
fn check(dir: &Path, first: u64, cluster: ClusterId) -> Result<bool, StreamError> {
    let path = format::path_of(dir, first);
    let mut header = Header::new(cluster, first);
    let read = File::open(&path).and_then(|file| file.read_exact_at(header.as_mut_bytes(), 0));
    match read {
        Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => return Ok(false),
        read => read.map_err(|e| StreamError::io(&path, "reading the header", e))?,
    }
    match header.check(cluster, first) {
        Found::Own => Ok(true),
        Found::Damaged => Ok(false),
        Found::Foreign(found) => Err(StreamError::WrongCluster { file: path, found, expected: cluster }),
        Found::Newer(found) => Err(StreamError::NewerFormat { file: path, found }),
    }
}

/// Makes a segment end before `next`, durably if it did not: what is appended then does not rest on the page cache.
fn cut(file: &File, first: u64, next: u64) -> io::Result<()> {
    let len = format::place_of(first, next);
    if file.metadata()?.len() != len {
        file.set_len(len)?;
        fdatasync(file)?;
    }
    Ok(())
}

fn tell(kept: &Kept) {
    let missing = kept.missing();
    for gap in missing.iter().take(GAPS_TOLD_MAX) {
        tracing::warn!(from = gap.from, to = gap.to, "events are missing on this node; others may have them");
    }
    if missing.len() > GAPS_TOLD_MAX {
        tracing::warn!(gaps = missing.len(), "more events are missing");
    }
}

//! The few things that everything durable does with files and directories.
//!
//! Deliberately not here: what is in the files.

use std::fs::{self, File};
use std::io::{self, Write};
use std::path::Path;

use sluice_core::fault::Mutant;

use crate::failpoint::{self, Point};

/// Makes the names in a directory durable: files created, renamed or removed there.
pub(crate) fn sync_dir(dir: &Path) -> io::Result<()> {
    if failpoint::is_on(Mutant::DirectoryNotSynced) {
        return Ok(());
    }
    File::open(dir)?.sync_all()
}

/// Puts a small file in place, whole or not at all: written aside, synced, renamed, and its directory synced. Durable on
/// return. `points`, if there are any: before and after the renaming.
pub(crate) fn replace(file: &Path, aside: &Path, bytes: &[u8], points: Option<[Point; 2]>) -> io::Result<()> {
    let reach = |which: usize| points.map_or(Ok(()), |points| failpoint::check(points[which]));
    let mut out = File::create(aside)?;
    out.write_all(bytes)?;
    out.sync_all()?;
    reach(0)?;
    fs::rename(aside, file)?;
    reach(1)?;
    sync_dir(file.parent().unwrap_or(Path::new(".")))
}

/// Syncs every file below `dir`, and the directories, so that what is read now is what a crash leaves.
pub(crate) fn sync_tree(dir: &Path) -> io::Result<()> {
    for item in fs::read_dir(dir)? {
        let item = item?;
        if item.file_type()?.is_dir() {
            sync_tree(&item.path())?;
        } else {
            File::open(item.path())?.sync_all()?;
        }
    }
    sync_dir(dir)
}

/// Whether the file system, the quota or the process's file size limit is exhausted.
pub(crate) fn is_full(error: &io::Error) -> bool {
    matches!(
        error.kind(),
        io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded | io::ErrorKind::FileTooLarge
    )
}

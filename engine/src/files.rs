//! The few things that everything durable does with files and directories.
//!
//! Deliberately not here: what is in the files.

use std::fs::{self, File};
use std::io;
use std::path::Path;

use sluice_core::fault::Mutant;

use crate::failpoint;

/// Makes the names in a directory durable: files created, renamed or removed there.
pub(crate) fn sync_dir(dir: &Path) -> io::Result<()> {
    if failpoint::is_on(Mutant::DirectoryNotSynced) {
        return Ok(());
    }
    File::open(dir)?.sync_all()
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

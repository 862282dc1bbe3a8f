//! Snapshot files for whoever only reads them, beside the store that writes and removes them.
//!
//! Deliberately not here: knowing which there will be. A file that was there may be gone when it is opened.

use std::fs;
use std::path::{Path, PathBuf};

use sluice_protocol::ids::ClusterId;

use super::{DIR, Snapshot, SnapshotError, io_error, load_file, path_in, whole_index};

/// See the module.
#[derive(Debug)]
pub struct Shelf {
    dir: PathBuf,
    cluster: ClusterId,
}

impl Shelf {
    /// The snapshots in a data directory.
    pub fn new(data_dir: &Path, cluster: ClusterId) -> Self {
        Self { dir: data_dir.join(DIR), cluster }
    }

    /// Indexes of the snapshots there are, newest first.
    ///
    /// # Errors
    /// [`SnapshotError::Io`].
    pub fn indexes(&self) -> Result<Vec<u64>, SnapshotError> {
        let listing = |e| io_error(&self.dir, "listing", e);
        let names = fs::read_dir(&self.dir).map_err(listing)?.map(|item| item.map(|item| item.file_name()));
        let names = names.collect::<Result<Vec<_>, _>>().map_err(listing)?;
        let mut indexes: Vec<u64> =
            names.iter().filter_map(|name| name.to_str()).filter_map(whole_index).collect();
        indexes.sort_unstable_by(|one, other| other.cmp(one));
        Ok(indexes)
    }

    /// Reads and checks one: takes as much memory as the file is long.
    ///
    /// # Errors
    /// [`SnapshotError`] unless it is there, and what was written.
    pub fn load(&self, index: u64) -> Result<Snapshot, SnapshotError> {
        load_file(&path_in(&self.dir, index), self.cluster).map(|(snapshot, _)| snapshot)
    }
}

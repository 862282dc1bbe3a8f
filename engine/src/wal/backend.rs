//! Which of the two log stores a data directory has. It is chosen when the directory is made, and for good.
//!
//! Deliberately not here: how either works.

use std::fmt;
use std::path::Path;
use std::str::FromStr;

use super::fence::Fence;
use super::{LogStore, Options, Recovered, SegmentStore, SledStore, StoreError, segments, sled};
use crate::datadir::is_sealed;

/// The name within the data directory.
pub(super) const FENCE_FILE: &str = "wal.fence";

/// How the log is kept on disk.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Backend {
    /// A sled database.
    Sled,
    /// Segment files.
    Segments,
}

impl Backend {
    /// What a new data directory gets unless the configuration says otherwise.
    pub const DEFAULT: Self = Self::Segments;

    /// All of them.
    pub const ALL: [Self; 2] = [Self::Sled, Self::Segments];

    /// As it is written in the configuration.
    pub fn name(self) -> &'static str {
        match self {
            Self::Sled => "sled",
            Self::Segments => "segments",
        }
    }

    /// What the log in `data_dir` is kept in; `None` if there is none.
    ///
    /// # Errors
    /// [`StoreError::Damaged`] if there are two.
    pub fn of(data_dir: &Path) -> Result<Option<Self>, StoreError> {
        let mut found = Self::ALL.into_iter().filter(|backend| data_dir.join(backend.dir()).exists());
        match (found.next(), found.next()) {
            (_, Some(_)) => Err(StoreError::damaged(data_dir, "it has two logs")),
            (first, None) => Ok(first),
        }
    }

    /// Makes an empty log in `data_dir`, of this kind unless a crash left a half-made one of the other. Durable on
    /// return. What a crashed earlier call left behind is completed.
    ///
    /// # Errors
    /// [`StoreError::Damaged`] if there is a log already that was used, [`StoreError::Lost`] if there must have been
    /// one because the data directory has its identity; those of the file system and of sled.
    pub fn create(self, data_dir: &Path) -> Result<(), StoreError> {
        match Self::of(data_dir)?.unwrap_or(self) {
            Self::Sled => SledStore::create(data_dir),
            Self::Segments => SegmentStore::create(data_dir),
        }
    }

    /// Opens the log in `data_dir`, whatever it is kept in, and reads all of it.
    ///
    /// # Errors
    /// [`StoreError`] unless everything that was acknowledged is there, as it was written.
    pub fn open(data_dir: &Path, options: Options) -> Result<(Box<dyn LogStore>, Recovered), StoreError> {
        // A log that is missing is missed by either.
        match Self::of(data_dir)?.unwrap_or(Self::Sled) {
            Self::Sled => {
                SledStore::open(data_dir, options).map(|(store, found)| (Box::new(store) as _, found))
            }
            Self::Segments => {
                SegmentStore::open(data_dir, options).map(|(store, found)| (Box::new(store) as _, found))
            }
        }
    }

    /// Whether the log in `data_dir` has acknowledged anything. `false` also if there is none.
    ///
    /// # Errors
    /// [`StoreError`] if the fence cannot be read, or is missing beside a log.
    pub fn was_used(data_dir: &Path) -> Result<bool, StoreError> {
        let fence = data_dir.join(FENCE_FILE);
        match (Fence::open(&fence)?, Self::of(data_dir)?) {
            (Some(fence), _) => Ok(fence.mark().step > 0),
            (None, Some(_)) => {
                Err(StoreError::lost(&fence, "the file is missing, but there is a log beside it"))
            }
            (None, None) => Ok(false),
        }
    }

    fn dir(self) -> &'static str {
        match self {
            Self::Sled => sled::STORE_DIR,
            Self::Segments => segments::STORE_DIR,
        }
    }
}

impl fmt::Display for Backend {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

impl FromStr for Backend {
    type Err = ();

    fn from_str(text: &str) -> Result<Self, ()> {
        Self::ALL.into_iter().find(|backend| backend.name() == text).ok_or(())
    }
}

/// What both do first when a log is made: see that there is none in use, and put up the fence.
pub(super) fn begin_creation(data_dir: &Path, dir: &Path) -> Result<(), StoreError> {
    if Backend::was_used(data_dir)? {
        return Err(StoreError::damaged(dir, "a new log was asked for where one has been in use"));
    }
    if is_sealed(data_dir) {
        return Err(StoreError::lost(dir, "a new log was asked for in a data directory that was complete"));
    }
    Fence::create(&data_dir.join(FENCE_FILE)).map(drop)
}

/// The fence of a log that must have one.
pub(super) fn open_fence(data_dir: &Path) -> Result<Fence, StoreError> {
    let file = data_dir.join(FENCE_FILE);
    Fence::open(&file)?.ok_or_else(|| StoreError::lost(&file, "the file is missing"))
}
